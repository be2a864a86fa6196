//! A time step forward and backward: the product that couples it to its neighbour, and the cell right behind it, while
//! what the product left is in the first cache.

use std::hint::black_box;

use super::cell::{self, Gates, Reaching, load_gates, store_gates};
use super::lines::{GATES, GateLines, Line, groups};
use super::pack::{BackwardWeights, ForwardWeights, panels};
use super::product::{GateRows, LogitRows, Out, StateRows, product, row_times_gate_panels};
use super::simd::{Algorithm, Simd};
use super::softmax::CLASSES;

/// Time step t forward.
pub(crate) struct TimeStepForward<'a> {
    pub(crate) weights: &'a ForwardWeights,
    pub(crate) t: usize,
    /// `[B]`.
    pub(crate) symbols: &'a [u8],
    /// `[group][(T + 1) B]`: rows t B to (t + 1) B come in, the B after them go out. So for c.
    pub(crate) h: &'a mut [Line],
    pub(crate) c: &'a mut [Line],
    /// `[group][T B]`: rows t B to (t + 1) B go out. So for the gates.
    pub(crate) tanh_c: &'a mut [Line],
    pub(crate) gates: &'a mut [GateLines],
}

impl Algorithm for TimeStepForward<'_> {
    type Output = ();

    fn check(&self) {
        let [groups, b] = [groups(self.weights.nodes()), self.symbols.len()];
        assert!(self.gates.len().is_multiple_of(groups) && self.gates.len() >= groups * (self.t + 1) * b);
        assert_eq!(self.tanh_c.len(), self.gates.len());
        assert!([&*self.h, self.c].iter().all(|state| state.len() == self.gates.len() + groups * b));
    }

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let nodes = self.weights.nodes();
        if self.symbols.len() > 1 {
            for group in 0..groups(nodes) {
                self.recurrent_product(s, group);
                self.cells(s, group);
            }
            return;
        }
        let mut group = 0;
        while group < groups(nodes) {
            group += match groups(nodes) - group {
                4.. => self.one_row::<S, 4>(s, group),
                2.. => self.one_row::<S, 2>(s, group),
                _ => self.one_row::<S, 1>(s, group),
            };
        }
    }
}

impl TimeStepForward<'_> {
    /// Rows of a group of gates.
    #[inline(always)]
    fn rows(&self) -> usize {
        self.gates.len() / groups(self.weights.nodes())
    }

    #[inline(always)]
    fn recurrent_product<S: Simd>(&mut self, s: S, group: usize) {
        let (n, b, rows) = (self.weights.nodes(), self.symbols.len(), self.rows());
        let left = StateRows { lines: self.h, stride: rows + b, first: self.t * b, rows: b, nodes: n };
        let gates = &mut self.gates[group * rows + self.t * b..][..b];
        let mut out = Out { lines: gates.as_flattened_mut(), row_stride: GATES, vector_stride: 1 };
        product(s, left, b, &self.weights.recurrent[group * n..][..n], &mut out);
    }

    /// Sums of `P` groups from number `first` on, and the cells of those; gives P.
    #[inline(always)]
    fn one_row<S: Simd, const P: usize>(&mut self, s: S, first: usize) -> usize {
        let sums = row_sums::<S, P>(s, self.weights, self.h, self.rows() + 1, self.t, first);
        for (p, sums) in sums.into_iter().enumerate() {
            let place = (first + p) * self.rows() + self.t;
            store_gates(s, sums, &mut self.gates[place]);
        }
        for group in first..first + P {
            self.cells(s, group);
        }
        P
    }

    /// From the products to h, for one group of all rows.
    #[inline(always)]
    fn cells<S: Simd>(&mut self, s: S, group: usize) {
        let (b, rows) = (self.symbols.len(), self.rows());
        let groups = groups(self.weights.nodes());
        let (in_gates, in_state) = (group * rows + self.t * b, group * (rows + b) + self.t * b);
        let bias = load_gates(s, &self.weights.bias[group]);
        let gates = &mut self.gates[in_gates..][..b];
        let tanh_c = &mut self.tanh_c[in_gates..][..b];
        let (c_before, c) = self.c[in_state..][..2 * b].split_at_mut(b);
        let h = &mut self.h[in_state + b..][..b];
        for (row, &symbol) in self.symbols.iter().enumerate() {
            let input = &self.weights.input[usize::from(symbol) * groups + group];
            let product = load_gates(s, &gates[row]);
            let cell = cell::forward(s, product, input, bias, &c_before[row]);
            store_gates(s, cell.gates, &mut gates[row]);
            s.store(cell.c, &mut c[row].0);
            s.store(cell.tanh_c, &mut tanh_c[row].0);
            s.store(cell.h, &mut h[row].0);
        }
    }
}

