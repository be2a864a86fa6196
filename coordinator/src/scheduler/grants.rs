//! Who gets which run: the record first, the message to its worker after the commit.

use slalom_common::answer::RunState;
use slalom_common::cost::Work;
use slalom_common::grid::Coordinates;
use slalom_common::id::{Incarnation, LeaseId, RunNumber, Step};
use slalom_common::message::{CoordinatorMessage, Lease, LeaseKind};
use slalom_common::moment::Moment;
use slalom_common::run::Run;
use slalom_common::wire::WANTED_STEPS_MAX;

use super::Scheduler;
use super::effect::{Effect, Effects, Notice};
use super::event::StreamId;
use super::fleet::{Held, Worker};
use super::horizon::{AHEAD_MOST, Horizon};
use super::ledger::sweep::SweepEntry;
use super::ledger::{LeaseEntry, Ledger, SweepIndex};
use super::order::Order;
use super::record::{Grant, Record};

/// A worker that gets nothing until it holds nothing, and then a run that is leased alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clearing {
    worker: Incarnation,
    sweep: SweepIndex,
    number: RunNumber,
}

/// Leases in one message, at most, however few steps they want.
pub(super) const GRANT_LEASES_MAX: usize = 1_000;

/// Wanted steps in one message, at most, all leases together: a message far smaller than what a worker decodes.
pub(super) const GRANT_STEPS_MAX: usize = 100_000;

impl Scheduler {
    /// Leases waiting runs to workers with idle slots, the fastest first, and a little ahead of them; near the end of all that is
    /// to do, to each only what it ends before the others have done the rest.
    pub(super) fn grant(&mut self, now: Moment, effects: &mut Effects) {
        if !self.has_waiting() {
            self.grant_copies(now, effects);
            return;
        }
        let mut takers: Vec<(Incarnation, f64)> = self
            .fleet
            .iter()
            .filter(|(_, worker)| {
                self.may_take(worker) && (worker.idle_slots() > 0 || worker.wants_ahead(AHEAD_MOST))
            })
            .map(|(&incarnation, worker)| (incarnation, worker.speed()))
            .collect();
        takers.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        if takers.is_empty() {
            return;
        }
        let horizon = self.horizon(now);
        // Every idle slot first: what one worker holds ahead must not leave another idle.
        let mut is_shunned = false;
        for &(incarnation, _) in &takers {
            is_shunned |=
                self.grant_while((now, horizon), incarnation, |worker| worker.idle_slots() > 0, effects);
        }
        // Whoever would end it first is not to have it, so whoever else is there is not to be spared it.
        for &(incarnation, _) in takers.iter().filter(|_| is_shunned) {
            let any = (now, Horizon::FAR);
            self.grant_while(any, incarnation, |worker| worker.idle_slots() > 0, effects);
        }
        for &(incarnation, _) in &takers {
            self.grant_while(
                (now, horizon),
                incarnation,
                |worker| worker.wants_ahead(horizon.ahead()),
                effects,
            );
        }
    }

    /// Whether some run waits that may be leased.
    pub(super) fn has_waiting(&self) -> bool {
        let mut sweeps = self.ledger.sweeps();
        sweeps.any(|(_, one)| self.settings.serve.serves(one) && one.counts.of(RunState::Waiting) > 0)
    }

