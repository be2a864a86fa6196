//! A coordinator in the simulated world: the real scheduler and the real session halves, between a disk and a network that fail.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use slalom_common::id::Incarnation;
use slalom_common::message::{CoordinatorMessage, WorkerMessage};
use slalom_common::moment::Moment;
use slalom_common::run::{KNOWN_RUN, NUMERICS};
use slalom_coordinator::batch::{AtOnce, Batch, Promises};
use slalom_coordinator::scheduler::effect::Effect;
use slalom_coordinator::scheduler::event::{Event, RequestId, StreamId};
use slalom_coordinator::scheduler::order::Serve;
use slalom_coordinator::scheduler::record::Record;
use slalom_coordinator::scheduler::{Scheduler, Settings};
use slalom_coordinator::service::session::{Heard, Refusal, Session};
use slalom_coordinator::store::Store as _;

use crate::checker::{Checked, Conditions, Violation, hold};
use crate::network::{Carried, ConnectionId, Way};
use crate::people::{Ask, CallId};
use crate::planted::{self, Bug};
use crate::world::{Happening, World};

pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
pub(crate) const LEASE: Duration = Duration::from_secs(6);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// As the driver has it.
const COMMIT_RETRY: Duration = Duration::from_millis(500);

/// The host: it has at most one process, and numbers them.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    pub(crate) life: u64,
    pub(crate) process: Option<Process>,
    pub(crate) frozen_until: Moment,
}

#[derive(Debug)]
pub(crate) struct Process {
    /// Where its own clock began.
    origin: Moment,
    pub(crate) scheduler: Scheduler,
    sessions: BTreeMap<ConnectionId, Stream>,
    connections: BTreeMap<StreamId, (ConnectionId, Incarnation)>,
    inbox: Vec<Event>,
    /// What is being committed, and what waits for that.
    committing: Option<Commit>,
    calls: BTreeMap<RequestId, CallId>,
    next_id: u64,
    wakes_at: Option<Moment>,
}

#[derive(Debug)]
struct Stream {
    session: Session,
    joined: Option<(StreamId, Incarnation)>,
}

/// A batch on its way to the disk.
#[derive(Debug)]
struct Commit {
    decided: Moment,
    records: Vec<Record>,
    promises: Promises,
}

impl Process {
    fn local(&self, now: Moment) -> Moment {
        Moment::new(now.since(self.origin))
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether all that has come in is durable and answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.committing.is_none()
    }

    pub(crate) fn listens(&self, connection: ConnectionId) -> bool {
        self.sessions.contains_key(&connection)
    }
}

impl World {
    pub(crate) fn start_coordinator(&mut self) -> Checked {
        self.coordinator.life += 1;
        let life = self.coordinator.life;
        let settings = Settings {
            heartbeat: HEARTBEAT,
            lease: LEASE,
            checkpoint_every: CHECKPOINT_EVERY,
            progress_every: Duration::from_secs(10),
            numerics: NUMERICS,
            serve: Serve::All,
        };
        let mut records = self.disk.load().expect("a disk in memory reads");
        self.say(|_| format!("coordinator {life} starts from {} records", records.len()));
        self.checker.on_loaded(&records)?;
        if self.planted == Some(Bug::ForgetsSteering) {
            records.retain(|record| !planted::steers(record));
        }
        let scheduler = Scheduler::recover(settings, self.disk.id(), Moment::default(), records);
        self.checker.on_coordinator_began(self.now);
        self.checker.on_state(&scheduler)?;
        // As the driver does before it serves anybody.
        let named: Vec<_> = scheduler.ledger().checkpoints().collect();
        self.disk.blobs.retain(|blob, _| named.contains(blob));
        self.coordinator.process = Some(Process {
            origin: self.now,
            scheduler,
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            inbox: if self.weather.lives_together { vec![Event::FormerWorkersGone] } else { Vec::new() },
            committing: None,
            calls: BTreeMap::new(),
            next_id: 0,
            wakes_at: None,
        });
        self.turn_coordinator()
    }

    /// Kill -9, or power loss: of what was being committed, all or nothing is there.
    pub(crate) fn kill_coordinator(&mut self) -> Checked {
        let Some(process) = self.coordinator.process.take() else { return Ok(()) };
        let life = self.coordinator.life;
        self.say(|_| format!("coordinator {life} is killed"));
        if let Some(commit) = process.committing
            && self.dice.chance(50)
        {
            self.commit(&commit)?;
        }
        if self.planted == Some(Bug::ForgetsCommit) {
            self.disk.forget_last_commit();
        }
        for connection in process.sessions.into_keys() {
            self.break_connection(connection);
        }
        if self.weather.lives_together {
            for worker in self.workers() {
                self.kill_worker(worker);
            }
        }
        let after = self.dice.millis(0..=8_000);
        self.later(after, Happening::CoordinatorStarts);
        Ok(())
    }

