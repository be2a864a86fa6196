//! Which text a sweep trains on, as a spec or a command line names it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use slalom_common::id::{ContentHash, NotAHash};

/// A corpus by name, path or hash. `chars`, where given, takes the leading part of that length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CorpusChoice {
    /// `synthetic`, `synthetic:7`: made on the spot from a seed.
    Synthetic { seed: u64, chars: Option<u64> },
    /// `text8`: from the cache, where `slalom corpus fetch text8` puts it.
    Text8 { chars: Option<u64> },
    /// A path, relative to where `slalom` was typed.
    File { path: PathBuf, chars: Option<u64>, normalize: Normalize },
    /// `sha256:HEX`: a text in the cache.
    Cached { sha256: ContentHash, chars: Option<u64> },
}

/// What is done with a file's bytes outside the alphabet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Normalize {
    /// The first one is an error.
    #[default]
    No,
    /// They are mapped to it, the way text8 was made (SEMANTICS.md, Text).
    Yes,
}

/// What names no corpus.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum CorpusChoiceError {
    #[error("a corpus is `synthetic`, `synthetic:SEED`, `text8`, `sha256:HEX` or a path, not nothing")]
    Empty,
    #[error("`{0}` is not the seed of a synthetic corpus: a whole number from 0 to 2^64 - 1")]
    Seed(String),
    #[error(transparent)]
    Hash(#[from] NotAHash),
    #[error("`normalize` is for files: `{0}` is in the 27 symbols as it is")]
    NormalizeWithoutFile(String),
}

impl CorpusChoice {
    /// The leading `chars` characters of this corpus (`--corpus-chars`).
    pub(crate) fn with_chars(mut self, wanted: u64) -> Self {
        match &mut self {
            Self::Synthetic { chars, .. }
            | Self::Text8 { chars }
            | Self::File { chars, .. }
            | Self::Cached { chars, .. } => *chars = Some(wanted),
        }
        self
    }

    /// This file, mapped to the 27 symbols (`--normalize`).
    ///
    /// # Errors
    /// A corpus that is no file would ignore it, which is not what was asked for.
    pub(crate) fn with_normalize(self) -> Result<Self, CorpusChoiceError> {
        match self {
            Self::File { path, chars, .. } => Ok(Self::File { path, chars, normalize: Normalize::Yes }),
            other => Err(CorpusChoiceError::NormalizeWithoutFile(other.to_string())),
        }
    }
}

impl Default for CorpusChoice {
    fn default() -> Self {
        Self::Synthetic { seed: 1, chars: None }
    }
}

impl FromStr for CorpusChoice {
    type Err = CorpusChoiceError;

    fn from_str(text: &str) -> Result<Self, CorpusChoiceError> {
        match (text, text.split_once(':')) {
            ("", _) => Err(CorpusChoiceError::Empty),
            ("synthetic", _) => Ok(Self::default()),
            ("text8", _) => Ok(Self::Text8 { chars: None }),
            (_, Some(("synthetic", seed))) => match seed.parse() {
                Ok(seed) => Ok(Self::Synthetic { seed, chars: None }),
                Err(_) => Err(CorpusChoiceError::Seed(seed.to_owned())),
            },
            (_, Some(("sha256", hex))) => Ok(Self::Cached { sha256: hex.parse()?, chars: None }),
            _ => Ok(Self::File { path: text.into(), chars: None, normalize: Normalize::No }),
        }
    }
}

impl fmt::Display for CorpusChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Synthetic { seed: 1, .. } => f.write_str("synthetic"),
            Self::Synthetic { seed, .. } => write!(f, "synthetic:{seed}"),
            Self::Text8 { .. } => f.write_str("text8"),
            Self::File { path, .. } => path.display().fmt(f),
            Self::Cached { sha256, .. } => write!(f, "sha256:{sha256}"),
        }
    }
}
