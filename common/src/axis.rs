//! One axis of a grid: its values, and the one grammar that people write them in.
//!
//! A comma list of items, each a value, `A..=B`, `A..=B:STEP` or `A..=B:xFACTOR`; digits may be grouped by
//! single underscores. An axis prints as a list of its values, whatever it was written as. What a value may
//! be (a batch size above zero, say) is not the axis's to know.

use std::fmt;
use std::str::FromStr;

/// The values to try for one parameter: at least one, strictly ascending.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Axis {
    values: Vec<u64>,
}

/// What is not an axis.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AxisError {
    /// Not one value.
    #[error("no values")]
    Empty,
    /// A value that two items hold.
    #[error("value {0} twice")]
    Twice(u64),
    /// What stands where a number should, by itself or in a range.
    #[error("not a whole number: `{0}`")]
    NotANumber(String),
    /// A whole number of more than 64 bits.
    #[error("more than 64 bits: `{0}`")]
    TooLarge(String),
    /// A range that ends before it starts.
    #[error("empty range `{first}..={last}`")]
    EmptyRange {
        /// Where it starts.
        first: u64,
        /// Where it ends.
        last: u64,
    },
    /// A range that would never move.
    #[error("step 0 in `{0}`")]
    ZeroStep(String),
    /// A range that would never grow: the factor is 0 or 1.
    #[error("factor {factor} in `{item}`")]
    Factor {
        /// The item as written.
        item: String,
        /// The factor in it.
        factor: u64,
    },
    /// A geometric range from 0, which no factor moves.
    #[error("geometric range from 0, `{0}`")]
    GeometricFromZero(String),
    /// More values than a sweep may have runs.
    #[error("more than {} values", Axis::VALUES_MAX)]
    TooMany,
}

impl Axis {
    /// The most values an axis may have: the most runs a sweep may have.
    pub const VALUES_MAX: usize = 10_000_000;

    /// The axis of these values, in ascending order.
    ///
    /// # Errors
    /// No value, more than [`Self::VALUES_MAX`], or one given twice.
    pub fn new(mut values: Vec<u64>) -> Result<Self, AxisError> {
        if values.is_empty() {
            return Err(AxisError::Empty);
        }
        if values.len() > Self::VALUES_MAX {
            return Err(AxisError::TooMany);
        }
        values.sort_unstable();
        match values.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(AxisError::Twice(pair[0])),
            None => Ok(Self { values }),
        }
    }

    /// The values of all `axes`, each once.
    ///
    /// # Errors
    /// No axis, or more values than [`Self::VALUES_MAX`].
    pub fn union<'a>(axes: impl IntoIterator<Item = &'a Self>) -> Result<Self, AxisError> {
        Self::new(ascending(axes.into_iter().flat_map(Self::values).copied()))
    }

    /// The values, strictly ascending.
    pub fn values(&self) -> &[u64] {
        &self.values
    }

    /// How many values; never 0.
    #[expect(clippy::len_without_is_empty, reason = "an axis is never empty")]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The smallest value.
    pub fn first(&self) -> u64 {
        self.values[0]
    }

    /// The largest value.
    pub fn last(&self) -> u64 {
        self.values[self.values.len() - 1]
    }

    /// The place of `value` among the values, from 0.
    pub fn index_of(&self, value: u64) -> Option<usize> {
        self.values.binary_search(&value).ok()
    }
}

/// Each of `values` once, ascending.
pub(crate) fn ascending<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values.dedup();
    values
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.values.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{value}")?;
        }
        Ok(())
    }
}

impl FromStr for Axis {
    type Err = AxisError;

    fn from_str(text: &str) -> Result<Self, AxisError> {
        if text.trim().is_empty() {
            return Err(AxisError::Empty);
        }
        let mut values = Vec::new();
        for item in text.split(',') {
            for value in Item::parse(item.trim())?.values() {
                if values.len() == Self::VALUES_MAX {
                    return Err(AxisError::TooMany);
                }
                values.push(value);
            }
        }
        Self::new(values)
    }
}

/// What stands between two commas. Only items that end can be made.
enum Item {
    Value(u64),
    Range { first: u64, last: u64, growth: Growth },
}

#[derive(Clone, Copy)]
enum Growth {
    /// At least 1.
    Step(u64),
    /// At least 2, and the range does not start at 0.
    Factor(u64),
}

impl Item {
    fn parse(item: &str) -> Result<Self, AxisError> {
        let Some((first, rest)) = item.split_once("..=") else {
            return Ok(Self::Value(whole_number(item)?));
        };
        let (last, growth) = match rest.split_once(':') {
            None => (rest, Growth::Step(1)),
            Some((last, growth)) => match growth.trim().strip_prefix('x') {
                Some(factor) => (last, Growth::Factor(whole_number(factor)?)),
                None => (last, Growth::Step(whole_number(growth)?)),
            },
        };
        let (first, last) = (whole_number(first)?, whole_number(last)?);
        match growth {
            _ if first > last => Err(AxisError::EmptyRange { first, last }),
            Growth::Step(0) => Err(AxisError::ZeroStep(item.to_owned())),
            Growth::Factor(factor @ (0 | 1)) => Err(AxisError::Factor { item: item.to_owned(), factor }),
            Growth::Factor(_) if first == 0 => Err(AxisError::GeometricFromZero(item.to_owned())),
            Growth::Step(_) | Growth::Factor(_) => Ok(Self::Range { first, last, growth }),
        }
    }

