//! The known run: a tiny one whose outcome is written down, trained by each worker before it says hello. A build, a processor
//! or a memory that comes to other bits is found there, and not in somebody's table.

use std::sync::Arc;

use slalom_common::id::ContentHash;
use slalom_common::outcome::Measured;
use slalom_common::rng::philox4x32_10;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;

use super::{Initial, Trainer, TrainerError};
use crate::kernels::Kernels;

/// Three groups of nodes of which one is a node wide, and rows that fill no tile: a step takes every path there is.
const SHAPE: Shape = Shape { nodes: 33, batch_size: 13, unrollings: 7 };
const STEPS: u32 = 24;
/// Leading symbols that validate.
const VALID_SIZE: u64 = 100;
/// Symbols in all.
const CHARS: u32 = 1_500;

/// What the known run comes to with these kernels: the SHA-256 of its perplexity's bits and then of its weights', tensor after
/// tensor, all little-endian. It takes milliseconds. Where all is sound that is [`slalom_common::run::KNOWN_RUN`].
///
/// # Errors
/// If not even this small model fits into memory.
pub fn known_run(kernels: Kernels) -> Result<ContentHash, TrainerError> {
    let text: Arc<[u8]> = (0..CHARS)
        .map(|index| philox4x32_10([index, 0, 0, 0], [6, 0]))
        .map(|words| (words[0] % 27).min(words[1] % 27) as u8)
        .collect();
    // Both the clip and the decay act.
    let training = TrainingSettings { clip_norm: 0.2, decay_steps: 10, ..TrainingSettings::default() };
    let family =
        Family { corpus: ContentHash::of(&text), valid_size: VALID_SIZE, training, numerics: NUMERICS };
    let mut trainer = Trainer::new(kernels, &Run { family, shape: SHAPE, seed: 3 }, text, Initial::Seed)?;
    for _ in 0..STEPS {
        // A step that diverges changes nothing: the outcome is then another.
        trainer.step();
    }
    let perplexity = match trainer.validate() {
        Measured::Perplexity(perplexity) => perplexity.bits(),
        Measured::Diverged => u64::MAX,
    };
    let weights =
        trainer.parameters().tensors().into_iter().flatten().flat_map(|weight| weight.to_le_bytes());
    let outcome: Vec<u8> = perplexity.to_le_bytes().into_iter().chain(weights).collect();
    Ok(ContentHash::of(&outcome))
}

#[cfg(test)]
mod tests {
    use slalom_common::run::KNOWN_RUN;

    use super::*;

    #[test]
    fn the_known_run_comes_to_what_is_written_down_on_every_instruction_set() {
        for kernels in Kernels::available() {
            let outcome = known_run(kernels).expect("it fits");
            assert_eq!(
                outcome,
                KNOWN_RUN,
                "{}: bits changed: raise NUMERICS in common/src/run.rs, and renew KNOWN_RUN there",
                kernels.name()
            );
        }
    }
}
