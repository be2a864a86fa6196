//! `slalom pause`: no more runs of a sweep are begun; what runs goes on.

use super::{meant, show_status};
use crate::args::SweepArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::Output;

/// Pauses the sweep and prints how it stands then.
///
/// # Errors
/// If nobody answers, or no sweep has the name.
pub(crate) async fn run(args: &SweepArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Life).await?;
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let status = people.pause(&sweep).await?;
    people.close().await?;
    show_status(output, &status)?;
    Ok(Exit::Done)
}
