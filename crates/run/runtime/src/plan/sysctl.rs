//! Which kernel parameters a container may set: only those that its own namespaces hold.

use std::collections::HashMap;

use crate::error::RuntimeError;
use crate::plan::{Kind, Namespaces};

/// Parameters of the IPC namespace, besides `fs.mqueue.*`
/// (<https://github.com/opencontainers/runc/blob/main/libcontainer/configs/validate/validator.go>).
const IPC: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.auto_msgmni",
];

/// The file below `/proc/sys` and the value of each parameter, in the order of their names.
pub(crate) fn plan(
    sysctls: Option<&HashMap<String, String>>,
    namespaces: &Namespaces,
) -> Result<Vec<(String, String)>, RuntimeError> {
    let mut out = Vec::new();
    for (key, value) in sysctls.into_iter().flatten() {
        let bad = |reason: &str| RuntimeError::spec("linux.sysctl", format!("`{key}`: {reason}"));
        let path = path_of(key);
        // An empty component, `.` or `..` would lead to another file than the name that is judged.
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad("the name is malformed"));
        }
        if value.contains(['\n', '\0']) || key.contains(['\n', '\0']) {
            return Err(bad("the value has a line break"));
        }
        let name = path.replace('/', ".");
        let owner = if name.starts_with("net.") {
            Kind::Network
        } else if name.starts_with("fs.mqueue.") || IPC.contains(&name.as_str()) {
            Kind::Ipc
        } else if matches!(name.as_str(), "kernel.domainname" | "kernel.hostname") {
            Kind::Uts
        } else if name.starts_with("user.") {
            Kind::User
        } else {
            return Err(bad("it is not in a namespace of the container"));
        };
        if !namespaces.has(owner) {
            return Err(bad(
                "it would change the host: the container shares that namespace",
            ));
        }
        out.push((path, value.clone()));
    }
    out.sort();
    Ok(out)
}

/// Whichever of `.` and `/` comes first separates; the other is then part of a name, as for an
/// interface `eth0.100` (`man 5 sysctl.d`).
fn path_of(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes().get(at) == Some(&b'.') => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str, kinds: &[Kind]) -> Result<Vec<(String, String)>, String> {
        let namespaces = Namespaces {
            new: kinds.to_vec(),
            ..Namespaces::default()
        };
        let map = HashMap::from([(key.to_owned(), value.to_owned())]);
        plan(Some(&map), &namespaces).map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_go_with_their_namespace() {
        let ok = one("net.ipv4.ip_forward", "1", &[Kind::Network]).unwrap();
        assert_eq!(ok, [("net/ipv4/ip_forward".to_owned(), "1".to_owned())]);
        one("net.ipv4.ip_forward", "1", &[Kind::Ipc]).unwrap_err();
        one("kernel.shmmax", "1", &[Kind::Ipc]).unwrap();
        let dotted = one("net/ipv4/conf/eth0.100/forwarding", "1", &[Kind::Network]).unwrap();
        assert_eq!(dotted[0].0, "net/ipv4/conf/eth0.100/forwarding");
        let dotted = one("net.ipv4.conf.eth0/100.forwarding", "1", &[Kind::Network]).unwrap();
        assert_eq!(dotted[0].0, "net/ipv4/conf/eth0.100/forwarding");
    }

    #[test]
    fn hostile_names_and_values_are_refused() {
        let all = [Kind::Network, Kind::Ipc, Kind::Uts, Kind::User];
        for key in [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "net.../../kernel.core_pattern",
            "net/../kernel/core_pattern",
            "net..ipv4",
            "kernel.shmmax/../core_pattern",
            "",
            ".",
            "net.",
            "vm.overcommit_memory",
            "fs.file-max",
            "kernel.shmmax\nkernel.core_pattern",
        ] {
            assert!(one(key, "1", &all).is_err(), "{key:?} was let through");
        }
        one("net.ipv4.ip_forward", "1\n|/bin/sh", &all).unwrap_err();
    }
}
