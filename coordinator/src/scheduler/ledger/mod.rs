//! What is known for good: the fold of the records, in life and at a restart.
//!
//! The ledger knows runs by content and answers by (run, step). Sweeps are views of it: which of their runs are done
//! follows from the answers, whoever asked for them. It never decides what happens next, and never asks the time.

pub mod conduct;
pub mod run;
pub mod sweep;

use std::collections::BTreeMap;

use slalom_common::answer::{Counts, RunState};
use slalom_common::grid::Coordinates;
use slalom_common::id::{
    ContentHash, Incarnation, LeaseId, RunId, RunKey, RunNumber, Step, SweepName, WorkerName,
};
use slalom_common::message::{CheckpointName, LeaseEnd, LeaseKind};
use slalom_common::outcome::{Measured, Milestone};
use slalom_common::run::Run;
use slalom_common::sweep::Sweep;

use self::conduct::Conduct;
use self::run::{Kept, RunEntry, Verdict, View};
use self::sweep::{Course, SweepEntry};
use super::record::{End, Grant, Record};

/// A sweep's place in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SweepIndex(u32);

/// A run's change of state in one sweep's view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The run.
    pub run: RunId,
    /// In whose view.
    pub sweep: SweepIndex,
    /// Its number there.
    pub number: RunNumber,
    /// Before.
    pub from: RunState,
    /// After.
    pub to: RunState,
}

/// A lease that was ever granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseEntry {
    /// On which run.
    pub run: RunId,
    /// What it is for by now: a copy may have taken the place of the lease that it was beside.
    pub kind: LeaseKind,
    holder: u32,
    /// Whether it has not ended.
    pub in_force: bool,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    runs: Vec<RunEntry>,
    by_key: BTreeMap<RunKey, RunId>,
    /// By number, from 1 without a gap.
    leases: Vec<LeaseEntry>,
    holders: Vec<(Incarnation, WorkerName)>,
    sweeps: Vec<SweepEntry>,
    by_name: BTreeMap<SweepName, SweepIndex>,
    /// Processes that a person has drained, which may not have heard of it yet.
    drained: BTreeMap<Incarnation, WorkerName>,
    /// Workers of which something failed since a person last resumed them.
    conduct: BTreeMap<WorkerName, Conduct>,
}

impl Ledger {
    /// The number that the next lease gets. Numbers are never reused, since a grant leaves only after its commit (I3).
    pub fn next_lease(&self) -> LeaseId {
        LeaseId::new(self.leases.len() as u64 + 1)
    }

    /// A lease that was granted at some time.
    pub fn lease(&self, lease: LeaseId) -> Option<&LeaseEntry> {
        let index = usize::try_from(lease.number().checked_sub(1)?).ok()?;
        self.leases.get(index)
    }

    /// To whom a lease was granted.
    pub fn holder(&self, lease: &LeaseEntry) -> (Incarnation, &WorkerName) {
        let (incarnation, worker) = &self.holders[lease.holder as usize];
        (*incarnation, worker)
    }

    /// Every lease in force, by number.
    pub fn leases_in_force(&self) -> impl Iterator<Item = (LeaseId, &LeaseEntry)> {
        (1..).map(LeaseId::new).zip(&self.leases).filter(|(_, lease)| lease.in_force)
    }

    /// What is known of a run.
    pub fn run(&self, run: RunId) -> &RunEntry {
        &self.runs[run.number() as usize]
    }

    /// The run of this content, if it was ever leased.
    pub fn find(&self, key: &RunKey) -> Option<RunId> {
        self.by_key.get(key).copied()
    }

    /// Every known run.
    pub fn runs(&self) -> impl Iterator<Item = (RunId, &RunEntry)> {
        (0..).map(RunId::new).zip(&self.runs)
    }

