//! A sweep: a named formula over one family. Only valid ones can be built.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::axis::ascending;
use crate::cost::{self, Work};
use crate::filter::Filter;
use crate::grid::{Coordinates, Grid, GridError, RUNS_MAX};
use crate::id::{ContentHash, RunNumber, Step, SweepName};
use crate::run::{Family, Run, Shape};
use crate::settings::SettingsError;

/// The most wanted steps of one run, trials and curve together.
pub const WANTED_STEPS_MAX: u64 = 10_000;

/// The most blocks of a sweep: each trial is looked for in all of them.
pub const BLOCKS_MAX: usize = 100;

/// What one epoch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepsPerEpoch {
    /// So many training steps; the study's epochs are single steps.
    Steps(u64),
    /// One pass over the training text: ceil(S / (B * T)) steps.
    FullPass,
}

/// How a sweep is carried out. No result depends on it, and it is not in the spec's hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Own failures of a run before it is given up; from 1.
    pub max_attempts: u32,
    /// Training time between two checkpoints of a run; the coordinator's default if absent.
    pub checkpoint_every: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { max_attempts: 3, checkpoint_every: None }
    }
}

/// The corpus of a sweep: what its submitter called it, and its length; its hash is the family's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorpusFacts {
    /// What the spec says, for people.
    pub written: String,
    /// Characters of the whole text, validation included.
    pub chars: u64,
}

/// What a sweep is made from, not yet checked as a whole.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// Its name; by default one is made from the formula's hash.
    pub name: Option<SweepName>,
    /// What all its runs share.
    pub family: Family,
    /// The corpus that the family names by hash.
    pub corpus: CorpusFacts,
    /// Block 0 is the spec; each `extend` appends one.
    pub blocks: Vec<Grid>,
    /// What `epochs` counts.
    pub steps_per_epoch: StepsPerEpoch,
    /// A point of a learning curve each so many steps; 0 for none.
    pub eval_every: u64,
    /// Attempts and checkpoints.
    pub policy: Policy,
}

/// A valid [`Draft`], and what follows from it.
#[derive(Clone, PartialEq, Debug)]
pub struct Sweep {
    name: SweepName,
    draft: Draft,
    size: Size,
}

/// How much a sweep holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Trials that are not excluded.
    pub trials: u64,
    /// Trials that are.
    pub excluded: u64,
    /// Runs with at least one trial.
    pub runs: u64,
}

/// Why a draft is no sweep.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SweepError {
    /// A rate out of its range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A block that is no grid.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// A sweep without a block.
    #[error("a sweep has at least one block")]
    NoBlocks,
    /// A sweep that was extended too often.
    #[error("a sweep of {0} blocks was extended too often: it may have {BLOCKS_MAX}")]
    TooManyBlocks(usize),
    /// Blocks that together number too many runs.
    #[error("{0} runs are more than {RUNS_MAX}")]
    TooManyRuns(u64),
    /// Every trial is excluded.
    #[error("nothing to run: {}", all_excluded(*.0))]
    NothingToRun(u64),
    /// Nothing to validate on.
    #[error("`valid_size` is 0: it must be at least 1")]
    NoValidation,
    /// Not one character to train on.
    #[error(
        "the corpus has {chars} characters and `valid_size` takes {valid_size}: none are left to train on"
    )]
    CorpusTooShort {
        /// Characters of the corpus.
        chars: u64,
        /// Of them for validation.
        valid_size: u64,
    },
    /// A batch larger than the text.
    #[error("`batch_size` is {batch_size}, more than the {train_chars} characters to train on")]
    BatchLargerThanText {
        /// The batch size.
        batch_size: u32,
        /// Characters left after validation.
        train_chars: u64,
    },
    /// `steps_per_epoch` of zero.
    #[error("`steps_per_epoch` is 0: it must be at least 1")]
    NoSteps,
    /// A run of 2^40 steps or more.
    #[error("{epochs} epochs at {shape} are 2^40 steps or more")]
    TooManySteps {
        /// Units of training.
        epochs: u64,
        /// Where.
        shape: Shape,
    },
    /// Too fine a curve, or too many epochs.
    #[error("{wanted} perplexities are wanted of one run: at most {WANTED_STEPS_MAX} are")]
    TooManyWantedSteps {
        /// Trials and curve points of the run.
        wanted: u64,
    },
    /// No attempt at all.
    #[error("`max_attempts` is 0: it must be at least 1")]
    NoAttempts,
}

