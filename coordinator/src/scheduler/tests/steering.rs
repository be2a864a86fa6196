//! What people say of sweeps and workers while they run: pause, stop, resume, cancel, drain; in every state, under every fault.

mod whatever;

use slalom_common::answer::SweepState;

use super::*;
use crate::scheduler::event::Steering;

impl World {
    fn steer(&mut self, sweep: &str, steering: Steering) -> Effects {
        let request = RequestId(self.fresh());
        let effects = self.handle(Event::Steer { request, sweep: name(sweep), steering });
        assert_eq!(reply(&effects), Reply::Steered { sweep: name(sweep) });
        effects
    }

    fn cancel(&mut self, sweep: &str) -> Effects {
        let request = RequestId(self.fresh());
        let effects = self.handle(Event::Cancel { request, sweep: name(sweep) });
        assert_eq!(reply(&effects), Reply::Cancelled { sweep: name(sweep) });
        effects
    }

    fn drain(&mut self, worker: &str) -> (Reply, Effects) {
        let request = RequestId(self.fresh());
        let worker = worker.parse().expect("a valid name");
        let effects = self.handle(Event::Drain { request, worker });
        (reply(&effects), effects)
    }

    fn retry(&mut self, sweep: &str) -> Effects {
        let request = RequestId(self.fresh());
        self.handle(Event::Retry { request, sweep: name(sweep) })
    }

    fn state(&self, sweep: &str) -> SweepState {
        let index = self.scheduler.ledger().find_sweep(&name(sweep)).expect("a known sweep");
        self.scheduler.status(self.now, index).state
    }
}

/// The runs of [`sweep`], trained to other steps.
fn with_epochs(name: &str, epochs: &[u64]) -> Sweep {
    let mut draft = draft(name);
    let axes = Axes { epochs: axis(epochs), ..draft.blocks[0].axes().clone() };
    draft.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    Sweep::new(draft).expect("a valid sweep")
}

fn hand_back(world: &mut World, peer: &mut Peer, lease: &Lease) -> Effects {
    let how = LeaseEnd::HandedBack;
    world.report(peer, lease, Report::LeaseEnded { milestones: Vec::new(), how })
}

#[test]
fn a_paused_sweep_gets_no_lease_and_what_runs_is_finished() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let effects = world.steer("a", Steering::Pause);
    assert_eq!(effects.records.len(), 1);
    assert!(sent(&effects).is_empty(), "what runs is left alone");
    assert!(matches!(notices(&effects)[..], [Notice::SweepPaused { .. }]));
    assert!(effects.now.is_empty(), "nothing is said before the commit: {:?}", effects.now);
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [3, 1, 0, 0, 0, 0]));

    assert!(grants(&world.finish(&mut hill, &lease)).is_empty());
    assert!(grants(&world.join("heir", 4).1).is_empty());
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [3, 0, 1, 0, 0, 0]));

    let effects = world.steer("a", Steering::Resume);
    assert!(matches!(notices(&effects)[0], Notice::SweepResumed { .. }));
    assert_eq!(grants(&effects).len(), 3);
    assert_eq!(world.state("a"), SweepState::Active);
}

#[test]
fn a_stopping_sweep_is_paused_when_its_last_lease_ends_and_says_so_once() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 2);
    let leases = grants(&effects);
    let effects = world.steer("a", Steering::Stop);
    assert!(matches!(notices(&effects)[..], [Notice::SweepStopping { .. }]));
    let effects = world.finish(&mut hill, &leases[0]);
    assert!(grants(&effects).is_empty());
    assert_eq!(world.state("a"), SweepState::Stopping);
    let said = |effects: &Effects| {
        notices(effects).iter().filter(|notice| matches!(notice, Notice::SweepPaused { .. })).count()
    };
    assert_eq!(said(&effects), 0);
    // A lost worker's run waits like the others: it does not go on elsewhere.
    let effects = world.wait(LEASE);
    assert_eq!(said(&effects), 1);
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [3, 0, 1, 0, 0, 0]));
    assert!(grants(&world.join("heir", 4).1).is_empty());
}

#[test]
fn a_stopping_sweep_whose_last_lease_brings_the_last_answer_is_done() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    world.steer("a", Steering::Stop);
    let mut last = Effects::default();
    for lease in grants(&effects) {
        last = world.finish(&mut hill, &lease);
    }
    assert_eq!(world.state("a"), SweepState::Done);
    assert!(notices(&last).iter().any(|notice| matches!(notice, Notice::SweepDone { .. })));
    assert!(!notices(&last).iter().any(|notice| matches!(notice, Notice::SweepPaused { .. })));
}

