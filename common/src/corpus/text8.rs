//! text8, the first 100,000,000 characters of a cleaned Wikipedia: what it must be to the byte, and its download.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::corpus::Text;
use crate::corpus::alphabet::AlphabetError;
use crate::corpus::archive::{self, ArchiveError};
use crate::corpus::cache::{Cache, CacheError};
use crate::id::ContentHash;

/// Where its author keeps it.
pub const URL: &str = "http://mattmahoney.net/dc/text8.zip";

/// The name under which the cache knows it.
const ALIAS: &str = "text8";

/// What a fetched archive must be. The URL need not be trusted, nor its connection: this decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The archive's size.
    pub archive_bytes: u64,
    /// The archive's hash.
    pub archive_sha256: ContentHash,
    /// The size of the text in it.
    pub text_bytes: u64,
    /// The hash of the text in it.
    pub text_sha256: ContentHash,
}

impl Expected {
    /// text8 as its author published it (DESIGN.md, Corpora).
    pub const TEXT8: Self = Self {
        archive_bytes: 31_344_016,
        archive_sha256: ContentHash::new([
            0xa6, 0x64, 0x05, 0x22, 0xaf, 0xe8, 0x5d, 0x19, 0x63, 0xad, 0x56, 0xc0, 0x5b, 0x0e, 0xde,
            0x0a, //
            0x0c, 0x00, 0x0d, 0xdd, 0xc9, 0x67, 0x17, 0x58, 0xa6, 0xcc, 0x09, 0xb7, 0xa3, 0x8e, 0x52, 0x32,
        ]),
        text_bytes: 100_000_000,
        text_sha256: ContentHash::new([
            0x6e, 0x89, 0x01, 0x97, 0x04, 0x0d, 0x37, 0xd8, 0x5b, 0xeb, 0x96, 0x2a, 0xe1, 0xf0, 0x41,
            0xff, //
            0x1d, 0x9a, 0x9c, 0xa8, 0xd2, 0x0c, 0x7d, 0x99, 0xc8, 0x50, 0x27, 0xee, 0xbf, 0x51, 0xdc, 0xa7,
        ]),
    };
}

/// Why a text was not fetched. In every case the cache is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No such host, no connection, or not an answer that HTTP knows.
    #[error("cannot fetch `{url}`")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why it failed.
        source: Box<ureq::Error>,
    },
    /// The server said no.
    #[error("`{url}` was answered by HTTP status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// The connection ended, or nothing came for a minute, before the archive was whole.
    #[error("`{url}` was cut off after {received} of {expected} bytes")]
    Cut {
        /// What was asked for.
        url: String,
        /// Bytes of the archive that came.
        received: u64,
        /// Bytes of the whole.
        expected: u64,
        /// What the connection said, if it said anything.
        source: Option<io::Error>,
    },
    /// Another archive: it says that it has another size, or has more bytes than it should.
    #[error("`{url}` gives {received} bytes or more: the archive has {expected}")]
    ArchiveSize {
        /// What was asked for.
        url: String,
        /// Bytes announced, or received when reading stopped.
        received: u64,
        /// Bytes of the right archive.
        expected: u64,
    },
    /// Another archive, or one changed on the way.
    #[error("`{url}` gives an archive of SHA-256 {received}: expected {expected}")]
    ArchiveHash {
        /// What was asked for.
        url: String,
        /// The hash of what came.
        received: ContentHash,
        /// The hash of the right archive.
        expected: ContentHash,
    },
    /// The right archive does not unpack, which `Expected` should have ruled out.
    #[error("the archive of `{url}` cannot be unpacked")]
    Archive {
        /// What was asked for.
        url: String,
        /// Why not.
        source: ArchiveError,
    },
    /// The text has another size or hash than expected.
    #[error("the archive of `{url}` holds another text: {chars} bytes of SHA-256 {received}")]
    Text {
        /// What was asked for.
        url: String,
        /// The text's size.
        chars: u64,
        /// The text's hash.
        received: ContentHash,
    },
    /// The text is not one of the 27 symbols.
    #[error("the archive of `{url}` does not hold a text of the 27 symbols")]
    Alphabet {
        /// What was asked for.
        url: String,
        /// Which byte.
        source: AlphabetError,
    },
    /// The cache cannot be written: no space, no permission.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The hash that `text8` stands for in this cache, if it was fetched into it.
///
/// # Errors
/// See [`CacheError`].
pub fn cached(cache: &Cache) -> Result<Option<ContentHash>, CacheError> {
    cache.alias(ALIAS)
}

