//! The classifier: logits of all rows at once, and the softmax right behind the product.

use super::lines::{Line, groups};
use super::pack::ForwardWeights;
use super::product::{Left, Out, product};
use super::simd::{Algorithm, Simd};
use super::softmax::{self, CLASS_LINES};

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
    /// `[2][R]`: out, `(p - y) * weight`, y being 1 at the label and 0 elsewhere.
    pub(crate) dlogits: &'a mut [Line],
}

impl Algorithm for Loss<'_> {
    /// The sum over rows, in their order, of `ln(sum) - (l_label - max)` in nats.
    type Output = f64;

    fn check(&self) {
        check(self.weights, self.h, self.first + self.labels.len());
        assert_eq!(self.dlogits.len(), CLASS_LINES * self.labels.len());
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let Self { weights, h, first: first_row, labels, weight, dlogits } = self;
        let rows = labels.len();
        let mut loss = 0.0;
        for (chunk, labels) in labels.chunks(CHUNK).enumerate() {
            let first = chunk * CHUNK;
            let left = left(weights, h, first_row + first, labels.len());
            logits_of(s, weights, left, &mut dlogits[first..], rows);
            let (low, high) = dlogits.split_at_mut(rows);
            let logits = [&mut low[first..][..labels.len()], &mut high[first..][..labels.len()]];
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
    /// `[2][R]`: scratch.
    pub(crate) logits: &'a mut [Line],
    /// `[R]`, overwritten.
    pub(crate) out: &'a mut [f32],
}

impl Algorithm for Probabilities<'_> {
    type Output = ();

    fn check(&self) {
        check(self.weights, self.h, self.first + self.labels.len());
        assert!(self.logits.len() == CLASS_LINES * self.labels.len() && self.out.len() == self.labels.len());
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, h, first, labels, logits, out } = self;
        let rows = labels.len();
        logits_of(s, weights, left(weights, h, first, rows), logits, rows);
        let (low, high) = logits.split_at(rows);
        softmax::probabilities(s, [low, high], &weights.classifier_bias, labels, out);
    }
}

/// The products of [`Probabilities`] and nothing else.
pub(crate) struct Logits<'a> {
    pub(crate) weights: &'a ForwardWeights,
    /// `[group][as many as there are]`.
    pub(crate) h: &'a [Line],
    /// The first row of each group that counts.
    pub(crate) first: usize,
    /// `[2][R]`, overwritten.
    pub(crate) out: &'a mut [Line],
}

impl Algorithm for Logits<'_> {
    type Output = ();

    fn check(&self) {
        assert!(self.out.len().is_multiple_of(CLASS_LINES));
        check(self.weights, self.h, self.first + self.out.len() / CLASS_LINES);
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.out.len() / CLASS_LINES;
        logits_of(s, self.weights, left(self.weights, self.h, self.first, rows), self.out, rows);
    }
}

fn check(weights: &ForwardWeights, h: &[Line], rows: usize) {
    let groups = groups(weights.nodes());
    assert!(h.len().is_multiple_of(groups) && h.len() / groups >= rows);
}

#[inline(always)]
fn left<'a>(weights: &ForwardWeights, h: &'a [Line], first: usize, rows: usize) -> Left<'a> {
    let stride = h.len() / groups(weights.nodes());
    Left { lines: h, stride, first, rows, columns: weights.nodes() }
}

/// Into planes of `stride` rows.
#[inline(always)]
fn logits_of<S: Simd>(s: S, weights: &ForwardWeights, left: Left<'_>, lines: &mut [Line], stride: usize) {
    let mut out = Out { lines, row_stride: 1, vector_stride: stride };
    product::<S, CLASS_LINES>(s, left, &weights.classifier, &mut out);
}
