//! What is seen of processes and people.

use slalom_common::id::{ContentHash, Incarnation, LeaseId, MessageNumber, RunKey, Step, WorkerName};
use slalom_common::message::{Lease, Report};
use slalom_common::moment::Moment;
use slalom_coordinator::scheduler::record::Record;
use slalom_worker::agent::session::WINDOW;

use super::{Checked, Checker, Violation, hold};
use crate::people::Ask;

impl Checker {
    pub(crate) fn on_coordinator_began(&mut self, now: Moment) {
        self.began = now;
        self.heard.clear();
        self.begin_commit();
    }

    /// What a coordinator finds when it starts.
    pub(crate) fn on_loaded(&self, records: &[Record]) -> Checked {
        let (committed, found) = (self.committed, records.len());
        hold(found == committed, "I2", || format!("{committed} records were committed, {found} are there"))
    }

    /// The store is what it was when `backup` was made.
    pub(crate) fn on_brought_back(&mut self, backup: Self) {
        let Self { leases, runs, books, refused, committed, drained, said_to_drain, .. } = backup;
        (self.failed_in_a_row, self.paused) = (backup.failed_in_a_row, backup.paused);
        (self.leases, self.runs, self.books) = (leases, runs, books);
        (self.refused, self.committed) = (refused, committed);
        (self.drained, self.said_to_drain) = (drained, said_to_drain);
        for doings in self.workers.values_mut() {
            doings.told_to_drain = false;
        }
        self.was_brought_back = true;
    }

    /// A session lets go of what it held: the store numbers its leases from an earlier one again.
    pub(crate) fn on_forgets(&mut self, incarnation: Incarnation) {
        self.tally.forgotten += 1;
        let doings = self.workers.entry(incarnation).or_default();
        doings.started.clear();
        doings.training.clear();
        doings.by_lease.clear();
        doings.acknowledged = doings.last_report();
        doings.forgot = true;
    }

    pub(crate) fn on_worker_began(&mut self, incarnation: Incarnation, name: WorkerName) {
        self.names.insert(incarnation, name);
    }

    pub(crate) fn on_liar(&mut self, incarnation: Incarnation) {
        self.liars.insert(incarnation);
    }

    pub(crate) fn on_unsound(&mut self, incarnation: Incarnation) {
        self.unsound.insert(incarnation);
    }

    /// The coordinator was handed something that this incarnation said, or its hello.
    pub(crate) fn on_heard(&mut self, now: Moment, incarnation: Incarnation) {
        self.heard.insert(incarnation, now);
    }

    pub(crate) fn on_asked(&mut self, ask: Ask) {
        self.asked.push(ask);
    }

    pub(crate) fn on_uploaded(&mut self, blob: ContentHash) {
        self.uploaded.insert(blob);
    }

    pub(crate) fn on_worker_gone(&mut self, incarnation: Incarnation) {
        self.workers.entry(incarnation).or_default().training.clear();
    }

    /// A worker's session sends a report, perhaps again.
    pub(crate) fn on_reported(
        &mut self,
        incarnation: Incarnation,
        number: MessageNumber,
        (lease, run): (LeaseId, RunKey),
        report: &Report,
    ) -> Checked {
        let doings = self.workers.entry(incarnation).or_default();
        let mut next = doings.last_report() + 1;
        if let Some(earlier) = doings.reports.get(&number) {
            return hold(*earlier == (lease, run, report.clone()), "I5", || {
                format!("report {number} of {incarnation} was sent again with other content")
            });
        }
        if std::mem::take(&mut doings.forgot) && number.number() > next {
            next = number.number();
            doings.acknowledged = next - 1;
        }
        hold(number.number() == next, "I5", || format!("report {number} of {incarnation} came, not {next}"))?;
        doings.reports.insert(number, (lease, run, report.clone()));
        doings.by_lease.entry(lease).or_default().push(number);
        let under_way = number.number() - doings.acknowledged.min(number.number());
        self.tally.unacknowledged_max = self.tally.unacknowledged_max.max(under_way);
        hold(under_way <= WINDOW as u64, "I13", || {
            format!("{under_way} reports of {incarnation} are under way")
        })
    }

    /// A slot begins to train a lease, from `step`.
    pub(crate) fn on_started(&mut self, incarnation: Incarnation, lease: &Lease) -> Checked {
        let doings = self.workers.entry(incarnation).or_default();
        let last = doings.started.last().copied();
        hold(last < Some(lease.id), "I5", || format!("lease {} started after lease {last:?}", lease.id))?;
        doings.started.insert(lease.id);
        doings.training.insert(lease.id);
        Ok(())
    }

    /// Where a slot goes on. `is_whole`: whether the bytes that it goes on from are those that were uploaded.
    pub(crate) fn on_resumed(&mut self, lease: &Lease, from: Step, is_whole: bool) -> Checked {
        hold(is_whole, "I10", || {
            format!("lease {} goes on from a torn checkpoint of step {from}", lease.id)
        })?;
        self.tally.resumed += 1;
        self.tally.resumed_before += u64::from(lease.resume.is_some_and(|newest| from < newest.step));
        let lost = |step: &&Step| {
            **step < from && self.runs.get(&lease.run.key()).is_none_or(|run| run.answer(**step).is_none())
        };
        match lease.wanted.iter().find(lost) {
            None => Ok(()),
            Some(hole) => {
                let found = format!("lease {} goes on from step {from}, step {hole} has no answer", lease.id);
                Err(Violation { invariant: "I10", found })
            }
        }
    }

    pub(crate) fn on_slot_free(&mut self, incarnation: Incarnation, lease: LeaseId) {
        self.workers.entry(incarnation).or_default().training.remove(&lease);
    }

    pub(crate) fn on_checkpoint_said(&mut self, incarnation: Incarnation, lease: LeaseId, step: Step) {
        self.workers.entry(incarnation).or_default().stored.insert((lease, step));
    }
}
