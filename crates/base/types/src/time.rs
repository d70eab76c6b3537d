//! Points in time with nanoseconds, in the formats of the Engine API: RFC 3339, Unix seconds, and ages like `10m`.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Classify, ErrorKind, duration};

/// Seconds from Go's zero time, `0001-01-01T00:00:00Z`, to 1970.
const GO_ZERO: i64 = -62_135_596_800;
const DAY: i64 = 86_400;

/// A point in time, UTC. The default is Go's zero time, which means "never" in the API.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970; may be negative.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// A text that names no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse value as time or duration: {0:?}")]
pub struct TimestampError(String);

impl Classify for TimestampError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

impl Timestamp {
    /// Go's zero time, `0001-01-01T00:00:00Z`.
    pub const ZERO: Self = Self {
        secs: GO_ZERO,
        nanos: 0,
    };

    /// The system clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Whether this is Go's zero time.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Nanoseconds since 1970, as events carry them; saturates far outside this millennium.
    #[must_use]
    pub fn unix_nanos(&self) -> i64 {
        self.secs
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(self.nanos))
    }

    /// The time so many nanoseconds after 1970.
    #[must_use]
    pub fn from_unix_nanos(nanos: i64) -> Self {
        let part = nanos.rem_euclid(1_000_000_000);
        Self {
            secs: nanos.div_euclid(1_000_000_000),
            nanos: u32::try_from(part).unwrap_or(0),
        }
    }

    /// How long ago `earlier` was; zero when it is later than `self`.
    #[must_use]
    pub fn since(&self, earlier: Self) -> Duration {
        let nanos = self.total_nanos() - earlier.total_nanos();
        let secs = u64::try_from(nanos / 1_000_000_000).unwrap_or(0);
        Duration::new(
            secs,
            u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
        )
        .min(if nanos < 0 {
            Duration::ZERO
        } else {
            Duration::MAX
        })
    }

    /// The time `nanos` nanoseconds later; negative is earlier.
    #[must_use]
    pub fn plus_nanos(&self, nanos: i64) -> Self {
        let total = self.total_nanos() + i128::from(nanos);
        let part = u32::try_from(total.rem_euclid(1_000_000_000)).unwrap_or(0);
        Self {
            secs: i64::try_from(total.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
            nanos: part,
        }
    }

    /// RFC 3339 with up to nine digits, trailing zeros dropped: Go's `RFC3339Nano`.
    #[must_use]
    pub fn rfc3339(&self) -> String {
        let mut text = self.seconds_text();
        if self.nanos != 0 {
            text.push('.');
            text.push_str(format!("{:09}", self.nanos).trim_end_matches('0'));
        }
        text.push('Z');
        text
    }

    /// RFC 3339 with always nine digits, as log lines have it.
    #[must_use]
    pub fn rfc3339_fixed(&self) -> String {
        format!("{}.{:09}Z", self.seconds_text(), self.nanos)
    }

    /// `secs.nanos`, as the query parameters `since` and `until` carry it.
    #[must_use]
    pub fn unix_text(&self) -> String {
        format!("{}.{:09}", self.secs, self.nanos)
    }

    /// Parses RFC 3339 with an offset or `Z`.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimestampError> {
        match parse_date(text) {
            Some((time, true)) => Ok(time),
            _ => Err(TimestampError(text.to_owned())),
        }
    }

    /// Parses what `--since` and `--until` take: `10m` (before `now`), RFC 3339 also shortened to the day and
    /// without zone (then UTC), or Unix seconds with a fraction.
    pub fn parse_since(text: &str, now: Self) -> Result<Self, TimestampError> {
        if let Ok(nanos) = duration::parse_go(text)
            && text != "0"
        {
            return Ok(now.plus_nanos(nanos.saturating_neg()));
        }
        if let Some((time, _)) = parse_date(text) {
            return Ok(time);
        }
        parse_unix(text).ok_or_else(|| TimestampError(text.to_owned()))
    }

    /// Year, month, day, hour, minute and second, UTC.
    #[must_use]
    pub fn civil(&self) -> (i64, u32, u32, u32, u32, u32) {
        let (year, month, day) = civil_from_days(self.secs.div_euclid(DAY));
        let second = u32::try_from(self.secs.rem_euclid(DAY)).unwrap_or(0);
        (
            year,
            month,
            day,
            second / 3600,
            second / 60 % 60,
            second % 60,
        )
    }

    fn seconds_text(&self) -> String {
        let (year, month, day, hour, minute, second) = self.civil();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    }

    fn total_nanos(&self) -> i128 {
        i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos)
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self {
                secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos(),
            },
            Err(before) => {
                let nanos = i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX);
                Self::from_unix_nanos(-nanos)
            }
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        Self::parse_rfc3339(text)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::ZERO);
        }
        Self::parse_rfc3339(&text).map_err(de::Error::custom)
    }
}

/// The date at the head of `text` and whether a zone followed. All of the text must be used.
fn parse_date(text: &str) -> Option<(Timestamp, bool)> {
    let year: i64 = digits(text.get(..4)?)?.into();
    let month = digits(text.get(4..)?.strip_prefix('-')?.get(..2)?)?;
    let day = digits(text.get(7..)?.strip_prefix('-')?.get(..2)?)?;
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY;
    let (clock, rest) = match text.get(10..)?.strip_prefix(['T', 't', ' ']) {
        Some(clock) => parse_clock(clock)?,
        None => ((0, 0), text.get(10..)?),
    };
    let (offset, zoned) = parse_zone(rest)?;
    Some((
        Timestamp {
            secs: midnight + clock.0 - offset,
            nanos: clock.1,
        },
        zoned,
    ))
}

