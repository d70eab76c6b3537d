//! Hooks: programs of the host's administrator that run at fixed points of a container's life.
//!
//! A hook gets the state on its standard input and exactly the environment that the specification
//! gives it, never the container's (CVE-2024-0132).

use std::ffi::CString;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use fs_err::File;
use havre_sys::process::{Child, Exit};
use havre_sys::spawn::{Program, Spawn};
use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;

use crate::error::RuntimeError;
use crate::state::State;

/// How much of a failed hook's output is shown.
const OUTPUT_MAX: u64 = 1024;

/// Runs the hooks of a stage one after the other; the first that fails ends it.
pub fn run(
    stage: &'static str,
    hooks: Option<&Vec<Hook>>,
    state: &State,
) -> Result<(), RuntimeError> {
    let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else {
        return Ok(());
    };
    let text = serde_json::to_vec(state).unwrap_or_default();
    for hook in hooks {
        one(hook, &text).map_err(|reason| RuntimeError::Hook {
            stage: stage.to_owned(),
            path: hook.path().display().to_string(),
            reason,
        })?;
    }
    Ok(())
}

/// Runs them all whatever happens, for the end of a life; returns the first failure.
pub(crate) fn run_all(
    stage: &'static str,
    hooks: Option<&Vec<Hook>>,
    state: &State,
) -> Result<(), RuntimeError> {
    let mut first = Ok(());
    for hook in hooks.into_iter().flatten() {
        let result = run(stage, Some(&vec![hook.clone()]), state);
        if first.is_ok() {
            first = result;
        }
    }
    first
}

fn one(hook: &Hook, state: &[u8]) -> Result<(), String> {
    if !hook.path().is_absolute() {
        return Err("the path is not absolute".to_owned());
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|error| error.to_string());
    let path = text(hook.path().as_os_str().as_bytes())?;
    let mut argv = Vec::new();
    for arg in hook.args().iter().flatten() {
        argv.push(text(arg.as_bytes())?);
    }
    if argv.is_empty() {
        argv.push(path.clone());
    }
    let mut env = Vec::new();
    for entry in hook.env().iter().flatten() {
        env.push(text(entry.as_bytes())?);
    }
    let plain = |error: io::Error| error.to_string();
    let input = scratch(state).map_err(plain)?;
    let output = scratch(&[]).map_err(plain)?;
    let child = Spawn::new(Program::Path(&path), argv)
        .env(env)
        .fd(input.as_fd(), 0)
        .fd(output.as_fd(), 1)
        .fd(output.as_fd(), 2)
        .spawn()
        .map_err(plain)?;
    match wait(&child, hook.timeout()).map_err(plain)? {
        Some(Exit::Code(0)) => Ok(()),
        Some(Exit::Code(code)) => Err(format!("exit status {code}{}", tail(output))),
        Some(Exit::Signal(signal)) => Err(format!("signal {signal}{}", tail(output))),
        None => Err(format!(
            "it took longer than {} s",
            hook.timeout().unwrap_or(0)
        )),
    }
}

/// None if it had to be killed.
fn wait(child: &Child, timeout: Option<i64>) -> io::Result<Option<Exit>> {
    let Some(timeout) = timeout.filter(|seconds| *seconds > 0) else {
        return child.wait().map(Some);
    };
    let limit = Timespec {
        tv_sec: timeout,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
    if poll(&mut fds, Some(&limit))? == 0 {
        child.kill(Signal::KILL)?;
        child.wait()?;
        return Ok(None);
    }
    child.wait().map(Some)
}

/// A file in memory that holds `content`, read from its start. Unlike a pipe it cannot block
/// either side.
fn scratch(content: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"havre-hook", MemfdFlags::CLOEXEC)?;
    let mut file = File::from_parts(fd.into(), "hook");
    file.write_all(content)?;
    file.rewind()?;
    Ok(OwnedFd::from(file.into_parts().0))
}

fn tail(output: OwnedFd) -> String {
    let mut file = File::from_parts(output.into(), "hook");
    let mut bytes = Vec::new();
    let length = file.metadata().map_or(0, |meta| meta.len());
    let start = SeekFrom::Start(length.saturating_sub(OUTPUT_MAX));
    if file.seek(start).is_err() || file.take(OUTPUT_MAX).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    if text.is_empty() {
        text
    } else {
        format!(": {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: &str) -> Vec<Hook> {
        vec![serde_json::from_str(json).unwrap()]
    }

    fn state() -> State {
        let spec = serde_json::from_str(r#"{"ociVersion":"1.0.2"}"#).unwrap();
        State::creating("abc", std::path::Path::new("/bundle"), &spec)
    }

    #[test]
    fn a_hook_reads_the_state_and_has_only_its_own_environment() {
        let script = r#"{"path":"/bin/sh","args":["sh","-c","grep -q '\"id\":\"abc\"' && test \"$(env | grep -vE '^(_|PWD|SHLVL)=')\" = A=b"],"env":["A=b"]}"#;
        run("prestart", Some(&hook(script)), &state()).unwrap();
    }

    #[test]
    fn failures_say_what_the_hook_wrote() {
        let script = r#"{"path":"/bin/sh","args":["sh","-c","echo no luck >&2; exit 3"]}"#;
        let error = run("prestart", Some(&hook(script)), &state()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "prestart hook `/bin/sh` failed: exit status 3: no luck"
        );
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended() {
        let script = r#"{"path":"/bin/sleep","args":["sleep","60"],"timeout":1}"#;
        let error = run("poststop", Some(&hook(script)), &state()).unwrap_err();
        assert!(error.to_string().contains("longer than 1 s"), "{error}");
    }
}
