//! Values as Go's standard library reads them, with its words for those that it cannot read.

use havre_types::size;

/// Why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("invalid size: '{0}'")]
    Size(String),
    #[error("strconv.{function}: parsing {text:?}: {reason}")]
    Number {
        function: &'static str,
        text: String,
        reason: &'static str,
    },
}

fn number(function: &'static str, text: &str, reason: &'static str) -> ValueError {
    ValueError::Number {
        function,
        text: text.to_owned(),
        reason,
    }
}

const SYNTAX: &str = "invalid syntax";
const RANGE: &str = "value out of range";

/// `strconv.ParseBool`.
pub(super) fn switch(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(number("ParseBool", text, SYNTAX)),
    }
}

/// `strconv.Atoi`.
pub(super) fn count(text: &str) -> Result<i64, ValueError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(number("Atoi", text, SYNTAX));
    }
    text.parse().ok().ok_or_else(|| number("Atoi", text, RANGE))
}

/// `strconv.ParseUint` for so many bits.
pub(super) fn natural(text: &str, bits: u32) -> Result<u64, ValueError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(number("ParseUint", text, SYNTAX));
    }
    let value = text.parse::<u64>().ok();
    value
        .filter(|value| bits >= 64 || *value >> bits == 0)
        .ok_or_else(|| number("ParseUint", text, RANGE))
}

/// `units.FromHumanSize`: powers of 1000, unlike the sizes of memory.
pub(super) fn decimal_size(text: &str) -> Result<u64, ValueError> {
    let fail = || ValueError::Size(text.to_owned());
    // Whatever is wrong for one base is wrong for the other.
    size::parse_bytes(text).ok().ok_or_else(fail)?;
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let exponent = match unit.trim_start().bytes().next() {
        None | Some(b'b' | b'B') => 0,
        Some(b'k' | b'K') => 1,
        Some(b'm' | b'M') => 2,
        Some(b'g' | b'G') => 3,
        Some(b't' | b'T') => 4,
        Some(b'p' | b'P') => 5,
        _ => 6,
    };
    let value: f64 = digits.parse().ok().ok_or_else(fail)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; the fraction of a byte is dropped and too large saturates"
    )]
    let bytes = (value * 1000_f64.powi(exponent)) as u64;
    Ok(bytes)
}
