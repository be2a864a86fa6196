//! A run is one trajectory: whatever is measured on the way, and wherever it is stopped, it passes the same bits.

use std::sync::Arc;

use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use slalom_common::checkpoint::Checkpoint;
use slalom_common::id::{ContentHash, Step};
use slalom_common::outcome::{FailureReason, Measured, Milestone};
use slalom_common::rng::philox4x32_10;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;
use slalom_worker::kernels::Kernels;
use slalom_worker::lstm::forward::Activations;
use slalom_worker::lstm::params::Parameters;
use slalom_worker::lstm::step::Stepped;
use slalom_worker::trainer::memory::bytes_needed;
use slalom_worker::trainer::milestones::{Ended, Next, Observer, WantedError};
use slalom_worker::trainer::resume::ResumeError;
use slalom_worker::trainer::{Initial, Trainer, TrainerError};

fn text() -> Arc<[u8]> {
    (0..150).map(|index| (philox4x32_10([index, 0, 0, 0], [3, 0])[0] % 27) as u8).collect()
}

fn run(shape: Shape, training: TrainingSettings) -> Run {
    let family = Family { corpus: ContentHash::of(&text()), valid_size: 20, training, numerics: NUMERICS };
    Run { family, shape, seed: 11 }
}

fn trainer(kernels: Kernels, run: &Run) -> Trainer {
    Trainer::new(kernels, run, text(), Initial::Seed).expect("the run fits")
}

fn steps(numbers: &[u64]) -> Vec<Step> {
    numbers.iter().copied().map(Step::new).collect()
}

/// Keeps all that it is told, and asks for what its plan says before each step.
#[derive(Default)]
struct Recorder {
    plan: Vec<(u64, Next)>,
    losses: Vec<(Step, f64)>,
    milestones: Vec<Milestone>,
    checkpoints: Vec<Checkpoint>,
}

impl Observer for Recorder {
    fn on_step(&mut self, step: Step, loss: f64, grad_norm: f64) {
        assert!(grad_norm.is_finite());
        self.losses.push((step, loss));
    }

    fn on_milestone(&mut self, milestone: Milestone) {
        self.milestones.push(milestone);
    }

    fn on_checkpoint(&mut self, checkpoint: Checkpoint) {
        self.checkpoints.push(checkpoint);
    }

    fn next(&mut self, done: Step) -> Next {
        let planned = self.plan.iter().find(|(step, _)| *step == done.number());
        planned.map_or(Next::Continue, |(_, next)| *next)
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1_u32..40, 1_u32..12, 1_u32..9).prop_map(|(nodes, batch_size, unrollings)| Shape {
        nodes,
        batch_size,
        unrollings,
    })
}

/// Decay and clip act within a few steps.
const TRAINING: TrainingSettings =
    TrainingSettings { learning_rate: 10.0, decay_rate: 0.1, decay_steps: 5, clip_norm: 0.2 };

