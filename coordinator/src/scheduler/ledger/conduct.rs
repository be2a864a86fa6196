//! How a worker fares with the runs it is given: one on which run after run fails is given no more (L3).
//!
//! It follows from the records alone, so it holds across restarts without a record of its own; only a person's word that the
//! worker is to serve again is one.

use std::collections::BTreeSet;

use slalom_common::id::RunId;
use slalom_common::outcome::FailureReason;

/// So many runs that fail on a worker, none of them answering anything, pause it.
pub const FAILED_IN_A_ROW: usize = 3;

/// One worker's, by its name: a machine that is bad stays so when its process is started again.
#[derive(Clone, Debug, Default)]
pub struct Conduct {
    /// Runs that failed since the last answer. A run that fails again is no news of the worker.
    failed: BTreeSet<RunId>,
    /// The last failure, in words.
    last: Option<(FailureReason, String)>,
    paused: bool,
}

impl Conduct {
    /// Whether it is given no runs until a person says otherwise.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The last failure.
    pub fn last_failure(&self) -> Option<(FailureReason, &str)> {
        self.last.as_ref().map(|(reason, detail)| (*reason, detail.as_str()))
    }

    /// An answer came from it. What it still trains while paused does not set it free: that is for a person to say.
    pub(super) fn succeeded(&mut self) {
        self.failed.clear();
    }

    /// A run failed on it.
    pub(super) fn failed(&mut self, run: RunId, reason: FailureReason, detail: &str) {
        self.failed.insert(run);
        self.last = Some((reason, detail.to_owned()));
        self.paused |= self.failed.len() >= FAILED_IN_A_ROW;
    }
}
