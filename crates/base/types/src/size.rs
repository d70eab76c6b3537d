//! Sizes in bytes, as Docker prints and reads them (<https://github.com/docker/go-units>).

use crate::{Classify, ErrorKind};

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size: '{0}'")]
pub struct SizeError(String);

impl Classify for SizeError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// `1.23MB`: powers of 1000, three significant digits. Image and layer sizes.
#[must_use]
pub fn human_decimal(bytes: u64) -> String {
    scale(bytes, 1000.0, 3, &DECIMAL)
}

/// `1.235MB`: powers of 1000, four significant digits. Progress and totals.
#[must_use]
pub fn human_decimal4(bytes: u64) -> String {
    scale(bytes, 1000.0, 4, &DECIMAL)
}

/// `1.205MiB`: powers of 1024, four significant digits. Memory.
#[must_use]
pub fn human_binary(bytes: u64) -> String {
    scale(bytes, 1024.0, 4, &BINARY)
}

/// Reads `64m`, `1g`, `1.5 GiB`, `100`: powers of 1024 whatever the unit is called, as for memory limits.
pub fn parse_bytes(text: &str) -> Result<i64, SizeError> {
    let fail = || SizeError(text.to_owned());
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(fail());
    }
    let value: f64 = number.parse().ok().ok_or_else(fail)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let exponent = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        "e" | "eb" | "eib" => 6,
        _ => return Err(fail()),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fraction of a byte is dropped; too large saturates"
    )]
    let bytes = (value * 1024_f64.powi(exponent)) as i64;
    Ok(bytes)
}

fn scale(bytes: u64, base: f64, digits: usize, units: &[&str; 9]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "at most four digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", general(value, digits), units[unit])
}

/// C's `%.<digits>g` for the non-negative numbers below 1024 that scaling leaves.
fn general(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: usize = exponent.parse().unwrap_or(0);
    if exponent >= digits {
        // Go prints 999.9 with three digits as 1e+03, and so does Docker.
        return format!("{}e+{exponent:02}", trim_zeros(mantissa));
    }
    trim_zeros(&format!("{value:.*}", digits - 1 - exponent)).to_owned()
}

fn trim_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_docker_prints_them() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_230_000, "1.23MB"),
            (4_261_502, "4.26MB"),
            (116_563_210, "117MB"),
            (999_900_000, "1e+03MB"),
            (2_500_000_000, "2.5GB"),
        ] {
            assert_eq!(human_decimal(bytes), expected);
        }
        assert_eq!(human_decimal4(4_261_502), "4.262MB");
        assert_eq!(human_binary(1_263_616), "1.205MiB");
        assert_eq!(human_binary(1024), "1KiB");
        assert_eq!(human_binary(u64::MAX), "16EiB");
    }

    #[test]
    fn limits_are_read_in_powers_of_1024() {
        for (text, expected) in [
            ("0", 0),
            ("100", 100),
            ("64m", 64 << 20),
            ("1g", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("32 kb", 32 << 10),
            ("5B", 5),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1.2.3", "1  k", "ten", "5mm"] {
            assert_eq!(
                parse_bytes(text).unwrap_err().to_string(),
                format!("invalid size: '{text}'")
            );
        }
    }
}
