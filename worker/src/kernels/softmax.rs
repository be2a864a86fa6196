//! Bias, softmax and cross-entropy of rows of 27 logits, sixteen rows at a time, a row a lane: so what is done in order
//! of id within a row is done for sixteen at once.

use super::activation::exp_minus;
use super::lines::{Line, groups};
use super::simd::{LANES, Simd};

/// Predictions in a row: one for each symbol.
pub(crate) const CLASSES: usize = 27;

/// Lines of a row of logits, planes of many.
pub(crate) const CLASS_LINES: usize = groups(CLASSES);

/// The bias: two lines, of which the last five count for nothing.
pub(super) type Bias = [Line; CLASS_LINES];

/// `loss` plus `ln(sum) - (l_label - max)` in nats of each row, in their order. Rows come in as the product h W and go
/// out as the gradient: `e^(l - max)` times `weight / sum`, less `weight` at the label.
#[inline(always)]
pub(super) fn loss<S: Simd>(
    s: S,
    mut rows: [&mut [Line]; CLASS_LINES],
    bias: &Bias,
    labels: &[u8],
    weight: f32,
    mut loss: f64,
) -> f64 {
    for (chunk, labels) in labels.chunks(LANES).enumerate() {
        let mut rows = rows.each_mut().map(|plane| &mut plane[chunk * LANES..][..labels.len()]);
        let mut columns = columns(s, rows.each_ref().map(|plane| &**plane), bias);
        let max = max(s, &columns);
        let mut below_max = [0.0; LANES];
        for (lane, &label) in labels.iter().enumerate() {
            below_max[lane] = columns[usize::from(label)].0[lane];
        }
        let mut below_max = Line(below_max);
        s.store(s.sub(s.load(&below_max.0), max), &mut below_max.0);

        let sum = exponentiate(s, &mut columns, max);
        let mut sums = Line::ZERO;
        s.store(sum, &mut sums.0);
        for (&sum, &below_max) in sums.0.iter().zip(&below_max.0).take(labels.len()) {
            loss += libm::log(f64::from(sum)) - f64::from(below_max);
        }

        let factor = s.div(s.splat(weight), sum);
        for column in &mut columns[..CLASSES] {
            s.store(s.mul(s.load(&column.0), factor), &mut column.0);
        }
        put(s, &columns, rows.each_mut().map(|plane| &mut **plane));
        for (row, &label) in labels.iter().enumerate() {
            let class = usize::from(label);
            rows[class / LANES][row].0[class % LANES] -= weight;
        }
    }
    loss
}

/// The probability that each row, `h W`, gives to its label: `e^(l - max) / sum`.
#[inline(always)]
pub(super) fn probabilities<S: Simd>(
    s: S,
    rows: [&[Line]; CLASS_LINES],
    bias: &Bias,
    labels: &[u8],
    out: &mut [f32],
) {
    for (chunk, (labels, out)) in labels.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
        let rows = rows.map(|plane| &plane[chunk * LANES..][..labels.len()]);
        let mut columns = columns(s, rows, bias);
        let max = max(s, &columns);
        let sum = exponentiate(s, &mut columns, max);
        let mut of_labels = [0.0; LANES];
        for (lane, &label) in labels.iter().enumerate() {
            of_labels[lane] = columns[usize::from(label)].0[lane];
        }
        s.store_at(s.div(s.load(&of_labels), sum), out, 0);
    }
}

/// Columns of sixteen rows; those beyond the last class count for nothing.
type Columns = [Line; CLASS_LINES * LANES];

/// The rows, at most sixteen, plus the bias, as columns; lanes without a row are zero.
#[inline(always)]
fn columns<S: Simd>(s: S, rows: [&[Line]; CLASS_LINES], bias: &Bias) -> Columns {
    let mut columns = [Line::ZERO; CLASS_LINES * LANES];
    for ((columns, rows), bias) in columns.as_chunks_mut::<LANES>().0.iter_mut().zip(rows).zip(bias) {
        let bias = s.load(&bias.0);
        let mut square = [s.splat(0.0); LANES];
        for (values, row) in square.iter_mut().zip(rows) {
            *values = s.add(s.load(&row.0), bias);
        }
        for (column, values) in columns.iter_mut().zip(s.transpose(square)) {
            s.store(values, &mut column.0);
        }
    }
    columns
}

/// The reverse, without a bias.
#[inline(always)]
fn put<S: Simd>(s: S, columns: &Columns, rows: [&mut [Line]; CLASS_LINES]) {
    for (columns, rows) in columns.as_chunks::<LANES>().0.iter().zip(rows) {
        let mut square = [s.splat(0.0); LANES];
        for (values, column) in square.iter_mut().zip(columns) {
            *values = s.load(&column.0);
        }
        for (values, row) in s.transpose(square).into_iter().zip(rows) {
            s.store(values, &mut row.0);
        }
    }
}

/// Of each row. Of one with a NaN any number will do: its exponentials sum to NaN whatever is subtracted.
#[inline(always)]
fn max<S: Simd>(s: S, columns: &Columns) -> S::V {
    let mut max = s.load(&columns[0].0);
    for column in &columns[1..CLASSES] {
        max = s.max(s.load(&column.0), max);
    }
    max
}

