//! The scheduler, event by event: data in, effects out, invariants after each.

use proptest::prelude::*;
use slalom_common::answer::TrialRow;
use slalom_common::axis::Axis;
use slalom_common::cost::{Coefficients, REFERENCE, Work};
use slalom_common::filter::Filter;
use slalom_common::grid::{Axes, Grid};
use slalom_common::id::{ContentHash, LeaseId, MessageNumber, Step, SweepName, WorkerName};
use slalom_common::message::{
    CheckpointName, CoordinatorMessage, Hello, Lease, LeaseEnd, LeaseKind, LeasesHeld, PROTOCOL_VERSION,
    Report, Welcome,
};
use slalom_common::outcome::{FailureReason, Measured, Milestone, Perplexity};
use slalom_common::run::{Family, Run};
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::{CorpusFacts, Draft, Policy, Size, StepsPerEpoch, Sweep};
use slalom_common::trials;

use super::effect::{Leaving, Reply};
use super::event::{RequestId, Saying, StreamId};
use super::*;

mod alone;
mod answers;
mod conduct;
mod copies;
mod fates;
mod grants;
mod losses;
mod speeds;
mod steering;
mod stores;
mod sweeps;

const LEASE: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings {
        heartbeat: Duration::from_secs(5),
        lease: LEASE,
        checkpoint_every: Duration::from_mins(1),
        progress_every: Duration::from_secs(10),
        numerics: NumericsVersion::new(1),
        serve: Serve::All,
    }
}

fn axis(values: &[u64]) -> Axis {
    Axis::new(values.to_vec()).expect("a valid axis")
}

fn draft(name: &str) -> Draft {
    let axes = Axes {
        nodes: axis(&[256, 512]),
        batch_size: axis(&[64]),
        unrollings: axis(&[10, 20]),
        epochs: axis(&[500, 1000]),
        seed: axis(&[0]),
    };
    Draft {
        name: Some(name.parse().expect("a valid name")),
        family: Family {
            corpus: ContentHash::of(b"a text"),
            valid_size: 1000,
            training: TrainingSettings::default(),
            numerics: NumericsVersion::new(1),
        },
        corpus: CorpusFacts { written: "synthetic".to_owned(), chars: 1_000_000 },
        blocks: vec![Grid::new(axes, Vec::new()).expect("a valid grid")],
        steps_per_epoch: StepsPerEpoch::Steps(1),
        eval_every: 0,
        policy: Policy::default(),
    }
}

fn sweep(name: &str) -> Sweep {
    Sweep::new(draft(name)).expect("a valid sweep")
}

fn name(text: &str) -> SweepName {
    text.parse().expect("a valid name")
}

/// What a trainer would measure: a pure function of run and step.
fn measured(run: &Run, step: Step) -> Milestone {
    let key = u64::from(run.key().bytes()[0]);
    let value = 2.0 + (key + step.number()) as f64 / 1000.0;
    Milestone {
        step,
        measured: Measured::Perplexity(Perplexity::new(value).expect("a finite number")),
        loss: Some(1.0),
    }
}

/// A scheduler, its clock and its store: every record is kept, and invariants are checked after every event.
struct World {
    scheduler: Scheduler,
    store: StoreId,
    now: Moment,
    records: Vec<Record>,
    next_id: u64,
}

impl World {
    fn new() -> Self {
        Self::on(StoreId::new(9))
    }

    /// On an empty store of this id.
    fn on(store: StoreId) -> Self {
        let now = Moment::default();
        let scheduler = Scheduler::recover(settings(), store, now, Vec::new());
        Self { scheduler, store, now, records: Vec::new(), next_id: 0 }
    }

