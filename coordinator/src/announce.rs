//! A notice as a line of the log: which of the fleet's events it is, and its fields. No decision but words and levels.

use slalom_common::id::WorkerName;
use slalom_common::log::fleet::{self, AnswerField, MilestoneField, RunField};
use slalom_common::outcome::{FailureReason, Measured};

use crate::scheduler::effect::{Leaving, Named, Notice, Requeue};
use crate::scheduler::record::Answer;

/// Writes `notice` to the log.
pub fn announce(notice: &Notice) {
    match notice {
        Notice::SweepSubmitted { sweep, size, work_tflop } => {
            fleet::sweep_submitted(sweep, *size, *work_tflop);
        }
        Notice::SweepExtended { sweep, added, size, work_tflop } => {
            fleet::sweep_extended(sweep, *added, *size, *work_tflop);
        }
        Notice::SweepDone { sweep, counts, best } => {
            fleet::sweep_done(sweep, counts, *best);
        }
        Notice::SweepCancelled { sweep, counts } => fleet::sweep_cancelled(sweep, counts),
        Notice::SweepPaused { sweep, counts } => fleet::sweep_paused(sweep, counts),
        Notice::SweepStopping { sweep, counts } => fleet::sweep_stopping(sweep, counts),
        Notice::SweepResumed { sweep, counts } => fleet::sweep_resumed(sweep, counts),
        Notice::WorkerJoined { worker, slots, isa, gflops_per_slot, numerics } => {
            fleet::worker_joined(worker, *slots, isa, *gflops_per_slot, *numerics);
        }
        Notice::WorkerDraining { worker, leases } => fleet::worker_draining(worker, *leases),
        Notice::WorkerPaused { worker, reason, detail } => fleet::worker_paused(worker, *reason, detail),
        Notice::WorkerResumed { worker } => fleet::worker_resumed(worker),
        Notice::WorkerLeft { worker, why } => match why {
            Leaving::Drained => fleet::worker_left(worker, "drained"),
            Leaving::Former => fleet::worker_left(worker, "former"),
            Leaving::Silent => fleet::worker_left_silent(worker),
        },
        Notice::RunLeased { run, worker, lease, kind, attempt, resume } => {
            fleet::run_leased(run_field(run), worker, (*lease, *kind), *attempt, *resume);
        }
        Notice::Milestone { run, step, epochs, perplexity, loss, worker, lease, best } => {
            let reached = MilestoneField {
                step: *step,
                perplexity: *perplexity,
                loss: *loss,
                worker,
                lease: *lease,
                best: *best,
            };
            match epochs {
                Some(epochs) => fleet::milestone(run_field(run), *epochs, &reached),
                None => fleet::curve_point(run_field(run), &reached),
            }
        }
        Notice::LeaseExpired { run, worker, lease, silent, resume } => {
            fleet::lease_expired(&run.sweep, run.run, worker, *lease, *silent, *resume);
        }
        Notice::RunRequeued { run, worker, lease, why } => {
            fleet::run_requeued(run_field(run), worker, *lease, requeue_code(*why));
        }
        Notice::RunDone { run, worker } => fleet::run_done(run_field(run), worker),
        Notice::RunDiverged { run, at, worker } => fleet::run_diverged(run_field(run), *at, worker),
        Notice::RunFailed { run, reason, detail, attempts, worker } => {
            let attempt = match reason {
                // Lost in an attempt that never came to an end of its own.
                FailureReason::Lost => attempts + 1,
                FailureReason::Panic
                | FailureReason::Memory
                | FailureReason::Hung
                | FailureReason::Corpus => *attempts,
            };
            fleet::run_failed(run_field(run), attempt, *reason, detail, worker);
        }
        Notice::ResultConflict { run, kept, kept_worker, refused, refused_worker } => {
            fleet::result_conflict(
                run_field(run),
                answer_field(*kept, kept_worker),
                answer_field(*refused, refused_worker),
            );
        }
        Notice::MessageRefused { worker, lease } => {
            fleet::message_refused(worker, Some(*lease), &"never_leased");
        }
        Notice::Progress { sweep, counts, workers, slots, best, eta } => {
            fleet::progress(sweep, counts, *workers, *slots, *best, *eta);
        }
    }
}

fn run_field(run: &Named) -> RunField<'_> {
    RunField { sweep: &run.sweep, run: run.run, at: run.at }
}

fn answer_field(answer: Answer, worker: &WorkerName) -> AnswerField<'_> {
    let (step, measured) = match answer {
        Answer::Milestone(milestone) => (milestone.step, milestone.measured),
        Answer::DivergedAt(at) => (at, Measured::Diverged),
    };
    AnswerField { step, measured, worker }
}

/// A failure goes by its own reason.
fn requeue_code(why: Requeue) -> &'static str {
    match why {
        Requeue::WorkerLost => "lost",
        Requeue::HandedBack => "handed_back",
        Requeue::Failed(reason) => reason.word(),
        Requeue::Absent => "absent",
        Requeue::MoreWanted => "more_wanted",
    }
}
