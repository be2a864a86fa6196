//! The forward pass over T time steps, and what it leaves for the backward pass.

use slalom_common::run::Shape;

use super::OutOfMemory;
use super::params::Parameters;
use crate::kernels::Kernels;
use crate::kernels::classifier::Loss;
use crate::kernels::lines::{GATES, Line, groups, zeros};
use crate::kernels::pack::{BackwardWeights, ForwardWeights, PackForward};
use crate::kernels::recurrence::{TimeStepForward, dh_lines};
use crate::kernels::simd::LANES;
use crate::kernels::softmax::CLASS_LINES;

/// All that a training step writes beside parameters and gradient; made once, so that a step allocates nothing.
///
/// In the lines of `kernels::lines`: `[group]` is one of the groups of sixteen nodes.
pub struct Activations {
    /// `[group][(T + 1) B]`: the carried h, then the h of each row. So for c.
    pub(super) h: Vec<Line>,
    pub(super) c: Vec<Line>,
    /// `[group][T B]`.
    pub(super) tanh_c: Vec<Line>,
    /// `[gate][group][T B]`: i, f, g, o after the forward pass; the gradients of their sums after the backward pass.
    pub(super) gates: Vec<Line>,
    /// `[2][T B]`: the gradient by the logits after the forward pass.
    pub(super) dlogits: Vec<Line>,
    /// `[group][B]`: what reaches c through the next time step.
    pub(super) dc: Vec<Line>,
    /// What reaches h, for a team of groups.
    pub(super) dh: Vec<Line>,
    pub(super) forward_weights: ForwardWeights,
    pub(super) backward_weights: BackwardWeights,
    pub(super) nodes: usize,
    pub(super) batch_size: usize,
    pub(super) unrollings: usize,
}

impl Activations {
    /// Arrays for runs of this shape; the carried state is zero.
    ///
    /// # Errors
    /// If they do not fit into memory.
    pub fn new(shape: &Shape) -> Result<Self, OutOfMemory> {
        let [n, b, t] = [shape.nodes, shape.batch_size, shape.unrollings].map(|size| size as usize);
        // A length that saturates is one that no memory has.
        let lines = |rows: usize| groups(n).saturating_mul(rows);
        let rows = t * b;
        Ok(Self {
            h: zeros(lines(rows + b))?,
            c: zeros(lines(rows + b))?,
            tanh_c: zeros(lines(rows))?,
            gates: zeros(lines(rows).saturating_mul(GATES))?,
            dlogits: zeros(rows.saturating_mul(CLASS_LINES))?,
            dc: zeros(lines(b))?,
            dh: zeros(dh_lines(n, b))?,
            forward_weights: ForwardWeights::new(n)?,
            backward_weights: BackwardWeights::new(n)?,
            nodes: n,
            batch_size: b,
            unrollings: t,
        })
    }

    /// Bytes that [`Activations::new`] takes; none where that has no u64.
    pub(crate) fn bytes(shape: &Shape) -> Option<u64> {
        let [n, b, t] = [shape.nodes, shape.batch_size, shape.unrollings].map(u64::from);
        let groups = n.div_ceil(LANES as u64);
        let rows = t.checked_mul(b)?;
        // h, c, tanh_c and gates, dc; then what has no groups.
        let lines = [rows.checked_add(b)?.checked_mul(2)?, rows.checked_mul(5)?, b];
        let lines = lines.into_iter().try_fold(0_u64, u64::checked_add)?.checked_mul(groups)?;
        let lines =
            lines.checked_add(rows.checked_mul(2)?)?.checked_add(dh_lines(n as usize, b as usize) as u64)?;
        let weights = ForwardWeights::bytes(n).checked_add(BackwardWeights::bytes(n))?;
        lines.checked_mul(size_of::<Line>() as u64)?.checked_add(weights)
    }

    /// The carried h and c, `[B, N]` each, row by row.
    pub fn carried(&self) -> [Vec<f32>; 2] {
        [&self.h, &self.c].map(|lines| {
            let mut values = Vec::with_capacity(self.batch_size * self.nodes);
            for row in 0..self.batch_size {
                values.extend((0..self.nodes).map(|node| self.number(lines, row, node)));
            }
            values
        })
    }

    fn number(&self, lines: &[Line], row: usize, node: usize) -> f32 {
        let stride = (self.unrollings + 1) * self.batch_size;
        lines[node / LANES * stride + row].0[node % LANES]
    }

    /// Carries these from now on.
    ///
    /// # Panics
    /// If they are not `[B, N]`.
    pub fn set_carried(&mut self, h: &[f32], c: &[f32]) {
        let stride = (self.unrollings + 1) * self.batch_size;
        for (lines, values) in [(&mut self.h, h), (&mut self.c, c)] {
            assert_eq!(values.len(), self.batch_size * self.nodes, "a carried state is [B, N]");
            for (row, values) in values.chunks_exact(self.nodes).enumerate() {
                for (group, values) in values.chunks(LANES).enumerate() {
                    lines[group * stride + row].0[..values.len()].copy_from_slice(values);
                }
            }
        }
    }

    /// Carries the last time step's h and c to the next training step.
    pub(super) fn carry(&mut self) {
        let rows = self.unrollings * self.batch_size;
        for state in [&mut self.h, &mut self.c] {
            for lines in state.chunks_exact_mut(rows + self.batch_size) {
                lines.copy_within(rows.., 0);
            }
        }
    }
}

/// The sum, over rows in their order, of the loss of predicting `labels` from `inputs` (`[T B]` symbols each).
pub fn forward(
    kernels: Kernels,
    parameters: &Parameters,
    activations: &mut Activations,
    inputs: &[u8],
    labels: &[u8],
) -> f64 {
    let Activations { h, c, tanh_c, gates, dlogits, forward_weights: weights, .. } = activations;
    let [b, t] = [activations.batch_size, activations.unrollings];
    assert!(inputs.len() == t * b && labels.len() == t * b, "inputs and labels are [T B]");

    // 1. Time step by time step: the recurrent product of all gates, then the cell.
    kernels.run(PackForward { weights: parameters.weights(), packed: weights });
    for (t, symbols) in inputs.chunks_exact(b).enumerate() {
        kernels.for_columns(activations.nodes).run(TimeStepForward {
            weights,
            t,
            symbols,
            h,
            c,
            tanh_c,
            gates,
        });
    }

    // 2. All rows at once: logits = h W + b, and their loss.
    let weight = (1.0 / (t * b) as f64) as f32;
    kernels.run(Loss { weights, h, first: b, labels, weight, dlogits })
}