/// `15`, `15:04`, `15:04:05` or `15:04:05.999` as seconds and nanoseconds, and what follows.
fn parse_clock(text: &str) -> Option<((i64, u32), &str)> {
    let hour = digits(text.get(..2)?)?;
    let mut rest = text.get(2..)?;
    let mut parts = [0; 2];
    for part in &mut parts {
        let Some(tail) = rest.strip_prefix(':') else {
            break;
        };
        *part = digits(tail.get(..2)?)?;
        rest = tail.get(2..)?;
    }
    let mut nanos = 0;
    if let Some(tail) = rest.strip_prefix(['.', ',']) {
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        nanos = nanos_of(&tail[..end])?;
        rest = &tail[end..];
    }
    if hour > 23 || parts[0] > 59 || parts[1] > 59 {
        return None;
    }
    Some((
        (i64::from(hour * 3600 + parts[0] * 60 + parts[1]), nanos),
        rest,
    ))
}

/// The offset east of UTC in seconds, and whether one was given.
fn parse_zone(text: &str) -> Option<(i64, bool)> {
    let (sign, rest) = match text.as_bytes() {
        [] => return Some((0, false)),
        b"Z" | b"z" => return Some((0, true)),
        [b'+', ..] => (1, &text[1..]),
        [b'-', ..] => (-1, &text[1..]),
        _ => return None,
    };
    let hour = digits(rest.get(..2)?)?;
    let minute = digits(rest.get(2..)?.strip_prefix(':')?)?;
    (hour < 24 && minute < 60 && rest.len() == 5)
        .then(|| (sign * i64::from(hour * 3600 + minute * 60), true))
}

fn parse_unix(text: &str) -> Option<Timestamp> {
    let (secs, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanos = nanos_of(fraction)?;
    Some(Timestamp {
        secs: secs.parse().ok()?,
        nanos,
    })
}

/// `5` is half a second: digits after the point, as nanoseconds. More than nine are cut.
fn nanos_of(fraction: &str) -> Option<u32> {
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}")[..9].parse().ok()
}

fn digits(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn days_in_month(year: i64, month: u32) -> u32 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. The year is taken to begin in March, so that the leap
/// day is its last day, and an era is 400 years of 146,097 days.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (i64::from(month) + 9).rem_euclid(12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (
        year,
        u32::try_from(month).unwrap_or(1),
        u32::try_from(day).unwrap_or(1),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc3339_as_go_writes_it() {
        assert_eq!(Timestamp::default().to_string(), "0001-01-01T00:00:00Z");
        let time = Timestamp {
            secs: 1_700_000_000,
            nanos: 120_000_000,
        };
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.12Z");
        assert_eq!(time.rfc3339_fixed(), "2023-11-14T22:13:20.120000000Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2023-11-14T23:13:20.12+01:00"),
            Ok(time)
        );
        assert_eq!(
            Timestamp::parse_rfc3339("0001-01-01T00:00:00Z"),
            Ok(Timestamp::ZERO)
        );
        assert_eq!(
            Timestamp::parse_rfc3339("2024-02-29T00:00:00Z")
                .unwrap()
                .to_string(),
            "2024-02-29T00:00:00Z"
        );
        for bad in [
            "",
            "2023-11-14",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-11-14T24:00:00Z",
            "x",
        ] {
            Timestamp::parse_rfc3339(bad).unwrap_err();
        }
    }

    #[test]
    fn since_takes_ages_dates_and_seconds() {
        let now = Timestamp {
            secs: 1000,
            nanos: 0,
        };
        let since = |text: &str| Timestamp::parse_since(text, now).map(|t| (t.secs, t.nanos));
        assert_eq!(since("10m"), Ok((400, 0)));
        assert_eq!(since("1.5"), Ok((1, 500_000_000)));
        assert_eq!(since("0"), Ok((0, 0)));
        assert_eq!(since("1970-01-02"), Ok((DAY, 0)));
        assert_eq!(since("1970-01-01T01:00"), Ok((3600, 0)));
        assert_eq!(since("1970-01-01T01:00:00-01:00"), Ok((7200, 0)));
        since("yesterday").unwrap_err();
        since("").unwrap_err();
    }

    #[test]
    fn spans_do_not_go_below_zero() {
        let a = Timestamp { secs: 10, nanos: 5 };
        let b = Timestamp { secs: 12, nanos: 0 };
        assert_eq!(b.since(a), Duration::new(1, 999_999_995));
        assert_eq!(a.since(b), Duration::ZERO);
        assert_eq!(
            a.plus_nanos(-6),
            Timestamp {
                secs: 9,
                nanos: 999_999_999
            }
        );
    }

    proptest! {
        #[test]
        fn text_and_time_agree(secs in -62_135_596_800_i64..253_402_300_800, nanos in 0_u32..1_000_000_000) {
            let time = Timestamp { secs, nanos };
            prop_assert_eq!(Timestamp::parse_rfc3339(&time.to_string()), Ok(time));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            Timestamp::parse_since(&text, Timestamp::ZERO).ok();
            duration::parse_go(&text).ok();
            crate::size::parse_bytes(&text).ok();
        }
    }
}
