//! The 27 symbols: bytes to ids and back, and the mapping of any bytes to them (SEMANTICS.md, Text).

/// The id of the space.
pub const SPACE: u8 = 0;

/// A byte that is neither a space nor one of `a` to `z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "byte 0x{byte:02x} at offset {offset} is neither a space nor a-z (`normalize` maps any text to these)"
)]
pub struct AlphabetError {
    /// Where the first such byte stands, counted from 0.
    pub offset: u64,
    /// What stands there.
    pub byte: u8,
}

/// The byte of `symbol`, which is in 0..=26.
pub const fn ascii(symbol: u8) -> u8 {
    debug_assert!(symbol <= 26);
    if symbol == SPACE { b' ' } else { b'a' - 1 + symbol }
}

/// The id of `byte`, if it has one.
pub const fn symbol(byte: u8) -> Option<u8> {
    match byte {
        b' ' => Some(SPACE),
        b'a'..=b'z' => Some(byte - b'a' + 1),
        _ => None,
    }
}

/// The ids of `bytes`.
///
/// # Errors
/// Names the first byte without one.
pub fn symbols(bytes: &[u8]) -> Result<Vec<u8>, AlphabetError> {
    let id =
        |(offset, &byte): (usize, &u8)| symbol(byte).ok_or(AlphabetError { offset: offset as u64, byte });
    bytes.iter().enumerate().map(id).collect()
}

/// `bytes` in the 27 symbols, as ASCII: `A` to `Z` lowered, digits spelled out between spaces, all else a space,
/// runs of spaces one. By byte: a letter with an accent is two bytes of UTF-8, hence one space.
pub fn normalized(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: [&[u8]; 10] =
        [b"zero", b"one", b"two", b"three", b"four", b"five", b"six", b"seven", b"eight", b"nine"];
    let mut ascii = Vec::with_capacity(bytes.len());
    let space = |ascii: &mut Vec<u8>| {
        if ascii.last() != Some(&b' ') {
            ascii.push(b' ');
        }
    };
    for byte in bytes {
        match byte.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => ascii.push(letter),
            digit @ b'0'..=b'9' => {
                space(&mut ascii);
                ascii.extend_from_slice(DIGITS[usize::from(digit - b'0')]);
                space(&mut ascii);
            }
            _ => space(&mut ascii),
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::corpus::Text;

    #[test]
    fn the_space_is_0_and_the_letters_are_1_to_26() {
        assert_eq!(symbols(b" abz"), Ok(vec![0, 1, 2, 26]));
    }

    #[test]
    fn a_byte_outside_the_alphabet_is_named_with_its_offset_and_the_remedy() {
        let error = Text::from_ascii(b"two lines\n").expect_err("a line feed has no id");
        assert_eq!(error, AlphabetError { offset: 9, byte: b'\n' });
        assert!(error.to_string().contains("offset 9"), "{error}");
        assert!(error.to_string().contains("`normalize`"), "{error}");
    }

    #[test]
    fn normalization_lowers_spells_digits_out_and_makes_each_run_of_the_rest_one_space() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"Slalom", b"slalom"),
            (b"in 1850, 20%", b"in one eight five zero two zero "),
            (b"a1b", b"a one b"),
            (b"\n\n \tx\n", b" x "),
            ("caf\u{e9}s".as_bytes(), b"caf s"),
            (b"", b""),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Text::normalized(bytes).to_ascii(), expected, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn ascii_and_text_are_inverses(ascii in "[ a-z]{0,300}") {
            let text = Text::from_ascii(ascii.as_bytes()).expect("only the 27 symbols");
            prop_assert_eq!(text.to_ascii(), ascii.as_bytes());
            prop_assert_eq!(text.chars(), ascii.len() as u64);
            prop_assert!(text.symbols().iter().all(|&symbol| symbol <= 26));
        }

        #[test]
        fn any_bytes_are_a_text_or_an_offset_within_them(bytes: Vec<u8>) {
            match Text::from_ascii(&bytes) {
                Ok(text) => prop_assert_eq!(text.to_ascii(), bytes),
                Err(error) => prop_assert_eq!(bytes[error.offset as usize], error.byte),
            }
        }

        #[test]
        fn normalized_bytes_have_only_the_symbols_no_double_space_and_are_a_fixed_point(bytes: Vec<u8>) {
            let once = normalized(&bytes);
            prop_assert!(once.iter().all(|&byte| byte == b' ' || byte.is_ascii_lowercase()));
            prop_assert!(!once.windows(2).any(|pair| pair == b"  "));
            prop_assert_eq!(normalized(&once), once);
        }
    }
}
