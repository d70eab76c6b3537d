//! Snapshots: the trees that layers make and containers write to. The trait, a driver on overlayfs
//! and one that copies. A committed snapshot must never change again, and none may be removed while
//! another lies on it.

mod copy;
mod error;
mod overlay;
mod state;
mod trash;
mod usage;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use havre_layer::{Fixups, Stack};
use havre_meta::Pending;
use havre_sys::fsroot::Root;
use havre_types::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::copy::CopyDriver;
pub use crate::error::SnapshotError;
pub use crate::overlay::OverlayDriver;

/// What a snapshot is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Can be written; the top of a container.
    Active,
    /// Cannot be written and cannot be built upon.
    View,
    /// A layer being unpacked whose parent is not known yet.
    Detached,
    /// Never changes; may be a parent.
    Committed,
}

/// What is known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    pub key: String,
    pub parent: Option<String>,
    pub kind: Kind,
    pub created: Timestamp,
    pub labels: BTreeMap<String, String>,
}

/// How to see a snapshot: arguments of mount(2), in containerd's form. `bind` has `rbind` and `ro`
/// or `rw`; `overlay` has `lowerdir=` (topmost first), `upperdir=`, `workdir=` and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub fstype: String,
    pub source: PathBuf,
    pub options: Vec<String>,
}

/// Disk use of what a snapshot adds to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

/// A snapshot's own tree and those below it, for reading.
#[derive(Debug)]
pub struct Trees {
    /// What this snapshot adds, in overlayfs form; for the copy driver, the whole tree.
    pub own: Root,
    /// The parents, the topmost first; empty for a snapshot without parent.
    pub parents: Stack,
    /// All of it as a container sees it.
    pub merged: Stack,
    /// Whether `own` holds only changes, with overlayfs whiteouts.
    pub own_is_changes: bool,
}

/// One layer to be put in its place.
#[derive(Debug, Clone)]
pub struct LayerCommit {
    /// The key of the detached snapshot it was unpacked into.
    pub key: String,
    /// What it is called from now on: its chain id.
    pub name: String,
    pub parent: Option<String>,
    pub fixups: Fixups,
}

/// Names are any non-empty text; keys and names share one name space.
pub trait Snapshotter: Send + Sync + Debug {
    /// `overlay2` or `vfs`: the names `docker info` has for drivers of this kind.
    fn driver(&self) -> &'static str;

    /// Makes a snapshot that can be written, on a committed parent or on nothing.
    fn prepare(&self, key: &str, parent: Option<&str>) -> Result<(), SnapshotError> {
        self.prepare_queued(key, parent)?
            .wait()
            .map_err(|source| SnapshotError::Record {
                key: key.to_owned(),
                source,
            })
    }

    /// As [`Snapshotter::prepare`], but returns before the record is durable. Writes to the same
    /// [`havre_meta::Meta`] that are queued later become durable later or together with it, so a
    /// caller who records something of its own and waits for that saves a sync.
    fn prepare_queued(&self, key: &str, parent: Option<&str>) -> Result<Pending, SnapshotError>;

    /// Makes a snapshot that shows its parent and cannot be written.
    fn view(&self, key: &str, parent: Option<&str>) -> Result<(), SnapshotError>;

    /// Makes an empty place to unpack one layer into, with overlayfs whiteouts, before its parent is
    /// known. Nothing is recorded: after a crash it is gone.
    fn prepare_detached(&self, key: &str) -> Result<Root, SnapshotError>;

    /// Puts unpacked layers in their places, the lowest first: completes them from their parents,
    /// syncs the file system once, and records all or none. Those before a failing one that share
    /// the call are not recorded either.
    fn commit_layers(&self, layers: &[LayerCommit]) -> Result<(), SnapshotError>;

    /// One layer; see [`Snapshotter::commit_layers`].
    fn commit_chain(
        &self,
        name: &str,
        parent: Option<&str>,
        key: &str,
        fixups: &Fixups,
    ) -> Result<(), SnapshotError> {
        self.commit_layers(&[LayerCommit {
            key: key.to_owned(),
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            fixups: fixups.clone(),
        }])
    }

    /// Makes an active snapshot permanent under `name`; `key` is gone afterwards. Its content is on
    /// disk when this returns.
    fn commit(&self, name: &str, key: &str) -> Result<(), SnapshotError>;

    /// How to mount an active snapshot or a view.
    fn mounts(&self, key: &str) -> Result<Vec<Mount>, SnapshotError>;

    /// The trees of a snapshot of any kind.
    fn trees(&self, key: &str) -> Result<Trees, SnapshotError>;

    /// Removes a snapshot that no other lies on. It is gone when this returns; its disk space
    /// follows in the background.
    fn remove(&self, key: &str) -> Result<(), SnapshotError>;

    /// Waits until the disk space of everything removed before is free, but not longer than `limit`.
    fn wait_for_space(&self, limit: Duration);

    fn stat(&self, key: &str) -> Result<Info, SnapshotError>;

    fn usage(&self, key: &str) -> Result<Usage, SnapshotError>;

    /// All snapshots, by key.
    fn walk(&self) -> Vec<Info>;

    /// Keys whose trees were gone or whose records could not be read when the store was opened.
    fn lost(&self) -> Vec<String>;
}