/// Why a sweep cannot be extended by another formula.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ExtendError {
    /// Corpus, training, `steps_per_epoch` or `eval_every` differ.
    #[error("only the grid of a sweep can be extended")]
    AsksOtherwise,
    /// The two together are too much.
    #[error(transparent)]
    Sweep(#[from] SweepError),
}

fn all_excluded(trials: u64) -> String {
    match trials {
        1 => "its only trial is excluded".to_owned(),
        several => format!("all {several} trials are excluded"),
    }
}

impl Sweep {
    /// Checks a draft as a whole and counts what it holds.
    ///
    /// # Errors
    /// Names the first thing that no worker could train.
    pub fn new(mut draft: Draft) -> Result<Self, SweepError> {
        draft.family.training.check()?;
        if draft.policy.max_attempts == 0 {
            return Err(SweepError::NoAttempts);
        }
        if draft.steps_per_epoch == StepsPerEpoch::Steps(0) {
            return Err(SweepError::NoSteps);
        }
        let numbers = draft.blocks.iter().map(Grid::numbers).sum();
        if draft.blocks.is_empty() {
            return Err(SweepError::NoBlocks);
        }
        if draft.blocks.len() > BLOCKS_MAX {
            return Err(SweepError::TooManyBlocks(draft.blocks.len()));
        }
        if numbers > RUNS_MAX {
            return Err(SweepError::TooManyRuns(numbers));
        }
        let (chars, valid_size) = (draft.corpus.chars, draft.family.valid_size);
        if valid_size == 0 {
            return Err(SweepError::NoValidation);
        }
        let train_chars = chars.saturating_sub(valid_size);
        if train_chars == 0 {
            return Err(SweepError::CorpusTooShort { chars, valid_size });
        }
        let name = match &draft.name {
            Some(name) => name.clone(),
            None => default_name(formula_hash(&draft)),
        };
        // From here on it has a name, given or made: a sweep that comes back from wire or store equals the one that went.
        draft.name = Some(name.clone());
        let mut sweep = Self { name, draft, size: Size { trials: 0, excluded: 0, runs: 0 } };
        sweep.size = sweep.measure(train_chars)?;
        Ok(sweep)
    }

    fn measure(&self, train_chars: u64) -> Result<Size, SweepError> {
        let blocks = &self.draft.blocks;
        let mut size = Size { trials: 0, excluded: 0, runs: 0 };
        // Of all blocks together, before exclusion, each once.
        let mut all = 0;
        for (block_index, block) in blocks.iter().enumerate() {
            let mut checked = None;
            for number in 0..block.numbers() {
                let Some(at) = block.coordinates(number) else { break };
                if blocks[..block_index].iter().any(|earlier| earlier.number_of(&at).is_some()) {
                    continue;
                }
                let trials = if blocks.len() == 1 {
                    all += block.axes().epochs.len() as u64;
                    block.epochs_at(&at).fold((0, 0), |(count, _), epochs| (count + 1, epochs))
                } else {
                    all += self.epochs_before_exclusion(&at);
                    self.epochs_of(&at).iter().fold((0, 0), |(count, _), &epochs| (count + 1, epochs))
                };
                let (count, epochs_max) = trials;
                if count == 0 {
                    continue;
                }
                size.trials += count;
                size.runs += 1;
                // Seeds are the fastest digit: what holds for one holds for its neighbours, unless a filter reads seeds.
                if checked != Some((at.shape, count, epochs_max)) {
                    self.check_run(&at, count, epochs_max, train_chars)?;
                    checked = Some((at.shape, count, epochs_max));
                }
            }
        }
        size.excluded = all - size.trials;
        if size.trials == 0 {
            return Err(SweepError::NothingToRun(all));
        }
        Ok(size)
    }

