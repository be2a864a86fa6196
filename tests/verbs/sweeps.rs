//! Sweeps that run here, in one folder: run again, asked when they are over, paused, extended.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::person::{Person, TINY, TRAIN};

#[test]
fn a_sweep_runs_here_and_its_store_answers_when_it_is_over() {
    let person = Person::new();
    person.writes("tiny.toml", TINY);
    let page = person.types("run tiny.toml").ends(0).stdout();
    assert!(page.starts_with(" tiny: 14 trials done, 2 excluded, none diverged, none failed in "), "{page}");
    let read =
        |name: &str| fs::read_to_string(person.path().join("slalom-out/tiny").join(name)).expect("written");
    let csv = read("results.csv");
    assert_eq!(csv.lines().count(), 15);
    assert_eq!(person.types("results --format csv").ends(0).stdout(), csv);
    assert_eq!(person.types("results tiny --output json").ends(0).stdout(), read("results.json"));
    let runs = person.types("runs --where 'nodes == 8' --output quiet").ends(0).stdout();
    assert_eq!(runs, "tiny/4\ntiny/5\ntiny/6\ntiny/7\n");
    assert_eq!(read("runs.csv").lines().count(), 9);

    let plan = person.types("plan tiny.toml").ends(0).stdout();
    assert!(plan.contains("known      8 runs already in the store\n"), "{plan}");
    assert!(plan.ends_with(": nothing is left to train\n"), "{plan}");
    let again = person.types("run tiny.toml").ends(0).stdout();
    assert!(again.starts_with(" tiny: 14 trials done, 2 excluded, none diverged, none failed\n"), "{again}");

    person.writes("other.toml", &TINY.replace("[4, 8]", "[4, 9]"));
    person
        .types("run other.toml")
        .ends(2)
        .mentions("`tiny` is another sweep here")
        .mentions("`nodes` (4,8 / 4,9)")
        .mentions("help: give this one another name with --name");
    person.types("wait tiny").ends(1);
    person.types("status no-such-sweep").ends(1).mentions("there is `tiny`");
}

