//! Bias, softmax and cross-entropy of rows of 27 logits.

use super::activation::exp;
use super::lines::Line;
use super::simd::{LANES, Simd};

/// Predictions in a row: one for each symbol.
pub(crate) const CLASSES: usize = 27;

/// Two lines of logits, of which the last five count for nothing.
pub(super) type Row = [Line; 2];

/// Rows side by side: each one's sum is a chain of additions, and eight chains keep the adders busy.
const ABREAST: usize = 8;

/// `loss` plus `ln(sum) - (l_label - max)` in nats of each row, in their order. Rows come in as the product h W and go
/// out as `(p - y) * weight`. What the bias has beyond the last class is minus infinity.
#[inline(always)]
pub(super) fn loss<S: Simd>(
    s: S,
    rows: &mut [Row],
    bias: &Row,
    labels: &[u8],
    weight: f32,
    mut loss: f64,
) -> f64 {
    let (rows, rest) = rows.as_chunks_mut::<ABREAST>();
    let (labels, rest_labels) = labels.as_chunks::<ABREAST>();
    for (rows, labels) in rows.iter_mut().zip(labels) {
        loss = loss_abreast(s, rows, bias, labels, weight, loss);
    }
    for (row, &label) in rest.iter_mut().zip(rest_labels) {
        loss = loss_abreast(s, std::array::from_mut(row), bias, &[label], weight, loss);
    }
    loss
}

/// The probability that each row, `h W`, gives to its label.
#[inline(always)]
pub(super) fn probabilities<S: Simd>(s: S, rows: &mut [Row], bias: &Row, labels: &[u8], out: &mut [f32]) {
    let (rows, rest) = rows.as_chunks_mut::<ABREAST>();
    let (labels, rest_labels) = labels.as_chunks::<ABREAST>();
    let (out, rest_out) = out.as_chunks_mut::<ABREAST>();
    for ((rows, labels), out) in rows.iter_mut().zip(labels).zip(out) {
        *out = probabilities_abreast(s, rows, bias, labels);
    }
    for ((row, &label), out) in rest.iter_mut().zip(rest_labels).zip(rest_out) {
        [*out] = probabilities_abreast(s, std::array::from_mut(row), bias, &[label]);
    }
}

#[inline(always)]
fn loss_abreast<S: Simd, const R: usize>(
    s: S,
    rows: &mut [Row; R],
    bias: &Row,
    labels: &[u8; R],
    weight: f32,
    mut loss: f64,
) -> f64 {
    let (below_max, sums) = exponentials(s, rows, bias, labels);
    for r in 0..R {
        loss += libm::log(f64::from(sums[r])) - f64::from(below_max[r]);
    }
    let weight_of_all = s.splat(weight);
    for (row, (&sum, &label)) in rows.iter_mut().zip(sums.iter().zip(labels)) {
        let sum = s.splat(sum);
        for line in row.iter_mut() {
            s.store(s.div(s.load(&line.0), sum), &mut line.0);
        }
        *of(row, label) -= 1.0;
        for line in row {
            s.store(s.mul(s.load(&line.0), weight_of_all), &mut line.0);
        }
    }
    loss
}

#[inline(always)]
fn probabilities_abreast<S: Simd, const R: usize>(
    s: S,
    rows: &mut [Row; R],
    bias: &Row,
    labels: &[u8; R],
) -> [f32; R] {
    let (_, sums) = exponentials(s, rows, bias, labels);
    std::array::from_fn(|r| *of(&mut rows[r], labels[r]) / sums[r])
}

/// Makes of each row `e^(l - max)`; gives `l_label - max`, and the sum of those in order of id.
#[inline(always)]
fn exponentials<S: Simd, const R: usize>(
    s: S,
    rows: &mut [Row; R],
    bias: &Row,
    labels: &[u8; R],
) -> ([f32; R], [f32; R]) {
    let mut below_max = [0.0; R];
    for (r, row) in rows.iter_mut().enumerate() {
        let low = s.add(s.load(&row[0].0), s.load(&bias[0].0));
        let high = s.add(s.load(&row[1].0), s.load(&bias[1].0));
        s.store(low, &mut row[0].0);
        s.store(high, &mut row[1].0);
        // Of a row with a NaN any number will do: the exponentials of that row sum to NaN whatever is subtracted.
        let max = s.max_lane(s.max(low, high));
        below_max[r] = *of(row, labels[r]) - max;
        let max = s.splat(max);
        s.store(exp(s, s.sub(low, max)), &mut row[0].0);
        s.store(exp(s, s.sub(high, max)), &mut row[1].0);
    }
    let mut sums = [0.0; R];
    for class in 0..CLASSES {
        for (sum, row) in sums.iter_mut().zip(rows.iter()) {
            *sum += row[class / LANES].0[class % LANES];
        }
    }
    (below_max, sums)
}

