//! What kind of file a container's program is, and whether the host can run it. Pure: the files are read by the caller.

/// <https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html>
const ELF: &[u8] = b"\x7fELF";
const PT_INTERP: u64 = 3;
/// No program has more parts before its loader's name.
const MAX_PARTS: u16 = 64;

/// Numbers and names of machines, as Go and Docker name them, and what Rust calls them.
const MACHINES: [(u16, &str, &str); 8] = [
    (3, "386", "x86"),
    (21, "ppc64le", "powerpc64"),
    (22, "s390x", "s390x"),
    (40, "arm", "arm"),
    (62, "amd64", "x86_64"),
    (183, "arm64", "aarch64"),
    (243, "riscv64", "riscv64"),
    (258, "loong64", "loongarch64"),
];

/// What a file is, by its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Empty,
    /// `#!` and the interpreter.
    Script {
        interpreter: String,
    },
    /// A program of the kernel's own format, with the loader that it needs.
    Elf {
        machine: u16,
        loader: Option<String>,
    },
    Other,
}

/// What was found where the container's command points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// It was not looked for, or could not be read.
    Unknown,
    /// There is no such file; these are the places.
    Missing { searched: Vec<String> },
    Found {
        path: String,
        executable: bool,
        kind: Kind,
        /// The interpreter or loader that it names is there too.
        has_interpreter: bool,
    },
}

impl Kind {
    pub(super) fn of(head: &[u8]) -> Self {
        if head.is_empty() {
            return Self::Empty;
        }
        if let Some(rest) = head.strip_prefix(b"#!") {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            // Blanks part the interpreter from its argument. A carriage return is part of the name, for the kernel.
            let word = line.trim_matches([' ', '\t']).split([' ', '\t']).next();
            return Self::Script {
                interpreter: word.unwrap_or_default().to_owned(),
            };
        }
        elf(head).unwrap_or(Self::Other)
    }

    /// The file without which this one cannot run.
    pub(super) fn needs(&self) -> Option<&str> {
        match self {
            Self::Script { interpreter } => Some(interpreter),
            Self::Elf { loader, .. } => loader.as_deref(),
            Self::Empty | Self::Other => None,
        }
    }
}

fn elf(head: &[u8]) -> Option<Kind> {
    if !head.starts_with(ELF) {
        return None;
    }
    let wide = *head.get(4)? == 2;
    let little = *head.get(5)? == 1;
    let number = |at: usize, width: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(width)?)?;
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if little {
            bytes.iter().rev().fold(0, fold)
        } else {
            bytes.iter().fold(0, fold)
        })
    };
    let machine = u16::try_from(number(18, 2)?).ok()?;
    let (parts, size, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    let loader = (0..count.min(MAX_PARTS.into())).find_map(|index| {
        let part = usize::try_from(parts.checked_add(index * size)?).ok()?;
        if number(part, 4)? != PT_INTERP {
            return None;
        }
        let (offset, length) = if wide {
            (
                number(part.checked_add(8)?, 8)?,
                number(part.checked_add(32)?, 8)?,
            )
        } else {
            (
                number(part.checked_add(4)?, 4)?,
                number(part.checked_add(16)?, 4)?,
            )
        };
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        let name = head.get(start..end)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(name).into_owned())
    });
    Some(Kind::Elf { machine, loader })
}

/// The name of a machine's number.
pub(super) fn machine_name(machine: u16) -> String {
    let known = MACHINES.iter().find(|(number, _, _)| *number == machine);
    known.map_or_else(
        || format!("machine number {machine}"),
        |(_, name, _)| (*name).to_owned(),
    )
}

/// The name of this host's machine, and whether a program for `machine` runs on it.
pub(super) fn host_runs(machine: u16, host: &str) -> (String, bool) {
    let own = MACHINES.iter().find(|(_, _, rust)| *rust == host);
    let name = own.map_or(host, |(_, name, _)| name).to_owned();
    let runs = own.is_none_or(|(number, _, _)| *number == machine)
        || matches!((host, machine), ("x86_64", 3) | ("aarch64", 40));
    (name, runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one part, the loader's name.
    fn elf_file(machine: u16, wide: bool, loader: &str) -> Vec<u8> {
        let mut file = vec![0; 120];
        file[..4].copy_from_slice(ELF);
        file[4] = if wide { 2 } else { 1 };
        file[5] = 1;
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        let length = u8::try_from(loader.len() + 1).unwrap();
        let part = 64;
        file[part] = 3;
        if wide {
            (file[32], file[54], file[56]) = (64, 56, 1);
            (file[part + 8], file[part + 32]) = (120, length);
        } else {
            (file[28], file[42], file[44]) = (64, 32, 1);
            (file[part + 4], file[part + 16]) = (120, length);
        }
        file.extend_from_slice(loader.as_bytes());
        file.push(0);
        file
    }

    #[test]
    fn kinds_are_told_by_the_first_bytes() {
        assert_eq!(Kind::of(b""), Kind::Empty);
        assert_eq!(Kind::of(b"hello"), Kind::Other);
        for (text, interpreter) in [
            ("#!/bin/sh\necho", "/bin/sh"),
            ("#! /usr/bin/env python3\n", "/usr/bin/env"),
            ("#!/bin/bash\r\n", "/bin/bash\r"),
            ("#!", ""),
        ] {
            assert_eq!(
                Kind::of(text.as_bytes()).needs(),
                Some(interpreter),
                "{text:?}"
            );
        }
        for wide in [true, false] {
            let file = elf_file(183, wide, "/lib/ld.so");
            let wanted = Kind::Elf {
                machine: 183,
                loader: Some("/lib/ld.so".to_owned()),
            };
            assert_eq!(Kind::of(&file), wanted);
            for length in 0..file.len() {
                // Cut files, and no panic.
                Kind::of(&file[..length]);
            }
            let mut wild = file.clone();
            wild[28..60].fill(0xff);
            assert!(matches!(Kind::of(&wild), Kind::Elf { loader: None, .. }));
        }
    }

    #[test]
    fn machines_are_compared() {
        assert_eq!(host_runs(62, "x86_64"), ("amd64".to_owned(), true));
        assert_eq!(host_runs(183, "x86_64"), ("amd64".to_owned(), false));
        assert!(host_runs(3, "x86_64").1 && host_runs(40, "aarch64").1);
        assert!(host_runs(1, "vax").1, "nothing is said of an unknown host");
        assert_eq!(machine_name(183), "arm64");
        assert_eq!(machine_name(9), "machine number 9");
    }
}
