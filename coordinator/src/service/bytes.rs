//! Bytes in and out by their hash: corpora and checkpoints, in chunks, each on a call of its own.
//!
//! What is stored is whole, durable and what it was said to be, and a corpus is a text of the 27 symbols, before the call
//! is answered. Files are touched on threads that may block; one chunk of a call is in memory at a time.

use std::io::Read as _;
use std::time::Duration;

use slalom_common::corpus::alphabet::{self, AlphabetError};
use slalom_common::id::ContentHash;
use slalom_common::wire::{self, CHUNK_BYTES_MAX, WireError};
use slalom_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Service, status};
use crate::driver::Stopped;
use crate::store::blobs::{Blob, BlobError, BlobKind, Blobs, Upload};

/// Chunks that wait for their reader.
const CHUNKS_AHEAD: usize = 2;

/// An upload of which nothing comes for so long is given up, and leaves nothing behind.
const CHUNK_WITHIN: Duration = Duration::from_secs(60);

/// What may be stored by a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allowed {
    /// By a worker.
    Any,
    /// By a person.
    Corpora,
}

/// How many characters a corpus has; `None` if it is not here.
pub(super) async fn corpus_chars(service: &Service, corpus: ContentHash) -> Result<Option<u64>, Status> {
    on_files(service, move |blobs| {
        let here = blobs.contains(BlobKind::Corpus, corpus)?;
        // One byte a character.
        Ok(if here { blobs.read(corpus)?.map(|blob| blob.size) } else { None })
    })
    .await
}

/// The chunks of a blob.
pub(super) async fn get(
    service: &Service,
    request: v1::GetBlobRequest,
) -> Result<ReceiverStream<Result<v1::BlobChunk, Status>>, Status> {
    let name = wire::hash("GetBlobRequest.sha256", &request.sha256);
    let name = name.map_err(|error| status::of_wire(&error))?;
    let blob = on_files(service, move |blobs| blobs.read(name)).await?;
    let blob = blob.ok_or_else(|| status::no_blob(name))?;
    let (chunks, sent) = mpsc::channel(CHUNKS_AHEAD);
    let stopping = service.stopping.clone();
    service.tasks.spawn(async move {
        let outcome = tokio::select! {
            outcome = send(blob, &chunks) => outcome,
            () = chunks.closed() => Ok(()),
            () = stopping.cancelled() => Err(status::of_stopped(Stopped)),
        };
        if let Err(status) = outcome {
            // A reader that went away needs no status.
            let _ = chunks.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(sent))
}

async fn send(blob: Blob, chunks: &mpsc::Sender<Result<v1::BlobChunk, Status>>) -> Result<(), Status> {
    let Blob { mut file, size } = blob;
    let mut left = size;
    while left > 0 {
        let take = left.min(CHUNK_BYTES_MAX as u64);
        let read = blocking(move || {
            let mut data = vec![0; take as usize];
            let outcome = file.read_exact(&mut data);
            (file, outcome.map(|()| data))
        });
        let (same, data) = read.await?;
        file = same;
        let data = data.map_err(|error| status::unreadable_blob(&error))?;
        left -= take;
        if chunks.send(Ok(v1::BlobChunk { data })).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Stores what `chunks` bring.
pub(super) async fn put(
    service: &Service,
    mut chunks: Streaming<v1::PutBlobChunk>,
    allowed: Allowed,
) -> Result<v1::PutBlobResponse, Status> {
    let first = next(service, &mut chunks).await?.ok_or_else(|| status::bad_upload("the upload is empty"))?;
    let named =
        first.name.ok_or_else(|| status::of_wire(&WireError::Absent { field: "PutBlobChunk.name" }))?;
    let (kind, name, size) = read_name(&named, allowed)?;
    let mut upload = on_files(service, move |blobs| blobs.begin(kind, name, size)).await?;
    let mut chars = 0;
    let mut data = first.data;
    loop {
        if data.len() > CHUNK_BYTES_MAX {
            return Err(status::bad_upload("a chunk is larger than 1 MiB"));
        }
        if kind == BlobKind::Corpus {
            check_text(&data, chars).map_err(|error| status::not_a_text(&error))?;
            chars += data.len() as u64;
        }
        upload = blocking(move || write(upload, &data)).await?.map_err(|error| status::of_blob(&error))?;
        let Some(chunk) = next(service, &mut chunks).await? else { break };
        if chunk.name.is_some() {
            return Err(status::bad_upload("only the first chunk has a name"));
        }
        data = chunk.data;
    }
    blocking(move || upload.finish()).await?.map_err(|error| status::of_blob(&error))?;
    Ok(v1::PutBlobResponse {})
}

fn write(mut upload: Upload, data: &[u8]) -> Result<Upload, BlobError> {
    upload.write(data)?;
    Ok(upload)
}

/// The next chunk; `None` after the last.
async fn next(
    service: &Service,
    chunks: &mut Streaming<v1::PutBlobChunk>,
) -> Result<Option<v1::PutBlobChunk>, Status> {
    tokio::select! {
        chunk = tokio::time::timeout(CHUNK_WITHIN, chunks.message()) => {
            chunk.unwrap_or_else(|_| Err(status::stalled_upload()))
        }
        () = service.stopping.cancelled() => Err(status::of_stopped(Stopped)),
    }
}

fn read_name(name: &v1::BlobName, allowed: Allowed) -> Result<(BlobKind, ContentHash, u64), Status> {
    let hash = wire::hash("BlobName.sha256", &name.sha256).map_err(|error| status::of_wire(&error))?;
    let kind = match v1::BlobKind::try_from(name.kind) {
        Ok(v1::BlobKind::Corpus) => BlobKind::Corpus,
        Ok(v1::BlobKind::Checkpoint) if allowed == Allowed::Any => BlobKind::Checkpoint,
        Ok(v1::BlobKind::Checkpoint) => return Err(status::bad_upload("people put corpora only")),
        Ok(v1::BlobKind::Unspecified) | Err(_) => {
            return Err(status::of_wire(&WireError::NotInEnum { field: "BlobName.kind", value: name.kind }));
        }
    };
    Ok((kind, hash, name.size))
}

/// Whether `data`, which begins at character `offset` of a text, is of the 27 symbols.
fn check_text(data: &[u8], offset: u64) -> Result<(), AlphabetError> {
    match data.iter().position(|&byte| alphabet::symbol(byte).is_none()) {
        None => Ok(()),
        Some(place) => Err(AlphabetError { offset: offset + place as u64, byte: data[place] }),
    }
}

/// Touches files on a thread that may block.
async fn on_files<T: Send + 'static>(
    service: &Service,
    touch: impl FnOnce(&Blobs) -> Result<T, BlobError> + Send + 'static,
) -> Result<T, Status> {
    let blobs = service.driver.blobs().clone();
    blocking(move || touch(&blobs)).await?.map_err(|error| status::of_blob(&error))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|_| status::defect())
}
