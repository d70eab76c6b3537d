//! Namespaces from the runtime's side: mappings, and those that only children can enter.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use havre_sys::namespace;
use oci_spec::runtime::LinuxIdMapping;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::error::{RuntimeError, Step as _};
use crate::plan::{Kind, Namespaces};

/// linux/magic.h
const NSFS_MAGIC: i64 = 0x6e73_6673;

pub(crate) const fn link_type(kind: Kind) -> LinkNameSpaceType {
    match kind {
        Kind::Mount => LinkNameSpaceType::Mount,
        Kind::Pid => LinkNameSpaceType::ProcessID,
        Kind::Network => LinkNameSpaceType::Network,
        Kind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        Kind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        Kind::User => LinkNameSpaceType::User,
        Kind::Cgroup => LinkNameSpaceType::ControlGroup,
        Kind::Time => LinkNameSpaceType::Time,
    }
}

/// Opens a namespace by its path; that it is of the right type is checked when it is entered.
pub(crate) fn open_namespace(kind: Kind, path: &Path) -> Result<OwnedFd, RuntimeError> {
    let describe = || format!("open the {kind:?} namespace `{}`", path.display());
    let fd = open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )
    .step(describe)?;
    if rustix::fs::fstatfs(&fd).step(describe)?.f_type != NSFS_MAGIC {
        return Err(io::Error::other("it is not a namespace")).step(describe);
    }
    Ok(fd)
}

/// Writes the mappings of a new user namespace.
pub(crate) fn write_mappings(pid: Pid, namespaces: &Namespaces) -> Result<(), RuntimeError> {
    let dir = format!("/proc/{}", pid.as_raw_pid());
    let write = |name: &str, text: &str| {
        fs_err::write(format!("{dir}/{name}"), text).step(|| format!("write {name}"))
    };
    if !geteuid().is_root() {
        // The kernel lets the unprivileged map their group only if setgroups is off for good
        // (CVE-2014-8989).
        write("setgroups", "deny")?;
    }
    write("gid_map", &lines(&namespaces.gid_mappings))?;
    write("uid_map", &lines(&namespaces.uid_mappings))
}

fn lines(mappings: &[LinuxIdMapping]) -> String {
    let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size());
    mappings.iter().map(line).collect()
}

/// The PID and time namespaces, which take effect for children only, while a child is cloned.
#[derive(Debug)]
pub(crate) struct ForChildren {
    back: Vec<(LinkNameSpaceType, OwnedFd)>,
}

impl ForChildren {
    pub(crate) fn enter(
        namespaces: &Namespaces,
        pid: Option<&OwnedFd>,
    ) -> Result<Self, RuntimeError> {
        let mut out = Self { back: Vec::new() };
        if let Some(pid) = pid {
            out.remember(Kind::Pid, c"/proc/self/ns/pid")?;
            namespace::enter(pid.as_fd(), Some(LinkNameSpaceType::ProcessID))
                .step(|| "enter the PID namespace".to_owned())?;
        }
        if namespaces.makes(Kind::Time) {
            out.remember(Kind::Time, c"/proc/self/ns/time")?;
            let describe = || "make the time namespace".to_owned();
            namespace::unshare(UnshareFlags::NEWTIME).step(describe)?;
            if !namespaces.time_offsets.is_empty() {
                let text = namespaces.time_offsets.concat();
                let written = fs_err::write("/proc/self/timens_offsets", text);
                if let Err(error) = written {
                    out.leave()?;
                    return Err(error).step(|| "set the clocks of the time namespace".to_owned());
                }
            }
        }
        Ok(out)
    }

    fn remember(&mut self, kind: Kind, path: &std::ffi::CStr) -> Result<(), RuntimeError> {
        let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .step(|| format!("open the runtime's own {kind:?} namespace"))?;
        self.back.push((link_type(kind), fd));
        Ok(())
    }

    /// Later children are the runtime's own again.
    pub(crate) fn leave(self) -> Result<(), RuntimeError> {
        for (kind, fd) in self.back {
            namespace::enter(fd.as_fd(), Some(kind))
                .step(|| "return to the runtime's own namespace".to_owned())?;
        }
        Ok(())
    }
}
