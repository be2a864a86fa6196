//! The one loop: event -> scheduler -> commit -> effects. Clock and wall time come in here and nowhere else.
//!
//! The driver's task owns the scheduler; a thread owns the store. Whatever came in while the last batch was being
//! committed is handled as one batch and committed together, so that a slow disk makes batches larger and not acknowledgements
//! false. Questions are answered after the commit of what came before them: nobody sees what a power cut could take back.
//!
//! A failed commit is tried again for ever if the store says that may help (a full disk): nothing leaves meanwhile, and
//! whoever asks by a handle that does not wait is refused in words. Any other failure ends the loop and with it the process:
//! crash and recover.

mod store_thread;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use slalom_common::id::{Incarnation, SweepName, WorkerName};
use slalom_common::message::{CoordinatorMessage, Hello};
use slalom_common::moment::Moment;
use slalom_common::sweep::Sweep;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::store_thread::{Job, remove_unnamed, start_store_thread};
use crate::announce::announce;
use crate::batch::{AtOnce, Batch};
use crate::scheduler::effect::{Effect, Effects, Notice, Reply};
use crate::scheduler::event::{Event, RequestId, Saying, Steering, StreamId};
use crate::scheduler::record::Record;
use crate::scheduler::{Scheduler, Settings};
use crate::store::blobs::Blobs;
use crate::store::{Store, StoreError};

/// Inputs that wait for the driver; whoever sends one more waits until there is room.
const INPUTS_MAX: usize = 4096;

/// Inputs handled between two commits.
const BATCH_MAX: usize = 1024;

/// What a session's stream is handed.
#[derive(Clone, PartialEq, Debug)]
pub enum Outgoing {
    /// To be sent to the worker.
    Message(CoordinatorMessage),
    /// A newer stream of the same incarnation took over, or the coordinator gave the session up.
    Close,
}

/// The driver's task is over: the coordinator is stopping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the coordinator is stopping")]
pub struct Stopped;

/// Why a call or a question has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unanswered {
    /// There is nobody to answer it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The store takes no commit for now, for this reason. What was asked before that began may still be done once it does.
    #[error("nothing can be recorded now: {0}")]
    Stalled(String),
}

/// What becomes of calls and questions while the store takes no commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WhileStalled {
    Wait,
    Refuse,
}

/// Why the driver could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The store could not be read, or refused a commit for good.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The store's thread panicked.
    #[error("the store's thread is gone")]
    StoreGone,
}

type Question = Box<dyn FnOnce(&Scheduler, Moment) + Send>;

enum Input {
    Join { hello: Hello, outbox: mpsc::Sender<Outgoing>, joined: oneshot::Sender<StreamId> },
    Event(Event),
    Call { call: Call, reply: oneshot::Sender<Reply> },
    Read(Question),
    Stop,
}

enum Call {
    Submit(Box<Sweep>),
    Extend(Box<Sweep>),
    Cancel(SweepName),
    Steer(SweepName, Steering),
    Retry(SweepName),
    Drain(WorkerName),
    ResumeWorker(WorkerName),
}

/// A handle to the driver's task.
#[derive(Clone)]
pub struct Driver {
    inputs: mpsc::Sender<Input>,
    changes: watch::Receiver<u64>,
    ends: watch::Receiver<u64>,
    stalled: watch::Receiver<Option<String>>,
    while_stalled: WhileStalled,
    blobs: Arc<Blobs>,
}

