//! Any text as an expression over the five names: a filter that has a value or an error at each point, or an error with help.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slalom_common::filter::{At, Filter};

fuzz_target!(|text: &str| {
    match Filter::compile(text) {
        Ok(filter) => {
            assert_eq!(filter.source(), text);
            for (nodes, seed) in [(1, 0), (64, 7), (u64::from(u32::MAX), u64::MAX)] {
                let at = At { nodes, batch_size: nodes, unrollings: 1, epochs: seed, seed };
                let first = filter.matches(&at).map_err(|error| error.to_string());
                assert_eq!(first, filter.matches(&at).map_err(|error| error.to_string()));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
