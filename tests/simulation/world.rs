//! Everything that there is in one seed: hosts, network, disk, people, and the order in which things happen to them.
//!
//! Time is virtual and chance is the seed's, so a seed is a history: it goes the same way each time. First things go wrong for a
//! while (the storm), then nothing does, and every sweep must come to its end; then the workers drain, and must all leave.

use std::collections::BTreeMap;
use std::time::Duration;

use slalom_common::id::LeaseId;
use slalom_common::message::CoordinatorMessage;
use slalom_common::moment::Moment;
use slalom_coordinator::scheduler::event::Steering;
use slalom_coordinator::store::memory::MemoryStore;
use slalom_worker::agent::session::{SlotId, SlotNews};

use crate::checker::{Checked, Checker, Violation};
use crate::coordinator::{self, Coordinator, LEASE};
use crate::dice::Dice;
use crate::disk::{Disk, Health};
use crate::faults::{Fault, Weather};
use crate::history::History;
use crate::network::{Carried, ConnectionId, Network, Way};
use crate::people::{Ask, Call, CallId, People};
use crate::planted::Bug;
use crate::slot::Upload;
use crate::tally::Tally;
use crate::worker::{Host, ProcessId, WorkerIndex};

/// Own failures that fail a run.
const MAX_ATTEMPTS: u32 = 3;

/// A stream that nothing passes through is given up by both ends within this.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// After the storm every dead stream is noticed within this, and every worker has had time to come back.
const SETTLED_WITHIN: Duration = Duration::from_secs(40);

/// Once nothing goes wrong any more, a sweep of a few runs of a few steps is over within this, whatever the storm left behind.
const OVER_WITHIN: Duration = Duration::from_secs(1_200);

/// How often people look at sweeps that they have paused.
const LOOKS_EVERY: Duration = Duration::from_secs(5);

/// Events of one seed, at most: more is a storm that feeds itself.
const EVENTS_MAX: u64 = 300_000;

/// One thing that is to happen.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Delivers { connection: ConnectionId, way: Way },
    CoordinatorStarts,
    CoordinatorWakes { life: u64 },
    CommitEnds { life: u64 },
    WorkerStarts { worker: WorkerIndex },
    WorkerConnects { worker: WorkerIndex, process: ProcessId },
    WorkerWakes { worker: WorkerIndex, process: ProcessId },
    DrainCutShort { worker: WorkerIndex, process: ProcessId },
    Fetches { worker: WorkerIndex, process: ProcessId, slot: SlotId, lease: LeaseId, give_up: Moment },
    Steps { worker: WorkerIndex, process: ProcessId, slot: SlotId, lease: LeaseId },
    Uploaded { worker: WorkerIndex, process: ProcessId, slot: SlotId, upload: Upload },
    SlotSays { worker: WorkerIndex, process: ProcessId, lease: LeaseId, news: SlotNews },
    SomebodyAsks,
    SomebodyLooks,
    CallArrives { call: CallId },
    CallAnswered { call: CallId },
    CallIsMadeAgain { call: CallId },
    Breaks { connection: ConnectionId },
    DiskRecovers,
    Strikes,
    StormEnds,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Storm,
    Calm,
    Draining { since: Moment },
    Over,
}

/// See the module's head.
pub(crate) struct World {
    pub(crate) now: Moment,
    queue: BTreeMap<(Moment, u64), Happening>,
    scheduled: u64,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    phase: Phase,
    calm_since: Option<Moment>,
    pub(crate) coordinator: Coordinator,
    /// The process has been told that its disk failed, and is about to end.
    pub(crate) fail_coordinator: bool,
    pub(crate) disk: Disk,
    /// The last backup, and what was durable then.
    backup: Option<(MemoryStore, Checker)>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) processes: u64,
    pub(crate) network: Network,
    pub(crate) people: People,
    pub(crate) checker: Checker,
    pub(crate) planted: Option<Bug>,
    history: History,
    events: u64,
}

