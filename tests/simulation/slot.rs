//! A slot of a simulated worker: it fetches, trains, checkpoints and ends as the real one does, by [`crate::trainer`].

use std::time::Duration;

use slalom_common::checkpoint::Checkpoint;
use slalom_common::id::{ContentHash, LeaseId, Step};
use slalom_common::message::{CheckpointName, Lease, LeaseEnd};
use slalom_common::moment::Moment;
use slalom_common::outcome::{FailureReason, Milestone};
use slalom_worker::agent::session::{Event, SlotId, SlotNews, Stop};
use slalom_worker::agent::slot::whole_state;

use crate::checker::{Checked, Violation};
use crate::planted::Bug;
use crate::trainer::{self, Nature, State, nature};
use crate::worker::{ProcessId, WorkerIndex};
use crate::world::{Happening, World};

/// As the slot has it.
const RESUME_WITHIN: Duration = Duration::from_secs(30);

/// What a slot is at.
#[derive(Debug)]
pub(crate) struct Training {
    pub(crate) lease: Lease,
    checkpoint_every: Duration,
    pub(crate) told: Option<Stop>,
    state: State,
    begun_at: Step,
    checkpoint_due: Moment,
    uploads: bool,
    /// At which step it will fail for no reason of the run's own.
    fails_at: Option<Step>,
}

/// A checkpoint on its way to the coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) lease: LeaseId,
    step: Step,
    bytes: Vec<u8>,
    /// How the lease ends with it, if it does.
    ends: Option<(Vec<Milestone>, LeaseEnd)>,
}

impl World {
    pub(crate) fn start_slot(
        &mut self,
        worker: WorkerIndex,
        id: ProcessId,
        slot: SlotId,
        lease: Lease,
        checkpoint_every: Duration,
    ) -> Checked {
        let is_poison = self.weather.has_poison && worker.0 + 1 == self.hosts.len();
        let percent = if is_poison { 95 } else { self.weather.failure_percent };
        let fails = !self.is_calm() && self.dice.chance(percent);
        let fails_at = fails.then(|| Step::new(if is_poison { 0 } else { self.dice.below(20) }));
        let now = self.now;
        let Some(process) = self.process(worker, id) else { return Ok(()) };
        let place = &mut process.slots[slot.0 as usize];
        if let Some(busy) = place {
            let found = format!("slot {} trains lease {} and is given {}", slot.0, busy.lease.id, lease.id);
            return Err(Violation { invariant: "slot", found });
        }
        let (lease_id, resumes) = (lease.id, lease.resume.is_some());
        let state = State::start(&lease.run);
        *place = Some(Training {
            lease,
            checkpoint_every,
            told: None,
            state,
            begun_at: state.step,
            checkpoint_due: now + checkpoint_every,
            uploads: false,
            fails_at,
        });
        let after = self.dice.millis(0..=self.weather.step_ms);
        let give_up = now + RESUME_WITHIN;
        let happening = if resumes {
            Happening::Fetches { worker, process: id, slot, lease: lease_id, give_up }
        } else {
            Happening::Steps { worker, process: id, slot, lease: lease_id }
        };
        self.later(after, happening);
        Ok(())
    }

