//! Devices: the default-deny rules, `--device`, `--device-cgroup-rule`, and all of the host's for `--privileged`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use havre_api_traits::ApiError;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use crate::cdi::Edits;

/// A device node of the host, found before planning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostDevice {
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// All that a container needs of the host's devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices {
    pub nodes: Vec<HostDevice>,
    pub numbers: Numbers,
    /// What devices that were asked for by name bring along; their nodes are in `nodes`.
    pub edits: Edits,
}

/// Numbers of the block devices that limits of I/O name, by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers(pub BTreeMap<String, (u32, u32)>);

impl Numbers {
    pub(super) fn of(&self, path: &str) -> (i64, i64) {
        let (major, minor) = self.0.get(path).copied().unwrap_or_default();
        (i64::from(major), i64::from(minor))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Char,
    Block,
}

impl DeviceKind {
    fn oci(self) -> LinuxDeviceType {
        match self {
            Self::Char => LinuxDeviceType::C,
            Self::Block => LinuxDeviceType::B,
        }
    }
}

/// Which devices the rules must allow beyond the default ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights<'a> {
    pub privileged: bool,
    /// With CAP_MKNOD, making nodes is allowed; opening them is still not.
    pub mknod: bool,
    pub net_admin: bool,
    pub rules: &'a [String],
}

/// null, zero, full, random, urandom, tty, console, ptmx and pseudo terminals: what the runtime specification makes in
/// every container. <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices>
const DEFAULT: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

pub(crate) fn nodes(devices: &[HostDevice]) -> Result<Vec<LinuxDevice>, ApiError> {
    devices
        .iter()
        .map(|device| {
            LinuxDeviceBuilder::default()
                .path(device.path.clone())
                .typ(device.kind.oci())
                .major(i64::from(device.major))
                .minor(i64::from(device.minor))
                .file_mode(device.mode & 0o7777)
                .uid(device.uid)
                .gid(device.gid)
                .build()
                .map_err(|err| crate::error::internal("failed to plan a device", &err))
        })
        .collect()
}

/// The list of the devices controller, in order: deny everything, then the exceptions.
pub(crate) fn rules(
    devices: &[HostDevice],
    rights: Rights<'_>,
) -> Result<Vec<LinuxDeviceCgroup>, ApiError> {
    if rights.privileged {
        return Ok(vec![rule(true, None, None, None, "rwm")?]);
    }
    let char = Some(LinuxDeviceType::C);
    let mut rules = vec![rule(false, None, None, None, "rwm")?];
    if rights.mknod {
        rules.push(rule(true, char, None, None, "m")?);
        rules.push(rule(true, Some(LinuxDeviceType::B), None, None, "m")?);
    }
    for (major, minor) in DEFAULT {
        rules.push(rule(true, char, Some(major), minor, "rwm")?);
    }
    if rights.net_admin {
        rules.push(rule(true, char, Some(10), Some(200), "rwm")?);
    }
    for device in devices {
        let (major, minor) = (i64::from(device.major), i64::from(device.minor));
        rules.push(rule(
            true,
            Some(device.kind.oci()),
            Some(major),
            Some(minor),
            &device.permissions,
        )?);
    }
    for text in rights.rules {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

/// `--device-cgroup-rule`: `c 42:* rmw`.
pub(super) fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup, ApiError> {
    let wrong = || ApiError::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong());
    };
    let kind = match kind {
        "a" => None,
        "c" => Some(LinuxDeviceType::C),
        "b" => Some(LinuxDeviceType::B),
        _ => return Err(wrong()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits
            .parse::<u32>()
            .map(|n| Some(i64::from(n)))
            .map_err(|_not_a_number| wrong()),
    };
    check_permissions(access).map_err(|_named_below| wrong())?;
    rule(true, kind, number(major)?, number(minor)?, access)
}

/// Accepts any non-empty mix of `r`, `w` and `m`.
pub(crate) fn check_permissions(text: &str) -> Result<(), ApiError> {
    if !text.is_empty() && text.len() <= 3 && text.chars().all(|c| "rwm".contains(c)) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("invalid device mode: {text:?}")))
}

fn rule(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup, ApiError> {
    let mut builder = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .access(access);
    if let Some(kind) = kind {
        builder = builder.typ(kind);
    }
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder
        .build()
        .map_err(|err| crate::error::internal("failed to plan a device rule", &err))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Rights<'_> = Rights {
        privileged: false,
        mknod: true,
        net_admin: false,
        rules: &[],
    };

    #[test]
    fn the_first_rule_denies_and_the_last_ones_are_the_users() {
        let given = ["c 42:* rw".to_owned()];
        let rules = rules(
            &[],
            Rights {
                rules: &given,
                ..PLAIN
            },
        )
        .unwrap();
        assert!(!rules[0].allow());
        let last = rules.last().unwrap();
        assert_eq!(
            (last.major(), last.minor(), last.access().as_deref()),
            (Some(42), None, Some("rw"))
        );
        assert_eq!(rules.len(), 1 + 2 + DEFAULT.len() + 1);
    }

    #[test]
    fn wrong_rules_are_refused() {
        for bad in [
            "",
            "c",
            "c 1:2",
            "c 1:2 x",
            "d 1:2 r",
            "c 1 r",
            "c 1:2 r z",
            "c -1:2 r",
            "c 1:99999999999 r",
        ] {
            let given = [bad.to_owned()];
            let err = super::rules(
                &[],
                Rights {
                    rules: &given,
                    ..PLAIN
                },
            )
            .unwrap_err();
            assert_eq!(
                err.message,
                format!("invalid device cgroup rule format: '{bad}'")
            );
        }
    }
}
