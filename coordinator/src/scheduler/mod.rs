//! The one place where the coordinator decides: a state machine without I/O, clock or randomness of its own.
//!
//! `handle(now, event) -> Effects`. State has two parts: the [`Ledger`], changed only by records, in life and at a
//! restart; and the fleet and the queues, never recorded. What must follow a commit is in `Effects::after_commit`.
//!
//! A run in one sweep's view, and what moves it (an empty place: ignored, because it changes nothing):
//!
//! | event | waiting | running | done, diverged | failed | cancelled |
//! | --- | --- | --- | --- | --- | --- |
//! | a slot is free | running | | | | |
//! | milestone, any lease once granted | done when the last answer is in | as waiting; the lease is told to stop | compared | as waiting | as waiting |
//! | the lease ends, finished or diverged | | done, diverged; waiting if more is wanted by then | compared | as waiting | compared |
//! | the lease ends, failed | stale: ignored | waiting, or failed after the last attempt | ignored | ignored | ignored |
//! | the lease is handed back, absent | stale: ignored | waiting, no attempt spent | ignored | ignored | ignored |
//! | the worker is silent for the lease time | | waiting, no attempt spent; failed after 20 in a row | | | |
//! | cancel | cancelled | cancelled; the lease ends unless another active sweep wants the run | | cancelled | |
//! | the sweep is submitted again | | | | | waiting |
//! | retry | | | | waiting | |

pub mod answers;
pub mod best;
pub mod effect;
pub mod event;
pub mod fleet;
pub mod invariants;
pub mod ledger;
pub mod order;
pub mod record;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slalom_common::answer::RunState;
use slalom_common::cost::REFERENCE;
use slalom_common::id::{
    Incarnation, LeaseId, MessageNumber, NumericsVersion, RunId, RunKey, Step, StoreId, SweepName,
};
use slalom_common::message::{
    CheckpointName, CoordinatorMessage, Hello, Lease, LeaseEnd, LeaseKind, LeasesHeld, Report, Welcome,
};
use slalom_common::moment::Moment;
use slalom_common::outcome::{Measured, Milestone};
use slalom_common::run::Run;
use slalom_common::sweep::Sweep;
use slalom_common::wire::WANTED_STEPS_MAX;

use effect::{Effect, Effects, Leaving, Named, Notice, Reply, Requeue};
use event::{Event, RequestId, Saying, StreamId};
use fleet::{Fleet, Held, Worker};
use ledger::run::Verdict;
use ledger::{LeaseEntry, Ledger, SweepIndex, Transition};
use order::{Order, Serve};
use record::{Answer, End, Grant, Record};

/// Leases in one message, at most, however few steps they want.
const GRANT_LEASES_MAX: usize = 1_000;

/// Wanted steps in one message, at most, all leases together: a message far smaller than what a worker decodes.
const GRANT_STEPS_MAX: usize = 100_000;

/// What a coordinator was started with.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Between two heartbeats of a session.
    pub heartbeat: Duration,
    /// A session silent for so long loses its leases.
    pub lease: Duration,
    /// Training time between two checkpoints of a run, unless its sweeps say otherwise.
    pub checkpoint_every: Duration,
    /// Between two progress lines of a sweep.
    pub progress_every: Duration,
    /// The bits this build gives.
    pub numerics: NumericsVersion,
    /// Which sweeps' runs are leased.
    pub serve: Serve,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Scheduler {
    settings: Settings,
    store: StoreId,
    ledger: Ledger,
    fleet: Fleet,
    order: Order,
    /// On which incarnation each run failed last in this life: another one is tried before it is.
    failed_on: BTreeMap<RunId, Incarnation>,
    /// When each sweep was first worked on in this life, and the work done by then: for the ETA.
    started: BTreeMap<SweepIndex, (Moment, f64)>,
    next_progress: Moment,
}

