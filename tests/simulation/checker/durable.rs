//! What is durable: each record against what workers said, what people asked and what was on record before.

use std::collections::{BTreeMap, BTreeSet};

use slalom_common::answer::RunState;
use slalom_common::grid::Coordinates;
use slalom_common::id::{Incarnation, LeaseId, RunKey, RunNumber, Step, SweepName, WorkerName};
use slalom_common::message::{CheckpointName, LeaseEnd, LeaseKind, Report};
use slalom_common::moment::Moment;
use slalom_common::outcome::{Measured, Milestone};
use slalom_common::sweep::Sweep;
use slalom_common::trials;
use slalom_coordinator::scheduler::event::Steering;
use slalom_coordinator::scheduler::ledger::sweep::Course;
use slalom_coordinator::scheduler::record::{Answer, End, Grant, Record};

use super::{Book, Checked, Checker, Conditions, Granted, Known, Violation, hold};
use crate::people::Ask;

/// Lost workers in a row, and fruitless leases, that fail a run (I8).
const LOSSES_MAX: u32 = 20;

/// Runs that fail on a worker in a row and pause it.
const FAILED_IN_A_ROW: usize = 3;

/// Checkpoints of a run that are kept.
const CHECKPOINTS_MAX: usize = 2;

impl Checker {
    pub(crate) fn on_committed(
        &mut self,
        now: Moment,
        records: &[Record],
        conditions: Conditions,
    ) -> Checked {
        if conditions == Conditions::Settled {
            for record in records {
                if let Record::LeaseEnded { lease, end: End::Expired { silent }, .. } = record {
                    let found = format!("lease {lease} expired after {silent:?}, and nothing goes wrong");
                    return Err(Violation { invariant: "L1", found });
                }
            }
        }
        self.committed += records.len();
        self.begin_commit();
        records.iter().try_for_each(|record| self.on_record(now, record))
    }

    pub(super) fn begin_commit(&mut self) {
        self.paused_lately.clear();
        for book in self.books.values_mut() {
            (book.lately, book.was_done) = (vec![book.course], false);
        }
    }

    fn on_record(&mut self, now: Moment, record: &Record) -> Checked {
        match record {
            Record::SweepSubmitted(sweep) => {
                let name = sweep.name().clone();
                let asked = |ask: &Ask| matches!(ask, Ask::Submit(asked) if **asked == **sweep);
                hold(self.asked.iter().any(asked), "I7", || format!("nobody submitted {name}"))?;
                hold(!self.books.contains_key(&name), "I7", || format!("{name} was submitted twice"))?;
                self.books.insert(name, Book::new(sweep));
                Ok(())
            }
            Record::SweepExtended(sweep) => self.on_extended(sweep),
            Record::SweepResubmitted { sweep, policy: _ } => {
                let asked = |ask: &Ask| matches!(ask, Ask::Submit(asked) if asked.name() == sweep);
                hold(self.asked.iter().any(asked), "I7", || format!("nobody submitted {sweep} again"))?;
                let book = self.book(sweep)?;
                if book.course == Course::Cancelled {
                    book.take(Course::Active);
                }
                Ok(())
            }
            Record::SweepCancelled { sweep } => {
                let asked = |ask: &Ask| matches!(ask, Ask::Cancel(asked) if asked == sweep);
                hold(self.asked.iter().any(asked), "I7", || format!("nobody cancelled {sweep}"))?;
                self.book(sweep)?.take(Course::Cancelled);
                Ok(())
            }
            Record::SweepSteered { sweep, steering } => self.on_steered(sweep, *steering),
            Record::WorkerDrained { worker, incarnations } => self.on_drained(worker, incarnations),
            Record::WorkerResumed { worker } => self.on_worker_resumed(worker),
            Record::RunsLeased { incarnation, worker: _, first, grants } => {
                let next = self.leases.len() as u64 + 1;
                hold(first.number() == next, "I3", || format!("lease {first} was granted, not {next}"))?;
                hold(self.heard.contains_key(incarnation), "I3", || {
                    format!(
                        "lease {first} was granted to {incarnation}, which never greeted this coordinator"
                    )
                })?;
                grants.iter().try_for_each(|grant| self.on_granted(*incarnation, grant))
            }
            Record::MilestoneReached { lease, milestone } => {
                let reported = |report: &Report| {
                    matches!(report, Report::Milestone(one) if one == milestone)
                        || matches!(report, Report::LeaseEnded { milestones, .. } if milestones.contains(milestone))
                };
                self.said(*lease, "a milestone", reported)?;
                self.add_milestone(*lease, milestone)
            }
            Record::DivergenceReached { lease, at } => {
                self.said(*lease, "a divergence", |report| {
                    matches!(report, Report::LeaseEnded { how: LeaseEnd::Diverged { at: said }, .. } if said == at)
                })?;
                self.add_divergence(*lease, *at)
            }
            Record::LeaseEnded { lease, milestones, end } => {
                self.on_lease_ended(now, *lease, milestones, end)
            }
            Record::CheckpointKept { lease, checkpoint } => self.on_checkpoint_kept(*lease, checkpoint),
            Record::ConflictFound { kept_lease, kept, refused_lease, refused } => {
                self.on_conflict((*kept_lease, kept), (*refused_lease, refused))
            }
            Record::RunsRetried { runs } => {
                hold(self.asked.iter().any(|ask| matches!(ask, Ask::Retry(_))), "I8", || {
                    "nobody asked to retry".to_owned()
                })?;
                let done: Vec<SweepName> = self.done().cloned().collect();
                for sweep in &done {
                    self.book(sweep)?.was_done = true;
                }
                for key in runs {
                    let run = self.known(key)?;
                    (run.failures, run.losses, run.given_up) = (0, 0, false);
                }
                Ok(())
            }
        }
    }

