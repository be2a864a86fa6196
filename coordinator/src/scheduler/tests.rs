//! The scheduler, event by event: data in, effects out, invariants after each.

use proptest::prelude::*;
use slalom_common::answer::TrialRow;
use slalom_common::axis::Axis;
use slalom_common::cost::{Coefficients, REFERENCE, Work};
use slalom_common::filter::Filter;
use slalom_common::grid::{Axes, Grid};
use slalom_common::id::{ContentHash, LeaseId, MessageNumber, Step, SweepName, WorkerName};
use slalom_common::message::{
    CheckpointName, CoordinatorMessage, Hello, Lease, LeaseEnd, LeasesHeld, PROTOCOL_VERSION, Report, Welcome,
};
use slalom_common::outcome::{FailureReason, Measured, Milestone, Perplexity};
use slalom_common::run::{Family, Run};
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::{CorpusFacts, Draft, Policy, StepsPerEpoch, Sweep};
use slalom_common::trials;
use slalom_common::wire::WANTED_STEPS_MAX;

use super::effect::{Leaving, Reply};
use super::event::{RequestId, Saying, StreamId};
use super::grants::{GRANT_LEASES_MAX, GRANT_STEPS_MAX, send_grants};
use super::*;

mod alone;
mod conduct;
mod steering;

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
            known_run: ContentHash::of(b"known"),
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

#[test]
fn a_free_slot_gets_the_longest_run_and_nothing_leaves_before_the_commit() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (_, effects) = world.join("hill", 2);
    let shapes: Vec<(u32, u32)> =
        grants(&effects).iter().map(|lease| (lease.run.shape.nodes, lease.run.shape.unrollings)).collect();
    assert_eq!(shapes, [(512, 20), (512, 10)]);
    assert!(effects.now.is_empty(), "welcome and grants wait for the commit: {:?}", effects.now);
    assert!(matches!(sent(&effects)[0], CoordinatorMessage::Welcome(_)), "the welcome comes first");
    assert_eq!(world.counts("a"), [2, 2, 0, 0, 0, 0]);
}

#[test]
fn a_run_answers_all_its_epochs_and_the_last_one_ends_the_sweep() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    let leases = grants(&effects);
    assert_eq!(leases.len(), 4);
    assert_eq!(leases[0].wanted, [Step::new(500), Step::new(1000)]);
    for lease in &leases[..3] {
        world.finish(&mut hill, lease);
    }
    let effects = world.finish(&mut hill, &leases[3]);
    assert_eq!(world.counts("a"), [0, 0, 4, 0, 0, 0]);
    assert!(matches!(notices(&effects).last(), Some(Notice::SweepDone { .. })));
    let acknowledged = sent(&effects);
    assert_eq!(acknowledged, [&CoordinatorMessage::Acknowledged(MessageNumber::new(4))]);
}

#[test]
fn a_second_sweep_over_the_same_runs_is_done_at_once() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    for lease in grants(&effects) {
        world.finish(&mut hill, &lease);
    }
    let (_, effects) = world.submit(sweep("b"));
    assert_eq!(world.counts("b"), [0, 0, 4, 0, 0, 0]);
    assert!(grants(&effects).is_empty());
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::SweepDone { .. })));
}

#[test]
fn a_longer_sweep_wants_only_the_steps_that_are_not_answered() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    let leases = grants(&effects);
    let checkpoint = CheckpointName { step: Step::new(900), blob: ContentHash::of(b"state") };
    world.say(&hill, Saying::CheckpointStored { lease: leases[0].id, run: leases[0].run.key(), checkpoint });
    for lease in &leases {
        world.finish(&mut hill, lease);
    }
    let mut longer = draft("b");
    let axes = Axes { epochs: axis(&[1000, 2000]), ..longer.blocks[0].axes().clone() };
    longer.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    let (_, effects) = world.submit(Sweep::new(longer).expect("a valid sweep"));
    let again = grants(&effects);
    assert!(again.iter().all(|lease| lease.wanted == [Step::new(2000)]));
    let same = again.iter().find(|lease| lease.run == leases[0].run).expect("every run is longer now");
    assert_eq!(same.resume, Some(checkpoint));
}

#[test]
fn a_checkpoint_past_an_unrecorded_milestone_is_not_resumed_from() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    for (step, content) in [(400, b"early"), (600, b"later")] {
        let checkpoint = CheckpointName { step: Step::new(step), blob: ContentHash::of(content) };
        world.say(&hill, Saying::CheckpointStored { lease: lease.id, run: lease.run.key(), checkpoint });
    }
    world.wait(LEASE);
    let (_, effects) = world.join("heir", 1);
    let again = grants(&effects).remove(0);
    assert_eq!(again.run, lease.run);
    assert_eq!(again.resume.map(|checkpoint| checkpoint.step), Some(Step::new(400)), "500 has no answer");
}

