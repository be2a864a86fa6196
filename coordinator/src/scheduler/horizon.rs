//! When a whole sweep could be over: what a slot is not to train beyond.
//!
//! The longest run first is a good order for equal slots. Among unequal ones a slow slot that took a long run near the end would keep
//! everybody waiting, so a slot takes the longest run that it would end by the horizon: all that is left at the speed of all,
//! or, if that is later, the end of the longest waiting run where it ends first. Whoever ends it first is never spared it, so
//! every run has somebody who takes it.

use slalom_common::cost::{REFERENCE, Work};
use slalom_common::message::LeaseKind;
use slalom_common::moment::Moment;

use super::Scheduler;
use super::fleet::Worker;

/// Of the time to the horizon, what one worker of several may hold ahead of its slots: what it holds nobody else can take.
const AHEAD_SHARE: f64 = 0.02;

/// But at most so many seconds, so that tiny runs do not wait for the network.
pub(super) const AHEAD_MOST: f64 = 1.0;

/// And at least so many: a round trip must not leave a slot idle.
const AHEAD_LEAST: f64 = 0.01;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    /// Predicted seconds until then; infinite if there is nobody to work.
    seconds: f64,
    /// What is left until then, which tells how fast each worker is.
    left: Work,
    /// Whether it is so near that a slot may have to be spared a run.
    is_near: bool,
    /// Whether more than one worker takes runs.
    is_shared: bool,
}

impl Scheduler {
    /// As seen at `now`.
    pub(super) fn horizon(&mut self, now: Moment) -> Horizon {
        let ends = self.order.longest_and_shortest(&self.ledger, &self.settings.serve);
        let Some((longest, shortest)) = ends else { return Horizon::FAR };
        let served = self.ledger.sweeps().filter(|(_, one)| self.settings.serve.serves(one));
        let left: Work = served.map(|(_, one)| one.work.less(one.work_over)).sum();
        let takers = || self.fleet.values().filter(|worker| self.may_take(worker));
        let is_shared = takers().nth(1).is_some();
        let rate: f64 = takers().map(|worker| worker.slots() as f64 / worker.seconds(&left)).sum();
        let slowest = takers().map(|worker| slowness(worker, &left)).fold(0.0, f64::max);
        // What is leased is no more than that many runs, none longer than the longest there is. To look at each lease is for the
        // end: this is asked whenever a slot is free.
        let leases: usize = self.fleet.values().map(|worker| worker.leases.len()).sum();
        let leased = (leases as f64 * longest / REFERENCE.seconds(&left)).min(1.0);
        let seconds = (1.0 - leased) / rate;
        if longest * slowest <= seconds || !seconds.is_finite() {
            return Horizon { seconds, left, is_shared, ..Horizon::FAR };
        }
        let leased = self.fleet.values().flat_map(|worker| &worker.leases).filter_map(|(&lease, held)| {
            let is_copy = self.ledger.lease(lease).is_some_and(|lease| lease.kind == LeaseKind::Copy);
            (!is_copy).then_some(held.work)
        });
        let waiting = REFERENCE.seconds(&left.less(leased.sum()));
        let takers: Vec<Taker> = takers().map(|worker| Taker::of(worker, now, &left)).collect();
        let first = takers.iter().map(|taker| taker.free + longest * taker.slowness);
        let first = first.fold(f64::INFINITY, f64::min);
        Horizon { seconds: first.max(together(&takers, waiting, shortest)), left, is_near: true, is_shared }
    }
}

/// A worker as it stands at the end.
struct Taker {
    slots: f64,
    /// Seconds of a slot for a second of the reference core.
    slowness: f64,
    /// Seconds until a slot is free.
    free: f64,
    /// Seconds until its slots are free, on average.
    busy: f64,
}

impl Taker {
    fn of(worker: &Worker, now: Moment, left: &Work) -> Self {
        let slots = worker.slots() as f64;
        let busy = worker.left(now).map(|left| worker.seconds(&left)).sum::<f64>() / slots;
        Self { slots, slowness: slowness(worker, left), free: worker.free_in(now), busy }
    }

    /// Of runs of `run` seconds of the reference core, how many of these seconds it trains within `seconds`: whole runs only.
    fn capacity(&self, seconds: f64, run: f64) -> f64 {
        self.slots * run * ((seconds - self.busy).max(0.0) / (run * self.slowness) + 1e-9).floor()
    }
}

/// Seconds in which `waiting` seconds of the reference core, in runs of at least `shortest`, are trained by all together.
fn together(takers: &[Taker], waiting: f64, shortest: f64) -> f64 {
    let all = |seconds: f64| takers.iter().map(|taker| taker.capacity(seconds, shortest)).sum::<f64>();
    let mut enough = 1.0;
    while all(enough) < waiting && enough < 1e12 {
        enough *= 2.0;
    }
    let mut too_few = 0.0;
    // To a thousandth of a thousandth of it.
    for _ in 0..20 {
        let middle = f64::midpoint(too_few, enough);
        if all(middle) < waiting { too_few = middle } else { enough = middle }
    }
    enough
}

impl Horizon {
    /// So far away that every slot ends any run before it.
    pub(super) const FAR: Self =
        Self { seconds: f64::INFINITY, left: Work::NONE, is_near: false, is_shared: true };

    /// The longest run that `worker` is to take, in seconds of the reference core.
    pub(super) fn longest_for(self, worker: &Worker, now: Moment) -> f64 {
        if !self.is_near {
            return f64::INFINITY;
        }
        // A hair more, so that whoever ends the longest first is not kept from it by a rounding.
        (self.seconds * (1.0 + 1e-9) - worker.free_in(now)) / slowness(worker, &self.left)
    }

    /// Seconds of work that a worker may hold beyond its slots.
    pub(super) fn ahead(self) -> f64 {
        if !self.is_shared {
            return AHEAD_MOST;
        }
        (self.seconds * AHEAD_SHARE).clamp(AHEAD_LEAST, AHEAD_MOST)
    }
}

/// Seconds of a slot for a second of the reference core, at this work.
fn slowness(worker: &Worker, work: &Work) -> f64 {
    worker.seconds(work) / REFERENCE.seconds(work)
}
