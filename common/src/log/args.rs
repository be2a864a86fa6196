//! The flags of a log, the same for every program that keeps one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};

use super::Format;

/// What is logged, how, and where to.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub struct LogArgs {
    /// Lines for people or for machines
    #[arg(long, value_name = "FORMAT", env = "SLALOM_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: Format,
    /// Folder for log files, one a day [default: standard error]
    #[arg(long, value_name = "DIR", env = "SLALOM_LOG_DIR")]
    pub log_dir: Option<PathBuf>,
    /// Which events: a level, or target=level, comma between
    #[arg(long = "log", value_name = "FILTER", env = "SLALOM_LOG", default_value_t)]
    pub log_filter: LogFilter,
}

/// Which events are logged, as it is typed: directives of `tracing`'s filter.
///
/// A level without a target is of Slalom's own events. Of the libraries beneath, warnings and errors are logged and the
/// rest only where a target names them: `debug,h2=debug`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFilter(String);

/// What is no filter.
#[derive(Debug, thiserror::Error)]
#[error("it is a level or target=level, comma between: info,slalom=debug")]
pub struct NotAFilter(#[source] ParseError);

impl LogFilter {
    /// As `tracing` takes it.
    pub(super) fn directives(&self) -> EnvFilter {
        EnvFilter::try_new(written_out(&self.0)).expect("it was read before")
    }
}

/// `filter` with what a level alone means written out. Of two directives for a target the later one holds.
fn written_out(filter: &str) -> String {
    let mut level = None;
    let mut targeted = Vec::new();
    for directive in filter.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        match directive.parse::<LevelFilter>() {
            Ok(alone) => level = Some(alone),
            Err(_) => targeted.push(directive),
        }
    }
    let general = level.map(|ours| format!("{},slalom={ours}", ours.min(LevelFilter::WARN)));
    general.as_deref().into_iter().chain(targeted).collect::<Vec<_>>().join(",")
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LogFilter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        EnvFilter::try_new(written_out(text)).map_err(NotAFilter)?;
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::format::filtered;
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogArgs,
    }

    fn parsed(flags: &[&str]) -> Result<LogArgs, clap::Error> {
        Cli::try_parse_from([&["program"], flags].concat()).map(|cli| cli.log)
    }

    #[test]
    fn a_log_is_typed_as_flags_and_what_is_no_filter_is_a_usage_error() {
        assert_eq!(parsed(&[]).expect("the defaults"), LogArgs::default());
        let typed =
            parsed(&["--log-format", "json", "--log", "warn,slalom::fleet=debug", "--log-dir", "logs"]);
        let typed = typed.expect("flags");
        assert_eq!((typed.log_format, typed.log_dir), (Format::Json, Some("logs".into())));
        assert_eq!(typed.log_filter.to_string(), "warn,slalom::fleet=debug");
        let error = parsed(&["--log", "slalom=loud"]).expect_err("no level");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("a level or target=level"), "{error}");
    }

    #[test]
    fn a_level_is_of_our_own_events_and_a_library_s_noise_must_be_asked_for() {
        let shown = |filter: &str| {
            let filter: LogFilter = filter.parse().expect("a filter");
            let lines = filtered(Format::Text, &filter, || {
                tracing::debug!(target: "slalom::fleet", "ours-debug");
                tracing::info!(target: "slalom_worker::agent", "ours-info");
                tracing::debug!(target: "h2::client", "theirs-debug");
                tracing::info!(target: "h2::client", "theirs-info");
                tracing::warn!(target: "h2::client", "theirs-warn");
            });
            let words =
                lines.lines().filter_map(|line| line[25..].split_whitespace().nth(1)).map(str::to_owned);
            words.collect::<Vec<_>>()
        };
        assert_eq!(shown("info"), ["ours-info", "theirs-warn"]);
        assert_eq!(shown("debug"), ["ours-debug", "ours-info", "theirs-warn"]);
        assert_eq!(shown("error"), [""; 0]);
        assert_eq!(shown("slalom=debug,info"), ["ours-debug", "ours-info", "theirs-warn"]);
        assert_eq!(shown("info,h2=info"), ["ours-info", "theirs-info", "theirs-warn"]);
        assert_eq!(shown("slalom=info"), ["ours-info"]);
    }
}
