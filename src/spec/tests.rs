//! Exact texts: what a person reads when a spec is wrong is an interface.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use proptest::prelude::*;

use super::flags::SpecArgs;
use super::*;
use slalom_common::corpus::source::Normalize;

/// The spec of `CLI.md`, without the parts that flags cannot say: name and policy.
const SLOPE: &str = r#"
corpus = "synthetic"

[grid]
nodes      = [8, 16, 32, 64]
batch_size = "16..=64:x2"
unrollings = "1..=16:5"
epochs     = [500, 1000, 2000]
seeds      = 3
exclude    = ["unrollings > nodes && batch_size == 16"]

[training]
learning_rate = 10.0
decay_rate = 0.1
decay_steps = 5000
clip_norm = 1.25
valid_size = 1000
steps_per_epoch = 1
eval_every = 100
"#;

/// The smallest spec, whose lines a wrong one follows or replaces.
const GRID: &str = "[grid]\nnodes = 8\nbatch_size = 16\nunrollings = 5\nepochs = 100\n";

/// Words that no flattened arguments may replace.
#[derive(clap::Parser)]
struct Typed {
    #[command(flatten)]
    spec: SpecArgs,
}

fn file(text: &str) -> Result<Spec, SpecError> {
    Spec::from_toml(Path::new("a.toml"), text)
}

fn typed(line: &str) -> Result<Spec, SpecError> {
    let words = std::iter::once("slalom").chain(line.split_whitespace());
    Spec::from_args(&Typed::try_parse_from(words).expect(line).spec)
}

/// What is wrong, where, and what to do, as a person reads them.
fn message(outcome: Result<Spec, SpecError>) -> String {
    let error = outcome.expect_err("the spec is wrong");
    match error.help() {
        Some(help) => format!("error: {error}\n  help: {help}"),
        None => format!("error: {error}"),
    }
}

fn values(axis: &str) -> Axis {
    axis.parse().expect(axis)
}

#[test]
fn a_spec_says_what_is_swept() {
    let spec = file(SLOPE).expect("a good spec");
    assert_eq!(spec.name, None);
    assert_eq!(spec.corpus, Source::Synthetic { seed: 1, chars: None });
    assert_eq!(spec.nodes, values("8,16,32,64"));
    assert_eq!(spec.batch_size, values("16,32,64"));
    assert_eq!(spec.unrollings, values("1,6,11,16"));
    assert_eq!(spec.epochs, values("500,1000,2000"));
    assert_eq!(spec.seeds, values("0,1,2"));
    let sources: Vec<&str> = spec.exclude.iter().map(Filter::source).collect();
    assert_eq!(sources, ["unrollings > nodes && batch_size == 16"]);
    assert_eq!(spec.policy, Policy::default());
    assert_eq!(spec.training, TrainingSettings::default());
    assert_eq!((spec.valid_size, spec.eval_every), (1000, 100));
    assert_eq!(spec.steps_per_epoch, StepsPerEpoch::Steps(1));
}

#[test]
fn a_file_and_flags_of_the_same_values_are_the_same_spec() {
    let words = "slalom --nodes 8,16,32,64 --batch-size 16..=64:x2 --unrollings 1..=16:5 --epochs 500,1000,2000 --seeds 3 --eval-every 100 --exclude";
    let words = words.split(' ').chain(["unrollings > nodes && batch_size == 16"]);
    let typed = Spec::from_args(&Typed::parse_from(words).spec).expect("good flags");
    let file = file(SLOPE).expect("a good spec");
    assert_ne!(typed.places, file.places);
    assert_eq!(Spec { places: Places::default(), ..typed }, Spec { places: Places::default(), ..file });
}

#[test]
fn each_flag_says_what_it_is() {
    let mut command = Typed::command();
    command.build();
    for flag in command.get_arguments() {
        assert!(flag.get_help().is_some(), "{}", flag.get_id());
    }
    let about = command.get_about().map(ToString::to_string);
    assert_eq!(about.as_deref(), Some("Words that no flattened arguments may replace"));
    command.debug_assert();
}

