//! Signals by number or by name, as `kill` takes them.

use anyhow::{Result, bail};
use havre_sys::signal::from_raw;
use rustix::process::Signal;

/// x86-64 and arm64 share these numbers (man 7 signal).
const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Realtime signals start here for programs; the C library keeps 32 and 33.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

pub(crate) fn parse(text: &str) -> Result<Signal> {
    match number(text).and_then(from_raw) {
        Some(signal) => Ok(signal),
        None => bail!("unknown signal {text:?}"),
    }
}

fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return in_range(RTMIN, offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return in_range(RTMAX, offset);
    }
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

fn in_range(base: i32, offset: &str) -> Option<i32> {
    let offset: i32 = if offset.is_empty() {
        0
    } else {
        offset.parse().ok()?
    };
    base.checked_add(offset)
        .filter(|number| (RTMIN..=RTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for text in ["9", "KILL", "SIGKILL", "sigkill"] {
            assert_eq!(parse(text).unwrap(), Signal::KILL);
        }
        assert_eq!(number("RTMIN+1"), Some(35));
        assert_eq!(number("SIGRTMAX-1"), Some(63));
        for text in ["", "NOPE", "RTMIN-1", "RTMAX+1", "65", "-1", "0"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