#[test]
fn a_silent_worker_loses_its_runs_and_no_attempt_is_spent() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (_, effects) = world.join("doomed", 1);
    let lost = grants(&effects).remove(0);
    world.wait(LEASE.saturating_sub(Duration::from_millis(1)));
    assert_eq!(world.counts("a"), [3, 1, 0, 0, 0, 0]);
    let effects = world.wait(Duration::from_millis(1));
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::LeaseExpired { .. })));
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);
    let (_, effects) = world.join("heir", 1);
    let again = grants(&effects).remove(0);
    assert_eq!(again.run, lost.run, "it is the longest again");
    assert!(again.id > lost.id);
    let attempts: Vec<u32> = notices(&effects)
        .iter()
        .filter_map(|notice| match notice {
            Notice::RunLeased { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1]);
}

#[test]
fn twenty_lost_workers_in_a_row_fail_a_run_and_a_milestone_between_does_not() {
    let mut world = World::new();
    let mut one = draft("a");
    let axes = Axes { nodes: axis(&[8]), unrollings: axis(&[1]), ..one.blocks[0].axes().clone() };
    one.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    world.submit(Sweep::new(one).expect("a valid sweep"));
    for _ in 0..19 {
        world.join("doomed", 1);
        world.wait(LEASE);
    }
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    world.report(&mut hill, &lease, Report::Milestone(measured(&lease.run, Step::new(500))));
    world.wait(LEASE);
    for _ in 0..18 {
        world.join("doomed", 1);
        world.wait(LEASE);
    }
    assert_eq!(world.counts("a"), [1, 0, 0, 0, 0, 0]);
    world.join("doomed", 1);
    world.wait(LEASE);
    assert_eq!(world.counts("a"), [0, 0, 0, 0, 1, 0], "the loss after the milestone was the first of twenty");
}

#[test]
fn a_run_that_fails_three_times_is_failed_until_somebody_says_retry() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let mut lease = grants(&effects).remove(0);
    let poison = lease.run;
    for _ in 0..2 {
        let effects = world.fail(&mut hill, &lease);
        lease = grants(&effects).remove(0);
        assert_eq!(lease.run, poison, "the longest comes again");
    }
    let effects = world.fail(&mut hill, &lease);
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::RunFailed { attempts: 3, .. })));
    assert_ne!(grants(&effects)[0].run, poison);
    assert_eq!(world.counts("a"), [2, 1, 0, 0, 1, 0]);
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Retry { request, sweep: name("a") });
    assert_eq!(reply(&effects), Reply::Retried { runs: 1 });
    assert_eq!(world.counts("a"), [3, 1, 0, 0, 0, 0]);
}

#[test]
fn the_same_answer_again_changes_nothing_and_is_acknowledged_again() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let report = Report::Milestone(measured(&lease.run, Step::new(500)));
    world.report(&mut hill, &lease, report.clone());
    hill.reports = 0;
    let effects = world.report(&mut hill, &lease, report);
    assert!(effects.records.is_empty());
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);
}

#[test]
fn other_bits_for_the_same_answer_are_a_conflict_and_the_first_stays() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut slow, effects) = world.join("slow", 1);
    let first = grants(&effects).remove(0);
    world.wait(LEASE);
    let (mut quick, effects) = world.join("quick", 1);
    let second = grants(&effects).remove(0);
    assert_eq!(first.run, second.run);
    world.report(&mut quick, &second, Report::Milestone(measured(&second.run, Step::new(500))));
    let held = LeasesHeld { leases: vec![first.id], received_max: Some(first.id) };
    let (back, effects) = world.greet(slow, held);
    slow = back;
    assert!(
        sent(&effects).contains(&&CoordinatorMessage::Cancelled(vec![first.id])),
        "it is told to drop it"
    );
    let other = Milestone {
        measured: Measured::Perplexity(Perplexity::new(99.0).expect("finite")),
        ..measured(&first.run, Step::new(500))
    };
    let effects = world.report(&mut slow, &first, Report::Milestone(other));
    let conflict = notices(&effects).into_iter().find_map(|notice| match notice {
        Notice::ResultConflict { kept_worker, refused_worker, .. } => {
            Some((kept_worker.to_string(), refused_worker.to_string()))
        }
        _ => None,
    });
    assert_eq!(conflict, Some(("quick".to_owned(), "slow".to_owned())));
    let run = world.scheduler.ledger().find(&first.run.key()).expect("a known run");
    let kept = world.scheduler.ledger().run(run).answer(Step::new(500));
    assert_eq!(kept, Some(measured(&first.run, Step::new(500)).measured));
}

/// Seed 3472 of the simulation: its acknowledgement died with the coordinator, so the report came again.
#[test]
fn a_contradiction_that_is_reported_again_is_acknowledged_and_not_recorded_twice() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut slow, effects) = world.join("slow", 1);
    let first = grants(&effects).remove(0);
    world.wait(LEASE);
    let (mut quick, effects) = world.join("quick", 1);
    let second = grants(&effects).remove(0);
    world.report(&mut quick, &second, Report::Milestone(measured(&second.run, Step::new(500))));
    let held = LeasesHeld { leases: vec![first.id], received_max: Some(first.id) };
    let other = Milestone {
        measured: Measured::Perplexity(Perplexity::new(99.0).expect("finite")),
        ..measured(&first.run, Step::new(500))
    };
    slow = world.greet(slow, held.clone()).0;
    let effects = world.report(&mut slow, &first, Report::Milestone(other));
    assert!(matches!(effects.records[..], [Record::ConflictFound { .. }]), "{:?}", effects.records);

    world.restart();
    slow = world.greet(slow, held).0;
    slow.reports = 0;
    let effects = world.report(&mut slow, &first, Report::Milestone(other));
    assert_eq!(effects.records, []);
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);
}