    fn epochs_before_exclusion(&self, at: &Coordinates) -> u64 {
        let here = self.draft.blocks.iter().filter(|block| block.number_of(at).is_some());
        ascending(here.flat_map(|block| block.axes().epochs.values())).len() as u64
    }

    fn check_run(
        &self,
        at: &Coordinates,
        trials: u64,
        epochs_max: u64,
        train_chars: u64,
    ) -> Result<(), SweepError> {
        let shape = at.shape;
        if u64::from(shape.batch_size) > train_chars {
            return Err(SweepError::BatchLargerThanText { batch_size: shape.batch_size, train_chars });
        }
        let steps = epochs_max.checked_mul(self.steps_per_epoch(shape)).filter(|&steps| steps < 1 << 40);
        let Some(steps) = steps else {
            return Err(SweepError::TooManySteps { epochs: epochs_max, shape });
        };
        let curve = steps.checked_div(self.draft.eval_every).unwrap_or(0);
        // Trials that lie on the curve are wanted once: looked at only where that may matter.
        let wanted = match trials + curve {
            sum if sum > WANTED_STEPS_MAX && curve <= WANTED_STEPS_MAX => self.wanted_steps(at).len() as u64,
            sum => sum,
        };
        if wanted > WANTED_STEPS_MAX {
            return Err(SweepError::TooManyWantedSteps { wanted });
        }
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &SweepName {
        &self.name
    }

    /// What all its runs share.
    pub fn family(&self) -> &Family {
        &self.draft.family
    }

    /// Everything it was made from.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// How much it holds.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Attempts and checkpoints.
    pub fn policy(&self) -> Policy {
        self.draft.policy
    }

    /// The same sweep under another policy: a resubmit may change it.
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        let mut changed = self.clone();
        changed.draft.policy = policy;
        changed
    }

    /// This sweep and the trials of `given`, in blocks behind its own: what is there keeps its numbers. Itself if all are there.
    ///
    /// # Errors
    /// If one formula cannot hold both, or the two together are no sweep.
    pub fn extended_by(&self, given: &Self) -> Result<Self, ExtendError> {
        if !self.asks_alike(given) {
            return Err(ExtendError::AsksOtherwise);
        }
        if self.contains(given) {
            return Ok(self.clone());
        }
        let mut draft = self.draft.clone();
        draft.blocks.extend(given.draft.blocks.iter().cloned());
        Ok(Self::new(draft)?)
    }

    /// Whether this is `earlier` with nothing changed but blocks appended.
    pub fn extends(&self, earlier: &Self) -> bool {
        self.draft.blocks.len() > earlier.draft.blocks.len()
            && self.draft.blocks.starts_with(&earlier.draft.blocks)
            && self.name == earlier.name
            && self.policy() == earlier.policy()
            && self.asks_alike(earlier)
    }

    /// Whether one formula can hold the trials of both: they differ in their blocks alone, and in what moves no bits.
    pub fn asks_alike(&self, other: &Self) -> bool {
        let (one, other) = (&self.draft, &other.draft);
        one.family == other.family
            && one.corpus.chars == other.corpus.chars
            && one.steps_per_epoch == other.steps_per_epoch
            && one.eval_every == other.eval_every
    }

    /// Whether every trial of `other` is one of this sweep's, asked for alike.
    pub fn contains(&self, other: &Self) -> bool {
        let has =
            |at: &Coordinates, epochs| self.draft.blocks.iter().any(|block| block.has_trial(at, epochs));
        self.asks_alike(other)
            && self.size.trials >= other.size.trials
            && other
                .run_numbers()
                .all(|(_, at)| other.epochs_of(&at).into_iter().all(|epochs| has(&at, epochs)))
    }

