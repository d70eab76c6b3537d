//! Mounts that hang nowhere yet: made by the mount API of the kernel, known by descriptor only.
//!
//! A tree that is never attached vanishes with its descriptor, so a container that fails half
//! way leaves nothing behind on the host. Targets are descriptors too: what a concurrent rename
//! does to their names cannot move a mount elsewhere (CVE-2021-30465).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use havre_sys::fsroot::Root;
use havre_sys::mount::{Depth, MountAttr, MountAttrFlags, Propagation, mount_setattr};
use havre_sys::namespace;
use rustix::fs::{CWD, FileType, Mode, OFlags, StatFs, fstat, fstatfs};
use rustix::mount as api;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::thread::LinkNameSpaceType;

use crate::error::{RuntimeError, Step as _};
use crate::plan::mounts::{Attrs, lower_dirs};
use crate::plan::{MountStep, Param, What};

/// linux/magic.h
pub(crate) const PROC_MAGIC: i64 = 0x9fa0;
pub(crate) const DEVPTS_MAGIC: i64 = 0x1cd1;

/// A copy of the mount of a file or directory at a trusted path of the host.
pub(crate) fn bind(source: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(CWD, source, flags)?)
}

/// `/proc/PID/root/…`: the process and the path inside, for what lies in another mount namespace.
fn of_other_process(source: &Path) -> Option<(PathBuf, PathBuf)> {
    let rest = source.strip_prefix("/proc").ok()?;
    let mut parts = rest.components();
    let pid = parts.next()?.as_os_str();
    let number = !pid.is_empty() && pid.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let root = parts.next()?.as_os_str();
    let found = number && root == "root";
    found.then(|| (Path::new("/proc").join(pid), parts.as_path().to_owned()))
}

/// A copy of a mount of another process's namespace, found below its root. The kernel copies only mounts of the
/// namespace that one is in, so the caller, which must have one thread only, goes there and comes back.
fn bind_from(process: &Path, inside: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let open = |path: &Path, flags: OFlags| -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    };
    let own = open(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY)?;
    let theirs = open(&process.join("ns/mnt"), OFlags::RDONLY)?;
    let root = open(&process.join("root"), OFlags::PATH | OFlags::DIRECTORY)?;
    let source = Root::from_fd(root).open_path(inside)?;
    let kind = Some(LinkNameSpaceType::Mount);
    namespace::enter(theirs.as_fd(), kind)?;
    let tree = bind_fd(source.as_fd(), recursive);
    namespace::enter(own.as_fd(), kind)?;
    tree
}

/// A copy of the mount that the descriptor is in, rooted at what it refers to.
pub(crate) fn bind_fd(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(fd, c"", flags)?)
}

/// A new instance of a file system.
pub(crate) fn filesystem(
    fstype: &str,
    source: &str,
    params: &[Param],
    attrs: MountAttrFlags,
) -> Result<OwnedFd, (io::Error, String)> {
    let context =
        fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| (e.into(), String::new()))?;
    configure(&context, fstype, source, params, attrs).map_err(|error| (error, complaint(&context)))
}

fn configure(
    context: &OwnedFd,
    fstype: &str,
    source: &str,
    params: &[Param],
    attrs: MountAttrFlags,
) -> io::Result<OwnedFd> {
    if !source.is_empty() {
        fsconfig_set_string(context, "source", source)?;
    }
    for param in params {
        match param {
            Param::Flag(name) => fsconfig_set_flag(context, name.as_str())?,
            Param::Value(key, value) if fstype == "overlay" && key == "lowerdir" => {
                // One by one, because the list as a whole may pass the limit of one page and
                // each string of fsconfig that of 255 bytes (Linux 6.5).
                for lower in lower_dirs(value) {
                    fsconfig_set_string(context, "lowerdir+", lower.as_str())?;
                }
            }
            Param::Value(key, value) => fsconfig_set_string(context, key.as_str(), value.as_str())?,
        }
    }
    fsconfig_create(context)?;
    let bits = u32::try_from(attrs.bits()).map_err(io::Error::other)?;
    let attrs = api::MountAttrFlags::from_bits_retain(bits);
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attrs)?)
}

/// What the file system itself says about the failure (man 7 fsopen: messages are read).
fn complaint(context: &OwnedFd) -> String {
    let mut buffer = [0; 256];
    match rustix::io::read(context, &mut buffer) {
        Ok(count) => {
            let text =
                String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned();
            format!(" ({})", text.trim_start_matches("e ").trim_end())
        }
        Err(_nothing_said) => String::new(),
    }
}

/// Changes attributes and propagation of a tree.
pub(crate) fn adjust(
    tree: BorrowedFd<'_>,
    attrs: Attrs,
    depth: Depth,
    propagation: Option<Propagation>,
) -> io::Result<()> {
    if attrs.is_empty() && propagation.is_none() {
        return Ok(());
    }
    let attr = MountAttr {
        set: attrs.set,
        clear: attrs.clear,
        propagation,
        idmap: None,
    };
    mount_setattr(tree, c"", depth, &attr)
}

/// Hangs a tree on a target.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", target, c"", flags)?)
}

