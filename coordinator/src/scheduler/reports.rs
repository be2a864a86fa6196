//! What workers report: answers, ends of leases, checkpoints; and how an end that nobody reports is recorded.

use slalom_common::answer::{RunState, SweepState};
use slalom_common::id::{Incarnation, LeaseId, MessageNumber, RunId, RunKey, WorkerName};
use slalom_common::message::{CheckpointName, CoordinatorMessage, LeaseEnd, LeaseKind, Report};
use slalom_common::outcome::Milestone;

use super::Scheduler;
use super::effect::{Effect, Effects, Notice, Requeue};
use super::ledger::run::Verdict;
use super::ledger::sweep::Course;
use super::ledger::{LeaseEntry, SweepIndex};
use super::record::{Answer, End, Record};

impl Scheduler {
    pub(super) fn on_checkpoint_stored(
        &mut self,
        incarnation: Incarnation,
        (lease, key): (LeaseId, RunKey),
        checkpoint: CheckpointName,
        effects: &mut Effects,
    ) {
        let remove = |blob, effects: &mut Effects| {
            effects.after_commit.push(Effect::RemoveCheckpoint { blob });
        };
        let granted = self.granted(incarnation, lease, key).filter(|granted| granted.in_force);
        let Some(LeaseEntry { run, .. }) = granted else {
            // Under a stale lease (I4), or one of another store's life. Its bytes may still be what the run's own checkpoint names.
            if !self.ledger.checkpoints().any(|blob| blob == checkpoint.blob) {
                remove(checkpoint.blob, effects);
            }
            return;
        };
        let kept = &self.ledger.run(run).checkpoints;
        if kept.contains(&checkpoint) {
            return;
        }
        // Of two that train the run side by side, what the slower one stores is of no use.
        if self.ledger.run(run).copy.is_some() && kept.iter().any(|one| one.step >= checkpoint.step) {
            if !self.ledger.checkpoints().any(|blob| blob == checkpoint.blob) {
                remove(checkpoint.blob, effects);
            }
            return;
        }
        let oldest = (kept.len() == 2).then(|| kept[0].blob);
        self.record(Record::CheckpointKept { lease, checkpoint }, effects);
        if let Some(blob) = oldest {
            remove(blob, effects);
        }
    }

    /// The lease of this number, if this store has granted it to this incarnation, and on this run.
    fn granted(&self, incarnation: Incarnation, lease: LeaseId, key: RunKey) -> Option<LeaseEntry> {
        let granted = self.ledger.lease(lease).copied()?;
        let is_theirs = self.ledger.holder(&granted).0 == incarnation;
        // Every store numbers from 1: a worker's backlog of another store's life may name numbers that are its own here too.
        (is_theirs && self.ledger.find(&key) == Some(granted.run)).then_some(granted)
    }

    pub(super) fn on_reported(
        &mut self,
        incarnation: Incarnation,
        number: MessageNumber,
        (lease, key): (LeaseId, RunKey),
        report: Report,
        effects: &mut Effects,
    ) {
        if let Some(granted) = self.granted(incarnation, lease, key) {
            match report {
                Report::Milestone(milestone) => {
                    self.take_milestone(granted.run, lease, milestone, effects);
                    self.drop_unwanted(granted.run, effects);
                }
                Report::LeaseEnded { milestones, how } if granted.in_force => {
                    self.on_lease_ended(granted.run, lease, milestones, how, effects);
                }
                Report::LeaseEnded { milestones, how } => {
                    self.on_stale_end(granted.run, lease, milestones, &how, effects);
                }
            }
        } else {
            // A lease of another store's life, or of somebody else. Acknowledged all the same: it would come for ever.
            let worker = self.fleet[&incarnation].name.clone();
            effects.announce(Notice::MessageRefused { worker, lease });
        }
        let worker = self.fleet.get_mut(&incarnation).expect("whoever says something is in the fleet");
        worker.handled = worker.handled.max(Some(number));
        if let Some(stream) = worker.stream {
            // Also for a repeat: its first acknowledgement may be the message that was lost (I2, I5).
            let message = CoordinatorMessage::Acknowledged(number);
            effects.after_commit.push(Effect::Send { stream, message });
        }
    }

