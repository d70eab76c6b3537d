//! The file system of the container: root, mounts, pivot_root, masks.
//!
//! Every target is resolved inside the root and held by descriptor while it is mounted on.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use havre_sys::fsroot::Root;
use havre_sys::mount::{Depth, MountAttrFlags, Propagation};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use crate::child::{Init, devices};
use crate::error::{RuntimeError, Step as _};
use crate::plan::mounts::Attrs;
use crate::plan::{Kind, MountStep, Param, Plan, What};
use crate::tree;

/// mount(2) copies one page of options, at least this much.
const PAGE: usize = 4096;

/// What was prepared in the runtime's own mount namespace.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The layers of the root, bottom first.
    pub(crate) root: Vec<RootTree>,
    /// For each mount of the plan the tree, if it had to be made with the runtime's rights:
    /// a container in a user namespace may not be able to reach the source.
    pub(crate) mounts: Vec<Option<OwnedFd>>,
    /// Likewise for each device.
    pub(crate) devices: Vec<Option<OwnedFd>>,
    /// The host's null device.
    pub(crate) null: OwnedFd,
}

/// One mount of the root.
#[derive(Debug)]
pub(crate) enum RootTree {
    /// It is there.
    Ready(OwnedFd),
    /// The kernel is too old for overlay by the new API; made by mount(2) in the child's
    /// namespace.
    Legacy(MountStep),
}

impl Sources {
    /// The descriptors that the child needs.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let layers = self.root.iter().filter_map(|tree| match tree {
            RootTree::Ready(fd) => Some(fd),
            RootTree::Legacy(_) => None,
        });
        let made = self.mounts.iter().chain(&self.devices).flatten();
        layers.chain(made).chain([&self.null]).map(OwnedFd::as_fd)
    }

    /// Prepares in the runtime, before the clone.
    pub(crate) fn prepare(plan: &Plan, root_mounts: &[MountStep]) -> Result<Self, RuntimeError> {
        let mut root = Vec::new();
        for step in root_mounts {
            root.push(root_tree(step)?);
        }
        if root.is_empty() {
            let describe = || format!("open the root `{}`", plan.rootfs.display());
            let fd = tree::bind(&plan.rootfs, true).step(describe)?;
            // Its copies of shared mounts are peers of the host's; slave lets the host's
            // changes in, which is the default of the specification's implementations.
            let propagation = match plan.root_propagation {
                None | Some((Propagation::Slave, _)) => Propagation::Slave,
                Some(_) => Propagation::Private,
            };
            tree::adjust(
                fd.as_fd(),
                Attrs::default(),
                Depth::Recursive,
                Some(propagation),
            )
            .step(describe)?;
            root.push(RootTree::Ready(fd));
        }
        let mut out = Self {
            root,
            mounts: Vec::new(),
            devices: Vec::new(),
            null: tree::dev_null().step(|| "open /dev/null".to_owned())?,
        };
        if plan.namespaces.has(Kind::User) {
            out.prepare_for_user_namespace(plan)?;
        }
        Ok(out)
    }

    fn prepare_for_user_namespace(&mut self, plan: &Plan) -> Result<(), RuntimeError> {
        for step in &plan.mounts {
            let made = match step.what {
                What::Bind { .. } => step.tree()?,
                What::Fs { .. } | What::Cgroup | What::Remount => None,
            };
            if let Some(tree) = &made {
                tree::adjust(
                    tree.as_fd(),
                    Attrs::default(),
                    Depth::Recursive,
                    Some(Propagation::Slave),
                )
                .step(|| step.describe())?;
            }
            self.mounts.push(made);
        }
        for node in &plan.devices {
            let made = tree::bind(&node.path, false);
            self.devices.push(Some(
                made.step(|| format!("open the device `{}`", node.path.display()))?,
            ));
        }
        Ok(())
    }
}

pub(crate) fn root_tree(step: &MountStep) -> Result<RootTree, RuntimeError> {
    match step.tree() {
        Ok(Some(tree)) => Ok(RootTree::Ready(tree)),
        Err(RuntimeError::Step { source, .. })
            if source.raw_os_error() == Some(libc::EINVAL) && is_overlay(step) =>
        {
            Ok(RootTree::Legacy(step.clone()))
        }
        Err(error) => Err(error),
        Ok(None) => Err(RuntimeError::spec(
            "rootfs",
            "this type of mount cannot be a root",
        )),
    }
}

fn is_overlay(step: &MountStep) -> bool {
    matches!(&step.what, What::Fs { fstype, .. } if fstype == "overlay")
}