impl Driver {
    /// Reads the store back, removes the checkpoints that it does not name, and starts the loop.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn start(
        settings: Settings,
        mut store: Box<dyn Store>,
        blobs: Arc<Blobs>,
    ) -> Result<(Self, JoinHandle<Result<(), DriverError>>), DriverError> {
        let records = store.load()?;
        let scheduler = Scheduler::recover(settings, store.id(), Moment::default(), records);
        remove_unnamed(&blobs, scheduler.ledger());
        // Only now: the time it took to read the store back is not silence of any worker.
        let origin = Instant::now();
        let (inputs, received) = mpsc::channel(INPUTS_MAX);
        let (changed, changes) = watch::channel(0);
        let (ended, ends) = watch::channel(0);
        let (stall, stalled) = watch::channel(None);
        let (jobs, store_thread) = start_store_thread(store, Arc::clone(&blobs), stall);
        let task = Task {
            scheduler,
            origin,
            inputs: received,
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_id: 1,
            jobs,
            changed,
            ended,
        };
        let handle = tokio::spawn(async move {
            let outcome = task.run().await;
            // The store's last words are written before anybody is told that the driver is over.
            let joined = tokio::task::spawn_blocking(move || store_thread.join()).await;
            match joined {
                Ok(Ok(())) => outcome,
                Ok(Err(_)) | Err(_) => outcome.and(Err(DriverError::StoreGone)),
            }
        });
        Ok((Self { inputs, changes, ends, stalled, while_stalled: WhileStalled::Wait, blobs }, handle))
    }

    /// The same driver by a handle whose calls and questions are refused while the store takes no commit: for those who
    /// cannot see that they would wait. By any other handle they wait.
    #[must_use]
    pub fn refusing_while_stalled(self) -> Self {
        Self { while_stalled: WhileStalled::Refuse, ..self }
    }

    /// The same driver by a handle whose calls and questions wait until the store takes commits again.
    #[must_use]
    pub fn waiting_while_stalled(self) -> Self {
        Self { while_stalled: WhileStalled::Wait, ..self }
    }

    /// Registers a stream whose greeting has been checked. A full or dropped outbox cuts the peer off.
    ///
    /// # Errors
    /// If the coordinator is stopping.
    pub async fn join(&self, hello: Hello, outbox: mpsc::Sender<Outgoing>) -> Result<StreamId, Stopped> {
        let (joined, stream) = oneshot::channel();
        self.input(Input::Join { hello, outbox, joined }).await?;
        stream.await.map_err(|_| Stopped)
    }

    /// Passes on what a worker said on its stream.
    ///
    /// # Errors
    /// If the coordinator is stopping.
    pub async fn say(
        &self,
        stream: StreamId,
        incarnation: Incarnation,
        saying: Saying,
    ) -> Result<(), Stopped> {
        self.input(Input::Event(Event::Said { stream, incarnation, saying })).await
    }

    /// Says that a stream is gone.
    ///
    /// # Errors
    /// If the coordinator is stopping.
    pub async fn leave(&self, stream: StreamId, incarnation: Incarnation) -> Result<(), Stopped> {
        self.input(Input::Event(Event::StreamClosed { stream, incarnation })).await
    }

    /// Says that whoever held leases in this store's former life is dead.
    ///
    /// # Errors
    /// If the coordinator is stopping.
    pub async fn former_workers_gone(&self) -> Result<(), Stopped> {
        self.input(Input::Event(Event::FormerWorkersGone)).await
    }

    /// Hands in a sweep whose corpus is here; answered after the commit.
    ///
    /// # Errors
    /// If the coordinator is stopping, or the store stalls and this handle does not wait.
    pub async fn submit(&self, sweep: Sweep) -> Result<Reply, Unanswered> {
        self.call(Call::Submit(Box::new(sweep))).await
    }

    /// Extends the sweep of this name to be this one; answered after the commit.
    ///
    /// # Errors
    /// If the coordinator is stopping, or the store stalls and this handle does not wait.
    pub async fn extend(&self, sweep: Sweep) -> Result<Reply, Unanswered> {
        self.call(Call::Extend(Box::new(sweep))).await
    }

    /// Ends a sweep; answered after the commit.
    ///
    /// # Errors
    /// If the coordinator is stopping, or the store stalls and this handle does not wait.
    pub async fn cancel(&self, sweep: SweepName) -> Result<Reply, Unanswered> {
        self.call(Call::Cancel(sweep)).await
    }

    /// Pauses, stops or resumes a sweep; answered after the commit.
    ///
    /// # Errors
    /// If the coordinator is stopping, or the store stalls and this handle does not wait.
    pub async fn steer(&self, sweep: SweepName, steering: Steering) -> Result<Reply, Unanswered> {
        self.call(Call::Steer(sweep, steering)).await
    }

    /// Gives a sweep's failed runs fresh attempts; answered after the commit.
    ///
    /// # Errors
    /// If the coordinator is stopping, or the store stalls and this handle does not wait.
    pub async fn retry(&self, sweep: SweepName) -> Result<Reply, Unanswered> {
        self.call(Call::Retry(sweep)).await
    }

    /// Has a worker hand back what it holds and leave; answered after the commit.
    ///
    /// # Errors
    /// If the coordinator is stopping, or the store stalls and this handle does not wait.
    pub async fn drain(&self, worker: WorkerName) -> Result<Reply, Unanswered> {
        self.call(Call::Drain(worker)).await
    }

    /// Grants runs again to a worker that was paused; answered after the commit.
    ///
    /// # Errors
    /// If the coordinator is stopping, or the store stalls and this handle does not wait.
    pub async fn resume_worker(&self, worker: WorkerName) -> Result<Reply, Unanswered> {
        self.call(Call::ResumeWorker(worker)).await
    }

    /// Answers a question from what is durable. It runs on the driver's task: it must be quick.
    ///
    /// # Errors
    /// If the coordinator is stopping, or the store stalls and this handle does not wait.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Scheduler, Moment) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let (answered, answer) = oneshot::channel();
        let question: Question = Box::new(move |scheduler, now| {
            // Whoever asked may have gone away meanwhile.
            let _ = answered.send(question(scheduler, now));
        });
        self.answered(Input::Read(question), answer).await
    }

    /// Changes after every commit, and after progress.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Changes whenever a sweep is done or cancelled.
    pub fn ends(&self) -> watch::Receiver<u64> {
        self.ends.clone()
    }

    /// Why the last commit is still being tried, in words, while it is: nothing is acknowledged meanwhile.
    pub fn stalled(&self) -> watch::Receiver<Option<String>> {
        self.stalled.clone()
    }

    /// The folder of corpora and checkpoints.
    pub fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    /// Commits what came before and ends the loop.
    pub async fn stop(&self) {
        // Already over is as good.
        let _ = self.input(Input::Stop).await;
    }

    async fn call(&self, call: Call) -> Result<Reply, Unanswered> {
        let (reply, replied) = oneshot::channel();
        self.answered(Input::Call { call, reply }, replied).await
    }

    async fn answered<T>(&self, input: Input, answer: oneshot::Receiver<T>) -> Result<T, Unanswered> {
        let answered = async {
            self.input(input).await?;
            answer.await.map_err(|_| Stopped)
        };
        if self.while_stalled == WhileStalled::Wait {
            return Ok(answered.await?);
        }
        let mut stalled = self.stalled.clone();
        tokio::select! {
            biased;
            // First, so that what is refused from the beginning is never handed in.
            why = stall(&mut stalled) => Err(Unanswered::Stalled(why)),
            answer = answered => Ok(answer?),
        }
    }

    async fn input(&self, input: Input) -> Result<(), Stopped> {
        self.inputs.send(input).await.map_err(|_| Stopped)
    }
}