impl MountStep {
    /// Makes the tree of this step, with all of its attributes but propagation, which counts
    /// from where it hangs. None for a step that has no tree of its own kind.
    pub(crate) fn tree(&self) -> Result<Option<OwnedFd>, RuntimeError> {
        let tree = match &self.what {
            What::Bind { source, recursive } => {
                let made = match of_other_process(source) {
                    Some((process, inside)) => bind_from(&process, &inside, *recursive),
                    None => bind(source, *recursive),
                };
                let tree = made.step(|| self.describe())?;
                adjust(tree.as_fd(), self.own, Depth::One, None).step(|| self.describe())?;
                tree
            }
            What::Fs {
                fstype,
                source,
                params,
            } => filesystem(fstype, source, params, self.own.set).map_err(|(source, text)| {
                RuntimeError::Step {
                    what: format!("{}{text}", self.describe()),
                    source,
                }
            })?,
            What::Cgroup | What::Remount => return Ok(None),
        };
        adjust(tree.as_fd(), self.deep, Depth::Recursive, None).step(|| self.describe())?;
        Ok(Some(tree))
    }

    pub(crate) fn propagate(&self, tree: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        for (propagation, recursive) in &self.propagation {
            let depth = if *recursive {
                Depth::Recursive
            } else {
                Depth::One
            };
            adjust(tree, Attrs::default(), depth, Some(*propagation)).step(|| self.describe())?;
        }
        Ok(())
    }
}

/// Paths below `/proc` that may be covered by something that is not proc: what LXCFS and
/// container engines put there. Anything else could make a write of ours, or a check of the
/// container's own tools, land on a chosen file (CVE-2019-16884, CVE-2023-27561).
const PROC_COVERS: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Finds or makes the place to hang a tree on.
pub(crate) fn target(
    root: &Root,
    step: &MountStep,
    tree: &OwnedFd,
) -> Result<OwnedFd, RuntimeError> {
    let fstype = match &step.what {
        What::Fs { fstype, .. } => fstype.as_str(),
        What::Bind { .. } | What::Cgroup | What::Remount => "",
    };
    let describe = || step.describe();
    let virtual_fs = matches!(fstype, "proc" | "sysfs");
    if virtual_fs {
        refuse_odd_directory(root, step)?;
    }
    let is_dir = is_directory(tree).step(describe)?;
    let target = if is_dir {
        root.mkdir_all(&step.target, Mode::from_raw_mode(0o755))
    } else {
        root.ensure_file(&step.target, Mode::from_raw_mode(0o755))
    };
    let target = target.step(describe)?;
    if virtual_fs {
        return Ok(target);
    }
    // Judged by where the path led, not by how it is written, and for `/proc` itself by both:
    // proc may not be mounted there yet.
    let over_proc = is_proc(&target).step(describe)? || step.target.starts_with("/proc");
    let allowed = PROC_COVERS
        .iter()
        .any(|cover| step.target == Path::new(cover));
    if over_proc && !allowed && !is_proc(tree).step(describe)? {
        let reason = format!(
            "`{}` cannot be mounted because it is inside /proc",
            step.target.display()
        );
        return Err(RuntimeError::spec("mounts", reason));
    }
    Ok(target)
}

/// proc and sysfs go on an ordinary directory or a new one; a symbolic link in the image could
/// lead them to a place that the masks miss.
fn refuse_odd_directory(root: &Root, step: &MountStep) -> Result<(), RuntimeError> {
    match root.lstat(&step.target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).step(|| step.describe()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(()),
        Ok(_) => {
            let reason = format!(
                "`{}` must be an ordinary directory to be mounted on",
                step.target.display()
            );
            Err(RuntimeError::spec("mounts", reason))
        }
    }
}

pub(crate) fn is_directory(fd: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

pub(crate) fn is_proc(fd: &OwnedFd) -> io::Result<bool> {
    let status: StatFs = fstatfs(fd)?;
    Ok(status.f_type == PROC_MAGIC)
}

/// A mount of the host's null device, seen to be it (CVE-2025-31133).
pub(crate) fn dev_null() -> io::Result<OwnedFd> {
    let tree = bind(Path::new("/dev/null"), false)?;
    let stat = fstat(&tree)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        ) == (1, 3);
    if !is_null {
        return Err(io::Error::other(
            "/dev/null of the host is not the null device",
        ));
    }
    // It is the host's node: read-only, so that nobody inside changes its mode or owner.
    let set = MountAttrFlags::RDONLY | MountAttrFlags::NOSUID | MountAttrFlags::NOEXEC;
    adjust(
        tree.as_fd(),
        Attrs {
            set,
            clear: MountAttrFlags::NONE,
        },
        Depth::One,
        None,
    )?;
    Ok(tree)
}

/// A tree to hang in several places. The first takes the tree itself; the others copy it from
/// where it hangs, since a tree that hangs nowhere can only be copied since Linux 6.15.
#[derive(Debug)]
pub(crate) struct Stamp<'a> {
    tree: BorrowedFd<'a>,
    used: bool,
}

impl<'a> Stamp<'a> {
    pub(crate) const fn new(tree: BorrowedFd<'a>) -> Self {
        Self { tree, used: false }
    }

    pub(crate) fn press(&mut self, target: BorrowedFd<'_>) -> io::Result<()> {
        if self.used {
            return attach(bind_fd(self.tree, false)?.as_fd(), target);
        }
        self.used = true;
        attach(self.tree, target)
    }
}
