//! Copies near the end: when nothing waits, a slot that is free trains once more the run that would end last, if it is so much faster.
//!
//! A copy goes on from the run's newest checkpoint and changes no state of it. Whoever brings an answer first has it recorded, the
//! other's is compared, and once all are in whoever still trains is told to stop. If the run loses its lease otherwise, the copy
//! takes its place.

use std::time::Duration;

use slalom_common::answer::RunState;
use slalom_common::id::{Incarnation, LeaseId, RunId};
use slalom_common::message::LeaseKind;
use slalom_common::moment::Moment;

use super::Scheduler;
use super::effect::Effects;
use super::fleet::{Held, Worker};
use super::grants::remaining;
use super::ledger::SweepIndex;
use super::ledger::run::LOSSES_TOGETHER_MAX;

/// Of the time that a run still takes where it is, what a copy must save at least.
const SAVES_SHARE: f64 = 0.25;

/// And so many seconds at least: to look at more is not worth the words.
const SAVES_SECONDS: f64 = 1.0;

/// Between two looks: what a look finds changes with the clock, and events come by the thousand a second.
pub(super) const LOOKS_EVERY: Duration = Duration::from_millis(250);

/// Of the idle workers, the fastest first, so many may find nothing to gain until the rest is not asked: they would find no more.
const TAKERS_IN_VAIN_MAX: usize = 8;

/// A run that is leased once, and when it would end where it is.
#[derive(Clone, Copy)]
struct Candidate {
    run: RunId,
    holder: Incarnation,
    ends_in: f64,
}

/// What a copy of it would have to train.
struct Copied {
    candidate: Candidate,
    held: Held,
}

impl Scheduler {
    /// Leases to idle slots, the fastest first, copies of the runs that would end last, if none waits.
    pub(super) fn grant_copies(&mut self, now: Moment, effects: &mut Effects) {
        if now < self.next_copies || self.has_waiting() {
            return;
        }
        let is_idle = |worker: &Worker| self.may_take(worker) && worker.idle_slots() > 0;
        let mut takers: Vec<(Incarnation, f64)> = self
            .fleet
            .iter()
            .filter(|&(&incarnation, worker)| is_idle(worker) && !self.holds_alone(incarnation))
            .map(|(&incarnation, worker)| (incarnation, worker.speed()))
            .collect();
        if takers.is_empty() {
            return;
        }
        self.next_copies = now + LOOKS_EVERY;
        takers.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let idle: usize = takers.iter().map(|(incarnation, _)| self.fleet[incarnation].idle_slots()).sum();
        let mut candidates = self.leased_once(now);
        candidates.sort_by(|a, b| b.ends_in.total_cmp(&a.ends_in));
        candidates.truncate(idle + TAKERS_IN_VAIN_MAX);
        let mut candidates: Vec<Copied> = candidates
            .into_iter()
            .map(|candidate| {
                let run = self.ledger.run(candidate.run).run;
                let held = remaining(now, &self.ledger, &run, |entry| self.settings.serve.serves(entry));
                Copied { candidate, held }
            })
            .collect();
        let mut in_vain = 0;
        for (incarnation, _) in takers {
            let mut copied = Vec::new();
            let mut next = self.ledger.next_lease();
            while self.fleet[&incarnation].idle_slots() > 0 {
                let gains = |copied: &Copied| self.gains(incarnation, copied);
                let Some(place) = candidates.iter().position(gains) else { break };
                let Copied { candidate, held } = candidates.remove(place);
                let worker = self.fleet.get_mut(&incarnation).expect("a taker is in the fleet");
                worker.leases.insert(next, held);
                let sweep = self.served_in(candidate.run).expect("a candidate is wanted");
                copied.push((next, sweep, self.ledger.run(candidate.run).run));
                next = LeaseId::new(next.number() + 1);
            }
            in_vain += usize::from(copied.is_empty());
            if in_vain == TAKERS_IN_VAIN_MAX {
                return;
            }
            self.lease_out(incarnation, LeaseKind::Copy, &copied, effects);
        }
    }

    /// The runs of which a copy may be granted.
    fn leased_once(&self, now: Moment) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        // A worker that is away may have gone, and what it holds waits soon; of one that has not greeted nothing is known.
        let there = self.fleet.iter().filter(|(_, worker)| worker.stream.is_some());
        for (&holder, worker) in there {
            for (lease, ends_in) in worker.ends_in(now) {
                let entry = self.ledger.lease(lease).expect("held leases were granted");
                let known = self.ledger.run(entry.run);
                // One more loss must not leave it alone on a worker that trains others beside it.
                let is_safe = !known.alone && known.losses + 1 < LOSSES_TOGETHER_MAX;
                if ends_in > SAVES_SECONDS
                    && entry.kind == LeaseKind::Primary
                    && known.copy.is_none()
                    && is_safe
                    && self.ledger.is_wanted(entry.run, |entry| self.settings.serve.serves(entry))
                {
                    candidates.push(Candidate { run: entry.run, holder, ends_in });
                }
            }
        }
        candidates
    }

    /// Whether `incarnation` would end the run so much earlier.
    fn gains(&self, incarnation: Incarnation, Copied { candidate, held }: &Copied) -> bool {
        let has_failed_here = self.failed_on.get(&candidate.run) == Some(&incarnation);
        let takes = self.fleet[&incarnation].seconds(&held.work);
        candidate.holder != incarnation
            && !has_failed_here
            && candidate.ends_in - takes > SAVES_SECONDS.max(candidate.ends_in * SAVES_SHARE)
    }

    /// A sweep that is served in whose view the run is leased.
    fn served_in(&self, run: RunId) -> Option<SweepIndex> {
        let views = self.ledger.run(run).views();
        let mut served = views.filter(|&(sweep, _, state)| {
            state == RunState::Running && self.settings.serve.serves(self.ledger.sweep(sweep))
        });
        served.next().map(|(sweep, _, _)| sweep)
    }
}
