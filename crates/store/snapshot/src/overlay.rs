//! The overlayfs driver: `<root>/<number>/fs` holds what a snapshot adds, `work` belongs to
//! overlayfs. It never mounts anything itself; whoever starts a container does, in its own mount
//! namespace.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err::os::unix::fs as unix;
use havre_layer::{Stack, fix_up};
use havre_meta::{Meta, Pending};
use havre_sys::fsroot::Root;

use crate::error::SnapshotError;
use crate::state::{Record, State};
use crate::{Info, Kind, LayerCommit, Mount, Snapshotter, Trees, Usage, usage};

/// Flags of every overlay mount: without them the kernel's configuration decides, and with
/// redirects or metadata-only copies an upper directory alone is no longer a set of changes.
/// <https://docs.kernel.org/filesystems/overlayfs.html#redirect-dir>
const FLAGS: [&str; 3] = ["index=off", "metacopy=off", "redirect_dir=off"];

/// Snapshots on overlayfs.
#[derive(Debug)]
pub struct OverlayDriver {
    state: State,
}

impl OverlayDriver {
    /// Opens the snapshots in `root`, whose records are in `meta`, and sweeps what no record names.
    pub fn open(root: &Path, meta: &Meta) -> Result<Self, SnapshotError> {
        let make = |directory: &Path| make_directories(directory).map(drop);
        Ok(Self {
            state: State::open(root, meta, "snapshot-overlay", &make)?,
        })
    }

    /// Whether the kernel can mount overlayfs on the file system of `root`. A mount is made, but
    /// attached nowhere.
    #[must_use]
    pub fn is_supported(root: &Path) -> bool {
        probe(root).is_ok()
    }

    fn fs(&self, number: u64) -> PathBuf {
        self.state.directory(number).join("fs")
    }

    fn open_fs(&self, number: u64) -> io::Result<Root> {
        Root::open(&self.fs(number))
    }

    fn stack(&self, numbers: &[u64]) -> io::Result<Stack> {
        let roots: io::Result<Vec<Root>> = numbers.iter().map(|n| self.open_fs(*n)).collect();
        Ok(Stack::new(roots?))
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

    /// The root of the merged tree takes its owner and mode from the upper directory, so that one
    /// must look like the parent's.
    fn make_on(&self, number: u64, parent: Option<u64>) -> io::Result<()> {
        let fs = make_directories(&self.state.directory(number))?;
        if let Some(parent) = parent {
            let below = fs_err::metadata(self.fs(parent))?;
            if below.uid() != 0 || below.gid() != 0 {
                unix::chown(&fs, Some(below.uid()), Some(below.gid()))?;
            }
            if below.mode() & 0o7777 != 0o755 {
                fs_err::set_permissions(&fs, below.permissions())?;
            }
        }
        Ok(())
    }

    /// Completes one layer; what it is to be called, and the record for that.
    fn complete(
        &self,
        layer: &LayerCommit,
        earlier: &[(String, String, Record)],
    ) -> Result<(String, String, Record), SnapshotError> {
        let key = &layer.key;
        let record = self.state.get_kind(key, &[Kind::Detached])?;
        self.state.check_free(&layer.name)?;
        // The parent may be a layer of the same call.
        let mut chain = Vec::new();
        let mut next = layer.parent.as_deref();
        while let Some((_, name, parent)) = earlier
            .iter()
            .find(|(_, name, _)| Some(name.as_str()) == next)
        {
            debug_assert_eq!(Some(name.as_str()), next);
            chain.push(parent.number);
            next = parent.parent.as_deref();
        }
        chain.extend(self.state.chain(next)?);
        let read = |source| SnapshotError::Read {
            key: key.clone(),
            source,
        };
        let root = self.open_fs(record.number).map_err(read)?;
        let parents = self.stack(&chain).map_err(read)?;
        fix_up(&root, &parents, &layer.fixups).map_err(|source| SnapshotError::Complete {
            key: key.clone(),
            source,
        })?;
        let committed = self
            .state
            .record(record.number, Kind::Committed, layer.parent.as_deref());
        Ok((key.clone(), layer.name.clone(), committed))
    }

    fn sync(&self, key: &str) -> Result<(), SnapshotError> {
        sync_file_system(self.state.root()).map_err(|source| SnapshotError::Make {
            key: key.to_owned(),
            source,
        })
    }
}

impl Snapshotter for OverlayDriver {
    fn driver(&self) -> &'static str {
        "overlay2"
    }

    fn prepare_queued(&self, key: &str, parent: Option<&str>) -> Result<Pending, SnapshotError> {
        self.make(key, parent, Kind::Active)
    }

