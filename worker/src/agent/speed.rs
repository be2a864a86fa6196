//! How fast a slot is, by training a little at start: for predictions and for people; no result depends on it.

use std::time::{Duration, Instant};

use slalom_common::cost::{REFERENCE, step_flops};
use slalom_common::id::ContentHash;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;

use crate::kernels::Kernels;
use crate::lstm::step::Stepped;
use crate::trainer::{Initial, Trainer, TrainerError};

/// The study's middle shape, with fewer rows: on the slowest kernels too a step takes less than the time there is.
const SHAPE: Shape = Shape { nodes: 64, batch_size: 16, unrollings: 10 };
/// What the measuring may take, but for the last step begun in it.
const TIME: Duration = Duration::from_millis(100);

/// What was measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Speed {
    /// Rate relative to the reference cost: 2 is twice as fast.
    pub relative: f64,
    /// Of a slot.
    pub gflops: f64,
}

/// Trains on a made-up text for a tenth of a second and takes the fastest step: the others were disturbed.
///
/// # Errors
/// If not even this small model fits into memory.
pub fn measure(kernels: Kernels) -> Result<Speed, TrainerError> {
    let text: Vec<u8> = (0..1_000_u32).map(|i| (i * i % 27) as u8).collect();
    let family = Family {
        corpus: ContentHash::new([0; 32]),
        valid_size: 1,
        training: TrainingSettings::default(),
        numerics: NUMERICS,
    };
    let run = Run { family, shape: SHAPE, seed: 0 };
    let mut trainer = Trainer::new(kernels, &run, text.into(), Initial::Seed)?;
    let start = Instant::now();
    let mut fastest = Duration::MAX;
    while start.elapsed() < TIME {
        let before = Instant::now();
        let stepped = trainer.step();
        fastest = fastest.min(before.elapsed());
        if let Stepped::Diverged { .. } = stepped {
            break;
        }
    }
    let seconds = fastest.max(Duration::from_nanos(1)).as_secs_f64();
    Ok(Speed { relative: REFERENCE.step_seconds(SHAPE) / seconds, gflops: step_flops(SHAPE) / seconds / 1e9 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_that_a_hello_may_carry() {
        for kernels in Kernels::available() {
            let speed = measure(kernels).expect("it fits");
            assert!(speed.relative.is_finite() && speed.relative > 0.0, "{speed:?}");
            assert!(speed.gflops.is_finite() && speed.gflops > 0.0, "{speed:?}");
        }
    }
}