/// A sweep in the given state, of four runs: one leased to a worker of one slot unless it is over or `leased` is false.
fn in_state(state: SweepState, leased: bool) -> World {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let mut leases = grants(&effects);
    match state {
        SweepState::Active => (),
        SweepState::Paused => drop(world.steer("a", Steering::Pause)),
        SweepState::Stopping => drop(world.steer("a", Steering::Stop)),
        SweepState::Cancelled => drop(world.cancel("a")),
        SweepState::Done => {
            while let Some(lease) = leases.pop() {
                leases.extend(grants(&world.finish(&mut hill, &lease)));
            }
        }
    }
    if !leased && let Some(lease) = leases.pop() {
        world.say(&hill, Saying::Draining { received_max: Some(lease.id) });
        hand_back(&mut world, &mut hill, &lease);
    }
    world
}

/// The second table at the head of the scheduler, entry by entry; each asked twice and once more after a restart.
#[test]
fn every_verb_in_every_state_leads_where_the_table_says_and_again_to_the_same() {
    use SweepState::{Active, Cancelled, Done, Paused, Stopping};
    type Verb = fn(&mut World) -> Effects;
    let verbs: [(&str, Verb, [SweepState; 5]); 5] = [
        ("pause", |world| world.steer("a", Steering::Pause), [Paused, Paused, Paused, Done, Cancelled]),
        ("stop", |world| world.steer("a", Steering::Stop), [Stopping, Stopping, Stopping, Done, Cancelled]),
        ("resume", |world| world.steer("a", Steering::Resume), [Active, Active, Active, Done, Cancelled]),
        ("cancel", |world| world.cancel("a"), [Cancelled, Cancelled, Cancelled, Done, Cancelled]),
        ("submit", |world| world.submit(sweep("a")).1, [Active, Paused, Stopping, Done, Active]),
    ];
    for (verb, ask, expected) in verbs {
        for (from, to) in [Active, Paused, Stopping, Done, Cancelled].into_iter().zip(expected) {
            let mut world = in_state(from, true);
            assert_eq!(world.state("a"), from);
            let effects = ask(&mut world);
            assert_eq!(world.state("a"), to, "{verb} of a sweep that is {from}");
            let said = |record: &Record| {
                matches!(
                    record,
                    Record::SweepSteered { .. }
                        | Record::SweepCancelled { .. }
                        | Record::SweepResubmitted { .. }
                )
            };
            let records = effects.records.iter().filter(|record| said(record)).count();
            assert_eq!(records, usize::from(from != to), "{verb} of a sweep that is {from}");
            for _ in 0..2 {
                let again = ask(&mut world);
                assert!(
                    again.records.is_empty(),
                    "{verb} again, of one that was {from}: {:?}",
                    again.records
                );
                assert_eq!(world.state("a"), to);
                world.restart();
                assert_eq!(world.state("a"), to, "{verb} is forgotten by a restart");
            }
        }
    }
}

#[test]
fn stopping_a_sweep_of_which_nothing_is_leased_pauses_it_at_once() {
    for from in [SweepState::Active, SweepState::Paused] {
        let mut world = in_state(from, false);
        assert_eq!((world.state("a"), world.counts("a")), (from, [4, 0, 0, 0, 0, 0]));
        world.steer("a", Steering::Stop);
        assert_eq!(world.state("a"), SweepState::Paused);
    }
    // What stops is paused by the end of its last lease itself: there is nothing to stop any more.
    let mut world = in_state(SweepState::Stopping, false);
    assert_eq!(world.state("a"), SweepState::Paused);
    assert!(world.steer("a", Steering::Stop).records.is_empty());
}

#[test]
fn a_sweep_that_nobody_knows_is_steered_nowhere() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Steer { request, sweep: name("b"), steering: Steering::Pause });
    assert_eq!(reply(&effects), Reply::NoSuchSweep { known: vec![name("a")] });
    assert!(effects.records.is_empty());
}

