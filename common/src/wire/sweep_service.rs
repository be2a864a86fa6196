//! `sweep_service.proto`: what people ask of a coordinator, and the rows that they are answered by.

use std::time::Duration;

use slalom_proto::v1;

use super::{
    DETAIL_BYTES_MAX, LEASES_MAX, WireError, ascending, bytes, duration, duration_ms, finite, in_range,
    no_longer_than, step, text,
};
use crate::answer::{
    Best, Counts, Eta, Preview, RunRow, RunState, SweepState, SweepStatus, TrialRow, WorkerRow,
};
use crate::filter::{Filter, Name};
use crate::grid::Coordinates;
use crate::id::{Incarnation, LeaseId, RunNumber, Step, SweepName, WorkerName};
use crate::outcome::{FailureReason, Perplexity};
use crate::run::Shape;

/// The longest text for people in an answer, in bytes.
const WORDS_BYTES_MAX: usize = 4096;

/// The sweep that `field` names.
///
/// # Errors
/// If it is no name.
pub fn sweep_name(field: &'static str, name: &str) -> Result<SweepName, WireError> {
    name.parse().map_err(|source| WireError::Name { field, source })
}

/// The worker that `field` names.
///
/// # Errors
/// If it is no name.
pub fn worker_name(field: &'static str, name: &str) -> Result<WorkerName, WireError> {
    name.parse().map_err(|source| WireError::Name { field, source })
}

/// Which runs of a sweep somebody wants to see.
#[derive(Clone, PartialEq, Debug)]
pub struct RunsWanted {
    /// Of which sweep.
    pub sweep: SweepName,
    /// In these states; all if empty.
    pub states: Vec<RunState>,
    /// Where this is true.
    pub filter: Option<Filter>,
}

impl RunsWanted {
    /// As a message.
    pub fn to_wire(&self) -> v1::ListRunsRequest {
        v1::ListRunsRequest {
            sweep: self.sweep.to_string(),
            states: self.states.iter().map(|state| state.to_wire() as i32).collect(),
            r#where: self.filter.as_ref().map(|filter| filter.source().to_owned()),
        }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is no name, state or expression over what a run has.
    pub fn from_wire(wire: v1::ListRunsRequest) -> Result<Self, WireError> {
        no_longer_than("ListRunsRequest.states", &wire.states, RunState::ALL.len())?;
        let states = wire.states.iter().map(|&state| RunState::from_wire("ListRunsRequest.states", state));
        let filter = wire.r#where.map(|source| Filter::compile_for(&source, &Name::OF_A_RUN));
        let refused = |source| WireError::Filter { field: "ListRunsRequest.where", index: 0, source };
        Ok(Self {
            sweep: sweep_name("ListRunsRequest.sweep", &wire.sweep)?,
            states: states.collect::<Result<_, _>>()?,
            filter: filter.transpose().map_err(refused)?,
        })
    }
}

/// The least time between two messages of a watch.
///
/// # Errors
/// If it is none.
pub fn watch_interval(wire: &v1::WatchRequest) -> Result<Duration, WireError> {
    duration("WatchRequest.interval_ms", wire.interval_ms)
}

impl RunState {
    /// As a message's number.
    pub fn to_wire(self) -> v1::RunState {
        match self {
            Self::Waiting => v1::RunState::Waiting,
            Self::Running => v1::RunState::Running,
            Self::Done => v1::RunState::Done,
            Self::Diverged => v1::RunState::Diverged,
            Self::Failed => v1::RunState::Failed,
            Self::Cancelled => v1::RunState::Cancelled,
        }
    }

    /// From `field`'s number.
    ///
    /// # Errors
    /// If it is no state.
    pub fn from_wire(field: &'static str, wire: i32) -> Result<Self, WireError> {
        match v1::RunState::try_from(wire) {
            Ok(v1::RunState::Waiting) => Ok(Self::Waiting),
            Ok(v1::RunState::Running) => Ok(Self::Running),
            Ok(v1::RunState::Done) => Ok(Self::Done),
            Ok(v1::RunState::Diverged) => Ok(Self::Diverged),
            Ok(v1::RunState::Failed) => Ok(Self::Failed),
            Ok(v1::RunState::Cancelled) => Ok(Self::Cancelled),
            Ok(v1::RunState::Unspecified) | Err(_) => Err(WireError::NotInEnum { field, value: wire }),
        }
    }
}

impl SweepState {
    fn to_wire(self) -> v1::SweepState {
        match self {
            Self::Active => v1::SweepState::Active,
            Self::Paused => v1::SweepState::Paused,
            Self::Stopping => v1::SweepState::Stopping,
            Self::Done => v1::SweepState::Done,
            Self::Cancelled => v1::SweepState::Cancelled,
        }
    }

