//! What a fleet says: a closed list of events, each with its fields, one function each.
//!
//! The log is an interface. [`EVENTS`] is the list that a reader may rely on; a field has one name, type and unit in every
//! event that has it. `sweep, run, nodes, batch_size, unrollings, seed` name a run in one sweep's view. A field that has
//! nothing to say is left out. Nothing here is a line a step.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::answer::{Best, Counts, Eta, RunState};
use crate::chain::Chain;
use crate::grid::Coordinates;
use crate::id::{ContentHash, Incarnation, LeaseId, NumericsVersion, RunNumber, Step, SweepName, WorkerName};
use crate::message::LeaseKind;
use crate::outcome::{FailureReason, Measured, Perplexity};
use crate::run::NUMERICS;
use crate::sweep::Size;

use super::limit::Limit;

/// Lines of each event that anybody on the network can bring about, in each [`STRANGERS_EVERY`].
pub const STRANGERS_LINES_MAX: u64 = 20;

/// See [`STRANGERS_LINES_MAX`].
pub const STRANGERS_EVERY: Duration = Duration::from_secs(10);

/// An event's name, its level, and every field it may have, in order.
pub type Described = (&'static str, &'static str, &'static [&'static str]);

/// Every event of a fleet. One that stands here twice has two levels, by what it says.
#[rustfmt::skip]
pub const EVENTS: &[Described] = &[
    ("coordinator started", "info", &[
        "listen", "store", "heartbeat_s", "lease_s", "checkpoint_every_s", "numerics",
    ]),
    ("sweep submitted", "info", &["sweep", "trials", "runs", "excluded", "work_tflop"]),
    ("sweep extended", "info", &["sweep", "added", "trials", "runs", "excluded", "work_tflop"]),
    ("sweep done", "info", &[
        "sweep", "done", "diverged", "failed", "nodes", "batch_size", "unrollings", "epochs", "best",
    ]),
    ("sweep cancelled", "info", &["sweep", "done", "diverged", "failed", "cancelled"]),
    ("sweep paused", "info", &["sweep", "done", "running", "waiting"]),
    ("sweep stopping", "info", &["sweep", "done", "running", "waiting"]),
    ("sweep resumed", "info", &["sweep", "done", "running", "waiting"]),
    ("worker joined", "info", &["worker", "slots", "isa", "gflops_per_slot", "numerics"]),
    ("worker draining", "info", &["worker", "leases"]),
    ("worker paused", "warn", &["worker", "reason", "detail"]),
    ("worker resumed", "info", &["worker"]),
    ("worker left", "info", &["worker", "why"]),
    ("worker left", "warn", &["worker", "why"]),
    ("run leased", "info", &[
        "sweep", "run", "nodes", "batch_size", "unrollings", "seed", "worker", "lease", "kind",
        "attempt", "resume_step",
    ]),
    ("milestone", "info", &[
        "sweep", "run", "nodes", "batch_size", "unrollings", "seed", "step", "epochs", "perplexity",
        "loss", "worker", "lease", "best",
    ]),
    ("milestone", "debug", &[
        "sweep", "run", "nodes", "batch_size", "unrollings", "seed", "step", "perplexity", "loss",
        "worker", "lease", "best",
    ]),
    ("lease expired", "warn", &["sweep", "run", "worker", "lease", "silent_s", "resume_step"]),
    ("run requeued", "warn", &[
        "sweep", "run", "nodes", "batch_size", "unrollings", "seed", "worker", "lease", "reason",
    ]),
    ("run done", "info", &["sweep", "run", "nodes", "batch_size", "unrollings", "seed", "worker"]),
    ("run diverged", "warn", &[
        "sweep", "run", "nodes", "batch_size", "unrollings", "seed", "step", "worker",
    ]),
    ("run failed", "warn", &[
        "sweep", "run", "nodes", "batch_size", "unrollings", "seed", "attempt", "reason", "detail",
        "worker",
    ]),
    ("result conflict", "error", &[
        "sweep", "run", "nodes", "batch_size", "unrollings", "seed", "kept_step", "kept_bits",
        "kept_worker", "refused_step", "refused_bits", "refused_worker",
    ]),
    ("store corrupt", "error", &["path", "detail"]),
    ("commit failed", "error", &["retry_s", "detail"]),
    ("checkpoints not removed", "warn", &["checkpoint", "detail"]),
    ("server failed", "error", &["detail"]),
    ("message refused", "warn", &["worker", "lease", "why", "held_back"]),
    ("connection refused", "warn", &["connections", "held_back"]),
    ("progress", "info", &[
        "sweep", "done", "running", "waiting", "failed", "diverged", "workers", "slots", "best", "eta_s",
        "eta_low_s", "eta_high_s",
    ]),
    ("session opened", "debug", &["worker", "incarnation"]),
    ("session closed", "debug", &["worker", "incarnation", "why"]),
    ("message resent", "debug", &["worker", "lease", "why"]),
];

