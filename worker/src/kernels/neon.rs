//! The lane operations in NEON: four registers of four lanes.

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddq_s32, vbslq_f32, vcgtq_f32, vcltq_f32, vdivq_f32, vdupq_n_f32, vfmaq_f32,
    vfmsq_f32, vld1q_f32, vmulq_f32, vreinterpretq_f32_s32, vreinterpretq_s32_f32, vshlq_n_s32, vst1q_f32,
    vsubq_f32,
};

use super::simd::{Algorithm, LANES, Simd};

/// A processor with NEON, as [`Neon::detect`] has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neon(());

impl Neon {
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

#[target_feature(enable = "neon")]
fn run<A: Algorithm>(simd: Neon, algorithm: A) -> A::Output {
    algorithm.run(simd)
}

/// A call of an intrinsic whose arguments are all values.
macro_rules! neon {
    ($call:expr) => {
        // SAFETY: a value of `Neon`, which every caller holds, exists only where `detect` has seen NEON.
        unsafe { $call }
    };
}

type V = [float32x4_t; 4];

/// All four quarters by one operation.
macro_rules! quarters {
    ($op:ident($($arg:ident),+)) => {
        neon!([$op($($arg[0]),+), $op($($arg[1]),+), $op($($arg[2]),+), $op($($arg[3]),+)])
    };
}

/// The instruction for the maximum would give NaN for NaN, and order zeros.
#[inline]
#[target_feature(enable = "neon")]
fn max_quarter(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// As for the maximum.
#[inline]
#[target_feature(enable = "neon")]
fn min_quarter(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

/// The lowest bits of `shifter` are n: added to the exponent.
#[inline]
#[target_feature(enable = "neon")]
fn scale_quarter(x: float32x4_t, shifter: float32x4_t) -> float32x4_t {
    let n = vshlq_n_s32::<23>(vreinterpretq_s32_f32(shifter));
    vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), n))
}

impl Simd for Neon {
    type V = V;

    // 24 accumulators, four registers of the right factor and one broadcast of the left one, of 32.
    const ACCUMULATORS: usize = 6;
    const TILE_VECTORS: usize = 1;

    #[inline]
    fn run<A: Algorithm>(self, algorithm: A) -> A::Output {
        neon!(run(self, algorithm))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [neon!(vdupq_n_f32(x)); 4]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> V {
        // SAFETY: NEON as above; `from` is sixteen f32, four from each address; the load asks for the alignment of one.
        std::array::from_fn(|quarter| unsafe { vld1q_f32(from.as_ptr().add(4 * quarter)) })
    }

    #[inline(always)]
    fn store(self, x: V, to: &mut [f32; LANES]) {
        for (quarter, x) in x.into_iter().enumerate() {
            // SAFETY: NEON as above; `to` is sixteen f32 borrowed for writing, four from each address; the store asks for
            // the alignment of one.
            unsafe { vst1q_f32(to.as_mut_ptr().add(4 * quarter), x) }
        }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> V {
        let mut values = [0.0; LANES];
        for (value, &from) in values.iter_mut().zip(from) {
            *value = from;
        }
        self.load(&values)
    }

    #[inline(always)]
    fn store_part(self, x: V, to: &mut [f32]) {
        let mut values = [0.0; LANES];
        self.store(x, &mut values);
        for (to, value) in to.iter_mut().zip(values) {
            *to = value;
        }
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        quarters!(vaddq_f32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        quarters!(vsubq_f32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        quarters!(vmulq_f32(a, b))
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        quarters!(vdivq_f32(a, b))
    }

    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        quarters!(vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn fnma(self, a: V, b: V, c: V) -> V {
        quarters!(vfmsq_f32(c, a, b))
    }

    #[inline(always)]
    fn add_square(self, sum: f64, x: f32) -> f64 {
        f64::from(x).mul_add(f64::from(x), sum)
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        quarters!(max_quarter(a, b))
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        quarters!(min_quarter(a, b))
    }

    #[inline(always)]
    fn scale(self, x: V, shifter: V) -> V {
        quarters!(scale_quarter(x, shifter))
    }
}
