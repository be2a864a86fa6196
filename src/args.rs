//! Subcommands and flags as types. Nothing is opened or computed here, and nothing else reads the environment for
//! `slalom` (the two services have their own `config.rs`).
//!
//! Flags that say where and how have a variable, flags that say what have none: a forgotten one must not change science.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use slalom_common::answer::RunState;
use slalom_common::axis::{Axis, whole_number};
use slalom_common::duration;
use slalom_common::filter::{Filter, FilterError, Name};
use slalom_common::id::{SweepName, WorkerName};
use slalom_common::log::args::LogArgs;
use slalom_common::run::Shape;
use slalom_common::wire::SLOTS_MAX;
use slalom_coordinator::config::CoordinatorArgs;
use slalom_worker::config::{WorkerArgs, coordinator_url};
use slalom_worker::kernels::IsaName;

use crate::failure::{Shown, refused_flag};
use crate::help;
use crate::output::Mode;
use crate::spec::flags::{CorpusArgs, GridArgs, SpecArgs, TrainingArgs};

/// How do the sizes of an LSTM move its validation perplexity? Trains every combination and shows the slope.
#[derive(Parser)]
#[command(name = "slalom", version, disable_help_subcommand = true, subcommand_value_name = "VERB")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// How results are printed; all else goes to standard error
    #[arg(long, value_name = "MODE", global = true, value_enum, default_value_t = Mode::Table, help_heading = "Output")]
    pub(crate) output: Mode,
}

impl Cli {
    /// What was typed. Help and version end the process here, as clap prints them.
    ///
    /// # Errors
    /// What cannot be meant, and why.
    pub(crate) fn parse() -> Result<Self, Shown> {
        let parsed = command().try_get_matches().and_then(|matches| Self::from_arg_matches(&matches));
        parsed.map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => {
                let typed: Vec<String> =
                    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
                refused(&error, &typed)
            }
        })
    }
}

/// A usage error as it is shown, with the variable that a value which nobody typed came from.
fn refused(error: &clap::Error, typed: &[String]) -> Shown {
    let mut command = command();
    command.build();
    let verb = typed.first().filter(|word| command.find_subcommand(word).is_some());
    let mut shown =
        Shown::of_usage(error, &verb.map_or_else(|| "slalom".to_owned(), |verb| format!("slalom {verb}")));
    let flag = refused_flag(error).filter(|flag| {
        let long = format!("--{flag}");
        !typed.iter().any(|word| word.split('=').next() == Some(long.as_str()))
    });
    if let (Some(flag), Some(verb)) = (flag, verb.and_then(|verb| command.find_subcommand(verb)))
        && let Some(arg) = verb.get_arguments().find(|arg| arg.get_long() == Some(flag))
        && let Some(variable) = arg.get_env()
    {
        shown.what += &format!(" in the variable {}", variable.to_string_lossy());
    }
    shown
}

