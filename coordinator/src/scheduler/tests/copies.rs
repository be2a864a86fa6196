//! Copies near the end: who gets one, what it may change, and who is told to stop.

use super::*;
use crate::scheduler::event::Steering;

/// A slow worker that has all four runs of a sweep, and a fast one that has come since.
fn late_arrival() -> (World, Peer, Vec<Lease>, Peer, Vec<Lease>) {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (slow, effects) = world.join_at("slow", 4, REFERENCE.slowed(10.0));
    let first = grants(&effects);
    assert_eq!(first.len(), 4);
    let (fast, effects) = world.join_at("fast", 2, REFERENCE);
    let copies = grants(&effects);
    (world, slow, first, fast, copies)
}

#[test]
fn a_free_slot_of_a_faster_worker_trains_once_more_what_would_end_last() {
    let (mut world, mut slow, first, mut fast, copies) = late_arrival();
    assert_eq!(copies.len(), 2, "one for each of its slots");
    assert!(copies.iter().all(|lease| lease.kind == LeaseKind::Copy && lease.wanted == first[0].wanted));
    // Longest first: they were granted in that order, and would end in it.
    assert_eq!([copies[0].run, copies[1].run], [first[0].run, first[1].run]);
    assert_eq!(world.counts("a"), [0, 4, 0, 0, 0, 0]);

    let effects = world.finish(&mut fast, &copies[0]);
    assert_eq!(world.counts("a"), [0, 3, 1, 0, 0, 0]);
    assert!(sent(&effects).contains(&&CoordinatorMessage::Cancelled(vec![first[0].id])));
    assert!(
        notices(&effects)
            .iter()
            .any(|notice| matches!(notice, Notice::RunDone { worker, .. } if worker.as_str() == "fast"))
    );
    // What it trained until then is compared, and equal.
    let milestone = measured(&first[0].run, first[0].wanted[0]);
    let effects = world.report(&mut slow, &first[0], Report::Milestone(milestone));
    assert!(effects.records.is_empty());
    let mut other = measured(&first[0].run, first[0].wanted[0]);
    other.measured = Measured::Perplexity(Perplexity::new(9.0).expect("a finite number"));
    let effects = world.report(&mut slow, &first[0], Report::Milestone(other));
    assert!(matches!(effects.records[..], [Record::ConflictFound { .. }]));

    // The other way round: whoever was first is first, and the copy is told to stop.
    let effects = world.finish(&mut slow, &first[1]);
    assert!(sent(&effects).contains(&&CoordinatorMessage::Cancelled(vec![copies[1].id])));
    assert_eq!(world.counts("a"), [0, 2, 2, 0, 0, 0]);
    world.restart();
    assert_eq!(world.counts("a"), [0, 2, 2, 0, 0, 0]);
}

#[test]
fn a_copy_spends_no_attempt_and_takes_the_place_of_a_lease_that_is_lost() {
    let (mut world, mut slow, first, mut fast, copies) = late_arrival();
    let effects = world.fail(&mut fast, &copies[1]);
    assert_eq!(world.counts("a"), [0, 4, 0, 0, 0, 0]);
    assert!(!notices(&effects).iter().any(|notice| matches!(notice, Notice::RunRequeued { .. })));
    let again = grants(&effects);
    assert!(again.iter().all(|lease| lease.run != copies[1].run), "not where it has just failed");

    let effects = world.fail(&mut slow, &first[0]);
    assert!(!notices(&effects).iter().any(|notice| matches!(notice, Notice::RunRequeued { .. })));
    assert_eq!(world.counts("a"), [0, 4, 0, 0, 0, 0]);
    world.restart();
    let (mut fast, _) =
        world.greet(fast, LeasesHeld { leases: vec![copies[0].id], received_max: Some(LeaseId::new(99)) });
    assert_eq!(world.counts("a")[2], 0);
    world.finish(&mut fast, &copies[0]);
    assert_eq!(world.counts("a")[2], 1, "it is the run's lease by now");
}

#[test]
fn nobody_is_granted_a_copy_that_saves_little_or_that_a_paused_sweep_wants_or_of_its_own_run() {
    let mut world = World::new();
    world.submit(sweep("a"));
    world.join_at("one", 4, REFERENCE);
    let (_, effects) = world.join_at("other", 4, REFERENCE.slowed(0.9));
    assert!(grants(&effects).is_empty(), "a tenth faster");

    let mut world = World::new();
    world.submit(sweep("a"));
    world.join_at("slow", 4, REFERENCE.slowed(10.0));
    let request = RequestId(world.fresh());
    world.handle(Event::Steer { request, sweep: name("a"), steering: Steering::Pause });
    let (_, effects) = world.join_at("fast", 4, REFERENCE);
    assert!(grants(&effects).is_empty(), "none of its runs is begun, not again either");

    let mut world = World::new();
    world.submit(sweep("a"));
    let (_, effects) = world.join_at("alone", 8, REFERENCE.slowed(10.0));
    assert_eq!(grants(&effects).len(), 4);
    assert!(grants(&world.wait(Duration::from_secs(1))).is_empty(), "its own runs are as fast there");
}

#[test]
fn of_two_that_train_a_run_side_by_side_only_the_farther_stores_where_it_is() {
    let (mut world, slow, first, fast, copies) = late_arrival();
    let at = |step: u64| CheckpointName { step: Step::new(step), blob: ContentHash::of(&step.to_le_bytes()) };
    let store = |world: &mut World, peer: &Peer, lease: &Lease, step| {
        let (lease, run) = (lease.id, lease.run.key());
        world.say(peer, Saying::CheckpointStored { lease, run, checkpoint: at(step) })
    };
    assert_eq!(store(&mut world, &fast, &copies[0], 300).records.len(), 1);
    let effects = store(&mut world, &slow, &first[0], 100);
    assert!(effects.records.is_empty());
    assert!(effects.after_commit.contains(&Effect::RemoveCheckpoint { blob: at(100).blob }));
    // The same step is the same bytes: they stay.
    let effects = store(&mut world, &slow, &first[0], 300);
    assert!(effects.records.is_empty() && effects.after_commit.is_empty());
}

#[test]
fn cancelling_a_sweep_ends_both_leases_of_a_run_and_giving_it_up_ends_the_copy() {
    let (mut world, _, first, _, copies) = late_arrival();
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Cancel { request, sweep: name("a") });
    let told: Vec<LeaseId> = sent(&effects)
        .into_iter()
        .filter_map(|message| match message {
            CoordinatorMessage::Cancelled(leases) => Some(leases.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(first.iter().chain(&copies).all(|lease| told.contains(&lease.id)), "{told:?}");

    let (mut world, mut slow, first, _, copies) = late_arrival();
    let mut few = draft("b");
    few.policy.max_attempts = 1;
    world.submit(Sweep::new(Draft { name: Some(name("a")), ..few }).expect("a valid sweep"));
    let effects = world.fail(&mut slow, &first[0]);
    assert!(sent(&effects).contains(&&CoordinatorMessage::Cancelled(vec![copies[0].id])));
    assert_eq!(world.counts("a"), [0, 3, 0, 0, 1, 0]);
}
