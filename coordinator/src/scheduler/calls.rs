//! What people ask for: submit, extend, cancel, steer, retry, drain, resume a worker. Each is answered after the commit of what it changed.

use std::collections::BTreeSet;

use slalom_common::answer::RunState;
use slalom_common::id::{Incarnation, RunId, RunKey, SweepName, WorkerName};
use slalom_common::sweep::Sweep;

use super::Scheduler;
use super::effect::{Effect, Effects, Notice, Reply};
use super::event::{RequestId, Steering};
use super::order::Serve;
use super::record::Record;

impl Scheduler {
    pub(super) fn on_submit(&mut self, request: RequestId, sweep: Sweep, effects: &mut Effects) {
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
            let submitted = announcement(&sweep, None);
            self.record(Record::SweepSubmitted(Box::new(sweep)), effects);
            let index = self.ledger.find_sweep(&name).expect("it was just submitted");
            self.order.add(index, self.ledger.sweep(index));
            effects.announce(submitted);
            if self.ledger.sweep(index).is_done() {
                self.announce_done(index, effects);
            }
            return Reply::Submitted { sweep: name, created: true };
        };
        let existing = &self.ledger.sweep(index);
        if !existing.sweep.is_meant_by(&sweep) {
            return Reply::NameTaken { existing: Box::new(existing.sweep.clone()) };
        }
        let (was_cancelled, policy) = (existing.is_cancelled(), sweep.policy());
        if was_cancelled || existing.sweep.policy() != policy {
            self.record(Record::SweepResubmitted { sweep: name.clone(), policy }, effects);
        }
        if was_cancelled {
            let again = self.ledger.sweep(index);
            self.order.add(index, again);
            effects.announce(announcement(&again.sweep, None));
        }
        Reply::Submitted { sweep: name, created: was_cancelled }
    }

    pub(super) fn on_extend(&mut self, request: RequestId, sweep: Sweep, effects: &mut Effects) {
        let reply = self.extend(sweep, effects);
        effects.after_commit.push(Effect::Reply { request, reply });
    }

    /// `sweep` was made of the formula that was here a moment ago, beside the driver: to count its runs takes long.
    fn extend(&mut self, sweep: Sweep, effects: &mut Effects) -> Reply {
        let name = sweep.name().clone();
        let Some(index) = self.ledger.find_sweep(&name) else {
            return self.no_such_sweep();
        };
        let existing = self.ledger.sweep(index);
        if existing.is_cancelled() {
            return Reply::IsCancelled { sweep: name };
        }
        if sweep == existing.sweep {
            return Reply::Extended { sweep: name };
        }
        if !sweep.extends(&existing.sweep) {
            return Reply::Outdated;
        }
        let added = sweep.size().trials - existing.sweep.size().trials;
        self.record(Record::SweepExtended(Box::new(sweep)), effects);
        let extended = self.ledger.sweep(index);
        self.order.add(index, extended);
        // What it took until now to do says nothing of what there is to do now.
        self.started.remove(&index);
        effects.announce(announcement(&extended.sweep, Some(added)));
        if extended.is_done() {
            self.announce_done(index, effects);
        }
        Reply::Extended { sweep: name }
    }

    pub(super) fn on_cancel(&mut self, request: RequestId, name: SweepName, effects: &mut Effects) {
        let reply = match self.ledger.find_sweep(&name) {
            None => self.no_such_sweep(),
            Some(index) => {
                let entry = self.ledger.sweep(index);
                if !entry.state().is_over() {
                    let running: Vec<RunId> = entry.runs().map(|(_, run)| run).collect();
                    self.record(Record::SweepCancelled { sweep: name.clone() }, effects);
                    for run in running {
                        self.drop_unwanted(run, effects);
                    }
                    self.announce_course(index, effects);
                }
                Reply::Cancelled { sweep: name }
            }
        };
        effects.after_commit.push(Effect::Reply { request, reply });
    }

    pub(super) fn on_steer(
        &mut self,
        request: RequestId,
        name: SweepName,
        steering: Steering,
        effects: &mut Effects,
    ) {
        let reply = match self.ledger.find_sweep(&name) {
            None => self.no_such_sweep(),
            Some(index) => {
                let entry = self.ledger.sweep(index);
                if entry.steered(steering) != entry.course {
                    self.record(Record::SweepSteered { sweep: name.clone(), steering }, effects);
                    self.announce_course(index, effects);
                    // What it took until now to do says nothing of how fast it goes on.
                    self.started.remove(&index);
                }
                Reply::Steered { sweep: name }
            }
        };
        effects.after_commit.push(Effect::Reply { request, reply });
    }

    pub(super) fn on_retry(&mut self, request: RequestId, name: &SweepName, effects: &mut Effects) {
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

    /// Drains the processes that are known by this name now: one that is started later serves.
    pub(super) fn on_drain(&mut self, request: RequestId, name: WorkerName, effects: &mut Effects) {
        let reply = self.drain(name, effects);
        effects.after_commit.push(Effect::Reply { request, reply });
    }

    fn drain(&mut self, name: WorkerName, effects: &mut Effects) -> Reply {
        if let Serve::Only(only) = &self.settings.serve {
            return Reply::KeepsItsWorker { only: only.clone() };
        }
        let named: Vec<Incarnation> =
            self.fleet.iter().filter(|(_, worker)| worker.name == name).map(|(&one, _)| one).collect();
        // Whoever asks again hears the same, also when the worker has left meanwhile.
        if named.is_empty() && !self.ledger.has_drained(&name) {
            let known: BTreeSet<WorkerName> = self.fleet.values().map(|worker| worker.name.clone()).collect();
            return Reply::NoSuchWorker { known: known.into_iter().collect() };
        }
        let incarnations: Vec<Incarnation> =
            named.into_iter().filter(|&one| !self.ledger.is_drained(one)).collect();
        if !incarnations.is_empty() {
            let record = Record::WorkerDrained { worker: name.clone(), incarnations: incarnations.clone() };
            self.record(record, effects);
        }
        for incarnation in incarnations {
            self.tell_to_drain(incarnation, effects);
            let leases = self.fleet[&incarnation].leases.len() as u64;
            effects.announce(Notice::WorkerDraining { worker: name.clone(), leases });
        }
        Reply::Draining { worker: name }
    }

    pub(super) fn on_resume_worker(&mut self, request: RequestId, name: WorkerName, effects: &mut Effects) {
        let mut known: BTreeSet<&WorkerName> = self.fleet.values().map(|worker| &worker.name).collect();
        known.extend(self.ledger.paused_workers());
        let reply = if known.contains(&name) {
            if self.ledger.is_paused(&name) {
                self.record(Record::WorkerResumed { worker: name.clone() }, effects);
                effects.announce(Notice::WorkerResumed { worker: name.clone() });
            }
            Reply::WorkerResumed { worker: name }
        } else {
            Reply::NoSuchWorker { known: known.into_iter().cloned().collect() }
        };
        effects.after_commit.push(Effect::Reply { request, reply });
    }

    fn no_such_sweep(&self) -> Reply {
        Reply::NoSuchSweep {
            known: self.ledger.sweeps().map(|(_, entry)| entry.sweep.name().clone()).collect(),
        }
    }
}

/// That `sweep` is active from now on, for the first time or again; or that so many trials were `added` to it.
fn announcement(sweep: &Sweep, added: Option<u64>) -> Notice {
    let (size, work_tflop) = (sweep.size(), sweep.flops().0 / 1e12);
    let sweep = sweep.name().clone();
    match added {
        None => Notice::SweepSubmitted { sweep, size, work_tflop },
        Some(added) => Notice::SweepExtended { sweep, added, size, work_tflop },
    }
}