/// The whole grammar, its verbs in groups.
fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    let template = format!(
        "{{about}}\n\n{{usage-heading}} slalom VERB [OPTIONS]\n\n{}Options:\n{{options}}\n\n{}\n",
        help::groups(&command),
        help::FIRST_STEPS
    );
    Cli::command().help_template(template)
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run a sweep here, now; again: it goes on where it stopped
    #[command(after_help = help::RUN)]
    Run(RunArgs),

    /// See how large a sweep is and how long it takes, before it starts
    #[command(after_help = help::PLAN)]
    Plan(PlanArgs),

    /// Train one point, step by step
    #[command(after_help = help::TRAIN)]
    Train(Box<TrainArgs>),

    /// Hand a sweep to a coordinator
    #[command(after_help = help::SUBMIT)]
    Submit(SubmitArgs),

    /// Add values to the axes of a sweep that is there; only what is new is trained
    #[command(after_help = help::EXTEND)]
    Extend(ExtendArgs),

    /// How sweeps stand: their runs by state, the best so far, the time left
    #[command(after_help = help::STATUS)]
    Status(SweepArgs),

    /// Wait until a sweep is done
    #[command(after_help = help::WAIT)]
    Wait(SweepArgs),

    /// The runs of a sweep, with the reason of a failure
    #[command(after_help = help::RUNS)]
    Runs(RunsArgs),

    /// The results of a sweep: its table, or a file of every trial
    #[command(after_help = help::RESULTS)]
    Results(ResultsArgs),

    /// Begin no more runs of a sweep until it is resumed; what runs goes on
    #[command(after_help = help::PAUSE)]
    Pause(SweepArgs),

    /// Go on with a sweep that is paused or stopping, or give a paused worker runs again
    #[command(after_help = help::RESUME)]
    Resume(ResumeArgs),

    /// Finish the runs of a sweep that are begun, then pause it
    #[command(after_help = help::STOP)]
    Stop(SweepArgs),

    /// End a sweep now; what is done stays
    #[command(after_help = help::CANCEL)]
    Cancel(SweepArgs),

    /// Have a worker store what it trains, hand it back and leave
    #[command(after_help = help::DRAIN)]
    Drain(DrainArgs),

    /// Give the failed runs of a sweep fresh attempts
    #[command(after_help = help::RETRY)]
    Retry(RetryArgs),

    /// The workers of a coordinator
    #[command(after_help = help::WORKERS)]
    Workers(WorkersArgs),

    /// Texts to train on: list, fetch, info
    #[command(subcommand)]
    Corpus(CorpusVerb),

    /// How fast a core of this machine trains, shape by shape, against its own peak
    #[command(after_help = help::BENCH)]
    Bench(BenchArgs),

    /// Serve as the coordinator of workers on several machines
    #[command(after_help = help::COORDINATOR)]
    Coordinator(Box<CoordinatorArgs>),

    /// Serve as a worker of a coordinator
    #[command(after_help = help::WORKER)]
    Worker(Box<WorkerArgs>),
}

#[derive(Subcommand)]
pub(crate) enum CorpusVerb {
    /// The texts in the cache
    #[command(after_help = help::CORPUS_LIST)]
    List(CorpusListArgs),

    /// Download text8, check it and keep it in the cache
    #[command(after_help = help::CORPUS_FETCH)]
    Fetch(CorpusFetchArgs),

    /// What a corpus is: length, hash, first characters; of synthetic also what no model can beat
    #[command(after_help = help::CORPUS_INFO)]
    Info(CorpusInfoArgs),
}

#[derive(Args)]
#[command(mut_arg("log_dir", |flag| flag.help("Folder for log files, one a day [default: .store in DIR]")))]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,

    #[command(flatten)]
    pub(crate) dir: DirArgs,

    /// Runs to train at a time [default: the cores that this process may use]
    #[arg(long, value_name = "N", env = "SLALOM_SLOTS", value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MAX)))]
    pub(crate) slots: Option<u32>,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,

    /// The instruction set to train with: avx512, avx2, neon or portable [default: the fastest here]
    #[arg(long, value_name = "ISA", env = "SLALOM_ISA", hide = true)]
    pub(crate) isa: Option<IsaName>,

    /// Training time between two checkpoints of a run; the spec's beats it
    #[arg(long, value_name = "DURATION", env = "SLALOM_CHECKPOINT_EVERY", default_value = "60s",
          value_parser = duration::parse)]
    pub(crate) checkpoint_every: Duration,

    #[command(flatten, next_help_heading = "Log")]
    pub(crate) log: LogArgs,
}

#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,

    #[command(flatten)]
    pub(crate) at: WhereArgs,

    /// Runs that this machine would train at a time [default: the cores that this process may use]
    #[arg(long, value_name = "N", env = "SLALOM_SLOTS", value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MAX)))]
    pub(crate) slots: Option<u32>,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,

    /// The instruction set to measure [default: the fastest here]
    #[arg(long, value_name = "ISA", env = "SLALOM_ISA", hide = true)]
    pub(crate) isa: Option<IsaName>,
}

