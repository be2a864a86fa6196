//! `slalom results`: the table, or a file of every trial.

use super::{meant, results};
use crate::args::{Format, ResultsArgs};
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::files::{ResultsJson, results_csv};
use crate::output::{Mode, Output, print, print_json};

/// Prints a sweep's results as they are now.
///
/// # Errors
/// If nobody answers, or no sweep has the name.
pub(crate) async fn run(args: &ResultsArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Records).await?;
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let results = results(&mut people, &sweep).await?;
    people.close().await?;
    match (args.format, output.mode()) {
        (Format::Csv, _) => print(&results_csv(&results.trials))?,
        (Format::Json, _) | (Format::Table, Mode::Json) => print_json(&ResultsJson::new(&results))?,
        (Format::Table, Mode::Table) => print(&results.page(None))?,
        (Format::Table, Mode::Quiet) => {
            let mut names = String::new();
            for trial in &results.trials {
                names += &format!("{sweep}/{}@{}\n", trial.run, trial.epochs);
            }
            print(&names)?;
        }
    }
    Ok(if results.tally().is_complete() { Exit::Done } else { Exit::Incomplete })
}
