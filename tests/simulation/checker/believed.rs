//! What the coordinator believes once all that it knows is durable, and what it tells.

use std::collections::BTreeSet;

use slalom_common::answer::RunState;
use slalom_common::outcome::Measured;
use slalom_coordinator::scheduler::ledger::sweep::Course;
use slalom_coordinator::scheduler::{Scheduler, invariants};

use super::{Book, Checked, Checker, Violation, hold};

/// Wanted steps of all sweeps together, beyond which not every state is looked at.
const LARGE: usize = 400;

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
}
