//! One training step: forward, backward, clip and update; or the finding that the run has diverged.

use slalom_common::run::Shape;

use super::OutOfMemory;
use super::backward::backward;
use super::forward::{Activations, forward};
use super::params::Parameters;
use crate::kernels::Kernels;
use crate::kernels::reduce::SumOfSquares;
use crate::kernels::update::Update;

/// What a step came to. The loss is the mean over its T B predictions in nats, before the update; the norm that of all
/// gradients together, before clipping.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Stepped {
    /// The update was applied and the state carried on.
    Applied {
        /// Mean loss of the step's batch, before the update.
        loss: f64,
        /// Global norm before clipping.
        grad_norm: f64,
    },
    /// Loss or norm is not finite: nothing was applied, and parameters and carried state are as before.
    Diverged {
        /// As it came out.
        loss: f64,
        /// As it came out.
        grad_norm: f64,
    },
}

/// A model in training: its parameters, the state that it carries, and all the room that a step needs.
pub struct Network {
    kernels: Kernels,
    parameters: Parameters,
    gradient: Parameters,
    activations: Activations,
}

impl Network {
    /// A model of these parameters whose carried state is zero.
    ///
    /// # Errors
    /// If its arrays do not fit into memory.
    ///
    /// # Panics
    /// If the parameters are not those of `shape.nodes`.
    pub fn new(kernels: Kernels, shape: &Shape, parameters: Parameters) -> Result<Self, OutOfMemory> {
        let nodes = shape.nodes as usize;
        assert_eq!(parameters.nodes(), nodes, "parameters of another number of nodes");
        let gradient = Parameters::zeros(nodes)?;
        Ok(Self { kernels, parameters, gradient, activations: Activations::new(shape)? })
    }

    /// One step at this learning rate, on `inputs` and `labels`, `[T B]` symbols each.
    pub fn step(&mut self, inputs: &[u8], labels: &[u8], learning_rate: f64, clip_norm: f64) -> Stepped {
        let (loss, grad_norm) = self.gradient_of(inputs, labels);
        if !(loss.is_finite() && grad_norm.is_finite()) {
            return Stepped::Diverged { loss, grad_norm };
        }
        // One rounding for clip and rate together (SEMANTICS.md, Step).
        let clip = if grad_norm > clip_norm { clip_norm / grad_norm } else { 1.0 };
        let factor = (learning_rate * clip) as f32;
        for (weights, gradient) in self.parameters.tensors_mut().into_iter().zip(self.gradient.tensors()) {
            self.kernels.run(Update { factor, gradient, weights });
        }
        self.activations.carry();
        Stepped::Applied { loss, grad_norm }
    }

    /// Mean loss and norm; the gradient itself is then in [`Network::gradient`]. Changes nothing that a step reads.
    pub fn gradient_of(&mut self, inputs: &[u8], labels: &[u8]) -> (f64, f64) {
        let Self { kernels, parameters, gradient, activations } = self;
        let loss = forward(*kernels, parameters, activations, inputs, labels) / labels.len() as f64;
        backward(*kernels, parameters, activations, inputs, gradient);
        let mut squares = 0.0;
        for values in gradient.tensors() {
            squares += kernels.run(SumOfSquares { values });
        }
        (loss, squares.sqrt())
    }

    /// As they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Of the last step, before clipping.
    pub fn gradient(&self) -> &Parameters {
        &self.gradient
    }

    /// The carried h and c, `[B, N]` each, row by row.
    pub fn carried(&self) -> [Vec<f32>; 2] {
        self.activations.carried()
    }

    /// Carries these h and c, `[B, N]` each, from now on.
    ///
    /// # Panics
    /// If they are not that long.
    pub fn set_carried(&mut self, h: &[f32], c: &[f32]) {
        self.activations.set_carried(h, c);
    }
}
