//! The plain-copy driver, for file systems that overlayfs cannot lie on: every snapshot is a whole
//! tree in `<root>/<number>/fs`. Slow and large, but it depends on nothing.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use havre_layer::{Stack, fix_up, flatten};
use havre_meta::{Meta, Pending};
use havre_sys::fsroot::Root;

use crate::error::SnapshotError;
use crate::overlay::{make_directories, sync_file_system};
use crate::state::{Record, State};
use crate::{Info, Kind, LayerCommit, Mount, Snapshotter, Trees, Usage, usage};

/// Snapshots as whole trees.
#[derive(Debug)]
pub struct CopyDriver {
    state: State,
}

impl CopyDriver {
    /// Opens the snapshots in `root`, whose records are in `meta`, and sweeps what no record names.
    pub fn open(root: &Path, meta: &Meta) -> Result<Self, SnapshotError> {
        let make = |directory: &Path| make_directories(directory).map(drop);
        Ok(Self {
            state: State::open(root, meta, "snapshot-copy", &make)?,
        })
    }

    fn fs(&self, number: u64) -> PathBuf {
        self.state.directory(number).join("fs")
    }

    fn open_fs(&self, number: u64) -> io::Result<Root> {
        Root::open(&self.fs(number))
    }

    fn make(&self, key: &str, parent: Option<&str>, kind: Kind) -> Result<Pending, SnapshotError> {
        let number = self.state.reserve(key, parent)?;
        let made = self.state.chain(parent).and_then(|chain| {
            self.make_on(number, chain.first().copied())
                .map_err(|source| SnapshotError::Make {
                    key: key.to_owned(),
                    source,
                })
        });
        match made {
            Ok(()) => Ok(self
                .state
                .publish(key, self.state.record(number, kind, parent))),
            Err(error) => {
                self.state.release(key, number);
                Err(error)
            }
        }
    }

    fn make_on(&self, number: u64, parent: Option<u64>) -> io::Result<()> {
        let fs = make_directories(&self.state.directory(number))?;
        match parent {
            Some(parent) => flatten(&Stack::new(vec![self.open_fs(parent)?]), &Root::open(&fs)?),
            None => Ok(()),
        }
    }

    /// Lays one unpacked layer on a copy of its parent. The copy gets a new directory; the one it
    /// was unpacked into goes to the trash when its key is released.
    fn complete(
        &self,
        layer: &LayerCommit,
        earlier: &[(String, String, Record)],
    ) -> Result<(String, String, Record), SnapshotError> {
        let key = &layer.key;
        let detached = self.state.get_kind(key, &[Kind::Detached])?;
        self.state.check_free(&layer.name)?;
        let parent = match (
            &layer.parent,
            earlier.iter().find(|e| Some(&e.1) == layer.parent.as_ref()),
        ) {
            (None, _) => None,
            (Some(_), Some((_, _, record))) => Some(record.number),
            (Some(parent), None) => self.state.chain(Some(parent))?.first().copied(),
        };
        let make = |source| SnapshotError::Make {
            key: key.clone(),
            source,
        };
        let root = self.open_fs(detached.number).map_err(make)?;
        let below = match parent {
            Some(parent) => vec![self.open_fs(parent).map_err(make)?],
            None => Vec::new(),
        };
        let below = Stack::new(below);
        fix_up(&root, &below, &layer.fixups).map_err(|source| SnapshotError::Complete {
            key: key.clone(),
            source,
        })?;
        let mut layers = vec![root];
        layers.extend(below.into_layers());
        let number = self.state.fresh_number();
        let fs = make_directories(&self.state.directory(number)).map_err(make)?;
        let target = Root::open(&fs).map_err(make)?;
        flatten(&Stack::new(layers), &target).map_err(make)?;
        let record = self
            .state
            .record(number, Kind::Committed, layer.parent.as_deref());
        Ok((key.clone(), layer.name.clone(), record))
    }
}