    fn values(&self) -> impl Iterator<Item = u64> {
        let (first, last, growth) = match *self {
            Self::Value(value) => (value, value, Growth::Step(1)),
            Self::Range { first, last, growth } => (first, last, growth),
        };
        // A value past 64 bits is past the range's end, too.
        let next = move |&value: &u64| match growth {
            Growth::Step(step) => value.checked_add(step),
            Growth::Factor(factor) => value.checked_mul(factor),
        };
        std::iter::successors(Some(first), next).take_while(move |&value| value <= last)
    }
}

/// A whole number whose digits may be grouped by single underscores, as in TOML.
///
/// # Errors
/// What is not one, or needs more than 64 bits.
pub fn whole_number(text: &str) -> Result<u64, AxisError> {
    let text = text.trim();
    let grouped = text.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !grouped {
        return Err(AxisError::NotANumber(text.to_owned()));
    }
    // Of digits alone, only those of a number too large are refused.
    text.replace('_', "").parse().map_err(|_| AxisError::TooLarge(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What axes look like, well formed or not.
    const LIKE_AN_AXIS: &str = "[0-9_]{1,3}(\\.\\.=[0-9]{1,4}(:x?[0-9]{1,2})?)?(,[0-9]{1,4}){0,3}";

    fn values(text: &str) -> Vec<u64> {
        text.parse::<Axis>().unwrap_or_else(|error| panic!("{text}: {error}")).values
    }

    fn refusal(text: &str) -> String {
        text.parse::<Axis>().expect_err(text).to_string()
    }

    #[test]
    fn an_axis_is_a_list_of_values_and_ranges_in_any_order() {
        assert_eq!(values("8"), [8]);
        assert_eq!(values("64, 8,16"), [8, 16, 64]);
        assert_eq!(values("3..=6"), [3, 4, 5, 6]);
        assert_eq!(values("1..=16:5"), [1, 6, 11, 16]);
        assert_eq!(values("1..=15:5"), [1, 6, 11]);
        assert_eq!(values("16..=64:x2"), [16, 32, 64]);
        assert_eq!(values("100, 1..=3, 1_000..=10_000:x10"), [1, 2, 3, 100, 1000, 10_000]);
        assert_eq!(values("5..=5"), [5]);
    }

    #[test]
    fn a_range_may_end_at_the_largest_number() {
        let max = u64::MAX;
        assert_eq!(values(&format!("{}..={max}", max - 1)), [max - 1, max]);
        assert_eq!(values(&format!("{}..={max}:x2", max / 2 + 1)), [max / 2 + 1]);
    }

    #[test]
    fn what_is_not_an_axis_is_refused_by_what_is_wrong() {
        assert_eq!(refusal(" "), "no values");
        assert_eq!(refusal("8,16,8"), "value 8 twice");
        assert_eq!(refusal("1..=5,3"), "value 3 twice");
        assert_eq!(refusal("8,,16"), "not a whole number: ``");
        assert_eq!(refusal("1..5"), "not a whole number: `1..5`");
        assert_eq!(refusal("-1"), "not a whole number: `-1`");
        assert_eq!(refusal("+1"), "not a whole number: `+1`");
        assert_eq!(refusal("1.5"), "not a whole number: `1.5`");
        assert_eq!(refusal("1__0"), "not a whole number: `1__0`");
        assert_eq!(refusal("18446744073709551616"), "more than 64 bits: `18446744073709551616`");
        assert_eq!(refusal("9..=3"), "empty range `9..=3`");
        assert_eq!(refusal("1..=3:0"), "step 0 in `1..=3:0`");
        assert_eq!(refusal("1..=8:x1"), "factor 1 in `1..=8:x1`");
        assert_eq!(refusal("0..=8:x2"), "geometric range from 0, `0..=8:x2`");
        assert_eq!(refusal("0..=18446744073709551615"), "more than 10000000 values");
        assert_eq!(Axis::new(vec![]), Err(AxisError::Empty));
        assert_eq!(Axis::new(vec![2, 1, 2]), Err(AxisError::Twice(2)));
    }

    #[test]
    fn a_value_is_found_at_its_place() {
        let axis: Axis = "8,32,16".parse().expect("three values");
        assert_eq!(axis.index_of(16), Some(1));
        assert_eq!(axis.index_of(17), None);
        assert_eq!((axis.first(), axis.last(), axis.len()), (8, 32, 3));
    }

    proptest! {
        #[test]
        fn parse_undoes_print(values in prop::collection::btree_set(any::<u64>(), 1..50)) {
            let axis = Axis::new(values.into_iter().collect()).expect("a set has nothing twice");
            prop_assert_eq!(axis.to_string().parse(), Ok(axis));
        }

        #[test]
        fn what_parses_is_ascending_and_parses_again_as_printed(text in LIKE_AN_AXIS) {
            if let Ok(axis) = text.parse::<Axis>() {
                prop_assert!(axis.values().is_sorted_by(|a, b| a < b));
                prop_assert_eq!(axis.to_string().parse(), Ok(axis));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*|[0-9.=:x,_ ]*") {
            // The outcome is free; the property is that there is one.
            let _ = text.parse::<Axis>();
        }
    }
}