    /// Whether a person who describes `given` means this sweep: as it was when it was submitted, as it is, or by another formula
    /// for all that it has become.
    pub fn is_meant_by(&self, given: &Self) -> bool {
        let is_first = || self.asks_alike(given) && self.draft.blocks[..1] == given.draft.blocks[..];
        let is_whole = || self.size.trials == given.size.trials && self.contains(given);
        self.formula_hash() == given.formula_hash()
            || self.draft.blocks.len() > 1 && (is_first() || is_whole())
    }

    /// SHA-256 of the formula: everything but name, policy and what the corpus was called.
    pub fn formula_hash(&self) -> ContentHash {
        formula_hash(&self.draft)
    }

    /// How many numbers its runs take, holes included.
    pub fn numbers(&self) -> u64 {
        self.draft.blocks.iter().map(Grid::numbers).sum()
    }

    /// The run of this number; `None` for a hole: all excluded, or numbered in an earlier block, or past the end.
    pub fn coordinates(&self, number: RunNumber) -> Option<Coordinates> {
        let mut within = number.number();
        for block in &self.draft.blocks {
            if let Some(at) = block.coordinates(within) {
                let here = block.epochs_at(&at).next().is_some();
                return (here && self.number_of(&at) == Some(number)).then_some(at);
            }
            within -= block.numbers();
        }
        None
    }

    /// The number of the run at these coordinates: in the first block that has a trial there.
    pub fn number_of(&self, at: &Coordinates) -> Option<RunNumber> {
        let mut first = 0;
        for block in &self.draft.blocks {
            if block.epochs_at(at).next().is_some() {
                return block.number_of(at).map(|within| RunNumber::new(first + within));
            }
            first += block.numbers();
        }
        None
    }

    /// The numbers of its runs, ascending, holes left out.
    pub fn run_numbers(&self) -> impl Iterator<Item = (RunNumber, Coordinates)> + '_ {
        (0..self.numbers()).map(RunNumber::new).filter_map(|number| Some((number, self.coordinates(number)?)))
    }

    /// The run at these coordinates, as its content.
    pub fn run(&self, at: Coordinates) -> Run {
        Run { family: self.draft.family, shape: at.shape, seed: at.seed }
    }

    /// Steps of one unit of `epochs` at this shape.
    pub fn steps_per_epoch(&self, shape: Shape) -> u64 {
        match self.draft.steps_per_epoch {
            StepsPerEpoch::Steps(steps) => steps,
            StepsPerEpoch::FullPass => {
                let train_chars = self.draft.corpus.chars - self.draft.family.valid_size;
                train_chars.div_ceil(shape.predictions_per_step())
            }
        }
    }

    /// The epochs of the run's trials over all blocks, ascending, each once.
    pub fn epochs_of(&self, at: &Coordinates) -> Vec<u64> {
        ascending(self.draft.blocks.iter().flat_map(|block| block.epochs_at(at)))
    }

    /// The steps of the run's trials, ascending.
    pub fn trial_steps(&self, at: &Coordinates) -> Vec<Step> {
        let per_epoch = self.steps_per_epoch(at.shape);
        self.epochs_of(at).into_iter().map(|epochs| Step::new(epochs * per_epoch)).collect()
    }

    /// Every step at which the run's perplexity is wanted, of trials and of the learning curve, ascending, each once.
    pub fn wanted_steps(&self, at: &Coordinates) -> Vec<Step> {
        let trials = self.trial_steps(at);
        match (trials.last(), self.draft.eval_every) {
            (Some(&last), every @ 1..) => {
                let curve = (1..=last.number() / every).map(|point| Step::new(point * every));
                ascending(trials.into_iter().chain(curve))
            }
            (None, _) | (_, 0) => trials,
        }
    }

    /// Whether a perplexity is wanted of the run at this step, for a trial or the curve.
    pub fn wants(&self, at: &Coordinates, step: Step) -> bool {
        let on_curve = || {
            let every = self.draft.eval_every;
            let last = self.trial_steps(at).last().copied();
            every > 0 && step.number() > 0 && step.number().is_multiple_of(every) && last >= Some(step)
        };
        self.trial_epochs(at, step).is_some() || on_curve()
    }

    /// The epochs of the run's trial that ends at this step, if one does.
    pub fn trial_epochs(&self, at: &Coordinates, step: Step) -> Option<u64> {
        let per_epoch = self.steps_per_epoch(at.shape);
        let epochs = step.number().is_multiple_of(per_epoch).then(|| step.number() / per_epoch)?;
        self.draft.blocks.iter().any(|block| block.epochs_at(at).any(|one| one == epochs)).then_some(epochs)
    }

    /// Seeds for which the point has a trial.
    pub fn seeds_of(&self, shape: Shape, epochs: u64) -> u64 {
        let seeds = ascending(self.draft.blocks.iter().flat_map(|block| block.axes().seed.values()).copied());
        let has = |seed: &u64| {
            let at = Coordinates { shape, seed: *seed };
            self.draft.blocks.iter().any(|block| block.epochs_at(&at).any(|one| one == epochs))
        };
        seeds.iter().filter(|seed| has(seed)).count() as u64
    }

    /// A run from its start to its last wanted step, with a validation at each.
    pub fn run_work(&self, at: &Coordinates) -> Work {
        let wanted = self.wanted_steps(at);
        let last = wanted.last().copied().unwrap_or(Step::new(0));
        Work::run(at.shape, Step::new(0), last, wanted.len(), self.draft.family.valid_size)
    }

    /// All runs.
    pub fn work(&self) -> Work {
        self.run_numbers().map(|(_, at)| self.run_work(&at)).sum()
    }

    /// FLOPs to train every run to its last step, and to validate at every wanted step.
    pub fn flops(&self) -> (f64, f64) {
        let mut train = 0.0;
        let mut validate = 0.0;
        for (_, at) in self.run_numbers() {
            let wanted = self.wanted_steps(&at);
            let steps = wanted.last().map_or(0, |step| step.number());
            train += steps as f64 * cost::step_flops(at.shape);
            validate +=
                wanted.len() as f64 * cost::validation_flops(at.shape.nodes, self.draft.family.valid_size);
        }
        (train, validate)
    }
}

