//! What a worker says in its own log: a closed list of events, as [`fleet`](super::fleet) is of the coordinator's, and with
//! the same names, types and units of fields.
//!
//! A worker sees leases: which run of which sweep one is for stands in the coordinator's log under the same `lease`.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use crate::chain::Chain;
use crate::id::{ContentHash, Incarnation, LeaseId, Step, WorkerName};
use crate::message::LeaseEnd;
use crate::run::Run;

use super::fleet::Described;

/// Every event of a worker. One that stands here twice has two levels, by what it says.
#[rustfmt::skip]
pub const EVENTS: &[Described] = &[
    ("worker started", "info", &[
        "worker", "incarnation", "slots", "isa", "gflops_per_slot", "speed", "memory_bytes", "cache",
        "coordinators",
    ]),
    ("coordinator found", "info", &["coordinator"]),
    ("coordinator away", "warn", &["coordinator", "tries", "retry_s", "detail"]),
    ("coordinator away", "debug", &["coordinator", "tries", "retry_s", "detail"]),
    ("work forgotten", "warn", &["coordinator", "leases", "unacknowledged"]),
    ("run started", "info", &["lease", "nodes", "batch_size", "unrollings", "seed", "step"]),
    ("run ended", "info", &["lease", "step", "how"]),
    ("run ended", "warn", &["lease", "how", "reason", "detail"]),
    ("checkpoint refused", "warn", &["lease", "step", "checkpoint", "detail"]),
    ("checkpoint not stored", "warn", &["lease", "step", "detail"]),
    ("corpus fetched", "info", &["corpus", "chars"]),
    ("corpus refused", "warn", &["corpus", "detail"]),
    ("corpus not kept", "warn", &["corpus", "detail"]),
    ("drain begun", "info", &["leases"]),
    ("drain cut short", "warn", &["leases", "unacknowledged"]),
    ("worker stopped", "warn", &["leases"]),
    ("worker ended", "info", &[]),
    ("slot not pinned", "debug", &["core", "detail"]),
    ("transfer delayed", "debug", &["blob", "detail"]),
];

/// What a worker is, as it says at its start.
#[derive(Clone, Copy, Debug)]
pub struct WorkerField<'a> {
    /// For people.
    pub worker: &'a WorkerName,
    /// This process.
    pub incarnation: Incarnation,
    /// Runs at a time.
    pub slots: u32,
    /// Its kernels' instruction set.
    pub isa: &'a str,
    /// Of a slot.
    pub gflops_per_slot: f64,
    /// Of a slot, relative to the reference core.
    pub speed: f64,
    /// What its runs may take together.
    pub memory_bytes: u64,
    /// Its folder of corpora.
    pub cache: &'a Path,
    /// URLs in the order in which they are tried, comma between.
    pub coordinators: &'a str,
}

/// A worker measured its speed and begins to look for a coordinator.
pub fn worker_started(worker: &WorkerField<'_>) {
    tracing::info!(
        target: "slalom::worker",
        worker = worker.worker.as_str(),
        incarnation = %worker.incarnation,
        slots = worker.slots,
        isa = worker.isa,
        gflops_per_slot = worker.gflops_per_slot,
        speed = worker.speed,
        memory_bytes = worker.memory_bytes,
        cache = %worker.cache.display(),
        coordinators = worker.coordinators,
        "worker started"
    );
}

/// A session began, or goes on.
pub fn coordinator_found(coordinator: &str) {
    tracing::info!(target: "slalom::worker", coordinator, "coordinator found");
}

/// The connection to a coordinator broke or was not made, for the `tries`th time in a row. A long absence is a few lines,
/// not one a try: each doubling of their number is a warning.
pub fn coordinator_away(coordinator: &str, tries: u32, retry: Duration, why: &dyn Error) {
    let (retry_s, detail) = (retry.as_secs_f64(), Chain(why));
    if tries.is_power_of_two() {
        tracing::warn!(target: "slalom::worker", coordinator, tries, retry_s, %detail, "coordinator away");
    } else {
        tracing::debug!(target: "slalom::worker", coordinator, tries, retry_s, %detail, "coordinator away");
    }
}

/// A slot begins to train, or goes on after `step` steps.
pub fn run_started(lease: LeaseId, run: &Run, step: Step) {
    tracing::info!(
        target: "slalom::worker",
        lease = lease.number(),
        nodes = run.shape.nodes,
        batch_size = run.shape.batch_size,
        unrollings = run.shape.unrollings,
        seed = run.seed,
        step = step.number(),
        "run started"
    );
}

/// A slot is done with a lease, after `step` steps of its run; without them if it never came to train.
pub fn run_ended(lease: LeaseId, step: Option<Step>, how: &LeaseEnd) {
    let word = match how {
        LeaseEnd::Finished => "finished",
        LeaseEnd::Diverged { .. } => "diverged",
        LeaseEnd::HandedBack => "handed_back",
        LeaseEnd::Failed { reason, detail } => {
            tracing::warn!(
                target: "slalom::worker",
                lease = lease.number(),
                how = "failed",
                reason = reason.word(),
                detail,
                "run ended"
            );
            return;
        }
    };
    let (lease, step) = (lease.number(), step.map(Step::number));
    tracing::info!(target: "slalom::worker", lease, step, how = word, "run ended");
}

/// A checkpoint to go on from is gone or cannot be used: its run begins anew, to the same bits.
pub fn checkpoint_refused(lease: LeaseId, step: Step, checkpoint: ContentHash, why: &dyn Error) {
    tracing::warn!(
        target: "slalom::worker",
        lease = lease.number(),
        step = step.number(),
        checkpoint = %checkpoint,
        detail = %Chain(why),
        "checkpoint refused"
    );
}

