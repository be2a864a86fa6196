//! How much a coordinator takes: a thousand workers that train nothing, each on a connection of its own.
//!
//! First as fast as they are acknowledged, then at a tenth of that, evenly, which is when it counts how long an answer takes. Small
//! here, so that it does not rot; `.ci/full load` builds it with `SLALOM_TEST_LOAD=full`. Figures go to standard output, one a line, as
//! `figure NAME: VALUE`. Each milestone is a trial's, so each is a line of the log, too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use slalom_common::grid::{Axes, Grid};
use slalom_common::id::{Incarnation, LeaseId, MessageNumber};
use slalom_common::message::{CoordinatorMessage, Hello, Lease, LeaseEnd, LeasesHeld, Report, WorkerMessage};
use slalom_common::outcome::{Measured, Milestone};
use slalom_common::sweep::{Draft, Sweep};
use slalom_proto::v1;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep_until};

use crate::peers::{Worker, hello, made_up, person, put_corpus, sweep, text};
use crate::process::Coordinator;
use crate::status_of_tiny;

/// How large it is.
struct Load {
    workers: usize,
    batch_size: &'static str,
    runs: u64,
    saturated: Duration,
    steady: Duration,
}

const LOAD: Load = match option_env!("SLALOM_TEST_LOAD") {
    Some(_) => Load {
        workers: 1_000,
        batch_size: "1..=1000",
        runs: 1_000_000,
        saturated: Duration::from_secs(15),
        steady: Duration::from_secs(20),
    },
    None => Load {
        workers: 20,
        batch_size: "1..=10",
        runs: 10_000,
        saturated: Duration::from_millis(500),
        steady: Duration::from_millis(500),
    },
};

/// Runs that a worker trains at a time.
const SLOTS: u32 = 4;

/// Reports of a worker that wait for their acknowledgement, at most.
const IN_FLIGHT_MAX: usize = 16;

/// Reports between two heartbeats: some five seconds at the steady rate.
const HEARTBEAT_REPORTS: u64 = 10;

/// The sweep `tiny`, wide: five seeds of each shape, twenty trials a run.
fn wide() -> Sweep {
    let axis = |text: &str| text.parse().expect("an axis");
    let axes = Axes {
        nodes: axis("1..=200"),
        batch_size: axis(LOAD.batch_size),
        unrollings: axis("5"),
        // Long enough that a slot is granted little ahead.
        epochs: axis("100000..=2000000:100000"),
        seed: axis("0..=4"),
    };
    let grid = Grid::new(axes, Vec::new()).expect("a grid");
    Sweep::new(Draft { blocks: vec![grid], ..sweep("8").draft().clone() }).expect("a sweep")
}

/// A worker that measures nothing but how long it waits.
struct Simulated {
    session: Worker,
    leases: VecDeque<(Lease, usize)>,
    received_max: Option<LeaseId>,
    reports: u64,
    /// By number, when each was sent.
    in_flight: VecDeque<(MessageNumber, Instant)>,
    /// When the ends were sent that no grant has followed yet.
    ended: VecDeque<Instant>,
    seen: Seen,
}

/// What a worker has seen in one phase.
#[derive(Default)]
struct Seen {
    acknowledged: u64,
    acknowledgements: Vec<Duration>,
    grants: Vec<Duration>,
}

impl Simulated {
    async fn greet(coordinator: &Coordinator, number: usize) -> Self {
        let incarnation = Incarnation::new(1_000 + number as u128);
        let worker = format!("hill-{number}").parse().expect("a name");
        let hello = Hello { incarnation, worker, slots: SLOTS, ..hello() };
        let (session, _) = Worker::greet(coordinator.channel(), hello).await.expect("a welcome");
        Self {
            session,
            leases: VecDeque::new(),
            received_max: None,
            reports: 0,
            in_flight: VecDeque::new(),
            ended: VecDeque::new(),
            seen: Seen::default(),
        }
    }

    /// Reports the next milestone, the last of a lease with its end. Whether there was one to report.
    async fn report(&mut self) -> bool {
        let Some((lease, next)) = self.leases.front_mut() else { return false };
        let step = lease.wanted[*next];
        *next += 1;
        let nodes = lease.run.shape.nodes;
        let measured = Measured::Perplexity(made_up(nodes, step.number()));
        let milestone = Milestone { step, measured, loss: Some(1.0) };
        let (id, run, is_last) = (lease.id, lease.run.key(), *next == lease.wanted.len());
        let report = if is_last {
            self.leases.pop_front();
            self.ended.push_back(Instant::now());
            Report::LeaseEnded { milestones: vec![milestone], how: LeaseEnd::Finished }
        } else {
            // Slots take turns.
            self.leases.rotate_left(1);
            Report::Milestone(milestone)
        };
        self.reports += 1;
        let number = MessageNumber::new(self.reports);
        self.in_flight.push_back((number, Instant::now()));
        self.session.say(WorkerMessage::Numbered { number, lease: id, run, report }).await;
        true
    }

    async fn heartbeat(&self) {
        let mut leases: Vec<LeaseId> = self.leases.iter().map(|(lease, _)| lease.id).collect();
        leases.sort_unstable();
        let held = LeasesHeld { leases, received_max: self.received_max };
        self.session.say(WorkerMessage::Heartbeat(held)).await;
    }

