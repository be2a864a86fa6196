//! What leaves the coordinator, to workers and to people: nothing that was not durable.

use slalom_common::id::{Incarnation, MessageNumber, SweepName};
use slalom_common::message::{CoordinatorMessage, Lease, Report};
use slalom_common::outcome::Milestone;
use slalom_coordinator::scheduler::effect::Reply;
use slalom_coordinator::scheduler::event::Steering;
use slalom_coordinator::scheduler::ledger::sweep::Course;

use super::{Checked, Checker, Violation, hold};
use crate::people::Ask;

impl Checker {
    pub(crate) fn on_sent_down(&mut self, incarnation: Incarnation, message: &CoordinatorMessage) -> Checked {
        match message {
            CoordinatorMessage::Welcome(welcome) => match welcome.acknowledged {
                Some(number) => self.on_acknowledged(incarnation, number),
                None => Ok(()),
            },
            CoordinatorMessage::Acknowledged(number) => self.on_acknowledged(incarnation, *number),
            CoordinatorMessage::Grants(leases) => {
                leases.iter().try_for_each(|lease| self.on_grant_sent(incarnation, lease))
            }
            CoordinatorMessage::Cancelled(leases) => leases.iter().try_for_each(|&lease| {
                let granted = lease.number().checked_sub(1).and_then(|index| self.leases.get(index as usize));
                let is_theirs = granted.is_some_and(|granted| granted.incarnation == incarnation);
                hold(is_theirs || self.was_brought_back, "I4", || {
                    format!("lease {lease} is taken back from whom it was never granted to")
                })?;
                let in_force = granted.is_some_and(|granted| granted.in_force);
                hold(!(is_theirs && in_force), "I2", || {
                    format!("lease {lease} was taken back before that was durable")
                })
            }),
            CoordinatorMessage::Drain => {
                self.workers.entry(incarnation).or_default().told_to_drain = true;
                hold(self.drained.contains(&incarnation), "I2", || {
                    format!("{incarnation} was told to drain before that was durable")
                })
            }
        }
    }

    fn on_grant_sent(&mut self, incarnation: Incarnation, lease: &Lease) -> Checked {
        let id = lease.id;
        let granted = id.number().checked_sub(1).and_then(|index| self.leases.get(index as usize));
        let is_theirs = granted
            .is_some_and(|granted| granted.incarnation == incarnation && granted.run == lease.run.key());
        hold(is_theirs, "I2", || format!("lease {id} was granted before that was durable"))?;
        let leaves = self.workers.get(&incarnation).is_some_and(|one| one.told_to_drain);
        hold(!leaves, "steering", || {
            format!("lease {id} was sent to {incarnation}, which was told to drain")
        })?;
        let key = lease.run.key();
        let mut active = self.books.values().filter(|book| book.lately.contains(&Course::Active));
        let unasked = lease.wanted.iter().find(|step| !active.clone().any(|book| book.wants(&key, **step)));
        hold(unasked.is_none() && active.next().is_some(), "steering", || {
            format!("lease {id} names step {unasked:?}, which no sweep wants that is active")
        })?;
        let steps = [lease.resume, lease.resume_before].map(|one| one.map(|one| one.step));
        hold(steps[0] >= steps[1], "I10", || {
            format!("lease {id} goes on from {steps:?}: the newest comes first")
        })?;
        let Some(resume) = lease.resume else { return Ok(()) };
        hold(lease.wanted.first() >= Some(&resume.step), "I10", || {
            format!(
                "lease {id} goes on from step {}, its first wanted is {:?}",
                resume.step,
                lease.wanted.first()
            )
        })
    }

    fn on_acknowledged(&mut self, incarnation: Incarnation, number: MessageNumber) -> Checked {
        let doings = self.workers.entry(incarnation).or_default();
        let first = doings.acknowledged + 1;
        doings.acknowledged = doings.acknowledged.max(number.number());
        for number in (first..=number.number()).map(MessageNumber::new) {
            let Some((lease, run, report)) = doings.reports.get(&number) else {
                let found = format!("report {number} of {incarnation} was acknowledged and never made");
                return Err(Violation { invariant: "I2", found });
            };
            let granted = lease.number().checked_sub(1).and_then(|index| self.leases.get(index as usize));
            let is_theirs = granted.is_some_and(|one| one.incarnation == incarnation && one.run == *run);
            if self.was_brought_back && !is_theirs {
                // Refused, and acknowledged so that it does not come for ever.
                continue;
            }
            // As it was reported, or beside the record that it contradicts what is kept (I5).
            let is_answered = |milestone: &Milestone| {
                let known = granted.and_then(|granted| self.runs.get(&granted.run));
                known.is_some_and(|known| known.answer(milestone.step) == Some(milestone.measured))
                    || self.refused.contains(&(*lease, milestone.step))
                    // The extension that asked for it is lost with the life of the store that it was in.
                    || self.was_brought_back && !self.books.values().any(|book| book.wants(run, milestone.step))
            };
            let is_durable = match report {
                Report::Milestone(milestone) => is_answered(milestone),
                Report::LeaseEnded { milestones, how: _ } => {
                    granted.is_some_and(|granted| !granted.in_force) && milestones.iter().all(is_answered)
                }
            };
            hold(is_durable, "I2", || {
                format!("report {number} of {incarnation} was acknowledged before it was durable: {report:?}")
            })?;
        }
        Ok(())
    }