impl Scheduler {
    /// The state after `records` of this `store`. Each lease in force gets one whole lease time from `now` (DESIGN.md, Protocol).
    pub fn recover(
        settings: Settings,
        store: StoreId,
        now: Moment,
        records: impl IntoIterator<Item = Record>,
    ) -> Self {
        let mut ledger = Ledger::default();
        for record in records {
            ledger.apply(&record);
        }
        let mut fleet = Fleet::new();
        for (id, lease) in ledger.leases_in_force() {
            let (incarnation, name) = ledger.holder(lease);
            let worker = fleet.entry(incarnation).or_insert_with(|| Worker::unheard(name.clone(), now));
            let (step, predicted) = remaining(&ledger, &ledger.run(lease.run).run, &settings.serve);
            worker.leases.insert(id, Held { predicted, step });
        }
        let mut order = Order::default();
        for (index, entry) in ledger.sweeps() {
            if settings.serve.serves(entry) {
                order.add(index, entry);
            }
        }
        let next_progress = now + settings.progress_every;
        Self {
            settings,
            store,
            ledger,
            fleet,
            order,
            failed_on: BTreeMap::new(),
            started: BTreeMap::new(),
            next_progress,
        }
    }

    /// What is known for good.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What is believed of the workers.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// When to tick next.
    pub fn next_deadline(&self) -> Moment {
        let silent = self.fleet.values().map(|worker| worker.deadline(self.settings.lease));
        silent.fold(self.next_progress, Moment::min)
    }

    /// What follows from `event`, at `now`.
    pub fn handle(&mut self, now: Moment, event: Event) -> Effects {
        let mut effects = Effects::default();
        match event {
            Event::Tick => self.on_tick(now, &mut effects),
            Event::WorkerJoined { stream, hello } => self.on_worker_joined(now, stream, hello, &mut effects),
            Event::StreamClosed { stream, incarnation } => {
                self.on_stream_closed(stream, incarnation, &mut effects);
            }
            Event::Said { stream, incarnation, saying } => {
                // A superseded stream's last messages come again on its successor.
                if let Some(worker) =
                    self.fleet.get_mut(&incarnation).filter(|one| one.stream == Some(stream))
                {
                    worker.heard = now;
                    self.on_said(incarnation, saying, &mut effects);
                }
            }
            Event::FormerWorkersGone => self.on_former_workers_gone(&mut effects),
            Event::Submit { request, sweep } => self.on_submit(request, *sweep, &mut effects),
            Event::Cancel { request, sweep } => self.on_cancel(request, sweep, &mut effects),
            Event::Retry { request, sweep } => self.on_retry(request, &sweep, &mut effects),
        }
        self.grant(now, &mut effects);
        effects
    }

    fn on_tick(&mut self, now: Moment, effects: &mut Effects) {
        let silent: Vec<Incarnation> = self
            .fleet
            .iter()
            .filter(|(_, worker)| worker.deadline(self.settings.lease) <= now)
            .map(|(&incarnation, _)| incarnation)
            .collect();
        for incarnation in silent {
            self.on_silence(now, incarnation, effects);
        }
        if self.next_progress <= now {
            self.next_progress = now + self.settings.progress_every;
            let running: Vec<Notice> = self
                .ledger
                .sweeps()
                .filter(|(_, entry)| self.settings.serve.serves(entry))
                .map(|(index, _)| self.progress_notice(now, index))
                .collect();
            effects.now.extend(running.into_iter().map(Effect::Announce));
        }
    }

    fn on_silence(&mut self, now: Moment, incarnation: Incarnation, effects: &mut Effects) {
        let worker = self.fleet.remove(&incarnation).expect("its silence was just seen");
        let silent = now.since(worker.heard);
        if let Some(stream) = worker.stream {
            effects.now.push(Effect::Close { stream });
        }
        for &lease in worker.leases.keys() {
            let run = self.ledger.lease(lease).expect("held leases were granted").run;
            let named = self.first_running_view(run);
            let resume = self.ledger.run(run).checkpoints.iter().map(|one| one.step).max();
            if let Some(run) = named {
                let resume = resume.unwrap_or(Step::new(0));
                effects.announce(Notice::LeaseExpired {
                    run,
                    worker: worker.name.clone(),
                    lease,
                    silent,
                    resume,
                });
            }
            self.end_lease(lease, Vec::new(), End::Expired { silent }, effects);
        }
        effects.announce(Notice::WorkerLeft { worker: worker.name, why: Leaving::Silent });
    }

