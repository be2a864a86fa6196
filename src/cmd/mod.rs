//! A file per verb, named as it is typed; `coordinator` and `worker` are their packages' own processes.

pub(crate) mod bench;
pub(crate) mod cancel;
pub(crate) mod corpus;
pub(crate) mod drain;
pub(crate) mod extend;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod results;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod submit;
pub(crate) mod train;
pub(crate) mod wait;
pub(crate) mod workers;

use slalom_common::answer::{SweepState, SweepStatus};
use slalom_common::corpus::Text;
use slalom_common::corpus::cache::Cache;
use slalom_common::id::SweepName;
use slalom_common::sweep::Sweep;
use slalom_worker::config::default_cache;
use slalom_worker::kernels::{IsaName, Kernels};

use crate::args::CacheArgs;
use crate::connect::{People, Who};
use crate::failure::Failure;
use crate::output::results::Results;
use crate::output::rows::{StatusJson, sweeps};
use crate::output::{Mode, Output, print_json, print_name};
use crate::spec::Spec;
use crate::spec::flags::SpecArgs;

/// The folder of corpora, if there is one: a text that is made or read from a file needs none.
fn cache(args: &CacheArgs) -> Option<Cache> {
    args.cache.clone().or_else(default_cache).map(Cache::new)
}

/// The kernels to train with.
fn kernels(isa: Option<IsaName>) -> Result<Kernels, Failure> {
    let asked = isa.map_or_else(|| Ok(Kernels::detect()), Kernels::of);
    asked.map_err(|error| {
        Failure::error(error.to_string())
            .help("leave SLALOM_ISA out, and the fastest instruction set here is taken")
    })
}

/// The sweep that was described, and its text.
fn sweep(args: &SpecArgs, cache: &CacheArgs) -> anyhow::Result<(Sweep, Text)> {
    let spec = Spec::from_args(args)?;
    let text = spec.corpus.load(self::cache(cache).as_ref())?;
    Ok((spec.sweep(&text)?, text))
}

/// The sweep that is meant: the one named, or the only one there is.
async fn meant(people: &mut People, named: Option<&SweepName>) -> anyhow::Result<SweepName> {
    if let Some(name) = named {
        return Ok(name.clone());
    }
    let statuses = people.statuses().await?;
    match statuses.as_slice() {
        [only] => Ok(only.sweep.clone()),
        [] => Err(Failure::error(format!("no sweep at {}", people.who()))
            .help("`slalom run SPEC` runs one here, `slalom submit SPEC` hands one to a coordinator")
            .into()),
        several => {
            let names: Vec<&str> = several.iter().map(|status| status.sweep.as_str()).collect();
            let what = format!("which of the {} sweeps at {}?", several.len(), people.who());
            Err(Failure::usage(what).help(format!("name one of {}", some_of(&names))).into())
        }
    }
}

fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let mut words = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        words += &format!(" and {} more", names.len() - SHOWN);
    }
    words
}

/// A sweep's results as they are now.
async fn results(people: &mut People, sweep: &SweepName) -> anyhow::Result<Results> {
    let status = people.status(sweep).await?;
    let trials = people.trials(sweep).await?;
    Ok(Results { sweep: status.sweep, corpus: status.corpus_written, excluded: status.excluded, trials })
}

/// Prints how one sweep stands.
fn show_status(output: Output, status: &SweepStatus) -> anyhow::Result<()> {
    match output.mode() {
        Mode::Json => print_json(&StatusJson::from(status))?,
        Mode::Quiet => print_name(status.sweep.as_str())?,
        Mode::Table => output.columns(&sweeps(std::slice::from_ref(status)))?,
    }
    Ok(())
}

/// That a sweep is over, and was not to be.
fn is_cancelled(sweep: &SweepName) -> Failure {
    Failure::error(format!("`{sweep}` is cancelled"))
        .help("`slalom submit` of the same spec makes it active again")
}

/// What to say to whoever waits for a sweep of which no run is begun, if that is so.
fn held_up(status: &SweepStatus) -> Option<String> {
    let sweep = &status.sweep;
    match status.state {
        SweepState::Paused => Some(format!("`{sweep}` is paused: `slalom resume {sweep}` goes on with it")),
        SweepState::Stopping => Some(format!(
            "`{sweep}` is stopping: it is paused once what runs is finished; `slalom resume {sweep}` goes on with it"
        )),
        SweepState::Active | SweepState::Done | SweepState::Cancelled => None,
    }
}

/// What to say of a sweep that nobody works on, or not everybody who could, if that is so.
fn idle(who: &Who, status: &SweepStatus) -> Option<String> {
    if status.state.is_over() || (status.workers > 0 && status.paused_workers == 0) {
        return None;
    }
    match who {
        Who::Coordinator { address } if status.paused_workers > 0 => {
            let paused = match (status.workers, status.paused_workers) {
                (0, _) => format!("`{}` waits: every worker at {address} is paused", status.sweep),
                (_, 1) => format!("a worker at {address} is paused"),
                (_, paused) => format!("{paused} workers at {address} are paused"),
            };
            Some(format!(
                "{paused}, since run after run failed there: `slalom workers` names it, `slalom resume --worker NAME` gives it runs again"
            ))
        }
        Who::Coordinator { address } => Some(format!(
            "no worker has joined {address}: `slalom worker --coordinator {address}` starts one, on any machine that reaches it"
        )),
        Who::Store { .. } => Some(format!(
            "nobody works on `{}`: the `slalom run` that began it goes on with it",
            status.sweep
        )),
        Who::Run { .. } => None,
    }
}