/// A run in one sweep's view, as a line names it.
#[derive(Clone, Copy, Debug)]
pub struct RunField<'a> {
    /// The sweep.
    pub sweep: &'a SweepName,
    /// The run's number there.
    pub run: RunNumber,
    /// Its shape and seed.
    pub at: Coordinates,
}

/// An event of a run: the run's fields, then its own.
macro_rules! run_event {
    ($level:ident, $event:literal, $run:expr, $($field:ident = $value:expr),+ $(,)?) => {
        tracing::$level!(
            target: "slalom::fleet",
            sweep = $run.sweep.as_str(),
            run = $run.run.number(),
            nodes = $run.at.shape.nodes,
            batch_size = $run.at.shape.batch_size,
            unrollings = $run.at.shape.unrollings,
            seed = $run.at.seed,
            $($field = $value,)+
            $event
        )
    };
}

/// A sweep was taken on.
pub fn sweep_submitted(sweep: &SweepName, size: Size, work_tflop: f64) {
    tracing::info!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        trials = size.trials,
        runs = size.runs,
        excluded = size.excluded,
        work_tflop,
        "sweep submitted"
    );
}

/// So many trials came to a sweep; `size` is what it holds now.
pub fn sweep_extended(sweep: &SweepName, added: u64, size: Size, work_tflop: f64) {
    tracing::info!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        added,
        trials = size.trials,
        runs = size.runs,
        excluded = size.excluded,
        work_tflop,
        "sweep extended"
    );
}

/// Every run of a sweep is over.
pub fn sweep_done(sweep: &SweepName, runs: &Counts, best: Option<Best>) {
    tracing::info!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        done = runs.of(RunState::Done),
        diverged = runs.of(RunState::Diverged),
        failed = runs.of(RunState::Failed),
        nodes = best.map(|best| best.shape.nodes),
        batch_size = best.map(|best| best.shape.batch_size),
        unrollings = best.map(|best| best.shape.unrollings),
        epochs = best.map(|best| best.epochs),
        best = best.map(|best| best.mean),
        "sweep done"
    );
}

/// A person ended a sweep.
pub fn sweep_cancelled(sweep: &SweepName, runs: &Counts) {
    tracing::info!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        done = runs.of(RunState::Done),
        diverged = runs.of(RunState::Diverged),
        failed = runs.of(RunState::Failed),
        cancelled = runs.of(RunState::Cancelled),
        "sweep cancelled"
    );
}

/// No run of a sweep is leased for it until it is resumed.
pub fn sweep_paused(sweep: &SweepName, runs: &Counts) {
    tracing::info!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        done = runs.of(RunState::Done),
        running = runs.of(RunState::Running),
        waiting = runs.of(RunState::Waiting),
        "sweep paused"
    );
}

/// A sweep will be paused once none of its runs is leased.
pub fn sweep_stopping(sweep: &SweepName, runs: &Counts) {
    tracing::info!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        done = runs.of(RunState::Done),
        running = runs.of(RunState::Running),
        waiting = runs.of(RunState::Waiting),
        "sweep stopping"
    );
}

/// Runs of a sweep are leased again.
pub fn sweep_resumed(sweep: &SweepName, runs: &Counts) {
    tracing::info!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        done = runs.of(RunState::Done),
        running = runs.of(RunState::Running),
        waiting = runs.of(RunState::Waiting),
        "sweep resumed"
    );
}