impl Snapshotter for CopyDriver {
    fn driver(&self) -> &'static str {
        "vfs"
    }

    fn prepare_queued(&self, key: &str, parent: Option<&str>) -> Result<Pending, SnapshotError> {
        self.make(key, parent, Kind::Active)
    }

    fn view(&self, key: &str, parent: Option<&str>) -> Result<(), SnapshotError> {
        // A bind mount of the parent serves; nothing is copied.
        let number = self.state.reserve(key, parent)?;
        if let Err(source) = make_directories(&self.state.directory(number)) {
            self.state.release(key, number);
            return Err(SnapshotError::Make {
                key: key.to_owned(),
                source,
            });
        }
        self.state
            .publish(key, self.state.record(number, Kind::View, parent))
            .wait()
            .map_err(|source| SnapshotError::Record {
                key: key.to_owned(),
                source,
            })
    }

    fn prepare_detached(&self, key: &str) -> Result<Root, SnapshotError> {
        self.make(key, None, Kind::Detached)?
            .wait()
            .map_err(|source| SnapshotError::Record {
                key: key.to_owned(),
                source,
            })?;
        let record = self.state.get(key)?;
        self.open_fs(record.number)
            .map_err(|source| SnapshotError::Read {
                key: key.to_owned(),
                source,
            })
    }

    fn commit_layers(&self, layers: &[LayerCommit]) -> Result<(), SnapshotError> {
        let mut moves: Vec<(String, String, Record)> = Vec::with_capacity(layers.len());
        for layer in layers {
            match self.complete(layer, &moves) {
                Ok(next) => moves.push(next),
                Err(error) => {
                    for (_, _, record) in &moves {
                        self.state.discard(record.number);
                    }
                    return Err(error);
                }
            }
        }
        let Some(last) = layers.last() else {
            return Ok(());
        };
        sync_file_system(self.state.root()).map_err(|source| SnapshotError::Make {
            key: last.key.clone(),
            source,
        })?;
        let unpacked: Vec<u64> = layers
            .iter()
            .filter_map(|layer| self.state.get(&layer.key).ok())
            .map(|record| record.number)
            .collect();
        self.state.rename(moves)?;
        for number in unpacked {
            self.state.discard(number);
        }
        Ok(())
    }

    fn commit(&self, name: &str, key: &str) -> Result<(), SnapshotError> {
        let record = self.state.get_kind(key, &[Kind::Active])?;
        self.state.check_free(name)?;
        sync_file_system(self.state.root()).map_err(|source| SnapshotError::Make {
            key: key.to_owned(),
            source,
        })?;
        let committed = self
            .state
            .record(record.number, Kind::Committed, record.parent.as_deref());
        self.state
            .rename(vec![(key.to_owned(), name.to_owned(), committed)])
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>, SnapshotError> {
        let record = self.state.get_kind(key, &[Kind::Active, Kind::View])?;
        let (number, access) = match record.kind {
            Kind::Active => (record.number, "rw"),
            Kind::View | Kind::Detached | Kind::Committed => {
                let chain = self.state.chain(record.parent.as_deref())?;
                (chain.first().copied().unwrap_or(record.number), "ro")
            }
        };
        Ok(vec![Mount {
            fstype: "bind".to_owned(),
            source: self.fs(number),
            options: vec!["rbind".to_owned(), access.to_owned()],
        }])
    }

    fn trees(&self, key: &str) -> Result<Trees, SnapshotError> {
        let record = self.state.get(key)?;
        let parent = self.state.chain(record.parent.as_deref())?.first().copied();
        let read = |source| SnapshotError::Read {
            key: key.to_owned(),
            source,
        };
        let number = match (record.kind, parent) {
            (Kind::View, Some(parent)) => parent,
            _ => record.number,
        };
        let parents: io::Result<Vec<Root>> = parent.iter().map(|n| self.open_fs(*n)).collect();
        Ok(Trees {
            own: self.open_fs(number).map_err(read)?,
            parents: Stack::new(parents.map_err(read)?),
            merged: Stack::new(vec![self.open_fs(number).map_err(read)?]),
            own_is_changes: false,
        })
    }

    fn remove(&self, key: &str) -> Result<(), SnapshotError> {
        self.state.remove(key)
    }

    fn wait_for_space(&self, limit: Duration) {
        self.state.wait_for_trash(limit);
    }

    fn stat(&self, key: &str) -> Result<Info, SnapshotError> {
        self.state.info(key)
    }

    fn usage(&self, key: &str) -> Result<Usage, SnapshotError> {
        let record = self.state.get(key)?;
        self.open_fs(record.number)
            .and_then(|root| usage::of(root.as_fd()))
            .map_err(|source| SnapshotError::Read {
                key: key.to_owned(),
                source,
            })
    }

    fn walk(&self) -> Vec<Info> {
        self.state.walk()
    }

    fn lost(&self) -> Vec<String> {
        self.state.lost()
    }
}