    /// Whether it passed over a run because that failed on this very worker.
    fn grant_while(
        &mut self,
        (now, horizon): (Moment, Horizon),
        incarnation: Incarnation,
        takes: impl Fn(&Worker) -> bool,
        effects: &mut Effects,
    ) -> bool {
        let first = self.ledger.next_lease();
        let mut granted: Vec<(LeaseId, SweepIndex, Run)> = Vec::new();
        let mut passed_over = Vec::new();
        let mut next = first;
        let mut cleared = self.cleared_for(incarnation);
        if cleared.is_some() && !self.fleet[&incarnation].leases.is_empty() {
            return false;
        }
        let mut is_shunned = false;
        while takes(&self.fleet[&incarnation]) && !self.holds_alone(incarnation) {
            let longest = horizon.longest_for(&self.fleet[&incarnation], now);
            let in_turn = |order: &mut Order| order.take(&self.ledger, &self.settings.serve, longest);
            let Some((sweep, number, at)) = cleared.take().or_else(|| in_turn(&mut self.order)) else {
                break;
            };
            let run = self.ledger.sweep(sweep).sweep.run(at);
            if self.failed_here(incarnation, &run) {
                is_shunned = true;
                passed_over.push((sweep, number));
                continue;
            }
            if self.is_alone(&run) && !self.fleet[&incarnation].leases.is_empty() {
                passed_over.push((sweep, number));
                if self.clears(incarnation, sweep, number) {
                    break;
                }
                continue;
            }
            // Two sweeps that want one run may both offer it before the record below takes it from both.
            if granted.iter().any(|(_, _, earlier)| *earlier == run) {
                continue;
            }
            let held = remaining(now, &self.ledger, &run, |entry| self.settings.serve.serves(entry));
            let worker = self.fleet.get_mut(&incarnation).expect("a taker is in the fleet");
            worker.leases.insert(next, held);
            granted.push((next, sweep, run));
            next = LeaseId::new(next.number() + 1);
            self.started.entry(sweep).or_insert((now, self.ledger.sweep(sweep).work_over));
            if self.is_alone(&run) {
                // Whatever it was cleared for: it is not empty any more.
                self.clearing = self.clearing.filter(|clearing| clearing.worker != incarnation);
                break;
            }
        }
        for (sweep, number) in passed_over {
            self.order.put_back(sweep, number, &self.ledger);
        }
        self.lease_out(incarnation, LeaseKind::Primary, &granted, effects);
        is_shunned
    }

    /// Records that these leases are granted to `incarnation`, each in the turn of its sweep, and sends them after the commit.
    pub(super) fn lease_out(
        &mut self,
        incarnation: Incarnation,
        kind: LeaseKind,
        granted: &[(LeaseId, SweepIndex, Run)],
        effects: &mut Effects,
    ) {
        let Some(&(first, _, _)) = granted.first() else { return };
        let worker = &self.fleet[&incarnation];
        let (name, stream) = (worker.name.clone(), worker.stream);
        let grants = granted.iter().map(|&(_, _, run)| Grant { kind, run }).collect();
        self.record(Record::RunsLeased { incarnation, worker: name.clone(), first, grants }, effects);
        let mut leases = Vec::with_capacity(granted.len());
        for &(lease, sweep, _) in granted {
            let message = self.lease_message(lease);
            let id = self.ledger.lease(lease).expect("it was just granted").run;
            let known = self.ledger.run(id);
            let mut views = known.views();
            let number = views.find(|(of, _, _)| *of == sweep).expect("the sweep's own run").1;
            effects.announce(Notice::RunLeased {
                run: self.named(sweep, number, id),
                worker: name.clone(),
                lease,
                kind,
                attempt: known.failures + 1,
                resume: message.resume.map(|checkpoint| checkpoint.step),
            });
            leases.push(message);
        }
        if let Some(stream) = stream {
            send_grants(stream, leases, effects);
        }
    }

    /// Whether it is there, takes leases, and is to be given any.
    pub(super) fn may_take(&self, worker: &Worker) -> bool {
        worker.takes_leases() && !self.pauses(&worker.name)
    }

    /// Whether `run` failed last on this incarnation while others are there to try it: a poison worker must not spend the
    /// attempts of every run (L3).
    fn failed_here(&self, incarnation: Incarnation, run: &Run) -> bool {
        let last = self.ledger.find(&run.key()).and_then(|id| self.failed_on.get(&id));
        let mut others =
            self.fleet.iter().filter(|&(&other, worker)| other != incarnation && self.may_take(worker));
        last == Some(&incarnation) && others.next().is_some()
    }

    fn is_alone(&self, run: &Run) -> bool {
        self.ledger.find(&run.key()).is_some_and(|id| self.ledger.run(id).alone)
    }

