//! A whole lease: train once to the largest wanted step and measure at each on the way.

use slalom_common::checkpoint::Checkpoint;
use slalom_common::id::Step;
use slalom_common::outcome::Milestone;

use super::Trainer;
use crate::lstm::step::Stepped;

/// Who is told what happens, and says what is next.
pub trait Observer {
    /// Step `step` (from 0) was applied; the loss is of its batch before the update, the norm before clipping.
    fn on_step(&mut self, step: Step, loss: f64, grad_norm: f64);

    /// A wanted step was reached and measured.
    fn on_milestone(&mut self, milestone: Milestone);

    /// The state that [`Next::Checkpoint`] asked for.
    fn on_checkpoint(&mut self, checkpoint: Checkpoint);

    /// Asked before every step, when `done` steps have been applied and their milestone, if wanted, was given: so no
    /// checkpoint and no stop overtakes a milestone.
    fn next(&mut self, done: Step) -> Next;
}

/// What to do before the next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing.
    Continue,
    /// Give a checkpoint.
    Checkpoint,
    /// End here; the trainer can still give a checkpoint, and go on later.
    Stop,
}

/// How a lease ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ended {
    /// Every wanted step was measured.
    Done,
    /// The observer said so.
    Stopped,
    /// Training diverged: every wanted step beyond `at` has diverged with it.
    Diverged {
        /// The step, from 0, that was not applied; so many steps were.
        at: Step,
        /// Its loss, as it came out.
        loss: f64,
        /// Its norm, as it came out.
        grad_norm: f64,
    },
}

/// Wanted steps that this trainer cannot answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WantedError {
    /// Not in rising order.
    #[error("wanted step {next} follows {before}: wanted steps must rise")]
    Order {
        /// The one.
        before: Step,
        /// Its successor.
        next: Step,
    },
    /// The run is already past it: a hole that training on would never fill.
    #[error("step {wanted} is wanted, but {done} steps are done")]
    Behind {
        /// The first wanted step.
        wanted: Step,
        /// Steps applied.
        done: Step,
    },
    /// No run has so many steps.
    #[error("step {0} is wanted: steps are below 2^40")]
    Beyond(Step),
}

impl Trainer {
    /// Trains to the last of `wanted`, rising steps, and measures at each; 0 is one too.
    ///
    /// # Errors
    /// If the wanted steps do not rise, or begin before the steps that are done.
    pub fn train_to(&mut self, wanted: &[Step], observer: &mut impl Observer) -> Result<Ended, WantedError> {
        check(wanted, self.steps_done())?;
        let mut wanted = wanted.iter().copied().peekable();
        loop {
            let done = self.steps_done();
            if wanted.next_if_eq(&done).is_some() {
                observer.on_milestone(Milestone { step: done, measured: self.validate(), loss: self.loss });
            }
            if wanted.peek().is_none() {
                return Ok(Ended::Done);
            }
            match observer.next(done) {
                Next::Continue => (),
                Next::Checkpoint => observer.on_checkpoint(self.checkpoint()),
                Next::Stop => return Ok(Ended::Stopped),
            }
            match self.step() {
                Stepped::Applied { loss, grad_norm } => observer.on_step(done, loss, grad_norm),
                Stepped::Diverged { loss, grad_norm } => {
                    return Ok(Ended::Diverged { at: done, loss, grad_norm });
                }
            }
        }
    }
}

fn check(wanted: &[Step], done: Step) -> Result<(), WantedError> {
    for (&before, &next) in wanted.iter().zip(wanted.iter().skip(1)) {
        if before >= next {
            return Err(WantedError::Order { before, next });
        }
    }
    match (wanted.first(), wanted.last()) {
        (Some(&wanted), _) if wanted < done => Err(WantedError::Behind { wanted, done }),
        (_, Some(&last)) if last.number() >= super::STEPS_END => Err(WantedError::Beyond(last)),
        _ => Ok(()),
    }
}
