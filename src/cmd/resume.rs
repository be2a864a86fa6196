//! `slalom resume`: goes on with a sweep that is paused or stopping, or with a worker that is paused.

use slalom_common::answer::SweepState;
use slalom_common::id::WorkerName;

use super::{is_cancelled, meant, show_status};
use crate::args::ResumeArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::rows::{WorkerJson, workers};
use crate::output::{Mode, Output, note, print_json, print_name};

/// Resumes the sweep and prints how it stands then, or the worker and prints its processes.
///
/// # Errors
/// If nobody answers, nothing has the name, or the sweep is cancelled: that is for good until it is submitted again.
pub(crate) async fn run(args: &ResumeArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Life).await?;
    if let Some(worker) = &args.worker {
        return resume_worker(people, worker, output).await;
    }
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let status = people.resume(&sweep).await?;
    people.close().await?;
    if status.state == SweepState::Cancelled {
        return Err(is_cancelled(&sweep).into());
    }
    show_status(output, &status)?;
    Ok(Exit::Done)
}

async fn resume_worker(mut people: People, worker: &WorkerName, output: Output) -> anyhow::Result<Exit> {
    let rows = people.resume_worker(worker).await?;
    people.close().await?;
    match output.mode() {
        Mode::Json => print_json(&rows.iter().map(WorkerJson::from).collect::<Vec<_>>())?,
        Mode::Quiet => print_name(worker.as_str())?,
        Mode::Table => output.columns(&workers(&rows))?,
    }
    if rows.is_empty() {
        note(&format!("`{worker}` is away: it is given runs when it is back"));
    }
    Ok(Exit::Done)
}
