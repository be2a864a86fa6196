//! A worker in the simulated world: the real session, over slots that train by [`crate::trainer`] and a link that breaks.

use std::time::Duration;

use slalom_common::cost::REFERENCE;
use slalom_common::id::{ContentHash, Incarnation, LeaseId, WorkerName};
use slalom_common::message::{CoordinatorMessage, Welcome, WorkerMessage};
use slalom_common::moment::Moment;
use slalom_common::run::{KNOWN_RUN, NUMERICS};
use slalom_worker::agent::backoff::{Backoff, Bounds};
use slalom_worker::agent::session::{Breach, Effect, Event, Identity, Session, SlotId, Stop};

use crate::checker::{Checked, Violation, hold};
use crate::dice::mix;
use crate::history;
use crate::network::{Carried, ConnectionId, Way};
use crate::planted::Bug;
use crate::slot::Training;
use crate::world::{Happening, World};

/// As the agent has it.
const DRAIN_WITHIN: Duration = Duration::from_secs(25);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct WorkerIndex(pub(crate) usize);

/// A process of a worker; numbered over the whole world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProcessId(pub(crate) u64);

/// A host: it has at most one process.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) slots: u32,
    pub(crate) process: Option<Process>,
    pub(crate) frozen_until: Moment,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pub(crate) incarnation: Incarnation,
    /// Where its own clock began.
    origin: Moment,
    session: Session,
    pub(crate) slots: Vec<Option<Training>>,
    connection: Option<ConnectionId>,
    backoff: Backoff,
    welcomed: Option<Moment>,
    wakes_at: Option<Moment>,
    /// What slots say arrives in order.
    pub(crate) news_last: Moment,
    /// Since when it is asked to drain.
    drains_since: Option<Moment>,
}

impl Process {
    fn local(&self, now: Moment) -> Moment {
        Moment::new(now.since(self.origin))
    }

    pub(crate) fn listens(&self, connection: ConnectionId) -> bool {
        self.connection == Some(connection)
    }

    pub(crate) fn training(&mut self, slot: SlotId, lease: LeaseId) -> Option<&mut Training> {
        self.slots[slot.0 as usize].as_mut().filter(|training| training.lease.id == lease)
    }
}

/// The name of the worker on this host.
pub(crate) fn name(host: u64) -> WorkerName {
    format!("hill-{host}").parse().expect("a name")
}

impl World {
    pub(crate) fn process(&mut self, worker: WorkerIndex, id: ProcessId) -> Option<&mut Process> {
        self.hosts[worker.0].process.as_mut().filter(|process| process.id == id)
    }

    pub(crate) fn start_worker(&mut self, worker: WorkerIndex) {
        if self.hosts[worker.0].process.is_some() {
            return;
        }
        self.processes += 1;
        let id = ProcessId(self.processes);
        let incarnation =
            Incarnation::new(u128::from(mix(self.processes)) << 64 | u128::from(self.processes));
        let slots = self.hosts[worker.0].slots;
        if self.weather.has_liar && self.lies(worker) {
            self.checker.on_liar(incarnation);
        }
        let is_unsound = self.is_unsound(worker);
        if is_unsound {
            self.checker.on_unsound(incarnation);
        }
        let named = name(worker.0 as u64);
        self.checker.on_worker_began(incarnation, named.clone());
        let identity = Identity {
            worker: named,
            incarnation,
            slots,
            numerics: NUMERICS,
            known_run: if is_unsound { ContentHash::of(b"another") } else { KNOWN_RUN },
            isa: "portable".to_owned(),
            speed: 1.0,
            gflops_per_slot: 1.0,
            // Some say that they are faster than others, so that runs are copied.
            cost: REFERENCE.slowed(self.weather.slowness * [1.0, 2.0, 4.0][worker.0 % 3]),
        };
        let bounds = Bounds { first: Duration::from_millis(200), longest: Duration::from_secs(5) };
        self.say(|_| format!("hill-{} starts as process {}", worker.0, id.0));
        self.hosts[worker.0].process = Some(Process {
            id,
            incarnation,
            origin: self.now,
            session: Session::new(identity),
            slots: (0..slots).map(|_| None).collect(),
            connection: None,
            backoff: Backoff::new(bounds),
            welcomed: None,
            wakes_at: None,
            news_last: self.now,
            drains_since: None,
        });
        self.later(Duration::ZERO, Happening::WorkerConnects { worker, process: id });
    }

    /// Whether this worker measures other bits: because it is so in this world, or because that is planted.
    pub(crate) fn lies(&self, worker: WorkerIndex) -> bool {
        worker.0 == 0 && (self.weather.has_liar || self.planted == Some(Bug::MeasuresOtherBits))
    }

