//! Archives: what is taken in, what is refused, and that a refusal leaves nothing behind.

use crate::support::{Fixture, archive, config, layer, pack, write_manifest};
use havre_image::NewImage;
use havre_testkit::command::{command, run};
use havre_testkit::image;
use havre_testkit::image::digest;
use havre_types::{Platform, Reference, Timestamp, chain};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The file of an image's tree, in the layer that has it.
fn file_in(fixture: &Fixture, chain: &str, name: &str) -> Option<Vec<u8>> {
    let trees = fixture.store.snapshots().trees(chain).unwrap();
    trees.own.read_limited(Path::new(name), 1 << 20).ok()
}

fn compressed(archive: &Path, program: &str, extension: &str) -> PathBuf {
    let target = archive.with_extension(extension);
    let file = fs_err::File::create(&target).unwrap().into_parts().0;
    let mut compress = command(program);
    assert!(
        compress
            .arg("-c")
            .arg(archive)
            .stdout(file)
            .status()
            .unwrap()
            .success()
    );
    target
}

#[test]
fn an_archive_of_docker_save_is_taken_in_and_survives() {
    let fixture = Fixture::new();
    let busybox = image("busybox").unwrap();
    let loaded = fixture.load(&busybox.archive).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].image.id().as_str(), busybox.id());
    assert_eq!(loaded[0].image.repo_tags(), ["busybox:latest"]);
    assert!(loaded[0].image.size > 500_000, "{}", loaded[0].image.size);
    // Configuration and two layers, and none of the archive's other members.
    assert_eq!(fixture.counts(), (1, 2));
    let fixture = fixture.reopen();
    let found = fixture.store.resolve("busybox").unwrap();
    assert_eq!(found.id().as_str(), busybox.id());
    assert_eq!(found.size, loaded[0].image.size);
    let top = found.chain_id().unwrap();
    let passwd = file_in(&fixture, top.as_str(), "etc/passwd").unwrap();
    assert!(passwd.starts_with(b"root:x:0:0:"));
    assert_eq!(fixture.counts(), (1, 2));
}

#[test]
fn a_layout_is_taken_in_plain_and_compressed_and_keeps_its_blobs() {
    let busybox = image("busybox").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("layout.tar");
    let mut tar = command("tar");
    tar.arg("--create").arg("--file").arg(&plain);
    run(tar.arg("--directory").arg(&busybox.layout).arg(".")).unwrap();
    let archives = [
        plain.clone(),
        compressed(&plain, "gzip", "tar.gz"),
        compressed(&plain, "xz", "tar.xz"),
    ];
    for archive in archives {
        let fixture = Fixture::new();
        let loaded = fixture.load(&archive).unwrap();
        assert_eq!(
            loaded[0].image.id().as_str(),
            busybox.id(),
            "{}",
            archive.display()
        );
        assert_eq!(loaded[0].image.repo_tags(), ["busybox:latest"]);
        assert_eq!(
            fixture.counts(),
            (4, 2),
            "manifest, configuration, two layers"
        );
        let manifest = loaded[0].image.record.manifest.as_ref().unwrap();
        assert!(fixture.store.content().contains(&manifest.digest));
    }
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let fixture = Fixture::new();
    let folder = fixture.directory.path();
    let staging = folder.join("bad.d");
    fs_err::create_dir(&staging).unwrap();
    layer(&staging, "0.tar", "f", "text");
    let right = digest(&fs_err::read(staging.join("0.tar")).unwrap());
    let wrong = digest(b"something else");
    let layers = |number: usize| vec!["0.tar"; number];
    let item =
        |layers: Vec<&str>| json!([{ "Config": "c.json", "RepoTags": [], "Layers": layers }]);
    let cases = [
        (vec![wrong], item(layers(1)), "layer has diff id `sha256:"),
        (
            vec![right.clone()],
            item(layers(2)),
            "invalid manifest, layers length mismatch: expected 1, got 2",
        ),
        (
            vec![right.clone()],
            item(vec!["missing.tar"]),
            "archive has no member `missing.tar`",
        ),
        (
            vec![right.clone()],
            item(vec!["../../../../etc/passwd"]),
            "archive has no member",
        ),
        (
            vec![right.clone()],
            json!({}),
            "failed to parse archive member `manifest.json`",
        ),
        (
            vec![right],
            json!([{ "Config": "c.json", "RepoTags": ["UPPER"], "Layers": ["0.tar"] }]),
            "failed to use name `UPPER` of the archive",
        ),
    ];
    for (diff_ids, manifest, expected) in cases {
        fs_err::write(staging.join("c.json"), config(&diff_ids).to_string()).unwrap();
        write_manifest(&staging, &manifest);
        let error = fixture.load(&pack(&staging)).unwrap_err();
        assert!(chain(&error).contains(expected), "{}", chain(&error));
        assert_eq!(fixture.counts(), (0, 0), "{expected}");
        assert!(fixture.store.images().is_empty());
    }
    fs_err::remove_file(staging.join("manifest.json")).unwrap();
    let error = fixture.load(&pack(&staging)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not contain a manifest.json"),
        "{error}"
    );
    fs_err::write(
        folder.join("text"),
        "no archive at all, but long enough".repeat(100),
    )
    .unwrap();
    fixture.load(&folder.join("text")).unwrap_err();
    assert_eq!(fixture.counts(), (0, 0));
}

