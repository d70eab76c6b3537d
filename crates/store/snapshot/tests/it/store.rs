//! A driver under test on a directory of its own, and layers to put into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_layer::{ApplyOptions, Entry, Fixups, Kind as EntryKind, TarWriter, apply};
use havre_meta::Meta;
use havre_snapshot::Snapshotter;

pub(crate) type Open<'a> = &'a dyn Fn(&Path, &Meta) -> Arc<dyn Snapshotter>;

/// A driver on a directory of its own, which can be closed and opened again.
pub(crate) struct Store<'a> {
    directory: tempfile::TempDir,
    open: Open<'a>,
    pub(crate) meta: Meta,
    pub(crate) snapshots: Arc<dyn Snapshotter>,
}

impl<'a> Store<'a> {
    pub(crate) fn new(open: Open<'a>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let meta = Meta::open(&directory.path().join("meta.db")).unwrap();
        let snapshots = open(&directory.path().join("snapshots"), &meta);
        Self {
            directory,
            open,
            meta,
            snapshots,
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("snapshots")
    }

    pub(crate) fn reopen(self) -> Self {
        let Self {
            directory,
            open,
            meta,
            snapshots,
        } = self;
        drop(snapshots);
        drop(meta);
        let meta = Meta::open(&directory.path().join("meta.db")).unwrap();
        let snapshots = open(&directory.path().join("snapshots"), &meta);
        Self {
            directory,
            open,
            meta,
            snapshots,
        }
    }

    /// Numbered directories; the trash is empty once the driver has been dropped.
    pub(crate) fn directories(&self) -> Vec<String> {
        let mut names: Vec<String> = fs_err::read_dir(self.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "trash")
            .collect();
        names.sort();
        names
    }

    /// Unpacks a layer into a detached snapshot.
    pub(crate) fn unpack(&self, key: &str, entries: &[(&str, &str)]) -> Fixups {
        let root = self.snapshots.prepare_detached(key).unwrap();
        let tar = layer(entries);
        apply(tar.as_slice(), &root, &ApplyOptions::layer())
            .unwrap()
            .fixups
    }

    /// Adds a committed layer.
    pub(crate) fn layer(&self, name: &str, parent: Option<&str>, entries: &[(&str, &str)]) {
        let key = format!("unpack-{name}");
        let fixups = self.unpack(&key, entries);
        self.snapshots
            .commit_chain(name, parent, &key, &fixups)
            .unwrap();
    }
}

/// An archive; names that end with a slash are directories, with their mode as content.
pub(crate) fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (name, content) in entries {
        let mut entry = Entry::new(*name, EntryKind::File, 0o644);
        if name.ends_with('/') {
            let mode = u32::from_str_radix(content, 8).unwrap();
            entry = Entry::new(*name, EntryKind::Directory, mode);
        } else if let Some(target) = content.strip_prefix("=> ") {
            entry.kind = EntryKind::HardLink {
                target: target.into(),
            };
        } else {
            entry.size = content.len() as u64;
        }
        writer.append_bytes(&entry, content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}
