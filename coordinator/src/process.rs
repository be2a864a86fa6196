//! A coordinator as a process: its log, its signals and its exit code. `slalom-coordinator` and `slalom coordinator` are
//! this; an embedded coordinator is [`serve`].

use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use slalom_common::chain::Chain;
use slalom_common::log::{self, fleet};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::config::{BackupArgs, Config, ConfigError, CoordinatorArgs, CoordinatorVerb};
use crate::driver::{Driver, DriverError};
use crate::scheduler::Settings;
use crate::service::{self, ServeError};
use crate::store::backup::{self, BackupError, Copied};
use crate::store::blobs::{BlobError, Blobs};
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};

/// The exit code of usage errors.
const USAGE: u8 = 2;

/// The exit code of a process that was interrupted.
const INTERRUPTED: u8 = 130;

/// How long the last commit may take once the coordinator is told to end.
const LAST_COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// Why a coordinator could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// Somebody else has the port, or the address is not of this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be opened, or failed for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of corpora and checkpoints cannot be opened.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The driver ended by itself: nothing that was acknowledged is lost.
    #[error("the store's thread is gone")]
    StoreGone,
    /// The driver panicked: nothing that was acknowledged is lost.
    #[error("the driver panicked")]
    Panicked(#[source] JoinError),
    /// The driver ended although nobody told it to.
    #[error("the driver ended")]
    Ended,
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// What had come in could not be committed in time. It was not acknowledged, so it will be sent again.
    #[error("what came last could not be committed within {} s", LAST_COMMIT_WITHIN.as_secs())]
    NotCommitted,
}

impl From<DriverError> for CoordinatorError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Store(error) => Self::Store(error),
            DriverError::StoreGone => Self::StoreGone,
        }
    }
}

impl CoordinatorError {
    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another program listens there: end it, or choose another port with `--listen`")
            }
            Self::Listen { .. } => Some("`--listen` takes an address of this machine and a port"),
            Self::Store(error) => Some(store_help(error)),
            Self::Blobs(BlobError::DiskFull(_)) => Some("free some space, then start again"),
            Self::Blobs(_) => Some("the folder must be writable, or choose another with `--store`"),
            Self::StoreGone | Self::Panicked(_) | Self::Ended => {
                Some("nothing that was acknowledged is lost: start again")
            }
            Self::Serve(_) | Self::NotCommitted => None,
        }
    }
}

fn store_help(error: &StoreError) -> &'static str {
    match error {
        StoreError::InUse { .. } => {
            "a store has one coordinator: end that one, or choose another with `--store`"
        }
        StoreError::Corrupt { .. } => {
            "nothing was changed: restore it from a copy, or move it away to begin anew"
        }
        StoreError::Foreign { .. } => "nothing was changed: choose another folder with `--store`",
        StoreError::Newer { .. } => "nothing was changed: use that build, or choose another with `--store`",
        StoreError::NotADirectory(_) | StoreError::NotWritable { .. } | StoreError::NoWriteAheadLog(_) => {
            "choose another folder with `--store`"
        }
        StoreError::DiskFull(_) => "free some space, then start again",
        StoreError::Busy(_) => "close the program that has it open, then start again",
        StoreError::Broken(_) | StoreError::Io { .. } | StoreError::Sqlite { .. } => {
            "nothing that was acknowledged is lost: when the disk is well, start again"
        }
    }
}

/// Serves until told to end: SIGTERM is 0, Ctrl-C 130, a second signal ends at once. Settings that do not hold together
/// are 2, any other error 1; both are written to standard error. Or does what else it is told to.
pub fn run(args: &CoordinatorArgs) -> ExitCode {
    if let Some(CoordinatorVerb::Backup(BackupArgs { to })) = &args.verb {
        return back_up(&args.store, to);
    }
    let config = match args.resolve() {
        Ok(config) => config,
        Err(error) => {
            say(&error, Some(&ConfigError::help(&error)));
            return ExitCode::from(USAGE);
        }
    };
    let _log = match log::init(&args.log, "slalom-coordinator") {
        Ok(guard) => guard,
        Err(error) => {
            say(&error, None);
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&error, None);
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(serve_until_signalled(config));
    // Whoever still waits for a disk or a peer is not waited for.
    runtime.shutdown_background();
    ended
}

fn back_up(store: &Path, to: &Path) -> ExitCode {
    match backup::copy(store, to) {
        Ok(Copied { records, corpora }) => {
            let line = format!("{}: {records} records, {corpora} corpora\n", to.display());
            // That the copy is there does not depend on who reads this.
            let _ = io::stdout().write_all(line.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error, Some(backup_help(&error)));
            ExitCode::FAILURE
        }
    }
}

fn backup_help(error: &BackupError) -> &'static str {
    match error {
        BackupError::NoStore(_) => "`--store` names the folder of a coordinator's store",
        BackupError::Taken(_) => "a backup writes over nothing: give a folder that is not there yet",
        BackupError::Nowhere(_) => "make it, or mount the disk that it is on",
        BackupError::Store(StoreError::Corrupt { .. }) => {
            "nothing was written: an earlier backup is the last that is whole"
        }
        BackupError::Store(StoreError::NotWritable { .. } | StoreError::NotADirectory(_)) => {
            "nothing was written: give a folder that can be made"
        }
        BackupError::Store(StoreError::DiskFull(_))
        | BackupError::Folder(BlobError::DiskFull(_))
        | BackupError::Corpus { source: BlobError::DiskFull(_), .. } => {
            "nothing was written: free some space, or give a folder on another disk"
        }
        BackupError::Corpus { .. } | BackupError::CorpusGone { .. } => {
            "nothing was written: submit the sweep again, which puts its corpus there, or cancel it"
        }
        BackupError::Store(StoreError::Newer { .. }) => "nothing was written: use that build",
        BackupError::Store(StoreError::Busy(_)) => "close the program that has it open, then try again",
        BackupError::Store(_) | BackupError::Folder(_) => {
            "nothing was written: when the disk is well, try again"
        }
    }
}

