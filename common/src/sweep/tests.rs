//! What a sweep is when it is extended, and whom its name means then.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::axis::Axis;
use crate::filter::Filter;
use crate::grid::Axes;
use crate::id::NumericsVersion;
use crate::settings::TrainingSettings;
use crate::trials;

/// A grid of axes as people write them: nodes, `batch_size`, unrollings, epochs, seed.
pub(crate) fn block(axes: [&str; 5], exclude: &[&str]) -> Grid {
    let [nodes, batch_size, unrollings, epochs, seed] = axes.map(|axis| axis.parse().expect("an axis"));
    let filters = exclude.iter().map(|source| Filter::compile(source).expect("a filter")).collect();
    Grid::new(Axes { nodes, batch_size, unrollings, epochs, seed }, filters).expect("a grid")
}

/// A sweep of these blocks.
pub(crate) fn sweep_of(blocks: Vec<Grid>) -> Sweep {
    let draft = Draft {
        name: Some("ski-slope".parse().expect("a name")),
        family: Family {
            corpus: ContentHash::of(b"snow"),
            valid_size: 10,
            training: TrainingSettings::default(),
            numerics: NumericsVersion::new(1),
        },
        corpus: CorpusFacts { written: "snow".to_owned(), chars: 10_000 },
        blocks,
        steps_per_epoch: StepsPerEpoch::Steps(1),
        eval_every: 0,
        policy: Policy::default(),
    };
    Sweep::new(draft).expect("a sweep")
}

fn sweep(block: Grid) -> Sweep {
    sweep_of(vec![block])
}

fn trials_of(sweep: &Sweep) -> BTreeSet<(Coordinates, u64)> {
    trials::in_order(sweep).collect()
}

#[test]
fn an_extended_sweep_is_meant_by_its_first_formula_and_by_any_of_all_its_trials() {
    let first = sweep(block(["8,16", "4", "1,3", "10,20", "0,1"], &["nodes == 8 && epochs == 20"]));
    let more = sweep(block(["8,16,32", "4", "1,3", "10,20", "0,1"], &["nodes == 8 && epochs == 20"]));
    let both = first.extended_by(&more).expect("they ask alike");
    assert_eq!(both.size(), Size { trials: 20, excluded: 4, runs: 12 });
    assert!(both.extends(&first) && !first.extends(&both) && !both.extends(&more));
    assert!(both.is_meant_by(&first) && both.is_meant_by(&more) && both.is_meant_by(&both));
    assert!(!first.is_meant_by(&more) && more.contains(&first) && !first.contains(&more));
    // The same trials by another filter are the whole, too; of a sweep that was never extended they are another formula.
    let otherwise = sweep(block(["8,16,32", "4", "1,3", "10,20", "0,1"], &["nodes < 9 && epochs > 10"]));
    assert!(both.is_meant_by(&otherwise) && !more.is_meant_by(&otherwise));
    assert_eq!(both.extended_by(&otherwise), Ok(both.clone()));
    let policy = Policy { max_attempts: 9, checkpoint_every: None };
    assert!(!both.with_policy(policy).extends(&first));
    assert!(both.with_policy(policy).is_meant_by(&first));
}

#[test]
fn only_the_grid_is_extended_and_no_more_often_than_blocks_may_be() {
    let first = sweep(block(["8", "4", "1", "10", "0"], &[]));
    let curve = Draft { eval_every: 5, ..first.draft().clone() };
    let curve = Sweep::new(curve).expect("a sweep");
    assert_eq!(first.extended_by(&curve), Err(ExtendError::AsksOtherwise));
    let mut sweep_now = first;
    for seed in 1..BLOCKS_MAX {
        let one = sweep(block(["8", "4", "1", "10", &seed.to_string()], &[]));
        sweep_now = sweep_now.extended_by(&one).expect("a block more");
    }
    let one = sweep(block(["8", "4", "1", "10", "1000"], &[]));
    let refused = sweep_now.extended_by(&one).expect_err("too many");
    assert_eq!(refused, ExtendError::Sweep(SweepError::TooManyBlocks(BLOCKS_MAX + 1)));
}

fn some_axis(of: &'static [u64]) -> impl Strategy<Value = Axis> {
    proptest::sample::subsequence(of, 1..=of.len()).prop_map(|values| Axis::new(values).expect("an axis"))
}

fn some_sweep() -> impl Strategy<Value = Sweep> {
    let filter =
        prop_oneof![Just(None), Just(Some("epochs > nodes")), Just(Some("seed == 1 || unrollings == 3"))];
    let axes = (
        some_axis(&[8, 16]),
        some_axis(&[4, 5]),
        some_axis(&[1, 3]),
        some_axis(&[5, 10, 20]),
        some_axis(&[0, 1, 2]),
    );
    (axes, filter).prop_filter_map(
        "nothing to run",
        |((nodes, batch_size, unrollings, epochs, seed), filter)| {
            let filters =
                filter.into_iter().map(|source| Filter::compile(source).expect("a filter")).collect();
            let grid =
                Grid::new(Axes { nodes, batch_size, unrollings, epochs, seed }, filters).expect("a grid");
            let draft = sweep(block(["8", "4", "1", "10", "0"], &[])).draft().clone();
            Sweep::new(Draft { blocks: vec![grid], ..draft }).ok()
        },
    )
}

proptest! {
    /// What a sweep had keeps its number, whatever it is extended by; sizes are those of a list.
    #[test]
    fn an_extension_adds_what_is_new_and_renumbers_nothing(parts in proptest::collection::vec(some_sweep(), 2..5)) {
        let mut sweep = parts[0].clone();
        for given in &parts[1..] {
            let before = sweep.clone();
            sweep = before.extended_by(given).expect("they ask alike");
            let union: BTreeSet<_> = trials_of(&before).union(&trials_of(given)).copied().collect();
            prop_assert_eq!(&trials_of(&sweep), &union);
            prop_assert_eq!(sweep.size().trials, union.len() as u64);
            prop_assert!(sweep.contains(&before) && sweep.contains(given));
            let numbers: BTreeMap<_, _> = sweep.run_numbers().collect();
            prop_assert_eq!(numbers.len() as u64, sweep.size().runs);
            for (number, at) in before.run_numbers() {
                prop_assert_eq!(numbers.get(&number), Some(&at));
            }
            let products: BTreeSet<_> = sweep.draft().blocks.iter().flat_map(|block| {
                let points = (0..block.numbers()).filter_map(|number| block.coordinates(number));
                points.flat_map(|at| block.axes().epochs.values().iter().map(move |&epochs| (at, epochs)))
            }).collect();
            prop_assert_eq!(sweep.size().excluded, (products.len() - union.len()) as u64);
        }
    }
}
