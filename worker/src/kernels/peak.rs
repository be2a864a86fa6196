//! The fastest that fused multiply-adds go: nothing but them, every accumulator in a register.

use std::hint::black_box;

use super::simd::{Algorithm, LANES, Simd};

/// Multiplies and adds `rounds` times into each of as many accumulators as the largest tile of a product has.
pub(crate) struct Peak {
    /// How often.
    pub(crate) rounds: u32,
}

impl Algorithm for Peak {
    /// Floating-point operations done.
    type Output = f64;

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        match S::ACCUMULATORS {
            24.. => chains::<S, 24>(s, self.rounds),
            6.. => chains::<S, 6>(s, self.rounds),
            _ => chains::<S, 4>(s, self.rounds),
        }
    }
}

#[inline(always)]
fn chains<S: Simd, const CHAINS: usize>(s: S, rounds: u32) -> f64 {
    // Converges on 2, so that no number on the way is subnormal or infinite.
    let (factor, term) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
    let mut sums = [s.splat(0.0); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = s.fma(*sum, factor, term);
        }
    }
    let mut total = s.splat(0.0);
    for sum in sums {
        total = s.add(total, sum);
    }
    let mut lanes = [0.0; LANES];
    s.store(total, &mut lanes);
    black_box(lanes);
    f64::from(rounds) * (2 * CHAINS * LANES) as f64
}

#[cfg(test)]
mod tests {
    use super::super::tests::every_isa;
    use super::*;

    #[test]
    fn the_peak_counts_a_multiplication_and_an_addition_a_lane() {
        for kernels in every_isa() {
            let flops = kernels.run(Peak { rounds: 10 });
            assert_eq!(flops % (10.0 * 2.0 * LANES as f64), 0.0, "{:?}", kernels.name());
        }
    }
}
