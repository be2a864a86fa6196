//! A text out of a zip archive of one member, never more of it than was asked for.

use std::io::{self, Read, Seek};

use zip::ZipArchive;
use zip::result::ZipError;

/// Why an archive gave no text.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not a zip archive, one cut short, or packed in a way that is not understood.
    #[error("the zip archive cannot be read")]
    Unreadable(#[source] ZipError),
    /// Which member is the text would be a guess.
    #[error("the zip archive has {0} members: a corpus is an archive of exactly one file")]
    Members(usize),
    /// The one member is a folder.
    #[error("the zip archive holds only a folder")]
    Folder,
    /// More bytes came out of it than allowed, whatever its header says.
    #[error("the zip archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// The most that was allowed.
        limit: u64,
    },
    /// The packed bytes are damaged, or reading them failed.
    #[error("the zip archive's member cannot be unpacked")]
    Damaged(#[source] io::Error),
}

/// Whether a file that begins with `head` is a zip archive: by its first entry or, for an empty one, its end.
pub fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// The bytes of the archive's one member. The limit holds for the bytes that arrive: a header may lie.
///
/// # Errors
/// See [`ArchiveError`]; the member's checksum is part of what is checked.
pub fn unpack(archive: impl Read + Seek, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut archive = ZipArchive::new(archive).map_err(ArchiveError::Unreadable)?;
    if archive.len() != 1 {
        return Err(ArchiveError::Members(archive.len()));
    }
    let member = archive.by_index(0).map_err(ArchiveError::Unreadable)?;
    if member.is_dir() {
        return Err(ArchiveError::Folder);
    }
    let mut bytes = Vec::new();
    member.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(ArchiveError::Damaged)?;
    if bytes.len() as u64 > limit {
        return Err(ArchiveError::TooLarge { limit });
    }
    Ok(bytes)
}

/// Archives made for the tests of all who read one.
#[cfg(test)]
pub(crate) mod samples {
    use std::io::{Cursor, Write as _};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    /// A deflated archive of these members.
    pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            archive.start_file(*name, SimpleFileOptions::default()).expect("a member begins");
            archive.write_all(bytes).expect("memory takes all");
        }
        archive.finish().expect("the archive ends").into_inner()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_one_member_comes_out_as_it_went_in() {
        let archive = samples::zip(&[("text8", b"down the hill")]);
        assert!(is_zip(&archive));
        assert_eq!(unpack(Cursor::new(archive), 13).expect("13 bytes are within 13"), b"down the hill");
    }

    #[test]
    fn an_archive_of_no_or_two_members_is_refused() {
        let two = samples::zip(&[("a", b"a"), ("b", b"b")]);
        for (archive, members) in [(samples::zip(&[]), 0), (two, 2)] {
            assert!(is_zip(&archive));
            let refused = unpack(Cursor::new(archive), 10);
            assert!(matches!(refused, Err(ArchiveError::Members(n)) if n == members), "{refused:?}");
        }
    }

    /// The header's size is overwritten in both places where an archive states it, so only counting can tell.
    #[test]
    fn a_bomb_whose_header_lies_is_stopped_at_the_limit() {
        let mut archive = samples::zip(&[("bomb", &vec![b'a'; 1 << 20])]);
        let honest = (1_u32 << 20).to_le_bytes();
        let places: Vec<usize> = (0..archive.len() - 4).filter(|&at| archive[at..at + 4] == honest).collect();
        assert_eq!(places.len(), 2, "the local and the central header");
        for at in places {
            archive[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
        }
        let refused = unpack(Cursor::new(archive), 1000);
        assert!(
            matches!(refused, Err(ArchiveError::TooLarge { limit: 1000 } | ArchiveError::Damaged(_))),
            "{refused:?}"
        );
        let bomb = samples::zip(&[("bomb", &vec![b'a'; 1 << 20])]);
        assert!(matches!(unpack(Cursor::new(bomb), 1000), Err(ArchiveError::TooLarge { limit: 1000 })));
    }

    #[test]
    fn a_flipped_bit_in_the_packed_bytes_is_found() {
        let text = b"down the hill and up again and down the hill".repeat(20);
        let mut archive = samples::zip(&[("text", &text)]);
        archive[40] ^= 1;
        assert!(unpack(Cursor::new(archive), 10_000).is_err());
    }

    proptest! {
        /// Damage to a real archive reaches deeper than noise, which fails at the first signature.
        #[test]
        fn a_damaged_archive_is_refused_or_still_whole_and_never_panics(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut archive = samples::zip(&[("text", b"down the hill and up again and down the hill")]);
            for (at, byte) in damage {
                let at = at.index(archive.len());
                archive[at] = byte;
            }
            let _ = unpack(Cursor::new(&archive), 1 << 16);
            archive.truncate(cut.index(archive.len()));
            prop_assert!(unpack(Cursor::new(&archive), 1 << 16).is_err(), "its end is gone");
        }

        #[test]
        fn noise_is_refused(mut bytes: Vec<u8>) {
            prop_assert!(unpack(Cursor::new(&bytes), 1 << 16).is_err());
            bytes.splice(0..0, *b"PK\x03\x04");
            prop_assert!(unpack(Cursor::new(&bytes), 1 << 16).is_err());
        }
    }
}
