//! The gradients of all parameters, from what the backward pass left: sums over all rows of the step, in their order.

use std::ops::Range;

use super::lines::{GATES, Line, groups, width};
use super::product::{From, GradientOut, gradient_product, panel_vectors};
use super::simd::{Algorithm, LANES, Simd};
use super::softmax::{CLASS_LINES, CLASSES};

/// Rows of a block of k. Of one vector a tile, left and right factor fill three quarters of a first cache of 32 KiB; of
/// four, the right one is read from the second cache.
#[inline(always)]
const fn block<S: Simd>() -> usize {
    if S::TILE_VECTORS == 1 { 320 } else { 256 }
}

/// The gradients of all that makes a gate's sum: the recurrent kernel's, `h_before^T dgates`; the input kernel's, a
/// scatter; the bias's, sums of columns.
pub(crate) struct GateGradients<'a> {
    /// `N`.
    pub(crate) nodes: usize,
    /// `[T B]`.
    pub(crate) symbols: &'a [u8],
    /// `[group][(T + 1) B]`.
    pub(crate) h: &'a [Line],
    /// `[gate][group][T B]`: the gradients of the gates' sums.
    pub(crate) gates: &'a [Line],
    /// `[N, 4N]`, overwritten.
    pub(crate) recurrent_kernel: &'a mut [f32],
    /// `[27, 4N]`, overwritten: each row of gates is added to its symbol's, in order of rows, from zero.
    pub(crate) input_kernel: &'a mut [f32],
    /// `[4N]`, overwritten; summed as [`column_sums`] says.
    pub(crate) bias: &'a mut [f32],
}

impl Algorithm for GateGradients<'_> {
    type Output = ();

    fn check(&self) {
        let (n, rows, groups) = (self.nodes, self.symbols.len(), groups(self.nodes));
        assert_eq!(self.gates.len(), GATES * groups * rows);
        assert!(self.h.len().is_multiple_of(groups) && self.h.len() / groups > rows);
        assert!(self.recurrent_kernel.len() == n * 4 * n && self.input_kernel.len() == CLASSES * 4 * n);
        assert_eq!(self.bias.len(), 4 * n);
    }

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = self.symbols.len();
        for start in (0..rows).step_by(block::<S>()) {
            let block = start..rows.min(start + block::<S>());
            for group in 0..groups(self.nodes) {
                if panel_vectors::<S>(GATES) == GATES {
                    self.products::<S, GATES>(s, group, 0, &block);
                    continue;
                }
                for gate in 0..GATES {
                    self.products::<S, 1>(s, group, gate, &block);
                }
            }
        }
        self.sums(s);
    }
}

impl GateGradients<'_> {
    /// By the states of all nodes, `V` gates of one group from number `first` on: over a block of rows.
    #[inline(always)]
    fn products<S: Simd, const V: usize>(&mut self, s: S, group: usize, first: usize, block: &Range<usize>) {
        let (n, rows) = (self.nodes, self.symbols.len());
        let (groups, stride) = (groups(n), self.h.len() / groups(n));
        let right: [&[Line]; V] = std::array::from_fn(|gate| {
            &self.gates[((first + gate) * groups + group) * rows..][block.clone()]
        });
        let at = std::array::from_fn(|gate| (first + gate) * n + group * LANES);
        let widths = [width(n, group); V];
        for left in 0..groups {
            let nodes = width(n, left);
            let values = &mut self.recurrent_kernel[left * LANES * 4 * n..][..nodes * 4 * n];
            let mut out = GradientOut { values, row_stride: 4 * n, at, widths };
            let h_before = &self.h[left * stride..][block.clone()];
            gradient_product(s, h_before, nodes, right, From::at(block), &mut out);
        }
    }

    #[inline(always)]
    fn sums<S: Simd>(&mut self, s: S) {
        let n = self.nodes;
        for (plane, values) in self.gates.chunks_exact(self.symbols.len()).enumerate() {
            let (gate, group) = (plane / groups(n), plane % groups(n));
            let mut by_symbol = [Line::ZERO; CLASSES];
            let sum = column_sums(s, values, |row, values| {
                let sums = &mut by_symbol[usize::from(self.symbols[row])].0;
                s.store(s.add(s.load(sums), values), sums);
            });
            let at = gate * n + group * LANES;
            let at = at..at + width(n, group);
            s.store_at(sum, &mut self.bias[at.clone()], 0);
            for (sums, row) in by_symbol.iter().zip(self.input_kernel.chunks_exact_mut(4 * n)) {
                s.store_at(s.load(&sums.0), &mut row[at.clone()], 0);
            }
        }
    }
}

