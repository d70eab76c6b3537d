//! `--security-opt`, and which paths of `/proc` and `/sys` a container does not see.

use havre_api_traits::ApiError;
use havre_seccomp::Profile;

/// What the security options ask for.
#[derive(Debug, Default)]
pub(crate) struct SecurityOptions {
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    pub system_paths_open: bool,
    /// Not given: as privileged or not.
    pub writable_cgroups: Option<bool>,
    /// Labels that nobody enforces here.
    pub labels: Vec<String>,
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
        match option.as_str() {
            "no-new-privileges" => {
                parsed.no_new_privileges = true;
                continue;
            }
            "writable-cgroups" => {
                parsed.writable_cgroups = Some(true);
                continue;
            }
            "disable" => continue,
            _ => {}
        }
        let (key, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .ok_or_else(|| ApiError::invalid(format!("invalid --security-opt 1: {option:?}")))?;
        match (key, value) {
            ("no-new-privileges", value) => {
                parsed.no_new_privileges = yes_or_no(value).ok_or_else(|| unknown(option))?;
            }
            ("writable-cgroups", value) => {
                parsed.writable_cgroups = Some(yes_or_no(value).ok_or_else(|| unknown(option))?);
            }
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
            ("label", value) => parsed.labels.push(label(value)?.to_owned()),
            _ => return Err(unknown(option)),
        }
    }
    Ok(parsed)
}

fn unknown(option: &str) -> ApiError {
    ApiError::invalid(format!("invalid --security-opt 2: {option:?}"))
}

/// As Go's `strconv.ParseBool`.
fn yes_or_no(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// <https://github.com/opencontainers/selinux/blob/main/go-selinux/label/label_linux.go> (`InitLabels`)
fn label(value: &str) -> Result<&str, ApiError> {
    let kinds = ["user", "role", "type", "level", "filetype"];
    match value.split_once(':') {
        Some((kind, _)) if kinds.contains(&kind) => Ok(value),
        _ => Err(ApiError::invalid(format!(
            "Bad label option {value:?}, valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"
        ))),
    }
}

/// What was asked for and does not hold here, for the answer of `create`: without SELinux dockerd ignores labels
/// silently.
pub(crate) fn warning(options: &SecurityOptions) -> Option<String> {
    let labels = options.labels.join(", ");
    (!labels.is_empty())
        .then(|| format!("SELinux is not enabled on this host: the label {labels} is not applied"))
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
                "label=svirt_lxc_net_t",
                "writable-cgroups=maybe",
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

    #[test]
    fn the_closed_paths_are_those_of_the_documentation() {
        let throttle = ["/sys/devices/system/cpu/cpu0/thermal_throttle".to_owned()];
        let all = [masked_paths(&throttle), readonly_paths()].concat();
        insta::assert_snapshot!(all.join("\n"));
    }
}
