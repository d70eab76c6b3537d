//! Unpacking one layer into a directory, in one pass: decompress, hash and write at the same time.
//! Every name goes through a descriptor of a directory inside the root; nothing is ever opened,
//! changed or linked by a path from the archive that the kernel could take outside.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md>

mod create;
mod dirs;
mod path;
mod unpack;
mod whiteout;

use std::io::{BufRead as _, Read};
use std::os::fd::AsFd as _;

use havre_sys::fsroot::Root;
use havre_types::DiffId;

use crate::apply::unpack::Unpacker;
use crate::error::{ApplyError, TarError};
use crate::fixup::Fixups;
use crate::pipe;
use crate::reader::TarReader;

/// What becomes of `.wh.` entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// Marks that overlayfs understands, for a layer in a directory of its own.
    Overlay,
    /// The names are removed: the directory already holds the parents.
    Remove,
    /// They are files like all others, as in an archive that is no layer.
    Ordinary,
}

/// Bounds of what is believed of an archive. A limit itself is still allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub entries: u64,
    pub path: usize,
    pub depth: usize,
    /// Of the uncompressed archive.
    pub size: u64,
    /// Of one file, holes of a sparse one included.
    pub file: u64,
    /// Uncompressed to compressed bytes, once `ratio_from` bytes are out.
    pub ratio: u64,
    pub ratio_from: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            path: 4096,
            depth: 1024,
            size: 64 << 30,
            file: 1 << 40,
            ratio: 1000,
            ratio_from: 100 << 20,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyOptions {
    pub whiteouts: Whiteouts,
    pub limits: Limits,
    /// Whether a hard link to a file that is not there may wait for the parents
    /// ([`Applied::fixups`]) or is an error.
    pub defer_links: bool,
    /// What is there already.
    pub existing: Existing,
    /// The owner of everything, whatever the archive says.
    pub owner: Option<(u32, u32)>,
    /// What the names of all entries begin with, and what they are to begin with.
    pub rename: Option<(Vec<u8>, Vec<u8>)>,
}

/// What an archive may do to what its directory held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// An entry replaces whatever has its name, and one for the root changes the root.
    Replace,
    /// As `Replace`, but the root keeps its owner, mode and times.
    ReplaceBelow,
    /// As `ReplaceBelow`, but no directory is replaced by something else, nor the other way round.
    KeepKinds,
}

impl ApplyOptions {
    /// For a layer in a directory of its own, to be completed by [`crate::fix_up`].
    #[must_use]
    pub fn layer() -> Self {
        Self {
            whiteouts: Whiteouts::Overlay,
            limits: Limits::default(),
            defer_links: true,
            existing: Existing::Replace,
            owner: None,
            rename: None,
        }
    }

    /// For a layer on top of its parents in one tree.
    #[must_use]
    pub fn on_parents() -> Self {
        Self {
            whiteouts: Whiteouts::Remove,
            limits: Limits::default(),
            defer_links: false,
            existing: Existing::Replace,
            owner: None,
            rename: None,
        }
    }

    /// For an archive that is unpacked where there are files already.
    #[must_use]
    pub fn onto(existing: Existing, owner: Option<(u32, u32)>) -> Self {
        Self {
            existing,
            owner,
            ..Self::archive()
        }
    }

    /// For an archive that is no layer.
    #[must_use]
    pub fn archive() -> Self {
        Self {
            whiteouts: Whiteouts::Ordinary,
            limits: Limits::default(),
            defer_links: false,
            existing: Existing::Replace,
            owner: None,
            rename: None,
        }
    }
}

/// What an archive was, and what is left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Of the uncompressed archive, to its last byte.
    pub diff_id: DiffId,
    /// Bytes of the uncompressed archive.
    pub size: u64,
    /// Bytes of the regular files' content, holes included.
    pub content: u64,
    pub entries: u64,
    pub fixups: Fixups,
    /// Extended attributes that were left out, as `path: name`: those that steer overlayfs, and
    /// those the file system does not support. At most a hundred are kept.
    pub skipped_xattrs: Vec<String>,
}

/// Unpacks `source`, compressed or not, into `root`. Nothing is synced: whoever records the layer
/// does that first. On an error the directory holds some part of the layer, and nothing is touched
/// outside of it in any case.
pub fn apply<R: Read + Send>(
    source: R,
    root: &Root,
    options: &ApplyOptions,
) -> Result<Applied, ApplyError> {
    let (unpacked, summary) = pipe::run(source, &options.limits, |chunks| {
        let mut reader = TarReader::new(chunks);
        let mut unpacker = Unpacker::new(root.as_fd(), options)?;
        unpacker.all(&mut reader)?;
        let offset = reader.offset();
        let unpacked = unpacker.finish()?;
        // Padding after the end mark belongs to the digest.
        let chunks = reader.into_inner();
        loop {
            let read = |source| TarError::Read { offset, source };
            let length = chunks.fill_buf().map_err(read)?.len();
            if length == 0 {
                return Ok(unpacked);
            }
            chunks.consume(length);
        }
    })?;
    Ok(Applied {
        diff_id: DiffId(summary.digest),
        size: summary.size,
        content: unpacked.content,
        entries: unpacked.entries,
        fixups: unpacked.fixups,
        skipped_xattrs: unpacked.skipped_xattrs,
    })
}

/// Unpacks `source`, compressed or not, into a directory in which others may be at work. As [`apply`],
/// but nothing is hashed and no thread is started, and what follows the archive's end is not read.
/// The number of its entries.
pub fn extract<R: Read>(source: R, root: &Root, options: &ApplyOptions) -> Result<u64, ApplyError> {
    let mut reader = TarReader::new(pipe::Limited::new(source, &options.limits)?);
    let mut unpacker = Unpacker::new(root.as_fd(), options)?;
    let unpacked = unpacker
        .all(&mut reader)
        .and_then(|()| unpacker.finish().map(|unpacked| unpacked.entries));
    // A limit or a broken stream is the cause, whatever the unpacker made of the early end.
    reader.into_inner().verdict()?;
    unpacked
}
