//! A spec by flags: the same sweep as a file of the same values. No flag here has an environment variable: a
//! forgotten one must not change science.

use std::path::PathBuf;

use slalom_common::axis::{Axis, whole_number};
use slalom_common::filter::Filter;
use slalom_common::grid::{Axes, Grid};
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::{Draft, StepsPerEpoch, Sweep};

use super::error::{Fault, Place, SpecError};
use super::{Places, Policy, Spec, first_seeds, parse_axis, within};
use slalom_common::corpus::source::Source;

/// A sweep on the command line: a spec file, or the grid and its settings by flags.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct SpecArgs {
    /// The spec: a TOML file such as examples/quickstart.toml. Instead of it, the sweep can be given by the flags below
    #[arg(value_name = "SPEC")]
    pub(crate) spec: Option<PathBuf>,

    /// The sweep's name, a-z, 0-9, `.`, `_` and `-`; it overrides the spec's [default: sweep- and 8 digits of its hash]
    #[arg(long)]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) grid: GridArgs,

    #[command(flatten)]
    pub(crate) corpus: CorpusArgs,

    #[command(flatten)]
    pub(crate) training: TrainingArgs,

    /// Training steps in a unit of `epochs`, or `full-pass` for the whole training text [default: 1]
    #[arg(long, value_name = "STEPS", help_heading = "Training", allow_negative_numbers = true)]
    pub(crate) steps_per_epoch: Option<String>,

    /// Measure a learning curve too, each so many steps; 0 for none [default: 0]
    #[arg(long, value_name = "STEPS", help_heading = "Training", value_parser = whole_number)]
    pub(crate) eval_every: Option<u64>,
}

/// The values to try on each axis.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct GridArgs {
    /// Memory cells of the LSTM: values 8,16,32, ranges 8..=64:x2 (by factors), 8..=64:8 (by steps), or both
    #[arg(long, value_name = "VALUES", help_heading = "Grid", allow_negative_numbers = true)]
    pub(crate) nodes: Option<String>,

    /// Rows of text trained side by side, as values and ranges
    #[arg(long, value_name = "VALUES", help_heading = "Grid", allow_negative_numbers = true)]
    pub(crate) batch_size: Option<String>,

    /// Characters between two updates, as values and ranges
    #[arg(long, value_name = "VALUES", help_heading = "Grid", allow_negative_numbers = true)]
    pub(crate) unrollings: Option<String>,

    /// Units of training (see --steps-per-epoch), as values and ranges; one run answers all of them
    #[arg(long, value_name = "VALUES", help_heading = "Grid", allow_negative_numbers = true)]
    pub(crate) epochs: Option<String>,

    /// How many seeds (3: seeds 0, 1, 2), or which, as a list or range [default: 1]
    #[arg(long, value_name = "N|VALUES", help_heading = "Grid", allow_negative_numbers = true)]
    pub(crate) seeds: Option<String>,

    /// Leave out the trials of which this is true, for example 'unrollings > nodes'; may be repeated
    #[arg(long, value_name = "EXPRESSION", help_heading = "Grid")]
    pub(crate) exclude: Vec<String>,
}

/// The text that is trained on.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct CorpusArgs {
    /// `synthetic`, `synthetic:SEED`, `text8`, a path to a .txt or .zip, or `sha256:HEX` in the cache [default: synthetic]
    #[arg(long, value_name = "CORPUS", help_heading = "Corpus")]
    pub(crate) corpus: Option<String>,

    /// Take the leading part of the corpus, so many characters [default: all; of synthetic, 1,000,000]
    #[arg(long, value_name = "N", help_heading = "Corpus", value_parser = whole_number)]
    pub(crate) corpus_chars: Option<u64>,

    /// Map the corpus to the 27 symbols a-z and space, the way text8 was made
    #[arg(long, help_heading = "Corpus")]
    pub(crate) normalize: bool,
}

/// How weights are changed, and what validates.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct TrainingArgs {
    /// The learning rate of the first step [default: 10]
    #[arg(long, value_name = "RATE", help_heading = "Training", allow_negative_numbers = true)]
    pub(crate) learning_rate: Option<f64>,

    /// What the learning rate is multiplied by at each decay [default: 0.1]
    #[arg(long, value_name = "RATE", help_heading = "Training", allow_negative_numbers = true)]
    pub(crate) decay_rate: Option<f64>,

    /// Steps between two decays [default: 5000]
    #[arg(long, value_name = "STEPS", help_heading = "Training", value_parser = whole_number)]
    pub(crate) decay_steps: Option<u64>,

    /// The global norm that gradients are clipped to [default: 1.25]
    #[arg(long, value_name = "NORM", help_heading = "Training", allow_negative_numbers = true)]
    pub(crate) clip_norm: Option<f64>,

    /// Leading characters of the corpus that validate and never train [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Training", value_parser = whole_number)]
    pub(crate) valid_size: Option<u64>,
}

