//! A spec and its corpus make a sweep; what only both together show is refused here, at the place it was written.

use slalom_common::corpus::Text;
use slalom_common::grid::{Axes, Grid, GridError};
use slalom_common::run::{Family, NUMERICS};
use slalom_common::sweep::{CorpusFacts, Draft, Policy, Sweep, SweepError};

use super::Spec;
use super::error::{Fault, SpecError};

impl Spec {
    /// The sweep of this spec over `text`, which its corpus gave.
    ///
    /// # Errors
    /// A filter without a value at some point, sizes too large for the text, nothing to run.
    pub(crate) fn sweep(&self, text: &Text) -> Result<Sweep, SpecError> {
        let axes = Axes {
            nodes: self.nodes.clone(),
            batch_size: self.batch_size.clone(),
            unrollings: self.unrollings.clone(),
            epochs: self.epochs.clone(),
            seed: self.seeds.clone(),
        };
        let grid = Grid::new(axes, self.exclude.clone()).map_err(|error| self.refuse(error.into()))?;
        let study = Policy::default();
        let draft = Draft {
            name: self.name.clone(),
            family: Family {
                corpus: text.sha256(),
                valid_size: self.valid_size,
                training: self.training,
                numerics: NUMERICS,
            },
            corpus: CorpusFacts { written: self.corpus.to_string(), chars: text.chars() },
            blocks: vec![grid],
            steps_per_epoch: self.steps_per_epoch,
            eval_every: self.eval_every,
            policy: Policy {
                max_attempts: self.policy.max_attempts.unwrap_or(study.max_attempts),
                checkpoint_every: self.policy.checkpoint_every,
            },
        };
        Sweep::new(draft).map_err(|error| self.refuse(error))
    }

    /// Puts what is wrong where it was written: of several keys that are at fault together, the first that was.
    fn refuse(&self, error: SweepError) -> SpecError {
        let keys: &[&str] = match &error {
            SweepError::Settings(error) => &[error.key()],
            SweepError::Grid(GridError::OutOfRange { axis: "seed", .. }) => &["seeds"],
            SweepError::Grid(GridError::OutOfRange { axis, .. }) => &[axis],
            SweepError::Grid(GridError::Filter { expression, .. }) => {
                let index = self.exclude.iter().position(|filter| filter.source() == expression);
                let place = index.and_then(|index| self.places.of_exclude(index)).cloned();
                return SpecError { fault: Box::new(Fault::Sweep(error)), place };
            }
            SweepError::Grid(GridError::TooManyRuns { .. } | GridError::TooManyTrials { .. })
            | SweepError::NoBlocks
            | SweepError::TooManyBlocks(_)
            | SweepError::TooManyRuns(_) => &["grid"],
            SweepError::NothingToRun(_) => {
                return SpecError {
                    place: self.places.of_exclude(0).cloned(),
                    fault: Box::new(Fault::Sweep(error)),
                };
            }
            SweepError::NoValidation => &["valid_size"],
            SweepError::CorpusTooShort { .. } => &["valid_size", "corpus_chars", "corpus"],
            SweepError::BatchLargerThanText { .. } => &["batch_size"],
            SweepError::NoSteps => &["steps_per_epoch"],
            SweepError::TooManySteps { .. } => &["epochs"],
            SweepError::TooManyWantedSteps { .. } => &["eval_every", "epochs"],
            SweepError::NoAttempts => &["max_attempts"],
        };
        let place = keys.iter().find_map(|key| self.places.of(key)).cloned();
        SpecError { fault: Box::new(Fault::Sweep(error)), place }
    }
}
