//! Whether slots still train: a count that each bumps as it goes on, and somebody who looks at it (`hung`).
//!
//! A slot is a thread and cannot be killed, so one that has stopped for good costs the process. What is counted are looks, not
//! seconds: a process that was frozen for an hour and thawed has been looked at once, and is not hung.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slalom_common::id::LeaseId;

/// Looks in the time after which a slot without a step is hung.
const LOOKS: u32 = 10;

/// A slot hangs that makes no step for so many times as long as one takes by its prediction.
const TIMES_PREDICTED: f64 = 100.0;

/// How far a slot is, for whoever looks: 0 while it does not train.
#[derive(Default, Debug)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// The slot trains from now on.
    pub(super) fn begin(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// It went on by a step or a validation. One thread alone counts, so nothing is lost between the two halves.
    pub(super) fn beat(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// It does not train any more: what follows has time limits of its own.
    pub(super) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Looks at one slot's pulse under one lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Watch {
    lease: LeaseId,
    /// Looks without a beat between them that are too many.
    too_many: u32,
    seen: u64,
    unchanged: u32,
}

impl Watch {
    /// Of a lease whose steps and validations take at most `predicted` seconds each, on a slot that is hung if it makes none for
    /// `hung_after`, or for far longer than predicted.
    pub(super) fn new(lease: LeaseId, predicted: f64, hung_after: Duration) -> Self {
        let patience = (TIMES_PREDICTED * predicted / hung_after.as_secs_f64()).max(1.0);
        // Saturates: a prediction without bounds means a patience without them.
        let too_many = (f64::from(LOOKS) * patience).ceil() as u32;
        Self { lease, too_many, seen: 0, unchanged: 0 }
    }

    /// Between two looks.
    pub(super) fn every(hung_after: Duration) -> Duration {
        hung_after / LOOKS
    }

    /// The lease that hangs, if the slot has not gone on since too many looks.
    pub(super) fn look(&mut self, pulse: &Pulse) -> Option<LeaseId> {
        let count = pulse.count();
        if count == 0 || count != self.seen {
            (self.seen, self.unchanged) = (count, 0);
            return None;
        }
        self.unchanged += 1;
        (self.unchanged >= self.too_many).then_some(self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: LeaseId = LeaseId::new(7);

    fn looks_until_hung(watch: &mut Watch, pulse: &Pulse) -> u32 {
        (1..1_000).find(|_| watch.look(pulse).is_some()).expect("it is found some day")
    }

    #[test]
    fn a_slot_that_stops_is_hung_after_ten_looks_and_one_that_beats_never() {
        let (pulse, mut watch) = (Pulse::default(), Watch::new(LEASE, 0.001, Duration::from_secs(60)));
        pulse.begin();
        for _ in 0..1_000 {
            pulse.beat();
            assert_eq!(watch.look(&pulse), None);
        }
        assert_eq!(looks_until_hung(&mut watch, &pulse), 10);
        assert_eq!(watch.look(&pulse), Some(LEASE));
        pulse.beat();
        assert_eq!(watch.look(&pulse), None, "a beat begins anew");
        assert_eq!(Watch::every(Duration::from_secs(60)), Duration::from_secs(6));
    }

    #[test]
    fn a_slot_whose_steps_are_slow_is_given_a_hundred_times_as_long_as_predicted() {
        let (pulse, mut watch) = (Pulse::default(), Watch::new(LEASE, 3.0, Duration::from_secs(60)));
        pulse.begin();
        watch.look(&pulse);
        // 300 s of looks each 6 s.
        assert_eq!(looks_until_hung(&mut watch, &pulse), 50);
    }

    #[test]
    fn a_slot_that_does_not_train_is_never_hung() {
        let (pulse, mut watch) = (Pulse::default(), Watch::new(LEASE, 0.001, Duration::from_secs(60)));
        assert!((0..1_000).all(|_| watch.look(&pulse).is_none()), "it waits for a corpus");
        pulse.begin();
        pulse.end();
        assert!((0..1_000).all(|_| watch.look(&pulse).is_none()), "its last checkpoint is on its way");
    }
}
