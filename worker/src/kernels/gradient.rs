//! The gradients of all parameters, from what the backward pass left: sums over all rows of the step, in their order.

use super::lines::{GATES, GateLines, Line, groups, width};
use super::product::{From, GradientOut, gradient_product};
use super::simd::{Algorithm, LANES, Simd};
use super::softmax::CLASSES;

/// Rows of a block of k: 64 KiB of gates and 16 KiB of each group of h.
const BLOCK: usize = 256;

/// `h_before^T dgates` and `h_after^T dlogits`.
pub(crate) struct KernelGradients<'a> {
    /// `N`.
    pub(crate) nodes: usize,
    /// `[group][(T + 1) B]`.
    pub(crate) h: &'a [Line],
    /// `[group][T B]`: the gradients of the gates' sums.
    pub(crate) gates: &'a [GateLines],
    /// `[T B]`.
    pub(crate) dlogits: &'a [[Line; 2]],
    /// `[N, 4N]`, overwritten.
    pub(crate) recurrent_kernel: &'a mut [f32],
    /// `[N, 27]`, overwritten.
    pub(crate) classifier: &'a mut [f32],
}

impl Algorithm for KernelGradients<'_> {
    type Output = ();

    fn check(&self) {
        let groups = groups(self.nodes);
        assert_eq!(self.gates.len(), groups * self.dlogits.len());
        assert!(self.h.len().is_multiple_of(groups) && self.h.len() / groups > self.dlogits.len());
        assert_eq!(self.recurrent_kernel.len(), self.nodes * 4 * self.nodes);
        assert_eq!(self.classifier.len(), self.nodes * CLASSES);
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.nodes;
        let groups = groups(n);
        let rows = self.dlogits.len();
        let stride = self.h.len() / groups;
        for start in (0..rows).step_by(BLOCK) {
            let block = start..rows.min(start + BLOCK);
            let from = if start == 0 { From::Zero } else { From::Stored };
            for group in 0..groups {
                let right = &self.gates[group * rows..][block.clone()];
                let at = std::array::from_fn(|gate| gate * n + group * LANES);
                let widths = [width(n, group); GATES];
                for left in 0..groups {
                    let nodes = width(n, left);
                    let values = &mut self.recurrent_kernel[left * LANES * 4 * n..][..nodes * 4 * n];
                    let mut out = GradientOut { values, row_stride: 4 * n, at, widths };
                    let h_before = &self.h[left * stride..][block.clone()];
                    gradient_product(s, h_before, nodes, right, from, &mut out);
                }
            }
            for left in 0..groups {
                let nodes = width(n, left);
                let values = &mut self.classifier[left * LANES * CLASSES..][..nodes * CLASSES];
                let widths = [LANES, CLASSES - LANES];
                let mut out = GradientOut { values, row_stride: CLASSES, at: [0, LANES], widths };
                let h_after = &self.h[left * stride + stride - rows..][block.clone()];
                gradient_product(s, h_after, nodes, &self.dlogits[block.clone()], from, &mut out);
            }
        }
    }
}

/// The gradients of the input kernel, a scatter, and of both biases, sums of columns.
pub(crate) struct InputGradients<'a> {
    /// `N`.
    pub(crate) nodes: usize,
    /// `[T B]`.
    pub(crate) symbols: &'a [u8],
    /// `[group][T B]`: the gradients of the gates' sums.
    pub(crate) gates: &'a [GateLines],
    /// `[T B]`.
    pub(crate) dlogits: &'a [[Line; 2]],
    /// `[27, 4N]`, overwritten: each row of gates is added to its symbol's, in order of rows, from zero.
    pub(crate) input_kernel: &'a mut [f32],
    /// `[4N]`, overwritten; summed as [`Partial`] says.
    pub(crate) bias: &'a mut [f32],
    /// `[27]`, overwritten; summed as [`Partial`] says.
    pub(crate) classifier_bias: &'a mut [f32],
}

impl Algorithm for InputGradients<'_> {
    type Output = ();

    fn check(&self) {
        let rows = self.symbols.len();
        assert!(self.gates.len() == groups(self.nodes) * rows && self.dlogits.len() == rows);
        assert_eq!(self.input_kernel.len(), CLASSES * 4 * self.nodes);
        assert!(self.bias.len() == 4 * self.nodes && self.classifier_bias.len() == CLASSES);
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.nodes;
        for (group, rows) in self.gates.chunks_exact(self.symbols.len()).enumerate() {
            for gate in 0..GATES {
                let mut by_symbol = [Line::ZERO; CLASSES];
                let sum = column_sums(
                    s,
                    rows,
                    |row, values| {
                        let sums = &mut by_symbol[usize::from(self.symbols[row])].0;
                        s.store(s.add(s.load(sums), values), sums);
                    },
                    gate,
                );
                let at = gate * n + group * LANES;
                let at = at..at + width(n, group);
                s.store_at(sum, &mut self.bias[at.clone()], 0);
                for (sums, row) in by_symbol.iter().zip(self.input_kernel.chunks_exact_mut(4 * n)) {
                    s.store_at(s.load(&sums.0), &mut row[at.clone()], 0);
                }
            }
        }
        for place in 0..groups(CLASSES) {
            let sum = column_sums(s, self.dlogits, |_, _| (), place);
            s.store_at(sum, self.classifier_bias, place * LANES);
        }
    }
}

