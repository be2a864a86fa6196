//! `slalom plan`: how large a sweep is and how long it takes, before it starts.

use serde::Serialize;
use slalom_common::answer::Preview;
use slalom_common::cost::{Coefficients, REFERENCE};
use slalom_common::filter::Filter;
use slalom_common::id::Step;
use slalom_common::run::Shape;
use slalom_common::sweep::Sweep;
use slalom_worker::agent::speed;
use slalom_worker::config::cores;

use super::{kernels, sweep};
use crate::args::{PlanArgs, WhereArgs};
use crate::connect::{People, Who};
use crate::failure::{Exit, Failure};
use crate::output::{Mode, Output, note, number, print, print_json, print_name};

/// A sweep measured, and somewhere to train it.
struct Plan<'a> {
    sweep: &'a Sweep,
    work: Work,
    /// What is there already; unknown where there was nobody to ask.
    known: Option<Known>,
    place: Place,
}

/// Runs of the sweep that are not new.
#[derive(Clone, Copy)]
struct Known {
    answered: u64,
    /// They go on from a checkpoint.
    resumed: u64,
    /// Their checkpoints were dropped: they begin anew.
    dropped: u64,
    /// Of all that the sweep takes, what need not be trained again.
    share: f64,
}

/// Where the sweep would be trained.
#[derive(Clone, Copy)]
struct Place {
    /// `here`, or `there` for a coordinator that was named.
    word: &'static str,
    /// What a prediction for it is made of.
    by: &'static str,
    slots: u32,
    /// What work takes of the core that `speed` is relative to.
    cost: Coefficients,
    /// Of all slots together.
    speed: f64,
}

/// What it takes, in FLOPs and in seconds of a core.
struct Work {
    train_flop: f64,
    validate_flop: f64,
    seconds: f64,
    longest: Option<(Shape, f64)>,
    /// Steps that the trials ask for, one by one.
    steps_asked: f64,
    /// Steps that are trained.
    steps_trained: f64,
}

impl Work {
    fn of(sweep: &Sweep, cost: &Coefficients) -> Self {
        let (train_flop, validate_flop) = sweep.flops();
        let mut work = Self {
            train_flop,
            validate_flop,
            seconds: 0.0,
            longest: None,
            steps_asked: 0.0,
            steps_trained: 0.0,
        };
        for (_, at) in sweep.run_numbers() {
            let trials = sweep.trial_steps(&at);
            let last = trials.last().copied().unwrap_or(Step::new(0));
            let seconds = cost.seconds(&sweep.run_work(&at));
            work.seconds += seconds;
            if work.longest.is_none_or(|(_, longest)| seconds > longest) {
                work.longest = Some((at.shape, seconds));
            }
            for step in &trials {
                work.steps_asked += step.number() as f64;
            }
            work.steps_trained += last.number() as f64;
        }
        work
    }
}

impl Place {
    /// Seconds for all runs, less what is `known` of them: no less than the longest takes on one slot, if so much is left.
    fn seconds(&self, work: &Work, known: Option<Known>) -> Option<f64> {
        if self.slots == 0 || self.speed <= 0.0 {
            return None;
        }
        let left = work.seconds * (1.0 - known.map_or(0.0, |known| known.share));
        let longest = work.longest.map_or(0.0, |(_, seconds)| seconds).min(left);
        Some((left / self.speed).max(longest * f64::from(self.slots) / self.speed))
    }

    /// Seconds of the longest run, on one slot; on the core that speed is relative to where there is none.
    fn longest_seconds(&self, seconds: f64) -> f64 {
        if self.slots == 0 || self.speed <= 0.0 {
            seconds
        } else {
            seconds * f64::from(self.slots) / self.speed
        }
    }
}

/// Prints the plan.
///
/// # Errors
/// Bad input, or a coordinator that was named and does not answer.
pub(crate) async fn run(args: &PlanArgs, output: Output) -> anyhow::Result<Exit> {
    let (sweep, _) = sweep(&args.spec, &args.cache)?;
    let mut known = None;
    let mut place = None;
    match preview(&sweep, &args.at).await {
        Ok(Some((preview, who))) => {
            let Preview { known_runs: answered, resumed_runs: resumed, dropped_runs: dropped, .. } = preview;
            let share = (preview.known_s / REFERENCE.seconds(&sweep.work())).clamp(0.0, 1.0);
            known = Some(Known { answered, resumed, dropped, share });
            if let (false, Who::Coordinator { address }) = (args.at.coordinator.is_empty(), who) {
                place = Some(Place {
                    word: "there",
                    by: "as its workers measured themselves",
                    slots: preview.slots,
                    cost: REFERENCE,
                    speed: preview.speed,
                });
                if preview.slots == 0 {
                    note(&format!(
                        "no worker takes runs there: `slalom workers` lists those there are, `slalom worker --coordinator {address}` starts one"
                    ));
                }
            }
        }
        Ok(None) => {}
        // Somebody whom nobody named, and who does not answer, is no reason not to plan.
        Err(error) if args.at.coordinator.is_empty() => {
            note(&format!("what is known already cannot be told: {error:#}"));
        }
        Err(error) => return Err(error),
    }
    let place = match place {
        Some(place) => place,
        None => here(args)?,
    };
    let plan = Plan { sweep: &sweep, work: Work::of(&sweep, &place.cost), known, place };
    match output.mode() {
        Mode::Json => print_json(&PlanJson::from(&plan))?,
        Mode::Quiet => print_name(sweep.name().as_str())?,
        Mode::Table => print(&plan.lines())?,
    }
    Ok(Exit::Done)
}

