//! What the driver commits together, refuses while its disk is full, and answers after what.

use std::io;
use std::path::PathBuf;

use slalom_common::cost::REFERENCE;
use slalom_common::id::{ContentHash, LeaseId, MessageNumber, RunKey, Step, StoreId};
use slalom_common::message::{
    CheckpointName, Lease, LeaseEnd, LeaseKind, LeasesHeld, PROTOCOL_VERSION, Report,
};
use slalom_common::outcome::{Measured, Milestone, Perplexity};
use slalom_common::run::{KNOWN_RUN, NUMERICS};
use tempfile::TempDir;

use super::*;
use crate::scheduler::record::Grant;
use crate::service::tests::{settings, sweep};
use crate::store::Stamped;
use crate::store::blobs::{BUDGET, BlobKind};
use crate::store::memory::MemoryStore;

/// A store that says of each commit how many records it has, and comes to what it is told.
struct Gated {
    store: MemoryStore,
    begun: mpsc::UnboundedSender<usize>,
    ends: std::sync::mpsc::Receiver<Result<(), StoreError>>,
}

impl Store for Gated {
    fn id(&self) -> StoreId {
        self.store.id()
    }

    fn append(&mut self, batch: &[Record], at: SystemTime) -> Result<(), StoreError> {
        self.begun.send(batch.len()).expect("the test waits for it");
        self.ends.recv().expect("the test says how it ends")?;
        self.store.append(batch, at)
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        self.store.load()
    }

    fn history(&mut self, run: &RunKey) -> Result<Vec<Stamped>, StoreError> {
        self.store.history(run)
    }
}

/// A driver and the hand on its store.
struct Held {
    driver: Driver,
    driving: JoinHandle<Result<(), DriverError>>,
    begun: mpsc::UnboundedReceiver<usize>,
    ends: std::sync::mpsc::Sender<Result<(), StoreError>>,
    _dir: TempDir,
}

impl Held {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let blobs = Arc::new(Blobs::open(dir.path(), BUDGET).expect("a folder"));
        let (said, begun) = mpsc::unbounded_channel();
        let (ends, told) = std::sync::mpsc::channel();
        let store = Gated { store: MemoryStore::new(StoreId::new(9)), begun: said, ends: told };
        let (driver, driving) = Driver::start(settings(), Box::new(store), blobs).expect("an empty store");
        Self { driver, driving, begun, ends, _dir: dir }
    }

    /// Waits until a commit begins; how many records it has.
    async fn begins(&mut self) -> usize {
        self.begun.recv().await.expect("the store lives")
    }

    /// Lets the commit that has begun come to this.
    fn end(&self, outcome: Result<(), StoreError>) {
        self.ends.send(outcome).expect("the store lives");
    }

    /// Hands in the sweep of this name, by a task of its own.
    fn submit(&self, name: &str) -> JoinHandle<Result<Reply, Unanswered>> {
        let driver = self.driver.clone();
        let sweep = named(name);
        tokio::spawn(async move { driver.submit(sweep).await })
    }
}

fn named(name: &str) -> Sweep {
    let draft =
        slalom_common::sweep::Draft { name: Some(name.parse().expect("a name")), ..sweep().draft().clone() };
    Sweep::new(draft).expect("a sweep")
}

fn disk_full() -> StoreError {
    StoreError::DiskFull(PathBuf::from("/snow/slalom.db"))
}

fn finished(lease: &Lease) -> Report {
    let milestone = |&step| Milestone {
        step,
        measured: Measured::Perplexity(Perplexity::new(5.0).expect("finite")),
        loss: None,
    };
    Report::LeaseEnded { milestones: lease.wanted.iter().map(milestone).collect(), how: LeaseEnd::Finished }
}

