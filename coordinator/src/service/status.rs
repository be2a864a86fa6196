//! The only place where an error becomes a gRPC status: its code says what the caller may do, its message says why.
//!
//! Which code means what stands at each call of the `.proto` files. A message is one line with its causes; remedies are
//! the client's to add, which knows what was typed.

use std::error::Error;

use slalom_common::chain::Chain;
use slalom_common::corpus::alphabet::AlphabetError;
use slalom_common::difference::differences;
use slalom_common::filter::EvalError;
use slalom_common::id::{ContentHash, NumericsVersion, SweepName, WorkerName};
use slalom_common::nearest::by_nearness;
use slalom_common::sweep::{ExtendError, Sweep};
use slalom_common::wire::WireError;
use tonic::Status;

use super::session::Refusal;
use crate::driver::Unanswered;
use crate::store::blobs::BlobError;

/// The longest message, in bytes: statuses travel in headers, whose size HTTP/2 peers bound.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Names that a person is offered in place of one that does not exist.
const NAMES_MAX: usize = 5;

/// `error` and its causes on one line.
fn line(error: &dyn Error) -> String {
    shortened(Chain(error).to_string())
}

fn shortened(mut line: String) -> String {
    if line.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&end| line.is_char_boundary(end));
        line.truncate(end.unwrap_or(0));
        line.push_str("..");
    }
    line
}

/// A message that is not of this protocol, or says what nobody could do.
pub(super) fn of_wire(error: &WireError) -> Status {
    Status::invalid_argument(line(error))
}

/// A worker's stream that is ended by what came on it.
pub(super) fn of_refusal(refusal: Refusal) -> Status {
    match refusal {
        Refusal::OtherProtocol { .. }
        | Refusal::OtherNumerics { .. }
        | Refusal::NoKnownRun { .. }
        | Refusal::OtherBits { .. } => Status::failed_precondition(line(&refusal)),
        Refusal::NotGreeted | Refusal::GreetedTwice | Refusal::Gap { .. } | Refusal::Closed => {
            Status::invalid_argument(line(&refusal))
        }
    }
}

/// The coordinator is going away, and another may come; or its disk takes nothing for now.
pub(super) fn of_stopped(why: impl Into<Unanswered>) -> Status {
    let why = why.into();
    match why {
        Unanswered::Stopped(_) => Status::unavailable(line(&why)),
        Unanswered::Stalled(_) => Status::resource_exhausted(line(&why)),
    }
}

/// A stream that its worker opened and then said nothing on.
pub(super) fn no_hello() -> Status {
    Status::unavailable("no hello came")
}

/// A stream that a newer one of the same incarnation took over, or whose session was given up.
pub(super) fn superseded() -> Status {
    Status::unavailable("a newer stream took over, or the session was silent for too long: greet again")
}

/// A stream whose worker does not read.
pub(super) fn not_reading() -> Status {
    Status::resource_exhausted("the worker did not read what it was sent")
}

/// A name without a sweep, and the names there are, the nearest first.
pub(super) fn no_such_sweep(name: &SweepName, known: &[SweepName]) -> Status {
    nobody_called("sweep", name.as_str(), known.iter().map(SweepName::as_str))
}

/// A name without a worker, and the names there are, the nearest first.
pub(super) fn no_such_worker(name: &WorkerName, known: &[WorkerName]) -> Status {
    nobody_called("worker", name.as_str(), known.iter().map(WorkerName::as_str))
}

fn nobody_called<'a>(what: &str, name: &'a str, known: impl Iterator<Item = &'a str>) -> Status {
    let nearest = by_nearness(name, known);
    let message = match (nearest.len(), &nearest[..nearest.len().min(NAMES_MAX)]) {
        (0, _) => format!("no {what} is called `{name}`: there is none yet"),
        (1..=NAMES_MAX, shown) => format!("no {what} is called `{name}`: there is {}", quoted(shown)),
        (all, shown) => {
            format!("no {what} is called `{name}`: there is {} and {} more", quoted(shown), all - shown.len())
        }
    };
    Status::not_found(shortened(message))
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// A name that another formula has, and the keys in which the two differ: here, and as given.
pub(super) fn name_taken(existing: &Sweep, given: &Sweep) -> Status {
    let keys: Vec<String> = differences(existing, given).iter().map(ToString::to_string).collect();
    let name = existing.name();
    Status::already_exists(shortened(format!(
        "`{name}` is another sweep here; they differ (here / given) in {}",
        keys.join(", ")
    )))
}

/// A sweep that one formula cannot extend; as here, and as given.
pub(super) fn not_extended(error: &ExtendError, existing: &Sweep, given: &Sweep) -> Status {
    match error {
        ExtendError::AsksOtherwise => {
            let outside = differences(existing, given).into_iter().filter(|one| !one.is_of_grid());
            let keys: Vec<String> = outside.map(|one| one.to_string()).collect();
            Status::failed_precondition(shortened(format!(
                "only the grid of `{}` can be extended, the rest would make it another sweep; they differ (here / given) in {}",
                existing.name(),
                keys.join(", ")
            )))
        }
        ExtendError::Sweep(_) => Status::invalid_argument(line(error)),
    }
}