    fn from_wire(wire: i32) -> Result<Self, WireError> {
        match v1::SweepState::try_from(wire) {
            Ok(v1::SweepState::Active) => Ok(Self::Active),
            Ok(v1::SweepState::Paused) => Ok(Self::Paused),
            Ok(v1::SweepState::Stopping) => Ok(Self::Stopping),
            Ok(v1::SweepState::Done) => Ok(Self::Done),
            Ok(v1::SweepState::Cancelled) => Ok(Self::Cancelled),
            Ok(v1::SweepState::Unspecified) | Err(_) => {
                Err(WireError::NotInEnum { field: "SweepStatus.state", value: wire })
            }
        }
    }
}

impl SweepStatus {
    /// As a message.
    pub fn to_wire(&self) -> v1::SweepStatus {
        let runs = |state| self.counts.of(state);
        v1::SweepStatus {
            sweep: self.sweep.to_string(),
            state: self.state.to_wire() as i32,
            waiting: runs(RunState::Waiting),
            running: runs(RunState::Running),
            done: runs(RunState::Done),
            diverged: runs(RunState::Diverged),
            failed: runs(RunState::Failed),
            cancelled: runs(RunState::Cancelled),
            trials: self.trials,
            excluded: self.excluded,
            trials_done: self.trials_done,
            trials_diverged: self.trials_diverged,
            workers: self.workers,
            slots: self.slots,
            paused_workers: self.paused_workers,
            best: self.best.map(Best::to_wire),
            work_done_s: self.work_done_s,
            work_s: self.work_s,
            eta: self.eta.map(Eta::to_wire),
            numbers: self.numbers,
            corpus_written: self.corpus_written.clone(),
        }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of a sweep's status.
    pub fn from_wire(wire: v1::SweepStatus) -> Result<Self, WireError> {
        let counts = Counts::from_fn(|state| match state {
            RunState::Waiting => wire.waiting,
            RunState::Running => wire.running,
            RunState::Done => wire.done,
            RunState::Diverged => wire.diverged,
            RunState::Failed => wire.failed,
            RunState::Cancelled => wire.cancelled,
        });
        Ok(Self {
            sweep: sweep_name("SweepStatus.sweep", &wire.sweep)?,
            state: SweepState::from_wire(wire.state)?,
            counts,
            trials: wire.trials,
            excluded: wire.excluded,
            trials_done: wire.trials_done,
            trials_diverged: wire.trials_diverged,
            workers: wire.workers,
            slots: wire.slots,
            paused_workers: wire.paused_workers,
            best: wire.best.map(|best| Best::from_wire(&best)).transpose()?,
            work_done_s: finite("SweepStatus.work_done_s", wire.work_done_s)?,
            work_s: finite("SweepStatus.work_s", wire.work_s)?,
            eta: wire.eta.map(|eta| Eta::from_wire(&eta)).transpose()?,
            numbers: wire.numbers,
            corpus_written: text("SweepStatus.corpus_written", wire.corpus_written, WORDS_BYTES_MAX)?,
        })
    }
}

impl Best {
    fn to_wire(self) -> v1::Best {
        let Shape { nodes, batch_size, unrollings } = self.shape;
        v1::Best { nodes, batch_size, unrollings, epochs: self.epochs, perplexity: self.mean }
    }

    fn from_wire(wire: &v1::Best) -> Result<Self, WireError> {
        Ok(Self {
            shape: shape("Best.nodes", wire.nodes, wire.batch_size, wire.unrollings)?,
            epochs: wire.epochs,
            mean: finite("Best.perplexity", wire.perplexity)?,
        })
    }
}

impl Eta {
    fn to_wire(self) -> v1::Eta {
        v1::Eta { seconds: self.seconds, low_seconds: self.low, high_seconds: self.high }
    }

