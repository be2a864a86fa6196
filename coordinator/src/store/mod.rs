//! What happened, kept for good: records in the order in which they were committed, and bytes by their hash.
//!
//! A store appends and loads; it decides nothing, and it never mends: what it cannot read as it was written it refuses
//! by path (I14). Expected failures: the disk is full, another process has the store, the files are not what they were.

pub mod backup;
pub mod blobs;
pub mod codec;
pub mod memory;
pub mod sqlite;
#[cfg(test)]
mod suite;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use slalom_common::id::{LeaseId, RunKey, StoreId, SweepName};

use crate::scheduler::event::Steering;
use crate::scheduler::record::{End, Record};
pub use codec::BodyError;

/// Where records stand. One process at a time has it.
pub trait Store: Send {
    /// Drawn at random when the store was made, and copied with it.
    fn id(&self) -> StoreId;

    /// Commits a batch: when this returns, all of it survives power loss, and if it fails, none of it is there (I2).
    /// `at` is the time of day, for people only.
    ///
    /// # Errors
    /// If [`StoreError::may_pass`], the same batch can be appended again; else this store takes no more.
    fn append(&mut self, batch: &[Record], at: SystemTime) -> Result<(), StoreError>;

    /// All records, in the order in which they were appended.
    ///
    /// # Errors
    /// If any is not as it was written.
    fn load(&mut self) -> Result<Vec<Record>, StoreError>;

    /// What concerns one run, in order: its leases and all that came under them, and fresh attempts.
    ///
    /// # Errors
    /// If any is not as it was written.
    fn history(&mut self, run: &RunKey) -> Result<Vec<Stamped>, StoreError>;
}

/// A record and when it was committed, to the millisecond.
#[derive(Clone, PartialEq, Debug)]
pub struct Stamped {
    /// By the clock of the coordinator's host, which may have jumped.
    pub at: SystemTime,
    /// What happened.
    pub record: Record,
}

/// Why a store cannot do what was asked. Nothing was changed by it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The path leads to something else.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// This process may not write there, or nobody may.
    #[error("cannot write in {}", path.display())]
    NotWritable {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No space is left.
    #[error("no space is left for {}", .0.display())]
    DiskFull(PathBuf),
    /// Another process has locked a table: somebody looks at it with a tool.
    #[error("{} is locked by another program", .0.display())]
    Busy(PathBuf),
    /// A living coordinator has it.
    #[error("{} is in use by {}", path.display(), Holder(*pid))]
    InUse {
        /// The store's directory.
        path: PathBuf,
        /// The process, if it said so.
        pid: Option<u32>,
    },
    /// It is not as it was written.
    #[error("{} is damaged{}", path.display(), AtRecord(*record))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The first record that is wrong, if it is one.
        record: Option<u64>,
        /// How.
        #[source]
        damage: Damage,
    },
    /// A database of another program.
    #[error("{} is a database of another program (application_id {application_id})", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// As `SQLite` gives it.
        application_id: i32,
    },
    /// A later build has changed it.
    #[error("{} is of version {found}, newer than this build's {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// The latest that this build knows.
        known: i32,
    },
    /// A file system on which a write-ahead log cannot work.
    #[error("{} is on a file system without shared memory for a write-ahead log", .0.display())]
    NoWriteAheadLog(PathBuf),
    /// A commit failed before in a way after which nothing here can be trusted: restart from what is on the disk.
    #[error("{} failed before", .0.display())]
    Broken(PathBuf),
    /// The system failed otherwise.
    #[error("cannot use {}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `SQLite` failed otherwise.
    #[error("cannot use {}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
}

/// In what way a store is not as it was written.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The file has no content at all.
    #[error("the file is empty")]
    Empty,
    /// The log of the latest commits is there, and what they were made to is not.
    #[error("the database is gone from beside its write-ahead log")]
    OnlyLog,
    /// The file's own structure is wrong.
    #[error("the file's structure is wrong: {0}")]
    Structure(String),
    /// `SQLite` could not read it.
    #[error("the database cannot be read")]
    Unreadable(#[source] rusqlite::Error),
    /// It says to be of a version whose tables it does not have.
    #[error("it says to be of version {0}, and its tables are not of that")]
    Version(i32),
    /// What names the store is gone, or no name.
    #[error("its id is missing")]
    NoId,
    /// What names the store is not what it was.
    #[error("its id is not what was written")]
    OtherId,
    /// Records between two others are gone.
    #[error("the record is missing")]
    Missing,
    /// Other bytes than were written.
    #[error("its checksum does not match")]
    Checksum,
    /// The bytes are those written, and no record of this build.
    #[error("its content is no record")]
    Body(#[source] Box<BodyError>),
    /// A column for people that says something else than the record.
    #[error("its columns do not match its content")]
    Columns,
}

impl StoreError {
    /// Whether the same call may succeed later, without a restart.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::DiskFull(_) | Self::Busy(_) => true,
            Self::NotADirectory(_)
            | Self::NotWritable { .. }
            | Self::InUse { .. }
            | Self::Corrupt { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::NoWriteAheadLog(_)
            | Self::Broken(_)
            | Self::Io { .. }
            | Self::Sqlite { .. } => false,
        }
    }

    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotADirectory => Self::NotADirectory(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { path, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path),
            _ => Self::Io { path, source },
        }
    }
}

struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

struct AtRecord(Option<u64>);

impl std::fmt::Display for AtRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(record) => write!(f, " at record {record}"),
            None => Ok(()),
        }
    }
}

/// What a record is about, so that it is found without being read.
impl Record {
    /// What a person who opens the store reads.
    fn kind(&self) -> &'static str {
        match self {
            Self::SweepSubmitted(_) => "sweep submitted",
            Self::SweepExtended(_) => "sweep extended",
            Self::SweepResubmitted { .. } => "sweep resubmitted",
            Self::SweepCancelled { .. } => "sweep cancelled",
            Self::SweepSteered { steering, .. } => match steering {
                Steering::Pause => "sweep paused",
                Steering::Stop => "sweep stopped",
                Steering::Resume => "sweep resumed",
            },
            Self::RunsLeased { .. } => "runs leased",
            Self::MilestoneReached { .. } => "milestone reached",
            Self::LeaseEnded { end, .. } => match end {
                End::Reported(_) => "lease ended",
                End::Expired { .. } => "lease expired",
                End::Absent => "lease absent",
                End::Cancelled => "lease cancelled",
            },
            Self::DivergenceReached { .. } => "divergence reached",
            Self::CheckpointKept { .. } => "checkpoint kept",
            Self::ConflictFound { .. } => "conflict found",
            Self::RunsRetried { .. } => "runs retried",
            Self::WorkerDrained { .. } => "worker drained",
            Self::WorkerResumed { .. } => "worker resumed",
        }
    }

    /// The sweep that it names.
    fn sweep(&self) -> Option<&SweepName> {
        match self {
            Self::SweepSubmitted(sweep) | Self::SweepExtended(sweep) => Some(sweep.name()),
            Self::SweepResubmitted { sweep, .. }
            | Self::SweepCancelled { sweep }
            | Self::SweepSteered { sweep, .. } => Some(sweep),
            Self::RunsLeased { .. }
            | Self::MilestoneReached { .. }
            | Self::LeaseEnded { .. }
            | Self::DivergenceReached { .. }
            | Self::CheckpointKept { .. }
            | Self::ConflictFound { .. }
            | Self::RunsRetried { .. }
            | Self::WorkerDrained { .. }
            | Self::WorkerResumed { .. } => None,
        }
    }

    /// The lease that it happened under; grants happen under none.
    fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::MilestoneReached { lease, .. }
            | Self::LeaseEnded { lease, .. }
            | Self::DivergenceReached { lease, .. }
            | Self::CheckpointKept { lease, .. }
            | Self::ConflictFound { refused_lease: lease, .. } => Some(*lease),
            Self::SweepSubmitted(_)
            | Self::SweepExtended(_)
            | Self::SweepResubmitted { .. }
            | Self::SweepCancelled { .. }
            | Self::SweepSteered { .. }
            | Self::RunsLeased { .. }
            | Self::RunsRetried { .. }
            | Self::WorkerDrained { .. }
            | Self::WorkerResumed { .. } => None,
        }
    }

    /// The runs that it names itself, with the lease that it grants on each.
    fn runs(&self) -> Vec<(RunKey, Option<LeaseId>)> {
        match self {
            Self::RunsLeased { first, grants, .. } => (first.number()..)
                .zip(grants)
                .map(|(number, grant)| (grant.run.key(), Some(LeaseId::new(number))))
                .collect(),
            Self::RunsRetried { runs } => runs.iter().map(|&run| (run, None)).collect(),
            Self::SweepSubmitted(_)
            | Self::SweepExtended(_)
            | Self::SweepResubmitted { .. }
            | Self::SweepCancelled { .. }
            | Self::SweepSteered { .. }
            | Self::MilestoneReached { .. }
            | Self::LeaseEnded { .. }
            | Self::DivergenceReached { .. }
            | Self::CheckpointKept { .. }
            | Self::ConflictFound { .. }
            | Self::WorkerDrained { .. }
            | Self::WorkerResumed { .. } => Vec::new(),
        }
    }
}

/// Whole milliseconds since 1970; a clock set before then counts as 1970.
fn at_ms(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The time of `at_ms`.
fn time_of(at_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms)
}
