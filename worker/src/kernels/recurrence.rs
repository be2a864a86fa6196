//! A time step forward and backward: the product that couples it to its neighbour, and the cell right behind it, while
//! what the product left is in the first cache.

use std::hint::black_box;

use super::cell::{self, Gates, Reaching, load_gates};
use super::lines::{GATES, Line, groups};
use super::pack::{BackwardWeights, ForwardWeights, teams};
use super::product::{Left, Out, product, row_product};
use super::simd::{Algorithm, Simd};
use super::softmax::{CLASS_LINES, CLASSES};

/// Time step t forward.
pub(crate) struct TimeStepForward<'a> {
    pub(crate) weights: &'a ForwardWeights,
    pub(crate) t: usize,
    /// `[B]`.
    pub(crate) symbols: &'a [u8],
    /// `[group][(T + 1) B]`: rows t B to (t + 1) B come in, the B after them go out. So for c.
    pub(crate) h: &'a mut [Line],
    pub(crate) c: &'a mut [Line],
    /// `[group][T B]`: rows t B to (t + 1) B go out.
    pub(crate) tanh_c: &'a mut [Line],
    /// `[gate][group][T B]`: likewise.
    pub(crate) gates: &'a mut [Line],
}

impl Algorithm for TimeStepForward<'_> {
    type Output = ();

    fn check(&self) {
        let [groups, b] = [groups(self.weights.nodes()), self.symbols.len()];
        assert!(self.tanh_c.len().is_multiple_of(groups) && self.tanh_c.len() >= groups * (self.t + 1) * b);
        assert_eq!(self.gates.len(), GATES * self.tanh_c.len());
        assert!([&*self.h, self.c].iter().all(|state| state.len() == self.tanh_c.len() + groups * b));
    }

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let groups = groups(self.weights.nodes());
        if self.symbols.len() > 1 {
            for group in 0..groups {
                self.recurrent_product(s, group);
                self.gates(s, group);
                self.outputs(s, group);
            }
            return;
        }
        for (group, count) in abreast::<S>(groups, self.t) {
            match count {
                2 => self.one_row::<S, 2>(s, group),
                _ => self.one_row::<S, 1>(s, group),
            }
        }
        for group in 0..groups {
            self.outputs(s, group);
        }
    }
}

/// The groups to multiply one row by at once, whose sums are kept in registers: number of the first, and how many. Every
/// other character goes from the last to the first: what the one before it has read last is then still in the first
/// cache, which all of the weights together may exceed.
#[inline(always)]
fn abreast<S: Simd>(groups: usize, character: usize) -> impl Iterator<Item = (usize, usize)> {
    let most = if S::ACCUMULATORS >= 2 * GATES { 2 } else { 1 };
    let count = groups.div_ceil(most);
    (0..count).map(move |index| {
        let index = if character.is_multiple_of(2) { index } else { count - 1 - index };
        (index * most, most.min(groups - index * most))
    })
}

/// `rows` of each gate's plane, from number `first` on.
#[inline(always)]
fn gate_rows(gates: &mut [Line], first: usize, rows: usize) -> [&mut [Line]; GATES] {
    let plane = gates.len() / GATES;
    let (i_f, g_o) = gates.split_at_mut(2 * plane);
    let ((i, f), (g, o)) = (i_f.split_at_mut(plane), g_o.split_at_mut(plane));
    let row = first..first + rows;
    [&mut i[row.clone()], &mut f[row.clone()], &mut g[row.clone()], &mut o[row]]
}

