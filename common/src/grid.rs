//! The product of five axes minus exclusions: numbers that decode to coordinates, never a list.
//!
//! A run's place in its grid is a mixed-radix number over (nodes, `batch_size`, unrollings, seed), the last fastest,
//! holes included, so it never changes meaning. `epochs` is not part of it: a run answers all its epochs.

use crate::axis::Axis;
use crate::filter::{At, EvalError, Filter, Name};
use crate::run::Shape;

/// The most runs one sweep may number: longest first needs an order, and an order needs memory.
pub const RUNS_MAX: u64 = 10_000_000;

/// The most trials one sweep may hold, so that its exclusions are evaluated in seconds.
pub const TRIALS_MAX: u64 = 100_000_000;

/// The values of the five axes, before anything is excluded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Axes {
    /// Memory cells.
    pub nodes: Axis,
    /// Rows trained side by side.
    pub batch_size: Axis,
    /// Time steps between updates.
    pub unrollings: Axis,
    /// Units of training after which a perplexity is wanted.
    pub epochs: Axis,
    /// Seeds of the initial weights.
    pub seed: Axis,
}

impl Axes {
    fn of(&self, name: Name) -> &Axis {
        match name {
            Name::Nodes => &self.nodes,
            Name::BatchSize => &self.batch_size,
            Name::Unrollings => &self.unrollings,
            Name::Epochs => &self.epochs,
            Name::Seed => &self.seed,
        }
    }
}

/// A run's shape and seed: what its number in a grid decodes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Coordinates {
    /// Its sizes.
    pub shape: Shape,
    /// The seed of its initial weights.
    pub seed: u64,
}

/// The product of [`Axes`] without the trials that a filter excludes.
#[derive(Clone, Debug)]
pub struct Grid {
    axes: Axes,
    exclusions: Vec<Exclusion>,
}

/// Why some axes and filters make no grid.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum GridError {
    /// A size beyond its bound, or zero.
    #[error("`{axis}` is {value}: it must be from {min} to {max}")]
    OutOfRange {
        /// The axis.
        axis: &'static str,
        /// The value refused.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// More than [`RUNS_MAX`] runs, or a product beyond 64 bits.
    #[error(
        "{nodes} nodes x {batch_size} batch_size x {unrollings} unrollings x {seeds} seeds are more than {RUNS_MAX} runs"
    )]
    TooManyRuns {
        /// Values of the axis.
        nodes: usize,
        /// Values of the axis.
        batch_size: usize,
        /// Values of the axis.
        unrollings: usize,
        /// Values of the axis.
        seeds: usize,
    },
    /// More than [`TRIALS_MAX`] trials.
    #[error("{runs} runs x {epochs} epochs are more than {TRIALS_MAX} trials")]
    TooManyTrials {
        /// Numbers of the grid.
        runs: u64,
        /// Values of the axis.
        epochs: usize,
    },
    /// An expression has no value somewhere.
    #[error("`{expression}` has no value at {at}")]
    Filter {
        /// The filter's source.
        expression: String,
        /// The first combination, as `name = value` of the names in it.
        at: String,
        /// What went wrong there.
        source: EvalError,
    },
}

impl Grid {
    /// Checks every bound and evaluates each filter once per combination of the names in it.
    ///
    /// # Errors
    /// Names the first size out of range, product too large, or filter without a value.
    pub fn new(axes: Axes, exclude: Vec<Filter>) -> Result<Self, GridError> {
        let bounds = [
            ("nodes", &axes.nodes, 1, Shape::NODES_MAX),
            ("batch_size", &axes.batch_size, 1, Shape::BATCH_SIZE_MAX),
            ("unrollings", &axes.unrollings, 1, Shape::UNROLLINGS_MAX),
            ("epochs", &axes.epochs, 1, (1 << 40) - 1),
            ("seed", &axes.seed, 0, u64::MAX),
        ];
        for (axis, values, min, max) in bounds {
            if let Some(&value) = values.values().iter().find(|value| !(min..=max).contains(value)) {
                return Err(GridError::OutOfRange { axis, value, min, max });
            }
        }
        let product = [&axes.nodes, &axes.batch_size, &axes.unrollings, &axes.seed]
            .iter()
            .try_fold(1_u64, |product, axis| product.checked_mul(axis.len() as u64));
        let Some(runs) = product.filter(|&runs| runs <= RUNS_MAX) else {
            return Err(GridError::TooManyRuns {
                nodes: axes.nodes.len(),
                batch_size: axes.batch_size.len(),
                unrollings: axes.unrollings.len(),
                seeds: axes.seed.len(),
            });
        };
        if runs.saturating_mul(axes.epochs.len() as u64) > TRIALS_MAX {
            return Err(GridError::TooManyTrials { runs, epochs: axes.epochs.len() });
        }
        let exclusions =
            exclude.into_iter().map(|filter| Exclusion::new(&axes, filter)).collect::<Result<_, _>>()?;
        Ok(Self { axes, exclusions })
    }

