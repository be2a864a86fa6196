//! The house rules that a search can check, and that the README tells the truth about the log.

use std::path::{Path, PathBuf};

use slalom_common::log::{fleet, worker};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(under: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        if folder.is_file() {
            found.push((folder.clone(), std::fs::read_to_string(&folder).unwrap()));
            continue;
        }
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{under} has sources");
    found
}

/// The lines of a file that are code: no comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn what_decides_reads_no_clock_and_has_no_io_no_randomness_and_no_log() {
    let pure = [
        "coordinator/src/scheduler",
        "coordinator/src/aggregate",
        "coordinator/src/service/session.rs",
        "worker/src/agent/session.rs",
    ];
    let banned = [
        "Instant",
        "SystemTime",
        "tokio",
        "tracing",
        "getrandom",
        "std::fs",
        "std::net",
        "async ",
        "println",
    ];
    for folder in pure {
        for (path, text) in sources(folder) {
            for (number, line) in code(&text) {
                let found = banned.iter().find(|word| line.contains(**word));
                assert_eq!(found, None, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_trainer_knows_no_network_and_the_model_no_threads_or_files() {
    for (folder, banned) in [
        ("worker/src/lstm", &["tonic", "tokio", "std::thread", "std::fs", "std::env", "Instant"][..]),
        (
            "worker/src/kernels",
            &["tonic", "tokio", "std::thread", "std::fs", "std::env", "Instant", "static mut"],
        ),
        ("worker/src/trainer", &["tonic", "tokio", "std::fs", "std::env", "Instant", "SystemTime"]),
    ] {
        for (path, text) in sources(folder) {
            for (number, line) in code(&text) {
                let found = banned.iter().find(|word| line.contains(**word));
                assert_eq!(found, None, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn only_wire_and_the_services_read_generated_messages() {
    for folder in
        ["common/src", "coordinator/src/scheduler", "coordinator/src/aggregate", "worker/src/trainer"]
    {
        for (path, text) in sources(folder) {
            let in_wire = path.components().any(|part| part.as_os_str() == "wire");
            assert!(in_wire || !text.contains("slalom_proto"), "{}", path.display());
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for folder in ["src", "proto/src", "common", "coordinator", "worker", "tests"] {
        for (path, text) in sources(folder) {
            if path.ends_with("tidy.rs") {
                continue;
            }
            assert!(text.starts_with("//!"), "{} says at its head what it is", path.display());
            for (number, line) in text.lines().enumerate() {
                for mark in ["TODO", "FIXME", "todo!(", "unimplemented!(", "dbg!(", "#[ignore"] {
                    assert!(!line.contains(mark), "{}:{}: {line}", path.display(), number + 1);
                }
            }
        }
    }
}

#[test]
fn only_the_lists_of_events_write_to_the_log() {
    for folder in ["src", "coordinator/src", "worker/src"] {
        for (path, text) in sources(folder) {
            for (number, line) in code(&text) {
                assert!(!line.contains("tracing::"), "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_readme_lists_every_event_of_the_log_with_its_level_and_fields() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let rows: Vec<Vec<String>> = readme
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    for (name, level, fields) in fleet::EVENTS.iter().chain(worker::EVENTS) {
        let row = vec![(*name).to_owned(), (*level).to_owned(), fields.join(", ")];
        assert!(
            rows.contains(&row),
            "the README's table of events lacks | `{name}` | {level} | `{}` |",
            row[2]
        );
    }
    let events = fleet::EVENTS.iter().chain(worker::EVENTS);
    let known =
        |row: &Vec<String>| events.clone().any(|(name, level, _)| row[0] == *name && row[1] == *level);
    let levels = ["error", "warn", "info", "debug"];
    for row in rows.iter().filter(|row| row.len() == 3 && levels.contains(&row[1].as_str())) {
        assert!(known(row), "the README tells of an event that there is not: {row:?}");
    }
}
