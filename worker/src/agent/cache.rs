//! Corpora by hash: from memory, where all slots share one copy; from the cache folder; from the coordinator.

use std::sync::{Arc, Mutex, PoisonError};

use slalom_common::corpus::alphabet::AlphabetError;
use slalom_common::corpus::cache::Cache;
use slalom_common::corpus::{TEXT_BYTES_MAX, Text};
use slalom_common::id::ContentHash;
use slalom_common::log::worker as log;

use super::blobs::{BlobError, Blobs};
use super::slot::{StopFlag, Stopped};

/// Why a corpus could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The lease was told to end first.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Nobody has it.
    #[error("the corpus could not be fetched")]
    Fetch(#[from] BlobError),
    /// It is no text of 27 symbols.
    #[error("the corpus {corpus} is not a text")]
    NotAText {
        /// As asked for.
        corpus: ContentHash,
        /// Where it is not.
        source: AlphabetError,
    },
}

/// The texts that this worker has.
#[derive(Debug)]
pub struct Corpora {
    files: Cache,
    blobs: Blobs,
    runtime: tokio::runtime::Handle,
    /// Those that a slot trains on, and the last one. Locked while one is fetched: a second slot then waits for the
    /// same text rather than fetch it too.
    shared: Mutex<Vec<Text>>,
}

impl Corpora {
    /// Texts in `files`, or fetched with `blobs` on `runtime`.
    pub const fn new(files: Cache, blobs: Blobs, runtime: tokio::runtime::Handle) -> Self {
        Self { files, blobs, runtime, shared: Mutex::new(Vec::new()) }
    }

    /// The text of this hash; blocks until it is here, or `stop` is told, or it cannot be had.
    pub(super) fn text(&self, corpus: ContentHash, stop: &StopFlag) -> Result<Text, CorpusError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = shared.iter().find(|text| text.sha256() == corpus) {
            return Ok(text.clone());
        }
        // Room for another: what no slot trains on any more is in the folder, should it be wanted again.
        shared.retain(|text| Arc::strong_count(text.symbols()) > 1);
        let text = match self.kept(corpus) {
            Some(text) => text,
            None => self.fetch(corpus, stop)?,
        };
        shared.push(text.clone());
        Ok(text)
    }

    /// From the folder. A file that is damaged or unreadable is named in the log and fetched again.
    fn kept(&self, corpus: ContentHash) -> Option<Text> {
        self.files.get(corpus).unwrap_or_else(|error| {
            log::corpus_refused(corpus, &error);
            None
        })
    }

    fn fetch(&self, corpus: ContentHash, stop: &StopFlag) -> Result<Text, CorpusError> {
        let ascii = self.runtime.block_on(stop.unless_told(self.blobs.get(corpus, TEXT_BYTES_MAX)))??;
        let text = Text::from_ascii(&ascii).map_err(|source| CorpusError::NotAText { corpus, source })?;
        log::corpus_fetched(corpus, text.chars());
        // A full disk costs another transfer one day, not this run.
        if let Err(error) = self.files.put(&text) {
            log::corpus_not_kept(corpus, &error);
        }
        Ok(text)
    }
}
