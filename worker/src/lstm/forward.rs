//! The forward pass over T time steps, and the arrays that it leaves for the backward pass.

use ndarray::{Array2, s};
use slalom_common::run::Shape;

use super::params::Parameters;
use super::{OutOfMemory, SYMBOLS, flat, flat_mut, zeros_2};
use crate::kernels::Kernels;
use crate::kernels::cell::CellForward;
use crate::kernels::gemm::{LeftTile, Matrix, Panels, Product};
use crate::kernels::softmax::SoftmaxLoss;

/// All that a training step writes beside parameters and gradient; made once, so that a step allocates nothing.
pub struct Activations {
    /// `[(T + 1) B, N]`: the carried h, then the h of each row.
    pub(super) h: Array2<f32>,
    /// `[(T + 1) B, N]`: the carried c, then the c of each row.
    pub(super) c: Array2<f32>,
    /// `[T B, N]`.
    pub(super) tanh_c: Array2<f32>,
    /// `[T B, 4N]`: i, f, g, o after the forward pass; the gradients of their sums after the backward pass.
    pub(super) gates: Array2<f32>,
    /// `[T B, 27]`: the gradient by the logits after the forward pass.
    pub(super) dlogits: Array2<f32>,
    /// `[T B, N]`: what reaches h through the classifier.
    pub(super) dh_classifier: Array2<f32>,
    /// `[B, N]`: what reaches h through the next time step.
    pub(super) dh_next: Array2<f32>,
    /// `[B, N]`.
    pub(super) dc: Array2<f32>,
    /// The right factor of the product at hand.
    pub(super) right: Panels,
    pub(super) tile: LeftTile,
    pub(super) batch_size: usize,
    pub(super) unrollings: usize,
}

impl Activations {
    /// Arrays for runs of this shape; the carried state is zero.
    ///
    /// # Errors
    /// If they do not fit into memory.
    pub fn new(shape: &Shape) -> Result<Self, OutOfMemory> {
        let Shape { nodes, batch_size, unrollings } = *shape;
        let [n, b, t] = [nodes as usize, batch_size as usize, unrollings as usize];
        Ok(Self {
            h: zeros_2((t + 1) * b, n)?,
            c: zeros_2((t + 1) * b, n)?,
            tanh_c: zeros_2(t * b, n)?,
            gates: zeros_2(t * b, 4 * n)?,
            dlogits: zeros_2(t * b, SYMBOLS)?,
            dh_classifier: zeros_2(t * b, n)?,
            dh_next: zeros_2(b, n)?,
            dc: zeros_2(b, n)?,
            right: Panels::with_room(&right_factors(n, b, t))?,
            tile: LeftTile::new(),
            batch_size: b,
            unrollings: t,
        })
    }

    /// The carried h and c, `[B, N]` each, row by row.
    pub fn carried(&self) -> [&[f32]; 2] {
        let len = self.batch_size * self.h.ncols();
        [&flat(&self.h)[..len], &flat(&self.c)[..len]]
    }

    /// As [`Activations::carried`], to write to.
    pub fn carried_mut(&mut self) -> [&mut [f32]; 2] {
        let len = self.batch_size * self.h.ncols();
        [&mut flat_mut(&mut self.h)[..len], &mut flat_mut(&mut self.c)[..len]]
    }

    /// Carries the last time step's h and c to the next training step.
    pub(super) fn carry(&mut self) {
        for state in [&mut self.h, &mut self.c] {
            let last = self.unrollings * self.batch_size * state.ncols();
            flat_mut(state).copy_within(last.., 0);
        }
    }
}

/// Each right factor of a training step, as (rows, columns), in the order of use.
pub(crate) fn right_factors(n: usize, b: usize, t: usize) -> [(usize, usize); 6] {
    let rows = t * b;
    [(n, 4 * n), (n, SYMBOLS), (rows, SYMBOLS), (SYMBOLS, n), (4 * n, n), (rows, 4 * n)]
}

/// The sum, over rows in their order, of the loss of predicting `labels` from `inputs` (`[T B]` symbols each).
pub fn forward(
    kernels: Kernels,
    parameters: &Parameters,
    activations: &mut Activations,
    inputs: &[u8],
    labels: &[u8],
) -> f64 {
    let Activations { h, c, tanh_c, gates, dlogits, right, tile, .. } = activations;
    let [n, b, t] = [parameters.nodes(), activations.batch_size, activations.unrollings];
    assert!(inputs.len() == t * b && labels.len() == t * b, "inputs and labels are [T B]");

    // 1. Time step by time step: the recurrent product of all gates, then the cell.
    right.pack(Matrix::with_columns(4 * n, flat(&parameters.recurrent_kernel)));
    for t in 0..t {
        let (before, now) = (t * b..(t + 1) * b, (t + 1) * b..(t + 2) * b);
        let (h_before, mut h) = h.multi_slice_mut((s![before.clone(), ..], s![now.clone(), ..]));
        let (c_before, mut c) = c.multi_slice_mut((s![before.clone(), ..], s![now, ..]));
        let mut gates = gates.slice_mut(s![before.clone(), ..]);
        kernels.run(Product {
            left: Matrix::with_columns(n, flat(&h_before)),
            right,
            out: flat_mut(&mut gates),
            tile,
        });
        kernels.run(CellForward {
            nodes: n,
            symbols: &inputs[before.clone()],
            input_kernel: flat(&parameters.input_kernel),
            bias: flat(&parameters.bias),
            gates: flat_mut(&mut gates),
            c_before: flat(&c_before),
            c: flat_mut(&mut c),
            tanh_c: flat_mut(&mut tanh_c.slice_mut(s![before, ..])),
            h: flat_mut(&mut h),
        });
    }

    // 2. All rows at once: logits = h W + b, and their loss.
    right.pack(Matrix::with_columns(SYMBOLS, flat(&parameters.classifier)));
    kernels.run(Product {
        left: Matrix::with_columns(n, flat(&h.slice(s![b.., ..]))),
        right,
        out: flat_mut(dlogits),
        tile,
    });
    kernels.run(SoftmaxLoss {
        logits: flat_mut(dlogits),
        bias: classifier_bias(parameters),
        labels,
        weight: (1.0 / (t * b) as f64) as f32,
    })
}

/// b, `[27]`.
pub(super) fn classifier_bias(parameters: &Parameters) -> &[f32; SYMBOLS] {
    flat(&parameters.classifier_bias)
        .first_chunk()
        .expect("the classifier's bias is one number for each symbol")
}
