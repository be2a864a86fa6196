//! The network between workers and the coordinator. A stream is two lanes: each keeps its order while the stream lives, each end
//! learns by itself and late that the other is gone, and what was under way may still come after a newer stream has begun.

use std::collections::{BTreeMap, VecDeque};

use slalom_common::message::{CoordinatorMessage, WorkerMessage};
use slalom_common::moment::Moment;

use crate::dice::Dice;
use crate::worker::WorkerIndex;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ConnectionId(pub(crate) u64);

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    Up,
    Down,
}

/// What comes out of a lane.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Carried<T> {
    Message(T),
    /// The last: this end learns that the stream is over.
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Lane<T> {
    queue: VecDeque<(Moment, Carried<T>)>,
    /// When the last thing put in comes out: nothing overtakes it.
    last: Moment,
    ended: bool,
}

impl<T> Lane<T> {
    const fn new() -> Self {
        Self { queue: VecDeque::new(), last: Moment::new(std::time::Duration::ZERO), ended: false }
    }

    /// When `carried` comes out, if it went in at all and would come out at `due` were nothing before it.
    fn put(&mut self, due: Moment, carried: Carried<T>) -> Option<Moment> {
        if self.ended {
            return None;
        }
        self.ended = matches!(carried, Carried::End);
        self.last = self.last.max(due);
        self.queue.push_back((self.last, carried));
        Some(self.last)
    }

    fn take(&mut self, now: Moment) -> Option<Carried<T>> {
        let (due, _) = self.queue.front()?;
        if *due > now {
            return None;
        }
        self.queue.pop_front().map(|(_, carried)| carried)
    }

    /// Loses the end of what is under way.
    fn cut(&mut self, dice: &mut Dice) {
        if !self.ended {
            self.queue.truncate(dice.below(self.queue.len() as u64 + 1) as usize);
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) worker: WorkerIndex,
    pub(crate) up: Lane<WorkerMessage>,
    pub(crate) down: Lane<CoordinatorMessage>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    connections: BTreeMap<ConnectionId, Connection>,
    /// Until when nothing passes between a worker and the coordinator in this direction.
    blocked: BTreeMap<(WorkerIndex, Way), Moment>,
    opened: u64,
}

impl Network {
    pub(crate) fn open(&mut self, worker: WorkerIndex) -> ConnectionId {
        self.opened += 1;
        let id = ConnectionId(self.opened);
        self.connections.insert(id, Connection { worker, up: Lane::new(), down: Lane::new() });
        id
    }

    pub(crate) fn worker_of(&self, connection: ConnectionId) -> Option<WorkerIndex> {
        self.connections.get(&connection).map(|one| one.worker)
    }

    /// Every stream that either end still has.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    pub(crate) fn block(&mut self, worker: WorkerIndex, way: Way, until: Moment) {
        let blocked = self.blocked.entry((worker, way)).or_default();
        *blocked = (*blocked).max(until);
    }

    /// Until when nothing passes, if that is so.
    pub(crate) fn blocked(&self, worker: WorkerIndex, way: Way, now: Moment) -> Option<Moment> {
        self.blocked.get(&(worker, way)).copied().filter(|&until| until > now)
    }

    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
    }

    pub(crate) fn put_up(
        &mut self,
        connection: ConnectionId,
        due: Moment,
        carried: Carried<WorkerMessage>,
    ) -> Option<Moment> {
        self.connections.get_mut(&connection)?.up.put(due, carried)
    }

    pub(crate) fn put_down(
        &mut self,
        connection: ConnectionId,
        due: Moment,
        carried: Carried<CoordinatorMessage>,
    ) -> Option<Moment> {
        self.connections.get_mut(&connection)?.down.put(due, carried)
    }

    pub(crate) fn take_up(
        &mut self,
        connection: ConnectionId,
        now: Moment,
    ) -> Option<Carried<WorkerMessage>> {
        self.connections.get_mut(&connection)?.up.take(now)
    }

    pub(crate) fn take_down(
        &mut self,
        connection: ConnectionId,
        now: Moment,
    ) -> Option<Carried<CoordinatorMessage>> {
        self.connections.get_mut(&connection)?.down.take(now)
    }

    /// Loses some of what is under way, in both directions.
    pub(crate) fn cut(&mut self, connection: ConnectionId, dice: &mut Dice) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.up.cut(dice);
            connection.down.cut(dice);
        }
    }

    /// Neither end has the stream any more.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }
}
