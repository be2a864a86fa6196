//! The worker's end of a session: which leases it holds, what it reported, and what of that must go again.
//!
//! Pure: events in, effects out. It outlives every stream and every coordinator: a stream that breaks changes
//! nothing but what may be sent now. Time comes in as a [`Moment`]; the edge (`agent`) owns sockets, clocks and
//! slots.
//!
//! What every event does, by the state of the stream:
//!
//! | event | away | greeting (hello sent) | live (welcomed) |
//! | --- | --- | --- | --- |
//! | `Connected` | sends the hello | ignored: one stream at a time | ignored |
//! | `Disconnected` | ignored: known | away | away |
//! | `Welcome` | ignored: of an old stream | live; forgets all if told to; takes the acknowledgement, sends all the rest again, says if it drains | breaks off |
//! | `Grants` | ignored | breaks off | new ones are held, in order of number; known ones ignored; another numerics version breaks off |
//! | `Acknowledged` | ignored | breaks off | forgets the reports, and the leases whose ends they are; more than was sent breaks off |
//! | `Cancelled` | ignored | breaks off | see below |
//! | `Drain` | ignored | breaks off | as `DrainRequested` |
//! | `Progress`, `CheckpointStored` | dropped: each costs time at most | dropped | sent |
//! | `Milestone`, `Ended` | numbered and kept | numbered and kept | numbered, kept and sent |
//! | `TimePassed` | ignored | breaks off if the welcome is overdue | heartbeat if due |
//! | `DrainRequested` | drains | drains | drains, and says so |
//!
//! and by the state of the lease that it names:
//!
//! | event | waiting | training | ended, not acknowledged | unknown |
//! | --- | --- | --- | --- | --- |
//! | granted (again) | ignored | ignored | ignored | waits; at or below `received_max`: ignored, it is over; draining: handed back |
//! | cancelled | handed back | told to drop it; its end is what the slot then says | ignored: on its way | ignored |
//! | drain | handed back | told to checkpoint and end | stays until acknowledged | |
//! | `Progress`, `CheckpointStored` | ignored | sent, if live | ignored | ignored |
//! | `Milestone`, `Ended` | ignored | numbered | ignored: a lease ends once | ignored |
//!
//! A session that is told to forget holds nothing any more: what trains is told to drop it, what was reported and not
//! acknowledged is gone. Numbers of leases begin anew then, so nothing starts before the slots that were told are free.
//!
//! After each event: free slots start waiting leases in order of number (not while draining), reports go out up to
//! [`WINDOW`], and a drained session that holds nothing leaves. After it has left, every event is ignored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use slalom_common::cost::Coefficients;
use slalom_common::id::{
    ContentHash, Incarnation, LeaseId, MessageNumber, NumericsVersion, RunKey, Step, StoreId, WorkerName,
};
use slalom_common::message::{
    CheckpointName, CoordinatorMessage, Hello, Lease, LeaseEnd, LeasesHeld, PROTOCOL_VERSION, Report,
    Welcome, WorkerMessage,
};
use slalom_common::moment::Moment;
use slalom_common::outcome::Milestone;

/// Reports sent and not yet acknowledged, at most: more wait here, so that a long absence ends in no flood.
pub const WINDOW: usize = 256;
/// A coordinator that took the hello and says nothing for so long is left alone.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);

/// Who this worker is, as each hello says it.
#[derive(Clone, PartialEq, Debug)]
pub struct Identity {
    /// For people.
    pub worker: WorkerName,
    /// This process.
    pub incarnation: Incarnation,
    /// Runs trained at a time, from 1.
    pub slots: u32,
    /// The bits it gives.
    pub numerics: NumericsVersion,
    /// What that version's known run came to here.
    pub known_run: ContentHash,
    /// Its kernels' instruction set.
    pub isa: String,
    /// Rate of a slot relative to the reference cost.
    pub speed: f64,
    /// GFLOP/s of a slot.
    pub gflops_per_slot: f64,
    /// What a slot takes for any shape.
    pub cost: Coefficients,
}

/// A slot's place among the worker's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SlotId(pub u32);