impl TimeStepForward<'_> {
    /// `T B`.
    #[inline(always)]
    fn rows(&self) -> usize {
        self.tanh_c.len() / groups(self.weights.nodes())
    }

    #[inline(always)]
    fn recurrent_product<S: Simd>(&mut self, s: S, group: usize) {
        let (n, b, rows) = (self.weights.nodes(), self.symbols.len(), self.rows());
        let left = Left { lines: self.h, stride: rows + b, first: self.t * b, rows: b, columns: n };
        let lines = &mut self.gates[group * rows + self.t * b..];
        let mut out = Out { lines, row_stride: 1, vector_stride: groups(n) * rows };
        product::<S, GATES>(s, left, self.weights.recurrent(group), &mut out);
    }

    /// Sums of `P` groups from number `first` on, and the gates of those.
    #[inline(always)]
    fn one_row<S: Simd, const P: usize>(&mut self, s: S, first: usize) {
        let rows = self.rows();
        let sums = row_sums::<S, P>(s, self.weights, self.h, rows + 1, self.t, first);
        for (p, sums) in sums.iter().enumerate() {
            let gates = gate_rows(self.gates, (first + p) * rows + self.t, 1);
            for gate in 0..GATES {
                s.store(sums[gate], &mut gates[gate][0].0);
            }
        }
        for group in first..first + P {
            self.gates(s, group);
        }
    }

    /// From the products to c, for one group of all rows.
    #[inline(always)]
    fn gates<S: Simd>(&mut self, s: S, group: usize) {
        let (b, rows) = (self.symbols.len(), self.rows());
        let groups = groups(self.weights.nodes());
        let (in_gates, in_state) = (group * rows + self.t * b, group * (rows + b) + self.t * b);
        let bias = load_gates(s, &self.weights.bias[group]);
        let [i, f, g, o] = gate_rows(self.gates, in_gates, b);
        let (c_before, c) = self.c[in_state..][..2 * b].split_at_mut(b);
        for (row, &symbol) in self.symbols.iter().enumerate() {
            let input = &self.weights.input[usize::from(symbol) * groups + group];
            let gates = [&mut i[row], &mut f[row], &mut g[row], &mut o[row]];
            let product =
                [s.load(&gates[0].0), s.load(&gates[1].0), s.load(&gates[2].0), s.load(&gates[3].0)];
            let (values, c_after) = cell::gates(s, product, input, bias, &c_before[row]);
            for gate in 0..GATES {
                s.store(values[gate], &mut gates[gate].0);
            }
            s.store(c_after, &mut c[row].0);
        }
    }

    /// From c to h, for one group of all rows.
    #[inline(always)]
    fn outputs<S: Simd>(&mut self, s: S, group: usize) {
        let (b, rows) = (self.symbols.len(), self.rows());
        let (in_gates, in_state) = (group * rows + self.t * b, group * (rows + b) + self.t * b);
        let [.., o] = gate_rows(self.gates, in_gates, b);
        let tanh_c = &mut self.tanh_c[in_gates..][..b];
        let c = &self.c[in_state + b..][..b];
        let h = &mut self.h[in_state + b..][..b];
        for row in 0..b {
            let (tanh, h_after) = cell::output(s, s.load(&o[row].0), s.load(&c[row].0));
            s.store(tanh, &mut tanh_c[row].0);
            s.store(h_after, &mut h[row].0);
        }
    }
}

/// Time step t backward.
pub(crate) struct TimeStepBackward<'a> {
    pub(crate) weights: &'a BackwardWeights,
    /// `B`.
    pub(crate) batch_size: usize,
    pub(crate) t: usize,
    /// `[2][T B]`: the gradient by the logits.
    pub(crate) dlogits: &'a [Line],
    /// `[group][(T + 1) B]`.
    pub(crate) c: &'a [Line],
    /// `[group][T B]`.
    pub(crate) tanh_c: &'a [Line],
    /// `[gate][group][T B]`: rows of t come in as the gates i, f, g, o and go out as the gradients of their sums; those of
    /// t + 1 have gone out.
    pub(crate) gates: &'a mut [Line],
    /// `[group][B]`: in, what reaches c through time step t + 1; out, what reaches the c before. The last t begins at 0.
    pub(crate) dc: &'a mut [Line],
    /// `[2][groups of a team][B]`: what reaches h through time step t + 1 and through the classifier.
    pub(crate) dh: &'a mut [Line],
}

impl Algorithm for TimeStepBackward<'_> {
    type Output = ();

    fn check(&self) {
        let [groups, b] = [groups(self.weights.nodes()), self.batch_size];
        let rows = self.rows();
        assert!(self.t < rows / b && self.gates.len() == GATES * groups * rows);
        assert!(self.tanh_c.len() == groups * rows && self.c.len() == groups * (rows + b));
        assert!(self.dc.len() == groups * b && self.dh.len() == dh_lines(self.weights.nodes(), b));
    }

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for team in teams(self.weights.nodes()) {
            match team.len() {
                1 => self.team::<S, 1>(s, team.start),
                2 => self.team::<S, 2>(s, team.start),
                3 => self.team::<S, 3>(s, team.start),
                _ => self.team::<S, 4>(s, team.start),
            }
        }
    }
}

/// Lines of [`TimeStepBackward::dh`].
pub(crate) fn dh_lines(nodes: usize, batch_size: usize) -> usize {
    2 * batch_size * teams(nodes).map(|team| team.len()).max().unwrap_or(0)
}

