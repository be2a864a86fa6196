//! What people ask for while things go wrong: sweeps that overlap, the same call twice, a cancel that a retry overtakes, a pause
//! that nobody takes back, a worker sent away.

use std::fmt;

use slalom_common::axis::Axis;
use slalom_common::grid::{Axes, Grid};
use slalom_common::id::{ContentHash, SweepName, WorkerName};
use slalom_common::run::{Family, NUMERICS};
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::{CorpusFacts, Draft, Policy, StepsPerEpoch, Sweep};
use slalom_coordinator::scheduler::event::Steering;

use crate::dice::Dice;
use crate::faults::Length;

/// One call.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Ask {
    Submit(Box<Sweep>),
    /// The trials of this formula, for the sweep of its name.
    Extend(Box<Sweep>),
    Cancel(SweepName),
    Retry(SweepName),
    Steer(SweepName, Steering),
    Drain(WorkerName),
    ResumeWorker(WorkerName),
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(sweep) => write!(f, "submit {}", sweep.name()),
            Self::Extend(sweep) => write!(f, "extend {} to {} trials", sweep.name(), sweep.size().trials),
            Self::Cancel(name) => write!(f, "cancel {name}"),
            Self::Retry(name) => write!(f, "retry {name}"),
            Self::Steer(name, Steering::Pause) => write!(f, "pause {name}"),
            Self::Steer(name, Steering::Stop) => write!(f, "stop {name}"),
            Self::Steer(name, Steering::Resume) => write!(f, "resume {name}"),
            Self::Drain(name) => write!(f, "drain {name}"),
            Self::ResumeWorker(name) => write!(f, "resume worker {name}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CallId(pub(crate) usize);

/// A call and whether its caller has had an answer; until then it is made again.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) ask: Ask,
    pub(crate) answered: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct People {
    pub(crate) sweeps: Vec<Sweep>,
    /// What somebody may extend each by: values beside its own, or beyond them, on an axis or two.
    extensions: Vec<Sweep>,
    pub(crate) calls: Vec<Call>,
    /// Copies of calls that have not arrived yet.
    pub(crate) under_way: u64,
}

impl People {
    pub(crate) fn new(dice: &mut Dice, length: Length, max_attempts: u32) -> Self {
        let names = ["ant", "bee", "cat"];
        let count = dice.within(1..=3) as usize;
        let first_seed = dice.below(1_000_000);
        let mut drawn = |name: &&str| sweep(dice, name, (first_seed, length), max_attempts);
        let sweeps: Vec<Sweep> = names[..count].iter().map(&mut drawn).collect();
        let mut extension = |of: &Sweep| {
            // A sweep of its own, but for what a sweep cannot be extended by.
            let other = drawn(&of.name().as_str());
            let draft = Draft { blocks: other.draft().blocks.clone(), ..of.draft().clone() };
            Sweep::new(draft).expect("a sweep")
        };
        let extensions = sweeps.iter().chain(&sweeps).map(&mut extension).collect();
        Self { sweeps, extensions, calls: Vec::new(), under_way: 0 }
    }

    /// What one of them asks for next, in a fleet of so many workers.
    pub(crate) fn ask(&self, dice: &mut Dice, workers: u64) -> Ask {
        let sweep = dice.pick(&self.sweeps).expect("there is a sweep").clone();
        match dice.below(22) {
            0 | 1 => Ask::Cancel(sweep.name().clone()),
            2 => Ask::Retry(sweep.name().clone()),
            3 => {
                let policy = sweep.policy();
                let other =
                    Draft { eval_every: sweep.draft().eval_every + 1, policy, ..sweep.draft().clone() };
                Ask::Submit(Box::new(Sweep::new(other).expect("a finer curve is a sweep too")))
            }
            4..=6 => Ask::Steer(sweep.name().clone(), Steering::Pause),
            7 | 8 => Ask::Steer(sweep.name().clone(), Steering::Stop),
            9 | 10 => Ask::Steer(sweep.name().clone(), Steering::Resume),
            // Now and then one that there is not.
            11 => Ask::Drain(crate::worker::name(dice.below(workers + 1))),
            19..=21 => Ask::Extend(Box::new(dice.pick(&self.extensions).expect("there is one").clone())),
            12 => Ask::ResumeWorker(crate::worker::name(dice.below(workers + 1))),
            _ => Ask::Submit(Box::new(sweep)),
        }
    }
}

/// A few tiny runs of one family: other sweeps have some of the same.
fn sweep(dice: &mut Dice, name: &str, (first_seed, length): (u64, Length), max_attempts: u32) -> Sweep {
    let (nodes, epochs): (&[u64], &[u64]) = match length {
        Length::Short => (&[1, 2], &[1, 3, 4, 9, 16, 24]),
        Length::Long => (&[1], &[4, 150, 300]),
    };
    let mut some = |of: &[u64]| {
        let count = dice.within(1..=of.len().min(3) as u64);
        let first = dice.below(of.len() as u64 - count + 1) as usize;
        Axis::new(of[first..first + count as usize].to_vec()).expect("rising values")
    };
    let axes = Axes {
        nodes: some(nodes),
        batch_size: some(&[1]),
        unrollings: some(&[1]),
        epochs: some(epochs),
        seed: some(&[0, 1, 2, 3].map(|seed| first_seed + seed)),
    };
    Sweep::new(Draft {
        name: Some(name.parse().expect("a name")),
        family: Family {
            corpus: ContentHash::of(b"snow"),
            valid_size: 10,
            training: TrainingSettings::default(),
            numerics: NUMERICS,
        },
        corpus: CorpusFacts { written: "snow".to_owned(), chars: 1_000 },
        blocks: vec![Grid::new(axes, Vec::new()).expect("a grid")],
        steps_per_epoch: StepsPerEpoch::Steps(1),
        eval_every: match length {
            Length::Short => *dice.pick(&[0, 0, 5]).expect("there are some"),
            Length::Long => 1,
        },
        policy: Policy { max_attempts, checkpoint_every: None },
    })
    .expect("a sweep")
}
