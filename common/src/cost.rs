//! FLOPs and predicted seconds of training and validation, from shape alone.
//!
//! Seconds, not FLOPs: small shapes run at a fifth of the rate of large ones. A prediction orders runs and feeds an
//! ETA; no result depends on it.

use crate::id::Step;
use crate::run::Shape;

/// Floating-point operations of one training step: T*B*(24*N*N + 162*N), products only.
pub fn step_flops(shape: Shape) -> f64 {
    let nodes = f64::from(shape.nodes);
    shape.predictions_per_step() as f64 * (24.0 * nodes * nodes + 162.0 * nodes)
}

/// Floating-point operations of one validation over `valid_size` characters: the forward products at batch 1.
pub fn validation_flops(nodes: u32, valid_size: u64) -> f64 {
    let nodes = f64::from(nodes);
    valid_size as f64 * (8.0 * nodes * nodes + 54.0 * nodes)
}

/// Seconds of one core: a + b*T + c*T*B*N + d*T*B*N^2 + e*N^2 for a step, f*V + g*V*N^2 for a validation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Coefficients {
    /// Per step.
    pub step: f64,
    /// Per time step.
    pub time_step: f64,
    /// Per time step, row and node.
    pub activation: f64,
    /// Per time step, row and square of nodes.
    pub product: f64,
    /// Per square of nodes.
    pub update: f64,
    /// Per validation character.
    pub character: f64,
    /// Per validation character and square of nodes.
    pub character_product: f64,
}

/// One AVX-512 core of 2026, fitted to six shapes of steps (8 to 128 nodes) within 4% and to three validations within 12%. Built in, so that
/// the order of runs is the same in every life of a coordinator.
pub const REFERENCE: Coefficients = Coefficients {
    step: 2.0e-6,
    time_step: 1.5e-6,
    activation: 1.2e-8,
    product: 8.9e-11,
    update: 4.1e-9,
    character: 2.7e-7,
    character_product: 1.25e-10,
};

impl Coefficients {
    /// Predicted seconds of one training step.
    pub fn step_seconds(&self, shape: Shape) -> f64 {
        let nodes = f64::from(shape.nodes);
        let rows = shape.predictions_per_step() as f64;
        self.step
            + self.time_step * f64::from(shape.unrollings)
            + self.activation * rows * nodes
            + self.product * rows * nodes * nodes
            + self.update * nodes * nodes
    }

    /// Predicted seconds of one validation.
    pub fn validation_seconds(&self, nodes: u32, valid_size: u64) -> f64 {
        let nodes = f64::from(nodes);
        valid_size as f64 * (self.character + self.character_product * nodes * nodes)
    }

    /// Predicted seconds from step `from` through step `to`, with `validations` on the way.
    pub fn run_seconds(
        &self,
        shape: Shape,
        from: Step,
        to: Step,
        validations: usize,
        valid_size: u64,
    ) -> f64 {
        let steps = to.number().saturating_sub(from.number()) as f64;
        steps * self.step_seconds(shape)
            + validations as f64 * self.validation_seconds(shape.nodes, valid_size)
    }
}
