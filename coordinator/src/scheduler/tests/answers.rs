//! What workers report: new answers, the same again, others, and those of leases that ended.

use super::*;

#[test]
fn the_same_answer_again_changes_nothing_and_is_acknowledged_again() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let report = Report::Milestone(measured(&lease.run, Step::new(500)));
    world.report(&mut hill, &lease, report.clone());
    hill.reports = 0;
    let effects = world.report(&mut hill, &lease, report);
    assert!(effects.records.is_empty());
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);
}

#[test]
fn other_bits_for_the_same_answer_are_a_conflict_and_the_first_stays() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut slow, effects) = world.join("slow", 1);
    let first = grants(&effects).remove(0);
    world.wait(LEASE);
    let (mut quick, effects) = world.join("quick", 1);
    let second = grants(&effects).remove(0);
    assert_eq!(first.run, second.run);
    world.report(&mut quick, &second, Report::Milestone(measured(&second.run, Step::new(500))));
    let held = LeasesHeld { leases: vec![first.id], received_max: Some(first.id) };
    let (back, effects) = world.greet(slow, held);
    slow = back;
    assert!(
        sent(&effects).contains(&&CoordinatorMessage::Cancelled(vec![first.id])),
        "it is told to drop it"
    );
    let other = Milestone {
        measured: Measured::Perplexity(Perplexity::new(99.0).expect("finite")),
        ..measured(&first.run, Step::new(500))
    };
    let effects = world.report(&mut slow, &first, Report::Milestone(other));
    let conflict = notices(&effects).into_iter().find_map(|notice| match notice {
        Notice::ResultConflict { kept_worker, refused_worker, .. } => {
            Some((kept_worker.to_string(), refused_worker.to_string()))
        }
        _ => None,
    });
    assert_eq!(conflict, Some(("quick".to_owned(), "slow".to_owned())));
    let run = world.scheduler.ledger().find(&first.run.key()).expect("a known run");
    let kept = world.scheduler.ledger().run(run).answer(Step::new(500));
    assert_eq!(kept, Some(measured(&first.run, Step::new(500)).measured));
}

/// Seed 3472 of the simulation: its acknowledgement died with the coordinator, so the report came again.
#[test]
fn a_contradiction_that_is_reported_again_is_acknowledged_and_not_recorded_twice() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut slow, effects) = world.join("slow", 1);
    let first = grants(&effects).remove(0);
    world.wait(LEASE);
    let (mut quick, effects) = world.join("quick", 1);
    let second = grants(&effects).remove(0);
    world.report(&mut quick, &second, Report::Milestone(measured(&second.run, Step::new(500))));
    let held = LeasesHeld { leases: vec![first.id], received_max: Some(first.id) };
    let other = Milestone {
        measured: Measured::Perplexity(Perplexity::new(99.0).expect("finite")),
        ..measured(&first.run, Step::new(500))
    };
    slow = world.greet(slow, held.clone()).0;
    let effects = world.report(&mut slow, &first, Report::Milestone(other));
    assert!(matches!(effects.records[..], [Record::ConflictFound { .. }]), "{:?}", effects.records);

    world.restart();
    slow = world.greet(slow, held).0;
    slow.reports = 0;
    let effects = world.report(&mut slow, &first, Report::Milestone(other));
    assert_eq!(effects.records, []);
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);
}

#[test]
fn the_last_answer_from_a_stale_lease_is_welcome_and_stops_the_heir() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (slow, effects) = world.join("slow", 1);
    let first = grants(&effects).remove(0);
    world.wait(LEASE);
    let (_, effects) = world.join("heir", 1);
    let second = grants(&effects).remove(0);
    assert_eq!(first.run, second.run);
    let held = LeasesHeld { leases: vec![first.id], received_max: Some(first.id) };
    let (mut slow, _) = world.greet(slow, held);
    let effects = world.finish(&mut slow, &first);
    assert!(sent(&effects).contains(&&CoordinatorMessage::Cancelled(vec![second.id])));
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::RunDone { .. })));
}

