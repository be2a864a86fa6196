//! Faults of the disk under a real coordinator: full, read-only, failing, damaged; and that it says nothing before it is written.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use slalom_common::answer::{SweepState, TrialRow};
use slalom_common::message::{CoordinatorMessage, Lease};
use slalom_proto::v1;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::peers::{Worker, hello, made_up, person, put_checkpoint, submit, sweep};
use crate::process::{Coordinator, program, said};
use crate::status_of_tiny;
use crate::trace::{Strace, Trace};

/// A small file system of the test's own, gone with it.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Of one megabyte; nothing, loudly, where a test may not mount one.
    fn mount(test: &str, at: &Path) -> Option<Self> {
        if mount(at, "size=1m") {
            return Some(Self { at: at.to_owned() });
        }
        eprintln!("SKIPPED {test}: this process may not mount a file system of its own");
        None
    }

    fn remount(&self, options: &str) {
        assert!(mount(&self.at, &format!("remount,{options}")), "{options}");
    }

    /// Leaves room for nothing.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("a name");
        loop {
            match file.write_all(&[b'x'; 512]) {
                Ok(()) => (),
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that fails has its coordinator still running.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn mount(at: &Path, options: &str) -> bool {
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
    status.is_ok_and(|status| status.success())
}

/// Starts a coordinator that must refuse to; its exit code and what it said.
fn refused(store: &Path) -> (Option<i32>, String) {
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--log", "error", "--store"])
        .arg(store)
        .output()
        .expect("the program starts");
    (output.status.code(), said(&output))
}

/// Every trial of `tiny` is answered, by the numbers that its worker reported.
async fn has_all_results(coordinator: &Coordinator) {
    assert_eq!(status_of_tiny(coordinator).await.state, SweepState::Done);
    let request = v1::ListTrialsRequest { sweep: "tiny".to_owned() };
    let mut rows = person(coordinator.channel()).list_trials(request).await.expect("rows").into_inner();
    let mut trials = 0;
    while let Some(row) = rows.message().await.expect("a row") {
        let row = TrialRow::from_wire(&row).expect("a row");
        assert_eq!(row.perplexity, Some(made_up(row.at.shape.nodes, row.epochs)));
        trials += 1;
    }
    assert_eq!(trials, 4);
}

/// Trains what is left of `tiny`, from these leases on.
async fn finish(coordinator: &Coordinator, worker: &mut Worker, mut leases: Vec<Lease>) {
    while let Some(lease) = leases.pop() {
        let number = worker.finish(&lease).await;
        leases.extend(worker.acknowledged(number).await);
        if leases.is_empty() && status_of_tiny(coordinator).await.state == SweepState::Active {
            leases = worker.grants().await;
        }
    }
}

/// Fault "disk full", invariant I2.
#[tokio::test]
async fn a_full_disk_is_refused_in_words_and_nothing_is_lost_when_there_is_room_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::mount("a full disk", dir.path()) else { return };
    let mut coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("8,16")).await;
    let (mut worker, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let leases = worker.grants().await;

    disk.fill();
    let number = worker.finish(&leases[0]).await;
    let failed = coordinator.wait_for("commit failed").await;
    let database = dir.path().join("slalom.db");
    let no_space = format!("no space is left for {}", database.display());
    assert_eq!(failed["detail"], no_space);

    let is_typed = |status: Status, words: &str| {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(status.message(), words);
    };
    let words = format!("nothing can be recorded now: {no_space}");
    let mut people = person(coordinator.channel());
    let asked = people.get_status(v1::GetStatusRequest::default()).await;
    is_typed(asked.expect_err("it is behind what is on the disk"), &words);
    let mut other = sweep("8").to_wire();
    other.name = Some("other".to_owned());
    let submitted = people.submit(v1::SubmitRequest { sweep: Some(other.clone()) }).await;
    is_typed(submitted.expect_err("it cannot be recorded"), &words);
    let state = vec![7; 1 << 20];
    let stored = put_checkpoint(coordinator.channel(), &state, 1 << 18).await.expect_err("no room");
    assert_eq!(stored.code(), Code::ResourceExhausted, "{stored}");
    // Another grant may have come before the disk was full.
    let mut waiting = leases[1..].to_vec();
    for message in worker.received_by_now().await {
        match message {
            CoordinatorMessage::Grants(leases) => waiting.extend(leases),
            other => panic!("nothing is acknowledged that is not written: {other:?}"),
        }
    }

    disk.empty();
    waiting.extend(worker.acknowledged(number).await);
    let gone = people.get_status(v1::GetStatusRequest { sweep: Some("other".to_owned()) }).await;
    assert_eq!(gone.expect_err("it was refused").code(), Code::NotFound);
    if waiting.is_empty() {
        waiting = worker.grants().await;
    }
    finish(&coordinator, &mut worker, waiting).await;
    assert_eq!(coordinator.signal("TERM").await.code(), Some(0));

    // Neither does a start harm anything that has no room for a log.
    disk.fill();
    let (code, said) = refused(dir.path());
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("error: no space is left for "), "{said}");
    assert_eq!(lines[1..], ["  help: free some space, then start again"], "{said}");
    disk.empty();
    let coordinator = Coordinator::start(dir.path()).await;
    has_all_results(&coordinator).await;
}