    /// Whether a worker that measures other bits does so from its start, so that its known run shows it.
    fn is_unsound(&mut self, worker: WorkerIndex) -> bool {
        self.weather.has_liar && self.lies(worker) && self.dice.chance(50)
    }

    /// A coordinator will have nothing to do with it: the process ends.
    pub(crate) fn refuse_worker(&mut self, worker: WorkerIndex) {
        self.say(|_| format!("hill-{} is refused", worker.0));
        self.end_worker(worker);
    }

    /// Kill -9 or power loss.
    pub(crate) fn kill_worker(&mut self, worker: WorkerIndex) {
        let Some(process) = self.end_worker(worker) else { return };
        self.say(|_| format!("hill-{} is killed", worker.0));
        if let Some(connection) = process.connection {
            self.break_connection(connection);
        }
    }

    fn end_worker(&mut self, worker: WorkerIndex) -> Option<Process> {
        let process = self.hosts[worker.0].process.take()?;
        self.checker.on_worker_gone(process.incarnation);
        let after = self.dice.millis(0..=10_000);
        self.later(after, Happening::WorkerStarts { worker });
        Some(process)
    }

    pub(crate) fn on_worker_connects(&mut self, worker: WorkerIndex, id: ProcessId) -> Checked {
        let is_reachable = self.is_reachable(worker);
        let Some(process) = self.process(worker, id) else { return Ok(()) };
        if process.connection.is_some() {
            return Ok(());
        }
        if !is_reachable {
            let word = self.dice.word();
            let Some(process) = self.process(worker, id) else { return Ok(()) };
            let retry = process.backoff.after_failure(word);
            let refused_after = self.dice.millis(0..=1_000);
            self.later(retry + refused_after, Happening::WorkerConnects { worker, process: id });
            return Ok(());
        }
        let connection = self.network.open(worker);
        self.accept(connection);
        self.say(|_| format!("hill-{} opens {connection}", worker.0));
        if let Some(process) = self.process(worker, id) {
            process.connection = Some(connection);
        }
        self.tell(worker, id, Event::Connected)
    }

    /// Whether bytes pass both ways between a worker and a coordinator that runs.
    pub(crate) fn is_reachable(&self, worker: WorkerIndex) -> bool {
        self.coordinator.process.is_some()
            && [Way::Up, Way::Down].iter().all(|&way| self.network.blocked(worker, way, self.now).is_none())
    }

    pub(crate) fn on_worker_wakes(&mut self, worker: WorkerIndex, id: ProcessId) -> Checked {
        let Some(process) = self.process(worker, id) else { return Ok(()) };
        process.wakes_at = None;
        self.tell(worker, id, Event::TimePassed)
    }

    pub(crate) fn on_drain_requested(&mut self, worker: WorkerIndex) -> Checked {
        let Some(process) = self.hosts[worker.0].process.as_mut().filter(|one| one.drains_since.is_none())
        else {
            return Ok(());
        };
        process.drains_since = Some(self.now);
        let id = process.id;
        self.say(|_| format!("hill-{} is asked to drain", worker.0));
        self.later(DRAIN_WITHIN, Happening::DrainCutShort { worker, process: id });
        self.tell(worker, id, Event::DrainRequested)
    }

    pub(crate) fn on_drain_cut_short(&mut self, worker: WorkerIndex, id: ProcessId) -> Checked {
        let Some(process) = self.process(worker, id) else { return Ok(()) };
        let since = process.drains_since.unwrap_or_default();
        if self.is_settled_since(since) {
            let found = format!("hill-{} did not get rid of its leases within {DRAIN_WITHIN:?}", worker.0);
            return Err(Violation { invariant: "L1", found });
        }
        self.kill_worker(worker);
        Ok(())
    }

    /// Something came down on a stream.
    pub(crate) fn worker_hears(
        &mut self,
        worker: WorkerIndex,
        connection: ConnectionId,
        carried: Carried<CoordinatorMessage>,
    ) -> Checked {
        let Some(process) = self.hosts[worker.0].process.as_mut().filter(|one| one.listens(connection))
        else {
            return Ok(());
        };
        let id = process.id;
        match carried {
            Carried::End => {
                self.say(|_| format!("hill-{} loses {connection}", worker.0));
                self.reconnect(worker, id)
            }
            Carried::Message(message) => {
                self.say(|_| format!("hill-{} hears {}", worker.0, history::of_down(&message)));
                let was_live = self.process(worker, id).is_some_and(|one| one.session.is_live());
                if let CoordinatorMessage::Welcome(Welcome { forget: true, .. }) = message
                    && let Some(incarnation) = self.process(worker, id).map(|one| one.incarnation)
                {
                    self.checker.on_forgets(incarnation);
                }
                self.tell(worker, id, Event::Received(message))?;
                let now = self.now;
                if let Some(process) = self.process(worker, id)
                    && process.session.is_live()
                    && !was_live
                {
                    process.welcomed = Some(now);
                }
                Ok(())
            }
        }
    }

