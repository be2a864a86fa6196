//! Records in an `SQLite` database, one directory a store: `slalom.db`, its write-ahead log, and `lock`.
//!
//! A commit returns when the log is synced (`synchronous=FULL`). The directory's lock, not the database's, keeps a second
//! coordinator out, so that a person may look at a living store with `sqlite3`. The database is made beside and renamed:
//! one that is there was once whole, and is never made anew over what is left of it (I14). What a start reads back it writes
//! again: that bytes can be read after a failed sync does not mean that they are on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior, ffi, params};
use rustix::fs::{FlockOperation, flock};
use slalom_common::id::{LeaseId, RunKey, StoreId};

use super::codec::{checksum, decode, encode};
use super::{Damage, Stamped, Store, StoreError, at_ms, time_of};
use crate::scheduler::record::Record;

/// The database's name in the store's directory.
pub(super) const DATABASE: &str = "slalom.db";

/// Marks the file as Slalom's: "slom".
const APPLICATION_ID: i32 = 0x736c_6f6d;

/// What makes version n+1 of version n; only ever appended to. A database's `user_version` counts those it has had.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE records (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        sweep TEXT,
        lease INTEGER,
        body BLOB NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX records_by_lease ON records (lease) WHERE lease IS NOT NULL;
    CREATE TABLE run_mentions (
        run BLOB NOT NULL,
        record INTEGER NOT NULL,
        lease INTEGER
    ) STRICT;
    CREATE INDEX run_mentions_by_run ON run_mentions (run);
",
    "
    CREATE TABLE store (id BLOB NOT NULL) STRICT;
    INSERT INTO store VALUES (randomblob(16));
",
    "
    ALTER TABLE store ADD COLUMN id_again BLOB;
    UPDATE store SET id_again = id;
",
];

/// How long a commit waits for a person's tool that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One directory with records, locked for as long as this lives.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    id: StoreId,
    /// Of the last record committed; they count from 1 without a gap.
    last_id: u64,
    /// Whether what a former process left is on the disk for certain. It is not touched before it is found whole.
    settled: bool,
    /// After a commit that failed for more than a full disk, what the file holds is known only after a restart.
    broken: bool,
    // Last, so that the database is closed before the next process may open it.
    _lock: File,
}

impl SqliteStore {
    /// Opens the store in `dir`, making both if need be.
    ///
    /// # Errors
    /// If another process has it, it cannot be written, or it is not a whole store of this version or an earlier one.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::NotADirectory(dir.to_owned()),
            _ => StoreError::io(dir, error),
        })?;
        let lock = lock(dir)?;
        let path = dir.join(DATABASE);
        if !make_sure_it_was_whole(&path)? {
            create(dir, &path, MIGRATIONS)?;
        }
        let opening = |error| sqlite_error(&path, error);
        let mut connection = Connection::open(&path).map_err(opening)?;
        // Whatever is refused from here on stays as it is, a crash's log beside its database.
        checkpoint_on_close(&connection, false).map_err(opening)?;
        identify(&connection, &path)?;
        configure(&connection, &path)?;
        check_structure(&connection, &path)?;
        migrate(&mut connection, &path, MIGRATIONS)?;
        let id = read_id(&connection, &path)?;
        let last_id = read_last_id(&connection).map_err(opening)?;
        Ok(Self { connection, path, id, last_id, settled: false, broken: false, _lock: lock })
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has every commit that a former process left in the log written into the database and synced, before anything of it is
    /// believed. After a sync that failed, the log may be whole in the system's memory alone: one more sync of it would
    /// succeed and write nothing, and what was read back would be acknowledged without being on the disk (I2).
    fn settle(&mut self) -> Result<(), StoreError> {
        if self.settled {
            return Ok(());
        }
        let failed = |error| sqlite_error(&self.path, error);
        let outcome = self.connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        match outcome.map_err(failed)? {
            (0, logged, written) if logged == written => {}
            // Somebody's tool reads what was there before.
            _ => return Err(StoreError::Busy(self.path.clone())),
        }
        checkpoint_on_close(&self.connection, true).map_err(failed)?;
        self.settled = true;
        Ok(())
    }

    fn insert(&mut self, batch: &[Record], at_ms: u64) -> rusqlite::Result<u64> {
        const INSERT: &str = "INSERT INTO records (id, at_ms, kind, sweep, lease, body, checksum) \
                              VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        const MENTION: &str = "INSERT INTO run_mentions (run, record, lease) VALUES (?1, ?2, ?3)";
        let mut id = self.last_id;
        // Dropped on the way out it rolls back, unless SQLite has done so itself, as it does on a full disk.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare(INSERT)?;
            let mut mention = transaction.prepare(MENTION)?;
            for record in batch {
                id += 1;
                let body = encode(record);
                insert.execute(params![
                    id.cast_signed(),
                    at_ms.cast_signed(),
                    record.kind(),
                    record.sweep().map(slalom_common::id::SweepName::as_str),
                    record.lease().map(|lease| lease.number().cast_signed()),
                    body,
                    checksum(id, at_ms, &body).cast_signed(),
                ])?;
                for (run, lease) in record.runs() {
                    let lease = lease.map(|lease| lease.number().cast_signed());
                    mention.execute(params![run.bytes(), id.cast_signed(), lease])?;
                }
            }
        }
        transaction.commit()?;
        Ok(id)
    }
}

