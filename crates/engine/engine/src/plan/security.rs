//! `--security-opt`, and which paths of `/proc` and `/sys` a container does not see.

use havre_api_traits::ApiError;
use havre_seccomp::Profile;

/// What the security options ask for.
#[derive(Debug, Default)]
pub(crate) struct SecurityOptions {
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    pub system_paths_open: bool,
}

/// Which filter the container gets.
#[derive(Debug, Default)]
pub(crate) enum Seccomp {
    #[default]
    Default,
    Unconfined,
    Profile(Box<Profile>),
}

/// Reads the options; what this host cannot enforce is refused by name, never dropped.
///
/// Grammar and texts: <https://github.com/moby/moby/blob/master/daemon/daemon_unix.go> (`parseSecurityOpt`).
pub(crate) fn parse(options: &[String]) -> Result<SecurityOptions, ApiError> {
    let mut parsed = SecurityOptions::default();
    for option in options {
        if option == "no-new-privileges" {
            parsed.no_new_privileges = true;
            continue;
        }
        let (key, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .ok_or_else(|| ApiError::invalid(format!("invalid --security-opt 1: {option:?}")))?;
        match (key, value) {
            ("no-new-privileges", "true" | "1") => parsed.no_new_privileges = true,
            ("no-new-privileges", "false" | "0") => parsed.no_new_privileges = false,
            ("seccomp", "unconfined") => parsed.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin" | "") => parsed.seccomp = Seccomp::Default,
            ("seccomp", json) => parsed.seccomp = Seccomp::Profile(Box::new(profile(json)?)),
            ("systempaths", "unconfined") => parsed.system_paths_open = true,
            ("apparmor", "unconfined") | ("label", "disable") => {}
            ("apparmor", name) => {
                return Err(ApiError::invalid(format!(
                    "AppArmor profile {name:?} was requested, but AppArmor is not enabled on this host"
                )));
            }
            ("label", value) => {
                return Err(ApiError::invalid(format!(
                    "SELinux label {value:?} was requested, but SELinux is not enabled on this host"
                )));
            }
            _ => {
                return Err(ApiError::invalid(format!(
                    "invalid --security-opt 2: {option:?}"
                )));
            }
        }
    }
    Ok(parsed)
}

fn profile(json: &str) -> Result<Profile, ApiError> {
    serde_json::from_str(json)
        .map_err(|err| ApiError::invalid(format!("Decoding seccomp profile failed: {err}")))
}

/// Docker's and Podman's lists together, and root-only files that only monitoring agents read; the per-CPU
/// throttle counters of the host are added by [`masked_paths`].
const MASKED: [&str; 23] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Paths that read as empty. `throttle` are the host's `thermal_throttle` directories.
pub(crate) fn masked_paths(throttle: &[String]) -> Vec<String> {
    MASKED
        .into_iter()
        .map(str::to_owned)
        .chain(throttle.iter().cloned())
        .collect()
}

pub(crate) fn readonly_paths() -> Vec<String> {
    READ_ONLY.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn err(option: &str) -> String {
        parse(&[option.to_owned()]).unwrap_err().message
    }

    #[test]
    fn what_cannot_be_enforced_is_refused() {
        insta::assert_snapshot!(
            [
                "apparmor=docker-default",
                "label=type:svirt_lxc_net_t",
                "foo",
                "foo=bar",
                "seccomp={"
            ]
            .map(err)
            .join("\n")
        );
    }

    #[test]
    fn both_spellings_are_read() {
        for option in [
            "no-new-privileges",
            "no-new-privileges=true",
            "no-new-privileges:true",
        ] {
            assert!(parse(&[option.to_owned()]).unwrap().no_new_privileges);
        }
        let open = parse(&["seccomp=unconfined".to_owned(), "label=disable".to_owned()]).unwrap();
        assert!(matches!(open.seccomp, Seccomp::Unconfined));
    }
}