/// A worker's session began.
pub fn worker_joined(
    worker: &WorkerName,
    slots: u32,
    isa: &str,
    gflops_per_slot: f64,
    numerics: NumericsVersion,
) {
    tracing::info!(
        target: "slalom::fleet",
        worker = worker.as_str(),
        slots,
        isa,
        gflops_per_slot,
        numerics = numerics.number(),
        "worker joined"
    );
}

/// A person has a worker hand back its leases and leave.
pub fn worker_draining(worker: &WorkerName, leases: u64) {
    tracing::info!(target: "slalom::fleet", worker = worker.as_str(), leases, "worker draining");
}

/// A worker gets no more runs until a person resumes it: three in a row failed on it, the last for this reason.
pub fn worker_paused(worker: &WorkerName, reason: FailureReason, detail: &str) {
    tracing::warn!(
        target: "slalom::fleet", worker = worker.as_str(), reason = reason.word(), detail, "worker paused"
    );
}

/// A person resumed a worker that was paused.
pub fn worker_resumed(worker: &WorkerName) {
    tracing::info!(target: "slalom::fleet", worker = worker.as_str(), "worker resumed");
}

/// A worker's session ended as it should; `why` is a code.
pub fn worker_left(worker: &WorkerName, why: &'static str) {
    tracing::info!(target: "slalom::fleet", worker = worker.as_str(), why, "worker left");
}

/// A worker went silent.
pub fn worker_left_silent(worker: &WorkerName) {
    tracing::warn!(target: "slalom::fleet", worker = worker.as_str(), why = "silent", "worker left");
}

/// A run was leased; `attempt` counts from 1, `resume` is the step it goes on at, if not the start.
pub fn run_leased(
    run: RunField<'_>,
    worker: &WorkerName,
    (lease, kind): (LeaseId, LeaseKind),
    attempt: u32,
    resume: Option<Step>,
) {
    run_event!(
        info,
        "run leased",
        run,
        worker = worker.as_str(),
        lease = lease.number(),
        kind = (kind == LeaseKind::Copy).then_some("copy"),
        attempt = attempt,
        resume_step = resume.map(Step::number),
    );
}

/// A wanted step and what was measured there.
#[derive(Clone, Copy, Debug)]
pub struct MilestoneField<'a> {
    /// Steps applied.
    pub step: Step,
    /// Absent if the validation diverged.
    pub perplexity: Option<Perplexity>,
    /// Training loss, nats per character.
    pub loss: Option<f64>,
    /// Who measured it.
    pub worker: &'a WorkerName,
    /// Under which lease.
    pub lease: LeaseId,
    /// The sweep's lowest mean so far.
    pub best: Option<f64>,
}

/// The trial of `epochs` epochs was answered.
pub fn milestone(run: RunField<'_>, epochs: u64, reached: &MilestoneField<'_>) {
    run_event!(
        info,
        "milestone",
        run,
        step = reached.step.number(),
        epochs = epochs,
        perplexity = reached.perplexity.map(Perplexity::value),
        loss = reached.loss,
        worker = reached.worker.as_str(),
        lease = reached.lease.number(),
        best = reached.best,
    );
}

/// A point of a learning curve was answered.
pub fn curve_point(run: RunField<'_>, reached: &MilestoneField<'_>) {
    run_event!(
        debug,
        "milestone",
        run,
        step = reached.step.number(),
        perplexity = reached.perplexity.map(Perplexity::value),
        loss = reached.loss,
        worker = reached.worker.as_str(),
        lease = reached.lease.number(),
        best = reached.best,
    );
}

/// A session was silent for the whole lease time; its run can go on at `resume`.
pub fn lease_expired(
    sweep: &SweepName,
    run: RunNumber,
    worker: &WorkerName,
    lease: LeaseId,
    silent: std::time::Duration,
    resume: Step,
) {
    tracing::warn!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        run = run.number(),
        worker = worker.as_str(),
        lease = lease.number(),
        silent_s = silent.as_secs_f64(),
        resume_step = resume.number(),
        "lease expired"
    );
}

/// A run waits again; `reason` is a code.
pub fn run_requeued(run: RunField<'_>, worker: &WorkerName, lease: LeaseId, reason: &'static str) {
    run_event!(warn, "run requeued", run, worker = worker.as_str(), lease = lease.number(), reason = reason,);
}

