//! Workers that come from another store than this one, or from a later state of it.

use super::*;

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
