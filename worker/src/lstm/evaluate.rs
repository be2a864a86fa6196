//! Validation perplexity: one character at a time from a zero state, reading parameters and touching nothing else.

use ndarray::Array1;
use slalom_common::outcome::{Measured, Perplexity};

use super::forward::classifier_bias;
use super::params::Parameters;
use super::{OutOfMemory, SYMBOLS, flat, flat_mut, zeros_1};
use crate::kernels::Kernels;
use crate::kernels::cell::CellForward;
use crate::kernels::gemm::{LeftTile, Matrix, Panels, Product};
use crate::kernels::softmax::SoftmaxProbability;

/// What a probability is clipped to from below.
const PROBABILITY_MIN: f64 = 1e-10;

/// The room that a validation needs.
pub struct Evaluator {
    kernels: Kernels,
    /// `[N]`, as are the next three.
    h: Array1<f32>,
    c_before: Array1<f32>,
    c: Array1<f32>,
    tanh_c: Array1<f32>,
    /// `[4N]`.
    gates: Array1<f32>,
    logits: [f32; SYMBOLS],
    recurrent_kernel: Panels,
    classifier: Panels,
    tile: LeftTile,
}

impl Evaluator {
    /// Room for models of `nodes`.
    ///
    /// # Errors
    /// If it does not fit into memory.
    pub fn new(kernels: Kernels, nodes: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            kernels,
            h: zeros_1(nodes)?,
            c_before: zeros_1(nodes)?,
            c: zeros_1(nodes)?,
            tanh_c: zeros_1(nodes)?,
            gates: zeros_1(4 * nodes)?,
            logits: [0.0; SYMBOLS],
            recurrent_kernel: Panels::with_room(&[(nodes, 4 * nodes)])?,
            classifier: Panels::with_room(&[(nodes, SYMBOLS)])?,
            tile: LeftTile::new(),
        })
    }

    /// The perplexity on `text`, whose last prediction is its first character; diverged where a probability is not
    /// finite (SEMANTICS.md, Validation perplexity).
    ///
    /// # Panics
    /// If `text` is empty, or the parameters are of another number of nodes.
    pub fn perplexity(&mut self, parameters: &Parameters, text: &[u8]) -> Measured {
        assert!(!text.is_empty(), "a validation text has at least one character");
        let n = parameters.nodes();
        self.recurrent_kernel.pack(Matrix::with_columns(4 * n, flat(&parameters.recurrent_kernel)));
        self.classifier.pack(Matrix::with_columns(SYMBOLS, flat(&parameters.classifier)));
        self.h.fill(0.0);
        self.c.fill(0.0);
        let mut sum = 0.0;
        for (k, &symbol) in text.iter().enumerate() {
            let next = text[(k + 1) % text.len()];
            let p = f64::from(self.probability_of_next(parameters, symbol, next));
            if !p.is_finite() {
                return Measured::Diverged;
            }
            sum += libm::log(p.max(PROBABILITY_MIN));
        }
        let perplexity = Perplexity::new(libm::exp(-(1.0 / text.len() as f64) * sum));
        perplexity.map_or(Measured::Diverged, Measured::Perplexity)
    }

    /// Feeds `symbol` and gives the probability of `next`.
    fn probability_of_next(&mut self, parameters: &Parameters, symbol: u8, next: u8) -> f32 {
        let Self { kernels, h, c_before, c, tanh_c, gates, logits, recurrent_kernel, classifier, tile } =
            self;
        let n = parameters.nodes();
        std::mem::swap(c, c_before);
        kernels.run(Product {
            left: Matrix::with_columns(n, flat(h)),
            right: recurrent_kernel,
            out: flat_mut(gates),
            tile,
        });
        kernels.run(CellForward {
            nodes: n,
            symbols: &[symbol],
            input_kernel: flat(&parameters.input_kernel),
            bias: flat(&parameters.bias),
            gates: flat_mut(gates),
            c_before: flat(c_before),
            c: flat_mut(c),
            tanh_c: flat_mut(tanh_c),
            h: flat_mut(h),
        });
        kernels.run(Product { left: Matrix::with_columns(n, flat(h)), right: classifier, out: logits, tile });
        kernels.run(SoftmaxProbability { logits, bias: classifier_bias(parameters), label: next })
    }
}
