//! `slalom-coordinator`: schedules the runs of sweeps over workers, records what comes back, answers people.

use std::process::ExitCode;

use clap::Parser;
use slalom_coordinator::config::CoordinatorArgs;

/// Schedules the runs of sweeps over workers, records what comes back, answers people.
///
/// SIGTERM ends it with 0, Ctrl-C with 130, after what came in is committed; a second signal ends it at once. Started
/// again on the same store it goes on where it was, also after kill -9 or power loss.
#[derive(Parser)]
#[command(name = "slalom-coordinator", version)]
struct Cli {
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

fn main() -> ExitCode {
    slalom_coordinator::process::run(&Cli::parse().coordinator)
}
