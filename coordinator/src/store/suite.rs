//! What every store does, as tests that run on each; and what their tests share.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use slalom_common::axis::Axis;
use slalom_common::filter::Filter;
use slalom_common::grid::{Axes, Grid};
use slalom_common::id::{
    ContentHash, Incarnation, LeaseId, NumericsVersion, RunKey, Step, StoreId, SweepName, WorkerName,
};
use slalom_common::message::{CheckpointName, LeaseEnd, LeaseKind};
use slalom_common::outcome::{FailureReason, Measured, Milestone, Perplexity};
use slalom_common::run::{Family, Run, Shape};
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::{CorpusFacts, Draft, Policy, StepsPerEpoch, Sweep};

use super::memory::MemoryStore;
use super::sqlite::SqliteStore;
use super::{Stamped, Store};
use crate::scheduler::event::Steering;
use crate::scheduler::record::{Answer, End, Grant, Record};

/// A store, and how to close it and open it again.
struct Bench<S> {
    store: S,
    reopen: Box<dyn FnMut(S) -> S>,
}

impl<S: Store> Bench<S> {
    fn reopened(mut self) -> Self {
        self.store = (self.reopen)(self.store);
        self
    }
}

fn in_memory() -> Bench<MemoryStore> {
    Bench { store: MemoryStore::new(StoreId::new(9)), reopen: Box::new(|store| store) }
}

fn in_sqlite() -> Bench<SqliteStore> {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path()).expect("a new store");
    let reopen = move |store| {
        drop(store);
        SqliteStore::open(dir.path()).expect("the store that was just closed")
    };
    Bench { store, reopen: Box::new(reopen) }
}

macro_rules! suite {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $test() { super::$test(super::in_memory); })+
        }
        mod sqlite {
            $(#[test] fn $test() { super::$test(super::in_sqlite); })+
        }
    };
}

suite![
    a_new_store_has_no_records,
    a_store_keeps_its_id,
    every_record_loads_as_it_was_appended,
    any_batches_load_in_order,
    a_run_s_history_is_its_leases_and_what_came_under_them,
];

fn a_new_store_has_no_records<S: Store>(bench: fn() -> Bench<S>) {
    let mut bench = bench();
    assert_eq!(bench.store.load().expect("a whole store"), []);
    bench.store.append(&[], SystemTime::UNIX_EPOCH).expect("nothing to refuse");
    assert_eq!(bench.reopened().store.load().expect("a whole store"), []);
}

fn a_store_keeps_its_id<S: Store>(bench: fn() -> Bench<S>) {
    let mut bench = bench();
    let id = bench.store.id();
    bench.store.append(&one_of_each(), SystemTime::now()).expect("room");
    assert_eq!(bench.reopened().store.id(), id);
}

fn every_record_loads_as_it_was_appended<S: Store>(bench: fn() -> Bench<S>) {
    let mut bench = bench();
    let records = one_of_each();
    bench.store.append(&records, SystemTime::now()).expect("room");
    assert_eq!(bench.store.load().expect("a whole store"), records);
    assert_eq!(bench.reopened().store.load().expect("a whole store"), records);
}