/// What the sweep would be to whoever answers, if anybody does.
async fn preview(sweep: &Sweep, at: &WhereArgs) -> anyhow::Result<Option<(Preview, Who)>> {
    let Some(mut people) = People::find_any(at).await? else {
        return Ok(None);
    };
    let preview = people.preview(sweep).await;
    let who = people.who().clone();
    people.close().await?;
    Ok(Some((preview?, who)))
}

fn here(args: &PlanArgs) -> anyhow::Result<Place> {
    let slots = args.slots.unwrap_or_else(cores);
    let measured = speed::measure(kernels(args.isa)?)
        .map_err(|error| Failure::error(format!("cannot measure the speed of this machine: {error}")))?;
    Ok(Place {
        word: "here",
        by: "as measured just now",
        slots,
        cost: measured.cost,
        speed: f64::from(slots),
    })
}

impl Plan<'_> {
    fn lines(&self) -> String {
        let name = self.sweep.name().as_str();
        let width = name.len().max("excluded".len()) + 3;
        let mut lines = String::new();
        let mut line = |label: &str, words: String| lines += &format!("{label:<width$}{words}\n");
        let size = self.sweep.size();
        line(name, format!("{} = {}", number::counted(size.trials + size.excluded, "trial"), self.product()));
        let filters: Vec<&Filter> =
            self.sweep.draft().blocks.iter().flat_map(slalom_common::grid::Grid::exclude).collect();
        if !filters.is_empty() {
            let sources: Vec<String> =
                filters.iter().map(|filter| format!("`{}`", filter.source())).collect();
            line(
                "excluded",
                format!("{} by {}", number::counted(size.excluded, "trial"), sources.join(", ")),
            );
        }
        line("runs", self.runs());
        if let Some(Known { answered, resumed, dropped, .. }) = self.known {
            let mut words = format!("{} already in the store", number::counted(answered, "run"));
            if resumed > 0 {
                words += &format!("; {} with a checkpoint to go on from", number::counted(resumed, "run"));
            }
            if dropped > 0 {
                words += &format!("; checkpoints of {} were dropped", number::counted(dropped, "run"));
            }
            line("known", words);
        }
        let work = &self.work;
        let [train, validate] = number::flops([work.train_flop, work.validate_flop]);
        let longest = work.longest.map_or_else(String::new, |(shape, seconds)| {
            let seconds = number::seconds(self.place.longest_seconds(seconds));
            format!("; longest run {shape}: {seconds}")
        });
        line("work", format!("{train} to train, {validate} to validate{longest}"));
        let slots = number::counted(self.place.slots.into(), "slot");
        let time = match self.place.seconds(work, self.known) {
            _ if self.known.is_some_and(|known| known.answered == size.runs) => {
                "nothing is left to train".to_owned()
            }
            Some(seconds) => format!("about {}, {}", number::seconds(seconds), self.place.by),
            None => "no worker takes runs".to_owned(),
        };
        line(self.place.word, format!("{slots}: {time}"));
        lines
    }

    /// `4 nodes x 3 batch_size x 4 unrollings x 3 epochs x 3 seeds`, of each block.
    fn product(&self) -> String {
        let block = |block: &slalom_common::grid::Grid| {
            let axes = block.axes();
            format!(
                "{} nodes x {} batch_size x {} unrollings x {} epochs x {}",
                axes.nodes.len(),
                axes.batch_size.len(),
                axes.unrollings.len(),
                axes.epochs.len(),
                number::counted(axes.seed.len() as u64, "seed"),
            )
        };
        self.sweep.draft().blocks.iter().map(block).collect::<Vec<_>>().join(" + ")
    }

    fn runs(&self) -> String {
        let runs = number::count(self.sweep.size().runs);
        let epochs =
            self.sweep.draft().blocks.iter().map(|block| block.axes().epochs.len()).max().unwrap_or(1);
        let times = self.work.steps_asked / self.work.steps_trained;
        if epochs > 1 && times > 1.0 {
            format!(
                "{runs} (each run answers its {epochs} epochs: {} times less to train)",
                hundredths(times)
            )
        } else {
            runs
        }
    }
}

/// `1.75`, `2`.
fn hundredths(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[derive(Serialize)]
struct PlanJson<'a> {
    sweep: &'a str,
    trials: u64,
    excluded: u64,
    runs: u64,
    /// Null where there was nobody to ask.
    known_runs: Option<u64>,
    /// Of the others, those that go on from a checkpoint, and those whose checkpoints were dropped.
    resumed_runs: Option<u64>,
    dropped_runs: Option<u64>,
    train_flop: f64,
    validate_flop: f64,
    longest_run_s: Option<f64>,
    slots: u32,
    /// Null where there is no slot.
    predicted_s: Option<f64>,
}

impl<'a> From<&Plan<'a>> for PlanJson<'a> {
    fn from(plan: &Plan<'a>) -> Self {
        let size = plan.sweep.size();
        Self {
            sweep: plan.sweep.name().as_str(),
            trials: size.trials,
            excluded: size.excluded,
            runs: size.runs,
            known_runs: plan.known.map(|known| known.answered),
            resumed_runs: plan.known.map(|known| known.resumed),
            dropped_runs: plan.known.map(|known| known.dropped),
            train_flop: plan.work.train_flop,
            validate_flop: plan.work.validate_flop,
            longest_run_s: plan.work.longest.map(|(_, seconds)| plan.place.longest_seconds(seconds)),
            slots: plan.place.slots,
            predicted_s: plan.place.seconds(&plan.work, plan.known),
        }
    }
}