#[test]
fn the_last_answer_from_a_stale_lease_is_welcome_and_stops_the_heir() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (slow, effects) = world.join("slow", 1);
    let first = grants(&effects).remove(0);
    world.wait(LEASE);
    let (_, effects) = world.join("heir", 1);
    let second = grants(&effects).remove(0);
    assert_eq!(first.run, second.run);
    let held = LeasesHeld { leases: vec![first.id], received_max: Some(first.id) };
    let (mut slow, _) = world.greet(slow, held);
    let effects = world.finish(&mut slow, &first);
    assert!(sent(&effects).contains(&&CoordinatorMessage::Cancelled(vec![second.id])));
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::RunDone { .. })));
}

#[test]
fn a_failure_under_a_stale_lease_spends_no_attempt() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (slow, effects) = world.join("slow", 1);
    let first = grants(&effects).remove(0);
    world.wait(LEASE);
    let (mut slow, _) =
        world.greet(slow, LeasesHeld { leases: vec![first.id], received_max: Some(first.id) });
    let before = world.records.len();
    world.fail(&mut slow, &first);
    let stale = |record: &Record| matches!(record, Record::LeaseEnded { lease, .. } if *lease == first.id);
    assert!(!world.records[before..].iter().any(stale));
}

#[test]
fn a_divergence_answers_every_later_step_and_is_not_retried() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let milestones = vec![measured(&lease.run, Step::new(500))];
    let how = LeaseEnd::Diverged { at: Step::new(700) };
    let effects = world.report(&mut hill, &lease, Report::LeaseEnded { milestones, how });
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::RunDiverged { .. })));
    assert_eq!(world.counts("a"), [2, 1, 0, 1, 0, 0]);
    let index = world.scheduler.ledger().find_sweep(&name("a")).expect("a known sweep");
    let rows = world.trial_rows(index);
    let states: Vec<RunState> =
        rows.iter().filter(|row| row.at.shape == lease.run.shape).map(|row| row.state).collect();
    assert_eq!(states, [RunState::Done, RunState::Diverged]);
}

#[test]
fn a_milestone_past_a_recorded_divergence_is_a_conflict() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let how = LeaseEnd::Diverged { at: Step::new(500) };
    world.report(&mut hill, &lease, Report::LeaseEnded { milestones: Vec::new(), how });
    let at = world.report(&mut hill, &lease, Report::Milestone(measured(&lease.run, Step::new(500))));
    assert!(
        matches!(at.records[0], Record::MilestoneReached { .. }),
        "500 steps were applied before step 500"
    );
    let past = world.report(&mut hill, &lease, Report::Milestone(measured(&lease.run, Step::new(1000))));
    assert!(matches!(past.records[0], Record::ConflictFound { .. }));
}

#[test]
fn a_restart_grants_only_waiting_runs_and_gives_old_leases_one_whole_lease_time() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (old, effects) = world.join("old", 1);
    let held = grants(&effects).remove(0);
    world.wait(LEASE.saturating_sub(Duration::from_secs(1)));
    world.restart();
    let (_, effects) = world.join("new", 4);
    assert_eq!(grants(&effects).len(), 3);
    assert!(grants(&effects).iter().all(|lease| lease.run != held.run));
    world.wait(Duration::from_secs(2));
    assert_eq!(world.counts("a"), [0, 4, 0, 0, 0, 0]);
    let (mut old, effects) =
        world.greet(old, LeasesHeld { leases: vec![held.id], received_max: Some(held.id) });
    assert!(grants(&effects).is_empty(), "it holds what it was granted");
    world.finish(&mut old, &held);
    assert_eq!(world.counts("a"), [0, 3, 1, 0, 0, 0]);
}

#[test]
fn a_grant_that_never_arrived_is_sent_again() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lost = grants(&effects);
    world.restart();
    let (_, effects) = world.greet(hill, LeasesHeld::default());
    assert_eq!(grants(&effects), lost);
}

#[test]
fn a_lease_that_its_living_worker_does_not_have_is_gone() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let held = LeasesHeld { leases: Vec::new(), received_max: Some(lease.id) };
    let effects = world.say(&hill, Saying::Heartbeat(held));
    assert_eq!(grants(&effects)[0].run, lease.run, "it waits again, and is the longest");
}

#[test]
fn a_draining_worker_gets_nothing_more_and_leaves_without_a_warning() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    world.say(&hill, Saying::Draining { received_max: Some(lease.id) });
    let how = LeaseEnd::HandedBack;
    let effects = world.report(&mut hill, &lease, Report::LeaseEnded { milestones: Vec::new(), how });
    assert!(grants(&effects).is_empty());
    let effects = world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(matches!(notices(&effects)[..], [Notice::WorkerLeft { why: Leaving::Drained, .. }]));
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);
}

