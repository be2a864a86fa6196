//! Which run next: sweeps share slots in turn; inside one, the longest expected run first, ties by number.
//!
//! A queue is an order of numbers and a cursor, not a list of runs: a sweep of a million is ready when its order is
//! sorted. What waits again after it was leased stands beside, in the same order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use slalom_common::answer::RunState;
use slalom_common::grid::Coordinates;
use slalom_common::id::{RunNumber, SweepName};

use super::ledger::sweep::SweepEntry;
use super::ledger::{Ledger, SweepIndex};

/// Which sweeps' runs are leased.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Serve {
    /// Every active one: a coordinator.
    All,
    /// One alone; others in the store wait until they are run: `slalom run`.
    Only(SweepName),
}

impl Serve {
    /// Whether this sweep's runs may be leased, and what it wants is part of a lease.
    pub fn serves(&self, entry: &SweepEntry) -> bool {
        entry.is_active() && self.keeps(entry)
    }

    /// Whether a lease on a run that this sweep wants goes on: also while the sweep is paused or stopping.
    pub fn keeps(&self, entry: &SweepEntry) -> bool {
        let named = match self {
            Self::All => true,
            Self::Only(name) => entry.sweep.name() == name,
        };
        named && !entry.is_cancelled()
    }
}

/// The queues of all sweeps, and whose turn it is.
#[derive(Clone, Debug, Default)]
pub struct Order {
    queues: BTreeMap<SweepIndex, Queue>,
    last: Option<SweepIndex>,
}

/// Longest first, then by number. Seconds are finite and not negative, so their bits order as they do.
type Rank = (Reverse<u64>, u64);

#[derive(Clone, Debug, Default)]
struct Queue {
    longest_first: Vec<u32>,
    /// What stands before it was leased at least once.
    cursor: usize,
    again: BTreeSet<Rank>,
}

fn rank(entry: &SweepEntry, number: RunNumber, at: &Coordinates) -> Rank {
    (Reverse(entry.run_seconds(at).to_bits()), number.number())
}

impl Order {
    /// Queues every run of a sweep, whatever its state: those that do not wait are passed over when their turn comes.
    pub fn add(&mut self, sweep: SweepIndex, entry: &SweepEntry) {
        let mut ranks: Vec<Rank> =
            entry.sweep.run_numbers().map(|(number, at)| rank(entry, number, &at)).collect();
        ranks.sort_unstable();
        let longest_first = ranks.into_iter().map(|(_, number)| number as u32).collect();
        self.queues.insert(sweep, Queue { longest_first, cursor: 0, again: BTreeSet::new() });
    }

    /// Queues one run that waits again. A sweep without a queue was over when this life began: each of its runs has been
    /// leased before, so what is put back is all that can wait.
    pub fn put_back(&mut self, sweep: SweepIndex, number: RunNumber, ledger: &Ledger) {
        let entry = ledger.sweep(sweep);
        let at = entry.sweep.coordinates(number).expect("only runs of the sweep are put back");
        self.queues.entry(sweep).or_default().again.insert(rank(entry, number, &at));
    }

    /// Takes the next waiting run: of the sweep after the one that was served last.
    pub fn take(&mut self, ledger: &Ledger, serve: &Serve) -> Option<(SweepIndex, RunNumber, Coordinates)> {
        let turns: Vec<SweepIndex> = {
            let after = |sweep: &&SweepIndex| self.last.is_none_or(|last| **sweep > last);
            let (first, then): (Vec<_>, Vec<_>) = self.queues.keys().partition(after);
            first.into_iter().chain(then).copied().collect()
        };
        for sweep in turns {
            let entry = ledger.sweep(sweep);
            if !serve.serves(entry) || entry.counts.of(RunState::Waiting) == 0 {
                continue;
            }
            let queue = self.queues.get_mut(&sweep).expect("its key was just read");
            if let Some((number, at)) = queue.take(ledger, sweep) {
                self.last = Some(sweep);
                return Some((sweep, number, at));
            }
        }
        None
    }
}

impl Queue {
    fn take(&mut self, ledger: &Ledger, sweep: SweepIndex) -> Option<(RunNumber, Coordinates)> {
        let entry = ledger.sweep(sweep);
        loop {
            let fresh = self.longest_first.get(self.cursor).map(|&number| {
                let number = RunNumber::new(number.into());
                let at = entry.sweep.coordinates(number).expect("a queue holds numbers of runs");
                rank(entry, number, &at)
            });
            let again = self.again.first().copied();
            let (_, number) = match (fresh, again) {
                (None, None) => return None,
                (Some(fresh), Some(again)) if again <= fresh => {
                    self.again.remove(&again);
                    again
                }
                (Some(fresh), _) => {
                    self.cursor += 1;
                    fresh
                }
                (None, Some(again)) => {
                    self.again.remove(&again);
                    again
                }
            };
            let number = RunNumber::new(number);
            let waits = entry.run(number).is_none_or(|run| {
                ledger.run(run).views().any(|(of, _, state)| of == sweep && state == RunState::Waiting)
            });
            if waits {
                let at = entry.sweep.coordinates(number).expect("a queue holds numbers of runs");
                return Some((number, at));
            }
        }
    }
}
