//! All that a scheduler can ask for. A closed list, in two parts: what may leave at once, and what waits for the commit.

use std::time::Duration;

use slalom_common::answer::{Best, Counts, Eta};
use slalom_common::grid::Coordinates;
use slalom_common::id::{ContentHash, LeaseId, NumericsVersion, RunNumber, Step, SweepName, WorkerName};
use slalom_common::message::{CoordinatorMessage, LeaseKind};
use slalom_common::outcome::{FailureReason, Perplexity};
use slalom_common::sweep::{Size, Sweep};

use super::event::{RequestId, StreamId};
use super::record::{Answer, Record};

/// What follows from one event.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Effects {
    /// What happened: to be committed together, in this order.
    pub records: Vec<Record>,
    /// What promises nothing, and may leave before the commit.
    pub now: Vec<Effect>,
    /// What must not leave before these records, and all earlier ones, are durable (I2).
    pub after_commit: Vec<Effect>,
}

/// One thing to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Say something to a worker.
    Send {
        /// On which stream; if it is gone by then, the next hello makes up for it.
        stream: StreamId,
        /// What.
        message: CoordinatorMessage,
    },
    /// End a stream that a newer one of the same incarnation supersedes.
    Close {
        /// Which.
        stream: StreamId,
    },
    /// Answer a person's call.
    Reply {
        /// Which.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Drop a checkpoint that nothing resumes from any more.
    RemoveCheckpoint {
        /// Its name.
        blob: ContentHash,
    },
    /// Write a line to the log.
    Announce(Notice),
}

/// The answer to a person's call that changes something.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The sweep is taken on under this name.
    Submitted {
        /// Its name.
        sweep: SweepName,
        /// Whether this call brought it, or made it active again.
        created: bool,
    },
    /// The sweep asks for what it was extended by.
    Extended {
        /// Its name.
        sweep: SweepName,
    },
    /// The sweep is not the one that was to be extended any more: look again.
    Outdated,
    /// What is cancelled is not extended.
    IsCancelled {
        /// Its name.
        sweep: SweepName,
    },
    /// The name belongs to another formula.
    NameTaken {
        /// What the name means here.
        existing: Box<Sweep>,
    },
    /// The sweep is of another numerics version than this build.
    OtherNumerics {
        /// The sweep's.
        wanted: NumericsVersion,
        /// This build's.
        ours: NumericsVersion,
    },
    /// This coordinator serves one sweep only.
    TakesNoOther {
        /// The one.
        only: SweepName,
    },
    /// The sweep is cancelled.
    Cancelled {
        /// Its name.
        sweep: SweepName,
    },
    /// The sweep is steered as asked; one that is over stays as it was.
    Steered {
        /// Its name.
        sweep: SweepName,
    },
    /// The failed runs have fresh attempts.
    Retried {
        /// How many there were.
        runs: u64,
    },
    /// The worker is told to hand back what it holds and leave, or has left.
    Draining {
        /// Its name.
        worker: WorkerName,
    },
    /// The worker is given runs again; one that was not paused still is.
    WorkerResumed {
        /// Its name.
        worker: WorkerName,
    },
    /// The worker of a `slalom run` ends with it.
    KeepsItsWorker {
        /// The sweep that is run.
        only: SweepName,
    },
    /// There is no worker of this name.
    NoSuchWorker {
        /// The names there are.
        known: Vec<WorkerName>,
    },
    /// There is no sweep of this name.
    NoSuchSweep {
        /// The names there are.
        known: Vec<SweepName>,
    },
}

/// A run in one sweep's view, as a log line names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The sweep.
    pub sweep: SweepName,
    /// The run's number there.
    pub run: RunNumber,
    /// Its shape and seed.
    pub at: Coordinates,
}