#[test]
fn a_run_that_an_active_sweep_wants_too_is_leased_for_that_one_and_to_its_steps_alone() {
    let mut world = World::new();
    world.submit(with_epochs("long", &[500, 2000]));
    world.submit(sweep("short"));
    world.steer("long", Steering::Pause);
    let (mut hill, effects) = world.join("hill", 4);
    let leases = grants(&effects);
    assert_eq!(leases.len(), 4);
    assert!(leases.iter().all(|lease| lease.wanted == [Step::new(500), Step::new(1000)]), "{leases:?}");
    assert_eq!(world.counts("long"), [0, 4, 0, 0, 0, 0], "they run, whoever asked");
    for lease in &leases {
        world.finish(&mut hill, lease);
    }
    assert_eq!((world.state("short"), world.state("long")), (SweepState::Done, SweepState::Paused));
    assert_eq!(world.counts("long"), [4, 0, 0, 0, 0, 0]);
    let effects = world.steer("long", Steering::Resume);
    assert!(grants(&effects).iter().all(|lease| lease.wanted == [Step::new(2000)]));
    assert_eq!(grants(&effects).len(), 4);
}

#[test]
fn a_lease_goes_on_for_a_paused_sweep_when_the_other_that_wanted_its_run_is_cancelled() {
    for steering in [Steering::Pause, Steering::Stop] {
        let mut world = World::new();
        world.submit(sweep("a"));
        world.submit(sweep("b"));
        let (mut hill, effects) = world.join("hill", 1);
        let lease = grants(&effects).remove(0);
        world.steer("a", steering);
        assert!(sent(&world.cancel("b")).is_empty());
        world.finish(&mut hill, &lease);
        assert_eq!(world.counts("a"), [3, 0, 1, 0, 0, 0]);
        assert_eq!(world.state("a"), SweepState::Paused);
    }
}

#[test]
fn a_grant_that_was_lost_on_its_way_is_not_sent_again_for_a_paused_sweep() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lost = grants(&effects).remove(0);
    world.steer("a", Steering::Stop);
    world.restart();
    let (hill, effects) = world.greet(hill, LeasesHeld::default());
    assert!(grants(&effects).is_empty());
    world.say(&hill, Saying::Heartbeat(LeasesHeld::default()));
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [4, 0, 0, 0, 0, 0]));
    // Should it have come after all, it is told to drop it.
    let held = LeasesHeld { leases: vec![lost.id], received_max: Some(lost.id) };
    let effects = world.say(&hill, Saying::Heartbeat(held));
    assert_eq!(sent(&effects), [&CoordinatorMessage::Cancelled(vec![lost.id])]);
    let losses = |world: &World| world.scheduler.ledger().runs().map(|(_, run)| run.losses).sum::<u32>();
    assert_eq!(losses(&world), 0);
}

#[test]
fn a_new_policy_leaves_a_paused_sweep_paused() {
    let mut world = in_state(SweepState::Paused, true);
    let policy = Policy { max_attempts: 7, ..Policy::default() };
    let (said, effects) = world.submit(Sweep::new(Draft { policy, ..draft("a") }).expect("a valid sweep"));
    assert_eq!(said, Reply::Submitted { sweep: name("a"), created: false });
    assert_eq!(effects.records.len(), 1);
    assert_eq!(world.state("a"), SweepState::Paused);
}

#[test]
fn runs_retried_in_a_sweep_that_was_paused_wait_until_it_is_resumed_also_after_a_restart() {
    let mut world = World::new();
    let policy = Policy { max_attempts: 1, ..Policy::default() };
    world.submit(Sweep::new(Draft { policy, ..draft("a") }).expect("a valid sweep"));
    let (mut hill, effects) = world.join("hill", 4);
    world.steer("a", Steering::Pause);
    for lease in grants(&effects) {
        world.fail(&mut hill, &lease);
    }
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Done, [0, 0, 0, 0, 4, 0]));
    world.restart();
    world.join("heir", 4);
    assert!(grants(&world.retry("a")).is_empty());
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [4, 0, 0, 0, 0, 0]));
    assert_eq!(grants(&world.steer("a", Steering::Resume)).len(), 4);
}

fn draining(worker: &str) -> Reply {
    Reply::Draining { worker: worker.parse().expect("a valid name") }
}

fn is_told_to_drain(effects: &Effects) -> bool {
    sent(effects).contains(&&CoordinatorMessage::Drain)
}