impl Spec {
    /// The spec that was given, as a file or by flags; `--name` goes with either.
    ///
    /// # Errors
    /// What is wrong with it and where; [`Fault::NothingGiven`] where neither was given.
    pub(crate) fn from_args(args: &SpecArgs) -> Result<Self, SpecError> {
        let given = args.given();
        let mut spec = match &args.spec {
            Some(path) if given.is_empty() => Self::load(path)?,
            Some(path) => {
                let flags = given.iter().map(|(key, _)| flag_of(key)).collect();
                return Err(SpecError::nowhere(Fault::FileAndFlags { path: path.clone(), flags }));
            }
            None if given.is_empty() => return Err(SpecError::nowhere(Fault::NothingGiven)),
            None => Self::from_flags(args, given)?,
        };
        if let Some(name) = &args.name {
            spec.name = Some(name.parse().map_err(|_| at("name", name)(Fault::Name(name.clone())))?);
        }
        Ok(spec)
    }

    fn from_flags(args: &SpecArgs, given: Vec<(&'static str, String)>) -> Result<Self, SpecError> {
        let grid = &args.grid;
        let axis = |key, given: Option<&str>| match given {
            Some(text) => parse_axis(key, text).map_err(at(key, text)),
            None => Err(SpecError::nowhere(Fault::MissingAxis { axis: key })),
        };
        let mut places = Places::default();
        places
            .exclude
            .extend(grid.exclude.iter().map(|source| Place::Flag { key: "exclude", value: quoted(source) }));
        places.keys.extend(given.into_iter().map(|(key, value)| (key, Place::Flag { key, value })));
        Self {
            name: None,
            corpus: args.corpus.source()?,
            nodes: axis("nodes", grid.nodes.as_deref())?,
            batch_size: axis("batch_size", grid.batch_size.as_deref())?,
            unrollings: axis("unrollings", grid.unrollings.as_deref())?,
            epochs: axis("epochs", grid.epochs.as_deref())?,
            seeds: seeds(grid.seeds.as_deref())?,
            exclude: grid.filters()?,
            policy: Policy::default(),
            training: args.training.settings()?,
            valid_size: args.training.valid_size()?,
            steps_per_epoch: steps_per_epoch(args.steps_per_epoch.as_deref())?,
            eval_every: args.eval_every.map_or(Ok(0), |steps| bounded("eval_every", steps))?,
            places,
        }
        .check()
    }
}

impl SpecArgs {
    /// The flags that describe a sweep and were given, as their keys in a spec file and their values.
    fn given(&self) -> Vec<(&'static str, String)> {
        let mut all = self.grid.given();
        all.extend(given([
            ("corpus", self.corpus.corpus.clone()),
            ("corpus_chars", text_of(self.corpus.corpus_chars)),
            ("normalize", self.corpus.normalize.then(String::new)),
            ("steps_per_epoch", self.steps_per_epoch.clone()),
            ("eval_every", text_of(self.eval_every)),
        ]));
        all.extend(self.training.given());
        all
    }
}

impl GridArgs {
    fn given(&self) -> Vec<(&'static str, String)> {
        given([
            ("nodes", self.nodes.clone()),
            ("batch_size", self.batch_size.clone()),
            ("unrollings", self.unrollings.clone()),
            ("epochs", self.epochs.clone()),
            ("seeds", self.seeds.clone()),
            ("exclude", self.exclude.first().cloned()),
        ])
    }

    /// Whether no flag of the grid was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.given().is_empty()
    }

    fn filters(&self) -> Result<Vec<Filter>, SpecError> {
        let compiled =
            self.exclude.iter().map(|source| Filter::compile(source).map_err(at("exclude", &quoted(source))));
        compiled.collect()
    }

    /// `formula` over one grid: the product of all values that it has and those given, without what its newest block excludes and
    /// what the flags exclude beside.
    ///
    /// # Errors
    /// What is wrong with a flag, or with all values together.
    pub(crate) fn beyond(&self, formula: &Sweep) -> Result<Sweep, SpecError> {
        let blocks = &formula.draft().blocks;
        let axis = |key, given: Option<&str>, of: fn(&Axes) -> &Axis| {
            let given = match (key, given) {
                (_, None) => None,
                ("seeds", text) => Some(seeds(text)?),
                (_, Some(text)) => Some(parse_axis(key, text).map_err(at(key, text))?),
            };
            let all = blocks.iter().map(|block| of(block.axes())).chain(&given);
            let union = Axis::union(all).map_err(|error| Fault::Axis { axis: key, error });
            union.map_err(at(key, given.as_ref().map_or_else(String::new, Axis::to_string).as_str()))
        };
        let axes = Axes {
            nodes: axis("nodes", self.nodes.as_deref(), |axes| &axes.nodes)?,
            batch_size: axis("batch_size", self.batch_size.as_deref(), |axes| &axes.batch_size)?,
            unrollings: axis("unrollings", self.unrollings.as_deref(), |axes| &axes.unrollings)?,
            epochs: axis("epochs", self.epochs.as_deref(), |axes| &axes.epochs)?,
            seed: axis("seeds", self.seeds.as_deref(), |axes| &axes.seed)?,
        };
        let newest = blocks.last().into_iter().flat_map(Grid::exclude).cloned();
        let exclude = newest.chain(self.filters()?).collect();
        let too_much = |error| SpecError::nowhere(Fault::Sweep(error));
        let grid = Grid::new(axes, exclude).map_err(|error| too_much(error.into()))?;
        Sweep::new(Draft { blocks: vec![grid], ..formula.draft().clone() }).map_err(too_much)
    }
}