proptest! {
    #[test]
    fn a_milestone_is_what_a_run_of_that_length_alone_gives(shape in shapes()) {
        let run = run(shape, TRAINING);
        let mut whole = Recorder::default();
        let ended = trainer(Kernels::detect(), &run).train_to(&steps(&[0, 1, 4, 9]), &mut whole);
        prop_assert_eq!(ended, Ok(Ended::Done));
        prop_assert_eq!(whole.losses.len(), 9);
        for milestone in &whole.milestones {
            let mut alone = Recorder::default();
            let ended = trainer(Kernels::detect(), &run).train_to(&[milestone.step], &mut alone);
            prop_assert_eq!(ended, Ok(Ended::Done));
            prop_assert_eq!(&alone.milestones, &[*milestone]);
        }
        prop_assert_eq!(whole.milestones.len(), 4);
    }

    /// Stopped on one instruction set and continued on another, by way of bytes.
    #[test]
    fn a_run_that_was_stopped_anywhere_goes_on_with_the_same_bits(shape in shapes(), at in 0_u64..9, which in any::<usize>()) {
        let run = run(shape, TRAINING);
        let wanted = steps(&[0, 4, 9]);
        let mut whole = Recorder::default();
        let mut never_stopped = trainer(Kernels::detect(), &run);
        prop_assert_eq!(never_stopped.train_to(&wanted, &mut whole), Ok(Ended::Done));

        let isas = Kernels::available();
        let mut first = Recorder { plan: vec![(at, Next::Stop)], ..Recorder::default() };
        let mut stopped = trainer(isas[which % isas.len()], &run);
        prop_assert_eq!(stopped.train_to(&wanted, &mut first), Ok(Ended::Stopped));
        prop_assert_eq!(stopped.steps_done(), Step::new(at));

        let bytes = stopped.checkpoint().to_bytes();
        let checkpoint = Checkpoint::from_bytes(&bytes, &run).expect("our own bytes");
        let mut resumed = Trainer::resume(isas[which / 7 % isas.len()], &run, text(), &checkpoint).expect("our own state");
        prop_assert_eq!(resumed.checkpoint().to_bytes(), bytes);
        let rest: Vec<Step> = wanted.iter().copied().filter(|step| step.number() > at).collect();
        let mut second = Recorder::default();
        prop_assert_eq!(resumed.train_to(&rest, &mut second), Ok(Ended::Done));

        prop_assert_eq!([first.milestones, second.milestones].concat(), whole.milestones);
        prop_assert_eq!([first.losses, second.losses].concat(), whole.losses);
        prop_assert_eq!(resumed.checkpoint().to_bytes(), never_stopped.checkpoint().to_bytes());
    }
}

const SMALL: Shape = Shape { nodes: 5, batch_size: 3, unrollings: 4 };

#[test]
fn a_checkpoint_on_the_way_is_the_one_of_a_run_stopped_there() {
    let run = run(SMALL, TRAINING);
    let mut observer =
        Recorder { plan: vec![(0, Next::Checkpoint), (6, Next::Checkpoint)], ..Recorder::default() };
    let ended = trainer(Kernels::detect(), &run).train_to(&steps(&[8]), &mut observer);
    assert_eq!(ended, Ok(Ended::Done));
    assert_eq!(observer.checkpoints.len(), 2);
    for checkpoint in observer.checkpoints {
        let mut stopped = trainer(Kernels::detect(), &run);
        for _ in 0..checkpoint.step.number() {
            stopped.step();
        }
        assert_eq!(checkpoint.to_bytes(), stopped.checkpoint().to_bytes());
    }
}

/// A rate that no f32 holds makes the first update infinite, so the second step's loss is not a number.
#[test]
fn a_run_that_diverges_ends_there_and_what_it_measured_before_stands() {
    let run = run(SMALL, TrainingSettings { learning_rate: 1e60, ..TRAINING });
    for kernels in Kernels::available() {
        let mut observer = Recorder::default();
        let mut trainer = trainer(kernels, &run);
        let ended = trainer.train_to(&steps(&[0, 1, 5]), &mut observer);
        let Ok(Ended::Diverged { at, loss, grad_norm }) = ended else { panic!("{ended:?}") };
        assert_eq!(at, Step::new(1));
        assert!(!(loss.is_finite() && grad_norm.is_finite()));
        let measured: Vec<Measured> =
            observer.milestones.iter().map(|milestone| milestone.measured).collect();
        assert!(matches!(measured[..], [Measured::Perplexity(_), Measured::Diverged]), "{measured:?}");

        let before = trainer.checkpoint().to_bytes();
        assert!(matches!(trainer.step(), Stepped::Diverged { .. }), "it would diverge there again");
        assert_eq!(trainer.checkpoint().to_bytes(), before, "a step that diverges changes nothing");
        assert_eq!(trainer.steps_done(), Step::new(1));
    }
}

