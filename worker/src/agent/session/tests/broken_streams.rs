//! Streams that break at any moment, grants and acknowledgements that come twice, coordinators that forget: every
//! report still arrives, in order and without a gap, and no lease is started twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// What may happen next; whatever makes no sense at the moment does nothing.
#[derive(Clone, Copy, Debug)]
enum Move {
    Connect,
    Disconnect,
    DeliverUp,
    DeliverDown,
    Grant,
    GrantAllAgain,
    Cancel(prop::sample::Index),
    AcknowledgeAgain,
    /// What was not recorded is lost, and what was acknowledged to whom is not known.
    RestartCoordinator,
    Train(prop::sample::Index),
    Finish(prop::sample::Index),
    HeartbeatDue,
}

fn moves() -> impl Strategy<Value = Move> {
    let any_of = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Move::Connect),
        1 => Just(Move::Disconnect),
        6 => Just(Move::DeliverUp),
        6 => Just(Move::DeliverDown),
        2 => Just(Move::Grant),
        1 => Just(Move::GrantAllAgain),
        1 => any_of().prop_map(Move::Cancel),
        1 => Just(Move::AcknowledgeAgain),
        1 => Just(Move::RestartCoordinator),
        4 => any_of().prop_map(Move::Train),
        2 => any_of().prop_map(Move::Finish),
        1 => Just(Move::HeartbeatDue),
    ]
}

/// The coordinator's side of an open stream: once it has sent its welcome, it may say more.
#[derive(PartialEq, Eq)]
enum Greeting {
    Awaited,
    Welcomed,
}

struct World {
    session: Session,
    now: Moment,
    stream: Option<Greeting>,
    up: VecDeque<WorkerMessage>,
    down: VecDeque<CoordinatorMessage>,
    /// By the coordinator, durably.
    granted: Vec<Lease>,
    recorded: Vec<(LeaseId, Report)>,
    /// Whether this life of the coordinator has recorded or heard anything, so that it can say up to where.
    remembers: bool,
    /// By the slots: the last step, and how each is told to stop.
    training: BTreeMap<LeaseId, (SlotId, u64)>,
    stopped: BTreeSet<SlotId>,
    started: Vec<LeaseId>,
    trained: BTreeMap<LeaseId, Vec<u64>>,
    left: bool,
}

impl World {
    fn new() -> Self {
        Self {
            session: Session::new(identity(2)),
            now: START,
            stream: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            granted: Vec::new(),
            recorded: Vec::new(),
            remembers: true,
            training: BTreeMap::new(),
            stopped: BTreeSet::new(),
            started: Vec::new(),
            trained: BTreeMap::new(),
            left: false,
        }
    }

    fn tell(&mut self, event: Event) {
        for effect in self.session.handle(self.now, event) {
            match effect {
                Effect::Send(message) => {
                    assert!(self.stream.is_some(), "{message:?} was sent into nothing");
                    self.up.push_back(message);
                }
                Effect::Start { slot, lease, .. } => {
                    assert!(self.training.values().all(|(busy, _)| *busy != slot), "slot {slot:?} is busy");
                    self.started.push(lease.id);
                    self.training.insert(lease.id, (slot, 0));
                }
                Effect::Stop { slot, .. } => {
                    self.stopped.insert(slot);
                }
                Effect::BreakOff(breach) => panic!("an honest coordinator was left: {breach}"),
                Effect::Leave => self.left = true,
            }
        }
    }

    fn disconnect(&mut self) {
        self.stream = None;
        self.up.clear();
        self.down.clear();
        self.tell(Event::Disconnected);
    }

    fn greeted(&self) -> bool {
        self.stream == Some(Greeting::Welcomed)
    }

    fn down(&mut self, message: CoordinatorMessage) {
        if self.stream.is_some() {
            self.down.push_back(message);
        }
    }

    fn last_recorded(&self) -> Option<MessageNumber> {
        let count = self.recorded.len() as u64;
        (count > 0).then(|| MessageNumber::new(count))
    }

    fn deliver_up(&mut self) {
        match self.up.pop_front() {
            Some(WorkerMessage::Hello(hello)) => {
                let acknowledged = self.last_recorded().filter(|_| self.remembers);
                self.stream = Some(Greeting::Welcomed);
                self.down(CoordinatorMessage::Welcome(Welcome { acknowledged, ..TERMS }));
                let unknown = |lease: &&Lease| hello.held.received_max.is_none_or(|max| lease.id > max);
                let missed: Vec<Lease> = self.granted.iter().filter(unknown).cloned().collect();
                self.down(CoordinatorMessage::Grants(missed));
            }
            Some(WorkerMessage::Numbered { number, lease, run, report }) => {
                let granted = self.granted.iter().find(|granted| granted.id == lease);
                assert_eq!(
                    granted.map(|granted| granted.run.key()),
                    Some(run),
                    "report {number} names its run"
                );
                let next = self.recorded.len() as u64 + 1;
                assert!(number.number() <= next, "report {number} came before {next}");
                if number.number() == next {
                    self.recorded.push((lease, report));
                } else {
                    let known = &self.recorded[number.number() as usize - 1];
                    assert_eq!(known, &(lease, report), "report {number} changed");
                }
                self.remembers = true;
                if let Some(number) = self.last_recorded() {
                    self.down(CoordinatorMessage::Acknowledged(number));
                }
            }
            Some(_) | None => {}
        }
    }

