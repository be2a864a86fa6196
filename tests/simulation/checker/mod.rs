//! The invariants of `RELIABILITY.md`, held against what is seen from outside: what was committed, what left the coordinator, what
//! workers said and trained, what people asked. It keeps books of its own and shares no rule with the scheduler but a sweep's formula.

mod believed;
mod durable;
mod seen;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slalom_common::answer::{Counts, RunState};
use slalom_common::id::{
    ContentHash, Incarnation, LeaseId, MessageNumber, RunKey, Step, SweepName, WorkerName,
};
use slalom_common::message::{CheckpointName, Report};
use slalom_common::moment::Moment;
use slalom_common::outcome::Measured;
use slalom_common::run::Run;
use slalom_common::sweep::Sweep;
use slalom_coordinator::scheduler::ledger::sweep::Course;

use crate::people::Ask;
use crate::tally::Tally;
use crate::trainer::truth;

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

/// What the books come to.
impl Checker {
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