impl CorpusArgs {
    /// The corpus that was named; the synthetic one if none was.
    ///
    /// # Errors
    /// What names no corpus, and a corpus that cannot be normalized.
    pub(crate) fn source(&self) -> Result<Source, SpecError> {
        let mut source = match &self.corpus {
            Some(text) => text.parse().map_err(at("corpus", text))?,
            None => Source::default(),
        };
        if let Some(chars) = self.corpus_chars {
            source = source.with_chars(bounded("corpus_chars", chars)?);
        }
        if self.normalize {
            source = source.with_normalize().map_err(at("normalize", ""))?;
        }
        Ok(source)
    }
}

impl TrainingArgs {
    /// The settings that were given, the study's for those that were not.
    ///
    /// # Errors
    /// A setting out of its range.
    pub(crate) fn settings(&self) -> Result<TrainingSettings, SpecError> {
        let study = TrainingSettings::default();
        let settings = TrainingSettings {
            learning_rate: self.learning_rate.unwrap_or(study.learning_rate),
            decay_rate: self.decay_rate.unwrap_or(study.decay_rate),
            decay_steps: self.decay_steps.unwrap_or(study.decay_steps),
            clip_norm: self.clip_norm.unwrap_or(study.clip_norm),
        };
        settings.check().map_err(|error| {
            let given = self.given().into_iter().find(|(key, _)| *key == error.key());
            let place = given.map(|(key, value)| Place::Flag { key, value });
            SpecError { fault: Box::new(Fault::Settings(error)), place }
        })?;
        Ok(settings)
    }

    fn given(&self) -> Vec<(&'static str, String)> {
        given([
            ("learning_rate", text_of(self.learning_rate)),
            ("decay_rate", text_of(self.decay_rate)),
            ("decay_steps", text_of(self.decay_steps)),
            ("clip_norm", text_of(self.clip_norm)),
            ("valid_size", text_of(self.valid_size)),
        ])
    }

    /// How much of the corpus validates.
    ///
    /// # Errors
    /// None of it.
    pub(crate) fn valid_size(&self) -> Result<u64, SpecError> {
        self.valid_size.map_or(Ok(Spec::VALID_SIZE), |size| bounded("valid_size", size))
    }
}

fn quoted(source: &str) -> String {
    format!("'{source}'")
}

fn given<const N: usize>(flags: [(&'static str, Option<String>); N]) -> Vec<(&'static str, String)> {
    flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn text_of(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// The flag of a key in a spec file.
pub(super) fn flag_of(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// Puts what is wrong at a flag and its value.
fn at<F: Into<Fault>>(key: &'static str, value: &str) -> impl FnOnce(F) -> SpecError {
    let place = Place::Flag { key, value: value.to_owned() };
    move |fault| SpecError::at(place, fault)
}

fn bounded(key: &'static str, value: u64) -> Result<u64, SpecError> {
    within(key, value).map_err(at(key, &value.to_string()))
}

/// A number alone is a count here, unlike in a list: `--seeds 3` is seeds 0, 1 and 2.
fn seeds(given: Option<&str>) -> Result<Axis, SpecError> {
    let Some(text) = given else {
        return Ok(Spec::one_seed());
    };
    match whole_number(text) {
        Ok(count) => first_seeds(count),
        Err(_) => parse_axis("seeds", text),
    }
    .map_err(at("seeds", text))
}

fn steps_per_epoch(given: Option<&str>) -> Result<StepsPerEpoch, SpecError> {
    match given {
        None => Ok(StepsPerEpoch::Steps(1)),
        Some("full-pass") => Ok(StepsPerEpoch::FullPass),
        Some(text) => match whole_number(text) {
            Ok(steps) => Ok(StepsPerEpoch::Steps(bounded("steps_per_epoch", steps)?)),
            Err(_) => Err(at("steps_per_epoch", text)(Fault::StepsPerEpoch(text.to_owned()))),
        },
    }
}
