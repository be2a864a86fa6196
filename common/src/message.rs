//! What a worker and a coordinator say on a session's stream, as values; `wire` gives them their form in bytes.

use std::time::Duration;

use crate::cost::Coefficients;
use crate::id::{
    ContentHash, Incarnation, LeaseId, MessageNumber, NumericsVersion, RunKey, Step, StoreId, WorkerName,
};
use crate::outcome::{FailureReason, Milestone};
use crate::run::Run;

/// The version of `slalom.v1` that this build speaks; a hello with another one is refused in words (I15).
pub const PROTOCOL_VERSION: u32 = 1;

/// From worker to coordinator.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkerMessage {
    /// The first on every stream.
    Hello(Hello),
    /// The session lives, and holds these.
    Heartbeat(LeasesHeld),
    /// How far a run is; may be lost.
    Progress {
        /// Under which lease.
        lease: LeaseId,
        /// Steps applied.
        step: Step,
        /// Training loss of the last one, nats per character.
        loss: Option<f64>,
    },
    /// A checkpoint whose bytes the coordinator has; may be lost, which costs time.
    CheckpointStored {
        /// Under which lease.
        lease: LeaseId,
        /// Of which run: another store numbers its leases from 1 too.
        run: RunKey,
        /// Where and what.
        checkpoint: CheckpointName,
    },
    /// Sent again after a reconnect until acknowledged.
    Numbered {
        /// Its place in the incarnation's life.
        number: MessageNumber,
        /// Under which lease.
        lease: LeaseId,
        /// Of which run: another store numbers its leases from 1 too.
        run: RunKey,
        /// What there is to say.
        report: Report,
    },
    /// The worker takes no more leases and hands back what it holds.
    Draining {
        /// The highest lease received. What was granted above it is handed back with this: it may come too late.
        received_max: Option<LeaseId>,
    },
}

/// Who a worker is and what it holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Hello {
    /// The protocol it speaks.
    pub protocol_version: u32,
    /// For people.
    pub worker: WorkerName,
    /// This process of it.
    pub incarnation: Incarnation,
    /// Runs it trains at a time, from 1.
    pub slots: u32,
    /// The bits it gives.
    pub numerics: NumericsVersion,
    /// What that version's known run came to on it. None from a build so old that it trains none, which is refused in words.
    pub known_run: Option<ContentHash>,
    /// Its kernels' instruction set, for people.
    pub isa: String,
    /// Rate of a slot relative to the reference cost; finite and positive; for predictions only.
    pub speed: f64,
    /// GFLOP/s of a slot, for people.
    pub gflops_per_slot: f64,
    /// What a slot takes for any shape; sound; for predictions only.
    pub cost: Coefficients,
    /// What it holds now.
    pub held: LeasesHeld,
    /// Of the last welcome, whose coordinator granted what is held.
    pub store: Option<StoreId>,
}

/// The leases an incarnation holds: waiting, training, or ended with the end not yet acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeasesHeld {
    /// Ascending.
    pub leases: Vec<LeaseId>,
    /// The highest ever received from the present store: only a lease at or below it and absent from `leases` is gone.
    pub received_max: Option<LeaseId>,
}

/// What must not be lost.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// A wanted step was reached.
    Milestone(Milestone),
    /// The lease is over; its last answers come with its end, so that no lease is over while they are missing.
    LeaseEnded {
        /// In order of step.
        milestones: Vec<Milestone>,
        /// How it ended.
        how: LeaseEnd,
    },
}

/// How a worker ends a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseEnd {
    /// Every wanted step is answered.
    Finished,
    /// Loss or gradient norm of step `at` was not finite: every later step is answered by that.
    Diverged {
        /// The step, from 0, that was not applied.
        at: Step,
    },
    /// The run failed here.
    Failed {
        /// Which kind.
        reason: FailureReason,
        /// One line for people.
        detail: String,
    },
    /// Given back unfinished: the worker drains, or was told to drop it.
    HandedBack,
}

/// A checkpoint's place in its run, and the name of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointName {
    /// Steps applied.
    pub step: Step,
    /// SHA-256 of its bytes.
    pub blob: ContentHash,
}

/// From coordinator to worker.
#[derive(Clone, PartialEq, Debug)]
pub enum CoordinatorMessage {
    /// The first on every stream.
    Welcome(Welcome),
    /// Durable before they left.
    Grants(Vec<Lease>),
    /// Every report up to this one is durable.
    Acknowledged(MessageNumber),
    /// Drop these: nobody wants their runs any more, or somebody else has them.
    Cancelled(Vec<LeaseId>),
    /// Take no more leases, hand back what is held, and leave.
    Drain,
}

/// The coordinator's terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// A session silent for so long loses its leases.
    pub lease: Duration,
    /// Training time between two checkpoints of a run, unless its lease says otherwise.
    pub checkpoint_every: Duration,
    /// The last report of this incarnation known to be durable.
    pub acknowledged: Option<MessageNumber>,
    /// Where leases and answers stand.
    pub store: StoreId,
    /// What the worker holds was granted by another store, or by a later state of this one than it was brought back
    /// to: it forgets its leases, its reports and the highest number received, and goes on as new.
    pub forget: bool,
}

/// What a lease is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseKind {
    /// Moves the run on; at most one per run (I3).
    Primary,
    /// Trains a leased run once more, on a faster worker near the end of a sweep: it changes no state of the run.
    Copy,
}

/// The grant of a run to an incarnation.
#[derive(Clone, PartialEq, Debug)]
pub struct Lease {
    /// Its number; leases start in this order.
    pub id: LeaseId,
    /// What it is for.
    pub kind: LeaseKind,
    /// What to train.
    pub run: Run,
    /// The steps without a recorded answer that some sweep wants, ascending; never changes.
    pub wanted: Vec<Step>,
    /// Where to go on; the start if absent. Its step is at most the first wanted one (I10).
    pub resume: Option<CheckpointName>,
    /// Where to go on if that is gone or damaged: the checkpoint before it.
    pub resume_before: Option<CheckpointName>,
    /// Overrides the session's.
    pub checkpoint_every: Option<Duration>,
}
