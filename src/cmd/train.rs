//! `slalom train`: one run alone, no coordinator, step by step.
//!
//! What goes to standard output depends on the run and on nothing else: no time, no machine, no instruction set.

use std::fs;
use std::io::{self, IsTerminal as _, LineWriter, StdoutLock, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use slalom_common::id::Step;
use slalom_common::outcome::Measured;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_worker::lstm::params::Parameters;
use slalom_worker::lstm::step::Stepped;
use slalom_worker::trainer::{Initial, Trainer, TrainerError};

use super::{cache, kernels};
use crate::args::TrainArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Mode, Output, bar, number};

/// Steps of any run are below this.
const STEPS_END: u64 = 1 << 40;
/// Between two looks of the progress line.
const TICK: Duration = Duration::from_millis(200);

/// Trains as `args` say.
///
/// # Errors
/// Bad input before anything is trained, and files that cannot be read or written.
pub(crate) fn run(args: &TrainArgs, output: Output) -> anyhow::Result<Exit> {
    let wanted = Wanted::new(args)?;
    let text = args.corpus.source()?.load(cache(&args.cache).as_ref())?;
    let run = Run {
        family: Family {
            corpus: text.sha256(),
            valid_size: args.training.valid_size()?,
            training: args.training.settings()?,
            numerics: NUMERICS,
        },
        shape: shape(args)?,
        seed: args.seed.unwrap_or(0),
    };
    let initial = match &args.init {
        Some(path) => Initial::Weights(Box::new(weights(path, run.shape.nodes)?)),
        None => Initial::Seed,
    };
    if let Some(path) = &args.r#final {
        writable(path)?;
    }
    let mut trainer = Trainer::new(kernels(args.isa)?, &run, text.symbols().clone(), initial)
        .map_err(|error| refused(&error))?;
    train(&mut trainer, args.steps, &wanted, Printer::new(output, args.steps))?;
    if let Some(path) = &args.r#final {
        fs::write(path, trainer.parameters().to_safetensors())
            .with_context(|| format!("cannot write the weights to `{}`", path.display()))?;
    }
    Ok(Exit::Done)
}

fn train(trainer: &mut Trainer, steps: u64, wanted: &Wanted, mut printer: Printer) -> io::Result<()> {
    loop {
        let done = trainer.steps_done();
        if wanted.has(done) {
            printer.measured(done, trainer.validate())?;
        }
        if done.number() == steps {
            return printer.finish();
        }
        match trainer.step() {
            Stepped::Applied { loss, grad_norm } => printer.stepped(done, loss, grad_norm)?,
            Stepped::Diverged { .. } => {
                printer.diverged(done)?;
                return printer.finish();
            }
        }
    }
}

/// After which steps to validate.
enum Wanted {
    At(Vec<u64>),
    Every(u64),
    Never,
}

impl Wanted {
    fn new(args: &TrainArgs) -> Result<Self, Failure> {
        if args.steps >= STEPS_END {
            return Err(
                Failure::usage(format!("--steps is {}", args.steps)).help("it goes from 0 to 2^40 - 1")
            );
        }
        match (&args.eval_at, args.eval_every) {
            (Some(at), _) if at.last() > args.steps => {
                let what = format!("--eval-at {}: the training ends after {} steps", at.last(), args.steps);
                Err(Failure::usage(what).help("raise --steps, or validate earlier"))
            }
            (Some(at), _) => Ok(Self::At(at.values().to_vec())),
            (None, Some(0)) => Ok(Self::Never),
            (None, Some(every)) => Ok(Self::Every(every)),
            (None, None) => Ok(Self::At(vec![args.steps])),
        }
    }

    fn has(&self, done: Step) -> bool {
        match self {
            Self::At(steps) => steps.binary_search(&done.number()).is_ok(),
            Self::Every(every) => done.number() > 0 && done.number().is_multiple_of(*every),
            Self::Never => false,
        }
    }
}

fn shape(args: &TrainArgs) -> Result<Shape, Failure> {
    let bounded = |flag: &str, value: u64, max: u64| {
        let refused =
            || Failure::usage(format!("{flag} is {value}")).help(format!("it goes from 1 to {max}"));
        u32::try_from(value).ok().filter(|_| (1..=max).contains(&value)).ok_or_else(refused)
    };
    Ok(Shape {
        nodes: bounded("--nodes", args.nodes, Shape::NODES_MAX)?,
        batch_size: bounded("--batch-size", args.batch_size, Shape::BATCH_SIZE_MAX)?,
        unrollings: bounded("--unrollings", args.unrollings, Shape::UNROLLINGS_MAX)?,
    })
}

fn weights(path: &Path, nodes: u32) -> anyhow::Result<Parameters> {
    let bytes = fs::read(path).map_err(|error| {
        Failure::error(format!("cannot read the weights in `{}`: {error}", path.display()))
            .help("`slalom train --final` writes such a file")
    })?;
    Parameters::from_safetensors(&bytes, nodes as usize)
        .with_context(|| format!("`{}` does not hold the weights of a model of {nodes} nodes", path.display()))
        .map_err(|error| {
            let help = "it has PyTorch's tensors lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, classifier.weight, \
                        classifier.bias, all F32; `slalom train --final` writes such a file";
            Failure::usage(format!("{error:#}")).help(help).into()
        })
}

