//! How Slalom's programs say what they do: one line an event, for people or for machines, and the events.
//!
//! The subscriber is set up here, once a process; how a line looks is `format`'s, and which events there are is
//! [`fleet`]'s and [`worker`]'s. Nothing here decides what is worth a line.

pub mod args;
pub mod fleet;
mod format;
mod limit;
pub mod worker;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::layer::SubscriberExt as _;

use args::LogArgs;
use format::Lines;

/// The form of a log's lines.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Time, level, event, `name=value`; numbers rounded for reading
    #[default]
    Text,
    /// One flat object a line: `ts`, `level`, `event`, and the fields with all their digits
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A directory that takes no file.
    #[error("cannot write a log in {}", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: InitError,
    },
    /// This process has a log already.
    #[error("the log is set up already")]
    Twice,
}

/// Keeps the log's writer; what was logged before it is dropped is written when that returns.
#[derive(Debug)]
#[must_use = "dropped at once, it ends the log"]
pub struct Guard {
    _writer: WorkerGuard,
}

/// Sends this process's events to where `args` say: to standard error, or to a file a day in their directory, called
/// `PROGRAM.YYYY-MM-DD.log` by UTC.
///
/// # Errors
/// If the directory takes no file, or there is a log already.
pub fn init(args: &LogArgs, program: &str) -> Result<Guard, LogError> {
    let builder = NonBlockingBuilder::default().thread_name("log");
    let (writer, guard) = match &args.log_dir {
        // A terminal that is stopped, or a pipe that nobody reads, must not stop the fleet: once the queue is full it loses lines.
        None => builder.lossy(true).finish(std::io::stderr()),
        Some(dir) => {
            let appender = RollingFileAppender::builder()
                .rotation(Rotation::DAILY)
                .filename_prefix(program)
                .filename_suffix("log")
                .build(dir)
                .map_err(|source| LogError::Directory { dir: dir.clone(), source })?;
            // A disk slower than the fleet makes the fleet wait: the log is how a sweep is followed, with no line left out.
            builder.lossy(false).finish(appender)
        }
    };
    let mut layer = tracing_subscriber::fmt::layer()
        .event_format(Lines(args.log_format))
        // Its complaints about a standard error that is closed would go there, and panic.
        .log_internal_errors(false)
        .with_writer(writer);
    // Left alone, it heeds NO_COLOR.
    if args.log_dir.is_some() || !std::io::stderr().is_terminal() {
        layer = layer.with_ansi(false);
    }
    let subscriber = tracing_subscriber::registry().with(args.log_filter.directives()).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(Guard { _writer: guard })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one test, since a process has one log.
    #[test]
    fn a_log_is_a_file_of_the_day_and_what_is_no_directory_is_refused() {
        let outside = tempfile::tempdir().expect("a directory");
        let file = outside.path().join("file");
        std::fs::write(&file, "").expect("a file");
        let args = LogArgs { log_dir: Some(file), ..LogArgs::default() };
        assert!(matches!(init(&args, "test"), Err(LogError::Directory { .. })));

        let dir = outside.path().join("logs");
        let args = LogArgs { log_dir: Some(dir.clone()), ..LogArgs::default() };
        let guard = init(&args, "slalom-test").expect("a log");
        assert!(matches!(init(&args, "slalom-test"), Err(LogError::Twice)));
        tracing::info!(port = 7117, "listening");
        tracing::debug!("not asked for");
        drop(guard);
        let files: Vec<PathBuf> =
            std::fs::read_dir(dir).expect("it was made").map(|file| file.expect("readable").path()).collect();
        let [only] = files.as_slice() else { panic!("not one file: {files:?}") };
        let name = only.file_name().and_then(|name| name.to_str()).expect("a name of ours");
        assert!(name.starts_with("slalom-test.20"), "{name}");
        assert_eq!(only.extension(), Some("log".as_ref()));
        let lines = std::fs::read_to_string(only).expect("a log");
        assert!(lines.ends_with(" INFO  listening port=7117\n"), "{lines}");
        assert_eq!(lines.lines().count(), 1);
    }
}
