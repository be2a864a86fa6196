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
//! | pause, stop, resume | | | | | |
//! | cancel | cancelled | cancelled; the lease ends unless another active sweep wants the run | | cancelled | |
//! | the sweep is submitted again | | | | | waiting |
//! | the sweep is extended: more of it is wanted | | | waiting | | |
//! | retry | | | | waiting | |
//!
//! A run that was lost three times in a row without a new milestone or checkpoint is leased alone from then on: to a worker that
//! holds nothing, which gets nothing beside it. One worker at a time is cleared for such a run, when its turn comes.
//!
//! When no run waits, a slot that is free is granted a copy of the run that would end last, if it saves a quarter of that time and
//! a second. A copy moves no run, and spends no attempt; it takes the place of the run's lease if that ends while answers are missing, and
//! is told to stop when all are in or the run is given up.
//!
//! A worker that a person drains, which holds until its process is gone: its leases go on until it hands them back, a grant that
//! was lost on its way to it ends at its next heartbeat, and each hello is answered by the word that it is to drain. Sweeps know nothing of it.
//!
//! A worker on which three runs in a row fail, none of them answering anything, is paused by its name, whatever process it is: it
//! goes on with what it holds and is granted nothing until a person resumes it. The worker of a `slalom run` never is.
//!
//! A sweep, and what moves it. A slot that is free takes no run for a sweep that is paused or stopping, and no lease names a
//! step that only such a sweep wants; leases in force go on. A sweep whose last run is over is done from any state but cancelled.
//!
//! | event | active | paused | stopping | done | cancelled |
//! | --- | --- | --- | --- | --- | --- |
//! | pause | paused | | paused | | |
//! | stop | stopping; paused if none of its runs is leased | as active | | | |
//! | resume | | active | active | | |
//! | the last lease on a run of it ends | | | paused | | |
//! | cancel | cancelled | cancelled | cancelled | | |
//! | retry | | | | what it was before, if a run of it had failed | |
//! | it is submitted again | | | | | active |
//! | it is extended | | | | active, unless all that came to it is answered | refused |

pub mod answers;
pub mod best;
mod calls;
mod copies;
pub mod effect;
pub mod event;
pub mod fleet;
mod grants;
mod horizon;
pub mod invariants;
pub mod ledger;
mod notices;
pub mod order;
pub mod record;
mod reports;
mod workers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slalom_common::answer::RunState;
use slalom_common::cost::Work;
use slalom_common::id::{Incarnation, NumericsVersion, RunId, StoreId, WorkerName};
use slalom_common::message::Report;
use slalom_common::moment::Moment;

use effect::{Effect, Effects, Notice};
use event::{Event, Saying};
use fleet::{Fleet, Worker};
use grants::Clearing;
use ledger::{Ledger, SweepIndex, Transition};
use order::{Order, Serve};
use record::Record;

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
    /// For which run that is leased alone a worker is cleared: else such a run would wait for ever in a busy fleet.
    clearing: Option<Clearing>,
    /// When each sweep was first worked on in this life, and the work done by then: for the ETA.
    started: BTreeMap<SweepIndex, (Moment, Work)>,
    next_progress: Moment,
    /// When copies are next thought of, and when a report that frees nothing is next a reason to.
    next_copies: Moment,
    next_look: Moment,
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
            let held = grants::remaining(now, &ledger, &ledger.run(lease.run).run, |entry| {
                settings.serve.keeps(entry)
            });
            worker.leases.insert(id, held);
        }
        let mut order = Order::default();
        for (index, entry) in ledger.sweeps() {
            // Also of what is paused: whoever resumes it need not wait for a sort.
            if settings.serve.keeps(entry) && !entry.is_done() {
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
            clearing: None,
            started: BTreeMap::new(),
            next_progress,
            next_copies: now,
            next_look: now,
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
        let may_free_nothing = matches!(
            event,
            Event::Said {
                saying: Saying::Progress { .. }
                    | Saying::CheckpointStored { .. }
                    | Saying::Reported { report: Report::Milestone(_), .. },
                ..
            }
        );
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
                    self.on_said(now, incarnation, saying, &mut effects);
                }
            }
            Event::FormerWorkersGone => self.on_former_workers_gone(&mut effects),
            Event::Submit { request, sweep } => self.on_submit(request, *sweep, &mut effects),
            Event::Extend { request, sweep } => self.on_extend(request, *sweep, &mut effects),
            Event::Cancel { request, sweep } => self.on_cancel(request, sweep, &mut effects),
            Event::Steer { request, sweep, steering } => {
                self.on_steer(request, sweep, steering, &mut effects);
            }
            Event::Drain { request, worker } => self.on_drain(request, worker, &mut effects),
            Event::ResumeWorker { request, worker } => {
                self.on_resume_worker(request, worker, &mut effects);
            }
            Event::Retry { request, sweep } => self.on_retry(request, &sweep, &mut effects),
        }
        // To look at every worker after each of their milestones is what a large fleet cannot afford, and what most need not.
        if may_free_nothing
            && !effects.records.iter().any(|record| matches!(record, Record::LeaseEnded { .. }))
        {
            if self.next_look <= now {
                self.next_look = now + copies::LOOKS_EVERY;
                self.grant_copies(now, &mut effects);
            }
        } else {
            self.grant(now, &mut effects);
        }
        effects
    }

    /// Whether this worker is granted nothing because run after run failed on it. The only worker there is goes on: the runs'
    /// own attempts bound what it fails.
    pub(super) fn pauses(&self, worker: &WorkerName) -> bool {
        !matches!(self.settings.serve, Serve::Only(_)) && self.ledger.is_paused(worker)
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
}
