//! Any bytes as the checkpoint of a run: the state that they say, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slalom_common::checkpoint::Checkpoint;

#[path = "../run.rs"]
mod run;

fuzz_target!(|bytes: &[u8]| {
    let run = run::tiny();
    if let Ok(checkpoint) = Checkpoint::from_bytes(bytes, &run) {
        let written = checkpoint.to_bytes();
        let again = Checkpoint::from_bytes(&written, &run).expect("what was written is read");
        // Bytes, since a weight may be a NaN.
        assert_eq!(again.to_bytes(), written);
    }
});
