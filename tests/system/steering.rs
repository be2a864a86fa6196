//! What people say while a sweep runs: it holds through kill -9, and no byte of the results tells of it.

use std::io::{BufRead as _, BufReader};

use crate::world::{SWEEP, World, calm, event};

/// Invariant I2, of steering: the coordinator is killed right after its answer, each time.
#[test]
fn a_stopped_sweep_is_paused_when_what_runs_is_finished_and_goes_on_when_resumed_whatever_is_killed() {
    let mut world = World::new(["hill"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("run leased").with("sweep", &sweep));
    assert_eq!(world.asks(&["stop", &sweep])["state"], "stopping");
    world.kill_9_coordinator();
    world.start_coordinator();
    world.wait_for(&event("sweep paused").with("sweep", &sweep));
    let leased = world.count(&event("run leased"));
    assert!(leased < 12, "all {leased} runs were leased before the sweep was stopped");

    assert_eq!(world.asks(&["pause", &sweep])["state"], "paused");
    world.kill_9_coordinator();
    world.start_coordinator();
    world.wait_for(&event("worker joined"));
    let paused = world.asks(&["status", &sweep]);
    assert_eq!((&paused["state"], &paused["running"]), (&"paused".into(), &0.into()), "{paused}");
    assert_eq!(world.count(&event("run leased")), leased, "nothing was begun meanwhile");

    let mut waiter = world.begin(&["wait", &sweep, "--output", "quiet"]);
    let mut said = BufReader::new(waiter.stderr.take().unwrap()).lines().map_while(Result::ok);
    let note = said.find(|line| line.contains("is paused"));
    assert_eq!(note, Some(format!("`{sweep}` is paused: `slalom resume {sweep}` goes on with it")));
    assert_eq!(world.asks(&["resume", &sweep])["state"], "active");
    world.kill_9_coordinator();
    world.start_coordinator();
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    said.for_each(drop);
    assert_eq!(waiter.wait().unwrap().code(), Some(0));
}

#[test]
fn a_sweep_that_is_cancelled_is_not_resumed_but_submitted_again() {
    let mut world = World::new([]);
    let sweep = world.submit(SWEEP);
    assert_eq!(world.asks(&["cancel", &sweep])["state"], "cancelled");
    assert_eq!(world.asks(&["pause", &sweep])["state"], "cancelled");
    let refused = world.slalom(&["resume", &sweep]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let words = format!(
        "error: `{sweep}` is cancelled\n  help: `slalom submit` of the same spec makes it active again\n"
    );
    assert!(said.ends_with(&words), "{said}");
    world.submit(SWEEP);
    assert_eq!(world.asks(&["status", &sweep])["state"], "active");
}

/// Invariants I2 and I8: the worker cannot hear that it is to leave, and the coordinator that was asked dies.
#[test]
fn a_worker_drained_while_it_is_away_leaves_when_it_is_back_and_another_of_its_name_serves() {
    let mut world = World::new(["hill"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("milestone").with("worker", "hill"));
    world.freeze("hill");
    assert_eq!(world.asks(&["drain", "hill"])[0]["draining"], true);
    world.kill_9_coordinator();
    world.start_coordinator();
    world.thaw("hill");
    assert_eq!(world.ended("hill").code(), Some(0));
    world.wait_for(&event("worker left").with("worker", "hill"));
    let again = world.asks(&["drain", "hill"]);
    assert_eq!(again, serde_json::json!([]), "it has left: that is no error");

    world.start_worker("hill");
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    let leased = world.count(&event("run leased"));
    assert_eq!(world.count(&event("run leased").with("attempt", 1)), leased);
    let unpaused = world.asks(&["resume", "--worker", "hill"]);
    assert_eq!(unpaused[0]["paused"], false, "to resume what is not paused changes nothing");
    for verb in [&["drain", "hil"][..], &["resume", "--worker", "hil"]] {
        let unknown = world.slalom(verb);
        assert_eq!(unknown.status.code(), Some(1));
        let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(said.contains("error: no worker is called `hil`: there is `hill` at "), "{said}");
        assert!(said.ends_with("  help: `slalom workers` lists the workers there\n"), "{said}");
    }
}

/// Invariants L3 and I11: what no memory holds fails on each worker, and the only one there is paused for it.
#[test]
fn a_sweep_whose_every_worker_is_paused_waits_and_says_so_until_a_person_resumes_one() {
    // More than any machine has: 17 TB of activations a run.
    let spec = SWEEP
        .replace("[16, 32]", "[16_381, 16_382, 16_383, 16_384]")
        .replace("[16]", "[4_000]")
        .replace("[5, 10]", "[65_536]")
        .replace("seeds = 3", "seeds = 1");
    let mut world = World::new(["hill"]);
    let sweep = world.submit(&spec);
    let failed = world.wait_for(&event("run failed").with("sweep", &sweep));
    assert_eq!(failed.json["reason"], "memory", "{failed:?}");
    world.wait_for(&event("worker paused").with("worker", "hill").with("reason", "memory"));

    let status = world.asks(&["status", &sweep]);
    assert_eq!((&status["workers"], &status["paused_workers"]), (&0.into(), &1.into()), "{status}");
    assert_eq!((&status["failed"], &status["waiting"]), (&2.into(), &2.into()), "{status}");
    let said = world.slalom(&["status", &sweep]).stderr;
    let said = String::from_utf8_lossy(&said);
    let words =
        format!("`{sweep}` waits: every worker at {} is paused, since run after run failed", world.url());
    assert!(said.contains(&words) && said.contains("`slalom resume --worker NAME`"), "{said}");
    assert_eq!(world.asks(&["workers"])[0]["paused"], true);

    assert_eq!(world.asks(&["resume", "--worker", "hill"])[0]["paused"], false);
    world.wait_for(&event("sweep done").with("sweep", &sweep).with("failed", 4));
}
