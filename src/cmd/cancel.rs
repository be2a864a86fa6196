//! `slalom cancel`: the end of a sweep, now.

use super::meant;
use crate::args::SweepArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::rows::{StatusJson, sweeps};
use crate::output::{Mode, Output, print_json, print_name};

/// Cancels the sweep and prints how it stands then.
///
/// # Errors
/// If nobody answers, or no sweep has the name.
pub(crate) async fn run(args: &SweepArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Change).await?;
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let status = people.cancel(&sweep).await?;
    people.close().await?;
    match output.mode() {
        Mode::Json => print_json(&StatusJson::from(&status))?,
        Mode::Quiet => print_name(sweep.as_str())?,
        Mode::Table => output.columns(&sweeps(std::slice::from_ref(&status)))?,
    }
    Ok(Exit::Done)
}