#[test]
fn cancelling_ends_a_lease_only_if_no_other_active_sweep_wants_the_run() {
    let mut world = World::new();
    world.submit(sweep("a"));
    world.submit(sweep("b"));
    let (_, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Cancel { request, sweep: name("a") });
    assert!(sent(&effects).is_empty());
    assert_eq!(world.counts("a"), [0, 0, 0, 0, 0, 4]);
    assert_eq!(world.counts("b"), [3, 1, 0, 0, 0, 0]);
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Cancel { request, sweep: name("b") });
    assert_eq!(sent(&effects), [&CoordinatorMessage::Cancelled(vec![lease.id])]);
    let (reply, effects) = world.submit(sweep("b"));
    assert_eq!(reply, Reply::Submitted { sweep: name("b"), created: true });
    assert_eq!(grants(&effects).len(), 1, "submitting it again makes it active");
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::SweepSubmitted { .. })));
}

#[test]
fn the_same_formula_under_its_name_is_the_same_sweep_and_another_is_refused() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (reply, effects) = world.submit(sweep("a"));
    assert_eq!(reply, Reply::Submitted { sweep: name("a"), created: false });
    assert!(effects.records.is_empty());
    let other = Sweep::new(Draft { eval_every: 100, ..draft("a") }).expect("a valid sweep");
    let (reply, effects) = world.submit(other);
    assert!(matches!(reply, Reply::NameTaken { .. }));
    assert!(effects.records.is_empty());
}

#[test]
fn sweeps_share_slots_in_turn() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let mut other = draft("b");
    other.family.valid_size = 999;
    world.submit(Sweep::new(other).expect("a valid sweep"));
    let (_, effects) = world.join("hill", 4);
    let sizes: Vec<u64> = grants(&effects).iter().map(|lease| lease.run.family.valid_size).collect();
    assert_eq!(sizes, [1000, 999, 1000, 999]);
}

#[test]
fn what_is_excluded_is_never_leased() {
    let mut world = World::new();
    let mut holed = draft("a");
    let axes = holed.blocks[0].axes().clone();
    let filter = Filter::compile("nodes == 512 && unrollings == 20").expect("a valid filter");
    holed.blocks = vec![Grid::new(axes, vec![filter]).expect("a valid grid")];
    world.submit(Sweep::new(holed).expect("a valid sweep"));
    let (_, effects) = world.join("hill", 4);
    assert_eq!(grants(&effects).len(), 3);
    assert!(
        grants(&effects).iter().all(|lease| (lease.run.shape.nodes, lease.run.shape.unrollings) != (512, 20))
    );
}

#[test]
fn the_end_of_a_lease_that_was_never_granted_is_refused_and_acknowledged() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    let never = Lease { id: LeaseId::new(7), ..grants(&effects).remove(0) };
    let effects = world.finish(&mut hill, &never);
    assert!(effects.records.is_empty());
    assert!(matches!(notices(&effects)[..], [Notice::MessageRefused { .. }]));
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);
}

#[test]
fn runs_retried_after_a_restart_are_leased() {
    let mut world = World::new();
    world.submit(sweep("a"));
    for worker in ["hill", "dale", "vale", "glen", "fell", "moor"] {
        let (mut peer, effects) = world.join(worker, 1);
        let mut leases = grants(&effects);
        // Until its third run pauses it.
        while let Some(lease) = leases.pop() {
            let effects = world.fail(&mut peer, &lease);
            leases.extend(grants(&effects));
        }
    }
    assert_eq!(world.counts("a"), [0, 0, 0, 0, 4, 0]);
    world.restart();
    world.join("heir", 4);
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Retry { request, sweep: name("a") });
    assert_eq!(grants(&effects).len(), 4);
}

#[test]
fn what_a_run_was_trained_to_for_another_sweep_is_not_how_far_this_one_is() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    for lease in grants(&effects) {
        world.finish(&mut hill, &lease);
    }
    let mut finer = draft("b");
    let axes = Axes { epochs: axis(&[500, 750]), ..finer.blocks[0].axes().clone() };
    finer.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    world.submit(Sweep::new(finer).expect("a valid sweep"));
    let index = world.scheduler.ledger().find_sweep(&name("b")).expect("a known sweep");
    let rows = world.scheduler.run_rows(index, 0..4, &[], None).expect("no filter");
    assert!(rows.iter().all(|row| (row.step, row.steps) == (Step::new(500), Step::new(750))), "{rows:?}");
}

