//! `slalom drain`: a worker hands back what it holds, and leaves.

use crate::args::DrainArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::rows::{WorkerJson, workers};
use crate::output::{Mode, Output, note, print_json, print_name};

/// Drains the worker and prints those of its processes that have not left yet.
///
/// # Errors
/// If nobody answers, or no worker has the name.
pub(crate) async fn run(args: &DrainArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Life).await?;
    let rows = people.drain(&args.worker).await?;
    people.close().await?;
    match output.mode() {
        Mode::Json => print_json(&rows.iter().map(WorkerJson::from).collect::<Vec<_>>())?,
        Mode::Quiet => print_name(args.worker.as_str())?,
        Mode::Table => output.columns(&workers(&rows))?,
    }
    if rows.is_empty() {
        note(&format!("`{}` has left", args.worker));
    }
    Ok(Exit::Done)
}
