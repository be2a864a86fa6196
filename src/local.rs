//! The embedded coordinator and worker of `slalom run`, and the store that it leaves in its folder.
//!
//! A `slalom run` keeps its store in `.store` of its folder and has it locked while it lives. The port that it serves on
//! stands beside it in `serving`, for the other verbs; the file is written after the port is open and may outlive its writer,
//! so a reader believes it only if that process lives.
//!
//! Expected failures: another process has the store, the disk is full or the store damaged, no port is free.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, test_kill_process};
use slalom_common::id::{RunKey, StoreId};
use slalom_common::run::NUMERICS;
use slalom_coordinator::driver::{Driver, DriverError, Stopped};
use slalom_coordinator::scheduler::Settings;
use slalom_coordinator::scheduler::order::Serve;
use slalom_coordinator::scheduler::record::Record;
use slalom_coordinator::service::{self, ServeError};
use slalom_coordinator::store::blobs::{BUDGET, BlobError, Blobs};
use slalom_coordinator::store::sqlite::SqliteStore;
use slalom_coordinator::store::{Stamped, Store, StoreError};
use slalom_worker::agent::{self, AgentConfig, AgentError, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Between two heartbeats of the embedded worker.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The embedded worker dies with its coordinator: its silence is that of a machine too busy to answer.
const LEASE: Duration = Duration::from_secs(30);
/// Between two progress lines in the log.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Of a store that is opened without workers, where nobody asks for any.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// How long a verb waits for another that has the store open for a moment.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Between two looks whether that is over.
const BUSY_LOOK: Duration = Duration::from_millis(100);

/// Why what is here cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// Somebody else has it.
    #[error("{} is in use by {}", dir.display(), holder(*pid))]
    InUse { dir: PathBuf, pid: Option<u32> },
    #[error("the store in {} cannot be used", dir.display())]
    Store { dir: PathBuf, source: Box<StoreError> },
    #[error("the store in {} cannot keep corpora and checkpoints", dir.display())]
    Blobs { dir: PathBuf, source: BlobError },
    #[error("the embedded coordinator stopped")]
    Stopped(#[from] Stopped),
    #[error("cannot serve on a port of this machine")]
    Listen(#[source] io::Error),
    #[error("cannot write `{}`", path.display())]
    Serving { path: PathBuf, source: io::Error },
    #[error("the embedded coordinator cannot serve")]
    Serve(#[from] ServeError),
    #[error("the embedded worker cannot go on")]
    Worker(#[from] AgentError),
    #[error("the embedded {0} failed by a defect")]
    Panicked(&'static str),
}

impl LocalError {
    fn of(dir: &Path, source: DriverError) -> Self {
        match source {
            DriverError::Store(source) => Self::Store { dir: dir.to_owned(), source: Box::new(source) },
            DriverError::StoreGone => Self::Panicked("store"),
        }
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "wait until that is over, or give another folder with --dir",
            Self::Store { source, .. } => match **source {
                StoreError::Corrupt { .. } | StoreError::Foreign { .. } => {
                    "nothing was changed; bring back a copy of the folder, or begin anew in another with --dir"
                }
                StoreError::Newer { .. } => "use the newer slalom, or another folder with --dir",
                StoreError::DiskFull(_) => "make room; nothing recorded is lost",
                StoreError::NoWriteAheadLog(_) => "give a folder on a local disk with --dir",
                _ => "give another folder with --dir",
            },
            Self::Blobs { .. } | Self::Serving { .. } => {
                "make room, or give another folder with --dir; the same command goes on"
            }
            Self::Stopped(_) | Self::Listen(_) | Self::Serve(_) | Self::Worker(_) | Self::Panicked(_) => {
                "nothing recorded is lost: the same command goes on; the log in .store says more"
            }
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another slalom".to_owned(), |pid| format!("another slalom (process {pid})"))
}

/// Where a living `slalom run` serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Serving {
    /// The process.
    pub(crate) pid: u32,
    /// Its URL, on loopback.
    pub(crate) address: String,
}

impl Serving {
    fn parse(text: &str) -> Option<Self> {
        let (pid, address) = text.trim_end().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, address: address.to_owned() })
    }

    fn lives(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // Not permitted: it lives, under another user.
        pid.is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(rustix::io::Errno::PERM)))
    }
}

/// The `slalom run` that lives in `dir`, if one does and says where it serves.
pub(crate) fn serving(dir: &Path) -> Option<Serving> {
    let text = fs::read_to_string(serving_file(dir)).ok()?;
    Serving::parse(&text).filter(Serving::lives)
}

/// Whether a `slalom run` has left a store in `dir`.
pub(crate) fn has_store(dir: &Path) -> bool {
    store_dir(dir).join("slalom.db").exists()
}

/// The store of a `slalom run` in `dir`.
pub(crate) fn store_dir(dir: &Path) -> PathBuf {
    dir.join(".store")
}

fn serving_file(dir: &Path) -> PathBuf {
    store_dir(dir).join("serving")
}

/// A store opened in this process, with a driver that answers.
pub(crate) struct OpenStore {
    dir: PathBuf,
    driver: Driver,
    task: JoinHandle<Result<(), DriverError>>,
}

impl OpenStore {
    /// The store in `dir`, without workers, for verbs that read: nothing is written, so a full disk or a folder that may not be
    /// written to later is no obstacle. Who held leases in its former life is gone: it died with its `slalom run`.
    ///
    /// # Errors
    /// If another process keeps it open, or it cannot be read.
    pub(crate) async fn for_reading(dir: &Path) -> Result<Self, LocalError> {
        let store = Box::new(Unwritten(Self::store(dir).await?));
        Self::with(dir, store, Serve::All, CHECKPOINT_EVERY).await
    }

    /// As [`OpenStore::for_reading`], for verbs that change what is recorded.
    ///
    /// # Errors
    /// If another process keeps it open, or it cannot be read.
    pub(crate) async fn for_changing(dir: &Path) -> Result<Self, LocalError> {
        Self::open(dir, Serve::All, CHECKPOINT_EVERY).await
    }

    /// The store in `dir`, made if need be.
    ///
    /// # Errors
    /// If another process keeps it open, or it cannot be had.
    pub(crate) async fn open(
        dir: &Path,
        serve: Serve,
        checkpoint_every: Duration,
    ) -> Result<Self, LocalError> {
        let store = Box::new(Self::store(dir).await?);
        Self::with(dir, store, serve, checkpoint_every).await
    }

    async fn with(
        dir: &Path,
        store: Box<dyn Store>,
        serve: Serve,
        checkpoint_every: Duration,
    ) -> Result<Self, LocalError> {
        let blobs = Blobs::open(&store_dir(dir), BUDGET)
            .map_err(|source| LocalError::Blobs { dir: dir.to_owned(), source })?;
        let settings = Settings {
            heartbeat: HEARTBEAT,
            lease: LEASE,
            checkpoint_every,
            progress_every: PROGRESS_EVERY,
            numerics: NUMERICS,
            serve,
        };
        let (driver, task) =
            Driver::start(settings, store, Arc::new(blobs)).map_err(|source| LocalError::of(dir, source))?;
        driver.former_workers_gone().await?;
        Ok(Self { dir: dir.to_owned(), driver, task })
    }

    /// Another verb has a store open for a moment only; a `slalom run`, which says where it serves, for long.
    async fn store(dir: &Path) -> Result<SqliteStore, LocalError> {
        let since = Instant::now();
        loop {
            match SqliteStore::open(&store_dir(dir)) {
                Ok(store) => return Ok(store),
                Err(StoreError::InUse { .. }) if since.elapsed() < BUSY_FOR && serving(dir).is_none() => {
                    tokio::time::sleep(BUSY_LOOK).await;
                }
                Err(StoreError::InUse { pid, .. }) => {
                    return Err(LocalError::InUse { dir: dir.to_owned(), pid });
                }
                Err(source) => {
                    return Err(LocalError::Store { dir: dir.to_owned(), source: Box::new(source) });
                }
            }
        }
    }

    /// A channel to whoever answers.
    pub(crate) fn channel(&self) -> Channel {
        service::in_process(self.driver.clone())
    }

    /// Why a commit is still being tried, while it is.
    pub(crate) fn stalled(&self) -> watch::Receiver<Option<String>> {
        self.driver.stalled()
    }

    /// Commits what came before, and closes the store.
    ///
    /// # Errors
    /// If the store failed meanwhile.
    pub(crate) async fn close(self) -> Result<(), LocalError> {
        self.driver.stop().await;
        ended(&self.dir, self.task.await)
    }
}

/// A store that is read, and forgets what is appended with the process that appended it.
struct Unwritten(SqliteStore);

impl Store for Unwritten {
    fn append(&mut self, _: &[Record], _: SystemTime) -> Result<(), StoreError> {
        Ok(())
    }

    fn id(&self) -> StoreId {
        self.0.id()
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        self.0.load()
    }

    fn history(&mut self, run: &RunKey) -> Result<Vec<Stamped>, StoreError> {
        self.0.history(run)
    }
}

/// A store that runs: served on a loopback port, with one embedded worker.
pub(crate) struct Running {
    open: OpenStore,
    shutdown: Shutdown,
    worker: JoinHandle<Result<(), AgentError>>,
    server: JoinHandle<Result<(), ServeError>>,
    stop_serving: CancellationToken,
}

impl Running {
    /// Serves on a free port and begins to work.
    ///
    /// # Errors
    /// If no port is free, or its number cannot be written.
    pub(crate) async fn start(open: OpenStore, mut worker: AgentConfig) -> Result<Self, LocalError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(LocalError::Listen)?;
        let address = format!("http://{}", listener.local_addr().map_err(LocalError::Listen)?);
        let stop_serving = CancellationToken::new();
        let server = tokio::spawn(service::serve(
            listener,
            open.driver.clone(),
            stop_serving.clone().cancelled_owned(),
        ));
        write_serving(&open.dir, &address)?;
        let shutdown = Shutdown::default();
        worker.coordinators = vec![address];
        let worker = tokio::spawn(agent::run(worker, shutdown.clone()));
        Ok(Self { open, shutdown, worker, server, stop_serving })
    }

    /// Until a part of it ends that should not.
    ///
    /// # Errors
    /// Always but when the worker left by itself, which it does only when told.
    pub(crate) async fn failed(&mut self) -> Result<(), LocalError> {
        tokio::select! {
            worker = &mut self.worker => worker.map_err(|_| LocalError::Panicked("worker"))?.map_err(LocalError::from),
            server = &mut self.server => server.map_err(|_| LocalError::Panicked("server"))?.map_err(LocalError::from),
            driver = &mut self.open.task => ended(&self.open.dir, driver),
        }
    }

    /// Lets the worker store what it trains and hand it back, and closes the store.
    ///
    /// # Errors
    /// If the store failed meanwhile, or the worker had to.
    pub(crate) async fn drain(mut self) -> Result<(), LocalError> {
        self.shutdown.drain.cancel();
        let worker = (&mut self.worker).await;
        self.stop_serving.cancel();
        let server = (&mut self.server).await;
        // That nobody serves any more is known by the process that is gone, too.
        let _ = fs::remove_file(serving_file(&self.open.dir));
        self.open.close().await?;
        worker.map_err(|_| LocalError::Panicked("worker"))??;
        server.map_err(|_| LocalError::Panicked("server"))??;
        Ok(())
    }
}

