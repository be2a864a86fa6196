//! A trainer's state as a checkpoint, and a checkpoint as a trainer that goes on with the same bits.

use std::sync::Arc;

use slalom_common::checkpoint::{Checkpoint, Weights};
use slalom_common::id::{RunKey, Step};
use slalom_common::run::Run;

use super::{Initial, Trainer, TrainerError, training_text};
use crate::kernels::Kernels;
use crate::lstm::params::Parameters;

/// Why a run does not go on from a checkpoint.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ResumeError {
    /// It could not even begin.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
    /// The checkpoint is another run's.
    #[error("a checkpoint of run {found}, not of run {wanted}")]
    Run {
        /// The checkpoint's.
        found: RunKey,
        /// The run's.
        wanted: RunKey,
    },
    /// An array is not as long as the run's shape has it.
    #[error("`{name}` of the checkpoint has {found} values; the run's shape has {wanted}")]
    Length {
        /// The array's name.
        name: &'static str,
        /// As it is.
        found: usize,
        /// As it should be.
        wanted: usize,
    },
    /// Cursors or last column are not where this step is in this corpus.
    #[error("the checkpoint's cursors are not those of step {0} in this corpus")]
    Cursors(Step),
}

impl Trainer {
    /// The state after the steps done, whole.
    pub fn checkpoint(&self) -> Checkpoint {
        let [input_kernel, recurrent_kernel, bias, classifier, classifier_bias] =
            self.parameters().tensors().map(<[f32]>::to_vec);
        let [h, c] = self.network.carried();
        Checkpoint {
            run: self.run.key(),
            numerics: self.run.family.numerics,
            shape: self.run.shape,
            step: self.steps_done(),
            loss: self.loss,
            weights: Weights { input_kernel, recurrent_kernel, bias, classifier, classifier_bias },
            h,
            c,
            cursors: self.batches.cursors().to_vec(),
            last_column: self.batches.last_column().to_vec(),
        }
    }

    /// `run` as `checkpoint` left it.
    ///
    /// # Errors
    /// As [`Trainer::new`], and if the checkpoint is not of this run on this corpus.
    pub fn resume(
        kernels: Kernels,
        run: &Run,
        symbols: Arc<[u8]>,
        checkpoint: &Checkpoint,
    ) -> Result<Self, ResumeError> {
        if checkpoint.run != run.key() {
            return Err(ResumeError::Run { found: checkpoint.run, wanted: run.key() });
        }
        let mut parameters = Parameters::zeros(run.shape.nodes as usize).map_err(TrainerError::from)?;
        let Weights { input_kernel, recurrent_kernel, bias, classifier, classifier_bias } =
            &checkpoint.weights;
        let weights = [
            ("input_kernel", input_kernel),
            ("recurrent_kernel", recurrent_kernel),
            ("bias", bias),
            ("classifier", classifier),
            ("classifier_bias", classifier_bias),
        ];
        for ((name, from), to) in weights.into_iter().zip(parameters.tensors_mut()) {
            restore(name, from, to)?;
        }
        let mut trainer = Self::new(kernels, run, symbols, Initial::Weights(Box::new(parameters)))?;
        let wanted = run.shape.batch_size as usize * run.shape.nodes as usize;
        for (name, state) in [("h", &checkpoint.h), ("c", &checkpoint.c)] {
            if state.len() != wanted {
                return Err(ResumeError::Length { name, found: state.len(), wanted });
            }
        }
        trainer.network.set_carried(&checkpoint.h, &checkpoint.c);

        trainer.steps_done = checkpoint.step.number();
        trainer.learning_rate = run.family.training.learning_rate_at(checkpoint.step);
        trainer.loss = checkpoint.loss;
        trainer.batches.rewind(training_text(&trainer.symbols, run), checkpoint.step);
        let Checkpoint { cursors, last_column, .. } = checkpoint;
        if trainer.batches.cursors() != cursors || trainer.batches.last_column() != last_column {
            return Err(ResumeError::Cursors(checkpoint.step));
        }
        Ok(trainer)
    }
}

fn restore(name: &'static str, from: &[f32], to: &mut [f32]) -> Result<(), ResumeError> {
    if from.len() != to.len() {
        return Err(ResumeError::Length { name, found: from.len(), wanted: to.len() });
    }
    to.copy_from_slice(from);
    Ok(())
}
