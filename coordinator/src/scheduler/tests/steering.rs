//! What people say of sweeps and workers while they run: pause, stop, resume, cancel, drain; in every state, under every fault.

use slalom_common::answer::SweepState;

use super::*;
use crate::scheduler::event::Steering;

impl World {
    fn steer(&mut self, sweep: &str, steering: Steering) -> Effects {
        let request = RequestId(self.fresh());
        let effects = self.handle(Event::Steer { request, sweep: name(sweep), steering });
        assert_eq!(reply(&effects), Reply::Steered { sweep: name(sweep) });
        effects
    }

    fn cancel(&mut self, sweep: &str) -> Effects {
        let request = RequestId(self.fresh());
        let effects = self.handle(Event::Cancel { request, sweep: name(sweep) });
        assert_eq!(reply(&effects), Reply::Cancelled { sweep: name(sweep) });
        effects
    }

    fn drain(&mut self, worker: &str) -> (Reply, Effects) {
        let request = RequestId(self.fresh());
        let worker = worker.parse().expect("a valid name");
        let effects = self.handle(Event::Drain { request, worker });
        (reply(&effects), effects)
    }

    fn retry(&mut self, sweep: &str) -> Effects {
        let request = RequestId(self.fresh());
        self.handle(Event::Retry { request, sweep: name(sweep) })
    }

    fn state(&self, sweep: &str) -> SweepState {
        let index = self.scheduler.ledger().find_sweep(&name(sweep)).expect("a known sweep");
        self.scheduler.status(self.now, index).state
    }
}

/// The runs of [`sweep`], trained to other steps.
fn with_epochs(name: &str, epochs: &[u64]) -> Sweep {
    let mut draft = draft(name);
    let axes = Axes { epochs: axis(epochs), ..draft.blocks[0].axes().clone() };
    draft.blocks = vec![Grid::new(axes, Vec::new()).expect("a valid grid")];
    Sweep::new(draft).expect("a valid sweep")
}

fn hand_back(world: &mut World, peer: &mut Peer, lease: &Lease) -> Effects {
    let how = LeaseEnd::HandedBack;
    world.report(peer, lease, Report::LeaseEnded { milestones: Vec::new(), how })
}

#[test]
fn a_paused_sweep_gets_no_lease_and_what_runs_is_finished() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let effects = world.steer("a", Steering::Pause);
    assert_eq!(effects.records.len(), 1);
    assert!(sent(&effects).is_empty(), "what runs is left alone");
    assert!(matches!(notices(&effects)[..], [Notice::SweepPaused { .. }]));
    assert!(effects.now.is_empty(), "nothing is said before the commit: {:?}", effects.now);
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [3, 1, 0, 0, 0, 0]));

    assert!(grants(&world.finish(&mut hill, &lease)).is_empty());
    assert!(grants(&world.join("heir", 4).1).is_empty());
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [3, 0, 1, 0, 0, 0]));

    let effects = world.steer("a", Steering::Resume);
    assert!(matches!(notices(&effects)[0], Notice::SweepResumed { .. }));
    assert_eq!(grants(&effects).len(), 3);
    assert_eq!(world.state("a"), SweepState::Active);
}

#[test]
fn a_stopping_sweep_is_paused_when_its_last_lease_ends_and_says_so_once() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 2);
    let leases = grants(&effects);
    let effects = world.steer("a", Steering::Stop);
    assert!(matches!(notices(&effects)[..], [Notice::SweepStopping { .. }]));
    let effects = world.finish(&mut hill, &leases[0]);
    assert!(grants(&effects).is_empty());
    assert_eq!(world.state("a"), SweepState::Stopping);
    let said = |effects: &Effects| {
        notices(effects).iter().filter(|notice| matches!(notice, Notice::SweepPaused { .. })).count()
    };
    assert_eq!(said(&effects), 0);
    // A lost worker's run waits like the others: it does not go on elsewhere.
    let effects = world.wait(LEASE);
    assert_eq!(said(&effects), 1);
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [3, 0, 1, 0, 0, 0]));
    assert!(grants(&world.join("heir", 4).1).is_empty());
}