/// What one seed came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) events: u64,
    pub(crate) lives: u64,
    pub(crate) processes: u64,
    pub(crate) tally: Tally,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.lives += other.lives;
        self.processes += other.processes;
        self.tally.add(&other.tally);
    }
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Bug>, history: History) -> Self {
        let mut dice = Dice::new(seed);
        let weather = Weather::of(&mut dice);
        let people = People::new(&mut dice, weather.length, MAX_ATTEMPTS);
        let hosts = (0..dice.within(1..=4)).map(|_| Host {
            slots: dice.within(1..=3) as u32,
            process: None,
            frozen_until: Moment::default(),
        });
        let hosts = hosts.collect();
        Self {
            now: Moment::default(),
            queue: BTreeMap::new(),
            scheduled: 0,
            dice,
            weather,
            phase: Phase::Storm,
            calm_since: None,
            coordinator: Coordinator::default(),
            fail_coordinator: false,
            disk: Disk::new(),
            backup: None,
            hosts,
            processes: 0,
            network: Network::default(),
            people,
            checker: Checker::new(LEASE, MAX_ATTEMPTS),
            planted,
            history,
            events: 0,
        }
    }

    /// Lets everything happen.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub(crate) fn run(mut self) -> Result<Seen, Violation> {
        self.say(|world| format!("{:?}, {} workers", world.weather, world.hosts.len()));
        self.later(Duration::ZERO, Happening::CoordinatorStarts);
        for worker in self.workers() {
            let after = self.dice.millis(0..=3_000);
            self.later(after, Happening::WorkerStarts { worker });
        }
        for sweep in self.people.sweeps.clone() {
            let after = self.dice.millis(0..=5_000);
            self.ask_after(after, Ask::Submit(Box::new(sweep)));
        }
        self.later(Duration::from_secs(1), Happening::SomebodyAsks);
        self.later(Duration::from_millis(500), Happening::Strikes);
        self.later(self.weather.storm, Happening::StormEnds);
        while self.phase != Phase::Over {
            let Some(((at, _), happening)) = self.queue.pop_first() else {
                return Err(Violation { invariant: "L1", found: "nothing is to happen any more".to_owned() });
            };
            self.now = at;
            self.events += 1;
            if self.events > EVENTS_MAX {
                let found = format!("{EVENTS_MAX} events and no end: {}", self.checker.standing());
                return Err(Violation { invariant: "L1", found });
            }
            if let Some(until) = self.frozen(&happening) {
                self.at(until, happening);
                continue;
            }
            self.happen(happening)?;
            if let (Phase::Storm, Some(events)) = (self.phase, self.weather.strike_after_events)
                && self.dice.below(events) == 0
            {
                self.strike_any()?;
            }
            self.move_on()?;
        }
        self.look_back()?;
        Ok(Seen {
            events: self.events,
            lives: self.coordinator.life,
            processes: self.processes,
            tally: self.checker.tally,
        })
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Delivers { connection, way: Way::Up } => {
                match self.network.take_up(connection, self.now) {
                    Some(carried) => self.hear(connection, carried)?,
                    None => return Ok(()),
                }
                self.forget_if_unused(connection);
                Ok(())
            }
            Happening::Delivers { connection, way: Way::Down } => {
                let worker = self.network.worker_of(connection);
                let (Some(worker), Some(carried)) = (worker, self.network.take_down(connection, self.now))
                else {
                    return Ok(());
                };
                self.worker_hears(worker, connection, carried)?;
                self.forget_if_unused(connection);
                Ok(())
            }
            Happening::CoordinatorStarts => self.start_coordinator(),
            Happening::CoordinatorWakes { life } => self.on_coordinator_wakes(life),
            Happening::CommitEnds { life } => self.on_commit_ends(life),
            Happening::WorkerStarts { worker } => {
                if !matches!(self.phase, Phase::Draining { .. }) {
                    self.start_worker(worker);
                }
                Ok(())
            }
            Happening::WorkerConnects { worker, process } => self.on_worker_connects(worker, process),
            Happening::WorkerWakes { worker, process } => self.on_worker_wakes(worker, process),
            Happening::DrainCutShort { worker, process } => self.on_drain_cut_short(worker, process),
            Happening::Fetches { worker, process, slot, lease, give_up } => {
                self.on_fetches((worker, process), (slot, lease), give_up)
            }
            Happening::Steps { worker, process, slot, lease } => {
                self.on_steps((worker, process), (slot, lease));
                Ok(())
            }
            Happening::Uploaded { worker, process, slot, upload } => {
                self.on_uploaded((worker, process), slot, upload);
                Ok(())
            }
            Happening::SlotSays { worker, process, lease, news } => {
                self.on_slot_says((worker, process), lease, news)
            }
            Happening::SomebodyAsks => {
                if self.phase == Phase::Storm {
                    let ask = self.people.ask(&mut self.dice, self.hosts.len() as u64);
                    self.ask_after(Duration::ZERO, ask);
                    let after = self.dice.millis(500..=15_000);
                    self.later(after, Happening::SomebodyAsks);
                }
                Ok(())
            }
            Happening::SomebodyLooks => {
                self.resume_what_is_held_up();
                Ok(())
            }
            Happening::CallArrives { call } => self.on_call_arrives(call),
            Happening::CallAnswered { call } => {
                self.people.calls[call.0].answered = true;
                Ok(())
            }
            Happening::CallIsMadeAgain { call } => {
                if !self.people.calls[call.0].answered {
                    self.make_call(call);
                }
                Ok(())
            }
            Happening::Breaks { connection } => {
                self.break_connection(connection);
                Ok(())
            }
            Happening::DiskRecovers => {
                self.disk.health = Health::Sound;
                Ok(())
            }
            Happening::Strikes => {
                if self.phase == Phase::Storm {
                    self.strike_any()?;
                    let after = self.dice.millis(0..=self.weather.strike_within_ms);
                    self.later(after, Happening::Strikes);
                }
                Ok(())
            }
            Happening::StormEnds => {
                self.end_storm();
                Ok(())
            }
        }
    }

    /// Until when this cannot happen, because it happens to a process that is stopped, or nothing passes there.
    fn frozen(&self, happening: &Happening) -> Option<Moment> {
        let coordinator = self.coordinator.frozen_until;
        let host = |worker: WorkerIndex| self.hosts[worker.0].frozen_until;
        let until = match *happening {
            Happening::Delivers { connection, way } => {
                let worker = self.network.worker_of(connection)?;
                let end = match way {
                    Way::Up => coordinator,
                    Way::Down => host(worker),
                };
                end.max(self.network.blocked(worker, way, self.now).unwrap_or_default())
            }
            Happening::CoordinatorWakes { .. }
            | Happening::CommitEnds { .. }
            | Happening::CallArrives { .. } => coordinator,
            Happening::WorkerConnects { worker, .. }
            | Happening::WorkerWakes { worker, .. }
            | Happening::DrainCutShort { worker, .. }
            | Happening::Fetches { worker, .. }
            | Happening::Steps { worker, .. }
            | Happening::Uploaded { worker, .. }
            | Happening::SlotSays { worker, .. } => host(worker),
            Happening::CoordinatorStarts
            | Happening::WorkerStarts { .. }
            | Happening::SomebodyAsks
            | Happening::SomebodyLooks
            | Happening::CallAnswered { .. }
            | Happening::CallIsMadeAgain { .. }
            | Happening::Breaks { .. }
            | Happening::DiskRecovers
            | Happening::Strikes
            | Happening::StormEnds => return None,
        };
        (until > self.now).then_some(until)
    }

    fn strike_any(&mut self) -> Checked {
        match self.dice.pick(&self.weather.faults).copied() {
            Some(fault) => self.strike(fault),
            None => Ok(()),
        }
    }

    fn strike(&mut self, fault: Fault) -> Checked {
        let worker = WorkerIndex(self.dice.below(self.hosts.len() as u64) as usize);
        let until = self.now + self.dice.millis(100..=15_000);
        self.say(|_| format!("!! {fault:?} (hill-{}, {:?})", worker.0, until));
        match fault {
            Fault::BreakStream => {
                if let Some(&connection) = self.dice.pick(&self.network.ids()) {
                    self.break_connection(connection);
                }
            }
            Fault::BlockUp => self.block(worker, &[Way::Up], until),
            Fault::BlockDown => self.block(worker, &[Way::Down], until),
            Fault::BlockBoth => self.block(worker, &[Way::Up, Way::Down], until),
            Fault::KillWorker => self.kill_worker(worker),
            Fault::FreezeWorker => self.hosts[worker.0].frozen_until = until,
            Fault::DrainWorker => self.on_drain_requested(worker)?,
            Fault::KillCoordinator => self.kill_coordinator()?,
            Fault::FreezeCoordinator => self.coordinator.frozen_until = until,
            Fault::FillDisk => {
                self.disk.health = Health::Full;
                self.at(until, Happening::DiskRecovers);
            }
            Fault::FailDisk => self.disk.health = Health::Failing,
            Fault::TakeBackup => self.backup = Some((self.disk.backup(), self.checker.clone())),
            Fault::BringBackupBack => {
                if let Some((records, checker)) = self.backup.clone() {
                    self.kill_coordinator()?;
                    self.disk.bring_back(records);
                    self.checker.on_brought_back(checker);
                }
            }
            Fault::TearCheckpoint => self.tear_checkpoint(),
            Fault::LoseCheckpoint => {
                let names: Vec<_> = self.disk.blobs.keys().copied().collect();
                if let Some(name) = self.dice.pick(&names) {
                    self.disk.blobs.remove(name);
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, worker: WorkerIndex, ways: &[Way], until: Moment) {
        for &way in ways {
            self.network.block(worker, way, until);
        }
        for connection in self.network.ids() {
            if self.network.worker_of(connection) == Some(worker) {
                let given_up = self.now + self.dice.millis(0..=KEEP_ALIVE.as_millis() as u64);
                if given_up < until {
                    self.at(given_up, Happening::Breaks { connection });
                }
            }
        }
    }

    fn tear_checkpoint(&mut self) {
        let names: Vec<_> = self.disk.blobs.keys().copied().collect();
        let Some(name) = self.dice.pick(&names).copied() else { return };
        let Some(bytes) = self.disk.blobs.get_mut(&name) else { return };
        let place = self.dice.below(bytes.len() as u64) as usize;
        let bit = 1 << self.dice.below(8);
        match bytes.get_mut(place) {
            Some(byte) if self.dice.chance(50) => *byte ^= bit,
            Some(_) | None => bytes.truncate(place),
        }
    }

    /// Some of what is under way is lost, and each end learns of that by itself.
    pub(crate) fn break_connection(&mut self, connection: ConnectionId) {
        let Some(worker) = self.network.worker_of(connection) else { return };
        self.say(|_| format!("{connection} of hill-{} breaks", worker.0));
        self.network.cut(connection, &mut self.dice);
        let mut learns = || {
            let at_once = self.dice.chance(50);
            let within = if at_once { 50 } else { KEEP_ALIVE.as_millis() as u64 };
            self.now + self.dice.millis(0..=within)
        };
        let (up, down) = (learns(), learns());
        if let Some(at) = self.network.put_up(connection, up, Carried::End) {
            self.at(at, Happening::Delivers { connection, way: Way::Up });
        }
        if let Some(at) = self.network.put_down(connection, down, Carried::<CoordinatorMessage>::End) {
            self.at(at, Happening::Delivers { connection, way: Way::Down });
        }
    }

    fn forget_if_unused(&mut self, connection: ConnectionId) {
        let coordinator = self.coordinator.process.as_ref().is_some_and(|one| one.listens(connection));
        let mut processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
        if !coordinator && !processes.any(|process| process.listens(connection)) {
            self.network.forget(connection);
        }
    }
}

/// What people do.
impl World {
    fn ask_after(&mut self, after: Duration, ask: Ask) {
        let call = CallId(self.people.calls.len());
        self.checker.on_asked(ask.clone());
        self.people.calls.push(Call { ask, answered: false });
        self.later(after, Happening::CallIsMadeAgain { call });
    }

    /// After the storm, whoever sees a sweep or a worker that was left paused resumes it; and looks again, for a retry may bring one back.
    fn resume_what_is_held_up(&mut self) {
        if self.phase != Phase::Calm {
            return;
        }
        let sweeps = self.checker.held_up().into_iter().map(|sweep| Ask::Steer(sweep, Steering::Resume));
        let workers = self.checker.paused_workers().into_iter().map(Ask::ResumeWorker);
        for resume in sweeps.chain(workers).collect::<Vec<_>>() {
            if !self.people.calls.iter().any(|call| !call.answered && call.ask == resume) {
                self.ask_after(Duration::ZERO, resume);
            }
        }
        self.later(LOOKS_EVERY, Happening::SomebodyLooks);
    }

    fn make_call(&mut self, call: CallId) {
        self.say(|world| format!("\"{}\" is asked", world.people.calls[call.0].ask));
        for _ in 0..self.copies() {
            let after = self.delay();
            self.people.under_way += 1;
            self.later(after, Happening::CallArrives { call });
        }
        let after = self.dice.millis(1_000..=5_000);
        self.later(after, Happening::CallIsMadeAgain { call });
    }

    pub(crate) fn answer(&mut self, call: CallId) {
        for _ in 0..self.copies() {
            let after = self.delay();
            self.later(after, Happening::CallAnswered { call });
        }
    }

    /// How often something outside a stream arrives.
    fn copies(&mut self) -> u64 {
        let loss = if self.is_calm() { 0 } else { self.weather.call_loss_percent };
        match self.dice.below(100) {
            draw if draw < loss => 0,
            draw if draw < 2 * loss => 2,
            _ => 1,
        }
    }
}

/// The storm, the calm, and what is left.
impl World {
    pub(crate) fn is_calm(&self) -> bool {
        self.phase != Phase::Storm
    }

    /// Whether nothing has gone wrong since then, and what went wrong before has been noticed by everybody.
    pub(crate) fn is_settled_since(&self, then: Moment) -> bool {
        self.calm_since.is_some_and(|calm| calm + SETTLED_WITHIN <= then)
    }

    fn end_storm(&mut self) {
        self.say(|world| format!("-- nothing goes wrong any more: {}", world.checker.standing()));
        self.phase = Phase::Calm;
        self.calm_since = Some(self.now);
        self.network.heal();
        self.disk.health = Health::Sound;
        self.coordinator.frozen_until = Moment::default();
        for host in &mut self.hosts {
            host.frozen_until = Moment::default();
        }
        self.later(LOOKS_EVERY, Happening::SomebodyLooks);
        for sweep in self.people.sweeps.clone() {
            if !self.checker.has(sweep.name()) || self.dice.chance(70) {
                let after = self.dice.millis(0..=3_000);
                self.ask_after(after, Ask::Submit(Box::new(sweep.clone())));
            }
            if self.dice.chance(50) {
                let after = self.dice.millis(0..=10_000);
                self.ask_after(after, Ask::Retry(sweep.name().clone()));
            }
        }
    }

    /// Looks whether this phase is over, or takes too long.
    fn move_on(&mut self) -> Checked {
        match self.phase {
            Phase::Storm | Phase::Over => Ok(()),
            Phase::Calm => {
                if self.calm_since.is_some_and(|since| self.now.since(since) > OVER_WITHIN) {
                    let found = format!("{OVER_WITHIN:?} after the storm: {}", self.checker.standing());
                    return Err(Violation { invariant: "L1", found });
                }
                let answered = self.people.calls.iter().all(|call| call.answered);
                if answered
                    && self.people.under_way == 0
                    && self.is_settled_since(self.now)
                    && self.all_serve()
                    && self.all_is_over()
                {
                    self.say(|world| format!("-- all is over: {}", world.checker.standing()));
                    self.phase = Phase::Draining { since: self.now };
                    for worker in self.workers() {
                        self.on_drain_requested(worker)?;
                    }
                }
                Ok(())
            }
            Phase::Draining { since } => {
                if self.now.since(since) > OVER_WITHIN {
                    let found =
                        "all workers were asked to drain, and one is still here, or still known".to_owned();
                    return Err(Violation { invariant: "L1", found });
                }
                // A coordinator that still knows somebody would know everybody for ever (I13).
                let knows_nobody =
                    self.coordinator.process.as_ref().is_some_and(|one| one.scheduler.fleet().is_empty());
                if knows_nobody && self.hosts.iter().all(|host| host.process.is_none()) {
                    self.phase = Phase::Over;
                }
                Ok(())
            }
        }
    }

    /// Whether every sweep is here and over, and nothing is left that could change that.
    fn all_is_over(&self) -> bool {
        let mut sweeps = self.people.sweeps.iter();
        sweeps.all(|sweep| self.checker.has(sweep.name())) && self.checker.is_over()
    }

    fn all_serve(&self) -> bool {
        self.coordinator.process.as_ref().is_some_and(coordinator::Process::is_idle)
            && self.hosts.iter().all(|host| {
                // Whom a person has drained is still to leave.
                host.process.as_ref().is_some_and(|one| !self.checker.has_drained(one.incarnation))
            })
    }

    /// What is left when all is over.
    fn look_back(&mut self) -> Checked {
        let Some(process) = &self.coordinator.process else { return Ok(()) };
        self.checker.on_tables(&process.scheduler)?;
        let in_force = self.checker.leases_in_force();
        if in_force.is_empty() {
            return Ok(());
        }
        Err(Violation {
            invariant: "I6",
            found: format!("leases {in_force:?} are in force, and nobody is there"),
        })
    }
}

/// Time, and what is written down.
impl World {
    pub(crate) fn at(&mut self, at: Moment, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), happening);
    }

    pub(crate) fn later(&mut self, after: Duration, happening: Happening) {
        self.at(self.now + after, happening);
    }

    /// How long a message is under way.
    pub(crate) fn delay(&mut self) -> Duration {
        let usual = self.dice.millis(0..=self.weather.delay_ms);
        if self.is_calm() || !self.dice.chance(self.weather.slow_percent) {
            return usual;
        }
        usual + self.dice.millis(0..=10_000)
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = WorkerIndex> + use<> {
        (0..self.hosts.len()).map(WorkerIndex)
    }

    pub(crate) fn say(&self, line: impl FnOnce(&Self) -> String) {
        self.history.say(self.now, || line(self));
    }
}