    /// The bytes of every checkpoint that a run may go on from.
    pub fn checkpoints(&self) -> impl Iterator<Item = ContentHash> + '_ {
        self.runs.iter().flat_map(|run| &run.checkpoints).map(|checkpoint| checkpoint.blob)
    }

    /// How many runs are known; their ids are the numbers below it.
    pub fn run_count(&self) -> u32 {
        self.runs.len() as u32
    }

    /// A sweep by its place.
    pub fn sweep(&self, sweep: SweepIndex) -> &SweepEntry {
        &self.sweeps[sweep.0 as usize]
    }

    /// A sweep by its name.
    pub fn find_sweep(&self, name: &SweepName) -> Option<SweepIndex> {
        self.by_name.get(name).copied()
    }

    /// Every sweep, in the order of submission.
    pub fn sweeps(&self) -> impl DoubleEndedIterator<Item = (SweepIndex, &SweepEntry)> {
        self.sweeps.iter().enumerate().map(|(index, entry)| (SweepIndex(index as u32), entry))
    }

    /// Whether a person has drained this process.
    pub fn is_drained(&self, incarnation: Incarnation) -> bool {
        self.drained.contains_key(&incarnation)
    }

    /// Whether a person has drained a process of this name.
    pub fn has_drained(&self, worker: &WorkerName) -> bool {
        self.drained.values().any(|drained| drained == worker)
    }

    /// How the runs of a worker go; none if nothing was ever amiss.
    pub fn conduct(&self, worker: &WorkerName) -> Option<&Conduct> {
        self.conduct.get(worker)
    }

    /// Whether a worker is given no runs until a person resumes it: run after run failed on it.
    pub fn is_paused(&self, worker: &WorkerName) -> bool {
        self.conduct.get(worker).is_some_and(Conduct::is_paused)
    }

    /// Those workers.
    pub fn paused_workers(&self) -> impl Iterator<Item = &WorkerName> {
        self.conduct.iter().filter(|(_, conduct)| conduct.is_paused()).map(|(worker, _)| worker)
    }

    /// The steps of `run` that some sweep that counts wants and that have no answer, ascending, each once.
    pub fn wanted(&self, run: &Run, counts: impl Fn(&SweepEntry) -> bool) -> Vec<Step> {
        let at = Coordinates { shape: run.shape, seed: run.seed };
        let known = self.find(&run.key()).map(|id| self.run(id));
        let mut wanted: Vec<Step> = self
            .sweeps
            .iter()
            .filter(|entry| counts(entry) && *entry.sweep.family() == run.family)
            .flat_map(|entry| entry.sweep.wanted_steps(&at))
            .filter(|&step| known.is_none_or(|known| known.answer(step).is_none()))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// The kept checkpoints at or before `first_wanted`, the newest first: a later one would leave a hole for ever (I10).
    pub fn resume_from(&self, run: RunId, first_wanted: Step) -> impl Iterator<Item = CheckpointName> {
        let checkpoints = self.run(run).checkpoints.iter().filter(|one| one.step <= first_wanted);
        let mut newest_first: Vec<CheckpointName> = checkpoints.copied().collect();
        newest_first.sort_by_key(|one| std::cmp::Reverse(one.step));
        newest_first.into_iter()
    }

    /// Whether some sweep that counts still lacks an answer of this run.
    pub fn is_wanted(&self, run: RunId, counts: impl Fn(&SweepEntry) -> bool) -> bool {
        self.run(run).views.iter().any(|view| view.missing > 0 && counts(self.sweep(view.sweep)))
    }

    /// Whether this step of the run answers anything: in any sweep, cancelled ones too, since they may come back.
    pub fn is_asked(&self, run: RunId, step: Step) -> bool {
        let entry = self.run(run);
        let at = entry.coordinates();
        entry.views.iter().any(|view| self.sweep(view.sweep).sweep.wants(&at, step))
    }

    /// The policies of the sweeps that are not cancelled and hold this run.
    pub fn policies(&self, run: RunId) -> impl Iterator<Item = slalom_common::sweep::Policy> + '_ {
        let entries = self.run(run).views.iter().map(|view| self.sweep(view.sweep));
        entries.filter(|entry| !entry.is_cancelled()).map(|entry| entry.sweep.policy())
    }

    /// Makes `record` true. The only way in which anything here changes.
    ///
    /// # Panics
    /// If the record contradicts what is known: the store is not the one it was written to, and must not be trusted.
    pub fn apply(&mut self, record: &Record) -> Vec<Transition> {
        let mut transitions = Vec::new();
        match record {
            Record::SweepSubmitted(sweep) => self.add_sweep(sweep),
            Record::SweepExtended(sweep) => self.extend_sweep(sweep),
            Record::SweepResubmitted { sweep, policy } => {
                let index = self.by_name[sweep];
                let entry = &mut self.sweeps[index.0 as usize];
                entry.sweep = entry.sweep.with_policy(*policy);
                if entry.is_cancelled() {
                    entry.course = Course::Active;
                    self.refresh_sweep(index, &mut transitions);
                }
            }
            Record::SweepCancelled { sweep } => {
                let index = self.by_name[sweep];
                self.sweeps[index.0 as usize].course = Course::Cancelled;
                self.refresh_sweep(index, &mut transitions);
            }
            Record::SweepSteered { sweep, steering } => {
                let index = self.by_name[sweep];
                let entry = &mut self.sweeps[index.0 as usize];
                entry.course = entry.steered(*steering);
            }
            Record::RunsLeased { incarnation, worker, first, grants } => {
                assert_eq!(*first, self.next_lease(), "lease numbers have no gap");
                let holder = self.intern_holder(*incarnation, worker);
                for &Grant { run, kind } in grants {
                    let lease = self.next_lease();
                    let id = self.intern(&run);
                    self.leases.push(LeaseEntry { run: id, kind, holder, in_force: true });
                    let entry = &mut self.runs[id.number() as usize];
                    match kind {
                        LeaseKind::Primary => {
                            assert_eq!(entry.lease, None, "a run has at most one primary lease (I3)");
                            (entry.lease, entry.last_lease) = (Some(lease), Some(lease));
                        }
                        LeaseKind::Copy => {
                            assert!(entry.lease.is_some(), "a copy is of a run that is leased");
                            assert_eq!(entry.copy.replace(lease), None, "a run has at most one copy");
                        }
                    }
                    self.refresh(id, &mut transitions);
                }
            }
            Record::MilestoneReached { lease, milestone } => {
                let run = self.leased_run(*lease);
                self.add_milestone(run, *lease, milestone);
                self.note_success(*lease);
                self.refresh(run, &mut transitions);
            }
            Record::DivergenceReached { lease, at } => {
                let run = self.leased_run(*lease);
                self.add_divergence(run, *lease, *at);
                self.note_success(*lease);
                self.refresh(run, &mut transitions);
            }
            Record::LeaseEnded { lease, milestones, end } => {
                let run = self.leased_run(*lease);
                for milestone in milestones {
                    self.add_milestone(run, *lease, milestone);
                }
                self.end_lease(run, *lease, end);
                self.note_end(run, *lease, !milestones.is_empty(), end);
                self.refresh(run, &mut transitions);
                self.pause_if_stopped(run);
            }
            Record::CheckpointKept { lease, checkpoint } => {
                let run = self.leased_run(*lease);
                let entry = &mut self.runs[run.number() as usize];
                entry.losses = 0;
                entry.checkpoints.push(*checkpoint);
                if entry.checkpoints.len() > 2 {
                    entry.checkpoints.remove(0);
                }
            }
            Record::ConflictFound { refused_lease, refused, .. } => {
                let run = self.leased_run(*refused_lease);
                self.runs[run.number() as usize].refuse(*refused_lease, *refused);
            }
            Record::WorkerDrained { worker, incarnations } => {
                self.drained.extend(incarnations.iter().map(|&incarnation| (incarnation, worker.clone())));
            }
            Record::WorkerResumed { worker } => {
                self.conduct.remove(worker);
            }
            Record::RunsRetried { runs } => {
                for key in runs {
                    let run = self.by_key[key];
                    let entry = &mut self.runs[run.number() as usize];
                    (entry.failures, entry.losses) = (0, 0);
                    (entry.given_up, entry.alone) = (false, false);
                    self.refresh(run, &mut transitions);
                }
            }
        }
        transitions
    }

    fn add_sweep(&mut self, sweep: &Sweep) {
        let index = SweepIndex(self.sweeps.len() as u32);
        let earlier = self.by_name.insert(sweep.name().clone(), index);
        assert_eq!(earlier, None, "a sweep is submitted once");
        self.sweeps.push(SweepEntry::new(sweep.clone()));
        self.attach_known(index);
    }

    /// A sweep that asks for more is looked at as if it had just been submitted, but for its course.
    fn extend_sweep(&mut self, sweep: &Sweep) {
        let index = self.by_name[sweep.name()];
        let former = &mut self.sweeps[index.0 as usize];
        assert!(sweep.extends(&former.sweep), "a sweep is extended by blocks behind those that it has");
        // One that was done is to go on, whatever was said of it before that.
        let course = if former.is_done() { Course::Active } else { former.course };
        let former = std::mem::replace(former, SweepEntry { course, ..SweepEntry::new(sweep.clone()) });
        for run in former.runs.into_values() {
            self.runs[run.number() as usize].views.retain(|view| view.sweep != index);
        }
        self.attach_known(index);
    }

    /// What other sweeps have had trained is known to this one from its first moment.
    fn attach_known(&mut self, index: SweepIndex) {
        let family = *self.sweep(index).sweep.family();
        for run in (0..self.runs.len() as u32).map(RunId::new) {
            if self.run(run).run.family == family {
                self.attach(run, index);
            }
        }
    }

    fn intern_holder(&mut self, incarnation: Incarnation, worker: &WorkerName) -> u32 {
        let known = self.holders.iter().rposition(|(known, _)| *known == incarnation);
        let index = known.unwrap_or_else(|| {
            self.holders.push((incarnation, worker.clone()));
            self.holders.len() - 1
        });
        index as u32
    }

    fn intern(&mut self, run: &Run) -> RunId {
        let key = run.key();
        if let Some(&known) = self.by_key.get(&key) {
            return known;
        }
        let id = RunId::new(u32::try_from(self.runs.len()).expect("fewer runs than 2^32"));
        self.by_key.insert(key, id);
        self.runs.push(RunEntry::new(*run));
        for index in (0..self.sweeps.len() as u32).map(SweepIndex) {
            if *self.sweep(index).sweep.family() == run.family {
                self.attach(id, index);
            }
        }
        id
    }

    /// Makes a known run part of a sweep's view, if the sweep's formula holds it.
    fn attach(&mut self, run: RunId, sweep: SweepIndex) {
        let at = self.run(run).coordinates();
        let Some(number) = self.sweep(sweep).sweep.number_of(&at) else { return };
        let entry = &mut self.sweeps[sweep.0 as usize];
        entry.runs.insert(number, run);
        // Until now it was counted with the runs that nobody has touched.
        let state = entry.untouched();
        let view = View { sweep, number, state, missing: 0, trials_done: 0, trials_diverged: 0 };
        self.runs[run.number() as usize].views.push(view);
        self.recount(run);
        let trials = self.sweep(sweep).sweep.epochs_of(&at);
        let per_epoch = self.sweep(sweep).sweep.steps_per_epoch(at.shape);
        for epochs in trials {
            let step = Step::new(epochs * per_epoch);
            if let Some(Measured::Perplexity(perplexity)) = self.run(run).answer(step) {
                let entry = &mut self.sweeps[sweep.0 as usize];
                entry.points.add(&entry.sweep, at.shape, epochs, perplexity);
            }
        }
        self.refresh(run, &mut Vec::new());
    }

    fn leased_run(&self, lease: LeaseId) -> RunId {
        self.lease(lease).expect("a record names a lease that was granted").run
    }

    fn add_milestone(&mut self, run: RunId, lease: LeaseId, milestone: &Milestone) {
        let entry = &mut self.runs[run.number() as usize];
        let at = entry.coordinates();
        entry.losses = 0;
        let kept = Kept { measured: milestone.measured, loss: milestone.loss, lease };
        let earlier = entry.answers.insert(milestone.step, kept);
        assert_eq!(earlier, None, "an answer is recorded once (I1)");
        for view in &mut entry.views {
            let of = &mut self.sweeps[view.sweep.0 as usize];
            if !of.sweep.wants(&at, milestone.step) {
                continue;
            }
            view.missing -= 1;
            let Some(epochs) = of.sweep.trial_epochs(&at, milestone.step) else { continue };
            match milestone.measured {
                Measured::Perplexity(perplexity) => {
                    view.trials_done += 1;
                    of.trials_done += 1;
                    of.points.add(&of.sweep, at.shape, epochs, perplexity);
                }
                Measured::Diverged => {
                    view.trials_diverged += 1;
                    of.trials_diverged += 1;
                }
            }
        }
    }

    fn add_divergence(&mut self, run: RunId, lease: LeaseId, at: Step) {
        let entry = &mut self.runs[run.number() as usize];
        assert_eq!(entry.diverged, None, "a divergence is recorded once");
        entry.losses = 0;
        entry.diverged = Some((at, lease));
        self.recount(run);
    }

    /// Counts again what each view of a run lacks and has: after an event that answers many steps at once.
    fn recount(&mut self, run: RunId) {
        let entry = &self.runs[run.number() as usize];
        let at = entry.coordinates();
        let mut views = entry.views.clone();
        for view in &mut views {
            let sweep = &self.sweeps[view.sweep.0 as usize].sweep;
            let (done, diverged) = (view.trials_done, view.trials_diverged);
            let missing = sweep.wanted_steps(&at).into_iter().filter(|&step| entry.answer(step).is_none());
            view.missing = missing.count() as u64;
            (view.trials_done, view.trials_diverged) = (0, 0);
            for step in sweep.trial_steps(&at) {
                match entry.answer(step) {
                    Some(Measured::Perplexity(_)) => view.trials_done += 1,
                    Some(Measured::Diverged) => view.trials_diverged += 1,
                    None => (),
                }
            }
            let of = &mut self.sweeps[view.sweep.0 as usize];
            of.trials_done = of.trials_done - done + view.trials_done;
            of.trials_diverged = of.trials_diverged - diverged + view.trials_diverged;
        }
        self.runs[run.number() as usize].views = views;
    }

    fn end_lease(&mut self, run: RunId, lease: LeaseId, end: &End) {
        let index = lease.number() as usize - 1;
        assert!(self.leases[index].in_force, "a lease ends once");
        self.leases[index].in_force = false;
        let max_attempts = self.policies(run).map(|policy| policy.max_attempts).max().unwrap_or(1);
        let entry = &mut self.runs[run.number() as usize];
        if entry.copy == Some(lease) {
            // What it answered counts, and how else it ended changes nothing of the run.
            entry.copy = None;
            if let End::Reported(LeaseEnd::Diverged { at }) = end
                && entry.diverged.is_none()
                && entry.judge_divergence(*at) == Verdict::New
            {
                self.add_divergence(run, lease, *at);
            }
            return;
        }
        entry.lease = None;
        match end {
            End::Reported(LeaseEnd::HandedBack) | End::Absent | End::Cancelled => (),
            End::Reported(LeaseEnd::Finished) => self.count_fruitless(run, lease),
            End::Reported(LeaseEnd::Diverged { at }) => {
                if entry.diverged.is_none() && entry.judge_divergence(*at) == Verdict::New {
                    self.add_divergence(run, lease, *at);
                }
                self.count_fruitless(run, lease);
            }
            End::Reported(LeaseEnd::Failed { reason, detail }) => {
                entry.failures += 1;
                entry.last_failure = Some((*reason, detail.clone()));
                entry.given_up |= entry.failures >= max_attempts;
            }
            End::Expired { .. } => entry.count_loss("worker after worker went silent over it"),
        }
        let entry = &mut self.runs[run.number() as usize];
        if !entry.given_up && entry.views.iter().any(|view| view.missing > 0) {
            entry.lease = entry.copy.take();
            if let Some(copy) = entry.lease {
                entry.last_lease = Some(copy);
                self.leases[copy.number() as usize - 1].kind = LeaseKind::Primary;
            }
        }
    }

    /// An answer came under a lease: whoever holds it can train.
    fn note_success(&mut self, lease: LeaseId) {
        let holder = self.lease(lease).expect("a record names a lease that was granted").holder;
        let (_, worker) = &self.holders[holder as usize];
        if let Some(conduct) = self.conduct.get_mut(worker) {
            conduct.succeeded();
        }
    }

    /// What the end of a lease says of its worker. A lost one says nothing: silence is no failure of a run.
    fn note_end(&mut self, run: RunId, lease: LeaseId, has_answers: bool, end: &End) {
        if has_answers || matches!(end, End::Reported(LeaseEnd::Diverged { .. })) {
            self.note_success(lease);
        }
        if let End::Reported(LeaseEnd::Failed { reason, detail }) = end {
            let holder = self.lease(lease).expect("a record names a lease that was granted").holder;
            let (_, worker) = &self.holders[holder as usize];
            self.conduct.entry(worker.clone()).or_default().failed(run, *reason, detail);
        }
    }

    /// A lease that ends as if answered and has brought nothing, while something is still wanted, would be granted again for
    /// ever: it counts like a lost worker.
    fn count_fruitless(&mut self, run: RunId, lease: LeaseId) {
        let brought = |entry: &RunEntry| {
            entry.answers.values().any(|kept| kept.lease == lease)
                || entry.diverged.is_some_and(|(_, said)| said == lease)
        };
        let entry = &mut self.runs[run.number() as usize];
        if !brought(entry) && entry.views.iter().any(|view| view.missing > 0) {
            entry.count_loss("lease after lease ended without the answers it was for");
        }
    }

    /// Brings every view of a run, and the counts of its sweeps, up to date with what is known.
    fn refresh(&mut self, run: RunId, transitions: &mut Vec<Transition>) {
        let entry = &mut self.runs[run.number() as usize];
        let at = entry.coordinates();
        for view in &mut entry.views {
            let of = &mut self.sweeps[view.sweep.0 as usize];
            let to = match (view.missing, view.trials_diverged) {
                (0, 0) => RunState::Done,
                (0, _) => RunState::Diverged,
                _ if of.is_cancelled() => RunState::Cancelled,
                _ if entry.given_up => RunState::Failed,
                _ if entry.lease.is_some() => RunState::Running,
                _ => RunState::Waiting,
            };
            let from = view.state;
            if from == to {
                continue;
            }
            view.state = to;
            of.counts.shift(from, to);
            match (from.is_over(), to.is_over()) {
                (false, true) => of.work_over += of.sweep.run_work(&at),
                (true, false) => of.work_over -= of.sweep.run_work(&at),
                _ => (),
            }
            transitions.push(Transition { run, sweep: view.sweep, number: view.number, from, to });
        }
    }

    /// A stopping sweep is paused when its last lease ends; it may have been one on `run`.
    fn pause_if_stopped(&mut self, run: RunId) {
        for view in &self.runs[run.number() as usize].views {
            let of = &mut self.sweeps[view.sweep.0 as usize];
            if of.course == Course::Stopping && of.counts.of(RunState::Running) == 0 {
                of.course = Course::Paused;
            }
        }
    }

    /// Brings every run of a sweep up to date after the sweep itself changed.
    fn refresh_sweep(&mut self, sweep: SweepIndex, transitions: &mut Vec<Transition>) {
        let entry = &mut self.sweeps[sweep.0 as usize];
        let known: Vec<RunId> = entry.runs.values().copied().collect();
        let untouched = entry.sweep.size().runs - known.len() as u64;
        let state = entry.untouched();
        let mut counts = Counts::default();
        counts.add(state, untouched);
        for run in &known {
            let view = self.runs[run.number() as usize].views.iter().find(|view| view.sweep == sweep);
            counts.add(view.expect("a sweep's known run has a view of it").state, 1);
        }
        entry.counts = counts;
        for run in known {
            self.refresh(run, transitions);
        }
    }
}
