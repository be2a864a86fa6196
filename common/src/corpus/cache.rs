//! A folder of texts, each a file `<sha256>.txt` in ASCII. It is a cache: losing a file costs a download or an
//! upload, and a file whose content is not what its name says is refused, never used.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::corpus::{TEXT_BYTES_MAX, Text};
use crate::id::ContentHash;

/// Texts by hash in one folder, which several processes may share: files appear whole, and never change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// A cached text without its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The text's name, as the file's name claims it.
    pub sha256: ContentHash,
    /// Its length, as the file's length claims it.
    pub chars: u64,
}

/// Why the cache could not serve.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file or the folder could not be read.
    #[error("cannot read `{path}` in the corpus cache")]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file could not be stored; nothing half-written is left.
    #[error("cannot write `{path}` in the corpus cache")]
    Write {
        /// What was written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The content is not what the name says: disk, or somebody, has changed it.
    #[error("`{path}` in the corpus cache is corrupt; remove it and fetch or submit its text again")]
    Corrupt {
        /// The file to remove.
        path: PathBuf,
    },
}

impl Cache {
    /// The cache in `folder`, which is made when first written to.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the text of this hash is, if it is there.
    pub fn path(&self, sha256: ContentHash) -> PathBuf {
        self.folder.join(format!("{sha256}.txt"))
    }

    /// Keeps `text`, durably. One that is there already stays; a corrupt one is replaced.
    ///
    /// # Errors
    /// [`CacheError::Write`], or [`CacheError::Read`] of what is there.
    pub fn put(&self, text: &Text) -> Result<(), CacheError> {
        match self.get(text.sha256()) {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(CacheError::Corrupt { .. }) => {
                self.write(&self.path(text.sha256()), &text.to_ascii())
            }
            Err(error) => Err(error),
        }
    }

    /// The text of this hash, checked against it; `None` if it is not here.
    ///
    /// # Errors
    /// [`CacheError::Corrupt`] if the file is not that text, [`CacheError::Read`] if it cannot be read.
    pub fn get(&self, sha256: ContentHash) -> Result<Option<Text>, CacheError> {
        let path = self.path(sha256);
        let Some(ascii) = read(&path, TEXT_BYTES_MAX)? else {
            return Ok(None);
        };
        match Text::from_ascii(&ascii) {
            Ok(text) if text.sha256() == sha256 => Ok(Some(text)),
            Ok(_) | Err(_) => Err(CacheError::Corrupt { path }),
        }
    }

    /// What is here, in order of hash; contents are not read.
    ///
    /// # Errors
    /// [`CacheError::Read`]; a folder that does not exist yet is an empty cache.
    pub fn list(&self) -> Result<Vec<Entry>, CacheError> {
        let unreadable = |source| CacheError::Read { path: self.folder.clone(), source };
        let files = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(unreadable)?,
        };
        let mut entries = Vec::new();
        for file in files {
            let file = file.map_err(unreadable)?;
            let name = file.file_name();
            let sha256 = name.to_str().and_then(|name| name.strip_suffix(".txt")?.parse().ok());
            if let Some(sha256) = sha256 {
                entries.push(Entry { sha256, chars: file.metadata().map_err(unreadable)?.len() });
            }
        }
        entries.sort_by_key(|entry| entry.sha256);
        Ok(entries)
    }

    /// Lets `name` stand for the text of this hash from now on.
    ///
    /// # Errors
    /// [`CacheError::Write`].
    pub(crate) fn set_alias(&self, name: &'static str, sha256: ContentHash) -> Result<(), CacheError> {
        self.write(&self.folder.join(name), format!("{sha256}\n").as_bytes())
    }

    /// The hash that `name` stands for, if it stands for one.
    ///
    /// # Errors
    /// [`CacheError::Corrupt`] if the alias is no hash, [`CacheError::Read`] if it cannot be read.
    pub(crate) fn alias(&self, name: &'static str) -> Result<Option<ContentHash>, CacheError> {
        const HASH_AND_LINE_END: u64 = 66;
        let path = self.folder.join(name);
        let Some(content) = read(&path, HASH_AND_LINE_END)? else {
            return Ok(None);
        };
        let hash = str::from_utf8(&content).ok().and_then(|line| line.trim_end().parse().ok());
        hash.map(Some).ok_or(CacheError::Corrupt { path })
    }

    /// A file in the folder for what may become part of the cache; no reader looks for its name, and it vanishes
    /// when dropped.
    ///
    /// # Errors
    /// [`CacheError::Write`].
    pub(crate) fn temporary(&self) -> Result<NamedTempFile, CacheError> {
        let unwritable = |source| CacheError::Write { path: self.folder.clone(), source };
        fs::create_dir_all(&self.folder).map_err(unwritable)?;
        NamedTempFile::with_prefix_in(".partial-", &self.folder).map_err(unwritable)
    }

    /// Writes beside, flushes to the disk, renames, and flushes the folder: a crash leaves the old or the new.
    fn write(&self, path: &Path, content: &[u8]) -> Result<(), CacheError> {
        let unwritable = |source| CacheError::Write { path: path.to_owned(), source };
        let mut file = self.temporary()?;
        file.write_all(content).map_err(unwritable)?;
        file.as_file().sync_all().map_err(unwritable)?;
        file.persist(path).map_err(|error| unwritable(error.error))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(unwritable)
    }
}

