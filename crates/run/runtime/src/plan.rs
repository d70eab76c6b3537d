//! What is to be done for a container, decided before anything is done.
//!
//! Pure: a specification goes in, an ordered list of steps comes out. Nothing here asks the
//! kernel or the file system, so all of it is tested with plain values.

use std::path::{Path, PathBuf};

use havre_sys::mount::Propagation;
use havre_sys::process::CloneFlags;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, LinuxTimeOffset, Spec,
};
use rustix::fs::FileType;

use crate::error::RuntimeError;

pub(crate) mod mounts;
pub(crate) mod process;
pub(crate) mod sysctl;

pub(crate) use mounts::{MountStep, Param, What};
pub(crate) use process::ProcessPlan;

/// The steps that make a container's world; its process is in [`ProcessPlan`].
#[derive(Debug)]
pub(crate) struct Plan {
    /// Absolute, on the host.
    pub(crate) rootfs: PathBuf,
    pub(crate) readonly_root: bool,
    /// What `rootfsPropagation` asks for.
    pub(crate) root_propagation: Option<(Propagation, bool)>,
    pub(crate) namespaces: Namespaces,
    pub(crate) mounts: Vec<MountStep>,
    /// False if the host's `/dev` is bound in, which must not be changed.
    pub(crate) own_dev: bool,
    pub(crate) devices: Vec<DeviceNode>,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) readonly: Vec<PathBuf>,
    /// Paths below `/proc/sys`, and their values.
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) personality: Option<u32>,
}

/// Which namespaces are made and which are entered.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    pub(crate) new: Vec<Kind>,
    pub(crate) join: Vec<(Kind, PathBuf)>,
    pub(crate) uid_mappings: Vec<LinuxIdMapping>,
    pub(crate) gid_mappings: Vec<LinuxIdMapping>,
    /// Lines for `/proc/PID/timens_offsets`.
    pub(crate) time_offsets: Vec<String>,
}

/// A type of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

impl Kind {
    fn of(kind: LinuxNamespaceType) -> Self {
        match kind {
            LinuxNamespaceType::Mount => Self::Mount,
            LinuxNamespaceType::Pid => Self::Pid,
            LinuxNamespaceType::Network => Self::Network,
            LinuxNamespaceType::Ipc => Self::Ipc,
            LinuxNamespaceType::Uts => Self::Uts,
            LinuxNamespaceType::User => Self::User,
            LinuxNamespaceType::Cgroup => Self::Cgroup,
            LinuxNamespaceType::Time => Self::Time,
        }
    }

    pub(crate) const fn flag(self) -> CloneFlags {
        match self {
            Self::Mount => CloneFlags::NEWNS,
            Self::Pid => CloneFlags::NEWPID,
            Self::Network => CloneFlags::NEWNET,
            Self::Ipc => CloneFlags::NEWIPC,
            Self::Uts => CloneFlags::NEWUTS,
            Self::User => CloneFlags::NEWUSER,
            Self::Cgroup => CloneFlags::NEWCGROUP,
            Self::Time => CloneFlags::NEWTIME,
        }
    }
}

impl Namespaces {
    /// True if the container has this namespace for itself, new or joined.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.makes(kind) || self.join.iter().any(|(joined, _)| *joined == kind)
    }

    pub(crate) fn makes(&self, kind: Kind) -> bool {
        self.new.contains(&kind)
    }

    pub(crate) fn of(spec: &Spec) -> Result<Self, RuntimeError> {
        let mut out = Self::default();
        let Some(linux) = spec.linux() else {
            return Ok(out);
        };
        for namespace in linux.namespaces().iter().flatten() {
            let kind = Kind::of(namespace.typ());
            if out.has(kind) {
                let reason = format!("{} is listed twice", namespace.typ());
                return Err(RuntimeError::spec("linux.namespaces", reason));
            }
            match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => out.join.push((kind, path.clone())),
                _ => out.new.push(kind),
            }
        }
        out.uid_mappings = linux.uid_mappings().clone().unwrap_or_default();
        out.gid_mappings = linux.gid_mappings().clone().unwrap_or_default();
        let mapped = !out.uid_mappings.is_empty() || !out.gid_mappings.is_empty();
        // They would belong to the runtime's user namespace: the container could not use them.
        if out.has(Kind::User) && !out.makes(Kind::User) && !out.new.is_empty() {
            let what = "a user namespace joined by path together with new namespaces".to_owned();
            return Err(RuntimeError::Unsupported { what });
        }
        if mapped && !out.has(Kind::User) {
            let reason = "mappings need a user namespace".to_owned();
            return Err(RuntimeError::spec("linux.uidMappings", reason));
        }
        if out.makes(Kind::User) && out.uid_mappings.is_empty() {
            let reason = "a new user namespace needs mappings".to_owned();
            return Err(RuntimeError::spec("linux.uidMappings", reason));
        }
        for (clock, offset) in linux.time_offsets().iter().flatten() {
            out.time_offsets.push(time_offset(clock, offset)?);
        }
        if !out.time_offsets.is_empty() && !out.makes(Kind::Time) {
            let reason = "offsets need a new time namespace".to_owned();
            return Err(RuntimeError::spec("linux.timeOffsets", reason));
        }
        Ok(out)
    }
}

