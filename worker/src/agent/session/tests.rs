//! A statement a test, events in and effects out; and one property over streams that break at any moment.

use super::*;
use slalom_common::cost::REFERENCE;
use slalom_common::id::ContentHash;
use slalom_common::message::LeaseKind;
use slalom_common::outcome::{Measured, Perplexity};
use slalom_common::run::{Family, Run, Shape};
use slalom_common::settings::TrainingSettings;

mod broken_streams;

const START: Moment = Moment::new(Duration::from_secs(1));
const TERMS: Welcome = Welcome {
    heartbeat: Duration::from_secs(5),
    lease: Duration::from_secs(30),
    checkpoint_every: Duration::from_secs(60),
    acknowledged: None,
    store: StoreId::new(1),
    forget: false,
};

fn identity(slots: u32) -> Identity {
    Identity {
        worker: "hill-3".parse().expect("a name"),
        incarnation: Incarnation::new(7),
        slots,
        numerics: NumericsVersion::new(1),
        known_run: ContentHash::of(b"known"),
        isa: "portable".to_owned(),
        speed: 1.0,
        gflops_per_slot: 10.0,
        cost: REFERENCE,
    }
}

fn lease(number: u64) -> Lease {
    let family = Family {
        corpus: ContentHash::of(b"snow"),
        valid_size: 1000,
        training: TrainingSettings::default(),
        numerics: NumericsVersion::new(1),
    };
    Lease {
        id: LeaseId::new(number),
        kind: LeaseKind::Primary,
        run: Run { family, shape: Shape { nodes: 8, batch_size: 16, unrollings: 5 }, seed: number },
        wanted: vec![Step::new(10), Step::new(20)],
        resume: None,
        resume_before: None,
        checkpoint_every: None,
    }
}

fn milestone(step: u64) -> Milestone {
    let perplexity = Perplexity::new(6.5).expect("finite");
    Milestone { step: Step::new(step), measured: Measured::Perplexity(perplexity), loss: Some(1.5) }
}

fn granted(numbers: &[u64]) -> Event {
    Event::Received(CoordinatorMessage::Grants(numbers.iter().map(|&number| lease(number)).collect()))
}

fn acknowledged(number: u64) -> Event {
    Event::Received(CoordinatorMessage::Acknowledged(MessageNumber::new(number)))
}

fn welcomed(acknowledged: Option<u64>) -> Event {
    let acknowledged = acknowledged.map(MessageNumber::new);
    Event::Received(CoordinatorMessage::Welcome(Welcome { acknowledged, ..TERMS }))
}

fn reached(lease: u64, step: u64) -> Event {
    Event::Slot { lease: LeaseId::new(lease), news: SlotNews::Milestone(milestone(step)) }
}

fn over(lease: u64, how: LeaseEnd) -> Event {
    Event::Slot { lease: LeaseId::new(lease), news: SlotNews::Ended { milestones: vec![milestone(20)], how } }
}

/// A session of so many slots on a stream that was welcomed at [`START`], after `events`.
fn live(slots: u32, events: impl IntoIterator<Item = Event>) -> Session {
    let mut session = Session::new(identity(slots));
    for event in [Event::Connected, welcomed(None)].into_iter().chain(events) {
        session.handle(START, event);
    }
    session
}

/// One word an effect, so that a test reads as what was asked for.
fn words(effects: &[Effect]) -> Vec<String> {
    effects.iter().map(word).collect()
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Send(message) => match message {
            WorkerMessage::Hello(hello) => format!("hello {}", held(&hello.held)),
            WorkerMessage::Heartbeat(leases) => format!("heartbeat {}", held(leases)),
            WorkerMessage::Progress { lease, step, .. } => format!("progress {lease}@{step}"),
            WorkerMessage::CheckpointStored { lease, checkpoint, .. } => {
                format!("checkpoint {lease}@{}", checkpoint.step)
            }
            WorkerMessage::Numbered { number, lease, report: Report::Milestone(milestone), .. } => {
                format!("#{number} {lease}@{}", milestone.step)
            }
            WorkerMessage::Numbered {
                number, lease, report: Report::LeaseEnded { milestones, how }, ..
            } => {
                format!("#{number} {lease} {how:?} with {}", milestones.len())
            }
            WorkerMessage::Draining { received_max } => {
                format!("draining from {:?}", received_max.map(LeaseId::number))
            }
        },
        Effect::Start { slot, lease, .. } => format!("start {} on {}", lease.id, slot.0),
        Effect::Stop { slot, how } => format!("stop {} {how:?}", slot.0),
        Effect::BreakOff(breach) => format!("break off: {breach}"),
        Effect::Leave => "leave".to_owned(),
    }
}