    /// The axes, nothing excluded.
    pub fn axes(&self) -> &Axes {
        &self.axes
    }

    /// The filters, in the order they were given.
    pub fn exclude(&self) -> impl ExactSizeIterator<Item = &Filter> {
        self.exclusions.iter().map(|exclusion| &exclusion.filter)
    }

    /// How many numbers the grid takes, holes included.
    pub fn numbers(&self) -> u64 {
        let Axes { nodes, batch_size, unrollings, seed, .. } = &self.axes;
        [nodes, batch_size, unrollings, seed].iter().map(|axis| axis.len() as u64).product()
    }

    /// Trials before exclusion.
    pub fn trials(&self) -> u64 {
        self.numbers() * self.axes.epochs.len() as u64
    }

    /// What `number` decodes to, whether or not all its trials are excluded; `None` past the end.
    pub fn coordinates(&self, number: u64) -> Option<Coordinates> {
        if number >= self.numbers() {
            return None;
        }
        let mut rest = number as usize;
        let mut digit = |axis: &Axis| {
            let value = axis.values()[rest % axis.len()];
            rest /= axis.len();
            value
        };
        let seed = digit(&self.axes.seed);
        let unrollings = digit(&self.axes.unrollings) as u32;
        let batch_size = digit(&self.axes.batch_size) as u32;
        let nodes = digit(&self.axes.nodes) as u32;
        Some(Coordinates { shape: Shape { nodes, batch_size, unrollings }, seed })
    }

    /// The number that decodes to `at`; `None` if a coordinate is not on its axis.
    pub fn number_of(&self, at: &Coordinates) -> Option<u64> {
        let digits = [
            (&self.axes.nodes, u64::from(at.shape.nodes)),
            (&self.axes.batch_size, u64::from(at.shape.batch_size)),
            (&self.axes.unrollings, u64::from(at.shape.unrollings)),
            (&self.axes.seed, at.seed),
        ];
        digits.iter().try_fold(0, |number, (axis, value)| {
            Some(number * axis.len() as u64 + axis.index_of(*value)? as u64)
        })
    }

    /// The epochs of the trials at `at` that are not excluded, ascending; none off the grid.
    pub fn epochs_at(&self, at: &Coordinates) -> impl Iterator<Item = u64> + '_ {
        let indices = self.indices_of(at);
        let epochs = self.axes.epochs.values();
        epochs.iter().enumerate().filter_map(move |(index, &value)| {
            let mut indices = indices?;
            indices[Name::Epochs as usize] = index;
            let excluded = self.exclusions.iter().any(|exclusion| exclusion.excludes(&indices));
            (!excluded).then_some(value)
        })
    }

    /// Whether the trial of so many epochs at `at` is on the grid and not excluded.
    pub fn has_trial(&self, at: &Coordinates, epochs: u64) -> bool {
        let (Some(mut indices), Some(index)) = (self.indices_of(at), self.axes.epochs.index_of(epochs))
        else {
            return false;
        };
        indices[Name::Epochs as usize] = index;
        !self.exclusions.iter().any(|exclusion| exclusion.excludes(&indices))
    }

    fn indices_of(&self, at: &Coordinates) -> Option<[usize; 5]> {
        let mut indices = [0; 5];
        indices[Name::Nodes as usize] = self.axes.nodes.index_of(at.shape.nodes.into())?;
        indices[Name::BatchSize as usize] = self.axes.batch_size.index_of(at.shape.batch_size.into())?;
        indices[Name::Unrollings as usize] = self.axes.unrollings.index_of(at.shape.unrollings.into())?;
        indices[Name::Seed as usize] = self.axes.seed.index_of(at.seed)?;
        Some(indices)
    }
}

impl PartialEq for Grid {
    /// By axes and the filters' sources: a grid is a formula.
    fn eq(&self, other: &Self) -> bool {
        self.axes == other.axes && self.exclude().map(Filter::source).eq(other.exclude().map(Filter::source))
    }
}

/// A filter and its value at every combination of the names in it.
#[derive(Clone, Debug)]
struct Exclusion {
    filter: Filter,
    /// What an index on each axis adds to the place in `excluded`; 0 for names that the filter does not read.
    strides: [usize; 5],
    excluded: Vec<bool>,
}

