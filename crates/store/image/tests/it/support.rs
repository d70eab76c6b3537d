//! A store in a directory of its own, and archives of small images made by GNU tar.

use havre_content::ContentStore;
use havre_image::{ArchiveError, ImageStore, Loaded};
use havre_meta::Meta;
use havre_snapshot::OverlayDriver;
use havre_testkit::command::{command, run};
use havre_testkit::image::digest;
use havre_types::{Platform, Timestamp};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) store: ImageStore,
    pub(crate) directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        Self { store, directory }
    }

    /// The same directory, as after the engine's end.
    pub(crate) fn reopen(self) -> Self {
        let Self { store, directory } = self;
        drop(store);
        let store = open(directory.path());
        Self { store, directory }
    }

    pub(crate) fn load(&self, archive: &Path) -> Result<Vec<Loaded>, ArchiveError> {
        let file = fs_err::File::open(archive).unwrap();
        self.store
            .load(file, &Platform::host(), &|_| {}, Timestamp::now())
    }

    /// Blobs and layers that are there.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (
            self.store.content().list().unwrap().len(),
            self.store.snapshots().walk().len(),
        )
    }
}

fn open(directory: &Path) -> ImageStore {
    let meta = Meta::open(&directory.join("meta.db")).unwrap();
    let content = ContentStore::open(&directory.join("content")).unwrap();
    let driver = OverlayDriver::open(&directory.join("overlay"), &meta).unwrap();
    ImageStore::open(content, meta, Arc::new(driver)).unwrap()
}

/// An archive of `docker save`'s form with one layer for each text: a file `f<number>` with it.
pub(crate) fn archive(directory: &Path, name: &str, layers: &[&str]) -> PathBuf {
    let staging = directory.join(format!("{name}.d"));
    fs_err::create_dir_all(&staging).unwrap();
    let mut diff_ids = Vec::new();
    let mut members = Vec::new();
    for (number, text) in layers.iter().enumerate() {
        let member = format!("{number}.tar");
        layer(&staging, &member, &format!("f{number}"), text);
        diff_ids.push(digest(&fs_err::read(staging.join(&member)).unwrap()));
        members.push(member);
    }
    let config = config(&diff_ids);
    fs_err::write(staging.join("config.json"), config.to_string()).unwrap();
    let tag = format!("{name}:latest");
    write_manifest(
        &staging,
        &json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": members }]),
    );
    pack(&staging)
}

pub(crate) fn config(diff_ids: &[String]) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

pub(crate) fn write_manifest(staging: &Path, manifest: &Value) {
    fs_err::write(staging.join("manifest.json"), manifest.to_string()).unwrap();
}

/// A layer with one file.
pub(crate) fn layer(staging: &Path, member: &str, file: &str, text: &str) {
    let tree = staging.join(".tree");
    fs_err::create_dir_all(&tree).unwrap();
    fs_err::write(tree.join(file), text).unwrap();
    let mut tar = command("tar");
    tar.args(["--create", "--mtime=@0", "--file"])
        .arg(staging.join(member));
    run(tar.arg("--directory").arg(&tree).arg(file)).unwrap();
    fs_err::remove_dir_all(&tree).unwrap();
}

/// The archive of a folder, beside it.
pub(crate) fn pack(staging: &Path) -> PathBuf {
    let archive = staging.with_extension("tar");
    let mut tar = command("tar");
    run(tar
        .arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(staging)
        .arg("."))
    .unwrap();
    archive
}