    pub(crate) fn on_replied(&mut self, ask: &Ask, reply: &Reply) -> Checked {
        let is_durable = match (ask, reply) {
            (Ask::Submit(sweep), Reply::Submitted { sweep: name, .. }) => {
                self.books.get(name).is_some_and(|book| book.sweep.is_meant_by(sweep))
            }
            (Ask::Submit(sweep), Reply::NameTaken { existing }) => {
                let book = self.books.get(sweep.name());
                book.is_some_and(|book| {
                    let (now, then) = (&book.sweep.draft().blocks, &existing.draft().blocks);
                    now.starts_with(then) && existing.asks_alike(&book.sweep) && !existing.is_meant_by(sweep)
                })
            }
            (Ask::Extend(given), Reply::Extended { sweep: name }) => {
                self.books.get(name).is_some_and(|book| given.name() == name && book.sweep.contains(given))
            }
            (Ask::Extend(given), Reply::IsCancelled { sweep: name }) => {
                given.name() == name && self.was_on(name, &[Course::Cancelled])
            }
            // It was submitted, or extended otherwise, between: whoever asked asks again.
            (Ask::Extend(given), Reply::Outdated) => self.books.contains_key(given.name()),
            (Ask::Extend(given), Reply::NoSuchSweep { known }) => !known.contains(given.name()),
            (Ask::Cancel(name), Reply::Cancelled { sweep }) => {
                name == sweep && self.was_on(name, &[Course::Cancelled])
            }
            (Ask::Steer(name, steering), Reply::Steered { sweep }) => {
                let courses: &[Course] = match steering {
                    Steering::Pause => &[Course::Paused, Course::Cancelled],
                    Steering::Stop => &[Course::Stopping, Course::Paused, Course::Cancelled],
                    Steering::Resume => &[Course::Active, Course::Cancelled],
                };
                name == sweep && self.was_on(name, courses)
            }
            (Ask::Drain(name), Reply::Draining { worker }) => {
                self.said_to_drain.insert(name.clone());
                let mut drained = self.drained.iter().filter_map(|one| self.names.get(one));
                name == worker && drained.any(|drained| drained == name)
            }
            (Ask::ResumeWorker(name), Reply::WorkerResumed { worker }) => {
                name == worker && (!self.paused.contains(name) || self.paused_lately.contains(name))
            }
            (Ask::ResumeWorker(name), Reply::NoSuchWorker { known }) => {
                !known.contains(name) && !self.paused.contains(name)
            }
            (Ask::Drain(name), Reply::NoSuchWorker { known }) => {
                // Whoever asks again hears the same (I5).
                !known.contains(name) && !self.said_to_drain.contains(name)
            }
            (Ask::Cancel(name) | Ask::Retry(name) | Ask::Steer(name, _), Reply::NoSuchSweep { known }) => {
                !known.contains(name)
            }
            (Ask::Retry(name), Reply::Retried { .. }) => self.books.contains_key(name),
            (
                Ask::Submit(_)
                | Ask::Extend(_)
                | Ask::Cancel(_)
                | Ask::Retry(_)
                | Ask::Steer(..)
                | Ask::Drain(_)
                | Ask::ResumeWorker(_),
                Reply::Submitted { .. }
                | Reply::Extended { .. }
                | Reply::Outdated
                | Reply::IsCancelled { .. }
                | Reply::NameTaken { .. }
                | Reply::OtherNumerics { .. }
                | Reply::TakesNoOther { .. }
                | Reply::Cancelled { .. }
                | Reply::Steered { .. }
                | Reply::Draining { .. }
                | Reply::WorkerResumed { .. }
                | Reply::KeepsItsWorker { .. }
                | Reply::NoSuchWorker { .. }
                | Reply::Retried { .. }
                | Reply::NoSuchSweep { .. },
            ) => false,
        };
        hold(is_durable, "I2", || format!("{ask} was answered {reply:?}"))
    }

    /// Whether the sweep was on one of these courses, or done, when an answer that leaves now was decided. Later calls may have
    /// put it on another by now, in the same commit.
    fn was_on(&self, name: &SweepName, courses: &[Course]) -> bool {
        self.books.get(name).is_some_and(|book| {
            let mut lately = book.lately.iter();
            lately.any(|course| courses.contains(course)) || book.was_done || self.is_done(book)
        })
    }
}