/// Makes `e^(l - max)` of the columns; gives their sum in order of id.
#[inline(always)]
fn exponentiate<S: Simd>(s: S, columns: &mut Columns, max: S::V) -> S::V {
    let mut sum = s.splat(0.0);
    for column in &mut columns[..CLASSES] {
        let e = exp_minus(s, s.sub(max, s.load(&column.0)));
        s.store(e, &mut column.0);
        sum = s.add(sum, e);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::lines::tests::{in_lines, out_of_lines};
    use super::super::portable::Portable;
    use super::super::simd::Algorithm;
    use super::super::tests::{bits, every_isa, noise};
    use super::*;

    struct Loss<'a> {
        rows: &'a mut [Line],
        bias: Bias,
        labels: &'a [u8],
        weight: f32,
    }

    impl Algorithm for Loss<'_> {
        type Output = f64;

        fn check(&self) {}

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f64 {
            let (low, high) = self.rows.split_at_mut(self.labels.len());
            loss(s, [low, high], &self.bias, self.labels, self.weight, 0.0)
        }
    }

    struct Probabilities<'a> {
        rows: &'a [Line],
        bias: Bias,
        labels: &'a [u8],
        out: &'a mut [f32],
    }

    impl Algorithm for Probabilities<'_> {
        type Output = ();

        fn check(&self) {}

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let (low, high) = self.rows.split_at(self.labels.len());
            probabilities(s, [low, high], &self.bias, self.labels, self.out);
        }
    }

    fn bias_lines(bias: &[f32]) -> Bias {
        let lines = in_lines(bias, CLASSES);
        [lines[0], lines[1]]
    }

    /// One prediction, a number at a time: its loss, and its exponentials with their sum.
    fn naive(logits: &[f32], bias: &[f32], label: usize) -> (f64, f32, Vec<f32>) {
        let logits: Vec<f32> = logits.iter().zip(bias).map(|(&l, &b)| l + b).collect();
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f32> =
            logits.iter().map(|&l| exp_minus(Portable, Portable.splat(max - l))[0]).collect();
        let mut sum = 0.0_f32;
        for &e in &exponentials {
            sum += e;
        }
        let loss = libm::log(f64::from(sum)) - f64::from(logits[label] - max);
        (loss, sum, exponentials)
    }

    #[test]
    fn loss_gradient_and_probability_are_the_naive_ones_bit_for_bit() {
        let bias = noise(8, CLASSES);
        let padded = bias_lines(&bias);
        // The second scale makes probabilities underflow; the loss stays finite.
        for (rows, scale) in [(1, 1.0), (3, 90.0), (50, 5.0)] {
            let logits: Vec<f32> = noise(9, rows * CLASSES).iter().map(|l| l * scale).collect();
            let labels: Vec<u8> = (0..rows).map(|row| (row * 5 % CLASSES) as u8).collect();
            let weight = (1.0 / rows as f64) as f32;
            let mut expected_loss = 0.0;
            let mut expected = Vec::new();
            let mut probabilities = Vec::new();
            for (row, &label) in logits.chunks(CLASSES).zip(&labels) {
                let (loss, sum, e) = naive(row, &bias, label.into());
                probabilities.push(e[usize::from(label)] / sum);
                expected_loss += loss;
                let y = |class: usize| if class == usize::from(label) { weight } else { 0.0 };
                expected.extend(e.iter().enumerate().map(|(class, e)| e * (weight / sum) - y(class)));
            }
            assert!(expected_loss.is_finite());
            for kernels in every_isa() {
                let mut gradient = in_lines(&logits, CLASSES);
                let loss = kernels.run(Loss { rows: &mut gradient, bias: padded, labels: &labels, weight });
                assert_eq!(loss.to_bits(), expected_loss.to_bits(), "{:?}: {rows}", kernels.name());
                assert_eq!(
                    bits(&out_of_lines(&gradient, CLASSES)),
                    bits(&expected),
                    "{:?}: {rows}",
                    kernels.name()
                );

                let mut found = vec![f32::NAN; rows];
                kernels.run(Probabilities {
                    rows: &in_lines(&logits, CLASSES),
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
        let bias = bias_lines(&[0.0; CLASSES]);
        for (place, bad) in [(0, f32::NAN), (13, f32::NAN), (26, f32::NAN), (3, f32::INFINITY)] {
            for kernels in every_isa() {
                let mut row = [0.5; CLASSES];
                row[place] = bad;
                let rows = &mut in_lines(&row, CLASSES);
                let mut p = [0.0];
                kernels.run(Probabilities { rows, bias, labels: &[7], out: &mut p });
                assert!(!p[0].is_finite(), "{:?}: {bad} at {place}", kernels.name());
                let loss = kernels.run(Loss { rows, bias, labels: &[7], weight: 1.0 });
                assert!(!loss.is_finite(), "{:?}: {bad} at {place}", kernels.name());
            }
        }
    }
}