/// L3: one bad machine must not fail what others can train.
#[test]
fn a_run_that_failed_on_a_worker_is_not_given_back_to_it_while_another_is_there() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut large, effects) = world.join("large", 1);
    let kept = grants(&effects).remove(0);
    let (mut small, effects) = world.join("small", 1);
    let mut leases = grants(&effects);
    while let Some(lease) = leases.pop() {
        let effects = world.fail(&mut small, &lease);
        leases.extend(grants(&effects));
    }
    assert_eq!(world.counts("a"), [3, 1, 0, 0, 0, 0], "each of the three has failed once");
    let mut next = Some(kept);
    while let Some(lease) = next {
        let effects = world.finish(&mut large, &lease);
        next = grants(&effects).pop();
    }
    assert_eq!(world.counts("a"), [0, 0, 4, 0, 0, 0]);
}

#[test]
fn a_slalom_run_trains_no_step_that_only_other_sweeps_want() {
    let mut world = World::new();
    world.submit(sweep("long"));
    let mut short = draft("short");
    let axes = Axes { epochs: axis(&[500]), ..short.blocks[0].axes().clone() };
    short.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    world.submit(Sweep::new(short).expect("a valid sweep"));
    let only = Settings { serve: Serve::Only(name("short")), ..settings() };
    world.scheduler = Scheduler::recover(only, world.store, world.now, world.records.clone());
    let (_, effects) = world.join("hill", 1);
    assert_eq!(grants(&effects)[0].wanted, [Step::new(500)]);
}

#[test]
fn leases_that_end_without_their_answers_end_some_day() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let mut leases = grants(&effects);
    let mut rounds = 0;
    while let Some(lease) = leases.pop() {
        rounds += 1;
        let empty = Report::LeaseEnded { milestones: Vec::new(), how: LeaseEnd::Finished };
        let effects = world.report(&mut hill, &lease, empty);
        leases.extend(grants(&effects));
        assert!(rounds <= 80, "twenty for each of the four runs");
    }
    assert_eq!(world.counts("a"), [0, 0, 0, 0, 4, 0]);
}

#[test]
fn a_divergence_that_contradicts_a_kept_answer_is_not_tried_for_ever() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut bad, effects) = world.join("bad", 1);
    let lease = grants(&effects).remove(0);
    world.report(&mut bad, &lease, Report::Milestone(measured(&lease.run, Step::new(1000))));
    world.wait(LEASE);
    let (mut good, effects) = world.join("good", 1);
    let mut next = grants(&effects).pop();
    let mut rounds = 0;
    while let Some(lease) = next {
        rounds += 1;
        assert!(rounds < 100, "the run is tried for ever");
        let milestones = Vec::new();
        let how = LeaseEnd::Diverged { at: Step::new(300) };
        let effects = world.report(&mut good, &lease, Report::LeaseEnded { milestones, how });
        next = grants(&effects).pop();
    }
    assert_eq!(world.counts("a"), [0, 0, 0, 3, 1, 0]);
}

#[test]
fn an_answer_that_nobody_asked_for_is_acknowledged_and_not_kept() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let effects = world.report(&mut hill, &lease, Report::Milestone(measured(&lease.run, Step::new(123))));
    assert!(effects.records.is_empty());
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);
}

/// One thing that may happen in [`whatever_happens_every_trial_ends_with_its_own_bits`].
#[derive(Clone, Copy, Debug)]
enum Fate {
    Join,
    Finish,
    MilestoneThenSilence,
    Fail,
    HandBack,
    CheckpointAt(u64),
    Disconnect,
    Return,
    Wait,
    Restart,
    Repeat,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Join),
        4 => Just(Fate::Finish),
        2 => Just(Fate::MilestoneThenSilence),
        1 => Just(Fate::Fail),
        2 => Just(Fate::HandBack),
        2 => (0..1000_u64).prop_map(Fate::CheckpointAt),
        1 => Just(Fate::Disconnect),
        2 => Just(Fate::Return),
        1 => Just(Fate::Wait),
        1 => Just(Fate::Restart),
        2 => Just(Fate::Repeat),
    ]
}

