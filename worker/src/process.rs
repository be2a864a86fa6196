//! A worker as a process: its log, its signals and its exit code. `slalom-worker` and `slalom worker` are this.

use std::io;
use std::process::ExitCode;

use slalom_common::log::{self, LogError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent::{self, AgentConfig, AgentError, Shutdown};
use crate::config::{ConfigError, WorkerArgs};
use slalom_common::chain::Chain;

/// The exit code of a process that was told a second time to end.
const INTERRUPTED: u8 = 130;
/// The exit code of a process of which a slot hangs: of sysexits, an internal software error.
const HUNG: u8 = 70;
/// Threads for the agent, its link and transfers; slots have their own.
const RUNTIME_THREADS: usize = 2;

/// Why a worker ended before its time.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("the settings do not hold")]
    Config(#[from] ConfigError),
    #[error("there is no log")]
    Log(#[from] LogError),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot go on")]
    Agent(#[from] AgentError),
}

/// Works until drained: exit code 0. The first SIGTERM or Ctrl-C drains, the second ends it at once: 130. What it
/// cannot go on from is written to standard error: 1, or 70 if a slot hangs.
pub fn run(args: &WorkerArgs) -> ExitCode {
    match work(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", Chain(&error));
            match error {
                ProcessError::Agent(AgentError::Hung(_)) => ExitCode::from(HUNG),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn work(args: &WorkerArgs) -> Result<ExitCode, ProcessError> {
    let _log = log::init(&args.log, "slalom-worker")?;
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