/// Builds the whole tree; the root returned is attached but not yet the root of the process.
pub(crate) fn build(init: &Init<'_>) -> Result<Root, RuntimeError> {
    let plan = init.plan;
    let own_namespace = plan.namespaces.has(Kind::Mount);
    let propagation = match plan.root_propagation {
        // The host's own mounts, which are not to be changed.
        _ if !own_namespace => None,
        Some((Propagation::Shared, _)) => None,
        Some((Propagation::Private | Propagation::Unbindable, _)) => {
            Some(MountPropagationFlags::PRIVATE)
        }
        None | Some((Propagation::Slave, _)) => Some(MountPropagationFlags::DOWNSTREAM),
    };
    if let Some(flags) = propagation {
        mount_change("/", flags | MountPropagationFlags::REC)
            .step(|| "change the propagation of `/`".to_owned())?;
    }
    let mut early = Vec::new();
    if propagation.is_none() && own_namespace {
        early = bind_to_host(plan)?;
        // Hung on a shared mount, the root would show up on the host, and pivot_root refuses it.
        part_from_host(plan)?;
    }
    let root = attach_root(init)?;
    for (index, step) in plan.mounts.iter().enumerate() {
        let made = init.rootfs.mounts.get(index).or(early.get(index));
        let made = made.and_then(Option::as_ref);
        apply(init, &root, step, made)?;
    }
    if plan.own_dev {
        devices::make(&root, &plan.devices, &init.rootfs.devices)?;
    }
    Ok(root)
}

fn attach_root(init: &Init<'_>) -> Result<Root, RuntimeError> {
    attach_layers(&init.plan.rootfs, &init.rootfs.root)?
        .map(Root::from_fd)
        .ok_or_else(|| RuntimeError::spec("root", "there is no root"))
}

