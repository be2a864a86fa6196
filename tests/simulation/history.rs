//! What happened, in words: kept only where somebody will read it.

use std::cell::RefCell;
use std::rc::Rc;

use slalom_common::id::{LeaseId, MessageNumber};
use slalom_common::message::{CoordinatorMessage, Lease, LeaseEnd, Report, WorkerMessage};
use slalom_common::moment::Moment;
use slalom_common::outcome::{Measured, Milestone};
use slalom_coordinator::scheduler::effect::Reply;
use slalom_coordinator::scheduler::event::Steering;
use slalom_coordinator::scheduler::record::{End, Record};

/// Lines of a history, shared with whoever prints them: they outlive a panic of the world.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Option<Rc<RefCell<Vec<String>>>>);

impl History {
    /// Keeps nothing.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn kept() -> Self {
        Self(Some(Rc::default()))
    }

    pub(crate) fn say(&self, now: Moment, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            let at = now.since(Moment::default()).as_secs_f64();
            lines.borrow_mut().push(format!("{at:>11.6}  {}", line()));
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.as_ref().map_or_else(Vec::new, |lines| lines.borrow().clone())
    }
}

pub(crate) fn of_up(message: &WorkerMessage) -> String {
    match message {
        WorkerMessage::Hello(hello) => {
            let held = hello.held.leases.iter().map(ToString::to_string).collect::<Vec<String>>().join(" ");
            let received = hello.held.received_max.map_or(0, LeaseId::number);
            format!("hello, holds [{held}], received up to {received}")
        }
        WorkerMessage::Heartbeat(held) => {
            let leases = held.leases.iter().map(ToString::to_string).collect::<Vec<String>>().join(" ");
            format!(
                "heartbeat, holds [{leases}], received up to {}",
                held.received_max.map_or(0, LeaseId::number)
            )
        }
        WorkerMessage::Progress { lease, step, .. } => format!("lease {lease} is at step {step}"),
        WorkerMessage::CheckpointStored { lease, checkpoint, .. } => {
            format!("lease {lease} has a checkpoint of step {}", checkpoint.step)
        }
        WorkerMessage::Numbered { number, lease, report, .. } => {
            format!("report {number}: lease {lease} {}", of_report(report))
        }
        WorkerMessage::Draining { .. } => "draining".to_owned(),
    }
}

fn of_report(report: &Report) -> String {
    match report {
        Report::Milestone(milestone) => of_milestone(milestone),
        Report::LeaseEnded { milestones, how } => {
            let answers: Vec<String> = milestones.iter().map(of_milestone).collect();
            format!("ends {} [{}]", of_end(how), answers.join(", "))
        }
    }
}

fn of_milestone(milestone: &Milestone) -> String {
    match milestone.measured {
        Measured::Perplexity(perplexity) => format!("step {} = {perplexity:.3}", milestone.step),
        Measured::Diverged => format!("step {} = diverged", milestone.step),
    }
}

fn of_end(end: &LeaseEnd) -> String {
    match end {
        LeaseEnd::Finished => "finished".to_owned(),
        LeaseEnd::Diverged { at } => format!("diverged at {at}"),
        LeaseEnd::Failed { reason, .. } => format!("failed by {reason}"),
        LeaseEnd::HandedBack => "handed back".to_owned(),
    }
}

pub(crate) fn of_down(message: &CoordinatorMessage) -> String {
    match message {
        CoordinatorMessage::Welcome(welcome) => {
            let forget = if welcome.forget { ", forget" } else { "" };
            format!(
                "welcome{forget}, acknowledged up to {}",
                welcome.acknowledged.map_or(0, MessageNumber::number)
            )
        }
        CoordinatorMessage::Grants(leases) => {
            let leases: Vec<String> = leases.iter().map(of_lease).collect();
            format!("granted {}", leases.join(", "))
        }
        CoordinatorMessage::Acknowledged(number) => format!("acknowledged up to {number}"),
        CoordinatorMessage::Cancelled(leases) => {
            let leases: Vec<String> = leases.iter().map(ToString::to_string).collect();
            format!("cancelled {}", leases.join(" "))
        }
        CoordinatorMessage::Drain => "drain".to_owned(),
    }
}

