//! In which keys of the spec two sweeps differ, for a person who used one name for both.

use std::fmt;

use crate::filter::Filter;
use crate::grid::Grid;
use crate::sweep::{StepsPerEpoch, Sweep};

/// A key that two sweeps give different values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// As it stands in a spec.
    pub key: &'static str,
    /// The first sweep's value.
    pub first: String,
    /// The second's.
    pub second: String,
}

impl Difference {
    /// Whether `slalom extend` may be what makes up for it.
    pub fn is_of_grid(&self) -> bool {
        self.key == BLOCKS || AXES.iter().any(|(key, _)| *key == self.key)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({} / {})", self.key, Short(&self.first), Short(&self.second))
    }
}

/// A value cut so that an axis of a thousand values does not hide the next key.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARS_MAX: usize = 40;
        match self.0.char_indices().nth(CHARS_MAX) {
            Some((end, _)) => write!(f, "{}..", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

/// Every key that moves the formula and whose values differ, in the order of a spec. None exactly if the formulas are equal.
pub fn differences(first: &Sweep, second: &Sweep) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |key, first: String, second: String| {
        if first != second {
            found.push(Difference { key, first, second });
        }
    };
    let (one, other) = (first.draft(), second.draft());
    compare("corpus", corpus(first), corpus(second));
    if one.blocks.len() != other.blocks.len() {
        compare(BLOCKS, one.blocks.len().to_string(), other.blocks.len().to_string());
    }
    // Where one was extended, the newest is what it came to.
    for (one, other) in one.blocks.iter().rev().zip(other.blocks.iter().rev()) {
        for (key, axis) in AXES {
            compare(key, axis(one), axis(other));
        }
    }
    let (rates, other_rates) = (one.family.training, other.family.training);
    compare("learning_rate", rates.learning_rate.to_string(), other_rates.learning_rate.to_string());
    compare("decay_rate", rates.decay_rate.to_string(), other_rates.decay_rate.to_string());
    compare("decay_steps", rates.decay_steps.to_string(), other_rates.decay_steps.to_string());
    compare("clip_norm", rates.clip_norm.to_string(), other_rates.clip_norm.to_string());
    compare("valid_size", one.family.valid_size.to_string(), other.family.valid_size.to_string());
    compare("steps_per_epoch", steps(one.steps_per_epoch), steps(other.steps_per_epoch));
    compare("eval_every", one.eval_every.to_string(), other.eval_every.to_string());
    compare("numerics version", one.family.numerics.to_string(), other.family.numerics.to_string());
    found
}

/// What a sweep is made of that was extended.
const BLOCKS: &str = "blocks";

/// A key of `[grid]`, and how a grid's value for it reads.
type Key = (&'static str, fn(&Grid) -> String);

const AXES: [Key; 6] = [
    ("nodes", |grid| grid.axes().nodes.to_string()),
    ("batch_size", |grid| grid.axes().batch_size.to_string()),
    ("unrollings", |grid| grid.axes().unrollings.to_string()),
    ("epochs", |grid| grid.axes().epochs.to_string()),
    ("seeds", |grid| grid.axes().seed.to_string()),
    ("exclude", |grid| grid.exclude().map(Filter::source).collect::<Vec<_>>().join(", ")),
];

/// The content decides, whatever it was called.
fn corpus(sweep: &Sweep) -> String {
    sweep.family().corpus.to_string()
}

fn steps(steps_per_epoch: StepsPerEpoch) -> String {
    match steps_per_epoch {
        StepsPerEpoch::Steps(steps) => steps.to_string(),
        StepsPerEpoch::FullPass => "full-pass".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Axes;
    use crate::id::{ContentHash, NumericsVersion};
    use crate::run::Family;
    use crate::settings::TrainingSettings;
    use crate::sweep::{CorpusFacts, Draft, Policy};

    fn grid(nodes: &str, exclude: &[&str]) -> Grid {
        let axis = |text: &str| text.parse().expect("an axis");
        let axes = Axes {
            nodes: axis(nodes),
            batch_size: axis("16"),
            unrollings: axis("1,6"),
            epochs: axis("500"),
            seed: axis("0"),
        };
        let filters = exclude.iter().map(|source| Filter::compile(source).expect("a filter")).collect();
        Grid::new(axes, filters).expect("a grid")
    }

    fn draft() -> Draft {
        Draft {
            name: Some("ski-slope".parse().expect("a name")),
            family: Family {
                corpus: ContentHash::of(b"snow"),
                valid_size: 1000,
                training: TrainingSettings::default(),
                numerics: NumericsVersion::new(1),
            },
            corpus: CorpusFacts { written: "synthetic".to_owned(), chars: 1_000_000 },
            blocks: vec![grid("8,16", &[])],
            steps_per_epoch: StepsPerEpoch::Steps(1),
            eval_every: 0,
            policy: Policy::default(),
        }
    }

    fn keys(change: impl FnOnce(&mut Draft)) -> Vec<&'static str> {
        let mut changed = draft();
        change(&mut changed);
        let (first, second) = (Sweep::new(draft()).expect("a sweep"), Sweep::new(changed).expect("a sweep"));
        let keys: Vec<_> = differences(&first, &second).into_iter().map(|one| one.key).collect();
        assert_eq!(keys.is_empty(), first.formula_hash() == second.formula_hash());
        keys
    }

    #[test]
    fn each_key_that_moves_the_formula_is_named_and_no_other() {
        assert_eq!(keys(|_| ()), [""; 0]);
        assert_eq!(keys(|draft| draft.policy.max_attempts = 9), [""; 0]);
        assert_eq!(keys(|draft| "elsewhere".clone_into(&mut draft.corpus.written)), [""; 0]);
        assert_eq!(keys(|draft| draft.family.corpus = ContentHash::of(b"ice")), ["corpus"]);
        assert_eq!(keys(|draft| draft.family.valid_size = 9), ["valid_size"]);
        assert_eq!(keys(|draft| draft.family.numerics = NumericsVersion::new(2)), ["numerics version"]);
        assert_eq!(keys(|draft| draft.eval_every = 100), ["eval_every"]);
        assert_eq!(keys(|draft| draft.steps_per_epoch = StepsPerEpoch::FullPass), ["steps_per_epoch"]);
        assert_eq!(keys(|draft| draft.blocks.push(grid("32", &[]))), ["blocks", "nodes"]);
        let rates = |draft: &mut Draft| {
            let clip_norm = 1.0;
            draft.family.training =
                TrainingSettings { learning_rate: 1.0, decay_rate: 0.5, decay_steps: 1, clip_norm };
        };
        assert_eq!(keys(rates), ["learning_rate", "decay_rate", "decay_steps", "clip_norm"]);
        assert_eq!(keys(|draft| draft.blocks = vec![grid("8", &["seed > 1"])]), ["nodes", "exclude"]);
    }

    #[test]
    fn a_difference_shows_both_values_and_cuts_long_ones() {
        let long: Vec<String> = (1..=100).map(|value| value.to_string()).collect();
        let difference = Difference { key: "nodes", first: "8,16".to_owned(), second: long.join(",") };
        assert_eq!(difference.to_string(), "`nodes` (8,16 / 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,1..)");
    }
}
