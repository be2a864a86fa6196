//! The LSTM cell between its products, a row of the batch at a time, all gates of a node in one pass.
//! Letters are those of `lstm`; each line below is one rounding, or names more.

use super::activation::{sigmoid, tanh};
use super::simd::{Algorithm, LANES, Simd};

/// One time step forward. `gates` comes in as the recurrent product; a gate's sum is product, plus its row of the
/// input kernel, plus its bias, in that order.
pub(crate) struct CellForward<'a> {
    /// `N`.
    pub(crate) nodes: usize,
    /// `[B]`: the row's symbol, a row of the input kernel.
    pub(crate) symbols: &'a [u8],
    /// `[27, 4N]`.
    pub(crate) input_kernel: &'a [f32],
    /// `[4N]`.
    pub(crate) bias: &'a [f32],
    /// `[B, 4N]`: in, the product h W; out, the gates i, f, g, o.
    pub(crate) gates: &'a mut [f32],
    /// `[B, N]`.
    pub(crate) c_before: &'a [f32],
    /// `[B, N]`: `fma(i, g, f * c_before)`.
    pub(crate) c: &'a mut [f32],
    /// `[B, N]`.
    pub(crate) tanh_c: &'a mut [f32],
    /// `[B, N]`: `o * tanh(c)`.
    pub(crate) h: &'a mut [f32],
}

impl Algorithm for CellForward<'_> {
    type Output = ();

    fn check(&self) {
        let [n, b] = [self.nodes, self.symbols.len()];
        assert!(self.input_kernel.len().is_multiple_of(4 * n) && self.bias.len() == 4 * n);
        assert_eq!(self.gates.len(), b * 4 * n);
        assert!([&*self.c, &*self.tanh_c, &*self.h, self.c_before].iter().all(|state| state.len() == b * n));
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.nodes;
        for (row, &symbol) in self.symbols.iter().enumerate() {
            let input = &self.input_kernel[usize::from(symbol) * 4 * n..][..4 * n];
            let gates = &mut self.gates[row * 4 * n..][..4 * n];
            let state = row * n..(row + 1) * n;
            let c_before = &self.c_before[state.clone()];
            let c = &mut self.c[state.clone()];
            let tanh_c = &mut self.tanh_c[state.clone()];
            let h = &mut self.h[state];
            for at in (0..n).step_by(LANES) {
                let i = sigmoid(s, sum(s, gates, input, self.bias, n, 0, at));
                let f = sigmoid(s, sum(s, gates, input, self.bias, n, 1, at));
                let g = tanh(s, sum(s, gates, input, self.bias, n, 2, at));
                let o = sigmoid(s, sum(s, gates, input, self.bias, n, 3, at));
                let c_new = s.fma(i, g, s.mul(f, s.load_at(c_before, at)));
                let tanh_c_new = tanh(s, c_new);
                put_gates(s, gates, n, at, [i, f, g, o]);
                s.store_at(c_new, c, at);
                s.store_at(tanh_c_new, tanh_c, at);
                s.store_at(s.mul(o, tanh_c_new), h, at);
            }
        }
    }
}

/// The sums of gate `gate` for the nodes from `at` on.
#[inline(always)]
fn sum<S: Simd>(
    s: S,
    product: &[f32],
    input: &[f32],
    bias: &[f32],
    n: usize,
    gate: usize,
    at: usize,
) -> S::V {
    let of_gate = gate * n..(gate + 1) * n;
    let product = s.load_at(&product[of_gate.clone()], at);
    let input = s.load_at(&input[of_gate.clone()], at);
    s.add(s.add(product, input), s.load_at(&bias[of_gate], at))
}

#[inline(always)]
fn put_gates<S: Simd>(s: S, gates: &mut [f32], n: usize, at: usize, values: [S::V; 4]) {
    for (gate, value) in gates.chunks_exact_mut(n).zip(values) {
        s.store_at(value, gate, at);
    }
}

