//! Signals by name or number, as `--signal` and `STOPSIGNAL` give them.

use havre_api_traits::ApiError;

/// <https://man7.org/linux/man-pages/man7/signal.7.html>, the numbers of x86 and ARM.
const NAMES: [(&str, u32); 37] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("UNUSED", 31),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

pub(crate) const KILL: u32 = 9;
pub(crate) const TERM: u32 = 15;

/// Reads `KILL`, `SIGKILL`, `sigkill`, `9`, `RTMIN+3` or `RTMAX-2`.
pub(crate) fn parse(text: &str) -> Result<u32, ApiError> {
    let wrong = || ApiError::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<u32>() {
        return if (1..=64).contains(&number) {
            Ok(number)
        } else {
            Err(wrong())
        };
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |digits: &str| digits.parse::<u32>().ok().filter(|n| (1..=15).contains(n));
    if let Some(n) = bare.strip_prefix("RTMIN+").and_then(offset) {
        return Ok(34 + n);
    }
    if let Some(n) = bare
        .strip_prefix("RTMAX-")
        .and_then(offset)
        .filter(|&n| n < 15)
    {
        return Ok(64 - n);
    }
    NAMES
        .iter()
        .find(|(name, _)| *name == bare)
        .map(|&(_, number)| number)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling() {
        for (text, number) in [
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("1", 1),
            ("64", 64),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for wrong in [
            "", "0", "65", "-1", "SIG", "NOPE", "RTMIN+16", "RTMAX-15", "9 ",
        ] {
            assert_eq!(
                parse(wrong).unwrap_err().message,
                format!("invalid signal: {wrong}")
            );
        }
    }
}
