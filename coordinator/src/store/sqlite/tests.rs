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
    let known = MIGRATIONS.len() as i32;
    with_pragma("user_version", known + 1);
    untouched(|error| {
        let known = MIGRATIONS.len() as i32;
        matches!(error, StoreError::Newer { found, known: ours, .. } if (*found, *ours) == (known + 1, known))
    });
    for version in [-1, 0] {
        with_pragma("user_version", version);
        untouched(is_corrupt);
    }
}

#[test]
fn a_store_that_says_to_be_of_a_version_whose_tables_it_does_not_have_is_refused_and_stays_as_it_is() {
    for version in -1..MIGRATIONS.len() as i32 {
        let (dir, records) = closed();
        let path = dir.path().join("slalom.db");
        let says = |version: i32| {
            let connection = Connection::open(&path).expect("a database");
            connection.pragma_update(None, "user_version", version).expect("a pragma");
        };
        says(version);
        let before = fs::read(&path).expect("a file");
        let error = SqliteStore::open(dir.path()).expect_err("not of that version");
        let StoreError::Corrupt { damage: Damage::Version(found), .. } = error else { panic!("{error:?}") };
        assert_eq!(found, version);
        assert!(fs::read(&path).expect("a file") == before, "of version {version}");
        says(MIGRATIONS.len() as i32);
        assert!(open_and_load(dir.path()).expect("a whole store") == records, "of version {version}");
    }
}

#[test]
fn every_store_has_an_id_of_its_own() {
    let (_dir, one) = fresh();
    let (_dir, other) = fresh();
    assert_ne!(one.id(), other.id());
}

/// A store as the build left it that knew only these migrations.
fn of_an_earlier_build(migrations: &[&str], records: &[Record]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("slalom.db");
    let lock = lock(dir.path()).expect("nobody else's");
    create(dir.path(), &path, migrations).expect("room");
    let connection = Connection::open(&path).expect("a database");
    let mut store = SqliteStore {
        connection,
        path,
        id: StoreId::new(0),
        last_id: 0,
        settled: false,
        broken: false,
        _lock: lock,
    };
    store.append(records, NOW).expect("the tables of records are those of the first version");
    dir
}

#[test]
fn a_store_of_every_earlier_version_is_brought_to_this_one_with_all_that_is_in_it() {
    let records = many(3);
    for version in 1..MIGRATIONS.len() {
        let dir = of_an_earlier_build(&MIGRATIONS[..version], &records);
        let mut store = SqliteStore::open(dir.path()).expect("an earlier build's store");
        assert_eq!(store.load().expect("a whole store"), records, "of version {version}");
        let (id, run) = (store.id(), super::super::suite::run(1).key());
        let history = store.history(&run).expect("a whole store");
        store.append(&numbered(1), NOW).expect("room");
        drop(store);
        let mut store = SqliteStore::open(dir.path()).expect("this build's store");
        assert_eq!(store.id(), id, "of version {version}");
        assert_eq!(store.load().expect("a whole store"), [records.clone(), numbered(1)].concat());
        assert!(!history.is_empty());
        assert_eq!(store.history(&run).expect("a whole store"), history);
        let now: i32 =
            store.connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a pragma");
        assert_eq!(now, MIGRATIONS.len() as i32);
    }
}

/// Somebody has a store of each version: a migration that is changed would leave theirs another than a new one is.
#[test]
fn migrations_are_only_ever_appended() {
    let known = [
        "64ff95a6772e9ebf9aacb8ead035f5db75d386a00a7668fae982a7f910199d33",
        "ba9978b107d0624ab44c6e00d7f6b8468dd02ab6751612b719d9c1368a67a5bb",
        "ef4314c905a8990e47e6c3cd7d3ce34d3a35a90905209c516cc429e8bea579d3",
    ];
    let hashes: Vec<String> = MIGRATIONS
        .iter()
        .map(|migration| slalom_common::id::ContentHash::of(migration.as_bytes()).to_string())
        .collect();
    assert_eq!(hashes, known);
}

/// A migration runs whole or not at all: what a crash in the middle leaves is of the version before it.
#[test]
fn a_migration_that_fails_leaves_the_store_of_its_version() {
    let records = many(1);
    let dir = of_an_earlier_build(&MIGRATIONS[..1], &records);
    let path = dir.path().join("slalom.db");
    let mut connection = Connection::open(&path).expect("a database");
    let broken = [MIGRATIONS[0], "CREATE TABLE store (id BLOB); SELECT nonsense;"];
    let error = migrate(&mut connection, &path, &broken).expect_err("nonsense");
    assert!(is_corrupt(&error), "{error}");
    drop(connection);
    assert_eq!(open_and_load(dir.path()).expect("still of its version"), records);
}

#[test]
fn a_store_whose_id_is_gone_or_no_id_is_refused() {
    for change in ["DELETE FROM store", "UPDATE store SET id = x'00'", "UPDATE store SET id_again = NULL"] {
        let (dir, _) = closed();
        let tool = Connection::open(dir.path().join("slalom.db")).expect("a database");
        tool.execute_batch(change).expect("a change");
        drop(tool);
        let error = SqliteStore::open(dir.path()).expect_err(change);
        assert!(matches!(error, StoreError::Corrupt { damage: Damage::NoId, .. }), "{change}: {error:?}");
    }
}

