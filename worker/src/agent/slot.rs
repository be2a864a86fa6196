//! A slot: one OS thread that trains one lease at a time and says what comes of it.
//!
//! It shares nothing with the agent but a [`StopFlag`] a lease, which it reads once a step. What it says goes into
//! one bounded queue: milestones and ends wait for room (the agent empties it whatever the network does, so not for
//! long), progress is dropped when there is none. Checkpoints are uploaded beside the training, one at a time: while
//! one is on its way the next is not taken.
//!
//! Whatever becomes of a lease is a [`LeaseEnd`]: a panic in the trainer ends that lease and not the worker.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use slalom_common::chain::Chain;
use slalom_common::checkpoint::{Checkpoint, CheckpointError};
use slalom_common::id::{LeaseId, Step};
use slalom_common::log::worker as log;
use slalom_common::message::{CheckpointName, Lease, LeaseEnd};
use slalom_common::outcome::{FailureReason, Milestone};
use slalom_common::run::Shape;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::blobs::{BlobError, Blobs};
use super::cache::{Corpora, CorpusError};
use super::memory::{Memory, MemoryError};
use super::pulse::Pulse;
use super::session::{SlotId, SlotNews, Stop};
use crate::kernels::Kernels;
use crate::trainer::milestones::{Ended, Next, Observer};
use crate::trainer::resume::ResumeError;
use crate::trainer::{Initial, Trainer, TrainerError, memory};

/// Between two words on how far a run is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long a slot waits for the checkpoint that it is to go on from; without it, it starts from the start.
const RESUME_WITHIN: Duration = Duration::from_secs(30);
/// How long an upload beside the training may take.
const UPLOAD_WITHIN: Duration = Duration::from_secs(60);
/// How long the last upload of a drained lease may take: the worker is to be gone 30 s after it was told.
const LAST_UPLOAD_WITHIN: Duration = Duration::from_secs(15);

/// How long the upload of a finished run's state may take: its slot waits for it.
const FINAL_UPLOAD_WITHIN: Duration = Duration::from_secs(5);

/// The lease was told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the lease was told to end")]
pub struct Stopped;

/// How a lease is told to end: set by the agent, read by its slot.
#[derive(Default, Debug)]
pub struct StopFlag {
    how: AtomicU8,
    told: CancellationToken,
}

impl StopFlag {
    const CHECKPOINT: u8 = 1;
    const DROP: u8 = 2;

    /// Ends the lease. A checkpoint that is asked for after a drop is not taken.
    pub(super) fn tell(&self, how: Stop) {
        let how = match how {
            Stop::Checkpoint => Self::CHECKPOINT,
            Stop::Drop => Self::DROP,
        };
        self.how.fetch_max(how, Ordering::Relaxed);
        self.told.cancel();
    }

    fn told(&self) -> Option<Stop> {
        match self.how.load(Ordering::Relaxed) {
            Self::CHECKPOINT => Some(Stop::Checkpoint),
            Self::DROP => Some(Stop::Drop),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), Stopped> {
        self.told().map_or(Ok(()), |_| Err(Stopped))
    }

    /// What `work` comes to, unless the lease is told to end before that.
    pub(super) async fn unless_told<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.told.cancelled() => Err(Stopped),
            done = work => Ok(done),
        }
    }
}

/// What a slot says, and under which lease.
pub type News = (LeaseId, SlotNews);

/// What every slot of a worker works with.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) kernels: Kernels,
    pub(super) corpora: Arc<Corpora>,
    pub(super) memory: Arc<Memory>,
    pub(super) blobs: Blobs,
    pub(super) runtime: Handle,
    pub(super) news: mpsc::Sender<News>,
}

/// A lease for a slot, with the means to end it.
struct Order {
    lease: Lease,
    checkpoint_every: Duration,
    stop: Arc<StopFlag>,
    pulse: Arc<Pulse>,
}

/// The agent's side of a slot. Dropping it ends the thread, once its lease is over.
#[derive(Debug)]
pub(super) struct Slot {
    orders: SyncSender<Order>,
    stop: Arc<StopFlag>,
    pulse: Arc<Pulse>,
}

