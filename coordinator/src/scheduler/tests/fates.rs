//! Faults in any order, then calm.

use super::*;

/// One thing that may happen in [`whatever_happens_every_trial_ends_with_its_own_bits`].
#[derive(Clone, Copy, Debug)]
enum Fate {
    Join,
    Finish,
    MilestoneThenSilence,
    Fail,
    HandBack,
    CheckpointAt(u64),
    Disconnect,
    Return,
    Wait,
    Restart,
    Repeat,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Join),
        4 => Just(Fate::Finish),
        2 => Just(Fate::MilestoneThenSilence),
        1 => Just(Fate::Fail),
        2 => Just(Fate::HandBack),
        2 => (0..1000_u64).prop_map(Fate::CheckpointAt),
        1 => Just(Fate::Disconnect),
        2 => Just(Fate::Return),
        1 => Just(Fate::Wait),
        1 => Just(Fate::Restart),
        2 => Just(Fate::Repeat),
    ]
}

proptest! {
    /// Faults in any order, then calm: every run is done with the bits of the pure function, or failed after its attempts
    /// (I1, I5, I6, I8); `World` checks the invariants of a state after each event.
    #[test]
    fn whatever_happens_every_trial_ends_with_its_own_bits(fates in proptest::collection::vec(fate(), 0..60)) {
        let mut world = World::new();
        world.submit(sweep("a"));
        let mut peers: Vec<(Peer, Vec<Lease>)> = Vec::new();
        let mut last: Option<(usize, Lease, Report)> = None;
        let keep = |held: &mut Vec<Lease>, effects: &Effects| held.extend(grants(effects));
        for (turn, fate) in fates.into_iter().enumerate() {
            let place = turn % peers.len().max(1);
            match (fate, peers.get_mut(place)) {
                (Fate::Join, _) | (_, None) => {
                    let (peer, effects) = world.join("hill", 2);
                    let mut held = Vec::new();
                    keep(&mut held, &effects);
                    peers.push((peer, held));
                }
                (Fate::Finish, Some((peer, held))) => if let Some(lease) = held.pop() {
                    let effects = world.finish(peer, &lease);
                    keep(held, &effects);
                }
                (Fate::MilestoneThenSilence, Some((peer, held))) => if let Some(lease) = held.last() {
                    let report = Report::Milestone(measured(&lease.run, lease.wanted[0]));
                    last = Some((place, lease.clone(), report.clone()));
                    world.report(peer, lease, report);
                    world.wait(LEASE);
                }
                (Fate::Fail, Some((peer, held))) => if let Some(lease) = held.pop() {
                    let effects = world.fail(peer, &lease);
                    keep(held, &effects);
                }
                (Fate::HandBack, Some((peer, held))) => if let Some(lease) = held.pop() {
                    let report = Report::LeaseEnded { milestones: Vec::new(), how: LeaseEnd::HandedBack };
                    let effects = world.report(peer, &lease, report);
                    keep(held, &effects);
                }
                (Fate::CheckpointAt(step), Some((peer, held))) => if let Some(lease) = held.last() {
                    let blob = ContentHash::of(&step.to_le_bytes());
                    let checkpoint = CheckpointName { step: Step::new(step), blob };
                    world.say(peer, Saying::CheckpointStored { lease: lease.id, run: lease.run.key(), checkpoint });
                }
                (Fate::Disconnect, Some((peer, _))) => {
                    let (stream, incarnation) = (peer.stream, peer.incarnation);
                    world.handle(Event::StreamClosed { stream, incarnation });
                }
                (Fate::Return, Some(_)) => {
                    let (peer, mut held) = peers.swap_remove(place);
                    let leases = held.iter().map(|lease| lease.id).collect();
                    let received_max = held.iter().map(|lease| lease.id).max();
                    let (peer, effects) = world.greet(peer, LeasesHeld { leases, received_max });
                    keep(&mut held, &effects);
                    held.sort_by_key(|lease| lease.id);
                    held.dedup_by_key(|lease| lease.id);
                    peers.push((peer, held));
                }
                (Fate::Wait, Some(_)) => {
                    world.wait(LEASE / 2);
                }
                (Fate::Restart, Some(_)) => world.restart(),
                (Fate::Repeat, Some(_)) => if let Some((place, lease, report)) = last.clone()
                    && let Some((peer, _)) = peers.get_mut(place)
                {
                    world.report(peer, &lease, report);
                }
            }
        }
        world.wait(LEASE);
        let (mut calm, mut effects) = world.join("calm", 4);
        let mut rounds = 0;
        let mut held = Vec::new();
        loop {
            keep(&mut held, &effects);
            let Some(lease) = held.pop() else { break };
            effects = world.finish(&mut calm, &lease);
            rounds += 1;
            prop_assert!(rounds < 50, "the sweep does not end");
        }
        let index = world.scheduler.ledger().find_sweep(&name("a")).expect("a known sweep");
        prop_assert!(world.scheduler.ledger().sweep(index).is_done());
        let family = *world.scheduler.ledger().sweep(index).sweep.family();
        for row in world.trial_rows(index) {
            let run = Run { family, shape: row.at.shape, seed: row.at.seed };
            if let Some(perplexity) = row.perplexity {
                prop_assert_eq!(Measured::Perplexity(perplexity), measured(&run, row.steps).measured);
            } else {
                prop_assert_eq!(row.state, RunState::Failed);
            }
        }
        let conflict = world.records.iter().find(|record| matches!(record, Record::ConflictFound { .. }));
        prop_assert_eq!(conflict, None);
    }
}