/// The content of the file, `None` if there is no such file. A cached file longer than `limit` is corrupt.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, CacheError> {
    let unreadable = |source| CacheError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > limit {
        return Err(CacheError::Corrupt { path: path.to_owned() });
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ascii: &str) -> Text {
        Text::from_ascii(ascii.as_bytes()).expect("only the 27 symbols")
    }

    #[test]
    fn a_text_put_is_got_and_listed_by_its_hash_and_one_never_put_is_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path().join("not").join("yet"));
        let (hill, slope) = (text("a hill"), text("a ski slope"));
        assert_eq!(cache.list().expect("an absent folder is an empty cache"), []);
        assert_eq!(cache.get(hill.sha256()).expect("no file is no error"), None);

        for text in [&hill, &slope, &hill] {
            cache.put(text).expect("the folder is writable");
        }
        assert_eq!(cache.get(slope.sha256()).expect("it was put"), Some(slope.clone()));
        let mut entries: Vec<Entry> =
            [&hill, &slope].map(|text| Entry { sha256: text.sha256(), chars: text.chars() }).into();
        entries.sort_by_key(|entry| entry.sha256);
        assert_eq!(cache.list().expect("the folder is readable"), entries);
        assert_eq!(fs::read_dir(cache.folder()).expect("a folder").count(), 2, "nothing temporary is left");
    }

    #[test]
    fn a_corrupt_file_is_refused_by_its_path_and_healed_by_putting_its_text_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path());
        let hill = text("a hill");
        let path = cache.path(hill.sha256());
        for damage in [b"a hell".as_slice(), b"a hil", b"a hill\n", b""] {
            fs::write(&path, damage).expect("the folder is writable");
            let error = cache.get(hill.sha256()).expect_err("the content is not what the name says");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            assert!(matches!(error, CacheError::Corrupt { path: named } if named == path));
        }
        cache.put(&hill).expect("a corrupt file does not bar the whole one");
        assert_eq!(cache.get(hill.sha256()).expect("healed"), Some(hill));
    }

    #[test]
    fn an_alias_stands_for_a_hash_and_a_damaged_one_for_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path());
        let hash = text("a hill").sha256();
        assert_eq!(cache.alias("hill").expect("no file is no error"), None);
        cache.set_alias("hill", hash).expect("the folder is writable");
        assert_eq!(cache.alias("hill").expect("just written"), Some(hash));
        for damage in [b"mist".to_vec(), vec![0xff; 64], vec![b'a'; 1000]] {
            fs::write(folder.path().join("hill"), damage).expect("the folder is writable");
            assert!(matches!(cache.alias("hill"), Err(CacheError::Corrupt { .. })));
        }
    }
}