#[derive(Args)]
pub(crate) struct TrainArgs {
    /// Memory cells of the LSTM
    #[arg(long, value_name = "N", value_parser = whole_number)]
    pub(crate) nodes: u64,

    /// Rows of text trained side by side
    #[arg(long, value_name = "N", value_parser = whole_number)]
    pub(crate) batch_size: u64,

    /// Characters between two updates
    #[arg(long, value_name = "N", value_parser = whole_number)]
    pub(crate) unrollings: u64,

    /// Training steps; 0 trains nothing
    #[arg(long, value_name = "N", value_parser = whole_number)]
    pub(crate) steps: u64,

    /// Decides the initial weights and nothing else [default: 0]
    #[arg(long, value_name = "SEED", value_parser = whole_number, conflicts_with = "init")]
    pub(crate) seed: Option<u64>,

    /// Begin with the weights in this file (PyTorch's names and layout)
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) init: Option<PathBuf>,

    /// Write the weights after the last step to this file; those before the step that diverged, if one does
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) r#final: Option<PathBuf>,

    /// Validate after so many steps, as values and ranges [default: once, after the last step]
    #[arg(long, value_name = "STEPS", conflicts_with = "eval_every")]
    pub(crate) eval_at: Option<Axis>,

    /// Validate each so many steps; 0 for never
    #[arg(long, value_name = "STEPS", value_parser = whole_number)]
    pub(crate) eval_every: Option<u64>,

    #[command(flatten)]
    pub(crate) corpus: CorpusArgs,

    #[command(flatten)]
    pub(crate) training: TrainingArgs,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,

    /// The instruction set to train with: avx512, avx2, neon or portable [default: the fastest here]
    #[arg(long, value_name = "ISA", env = "SLALOM_ISA", hide = true)]
    pub(crate) isa: Option<IsaName>,
}

#[derive(Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,

    #[command(flatten)]
    pub(crate) at: WhereArgs,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

#[derive(Args)]
#[command(mut_arg("seeds", |flag| flag.help("How many seeds it is to have (5: seeds 0 to 4), or which to add, as a list or range")))]
pub(crate) struct ExtendArgs {
    /// The sweep, to be extended by the values below; or a spec that goes beyond the sweep of its name: a path that ends in .toml
    #[arg(value_name = "SWEEP|SPEC")]
    pub(crate) what: String,

    /// Which sweep the spec extends; it overrides the spec's name
    #[arg(long)]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) grid: GridArgs,

    #[command(flatten)]
    pub(crate) at: WhereArgs,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

#[derive(Args)]
pub(crate) struct SweepArgs {
    /// The sweep's name; may be left out where there is only one [status: all]
    #[arg(value_name = "SWEEP")]
    pub(crate) sweep: Option<SweepName>,

    #[command(flatten)]
    pub(crate) at: WhereArgs,
}

#[derive(Args)]
pub(crate) struct ResumeArgs {
    /// The sweep's name; may be left out where there is only one
    #[arg(value_name = "SWEEP", conflicts_with = "worker")]
    pub(crate) sweep: Option<SweepName>,

    /// Resume this worker, which was paused because three runs in a row failed on it
    #[arg(long, value_name = "WORKER")]
    pub(crate) worker: Option<WorkerName>,

    #[command(flatten)]
    pub(crate) at: WhereArgs,
}

#[derive(Args)]
pub(crate) struct RunsArgs {
    /// The sweep's name; may be left out where there is only one
    #[arg(value_name = "SWEEP")]
    pub(crate) sweep: Option<SweepName>,

