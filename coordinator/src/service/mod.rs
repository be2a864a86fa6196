//! gRPC in and out: workers' sessions and bytes, people's calls. It decides nothing and keeps nothing beyond its own streams:
//! what is asked goes to the driver, and what the driver says goes back.
//!
//! Every message, stream and queue has a limit (I13). Expected failures: peers that vanish, say what is no protocol, or do
//! not read; each ends its own call and no other.

mod bytes;
mod incoming;
mod people;
pub mod session;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod workers;

use std::time::Duration;

use hyper_util::rt::TokioIo;
use slalom_common::log::fleet;
use slalom_common::wire::MESSAGE_BYTES_MAX;
use slalom_proto::v1::sweep_service_server::SweepServiceServer;
use slalom_proto::v1::worker_service_server::WorkerServiceServer;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::server::HealthReporter;

use self::incoming::{BEGIN_WITHIN, CONNECTIONS_MAX, incoming};
use crate::driver::Driver;

/// A connection on which nothing has come for so long is asked whether it lives.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// A connection that does not answer that for so long is closed.
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(20);

/// Calls on one connection at a time: a session, its bytes, and a person's verbs are a handful.
const STREAMS_MAX: u32 = 256;

/// Bytes of headers of one call.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// After streams were told to end, how long a peer may take to notice.
const GRACE: Duration = Duration::from_secs(5);

/// Bytes in flight between both ends of an in-process connection.
const IN_PROCESS_BYTES: usize = 64 << 10;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("the listener is of no use")]
    Listener(#[from] std::io::Error),
    /// The connections' machinery failed.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// What every call has at hand.
#[derive(Clone)]
struct Service {
    driver: Driver,
    /// The tasks of streams.
    tasks: TaskTracker,
    /// Told when streams must end.
    stopping: CancellationToken,
}

impl Service {
    fn new(driver: Driver) -> Self {
        Self { driver, tasks: TaskTracker::new(), stopping: CancellationToken::new() }
    }

    fn routes(&self) -> Routes {
        let workers = WorkerServiceServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let people = SweepServiceServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Routes::new(workers).add_service(people)
    }

    /// Ends every stream and waits for their tasks, so that the driver hears of each.
    async fn end_streams(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Serves on `listener` until `shutdown` is done; then takes no more calls, ends streams with `UNAVAILABLE` and returns. The
/// driver goes on.
///
/// # Errors
/// If the listener or the server fails.
pub async fn serve(
    listener: TcpListener,
    driver: Driver,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    // Nobody out there sees why an answer would be late.
    let service = Service::new(driver.refusing_while_stalled());
    let (health, health_service) = tonic_health::server::health_reporter();
    set_serving(&health).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(slalom_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("descriptors that this build compiled are whole");
    let routes = service.routes().add_service(health_service).add_service(reflection);

    let stop = CancellationToken::new();
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            incoming(listener, CONNECTIONS_MAX, BEGIN_WITHIN),
            stop.clone().cancelled_owned(),
        );
    tokio::pin!(serving);
    tokio::select! {
        failed = &mut serving => return Ok(failed?),
        () = shutdown => (),
    }
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    stop.cancel();
    let ended = async {
        let (served, ()) = tokio::join!(&mut serving, service.end_streams());
        served
    };
    // A peer that neither reads nor hangs up must not keep the process.
    tokio::time::timeout(GRACE, ended).await.unwrap_or(Ok(()))?;
    Ok(())
}

async fn set_serving(health: &HealthReporter) {
    health.set_serving::<WorkerServiceServer<Service>>().await;
    health.set_serving::<SweepServiceServer<Service>>().await;
}

/// A channel to a server in this process, without a port: for a program that opens a store itself, and that sees in
/// [`Driver::stalled`] why an answer waits. The server ends with the last clone of the channel.
pub fn in_process(driver: Driver) -> Channel {
    let service = Service::new(driver);
    let (accept, accepted) = mpsc::channel::<Result<DuplexStream, std::io::Error>>(1);
    let serving =
        Server::builder().add_routes(service.routes()).serve_with_incoming(ReceiverStream::new(accepted));
    // It fails only by an incoming connection, and these do not; a channel to a server that is gone says so itself.
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            fleet::server_failed(&error);
        }
        service.end_streams().await;
    });
    let connect = move |_| {
        let accept = accept.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(IN_PROCESS_BYTES);
            let gone = |_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            accept.send(Ok(theirs)).await.map_err(gone)?;
            Ok::<_, std::io::Error>(TokioIo::new(ours))
        }
    };
    Endpoint::from_static("http://in-process").connect_with_connector_lazy(tower::service_fn(connect))
}