    fn hear(&mut self, message: CoordinatorMessage) {
        match message {
            CoordinatorMessage::Acknowledged(up_to) => {
                while let Some(&(number, sent)) = self.in_flight.front()
                    && number <= up_to
                {
                    self.in_flight.pop_front();
                    self.seen.acknowledged += 1;
                    self.seen.acknowledgements.push(sent.elapsed());
                }
            }
            CoordinatorMessage::Grants(leases) => {
                for lease in leases {
                    self.received_max = self.received_max.max(Some(lease.id));
                    self.leases.push_back((lease, 0));
                    self.seen.grants.extend(self.ended.pop_front().map(|ended| ended.elapsed()));
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Reports as fast as it is acknowledged.
    async fn saturate(&mut self, until: Instant) {
        while Instant::now() < until {
            while self.in_flight.len() < IN_FLIGHT_MAX && self.report().await {}
            let message = self.session.receive().await.expect("the stream lives");
            self.hear(message);
        }
    }

    /// Reports once in each `every`, whatever comes back.
    async fn keep_pace(&mut self, first: Instant, every: Duration, until: Instant) {
        let mut next = first;
        while next < until {
            tokio::select! {
                () = sleep_until(next) => {
                    self.report().await;
                    if self.reports.is_multiple_of(HEARTBEAT_REPORTS) {
                        self.heartbeat().await;
                    }
                    next += every;
                }
                message = self.session.receive() => self.hear(message.expect("the stream lives")),
            }
        }
    }

    /// Waits until nothing is under way.
    async fn settle(&mut self) {
        while !self.in_flight.is_empty() {
            let message = self.session.receive().await.expect("the stream lives");
            self.hear(message);
        }
    }
}

/// The value below which so many in a hundred are.
fn percentile(of: &mut [Duration], percent: usize) -> f64 {
    of.sort_unstable();
    of.get((of.len() * percent / 100).min(of.len().saturating_sub(1))).map_or(0.0, Duration::as_secs_f64)
        * 1e3
}

fn figure(name: &str, value: impl std::fmt::Display) {
    println!("figure {name}: {value}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_reports_as_fast_as_it_is_acknowledged_and_all_that_was_acknowledged_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start_with_usual_log(dir.path()).await;
    put_corpus(coordinator.channel(), text().sha256().bytes(), &text().to_ascii()).await.expect("a corpus");
    let sweep = wide();
    assert_eq!(sweep.size().runs, LOAD.runs);
    let request = v1::SubmitRequest { sweep: Some(sweep.to_wire()) };
    person(coordinator.channel()).submit(request).await.expect("taken on");
    figure("memory with the sweep of a million runs open, MiB", coordinator.resident_mib_max());

    let mut fleet = Vec::new();
    for number in 0..LOAD.workers {
        fleet.push(Simulated::greet(&coordinator, number).await);
    }
    let barrier = Arc::new(Barrier::new(fleet.len() + 1));
    let began = Instant::now();
    let saturated: Vec<_> = fleet
        .into_iter()
        .map(|mut worker| {
            let barrier = Arc::clone(&barrier);
            tokio::spawn(async move {
                barrier.wait().await;
                worker.saturate(Instant::now() + LOAD.saturated).await;
                let seen = std::mem::take(&mut worker.seen);
                worker.settle().await;
                (worker, seen)
            })
        })
        .collect();
    barrier.wait().await;
    let mut fleet = Vec::new();
    let (mut acknowledged, mut all) = (0, 0);
    for worker in saturated {
        let (worker, seen) = worker.await.expect("it does not panic");
        acknowledged += seen.acknowledged;
        all += worker.reports;
        fleet.push(worker);
    }
    let rate = acknowledged as f64 / LOAD.saturated.as_secs_f64();
    figure("workers", LOAD.workers);
    figure("milestones acknowledged a second, each durable before", format_args!("{rate:.0}"));
    let status = status_of_tiny(&coordinator).await;
    assert_eq!(status.trials_done, all, "each is there, once (I1, I2)");

    let every = Duration::from_secs_f64(LOAD.workers as f64 / (rate / 10.0));
    let first = Instant::now() + Duration::from_millis(100);
    let steady: Vec<_> = fleet
        .into_iter()
        .enumerate()
        .map(|(index, mut worker)| {
            tokio::spawn(async move {
                worker.seen = Seen::default();
                // What ended before is no grant of this phase.
                worker.ended.clear();
                let first = first + every.mul_f64(index as f64 / LOAD.workers as f64);
                worker.keep_pace(first, every, first + LOAD.steady).await;
                worker.settle().await;
                (worker.reports, worker.seen)
            })
        })
        .collect();
    let mut seen = Seen::default();
    let mut all = 0;
    for worker in steady {
        let (reports, one) = worker.await.expect("it does not panic");
        all += reports;
        seen.acknowledged += one.acknowledged;
        seen.acknowledgements.extend(one.acknowledgements);
        seen.grants.extend(one.grants);
    }
    let rate = seen.acknowledged as f64 / LOAD.steady.as_secs_f64();
    figure("milestones a second at a tenth of that", format_args!("{rate:.0}"));
    for percent in [50, 99] {
        let acknowledged = percentile(&mut seen.acknowledgements, percent);
        figure(
            &format!("ms to an acknowledgement then, {percent} in 100"),
            format_args!("{acknowledged:.1}"),
        );
    }
    for percent in [50, 99] {
        let granted = percentile(&mut seen.grants, percent);
        figure(
            &format!("ms from the end of a lease to the next grant, {percent} in 100"),
            format_args!("{granted:.1}"),
        );
    }
    assert_eq!(status_of_tiny(&coordinator).await.trials_done, all, "each is there, once (I1, I2)");
    figure("memory after all this, MiB", coordinator.resident_mib_max());
    figure("trials on record", all);
    figure("seconds in all", format_args!("{:.0}", began.elapsed().as_secs_f64()));
}