#[test]
fn a_stopping_sweep_whose_last_lease_brings_the_last_answer_is_done() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 4);
    world.steer("a", Steering::Stop);
    let mut last = Effects::default();
    for lease in grants(&effects) {
        last = world.finish(&mut hill, &lease);
    }
    assert_eq!(world.state("a"), SweepState::Done);
    assert!(notices(&last).iter().any(|notice| matches!(notice, Notice::SweepDone { .. })));
    assert!(!notices(&last).iter().any(|notice| matches!(notice, Notice::SweepPaused { .. })));
}

/// A sweep in the given state, of four runs: one leased to a worker of one slot unless it is over or `leased` is false.
fn in_state(state: SweepState, leased: bool) -> World {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let mut leases = grants(&effects);
    match state {
        SweepState::Active => (),
        SweepState::Paused => drop(world.steer("a", Steering::Pause)),
        SweepState::Stopping => drop(world.steer("a", Steering::Stop)),
        SweepState::Cancelled => drop(world.cancel("a")),
        SweepState::Done => {
            while let Some(lease) = leases.pop() {
                leases.extend(grants(&world.finish(&mut hill, &lease)));
            }
        }
    }
    if !leased && let Some(lease) = leases.pop() {
        world.say(&hill, Saying::Draining { received_max: Some(lease.id) });
        hand_back(&mut world, &mut hill, &lease);
    }
    world
}

/// The second table at the head of the scheduler, entry by entry; each asked twice and once more after a restart.
#[test]
fn every_verb_in_every_state_leads_where_the_table_says_and_again_to_the_same() {
    use SweepState::{Active, Cancelled, Done, Paused, Stopping};
    type Verb = fn(&mut World) -> Effects;
    let verbs: [(&str, Verb, [SweepState; 5]); 5] = [
        ("pause", |world| world.steer("a", Steering::Pause), [Paused, Paused, Paused, Done, Cancelled]),
        ("stop", |world| world.steer("a", Steering::Stop), [Stopping, Stopping, Stopping, Done, Cancelled]),
        ("resume", |world| world.steer("a", Steering::Resume), [Active, Active, Active, Done, Cancelled]),
        ("cancel", |world| world.cancel("a"), [Cancelled, Cancelled, Cancelled, Done, Cancelled]),
        ("submit", |world| world.submit(sweep("a")).1, [Active, Paused, Stopping, Done, Active]),
    ];
    for (verb, ask, expected) in verbs {
        for (from, to) in [Active, Paused, Stopping, Done, Cancelled].into_iter().zip(expected) {
            let mut world = in_state(from, true);
            assert_eq!(world.state("a"), from);
            let effects = ask(&mut world);
            assert_eq!(world.state("a"), to, "{verb} of a sweep that is {from}");
            let said = |record: &Record| {
                matches!(
                    record,
                    Record::SweepSteered { .. }
                        | Record::SweepCancelled { .. }
                        | Record::SweepResubmitted { .. }
                )
            };
            let records = effects.records.iter().filter(|record| said(record)).count();
            assert_eq!(records, usize::from(from != to), "{verb} of a sweep that is {from}");
            for _ in 0..2 {
                let again = ask(&mut world);
                assert!(
                    again.records.is_empty(),
                    "{verb} again, of one that was {from}: {:?}",
                    again.records
                );
                assert_eq!(world.state("a"), to);
                world.restart();
                assert_eq!(world.state("a"), to, "{verb} is forgotten by a restart");
            }
        }
    }
}

#[test]
fn stopping_a_sweep_of_which_nothing_is_leased_pauses_it_at_once() {
    for from in [SweepState::Active, SweepState::Paused] {
        let mut world = in_state(from, false);
        assert_eq!((world.state("a"), world.counts("a")), (from, [4, 0, 0, 0, 0, 0]));
        world.steer("a", Steering::Stop);
        assert_eq!(world.state("a"), SweepState::Paused);
    }
    // What stops is paused by the end of its last lease itself: there is nothing to stop any more.
    let mut world = in_state(SweepState::Stopping, false);
    assert_eq!(world.state("a"), SweepState::Paused);
    assert!(world.steer("a", Steering::Stop).records.is_empty());
}

#[test]
fn a_sweep_that_nobody_knows_is_steered_nowhere() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let request = RequestId(world.fresh());
    let effects = world.handle(Event::Steer { request, sweep: name("b"), steering: Steering::Pause });
    assert_eq!(reply(&effects), Reply::NoSuchSweep { known: vec![name("a")] });
    assert!(effects.records.is_empty());
}