#[test]
fn each_setting_can_be_written_and_typed() {
    let text = format!(
        "{GRID}seeds = [7, \"10..=11\"]
        [training]
        learning_rate = 1\ndecay_rate = 0.5\ndecay_steps = 1_000\nclip_norm = 2e0
        valid_size = 500\nsteps_per_epoch = \"full-pass\"\neval_every = 0x10"
    );
    let written = file(&text).expect("a good spec");
    let flags = "--nodes 8 --batch-size 16 --unrollings 5 --epochs 100 --seeds 7,10..=11 --learning-rate 1 --decay-rate 0.5
        --decay-steps 1_000 --clip-norm 2 --valid-size 500 --steps-per-epoch full-pass --eval-every 16";
    let typed = typed(flags).expect("good flags");
    let settings =
        TrainingSettings { learning_rate: 1.0, decay_rate: 0.5, decay_steps: 1000, clip_norm: 2.0 };
    for spec in [written, typed] {
        assert_eq!(spec.training, settings);
        assert_eq!(spec.seeds, values("7,10,11"));
        assert_eq!((spec.valid_size, spec.eval_every), (500, 16));
        assert_eq!(spec.steps_per_epoch, StepsPerEpoch::FullPass);
    }
    let policy =
        file(&format!("{GRID}[policy]\nmax_attempts = 3\ncheckpoint_every = '1m30s'")).expect("good").policy;
    let expected = Policy { max_attempts: Some(3), checkpoint_every: Some(Duration::from_secs(90)) };
    assert_eq!(policy, expected);
}

#[test]
fn a_number_alone_counts_seeds_and_a_list_or_text_names_them() {
    let seeds = |line: &str| file(&format!("{GRID}{line}")).expect(line).seeds;
    assert_eq!(seeds(""), values("0"));
    assert_eq!(seeds("seeds = 2"), values("0,1"));
    assert_eq!(seeds("seeds = [2]"), values("2"));
    assert_eq!(seeds("seeds = '2'"), values("2"));
    assert_eq!(seeds("seeds = [18446744073709551615]"), values("18446744073709551615"));
    let typed = |flag: &str| {
        typed(&format!("--nodes 8 --batch-size 16 --unrollings 5 --epochs 100 {flag}")).expect(flag).seeds
    };
    assert_eq!(typed(""), values("0"));
    assert_eq!(typed("--seeds 3"), values("0..=2"));
    assert_eq!(typed("--seeds 3,5"), values("3,5"));
    assert_eq!(typed("--seeds 0..=2"), values("0..=2"));
}

#[test]
fn a_corpus_is_a_name_a_path_or_a_table() {
    let hash = "0a".repeat(32);
    let sha256 = hash.parse().expect("a hash");
    let path = |path: &str, chars, normalize| Source::File { path: path.into(), chars, normalize };
    let cases = [
        ("'synthetic'", "synthetic", Source::default()),
        ("'synthetic:7'", "synthetic:7", Source::Synthetic { seed: 7, chars: None }),
        (
            "{ synthetic = 7, chars = 1_000_000 }",
            "synthetic:7 --corpus-chars 1_000_000",
            Source::Synthetic { seed: 7, chars: Some(1_000_000) },
        ),
        ("'text8'", "text8", Source::Text8 { chars: None }),
        ("{ name = 'text8', chars = 10 }", "text8 --corpus-chars 10", Source::Text8 { chars: Some(10) }),
        (&format!("'sha256:{hash}'"), &format!("sha256:{hash}"), Source::Cached { sha256, chars: None }),
        ("'a/b.zip'", "a/b.zip", path("a/b.zip", None, Normalize::No)),
        ("{ path = 'b.txt', normalize = false }", "b.txt", path("b.txt", None, Normalize::No)),
        (
            "{ path = 'b.txt', chars = 9, normalize = true }",
            "b.txt --corpus-chars 9 --normalize",
            path("b.txt", Some(9), Normalize::Yes),
        ),
    ];
    for (in_file, in_flags, expected) in cases {
        let written = file(&format!("corpus = {in_file}\n{GRID}")).expect(in_file);
        assert_eq!(written.corpus, expected, "{in_file}");
        let grid = "--nodes 8 --batch-size 16 --unrollings 5 --epochs 100";
        let typed = typed(&format!("{grid} --corpus {in_flags}")).expect(in_flags);
        assert_eq!(typed.corpus, expected, "{in_flags}");
    }
}