async fn serve_until_signalled(config: Config) -> ExitCode {
    let (mut term, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(term), Ok(interrupt)) => (term, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            say(&error, None);
            return ExitCode::FAILURE;
        }
    };
    let stop = CancellationToken::new();
    let serving = serve(config, stop.clone().cancelled_owned());
    tokio::pin!(serving);
    let mut code = ExitCode::SUCCESS;
    loop {
        let told = tokio::select! {
            served = &mut serving => {
                return match served {
                    Ok(()) => code,
                    Err(error) => {
                        if let CoordinatorError::Store(StoreError::Corrupt { path, .. }) = &error {
                            fleet::store_corrupt(path, &Chain(&error).to_string());
                        }
                        say(&error, error.help());
                        ExitCode::FAILURE
                    }
                };
            }
            _ = term.recv() => ExitCode::SUCCESS,
            _ = interrupt.recv() => ExitCode::from(INTERRUPTED),
        };
        if stop.is_cancelled() {
            return ExitCode::from(INTERRUPTED);
        }
        code = told;
        stop.cancel();
    }
}

/// A whole coordinator: listens, opens the store and serves until `shutdown` is done; then ends streams, commits what came in
/// and returns.
///
/// # Errors
/// If it cannot start, or had to end: then it must be started again, and goes on from what is on the disk.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), CoordinatorError> {
    let Config { listen, store: dir, blob_budget, settings } = config;
    // Before the store: who is told of a port in use has touched nothing.
    let listening = |source| CoordinatorError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    let store = SqliteStore::open(&dir)?;
    let blobs = Arc::new(Blobs::open(&dir, blob_budget)?);
    fleet::coordinator_started(address, &dir, settings.heartbeat, settings.lease, settings.checkpoint_every);
    serve_store(listener, settings, Box::new(store), blobs, shutdown).await
}

/// Drives an open store and serves what it holds.
async fn serve_store(
    listener: TcpListener,
    settings: Settings,
    store: Box<dyn Store>,
    blobs: Arc<Blobs>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), CoordinatorError> {
    let (driver, mut driving) = Driver::start(settings, store, blobs)?;
    tokio::select! {
        served = service::serve(listener, driver.clone(), shutdown) => served?,
        // Without its driver a server would answer nothing: crash and recover.
        ended = &mut driving => return Err(why_ended(ended)),
    }
    driver.stop().await;
    match tokio::time::timeout(LAST_COMMIT_WITHIN, driving).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(ended) => Err(why_ended(ended)),
        Err(_) => Err(CoordinatorError::NotCommitted),
    }
}

fn why_ended(ended: <JoinHandle<Result<(), DriverError>> as Future>::Output) -> CoordinatorError {
    match ended {
        Ok(Ok(())) => CoordinatorError::Ended,
        Ok(Err(error)) => error.into(),
        Err(panic) => CoordinatorError::Panicked(panic),
    }
}

/// Writes to standard error, which may be closed.
fn say(error: &dyn Error, help: Option<&str>) {
    let mut text = format!("error: {}\n", Chain(error));
    if let Some(help) = help {
        text.push_str("  help: ");
        text.push_str(help);
        text.push('\n');
    }
    // Nobody is left to hear of a failure to say so.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use slalom_common::id::RunKey;
    use slalom_proto::v1;
    use slalom_proto::v1::sweep_service_client::SweepServiceClient;
    use tonic::transport::Endpoint;

    use super::*;
    use crate::scheduler::record::Record;
    use crate::service::tests::{put_corpus, settings, sweep};
    use crate::store::Stamped;
    use crate::store::blobs::BUDGET;

    /// A store with a defect.
    struct Panics;

    impl Store for Panics {
        fn id(&self) -> slalom_common::id::StoreId {
            slalom_common::id::StoreId::new(9)
        }

        fn append(&mut self, _: &[Record], _: SystemTime) -> Result<(), StoreError> {
            panic!("a defect of the store");
        }

        fn load(&mut self) -> Result<Vec<Record>, StoreError> {
            Ok(Vec::new())
        }

        fn history(&mut self, _: &RunKey) -> Result<Vec<Stamped>, StoreError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_store_ends_the_coordinator_and_answers_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let blobs = Arc::new(Blobs::open(dir.path(), BUDGET).expect("a folder"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let never = std::future::pending();
        let serving = tokio::spawn(serve_store(listener, settings(), Box::new(Panics), blobs, never));

        let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
        put_corpus(channel.clone()).await;
        let request = v1::SubmitRequest { sweep: Some(sweep().to_wire()) };
        SweepServiceClient::new(channel).submit(request).await.expect_err("nothing was committed");
        let ended = serving.await.expect("it ends by itself").expect_err("by a defect");
        assert!(matches!(ended, CoordinatorError::StoreGone), "{ended}");
    }
}