    /// Whether the commit is durable; if it is not, it may be tried again.
    fn commit(&mut self, commit: &Commit) -> Result<bool, Violation> {
        // The time of day is for people: it may be anything (I16).
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(self.dice.below(1 << 41));
        if self.planted == Some(Bug::ForgetsCommit) {
            self.disk.remember();
        }
        match self.disk.append(&commit.records, at) {
            Ok(()) => {
                for record in &commit.records {
                    self.say(|_| format!("  durable: {}", crate::history::of_record(record)));
                }
                let conditions = if self.is_settled_since(commit.decided) {
                    Conditions::Settled
                } else {
                    Conditions::Unsettled
                };
                self.checker.on_committed(commit.decided, &commit.records, conditions)?;
                Ok(true)
            }
            Err(error) if error.may_pass() => Ok(false),
            Err(_) => {
                // Crash and recover: the process that got this answer is gone before it does anything else.
                self.fail_coordinator = true;
                Ok(false)
            }
        }
    }

    pub(crate) fn on_commit_ends(&mut self, life: u64) -> Checked {
        if self.coordinator.life != life {
            return Ok(());
        }
        let Some(commit) = self.coordinator.process.as_mut().and_then(|process| process.committing.take())
        else {
            return Ok(());
        };
        if !self.commit(&commit)? {
            if std::mem::take(&mut self.fail_coordinator) {
                return self.kill_coordinator();
            }
            if let Some(process) = &mut self.coordinator.process {
                process.committing = Some(commit);
            }
            self.later(COMMIT_RETRY, Happening::CommitEnds { life });
            return Ok(());
        }
        self.leave(commit.promises.made_good())?;
        if let Some(process) = &self.coordinator.process {
            self.checker.on_state(&process.scheduler)?;
        }
        self.turn_coordinator()
    }

    pub(crate) fn on_coordinator_wakes(&mut self, life: u64) -> Checked {
        match &mut self.coordinator.process {
            Some(process) if self.coordinator.life == life => process.wakes_at = None,
            Some(_) | None => return Ok(()),
        }
        self.turn_coordinator()
    }

    /// One turn of the driver's loop: all that has come in, then the tick if it is due, then the commit.
    pub(crate) fn turn_coordinator(&mut self) -> Checked {
        let now = self.now;
        let Some(process) = &mut self.coordinator.process else { return Ok(()) };
        if process.committing.is_some() {
            return Ok(());
        }
        let mut batch = Batch::default();
        let mut at_once = Vec::new();
        let local = process.local(now);
        let inbox = std::mem::take(&mut process.inbox);
        for event in inbox {
            self.handle(local, event, &mut batch, &mut at_once);
        }
        let Some(process) = &mut self.coordinator.process else { return Ok(()) };
        let local = if self.planted == Some(Bug::ExpiresEarly) { local + LEASE / 2 } else { local };
        if process.scheduler.next_deadline() <= local && self.planted != Some(Bug::NeverExpires) {
            self.handle(local, Event::Tick, &mut batch, &mut at_once);
        }
        for effect in at_once {
            match effect {
                AtOnce::Announce(_) => (),
                AtOnce::Close { stream } => self.close_stream(stream),
            }
        }
        let life = self.coordinator.life;
        let (records, promises) = batch.close();
        let promises = if self.planted == Some(Bug::AcknowledgesBeforeCommit) {
            self.leave(promises.made_good())?;
            Promises::default()
        } else {
            promises
        };
        if records.is_empty() {
            self.leave(promises.made_good())?;
        } else {
            self.begin_commit(Commit { decided: now, records, promises });
        }
        let Some(process) = &mut self.coordinator.process else { return Ok(()) };
        let deadline = process.origin + process.scheduler.next_deadline().since(Moment::default());
        if process.wakes_at.is_none_or(|at| at > deadline)
            && process.committing.is_none()
            && self.planted != Some(Bug::NeverExpires)
        {
            process.wakes_at = Some(deadline);
            self.at(deadline, Happening::CoordinatorWakes { life });
        }
        if self.inbox_waits() { self.turn_coordinator() } else { Ok(()) }
    }

    fn begin_commit(&mut self, commit: Commit) {
        let after = self.dice.millis(0..=self.weather.commit_ms);
        if let Some(process) = &mut self.coordinator.process {
            process.committing = Some(commit);
        }
        self.later(after, Happening::CommitEnds { life: self.coordinator.life });
    }

