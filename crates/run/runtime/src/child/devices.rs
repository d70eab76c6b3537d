//! Device nodes and links of the container's `/dev`.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use havre_sys::fsroot::Root;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chownat, fstat, makedev, mknodat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{RuntimeError, Step as _};
use crate::plan::DeviceNode;
use crate::tree;

/// <https://github.com/opencontainers/runtime-spec/blob/main/runtime-linux.md#dev-symbolic-links>
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

const DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// Makes them all. `prepared` holds the host's nodes for a container that may not make its own.
pub(crate) fn make(
    root: &Root,
    nodes: &[DeviceNode],
    prepared: &[Option<OwnedFd>],
) -> Result<(), RuntimeError> {
    // One descriptor for the directory: a link in the image is followed once, inside the root.
    let dev = root
        .mkdir_all(Path::new("/dev"), DIR_MODE)
        .step(|| "open /dev".to_owned())?;
    for (index, node) in nodes.iter().enumerate() {
        let host = prepared.get(index).and_then(Option::as_ref);
        make_node(root, &dev, node, host)
            .step(|| format!("make the device `{}`", node.path.display()))?;
    }
    for (target, name) in LINKS {
        link(&dev, target, name).step(|| format!("make the link `/dev/{name}`"))?;
    }
    // What an image brings along is not the terminal multiplexer of this container.
    match unlinkat(&dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error).step(|| "remove `/dev/ptmx`".to_owned()),
    }
    symlinkat("pts/ptmx", &dev, "ptmx").step(|| "make the link `/dev/ptmx`".to_owned())
}

fn link(dev: &OwnedFd, target: &str, name: &str) -> io::Result<()> {
    match symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn make_node(
    root: &Root,
    dev: &OwnedFd,
    node: &DeviceNode,
    host: Option<&OwnedFd>,
) -> io::Result<()> {
    let plain = node
        .path
        .strip_prefix("/dev")
        .ok()
        .filter(|rest| rest.components().count() == 1);
    if let Some(host) = host {
        let target = root.ensure_file(&node.path, Mode::from_raw_mode(0o644))?;
        return tree::attach(host.as_fd(), target.as_fd());
    }
    if let Some(name) = plain {
        return node_at(dev.as_fd(), name, node);
    }
    let parent = node.path.parent().unwrap_or(Path::new("/"));
    let dir = root.mkdir_all(parent, DIR_MODE)?;
    let Some(name) = node.path.file_name() else {
        return Err(Errno::INVAL.into());
    };
    node_at(dir.as_fd(), Path::new(name), node)
}

fn node_at(dir: BorrowedFd<'_>, name: &Path, node: &DeviceNode) -> io::Result<()> {
    let number = makedev(node.major, node.minor);
    let mode = Mode::from_raw_mode(node.mode);
    match mknodat(dir, name, node.kind, mode, number) {
        Err(Errno::EXIST) => {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = FileType::from_raw_mode(stat.st_mode) == node.kind
                && (node.kind == FileType::Fifo || stat.st_rdev == number);
            if same {
                return Ok(());
            }
            // A file of the image where the specification wants a device.
            unlinkat(dir, name, AtFlags::empty())?;
            mknodat(dir, name, node.kind, mode, number)?;
        }
        other => other?,
    }
    if (node.uid, node.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// True if the descriptor is a character device of this major number.
pub(crate) fn is_character_device(
    fd: BorrowedFd<'_>,
    majors: std::ops::RangeInclusive<u32>,
) -> io::Result<bool> {
    let stat = fstat(fd)?;
    Ok(
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && majors.contains(&rustix::fs::major(stat.st_rdev)),
    )
}