/// Group commit: what came in while one commit was under way is one commit, and nothing is acknowledged before its own.
#[tokio::test]
async fn results_that_come_during_a_commit_are_one_commit_and_acknowledged_after_it() {
    let mut held = Held::start();
    let submitted = held.submit("wide");
    assert_eq!(held.begins().await, 1);
    held.end(Ok(()));
    submitted.await.expect("no panic").expect("taken on");

    let (outbox, mut inbox) = mpsc::channel(1024);
    let incarnation = Incarnation::new(7);
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        worker: "hill-3".parse().expect("a name"),
        incarnation,
        slots: 64,
        numerics: NUMERICS,
        known_run: Some(KNOWN_RUN),
        isa: "portable".to_owned(),
        speed: 1.0,
        gflops_per_slot: 10.0,
        cost: REFERENCE,
        held: LeasesHeld::default(),
        store: None,
    };
    let driver = held.driver.clone();
    let stream = driver.join(hello, outbox).await.expect("it lives");
    let leases = loop {
        tokio::select! {
            _ = held.begun.recv() => held.end(Ok(())),
            message = inbox.recv() => match message {
                Some(Outgoing::Message(CoordinatorMessage::Grants(leases))) => break leases,
                Some(Outgoing::Message(CoordinatorMessage::Welcome(_))) => (),
                other => panic!("in place of grants came {other:?}"),
            },
        }
    };
    assert!(leases.len() >= 64, "{} leases for 64 slots", leases.len());

    let report = async |number: u64, lease: &Lease| {
        let number = MessageNumber::new(number);
        let saying =
            Saying::Reported { number, lease: lease.id, run: lease.run.key(), report: finished(lease) };
        driver.say(stream, incarnation, saying).await.expect("it lives");
    };
    let acknowledged = |inbox: &mut mpsc::Receiver<Outgoing>| {
        let mut up_to = None;
        while let Ok(outgoing) = inbox.try_recv() {
            if let Outgoing::Message(CoordinatorMessage::Acknowledged(number)) = outgoing {
                up_to = up_to.max(Some(number));
            }
        }
        up_to
    };
    report(1, &leases[0]).await;
    held.begins().await;
    for (number, lease) in (2..).zip(&leases[1..]) {
        report(number, lease).await;
    }
    assert_eq!(acknowledged(&mut inbox), None, "nothing is durable yet");
    held.end(Ok(()));
    let grouped = held.begins().await;
    assert!(grouped >= leases.len() - 1, "{grouped} records in the commit of {}", leases.len() - 1);
    assert_eq!(acknowledged(&mut inbox), Some(MessageNumber::new(1)), "the others wait for theirs");
    held.end(Ok(()));
    let all = Some(MessageNumber::new(leases.len() as u64));
    // A question is answered after the commit of what came before it.
    let answered = driver.read(|_, _| ());
    tokio::pin!(answered);
    loop {
        tokio::select! {
            _ = held.begun.recv() => held.end(Ok(())),
            answer = &mut answered => break answer.expect("it lives"),
        }
    }
    assert_eq!(acknowledged(&mut inbox), all);
}

/// Fault "disk full": the commit waits for room; whoever asks by a handle that does not wait is told why, and has changed
/// nothing.
#[tokio::test]
async fn while_the_disk_is_full_calls_are_refused_in_words_and_what_came_before_is_committed_later() {
    let mut held = Held::start();
    let waiting = held.submit("first");
    held.begins().await;
    held.end(Err(disk_full()));
    held.driver.stalled().wait_for(Option::is_some).await.expect("the store lives");

    let refusing = held.driver.clone().refusing_while_stalled();
    let why = Unanswered::Stalled("no space is left for /snow/slalom.db".to_owned());
    assert_eq!(refusing.submit(named("second")).await, Err(why.clone()));
    assert_eq!(refusing.read(|_, _| ()).await, Err(why.clone()));
    assert_eq!(why.to_string(), "nothing can be recorded now: no space is left for /snow/slalom.db");
    assert!(!waiting.is_finished());

    assert_eq!(held.begins().await, 1, "the same batch again");
    held.end(Ok(()));
    waiting.await.expect("no panic").expect("taken on");
    let sweeps = refusing.read(|scheduler, _| scheduler.ledger().sweeps().count()).await;
    assert_eq!(sweeps, Ok(1), "what was refused was not done");
}

