//! `slalom train`: one point, step by step.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::person::{GRID, Person, TRAIN};

#[test]
fn train_prints_an_object_for_each_step_and_each_evaluation() {
    let person = Person::new();
    let json = |flags: &str| person.types(&format!("{TRAIN} --output json {flags}")).ends(0).json_lines();
    let lines = json("--steps 3 --eval-at 0,2..=3");
    let outline: Vec<String> = lines
        .iter()
        .map(|line| match (&line["step"], &line["steps_done"]) {
            (Value::Null, done) => format!("{done} steps done: {}", line["valid_perplexity"].is_f64()),
            (step, _) => format!("step {step}: {}", line["loss"].is_f64() && line["grad_norm"].is_f64()),
        })
        .collect();
    let expected = [
        "0 steps done: true",
        "step 0: true",
        "step 1: true",
        "2 steps done: true",
        "step 2: true",
        "3 steps done: true",
    ];
    assert_eq!(outline, expected);

    let once = json("--steps 3");
    assert_eq!(once.len(), 4, "without a flag there is one evaluation, after the last step");
    assert_eq!(once[3], lines[5]);
    let every = json("--steps 5 --eval-every 2");
    let evaluated: Vec<&Value> = every.iter().filter_map(|line| line.get("steps_done")).collect();
    assert_eq!(evaluated, [&json!(2), &json!(4)]);
}

/// Whoever reads the lines sees a step when it is done, and no half of one when the training is interrupted.
#[test]
fn train_prints_whole_lines_as_it_goes() {
    let person = Person::new();
    let mut child = person
        .command(&format!("{TRAIN} --steps 1000000000 --output json"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = String::new();
    lines.read_line(&mut said).expect("a line");
    child.kill().expect("it trains");
    lines.read_to_string(&mut said).expect("UTF-8");
    child.wait().expect("it ends");
    assert!(said.ends_with("}\n"), "{}", said.lines().last().unwrap_or_default());
}

#[test]
fn train_says_the_same_on_every_instruction_set_and_another_thing_for_another_seed() {
    let person = Person::new();
    let line = format!("{TRAIN} --steps 20 --output json");
    let portable = person.command(&line).env("SLALOM_ISA", "portable").output().expect("it starts");
    assert!(portable.status.success());
    assert_eq!(person.types(&line).ends(0).output.stdout, portable.stdout);
    assert_ne!(person.types(&format!("{line} --seed 1")).ends(0).output.stdout, portable.stdout);
}

#[test]
fn a_training_that_diverges_says_at_which_step_and_ends_well() {
    let person = Person::new();
    let line =
        format!("{TRAIN} --steps 50 --learning-rate 1e38 --clip-norm 1e38 --output json --eval-every 0");
    let lines = person.types(&line).ends(0).json_lines();
    let at = lines.last().expect("a line")["diverged_at"].as_u64().expect("it diverges");
    assert_eq!(lines.len() as u64, at + 1, "a line for each step before, and none after");
}

#[test]
fn final_weights_are_the_initial_weights_of_the_next() {
    let person = Person::new();
    person.types(&format!("{TRAIN} --steps 5 --final five.safetensors")).ends(0);
    let before = person.types(&format!("{TRAIN} --steps 5 --output json")).ends(0).json_lines();
    let again = "--steps 0 --init five.safetensors --final same.safetensors --output json";
    let after = person.types(&format!("{TRAIN} {again}")).ends(0).json_lines();
    assert_eq!(after[0]["valid_perplexity"], before[5]["valid_perplexity"]);
    let read = |name: &str| fs::read(person.path().join(name)).expect("written");
    assert_eq!(read("five.safetensors"), read("same.safetensors"));
    let other = TRAIN.replace("--nodes 8", "--nodes 9");
    person
        .types(&format!("{other} --steps 0 --init five.safetensors"))
        .ends(2)
        .mentions("`five.safetensors` does not hold the weights of a model of 9 nodes");
}

#[test]
fn bad_input_is_refused_by_what_and_where_before_anything_is_trained() {
    let person = Person::new();
    person.writes("typo.toml", "[grid]\nnodes = 8\nbatch_size = 4\nunroling = 3\n");
    person.writes("odd.txt", "abc\ndef");
    person.writes("short.txt", "abcdef");
    let cases = [
        (
            "run typo.toml".to_owned(),
            "error: unknown axis `unroling` in typo.toml:4:1\n  help: did you mean `unrollings`? axes are nodes, \
             batch_size, unrollings, epochs; seeds = N for the fifth",
        ),
        (
            "plan --nodes 0 --batch-size 4 --unrollings 3 --epochs 5".to_owned(),
            "error: value 0 out of range for `nodes` in --nodes 0\n  help: it goes from 1 to 16384",
        ),
        (
            format!("plan {GRID} --exclude 'nodes / seed > 1'"),
            "error: `nodes / seed > 1` has no value at nodes = 8, seed = 0 in --exclude 'nodes / seed > 1': \
             division by zero: 8 / 0\n  help: guard it: `&&` and `||` stop at the first answer, so \
             `seed > 0 && nodes / seed > 8` is safe",
        ),
        (
            format!("run {GRID} --exclude 'nodes == 8'"),
            "error: nothing to run: its only trial is excluded in --exclude 'nodes == 8'\n  \
             help: leave out an expression of `exclude`, or widen an axis",
        ),
        (
            format!("plan {GRID} --seeds 2 --exclude 'nodes == 8'"),
            "error: nothing to run: all 2 trials are excluded in --exclude 'nodes == 8'\n  \
             help: leave out an expression of `exclude`, or widen an axis",
        ),
        (
            "plan --nodes 8 --batch-size 4 --unrollings 3 --epochs 1000000000000 --steps-per-epoch 2"
                .to_owned(),
            "error: 1000000000000 epochs at 8/4/3 are 2^40 steps or more in --epochs 1000000000000\n  \
             help: take fewer `epochs`, or fewer `steps_per_epoch`",
        ),
        (
            format!("plan {GRID} --corpus odd.txt"),
            "error: the corpus `odd.txt` is not a text of the 27 symbols: byte 0x0a at offset 3 is neither a space \
             nor a-z (`normalize` maps any text to these)\n  help: `--normalize`, in a spec `normalize = true`, maps \
             it to a-z and space as text8 was made",
        ),
        (
            format!("plan {GRID} --corpus short.txt"),
            "error: the corpus has 6 characters and `valid_size` takes 1000: none are left to train on in --corpus \
             short.txt\n  help: lower `valid_size`, or take a longer corpus",
        ),
        (
            format!("plan {GRID} --learning-rate nan"),
            "error: value NaN out of range for `learning_rate` in --learning-rate NaN\n  \
             help: it is a finite number above 0",
        ),
        (
            format!("{TRAIN} --steps 5 --eval-at 6"),
            "error: --eval-at 6: the training ends after 5 steps\n  help: raise --steps, or validate earlier",
        ),
    ];
    for (line, complaint) in cases {
        person.types(&line).complains(2, complaint);
    }
    assert!(!person.path().join("slalom-out").exists(), "nothing was begun");
}
