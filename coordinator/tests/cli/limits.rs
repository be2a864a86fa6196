//! Peers that are of the protocol and do not hold back: what they may take of a log, of memory and of others' time (I13).

use std::time::{Duration, Instant};

use slalom_common::id::{Incarnation, LeaseId};
use slalom_common::message::{Hello, LeasesHeld, WorkerMessage};
use tokio::sync::{mpsc, watch};
use tonic::Code;

use crate::peers::{self, Worker, hello, submit, sweep};
use crate::process::Coordinator;

/// What a coordinator of these tests may have resident; it has some 30 MB when nobody floods it.
const RESIDENT_MIB_MAX: u64 = 200;

/// How late an acknowledgement may come beside a flood; it takes some milliseconds, and machines that test do other work, too.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn refusals_by_the_hundred_are_a_few_lines_of_the_log_and_the_last_of_them_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    let channel = coordinator.channel();
    for _ in 0..300 {
        let refused = Worker::greet(channel.clone(), peers::hello_of_other_numerics()).await;
        assert_eq!(refused.err().expect("of another build").code(), Code::FailedPrecondition);
    }
    coordinator.tell("TERM");
    let (_, log) = coordinator.end().await;
    let lines = log.lines().filter(|line| line.contains("\"message refused\"")).count();
    // Twenty in ten seconds, and a slow machine may take more than ten.
    assert!((20..=80).contains(&lines), "{lines} lines");
}

/// Whoever floods reads nothing; whoever works beside it is acknowledged as before.
#[tokio::test]
async fn a_session_that_floods_and_reads_nothing_holds_up_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("1..=400")).await;
    let (mut steady, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let mut floods = Vec::new();
    for number in 0..4 {
        let incarnation = Incarnation::new(100 + number);
        let worker = format!("flood-{number}").parse().expect("a name");
        let flood = Hello { incarnation, worker, slots: 1, ..hello() };
        let (flood, _) = Worker::greet(coordinator.channel(), flood).await.expect("a welcome");
        floods.push(tokio::spawn(async move {
            // Every one names leases that it was never given, and asks for nothing.
            let held = LeasesHeld { leases: (1..500).map(LeaseId::new).collect(), ..LeasesHeld::default() };
            for _ in 0..5_000 {
                flood.say(WorkerMessage::Heartbeat(held.clone())).await;
            }
        }));
    }
    let mut leases = steady.grants().await;
    let mut finished = 0;
    while let Some(lease) = leases.pop() {
        let asked = Instant::now();
        let number = steady.finish(&lease).await;
        leases.extend(steady.acknowledged(number).await);
        assert!(asked.elapsed() < ACKNOWLEDGED_WITHIN, "{:?}", asked.elapsed());
        finished += 1;
    }
    assert!(finished > 0);
    for flood in floods {
        flood.await.expect("it does not panic");
    }
    let resident = coordinator.resident_mib_max();
    assert!(resident < RESIDENT_MIB_MAX, "{resident} MiB were resident");
}

/// As many descriptors as systems give by default, and more workers than those: some wait, and nobody who is there notices.
#[tokio::test]
async fn of_twelve_hundred_workers_on_1024_descriptors_those_who_are_in_are_served_and_the_rest_come_in_as_others_leave()
 {
    const WORKERS: u64 = 1_200;
    const IN_AT_FIRST: usize = 900;
    // This process holds the other ends of all of them.
    let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: ours.maximum, maximum: ours.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).expect("up to its own maximum");
    if ours.maximum.is_some_and(|most| most < 2 * WORKERS) {
        eprintln!("SKIPPED twelve hundred workers: this process may not have a descriptor for each");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start_with_descriptors(dir.path(), 1024).await;
    submit(coordinator.channel(), &sweep("1..=400")).await;
    let (mut steady, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let mut leases = steady.grants().await;
    let (greeted, mut arrivals) = mpsc::unbounded_channel();
    let (changed, changes) = watch::channel(());
    for number in 0..WORKERS {
        let (channel, greeted, mut changes) = (coordinator.channel(), greeted.clone(), changes.clone());
        let worker = format!("hill-{}", 100 + number).parse().expect("a name");
        let hello = Hello { incarnation: Incarnation::new(100 + u128::from(number)), worker, ..hello() };
        tokio::spawn(async move {
            // The system lets so many wait at a port and resets who comes beyond that, who comes again when one of them is in.
            let worker = loop {
                changes.borrow_and_update();
                match Worker::greet(channel.clone(), hello.clone()).await {
                    Ok((worker, _)) => break worker,
                    // The test may be over.
                    Err(_) if changes.changed().await.is_err() => return,
                    Err(_) => (),
                }
            };
            // The test may be over.
            let _ = greeted.send(worker);
        });
    }
    let mut workers = Vec::new();
    while workers.len() < IN_AT_FIRST {
        workers.push(arrivals.recv().await.expect("they come in"));
        changed.send_replace(());
    }
    let lease = leases.pop().expect("it was granted one");
    let number = steady.finish(&lease).await;
    steady.acknowledged(number).await;
    workers.truncate(IN_AT_FIRST - 300);
    while workers.len() < WORKERS as usize - 300 {
        changed.send_replace(());
        workers.push(arrivals.recv().await.expect("they come in"));
    }
}
