//! The invariants of `RELIABILITY.md`, held against what is seen from outside: what was committed, what left the coordinator, what
//! workers said and trained, what people asked. It keeps books of its own and shares no rule with the scheduler but a sweep's formula.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slalom_common::answer::{Counts, RunState};
use slalom_common::grid::Coordinates;
use slalom_common::id::{
    ContentHash, Incarnation, LeaseId, MessageNumber, RunKey, RunNumber, Step, SweepName, WorkerName,
};
use slalom_common::message::{CheckpointName, CoordinatorMessage, Lease, LeaseEnd, LeaseKind, Report};
use slalom_common::moment::Moment;
use slalom_common::outcome::{Measured, Milestone};
use slalom_common::run::Run;
use slalom_common::sweep::Sweep;
use slalom_common::trials;
use slalom_coordinator::scheduler::effect::Reply;
use slalom_coordinator::scheduler::event::Steering;
use slalom_coordinator::scheduler::ledger::sweep::Course;
use slalom_coordinator::scheduler::record::{Answer, End, Grant, Record};
use slalom_coordinator::scheduler::{Scheduler, invariants};
use slalom_worker::agent::session::WINDOW;

use crate::people::Ask;
use crate::tally::Tally;
use crate::trainer::truth;

/// Lost workers in a row, and fruitless leases, that fail a run (I8).
const LOSSES_MAX: u32 = 20;

/// Runs that fail on a worker in a row and pause it.
const FAILED_IN_A_ROW: usize = 3;

/// Checkpoints of a run that are kept.
const CHECKPOINTS_MAX: usize = 2;

/// Wanted steps of all sweeps together, beyond which not every state is looked at.
const LARGE: usize = 400;

/// A broken promise.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{invariant}: {found}")]
pub(crate) struct Violation {
    /// As `RELIABILITY.md` numbers it.
    pub(crate) invariant: &'static str,
    pub(crate) found: String,
}

pub(crate) type Checked = Result<(), Violation>;

pub(crate) fn hold(is_held: bool, invariant: &'static str, found: impl FnOnce() -> String) -> Checked {
    if is_held { Ok(()) } else { Err(Violation { invariant, found: found() }) }
}

/// What the world is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conditions {
    /// Something goes wrong, or has a moment ago.
    Unsettled,
    /// Nothing does, and nobody is away any more.
    Settled,
}

#[derive(Clone, Debug)]
struct Granted {
    run: RunKey,
    incarnation: Incarnation,
    in_force: bool,
    /// Whether an answer was recorded under it.
    fruitful: bool,
}

#[derive(Clone, Debug)]
struct Known {
    run: Run,
    answers: BTreeMap<Step, Measured>,
    diverged: Option<Step>,
    lease: Option<LeaseId>,
    /// Beside that, on another worker.
    copy: Option<LeaseId>,
    failures: u32,
    losses: u32,
    given_up: bool,
    checkpoints: Vec<CheckpointName>,
}

impl Known {
    fn answer(&self, step: Step) -> Option<Measured> {
        let diverged = self.diverged.is_some_and(|at| at < step);
        self.answers.get(&step).copied().or(diverged.then_some(Measured::Diverged))
    }
}

#[derive(Clone, Debug)]
struct Planned {
    key: RunKey,
    wanted: Vec<Step>,
    trials: Vec<Step>,
}

#[derive(Clone, Debug)]
struct Book {
    sweep: Sweep,
    course: Course,
    /// Every course that it was on since the commit before the last, and whether it was done on the way: what an answer that leaves
    /// after the last commit may speak of.
    lately: Vec<Course>,
    was_done: bool,
    runs: Vec<Planned>,
}

/// One process of a worker, by what it did.
#[derive(Clone, Debug, Default)]
struct Doings {
    reports: BTreeMap<MessageNumber, (LeaseId, RunKey, Report)>,
    by_lease: BTreeMap<LeaseId, Vec<MessageNumber>>,
    acknowledged: u64,
    started: BTreeSet<LeaseId>,
    training: BTreeSet<LeaseId>,
    stored: BTreeSet<(LeaseId, Step)>,
    /// It was sent the word that it is to drain.
    told_to_drain: bool,
    /// Reports that it forgot have had their numbers: the next may leave some out.
    forgot: bool,
}