    fn on_worker_joined(&mut self, now: Moment, stream: StreamId, hello: Hello, effects: &mut Effects) {
        let incarnation = hello.incarnation;
        let forget = self.is_foreign(&hello);
        let worker =
            self.fleet.entry(incarnation).or_insert_with(|| Worker::unheard(hello.worker.clone(), now));
        if let Some(former) = worker.stream.replace(stream) {
            effects.now.push(Effect::Close { stream: former });
        }
        worker.heard = now;
        if worker.hello.is_none() {
            effects.announce(Notice::WorkerJoined {
                worker: hello.worker.clone(),
                slots: hello.slots,
                isa: hello.isa.clone(),
                gflops_per_slot: hello.gflops_per_slot,
                numerics: hello.numerics,
            });
        }
        // After the commit, so that "acknowledged" speaks of durable reports only, and before the grants below it.
        let welcome = Welcome {
            heartbeat: self.settings.heartbeat,
            lease: self.settings.lease,
            checkpoint_every: self.settings.checkpoint_every,
            acknowledged: worker.handled,
            store: self.store,
            forget,
        };
        let held = if forget { LeasesHeld::default() } else { hello.held.clone() };
        worker.hello = Some(hello);
        effects.after_commit.push(Effect::Send { stream, message: CoordinatorMessage::Welcome(welcome) });
        if forget {
            let forgotten: Vec<LeaseId> = self.fleet[&incarnation].leases.keys().copied().collect();
            for lease in forgotten {
                self.end_lease(lease, Vec::new(), End::Absent, effects);
            }
        }
        self.grant_again(incarnation, held.received_max, effects);
        self.reconcile(incarnation, &held, effects);
    }

    /// Whether what the worker holds was granted by another store, or by a life of this one that its files have lost: they were
    /// brought back from a copy.
    fn is_foreign(&self, hello: &Hello) -> bool {
        hello.store.is_some_and(|store| store != self.store)
            || hello.held.received_max >= Some(self.ledger.next_lease())
    }

    /// Sends the recorded leases that the worker never received: their grant was lost with a stream.
    fn grant_again(&self, incarnation: Incarnation, received_max: Option<LeaseId>, effects: &mut Effects) {
        let worker = &self.fleet[&incarnation];
        let lost = worker.leases.keys().filter(|&&lease| Some(lease) > received_max);
        let leases: Vec<Lease> = lost.map(|&lease| self.lease_message(lease)).collect();
        if let Some(stream) = worker.stream {
            send_grants(stream, leases, effects);
        }
    }

    /// Brings the recorded leases of a worker and those it says it holds to one set.
    fn reconcile(&mut self, incarnation: Incarnation, held: &LeasesHeld, effects: &mut Effects) {
        let worker = &self.fleet[&incarnation];
        let gone: Vec<LeaseId> = worker
            .leases
            .keys()
            .copied()
            .filter(|lease| Some(*lease) <= held.received_max && !held.leases.contains(lease))
            .collect();
        let stale: Vec<LeaseId> =
            held.leases.iter().copied().filter(|lease| !worker.leases.contains_key(lease)).collect();
        if let (Some(stream), false) = (worker.stream, stale.is_empty()) {
            let message = CoordinatorMessage::Cancelled(stale);
            effects.after_commit.push(Effect::Send { stream, message });
        }
        for lease in gone {
            self.end_lease(lease, Vec::new(), End::Absent, effects);
        }
    }

    fn on_stream_closed(&mut self, stream: StreamId, incarnation: Incarnation, effects: &mut Effects) {
        let Some(worker) = self.fleet.get_mut(&incarnation).filter(|one| one.stream == Some(stream)) else {
            return;
        };
        worker.stream = None;
        // Others may come back within the lease time: a broken connection is no departure.
        if worker.draining && worker.leases.is_empty() {
            let worker = self.fleet.remove(&incarnation).expect("it was just found");
            effects.announce(Notice::WorkerLeft { worker: worker.name, why: Leaving::Drained });
        }
    }