impl Store for SqliteStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn append(&mut self, batch: &[Record], at: SystemTime) -> Result<(), StoreError> {
        if self.broken {
            return Err(StoreError::Broken(self.path.clone()));
        }
        let inserted = self
            .settle()
            .and_then(|()| self.insert(batch, at_ms(at)).map_err(|error| sqlite_error(&self.path, error)));
        match inserted {
            Ok(last_id) => {
                self.last_id = last_id;
                Ok(())
            }
            Err(error) => {
                // A sync that failed once may succeed the second time without having written: never tried again.
                self.broken = !error.may_pass();
                Err(error)
            }
        }
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        let records = read_all(&self.connection, &self.path, self.last_id)?;
        self.settle()?;
        Ok(records)
    }

    fn history(&mut self, run: &RunKey) -> Result<Vec<Stamped>, StoreError> {
        const HISTORY: &str = "SELECT id, at_ms, kind, sweep, lease, body, checksum FROM records \
                               WHERE id IN (SELECT record FROM run_mentions WHERE run = ?1) \
                               OR lease IN (SELECT lease FROM run_mentions WHERE run = ?1) ORDER BY id";
        let failed = |error| sqlite_error(&self.path, error);
        let mut history = Vec::new();
        let mut statement = self.connection.prepare(HISTORY).map_err(failed)?;
        let mut rows = statement.query([run.bytes()]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let id = row.get::<_, i64>(0).map_err(failed)?.cast_unsigned();
            history.push(read(row, id).map_err(|error| error.of(&self.path, id))?);
        }
        Ok(history)
    }
}

/// Copies the database of the store in `dir` into a new file, and reads the copy back: the records committed by one moment.
/// Another process may have the store, and commits meanwhile. The copy is on the disk; its name is for the caller to sync.
///
/// # Errors
/// If there is no whole store of this version or an earlier one, or no room.
pub(super) fn copy(dir: &Path, to: &Path) -> Result<Vec<Record>, StoreError> {
    // In one transaction that reads, and so blocks no commit; not page by page, so that a damaged one is not carried along.
    const COPY: &str = "VACUUM INTO ?1";
    let path = dir.join(DATABASE);
    make_sure_it_was_whole(&path)?;
    let reading = |error| sqlite_error(&path, error);
    let source = open_to_read(&path).map_err(reading)?;
    identify(&source, &path)?;
    let unnameable = || io::Error::new(io::ErrorKind::InvalidInput, "the name is not UTF-8");
    let name = to.to_str().ok_or_else(|| StoreError::io(to, unnameable()))?;
    source.execute(COPY, [name]).map_err(|error| match sqlite_error(&path, error) {
        // Nothing else is written.
        StoreError::DiskFull(_) => StoreError::DiskFull(to.to_owned()),
        error => error,
    })?;
    File::open(to).and_then(|copy| copy.sync_all()).map_err(|error| StoreError::io(to, error))?;

    let reading = |error| sqlite_error(to, error);
    let copied = open_to_read(to).map_err(reading)?;
    identify(&copied, to)?;
    check_structure(&copied, to)?;
    let last_id = read_last_id(&copied).map_err(reading)?;
    // What is wrong in the copy is so because it is in what was copied.
    read_all(&copied, &path, last_id)
}

fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn read_last_id(connection: &Connection) -> rusqlite::Result<u64> {
    let last: i64 = connection.query_row("SELECT coalesce(max(id), 0) FROM records", [], |row| row.get(0))?;
    Ok(last.cast_unsigned())
}

/// Every record up to the last, each as it was written.
fn read_all(connection: &Connection, path: &Path, last_id: u64) -> Result<Vec<Record>, StoreError> {
    const LOAD: &str = "SELECT id, at_ms, kind, sweep, lease, body, checksum FROM records ORDER BY id";
    let failed = |error| sqlite_error(path, error);
    let mut records = Vec::new();
    let mut statement = connection.prepare(LOAD).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    for expected in 1..=last_id {
        let corrupt = |damage| corrupt(path, Some(expected), damage);
        let Some(row) = rows.next().map_err(failed)? else { return Err(corrupt(Damage::Missing)) };
        let id = row.get_ref(0).and_then(|id| Ok(id.as_i64()?)).map_err(failed)?.cast_unsigned();
        if id != expected {
            return Err(corrupt(Damage::Missing));
        }
        records.push(read(row, id).map_err(|error| error.of(path, id))?.record);
    }
    Ok(records)
}

enum ReadError {
    Row(rusqlite::Error),
    Damage(Damage),
}

impl ReadError {
    fn of(self, path: &Path, id: u64) -> StoreError {
        match self {
            Self::Row(error) => sqlite_error(path, error),
            Self::Damage(damage) => corrupt(path, Some(id), damage),
        }
    }
}

impl From<rusqlite::types::FromSqlError> for ReadError {
    /// A value of another type than its column's.
    fn from(_: rusqlite::types::FromSqlError) -> Self {
        Self::Damage(Damage::Columns)
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Row(error)
    }
}

/// The record in a row of `id, at_ms, kind, sweep, lease, body, checksum`, if it is as it was written.
fn read(row: &Row<'_>, id: u64) -> Result<Stamped, ReadError> {
    let at_ms = row.get_ref(1)?.as_i64()?.cast_unsigned();
    let body = row.get_ref(5)?.as_blob()?;
    if row.get_ref(6)?.as_i64()?.cast_unsigned() != checksum(id, at_ms, body) {
        return Err(ReadError::Damage(Damage::Checksum));
    }
    let record = decode(body).map_err(|error| ReadError::Damage(Damage::Body(Box::new(error))))?;
    let lease = row.get_ref(4)?.as_i64_or_null()?.map(|lease| LeaseId::new(lease.cast_unsigned()));
    let columns = (row.get_ref(2)?.as_bytes()?, row.get_ref(3)?.as_bytes_or_null()?, lease);
    let sweep = record.sweep().map(|sweep| sweep.as_str().as_bytes());
    if columns != (record.kind().as_bytes(), sweep, record.lease()) {
        return Err(ReadError::Damage(Damage::Columns));
    }
    Ok(Stamped { at: time_of(at_ms), record })
}

/// Takes the directory's lock and writes this process's number into it, for whoever comes second.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let failed = |error| StoreError::io(&path, error);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut words = String::new();
            // Who it is only serves the message.
            let _ = file.read_to_string(&mut words);
            return Err(StoreError::InUse { path: dir.to_owned(), pid: words.trim().parse().ok() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// Whether there is a database, which then was once made whole. What is left of one is refused.
fn make_sure_it_was_whole(path: &Path) -> Result<bool, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > 0 => return Ok(true),
        Ok(_) => return Err(corrupt(path, None, Damage::Empty)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io(path, error)),
    }
    // SQLite would take it for the new database's.
    let log = path.with_extension("db-wal");
    match fs::metadata(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Ok(metadata) if metadata.len() == 0 => Ok(false),
        Ok(_) => Err(corrupt(path, None, Damage::OnlyLog)),
        Err(error) => Err(StoreError::io(&log, error)),
    }
}

