//! The service without a port: over a connection inside the process.

use std::sync::Arc;
use std::time::Duration;

use slalom_common::corpus::Text;
use slalom_common::grid::{Axes, Grid};
use slalom_common::id::StoreId;
use slalom_common::run::{Family, NUMERICS};
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::{CorpusFacts, Draft, Policy, StepsPerEpoch, Sweep};
use slalom_proto::v1;
use slalom_proto::v1::sweep_service_client::SweepServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::in_process;
use crate::driver::{Driver, DriverError};
use crate::scheduler::Settings;
use crate::scheduler::order::Serve;
use crate::store::blobs::{BUDGET, Blobs};
use crate::store::memory::MemoryStore;

pub(crate) fn settings() -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        heartbeat: second,
        lease: second * 5,
        checkpoint_every: second,
        progress_every: second * 60,
        numerics: NUMERICS,
        serve: Serve::All,
    }
}

fn text() -> Text {
    Text::from_ascii("snow and ice ".repeat(40).as_bytes()).expect("of the 27 symbols")
}

/// The text of [`sweep`], a byte a character.
pub(crate) fn corpus() -> Vec<u8> {
    text().to_ascii()
}

/// A sweep of 3,000 runs and 6,000 trials: more than one part of any list.
pub(crate) fn sweep() -> Sweep {
    let axis = |text: &str| text.parse().expect("an axis");
    let axes = Axes {
        nodes: axis("1..=30"),
        batch_size: axis("1..=10"),
        unrollings: axis("1"),
        epochs: axis("1,2"),
        seed: axis("0..=9"),
    };
    let draft = Draft {
        name: Some("wide".parse().expect("a name")),
        family: Family {
            corpus: text().sha256(),
            valid_size: 50,
            training: TrainingSettings::default(),
            numerics: NUMERICS,
        },
        corpus: CorpusFacts { written: "snow".to_owned(), chars: text().chars() },
        blocks: vec![Grid::new(axes, Vec::new()).expect("a grid")],
        steps_per_epoch: StepsPerEpoch::Steps(1),
        eval_every: 0,
        policy: Policy::default(),
    };
    Sweep::new(draft).expect("a sweep")
}

pub(crate) async fn put_corpus(channel: Channel) {
    let ascii = text().to_ascii();
    let name = v1::BlobName {
        kind: v1::BlobKind::Corpus as i32,
        sha256: text().sha256().bytes().to_vec(),
        size: ascii.len() as u64,
    };
    let chunk = v1::PutBlobChunk { name: Some(name), data: ascii };
    SweepServiceClient::new(channel).put_corpus(tokio_stream::iter([chunk])).await.expect("a corpus");
}

/// A coordinator without a port or a disk, but for its blobs.
fn start() -> (TempDir, Driver, tokio::task::JoinHandle<Result<(), DriverError>>) {
    let dir = tempfile::tempdir().expect("a directory");
    let blobs = Arc::new(Blobs::open(dir.path(), BUDGET).expect("a folder"));
    let (driver, driving) = Driver::start(settings(), Box::new(MemoryStore::new(StoreId::new(9))), blobs)
        .expect("an empty store");
    (dir, driver, driving)
}

#[tokio::test]
async fn a_store_is_asked_and_changed_without_a_port() {
    let (_dir, driver, driving) = start();
    let channel = in_process(driver.clone());
    put_corpus(channel.clone()).await;
    let mut client = SweepServiceClient::new(channel);
    let request = v1::SubmitRequest { sweep: Some(sweep().to_wire()) };
    assert!(client.submit(request).await.expect("taken on").into_inner().created);
    let request = v1::PreviewRequest { sweep: Some(sweep().to_wire()) };
    let preview = client.preview(request).await.expect("an answer").into_inner();
    assert_eq!((preview.known_runs, preview.slots), (0, 0), "submitted is not yet known");
    let request = v1::RetryRequest { sweep: "wide".to_owned() };
    assert_eq!(client.retry(request).await.expect("an answer").into_inner().runs, 0);
    let status =
        client.retry(v1::RetryRequest { sweep: "side".to_owned() }).await.expect_err("no such sweep");
    assert_eq!(status.code(), tonic::Code::NotFound);
    driver.stop().await;
    driving.await.expect("no panic").expect("no failure");
    let after = client.get_status(v1::GetStatusRequest::default()).await.expect_err("it is over");
    assert_eq!(after.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn lists_of_many_parts_are_whole_and_in_order() {
    let (_dir, driver, _driving) = start();
    let channel = in_process(driver);
    put_corpus(channel.clone()).await;
    let mut client = SweepServiceClient::new(channel);
    client.submit(v1::SubmitRequest { sweep: Some(sweep().to_wire()) }).await.expect("taken on");

    let request = v1::ListRunsRequest { sweep: "wide".to_owned(), states: Vec::new(), r#where: None };
    let mut rows = client.list_runs(request).await.expect("rows").into_inner();
    let mut runs = 0;
    while let Some(row) = rows.message().await.expect("a row") {
        assert_eq!(row.run, runs);
        runs += 1;
    }
    assert_eq!(runs, 3000);

    let request = v1::ListTrialsRequest { sweep: "wide".to_owned() };
    let mut rows = client.list_trials(request).await.expect("rows").into_inner();
    let mut trials = Vec::new();
    while let Some(row) = rows.message().await.expect("a row") {
        trials.push((row.nodes, row.batch_size, row.unrollings, row.epochs, row.seed));
    }
    assert_eq!(trials.len(), 6000);
    assert!(trials.is_sorted());
}
