//! The worker in service: sessions with a coordinator, slots, heartbeats, reconnects, drain.
//!
//! One task owns the session ([`session`], pure) and carries out what it asks for; [`slot`]s are OS threads that it
//! talks to by bounded queues, so no heartbeat waits for training and no training for the network. If the coordinator
//! is gone the slots train on and the session keeps what they report until one is back.
//!
//! | queue | bound | when full |
//! | --- | --- | --- |
//! | news from slots | [`NEWS_MAX`] | milestones and ends wait; progress is dropped |
//! | messages up | twice [`session::WINDOW`] | reports always fit; heartbeats, progress and notices of checkpoints are dropped |
//! | messages down | 64 | the network waits |
//! | leases for a slot | 1 | cannot be: a slot is given one only while it is free |

pub mod backoff;
pub mod blobs;
pub mod cache;
mod link;
pub mod memory;
mod pulse;
pub mod session;
pub mod slot;
pub mod speed;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slalom_common::corpus::cache::Cache;
use slalom_common::cost::Coefficients;
use slalom_common::id::{Incarnation, LeaseId, WorkerName};
use slalom_common::log::worker as log;
use slalom_common::log::worker::WorkerField;
use slalom_common::message::{CoordinatorMessage, LeaseEnd, Welcome, WorkerMessage};
use slalom_common::moment::Moment;
use slalom_common::outcome::FailureReason;
use slalom_common::run::{NUMERICS, Run};
use slalom_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::kernels::Kernels;
use crate::trainer::TrainerError;
use crate::trainer::known::known_run;
use backoff::{Backoff, Bounds};
use blobs::Blobs;
use cache::Corpora;
use link::{Link, LinkEvent, LinkLoss};
use memory::Memory;
use pulse::Watch;
use session::{Effect, Event, Identity, Session, SlotId, SlotNews};
use slot::{News, Slot, Tools};

/// What slots have said and the agent has not yet heard.
pub const NEWS_MAX: usize = 256;
/// A drain that is not over after so long is cut short: the process is to be gone within 30 s.
const DRAIN_WITHIN: Duration = Duration::from_secs(25);

/// How long a stream may take to end once nothing more goes up on it.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What an agent is told; there are no defaults here but those of [`Bounds`].
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// URLs, at least one, tried in turn.
    pub coordinators: Vec<String>,
    /// Runs at a time, from 1.
    pub slots: u32,
    /// For people.
    pub name: WorkerName,
    /// This process.
    pub incarnation: Incarnation,
    /// The folder of corpora.
    pub cache: PathBuf,
    /// What to train with.
    pub kernels: Kernels,
    /// Between two attempts to connect, or to transfer bytes.
    pub reconnect: Bounds,
    /// A slot that makes no step for so long, nor for a hundred times as long as predicted, is hung.
    pub hung_after: Duration,
}

/// How to end an agent.
#[derive(Clone, Default, Debug)]
pub struct Shutdown {
    /// Checkpoint what trains, hand everything back, be acknowledged, return.
    pub drain: CancellationToken,
    /// Return at once; the coordinator finds out by silence.
    pub stop: CancellationToken,
}