/// Refuses a place that takes no file before anything is trained, and leaves what is there as it is.
fn writable(path: &Path) -> anyhow::Result<()> {
    let there = path.exists();
    fs::OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
        Failure::error(format!("cannot write the weights to `{}`: {error}", path.display()))
            .help("give a file in a folder that is there; nothing was trained")
    })?;
    if !there {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn refused(error: &TrainerError) -> Failure {
    match error {
        TrainerError::CorpusTooShort { .. } => Failure::usage(error.to_string())
            .help("take a longer corpus, a lower --valid-size or a smaller batch"),
        TrainerError::OutOfMemory(_) => {
            Failure::error(error.to_string()).help("take a smaller model or batch")
        }
        TrainerError::Size { .. }
        | TrainerError::Settings(_)
        | TrainerError::NoValidation
        | TrainerError::Weights { .. } => Failure::usage(error.to_string()),
    }
}

/// One line of `--output json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Step {
        step: u64,
        loss: f64,
        grad_norm: f64,
    },
    /// Null if the validation met a number that is not finite.
    Measured {
        steps_done: u64,
        valid_perplexity: Option<f64>,
    },
    Diverged {
        diverged_at: u64,
    },
}

/// What is printed on the way: lines for programs, or a table for people and a progress line while they look.
enum Printer {
    /// By the line: whoever reads it sees a step when it is done, and no half of one if the training is interrupted.
    Json(LineWriter<StdoutLock<'static>>),
    Table {
        bar: Option<ProgressBar>,
        last: Option<(f64, f64)>,
        headed: bool,
    },
    Quiet,
}

impl Printer {
    fn new(output: Output, steps: u64) -> Self {
        match output.mode() {
            Mode::Json => Self::Json(LineWriter::new(io::stdout().lock())),
            Mode::Quiet => Self::Quiet,
            Mode::Table => {
                let bar = io::stderr().is_terminal().then(|| {
                    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
                    bar.set_style(bar::style(
                        "  {percent:>3}%  {wide_bar}  step {human_pos}/{human_len}   {msg}   {eta} left",
                    ));
                    bar.enable_steady_tick(TICK);
                    bar
                });
                Self::Table { bar, last: None, headed: false }
            }
        }
    }

    fn stepped(&mut self, step: Step, loss: f64, grad_norm: f64) -> io::Result<()> {
        match self {
            Self::Json(out) => json(out, &Line::Step { step: step.number(), loss, grad_norm }),
            Self::Table { bar, last, .. } => {
                *last = Some((loss, grad_norm));
                if let Some(bar) = bar {
                    bar.inc(1);
                    if step.number().is_multiple_of(16) {
                        bar.set_message(format!("loss {}", number::four_places(loss)));
                    }
                }
                Ok(())
            }
            Self::Quiet => Ok(()),
        }
    }

    fn measured(&mut self, done: Step, measured: Measured) -> io::Result<()> {
        let perplexity = match measured {
            Measured::Perplexity(perplexity) => Some(perplexity.value()),
            Measured::Diverged => None,
        };
        match self {
            Self::Json(out) => {
                json(out, &Line::Measured { steps_done: done.number(), valid_perplexity: perplexity })
            }
            Self::Table { bar, last, headed } => {
                let (loss, norm) = last.map_or_else(
                    || ("-".to_owned(), "-".to_owned()),
                    |(loss, norm)| (number::four_places(loss), number::four_places(norm)),
                );
                let perplexity = perplexity.map_or_else(|| "diverged".to_owned(), number::perplexity);
                let mut lines = String::new();
                if !*headed {
                    *headed = true;
                    lines += &format!(
                        "{:>10}  {:>8}  {:>10}  {:>16}\n",
                        "steps done", "loss", "grad norm", "valid perplexity"
                    );
                }
                lines += &format!("{:>10}  {loss:>8}  {norm:>10}  {perplexity:>16}\n", done.number());
                print(bar.as_ref(), &lines)
            }
            Self::Quiet => Ok(()),
        }
    }

    fn diverged(&mut self, at: Step) -> io::Result<()> {
        match self {
            Self::Json(out) => json(out, &Line::Diverged { diverged_at: at.number() }),
            Self::Table { bar, .. } => print(bar.as_ref(), &format!("diverged at step {at}\n")),
            Self::Quiet => Ok(()),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Json(mut out) => out.flush(),
            Self::Table { bar, .. } => {
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
                Ok(())
            }
            Self::Quiet => Ok(()),
        }
    }
}

fn json(out: &mut impl io::Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn print(bar: Option<&ProgressBar>, lines: &str) -> io::Result<()> {
    let print = || io::stdout().lock().write_all(lines.as_bytes());
    match bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}