    /// Only runs in these states, comma between: waiting, running, done, diverged, failed, cancelled
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = run_state)]
    pub(crate) state: Vec<RunState>,

    /// Only runs of which this is true, over `nodes`, `batch_size`, `unrollings` and `seed`: 'nodes >= 64'
    #[arg(long = "where", value_name = "EXPRESSION", value_parser = run_filter)]
    pub(crate) filter: Option<Filter>,

    #[command(flatten)]
    pub(crate) at: WhereArgs,
}

#[derive(Args)]
pub(crate) struct ResultsArgs {
    /// The sweep's name; may be left out where there is only one
    #[arg(value_name = "SWEEP")]
    pub(crate) sweep: Option<SweepName>,

    /// The form of the results
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) at: WhereArgs,
}

/// What `results --format` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// The best points, the best by each axis, the slope
    Table,
    /// As results.csv: every trial, every digit
    Csv,
    /// As results.json
    Json,
}

#[derive(Args)]
pub(crate) struct RetryArgs {
    /// The sweep's name; may be left out where there is only one
    #[arg(value_name = "SWEEP")]
    pub(crate) sweep: Option<SweepName>,

    /// Which runs
    #[arg(long, value_name = "STATE", value_enum, default_value_t = Retried::Failed)]
    pub(crate) state: Retried,

    #[command(flatten)]
    pub(crate) at: WhereArgs,
}

/// What `retry --state` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Retried {
    /// Given up after their attempts; a diverged run would diverge again
    Failed,
}

#[derive(Args)]
pub(crate) struct WorkersArgs {
    #[command(flatten)]
    pub(crate) at: WhereArgs,
}

#[derive(Args)]
pub(crate) struct DrainArgs {
    /// The worker's name
    #[arg(value_name = "WORKER")]
    pub(crate) worker: WorkerName,

    #[command(flatten)]
    pub(crate) at: WhereArgs,
}

#[derive(Args)]
pub(crate) struct CorpusListArgs {
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

#[derive(Args)]
pub(crate) struct CorpusFetchArgs {
    /// Which text
    #[arg(value_name = "CORPUS", value_enum)]
    pub(crate) corpus: Fetched,

    /// Where to download it from
    #[arg(long, value_name = "URL", default_value = slalom_common::corpus::text8::URL)]
    pub(crate) url: String,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

/// What `corpus fetch` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Fetched {
    /// The first 100,000,000 characters of a cleaned Wikipedia, 31 MB to download
    Text8,
}

#[derive(Args)]
pub(crate) struct CorpusInfoArgs {
    /// `synthetic`, `synthetic:SEED`, `text8`, a path to a .txt or .zip, or `sha256:HEX` in the cache
    #[arg(value_name = "CORPUS", default_value = "synthetic")]
    pub(crate) corpus: String,

    /// Take the leading part of the corpus, so many characters
    #[arg(long, value_name = "N", value_parser = whole_number)]
    pub(crate) corpus_chars: Option<u64>,

    /// Map the corpus to the 27 symbols a-z and space, the way text8 was made
    #[arg(long)]
    pub(crate) normalize: bool,

    /// Leading characters that would validate
    #[arg(long, value_name = "N", value_parser = whole_number, default_value = "1000")]
    pub(crate) valid_size: u64,

    #[command(flatten)]
    pub(crate) cache: CacheArgs,
}

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Time a step of these shapes: nodes, batch size, unrollings [default: ten from 8,8,5 to 512,128,20]
    #[arg(long, value_name = "N,B,T", num_args = 1..)]
    pub(crate) shapes: Vec<Shape>,

    /// Time a validation of models of so many nodes [default: 64 and 128, unless shapes are given]
    #[arg(long, value_name = "NODES", num_args = 1.., value_parser = clap::value_parser!(u32).range(1..=Shape::NODES_MAX as i64))]
    pub(crate) validations: Vec<u32>,

    /// Instead, fit what a core takes for any shape, as a worker does at its start: the coefficients, and how far they are off
    #[arg(long, conflicts_with_all = ["shapes", "validations"])]
    pub(crate) fit: bool,

