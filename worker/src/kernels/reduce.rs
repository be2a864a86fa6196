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
