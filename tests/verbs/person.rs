//! Somebody who types commands in a folder of their own, and what the commands say.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Somebody with a folder of their own and no variable of the tester's.
pub(crate) struct Person {
    folder: TempDir,
}

/// What one command said and how it ended.
pub(crate) struct Said {
    pub(crate) line: String,
    pub(crate) output: Output,
}

impl Person {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slalom"));
        command
            .args(words(line))
            .current_dir(self.path())
            .env_clear()
            .env("SLALOM_CACHE", self.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn types(&self, line: &str) -> Said {
        let output = self.command(line).output().expect("the program starts");
        Said { line: line.to_owned(), output }
    }

    pub(crate) fn writes(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).expect("room");
    }
}

/// The words of a command line; what stands between single quotes is one.
fn words(line: &str) -> Vec<String> {
    let part = |(index, part): (usize, &str)| {
        if index % 2 == 1 {
            vec![part.to_owned()]
        } else {
            part.split_whitespace().map(str::to_owned).collect()
        }
    };
    line.split('\'').enumerate().flat_map(part).collect()
}

impl Said {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).expect("UTF-8")
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).expect("UTF-8")
    }

    /// The exit code is this; else all is shown.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        assert_eq!(self.output.status.code(), Some(code), "{}\n--\n{stdout}\n--\n{stderr}", self.line);
        self
    }

    /// Standard error ends with these lines, and nothing stands on standard output.
    #[track_caller]
    pub(crate) fn complains(self, code: i32, lines: &str) {
        let said = self.ends(code);
        assert!(said.stderr().ends_with(&format!("{lines}\n")), "{}\n--\n{}", said.line, said.stderr());
        assert_eq!(said.stdout(), "", "{}", said.line);
    }

    /// Standard error holds these words.
    #[track_caller]
    pub(crate) fn mentions(self, words: &str) -> Self {
        assert!(self.stderr().contains(words), "{}\n--\n{}", self.line, self.stderr());
        self
    }

    /// Standard error is `error: ...` and `  help: ...`, a line each.
    pub(crate) fn is_an_error_with_help(&self) -> bool {
        let stderr = self.stderr();
        let lines: Vec<&str> = stderr.lines().collect();
        matches!(lines[..], [error, help] if error.starts_with("error: ") && help.starts_with("  help: "))
    }

    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

pub(crate) const TRAIN: &str = "train --nodes 8 --batch-size 4 --unrollings 3 --corpus-chars 5000";

pub(crate) const GRID: &str = "--nodes 8 --batch-size 4 --unrollings 3 --epochs 5";

pub(crate) const TINY: &str = "\
name = \"tiny\"
corpus = { synthetic = 1, chars = 5000 }
[grid]
nodes = [4, 8]
batch_size = 4
unrollings = [1, 3]
epochs = [10, 20]
seeds = 2
exclude = [\"nodes == 4 && unrollings == 3 && epochs == 20\"]
[training]
valid_size = 200
";