#[test]
fn the_examples_are_good_specs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        let spec = Spec::load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            spec.name.as_ref().map(SweepName::as_str),
            path.file_stem().and_then(|stem| stem.to_str())
        );
        names.extend(spec.name);
    }
    names.sort();
    assert_eq!(names.iter().map(SweepName::as_str).collect::<Vec<_>>(), ["quickstart", "ski-slope", "study"]);
    let example = file(Spec::EXAMPLE).expect("the example is a good spec");
    assert_eq!(example.nodes, values("8,16,32,64"));
}

#[test]
fn a_wrong_key_is_refused_with_the_nearest_known_one() {
    let screen = "error: unknown axis `unroling` in a.toml:5:1\n  help: did you mean `unrollings`? axes are nodes, batch_size, unrollings, epochs; seeds = N for the fifth";
    assert_eq!(message(file("[grid]\nnodes = 8\nbatch_size = 16\nepochs = 5\nunroling = 5\n")), screen);
    assert_eq!(
        message(file(&format!("{GRID}[grids]\nnodes = 9"))),
        "error: unknown key `grids` in a.toml:6:2\n  help: did you mean `grid`? the keys of a spec are name, corpus, grid, policy, training"
    );
    assert_eq!(
        message(file(&format!("nodes = 8\n{GRID}"))),
        "error: unknown key `nodes` in a.toml:1:1\n  help: `nodes` belongs in [grid]"
    );
    assert_eq!(
        message(file(&format!("{GRID}[training]\nmomentum = 0.9"))),
        "error: unknown key `momentum` in a.toml:7:1\n  help: the keys of `training` are learning_rate, decay_rate, decay_steps, clip_norm, valid_size, steps_per_epoch, eval_every"
    );
    assert_eq!(
        message(file(&format!("{GRID}[policy]\nmax_attemps = 3"))),
        "error: unknown key `max_attemps` in a.toml:7:1\n  help: did you mean `max_attempts`? the keys of `policy` are max_attempts, checkpoint_every"
    );
    assert_eq!(
        message(file(&format!("corpus = {{ path = 'a', char = 5 }}\n{GRID}"))),
        "error: unknown key `char` in a.toml:1:24\n  help: did you mean `chars`? the keys of `corpus` are synthetic, path, name, chars, normalize"
    );
}

