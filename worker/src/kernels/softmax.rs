//! The classifier's end: bias, softmax and cross-entropy of rows of 27 logits.

use super::activation::exp;
use super::simd::{Algorithm, LANES, Simd};

/// Predictions in a row: one for each symbol.
pub(crate) const CLASSES: usize = 27;

/// Loss of each row's label and the gradient by each row's logits.
pub(crate) struct SoftmaxLoss<'a> {
    /// `[R, 27]`: in, the product h W; out, `(p - y) * weight`, y being 1 at the label and 0 elsewhere.
    pub(crate) logits: &'a mut [f32],
    /// `[27]`: added to the product.
    pub(crate) bias: &'a [f32; CLASSES],
    /// `[R]`.
    pub(crate) labels: &'a [u8],
    /// What a row counts for in the gradient: one part in all predictions of the step.
    pub(crate) weight: f32,
}

impl Algorithm for SoftmaxLoss<'_> {
    /// The sum over rows, in their order, of `ln(sum) - (l_label - max)` in nats.
    type Output = f64;

    fn check(&self) {
        assert_eq!(self.logits.len(), self.labels.len() * CLASSES);
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let mut loss = 0.0;
        let weight = s.splat(self.weight);
        for (row, &label) in self.logits.as_chunks_mut::<CLASSES>().0.iter_mut().zip(self.labels) {
            let label = usize::from(label);
            let max = add_bias(s, row, self.bias);
            let label_below_max = row[label] - max;
            let sum = exponentials(s, row, max);
            loss += libm::log(f64::from(sum)) - f64::from(label_below_max);

            let sum = s.splat(sum);
            for at in [0, LANES] {
                s.store_at(s.div(s.load_at(row, at), sum), row, at);
            }
            row[label] -= 1.0;
            for at in [0, LANES] {
                s.store_at(s.mul(s.load_at(row, at), weight), row, at);
            }
        }
        loss
    }
}

/// The probability that one row of logits gives to one symbol.
pub(crate) struct SoftmaxProbability<'a> {
    /// `[27]`: in, the product h W; out, exponentials of no further use.
    pub(crate) logits: &'a mut [f32; CLASSES],
    /// `[27]`: added to the product.
    pub(crate) bias: &'a [f32; CLASSES],
    /// Whose probability.
    pub(crate) label: u8,
}

impl Algorithm for SoftmaxProbability<'_> {
    type Output = f32;

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let max = add_bias(s, self.logits, self.bias);
        let sum = exponentials(s, self.logits, max);
        self.logits[usize::from(self.label)] / sum
    }
}

/// Adds the bias and gives the row's maximum. Of a row with a NaN it may give any number: [`exponentials`] of that row
/// sum to NaN whatever is subtracted.
#[inline(always)]
fn add_bias<S: Simd>(s: S, row: &mut [f32; CLASSES], bias: &[f32; CLASSES]) -> f32 {
    let low = s.add(s.load_at(row, 0), s.load_at(bias, 0));
    let high = s.add(s.load_at(row, LANES), s.load_at(bias, LANES));
    s.store_at(low, row, 0);
    s.store_at(high, row, LANES);
    let mut max = row[0];
    for &logit in &row[1..] {
        max = if logit > max { logit } else { max };
    }
    max
}

/// `e^(l - max)` in place; their sum in order of id.
#[inline(always)]
fn exponentials<S: Simd>(s: S, row: &mut [f32; CLASSES], max: f32) -> f32 {
    let max = s.splat(max);
    for at in [0, LANES] {
        s.store_at(exp(s, s.sub(s.load_at(row, at), max)), row, at);
    }
    let mut sum = 0.0;
    for &e in row.iter() {
        sum += e;
    }
    sum
}
