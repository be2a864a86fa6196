//! What workers come and go by: greetings, streams, silence, and which leases each side believes in.

use slalom_common::id::{Incarnation, LeaseId, Step};
use slalom_common::message::{CoordinatorMessage, Hello, Lease, LeasesHeld, Welcome};
use slalom_common::moment::Moment;

use super::Scheduler;
use super::effect::{Effect, Effects, Leaving, Notice};
use super::event::{Saying, StreamId};
use super::fleet::{Readiness, Worker};
use super::grants::send_grants;
use super::record::End;

impl Scheduler {
    pub(super) fn on_silence(&mut self, now: Moment, incarnation: Incarnation, effects: &mut Effects) {
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

    pub(super) fn on_worker_joined(
        &mut self,
        now: Moment,
        stream: StreamId,
        hello: Hello,
        effects: &mut Effects,
    ) {
        let incarnation = hello.incarnation;
        let forget = self.is_foreign(&hello);
        let worker =
            self.fleet.entry(incarnation).or_insert_with(|| Worker::unheard(hello.worker.clone(), now));
        if let Some(former) = worker.stream.replace(stream) {
            effects.now.push(Effect::Close { stream: former });
        }
        worker.heard = now;
        let is_new = worker.hello.is_none();
        if is_new {
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
        let name = self.fleet[&incarnation].name.clone();
        if is_new {
            self.announce_if_paused(&name, effects);
        }
        if self.ledger.is_drained(incarnation) {
            self.tell_to_drain(incarnation, effects);
        }
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

    /// Sends the recorded leases that the worker never received: their grant was lost with a stream. Those that only a paused
    /// sweep would want by now, or whose worker is to leave, are withheld: to send them would begin what is to wait. They do not
    /// end yet: this hello may be the late one of a stream that the worker has given up, and it trains them.
    fn grant_again(
        &mut self,
        incarnation: Incarnation,
        received_max: Option<LeaseId>,
        effects: &mut Effects,
    ) {
        let worker = &self.fleet[&incarnation];
        let (stream, takes_leases) = (worker.stream, worker.takes_leases());
        let lost: Vec<LeaseId> =
            worker.leases.keys().copied().filter(|&lease| Some(lease) > received_max).collect();
        let (wanted, unwanted): (Vec<LeaseId>, Vec<LeaseId>) = lost.into_iter().partition(|&lease| {
            let run = self.ledger.lease(lease).expect("held leases were granted").run;
            takes_leases && self.ledger.is_wanted(run, |entry| self.settings.serve.serves(entry))
        });
        let leases: Vec<Lease> = wanted.into_iter().map(|lease| self.lease_message(lease)).collect();
        if let Some(stream) = stream {
            send_grants(stream, leases, effects);
        }
        let worker = self.fleet.get_mut(&incarnation).expect("whoever greets is in the fleet");
        worker.withheld = unwanted.into_iter().collect();
    }

    /// Ends what was withheld from the worker since its hello and is not held. A heartbeat follows the welcome that answers the
    /// hello, so unlike the hello it is no word of an earlier stream, on which a grant came after all.
    fn end_withheld(&mut self, incarnation: Incarnation, held: &LeasesHeld, effects: &mut Effects) {
        let worker = self.fleet.get_mut(&incarnation).expect("whoever says something is in the fleet");
        let mut gone = std::mem::take(&mut worker.withheld);
        gone.retain(|lease| worker.leases.contains_key(lease) && !held.leases.contains(lease));
        for lease in gone {
            self.end_lease(lease, Vec::new(), End::Absent, effects);
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

    pub(super) fn on_stream_closed(
        &mut self,
        stream: StreamId,
        incarnation: Incarnation,
        effects: &mut Effects,
    ) {
        let Some(worker) = self.fleet.get_mut(&incarnation).filter(|one| one.stream == Some(stream)) else {
            return;
        };
        worker.stream = None;
        // Others may come back within the lease time: a broken connection is no departure.
        if worker.readiness == Readiness::Draining && worker.leases.is_empty() {
            let worker = self.fleet.remove(&incarnation).expect("it was just found");
            effects.announce(Notice::WorkerLeft { worker: worker.name, why: Leaving::Drained });
        }
    }

    pub(super) fn on_said(
        &mut self,
        now: Moment,
        incarnation: Incarnation,
        saying: Saying,
        effects: &mut Effects,
    ) {
        match saying {
            Saying::Heartbeat(held) => {
                self.end_withheld(incarnation, &held, effects);
                self.reconcile(incarnation, &held, effects);
            }
            Saying::Progress { lease, step, loss: _ } => {
                let worker =
                    self.fleet.get_mut(&incarnation).expect("whoever says something is in the fleet");
                worker.on_progress(now, lease, step);
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
        worker.readiness = Readiness::Draining;
        let on_their_way: Vec<LeaseId> =
            worker.leases.keys().copied().filter(|&lease| Some(lease) > received_max).collect();
        for lease in on_their_way {
            self.end_lease(lease, Vec::new(), End::Absent, effects);
        }
    }

    /// Asks a worker to hand back what it holds and leave, and gives it nothing from now on.
    pub(super) fn tell_to_drain(&mut self, incarnation: Incarnation, effects: &mut Effects) {
        let Some(worker) = self.fleet.get_mut(&incarnation) else { return };
        if worker.readiness == Readiness::Ready {
            worker.readiness = Readiness::ToldToDrain;
        }
        if let Some(stream) = worker.stream {
            effects.after_commit.push(Effect::Send { stream, message: CoordinatorMessage::Drain });
        }
    }

    pub(super) fn on_former_workers_gone(&mut self, effects: &mut Effects) {
        for (_, worker) in std::mem::take(&mut self.fleet) {
            for &lease in worker.leases.keys() {
                self.end_lease(lease, Vec::new(), End::Absent, effects);
            }
            effects.announce(Notice::WorkerLeft { worker: worker.name, why: Leaving::Former });
        }
    }
}
