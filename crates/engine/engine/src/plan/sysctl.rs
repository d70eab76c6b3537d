//! Which kernel parameters a container may set: only those that its own namespaces hold (CVE-2022-0811).

use std::collections::BTreeMap;

use havre_api_traits::ApiError;

/// Parameters of the IPC namespace: <https://docs.kernel.org/admin-guide/sysctl/kernel.html>.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Set in every network namespace of a container's own: ICMP echo sockets and low ports need no capability there.
/// <https://github.com/moby/moby/blob/master/daemon/oci_linux.go> (`withCommonOptions`)
pub(crate) const DEFAULTS: [(&str, &str); 2] = [
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv4.ip_unprivileged_port_start", "0"),
];

/// Adds the defaults that nobody asked to be otherwise.
pub(crate) fn add_defaults(
    wanted: &mut BTreeMap<String, String>,
    defaults: &[(&'static str, &'static str)],
) {
    for (key, value) in defaults {
        wanted
            .entry((*key).to_owned())
            .or_insert_with(|| (*value).to_owned());
    }
}

/// Which namespaces belong to the container alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub ipc: bool,
    pub net: bool,
    pub uts: bool,
}

/// Checks the requested parameters and returns them with dots.
pub(crate) fn check<'a>(
    requested: impl IntoIterator<Item = (&'a String, &'a String)>,
    own: Own,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut checked = BTreeMap::new();
    for (name, value) in requested {
        let key = normal(name).ok_or_else(|| not_allowed(name))?;
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(ApiError::invalid(format!(
                "sysctl '{key}': the value contains a control character"
            )));
        }
        let (allowed, scope) = match key.as_str() {
            k if IPC.contains(&k) || k.starts_with("fs.mqueue.") => (own.ipc, "ipc"),
            k if k.starts_with("net.") => (own.net, "net"),
            "kernel.domainname" => (own.uts, "uts"),
            _ => return Err(not_allowed(name)),
        };
        if !allowed {
            return Err(ApiError::invalid(format!(
                "sysctl '{key}' is not allowed as {scope} namespace is not private to the container"
            )));
        }
        if checked.insert(key.clone(), value.clone()).is_some() {
            return Err(ApiError::invalid(format!("sysctl '{key}' is given twice")));
        }
    }
    Ok(checked)
}

fn not_allowed(name: &str) -> ApiError {
    ApiError::invalid(format!(
        "sysctl {name:?} is not allowed: it is not separate for each container"
    ))
}

/// Slashes become dots (`net/ipv4/…`), except that a name which begins with a dotted part keeps slashes inside
/// interface names. Anything that could name another file after the runtime's own translation is refused.
fn normal(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-');
    if name.is_empty() || name.len() > 255 || !name.chars().all(plain) {
        return None;
    }
    let separator = name.find(['.', '/'])?;
    let dotted = if name.as_bytes()[separator] == b'/' {
        name.chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect()
    } else {
        name.to_owned()
    };
    let clean = dotted
        .split('.')
        .all(|part| !part.is_empty() && part.split('/').all(|p| !p.is_empty()));
    clean.then_some(dotted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Own = Own {
        ipc: true,
        net: true,
        uts: true,
    };

    fn one(name: &str, value: &str, own: Own) -> Result<BTreeMap<String, String>, String> {
        check([(&name.to_owned(), &value.to_owned())], own).map_err(|err| err.message)
    }

    #[test]
    fn only_namespaced_keys_pass() {
        for good in [
            "net.ipv4.ip_forward",
            "net/ipv4/ip_forward",
            "kernel.shmmax",
            "fs.mqueue.msg_max",
            "net.ipv4.conf.eth0/1.rp_filter",
        ] {
            one(good, "1", ALL).unwrap();
        }
        for bad in [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "kernel.shmmax/../core_pattern",
            "net..core_pattern",
            "net/../kernel/core_pattern",
            "net.ipv4/../../kernel.core_pattern",
            "fs.mqueue.",
            "fs.mqueue",
            "vm.overcommit_memory",
            "",
            "net",
            "net.\nkernel",
            "kernel.shmmax\0",
        ] {
            assert!(one(bad, "1", ALL).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn values_hold_one_line() {
        one("net.ipv4.ip_forward", "1\n2", ALL).unwrap_err();
        one("net.ipv4.tcp_rmem", "4096\t87380 6291456", ALL).unwrap();
    }

    #[test]
    fn a_shared_namespace_is_not_changed() {
        let err = one("net.ipv4.ip_forward", "1", Own { net: false, ..ALL }).unwrap_err();
        insta::assert_snapshot!(err, @"sysctl 'net.ipv4.ip_forward' is not allowed as net namespace is not private to the container");
    }

    #[test]
    fn one_key_is_set_once() {
        let pairs = [
            ("net.a.b".to_owned(), "1".to_owned()),
            ("net/a/b".to_owned(), "2".to_owned()),
        ];
        check(pairs.iter().map(|(k, v)| (k, v)), ALL).unwrap_err();
    }
}
