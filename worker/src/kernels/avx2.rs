//! The lane operations in AVX2 and FMA: two registers of eight lanes, or the lower one of them.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_add_ps, _mm256_castpd_ps, _mm256_castps_pd,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmpgt_epi32, _mm256_div_ps, _mm256_fmadd_ps,
    _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_maskload_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_permute2f128_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps,
    _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps,
    _mm256_unpacklo_pd, _mm256_unpacklo_ps,
};

use super::simd::{Algorithm, LANES, Simd};

/// A processor with AVX2 and FMA, as [`Avx2::detect`] has seen. Of two halves `H` are computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2<const H: usize>(());

impl Avx2<2> {
    pub(super) fn detect() -> Option<Self> {
        let both = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
        both.then_some(Self(()))
    }

    /// For algorithms in which no lane beyond the eighth counts.
    pub(super) const fn lower_half(self) -> Avx2<1> {
        let Self(proof) = self;
        Avx2(proof)
    }
}

#[target_feature(enable = "avx2,fma")]
fn run<A: Algorithm, const H: usize>(simd: Avx2<H>, algorithm: A) -> A::Output {
    algorithm.run(simd)
}

/// A call of an intrinsic whose arguments are all values.
macro_rules! avx2 {
    ($call:expr) => {
        // SAFETY: a value of `Avx2`, which every caller holds, exists only where `detect` has seen AVX2 and FMA.
        unsafe { $call }
    };
}

/// Each half by one operation.
macro_rules! halves {
    ($op:ident($($arg:ident),+)) => {{
        let mut halves = [avx2!(_mm256_setzero_ps()); H];
        for half in 0..H {
            halves[half] = avx2!($op($($arg[half]),+));
        }
        halves
    }};
}

type V<const H: usize> = [__m256; H];

/// All bits in the lanes below `len` of eight, none in the others.
#[inline(always)]
fn lowest(len: usize) -> __m256i {
    let lanes = avx2!(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    avx2!(_mm256_cmpgt_epi32(_mm256_set1_epi32(len.min(8) as i32), lanes))
}

#[inline(always)]
fn load_half(from: &[f32]) -> __m256 {
    if let Some(eight) = from.first_chunk::<8>() {
        // SAFETY: AVX2 as above; `eight` is eight f32, and the unaligned form asks for no more.
        return unsafe { _mm256_loadu_ps(eight.as_ptr()) };
    }
    // SAFETY: AVX2 as above; lanes beyond `from` are masked, and masked lanes are not read.
    unsafe { _mm256_maskload_ps(from.as_ptr(), lowest(from.len())) }
}

/// Without a masked store, for which some processors take twenty times as long.
#[inline(always)]
fn store_half(x: __m256, to: &mut [f32]) {
    if let Some(eight) = to.first_chunk_mut::<8>() {
        // SAFETY: AVX2 as above; `eight` is eight f32 borrowed for writing, and the unaligned form asks for no more.
        unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), x) };
        return;
    }
    let mut values = [0.0; 8];
    // SAFETY: AVX2 as above; `values` is eight f32 borrowed for writing, and the unaligned form asks for no more.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), x) };
    for (to, value) in to.iter_mut().zip(values) {
        *to = value;
    }
}

/// Four rows, each half by itself: row j of the result has column j of the low half and column j of the high one.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_quads(rows: [__m256; 4]) -> [__m256; 4] {
    let pairs = |a, b| {
        let low = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
        let high = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
        [low, high]
    };
    let ([a, b], [c, d]) = (pairs(rows[0], rows[1]), pairs(rows[2], rows[3]));
    [
        _mm256_castpd_ps(_mm256_unpacklo_pd(a, c)),
        _mm256_castpd_ps(_mm256_unpackhi_pd(a, c)),
        _mm256_castpd_ps(_mm256_unpacklo_pd(b, d)),
        _mm256_castpd_ps(_mm256_unpackhi_pd(b, d)),
    ]
}

