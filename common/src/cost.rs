//! FLOPs and predicted seconds of training and validation, from shape alone.
//!
//! Seconds, not FLOPs: small shapes run at a fifth of the rate of large ones. A prediction orders runs and feeds an
//! ETA; no result depends on it.
//!
//! With N nodes, W of them where each line of sixteen that is begun counts whole, B rows, T time steps and V characters
//! of validation, a core takes
//!
//! - a + b*T + c*T*B*W + d*T*B*N*W + e*N*W for a training step,
//! - f*V + g*V*N*W for a validation,
//!
//! where a to g, not negative, are its [`Coefficients`]. W and not N, because kernels work on whole lines: a model of 8
//! nodes pays for 16 columns of a product, though for 8 terms of each sum. With N alone, fitted to the same times of ten
//! shapes, the worst is 19% off; so it is 10%. (AVX2 leaves the upper eight columns out where none counts: 15%.)
//! Linear in a to g, so that a sweep is summed up once, as [`Work`], and predicted for any core.

use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};

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

/// Terms of the model: five of a step, two of a validation.
const TERMS: usize = 7;

/// Columns that a kernel works on at a time.
const LINE: u32 = 16;

/// What there is to do, in the terms of the model: sums over steps and validations.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Work([f64; TERMS]);

impl Work {
    /// Nothing.
    pub const NONE: Self = Self([0.0; TERMS]);

    /// One training step.
    pub fn step(shape: Shape) -> Self {
        let (nodes, whole) = (f64::from(shape.nodes), whole_lines(shape.nodes));
        let rows = shape.predictions_per_step() as f64;
        let time_steps = f64::from(shape.unrollings);
        Self([1.0, time_steps, rows * whole, rows * nodes * whole, nodes * whole, 0.0, 0.0])
    }

    /// One validation.
    pub fn validation(nodes: u32, valid_size: u64) -> Self {
        let characters = valid_size as f64;
        let product = f64::from(nodes) * whole_lines(nodes);
        Self([0.0, 0.0, 0.0, 0.0, 0.0, characters, characters * product])
    }

    /// From step `from` through step `to`, with `validations` on the way.
    pub fn run(shape: Shape, from: Step, to: Step, validations: usize, valid_size: u64) -> Self {
        let steps = to.number().saturating_sub(from.number()) as f64;
        Self::step(shape) * steps + Self::validation(shape.nodes, valid_size) * validations as f64
    }

    /// What is left of this after `done`: no term is below nothing, however the sums were rounded.
    #[must_use]
    pub fn less(self, done: Self) -> Self {
        let Self(left) = self - done;
        Self(left.map(|term| term.max(0.0)))
    }
}

fn whole_lines(nodes: u32) -> f64 {
    f64::from(nodes.div_ceil(LINE) * LINE)
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|term| self.0[term] + other.0[term]))
    }
}

impl Sub for Work {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|term| self.0[term] - other.0[term]))
    }
}

impl Mul<f64> for Work {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self(self.0.map(|term| term * times))
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Work {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(works: I) -> Self {
        works.fold(Self::NONE, Add::add)
    }
}

/// Seconds of one core, a term each.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Coefficients {
    /// a: per step.
    pub step: f64,
    /// b: per time step.
    pub time_step: f64,
    /// c: per time step, row and column.
    pub activation: f64,
    /// d: per time step, row, node and column.
    pub product: f64,
    /// e: per node and column.
    pub update: f64,
    /// f: per validation character.
    pub character: f64,
    /// g: per validation character, node and column.
    pub character_product: f64,
}

/// One AVX-512 core of 2026, by `slalom bench --fit`. Built in, so that the order of runs is the same in every life of a
/// coordinator.
pub const REFERENCE: Coefficients = Coefficients {
    step: 0.0,
    time_step: 2.95e-7,
    activation: 3.63e-9,
    product: 8.93e-11,
    update: 3.58e-9,
    character: 6.01e-8,
    character_product: 1.04e-10,
};

/// What work took that was measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Timed {
    /// The work.
    pub work: Work,
    /// Above zero.
    pub seconds: f64,
}

impl Coefficients {
    /// A coefficient above this is no core's.
    const MAX: f64 = 1e6;
    /// Of the smallest step there is: what is below is no core's.
    const LEAST_STEP_SECONDS: f64 = 1e-15;

    /// Those, not negative, whose predictions of what was timed are the least off: least squares of relative errors, so
    /// that a step of microseconds counts as much as one of milliseconds.
    pub fn fit(timed: &[Timed]) -> Self {
        // Terms are of very different sizes: each is scaled to 1 at most.
        let mut scales = [f64::MIN_POSITIVE; TERMS];
        for Timed { work: Work(terms), seconds } in timed {
            for (scale, term) in scales.iter_mut().zip(terms) {
                *scale = scale.max(term / seconds);
            }
        }
        let rows = timed.iter().map(|Timed { work: Work(terms), seconds }| {
            std::array::from_fn(|term| terms[term] / seconds / scales[term])
        });
        let scaled = nonnegative_least_squares(&rows.collect::<Vec<_>>());
        Self::of_terms(std::array::from_fn(|term| scaled[term] / scales[term]))
    }

    /// These for a core that takes `times` as long.
    #[must_use]
    pub fn slowed(&self, times: f64) -> Self {
        Self::of_terms(self.terms().map(|term| term * times))
    }

    /// Whether a core could have them: none is below zero or absurd, and a step takes time.
    pub fn are_sound(&self) -> bool {
        let smallest = Shape { nodes: 1, batch_size: 1, unrollings: 1 };
        self.terms().iter().all(|term| (0.0..=Self::MAX).contains(term))
            && self.step_seconds(smallest) >= Self::LEAST_STEP_SECONDS
    }

