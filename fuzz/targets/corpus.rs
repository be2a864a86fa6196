//! Any bytes as a corpus: as an archive, as a text of the 27 symbols, as a text to be mapped to them.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use slalom_common::corpus::Text;
use slalom_common::corpus::archive::{is_zip, unpack};

const LIMIT: u64 = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    if is_zip(bytes)
        && let Ok(text) = unpack(Cursor::new(bytes), LIMIT)
    {
        assert!(text.len() as u64 <= LIMIT);
    }
    if let Ok(text) = Text::from_ascii(bytes) {
        assert_eq!(text.to_ascii(), bytes);
    }
    let text = Text::normalized(bytes);
    let again = Text::from_ascii(&text.to_ascii()).expect("of the 27 symbols");
    assert_eq!(again.sha256(), text.sha256());
});