/// Each case replaces or follows lines of [`GRID`]; places count from its first line.
#[test]
fn a_wrong_value_is_refused_at_its_place() {
    let ranges =
        "\n  help: values are whole numbers or ranges: 1..=4, by steps 1..=16:5, by factors 8..=64:x2";
    let axis = |value: &str| message(file(&GRID.replace("nodes = 8", &format!("nodes = {value}"))));
    let cases = [
        ("[8, 16, 8]", "value 8 twice on axis `nodes` in a.toml:2:17\n  help: leave one out; a range holds its ends, too".to_owned()),
        ("[8, '1..=9']", "value 8 twice on axis `nodes` in a.toml:2:13\n  help: leave one out; a range holds its ends, too".to_owned()),
        ("[]", "no values on axis `nodes` in a.toml:2:9\n  help: give one or more: 8, or 8,16, or 8..=64:x2".to_owned()),
        ("''", "no values on axis `nodes` in a.toml:2:9\n  help: give one or more: 8, or 8,16, or 8..=64:x2".to_owned()),
        ("'8..16'", format!("not a whole number: `8..16` on axis `nodes` in a.toml:2:9{ranges}")),
        (
            "[1, '9..=3']",
            "empty range `9..=3` on axis `nodes` in a.toml:2:13\n  help: a range goes from its smaller to its larger end".to_owned(),
        ),
        ("'1..=8:0'", "step 0 in `1..=8:0` on axis `nodes` in a.toml:2:9\n  help: a step is 1 or more".to_owned()),
        ("0", "value 0 out of range for `nodes` in a.toml:2:9\n  help: it goes from 1 to 16384".to_owned()),
        ("[8, -5]", "value -5 out of range for `nodes` in a.toml:2:13\n  help: it goes from 1 to 16384".to_owned()),
        ("'8..=20000:1000'", "value 19008 out of range for `nodes` in a.toml:2:9\n  help: it goes from 1 to 16384".to_owned()),
        (
            "99999999999999999999",
            "value 99999999999999999999 out of range for `nodes` in a.toml:2:9\n  help: it goes from 1 to 16384".to_owned(),
        ),
        (
            "8.5",
            "`nodes` is a number with a fraction, not a whole number, a list or a range in a.toml:2:9\n  help: values are 8, [8, 16], \"1..=4\", \"1..=16:5\" (by steps) or \"8..=64:x2\" (by factors)".to_owned(),
        ),
        ("[8, 1.5]", "`nodes` is a number with a fraction, not a whole number or a range in a.toml:2:13\n  help: values are 8, [8, 16], \"1..=4\", \"1..=16:5\" (by steps) or \"8..=64:x2\" (by factors)".to_owned()),
        ("[8, [9]]", "`nodes` is a list, not a whole number or a range in a.toml:2:13\n  help: values are 8, [8, 16], \"1..=4\", \"1..=16:5\" (by steps) or \"8..=64:x2\" (by factors)".to_owned()),
    ];
    for (value, expected) in cases {
        assert_eq!(axis(value), format!("error: {expected}"), "nodes = {value}");
    }
    let after = |lines: &str| message(file(&format!("{GRID}{lines}")));
    let cases = [
        ("seeds = 0", "value 0 out of range for `seeds` in a.toml:6:9\n  help: it goes from 1 to 10000000"),
        ("seeds = -1", "value -1 out of range for `seeds` in a.toml:6:9\n  help: it goes from 1 to 10000000"),
        (
            "exclude = 'nodes > 8'",
            "`exclude` is a string, not a list of expressions in a.toml:6:11\n  help: such as exclude = [\"unrollings > nodes\"]",
        ),
        (
            "exclude = [true]",
            "`exclude` is true or false, not an expression in a.toml:6:12\n  help: such as exclude = [\"unrollings > nodes\"]",
        ),
        (
            "exclude = ['nodes > 8', 'nodes > 1 && unrolings > 8']",
            "unknown name `unrolings` in a.toml:6:39\n  help: did you mean `unrollings`? the names are nodes, batch_size, unrollings, epochs, seed",
        ),
        (
            "exclude = ['nodes']",
            "expression is a number, not true or false in a.toml:6:13\n  help: compare it with something, as in `unrollings > nodes`",
        ),
        (
            "[training]\nclip_norm = nan",
            "value NaN out of range for `clip_norm` in a.toml:7:13\n  help: it is a finite number above 0",
        ),
        (
            "[training]\ndecay_rate = -1",
            "value -1 out of range for `decay_rate` in a.toml:7:14\n  help: it is a finite number above 0",
        ),
        (
            "[training]\ndecay_steps = 0",
            "value 0 out of range for `decay_steps` in a.toml:7:15\n  help: it goes from 1 to 2^40 - 1",
        ),
        (
            "[training]\nlearning_rate = '10'",
            "`learning_rate` is a string, not a number in a.toml:7:17\n  help: examples/ski-slope.toml shows every key with a value of its type",
        ),
        (
            "[training]\nvalid_size = 0",
            "value 0 out of range for `valid_size` in a.toml:7:14\n  help: it goes from 1 to 18446744073709551615",
        ),
        (
            "[training]\neval_every = 1.0",
            "`eval_every` is a number with a fraction, not a whole number in a.toml:7:14\n  help: examples/ski-slope.toml shows every key with a value of its type",
        ),
        (
            "[training]\nsteps_per_epoch = 'fullpass'",
            "`steps_per_epoch` is `fullpass`, neither a whole number nor `full-pass` in a.toml:7:19\n  help: 1, the default, counts `epochs` in steps; \"full-pass\" in passes over the text",
        ),
        (
            "[policy]\nmax_attempts = 0",
            "value 0 out of range for `max_attempts` in a.toml:7:16\n  help: it goes from 1 to 4294967295",
        ),
        (
            "[policy]\ncheckpoint_every = '60'",
            "`checkpoint_every` is `60`, not a duration from 1ms to a year in a.toml:7:20\n  help: durations are such as 90s, 5m or 1h30m",
        ),
        (
            "[policy]\ncheckpoint_every = '0s'",
            "`checkpoint_every` is `0s`, not a duration from 1ms to a year in a.toml:7:20\n  help: durations are such as 90s, 5m or 1h30m",
        ),
        (
            "nodes = 9",
            "not TOML: duplicate key in a.toml:6:1\n  help: `slalom run` alone prints a spec to start from",
        ),
        (
            "seeds = ",
            "not TOML: string values must be quoted, expected literal string in a.toml:6:9\n  help: `slalom run` alone prints a spec to start from",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(after(lines), format!("error: {expected}"), "{lines}");
    }
}

#[test]
fn what_stands_above_the_grid_is_refused_at_its_place() {
    let before = |line: &str| message(file(&format!("{line}\n{GRID}")));
    let corpus_keys = "\n  help: it has one of `synthetic` (a seed), `path` and `name`, and perhaps `chars`";
    let cases = [
        (
            "name = 'Ski Slope'",
            "`Ski Slope` is not a name for a sweep in a.toml:1:8\n  help: a name is 1 to 63 of a-z, 0-9, `.`, `_` and `-`, the first a letter or a digit".to_owned(),
        ),
        ("name = 5", "`name` is a whole number, not a string in a.toml:1:8\n  help: examples/ski-slope.toml shows every key with a value of its type".to_owned()),
        ("corpus = 5", "`corpus` is a whole number, not a name, a path or a table in a.toml:1:10\n  help: examples/ski-slope.toml shows every key with a value of its type".to_owned()),
        ("corpus = {}", format!("a corpus table with none of its keys in a.toml:1:10{corpus_keys}")),
        (
            "corpus = { path = 'a', synthetic = 7 }",
            format!("a corpus table with synthetic and path in a.toml:1:10{corpus_keys}"),
        ),
        (
            "corpus = { name = 'a.txt' }",
            "`a.txt` is not the name of a corpus in a.toml:1:19\n  help: names are synthetic, synthetic:SEED, text8 and sha256:HEX; a file goes by `path`".to_owned(),
        ),
        (
            "corpus = { synthetic = 7, normalize = true }",
            "`normalize` is for files: `synthetic:7` is in the 27 symbols as it is in a.toml:1:39\n  help: leave `normalize` out".to_owned(),
        ),
        ("corpus = { path = 'a', chars = 0 }", "value 0 out of range for `chars` in a.toml:1:32\n  help: it goes from 1 to 18446744073709551615".to_owned()),
        ("policy = 5", "`policy` is a whole number, not a table in a.toml:1:10\n  help: examples/ski-slope.toml shows every key with a value of its type".to_owned()),
    ];
    for (line, expected) in cases {
        assert_eq!(before(line), format!("error: {expected}"), "{line}");
    }
}

#[test]
fn a_missing_axis_is_asked_for() {
    assert_eq!(
        message(file("name = 'a'\n[grid]\nnodes = 8\nbatch_size = 16\nepochs = 5")),
        "error: missing axis `unrollings` in a.toml:2:1\n  help: add `unrollings = [..]` to [grid]"
    );
    assert_eq!(
        message(file("")),
        "error: missing axis `nodes` in a.toml:1:1\n  help: add `nodes = [..]` to [grid]"
    );
    assert_eq!(
        message(typed("--nodes 8 --unrollings 5 --epochs 5")),
        "error: missing axis `batch_size`\n  help: add --batch-size, with values such as 8,16 or 8..=64:x2"
    );
}

#[test]
fn more_runs_than_a_sweep_may_have_are_refused() {
    let text = "[grid]\nnodes = '1..=1000'\nbatch_size = '1..=1000'\nunrollings = '1..=11'\nepochs = 1";
    assert_eq!(
        message(file(text)),
        "error: 11000000 runs, more than 10000000 in a.toml:1:1\n  help: leave out values or seeds, or make several sweeps of it"
    );
    assert!(file(&text.replace("11'", "10'")).is_ok());
}

#[test]
fn a_wrong_flag_is_refused_by_its_name() {
    let grid = "--nodes 8 --batch-size 16 --unrollings 5 --epochs 100";
    let cases = [
        ("--seeds 0", "value 0 out of range for `seeds` in --seeds 0\n  help: it goes from 1 to 10000000"),
        (
            "--seeds 3,3",
            "value 3 twice on axis `seeds` in --seeds 3,3\n  help: leave one out; a range holds its ends, too",
        ),
        (
            "--exclude nods>5",
            "unknown name `nods` in --exclude 'nods>5'\n  help: did you mean `nodes`? the names are nodes, batch_size, unrollings, epochs, seed",
        ),
        (
            "--learning-rate -1",
            "value -1 out of range for `learning_rate` in --learning-rate -1\n  help: it is a finite number above 0",
        ),
        (
            "--decay-rate inf",
            "value inf out of range for `decay_rate` in --decay-rate inf\n  help: it is a finite number above 0",
        ),
        (
            "--valid-size 0",
            "value 0 out of range for `valid_size` in --valid-size 0\n  help: it goes from 1 to 18446744073709551615",
        ),
        (
            "--steps-per-epoch half",
            "`steps_per_epoch` is `half`, neither a whole number nor `full-pass` in --steps-per-epoch half\n  help: 1, the default, counts `epochs` in steps; \"full-pass\" in passes over the text",
        ),
        (
            "--corpus-chars 0",
            "value 0 out of range for `corpus_chars` in --corpus-chars 0\n  help: it goes from 1 to 18446744073709551615",
        ),
        (
            "--corpus text8 --normalize",
            "`normalize` is for files: `text8` is in the 27 symbols as it is in --normalize\n  help: leave `normalize` out",
        ),
        (
            "--name Slope",
            "`Slope` is not a name for a sweep in --name Slope\n  help: a name is 1 to 63 of a-z, 0-9, `.`, `_` and `-`, the first a letter or a digit",
        ),
    ];
    for (flags, expected) in cases {
        assert_eq!(message(typed(&format!("{grid} {flags}"))), format!("error: {expected}"), "{flags}");
    }
    assert_eq!(
        message(typed("--nodes -8 --batch-size 16 --unrollings 5 --epochs 100")),
        "error: not a whole number: `-8` on axis `nodes` in --nodes -8\n  help: values are whole numbers or ranges: 1..=4, by steps 1..=16:5, by factors 8..=64:x2"
    );
}

#[test]
fn a_spec_file_goes_with_a_name_and_no_other_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("b.toml");
    fs::write(&path, format!("name = 'mine'\n{GRID}")).expect("the folder is writable");
    let path = path.display();
    let named = typed(&format!("{path} --name yours")).expect("a file and a name");
    assert_eq!(named.name, Some("yours".parse().expect("a name")));
    assert_eq!(
        message(typed(&format!("{path} --nodes 8 --corpus text8 --normalize"))),
        format!(
            "error: --nodes, --corpus, --normalize together with the spec `{path}`\n  help: change the spec, or leave it out and give the whole sweep by flags"
        )
    );
    for nothing in ["", "--name yours"] {
        let error = typed(nothing).expect_err("nothing is given");
        assert!(matches!(*error.fault, Fault::NothingGiven), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_a_spec_is_refused_by_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let absent = folder.path().join("absent.toml");
    let error = Spec::load(&absent).expect_err("no such file");
    assert_eq!(error.to_string(), format!("cannot read the spec `{}`", absent.display()));
    let cause = std::error::Error::source(&error).expect("a cause");
    assert_eq!(cause.to_string(), "No such file or directory (os error 2)");
    assert!(matches!(*Spec::load(folder.path()).expect_err("a folder").fault, Fault::Unreadable { .. }));

    let write = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("the folder is writable");
        path
    };
    let latin = write("latin.toml", b"# ok \xc3\xa9\nname = '\xe9'\n");
    assert_eq!(
        message(Spec::load(&latin)),
        format!("error: bytes that are not UTF-8 in {}:2:9\n  help: save the spec as UTF-8", latin.display())
    );
    let large = write("large.toml", &vec![b'\n'; (64 << 10) + 1]);
    assert_eq!(
        message(Spec::load(&large)),
        format!(
            "error: the spec `{}` is larger than 65536 bytes\n  help: a spec is a TOML file; `slalom run` alone \
             prints one to start from",
            large.display()
        )
    );
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        message(file(&format!("corpus = {{ path = 'größe', size = 5 }}\n{GRID}")))
            .lines()
            .next()
            .expect("a line"),
        "error: unknown key `size` in a.toml:1:28"
    );
}

