//! Time as a value: whoever decides by time is handed a [`Moment`] and never reads a clock (I16).

use std::time::Duration;

/// Microseconds since an origin that its maker chose: monotonic, and meaningless to another process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(u64);

impl Moment {
    /// `since_origin` after the origin.
    pub const fn new(since_origin: Duration) -> Self {
        Self(since_origin.as_micros() as u64)
    }

    /// How long ago `earlier` was; zero if it is later than this.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later.as_micros() as u64))
    }
}
