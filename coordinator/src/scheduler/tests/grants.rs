//! What a slot is given: which run, which of its steps, and how much of it a message and a worker carry.

use slalom_common::wire::WANTED_STEPS_MAX;

use super::*;
use crate::scheduler::grants::{GRANT_LEASES_MAX, GRANT_STEPS_MAX, send_grants};

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
