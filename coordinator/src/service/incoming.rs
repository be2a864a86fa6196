//! Connections as they come in: how many there may be at a time, and how long each may take to say what it is.
//!
//! Expected failures: no descriptor is left, peers that say nothing, or that hang up before they are let in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use slalom_common::log::fleet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections at a time: a fleet of thousands, and a bound for what strangers may have kept for them. Whoever comes beyond that
/// is hung up on, and comes again.
pub(super) const CONNECTIONS_MAX: usize = 8192;

/// A peer that has not begun to speak HTTP/2 by then is hung up on; who speaks it is asked for a sign of life from then on.
pub(super) const BEGIN_WITHIN: Duration = Duration::from_secs(10);

/// Between two tries to accept when that fails: no descriptor is left, as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The preface of HTTP/2 and the head of the settings that follow it.
const BEGINNING_BYTES: usize = 24 + 9;

/// The connections of `listener`, at most `connections_max` at a time, until nobody takes them any more.
pub(super) fn incoming(
    listener: TcpListener,
    connections_max: usize,
    begin_within: Duration,
) -> ReceiverStream<io::Result<Connection>> {
    let (connections, accepted) = mpsc::channel(1);
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(connections_max));
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.map(|(stream, _)| stream),
                () = connections.closed() => return,
            };
            let Ok(stream) = stream else {
                // The next may be let in by then, and nothing spins meanwhile.
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                fleet::connection_refused(connections_max);
                continue;
            };
            // What is small leaves at once. If the peer has hung up already, the first read says so.
            let _ = stream.set_nodelay(true);
            let beginning = Beginning { sleep: Box::pin(tokio::time::sleep(begin_within)), bytes: 0 };
            let connection = Connection { stream, beginning: Some(beginning), _permit: permit };
            if connections.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(accepted)
}

/// A connection that gives its place back when it is closed.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// While it has not said what it is.
    beginning: Option<Beginning>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Beginning {
    sleep: Pin<Box<Sleep>>,
    /// Read so far.
    bytes: usize,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(beginning) = &mut self.beginning
            && beginning.sleep.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(beginning) = &mut self.beginning {
            beginning.bytes += buffer.filled().len() - before;
            if beginning.bytes >= BEGINNING_BYTES {
                self.beginning = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    use super::*;

    const WITHIN: Duration = Duration::from_millis(50);

    async fn listening(
        connections_max: usize,
    ) -> (ReceiverStream<io::Result<Connection>>, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        (incoming(listener, connections_max, WITHIN), address)
    }

    #[tokio::test]
    async fn whoever_comes_beyond_the_limit_is_hung_up_on_until_another_leaves() {
        let (mut connections, address) = listening(2).await;
        let mut peers = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..2 {
            peers.push(TcpStream::connect(address).await.expect("let in"));
            taken.push(connections.next().await.expect("it goes on").expect("a connection"));
        }
        let mut third = TcpStream::connect(address).await.expect("by the system");
        let read = third.read(&mut [0; 1]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        taken.pop();
        let _fourth = TcpStream::connect(address).await.expect("let in");
        connections.next().await.expect("it goes on").expect("a connection");
    }

    #[tokio::test]
    async fn whoever_does_not_begin_to_speak_is_hung_up_on_and_who_does_may_rest() {
        let (mut connections, address) = listening(8).await;
        let mut silent = TcpStream::connect(address).await.expect("let in");
        silent.write_all(b"PRI * HTTP/2.0\r\n").await.expect("sent");
        let mut taken = connections.next().await.expect("it goes on").expect("a connection");
        let mut all = Vec::new();
        let cut = taken.read_to_end(&mut all).await.expect_err("it has not begun");
        assert_eq!((cut.kind(), all.len()), (io::ErrorKind::TimedOut, 16));

        let mut speaks = TcpStream::connect(address).await.expect("let in");
        speaks.write_all(&[1; BEGINNING_BYTES]).await.expect("sent");
        let mut taken = connections.next().await.expect("it goes on").expect("a connection");
        taken.read_exact(&mut [0; BEGINNING_BYTES]).await.expect("all of it");
        let read = tokio::time::timeout(4 * WITHIN, taken.read(&mut [0; 1])).await;
        assert!(read.is_err(), "it rests, and is not cut: {read:?}");
    }
}