/// Mounts the layers of a root one over the other and gives the uppermost.
pub(crate) fn attach_layers(
    path: &Path,
    layers: &[RootTree],
) -> Result<Option<OwnedFd>, RuntimeError> {
    let describe = || format!("mount the root on `{}`", path.display());
    let mut last = None;
    for layer in layers {
        let fd = match layer {
            RootTree::Ready(tree) => {
                let place = open_directory(path).step(describe)?;
                tree::attach(tree.as_fd(), place.as_fd()).step(describe)?;
                tree.try_clone().step(describe)?
            }
            RootTree::Legacy(step) => {
                legacy_overlay(step, path).step(describe)?;
                open_directory(path).step(describe)?
            }
        };
        last = Some(fd);
    }
    Ok(last)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Before Linux 6.5 overlayfs takes its layers only as one string.
fn legacy_overlay(step: &MountStep, path: &Path) -> io::Result<()> {
    let What::Fs { source, params, .. } = &step.what else {
        return Ok(());
    };
    let words: Vec<_> = params
        .iter()
        .map(|param| match param {
            Param::Flag(name) => name.clone(),
            Param::Value(key, value) => format!("{key}={value}"),
        })
        .collect();
    let data = CString::new(words.join(","))?;
    // mount(2) copies one page; a longer list would be cut off, not refused.
    if data.as_bytes_with_nul().len() > PAGE {
        return Err(Errno::TOOBIG.into());
    }
    Ok(mount(
        source.as_str(),
        path,
        "overlay",
        MountFlags::empty(),
        data.as_c_str(),
    )?)
}

/// The binds that are to hear of the host's mounts, or the host of theirs, copied while their sources still do.
fn bind_to_host(plan: &Plan) -> Result<Vec<Option<OwnedFd>>, RuntimeError> {
    let hears = |(propagation, _): &(Propagation, bool)| {
        matches!(propagation, Propagation::Shared | Propagation::Slave)
    };
    let early = plan.mounts.iter().map(|step| match step.what {
        What::Bind { .. } if step.propagation.iter().any(hears) => step.tree(),
        What::Bind { .. } | What::Fs { .. } | What::Cgroup | What::Remount => Ok(None),
    });
    early.collect()
}

/// Makes the mount that the root is going to hang on private, in this namespace.
fn part_from_host(plan: &Plan) -> Result<(), RuntimeError> {
    let describe = || "make the mount below the root private".to_owned();
    for place in plan.rootfs.ancestors() {
        match mount_change(place, MountPropagationFlags::PRIVATE) {
            // Not a mount point: the next above.
            Err(Errno::INVAL) => {}
            other => return other.step(describe),
        }
    }
    Ok(())
}

// === mounts ===

fn apply(
    init: &Init<'_>,
    root: &Root,
    step: &MountStep,
    made: Option<&OwnedFd>,
) -> Result<(), RuntimeError> {
    if step.what == What::Cgroup {
        return init.cgroup.mount(root, step);
    }
    if step.what == What::Remount {
        let target = root.open_path(&step.target).step(|| step.describe())?;
        tree::adjust(target.as_fd(), step.own, Depth::One, None).step(|| step.describe())?;
        return tree::adjust(target.as_fd(), step.deep, Depth::Recursive, None)
            .step(|| step.describe());
    }
    let own;
    let tree = if let Some(made) = made {
        made
    } else {
        own = step.tree()?;
        let Some(tree) = &own else { return Ok(()) };
        tree
    };
    let target = tree::target(root, step, tree)?;
    tree::attach(tree.as_fd(), target.as_fd()).step(|| step.describe())?;
    step.propagate(tree.as_fd())
}

// === the new root ===

/// Makes the tree the root of the process and lets go of the old one.
///
/// Both roots at `.`, the new one below: no directory has to be made for the old one
/// (man 2 pivot_root, NOTES).
pub(crate) fn pivot(root: &Root) -> Result<(), RuntimeError> {
    let describe = || "change the root (pivot_root)".to_owned();
    let old = open_directory(Path::new("/")).step(describe)?;
    fchdir(root).step(describe)?;
    pivot_root(".", ".").step(describe)?;
    fchdir(&old).step(describe)?;
    // Whatever is still shared must not hear of the unmount.
    mount_change(
        ".",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .step(describe)?;
    unmount(".", UnmountFlags::DETACH).step(|| "let go of the host's root".to_owned())?;
    chdir("/").step(describe)
}

/// For a container that has no mount namespace: the root of the process changes, but the host's
/// mounts stay within reach of whoever may mount. [`crate::delete`] takes the tree away again.
pub(crate) fn confine(root: &Root) -> Result<(), RuntimeError> {
    let describe = || "change the root (chroot)".to_owned();
    fchdir(root).step(describe)?;
    chroot(".").step(describe)?;
    chdir("/").step(describe)
}

/// The last changes of the tree, when nothing of the host can be reached any more.
pub(crate) fn seal(plan: &Plan, root: &Root, null: BorrowedFd<'_>) -> Result<(), RuntimeError> {
    if let Some((propagation, recursive)) = plan.root_propagation {
        let depth = if recursive {
            Depth::Recursive
        } else {
            Depth::One
        };
        tree::adjust(root.as_fd(), Attrs::default(), depth, Some(propagation))
            .step(|| "set the propagation of the root".to_owned())?;
    }
    if plan.readonly_root {
        tree::adjust(root.as_fd(), READONLY, Depth::One, None)
            .step(|| "make the root read-only".to_owned())?;
    }
    for path in &plan.readonly {
        make_readonly(root, path).step(|| format!("make `{}` read-only", path.display()))?;
    }
    mask_all(root, &plan.masked, null)
}

pub(crate) const READONLY: Attrs = Attrs {
    set: MountAttrFlags::RDONLY,
    clear: MountAttrFlags::NONE,
};

fn make_readonly(root: &Root, path: &Path) -> io::Result<()> {
    let Some(target) = existing(root, path)? else {
        return Ok(());
    };
    let tree = tree::bind_fd(target.as_fd(), true)?;
    tree::adjust(tree.as_fd(), READONLY, Depth::Recursive, None)?;
    tree::attach(tree.as_fd(), target.as_fd())
}

/// Hides files behind the null device and directories behind one empty read-only file system.
fn mask_all(root: &Root, paths: &[PathBuf], null: BorrowedFd<'_>) -> Result<(), RuntimeError> {
    let mut files = tree::Stamp::new(null);
    let mut directories = Vec::new();
    for path in paths {
        let describe = || format!("mask `{}`", path.display());
        let Some(target) = existing(root, path).step(describe)? else {
            continue;
        };
        if tree::is_directory(&target).step(describe)? {
            directories.push((path, target));
        } else {
            files.press(target.as_fd()).step(describe)?;
        }
    }
    if directories.is_empty() {
        return Ok(());
    }
    let empty = empty_directory().step(|| "make an empty directory".to_owned())?;
    let mut empty = tree::Stamp::new(empty.as_fd());
    for (path, target) in &directories {
        empty
            .press(target.as_fd())
            .step(|| format!("mask `{}`", path.display()))?;
    }
    Ok(())
}

fn empty_directory() -> io::Result<OwnedFd> {
    let attrs = MountAttrFlags::RDONLY
        | MountAttrFlags::NOSUID
        | MountAttrFlags::NODEV
        | MountAttrFlags::NOEXEC;
    tree::filesystem("tmpfs", "tmpfs", &[], attrs).map_err(|(error, _)| error)
}

/// None if there is nothing: not every kernel has every file that is to be hidden.
pub(crate) fn existing(root: &Root, path: &Path) -> io::Result<Option<OwnedFd>> {
    match root.open_path(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
