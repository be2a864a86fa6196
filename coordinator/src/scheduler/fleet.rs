//! What is believed of the workers: never recorded, rebuilt from their hellos.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slalom_common::cost::{REFERENCE, Work};
use slalom_common::id::{Incarnation, LeaseId, MessageNumber, Step, WorkerName};
use slalom_common::message::Hello;
use slalom_common::moment::Moment;

use super::event::StreamId;

/// Leases a slot may have waiting, however tiny they are.
const AHEAD_MAX: usize = 32;

/// Whether a worker takes leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// It does.
    Ready,
    /// A person drains it: it gets none, and has not yet said that it leaves.
    ToldToDrain,
    /// It said so.
    Draining,
}

/// One incarnation with a session.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name.
    pub name: WorkerName,
    /// What its hello said; none for the holder of a recorded lease that has not greeted this life of the coordinator.
    pub hello: Option<Hello>,
    /// Its present connection.
    pub stream: Option<StreamId>,
    /// When it last said anything.
    pub heard: Moment,
    /// The last report of it that was handled.
    pub handled: Option<MessageNumber>,
    /// Whether it takes leases.
    pub readiness: Readiness,
    /// Its leases in force.
    pub leases: BTreeMap<LeaseId, Held>,
    /// Of these, what its hello had not received and what is not sent again: they end when a heartbeat does not have them either.
    pub withheld: BTreeSet<LeaseId>,
    /// How its runs go against what was predicted.
    pub pace: Pace,
}

/// A lease as its holder is believed to stand.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Held {
    /// From its grant to its end.
    pub work: Work,
    /// Of that, a step on average.
    step_work: Work,
    /// Where it went on from.
    from: Step,
    /// The last progress it told.
    pub step: Step,
    /// When it told that; none before it has told any.
    told: Option<Moment>,
    /// When it told that, or was granted.
    since: Moment,
}

impl Held {
    /// Granted at `now` to go on from `step`, through `last`.
    pub fn new(now: Moment, work: Work, step: Step, last: Step) -> Self {
        let steps = last.number().saturating_sub(step.number()).max(1);
        Self { work, step_work: work * (steps as f64).recip(), from: step, step, told: None, since: now }
    }

    /// What it has told to be done.
    fn done(&self) -> Work {
        self.step_work * self.step.number().saturating_sub(self.from.number()) as f64
    }
}

/// What a worker's runs took against what its fit predicts, over about the last minute of training.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Pace {
    seen_s: f64,
    predicted_s: f64,
}

impl Pace {
    /// Seconds seen that weigh as much as the fit.
    const TRUST_SECONDS: f64 = 5.0;
    /// What is longer ago than this counts less and less.
    const WINDOW_SECONDS: f64 = 60.0;
    /// Nothing that is said moves a prediction further than by this factor.
    const FACTOR_MAX: f64 = 8.0;

    /// Seconds in truth for a predicted second: 1 before anything was seen.
    pub fn factor(&self) -> f64 {
        let factor = (self.seen_s + Self::TRUST_SECONDS) / (self.predicted_s + Self::TRUST_SECONDS);
        factor.clamp(Self::FACTOR_MAX.recip(), Self::FACTOR_MAX)
    }

    fn see(&mut self, seen_s: f64, predicted_s: f64) {
        self.seen_s += seen_s;
        self.predicted_s += predicted_s;
        let longer = self.seen_s.max(self.predicted_s);
        if longer > Self::WINDOW_SECONDS {
            self.seen_s *= Self::WINDOW_SECONDS / longer;
            self.predicted_s *= Self::WINDOW_SECONDS / longer;
        }
    }
}

impl Worker {
    /// The holder of a recorded lease, before it greets.
    pub fn unheard(name: WorkerName, now: Moment) -> Self {
        Self {
            name,
            hello: None,
            stream: None,
            heard: now,
            handled: None,
            readiness: Readiness::Ready,
            leases: BTreeMap::new(),
            withheld: BTreeSet::new(),
            pace: Pace::default(),
        }
    }

