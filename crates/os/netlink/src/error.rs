//! What the kernel refuses, and why.

use rustix::io::Errno;

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel said no.
    #[error("failed to {action}: {}{}", havre_types::os_text(&(*errno).into()), reason(said))]
    Refused {
        /// What was to be done, as an infinitive with its subject: `create interface eth0`.
        action: String,
        /// The kernel's number.
        errno: Errno,
        /// The kernel's own words, where it has some.
        said: String,
    },
    /// The kernel's answer could not be read; a fault of this crate or of the kernel.
    #[error("failed to {action}: the kernel's answer cannot be read")]
    Malformed {
        /// As above.
        action: String,
    },
}

impl NetlinkError {
    pub(crate) fn new(action: &str, errno: Errno) -> Self {
        Self::Refused {
            action: action.to_owned(),
            errno,
            said: String::new(),
        }
    }

    pub(crate) fn malformed(action: &str) -> Self {
        Self::Malformed {
            action: action.to_owned(),
        }
    }

    /// The kernel's number; None when the answer could not be read.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Malformed { .. } => None,
        }
    }

    /// Whether the thing was not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::NODEV | Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NXIO)
        )
    }

    /// Whether it was there already.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }
}

fn reason(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(" ({said})")
    }
}
