//! `slalom workers`: who works for a coordinator.

use crate::args::WorkersArgs;
use crate::connect::{Needs, People, Who};
use crate::failure::Exit;
use crate::output::rows::{WorkerJson, workers};
use crate::output::{Mode, Output, note, print_json, print_name};

/// Prints the workers with a session, and those whose leases have not ended.
///
/// # Errors
/// If nobody answers.
pub(crate) async fn run(args: &WorkersArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Life).await?;
    let rows = people.workers().await?;
    match output.mode() {
        Mode::Json => print_json(&rows.iter().map(WorkerJson::from).collect::<Vec<_>>())?,
        Mode::Quiet => rows.iter().try_for_each(|row| print_name(row.worker.as_str()))?,
        Mode::Table => output.columns(&workers(&rows))?,
    }
    if let (true, Who::Coordinator { address }) = (rows.is_empty(), people.who()) {
        note(&format!("no worker has joined: `slalom worker --coordinator {address}` starts one"));
    }
    people.close().await?;
    Ok(Exit::Done)
}
