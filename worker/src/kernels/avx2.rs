//! The lane operations in AVX2 and FMA: two registers of eight lanes.

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_add_ps, _mm256_castsi256_ps, _mm256_cmpgt_epi32,
    _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_slli_epi32, _mm256_srai_epi32, _mm256_storeu_ps,
    _mm256_sub_epi32, _mm256_sub_ps,
};

use super::simd::{Algorithm, LANES, Simd};

/// A processor with AVX2 and FMA, as [`Avx2::detect`] has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let both = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
        both.then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma")]
fn run<A: Algorithm>(simd: Avx2, algorithm: A) -> A::Output {
    algorithm.run(simd)
}

/// A call of an intrinsic whose arguments are all values.
macro_rules! avx2 {
    ($call:expr) => {
        // SAFETY: a value of `Avx2`, which every caller holds, exists only where `detect` has seen AVX2 and FMA.
        unsafe { $call }
    };
}

/// Both halves by one operation.
macro_rules! halves {
    ($op:ident($($arg:ident),+)) => {
        [avx2!($op($($arg[0]),+)), avx2!($op($($arg[1]),+))]
    };
}

type V = [__m256; 2];

/// All bits in the lanes below `len` of eight, none in the others.
#[inline(always)]
fn lowest(len: usize) -> __m256i {
    let lanes = avx2!(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    avx2!(_mm256_cmpgt_epi32(_mm256_set1_epi32(len.min(8) as i32), lanes))
}

#[inline(always)]
fn load_half(from: &[f32]) -> __m256 {
    // SAFETY: AVX2 as above; lanes beyond `from` are masked, and masked lanes are not read.
    unsafe { _mm256_maskload_ps(from.as_ptr(), lowest(from.len())) }
}

#[inline(always)]
fn store_half(x: __m256, to: &mut [f32]) {
    // SAFETY: AVX2 as above; lanes beyond `to` are masked, and masked lanes are not written.
    unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), lowest(to.len()), x) }
}

/// 2^n.
#[inline(always)]
fn exp2_half(n: __m256i) -> __m256 {
    let biased = avx2!(_mm256_add_epi32(n, _mm256_set1_epi32(127)));
    avx2!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
}

/// In two steps, the first of which is exact: 2^n itself may be no f32.
#[inline(always)]
fn scale_half(x: __m256, n: __m256) -> __m256 {
    let n = avx2!(_mm256_cvtps_epi32(n));
    let half = avx2!(_mm256_srai_epi32::<1>(n));
    let rest = avx2!(_mm256_sub_epi32(n, half));
    avx2!(_mm256_mul_ps(_mm256_mul_ps(x, exp2_half(half)), exp2_half(rest)))
}

impl Simd for Avx2 {
    type V = V;

    // Twelve accumulators, two registers of the right factor and one broadcast of the left one, of sixteen.
    const ACCUMULATORS: usize = 6;
    const TILE_VECTORS: usize = 1;

    #[inline]
    fn run<A: Algorithm>(self, algorithm: A) -> A::Output {
        avx2!(run(self, algorithm))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [avx2!(_mm256_set1_ps(x)); 2]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> V {
        // SAFETY: AVX2 as above; `from` is sixteen f32, eight from each address; unaligned forms.
        unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn store(self, x: V, to: &mut [f32; LANES]) {
        // SAFETY: AVX2 as above; `to` is sixteen f32 borrowed for writing, eight from each address; unaligned forms.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), x[1]);
        }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> V {
        let (low, high) = from.split_at(from.len().min(8));
        [load_half(low), load_half(high)]
    }

    #[inline(always)]
    fn store_part(self, x: V, to: &mut [f32]) {
        let (low, high) = to.split_at_mut(to.len().min(8));
        store_half(x[0], low);
        store_half(x[1], high);
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        halves!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        halves!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        halves!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        halves!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        halves!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn fnma(self, a: V, b: V, c: V) -> V {
        halves!(_mm256_fnmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        halves!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        halves!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn scale(self, x: V, n: V) -> V {
        [scale_half(x[0], n[0]), scale_half(x[1], n[1])]
    }

    #[inline(always)]
    fn exp2_whole(self, n: V) -> V {
        let of = |n| exp2_half(avx2!(_mm256_cvtps_epi32(n)));
        [of(n[0]), of(n[1])]
    }
}
