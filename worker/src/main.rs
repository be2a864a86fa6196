//! `slalom-worker`: trains runs for a coordinator.

use std::process::ExitCode;

use clap::Parser;
use slalom_worker::config::WorkerArgs;

/// Trains runs for a Slalom coordinator, on this machine's cores.
///
/// The first Ctrl-C or SIGTERM stores what is being trained, hands it back and ends with 0; the second ends at once.
#[derive(Parser)]
#[command(name = "slalom-worker", version)]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,
}

fn main() -> ExitCode {
    slalom_worker::process::run(&Cli::parse().worker)
}
