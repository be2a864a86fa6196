//! What survives the death of a coordinator: records that were committed, and bytes that were stored whole.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use slalom_common::id::{ContentHash, RunKey, StoreId};
use slalom_coordinator::scheduler::record::Record;
use slalom_coordinator::store::memory::MemoryStore;
use slalom_coordinator::store::{Stamped, Store, StoreError};

/// How the disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Sound,
    /// No commit finds room.
    Full,
    /// The next commit fails in a way after which nothing is known.
    Failing,
}

/// A store in memory with the faults of a disk. A commit is here whole or not at all; one that a crash cuts off was never asked
/// of it, or never answered.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    store: MemoryStore,
    pub(crate) health: Health,
    /// Checkpoints by the hash of what they were when they were stored.
    pub(crate) blobs: BTreeMap<ContentHash, Vec<u8>>,
    /// As it was before the last commit.
    before: MemoryStore,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let store = MemoryStore::new(StoreId::new(0x5EED));
        Self { before: store.clone(), store, health: Health::Sound, blobs: BTreeMap::new() }
    }

    /// Takes the last commit back, as a disk that lies about what it has written.
    pub(crate) fn forget_last_commit(&mut self) {
        self.store = self.before.clone();
    }

    /// A copy of what is durable, as `backup` makes it.
    pub(crate) fn backup(&self) -> MemoryStore {
        self.store.clone()
    }

    pub(crate) fn bring_back(&mut self, backup: MemoryStore) {
        self.store = backup;
    }

    /// Remembers what there was before a commit: only a disk that lies needs it.
    pub(crate) fn remember(&mut self) {
        self.before = self.store.clone();
    }
}

impl Store for Disk {
    fn id(&self) -> StoreId {
        self.store.id()
    }

    fn append(&mut self, batch: &[Record], at: SystemTime) -> Result<(), StoreError> {
        match self.health {
            Health::Sound => self.store.append(batch, at),
            Health::Full => Err(StoreError::DiskFull(PathBuf::from("disk"))),
            Health::Failing => {
                self.health = Health::Sound;
                Err(StoreError::Io {
                    path: PathBuf::from("disk"),
                    source: io::Error::other("a failed sector"),
                })
            }
        }
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        self.store.load()
    }

    fn history(&mut self, run: &RunKey) -> Result<Vec<Stamped>, StoreError> {
        self.store.history(run)
    }
}
