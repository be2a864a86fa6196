//! What a person is told when a verb could not do what was asked: two lines and an exit code.

use std::error::Error;
use std::io;

use clap::error::{ContextKind, ContextValue};
use slalom_common::corpus::cache::CacheError;
use slalom_common::corpus::source::CorpusError;
use slalom_common::log::LogError;

use crate::connect::{CallError, ConnectError};
use crate::local::LocalError;
use crate::spec::error::{Fault, SpecError};

/// What to do where a cache is needed and neither flag nor variable nor home says where it is.
pub(crate) const NO_CACHE: &str = "give one with --cache DIR, or set HOME";

/// How a process ends (CLI.md, Output).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done; a divergence is a result.
    Done = 0,
    /// Something that was well asked for could not be had.
    Error = 1,
    /// What was typed cannot be meant.
    Usage = 2,
    /// Finished, but trials failed or are missing.
    Incomplete = 3,
    /// Ctrl-C.
    Interrupted = 130,
}

/// An error that has words of its own for what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    what: String,
    help: Option<String>,
    exit: Exit,
}

impl Failure {
    /// `what` went wrong, and where.
    pub(crate) fn error(what: impl Into<String>) -> Self {
        Self { what: what.into(), help: None, exit: Exit::Error }
    }

    /// `what` was typed that cannot be meant, and where.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::error(what) }
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// An error as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    /// What and where, with its causes, on one line.
    pub(crate) what: String,
    /// What to do.
    pub(crate) help: Option<String>,
    /// How the process ends.
    pub(crate) exit: Exit,
}

impl Shown {
    /// An error, from itself to its root, in words; `None` if whoever reads the output went away, which is no error.
    pub(crate) fn of<'a>(causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> Option<Self> {
        let mut shown = Self { what: String::new(), help: None, exit: Exit::Error };
        for cause in causes {
            if is_closed_pipe(cause) {
                return None;
            }
            // A cause may spread over lines; an error is one.
            let line = cause.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
            // Some say their cause themselves, and have it beside.
            if !shown.what.ends_with(&line) {
                let separator = if shown.what.is_empty() { "" } else { ": " };
                shown.what += &format!("{separator}{line}");
            }
            if let Some((help, exit)) = advice(cause) {
                shown.help = shown.help.or(help);
                if exit != Exit::Error {
                    shown.exit = exit;
                }
            }
        }
        Some(shown)
    }

    /// What clap refuses of what was typed, in the two lines of all other errors: its first paragraph, and its tips or
    /// else where to read on. `verb` is what was typed before the first flag.
    pub(crate) fn of_usage(error: &clap::Error, verb: &str) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n");
        let first = paragraphs.next().unwrap_or_default();
        let what = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let tips: Vec<&str> =
            paragraphs.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
        let help = if tips.is_empty() {
            format!("`{verb} --help` says what it takes, with an example")
        } else {
            tips.join("; ")
        };
        Self { what: what.trim_start_matches("error: ").to_owned(), help: Some(help), exit: Exit::Usage }
    }
}

/// The flag whose value clap refuses, without its dashes.
pub(crate) fn refused_flag(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(flag) => flag.strip_prefix("--")?.split([' ', '=']).next(),
        _ => None,
    }
}

fn is_closed_pipe(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What the errors that know it say of help and exit code.
fn advice(cause: &(dyn Error + 'static)) -> Option<(Option<String>, Exit)> {
    if let Some(Failure { help, exit, .. }) = cause.downcast_ref() {
        return Some((help.clone(), *exit));
    }
    if let Some(error) = cause.downcast_ref::<SpecError>() {
        let exit = if let Fault::Unreadable { .. } = *error.fault { Exit::Error } else { Exit::Usage };
        return Some((error.help(), exit));
    }
    if let Some(error) = cause.downcast_ref::<CorpusError>() {
        return Some(corpus_advice(error));
    }
    if let Some(error) = cause.downcast_ref::<ConnectError>() {
        return Some((Some(error.help().to_owned()), Exit::Error));
    }
    if let Some(error) = cause.downcast_ref::<LocalError>() {
        return Some((Some(error.help().to_owned()), Exit::Error));
    }
    if let Some(LogError::Directory { .. }) = cause.downcast_ref() {
        return Some((Some("give another folder with --dir or --log-dir".to_owned()), Exit::Error));
    }
    let error = cause.downcast_ref::<CallError>()?;
    Some((error.help(), if error.is_usage() { Exit::Usage } else { Exit::Error }))
}

fn corpus_advice(error: &CorpusError) -> (Option<String>, Exit) {
    match error {
        CorpusError::NoCache { .. } => (Some(NO_CACHE.to_owned()), Exit::Error),
        CorpusError::Text8NotFetched { .. } => {
            (Some("`slalom corpus fetch text8` downloads it, once".to_owned()), Exit::Error)
        }
        CorpusError::NotCached { .. } => {
            (Some("`slalom corpus list` shows what is in the cache".to_owned()), Exit::Error)
        }
        CorpusError::Alphabet { .. } => (
            Some(
                "`--normalize`, in a spec `normalize = true`, maps it to a-z and space as text8 was made"
                    .to_owned(),
            ),
            Exit::Usage,
        ),
        CorpusError::Read { .. } => (
            Some("a corpus is `synthetic`, `text8`, `sha256:HEX` or the path of a .txt or .zip".to_owned()),
            Exit::Error,
        ),
        CorpusError::Folder { .. } | CorpusError::Empty { .. } | CorpusError::Archive { .. } => (
            Some("a corpus is a .txt of the 27 symbols, or a .zip with one such file in it".to_owned()),
            Exit::Usage,
        ),
        CorpusError::TooLarge { .. } => {
            (Some("take a part of it, as a file of its own".to_owned()), Exit::Usage)
        }
        CorpusError::Chars { .. } => {
            (Some("leave `chars` (--corpus-chars) out, or give less".to_owned()), Exit::Usage)
        }
        CorpusError::Cache(CacheError::Corrupt { .. }) => (None, Exit::Error),
        CorpusError::Cache(CacheError::Read { .. } | CacheError::Write { .. }) => {
            (Some("another folder for corpora can be given with --cache DIR".to_owned()), Exit::Error)
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_causes_and_the_outermost_help() {
        let inner = Failure::usage("no such thing").help("take another");
        let error = anyhow::Error::from(inner).context("cannot go on");
        let shown = Shown::of(error.chain()).expect("an error");
        assert_eq!(shown.what, "cannot go on: no such thing");
        assert_eq!(shown.help.as_deref(), Some("take another"));
        assert_eq!(shown.exit, Exit::Usage);
    }

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let error = anyhow::anyhow!("no room").context("cannot write: no room").context("cannot go on");
        let shown = Shown::of(error.chain()).expect("an error");
        assert_eq!(shown.what, "cannot go on: cannot write: no room");
        assert_eq!((shown.help, shown.exit), (None, Exit::Error));
    }

    #[test]
    fn a_closed_pipe_is_no_error_however_deep() {
        let closed: Result<(), _> = Err(io::Error::from(io::ErrorKind::BrokenPipe));
        let error = closed.context("cannot write").expect_err("an error");
        assert_eq!(Shown::of(error.chain()), None);
    }
}
