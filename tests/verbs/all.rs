//! What a person types, where no other process is needed: words, streams and exit codes. Sweeps over several processes
//! are `tests/system`'s.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Somebody with a folder of their own and no variable of the tester's.
struct Person {
    folder: TempDir,
}

/// What one command said and how it ended.
struct Said {
    line: String,
    output: Output,
}

impl Person {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slalom"));
        command
            .args(words(line))
            .current_dir(self.path())
            .env_clear()
            .env("SLALOM_CACHE", self.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    fn types(&self, line: &str) -> Said {
        let output = self.command(line).output().expect("the program starts");
        Said { line: line.to_owned(), output }
    }

    fn writes(&self, name: &str, content: &str) {
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
    fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).expect("UTF-8")
    }

    fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).expect("UTF-8")
    }

    /// The exit code is this; else all is shown.
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        assert_eq!(self.output.status.code(), Some(code), "{}\n--\n{stdout}\n--\n{stderr}", self.line);
        self
    }

    /// Standard error ends with these lines, and nothing stands on standard output.
    #[track_caller]
    fn complains(self, code: i32, lines: &str) {
        let said = self.ends(code);
        assert!(said.stderr().ends_with(&format!("{lines}\n")), "{}\n--\n{}", said.line, said.stderr());
        assert_eq!(said.stdout(), "", "{}", said.line);
    }

    /// Standard error holds these words.
    #[track_caller]
    fn mentions(self, words: &str) -> Self {
        assert!(self.stderr().contains(words), "{}\n--\n{}", self.line, self.stderr());
        self
    }

    /// Standard error is `error: ...` and `  help: ...`, a line each.
    fn is_an_error_with_help(&self) -> bool {
        let stderr = self.stderr();
        let lines: Vec<&str> = stderr.lines().collect();
        matches!(lines[..], [error, help] if error.starts_with("error: ") && help.starts_with("  help: "))
    }

    fn json_lines(&self) -> Vec<Value> {
        self.stdout().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

const TRAIN: &str = "train --nodes 8 --batch-size 4 --unrollings 3 --corpus-chars 5000";

const GRID: &str = "--nodes 8 --batch-size 4 --unrollings 3 --epochs 5";

const TINY: &str = "\
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

/// Small, so that it cannot rot: one look at the smallest shapes.
#[test]
fn bench_tells_of_each_shape_its_time_and_its_share_of_the_peak() {
    let person = Person::new();
    let said = person.types("bench --shapes 8,8,5 16/4/3 --validations 8 --seconds 0 --output json").ends(0);
    let lines = said.json_lines();
    let kinds: Vec<&Value> = lines.iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["core", "step", "step", "validation"]);
    let above_zero = |line: &Value, fields: &[&str]| {
        for field in fields {
            assert!(line[field].as_f64().is_some_and(|value| value > 0.0), "{field} in {line}");
        }
    };
    assert!(lines[0]["isa"].is_string());
    above_zero(&lines[0], &["peak_gflops"]);
    for (line, shape) in lines[1..3].iter().zip([[8, 8, 5], [16, 4, 3]]) {
        let [nodes, batch_size, unrollings] = shape.map(f64::from);
        assert_eq!(
            ["nodes", "batch_size", "unrollings"].map(|size| &line[size]),
            shape.map(|size| json!(size)).each_ref()
        );
        above_zero(line, &["median_us", "characters_per_second", "gflops", "share_of_peak", "peak_gflops"]);
        let seconds = line["median_us"].as_f64().expect("a number") / 1e6;
        let flops = unrollings * batch_size * (24.0 * nodes * nodes + 162.0 * nodes);
        let counted = line["gflops"].as_f64().expect("a number") * 1e9 * seconds;
        assert!((counted / flops - 1.0).abs() < 1e-9, "{counted} FLOP in {line}");
    }
    assert_eq!(lines[3]["nodes"], 8);
    above_zero(&lines[3], &["median_us", "products_us", "over_products", "products_gflops"]);

    let table = person.types("bench --shapes 8,8,5 --seconds 0").ends(0).stdout();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "a head, a blank line, the headings and a row:\n{table}");
    assert!(lines[0].contains(" GFLOP/s at its peak") && lines[3].starts_with("8\t8\t5\t"), "{table}");
    let only = person.types("bench --validations 16 --seconds 0 --output quiet").ends(0);
    assert_eq!(only.stdout(), "");
}

