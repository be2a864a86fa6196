//! From perplexities to answers: points over their seeds, the best by one axis, the slope over two.
//!
//! Pure: trials in, numbers out, f64 throughout. Sums go in order of seed, so that the same trials give the same bits
//! whatever order they came in.

use slalom_common::answer::{RunState, TrialRow};

pub mod marginal;
pub mod summary;

/// How many trials came to what; they sum to the trials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// With a perplexity.
    pub done: u64,
    /// Diverged.
    pub diverged: u64,
    /// Of runs that were given up.
    pub failed: u64,
    /// Not answered, and not given up: cancelled, waiting or running.
    pub missing: u64,
}

impl Tally {
    /// Counts `trials`.
    pub fn of(trials: &[TrialRow]) -> Self {
        let mut tally = Self::default();
        for trial in trials {
            let count = match trial.state {
                RunState::Done => &mut tally.done,
                RunState::Diverged => &mut tally.diverged,
                RunState::Failed => &mut tally.failed,
                RunState::Cancelled | RunState::Waiting | RunState::Running => &mut tally.missing,
            };
            *count += 1;
        }
        tally
    }

    /// Whether every trial has a result.
    pub const fn is_complete(&self) -> bool {
        self.failed == 0 && self.missing == 0
    }
}

/// Trials for the tests of this module's children.
#[cfg(test)]
pub(crate) mod samples {
    use slalom_common::grid::Coordinates;
    use slalom_common::id::{RunNumber, Step};
    use slalom_common::outcome::Perplexity;
    use slalom_common::run::Shape;

    use super::*;

    /// The trial at (nodes, `batch_size`, unrollings, epochs), seed; `None` for one that diverged.
    pub(crate) fn trial(point: [u32; 4], seed: u64, perplexity: Option<f64>) -> TrialRow {
        let [nodes, batch_size, unrollings, epochs] = point;
        let perplexity = perplexity.map(|value| Perplexity::new(value).expect("a finite number"));
        TrialRow {
            run: RunNumber::new(0),
            at: Coordinates { shape: Shape { nodes, batch_size, unrollings }, seed },
            epochs: epochs.into(),
            steps: Step::new(epochs.into()),
            state: if perplexity.is_some() { RunState::Done } else { RunState::Diverged },
            perplexity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::trial;
    use super::*;

    #[test]
    fn a_tally_counts_each_trial_once() {
        let mut trials = vec![trial([8, 16, 1, 10], 0, Some(5.0)), trial([8, 16, 1, 10], 1, None)];
        assert!(Tally::of(&trials).is_complete());
        for state in [RunState::Failed, RunState::Cancelled, RunState::Waiting, RunState::Running] {
            trials.push(TrialRow { state, perplexity: None, ..trials[0].clone() });
        }
        let tally = Tally::of(&trials);
        assert_eq!(tally, Tally { done: 1, diverged: 1, failed: 1, missing: 3 });
        assert!(!tally.is_complete());
    }
}