/// All that can happen to a session.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A stream is open: say hello.
    Connected,
    /// The stream is gone.
    Disconnected,
    /// The coordinator spoke.
    Received(CoordinatorMessage),
    /// A slot trained on.
    Slot {
        /// Under which lease.
        lease: LeaseId,
        /// To what end.
        news: SlotNews,
    },
    /// [`Session::due`] has come.
    TimePassed,
    /// The process is asked to end, or `slalom run` is.
    DrainRequested,
}

/// What a slot says of the lease that it trains.
#[derive(Clone, PartialEq, Debug)]
pub enum SlotNews {
    /// So far; may be lost.
    Progress {
        /// Steps applied.
        step: Step,
        /// Loss of the last one.
        loss: Option<f64>,
    },
    /// A wanted step that is not the last.
    Milestone(Milestone),
    /// The coordinator has this checkpoint's bytes.
    CheckpointStored(CheckpointName),
    /// The slot is free.
    Ended {
        /// The last answers.
        milestones: Vec<Milestone>,
        /// How the lease is over.
        how: LeaseEnd,
    },
}

/// How a slot is to end a lease before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Checkpoint, upload, hand back: somebody goes on from there.
    Checkpoint,
    /// Hand back as it is: nobody wants the run, or somebody else has it.
    Drop,
}

/// All that a session can ask for, to be done in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Say this on the stream.
    Send(WorkerMessage),
    /// Train this, on a slot that is free.
    Start {
        /// The slot.
        slot: SlotId,
        /// What to train.
        lease: Lease,
        /// Training time between two checkpoints.
        checkpoint_every: Duration,
    },
    /// End what this slot trains.
    Stop {
        /// The slot.
        slot: SlotId,
        /// In which way.
        how: Stop,
    },
    /// Drop the stream and try again: the coordinator does not keep to the protocol.
    BreakOff(Breach),
    /// Everything is handed in and acknowledged: end.
    Leave,
}

/// How a coordinator did not keep to the protocol.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Breach {
    /// No welcome came.
    #[error("no welcome within {} s", WELCOME_WITHIN.as_secs())]
    NoWelcome,
    /// It spoke before its welcome.
    #[error("a message came before the welcome")]
    BeforeWelcome,
    /// It greeted twice.
    #[error("a second welcome came")]
    SecondWelcome,
    /// It has what nobody sent: perhaps another worker's.
    #[error("report {acknowledged} was acknowledged, the last was {last}")]
    NeverSent {
        /// As acknowledged.
        acknowledged: MessageNumber,
        /// The last number given out; 0 before the first.
        last: u64,
    },
    /// It granted what only another build can train.
    #[error("lease {lease} is of numerics version {found}, this worker gives {here}")]
    Numerics {
        /// The grant.
        lease: LeaseId,
        /// What it asks for.
        found: NumericsVersion,
        /// What there is.
        here: NumericsVersion,
    },
}

#[derive(Debug)]
enum Stream {
    Away,
    Greeting { until: Moment },
    Live { heartbeat: Duration, heartbeat_due: Moment, checkpoint_every: Duration },
}

#[derive(Debug)]
enum Held {
    Waiting {
        lease: Box<Lease>,
        checkpoint_every: Duration,
    },
    Training {
        slot: SlotId,
        run: RunKey,
    },
    /// Until the report of this number is acknowledged.
    Ended {
        report: MessageNumber,
    },
}

#[derive(Debug)]
struct Unacknowledged {
    lease: LeaseId,
    run: RunKey,
    report: Report,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Serving,
    Draining,
    Left,
}

/// One incarnation's whole dealings with its coordinators.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    stream: Stream,
    life: Life,
    held: BTreeMap<LeaseId, Held>,
    /// Leases of another store that their slots have not yet ended. What slots say names a lease by number alone.
    forgotten: BTreeMap<LeaseId, SlotId>,
    free: BTreeSet<SlotId>,
    /// That granted what is held.
    store: Option<StoreId>,
    received_max: Option<LeaseId>,
    /// Reports up to this number are durable; the next is the front of `unacknowledged`.
    acknowledged: u64,
    unacknowledged: VecDeque<Unacknowledged>,
    /// How many from the front of `unacknowledged` this stream has carried.
    sent: usize,
}

