//! A sweep as the ledger knows it: the formula, and what follows from the answers for it.

use std::collections::BTreeMap;

use slalom_common::answer::{Counts, RunState};
use slalom_common::cost::REFERENCE;
use slalom_common::grid::Coordinates;
use slalom_common::id::{RunId, RunNumber, Step};
use slalom_common::sweep::Sweep;

use crate::scheduler::best::Points;

/// A sweep and what follows from the answers for it.
#[derive(Clone, Debug)]
pub struct SweepEntry {
    /// The formula.
    pub sweep: Sweep,
    /// Whether a person ended it.
    pub cancelled: bool,
    /// Runs by state.
    pub counts: Counts,
    /// Trials answered by a perplexity.
    pub trials_done: u64,
    /// Trials answered by a divergence.
    pub trials_diverged: u64,
    /// Seconds of the reference core for every run, and for the runs that are over.
    pub work_s: f64,
    /// Of the runs that are answered or given up.
    pub work_over_s: f64,
    /// Means over seeds, and the best of them.
    pub points: Points,
    /// Its runs that the ledger knows.
    pub(super) runs: BTreeMap<RunNumber, RunId>,
}

impl SweepEntry {
    /// A sweep of which no run is known.
    pub(super) fn new(sweep: Sweep) -> Self {
        let mut counts = Counts::default();
        counts.add(RunState::Waiting, sweep.size().runs);
        let mut entry = Self {
            sweep,
            cancelled: false,
            counts,
            trials_done: 0,
            trials_diverged: 0,
            work_s: 0.0,
            work_over_s: 0.0,
            points: Points::default(),
            runs: BTreeMap::new(),
        };
        entry.work_s = entry.sweep.run_numbers().map(|(_, at)| entry.run_seconds(&at)).sum();
        entry
    }

    /// The known run of this number.
    pub fn run(&self, number: RunNumber) -> Option<RunId> {
        self.runs.get(&number).copied()
    }

    /// Its known runs, by number.
    pub fn runs(&self) -> impl Iterator<Item = (RunNumber, RunId)> + '_ {
        self.runs.iter().map(|(&number, &run)| (number, run))
    }

    /// Whether every run is over and no person ended it.
    pub fn is_done(&self) -> bool {
        !self.cancelled && self.counts.of(RunState::Waiting) + self.counts.of(RunState::Running) == 0
    }

    /// Whether its runs may be leased.
    pub fn is_active(&self) -> bool {
        !self.cancelled && !self.is_done()
    }

    /// Seconds of the reference core that the run at `at` takes from its start.
    pub fn run_seconds(&self, at: &Coordinates) -> f64 {
        let wanted = self.sweep.wanted_steps(at);
        let last = wanted.last().copied().unwrap_or(Step::new(0));
        let valid_size = self.sweep.family().valid_size;
        REFERENCE.run_seconds(at.shape, Step::new(0), last, wanted.len(), valid_size)
    }
}