    fn on_said(&mut self, incarnation: Incarnation, saying: Saying, effects: &mut Effects) {
        match saying {
            Saying::Heartbeat(held) => self.reconcile(incarnation, &held, effects),
            Saying::Progress { lease, step, loss: _ } => {
                let worker =
                    self.fleet.get_mut(&incarnation).expect("whoever says something is in the fleet");
                if let Some(held) = worker.leases.get_mut(&lease) {
                    held.step = step;
                }
            }
            Saying::CheckpointStored { lease, run, checkpoint } => {
                self.on_checkpoint_stored(incarnation, (lease, run), checkpoint, effects);
            }
            Saying::Reported { number, lease, run, report } => {
                self.on_reported(incarnation, number, (lease, run), report, effects);
            }
            Saying::Draining { received_max } => self.on_draining(incarnation, received_max, effects),
        }
    }

    /// What the worker has received it hands back by itself. A grant on its way may find it gone: nobody waits for that.
    fn on_draining(
        &mut self,
        incarnation: Incarnation,
        received_max: Option<LeaseId>,
        effects: &mut Effects,
    ) {
        let worker = self.fleet.get_mut(&incarnation).expect("whoever says something is in the fleet");
        worker.draining = true;
        let on_their_way: Vec<LeaseId> =
            worker.leases.keys().copied().filter(|&lease| Some(lease) > received_max).collect();
        for lease in on_their_way {
            self.end_lease(lease, Vec::new(), End::Absent, effects);
        }
    }

