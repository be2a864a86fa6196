//! `slalom wait`: until a sweep is done.

use std::time::{Duration, Instant};

use slalom_common::answer::{SweepState, SweepStatus};
use slalom_common::id::SweepName;

use super::{held_up, idle, is_cancelled, meant, show_status};
use crate::args::SweepArgs;
use crate::connect::{CallError, Needs, People};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::output::bar::Bar;

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
    show_status(output, &status)?;
    match status.state {
        SweepState::Cancelled => Err(is_cancelled(&sweep).into()),
        SweepState::Done | SweepState::Active | SweepState::Paused | SweepState::Stopping => {
            let answered = status.trials_done + status.trials_diverged;
            Ok(if answered == status.trials { Exit::Done } else { Exit::Incomplete })
        }
    }
}

/// What whoever waits was told last, so that it is told once.
struct Said {
    idle: Option<String>,
    state: SweepState,
}

/// The last status of a sweep. A coordinator that restarts meanwhile is found again.
async fn until_over(args: &SweepArgs, mut people: People, sweep: &SweepName) -> anyhow::Result<SweepStatus> {
    let mut bar = Bar::new(sweep.as_str());
    let mut said = Said { idle: None, state: SweepState::Active };
    let mut heard = Instant::now();
    loop {
        let gone: anyhow::Error = match watch(&mut people, sweep, &mut bar, &mut said, &mut heard).await {
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
    said: &mut Said,
    heard: &mut Instant,
) -> Result<Option<SweepStatus>, CallError> {
    let mut updates = people.watch(sweep, INTERVAL).await?;
    while let Some(status) = updates.next().await? {
        *heard = Instant::now();
        if let Some(words) = idle(people.who(), &status)
            && said.idle.as_ref() != Some(&words)
        {
            bar.note(&words);
            said.idle = Some(words);
        }
        if status.state != said.state {
            said.state = status.state;
            if let Some(words) = held_up(&status) {
                bar.note(&words);
            }
        }
        bar.update(&status);
        if status.state.is_over() {
            return Ok(Some(status));
        }
    }
    Ok(None)
}