/// The sum of line `place` over the rows, sixteen partial sums by row mod 16, each in order of row, then lane l + 8 to
/// lane l, l + 4, l + 2, l + 1. Each row's line is handed to `also`, in order.
#[inline(always)]
fn column_sums<S: Simd, const W: usize>(
    s: S,
    rows: &[[Line; W]],
    mut also: impl FnMut(usize, S::V),
    place: usize,
) -> S::V {
    let mut partial = [s.splat(0.0); LANES];
    let (sixteens, rest) = rows.as_chunks::<LANES>();
    for (index, sixteen) in sixteens.iter().enumerate() {
        for lane in 0..LANES {
            let values = s.load(&sixteen[lane][place].0);
            also(index * LANES + lane, values);
            partial[lane] = s.add(partial[lane], values);
        }
    }
    for (lane, partial) in partial.iter_mut().enumerate() {
        if let Some(row) = rest.get(lane) {
            let values = s.load(&row[place].0);
            also(sixteens.len() * LANES + lane, values);
            *partial = s.add(*partial, values);
        }
    }
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            partial[lane] = s.add(partial[lane], partial[lane + width]);
        }
    }
    partial[0]
}

#[cfg(test)]
mod tests {
    use super::super::lines::tests::{in_gate_lines, in_lines, in_logit_lines};
    use super::super::tests::{bits, every_isa, noise, sizes};
    use super::*;

    /// `left^T right`, rows ascending, fused.
    fn naive_product(left: &[f32], right: &[f32], rows: usize) -> Vec<f32> {
        let (m, n) = (left.len() / rows, right.len() / rows);
        let mut out = vec![0.0_f32; m * n];
        for row in 0..rows {
            for (i, &a) in left[row * m..(row + 1) * m].iter().enumerate() {
                for (j, &b) in right[row * n..(row + 1) * n].iter().enumerate() {
                    out[i * n + j] = libm::fmaf(a, b, out[i * n + j]);
                }
            }
        }
        out
    }

    /// Each column's sixteen partial sums by row mod 16, then lane l + width to lane l.
    fn naive_column_sums(values: &[f32], columns: usize) -> Vec<f32> {
        let sum = |column: usize| {
            let mut lanes = [0.0_f32; 16];
            for (row, values) in values.chunks_exact(columns).enumerate() {
                lanes[row % 16] += values[column];
            }
            for width in [8, 4, 2, 1] {
                for lane in 0..width {
                    lanes[lane] += lanes[lane + width];
                }
            }
            lanes[0]
        };
        (0..columns).map(sum).collect()
    }

    /// Of each pair (N, T B), both kinds of gradients: products of a block and of several, tiles of all heights.
    #[test]
    fn the_gradients_are_the_naive_ones_bit_for_bit() {
        for [n, rows] in sizes([(1, 3), (2, 40), (17, 600), (33, 257)]) {
            const CARRIED: usize = 2;
            let symbols: Vec<u8> = (0..rows).map(|row| (row * row % 27) as u8).collect();
            let h = noise(20, (rows + CARRIED) * n);
            let (gates, dlogits) = (noise(21, rows * 4 * n), noise(22, rows * CLASSES));
            let mut by_symbol = vec![0.0_f32; CLASSES * 4 * n];
            for (&symbol, row) in symbols.iter().zip(gates.chunks_exact(4 * n)) {
                for (sum, value) in by_symbol[usize::from(symbol) * 4 * n..].iter_mut().zip(row) {
                    *sum += value;
                }
            }
            let expected = [
                naive_product(&h[..rows * n], &gates, rows),
                naive_product(&h[CARRIED * n..], &dlogits, rows),
                by_symbol,
                naive_column_sums(&gates, 4 * n),
                naive_column_sums(&dlogits, CLASSES),
            ];
            let (h, gates, dlogits) = (in_lines(&h, n), in_gate_lines(&gates, n), in_logit_lines(&dlogits));
            for kernels in every_isa() {
                let mut found = expected.clone().map(|values| vec![f32::NAN; values.len()]);
                let [recurrent_kernel, classifier, input_kernel, bias, classifier_bias] = &mut found;
                kernels.run(KernelGradients {
                    nodes: n,
                    h: &h,
                    gates: &gates,
                    dlogits: &dlogits,
                    recurrent_kernel,
                    classifier,
                });
                kernels.run(InputGradients {
                    nodes: n,
                    symbols: &symbols,
                    gates: &gates,
                    dlogits: &dlogits,
                    input_kernel,
                    bias,
                    classifier_bias,
                });
                for (tensor, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert_eq!(bits(found), bits(expected), "{:?}: {n}, {rows}, {tensor}", kernels.name());
                }
            }
        }
    }
}
