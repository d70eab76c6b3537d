//! The root file system of a container that does not run, with its mounts, in a mount namespace of its own.
//!
//! Sources on the host are opened before anything of the container can be reached by a path; after that
//! the namespace has no other root than the container's. Places to mount on are held by descriptor.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use havre_api_traits::ApiResult;
use havre_sys::fsroot::Root;
use havre_sys::mount::{Depth, MountAttr, MountAttrFlags, mount_setattr};
use havre_sys::namespace::unshare;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, chmodat, chownat, fstat, mkdirat, open, utimensat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    move_mount, open_tree, unmount,
};
use rustix::process::{fchdir, pivot_root};
use rustix::thread::UnshareFlags;

use super::{Purpose, View};
use crate::container::{Fixed, donor, root_mounts};
use crate::engine::Shared;
use crate::plan::{self, MountKind};

/// mount(2) copies one page of options.
const PAGE: usize = 4096;

/// What is put together.
#[derive(Debug)]
pub(super) struct Plan {
    purpose: Purpose,
    root: RootFs,
    /// A directory of the engine's to hang the root on.
    anchor: PathBuf,
    binds: Vec<Bind>,
    read_only: bool,
}

#[derive(Debug)]
enum RootFs {
    Overlay {
        /// Uppermost first, the container's own included.
        layers: Vec<PathBuf>,
        /// `upperdir` and `workdir`, as options want them.
        own: Vec<(String, String)>,
        /// `index=off` and the like.
        flags: Vec<(String, String)>,
    },
    Directory(PathBuf),
}

#[derive(Debug)]
struct Bind {
    source: PathBuf,
    destination: PathBuf,
    recursive: bool,
    read_only: bool,
}

impl Plan {
    pub(super) fn new(shared: &Shared, fixed: &Fixed, purpose: Purpose) -> ApiResult<Self> {
        let data = shared.places.data(&fixed.id);
        // One that is gone took its files along.
        let donor = donor(&shared.registry, fixed).ok().flatten();
        let files = donor.map_or_else(|| data.clone(), |donor| shared.places.data(&donor.id));
        let mut binds: Vec<Bind> = plan::engine_files(&files)
            .into_iter()
            .map(|(source, destination)| Bind {
                source,
                destination: destination.into(),
                recursive: false,
                read_only: false,
            })
            .collect();
        let mut user = plan::user_mounts(&fixed.host_config)?;
        user.sort_by_key(|mount| mount.destination.components().count());
        for mount in user {
            if let MountKind::Bind {
                source, recursive, ..
            } = mount.kind
            {
                binds.push(Bind {
                    source,
                    destination: mount.destination,
                    recursive,
                    read_only: mount.read_only,
                });
            }
        }
        let mounts = root_mounts(shared, fixed)?;
        let root = match mounts.last() {
            Some(mount) if mount.kind == "overlay" => overlay(&mount.source, &mount.options),
            Some(mount) => RootFs::Directory(mount.source.clone()),
            None => RootFs::Directory(PathBuf::new()),
        };
        Ok(Self {
            purpose,
            root,
            anchor: data,
            binds,
            read_only: fixed.host_config.readonly_rootfs,
        })
    }
}

fn overlay(source: &Path, options: &[String]) -> RootFs {
    let (mut own, mut flags) = (Vec::new(), Vec::new());
    for (key, value) in options.iter().filter_map(|option| option.split_once('=')) {
        match key {
            "upperdir" | "workdir" => own.push((key.to_owned(), value.to_owned())),
            "lowerdir" | "lowerdir+" => {}
            _ => flags.push((key.to_owned(), value.to_owned())),
        }
    }
    RootFs::Overlay {
        layers: plan::layers_of(source, options),
        own,
        flags,
    }
}

