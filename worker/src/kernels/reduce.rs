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
    fn run<S: Simd>(self, _: S) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        let (sixteens, rest) = self.values.as_chunks::<LANES>();
        for values in sixteens {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane += f64::from(value) * f64::from(value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(value) * f64::from(value);
        }
        tree(lanes)
    }
}

/// The sum of each column over the rows: sixteen partial sums by row mod 16, each in order of row, then [`tree`].
pub(crate) struct ColumnSums<'a> {
    /// `[R, columns]`.
    pub(crate) rows: &'a [f32],
    /// `[columns]`, overwritten.
    pub(crate) sums: &'a mut [f32],
}

impl Algorithm for ColumnSums<'_> {
    type Output = ();

    fn check(&self) {
        assert!(self.rows.len().is_multiple_of(self.sums.len()));
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let columns = self.sums.len();
        for at in (0..columns).step_by(LANES) {
            let mut partial = [s.splat(0.0); LANES];
            for sixteen in self.rows.chunks(LANES * columns) {
                for (partial, row) in partial.iter_mut().zip(sixteen.chunks_exact(columns)) {
                    *partial = s.add(*partial, s.load_at(row, at));
                }
            }
            let mut width = LANES;
            while width > 1 {
                width /= 2;
                for lane in 0..width {
                    partial[lane] = s.add(partial[lane], partial[lane + width]);
                }
            }
            s.store_at(partial[0], self.sums, at);
        }
    }
}

/// Adds each row to the row of `sums` that its symbol names, in order of rows, from zero: the gradient of a gather.
pub(crate) struct ScatterRows<'a> {
    /// `[R]`.
    pub(crate) symbols: &'a [u8],
    /// `[R, columns]`.
    pub(crate) rows: &'a [f32],
    /// `[27, columns]`, overwritten.
    pub(crate) sums: &'a mut [f32],
    /// Numbers in a row.
    pub(crate) columns: usize,
}

impl Algorithm for ScatterRows<'_> {
    type Output = ();

    fn check(&self) {
        assert_eq!(self.rows.len(), self.symbols.len() * self.columns);
        assert!(self.sums.len().is_multiple_of(self.columns));
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.sums.fill(0.0);
        for (&symbol, row) in self.symbols.iter().zip(self.rows.chunks_exact(self.columns)) {
            let sums = &mut self.sums[usize::from(symbol) * self.columns..][..self.columns];
            for at in (0..self.columns).step_by(LANES) {
                s.store_at(s.add(s.load_at(sums, at), s.load_at(row, at)), sums, at);
            }
        }
    }
}

/// The fixed tree: lane l takes lane l + 8, then l + 4, l + 2, l + 1. [`ColumnSums`] does the same on vectors.
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
    use super::super::tests::{bits, every_isa, noise};
    use super::*;

    /// Sixteen partial sums by index mod 16, then lane l + width to lane l.
    fn naive(values: impl Iterator<Item = f32>) -> f32 {
        let mut lanes = [0.0_f32; 16];
        for (index, value) in values.enumerate() {
            lanes[index % 16] += value;
        }
        for width in [8, 4, 2, 1] {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
        }
        lanes[0]
    }

    #[test]
    fn column_sums_are_the_naive_ones_bit_for_bit() {
        for (rows, columns) in [(1, 1), (15, 3), (16, 16), (17, 27), (100, 33), (640, 129)] {
            let values = noise(3, rows * columns);
            let column = |at: usize| (0..rows).map(|row| values[row * columns + at]).collect::<Vec<_>>();
            let expected: Vec<f32> = (0..columns).map(|at| naive(column(at).into_iter())).collect();
            for kernels in every_isa() {
                let mut sums = vec![f32::NAN; columns];
                kernels.run(ColumnSums { rows: &values, sums: &mut sums });
                assert_eq!(bits(&sums), bits(&expected), "{:?}: [{rows}, {columns}]", kernels.name());
            }
        }
    }

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

    #[test]
    fn rows_are_scattered_in_their_order() {
        for (rows, columns) in [(1, 1), (50, 3), (64, 16), (200, 129)] {
            let values = noise(5, rows * columns);
            let symbols: Vec<u8> = (0..rows).map(|row| (row * row % 27) as u8).collect();
            let mut expected = vec![0.0_f32; 27 * columns];
            for (row, &symbol) in symbols.iter().enumerate() {
                for column in 0..columns {
                    expected[usize::from(symbol) * columns + column] += values[row * columns + column];
                }
            }
            for kernels in every_isa() {
                let mut sums = vec![f32::NAN; 27 * columns];
                kernels.run(ScatterRows { symbols: &symbols, rows: &values, sums: &mut sums, columns });
                assert_eq!(bits(&sums), bits(&expected), "{:?}: [{rows}, {columns}]", kernels.name());
            }
        }
    }
}
