//! What people ask, answered from the ledger and the fleet: rows and sums, nothing stored.

use slalom_common::filter::{At, EvalError, Filter};
use slalom_common::grid::Coordinates;
use slalom_common::id::{LeaseId, RunNumber, Step, SweepName, WorkerName};
use slalom_common::moment::Moment;
use slalom_common::outcome::{FailureReason, Measured, Perplexity};
use slalom_common::sweep::Sweep;

use super::Scheduler;
use super::best::Best;
use super::effect::{Eta, Notice};
use super::ledger::{Counts, RunState, SweepIndex};

/// How far an ETA may be off, from below and above: runs of one sweep vary so much around their prediction.
const ETA_SPREAD: (f64, f64) = (0.85, 1.25);

/// Seconds of observed work that outweigh what workers said of their speed.
const ETA_TRUST_SECONDS: f64 = 5.0;

/// A sweep's state. `Paused` and `Stopping` come with the verbs that make them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SweepState {
    /// Its runs are leased.
    Active,
    /// Every run is over.
    Done,
    /// A person ended it.
    Cancelled,
}

/// How a sweep stands.
#[derive(Clone, PartialEq, Debug)]
pub struct SweepStatus {
    /// Its name.
    pub sweep: SweepName,
    /// Its state.
    pub state: SweepState,
    /// Its runs by state.
    pub counts: Counts,
    /// Trials it holds.
    pub trials: u64,
    /// Trials it excludes.
    pub excluded: u64,
    /// Trials answered by a perplexity.
    pub trials_done: u64,
    /// Trials answered by a divergence.
    pub trials_diverged: u64,
    /// Workers with a stream.
    pub workers: u32,
    /// Their slots.
    pub slots: u32,
    /// Its best point.
    pub best: Option<Best>,
    /// Seconds of the reference core that are done, running runs included.
    pub work_done_s: f64,
    /// Of all its runs.
    pub work_s: f64,
    /// Predicted time left.
    pub eta: Option<Eta>,
    /// Numbers its runs take.
    pub numbers: u64,
    /// What its submitter called the corpus.
    pub corpus_written: String,
}

/// A run in its sweep's view.
#[derive(Clone, PartialEq, Debug)]
pub struct RunRow {
    /// Its number.
    pub run: RunNumber,
    /// Its shape and seed.
    pub at: Coordinates,
    /// Its state.
    pub state: RunState,
    /// Its largest wanted step.
    pub steps: Step,
    /// How far it is known to be.
    pub step: Step,
    /// Own failures.
    pub failures: u32,
    /// Workers lost over it.
    pub losses: u32,
    /// Why it last failed.
    pub last_failure: Option<(FailureReason, String)>,
    /// The last lease and who had it.
    pub last_lease: Option<(LeaseId, WorkerName)>,
    /// Where its training diverged.
    pub diverged_at: Option<Step>,
}

/// A trial and its answer.
#[derive(Clone, PartialEq, Debug)]
pub struct TrialRow {
    /// The run that answers it.
    pub run: RunNumber,
    /// Its shape and seed.
    pub at: Coordinates,
    /// Its epochs.
    pub epochs: u64,
    /// In steps.
    pub steps: Step,
    /// `Done` once recorded, `Diverged` if that is its answer, else its run's state.
    pub state: RunState,
    /// Present exactly if done.
    pub perplexity: Option<Perplexity>,
}