fn ended(
    dir: &Path,
    task: Result<Result<(), DriverError>, tokio::task::JoinError>,
) -> Result<(), LocalError> {
    let ended = task.map_err(|_| LocalError::Panicked("coordinator"))?;
    ended.map_err(|source| LocalError::of(dir, source))
}

/// Written beside and renamed: a reader sees all of it.
fn write_serving(dir: &Path, address: &str) -> Result<(), LocalError> {
    let path = serving_file(dir);
    let beside = path.with_extension("partial");
    let written = fs::write(&beside, format!("{} {address}\n", std::process::id()));
    written.and_then(|()| fs::rename(&beside, &path)).map_err(|source| LocalError::Serving { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(store_dir(folder.path())).expect("room");
        assert_eq!(serving(folder.path()), None);
        write_serving(folder.path(), "http://127.0.0.1:1").expect("room");
        let here = serving(folder.path()).expect("this process lives");
        assert_eq!(here, Serving { pid: std::process::id(), address: "http://127.0.0.1:1".to_owned() });
        // Beyond the largest process number there can be.
        fs::write(serving_file(folder.path()), "2147483646 http://127.0.0.1:1\n").expect("room");
        assert_eq!(serving(folder.path()), None);
        fs::write(serving_file(folder.path()), "torn").expect("room");
        assert_eq!(serving(folder.path()), None);
    }

    #[tokio::test]
    async fn a_store_that_is_open_is_refused_to_the_next_with_its_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = OpenStore::for_reading(folder.path()).await.expect("a new store");
        write_serving(folder.path(), "http://127.0.0.1:1").expect("room");
        let refused = OpenStore::for_reading(folder.path()).await.err().expect("it is open");
        assert!(
            matches!(refused, LocalError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{refused}"
        );
        open.close().await.expect("a good end");
        OpenStore::for_reading(folder.path()).await.expect("closed").close().await.expect("a good end");
    }
}
