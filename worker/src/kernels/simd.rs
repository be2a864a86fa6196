//! The lane operations that all instruction sets share, and their exact meaning: an algorithm over them gives the
//! same bits on each, NaNs' signs and payloads apart.

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Added to a number below 2^21 in magnitude it leaves the nearest whole one, ties to even, in the lowest bits.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// One instruction set. A value of it is the proof that the processor has it.
///
/// Each operation acts on sixteen lanes of f32, rounds once, to nearest, ties to even, and keeps subnormals.
pub(crate) trait Simd: Copy {
    /// Sixteen lanes.
    type V: Copy;

    /// Accumulators of the largest tile of a product, all of which stay in registers.
    const ACCUMULATORS: usize;
    /// The most vectors across that tile.
    const TILE_VECTORS: usize;

    /// Carries out `algorithm` where the compiler may use this instruction set.
    fn run<A: Algorithm>(self, algorithm: A) -> A::Output;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// The sixteen at `from`.
    fn load(self, from: &[f32; LANES]) -> Self::V;
    /// Writes the sixteen to `to`.
    fn store(self, x: Self::V, to: &mut [f32; LANES]);
    /// As many as there are, at most sixteen; zero in the other lanes.
    fn load_part(self, from: &[f32]) -> Self::V;
    /// Writes as many lanes as `to` has room for, at most sixteen.
    fn store_part(self, x: Self::V, to: &mut [f32]);

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`, rounded once.
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `sum + x^2` in f64, which rounds once.
    fn add_square(self, sum: f64, x: f32) -> f64;
    /// `a` where `a > b`, else `b`; so `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a` where `a < b`, else `b`; so `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `x * 2^n` where `shifter` is [`ROUNDER`] + n, for whole n of at most 2^7 in magnitude, `x` and the product being
    /// normal numbers: no rounding is left to do. NaN where both are, as arithmetic makes it; any number for others.
    fn scale(self, x: Self::V, shifter: Self::V) -> Self::V;

    /// Rows for columns.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut values = [[0.0; LANES]; LANES];
        for (values, row) in values.iter_mut().zip(rows) {
            self.store(row, values);
        }
        std::array::from_fn(|column| self.load(&std::array::from_fn(|row| values[row][column])))
    }

    /// The lanes of `from` that start at `at`; zero beyond its end.
    #[inline(always)]
    fn load_at(self, from: &[f32], at: usize) -> Self::V {
        let from = &from[at..];
        match from.first_chunk() {
            Some(sixteen) => self.load(sixteen),
            None => self.load_part(from),
        }
    }

    /// Writes the lanes to `to` from `at` on; what is beyond its end is dropped.
    #[inline(always)]
    fn store_at(self, x: Self::V, to: &mut [f32], at: usize) {
        let to = &mut to[at..];
        match to.first_chunk_mut() {
            Some(sixteen) => self.store(x, sixteen),
            None => self.store_part(x, to),
        }
    }
}

/// Work written once over [`Simd`]: a struct of its slices and sizes.
pub(crate) trait Algorithm {
    /// What it comes to, beside what it writes.
    type Output;

    /// Panics unless every slice has the size that the others and the fields give it.
    fn check(&self);

    /// Does it. Every implementation, and all it calls with `simd`, is `#[inline(always)]`, so that it is compiled with
    /// the features of the [`Simd::run`] around it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