    fn on_checkpoint_stored(
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

    fn on_reported(
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

    /// Ends the lease of a run that nobody wants any more: cancelled, or answered under another lease.
    fn drop_unwanted(&mut self, run: RunId, effects: &mut Effects) {
        let Some(lease) = self.ledger.run(run).lease else { return };
        if self.ledger.is_wanted(run, |entry| self.settings.serve.counts(entry)) {
            return;
        }
        let (incarnation, _) = self.ledger.holder(self.ledger.lease(lease).expect("it is in force"));
        // What its own holder answers last comes with the lease's end, so this is never a lease about to finish.
        if let Some(stream) = self.fleet.get(&incarnation).and_then(|worker| worker.stream) {
            let message = CoordinatorMessage::Cancelled(vec![lease]);
            effects.after_commit.push(Effect::Send { stream, message });
        }
        self.end_lease(lease, Vec::new(), End::Cancelled, effects);
    }

    fn on_former_workers_gone(&mut self, effects: &mut Effects) {
        for (_, worker) in std::mem::take(&mut self.fleet) {
            for &lease in worker.leases.keys() {
                self.end_lease(lease, Vec::new(), End::Absent, effects);
            }
            effects.announce(Notice::WorkerLeft { worker: worker.name, why: Leaving::Former });
        }
    }

    fn on_submit(&mut self, request: RequestId, sweep: Sweep, effects: &mut Effects) {
        let reply = self.submit(sweep, effects);
        effects.after_commit.push(Effect::Reply { request, reply });
    }

    fn submit(&mut self, sweep: Sweep, effects: &mut Effects) -> Reply {
        if sweep.family().numerics != self.settings.numerics {
            return Reply::OtherNumerics { wanted: sweep.family().numerics, ours: self.settings.numerics };
        }
        if let Serve::Only(only) = &self.settings.serve
            && only != sweep.name()
        {
            return Reply::TakesNoOther { only: only.clone() };
        }
        let name = sweep.name().clone();
        let Some(index) = self.ledger.find_sweep(&name) else {
            let size = sweep.size();
            let work_tflop = sweep.flops().0 / 1e12;
            self.record(Record::SweepSubmitted(Box::new(sweep)), effects);
            let index = self.ledger.find_sweep(&name).expect("it was just submitted");
            self.order.add(index, self.ledger.sweep(index));
            effects.announce(Notice::SweepSubmitted {
                sweep: name.clone(),
                trials: size.trials,
                runs: size.runs,
                excluded: size.excluded,
                work_tflop,
            });
            if self.ledger.sweep(index).is_done() {
                self.announce_done(index, effects);
            }
            return Reply::Submitted { sweep: name, created: true };
        };
        let existing = &self.ledger.sweep(index);
        if existing.sweep.formula_hash() != sweep.formula_hash() {
            return Reply::NameTaken { existing: Box::new(existing.sweep.clone()) };
        }
        let (was_cancelled, policy) = (existing.cancelled, sweep.policy());
        if was_cancelled || existing.sweep.policy() != policy {
            self.record(Record::SweepResubmitted { sweep: name.clone(), policy }, effects);
            self.order.add(index, self.ledger.sweep(index));
        }
        Reply::Submitted { sweep: name, created: was_cancelled }
    }

    fn on_cancel(&mut self, request: RequestId, name: SweepName, effects: &mut Effects) {
        let reply = match self.ledger.find_sweep(&name) {
            None => self.no_such_sweep(),
            Some(index) => {
                let entry = self.ledger.sweep(index);
                if entry.is_active() {
                    let running: Vec<RunId> = entry.runs().map(|(_, run)| run).collect();
                    self.record(Record::SweepCancelled { sweep: name.clone() }, effects);
                    for run in running {
                        self.drop_unwanted(run, effects);
                    }
                    let counts = self.ledger.sweep(index).counts;
                    effects.announce(Notice::SweepCancelled { sweep: name.clone(), counts });
                }
                Reply::Cancelled { sweep: name }
            }
        };
        effects.after_commit.push(Effect::Reply { request, reply });
    }

    fn on_retry(&mut self, request: RequestId, name: &SweepName, effects: &mut Effects) {
        let reply = match self.ledger.find_sweep(name) {
            None => self.no_such_sweep(),
            Some(index) => {
                let failed = |run: &RunId| {
                    let mut views = self.ledger.run(*run).views();
                    views.any(|(sweep, _, state)| sweep == index && state == RunState::Failed)
                };
                let runs: Vec<RunKey> = self
                    .ledger
                    .sweep(index)
                    .runs()
                    .map(|(_, run)| run)
                    .filter(failed)
                    .map(|run| self.ledger.run(run).run.key())
                    .collect();
                let count = runs.len() as u64;
                if count > 0 {
                    self.record(Record::RunsRetried { runs }, effects);
                }
                Reply::Retried { runs: count }
            }
        };
        effects.after_commit.push(Effect::Reply { request, reply });
    }

    fn no_such_sweep(&self) -> Reply {
        Reply::NoSuchSweep {
            known: self.ledger.sweeps().map(|(_, entry)| entry.sweep.name().clone()).collect(),
        }
    }

    /// Leases waiting runs to workers with idle slots, the fastest first, and a little ahead of them.
    fn grant(&mut self, now: Moment, effects: &mut Effects) {
        let waits = |scheduler: &Self| {
            let mut sweeps = scheduler.ledger.sweeps();
            sweeps
                .any(|(_, one)| scheduler.settings.serve.serves(one) && one.counts.of(RunState::Waiting) > 0)
        };
        if !waits(self) {
            return;
        }
        let mut takers: Vec<(Incarnation, f64)> = self
            .fleet
            .iter()
            .filter(|(_, worker)| worker.takes_leases() && (worker.idle_slots() > 0 || worker.wants_ahead()))
            .map(|(&incarnation, worker)| (incarnation, worker.speed()))
            .collect();
        takers.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        // Every idle slot first: what one worker holds ahead must not leave another idle.
        for &(incarnation, _) in &takers {
            self.grant_while(now, incarnation, |worker| worker.idle_slots() > 0, effects);
        }
        for &(incarnation, _) in &takers {
            self.grant_while(now, incarnation, Worker::wants_ahead, effects);
        }
    }

    fn grant_while(
        &mut self,
        now: Moment,
        incarnation: Incarnation,
        takes: impl Fn(&Worker) -> bool,
        effects: &mut Effects,
    ) {
        let first = self.ledger.next_lease();
        let mut granted: Vec<(LeaseId, SweepIndex, Run)> = Vec::new();
        let mut passed_over = Vec::new();
        let mut next = first;
        while takes(&self.fleet[&incarnation]) {
            let Some((sweep, number, at)) = self.order.take(&self.ledger, &self.settings.serve) else {
                break;
            };
            let run = self.ledger.sweep(sweep).sweep.run(at);
            if self.failed_here(incarnation, &run) {
                passed_over.push((sweep, number));
                continue;
            }
            // Two sweeps that want one run may both offer it before the record below takes it from both.
            if granted.iter().any(|(_, _, earlier)| *earlier == run) {
                continue;
            }
            let (from, seconds) = remaining(&self.ledger, &run, &self.settings.serve);
            let worker = self.fleet.get_mut(&incarnation).expect("a taker is in the fleet");
            let predicted = seconds / worker.speed();
            worker.leases.insert(next, Held { predicted, step: from });
            granted.push((next, sweep, run));
            next = LeaseId::new(next.number() + 1);
            self.started.entry(sweep).or_insert((now, self.ledger.sweep(sweep).work_over_s));
        }
        for (sweep, number) in passed_over {
            self.order.put_back(sweep, number, &self.ledger);
        }
        if granted.is_empty() {
            return;
        }
        let worker = &self.fleet[&incarnation];
        let (name, stream) = (worker.name.clone(), worker.stream);
        let grants = granted.iter().map(|&(_, _, run)| Grant { kind: LeaseKind::Primary, run }).collect();
        self.record(Record::RunsLeased { incarnation, worker: name.clone(), first, grants }, effects);
        let mut leases = Vec::with_capacity(granted.len());
        for (lease, sweep, _) in granted {
            let message = self.lease_message(lease);
            let id = self.ledger.lease(lease).expect("it was just granted").run;
            let known = self.ledger.run(id);
            let mut views = known.views();
            let number = views.find(|(of, _, _)| *of == sweep).expect("the sweep's own run").1;
            effects.announce(Notice::RunLeased {
                run: self.named(sweep, number, id),
                worker: name.clone(),
                lease,
                attempt: known.failures + 1,
                resume: message.resume.map(|checkpoint| checkpoint.step),
            });
            leases.push(message);
        }
        if let Some(stream) = stream {
            send_grants(stream, leases, effects);
        }
    }

    /// Whether `run` failed last on this incarnation while others are there to try it: a poison worker must not spend the
    /// attempts of every run (L3).
    fn failed_here(&self, incarnation: Incarnation, run: &Run) -> bool {
        let last = self.ledger.find(&run.key()).and_then(|id| self.failed_on.get(&id));
        let mut others =
            self.fleet.iter().filter(|&(&other, worker)| other != incarnation && worker.takes_leases());
        last == Some(&incarnation) && others.next().is_some()
    }

    fn lease_message(&self, lease: LeaseId) -> Lease {
        let id = self.ledger.lease(lease).expect("only granted leases are sent").run;
        let run = self.ledger.run(id).run;
        let mut wanted = self.ledger.wanted(&run, |entry| self.settings.serve.counts(entry));
        // Several sweeps together may want more than a lease may name. The rest is for the run's next lease.
        wanted.truncate(WANTED_STEPS_MAX);
        let resume = wanted.first().and_then(|&first| self.ledger.resume_from(id, first));
        let default = self.settings.checkpoint_every;
        let shortest =
            self.ledger.policies(id).map(|policy| policy.checkpoint_every.unwrap_or(default)).min();
        let checkpoint_every = shortest.filter(|&shortest| shortest != default);
        Lease { id: lease, kind: LeaseKind::Primary, run, wanted, resume, checkpoint_every }
    }

    /// Records the end of a lease, whoever ended it, and says what that means in every sweep that wants the run.
    fn end_lease(&mut self, lease: LeaseId, milestones: Vec<Milestone>, end: End, effects: &mut Effects) {
        let entry = self.ledger.lease(lease).copied().expect("only granted leases end");
        let (incarnation, worker) = self.ledger.holder(&entry);
        let worker = worker.clone();
        if let Some(holder) = self.fleet.get_mut(&incarnation) {
            holder.leases.remove(&lease);
        }
        match &end {
            End::Reported(LeaseEnd::Failed { .. }) => self.failed_on.insert(entry.run, incarnation),
            End::Reported(_) | End::Expired { .. } | End::Absent | End::Cancelled => {
                self.failed_on.remove(&entry.run)
            }
        };
        let why = match &end {
            End::Reported(LeaseEnd::Failed { reason, .. }) => Requeue::Failed(*reason),
            End::Reported(LeaseEnd::HandedBack) => Requeue::HandedBack,
            End::Reported(LeaseEnd::Finished | LeaseEnd::Diverged { .. }) => Requeue::MoreWanted,
            End::Expired { .. } => Requeue::WorkerLost,
            End::Absent | End::Cancelled => Requeue::Absent,
        };
        let transitions = self.record(Record::LeaseEnded { lease, milestones, end }, effects);
        for transition in transitions.iter().filter(|one| one.to == RunState::Waiting) {
            let run = self.named(transition.sweep, transition.number, transition.run);
            effects.announce(Notice::RunRequeued { run, worker: worker.clone(), lease, why });
        }
    }

    /// Applies a record and lists it for the commit; puts back what waits again, and tells which runs and sweeps are over.
    fn record(&mut self, record: Record, effects: &mut Effects) -> Vec<Transition> {
        let transitions = self.ledger.apply(&record);
        effects.records.push(record);
        let mut ended = BTreeSet::new();
        for transition in &transitions {
            match transition.to {
                RunState::Waiting => self.order.put_back(transition.sweep, transition.number, &self.ledger),
                RunState::Running | RunState::Cancelled => (),
                RunState::Done | RunState::Diverged | RunState::Failed => {
                    self.announce_over(transition, effects);
                    ended.insert(transition.sweep);
                }
            }
        }
        for sweep in ended {
            if self.ledger.sweep(sweep).is_done() {
                self.announce_done(sweep, effects);
            }
        }
        transitions
    }

    fn announce_over(&self, over: &Transition, effects: &mut Effects) {
        let run = self.named(over.sweep, over.number, over.run);
        let known = self.ledger.run(over.run);
        let last = known.last_lease.and_then(|lease| self.ledger.lease(lease));
        let Some(last) = last else { return };
        let worker = self.ledger.holder(last).1.clone();
        match over.to {
            RunState::Done => effects.announce(Notice::RunDone { run, worker }),
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

    fn announce_done(&self, sweep: SweepIndex, effects: &mut Effects) {
        let entry = self.ledger.sweep(sweep);
        effects.announce(Notice::SweepDone {
            sweep: entry.sweep.name().clone(),
            counts: entry.counts,
            best: entry.points.best(),
        });
    }

    /// A line for each sweep whose trial, or whose curve, the milestone answers.
    fn announce_milestone(&self, run: RunId, lease: LeaseId, milestone: &Milestone, effects: &mut Effects) {
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

    fn named(&self, sweep: SweepIndex, number: slalom_common::id::RunNumber, run: RunId) -> Named {
        let entry = self.ledger.sweep(sweep);
        Named { sweep: entry.sweep.name().clone(), run: number, at: self.ledger.run(run).coordinates() }
    }

    fn first_running_view(&self, run: RunId) -> Option<Named> {
        let (sweep, number, _) =
            self.ledger.run(run).views().find(|(_, _, state)| *state == RunState::Running)?;
        Some(self.named(sweep, number, run))
    }

    fn any_view(&self, run: RunId) -> Option<Named> {
        let (sweep, number, _) = self.ledger.run(run).views().next()?;
        Some(self.named(sweep, number, run))
    }
}

/// Sends grants in as many messages as their wanted steps take.
fn send_grants(stream: StreamId, leases: Vec<Lease>, effects: &mut Effects) {
    let mut send = |message: Vec<Lease>| {
        let message = CoordinatorMessage::Grants(message);
        effects.after_commit.push(Effect::Send { stream, message });
    };
    let (mut message, mut steps) = (Vec::new(), 0);
    for lease in leases {
        if message.len() == GRANT_LEASES_MAX || steps + lease.wanted.len() > GRANT_STEPS_MAX {
            send(std::mem::take(&mut message));
            steps = 0;
        }
        steps += lease.wanted.len();
        message.push(lease);
    }
    if !message.is_empty() {
        send(message);
    }
}

/// Where a run would go on, and the seconds of the reference core from there to its last wanted step.
fn remaining(ledger: &Ledger, run: &Run, serve: &Serve) -> (Step, f64) {
    let wanted = ledger.wanted(run, |entry| serve.counts(entry));
    let resume = ledger
        .find(&run.key())
        .zip(wanted.first())
        .and_then(|(id, &first_wanted)| ledger.resume_from(id, first_wanted));
    let from = resume.map_or(Step::new(0), |checkpoint| checkpoint.step);
    let to = wanted.last().copied().unwrap_or(from);
    (from, REFERENCE.run_seconds(run.shape, from, to, wanted.len(), run.family.valid_size))
}
