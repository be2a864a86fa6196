//! The lane operations on arrays, for any processor.

use super::simd::{Algorithm, LANES, Simd};

/// What every processor has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

type V = [f32; LANES];

#[inline(always)]
fn each(op: impl Fn(usize) -> f32) -> V {
    std::array::from_fn(op)
}

impl Simd for Portable {
    type V = V;

    // Nothing stays in registers here: the tile is that of AVX-512, so that it is tested wherever there is none.
    const ACCUMULATORS: usize = 24;
    const TILE_VECTORS: usize = 4;

    fn run<A: Algorithm>(self, algorithm: A) -> A::Output {
        algorithm.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> V {
        *from
    }

    #[inline(always)]
    fn store(self, x: V, to: &mut [f32; LANES]) {
        *to = x;
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> V {
        each(|lane| from.get(lane).copied().unwrap_or(0.0))
    }

    #[inline(always)]
    fn store_part(self, x: V, to: &mut [f32]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to = x;
        }
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        each(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        each(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        each(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        each(|lane| a[lane] / b[lane])
    }

    // `f32::mul_add` would call the system's `fmaf` here, which is some other code on every system.
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        each(|lane| libm::fmaf(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn fnma(self, a: V, b: V, c: V) -> V {
        each(|lane| libm::fmaf(-a[lane], b[lane], c[lane]))
    }

    // Fused or not: the square of an f32 is exact in f64.
    #[inline(always)]
    fn add_square(self, sum: f64, x: f32) -> f64 {
        sum + f64::from(x) * f64::from(x)
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        each(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        each(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }

    // The lowest bits of `shifter` are n: added to the exponent.
    #[inline(always)]
    fn scale(self, x: V, shifter: V) -> V {
        each(|lane| f32::from_bits(x[lane].to_bits().wrapping_add(shifter[lane].to_bits() << 23)))
    }
}
