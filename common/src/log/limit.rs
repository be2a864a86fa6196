//! At most so many lines of a kind in a while: what strangers bring about must neither fill a disk nor hide what else is said (I13).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often an event may be written that others bring about.
#[derive(Debug)]
pub(super) struct Limit {
    lines_max: u64,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// When the present while began.
    began: Option<Instant>,
    written: u64,
    held_back: u64,
}

impl Limit {
    /// So many lines in each such while, the first of which begins with the first line.
    pub(super) const fn new(lines_max: u64, every: Duration) -> Self {
        Self { lines_max, every, state: Mutex::new(State { began: None, written: 0, held_back: 0 }) }
    }

    /// Whether a line may be written at `now`: then how many were held back since the last that was.
    pub(super) fn admits(&self, now: Instant) -> Option<u64> {
        // Whoever panicked in here left numbers behind, and any will do.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now.duration_since(began) >= self.every) {
            (state.began, state.written) = (Some(now), 0);
        }
        if state.written == self.lines_max {
            state.held_back += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_held_back_and_the_next_says_how_many() {
        let limit = Limit::new(3, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| limit.admits(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(1), at(9)], [Some(0); 3]);
        assert_eq!([at(9), at(9)], [None; 2]);
        assert_eq!([at(10), at(10), at(19), at(19)], [Some(2), Some(0), Some(0), None]);
        assert_eq!(at(60), Some(1));
    }
}