/// A sweep that is not extended while it is cancelled.
pub(super) fn is_cancelled(sweep: &SweepName) -> Status {
    Status::failed_precondition(format!("`{sweep}` is cancelled: submit it again first"))
}

/// A sweep that this build cannot give the bits of.
pub(super) fn other_numerics(wanted: NumericsVersion, ours: NumericsVersion) -> Status {
    Status::failed_precondition(format!(
        "the sweep is of numerics version {wanted}, and this coordinator is of version {ours}"
    ))
}

/// A coordinator that serves one sweep.
pub(super) fn takes_no_other(only: &SweepName) -> Status {
    Status::unimplemented(format!("this is `slalom run` of `{only}`, which takes no other sweep"))
}

/// A worker that its own process decides about.
pub(super) fn keeps_its_worker(only: &SweepName) -> Status {
    Status::failed_precondition(format!(
        "this is `slalom run` of `{only}`: Ctrl-C there stores what its worker trains and ends both"
    ))
}

/// A sweep whose corpus was not put here first.
pub(super) fn no_corpus(corpus: ContentHash) -> Status {
    Status::failed_precondition(format!("corpus {corpus} is not here"))
}

/// A sweep that counts its corpus otherwise than the corpus itself.
pub(super) fn other_length(corpus: ContentHash, said: u64, found: u64) -> Status {
    Status::failed_precondition(format!("corpus {corpus} has {found} characters, not {said}"))
}

/// Bytes that cannot be stored or read.
pub(super) fn of_blob(error: &BlobError) -> Status {
    match error {
        BlobError::OtherSize { .. } | BlobError::OtherHash { .. } => Status::invalid_argument(line(error)),
        BlobError::OverBudget { .. } => Status::failed_precondition(line(error)),
        BlobError::TooLarge { .. } | BlobError::DiskFull(_) => Status::resource_exhausted(line(error)),
        BlobError::Io { .. } => Status::internal(line(error)),
    }
}

/// Bytes that are here and cannot be read.
pub(super) fn unreadable_blob(error: &std::io::Error) -> Status {
    Status::internal(line(error))
}

/// Bytes that are not here.
pub(super) fn no_blob(blob: ContentHash) -> Status {
    Status::not_found(format!("no bytes of the name {blob} are here"))
}

/// A corpus that is none: `error` says where.
pub(super) fn not_a_text(error: &AlphabetError) -> Status {
    Status::invalid_argument(line(error))
}

/// An upload that is not of its protocol.
pub(super) fn bad_upload(why: &'static str) -> Status {
    Status::invalid_argument(why)
}

/// An upload of which nothing came for too long.
pub(super) fn stalled_upload() -> Status {
    Status::unavailable("nothing more of the upload came")
}

/// A filter without a value at some run.
pub(super) fn of_eval(error: &EvalError) -> Status {
    Status::invalid_argument(format!("`ListRunsRequest.where` has no value at some run: {}", line(error)))
}

/// Work on another thread that panicked: a defect here, and not of what was asked.
pub(super) fn defect() -> Status {
    Status::internal("a defect of the coordinator: see its log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<SweepName> {
        names.iter().map(|name| name.parse().expect("a name")).collect()
    }

    #[test]
    fn a_name_that_does_not_exist_is_answered_by_the_nearest_of_those_that_do() {
        let asked = &names(&["ski-slop"])[0];
        let said = |known: &[&str]| no_such_sweep(asked, &names(known)).message().to_owned();
        assert_eq!(said(&[]), "no sweep is called `ski-slop`: there is none yet");
        assert_eq!(
            said(&["wide", "ski-slope"]),
            "no sweep is called `ski-slop`: there is `ski-slope`, `wide`"
        );
        let many = said(&["a", "b", "c", "d", "e", "f", "ski-slope"]);
        assert!(many.contains("there is `ski-slope`, ") && many.ends_with(" and 2 more"), "{many}");
    }

    #[test]
    fn a_message_is_cut_between_two_characters() {
        let long = "é".repeat(MESSAGE_BYTES_MAX);
        let cut = shortened(format!("x{long}"));
        assert!(cut.len() <= MESSAGE_BYTES_MAX + 2 && cut.ends_with("é.."), "{}", cut.len());
    }

    #[test]
    fn causes_follow_their_effect_on_one_line() {
        let name = "No".parse::<SweepName>().expect_err("no name");
        let status = of_wire(&WireError::Name { field: "WatchRequest.sweep", source: name });
        assert!(status.message().starts_with("`WatchRequest.sweep` is no name: `No` is not"), "{status}");
    }
}