/// The gradients of the classifier, `h_after^T dlogits`, and of its bias, sums of columns.
pub(crate) struct ClassifierGradients<'a> {
    /// `N`.
    pub(crate) nodes: usize,
    /// `[group][(T + 1) B]`.
    pub(crate) h: &'a [Line],
    /// `[2][T B]`.
    pub(crate) dlogits: &'a [Line],
    /// `[N, 27]`, overwritten.
    pub(crate) classifier: &'a mut [f32],
    /// `[27]`, overwritten; summed as [`column_sums`] says.
    pub(crate) classifier_bias: &'a mut [f32],
}

impl Algorithm for ClassifierGradients<'_> {
    type Output = ();

    fn check(&self) {
        let groups = groups(self.nodes);
        assert!(self.dlogits.len().is_multiple_of(CLASS_LINES));
        assert!(self.h.len().is_multiple_of(groups) && self.h.len() / groups > self.rows());
        assert!(self.classifier.len() == self.nodes * CLASSES && self.classifier_bias.len() == CLASSES);
    }

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = self.rows();
        for start in (0..rows).step_by(block::<S>()) {
            let block = start..rows.min(start + block::<S>());
            if panel_vectors::<S>(CLASS_LINES) == CLASS_LINES {
                self.products::<S, CLASS_LINES>(s, 0, &block);
                continue;
            }
            for place in 0..CLASS_LINES {
                self.products::<S, 1>(s, place, &block);
            }
        }
        for (place, values) in self.dlogits.chunks_exact(rows).enumerate() {
            let sum = column_sums(s, values, |_, _| ());
            s.store_at(sum, self.classifier_bias, place * LANES);
        }
    }
}

impl ClassifierGradients<'_> {
    /// `T B`.
    #[inline(always)]
    fn rows(&self) -> usize {
        self.dlogits.len() / CLASS_LINES
    }

    /// By the states of all nodes, `V` lines of the logits from number `first` on: over a block of rows.
    #[inline(always)]
    fn products<S: Simd, const V: usize>(&mut self, s: S, first: usize, block: &Range<usize>) {
        let (n, rows) = (self.nodes, self.rows());
        let stride = self.h.len() / groups(n);
        let right: [&[Line]; V] =
            std::array::from_fn(|place| &self.dlogits[(first + place) * rows..][block.clone()]);
        let at = std::array::from_fn(|place| (first + place) * LANES);
        let widths = std::array::from_fn(|place| width(CLASSES, first + place));
        for left in 0..groups(n) {
            let nodes = width(n, left);
            let values = &mut self.classifier[left * LANES * CLASSES..][..nodes * CLASSES];
            let mut out = GradientOut { values, row_stride: CLASSES, at, widths };
            let h_after = &self.h[left * stride + stride - rows..][block.clone()];
            gradient_product(s, h_after, nodes, right, From::at(block), &mut out);
        }
    }
}

/// The sum over the rows of a plane, sixteen partial sums by row mod 16, each in order of row, then lane l + 8 to
/// lane l, l + 4, l + 2, l + 1. Each row is handed to `also`, in order.
#[inline(always)]
fn column_sums<S: Simd>(s: S, rows: &[Line], mut also: impl FnMut(usize, S::V)) -> S::V {
    let mut partial = [s.splat(0.0); LANES];
    let (sixteens, rest) = rows.as_chunks::<LANES>();
    for (index, sixteen) in sixteens.iter().enumerate() {
        for lane in 0..LANES {
            let values = s.load(&sixteen[lane].0);
            also(index * LANES + lane, values);
            partial[lane] = s.add(partial[lane], values);
        }
    }
    for (lane, partial) in partial.iter_mut().enumerate() {
        if let Some(row) = rest.get(lane) {
            let values = s.load(&row.0);
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
    use super::super::lines::tests::{in_gate_lines, in_lines};
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
            let (h, gates, dlogits) =
                (in_lines(&h, n), in_gate_lines(&gates, n), in_lines(&dlogits, CLASSES));
            for kernels in every_isa() {
                let mut found = expected.clone().map(|values| vec![f32::NAN; values.len()]);
                let [recurrent_kernel, classifier, input_kernel, bias, classifier_bias] = &mut found;
                kernels.for_columns(n).run(GateGradients {
                    nodes: n,
                    symbols: &symbols,
                    h: &h,
                    gates: &gates,
                    recurrent_kernel,
                    input_kernel,
                    bias,
                });
                kernels.run(ClassifierGradients {
                    nodes: n,
                    h: &h,
                    dlogits: &dlogits,
                    classifier,
                    classifier_bias,
                });
                for (tensor, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert_eq!(bits(found), bits(expected), "{:?}: {n}, {rows}, {tensor}", kernels.name());
                }
            }
        }
    }
}