/// `pause` finds the `slalom run` that lives; whoever types `run` again wants the sweep to go on.
#[test]
fn a_sweep_that_runs_here_is_paused_from_elsewhere_and_goes_on_by_the_same_command() {
    let person = Person::new();
    // Runs of seconds, one at a time: it is not done before it is paused.
    let spec = "[grid]\nnodes = 8\nbatch_size = 4\nunrollings = 3\nepochs = 200_000\nseeds = 3\n";
    person.writes("long.toml", &format!("name = \"long\"\n{spec}"));
    let mut run = person
        .command("run long.toml --slots 1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(run.stderr.take().expect("piped")).lines().map_while(Result::ok);
    // It tells how far it is once it serves.
    let first = said.next().expect("a line");
    assert!(first.starts_with("long 0% "), "{first}");
    let paused = &person.types("pause long --output json").ends(0).json_lines()[0];
    assert_eq!(paused["state"], "paused");
    let note = said.find(|line| line.contains(" is paused"));
    assert_eq!(note.as_deref(), Some("`long` is paused: `slalom resume long` goes on with it"));
    // Whatever it is called, and whether it has joined by now.
    person
        .types("drain hill")
        .ends(1)
        .mentions(" refuses: this is `slalom run` of `long`: Ctrl-C there stores what its worker trains and ends both\n");
    let interrupted = Command::new("kill").args(["-s", "INT", &run.id().to_string()]).status();
    assert!(interrupted.expect("`kill` is everywhere").success());
    said.for_each(drop);
    assert_eq!(run.wait().expect("it ends").code(), Some(130));

    let closed = &person.types("status long --output json").ends(0).json_lines()[0];
    assert_eq!(closed["state"], "paused");
    person.types("resume long").ends(1).mentions("error: nobody works in slalom-out or at ");
    person.types("run long.toml --slots 1").ends(0).mentions("`long` was paused: it goes on\n");
    let done = &person.types("status long --output json").ends(0).json_lines()[0];
    assert_eq!((&done["state"], &done["trials_done"]), (&json!("done"), &json!(3)));
}

/// A run of a sweep passes, to the last bit, through what `train` alone finds at the same steps.
#[test]
fn a_trial_of_a_sweep_is_what_train_alone_gives() {
    let person = Person::new();
    person.writes("tiny.toml", TINY);
    person.types("run tiny.toml").ends(0);
    let results = &person.types("results --output json").ends(0).json_lines()[0];
    let alone = person
        .types(&format!("{TRAIN} --valid-size 200 --seed 1 --steps 20 --eval-at 10,20 --output json"))
        .ends(0)
        .json_lines();
    let alone: Vec<&Value> = alone.iter().filter_map(|line| line.get("valid_perplexity")).collect();
    let trials = results["trials"].as_array().expect("a list").iter();
    let swept: Vec<&Value> = trials
        .filter(|trial| trial["nodes"] == 8 && trial["unrollings"] == 3 && trial["seed"] == 1)
        .map(|trial| &trial["perplexity"])
        .collect();
    assert_eq!(swept, alone);
    assert_eq!(swept.len(), 2);
}

/// Rows of a table without the sweep's own numbering.
fn answers(csv: &str) -> Vec<&str> {
    csv.lines().filter_map(|row| row.split_once(',')).map(|(_, rest)| rest).collect()
}

/// The table is that of a sweep that had asked for all of it from the start, and runs keep their numbers.
#[test]
fn a_sweep_is_extended_by_a_spec_that_goes_beyond_it_and_both_specs_mean_it_from_then_on() {
    let longer = TINY.replace("[10, 20]", "[10, 20, 30]").replace("seeds = 2", "seeds = 3");
    let person = Person::new();
    person.writes("tiny.toml", TINY);
    person.writes("longer.toml", &longer);
    person.types("run tiny.toml").ends(0);
    person.types("run longer.toml").ends(2).mentions("help: `slalom extend` of the same");

    let extended = person.types("extend longer.toml").ends(0).mentions("nobody works on `tiny`");
    assert_eq!(extended.stdout(), "tiny: extended by 19 trials, now 33 trials in 12 runs, 3 excluded\n");
    let again = person.types("extend longer.toml --output json").ends(0).json_lines();
    assert_eq!((&again[0]["added_trials"], &again[0]["waiting"]), (&json!(0), &json!(12)));
    for spec in ["longer.toml", "tiny.toml"] {
        let page = person.types(&format!("run {spec}")).ends(0).stdout();
        assert!(page.starts_with(" tiny: 33 trials done, 3 excluded, none diverged, none failed"), "{page}");
    }

    let other = Person::new();
    other.writes("longer.toml", &longer);
    other.types("run longer.toml").ends(0);
    let csv = |who: &Person| who.types("results --format csv").ends(0).stdout();
    assert_eq!(answers(&csv(&person)), answers(&csv(&other)));
    let runs = person.types("runs --where 'nodes == 8' --output quiet").ends(0).stdout();
    assert_eq!(runs, "tiny/4\ntiny/5\ntiny/6\ntiny/7\ntiny/16\ntiny/19\n");
}

#[test]
fn a_sweep_is_extended_by_values_and_what_is_no_extension_is_refused() {
    let person = Person::new();
    person.writes("tiny.toml", TINY);
    person.types("run tiny.toml").ends(0);
    let extended =
        person.types("extend tiny --nodes 16 --seeds 3 --exclude 'nodes == 16 && seed == 2'").ends(0);
    // Twelve of the sizes that it had have a third seed now, less those excluded, and four points of 16 nodes two seeds each.
    assert_eq!(extended.stdout(), "tiny: extended by 15 trials, now 29 trials in 16 runs, 7 excluded\n");

    person.types("extend tiny").complains(
        2,
        "error: nothing is given to extend `tiny` by\n  help: values to add are given as --nodes 128 or --seeds 5, or by a spec that goes beyond the sweep",
    );
    person.types("extend tiny --nodes 0").ends(2).mentions("value 0 out of range for `nodes`");
    person
        .types("extend tiny --nodes 16 --name small")
        .ends(2)
        .mentions("`tiny` is named, and --name beside it");
    person.types("extend Tiny --nodes 16").ends(2);
    person.types("extend tony --nodes 16").ends(1).mentions("there is `tiny`");
    person.writes("nameless.toml", &TINY.replace("name = \"tiny\"\n", ""));
    person.types("extend nameless.toml").ends(2).mentions("does not say which sweep it extends");
    person.writes("other.toml", &TINY.replace("valid_size = 200", "valid_size = 300"));
    let refused = person.types("extend other.toml").ends(1);
    let refused =
        refused.mentions("only the grid of `tiny` can be extended").mentions("`valid_size` (200 / 300)");
    assert!(!refused.stderr().contains("nodes"), "{}", refused.stderr());
    person.types("cancel tiny").ends(0);
    person.types("extend tiny --nodes 32").ends(1).mentions("`tiny` is cancelled");
}
