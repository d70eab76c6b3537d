//! Trees to archives: a whole tree as it shows, the changes in an overlayfs upper directory, or the
//! difference of two trees. The tree may change meanwhile and may have been made by a stranger: links
//! are never followed, nothing but regular files is opened for reading, and no more is read of a file
//! than it had when it was opened.

mod compare;
mod node;
mod path;
mod walk;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use havre_sys::fsroot::Root;

use crate::error::ExportError;
use crate::export::node::Sink;
use crate::stack::Stack;
use crate::writer::TarWriter;

/// Precision of modification times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// As Docker does: whole seconds, which need no PAX record.
    Seconds,
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    pub times: Times,
    /// Deepest directory.
    pub depth: usize,
    /// A file with at least this many bytes of holes is written as a sparse one.
    pub sparse_from: u64,
    /// Paths of changes that are left out with all below them.
    pub omit: BTreeSet<PathBuf>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            times: Times::Seconds,
            depth: 1024,
            sparse_from: 16 << 20,
            omit: BTreeSet::new(),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    pub entries: u64,
    /// Of the archive.
    pub size: u64,
}

/// What happened to a path, as `docker diff` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

/// One path that differs, relative to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: PathBuf,
    pub kind: ChangeKind,
}

/// Writes all that shows in `tree`, without the root directory itself; sockets are left out.
pub fn export_tree<W: Write>(
    tree: &Stack,
    sink: W,
    options: &ExportOptions,
) -> Result<(W, Exported), ExportError> {
    let root = tree.root().map_err(|source| ExportError::Read {
        name: "/".to_owned(),
        source,
    })?;
    let mut sink = Sink::new(TarWriter::new(sink), options);
    walk::tree(root, &mut sink)?;
    sink.finish()
}

/// Writes the changes in an overlayfs upper directory as a layer: its whiteouts and opaque
/// directories become those of the image format.
pub fn export_changes<W: Write>(
    upper: &Root,
    sink: W,
    options: &ExportOptions,
) -> Result<(W, Exported), ExportError> {
    let mut sink = Sink::new(TarWriter::new(sink), options);
    walk::changes(upper.as_fd(), &mut sink)?;
    sink.finish()
}

/// Writes what turns `base` into `new` as a layer.
pub fn export_diff<W: Write>(
    base: &Stack,
    new: &Stack,
    sink: W,
    options: &ExportOptions,
) -> Result<(W, Exported), ExportError> {
    let mut sink = Sink::new(TarWriter::new(sink), options);
    let like = compare::Like {
        depth: options.depth,
        omit: &options.omit,
        directory_times: true,
    };
    compare::diff(base, new, like, &mut |difference| {
        sink.difference(&difference)
    })?;
    sink.finish()
}

/// Writes the file or directory at `base` in `dir`, with all below it, as it shows through the mounts,
/// under `name` instead of its own. File systems that the kernel makes up (`/proc`, `/sys`) show as
/// empty directories.
pub fn export_path<W: Write>(
    dir: BorrowedFd<'_>,
    base: &OsStr,
    name: &Path,
    sink: W,
    options: &ExportOptions,
) -> Result<(W, Exported), ExportError> {
    let mut sink = Sink::new(TarWriter::new(sink), options);
    path::write(dir, base, name, &mut sink)?;
    sink.finish()
}

pub use path::is_virtual;

/// Lists what differs between two trees, sorted by path; a directory in which something differs is
/// listed as modified, one with another time only is not. Paths in `omit`, and all below them, are
/// left out.
pub fn changes(
    base: &Stack,
    new: &Stack,
    omit: &BTreeSet<PathBuf>,
) -> Result<Vec<Change>, ExportError> {
    let mut found = Vec::new();
    let like = compare::Like {
        depth: ExportOptions::default().depth,
        omit,
        directory_times: false,
    };
    compare::diff(base, new, like, &mut |difference| {
        found.push(difference.change());
        Ok(())
    })?;
    Ok(compare::with_parents(found))
}
