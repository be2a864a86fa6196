//! `slalom submit`: a sweep, handed to a coordinator.

use super::{idle, sweep};
use crate::args::SubmitArgs;
use crate::connect::{Needs, People};
use crate::failure::Exit;
use crate::output::rows::StatusJson;
use crate::output::{Mode, Output, note, number, print, print_json, print_name};

/// Uploads the text if it is not there and submits the sweep.
///
/// # Errors
/// Bad input, nobody answers, or the name is another sweep's.
pub(crate) async fn run(args: &SubmitArgs, output: Output) -> anyhow::Result<Exit> {
    let (sweep, text) = sweep(&args.spec, &args.cache)?;
    let mut people = People::find(&args.at, Needs::Life).await?;
    let (status, created) = people.submit(&sweep, &text).await?;
    let name = status.sweep.as_str();
    match output.mode() {
        Mode::Json => print_json(&StatusJson::from(&status))?,
        Mode::Quiet => print_name(name)?,
        Mode::Table => {
            let size = sweep.size();
            let how = if created { "submitted" } else { "was there already" };
            print(&format!(
                "{name}: {how}, {} in {}, {} excluded\n",
                number::counted(size.trials, "trial"),
                number::counted(size.runs, "run"),
                number::count_or_none(size.excluded),
            ))?;
            note(&format!("`slalom wait {name}` waits for it, `slalom results {name}` shows what there is"));
        }
    }
    if let Some(idle) = idle(people.who(), &status) {
        note(&idle);
    }
    people.close().await?;
    Ok(Exit::Done)
}
