//! What can go wrong while a container is made, started, entered or removed.
//!
//! The same type is used on both sides of the clone: the child sends it through the channel as
//! data, so that the caller gets the very step and error number, not a guess.

use std::io;

use havre_types::{Classify, ErrorKind};
use thiserror::Error;

/// A failure of the runtime.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The program of the process cannot be executed; the text is Docker's.
    #[error("{message}")]
    Exec {
        /// Which of the classes that have an exit status of their own.
        cause: ExecCause,
        /// `exec: "nope": executable file not found in $PATH` and its like.
        message: String,
    },
    /// The specification asks for something that makes no sense.
    #[error("invalid {field}: {reason}")]
    Spec {
        /// The property, as `process.cwd`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The specification asks for something that this runtime or this kernel cannot do.
    #[error("{what} is not supported")]
    Unsupported {
        /// The thing that was asked for.
        what: String,
    },
    /// A step failed.
    #[error("failed to {what}")]
    Step {
        /// The step, as a verb with its subject.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A hook failed or took too long.
    #[error("{stage} hook `{path}` failed: {reason}")]
    Hook {
        /// The stage, as in the specification.
        stage: String,
        /// The program.
        path: String,
        /// Its exit status and what it wrote.
        reason: String,
    },
    /// The cgroup could not be made or set.
    #[error("failed to {what}")]
    Cgroup {
        /// The step.
        what: &'static str,
        /// Why.
        source: havre_cgroup::CgroupError,
    },
    /// The seccomp profile could not be translated.
    #[error("failed to compile the seccomp profile")]
    Seccomp(#[source] havre_seccomp::SeccompError),
    /// There is no CRIU.
    #[error("checkpoints need CRIU (https://criu.org): {reason}")]
    NoCriu {
        /// Where it is missing.
        reason: String,
    },
    /// CRIU could not do it.
    #[error("CRIU failed: {reason}")]
    Criu {
        /// In its own words.
        reason: String,
    },
    /// A checkpoint would restore more than the specification grants, or cannot be trusted.
    #[error("refusing the checkpoint: {reason}")]
    Checkpoint {
        /// What is wrong with it.
        reason: String,
    },
    /// The container process ended before its program was executed, and said nothing.
    #[error("the container process ended during its set-up ({how})")]
    Died {
        /// `exit status 1`, `signal 9`.
        how: String,
    },
}

/// Why a program cannot be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecCause {
    /// No such file: exit status 127.
    NotFound,
    /// Not executable, or a directory: exit status 126.
    Denied,
    /// Anything else, such as a wrong format.
    Other,
}

impl RuntimeError {
    /// The exit status that Docker records for a container that could not be started.
    ///
    /// <https://github.com/moby/moby/blob/master/daemon/errors.go> (`setExitCodeFromError`)
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Exec {
                cause: ExecCause::NotFound,
                ..
            } => 127,
            Self::Exec { .. } => 126,
            _ => 128,
        }
    }

    pub(crate) fn spec(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Spec {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl Classify for RuntimeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Exec { .. } | Self::Spec { .. } | Self::Checkpoint { .. } => {
                ErrorKind::InvalidParameter
            }
            Self::Unsupported { .. } | Self::NoCriu { .. } | Self::Criu { .. } => {
                ErrorKind::NotImplemented
            }
            Self::Step { .. }
            | Self::Hook { .. }
            | Self::Cgroup { .. }
            | Self::Seccomp(_)
            | Self::Died { .. } => ErrorKind::Internal,
        }
    }
}

/// Names the step that an error belongs to.
pub(crate) trait Step<T> {
    /// `what` is a verb with its subject: "mount `proc` on `/proc`".
    fn step(self, what: impl FnOnce() -> String) -> Result<T, RuntimeError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, RuntimeError> {
        self.map_err(|error| RuntimeError::Step {
            what: what(),
            source: error.into(),
        })
    }
}

// === wire form ===

const TAG_EXEC_NOT_FOUND: u8 = 1;
const TAG_EXEC_DENIED: u8 = 2;
const TAG_EXEC_OTHER: u8 = 3;
const TAG_SPEC: u8 = 4;
const TAG_UNSUPPORTED: u8 = 5;
const TAG_STEP: u8 = 6;
const TAG_HOOK: u8 = 7;

