//! What stands in for training: a run's every number is a pure function of run and step, so a wrong, missing or early
//! answer shows. The state that a checkpoint carries is real: whoever goes on from a wrong one measures wrong perplexities.

use slalom_common::checkpoint::{Checkpoint, Weights};
use slalom_common::id::Step;
use slalom_common::outcome::{Measured, Milestone, Perplexity};
use slalom_common::run::Run;

use crate::dice::mix;

/// What is in a run, by its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nature {
    Sound,
    /// Its loss is no number at this step.
    DivergesAt(Step),
    /// It panics at this step, wherever it is trained.
    PoisonAt(Step),
}

pub(crate) fn nature(run: &Run) -> Nature {
    let key = run.key();
    let [kind, when, ..] = key.bytes();
    let step = Step::new(u64::from(*when) % 24);
    match kind % 10 {
        0 => Nature::DivergesAt(step),
        1 => Nature::PoisonAt(step),
        _ => Nature::Sound,
    }
}

/// A run after so many steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub(crate) step: Step,
    /// Stands for weights and all the rest.
    digest: u64,
}

impl State {
    pub(crate) fn start(run: &Run) -> Self {
        let key = run.key();
        let word = key.bytes().iter().take(8).fold(0, |word, &byte| word << 8 | u64::from(byte));
        Self { step: Step::new(0), digest: mix(word) }
    }

    pub(crate) const fn next(self) -> Self {
        let Self { step, digest } = self;
        Self { step: Step::new(step.number() + 1), digest: mix(digest ^ step.number()) }
    }

    /// What a validation finds now; one in sixteen has no perplexity.
    pub(crate) fn measure(self) -> Milestone {
        let digest = mix(self.digest);
        let perplexity = Perplexity::new(1.0 + (digest >> 12) as f64 / (1_u64 << 50) as f64);
        let measured = match perplexity {
            Some(perplexity) if !digest.is_multiple_of(16) => Measured::Perplexity(perplexity),
            _ => Measured::Diverged,
        };
        Milestone { step: self.step, measured, loss: Some(2.0) }
    }

    /// The container that real workers upload, with next to nothing in it.
    pub(crate) fn to_checkpoint(self, run: &Run) -> Checkpoint {
        let (nodes, rows) = (run.shape.nodes as usize, run.shape.batch_size as usize);
        let zeros = |count| vec![0.0; count];
        Checkpoint {
            run: run.key(),
            numerics: run.family.numerics,
            shape: run.shape,
            step: self.step,
            loss: None,
            weights: Weights {
                input_kernel: zeros(27 * 4 * nodes),
                recurrent_kernel: zeros(nodes * 4 * nodes),
                bias: zeros(4 * nodes),
                classifier: zeros(nodes * 27),
                classifier_bias: zeros(27),
            },
            h: zeros(rows * nodes),
            c: zeros(rows * nodes),
            cursors: vec![self.digest; rows],
            last_column: vec![0; rows],
        }
    }

    pub(crate) fn from_checkpoint(checkpoint: &Checkpoint) -> Self {
        Self { step: checkpoint.step, digest: checkpoint.cursors[0] }
    }

    /// What bytes that were never checked come to: some state, and not the run's.
    pub(crate) fn from_torn(step: Step, bytes: &[u8]) -> Self {
        Self { step, digest: mix(bytes.iter().fold(1, |word, &byte| mix(word ^ u64::from(byte)))) }
    }
}

/// What a worker with bad memory makes of a milestone.
pub(crate) fn off_by_a_bit(milestone: Milestone) -> Milestone {
    let measured = match milestone.measured {
        Measured::Perplexity(right) => {
            let wrong = Perplexity::new(f64::from_bits(right.bits() ^ 1));
            wrong.map_or(Measured::Diverged, Measured::Perplexity)
        }
        Measured::Diverged => Measured::Diverged,
    };
    Milestone { measured, ..milestone }
}

/// The true answer to a wanted step.
pub(crate) fn truth(run: &Run, wanted: Step) -> Measured {
    if let Nature::DivergesAt(at) = nature(run)
        && at < wanted
    {
        return Measured::Diverged;
    }
    let mut state = State::start(run);
    while state.step < wanted {
        state = state.next();
    }
    state.measure().measured
}