/// Every wanted step of a run has a perplexity.
pub fn run_done(run: RunField<'_>, worker: &WorkerName) {
    run_event!(info, "run done", run, worker = worker.as_str());
}

/// A run is over, and diverged: at this step in training, or in a validation alone.
pub fn run_diverged(run: RunField<'_>, at: Option<Step>, worker: &WorkerName) {
    run_event!(warn, "run diverged", run, step = at.map(Step::number), worker = worker.as_str());
}

/// A run is given up at its attempt number `attempt`; `detail` is one line for people.
pub fn run_failed(run: RunField<'_>, attempt: u32, reason: FailureReason, detail: &str, worker: &WorkerName) {
    run_event!(
        warn,
        "run failed",
        run,
        attempt = attempt,
        reason = reason.word(),
        detail = detail,
        worker = worker.as_str(),
    );
}

/// One side of a conflict.
#[derive(Clone, Copy, Debug)]
pub struct AnswerField<'a> {
    /// The wanted step; of a training that diverged, the step that was not applied.
    pub step: Step,
    /// What was measured there.
    pub measured: Measured,
    /// Whose it is.
    pub worker: &'a WorkerName,
}

impl AnswerField<'_> {
    /// The perplexity's bits as 16 hexadecimal digits, or `diverged`.
    fn bits(&self) -> String {
        match self.measured {
            Measured::Perplexity(perplexity) => format!("{:016x}", perplexity.bits()),
            Measured::Diverged => "diverged".to_owned(),
        }
    }
}

/// The same answer came with other bits: what `kept` says stays.
pub fn result_conflict(run: RunField<'_>, kept: AnswerField<'_>, refused: AnswerField<'_>) {
    run_event!(
        error,
        "result conflict",
        run,
        kept_step = kept.step.number(),
        kept_bits = kept.bits(),
        kept_worker = kept.worker.as_str(),
        refused_step = refused.step.number(),
        refused_bits = refused.bits(),
        refused_worker = refused.worker.as_str(),
    );
}

/// A store must not be trusted, for what `detail` says.
pub fn store_corrupt(path: &Path, detail: &str) {
    tracing::error!(target: "slalom::fleet", path = %path.display(), detail, "store corrupt");
}

/// A store took no commit and may take it later, when it is tried again; until then nothing leaves.
pub fn commit_failed(retry: Duration, why: &dyn Error) {
    let retry_s = retry.as_secs_f64();
    tracing::error!(target: "slalom::fleet", retry_s, detail = %Chain(why), "commit failed");
}

/// A checkpoint that no run goes on from stays, or all of them do, and take up space.
pub fn checkpoints_not_removed(checkpoint: Option<ContentHash>, why: &dyn Error) {
    tracing::warn!(
        target: "slalom::fleet",
        checkpoint = checkpoint.map(|checkpoint| checkpoint.to_string()),
        detail = %Chain(why),
        "checkpoints not removed"
    );
}

/// The server inside a program that opens a store itself is gone.
pub fn server_failed(why: &dyn Error) {
    tracing::error!(target: "slalom::fleet", detail = %Chain(why), "server failed");
}

/// A peer said what cannot be, perhaps of a lease; `why` names the field or is a code. At most [`STRANGERS_LINES_MAX`] lines in
/// [`STRANGERS_EVERY`]; the next says how many were held back.
pub fn message_refused(worker: &WorkerName, lease: Option<LeaseId>, why: &dyn std::fmt::Display) {
    static LIMIT: Limit = Limit::new(STRANGERS_LINES_MAX, STRANGERS_EVERY);
    if let Some(held_back) = LIMIT.admits(Instant::now()) {
        say_message_refused(worker, lease, why, held_back);
    }
}

fn say_message_refused(
    worker: &WorkerName,
    lease: Option<LeaseId>,
    why: &dyn std::fmt::Display,
    held_back: u64,
) {
    tracing::warn!(
        target: "slalom::fleet",
        worker = worker.as_str(),
        lease = lease.map(LeaseId::number),
        why = %why,
        held_back = (held_back > 0).then_some(held_back),
        "message refused"
    );
}

