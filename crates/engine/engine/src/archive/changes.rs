//! What is different from the image. The places that the engine mounts its own files on are no change:
//! they are made in the container's layer when it first starts, empty, and Docker does not show them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use havre_api_traits::ApiResult;
use havre_engine_types::FilesystemChange;
use havre_layer::{Change, ChangeKind, Child, Stack, changes};
use havre_snapshot::Trees;
use havre_sys::fsroot::Root;
use havre_types::ContainerId;
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat, openat};

use crate::engine::Shared;
use crate::error::classified;

/// What a start makes where the image has nothing, inner ones first.
const PLACES: [&str; 8] = [
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "dev/shm",
    "dev/pts",
    "dev",
    "proc",
    "sys",
];

pub(super) fn list(shared: &Shared, id: &ContainerId) -> ApiResult<Vec<FilesystemChange>> {
    let failed = "failed to compare the container with its image";
    let trees = shared.snapshots.trees(id.as_str());
    let trees = trees.map_err(|err| classified(failed, &err))?;
    let found = changes(&trees.parents, &trees.merged, &places(&trees));
    let found = found.map_err(|err| classified(failed, &err))?;
    Ok(found.iter().map(shown).collect())
}

fn shown(change: &Change) -> FilesystemChange {
    FilesystemChange {
        path: format!("/{}", change.path.display()),
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    }
}

/// The places in a container's layer that are as the engine made them.
pub(super) fn places(trees: &Trees) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for place in PLACES.map(Path::new) {
        if is_untouched(&trees.own, place, &found) && !is_in(&trees.parents, place) {
            found.insert(place.to_owned());
        }
    }
    // A directory that is in the layer only because of them.
    let etc = Path::new("etc");
    if found.iter().any(|place| place.starts_with(etc))
        && is_untouched(&trees.own, etc, &found)
        && is_as_below(trees, etc)
    {
        found.insert(etc.to_owned());
    }
    found
}

/// An empty file, or a directory in which nothing is but such places.
fn is_untouched(own: &Root, place: &Path, found: &BTreeSet<PathBuf>) -> bool {
    let Ok(stat) = own.lstat(place) else {
        return false;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => stat.st_size == 0,
        FileType::Directory => {
            let children = children(own, place);
            children.is_some_and(|names| names.iter().all(|name| found.contains(&place.join(name))))
        }
        _ => false,
    }
}

fn children(own: &Root, place: &Path) -> Option<Vec<OsString>> {
    let (dir, name) = own.parent(place).ok()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(dir.as_fd(), &name, flags, Mode::empty()).ok()?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Some(names)
}

fn is_in(parents: &Stack, place: &Path) -> bool {
    !parents.is_empty() && !matches!(parents.lookup(place), Ok(None))
}

/// Whether a directory of the layer has nothing of its own that would show.
fn is_as_below(trees: &Trees, place: &Path) -> bool {
    let rights = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    let Ok(own) = trees.own.lstat(place) else {
        return false;
    };
    if trees.parents.is_empty() {
        return true;
    }
    match trees.parents.lookup(place) {
        Ok(Some((_, Child::Directory(_, below)))) => rights(&own) == rights(&below),
        Ok(None) => true,
        Ok(Some(_)) | Err(_) => false,
    }
}