impl TimeStepBackward<'_> {
    /// `T B`.
    #[inline(always)]
    fn rows(&self) -> usize {
        self.dlogits.len() / CLASS_LINES
    }

    #[inline(always)]
    fn team<S: Simd, const C: usize>(&mut self, s: S, first: usize) {
        let [n, b, rows] = [self.weights.nodes(), self.batch_size, self.rows()];
        let [recurrent, classifier] = self.weights.team(&(first..first + C));
        let (through_next, through_classifier) = self.dh[..2 * C * b].split_at_mut(C * b);
        let next = (self.t + 1) * b;
        if next < rows {
            let left = Left { lines: self.gates, stride: rows, first: next, rows: b, columns: n };
            let mut out = Out { lines: through_next, row_stride: 1, vector_stride: b };
            product::<S, C>(s, left, recurrent, &mut out);
        } else {
            through_next.fill(Line::ZERO);
        }
        let left = Left { lines: self.dlogits, stride: rows, first: self.t * b, rows: b, columns: CLASSES };
        let mut out = Out { lines: through_classifier, row_stride: 1, vector_stride: b };
        product::<S, C>(s, left, classifier, &mut out);
        for place in 0..C {
            self.cells(s, first + place, place, C);
        }
    }

    /// From what reaches h to the gradients of the sums, for one group of all rows.
    #[inline(always)]
    fn cells<S: Simd>(&mut self, s: S, group: usize, place: usize, across: usize) {
        let (b, rows) = (self.batch_size, self.rows());
        let (in_gates, in_state) = (group * rows + self.t * b, group * (rows + b) + self.t * b);
        let through_next = &self.dh[place * b..][..b];
        let through_classifier = &self.dh[(across + place) * b..][..b];
        let [i, f, g, o] = gate_rows(self.gates, in_gates, b);
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
            let lines = [&mut i[row], &mut f[row], &mut g[row], &mut o[row]];
            let gates = [s.load(&lines[0].0), s.load(&lines[1].0), s.load(&lines[2].0), s.load(&lines[3].0)];
            let (dgates, dc_before) = cell::backward(s, gates, &reaching);
            for gate in 0..GATES {
                s.store(dgates[gate], &mut lines[gate].0);
            }
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
            for (group, count) in abreast::<S>(groups, at) {
                match count {
                    2 => self.read::<S, 2>(s, at, group),
                    _ => self.read::<S, 1>(s, at, group),
                }
            }
            self.write(s, at);
        }
    }
}

impl Reading<'_> {
    /// Number `at` in `P` groups from number `first` on, up to o and c.
    #[inline(always)]
    fn read<S: Simd, const P: usize>(&mut self, s: S, at: usize, first: usize) {
        let n = self.weights.nodes();
        let groups = groups(n);
        let stride = self.h.len() / groups;
        let sums = row_sums::<S, P>(s, self.weights, self.h, stride, at, first);
        let symbol = usize::from(self.symbols[at]);
        for (p, sums) in sums.into_iter().enumerate() {
            let group = first + p;
            let bias = load_gates(s, &self.weights.bias[group]);
            let input = &self.weights.input[symbol * groups + group];
            let ([_, _, _, o], c) = cell::gates(s, sums, input, bias, &self.c[group]);
            s.store(c, &mut self.c[group].0);
            // Here until `write` makes h of it.
            s.store(o, &mut self.h[group * stride + at + 1].0);
        }
    }

    /// The h of number `at`, in all groups.
    #[inline(always)]
    fn write<S: Simd>(&mut self, s: S, at: usize) {
        let stride = self.h.len() / self.c.len();
        for (group, c) in self.c.iter().enumerate() {
            let h = &mut self.h[group * stride + at + 1].0;
            let (_, h_after) = cell::output(s, s.load(h), s.load(&c.0));
            s.store(h_after, h);
        }
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
            for (group, count) in abreast::<S>(groups, at) {
                match count {
                    2 => self.multiply::<S, 2>(s, at, group),
                    _ => self.multiply::<S, 1>(s, at, group),
                }
            }
        }
    }
}

impl ReadingProducts<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const P: usize>(&self, s: S, at: usize, first: usize) {
        let stride = self.h.len() / groups(self.weights.nodes());
        let sums = row_sums::<S, P>(s, self.weights, self.h, stride, at, first);
        let mut out = [[Line::ZERO; GATES]; P];
        for (line, sum) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            s.store(*sum, &mut line.0);
        }
        black_box(&out);
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
    let left = Left { lines: h, stride, first: row, rows: 1, columns: weights.nodes() };
    row_product::<S, P, GATES>(s, left, std::array::from_fn(|p| weights.recurrent(first + p)))
}

#[cfg(test)]
mod tests {
    use super::super::activation::{sigmoid, tanh};
    use super::super::lines::tests::{in_gate_lines, in_lines, out_of_gate_lines, out_of_lines};
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
                kernels.for_columns(n).run(TimeStepForward {
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
                kernels.for_columns(n).run(TimeStepBackward {
                    weights: &packed,
                    batch_size: b,
                    t: 0,
                    dlogits: &in_lines(&dlogits, CLASSES),
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
                kernels.for_columns(n).run(Reading {
                    weights: &packed,
                    symbols: &symbols,
                    h: &mut found,
                    c: &mut c,
                });
                let found = out_of_lines(&found, n);
                assert_eq!(bits(&found[n..6 * n]), bits(&expected), "{:?}: {n}", kernels.name());
            }
        }
    }
}
