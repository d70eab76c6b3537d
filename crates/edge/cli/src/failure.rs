//! How a command ends badly: what is printed on standard error, and the exit code.

use std::io;

use havre_client::ClientError;
use havre_types::chain;

use crate::help::PROGRAM;

/// The exit code of wrong flags and of failures of the engine in `run`
/// (<https://docs.docker.com/engine/containers/run/#exit-status>).
pub(crate) const ENGINE_FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// The exit code of a template that cannot be parsed.
pub(crate) const BAD_TEMPLATE: u8 = 64;

/// A command that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What to print; empty when the exit code says it all.
    pub message: String,
    pub code: u8,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    pub(crate) fn with_code(message: impl Into<String>, code: u8) -> Self {
        Self {
            message: message.into(),
            code,
        }
    }

    /// The exit code of the container, handed on without a word.
    pub(crate) fn exit(code: i64) -> Self {
        // Exit statuses have eight bits; what does not fit becomes the code for "something else failed".
        Self {
            message: String::new(),
            code: u8::try_from(code & 0xff).unwrap_or(ENGINE_FAILED),
        }
    }

    /// A failure of `run` or `create`: who says it, what to try, and the code by what the start said.
    pub(crate) fn of_run(self, command: &str) -> Self {
        let says = |text: &str| self.message.contains(text);
        let code = if says("executable file not found") || says("no such file or directory") {
            NOT_FOUND
        } else if says("permission denied") || says("is a directory") {
            NOT_EXECUTABLE
        } else {
            ENGINE_FAILED
        };
        let message = format!(
            "{PROGRAM}: {}\n\nRun '{PROGRAM} {command} --help' for more information",
            self.message
        );
        Self { message, code }
    }

    /// The failures of several objects, one a line; `None` when there are none.
    pub(crate) fn join(failures: Vec<Self>) -> Option<Self> {
        let code = failures.first()?.code;
        let lines: Vec<String> = failures
            .into_iter()
            .map(|failure| failure.message)
            .collect();
        Some(Self {
            message: lines.join("\n"),
            code,
        })
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            // The cause says nothing that the sentence does not say.
            ClientError::Connect { .. } => Self::new(error.to_string()),
            _ => Self::new(chain(&error)),
        }
    }
}

/// All went well unless something is in the list.
pub(crate) fn all(failures: Vec<Failure>) -> Outcome {
    Failure::join(failures).map_or(Ok(()), Err)
}

/// An error of the operating system in Go's words, for the ones that people meet.
pub(crate) fn os_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_run() {
        let code = |text: &str| Failure::new(text).of_run("run").code;
        assert_eq!(
            code("exec: \"nope\": executable file not found in $PATH"),
            127
        );
        assert_eq!(
            code("exec: \"/nope\": stat /nope: no such file or directory"),
            127
        );
        assert_eq!(code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(code("Error response from daemon: conflict"), 125);
        assert_eq!(Failure::exit(137).code, 137);
    }

    #[test]
    fn engine_errors_read_as_dockers() {
        let error = ClientError::Api {
            status: 404,
            message: "No such container: x".to_owned(),
        };
        let failure = Failure::from(error).of_run("run");
        assert_eq!(
            failure.message,
            "havre: Error response from daemon: No such container: x\n\nRun 'havre run --help' for more information"
        );
    }
}