/// Downloads an archive, checks it and its text against `expected`, and leaves the text in the cache as `text8`.
/// `progress` hears of the bytes received so far and, if the server announced it, of their total.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    url: &str,
    cache: &Cache,
    expected: &Expected,
    progress: impl FnMut(u64, Option<u64>),
) -> Result<Text, FetchError> {
    let mut download = cache.temporary()?;
    let received = receive(url, cache, download.as_file_mut(), expected, progress)?;
    if received != expected.archive_sha256 {
        return Err(FetchError::ArchiveHash {
            url: url.to_owned(),
            received,
            expected: expected.archive_sha256,
        });
    }

    download.rewind().map_err(|source| CacheError::Read { path: download.path().to_owned(), source })?;
    let ascii = archive::unpack(io::BufReader::new(download.as_file()), expected.text_bytes)
        .map_err(|source| FetchError::Archive { url: url.to_owned(), source })?;
    let (chars, received) = (ascii.len() as u64, ContentHash::of(&ascii));
    if (chars, received) != (expected.text_bytes, expected.text_sha256) {
        return Err(FetchError::Text { url: url.to_owned(), chars, received });
    }
    let text =
        Text::from_ascii(&ascii).map_err(|source| FetchError::Alphabet { url: url.to_owned(), source })?;

    // The alias last: it never stands for a text that is not there.
    cache.put(&text)?;
    cache.set_alias(ALIAS, text.sha256())?;
    Ok(text)
}

