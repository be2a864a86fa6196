//! What a person names a corpus by, and the way from there to its text. Only the client reads paths: everyone
//! else knows a corpus by its hash.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::corpus::alphabet::AlphabetError;
use crate::corpus::archive::{self, ArchiveError};
use crate::corpus::cache::{Cache, CacheError};
use crate::corpus::synthetic::{self, Synthetic};
use crate::corpus::{TEXT_BYTES_MAX, Text, text8};
use crate::id::{ContentHash, NotAHash};

/// A corpus as a spec or a command line names it. `chars`, where given, takes the leading part of that length,
/// counted after normalization.
///
/// It prints as the command line takes it, which says neither `chars` nor `normalize`: those are flags of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// `synthetic`, `synthetic:7`: made on the spot from a seed.
    Synthetic {
        /// Which lexicon and which walk over it; 1 where none is given.
        seed: u64,
        /// [`synthetic::CHARS`] where none is given; any length can be made.
        chars: Option<u64>,
    },
    /// `text8`: from the cache, where `slalom corpus fetch text8` puts it.
    Text8 {
        /// The leading part, else all.
        chars: Option<u64>,
    },
    /// A path: a file of text, or a zip archive of one, told apart by content.
    File {
        /// Where it is.
        path: PathBuf,
        /// The leading part, else all.
        chars: Option<u64>,
        /// What is done with bytes outside the alphabet.
        normalize: Normalize,
    },
    /// `sha256:HEX`: a text in the cache.
    Cached {
        /// Its hash.
        sha256: ContentHash,
        /// The leading part, else all.
        chars: Option<u64>,
    },
}

/// What is done with a file's bytes outside the alphabet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Normalize {
    /// The first one is an error.
    #[default]
    No,
    /// They are mapped to it, the way text8 was made (SEMANTICS.md, Text).
    Yes,
}

/// What names no corpus.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SourceError {
    /// No text at all.
    #[error("a corpus is `synthetic`, `synthetic:SEED`, `text8`, `sha256:HEX` or a path, not nothing")]
    Empty,
    /// What follows `synthetic:` is no u64.
    #[error("`{0}` is not the seed of a synthetic corpus: a whole number from 0 to 2^64 - 1")]
    Seed(String),
    /// What follows `sha256:` is no hash.
    #[error(transparent)]
    Hash(#[from] NotAHash),
    /// Only a file can have bytes outside the alphabet.
    #[error("`normalize` is for files: `{0}` is in the 27 symbols as it is")]
    NormalizeWithoutFile(String),
}

