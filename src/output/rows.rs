//! Sweeps, runs and workers as rows for people and as objects for programs. Durations in JSON are seconds.

use serde::Serialize;
use slalom_common::answer::{RunRow, RunState, SweepStatus, WorkerRow};
use slalom_common::id::{LeaseId, SweepName};

use super::columns::{Columns, Side};
use super::number;

/// A sweep's status in JSON.
#[derive(Serialize)]
pub(crate) struct StatusJson<'a> {
    sweep: &'a str,
    state: &'static str,
    corpus: &'a str,
    waiting: u64,
    running: u64,
    done: u64,
    diverged: u64,
    failed: u64,
    cancelled: u64,
    trials: u64,
    excluded: u64,
    trials_done: u64,
    trials_diverged: u64,
    workers: u32,
    slots: u32,
    paused_workers: u32,
    best: Option<BestJson>,
    eta_s: Option<f64>,
    eta_low_s: Option<f64>,
    eta_high_s: Option<f64>,
}

#[derive(Serialize)]
struct BestJson {
    nodes: u32,
    batch_size: u32,
    unrollings: u32,
    epochs: u64,
    /// Mean over the seeds finished.
    perplexity: f64,
}

impl<'a> From<&'a SweepStatus> for StatusJson<'a> {
    fn from(status: &'a SweepStatus) -> Self {
        let runs = |state| status.counts.of(state);
        Self {
            sweep: status.sweep.as_str(),
            state: status.state.word(),
            corpus: &status.corpus_written,
            waiting: runs(RunState::Waiting),
            running: runs(RunState::Running),
            done: runs(RunState::Done),
            diverged: runs(RunState::Diverged),
            failed: runs(RunState::Failed),
            cancelled: runs(RunState::Cancelled),
            trials: status.trials,
            excluded: status.excluded,
            trials_done: status.trials_done,
            trials_diverged: status.trials_diverged,
            workers: status.workers,
            slots: status.slots,
            paused_workers: status.paused_workers,
            best: status.best.map(|best| BestJson {
                nodes: best.shape.nodes,
                batch_size: best.shape.batch_size,
                unrollings: best.shape.unrollings,
                epochs: best.epochs,
                perplexity: best.mean,
            }),
            eta_s: status.eta.map(|eta| eta.seconds),
            eta_low_s: status.eta.map(|eta| eta.low),
            eta_high_s: status.eta.map(|eta| eta.high),
        }
    }
}

/// Sweeps, a row each.
pub(crate) fn sweeps(statuses: &[SweepStatus]) -> Columns<11> {
    let mut columns = Columns::new([
        ("sweep", Side::Left),
        ("state", Side::Left),
        ("runs", Side::Right),
        ("waiting", Side::Right),
        ("running", Side::Right),
        ("done", Side::Right),
        ("diverged", Side::Right),
        ("failed", Side::Right),
        ("cancelled", Side::Right),
        ("best", Side::Left),
        ("left", Side::Right),
    ]);
    for status in statuses {
        let runs = |state| number::count(status.counts.of(state));
        let best = status.best.map(|best| {
            format!("{} ({})", number::perplexity(best.mean), number::point(best.shape, best.epochs))
        });
        let left = status.eta.filter(|_| !status.state.is_over()).map(|eta| number::seconds(eta.seconds));
        columns.row([
            status.sweep.to_string(),
            status.state.to_string(),
            number::count(status.counts.total()),
            runs(RunState::Waiting),
            runs(RunState::Running),
            runs(RunState::Done),
            runs(RunState::Diverged),
            runs(RunState::Failed),
            runs(RunState::Cancelled),
            best.unwrap_or_else(none),
            left.unwrap_or_else(none),
        ]);
    }
    columns
}

/// A run in JSON.
#[derive(Serialize)]
pub(crate) struct RunJson<'a> {
    name: String,
    run: u64,
    nodes: u32,
    batch_size: u32,
    unrollings: u32,
    seed: u64,
    state: &'static str,
    steps: u64,
    step: u64,
    failures: u32,
    losses: u32,
    reason: Option<&'static str>,
    detail: Option<&'a str>,
    worker: Option<&'a str>,
    lease: Option<u64>,
    diverged_at: Option<u64>,
}

impl<'a> RunJson<'a> {
    /// A row of `sweep`.
    pub(crate) fn new(sweep: &SweepName, row: &'a RunRow) -> Self {
        let failure = row.last_failure.as_ref();
        let lease = row.last_lease.as_ref();
        Self {
            name: run_name(sweep, row),
            run: row.run.number(),
            nodes: row.at.shape.nodes,
            batch_size: row.at.shape.batch_size,
            unrollings: row.at.shape.unrollings,
            seed: row.at.seed,
            state: row.state.word(),
            steps: row.steps.number(),
            step: row.step.number(),
            failures: row.failures,
            losses: row.losses,
            reason: failure.map(|(reason, _)| reason.word()),
            detail: failure.map(|(_, detail)| detail.as_str()),
            worker: lease.map(|(_, worker)| worker.as_str()),
            lease: lease.map(|(lease, _)| lease.number()),
            diverged_at: row.diverged_at.map(slalom_common::id::Step::number),
        }
    }
}

