//! How fast this core trains: a step of each shape and the core's own peak, measured in turn.
//!
//! Machines differ, and a shared one differs from itself a second later. So what is said of a shape is the median of
//! ratios, each of a step and of a peak measured right before it.

use std::time::{Duration, Instant};

use slalom_common::cost::{Timed, Work, step_flops, validation_flops};
use slalom_common::id::ContentHash;
use slalom_common::outcome::Measured;
use slalom_common::rng::philox4x32_10;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;

use crate::kernels::Kernels;
use crate::kernels::peak::Peak;
use crate::lstm::OutOfMemory;
use crate::lstm::evaluate::Evaluator;
use crate::lstm::params::Parameters;
use crate::trainer::{Initial, Trainer, TrainerError};

/// The shapes of `docs/performance.md`.
pub const SHAPES: [Shape; 10] = [
    shape(8, 8, 5),
    shape(16, 16, 10),
    shape(32, 32, 10),
    shape(64, 64, 10),
    shape(128, 64, 10),
    shape(128, 64, 15),
    shape(256, 64, 20),
    shape(512, 128, 20),
    shape(64, 1, 10),
    shape(128, 16, 40),
];

/// The sizes of model whose validation is measured.
pub const VALIDATED_NODES: [u32; 2] = [64, 128];

/// What the cost of any shape is fitted to, the cheapest first: each term of the model is large in one of them, and all
/// stay in a core's own caches.
const PROBES: [Probe; 13] = [
    Probe::Step(shape(8, 8, 5)),
    Probe::Step(shape(8, 16, 20)),
    Probe::Validation(16),
    Probe::Step(shape(16, 16, 10)),
    Probe::Step(shape(24, 32, 5)),
    Probe::Step(shape(32, 16, 10)),
    Probe::Step(shape(64, 1, 10)),
    Probe::Validation(64),
    Probe::Step(shape(64, 16, 5)),
    Probe::Step(shape(64, 64, 2)),
    Probe::Validation(128),
    Probe::Step(shape(128, 16, 5)),
    Probe::Step(shape(128, 32, 10)),
];

/// Something whose time tells of a core.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Probe {
    /// A training step.
    Step(Shape),
    /// A validation of a model of so many nodes, over [`VALID_SIZE`] characters.
    Validation(u32),
}

impl Probe {
    /// What it is in the terms of the cost model.
    pub fn work(self) -> Work {
        match self {
            Self::Step(shape) => Work::step(shape),
            Self::Validation(nodes) => Work::validation(nodes, VALID_SIZE as u64),
        }
    }

    fn flops(self) -> f64 {
        match self {
            Self::Step(shape) => step_flops(shape),
            Self::Validation(nodes) => validation_flops(nodes, VALID_SIZE as u64),
        }
    }
}

/// Characters of a validation, by default.
pub const VALID_SIZE: usize = 1000;

const fn shape(nodes: u32, batch_size: u32, unrollings: u32) -> Shape {
    Shape { nodes, batch_size, unrollings }
}

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Alternations of peak and step; the median of them is told.
    pub alternations: usize,
    /// For the steps of one alternation; at least one step is taken.
    pub steps: Duration,
    /// For the peak of one alternation.
    pub peak: Duration,
}

impl Effort {
    /// Just enough to see that it works.
    pub const LEAST: Self = Self { alternations: 1, steps: Duration::ZERO, peak: Duration::ZERO };

    /// As much as `time` has room for: four fifths of it for steps. The larger shapes take longer, since no alternation
    /// is without a step.
    pub fn lasting(time: Duration) -> Self {
        /// Odd, and not below nine: one that was disturbed moves the median little.
        const ALTERNATIONS: usize = 11;
        let one = time / ALTERNATIONS as u32;
        Self { alternations: ALTERNATIONS, steps: one * 4 / 5, peak: one / 5 }
    }
}

/// A training step of one shape.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepRate {
    /// Whose.
    pub shape: Shape,
    /// Of one step: the median over alternations of the median in each.
    pub seconds: f64,
    /// FLOPs counted as `step_flops`, per second.
    pub flops_per_second: f64,
    /// Of the peak measured in turn, the median over alternations.
    pub share_of_peak: f64,
    /// That peak, the median over alternations.
    pub peak_flops_per_second: f64,
}

