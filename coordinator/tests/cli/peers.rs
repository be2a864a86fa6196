//! What speaks to a coordinator: a person's calls, and a worker that trains nothing.

use std::time::Duration;

use slalom_common::corpus::Text;
use slalom_common::cost::REFERENCE;
use slalom_common::grid::{Axes, Grid};
use slalom_common::id::{ContentHash, Incarnation, MessageNumber, NumericsVersion};
use slalom_common::message::{
    CoordinatorMessage, Hello, Lease, LeaseEnd, LeasesHeld, PROTOCOL_VERSION, Report, Welcome, WorkerMessage,
};
use slalom_common::outcome::{FailureReason, Measured, Milestone, Perplexity};
use slalom_common::run::{Family, KNOWN_RUN, NUMERICS};
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::{CorpusFacts, Draft, Policy, StepsPerEpoch, Sweep};
use slalom_proto::v1;
use slalom_proto::v1::sweep_service_client::SweepServiceClient;
use slalom_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::process::PATIENCE;

/// The corpus of all sweeps here.
pub(crate) fn text() -> Text {
    Text::from_ascii("the snow and the slope ".repeat(50).as_bytes()).expect("of the 27 symbols")
}

/// A sweep `tiny` of two runs and four trials, with these nodes.
pub(crate) fn sweep(nodes: &str) -> Sweep {
    let axis = |text: &str| text.parse().expect("an axis");
    let axes = Axes {
        nodes: axis(nodes),
        batch_size: axis("4"),
        unrollings: axis("5"),
        epochs: axis("10,20"),
        seed: axis("0"),
    };
    let draft = Draft {
        name: Some("tiny".parse().expect("a name")),
        family: Family {
            corpus: text().sha256(),
            valid_size: 50,
            training: TrainingSettings::default(),
            numerics: NUMERICS,
        },
        corpus: CorpusFacts { written: "snow.txt".to_owned(), chars: text().chars() },
        blocks: vec![Grid::new(axes, Vec::new()).expect("a grid")],
        steps_per_epoch: StepsPerEpoch::Steps(1),
        eval_every: 0,
        policy: Policy::default(),
    };
    Sweep::new(draft).expect("a sweep")
}

/// A person's program.
pub(crate) fn person(channel: Channel) -> SweepServiceClient<Channel> {
    SweepServiceClient::new(channel)
}

/// Sends `bytes` as the corpus that `name` says, in two chunks.
pub(crate) async fn put_corpus(channel: Channel, name: &[u8], bytes: &[u8]) -> Result<(), Status> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let name =
        v1::BlobName { kind: v1::BlobKind::Corpus as i32, sha256: name.to_vec(), size: bytes.len() as u64 };
    let chunks = [
        v1::PutBlobChunk { name: Some(name), data: first.to_vec() },
        v1::PutBlobChunk { name: None, data: second.to_vec() },
    ];
    person(channel).put_corpus(tokio_stream::iter(chunks)).await.map(|_| ())
}

/// Sends `bytes` as a worker's checkpoint, in chunks of `chunk` bytes.
pub(crate) async fn put_checkpoint(
    channel: Channel,
    bytes: &[u8],
    chunk: usize,
) -> Result<ContentHash, Status> {
    let hash = ContentHash::of(bytes);
    let mut name = Some(v1::BlobName {
        kind: v1::BlobKind::Checkpoint as i32,
        sha256: hash.bytes().to_vec(),
        size: bytes.len() as u64,
    });
    let chunks: Vec<_> =
        bytes.chunks(chunk).map(|data| v1::PutBlobChunk { name: name.take(), data: data.to_vec() }).collect();
    WorkerServiceClient::new(channel).put_blob(tokio_stream::iter(chunks)).await.map(|_| hash)
}

/// The chunks of what has this name.
pub(crate) async fn get_blob(channel: Channel, name: ContentHash) -> Result<Vec<Vec<u8>>, Status> {
    let request = v1::GetBlobRequest { sha256: name.bytes().to_vec() };
    let mut chunks = WorkerServiceClient::new(channel).get_blob(request).await?.into_inner();
    let mut received = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        received.push(chunk.data);
    }
    Ok(received)
}

/// Puts the corpus and submits.
pub(crate) async fn submit(channel: Channel, sweep: &Sweep) -> v1::SubmitResponse {
    let text = text();
    put_corpus(channel.clone(), text.sha256().bytes(), &text.to_ascii()).await.expect("a corpus");
    let request = v1::SubmitRequest { sweep: Some(sweep.to_wire()) };
    person(channel).submit(request).await.expect("a sweep that is taken on").into_inner()
}

/// The hello of a worker of this build.
pub(crate) fn hello() -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        worker: "hill-3".parse().expect("a name"),
        incarnation: Incarnation::new(7),
        slots: 1,
        numerics: NUMERICS,
        known_run: Some(KNOWN_RUN),
        isa: "portable".to_owned(),
        speed: 1.0,
        gflops_per_slot: 10.0,
        cost: REFERENCE,
        held: LeasesHeld::default(),
        store: None,
    }
}