impl RuntimeError {
    /// The error as bytes: tag, error number, then strings each ended by NUL.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (tag, errno, texts): (u8, i32, Vec<&str>) = match self {
            Self::Exec { cause, message } => {
                let tag = match cause {
                    ExecCause::NotFound => TAG_EXEC_NOT_FOUND,
                    ExecCause::Denied => TAG_EXEC_DENIED,
                    ExecCause::Other => TAG_EXEC_OTHER,
                };
                (tag, 0, vec![message])
            }
            Self::Spec { field, reason } => (TAG_SPEC, 0, vec![field, reason]),
            Self::Unsupported { what } => (TAG_UNSUPPORTED, 0, vec![what]),
            Self::Step { what, source } => {
                (TAG_STEP, source.raw_os_error().unwrap_or(0), vec![what])
            }
            Self::Hook {
                stage,
                path,
                reason,
            } => (TAG_HOOK, 0, vec![stage, path, reason]),
            // These arise before the clone only.
            Self::Cgroup { what, .. } => (TAG_STEP, 0, vec![what]),
            Self::Seccomp(_) => (TAG_STEP, 0, vec!["compile the seccomp profile"]),
            Self::Died { how: text }
            | Self::NoCriu { reason: text }
            | Self::Criu { reason: text }
            | Self::Checkpoint { reason: text } => (TAG_STEP, 0, vec![text]),
        };
        let mut out = vec![tag];
        out.extend_from_slice(&errno.to_le_bytes());
        for text in texts {
            out.extend(text.bytes().filter(|byte| *byte != 0));
            out.push(0);
        }
        if let Self::Step { source, .. } = self
            && errno == 0
        {
            out.extend(source.to_string().bytes().filter(|byte| *byte != 0));
        }
        out
    }

    /// What the child sent; bytes that make no sense give a `Died`.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let Some((&tag, rest)) = bytes.split_first() else {
            return Self::Died {
                how: "no message".to_owned(),
            };
        };
        let Some((errno, rest)) = rest.split_first_chunk::<4>() else {
            return Self::Died {
                how: "a short message".to_owned(),
            };
        };
        let errno = i32::from_le_bytes(*errno);
        let mut texts = rest
            .split(|byte| *byte == 0)
            .map(|t| String::from_utf8_lossy(t).into_owned());
        let mut text = || texts.next().unwrap_or_default();
        let exec = |cause, message| Self::Exec { cause, message };
        match tag {
            TAG_EXEC_NOT_FOUND => exec(ExecCause::NotFound, text()),
            TAG_EXEC_DENIED => exec(ExecCause::Denied, text()),
            TAG_EXEC_OTHER => exec(ExecCause::Other, text()),
            TAG_SPEC => Self::Spec {
                field: text(),
                reason: text(),
            },
            TAG_UNSUPPORTED => Self::Unsupported { what: text() },
            TAG_HOOK => Self::Hook {
                stage: text(),
                path: text(),
                reason: text(),
            },
            TAG_STEP => {
                let what = text();
                let source = match errno {
                    0 => io::Error::other(text()),
                    errno => io::Error::from_raw_os_error(errno),
                };
                Self::Step { what, source }
            }
            _ => Self::Died {
                how: "an unknown message".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn travel(error: &RuntimeError) -> RuntimeError {
        RuntimeError::decode(&error.encode())
    }

    #[test]
    fn errors_survive_the_channel() {
        let step = RuntimeError::Step {
            what: "mount `proc`".to_owned(),
            source: io::Error::from_raw_os_error(libc::EPERM),
        };
        assert!(matches!(
            travel(&step),
            RuntimeError::Step { what, source }
                if what == "mount `proc`" && source.raw_os_error() == Some(libc::EPERM)
        ));
        let exec = RuntimeError::Exec {
            cause: ExecCause::NotFound,
            message: "exec: x".to_owned(),
        };
        assert_eq!(travel(&exec).to_string(), "exec: x");
        assert_eq!(travel(&exec).exit_code(), 127);
        let other = RuntimeError::Step {
            what: "check".to_owned(),
            source: io::Error::other("too odd"),
        };
        assert!(
            matches!(travel(&other), RuntimeError::Step { source, .. } if source.to_string() == "too odd")
        );
    }

    #[test]
    fn damaged_messages_are_an_error_too() {
        for bytes in [&b""[..], b"\x06", b"\xff\0\0\0\0x"] {
            assert!(matches!(
                RuntimeError::decode(bytes),
                RuntimeError::Died { .. }
            ));
        }
    }
}
