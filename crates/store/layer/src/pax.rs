//! PAX extended header records. A record that is not exactly as POSIX has it makes the archive
//! invalid: skipped ones are how two readers come to see two archives.
//!
//! <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_03>

use crate::header::Mtime;

/// The known values of one extended header; what is not known is left out.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) user: Option<Vec<u8>>,
    pub(crate) group: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Mtime>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Sparse,
}

/// GNU's ways to describe a sparse file.
/// <https://www.gnu.org/software/tar/manual/html_node/PAX-0.html>
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    /// Offsets and lengths in turn, of formats 0.0 and 0.1.
    pub(crate) map: Option<Vec<u64>>,
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Pax, &'static str> {
    let mut pax = Pax::default();
    for_each(bytes, |key, value| take(&mut pax, key, value))?;
    Ok(pax)
}

/// A global header may hold remarks; values that change entries are refused, because readers
/// disagree about them (Go's ignores them, others apply them).
pub(crate) fn check_global(bytes: &[u8]) -> Result<(), &'static str> {
    for_each(bytes, |key, _| match key {
        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"uname" | b"gname" | b"mtime" => {
            Err("a global header sets values of entries")
        }
        key if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SCHILY.xattr.") => {
            Err("a global header sets values of entries")
        }
        _ => Ok(()),
    })
}

fn for_each(
    mut rest: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    while !rest.is_empty() {
        let space = memchr::memchr(b' ', &rest[..rest.len().min(20)]).ok_or("no record length")?;
        let length = decimal(&rest[..space]).ok_or("record length is not a number")?;
        let length = usize::try_from(length).map_err(|_too_large| "record length is too large")?;
        let record = rest
            .get(space + 1..length)
            .ok_or("record is longer than the header")?;
        let record = record
            .strip_suffix(b"\n")
            .ok_or("record does not end with a newline")?;
        let equals = memchr::memchr(b'=', record).ok_or("record has no `=`")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err("record has no valid key");
        }
        take(key, value)?;
        rest = &rest[length..];
    }
    Ok(())
}

fn take(pax: &mut Pax, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
        if name.is_empty() {
            return Err("extended attribute has no name");
        }
        pax.xattrs.retain(|(known, _)| known != name);
        pax.xattrs.push((name.to_vec(), value.to_vec()));
        return Ok(());
    }
    if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
        return take_sparse(&mut pax.sparse, key, value);
    }
    let number = |value: &[u8]| match value {
        b"" => Ok(None),
        digits => decimal(digits).map(Some).ok_or("value is not a number"),
    };
    match key {
        b"path" => pax.path = name(value)?,
        b"linkpath" => pax.link = name(value)?,
        b"uname" => pax.user = name(value)?,
        b"gname" => pax.group = name(value)?,
        b"size" => pax.size = number(value)?,
        b"uid" => pax.uid = number(value)?,
        b"gid" => pax.gid = number(value)?,
        b"mtime" => {
            pax.mtime = match value {
                b"" => None,
                text => Some(time(text).ok_or("mtime is not a time")?),
            };
        }
        _ => {}
    }
    Ok(())
}

fn take_sparse(sparse: &mut Sparse, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    let number = || decimal(value).ok_or("sparse value is not a number");
    match key {
        b"major" => sparse.major = Some(number()?),
        b"minor" => sparse.minor = Some(number()?),
        b"name" => sparse.name = name(value)?,
        b"realsize" | b"size" => sparse.real_size = Some(number()?),
        b"map" => {
            let numbers: Option<Vec<u64>> = match value {
                b"" => Some(Vec::new()),
                text => text.split(|byte| *byte == b',').map(decimal).collect(),
            };
            sparse.map = Some(numbers.ok_or("sparse map is not a list of numbers")?);
        }
        b"offset" => {
            let map = sparse.map.get_or_insert_default();
            if !map.len().is_multiple_of(2) {
                return Err("sparse offset without length");
            }
            map.push(number()?);
        }
        b"numbytes" => {
            let map = sparse.map.get_or_insert_default();
            if map.len().is_multiple_of(2) {
                return Err("sparse length without offset");
            }
            map.push(number()?);
        }
        _ => {}
    }
    Ok(())
}

/// An empty value takes the record back.
fn name(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("name holds a NUL");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Decimal seconds with a fraction; digits beyond nanoseconds are cut off.
fn time(text: &[u8]) -> Option<Mtime> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    let mut nanos = 0_u32;
    for place in 0..9 {
        let digit = match fraction.get(place) {
            Some(digit @ b'0'..=b'9') => u32::from(digit - b'0'),
            Some(_) => return None,
            None => 0,
        };
        nanos = nanos * 10 + digit;
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match (negative, nanos) {
        (false, nanos) => Mtime { seconds, nanos },
        (true, 0) => Mtime {
            seconds: -seconds,
            nanos: 0,
        },
        (true, nanos) => Mtime {
            seconds: -seconds - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

/// Appends one record; its length counts its own digits.
pub(crate) fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if rest + digits(length) > length {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

pub(crate) fn format_time(time: Mtime) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanos) = if time.seconds < 0 {
        ("-", -(time.seconds + 1), 1_000_000_000 - time.nanos)
    } else {
        ("", time.seconds, time.nanos)
    };
    let fraction = format!("{nanos:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::{Mtime, format_time, parse, push_record, time};

    #[test]
    fn a_value_with_newlines_and_nul_survives() {
        let mut bytes = Vec::new();
        push_record(
            &mut bytes,
            b"SCHILY.xattr.security.capability",
            b"\x01\n\0=\n",
        );
        push_record(&mut bytes, b"path", b"a\nb");
        let pax = parse(&bytes).unwrap();
        assert_eq!(
            pax.xattrs,
            [(b"security.capability".to_vec(), b"\x01\n\0=\n".to_vec())]
        );
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
    }

    #[test]
    fn record_lengths_count_themselves_at_every_number_of_digits() {
        for length in 0..2000 {
            let mut bytes = Vec::new();
            push_record(&mut bytes, b"path", &vec![b'x'; length]);
            let found = parse(&bytes).unwrap().path.unwrap_or_default().len();
            assert_eq!(found, length);
        }
    }

    #[test]
    fn times_before_1970_and_fractions_round_trip() {
        for (text, seconds, nanos) in [
            ("1350244992.023960108", 1_350_244_992, 23_960_108),
            ("-1.5", -2, 500_000_000),
            ("-1", -1, 0),
            ("-0.000000001", -1, 999_999_999),
            ("0.1", 0, 100_000_000),
        ] {
            let expected = Mtime { seconds, nanos };
            assert_eq!(time(text.as_bytes()), Some(expected));
            assert_eq!(format_time(expected), text);
        }
        assert_eq!(time(b"1.2.3"), None);
        assert_eq!(time(b"99999999999999999999"), None);
    }

    #[test]
    fn damaged_records_are_errors() {
        for bytes in [
            &b"9 path=x"[..],
            b"9 path=xy",
            b"99 path=x\n",
            b"x path=x\n",
            b"8 path=\0\n",
            b"0 path=x\n",
            b"6 pathx\n",
            b"9 path=a\0\n",
        ] {
            parse(bytes).expect_err("accepted");
        }
    }
}
