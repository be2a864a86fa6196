//! How fast workers are believed to be, and what follows for time left and for what they hold ahead.

use super::*;

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

/// Of a sweep that takes it some seconds, what a slot does not wait for between two runs.
#[test]
fn a_worker_holds_a_second_ahead_while_nobody_else_could_take_it() {
    let mut world = World::new();
    world.submit(tiny("a"));
    let alone = grants(&world.join("hill", 1).1).len();
    let mut world = World::new();
    world.join("valley", 1);
    world.submit(tiny("a"));
    let beside_another = grants(&world.join("hill", 1).1).len();
    // Twice as much would come of twice the time to the end alone.
    assert!(3 * beside_another < alone, "{beside_another}, alone {alone}");
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
