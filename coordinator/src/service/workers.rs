//! What workers call: the thin edge around [`Session`], and bytes.
//!
//! A stream has one task with a reader and a writer. Between the driver and the writer stands a bounded queue: a worker that
//! does not read is cut off, and its next hello makes up for what it missed.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use slalom_common::id::Incarnation;
use slalom_common::log::fleet;
use slalom_common::message::{CoordinatorMessage, WorkerMessage};
use slalom_common::run::{KNOWN_RUN, NUMERICS};
use slalom_proto::v1;
use slalom_proto::v1::worker_service_server::WorkerService;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::session::{Ending, Heard, Session};
use super::{Service, bytes, status};
use crate::driver::{Driver, Outgoing};
use crate::scheduler::event::StreamId;

/// Messages to one worker that wait for its stream: more than the driver makes of one batch of its reports.
const OUTBOX_MAX: usize = 4096;

/// A stream whose hello has not come by then is ended.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// A worker that takes nothing off its stream for so long is cut off.
const READ_WITHIN: Duration = Duration::from_secs(30);

#[tonic::async_trait]
impl WorkerService for Service {
    type SessionStream = Downstream;
    type GetBlobStream = ReceiverStream<Result<v1::BlobChunk, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Downstream>, Status> {
        let mut inbound = request.into_inner();
        let mut session = Session::new(NUMERICS, KNOWN_RUN);
        let first = tokio::time::timeout(HELLO_WITHIN, hear(&mut inbound, &mut session));
        let hello = match first.await.map_err(|_| status::no_hello())?? {
            Some(Heard::Greeting(hello)) => hello,
            // A session lets nothing but a hello come first.
            Some(Heard::Saying(_)) | None => return Err(status::no_hello()),
        };
        let (incarnation, worker) = (hello.incarnation, hello.worker.clone());
        let (outbox, outgoing) = mpsc::channel(OUTBOX_MAX);
        let stream = self.driver.join(hello, outbox).await.map_err(status::of_stopped)?;
        fleet::session_opened(&worker, incarnation);

        let (messages, sent) = mpsc::channel(1);
        let (ended, ending) = oneshot::channel();
        let Self { driver, stopping, .. } = self.clone();
        self.tasks.spawn(async move {
            let why = tokio::select! {
                why = read(inbound, &mut session, &driver, stream, incarnation) => why,
                why = write(outgoing, messages) => why,
                () = stopping.cancelled() => Err(status::of_stopped(crate::driver::Stopped)),
            };
            // If the driver is over there is nobody left to tell.
            let _ = driver.leave(stream, incarnation).await;
            match &why {
                Ok(Ending::Left) => fleet::session_closed(&worker, incarnation, &"left"),
                Ok(Ending::Lost) => fleet::session_closed(&worker, incarnation, &"lost"),
                Err(status) => {
                    if status.code() == Code::InvalidArgument {
                        fleet::message_refused(&worker, None, &status.message());
                    }
                    fleet::session_closed(&worker, incarnation, &status.message());
                }
            }
            if let Err(status) = why {
                // The peer may be gone: then nobody reads it.
                let _ = ended.send(status);
            }
        });
        Ok(Response::new(Downstream { messages: sent, ending }))
    }

    async fn get_blob(
        &self,
        request: Request<v1::GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        bytes::get(self, request.into_inner()).await.map(Response::new)
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::PutBlobChunk>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        bytes::put(self, request.into_inner(), bytes::Allowed::Any).await.map(Response::new)
    }
}

/// What a worker is sent, and the status that ends it: also when the worker reads too slowly for it to be queued.
pub(super) struct Downstream {
    messages: mpsc::Receiver<v1::CoordinatorMessage>,
    ending: oneshot::Receiver<Status>,
}

impl Stream for Downstream {
    type Item = Result<v1::CoordinatorMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = std::task::ready!(self.messages.poll_recv(context)) {
            return Poll::Ready(Some(Ok(message)));
        }
        if self.ending.is_terminated() {
            return Poll::Ready(None);
        }
        let ending = std::task::ready!(Pin::new(&mut self.ending).poll(context));
        Poll::Ready(ending.ok().map(Err))
    }
}

/// The next message that the session lets pass; `None` at the stream's end, however it came.
async fn hear(
    inbound: &mut Streaming<v1::WorkerMessage>,
    session: &mut Session,
) -> Result<Option<Heard>, Status> {
    match inbound.message().await {
        Ok(Some(message)) => {
            let message = WorkerMessage::from_wire(message).map_err(|error| status::of_wire(&error))?;
            let greeter = match &message {
                WorkerMessage::Hello(hello) => Some(hello.worker.clone()),
                _ => None,
            };
            session.on_message(message).map(Some).map_err(|refusal| {
                let status = status::of_refusal(refusal);
                // Said here, since a worker of another build never gets as far as to have a session.
                if let (Some(worker), Code::FailedPrecondition) = (greeter, status.code()) {
                    fleet::message_refused(&worker, None, &refusal);
                }
                status
            })
        }
        // A broken connection, or a message that cannot be decoded, after which nothing can.
        Ok(None) | Err(_) => Ok(None),
    }
}

/// Passes on what the worker says until it ends.
async fn read(
    mut inbound: Streaming<v1::WorkerMessage>,
    session: &mut Session,
    driver: &Driver,
    stream: StreamId,
    incarnation: Incarnation,
) -> Result<Ending, Status> {
    while let Some(heard) = hear(&mut inbound, session).await? {
        match heard {
            Heard::Saying(saying) => {
                driver.say(stream, incarnation, saying).await.map_err(status::of_stopped)?;
            }
            // A session lets no second hello pass.
            Heard::Greeting(_) => return Err(status::of_refusal(super::session::Refusal::GreetedTwice)),
        }
    }
    Ok(session.on_end())
}

/// Sends what the driver says until it ends the stream or the worker stops reading.
async fn write(
    mut outgoing: mpsc::Receiver<Outgoing>,
    messages: mpsc::Sender<v1::CoordinatorMessage>,
) -> Result<Ending, Status> {
    let mut waiting = None;
    loop {
        let next = match waiting.take() {
            Some(next) => next,
            None => match outgoing.recv().await {
                Some(next) => next,
                // The driver dropped it because it was full.
                None => return Err(status::not_reading()),
            },
        };
        let Outgoing::Message(mut message) = next else {
            return Err(status::superseded());
        };
        // Acknowledgements are cumulative: of those that wait in a row, the last says it all.
        while let CoordinatorMessage::Acknowledged(_) = message {
            match outgoing.try_recv() {
                Ok(Outgoing::Message(later @ CoordinatorMessage::Acknowledged(_))) => message = later,
                Ok(other) => {
                    waiting = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        match messages.send_timeout(message.to_wire(), READ_WITHIN).await {
            Ok(()) => (),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Err(status::not_reading()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Ok(Ending::Lost),
        }
    }
}
