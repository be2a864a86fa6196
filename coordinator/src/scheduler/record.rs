//! What happened, as it is stored: the ledger is the fold of these, in life and at a restart.

use std::time::Duration;

use slalom_common::id::{Incarnation, LeaseId, RunKey, Step, SweepName, WorkerName};
use slalom_common::message::{CheckpointName, LeaseEnd, LeaseKind};
use slalom_common::outcome::Milestone;
use slalom_common::run::Run;
use slalom_common::sweep::{Policy, Sweep};

use super::event::Steering;

/// One thing that happened. Stored in the order in which the ledger applied them.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// A sweep was taken on, whole.
    SweepSubmitted(Box<Sweep>),
    /// A sweep asks for more from now on: its formula with blocks behind those that it had.
    SweepExtended(Box<Sweep>),
    /// A sweep was submitted again: its policy is this one from now on, and it is active if it was cancelled.
    SweepResubmitted {
        /// Which.
        sweep: SweepName,
        /// How it is carried out from now on.
        policy: Policy,
    },
    /// A person ended a sweep.
    SweepCancelled {
        /// Which.
        sweep: SweepName,
    },
    /// A person paused, stopped or resumed a sweep that was not over.
    SweepSteered {
        /// Which.
        sweep: SweepName,
        /// What was asked.
        steering: Steering,
    },
    /// Leases granted to one incarnation together, numbered from `first` without a gap.
    RunsLeased {
        /// To which process.
        incarnation: Incarnation,
        /// Of which worker.
        worker: WorkerName,
        /// The first lease's number.
        first: LeaseId,
        /// What each is on.
        grants: Vec<Grant>,
    },
    /// A message up: a wanted step was reached, under a lease that was once granted.
    MilestoneReached {
        /// Under which lease, current or not.
        lease: LeaseId,
        /// The answer.
        milestone: Milestone,
    },
    /// A lease is over, with the answers that came with its end.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
        /// Its last answers.
        milestones: Vec<Milestone>,
        /// How.
        end: End,
    },
    /// The training itself diverged, as said under a lease that had ended before.
    DivergenceReached {
        /// Under which lease.
        lease: LeaseId,
        /// The step that was not applied.
        at: Step,
    },
    /// A run's state is in the blob folder.
    CheckpointKept {
        /// Under which lease it was made.
        lease: LeaseId,
        /// Where and what.
        checkpoint: CheckpointName,
    },
    /// An answer came again with other bits (I5): the kept one stays.
    ConflictFound {
        /// The lease whose answer is kept; its grant names the worker.
        kept_lease: LeaseId,
        /// What is kept.
        kept: Answer,
        /// The lease whose answer is refused.
        refused_lease: LeaseId,
        /// What is refused.
        refused: Answer,
    },
    /// A person drained a worker: these processes of it get no more leases, and are told to leave.
    WorkerDrained {
        /// Its name.
        worker: WorkerName,
        /// Its processes at that time that had not been drained before.
        incarnations: Vec<Incarnation>,
    },
    /// A person said that a paused worker is to serve again.
    WorkerResumed {
        /// Its name.
        worker: WorkerName,
    },
    /// A person gave failed runs fresh attempts.
    RunsRetried {
        /// Which.
        runs: Vec<RunKey>,
    },
}

/// One lease of a [`Record::RunsLeased`].
#[derive(Clone, PartialEq, Debug)]
pub struct Grant {
    /// What it is for.
    pub kind: LeaseKind,
    /// The run, as its content.
    pub run: Run,
}

/// How a lease ended, whoever ended it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The worker said so.
    Reported(LeaseEnd),
    /// Its incarnation was silent for the whole lease time.
    Expired {
        /// How long it was silent.
        silent: Duration,
    },
    /// Its incarnation lives and does not have it.
    Absent,
    /// Nobody wants its run any more.
    Cancelled,
}

/// An answer to a wanted step, or to all steps after a divergence of the training.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Answer {
    /// At one step.
    Milestone(Milestone),
    /// The training's own divergence.
    DivergedAt(Step),
}

impl Answer {
    /// The step that it answers, or at which the training diverged.
    pub const fn step(&self) -> Step {
        match self {
            Self::Milestone(milestone) => milestone.step,
            Self::DivergedAt(at) => *at,
        }
    }
}
