//! `slalom status`: how sweeps stand.

use super::idle;
use crate::args::SweepArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::rows::{StatusJson, sweeps};
use crate::output::{Mode, Output, note, print_json, print_name};

/// Prints all sweeps, or the one that is named; in JSON a list, or the one object.
///
/// # Errors
/// If nobody answers, or no sweep has the name.
pub(crate) async fn run(args: &SweepArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Records).await?;
    let statuses = match &args.sweep {
        Some(name) => vec![people.status(name).await?],
        None => people.statuses().await?,
    };
    let who = people.who().clone();
    people.close().await?;
    match (output.mode(), &args.sweep) {
        (Mode::Json, Some(_)) => {
            statuses.iter().try_for_each(|status| print_json(&StatusJson::from(status)))?;
        }
        (Mode::Json, None) => print_json(&statuses.iter().map(StatusJson::from).collect::<Vec<_>>())?,
        (Mode::Quiet, _) => statuses.iter().try_for_each(|status| print_name(status.sweep.as_str()))?,
        (Mode::Table, _) => output.columns(&sweeps(&statuses))?,
    }
    if let Some(idle) = statuses.iter().find_map(|status| idle(&who, status)) {
        note(&idle);
    }
    Ok(Exit::Done)
}
