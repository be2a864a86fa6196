//! What goes wrong in one seed, and how often. Each seed has some of the faults and not others: a storm of everything hides what a
//! few bring out.

use std::time::Duration;

use crate::dice::Dice;

/// One thing that goes wrong at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    BreakStream,
    BlockUp,
    BlockDown,
    BlockBoth,
    KillWorker,
    FreezeWorker,
    DrainWorker,
    KillCoordinator,
    FreezeCoordinator,
    FillDisk,
    FailDisk,
    TearCheckpoint,
    LoseCheckpoint,
    TakeBackup,
    /// The store is brought back to the last backup: what was recorded since is gone.
    BringBackupBack,
}

impl Fault {
    const ALL: [Self; 15] = [
        Self::BreakStream,
        Self::BlockUp,
        Self::BlockDown,
        Self::BlockBoth,
        Self::KillWorker,
        Self::FreezeWorker,
        Self::DrainWorker,
        Self::KillCoordinator,
        Self::FreezeCoordinator,
        Self::FillDisk,
        Self::FailDisk,
        Self::TearCheckpoint,
        Self::LoseCheckpoint,
        Self::TakeBackup,
        Self::BringBackupBack,
    ];
}

/// How long runs are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Length {
    /// A few steps, each of which takes time.
    Short,
    /// Hundreds of quick steps, each of which is wanted: more reports than may be under way.
    Long,
}

/// How one seed's world is.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// What strikes.
    pub(crate) faults: Vec<Fault>,
    /// Between two strikes, at most.
    pub(crate) strike_within_ms: u64,
    /// One in so many events is followed by a strike at once: so each event is the last of somebody's life in some seed.
    pub(crate) strike_after_events: Option<u64>,
    /// Coordinator and workers are one process, as in `slalom run`: they die together.
    pub(crate) lives_together: bool,
    /// The first worker's memory is bad: it measures other bits.
    pub(crate) has_liar: bool,
    /// The last worker is poison: during the storm nearly all that it is given fails.
    pub(crate) has_poison: bool,
    /// How long things go wrong.
    pub(crate) storm: Duration,
    /// A message takes up to this.
    pub(crate) delay_ms: u64,
    /// And so many of a hundred far longer.
    pub(crate) slow_percent: u64,
    /// A commit takes up to this.
    pub(crate) commit_ms: u64,
    pub(crate) length: Length,
    /// A training step takes up to this.
    pub(crate) step_ms: u64,
    /// Calls of people, and their answers, that are lost; and as many arrive twice.
    pub(crate) call_loss_percent: u64,
    /// Leases in a hundred that fail for no reason of the run's own.
    pub(crate) failure_percent: u64,
    /// How much slower than the reference core workers say they are: the faster, the more they are granted ahead.
    pub(crate) slowness: f64,
}

impl Weather {
    pub(crate) fn of(dice: &mut Dice) -> Self {
        let share = dice.within(10..=90);
        let length = if dice.chance(3) { Length::Long } else { Length::Short };
        let faults = Fault::ALL.into_iter().filter(|_| dice.chance(share)).collect();
        Self {
            faults,
            strike_within_ms: *dice.pick(&[800, 3_000, 8_000, 20_000]).expect("there are some"),
            strike_after_events: *dice.pick(&[None, None, Some(20), Some(200)]).expect("there are some"),
            lives_together: dice.chance(10),
            has_liar: dice.chance(15),
            has_poison: dice.chance(15),
            storm: dice.millis(5_000..=90_000),
            delay_ms: *dice.pick(&[2, 20, 200, 1_000]).expect("there are some"),
            slow_percent: *dice.pick(&[0, 0, 1, 5]).expect("there are some"),
            commit_ms: *dice.pick(&[1, 10, 100, 1_000]).expect("there are some"),
            step_ms: match length {
                Length::Short => *dice.pick(&[50, 200, 600]).expect("there are some"),
                Length::Long => 20,
            },
            length,
            call_loss_percent: *dice.pick(&[0, 10, 40]).expect("there are some"),
            failure_percent: *dice.pick(&[0, 0, 5, 30]).expect("there are some"),
            slowness: *dice.pick(&[1.0, 1e4, 1e7]).expect("there are some"),
        }
    }
}