#[test]
fn a_run_that_an_active_sweep_wants_too_is_leased_for_that_one_and_to_its_steps_alone() {
    let mut world = World::new();
    world.submit(with_epochs("long", &[500, 2000]));
    world.submit(sweep("short"));
    world.steer("long", Steering::Pause);
    let (mut hill, effects) = world.join("hill", 4);
    let leases = grants(&effects);
    assert_eq!(leases.len(), 4);
    assert!(leases.iter().all(|lease| lease.wanted == [Step::new(500), Step::new(1000)]), "{leases:?}");
    assert_eq!(world.counts("long"), [0, 4, 0, 0, 0, 0], "they run, whoever asked");
    for lease in &leases {
        world.finish(&mut hill, lease);
    }
    assert_eq!((world.state("short"), world.state("long")), (SweepState::Done, SweepState::Paused));
    assert_eq!(world.counts("long"), [4, 0, 0, 0, 0, 0]);
    let effects = world.steer("long", Steering::Resume);
    assert!(grants(&effects).iter().all(|lease| lease.wanted == [Step::new(2000)]));
    assert_eq!(grants(&effects).len(), 4);
}

#[test]
fn a_lease_goes_on_for_a_paused_sweep_when_the_other_that_wanted_its_run_is_cancelled() {
    for steering in [Steering::Pause, Steering::Stop] {
        let mut world = World::new();
        world.submit(sweep("a"));
        world.submit(sweep("b"));
        let (mut hill, effects) = world.join("hill", 1);
        let lease = grants(&effects).remove(0);
        world.steer("a", steering);
        assert!(sent(&world.cancel("b")).is_empty());
        world.finish(&mut hill, &lease);
        assert_eq!(world.counts("a"), [3, 0, 1, 0, 0, 0]);
        assert_eq!(world.state("a"), SweepState::Paused);
    }
}

#[test]
fn a_grant_that_was_lost_on_its_way_is_not_sent_again_for_a_paused_sweep() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lost = grants(&effects).remove(0);
    world.steer("a", Steering::Stop);
    world.restart();
    let (hill, effects) = world.greet(hill, LeasesHeld::default());
    assert!(grants(&effects).is_empty());
    world.say(&hill, Saying::Heartbeat(LeasesHeld::default()));
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [4, 0, 0, 0, 0, 0]));
    // Should it have come after all, it is told to drop it.
    let held = LeasesHeld { leases: vec![lost.id], received_max: Some(lost.id) };
    let effects = world.say(&hill, Saying::Heartbeat(held));
    assert_eq!(sent(&effects), [&CoordinatorMessage::Cancelled(vec![lost.id])]);
    let losses = |world: &World| world.scheduler.ledger().runs().map(|(_, run)| run.losses).sum::<u32>();
    assert_eq!(losses(&world), 0);
}

#[test]
fn a_new_policy_leaves_a_paused_sweep_paused() {
    let mut world = in_state(SweepState::Paused, true);
    let policy = Policy { max_attempts: 7, ..Policy::default() };
    let (said, effects) = world.submit(Sweep::new(Draft { policy, ..draft("a") }).expect("a valid sweep"));
    assert_eq!(said, Reply::Submitted { sweep: name("a"), created: false });
    assert_eq!(effects.records.len(), 1);
    assert_eq!(world.state("a"), SweepState::Paused);
}

#[test]
fn runs_retried_in_a_sweep_that_was_paused_wait_until_it_is_resumed_also_after_a_restart() {
    let mut world = World::new();
    let policy = Policy { max_attempts: 1, ..Policy::default() };
    world.submit(Sweep::new(Draft { policy, ..draft("a") }).expect("a valid sweep"));
    let (mut hill, effects) = world.join("hill", 4);
    world.steer("a", Steering::Pause);
    for lease in grants(&effects) {
        world.fail(&mut hill, &lease);
    }
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Done, [0, 0, 0, 0, 4, 0]));
    world.restart();
    world.join("heir", 4);
    assert!(grants(&world.retry("a")).is_empty());
    assert_eq!((world.state("a"), world.counts("a")), (SweepState::Paused, [4, 0, 0, 0, 0, 0]));
    assert_eq!(grants(&world.steer("a", Steering::Resume)).len(), 4);
}