/// Puts it together, in a thread that does nothing else.
pub(super) fn build(plan: &Plan) -> io::Result<View> {
    unshare(UnshareFlags::FS | UnshareFlags::NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = open("/proc/thread-self/ns/mnt", flags, Mode::empty())?;
    let mut sources = Vec::new();
    for bind in &plan.binds {
        match open_tree(CWD, &bind.source, clone_flags(bind.recursive)) {
            Ok(tree) => sources.push((bind, tree)),
            // A start would make it, or refuse.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let root = root(plan)?;
    change_root(&root)?;
    let root = Root::from_fd(root);
    for (bind, tree) in &sources {
        hang(&root, bind, tree)?;
    }
    if plan.read_only && plan.purpose == Purpose::Write {
        make_read_only(root.as_fd(), Depth::One)?;
    }
    Ok(View { root, namespace })
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

/// Mounts the root file system somewhere in the namespace.
fn root(plan: &Plan) -> io::Result<OwnedFd> {
    match &plan.root {
        RootFs::Directory(path) => {
            let tree = open_tree(CWD, path, clone_flags(false))?;
            attach(&tree, &plan.anchor)?;
            Ok(tree)
        }
        RootFs::Overlay { layers, own, flags } if plan.purpose == Purpose::Write => {
            // The first layer is the upper one.
            let lowers = layers.get(1..).unwrap_or_default();
            mount_overlay(lowers, own, flags, &plan.anchor)
        }
        RootFs::Overlay { layers, flags, .. } => {
            let own = throw_away(layers.first(), &plan.anchor)?;
            mount_overlay(layers, &own, flags, &plan.anchor.join("root"))
        }
    }
}

/// A small file system in memory over `anchor`, with an empty upper layer that looks like the container's
/// own, and a place to hang the root on.
fn throw_away(like: Option<&PathBuf>, anchor: &Path) -> io::Result<Vec<(String, String)>> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", "1m")?;
    fsconfig_create(&context)?;
    let tmpfs = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        rustix::mount::MountAttrFlags::empty(),
    )?;
    let like = like.map(rustix::fs::stat).transpose()?;
    for name in ["upper", "work", "root"] {
        mkdirat(&tmpfs, name, Mode::from_raw_mode(0o755))?;
    }
    if let Some(like) = like {
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(like.st_uid),
            rustix::fs::Gid::from_raw(like.st_gid),
        );
        chownat(&tmpfs, "upper", Some(uid), Some(gid), AtFlags::empty())?;
        let mode = Mode::from_raw_mode(like.st_mode & 0o7777);
        chmodat(&tmpfs, "upper", mode, AtFlags::empty())?;
        let time = rustix::fs::Timespec {
            tv_sec: like.st_mtime,
            tv_nsec: like.st_mtime_nsec.try_into().unwrap_or(0),
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(&tmpfs, "upper", &times, AtFlags::empty())?;
    }
    attach(&tmpfs, anchor)?;
    let option = |key: &str, name: &str| {
        let path = anchor.join(name).display().to_string();
        (key.to_owned(), path.replace('\\', "\\\\"))
    };
    Ok(vec![option("upperdir", "upper"), option("workdir", "work")])
}

fn mount_overlay(
    lowers: &[PathBuf],
    own: &[(String, String)],
    flags: &[(String, String)],
    place: &Path,
) -> io::Result<OwnedFd> {
    let made = || -> io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in lowers {
            // One by one: each string may have 255 bytes only (Linux 6.5).
            fsconfig_set_string(&context, "lowerdir+", lower)?;
        }
        for (key, value) in own.iter().chain(flags) {
            fsconfig_set_string(&context, key.as_str(), value.as_str())?;
        }
        fsconfig_create(&context)?;
        let inert = rustix::mount::MountAttrFlags::MOUNT_ATTR_NODEV
            | rustix::mount::MountAttrFlags::MOUNT_ATTR_NOSUID
            | rustix::mount::MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, inert)?)
    };
    match made() {
        Ok(tree) => {
            attach(&tree, place)?;
            Ok(tree)
        }
        // An older kernel takes the layers as one string only.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            legacy_overlay(lowers, own, flags, place)
        }
        Err(error) => Err(error),
    }
}

fn legacy_overlay(
    lowers: &[PathBuf],
    own: &[(String, String)],
    flags: &[(String, String)],
    place: &Path,
) -> io::Result<OwnedFd> {
    let escaped = |path: &PathBuf| {
        let text = path.display().to_string();
        text.replace('\\', "\\\\").replace(':', "\\:")
    };
    let lowers: Vec<String> = lowers.iter().map(escaped).collect();
    let mut options = vec![format!("lowerdir={}", lowers.join(":"))];
    options.extend(
        own.iter()
            .chain(flags)
            .map(|(key, value)| format!("{key}={value}")),
    );
    let data = CString::new(options.join(","))?;
    // A longer list would be cut off, not refused.
    if data.as_bytes_with_nul().len() > PAGE {
        return Err(Errno::TOOBIG.into());
    }
    let inert = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("overlay", place, "overlay", inert, data.as_c_str())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(place, flags, Mode::empty())?)
}

fn attach(tree: &OwnedFd, place: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree, c"", CWD, place, flags)?)
}

/// Makes the mount the root of the namespace and lets go of all of the host's (man 2 pivot_root, NOTES).
fn change_root(root: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = open("/", flags, Mode::empty())?;
    fchdir(root)?;
    pivot_root(".", ".")?;
    fchdir(&old)?;
    Ok(unmount(".", UnmountFlags::DETACH)?)
}

fn hang(root: &Root, bind: &Bind, tree: &OwnedFd) -> io::Result<()> {
    let is_dir = FileType::from_raw_mode(fstat(tree)?.st_mode) == FileType::Directory;
    let mode = Mode::from_raw_mode(0o755);
    let target = if is_dir {
        root.mkdir_all(&bind.destination, mode)?
    } else {
        root.ensure_file(&bind.destination, mode)?
    };
    if bind.read_only {
        make_read_only(tree.as_fd(), Depth::Recursive)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", &target, c"", flags)?)
}

fn make_read_only(mount: BorrowedFd<'_>, depth: Depth) -> io::Result<()> {
    let attr = MountAttr {
        set: MountAttrFlags::RDONLY,
        ..MountAttr::default()
    };
    mount_setattr(mount, c"", depth, &attr)
}
