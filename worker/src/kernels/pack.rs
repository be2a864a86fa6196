//! Weights as products read them: packed once a training step, or once a validation.

use std::collections::TryReserveError;
use std::ops::Range;

use super::lines::{GATES, GateLines, Line, gate_zeros, groups, width, zeros};
use super::product::{RIGHT_VECTORS_MAX, right_place};
use super::simd::{Algorithm, LANES, Simd};
use super::softmax::{CLASS_LINES, CLASSES};

/// Weights in standard layout, as they are trained.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// `[27, 4N]`.
    pub(crate) input_kernel: &'a [f32],
    /// `[N, 4N]`.
    pub(crate) recurrent_kernel: &'a [f32],
    /// `[4N]`.
    pub(crate) bias: &'a [f32],
    /// `[N, 27]`.
    pub(crate) classifier: &'a [f32],
    /// `[27]`.
    pub(crate) classifier_bias: &'a [f32],
}

impl Weights<'_> {
    fn nodes(&self) -> usize {
        self.bias.len() / GATES
    }

    fn check(&self, nodes: usize) {
        let n = self.nodes();
        assert!(n == nodes && self.bias.len() == 4 * n && self.recurrent_kernel.len() == n * 4 * n);
        assert!(self.input_kernel.len() == CLASSES * 4 * n && self.classifier.len() == n * CLASSES);
        assert_eq!(self.classifier_bias.len(), CLASSES);
    }
}

/// What the forward pass reads.
pub(crate) struct ForwardWeights {
    nodes: usize,
    /// `[group]`: the right factor of the recurrent product, the gates of a group.
    recurrent: Vec<Line>,
    /// `[27][group]`.
    pub(super) input: Vec<GateLines>,
    /// `[group]`.
    pub(super) bias: Vec<GateLines>,
    /// The right factor of the classifier.
    pub(super) classifier: Vec<Line>,
    pub(super) classifier_bias: [Line; CLASS_LINES],
}

impl ForwardWeights {
    /// Room for models of `nodes`.
    pub(crate) fn new(nodes: usize) -> Result<Self, TryReserveError> {
        let groups = groups(nodes);
        Ok(Self {
            nodes,
            recurrent: zeros(groups * GATES * nodes)?,
            input: gate_zeros(CLASSES * groups)?,
            bias: gate_zeros(groups)?,
            classifier: zeros(CLASS_LINES * nodes)?,
            classifier_bias: [Line::ZERO; CLASS_LINES],
        })
    }

    /// Bytes that [`ForwardWeights::new`] takes.
    pub(crate) fn bytes(nodes: u64) -> u64 {
        let groups = nodes.div_ceil(LANES as u64);
        let gate_lines = groups * nodes + (CLASSES as u64 + 1) * groups;
        gate_lines * size_of::<GateLines>() as u64 + nodes * size_of::<[Line; CLASS_LINES]>() as u64
    }

    /// `N`.
    #[inline(always)]
    pub(super) const fn nodes(&self) -> usize {
        self.nodes
    }

    /// Of the gates of one group.
    #[inline(always)]
    pub(super) fn recurrent(&self, group: usize) -> &[Line] {
        let lines = GATES * self.nodes;
        &self.recurrent[group * lines..][..lines]
    }
}

/// What the backward pass reads: the transposed kernels, as right factors of up to four groups of nodes.
pub(crate) struct BackwardWeights {
    nodes: usize,
    /// `[team]`: of 4N k.
    recurrent: Vec<Line>,
    /// `[team]`: of 27 k.
    classifier: Vec<Line>,
}

impl BackwardWeights {
    /// Room for models of `nodes`.
    pub(crate) fn new(nodes: usize) -> Result<Self, TryReserveError> {
        let groups = groups(nodes);
        Ok(Self { nodes, recurrent: zeros(groups * 4 * nodes)?, classifier: zeros(groups * CLASSES)? })
    }

    /// Bytes that [`BackwardWeights::new`] takes.
    pub(crate) fn bytes(nodes: u64) -> u64 {
        nodes.div_ceil(LANES as u64) * (4 * nodes + CLASSES as u64) * size_of::<Line>() as u64
    }

    /// `N`.
    #[inline(always)]
    pub(super) const fn nodes(&self) -> usize {
        self.nodes
    }

    /// The right factors of these groups: of the recurrent kernel and of the classifier.
    #[inline(always)]
    pub(super) fn team(&self, groups: &Range<usize>) -> [&[Line]; 2] {
        let of = |k: usize| groups.start * k..groups.end * k;
        [&self.recurrent[of(4 * self.nodes)], &self.classifier[of(CLASSES)]]
    }
}