proptest! {
    /// Faults in any order, then calm: every run is done with the bits of the pure function, or failed after its attempts
    /// (I1, I5, I6, I8); `World` checks the invariants of a state after each event.
    #[test]
    fn whatever_happens_every_trial_ends_with_its_own_bits(fates in proptest::collection::vec(fate(), 0..60)) {
        let mut world = World::new();
        world.submit(sweep("a"));
        let mut peers: Vec<(Peer, Vec<Lease>)> = Vec::new();
        let mut last: Option<(usize, Lease, Report)> = None;
        let keep = |held: &mut Vec<Lease>, effects: &Effects| held.extend(grants(effects));
        for (turn, fate) in fates.into_iter().enumerate() {
            let place = turn % peers.len().max(1);
            match (fate, peers.get_mut(place)) {
                (Fate::Join, _) | (_, None) => {
                    let (peer, effects) = world.join("hill", 2);
                    let mut held = Vec::new();
                    keep(&mut held, &effects);
                    peers.push((peer, held));
                }
                (Fate::Finish, Some((peer, held))) => if let Some(lease) = held.pop() {
                    let effects = world.finish(peer, &lease);
                    keep(held, &effects);
                }
                (Fate::MilestoneThenSilence, Some((peer, held))) => if let Some(lease) = held.last() {
                    let report = Report::Milestone(measured(&lease.run, lease.wanted[0]));
                    last = Some((place, lease.clone(), report.clone()));
                    world.report(peer, lease, report);
                    world.wait(LEASE);
                }
                (Fate::Fail, Some((peer, held))) => if let Some(lease) = held.pop() {
                    let effects = world.fail(peer, &lease);
                    keep(held, &effects);
                }
                (Fate::HandBack, Some((peer, held))) => if let Some(lease) = held.pop() {
                    let report = Report::LeaseEnded { milestones: Vec::new(), how: LeaseEnd::HandedBack };
                    let effects = world.report(peer, &lease, report);
                    keep(held, &effects);
                }
                (Fate::CheckpointAt(step), Some((peer, held))) => if let Some(lease) = held.last() {
                    let blob = ContentHash::of(&step.to_le_bytes());
                    let checkpoint = CheckpointName { step: Step::new(step), blob };
                    world.say(peer, Saying::CheckpointStored { lease: lease.id, run: lease.run.key(), checkpoint });
                }
                (Fate::Disconnect, Some((peer, _))) => {
                    let (stream, incarnation) = (peer.stream, peer.incarnation);
                    world.handle(Event::StreamClosed { stream, incarnation });
                }
                (Fate::Return, Some(_)) => {
                    let (peer, mut held) = peers.swap_remove(place);
                    let leases = held.iter().map(|lease| lease.id).collect();
                    let received_max = held.iter().map(|lease| lease.id).max();
                    let (peer, effects) = world.greet(peer, LeasesHeld { leases, received_max });
                    keep(&mut held, &effects);
                    held.sort_by_key(|lease| lease.id);
                    held.dedup_by_key(|lease| lease.id);
                    peers.push((peer, held));
                }
                (Fate::Wait, Some(_)) => {
                    world.wait(LEASE / 2);
                }
                (Fate::Restart, Some(_)) => world.restart(),
                (Fate::Repeat, Some(_)) => if let Some((place, lease, report)) = last.clone()
                    && let Some((peer, _)) = peers.get_mut(place)
                {
                    world.report(peer, &lease, report);
                }
            }
        }
        world.wait(LEASE);
        let (mut calm, mut effects) = world.join("calm", 4);
        let mut rounds = 0;
        let mut held = Vec::new();
        loop {
            keep(&mut held, &effects);
            let Some(lease) = held.pop() else { break };
            effects = world.finish(&mut calm, &lease);
            rounds += 1;
            prop_assert!(rounds < 50, "the sweep does not end");
        }
        let index = world.scheduler.ledger().find_sweep(&name("a")).expect("a known sweep");
        prop_assert!(world.scheduler.ledger().sweep(index).is_done());
        let family = *world.scheduler.ledger().sweep(index).sweep.family();
        for row in world.trial_rows(index) {
            let run = Run { family, shape: row.at.shape, seed: row.at.seed };
            if let Some(perplexity) = row.perplexity {
                prop_assert_eq!(Measured::Perplexity(perplexity), measured(&run, row.steps).measured);
            } else {
                prop_assert_eq!(row.state, RunState::Failed);
            }
        }
        let conflict = world.records.iter().find(|record| matches!(record, Record::ConflictFound { .. }));
        prop_assert_eq!(conflict, None);
    }
}

/// A worker's backlog of another store's life, whose lease numbers are granted here too.
#[test]
fn a_report_of_another_store_s_lease_is_refused_acknowledged_and_answers_nothing() {
    let mut old = World::new();
    old.submit(sweep("old"));
    let (_, effects) = old.join("hill", 1);
    let former = grants(&effects).remove(0);
    let mut world = World::new();
    world.submit(other_sweep("new"));
    let (mut hill, effects) = world.join("hill", 1);
    let present = grants(&effects).remove(0);
    assert_eq!(former.id, present.id);
    let effects = world.report(&mut hill, &former, Report::Milestone(measured(&former.run, Step::new(500))));
    assert!(effects.records.is_empty(), "{:?}", effects.records);
    assert!(matches!(notices(&effects)[..], [Notice::MessageRefused { .. }]));
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);

    let blob = ContentHash::of(b"state of the former run");
    let checkpoint = CheckpointName { step: Step::new(400), blob };
    let stored = Saying::CheckpointStored { lease: former.id, run: former.run.key(), checkpoint };
    let effects = world.say(&hill, stored);
    assert_eq!(effects.after_commit, [Effect::RemoveCheckpoint { blob }]);
}

/// The same formula as [`sweep`], with other answers.
fn other_sweep(name: &str) -> Sweep {
    let mut other = draft(name);
    other.family.training.clip_norm = 0.7;
    Sweep::new(other).expect("a valid sweep")
}

fn is_told_to_forget(effects: &Effects) -> bool {
    matches!(sent(effects)[0], CoordinatorMessage::Welcome(Welcome { forget: true, .. }))
}