impl StepRate {
    /// Characters read a second.
    pub fn characters_per_second(&self) -> f64 {
        self.shape.predictions_per_step() as f64 / self.seconds
    }
}

/// A validation over [`VALID_SIZE`] characters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ValidationRate {
    /// Whose.
    pub nodes: u32,
    /// Of one validation.
    pub seconds: f64,
    /// Of the matrix products that it cannot do without, alone, in the same process.
    pub products_seconds: f64,
    /// The one by the other, the median over alternations.
    pub over_products: f64,
    /// Of the products alone, FLOPs per second.
    pub flops_per_second: f64,
}

/// Fused multiply-adds and nothing else, for a few microseconds: how many FLOPs they were.
pub fn fused_multiply_adds(kernels: Kernels) -> f64 {
    /// Short beside any time asked for, long beside reading the clock.
    const ROUNDS: u32 = 1000;
    kernels.run(Peak { rounds: ROUNDS })
}

/// The core's peak: the median of several looks at it.
pub fn peak(kernels: Kernels, effort: Effort) -> f64 {
    let looks = (0..effort.alternations).map(|_| peak_flops_per_second(kernels, effort.peak));
    median(&mut looks.collect::<Vec<f64>>())
}

/// By the median of calls of some microseconds, as a step is timed: a mean over milliseconds would count what other
/// processes took in between, and a step's share of it could then be above one.
fn peak_flops_per_second(kernels: Kernels, time: Duration) -> f64 {
    let mut flops = 0.0;
    let seconds = median_seconds(time, || flops = fused_multiply_adds(kernels));
    flops / seconds
}