    fn inbox_waits(&self) -> bool {
        let process = self.coordinator.process.as_ref();
        process.is_some_and(|process| process.committing.is_none() && !process.inbox.is_empty())
    }

    fn handle(&mut self, local: Moment, event: Event, batch: &mut Batch, at_once: &mut Vec<AtOnce>) {
        let Some(process) = &mut self.coordinator.process else { return };
        match &event {
            Event::WorkerJoined { hello, .. } => self.checker.on_heard(self.now, hello.incarnation),
            Event::Said { stream, incarnation, .. } => {
                let worker = process.scheduler.fleet().get(incarnation);
                if worker.is_some_and(|worker| worker.stream == Some(*stream)) {
                    self.checker.on_heard(self.now, *incarnation);
                }
            }
            Event::Tick
            | Event::StreamClosed { .. }
            | Event::FormerWorkersGone
            | Event::Submit { .. }
            | Event::Extend { .. }
            | Event::Cancel { .. }
            | Event::Steer { .. }
            | Event::Drain { .. }
            | Event::ResumeWorker { .. }
            | Event::Retry { .. } => (),
        }
        if self.planted == Some(Bug::TakesStaleEnds)
            && let Some(perverted) = planted::as_if_in_force(&process.scheduler, &event)
        {
            let mut effects = process.scheduler.handle(local, perverted);
            effects.after_commit.retain(|effect| !planted::acknowledges_nothing(effect));
            at_once.extend(batch.take(effects));
        }
        if self.planted == Some(Bug::GrantsWhilePaused) && event == Event::Tick {
            at_once.extend(batch.take(planted::grant_while_paused(&mut process.scheduler, local)));
        }
        if self.planted == Some(Bug::GrantsToPaused) && event == Event::Tick {
            at_once.extend(batch.take(planted::grant_to_paused(&mut process.scheduler, local)));
        }
        let mut effects = process.scheduler.handle(local, event);
        if self.planted == Some(Bug::RecordsCopiesAsPrimary) {
            planted::as_primary(&mut effects.records);
        }
        if self.planted == Some(Bug::ResumesPastMilestone) {
            for effect in &mut effects.after_commit {
                if let Effect::Send { message, .. } = effect {
                    planted::resume_from_newest(&process.scheduler, message);
                }
            }
        }
        at_once.extend(batch.take(effects));
    }

    /// Carries effects out.
    fn leave(&mut self, effects: Vec<Effect>) -> Checked {
        for effect in effects {
            match effect {
                Effect::Send { stream, message } => self.send_down(stream, message)?,
                Effect::Close { stream } => self.close_stream(stream),
                Effect::Reply { request, reply } => {
                    let Some(process) = &mut self.coordinator.process else { return Ok(()) };
                    let Some(call) = process.calls.remove(&request) else { continue };
                    let ask = self.people.calls[call.0].ask.clone();
                    self.say(|_| format!("\"{ask}\" is answered {}", crate::history::of_reply(&reply)));
                    self.checker.on_replied(&ask, &reply)?;
                    // Then the service looks again; here whoever asked does.
                    if reply != slalom_coordinator::scheduler::effect::Reply::Outdated {
                        self.answer(call);
                    }
                }
                Effect::RemoveCheckpoint { blob } => {
                    self.disk.blobs.remove(&blob);
                }
                Effect::Announce(_) => (),
            }
        }
        Ok(())
    }

    fn send_down(&mut self, stream: StreamId, message: CoordinatorMessage) -> Checked {
        let Some(process) = &self.coordinator.process else { return Ok(()) };
        let Some(&(connection, incarnation)) = process.connections.get(&stream) else { return Ok(()) };
        self.checker.on_sent_down(incarnation, &message)?;
        // The wire would refuse the planted lease, which is past its first wanted step: that hides nothing here.
        if self.planted != Some(Bug::ResumesPastMilestone) {
            let carried = CoordinatorMessage::from_wire(message.to_wire());
            hold(carried.as_ref() == Ok(&message), "protocol", || {
                format!("{message:?} comes off the wire as {carried:?}")
            })?;
        }
        let due = self.now + self.delay();
        if let Some(at) = self.network.put_down(connection, due, Carried::Message(message)) {
            self.at(at, Happening::Delivers { connection, way: Way::Down });
        }
        Ok(())
    }

    fn close_stream(&mut self, stream: StreamId) {
        let Some(process) = &mut self.coordinator.process else { return };
        let Some((connection, _)) = process.connections.get(&stream).copied() else { return };
        self.end_stream(connection);
    }