#[tokio::test]
async fn a_read_only_directory_is_refused_in_words_and_harms_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::mount("a read-only directory", dir.path()) else { return };
    disk.remount("ro");
    let (code, words) = refused(dir.path());
    assert_eq!(code, Some(1), "{words}");
    let expected = format!(
        "error: cannot write in {}: Read-only file system (os error 30)\n  help: choose another folder with `--store`\n",
        dir.path().join("lock").display()
    );
    assert_eq!(words, expected, "before there is a store");

    disk.remount("rw");
    let coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("8,16")).await;
    let (mut worker, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let leases = worker.grants().await;
    finish(&coordinator, &mut worker, leases).await;
    coordinator.kill_9();
    disk.remount("ro");
    assert_eq!(refused(dir.path()), (Some(1), expected));
    disk.remount("rw");
    let coordinator = Coordinator::start(dir.path()).await;
    has_all_results(&coordinator).await;
}

/// A store with a sweep in it, closed.
async fn closed_store() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("8,16")).await;
    assert_eq!(coordinator.signal("TERM").await.code(), Some(0));
    dir
}

/// What may have become of a database.
enum Damage {
    /// To so many bytes.
    Cut(u64),
    Sql(&'static str),
}

impl Damage {
    fn is_done_to(&self, database: &Path) {
        match *self {
            Self::Cut(length) => {
                let file = File::options().write(true).open(database).expect("it is there");
                file.set_len(length).expect("it was longer");
            }
            Self::Sql(sql) => {
                let tool = rusqlite::Connection::open(database).expect("a database");
                tool.execute_batch(sql).expect("a change");
            }
        }
    }
}

/// Fault "corrupt store", invariant I14: in words, with what to do, and to the byte as it was.
#[tokio::test]
async fn what_is_no_whole_store_of_this_build_is_refused_with_what_to_do_and_left_as_it_is() {
    let restore = "nothing was changed: restore it from a copy, or move it away to begin anew";
    let elsewhere = "nothing was changed: choose another folder with `--store`";
    let newer = "nothing was changed: use that build, or choose another with `--store`";
    let cases = [
        (Damage::Cut(0), "is damaged: the file is empty", restore),
        (Damage::Cut(6000), "is damaged: ", restore),
        (Damage::Sql("UPDATE records SET body = x'00'"), "is damaged at record 1: its checksum", restore),
        (Damage::Sql("DELETE FROM store"), "is damaged: its id is missing", restore),
        (Damage::Sql("PRAGMA user_version = 1"), "is damaged: it says to be of version 1", restore),
        (Damage::Sql("PRAGMA user_version = 99"), "is of version 99, newer than", newer),
        (Damage::Sql("PRAGMA application_id = 7"), "is a database of another program", elsewhere),
    ];
    let whole = closed_store().await;
    for (damage, words, help) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let database = dir.path().join("slalom.db");
        fs::copy(whole.path().join("slalom.db"), &database).expect("it is closed");
        damage.is_done_to(&database);
        let before = fs::read(&database).expect("it is there");
        let (code, said) = refused(dir.path());
        assert_eq!(code, Some(1), "{said}");
        // Beside what the log says of it, which another thread writes.
        let shown =
            said.lines().filter(|line| ["error: ", "  help: "].iter().any(|word| line.starts_with(word)));
        let lines: Vec<&str> = shown.collect();
        let [error, last] = lines[..] else { panic!("{said}") };
        let expected = format!("error: {} {words}", database.display());
        assert!(error.starts_with(&expected), "{said}\nin place of\n{expected}");
        assert_eq!(last, format!("  help: {help}"), "{said}");
        assert!(fs::read(&database).expect("it is there") == before, "{words}");
    }
}

