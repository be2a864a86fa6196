//! The lane operations in AVX-512F: one register.

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_epi32, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_set1_ps, _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
    _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::simd::{Algorithm, LANES, Simd};

/// A processor with AVX-512F, as [`Avx512::detect`] has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx512f").then_some(Self(()))
    }
}

#[target_feature(enable = "avx512f")]
fn run<A: Algorithm>(simd: Avx512, algorithm: A) -> A::Output {
    algorithm.run(simd)
}

/// The lowest `len` lanes, all of them from sixteen on.
#[inline(always)]
fn lowest(len: usize) -> __mmask16 {
    if len < LANES { (1 << len) - 1 } else { __mmask16::MAX }
}

/// Four rows, each quarter by itself: row j of the result has column j of each quarter.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_quads(rows: [__m512; 4]) -> [__m512; 4] {
    let pairs = |a, b| {
        let low = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
        let high = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        [low, high]
    };
    let ([a, b], [c, d]) = (pairs(rows[0], rows[1]), pairs(rows[2], rows[3]));
    [
        _mm512_castpd_ps(_mm512_unpacklo_pd(a, c)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(a, c)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(b, d)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(b, d)),
    ]
}

/// A call of an intrinsic whose arguments are all values.
macro_rules! avx512f {
    ($call:expr) => {
        // SAFETY: a value of `Avx512`, which every caller holds, exists only where `detect` has seen AVX-512F.
        unsafe { $call }
    };
}

impl Simd for Avx512 {
    type V = __m512;

    // 24 accumulators, two vectors of the right factor and one broadcast of the left one, of 32 registers.
    const ACCUMULATORS: usize = 24;
    const TILE_VECTORS: usize = 4;

    #[inline]
    fn run<A: Algorithm>(self, algorithm: A) -> A::Output {
        avx512f!(run(self, algorithm))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        avx512f!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        // SAFETY: AVX-512F as above; `from` is sixteen f32, and the unaligned form asks for no more.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32; LANES]) {
        // SAFETY: AVX-512F as above; `to` is sixteen f32 borrowed for writing, and the unaligned form asks for no more.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> __m512 {
        // SAFETY: AVX-512F as above; lanes beyond `from` are masked, and masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(lowest(from.len()), from.as_ptr()) }
    }

    #[inline(always)]
    fn store_part(self, x: __m512, to: &mut [f32]) {
        // SAFETY: AVX-512F as above; lanes beyond `to` are masked, and masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), lowest(to.len()), x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        avx512f!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        avx512f!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        avx512f!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        avx512f!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512f!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512f!(_mm512_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn add_square(self, sum: f64, x: f32) -> f64 {
        f64::from(x).mul_add(f64::from(x), sum)
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        avx512f!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        avx512f!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn transpose(self, rows: [__m512; LANES]) -> [__m512; LANES] {
        let mut quads = rows;
        for (quad, rows) in quads.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
            *quad = avx512f!(transpose_quads(*rows));
        }
        // Quads 4i + j now hold, in quarter q, rows 4i to 4i + 3 of column 4q + j.
        let mut columns = rows;
        for j in 0..4 {
            let [a, b, c, d] = [quads[j], quads[4 + j], quads[8 + j], quads[12 + j]];
            let even = avx512f!([_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d)]);
            let odd = avx512f!([_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d)]);
            columns[j] = avx512f!(_mm512_shuffle_f32x4::<0x88>(even[0], even[1]));
            columns[4 + j] = avx512f!(_mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]));
            columns[8 + j] = avx512f!(_mm512_shuffle_f32x4::<0xdd>(even[0], even[1]));
            columns[12 + j] = avx512f!(_mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]));
        }
        columns
    }

    // The lowest bits of `shifter` are n: added to the exponent.
    #[inline(always)]
    fn scale(self, x: __m512, shifter: __m512) -> __m512 {
        let n = avx512f!(_mm512_slli_epi32::<23>(_mm512_castps_si512(shifter)));
        avx512f!(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), n)))
    }
}