    /// The coordinator has this stream no more: the worker will hear of that.
    fn end_stream(&mut self, connection: ConnectionId) {
        let Some(process) = &mut self.coordinator.process else { return };
        let Some(ended) = process.sessions.remove(&connection) else { return };
        if let Some((stream, incarnation)) = ended.joined {
            process.connections.remove(&stream);
            process.inbox.push(Event::StreamClosed { stream, incarnation });
        }
        let due = self.now + self.delay();
        if let Some(at) = self.network.put_down(connection, due, Carried::End) {
            self.at(at, Happening::Delivers { connection, way: Way::Down });
        }
    }

    pub(crate) fn accept(&mut self, connection: ConnectionId) {
        if let Some(process) = &mut self.coordinator.process {
            process
                .sessions
                .insert(connection, Stream { session: Session::new(NUMERICS, KNOWN_RUN), joined: None });
        }
    }

    /// Something came up on a stream.
    pub(crate) fn hear(&mut self, connection: ConnectionId, carried: Carried<WorkerMessage>) -> Checked {
        let Some(process) = &mut self.coordinator.process else { return Ok(()) };
        let Some(heard_on) = process.sessions.get_mut(&connection) else { return Ok(()) };
        match carried {
            Carried::End => {
                heard_on.session.on_end();
                self.say(|_| format!("coordinator loses {connection}"));
                self.end_stream(connection);
            }
            Carried::Message(message) => {
                let message = if self.planted == Some(Bug::GreetsUnsound) {
                    planted::as_if_sound(message)
                } else {
                    message
                };
                let heard = heard_on.session.on_message(message.clone());
                let joined = heard_on.joined;
                match (heard, joined) {
                    (Ok(Heard::Greeting(hello)), _) => {
                        let (stream, incarnation) = (StreamId(process.fresh_id()), hello.incarnation);
                        process.connections.insert(stream, (connection, incarnation));
                        if let Some(heard_on) = process.sessions.get_mut(&connection) {
                            heard_on.joined = Some((stream, incarnation));
                        }
                        process.inbox.push(Event::WorkerJoined { stream, hello });
                    }
                    (Ok(Heard::Saying(saying)), Some((stream, incarnation))) => {
                        process.inbox.push(Event::Said { stream, incarnation, saying });
                    }
                    (Ok(Heard::Saying(_)), None) => {
                        let found = format!("{connection} said something before it greeted");
                        return Err(Violation { invariant: "protocol", found });
                    }
                    (Err(Refusal::OtherBits { .. }), _) => {
                        let worker = self.network.worker_of(connection);
                        self.end_stream(connection);
                        if let Some(worker) = worker {
                            self.refuse_worker(worker);
                        }
                    }
                    (Err(refusal), _) => {
                        let found =
                            format!("our own worker is refused on {connection}: {refusal}: {message:?}");
                        return Err(Violation { invariant: "protocol", found });
                    }
                }
            }
        }
        self.turn_coordinator()
    }

    /// A person's call arrives.
    pub(crate) fn on_call_arrives(&mut self, call: CallId) -> Checked {
        self.people.under_way -= 1;
        let ask = self.people.calls[call.0].ask.clone();
        let Some(process) = &mut self.coordinator.process else { return Ok(()) };
        let request = RequestId(process.fresh_id());
        process.calls.insert(request, call);
        process.inbox.push(match ask {
            Ask::Submit(sweep) => Event::Submit { request, sweep },
            Ask::Extend(given) => {
                // Made of what is here as the call comes, as the service makes it beside the driver.
                let ledger = process.scheduler.ledger();
                let formula = ledger.find_sweep(given.name()).map(|sweep| &ledger.sweep(sweep).sweep);
                let extended = formula.map_or(Ok(*given.clone()), |formula| formula.extended_by(&given));
                let Ok(sweep) = extended else {
                    // The name is another formula's, and the service says so.
                    process.calls.remove(&request);
                    self.answer(call);
                    return Ok(());
                };
                Event::Extend { request, sweep: Box::new(sweep) }
            }
            Ask::Cancel(sweep) => Event::Cancel { request, sweep },
            Ask::Retry(sweep) => Event::Retry { request, sweep },
            Ask::Steer(sweep, steering) => Event::Steer { request, sweep, steering },
            Ask::Drain(worker) => Event::Drain { request, worker },
            Ask::ResumeWorker(worker) => Event::ResumeWorker { request, worker },
        });
        self.turn_coordinator()
    }
}
