//! Which file a command name means inside the container.
//!
//! The words of the errors are those of Go's `os/exec`, which Docker's users know and its CLI
//! looks for (<https://pkg.go.dev/os/exec#LookPath>).

use std::ffi::{CStr, CString};

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use crate::error::{ExecCause, RuntimeError};

/// Finds the program. Relative names are taken from the current directory, bare names from the
/// `PATH` of the process's own environment.
pub(crate) fn program(name: &CStr, env: &[CString]) -> Result<CString, RuntimeError> {
    let shown = name.to_string_lossy();
    if name.to_bytes().is_empty() {
        let message = "exec: no command".to_owned();
        return Err(RuntimeError::Exec {
            cause: ExecCause::NotFound,
            message,
        });
    }
    if name.to_bytes().contains(&b'/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(fault) => Err(fault.into_error(&shown)),
        };
    }
    let path = env
        .iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
    for dir in path.unwrap_or_default().split(|byte| *byte == b':') {
        // A relative entry would run whatever lies in the working directory.
        if !dir.starts_with(b"/") {
            continue;
        }
        let candidate = [dir, b"/", name.to_bytes()].concat();
        if let Ok(candidate) = CString::new(candidate)
            && executable(&candidate).is_ok()
        {
            return Ok(candidate);
        }
    }
    let message = format!("exec: \"{shown}\": executable file not found in $PATH");
    Err(RuntimeError::Exec {
        cause: ExecCause::NotFound,
        message,
    })
}

/// The error of execve itself, for a file that passed the checks above.
pub(crate) fn exec_failure(program: &CStr, error: &std::io::Error) -> RuntimeError {
    let cause = match error.raw_os_error() {
        Some(libc::ENOENT) => ExecCause::NotFound,
        Some(libc::EACCES | libc::EPERM) => ExecCause::Denied,
        _ => ExecCause::Other,
    };
    let text = go_text(
        error
            .raw_os_error()
            .map_or(Errno::IO, Errno::from_raw_os_error),
    );
    RuntimeError::Exec {
        cause,
        message: format!("exec {}: {text}", program.to_string_lossy()),
    }
}

enum Fault {
    Stat(Errno),
    Directory,
    Denied(Errno),
}

impl Fault {
    fn into_error(self, shown: &str) -> RuntimeError {
        let (cause, message) = match self {
            Self::Stat(errno) => {
                let missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
                let cause = if missing {
                    ExecCause::NotFound
                } else {
                    ExecCause::Denied
                };
                (
                    cause,
                    format!("exec: \"{shown}\": stat {shown}: {}", go_text(errno)),
                )
            }
            Self::Directory => (
                ExecCause::Denied,
                format!("exec: \"{shown}\": is a directory: permission denied"),
            ),
            Self::Denied(errno) => (
                ExecCause::Denied,
                format!("exec: \"{shown}\": {}", go_text(errno)),
            ),
        };
        RuntimeError::Exec { cause, message }
    }
}

fn executable(path: &CStr) -> Result<(), Fault> {
    let status = stat(path).map_err(Fault::Stat)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(Fault::Directory);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).map_err(Fault::Denied)
}

/// Go words its error texts in lower case (syscall/zerrors_linux_amd64.go).
fn go_text(errno: Errno) -> String {
    havre_types::os_text(&errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(name: &CStr, path: &CStr) -> Result<CString, String> {
        program(name, &[path.to_owned()]).map_err(|error| error.to_string())
    }

    #[test]
    fn bare_names_come_from_path() {
        assert_eq!(
            look(c"sh", c"PATH=/nonexistent:/bin").unwrap(),
            c"/bin/sh".to_owned()
        );
        assert_eq!(
            look(c"nope", c"PATH=/bin").unwrap_err(),
            "exec: \"nope\": executable file not found in $PATH"
        );
        assert_eq!(
            look(c"sh", c"HOME=/").unwrap_err(),
            "exec: \"sh\": executable file not found in $PATH"
        );
    }

    #[test]
    fn paths_are_judged_as_they_are() {
        assert_eq!(
            look(c"/nope", c"PATH=/bin").unwrap_err(),
            "exec: \"/nope\": stat /nope: no such file or directory"
        );
        assert_eq!(
            look(c"/etc/passwd", c"PATH=/bin").unwrap_err(),
            "exec: \"/etc/passwd\": permission denied"
        );
        assert_eq!(
            look(c"/etc", c"PATH=/bin").unwrap_err(),
            "exec: \"/etc\": is a directory: permission denied"
        );
    }

    #[test]
    fn a_relative_entry_of_path_is_not_used() {
        look(c"Cargo.toml", c"PATH=.:").unwrap_err();
    }
}
