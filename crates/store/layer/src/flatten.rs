//! A merged tree written out as one: what the copy driver makes of a layer and its parents. The
//! sources are never changed; files are shared with them where the file system can.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use havre_sys::fsroot::Root;
use rustix::fs::{AtFlags, Mode, Stat, fstat, linkat, mkdirat};

use crate::fixup::{copy_metadata, copy_node};
use crate::stack::{Child, Level, Stack, open_dir};

/// Deepest directory that is copied.
const DEPTH: usize = 2048;

struct Frame {
    from: Level,
    to: OwnedFd,
    path: PathBuf,
    names: Vec<OsString>,
    stat: Stat,
}

/// Copies all that shows in `tree` into `target`, which is empty, and gives it the root's metadata.
pub fn flatten(tree: &Stack, target: &Root) -> io::Result<()> {
    let root = tree.root()?;
    let Some(top) = root.top() else { return Ok(()) };
    let stat = fstat(top)?;
    let to = open_dir(target.as_fd(), OsString::from(".").as_os_str())?;
    let mut frames = vec![Frame::new(root, to, PathBuf::new(), stat)?];
    // First copies of inodes that have several names.
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    while let Some(frame) = frames.last_mut() {
        let Some(name) = frame.names.pop() else {
            // Last, because what was made in the directory changed its times.
            if let Some(top) = frame.from.top() {
                copy_metadata(top, &frame.stat, &frame.to)?;
            }
            frames.pop();
            continue;
        };
        let path = frame.path.join(&name);
        match frame.from.child(&name)? {
            None => {}
            Some(Child::Directory(level, stat)) => {
                mkdirat(&frame.to, &name, Mode::from_raw_mode(0o700))?;
                let to = open_dir(frame.to.as_fd(), &name)?;
                frames.push(Frame::new(level, to, path, stat)?);
                if frames.len() > DEPTH {
                    return Err(io::ErrorKind::InvalidFilename.into());
                }
            }
            Some(Child::Other { dir, stat }) => {
                let Some(from) = frame.from.dir(dir) else {
                    continue;
                };
                let inode = (stat.st_dev, stat.st_ino);
                if let Some(first) = links.get(&inode) {
                    let (dir, existing) = target.parent(first)?;
                    linkat(&dir, &existing, &frame.to, &name, AtFlags::empty())?;
                    continue;
                }
                copy_node(from, &name, &stat, frame.to.as_fd(), &name)?;
                if stat.st_nlink > 1 {
                    links.insert(inode, path);
                }
            }
        }
    }
    Ok(())
}

impl Frame {
    fn new(from: Level, to: OwnedFd, path: PathBuf, stat: Stat) -> io::Result<Self> {
        let mut names = from.names()?;
        names.reverse();
        Ok(Self {
            from,
            to,
            path,
            names,
            stat,
        })
    }
}