impl Slot {
    /// A slot on a thread of its own, kept on the processor `core` if there is one for it alone.
    pub(super) fn spawn(id: SlotId, core: Option<usize>, tools: Tools) -> std::io::Result<Self> {
        // One order at most: the session starts a lease only on a slot whose last one is over.
        let (orders, received) = sync_channel(1);
        std::thread::Builder::new().name(format!("slot-{}", id.0)).spawn(move || {
            if let Some(core) = core {
                stay_on(core);
            }
            work(&received, &tools);
        })?;
        Ok(Self { orders, stop: Arc::default(), pulse: Arc::default() })
    }

    /// Trains `lease`. The slot must be free.
    pub(super) fn start(&mut self, lease: Lease, checkpoint_every: Duration) {
        (self.stop, self.pulse) = Default::default();
        let (stop, pulse) = (Arc::clone(&self.stop), Arc::clone(&self.pulse));
        let order = Order { lease, checkpoint_every, stop, pulse };
        assert!(
            self.orders.try_send(order).is_ok(),
            "a slot is given a lease only while it is free and lives"
        );
    }

    /// How far the lease is that it was given last.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Ends the lease that it trains; nothing if there is none.
    pub(super) fn stop(&self, how: Stop) {
        self.stop.tell(how);
    }
}

/// Keeps this thread on one processor. Only time depends on it, so a refusal is no error.
fn stay_on(core: usize) {
    let mut alone = rustix::thread::CpuSet::new();
    alone.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &alone) {
        log::slot_not_pinned(core as u64, &error);
    }
}

fn work(orders: &Receiver<Order>, tools: &Tools) {
    end_each(orders, &tools.news, |order| train(order, tools));
}

/// Trains one order after another and says how each lease ends, whatever its training comes to, until nobody orders or hears.
fn end_each(
    orders: &Receiver<Order>,
    news: &mpsc::Sender<News>,
    train: impl Fn(&Order) -> Result<(Vec<Milestone>, LeaseEnd), Untrained>,
) {
    for order in orders {
        let (milestones, how) = ended_by(|| train(&order));
        // A panic came to no end of its own: without this the free slot would be taken for one that hangs.
        order.pulse.end();
        // Every other end is logged where its last step is known.
        if let LeaseEnd::Failed { .. } = how {
            log::run_ended(order.lease.id, None, &how);
        }
        let ended = SlotNews::Ended { milestones, how };
        // Nobody is left to tell: the worker ends.
        if news.blocking_send((order.lease.id, ended)).is_err() {
            return;
        }
    }
}

/// How a lease ends by what its training comes to, a panic included. What it had is gone with it, so nothing that
/// a panic left half done is seen again: the corpus is never written to, and locks are taken from whom they poisoned.
fn ended_by(
    train: impl FnOnce() -> Result<(Vec<Milestone>, LeaseEnd), Untrained>,
) -> (Vec<Milestone>, LeaseEnd) {
    let untrained = match catch_unwind(AssertUnwindSafe(train)) {
        Ok(Ok(ended)) => return ended,
        Ok(Err(untrained)) => untrained,
        Err(panic) => Untrained::Failed { reason: FailureReason::Panic, detail: words_of(panic.as_ref()) },
    };
    let how = match untrained {
        Untrained::Stopped(Stopped) => LeaseEnd::HandedBack,
        Untrained::Failed { reason, detail } => LeaseEnd::Failed { reason, detail },
    };
    (Vec::new(), how)
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    words.unwrap_or("a panic without words").to_owned()
}

/// Why a lease ended before or without training.
enum Untrained {
    Stopped(Stopped),
    Failed { reason: FailureReason, detail: String },
}

impl Untrained {
    fn failed(reason: FailureReason, error: &dyn std::error::Error) -> Self {
        Self::Failed { reason, detail: Chain(error).to_string() }
    }
}

impl From<MemoryError> for Untrained {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Stopped(stopped) => Self::Stopped(stopped),
            MemoryError::TooLarge { .. } => Self::failed(FailureReason::Memory, &error),
        }
    }
}

impl From<CorpusError> for Untrained {
    fn from(error: CorpusError) -> Self {
        match error {
            CorpusError::Stopped(stopped) => Self::Stopped(stopped),
            CorpusError::Fetch(_) | CorpusError::NotAText { .. } => {
                Self::failed(FailureReason::Corpus, &error)
            }
        }
    }
}

impl From<TrainerError> for Untrained {
    fn from(error: TrainerError) -> Self {
        // What has no reason of its own is a run that the wire refuses: a defect, as a panic is.
        Self::failed(error.reason().unwrap_or(FailureReason::Panic), &error)
    }
}

