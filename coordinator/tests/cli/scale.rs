//! How much a large sweep costs: to submit it, to keep it, to start again on what is known of it.
//!
//! Small here, so that it does not rot; `.ci/full store` builds it with `SLALOM_TEST_SCALE=full`, as large as the limits are
//! meant. Figures go to standard output, one a line, as `figure NAME: VALUE`.

use std::path::Path;
use std::time::{Duration, Instant};

use slalom_common::answer::RunState;
use slalom_common::filter::Filter;
use slalom_common::grid::{Axes, Grid};
use slalom_common::id::Incarnation;
use slalom_common::message::{CoordinatorMessage, Hello};
use slalom_common::sweep::{Draft, Sweep};
use slalom_proto::v1;

use crate::peers::{Worker, hello, person, put_corpus, sweep, text};
use crate::process::Coordinator;
use crate::status_of_tiny;

/// RELIABILITY.md: a formula is taken on at once, however many runs it has.
const SUBMITTED_WITHIN: Duration = Duration::from_secs(1);
/// RELIABILITY.md, "kill -9 coordinator": the first new lease.
const LEASED_WITHIN: Duration = Duration::from_secs(2);
/// A formula, its record and what a database needs for them: pages, not rows.
const FORMULA_BYTES_MAX: u64 = 64 << 10;
/// What a finished run may take: its grant, its answers and their end, three rows and where to find them.
const RUN_BYTES_MAX: u64 = 1 << 10;

/// How large it is.
struct Scale {
    nodes: &'static str,
    batch_size: &'static str,
    runs: u64,
    finished: u64,
}

const SCALE: Scale = match option_env!("SLALOM_TEST_SCALE") {
    Some(_) => Scale { nodes: "1..=200", batch_size: "1..=1000", runs: 999_950, finished: 100_000 },
    None => Scale { nodes: "1..=200", batch_size: "1..=10", runs: 9_950, finished: 500 },
};

/// The sweep `tiny`, wide: five seeds of each shape, less what is excluded.
fn wide() -> Sweep {
    let axis = |text: &str| text.parse().expect("an axis");
    let axes = Axes {
        nodes: axis(SCALE.nodes),
        batch_size: axis(SCALE.batch_size),
        unrollings: axis("5"),
        // Long enough that a slot is granted no second one ahead.
        epochs: axis("1000000,2000000"),
        seed: axis("0..=4"),
    };
    let exclude = vec![Filter::compile("nodes > 190 && batch_size == 1").expect("a filter")];
    let draft =
        Draft { blocks: vec![Grid::new(axes, exclude).expect("a grid")], ..sweep("8").draft().clone() };
    Sweep::new(draft).expect("a sweep")
}

fn figure(name: &str, value: impl std::fmt::Display) {
    println!("figure {name}: {value}");
}

/// The records, in bytes.
fn size(store: &Path) -> u64 {
    let files = ["slalom.db", "slalom.db-wal"];
    files.iter().filter_map(|name| std::fs::metadata(store.join(name)).ok()).map(|file| file.len()).sum()
}

#[tokio::test]
async fn a_wide_sweep_is_submitted_kept_and_started_again_at_the_cost_of_what_happened() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    put_corpus(coordinator.channel(), text().sha256().bytes(), &text().to_ascii()).await.expect("a corpus");
    let sweep = wide();
    assert_eq!(sweep.size().runs, SCALE.runs);
    let (empty, request) = (size(dir.path()), v1::SubmitRequest { sweep: Some(sweep.to_wire()) });

    let since = Instant::now();
    let answer = person(coordinator.channel()).submit(request).await.expect("taken on").into_inner();
    let submitted = since.elapsed();
    assert!(answer.created);
    let formula = size(dir.path()) - empty;
    figure("runs submitted", SCALE.runs);
    figure("seconds to submit them", format_args!("{:.3}", submitted.as_secs_f64()));
    figure("bytes recorded of them", formula);
    assert!(submitted < SUBMITTED_WITHIN, "{submitted:?}");
    assert!(formula < FORMULA_BYTES_MAX, "{formula} bytes for a formula");

    // One worker finishes as fast as it is acknowledged.
    let since = Instant::now();
    let busy = Hello { slots: 64, ..hello() };
    let (mut worker, _) = Worker::greet(coordinator.channel(), busy).await.expect("a welcome");
    let mut acknowledged = 0;
    while acknowledged < SCALE.finished {
        match worker.receive().await.expect("the stream lives") {
            CoordinatorMessage::Grants(leases) => {
                for lease in &leases {
                    worker.finish(lease).await;
                }
            }
            CoordinatorMessage::Acknowledged(up_to) => acknowledged = up_to.number(),
            other => panic!("{other:?}"),
        }
    }
    let took = since.elapsed();
    let done = status_of_tiny(&coordinator).await.counts.of(RunState::Done);
    assert!(done >= SCALE.finished, "{done} runs are done");
    figure("runs finished", done);
    figure("finished a second, by one worker", format_args!("{:.0}", done as f64 / took.as_secs_f64()));
    figure("memory of the coordinator, MiB", coordinator.resident_mib_max());
    coordinator.kill_9();

    let since = Instant::now();
    let coordinator = Coordinator::start(dir.path()).await;
    let fresh = Hello { incarnation: Incarnation::new(8), ..hello() };
    let (mut worker, _) = Worker::greet(coordinator.channel(), fresh).await.expect("a welcome");
    worker.grants().await;
    let leased = since.elapsed();
    figure(
        "seconds from a restart after kill -9 to the first lease",
        format_args!("{:.3}", leased.as_secs_f64()),
    );
    figure("memory of the restarted coordinator, MiB", coordinator.resident_mib_max());
    assert!(leased < LEASED_WITHIN, "{leased:?}");
    assert!(status_of_tiny(&coordinator).await.counts.of(RunState::Done) >= done, "I2");

    assert_eq!(coordinator.signal("TERM").await.code(), Some(0));
    let bytes = (size(dir.path()) - formula) / done;
    figure("bytes recorded of a finished run", bytes);
    assert!(bytes < RUN_BYTES_MAX, "{bytes} bytes for a run");
}