/// Groups of nodes that go back together: as many in each as one right factor has, as even as they come.
#[inline(always)]
pub(super) fn teams(nodes: usize) -> impl Iterator<Item = Range<usize>> {
    let groups = groups(nodes);
    let count = groups.div_ceil(RIGHT_VECTORS_MAX);
    (0..count).map(move |team| team * groups / count..(team + 1) * groups / count)
}

/// Packs what the forward pass reads.
pub(crate) struct PackForward<'a> {
    /// From.
    pub(crate) weights: Weights<'a>,
    /// To.
    pub(crate) packed: &'a mut ForwardWeights,
}

impl Algorithm for PackForward<'_> {
    type Output = ();

    fn check(&self) {
        self.weights.check(self.packed.nodes);
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, packed } = self;
        let n = packed.nodes;
        let rows = weights.recurrent_kernel.chunks_exact(4 * n);
        for (k, row) in rows.enumerate() {
            for (group, right) in packed.recurrent.chunks_exact_mut(GATES * n).enumerate() {
                for (gate, values) in row.chunks_exact(n).enumerate() {
                    let values = s.load_at(&values[..group * LANES + width(n, group)], group * LANES);
                    s.store(values, &mut right[right_place::<S>(GATES, n, k, gate)].0);
                }
            }
        }
        let rows = weights.input_kernel.chunks_exact(4 * n);
        for (row, packed) in rows.zip(packed.input.chunks_exact_mut(groups(n))) {
            pack_gates(s, row, n, packed.iter_mut());
        }
        pack_gates(s, weights.bias, n, packed.bias.iter_mut());
        let rows = weights.classifier.as_chunks::<CLASSES>().0;
        for (k, row) in rows.iter().enumerate() {
            for at in 0..CLASS_LINES {
                let place = right_place::<S>(CLASS_LINES, n, k, at);
                s.store(s.load_at(row, at * LANES), &mut packed.classifier[place].0);
            }
        }
        for (at, line) in packed.classifier_bias.iter_mut().enumerate() {
            s.store(s.load_at(weights.classifier_bias, at * LANES), &mut line.0);
        }
    }
}

/// One row of `[.., 4N]`, group by group.
#[inline(always)]
fn pack_gates<'a, S: Simd>(s: S, row: &[f32], n: usize, to: impl Iterator<Item = &'a mut GateLines>) {
    for (group, lines) in to.enumerate() {
        let at = group * LANES..group * LANES + width(n, group);
        for (line, gate) in lines.iter_mut().zip(row.chunks_exact(n)) {
            s.store(s.load_at(&gate[at.clone()], 0), &mut line.0);
        }
    }
}

/// Packs what the backward pass reads.
pub(crate) struct PackBackward<'a> {
    /// From.
    pub(crate) weights: Weights<'a>,
    /// To.
    pub(crate) packed: &'a mut BackwardWeights,
}

impl Algorithm for PackBackward<'_> {
    type Output = ();

    fn check(&self) {
        self.weights.check(self.packed.nodes);
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, packed } = self;
        let n = packed.nodes;
        transpose(s, weights.recurrent_kernel, 4 * n, n, &mut packed.recurrent);
        transpose(s, weights.classifier, CLASSES, n, &mut packed.classifier);
    }
}

/// `[N, columns]` as right factors whose k is the column.
#[inline(always)]
fn transpose<S: Simd>(s: S, values: &[f32], columns: usize, n: usize, packed: &mut [Line]) {
    for team in teams(n) {
        let lines = &mut packed[team.start * columns..team.end * columns];
        for group in team.clone() {
            let first = group * LANES;
            let rows = &values[first * columns..(first + width(n, group)) * columns];
            for at in (0..columns).step_by(LANES) {
                let wide = LANES.min(columns - at);
                let mut square = [s.splat(0.0); LANES];
                for (r, row) in square.iter_mut().enumerate() {
                    if let Some(values) = rows.get(r * columns + at..r * columns + at + wide) {
                        *row = s.load_at(values, 0);
                    }
                }
                let square = s.transpose(square);
                for (k, row) in square.iter().enumerate() {
                    if k < wide {
                        let place = right_place::<S>(team.len(), columns, at + k, group - team.start);
                        s.store(*row, &mut lines[place].0);
                    }
                }
            }
        }
    }
}