    fn handle(&mut self, event: Event) -> Effects {
        let before = self.scheduler.ledger().clone();
        let effects = self.scheduler.handle(self.now, event);
        invariants::check_grants(&before, &effects.records)
            .expect("no lease is granted that nobody asks for");
        self.records.extend(effects.records.clone());
        invariants::check(&self.scheduler).expect("no invariant is broken");
        effects
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn submit(&mut self, sweep: Sweep) -> (Reply, Effects) {
        let request = RequestId(self.fresh());
        let effects = self.handle(Event::Submit { request, sweep: Box::new(sweep) });
        (reply(&effects), effects)
    }

    fn join(&mut self, worker: &str, slots: u32) -> (Peer, Effects) {
        self.join_at(worker, slots, REFERENCE)
    }

    fn join_at(&mut self, worker: &str, slots: u32, cost: Coefficients) -> (Peer, Effects) {
        let peer = Peer {
            cost,
            incarnation: Incarnation::new(self.fresh().into()),
            worker: worker.parse().expect("a valid name"),
            slots,
            stream: StreamId(0),
            reports: 0,
            store: None,
        };
        self.greet(peer, LeasesHeld::default())
    }

    fn greet(&mut self, mut peer: Peer, held: LeasesHeld) -> (Peer, Effects) {
        peer.stream = StreamId(self.fresh());
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            worker: peer.worker.clone(),
            incarnation: peer.incarnation,
            slots: peer.slots,
            numerics: NumericsVersion::new(1),
            known_run: Some(ContentHash::of(b"known")),
            isa: "portable".to_owned(),
            speed: 1.0,
            gflops_per_slot: 1.0,
            cost: peer.cost,
            held,
            store: peer.store.replace(self.store),
        };
        let effects = self.handle(Event::WorkerJoined { stream: peer.stream, hello });
        (peer, effects)
    }

    fn say(&mut self, peer: &Peer, saying: Saying) -> Effects {
        self.handle(Event::Said { stream: peer.stream, incarnation: peer.incarnation, saying })
    }

    fn report(&mut self, peer: &mut Peer, lease: &Lease, report: Report) -> Effects {
        peer.reports += 1;
        let number = MessageNumber::new(peer.reports);
        self.say(peer, Saying::Reported { number, lease: lease.id, run: lease.run.key(), report })
    }

    fn finish(&mut self, peer: &mut Peer, lease: &Lease) -> Effects {
        let milestones = lease.wanted.iter().map(|&step| measured(&lease.run, step)).collect();
        self.report(peer, lease, Report::LeaseEnded { milestones, how: LeaseEnd::Finished })
    }

    fn fail(&mut self, peer: &mut Peer, lease: &Lease) -> Effects {
        let how = LeaseEnd::Failed { reason: FailureReason::Panic, detail: "index out of bounds".to_owned() };
        self.report(peer, lease, Report::LeaseEnded { milestones: Vec::new(), how })
    }

    fn wait(&mut self, time: Duration) -> Effects {
        self.now = self.now + time;
        self.handle(Event::Tick)
    }

    /// kill -9 and a start from what was stored.
    fn restart(&mut self) {
        self.scheduler = Scheduler::recover(settings(), self.store, self.now, self.records.clone());
        invariants::check(&self.scheduler).expect("no invariant is broken by a restart");
    }

    fn trial_rows(&self, sweep: SweepIndex) -> Vec<TrialRow> {
        let formula = &self.scheduler.ledger().sweep(sweep).sweep;
        let row = |(at, epochs)| self.scheduler.trial_row(sweep, at, epochs).expect("a trial of the sweep");
        trials::in_order(formula).map(row).collect()
    }

    fn counts(&self, sweep: &str) -> [u64; 6] {
        let index = self.scheduler.ledger().find_sweep(&name(sweep)).expect("a known sweep");
        RunState::ALL.map(|state| self.scheduler.ledger().sweep(index).counts.of(state))
    }
}

struct Peer {
    incarnation: Incarnation,
    worker: WorkerName,
    slots: u32,
    cost: Coefficients,
    stream: StreamId,
    reports: u64,
    /// That last welcomed it.
    store: Option<StoreId>,
}

fn reply(effects: &Effects) -> Reply {
    let mut replies = effects.after_commit.iter().filter_map(|effect| match effect {
        Effect::Reply { reply, .. } => Some(reply.clone()),
        _ => None,
    });
    replies.next_back().expect("a call is answered")
}

fn sent(effects: &Effects) -> Vec<&CoordinatorMessage> {
    let messages = effects.after_commit.iter().filter_map(|effect| match effect {
        Effect::Send { message, .. } => Some(message),
        _ => None,
    });
    messages.collect()
}

fn grants(effects: &Effects) -> Vec<Lease> {
    let granted = sent(effects).into_iter().filter_map(|message| match message {
        CoordinatorMessage::Grants(leases) => Some(leases.clone()),
        _ => None,
    });
    granted.flatten().collect()
}

fn notices(effects: &Effects) -> Vec<&Notice> {
    let all = effects.now.iter().chain(&effects.after_commit);
    all.filter_map(|effect| match effect {
        Effect::Announce(notice) => Some(notice),
        _ => None,
    })
    .collect()
}
