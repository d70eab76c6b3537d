//! Docker's profile format: the OCI form with conditions on capabilities, architecture and
//! kernel (<https://github.com/moby/profiles/blob/main/seccomp/seccomp.go>).

use std::path::PathBuf;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::{Deserialize, Serialize};

use crate::error::SeccompError;

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What happens to a call that no rule names.
    pub default_action: LinuxSeccompAction,
    /// Its error number, EPERM if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The architectures, in the form that depends on nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architectures: Option<Vec<Arch>>,
    /// Each architecture with those that its kernel also runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch_map: Option<Vec<ArchMap>>,
    /// Flags for loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<LinuxSeccompFilterFlag>>,
    /// The socket of an agent that decides about NOTIFY calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<PathBuf>,
    /// Passed to that agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<Vec<ProfileSyscall>>,
}

/// An architecture and those that its kernel also runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchMap {
    /// The architecture.
    pub architecture: Arch,
    /// The others.
    #[serde(default)]
    pub sub_architectures: Option<Vec<Arch>>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileSyscall {
    /// The calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// One call, in old profiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens.
    pub action: LinuxSeccompAction,
    /// Its error number, EPERM if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions on arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<LinuxSeccompArg>>,
    /// For the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The rule is there only if all of these hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub includes: Option<Conditions>,
    /// The rule is not there if one of these holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes: Option<Conditions>,
}

/// What a rule depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// Capabilities of the container's bounding set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<String>>,
    /// Names of architectures as Go has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arches: Option<Vec<String>>,
    /// The oldest kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_kernel: Option<KernelVersion>,
}

/// The first two numbers of a kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelVersion {
    /// The first.
    pub kernel: u32,
    /// The second.
    pub major: u32,
}

impl KernelVersion {
    /// The version of a kernel's release name, such as `6.18.44-amd64`.
    #[must_use]
    pub fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.splitn(3, |c: char| !c.is_ascii_digit());
        let kernel = numbers.next()?.parse().ok()?;
        let major = numbers.next()?.parse().ok()?;
        Some(Self { kernel, major })
    }
}

impl TryFrom<String> for KernelVersion {
    type Error = SeccompError;

    fn try_from(text: String) -> Result<Self, SeccompError> {
        let number = |part: &str| part.parse::<u8>().ok().map(u32::from);
        let parsed = text
            .split_once('.')
            .and_then(|(kernel, major)| Some((number(kernel)?, number(major)?)))
            .filter(|parsed| *parsed != (0, 0));
        match parsed {
            Some((kernel, major)) => Ok(Self { kernel, major }),
            None => Err(SeccompError::KernelVersion { text }),
        }
    }
}

impl From<KernelVersion> for String {
    fn from(version: KernelVersion) -> Self {
        format!("{}.{}", version.kernel, version.major)
    }
}

impl Profile {
    /// Settles what depends on the container's capabilities (names of the bounding set, such as
    /// `CAP_SYS_ADMIN`), the architecture and the kernel.
    pub fn resolve(
        &self,
        caps: &[&str],
        arch: Arch,
        kernel: KernelVersion,
    ) -> Result<LinuxSeccomp, SeccompError> {
        let mut out = LinuxSeccomp::default();
        out.set_default_action(self.default_action);
        out.set_default_errno_ret(self.default_errno_ret);
        out.set_flags(self.flags.clone());
        out.set_listener_path(self.listener_path.clone());
        out.set_listener_metadata(self.listener_metadata.clone());
        out.set_architectures(self.resolve_architectures(arch)?);
        let mut syscalls = Vec::new();
        for rule in self.syscalls.iter().flatten() {
            if rule.applies(caps, arch, kernel) {
                syscalls.push(rule.to_oci()?);
            }
        }
        out.set_syscalls(Some(syscalls));
        Ok(out)
    }

    fn resolve_architectures(&self, arch: Arch) -> Result<Option<Vec<Arch>>, SeccompError> {
        let listed = self.architectures.as_deref().unwrap_or_default();
        let map = self.arch_map.as_deref().unwrap_or_default();
        if !listed.is_empty() && !map.is_empty() {
            return Err(SeccompError::ArchitecturesAndArchMap);
        }
        let Some(entry) = map.iter().find(|entry| entry.architecture == arch) else {
            return Ok(self.architectures.clone());
        };
        let mut all = vec![entry.architecture];
        all.extend(entry.sub_architectures.iter().flatten());
        Ok(Some(all))
    }
}

impl ProfileSyscall {
    fn applies(&self, caps: &[&str], arch: Arch, kernel: KernelVersion) -> bool {
        let has = |cap: &String| caps.contains(&cap.as_str());
        let is = |name: &String| go_name(arch) == Some(name);
        let any = |list: &Option<Vec<String>>, test: &dyn Fn(&String) -> bool| {
            list.iter().flatten().any(test)
        };
        if let Some(excludes) = &self.excludes
            && (any(&excludes.caps, &has)
                || any(&excludes.arches, &is)
                || excludes.min_kernel.is_some_and(|oldest| kernel >= oldest))
        {
            return false;
        }
        let Some(includes) = &self.includes else {
            return true;
        };
        let arches = includes.arches.as_deref().unwrap_or_default();
        (arches.is_empty() || arches.iter().any(is))
            && includes.caps.iter().flatten().all(has)
            && includes.min_kernel.is_none_or(|oldest| kernel >= oldest)
    }

    fn to_oci(&self) -> Result<LinuxSyscall, SeccompError> {
        let names = match (&self.name, self.names.as_deref().unwrap_or_default()) {
            (Some(name), []) if !name.is_empty() => vec![name.clone()],
            (Some(name), _) if !name.is_empty() => return Err(SeccompError::NameAndNames),
            (_, names) => names.to_vec(),
        };
        let mut out = LinuxSyscall::default();
        out.set_names(names);
        out.set_action(self.action);
        out.set_errno_ret(self.errno_ret);
        out.set_args(self.args.clone());
        Ok(out)
    }
}

/// What Go, and so a profile's conditions, calls an architecture.
const fn go_name(arch: Arch) -> Option<&'static str> {
    match arch {
        Arch::ScmpArchX86_64 => Some("amd64"),
        Arch::ScmpArchX86 => Some("386"),
        Arch::ScmpArchAarch64 => Some("arm64"),
        Arch::ScmpArchArm => Some("arm"),
        Arch::ScmpArchRiscv64 => Some("riscv64"),
        Arch::ScmpArchPpc64le => Some("ppc64le"),
        Arch::ScmpArchS390x => Some("s390x"),
        _ => None,
    }
}
