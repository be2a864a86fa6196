//! A copy of a store, whether its coordinator runs or not: what is recorded, and the corpora of the sweeps that are active.
//!
//! Records are copied in one reading of the database, so that they are those of one moment; the coordinator is neither
//! stopped nor waited for. Corpora never change under their names and are there before the sweeps that name them.
//! Checkpoints are a cache and stay behind: runs that had one begin again. The copy is made beside, read back whole and
//! renamed: a folder of its name is a store. Expected failures: there is no store, or a damaged one; the name is taken; the
//! disk is full.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use slalom_common::id::{ContentHash, SweepName};

use super::StoreError;
use super::blobs::{Blob, BlobError, BlobKind, Blobs};
use super::sqlite::{self, DATABASE};
use crate::scheduler::ledger::Ledger;
use crate::scheduler::record::Record;

/// Bytes of a corpus in memory at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What a copy holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// As many as had been committed.
    pub records: u64,
    /// Of active sweeps.
    pub corpora: u64,
}

/// Why there is no copy. Nothing of one is left, and the store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No coordinator has been there.
    #[error("there is no store in {}", .0.display())]
    NoStore(PathBuf),
    /// A backup writes over nothing.
    #[error("{} is there already", .0.display())]
    Taken(PathBuf),
    /// It would have to stand in a folder that is not there: perhaps that of a disk that is not mounted.
    #[error("there is no folder {} for the copy to stand in", .0.display())]
    Nowhere(PathBuf),
    /// The records cannot be read, or their copy not written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There can be no folder for corpora.
    #[error(transparent)]
    Folder(BlobError),
    /// A corpus cannot be read as what it was, or its copy not written.
    #[error("the corpus of `{sweep}` cannot be copied")]
    Corpus {
        /// Who is to be trained on it.
        sweep: SweepName,
        /// In which way.
        source: BlobError,
    },
    /// Runs of an active sweep could not be trained.
    #[error("corpus {corpus} of `{sweep}` is gone from {}", path.display())]
    CorpusGone {
        /// Who is to be trained on it.
        sweep: SweepName,
        /// Its name.
        corpus: ContentHash,
        /// The store.
        path: PathBuf,
    },
}

/// Copies the store in `from` into a new folder `to`.
///
/// # Errors
/// If there is no whole store, or no room; see [`BackupError`].
pub fn copy(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    if !from.join(DATABASE).exists() {
        return Err(BackupError::NoStore(from.to_owned()));
    }
    if fs::symlink_metadata(to).is_ok() && !is_empty_folder(to) {
        return Err(BackupError::Taken(to.to_owned()));
    }
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| StoreError::io(&path, error)
    };
    // Removed with all that is in it, whatever goes wrong from here on.
    let beside = tempfile::Builder::new()
        .prefix(".slalom-backup-")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BackupError::Nowhere(parent.to_owned()),
            _ => StoreError::io(parent, error).into(),
        })?;

    let records = sqlite::copy(from, &beside.path().join(DATABASE))?;
    let corpora = copy_corpora(from, beside.path(), &records)?;
    // The names in it, so that none is lost with the power once the folder has its own.
    for folder in [beside.path().join("blobs"), beside.path().to_owned()] {
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed(&folder))?;
    }
    fs::rename(beside.path(), to).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            BackupError::Taken(to.to_owned())
        }
        _ => StoreError::io(to, error).into(),
    })?;
    // It has another name by now, and is not to be removed.
    let _ = beside.keep();
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed(parent))?;
    Ok(Copied { records: records.len() as u64, corpora })
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn copy_corpora(from: &Path, to: &Path, records: &[Record]) -> Result<u64, BackupError> {
    let mut ledger = Ledger::default();
    for record in records {
        ledger.apply(record);
    }
    let (source, target) = (Blobs::at(from), Blobs::open(to, u64::MAX).map_err(BackupError::Folder)?);
    let mut copied = BTreeSet::new();
    for (_, entry) in ledger.sweeps().filter(|(_, entry)| entry.is_active()) {
        let (sweep, corpus) = (entry.sweep.name(), entry.sweep.family().corpus);
        if !copied.insert(corpus) {
            continue;
        }
        let failed = |source| BackupError::Corpus { sweep: sweep.clone(), source };
        let Some(blob) = source.read(corpus).map_err(failed)? else {
            let (sweep, path) = (sweep.clone(), from.to_owned());
            return Err(BackupError::CorpusGone { sweep, corpus, path });
        };
        copy_blob(blob, corpus, &target).map_err(failed)?;
    }
    Ok(copied.len() as u64)
}