/// Time step t backward.
pub(crate) struct TimeStepBackward<'a> {
    pub(crate) weights: &'a BackwardWeights,
    /// `B`.
    pub(crate) batch_size: usize,
    pub(crate) t: usize,
    /// `[T B]`: the gradient by the logits.
    pub(crate) dlogits: &'a [[Line; 2]],
    /// `[group][(T + 1) B]`.
    pub(crate) c: &'a [Line],
    /// `[group][T B]`.
    pub(crate) tanh_c: &'a [Line],
    /// `[group][T B]`: rows of t come in as the gates i, f, g, o and go out as the gradients of their sums; those of t + 1
    /// have gone out.
    pub(crate) gates: &'a mut [GateLines],
    /// `[group][B]`: in, what reaches c through time step t + 1; out, what reaches the c before. The last t begins at 0.
    pub(crate) dc: &'a mut [Line],
    /// `[2][groups of a panel][B]`: what reaches h through time step t + 1 and through the classifier.
    pub(crate) dh: &'a mut [Line],
}

impl Algorithm for TimeStepBackward<'_> {
    type Output = ();

    fn check(&self) {
        let [groups, b] = [groups(self.weights.nodes()), self.batch_size];
        let rows = self.dlogits.len();
        assert!(self.t < rows / b && self.gates.len() == groups * rows);
        assert!(self.tanh_c.len() == groups * rows && self.c.len() == groups * (rows + b));
        assert!(self.dc.len() == groups * b && self.dh.len() == dh_lines(self.weights.nodes(), b));
    }

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for panel in panels(self.weights.nodes()) {
            match panel.len() {
                1 => self.panel::<S, 1>(s, panel.start),
                2 => self.panel::<S, 2>(s, panel.start),
                3 => self.panel::<S, 3>(s, panel.start),
                _ => self.panel::<S, 4>(s, panel.start),
            }
        }
    }
}

/// Lines of [`TimeStepBackward::dh`].
pub(crate) fn dh_lines(nodes: usize, batch_size: usize) -> usize {
    2 * batch_size * panels(nodes).map(|panel| panel.len()).max().unwrap_or(0)
}

impl TimeStepBackward<'_> {
    #[inline(always)]
    fn panel<S: Simd, const C: usize>(&mut self, s: S, first: usize) {
        let [n, b] = [self.weights.nodes(), self.batch_size];
        let rows = self.dlogits.len();
        let (recurrent, classifier) = self.weights.panel::<C>(&(first..first + C));
        let (through_next, through_classifier) = self.dh[..2 * C * b].split_at_mut(C * b);
        let next = (self.t + 1) * b;
        if next < rows {
            let left = GateRows { lines: self.gates, stride: rows, first: next, rows: b, nodes: n };
            product(s, left, b, recurrent, &mut Out { lines: through_next, row_stride: 1, vector_stride: b });
        } else {
            through_next.fill(Line::ZERO);
        }
        let left = LogitRows { lines: &self.dlogits[self.t * b..][..b], columns: CLASSES };
        let mut out = Out { lines: through_classifier, row_stride: 1, vector_stride: b };
        product(s, left, b, classifier, &mut out);
        for place in 0..C {
            self.cells(s, first + place, place, C);
        }
    }

    /// From what reaches h to the gradients of the sums, for one group of all rows.
    #[inline(always)]
    fn cells<S: Simd>(&mut self, s: S, group: usize, place: usize, across: usize) {
        let b = self.batch_size;
        let rows = self.dlogits.len();
        let (in_gates, in_state) = (group * rows + self.t * b, group * (rows + b) + self.t * b);
        let through_next = &self.dh[place * b..][..b];
        let through_classifier = &self.dh[(across + place) * b..][..b];
        let gates = &mut self.gates[in_gates..][..b];
        let tanh_c = &self.tanh_c[in_gates..][..b];
        let c_before = &self.c[in_state..][..b];
        let dc = &mut self.dc[group * b..][..b];
        for row in 0..b {
            let dh = s.add(s.load(&through_classifier[row].0), s.load(&through_next[row].0));
            let reaching = Reaching {
                tanh_c: s.load(&tanh_c[row].0),
                c_before: s.load(&c_before[row].0),
                dh,
                dc: s.load(&dc[row].0),
            };
            let (dgates, dc_before) = cell::backward(s, load_gates(s, &gates[row]), &reaching);
            store_gates(s, dgates, &mut gates[row]);
            s.store(dc_before, &mut dc[row].0);
        }
    }
}

