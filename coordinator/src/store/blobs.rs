//! Bytes by their SHA-256, beside the records: corpora, and checkpoints, which are a cache.
//!
//! A file that has a blob's name is whole: it is written under another one, hashed, synced and renamed. Whether its
//! bytes still are what they were is for whoever reads them to check; they know the hash. Nothing here knows what a blob
//! means, or how long it is wanted; but checkpoints, which cost only time, stay within a budget: the oldest make room. Expected
//! failures: the disk is full, a peer sends other bytes than it said.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use slalom_common::id::ContentHash;
use tempfile::NamedTempFile;

/// What names of files not yet whole begin with; no hash does.
const PARTIAL: &str = ".part-";

/// What a blob is, which is where it stands and how large it may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BlobKind {
    /// A text of 27 symbols.
    Corpus,
    /// A run's state.
    Checkpoint,
}

impl BlobKind {
    const ALL: [Self; 2] = [Self::Corpus, Self::Checkpoint];

    /// The largest of its kind, in bytes.
    pub const fn size_max(self) -> u64 {
        match self {
            Self::Corpus => 1 << 30,
            Self::Checkpoint => 16 << 30,
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Corpus => "corpora",
            Self::Checkpoint => "checkpoints",
        }
    }
}

/// Why a blob could not be stored or read. Nothing is half-written by it.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// More than the kind allows.
    #[error("{size} bytes are more than a blob of this kind may have ({max})")]
    TooLarge {
        /// Bytes announced.
        size: u64,
        /// The most allowed.
        max: u64,
    },
    /// More than all checkpoints together may have.
    #[error("a checkpoint of {size} bytes is more than the budget of all has ({budget})")]
    OverBudget {
        /// Bytes announced.
        size: u64,
        /// Bytes of all checkpoints, at most.
        budget: u64,
    },
    /// Another number of bytes than was announced.
    #[error("{found} bytes came in place of {announced}")]
    OtherSize {
        /// Bytes announced.
        announced: u64,
        /// Bytes that came, as far as they were counted.
        found: u64,
    },
    /// Other bytes than were announced.
    #[error("the bytes hash to {found} in place of {announced}")]
    OtherHash {
        /// The blob's name.
        announced: ContentHash,
        /// What came.
        found: ContentHash,
    },
    /// No space is left.
    #[error("no space is left for {}", .0.display())]
    DiskFull(PathBuf),
    /// The system failed otherwise.
    #[error("cannot use {}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BlobError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path),
            _ => Self::Io { path, source },
        }
    }
}

/// The folder `blobs` of a store's directory. Whoever has the store's lock has it, too.
#[derive(Debug)]
pub struct Blobs {
    root: PathBuf,
    checkpoints: Arc<Mutex<Shelf>>,
}

/// By default, bytes of all checkpoints together.
pub const BUDGET: u64 = 10 << 30;

/// The checkpoints that are here, by age.
#[derive(Debug)]
struct Shelf {
    budget: u64,
    /// Of all of them.
    bytes: u64,
    /// In the order in which they came.
    oldest_first: BTreeMap<u64, (ContentHash, u64)>,
    places: BTreeMap<ContentHash, u64>,
    next: u64,
}

impl Shelf {
    fn add(&mut self, name: ContentHash, size: u64) {
        self.forget(name);
        self.places.insert(name, self.next);
        self.oldest_first.insert(self.next, (name, size));
        (self.next, self.bytes) = (self.next + 1, self.bytes + size);
    }

    fn forget(&mut self, name: ContentHash) {
        let entry = self.places.remove(&name).and_then(|place| self.oldest_first.remove(&place));
        self.bytes -= entry.map_or(0, |(_, size)| size);
    }

    /// The oldest, while all together are over the budget.
    fn to_drop(&self) -> Option<ContentHash> {
        let (_, &(oldest, _)) = self.oldest_first.first_key_value()?;
        (self.bytes > self.budget).then_some(oldest)
    }
}

/// A blob to be read.
#[derive(Debug)]
pub struct Blob {
    /// At its beginning. Stays readable if the blob is removed meanwhile.
    pub file: File,
    /// In bytes.
    pub size: u64,
}