fn any_batches_load_in_order<S: Store>(bench: fn() -> Bench<S>) {
    let batches = prop::collection::vec(prop::collection::vec(any_record(), 0..8), 0..6);
    let config = Config { cases: 48, ..Config::default() };
    let outcome = TestRunner::new(config).run(&batches, |batches| {
        let mut bench = bench();
        for (index, batch) in batches.iter().enumerate() {
            bench.store.append(batch, SystemTime::now()).expect("room");
            if index % 2 == 1 {
                bench = bench.reopened();
            }
        }
        prop_assert_eq!(bench.store.load().expect("a whole store"), batches.concat());
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn a_run_s_history_is_its_leases_and_what_came_under_them<S: Store>(bench: fn() -> Bench<S>) {
    let mut bench = bench();
    let (one, other) = (run(0), run(1));
    let leased = |first, runs: &[Run]| Record::RunsLeased {
        incarnation: Incarnation::new(5),
        worker: worker("hill-3"),
        first: LeaseId::new(first),
        grants: runs.iter().map(|&run| Grant { kind: LeaseKind::Primary, run }).collect(),
    };
    let reached = |lease| Record::MilestoneReached { lease: LeaseId::new(lease), milestone: milestone(500) };
    let expired = |lease| Record::LeaseEnded {
        lease: LeaseId::new(lease),
        milestones: Vec::new(),
        end: End::Expired { silent: Duration::from_secs(30) },
    };
    // A store begins with leases of other runs, so that a lease's number is none of its record's.
    let past = [
        vec![Record::SweepSubmitted(Box::new(sweep("ski-slope")))],
        vec![leased(1, &[run(7), run(8), run(9)])],
        vec![leased(4, &[other, one]), reached(4), reached(5)],
        vec![expired(5), reached(1)],
        vec![leased(6, &[one])],
        vec![reached(4), Record::RunsRetried { runs: vec![one.key()] }],
        vec![Record::RunsRetried { runs: vec![other.key(), run(2).key()] }],
        vec![reached(6)],
    ];
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_435_200);
    let times = (0..).map(|minute| noon + Duration::from_micros(60_000_000 * minute + 120_999));
    for (batch, at) in past.iter().zip(times) {
        bench.store.append(batch, at).expect("room");
    }
    let mut bench = bench.reopened();
    let history = bench.store.history(&one.key()).expect("a whole store");
    let at = |minute: u64| noon + Duration::from_millis(60_000 * minute + 120);
    let expected = [
        Stamped { at: at(2), record: leased(4, &[other, one]) },
        Stamped { at: at(2), record: reached(5) },
        Stamped { at: at(3), record: expired(5) },
        Stamped { at: at(4), record: leased(6, &[one]) },
        Stamped { at: at(5), record: Record::RunsRetried { runs: vec![one.key()] } },
        Stamped { at: at(7), record: reached(6) },
    ];
    assert_eq!(history, expected);
    assert_eq!(bench.store.history(&run(3).key()).expect("a whole store"), []);
}

fn worker(name: &str) -> WorkerName {
    name.parse().expect("a name")
}

/// A run; each seed is another one.
pub(super) fn run(seed: u64) -> Run {
    let family = Family {
        corpus: ContentHash::of(b"snow"),
        valid_size: 1000,
        training: TrainingSettings::default(),
        numerics: NumericsVersion::new(1),
    };
    Run { family, shape: Shape { nodes: 64, batch_size: 64, unrollings: 16 }, seed }
}

/// An answer at `step`.
pub(super) fn milestone(step: u64) -> Milestone {
    let perplexity = Perplexity::new(6.5 + f64::EPSILON).expect("finite");
    Milestone { step: Step::new(step), measured: Measured::Perplexity(perplexity), loss: Some(1.84) }
}

fn sweep(name: &str) -> Sweep {
    let axis = |values: &str| values.parse::<Axis>().expect("an axis");
    let axes = |nodes| Axes {
        nodes: axis(nodes),
        batch_size: axis("16..=64:x2"),
        unrollings: axis("1..=16:5"),
        epochs: axis("500,1000,2000"),
        seed: axis("0..=2"),
    };
    let exclude = vec![Filter::compile("unrollings > nodes && batch_size == 16").expect("a filter")];
    let blocks = vec![
        Grid::new(axes("8,16,32"), exclude).expect("a grid"),
        Grid::new(axes("64"), Vec::new()).expect("a grid"),
    ];
    let draft = Draft {
        name: Some(name.parse().expect("a name")),
        family: run(0).family,
        corpus: CorpusFacts { written: "synthetic".to_owned(), chars: 1_000_000 },
        blocks,
        steps_per_epoch: StepsPerEpoch::Steps(1),
        eval_every: 100,
        policy: Policy::default(),
    };
    Sweep::new(draft).expect("a sweep")
}

/// A record of each kind, and of each of the kinds inside.
pub(super) fn one_of_each() -> Vec<Record> {
    let lease = LeaseId::new(88);
    let nameless = Draft {
        name: None,
        steps_per_epoch: StepsPerEpoch::FullPass,
        eval_every: 0,
        ..sweep("a").draft().clone()
    };
    let diverged = Milestone { measured: Measured::Diverged, loss: None, ..milestone(9) };
    let kinds = [LeaseKind::Primary, LeaseKind::Copy, LeaseKind::Primary];
    let grants = (0..).zip(kinds).map(|(seed, kind)| Grant { kind, run: run(seed) }).collect();
    let checkpoint = CheckpointName { step: Step::new(540), blob: ContentHash::of(b"state") };
    let policy = Policy { max_attempts: 1, checkpoint_every: Some(Duration::from_millis(2500)) };
    let mut records = vec![
        Record::SweepSubmitted(Box::new(sweep("ski-slope"))),
        Record::SweepSubmitted(Box::new(Sweep::new(nameless).expect("a sweep"))),
        Record::SweepExtended(Box::new(sweep("ski-slope"))),
        Record::SweepResubmitted { sweep: "ski-slope".parse().expect("a name"), policy },
        Record::SweepCancelled { sweep: "ski-slope".parse().expect("a name") },
        Record::RunsLeased {
            incarnation: Incarnation::new(u128::MAX - 5),
            worker: worker("hill-3"),
            first: lease,
            grants,
        },
        Record::MilestoneReached { lease, milestone: milestone(500) },
        Record::MilestoneReached { lease, milestone: diverged },
        Record::DivergenceReached { lease, at: Step::new(8) },
        Record::CheckpointKept { lease, checkpoint },
        Record::ConflictFound {
            kept_lease: lease,
            kept: Answer::Milestone(milestone(500)),
            refused_lease: LeaseId::new(91),
            refused: Answer::DivergedAt(Step::new(8)),
        },
        Record::RunsRetried { runs: vec![run(0).key(), run(1).key()] },
    ];
    let incarnations = vec![Incarnation::new(3), Incarnation::new(u128::MAX - 5)];
    records.push(Record::WorkerDrained { worker: worker("hill-3"), incarnations });
    records.push(Record::WorkerResumed { worker: worker("hill-3") });
    let steered = |steering| Record::SweepSteered { sweep: "ski-slope".parse().expect("a name"), steering };
    records.extend([Steering::Pause, Steering::Stop, Steering::Resume].map(steered));
    let failed =
        |reason| End::Reported(LeaseEnd::Failed { reason, detail: "two words,\n\tand a line".to_owned() });
    let mut ends = vec![
        End::Reported(LeaseEnd::Finished),
        End::Reported(LeaseEnd::Diverged { at: Step::new(8) }),
        End::Reported(LeaseEnd::HandedBack),
        End::Expired { silent: Duration::from_micros(30_000_001) },
        End::Absent,
        End::Cancelled,
    ];
    ends.extend(FailureReason::ALL.map(failed));
    let milestones = vec![milestone(1000), milestone(2000)];
    let ended = |end| Record::LeaseEnded { lease, milestones: milestones.clone(), end };
    records.extend(ends.into_iter().map(ended));
    records
}

fn any_record() -> impl Strategy<Value = Record> {
    let name = "[a-z0-9][a-z0-9._-]{0,62}";
    let steering = prop_oneof![Just(Steering::Pause), Just(Steering::Stop), Just(Steering::Resume)];
    let sweep_name = name.prop_map(|name| name.parse::<SweepName>().expect("by its grammar"));
    let worker = name.prop_map(|name| name.parse::<WorkerName>().expect("by its grammar"));
    // Numbers that a store would reach in a million years.
    let lease = (0..1_u64 << 60).prop_map(LeaseId::new);
    let policy = (1..=u32::MAX, prop::option::of(1..1_u64 << 32)).prop_map(|(max_attempts, every_ms)| {
        Policy { max_attempts, checkpoint_every: every_ms.map(Duration::from_millis) }
    });
    let grants = prop::collection::vec(any_run(), 0..20).prop_map(|runs| {
        runs.into_iter().map(|run| Grant { kind: LeaseKind::Primary, run }).collect::<Vec<_>>()
    });
    let answer =
        prop_oneof![any_milestone().prop_map(Answer::Milestone), any_step().prop_map(Answer::DivergedAt)];
    let checkpoint = (any_step(), any::<[u8; 32]>())
        .prop_map(|(step, blob)| CheckpointName { step, blob: ContentHash::new(blob) });
    let runs = prop::collection::vec(any::<[u8; 32]>().prop_map(RunKey::new), 0..5);
    prop_oneof![
        any_sweep().prop_map(|sweep| Record::SweepSubmitted(Box::new(sweep))),
        any_sweep().prop_map(|sweep| Record::SweepExtended(Box::new(sweep))),
        (sweep_name.clone(), policy).prop_map(|(sweep, policy)| Record::SweepResubmitted { sweep, policy }),
        sweep_name.clone().prop_map(|sweep| Record::SweepCancelled { sweep }),
        (sweep_name, steering).prop_map(|(sweep, steering)| Record::SweepSteered { sweep, steering }),
        (any::<u128>(), worker, lease.clone(), grants).prop_map(|(bits, worker, first, grants)| {
            Record::RunsLeased { incarnation: Incarnation::new(bits), worker, first, grants }
        }),
        (lease.clone(), any_milestone())
            .prop_map(|(lease, milestone)| Record::MilestoneReached { lease, milestone }),
        (lease.clone(), prop::collection::vec(any_milestone(), 0..5), any_end())
            .prop_map(|(lease, milestones, end)| Record::LeaseEnded { lease, milestones, end }),
        (lease.clone(), any_step()).prop_map(|(lease, at)| Record::DivergenceReached { lease, at }),
        (lease.clone(), checkpoint)
            .prop_map(|(lease, checkpoint)| Record::CheckpointKept { lease, checkpoint }),
        (lease.clone(), answer.clone(), lease, answer).prop_map(
            |(kept_lease, kept, refused_lease, refused)| Record::ConflictFound {
                kept_lease,
                kept,
                refused_lease,
                refused
            }
        ),
        runs.prop_map(|runs| Record::RunsRetried { runs }),
    ]
}

fn any_step() -> impl Strategy<Value = Step> + Clone {
    (0..1_u64 << 40).prop_map(Step::new)
}

fn finite() -> impl Strategy<Value = f64> + Clone {
    prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO
}

fn any_milestone() -> impl Strategy<Value = Milestone> + Clone {
    let measured = prop_oneof![
        Just(Measured::Diverged),
        finite().prop_map(|value| Measured::Perplexity(Perplexity::new(value).expect("finite"))),
    ];
    (any_step(), measured, prop::option::of(finite())).prop_map(|(step, measured, loss)| Milestone {
        step,
        measured,
        loss,
    })
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Reported(LeaseEnd::Finished)),
        Just(End::Reported(LeaseEnd::HandedBack)),
        Just(End::Absent),
        Just(End::Cancelled),
        any_step().prop_map(|at| End::Reported(LeaseEnd::Diverged { at })),
        (prop::sample::select(&FailureReason::ALL[..]), any::<String>())
            .prop_map(|(reason, detail)| End::Reported(LeaseEnd::Failed { reason, detail })),
        (0..1_u64 << 50).prop_map(|us| End::Expired { silent: Duration::from_micros(us) }),
    ]
}