impl Session {
    /// A session that holds nothing and has not met its coordinator.
    pub fn new(identity: Identity) -> Self {
        Self {
            free: (0..identity.slots).map(SlotId).collect(),
            identity,
            stream: Stream::Away,
            life: Life::Serving,
            held: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            store: None,
            received_max: None,
            acknowledged: 0,
            unacknowledged: VecDeque::new(),
            sent: 0,
        }
    }

    /// When [`Event::TimePassed`] is wanted next.
    pub fn due(&self) -> Option<Moment> {
        match self.stream {
            Stream::Away => None,
            Stream::Greeting { until } => Some(until),
            Stream::Live { heartbeat_due, .. } => Some(heartbeat_due),
        }
    }

    /// Whether a coordinator has welcomed the present stream.
    pub fn is_live(&self) -> bool {
        matches!(self.stream, Stream::Live { .. })
    }

    /// Whether it takes no more leases.
    pub fn is_draining(&self) -> bool {
        self.life != Life::Serving
    }

    /// Leases held: waiting, training, or ended and not acknowledged.
    pub fn held_count(&self) -> usize {
        self.held.len()
    }

    /// Reports not yet acknowledged.
    pub fn unacknowledged_count(&self) -> usize {
        self.unacknowledged.len()
    }

    /// What `event` changes, and what must be done about it, in order.
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.life == Life::Left {
            return effects;
        }
        match event {
            Event::Connected => self.on_connected(now, &mut effects),
            Event::Disconnected => self.stream = Stream::Away,
            Event::Received(message) => self.on_received(now, message, &mut effects),
            Event::Slot { lease, news } => self.on_slot(lease, news, &mut effects),
            Event::TimePassed => self.on_time_passed(now, &mut effects),
            Event::DrainRequested => self.on_drain(&mut effects),
        }
        self.start_waiting(&mut effects);
        self.send_reports(&mut effects);
        self.leave_if_drained(&mut effects);
        effects
    }

    fn on_connected(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if !matches!(self.stream, Stream::Away) {
            return;
        }
        self.stream = Stream::Greeting { until: now + WELCOME_WITHIN };
        let Identity { worker, incarnation, slots, numerics, known_run, isa, speed, gflops_per_slot, cost } =
            self.identity.clone();
        effects.push(Effect::Send(WorkerMessage::Hello(Hello {
            protocol_version: PROTOCOL_VERSION,
            worker,
            incarnation,
            slots,
            numerics,
            known_run: Some(known_run),
            isa,
            speed,
            gflops_per_slot,
            cost,
            held: self.leases_held(),
            store: self.store,
        })));
    }

    fn on_received(&mut self, now: Moment, message: CoordinatorMessage, effects: &mut Vec<Effect>) {
        match self.stream {
            Stream::Away => {}
            Stream::Greeting { .. } => match message {
                CoordinatorMessage::Welcome(welcome) => self.on_welcome(now, &welcome, effects),
                CoordinatorMessage::Grants(_)
                | CoordinatorMessage::Acknowledged(_)
                | CoordinatorMessage::Cancelled(_)
                | CoordinatorMessage::Drain => self.break_off(Breach::BeforeWelcome, effects),
            },
            Stream::Live { checkpoint_every, .. } => match message {
                CoordinatorMessage::Welcome(_) => self.break_off(Breach::SecondWelcome, effects),
                CoordinatorMessage::Grants(leases) => self.on_grants(leases, checkpoint_every, effects),
                CoordinatorMessage::Acknowledged(number) => self.on_acknowledged(number, effects),
                CoordinatorMessage::Cancelled(leases) => self.on_cancelled(&leases, effects),
                CoordinatorMessage::Drain => self.on_drain(effects),
            },
        }
    }

    fn on_welcome(&mut self, now: Moment, welcome: &Welcome, effects: &mut Vec<Effect>) {
        self.stream = Stream::Live {
            heartbeat: welcome.heartbeat,
            heartbeat_due: now + welcome.heartbeat,
            checkpoint_every: welcome.checkpoint_every,
        };
        if welcome.forget {
            self.forget(effects);
        }
        self.store = Some(welcome.store);
        // This stream has carried nothing yet, whatever an earlier one has: all that stays unacknowledged goes again.
        self.sent = 0;
        if let Some(number) = welcome.acknowledged {
            self.on_acknowledged(number, effects);
        }
        if self.life == Life::Draining && self.is_live() {
            let received_max = self.received_max;
            effects.push(Effect::Send(WorkerMessage::Draining { received_max }));
        }
    }

    /// Lets go of all that another store has granted: this one has the same numbers for other runs.
    fn forget(&mut self, effects: &mut Vec<Effect>) {
        for (lease, held) in std::mem::take(&mut self.held) {
            if let Held::Training { slot, .. } = held {
                effects.push(Effect::Stop { slot, how: Stop::Drop });
                self.forgotten.insert(lease, slot);
            }
        }
        // Their numbers are not given out again: over an incarnation's life each is one report's.
        self.acknowledged += self.unacknowledged.len() as u64;
        self.unacknowledged.clear();
        self.received_max = None;
    }

    fn on_grants(&mut self, mut leases: Vec<Lease>, default_every: Duration, effects: &mut Vec<Effect>) {
        leases.sort_by_key(|lease| lease.id);
        for lease in leases {
            // Sent again after a reconnect, or over already: a lease is taken once, so it is started at most once.
            if self.received_max.is_some_and(|max| lease.id <= max) {
                continue;
            }
            let (found, here) = (lease.run.family.numerics, self.identity.numerics);
            if found != here {
                self.break_off(Breach::Numerics { lease: lease.id, found, here }, effects);
                return;
            }
            let id = lease.id;
            self.received_max = Some(id);
            match self.life {
                Life::Serving => {
                    let checkpoint_every = lease.checkpoint_every.unwrap_or(default_every);
                    self.held.insert(id, Held::Waiting { lease: Box::new(lease), checkpoint_every });
                }
                Life::Draining | Life::Left => self.hand_back(id, lease.run.key()),
            }
        }
    }

    fn on_acknowledged(&mut self, number: MessageNumber, effects: &mut Vec<Effect>) {
        let last = self.acknowledged + self.unacknowledged.len() as u64;
        if number.number() > last {
            self.break_off(Breach::NeverSent { acknowledged: number, last }, effects);
            return;
        }
        // Acknowledgements are cumulative: an older one says nothing new.
        let newly = number.number().saturating_sub(self.acknowledged) as usize;
        self.unacknowledged.drain(..newly);
        self.sent = self.sent.saturating_sub(newly);
        self.acknowledged += newly as u64;
        self.held.retain(|_, held| !matches!(held, Held::Ended { report } if *report <= number));
    }

    fn on_cancelled(&mut self, leases: &[LeaseId], effects: &mut Vec<Effect>) {
        for &lease in leases {
            match self.held.get(&lease) {
                Some(Held::Waiting { lease: waiting, .. }) => {
                    let run = waiting.run.key();
                    self.hand_back(lease, run);
                }
                Some(Held::Training { slot, .. }) => {
                    effects.push(Effect::Stop { slot: *slot, how: Stop::Drop });
                }
                Some(Held::Ended { .. }) | None => {}
            }
        }
    }

    fn on_slot(&mut self, lease: LeaseId, news: SlotNews, effects: &mut Vec<Effect>) {
        if let Some(&slot) = self.forgotten.get(&lease) {
            if let SlotNews::Ended { .. } = news {
                self.forgotten.remove(&lease);
                self.free.insert(slot);
            }
            return;
        }
        let Some(&Held::Training { slot, run }) = self.held.get(&lease) else {
            return;
        };
        match news {
            SlotNews::Progress { step, loss } => {
                if self.is_live() {
                    effects.push(Effect::Send(WorkerMessage::Progress { lease, step, loss }));
                }
            }
            SlotNews::CheckpointStored(checkpoint) => {
                if self.is_live() {
                    effects.push(Effect::Send(WorkerMessage::CheckpointStored { lease, run, checkpoint }));
                }
            }
            SlotNews::Milestone(milestone) => {
                self.number(lease, run, Report::Milestone(milestone));
            }
            SlotNews::Ended { milestones, how } => {
                let report = self.number(lease, run, Report::LeaseEnded { milestones, how });
                self.held.insert(lease, Held::Ended { report });
                self.free.insert(slot);
            }
        }
    }

    fn on_time_passed(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        match &mut self.stream {
            Stream::Away => {}
            Stream::Greeting { until } => {
                if now >= *until {
                    self.break_off(Breach::NoWelcome, effects);
                }
            }
            Stream::Live { heartbeat, heartbeat_due, .. } => {
                if now >= *heartbeat_due {
                    *heartbeat_due = now + *heartbeat;
                    effects.push(Effect::Send(WorkerMessage::Heartbeat(self.leases_held())));
                }
            }
        }
    }

    fn on_drain(&mut self, effects: &mut Vec<Effect>) {
        if self.life != Life::Serving {
            return;
        }
        self.life = Life::Draining;
        if self.is_live() {
            let received_max = self.received_max;
            effects.push(Effect::Send(WorkerMessage::Draining { received_max }));
        }
        let mut waiting = Vec::new();
        for (&lease, held) in &self.held {
            match held {
                Held::Waiting { lease: granted, .. } => waiting.push((lease, granted.run.key())),
                Held::Training { slot, .. } => {
                    effects.push(Effect::Stop { slot: *slot, how: Stop::Checkpoint });
                }
                Held::Ended { .. } => {}
            }
        }
        for (lease, run) in waiting {
            self.hand_back(lease, run);
        }
    }

    /// Ends a lease that no slot has: it stays held until that is acknowledged.
    fn hand_back(&mut self, lease: LeaseId, run: RunKey) {
        let handed_back = Report::LeaseEnded { milestones: Vec::new(), how: LeaseEnd::HandedBack };
        let report = self.number(lease, run, handed_back);
        self.held.insert(lease, Held::Ended { report });
    }

    fn number(&mut self, lease: LeaseId, run: RunKey, report: Report) -> MessageNumber {
        self.unacknowledged.push_back(Unacknowledged { lease, run, report });
        MessageNumber::new(self.acknowledged + self.unacknowledged.len() as u64)
    }

    fn start_waiting(&mut self, effects: &mut Vec<Effect>) {
        if !self.forgotten.is_empty() {
            return;
        }
        for held in self.held.values_mut() {
            let Held::Waiting { lease, checkpoint_every } = held else {
                continue;
            };
            let Some(slot) = self.free.pop_first() else {
                return;
            };
            let run = lease.run.key();
            effects.push(Effect::Start {
                slot,
                lease: (**lease).clone(),
                checkpoint_every: *checkpoint_every,
            });
            *held = Held::Training { slot, run };
        }
    }

    fn send_reports(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_live() {
            return;
        }
        let end = self.unacknowledged.len().min(WINDOW);
        for index in self.sent..end {
            let Unacknowledged { lease, run, report } = &self.unacknowledged[index];
            let number = MessageNumber::new(self.acknowledged + 1 + index as u64);
            effects.push(Effect::Send(WorkerMessage::Numbered {
                number,
                lease: *lease,
                run: *run,
                report: report.clone(),
            }));
        }
        self.sent = self.sent.max(end);
    }

    fn leave_if_drained(&mut self, effects: &mut Vec<Effect>) {
        if self.life == Life::Draining && self.held.is_empty() && self.unacknowledged.is_empty() {
            self.life = Life::Left;
            effects.push(Effect::Leave);
        }
    }

    fn break_off(&mut self, breach: Breach, effects: &mut Vec<Effect>) {
        self.stream = Stream::Away;
        effects.push(Effect::BreakOff(breach));
    }

    fn leases_held(&self) -> LeasesHeld {
        LeasesHeld { leases: self.held.keys().copied().collect(), received_max: self.received_max }
    }
}

#[cfg(test)]
mod tests;
