//! All that can happen to a coordinator. A closed list: the scheduler defines each in every state.

use slalom_common::id::{Incarnation, LeaseId, MessageNumber, RunKey, Step, SweepName, WorkerName};
use slalom_common::message::{CheckpointName, Hello, LeasesHeld, Report};
use slalom_common::sweep::Sweep;

/// One connection of a session; numbered by whoever accepts connections, never reused in a process's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// A person's call, so that its answer finds the way back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// What a person may ask of a sweep that is not over. None of it ends a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Steering {
    /// No new leases, until resumed.
    Pause,
    /// No new leases; paused when none of its runs is leased any more.
    Stop,
    /// New leases again.
    Resume,
}

/// What happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// Time has passed: some deadline may be over.
    Tick,
    /// A worker greeted on a new stream; its versions have been checked.
    WorkerJoined {
        /// The stream.
        stream: StreamId,
        /// Who it is.
        hello: Hello,
    },
    /// A stream is gone. Its session lives on for the lease time.
    StreamClosed {
        /// The stream.
        stream: StreamId,
        /// Whose it was.
        incarnation: Incarnation,
    },
    /// A worker said something on its stream.
    Said {
        /// The stream; what comes on a superseded one is ignored.
        stream: StreamId,
        /// By whom.
        incarnation: Incarnation,
        /// What.
        saying: Saying,
    },
    /// The workers of this store's former life died with it (`slalom run`).
    FormerWorkersGone,
    /// A person hands in a sweep, its corpus being here.
    Submit {
        /// The call.
        request: RequestId,
        /// The sweep.
        sweep: Box<Sweep>,
    },
    /// A person extends a sweep.
    Extend {
        /// The call.
        request: RequestId,
        /// The sweep of this name as it would be.
        sweep: Box<Sweep>,
    },
    /// A person ends a sweep.
    Cancel {
        /// The call.
        request: RequestId,
        /// Which.
        sweep: SweepName,
    },
    /// A person pauses, stops or resumes a sweep.
    Steer {
        /// The call.
        request: RequestId,
        /// Which.
        sweep: SweepName,
        /// What is asked.
        steering: Steering,
    },
    /// A person gives a sweep's failed runs fresh attempts.
    Retry {
        /// The call.
        request: RequestId,
        /// Which.
        sweep: SweepName,
    },
    /// A person says that a paused worker is to serve again.
    ResumeWorker {
        /// The call.
        request: RequestId,
        /// Its name.
        worker: WorkerName,
    },
    /// A person has a worker hand back what it holds and leave.
    Drain {
        /// The call.
        request: RequestId,
        /// Its name.
        worker: WorkerName,
    },
}

/// What a worker says after its hello.
#[derive(Clone, PartialEq, Debug)]
pub enum Saying {
    /// It lives, and holds these.
    Heartbeat(LeasesHeld),
    /// How far a run is.
    Progress {
        /// Under which lease.
        lease: LeaseId,
        /// Steps applied.
        step: Step,
        /// Training loss of the last.
        loss: Option<f64>,
    },
    /// A checkpoint's bytes are here.
    CheckpointStored {
        /// Under which lease it was made.
        lease: LeaseId,
        /// Of which run.
        run: RunKey,
        /// Where and what.
        checkpoint: CheckpointName,
    },
    /// An answer, or the end of a lease.
    Reported {
        /// To be acknowledged after the commit.
        number: MessageNumber,
        /// Under which lease.
        lease: LeaseId,
        /// Of which run.
        run: RunKey,
        /// What.
        report: Report,
    },
    /// It takes no more leases.
    Draining {
        /// The highest that it has received.
        received_max: Option<LeaseId>,
    },
}