fn draining(worker: &str) -> Reply {
    Reply::Draining { worker: worker.parse().expect("a valid name") }
}

fn is_told_to_drain(effects: &Effects) -> bool {
    sent(effects).contains(&&CoordinatorMessage::Drain)
}

#[test]
fn a_drained_worker_is_told_after_the_commit_gets_nothing_more_and_its_runs_go_on_elsewhere() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    let (said, effects) = world.drain("hill");
    assert_eq!(said, draining("hill"));
    assert_eq!(effects.records.len(), 1);
    assert!(effects.now.is_empty() && is_told_to_drain(&effects));
    assert!(matches!(notices(&effects)[..], [Notice::WorkerDraining { leases: 1, .. }]));
    assert!(grants(&world.steer("a", Steering::Resume)).is_empty());
    assert!(world.scheduler.worker_rows(world.now)[0].draining);

    world.say(&hill, Saying::Draining { received_max: Some(lease.id) });
    assert!(grants(&hand_back(&mut world, &mut hill, &lease)).is_empty());
    let effects = world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(matches!(notices(&effects)[..], [Notice::WorkerLeft { why: Leaving::Drained, .. }]));
    let (_, effects) = world.join("heir", 4);
    assert_eq!(grants(&effects).len(), 4);
    assert!(world.scheduler.ledger().runs().all(|(_, run)| (run.failures, run.losses) == (0, 0)));
}

#[test]
fn a_drain_that_was_not_heard_is_told_at_each_hello_also_after_a_restart() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    world.drain("hill");
    let effects = world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(notices(&effects).is_empty(), "it has not left: it does not know");
    world.restart();
    let held = LeasesHeld { leases: vec![lease.id], received_max: Some(lease.id) };
    let (hill, effects) = world.greet(hill, held.clone());
    assert!(matches!(sent(&effects)[..], [CoordinatorMessage::Welcome(_), CoordinatorMessage::Drain]));
    let (_, effects) = world.greet(hill, held);
    assert!(is_told_to_drain(&effects));
    assert!(grants(&effects).is_empty());
}

#[test]
fn a_grant_that_was_lost_on_its_way_is_not_sent_again_to_a_drained_worker() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, _) = world.join("hill", 1);
    world.drain("hill");
    let (hill, effects) = world.greet(hill, LeasesHeld::default());
    assert!(grants(&effects).is_empty());
    world.say(&hill, Saying::Heartbeat(LeasesHeld::default()));
    assert_eq!(world.counts("a"), [4, 0, 0, 0, 0, 0]);
}

/// Seed 2512 of the simulation, invariant I3: the coordinator stood still while the worker gave one stream up after the other.
#[test]
fn a_late_hello_of_a_stream_that_was_given_up_ends_no_lease_that_its_worker_trains() {
    let held = |leases: &[LeaseId]| {
        let received_max = leases.iter().max().copied();
        LeasesHeld { leases: leases.to_vec(), received_max }
    };
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, effects) = world.join("hill", 1);
    let lease = grants(&effects).remove(0);
    world.steer("a", Steering::Pause);
    let (hill, effects) = world.greet(hill, held(&[]));
    assert!(effects.records.is_empty(), "{:?}", effects.records);
    // It opens a new stream, since that one supersedes the one that it is on.
    let (hill, effects) = world.greet(hill, held(&[lease.id]));
    assert!(effects.records.is_empty(), "{:?}", effects.records);
    let effects = world.say(&hill, Saying::Heartbeat(held(&[lease.id])));
    assert!(effects.records.is_empty() && sent(&effects).is_empty());
    assert_eq!(world.counts("a"), [3, 1, 0, 0, 0, 0]);
}

#[test]
fn whoever_drains_again_hears_the_same_and_a_later_process_of_the_name_serves() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (hill, _) = world.join("hill", 1);
    world.drain("hill");
    let (said, effects) = world.drain("hill");
    assert_eq!(said, draining("hill"));
    assert!(effects.records.is_empty(), "{:?}", effects.records);
    world.say(&hill, Saying::Draining { received_max: None });
    world.handle(Event::StreamClosed { stream: hill.stream, incarnation: hill.incarnation });
    assert!(world.scheduler.fleet().is_empty());
    world.restart();
    let (said, effects) = world.drain("hill");
    assert_eq!(said, draining("hill"), "it has left, which is what was asked");
    assert!(effects.records.is_empty());

    let (_, effects) = world.join("hill", 1);
    assert!(!is_told_to_drain(&effects));
    assert_eq!(grants(&effects).len(), 1);
    let (_, effects) = world.drain("hill");
    assert_eq!(effects.records.len(), 1, "this process is another one");
}

