//! `slalom wait`: until a sweep is done.

use std::time::{Duration, Instant};

use slalom_common::answer::{SweepState, SweepStatus};
use slalom_common::id::SweepName;

use super::{idle, meant};
use crate::args::SweepArgs;
use crate::connect::{CallError, Needs, People};
use crate::failure::{Exit, Failure};
use crate::output::bar::Bar;
use crate::output::rows::{StatusJson, sweeps};
use crate::output::{Mode, Output, print_json, print_name};

/// Between two looks at most so often.
const INTERVAL: Duration = Duration::from_millis(200);
/// A coordinator that was there and is away for so long has gone for good.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Between two tries to reach it again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Shows progress until the sweep is over, and then how it ended.
///
/// # Errors
/// If nobody answers, no sweep has the name, or the sweep is cancelled.
pub(crate) async fn run(args: &SweepArgs, output: Output) -> anyhow::Result<Exit> {
    let mut people = People::find(&args.at, Needs::Life).await?;
    let sweep = meant(&mut people, args.sweep.as_ref()).await?;
    let status = tokio::select! {
        status = until_over(args, people, &sweep) => status?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            return Ok(Exit::Interrupted);
        }
    };
    match output.mode() {
        Mode::Json => print_json(&StatusJson::from(&status))?,
        Mode::Quiet => print_name(sweep.as_str())?,
        Mode::Table => output.columns(&sweeps(std::slice::from_ref(&status)))?,
    }
    match status.state {
        SweepState::Cancelled => Err(Failure::error(format!("`{sweep}` is cancelled"))
            .help("`slalom submit` of the same spec makes it active again")
            .into()),
        SweepState::Done | SweepState::Active => {
            let answered = status.trials_done + status.trials_diverged;
            Ok(if answered == status.trials { Exit::Done } else { Exit::Incomplete })
        }
    }
}

/// The last status of a sweep. A coordinator that restarts meanwhile is found again.
async fn until_over(args: &SweepArgs, mut people: People, sweep: &SweepName) -> anyhow::Result<SweepStatus> {
    let mut bar = Bar::new(sweep.as_str());
    let mut said_idle = false;
    let mut heard = Instant::now();
    loop {
        let gone: anyhow::Error = match watch(&mut people, sweep, &mut bar, &mut said_idle, &mut heard).await
        {
            Ok(Some(status)) => return Ok(status),
            // The stream ended in good order, and the sweep is not over: whoever served it stops.
            Ok(None) => Failure::error(format!("{} went away", people.who())).into(),
            Err(error) if error.may_pass() => error.into(),
            Err(error) => return Err(error.into()),
        };
        bar.note(&format!("{} is away; trying again", people.who()));
        people = loop {
            tokio::time::sleep(TRY_AGAIN).await;
            match People::find(&args.at, Needs::Life).await {
                Ok(people) => break people,
                Err(_) if heard.elapsed() < AWAY_MAX => (),
                Err(_) => return Err(gone),
            }
        };
    }
}

/// Follows one stream to its end; the status with which the sweep is over, if it says so.
async fn watch(
    people: &mut People,
    sweep: &SweepName,
    bar: &mut Bar,
    said_idle: &mut bool,
    heard: &mut Instant,
) -> Result<Option<SweepStatus>, CallError> {
    let mut updates = people.watch(sweep, INTERVAL).await?;
    while let Some(status) = updates.next().await? {
        *heard = Instant::now();
        if let Some(words) = idle(people.who(), &status).filter(|_| !*said_idle) {
            *said_idle = true;
            bar.note(&words);
        }
        bar.update(&status);
        if status.state.is_over() {
            return Ok(Some(status));
        }
    }
    Ok(None)
}
