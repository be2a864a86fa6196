//! Between domain and protocol: alone reads a message's fields.
//!
//! A file per `.proto`, each with `to_wire` and `from_wire` of the domain's own types. `to_wire` cannot fail;
//! `from_wire` trusts nothing: what it returns is within every bound that the rest of Slalom relies on, and what it
//! refuses is named by message and field. Nothing that a peer sends panics here.

pub mod grid;
pub mod sweep;
pub mod sweep_service;
pub mod worker_service;

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::axis::AxisError;
use crate::filter::FilterError;
use crate::grid::GridError;
use crate::id::{ContentHash, NotAName, Step};
use crate::settings::SettingsError;
use crate::sweep::SweepError;

/// The largest message either side decodes, in bytes: a grant of 200 leases with 10,000 wanted steps each is half
/// of it.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// The largest part of a blob in one message, in bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Training steps of any run are below this.
pub const STEP_END: u64 = 1 << 40;
/// Wanted steps of a run, at most.
pub const WANTED_STEPS_MAX: usize = 10_000;
/// Slots of a worker, at most.
pub const SLOTS_MAX: u32 = 4096;
/// Leases named in one message, at most.
pub const LEASES_MAX: usize = 100_000;
/// The longest line for people in a message, in bytes.
pub const DETAIL_BYTES_MAX: usize = 1_000;
/// The longest interval in a message: a year.
const DURATION_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;

/// What is wrong with a message from outside; fields are named as `Message.field` of the `.proto` files.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum WireError {
    /// A field or a `oneof` that must be there is not.
    #[error("`{field}` is absent, or of a kind that this build does not know")]
    Absent {
        /// Which.
        field: &'static str,
    },
    /// Zero, or a number that the enum does not have.
    #[error("`{field}` has no value {value}")]
    NotInEnum {
        /// Which.
        field: &'static str,
        /// As sent.
        value: i32,
    },
    /// A hash or an incarnation of another length.
    #[error("`{field}` has {found} bytes in place of {wanted}")]
    ByteCount {
        /// Which.
        field: &'static str,
        /// As sent.
        found: usize,
        /// As it must be.
        wanted: usize,
    },
    /// An integer out of its range.
    #[error("`{field}` is {value}: it must be from {min} to {max}")]
    OutOfRange {
        /// Which.
        field: &'static str,
        /// As sent.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// A float that is not finite, or not above zero where it must be.
    #[error("`{field}` is {value}: it must be {must_be}")]
    Float {
        /// Which.
        field: &'static str,
        /// As sent.
        value: f64,
        /// In words.
        must_be: &'static str,
    },
    /// Coefficients that no core could have.
    #[error(
        "`{field}` is no core's cost: each of its terms is finite and not below 0, and a step takes time"
    )]
    Cost {
        /// Which.
        field: &'static str,
    },
    /// Steps or leases that do not rise.
    #[error("`{field}` does not rise at its element {index}")]
    NotAscending {
        /// Which.
        field: &'static str,
        /// The first that is not above the one before it.
        index: usize,
    },
    /// A list or a text longer than any honest one.
    #[error("`{field}` is {found} long: at most {max}")]
    TooLong {
        /// Which.
        field: &'static str,
        /// As sent.
        found: usize,
        /// The most allowed.
        max: usize,
    },
    /// Not the name of anything.
    #[error("`{field}` is no name")]
    Name {
        /// Which.
        field: &'static str,
        /// Why.
        source: NotAName,
    },
    /// Training settings out of their range.
    #[error("`Family.training` cannot be trained with")]
    Settings(#[from] SettingsError),
    /// No axis of a grid.
    #[error("`{field}` is no axis")]
    Axis {
        /// Which.
        field: &'static str,
        /// Why.
        source: AxisError,
    },
    /// An expression that is no filter.
    #[error("`{field}` is no filter at its element {index}")]
    Filter {
        /// Which list.
        field: &'static str,
        /// Its element, from 0.
        index: usize,
        /// Why.
        source: FilterError,
    },
    /// Axes and filters that are no grid together.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// Blocks and settings that are no sweep together.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// A checkpoint beyond the first wanted step: resuming from it would leave that one unanswered for ever (I10).
    #[error("`Lease.resume` is at step {resume}, beyond the first wanted one, {wanted}")]
    ResumeOvertakes {
        /// The checkpoint's step.
        resume: Step,
        /// The first wanted step.
        wanted: Step,
    },
}

fn present<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Absent { field })
}

fn in_range(field: &'static str, value: u64, range: RangeInclusive<u64>) -> Result<u64, WireError> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(WireError::OutOfRange { field, value, min: *range.start(), max: *range.end() })
}

fn bytes<const N: usize>(field: &'static str, value: &[u8]) -> Result<[u8; N], WireError> {
    value.try_into().map_err(|_| WireError::ByteCount { field, found: value.len(), wanted: N })
}

/// The content that `field` names.
///
/// # Errors
/// If it is no SHA-256.
pub fn hash(field: &'static str, value: &[u8]) -> Result<ContentHash, WireError> {
    bytes(field, value).map(ContentHash::new)
}

fn step(field: &'static str, value: u64) -> Result<Step, WireError> {
    in_range(field, value, 0..=STEP_END - 1).map(Step::new)
}

fn finite(field: &'static str, value: f64) -> Result<f64, WireError> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(WireError::Float { field, value, must_be: "finite" })
}

fn text(field: &'static str, value: String, max: usize) -> Result<String, WireError> {
    if value.len() <= max {
        return Ok(value);
    }
    Err(WireError::TooLong { field, found: value.len(), max })
}

/// A duration of at least a millisecond: nothing here waits for nothing.
fn duration(field: &'static str, value_ms: u64) -> Result<Duration, WireError> {
    in_range(field, value_ms, 1..=DURATION_MS_MAX).map(Duration::from_millis)
}

/// The whole milliseconds of `duration`, within the bounds that [`duration`] reads.
fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, DURATION_MS_MAX)
}

fn no_longer_than<T>(field: &'static str, list: &[T], max: usize) -> Result<(), WireError> {
    if list.len() <= max {
        return Ok(());
    }
    Err(WireError::TooLong { field, found: list.len(), max })
}

fn ascending<T: PartialOrd>(field: &'static str, list: &[T]) -> Result<(), WireError> {
    match list.windows(2).position(|pair| pair[0] >= pair[1]) {
        None => Ok(()),
        Some(before) => Err(WireError::NotAscending { field, index: before + 1 }),
    }
}
