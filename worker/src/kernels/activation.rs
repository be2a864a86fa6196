//! exp, sigmoid and tanh by polynomials of our own: the same bits everywhere, which no system's libm promises.
//!
//! Coefficients: interpolation at Chebyshev nodes of the interval named, in rational arithmetic, rounded to f32.
//! The bounds are in units in the last place of the f32 nearest to the true value; the tests below hold them.

use super::simd::Simd;

/// `e^x` within 1.1 ulp from -87 up, within the smallest subnormal below that; 0 below -104, infinite above 88.73.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // Beyond either the result is known already; NaN passes both.
    let x = s.max(s.splat(-104.0), x);
    let x = s.min(s.splat(89.0), x);
    let (fraction, n) = exp_parts(s, x);
    // 2^n in two steps, since n may be as low as -150: the first is exact, so a subnormal result is rounded once.
    let n_normal = s.min(s.splat(127.0), s.max(s.splat(-126.0), n));
    let n_rest = s.sub(n, n_normal);
    s.mul(s.mul(fraction, s.exp2_whole(n_rest)), s.exp2_whole(n_normal))
}

/// `1 / (1 + e^-x)` within 2.5 ulp; where the result is subnormal, within the smallest subnormal.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    // e^-|x| never overflows; for negative x both terms of the fraction are multiplied by it.
    let e = exp(s, s.sub(s.splat(0.0), s.abs(x)));
    let one = s.splat(1.0);
    s.div(s.where_less(x, s.splat(0.0), e, one), s.add(one, e))
}

/// tanh within 1.4 ulp.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    /// Below this the polynomial, from it on the exponential, whose cancellation is harmless there.
    const SMALL: f32 = 0.625;
    let magnitude = s.abs(x);

    // x + x^3 P(x^2) for x^2 in [0, 0.390625]: relative error below 2e-8.
    let square = s.mul(x, x);
    let p = s.splat(-0.008_343_945);
    let p = s.fma(s.splat(0.002_292_744_8), square, p);
    let p = s.fma(p, square, s.splat(0.021_768_918));
    let p = s.fma(p, square, s.splat(-0.053_959_258));
    let p = s.fma(p, square, s.splat(0.133_333_04));
    let p = s.fma(p, square, s.splat(-0.333_333_34));
    let small = s.fma(s.mul(p, square), x, x);

    // 1 - 2 / (e^2|x| + 1); from 9.02 on that rounds to 1, so the exponent stays small. NaN passes.
    let bounded = s.min(s.splat(10.0), magnitude);
    let (fraction, n) = exp_parts(s, s.add(bounded, bounded));
    let e = s.mul(fraction, s.exp2_whole(n));
    let large = s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))));

    s.where_less(magnitude, s.splat(SMALL), small, s.with_sign_of(large, x))
}

/// (f, n) with `e^x = f 2^n`, n whole and f in [0.7, 1.42], for x in [-104, 89].
#[inline(always)]
fn exp_parts<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    /// ln 2 rounded to f32, and what that left.
    const LN_2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_3e-9];
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fnma(n, s.splat(LN_2[0]), x);
    let r = s.fnma(n, s.splat(LN_2[1]), r);

    // 1 + r + r^2 Q(r) for |r| <= ln 2 / 2, with a little to spare: relative error below 3e-9.
    let q = s.splat(0.001_392_617_7);
    let q = s.fma(q, r, s.splat(0.008_363_174));
    let q = s.fma(q, r, s.splat(0.041_666_556));
    let q = s.fma(q, r, s.splat(0.166_665_78));
    let q = s.fma(q, r, s.splat(0.5));
    let tail = s.fma(s.mul(q, r), r, r);
    (s.add(tail, s.splat(1.0)), n)
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Algorithm, LANES};
    use super::super::{IsaName, Kernels};
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
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
                Function::Exp => exp(s, x),
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

    /// The distance from the truth in units in the last place of the f32 nearest to it.
    fn ulps(found: f32, truth: f64) -> f64 {
        let nearest = truth as f32;
        let magnitude = nearest.abs().max(f32::MIN_POSITIVE);
        let unit = f64::from(f32::from_bits(magnitude.to_bits() + 1)) - f64::from(magnitude);
        (f64::from(found) - truth).abs() / unit
    }

    fn worst(kernels: Kernels, function: Function, limit: f32, stride: usize) -> f64 {
        let truth = |x: f64| match function {
            Function::Exp => libm::exp(x),
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

    /// With a stride of 1, every f32, this takes 71 s and finds 1.078, 2.402 and 1.332 ulp. A prime stride meets every
    /// binade and every reduction too.
    const STRIDE: usize = 997;

    #[test]
    fn exp_sigmoid_and_tanh_keep_their_bounds() {
        let kernels = Kernels::detect();
        let exp = worst(kernels, Function::Exp, 88.72, STRIDE);
        let sigmoid = worst(kernels, Function::Sigmoid, 120.0, STRIDE);
        let tanh = worst(kernels, Function::Tanh, 20.0, STRIDE);
        assert!(exp <= 1.1, "exp: {exp} ulp");
        assert!(sigmoid <= 2.5, "sigmoid: {sigmoid} ulp");
        assert!(tanh <= 1.4, "tanh: {tanh} ulp");
    }

    #[test]
    fn the_functions_have_the_same_bits_on_every_instruction_set() {
        let portable = Kernels::of(IsaName::Portable).expect("portable is everywhere");
        for kernels in crate::kernels::tests::every_isa() {
            for function in [Function::Exp, Function::Sigmoid, Function::Tanh] {
                for x in walk(f32::INFINITY, 99_991) {
                    let (found, expected) = (apply(kernels, function, x), apply(portable, function, x));
                    assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits), "{function:?} of {x:?}");
                }
            }
        }
    }

    #[test]
    fn the_ends_are_exact_and_nan_stays_nan() {
        let x = [f32::NEG_INFINITY, f32::INFINITY, 0.0, -0.0, f32::NAN, -105.0, 89.0, 1000.0].repeat(2);
        let x: [f32; LANES] = x.try_into().expect("twice eight are sixteen");
        for kernels in crate::kernels::tests::every_isa() {
            let exp = apply(kernels, Function::Exp, x);
            assert_eq!(exp[..4], [0.0, f32::INFINITY, 1.0, 1.0]);
            assert_eq!(exp[5..8], [0.0, f32::INFINITY, f32::INFINITY]);
            let sigmoid = apply(kernels, Function::Sigmoid, x);
            assert_eq!(sigmoid[..4], [0.0, 1.0, 0.5, 0.5]);
            let tanh = apply(kernels, Function::Tanh, x);
            assert_eq!(tanh[..4], [-1.0, 1.0, 0.0, 0.0]);
            assert!(exp[4].is_nan() && sigmoid[4].is_nan() && tanh[4].is_nan());
        }
    }
}