/// Canonical bytes of the formula, hashed. Filters count by their source: another text of the same meaning is another spec.
fn formula_hash(draft: &Draft) -> ContentHash {
    let mut hash = Sha256::new();
    let word = |hash: &mut Sha256, word: u64| hash.update(word.to_le_bytes());
    hash.update(b"slalom-sweep-1");
    hash.update(draft.family.corpus.bytes());
    let training = draft.family.training;
    let (kind, steps) = match draft.steps_per_epoch {
        StepsPerEpoch::Steps(steps) => (0, steps),
        StepsPerEpoch::FullPass => (1, 0),
    };
    let words = [
        draft.family.valid_size,
        training.learning_rate.to_bits(),
        training.decay_rate.to_bits(),
        training.decay_steps,
        training.clip_norm.to_bits(),
        draft.family.numerics.number().into(),
        kind,
        steps,
        draft.eval_every,
        draft.blocks.len() as u64,
    ];
    for value in words {
        word(&mut hash, value);
    }
    for block in &draft.blocks {
        let axes = block.axes();
        for axis in [&axes.nodes, &axes.batch_size, &axes.unrollings, &axes.epochs, &axes.seed] {
            word(&mut hash, axis.len() as u64);
            for &value in axis.values() {
                word(&mut hash, value);
            }
        }
        word(&mut hash, block.exclude().len() as u64);
        for source in block.exclude().map(Filter::source) {
            word(&mut hash, source.len() as u64);
            hash.update(source.as_bytes());
        }
    }
    ContentHash::new(hash.finalize().into())
}

fn default_name(formula: ContentHash) -> SweepName {
    let name = format!("sweep-{}", &formula.to_string()[..8]);
    name.parse().expect("hexadecimal digits make a name")
}

#[cfg(test)]
pub(crate) mod tests;
