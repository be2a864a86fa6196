//! Validation perplexity: one character at a time from a zero state, reading parameters and touching nothing else.

use slalom_common::outcome::{Measured, Perplexity};

use super::OutOfMemory;
use super::params::Parameters;
use crate::kernels::Kernels;
use crate::kernels::classifier::{Logits, Probabilities};
use crate::kernels::lines::{Line, groups, zeros};
use crate::kernels::pack::{ForwardWeights, PackForward};
use crate::kernels::recurrence::{Reading, ReadingProducts};
use crate::kernels::simd::LANES;
use crate::kernels::softmax::CLASS_LINES;

/// What a probability is clipped to from below.
const PROBABILITY_MIN: f64 = 1e-10;

/// Characters that are read before their predictions are looked at, all at once.
const CHUNK: usize = 48;

/// The room that a validation needs.
pub struct Evaluator {
    kernels: Kernels,
    weights: ForwardWeights,
    /// `[group][1 + CHUNK]`: the h before the chunk, then that of each character.
    h: Vec<Line>,
    /// `[group]`.
    c: Vec<Line>,
    /// `[2][CHUNK]`.
    logits: Vec<Line>,
    probabilities: [f32; CHUNK],
}

impl Evaluator {
    /// Room for models of `nodes`.
    ///
    /// # Errors
    /// If it does not fit into memory.
    pub fn new(kernels: Kernels, nodes: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            kernels,
            weights: ForwardWeights::new(nodes)?,
            h: zeros(groups(nodes) * (1 + CHUNK))?,
            c: zeros(groups(nodes))?,
            logits: zeros(CLASS_LINES * CHUNK)?,
            probabilities: [0.0; CHUNK],
        })
    }

    /// Bytes that [`Evaluator::new`] takes.
    pub(crate) fn bytes(nodes: u64) -> u64 {
        let lines = nodes.div_ceil(LANES as u64) * (2 + CHUNK as u64) + 2 * CHUNK as u64;
        lines * size_of::<Line>() as u64 + ForwardWeights::bytes(nodes)
    }

    /// The perplexity on `text`, whose last prediction is its first character; diverged where a probability is not
    /// finite (SEMANTICS.md, Validation perplexity).
    ///
    /// # Panics
    /// If `text` is empty, or the parameters are of another number of nodes.
    pub fn perplexity(&mut self, parameters: &Parameters, text: &[u8]) -> Measured {
        assert!(!text.is_empty(), "a validation text has at least one character");
        let Self { kernels, weights, h, c, logits, probabilities } = self;
        kernels.run(PackForward { weights: parameters.weights(), packed: weights });
        h.fill(Line::ZERO);
        c.fill(Line::ZERO);
        let mut sum = 0.0;
        let mut labels = [0; CHUNK];
        for (chunk, symbols) in text.chunks(CHUNK).enumerate() {
            let len = symbols.len();
            let labels = &mut labels[..len];
            for (k, label) in labels.iter_mut().enumerate() {
                *label = text[(chunk * CHUNK + k + 1) % text.len()];
            }
            let probabilities = &mut probabilities[..len];
            kernels.for_columns(parameters.nodes()).run(Reading { weights, symbols, h, c });
            kernels.run(Probabilities {
                weights,
                h,
                first: 1,
                labels,
                logits: &mut logits[..CLASS_LINES * len],
                out: probabilities,
            });
            for &p in &*probabilities {
                if !p.is_finite() {
                    return Measured::Diverged;
                }
                sum += libm::log(f64::from(p).max(PROBABILITY_MIN));
            }
            for rows in h.chunks_exact_mut(1 + CHUNK) {
                rows[0] = rows[len];
            }
        }
        let perplexity = Perplexity::new(libm::exp(-(1.0 / text.len() as f64) * sum));
        perplexity.map_or(Measured::Diverged, Measured::Perplexity)
    }

    /// The matrix products of a validation over `characters`, alone: what it would take if all else were free.
    pub fn products_alone(&mut self, parameters: &Parameters, characters: usize) {
        let Self { kernels, weights, h, logits, .. } = self;
        kernels.run(PackForward { weights: parameters.weights(), packed: weights });
        for start in (0..characters).step_by(CHUNK) {
            let characters = CHUNK.min(characters - start);
            kernels.for_columns(parameters.nodes()).run(ReadingProducts { weights, characters, h });
            kernels.run(Logits { weights, h, first: 1, out: &mut logits[..CLASS_LINES * characters] });
        }
    }
}