    pub(super) fn holds_alone(&self, incarnation: Incarnation) -> bool {
        let leases = self.fleet[&incarnation].leases.keys().filter_map(|&lease| self.ledger.lease(lease));
        leases.map(|lease| self.ledger.run(lease.run)).any(|run| run.alone)
    }

    /// Whether this worker is the one that is cleared for a run to be leased alone; for this run it is from now on if nobody is.
    fn clears(&mut self, incarnation: Incarnation, sweep: SweepIndex, number: RunNumber) -> bool {
        let first = Clearing { worker: incarnation, sweep, number };
        self.clearing.get_or_insert(first).worker == incarnation
    }

    /// The run that this worker is cleared for, while that waits: its turn has come, whatever has had its turn since.
    fn cleared_for(&mut self, incarnation: Incarnation) -> Option<(SweepIndex, RunNumber, Coordinates)> {
        let Clearing { worker, sweep, number } = self.clearing?;
        let entry = self.ledger.sweep(sweep);
        let mut views = entry.run(number).into_iter().flat_map(|run| self.ledger.run(run).views());
        let waits = views.any(|(of, _, state)| of == sweep && state == RunState::Waiting);
        let takes = self.fleet.get(&worker).is_some_and(|worker| self.may_take(worker));
        if !waits || !takes || !self.settings.serve.serves(entry) {
            self.clearing = None;
            return None;
        }
        let at = entry.sweep.coordinates(number)?;
        (worker == incarnation && !self.failed_here(worker, &entry.sweep.run(at)))
            .then_some((sweep, number, at))
    }

    pub(super) fn lease_message(&self, lease: LeaseId) -> Lease {
        let &LeaseEntry { run: id, kind, .. } =
            self.ledger.lease(lease).expect("only granted leases are sent");
        let run = self.ledger.run(id).run;
        let mut wanted = self.ledger.wanted(&run, |entry| self.settings.serve.serves(entry));
        // Several sweeps together may want more than a lease may name. The rest is for the run's next lease.
        wanted.truncate(WANTED_STEPS_MAX);
        let mut resume = wanted.first().into_iter().flat_map(|&first| self.ledger.resume_from(id, first));
        let (resume, resume_before) = (resume.next(), resume.next());
        let default = self.settings.checkpoint_every;
        let shortest =
            self.ledger.policies(id).map(|policy| policy.checkpoint_every.unwrap_or(default)).min();
        let checkpoint_every = shortest.filter(|&shortest| shortest != default);
        Lease { id: lease, kind, run, wanted, resume, resume_before, checkpoint_every }
    }
}

/// Sends grants in as many messages as their wanted steps take.
pub(super) fn send_grants(stream: StreamId, leases: Vec<Lease>, effects: &mut Effects) {
    let mut send = |message: Vec<Lease>| {
        let message = CoordinatorMessage::Grants(message);
        effects.after_commit.push(Effect::Send { stream, message });
    };
    let (mut message, mut steps) = (Vec::new(), 0);
    for lease in leases {
        if message.len() == GRANT_LEASES_MAX || steps + lease.wanted.len() > GRANT_STEPS_MAX {
            send(std::mem::take(&mut message));
            steps = 0;
        }
        steps += lease.wanted.len();
        message.push(lease);
    }
    if !message.is_empty() {
        send(message);
    }
}

/// A run as whoever is granted it holds it: where it would go on, and what there is to do to the last step that sweeps that
/// count want of it.
pub(super) fn remaining(
    now: Moment,
    ledger: &Ledger,
    run: &Run,
    counts: impl Fn(&SweepEntry) -> bool,
) -> Held {
    let wanted = ledger.wanted(run, counts);
    let resume = ledger
        .find(&run.key())
        .zip(wanted.first())
        .and_then(|(id, &first_wanted)| ledger.resume_from(id, first_wanted).next());
    let from = resume.map_or(Step::new(0), |checkpoint| checkpoint.step);
    let to = wanted.last().copied().unwrap_or(from);
    Held::new(now, Work::run(run.shape, from, to, wanted.len(), run.family.valid_size), from, to)
}
