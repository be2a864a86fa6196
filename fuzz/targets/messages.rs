//! Any bytes as a message of the protocol, either way, workers' and people's: the first byte says which. What is understood says the
//! same when it is said again.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use slalom_common::answer::{Preview, RunRow, SweepStatus, TrialRow, WorkerRow};
use slalom_common::message::{CoordinatorMessage, WorkerMessage};
use slalom_common::sweep::Sweep;
use slalom_common::wire::WireError;
use slalom_common::wire::sweep_service::{RunsWanted, watch_interval};
use slalom_proto::v1;

fn check<W: Message + Default, T: PartialEq + Debug>(
    bytes: &[u8],
    read: impl Fn(W) -> Result<T, WireError>,
    write: impl Fn(&T) -> W,
) {
    let Ok(wire) = W::decode(bytes) else { return };
    match read(wire) {
        // A text, since a number that is none equals nothing, and since a filter is its source.
        Ok(message) => {
            let again = read(write(&message)).expect("what was understood is understood again");
            assert_eq!(format!("{again:?}"), format!("{message:?}"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 10 {
        0..=2 => check(bytes, WorkerMessage::from_wire, WorkerMessage::to_wire),
        3 | 4 => check(bytes, CoordinatorMessage::from_wire, CoordinatorMessage::to_wire),
        5 => check(bytes, Sweep::from_wire, Sweep::to_wire),
        6 => check(bytes, SweepStatus::from_wire, SweepStatus::to_wire),
        7 => {
            check(bytes, RunRow::from_wire, RunRow::to_wire);
            check(bytes, WorkerRow::from_wire, WorkerRow::to_wire);
        }
        8 => {
            check(bytes, |wire: v1::TrialRow| TrialRow::from_wire(&wire), TrialRow::to_wire);
            check(bytes, Preview::from_wire, |preview: &Preview| preview.to_wire());
        }
        _ => {
            if let Ok(wire) = v1::ListRunsRequest::decode(bytes) {
                let _ = RunsWanted::from_wire(wire).map_err(|error| error.to_string());
            }
            if let Ok(wire) = v1::WatchRequest::decode(bytes) {
                let _ = watch_interval(&wire).map_err(|error| error.to_string());
            }
        }
    }
});
