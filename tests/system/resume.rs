//! `slalom run`, interrupted: the same command goes on, and ends with the same bytes.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::world::{SWEEP, binary, calm, said, signal};

fn slalom(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("slalom"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env("SLALOM_CACHE", folder.join("cache")).env_remove("SLALOM_COORDINATOR");
    command
}

/// `slalom run` of [`SWEEP`] in `folder`.
fn run(folder: &Path) -> Command {
    std::fs::write(folder.join("spec.toml"), SWEEP).unwrap();
    slalom(folder, &["run", "spec.toml", "--slots", "2", "--checkpoint-every", "100ms"])
}

/// A run that has answered at least `trials` trials, and more than whatever was answered before, and goes on.
fn run_until(folder: &Path, trials: u64) -> Child {
    let mut child = run(folder).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    // Its first line comes when it serves; before, `status` would open the store in its stead.
    assert!(lines.any(|line| line.starts_with("tiny")), "the run ended before it began");
    std::thread::spawn(move || lines.for_each(drop));
    let mut asked = 0;
    loop {
        let status = slalom(folder, &["status", "tiny", "--output", "json"]).output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let done = answer["trials_done"].as_u64().or(answer[0]["trials_done"].as_u64());
        if done.is_some_and(|done| done >= trials) {
            return child;
        }
        asked += 1;
        assert!(asked < 2_000 && child.try_wait().unwrap().is_none(), "no such progress: {}", said(&status));
    }
}

fn finish(folder: &Path) -> String {
    let output = run(folder).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    std::fs::read_to_string(folder.join("slalom-out/tiny/results.csv")).unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_run_on_one_machine_gives_the_bytes_of_a_coordinator_and_its_workers() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(finish(folder.path()), calm());
}

#[test]
fn a_run_that_is_done_prints_its_table_again_and_trains_nothing() {
    let folder = tempfile::tempdir().unwrap();
    finish(folder.path());
    let before = std::fs::read_to_string(folder.path().join("slalom-out/tiny/runs.csv")).unwrap();
    let output = run(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(printed(&output).contains("perplexity"), "{}", said(&output));
    let after = std::fs::read_to_string(folder.path().join("slalom-out/tiny/runs.csv")).unwrap();
    assert_eq!(before, after, "no lease was granted");
}

#[test]
fn killing_a_run_in_mid_sweep_changes_no_byte_of_the_results() {
    let folder = tempfile::tempdir().unwrap();
    for trials in [1, 6, 12] {
        let mut child = run_until(folder.path(), trials);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(finish(folder.path()), calm());
}

#[test]
fn interrupting_a_run_checkpoints_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    for (trials, name) in [(1, "INT"), (6, "TERM")] {
        let mut child = run_until(folder.path(), trials);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(130), "SIG{name}");
        let checkpoints =
            std::fs::read_dir(folder.path().join("slalom-out/.store/blobs/checkpoints")).unwrap();
        assert!(checkpoints.count() > 0, "what was trained is kept");
    }
    assert_eq!(finish(folder.path()), calm());
}

#[test]
fn a_second_run_in_the_same_folder_is_refused_and_names_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = run_until(folder.path(), 1);
    let second = run(folder.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains(&first.id().to_string()), "{}", said(&second));
    first.kill().unwrap();
    first.wait().unwrap();
}