fn train(order: &Order, tools: &Tools) -> Result<(Vec<Milestone>, LeaseEnd), Untrained> {
    let Order { lease, checkpoint_every, stop, pulse } = order;
    let shape = lease.run.shape;
    // Beside the trainer there is a checkpoint, as values and as bytes.
    let needed = memory::bytes_needed(&shape).saturating_add(2 * checkpoint_bytes_max(shape));
    let _share = tools.memory.reserve(needed, stop)?;
    let symbols = Arc::clone(tools.corpora.text(lease.run.family.corpus, stop)?.symbols());
    // The newest that is of use: what was torn or lost costs the steps since the one before it.
    let mut resumed = None;
    for checkpoint in [lease.resume, lease.resume_before].into_iter().flatten() {
        resumed = resume(lease, checkpoint, &symbols, stop, tools)?;
        if resumed.is_some() {
            break;
        }
    }
    let mut trainer = match resumed {
        Some(trainer) => trainer,
        None => Trainer::new(tools.kernels, &lease.run, symbols, Initial::Seed)?,
    };
    let begun_at = trainer.steps_done();
    log::run_started(lease.id, &lease.run, begun_at);

    let mut reporter = Reporter::new(lease, *checkpoint_every, (stop, pulse), tools);
    pulse.begin();
    let ended = trainer.train_to(&lease.wanted, &mut reporter);
    pulse.end();
    let ended = ended.map_err(|error| Untrained::failed(FailureReason::Panic, &error))?;
    let is_new = trainer.steps_done() > begun_at;
    match ended {
        Ended::Stopped if is_new && stop.told() == Some(Stop::Checkpoint) => {
            reporter.upload_last(&trainer.checkpoint(), LAST_UPLOAD_WITHIN);
        }
        // For a longer sweep to go on from. Nobody waits for a coordinator that is away: the answers are what matters.
        Ended::Done if is_new && tools.blobs.has_coordinator() => {
            reporter.upload_last(&trainer.checkpoint(), FINAL_UPLOAD_WITHIN);
        }
        Ended::Stopped | Ended::Done | Ended::Diverged { .. } => (),
    }
    let how = match ended {
        Ended::Done => LeaseEnd::Finished,
        Ended::Stopped => LeaseEnd::HandedBack,
        Ended::Diverged { at, .. } => LeaseEnd::Diverged { at },
    };
    log::run_ended(lease.id, Some(trainer.steps_done()), &how);
    Ok((reporter.last_milestone.take().into_iter().collect(), how))
}

/// The run where a checkpoint of it left it; `None`, with a word in the log, if that is gone or refused: from an earlier one, or
/// the start, the same bits come out, later.
fn resume(
    lease: &Lease,
    checkpoint: CheckpointName,
    symbols: &Arc<[u8]>,
    stop: &StopFlag,
    tools: &Tools,
) -> Result<Option<Trainer>, Untrained> {
    let bytes_max = checkpoint_bytes_max(lease.run.shape);
    let get = async { timeout(RESUME_WITHIN, tools.blobs.get(checkpoint.blob, bytes_max)).await };
    let got = tools.runtime.block_on(stop.unless_told(get)).map_err(Untrained::Stopped)?;
    let refused = |error: &dyn std::error::Error| {
        log::checkpoint_refused(lease.id, checkpoint.step, checkpoint.blob, error);
        Ok(None)
    };
    let bytes = match got {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return refused(&error),
        Err(_late) => return refused(&BlobError::Stalled),
    };
    let state = match whole_state(&bytes, lease) {
        Ok(state) => state,
        Err(error) => return refused(&error),
    };
    match Trainer::resume(tools.kernels, &lease.run, Arc::clone(symbols), &state) {
        Ok(trainer) => Ok(Some(trainer)),
        Err(ResumeError::Trainer(error)) => Err(error.into()),
        Err(error) => refused(&error),
    }
}

/// Why a lease does not go on from the bytes of its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// They are not a checkpoint of its run.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is later than it was said to be: to go on from it would leave a hole (I10).
    #[error("it is of step {0}, beyond the first wanted one")]
    BeyondWanted(Step),
}

/// The state that `lease` may go on from, in the bytes of the checkpoint that it names.
///
/// # Errors
/// If they are not whole, another run's, or of a step beyond the first wanted one: the wire has checked the step that the
/// lease names, not this.
pub fn whole_state(bytes: &[u8], lease: &Lease) -> Result<Checkpoint, Unusable> {
    let state = Checkpoint::from_bytes(bytes, &lease.run)?;
    if lease.wanted.first().is_some_and(|first| state.step > *first) {
        return Err(Unusable::BeyondWanted(state.step));
    }
    Ok(state)
}