fn time_offset(clock: &str, offset: &LinuxTimeOffset) -> Result<String, RuntimeError> {
    if !matches!(clock, "monotonic" | "boottime") {
        return Err(RuntimeError::spec(
            "linux.timeOffsets",
            format!("unknown clock `{clock}`"),
        ));
    }
    let (secs, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
    Ok(format!("{clock} {secs} {nanos}\n"))
}

/// A device node to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    pub(crate) path: PathBuf,
    pub(crate) kind: FileType,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices>
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn devices(spec: &Spec) -> Result<Vec<DeviceNode>, RuntimeError> {
    let mut out = Vec::new();
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.devices().as_ref());
    for device in listed.into_iter().flatten() {
        out.push(device_node(device)?);
    }
    for (path, major, minor) in DEFAULT_DEVICES {
        if !out.iter().any(|node| node.path == Path::new(path)) {
            out.push(DeviceNode {
                path: PathBuf::from(path),
                kind: FileType::CharacterDevice,
                major,
                minor,
                mode: 0o666,
                uid: 0,
                gid: 0,
            });
        }
    }
    Ok(out)
}

fn device_node(device: &LinuxDevice) -> Result<DeviceNode, RuntimeError> {
    let bad = |reason: &str| {
        RuntimeError::spec(
            "linux.devices",
            format!("{}: {reason}", device.path().display()),
        )
    };
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(bad("type `a` is only for rules")),
    };
    // linux/kdev_t.h: 12 bits of major, 20 of minor. More would be truncated by the kernel.
    let number = |value: i64, max: u32| match (kind, u32::try_from(value)) {
        (FileType::Fifo, _) => Ok(0),
        (_, Ok(value)) if value <= max => Ok(value),
        _ => Err(bad("device number out of range")),
    };
    Ok(DeviceNode {
        path: device.path().clone(),
        kind,
        major: number(device.major(), 0xfff)?,
        minor: number(device.minor(), 0xf_ffff)?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

/// What is asked for and cannot be had is an error, never passed over.
fn refuse_unsupported(spec: &Spec) -> Result<(), RuntimeError> {
    let refuse = |what: &str| {
        let what = what.to_owned();
        Err(RuntimeError::Unsupported { what })
    };
    if let Some(linux) = spec.linux() {
        if linux.intel_rdt().is_some() {
            return refuse("resource control by Intel RDT (linux.intelRdt)");
        }
        if linux
            .mount_label()
            .as_ref()
            .is_some_and(|label| !label.is_empty())
        {
            return refuse("an SELinux label for mounts (linux.mountLabel)");
        }
        if linux.memory_policy().is_some() {
            return refuse("a NUMA memory policy (linux.memoryPolicy)");
        }
        if linux
            .net_devices()
            .as_ref()
            .is_some_and(|devices| !devices.is_empty())
        {
            return refuse("moving network devices (linux.netDevices)");
        }
    }
    let process = spec.process().as_ref();
    if process.is_some_and(|process| process.exec_cpu_affinity().is_some()) {
        return refuse("a CPU affinity (process.execCPUAffinity)");
    }
    Ok(())
}

impl Plan {
    /// Decides what the specification means for the bundle in the absolute directory `bundle`.
    pub(crate) fn new(spec: &Spec, bundle: &Path) -> Result<Self, RuntimeError> {
        let Some(root) = spec.root() else {
            return Err(RuntimeError::spec("root", "it is missing"));
        };
        refuse_unsupported(spec)?;
        let namespaces = Namespaces::of(spec)?;
        let linux = spec.linux().as_ref();
        let mut mounts = Vec::new();
        for mount in spec.mounts().iter().flatten() {
            mounts.push(MountStep::new(mount)?);
        }
        let own_dev = !mounts.iter().any(MountStep::binds_dev);
        let paths = |list: Option<&Vec<String>>| {
            list.into_iter()
                .flatten()
                .map(PathBuf::from)
                .collect::<Vec<_>>()
        };
        let propagation = linux
            .and_then(|l| l.rootfs_propagation().as_deref())
            .unwrap_or("");
        let hostname = spec.hostname().clone().filter(|name| !name.is_empty());
        let domainname = spec.domainname().clone().filter(|name| !name.is_empty());
        if (hostname.is_some() || domainname.is_some()) && !namespaces.has(Kind::Uts) {
            let reason = "it needs a UTS namespace of the container's own";
            return Err(RuntimeError::spec("hostname", reason));
        }
        Ok(Self {
            rootfs: bundle.join(root.path()),
            readonly_root: root.readonly().unwrap_or(false),
            root_propagation: mounts::root_propagation(propagation)?,
            sysctls: sysctl::plan(linux.and_then(|l| l.sysctl().as_ref()), &namespaces)?,
            namespaces,
            mounts,
            own_dev,
            devices: if own_dev { devices(spec)? } else { Vec::new() },
            masked: paths(linux.and_then(|l| l.masked_paths().as_ref())),
            readonly: paths(linux.and_then(|l| l.readonly_paths().as_ref())),
            hostname,
            domainname,
            personality: linux
                .and_then(|l| l.personality().as_ref())
                .map(process::personality)
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Plan, String> {
        let spec: Spec = serde_json::from_str(json).unwrap();
        Plan::new(&spec, Path::new("/bundle")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_root_is_taken_from_the_bundle() {
        let plan =
            plan(r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","readonly":true}}"#).unwrap();
        assert_eq!(plan.rootfs, Path::new("/bundle/rootfs"));
        assert!(plan.readonly_root);
        assert_eq!(plan.devices.len(), 6);
    }

    #[test]
    fn namespaces_are_made_or_joined_and_never_both() {
        let made = plan(
            r#"{"ociVersion":"1.0.2","root":{"path":"r"},"linux":{"namespaces":[
                {"type":"pid"},{"type":"network","path":"/run/ns"}]}}"#,
        )
        .unwrap();
        assert_eq!(made.namespaces.new, [Kind::Pid]);
        assert!(made.namespaces.has(Kind::Network));
        assert!(!made.namespaces.has(Kind::Mount));
        let twice = plan(
            r#"{"ociVersion":"1.0.2","root":{"path":"r"},"linux":{"namespaces":[
                {"type":"pid"},{"type":"pid","path":"/x"}]}}"#,
        );
        assert_eq!(
            twice.unwrap_err(),
            "invalid linux.namespaces: pid is listed twice"
        );
    }

    #[test]
    fn a_listed_device_takes_the_place_of_the_default_one() {
        let plan = plan(
            r#"{"ociVersion":"1.0.2","root":{"path":"r"},"linux":{"devices":[
                {"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":432,"gid":5}]}}"#,
        )
        .unwrap();
        assert_eq!(plan.devices.len(), 6);
        assert_eq!((plan.devices[0].mode, plan.devices[0].gid), (0o660, 5));
    }

    #[test]
    fn device_numbers_are_not_truncated() {
        let json = r#"{"ociVersion":"1.0.2","root":{"path":"r"},"linux":{"devices":[
            {"path":"/dev/x","type":"c","major":4096,"minor":3}]}}"#;
        assert_eq!(
            plan(json).unwrap_err(),
            "invalid linux.devices: /dev/x: device number out of range"
        );
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        for (json, text) in [
            (r#""intelRdt":{}"#, "linux.intelRdt"),
            (r#""netDevices":{"eth0":{}}"#, "linux.netDevices"),
            (
                r#""namespaces":[{"type":"user","path":"/x"},{"type":"pid"}]"#,
                "a user namespace joined by path",
            ),
        ] {
            let json =
                format!(r#"{{"ociVersion":"1.0.2","root":{{"path":"r"}},"linux":{{{json}}}}}"#);
            let error = plan(&json).unwrap_err();
            assert!(
                error.contains(text) && error.ends_with("is not supported"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_hostname_needs_its_namespace() {
        let json = r#"{"ociVersion":"1.0.2","root":{"path":"r"},"hostname":"x"}"#;
        assert!(plan(json).unwrap_err().contains("UTS namespace"));
    }
}
