//! Plain SGD with the clip folded into its factor: one rounding a weight.

use super::simd::{Algorithm, LANES, Simd};

/// `w = fma(-factor, g, w)`.
pub(crate) struct Update<'a> {
    /// Learning rate times clip.
    pub(crate) factor: f32,
    /// The gradient, as long as the weights.
    pub(crate) gradient: &'a [f32],
    /// What is updated.
    pub(crate) weights: &'a mut [f32],
}

impl Algorithm for Update<'_> {
    type Output = ();

    fn check(&self) {
        assert_eq!(self.gradient.len(), self.weights.len());
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(self.factor);
        for at in (0..self.weights.len()).step_by(LANES) {
            let updated = s.fnma(factor, s.load_at(self.gradient, at), s.load_at(self.weights, at));
            s.store_at(updated, self.weights, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, every_isa, noise};
    use super::*;

    #[test]
    fn an_update_rounds_once_a_weight() {
        for len in [1, 7, 15, 16, 17, 1000] {
            let (gradient, weights) = (noise(6, len), noise(7, len));
            let factor = 0.7_f32;
            let naive = gradient.iter().zip(&weights).map(|(&g, &w)| libm::fmaf(-factor, g, w));
            let expected: Vec<f32> = naive.collect();
            for kernels in every_isa() {
                let mut weights = weights.clone();
                kernels.run(Update { factor, gradient: &gradient, weights: &mut weights });
                assert_eq!(bits(&weights), bits(&expected), "{:?}: {len}", kernels.name());
            }
        }
    }
}