fn of_lease(lease: &Lease) -> String {
    let wanted: Vec<String> = lease.wanted.iter().map(ToString::to_string).collect();
    let resume = lease.resume.map_or(String::new(), |checkpoint| format!(" from {}", checkpoint.step));
    let run = &lease.run;
    format!("lease {} on {} seed {}{resume} for [{}]", lease.id, run.shape, run.seed, wanted.join(" "))
}

pub(crate) fn of_record(record: &Record) -> String {
    match record {
        Record::SweepSubmitted(sweep) => format!("{} submitted", sweep.name()),
        Record::SweepExtended(sweep) => {
            format!("{} extended to {} blocks", sweep.name(), sweep.draft().blocks.len())
        }
        Record::SweepResubmitted { sweep, .. } => format!("{sweep} submitted again"),
        Record::SweepCancelled { sweep } => format!("{sweep} cancelled"),
        Record::SweepSteered { sweep, steering: Steering::Pause } => format!("{sweep} paused"),
        Record::SweepSteered { sweep, steering: Steering::Stop } => format!("{sweep} stopped"),
        Record::SweepSteered { sweep, steering: Steering::Resume } => format!("{sweep} resumed"),
        Record::WorkerDrained { worker, incarnations } => {
            format!("{worker} drained, {} processes", incarnations.len())
        }
        Record::WorkerResumed { worker } => format!("{worker} resumed"),
        Record::RunsLeased { worker, first, grants, .. } => {
            format!("{} leases from {first} granted to {worker}", grants.len())
        }
        Record::MilestoneReached { lease, milestone } => format!("lease {lease} {}", of_milestone(milestone)),
        Record::LeaseEnded { lease, milestones, end } => {
            let answers: Vec<String> = milestones.iter().map(of_milestone).collect();
            let end = match end {
                End::Reported(how) => of_end(how),
                End::Expired { silent } => format!("expired after {silent:?}"),
                End::Absent => "absent".to_owned(),
                End::Cancelled => "cancelled".to_owned(),
            };
            format!("lease {lease} ended {end} [{}]", answers.join(", "))
        }
        Record::DivergenceReached { lease, at } => format!("lease {lease} diverged at {at}"),
        Record::CheckpointKept { lease, checkpoint } => {
            format!("lease {lease} has a checkpoint of step {}", checkpoint.step)
        }
        Record::ConflictFound { kept_lease, refused_lease, .. } => {
            format!("leases {kept_lease} and {refused_lease} contradict each other")
        }
        Record::RunsRetried { runs } => format!("{} runs retried", runs.len()),
    }
}

pub(crate) fn of_reply(reply: &Reply) -> String {
    match reply {
        Reply::Submitted { created, .. } => format!("submitted{}", if *created { "" } else { ", known" }),
        Reply::Extended { .. } => "extended".to_owned(),
        Reply::Outdated => "outdated".to_owned(),
        Reply::IsCancelled { .. } => "is cancelled".to_owned(),
        Reply::NameTaken { .. } => "the name is taken".to_owned(),
        Reply::OtherNumerics { .. } => "other numerics".to_owned(),
        Reply::TakesNoOther { .. } => "takes no other".to_owned(),
        Reply::Cancelled { .. } => "cancelled".to_owned(),
        Reply::Retried { runs } => format!("{runs} runs retried"),
        Reply::Steered { .. } => "steered".to_owned(),
        Reply::Draining { .. } => "draining".to_owned(),
        Reply::WorkerResumed { .. } => "worker resumed".to_owned(),
        Reply::KeepsItsWorker { .. } => "keeps its worker".to_owned(),
        Reply::NoSuchWorker { .. } => "no such worker".to_owned(),
        Reply::NoSuchSweep { .. } => "no such sweep".to_owned(),
    }
}