/// Characters one after another at batch 1, as validation has them: h of each is kept, all else overwritten.
pub(crate) struct Reading<'a> {
    pub(crate) weights: &'a ForwardWeights,
    /// As many as are read.
    pub(crate) symbols: &'a [u8],
    /// `[group][more than symbols]`: the first row of each group comes in, one row a symbol goes out.
    pub(crate) h: &'a mut [Line],
    /// `[group]`.
    pub(crate) c: &'a mut [Line],
}

impl Algorithm for Reading<'_> {
    type Output = ();

    fn check(&self) {
        let groups = groups(self.weights.nodes());
        assert!(self.h.len().is_multiple_of(groups) && self.h.len() / groups > self.symbols.len());
        assert_eq!(self.c.len(), groups);
    }

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let groups = groups(self.weights.nodes());
        for at in 0..self.symbols.len() {
            let mut group = 0;
            while group < groups {
                group += match groups - group {
                    4.. => self.read::<S, 4>(s, at, group),
                    2.. => self.read::<S, 2>(s, at, group),
                    _ => self.read::<S, 1>(s, at, group),
                };
            }
        }
    }
}

impl Reading<'_> {
    /// Number `at` in `P` groups from number `first` on; gives P.
    #[inline(always)]
    fn read<S: Simd, const P: usize>(&mut self, s: S, at: usize, first: usize) -> usize {
        let n = self.weights.nodes();
        let groups = groups(n);
        let stride = self.h.len() / groups;
        let sums = row_sums::<S, P>(s, self.weights, self.h, stride, at, first);
        let symbol = usize::from(self.symbols[at]);
        for (p, sums) in sums.into_iter().enumerate() {
            let group = first + p;
            let bias = load_gates(s, &self.weights.bias[group]);
            let input = &self.weights.input[symbol * groups + group];
            let cell = cell::forward(s, sums, input, bias, &self.c[group]);
            s.store(cell.c, &mut self.c[group].0);
            s.store(cell.h, &mut self.h[group * stride + at + 1].0);
        }
        P
    }
}

/// The recurrent products of [`Reading`] and nothing else: what it would take if all else were free.
pub(crate) struct ReadingProducts<'a> {
    pub(crate) weights: &'a ForwardWeights,
    /// How many characters.
    pub(crate) characters: usize,
    /// `[group][more than characters]`.
    pub(crate) h: &'a [Line],
}

impl Algorithm for ReadingProducts<'_> {
    type Output = ();

    fn check(&self) {
        let groups = groups(self.weights.nodes());
        assert!(self.h.len().is_multiple_of(groups) && self.h.len() / groups > self.characters);
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let groups = groups(self.weights.nodes());
        for at in 0..self.characters {
            let mut group = 0;
            while group < groups {
                group += match groups - group {
                    4.. => self.multiply::<S, 4>(s, at, group),
                    2.. => self.multiply::<S, 2>(s, at, group),
                    _ => self.multiply::<S, 1>(s, at, group),
                };
            }
        }
    }
}

impl ReadingProducts<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const P: usize>(&self, s: S, at: usize, first: usize) -> usize {
        let stride = self.h.len() / groups(self.weights.nodes());
        let sums = row_sums::<S, P>(s, self.weights, self.h, stride, at, first);
        let mut out = [[Line::ZERO; GATES]; P];
        for (out, sums) in out.iter_mut().zip(sums) {
            store_gates(s, sums, out);
        }
        black_box(&out);
        P
    }
}

/// The recurrent products of row `row` of h, `[group][stride]`, for the gates of `P` groups from number `first` on.
#[inline(always)]
fn row_sums<S: Simd, const P: usize>(
    s: S,
    weights: &ForwardWeights,
    h: &[Line],
    stride: usize,
    row: usize,
    first: usize,
) -> [Gates<S::V>; P] {
    let n = weights.nodes();
    let panels = std::array::from_fn(|p| &weights.recurrent[(first + p) * n..][..n]);
    row_times_gate_panels(s, StateRows { lines: h, stride, first: row, rows: 1, nodes: n }, panels)
}

