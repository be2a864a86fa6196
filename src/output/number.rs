//! Numbers as people read them. Files and JSON never come through here: they have all digits.

use slalom_common::run::Shape;

/// A perplexity to two places; a hopeless one to two digits.
pub(crate) fn perplexity(value: f64) -> String {
    if value.abs() < 10_000.0 { format!("{value:.2}") } else { format!("{value:.1e}") }
}

/// A loss or a norm to four places; a hopeless one to two digits.
pub(crate) fn four_places(value: f64) -> String {
    if value.abs() < 10_000.0 { format!("{value:.4}") } else { format!("{value:.1e}") }
}

/// A standard deviation beside a perplexity: one that two places do not show by its first digit.
pub(crate) fn deviation(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ if value >= 0.01 => perplexity(value),
        _ => {
            let places = (-value.log10().floor()).clamp(0.0, 20.0) as usize;
            format!("{value:.places$}")
        }
    }
}

/// A perplexity for a small cell.
pub(crate) fn perplexity_short(value: f64) -> String {
    if value.abs() < 10_000.0 { format!("{value:.1}") } else { format!("{value:.0e}") }
}

/// A whole number, its thousands apart: `10,000,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 run`, `2 runs`; what takes no plural by an s is not counted by this.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `none`, or how many.
pub(crate) fn count_or_none(number: u64) -> String {
    if number == 0 { "none".to_owned() } else { count(number) }
}

/// Seconds in the unit that fits: `0.4 s`, `31 s`, `12 min`, `3 h 20 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        _ if seconds < 0.95 => format!("{:.1} s", seconds.max(0.0)),
        0..=119 => format!("{whole} s"),
        120..=599 if !whole.is_multiple_of(60) => format!("{} min {} s", whole / 60, whole % 60),
        120..=7_199 => format!("{} min", whole / 60),
        _ => format!("{} h {} min", count(whole / 3600), whole % 3600 / 60),
    }
}

/// Amounts of work in one unit, that of the first: `3.4 TFLOP`, `0.04 TFLOP`.
pub(crate) fn flops<const N: usize>(amounts: [f64; N]) -> [String; N] {
    const UNITS: [&str; 7] = ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"];
    let mut unit = 0;
    let mut scale = 1.0;
    while unit + 1 < UNITS.len() && amounts.first().is_some_and(|first| first / scale >= 1000.0) {
        unit += 1;
        scale *= 1000.0;
    }
    amounts.map(|amount| format!("{} {}", two_digits(amount / scale), UNITS[unit]))
}

/// At least the two leading digits: `3.4`, `0.04`, `152`.
pub(crate) fn two_digits(value: f64) -> String {
    let exponent = if value > 0.0 { value.log10().floor() } else { 0.0 };
    let places = (1.0 - exponent).clamp(0.0, 9.0) as usize;
    let rounded = format!("{value:.places$}");
    if rounded.contains('.') {
        rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        rounded
    }
}

/// Bytes in the unit that fits: `29.9 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// `64/32/16@2000`.
pub(crate) fn point(at: Shape, epochs: u64) -> String {
    format!("{at}@{epochs}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_from_small_to_large() {
        assert_eq!([4.868, 152.3, 1e10].map(perplexity), ["4.87", "152.30", "1.0e10"]);
        assert_eq!([4.868, 152.3, 1e10].map(perplexity_short), ["4.9", "152.3", "1e10"]);
        assert_eq!([1.13452, 9999.9, 1.25e38].map(four_places), ["1.1345", "9999.9000", "1.2e38"]);
        assert_eq!([0.0, 0.0004, 0.009, 0.06, 1.5].map(deviation), ["0", "0.0004", "0.009", "0.06", "1.50"]);
        assert_eq!([0, 999, 1000, 10_000_000].map(count), ["0", "999", "1,000", "10,000,000"]);
        assert_eq!(counted(1, "run") + " " + &counted(1200, "run"), "1 run 1,200 runs");
        let times = [0.0, 0.42, 1.2, 31.4, 119.0, 130.0, 180.0, 3600.0, 7200.0, 1e7].map(seconds);
        let read = [
            "0.0 s",
            "0.4 s",
            "1 s",
            "31 s",
            "119 s",
            "2 min 10 s",
            "3 min",
            "60 min",
            "2 h 0 min",
            "2,777 h 46 min",
        ];
        assert_eq!(times, read);
    }

    #[test]
    fn amounts_of_work_share_the_unit_of_the_first() {
        assert_eq!(flops([3.42e12, 4.1e10]), ["3.4 TFLOP", "0.041 TFLOP"]);
        assert_eq!(flops([152.4e9, 0.0]), ["152 GFLOP", "0 GFLOP"]);
        assert_eq!(flops([2.0e30]), ["2000000000000 EFLOP"]);
    }
}
