//! Whole runs on every instruction set that this processor has: the same bits, at sizes beside those of a vector, a
//! panel, a tile and a block.

use std::sync::Arc;

use slalom_common::id::ContentHash;
use slalom_common::outcome::Measured;
use slalom_common::rng::philox4x32_10;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;
use slalom_worker::kernels::{IsaName, Kernels};
use slalom_worker::lstm::step::Stepped;
use slalom_worker::trainer::{Initial, Trainer};

/// N, B and T. The larger ones have few rows, since the portable path may be a hundred times slower than the others.
const SHAPES: [[u32; 3]; 30] = [
    [1, 1, 1],
    [1, 67, 3],
    [1, 2, 67],
    [2, 16, 9],
    [2, 70, 1],
    [3, 63, 1],
    [3, 40, 17],
    [4, 2, 65],
    [5, 31, 2],
    [7, 7, 7],
    [8, 8, 5],
    [8, 9, 15],
    [9, 1, 63],
    [13, 33, 8],
    [15, 15, 16],
    [16, 17, 17],
    [16, 1, 70],
    [17, 16, 31],
    [19, 65, 1],
    [31, 8, 9],
    [32, 12, 7],
    [33, 2, 33],
    [47, 3, 17],
    [48, 1, 16],
    [63, 1, 8],
    [64, 13, 1],
    [65, 5, 3],
    [67, 7, 2],
    [129, 1, 2],
    [130, 2, 1],
];
const STEPS: u64 = 50;
const MILESTONES: [u64; 3] = [0, 17, STEPS];

fn text() -> Arc<[u8]> {
    (0..800)
        .map(|index| philox4x32_10([index, 0, 0, 0], [5, 0]))
        .map(|w| (w[0] % 27).min(w[1] % 27) as u8)
        .collect()
}

/// All that a run leaves, as bits.
struct Left {
    perplexities: Vec<u64>,
    losses: Vec<u64>,
    gradient_norms: Vec<u64>,
    /// By name.
    arrays: Vec<(&'static str, Vec<u32>)>,
}

/// Settings under which both the clip and the decay act.
fn train(kernels: Kernels, [nodes, batch_size, unrollings]: [u32; 3]) -> Left {
    let shape = Shape { nodes, batch_size, unrollings };
    let training = TrainingSettings { clip_norm: 0.2, decay_steps: 20, ..TrainingSettings::default() };
    let family = Family { corpus: ContentHash::of(&text()), valid_size: 37, training, numerics: NUMERICS };
    let run = Run { family, shape, seed: 13 };
    let mut trainer = Trainer::new(kernels, &run, text(), Initial::Seed).expect("the run fits");
    let (mut perplexities, mut losses, mut gradient_norms) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..=STEPS {
        if MILESTONES.contains(&step) {
            let Measured::Perplexity(perplexity) = trainer.validate() else {
                panic!("{shape:?} diverged in validation after {step} steps on {}", kernels.name());
            };
            perplexities.push(perplexity.bits());
        }
        if step < STEPS {
            let Stepped::Applied { loss, grad_norm } = trainer.step() else {
                panic!("{shape:?} diverged at step {step} on {}", kernels.name());
            };
            losses.push(loss.to_bits());
            gradient_norms.push(grad_norm.to_bits());
        }
    }
    let state = trainer.checkpoint();
    let arrays = [
        ("input kernel", state.weights.input_kernel),
        ("recurrent kernel", state.weights.recurrent_kernel),
        ("bias", state.weights.bias),
        ("classifier", state.weights.classifier),
        ("classifier bias", state.weights.classifier_bias),
        ("h", state.h),
        ("c", state.c),
    ];
    let arrays = arrays.map(|(name, values)| (name, values.into_iter().map(f32::to_bits).collect()));
    Left { perplexities, losses, gradient_norms, arrays: arrays.into() }
}

/// The first thing that differs.
fn difference(found: &Left, expected: &Left) -> Option<String> {
    let first = |a: &[u64], b: &[u64]| (0..b.len()).find(|&at| a.get(at) != b.get(at));
    if let Some(step) = first(&found.gradient_norms, &expected.gradient_norms) {
        return Some(format!("the gradient norm of step {step}"));
    }
    if let Some(step) = first(&found.losses, &expected.losses) {
        return Some(format!("the loss of step {step}"));
    }
    if let Some(index) = first(&found.perplexities, &expected.perplexities) {
        return Some(format!("the perplexity after {} steps", MILESTONES[index]));
    }
    let mut arrays = found.arrays.iter().zip(&expected.arrays);
    let ((name, _), _) = arrays.find(|(found, expected)| found != expected)?;
    Some((*name).to_owned())
}

#[test]
fn whole_runs_have_the_same_bits_on_every_instruction_set() {
    let mut others = Vec::new();
    for isa in IsaName::ALL.into_iter().filter(|&isa| isa != IsaName::Portable) {
        match Kernels::of(isa) {
            Ok(kernels) => others.push(kernels),
            Err(missing) => eprintln!("SKIPPED whole runs on {isa}: {missing}"),
        }
    }
    let portable = Kernels::of(IsaName::Portable).expect("portable is everywhere");
    for shape in SHAPES {
        let expected = train(portable, shape);
        assert_ne!(expected.perplexities[0], expected.perplexities[2], "{shape:?} learns");
        for &kernels in &others {
            let first = difference(&train(kernels, shape), &expected);
            assert_eq!(first, None, "{shape:?} on {} is not as portable has it", kernels.name());
        }
    }
}
