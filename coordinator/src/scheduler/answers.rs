//! What people ask, answered from the ledger and the fleet: rows and sums, nothing stored.

use std::ops::Range;

use slalom_common::answer::{Eta, RunRow, RunState, SweepStatus, TrialRow, WorkerRow};
use slalom_common::cost::{REFERENCE, Work};
use slalom_common::filter::{At, EvalError, Filter};
use slalom_common::grid::Coordinates;
use slalom_common::id::{RunId, RunNumber, Step};
use slalom_common::message::{CheckpointName, LeaseKind};
use slalom_common::moment::Moment;
use slalom_common::outcome::Measured;
use slalom_common::sweep::Sweep;

use super::Scheduler;
use super::effect::Notice;
use super::fleet::{Readiness, Worker};
use super::ledger::SweepIndex;

/// How far an ETA may be off, from below and above: runs of one sweep vary so much around their prediction.
const ETA_SPREAD: (f64, f64) = (0.85, 1.25);

/// Seconds of observed work that weigh as much as what was predicted of the fleet.
const ETA_TRUST_SECONDS: f64 = 5.0;

/// What is known of a run before a sweep asks for it.
#[derive(Clone, PartialEq, Debug)]
pub enum KnownRun {
    /// All that the sweep wants: so many seconds of the reference core.
    Answered(f64),
    /// It was trained, but not so far: from any of these, the newest first, it can go on if that is still there; and what it need not
    /// train again then.
    Trained(Vec<(CheckpointName, f64)>),
}

impl Scheduler {
    /// How a sweep stands at `now`.
    pub fn status(&self, now: Moment, sweep: SweepIndex) -> SweepStatus {
        let entry = self.ledger.sweep(sweep);
        let (workers, slots) = self.workers_and_slots();
        let size = entry.sweep.size();
        let work_done = self.work_done(sweep);
        SweepStatus {
            sweep: entry.sweep.name().clone(),
            state: entry.state(),
            counts: entry.counts,
            trials: size.trials,
            excluded: size.excluded,
            trials_done: entry.trials_done,
            trials_diverged: entry.trials_diverged,
            workers,
            slots,
            paused_workers: self.paused_there(),
            best: entry.points.best(),
            work_done_s: REFERENCE.seconds(&work_done),
            work_s: REFERENCE.seconds(&entry.work),
            eta: self.eta(now, sweep, work_done),
            numbers: entry.sweep.numbers(),
            corpus_written: entry.sweep.draft().corpus.written.clone(),
        }
    }