    fn view(&self, key: &str, parent: Option<&str>) -> Result<(), SnapshotError> {
        self.make(key, parent, Kind::View)?
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
        let Some(last) = layers.last() else {
            return Ok(());
        };
        let mut moves = Vec::with_capacity(layers.len());
        for layer in layers {
            let next = self.complete(layer, &moves)?;
            moves.push(next);
        }
        self.sync(&last.key)?;
        self.state.rename(moves)
    }

    fn commit(&self, name: &str, key: &str) -> Result<(), SnapshotError> {
        let record = self.state.get_kind(key, &[Kind::Active])?;
        self.state.check_free(name)?;
        self.sync(key)?;
        let committed = self
            .state
            .record(record.number, Kind::Committed, record.parent.as_deref());
        self.state
            .rename(vec![(key.to_owned(), name.to_owned(), committed)])
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>, SnapshotError> {
        let record = self.state.get_kind(key, &[Kind::Active, Kind::View])?;
        let chain = self.state.chain(record.parent.as_deref())?;
        let lowers: Vec<PathBuf> = chain.iter().map(|number| self.fs(*number)).collect();
        let own = self.fs(record.number);
        let mount = match (record.kind, lowers.as_slice()) {
            (Kind::Active, []) => bind(own, "rw"),
            (_, []) => bind(own, "ro"),
            (Kind::View, [only]) => bind(only.clone(), "ro"),
            (kind, lowers) => {
                let mut options = vec![format!("lowerdir={}", join(lowers))];
                if kind == Kind::Active {
                    let work = self.state.directory(record.number).join("work");
                    options.push(format!("upperdir={}", escaped(&own)));
                    options.push(format!("workdir={}", escaped(&work)));
                }
                options.extend(FLAGS.map(str::to_owned));
                Mount {
                    fstype: "overlay".to_owned(),
                    source: "overlay".into(),
                    options,
                }
            }
        };
        Ok(vec![mount])
    }

    fn trees(&self, key: &str) -> Result<Trees, SnapshotError> {
        let record = self.state.get(key)?;
        let chain = self.state.chain(record.parent.as_deref())?;
        let read = |source| SnapshotError::Read {
            key: key.to_owned(),
            source,
        };
        let mut all = vec![record.number];
        all.extend_from_slice(&chain);
        Ok(Trees {
            own: self.open_fs(record.number).map_err(read)?,
            parents: self.stack(&chain).map_err(read)?,
            merged: self.stack(&all).map_err(read)?,
            own_is_changes: true,
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

pub(crate) fn make_directories(directory: &Path) -> io::Result<PathBuf> {
    // 0700: the trees hold set-user-id programs, which others of the host must not reach.
    let private = rustix::fs::Mode::from_raw_mode(0o700);
    rustix::fs::mkdir(directory, private)?;
    rustix::fs::mkdir(directory.join("work"), private)?;
    let fs = directory.join("fs");
    fs_err::create_dir(&fs)?;
    // The umask must not decide what containers see.
    if fs_err::metadata(&fs)?.mode() & 0o7777 != 0o755 {
        fs_err::set_permissions(&fs, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(fs)
}

fn bind(source: PathBuf, access: &str) -> Mount {
    let options = vec!["rbind".to_owned(), access.to_owned()];
    Mount {
        fstype: "bind".to_owned(),
        source,
        options,
    }
}

fn join(paths: &[PathBuf]) -> String {
    let texts: Vec<String> = paths.iter().map(|path| escaped(path)).collect();
    texts.join(":")
}

/// A path as overlayfs wants it in an option, where a colon parts two paths
/// (<https://docs.kernel.org/filesystems/overlayfs.html#multiple-lower-layers>).
fn escaped(path: &Path) -> String {
    let text = path.display().to_string();
    text.replace('\\', "\\\\").replace(':', "\\:")
}

pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    let directory = fs_err::File::open(path)?;
    Ok(rustix::fs::syncfs(&directory)?)
}

fn probe(root: &Path) -> io::Result<()> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    };
    let directory = root.join("probe");
    fs_err::create_dir_all(root)?;
    match fs_err::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for name in ["lower", "fs", "work"] {
        fs_err::create_dir_all(directory.join(name))?;
    }
    let attempt = || -> io::Result<()> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, name: &str| {
            let path = escaped(&directory.join(name));
            fsconfig_set_string(context.as_fd() as BorrowedFd<'_>, key, path)
        };
        set("lowerdir", "lower")?;
        set("upperdir", "fs")?;
        set("workdir", "work")?;
        fsconfig_create(&context)?;
        drop(fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?);
        Ok(())
    };
    let result = attempt();
    fs_err::remove_dir_all(&directory)?;
    result
}