#[test]
fn a_worker_of_another_store_is_told_to_forget_and_is_granted_what_waits_here() {
    let mut old = World::on(StoreId::new(1));
    old.submit(sweep("old"));
    let (hill, effects) = old.join("hill", 1);
    let former = grants(&effects).remove(0);
    assert!(!is_told_to_forget(&effects));
    let held = LeasesHeld { leases: vec![former.id], received_max: Some(former.id) };

    let mut world = World::on(StoreId::new(2));
    // Nobody here has the incarnation of a worker there.
    world.next_id = old.next_id;
    world.submit(other_sweep("new"));
    // The numbers that the old store gave are taken here too.
    world.join("heir", 1);
    let (hill, effects) = world.greet(hill, held);
    assert!(is_told_to_forget(&effects));
    let granted = grants(&effects);
    assert_eq!(granted.len(), 1);
    assert!(!sent(&effects).iter().any(|message| matches!(message, CoordinatorMessage::Cancelled(_))));
    // Back on a stream of the same store it is no stranger any more.
    let held = LeasesHeld { leases: vec![granted[0].id], received_max: Some(granted[0].id) };
    let (_, effects) = world.greet(hill, held);
    assert!(!is_told_to_forget(&effects));
    assert!(grants(&effects).is_empty());
    assert_eq!(world.counts("new"), [2, 2, 0, 0, 0, 0]);
}

#[test]
fn a_worker_that_has_seen_more_of_the_store_than_a_copy_of_it_is_told_to_forget() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let first = grants(&effects).remove(0);
    let copy = world.records.clone();
    let mut hill = hill;
    let effects = world.finish(&mut hill, &first);
    let second = grants(&effects).remove(0);
    world.records = copy;
    world.restart();
    let held = LeasesHeld { leases: vec![second.id], received_max: Some(second.id) };
    let (_, effects) = world.greet(hill, held);
    assert!(is_told_to_forget(&effects));
    let again = grants(&effects).remove(0);
    assert_eq!(again.run, first.run, "its lease in the copy is over, at once");
    let losses: Vec<u32> = world.scheduler.ledger().runs().map(|(_, run)| run.losses).collect();
    assert_eq!((losses, world.counts("a")), (vec![0], [3, 1, 0, 0, 0, 0]));
}

/// Runs of a million steps, measured so often, for each of these numbers of nodes.
fn curves(name: &str, nodes: &[u64], eval_every: u64) -> Sweep {
    let mut curves = draft(name);
    let former = curves.blocks[0].axes().clone();
    let axes = Axes { nodes: axis(nodes), unrollings: axis(&[1]), epochs: axis(&[1_000_000]), ..former };
    curves.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    curves.eval_every = eval_every;
    Sweep::new(curves).expect("a valid sweep")
}

#[test]
fn a_lease_names_no_more_steps_than_a_worker_takes_and_the_next_one_names_the_rest() {
    let mut world = World::new();
    world.submit(curves("a", &[8], 149));
    world.submit(curves("b", &[8], 151));
    let (mut hill, effects) = world.join("hill", 1);
    let first = grants(&effects).remove(0);
    let arrived = CoordinatorMessage::from_wire(CoordinatorMessage::Grants(vec![first.clone()]).to_wire());
    assert_eq!(arrived, Ok(CoordinatorMessage::Grants(vec![first.clone()])));
    let effects = world.finish(&mut hill, &first);
    let rest = grants(&effects).remove(0);
    assert_eq!((rest.run, first.wanted.len()), (first.run, WANTED_STEPS_MAX));
    assert!(rest.wanted[0] > first.wanted[WANTED_STEPS_MAX - 1]);
    world.finish(&mut hill, &rest);
    assert_eq!((world.counts("a"), world.counts("b")), ([0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]));
}

#[test]
fn grants_of_many_steps_go_out_and_go_again_in_several_messages() {
    let mut world = World::new();
    let nodes: Vec<u64> = (1..=20).collect();
    world.submit(curves("a", &nodes, 149));
    let (hill, effects) = world.join("hill", 20);
    let granted = grants(&effects);
    assert_eq!(granted.len(), 20);
    world.restart();
    let (_, again) = world.greet(hill, LeasesHeld::default());
    assert_eq!(grants(&again), granted);
    for effects in [effects, again] {
        let messages = sent(&effects).into_iter().filter_map(|message| match message {
            CoordinatorMessage::Grants(leases) => Some(leases.iter().map(|lease| lease.wanted.len()).sum()),
            _ => None,
        });
        let steps: Vec<usize> = messages.collect();
        assert!(steps.len() == 2 && steps.iter().all(|&steps| steps <= GRANT_STEPS_MAX), "{steps:?}");
    }
}

#[test]
fn a_message_grants_so_many_leases_at_most() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (_, effects) = world.join("hill", 1);
    let leases = vec![grants(&effects).remove(0); GRANT_LEASES_MAX + 1];
    let mut effects = Effects::default();
    send_grants(StreamId(1), leases, &mut effects);
    assert_eq!((sent(&effects).len(), grants(&effects).len()), (2, GRANT_LEASES_MAX + 1));
}

