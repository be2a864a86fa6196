//! The LSTM cell: sixteen nodes of one row at a time, all gates in one pass.
//! Letters are those of `lstm`; each line below is one rounding, or names more.

use super::activation::{sigmoid, tanh};
use super::lines::{GATES, GateLines, Line};
use super::simd::Simd;

/// Gates i, f, g, o of sixteen nodes, as vectors.
pub(super) type Gates<V> = [V; GATES];

/// The four lines as vectors.
#[inline(always)]
pub(super) fn load_gates<S: Simd>(s: S, from: &GateLines) -> Gates<S::V> {
    let [i, f, g, o] = from;
    [s.load(&i.0), s.load(&f.0), s.load(&g.0), s.load(&o.0)]
}

/// The first half of the cell forward: the gates, and `c = fma(i, g, f * c_before)`. A gate's sum is its product, plus its
/// row of the input kernel, plus its bias, in that order.
#[inline(always)]
pub(super) fn gates<S: Simd>(
    s: S,
    product: Gates<S::V>,
    input: &GateLines,
    bias: Gates<S::V>,
    c_before: &Line,
) -> (Gates<S::V>, S::V) {
    let sum = |gate: usize| s.add(s.add(product[gate], s.load(&input[gate].0)), bias[gate]);
    let [i, f, g, o] = [sigmoid(s, sum(0)), sigmoid(s, sum(1)), tanh(s, sum(2)), sigmoid(s, sum(3))];
    let c = s.fma(i, g, s.mul(f, s.load(&c_before.0)));
    ([i, f, g, o], c)
}

/// The second half: `tanh(c)`, and `h = o * tanh(c)`. A loop of its own after one of [`gates`]: a row's tanh would wait
/// for the whole of its first half, and the processor cannot look that far ahead to the next row.
#[inline(always)]
pub(super) fn output<S: Simd>(s: S, o: S::V, c: S::V) -> (S::V, S::V) {
    let tanh_c = tanh(s, c);
    (tanh_c, s.mul(o, tanh_c))
}

/// What the cell backward needs beside gates and c: a `d` before a letter is the loss's gradient by it.
#[derive(Clone, Copy)]
pub(super) struct Reaching<V> {
    pub(super) tanh_c: V,
    pub(super) c_before: V,
    /// What reaches h.
    pub(super) dh: V,
    /// What reaches c through the next time step.
    pub(super) dc: V,
}

/// The cell backward, what both halves did in reverse: the gradients of the gates' sums, and what reaches `c_before`.
#[inline(always)]
pub(super) fn backward<S: Simd>(s: S, gates: Gates<S::V>, reaching: &Reaching<S::V>) -> (Gates<S::V>, S::V) {
    let one = s.splat(1.0);
    let [i, f, g, o] = gates;
    let Reaching { tanh_c, c_before, dh, dc } = *reaching;
    // dc + dh o (1 - tanh^2 c)
    let dc = s.fma(s.mul(dh, o), s.fnma(tanh_c, tanh_c, one), dc);
    // By each gate, times the gate's slope: s (1 - s) for a sigmoid, 1 - g^2 for the tanh.
    let di = s.mul(s.mul(dc, g), s.mul(i, s.sub(one, i)));
    let df = s.mul(s.mul(dc, c_before), s.mul(f, s.sub(one, f)));
    let dg = s.mul(s.mul(dc, i), s.fnma(g, g, one));
    let do_ = s.mul(s.mul(dh, tanh_c), s.mul(o, s.sub(one, o)));
    ([di, df, dg, do_], s.mul(dc, f))
}