fn held(leases: &LeasesHeld) -> String {
    let numbers: Vec<u64> = leases.leases.iter().map(|lease| lease.number()).collect();
    format!("{numbers:?} of {:?}", leases.received_max.map(LeaseId::number))
}

/// What `event` makes `session` ask for is `wanted`, in that order.
#[track_caller]
fn check(session: &mut Session, event: Event, wanted: &[&str]) {
    assert_eq!(words(&session.handle(START, event)), wanted);
}

#[test]
fn a_stream_begins_with_a_hello_of_what_is_held() {
    let mut session = Session::new(identity(1));
    check(&mut session, Event::Connected, &["hello [] of None"]);
    check(&mut session, welcomed(None), &[]);
    session.handle(START, granted(&[3, 5]));
    check(&mut session, Event::Disconnected, &[]);
    check(&mut session, Event::Connected, &["hello [3, 5] of Some(5)"]);
}

#[test]
fn leases_start_in_order_of_number_as_slots_come_free() {
    let mut session = live(2, []);
    check(&mut session, granted(&[4, 2, 3, 1]), &["start 1 on 0", "start 2 on 1"]);
    check(&mut session, over(2, LeaseEnd::Finished), &["start 3 on 1", "#1 2 Finished with 1"]);
    check(&mut session, over(1, LeaseEnd::Finished), &["start 4 on 0", "#2 1 Finished with 1"]);
}

#[test]
fn a_lease_s_own_checkpoint_interval_overrides_the_session_s() {
    let mut session = live(2, []);
    let quick = Lease { checkpoint_every: Some(Duration::from_secs(1)), ..lease(2) };
    let effects = session.handle(START, Event::Received(CoordinatorMessage::Grants(vec![lease(1), quick])));
    let intervals: Vec<Duration> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Start { checkpoint_every, .. } => Some(*checkpoint_every),
            _ => None,
        })
        .collect();
    assert_eq!(intervals, [TERMS.checkpoint_every, Duration::from_secs(1)]);
}

#[test]
fn a_lease_that_is_granted_again_is_taken_once() {
    let mut session = live(1, [granted(&[1, 2])]);
    check(&mut session, granted(&[1, 2]), &[]);
    session.handle(START, over(1, LeaseEnd::Finished));
    session.handle(START, acknowledged(1));
    check(&mut session, granted(&[1, 2]), &[]);
    check(&mut session, over(2, LeaseEnd::Finished), &["#2 2 Finished with 1"]);
}

#[test]
fn a_lease_is_held_until_its_end_is_acknowledged() {
    let mut session = live(1, [granted(&[1]), reached(1, 10), over(1, LeaseEnd::Finished)]);
    let due = START + TERMS.heartbeat;
    assert_eq!(session.due(), Some(due));
    assert_eq!(words(&session.handle(due, Event::TimePassed)), ["heartbeat [1] of Some(1)"]);
    session.handle(due, acknowledged(1));
    let due = due + TERMS.heartbeat;
    assert_eq!(words(&session.handle(due, Event::TimePassed)), ["heartbeat [1] of Some(1)"]);
    session.handle(due, acknowledged(2));
    let due = due + TERMS.heartbeat;
    assert_eq!(words(&session.handle(due, Event::TimePassed)), ["heartbeat [] of Some(1)"]);
}

#[test]
fn a_heartbeat_leaves_only_when_it_is_due() {
    let mut session = live(1, []);
    check(&mut session, Event::TimePassed, &[]);
    assert_eq!(session.due(), Some(START + TERMS.heartbeat));
}

#[test]
fn what_was_not_acknowledged_goes_again_in_order_after_a_reconnect() {
    let mut session = live(2, [granted(&[1, 2]), reached(1, 10), reached(2, 10)]);
    session.handle(START, Event::Disconnected);
    check(&mut session, over(1, LeaseEnd::Finished), &[]);
    session.handle(START, Event::Connected);
    check(&mut session, welcomed(Some(1)), &["#2 2@10", "#3 1 Finished with 1"]);
}

#[test]
fn a_coordinator_that_does_not_know_what_it_acknowledged_is_sent_all_the_rest() {
    let mut session = live(1, [granted(&[1]), reached(1, 10), acknowledged(1), reached(1, 15)]);
    session.handle(START, Event::Disconnected);
    session.handle(START, Event::Connected);
    check(&mut session, welcomed(None), &["#2 1@15"]);
}

