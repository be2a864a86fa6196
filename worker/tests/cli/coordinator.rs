//! The coordinator's part, played by the test: a real server whose sessions the test speaks line by line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slalom_common::id::{ContentHash, LeaseId, MessageNumber, StoreId};
use slalom_common::message::{CoordinatorMessage, Hello, LeasesHeld, Report, Welcome, WorkerMessage};
use slalom_proto::v1;
use slalom_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::process::PATIENCE;

type Down = mpsc::Sender<Result<v1::CoordinatorMessage, Status>>;

/// A server of `slalom.v1` for workers that decides nothing.
pub(crate) struct Coordinator {
    address: SocketAddr,
    blobs: Arc<Mutex<Blobs>>,
    sessions: mpsc::Receiver<Session>,
}

#[derive(Default)]
struct Blobs {
    kept: BTreeMap<ContentHash, Vec<u8>>,
    times_sent: BTreeMap<ContentHash, u32>,
}

/// A stream that a worker has opened.
pub(crate) struct Session {
    up: Streaming<v1::WorkerMessage>,
    down: Down,
}

struct Service {
    blobs: Arc<Mutex<Blobs>>,
    sessions: mpsc::Sender<Session>,
}

impl Coordinator {
    pub(crate) fn start() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpIncoming::bind(any_port).expect("a port").with_nodelay(Some(true));
        let address = listener.local_addr().expect("it is bound");
        let blobs = Arc::new(Mutex::new(Blobs::default()));
        let (opened, sessions) = mpsc::channel(8);
        let service = Service { blobs: Arc::clone(&blobs), sessions: opened };
        let serving = tonic::transport::Server::builder()
            .add_service(WorkerServiceServer::new(service).max_decoding_message_size(2 << 20))
            .serve_with_incoming(listener);
        // Ends with the test's runtime.
        tokio::spawn(async move { serving.await.expect("the server serves") });
        Self { address, blobs, sessions }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Has these bytes for whoever asks.
    pub(crate) fn keep(&self, bytes: &[u8]) -> ContentHash {
        let hash = ContentHash::of(bytes);
        self.blobs.lock().expect("no holder panics").kept.insert(hash, bytes.to_vec());
        hash
    }

    pub(crate) fn blob(&self, hash: ContentHash) -> Option<Vec<u8>> {
        self.blobs.lock().expect("no holder panics").kept.get(&hash).cloned()
    }

    pub(crate) fn times_sent(&self, hash: ContentHash) -> u32 {
        self.blobs.lock().expect("no holder panics").times_sent.get(&hash).copied().unwrap_or(0)
    }

    /// The next stream that a worker opens.
    pub(crate) async fn session(&mut self) -> Session {
        let session = timeout(PATIENCE, self.sessions.recv()).await.expect("a worker connects in time");
        session.expect("the server lives")
    }
}

impl Session {
    /// The next message, whatever it is.
    pub(crate) async fn message(&mut self) -> WorkerMessage {
        let message = timeout(PATIENCE, self.up.message()).await.expect("the worker speaks in time");
        let message = message.expect("the stream holds").expect("the worker has more to say");
        WorkerMessage::from_wire(message).expect("it is of this protocol")
    }

    pub(crate) async fn hello(&mut self) -> Hello {
        match self.message().await {
            WorkerMessage::Hello(hello) => hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    /// The next message that must not be lost.
    pub(crate) async fn report(&mut self) -> (MessageNumber, LeaseId, Report) {
        loop {
            if let WorkerMessage::Numbered { number, lease, report, .. } = self.message().await {
                return (number, lease, report);
            }
        }
    }

    pub(crate) async fn heartbeat(&mut self) -> LeasesHeld {
        loop {
            if let WorkerMessage::Heartbeat(held) = self.message().await {
                return held;
            }
        }
    }

    pub(crate) async fn send(&mut self, message: CoordinatorMessage) {
        self.down.send(Ok(message.to_wire())).await.expect("the stream holds");
    }

    pub(crate) async fn welcome(&mut self, acknowledged: Option<MessageNumber>) {
        let terms = Welcome {
            heartbeat: Duration::from_millis(100),
            lease: Duration::from_secs(30),
            checkpoint_every: Duration::from_secs(60),
            acknowledged,
            store: StoreId::new(1),
            forget: false,
        };
        self.send(CoordinatorMessage::Welcome(terms)).await;
    }

    pub(crate) async fn refuse(self, status: Status) {
        self.down.send(Err(status)).await.expect("the stream holds");
    }

    /// What a coordinator that stops says.
    pub(crate) fn break_off(self) {
        let _ = self.down.try_send(Err(Status::unavailable("the coordinator stops")));
    }
}

#[tonic::async_trait]
impl WorkerService for Service {
    type SessionStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;
    type GetBlobStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::BlobChunk, Status>>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (down, messages) = mpsc::channel(16);
        let session = Session { up: request.into_inner(), down };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn get_blob(
        &self,
        request: Request<v1::GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        let hash = hash(&request.into_inner().sha256)?;
        let mut blobs = self.blobs.lock().expect("no holder panics");
        let bytes = blobs.kept.get(&hash).ok_or_else(|| Status::not_found(hash.to_string()))?;
        let chunks: Vec<_> =
            bytes.chunks(1 << 20).map(|data| Ok(v1::BlobChunk { data: data.to_vec() })).collect();
        *blobs.times_sent.entry(hash).or_default() += 1;
        Ok(Response::new(tokio_stream::iter(chunks)))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::PutBlobChunk>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        let mut chunks = request.into_inner();
        let mut name = None;
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            name = chunk.name.or(name);
            bytes.extend(chunk.data);
        }
        let name = name.ok_or_else(|| Status::invalid_argument("no name"))?;
        let hash = hash(&name.sha256)?;
        if ContentHash::of(&bytes) != hash || name.size != bytes.len() as u64 {
            return Err(Status::invalid_argument("not what the name says"));
        }
        self.blobs.lock().expect("no holder panics").kept.insert(hash, bytes);
        Ok(Response::new(v1::PutBlobResponse {}))
    }
}

fn hash(bytes: &[u8]) -> Result<ContentHash, Status> {
    let bytes = bytes.try_into().map_err(|_| Status::invalid_argument("not a hash"))?;
    Ok(ContentHash::new(bytes))
}
