//! One header block: where its fields are, and what they mean in which dialect.

use crate::header::{Kind, Mtime};
use crate::number;

pub(crate) const BLOCK: usize = 512;

/// A header whose checksum is right.
#[derive(Debug)]
pub(crate) struct Block([u8; BLOCK]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V7,
    Ustar,
    /// ustar with times in the last part of the prefix field.
    Star,
    Gnu,
}

impl Block {
    pub(crate) fn check(bytes: [u8; BLOCK]) -> Result<Self, &'static str> {
        let written = number::parse(&bytes[148..156]).ok_or("checksum is no number")?;
        let blanked = |index: usize, byte: u8| {
            if (148..156).contains(&index) {
                b' '
            } else {
                byte
            }
        };
        let sum = |value: fn(u8) -> i64| -> i64 {
            bytes
                .iter()
                .enumerate()
                .map(|(index, byte)| value(blanked(index, *byte)))
                .sum()
        };
        // Some old writers summed signed characters.
        if written == sum(i64::from) || written == sum(|byte| i64::from(byte.cast_signed())) {
            Ok(Self(bytes))
        } else {
            Err("checksum does not match")
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; BLOCK] {
        &self.0
    }

    pub(crate) const fn kind(&self) -> u8 {
        self.0[156]
    }

    fn dialect(&self) -> Dialect {
        match (&self.0[257..263], &self.0[263..265]) {
            (b"ustar ", b" \0") => Dialect::Gnu,
            (b"ustar\0", _) if &self.0[508..512] == b"tar\0" => Dialect::Star,
            (b"ustar\0", _) => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub(crate) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match self.dialect() {
            Dialect::Ustar => text(&self.0[345..500]),
            Dialect::Star => text(&self.0[345..476]),
            Dialect::V7 | Dialect::Gnu => &[],
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(crate) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    /// Only the twelve bits that chmod knows; others (file type bits of some writers) are dropped.
    pub(crate) fn mode(&self) -> Option<u32> {
        let mode = number::parse_unsigned(&self.0[100..108])?;
        u32::try_from(mode & 0o7777).ok()
    }

    pub(crate) fn uid(&self) -> Option<u64> {
        number::parse_unsigned(&self.0[108..116])
    }

    pub(crate) fn gid(&self) -> Option<u64> {
        number::parse_unsigned(&self.0[116..124])
    }

    pub(crate) fn size(&self) -> Option<u64> {
        number::parse_unsigned(&self.0[124..136])
    }

    pub(crate) fn mtime(&self) -> Option<Mtime> {
        Some(Mtime {
            seconds: number::parse(&self.0[136..148])?,
            nanos: 0,
        })
    }

    pub(crate) fn user(&self) -> Vec<u8> {
        self.owner_name(265..297)
    }

    pub(crate) fn group(&self) -> Vec<u8> {
        self.owner_name(297..329)
    }

    fn owner_name(&self, field: std::ops::Range<usize>) -> Vec<u8> {
        match self.dialect() {
            Dialect::V7 => Vec::new(),
            Dialect::Ustar | Dialect::Star | Dialect::Gnu => text(&self.0[field]).to_vec(),
        }
    }

    fn device(&self) -> Option<(u32, u32)> {
        let field = |range: std::ops::Range<usize>| {
            number::parse_unsigned(&self.0[range]).and_then(|number| u32::try_from(number).ok())
        };
        match self.dialect() {
            Dialect::V7 => Some((0, 0)),
            _ => Some((field(329..337)?, field(337..345)?)),
        }
    }

    /// What the entry makes; `Err(None)` for a type that is not known.
    pub(crate) fn entry_kind(
        &self,
        path: &[u8],
        link: Vec<u8>,
    ) -> Result<Kind, Option<&'static str>> {
        let device = || self.device().ok_or(Some("device number is invalid"));
        Ok(match self.kind() {
            // Before ustar a slash at the end was what made a directory.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' if link.is_empty() => return Err(Some("a hard link has no target")),
            b'1' => Kind::HardLink { target: link },
            b'2' if link.is_empty() => return Err(Some("a symbolic link has no target")),
            b'2' => Kind::Symlink { target: link },
            b'3' => {
                let (major, minor) = device()?;
                Kind::Character { major, minor }
            }
            b'4' => {
                let (major, minor) = device()?;
                Kind::Block { major, minor }
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Err(None),
        })
    }
}

/// Up to the first NUL, or the whole field.
fn text(field: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    &field[..end]
}
