//! `slalom runs`: the runs of a sweep, with the reason of a failure.

use slalom_common::wire::sweep_service::RunsWanted;

use super::meant;
use crate::args::RunsArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::rows::{RunJson, run_name, runs};
use crate::output::{Mode, Output, print_json, print_name};

/// Prints the runs that are asked for, in order of number.
///
/// # Errors
/// If nobody answers, no sweep has the name, or the expression has no value at some run.
pub(crate) async fn run(args: &RunsArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Records).await?;
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let wanted = RunsWanted { sweep: sweep.clone(), states: args.state.clone(), filter: args.filter.clone() };
    let rows = people.runs(&wanted).await?;
    people.close().await?;
    match output.mode() {
        Mode::Json => print_json(&rows.iter().map(|row| RunJson::new(&sweep, row)).collect::<Vec<_>>())?,
        Mode::Quiet => rows.iter().try_for_each(|row| print_name(&run_name(&sweep, row)))?,
        Mode::Table => output.columns(&runs(&sweep, &rows))?,
    }
    Ok(Exit::Done)
}
