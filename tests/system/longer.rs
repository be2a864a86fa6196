//! A longer sweep over the same points: what the shorter one has trained is not trained again.

use serde_json::Value;

use crate::world::{SWEEP, World, calm_results, event};

fn short() -> String {
    SWEEP.replace("\"tiny\"", "\"short\"").replace("[200, 1000, 3000]", "[200]")
}

fn long() -> String {
    SWEEP.replace("\"tiny\"", "\"long\"").replace("[200, 1000, 3000]", "[200, 400]")
}

/// Promise "each trial is computed once": no step is trained twice, also across sweeps.
#[test]
fn a_longer_sweep_goes_on_from_where_the_shorter_one_ended() {
    let mut world = World::new(["hill-1", "hill-2"]);
    let first = world.submit(&short());
    world.wait_for(&event("sweep done").with("sweep", &first));
    let plan = world.plan(&long());
    let runs = plan["runs"].as_u64().unwrap() as usize;
    assert_eq!((&plan["known_runs"], &plan["resumed_runs"]), (&Value::from(0), &Value::from(runs)));
    let second = world.submit(&long());
    world.wait_for(&event("sweep done").with("sweep", &second));
    assert_eq!(world.results_csv(&second), calm_results(&long()));
    let leased = world.all(&event("run leased").with("sweep", &second));
    assert_eq!(leased.len(), runs);
    assert!(leased.iter().all(|line| line.json["resume_step"] == 200), "{leased:?}");
}

/// Checkpoints are a cache: within their budget, and where one is missed the run begins anew, to the same bits.
#[test]
fn checkpoints_stay_within_their_budget_and_plan_says_what_was_dropped() {
    let mut world = World::with_blob_budget("64KiB", ["hill-1", "hill-2"]);
    let first = world.submit(&short());
    world.wait_for(&event("sweep done").with("sweep", &first));
    assert!(world.checkpoint_bytes() <= 64 << 10, "{} bytes", world.checkpoint_bytes());
    let plan = world.plan(&long());
    let [runs, resumed, dropped] =
        ["runs", "resumed_runs", "dropped_runs"].map(|key| plan[key].as_u64().unwrap());
    assert_eq!((resumed + dropped, dropped > 0, resumed > 0), (runs, true, true), "{plan}");
    let second = world.submit(&long());
    world.wait_for(&event("sweep done").with("sweep", &second));
    assert_eq!(world.results_csv(&second), calm_results(&long()));
    assert!(world.checkpoint_bytes() <= 64 << 10, "{} bytes", world.checkpoint_bytes());
}