#[test]
fn bench_fits_what_a_core_takes_to_what_it_timed() {
    let person = Person::new();
    let lines = person.types("bench --fit --seconds 0.2 --output json").ends(0).json_lines();
    let (cost, probes) = lines.split_last().expect("lines");
    let term = |name: &str| cost[name].as_f64().expect("a number");
    assert_eq!(cost["kind"], "cost");
    assert!(!probes.is_empty() && probes.iter().all(|probe| probe["kind"] == "probe"), "{lines:?}");
    for probe in probes.iter().filter(|probe| !probe["batch_size"].is_null()) {
        let size = |name: &str| probe[name].as_f64().expect("a number");
        let (nodes, rows) = (size("nodes"), size("batch_size") * size("unrollings"));
        let columns = (nodes / 16.0).ceil() * 16.0;
        let seconds = term("step")
            + term("time_step") * size("unrollings")
            + term("activation") * rows * columns
            + term("product") * rows * nodes * columns
            + term("update") * nodes * columns;
        assert!((seconds * 1e6 / size("fitted_us") - 1.0).abs() < 1e-9, "{seconds} s for {probe}");
    }
    let table = person.types("bench --fit --seconds 0.2").ends(0).stdout();
    assert!(table.contains("REFERENCE") && table.contains("\n    character_product: "), "{table}");
}

#[test]
fn corpus_info_says_what_no_model_can_beat() {
    let person = Person::new();
    let info = &person.types("corpus info synthetic --output json").ends(0).json_lines()[0];
    assert_eq!(
        info["sha256"],
        json!("41ba8a70a5ba9cd312ad5c3c5d611672260107cb31d25f1753cc75703f97aa7d"),
        "docs/synthetic.md"
    );
    assert_eq!(info["chars"], json!(1_000_000));
    for (key, stated) in
        [("entropy_rate", 0.7109), ("perplexity_floor", 2.0358), ("oracle_perplexity", 2.0023)]
    {
        // docs/synthetic.md states four places.
        assert!((info[key].as_f64().expect("known") - stated).abs() < 0.000_05, "{key} in {info}");
    }
    person.writes("plain.txt", "some plain text");
    let info = person.types("corpus info plain.txt --valid-size 4").ends(0).stdout();
    assert!(info.contains("chars     15, of which the first 4 validate\n"), "{info}");
    assert!(!info.contains("entropy"), "{info}");
    assert_eq!(person.types("corpus list --output json").ends(0).stdout(), "[]\n", "looking caches nothing");
}

/// Answers one request on loopback with this head and so many zeros, then hangs up; returns the address to ask.
fn serve_once(head: String, zeros: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/text8.zip", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("one connection");
        let mut lines = BufReader::new(peer.try_clone().expect("a second handle")).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        // Who asked may have hung up already: that is what an announcement of another size is for.
        let _ = peer.write_all(head.as_bytes());
        let _ = io::copy(&mut io::repeat(0).take(zeros), &mut peer);
    });
    url
}

/// What is served is never the real archive: that one's way into the cache is `slalom_common::corpus::text8`'s to test.
#[test]
fn what_is_not_text8_is_refused_in_words_and_leaves_the_cache_as_it_was() {
    const TEXT8: u64 = 31_344_016;
    let announced =
        |bytes: u64| format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n");
    let absent = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned();
    let cases = [
        (announced(5000), 5000, "` gives 5000 bytes or more: the archive has 31344016\n"),
        (announced(TEXT8), 5000, "` was cut off after 5000 of 31344016 bytes: "),
        (announced(TEXT8), TEXT8, "` gives an archive of SHA-256 "),
        (absent, 0, "` was answered by HTTP status 404\n"),
    ];
    let person = Person::new();
    for (head, zeros, words) in cases {
        let url = serve_once(head, zeros);
        let line = format!("corpus fetch text8 --url {url}");
        // Nobody listens on port 1: a proxy is not asked for what is on this machine.
        let output =
            person.command(&line).env("http_proxy", "http://127.0.0.1:1").output().expect("it starts");
        Said { line, output }
            .ends(1)
            .mentions(&format!("error: `{url}"))
            .mentions(words)
            .mentions("\n  help: the cache is as it was; ");
        assert_eq!(fs::read_dir(person.path().join("cache")).expect("it was made").count(), 0, "{words}");
    }
    assert_eq!(person.types("corpus list --output quiet").ends(0).stdout(), "");
    person.types(&format!("plan {GRID} --corpus text8")).ends(1).mentions("text8 is not in the cache");
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
