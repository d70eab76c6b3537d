//! Whiteouts of the image format: `.wh.name` hides a name of the layers below, `.wh..wh..opq` all of
//! a directory. What the same archive puts there stays, wherever in the archive it stands.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use havre_sys::fsroot::remove_tree;
use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use crate::apply::Whiteouts;
use crate::apply::unpack::Unpacker;
use crate::error::EntryProblem;
use crate::overlay;
use crate::stack::{open_dir, read_dir};

const PREFIX: &[u8] = b".wh.";
/// Other names that begin so are AUFS's own records; Docker skips them too.
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

type Outcome = io::Result<Result<(), EntryProblem>>;

impl Unpacker<'_> {
    /// Deals with the entry if its name is a whiteout's; `None` if it is an ordinary one.
    pub(super) fn whiteout(&mut self, parents: &[&OsStr], name: &OsStr) -> Option<Outcome> {
        if parents
            .first()
            .is_some_and(|first| first.as_bytes().starts_with(META))
        {
            return Some(Ok(Ok(())));
        }
        let hidden = name.as_bytes().strip_prefix(PREFIX)?;
        if name.as_bytes() == OPAQUE {
            return Some(self.opaque(parents).map(Ok));
        }
        if name.as_bytes().starts_with(META) {
            return Some(Ok(Ok(())));
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Some(Ok(Err(EntryProblem::Whiteout)));
        }
        Some(self.hide(parents, OsStr::from_bytes(hidden)).map(Ok))
    }

    fn hide(&mut self, parents: &[&OsStr], name: &OsStr) -> io::Result<()> {
        // The directory is made even where there is nothing to hide in it, as others do.
        let reached = self.dirs.make(parents)?;
        if self.options.whiteouts == Whiteouts::Remove {
            let path: PathBuf = parents.iter().chain([&name]).collect();
            let removed = remove_foreign(reached.fd(), name, &path, &self.own)?;
            self.settle(removed);
            return Ok(());
        }
        let dir = reached.fd();
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Ok(overlay::set_opaque(open_dir(dir, name)?)?)
            }
            // A file hides what is below by itself.
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => Ok(overlay::make_whiteout(dir, name)?),
            Err(errno) => Err(errno.into()),
        }
    }

    fn opaque(&mut self, parents: &[&OsStr]) -> io::Result<()> {
        if self.options.whiteouts != Whiteouts::Remove {
            return Ok(overlay::set_opaque(self.dirs.make(parents)?.fd())?);
        }
        let mut removed = false;
        let reached = self.dirs.make(parents)?;
        let above: PathBuf = parents.iter().collect();
        for (name, _) in read_dir(reached.fd())? {
            removed |= remove_foreign(reached.fd(), &name, &above.join(&name), &self.own)?;
        }
        self.settle(removed);
        Ok(())
    }
}

/// Removes `name` and what is in it, but nothing of this archive's own; whether a directory went.
/// `own` bounds the recursion: only directories on the way to own entries are descended into.
fn remove_foreign(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    own: &std::collections::HashSet<PathBuf>,
) -> io::Result<bool> {
    if !own.contains(path) {
        remove_tree(dir, name)?;
        return Ok(true);
    }
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            use std::os::fd::AsFd as _;
            let inner = open_dir(dir, name)?;
            let mut removed = false;
            for (child, _) in read_dir(inner.as_fd())? {
                removed |= remove_foreign(inner.as_fd(), &child, &path.join(&child), own)?;
            }
            Ok(removed)
        }
        Ok(_) | Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