#[test]
fn a_worker_that_nobody_knows_and_that_of_a_slalom_run_are_not_drained() {
    let mut world = World::new();
    world.submit(sweep("a"));
    world.join("hill", 1);
    let (said, effects) = world.drain("hull");
    assert_eq!(said, Reply::NoSuchWorker { known: vec!["hill".parse().expect("a valid name")] });
    assert!(effects.records.is_empty());
    let only = Settings { serve: Serve::Only(name("a")), ..settings() };
    world.scheduler = Scheduler::recover(only, world.store, world.now, world.records.clone());
    assert_eq!(world.drain("hill").0, Reply::KeepsItsWorker { only: name("a") });
}

/// What a person may type of a sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    Steer(Steering),
    Cancel,
    Submit,
}

/// One thing that may happen in [`whatever_is_said_and_whatever_happens_holds_and_every_trial_ends_with_its_own_bits`].
#[derive(Clone, Copy, Debug)]
enum Fate {
    Say(usize, Verb),
    Drain,
    Join,
    Finish,
    Milestone,
    Fail,
    HandBack,
    Return,
    ReturnWithoutTheLastGrant,
    Wait,
    Silence,
    Restart,
}

fn fate() -> impl Strategy<Value = Fate> {
    let verb = prop_oneof![
        3 => Just(Verb::Steer(Steering::Pause)),
        3 => Just(Verb::Steer(Steering::Stop)),
        4 => Just(Verb::Steer(Steering::Resume)),
        1 => Just(Verb::Cancel),
        2 => Just(Verb::Submit),
    ];
    prop_oneof![
        8 => (0..SWEEPS.len(), verb).prop_map(|(sweep, verb)| Fate::Say(sweep, verb)),
        1 => Just(Fate::Drain),
        3 => Just(Fate::Join),
        4 => Just(Fate::Finish),
        2 => Just(Fate::Milestone),
        1 => Just(Fate::Fail),
        2 => Just(Fate::HandBack),
        1 => Just(Fate::Return),
        2 => Just(Fate::ReturnWithoutTheLastGrant),
        1 => Just(Fate::Wait),
        1 => Just(Fate::Silence),
        2 => Just(Fate::Restart),
    ]
}

/// Two sweeps over the same runs; each wants a step that the other does not.
const SWEEPS: [(&str, [u64; 2]); 2] = [("a", [500, 1000]), ("b", [500, 2000])];

/// A peer and what it has received and not yet ended.
struct Holder {
    peer: Peer,
    held: Vec<Lease>,
    received: Vec<LeaseId>,
    /// Whether it was told to hand back what it holds. This one takes its time.
    drained: bool,
}

impl Holder {
    fn holds(&self) -> LeasesHeld {
        let mut leases: Vec<LeaseId> = self.held.iter().map(|lease| lease.id).collect();
        leases.sort_unstable();
        LeasesHeld { leases, received_max: self.received.iter().max().copied() }
    }
}

/// A world, and what follows for it from what was said alone.
struct Steered {
    world: World,
    holders: Vec<Holder>,
    /// Which sweeps somebody wants to go on.
    wanted: [bool; SWEEPS.len()],
}

impl Steered {
    fn new() -> Self {
        let mut steered = Self { world: World::new(), holders: Vec::new(), wanted: [true; SWEEPS.len()] };
        for (name, epochs) in SWEEPS {
            steered.world.submit(with_epochs(name, &epochs));
        }
        steered
    }

    fn states(&self) -> [SweepState; SWEEPS.len()] {
        SWEEPS.map(|(name, _)| self.world.state(name))
    }

    fn say(&mut self, sweep: usize, verb: Verb) -> Effects {
        let (name, epochs) = SWEEPS[sweep];
        match verb {
            Verb::Steer(steering) => self.world.steer(name, steering),
            Verb::Cancel => self.world.cancel(name),
            Verb::Submit => self.world.submit(with_epochs(name, &epochs)).1,
        }
    }