#[test]
fn an_acknowledgement_is_cumulative_and_an_older_one_changes_nothing() {
    let mut session = live(1, [granted(&[1]), reached(1, 10), over(1, LeaseEnd::Finished), acknowledged(2)]);
    assert_eq!((session.held_count(), session.unacknowledged_count()), (0, 0));
    check(&mut session, acknowledged(1), &[]);
    check(&mut session, acknowledged(2), &[]);
}

#[test]
fn reports_go_out_a_window_at_a_time() {
    let mut session = live(1, [granted(&[1])]);
    session.handle(START, Event::Disconnected);
    let count = WINDOW as u64 + 2;
    for step in 1..=count {
        session.handle(START, reached(1, step));
    }
    session.handle(START, Event::Connected);
    let first = words(&session.handle(START, welcomed(None)));
    assert_eq!(first.len(), WINDOW);
    assert_eq!(first.last().map(String::as_str), Some("#256 1@256"));
    check(&mut session, reached(1, count + 1), &[]);
    check(&mut session, acknowledged(2), &["#257 1@257", "#258 1@258"]);
    check(&mut session, acknowledged(258), &["#259 1@259"]);
}

#[test]
fn a_cancelled_lease_that_waits_is_handed_back_and_never_started() {
    let mut session = live(1, [granted(&[1, 2])]);
    let cancel = Event::Received(CoordinatorMessage::Cancelled(vec![LeaseId::new(2), LeaseId::new(9)]));
    check(&mut session, cancel, &["#1 2 HandedBack with 0"]);
    check(&mut session, over(1, LeaseEnd::Finished), &["#2 1 Finished with 1"]);
}

#[test]
fn a_cancelled_lease_that_trains_is_dropped_and_ends_as_its_slot_says() {
    let mut session = live(1, [granted(&[1, 2])]);
    let cancel = Event::Received(CoordinatorMessage::Cancelled(vec![LeaseId::new(1)]));
    check(&mut session, cancel.clone(), &["stop 0 Drop"]);
    check(&mut session, over(1, LeaseEnd::HandedBack), &["start 2 on 0", "#1 1 HandedBack with 1"]);
    check(&mut session, cancel, &[]);
}

#[test]
fn a_drain_hands_back_what_waits_checkpoints_what_trains_and_leaves_when_all_is_acknowledged() {
    let mut session = live(1, [granted(&[1, 2, 3])]);
    let wanted =
        ["draining from Some(3)", "stop 0 Checkpoint", "#1 2 HandedBack with 0", "#2 3 HandedBack with 0"];
    check(&mut session, Event::DrainRequested, &wanted);
    check(&mut session, Event::DrainRequested, &[]);
    let checkpoint = CheckpointName { step: Step::new(12), blob: ContentHash::of(b"state") };
    let stored = SlotNews::CheckpointStored(checkpoint);
    check(&mut session, Event::Slot { lease: LeaseId::new(1), news: stored }, &["checkpoint 1@12"]);
    check(&mut session, over(1, LeaseEnd::HandedBack), &["#3 1 HandedBack with 1"]);
    check(&mut session, acknowledged(2), &[]);
    check(&mut session, acknowledged(3), &["leave"]);
    check(&mut session, Event::Connected, &[]);
}

#[test]
fn a_drain_that_the_coordinator_asks_for_is_the_same() {
    let mut session = live(1, []);
    check(&mut session, Event::Received(CoordinatorMessage::Drain), &["draining from None", "leave"]);
}

#[test]
fn a_worker_that_holds_nothing_leaves_at_once_even_without_a_coordinator() {
    let mut session = Session::new(identity(1));
    check(&mut session, Event::DrainRequested, &["leave"]);
}

#[test]
fn a_drain_goes_on_after_a_reconnect_and_hands_back_what_is_granted_meanwhile() {
    let mut session = live(1, [granted(&[1])]);
    session.handle(START, Event::Disconnected);
    check(&mut session, Event::DrainRequested, &["stop 0 Checkpoint"]);
    session.handle(START, over(1, LeaseEnd::HandedBack));
    check(&mut session, Event::Connected, &["hello [1] of Some(1)"]);
    check(&mut session, welcomed(None), &["draining from Some(1)", "#1 1 HandedBack with 1"]);
    check(&mut session, granted(&[2]), &["#2 2 HandedBack with 0"]);
    check(&mut session, acknowledged(2), &["leave"]);
}