/// Whether `url` is of this machine: another one, which a proxy is, would look for it in the wrong place.
fn is_here(url: &str) -> bool {
    let uri: Option<ureq::http::Uri> = url.parse().ok();
    uri.as_ref().and_then(ureq::http::Uri::host).is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// Writes the body of `url` to `file` as it comes, and returns its hash. Its size is as expected.
fn receive(
    url: &str,
    cache: &Cache,
    file: &mut std::fs::File,
    expected: &Expected,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<ContentHash, FetchError> {
    let wrong_size = |received| FetchError::ArchiveSize {
        url: url.to_owned(),
        received,
        expected: expected.archive_bytes,
    };
    let cut = |received, source| FetchError::Cut {
        url: url.to_owned(),
        received,
        expected: expected.archive_bytes,
        source,
    };

    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        // Between two reads, not for the whole: a slow line may take as long as it needs.
        .timeout_per_read(Some(Duration::from_secs(60)))
        // A transfer encoding would make the announced length another one than the archive's.
        .accept_encoding("identity")
        .proxy(if is_here(url) { None } else { ureq::Proxy::try_from_env() })
        .build()
        .new_agent();
    let mut body = match agent.get(url).call() {
        Ok(response) => response.into_body(),
        Err(ureq::Error::StatusCode(status)) => {
            return Err(FetchError::Status { url: url.to_owned(), status });
        }
        Err(error) => return Err(FetchError::Unreachable { url: url.to_owned(), source: Box::new(error) }),
    };
    let total = body.content_length();
    if let Some(total) = total
        && total != expected.archive_bytes
    {
        return Err(wrong_size(total));
    }

    let mut body = body.as_reader();
    let mut hash = Sha256::new();
    let mut received = 0;
    let mut chunk = vec![0; 64 << 10];
    progress(received, total);
    loop {
        let bytes = match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => &chunk[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(cut(received, Some(error))),
        };
        received += bytes.len() as u64;
        if received > expected.archive_bytes {
            return Err(wrong_size(received));
        }
        hash.update(bytes);
        file.write_all(bytes)
            .map_err(|source| CacheError::Write { path: cache.folder().to_owned(), source })?;
        progress(received, total);
    }
    if received < expected.archive_bytes {
        return Err(cut(received, None));
    }
    Ok(ContentHash::new(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use tempfile::TempDir;

    use super::*;
    use crate::corpus::archive::samples;
    use crate::corpus::source::Source;

    /// Answers one request on loopback with exactly these bytes, then closes; returns the address to ask.
    fn serve_once(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/text8.zip", listener.local_addr().expect("bound"));
        thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("one connection");
            let mut lines = BufReader::new(peer.try_clone().expect("a second handle")).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            // The client may have hung up already: that is what some tests are about.
            let _ = peer.write_all(&answer);
        });
        url
    }

    fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}\r\n").into_bytes();
        answer.extend_from_slice(body);
        answer
    }

    fn with_length(body: &[u8]) -> Vec<u8> {
        ok(&format!("Content-Length: {}\r\n", body.len()), body)
    }

    fn small() -> (Vec<u8>, Expected) {
        let ascii = b" anarchism originated as a term of abuse".repeat(10_000);
        // Not deflated to nothing: several chunks must arrive.
        let noise: Vec<u8> = ascii
            .iter()
            .scan(1_u32, |state, _| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Some(b'a' + (*state >> 28) as u8)
            })
            .collect();
        let text = [ascii, noise].concat();
        let archive = samples::zip(&[("text8", &text)]);
        let expected = Expected {
            archive_bytes: archive.len() as u64,
            archive_sha256: ContentHash::of(&archive),
            text_bytes: text.len() as u64,
            text_sha256: ContentHash::of(&text),
        };
        (archive, expected)
    }

    /// The error of fetching `answer`; the cache must be as empty as before.
    fn refused(answer: Vec<u8>, expected: &Expected) -> FetchError {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path());
        let error =
            fetch(&serve_once(answer), &cache, expected, |_, _| ()).expect_err("it is not what was expected");
        assert_left_empty(&folder);
        error
    }

    fn assert_left_empty(folder: &TempDir) {
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn the_hashes_of_text8_are_those_that_public_projects_state() {
        let printed = |hash: ContentHash| hash.to_string();
        assert_eq!(
            printed(Expected::TEXT8.archive_sha256),
            "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232"
        );
        assert_eq!(
            printed(Expected::TEXT8.text_sha256),
            "6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7"
        );
    }

    #[test]
    fn a_fetched_text_is_text8_to_its_cache_and_progress_rises_to_the_total() {
        let (archive, expected) = small();
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path());
        let mut heard = Vec::new();
        let text = fetch(&serve_once(with_length(&archive)), &cache, &expected, |bytes, total| {
            heard.push((bytes, total));
        })
        .expect("the right archive");

        assert_eq!(text.sha256(), expected.text_sha256);
        assert_eq!(Source::Text8 { chars: None }.load(Some(&cache)).expect("just fetched"), text);
        assert_eq!(
            Source::Text8 { chars: Some(10) }.load(Some(&cache)).expect("just fetched").to_ascii(),
            b" anarchism"
        );
        assert!(heard.is_sorted() && heard.len() > 2, "{heard:?}");
        assert_eq!(heard.last(), Some(&(expected.archive_bytes, Some(expected.archive_bytes))));
        let files = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 2, "the text and its alias, nothing temporary");
    }

    #[test]
    fn a_server_that_announces_no_length_is_read_to_its_end() {
        let (archive, expected) = small();
        let folder = tempfile::tempdir().expect("a folder");
        let mut totals = Vec::new();
        fetch(&serve_once(ok("", &archive)), &Cache::new(folder.path()), &expected, |_, total| {
            totals.push(total);
        })
        .expect("the right archive");
        assert!(totals.iter().all(Option::is_none));
    }

    #[test]
    fn a_cut_connection_is_an_error_with_or_without_an_announced_length() {
        let (archive, expected) = small();
        let half = &archive[..archive.len() / 2];
        for headers in [format!("Content-Length: {}\r\n", archive.len()), String::new()] {
            let error = refused(ok(&headers, half), &expected);
            assert!(
                matches!(error, FetchError::Cut { received, .. } if received == half.len() as u64),
                "{error:?}"
            );
        }
    }

    #[test]
    fn another_size_is_refused_by_the_announcement_or_by_counting() {
        let (archive, expected) = small();
        let longer = [archive.as_slice(), b"more"].concat();
        for answer in [with_length(&longer), ok("", &longer), with_length(&archive[1..])] {
            let error = refused(answer, &expected);
            assert!(matches!(error, FetchError::ArchiveSize { .. }), "{error:?}");
        }
    }

    #[test]
    fn an_archive_of_another_hash_is_refused() {
        let (mut archive, expected) = small();
        archive[1000] ^= 1;
        let error = refused(with_length(&archive), &expected);
        assert!(matches!(error, FetchError::ArchiveHash { .. }), "{error:?}");
    }

    #[test]
    fn a_text_of_another_size_or_hash_is_refused() {
        let (archive, expected) = small();
        let shorter = Expected { text_bytes: expected.text_bytes - 1, ..expected };
        let longer = Expected { text_bytes: expected.text_bytes + 1, ..expected };
        let other = Expected { text_sha256: ContentHash::of(b""), ..expected };
        assert!(matches!(
            refused(with_length(&archive), &shorter),
            FetchError::Archive { source: ArchiveError::TooLarge { .. }, .. }
        ));
        for expected in [longer, other] {
            assert!(matches!(refused(with_length(&archive), &expected), FetchError::Text { .. }));
        }
    }

    #[test]
    fn a_status_that_is_not_success_is_named() {
        let (_, expected) = small();
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
        let error = refused(answer, &expected);
        assert!(matches!(error, FetchError::Status { status: 404, .. }), "{error:?}");
    }

    #[test]
    fn only_an_address_of_this_machine_is_asked_without_a_proxy() {
        for here in
            ["http://127.0.0.1:80/text8.zip", "http://127.9.9.9/", "http://[::1]:80/", "http://localhost/"]
        {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in [URL, "http://10.0.0.1/", "http://localhost.example.org/", "not an address"] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn an_unreachable_server_is_an_error_that_names_the_address() {
        let (_, expected) = small();
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/text8.zip", listener.local_addr().expect("bound"));
        drop(listener);
        for url in [url.as_str(), "not an address"] {
            let error = fetch(url, &Cache::new(folder.path()), &expected, |_, _| ())
                .expect_err("nobody listens there");
            assert!(matches!(error, FetchError::Unreachable { .. }), "{error:?}");
            assert!(error.to_string().contains(url), "{error}");
        }
        assert_left_empty(&folder);
    }
}