impl Scheduler {
    /// How a sweep stands at `now`.
    pub fn status(&self, now: Moment, sweep: SweepIndex) -> SweepStatus {
        let entry = self.ledger.sweep(sweep);
        let state = match (entry.cancelled, entry.is_done()) {
            (true, _) => SweepState::Cancelled,
            (false, true) => SweepState::Done,
            (false, false) => SweepState::Active,
        };
        let (workers, slots) = self.workers_and_slots();
        let size = entry.sweep.size();
        let work_done_s = self.work_done(sweep);
        SweepStatus {
            sweep: entry.sweep.name().clone(),
            state,
            counts: entry.counts,
            trials: size.trials,
            excluded: size.excluded,
            trials_done: entry.trials_done,
            trials_diverged: entry.trials_diverged,
            workers,
            slots,
            best: entry.points.best(),
            work_done_s,
            work_s: entry.work_s,
            eta: self.eta(now, sweep, work_done_s),
            numbers: entry.sweep.numbers(),
            corpus_written: entry.sweep.draft().corpus.written.clone(),
        }
    }

    /// The runs of a sweep in order of number, those in `states` (all if empty) that `filter` matches.
    ///
    /// # Errors
    /// Where the filter has no value.
    pub fn run_rows(
        &self,
        sweep: SweepIndex,
        states: &[RunState],
        filter: Option<&Filter>,
    ) -> Result<Vec<RunRow>, EvalError> {
        let entry = self.ledger.sweep(sweep);
        let mut rows = Vec::new();
        for (number, at) in entry.sweep.run_numbers() {
            let state = self.run_state(sweep, number);
            if !states.is_empty() && !states.contains(&state) {
                continue;
            }
            let place = At {
                nodes: at.shape.nodes.into(),
                batch_size: at.shape.batch_size.into(),
                unrollings: at.shape.unrollings.into(),
                epochs: 0,
                seed: at.seed,
            };
            if let Some(filter) = filter
                && !filter.matches(&place)?
            {
                continue;
            }
            rows.push(self.run_row(sweep, number, at, state));
        }
        Ok(rows)
    }

    /// The trials of a sweep that are not excluded, in order of nodes, `batch_size`, unrollings, epochs, seed.
    pub fn trial_rows(&self, sweep: SweepIndex) -> Vec<TrialRow> {
        let entry = self.ledger.sweep(sweep);
        let mut rows = Vec::with_capacity(entry.sweep.size().trials as usize);
        for (run, at) in entry.sweep.run_numbers() {
            let state = self.run_state(sweep, run);
            let known = entry.run(run).map(|id| self.ledger.run(id));
            let per_epoch = entry.sweep.steps_per_epoch(at.shape);
            for epochs in entry.sweep.epochs_of(&at) {
                let steps = Step::new(epochs * per_epoch);
                let (state, perplexity) = match known.and_then(|known| known.answer(steps)) {
                    Some(Measured::Perplexity(perplexity)) => (RunState::Done, Some(perplexity)),
                    Some(Measured::Diverged) => (RunState::Diverged, None),
                    None => (state, None),
                };
                rows.push(TrialRow { run, at, epochs, steps, state, perplexity });
            }
        }
        rows.sort_by_key(|row| (row.at.shape, row.epochs, row.at.seed));
        rows
    }

    /// How many runs of a sweep that need not be here are answered by what is recorded.
    pub fn known_runs(&self, sweep: &Sweep) -> u64 {
        let family = sweep.family();
        let answered = |known: &&super::ledger::RunEntry| {
            let wanted = sweep.wanted_steps(&known.coordinates());
            !wanted.is_empty() && wanted.into_iter().all(|step| known.answer(step).is_some())
        };
        let of_family =
            self.ledger.runs().map(|(_, known)| known).filter(|known| known.run.family == *family);
        of_family.filter(answered).count() as u64
    }

    /// Workers with a stream, and their slots.
    pub fn workers_and_slots(&self) -> (u32, u32) {
        let there = self.fleet.values().filter(|worker| worker.stream.is_some());
        there.fold((0, 0), |(workers, slots), worker| (workers + 1, slots + worker.slots() as u32))
    }

    /// Summed rate of the slots that are there, relative to the reference core.
    pub fn speed(&self) -> f64 {
        let there = self.fleet.values().filter(|worker| worker.stream.is_some());
        there.fold(0.0, |speed, worker| speed + worker.slots() as f64 * worker.speed())
    }