/// The hello of a worker of another build.
pub(crate) fn hello_of_other_numerics() -> Hello {
    Hello { numerics: NumericsVersion::new(NUMERICS.number() + 1), ..hello() }
}

/// The hello of a worker that computes something else.
pub(crate) fn hello_of_other_bits() -> Hello {
    Hello { known_run: Some(ContentHash::of(b"other bits")), ..hello() }
}

/// Of a build from before there was a known run.
pub(crate) fn hello_without_known_run() -> Hello {
    Hello { known_run: None, ..hello() }
}

/// One stream of a worker.
pub(crate) struct Worker {
    up: mpsc::Sender<v1::WorkerMessage>,
    down: Streaming<v1::CoordinatorMessage>,
    reports: u64,
}

impl Worker {
    /// Opens a stream and greets.
    pub(crate) async fn greet(channel: Channel, hello: Hello) -> Result<(Self, Welcome), Status> {
        let mut worker = Self::open(channel, WorkerMessage::Hello(hello)).await?;
        match worker.receive().await? {
            CoordinatorMessage::Welcome(welcome) => Ok((worker, welcome)),
            other => panic!("in place of a welcome came {other:?}"),
        }
    }

    /// Opens a stream with `first`.
    pub(crate) async fn open(channel: Channel, first: WorkerMessage) -> Result<Self, Status> {
        let (up, sent) = mpsc::channel(16);
        up.send(first.to_wire()).await.expect("its receiver lives");
        let opened = WorkerServiceClient::new(channel).session(ReceiverStream::new(sent)).await?;
        Ok(Self { up, down: opened.into_inner(), reports: 0 })
    }

    /// Says something.
    pub(crate) async fn say(&self, message: WorkerMessage) {
        // If the stream is over, what is received next says why.
        let _ = self.up.send(message.to_wire()).await;
    }

    /// Reports that all wanted steps of `lease` are done, with made-up perplexities; the report's number.
    pub(crate) async fn finish(&mut self, lease: &Lease) -> MessageNumber {
        self.reports += 1;
        let number = MessageNumber::new(self.reports);
        let nodes = lease.run.shape.nodes;
        let milestones = lease.wanted.iter().map(|&step| Milestone {
            step,
            measured: Measured::Perplexity(made_up(nodes, step.number())),
            loss: Some(1.0),
        });
        let report = Report::LeaseEnded { milestones: milestones.collect(), how: LeaseEnd::Finished };
        self.say(WorkerMessage::Numbered { number, lease: lease.id, run: lease.run.key(), report }).await;
        number
    }

    /// Reports that the run of `lease` failed; the report's number.
    pub(crate) async fn fail(&mut self, lease: &Lease) -> MessageNumber {
        self.reports += 1;
        let number = MessageNumber::new(self.reports);
        let how = LeaseEnd::Failed { reason: FailureReason::Panic, detail: "index out of bounds".to_owned() };
        let report = Report::LeaseEnded { milestones: Vec::new(), how };
        self.say(WorkerMessage::Numbered { number, lease: lease.id, run: lease.run.key(), report }).await;
        number
    }

    /// The next message from the coordinator.
    pub(crate) async fn receive(&mut self) -> Result<CoordinatorMessage, Status> {
        let next =
            tokio::time::timeout(PATIENCE, self.down.message()).await.expect("something comes in time");
        let message = next?.ok_or_else(|| Status::ok("the stream ended"))?;
        Ok(CoordinatorMessage::from_wire(message).expect("of this protocol"))
    }

    /// What has come from the coordinator and waits to be received.
    pub(crate) async fn received_by_now(&mut self) -> Vec<CoordinatorMessage> {
        let mut received = Vec::new();
        while let Ok(next) = tokio::time::timeout(Duration::ZERO, self.receive()).await {
            received.push(next.expect("the stream lives"));
        }
        received
    }

    /// The next leases granted.
    pub(crate) async fn grants(&mut self) -> Vec<Lease> {
        loop {
            if let CoordinatorMessage::Grants(leases) = self.receive().await.expect("the stream lives") {
                return leases;
            }
        }
    }

    /// Receives until everything up to `number` is acknowledged; what was granted meanwhile.
    pub(crate) async fn acknowledged(&mut self, number: MessageNumber) -> Vec<Lease> {
        let mut granted = Vec::new();
        loop {
            match self.receive().await.expect("the stream lives") {
                CoordinatorMessage::Acknowledged(up_to) if up_to >= number => return granted,
                CoordinatorMessage::Grants(leases) => granted.extend(leases),
                _ => (),
            }
        }
    }
}

/// The perplexity that [`Worker::finish`] reports: smaller for more nodes and more steps.
pub(crate) fn made_up(nodes: u32, step: u64) -> Perplexity {
    Perplexity::new(20.0 / f64::from(nodes) + 1.0 / step as f64).expect("finite")
}

/// A watch of the sweep `tiny`, told no more often than this.
pub(crate) fn watch(interval: Duration) -> v1::WatchRequest {
    let name = "tiny".parse().expect("a name");
    slalom_common::wire::sweep_service::watch(&name, interval)
}
