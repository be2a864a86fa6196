//! The best point so far, kept up to date answer by answer: for log lines and bars. Tables compute their own.

use std::collections::BTreeMap;

use slalom_common::answer::Best;
use slalom_common::outcome::Perplexity;
use slalom_common::run::Shape;
use slalom_common::sweep::Sweep;

/// Mean perplexities over the seeds finished, by point.
#[derive(Clone, Debug, Default)]
pub struct Points {
    means: BTreeMap<(Shape, u64), Mean>,
    best: Option<(Shape, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Mean {
    sum: f64,
    seeds: u64,
    /// Seeds that the point has in its sweep.
    seeds_wanted: u64,
}

impl Mean {
    fn value(self) -> f64 {
        self.sum / self.seeds as f64
    }

    /// Points with all seeds done come before the others, whatever their means.
    fn rank(self) -> (bool, f64) {
        (self.seeds < self.seeds_wanted, self.value())
    }
}

impl Points {
    /// Counts one more trial of `sweep`.
    pub fn add(&mut self, sweep: &Sweep, shape: Shape, epochs: u64, perplexity: Perplexity) {
        let point = (shape, epochs);
        let mean = self.means.entry(point).or_insert_with(|| Mean {
            sum: 0.0,
            seeds: 0,
            seeds_wanted: sweep.seeds_of(shape, epochs),
        });
        mean.sum += perplexity.value();
        mean.seeds += 1;
        let rank = mean.rank();
        match self.best {
            // The best itself may have become worse: only then must all be looked at.
            Some(best) if best == point => self.best = self.lowest(),
            Some(best) if self.means[&best].rank() <= rank => (),
            _ => self.best = Some(point),
        }
    }

    /// The best so far.
    pub fn best(&self) -> Option<Best> {
        let (shape, epochs) = self.best?;
        Some(Best { shape, epochs, mean: self.means[&(shape, epochs)].value() })
    }

    fn lowest(&self) -> Option<(Shape, u64)> {
        let ranked = self.means.iter().map(|(&point, mean)| (mean.rank(), point));
        let lowest = ranked.reduce(|low, one| if one.0 < low.0 { one } else { low });
        lowest.map(|(_, point)| point)
    }
}