    fn deliver_down(&mut self) {
        if let Some(message) = self.down.pop_front() {
            self.tell(Event::Received(message));
        }
    }

    fn end(&mut self, lease: LeaseId, how: LeaseEnd) {
        if let Some((slot, _)) = self.training.remove(&lease) {
            self.stopped.remove(&slot);
            self.tell(Event::Slot { lease, news: SlotNews::Ended { milestones: Vec::new(), how } });
        }
    }

    fn pick(&self, index: prop::sample::Index) -> Option<LeaseId> {
        let training: Vec<LeaseId> = self.training.keys().copied().collect();
        (!training.is_empty()).then(|| *index.get(&training))
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Connect if self.stream.is_none() => {
                self.stream = Some(Greeting::Awaited);
                self.tell(Event::Connected);
            }
            Move::Disconnect => self.disconnect(),
            Move::DeliverUp => self.deliver_up(),
            Move::DeliverDown => self.deliver_down(),
            Move::Grant => {
                let lease = lease(self.granted.len() as u64 + 1);
                self.granted.push(lease.clone());
                if self.greeted() {
                    self.down(CoordinatorMessage::Grants(vec![lease]));
                }
            }
            Move::GrantAllAgain if self.greeted() => {
                self.down(CoordinatorMessage::Grants(self.granted.clone()));
            }
            Move::Cancel(index) if self.greeted() && !self.granted.is_empty() => {
                let lease = index.get(&self.granted).id;
                self.down(CoordinatorMessage::Cancelled(vec![lease]));
            }
            Move::AcknowledgeAgain if self.greeted() => {
                for number in [Some(MessageNumber::new(1)), self.last_recorded()].into_iter().flatten() {
                    if !self.recorded.is_empty() {
                        self.down(CoordinatorMessage::Acknowledged(number));
                    }
                }
            }
            Move::Connect | Move::GrantAllAgain | Move::Cancel(_) | Move::AcknowledgeAgain => {}
            Move::RestartCoordinator => {
                self.disconnect();
                self.remembers = false;
            }
            Move::Train(index) => {
                if let Some(lease) = self.pick(index) {
                    let (_, step) = self.training.get_mut(&lease).expect("it was picked from there");
                    *step += 1;
                    let step = *step;
                    self.trained.entry(lease).or_default().push(step);
                    self.tell(reached(lease.number(), step));
                }
            }
            Move::Finish(index) => {
                if let Some(lease) = self.pick(index) {
                    self.end(lease, LeaseEnd::Finished);
                }
            }
            Move::HeartbeatDue => {
                self.now = self.session.due().filter(|_| self.session.is_live()).unwrap_or(self.now);
                self.tell(Event::TimePassed);
            }
        }
    }

    /// No more trouble: over a stream that holds the worker takes what is there for it, and drains.
    fn settle(&mut self) {
        self.disconnect();
        self.make(Move::Connect);
        self.deliver_all();
        self.tell(Event::DrainRequested);
        self.deliver_all();
        while !self.training.is_empty() {
            for lease in self.training.keys().copied().collect::<Vec<_>>() {
                let (slot, _) = self.training[&lease];
                assert!(self.stopped.contains(&slot), "a drain leaves slot {slot:?} training");
                self.end(lease, LeaseEnd::HandedBack);
            }
            self.deliver_all();
        }
    }

    fn deliver_all(&mut self) {
        while !(self.up.is_empty() && self.down.is_empty()) {
            self.deliver_up();
            self.deliver_down();
        }
    }
}

proptest! {
    #[test]
    fn every_report_arrives_in_order_and_no_lease_starts_twice(
        moves in proptest::collection::vec(moves(), 0..200),
    ) {
        let mut world = World::new();
        for next in moves {
            world.make(next);
        }
        world.settle();

        prop_assert!(world.left, "it drained, and all was acknowledged: {:?}", world.session);
        prop_assert!(world.started.is_sorted_by(|a, b| a < b), "once each, by number: {:?}", world.started);
        for lease in &world.granted {
            let reports: Vec<&Report> =
                world.recorded.iter().filter(|(of, _)| *of == lease.id).map(|(_, report)| report).collect();
            let steps: Vec<u64> = reports
                .iter()
                .filter_map(|report| match report {
                    Report::Milestone(milestone) => Some(milestone.step.number()),
                    Report::LeaseEnded { .. } => None,
                })
                .collect();
            let trained = world.trained.get(&lease.id).cloned().unwrap_or_default();
            prop_assert_eq!(steps, trained);
            let ends = reports.iter().filter(|report| matches!(report, Report::LeaseEnded { .. })).count();
            prop_assert_eq!(ends, 1, "lease {} ends once", lease.id);
            prop_assert!(matches!(reports.last(), Some(Report::LeaseEnded { .. })), "and with its end");
        }
    }
}
