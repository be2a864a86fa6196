//! The settings that move a run's bits, their defaults (the study's) and the rate of learning they prescribe.

use crate::id::Step;

/// How weights are changed by gradients. Equal settings are equal bit for bit; all rates are finite and positive.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TrainingSettings {
    /// The learning rate of step 0.
    pub learning_rate: f64,
    /// What the learning rate is multiplied by at each multiple of `decay_steps`.
    pub decay_rate: f64,
    /// Steps between two decays.
    pub decay_steps: u64,
    /// The largest global norm of a gradient that is applied as it is.
    pub clip_norm: f64,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self { learning_rate: 10.0, decay_rate: 0.1, decay_steps: 5000, clip_norm: 1.25 }
    }
}

/// A training setting out of its range.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a finite number above zero.
    #[error("`{key}` is {value}: it must be a finite number above 0")]
    Rate {
        /// The setting's key in a spec.
        key: &'static str,
        /// What it was.
        value: f64,
    },
    /// Zero steps between decays, or 2^40 and more.
    #[error("`decay_steps` is {0}: it must be from 1 to 2^40 - 1")]
    DecaySteps(u64),
}

impl SettingsError {
    /// The key, in a spec, of the setting that is out of its range.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Rate { key, .. } => key,
            Self::DecaySteps(_) => "decay_steps",
        }
    }
}

impl TrainingSettings {
    /// Refuses rates that are not finite and positive.
    ///
    /// # Errors
    /// Names the first setting out of its range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let rates = [
            ("learning_rate", self.learning_rate),
            ("decay_rate", self.decay_rate),
            ("clip_norm", self.clip_norm),
        ];
        for (key, value) in rates {
            if !(value.is_finite() && value > 0.0) {
                return Err(SettingsError::Rate { key, value });
            }
        }
        if self.decay_steps == 0 || self.decay_steps >= 1 << 40 {
            return Err(SettingsError::DecaySteps(self.decay_steps));
        }
        Ok(())
    }

    /// The learning rate of `step` (counted from 0): `learning_rate`, multiplied by `decay_rate` once for each
    /// multiple of `decay_steps` passed, one rounding to f64 each (SEMANTICS.md, Step).
    pub fn learning_rate_at(&self, step: Step) -> f64 {
        let mut rate = self.learning_rate;
        for _ in 0..step.number() / self.decay_steps {
            let next = rate * self.decay_rate;
            // Zero, infinity, or a rate of 1: no later product differs.
            if next == rate {
                break;
            }
            rate = next;
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_multiplied_once_at_each_multiple_of_decay_steps() {
        let settings = TrainingSettings { decay_steps: 3, ..TrainingSettings::default() };
        let rates: Vec<f64> = (0..7).map(|step| settings.learning_rate_at(Step::new(step))).collect();
        let (once, twice) = (10.0 * 0.1, 10.0 * 0.1 * 0.1);
        assert_eq!(rates, [10.0, 10.0, 10.0, once, once, once, twice]);
        assert_eq!(settings.learning_rate_at(Step::new((1 << 40) - 1)), 0.0);
    }

    #[test]
    fn rates_that_are_not_finite_and_positive_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(TrainingSettings { clip_norm: bad, ..Default::default() }.check().is_err(), "{bad}");
        }
        assert!(TrainingSettings { decay_steps: 0, ..Default::default() }.check().is_err());
        assert!(TrainingSettings::default().check().is_ok());
    }
}