/// More than a checkpoint of this shape has: weights, state, cursors and a header.
fn checkpoint_bytes_max(shape: Shape) -> u64 {
    const HEADER: u64 = 64 << 10;
    let [n, b] = [shape.nodes, shape.batch_size].map(u64::from);
    let weights = 27 * 4 * n + n * 4 * n + 4 * n + n * 27 + 27;
    4 * weights + 8 * b * n + 9 * b + HEADER
}

/// What the trainer tells, passed on.
struct Reporter<'a> {
    lease: LeaseId,
    last_wanted: Option<Step>,
    last_milestone: Option<Milestone>,
    loss: Option<f64>,
    stop: &'a StopFlag,
    pulse: &'a Pulse,
    tools: &'a Tools,
    checkpoint_every: Duration,
    checkpoint_due: Instant,
    progress_due: Instant,
    upload: Option<JoinHandle<()>>,
}

impl<'a> Reporter<'a> {
    fn new(
        lease: &Lease,
        checkpoint_every: Duration,
        (stop, pulse): (&'a StopFlag, &'a Pulse),
        tools: &'a Tools,
    ) -> Self {
        let now = Instant::now();
        Self {
            lease: lease.id,
            last_wanted: lease.wanted.last().copied(),
            last_milestone: None,
            loss: None,
            stop,
            pulse,
            tools,
            checkpoint_every,
            checkpoint_due: now + checkpoint_every,
            progress_due: now + PROGRESS_EVERY,
            upload: None,
        }
    }

    /// Stores the state in which a lease ends and says so, or not, before its end is said.
    fn upload_last(&mut self, checkpoint: &Checkpoint, within: Duration) {
        self.abandon_upload();
        self.tools.runtime.block_on(upload(
            self.tools.clone(),
            self.lease,
            checkpoint.step,
            checkpoint.to_bytes(),
            within,
        ));
    }

    /// An older checkpoint is of no use any more.
    fn abandon_upload(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.abort();
        }
    }
}

impl Drop for Reporter<'_> {
    fn drop(&mut self) {
        self.abandon_upload();
    }
}

impl Observer for Reporter<'_> {
    fn on_step(&mut self, _: Step, loss: f64, _: f64) {
        self.loss = Some(loss);
    }

    fn on_milestone(&mut self, milestone: Milestone) {
        self.pulse.beat();
        if Some(milestone.step) == self.last_wanted {
            // It travels with the lease's end, so that no lease is over while its answers are missing.
            self.last_milestone = Some(milestone);
            return;
        }
        // Fails only if the worker ends; then nobody asks.
        let _ = self.tools.news.blocking_send((self.lease, SlotNews::Milestone(milestone)));
    }

    fn on_checkpoint(&mut self, checkpoint: Checkpoint) {
        let (step, bytes) = (checkpoint.step, checkpoint.to_bytes());
        let upload = upload(self.tools.clone(), self.lease, step, bytes, UPLOAD_WITHIN);
        self.upload = Some(self.tools.runtime.spawn(upload));
    }

    fn next(&mut self, done: Step) -> Next {
        self.pulse.beat();
        if self.stop.told().is_some() {
            return Next::Stop;
        }
        let now = Instant::now();
        if now >= self.progress_due {
            self.progress_due = now + PROGRESS_EVERY;
            // Dropped when there is no room: the next one says more.
            let _ =
                self.tools.news.try_send((self.lease, SlotNews::Progress { step: done, loss: self.loss }));
        }
        if now < self.checkpoint_due {
            return Next::Continue;
        }
        self.checkpoint_due = now + self.checkpoint_every;
        if self.upload.as_ref().is_some_and(|upload| !upload.is_finished()) {
            return Next::Continue;
        }
        Next::Checkpoint
    }
}