#[test]
fn a_failure_under_a_stale_lease_spends_no_attempt() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (slow, effects) = world.join("slow", 1);
    let first = grants(&effects).remove(0);
    world.wait(LEASE);
    let (mut slow, _) =
        world.greet(slow, LeasesHeld { leases: vec![first.id], received_max: Some(first.id) });
    let before = world.records.len();
    world.fail(&mut slow, &first);
    let stale = |record: &Record| matches!(record, Record::LeaseEnded { lease, .. } if *lease == first.id);
    assert!(!world.records[before..].iter().any(stale));
}

#[test]
fn a_divergence_answers_every_later_step_and_is_not_retried() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let milestones = vec![measured(&lease.run, Step::new(500))];
    let how = LeaseEnd::Diverged { at: Step::new(700) };
    let effects = world.report(&mut hill, &lease, Report::LeaseEnded { milestones, how });
    assert!(notices(&effects).iter().any(|notice| matches!(notice, Notice::RunDiverged { .. })));
    assert_eq!(world.counts("a"), [2, 1, 0, 1, 0, 0]);
    let index = world.scheduler.ledger().find_sweep(&name("a")).expect("a known sweep");
    let rows = world.trial_rows(index);
    let states: Vec<RunState> =
        rows.iter().filter(|row| row.at.shape == lease.run.shape).map(|row| row.state).collect();
    assert_eq!(states, [RunState::Done, RunState::Diverged]);
}

#[test]
fn a_milestone_past_a_recorded_divergence_is_a_conflict() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let how = LeaseEnd::Diverged { at: Step::new(500) };
    world.report(&mut hill, &lease, Report::LeaseEnded { milestones: Vec::new(), how });
    let at = world.report(&mut hill, &lease, Report::Milestone(measured(&lease.run, Step::new(500))));
    assert!(
        matches!(at.records[0], Record::MilestoneReached { .. }),
        "500 steps were applied before step 500"
    );
    let past = world.report(&mut hill, &lease, Report::Milestone(measured(&lease.run, Step::new(1000))));
    assert!(matches!(past.records[0], Record::ConflictFound { .. }));
}

#[test]
fn the_end_of_a_lease_that_was_never_granted_is_refused_and_acknowledged() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    let never = Lease { id: LeaseId::new(7), ..grants(&effects).remove(0) };
    let effects = world.finish(&mut hill, &never);
    assert!(effects.records.is_empty());
    assert!(matches!(notices(&effects)[..], [Notice::MessageRefused { .. }]));
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);
}

#[test]
fn a_divergence_that_contradicts_a_kept_answer_is_not_tried_for_ever() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut bad, effects) = world.join("bad", 1);
    let lease = grants(&effects).remove(0);
    world.report(&mut bad, &lease, Report::Milestone(measured(&lease.run, Step::new(1000))));
    world.wait(LEASE);
    let (mut good, effects) = world.join("good", 1);
    let mut next = grants(&effects).pop();
    let mut rounds = 0;
    while let Some(lease) = next {
        rounds += 1;
        assert!(rounds < 100, "the run is tried for ever");
        let milestones = Vec::new();
        let how = LeaseEnd::Diverged { at: Step::new(300) };
        let effects = world.report(&mut good, &lease, Report::LeaseEnded { milestones, how });
        next = grants(&effects).pop();
    }
    assert_eq!(world.counts("a"), [0, 0, 0, 3, 1, 0]);
}

#[test]
fn an_answer_that_nobody_asked_for_is_acknowledged_and_not_kept() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let effects = world.report(&mut hill, &lease, Report::Milestone(measured(&lease.run, Step::new(123))));
    assert!(effects.records.is_empty());
    assert_eq!(sent(&effects), [&CoordinatorMessage::Acknowledged(MessageNumber::new(1))]);
}