impl Blobs {
    /// Opens the folder in `store`, making it if need be, and removes what a crash left half-written and what is beyond `budget`,
    /// the bytes of all checkpoints together.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(store: &Path, budget: u64) -> Result<Self, BlobError> {
        let blobs = Self::at(store);
        for kind in BlobKind::ALL {
            let folder = blobs.folder(kind);
            fs::create_dir_all(&folder).map_err(|error| BlobError::io(&folder, error))?;
            for name in names(&folder)? {
                if name.starts_with(PARTIAL) {
                    let left = folder.join(name);
                    fs::remove_file(&left).map_err(|error| BlobError::io(&left, error))?;
                }
            }
        }
        let mut found: Vec<(SystemTime, ContentHash, u64)> = Vec::new();
        for name in blobs.checkpoints()? {
            let path = blobs.path(BlobKind::Checkpoint, name);
            let metadata = fs::metadata(&path).map_err(|error| BlobError::io(&path, error))?;
            found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), name, metadata.len()));
        }
        found.sort_unstable();
        let mut shelf = blobs.shelf();
        shelf.budget = budget;
        for (_, name, size) in found {
            shelf.add(name, size);
        }
        make_room(&mut shelf, &blobs.folder(BlobKind::Checkpoint));
        drop(shelf);
        Ok(blobs)
    }

    /// The folder in `store`, to be read: another process may have it, and nothing is made or removed.
    pub(super) fn at(store: &Path) -> Self {
        let shelf = Shelf {
            budget: u64::MAX,
            bytes: 0,
            oldest_first: BTreeMap::new(),
            places: BTreeMap::new(),
            next: 0,
        };
        Self { root: store.join("blobs"), checkpoints: Arc::new(Mutex::new(shelf)) }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Each change of it is whole before anything could panic.
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to store the blob `name` of `size` bytes; storing what is there already is no error.
    ///
    /// # Errors
    /// If it is larger than its kind allows, or no file can be made.
    pub fn begin(&self, kind: BlobKind, name: ContentHash, size: u64) -> Result<Upload, BlobError> {
        let max = kind.size_max();
        if size > max {
            return Err(BlobError::TooLarge { size, max });
        }
        let shelf = (kind == BlobKind::Checkpoint).then(|| Arc::clone(&self.checkpoints));
        let budget = self.shelf().budget;
        if shelf.is_some() && size > budget {
            return Err(BlobError::OverBudget { size, budget });
        }
        let folder = self.folder(kind);
        let partial = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&folder);
        let partial = partial.map_err(|error| BlobError::io(&folder, error))?;
        Ok(Upload { partial, folder, name, size, written: 0, hash: Sha256::new(), shelf })
    }

    /// The blob of this name, of whichever kind; none if it is not here.
    ///
    /// # Errors
    /// If it is here and cannot be opened.
    pub fn read(&self, name: ContentHash) -> Result<Option<Blob>, BlobError> {
        for kind in BlobKind::ALL {
            let path = self.path(kind, name);
            match File::open(&path).and_then(|file| Ok(Blob { size: file.metadata()?.len(), file })) {
                Ok(blob) => return Ok(Some(blob)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(BlobError::io(&path, error)),
            }
        }
        Ok(None)
    }

    /// Whether a blob is here.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn contains(&self, kind: BlobKind, name: ContentHash) -> Result<bool, BlobError> {
        let path = self.path(kind, name);
        path.try_exists().map_err(|error| BlobError::io(&path, error))
    }

    /// The checkpoints that are here, in order of name.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<ContentHash>, BlobError> {
        let mut checkpoints: Vec<ContentHash> =
            names(&self.folder(BlobKind::Checkpoint))?.iter().filter_map(|name| name.parse().ok()).collect();
        checkpoints.sort_unstable();
        Ok(checkpoints)
    }

    /// Removes a checkpoint; that it is not here is no error. Not synced: one that comes back after a crash costs space.
    ///
    /// # Errors
    /// If it is here and stays.
    pub fn remove_checkpoint(&self, name: ContentHash) -> Result<(), BlobError> {
        let removed = remove(&self.path(BlobKind::Checkpoint, name));
        if removed.is_ok() {
            self.shelf().forget(name);
        }
        removed
    }

    fn folder(&self, kind: BlobKind) -> PathBuf {
        self.root.join(kind.folder())
    }

    fn path(&self, kind: BlobKind, name: ContentHash) -> PathBuf {
        self.folder(kind).join(name.to_string())
    }
}

/// A blob on its way in; dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    partial: NamedTempFile,
    folder: PathBuf,
    name: ContentHash,
    size: u64,
    written: u64,
    hash: Sha256,
    /// Where it stands when it is whole, if it is a checkpoint.
    shelf: Option<Arc<Mutex<Shelf>>>,
}

