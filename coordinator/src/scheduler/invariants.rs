//! The invariants of `RELIABILITY.md` that one state can break, as checks: for tests, properties and the simulator alike.

use std::collections::{BTreeMap, BTreeSet};

use slalom_common::answer::RunState;
use slalom_common::id::{Incarnation, LeaseId, RunId, SweepName};
use slalom_common::message::LeaseKind;

use super::Scheduler;
use super::ledger::Ledger;
use super::ledger::sweep::Course;
use super::record::Record;

/// A broken invariant.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Violation {
    /// I3.
    #[error("I3: run {0} has more than one primary lease in force")]
    TwoPrimaries(RunId),
    /// I3.
    #[error("I3: lease {0} is in force, and its run does not know it")]
    ForgottenLease(LeaseId),
    /// I3.
    #[error("I3: run {0} has a copy in force, and no lease that it is a copy of, or one of the same worker")]
    CopyOfNothing(RunId),
    /// I6.
    #[error("I6: sweep {sweep} has {runs} runs, and {counted} are counted")]
    NotConserved {
        /// The sweep.
        sweep: SweepName,
        /// What it holds.
        runs: u64,
        /// What its counts sum to.
        counted: u64,
    },
    /// I6.
    #[error("I6: sweep {sweep} counts {counted} runs as {state:?}, and {found} are")]
    Miscounted {
        /// The sweep.
        sweep: SweepName,
        /// The state.
        state: RunState,
        /// By its counts.
        counted: u64,
        /// By looking.
        found: u64,
    },
    /// I10.
    #[error("I10: run {0} would resume past a wanted step that has no answer")]
    Overtaken(RunId),
    /// What a person said of a sweep holds for every grant after it.
    #[error("lease {lease} was granted, and no sweep that is active wants its run")]
    GrantedUnasked {
        /// The grant.
        lease: LeaseId,
    },
    /// I8, L3.
    #[error("run {0} is to be leased alone, and its worker holds another")]
    NotAlone(RunId),
    /// What a person said of a worker holds for every grant after it.
    #[error("lease {lease} was granted to incarnation {incarnation}, which is drained")]
    GrantedToDrained {
        /// The grant.
        lease: LeaseId,
        /// To whom.
        incarnation: Incarnation,
    },
    /// What stops has something to wait for.
    #[error("sweep {0} is stopping, and none of its runs is leased")]
    StopsForNothing(SweepName),
    /// The fleet and the ledger must agree on who holds what.
    #[error("lease {0} is in force, and nobody in the fleet holds it")]
    Unheld(LeaseId),
}

/// Looks at every run, lease and sweep.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check(scheduler: &Scheduler) -> Result<(), Violation> {
    let ledger = scheduler.ledger();
    let mut leased = BTreeSet::new();
    let held: BTreeSet<LeaseId> =
        scheduler.fleet().values().flat_map(|worker| worker.leases.keys().copied()).collect();
    for (id, lease) in ledger.leases_in_force() {
        let known = ledger.run(lease.run);
        let in_place = match lease.kind {
            LeaseKind::Primary => {
                if !leased.insert(lease.run) {
                    return Err(Violation::TwoPrimaries(lease.run));
                }
                known.lease
            }
            LeaseKind::Copy => {
                let holder = |lease: LeaseId| ledger.lease(lease).map(|lease| ledger.holder(lease).0);
                if known.lease.is_none_or(|primary| holder(primary) == holder(id)) {
                    return Err(Violation::CopyOfNothing(lease.run));
                }
                known.copy
            }
        };
        if in_place != Some(id) {
            return Err(Violation::ForgottenLease(id));
        }
        if !held.contains(&id) {
            return Err(Violation::Unheld(id));
        }
    }
    for worker in scheduler.fleet().values().filter(|worker| worker.leases.len() > 1) {
        let mut runs = worker.leases.keys().filter_map(|&lease| ledger.lease(lease)).map(|lease| lease.run);
        if let Some(run) = runs.find(|&run| ledger.run(run).alone) {
            return Err(Violation::NotAlone(run));
        }
    }
    for (_, entry) in ledger.sweeps() {
        let name = || entry.sweep.name().clone();
        let (runs, counted) = (entry.sweep.size().runs, entry.counts.total());
        if runs != counted {
            return Err(Violation::NotConserved { sweep: name(), runs, counted });
        }
        let mut leased = entry.runs().filter(|(_, run)| ledger.run(*run).lease.is_some());
        if entry.course == Course::Stopping && leased.next().is_none() {
            return Err(Violation::StopsForNothing(name()));
        }
    }
    for (index, entry) in ledger.sweeps() {
        let mut found: BTreeMap<RunState, u64> = BTreeMap::new();
        let mut known = 0;
        for (_, run) in entry.runs() {
            let view = ledger.run(run).views().find(|(sweep, _, _)| *sweep == index);
            if let Some((_, _, state)) = view {
                *found.entry(state).or_default() += 1;
                known += 1;
            }
        }
        *found.entry(entry.untouched()).or_default() += entry.sweep.size().runs - known;
        for state in RunState::ALL {
            let (counted, found) = (entry.counts.of(state), found.get(&state).copied().unwrap_or(0));
            if counted != found {
                return Err(Violation::Miscounted {
                    sweep: entry.sweep.name().clone(),
                    state,
                    counted,
                    found,
                });
            }
        }
    }
    for (id, known) in ledger.runs() {
        let first = ledger.wanted(&known.run, |entry| !entry.is_cancelled()).first().copied();
        let resume = first.and_then(|first| ledger.resume_from(id, first).next());
        if resume.is_some_and(|checkpoint| Some(checkpoint.step) > first) {
            return Err(Violation::Overtaken(id));
        }
    }
    Ok(())
}

/// Looks at what one event recorded, from the ledger `before` it: each grant is of a run that a sweep wants whose runs are to
/// be leased, neither paused nor stopping nor over; and to a process that nobody has drained.
///
/// # Errors
/// The first grant that is not.
pub fn check_grants(before: &Ledger, records: &[Record]) -> Result<(), Violation> {
    let mut ledger = before.clone();
    for record in records {
        if let Record::RunsLeased { first, grants, incarnation, .. } = record {
            if ledger.is_drained(*incarnation) {
                return Err(Violation::GrantedToDrained { lease: *first, incarnation: *incarnation });
            }
            for (lease, grant) in (first.number()..).map(LeaseId::new).zip(grants) {
                if ledger.wanted(&grant.run, |entry| entry.course == Course::Active).is_empty() {
                    return Err(Violation::GrantedUnasked { lease });
                }
            }
        }
        ledger.apply(record);
    }
    Ok(())
}
