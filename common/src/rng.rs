//! Counter-based random numbers: the same bits from the same (seed, purpose, index), whoever asks and when.
//! There is no state to carry, so a checkpoint holds none and drawing in another order changes nothing.

/// What numbers are drawn for; draws for different purposes share no counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Initial weights; index = [element, tensor, attempt] (SEMANTICS.md, Model).
    InitialWeights = 1,
    /// The synthetic corpus: its lexicon and its text.
    SyntheticCorpus = 2,
}

/// The four words of `seed` at `index`, for `purpose`.
pub fn words(seed: u64, purpose: Purpose, index: [u32; 3]) -> [u32; 4] {
    let [a, b, c] = index;
    philox4x32_10([a, b, c, purpose as u32], [seed as u32, (seed >> 32) as u32])
}

/// Two independent uniforms of 53 bits from one counter's words, the first in (0, 1], so that it has a logarithm,
/// the second in [0, 1) (SEMANTICS.md, Model).
pub fn uniform_pair(words: [u32; 4]) -> (f64, f64) {
    const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
    let [w0, w1, w2, w3] = words.map(u64::from);
    let above_zero = (w0 << 21 | w1 >> 11) + 1;
    let below_one = w2 << 21 | w3 >> 11;
    (above_zero as f64 * UNIT, below_one as f64 * UNIT)
}

/// Philox4x32 with ten rounds: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
/// (SC 2011), section 3.3.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    // Weyl sequence of the key: the golden ratio and the square root of three minus one.
    const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let [mut x0, mut x1, mut x2, mut x3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(x0);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(x2);
        (x0, x1, x2, x3) = ((p1 >> 32) as u32 ^ x1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ x3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(KEY_STEPS[0]);
        k1 = k1.wrapping_add(KEY_STEPS[1]);
    }
    [x0, x1, x2, x3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first three are the known answers that the authors ship with Random123 (`kat_vectors`).
    #[test]
    fn philox_gives_its_known_answers() {
        let known = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
            ([5, 1, 0, 1], [7, 0], [2_943_300_077, 1_037_756_144, 1_071_993_270, 555_946_181]),
        ];
        for (counter, key, answer) in known {
            assert_eq!(philox4x32_10(counter, key), answer, "counter {counter:?}, key {key:?}");
        }
        assert_eq!(words(7, Purpose::InitialWeights, [5, 1, 0]), known[3].2);
    }

    #[test]
    fn both_halves_of_a_seed_move_the_words() {
        let draw = |seed| words(seed, Purpose::InitialWeights, [0, 0, 0]);
        assert_ne!(draw(1), draw(1 << 32));
    }

    #[test]
    fn uniforms_keep_to_their_sides_of_the_unit_interval() {
        assert_eq!(uniform_pair([0; 4]), ((-53_f64).exp2(), 0.0));
        let (u1, u2) = uniform_pair([u32::MAX; 4]);
        assert_eq!(u1, 1.0);
        assert!(u2 < 1.0);
    }
}
