//! Sums over many numbers, each in the one order that makes its bits the same everywhere.

use super::simd::{Algorithm, LANES, Simd};

/// The sum of squares in f64: sixteen partial sums by index mod 16, each in order of index, then [`tree`].
/// A square of an f32 is exact in f64, so only the additions round.
pub(crate) struct SumOfSquares<'a> {
    /// Whose squares.
    pub(crate) values: &'a [f32],
}

impl Algorithm for SumOfSquares<'_> {
    type Output = f64;

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        let (sixteens, rest) = self.values.as_chunks::<LANES>();
        for values in sixteens {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane = s.add_square(*lane, value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane = s.add_square(*lane, value);
        }
        tree(lanes)
    }
}

/// The fixed tree: lane l takes lane l + 8, then l + 4, l + 2, l + 1.
#[inline(always)]
fn tree(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{every_isa, noise};
    use super::*;

    #[test]
    fn the_sum_of_squares_is_the_naive_one_bit_for_bit() {
        for len in [0, 1, 15, 16, 17, 1000, 4099] {
            let values = noise(4, len);
            let mut lanes = [0.0_f64; 16];
            for (index, &value) in values.iter().enumerate() {
                lanes[index % 16] += f64::from(value).powi(2);
            }
            for width in [8, 4, 2, 1] {
                for lane in 0..width {
                    lanes[lane] += lanes[lane + width];
                }
            }
            for kernels in every_isa() {
                let sum = kernels.run(SumOfSquares { values: &values });
                assert_eq!(sum.to_bits(), lanes[0].to_bits(), "{:?}: {len}", kernels.name());
            }
        }
    }
}