/// The id is in no record.
#[test]
fn a_store_whose_id_is_not_what_it_was_is_refused() {
    let (dir, _) = closed();
    let tool = Connection::open(dir.path().join("slalom.db")).expect("a database");
    tool.execute_batch("UPDATE store SET id = randomblob(16)").expect("a change");
    drop(tool);
    let error = SqliteStore::open(dir.path()).expect_err("another id");
    assert!(matches!(error, StoreError::Corrupt { damage: Damage::OtherId, .. }), "{error:?}");
}

/// I11, I14. One bit at a time, in every part of every page: the records are those that were written, or there are none.
#[test]
fn no_flipped_bit_changes_what_is_loaded() {
    let (dir, mut store) = fresh();
    let id = store.id();
    let records = many(2);
    store.append(&records, NOW).expect("room");
    drop(store);
    let path = dir.path().join("slalom.db");
    let whole = fs::read(&path).expect("a closed store");
    // The heads of a page are a few bytes that say how all others are read: those, and of the rest a sample, which
    // `.ci/full store` makes the whole.
    let (page, stride) = (4096, if option_env!("SLALOM_TEST_SCALE").is_some() { 1 } else { 71 });
    let heads = (0..whole.len() / page).flat_map(|number| (0..16).map(move |byte| number * page + byte));
    let places = (0..100).chain(heads).chain((0..whole.len()).step_by(stride));
    let flips: Vec<(usize, u8)> = places.zip((0..8).cycle()).map(|(place, bit)| (place, 1 << bit)).collect();
    let file = OpenOptions::new().write(true).open(&path).expect("a closed store");
    let (mut refused, mut same) = (0, 0);
    for &(place, bit) in &flips {
        file.write_all_at(&[whole[place] ^ bit], place as u64).expect("inside");
        let opened = SqliteStore::open(dir.path());
        match opened.and_then(|mut store| Ok((store.id(), store.load()?))) {
            Ok(read) => {
                assert_eq!(read, (id, records.clone()), "bit {bit:#x} of byte {place}");
                same += 1;
            }
            // The first page says whose file it is, and of which version.
            Err(StoreError::Foreign { .. } | StoreError::Newer { .. }) if place < 100 => refused += 1,
            Err(error) => {
                assert!(is_corrupt(&error), "bit {bit:#x} of byte {place}: {error:?}");
                refused += 1;
            }
        }
        for log in ["slalom.db-wal", "slalom.db-shm"] {
            // Opening may have left a log of its own.
            let _ = fs::remove_file(dir.path().join(log));
        }
        fs::write(&path, &whole).expect("a file");
    }
    println!("figure bits flipped in the database, one at a time: {}", flips.len());
    println!("figure of these, refused: {refused}");
    println!("figure of these, without effect on any record: {same}");
    // Much of so small a store is room that no record has yet, and places to find them by.
    assert!(refused > flips.len() / 8, "of {} flips {refused} were noticed", flips.len());
}

/// What a former process left in the log is written again before it is believed, and a person's tool can be in the way of that.
#[test]
fn a_tool_that_reads_an_earlier_moment_holds_up_a_restart_and_loses_nothing() {
    let (dir, mut store) = fresh();
    store.append(&numbered(1), NOW).expect("room");
    let tool = Connection::open(dir.path().join("slalom.db")).expect("a database");
    tool.execute_batch("BEGIN").expect("a transaction");
    let read: i64 = tool.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).expect("a number");
    assert_eq!(read, 1);
    store.append(&numbered(2), NOW).expect("it is in nobody's way");
    drop(store);
    let refused = open_and_load(dir.path()).expect_err("what came last is in the log alone");
    assert!(matches!(refused, StoreError::Busy(_)), "{refused:?}");
    tool.execute_batch("COMMIT").expect("a transaction");
    assert_eq!(open_and_load(dir.path()).expect("a whole store"), [numbered(1), numbered(2)].concat());
}

/// "Nothing was changed" is said of a refused store, also of one that a crash left its log to.
#[test]
fn what_is_refused_as_damaged_keeps_every_byte_of_its_files() {
    let (dir, mut store) = fresh();
    store.append(&many(20), NOW).expect("room");
    store.append(&numbered(1), NOW).expect("room");
    let left = crashed(dir.path());
    drop(store);
    let mut store = SqliteStore::open(left.path()).expect("recovered");
    store.load().expect("whole: the log's commits are written into the database");
    store.append(&numbered(2), NOW).expect("room");
    let database = fs::read(left.path().join("slalom.db")).expect("a file");
    let words = b"two words,";
    // Some of these are of what a page held before.
    let in_records: Vec<usize> =
        (0..database.len() - words.len()).filter(|&place| database[place..].starts_with(words)).collect();
    let heads = in_records.iter().map(|place| place / 4096 * 4096 + 3).collect();
    for (damage, places) in [("records", in_records.clone()), ("the heads of pages", heads)] {
        let left = crashed(left.path());
        let file = OpenOptions::new().write(true).open(left.path().join("slalom.db")).expect("a database");
        for place in places {
            file.write_all_at(&[0xa5; 4], place as u64).expect("inside");
        }
        let bytes =
            || ["slalom.db", "slalom.db-wal"].map(|name| fs::read(left.path().join(name)).expect(name));
        let before = bytes();
        assert!(!before[1].is_empty());
        let error = open_and_load(left.path()).map(|records| records.len()).expect_err(damage);
        assert!(is_corrupt(&error), "{damage}: {error:?}");
        assert!(bytes() == before, "{damage}");
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
