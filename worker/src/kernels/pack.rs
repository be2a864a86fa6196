//! Weights as products read them: packed once a training step, or once a validation.

use std::collections::TryReserveError;
use std::ops::Range;

use super::lines::{GATES, GateLines, Line, groups, width, zeros};
use super::product::PANEL_VECTORS_MAX;
use super::simd::{Algorithm, LANES, Simd};
use super::softmax::CLASSES;

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
    /// `[group][N]`: the right factor of the recurrent product, a panel a group.
    pub(super) recurrent: Vec<GateLines>,
    /// `[27][group]`.
    pub(super) input: Vec<GateLines>,
    /// `[group]`.
    pub(super) bias: Vec<GateLines>,
    /// `[N]`: the right factor of the classifier.
    pub(super) classifier: Vec<[Line; 2]>,
    pub(super) classifier_bias: [Line; 2],
}

impl ForwardWeights {
    /// Room for models of `nodes`.
    pub(crate) fn new(nodes: usize) -> Result<Self, TryReserveError> {
        let groups = groups(nodes);
        Ok(Self {
            nodes,
            recurrent: zeros(groups * nodes)?,
            input: zeros(CLASSES * groups)?,
            bias: zeros(groups)?,
            classifier: zeros(nodes)?,
            classifier_bias: [Line::ZERO; 2],
        })
    }

    /// Bytes that [`ForwardWeights::new`] takes.
    pub(crate) fn bytes(nodes: u64) -> u64 {
        let groups = nodes.div_ceil(LANES as u64);
        let gate_lines = groups * nodes + (CLASSES as u64 + 1) * groups;
        gate_lines * size_of::<GateLines>() as u64 + nodes * size_of::<[Line; 2]>() as u64
    }

    /// `N`.
    #[inline(always)]
    pub(super) const fn nodes(&self) -> usize {
        self.nodes
    }
}

/// What the backward pass reads: the transposed kernels, as right factors in panels of up to four groups of nodes.
pub(crate) struct BackwardWeights {
    nodes: usize,
    /// `[panel][4N][groups of the panel]`.
    recurrent: Vec<[Line; 1]>,
    /// `[panel][27][groups of the panel]`.
    classifier: Vec<[Line; 1]>,
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

    /// The panel of these groups, of the recurrent kernel and of the classifier.
    #[inline(always)]
    pub(super) fn panel<const C: usize>(&self, groups: &Range<usize>) -> (&[[Line; C]], &[[Line; C]]) {
        let of = |rows: usize| groups.start * rows..groups.end * rows;
        let (recurrent, classifier) = (of(4 * self.nodes), of(CLASSES));
        (
            self.recurrent[recurrent].as_flattened().as_chunks().0,
            self.classifier[classifier].as_flattened().as_chunks().0,
        )
    }
}

/// The groups of each panel, as even as they come.
#[inline(always)]
pub(super) fn panels(nodes: usize) -> impl Iterator<Item = Range<usize>> {
    let groups = groups(nodes);
    let count = groups.div_ceil(PANEL_VECTORS_MAX);
    (0..count).map(move |panel| panel * groups / count..(panel + 1) * groups / count)
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
            pack_gates(s, row, n, packed.recurrent[k..].iter_mut().step_by(n));
        }
        let rows = weights.input_kernel.chunks_exact(4 * n);
        for (row, packed) in rows.zip(packed.input.chunks_exact_mut(groups(n))) {
            pack_gates(s, row, n, packed.iter_mut());
        }
        pack_gates(s, weights.bias, n, packed.bias.iter_mut());
        let rows = weights.classifier.as_chunks::<CLASSES>().0;
        for (row, packed) in rows.iter().zip(&mut packed.classifier) {
            pack_classes(s, row, packed);
        }
        pack_classes(s, weights.classifier_bias, &mut packed.classifier_bias);
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

#[inline(always)]
fn pack_classes<S: Simd>(s: S, row: &[f32], to: &mut [Line; 2]) {
    for (at, line) in to.iter_mut().enumerate() {
        s.store(s.load_at(row, at * LANES), &mut line.0);
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
        transpose(s, weights.recurrent_kernel, 4 * n, n, packed.recurrent.as_flattened_mut());
        transpose(s, weights.classifier, CLASSES, n, packed.classifier.as_flattened_mut());
    }
}

/// `[N, columns]` as panels whose k is the column.
#[inline(always)]
fn transpose<S: Simd>(s: S, values: &[f32], columns: usize, n: usize, packed: &mut [Line]) {
    for panel in panels(n) {
        let lines = &mut packed[panel.start * columns..panel.end * columns];
        let across = panel.len();
        for group in panel.clone() {
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
                        s.store(*row, &mut lines[(at + k) * across + group - panel.start].0);
                    }
                }
            }
        }
    }
}
