//! Reading of `/proc/self/mountinfo`: for clean-up and tests, never on the way to start a
//! container (the file has a line for each mount of the host).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One line of mountinfo (`man 5 proc_pid_mountinfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// The path inside its file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The options of the mount.
    pub options: String,
    /// The optional fields: `shared:N`, `master:N` and so on, which say how mounts propagate.
    pub propagation: Vec<String>,
    /// The file system type.
    pub fs_type: String,
    /// The source that was given.
    pub source: OsString,
    /// The options of the superblock.
    pub super_options: String,
}

/// All mounts that the calling thread sees.
pub fn mountinfo() -> io::Result<Vec<MountInfo>> {
    let text = crate::fd::read_whole(c"/proc/thread-self/mountinfo")?;
    Ok(parse(&text))
}

/// The mount points at and below `path`, deepest last-mounted first, so that unmounting them in
/// this order works.
pub fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<_> = mountinfo()?
        .into_iter()
        .map(|m| m.mount_point)
        .filter(|point| point.starts_with(path))
        .collect();
    found.reverse();
    Ok(found)
}

/// Parses the text of a mountinfo file; lines of another shape are skipped.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<MountInfo> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|b| *b == b' ').skip(3);
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let options = text(fields.next()?);
    // Optional fields (propagation) run up to a lone dash.
    let propagation = fields
        .by_ref()
        .take_while(|field| *field != b"-")
        .map(text)
        .collect();
    let fs_type = text(fields.next()?);
    let source = unescape(fields.next()?);
    let super_options = text(fields.next()?);
    Some(MountInfo {
        root: root.into(),
        mount_point: mount_point.into(),
        options,
        propagation,
        fs_type,
        source,
        super_options,
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 8).ok()
            });
        if let Some(byte) = octal {
            out.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_with_and_without_optional_fields() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
            21 20 0:4 / /proc rw - proc pro\\134c rw\nbroken line\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].mount_point, Path::new("/mnt 2"));
        assert_eq!(mounts[0].root, Path::new("/mnt1"));
        assert_eq!(mounts[0].fs_type, "ext3");
        assert_eq!(mounts[0].super_options, "rw,errors=continue");
        assert_eq!(mounts[1].source, "pro\\c");
    }

    #[test]
    fn proc_is_among_the_mounts_of_this_process() {
        let below = mounts_below(Path::new("/proc")).expect("mountinfo is readable");
        assert!(below.iter().any(|p| p == Path::new("/proc")), "{below:?}");
    }
}