/// Measures a step of `shape` against the peak, in turn.
///
/// # Errors
/// If the shape does not fit into memory.
pub fn step_rate(kernels: Kernels, shape: Shape, effort: Effort) -> Result<StepRate, TrainerError> {
    let mut trainer = trainer(kernels, shape)?;
    let (mut seconds, mut shares, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    // The first touches its memory for the first time.
    trainer.step();
    for _ in 0..effort.alternations {
        let peak = peak_flops_per_second(kernels, effort.peak);
        let step = median_seconds(effort.steps, || {
            trainer.step();
        });
        shares.push(step_flops(shape) / step / peak);
        seconds.push(step);
        peaks.push(peak);
    }
    let seconds = median(&mut seconds);
    Ok(StepRate {
        shape,
        seconds,
        flops_per_second: step_flops(shape) / seconds,
        share_of_peak: median(&mut shares),
        peak_flops_per_second: median(&mut peaks),
    })
}

/// Measures a validation of a model of `nodes` against its products alone, in turn.
///
/// # Errors
/// If the model does not fit into memory.
pub fn validation_rate(kernels: Kernels, nodes: u32, effort: Effort) -> Result<ValidationRate, OutOfMemory> {
    let parameters = Parameters::initial(nodes as usize, 1)?;
    let mut evaluator = Evaluator::new(kernels, nodes as usize)?;
    let text = text(VALID_SIZE);
    let (mut seconds, mut products, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.alternations {
        let product = median_seconds(effort.steps, || evaluator.products_alone(&parameters, VALID_SIZE));
        let whole = median_seconds(effort.steps, || {
            evaluator.perplexity(&parameters, &text);
        });
        products.push(product);
        seconds.push(whole);
        ratios.push(whole / product);
    }
    let products_seconds = median(&mut products);
    Ok(ValidationRate {
        nodes,
        seconds: median(&mut seconds),
        products_seconds,
        over_products: median(&mut ratios),
        flops_per_second: validation_flops(nodes, VALID_SIZE as u64) / products_seconds,
    })
}

/// What a core takes for each of a few small shapes, all within about `time`: the fastest of several tries, since the
/// others were disturbed. A core so slow that a shape alone would take longer leaves it out.
///
/// # Errors
/// If not even these small models fit into memory.
pub fn timed(kernels: Kernels, time: Duration) -> Result<Vec<(Probe, Timed)>, TrainerError> {
    let start = Instant::now();
    let share = time / PROBES.len() as u32;
    let mut all: Vec<(Probe, Timed)> = Vec::new();
    let mut last_flops_per_second = f64::INFINITY;
    for probe in PROBES {
        let left = time.saturating_sub(start.elapsed()).as_secs_f64();
        // The first try of each is to touch its memory.
        if 2.0 * probe.flops() / last_flops_per_second > left && !all.is_empty() {
            continue;
        }
        let seconds = match probe {
            Probe::Step(shape) => {
                let mut trainer = trainer(kernels, shape)?;
                fastest_seconds(share, || {
                    trainer.step();
                })
            }
            Probe::Validation(nodes) => {
                let mut validate = validation(kernels, nodes)?;
                fastest_seconds(share, || {
                    validate();
                })
            }
        };
        last_flops_per_second = probe.flops() / seconds;
        all.push((probe, Timed { work: probe.work(), seconds }));
    }
    Ok(all)
}

/// A validation to call again and again: a model of `nodes` and what it reads.
///
/// # Errors
/// If the model does not fit into memory.
pub fn validation(kernels: Kernels, nodes: u32) -> Result<impl FnMut() -> Measured, OutOfMemory> {
    let parameters = Parameters::initial(nodes as usize, 1)?;
    let mut evaluator = Evaluator::new(kernels, nodes as usize)?;
    let text = text(VALID_SIZE);
    Ok(move || evaluator.perplexity(&parameters, &text))
}

/// A run of `shape` before its first step, on a made-up text.
///
/// # Errors
/// If it does not fit into memory.
pub fn trainer(kernels: Kernels, shape: Shape) -> Result<Trainer, TrainerError> {
    let family = Family {
        corpus: ContentHash::new([0; 32]),
        valid_size: VALID_SIZE as u64,
        training: TrainingSettings::default(),
        numerics: NUMERICS,
    };
    let text = text(VALID_SIZE + 100_000).into();
    Trainer::new(kernels, &Run { family, shape, seed: 1 }, text, Initial::Seed)
}

/// Symbols of which, as in a language, some are much likelier than others.
fn text(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|index| philox4x32_10([index, 0, 0, 0], [5, 0]))
        .map(|words| (words[0] % 27).min(words[1] % 27) as u8)
        .collect()
}

fn median_seconds(time: Duration, mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut seconds = Vec::new();
    loop {
        let before = Instant::now();
        call();
        seconds.push(before.elapsed().as_secs_f64().max(1e-9));
        if start.elapsed() >= time {
            return median(&mut seconds);
        }
    }
}

fn fastest_seconds(time: Duration, mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    let mut fastest = f64::INFINITY;
    loop {
        let before = Instant::now();
        call();
        fastest = fastest.min(before.elapsed().as_secs_f64().max(1e-9));
        if start.elapsed() >= time {
            return fastest;
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also of a core for which all but the first are too slow.
    #[test]
    fn what_is_timed_in_little_time_is_the_cheapest() {
        let all = timed(Kernels::detect(), Duration::from_secs(1)).expect("it fits");
        assert!(all.len() > 7, "each term of the model has something to say: {all:?}");
        assert!(all.iter().all(|(probe, one)| one.seconds > 0.0 && one.work == probe.work()), "{all:?}");
        let least = timed(Kernels::detect(), Duration::ZERO).expect("it fits");
        assert_eq!(least.iter().map(|(probe, _)| *probe).collect::<Vec<_>>(), PROBES[..1]);
    }

    #[test]
    fn a_share_is_of_the_peak_that_is_told() {
        let rate = step_rate(Kernels::detect(), SHAPES[0], Effort::LEAST).expect("it fits");
        let share = rate.flops_per_second / rate.peak_flops_per_second;
        assert!((rate.share_of_peak / share - 1.0).abs() < 1e-12, "{rate:?}");
    }

    #[test]
    fn every_shape_has_a_rate() {
        let kernels = Kernels::detect();
        for shape in SHAPES {
            let rate = step_rate(kernels, shape, Effort::LEAST).expect("it fits");
            assert!(rate.seconds > 0.0 && rate.share_of_peak > 0.0, "{rate:?}");
            assert!(rate.peak_flops_per_second.is_finite(), "{rate:?}");
            assert!(rate.characters_per_second().is_finite() && rate.flops_per_second.is_finite());
        }
        for nodes in VALIDATED_NODES {
            let rate = validation_rate(kernels, nodes, Effort::LEAST).expect("it fits");
            assert!(rate.over_products > 0.0 && rate.flops_per_second.is_finite(), "{rate:?}");
        }
    }
}