    /// The state that `verb` alone leads to.
    fn expected(&self, sweep: usize, verb: Verb) -> SweepState {
        let (name, _) = SWEEPS[sweep];
        let runs = self.world.counts(name)[RunState::Running as usize] > 0;
        match (self.world.state(name), verb) {
            (SweepState::Cancelled, Verb::Submit) => SweepState::Active,
            (over @ (SweepState::Done | SweepState::Cancelled), _) => over,
            (_, Verb::Cancel) => SweepState::Cancelled,
            (state, Verb::Submit) => state,
            (_, Verb::Steer(Steering::Resume)) => SweepState::Active,
            (_, Verb::Steer(Steering::Stop)) if runs => SweepState::Stopping,
            (_, Verb::Steer(Steering::Pause | Steering::Stop)) => SweepState::Paused,
        }
    }

    /// Hands the peers what they were sent.
    fn deliver(&mut self, effects: &Effects) {
        for effect in &effects.after_commit {
            let Effect::Send { stream, message } = effect else { continue };
            let holder = self.holders.iter_mut().find(|holder| holder.peer.stream == *stream);
            match (holder, message) {
                (Some(holder), CoordinatorMessage::Grants(leases)) => {
                    holder.received.extend(leases.iter().map(|lease| lease.id));
                    holder.held.extend(leases.iter().cloned());
                }
                (Some(holder), CoordinatorMessage::Cancelled(leases)) => {
                    holder.held.retain(|lease| !leases.contains(&lease.id));
                }
                (Some(holder), CoordinatorMessage::Drain) => holder.drained = true,
                (Some(_) | None, _) => (),
            }
        }
    }

    /// Whoever was told to drain is sent nothing to train.
    fn check_drained(&self, effects: &Effects) -> Result<(), TestCaseError> {
        for effect in &effects.after_commit {
            let Effect::Send { stream, message: CoordinatorMessage::Grants(leases) } = effect else {
                continue;
            };
            let drained = self.holders.iter().any(|holder| holder.peer.stream == *stream && holder.drained);
            prop_assert!(!drained, "{:?}", leases);
        }
        Ok(())
    }

    /// What is granted, or sent again, names steps alone that a sweep wants which is to go on.
    fn check_grants(&self, effects: &Effects) -> Result<(), TestCaseError> {
        let asked: BTreeSet<u64> = SWEEPS
            .iter()
            .zip(self.wanted)
            .filter(|(_, wanted)| *wanted)
            .flat_map(|((_, steps), _)| *steps)
            .collect();
        for lease in grants(effects) {
            let unasked = lease.wanted.iter().find(|step| !asked.contains(&step.number()));
            prop_assert_eq!(unasked, None, "{:?} of {:?}", lease, asked);
        }
        Ok(())
    }

    fn meet(&mut self, fate: Fate, place: usize) -> Effects {
        match (fate, self.holders.get_mut(place)) {
            (Fate::Say(sweep, verb), _) => self.say(sweep, verb),
            (Fate::Drain, _) => self.world.drain("hill").1,
            (Fate::Wait, _) => self.world.wait(LEASE / 2),
            (Fate::Silence, _) => self.world.wait(LEASE),
            (Fate::Restart, _) => {
                self.world.restart();
                Effects::default()
            }
            (Fate::Join, _) | (_, None) => {
                let (peer, effects) = self.world.join("hill", 2);
                self.holders.push(Holder { peer, held: Vec::new(), received: Vec::new(), drained: false });
                effects
            }
            (Fate::Return | Fate::ReturnWithoutTheLastGrant, Some(_)) => {
                let mut holder = self.holders.remove(place);
                let last = holder.received.last().copied();
                if matches!(fate, Fate::ReturnWithoutTheLastGrant)
                    && holder.held.last().is_some_and(|lease| Some(lease.id) == last)
                {
                    holder.held.pop();
                    holder.received.pop();
                }
                let held = holder.holds();
                let (peer, effects) = self.world.greet(holder.peer, held);
                self.holders.push(Holder { peer, ..holder });
                effects
            }
            (Fate::Milestone, Some(holder)) => {
                holder.held.last().cloned().map_or_else(Effects::default, |lease| {
                    let report = Report::Milestone(measured(&lease.run, lease.wanted[0]));
                    self.world.report(&mut holder.peer, &lease, report)
                })
            }
            (Fate::Finish | Fate::Fail | Fate::HandBack, Some(holder)) => {
                let Some(lease) = holder.held.pop() else { return Effects::default() };
                match fate {
                    Fate::Finish => self.world.finish(&mut holder.peer, &lease),
                    Fate::Fail => self.world.fail(&mut holder.peer, &lease),
                    _ => hand_back(&mut self.world, &mut holder.peer, &lease),
                }
            }
        }
    }

