//! Bugs to be caught. Each perverts what passes between parts that are right, so that no production code has a switch in it.

use slalom_common::id::{MessageNumber, SweepName, WorkerName};
use slalom_common::message::{CoordinatorMessage, Hello, Lease, LeaseKind, Report, WorkerMessage};
use slalom_common::moment::Moment;
use slalom_common::run::KNOWN_RUN;
use slalom_coordinator::scheduler::Scheduler;
use slalom_coordinator::scheduler::effect::{Effect, Effects};
use slalom_coordinator::scheduler::event::{Event, RequestId, Saying, Steering};
use slalom_coordinator::scheduler::ledger::sweep::{Course, SweepEntry};
use slalom_coordinator::scheduler::record::Record;

/// What is wrong with this world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// What must wait for the commit leaves before it.
    AcknowledgesBeforeCommit,
    /// The end of a stale lease is taken for that of the lease in force on its run.
    TakesStaleEnds,
    /// A slot goes on from bytes that do not verify.
    ResumesTorn,
    /// A lease goes on from the run's newest checkpoint, whatever steps before it lack an answer, and its slot does not mind.
    ResumesPastMilestone,
    /// The disk says of each commit that it is durable, and the last before a crash is not.
    ForgetsCommit,
    /// One worker's perplexities are off by their last bit.
    MeasuresOtherBits,
    /// A worker whose known run comes to other bits is greeted like any other.
    GreetsUnsound,
    /// Whoever is silent for half the lease time loses its leases.
    ExpiresEarly,
    /// Whoever is silent keeps its leases.
    NeverExpires,
    /// A coordinator that starts knows nothing of what was paused, stopped or drained before.
    ForgetsSteering,
    /// At a tick, slots that are free take runs of paused sweeps too.
    GrantsWhilePaused,
    /// At a tick, a worker that is paused takes runs too.
    GrantsToPaused,
    /// A copy is recorded like any other lease.
    RecordsCopiesAsPrimary,
}

/// Whether this is what [`Bug::ForgetsSteering`] forgets.
pub(crate) const fn steers(record: &Record) -> bool {
    matches!(
        record,
        Record::SweepSteered { .. } | Record::WorkerDrained { .. } | Record::WorkerResumed { .. }
    )
}

/// What would be granted if no sweep were paused. Each is paused again at once, so nothing but the grants tells.
pub(crate) fn grant_while_paused(scheduler: &mut Scheduler, now: Moment) -> Effects {
    let sweeps = scheduler.ledger().sweeps();
    let is_paused = |entry: &SweepEntry| entry.course == Course::Paused && !entry.is_done();
    let paused: Vec<SweepName> =
        sweeps.filter(|(_, entry)| is_paused(entry)).map(|(_, entry)| entry.sweep.name().clone()).collect();
    let mut all = Effects::default();
    for sweep in paused {
        for steering in [Steering::Resume, Steering::Pause] {
            // Number 0 is nobody's: its answers find no caller.
            let steered = Event::Steer { request: RequestId(0), sweep: sweep.clone(), steering };
            let Effects { records, now, after_commit } = scheduler.handle(now, steered);
            all.records.extend(records.into_iter().filter(|record| !steers(record)));
            all.now.extend(now);
            all.after_commit.extend(after_commit);
        }
    }
    all
}

/// What would be granted if no worker were paused: the word that one serves again is never on record.
pub(crate) fn grant_to_paused(scheduler: &mut Scheduler, now: Moment) -> Effects {
    let paused: Vec<WorkerName> = scheduler.ledger().paused_workers().cloned().collect();
    let mut all = Effects::default();
    for worker in paused {
        let resumed = Event::ResumeWorker { request: RequestId(0), worker };
        let would = scheduler.clone().handle(now, resumed.clone());
        if !would.records.iter().any(|record| matches!(record, Record::RunsLeased { .. })) {
            continue;
        }
        let Effects { records, now, after_commit } = scheduler.handle(now, resumed);
        all.records.extend(records.into_iter().filter(|record| !steers(record)));
        all.now.extend(now);
        all.after_commit.extend(after_commit);
    }
    all
}

/// The same leases, none of them a copy.
pub(crate) fn as_primary(records: &mut [Record]) {
    for record in records {
        if let Record::RunsLeased { grants, .. } = record {
            for grant in grants {
                grant.kind = LeaseKind::Primary;
            }
        }
    }
}

/// A stale end, said as if by the holder of the lease in force, on whose stream the scheduler hears it.
pub(crate) fn as_if_in_force(scheduler: &Scheduler, event: &Event) -> Option<Event> {
    let Event::Said {
        saying: Saying::Reported { lease, run, report: report @ Report::LeaseEnded { .. }, .. },
        ..
    } = event
    else {
        return None;
    };
    let ledger = scheduler.ledger();
    let current = ledger.run(ledger.find(run)?).lease.filter(|current| current != lease)?;
    let (incarnation, _) = ledger.holder(ledger.lease(current)?);
    let stream = scheduler.fleet().get(&incarnation)?.stream?;
    // Number 0 is nobody's: what the holder itself has reported stays as it is.
    let number = MessageNumber::new(0);
    let saying = Saying::Reported { number, lease: current, run: *run, report: report.clone() };
    Some(Event::Said { stream, incarnation, saying })
}

/// A hello as a coordinator takes it that does not look at the known run.
pub(crate) fn as_if_sound(message: WorkerMessage) -> WorkerMessage {
    match message {
        WorkerMessage::Hello(hello) => WorkerMessage::Hello(Hello { known_run: Some(KNOWN_RUN), ..hello }),
        message => message,
    }
}

/// Whether this acknowledges what only [`as_if_in_force`] has said.
pub(crate) fn acknowledges_nothing(effect: &Effect) -> bool {
    matches!(effect, Effect::Send { message: CoordinatorMessage::Acknowledged(number), .. } if number.number() == 0)
}

/// Has every lease of a grant go on from the newest checkpoint of its run.
pub(crate) fn resume_from_newest(scheduler: &Scheduler, message: &mut CoordinatorMessage) {
    let CoordinatorMessage::Grants(leases) = message else { return };
    let ledger = scheduler.ledger();
    for Lease { id, resume, .. } in leases {
        let run = ledger.lease(*id).map(|granted: &_| granted.run);
        let newest = run.and_then(|run| ledger.run(run).checkpoints.iter().max_by_key(|one| one.step));
        *resume = newest.copied().or(*resume);
    }
}
