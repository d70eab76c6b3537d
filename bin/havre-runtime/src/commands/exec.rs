//! exec: another process in a container.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use havre_runtime_core::{Exec, Gate, Status, StdioSpec, exec as exec_in};
use oci_spec::runtime::{Process, Spec};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::arguments::Invocation;
use crate::commands::lifecycle::{preserve_fds, write_pid_file};
use crate::commands::{cgroup_of, named};
use crate::store::Store;
use crate::{foreground, protect};

pub(super) fn exec(store: &Store, invocation: &Invocation) -> Result<ExitCode> {
    protect::executable()?;
    let (entry, record) = named(store, invocation)?;
    match record.state.status {
        Status::Stopped => bail!("cannot exec a container that has stopped"),
        Status::Paused if !invocation.has("ignore-paused") => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        _ => {}
    }
    let init_pid = Pid::from_raw(record.state.pid).context("container not running")?;
    let spec = entry.spec()?;
    let process = process(&spec, invocation)?;
    let terminal = process.terminal().unwrap_or(false);
    let detach = invocation.has("detach");
    let socket = invocation.value("console-socket");
    if detach && terminal && socket.is_none() {
        bail!("cannot allocate tty if runc will detach without setting console socket");
    }
    let cgroup = cgroup_of(&record)?;
    let mut child = exec_in(&Exec {
        id: &record.state.id,
        init_pid,
        spec: &spec,
        process: &process,
        stdio: if terminal {
            StdioSpec::Terminal { size: None }
        } else {
            StdioSpec::Inherit
        },
        cgroup: Some(&cgroup),
        gate: Gate::Open,
        preserve_fds: preserve_fds(invocation)?,
        die_with_parent: false,
    })
    .context("unable to start container process")?;
    write_pid_file(invocation, child.pid())?;
    let mut console = child.console();
    if let (Some(path), Some(master)) = (socket, console.take_if(|_| socket.is_some())) {
        use std::os::fd::AsFd as _;
        foreground::send_console(Path::new(path), master.as_fd())?;
    }
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    let status = foreground::attend(child.child(), console)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// The process of the container with what the command line changes, or that of `--process`.
fn process(spec: &Spec, invocation: &Invocation) -> Result<Process> {
    if let Some(path) = invocation.value("process") {
        let text = fs_err::read(path)?;
        return serde_json::from_slice(&text).context("failed to read the process");
    }
    let mut value = serde_json::to_value(spec.process()).context("failed to copy the process")?;
    let words: Vec<String> = invocation
        .words
        .iter()
        .skip(1)
        .map(|word| {
            word.to_str()
                .map(str::to_owned)
                .context("an argument is not text")
        })
        .collect::<Result<_>>()?;
    if words.is_empty() {
        bail!("process args cannot be empty");
    }
    set(&mut value, "args", json!(words));
    set(&mut value, "terminal", json!(invocation.has("tty")));
    for (flag, key) in [
        ("cwd", "cwd"),
        ("process-label", "selinuxLabel"),
        ("apparmor", "apparmorProfile"),
    ] {
        if let Some(text) = invocation.text(flag)? {
            set(&mut value, key, json!(text));
        }
    }
    if invocation.has("no-new-privs") {
        set(&mut value, "noNewPrivileges", json!(true));
    }
    extend(&mut value, "/env", invocation, "env")?;
    for set in ["bounding", "effective", "permitted"] {
        extend(
            &mut value,
            &format!("/capabilities/{set}"),
            invocation,
            "cap",
        )?;
    }
    if let Some(user) = invocation.text("user")? {
        set(&mut value, "user", user_of(user)?);
    }
    for gid in invocation.values("additional-gids") {
        let gid: u32 = gid
            .to_str()
            .unwrap_or_default()
            .parse()
            .context("bad additional gid")?;
        if let Some(user) = value.pointer_mut("/user") {
            let mut gids = user
                .get("additionalGids")
                .cloned()
                .unwrap_or_else(|| json!([]));
            if let Some(list) = gids.as_array_mut() {
                list.push(json!(gid));
            }
            set(user, "additionalGids", gids);
        }
    }
    serde_json::from_value(value).context("the process makes no sense")
}

fn set(value: &mut Value, key: &str, to: Value) {
    if let Some(object) = value.as_object_mut() {
        object.insert(key.to_owned(), to);
    }
}

/// Appends the values of a flag to the list at `pointer`.
fn extend(value: &mut Value, pointer: &str, invocation: &Invocation, flag: &str) -> Result<()> {
    let mut more = Vec::new();
    for text in invocation.values(flag) {
        more.push(json!(
            text.to_str()
                .with_context(|| format!("--{flag} is not text"))?
        ));
    }
    if more.is_empty() {
        return Ok(());
    }
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let Some(parent) = value.pointer_mut(parent) else {
        bail!("the container's process has no list for --{flag}");
    };
    let mut list = parent
        .get(key)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    list.extend(more);
    set(parent, key, Value::Array(list));
    Ok(())
}

/// `uid` or `uid:gid`; digits are numbers, and a number too large is an error.
fn user_of(text: &str) -> Result<Value> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let number = |text: &str| -> Result<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            // The last number means "unchanged" to the kernel.
            Ok(number) if digits && number != u32::MAX => Ok(number),
            _ => bail!("bad user {text:?}"),
        }
    };
    Ok(json!({"uid": number(uid)?, "gid": number(gid)?}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_in_range() {
        assert_eq!(user_of("1000:50").unwrap(), json!({"uid": 1000, "gid": 50}));
        assert_eq!(user_of("7").unwrap(), json!({"uid": 7, "gid": 0}));
        for text in [
            "",
            "-1",
            "+1",
            "0x0",
            "1e3",
            "4294967296",
            "4294967295",
            "root",
            "1:",
            ":1",
        ] {
            assert!(user_of(text).is_err(), "{text:?}");
        }
    }
}
