//! A run that loses worker after worker: it is leased alone, takes no other run with it, and still has its turn.

use super::*;

/// The run that three workers in a row were lost over.
fn lost_three_times(world: &mut World) -> Run {
    world.submit(sweep("a"));
    let mut longest = None;
    for _ in 0..3 {
        let (_, effects) = world.join("doomed", 1);
        longest = Some(grants(&effects).remove(0).run);
        world.wait(LEASE);
    }
    longest.expect("it was leased each time")
}

fn alone(world: &World) -> Vec<Run> {
    let runs = world.scheduler.ledger().runs();
    runs.filter(|(_, known)| known.alone).map(|(_, known)| known.run).collect()
}

#[test]
fn a_run_lost_three_times_is_leased_to_an_empty_worker_that_gets_nothing_beside_it_until_it_ends() {
    let mut world = World::new();
    let poison = lost_three_times(&mut world);
    assert_eq!(alone(&world), [poison]);
    world.restart();
    let (mut hill, effects) = world.join("hill", 4);
    let granted = grants(&effects);
    assert_eq!(granted.iter().map(|lease| lease.run).collect::<Vec<_>>(), [poison]);
    // A second worker has the rest at once.
    let (_, effects) = world.join("heir", 4);
    assert_eq!(grants(&effects).len(), 3);
    // What it brings does not make it trusted again.
    world.report(&mut hill, &granted[0], Report::Milestone(measured(&poison, Step::new(500))));
    assert_eq!(alone(&world), [poison]);
    world.finish(&mut hill, &granted[0]);
    assert_eq!(world.counts("a"), [0, 3, 1, 0, 0, 0]);
}

#[test]
fn two_losses_and_then_a_milestone_leave_a_run_among_the_others() {
    let mut world = World::new();
    world.submit(sweep("a"));
    for round in 0..4 {
        let (mut doomed, effects) = world.join("doomed", 1);
        let lease = grants(&effects).remove(0);
        if round == 2 {
            world.report(&mut doomed, &lease, Report::Milestone(measured(&lease.run, Step::new(500))));
        }
        world.wait(LEASE);
    }
    assert_eq!(alone(&world), []);
    assert_eq!(grants(&world.join("hill", 4).1).len(), 4);
}

#[test]
fn one_busy_worker_is_cleared_for_a_run_to_be_leased_alone_while_the_others_go_on() {
    let mut world = World::new();
    let poison = lost_three_times(&mut world);
    // Enough beside it to keep everybody busy.
    let mut many = draft("b");
    let axes = Axes { seed: axis(&[1, 2, 3, 4, 5]), ..many.blocks[0].axes().clone() };
    many.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    world.submit(Sweep::new(many).expect("a valid sweep"));
    let request = RequestId(world.fresh());
    world.handle(Event::Cancel { request, sweep: name("a") });
    let (mut first, effects) = world.join("first", 2);
    let mut firsts = grants(&effects);
    let (mut second, effects) = world.join("second", 2);
    let mut seconds = grants(&effects);
    assert_eq!((firsts.len(), seconds.len()), (2, 2));
    world.submit(sweep("a"));

    let mut turns = 0;
    let poisoned = |leases: &[Lease]| leases.iter().any(|lease| lease.run == poison);
    while !poisoned(&firsts) && !poisoned(&seconds) {
        for (peer, held) in [(&mut first, &mut firsts), (&mut second, &mut seconds)] {
            if held.is_empty() || held.iter().any(|lease| lease.run == poison) {
                continue;
            }
            let lease = held.remove(0);
            held.extend(grants(&world.finish(peer, &lease)));
        }
        turns += 1;
        assert!(turns < 20, "it has no turn before all others are done");
    }
    assert!(
        world.counts("b")[RunState::Waiting as usize] > 0,
        "the others were not done: {:?}",
        world.counts("b")
    );
    let (with, beside) = if poisoned(&firsts) { (firsts, seconds) } else { (seconds, firsts) };
    assert_eq!((with.len(), beside.len()), (1, 2), "it is alone, and the other worker is not idle");
}

#[test]
fn fresh_attempts_put_a_run_that_was_leased_alone_among_the_others_again() {
    let mut world = World::new();
    lost_three_times(&mut world);
    for _ in 0..17 {
        world.join("doomed", 1);
        world.wait(LEASE);
    }
    assert_eq!(world.counts("a"), [3, 0, 0, 0, 1, 0], "the twentieth loss fails it");
    let request = RequestId(world.fresh());
    world.handle(Event::Retry { request, sweep: name("a") });
    assert_eq!(alone(&world), []);
    assert_eq!(grants(&world.join("hill", 4).1).len(), 4);
}