/// The number of one class.
#[inline(always)]
fn of(row: &mut Row, class: u8) -> &mut f32 {
    &mut row[usize::from(class) / LANES].0[usize::from(class) % LANES]
}

#[cfg(test)]
mod tests {
    use super::super::portable::Portable;
    use super::super::simd::Algorithm;
    use super::super::tests::{bits, every_isa, noise};
    use super::*;

    struct Loss<'a> {
        rows: &'a mut [Row],
        bias: Row,
        labels: &'a [u8],
        weight: f32,
    }

    impl Algorithm for Loss<'_> {
        type Output = f64;

        fn check(&self) {}

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f64 {
            loss(s, self.rows, &self.bias, self.labels, self.weight, 0.0)
        }
    }

    struct Probabilities<'a> {
        rows: &'a mut [Row],
        bias: Row,
        labels: &'a [u8],
        out: &'a mut [f32],
    }

    impl Algorithm for Probabilities<'_> {
        type Output = ();

        fn check(&self) {}

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            probabilities(s, self.rows, &self.bias, self.labels, self.out);
        }
    }

    /// Rows of 27, filled up with `beyond`.
    fn in_lines(values: &[f32], beyond: f32) -> Vec<Row> {
        let line = |row: &[f32], at: usize| {
            Line(std::array::from_fn(|lane| row.get(at + lane).copied().unwrap_or(beyond)))
        };
        values.chunks(CLASSES).map(|row| [line(row, 0), line(row, LANES)]).collect()
    }

    fn out_of_lines(rows: &[Row]) -> Vec<f32> {
        rows.iter().flat_map(|row| [&row[0].0[..], &row[1].0[..CLASSES - LANES]].concat()).collect()
    }

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
        let bias = noise(8, CLASSES);
        let padded = in_lines(&bias, f32::NEG_INFINITY)[0];
        // The second scale makes probabilities underflow; the loss stays finite.
        for (rows, scale) in [(1, 1.0), (3, 90.0), (50, 5.0)] {
            let logits: Vec<f32> = noise(9, rows * CLASSES).iter().map(|l| l * scale).collect();
            let labels: Vec<u8> = (0..rows).map(|row| (row * 5 % CLASSES) as u8).collect();
            let weight = (1.0 / rows as f64) as f32;
            let mut expected_loss = 0.0;
            let mut expected = Vec::new();
            let mut probabilities = Vec::new();
            for (row, &label) in logits.chunks(CLASSES).zip(&labels) {
                let (loss, p) = naive(row, &bias, label.into());
                probabilities.push(p[usize::from(label)]);
                expected_loss += loss;
                let y = |class: usize| if class == usize::from(label) { 1.0 } else { 0.0 };
                expected.extend(p.iter().enumerate().map(|(class, p)| (p - y(class)) * weight));
            }
            assert!(expected_loss.is_finite());
            for kernels in every_isa() {
                let mut gradient = in_lines(&logits, 0.0);
                let loss = kernels.run(Loss { rows: &mut gradient, bias: padded, labels: &labels, weight });
                assert_eq!(loss.to_bits(), expected_loss.to_bits(), "{:?}: {rows}", kernels.name());
                assert_eq!(bits(&out_of_lines(&gradient)), bits(&expected), "{:?}: {rows}", kernels.name());

                let mut found = vec![f32::NAN; rows];
                kernels.run(Probabilities {
                    rows: &mut in_lines(&logits, 0.0),
                    bias: padded,
                    labels: &labels,
                    out: &mut found,
                });
                assert_eq!(bits(&found), bits(&probabilities), "{:?}: {rows}", kernels.name());
            }
        }
    }

    #[test]
    fn a_logit_that_is_not_finite_makes_loss_and_probability_so() {
        let bias = in_lines(&[0.0; CLASSES], f32::NEG_INFINITY)[0];
        for (place, bad) in [(0, f32::NAN), (13, f32::NAN), (26, f32::NAN), (3, f32::INFINITY)] {
            for kernels in every_isa() {
                let mut row = [0.5; CLASSES];
                row[place] = bad;
                let rows = &mut in_lines(&row, 0.0);
                let mut p = [0.0];
                kernels.run(Probabilities { rows: &mut rows.clone(), bias, labels: &[7], out: &mut p });
                assert!(!p[0].is_finite(), "{:?}: {bad} at {place}", kernels.name());
                let loss = kernels.run(Loss { rows, bias, labels: &[7], weight: 1.0 });
                assert!(!loss.is_finite(), "{:?}: {bad} at {place}", kernels.name());
            }
        }
    }
}