    fn from_wire(wire: &v1::Eta) -> Result<Self, WireError> {
        Ok(Self {
            seconds: finite("Eta.seconds", wire.seconds)?,
            low: finite("Eta.low_seconds", wire.low_seconds)?,
            high: finite("Eta.high_seconds", wire.high_seconds)?,
        })
    }
}

impl RunRow {
    /// As a message.
    pub fn to_wire(&self) -> v1::RunRow {
        let Shape { nodes, batch_size, unrollings } = self.at.shape;
        let (reason, detail) = self.last_failure.clone().unzip();
        let (lease, worker) = self.last_lease.clone().unzip();
        v1::RunRow {
            run: self.run.number(),
            nodes,
            batch_size,
            unrollings,
            seed: self.at.seed,
            state: self.state.to_wire() as i32,
            steps: self.steps.number(),
            step: self.step.number(),
            failures: self.failures,
            losses: self.losses,
            reason: reason.map(|reason| reason.to_wire() as i32),
            detail: detail.unwrap_or_default(),
            worker: worker.map(|worker| worker.to_string()),
            lease: lease.map(LeaseId::number),
            diverged_at: self.diverged_at.map(Step::number),
        }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of a run's row.
    pub fn from_wire(wire: v1::RunRow) -> Result<Self, WireError> {
        let reason =
            wire.reason.map(|reason| FailureReason::from_wire("RunRow.reason", reason)).transpose()?;
        let detail = text("RunRow.detail", wire.detail, DETAIL_BYTES_MAX)?;
        let worker = wire.worker.map(|worker| worker.parse()).transpose();
        let worker = worker.map_err(|source| WireError::Name { field: "RunRow.worker", source })?;
        let shape = shape("RunRow.nodes", wire.nodes, wire.batch_size, wire.unrollings)?;
        Ok(Self {
            run: RunNumber::new(wire.run),
            at: Coordinates { shape, seed: wire.seed },
            state: RunState::from_wire("RunRow.state", wire.state)?,
            steps: step("RunRow.steps", wire.steps)?,
            step: step("RunRow.step", wire.step)?,
            failures: wire.failures,
            losses: wire.losses,
            last_failure: reason.map(|reason| (reason, detail)),
            last_lease: wire.lease.map(LeaseId::new).zip(worker),
            diverged_at: wire.diverged_at.map(|at| step("RunRow.diverged_at", at)).transpose()?,
        })
    }
}

impl TrialRow {
    /// As a message.
    pub fn to_wire(&self) -> v1::TrialRow {
        let Shape { nodes, batch_size, unrollings } = self.at.shape;
        v1::TrialRow {
            run: self.run.number(),
            nodes,
            batch_size,
            unrollings,
            epochs: self.epochs,
            seed: self.at.seed,
            steps: self.steps.number(),
            state: self.state.to_wire() as i32,
            perplexity_bits: self.perplexity.map(Perplexity::bits),
        }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of a trial's row; a perplexity without `done`, or the reverse, is one.
    pub fn from_wire(wire: &v1::TrialRow) -> Result<Self, WireError> {
        let field = "TrialRow.perplexity_bits";
        let number = |bits| {
            let value = f64::from_bits(bits);
            Perplexity::new(value).ok_or(WireError::Float { field, value, must_be: "finite" })
        };
        let perplexity = wire.perplexity_bits.map(number).transpose()?;
        let state = RunState::from_wire("TrialRow.state", wire.state)?;
        if (state == RunState::Done) != perplexity.is_some() {
            return Err(WireError::Absent { field });
        }
        let shape = shape("TrialRow.nodes", wire.nodes, wire.batch_size, wire.unrollings)?;
        Ok(Self {
            run: RunNumber::new(wire.run),
            at: Coordinates { shape, seed: wire.seed },
            epochs: wire.epochs,
            steps: step("TrialRow.steps", wire.steps)?,
            state,
            perplexity,
        })
    }
}

impl WorkerRow {
    /// As a message.
    pub fn to_wire(&self) -> v1::WorkerRow {
        v1::WorkerRow {
            worker: self.worker.to_string(),
            incarnation: self.incarnation.bits().to_be_bytes().to_vec(),
            connected: self.connected,
            slots: self.slots,
            isa: self.isa.clone(),
            gflops_per_slot: self.gflops_per_slot,
            speed: self.speed,
            draining: self.draining,
            paused: self.paused,
            leases: self.leases.iter().map(|lease| lease.number()).collect(),
            silent_ms: u64::try_from(self.silent.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of a worker's row.
    pub fn from_wire(wire: v1::WorkerRow) -> Result<Self, WireError> {
        no_longer_than("WorkerRow.leases", &wire.leases, LEASES_MAX)?;
        ascending("WorkerRow.leases", &wire.leases)?;
        let worker = wire.worker.parse();
        Ok(Self {
            worker: worker.map_err(|source| WireError::Name { field: "WorkerRow.worker", source })?,
            incarnation: Incarnation::new(u128::from_be_bytes(bytes(
                "WorkerRow.incarnation",
                &wire.incarnation,
            )?)),
            connected: wire.connected,
            slots: wire.slots,
            isa: text("WorkerRow.isa", wire.isa, WORDS_BYTES_MAX)?,
            gflops_per_slot: finite("WorkerRow.gflops_per_slot", wire.gflops_per_slot)?,
            speed: finite("WorkerRow.speed", wire.speed)?,
            draining: wire.draining,
            paused: wire.paused,
            leases: wire.leases.into_iter().map(LeaseId::new).collect(),
            silent: Duration::from_millis(wire.silent_ms),
        })
    }
}

impl Preview {
    /// As a message.
    pub fn to_wire(self) -> v1::PreviewResponse {
        let Self { known_runs, resumed_runs, dropped_runs, known_s, slots, speed } = self;
        v1::PreviewResponse { known_runs, slots, speed, resumed_runs, dropped_runs, known_s }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is no number.
    pub fn from_wire(wire: v1::PreviewResponse) -> Result<Self, WireError> {
        let v1::PreviewResponse { known_runs, slots, speed, resumed_runs, dropped_runs, known_s } = wire;
        let speed = finite("PreviewResponse.speed", speed)?;
        let known_s = finite("PreviewResponse.known_s", known_s)?;
        Ok(Self { known_runs, resumed_runs, dropped_runs, known_s, slots, speed })
    }
}

/// The least time between two messages of a watch, as a message has it.
pub fn watch(sweep: &SweepName, interval: Duration) -> v1::WatchRequest {
    v1::WatchRequest { sweep: sweep.to_string(), interval_ms: duration_ms(interval) }
}

/// Sizes within their bounds; `field` stands for all three.
fn shape(field: &'static str, nodes: u32, batch_size: u32, unrollings: u32) -> Result<Shape, WireError> {
    in_range(field, nodes.into(), 1..=Shape::NODES_MAX)?;
    in_range(field, batch_size.into(), 1..=Shape::BATCH_SIZE_MAX)?;
    in_range(field, unrollings.into(), 1..=Shape::UNROLLINGS_MAX)?;
    Ok(Shape { nodes, batch_size, unrollings })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Coordinates =
        Coordinates { shape: Shape { nodes: 8, batch_size: 16, unrollings: 5 }, seed: u64::MAX };

    fn name() -> SweepName {
        "ski-slope".parse().expect("a name")
    }

    fn status() -> SweepStatus {
        let mut runs = 10;
        let counts = Counts::from_fn(|_| {
            runs += 1;
            runs
        });
        SweepStatus {
            sweep: name(),
            state: SweepState::Active,
            counts,
            trials: 414,
            excluded: 18,
            trials_done: 7,
            trials_diverged: 1,
            workers: 2,
            slots: 32,
            paused_workers: 3,
            best: Some(Best { shape: AT.shape, epochs: 2000, mean: 4.87 }),
            work_done_s: 1.5,
            work_s: 30.25,
            eta: Some(Eta { seconds: 12.0, low: 10.0, high: 15.0 }),
            numbers: 144,
            corpus_written: "synthetic".to_owned(),
        }
    }

    #[test]
    fn a_status_arrives_as_it_was_sent() {
        let states = [
            SweepState::Active,
            SweepState::Paused,
            SweepState::Stopping,
            SweepState::Done,
            SweepState::Cancelled,
        ];
        for state in states {
            let sent = SweepStatus { state, ..status() };
            assert_eq!(SweepStatus::from_wire(sent.to_wire()), Ok(sent));
        }
        let sent = SweepStatus { best: None, eta: None, ..status() };
        assert_eq!(SweepStatus::from_wire(sent.to_wire()), Ok(sent));
    }

    #[test]
    fn a_state_that_this_build_does_not_know_is_refused_and_not_guessed() {
        for value in [0, 6, -1] {
            let wire = v1::SweepStatus { state: value, ..status().to_wire() };
            let refused = WireError::NotInEnum { field: "SweepStatus.state", value };
            assert_eq!(SweepStatus::from_wire(wire), Err(refused));
        }
        for value in [0, 7, -1] {
            assert_eq!(RunState::from_wire("f", value), Err(WireError::NotInEnum { field: "f", value }));
        }
    }

    #[test]
    fn a_run_arrives_with_its_last_failure_and_its_last_lease_or_without() {
        let bare = RunRow {
            run: RunNumber::new(17),
            at: AT,
            state: RunState::Waiting,
            steps: Step::new(2000),
            step: Step::new(0),
            failures: 0,
            losses: 0,
            last_failure: None,
            last_lease: None,
            diverged_at: None,
        };
        let full = RunRow {
            state: RunState::Failed,
            step: Step::new(540),
            failures: 3,
            losses: 1,
            last_failure: Some((FailureReason::Memory, "8 GiB".to_owned())),
            last_lease: Some((LeaseId::new(88), "hill-3".parse().expect("a name"))),
            diverged_at: Some(Step::new(541)),
            ..bare.clone()
        };
        for sent in [bare, full] {
            assert_eq!(RunRow::from_wire(sent.to_wire()), Ok(sent));
        }
    }

    #[test]
    fn a_trial_has_a_perplexity_exactly_if_it_is_done() {
        let done = TrialRow {
            run: RunNumber::new(17),
            at: AT,
            epochs: 1000,
            steps: Step::new(1000),
            state: RunState::Done,
            perplexity: Perplexity::new(4.25 + f64::EPSILON),
        };
        let waiting = TrialRow { state: RunState::Waiting, perplexity: None, ..done.clone() };
        for sent in [&done, &waiting] {
            assert_eq!(TrialRow::from_wire(&sent.to_wire()).as_ref(), Ok(sent));
        }
        let neither = TrialRow { perplexity: None, ..done.clone() }.to_wire();
        let both = TrialRow { state: RunState::Failed, ..done.clone() }.to_wire();
        let nan = v1::TrialRow { perplexity_bits: Some(f64::NAN.to_bits()), ..done.to_wire() };
        for wire in [neither, both, nan] {
            assert!(TrialRow::from_wire(&wire).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn a_worker_arrives_as_it_was_sent() {
        let sent = WorkerRow {
            worker: "hill-3".parse().expect("a name"),
            incarnation: Incarnation::new(u128::MAX - 1),
            connected: true,
            slots: 16,
            isa: "avx512".to_owned(),
            gflops_per_slot: 61.0,
            speed: 1.25,
            draining: false,
            paused: true,
            leases: vec![LeaseId::new(3), LeaseId::new(88)],
            silent: Duration::from_millis(4321),
        };
        assert_eq!(WorkerRow::from_wire(sent.to_wire()), Ok(sent.clone()));
        let mut wire = sent.to_wire();
        wire.leases.reverse();
        let refused = WireError::NotAscending { field: "WorkerRow.leases", index: 1 };
        assert_eq!(WorkerRow::from_wire(wire), Err(refused));
    }

    #[test]
    fn an_expression_over_what_a_run_does_not_have_is_refused() {
        let filter = Filter::compile_for("nodes >= 64 && seed == 0", &Name::OF_A_RUN).expect("a filter");
        let wanted = RunsWanted { sweep: name(), states: vec![RunState::Failed], filter: Some(filter) };
        assert_eq!(RunsWanted::from_wire(wanted.to_wire()), Ok(wanted.clone()));
        let wire = v1::ListRunsRequest { r#where: Some("epochs > 5".to_owned()), ..wanted.to_wire() };
        assert!(matches!(RunsWanted::from_wire(wire), Err(WireError::Filter { .. })));
        let wire = v1::ListRunsRequest { sweep: "No".to_owned(), ..wanted.to_wire() };
        assert!(matches!(RunsWanted::from_wire(wire), Err(WireError::Name { .. })));
    }

    #[test]
    fn a_watch_waits_at_least_a_millisecond_between_two_messages() {
        let wire = watch(&name(), Duration::from_millis(200));
        assert_eq!(watch_interval(&wire), Ok(Duration::from_millis(200)));
        assert!(watch_interval(&v1::WatchRequest { interval_ms: 0, ..wire }).is_err());
    }
}
