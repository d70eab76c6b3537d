//! Numbers as tar headers spell them: octal text, or base 256 when the top bit is set. A number that
//! does not fit is an error; none ever wraps.

/// `None` when the field is neither.
pub(crate) fn parse(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

/// As [`parse`], for what cannot be negative.
pub(crate) fn parse_unsigned(field: &[u8]) -> Option<u64> {
    parse(field).and_then(|number| u64::try_from(number).ok())
}

/// Space or NUL may stand on either side, and an empty field is 0, as old writers leave it.
fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(blank) {
        return None;
    }
    digits.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big end first, with the topmost bit taken for the mark.
fn base256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let negative = first & 0x40 != 0;
    let top = if negative {
        i128::from(first | 0x80) - 256
    } else {
        i128::from(first & 0x3f)
    };
    let number = rest.iter().try_fold(top, |number, byte| {
        let next = number.checked_mul(256)?.checked_add(i128::from(*byte))?;
        // Any field is at most 12 bytes; what has left the range of 64 bits cannot come back.
        (next >= i128::from(i64::MIN) && next <= i128::from(i64::MAX)).then_some(next)
    })?;
    i64::try_from(number).ok()
}

/// Writes `number` as zero-padded octal with a NUL; `false` when it does not fit.
pub(crate) fn write_octal(field: &mut [u8], number: u64) -> bool {
    let Some((last, digits)) = field.split_last_mut() else {
        return false;
    };
    *last = 0;
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b"01234567"[usize::try_from(rest & 7).unwrap_or(0)];
        rest >>= 3;
    }
    rest == 0
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_unsigned, write_octal};

    #[test]
    fn octal_fields_of_real_writers_are_read() {
        assert_eq!(parse(b"0000644\0"), Some(0o644));
        assert_eq!(parse(b"   644 \0"), Some(0o644));
        assert_eq!(parse(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(parse(b"77777777777\0"), Some(0o77_777_777_777));
        assert_eq!(parse(b"0000648\0"), None);
        assert_eq!(parse(b"12 34\0"), None);
        assert_eq!(parse(b"-1\0"), None);
    }

    #[test]
    fn base_256_holds_negative_and_large_numbers_and_never_wraps() {
        assert_eq!(parse(&[0xff; 12]), Some(-1));
        assert_eq!(parse(&[0x80, 0, 0, 0, 1, 0, 0, 0]), Some(1 << 24));
        assert_eq!(
            parse(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]),
            Some(i64::MAX)
        );
        assert_eq!(parse(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse_unsigned(&[0xff; 8]), None);
    }

    #[test]
    fn octal_is_written_only_when_it_fits() {
        let mut field = [b'x'; 8];
        assert!(write_octal(&mut field, 0o644));
        assert_eq!(&field, b"0000644\0");
        assert!(!write_octal(&mut field, 0o10_000_000));
    }
}