/// Makes an empty database under another name and gives it its own when it is whole.
fn create(dir: &Path, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let beside = path.with_extension("db-new");
    // Of a process that died at this.
    for left in [beside.clone(), path.with_extension("db-new-wal"), path.with_extension("db-new-shm")] {
        match fs::remove_file(&left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io(&left, error));
            }
            Err(_) | Ok(()) => {}
        }
    }
    let failed = |error| sqlite_error(&beside, error);
    let mut connection = Connection::open(&beside).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    migrate(&mut connection, &beside, migrations)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    fs::rename(&beside, path).map_err(|error| StoreError::io(path, error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| StoreError::io(dir, error))
}

/// Refuses the database of another program, or of a later build.
fn identify(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let pragma = |name| {
        let value = connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        value.map_err(|error| sqlite_error(path, error))
    };
    let application_id = pragma("application_id")?;
    if application_id != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_owned(), application_id });
    }
    let (found, known) = (pragma("user_version")?, MIGRATIONS.len() as i32);
    if found < 1 {
        // It got its name with its tables in it.
        return Err(corrupt(path, None, Damage::Version(found)));
    }
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    Ok(())
}

fn configure(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| sqlite_error(path, error);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(StoreError::NoWriteAheadLog(path.to_owned()));
    }
    // NORMAL would leave the latest commits to the next checkpoint's sync, and lose them with the power (I2).
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(failed)
}

/// Brings a database to the version after the last of `migrations`. Whoever calls has the directory's lock.
fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let failed = |error| sqlite_error(path, error);
    let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    for (migration, version) in migrations.iter().zip(1_i32..).skip(found.max(0) as usize) {
        // Its statements and its number together, or nothing.
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        transaction.execute_batch(migration).map_err(|error| match code_of(&error) {
            // Nonsense to SQLite: these are not the tables that it is for.
            Some(code) if code.code == ErrorCode::Unknown => corrupt(path, None, Damage::Version(found)),
            _ => failed(error),
        })?;
        transaction.pragma_update(None, "user_version", version).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

/// Whether the last to close the database moves its log into it, and removes the log.
fn checkpoint_on_close(connection: &Connection, does: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !does).map(|_| ())
}

fn read_id(connection: &Connection, path: &Path) -> Result<StoreId, StoreError> {
    // Twice, since no record's checksum covers it.
    let read = connection.query_row("SELECT id, id_again FROM store", [], |row| {
        Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, [u8; 16]>(1)?))
    });
    match read {
        Ok((id, again)) if id == again => Ok(StoreId::new(u128::from_be_bytes(id))),
        Ok(_) => Err(corrupt(path, None, Damage::OtherId)),
        Err(
            rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..),
        ) => Err(corrupt(path, None, Damage::NoId)),
        Err(error) => Err(sqlite_error(path, error)),
    }
}

/// Has `SQLite` look at every page: records that a damaged page hides are missed by no checksum of theirs.
fn check_structure(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| sqlite_error(path, error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(corrupt(path, None, Damage::Structure(found)))
}

fn corrupt(path: &Path, record: Option<u64>, damage: Damage) -> StoreError {
    StoreError::Corrupt { path: path.to_owned(), record, damage }
}

fn sqlite_error(path: &Path, error: rusqlite::Error) -> StoreError {
    let owned = path.to_owned();
    match code_of(&error).map(|code| code.code) {
        Some(ErrorCode::DiskFull) => StoreError::DiskFull(owned),
        // The index of the log could not be made, or made larger: of a system's errors this is the one that means no space.
        _ if code_of(&error).is_some_and(|code| code.extended_code == ffi::SQLITE_IOERR_SHMSIZE) => {
            StoreError::DiskFull(owned)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(owned),
        // The last is what it says to a statement that makes no sense. Ours do, if the tables are ours.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
            corrupt(path, None, Damage::Unreadable(error))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            StoreError::NotWritable { path: owned, source: io::Error::other(error) }
        }
        _ => StoreError::Sqlite { path: owned, source: error },
    }
}

/// What `SQLite` itself said, about a statement as about its files.
fn code_of(error: &rusqlite::Error) -> Option<&ffi::Error> {
    match error {
        rusqlite::Error::SqliteFailure(code, _) | rusqlite::Error::SqlInputError { error: code, .. } => {
            Some(code)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