/// One who has asked already when the disk turns out to be full is told so too; what was asked for may be done later.
#[tokio::test]
async fn whoever_waits_when_the_disk_turns_out_to_be_full_is_told_so() {
    let mut held = Held::start();
    let refusing = held.driver.clone().refusing_while_stalled();
    let asked = tokio::spawn(async move { refusing.submit(named("first")).await });
    held.begins().await;
    held.end(Err(disk_full()));
    let refused = asked.await.expect("no panic").expect_err("nothing is recorded");
    assert!(matches!(refused, Unanswered::Stalled(_)), "{refused}");
    held.begins().await;
    held.end(Ok(()));
    let sweeps = held.driver.read(|scheduler, _| scheduler.ledger().sweeps().count()).await;
    assert_eq!(sweeps, Ok(1));
}

/// Fault "I/O error": what a sync that failed has left is known only after a restart.
#[tokio::test]
async fn a_commit_that_failed_for_good_is_not_tried_again_and_answers_nobody() {
    let mut held = Held::start();
    let waiting = held.submit("first");
    held.begins().await;
    held.end(Err(StoreError::Io {
        path: PathBuf::from("/snow/slalom.db"),
        source: io::Error::other("the sync failed"),
    }));
    let refused = waiting.await.expect("no panic").expect_err("nothing was committed");
    assert_eq!(refused, Unanswered::Stopped(Stopped));
    let ended = held.driving.await.expect("no panic").expect_err("crash and recover");
    assert!(matches!(ended, DriverError::Store(StoreError::Io { .. })), "{ended}");
    assert_eq!(held.begun.recv().await, None, "no second try");
}

fn put(blobs: &Blobs, kind: BlobKind, bytes: &[u8]) -> ContentHash {
    let name = ContentHash::of(bytes);
    let mut upload = blobs.begin(kind, name, bytes.len() as u64).expect("room");
    upload.write(bytes).expect("room");
    upload.finish().expect("what was announced");
    name
}

#[tokio::test]
async fn a_start_removes_the_checkpoints_that_no_run_could_go_on_from_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let blobs = Arc::new(Blobs::open(dir.path(), BUDGET).expect("a folder"));
    let corpus = put(&blobs, BlobKind::Corpus, b"snow");
    put(&blobs, BlobKind::Checkpoint, b"uploaded, and then the coordinator was killed");
    put(&blobs, BlobKind::Checkpoint, b"replaced, and then it was killed");
    let kept = [b"older", b"newer"].map(|bytes| put(&blobs, BlobKind::Checkpoint, bytes));

    let lease = LeaseId::new(1);
    let (_, at) = sweep().run_numbers().next().expect("a run");
    let run = sweep().run(at);
    let mut records = vec![
        Record::SweepSubmitted(Box::new(sweep())),
        Record::RunsLeased {
            incarnation: Incarnation::new(7),
            worker: "hill-3".parse().expect("a name"),
            first: lease,
            grants: vec![Grant { kind: LeaseKind::Primary, run }],
        },
    ];
    let replaced = ContentHash::of(b"replaced, and then it was killed");
    for (step, blob) in (1..).zip([replaced].into_iter().chain(kept)) {
        let checkpoint = CheckpointName { step: Step::new(step), blob };
        records.push(Record::CheckpointKept { lease, checkpoint });
    }
    let mut store = MemoryStore::new(StoreId::new(9));
    store.append(&records, SystemTime::UNIX_EPOCH).expect("memory");

    let (driver, driving) = Driver::start(settings(), Box::new(store), Arc::clone(&blobs)).expect("whole");
    let mut expected = kept.to_vec();
    expected.sort_unstable();
    assert_eq!(blobs.checkpoints().expect("readable"), expected);
    assert!(blobs.contains(BlobKind::Corpus, corpus).expect("readable"));
    driver.stop().await;
    driving.await.expect("no panic").expect("no failure");
}
