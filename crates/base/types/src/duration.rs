//! Durations as Go writes and reads them (`1h30m0s`), and as Docker shows ages (`About an hour`).

use std::time::Duration;

use crate::{Classify, ErrorKind};

const MICRO: i64 = 1_000;
const MILLI: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A text that is no duration, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number, or out of range.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that Go does not have; there is none above hours.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// the unit
        unit: String,
        /// the whole text
        text: String,
    },
}

impl Classify for DurationError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// Reads `1h30m`, `-1.5s`, `100ms`, `0` into nanoseconds.
pub fn parse_go(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let scale = unit_nanos(unit).ok_or_else(|| DurationError::UnknownUnit {
            unit: unit.to_owned(),
            text: text.to_owned(),
        })?;
        total += decimal(number, scale).ok_or_else(invalid)?;
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = next;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).ok().ok_or_else(invalid)
}

fn unit_nanos(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => MICRO,
        "ms" => MILLI,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    })
}

/// `number * scale` for a decimal number, without rounding errors of floating point.
fn decimal(number: &str, scale: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut value = whole.checked_mul(i128::from(scale))?;
    let mut place = i128::from(scale);
    for digit in fraction.bytes() {
        place /= 10;
        value += i128::from(digit - b'0') * place;
    }
    Some(value)
}

/// Writes nanoseconds as Go's `time.Duration.String` does: `1h0m0s`, `1.5s`, `300ms`, `0s`.
#[must_use]
pub fn format_go(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let abs = nanos.unsigned_abs();
    let second = SECOND.unsigned_abs();
    if abs == 0 {
        return "0s".to_owned();
    }
    if abs < second {
        let (unit, scale) = match abs {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("\u{b5}s", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", fraction(abs, scale));
    }
    let minutes = abs / (60 * second);
    let seconds = fraction(abs % (60 * second), second);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

fn fraction(value: u64, scale: u64) -> String {
    let rest = value % scale;
    if rest == 0 {
        return (value / scale).to_string();
    }
    let width = usize::try_from(scale.ilog10()).unwrap_or(9);
    format!(
        "{}.{}",
        value / scale,
        format!("{rest:0width$}").trim_end_matches('0')
    )
}

/// An age in words: `Less than a second`, `5 minutes`, `About an hour`, `3 weeks`.
#[must_use]
pub fn human(age: Duration) -> String {
    let seconds = age.as_secs();
    let hours = (seconds + 1800) / 3600;
    match (seconds, seconds / 60, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, minutes @ 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, expected) in [
            ("0", 0),
            ("1h30m", 5400 * SECOND),
            ("-1.5s", -1500 * MILLI),
            ("100ms", 100 * MILLI),
            (".5us", 500),
            ("1h0.000000001s", HOUR + 1),
            ("2562047h47m16.854775807s", i64::MAX),
        ] {
            assert_eq!(parse_go(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("10", "time: missing unit in duration \"10\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
        ] {
            assert_eq!(parse_go(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn go_durations_are_written() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (300 * MILLI, "300ms"),
            (1_500 * MILLI, "1.5s"),
            (HOUR, "1h0m0s"),
            (-90 * SECOND, "-1m30s"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(format_go(nanos), expected);
        }
    }

    #[test]
    fn ages_are_told_in_words() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), expected);
        }
    }
}
