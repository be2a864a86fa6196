//! Several sweeps over the same runs: what one has of another, and what it leaves to it.

use super::*;

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