/// There are as many connections as there may be, and another came. Limited as [`message_refused`].
pub fn connection_refused(connections: usize) {
    static LIMIT: Limit = Limit::new(STRANGERS_LINES_MAX, STRANGERS_EVERY);
    if let Some(held_back) = LIMIT.admits(Instant::now()) {
        say_connection_refused(connections, held_back);
    }
}

fn say_connection_refused(connections: usize, held_back: u64) {
    tracing::warn!(
        target: "slalom::fleet",
        connections = connections as u64,
        held_back = (held_back > 0).then_some(held_back),
        "connection refused"
    );
}

/// A coordinator serves, with these settings.
pub fn coordinator_started(
    listen: SocketAddr,
    store: &Path,
    heartbeat: Duration,
    lease: Duration,
    checkpoint_every: Duration,
) {
    tracing::info!(
        target: "slalom::fleet",
        listen = %listen,
        store = %store.display(),
        heartbeat_s = heartbeat.as_secs_f64(),
        lease_s = lease.as_secs_f64(),
        checkpoint_every_s = checkpoint_every.as_secs_f64(),
        numerics = NUMERICS.number(),
        "coordinator started"
    );
}

/// How a sweep stands, at an interval.
pub fn progress(
    sweep: &SweepName,
    runs: &Counts,
    workers: u32,
    slots: u32,
    best: Option<f64>,
    eta: Option<Eta>,
) {
    tracing::info!(
        target: "slalom::fleet",
        sweep = sweep.as_str(),
        done = runs.of(RunState::Done),
        running = runs.of(RunState::Running),
        waiting = runs.of(RunState::Waiting),
        failed = runs.of(RunState::Failed),
        diverged = runs.of(RunState::Diverged),
        workers,
        slots,
        best,
        eta_s = eta.map(|eta| eta.seconds),
        eta_low_s = eta.map(|eta| eta.low),
        eta_high_s = eta.map(|eta| eta.high),
        "progress"
    );
}

/// A stream was accepted.
pub fn session_opened(worker: &WorkerName, incarnation: Incarnation) {
    tracing::debug!(
        target: "slalom::fleet",
        worker = worker.as_str(),
        incarnation = %incarnation,
        "session opened"
    );
}

/// A stream ended; the session outlives it.
pub fn session_closed(worker: &WorkerName, incarnation: Incarnation, why: &dyn std::fmt::Display) {
    tracing::debug!(
        target: "slalom::fleet",
        worker = worker.as_str(),
        incarnation = %incarnation,
        why = %why,
        "session closed"
    );
}

