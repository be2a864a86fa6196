//! The thread that owns the store: commits, one after another and for as long as it takes, and checkpoints that are removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use slalom_common::id::ContentHash;
use slalom_common::log::fleet;
use tokio::sync::{mpsc, oneshot, watch};

use super::BATCH_MAX;
use crate::scheduler::ledger::Ledger;
use crate::scheduler::record::Record;
use crate::store::blobs::Blobs;
use crate::store::{Store, StoreError};

/// Between two tries of a commit that failed in a way that may pass.
const COMMIT_RETRY: Duration = Duration::from_millis(500);

/// Removes the checkpoints that no run could go on from: a crash came between their upload and its record, or between the
/// record of a newer one and their removal. Nobody is served yet, so none of them is about to be recorded.
pub(super) fn remove_unnamed(blobs: &Blobs, ledger: &Ledger) {
    let named: BTreeSet<ContentHash> = ledger.checkpoints().collect();
    match blobs.checkpoints() {
        Ok(here) => {
            for blob in here.into_iter().filter(|blob| !named.contains(blob)) {
                remove(blobs, blob);
            }
        }
        Err(error) => fleet::checkpoints_not_removed(None, &error),
    }
}

/// A checkpoint that stays costs space, not results.
fn remove(blobs: &Blobs, blob: ContentHash) {
    if let Err(error) = blobs.remove_checkpoint(blob) {
        fleet::checkpoints_not_removed(Some(blob), &error);
    }
}

/// What the store is asked to do.
pub(super) enum Job {
    Append { records: Vec<Record>, at: SystemTime, committed: oneshot::Sender<Result<(), StoreError>> },
    RemoveCheckpoint { blob: ContentHash },
}

/// Its jobs are done in their order; it ends with the last sender, or with a commit that cannot be made.
pub(super) fn start_store_thread(
    mut store: Box<dyn Store>,
    blobs: Arc<Blobs>,
    stall: watch::Sender<Option<String>>,
) -> (mpsc::Sender<Job>, std::thread::JoinHandle<()>) {
    let (jobs, mut received) = mpsc::channel(BATCH_MAX);
    let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
        while let Some(job) = received.blocking_recv() {
            match job {
                Job::Append { records, at, committed } => {
                    let outcome = append(store.as_mut(), &records, at, &stall);
                    let ends = outcome.is_err();
                    // Nobody waits any more only if the driver is over.
                    let _ = committed.send(outcome);
                    if ends {
                        return;
                    }
                }
                Job::RemoveCheckpoint { blob } => remove(&blobs, blob),
            }
        }
    });
    (jobs, thread.expect("the system has a thread for the store"))
}

/// Commits for as long as it takes, if waiting may help.
fn append(
    store: &mut dyn Store,
    records: &[Record],
    at: SystemTime,
    stall: &watch::Sender<Option<String>>,
) -> Result<(), StoreError> {
    loop {
        match store.append(records, at) {
            Err(error) if error.may_pass() => {
                // Once a stall, not once a try: the log may be on the same full disk.
                if stall.borrow().is_none() {
                    fleet::commit_failed(COMMIT_RETRY, &error);
                    stall.send_replace(Some(error.to_string()));
                }
                std::thread::sleep(COMMIT_RETRY);
            }
            outcome => {
                if stall.borrow().is_some() {
                    stall.send_replace(None);
                }
                return outcome;
            }
        }
    }
}
