//! `slalom stop`: finishes the runs of a sweep that are begun, and pauses it then.

use super::{meant, show_status};
use crate::args::SweepArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::Output;

/// Stops the sweep and prints how it stands then.
///
/// # Errors
/// If nobody answers, or no sweep has the name.
pub(crate) async fn run(args: &SweepArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Life).await?;
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let status = people.stop(&sweep).await?;
    people.close().await?;
    show_status(output, &status)?;
    Ok(Exit::Done)
}
