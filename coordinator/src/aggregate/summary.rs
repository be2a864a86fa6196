//! Seeds into points: mean and deviation of each point, and which point is best.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use slalom_common::answer::TrialRow;
use slalom_common::outcome::Perplexity;
use slalom_common::run::Shape;

/// A point of a sweep and its perplexities over the seeds that are finished.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// Its sizes.
    pub shape: Shape,
    /// Units of training.
    pub epochs: u64,
    /// Seeds it has in the sweep.
    pub seeds: u64,
    /// Seeds of these that have a perplexity.
    pub seeds_done: u64,
    /// Of the seeds with a perplexity; absent while there is none.
    pub perplexity: Option<Spread>,
}

/// A mean and how far the single values are from it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The arithmetic mean.
    pub mean: f64,
    /// The sample standard deviation (by n - 1); absent for one value.
    pub deviation: Option<f64>,
}

impl Point {
    /// Whether all its seeds have a perplexity.
    pub const fn is_complete(&self) -> bool {
        self.seeds_done == self.seeds
    }
}

impl Spread {
    /// The spread of `values`, summed in the order given; absent if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mut sum = 0.0;
        for value in values {
            sum += value;
        }
        let mean = sum / count;
        let mut squares = 0.0;
        for value in values {
            squares += (value - mean) * (value - mean);
        }
        match values.len() {
            0 => None,
            1 => Some(Self { mean, deviation: None }),
            _ => Some(Self { mean, deviation: Some((squares / (count - 1.0)).sqrt()) }),
        }
    }
}

/// Seeds and their perplexities.
type Seeds = Vec<(u64, Option<f64>)>;

/// The points of `trials` in order of nodes, `batch_size`, unrollings, epochs.
pub fn points(trials: &[TrialRow]) -> Vec<Point> {
    let mut by_point: BTreeMap<(Shape, u64), Seeds> = BTreeMap::new();
    for trial in trials {
        let value = trial.perplexity.map(Perplexity::value);
        by_point.entry((trial.at.shape, trial.epochs)).or_default().push((trial.at.seed, value));
    }
    let point = |((shape, epochs), mut seeds): ((Shape, u64), Seeds)| {
        seeds.sort_by_key(|&(seed, _)| seed);
        let values: Vec<f64> = seeds.iter().filter_map(|&(_, value)| value).collect();
        Point {
            shape,
            epochs,
            seeds: seeds.len() as u64,
            seeds_done: values.len() as u64,
            perplexity: Spread::of(&values),
        }
    };
    by_point.into_iter().map(point).collect()
}

/// The points that may be compared, the best first: those with all seeds done once there is one, else those with
/// any. Equal means stay in the order of `points`.
pub fn ranked(points: &[Point]) -> Vec<Point> {
    let any_complete = points.iter().any(Point::is_complete);
    let mut ranked: Vec<(f64, Point)> = points
        .iter()
        .filter(|point| point.is_complete() || !any_complete)
        .filter_map(|point| Some((point.perplexity?.mean, *point)))
        .collect();
    // A mean of perplexities is never NaN: each is finite and above 0.
    ranked.sort_by(|(one, _), (other, _)| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    ranked.into_iter().map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::trial;
    use super::*;

    #[test]
    fn a_point_has_the_mean_and_the_sample_deviation_of_its_seeds_in_whatever_order_they_came() {
        let mut trials: Vec<_> = [(0, 2.0), (1, 4.0), (2, 9.0)]
            .map(|(seed, value)| trial([8, 16, 1, 10], seed, Some(value)))
            .to_vec();
        let one = points(&trials);
        trials.reverse();
        assert_eq!(one, points(&trials));
        let spread = one[0].perplexity.expect("three values");
        assert_eq!(spread.mean, 5.0);
        // (9 + 1 + 16) / 2
        assert_eq!(spread.deviation, Some(13.0_f64.sqrt()));
        assert_eq!(Spread::of(&[3.0]), Some(Spread { mean: 3.0, deviation: None }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_point_with_a_seed_missing_ranks_only_while_no_point_is_complete() {
        let half = [trial([8, 16, 1, 10], 0, Some(2.0)), trial([8, 16, 1, 10], 1, None)];
        let whole = [trial([16, 16, 1, 10], 0, Some(4.0)), trial([16, 16, 1, 10], 1, Some(6.0))];
        let alone = ranked(&points(&half));
        assert_eq!(alone.len(), 1);
        assert_eq!((alone[0].seeds, alone[0].seeds_done), (2, 1));
        let both = ranked(&points(&[half, whole].concat()));
        assert_eq!(both.iter().map(|point| point.shape.nodes).collect::<Vec<_>>(), [16]);
    }

    #[test]
    fn the_lowest_mean_is_first_and_equal_means_keep_the_order_of_the_table() {
        let trials = [
            trial([64, 16, 1, 10], 0, Some(3.0)),
            trial([8, 16, 1, 10], 0, Some(3.0)),
            trial([32, 16, 1, 10], 0, Some(2.0)),
            trial([16, 16, 1, 10], 0, None),
        ];
        let order: Vec<u32> = ranked(&points(&trials)).iter().map(|point| point.shape.nodes).collect();
        assert_eq!(order, [32, 8, 64]);
    }
}