#[test]
fn a_drain_that_crosses_a_grant_ends_the_lease_at_once_and_costs_neither_an_attempt_nor_a_loss() {
    let mut world = World::new();
    let (mut hill, _) = world.join("hill", 1);
    let (_, effects) = world.submit(sweep("a"));
    let crossed = grants(&effects).remove(0);
    world.say(&hill, Saying::Draining { received_max: None });
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);
    // Should the grant find it there, it hands it back all the same.
    let how = LeaseEnd::HandedBack;
    world.report(&mut hill, &crossed, Report::LeaseEnded { milestones: Vec::new(), how });
    let effects = world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(matches!(notices(&effects)[..], [Notice::WorkerLeft { why: Leaving::Drained, .. }]));
    let (_, effects) = world.join("heir", 4);
    assert_eq!(grants(&effects).len(), 4);
    let known = |run: &ledger::run::RunEntry| (run.failures, run.losses);
    assert!(world.scheduler.ledger().runs().all(|(_, run)| known(run) == (0, 0)));
}

fn tiny(name: &str) -> Sweep {
    let mut draft = draft(name);
    let axes = Axes {
        nodes: axis(&[8]),
        batch_size: axis(&[8]),
        unrollings: axis(&[1]),
        epochs: axis(&[1000]),
        seed: axis(&(0..200).collect::<Vec<_>>()),
    };
    draft.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    Sweep::new(draft).expect("a valid sweep")
}

fn eta(world: &World, sweep: &str) -> f64 {
    let index = world.scheduler.ledger().find_sweep(&name(sweep)).expect("a known sweep");
    world.scheduler.status(world.now, index).eta.expect("somebody works on it").seconds
}

/// By its own fit, whose small steps may be slow where its large ones are fast.
#[test]
fn a_worker_that_is_slow_at_what_the_sweep_has_holds_less_of_it_ahead() {
    let held = |cost| {
        let mut world = World::new();
        world.submit(tiny("a"));
        grants(&world.join_at("hill", 1, cost).1).len()
    };
    let usual = held(REFERENCE);
    assert!(usual > 2, "a second of the reference core holds {usual}");
    assert_eq!(held(REFERENCE.slowed(1e6)), 1, "each run fills the slot for long");
    let slow_to_begin = Coefficients { step: 0.002, ..REFERENCE };
    assert_eq!(held(slow_to_begin), 1, "whatever its rate at large shapes");
}

#[test]
fn time_left_is_by_the_workers_own_fits() {
    let left = |costs: &[Coefficients]| {
        let mut world = World::new();
        world.submit(sweep("a"));
        for &cost in costs {
            world.join_at("hill", 1, cost);
        }
        eta(&world, "a")
    };
    let alone = left(&[REFERENCE]);
    let entry_seconds = REFERENCE.seconds(&sweep("a").work());
    assert!((alone / entry_seconds - 1.0).abs() < 1e-9, "{alone} s for {entry_seconds} s");
    assert!((left(&[REFERENCE.slowed(3.0)]) / alone - 3.0).abs() < 1e-9);
    // Three parts of the work to the faster one, one to the slower.
    let together = left(&[REFERENCE, REFERENCE.slowed(3.0)]);
    assert!((together / alone - 0.75).abs() < 1e-9, "{together} s");
}

#[test]
fn a_worker_whose_runs_take_twice_what_it_said_is_believed_to_be_half_as_fast() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let step_s =
        REFERENCE.seconds(&Work::run(lease.run.shape, Step::new(0), Step::new(1000), 2, 1000)) / 1000.0;
    let now_at = |world: &mut World, step: u64| {
        world.say(&hill, Saying::Progress { lease: lease.id, step: Step::new(step), loss: None });
    };
    let worker = |world: &World| world.scheduler.fleet()[&hill.incarnation].clone();
    now_at(&mut world, 100);
    assert_eq!(worker(&world).pace.factor(), 1.0, "the first word says when it began, not how long it took");
    for step in (200..=900).step_by(100) {
        world.now = world.now + Duration::from_secs_f64(200.0 * step_s);
        now_at(&mut world, step);
    }
    let factor = worker(&world).pace.factor();
    assert!((1.5..2.0).contains(&factor), "{factor} after {} s", 800.0 * 2.0 * step_s);
    assert!((worker(&world).speed() * factor - 1.0).abs() < 1e-12);
    // Neither a step that no run has nor one told again moves it beyond all measure.
    now_at(&mut world, u64::MAX >> 24);
    now_at(&mut world, 0);
    world.now = world.now + Duration::from_secs(1);
    now_at(&mut world, 0);
    let factor = worker(&world).pace.factor();
    assert!((0.125..=8.0).contains(&factor), "{factor}");
}

#[test]
fn the_speed_of_the_fleet_is_at_the_work_that_is_asked_about() {
    let mut world = World::new();
    let slow_to_begin = Coefficients { step: 0.002, ..REFERENCE };
    world.join_at("hill", 2, slow_to_begin);
    let large = world.scheduler.speed(&sweep("a").work());
    let small = world.scheduler.speed(&tiny("b").work());
    assert!((1.0..=2.0).contains(&large), "{large}");
    assert!(small < 0.01, "{small}");
}