/// Why a source gave no text.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// No such file, no permission, or the disk failed.
    #[error("cannot read the corpus `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A folder was named.
    #[error("the corpus `{path}` is a folder, not a text or a zip archive")]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A file without a character in it.
    #[error("the corpus `{path}` is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// More than [`TEXT_BYTES_MAX`].
    #[error("the corpus `{path}` is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// A byte outside the 27 symbols.
    #[error("the corpus `{path}` is not a text of the 27 symbols")]
    Alphabet {
        /// The file.
        path: PathBuf,
        /// Which byte.
        source: AlphabetError,
    },
    /// A zip archive that gives no text.
    #[error("the corpus `{path}` cannot be unpacked")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why not.
        source: ArchiveError,
    },
    /// `chars` was zero, or more than the text has, or more than a text may have.
    #[error("`chars` is {wanted}: the corpus `{corpus}` gives from 1 to {chars}")]
    Chars {
        /// The corpus, as it is typed.
        corpus: String,
        /// The most it gives.
        chars: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// Only a cache has it, and there is none.
    #[error("the corpus `{corpus}` is in a cache, and there is no folder for one")]
    NoCache {
        /// The corpus, as it is typed.
        corpus: String,
    },
    /// text8 was never fetched.
    #[error("text8 is not in the cache `{cache}`")]
    Text8NotFetched {
        /// The cache's folder.
        cache: PathBuf,
    },
    /// No text of this hash is here.
    #[error("no corpus sha256:{sha256} in the cache `{cache}`")]
    NotCached {
        /// The hash that was named.
        sha256: ContentHash,
        /// The cache's folder.
        cache: PathBuf,
    },
    /// The cache failed, or holds a damaged file.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Source {
    /// The leading `chars` characters of this corpus (`--corpus-chars`).
    #[must_use]
    pub fn with_chars(mut self, wanted: u64) -> Self {
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
    /// A source that is no file would ignore it, which is not what was asked for.
    pub fn with_normalize(self) -> Result<Self, SourceError> {
        match self {
            Self::File { path, chars, normalize: _ } => {
                Ok(Self::File { path, chars, normalize: Normalize::Yes })
            }
            other => Err(SourceError::NormalizeWithoutFile(other.to_string())),
        }
    }

    /// The final text: made, read and unpacked, normalized if so wished, and cut to `chars`. Who has no cache can load what
    /// is in none.
    ///
    /// # Errors
    /// See [`CorpusError`]; each names the path or the hash.
    pub fn load(&self, cache: Option<&Cache>) -> Result<Text, CorpusError> {
        let cache = || cache.ok_or_else(|| CorpusError::NoCache { corpus: self.to_string() });
        match self {
            Self::Synthetic { seed, chars } => match chars.unwrap_or(synthetic::CHARS) {
                wanted @ 1..=TEXT_BYTES_MAX => Ok(Synthetic::new(*seed).generate(wanted)),
                wanted => Err(self.wrong_chars(TEXT_BYTES_MAX, wanted)),
            },
            Self::Text8 { chars } => {
                let cache = cache()?;
                let not_fetched = || CorpusError::Text8NotFetched { cache: cache.folder().to_owned() };
                let sha256 = text8::cached(cache)?.ok_or_else(not_fetched)?;
                self.leading(cache.get(sha256)?.ok_or_else(not_fetched)?, *chars)
            }
            Self::File { path, chars, normalize } => {
                let bytes = read(path, TEXT_BYTES_MAX)?;
                let text = match normalize {
                    Normalize::Yes => Text::normalized(&bytes),
                    Normalize::No => Text::from_ascii(&bytes)
                        .map_err(|source| CorpusError::Alphabet { path: path.clone(), source })?,
                };
                self.leading(text, *chars)
            }
            &Self::Cached { sha256, chars } => {
                let cache = cache()?;
                let text = cache.get(sha256)?;
                let not_cached = || CorpusError::NotCached { sha256, cache: cache.folder().to_owned() };
                self.leading(text.ok_or_else(not_cached)?, chars)
            }
        }
    }

    fn leading(&self, text: Text, chars: Option<u64>) -> Result<Text, CorpusError> {
        match chars {
            None => Ok(text),
            Some(0) => Err(self.wrong_chars(text.chars(), 0)),
            Some(wanted) => text.leading(wanted).ok_or_else(|| self.wrong_chars(text.chars(), wanted)),
        }
    }

    fn wrong_chars(&self, chars: u64, wanted: u64) -> CorpusError {
        CorpusError::Chars { corpus: self.to_string(), chars, wanted }
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::Synthetic { seed: synthetic::SEED, chars: None }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        if text == "synthetic" {
            return Ok(Self::default());
        }
        if text == "text8" {
            return Ok(Self::Text8 { chars: None });
        }
        if let Some(seed) = text.strip_prefix("synthetic:") {
            let seed = seed.parse().map_err(|_| SourceError::Seed(seed.to_owned()))?;
            return Ok(Self::Synthetic { seed, chars: None });
        }
        if let Some(hex) = text.strip_prefix("sha256:") {
            return Ok(Self::Cached { sha256: hex.parse()?, chars: None });
        }
        Ok(Self::File { path: text.into(), chars: None, normalize: Normalize::No })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Synthetic { seed: synthetic::SEED, .. } => f.write_str("synthetic"),
            Self::Synthetic { seed, .. } => write!(f, "synthetic:{seed}"),
            Self::Text8 { .. } => f.write_str("text8"),
            Self::Cached { sha256, .. } => write!(f, "sha256:{sha256}"),
            Self::File { path, .. } => {
                // A file may be called `text8`; typed so, it would be the corpus of that name.
                let typed = path.display().to_string();
                match typed.parse() {
                    Ok(Self::File { .. }) => f.write_str(&typed),
                    Ok(_) | Err(_) => write!(f, "./{typed}"),
                }
            }
        }
    }
}