    /// Right bits are welcome under whatever lease, from whoever was once granted the run (I4).
    fn take_milestone(&mut self, run: RunId, lease: LeaseId, milestone: Milestone, effects: &mut Effects) {
        match self.ledger.run(run).judge(&milestone) {
            // Nobody asked: to keep it would let a peer fill the memory.
            Verdict::New if !self.ledger.is_asked(run, milestone.step) => (),
            Verdict::New => {
                self.record(Record::MilestoneReached { lease, milestone }, effects);
                self.announce_milestone(run, lease, &milestone, effects);
            }
            Verdict::Same => (),
            Verdict::Conflict { kept, kept_lease } => {
                self.conflict(run, (kept, kept_lease), (Answer::Milestone(milestone), lease), effects);
            }
        }
    }

    fn on_lease_ended(
        &mut self,
        run: RunId,
        lease: LeaseId,
        milestones: Vec<Milestone>,
        how: LeaseEnd,
        effects: &mut Effects,
    ) {
        let mut new: Vec<Milestone> = Vec::new();
        for milestone in milestones {
            if new.iter().any(|earlier| earlier.step == milestone.step) {
                continue;
            }
            match self.ledger.run(run).judge(&milestone) {
                Verdict::New if !self.ledger.is_asked(run, milestone.step) => (),
                Verdict::New => new.push(milestone),
                Verdict::Same => (),
                Verdict::Conflict { kept, kept_lease } => {
                    self.conflict(run, (kept, kept_lease), (Answer::Milestone(milestone), lease), effects);
                }
            }
        }
        let diverged = match how {
            LeaseEnd::Diverged { at } => Some(at),
            LeaseEnd::Finished | LeaseEnd::Failed { .. } | LeaseEnd::HandedBack => None,
        };
        // The answers are announced before the end that they travel with.
        let announced = effects.after_commit.len();
        self.end_lease(lease, new.clone(), End::Reported(how), effects);
        let ending = effects.after_commit.split_off(announced);
        for milestone in &new {
            self.announce_milestone(run, lease, milestone, effects);
        }
        effects.after_commit.extend(ending);
        if let Some(at) = diverged
            && let Verdict::Conflict { kept, kept_lease } = self.ledger.run(run).judge_divergence(at)
        {
            self.conflict(run, (kept, kept_lease), (Answer::DivergedAt(at), lease), effects);
        }
        // Whoever trains the same run beside it is to hear that it is over.
        self.drop_unwanted(run, effects);
    }

    /// A lease that had ended for the coordinator: its answers count, its failure does not (I4).
    fn on_stale_end(
        &mut self,
        run: RunId,
        lease: LeaseId,
        milestones: Vec<Milestone>,
        how: &LeaseEnd,
        effects: &mut Effects,
    ) {
        for milestone in milestones {
            self.take_milestone(run, lease, milestone, effects);
        }
        if let LeaseEnd::Diverged { at } = *how {
            match self.ledger.run(run).judge_divergence(at) {
                Verdict::New => {
                    self.record(Record::DivergenceReached { lease, at }, effects);
                }
                Verdict::Same => (),
                Verdict::Conflict { kept, kept_lease } => {
                    self.conflict(run, (kept, kept_lease), (Answer::DivergedAt(at), lease), effects);
                }
            }
        }
        self.drop_unwanted(run, effects);
    }

    fn conflict(
        &mut self,
        run: RunId,
        (kept, kept_lease): (Answer, LeaseId),
        (refused, refused_lease): (Answer, LeaseId),
        effects: &mut Effects,
    ) {
        if self.ledger.run(run).has_refused(refused_lease, &refused) {
            return;
        }
        self.record(Record::ConflictFound { kept_lease, kept, refused_lease, refused }, effects);
        let worker = |lease| {
            let lease = self.ledger.lease(lease).expect("an answer came under a granted lease");
            self.ledger.holder(lease).1.clone()
        };
        let (kept_worker, refused_worker) = (worker(kept_lease), worker(refused_lease));
        if let Some(run) = self.any_view(run) {
            effects.announce(Notice::ResultConflict { run, kept, kept_worker, refused, refused_worker });
        }
    }

