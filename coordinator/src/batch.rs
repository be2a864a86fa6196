//! What events come to between two commits, in parts that cannot be confused: what may leave at once, what is to be committed, and
//! what is kept back until that is durable (I2). Pure: the driver and the simulator turn by the same.

use crate::scheduler::effect::{Effect, Effects, Notice};
use crate::scheduler::event::StreamId;
use crate::scheduler::record::Record;

/// Events that were handled and are not yet committed.
#[derive(Debug, Default)]
pub struct Batch {
    events: u64,
    records: Vec<Record>,
    after_commit: Vec<Effect>,
}

/// What promises nothing.
#[derive(Clone, PartialEq, Debug)]
pub enum AtOnce {
    /// Write a line to the log.
    Announce(Notice),
    /// End a stream.
    Close {
        /// Which.
        stream: StreamId,
    },
}

/// What the commit of a batch lets leave.
#[derive(Debug, Default)]
pub struct Promises(Vec<Effect>);

impl Batch {
    /// Takes in what followed from one event, and gives back what may leave before the commit.
    pub fn take(&mut self, effects: Effects) -> Vec<AtOnce> {
        let Effects { records, now, after_commit } = effects;
        self.events += 1;
        self.records.extend(records);
        self.after_commit.extend(after_commit);
        let mut at_once = Vec::new();
        for effect in now {
            match effect {
                Effect::Announce(notice) => at_once.push(AtOnce::Announce(notice)),
                Effect::Close { stream } => at_once.push(AtOnce::Close { stream }),
                // These promise something, so the scheduler never lists them here; late is right in any case.
                Effect::Send { .. } | Effect::Reply { .. } | Effect::RemoveCheckpoint { .. } => {
                    self.after_commit.push(effect);
                }
            }
        }
        at_once
    }

    /// Whether nothing happened.
    pub const fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// What is to be committed, together and in this order, and what that lets leave.
    pub fn close(self) -> (Vec<Record>, Promises) {
        (self.records, Promises(self.after_commit))
    }
}

impl Promises {
    /// To be called once the records of the batch are durable: what may leave now.
    pub fn made_good(self) -> Vec<Effect> {
        self.0
    }
}
