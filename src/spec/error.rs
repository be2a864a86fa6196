//! What can be wrong with a spec, where, and what to do about it: all three are told apart until they are
//! shown.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use slalom_common::axis::{Axis, AxisError};
use slalom_common::filter::FilterError;
use slalom_common::grid::GridError;
use slalom_common::settings::SettingsError;
use slalom_common::sweep::SweepError;

use super::flags::flag_of;
use slalom_common::corpus::source::SourceError;

/// A spec, in a file or in flags, that describes no sweep. It prints as `what in where`.
#[derive(Debug)]
pub(crate) struct SpecError {
    /// What is wrong.
    pub(crate) fault: Box<Fault>,
    /// Where it was written; none where something is missing altogether.
    pub(crate) place: Option<Place>,
}

/// Where something was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In a spec file; line and column (in characters) count from 1.
    File { path: PathBuf, line: usize, column: usize },
    /// On the command line, by a flag that is called as its key in a spec file.
    Flag { key: &'static str, value: String },
}

/// What is wrong with a spec.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("neither a spec nor a grid is given")]
    NothingGiven,
    #[error("{} together with the spec `{}`", flags.join(", "), path.display())]
    FileAndFlags { path: PathBuf, flags: Vec<String> },
    #[error("cannot read the spec `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the spec `{}` is larger than {max} bytes", path.display())]
    FileTooLarge { path: PathBuf, max: u64 },
    #[error("bytes that are not UTF-8")]
    NotUtf8,
    /// In the words of the TOML parser.
    #[error("not TOML: {0}")]
    Toml(String),
    #[error("unknown {} `{key}`", if *table == "grid" { "axis" } else { "key" })]
    UnknownKey {
        table: &'static str,
        key: String,
        known: &'static [&'static str],
        home: Option<&'static str>,
    },
    #[error("missing axis `{axis}`")]
    MissingAxis { axis: &'static str },
    #[error("`{key}` is {found}, not {wanted}")]
    Type { key: &'static str, found: &'static str, wanted: &'static str },
    #[error("value {value} out of range for `{key}`")]
    OutOfRange { key: &'static str, value: String, min: u64, max: u64 },
    #[error("{error} on axis `{axis}`")]
    Axis { axis: &'static str, error: AxisError },
    #[error("{runs} runs, more than {}", Axis::VALUES_MAX)]
    TooManyRuns { runs: u128 },
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("value {} out of range for `{}`", setting_value(.0), .0.key())]
    Settings(SettingsError),
    #[error(transparent)]
    Corpus(#[from] SourceError),
    #[error("a corpus table with {}", if found.is_empty() { "none of its keys".to_owned() } else { found.join(" and ") })]
    CorpusKeys { found: Vec<&'static str> },
    #[error("`{0}` is not the name of a corpus")]
    CorpusName(String),
    #[error("`{0}` is not a name for a sweep")]
    Name(String),
    #[error("`{key}` is `{value}`, not a duration from 1ms to a year")]
    Duration { key: &'static str, value: String },
    #[error("`steps_per_epoch` is `{0}`, neither a whole number nor `full-pass`")]
    StepsPerEpoch(String),
    /// What only the corpus or the grid as a whole shows.
    #[error(transparent)]
    Sweep(SweepError),
}

impl SpecError {
    /// What is wrong with what was written at `place`.
    pub(super) fn at(place: Place, fault: impl Into<Fault>) -> Self {
        Self { fault: Box::new(fault.into()), place: Some(place) }
    }

    /// What is wrong with no place in particular.
    pub(super) fn nowhere(fault: Fault) -> Self {
        Self { fault: Box::new(fault), place: None }
    }

    /// What the writer can do about it, where that is not plain from what is wrong.
    pub(crate) fn help(&self) -> Option<String> {
        match &*self.fault {
            Fault::UnknownKey { table, key, known, home } => Some(unknown_key_help(table, key, known, *home)),
            Fault::MissingAxis { axis } => Some(match self.place {
                Some(Place::File { .. }) => format!("add `{axis} = [..]` to [grid]"),
                Some(Place::Flag { .. }) | None => {
                    format!("add {}, with values such as 8,16 or 8..=64:x2", flag_of(axis))
                }
            }),
            Fault::FileAndFlags { .. } => {
                Some("change the spec, or leave it out and give the whole sweep by flags".to_owned())
            }
            Fault::NothingGiven => {
                Some("give a spec file, or --nodes, --batch-size, --unrollings and --epochs".to_owned())
            }
            Fault::Axis { error, .. } => Some(axis_help(error).to_owned()),
            Fault::Filter(error) => Some(error.help()),
            Fault::CorpusKeys { .. } => {
                Some("it has one of `synthetic` (a seed), `path` and `name`, and perhaps `chars`".to_owned())
            }
            Fault::OutOfRange { min, max, .. } => Some(format!("it goes from {min} to {max}")),
            Fault::Settings(SettingsError::Rate { .. }) => Some("it is a finite number above 0".to_owned()),
            Fault::Settings(SettingsError::DecaySteps(_)) => Some("it goes from 1 to 2^40 - 1".to_owned()),
            Fault::Name(_) => Some(
                "a name is 1 to 63 of a-z, 0-9, `.`, `_` and `-`, the first a letter or a digit".to_owned(),
            ),
            Fault::CorpusName(_) => Some(
                "names are synthetic, synthetic:SEED, text8 and sha256:HEX; a file goes by `path`".to_owned(),
            ),
            Fault::Duration { .. } => Some("durations are such as 90s, 5m or 1h30m".to_owned()),
            Fault::NotUtf8 => Some("save the spec as UTF-8".to_owned()),
            Fault::Sweep(error) => sweep_help(error).map(str::to_owned),
            Fault::Unreadable { .. } | Fault::FileTooLarge { .. } => {
                Some("a spec is a TOML file; `slalom run` alone prints one to start from".to_owned())
            }
            Fault::Toml(_) => Some("`slalom run` alone prints a spec to start from".to_owned()),
            Fault::Type { key, .. } => Some(type_help(key).to_owned()),
            Fault::TooManyRuns { .. } => Some(FEWER_RUNS.to_owned()),
            Fault::Corpus(error) => Some(corpus_help(error).to_owned()),
            Fault::StepsPerEpoch(_) => Some(
                "1, the default, counts `epochs` in steps; \"full-pass\" in passes over the text".to_owned(),
            ),
        }
    }
}

fn setting_value(error: &SettingsError) -> String {
    match error {
        SettingsError::Rate { value, .. } => value.to_string(),
        SettingsError::DecaySteps(steps) => steps.to_string(),
    }
}

fn unknown_key_help(table: &str, key: &str, known: &[&str], home: Option<&str>) -> String {
    if let Some(home) = home {
        return format!("`{key}` belongs in [{home}]");
    }
    let known_here = match table {
        "grid" => "axes are nodes, batch_size, unrollings, epochs; seeds = N for the fifth".to_owned(),
        "" => format!("the keys of a spec are {}", known.join(", ")),
        table => format!("the keys of `{table}` are {}", known.join(", ")),
    };
    match slalom_common::nearest::nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {known_here}"),
        None => known_here,
    }
}

/// What to do about a product of axes that is too large.
const FEWER_RUNS: &str = "leave out values or seeds, or make several sweeps of it";

fn type_help(key: &str) -> &'static str {
    match key {
        "nodes" | "batch_size" | "unrollings" | "epochs" | "seeds" => {
            "values are 8, [8, 16], \"1..=4\", \"1..=16:5\" (by steps) or \"8..=64:x2\" (by factors)"
        }
        "exclude" => "such as exclude = [\"unrollings > nodes\"]",
        _ => "examples/ski-slope.toml shows every key with a value of its type",
    }
}

const fn corpus_help(error: &SourceError) -> &'static str {
    match error {
        SourceError::Empty => "`synthetic` needs no file and no download",
        SourceError::Seed(_) => "such as synthetic:7; `synthetic` alone is seed 1",
        SourceError::Hash(_) => "`slalom corpus list` shows the texts in the cache by hash",
        SourceError::NormalizeWithoutFile(_) => "leave `normalize` out",
    }
}

const fn axis_help(error: &AxisError) -> &'static str {
    match error {
        AxisError::NotANumber(_) => {
            "values are whole numbers or ranges: 1..=4, by steps 1..=16:5, by factors 8..=64:x2"
        }
        AxisError::EmptyRange { .. } => "a range goes from its smaller to its larger end",
        AxisError::Factor { .. } => "a factor is 2 or more",
        AxisError::GeometricFromZero(_) => "start at 1 or more; 0 can be given beside the range",
        AxisError::Empty => "give one or more: 8, or 8,16, or 8..=64:x2",
        AxisError::Twice(_) => "leave one out; a range holds its ends, too",
        AxisError::TooLarge(_) => "values are whole numbers below 2^64",
        AxisError::ZeroStep(_) => "a step is 1 or more",
        AxisError::TooMany => FEWER_RUNS,
    }
}

const fn sweep_help(error: &SweepError) -> Option<&'static str> {
    match error {
        SweepError::NothingToRun(_) => Some("leave out an expression of `exclude`, or widen an axis"),
        SweepError::CorpusTooShort { .. } => Some("lower `valid_size`, or take a longer corpus"),
        SweepError::BatchLargerThanText { .. } => Some("take smaller batches, or a longer corpus"),
        SweepError::TooManyWantedSteps { .. } => Some("raise `eval_every`, or take fewer `epochs`"),
        SweepError::Grid(GridError::Filter { .. }) => Some(
            "guard it: `&&` and `||` stop at the first answer, so `seed > 0 && nodes / seed > 8` is safe",
        ),
        SweepError::TooManyRuns(_)
        | SweepError::Grid(GridError::TooManyRuns { .. } | GridError::TooManyTrials { .. }) => {
            Some(FEWER_RUNS)
        }
        SweepError::TooManySteps { .. } => Some("take fewer `epochs`, or fewer `steps_per_epoch`"),
        SweepError::Settings(_)
        | SweepError::Grid(_)
        | SweepError::NoBlocks
        | SweepError::TooManyBlocks(_)
        | SweepError::NoValidation
        | SweepError::NoSteps
        | SweepError::NoAttempts => None,
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        match &self.place {
            Some(place) => write!(f, " in {place}"),
            None => Ok(()),
        }
    }
}

impl Error for SpecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Flag { key, value } if value.is_empty() => f.write_str(&flag_of(key)),
            Self::Flag { key, value } => write!(f, "{} {value}", flag_of(key)),
        }
    }
}