#[test]
fn progress_and_notices_of_checkpoints_are_dropped_while_nobody_listens() {
    let mut session = live(1, [granted(&[1])]);
    let progress = || Event::Slot {
        lease: LeaseId::new(1),
        news: SlotNews::Progress { step: Step::new(3), loss: Some(2.0) },
    };
    check(&mut session, progress(), &["progress 1@3"]);
    session.handle(START, Event::Disconnected);
    check(&mut session, progress(), &[]);
    session.handle(START, Event::Connected);
    check(&mut session, welcomed(None), &[]);
}

#[test]
fn a_slot_s_word_on_a_lease_that_it_has_ended_changes_nothing() {
    let mut session = live(1, [granted(&[1]), over(1, LeaseEnd::Finished)]);
    check(&mut session, over(1, LeaseEnd::HandedBack), &[]);
    check(&mut session, reached(1, 15), &[]);
    check(&mut session, reached(8, 15), &[]);
    assert_eq!(session.unacknowledged_count(), 1);
}

#[test]
fn a_coordinator_that_breaks_the_protocol_is_left_for_another_try() {
    let mut session = Session::new(identity(1));
    session.handle(START, Event::Connected);
    check(&mut session, granted(&[1]), &["break off: a message came before the welcome"]);
    assert_eq!((session.held_count(), session.due()), (0, None));

    let mut session = live(1, []);
    check(&mut session, welcomed(None), &["break off: a second welcome came"]);

    let mut session = live(1, [granted(&[1]), reached(1, 10)]);
    check(&mut session, acknowledged(2), &["break off: report 2 was acknowledged, the last was 1"]);
    assert_eq!(session.unacknowledged_count(), 1);

    let mut session = live(1, []);
    let mut newer = lease(1);
    newer.run.family.numerics = NumericsVersion::new(2);
    let grants = Event::Received(CoordinatorMessage::Grants(vec![newer]));
    check(&mut session, grants, &["break off: lease 1 is of numerics version 2, this worker gives 1"]);
    assert_eq!(session.held_count(), 0);
}

#[test]
fn a_welcome_that_does_not_come_is_not_waited_for_long() {
    let mut session = Session::new(identity(1));
    session.handle(START, Event::Connected);
    let due = session.due().expect("a greeting has its time");
    assert_eq!(words(&session.handle(due, Event::TimePassed)), ["break off: no welcome within 10 s"]);
    assert_eq!(words(&session.handle(due, Event::Connected)), ["hello [] of None"]);
}

#[test]
fn a_hello_says_which_store_granted_what_is_held() {
    let mut session = Session::new(identity(1));
    let mut stores = Vec::new();
    for store in [5, 6] {
        for effect in session.handle(START, Event::Connected) {
            let Effect::Send(WorkerMessage::Hello(hello)) = effect else { panic!("not a hello: {effect:?}") };
            stores.push(hello.store);
        }
        let welcome = Welcome { store: StoreId::new(store), ..TERMS };
        session.handle(START, Event::Received(CoordinatorMessage::Welcome(welcome)));
        session.handle(START, Event::Disconnected);
    }
    assert_eq!(stores, [None, Some(StoreId::new(5))]);
}

#[test]
fn a_session_that_is_told_to_forget_drops_leases_and_reports_and_takes_the_same_numbers_anew() {
    let mut session = live(2, [granted(&[1, 2, 3]), over(1, LeaseEnd::Finished), reached(2, 10)]);
    session.handle(START, Event::Disconnected);
    check(&mut session, Event::Connected, &["hello [1, 2, 3] of Some(3)"]);
    let forget = Welcome { store: StoreId::new(2), forget: true, ..TERMS };
    let forget = Event::Received(CoordinatorMessage::Welcome(forget));
    check(&mut session, forget, &["stop 1 Drop", "stop 0 Drop"]);
    assert_eq!((session.held_count(), session.unacknowledged_count()), (0, 0));
    // Leases 2 and 3 are now other runs: what the slots still say of the former ones is nothing to them.
    check(&mut session, granted(&[1, 2, 3]), &[]);
    check(&mut session, reached(2, 20), &[]);
    check(&mut session, over(2, LeaseEnd::HandedBack), &[]);
    check(&mut session, over(3, LeaseEnd::HandedBack), &["start 1 on 0", "start 2 on 1"]);
    check(&mut session, over(2, LeaseEnd::Finished), &["start 3 on 1", "#3 2 Finished with 1"]);
}