/// What was not acknowledged was sent again; `why` is a code.
pub fn message_resent(worker: &WorkerName, lease: LeaseId, why: &'static str) {
    tracing::debug!(
        target: "slalom::fleet",
        worker = worker.as_str(),
        lease = lease.number(),
        why,
        "message resent"
    );
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::format::{assert_said, captured};
    use super::*;
    use crate::run::Shape;

    /// Every event once, with all its fields.
    fn say_everything() {
        let sweep: SweepName = "ski-slope".parse().expect("a name");
        let worker: WorkerName = "hill-3".parse().expect("a name");
        let shape = Shape { nodes: 64, batch_size: 64, unrollings: 16 };
        let run = RunField { sweep: &sweep, run: RunNumber::new(143), at: Coordinates { shape, seed: 2 } };
        let (lease, step) = (LeaseId::new(88), Step::new(500));
        let perplexity = Perplexity::new(6.314_159_265).expect("finite");
        let reached = MilestoneField {
            step,
            perplexity: Some(perplexity),
            loss: Some(1.8422),
            worker: &worker,
            lease,
            best: Some(5.9133),
        };
        let counts = Counts::from_fn(|state| match state {
            RunState::Waiting => 22,
            RunState::Running => 32,
            RunState::Done => 84,
            RunState::Diverged | RunState::Failed | RunState::Cancelled => 0,
        });
        let best = Best { shape, epochs: 2000, mean: 4.871 };
        let kept = AnswerField { step, measured: Measured::Perplexity(perplexity), worker: &worker };
        let incarnation = Incarnation::new(7);

        let seconds = Duration::from_secs;
        let listen = "127.0.0.1:7117".parse().expect("an address");
        coordinator_started(listen, Path::new("slalom-store"), seconds(5), seconds(30), seconds(60));
        sweep_submitted(&sweep, Size { trials: 414, excluded: 18, runs: 138 }, 3.42);
        sweep_extended(&sweep, 138, Size { trials: 552, excluded: 24, runs: 138 }, 4.6);
        worker_joined(&worker, 16, "avx512", 61.0, NumericsVersion::new(1));
        session_opened(&worker, incarnation);
        run_leased(run, &worker, (lease, LeaseKind::Copy), 1, Some(step));
        milestone(run, 500, &reached);
        curve_point(run, &reached);
        message_resent(&worker, lease, "reconnected");
        say_message_refused(&worker, Some(lease), &"`Hello.slots` is 0", 3);
        say_connection_refused(8192, 3);
        session_closed(&worker, incarnation, &"broken pipe");
        lease_expired(&sweep, run.run, &worker, lease, Duration::from_millis(30_004), Step::new(540));
        run_requeued(run, &worker, lease, "lost");
        run_done(run, &worker);
        run_diverged(run, Some(step), &worker);
        run_failed(run, 3, FailureReason::Memory, "wants 9 GB", &worker);
        result_conflict(run, kept, AnswerField { measured: Measured::Diverged, ..kept });
        store_corrupt(Path::new("/srv/slalom.db"), "record 7: its checksum does not match");
        let why = std::io::Error::other("no space is left");
        commit_failed(Duration::from_millis(500), &why);
        checkpoints_not_removed(Some(ContentHash::of(b"state")), &why);
        server_failed(&why);
        worker_draining(&worker, 3);
        worker_paused(&worker, FailureReason::Panic, "index out of bounds");
        worker_resumed(&worker);
        worker_left(&worker, "drained");
        worker_left_silent(&worker);
        progress(&sweep, &counts, 2, 32, Some(4.871), Some(Eta { seconds: 12.2, low: 10.0, high: 15.0 }));
        sweep_done(&sweep, &counts, Some(best));
        sweep_cancelled(&sweep, &counts);
        sweep_paused(&sweep, &counts);
        sweep_stopping(&sweep, &counts);
        sweep_resumed(&sweep, &counts);
    }

    /// `EVENTS` is what the README prints: it says neither more nor less than the functions do.
    #[test]
    fn every_event_has_the_name_level_and_fields_that_the_list_says() {
        assert_said(EVENTS, &captured(Format::Json, say_everything));
    }

    /// The screen of `CLI.md`, "The coordinator's log", but for its made-up times.
    #[test]
    fn lines_for_people_look_as_promised() {
        let lines = captured(Format::Text, say_everything);
        let shown: Vec<&str> = lines.lines().map(|line| &line[25..]).collect();
        for promised in [
            "INFO  sweep submitted sweep=ski-slope trials=414 runs=138 excluded=18 work_tflop=3.4",
            "INFO  worker joined worker=hill-3 slots=16 isa=avx512 gflops_per_slot=61.0 numerics=1",
            "INFO  milestone sweep=ski-slope run=143 nodes=64 batch_size=64 unrollings=16 seed=2 step=500 epochs=500 perplexity=6.31 loss=1.84 worker=hill-3 lease=88 best=5.91",
            "WARN  lease expired sweep=ski-slope run=143 worker=hill-3 lease=88 silent_s=30 resume_step=540",
            "INFO  progress sweep=ski-slope done=84 running=32 waiting=22 failed=0 diverged=0 workers=2 slots=32 best=4.87 eta_s=12 eta_low_s=10 eta_high_s=15",
            "WARN  run failed sweep=ski-slope run=143 nodes=64 batch_size=64 unrollings=16 seed=2 attempt=3 reason=memory detail=\"wants 9 GB\" worker=hill-3",
        ] {
            assert!(shown.contains(&promised), "no line is\n{promised}\nin\n{lines}");
        }
    }

    #[test]
    fn what_there_is_nothing_to_say_of_is_left_out() {
        let sweep: SweepName = "ski-slope".parse().expect("a name");
        let lines = captured(Format::Text, || progress(&sweep, &Counts::default(), 0, 0, None, None));
        let expected = "INFO  progress sweep=ski-slope done=0 running=0 waiting=0 failed=0 diverged=0 workers=0 slots=0\n";
        assert_eq!(&lines[25..], expected);
    }
}