    pub(super) fn progress_notice(&self, now: Moment, sweep: SweepIndex) -> Notice {
        let SweepStatus { sweep, counts, workers, slots, best, eta, .. } = self.status(now, sweep);
        Notice::Progress { sweep, counts, workers, slots, best: best.map(|best| best.mean), eta }
    }

    fn run_state(&self, sweep: SweepIndex, number: RunNumber) -> RunState {
        let entry = self.ledger.sweep(sweep);
        let untouched = if entry.cancelled { RunState::Cancelled } else { RunState::Waiting };
        entry.run(number).map_or(untouched, |run| {
            let mut views = self.ledger.run(run).views();
            views.find(|(of, _, _)| *of == sweep).map_or(untouched, |(_, _, state)| state)
        })
    }

    fn run_row(&self, sweep: SweepIndex, number: RunNumber, at: Coordinates, state: RunState) -> RunRow {
        let entry = self.ledger.sweep(sweep);
        let steps = entry.sweep.trial_steps(&at).last().copied().unwrap_or(Step::new(0));
        let mut row = RunRow {
            run: number,
            at,
            state,
            steps,
            step: Step::new(0),
            failures: 0,
            losses: 0,
            last_failure: None,
            last_lease: None,
            diverged_at: None,
        };
        let Some(known) = entry.run(number).map(|id| self.ledger.run(id)) else { return row };
        row.failures = known.failures;
        row.losses = known.losses;
        row.last_failure = known.last_failure.clone();
        row.diverged_at = known.diverged.map(|(at, _)| at);
        row.step = known.step_known();
        if let Some((id, lease)) = known.last_lease.and_then(|id| Some((id, self.ledger.lease(id)?))) {
            let (incarnation, worker) = self.ledger.holder(lease);
            row.last_lease = Some((id, worker.clone()));
            let held = self.fleet.get(&incarnation).and_then(|worker| worker.leases.get(&id));
            row.step = held.map_or(row.step, |held| held.step.max(row.step));
        }
        row
    }

    /// Reference seconds of a sweep that are behind it: runs that are over, and the part done of those that run.
    fn work_done(&self, sweep: SweepIndex) -> f64 {
        let entry = self.ledger.sweep(sweep);
        let held = self.fleet.values().flat_map(|worker| &worker.leases);
        let running = held.map(|(&lease, held)| {
            let run = self.ledger.run(self.ledger.lease(lease).expect("held leases were granted").run);
            let here = run.views().any(|(of, _, state)| of == sweep && state == RunState::Running);
            let at = run.coordinates();
            let last = entry.sweep.trial_steps(&at).last().map_or(0, |step| step.number());
            if !here || last == 0 {
                return 0.0;
            }
            let step = held.step.max(run.step_known()).number().min(last);
            entry.run_seconds(&at) * step as f64 / last as f64
        });
        entry.work_over_s + running.sum::<f64>()
    }

    /// Time left from what workers said of their speed, and more and more from what was seen.
    fn eta(&self, now: Moment, sweep: SweepIndex, work_done_s: f64) -> Option<Eta> {
        let entry = self.ledger.sweep(sweep);
        let speed = self.speed();
        if speed <= 0.0 || !entry.is_active() {
            return None;
        }
        let (seen_s, seen_work_s) = self.started.get(&sweep).map_or((0.0, 0.0), |&(start, work)| {
            (now.since(start).as_secs_f64(), (work_done_s - work).max(0.0))
        });
        let rate = (seen_work_s + speed * ETA_TRUST_SECONDS) / (seen_s + ETA_TRUST_SECONDS);
        let seconds = (entry.work_s - work_done_s).max(0.0) / rate;
        Some(Eta { seconds, low: seconds * ETA_SPREAD.0, high: seconds * ETA_SPREAD.1 })
    }
}
