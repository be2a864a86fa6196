//! A sweep as the ledger knows it: the formula, and what follows from the answers for it.

use std::collections::BTreeMap;

use slalom_common::answer::{Counts, RunState, SweepState};
use slalom_common::cost::{REFERENCE, Work};
use slalom_common::grid::Coordinates;
use slalom_common::id::{RunId, RunNumber};
use slalom_common::sweep::Sweep;

use crate::scheduler::best::Points;
use crate::scheduler::event::Steering;

/// What a person last said is to become of a sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// Its runs are leased.
    Active,
    /// None of them is leased for it.
    Paused,
    /// As paused; it will be that when the last of its runs that are leased ends its lease.
    Stopping,
    /// It is over.
    Cancelled,
}

/// A sweep and what follows from the answers for it.
#[derive(Clone, Debug)]
pub struct SweepEntry {
    /// The formula.
    pub sweep: Sweep,
    /// What a person last said is to become of it.
    pub course: Course,
    /// Runs by state.
    pub counts: Counts,
    /// Trials answered by a perplexity.
    pub trials_done: u64,
    /// Trials answered by a divergence.
    pub trials_diverged: u64,
    /// Of every run, from its start.
    pub work: Work,
    /// Of the runs that are answered or given up.
    pub work_over: Work,
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
            course: Course::Active,
            counts,
            trials_done: 0,
            trials_diverged: 0,
            work: Work::NONE,
            work_over: Work::NONE,
            points: Points::default(),
            runs: BTreeMap::new(),
        };
        entry.work = entry.sweep.work();
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
        !self.is_cancelled() && self.counts.of(RunState::Waiting) + self.counts.of(RunState::Running) == 0
    }

    /// Whether a person ended it.
    pub fn is_cancelled(&self) -> bool {
        self.course == Course::Cancelled
    }

    /// Whether its runs may be leased for it.
    pub fn is_active(&self) -> bool {
        self.state() == SweepState::Active
    }

    /// The state that people are told. What is done is done, whatever was said of it before.
    pub fn state(&self) -> SweepState {
        match self.course {
            Course::Cancelled => SweepState::Cancelled,
            _ if self.is_done() => SweepState::Done,
            Course::Active => SweepState::Active,
            Course::Paused => SweepState::Paused,
            Course::Stopping => SweepState::Stopping,
        }
    }

    /// The state of those of its runs that nobody has touched.
    pub fn untouched(&self) -> RunState {
        if self.is_cancelled() { RunState::Cancelled } else { RunState::Waiting }
    }

    /// What is to become of it after `steering`; nothing changes in what is over.
    pub fn steered(&self, steering: Steering) -> Course {
        match (self.state(), steering) {
            (SweepState::Done | SweepState::Cancelled, _) => self.course,
            (_, Steering::Pause) => Course::Paused,
            (_, Steering::Resume) => Course::Active,
            (_, Steering::Stop) if self.counts.of(RunState::Running) == 0 => Course::Paused,
            (_, Steering::Stop) => Course::Stopping,
        }
    }

    /// Seconds of the reference core that the run at `at` takes from its start.
    pub fn run_seconds(&self, at: &Coordinates) -> f64 {
        REFERENCE.seconds(&self.sweep.run_work(at))
    }
}
