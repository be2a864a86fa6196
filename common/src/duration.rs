//! Durations as people write them: `90s`, `1h30m`, `200ms`, in specs and on the command line alike.

use std::time::Duration;

/// The longest: a year of 366 days.
pub const MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What is not a duration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DurationError {
    /// Not of the grammar.
    #[error("`{0}` is not a duration: durations are such as 200ms, 90s or 1h30m")]
    Grammar(String),
    /// Zero, or finer than the protocol's milliseconds.
    #[error("`{0}` is not a whole number of milliseconds from 1ms")]
    Milliseconds(String),
    /// Beyond [`MAX`].
    #[error("`{0}` is longer than a year")]
    TooLong(String),
}

/// The duration that `text` says.
///
/// # Errors
/// If it says none, or none that a message can carry: whole milliseconds, from one to a year.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let refused = |error: fn(String) -> DurationError| error(text.to_owned());
    let duration = humantime::parse_duration(text).map_err(|_| refused(DurationError::Grammar))?;
    if duration > MAX {
        return Err(refused(DurationError::TooLong));
    }
    if duration.is_zero() || !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(refused(DurationError::Milliseconds));
    }
    Ok(duration)
}

/// `duration` as [`parse`] reads it.
pub fn display(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_exactly() {
        for (text, ms) in
            [("90s", 90_000), ("1h30m", 5_400_000), ("200ms", 200), ("1m 1s", 61_000), ("2days", 172_800_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_no_message_carries_is_refused_in_words() {
        for bad in ["", "90", "s", "-1s", "1x", "99999999999999999999s", "1e3s"] {
            assert_eq!(parse(bad), Err(DurationError::Grammar(bad.to_owned())), "{bad}");
        }
        assert_eq!(parse("0s"), Err(DurationError::Milliseconds("0s".to_owned())));
        assert_eq!(parse("1500us"), Err(DurationError::Milliseconds("1500us".to_owned())));
        assert_eq!(parse("367days"), Err(DurationError::TooLong("367days".to_owned())));
    }

    proptest! {
        #[test]
        fn a_duration_reads_as_it_prints(ms in 1..=MAX.as_millis() as u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&display(duration)), Ok(duration));
        }
    }
}