impl Doings {
    /// The number of its newest report; 0 before the first.
    fn last_report(&self) -> u64 {
        self.reports.last_key_value().map_or(0, |(last, _)| last.number())
    }

    fn has_reported(&self, wanted: LeaseId, is_it: impl Fn(&Report) -> bool) -> bool {
        let numbers = self.by_lease.get(&wanted).into_iter().flatten();
        // The newest first: it is nearly always the one.
        numbers.rev().any(|number| self.reports.get(number).is_some_and(|(_, _, report)| is_it(report)))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Checker {
    pub(crate) tally: Tally,
    lease_time: Duration,
    max_attempts: u32,
    /// By number, from 1.
    leases: Vec<Granted>,
    runs: BTreeMap<RunKey, Known>,
    books: BTreeMap<SweepName, Book>,
    workers: BTreeMap<Incarnation, Doings>,
    /// When the present coordinator last heard of each, or began.
    heard: BTreeMap<Incarnation, Moment>,
    began: Moment,
    asked: Vec<Ask>,
    /// Every process, by the worker's name.
    names: BTreeMap<Incarnation, WorkerName>,
    /// Processes that a person has drained.
    drained: BTreeSet<Incarnation>,
    /// Of each worker, the runs that failed on it since it last answered anything.
    failed_in_a_row: BTreeMap<WorkerName, BTreeSet<RunKey>>,
    /// Workers that get nothing until a person resumes them.
    paused: BTreeSet<WorkerName>,
    /// Of them, those that became so in the last commit: an answer that was decided before may leave after it.
    paused_lately: BTreeSet<WorkerName>,
    /// Workers of which a person was told that they drain.
    said_to_drain: BTreeSet<WorkerName>,
    /// Bytes that the coordinator once had.
    uploaded: BTreeSet<ContentHash>,
    truths: BTreeMap<(RunKey, Step), Measured>,
    /// Incarnations of the worker that is known to measure other bits.
    liars: BTreeSet<Incarnation>,
    /// Those of them whose known run shows it.
    unsound: BTreeSet<Incarnation>,
    /// Answers that were refused as contradicting what is kept.
    refused: BTreeSet<(LeaseId, Step)>,
    committed: usize,
    states_seen: u64,
    /// Whether the store was ever brought back from a backup: leases that it has lost are unknown, and granted to others.
    was_brought_back: bool,
}

impl Checker {
    pub(crate) fn new(lease_time: Duration, max_attempts: u32) -> Self {
        Self { lease_time, max_attempts, ..Self::default() }
    }
}

/// What is seen of processes and people.
impl Checker {
    pub(crate) fn on_coordinator_began(&mut self, now: Moment) {
        self.began = now;
        self.heard.clear();
        self.begin_commit();
    }

    /// What a coordinator finds when it starts.
    pub(crate) fn on_loaded(&self, records: &[Record]) -> Checked {
        let (committed, found) = (self.committed, records.len());
        hold(found == committed, "I2", || format!("{committed} records were committed, {found} are there"))
    }

    /// The store is what it was when `backup` was made.
    pub(crate) fn on_brought_back(&mut self, backup: Self) {
        let Self { leases, runs, books, refused, committed, drained, said_to_drain, .. } = backup;
        (self.failed_in_a_row, self.paused) = (backup.failed_in_a_row, backup.paused);
        (self.leases, self.runs, self.books) = (leases, runs, books);
        (self.refused, self.committed) = (refused, committed);
        (self.drained, self.said_to_drain) = (drained, said_to_drain);
        for doings in self.workers.values_mut() {
            doings.told_to_drain = false;
        }
        self.was_brought_back = true;
    }

    /// A session lets go of what it held: the store numbers its leases from an earlier one again.
    pub(crate) fn on_forgets(&mut self, incarnation: Incarnation) {
        self.tally.forgotten += 1;
        let doings = self.workers.entry(incarnation).or_default();
        doings.started.clear();
        doings.training.clear();
        doings.by_lease.clear();
        doings.acknowledged = doings.last_report();
        doings.forgot = true;
    }

    pub(crate) fn on_worker_began(&mut self, incarnation: Incarnation, name: WorkerName) {
        self.names.insert(incarnation, name);
    }

    pub(crate) fn on_liar(&mut self, incarnation: Incarnation) {
        self.liars.insert(incarnation);
    }

    pub(crate) fn on_unsound(&mut self, incarnation: Incarnation) {
        self.unsound.insert(incarnation);
    }

    /// The coordinator was handed something that this incarnation said, or its hello.
    pub(crate) fn on_heard(&mut self, now: Moment, incarnation: Incarnation) {
        self.heard.insert(incarnation, now);
    }

    pub(crate) fn on_asked(&mut self, ask: Ask) {
        self.asked.push(ask);
    }

    pub(crate) fn on_uploaded(&mut self, blob: ContentHash) {
        self.uploaded.insert(blob);
    }

    pub(crate) fn on_worker_gone(&mut self, incarnation: Incarnation) {
        self.workers.entry(incarnation).or_default().training.clear();
    }

    /// A worker's session sends a report, perhaps again.
    pub(crate) fn on_reported(
        &mut self,
        incarnation: Incarnation,
        number: MessageNumber,
        (lease, run): (LeaseId, RunKey),
        report: &Report,
    ) -> Checked {
        let doings = self.workers.entry(incarnation).or_default();
        let mut next = doings.last_report() + 1;
        if let Some(earlier) = doings.reports.get(&number) {
            return hold(*earlier == (lease, run, report.clone()), "I5", || {
                format!("report {number} of {incarnation} was sent again with other content")
            });
        }
        if std::mem::take(&mut doings.forgot) && number.number() > next {
            next = number.number();
            doings.acknowledged = next - 1;
        }
        hold(number.number() == next, "I5", || format!("report {number} of {incarnation} came, not {next}"))?;
        doings.reports.insert(number, (lease, run, report.clone()));
        doings.by_lease.entry(lease).or_default().push(number);
        let under_way = number.number() - doings.acknowledged.min(number.number());
        self.tally.unacknowledged_max = self.tally.unacknowledged_max.max(under_way);
        hold(under_way <= WINDOW as u64, "I13", || {
            format!("{under_way} reports of {incarnation} are under way")
        })
    }

    /// A slot begins to train a lease, from `step`.
    pub(crate) fn on_started(&mut self, incarnation: Incarnation, lease: &Lease) -> Checked {
        let doings = self.workers.entry(incarnation).or_default();
        let last = doings.started.last().copied();
        hold(last < Some(lease.id), "I5", || format!("lease {} started after lease {last:?}", lease.id))?;
        doings.started.insert(lease.id);
        doings.training.insert(lease.id);
        Ok(())
    }

    /// Where a slot goes on. `is_whole`: whether the bytes that it goes on from are those that were uploaded.
    pub(crate) fn on_resumed(&mut self, lease: &Lease, from: Step, is_whole: bool) -> Checked {
        hold(is_whole, "I10", || {
            format!("lease {} goes on from a torn checkpoint of step {from}", lease.id)
        })?;
        self.tally.resumed += 1;
        self.tally.resumed_before += u64::from(lease.resume.is_some_and(|newest| from < newest.step));
        let lost = |step: &&Step| {
            **step < from && self.runs.get(&lease.run.key()).is_none_or(|run| run.answer(**step).is_none())
        };
        match lease.wanted.iter().find(lost) {
            None => Ok(()),
            Some(hole) => {
                let found = format!("lease {} goes on from step {from}, step {hole} has no answer", lease.id);
                Err(Violation { invariant: "I10", found })
            }
        }
    }

    pub(crate) fn on_slot_free(&mut self, incarnation: Incarnation, lease: LeaseId) {
        self.workers.entry(incarnation).or_default().training.remove(&lease);
    }

    pub(crate) fn on_checkpoint_said(&mut self, incarnation: Incarnation, lease: LeaseId, step: Step) {
        self.workers.entry(incarnation).or_default().stored.insert((lease, step));
    }
}

/// What is durable.
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

    fn begin_commit(&mut self) {
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

/// What leaves the coordinator.
impl Checker {
    pub(crate) fn on_sent_down(&mut self, incarnation: Incarnation, message: &CoordinatorMessage) -> Checked {
        match message {
            CoordinatorMessage::Welcome(welcome) => match welcome.acknowledged {
                Some(number) => self.on_acknowledged(incarnation, number),
                None => Ok(()),
            },
            CoordinatorMessage::Acknowledged(number) => self.on_acknowledged(incarnation, *number),
            CoordinatorMessage::Grants(leases) => {
                leases.iter().try_for_each(|lease| self.on_grant_sent(incarnation, lease))
            }
            CoordinatorMessage::Cancelled(leases) => leases.iter().try_for_each(|&lease| {
                let granted = lease.number().checked_sub(1).and_then(|index| self.leases.get(index as usize));
                let is_theirs = granted.is_some_and(|granted| granted.incarnation == incarnation);
                hold(is_theirs || self.was_brought_back, "I4", || {
                    format!("lease {lease} is taken back from whom it was never granted to")
                })?;
                let in_force = granted.is_some_and(|granted| granted.in_force);
                hold(!(is_theirs && in_force), "I2", || {
                    format!("lease {lease} was taken back before that was durable")
                })
            }),
            CoordinatorMessage::Drain => {
                self.workers.entry(incarnation).or_default().told_to_drain = true;
                hold(self.drained.contains(&incarnation), "I2", || {
                    format!("{incarnation} was told to drain before that was durable")
                })
            }
        }
    }

    fn on_grant_sent(&mut self, incarnation: Incarnation, lease: &Lease) -> Checked {
        let id = lease.id;
        let granted = id.number().checked_sub(1).and_then(|index| self.leases.get(index as usize));
        let is_theirs = granted
            .is_some_and(|granted| granted.incarnation == incarnation && granted.run == lease.run.key());
        hold(is_theirs, "I2", || format!("lease {id} was granted before that was durable"))?;
        let leaves = self.workers.get(&incarnation).is_some_and(|one| one.told_to_drain);
        hold(!leaves, "steering", || {
            format!("lease {id} was sent to {incarnation}, which was told to drain")
        })?;
        let key = lease.run.key();
        let mut active = self.books.values().filter(|book| book.lately.contains(&Course::Active));
        let unasked = lease.wanted.iter().find(|step| !active.clone().any(|book| book.wants(&key, **step)));
        hold(unasked.is_none() && active.next().is_some(), "steering", || {
            format!("lease {id} names step {unasked:?}, which no sweep wants that is active")
        })?;
        let steps = [lease.resume, lease.resume_before].map(|one| one.map(|one| one.step));
        hold(steps[0] >= steps[1], "I10", || {
            format!("lease {id} goes on from {steps:?}: the newest comes first")
        })?;
        let Some(resume) = lease.resume else { return Ok(()) };
        hold(lease.wanted.first() >= Some(&resume.step), "I10", || {
            format!(
                "lease {id} goes on from step {}, its first wanted is {:?}",
                resume.step,
                lease.wanted.first()
            )
        })
    }

    fn on_acknowledged(&mut self, incarnation: Incarnation, number: MessageNumber) -> Checked {
        let doings = self.workers.entry(incarnation).or_default();
        let first = doings.acknowledged + 1;
        doings.acknowledged = doings.acknowledged.max(number.number());
        for number in (first..=number.number()).map(MessageNumber::new) {
            let Some((lease, run, report)) = doings.reports.get(&number) else {
                let found = format!("report {number} of {incarnation} was acknowledged and never made");
                return Err(Violation { invariant: "I2", found });
            };
            let granted = lease.number().checked_sub(1).and_then(|index| self.leases.get(index as usize));
            let is_theirs = granted.is_some_and(|one| one.incarnation == incarnation && one.run == *run);
            if self.was_brought_back && !is_theirs {
                // Refused, and acknowledged so that it does not come for ever.
                continue;
            }
            // As it was reported, or beside the record that it contradicts what is kept (I5).
            let is_answered = |milestone: &Milestone| {
                let known = granted.and_then(|granted| self.runs.get(&granted.run));
                known.is_some_and(|known| known.answer(milestone.step) == Some(milestone.measured))
                    || self.refused.contains(&(*lease, milestone.step))
                    // The extension that asked for it is lost with the life of the store that it was in.
                    || self.was_brought_back && !self.books.values().any(|book| book.wants(run, milestone.step))
            };
            let is_durable = match report {
                Report::Milestone(milestone) => is_answered(milestone),
                Report::LeaseEnded { milestones, how: _ } => {
                    granted.is_some_and(|granted| !granted.in_force) && milestones.iter().all(is_answered)
                }
            };
            hold(is_durable, "I2", || {
                format!("report {number} of {incarnation} was acknowledged before it was durable: {report:?}")
            })?;
        }
        Ok(())
    }

    pub(crate) fn on_replied(&mut self, ask: &Ask, reply: &Reply) -> Checked {
        let is_durable = match (ask, reply) {
            (Ask::Submit(sweep), Reply::Submitted { sweep: name, .. }) => {
                self.books.get(name).is_some_and(|book| book.sweep.is_meant_by(sweep))
            }
            (Ask::Submit(sweep), Reply::NameTaken { existing }) => {
                let book = self.books.get(sweep.name());
                book.is_some_and(|book| {
                    let (now, then) = (&book.sweep.draft().blocks, &existing.draft().blocks);
                    now.starts_with(then) && existing.asks_alike(&book.sweep) && !existing.is_meant_by(sweep)
                })
            }
            (Ask::Extend(given), Reply::Extended { sweep: name }) => {
                self.books.get(name).is_some_and(|book| given.name() == name && book.sweep.contains(given))
            }
            (Ask::Extend(given), Reply::IsCancelled { sweep: name }) => {
                given.name() == name && self.was_on(name, &[Course::Cancelled])
            }
            // It was submitted, or extended otherwise, between: whoever asked asks again.
            (Ask::Extend(given), Reply::Outdated) => self.books.contains_key(given.name()),
            (Ask::Extend(given), Reply::NoSuchSweep { known }) => !known.contains(given.name()),
            (Ask::Cancel(name), Reply::Cancelled { sweep }) => {
                name == sweep && self.was_on(name, &[Course::Cancelled])
            }
            (Ask::Steer(name, steering), Reply::Steered { sweep }) => {
                let courses: &[Course] = match steering {
                    Steering::Pause => &[Course::Paused, Course::Cancelled],
                    Steering::Stop => &[Course::Stopping, Course::Paused, Course::Cancelled],
                    Steering::Resume => &[Course::Active, Course::Cancelled],
                };
                name == sweep && self.was_on(name, courses)
            }
            (Ask::Drain(name), Reply::Draining { worker }) => {
                self.said_to_drain.insert(name.clone());
                let mut drained = self.drained.iter().filter_map(|one| self.names.get(one));
                name == worker && drained.any(|drained| drained == name)
            }
            (Ask::ResumeWorker(name), Reply::WorkerResumed { worker }) => {
                name == worker && (!self.paused.contains(name) || self.paused_lately.contains(name))
            }
            (Ask::ResumeWorker(name), Reply::NoSuchWorker { known }) => {
                !known.contains(name) && !self.paused.contains(name)
            }
            (Ask::Drain(name), Reply::NoSuchWorker { known }) => {
                // Whoever asks again hears the same (I5).
                !known.contains(name) && !self.said_to_drain.contains(name)
            }
            (Ask::Cancel(name) | Ask::Retry(name) | Ask::Steer(name, _), Reply::NoSuchSweep { known }) => {
                !known.contains(name)
            }
            (Ask::Retry(name), Reply::Retried { .. }) => self.books.contains_key(name),
            (
                Ask::Submit(_)
                | Ask::Extend(_)
                | Ask::Cancel(_)
                | Ask::Retry(_)
                | Ask::Steer(..)
                | Ask::Drain(_)
                | Ask::ResumeWorker(_),
                Reply::Submitted { .. }
                | Reply::Extended { .. }
                | Reply::Outdated
                | Reply::IsCancelled { .. }
                | Reply::NameTaken { .. }
                | Reply::OtherNumerics { .. }
                | Reply::TakesNoOther { .. }
                | Reply::Cancelled { .. }
                | Reply::Steered { .. }
                | Reply::Draining { .. }
                | Reply::WorkerResumed { .. }
                | Reply::KeepsItsWorker { .. }
                | Reply::NoSuchWorker { .. }
                | Reply::Retried { .. }
                | Reply::NoSuchSweep { .. },
            ) => false,
        };
        hold(is_durable, "I2", || format!("{ask} was answered {reply:?}"))
    }

    /// Whether the sweep was on one of these courses, or done, when an answer that leaves now was decided. Later calls may have
    /// put it on another by now, in the same commit.
    fn was_on(&self, name: &SweepName, courses: &[Course]) -> bool {
        self.books.get(name).is_some_and(|book| {
            let mut lately = book.lately.iter();
            lately.any(|course| courses.contains(course)) || book.was_done || self.is_done(book)
        })
    }
}

/// What the coordinator believes once all that it knows is durable, and what it tells.
impl Checker {
    pub(crate) fn on_state(&mut self, scheduler: &Scheduler) -> Checked {
        self.states_seen += 1;
        let wanted = |book: &Book| book.runs.iter().map(|run| run.wanted.len()).sum::<usize>();
        // To look at thousands of steps after each of thousands of reports shows no more than to look now and then.
        let is_large = self.books.values().map(wanted).sum::<usize>() > LARGE;
        if is_large && !self.states_seen.is_multiple_of(16) {
            return Ok(());
        }
        invariants::check(scheduler)
            .map_err(|broken| Violation { invariant: "state", found: broken.to_string() })?;
        let ledger = scheduler.ledger();
        hold(ledger.sweeps().count() == self.books.len(), "I7", || {
            "a sweep is known that is not durable".to_owned()
        })?;
        for (_, entry) in ledger.sweeps() {
            let name = entry.sweep.name();
            let Some(book) = self.books.get(name) else {
                return Err(Violation { invariant: "I7", found: format!("{name} is known and not durable") });
            };
            hold(entry.sweep.draft().blocks == book.sweep.draft().blocks, "I2", || {
                format!("{name} is believed to be extended otherwise than is durable")
            })?;
            hold(entry.course == book.course, "I2", || {
                format!("{name} is believed {:?}, it is durable as {:?}", entry.course, book.course)
            })?;
            let (believed, true_counts) = (entry.counts, self.counts(book));
            hold(believed == true_counts, "I6", || {
                format!("{name} counts {believed:?}, there are {true_counts:?}")
            })?;
            let trials = book.runs.iter().flat_map(|run| {
                let known = self.runs.get(&run.key);
                run.trials.iter().filter_map(move |&step| known?.answer(step))
            });
            let (mut done, mut diverged) = (0, 0);
            for trial in trials {
                match trial {
                    Measured::Perplexity(_) => done += 1,
                    Measured::Diverged => diverged += 1,
                }
            }
            hold((entry.trials_done, entry.trials_diverged) == (done, diverged), "I1", || {
                format!("{name} counts {} trials as done, {done} are", entry.trials_done)
            })?;
        }
        let undrained = self.drained.iter().find(|one| !ledger.is_drained(**one));
        hold(undrained.is_none(), "I2", || {
            format!("{undrained:?} is not believed drained, and that is durable")
        })?;
        for (_, run) in ledger.runs() {
            let key = run.run.key();
            let Some(known) = self.runs.get(&key) else {
                return Err(Violation {
                    invariant: "I2",
                    found: format!("run {key} is known and not durable"),
                });
            };
            let same_answers = run.answers.len() == known.answers.len()
                && run.answers.iter().all(|(step, kept)| known.answers.get(step) == Some(&kept.measured));
            hold(
                same_answers
                    && (run.lease, run.copy) == (known.lease, known.copy)
                    && run.checkpoints == known.checkpoints
                    && (run.failures, run.losses) == (known.failures, known.losses),
                "I2",
                || format!("run {key} is believed otherwise than it is durable: {run:?}, {known:?}"),
            )?;
        }
        Ok(())
    }

    /// The tables of every sweep, against the truth: nothing wrong in any, and nothing missing where a run is over.
    pub(crate) fn on_tables(&mut self, scheduler: &Scheduler) -> Checked {
        let ledger = scheduler.ledger();
        for (index, entry) in ledger.sweeps() {
            let sweep = &entry.sweep;
            let mut seen = BTreeSet::new();
            for (number, at) in sweep.run_numbers() {
                for epochs in sweep.epochs_of(&at) {
                    let row = scheduler.trial_row(index, at, epochs).ok_or_else(|| Violation {
                        invariant: "I1",
                        found: format!("{}/{number} has no row for {epochs} epochs", sweep.name()),
                    })?;
                    hold(seen.insert((row.run, row.epochs)), "I1", || {
                        format!("{}/{number} twice", sweep.name())
                    })?;
                    let truth = if self.liars.is_empty() {
                        self.truth(&sweep.run(at), row.steps)
                    } else {
                        let known = self.runs.get(&sweep.run(at).key());
                        known.and_then(|known| known.answer(row.steps)).unwrap_or(Measured::Diverged)
                    };
                    let is_true = match (row.state, row.perplexity, truth) {
                        (RunState::Done, Some(found), Measured::Perplexity(truth)) => found == truth,
                        (RunState::Diverged, None, Measured::Diverged) => true,
                        (RunState::Failed, None, _) => {
                            self.runs.get(&sweep.run(at).key()).is_some_and(|known| known.given_up)
                        }
                        (RunState::Cancelled, None, _) => {
                            let book = self.books.get(sweep.name());
                            book.is_some_and(|book| book.course == Course::Cancelled)
                        }
                        (RunState::Waiting | RunState::Running, None, _) => !entry.is_done(),
                        _ => false,
                    };
                    hold(is_true, "I11", || format!("{}: {row:?}, the truth is {truth:?}", sweep.name()))?;
                }
            }
        }
        Ok(())
    }

    /// Whether nothing more is to come: every sweep is cancelled or answered, or given up.
    pub(crate) fn is_over(&self) -> bool {
        self.books.values().all(|book| self.is_done(book) || book.course == Course::Cancelled)
    }

    /// The sweeps that are not over and go on only if somebody resumes them.
    pub(crate) fn held_up(&self) -> Vec<SweepName> {
        let waits =
            |book: &Book| matches!(book.course, Course::Paused | Course::Stopping) && !self.is_done(book);
        self.books.iter().filter(|(_, book)| waits(book)).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn has_drained(&self, incarnation: Incarnation) -> bool {
        self.drained.contains(&incarnation)
    }

    pub(crate) fn has(&self, sweep: &SweepName) -> bool {
        self.books.contains_key(sweep)
    }

    pub(crate) fn leases_in_force(&self) -> Vec<LeaseId> {
        let numbered = (1..).map(LeaseId::new).zip(&self.leases);
        numbered.filter(|(_, granted)| granted.in_force).map(|(id, _)| id).collect()
    }

    /// How every sweep stands, for a history.
    pub(crate) fn standing(&self) -> String {
        let told =
            |(name, book): (&SweepName, &Book)| format!("{name} {:?} {:?}", book.course, self.counts(book));
        let sweeps = self.books.iter().map(told);
        sweeps.collect::<Vec<String>>().join(", ")
    }

    fn done(&self) -> impl Iterator<Item = &SweepName> {
        self.books.iter().filter(|(_, book)| self.is_done(book)).map(|(name, _)| name)
    }

    fn is_done(&self, book: &Book) -> bool {
        let counts = self.counts(book);
        book.course != Course::Cancelled && counts.of(RunState::Waiting) + counts.of(RunState::Running) == 0
    }

    fn counts(&self, book: &Book) -> Counts {
        let mut counts = Counts::default();
        for run in &book.runs {
            counts.add(self.state(book, run), 1);
        }
        counts
    }

    fn state(&self, book: &Book, run: &Planned) -> RunState {
        let known = self.runs.get(&run.key);
        let answer = |step: &Step| known.and_then(|known| known.answer(*step));
        // The last first: a run that lacks any nearly always lacks that.
        if run.wanted.iter().rev().all(|step| answer(step).is_some()) {
            let diverged = run.trials.iter().any(|step| answer(step) == Some(Measured::Diverged));
            return if diverged { RunState::Diverged } else { RunState::Done };
        }
        match known {
            _ if book.course == Course::Cancelled => RunState::Cancelled,
            Some(known) if known.given_up => RunState::Failed,
            Some(known) if known.lease.is_some() => RunState::Running,
            Some(_) | None => RunState::Waiting,
        }
    }

    fn said(&self, lease: LeaseId, what: &str, is_it: impl Fn(&Report) -> bool) -> Checked {
        let granted = lease.number().checked_sub(1).and_then(|index| self.leases.get(index as usize));
        let holder = granted.and_then(|granted| self.workers.get(&granted.incarnation));
        hold(holder.is_some_and(|holder| holder.has_reported(lease, is_it)), "I4", || {
            format!("{what} of lease {lease} is recorded, which its holder never reported")
        })
    }

    fn granted(&mut self, lease: LeaseId) -> Result<&mut Granted, Violation> {
        let index = lease.number().wrapping_sub(1) as usize;
        self.leases
            .get_mut(index)
            .ok_or_else(|| Violation { invariant: "I3", found: format!("lease {lease} was never granted") })
    }

    fn known(&mut self, key: &RunKey) -> Result<&mut Known, Violation> {
        self.runs
            .get_mut(key)
            .ok_or_else(|| Violation { invariant: "I3", found: format!("run {key} was never leased") })
    }

    fn book(&mut self, sweep: &SweepName) -> Result<&mut Book, Violation> {
        self.books
            .get_mut(sweep)
            .ok_or_else(|| Violation { invariant: "I7", found: format!("{sweep} was never submitted") })
    }

    fn truth(&mut self, run: &Run, step: Step) -> Measured {
        *self.truths.entry((run.key(), step)).or_insert_with(|| truth(run, step))
    }
}

impl Book {
    fn new(sweep: &Sweep) -> Self {
        let runs = sweep.run_numbers().map(|(_, at)| Planned {
            key: sweep.run(at).key(),
            wanted: sweep.wanted_steps(&at),
            trials: sweep.trial_steps(&at),
        });
        let course = Course::Active;
        Self { runs: runs.collect(), sweep: sweep.clone(), course, lately: vec![course], was_done: false }
    }

    fn take(&mut self, course: Course) {
        self.course = course;
        self.lately.push(course);
    }

    fn wants(&self, key: &RunKey, step: Step) -> bool {
        self.runs.iter().any(|run| run.key == *key && run.wanted.contains(&step))
    }

    /// Whether this run is the sweep's, and some wanted step of it has no answer.
    fn lacks(&self, key: &RunKey, runs: &BTreeMap<RunKey, Known>) -> bool {
        let planned = self.runs.iter().find(|run| run.key == *key);
        let known = runs.get(key);
        planned.is_some_and(|run| {
            run.wanted.iter().rev().any(|&step| known.is_none_or(|known| known.answer(step).is_none()))
        })
    }
}