    /// Runs it trains at a time; none before it greets.
    pub fn slots(&self) -> usize {
        self.hello.as_ref().map_or(0, |hello| hello.slots as usize)
    }

    /// Its rate relative to the reference, a slot, as it said and as its runs go.
    pub fn speed(&self) -> f64 {
        self.hello.as_ref().map_or(1.0, |hello| hello.speed) / self.pace.factor()
    }

    /// Predicted seconds of a slot, corrected by its runs; of the reference core before it greets.
    pub fn seconds(&self, work: &Work) -> f64 {
        self.predicted_seconds(work) * self.pace.factor()
    }

    fn predicted_seconds(&self, work: &Work) -> f64 {
        self.hello.as_ref().map_or(&REFERENCE, |hello| &hello.cost).seconds(work)
    }

    /// A run of its is at `step` by now: what that took since it last said so corrects its pace.
    pub fn on_progress(&mut self, now: Moment, lease: LeaseId, step: Step) {
        let Some(held) = self.leases.get(&lease).copied() else { return };
        if let Some(told) = held.told {
            let steps = step.number().saturating_sub(held.step.number());
            let predicted_s = self.predicted_seconds(&(held.step_work * steps as f64));
            self.pace.see(now.since(told).as_secs_f64(), predicted_s);
        }
        self.leases.insert(lease, Held { step, told: Some(now), since: now, ..held });
    }

    /// Whether it is there and takes leases.
    pub fn takes_leases(&self) -> bool {
        self.stream.is_some() && self.readiness == Readiness::Ready
    }

    /// Slots without a lease.
    pub fn idle_slots(&self) -> usize {
        self.slots().saturating_sub(self.leases.len())
    }

    /// Whether it holds less than `ahead` seconds of work for each of its slots.
    pub fn wants_ahead(&self, ahead: f64) -> bool {
        let held: Work = self.leases.values().map(|held| held.work).sum();
        self.leases.len() < self.slots() * (1 + AHEAD_MAX)
            && self.seconds(&held) < ahead * self.slots() as f64
    }

    /// What is left of each of its leases, by what it has told and by the time since: the first of them it trains, as many as it
    /// has slots.
    pub fn left(&self, now: Moment) -> impl Iterator<Item = Work> + '_ {
        self.leases.values().enumerate().map(move |(place, held)| {
            let left = held.work.less(held.done());
            let seconds = self.seconds(&left);
            let since = if place < self.slots() { now.since(held.since).as_secs_f64() } else { 0.0 };
            if seconds > since { left * (1.0 - since / seconds) } else { Work::NONE }
        })
    }

    /// Predicted seconds until each of its leases ends, which it trains in order.
    pub fn ends_in(&self, now: Moment) -> Vec<(LeaseId, f64)> {
        let mut slots = vec![0.0_f64; self.slots()];
        let leases = self.leases.keys().zip(self.left(now));
        let ends = leases.filter_map(|(&lease, left)| {
            let free = slots.iter_mut().min_by(|a, b| a.total_cmp(b))?;
            *free += self.seconds(&left);
            Some((lease, *free))
        });
        ends.collect()
    }

    /// Predicted seconds until a slot of it is free.
    pub fn free_in(&self, now: Moment) -> f64 {
        let left = self.left(now).map(|left| self.seconds(&left));
        match self.leases.len() {
            leases if leases < self.slots() => 0.0,
            leases if leases == self.slots() => left.fold(f64::INFINITY, f64::min),
            _ => left.sum::<f64>() / self.slots() as f64,
        }
    }

    /// When its leases end unless it says something before.
    pub fn deadline(&self, lease: Duration) -> Moment {
        self.heard + lease
    }
}

/// All of them.
pub type Fleet = BTreeMap<Incarnation, Worker>;