/// A change of state that a reader of the log is told: one line each.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// A sweep was taken on.
    SweepSubmitted {
        /// Which.
        sweep: SweepName,
        /// What it holds.
        size: Size,
        /// TFLOP to train all runs.
        work_tflop: f64,
    },
    /// A sweep asks for more.
    SweepExtended {
        /// Which.
        sweep: SweepName,
        /// Trials that came to it.
        added: u64,
        /// What it holds now.
        size: Size,
        /// TFLOP to train all runs.
        work_tflop: f64,
    },
    /// Every run of a sweep is over.
    SweepDone {
        /// Which.
        sweep: SweepName,
        /// Its runs by state.
        counts: Counts,
        /// Its best point.
        best: Option<Best>,
    },
    /// A person ended a sweep.
    SweepCancelled {
        /// Which.
        sweep: SweepName,
        /// Its runs by state.
        counts: Counts,
    },
    /// No run of a sweep is leased for it until it is resumed.
    SweepPaused {
        /// Which.
        sweep: SweepName,
        /// Its runs by state.
        counts: Counts,
    },
    /// A sweep will be paused once none of its runs is leased.
    SweepStopping {
        /// Which.
        sweep: SweepName,
        /// Its runs by state.
        counts: Counts,
    },
    /// Runs of a sweep are leased again.
    SweepResumed {
        /// Which.
        sweep: SweepName,
        /// Its runs by state.
        counts: Counts,
    },
    /// A worker's session began.
    WorkerJoined {
        /// Which.
        worker: WorkerName,
        /// Runs it trains at a time.
        slots: u32,
        /// Its instruction set.
        isa: String,
        /// A slot's rate.
        gflops_per_slot: f64,
        /// The bits it gives.
        numerics: NumericsVersion,
    },
    /// A person has a worker hand back what it holds and leave.
    WorkerDraining {
        /// Which.
        worker: WorkerName,
        /// Its leases in force.
        leases: u64,
    },
    /// A worker is given no more runs until a person resumes it: run after run failed on it.
    WorkerPaused {
        /// Which.
        worker: WorkerName,
        /// Why the last of them failed.
        reason: FailureReason,
        /// In words.
        detail: String,
    },
    /// A person resumed a worker that was paused.
    WorkerResumed {
        /// Which.
        worker: WorkerName,
    },
    /// A worker's session is over.
    WorkerLeft {
        /// Which.
        worker: WorkerName,
        /// Why.
        why: Leaving,
    },
    /// A run was leased.
    RunLeased {
        /// In the sweep whose turn it was.
        run: Named,
        /// To whom.
        worker: WorkerName,
        /// The lease.
        lease: LeaseId,
        /// What it is for.
        kind: LeaseKind,
        /// Own failures before, plus one.
        attempt: u32,
        /// Where it goes on; from the start if absent.
        resume: Option<Step>,
    },
    /// A wanted step of a trial was answered.
    Milestone {
        /// In one sweep.
        run: Named,
        /// Steps applied.
        step: Step,
        /// The trial's epochs; none for a point of a curve.
        epochs: Option<u64>,
        /// The answer; none if it diverged.
        perplexity: Option<Perplexity>,
        /// Training loss.
        loss: Option<f64>,
        /// Who measured it.
        worker: WorkerName,
        /// Under which lease.
        lease: LeaseId,
        /// The sweep's lowest mean so far.
        best: Option<f64>,
    },
    /// A session was silent for the whole lease time.
    LeaseExpired {
        /// In one sweep.
        run: Named,
        /// Whose.
        worker: WorkerName,
        /// The lease.
        lease: LeaseId,
        /// For how long.
        silent: Duration,
        /// Where the run can go on.
        resume: Step,
    },
    /// A run waits again.
    RunRequeued {
        /// In one sweep.
        run: Named,
        /// Who had it.
        worker: WorkerName,
        /// Under which lease.
        lease: LeaseId,
        /// Why.
        why: Requeue,
    },
    /// Every wanted step of a run has a perplexity.
    RunDone {
        /// In one sweep.
        run: Named,
        /// Who brought the last.
        worker: WorkerName,
    },
    /// A run is over, and diverged.
    RunDiverged {
        /// In one sweep.
        run: Named,
        /// The step at which training diverged; none if only a validation did.
        at: Option<Step>,
        /// Who found it.
        worker: WorkerName,
    },
    /// A run is given up.
    RunFailed {
        /// In one sweep.
        run: Named,
        /// Why.
        reason: FailureReason,
        /// One line for people.
        detail: String,
        /// Own failures.
        attempts: u32,
        /// Who had it last.
        worker: WorkerName,
    },
    /// The same answer came with other bits.
    ResultConflict {
        /// In one sweep.
        run: Named,
        /// What stays.
        kept: Answer,
        /// Whose it is.
        kept_worker: WorkerName,
        /// What does not.
        refused: Answer,
        /// Whose it is.
        refused_worker: WorkerName,
    },
    /// A worker spoke of a lease that this store never gave it, or not on that run.
    MessageRefused {
        /// Which worker.
        worker: WorkerName,
        /// The lease.
        lease: LeaseId,
    },
    /// How a sweep stands, at an interval.
    Progress {
        /// Which.
        sweep: SweepName,
        /// Its runs by state.
        counts: Counts,
        /// Workers with a stream.
        workers: u32,
        /// Their slots.
        slots: u32,
        /// Its lowest mean so far.
        best: Option<f64>,
        /// Predicted time left.
        eta: Option<Eta>,
    },
}

/// Why a session is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// It drained.
    Drained,
    /// It was silent for the whole lease time.
    Silent,
    /// Its process died with the coordinator's (`slalom run`).
    Former,
}

/// Why a run waits again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Requeue {
    /// Its worker went silent.
    WorkerLost,
    /// Its worker gave it back.
    HandedBack,
    /// It failed, and has attempts left.
    Failed(FailureReason),
    /// Its worker lives and does not have it.
    Absent,
    /// More steps of it were wanted meanwhile.
    MoreWanted,
}

impl Effects {
    /// A line of the log tells what is durable, so it waits for the commit too.
    pub(super) fn announce(&mut self, notice: Notice) {
        self.after_commit.push(Effect::Announce(notice));
    }
}