    /// One thing happens, and leaves every sweep as what was said of it and what became of its runs tell.
    fn happens(&mut self, fate: Fate, turn: usize) -> Result<(), TestCaseError> {
        let before = self.states();
        let said =
            if let Fate::Say(sweep, verb) = fate { Some((sweep, self.expected(sweep, verb))) } else { None };
        if let Some((sweep, to)) = said {
            self.wanted[sweep] = to == SweepState::Active;
        }
        let effects = self.meet(fate, turn % self.holders.len().max(1));
        self.check_drained(&effects)?;
        self.deliver(&effects);
        self.check_grants(&effects)?;
        let ended = effects.records.iter().any(|record| matches!(record, Record::LeaseEnded { .. }));
        for (sweep, (from, to)) in before.into_iter().zip(self.states()).enumerate() {
            let expected = said.filter(|(of, _)| *of == sweep).map_or(from, |(_, expected)| expected);
            let allowed = match (expected, to) {
                (SweepState::Cancelled, SweepState::Done) => false,
                (_, SweepState::Done) => true,
                (SweepState::Stopping, SweepState::Paused) => ended,
                (expected, to) => expected == to,
            };
            prop_assert!(allowed, "{:?} made sweep {} {}: it was {}", fate, sweep, to, from);
        }
        Ok(())
    }
}

proptest! {
    /// Steering, drains, leases, milestones, failures, lost grants and restarts in any order: what was said of a sweep holds until
    /// something else is said, nobody trains for a sweep that is not to go on, and then, resumed and calm, every trial ends with
    /// its own bits. `World` checks the invariants of each state and of each grant.
    #[test]
    fn whatever_is_said_and_whatever_happens_holds_and_every_trial_ends_with_its_own_bits(
        fates in proptest::collection::vec(fate(), 0..80),
    ) {
        let mut steered = Steered::new();
        for (turn, fate) in fates.into_iter().enumerate() {
            steered.happens(fate, turn)?;
        }
        steered.happens(Fate::Silence, 0)?;
        for sweep in 0..SWEEPS.len() {
            steered.happens(Fate::Say(sweep, Verb::Submit), 0)?;
            steered.happens(Fate::Say(sweep, Verb::Steer(Steering::Resume)), 0)?;
        }
        steered.holders.clear();
        // It may be paused by now: three runs in a row have failed on workers of its name.
        let request = RequestId(steered.world.fresh());
        steered.world.handle(Event::ResumeWorker { request, worker: "hill".parse().expect("a name") });
        steered.happens(Fate::Join, 0)?;
        let mut rounds = 0;
        while !steered.holders[0].held.is_empty() {
            steered.happens(Fate::Finish, 0)?;
            rounds += 1;
            prop_assert!(rounds < 50, "the sweeps do not end");
        }
        prop_assert_eq!(steered.states(), [SweepState::Done; SWEEPS.len()]);
        for (sweep, _) in SWEEPS {
            let world = &steered.world;
            let index = world.scheduler.ledger().find_sweep(&name(sweep)).expect("a known sweep");
            let family = *world.scheduler.ledger().sweep(index).sweep.family();
            for row in world.trial_rows(index) {
                let run = Run { family, shape: row.at.shape, seed: row.at.seed };
                if let Some(perplexity) = row.perplexity {
                    prop_assert_eq!(Measured::Perplexity(perplexity), measured(&run, row.steps).measured);
                } else {
                    prop_assert_eq!(row.state, RunState::Failed);
                }
            }
        }
        let conflict = steered.world.records.iter().find(|record| matches!(record, Record::ConflictFound { .. }));
        prop_assert_eq!(conflict, None);
    }
}