    /// Gives the present stream up, as the agent does, and tries again after a while.
    fn reconnect(&mut self, worker: WorkerIndex, id: ProcessId) -> Checked {
        let (now, word) = (self.now, self.dice.word());
        let Some(process) = self.process(worker, id) else { return Ok(()) };
        if let Some(welcomed) = process.welcomed.take() {
            process.backoff.worked_for(now.since(welcomed));
        }
        let retry = process.backoff.after_failure(word);
        if let Some(connection) = process.connection.take() {
            let due = now + self.delay();
            if let Some(at) = self.network.put_up(connection, due, Carried::End) {
                self.at(at, Happening::Delivers { connection, way: Way::Up });
            }
        }
        self.later(retry, Happening::WorkerConnects { worker, process: id });
        self.tell(worker, id, Event::Disconnected)
    }

    /// Hands the session an event and does what it asks for.
    pub(crate) fn tell(&mut self, worker: WorkerIndex, id: ProcessId, event: Event) -> Checked {
        let now = self.now;
        let Some(process) = self.process(worker, id) else { return Ok(()) };
        let (local, incarnation) = (process.local(now), process.incarnation);
        for effect in process.session.handle(local, event) {
            match effect {
                Effect::Send(message) => self.send_up(worker, id, message)?,
                Effect::Start { slot, lease, checkpoint_every } => {
                    self.checker.on_started(incarnation, &lease)?;
                    self.start_slot(worker, id, slot, lease, checkpoint_every)?;
                }
                Effect::Stop { slot, how } => {
                    let Some(process) = self.process(worker, id) else { return Ok(()) };
                    if let Some(training) = &mut process.slots[slot.0 as usize] {
                        // A drop overrides a checkpoint and never the reverse.
                        training.told = Some(training.told.filter(|told| *told == Stop::Drop).unwrap_or(how));
                    }
                }
                Effect::BreakOff(breach) => {
                    self.say(|_| format!("hill-{} breaks off: {breach}", worker.0));
                    let is_expected = matches!(breach, Breach::NoWelcome);
                    if !is_expected {
                        let found = format!("our own coordinator is left by hill-{}: {breach}", worker.0);
                        return Err(Violation { invariant: "protocol", found });
                    }
                    self.reconnect(worker, id)?;
                }
                Effect::Leave => {
                    self.say(|_| format!("hill-{} has handed everything in and leaves", worker.0));
                    let Some(process) = self.end_worker(worker) else { return Ok(()) };
                    if let Some(connection) = process.connection {
                        let due = now + self.delay();
                        if let Some(at) = self.network.put_up(connection, due, Carried::End) {
                            self.at(at, Happening::Delivers { connection, way: Way::Up });
                        }
                    }
                }
            }
        }
        let Some(process) = self.process(worker, id) else { return Ok(()) };
        let due = process.session.due().map(|due| process.origin + due.since(Moment::default()));
        if let Some(due) = due
            && process.wakes_at.is_none_or(|at| at > due)
        {
            process.wakes_at = Some(due);
            self.at(due, Happening::WorkerWakes { worker, process: id });
        }
        Ok(())
    }

    fn send_up(&mut self, worker: WorkerIndex, id: ProcessId, message: WorkerMessage) -> Checked {
        let Some(process) = self.process(worker, id) else { return Ok(()) };
        let (incarnation, connection) = (process.incarnation, process.connection);
        let may_be_lost = match &message {
            WorkerMessage::Numbered { number, lease, run, report } => {
                self.checker.on_reported(incarnation, *number, (*lease, *run), report)?;
                false
            }
            WorkerMessage::Heartbeat(_)
            | WorkerMessage::Progress { .. }
            | WorkerMessage::CheckpointStored { .. } => true,
            WorkerMessage::Hello(_) | WorkerMessage::Draining { .. } => false,
        };
        if may_be_lost && !self.is_calm() && self.dice.chance(2) {
            return Ok(());
        }
        let Some(connection) = connection else { return Ok(()) };
        let carried = WorkerMessage::from_wire(message.to_wire());
        hold(carried.as_ref() == Ok(&message), "protocol", || {
            format!("{message:?} comes off the wire as {carried:?}")
        })?;
        self.say(|_| format!("hill-{} says {}", worker.0, history::of_up(&message)));
        let due = self.now + self.delay();
        if let Some(at) = self.network.put_up(connection, due, Carried::Message(message)) {
            self.at(at, Happening::Delivers { connection, way: Way::Up });
        }
        Ok(())
    }
}
