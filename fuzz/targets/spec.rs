//! Any text as a spec file: a spec, or an error that says what, where and what to do.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "of the program's module only the reader of files is called")]
#[path = "../../src/spec/mod.rs"]
mod spec;

fuzz_target!(|text: &str| {
    if let Err(error) = spec::Spec::from_toml(Path::new("a.toml"), text) {
        assert!(!error.to_string().is_empty());
        let _ = error.help();
    }
});
