//! What is announced of a change, in the words of each sweep that it is a change for.

use slalom_common::answer::RunState;
use slalom_common::id::{LeaseId, RunId, RunNumber};
use slalom_common::outcome::{Measured, Milestone};

use super::Scheduler;
use super::effect::{Effects, Named, Notice};
use super::ledger::sweep::Course;
use super::ledger::{SweepIndex, Transition};

impl Scheduler {
    pub(super) fn announce_over(&self, over: &Transition, effects: &mut Effects) {
        let run = self.named(over.sweep, over.number, over.run);
        let known = self.ledger.run(over.run);
        let last = known.last_lease.and_then(|lease| self.ledger.lease(lease));
        let Some(last) = last else { return };
        let worker = self.ledger.holder(last).1.clone();
        match over.to {
            RunState::Done => {
                // Of two that trained it side by side, who brought what came last.
                let brought =
                    known.answers.last_key_value().and_then(|(_, kept)| self.ledger.lease(kept.lease));
                let worker = brought.map_or(worker, |lease| self.ledger.holder(lease).1.clone());
                effects.announce(Notice::RunDone { run, worker });
            }
            RunState::Diverged => {
                let at = known.diverged.map(|(at, _)| at);
                effects.announce(Notice::RunDiverged { run, at, worker });
            }
            RunState::Failed => {
                let (reason, detail) = known.last_failure.clone().expect("a run fails for a reason");
                let attempts = known.failures;
                effects.announce(Notice::RunFailed { run, reason, detail, attempts, worker });
            }
            RunState::Waiting | RunState::Running | RunState::Cancelled => (),
        }
    }

    pub(super) fn announce_done(&self, sweep: SweepIndex, effects: &mut Effects) {
        let entry = self.ledger.sweep(sweep);
        effects.announce(Notice::SweepDone {
            sweep: entry.sweep.name().clone(),
            counts: entry.counts,
            best: entry.points.best(),
        });
    }

    /// What has become of a sweep that was steered.
    pub(super) fn announce_course(&self, sweep: SweepIndex, effects: &mut Effects) {
        let entry = self.ledger.sweep(sweep);
        let (sweep, counts) = (entry.sweep.name().clone(), entry.counts);
        effects.announce(match entry.course {
            Course::Active => Notice::SweepResumed { sweep, counts },
            Course::Paused => Notice::SweepPaused { sweep, counts },
            Course::Stopping => Notice::SweepStopping { sweep, counts },
            Course::Cancelled => Notice::SweepCancelled { sweep, counts },
        });
    }

    /// A line for each sweep whose trial, or whose curve, the milestone answers.
    pub(super) fn announce_milestone(
        &self,
        run: RunId,
        lease: LeaseId,
        milestone: &Milestone,
        effects: &mut Effects,
    ) {
        let known = self.ledger.run(run);
        let at = known.coordinates();
        let worker = self.ledger.holder(self.ledger.lease(lease).expect("it was granted")).1;
        for (sweep, number, _) in known.views() {
            let entry = self.ledger.sweep(sweep);
            if !entry.sweep.wants(&at, milestone.step) {
                continue;
            }
            let perplexity = match milestone.measured {
                Measured::Perplexity(perplexity) => Some(perplexity),
                Measured::Diverged => None,
            };
            effects.announce(Notice::Milestone {
                run: self.named(sweep, number, run),
                step: milestone.step,
                epochs: entry.sweep.trial_epochs(&at, milestone.step),
                perplexity,
                loss: milestone.loss,
                worker: worker.clone(),
                lease,
                best: entry.points.best().map(|best| best.mean),
            });
        }
    }

    pub(super) fn named(&self, sweep: SweepIndex, number: RunNumber, run: RunId) -> Named {
        let entry = self.ledger.sweep(sweep);
        Named { sweep: entry.sweep.name().clone(), run: number, at: self.ledger.run(run).coordinates() }
    }

    pub(super) fn first_running_view(&self, run: RunId) -> Option<Named> {
        let (sweep, number, _) =
            self.ledger.run(run).views().find(|(_, _, state)| *state == RunState::Running)?;
        Some(self.named(sweep, number, run))
    }

    pub(super) fn any_view(&self, run: RunId) -> Option<Named> {
        let (sweep, number, _) = self.ledger.run(run).views().next()?;
        Some(self.named(sweep, number, run))
    }
}