#[test]
fn wanted_steps_that_cannot_be_answered_are_refused() {
    let run = run(SMALL, TRAINING);
    let mut trainer = trainer(Kernels::detect(), &run);
    let mut observer = Recorder::default();
    for numbers in [[3, 3], [4, 3]] {
        let refused = trainer.train_to(&steps(&numbers), &mut observer);
        assert!(matches!(refused, Err(WantedError::Order { .. })), "{refused:?}");
    }
    let late = Step::new(1 << 40);
    assert_eq!(trainer.train_to(&[late], &mut observer), Err(WantedError::Beyond(late)));
    assert_eq!(trainer.train_to(&steps(&[2]), &mut observer), Ok(Ended::Done));
    let behind = WantedError::Behind { wanted: Step::new(1), done: Step::new(2) };
    assert_eq!(trainer.train_to(&steps(&[1, 4]), &mut observer), Err(behind));
    assert_eq!(trainer.steps_done(), Step::new(2));
}

#[test]
fn a_run_that_cannot_be_trained_is_refused_before_its_first_step() {
    let refused = |change: fn(&mut Run)| {
        let mut run = run(SMALL, TRAINING);
        change(&mut run);
        Trainer::new(Kernels::detect(), &run, text(), Initial::Seed).map(|_| ()).expect_err("out of bounds")
    };
    let empty = refused(|run| run.shape.nodes = 0);
    assert!(matches!(empty, TrainerError::Size { key: "nodes", value: 0, .. }), "{empty}");
    let long = refused(|run| run.shape.unrollings = 65_537);
    assert!(matches!(long, TrainerError::Size { key: "unrollings", .. }), "{long}");
    let unbounded = refused(|run| run.family.training.clip_norm = f64::NAN);
    assert!(matches!(unbounded, TrainerError::Settings(_)), "{unbounded}");
    assert_eq!(refused(|run| run.family.valid_size = 0), TrainerError::NoValidation);
    for too_short in [
        refused(|run| run.family.valid_size = 151),
        refused(|run| run.family.valid_size = 148),
        refused(|run| run.shape.batch_size = 131),
    ] {
        assert!(matches!(too_short, TrainerError::CorpusTooShort { chars: 150, .. }), "{too_short}");
        assert_eq!(too_short.reason(), Some(FailureReason::Corpus));
    }
    let wide = Initial::Weights(Box::new(Parameters::initial(6, 0).expect("it fits")));
    let wide = Trainer::new(Kernels::detect(), &run(SMALL, TRAINING), text(), wide).map(|_| ());
    assert_eq!(wide, Err(TrainerError::Weights { found: 6, wanted: 5 }));
}

/// 2^48 bytes for h alone, more than a process can address: so the refusal does not depend on the machine.
#[test]
fn a_run_that_no_memory_holds_is_refused_and_does_not_abort() {
    let shape = Shape { nodes: 16_384, batch_size: 65_536, unrollings: 65_536 };
    assert!(bytes_needed(&shape) > 1 << 48);
    let refused =
        TrainerError::from(Activations::new(&shape).map(|_| ()).expect_err("no machine has so much"));
    assert_eq!(refused.reason(), Some(FailureReason::Memory));
}

#[test]
fn a_checkpoint_of_another_run_or_of_another_place_is_refused() {
    let run = run(SMALL, TRAINING);
    let mut trainer = trainer(Kernels::detect(), &run);
    trainer.step();
    let checkpoint = trainer.checkpoint();
    let refused = |run: &Run, checkpoint: &Checkpoint| {
        Trainer::resume(Kernels::detect(), run, text(), checkpoint).map(|_| ()).expect_err("not this run's")
    };
    let other = refused(&Run { seed: 12, ..run }, &checkpoint);
    assert!(matches!(other, ResumeError::Run { .. }), "{other}");
    let moved = refused(&run, &Checkpoint { step: Step::new(2), ..checkpoint.clone() });
    assert_eq!(moved, ResumeError::Cursors(Step::new(2)));
    let short = refused(&run, &Checkpoint { h: vec![0.0; 3], ..checkpoint });
    assert_eq!(short, ResumeError::Length { name: "h", found: 3, wanted: 15 });
}
