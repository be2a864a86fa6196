//! Any bytes as the body of a record of the store: a record that is written as it was read, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slalom_coordinator::store::codec::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = decode(bytes) {
        let again = decode(&encode(&record)).expect("what was written is read");
        // A text, since a loss may be no number, which equals nothing.
        assert_eq!(format!("{again:?}"), format!("{record:?}"));
    }
});