    /// Predicted seconds.
    pub fn seconds(&self, work: &Work) -> f64 {
        self.terms().iter().zip(work.0).map(|(term, amount)| term * amount).sum()
    }

    /// Predicted seconds of one training step.
    pub fn step_seconds(&self, shape: Shape) -> f64 {
        self.seconds(&Work::step(shape))
    }

    /// Predicted seconds of one validation.
    pub fn validation_seconds(&self, nodes: u32, valid_size: u64) -> f64 {
        self.seconds(&Work::validation(nodes, valid_size))
    }

    const fn of_terms(terms: [f64; TERMS]) -> Self {
        let [step, time_step, activation, product, update, character, character_product] = terms;
        Self { step, time_step, activation, product, update, character, character_product }
    }

    /// In the order of [`Work`].
    const fn terms(&self) -> [f64; TERMS] {
        let Self { step, time_step, activation, product, update, character, character_product } = *self;
        [step, time_step, activation, product, update, character, character_product]
    }
}

/// The x, none below zero, for which the sum of (1 - row * x)^2 over `rows` is least, by descent along one coordinate
/// after another: few unknowns, so that nothing more clever is needed. A column of zeros has the answer zero.
fn nonnegative_least_squares(rows: &[[f64; TERMS]]) -> [f64; TERMS] {
    /// Far more than seven unknowns take to settle to the digits that a measurement has; some milliseconds.
    const ROUNDS: usize = 20_000;
    let product = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>();
    let normal: [[f64; TERMS]; TERMS] = std::array::from_fn(|i| std::array::from_fn(|j| product(i, j)));
    let right: [f64; TERMS] = std::array::from_fn(|i| rows.iter().map(|row| row[i]).sum());
    let mut x = [0.0; TERMS];
    for _ in 0..ROUNDS {
        for i in 0..TERMS {
            if normal[i][i] > 0.0 {
                let slope: f64 = normal[i].iter().zip(x).map(|(factor, value)| factor * value).sum();
                x[i] = (x[i] + (right[i] - slope) / normal[i][i]).max(0.0);
            }
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> impl Iterator<Item = Shape> {
        let all =
            [[8, 8, 5], [8, 16, 20], [16, 16, 10], [24, 32, 10], [64, 1, 10], [64, 64, 1], [128, 16, 10]];
        all.into_iter().map(|[nodes, batch_size, unrollings]| Shape { nodes, batch_size, unrollings })
    }

    fn timed(core: &Coefficients) -> Vec<Timed> {
        let works = shapes().map(Work::step).chain([16, 64, 128].map(|nodes| Work::validation(nodes, 1000)));
        works.map(|work| Timed { work, seconds: core.seconds(&work) }).collect()
    }

    #[test]
    fn a_core_of_the_model_is_found_by_its_times() {
        let core = REFERENCE.slowed(3.0);
        let found = Coefficients::fit(&timed(&core));
        for shape in shapes() {
            let (told, true_one) = (found.step_seconds(shape), core.step_seconds(shape));
            assert!((told / true_one - 1.0).abs() < 1e-3, "{shape}: {told} for {true_one}");
        }
        let other = Shape { nodes: 40, batch_size: 20, unrollings: 7 };
        assert!((found.step_seconds(other) / core.step_seconds(other) - 1.0).abs() < 0.01, "{found:?}");
        let validation = found.validation_seconds(40, 500) / core.validation_seconds(40, 500);
        assert!((validation - 1.0).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn no_coefficient_is_negative_whatever_was_timed() {
        // A step that costs less the more there is to do: unconstrained, some term would be below zero.
        let odd: Vec<Timed> = timed(&REFERENCE)
            .into_iter()
            .enumerate()
            .map(|(index, one)| Timed { seconds: 1e-3 / (index + 1) as f64, ..one })
            .collect();
        let fitted = Coefficients::fit(&odd);
        assert!(fitted.are_sound(), "{fitted:?}");
        for few in 1..odd.len() {
            assert!(Coefficients::fit(&odd[..few]).are_sound(), "of {few}");
        }
        assert!(!Coefficients::fit(&[]).are_sound(), "nothing timed, nothing known");
    }

    #[test]
    fn a_model_of_eight_nodes_pays_for_sixteen_columns() {
        let step = |nodes| REFERENCE.step_seconds(Shape { nodes, batch_size: 64, unrollings: 10 });
        assert!(step(8) > 0.7 * step(16), "{} for {}", step(8), step(16));
        assert!(step(17) > 1.5 * step(16), "{} for {}", step(17), step(16));
    }

    #[test]
    fn work_adds_up() {
        let shape = Shape { nodes: 20, batch_size: 3, unrollings: 4 };
        let part =
            |from, to, validations| Work::run(shape, Step::new(from), Step::new(to), validations, 1000);
        assert_eq!(part(0, 40, 1) + part(40, 100, 2), part(0, 100, 3));
        assert_eq!(part(0, 100, 3).less(part(0, 40, 1)), part(40, 100, 2));
        assert_eq!(part(0, 40, 1).less(part(0, 100, 3)), Work::NONE);
        let seconds = 100.0 * REFERENCE.step_seconds(shape) + 3.0 * REFERENCE.validation_seconds(20, 1000);
        assert!((REFERENCE.seconds(&part(0, 100, 3)) / seconds - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_no_core_could_have_is_not_sound() {
        assert!(REFERENCE.are_sound());
        for step in [-1e-9, f64::NAN, f64::INFINITY, 1e7] {
            assert!(!Coefficients { step, ..REFERENCE }.are_sound(), "{step}");
        }
        assert!(!REFERENCE.slowed(0.0).are_sound(), "all zero");
    }
}
