//! `slalom retry`: fresh attempts for runs that failed.

use serde::Serialize;

use super::meant;
use crate::args::{Retried, RetryArgs};
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::{Mode, Output, number, print, print_json, print_name};

#[derive(Serialize)]
struct RetryJson<'a> {
    sweep: &'a str,
    runs: u64,
}

/// Gives failed runs fresh attempts and prints how many there were.
///
/// # Errors
/// If nobody answers, or no sweep has the name.
pub(crate) async fn run(args: &RetryArgs, output: Output) -> anyhow::Result<Exit> {
    let Retried::Failed = args.state;
    let mut people = People::find(&args.at, Needs::Change).await?;
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let runs = people.retry(&sweep).await?;
    people.close().await?;
    match output.mode() {
        Mode::Json => print_json(&RetryJson { sweep: sweep.as_str(), runs })?,
        Mode::Quiet => print_name(sweep.as_str())?,
        Mode::Table => {
            print(&format!("{sweep}: {} to be tried again\n", number::counted(runs, "run")))?;
        }
    }
    Ok(Exit::Done)
}
