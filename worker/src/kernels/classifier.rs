//! The classifier: logits of all rows at once, and the softmax right behind the product.

use super::lines::{Line, groups};
use super::pack::ForwardWeights;
use super::product::{Out, StateRows, product};
use super::simd::{Algorithm, Simd};
use super::softmax::{self, CLASSES};

/// Rows between product and softmax: a few tiles of any instruction set, 6 KiB of logits.
const CHUNK: usize = 48;

/// Loss of each row's label and the gradient by each row's logits.
pub(crate) struct Loss<'a> {
    pub(crate) weights: &'a ForwardWeights,
    /// `[group][as many as there are]`.
    pub(crate) h: &'a [Line],
    /// The first row of each group that counts.
    pub(crate) first: usize,
    /// `[R]`.
    pub(crate) labels: &'a [u8],
    /// What a row counts for in the gradient: one part in all predictions of the step.
    pub(crate) weight: f32,
    /// `[R]`: out, `(p - y) * weight`, y being 1 at the label and 0 elsewhere.
    pub(crate) dlogits: &'a mut [[Line; 2]],
}

impl Algorithm for Loss<'_> {
    /// The sum over rows, in their order, of `ln(sum) - (l_label - max)` in nats.
    type Output = f64;

    fn check(&self) {
        check(self.weights, self.h, self.first + self.labels.len());
        assert_eq!(self.labels.len(), self.dlogits.len());
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let Self { weights, h, first: first_row, labels, weight, dlogits } = self;
        let mut loss = 0.0;
        for (chunk, labels) in labels.chunks(CHUNK).enumerate() {
            let first = chunk * CHUNK;
            let logits = &mut dlogits[first..first + labels.len()];
            let left = rows(weights, h, first_row + first, labels.len());
            logits_of(s, weights, left, logits);
            loss = softmax::loss(s, logits, &weights.classifier_bias, labels, weight, loss);
        }
        loss
    }
}

/// The probability that each row gives to its label.
pub(crate) struct Probabilities<'a> {
    pub(crate) weights: &'a ForwardWeights,
    /// `[group][as many as there are]`.
    pub(crate) h: &'a [Line],
    /// The first row of each group that counts.
    pub(crate) first: usize,
    /// `[R]`.
    pub(crate) labels: &'a [u8],
    /// `[R]`: scratch.
    pub(crate) logits: &'a mut [[Line; 2]],
    /// `[R]`, overwritten.
    pub(crate) out: &'a mut [f32],
}

impl Algorithm for Probabilities<'_> {
    type Output = ();

    fn check(&self) {
        check(self.weights, self.h, self.first + self.labels.len());
        assert!(self.labels.len() == self.logits.len() && self.labels.len() == self.out.len());
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, h, first, labels, logits, out } = self;
        logits_of(s, weights, rows(weights, h, first, labels.len()), logits);
        softmax::probabilities(s, logits, &weights.classifier_bias, labels, out);
    }
}

/// The products of [`Probabilities`] and nothing else.
pub(crate) struct Logits<'a> {
    pub(crate) weights: &'a ForwardWeights,
    /// `[group][as many as there are]`.
    pub(crate) h: &'a [Line],
    /// The first row of each group that counts.
    pub(crate) first: usize,
    /// `[R]`, overwritten.
    pub(crate) out: &'a mut [[Line; 2]],
}

impl Algorithm for Logits<'_> {
    type Output = ();

    fn check(&self) {
        check(self.weights, self.h, self.first + self.out.len());
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let left = rows(self.weights, self.h, self.first, self.out.len());
        logits_of(s, self.weights, left, self.out);
    }
}

fn check(weights: &ForwardWeights, h: &[Line], rows: usize) {
    let groups = groups(weights.nodes());
    assert!(h.len().is_multiple_of(groups) && h.len() / groups >= rows);
}

#[inline(always)]
fn rows<'a>(weights: &ForwardWeights, h: &'a [Line], first: usize, len: usize) -> StateRows<'a> {
    let stride = h.len() / groups(weights.nodes());
    StateRows { lines: h, stride, first, rows: len, nodes: weights.nodes() }
}

#[inline(always)]
fn logits_of<S: Simd>(s: S, weights: &ForwardWeights, left: StateRows<'_>, logits: &mut [[Line; 2]]) {
    let rows = logits.len();
    let mut out = Out { lines: logits.as_flattened_mut(), row_stride: groups(CLASSES), vector_stride: 1 };
    product(s, left, rows, &weights.classifier, &mut out);
}
