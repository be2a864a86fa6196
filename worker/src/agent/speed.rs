//! How fast a slot is, by training a little at start: for predictions and for people; no result depends on it.

use std::time::Duration;

use slalom_common::cost::{Coefficients, REFERENCE, step_flops};
use slalom_common::run::Shape;

use crate::bench::timed;
use crate::kernels::Kernels;
use crate::trainer::TrainerError;

/// The study's middle shape, by whose predicted time people compare workers.
const SHAPE: Shape = Shape { nodes: 64, batch_size: 64, unrollings: 10 };
/// What the measuring may take, but for the last step begun in it: little beside a sweep of seconds.
const TIME: Duration = Duration::from_millis(100);

/// What was measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Speed {
    /// What a slot takes for any shape.
    pub cost: Coefficients,
    /// Rate relative to the reference cost at the middle shape: 2 is twice as fast.
    pub relative: f64,
    /// Of a slot, at that shape.
    pub gflops: f64,
}

/// Trains small shapes on a made-up text for a tenth of a second and fits what a slot takes for any.
///
/// # Errors
/// If not even these small models fit into memory.
pub fn measure(kernels: Kernels) -> Result<Speed, TrainerError> {
    let timed = timed(kernels, TIME)?;
    let cost = Coefficients::fit(&timed.iter().map(|(_, one)| *one).collect::<Vec<_>>());
    let seconds = cost.step_seconds(SHAPE);
    Ok(Speed {
        cost,
        relative: REFERENCE.step_seconds(SHAPE) / seconds,
        gflops: step_flops(SHAPE) / seconds / 1e9,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_that_a_hello_may_carry() {
        for kernels in Kernels::available() {
            let speed = measure(kernels).expect("it fits");
            assert!(speed.cost.are_sound(), "{speed:?}");
            assert!(speed.relative.is_finite() && speed.relative > 0.0, "{speed:?}");
            assert!(speed.gflops.is_finite() && speed.gflops > 0.0, "{speed:?}");
        }
    }
}