/// Copies a corpus; its hash is checked on the way.
fn copy_blob(blob: Blob, name: ContentHash, target: &Blobs) -> Result<(), BlobError> {
    let Blob { mut file, size } = blob;
    let mut upload = target.begin(BlobKind::Corpus, name, size)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read =
            file.read(&mut chunk).map_err(|error| BlobError::io(Path::new(&name.to_string()), error))?;
        if read == 0 {
            return upload.finish();
        }
        upload.write(&chunk[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use slalom_common::id::LeaseId;
    use tempfile::TempDir;

    use super::super::Store as _;
    use super::super::blobs::BUDGET;
    use super::super::sqlite::SqliteStore;
    use super::super::suite::{Mounted, milestone};
    use super::*;
    use crate::service::tests::{corpus, sweep};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn put(blobs: &Blobs, kind: BlobKind, content: &[u8]) {
        let name = ContentHash::of(content);
        let mut upload = blobs.begin(kind, name, content.len() as u64).expect("room");
        upload.write(content).expect("room");
        upload.finish().expect("what was announced");
    }

    /// A store with a sweep, its corpus and a checkpoint, open as a living coordinator has it.
    fn living() -> (TempDir, SqliteStore) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = SqliteStore::open(dir.path()).expect("a new store");
        let blobs = Blobs::open(dir.path(), BUDGET).expect("a folder");
        put(&blobs, BlobKind::Corpus, &corpus());
        put(&blobs, BlobKind::Checkpoint, b"state");
        store.append(&[Record::SweepSubmitted(Box::new(sweep()))], NOW).expect("room");
        (dir, store)
    }

    fn load(dir: &Path) -> Vec<Record> {
        SqliteStore::open(dir).expect("a store").load().expect("a whole one")
    }

    /// What is left of copies that came to nothing.
    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_copy_of_a_living_store_has_its_id_its_records_by_then_and_its_corpora() {
        let (dir, mut store) = living();
        let place = tempfile::tempdir().expect("a directory");
        let to = place.path().join("copy");
        assert_eq!(copy(dir.path(), &to).expect("room"), Copied { records: 1, corpora: 1 });
        let cancelled = Record::SweepCancelled { sweep: sweep().name().clone() };
        store.append(std::slice::from_ref(&cancelled), NOW).expect("it was not disturbed");

        let mut copied = SqliteStore::open(&to).expect("a store");
        assert_eq!(copied.id(), store.id());
        assert_eq!(copied.load().expect("a whole one"), [Record::SweepSubmitted(Box::new(sweep()))]);
        let blobs = Blobs::open(&to, BUDGET).expect("a folder");
        assert!(blobs.contains(BlobKind::Corpus, sweep().family().corpus).expect("readable"));
        assert_eq!(blobs.checkpoints().expect("readable"), [], "a cache");
        assert_eq!(names(place.path()), ["copy"]);

        // An empty folder is as good as none; and what is cancelled needs no corpus.
        let empty = tempfile::tempdir().expect("a directory");
        assert_eq!(copy(dir.path(), empty.path()).expect("room"), Copied { records: 2, corpora: 0 });
        drop(copied);
        assert_eq!(load(empty.path()).last(), Some(&cancelled));
    }

    #[test]
    fn a_store_that_nobody_has_open_is_copied_too_also_after_a_crash() {
        let (dir, store) = living();
        let place = tempfile::tempdir().expect("a directory");
        drop(store);
        copy(dir.path(), &place.path().join("closed")).expect("room");
        let mut store = SqliteStore::open(dir.path()).expect("a store");
        store.append(&[Record::SweepCancelled { sweep: sweep().name().clone() }], NOW).expect("room");
        // What a crash leaves: its log, and nobody who has it open.
        let left = tempfile::tempdir().expect("a directory");
        for name in ["slalom.db", "slalom.db-wal"] {
            fs::copy(dir.path().join(name), left.path().join(name)).expect("a file of an open store");
        }
        let crashed = place.path().join("crashed");
        assert_eq!(copy(left.path(), &crashed).expect("room").records, 2);
        assert_eq!((load(&place.path().join("closed")).len(), load(&crashed).len()), (1, 2));
    }

    #[test]
    fn a_copy_writes_over_nothing_and_is_made_of_nothing_but_a_store() {
        let (dir, _store) = living();
        let place = tempfile::tempdir().expect("a directory");
        let taken = place.path().join("taken");
        fs::create_dir(&taken).expect("room");
        fs::write(taken.join("letter"), "dear").expect("room");
        for to in [taken.clone(), taken.join("letter"), dir.path().to_owned()] {
            let refused = copy(dir.path(), &to).expect_err("it is there");
            assert!(matches!(refused, BackupError::Taken(_)), "{refused:?}");
        }
        let refused = copy(dir.path(), &place.path().join("unmounted/copy")).expect_err("no folder");
        assert!(
            matches!(&refused, BackupError::Nowhere(folder) if folder.ends_with("unmounted")),
            "{refused:?}"
        );
        let to = place.path().join("copy");
        let refused = copy(&taken, &to).expect_err("no store");
        assert!(matches!(refused, BackupError::NoStore(_)), "{refused:?}");
        fs::write(taken.join("slalom.db"), "a letter, and no database at all").expect("room");
        let refused = copy(&taken, &to).expect_err("no store");
        assert!(matches!(refused, BackupError::Store(StoreError::Corrupt { .. })), "{refused:?}");
        assert_eq!(names(place.path()), ["taken"]);
    }

    /// I14: what is damaged is not handed on as a copy.
    #[test]
    fn a_damaged_record_and_a_damaged_or_missing_corpus_are_refused_by_name() {
        let place = tempfile::tempdir().expect("a directory");
        let to = place.path().join("copy");
        let (dir, mut store) = living();
        let text = dir.path().join("blobs/corpora").join(sweep().family().corpus.to_string());
        fs::write(&text, "snow").expect("room");
        let refused = copy(dir.path(), &to).expect_err("another text");
        let damaged = |source: &BlobError| matches!(source, BlobError::OtherHash { .. });
        assert!(matches!(&refused, BackupError::Corpus { source, .. } if damaged(source)), "{refused:?}");
        fs::remove_file(&text).expect("it was there");
        let refused = copy(dir.path(), &to).expect_err("no text");
        assert!(matches!(refused, BackupError::CorpusGone { .. }), "{refused:?}");

        store
            .append(&[Record::MilestoneReached { lease: LeaseId::new(1), milestone: milestone(1) }], NOW)
            .expect("room");
        drop(store);
        let tool = rusqlite::Connection::open(dir.path().join("slalom.db")).expect("a database");
        tool.execute("UPDATE records SET body = x'00' WHERE id = 2", []).expect("a change");
        drop(tool);
        let refused = copy(dir.path(), &to).expect_err("another record");
        let BackupError::Store(StoreError::Corrupt { path, record, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((path, record), (dir.path().join("slalom.db"), Some(2)), "the store's, not the copy's");
        assert!(names(place.path()).is_empty());
    }

    /// Fault "disk full". Needs the right to mount.
    #[test]
    fn a_copy_without_room_leaves_nothing() {
        let (dir, _store) = living();
        let place = tempfile::tempdir().expect("a directory");
        let Some(_disk) = Mounted::new(place.path(), "size=16k") else { return };
        let refused = copy(dir.path(), &place.path().join("copy")).expect_err("no room");
        assert!(matches!(refused, BackupError::Store(StoreError::DiskFull(_))), "{refused:?}");
        assert!(names(place.path()).is_empty());
    }
}