impl Upload {
    /// Appends the next bytes.
    ///
    /// # Errors
    /// If more come than were announced, or they cannot be written.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        self.written += chunk.len() as u64;
        if self.written > self.size {
            return Err(BlobError::OtherSize { announced: self.size, found: self.written });
        }
        self.hash.update(chunk);
        self.partial.write_all(chunk).map_err(|error| BlobError::io(self.partial.path(), error))
    }

    /// Makes the blob whole and durable under its name.
    ///
    /// # Errors
    /// If it is not what was announced, or cannot be kept.
    pub fn finish(self) -> Result<(), BlobError> {
        if self.written != self.size {
            return Err(BlobError::OtherSize { announced: self.size, found: self.written });
        }
        let found = ContentHash::new(self.hash.finalize().into());
        if found != self.name {
            return Err(BlobError::OtherHash { announced: self.name, found });
        }
        // In this order: a name that survives a power cut names bytes that did, and a blob said to be here has its name.
        self.partial.as_file().sync_all().map_err(|error| BlobError::io(self.partial.path(), error))?;
        let path = self.folder.join(self.name.to_string());
        self.partial.persist(&path).map_err(|error| BlobError::io(&path, error.error))?;
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(|error| BlobError::io(&self.folder, error))?;
        if let Some(shelf) = self.shelf {
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.add(self.name, self.size);
            make_room(&mut shelf, &self.folder);
        }
        Ok(())
    }
}

/// Removes the oldest checkpoints in `folder` until the rest are within the budget.
fn make_room(shelf: &mut Shelf, folder: &Path) {
    while let Some(oldest) = shelf.to_drop() {
        // One that stays is tried again when the next comes: it costs space, not results.
        if remove(&folder.join(oldest.to_string())).is_err() {
            return;
        }
        shelf.forget(oldest);
    }
}

