//! exp, sigmoid and tanh by polynomials of our own: the same bits everywhere, which no system's libm promises.
//!
//! Coefficients: interpolation at Chebyshev nodes of the interval named, in rational arithmetic, rounded to f32.
//! The bounds are in units in the last place of the f32 nearest to the true value; the tests below hold them.

use super::simd::{ROUNDER, Simd};

/// `e^x = 1 + x + C[0] x^2 + .. + C[4] x^6` for |x| <= ln 2 / 2, with a little to spare: relative error below 3e-9.
const C: [f32; 5] = [0.5, 0.166_665_78, 0.041_666_556, 0.008_363_174, 0.001_392_617_7];

/// The largest f32 below 126 ln 2. Beyond it in either direction `e^-x` is what it is here: further on it would be no normal
/// number.
const EXP_MAX: f32 = 87.336_54;

/// `e^-x` within 1 ulp up to [`EXP_MAX`] in magnitude, and beyond as if x were that: within the smallest normal number of
/// the truth above, far below it below.
#[inline(always)]
pub(super) fn exp_minus<S: Simd>(s: S, x: S::V) -> S::V {
    /// ln 2 rounded to f32, and what that left.
    const LN_2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_3e-9];
    // NaN passes both.
    let x = s.max(s.splat(-EXP_MAX), x);
    let x = s.min(s.splat(EXP_MAX), x);
    let shifter = s.fnma(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUNDER));
    let n = s.sub(shifter, s.splat(ROUNDER));
    // e^-x = 2^n e^-r
    let r = s.fma(n, s.splat(LN_2[0]), x);
    let r = s.fma(n, s.splat(LN_2[1]), r);
    let e = s.fma(s.splat(C[4]), r, s.splat(-C[3]));
    let e = s.fma(e, r, s.splat(C[2]));
    let e = s.fma(e, r, s.splat(-C[1]));
    let e = s.fma(e, r, s.splat(C[0]));
    let e = s.fma(e, r, s.splat(-1.0));
    let e = s.fma(e, r, s.splat(1.0));
    s.scale(e, shifter)
}

/// `1 / (1 + e^-x)` within 2.5 ulp; where the result is subnormal, within the smallest normal.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp_minus(s, x)))
}

