//! Files of containers as the API shows them.

use havre_types::Timestamp;
use serde::{Deserialize, Serialize};

/// What is at a path: the header `X-Docker-Container-Path-Stat`, as JSON in base64.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathStat {
    /// The last part of the path as it was asked for.
    pub name: String,
    pub size: i64,
    /// In Go's bits (<https://pkg.go.dev/io/fs#FileMode>), which are not the kernel's.
    pub mode: u32,
    pub mtime: Timestamp,
    /// Of a symbolic link: where it leads, all links followed.
    pub link_target: String,
}

impl PathStat {
    const DIRECTORY: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.mode & Self::DIRECTORY != 0
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & Self::SYMLINK != 0
    }

    /// Whether it is a device.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.mode & 1 << 26 != 0
    }

    /// The kernel's mode (`st_mode`) in Go's bits.
    #[must_use]
    pub fn go_mode(mode: u32) -> u32 {
        let kind = match mode & 0o170_000 {
            0o040_000 => Self::DIRECTORY,
            0o120_000 => Self::SYMLINK,
            0o060_000 => 1 << 26,
            0o020_000 => 1 << 26 | 1 << 21,
            0o010_000 => 1 << 25,
            0o140_000 => 1 << 24,
            _ => 0,
        };
        let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
        let bits = special.iter().filter(|(bit, _)| mode & bit != 0);
        bits.fold(kind | mode & 0o777, |all, (_, go)| all | go)
    }
}

/// One line of `GET /containers/{id}/changes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FilesystemChange {
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        // As dockerd 28 sends them.
        for (kernel, go) in [
            (0o040_755, 2_147_484_141),
            (0o104_755, 8_389_101),
            (0o120_777, 134_218_239),
            (0o100_644, 420),
        ] {
            assert_eq!(PathStat::go_mode(kernel), go, "{kernel:o}");
        }
    }
}
