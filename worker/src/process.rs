//! A worker as a process: its log, its signals and its exit code. `slalom-worker` and `slalom worker` are this.

use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::agent::{self, AgentConfig, AgentError, Shutdown};
use crate::config::{ConfigError, LogArgs, LogFormat, WorkerArgs};

/// The exit code of a process that was told a second time to end.
const INTERRUPTED: u8 = 130;
/// Threads for the agent, its link and transfers; slots have their own.
const RUNTIME_THREADS: usize = 2;

/// Why a worker ended before its time.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("the settings do not hold")]
    Config(#[from] ConfigError),
    #[error("`--log` is no filter")]
    LogFilter(#[from] tracing_subscriber::filter::ParseError),
    #[error("cannot write a log to `--log-dir`")]
    LogDir(#[from] tracing_appender::rolling::InitError),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot go on")]
    Agent(#[from] AgentError),
}

/// Works until drained: exit code 0. The first SIGTERM or Ctrl-C drains, the second ends it at once: 130. What it
/// cannot go on from is written to standard error: 1.
pub fn run(args: &WorkerArgs) -> ExitCode {
    match work(args) {
        Ok(code) => code,
        Err(error) => {
            eprint!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn work(args: &WorkerArgs) -> Result<ExitCode, ProcessError> {
    start_log(&args.log)?;
    let config = args.resolve()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(ProcessError::Runtime)?;
    let ended = runtime.block_on(serve(config));
    // A slot may be in the middle of a step, a transfer in the middle of a chunk: nobody waits for them.
    runtime.shutdown_background();
    ended
}

async fn serve(config: AgentConfig) -> Result<ExitCode, ProcessError> {
    tracing::info!(
        coordinator = config.coordinators.join(","),
        slots = config.slots,
        name = %config.name,
        cache = %config.cache.display(),
        isa = %config.kernels.name(),
        "settings resolved"
    );
    let shutdown = Shutdown::default();
    let mut term = signal(SignalKind::terminate()).map_err(ProcessError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ProcessError::Signals)?;
    let agent = agent::run(config, shutdown.clone());
    tokio::pin!(agent);
    loop {
        tokio::select! {
            ended = &mut agent => {
                ended?;
                let at_once = shutdown.stop.is_cancelled();
                return Ok(if at_once { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS });
            }
            () = told(&mut term, &mut interrupt) => {
                if shutdown.drain.is_cancelled() {
                    shutdown.stop.cancel();
                } else {
                    shutdown.drain.cancel();
                }
            }
        }
    }
}

/// Until either signal comes.
async fn told(term: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The one place where a worker's log begins.
fn start_log(args: &LogArgs) -> Result<(), ProcessError> {
    let filter = EnvFilter::try_new(&args.log_filter)?;
    let writer = match &args.log_dir {
        None => BoxMakeWriter::new(io::stderr),
        Some(folder) => {
            let files = tracing_appender::rolling::Builder::new()
                .rotation(tracing_appender::rolling::Rotation::DAILY)
                .filename_prefix("slalom-worker")
                .filename_suffix("log");
            BoxMakeWriter::new(files.build(folder)?)
        }
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false)
        .with_ansi(false);
    match args.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}