/// tanh within 3.3 ulp and never beyond 1: `E / (E + 2)` with `E = e^2x - 1`, made without its cancellation.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    /// What halves 2x to its remainder; what that leaves out of ln 2 is lost beside the terms that follow.
    const HALF_LN_2: f32 = std::f32::consts::LN_2 / 2.0;
    // From 9.02 on the result rounds to 1; NaN passes both.
    let x = s.max(s.splat(-10.0), x);
    let x = s.min(s.splat(10.0), x);
    let shifter = s.fma(x, s.splat(2.0 * std::f32::consts::LOG2_E), s.splat(ROUNDER));
    let n = s.sub(shifter, s.splat(ROUNDER));
    // e^2x = 2^n e^2r; the polynomial above for 2r, without its 1.
    let r = s.fnma(n, s.splat(HALF_LN_2), x);
    let e = s.fma(s.splat(64.0 * C[4]), r, s.splat(32.0 * C[3]));
    let e = s.fma(e, r, s.splat(16.0 * C[2]));
    let e = s.fma(e, r, s.splat(8.0 * C[1]));
    let e = s.fma(e, r, s.splat(4.0 * C[0]));
    let e = s.fma(e, r, s.splat(2.0));
    let e = s.mul(e, r);
    // 2^n (e^2r - 1) + (2^n - 1)
    let one = s.splat(1.0);
    let power = s.scale(one, shifter);
    let e = s.fma(power, e, s.sub(power, one));
    s.div(e, s.add(e, s.splat(2.0)))
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Algorithm, LANES};
    use super::super::{IsaName, Kernels};
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Function {
        ExpMinus,
        Sigmoid,
        Tanh,
    }

    struct Apply<'a> {
        function: Function,
        values: &'a mut [f32; LANES],
    }

    impl Algorithm for Apply<'_> {
        type Output = ();

        fn check(&self) {}

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let x = s.load(self.values);
            let y = match self.function {
                Function::ExpMinus => exp_minus(s, x),
                Function::Sigmoid => sigmoid(s, x),
                Function::Tanh => tanh(s, x),
            };
            s.store(y, self.values);
        }
    }

    fn apply(kernels: Kernels, function: Function, x: [f32; LANES]) -> [f32; LANES] {
        let mut values = x;
        kernels.run(Apply { function, values: &mut values });
        values
    }

    /// Every `stride`-th f32 of both signs up to `limit` in magnitude, from zero on, subnormals included.
    fn walk(limit: f32, stride: usize) -> impl Iterator<Item = [f32; LANES]> {
        let magnitudes = (0..=limit.to_bits()).step_by(stride * LANES / 2);
        magnitudes.map(move |start| {
            std::array::from_fn(|lane| {
                let bits = (start + (lane / 2 * stride) as u32).min(limit.to_bits());
                f32::from_bits(bits).copysign(if lane % 2 == 0 { 1.0 } else { -1.0 })
            })
        })
    }

    /// The distance from the truth in units in the last place of the f32 nearest to it; where that is subnormal, in units of
    /// the smallest normal number.
    fn ulps(found: f32, truth: f64) -> f64 {
        let magnitude = (truth as f32).abs();
        if magnitude < f32::MIN_POSITIVE {
            return (f64::from(found) - truth).abs() / f64::from(f32::MIN_POSITIVE);
        }
        let unit = f64::from(f32::from_bits(magnitude.to_bits() + 1)) - f64::from(magnitude);
        (f64::from(found) - truth).abs() / unit
    }

    fn worst(kernels: Kernels, function: Function, limit: f32, stride: usize) -> f64 {
        let truth = |x: f64| match function {
            Function::ExpMinus => libm::exp(-x),
            Function::Sigmoid if x < 0.0 => libm::exp(x) / (1.0 + libm::exp(x)),
            Function::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Function::Tanh => libm::tanh(x),
        };
        let mut worst = 0.0_f64;
        for x in walk(limit, stride) {
            let y = apply(kernels, function, x);
            for (x, y) in x.into_iter().zip(y) {
                worst = worst.max(ulps(y, truth(f64::from(x))));
            }
        }
        worst
    }

    /// A prime stride meets every binade and every reduction too. `.ci/full activations` builds with 1: every f32.
    fn stride() -> usize {
        option_env!("SLALOM_TEST_STRIDE").map_or(997, |stride| stride.parse().expect("a number"))
    }

    #[test]
    fn exp_sigmoid_and_tanh_keep_their_bounds() {
        let kernels = Kernels::detect();
        let exp = worst(kernels, Function::ExpMinus, EXP_MAX, stride());
        let sigmoid = worst(kernels, Function::Sigmoid, 128.0, stride());
        let tanh = worst(kernels, Function::Tanh, 128.0, stride());
        eprintln!("exp: {exp} ulp, sigmoid: {sigmoid} ulp, tanh: {tanh} ulp");
        assert!(exp <= 1.0, "exp: {exp} ulp");
        assert!(sigmoid <= 2.5, "sigmoid: {sigmoid} ulp");
        assert!(tanh <= 3.3, "tanh: {tanh} ulp");
    }

    #[test]
    fn the_functions_have_the_same_bits_on_every_instruction_set() {
        let portable = Kernels::of(IsaName::Portable).expect("portable is everywhere");
        for kernels in crate::kernels::tests::every_isa() {
            for function in [Function::ExpMinus, Function::Sigmoid, Function::Tanh] {
                for x in walk(f32::INFINITY, 100 * stride()) {
                    let (found, expected) = (apply(kernels, function, x), apply(portable, function, x));
                    assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits), "{function:?} of {x:?}");
                }
            }
        }
    }

    #[test]
    fn the_ends_are_exact_and_nan_stays_nan() {
        let x = [f32::NEG_INFINITY, f32::INFINITY, 0.0, -0.0, f32::NAN, -89.0, 105.0, 1000.0].repeat(2);
        let x: [f32; LANES] = x.try_into().expect("twice eight are sixteen");
        for kernels in crate::kernels::tests::every_isa() {
            let exp = apply(kernels, Function::ExpMinus, x);
            let ends = apply(
                kernels,
                Function::ExpMinus,
                [EXP_MAX, -EXP_MAX].repeat(8).try_into().expect("sixteen"),
            );
            assert!(ends[0] >= f32::MIN_POSITIVE && ends[1].is_finite(), "normal numbers: {ends:?}");
            assert_eq!(exp[..4], [ends[1], ends[0], 1.0, 1.0]);
            assert_eq!(exp[5..8], [ends[1], ends[0], ends[0]]);
            let sigmoid = apply(kernels, Function::Sigmoid, x);
            assert_eq!(sigmoid[1..4], [1.0, 0.5, 0.5]);
            assert!(sigmoid[0] > 0.0 && sigmoid[0] < 1.5 * f32::MIN_POSITIVE);
            let tanh = apply(kernels, Function::Tanh, x);
            assert_eq!(tanh[..4], [-1.0, 1.0, 0.0, 0.0]);
            assert!(exp[4].is_nan() && sigmoid[4].is_nan() && tanh[4].is_nan());
        }
    }
}