#[tokio::test]
async fn a_backup_says_what_it_has_or_why_there_is_none() {
    let store = closed_store().await;
    let place = tempfile::tempdir().expect("a directory");
    let copy = place.path().join("monday");
    let back_up = |from: &Path| {
        let output = program().arg("backup").arg(&copy).arg("--store").arg(from).output();
        output.expect("the program starts")
    };
    let none = back_up(place.path());
    assert_eq!(none.status.code(), Some(1));
    let words = format!(
        "error: there is no store in {}\n  help: `--store` names the folder of a coordinator's store\n",
        place.path().display()
    );
    assert_eq!(said(&none), words);

    let made = back_up(store.path());
    assert!(made.status.success(), "{}", said(&made));
    let line = format!("{}: 1 records, 1 corpora\n", copy.display());
    assert_eq!(String::from_utf8_lossy(&made.stdout), line);
    let again = back_up(store.path());
    assert_eq!(again.status.code(), Some(1));
    let words = format!(
        "error: {} is there already\n  help: a backup writes over nothing: give a folder that is not there yet\n",
        copy.display()
    );
    assert_eq!(said(&again), words);
    let coordinator = Coordinator::start(&copy).await;
    assert_eq!(status_of_tiny(&coordinator).await.state, SweepState::Active);
}

/// Fault "I/O error": crash and recover. From the moment on at which `strace` is there, every sync fails.
#[tokio::test]
async fn a_failed_sync_ends_the_coordinator_before_it_acknowledges_and_the_next_one_takes_the_result() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("8,16")).await;
    let (mut worker, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let leases = worker.grants().await;
    let inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"];
    let Some(_broken) = Strace::attach("a failed sync", coordinator.pid(), &inject) else { return };

    worker.finish(&leases[0]).await;
    while let Ok(message) = worker.receive().await {
        assert!(!matches!(message, CoordinatorMessage::Acknowledged(_)), "of what is not on the disk");
    }
    let (ended, log) = coordinator.end().await;
    assert_eq!(ended.code(), Some(1), "{log}");
    let database = dir.path().join("slalom.db");
    let words = format!("error: cannot use {}: disk I/O error", database.display());
    let help = "help: nothing that was acknowledged is lost: when the disk is well, start again";
    assert!(log.contains(&words) && log.contains(help), "{log}");

    let coordinator = Coordinator::start(dir.path()).await;
    let (mut worker, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    finish(&coordinator, &mut worker, leases).await;
    has_all_results(&coordinator).await;
}

/// I2: an acknowledgement begins to leave after the log is synced, whatever it acknowledges.
#[tokio::test]
async fn a_submit_and_a_result_are_acknowledged_after_the_sync_of_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    let traced = Strace::attach("the order of sync and acknowledgement", coordinator.pid(), &Trace::OPTIONS);
    let Some(strace) = traced else { return };
    // Connected from here on, so that the trace has all that is sent.
    submit(coordinator.channel(), &sweep("8,16")).await;
    let (mut worker, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let leases = worker.grants().await;
    let number = worker.finish(&leases[0]).await;
    worker.acknowledged(number).await;
    coordinator.kill_9();

    let trace = strace.trace();
    let log = "slalom.db-wal";
    let created = |answer: &v1::SubmitResponse| answer.created && answer.status.is_some();
    let submitted = trace.sent_after_sync(log, 0, created).expect("a submit");
    let says = |message: &v1::CoordinatorMessage| message.message.clone();
    let granted = |message: &v1::CoordinatorMessage| {
        matches!(says(message), Some(v1::coordinator_message::Message::Grants(_)))
    };
    let leased = trace.sent_after_sync(log, submitted, granted).expect("a grant");
    let acknowledged = |message: &v1::CoordinatorMessage| {
        matches!(says(message), Some(v1::coordinator_message::Message::Acknowledged(_)))
    };
    trace.sent_after_sync(log, leased, acknowledged).expect("a result");
}
