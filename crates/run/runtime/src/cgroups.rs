//! The container's cgroup as the child sees it: how to join it, and how to show it inside.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use havre_cgroup::{Birth, Cgroup, Host, Joiner, runtime_defaults};
use havre_sys::fsroot::Root;
use havre_sys::mount::{Depth, MountAttrFlags};
use oci_spec::runtime::{LinuxResources, Mount, Spec};
use rustix::fs::Mode;

use crate::error::{RuntimeError, Step as _};
use crate::plan::{MountStep, Param};
use crate::tree;

/// Makes the container's cgroup with its resources.
pub(crate) fn make(host: &Host, spec: &Spec, id: &str) -> Result<Cgroup, RuntimeError> {
    let linux = spec.linux().as_ref();
    let path = match linux.and_then(|linux| linux.cgroups_path().as_ref()) {
        Some(path) if !path.as_os_str().is_empty() => path.clone(),
        _ => PathBuf::from("/").join(id),
    };
    let mut resources = linux
        .and_then(|linux| linux.resources().clone())
        .unwrap_or_default();
    restrict_devices(&mut resources);
    let failed = |source| RuntimeError::Cgroup {
        what: "create the cgroup",
        source,
    };
    let mut cgroup = Cgroup::create(host, &path, Some(&resources)).map_err(failed)?;
    if shows_writable(spec)
        && let Err(error) = cgroup.complete()
    {
        // The first error is the one to report.
        drop(cgroup.delete());
        return Err(failed(error));
    }
    Ok(cgroup)
}

/// Who may write to the cgroups makes groups of its own, of every controller.
fn shows_writable(spec: &Spec) -> bool {
    let read_only = |mount: &Mount| {
        let mut options = mount.options().iter().flatten();
        options.any(|option| option == "ro" || option == "rro")
    };
    let mut mounts = spec.mounts().iter().flatten();
    mounts.any(|mount| {
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) && !read_only(mount)
    })
}

/// Everything is denied that no rule allows, and what every container has is always allowed.
fn restrict_devices(resources: &mut LinuxResources) {
    let mut rules: Vec<_> = resources.devices().iter().flatten().cloned().collect();
    rules.extend(runtime_defaults());
    resources.set_devices(Some(rules));
}

/// What the child needs of a cgroup; opened before it exists.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    /// Where the child is born, on cgroup v2.
    pub(crate) birth: Option<BorrowedFd<'a>>,
    joiner: Joiner,
    directories: Vec<(PathBuf, PathBuf)>,
    unified: Option<PathBuf>,
}

impl<'a> Placement<'a> {
    pub(crate) fn new(host: Option<&Host>, cgroup: &'a Cgroup) -> Result<Self, RuntimeError> {
        let birth = cgroup.fd();
        let from = if birth.is_some() {
            Birth::InGroup
        } else {
            Birth::Elsewhere
        };
        let joiner = cgroup.joiner(from).map_err(|source| RuntimeError::Cgroup {
            what: "open the cgroup",
            source,
        })?;
        Ok(Self {
            birth,
            joiner,
            directories: cgroup.directories(),
            unified: host.and_then(Host::unified).map(Path::to_path_buf),
        })
    }

    /// The descriptors that the child needs.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.joiner.descriptors()
    }

    /// Moves the calling process to where it was not born.
    pub(crate) fn join_self(&self) -> Result<(), RuntimeError> {
        self.joiner
            .join_current()
            .map_err(std::io::Error::other)
            .step(|| "join the cgroup".to_owned())
    }

    /// Shows the container its own part of each hierarchy. A bind mount of that directory does
    /// for all versions, with and without a cgroup namespace, and shows nothing above it.
    pub(crate) fn mount(&self, root: &Root, step: &MountStep) -> Result<(), RuntimeError> {
        let describe = || step.describe();
        let alone = match self.directories.as_slice() {
            [(mount, dir)] if Some(mount) == self.unified.as_ref() => Some(dir),
            _ => None,
        };
        if let Some(dir) = alone {
            return self.mount_one(dir, step, |tree| tree::target(root, step, tree));
        }
        let params = [Param::Value("mode".to_owned(), "755".to_owned())];
        let top = tree::filesystem("tmpfs", "cgroup", &params, MountAttrFlags::NONE)
            .map_err(|(source, _)| source)
            .step(describe)?;
        let target = tree::target(root, step, &top)?;
        tree::attach(top.as_fd(), target.as_fd()).step(describe)?;
        let top = Root::from_fd(top);
        for (mount, dir) in &self.directories {
            let Some(name) = mount.file_name().map(PathBuf::from) else {
                continue;
            };
            self.mount_one(dir, step, |_tree| {
                top.mkdir_all(&name, Mode::from_raw_mode(0o755))
                    .step(describe)
            })?;
            link_parts(&top, &name).step(describe)?;
        }
        tree::adjust(top.as_fd(), step.own, Depth::One, None).step(describe)
    }

    fn mount_one(
        &self,
        dir: &Path,
        step: &MountStep,
        target: impl FnOnce(&OwnedFd) -> Result<OwnedFd, RuntimeError>,
    ) -> Result<(), RuntimeError> {
        let describe = || format!("mount the cgroup `{}`", dir.display());
        let tree = tree::bind(dir, false).step(describe)?;
        tree::adjust(tree.as_fd(), step.own, Depth::One, None).step(describe)?;
        let target = target(&tree)?;
        tree::attach(tree.as_fd(), target.as_fd()).step(describe)
    }
}

/// Controllers that are mounted together can be reached by the name of each.
fn link_parts(top: &Root, name: &Path) -> std::io::Result<()> {
    let text = name.to_string_lossy();
    if !text.contains(',') {
        return Ok(());
    }
    for part in text.split(',') {
        top.symlink(name.as_os_str(), Path::new(part))?;
    }
    Ok(())
}
