//! Trees to archives: a whole tree as it shows, the changes in an overlayfs upper directory, or the
//! difference of two trees. The tree may change meanwhile and may have been made by a stranger: links
//! are never followed, nothing but regular files is opened for reading, and no more is read of a file
//! than it had when it was opened.

mod compare;
mod node;
mod walk;

use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

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
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            times: Times::Seconds,
            depth: 1024,
            sparse_from: 16 << 20,
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
    compare::diff(base, new, options.depth, &mut |difference| {
        sink.difference(&difference)
    })?;
    sink.finish()
}

/// Lists what differs between two trees, sorted by path; a directory in which something differs is
/// listed as modified.
pub fn changes(base: &Stack, new: &Stack) -> Result<Vec<Change>, ExportError> {
    let mut found = Vec::new();
    let depth = ExportOptions::default().depth;
    compare::diff(base, new, depth, &mut |difference| {
        found.push(difference.change());
        Ok(())
    })?;
    Ok(compare::with_parents(found))
}
