//! The run whose checkpoints are made and read.

use slalom_common::id::ContentHash;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;

/// As small as runs are.
pub(crate) fn tiny() -> Run {
    Run {
        family: Family {
            corpus: ContentHash::of(b"snow"),
            valid_size: 10,
            training: TrainingSettings::default(),
            numerics: NUMERICS,
        },
        shape: Shape { nodes: 1, batch_size: 1, unrollings: 1 },
        seed: 7,
    }
}
