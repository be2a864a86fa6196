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

#[cfg(test)]
mod tests {
    use super::super::portable::Portable;
    use super::super::tests::{bits, every_isa, noise};
    use super::*;

    /// One prediction, a number at a time: its loss, and its probabilities.
    fn naive(logits: &[f32], bias: &[f32], label: usize) -> (f64, Vec<f32>) {
        let logits: Vec<f32> = logits.iter().zip(bias).map(|(&l, &b)| l + b).collect();
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f32> =
            logits.iter().map(|&l| exp(Portable, Portable.splat(l - max))[0]).collect();
        let mut sum = 0.0_f32;
        for &e in &exponentials {
            sum += e;
        }
        let loss = libm::log(f64::from(sum)) - f64::from(logits[label] - max);
        (loss, exponentials.iter().map(|&e| e / sum).collect())
    }

    #[test]
    fn loss_gradient_and_probability_are_the_naive_ones_bit_for_bit() {
        let bias: [f32; CLASSES] = noise(8, CLASSES).try_into().expect("27 of them");
        // The second scale makes probabilities underflow; the loss stays finite.
        for (rows, scale) in [(1, 1.0), (3, 90.0), (50, 5.0)] {
            let logits: Vec<f32> = noise(9, rows * CLASSES).iter().map(|l| l * scale).collect();
            let labels: Vec<u8> = (0..rows).map(|row| (row * 5 % CLASSES) as u8).collect();
            let weight = (1.0 / rows as f64) as f32;
            let mut expected_loss = 0.0;
            let mut expected = Vec::new();
            for (row, &label) in logits.chunks(CLASSES).zip(&labels) {
                let (loss, p) = naive(row, &bias, label.into());
                expected_loss += loss;
                let y = |class: usize| if class == usize::from(label) { 1.0 } else { 0.0 };
                expected.extend(p.iter().enumerate().map(|(class, p)| (p - y(class)) * weight));
            }
            assert!(expected_loss.is_finite());
            for kernels in every_isa() {
                let mut gradient = logits.clone();
                let loss =
                    kernels.run(SoftmaxLoss { logits: &mut gradient, bias: &bias, labels: &labels, weight });
                assert_eq!(loss.to_bits(), expected_loss.to_bits(), "{:?}: {rows}", kernels.name());
                assert_eq!(bits(&gradient), bits(&expected), "{:?}: {rows}", kernels.name());

                let mut row: [f32; CLASSES] = logits[..CLASSES].try_into().expect("one row");
                let (_, p) = naive(&row, &bias, 26);
                let found = kernels.run(SoftmaxProbability { logits: &mut row, bias: &bias, label: 26 });
                assert_eq!(found.to_bits(), p[26].to_bits(), "{:?}", kernels.name());
            }
        }
    }

    #[test]
    fn a_logit_that_is_not_finite_makes_loss_and_probability_so() {
        let bias = [0.0; CLASSES];
        for (place, bad) in [(0, f32::NAN), (13, f32::NAN), (26, f32::NAN), (3, f32::INFINITY)] {
            for kernels in every_isa() {
                let mut row = [0.5; CLASSES];
                row[place] = bad;
                let p = kernels.run(SoftmaxProbability { logits: &mut row.clone(), bias: &bias, label: 7 });
                assert!(!p.is_finite(), "{:?}: {bad} at {place}", kernels.name());
                let loss =
                    kernels.run(SoftmaxLoss { logits: &mut row, bias: &bias, labels: &[7], weight: 1.0 });
                assert!(!loss.is_finite(), "{:?}: {bad} at {place}", kernels.name());
            }
        }
    }
}
