//! Bad input: refused by what, where and what to do, before anything is trained.

use std::fs;

use crate::person::{GRID, Person, Said, TRAIN};

#[test]
fn what_cannot_be_had_is_an_error_and_not_a_usage_error() {
    let person = Person::new();
    person.types("run absent.toml").ends(1).mentions("error: cannot read the spec `absent.toml`");
    person.types(&format!("plan {GRID} --corpus absent.txt")).ends(1).mentions("`absent.txt`");
    person
        .types(&format!("plan {GRID} --corpus text8"))
        .ends(1)
        .mentions("  help: `slalom corpus fetch text8` downloads it, once\n");
    person.types(&format!("{TRAIN} --steps 0 --final no/such/folder/w.safetensors")).ends(1);
    // Nobody listens on port 1.
    person.types("corpus fetch text8 --url http://127.0.0.1:1/text8.zip").ends(1).mentions("127.0.0.1:1");
    person
        .types("status --coordinator 127.0.0.1:1")
        .ends(1)
        .mentions("error: cannot reach a coordinator at http://127.0.0.1:1: ")
        .mentions("\n  help: ");
}

/// Without HOME, `SLALOM_CACHE` and --cache.
#[test]
fn a_cache_is_asked_for_only_where_one_is_needed() {
    let person = Person::new();
    person.writes("text.txt", &"the quick brown fox ".repeat(100));
    let homeless = |line: &str| {
        let mut command = person.command(line);
        let output = command.env_remove("SLALOM_CACHE").output().expect("the program starts");
        Said { line: line.to_owned(), output }
    };
    homeless("corpus info").ends(0);
    homeless("corpus info text.txt").ends(0);
    homeless(&format!("{TRAIN} --steps 2 --valid-size 100")).ends(0);
    homeless(&format!("plan {GRID}")).ends(0);
    homeless(&format!("run {GRID} --corpus text.txt")).ends(0);
    for line in [format!("plan {GRID} --corpus text8"), format!("run {GRID} --name other --corpus text8")] {
        homeless(&line).complains(
            1,
            "error: the corpus `text8` is in a cache, and there is no folder for one\n  \
             help: give one with --cache DIR, or set HOME",
        );
    }
    homeless("corpus list").ends(1).mentions("there is no folder for corpora");
    homeless("corpus fetch text8").ends(1).mentions("  help: give one with --cache DIR, or set HOME");
}

#[test]
fn what_is_no_command_is_a_usage_error() {
    let person = Person::new();
    let lines = [
        "",
        "nonsense",
        "run --no-such-flag",
        "runs --state lost",
        "runs --where 'epochs > 3'",
        "status 'No Name'",
        "train --nodes 8",
        "bench --shapes 8,8",
        "bench --shapes 8,8,0",
        "bench --shapes 16385,8,5",
        "bench --validations 0",
        "bench --seconds -1",
        "bench --seconds inf",
        "bench --fit --shapes 8,8,5",
        "run --log slalom=loud",
        "coordinator --log slalom=loud",
        "coordinator backup",
        "worker --log slalom=loud",
    ];
    for line in lines {
        let said = person.types(line).ends(2);
        assert_eq!(said.stdout(), "", "{line}");
        if !line.is_empty() {
            assert!(said.is_an_error_with_help(), "{line}\n--\n{}", said.stderr());
        }
    }
    person.types("run --node 8").complains(
        2,
        "error: unexpected argument '--node' found\n  help: a similar argument exists: '--nodes'",
    );
    let by_variable =
        person.command(&format!("{TRAIN} --steps 1")).env("SLALOM_ISA", "mmx").output().expect("it starts");
    let complaint = String::from_utf8_lossy(&by_variable.stderr);
    assert!(complaint.contains(" in the variable SLALOM_ISA\n"), "{complaint}");
}

/// What goes wrong is one line of what and where, and one of what to do.
#[test]
fn every_complaint_is_two_lines() {
    let person = Person::new();
    person.writes("two.zip", "PK\u{3}\u{4} and no more");
    person.writes("empty.txt", "");
    person.writes("plain.txt", "some plain text");
    person.writes("broken.toml", "nodes = [8\n");
    person.writes("text.toml", "[grid]\nnodes = true\n");
    person.writes("file", "");
    fs::create_dir(person.path().join("folder")).expect("room");
    let lines = [
        "run absent.toml",
        "run folder",
        "run broken.toml",
        "run text.toml",
        "plan --nodes 8,8 --batch-size 4 --unrollings 3 --epochs 5",
        "plan --nodes '' --batch-size 4 --unrollings 3 --epochs 5",
        "plan --nodes 1..=4:0 --batch-size 4 --unrollings 3 --epochs 5",
        "plan --nodes 99999999999999999999 --batch-size 4 --unrollings 3 --epochs 5",
        "plan --nodes 1..=16384 --batch-size 1..=60000 --unrollings 3 --epochs 5",
        "plan --nodes 8 --batch-size 4 --unrollings 3 --epochs 1000000000000 --steps-per-epoch 100",
        &format!("plan {GRID} --exclude 'nodes /'"),
        &format!("plan {GRID} --exclude 'nodes + 1'"),
        &format!("plan {GRID} --steps-per-epoch half"),
        &format!("plan {GRID} --corpus synthetic:x"),
        &format!("plan {GRID} --corpus sha256:0"),
        &format!("plan {GRID} --corpus synthetic --normalize"),
        &format!("plan {GRID} --corpus two.zip"),
        &format!("plan {GRID} --corpus empty.txt"),
        &format!("plan {GRID} --corpus folder"),
        &format!("plan {GRID} --corpus-chars 99999999999"),
        &format!("run {GRID} --dir file"),
        &format!("{TRAIN} --steps 1 --init absent"),
        &format!("{TRAIN} --steps 1 --init empty.txt"),
        &format!("{TRAIN} --steps 1 --final folder"),
        &format!("{TRAIN} --steps 1099511627776"),
        "train --nodes 0 --batch-size 4 --unrollings 3 --steps 1",
        "corpus info plain.txt",
        "corpus fetch text9",
        "coordinator backup copy --store folder",
        "status --coordinator 127.0.0.1:1",
    ];
    for line in lines {
        let said = person.types(line);
        let code = said.output.status.code();
        assert!(
            matches!(code, Some(1 | 2)) && said.is_an_error_with_help(),
            "{line}: {code:?}\n--\n{}",
            said.stderr()
        );
        assert_eq!(said.stdout(), "", "{line}");
    }
    assert!(!person.path().join("slalom-out").exists(), "nothing was begun");
}
