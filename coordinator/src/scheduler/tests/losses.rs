//! Workers that go silent, fail or leave, coordinators that restart, and what a run loses by it.

use super::*;

#[test]
fn a_checkpoint_past_an_unrecorded_milestone_is_not_resumed_from() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    for (step, content) in [(400, b"early"), (600, b"later")] {
        let checkpoint = CheckpointName { step: Step::new(step), blob: ContentHash::of(content) };
        world.say(&hill, Saying::CheckpointStored { lease: lease.id, run: lease.run.key(), checkpoint });
    }
    world.wait(LEASE);
    let (_, effects) = world.join("heir", 1);
    let again = grants(&effects).remove(0);
    assert_eq!(again.run, lease.run);
    assert_eq!(again.resume.map(|checkpoint| checkpoint.step), Some(Step::new(400)), "500 has no answer");
}

#[test]
fn a_silent_worker_loses_its_runs_and_no_attempt_is_spent() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (_, effects) = world.join("doomed", 1);
    let lost = grants(&effects).remove(0);
    world.wait(LEASE.saturating_sub(Duration::from_millis(1)));
    assert_eq!(world.counts("a"), [3, 1, 0, 0, 0, 0]);
    let effects = world.wait(Duration::from_millis(1));
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::LeaseExpired { .. })));
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);
    let (_, effects) = world.join("heir", 1);
    let again = grants(&effects).remove(0);
    assert_eq!(again.run, lost.run, "it is the longest again");
    assert!(again.id > lost.id);
    let attempts: Vec<u32> = notices(&effects)
        .iter()
        .filter_map(|notice| match notice {
            Notice::RunLeased { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1]);
}

#[test]
fn twenty_lost_workers_in_a_row_fail_a_run_and_a_milestone_between_does_not() {
    let mut world = World::new();
    let mut one = draft("a");
    let axes = Axes { nodes: axis(&[8]), unrollings: axis(&[1]), ..one.blocks[0].axes().clone() };
    one.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    world.submit(Sweep::new(one).expect("a valid sweep"));
    for _ in 0..19 {
        world.join("doomed", 1);
        world.wait(LEASE);
    }
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    world.report(&mut hill, &lease, Report::Milestone(measured(&lease.run, Step::new(500))));
    world.wait(LEASE);
    for _ in 0..18 {
        world.join("doomed", 1);
        world.wait(LEASE);
    }
    assert_eq!(world.counts("a"), [1, 0, 0, 0, 0, 0]);
    world.join("doomed", 1);
    world.wait(LEASE);
    assert_eq!(world.counts("a"), [0, 0, 0, 0, 1, 0], "the loss after the milestone was the first of twenty");
}

#[test]
fn a_run_that_fails_three_times_is_failed_until_somebody_says_retry() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let mut lease = grants(&effects).remove(0);
    let poison = lease.run;
    for _ in 0..2 {
        let effects = world.fail(&mut hill, &lease);
        lease = grants(&effects).remove(0);
        assert_eq!(lease.run, poison, "the longest comes again");
    }
    let effects = world.fail(&mut hill, &lease);
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::RunFailed { attempts: 3, .. })));
    assert_ne!(grants(&effects)[0].run, poison);
    assert_eq!(world.counts("a"), [2, 1, 0, 0, 1, 0]);
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Retry { request, sweep: name("a") });
    assert_eq!(reply(&effects), Reply::Retried { runs: 1 });
    assert_eq!(world.counts("a"), [3, 1, 0, 0, 0, 0]);
}