/// A checkpoint did not reach the coordinator: the run goes on, and would lose more if it were lost now.
pub fn checkpoint_not_stored(lease: LeaseId, step: Step, why: &dyn Error) {
    let (lease, step) = (lease.number(), step.number());
    tracing::warn!(target: "slalom::worker", lease, step, detail = %Chain(why), "checkpoint not stored");
}

/// A text came from the coordinator.
pub fn corpus_fetched(corpus: ContentHash, chars: u64) {
    tracing::info!(target: "slalom::worker", corpus = %corpus, chars, "corpus fetched");
}

/// A text in the cache is damaged or unreadable: it is fetched again.
pub fn corpus_refused(corpus: ContentHash, why: &dyn Error) {
    tracing::warn!(target: "slalom::worker", corpus = %corpus, detail = %Chain(why), "corpus refused");
}

/// A text is trained on and cannot be kept in the cache.
pub fn corpus_not_kept(corpus: ContentHash, why: &dyn Error) {
    tracing::warn!(target: "slalom::worker", corpus = %corpus, detail = %Chain(why), "corpus not kept");
}

/// The coordinator's store is not the one that granted what this worker holds: it drops its leases and reports.
pub fn work_forgotten(coordinator: &str, leases: u64, unacknowledged: u64) {
    tracing::warn!(target: "slalom::worker", coordinator, leases, unacknowledged, "work forgotten");
}

/// Somebody wants this worker to leave: `leases` are handed back first.
pub fn drain_begun(leases: u64) {
    tracing::info!(target: "slalom::worker", leases, "drain begun");
}

/// A drain took too long: `leases` are held still, and so many reports not acknowledged.
pub fn drain_cut_short(leases: u64, unacknowledged: u64) {
    tracing::warn!(target: "slalom::worker", leases, unacknowledged, "drain cut short");
}

/// A worker was told to end at once, with `leases` held.
pub fn worker_stopped(leases: u64) {
    tracing::warn!(target: "slalom::worker", leases, "worker stopped");
}

/// A worker handed everything back and left.
pub fn worker_ended() {
    tracing::info!(target: "slalom::worker", "worker ended");
}

/// The system does not keep a slot on its core, which costs time.
pub fn slot_not_pinned(core: u64, why: &dyn Error) {
    tracing::debug!(target: "slalom::worker", core, detail = %Chain(why), "slot not pinned");
}

/// Bytes could not be had from the coordinator yet, and are asked for again.
pub fn transfer_delayed(blob: ContentHash, why: &dyn Error) {
    tracing::debug!(target: "slalom::worker", blob = %blob, detail = %Chain(why), "transfer delayed");
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::format::{assert_said, captured};
    use super::*;
    use crate::id::NumericsVersion;
    use crate::outcome::FailureReason;
    use crate::run::{Family, Shape};
    use crate::settings::TrainingSettings;

    /// Every event once, with all its fields.
    fn say_everything() {
        let (worker, incarnation): (WorkerName, _) = ("hill-3".parse().expect("a name"), Incarnation::new(7));
        let (lease, step, hash) = (LeaseId::new(88), Step::new(500), ContentHash::of(b"abc"));
        let family = Family {
            corpus: hash,
            valid_size: 1000,
            training: TrainingSettings::default(),
            numerics: NumericsVersion::new(1),
        };
        let run = Run { family, shape: Shape { nodes: 64, batch_size: 64, unrollings: 16 }, seed: 2 };
        let why = std::io::Error::other("the line is bad");

        worker_started(&WorkerField {
            worker: &worker,
            incarnation,
            slots: 16,
            isa: "avx512",
            gflops_per_slot: 61.0,
            speed: 0.987,
            memory_bytes: 1 << 30,
            cache: Path::new("/var/cache/slalom"),
            coordinators: "http://hill-1:7117,http://hill-2:7117",
        });
        coordinator_away("http://hill-1:7117", 2, Duration::from_millis(250), &why);
        coordinator_away("http://hill-1:7117", 3, Duration::from_millis(250), &why);
        coordinator_found("http://hill-1:7117");
        work_forgotten("http://hill-1:7117", 4, 1);
        corpus_refused(hash, &why);
        corpus_fetched(hash, 100_000_000);
        corpus_not_kept(hash, &why);
        slot_not_pinned(3, &why);
        transfer_delayed(hash, &why);
        checkpoint_refused(lease, step, hash, &why);
        run_started(lease, &run, step);
        checkpoint_not_stored(lease, step, &why);
        run_ended(lease, Some(step), &LeaseEnd::Finished);
        let failed = LeaseEnd::Failed { reason: FailureReason::Memory, detail: "wants 9 GB".to_owned() };
        run_ended(lease, None, &failed);
        drain_begun(4);
        drain_cut_short(4, 1);
        worker_stopped(4);
        worker_ended();
    }

    #[test]
    fn every_event_has_the_name_level_and_fields_that_the_list_says() {
        assert_said(EVENTS, &captured(Format::Json, say_everything));
    }

    #[test]
    fn numbers_are_numbers_and_an_end_is_a_word() {
        let end = |how: LeaseEnd| {
            captured(Format::Json, || run_ended(LeaseId::new(14), Some(Step::new(3000)), &how))
        };
        let words = [
            (LeaseEnd::Finished, r#""lease":14,"step":3000,"how":"finished"}"#),
            (LeaseEnd::Diverged { at: Step::new(3000) }, r#""lease":14,"step":3000,"how":"diverged"}"#),
            (LeaseEnd::HandedBack, r#""lease":14,"step":3000,"how":"handed_back"}"#),
        ];
        for (how, words) in words {
            let line = end(how);
            assert!(line.trim_end().ends_with(words), "{line}");
        }
    }
}
