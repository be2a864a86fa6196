//! Which run next: sweeps share slots in turn; inside one, the longest expected run first, ties by number.
//!
//! A queue is an order of numbers, not a list of runs: a sweep of a million is ready when its order is sorted. Whoever takes no run
//! longer than so much takes one from the middle, so each place knows the next that was not taken. What waits again after
//! it was leased stands beside, in the same order.

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
    /// Of each place and of the end, where to look for the next that was never taken: itself, or beyond.
    next: Vec<u32>,
    /// All from here on were taken.
    end: usize,
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
        let longest_first: Vec<u32> = ranks.into_iter().map(|(_, number)| number as u32).collect();
        let next = (0..=longest_first.len() as u32).collect();
        let end = longest_first.len();
        self.queues.insert(sweep, Queue { longest_first, next, end, again: BTreeSet::new() });
    }

    /// Queues one run that waits again. A sweep without a queue was over when this life began: each of its runs has been
    /// leased before, so what is put back is all that can wait.
    pub fn put_back(&mut self, sweep: SweepIndex, number: RunNumber, ledger: &Ledger) {
        let entry = ledger.sweep(sweep);
        let at = entry.sweep.coordinates(number).expect("only runs of the sweep are put back");
        self.queues.entry(sweep).or_default().again.insert(rank(entry, number, &at));
    }

    /// Seconds of the longest waiting run and of the shortest that may wait.
    pub fn longest_and_shortest(&mut self, ledger: &Ledger, serve: &Serve) -> Option<(f64, f64)> {
        let queues = self.queues.iter_mut().filter(|(sweep, _)| {
            let entry = ledger.sweep(**sweep);
            serve.serves(entry) && entry.counts.of(RunState::Waiting) > 0
        });
        let ends = queues.filter_map(|(&sweep, queue)| {
            let ((Reverse(longest), _), ..) = queue.find(ledger, sweep, f64::INFINITY)?;
            let longest = f64::from_bits(longest);
            Some((longest, queue.shortest(ledger, sweep).unwrap_or(longest)))
        });
        ends.reduce(|one, other| (one.0.max(other.0), one.1.min(other.1)))
    }

    /// Takes the next waiting run of at most `longest` seconds of the reference core: of the sweep after the one that was served
    /// last that has one.
    pub fn take(
        &mut self,
        ledger: &Ledger,
        serve: &Serve,
        longest: f64,
    ) -> Option<(SweepIndex, RunNumber, Coordinates)> {
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
            if let Some((number, at)) = queue.take(ledger, sweep, longest) {
                self.last = Some(sweep);
                return Some((sweep, number, at));
            }
        }
        None
    }
}

/// Where a run stands in a queue.
#[derive(Clone, Copy)]
enum Place {
    Never(usize),
    Again(Rank),
}

impl Queue {
    fn take(&mut self, ledger: &Ledger, sweep: SweepIndex, longest: f64) -> Option<(RunNumber, Coordinates)> {
        let ((_, number), at, place) = self.find(ledger, sweep, longest)?;
        self.leave(place);
        Some((RunNumber::new(number), at))
    }

    /// The longest waiting run of at most `longest` seconds. What does not wait any more is left behind on the way.
    fn find(
        &mut self,
        ledger: &Ledger,
        sweep: SweepIndex,
        longest: f64,
    ) -> Option<(Rank, Coordinates, Place)> {
        let entry = ledger.sweep(sweep);
        let coordinates = |number: u64| {
            entry.sweep.coordinates(RunNumber::new(number)).expect("a queue holds numbers of runs")
        };
        if longest < 0.0 {
            return None;
        }
        let least = (Reverse(longest.to_bits()), 0);
        let first = if longest.is_finite() {
            let is_longer = |&number: &u32| entry.run_seconds(&coordinates(number.into())) > longest;
            self.longest_first.partition_point(is_longer)
        } else {
            0
        };
        loop {
            let never = self.next_from(first);
            let fresh = self.longest_first.get(never).map(|&number| {
                let number = u64::from(number);
                (rank(entry, RunNumber::new(number), &coordinates(number)), Place::Never(never))
            });
            let again = self.again.range(least..).next().map(|&again| (again, Place::Again(again)));
            let (found, place) = match (fresh, again) {
                (None, None) => return None,
                (Some(fresh), Some(again)) => {
                    if again.0 <= fresh.0 {
                        again
                    } else {
                        fresh
                    }
                }
                (Some(one), None) | (None, Some(one)) => one,
            };
            let waits = entry.run(RunNumber::new(found.1)).is_none_or(|run| {
                ledger.run(run).views().any(|(of, _, state)| of == sweep && state == RunState::Waiting)
            });
            if waits {
                return Some((found, coordinates(found.1), place));
            }
            self.leave(place);
        }
    }

    /// Seconds of the shortest run that was never taken, or waits again.
    fn shortest(&mut self, ledger: &Ledger, sweep: SweepIndex) -> Option<f64> {
        while self.end > 0 && self.next[self.end - 1] as usize != self.end - 1 {
            self.end -= 1;
        }
        let entry = ledger.sweep(sweep);
        let fresh = self.end.checked_sub(1).map(|last| {
            let number = RunNumber::new(self.longest_first[last].into());
            entry.run_seconds(&entry.sweep.coordinates(number).expect("a queue holds numbers of runs"))
        });
        let again = self.again.last().map(|(Reverse(seconds), _)| f64::from_bits(*seconds));
        fresh.into_iter().chain(again).reduce(f64::min)
    }

    fn leave(&mut self, place: Place) {
        match place {
            Place::Never(place) => self.next[place] = place as u32 + 1,
            Place::Again(rank) => _ = self.again.remove(&rank),
        }
    }

    /// The first place from `place` on that was never taken, or the end; halves the way for the next who asks.
    fn next_from(&mut self, mut place: usize) -> usize {
        while let Some(&next) = self.next.get(place).filter(|&&next| next as usize != place) {
            let after = self.next[next as usize];
            self.next[place] = after;
            place = next as usize;
        }
        place
    }
}
