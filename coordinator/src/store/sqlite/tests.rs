//! What is `SQLite`'s alone: files that are not what they were, disks that are full, a second process.

use std::fs;
use std::os::unix::fs::FileExt as _;

use tempfile::TempDir;

use super::super::suite::{Mounted, milestone, one_of_each};
use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn fresh() -> (TempDir, SqliteStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("a new store");
    (dir, store)
}

/// A batch of one record that tells its number.
fn numbered(number: u64) -> Vec<Record> {
    vec![Record::MilestoneReached { lease: LeaseId::new(number), milestone: milestone(number) }]
}

/// One record of each, so many times.
fn many(times: usize) -> Vec<Record> {
    std::iter::repeat_with(one_of_each).take(times).flatten().collect()
}

/// A closed store of some pages; and what is in it.
fn closed() -> (TempDir, Vec<Record>) {
    let (dir, mut store) = fresh();
    let records = many(20);
    store.append(&records, NOW).expect("room");
    (dir, records)
}

fn open_and_load(dir: &Path) -> Result<Vec<Record>, StoreError> {
    SqliteStore::open(dir)?.load()
}

fn is_corrupt(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. })
}

/// RELIABILITY.md, "Facts": earlier ones can corrupt a database at the reset of its write-ahead log.
#[test]
fn sqlite_is_recent_enough_not_to_corrupt_its_log() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

#[test]
fn a_commit_is_synced_to_a_write_ahead_log() {
    let (_dir, store) = fresh();
    let pragma = |name| {
        let value =
            store.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        value.expect("a pragma")
    };
    assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
    assert_eq!(pragma("synchronous"), 2.into(), "FULL");
}

#[test]
fn a_second_opener_is_refused_by_path_and_process() {
    let (dir, store) = fresh();
    let refused = SqliteStore::open(dir.path()).expect_err("it is open").to_string();
    assert_eq!(refused, format!("{} is in use by process {}", dir.path().display(), std::process::id()));
    drop(store);
    SqliteStore::open(dir.path()).expect("it is closed");
}

#[test]
fn what_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let refused = SqliteStore::open(&path).expect_err("not a directory");
        assert!(matches!(refused, StoreError::NotADirectory(_)), "{refused}");
    }
}

#[test]
fn files_of_others_and_of_later_builds_are_refused_and_stay_as_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("slalom.db");
    let untouched = |refusal: fn(&StoreError) -> bool| {
        let before = fs::read(&path).expect("a file");
        let error = SqliteStore::open(dir.path()).expect_err("not ours");
        assert!(refusal(&error), "{error}");
        assert_eq!(fs::read(&path).expect("a file"), before);
    };
    fs::write(&path, "a letter to the editor, and no database at all").expect("a file");
    untouched(is_corrupt);
    fs::write(&path, "").expect("a file");
    untouched(is_corrupt);
    fs::remove_file(&path).expect("a file");
    let with_pragma = |pragma: &str, value: i32| {
        let connection = Connection::open(&path).expect("a database");
        connection.execute_batch("CREATE TABLE IF NOT EXISTS theirs (x)").expect("a table");
        connection.pragma_update(None, pragma, value).expect("a pragma");
    };
    with_pragma("application_id", 7);
    untouched(|error| matches!(error, StoreError::Foreign { application_id: 7, .. }));
    with_pragma("application_id", APPLICATION_ID);
    with_pragma("user_version", 3);
    untouched(|error| matches!(error, StoreError::Newer { found: 3, known: 2, .. }));
}

#[test]
fn every_store_has_an_id_of_its_own_and_one_of_an_earlier_build_is_given_one() {
    let (_dir, one) = fresh();
    let (_dir, other) = fresh();
    assert_ne!(one.id(), other.id());

    let dir = tempfile::tempdir().expect("a directory");
    let earlier = Connection::open(dir.path().join("slalom.db")).expect("a database");
    earlier.pragma_update(None, "application_id", APPLICATION_ID).expect("a pragma");
    earlier.execute_batch(MIGRATIONS[0]).expect("the first version's tables");
    earlier.pragma_update(None, "user_version", 1).expect("a pragma");
    drop(earlier);
    let given = SqliteStore::open(dir.path()).expect("an earlier build's store").id();
    assert_eq!(SqliteStore::open(dir.path()).expect("this build's store").id(), given);
}

#[test]
fn a_store_whose_id_is_gone_or_no_id_is_refused() {
    for change in ["DELETE FROM store", "UPDATE store SET id = x'00'"] {
        let (dir, _) = closed();
        let tool = Connection::open(dir.path().join("slalom.db")).expect("a database");
        tool.execute_batch(change).expect("a change");
        drop(tool);
        let error = SqliteStore::open(dir.path()).expect_err(change);
        assert!(matches!(error, StoreError::Corrupt { damage: Damage::NoId, .. }), "{change}: {error:?}");
    }
}