fn remove(path: &Path) -> Result<(), BlobError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BlobError::io(path, error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Names of a folder's files; those that are not text are not ours.
fn names(folder: &Path) -> Result<Vec<String>, BlobError> {
    let failed = |error| BlobError::io(folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use tempfile::TempDir;

    use super::super::suite::Mounted;
    use super::*;

    #[test]
    fn the_oldest_checkpoints_make_room_for_new_ones_also_after_a_restart_and_corpora_stay() {
        let (store, blobs) = blobs();
        drop(blobs);
        let blobs = Blobs::open(store.path(), 250).expect("a folder");
        let corpus = put(&blobs, BlobKind::Corpus, &[b'a'; 1000]);
        let [first, second, third] = [1, 2, 3].map(|n| put(&blobs, BlobKind::Checkpoint, &[n; 100]));
        assert_eq!(blobs.checkpoints().expect("a folder").len(), 2);
        assert!(content(&blobs, first).is_none() && content(&blobs, corpus).is_some());
        // What comes again is the newest.
        put(&blobs, BlobKind::Checkpoint, &[2; 100]);
        put(&blobs, BlobKind::Checkpoint, &[4; 100]);
        assert!(content(&blobs, third).is_none() && content(&blobs, second).is_some());
        blobs.remove_checkpoint(second).expect("it was there");
        put(&blobs, BlobKind::Checkpoint, &[5; 100]);
        assert_eq!(blobs.checkpoints().expect("a folder").len(), 2, "what was removed counts no more");
        let large = blobs.begin(BlobKind::Checkpoint, ContentHash::of(b"large"), 251);
        assert!(matches!(large, Err(BlobError::OverBudget { size: 251, budget: 250 })), "{large:?}");

        drop(blobs);
        let blobs = Blobs::open(store.path(), 100).expect("a folder");
        assert_eq!(blobs.checkpoints().expect("a folder").len(), 1, "a smaller budget holds from the start");
    }

    fn blobs() -> (TempDir, Blobs) {
        let store = tempfile::tempdir().expect("a directory");
        let blobs = Blobs::open(store.path(), BUDGET).expect("a folder");
        (store, blobs)
    }

    fn put(blobs: &Blobs, kind: BlobKind, content: &[u8]) -> ContentHash {
        let name = ContentHash::of(content);
        let mut upload = blobs.begin(kind, name, content.len() as u64).expect("an upload");
        for chunk in content.chunks(if content.len() < 100 { 3 } else { 1 << 16 }) {
            upload.write(chunk).expect("announced");
        }
        upload.finish().expect("whole");
        name
    }

    fn content(blobs: &Blobs, name: ContentHash) -> Option<Vec<u8>> {
        let mut blob = blobs.read(name).expect("readable")?;
        let mut content = Vec::new();
        blob.file.read_to_end(&mut content).expect("bytes");
        assert_eq!(blob.size, content.len() as u64);
        Some(content)
    }

    fn files(store: &TempDir, kind: BlobKind) -> Vec<String> {
        names(&store.path().join("blobs").join(kind.folder())).expect("a folder")
    }

    #[test]
    fn what_is_stored_is_read_by_its_hash_until_it_is_removed() {
        let (store, blobs) = blobs();
        let corpus = put(&blobs, BlobKind::Corpus, b"the snow and the slope");
        let state = put(&blobs, BlobKind::Checkpoint, b"");
        assert_eq!(put(&blobs, BlobKind::Corpus, b"the snow and the slope"), corpus, "twice is no error");
        assert_eq!(content(&blobs, corpus).as_deref(), Some(&b"the snow and the slope"[..]));
        assert_eq!(content(&blobs, state).as_deref(), Some(&b""[..]));
        assert_eq!(content(&blobs, ContentHash::of(b"ice")), None);
        assert!(blobs.contains(BlobKind::Corpus, corpus).expect("readable"));
        assert!(!blobs.contains(BlobKind::Checkpoint, corpus).expect("readable"));
        assert_eq!(blobs.checkpoints().expect("readable"), [state]);

        blobs.remove_checkpoint(state).expect("it was there");
        blobs.remove_checkpoint(state).expect("gone is no error");
        blobs.remove_checkpoint(corpus).expect("not a checkpoint");
        assert_eq!(content(&blobs, state), None);
        assert_eq!(files(&store, BlobKind::Corpus), [corpus.to_string()]);
    }

    #[test]
    fn bytes_other_than_announced_are_refused_and_leave_nothing() {
        let (store, blobs) = blobs();
        let name = ContentHash::of(b"snow");
        let begin = |size| blobs.begin(BlobKind::Checkpoint, name, size).expect("an upload");

        let mut other = begin(4);
        other.write(b"rain").expect("four bytes");
        assert!(matches!(other.finish(), Err(BlobError::OtherHash { .. })));
        let mut short = begin(4);
        short.write(b"sno").expect("three bytes");
        assert!(matches!(short.finish(), Err(BlobError::OtherSize { announced: 4, found: 3 })));
        let mut long = begin(4);
        assert!(matches!(long.write(b"snowy"), Err(BlobError::OtherSize { announced: 4, found: 5 })));
        drop(long);
        drop(begin(4));
        assert!(files(&store, BlobKind::Checkpoint).is_empty());

        let size = BlobKind::Corpus.size_max() + 1;
        let refused = blobs.begin(BlobKind::Corpus, name, size);
        assert!(matches!(refused, Err(BlobError::TooLarge { .. })));
        assert!(blobs.begin(BlobKind::Checkpoint, name, size).is_ok(), "a checkpoint may be as large");
    }

    #[test]
    fn what_a_crash_left_half_written_is_swept_at_the_next_start() {
        let (store, blobs) = blobs();
        let kept = put(&blobs, BlobKind::Checkpoint, b"state");
        let mut upload = blobs.begin(BlobKind::Checkpoint, ContentHash::of(b"snow"), 4).expect("an upload");
        upload.write(b"sn").expect("two bytes");
        // A process that dies drops nothing.
        std::mem::forget(upload);
        assert_eq!(files(&store, BlobKind::Checkpoint).len(), 2);
        let blobs = Blobs::open(store.path(), BUDGET).expect("a folder");
        assert_eq!(files(&store, BlobKind::Checkpoint), [kept.to_string()]);
        assert_eq!(content(&blobs, kept).as_deref(), Some(&b"state"[..]));
    }
    /// Fault "disk full". Needs the right to mount.
    #[test]
    fn a_full_disk_refuses_a_blob_and_takes_it_again_when_there_is_room() {
        let store = tempfile::tempdir().expect("a directory");
        let Some(disk) = Mounted::new(store.path(), "size=1m") else { return };
        let blobs = Blobs::open(store.path(), BUDGET).expect("a folder");
        let kept = put(&blobs, BlobKind::Checkpoint, b"state");
        let large = vec![b'a'; 2 << 20];
        let mut upload = blobs
            .begin(BlobKind::Corpus, ContentHash::of(&large), large.len() as u64)
            .expect("room for a name");
        let refused = large.chunks(1 << 16).try_for_each(|chunk| upload.write(chunk));
        assert!(matches!(refused, Err(BlobError::DiskFull(_))), "{refused:?}");
        drop(upload);
        assert!(files(&store, BlobKind::Corpus).is_empty());
        disk.remount("size=4m");
        let name = put(&blobs, BlobKind::Corpus, &large);
        assert_eq!(content(&blobs, name), Some(large));
        assert_eq!(content(&blobs, kept).as_deref(), Some(&b"state"[..]));
    }
}