/// Why the store takes no commit, as soon as it does not.
async fn stall(stalled: &mut watch::Receiver<Option<String>>) -> String {
    let why = stalled.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    match why {
        Some(why) => why,
        // The store's thread is over: whoever waits hears that from the driver.
        None => std::future::pending().await,
    }
}

struct Task {
    scheduler: Scheduler,
    /// Where moments count from.
    origin: Instant,
    inputs: mpsc::Receiver<Input>,
    streams: BTreeMap<StreamId, mpsc::Sender<Outgoing>>,
    calls: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    /// For streams and calls alike.
    next_id: u64,
    jobs: mpsc::Sender<Job>,
    changed: watch::Sender<u64>,
    /// Sweeps that were done or cancelled.
    ended: watch::Sender<u64>,
}

/// What one turn of the loop came to.
#[derive(Default)]
struct Turn {
    batch: Batch,
    questions: Vec<Question>,
    stops: bool,
}

impl Task {
    async fn run(mut self) -> Result<(), DriverError> {
        let mut inputs = Vec::with_capacity(BATCH_MAX);
        loop {
            let mut turn = Turn::default();
            let deadline = self.origin + self.scheduler.next_deadline().since(Moment::default());
            tokio::select! {
                received = self.inputs.recv_many(&mut inputs, BATCH_MAX) => {
                    // Every handle is gone: nobody can ask for anything any more.
                    turn.stops = received == 0;
                }
                () = tokio::time::sleep_until(deadline.into()) => (),
            }
            for input in inputs.drain(..) {
                self.handle(input, &mut turn);
            }
            if deadline <= Instant::now() {
                // Whoever spoke while the disk stalled is heard before anybody is called silent; who speaks from now on
                // is not, or a steady stream of others' reports would keep the silent alive.
                for _ in 0..self.inputs.len() {
                    let Ok(input) = self.inputs.try_recv() else { break };
                    self.handle(input, &mut turn);
                }
                let effects = self.scheduler.handle(self.now(), Event::Tick);
                self.take(effects, &mut turn);
            }
            let happened = !turn.batch.is_empty();
            let (records, promises) = turn.batch.close();
            if !records.is_empty() {
                self.commit(records).await?;
            }
            for effect in promises.made_good() {
                self.carry_out(effect).await?;
            }
            let now = self.now();
            for question in turn.questions {
                question(&self.scheduler, now);
            }
            // A question changes nothing: watchers, who ask when something has changed, would wake each other for ever.
            if happened {
                self.changed.send_modify(|version| *version += 1);
            }
            if turn.stops {
                return Ok(());
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::new(self.origin.elapsed())
    }

    fn handle(&mut self, input: Input, turn: &mut Turn) {
        let now = self.now();
        let event = match input {
            Input::Event(event) => event,
            Input::Join { hello, outbox, joined } => {
                let stream = StreamId(self.fresh_id());
                // A peer that is gone already is noticed when its outbox is used.
                let _ = joined.send(stream);
                self.streams.insert(stream, outbox);
                Event::WorkerJoined { stream, hello }
            }
            Input::Call { call, reply } => {
                let request = RequestId(self.fresh_id());
                self.calls.insert(request, reply);
                match call {
                    Call::Submit(sweep) => Event::Submit { request, sweep },
                    Call::Extend(sweep) => Event::Extend { request, sweep },
                    Call::Cancel(sweep) => Event::Cancel { request, sweep },
                    Call::Steer(sweep, steering) => Event::Steer { request, sweep, steering },
                    Call::Retry(sweep) => Event::Retry { request, sweep },
                    Call::Drain(worker) => Event::Drain { request, worker },
                    Call::ResumeWorker(worker) => Event::ResumeWorker { request, worker },
                }
            }
            Input::Read(question) => {
                turn.questions.push(question);
                return;
            }
            Input::Stop => {
                turn.stops = true;
                return;
            }
        };
        if let Event::StreamClosed { stream, .. } = &event {
            self.streams.remove(stream);
        }
        let effects = self.scheduler.handle(now, event);
        self.take(effects, turn);
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn take(&mut self, effects: Effects, turn: &mut Turn) {
        for effect in turn.batch.take(effects) {
            match effect {
                AtOnce::Announce(notice) => self.announce(&notice),
                AtOnce::Close { stream } => self.close(stream),
            }
        }
    }

    async fn commit(&self, records: Vec<Record>) -> Result<(), DriverError> {
        let (committed, outcome) = oneshot::channel();
        let job = Job::Append { records, at: SystemTime::now(), committed };
        self.jobs.send(job).await.map_err(|_| DriverError::StoreGone)?;
        outcome.await.map_err(|_| DriverError::StoreGone)?.map_err(DriverError::Store)
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<(), DriverError> {
        match effect {
            Effect::Send { stream, message } => {
                let Some(outbox) = self.streams.get(&stream) else { return Ok(()) };
                // Whoever does not read what it is sent is cut off; its next hello makes up for what it missed.
                if outbox.try_send(Outgoing::Message(message)).is_err() {
                    self.streams.remove(&stream);
                }
            }
            Effect::Close { stream } => self.close(stream),
            Effect::Reply { request, reply } => {
                if let Some(call) = self.calls.remove(&request) {
                    // The caller may have gone away: what it asked for is done all the same.
                    let _ = call.send(reply);
                }
            }
            Effect::RemoveCheckpoint { blob } => {
                let job = Job::RemoveCheckpoint { blob };
                self.jobs.send(job).await.map_err(|_| DriverError::StoreGone)?;
            }
            Effect::Announce(notice) => self.announce(&notice),
        }
        Ok(())
    }

    fn announce(&self, notice: &Notice) {
        announce(notice);
        if matches!(notice, Notice::SweepDone { .. } | Notice::SweepCancelled { .. }) {
            self.ended.send_modify(|count| *count += 1);
        }
    }

    fn close(&mut self, stream: StreamId) {
        if let Some(outbox) = self.streams.remove(&stream) {
            // Full or gone: dropping the sender says the same.
            let _ = outbox.try_send(Outgoing::Close);
        }
    }
}

#[cfg(test)]
mod tests;