    /// What a sweep asks for from now on is what it asked for and what somebody asked to add; it was not all there.
    fn on_extended(&mut self, sweep: &Sweep) -> Checked {
        let name = sweep.name();
        let blocks = |sweep: &Sweep| sweep.draft().blocks.clone();
        let trials = |sweep: &Sweep| -> BTreeSet<(Coordinates, u64)> { trials::in_order(sweep).collect() };
        let numbers = |sweep: &Sweep| -> BTreeMap<RunNumber, Coordinates> { sweep.run_numbers().collect() };
        let before = self.book(name)?.sweep.clone();
        let asked = self.asked.iter().filter_map(|ask| match ask {
            Ask::Extend(given) if given.name() == name => Some(&**given),
            _ => None,
        });
        let makes_it = |given: &&Sweep| {
            let both: BTreeSet<_> = trials(&before).into_iter().chain(trials(given)).collect();
            blocks(sweep) == [blocks(&before), blocks(given)].concat() && trials(sweep) == both
        };
        let by = asked.filter(makes_it).count();
        hold(by > 0, "I7", || format!("nobody asked to extend {name} to what it is now"))?;
        hold(trials(sweep).len() > trials(&before).len(), "I5", || {
            format!("that {name} is extended is on record and adds nothing")
        })?;
        let now = numbers(sweep);
        hold(numbers(&before).iter().all(|(number, at)| now.get(number) == Some(at)), "I7", || {
            format!("a run of {name} has another number since it was extended")
        })?;
        let book = &self.books[name];
        hold(book.course != Course::Cancelled, "I7", || format!("{name} was extended and is cancelled"))?;
        let was_done = self.is_done(book);
        self.tally.extended += 1;
        let book = self.book(name)?;
        let course = if was_done { Course::Active } else { book.course };
        book.runs = Book::new(sweep).runs;
        book.sweep = sweep.clone();
        book.was_done |= was_done;
        book.take(course);
        Ok(())
    }

    /// A pause, a stop or a resume is on record if it changes what is to become of the sweep, and only then.
    fn on_steered(&mut self, sweep: &SweepName, steering: Steering) -> Checked {
        let asked = Ask::Steer(sweep.clone(), steering);
        hold(self.asked.contains(&asked), "I7", || format!("nobody asked to {asked}"))?;
        self.book(sweep)?;
        let book = &self.books[sweep];
        let counts = self.counts(book);
        let is_over = counts.of(RunState::Waiting) + counts.of(RunState::Running) == 0;
        hold(!is_over && book.course != Course::Cancelled, "I5", || {
            format!("\"{asked}\" is on record, and {sweep} was over")
        })?;
        let course = match steering {
            Steering::Resume => Course::Active,
            Steering::Stop if counts.of(RunState::Running) > 0 => Course::Stopping,
            Steering::Pause | Steering::Stop => Course::Paused,
        };
        hold(course != book.course, "I5", || format!("\"{asked}\" is on record and changes nothing"))?;
        self.tally.steered += 1;
        self.book(sweep)?.take(course);
        Ok(())
    }

