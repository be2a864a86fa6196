//! Help, plans and pipes: what is said before anything is trained.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::person::{Person, TINY, TRAIN};

#[test]
fn help_names_every_verb_in_its_group_and_each_verb_has_an_example() {
    let person = Person::new();
    let help = person.types("--help").ends(0).stdout();
    for group in ["On this machine:", "On several machines:", "See how it stands:", "Steer:", "Tend:"] {
        assert!(help.contains(group), "{group} in\n{help}");
    }
    let verbs = [
        "run",
        "plan",
        "train",
        "coordinator",
        "coordinator backup",
        "worker",
        "submit",
        "extend",
        "wait",
        "status",
        "runs",
        "workers",
        "results",
        "pause",
        "resume",
        "stop",
        "cancel",
        "retry",
        "drain",
        "bench",
        "corpus list",
        "corpus fetch",
        "corpus info",
    ];
    for verb in verbs {
        assert!(help.contains(verb.split(' ').next().expect("a word")), "{verb} in\n{help}");
        let said = person.types(&format!("{verb} --help")).ends(0);
        assert!(said.stdout().contains(&format!("Example:\n  slalom {verb}")), "{}", said.stdout());
    }
}

#[test]
fn run_with_nothing_given_prints_a_spec_to_start_from() {
    let person = Person::new();
    let said = person.types("run").ends(2).mentions("help: this spec is one to start from");
    person.writes("sweep.toml", &said.stdout());
    person.types("plan sweep.toml").ends(0);
}

#[test]
fn plan_shows_how_large_a_sweep_is() {
    let person = Person::new();
    person.writes("tiny.toml", TINY);
    let plan = person.types("plan tiny.toml --slots 2").ends(0).stdout();
    let lines: Vec<&str> = plan.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "tiny       16 trials = 2 nodes x 1 batch_size x 2 unrollings x 2 epochs x 2 seeds",
            "excluded   2 trials by `nodes == 4 && unrollings == 3 && epochs == 20`",
            "runs       8 (each run answers its 2 epochs: 1.43 times less to train)",
        ]
    );
    assert!(lines[3].starts_with("work       ") && lines[3].contains("; longest run 8/4/3: "), "{plan}");
    assert!(lines[4].starts_with("here       2 slots: about "), "{plan}");
    assert!(lines[4].ends_with(" s, as measured just now"), "{plan}");
    let plan = &person.types("plan tiny.toml --output json").ends(0).json_lines()[0];
    assert_eq!((&plan["trials"], &plan["excluded"], &plan["runs"]), (&json!(14), &json!(2), &json!(8)));
    assert_eq!(plan["known_runs"], Value::Null);
}

#[test]
fn a_pipe_that_closes_is_no_error() {
    let person = Person::new();
    let mut child = person
        .command(&format!("{TRAIN} --steps 200000 --output json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = String::new();
    // The reader is dropped after a line: the pipe closes while the program writes.
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    let output = child.wait_with_output().expect("it ends");
    assert!(first.starts_with("{\"step\":0,"), "{first}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{:?} {complaint}", output.status);
}