#[test]
fn a_drained_worker_is_told_after_the_commit_gets_nothing_more_and_its_runs_go_on_elsewhere() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let (said, effects) = world.drain("hill");
    assert_eq!(said, draining("hill"));
    assert_eq!(effects.records.len(), 1);
    assert!(effects.now.is_empty() && is_told_to_drain(&effects));
    assert!(matches!(notices(&effects)[..], [Notice::WorkerDraining { leases: 1, .. }]));
    assert!(grants(&world.steer("a", Steering::Resume)).is_empty());
    assert!(world.scheduler.worker_rows(world.now)[0].draining);

    world.say(&hill, Saying::Draining { received_max: Some(lease.id) });
    assert!(grants(&hand_back(&mut world, &mut hill, &lease)).is_empty());
    let effects = world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(matches!(notices(&effects)[..], [Notice::WorkerLeft { why: Leaving::Drained, .. }]));
    let (_, effects) = world.join("heir", 4);
    assert_eq!(grants(&effects).len(), 4);
    assert!(world.scheduler.ledger().runs().all(|(_, run)| (run.failures, run.losses) == (0, 0)));
}

#[test]
fn a_drain_that_was_not_heard_is_told_at_each_hello_also_after_a_restart() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    world.drain("hill");
    let effects = world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(notices(&effects).is_empty(), "it has not left: it does not know");
    world.restart();
    let held = LeasesHeld { leases: vec![lease.id], received_max: Some(lease.id) };
    let (hill, effects) = world.greet(hill, held.clone());
    assert!(matches!(sent(&effects)[..], [CoordinatorMessage::Welcome(_), CoordinatorMessage::Drain]));
    let (_, effects) = world.greet(hill, held);
    assert!(is_told_to_drain(&effects));
    assert!(grants(&effects).is_empty());
}

#[test]
fn a_grant_that_was_lost_on_its_way_is_not_sent_again_to_a_drained_worker() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, _) = world.join("hill", 1);
    world.drain("hill");
    let (hill, effects) = world.greet(hill, LeasesHeld::default());
    assert!(grants(&effects).is_empty());
    world.say(&hill, Saying::Heartbeat(LeasesHeld::default()));
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);
}

/// Seed 2512 of the simulation, invariant I3: the coordinator stood still while the worker gave one stream up after the other.
#[test]
fn a_late_hello_of_a_stream_that_was_given_up_ends_no_lease_that_its_worker_trains() {
    let held = |leases: &[LeaseId]| {
        let received_max = leases.iter().max().copied();
        LeasesHeld { leases: leases.to_vec(), received_max }
    };
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    world.steer("a", Steering::Pause);
    let (hill, effects) = world.greet(hill, held(&[]));
    assert!(effects.records.is_empty(), "{:?}", effects.records);
    // It opens a new stream, since that one supersedes the one that it is on.
    let (hill, effects) = world.greet(hill, held(&[lease.id]));
    assert!(effects.records.is_empty(), "{:?}", effects.records);
    let effects = world.say(&hill, Saying::Heartbeat(held(&[lease.id])));
    assert!(effects.records.is_empty() && sent(&effects).is_empty());
    assert_eq!(world.counts("a"), [3, 1, 0, 0, 0, 0]);
}

#[test]
fn whoever_drains_again_hears_the_same_and_a_later_process_of_the_name_serves() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, _) = world.join("hill", 1);
    world.drain("hill");
    let (said, effects) = world.drain("hill");
    assert_eq!(said, draining("hill"));
    assert!(effects.records.is_empty(), "{:?}", effects.records);
    world.say(&hill, Saying::Draining { received_max: None });
    world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(world.scheduler.fleet().is_empty());
    world.restart();
    let (said, effects) = world.drain("hill");
    assert_eq!(said, draining("hill"), "it has left, which is what was asked");
    assert!(effects.records.is_empty());

    let (_, effects) = world.join("hill", 1);
    assert!(!is_told_to_drain(&effects));
    assert_eq!(grants(&effects).len(), 1);
    let (_, effects) = world.drain("hill");
    assert_eq!(effects.records.len(), 1, "this process is another one");
}

#[test]
fn a_worker_that_nobody_knows_and_that_of_a_slalom_run_are_not_drained() {
    let mut world = World::new();
    world.submit(sweep("a"));
    world.join("hill", 1);
    let (said, effects) = world.drain("hull");
    assert_eq!(said, Reply::NoSuchWorker { known: vec!["hill".parse().expect("a valid name")] });
    assert!(effects.records.is_empty());
    let only = Settings { serve: Serve::Only(name("a")), ..settings() };
    world.scheduler = Scheduler::recover(only, world.store, world.now, world.records.clone());
    assert_eq!(world.drain("hill").0, Reply::KeepsItsWorker { only: name("a") });
}