    fn on_worker_resumed(&mut self, worker: &WorkerName) -> Checked {
        let asked = Ask::ResumeWorker(worker.clone());
        hold(self.asked.contains(&asked), "I7", || format!("nobody asked to {asked}"))?;
        self.failed_in_a_row.remove(worker);
        hold(self.paused.remove(worker), "I5", || format!("\"{asked}\" is on record and changes nothing"))
    }

    /// An answer came from this process's worker, or a run failed on it.
    fn on_conduct(&mut self, incarnation: Incarnation, failed: Option<RunKey>) {
        let Some(name) = self.names.get(&incarnation).cloned() else { return };
        let in_a_row = self.failed_in_a_row.entry(name.clone()).or_default();
        match failed {
            Some(run) => _ = in_a_row.insert(run),
            None => in_a_row.clear(),
        }
        if in_a_row.len() >= FAILED_IN_A_ROW && self.paused.insert(name.clone()) {
            self.paused_lately.insert(name);
            self.tally.paused += 1;
        }
    }

    /// Workers that wait for somebody to resume them.
    pub(crate) fn paused_workers(&self) -> Vec<WorkerName> {
        self.paused.iter().cloned().collect()
    }

    fn on_drained(&mut self, worker: &WorkerName, incarnations: &[Incarnation]) -> Checked {
        let asked = Ask::Drain(worker.clone());
        hold(self.asked.contains(&asked), "I7", || format!("nobody asked to {asked}"))?;
        hold(!incarnations.is_empty(), "I5", || format!("\"{asked}\" is on record and changes nothing"))?;
        for incarnation in incarnations {
            hold(self.names.get(incarnation) == Some(worker), "steering", || {
                format!("{incarnation} is drained as {worker}, which it is not")
            })?;
            let is_new = self.drained.insert(*incarnation);
            hold(is_new, "I5", || format!("that {incarnation} is drained is on record twice"))?;
            self.tally.drained += 1;
        }
        Ok(())
    }

    fn on_granted(&mut self, incarnation: Incarnation, grant: &Grant) -> Checked {
        hold(!self.unsound.contains(&incarnation), "I9", || {
            format!("{incarnation}, whose known run came to other bits, is granted a lease")
        })?;
        let Grant { kind, run } = grant;
        let (key, lease) = (run.key(), LeaseId::new(self.leases.len() as u64 + 1));
        let mut wanting = self
            .books
            .values()
            .filter(|book| book.course != Course::Cancelled && book.lacks(&key, &self.runs))
            .peekable();
        hold(wanting.peek().is_some(), "L1", || format!("lease {lease} is on a run that no sweep lacks"))?;
        hold(wanting.any(|book| book.course == Course::Active), "steering", || {
            format!("lease {lease} is on a run that only sweeps want which are paused or stopping")
        })?;
        hold(self.names.get(&incarnation).is_some_and(|name| !self.paused.contains(name)), "L3", || {
            format!("lease {lease} was granted to {incarnation}, whose worker is paused")
        })?;
        hold(!self.drained.contains(&incarnation), "steering", || {
            format!("lease {lease} was granted to {incarnation}, which is drained")
        })?;
        self.tally.leases += 1;
        self.leases.push(Granted { run: key, incarnation, in_force: true, fruitful: false });
        let known = self.runs.entry(key).or_insert_with(|| Known {
            run: *run,
            answers: BTreeMap::new(),
            diverged: None,
            lease: None,
            copy: None,
            failures: 0,
            losses: 0,
            given_up: false,
            checkpoints: Vec::new(),
        });
        match kind {
            LeaseKind::Primary => {
                let holder = known.lease.replace(lease);
                hold(holder.is_none(), "I3", || {
                    format!("lease {lease} is on a run that {holder:?} is in force on")
                })?;
            }
            LeaseKind::Copy => {
                self.tally.copies += 1;
                let first = known.lease.map(|first| self.leases[first.number() as usize - 1].incarnation);
                hold(first.is_some_and(|first| first != incarnation), "I3", || {
                    format!("lease {lease} is a copy of a run that {first:?} has, for {incarnation}")
                })?;
                let other = known.copy.replace(lease);
                hold(other.is_none(), "I3", || format!("lease {lease} is a copy beside the copy {other:?}"))?;
            }
        }
        hold(!known.given_up, "I8", || format!("lease {lease} is on a run whose attempts are used up"))
    }

