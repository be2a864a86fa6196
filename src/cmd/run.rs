//! `slalom run`: a sweep, here, now, with an embedded coordinator and worker. The same command goes on where it stopped.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use slalom_common::answer::{RunRow, SweepState, SweepStatus};
use slalom_common::corpus::Text;
use slalom_common::log;
use slalom_common::log::args::LogArgs;
use slalom_common::sweep::Sweep;
use slalom_common::wire::sweep_service::RunsWanted;
use slalom_coordinator::scheduler::order::Serve;
use slalom_worker::agent::AgentConfig;
use slalom_worker::config::{HUNG_AFTER, WorkerArgs, default_cache};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{held_up, kernels, results, sweep};
use crate::args::RunArgs;
use crate::connect::{People, Who};
use crate::failure::{Exit, Failure};
use crate::local::{LocalError, OpenStore, Running, store_dir};
use crate::output::bar::Bar;
use crate::output::files::{self, ResultsJson};
use crate::output::results::{Results, Watched};
use crate::output::{Mode, Output, note, number, print, print_json, print_name};
use crate::spec::Spec;
use crate::spec::error::Fault;

/// Between two looks at most so often.
const INTERVAL: Duration = Duration::from_millis(100);

/// Runs the sweep to its end, and prints and writes its results.
///
/// # Errors
/// Bad input, another `slalom run` in the same folder, or a store that fails.
pub(crate) async fn run(args: &RunArgs, output: Output) -> anyhow::Result<Exit> {
    if nothing_given(args) {
        print(Spec::EXAMPLE)?;
        let help = "this spec is one to start from: save it as sweep.toml, then `slalom run sweep.toml`";
        return Err(Failure::usage("neither a spec nor a grid is given").help(help).into());
    }
    let dir = &args.dir.dir;
    let (sweep, text) = sweep(&args.spec, &args.cache)?;
    // A worker keeps the texts that it trains on, wherever they come from.
    let cache = args.cache.cache.clone().or_else(default_cache);
    let worker = worker(args, cache.unwrap_or_else(|| store_dir(dir).join("cache")))?;

    let mut signals = Signals::new()?;
    let _log = start_log(args)?;
    let serve = Serve::Only(sweep.name().clone());
    let open = tokio::select! {
        open = OpenStore::open(dir, serve, args.checkpoint_every) => open?,
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    let mut patience = Patience { signals, stalled: open.stalled() };
    let mut people = People::through(open.channel(), Who::Store { dir: dir.clone() });
    let status = match patience.wait_for(hand_in(&mut people, &sweep, &text)).await {
        Some(Ok(status)) => status,
        Some(Err(error)) => {
            open.close().await?;
            return Err(error);
        }
        None => return Ok(Exit::Interrupted),
    };
    if status.state.is_over() {
        let ended = patience.wait_for(finish(&mut people, &sweep, dir, output, None)).await;
        let closed = patience.wait_for(open.close()).await;
        closed.transpose()?;
        return ended.unwrap_or(Ok(Exit::Interrupted));
    }

    let mut running = Running::start(open, worker).await?;
    let over = tokio::select! {
        watched = patience.wait_for(watch(&mut people, &sweep)) => watched,
        failed = running.failed() => {
            failed?;
            return Err(LocalError::Panicked("worker, which left by itself,").into());
        }
    };
    let Some(watched) = over else { return stop(running, &mut patience.signals).await };
    let ended = patience.wait_for(finish(&mut people, &sweep, dir, output, Some(watched?))).await;
    patience.wait_for(running.drain()).await.transpose()?;
    ended.unwrap_or(Ok(Exit::Interrupted))
}

fn nothing_given(args: &RunArgs) -> bool {
    matches!(Spec::from_args(&args.spec), Err(error) if matches!(*error.fault, Fault::NothingGiven))
}

fn worker(args: &RunArgs, cache: PathBuf) -> anyhow::Result<AgentConfig> {
    // Refused here in the words of this program; the worker's own settings come from the same types.
    kernels(args.isa)?;
    let args = WorkerArgs {
        coordinator: Vec::new(),
        slots: args.slots,
        name: None,
        cache: Some(cache),
        isa: args.isa,
        hung_after: HUNG_AFTER,
        log: args.log.clone(),
    };
    Ok(args.resolve()?)
}

/// The log of coordinator and worker goes to a file of the day in the store's folder, unless told otherwise: the
/// terminal has the bar.
fn start_log(args: &RunArgs) -> anyhow::Result<log::Guard> {
    let dir = args.log.log_dir.clone().unwrap_or_else(|| store_dir(&args.dir.dir));
    Ok(log::init(&LogArgs { log_dir: Some(dir), ..args.log.clone() }, "slalom-run")?)
}

/// Whoever types `run` wants the sweep to go on, also after a pause.
async fn hand_in(people: &mut People, sweep: &Sweep, text: &Text) -> anyhow::Result<SweepStatus> {
    let (status, _) = people.submit(sweep, text).await?;
    if held_up(&status).is_none() {
        return Ok(status);
    }
    note(&format!("`{}` was paused: it goes on", sweep.name()));
    Ok(people.resume(sweep.name()).await?)
}

/// Shows progress until the sweep is over, and says how long that took.
async fn watch(people: &mut People, sweep: &Sweep) -> anyhow::Result<Watched> {
    let began = Instant::now();
    let mut bar = Bar::new(sweep.name().as_str());
    let mut updates = people.watch(sweep.name(), INTERVAL).await?;
    let mut busy = Busy { since: began, slots: 0, used: 0, slot_seconds: 0.0, used_seconds: 0.0 };
    let mut said = SweepState::Active;
    while let Some(status) = updates.next().await? {
        busy.update(&status);
        if status.state != said {
            said = status.state;
            if let Some(words) = held_up(&status) {
                bar.note(&words);
            }
        }
        bar.update(&status);
        if status.state.is_over() {
            return Ok(busy.watched(began));
        }
    }
    Err(Failure::error("the embedded coordinator ended before the sweep")
        .help("the same command goes on")
        .into())
}

/// How much of the slots' time is used, from one status to the next.
struct Busy {
    since: Instant,
    slots: u32,
    used: u32,
    slot_seconds: f64,
    used_seconds: f64,
}

impl Busy {
    fn update(&mut self, status: &SweepStatus) {
        let now = Instant::now();
        let seconds = now.duration_since(self.since).as_secs_f64();
        self.slot_seconds += seconds * f64::from(self.slots);
        self.used_seconds += seconds * f64::from(self.used);
        self.since = now;
        self.slots = status.slots;
        // More than there are slots may be leased: they wait in the worker's queue.
        let leased = status.counts.of(slalom_common::answer::RunState::Running);
        self.used = u32::try_from(leased).unwrap_or(u32::MAX).min(status.slots);
    }

    fn watched(&self, began: Instant) -> Watched {
        let busy = if self.slot_seconds > 0.0 { self.used_seconds / self.slot_seconds } else { 1.0 };
        Watched { seconds: began.elapsed().as_secs_f64(), slots: self.slots, busy }
    }
}

/// Writes the files of the sweep and prints its page.
async fn finish(
    people: &mut People,
    sweep: &Sweep,
    dir: &Path,
    output: Output,
    watched: Option<Watched>,
) -> anyhow::Result<Exit> {
    let results = results(people, sweep.name()).await?;
    let wanted = RunsWanted { sweep: sweep.name().clone(), states: Vec::new(), filter: None };
    let runs: Vec<RunRow> = people.runs(&wanted).await?;
    let folder = dir.join(sweep.name().as_str());
    files::write(&folder, &results, &runs).map_err(|error| {
        Failure::error(format!("cannot write the results in {}: {error}", folder.display()))
            .help("make room, then the same command writes them: nothing is trained again")
    })?;
    show(&results, &folder, output, watched)?;
    Ok(if results.tally().is_complete() { Exit::Done } else { Exit::Incomplete })
}

fn show(results: &Results, folder: &Path, output: Output, watched: Option<Watched>) -> anyhow::Result<()> {
    let name = results.sweep.as_str();
    match output.mode() {
        Mode::Json => print_json(&ResultsJson::new(results))?,
        Mode::Quiet => print_name(name)?,
        Mode::Table => {
            let mut page = results.page(watched);
            page += &format!("\n results  {}/results.csv, results.json, runs.csv\n", folder.display());
            let failed = results.tally().failed;
            if failed > 0 {
                let failed = number::counted(failed, "trial");
                page += &format!(
                    " next     {failed} failed: `slalom runs {name} --state failed` says why, `slalom retry {name}` tries them again\n"
                );
            }
            print(&page)?;
        }
    }
    Ok(())
}

/// The first signal: what is being trained is stored. The second: at once.
async fn stop(running: Running, signals: &mut Signals) -> anyhow::Result<Exit> {
    note("stopping: what is being trained is stored; again to stop at once");
    tokio::select! {
        drained = running.drain() => drained?,
        () = signals.next() => {
            note("stopped at once; the same command goes on from the last checkpoint");
            return Ok(Exit::Interrupted);
        }
    }
    note("stopped; the same command goes on from here");
    Ok(Exit::Interrupted)
}

/// What a person who waits is owed: a way out, and a word about a disk that makes everything wait.
struct Patience {
    signals: Signals,
    stalled: watch::Receiver<Option<String>>,
}

impl Patience {
    /// What `work` comes to; nothing if a signal comes first.
    async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = self.signals.next() => return None,
                why = next_stall(&mut self.stalled) => {
                    note(&format!("waiting: {why}; it goes on by itself once that is over"));
                }
            }
        }
    }
}

/// Why the store makes everything wait, when it begins to.
async fn next_stall(stalled: &mut watch::Receiver<Option<String>>) -> String {
    loop {
        if stalled.changed().await.is_err() {
            // The store is over: whoever waits for it hears that elsewhere.
            std::future::pending::<()>().await;
        }
        if let Some(why) = stalled.borrow_and_update().clone() {
            return why;
        }
    }
}

/// Ctrl-C and SIGTERM, which mean the same.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}
