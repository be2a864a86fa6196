//! A run as the ledger knows it: its answers, its attempts, and how each sweep sees it.

use std::collections::BTreeMap;

use slalom_common::answer::RunState;
use slalom_common::grid::Coordinates;
use slalom_common::id::{LeaseId, RunNumber, Step};
use slalom_common::message::CheckpointName;
use slalom_common::outcome::{FailureReason, Measured, Milestone};
use slalom_common::run::Run;

use super::SweepIndex;
use crate::scheduler::record::Answer;

/// Lost workers in a row, without a new milestone or checkpoint between, that fail a run (I8).
pub const LOSSES_MAX: u32 = 20;

/// Lost workers in a row, without a new milestone or checkpoint between, after which a run is leased alone on its worker: should
/// it be what kills them, it takes no other run with it.
pub const LOSSES_TOGETHER_MAX: u32 = 3;

/// How a new answer relates to what is recorded (I4, I5).
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// Nothing is recorded yet.
    New,
    /// The very same is recorded.
    Same,
    /// Something else is recorded: it stays.
    Conflict {
        /// What is recorded.
        kept: Answer,
        /// Under which lease it came.
        kept_lease: LeaseId,
    },
}

/// A recorded answer and the lease it came under.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Kept {
    /// Perplexity or divergence.
    pub measured: Measured,
    /// For people.
    pub loss: Option<f64>,
    /// Names the worker by its grant.
    pub lease: LeaseId,
}

/// What is known of a run that was leased at least once.
#[derive(Clone, Debug)]
pub struct RunEntry {
    /// Its content.
    pub run: Run,
    /// By step. Complete only with `diverged`, which answers every later step.
    pub answers: BTreeMap<Step, Kept>,
    /// The step at which training diverged, and the lease that said so.
    pub diverged: Option<(Step, LeaseId)>,
    /// The primary lease in force.
    pub lease: Option<LeaseId>,
    /// The copy in force: only beside a primary lease, whose place it takes if that ends before the run is over.
    pub copy: Option<LeaseId>,
    /// The last lease, in force or not.
    pub last_lease: Option<LeaseId>,
    /// Own failures since it was last given fresh attempts.
    pub failures: u32,
    /// Workers lost over it in a row without a new milestone or checkpoint.
    pub losses: u32,
    /// Whether it is leased alone on its worker. What it comes to later does not undo that, but fresh attempts do.
    pub alone: bool,
    /// Why it last failed, if it did.
    pub last_failure: Option<(FailureReason, String)>,
    /// Whether its attempts are used up.
    pub given_up: bool,
    /// The newest two, the newer last.
    pub checkpoints: Vec<CheckpointName>,
    /// What was refused because something else is kept, by the lease and the step that it came under.
    refused: BTreeMap<(LeaseId, Step), Answer>,
    pub(super) views: Vec<View>,
}

impl RunEntry {
    /// A run of which nothing is known but its content.
    pub(super) const fn new(run: Run) -> Self {
        Self {
            run,
            answers: BTreeMap::new(),
            diverged: None,
            lease: None,
            copy: None,
            last_lease: None,
            failures: 0,
            losses: 0,
            alone: false,
            last_failure: None,
            given_up: false,
            checkpoints: Vec::new(),
            refused: BTreeMap::new(),
            views: Vec::new(),
        }
    }

    /// Its shape and seed.
    pub fn coordinates(&self) -> Coordinates {
        Coordinates { shape: self.run.shape, seed: self.run.seed }
    }

    /// The answer to a wanted step, if there is one.
    pub fn answer(&self, step: Step) -> Option<Measured> {
        match (self.answers.get(&step), self.diverged) {
            (Some(kept), _) => Some(kept.measured),
            (None, Some((at, _))) if at < step => Some(Measured::Diverged),
            (None, _) => None,
        }
    }

    /// How `milestone` relates to what is recorded.
    pub fn judge(&self, milestone: &Milestone) -> Verdict {
        if let Some(kept) = self.answers.get(&milestone.step) {
            if kept.measured == milestone.measured {
                return Verdict::Same;
            }
            let answer = Milestone { step: milestone.step, measured: kept.measured, loss: kept.loss };
            return Verdict::Conflict { kept: Answer::Milestone(answer), kept_lease: kept.lease };
        }
        match self.diverged {
            Some((at, lease)) if at < milestone.step => {
                Verdict::Conflict { kept: Answer::DivergedAt(at), kept_lease: lease }
            }
            _ => Verdict::New,
        }
    }

    /// How a divergence of the training at `at` relates to what is recorded.
    pub fn judge_divergence(&self, at: Step) -> Verdict {
        if let Some((kept, lease)) = self.diverged {
            return if kept == at {
                Verdict::Same
            } else {
                Verdict::Conflict { kept: Answer::DivergedAt(kept), kept_lease: lease }
            };
        }
        match self.answers.last_key_value() {
            Some((&step, kept)) if step > at => {
                let answer = Milestone { step, measured: kept.measured, loss: kept.loss };
                Verdict::Conflict { kept: Answer::Milestone(answer), kept_lease: kept.lease }
            }
            _ => Verdict::New,
        }
    }

    /// In which sweeps it stands, under which numbers, in which states.
    pub fn views(&self) -> impl Iterator<Item = (SweepIndex, RunNumber, RunState)> + '_ {
        self.views.iter().map(|view| (view.sweep, view.number, view.state))
    }

    /// Whether this very answer is on record as refused: its report comes again if the first acknowledgement was lost (I5).
    pub fn has_refused(&self, lease: LeaseId, answer: &Answer) -> bool {
        self.refused.get(&(lease, answer.step())) == Some(answer)
    }

    pub(super) fn refuse(&mut self, lease: LeaseId, answer: Answer) {
        self.refused.insert((lease, answer.step()), answer);
    }

    pub(super) fn count_loss(&mut self, detail: &str) {
        self.losses += 1;
        self.alone |= self.losses >= LOSSES_TOGETHER_MAX;
        if self.losses >= LOSSES_MAX {
            self.last_failure = Some((FailureReason::Lost, detail.to_owned()));
            self.given_up = true;
        }
    }

    /// How far the run is towards `wanted`, ascending: to the last answer before the first that lacks one, or to the
    /// checkpoint that it can go on from there. What it was trained to beyond that, for another sweep, is no help.
    pub fn step_towards(&self, wanted: &[Step]) -> Step {
        let start = Step::new(0);
        let Some(missing) = wanted.iter().position(|&step| self.answer(step).is_none()) else {
            return wanted.last().copied().unwrap_or(start);
        };
        let answered = missing.checked_sub(1).map_or(start, |before| wanted[before]);
        let kept = self.checkpoints.iter().map(|checkpoint| checkpoint.step);
        kept.filter(|&step| step <= wanted[missing]).fold(answered, Step::max)
    }
}

/// A run as one sweep sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) sweep: SweepIndex,
    pub(super) number: RunNumber,
    pub(super) state: RunState,
    /// Wanted steps of this sweep without an answer.
    pub(super) missing: u64,
    /// Its trials answered by a perplexity, and by a divergence.
    pub(super) trials_done: u64,
    pub(super) trials_diverged: u64,
}
