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
