//! A longer sweep over the same points: what the shorter one has trained is not trained again.

use serde_json::Value;

use crate::world::{Line, SWEEP, World, calm_results, event};

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
    // Half of the steps are behind it, and one of the two validations.
    let anew = world.plan(&long().replace("seeds = 3", "seeds = [3, 4, 5]"));
    let share = plan["predicted_s"].as_f64().unwrap() / anew["predicted_s"].as_f64().unwrap();
    assert!((0.45..0.55).contains(&share), "{share}: {plan}, {anew}");
    let second = world.submit(&long());
    world.wait_for(&event("sweep done").with("sweep", &second));
    assert_eq!(world.results_csv(&second), calm_results(&long()));
    let leased = world.first_leases(&second);
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

/// Rows of a table without the sweep's own numbering.
fn answers(csv: &str) -> Vec<&str> {
    csv.lines().filter_map(|row| row.split_once(',')).map(|(_, rest)| rest).collect()
}

/// More epochs and seeds for a sweep that is done, a coordinator that dies when that is acknowledged, and a second extension while
/// the first is trained: the answers of a sweep that had asked for all of it, and nothing trained twice.
#[test]
fn an_extended_sweep_trains_only_what_is_new_and_keeps_its_numbers_across_a_kill() {
    let mut world = World::new(["hill-1", "hill-2"]);
    let sweep = world.submit(&short());
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    let before = world.results_csv(&sweep);
    let extended = world.asks(&["extend", &sweep, "--epochs", "400", "--seeds", "4"]);
    world.kill_9_coordinator();
    world.start_coordinator();
    let now = world.asks(&["status", &sweep]);
    assert_eq!((&now["trials"], &extended["added_trials"]), (&Value::from(32), &Value::from(20)), "{now}");
    let more = world.asks(&["extend", &sweep, "--unrollings", "7"]);
    assert_eq!(more["trials"], 48, "{more}");
    assert_eq!(world.asks(&["extend", &sweep, "--unrollings", "7"])["added_trials"], 0);
    world.wait_for(&event("sweep done").with("sweep", &sweep));

    let whole = long().replace("seeds = 3", "seeds = 4").replace("[5, 10]", "[5, 7, 10]");
    let after = world.results_csv(&sweep);
    assert_eq!(answers(&after), answers(&calm_results(&whole)));
    assert!(before.lines().all(|row| after.lines().any(|same| same == row)), "{before}\n{after}");
    // Twelve runs as it was first, the same again from where they ended, and twelve that are new. Lines that were said right before the
    // kill may be missing; numbers are not.
    let leased = world.all(&event("run leased").with("sweep", &sweep));
    let number = |line: &Line, key: &str| line.json[key].as_u64();
    let copies = leased.iter().filter(|line| line.json["kind"] == "copy").count() as u64;
    assert_eq!(leased.iter().filter_map(|line| number(line, "lease")).max(), Some(36 + copies));
    let again =
        leased.iter().filter(|line| number(line, "run") < Some(12) && number(line, "lease") > Some(12));
    assert!(again.clone().count() >= 10 && again.clone().all(|line| line.json["resume_step"] == 200));
}
