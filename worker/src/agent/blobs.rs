//! Bytes by SHA-256, from and to the coordinator, on calls of their own: checkpoints and corpora.
//!
//! A call that fails because there is no coordinator at the moment is tried again; how long is the caller's affair. One
//! that a coordinator answers with a fault of its own is tried again so often: its disk may never give the bytes.

use std::sync::Arc;
use std::time::Duration;

use slalom_common::id::ContentHash;
use slalom_common::log::worker as log;
use slalom_common::wire::CHUNK_BYTES_MAX;
use slalom_proto::v1;
use slalom_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::backoff::{Backoff, Bounds};

/// A transfer that brings nothing for so long has failed.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
/// Copies that do not hash to their name, in a row, before the coordinator's own is taken for damaged.
const DAMAGED_MAX: u32 = 3;

/// Answers that are faults of the coordinator, before it is taken for unable: some 40 s at the bounds of a worker.
const FAULTS_MAX: u32 = 20;

/// Why bytes could not be had or stored.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The coordinator does not have them.
    #[error("the coordinator does not have {0}")]
    Absent(ContentHash),
    /// What it sends hashes to something else, each time.
    #[error("what the coordinator sends for {0} does not hash to that")]
    Damaged(ContentHash),
    /// More than any honest content of this kind has.
    #[error("{hash} is larger than the {bytes_max} bytes it can have")]
    TooLarge {
        /// What was asked for.
        hash: ContentHash,
        /// What was allowed.
        bytes_max: u64,
    },
    /// The coordinator will not, and would not if asked again.
    #[error("the coordinator refused")]
    Refused(#[source] Status),
    /// There is no stream to a coordinator at the moment.
    #[error("no coordinator is connected")]
    Away,
    /// The call broke off.
    #[error("the transfer broke off")]
    Broken(#[source] Status),
    /// Nothing came, or was taken, for too long.
    #[error("the transfer stood still")]
    Stalled,
}

impl BlobError {
    /// How many such errors end a transfer; none if another try may always succeed.
    fn tries_max(&self) -> Option<u32> {
        match self {
            Self::Broken(status) if status.code() == Code::Internal => Some(FAULTS_MAX),
            Self::Away | Self::Broken(_) | Self::Stalled => None,
            Self::Damaged(_) => Some(DAMAGED_MAX),
            Self::Absent(_) | Self::TooLarge { .. } | Self::Refused(_) => Some(1),
        }
    }

    fn of(status: Status, hash: ContentHash) -> Self {
        match status.code() {
            Code::NotFound => Self::Absent(hash),
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::OutOfRange
            | Code::DataLoss
            | Code::AlreadyExists => Self::Refused(status),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable => Self::Broken(status),
        }
    }
}

/// What has come in the way of a transfer so far.
#[derive(Default)]
struct Errors {
    damaged: u32,
    faults: u32,
}

impl Errors {
    /// Counts `error`, and gives it back if another try is worth it.
    ///
    /// # Errors
    /// The same, if it is not.
    fn one_more(&mut self, error: BlobError) -> Result<BlobError, BlobError> {
        let count = match error {
            BlobError::Damaged(_) => &mut self.damaged,
            _ => &mut self.faults,
        };
        let Some(max) = error.tries_max() else { return Ok(error) };
        *count += 1;
        if *count >= max { Err(error) } else { Ok(error) }
    }
}

/// The calls, on whatever connection the session has at the moment.
#[derive(Clone, Debug)]
pub struct Blobs {
    channel: watch::Receiver<Option<Channel>>,
    retry: Bounds,
}

impl Blobs {
    /// Over the connection that `channel` shows; absent while there is none.
    pub const fn new(channel: watch::Receiver<Option<Channel>>, retry: Bounds) -> Self {
        Self { channel, retry }
    }

    /// Whether there is a coordinator to send bytes to.
    pub(super) fn has_coordinator(&self) -> bool {
        self.channel.borrow().is_some()
    }

    /// The bytes of this name, which hash to it. Waits for a coordinator and tries again for as long as it takes.
    ///
    /// # Errors
    /// What no further try would mend.
    pub async fn get(&self, hash: ContentHash, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        let mut backoff = Backoff::new(self.retry);
        let mut errors = Errors::default();
        loop {
            let error = match self.get_once(hash, bytes_max).await {
                Ok(bytes) if ContentHash::of(&bytes) == hash => return Ok(bytes),
                Ok(_) => BlobError::Damaged(hash),
                Err(error) => error,
            };
            let error = errors.one_more(error)?;
            log::transfer_delayed(hash, &error);
            sleep(backoff.after_failure(super::random())).await;
        }
    }

    async fn get_once(&self, hash: ContentHash, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        let mut client = self.client()?;
        let request = v1::GetBlobRequest { sha256: hash.bytes().to_vec() };
        let broken = |status| BlobError::of(status, hash);
        let mut chunks = in_time(client.get_blob(request)).await?.map_err(broken)?.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = in_time(chunks.message()).await?.map_err(broken)? {
            if bytes.len() as u64 + chunk.data.len() as u64 > bytes_max {
                return Err(BlobError::TooLarge { hash, bytes_max });
            }
            bytes.extend_from_slice(&chunk.data);
        }
        Ok(bytes)
    }

    /// Stores a checkpoint's `bytes`; durable when this returns. One try.
    ///
    /// # Errors
    /// Whatever came in the way: it costs no more than time.
    pub async fn put_checkpoint(&self, bytes: Vec<u8>) -> Result<ContentHash, BlobError> {
        let hash = ContentHash::of(&bytes);
        let mut client = self.client()?;
        let name = v1::BlobName {
            kind: v1::BlobKind::Checkpoint as i32,
            sha256: hash.bytes().to_vec(),
            size: bytes.len() as u64,
        };
        client
            .put_blob(tokio_stream::iter(chunks(name, bytes.into())))
            .await
            .map_err(|status| BlobError::of(status, hash))?;
        Ok(hash)
    }

    fn client(&self) -> Result<WorkerServiceClient<Channel>, BlobError> {
        let channel = self.channel.borrow().clone().ok_or(BlobError::Away)?;
        Ok(WorkerServiceClient::new(channel).max_decoding_message_size(2 * CHUNK_BYTES_MAX))
    }
}

/// `bytes` in parts, made one at a time as they are sent; one, if empty, for the name's sake.
fn chunks(name: v1::BlobName, bytes: Arc<[u8]>) -> impl Iterator<Item = v1::PutBlobChunk> + Send {
    let count = bytes.len().div_ceil(CHUNK_BYTES_MAX).max(1);
    let mut name = Some(name);
    (0..count).map(move |index| {
        let start = index * CHUNK_BYTES_MAX;
        let end = bytes.len().min(start + CHUNK_BYTES_MAX);
        v1::PutBlobChunk { name: name.take(), data: bytes[start..end].to_vec() }
    })
}

async fn in_time<T>(call: impl Future<Output = T>) -> Result<T, BlobError> {
    timeout(CHUNK_WITHIN, call).await.map_err(|_| BlobError::Stalled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_waits_for_a_coordinator_for_ever_and_for_one_that_cannot_read_it_so_often() {
        let hash = ContentHash::of(b"a corpus");
        let mut errors = Errors::default();
        let broken = |code| BlobError::Broken(Status::new(code, "words"));
        for _ in 0..10 * FAULTS_MAX {
            for error in [BlobError::Away, BlobError::Stalled, broken(Code::Unavailable)] {
                errors.one_more(error).expect("another try");
            }
        }
        errors.one_more(BlobError::Damaged(hash)).expect("another try");
        for _ in 1..FAULTS_MAX {
            errors.one_more(broken(Code::Internal)).expect("another try");
        }
        let last = errors.one_more(broken(Code::Internal)).expect_err("it never will");
        assert!(matches!(last, BlobError::Broken(_)), "{last:?}");
        errors.one_more(BlobError::Absent(hash)).expect_err("nobody has it");
    }

    #[test]
    fn parts_are_named_once_and_add_up() {
        let name = || v1::BlobName { kind: 2, sha256: vec![0; 32], size: 0 };
        for size in [0, 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1] {
            let bytes: Vec<u8> = (0..size).map(|i| i as u8).collect();
            let parts: Vec<_> = chunks(name(), bytes.clone().into()).collect();
            assert!(parts[0].name.is_some() && parts[1..].iter().all(|part| part.name.is_none()));
            assert!(parts.iter().all(|part| part.data.len() <= CHUNK_BYTES_MAX));
            assert_eq!(parts.into_iter().flat_map(|part| part.data).collect::<Vec<u8>>(), bytes);
        }
    }
}
