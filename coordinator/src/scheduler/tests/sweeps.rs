//! Several sweeps over the same runs: what one has of another, and what it leaves to it.

use super::*;
use crate::scheduler::event::Steering;

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

/// `sweep` and more of it.
fn extended(sweep: &Sweep, change: impl FnOnce(&mut Axes)) -> Sweep {
    let mut axes = sweep.draft().blocks[0].axes().clone();
    change(&mut axes);
    let blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    let given = Sweep::new(Draft { blocks, ..sweep.draft().clone() }).expect("a valid sweep");
    sweep.extended_by(&given).expect("it asks alike")
}

fn extend(world: &mut World, sweep: Sweep) -> (Reply, Effects) {
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Extend { request, sweep: Box::new(sweep) });
    (reply(&effects), effects)
}

#[test]
fn a_sweep_that_is_extended_wants_what_is_new_and_no_lease_in_force_changes() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    let leases = grants(&effects);
    for lease in &leases[..3] {
        world.finish(&mut hill, lease);
    }
    let longer = extended(&sweep("a"), |axes| axes.epochs = axis(&[500, 1000, 2000]));
    let (said, effects) = extend(&mut world, longer.clone());
    assert_eq!(said, Reply::Extended { sweep: name("a") });
    let size = Size { trials: 12, excluded: 0, runs: 4 };
    assert!(
        matches!(notices(&effects)[0], Notice::SweepExtended { added: 4, size: now, .. } if *now == size)
    );
    let again = grants(&effects);
    assert_eq!(again.len(), 3, "the fourth run is leased");
    assert!(again.iter().all(|lease| lease.wanted == [Step::new(2000)]), "{again:?}");
    // What was asked of the fourth is answered, and the rest is for its next lease.
    let effects = world.finish(&mut hill, &leases[3]);
    let last = grants(&effects);
    assert_eq!((last[0].run, &last[0].wanted), (leases[3].run, &vec![Step::new(2000)]));
    world.restart();
    assert_eq!(world.counts("a"), [0, 4, 0, 0, 0, 0]);
    let (said, effects) = extend(&mut world, longer);
    assert_eq!((said, effects.records.is_empty()), (Reply::Extended { sweep: name("a") }, true));
}

#[test]
fn an_extension_of_what_the_sweep_was_before_another_is_outdated_and_of_a_cancelled_one_refused() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let longer = extended(&sweep("a"), |axes| axes.epochs = axis(&[2000]));
    let wider = extended(&sweep("a"), |axes| axes.seed = axis(&[1]));
    assert_eq!(extend(&mut world, longer.clone()).0, Reply::Extended { sweep: name("a") });
    let (said, effects) = extend(&mut world, wider.clone());
    assert_eq!((said, effects.records.is_empty()), (Reply::Outdated, true));
    let both = longer.extended_by(&wider).expect("it asks alike");
    assert_eq!(extend(&mut world, both).0, Reply::Extended { sweep: name("a") });
    assert_eq!(world.counts("a"), [8, 0, 0, 0, 0, 0]);
    let request = RequestId(world.fresh());
    world.handle(Event::Cancel { request, sweep: name("a") });
    assert_eq!(extend(&mut world, longer).0, Reply::IsCancelled { sweep: name("a") });
    assert!(matches!(extend(&mut world, sweep("b")).0, Reply::NoSuchSweep { .. }));
    // As it was submitted it is the same sweep, and so is all of it by another formula.
    assert_eq!(world.submit(sweep("a")).0, Reply::Submitted { sweep: name("a"), created: true });
    assert_eq!(world.counts("a"), [8, 0, 0, 0, 0, 0]);
}

#[test]
fn a_paused_sweep_stays_so_when_it_is_extended_and_one_that_was_done_is_active() {
    let longer = extended(&sweep("a"), |axes| axes.epochs = axis(&[500, 1000, 2000]));
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    let request = RequestId(world.fresh());
    world.handle(Event::Steer { request, sweep: name("a"), steering: Steering::Pause });
    extend(&mut world, longer);
    for lease in grants(&effects) {
        let effects = world.finish(&mut hill, &lease);
        assert!(grants(&effects).is_empty());
    }
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);

    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    let request = RequestId(world.fresh());
    world.handle(Event::Steer { request, sweep: name("a"), steering: Steering::Pause });
    for lease in grants(&effects) {
        world.finish(&mut hill, &lease);
    }
    assert_eq!(world.counts("a"), [0, 0, 4, 0, 0, 0]);
    let (_, effects) = extend(&mut world, extended(&sweep("a"), |axes| axes.seed = axis(&[0, 1])));
    assert_eq!(grants(&effects).len(), 4, "what was said of it before it was done does not hold it up");
}