    /// A slot asks for the checkpoint that it is to go on from.
    pub(crate) fn on_fetches(
        &mut self,
        (worker, id): (WorkerIndex, ProcessId),
        (slot, lease): (SlotId, LeaseId),
        give_up: Moment,
    ) -> Checked {
        let is_reachable = self.is_reachable(worker);
        let now = self.now;
        let Some(training) = self.process(worker, id).and_then(|process| process.training(slot, lease))
        else {
            return Ok(());
        };
        if training.told.is_some() {
            self.end_slot((worker, id), (slot, lease), Vec::new(), LeaseEnd::HandedBack);
            return Ok(());
        }
        if !is_reachable && now < give_up {
            let after = self.dice.millis(100..=2_000);
            self.later(after, Happening::Fetches { worker, process: id, slot, lease, give_up });
            return Ok(());
        }
        let granted = training.lease.clone();
        let names = [granted.resume, granted.resume_before].into_iter().flatten();
        let resumed = names.filter(|_| is_reachable).find_map(|name| {
            let bytes = self.disk.blobs.get(&name.blob)?;
            self.resume(&granted, name, bytes)
        });
        if let Some((state, is_whole)) = resumed {
            self.say(|_| format!("hill-{} goes on with lease {lease} from step {}", worker.0, state.step));
            self.checker.on_resumed(&granted, state.step, is_whole)?;
            let Some(training) = self.process(worker, id).and_then(|process| process.training(slot, lease))
            else {
                return Ok(());
            };
            (training.state, training.begun_at) = (state, state.step);
        }
        self.later(Duration::ZERO, Happening::Steps { worker, process: id, slot, lease });
        Ok(())
    }

    /// The state in these bytes, if the lease can go on from it, and whether they are what they are called.
    fn resume(&self, lease: &Lease, name: CheckpointName, bytes: &[u8]) -> Option<(State, bool)> {
        // What does not hash to its name the real transfer refuses.
        let is_whole = ContentHash::of(bytes) == name.blob;
        if !is_whole && self.planted == Some(Bug::ResumesTorn) {
            return Some((State::from_torn(name.step, bytes), false));
        }
        let bytes = is_whole.then_some(bytes)?;
        let state = if self.planted == Some(Bug::ResumesPastMilestone) {
            Checkpoint::from_bytes(bytes, &lease.run).ok()?
        } else {
            whole_state(bytes, lease).ok()?
        };
        Some((State::from_checkpoint(&state), is_whole))
    }

    /// One turn of the trainer's loop: the milestone if this step is wanted, then whatever is told or due, then a step.
    pub(crate) fn on_steps(
        &mut self,
        (worker, id): (WorkerIndex, ProcessId),
        (slot, lease): (SlotId, LeaseId),
    ) {
        let now = self.now;
        let step_ms = self.weather.step_ms;
        let lies = self.lies(worker);
        let is_reachable = self.is_reachable(worker);
        let Some(training) = self.process(worker, id).and_then(|process| process.training(slot, lease))
        else {
            return;
        };
        let done = training.state.step;
        if training.lease.wanted.contains(&done) {
            let milestone = training.state.measure();
            let milestone = if lies { trainer::off_by_a_bit(milestone) } else { milestone };
            if training.lease.wanted.last() == Some(&done) {
                if done == training.begun_at || !is_reachable {
                    self.end_slot((worker, id), (slot, lease), vec![milestone], LeaseEnd::Finished);
                    return;
                }
                let bytes = training.state.to_checkpoint(&training.lease.run).to_bytes();
                let ends = Some((vec![milestone], LeaseEnd::Finished));
                let upload = Upload { lease, step: done, bytes, ends };
                let after = self.dice.millis(0..=1_000);
                self.later(after, Happening::Uploaded { worker, process: id, slot, upload });
                return;
            }
            self.post((worker, id), lease, SlotNews::Milestone(milestone));
        } else if training.lease.wanted.last() < Some(&done) {
            self.end_slot((worker, id), (slot, lease), Vec::new(), LeaseEnd::Finished);
            return;
        }
        let Some(training) = self.process(worker, id).and_then(|process| process.training(slot, lease))
        else {
            return;
        };
        let state = training.state;
        let checkpoint = |training: &Training, ends| Upload {
            lease,
            step: state.step,
            bytes: state.to_checkpoint(&training.lease.run).to_bytes(),
            ends,
        };
        if let Some(how) = training.told {
            if how == Stop::Checkpoint && state.step > training.begun_at {
                let upload = checkpoint(training, Some((Vec::new(), LeaseEnd::HandedBack)));
                let after = self.dice.millis(0..=1_000);
                self.later(after, Happening::Uploaded { worker, process: id, slot, upload });
                return;
            }
            self.end_slot((worker, id), (slot, lease), Vec::new(), LeaseEnd::HandedBack);
            return;
        }
        if now >= training.checkpoint_due {
            training.checkpoint_due = now + training.checkpoint_every;
            if !training.uploads {
                training.uploads = true;
                let upload = checkpoint(training, None);
                let after = self.dice.millis(0..=2_000);
                self.later(after, Happening::Uploaded { worker, process: id, slot, upload });
            }
        }
        let Some(training) = self.process(worker, id).and_then(|process| process.training(slot, lease))
        else {
            return;
        };
        let ended = match nature(&training.lease.run) {
            Nature::DivergesAt(at) if at <= done => Some(LeaseEnd::Diverged { at }),
            Nature::PoisonAt(at) if at <= done => {
                Some(LeaseEnd::Failed { reason: FailureReason::Panic, detail: "poison".to_owned() })
            }
            Nature::Sound | Nature::DivergesAt(_) | Nature::PoisonAt(_) => None,
        };
        let fails = training.fails_at.is_some_and(|at| at <= done);
        let ended = ended.or_else(|| {
            fails.then(|| LeaseEnd::Failed { reason: FailureReason::Memory, detail: "bad luck".to_owned() })
        });
        if let Some(how) = ended {
            self.end_slot((worker, id), (slot, lease), Vec::new(), how);
            return;
        }
        training.state = state.next();
        let step = training.state.step;
        if step.number().is_multiple_of(4) {
            self.post((worker, id), lease, SlotNews::Progress { step, loss: None });
        }
        let after = self.dice.millis(step_ms / 2..=step_ms);
        self.later(after, Happening::Steps { worker, process: id, slot, lease });
    }