    /// Ends the leases of a run that nobody wants any more, cancelled or answered under another lease; and the copy of one that is
    /// given up.
    pub(super) fn drop_unwanted(&mut self, run: RunId, effects: &mut Effects) {
        let known = self.ledger.run(run);
        let is_wanted = self.ledger.is_wanted(run, |entry| self.settings.serve.keeps(entry));
        // The copy first: it would take the other's place.
        let copy = known.copy.filter(|_| !is_wanted || known.given_up);
        let primary = known.lease.filter(|_| !is_wanted);
        for lease in copy.into_iter().chain(primary) {
            let (incarnation, _) = self.ledger.holder(self.ledger.lease(lease).expect("it is in force"));
            // What its own holder answers last comes with the lease's end, so this is never a lease about to finish.
            if let Some(stream) = self.fleet.get(&incarnation).and_then(|worker| worker.stream) {
                let message = CoordinatorMessage::Cancelled(vec![lease]);
                effects.after_commit.push(Effect::Send { stream, message });
            }
            self.end_lease(lease, Vec::new(), End::Cancelled, effects);
        }
    }

    /// Tells that a worker is granted nothing, if it is so.
    pub(super) fn announce_if_paused(&self, worker: &WorkerName, effects: &mut Effects) {
        let failure = self.ledger.conduct(worker).and_then(|conduct| conduct.last_failure());
        if let (true, Some((reason, detail))) = (self.pauses(worker), failure) {
            let (worker, detail) = (worker.clone(), detail.to_owned());
            effects.announce(Notice::WorkerPaused { worker, reason, detail });
        }
    }

    /// Records the end of a lease, whoever ended it, and says what that means in every sweep that wants the run.
    pub(super) fn end_lease(
        &mut self,
        lease: LeaseId,
        milestones: Vec<Milestone>,
        end: End,
        effects: &mut Effects,
    ) {
        let entry = self.ledger.lease(lease).copied().expect("only granted leases end");
        let (incarnation, worker) = self.ledger.holder(&entry);
        let worker = worker.clone();
        if let Some(holder) = self.fleet.get_mut(&incarnation) {
            holder.leases.remove(&lease);
        }
        match &end {
            End::Reported(LeaseEnd::Failed { .. }) => _ = self.failed_on.insert(entry.run, incarnation),
            End::Reported(_) | End::Expired { .. } | End::Absent | End::Cancelled => {
                if entry.kind == LeaseKind::Primary {
                    self.failed_on.remove(&entry.run);
                }
            }
        }
        let why = match &end {
            End::Reported(LeaseEnd::Failed { reason, .. }) => Requeue::Failed(*reason),
            End::Reported(LeaseEnd::HandedBack) => Requeue::HandedBack,
            End::Reported(LeaseEnd::Finished | LeaseEnd::Diverged { .. }) => Requeue::MoreWanted,
            End::Expired { .. } => Requeue::WorkerLost,
            End::Absent | End::Cancelled => Requeue::Absent,
        };
        let views = self.ledger.run(entry.run).views().map(|(sweep, _, _)| sweep);
        let stopping: Vec<SweepIndex> =
            views.filter(|&sweep| self.ledger.sweep(sweep).course == Course::Stopping).collect();
        let was_paused = self.pauses(&worker);
        let transitions = self.record(Record::LeaseEnded { lease, milestones, end }, effects);
        if !was_paused {
            self.announce_if_paused(&worker, effects);
        }
        for transition in transitions.iter().filter(|one| one.to == RunState::Waiting) {
            let run = self.named(transition.sweep, transition.number, transition.run);
            effects.announce(Notice::RunRequeued { run, worker: worker.clone(), lease, why });
        }
        for sweep in stopping {
            if self.ledger.sweep(sweep).state() == SweepState::Paused {
                self.announce_course(sweep, effects);
            }
        }
    }
}