fn any_run() -> impl Strategy<Value = Run> {
    let rate = prop::num::f64::POSITIVE | prop::num::f64::NORMAL;
    let rate = rate.prop_filter("a rate is above 0", |rate| *rate > 0.0);
    let training = (rate.clone(), rate.clone(), rate, 1..1_u64 << 40);
    let family = (any::<[u8; 32]>(), 1..u64::MAX, training, any::<u32>());
    let shape = (1..=16_384_u32, 1..=65_536_u32, 1..=65_536_u32);
    (family, shape, any::<u64>()).prop_map(|(family, (nodes, batch_size, unrollings), seed)| {
        let (corpus, valid_size, (learning_rate, decay_rate, clip_norm, decay_steps), numerics) = family;
        let family = Family {
            corpus: ContentHash::new(corpus),
            valid_size,
            training: TrainingSettings { learning_rate, decay_rate, decay_steps, clip_norm },
            numerics: NumericsVersion::new(numerics),
        };
        Run { family, shape: Shape { nodes, batch_size, unrollings }, seed }
    })
}

fn any_sweep() -> impl Strategy<Value = Sweep> {
    let axis = |last| {
        let values = prop::collection::btree_set(1..=last, 1..4);
        values.prop_map(|values: std::collections::BTreeSet<u64>| {
            Axis::new(values.into_iter().collect()).expect("nothing twice")
        })
    };
    let exclude =
        prop::sample::subsequence(vec!["nodes > 5000", "seed == 3 || epochs < 2", "unrollings == 7"], 0..3);
    let block = (axis(16_384), axis(65_536), axis(65_536), axis(1 << 30), axis(u64::MAX), exclude).prop_map(
        |(nodes, batch_size, unrollings, epochs, seed, exclude)| {
            let filters = exclude.into_iter().map(|source| Filter::compile(source).expect("a filter"));
            Grid::new(Axes { nodes, batch_size, unrollings, epochs, seed }, filters.collect())
        },
    );
    let block = block.prop_filter_map("a filter without a value", Result::ok);
    let name = prop::option::of("[a-z][a-z0-9]{0,20}");
    let blocks = prop::collection::vec(block, 1..4);
    let draft = (name, any_run(), blocks, any::<String>(), prop::option::of(1..1_000_u64));
    draft.prop_filter_map("nothing to run", |(name, run, blocks, written, steps)| {
        let draft = Draft {
            name: name.map(|name| name.parse().expect("by its grammar")),
            family: Family { valid_size: 1000, ..run.family },
            corpus: CorpusFacts { written, chars: u64::MAX },
            blocks,
            steps_per_epoch: steps.map_or(StepsPerEpoch::FullPass, StepsPerEpoch::Steps),
            eval_every: 0,
            policy: Policy::default(),
        };
        Sweep::new(draft).ok()
    })
}

/// A small file system in memory, unmounted when dropped.
pub(super) struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    pub(super) fn new(at: &'a Path, options: &str) -> Option<Self> {
        if mount(at, options) {
            return Some(Self(at));
        }
        eprintln!("SKIPPED: this process may not mount a file system of its own");
        None
    }

    pub(super) fn remount(&self, options: &str) {
        assert!(mount(self.0, &format!("remount,{options}")), "what was mounted can be mounted again");
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Lazily: a test that fails has its store still open.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn mount(at: &Path, options: &str) -> bool {
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
    mount.is_ok_and(|status| status.success())
}