/// The lowest bits of `shifter` are n: added to the exponent.
#[inline(always)]
fn scale_half(x: __m256, shifter: __m256) -> __m256 {
    let n = avx2!(_mm256_slli_epi32::<23>(_mm256_castps_si256(shifter)));
    avx2!(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), n)))
}

impl<const H: usize> Simd for Avx2<H> {
    type V = V<H>;

    // Twelve accumulators, two registers of the right factor and one broadcast of the left one, of sixteen.
    const ACCUMULATORS: usize = 12 / H;
    const TILE_VECTORS: usize = 1;

    #[inline]
    fn run<A: Algorithm>(self, algorithm: A) -> A::Output {
        avx2!(run(self, algorithm))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> V<H> {
        [avx2!(_mm256_set1_ps(x)); H]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> V<H> {
        let (eights, _) = from.as_chunks::<8>();
        let mut halves = self.splat(0.0);
        for half in 0..H {
            // SAFETY: AVX2 as above; an eight is eight f32, and the unaligned form asks for no more.
            halves[half] = unsafe { _mm256_loadu_ps(eights[half].as_ptr()) };
        }
        halves
    }

    #[inline(always)]
    fn store(self, x: V<H>, to: &mut [f32; LANES]) {
        let (eights, _) = to.as_chunks_mut::<8>();
        for half in 0..H {
            // SAFETY: AVX2 as above; an eight is eight f32 borrowed for writing, and the unaligned form asks for no more.
            unsafe { _mm256_storeu_ps(eights[half].as_mut_ptr(), x[half]) };
        }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> V<H> {
        let mut halves = self.splat(0.0);
        for half in 0..H {
            halves[half] = load_half(&from[from.len().min(8 * half)..]);
        }
        halves
    }

    #[inline(always)]
    fn store_part(self, x: V<H>, to: &mut [f32]) {
        let len = to.len();
        for half in 0..H {
            store_half(x[half], &mut to[len.min(8 * half)..]);
        }
    }

    #[inline(always)]
    fn add(self, a: V<H>, b: V<H>) -> V<H> {
        halves!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: V<H>, b: V<H>) -> V<H> {
        halves!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: V<H>, b: V<H>) -> V<H> {
        halves!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: V<H>, b: V<H>) -> V<H> {
        halves!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: V<H>, b: V<H>, c: V<H>) -> V<H> {
        halves!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fnma(self, a: V<H>, b: V<H>, c: V<H>) -> V<H> {
        halves!(_mm256_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn add_square(self, sum: f64, x: f32) -> f64 {
        f64::from(x).mul_add(f64::from(x), sum)
    }

    #[inline(always)]
    fn max(self, a: V<H>, b: V<H>) -> V<H> {
        halves!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: V<H>, b: V<H>) -> V<H> {
        halves!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn transpose(self, rows: [V<H>; LANES]) -> [V<H>; LANES] {
        let mut columns = rows;
        for rows_half in 0..H {
            for columns_half in 0..H {
                let first = 8 * rows_half;
                let row = |row: usize| rows[first + row][columns_half];
                let upper = avx2!(transpose_quads([row(0), row(1), row(2), row(3)]));
                let lower = avx2!(transpose_quads([row(4), row(5), row(6), row(7)]));
                for j in 0..4 {
                    let (upper, lower) = (upper[j], lower[j]);
                    let first = 8 * columns_half + j;
                    columns[first][rows_half] = avx2!(_mm256_permute2f128_ps::<0x20>(upper, lower));
                    columns[first + 4][rows_half] = avx2!(_mm256_permute2f128_ps::<0x31>(upper, lower));
                }
            }
        }
        columns
    }

    #[inline(always)]
    fn scale(self, x: V<H>, shifter: V<H>) -> V<H> {
        let mut halves = x;
        for half in 0..H {
            halves[half] = scale_half(x[half], shifter[half]);
        }
        halves
    }
}
