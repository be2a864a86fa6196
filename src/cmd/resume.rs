//! `slalom resume`: goes on with a sweep that is paused or stopping.

use slalom_common::answer::SweepState;

use super::{is_cancelled, meant, show_status};
use crate::args::SweepArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::Output;

/// Resumes the sweep and prints how it stands then.
///
/// # Errors
/// If nobody answers, no sweep has the name, or the sweep is cancelled: that is for good until it is submitted again.
pub(crate) async fn run(args: &SweepArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Life).await?;
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let status = people.resume(&sweep).await?;
    people.close().await?;
    if status.state == SweepState::Cancelled {
        return Err(is_cancelled(&sweep).into());
    }
    show_status(output, &status)?;
    Ok(Exit::Done)
}
