//! `numerics.toml` pins the bits of eight runs: whoever changes them changes every result that is stored.

use std::fmt::Write as _;
use std::sync::Arc;

use slalom_common::id::ContentHash;
use slalom_common::outcome::Measured;
use slalom_common::rng::philox4x32_10;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;
use slalom_worker::kernels::{IsaName, Kernels};
use slalom_worker::lstm::step::Stepped;
use slalom_worker::trainer::{Initial, Trainer};

/// N, B and T: one of each, more unrollings than nodes, sizes beside a vector's, a panel's and a
/// tile's, and products over more rows, or more gates, than a block of k.
const SHAPES: [[u32; 3]; 8] =
    [[1, 1, 1], [3, 2, 5], [4, 3, 16], [9, 37, 8], [16, 8, 5], [17, 5, 3], [33, 13, 7], [65, 6, 11]];
const STEPS: u64 = 24;

/// 1,000 symbols, the lower ids likelier, from the counter-based generator: no corpus and no file is needed.
fn text() -> Arc<[u8]> {
    (0..1000)
        .map(|index| philox4x32_10([index, 0, 0, 0], [42, 0]))
        .map(|w| (w[0] % 27).min(w[1] % 27) as u8)
        .collect()
}

/// Settings under which both the clip and the decay act.
fn run([nodes, batch_size, unrollings]: [u32; 3]) -> Run {
    let training = TrainingSettings { clip_norm: 0.2, decay_steps: 10, ..TrainingSettings::default() };
    let family = Family { corpus: ContentHash::of(&text()), valid_size: 70, training, numerics: NUMERICS };
    Run { family, shape: Shape { nodes, batch_size, unrollings }, seed: 7 }
}

/// The file as these kernels would have it.
fn pinned_by(kernels: Kernels) -> String {
    let mut file = format!(
        "# The bits of eight runs (worker/tests/numerics.rs). Written by its test; do not edit.\n\
         numerics = {NUMERICS}\n"
    );
    for shape in SHAPES {
        let run = run(shape);
        let mut trainer = Trainer::new(kernels, &run, text(), Initial::Seed).expect("the run fits");
        let mut perplexities = String::new();
        for step in 0..=STEPS {
            if step.is_multiple_of(STEPS / 2) {
                let Measured::Perplexity(perplexity) = trainer.validate() else {
                    panic!("{shape:?} diverged in validation after {step} steps");
                };
                let bits = perplexity.bits();
                writeln!(perplexities, "    \"{bits:016x}\", # after {step} steps: {perplexity:.6}")
                    .expect("memory");
            }
            if step < STEPS {
                let stepped = trainer.step();
                assert!(matches!(stepped, Stepped::Applied { .. }), "{shape:?} diverged at step {step}");
            }
        }
        let weights = trainer.parameters().tensors().concat();
        let weights: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let [nodes, batch_size, unrollings] = shape;
        write!(
            file,
            "\n[[run]]\nnodes = {nodes}\nbatch_size = {batch_size}\nunrollings = {unrollings}\n\
             weights_sha256 = \"{}\"\nperplexity_bits = [\n{perplexities}]\n",
            ContentHash::of(&weights)
        )
        .expect("memory");
    }
    file
}

#[test]
fn the_bits_of_eight_runs_are_those_of_this_numerics_version_on_every_instruction_set() {
    let pinned = include_str!("numerics.toml");
    for isa in IsaName::ALL {
        match Kernels::of(isa) {
            Ok(kernels) => {
                let found = pinned_by(kernels);
                assert!(
                    found == pinned,
                    "bits changed on {isa}: raise NUMERICS in common/src/run.rs and renew worker/tests/numerics.toml \
                     with\n{found}"
                );
            }
            Err(missing) => eprintln!("SKIPPED the pinned bits: {missing}"),
        }
    }
}