#[test]
fn a_restart_grants_only_waiting_runs_and_gives_old_leases_one_whole_lease_time() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (old, effects) = world.join("old", 1);
    let held = grants(&effects).remove(0);
    world.wait(LEASE.saturating_sub(Duration::from_secs(1)));
    world.restart();
    let (_, effects) = world.join("new", 4);
    assert_eq!(grants(&effects).len(), 3);
    assert!(grants(&effects).iter().all(|lease| lease.run != held.run));
    world.wait(Duration::from_secs(2));
    assert_eq!(world.counts("a"), [0, 4, 0, 0, 0, 0]);
    let (mut old, effects) =
        world.greet(old, LeasesHeld { leases: vec![held.id], received_max: Some(held.id) });
    assert!(grants(&effects).is_empty(), "it holds what it was granted");
    world.finish(&mut old, &held);
    assert_eq!(world.counts("a"), [0, 3, 1, 0, 0, 0]);
}

#[test]
fn a_lease_that_its_living_worker_does_not_have_is_gone() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let held = LeasesHeld { leases: Vec::new(), received_max: Some(lease.id) };
    let effects = world.say(&hill, Saying::Heartbeat(held));
    assert_eq!(grants(&effects)[0].run, lease.run, "it waits again, and is the longest");
}

#[test]
fn a_draining_worker_gets_nothing_more_and_leaves_without_a_warning() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    world.say(&hill, Saying::Draining { received_max: Some(lease.id) });
    let how = LeaseEnd::HandedBack;
    let effects = world.report(&mut hill, &lease, Report::LeaseEnded { milestones: Vec::new(), how });
    assert!(grants(&effects).is_empty());
    let effects = world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(matches!(notices(&effects)[..], [Notice::WorkerLeft { why: Leaving::Drained, .. }]));
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);
}

#[test]
fn runs_retried_after_a_restart_are_leased() {
    let mut world = World::new();
    world.submit(sweep("a"));
    for worker in ["hill", "dale", "vale", "glen", "fell", "moor"] {
        let (mut peer, effects) = world.join(worker, 1);
        let mut leases = grants(&effects);
        // Until its third run pauses it.
        while let Some(lease) = leases.pop() {
            let effects = world.fail(&mut peer, &lease);
            leases.extend(grants(&effects));
        }
    }
    assert_eq!(world.counts("a"), [0, 0, 0, 0, 4, 0]);
    world.restart();
    world.join("heir", 4);
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Retry { request, sweep: name("a") });
    assert_eq!(grants(&effects).len(), 4);
}

/// L3: one bad machine must not fail what others can train.
#[test]
fn a_run_that_failed_on_a_worker_is_not_given_back_to_it_while_another_is_there() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut large, effects) = world.join("large", 1);
    let kept = grants(&effects).remove(0);
    let (mut small, effects) = world.join("small", 1);
    let mut leases = grants(&effects);
    while let Some(lease) = leases.pop() {
        let effects = world.fail(&mut small, &lease);
        leases.extend(grants(&effects));
    }
    assert_eq!(world.counts("a"), [3, 1, 0, 0, 0, 0], "each of the three has failed once");
    let mut next = Some(kept);
    while let Some(lease) = next {
        let effects = world.finish(&mut large, &lease);
        next = grants(&effects).pop();
    }
    assert_eq!(world.counts("a"), [0, 0, 4, 0, 0, 0]);
}

#[test]
fn a_drain_that_crosses_a_grant_ends_the_lease_at_once_and_costs_neither_an_attempt_nor_a_loss() {
    let mut world = World::new();
    let (mut hill, _) = world.join("hill", 1);
    let (_, effects) = world.submit(sweep("a"));
    let crossed = grants(&effects).remove(0);
    world.say(&hill, Saying::Draining { received_max: None });
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);
    // Should the grant find it there, it hands it back all the same.
    let how = LeaseEnd::HandedBack;
    world.report(&mut hill, &crossed, Report::LeaseEnded { milestones: Vec::new(), how });
    let effects = world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(matches!(notices(&effects)[..], [Notice::WorkerLeft { why: Leaving::Drained, .. }]));
    let (_, effects) = world.join("heir", 4);
    assert_eq!(grants(&effects).len(), 4);
    let known = |run: &ledger::run::RunEntry| (run.failures, run.losses);
    assert!(world.scheduler.ledger().runs().all(|(_, run)| known(run) == (0, 0)));
}