impl Exclusion {
    fn new(axes: &Axes, filter: Filter) -> Result<Self, GridError> {
        let mut strides = [0; 5];
        let mut combinations = 1;
        for &name in filter.names() {
            strides[name as usize] = combinations;
            combinations *= axes.of(name).len();
        }
        let mut excluded = Vec::with_capacity(combinations);
        for place in 0..combinations {
            let value = |name: Name| {
                let axis = axes.of(name);
                let stride = strides[name as usize];
                axis.values()[place.checked_div(stride).map_or(0, |digits| digits % axis.len())]
            };
            let at = At {
                nodes: value(Name::Nodes),
                batch_size: value(Name::BatchSize),
                unrollings: value(Name::Unrollings),
                epochs: value(Name::Epochs),
                seed: value(Name::Seed),
            };
            let verdict = filter.matches(&at).map_err(|source| {
                let named: Vec<String> =
                    filter.names().iter().map(|&name| format!("{} = {}", name.word(), value(name))).collect();
                GridError::Filter {
                    expression: filter.source().to_owned(),
                    at: if named.is_empty() { "every point".to_owned() } else { named.join(", ") },
                    source,
                }
            })?;
            excluded.push(verdict);
        }
        Ok(Self { filter, strides, excluded })
    }

    fn excludes(&self, indices: &[usize; 5]) -> bool {
        let place: usize = indices.iter().zip(&self.strides).map(|(index, stride)| index * stride).sum();
        self.excluded[place]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn axis(values: &[u64]) -> Axis {
        Axis::new(values.to_vec()).expect("a valid axis")
    }

    fn axes() -> Axes {
        Axes {
            nodes: axis(&[8, 16, 64]),
            batch_size: axis(&[16, 64]),
            unrollings: axis(&[1, 10, 20]),
            epochs: axis(&[500, 1000]),
            seed: axis(&[0, 1]),
        }
    }

    fn filter(source: &str) -> Filter {
        Filter::compile(source).expect("a valid filter")
    }

    #[test]
    fn numbers_and_coordinates_are_inverses() {
        let grid = Grid::new(axes(), Vec::new()).expect("a valid grid");
        assert_eq!(grid.numbers(), 36);
        for number in 0..36 {
            let at = grid.coordinates(number).expect("inside");
            assert_eq!(grid.number_of(&at), Some(number));
        }
        assert_eq!(grid.coordinates(36), None);
        let second = grid.coordinates(1).expect("inside");
        assert_eq!(second.seed, 1, "the seed is the fastest digit");
    }

    #[test]
    fn what_a_filter_excludes_has_no_epochs() {
        let grid =
            Grid::new(axes(), vec![filter("unrollings > nodes && epochs == 1000"), filter("seed == 1")])
                .expect("a valid grid");
        let shape = Shape { nodes: 8, batch_size: 64, unrollings: 10 };
        let epochs = |shape, seed| grid.epochs_at(&Coordinates { shape, seed }).collect::<Vec<_>>();
        assert_eq!(epochs(shape, 0), [500]);
        assert_eq!(epochs(shape, 1), [0; 0]);
        assert_eq!(epochs(Shape { nodes: 64, ..shape }, 0), [500, 1000]);
        assert_eq!(epochs(Shape { nodes: 9, ..shape }, 0), [0; 0], "9 is not on the axis");
    }

    #[test]
    fn a_filter_without_a_value_at_some_point_is_refused_with_the_point() {
        let error =
            Grid::new(axes(), vec![filter("nodes / (batch_size - 16) > 1")]).expect_err("divides by zero");
        assert!(error.to_string().contains("batch_size = 16"), "{error}");
    }

    #[test]
    fn products_that_overflow_are_refused() {
        let wide = axis(&(1..=16_384).collect::<Vec<_>>());
        let all = Axes { nodes: wide.clone(), batch_size: wide.clone(), unrollings: wide.clone(), ..axes() };
        assert!(matches!(Grid::new(all, Vec::new()), Err(GridError::TooManyRuns { .. })));
        let zero = Axes { unrollings: axis(&[0, 1]), ..axes() };
        assert!(matches!(Grid::new(zero, Vec::new()), Err(GridError::OutOfRange { axis: "unrollings", .. })));
    }

    proptest! {
        /// Each trial is excluded exactly if some filter matches it, whatever names the filter reads.
        #[test]
        fn the_tables_agree_with_the_filters(threshold in 0_u64..70, modulus in 1_u64..5) {
            let sources = [
                format!("nodes > {threshold}"),
                format!("(epochs + seed) % {modulus} == 0"),
                "unrollings > nodes && batch_size == 16".to_owned(),
            ];
            let filters: Vec<Filter> = sources.iter().map(|source| filter(source)).collect();
            let grid = Grid::new(axes(), filters.clone()).expect("a valid grid");
            for number in 0..grid.numbers() {
                let at = grid.coordinates(number).expect("inside");
                let kept: Vec<u64> = grid.epochs_at(&at).collect();
                for &epochs in grid.axes().epochs.values() {
                    let trial = At {
                        nodes: at.shape.nodes.into(),
                        batch_size: at.shape.batch_size.into(),
                        unrollings: at.shape.unrollings.into(),
                        epochs,
                        seed: at.seed,
                    };
                    let excluded = filters.iter().any(|filter| filter.matches(&trial).expect("a value"));
                    prop_assert_eq!(kept.contains(&epochs), !excluded);
                }
            }
        }
    }
}
