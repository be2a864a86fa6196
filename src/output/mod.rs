//! How results look: chosen once, by `--output` and by where standard output goes. Results go to standard output,
//! everything else to standard error.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use self::columns::Columns;

pub(crate) mod bar;
pub(crate) mod columns;
pub(crate) mod files;
pub(crate) mod number;
pub(crate) mod results;
pub(crate) mod rows;

/// What `--output` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// A table on a terminal, plain lines with tabs in a pipe
    #[default]
    Table,
    /// One JSON value; `train` prints one object a line
    Json,
    /// Only names
    Quiet,
}

/// Where results go and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    mode: Mode,
    /// Whether a person looks at standard output.
    terminal: bool,
}

impl Output {
    /// Standard output in this mode.
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, terminal: io::stdout().is_terminal() }
    }

    /// What `--output` said.
    pub(crate) fn mode(self) -> Mode {
        self.mode
    }

    /// Rows for people, or for `cut` and `awk` where nobody looks.
    ///
    /// # Errors
    /// If nobody takes them.
    pub(crate) fn columns<const N: usize>(self, columns: &Columns<N>) -> io::Result<()> {
        print(&if self.terminal { columns.aligned() } else { columns.with_tabs() })
    }
}

/// Text on standard output, as it is.
///
/// # Errors
/// If nobody takes it.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// One JSON value on one line.
///
/// # Errors
/// If nobody takes it.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    print(&line)
}

/// One name on one line.
///
/// # Errors
/// If nobody takes it.
pub(crate) fn print_name(name: &str) -> io::Result<()> {
    print(&format!("{name}\n"))
}

/// A line on standard error, below whatever bar there is. That nobody reads it is no reason to stop.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