/// The text in the file at `path`, unpacked if it is a zip archive: from 1 to `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, CorpusError> {
    let unreadable = |source| CorpusError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(CorpusError::Folder { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    (&file).take(4).read_to_end(&mut bytes).map_err(unreadable)?;
    if archive::is_zip(&bytes) {
        file.rewind().map_err(unreadable)?;
        bytes = archive::unpack(BufReader::new(file), limit)
            .map_err(|source| CorpusError::Archive { path: path.to_owned(), source })?;
    } else {
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > limit {
            return Err(CorpusError::TooLarge { path: path.to_owned(), limit });
        }
    }
    if bytes.is_empty() {
        return Err(CorpusError::Empty { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::corpus::archive::samples;

    /// A folder with a file `name` of this content, as a source, and the folder's cache.
    fn file(name: &str, content: &[u8]) -> (TempDir, Source, Cache) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        fs::write(&path, content).expect("the folder is writable");
        let cache = Cache::new(folder.path().join("cache"));
        (folder, Source::File { path, chars: None, normalize: Normalize::No }, cache)
    }

    fn ascii(text: &Text) -> String {
        String::from_utf8(text.to_ascii()).expect("ASCII")
    }

    #[test]
    fn a_source_prints_as_it_is_typed() {
        let hash = format!("sha256:{}", "0a".repeat(32));
        for typed in ["synthetic", "synthetic:7", "text8", hash.as_str(), "a/b.zip", "./text8", "text8.zip"] {
            let source: Source = typed.parse().expect(typed);
            assert_eq!(source.to_string(), typed);
        }
        assert_eq!("synthetic:1".parse(), Ok(Source::default()));
        assert_eq!("synthetic".parse(), Ok(Source::default()));
    }

    #[test]
    fn a_file_named_like_a_corpus_prints_so_that_it_stays_a_file() {
        for name in ["text8", "synthetic", "synthetic:x", "sha256:x"] {
            let source = Source::File { path: name.into(), chars: None, normalize: Normalize::No };
            assert!(matches!(source.to_string().parse(), Ok(Source::File { .. })), "{source}");
        }
    }

    #[test]
    fn what_names_no_corpus_is_refused() {
        assert_eq!("".parse::<Source>(), Err(SourceError::Empty));
        for seed in ["", "x", "-1", "18446744073709551616"] {
            let refused = format!("synthetic:{seed}").parse::<Source>();
            assert_eq!(refused, Err(SourceError::Seed(seed.to_owned())));
        }
        assert!(matches!("sha256:abc".parse::<Source>(), Err(SourceError::Hash(_))));
        assert!(matches!(Source::default().with_normalize(), Err(SourceError::NormalizeWithoutFile(_))));
    }

    #[test]
    fn a_text_and_a_zip_of_it_are_the_same_corpus_whatever_the_file_is_called() {
        let (_folder, plain, cache) = file("plain.zip", b"down the hill");
        let (_other, zipped, _) = file("zipped.txt", &samples::zip(&[("t", b"down the hill")]));
        let plain = plain.load(Some(&cache)).expect("it is a text");
        assert_eq!(ascii(&plain), "down the hill");
        assert_eq!(zipped.load(Some(&cache)).expect("it is an archive of a text"), plain);
    }

    #[test]
    fn chars_counts_after_normalization_and_a_shorter_corpus_is_an_error() {
        let (_folder, source, cache) = file("lines.txt", b"Line 1\nLine 2\n");
        let refused = source.load(Some(&cache));
        assert!(
            matches!(&refused, Err(CorpusError::Alphabet { source, .. }) if source.offset == 0),
            "{refused:?}"
        );
        let source = source.with_normalize().expect("it is a file");
        let text = |chars| source.clone().with_chars(chars).load(Some(&cache));
        assert_eq!(ascii(&text(18).expect("18 characters")), "line one line two ");
        assert_eq!(ascii(&text(9).expect("9 characters")), "line one ");
        for wanted in [0, 19, u64::MAX] {
            let refused = text(wanted);
            assert!(matches!(refused, Err(CorpusError::Chars { chars: 18, .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_corpus_is_refused_by_its_path() {
        let (folder, empty, cache) = file("empty.txt", b"");
        let (_other, hollow, _) = file("hollow.zip", &samples::zip(&[("t", b"")]));
        let (_third, two, _) = file("two.zip", &samples::zip(&[("a", b"a"), ("b", b"b")]));
        let at = |path: PathBuf| Source::File { path, chars: None, normalize: Normalize::No };
        let absent = at(folder.path().join("absent.txt"));
        let directory = at(folder.path().to_owned());

        assert!(matches!(empty.load(Some(&cache)), Err(CorpusError::Empty { .. })));
        assert!(matches!(hollow.load(Some(&cache)), Err(CorpusError::Empty { .. })));
        assert!(matches!(
            two.load(Some(&cache)),
            Err(CorpusError::Archive { source: ArchiveError::Members(2), .. })
        ));
        assert!(matches!(
            absent.load(Some(&cache)),
            Err(CorpusError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound
        ));
        assert!(matches!(directory.load(Some(&cache)), Err(CorpusError::Folder { .. })));
        for source in [empty, hollow, two, absent, directory] {
            let error = source.load(Some(&cache)).expect_err("refused above");
            assert!(error.to_string().contains(&source.to_string()), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_without_end_is_refused_at_the_limit() {
        let refused = read(Path::new("/dev/zero"), 1000);
        assert!(matches!(refused, Err(CorpusError::TooLarge { limit: 1000, .. })), "{refused:?}");
    }

    #[test]
    fn a_cached_corpus_is_named_by_its_hash_and_an_absent_one_is_an_error() {
        let (_folder, source, cache) = file("hill.txt", b"down the hill");
        let text = source.load(Some(&cache)).expect("it is a text");
        let cached: Source = format!("sha256:{}", text.sha256()).parse().expect("a hash");
        assert!(matches!(cached.load(Some(&cache)), Err(CorpusError::NotCached { .. })));
        cache.put(&text).expect("the folder is writable");
        assert_eq!(cached.load(Some(&cache)).expect("just put"), text);
        assert_eq!(ascii(&cached.with_chars(4).load(Some(&cache)).expect("just put")), "down");
    }

    #[test]
    fn text8_that_was_not_fetched_is_told_from_every_other_error() {
        let (_folder, _, cache) = file("unused.txt", b"");
        let error = Source::Text8 { chars: None }.load(Some(&cache)).expect_err("the cache is empty");
        assert!(matches!(error, CorpusError::Text8NotFetched { .. }));
    }

    #[test]
    fn a_synthetic_corpus_has_the_length_that_was_asked_for() {
        let cache = Cache::new("/nonexistent");
        let text = Source::default().with_chars(12_345).load(Some(&cache)).expect("any length can be made");
        assert_eq!(text.chars(), 12_345);
        for wanted in [0, TEXT_BYTES_MAX + 1, u64::MAX] {
            let refused = Source::default().with_chars(wanted).load(Some(&cache));
            assert!(matches!(refused, Err(CorpusError::Chars { .. })), "{refused:?}");
        }
    }

    /// The head of text8 that the project's shared folder holds: real text through the real door.
    #[test]
    fn the_head_of_text8_loads_from_its_archive() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/text8-head.zip");
        if !path.exists() {
            eprintln!("SKIPPED the_head_of_text8_loads_from_its_archive: ../shared is absent");
            return;
        }
        let source = Source::File { path, chars: Some(50), normalize: Normalize::No };
        let text = source.load(None).expect("text8 has the 27 symbols");
        assert!(ascii(&text).starts_with(" anarchism originated"), "{}", ascii(&text));
    }

    proptest! {
        #[test]
        fn loading_arbitrary_bytes_never_panics(mut bytes: Vec<u8>, head in prop::sample::select(vec![
            b"".as_slice(), b"PK\x03\x04", b"PK\x05\x06",
        ])) {
            bytes.splice(0..0, head.iter().copied());
            let (_folder, source, cache) = file("noise", &bytes);
            let _ = source.load(Some(&cache));
            let normalized = source.with_normalize().expect("it is a file").load(Some(&cache));
            prop_assert_eq!(normalized.is_ok(), !bytes.is_empty() && head.is_empty());
        }
    }
}