/// Why an agent could not go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody to work for.
    #[error("no coordinator is given")]
    NoCoordinator,
    /// No address of a coordinator.
    #[error("`{coordinator}` is not the URL of a coordinator")]
    Address {
        /// As given.
        coordinator: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// The coordinator will have nothing to do with this build.
    #[error("the coordinator at {coordinator} refuses this worker: {reason}")]
    Refused {
        /// Which one.
        coordinator: String,
        /// In its words.
        reason: String,
    },
    /// A slot made no step for far too long. Its run was reported as failed, everything else was handed back; only the end of the
    /// process ends its thread.
    #[error("the slot of lease {0} made no step for far too long, and cannot be stopped")]
    Hung(LeaseId),
    /// The machine gives no thread.
    #[error("no thread for a slot")]
    Thread(#[source] std::io::Error),
    /// The machine has no memory for the smallest model.
    #[error("cannot train a small run to begin with")]
    Memory(#[source] TrainerError),
}

/// Works for a coordinator until told to end. Cancelling `shutdown.drain` returns when all is handed back, at most
/// half a minute later; `shutdown.stop` at once, while slots may finish the step they are in.
///
/// # Errors
/// If there is nothing to begin with, or a coordinator says not to try again; never because one is away.
pub async fn run(config: AgentConfig, shutdown: Shutdown) -> Result<(), AgentError> {
    let (mut agent, news) = Agent::new(config).await?;
    agent.serve(news, &shutdown).await
}

struct Agent {
    session: Session,
    slots: Vec<Slot>,
    coordinators: Vec<(String, Endpoint)>,
    /// Which of them the present link is to.
    present: usize,
    link: Link,
    up: Option<mpsc::Sender<v1::WorkerMessage>>,
    /// The connection that bytes go on, shown to slots.
    channel: watch::Sender<Option<Channel>>,
    backoff: Backoff,
    /// Since when the present session lives.
    welcomed: Option<Instant>,
    /// The origin of every [`Moment`].
    start: Instant,
    drain_by: Option<Instant>,
    has_left: bool,
    hung_after: Duration,
    /// What a slot takes, by which a watch knows how long is too long.
    cost: Coefficients,
    /// A watch of each slot that was given a lease.
    watches: Vec<Option<Watch>>,
    /// Leases that hang: whatever their slots may still say is not heard.
    hung: Vec<LeaseId>,
}

impl Agent {
    async fn new(config: AgentConfig) -> Result<(Self, mpsc::Receiver<News>), AgentError> {
        let AgentConfig { coordinators, slots, name, incarnation, cache, kernels, reconnect, hung_after } =
            config;
        let urls = coordinators.join(",");
        let coordinators = endpoints(coordinators)?;
        let first = coordinators.first().ok_or(AgentError::NoCoordinator)?.1.clone();
        let tried = tokio::task::spawn_blocking(move || Ok((known_run(kernels)?, speed::measure(kernels)?)));
        let (known_run, speed) =
            tried.await.expect("training does not panic, nor is it cancelled").map_err(AgentError::Memory)?;
        let identity = Identity {
            worker: name,
            incarnation,
            slots,
            numerics: NUMERICS,
            known_run,
            isa: kernels.name().to_string(),
            speed: speed.relative,
            gflops_per_slot: speed.gflops,
            cost: speed.cost,
        };

        let (channel, shown) = watch::channel(None);
        let (said, news) = mpsc::channel(NEWS_MAX);
        let runtime = tokio::runtime::Handle::current();
        let blobs = Blobs::new(shown, reconnect);
        let memory = Memory::detect();
        log::worker_started(&WorkerField {
            worker: &identity.worker,
            incarnation,
            slots,
            isa: &identity.isa,
            gflops_per_slot: speed.gflops,
            speed: speed.relative,
            memory_bytes: memory.bytes_max(),
            cache: &cache,
            coordinators: &urls,
        });
        let tools = Tools {
            kernels,
            corpora: Arc::new(Corpora::new(Cache::new(cache), blobs.clone(), runtime.clone())),
            memory: Arc::new(memory),
            blobs,
            runtime,
            news: said,
        };
        let slots = spawn_slots(slots, &tools).map_err(AgentError::Thread)?;
        let count = slots.len();
        let agent = Self {
            session: Session::new(identity),
            slots,
            coordinators,
            present: 0,
            link: Link::open(first, Duration::ZERO),
            up: None,
            channel,
            backoff: Backoff::new(reconnect),
            welcomed: None,
            start: Instant::now(),
            drain_by: None,
            has_left: false,
            hung_after,
            cost: speed.cost,
            watches: vec![None; count],
            hung: Vec::new(),
        };
        Ok((agent, news))
    }

    async fn serve(&mut self, mut news: mpsc::Receiver<News>, shutdown: &Shutdown) -> Result<(), AgentError> {
        let mut looks = tokio::time::interval(Watch::every(self.hung_after));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.has_left {
            let due = self.session.due().map(|due| self.start + due.since(Moment::default()));
            tokio::select! {
                // The order matters: a timer that is due goes before any amount of news and messages.
                biased;
                () = shutdown.stop.cancelled() => {
                    self.stop_slots();
                    log::worker_stopped(self.session.held_count() as u64);
                    return Ok(());
                }
                () = at(self.drain_by) => {
                    self.stop_slots();
                    let unacknowledged = self.session.unacknowledged_count() as u64;
                    log::drain_cut_short(self.session.held_count() as u64, unacknowledged);
                    return self.outcome();
                }
                () = at(due) => self.tell(Event::TimePassed),
                () = shutdown.drain.cancelled(), if self.drain_by.is_none() => self.drain(),
                _ = looks.tick() => self.look(),
                event = self.link.next() => self.on_link(event)?,
                Some((lease, said)) = news.recv() => {
                    if !self.hung.contains(&lease) {
                        self.tell(Event::Slot { lease, news: said });
                    }
                }
            }
        }
        self.close().await;
        log::worker_ended();
        self.outcome()
    }

    fn outcome(&self) -> Result<(), AgentError> {
        self.hung.first().map_or(Ok(()), |&lease| Err(AgentError::Hung(lease)))
    }

    fn drain(&mut self) {
        self.drain_by = Some(Instant::now() + DRAIN_WITHIN);
        log::drain_begun(self.session.held_count() as u64);
        self.tell(Event::DrainRequested);
    }

    /// Looks whether each slot has gone on. If one has not for far too long, its run has failed, and the worker hands back all
    /// else and leaves: the drain comes first, so that nothing is begun on the slot.
    fn look(&mut self) {
        let watched = self.watches.iter_mut().zip(&self.slots);
        let hung: Vec<LeaseId> = watched
            .filter_map(|(watch, slot)| watch.as_mut()?.look(slot.pulse()))
            .filter(|lease| !self.hung.contains(lease))
            .collect();
        for lease in hung {
            self.hung.push(lease);
            if self.drain_by.is_none() {
                self.drain();
            }
            let detail = "no step for far longer than one takes".to_owned();
            let how = LeaseEnd::Failed { reason: FailureReason::Hung, detail };
            log::run_ended(lease, None, &how);
            self.tell(Event::Slot { lease, news: SlotNews::Ended { milestones: Vec::new(), how } });
        }
    }

    fn on_link(&mut self, event: LinkEvent) -> Result<(), AgentError> {
        match event {
            LinkEvent::Connected { up, channel } => {
                self.up = Some(up);
                self.channel.send_replace(Some(channel));
                self.tell(Event::Connected);
            }
            LinkEvent::Received(message) => {
                let was_live = self.session.is_live();
                if let CoordinatorMessage::Welcome(Welcome { forget: true, .. }) = message {
                    let coordinator = &self.coordinators[self.present].0;
                    let unacknowledged = self.session.unacknowledged_count() as u64;
                    log::work_forgotten(coordinator, self.session.held_count() as u64, unacknowledged);
                }
                if let (CoordinatorMessage::Drain, false) = (&message, self.session.is_draining()) {
                    log::drain_begun(self.session.held_count() as u64);
                }
                self.tell(Event::Received(message));
                if self.session.is_live() && !was_live {
                    self.welcomed = Some(Instant::now());
                    log::coordinator_found(&self.coordinators[self.present].0);
                }
            }
            LinkEvent::Lost(LinkLoss::Refused(status)) => {
                self.stop_slots();
                return Err(AgentError::Refused {
                    coordinator: self.coordinators[self.present].0.clone(),
                    reason: status.message().to_owned(),
                });
            }
            LinkEvent::Lost(loss) => self.reconnect(&loss),
        }
        Ok(())
    }

    /// Gives the present link up, and tries the next coordinator after a while.
    fn reconnect(&mut self, why: &dyn std::error::Error) {
        let coordinator = &self.coordinators[self.present].0;
        if let Some(welcomed) = self.welcomed.take() {
            self.backoff.worked_for(welcomed.elapsed());
        }
        let retry = self.backoff.after_failure(random());
        log::coordinator_away(coordinator, self.backoff.failures(), retry, why);
        self.up = None;
        self.channel.send_replace(None);
        self.present = (self.present + 1) % self.coordinators.len();
        self.link = Link::open(self.coordinators[self.present].1.clone(), retry);
        self.tell(Event::Disconnected);
    }

    fn tell(&mut self, event: Event) {
        let now = Moment::new(self.start.elapsed());
        for effect in self.session.handle(now, event) {
            match effect {
                Effect::Send(message) => self.send(&message),
                Effect::Start { slot, lease, checkpoint_every } => {
                    let Run { shape, family, .. } = lease.run;
                    let validation = self.cost.validation_seconds(shape.nodes, family.valid_size);
                    let predicted = validation.max(self.cost.step_seconds(shape));
                    let watch = Watch::new(lease.id, predicted, self.hung_after);
                    self.watches[slot.0 as usize] = Some(watch);
                    self.slots[slot.0 as usize].start(lease, checkpoint_every);
                }
                Effect::Stop { slot, how } => self.slots[slot.0 as usize].stop(how),
                Effect::BreakOff(breach) => self.reconnect(&breach),
                Effect::Leave => self.has_left = true,
            }
        }
    }

    /// Nothing more goes up: ends the stream in good order, so that the coordinator need not wait for silence.
    async fn close(&mut self) {
        if self.up.take().is_none() {
            return;
        }
        let closed = async { while !matches!(self.link.next().await, LinkEvent::Lost(_)) {} };
        // Whether it closed or not, all is acknowledged.
        let _ = timeout(CLOSE_WITHIN, closed).await;
    }

    /// Into the stream's queue. What may be lost leaves room for what may not.
    fn send(&mut self, message: &WorkerMessage) {
        let Some(up) = &self.up else {
            return;
        };
        let may_be_lost = match message {
            WorkerMessage::Heartbeat(_)
            | WorkerMessage::Progress { .. }
            | WorkerMessage::CheckpointStored { .. } => true,
            WorkerMessage::Hello(_) | WorkerMessage::Numbered { .. } | WorkerMessage::Draining { .. } => {
                false
            }
        };
        if may_be_lost && up.capacity() <= link::UP_MAX / 2 + 2 {
            return;
        }
        match up.try_send(message.to_wire()) {
            // A queue whose stream is gone takes nothing: the link says so next, and the session sends it again.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            // Never while the session keeps its window; were it to, the next stream would carry it.
            Err(mpsc::error::TrySendError::Full(_)) => self.reconnect(&LinkLoss::QueueFull),
        }
    }

    fn stop_slots(&self) {
        for slot in &self.slots {
            slot.stop(session::Stop::Drop);
        }
    }
}

fn endpoints(coordinators: Vec<String>) -> Result<Vec<(String, Endpoint)>, AgentError> {
    let endpoint = |coordinator: String| match link::endpoint(&coordinator) {
        Ok(endpoint) => Ok((coordinator, endpoint)),
        Err(source) => Err(AgentError::Address { coordinator, source }),
    };
    coordinators.into_iter().map(endpoint).collect()
}

/// One thread a slot; each on a core of its own if there are exactly as many cores as slots. With more cores than
/// slots another worker may have the others, and nobody says which.
fn spawn_slots(count: u32, tools: &Tools) -> std::io::Result<Vec<Slot>> {
    let cores = rustix::thread::sched_getaffinity(None).map_or_else(
        |_| Vec::new(),
        |set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
    );
    let pinned = cores.len() == count as usize;
    (0..count)
        .map(|slot| {
            let core = cores.get(slot as usize).copied().filter(|_| pinned);
            Slot::spawn(SlotId(slot), core, tools.clone())
        })
        .collect()
}

/// Waits until then; for ever if there is no then.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}

/// For jitter: no decision of the session depends on it. Without a source of randomness jitter is half.
fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}