/// Stores a checkpoint and says so. What comes in the way costs time, and a word in the log.
async fn upload(tools: Tools, lease: LeaseId, step: Step, bytes: Vec<u8>, within: Duration) {
    let stored = timeout(within, tools.blobs.put_checkpoint(bytes)).await.unwrap_or(Err(BlobError::Stalled));
    match stored {
        Ok(blob) => {
            let stored = SlotNews::CheckpointStored(CheckpointName { step, blob });
            // Fails only if the worker ends; then nobody asks.
            let _ = tools.news.send((lease, stored)).await;
        }
        Err(error) => {
            log::checkpoint_not_stored(lease, step, &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use slalom_common::id::ContentHash;
    use slalom_common::message::LeaseKind;
    use slalom_common::run::{Family, NUMERICS, Run};
    use slalom_common::settings::TrainingSettings;

    use super::super::pulse::Watch;
    use super::*;

    fn run(shape: Shape) -> Run {
        let family = Family {
            corpus: ContentHash::of(b""),
            valid_size: 1,
            training: TrainingSettings::default(),
            numerics: NUMERICS,
        };
        Run { family, shape, seed: 0 }
    }

    #[test]
    fn a_panic_ends_its_lease_with_its_words_and_nothing_else() {
        let failed = |detail: &str| {
            let detail = detail.to_owned();
            (Vec::new(), LeaseEnd::Failed { reason: FailureReason::Panic, detail })
        };
        assert_eq!(ended_by(|| panic!("plain words")), failed("plain words"));
        assert_eq!(ended_by(|| panic!("row {}", 7)), failed("row 7"));
        assert_eq!(ended_by(|| std::panic::panic_any(7)), failed("a panic without words"));
    }

    /// Invariant I11: a panic is the end of its run, and of nothing else.
    #[test]
    fn a_slot_whose_run_panics_reports_it_and_trains_the_next() {
        let (orders, received) = sync_channel(2);
        let (news, mut heard) = mpsc::channel(2);
        let slot = std::thread::spawn(move || {
            end_each(&received, &news, |order| {
                order.pulse.begin();
                assert!(order.lease.id.number() > 1, "row 7 of 7");
                Ok((Vec::new(), LeaseEnd::Finished))
            });
        });
        let pulses = [1, 2].map(|number| (number, Arc::new(Pulse::default())));
        for (number, pulse) in &pulses {
            let lease = Lease {
                id: LeaseId::new(*number),
                kind: LeaseKind::Primary,
                run: run(Shape { nodes: 1, batch_size: 1, unrollings: 1 }),
                wanted: vec![Step::new(1)],
                resume: None,
                resume_before: None,
                checkpoint_every: None,
            };
            let (stop, pulse) = (Arc::default(), Arc::clone(pulse));
            let order = Order { lease, checkpoint_every: Duration::from_secs(60), stop, pulse };
            orders.send(order).expect("the slot lives");
        }
        drop(orders);
        let ended = std::iter::from_fn(|| heard.blocking_recv()).map(|(lease, said)| match said {
            SlotNews::Ended { how, .. } => (lease.number(), how),
            other => panic!("{other:?}"),
        });
        let failed = LeaseEnd::Failed { reason: FailureReason::Panic, detail: "row 7 of 7".to_owned() };
        assert_eq!(ended.collect::<Vec<_>>(), [(1, failed), (2, LeaseEnd::Finished)]);
        slot.join().expect("the panic was not the thread's");
        for (number, pulse) in &pulses {
            let mut watch = Watch::new(LeaseId::new(*number), 0.001, Duration::from_secs(60));
            assert!(
                (0..1_000).all(|_| watch.look(pulse).is_none()),
                "a slot whose lease {number} is over hangs"
            );
        }
    }

    #[test]
    fn a_drop_overrides_a_checkpoint_and_never_the_reverse() {
        let stop = StopFlag::default();
        assert_eq!((stop.told(), stop.check()), (None, Ok(())));
        stop.tell(Stop::Checkpoint);
        assert_eq!((stop.told(), stop.check()), (Some(Stop::Checkpoint), Err(Stopped)));
        stop.tell(Stop::Drop);
        stop.tell(Stop::Checkpoint);
        assert_eq!(stop.told(), Some(Stop::Drop));
    }

    #[test]
    fn a_checkpoint_is_smaller_than_its_bound() {
        for (nodes, batch_size) in [(1, 1), (33, 7), (4, 900)] {
            let shape = Shape { nodes, batch_size, unrollings: 2 };
            let symbols = vec![1; 1000].into();
            let trainer =
                Trainer::new(Kernels::detect(), &run(shape), symbols, Initial::Seed).expect("a small run");
            let bytes = trainer.checkpoint().to_bytes().len() as u64;
            assert!(bytes <= checkpoint_bytes_max(shape), "{shape:?}: {bytes}");
        }
    }
}
