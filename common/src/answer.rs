//! What people are told: a sweep's state, its runs and trials as rows, the workers. Values; `wire` gives them their form
//! in bytes, the coordinator computes them, the program that a person types shows them.

use std::fmt;
use std::time::Duration;

use crate::grid::Coordinates;
use crate::id::{Incarnation, LeaseId, RunNumber, Step, SweepName, WorkerName};
use crate::outcome::{FailureReason, Perplexity};
use crate::run::Shape;

/// A run in one sweep's view. There are no other states.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RunState {
    /// Wanted, and nobody has it.
    Waiting,
    /// Leased.
    Running,
    /// Every wanted step has a perplexity.
    Done,
    /// Every wanted step is answered, at least one trial by a divergence.
    Diverged,
    /// Given up after its attempts.
    Failed,
    /// Its sweep was cancelled before it was answered.
    Cancelled,
}

impl RunState {
    /// All of them, in the order of their use as an index.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Running, Self::Done, Self::Diverged, Self::Failed, Self::Cancelled];

    /// Whether nothing more will come unless a person asks.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Waiting | Self::Running => false,
            Self::Done | Self::Diverged | Self::Failed | Self::Cancelled => true,
        }
    }

    /// The word in tables and files, and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Diverged => "diverged",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How many runs of a sweep are in each state; they sum to the sweep's runs (I6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts([u64; 6]);

impl Counts {
    /// The counts that `of` gives, a state each.
    pub fn from_fn(of: impl FnMut(RunState) -> u64) -> Self {
        Self(RunState::ALL.map(of))
    }

    /// Runs in this state.
    pub fn of(&self, state: RunState) -> u64 {
        self.0[state as usize]
    }

    /// Runs in any state.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Counts `runs` more in this state.
    pub fn add(&mut self, state: RunState, runs: u64) {
        self.0[state as usize] += runs;
    }

    /// One run changes its state.
    ///
    /// # Panics
    /// If none is counted in `from`.
    pub fn shift(&mut self, from: RunState, to: RunState) {
        let from = &mut self.0[from as usize];
        *from = from.checked_sub(1).expect("a run leaves a state that it was counted in");
        self.0[to as usize] += 1;
    }
}

/// A sweep's state. There are no other states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SweepState {
    /// Its runs are leased.
    Active,
    /// None of its runs is leased for it until a person says so; what was leased before may still run.
    Paused,
    /// As paused, and it will be that once none of its runs is leased any more.
    Stopping,
    /// Every run is over.
    Done,
    /// A person ended it.
    Cancelled,
}

impl SweepState {
    /// Whether nothing more will come unless a person asks.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Active | Self::Paused | Self::Stopping => false,
            Self::Done | Self::Cancelled => true,
        }
    }

    /// The word in tables and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for SweepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The point with the lowest mean, among those with all seeds done once there is one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Best {
    /// Its sizes.
    pub shape: Shape,
    /// Its epochs.
    pub epochs: u64,
    /// Mean perplexity over the seeds finished.
    pub mean: f64,
}

/// Predicted time left, and between what.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Eta {
    /// The prediction, in seconds.
    pub seconds: f64,
    /// If all goes better than predicted.
    pub low: f64,
    /// If it goes worse.
    pub high: f64,
}

/// How a sweep stands.
#[derive(Clone, PartialEq, Debug)]
pub struct SweepStatus {
    /// Its name.
    pub sweep: SweepName,
    /// Its state.
    pub state: SweepState,
    /// Its runs by state.
    pub counts: Counts,
    /// Trials it holds.
    pub trials: u64,
    /// Trials it excludes.
    pub excluded: u64,
    /// Trials answered by a perplexity.
    pub trials_done: u64,
    /// Trials answered by a divergence.
    pub trials_diverged: u64,
    /// Workers with a stream that are not paused.
    pub workers: u32,
    /// Their slots.
    pub slots: u32,
    /// Workers with a stream that are paused.
    pub paused_workers: u32,
    /// Its best point.
    pub best: Option<Best>,
    /// Seconds of the reference core that are done, running runs included.
    pub work_done_s: f64,
    /// Of all its runs.
    pub work_s: f64,
    /// Predicted time left.
    pub eta: Option<Eta>,
    /// Numbers its runs take.
    pub numbers: u64,
    /// What its submitter called the corpus.
    pub corpus_written: String,
}

/// A run in its sweep's view.
#[derive(Clone, PartialEq, Debug)]
pub struct RunRow {
    /// Its number.
    pub run: RunNumber,
    /// Its shape and seed.
    pub at: Coordinates,
    /// Its state.
    pub state: RunState,
    /// Its largest wanted step.
    pub steps: Step,
    /// How far it is known to be.
    pub step: Step,
    /// Own failures.
    pub failures: u32,
    /// Workers lost over it.
    pub losses: u32,
    /// Why it last failed.
    pub last_failure: Option<(FailureReason, String)>,
    /// The last lease and who had it.
    pub last_lease: Option<(LeaseId, WorkerName)>,
    /// Where its training diverged.
    pub diverged_at: Option<Step>,
}

/// A trial and its answer.
#[derive(Clone, PartialEq, Debug)]
pub struct TrialRow {
    /// The run that answers it.
    pub run: RunNumber,
    /// Its shape and seed.
    pub at: Coordinates,
    /// Its epochs.
    pub epochs: u64,
    /// In steps.
    pub steps: Step,
    /// `Done` once recorded, `Diverged` if that is its answer, else its run's state.
    pub state: RunState,
    /// Present exactly if done.
    pub perplexity: Option<Perplexity>,
}

/// A worker with a session, or one whose leases have not ended yet.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkerRow {
    /// Its name.
    pub worker: WorkerName,
    /// This process of it.
    pub incarnation: Incarnation,
    /// Whether a stream is open now.
    pub connected: bool,
    /// Runs it trains at a time; 0 before it greets this life of the coordinator.
    pub slots: u32,
    /// Its instruction set; empty before it greets.
    pub isa: String,
    /// A slot's rate; 0 before it greets.
    pub gflops_per_slot: f64,
    /// A slot's rate relative to the reference core.
    pub speed: f64,
    /// Whether it takes no more leases.
    pub draining: bool,
    /// Whether it is granted none until a person resumes it: run after run failed on it.
    pub paused: bool,
    /// Its leases in force, ascending.
    pub leases: Vec<LeaseId>,
    /// Since its last message.
    pub silent: Duration,
}

/// What a sweep would be at a coordinator, nothing recorded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Preview {
    /// Its runs whose every answer is recorded already.
    pub known_runs: u64,
    /// Of the others, those that go on from a checkpoint.
    pub resumed_runs: u64,
    /// And those that were trained before and whose checkpoints are gone: they begin anew.
    pub dropped_runs: u64,
    /// Seconds of the reference core that need not be trained again.
    pub known_s: f64,
    /// Slots of the workers that are there.
    pub slots: u32,
    /// Their summed rate at this sweep's work, relative to the reference core.
    pub speed: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_a_run_has_its_place_and_its_word() {
        for (place, state) in RunState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, place);
            assert_eq!(RunState::from_word(state.word()), Some(state));
        }
        assert_eq!(RunState::from_word("Waiting"), None);
    }
}