    /// The runs of a sweep numbered within `numbers`, in order, those in `states` (all if empty) that `filter` matches.
    /// A whole sweep is asked for in parts, so that ten million runs keep nobody waiting.
    ///
    /// # Errors
    /// Where the filter has no value.
    pub fn run_rows(
        &self,
        sweep: SweepIndex,
        numbers: Range<u64>,
        states: &[RunState],
        filter: Option<&Filter>,
    ) -> Result<Vec<RunRow>, EvalError> {
        let entry = self.ledger.sweep(sweep);
        let mut rows = Vec::new();
        for number in numbers.map(RunNumber::new) {
            let Some(at) = entry.sweep.coordinates(number) else { continue };
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

    /// A trial of a sweep and its answer; `None` if the sweep has no run there.
    pub fn trial_row(&self, sweep: SweepIndex, at: Coordinates, epochs: u64) -> Option<TrialRow> {
        let entry = self.ledger.sweep(sweep);
        let run = entry.sweep.number_of(&at)?;
        let steps = Step::new(epochs * entry.sweep.steps_per_epoch(at.shape));
        let known = entry.run(run).map(|id| self.ledger.run(id));
        let (state, perplexity) = match known.and_then(|known| known.answer(steps)) {
            Some(Measured::Perplexity(perplexity)) => (RunState::Done, Some(perplexity)),
            Some(Measured::Diverged) => (RunState::Diverged, None),
            None => (self.run_state(sweep, run), None),
        };
        Some(TrialRow { run, at, epochs, steps, state, perplexity })
    }

    /// What is known of the runs `ids` that a sweep, which need not be here, wants too.
    pub fn known_runs(&self, sweep: &Sweep, ids: Range<u32>) -> Vec<KnownRun> {
        let ids = ids.start..ids.end.min(self.ledger.run_count());
        let known = ids.map(RunId::new).filter(|&id| self.ledger.run(id).run.family == *sweep.family());
        let known = known.filter_map(|id| {
            let run = self.ledger.run(id);
            let wanted = sweep.wanted_steps(&run.coordinates());
            wanted.last()?;
            let seconds_to = |step: Step| {
                let validations = wanted.iter().filter(|&&one| one <= step).count();
                let valid_size = run.run.family.valid_size;
                REFERENCE.seconds(&Work::run(run.run.shape, Step::new(0), step, validations, valid_size))
            };
            let Some(&first) = wanted.iter().find(|&&step| run.answer(step).is_none()) else {
                return wanted.last().map(|&last| KnownRun::Answered(seconds_to(last)));
            };
            // One past a step that is wanted and has no answer is of no use: such a run is as good as new.
            let kept: Vec<_> =
                self.ledger.resume_from(id, first).map(|one| (one, seconds_to(one.step))).collect();
            (!kept.is_empty()).then_some(KnownRun::Trained(kept))
        });
        known.collect()
    }

    /// The workers with a session, and those whose leases have not ended yet, by incarnation.
    pub fn worker_rows(&self, now: Moment) -> Vec<WorkerRow> {
        let rows = self.fleet.iter().map(|(&incarnation, worker)| {
            let hello = worker.hello.as_ref();
            WorkerRow {
                worker: worker.name.clone(),
                incarnation,
                connected: worker.stream.is_some(),
                slots: hello.map_or(0, |hello| hello.slots),
                isa: hello.map_or_else(String::new, |hello| hello.isa.clone()),
                gflops_per_slot: hello.map_or(0.0, |hello| hello.gflops_per_slot),
                speed: worker.speed(),
                draining: worker.readiness != Readiness::Ready,
                paused: self.pauses(&worker.name),
                leases: worker.leases.keys().copied().collect(),
                silent: now.since(worker.heard),
            }
        });
        rows.collect()
    }

    /// Workers with a stream that are not paused, and their slots.
    pub fn workers_and_slots(&self) -> (u32, u32) {
        let there = self.there();
        there.fold((0, 0), |(workers, slots), worker| (workers + 1, slots + worker.slots() as u32))
    }

    fn there(&self) -> impl Iterator<Item = &Worker> {
        self.fleet.values().filter(|worker| worker.stream.is_some() && !self.pauses(&worker.name))
    }

    /// Workers with a stream that are paused.
    fn paused_there(&self) -> u32 {
        let there = self.fleet.values().filter(|worker| worker.stream.is_some());
        there.filter(|worker| self.pauses(&worker.name)).count() as u32
    }

    /// Summed rate of the slots that are there at this work, relative to the reference core.
    pub fn speed(&self, work: &Work) -> f64 {
        self.rate(work) * REFERENCE.seconds(work)
    }

    /// How often the slots that are there do this work in a second, if it is shared among them without a rest.
    fn rate(&self, work: &Work) -> f64 {
        self.there().map(|worker| worker.slots() as f64 / worker.seconds(work)).sum()
    }

    pub(super) fn progress_notice(&self, now: Moment, sweep: SweepIndex) -> Notice {
        let SweepStatus { sweep, counts, workers, slots, best, eta, .. } = self.status(now, sweep);
        Notice::Progress { sweep, counts, workers, slots, best: best.map(|best| best.mean), eta }
    }

    fn run_state(&self, sweep: SweepIndex, number: RunNumber) -> RunState {
        let entry = self.ledger.sweep(sweep);
        let untouched = entry.untouched();
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
        row.last_failure.clone_from(&known.last_failure);
        row.diverged_at = known.diverged.map(|(at, _)| at);
        row.step = known.step_towards(&entry.sweep.wanted_steps(&at));
        if let Some((id, lease)) = known.last_lease.and_then(|id| Some((id, self.ledger.lease(id)?))) {
            let (incarnation, worker) = self.ledger.holder(lease);
            row.last_lease = Some((id, worker.clone()));
            let held = self.fleet.get(&incarnation).and_then(|worker| worker.leases.get(&id));
            row.step = held.map_or(row.step, |held| held.step.max(row.step).min(steps));
        }
        row
    }

    /// What is behind a sweep: runs that are over, and the part done of those that run.
    fn work_done(&self, sweep: SweepIndex) -> Work {
        let entry = self.ledger.sweep(sweep);
        let held = self.fleet.values().flat_map(|worker| &worker.leases);
        let running = held.map(|(&lease, held)| {
            let lease = self.ledger.lease(lease).expect("held leases were granted");
            // A copy is work that is done twice.
            if lease.kind == LeaseKind::Copy {
                return Work::NONE;
            }
            let run = self.ledger.run(lease.run);
            let here = run.views().any(|(of, _, state)| of == sweep && state == RunState::Running);
            let at = run.coordinates();
            let last = entry.sweep.trial_steps(&at).last().map_or(0, |step| step.number());
            if !here || last == 0 {
                return Work::NONE;
            }
            let known = run.step_towards(&entry.sweep.wanted_steps(&at));
            let step = held.step.max(known).number().min(last);
            entry.sweep.run_work(&at) * (step as f64 / last as f64)
        });
        entry.work_over + running.sum()
    }

    /// Time left by what workers fitted and what their runs took, and more and more by what came of it all together.
    fn eta(&self, now: Moment, sweep: SweepIndex, done: Work) -> Option<Eta> {
        let entry = self.ledger.sweep(sweep);
        if self.workers_and_slots().1 == 0 || !entry.is_active() {
            return None;
        }
        let predicted_s = |work: Work| if work == Work::NONE { 0.0 } else { self.rate(&work).recip() };
        let (seen_s, seen_predicted_s) = self.started.get(&sweep).map_or((0.0, 0.0), |&(start, before)| {
            (now.since(start).as_secs_f64(), predicted_s(done.less(before)))
        });
        let slower = (seen_s + ETA_TRUST_SECONDS) / (seen_predicted_s + ETA_TRUST_SECONDS);
        let seconds = predicted_s(entry.work.less(done)) * slower;
        Some(Eta { seconds, low: seconds * ETA_SPREAD.0, high: seconds * ETA_SPREAD.1 })
    }
}