    fn on_lease_ended(
        &mut self,
        now: Moment,
        lease: LeaseId,
        milestones: &[Milestone],
        end: &End,
    ) -> Checked {
        let Granted { run: key, incarnation, in_force, .. } = self.granted(lease)?.clone();
        hold(in_force, "I4", || format!("lease {lease} ended twice"))?;
        match end {
            End::Reported(how) => {
                self.said(
                    lease,
                    "its end",
                    |report| matches!(report, Report::LeaseEnded { how: said, .. } if said == how),
                )?;
            }
            End::Expired { silent: _ } => {
                let heard = self.heard.get(&incarnation).copied().unwrap_or(self.began);
                let silent = now.since(heard);
                hold(silent >= self.lease_time, "I16", || {
                    format!("lease {lease} expired {silent:?} after its holder was heard")
                })?;
            }
            End::Absent => {
                let trains = self.workers.get(&incarnation).is_some_and(|one| one.training.contains(&lease));
                // Who is to forget what a lost life of the store has granted forgets the rest with it.
                hold(!trains || self.was_brought_back, "I3", || {
                    format!("lease {lease} ended as absent, and its holder trains it")
                })?;
            }
            End::Cancelled => {
                let mut active = self.books.values().filter(|book| book.course != Course::Cancelled);
                // Answers of a batch are in before the ends that they bring about.
                let wanted = active.any(|book| book.lacks(&key, &self.runs));
                let is_spare = self.runs.get(&key).is_some_and(|run| run.given_up && run.copy == Some(lease));
                hold(!wanted || is_spare, "I4", || {
                    format!("lease {lease} ended as unwanted, and its run is wanted")
                })?;
            }
        }
        milestones.iter().try_for_each(|milestone| {
            self.said(lease, "an answer", |report| {
                matches!(report, Report::LeaseEnded { milestones, .. } if milestones.contains(milestone))
            })?;
            self.add_milestone(lease, milestone)
        })?;
        if let End::Reported(LeaseEnd::Diverged { at }) = *end
            && self.known(&key)?.diverged.is_none()
        {
            self.add_divergence(lease, at)?;
        }
        if !milestones.is_empty() || matches!(end, End::Reported(LeaseEnd::Diverged { .. })) {
            self.on_conduct(incarnation, None);
        }
        match end {
            End::Reported(LeaseEnd::HandedBack) => self.tally.handed_back += 1,
            End::Reported(LeaseEnd::Failed { .. }) => {
                self.tally.failures += 1;
                self.on_conduct(incarnation, Some(key));
            }
            End::Expired { .. } => self.tally.expired += 1,
            End::Absent => self.tally.absent += 1,
            End::Reported(LeaseEnd::Finished | LeaseEnd::Diverged { .. }) | End::Cancelled => (),
        }
        self.granted(lease)?.in_force = false;
        let fruitful = self.granted(lease)?.fruitful;
        let lacked = self.books.values().any(|book| book.lacks(&key, &self.runs));
        let max_attempts = self.max_attempts;
        let known = self.known(&key)?;
        if known.copy == Some(lease) {
            // It moves nothing but by its answers.
            known.copy = None;
            self.pause_what_stopped(&key);
            return Ok(());
        }
        hold(known.lease == Some(lease), "I3", || {
            format!("lease {lease} ended, {:?} is in force", known.lease)
        })?;
        known.lease = None;
        match end {
            End::Reported(LeaseEnd::Failed { .. }) => known.failures += 1,
            End::Expired { .. } => known.losses += 1,
            End::Reported(LeaseEnd::Finished | LeaseEnd::Diverged { .. }) if !fruitful && lacked => {
                known.losses += 1;
            }
            End::Reported(LeaseEnd::Finished | LeaseEnd::Diverged { .. } | LeaseEnd::HandedBack)
            | End::Absent
            | End::Cancelled => (),
        }
        let gives_up = known.failures >= max_attempts || known.losses >= LOSSES_MAX;
        known.given_up |= gives_up;
        let failures = known.failures;
        if lacked && !known.given_up {
            known.lease = known.copy.take();
        }
        let is_in_place = known.lease.is_some();
        self.tally.copies_in_place += u64::from(is_in_place);
        self.tally.given_up += u64::from(gives_up);
        self.pause_what_stopped(&key);
        hold(failures <= max_attempts, "I8", || format!("run of lease {lease} failed {failures} times"))
    }

    /// The last lease on a run of a stopping sweep may have ended: then the sweep is paused.
    fn pause_what_stopped(&mut self, ended: &RunKey) {
        let has_stopped = |book: &Book| {
            book.course == Course::Stopping
                && book.runs.iter().any(|run| run.key == *ended)
                && self.counts(book).of(RunState::Running) == 0
        };
        let stopped: Vec<SweepName> =
            self.books.iter().filter(|(_, book)| has_stopped(book)).map(|(name, _)| name.clone()).collect();
        self.tally.stopped += stopped.len() as u64;
        for name in stopped {
            self.books.get_mut(&name).expect("its name was just read").take(Course::Paused);
        }
    }

