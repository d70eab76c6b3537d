//! Seeing a snapshot as a container would, without attaching a mount anywhere: overlayfs is mounted
//! on a descriptor only.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use havre_snapshot::{Mount, Snapshotter};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

/// A mounted snapshot; `path` leads into it while this lives.
pub(crate) struct Mounted {
    fd: OwnedFd,
    pub(crate) writable: bool,
}

impl Mounted {
    pub(crate) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    pub(crate) fn read(&self, name: &str) -> Option<String> {
        fs_err::read_to_string(self.path().join(name)).ok()
    }

    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let mut names: Vec<String> = fs_err::read_dir(self.path().join(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn mount(snapshots: &dyn Snapshotter, key: &str) -> Mounted {
    let mounts = snapshots.mounts(key).unwrap();
    let [mount] = mounts.as_slice() else {
        panic!("{mounts:?}")
    };
    let has = |option: &str| mount.options.iter().any(|found| found == option);
    match mount.fstype.as_str() {
        "bind" => {
            assert!(has("rbind") && (has("ro") || has("rw")), "{mount:?}");
            let fd = fs_err::File::open(&mount.source)
                .unwrap()
                .into_parts()
                .0
                .into();
            Mounted {
                fd,
                writable: has("rw"),
            }
        }
        "overlay" => Mounted {
            fd: overlay(mount),
            writable: mount.options[1].starts_with("upperdir="),
        },
        other => panic!("{other}"),
    }
}

fn overlay(mount: &Mount) -> OwnedFd {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for option in &mount.options {
        let (key, value) = option.split_once('=').unwrap();
        if key == "lowerdir" {
            for lower in value.split(':') {
                fsconfig_set_string(context.as_fd(), "lowerdir+", lower).unwrap();
            }
        } else {
            fsconfig_set_string(context.as_fd(), key, value).unwrap();
        }
    }
    fsconfig_create(context.as_fd()).unwrap();
    let attributes = MountAttrFlags::empty();
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap();
    // The mount's own descriptor is a mere reference; reading needs an open directory.
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(&mount, ".", flags, Mode::empty()).unwrap()
}
