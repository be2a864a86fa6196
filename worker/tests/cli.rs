//! `slalom-worker` from outside: real processes against a coordinator that the test itself plays.

#[path = "cli/coordinator.rs"]
mod coordinator;
#[path = "cli/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use coordinator::{Coordinator, Session};
use process::Worker;
use slalom_common::checkpoint::Checkpoint;
use slalom_common::corpus::Text;
use slalom_common::id::{ContentHash, LeaseId, MessageNumber, Step};
use slalom_common::message::{
    CheckpointName, CoordinatorMessage, Lease, LeaseEnd, LeaseKind, Report, WorkerMessage,
};
use slalom_common::outcome::{FailureReason, Milestone};
use slalom_common::run::{Family, KNOWN_RUN, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;
use slalom_worker::kernels::Kernels;
use slalom_worker::trainer::milestones::{Next, Observer};
use slalom_worker::trainer::{Initial, Trainer};
use tonic::Status;

/// A wanted step that no test waits for.
const FAR: u64 = 1 << 39;

fn text() -> Text {
    let ascii: Vec<u8> = (0..5_000_u32).map(|i| b'a' + (i * i % 11 + i % 7) as u8).collect();
    Text::from_ascii(&ascii).expect("letters")
}

fn run(seed: u64) -> Run {
    let family = Family {
        corpus: text().sha256(),
        valid_size: 100,
        training: TrainingSettings::default(),
        numerics: NUMERICS,
    };
    Run { family, shape: Shape { nodes: 8, batch_size: 4, unrollings: 3 }, seed }
}

fn lease(number: u64, wanted: &[u64]) -> Lease {
    Lease {
        id: LeaseId::new(number),
        kind: LeaseKind::Primary,
        run: run(number),
        wanted: wanted.iter().copied().map(Step::new).collect(),
        resume: None,
        resume_before: None,
        checkpoint_every: None,
    }
}

/// What the trainer, called directly, measures.
fn measured_directly(run: &Run, wanted: &[u64]) -> Vec<Milestone> {
    #[derive(Default)]
    struct Keep(Vec<Milestone>);
    impl Observer for Keep {
        fn on_step(&mut self, _: Step, _: f64, _: f64) {}
        fn on_milestone(&mut self, milestone: Milestone) {
            self.0.push(milestone);
        }
        fn on_checkpoint(&mut self, _: Checkpoint) {}
        fn next(&mut self, _: Step) -> Next {
            Next::Continue
        }
    }
    let symbols = Arc::clone(text().symbols());
    let mut trainer = Trainer::new(Kernels::detect(), run, symbols, Initial::Seed).expect("a small run");
    let wanted: Vec<Step> = wanted.iter().copied().map(Step::new).collect();
    let mut keep = Keep::default();
    trainer.train_to(&wanted, &mut keep).expect("rising steps");
    keep.0
}

/// Reads reports and acknowledges each, until `lease` has ended; its milestones and how.
async fn finish(session: &mut Session, lease: u64) -> (Vec<Milestone>, LeaseEnd) {
    let mut all = Vec::new();
    loop {
        let (number, of, report) = session.report().await;
        session.send(CoordinatorMessage::Acknowledged(number)).await;
        if of != LeaseId::new(lease) {
            continue;
        }
        match report {
            Report::Milestone(milestone) => all.push(milestone),
            Report::LeaseEnded { milestones, how } => {
                all.extend(milestones);
                return (all, how);
            }
        }
    }
}

#[test]
fn help_names_every_flag_and_its_variable() {
    let output = process::output(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    for word in [
        "--coordinator <URL[,URL]>",
        "--slots <N>",
        "--name <NAME>",
        "--cache <DIR>",
        "--log-format",
        "--log-dir",
        "--log <FILTER>",
        "SLALOM_COORDINATOR",
        "SLALOM_SLOTS",
        "http://127.0.0.1:7117",
    ] {
        assert!(help.contains(word), "no {word} in:\n{help}");
    }
}

#[test]
fn a_flag_that_makes_no_sense_is_exit_code_2() {
    let bad: [&[&str]; 7] = [
        &["--slots", "0"],
        &["--log", "slalom=loud"],
        &["--slots", "many"],
        &["--coordinator", "https://hill:7117"],
        &["--coordinator", "hill"],
        &["--name", "No Name"],
        &["--unknown"],
    ];
    for args in bad {
        let output = process::output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}

#[test]
fn without_a_coordinator_it_keeps_trying_until_it_is_told_to_end() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("it is bound").to_string();
    drop(free);
    let mut worker = Worker::start(&address, &[]);
    worker.wait_for("coordinator away");
    worker.wait_for("tries=2");
    worker.terminate();
    assert_eq!(worker.exit_code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_trained_and_its_milestones_are_the_trainer_s_own() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let mut worker = Worker::start(&coordinator.address(), &["--slots", "2", "--name", "hill-3"]);
    let mut session = coordinator.session().await;
    let hello = session.hello().await;
    assert_eq!((hello.worker.as_str(), hello.slots), ("hill-3", 2));
    assert_eq!((hello.numerics, hello.known_run), (NUMERICS, Some(KNOWN_RUN)));
    assert!(hello.speed > 0.0 && hello.gflops_per_slot > 0.0 && !hello.isa.is_empty());
    session.welcome(None).await;

    let wanted = [0, 3, 10, 40];
    session.send(CoordinatorMessage::Grants(vec![lease(1, &wanted)])).await;
    let (milestones, how) = finish(&mut session, 1).await;
    assert_eq!(how, LeaseEnd::Finished);
    assert_eq!(milestones, measured_directly(&run(1), &wanted));

    worker.terminate();
    worker.wait_for("worker ended");
    assert_eq!(worker.exit_code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_mid_run_uploads_a_checkpoint_and_another_worker_goes_on_with_the_same_bits() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let mut worker = Worker::start(&coordinator.address(), &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    session.send(CoordinatorMessage::Grants(vec![lease(1, &[5, FAR]), lease(2, &[5])])).await;
    let (number, _, report) = session.report().await;
    assert!(matches!(report, Report::Milestone(milestone) if milestone.step == Step::new(5)), "{report:?}");
    session.send(CoordinatorMessage::Acknowledged(number)).await;

    worker.terminate();
    let mut stored = None;
    let mut ended = Vec::new();
    let mut said_so = false;
    while ended.len() < 2 {
        match session.message().await {
            WorkerMessage::Draining { .. } => said_so = true,
            WorkerMessage::CheckpointStored { lease, checkpoint, .. } => {
                assert_eq!(lease, LeaseId::new(1));
                assert!(!ended.contains(&lease), "the notice comes before the end");
                stored = Some(checkpoint);
            }
            WorkerMessage::Numbered { number, lease, report, .. } => {
                let how = LeaseEnd::HandedBack;
                assert_eq!(report, Report::LeaseEnded { milestones: Vec::new(), how });
                ended.push(lease);
                session.send(CoordinatorMessage::Acknowledged(number)).await;
            }
            WorkerMessage::Heartbeat(_) | WorkerMessage::Progress { .. } => {}
            WorkerMessage::Hello(hello) => panic!("a second hello: {hello:?}"),
        }
    }
    assert!(said_so, "it says that it drains");
    assert_eq!(worker.exit_code(), Some(0));

    let checkpoint: CheckpointName = stored.expect("a notice of a checkpoint");
    let kept = coordinator.blob(checkpoint.blob).expect("its bytes came first");
    let state = Checkpoint::from_bytes(&kept, &run(1)).expect("it is whole");
    assert_eq!(state.step, checkpoint.step);

    let end = checkpoint.step.number() + 20;
    let mut heir = Worker::start(&coordinator.address(), &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    let resumed = Lease { resume: Some(checkpoint), run: run(1), ..lease(3, &[end]) };
    session.send(CoordinatorMessage::Grants(vec![resumed])).await;
    let (milestones, how) = finish(&mut session, 3).await;
    assert_eq!((milestones, how), (measured_directly(&run(1), &[end]), LeaseEnd::Finished));
    // Only the line of a start names the seed.
    heir.wait_for(&format!("seed=1 step={}", checkpoint.step));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_after_a_reconnect() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let _worker = Worker::start(&coordinator.address(), &["--slots", "1"]);
    let mut session = coordinator.session().await;
    let first_hello = session.hello().await;
    session.welcome(None).await;
    session.send(CoordinatorMessage::Grants(vec![lease(7, &[1, 2, 3])])).await;
    let mut reports = Vec::new();
    for _ in 0..3 {
        reports.push(session.report().await);
    }
    session.send(CoordinatorMessage::Acknowledged(MessageNumber::new(1))).await;
    session.break_off();

    // A coordinator that knows what is durable gets the rest, one that does not gets all that it may lack.
    for acknowledged in [Some(MessageNumber::new(1)), None] {
        let mut session = coordinator.session().await;
        let hello = session.hello().await;
        assert_eq!(hello.incarnation, first_hello.incarnation);
        assert_eq!(hello.held.leases, [LeaseId::new(7)], "held until its end is acknowledged");
        assert_eq!(hello.held.received_max, Some(LeaseId::new(7)));
        session.welcome(acknowledged).await;
        assert_eq!(session.report().await, reports[1]);
        assert_eq!(session.report().await, reports[2]);
        session.break_off();
    }
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(Some(MessageNumber::new(3))).await;
    assert_eq!(session.heartbeat().await.leases, []);
}

/// The most wanted steps that a run may have, none of them acknowledged until all are reached.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_coordinator_it_trains_on_and_hands_everything_in_afterwards() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let mut worker = Worker::start(&coordinator.address(), &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    let wanted: Vec<u64> = (0..10_000).collect();
    session.send(CoordinatorMessage::Grants(vec![lease(1, &wanted)])).await;
    let (first, _, _) = session.report().await;
    assert_eq!(first, MessageNumber::new(1));
    session.break_off();
    worker.wait_for("run ended");

    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    let (milestones, how) = finish(&mut session, 1).await;
    assert_eq!(how, LeaseEnd::Finished);
    assert_eq!(milestones.len(), wanted.len());
    let last = wanted.len() - 1;
    assert_eq!(milestones[last..], measured_directly(&run(1), &wanted[last..]));
    assert!(milestones.is_sorted_by(|a, b| a.step < b.step));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_and_checkpoints_come_while_every_slot_trains() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let _worker = Worker::start(&coordinator.address(), &["--slots", "2"]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    let quick = |number| Lease { checkpoint_every: Some(Duration::from_millis(50)), ..lease(number, &[FAR]) };
    session.send(CoordinatorMessage::Grants(vec![quick(1), quick(2)])).await;
    for _ in 0..3 {
        session.heartbeat().await;
    }
    let mut steps = Vec::new();
    while steps.len() < 2 {
        if let WorkerMessage::CheckpointStored { lease, checkpoint, .. } = session.message().await
            && lease == LeaseId::new(1)
        {
            assert!(coordinator.blob(checkpoint.blob).is_some(), "the bytes come before the notice");
            steps.push(checkpoint.step);
        }
    }
    assert!(steps[0] < steps[1], "{steps:?}");

    session.send(CoordinatorMessage::Cancelled(vec![LeaseId::new(1)])).await;
    let (milestones, how) = finish(&mut session, 1).await;
    assert_eq!((milestones, how), (Vec::new(), LeaseEnd::HandedBack));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_gone_or_damaged_costs_time_and_no_bit() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let damaged = coordinator.keep(b"not a checkpoint");
    let mut worker = Worker::start(&coordinator.address(), &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    let resume = |blob| Some(CheckpointName { step: Step::new(4), blob });
    let symbols = Arc::clone(text().symbols());
    let mut earlier = Trainer::new(Kernels::detect(), &run(3), symbols, Initial::Seed).expect("a small run");
    (0..3).for_each(|_| _ = earlier.step());
    let before =
        CheckpointName { step: Step::new(3), blob: coordinator.keep(&earlier.checkpoint().to_bytes()) };
    let leases = vec![
        Lease { resume: resume(damaged), ..lease(1, &[10]) },
        Lease { resume: resume(ContentHash::of(b"gone")), ..lease(2, &[10]) },
        // And one whose checkpoint before that is whole: no step of it is trained again.
        Lease { resume: resume(damaged), resume_before: Some(before), ..lease(3, &[10]) },
    ];
    session.send(CoordinatorMessage::Grants(leases)).await;
    for number in [1, 2, 3] {
        let (milestones, how) = finish(&mut session, number).await;
        assert_eq!((milestones, how), (measured_directly(&run(number), &[10]), LeaseEnd::Finished));
    }
    for _ in 0..3 {
        worker.wait_for("checkpoint refused");
    }
    worker.wait_for("seed=3 step=3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_trained_fails_with_its_reason_and_the_worker_goes_on() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let prose = coordinator.keep(b"Not of the alphabet.");
    let _worker = Worker::start(&coordinator.address(), &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    let with = |number: u64, change: fn(&mut Run)| {
        let mut lease = lease(number, &[10]);
        change(&mut lease.run);
        lease
    };
    let mut unreadable = lease(3, &[10]);
    unreadable.run.family.corpus = prose;
    let leases = vec![
        with(1, |run| run.family.corpus = ContentHash::of(b"nobody has it")),
        with(2, |run| run.family.valid_size = 4_999),
        unreadable,
        with(4, |run| run.shape = Shape { nodes: 16_384, batch_size: 4_000, unrollings: 65_536 }),
        with(5, |run| run.family.training.learning_rate = 1e300),
        lease(6, &[10]),
    ];
    session.send(CoordinatorMessage::Grants(leases)).await;
    for (number, reason) in [
        (1, FailureReason::Corpus),
        (2, FailureReason::Corpus),
        (3, FailureReason::Corpus),
        (4, FailureReason::Memory),
    ] {
        let (milestones, how) = finish(&mut session, number).await;
        assert!(milestones.is_empty());
        assert!(
            matches!(&how, LeaseEnd::Failed { reason: found, detail } if *found == reason && !detail.is_empty()),
            "lease {number}: {how:?}"
        );
    }
    let (_, how) = finish(&mut session, 5).await;
    assert!(matches!(how, LeaseEnd::Diverged { .. }), "{how:?}");
    assert_eq!(finish(&mut session, 6).await.1, LeaseEnd::Finished);
}

/// Invariant I11, fault "out of memory": what the machine could hold and the control group cannot is refused, not killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_beyond_the_control_group_s_limit_fails_before_it_trains_and_the_worker_goes_on() {
    const LIMIT: u64 = 64 << 20;
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let test = "a_run_beyond_the_control_group_s_limit_fails_before_it_trains_and_the_worker_goes_on";
    let Some(_worker) = Worker::start_limited(test, LIMIT, &coordinator.address(), &["--slots", "1"]) else {
        return;
    };
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    let mut large = lease(1, &[10]);
    // Weights and their gradients are 134 MB.
    large.run.shape = Shape { nodes: 2_048, batch_size: 1, unrollings: 1 };
    session.send(CoordinatorMessage::Grants(vec![large, lease(2, &[10])])).await;
    let (_, how) = finish(&mut session, 1).await;
    let LeaseEnd::Failed { reason: FailureReason::Memory, detail } = how else { panic!("{how:?}") };
    let may_use = format!("this worker may use {}", LIMIT / 10 * 9);
    assert!(detail.ends_with(&may_use), "{detail}");
    assert_eq!(finish(&mut session, 2).await.1, LeaseEnd::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corpus_is_fetched_once_and_again_only_if_the_cached_file_is_damaged() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let cache = tempfile::tempdir().expect("a folder");
    let folder = cache.path().to_str().expect("a plain path");
    let file = cache.path().join(format!("{}.txt", text().sha256()));
    for (damage, times_sent) in [(None, 1), (None, 1), (Some("other words"), 2)] {
        if let Some(words) = damage {
            std::fs::write(&file, words).expect("the folder is writable");
        }
        let mut worker = Worker::start(&coordinator.address(), &["--slots", "2", "--cache", folder]);
        let mut session = coordinator.session().await;
        session.hello().await;
        session.welcome(None).await;
        session.send(CoordinatorMessage::Grants(vec![lease(1, &[1]), lease(2, &[1])])).await;
        for _ in 0..2 {
            let (number, _, report) = session.report().await;
            assert!(matches!(report, Report::LeaseEnded { how: LeaseEnd::Finished, .. }), "{report:?}");
            session.send(CoordinatorMessage::Acknowledged(number)).await;
        }
        assert_eq!(coordinator.times_sent(text().sha256()), times_sent);
        assert_eq!(std::fs::read(&file).expect("it is cached"), text().to_ascii());
        worker.terminate();
        assert_eq!(worker.exit_code(), Some(0));
        assert_eq!(worker.log().contains("corpus refused"), damage.is_some(), "{}", worker.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let mut coordinator = Coordinator::start();
    let mut worker = Worker::start(&coordinator.address(), &["--slots", "1"]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    // Nobody acknowledges, so the drain alone would wait.
    session.send(CoordinatorMessage::Grants(vec![lease(1, &[FAR])])).await;
    session.heartbeat().await;
    worker.terminate();
    worker.wait_for("drain begun");
    worker.interrupt();
    assert_eq!(worker.exit_code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_hangs_fails_its_run_and_the_worker_hands_back_the_rest_and_leaves_with_70() {
    let mut coordinator = Coordinator::start();
    coordinator.keep(&text().to_ascii());
    let mut worker = Worker::start(&coordinator.address(), &["--slots", "2", "--hung-after", "300ms"]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.welcome(None).await;
    session.send(CoordinatorMessage::Grants(vec![lease(1, &[FAR]), lease(2, &[FAR]), lease(3, &[5])])).await;
    worker.wait_for("run started");
    worker.wait_for("run started");
    if !worker.hang_first_slot(
        "a_slot_that_hangs_fails_its_run_and_the_worker_hands_back_the_rest_and_leaves_with_70",
    ) {
        return;
    }
    let mut ends = BTreeMap::new();
    while ends.len() < 3 {
        let (number, lease, report) = session.report().await;
        let Report::LeaseEnded { how, .. } = report else { panic!("nothing is reached: {report:?}") };
        session.send(CoordinatorMessage::Acknowledged(number)).await;
        ends.insert(lease.number(), how);
    }
    assert_eq!(worker.exit_code(), Some(70));
    let is_hung = |how: &LeaseEnd| matches!(how, LeaseEnd::Failed { reason: FailureReason::Hung, .. });
    assert_eq!(ends.values().filter(|how| is_hung(how)).count(), 1, "{ends:?}");
    assert_eq!(ends.values().filter(|how| **how == LeaseEnd::HandedBack).count(), 2, "{ends:?}");
    assert_eq!(ends[&3], LeaseEnd::HandedBack, "what had not begun");
    let log = worker.log();
    assert!(log.contains("made no step for far too long, and cannot be stopped"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_refuses_this_build_ends_the_worker_in_its_words() {
    let mut coordinator = Coordinator::start();
    let mut worker = Worker::start(&coordinator.address(), &[]);
    let mut session = coordinator.session().await;
    session.hello().await;
    session.refuse(Status::failed_precondition("numerics version 1 is granted nothing here")).await;
    assert_eq!(worker.exit_code(), Some(1));
    let log = worker.log();
    assert!(log.contains("error: ") && log.contains("numerics version 1 is granted nothing here"), "{log}");
}