/// One time step backward: what [`CellForward`] did, in reverse. A `d` before a letter is the loss's gradient by it.
pub(crate) struct CellBackward<'a> {
    /// `N`.
    pub(crate) nodes: usize,
    /// `[B, 4N]`: in, the gates i, f, g, o; out, the gradients of their sums.
    pub(crate) gates: &'a mut [f32],
    /// `[B, N]`.
    pub(crate) tanh_c: &'a [f32],
    /// `[B, N]`.
    pub(crate) c_before: &'a [f32],
    /// `[B, N]`: what reaches h through the classifier.
    pub(crate) dh_classifier: &'a [f32],
    /// `[B, N]`: what reaches h through the next time step; added to the other.
    pub(crate) dh_next: &'a [f32],
    /// `[B, N]`: in, what reaches c through the next time step; out, what reaches `c_before`.
    pub(crate) dc: &'a mut [f32],
}

impl Algorithm for CellBackward<'_> {
    type Output = ();

    fn check(&self) {
        let states = [self.tanh_c, self.c_before, self.dh_classifier, self.dh_next, &*self.dc];
        assert!(self.dc.len().is_multiple_of(self.nodes) && self.gates.len() == 4 * self.dc.len());
        assert!(states.iter().all(|state| state.len() == self.dc.len()));
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.nodes;
        let one = s.splat(1.0);
        for (row, gates) in self.gates.chunks_exact_mut(4 * n).enumerate() {
            let state = row * n..(row + 1) * n;
            let tanh_c = &self.tanh_c[state.clone()];
            let c_before = &self.c_before[state.clone()];
            let dh_classifier = &self.dh_classifier[state.clone()];
            let dh_next = &self.dh_next[state.clone()];
            let dc = &mut self.dc[state];
            for at in (0..n).step_by(LANES) {
                let i = s.load_at(&gates[..n], at);
                let f = s.load_at(&gates[n..2 * n], at);
                let g = s.load_at(&gates[2 * n..3 * n], at);
                let o = s.load_at(&gates[3 * n..], at);
                let tanh_c = s.load_at(tanh_c, at);

                let dh = s.add(s.load_at(dh_classifier, at), s.load_at(dh_next, at));
                // dc + dh o (1 - tanh^2 c)
                let dc_new = s.fma(s.mul(dh, o), s.fnma(tanh_c, tanh_c, one), s.load_at(dc, at));
                // By each gate, times the gate's slope: s (1 - s) for a sigmoid, 1 - g^2 for the tanh.
                let di = s.mul(s.mul(dc_new, g), s.mul(i, s.sub(one, i)));
                let df = s.mul(s.mul(dc_new, s.load_at(c_before, at)), s.mul(f, s.sub(one, f)));
                let dg = s.mul(s.mul(dc_new, i), s.fnma(g, g, one));
                let do_ = s.mul(s.mul(dh, tanh_c), s.mul(o, s.sub(one, o)));

                put_gates(s, gates, n, at, [di, df, dg, do_]);
                s.store_at(s.mul(dc_new, f), dc, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::portable::Portable;
    use super::super::tests::{bits, every_isa, noise};
    use super::*;

    fn one_sigmoid(x: f32) -> f32 {
        sigmoid(Portable, Portable.splat(x))[0]
    }

    fn one_tanh(x: f32) -> f32 {
        tanh(Portable, Portable.splat(x))[0]
    }

    const SIZES: [(usize, usize); 6] = [(1, 1), (3, 2), (15, 3), (16, 4), (17, 5), (70, 2)];

    #[test]
    fn the_cell_forward_is_the_naive_one_bit_for_bit() {
        for (n, b) in SIZES {
            let symbols: Vec<u8> = (0..b).map(|row| (row * 11 % 27) as u8).collect();
            let (input_kernel, bias) = (noise(10, 27 * 4 * n), noise(11, 4 * n));
            let (product, c_before) = (noise(12, b * 4 * n), noise(13, b * n));
            let mut expected_gates = product.clone();
            let mut expected = [vec![0.0; b * n], vec![0.0; b * n], vec![0.0; b * n]];
            for row in 0..b {
                for node in 0..n {
                    let sum = |gate: usize| {
                        let at = gate * n + node;
                        product[row * 4 * n + at]
                            + input_kernel[usize::from(symbols[row]) * 4 * n + at]
                            + bias[at]
                    };
                    let (i, f, o) = (one_sigmoid(sum(0)), one_sigmoid(sum(1)), one_sigmoid(sum(3)));
                    let g = one_tanh(sum(2));
                    let at = row * n + node;
                    let c = libm::fmaf(i, g, f * c_before[at]);
                    for (gate, value) in [i, f, g, o].into_iter().enumerate() {
                        expected_gates[row * 4 * n + gate * n + node] = value;
                    }
                    for (array, value) in expected.iter_mut().zip([c, one_tanh(c), o * one_tanh(c)]) {
                        array[at] = value;
                    }
                }
            }
            for kernels in every_isa() {
                let mut gates = product.clone();
                let [mut c, mut tanh_c, mut h] = [(); 3].map(|()| vec![f32::NAN; b * n]);
                kernels.run(CellForward {
                    nodes: n,
                    symbols: &symbols,
                    input_kernel: &input_kernel,
                    bias: &bias,
                    gates: &mut gates,
                    c_before: &c_before,
                    c: &mut c,
                    tanh_c: &mut tanh_c,
                    h: &mut h,
                });
                assert_eq!(bits(&gates), bits(&expected_gates), "{:?}: [{b}, {n}]", kernels.name());
                for (found, expected) in [c, tanh_c, h].iter().zip(&expected) {
                    assert_eq!(bits(found), bits(expected), "{:?}: [{b}, {n}]", kernels.name());
                }
            }
        }
    }

    #[test]
    fn the_cell_backward_is_the_naive_one_bit_for_bit() {
        for (n, b) in SIZES {
            let gates = noise(14, b * 4 * n);
            let [tanh_c, c_before, dh_classifier, dh_next, dc] =
                [15, 16, 17, 18, 19].map(|seed| noise(seed, b * n));
            let (mut expected_gates, mut expected_dc) = (gates.clone(), dc.clone());
            for row in 0..b {
                for node in 0..n {
                    let at = row * n + node;
                    let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[row * 4 * n + gate * n + node]);
                    let dh = dh_classifier[at] + dh_next[at];
                    let dc = libm::fmaf(dh * o, libm::fmaf(-tanh_c[at], tanh_c[at], 1.0), dc[at]);
                    let sums = [
                        dc * g * (i * (1.0 - i)),
                        dc * c_before[at] * (f * (1.0 - f)),
                        dc * i * libm::fmaf(-g, g, 1.0),
                        dh * tanh_c[at] * (o * (1.0 - o)),
                    ];
                    for (gate, value) in sums.into_iter().enumerate() {
                        expected_gates[row * 4 * n + gate * n + node] = value;
                    }
                    expected_dc[at] = dc * f;
                }
            }
            for kernels in every_isa() {
                let (mut gates, mut dc) = (gates.clone(), dc.clone());
                kernels.run(CellBackward {
                    nodes: n,
                    gates: &mut gates,
                    tanh_c: &tanh_c,
                    c_before: &c_before,
                    dh_classifier: &dh_classifier,
                    dh_next: &dh_next,
                    dc: &mut dc,
                });
                assert_eq!(bits(&gates), bits(&expected_gates), "{:?}: [{b}, {n}]", kernels.name());
                assert_eq!(bits(&dc), bits(&expected_dc), "{:?}: [{b}, {n}]", kernels.name());
            }
        }
    }
}