#[test]
fn places_are_kept_for_what_only_the_corpus_shows() {
    let spec = file(SLOPE).expect("a good spec");
    let at = |line, column| Some(Place::File { path: "a.toml".into(), line, column });
    assert_eq!(spec.places.of("batch_size").cloned(), at(6, 14));
    assert_eq!(spec.places.of("grid").cloned(), at(4, 1));
    assert_eq!(spec.places.of("max_attempts"), None);
    assert_eq!(spec.places.of_exclude(0).cloned(), at(10, 15));
    let flags =
        typed("--nodes 8 --batch-size 16 --unrollings 5 --epochs 100 --exclude seed/0>1").expect("good");
    let batch_size = flags.places.of("batch_size").expect("given");
    assert_eq!(batch_size.to_string(), "--batch-size 16");
    assert_eq!(flags.places.of_exclude(0).expect("given").to_string(), "--exclude 'seed/0>1'");
}

/// The deepest that a file of the largest size can nest, on half the stack of a test's thread.
#[test]
fn nesting_within_the_largest_file_needs_little_stack() {
    let fill = |unit: &str| unit.repeat((64 << 10) / unit.len());
    let texts = [
        format!("{} = 1", fill("a.").trim_end_matches('.')),
        format!("[{}]", fill("a.").trim_end_matches('.')),
        format!("a = {}", fill("[")),
        format!("a = {}", fill("{a=")),
        format!("a = {{ {} = 1 }}", fill("a.").trim_end_matches('.')),
        fill("[[a.b]]\n"),
    ];
    let half_a_stack = std::thread::Builder::new().stack_size(1 << 20);
    let refuse_all = move || texts.iter().filter(|text| file(text).is_err()).count();
    assert_eq!(half_a_stack.spawn(refuse_all).expect("a thread").join().expect("no panic"), 6);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(\\PC|\n){0,200}") {
        // The outcome is free; the property is that there is one.
        let _ = file(&text).map_err(|error| (error.to_string(), error.help()));
    }

    #[test]
    fn no_change_of_a_good_spec_panics(at in 0..SLOPE.len(), until in 0..20_usize, word in "[\"'\\[\\]{}=.,:x0-9 \n-]{0,4}|é|nan|1e999") {
        let mut text = SLOPE.to_owned();
        text.replace_range(at..(at + until).min(SLOPE.len()), &word);
        if let Err(error) = file(&text) {
            prop_assert!(!error.to_string().is_empty());
            let _ = error.help();
        }
    }

    #[test]
    fn no_value_of_a_flag_panics(nodes in "\\PC{0,12}", exclude in "\\PC{0,30}", corpus in "\\PC{0,12}") {
        let grid = super::flags::GridArgs {
            nodes: Some(nodes),
            batch_size: Some("1".to_owned()),
            exclude: vec![exclude],
            ..Default::default()
        };
        let args = SpecArgs {
            grid,
            corpus: super::flags::CorpusArgs { corpus: Some(corpus), ..Default::default() },
            ..Default::default()
        };
        let _ = Spec::from_args(&args).map_err(|error| (error.to_string(), error.help()));
    }
}