/// I14. Sixteen bytes at a time over the whole file: what is loaded is what was written, or nothing is.
#[test]
fn no_overwritten_byte_changes_what_is_loaded() {
    let (dir, records) = closed();
    let path = dir.path().join("slalom.db");
    let whole = fs::read(&path).expect("a closed store");
    let mut refused = 0;
    // A stride that is prime to the size of a page, so that every part of pages is hit.
    let places: Vec<usize> = (0..whole.len() - 16).step_by(301).collect();
    for &place in &places {
        let file = OpenOptions::new().write(true).open(&path).expect("a closed store");
        file.write_all_at(&[0xa5; 16], place as u64).expect("inside");
        match open_and_load(dir.path()) {
            Ok(loaded) => assert_eq!(loaded, records, "overwritten at {place}"),
            // The first page says whose file it is, and of which version.
            Err(StoreError::Foreign { .. } | StoreError::Newer { .. }) if place < 100 => refused += 1,
            Err(error) => {
                assert!(is_corrupt(&error), "overwritten at {place}: {error:?}");
                refused += 1;
            }
        }
        // Opening may have left a log of its own.
        for log in ["slalom.db-wal", "slalom.db-shm"] {
            let _ = fs::remove_file(dir.path().join(log));
        }
        fs::write(&path, &whole).expect("a file");
    }
    assert!(refused > places.len() / 3, "of {} only {refused} were noticed", places.len());
    assert_eq!(open_and_load(dir.path()).expect("whole again"), records);
}

#[test]
fn a_truncated_file_is_refused_at_every_length() {
    let (dir, _) = closed();
    let path = dir.path().join("slalom.db");
    let whole = fs::read(&path).expect("a closed store");
    for length in (0..whole.len()).step_by(1021) {
        fs::write(&path, &whole[..length]).expect("a file");
        let error = open_and_load(dir.path()).expect_err("a part of a store");
        assert!(is_corrupt(&error), "cut at {length}: {error:?}");
    }
}

/// A row that is whole by itself and in the wrong place, or in none, or of a type that none has.
#[test]
fn records_exchanged_removed_or_retyped_are_refused_by_number() {
    for (change, first_wrong) in [
        (
            "UPDATE records SET id = -id; UPDATE records SET id = CASE id WHEN -3 THEN 4 WHEN -4 THEN 3 ELSE -id END",
            3,
        ),
        ("DELETE FROM records WHERE id = 7", 7),
        ("UPDATE records SET id = 0 WHERE id = 1", 1),
        ("UPDATE records SET at_ms = 1 WHERE id = 5", 5),
        ("UPDATE records SET body = x'00' WHERE id = 5", 5),
        ("UPDATE records SET lease = 1 WHERE id = 6", 6),
        ("UPDATE records SET kind = 'milestone' WHERE id = 6", 6),
        ("UPDATE records SET sweep = NULL WHERE id = 1", 1),
    ] {
        let (dir, _) = closed();
        let tool = Connection::open(dir.path().join("slalom.db")).expect("a database");
        tool.execute_batch(change).expect("a change");
        drop(tool);
        let error = open_and_load(dir.path()).expect_err(change);
        let StoreError::Corrupt { record, .. } = error else { panic!("{change}: {error:?}") };
        assert_eq!(record, Some(first_wrong), "{change}");
    }
}

/// Copies what a crash would leave: nothing closed, the log not yet in the database.
fn crashed(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["slalom.db", "slalom.db-wal"] {
        fs::copy(dir.join(name), copy.path().join(name)).expect("a file of an open store");
    }
    copy
}

/// What SQLite mends itself it mends by whole batches, and in order.
#[test]
fn a_log_cut_or_damaged_anywhere_leaves_whole_batches_from_the_first_on() {
    let (dir, mut store) = fresh();
    for number in (1..60).step_by(2) {
        let batch: Vec<Record> = [numbered(number), numbered(number + 1)].concat();
        store.append(&batch, NOW).expect("room");
    }
    let all = store.load().expect("a whole store");
    let left = crashed(dir.path());
    assert_eq!(open_and_load(left.path()).expect("recovered"), all, "I2");

    let log = fs::metadata(dir.path().join("slalom.db-wal")).expect("a log").len();
    let mut lengths = Vec::new();
    for place in (0..log).step_by(4801) {
        let damages: [fn(&File, u64) -> io::Result<()>; 2] =
            [|log, place| log.set_len(place), |log, place| log.write_all_at(&[0xa5; 16], place)];
        for damage in damages {
            let left = crashed(dir.path());
            let log = OpenOptions::new().write(true).open(left.path().join("slalom.db-wal")).expect("a log");
            damage(&log, place).expect("inside");
            let loaded = open_and_load(left.path()).expect("recovered");
            assert!(loaded.len().is_multiple_of(2), "half a batch at {place}");
            assert_eq!(loaded, all[..loaded.len()], "not from the first on, at {place}");
            lengths.push(loaded.len());
        }
    }
    assert!(lengths.contains(&0) && lengths.iter().any(|&length| length > 40), "{lengths:?}");
}

