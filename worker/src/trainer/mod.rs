//! A run, step by step: corpus and settings in, milestones and checkpoints out. It knows no network and no clock.
//! What it computes is a function of (run, step) alone: not of who asks, nor when, nor how often it was stopped.

pub mod batches;
pub mod known;
pub mod memory;
pub mod milestones;
pub mod resume;

use std::sync::Arc;

use slalom_common::id::Step;
use slalom_common::outcome::{FailureReason, Measured};
use slalom_common::run::{Run, Shape};
use slalom_common::settings::SettingsError;

use crate::kernels::Kernels;
use crate::lstm::OutOfMemory;
use crate::lstm::evaluate::Evaluator;
use crate::lstm::params::Parameters;
use crate::lstm::step::{Network, Stepped};
use batches::Batches;

/// The first step that no run may reach.
const STEPS_END: u64 = 1 << 40;

/// Where a run begins.
pub enum Initial {
    /// With the weights that its seed draws.
    Seed,
    /// With these; the run's seed is then not used.
    Weights(Box<Parameters>),
}

/// Why a run cannot be trained here; found before its first step.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum TrainerError {
    /// A size of zero, or beyond its bound.
    #[error("{key} is {value}: it must be from 1 to {max}")]
    Size {
        /// The parameter's name in a spec.
        key: &'static str,
        /// What it was.
        value: u32,
        /// Its bound.
        max: u64,
    },
    /// A training setting out of its range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nothing to validate on.
    #[error("`valid_size` is 0: validation needs a character")]
    NoValidation,
    /// The batch has more rows than the training text has characters.
    #[error(
        "a corpus of {chars} characters is too short: {valid_size} validate, and a batch of {batch_size} rows needs \
         as many to train on"
    )]
    CorpusTooShort {
        /// Characters in all.
        chars: u64,
        /// Leading ones that validate.
        valid_size: u64,
        /// Rows.
        batch_size: u32,
    },
    /// The initial weights are of another model.
    #[error("initial weights of {found} nodes; the run has {wanted}")]
    Weights {
        /// The weights'.
        found: usize,
        /// The run's.
        wanted: u32,
    },
    /// The run does not fit.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl TrainerError {
    /// The run's failure that this is; none where whoever built the run should have refused it.
    pub const fn reason(&self) -> Option<FailureReason> {
        match self {
            Self::CorpusTooShort { .. } => Some(FailureReason::Corpus),
            Self::OutOfMemory(_) => Some(FailureReason::Memory),
            Self::Size { .. } | Self::Settings(_) | Self::NoValidation | Self::Weights { .. } => None,
        }
    }
}

/// One run on one thread, after some steps. All that it needs is allocated when it is made.
pub struct Trainer {
    run: Run,
    /// The corpus as ids 0 to 26: validation text, then training text.
    symbols: Arc<[u8]>,
    network: Network,
    evaluator: Evaluator,
    batches: Batches,
    steps_done: u64,
    /// Of step `steps_done`.
    learning_rate: f64,
    /// Of the last step applied.
    loss: Option<f64>,
}

impl Trainer {
    /// `run` before its first step, on a corpus of ids 0 to 26.
    ///
    /// # Errors
    /// If the run is out of bounds, its corpus too short, or its arrays do not fit into memory.
    pub fn new(
        kernels: Kernels,
        run: &Run,
        symbols: Arc<[u8]>,
        initial: Initial,
    ) -> Result<Self, TrainerError> {
        let training_chars = check(run, symbols.len() as u64)?;
        let nodes = run.shape.nodes as usize;
        let parameters = match initial {
            Initial::Seed => Parameters::initial(nodes, run.seed)?,
            Initial::Weights(parameters) if parameters.nodes() == nodes => *parameters,
            Initial::Weights(other) => {
                return Err(TrainerError::Weights { found: other.nodes(), wanted: run.shape.nodes });
            }
        };
        let mut batches = Batches::new(training_chars, &run.shape)?;
        batches.rewind(training_text(&symbols, run), Step::new(0));
        Ok(Self {
            run: *run,
            symbols,
            network: Network::new(kernels, &run.shape, parameters)?,
            evaluator: Evaluator::new(kernels, nodes)?,
            batches,
            steps_done: 0,
            learning_rate: run.family.training.learning_rate_at(Step::new(0)),
            loss: None,
        })
    }

    /// Takes one step. If that diverges nothing changes: the run is over, and would diverge at this step again.
    ///
    /// # Panics
    /// At step 2^40, which no run may have.
    pub fn step(&mut self) -> Stepped {
        assert!(self.steps_done < STEPS_END, "a run has fewer than 2^40 steps");
        let text = training_text(&self.symbols, &self.run);
        let training = &self.run.family.training;
        let batch = self.batches.read(text);
        let stepped = self.network.step(batch.inputs, batch.labels, self.learning_rate, training.clip_norm);
        if let Stepped::Applied { loss, .. } = stepped {
            self.batches.advance();
            self.steps_done += 1;
            self.loss = Some(loss);
            // As `learning_rate_at`, which would begin at the first step each time.
            if self.steps_done.is_multiple_of(training.decay_steps) {
                self.learning_rate *= training.decay_rate;
            }
        }
        stepped
    }

    /// Measures the model as it is on the validation text; training goes on as if it had not.
    pub fn validate(&mut self) -> Measured {
        let text = &self.symbols[..self.run.family.valid_size as usize];
        self.evaluator.perplexity(self.network.parameters(), text)
    }

    /// Steps applied.
    pub fn steps_done(&self) -> Step {
        Step::new(self.steps_done)
    }

    /// The model as it is.
    pub fn parameters(&self) -> &Parameters {
        self.network.parameters()
    }
}

/// What trains: all characters after those that validate.
fn training_text<'a>(symbols: &'a [u8], run: &Run) -> &'a [u8] {
    &symbols[run.family.valid_size as usize..]
}

/// The length of the training text of a run that is within bounds on a corpus of `chars` characters.
fn check(run: &Run, chars: u64) -> Result<u64, TrainerError> {
    let Run { family, shape, .. } = run;
    let sizes = [
        ("nodes", shape.nodes, Shape::NODES_MAX),
        ("batch_size", shape.batch_size, Shape::BATCH_SIZE_MAX),
        ("unrollings", shape.unrollings, Shape::UNROLLINGS_MAX),
    ];
    for (key, value, max) in sizes {
        if value == 0 || u64::from(value) > max {
            return Err(TrainerError::Size { key, value, max });
        }
    }
    family.training.check()?;
    if family.valid_size == 0 {
        return Err(TrainerError::NoValidation);
    }
    match chars.checked_sub(family.valid_size) {
        Some(training_chars) if training_chars >= shape.batch_size.into() => Ok(training_chars),
        _ => Err(TrainerError::CorpusTooShort {
            chars,
            valid_size: family.valid_size,
            batch_size: shape.batch_size,
        }),
    }
}