    pub(crate) fn on_uploaded(
        &mut self,
        (worker, id): (WorkerIndex, ProcessId),
        slot: SlotId,
        upload: Upload,
    ) {
        let is_reachable = self.is_reachable(worker);
        let Some(process) = self.process(worker, id) else { return };
        let incarnation = process.incarnation;
        let Upload { lease, step, bytes, ends } = upload;
        let Some(training) = process.training(slot, lease) else { return };
        training.uploads = false;
        if is_reachable {
            let blob = ContentHash::of(&bytes);
            self.checker.on_uploaded(blob);
            self.checker.on_checkpoint_said(incarnation, lease, step);
            self.disk.blobs.insert(blob, bytes);
            self.post((worker, id), lease, SlotNews::CheckpointStored(CheckpointName { step, blob }));
        }
        if let Some((milestones, how)) = ends {
            self.end_slot((worker, id), (slot, lease), milestones, how);
        }
    }

    fn end_slot(
        &mut self,
        (worker, id): (WorkerIndex, ProcessId),
        (slot, lease): (SlotId, LeaseId),
        milestones: Vec<Milestone>,
        how: LeaseEnd,
    ) {
        let Some(process) = self.process(worker, id) else { return };
        process.slots[slot.0 as usize] = None;
        let incarnation = process.incarnation;
        self.checker.on_slot_free(incarnation, lease);
        self.post((worker, id), lease, SlotNews::Ended { milestones, how });
    }

    /// Into the queue between slots and the session.
    fn post(&mut self, (worker, id): (WorkerIndex, ProcessId), lease: LeaseId, news: SlotNews) {
        let due = self.now + self.dice.millis(0..=2);
        let Some(process) = self.process(worker, id) else { return };
        process.news_last = process.news_last.max(due);
        let at = process.news_last;
        self.at(at, Happening::SlotSays { worker, process: id, lease, news });
    }

    pub(crate) fn on_slot_says(
        &mut self,
        (worker, id): (WorkerIndex, ProcessId),
        lease: LeaseId,
        news: SlotNews,
    ) -> Checked {
        self.tell(worker, id, Event::Slot { lease, news })
    }
}