/// `ski-slope/17`.
pub(crate) fn run_name(sweep: &SweepName, row: &RunRow) -> String {
    format!("{sweep}/{}", row.run)
}

/// Runs of `sweep`, a row each.
pub(crate) fn runs(sweep: &SweepName, rows: &[RunRow]) -> Columns<9> {
    let mut columns = Columns::new([
        ("run", Side::Left),
        ("nodes", Side::Right),
        ("batch_size", Side::Right),
        ("unrollings", Side::Right),
        ("seed", Side::Right),
        ("state", Side::Left),
        ("step", Side::Left),
        ("worker", Side::Left),
        ("why", Side::Left),
    ]);
    for row in rows {
        columns.row([
            run_name(sweep, row),
            row.at.shape.nodes.to_string(),
            row.at.shape.batch_size.to_string(),
            row.at.shape.unrollings.to_string(),
            row.at.seed.to_string(),
            row.state.to_string(),
            format!("{} of {}", number::count(row.step.number()), number::count(row.steps.number())),
            row.last_lease.as_ref().map_or_else(none, |(_, worker)| worker.to_string()),
            why(row),
        ]);
    }
    columns
}

/// What is worth saying of a run beyond its state.
fn why(row: &RunRow) -> String {
    let mut words = Vec::new();
    if let Some(at) = row.diverged_at {
        words.push(format!("diverged at step {}", number::count(at.number())));
    }
    if let Some((reason, detail)) = &row.last_failure {
        let attempts = number::counted(row.failures.into(), "failure");
        words.push(if detail.is_empty() {
            format!("{reason} ({attempts})")
        } else {
            format!("{reason}: {detail} ({attempts})")
        });
    }
    if row.losses > 0 {
        words.push(format!("{} lost", number::counted(row.losses.into(), "worker")));
    }
    words.join(", ")
}

/// A worker in JSON.
#[derive(Serialize)]
pub(crate) struct WorkerJson<'a> {
    worker: &'a str,
    incarnation: String,
    connected: bool,
    draining: bool,
    paused: bool,
    slots: u32,
    isa: &'a str,
    gflops_per_slot: f64,
    speed: f64,
    leases: Vec<u64>,
    silent_s: f64,
}

impl<'a> From<&'a WorkerRow> for WorkerJson<'a> {
    fn from(row: &'a WorkerRow) -> Self {
        Self {
            worker: row.worker.as_str(),
            incarnation: row.incarnation.to_string(),
            connected: row.connected,
            draining: row.draining,
            paused: row.paused,
            slots: row.slots,
            isa: &row.isa,
            gflops_per_slot: row.gflops_per_slot,
            speed: row.speed,
            leases: row.leases.iter().map(|lease| lease.number()).collect(),
            silent_s: row.silent.as_secs_f64(),
        }
    }
}

/// Workers, a row each.
pub(crate) fn workers(rows: &[WorkerRow]) -> Columns<7> {
    const LEASES_SHOWN: usize = 8;
    let mut columns = Columns::new([
        ("worker", Side::Left),
        ("state", Side::Left),
        ("slots", Side::Right),
        ("isa", Side::Left),
        ("GFLOP/s a slot", Side::Right),
        ("silent", Side::Right),
        ("leases", Side::Left),
    ]);
    for row in rows {
        let state = match row {
            WorkerRow { connected: false, .. } => "away",
            WorkerRow { draining: true, .. } => "draining",
            WorkerRow { paused: true, .. } => "paused",
            WorkerRow { .. } => "connected",
        };
        let mut leases: Vec<String> = row.leases.iter().take(LEASES_SHOWN).map(LeaseId::to_string).collect();
        if row.leases.len() > LEASES_SHOWN {
            leases.push(format!("and {} more", row.leases.len() - LEASES_SHOWN));
        }
        columns.row([
            row.worker.to_string(),
            state.to_owned(),
            row.slots.to_string(),
            if row.isa.is_empty() { none() } else { row.isa.clone() },
            format!("{:.1}", row.gflops_per_slot),
            number::seconds(row.silent.as_secs_f64()),
            if leases.is_empty() { none() } else { leases.join(" ") },
        ]);
    }
    columns
}

fn none() -> String {
    "-".to_owned()
}