#[test]
fn a_log_without_its_database_is_not_given_to_a_new_one() {
    let (dir, mut store) = fresh();
    store.append(&numbered(1), NOW).expect("room");
    let left = crashed(dir.path());
    fs::remove_file(left.path().join("slalom.db")).expect("a file");
    let error = SqliteStore::open(left.path()).expect_err("half a store");
    assert!(matches!(error, StoreError::Corrupt { damage: Damage::OnlyLog, .. }), "{error:?}");
    assert!(!left.path().join("slalom.db").exists());
}

/// Also where a former process died at making one.
#[test]
fn what_was_left_of_making_a_store_is_no_store() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("slalom.db-new"), "half").expect("a file");
    fs::write(dir.path().join("slalom.db-new-wal"), "half").expect("a file");
    assert_eq!(open_and_load(dir.path()).expect("a new store"), []);
    assert!(!dir.path().join("slalom.db-new").exists());
}

/// Fault "disk full": a typed refusal, nothing half-written, recovery by itself when space is back.
#[test]
fn a_full_disk_refuses_whole_batches_and_takes_them_again_when_there_is_room() {
    let (dir, mut store) = fresh();
    let limit = |store: &SqliteStore, pages: u32| {
        let set = store
            .connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, u32>(0));
        assert!(set.expect("a pragma") >= pages);
    };
    store.append(&numbered(1), NOW).expect("room");
    limit(&store, 12);
    let large = many(30);
    for _ in 0..2 {
        let refused = store.append(&large, NOW).expect_err("no room for so much");
        assert!(matches!(refused, StoreError::DiskFull(_)) && refused.may_pass(), "{refused:?}");
        assert_eq!(store.load().expect("a whole store"), numbered(1));
    }
    store.append(&numbered(2), NOW).expect("room for so little");
    limit(&store, 1 << 20);
    store.append(&large, NOW).expect("room again");
    drop(store);
    let expected = [numbered(1), numbered(2), large].concat();
    assert_eq!(open_and_load(dir.path()).expect("a whole store"), expected);
}

/// The same on a real one, where the commit fails in the middle of its writes. Needs the right to mount.
#[test]
fn a_disk_that_is_really_full_does_so_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(disk) = Mounted::new(dir.path(), "size=1m") else { return };
    let mut store = SqliteStore::open(dir.path()).expect("a new store");
    let mut committed = Vec::new();
    let large = many(3);
    let refused = loop {
        match store.append(&large, NOW) {
            Ok(()) => committed.extend(large.clone()),
            Err(error) => break error,
        }
        assert!(committed.len() < 100_000, "a megabyte that has no end");
    };
    assert!(matches!(refused, StoreError::DiskFull(_)), "{refused:?}");
    assert!(!committed.is_empty());
    assert_eq!(store.load().expect("a whole store"), committed);
    assert!(matches!(store.append(&large, NOW), Err(StoreError::DiskFull(_))), "it is still full");
    disk.remount("size=4m");
    store.append(&large, NOW).expect("room again");
    committed.extend(large);
    drop(store);
    assert_eq!(open_and_load(dir.path()).expect("a whole store"), committed);
}

/// A sync that failed once may succeed the second time without having written.
#[test]
fn after_any_other_failed_commit_a_store_takes_nothing_more_until_a_restart() {
    let (dir, mut store) = fresh();
    store.append(&numbered(1), NOW).expect("room");
    store.connection.pragma_update(None, "query_only", true).expect("a pragma");
    let refused = store.append(&numbered(2), NOW).expect_err("nothing may be written");
    assert!(!refused.may_pass(), "{refused:?}");
    store.connection.pragma_update(None, "query_only", false).expect("a pragma");
    let refused = store.append(&numbered(2), NOW).expect_err("it failed before");
    assert!(matches!(refused, StoreError::Broken(_)), "{refused:?}");
    drop(store);
    let mut store = SqliteStore::open(dir.path()).expect("a restart");
    store.append(&numbered(2), NOW).expect("room");
    assert_eq!(store.load().expect("a whole store"), [numbered(1), numbered(2)].concat());
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(_disk) = Mounted::new(dir.path(), "ro") else { return };
    let refused = SqliteStore::open(dir.path()).expect_err("read-only");
    assert!(matches!(refused, StoreError::NotWritable { .. }), "{refused:?}");
}
