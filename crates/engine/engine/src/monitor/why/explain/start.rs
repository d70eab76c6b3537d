//! Why a container did not start.

use super::{Finding, Known, finding, one_line};
use crate::monitor::why::program::{Kind, Program, host_runs, machine_name};

pub(super) fn start_error(known: &Known<'_>, error: &str) -> Finding {
    by_program(known)
        .or_else(|| by_error(known))
        .unwrap_or_else(|| finding(one_line(error), ""))
}

/// What the file itself tells.
fn by_program(known: &Known<'_>) -> Option<Finding> {
    let error = &known.state.error;
    let about_program = [
        "executable file not found",
        "no such file",
        "permission denied",
        "exec format",
        "is a directory",
    ];
    if !about_program
        .iter()
        .any(|text| error.to_lowercase().contains(text))
    {
        return None;
    }
    match &known.program {
        Program::Unknown => None,
        Program::Missing { searched } if known.command.contains('/') => Some(finding(
            format!(
                "the program `{}` does not exist in the container",
                known.command
            ),
            format!(
                "check the path in the image's ENTRYPOINT and CMD, and that no mount hides {}",
                searched.first().map_or("it", String::as_str)
            ),
        )),
        Program::Missing { searched } => Some(finding(
            format!(
                "the program `{}` is in none of the directories of $PATH ({})",
                known.command,
                searched.join(":")
            ),
            "install it in the image, give its whole path, or correct the command",
        )),
        Program::Found {
            path,
            executable,
            kind,
            has_interpreter,
        } if *executable => by_file(known, path, kind, *has_interpreter),
        Program::Found { path, .. } => Some(finding(
            format!("`{path}` is not executable"),
            format!("`chmod +x {path}` when the image is built, or name an interpreter before it"),
        )),
    }
}

fn by_file(known: &Known<'_>, path: &str, kind: &Kind, has_interpreter: bool) -> Option<Finding> {
    match kind {
        Kind::Empty => Some(finding(
            format!("`{path}` is empty"),
            "build the image again",
        )),
        Kind::Elf { machine, .. } if !host_runs(*machine, known.host).1 => {
            let (host, _) = host_runs(*machine, known.host);
            Some(finding(
                format!(
                    "`{path}` is made for {}, and this host is {host} (exec format error)",
                    machine_name(*machine)
                ),
                format!(
                    "use an image for linux/{host}, for instance with `--platform linux/{host}`"
                ),
            ))
        }
        Kind::Elf {
            loader: Some(loader),
            ..
        } if !has_interpreter => Some(finding(
            format!("`{path}` needs the loader `{loader}`, which is not in the image"),
            "the program was built for another C library (glibc or musl): build it statically, or use a base image that has this loader",
        )),
        Kind::Script { interpreter } if interpreter.ends_with('\r') => Some(finding(
            format!(
                "the first line of `{path}` ends with a carriage return, so that its interpreter is not found"
            ),
            "save the script with Unix line ends",
        )),
        Kind::Script { interpreter } if !has_interpreter => Some(finding(
            format!("`{path}` is a script for `{interpreter}`, which is not in the image"),
            format!("install {interpreter} in the image, or correct the script's first line"),
        )),
        Kind::Other => Some(finding(
            format!(
                "`{path}` is neither a program nor a script with a `#!` line (exec format error)"
            ),
            "begin the script with a line like `#!/bin/sh`",
        )),
        Kind::Elf { .. } | Kind::Script { .. } => None,
    }
}

/// What the engine's own error tells.
fn by_error(known: &Known<'_>) -> Option<Finding> {
    let error = known.state.error.to_lowercase();
    let has = |text: &str| error.contains(text);
    let shown = one_line(&known.state.error);
    let advice = if has("no space left") {
        "the disk is full: `system df` shows what takes the space: remove what is unused"
    } else if has("bind source path does not exist") {
        "make the directory on the host, or correct the mount"
    } else if has("address already in use") || has("port is already allocated") {
        "another program has the port: publish another one, or end that program"
    } else if has("unable to find user")
        || has("unable to find group")
        || has("no matching entries in passwd")
    {
        "use a user that the image has, or numbers"
    } else if has("executable file not found") {
        "check the command: the program is not in the image"
    } else if has("permission denied") {
        "check that the program is executable and may be read by the container's user"
    } else if has("no such container") || has("non running container") {
        "start the container first whose namespace this one joins"
    } else {
        return None;
    };
    Some(finding(shown, advice))
}
