//! How long to wait before another try: full jitter, so that workers that lost one coordinator together do not come
//! back together. Pure: whoever waits draws the random number and owns the clock.

use std::time::Duration;

/// The shortest and the longest upper end of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// After the first failure a wait is from 0 to this.
    pub first: Duration,
    /// The upper end doubles with each failure, up to this.
    pub longest: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(5) }
    }
}

/// The failures in a row so far.
#[derive(Clone, Debug)]
pub struct Backoff {
    bounds: Bounds,
    failures: u32,
    /// The upper end of the last wait.
    upper: Duration,
}

impl Backoff {
    /// Before the first failure.
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, failures: 0, upper: Duration::ZERO }
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// What was tried has worked, for so long. What fails sooner than the last wait could have taken is one more
    /// failure of the row: what breaks as soon as it works is not tried again and again at once.
    pub fn worked_for(&mut self, time: Duration) {
        if time > self.upper {
            self.failures = 0;
        }
    }

    /// It failed once more: how long to wait, by `draw`, a random number that uses all 64 bits.
    pub fn after_failure(&mut self, draw: u64) -> Duration {
        let doubled = self.bounds.first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let upper = doubled.min(self.bounds.longest);
        self.failures = self.failures.saturating_add(1);
        self.upper = upper;
        upper.mul_f64(draw as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_end_doubles_to_the_longest_and_a_lasting_success_starts_again() {
        let mut backoff = Backoff::new(Bounds::default());
        let mut longest = || backoff.after_failure(u64::MAX).as_millis();
        assert_eq!(
            [longest(), longest(), longest(), longest(), longest(), longest()],
            [200, 400, 800, 1600, 3200, 5000]
        );
        for _ in 0..100 {
            backoff.after_failure(0);
        }
        assert_eq!(backoff.after_failure(u64::MAX), Duration::from_secs(5));
        backoff.worked_for(Duration::from_secs(5));
        assert_eq!(backoff.after_failure(u64::MAX), Duration::from_secs(5), "it broke off too soon");
        backoff.worked_for(Duration::from_secs(6));
        assert_eq!(backoff.after_failure(u64::MAX / 2).as_millis(), 100);
        assert_eq!(backoff.after_failure(0), Duration::ZERO);
    }
}
