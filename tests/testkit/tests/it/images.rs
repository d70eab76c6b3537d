//! Images are well formed in the eyes of a foreign client, in the cache and in the registry.

use havre_testkit::command::{command, run, stdout};
use havre_testkit::image::digest;
use havre_testkit::push::{Target, push_index};
use havre_testkit::{Format, Registry, image};
use serde_json::Value;

fn inspect(source: &str) -> Value {
    let mut skopeo = command("skopeo");
    skopeo.args([
        "--override-arch=amd64",
        "inspect",
        "--tls-verify=false",
        "--raw",
        source,
    ]);
    serde_json::from_str(&stdout(&mut skopeo).unwrap()).unwrap()
}

#[test]
fn a_foreign_client_reads_layout_archive_and_registry() {
    let image = image("busybox").unwrap();
    assert_eq!(image.layers.len(), 2);
    let copy = tempfile::tempdir().unwrap();
    let registry = Registry::start().unwrap();
    let mut sources = vec![
        format!("oci:{}", image.layout.display()),
        format!("docker-archive:{}", image.archive.display()),
    ];
    for (tag, format) in [("oci", Format::Oci), ("docker", Format::Docker)] {
        let pushed = registry
            .push(&image, &format!("a/busybox:{tag}"), format)
            .unwrap();
        sources.push(format!("docker://{pushed}"));
    }
    for (number, source) in sources.iter().enumerate() {
        let target = format!("dir:{}/{number}", copy.path().display());
        let mut skopeo = command("skopeo");
        skopeo.args([
            "copy",
            "--src-tls-verify=false",
            "--insecure-policy",
            source,
            &target,
        ]);
        run(&mut skopeo).unwrap();
        let config = fs_err::read(copy.path().join(number.to_string()).join(&image.id()[7..]));
        assert_eq!(digest(&config.unwrap()), image.id(), "{source}");
    }
}

#[test]
fn an_index_has_the_image_for_this_platform() {
    let image = image("busybox").unwrap();
    let registry = Registry::start().unwrap();
    for format in [Format::Oci, Format::Docker] {
        let reference = format!("{}/indexed:1", registry.authority());
        push_index(&image, &Target::parse(&reference).unwrap(), format).unwrap();
        let index = inspect(&format!("docker://{reference}"));
        assert_eq!(index["mediaType"], format.index());
        assert_eq!(
            index["manifests"][1]["digest"],
            digest(&image.manifest(format))
        );
    }
}

#[test]
fn a_registry_ends_and_leaves_nothing() {
    let registry = Registry::start().unwrap();
    let (authority, storage) = (registry.authority(), registry.storage());
    drop(registry);
    std::net::TcpStream::connect(authority).unwrap_err();
    assert!(!storage.parent().unwrap().exists());
}
