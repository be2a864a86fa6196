//! A newtype for every number and name that stands for a thing. Each prints as it is logged.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name($int);

        impl $name {
            /// Names the thing of this number.
            pub const fn new(number: $int) -> Self {
                Self(number)
            }

            /// The bare number, for arithmetic, storage and the wire.
            pub const fn number(self) -> $int {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// Training steps applied since a run's start; a milestone at step `s` is measured after `s` of them.
    Step(u64)
}
number! {
    /// A run as one coordinator process knows it: interned, dense, never stored or sent.
    RunId(u32)
}
number! {
    /// A run's place in its sweep's numbering, holes included: what a person reads in `ski-slope/17`.
    RunNumber(u64)
}
number! {
    /// A lease; numbers rise over the store's whole life and are never reused (I3). Every store numbers from 1.
    LeaseId(u64)
}
number! {
    /// A message from one incarnation that must not be lost; counted from 1 over the incarnation's life.
    MessageNumber(u64)
}
number! {
    /// Two builds with the same numerics version give the same bits for the same run.
    NumericsVersion(u32)
}

macro_rules! random_bits {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(u128);

        impl $name {
            /// Names the thing of these bits.
            pub const fn new(bits: u128) -> Self {
                Self(bits)
            }

            /// The bare bits.
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    };
}

random_bits! {
    /// One process of one worker: 128 random bits that it draws at start.
    Incarnation
}
random_bits! {
    /// One store, and every copy of it: 128 random bits that are drawn when it is made.
    StoreId
}

/// The SHA-256 of some content, which is its name in every cache and on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Names content whose hash is known.
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// Hashes `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// The 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// What is not a [`ContentHash`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a SHA-256: 64 hexadecimal digits")]
pub struct NotAHash(String);

impl FromStr for ContentHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let refused = || NotAHash(text.to_owned());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| refused())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

/// The key of a run in the store: SHA-256 over everything that moves its bits. See [`crate::run::Run::key`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey([u8; 32]);

impl RunKey {
    /// The key of these bytes.
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunKey({self})")
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, NotAName> {
                check_name(text)?;
                Ok(Self(text.to_owned()))
            }
        }
    };
}

name! {
    /// The name of a sweep: `[a-z0-9][a-z0-9._-]{0,62}`, so that it is also a folder and a word in a log.
    SweepName
}
name! {
    /// The name of a worker, by the same grammar as a sweep's; unique among living workers by intent, not by force.
    WorkerName
}

/// What cannot name a sweep or a worker.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a name: 1 to 63 of a-z, 0-9, `.`, `_` and `-`, the first a letter or a digit")]
pub struct NotAName(String);

fn check_name(text: &str) -> Result<(), NotAName> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = |byte: u8| plain(byte) || matches!(byte, b'.' | b'_' | b'-');
    match text.as_bytes() {
        [first, tail @ ..] if plain(*first) && tail.len() <= 62 && tail.iter().all(|&byte| rest(byte)) => {
            Ok(())
        }
        _ => Err(NotAName(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_prints_as_it_parses() {
        let hash = ContentHash::of(b"slalom");
        assert_eq!(hash.to_string().parse::<ContentHash>(), Ok(hash));
        assert!("00ff".parse::<ContentHash>().is_err());
        assert!("é".repeat(32).parse::<ContentHash>().is_err());
        assert!("+0".repeat(32).parse::<ContentHash>().is_err(), "a sign is no hexadecimal digit");
    }

    #[test]
    fn names_are_lower_case_words_of_at_most_63_bytes() {
        for good in ["a", "0", "ski-slope", "hill.3_b", &"a".repeat(63)] {
            assert!(good.parse::<SweepName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<SweepName>().is_err(), "{bad}");
        }
    }
}
