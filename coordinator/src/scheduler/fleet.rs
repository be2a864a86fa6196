//! What is believed of the workers: never recorded, rebuilt from their hellos.

use std::collections::BTreeMap;
use std::time::Duration;

use slalom_common::id::{Incarnation, LeaseId, MessageNumber, Step, WorkerName};
use slalom_common::message::Hello;
use slalom_common::moment::Moment;

use super::event::StreamId;

/// Seconds of predicted work that a worker holds beyond its slots, so that tiny runs do not wait for the network.
const AHEAD_SECONDS: f64 = 1.0;

/// Leases a slot may have waiting, however tiny they are.
const AHEAD_MAX: usize = 32;

/// One incarnation with a session.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name.
    pub name: WorkerName,
    /// What its hello said; none for the holder of a recorded lease that has not greeted this life of the coordinator.
    pub hello: Option<Hello>,
    /// Its present connection.
    pub stream: Option<StreamId>,
    /// When it last said anything.
    pub heard: Moment,
    /// The last report of it that was handled.
    pub handled: Option<MessageNumber>,
    /// Whether it takes no more leases.
    pub draining: bool,
    /// Its leases in force.
    pub leases: BTreeMap<LeaseId, Held>,
}

/// A lease as its holder is believed to stand.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Held {
    /// Predicted seconds from its grant to its end on this worker.
    pub predicted: f64,
    /// The last progress it told.
    pub step: Step,
}

impl Worker {
    /// The holder of a recorded lease, before it greets.
    pub fn unheard(name: WorkerName, now: Moment) -> Self {
        Self {
            name,
            hello: None,
            stream: None,
            heard: now,
            handled: None,
            draining: false,
            leases: BTreeMap::new(),
        }
    }

    /// Runs it trains at a time; none before it greets.
    pub fn slots(&self) -> usize {
        self.hello.as_ref().map_or(0, |hello| hello.slots as usize)
    }

    /// Its rate relative to the reference, a slot.
    pub fn speed(&self) -> f64 {
        self.hello.as_ref().map_or(1.0, |hello| hello.speed)
    }

    /// Whether it is there and takes leases.
    pub fn takes_leases(&self) -> bool {
        self.stream.is_some() && !self.draining
    }

    /// Slots without a lease.
    pub fn idle_slots(&self) -> usize {
        self.slots().saturating_sub(self.leases.len())
    }

    /// Whether one more lease would keep it busy over the next round trip.
    pub fn wants_ahead(&self) -> bool {
        let predicted: f64 = self.leases.values().map(|held| held.predicted).sum();
        self.leases.len() < self.slots() * (1 + AHEAD_MAX) && predicted < AHEAD_SECONDS * self.slots() as f64
    }

    /// When its leases end unless it says something before.
    pub fn deadline(&self, lease: Duration) -> Moment {
        self.heard + lease
    }
}

/// All of them.
pub type Fleet = BTreeMap<Incarnation, Worker>;