#[cfg(test)]
mod tests {
    use super::super::activation::{sigmoid, tanh};
    use super::super::lines::tests::{
        in_gate_lines, in_lines, in_logit_lines, out_of_gate_lines, out_of_lines,
    };
    use super::super::pack::{PackBackward, PackForward, Weights};
    use super::super::portable::Portable;
    use super::super::simd::LANES;
    use super::super::tests::{bits, every_isa, noise, sizes};
    use super::*;

    fn one_sigmoid(x: f32) -> f32 {
        sigmoid(Portable, Portable.splat(x))[0]
    }

    fn one_tanh(x: f32) -> f32 {
        tanh(Portable, Portable.splat(x))[0]
    }

    struct Model([Vec<f32>; 5]);

    impl Model {
        fn new(n: usize) -> Self {
            let lengths = [27 * 4 * n, n * 4 * n, 4 * n, n * 27, 27];
            let mut seed = 30;
            Self(lengths.map(|len| {
                seed += 1;
                noise(seed, len)
            }))
        }

        fn weights(&self) -> Weights<'_> {
            let [input_kernel, recurrent_kernel, bias, classifier, classifier_bias] = &self.0;
            Weights { input_kernel, recurrent_kernel, bias, classifier, classifier_bias }
        }
    }

    /// `a[0] b(0) + a[1] b(1) + ...` with k ascending from zero, fused.
    fn dot(a: &[f32], b: impl Fn(usize) -> f32) -> f32 {
        let mut sum = 0.0;
        for (k, &a) in a.iter().enumerate() {
            sum = libm::fmaf(a, b(k), sum);
        }
        sum
    }

    /// Gates, c, tanh c and h of one row after another.
    fn naive_forward(model: &Model, n: usize, symbols: &[u8], h: &[f32], c: &[f32]) -> [Vec<f32>; 4] {
        let Weights { input_kernel, recurrent_kernel, bias, .. } = model.weights();
        let mut out = [const { Vec::new() }; 4];
        for (row, &symbol) in symbols.iter().enumerate() {
            let (h, c) = (&h[row * n..(row + 1) * n], &c[row * n..(row + 1) * n]);
            let sum = |at: usize| {
                let product = dot(h, |k| recurrent_kernel[k * 4 * n + at]);
                product + input_kernel[usize::from(symbol) * 4 * n + at] + bias[at]
            };
            let mut gates: Vec<f32> = (0..4 * n).map(sum).collect();
            for (at, gate) in gates.iter_mut().enumerate() {
                *gate = if at / n == 2 { one_tanh(*gate) } else { one_sigmoid(*gate) };
            }
            for node in 0..n {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * n + node]);
                let c = libm::fmaf(i, g, f * c[node]);
                out[1].push(c);
                out[2].push(one_tanh(c));
                out[3].push(o * one_tanh(c));
            }
            out[0].extend(gates);
        }
        out
    }

    /// Of each pair (N, B), and of one that has several panels and blocks of k.
    #[test]
    fn a_time_step_forward_is_the_naive_one_bit_for_bit() {
        for [n, b] in sizes([(150, 1), (530, 2)]) {
            let model = Model::new(n);
            let symbols: Vec<u8> = (0..b).map(|row| (row * 11 % 27) as u8).collect();
            let (h_before, c_before) = (noise(12, b * n), noise(13, b * n));
            let expected = naive_forward(&model, n, &symbols, &h_before, &c_before);
            for kernels in every_isa() {
                let mut packed = ForwardWeights::new(n).expect("it fits");
                kernels.run(PackForward { weights: model.weights(), packed: &mut packed });
                // Between rows of time steps before and after, which it leaves alone.
                let nan = vec![f32::NAN; b * n];
                let state = |before: &[f32]| in_lines(&[&nan, before, &nan, &nan].concat(), n);
                let (mut h, mut c) = (state(&h_before), state(&c_before));
                let mut tanh_c = in_lines(&nan.repeat(3), n);
                let mut gates = in_gate_lines(&nan.repeat(12), n);
                kernels.run(TimeStepForward {
                    weights: &packed,
                    t: 1,
                    symbols: &symbols,
                    h: &mut h,
                    c: &mut c,
                    tanh_c: &mut tanh_c,
                    gates: &mut gates,
                });
                let what = format!("{:?}: {n}, {b}", kernels.name());
                let found = out_of_gate_lines(&gates, n);
                assert_eq!(bits(&found[b * 4 * n..][..b * 4 * n]), bits(&expected[0]), "{what}");
                assert!(found[..b * 4 * n].iter().chain(&found[2 * b * 4 * n..]).all(|gate| gate.is_nan()));
                let found = [(&c, 2), (&tanh_c, 1), (&h, 2)];
                for ((lines, step), expected) in found.into_iter().zip(&expected[1..]) {
                    let found = out_of_lines(lines, n);
                    assert_eq!(bits(&found[step * b * n..][..b * n]), bits(expected), "{what}");
                }
            }
        }
    }

    #[test]
    fn a_time_step_backward_is_the_naive_one_bit_for_bit() {
        for [n, b] in sizes([(150, 1), (530, 2)]) {
            let model = Model::new(n);
            let Weights { recurrent_kernel, classifier, .. } = model.weights();
            // Two time steps, the first of which is gone through.
            let gates = noise(14, 2 * b * 4 * n);
            let dlogits = noise(15, 2 * b * 27);
            let (tanh_c, c, dc) = (noise(16, 2 * b * n), noise(17, 3 * b * n), noise(18, b * n));
            let (mut expected_gates, mut expected_dc) = (gates.clone(), dc.clone());
            for row in 0..b {
                let next = &gates[(b + row) * 4 * n..][..4 * n];
                let dlogits = &dlogits[row * 27..][..27];
                for node in 0..n {
                    let at = row * n + node;
                    let through_next = dot(next, |k| recurrent_kernel[node * 4 * n + k]);
                    let dh = dot(dlogits, |k| classifier[node * 27 + k]) + through_next;
                    let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[row * 4 * n + gate * n + node]);
                    let dc = libm::fmaf(dh * o, libm::fmaf(-tanh_c[at], tanh_c[at], 1.0), dc[at]);
                    let sums = [
                        dc * g * (i * (1.0 - i)),
                        dc * c[at] * (f * (1.0 - f)),
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
                let mut packed = BackwardWeights::new(n).expect("it fits");
                kernels.run(PackBackward { weights: model.weights(), packed: &mut packed });
                let (mut gates, mut dc) = (in_gate_lines(&gates, n), in_lines(&dc, n));
                kernels.run(TimeStepBackward {
                    weights: &packed,
                    batch_size: b,
                    t: 0,
                    dlogits: &in_logit_lines(&dlogits),
                    c: &in_lines(&c, n),
                    tanh_c: &in_lines(&tanh_c, n),
                    gates: &mut gates,
                    dc: &mut dc,
                    dh: &mut vec![Line([f32::NAN; LANES]); dh_lines(n, b)],
                });
                let what = format!("{:?}: {n}, {b}", kernels.name());
                assert_eq!(bits(&out_of_gate_lines(&gates, n)), bits(&expected_gates), "{what}");
                assert_eq!(bits(&out_of_lines(&dc, n)), bits(&expected_dc), "{what}");
            }
        }
    }

    #[test]
    fn reading_is_time_steps_of_one_row() {
        for n in [1, 16, 27, 33, 70, 130] {
            let model = Model::new(n);
            let symbols = [3, 26, 0, 0, 9];
            let (mut h, mut c) = (vec![0.0; n], vec![0.0; n]);
            let mut expected = Vec::new();
            for &symbol in &symbols {
                let [_, c_after, _, h_after] = naive_forward(&model, n, &[symbol], &h, &c);
                (h, c) = (h_after, c_after);
                expected.extend_from_slice(&h);
            }
            for kernels in every_isa() {
                let mut packed = ForwardWeights::new(n).expect("it fits");
                kernels.run(PackForward { weights: model.weights(), packed: &mut packed });
                let mut found = in_lines(&vec![0.0; 7 * n], n);
                let mut c = in_lines(&vec![0.0; n], n);
                kernels.run(Reading { weights: &packed, symbols: &symbols, h: &mut found, c: &mut c });
                let found = out_of_lines(&found, n);
                assert_eq!(bits(&found[n..6 * n]), bits(&expected), "{:?}: {n}", kernels.name());
            }
        }
    }
}
