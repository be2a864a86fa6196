//! A sweep as a person describes it: from a spec file or from flags to one checked [`Spec`].
//!
//! All that can be refused before the corpus is read is refused here, with file, line and column or with the
//! flag. What only the corpus shows (a batch larger than the text, a division by zero at some point) is
//! refused by whoever meets it, at the place that [`Spec::places`] remembers.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use slalom_common::axis::{Axis, AxisError};
use slalom_common::filter::Filter;
use slalom_common::id::SweepName;
use slalom_common::run::Shape;
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::StepsPerEpoch;

use self::error::{Fault, Place, SpecError};
use slalom_common::corpus::source::Source;

pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod flags;
pub(crate) mod sweep;

/// What a person wants swept, checked as far as it can be without its corpus.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Spec {
    /// None where the sweep is to be named after its hash.
    pub(crate) name: Option<SweepName>,
    pub(crate) corpus: Source,
    pub(crate) nodes: Axis,
    pub(crate) batch_size: Axis,
    pub(crate) unrollings: Axis,
    pub(crate) epochs: Axis,
    pub(crate) seeds: Axis,
    /// A trial is left out if any of these is true of it.
    pub(crate) exclude: Vec<Filter>,
    pub(crate) policy: Policy,
    pub(crate) training: TrainingSettings,
    /// Leading characters of the corpus that validate and never train.
    pub(crate) valid_size: u64,
    pub(crate) steps_per_epoch: StepsPerEpoch,
    /// Steps between two points of a learning curve; 0 for none.
    pub(crate) eval_every: u64,
    /// Where all this was written.
    pub(crate) places: Places,
}

/// How a sweep is carried out; no result depends on it. None leaves it to the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) max_attempts: Option<u32>,
    pub(crate) checkpoint_every: Option<Duration>,
}

/// Where the parts of a spec were written, by their keys in a spec file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Places {
    keys: BTreeMap<&'static str, Place>,
    exclude: Vec<Place>,
}

impl Spec {
    /// A spec to start from.
    pub(crate) const EXAMPLE: &str = include_str!("../../examples/quickstart.toml");

    /// What `valid_size` is where none is given.
    pub(crate) const VALID_SIZE: u64 = 1000;

    /// The seeds where none are given.
    fn one_seed() -> Axis {
        Axis::new(vec![0]).expect("one value is an axis")
    }

    /// Refuses what no part alone shows.
    fn check(self) -> Result<Self, SpecError> {
        let factors = [&self.nodes, &self.batch_size, &self.unrollings, &self.seeds];
        // Four axes of at most 10,000,000 values each: the product fits in 128 bits.
        let runs: u128 = factors.iter().map(|axis| axis.len() as u128).product();
        if runs > Axis::VALUES_MAX as u128 {
            return Err(SpecError {
                place: self.places.of("grid").cloned(),
                fault: Box::new(Fault::TooManyRuns { runs }),
            });
        }
        Ok(self)
    }
}

impl Places {
    /// Where the value of `key` was written, if it was; `grid` for the axes together.
    pub(crate) fn of(&self, key: &str) -> Option<&Place> {
        self.keys.get(key)
    }

    /// Where the `index`th expression of `exclude` was written.
    pub(crate) fn of_exclude(&self, index: usize) -> Option<&Place> {
        self.exclude.get(index)
    }
}

/// Training steps of a run are below this.
const STEPS_END: u64 = 1 << 40;

/// How many seeds `seeds = N` may ask for.
const SEED_COUNTS: RangeInclusive<u64> = 1..=Axis::VALUES_MAX as u64;

/// What the number of each key, or each value of an axis, may be (SEMANTICS.md).
fn bounds(key: &str) -> RangeInclusive<u64> {
    match key {
        "nodes" => 1..=Shape::NODES_MAX,
        "batch_size" => 1..=Shape::BATCH_SIZE_MAX,
        "unrollings" => 1..=Shape::UNROLLINGS_MAX,
        "epochs" | "steps_per_epoch" => 1..=STEPS_END - 1,
        "eval_every" => 0..=STEPS_END - 1,
        "max_attempts" => 1..=u32::MAX.into(),
        "valid_size" | "chars" | "corpus_chars" => 1..=u64::MAX,
        _ => 0..=u64::MAX,
    }
}

/// Refuses a number out of its bounds.
fn within(key: &'static str, value: u64) -> Result<u64, Fault> {
    let bounds = bounds(key);
    if bounds.contains(&value) { Ok(value) } else { Err(out_of_range(key, value.to_string(), bounds)) }
}

/// Refuses an axis whose values are out of their bounds.
fn axis_within(key: &'static str, axis: Axis) -> Result<Axis, Fault> {
    within(key, axis.first())?;
    within(key, axis.last())?;
    Ok(axis)
}

/// The seeds 0, 1, .. `count` - 1.
fn first_seeds(count: u64) -> Result<Axis, Fault> {
    if !SEED_COUNTS.contains(&count) {
        return Err(out_of_range("seeds", count.to_string(), SEED_COUNTS));
    }
    Axis::new((0..count).collect()).map_err(|error| Fault::Axis { axis: "seeds", error })
}

/// An axis in the grammar that files and flags share.
fn parse_axis(key: &'static str, text: &str) -> Result<Axis, Fault> {
    let axis = text.parse().map_err(|error: AxisError| Fault::Axis { axis: key, error })?;
    axis_within(key, axis)
}

fn out_of_range(key: &'static str, value: String, bounds: RangeInclusive<u64>) -> Fault {
    Fault::OutOfRange { key, value, min: *bounds.start(), max: *bounds.end() }
}

#[cfg(test)]
mod tests;
