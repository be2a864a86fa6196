//! One stream to one coordinator, from the attempt to connect to the loss of it: a task that carries messages and
//! decides nothing. A new one is made for each attempt; dropping a [`Link`] ends its task and its stream.

use std::time::Duration;

use slalom_common::message::CoordinatorMessage;
use slalom_common::wire::{MESSAGE_BYTES_MAX, WireError};
use slalom_proto::v1;
use slalom_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::session::WINDOW;

/// Messages up that wait for the network. A session has at most [`WINDOW`] reports under way and the agent keeps the
/// other half for the rest, so a report always finds room.
pub(super) const UP_MAX: usize = 2 * WINDOW;
/// Messages down that wait for the agent; then the network waits.
const DOWN_MAX: usize = 64;
/// A coordinator that does not answer a connection within this is tried again.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection on which nothing came for so long is asked whether it lives, whatever else is on it.
const PING_EVERY: Duration = Duration::from_secs(10);
/// And is given up if no answer comes.
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// What a link says to the agent, in order.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A connection stands. The first message into `up` is the hello.
    Connected { up: mpsc::Sender<v1::WorkerMessage>, channel: Channel },
    /// The coordinator spoke.
    Received(CoordinatorMessage),
    /// The last word.
    Lost(LinkLoss),
}

/// Why a stream ended, or never began.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkLoss {
    #[error("it cannot be reached")]
    Unreachable(#[source] tonic::transport::Error),
    #[error("it refuses this worker: {}", .0.message())]
    Refused(Status),
    #[error("the stream broke: {}", .0.message())]
    Broken(Status),
    #[error("the coordinator closed the stream")]
    Closed,
    #[error("more waits to be sent than there is room for")]
    QueueFull,
    #[error("it sent what is not of this protocol")]
    Malformed(#[from] WireError),
}

impl LinkLoss {
    fn of(status: Status) -> Self {
        match status.code() {
            // The two that `worker_service.proto` says not to try again.
            Code::FailedPrecondition | Code::InvalidArgument => Self::Refused(status),
            _ => Self::Broken(status),
        }
    }
}

#[derive(Debug)]
pub(super) struct Link {
    events: mpsc::Receiver<LinkEvent>,
    task: JoinHandle<()>,
}

impl Link {
    /// Tries to connect `after` so long.
    pub(super) fn open(coordinator: Endpoint, after: Duration) -> Self {
        let (sender, events) = mpsc::channel(DOWN_MAX);
        let task = tokio::spawn(async move {
            sleep(after).await;
            let loss = carry(&coordinator, &sender).await.unwrap_or_else(|loss| loss);
            // Nobody listens if the link was dropped: then nobody asks.
            let _ = sender.send(LinkEvent::Lost(loss)).await;
        });
        Self { events, task }
    }

    /// What comes next. Nothing is lost if this is dropped while it waits.
    pub(super) async fn next(&mut self) -> LinkEvent {
        self.events.recv().await.unwrap_or(LinkEvent::Lost(LinkLoss::Closed))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `coordinator` as the agent connects to it.
pub(super) fn endpoint(coordinator: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(coordinator.to_owned())?
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

async fn carry(coordinator: &Endpoint, events: &mpsc::Sender<LinkEvent>) -> Result<LinkLoss, LinkLoss> {
    let channel = coordinator.connect().await.map_err(LinkLoss::Unreachable)?;
    let mut client = WorkerServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (up, queue) = mpsc::channel(UP_MAX);
    let _ = events.send(LinkEvent::Connected { up, channel }).await;
    let mut stream = client.session(ReceiverStream::new(queue)).await.map_err(LinkLoss::of)?.into_inner();
    while let Some(message) = stream.message().await.map_err(LinkLoss::of)? {
        let _ = events.send(LinkEvent::Received(CoordinatorMessage::from_wire(message)?)).await;
    }
    Ok(LinkLoss::Closed)
}
