//! Texts of 27 symbols, by the hash of their content: where one comes from, and where it is kept.
//!
//! A [`Text`] is final: whoever holds one need not check it again. It is made from bytes ([`alphabet`]), from a
//! [`source`] that a person names, or read from the [`cache`]. `text8` alone speaks to a network, and only when
//! a person asks it to.

use std::fmt;
use std::sync::Arc;

use crate::corpus::alphabet::AlphabetError;
use crate::id::ContentHash;

pub mod alphabet;
pub mod archive;
pub mod cache;
pub mod source;
pub mod synthetic;
pub mod text8;

/// The most bytes that are read as one text, from a file or out of an archive: ten times text8, and little
/// enough that a mistaken path or a zip bomb is refused before it fills a machine's memory.
pub const TEXT_BYTES_MAX: u64 = 1 << 30;

/// A text in the 27 symbols, with its name. Clones share the symbols.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// Ids as SEMANTICS.md gives them: 0 is the space, 1 to 26 are `a` to `z`.
    symbols: Arc<[u8]>,
    /// Of the text in ASCII, so that `sha256sum` of a cached file says the same.
    sha256: ContentHash,
}

impl Text {
    /// The text of these bytes, each of which must be a space or one of `a` to `z`.
    ///
    /// # Errors
    /// Names the first byte that is neither.
    pub fn from_ascii(ascii: &[u8]) -> Result<Self, AlphabetError> {
        let symbols = alphabet::symbols(ascii)?;
        Ok(Self { symbols: symbols.into(), sha256: ContentHash::of(ascii) })
    }

    /// Any bytes mapped to the 27 symbols the way text8 was made (the option `normalize`; SEMANTICS.md, Text).
    pub fn normalized(bytes: &[u8]) -> Self {
        let ascii = alphabet::normalized(bytes);
        Self::from_ascii(&ascii).expect("normalized bytes are spaces and a to z")
    }

    /// The id of each character, 0 to 26.
    pub fn symbols(&self) -> &Arc<[u8]> {
        &self.symbols
    }

    /// How many characters there are.
    pub fn chars(&self) -> u64 {
        self.symbols.len() as u64
    }

    /// The SHA-256 of [`Text::to_ascii`]: the corpus's name everywhere.
    pub fn sha256(&self) -> ContentHash {
        self.sha256
    }

    /// The text as it would stand in a file: one byte a character, nothing after the last.
    pub fn to_ascii(&self) -> Vec<u8> {
        self.symbols.iter().map(|&symbol| alphabet::ascii(symbol)).collect()
    }

    /// The first `chars` characters (a spec's `chars = N`); `None` if there are fewer.
    pub fn leading(&self, chars: u64) -> Option<Self> {
        if chars == self.chars() {
            return Some(self.clone());
        }
        let symbols = self.symbols.get(..usize::try_from(chars).ok()?)?;
        Some(Self::from_symbols(symbols.to_vec()))
    }

    /// The text of ids that are known to be in 0..=26.
    fn from_symbols(symbols: Vec<u8>) -> Self {
        let ascii: Vec<u8> = symbols.iter().map(|&symbol| alphabet::ascii(symbol)).collect();
        Self { sha256: ContentHash::of(&ascii), symbols: symbols.into() }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} chars, {})", self.chars(), self.sha256)
    }
}
