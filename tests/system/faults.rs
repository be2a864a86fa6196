//! Faults of processes: each costs time and changes no byte of the results.

use crate::world::{SWEEP, World, calm, event};

/// Fault "kill -9 worker", invariant I9.
#[test]
fn killing_a_worker_in_mid_run_changes_no_byte_of_the_results() {
    let mut world = World::new(["doomed", "heir"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("milestone").with("worker", "doomed"));
    world.kill_9("doomed");
    world.wait_for(&event("run requeued").with("reason", "lost"));
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
}

/// Fault "kill -9 coordinator", invariant I2: what was acknowledged is there, and the workers train on.
#[test]
fn killing_the_coordinator_in_mid_sweep_changes_no_byte_of_the_results() {
    let mut world = World::new(["hill-1", "hill-2"]);
    let sweep = world.submit(SWEEP);
    for _ in 0..3 {
        world.wait_for(&event("milestone").with("sweep", &sweep));
        world.kill_9_coordinator();
        world.start_coordinator();
    }
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
}

/// Fault "disk full", invariant I2: nothing is acknowledged meanwhile, and it heals by itself.
#[test]
fn a_disk_that_was_full_in_mid_sweep_changes_no_byte_of_the_results() {
    let Some(mut world) = World::on_a_small_disk("a full disk in mid-sweep", ["hill"]) else { return };
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("milestone").with("sweep", &sweep));
    world.fill_disk();
    world.wait_for(&event("commit failed"));
    let status = world.slalom(&["status", &sweep]);
    let words = String::from_utf8_lossy(&status.stderr).into_owned();
    assert_eq!(status.status.code(), Some(1), "{words}");
    assert!(words.contains("refuses: nothing can be recorded now: no space is left for "), "{words}");
    assert!(words.contains("\n  help: free some space there, then type the same again"), "{words}");
    world.empty_disk();
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    assert_eq!(world.count(&event("result conflict")), 0);
}

/// Fault "a worker frozen past its lease", invariants I1 and I4.
#[test]
fn a_worker_that_comes_back_from_the_dead_changes_no_byte_of_the_results() {
    let mut world = World::new(["frozen", "heir"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("milestone").with("worker", "frozen"));
    world.freeze("frozen");
    let expired = world.wait_for(&event("lease expired").with("worker", "frozen"));
    world.thaw("frozen");
    // Its lease is over, and it is told, or hands in what it has by then.
    let lease = expired.json["lease"].as_u64().unwrap();
    world.wait_for(&event("run ended").with("lease", lease));
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    assert_eq!(world.count(&event("result conflict")), 0);
}

/// Fault "SIGTERM to a worker", invariant I8.
#[test]
fn a_worker_told_to_leave_hands_back_its_run_and_spends_no_attempt() {
    let mut world = World::new(["leaver"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("milestone").with("worker", "leaver"));
    let status = world.terminate("leaver");
    assert_eq!(status.code(), Some(0));
    world.wait_for(&event("worker left").with("worker", "leaver"));
    world.start_worker("heir");
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    let leased = world.count(&event("run leased"));
    assert_eq!(world.count(&event("run leased").with("attempt", 1)), leased);
}

/// Fault "another store at the same address", invariants I1 and I4: what the workers hold and have not yet been acknowledged is
/// of leases whose numbers the new store grants too.
#[test]
fn workers_live_through_a_coordinator_that_comes_back_with_an_empty_store_and_another_sweep() {
    let mut world = World::new(["hill-1", "hill-2"]);
    let former =
        world.submit(&SWEEP.replace("tiny", "former").replace("valid_size = 200", "valid_size = 300"));
    world.wait_for(&event("milestone").with("sweep", &former));
    world.kill_9_coordinator();
    world.start_coordinator_anew();
    for _ in 0..2 {
        world.wait_for(&event("worker joined"));
    }
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    for worker in ["hill-1", "hill-2"] {
        assert!(
            world.count(&event("milestone").with("sweep", &sweep).with("worker", worker)) > 0,
            "{worker}"
        );
    }
    assert_eq!(world.count(&event("result conflict")), 0);
}
