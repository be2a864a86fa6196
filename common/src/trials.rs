//! The trials of a sweep in the order of `results.csv`: nodes, `batch_size`, unrollings, epochs, seed, as numbers.
//!
//! Made one after the other from the formula, never listed: a hundred million of them take no memory.

use std::iter;

use crate::axis::{Axis, ascending};
use crate::grid::{Axes, Coordinates, Grid};
use crate::run::Shape;
use crate::sweep::Sweep;

/// Every trial of `sweep` that is not excluded, as its run's coordinates and its epochs, each once.
pub fn in_order(sweep: &Sweep) -> impl Iterator<Item = (Coordinates, u64)> + Send + '_ {
    let blocks = &sweep.draft().blocks;
    shapes(blocks).flat_map(move |shape| {
        let here: Vec<&Grid> = blocks.iter().filter(|block| has_shape(block, shape)).collect();
        let all = |of: fn(&Axes) -> &Axis| {
            ascending(here.iter().flat_map(|block| of(block.axes()).values()).copied())
        };
        let (epochs, seeds) = (all(|axes| &axes.epochs), all(|axes| &axes.seed));
        let candidates = epochs.into_iter().flat_map(move |epochs| {
            let seeds = seeds.clone();
            seeds.into_iter().map(move |seed| (Coordinates { shape, seed }, epochs))
        });
        candidates.filter(move |(at, epochs)| here.iter().any(|block| block.has_trial(at, *epochs)))
    })
}

/// The shapes of all blocks, ascending, each once: a merge of orders that each block has already.
fn shapes(blocks: &[Grid]) -> impl Iterator<Item = Shape> + Send + '_ {
    let mut heads: Vec<_> = blocks.iter().map(|block| shapes_of(block).peekable()).collect();
    iter::from_fn(move || {
        let next = heads.iter_mut().filter_map(|head| head.peek().copied()).min()?;
        for head in &mut heads {
            head.next_if_eq(&next);
        }
        Some(next)
    })
}

/// The shapes of a block: its numbers, a step of all seeds each.
fn shapes_of(block: &Grid) -> impl Iterator<Item = Shape> + Send + '_ {
    let numbers = (0..block.numbers()).step_by(block.axes().seed.len());
    numbers.filter_map(|number| block.coordinates(number)).map(|at| at.shape)
}

fn has_shape(block: &Grid, shape: Shape) -> bool {
    let seed = block.axes().seed.first();
    block.number_of(&Coordinates { shape, seed }).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::{block, sweep_of};

    /// Method: against the list that a sort of all runs' epochs gives.
    #[test]
    fn trials_come_sorted_each_once_whatever_blocks_hold_them() {
        let first = block(["8,32", "4,8", "1..=3", "5,10", "0,1"], &["unrollings == 2 && epochs == 10"]);
        let second = block(["4,8,16", "8", "2,9", "1,10,20", "1,7"], &["seed == 7 && nodes == 4"]);
        for blocks in [vec![first.clone()], vec![first.clone(), second.clone()], vec![second, first]] {
            let sweep = sweep_of(blocks);
            let runs = sweep.run_numbers();
            let mut sorted: Vec<(Coordinates, u64)> = runs
                .flat_map(|(_, at)| sweep.epochs_of(&at).into_iter().map(move |epochs| (at, epochs)))
                .collect();
            sorted.sort_by_key(|(at, epochs)| (at.shape, *epochs, at.seed));
            assert_eq!(sorted.len() as u64, sweep.size().trials);
            assert_eq!(in_order(&sweep).collect::<Vec<_>>(), sorted);
        }
    }
}