    fn on_checkpoint_kept(&mut self, lease: LeaseId, checkpoint: &CheckpointName) -> Checked {
        let Granted { run, incarnation, in_force, .. } = self.granted(lease)?.clone();
        hold(in_force, "I4", || format!("a checkpoint of lease {lease} was kept after its end"))?;
        let said =
            self.workers.get(&incarnation).is_some_and(|one| one.stored.contains(&(lease, checkpoint.step)));
        hold(said && self.uploaded.contains(&checkpoint.blob), "I10", || {
            format!("a checkpoint of lease {lease} is kept that its holder never uploaded")
        })?;
        let known = self.known(&run)?;
        known.losses = 0;
        known.checkpoints.push(*checkpoint);
        if known.checkpoints.len() > CHECKPOINTS_MAX {
            known.checkpoints.remove(0);
        }
        Ok(())
    }

    /// Two answers to one step: none but a worker that measures other bits brings that about.
    fn on_conflict(
        &mut self,
        (kept_lease, kept): (LeaseId, &Answer),
        (refused_lease, refused): (LeaseId, &Answer),
    ) -> Checked {
        let (one, other) = (self.granted(kept_lease)?.clone(), self.granted(refused_lease)?.clone());
        let is_liars = [&one, &other].iter().any(|granted| self.liars.contains(&granted.incarnation));
        hold(is_liars, "I9", || {
            format!("leases {kept_lease} and {refused_lease} gave one answer with two values")
        })?;
        let (Answer::Milestone(kept), Answer::Milestone(refused)) = (kept, refused) else {
            let found = format!("leases {kept_lease} and {refused_lease} differ on a divergence");
            return Err(Violation { invariant: "I9", found });
        };
        self.said(refused_lease, "a refused answer", |report| match report {
            Report::Milestone(said) => said == refused,
            Report::LeaseEnded { milestones, how: _ } => milestones.contains(refused),
        })?;
        self.tally.conflicts += 1;
        let is_new = self.refused.insert((refused_lease, refused.step));
        hold(is_new, "I5", || {
            format!("that lease {refused_lease} contradicts step {} is on record twice", refused.step)
        })?;
        let stays = self.known(&one.run)?.answers.get(&kept.step) == Some(&kept.measured);
        hold(stays && one.run == other.run, "I5", || {
            format!("the answer of lease {kept_lease} at step {} is not what is kept", kept.step)
        })
    }

    fn add_milestone(&mut self, lease: LeaseId, milestone: &Milestone) -> Checked {
        self.tally.stale_answers += u64::from(!self.granted(lease)?.in_force);
        self.granted(lease)?.fruitful = true;
        self.on_conduct(self.leases[lease.number() as usize - 1].incarnation, None);
        let (key, step) = (self.granted(lease)?.run, milestone.step);
        let run = self.known(&key)?.run;
        let truth = self.truth(&run, step);
        let holder = self.granted(lease)?.incarnation;
        let is_liars = self.liars.contains(&holder);
        hold(is_liars || milestone.measured == truth, "I9", || {
            format!(
                "lease {lease} answered step {step} with {:?}, the truth is {truth:?}",
                milestone.measured
            )
        })?;
        let known = self.known(&key)?;
        known.losses = 0;
        let earlier = known.answers.insert(step, milestone.measured);
        hold(earlier.is_none(), "I1", || {
            format!("step {step} of the run of lease {lease} was recorded twice")
        })
    }

    fn add_divergence(&mut self, lease: LeaseId, at: Step) -> Checked {
        self.granted(lease)?.fruitful = true;
        self.on_conduct(self.leases[lease.number() as usize - 1].incarnation, None);
        let key = self.granted(lease)?.run;
        let run = self.known(&key)?.run;
        let truth = self.truth(&run, Step::new(at.number() + 1));
        hold(truth == Measured::Diverged, "I9", || {
            format!("lease {lease} says that its run diverged at step {at}")
        })?;
        let known = self.known(&key)?;
        known.losses = 0;
        let earlier = known.diverged.replace(at);
        hold(earlier.is_none(), "I1", || {
            format!("the divergence of the run of lease {lease} was recorded twice")
        })
    }
}
