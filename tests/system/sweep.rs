//! Sweeps without faults: the same bytes however many workers share the work.

use crate::world::{SWEEP, World, calm, event};

#[test]
fn a_sweep_over_three_workers_gives_the_bytes_of_one() {
    let mut world = World::new(["hill-1", "hill-2", "hill-3"]);
    // Else the first to come holds a second's worth of runs ahead, which is most of this sweep.
    for _ in 0..3 {
        world.wait_for(&event("worker joined"));
    }
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    for worker in ["hill-1", "hill-2", "hill-3"] {
        assert!(world.count(&event("run leased").with("worker", worker)) > 0, "{worker} had a share");
    }
}

#[test]
fn the_coordinators_log_alone_tells_the_whole_sweep() {
    let mut world = World::new(["hill"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.count(&event("sweep submitted").with("trials", 36).with("runs", 12)), 1);
    assert_eq!(world.count(&event("worker joined").with("worker", "hill")), 1);
    assert_eq!(world.first_leases(&sweep).len(), 12, "each run is leased once");
    assert_eq!(world.count(&event("milestone")), 36, "each trial is answered once");
    assert_eq!(world.count(&event("run done")), 12);
}

#[test]
fn a_second_sweep_over_the_same_runs_trains_nothing() {
    let mut world = World::new(["hill"]);
    let first = world.submit(SWEEP);
    world.wait_for(&event("sweep done").with("sweep", &first));
    let second = world.submit(&SWEEP.replace("\"tiny\"", "\"again\""));
    world.wait_for(&event("sweep done").with("sweep", &second));
    assert_eq!(world.count(&event("run leased")), 12);
    assert_eq!(world.results_csv(&second), calm());
}

#[test]
fn status_and_wait_say_how_to_start_a_worker_while_there_is_none() {
    let mut world = World::new([]);
    let sweep = world.submit(SWEEP);
    let output = world.slalom(&["status", &sweep]);
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("slalom worker --coordinator"), "{said}");
}