    /// How long to measure altogether; more where a single step takes longer than its share
    #[arg(long, value_name = "S", default_value = "3", value_parser = bench_seconds)]
    pub(crate) seconds: Duration,

    /// The instruction set to measure: avx512, avx2 or portable [default: the fastest here]
    #[arg(long, value_name = "ISA", env = "SLALOM_ISA", hide = true)]
    pub(crate) isa: Option<IsaName>,
}

/// Where to look for sweeps.
#[derive(Args)]
pub(crate) struct WhereArgs {
    /// The coordinator, HOST:PORT or a URL [default: a `slalom run` in DIR, its store, then 127.0.0.1:7117]
    #[arg(long, value_name = "URL[,URL]", env = "SLALOM_COORDINATOR", value_delimiter = ',',
          value_parser = coordinator_url, help_heading = "Where")]
    pub(crate) coordinator: Vec<String>,

    #[command(flatten)]
    pub(crate) dir: DirArgs,
}

#[derive(Args)]
pub(crate) struct DirArgs {
    /// The folder of `slalom run`: a folder a sweep, and its store in .store
    #[arg(
        long,
        value_name = "DIR",
        env = "SLALOM_DIR",
        default_value = "slalom-out",
        help_heading = "Where"
    )]
    pub(crate) dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct CacheArgs {
    /// The folder of corpora [default: slalom in the user's cache folder]
    #[arg(long, value_name = "DIR", env = "SLALOM_CACHE", help_heading = "Where")]
    pub(crate) cache: Option<PathBuf>,
}

/// Whether colour is wanted at all: `NO_COLOR` holds if it is set to anything (no-color.org).
pub(crate) fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn bench_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "it is a number of seconds from 0 to 3600".to_owned())
}

fn run_state(word: &str) -> Result<RunState, String> {
    RunState::from_word(word)
        .ok_or_else(|| format!("a state is one of {}", RunState::ALL.map(RunState::word).join(", ")))
}

fn run_filter(source: &str) -> Result<Filter, FilterError> {
    Filter::compile_for(source, &Name::OF_A_RUN)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_grammar_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_stands_in_one_group_of_the_help() {
        let shown: Vec<&str> = help::GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        let command = command();
        let known: BTreeSet<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(shown.iter().copied().collect::<BTreeSet<_>>(), known);
        assert_eq!(shown.len(), known.len());
        let help = command.clone().render_long_help().to_string();
        for verb in known {
            assert!(help.contains(&format!("\n  {verb} ")), "{verb} is missing in\n{help}");
        }
    }

    fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
        let inner: Vec<&clap::Command> = command.get_subcommands().flat_map(leaves).collect();
        if inner.is_empty() { vec![command] } else { inner }
    }

    #[test]
    fn every_verb_has_an_example_and_every_flag_a_help() {
        for verb in leaves(&command()) {
            let name = verb.get_name();
            let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example:\n  slalom "), "{name} has no example");
            for flag in verb.get_arguments() {
                assert!(flag.get_help().is_some(), "{name}: {} has no help", flag.get_id());
            }
        }
    }

    /// A forgotten variable must not change science.
    #[test]
    fn no_flag_that_says_what_has_a_variable() {
        let how = [
            "coordinator",
            "dir",
            "cache",
            "slots",
            "isa",
            "name",
            "checkpoint_every",
            "log_format",
            "log_dir",
            "log_filter",
            "listen",
            "store",
            "blob_budget",
            "heartbeat",
            "lease",
            "insecure",
            "progress_every",
            "hung_after",
        ];
        for verb in leaves(&command()) {
            for flag in verb.get_arguments().filter(|flag| flag.get_env().is_some()) {
                assert!(how.contains(&flag.get_id().as_str()), "{}: {}", verb.get_name(), flag.get_id());
            }
        }
    }
}