#[test]
fn layers_that_are_links_in_the_archive_are_found() {
    let fixture = Fixture::new();
    let staging = fixture.directory.path().join("linked.d");
    for name in ["a", "b"] {
        fs_err::create_dir_all(staging.join(name)).unwrap();
    }
    layer(&staging, "a/layer.tar", "f", "text");
    symlink("../a/layer.tar", staging.join("b/layer.tar")).unwrap();
    let diff_id = digest(&fs_err::read(staging.join("a/layer.tar")).unwrap());
    fs_err::write(
        staging.join("c.json"),
        config(&[diff_id.clone(), diff_id]).to_string(),
    )
    .unwrap();
    let layers = ["a/layer.tar", "b/layer.tar"];
    write_manifest(
        &staging,
        &json!([{ "Config": "c.json", "RepoTags": null, "Layers": layers }]),
    );
    let loaded = fixture.load(&pack(&staging)).unwrap();
    assert!(loaded[0].image.is_dangling());
    assert_eq!(
        fixture.counts(),
        (1, 2),
        "the same archive twice is two layers"
    );
}

#[test]
fn loading_twice_changes_nothing_and_a_new_image_takes_the_name() {
    let fixture = Fixture::new();
    let folder = fixture.directory.path();
    let first = archive(folder, "x", &["base", "one"]);
    let old = fixture.load(&first).unwrap().remove(0).image;
    let again = fixture.load(&first).unwrap().remove(0).image;
    assert_eq!(old.record.references, again.record.references);
    assert_eq!(fixture.counts(), (1, 2));
    let new = fixture
        .load(&archive(folder, "x", &["base", "two"]))
        .unwrap()
        .remove(0)
        .image;
    assert_eq!(fixture.store.resolve("x").unwrap().id(), new.id());
    let old = fixture.store.get(old.id()).unwrap();
    assert!(old.is_dangling());
    assert_eq!(fixture.counts(), (2, 3), "the base is shared");
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.images().len(), 2);
    assert_eq!(fixture.store.resolve("x").unwrap().id(), new.id());
}

#[test]
fn a_tree_is_imported_as_one_layer() {
    let fixture = Fixture::new();
    let staging = fixture.directory.path().join("tree.d");
    fs_err::create_dir(&staging).unwrap();
    fs_err::write(staging.join("hello"), "hi").unwrap();
    let tree = compressed(&pack(&staging), "gzip", "tgz");
    let new = NewImage {
        reference: Some(Reference::parse_normalized("imported").unwrap()),
        comment: "Imported from -".to_owned(),
        ..NewImage::default()
    };
    let file = fs_err::File::open(tree).unwrap();
    let image = fixture.store.import(file, new, Timestamp::now()).unwrap();
    assert_eq!(image.repo_tags(), ["imported:latest"]);
    assert_eq!(image.config.platform(), Platform::host());
    assert_eq!(image.config.history[0].comment, "Imported from -");
    let text = file_in(&fixture, image.chain_id().unwrap().as_str(), "hello").unwrap();
    assert_eq!(text, b"hi");
}
