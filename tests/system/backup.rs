//! Copies of a living coordinator's store: what one starts from, it goes on from.

use crate::world::{SWEEP, World, calm, event};

/// Invariants I2 and I9: what the copy has is not trained again, and what it lacks comes out the same.
#[test]
fn a_coordinator_on_a_copy_made_in_mid_sweep_comes_to_the_same_results() {
    let mut world = World::new(["hill"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("run done").with("sweep", &sweep));
    world.back_up();
    // More than the copy knows: its lease numbers are granted once more.
    world.wait_for(&event("run done").with("sweep", &sweep));
    world.kill_9_coordinator();
    world.start_coordinator_on_the_copy();
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    assert_eq!(world.count(&event("result conflict")), 0);
}

#[test]
fn a_copy_of_a_done_sweep_has_all_its_results_without_a_worker() {
    let mut world = World::new(["hill"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    world.back_up();
    world.kill_9("hill");
    world.kill_9_coordinator();
    world.start_coordinator_on_the_copy();
    assert_eq!(world.results_csv(&sweep), calm());
}
