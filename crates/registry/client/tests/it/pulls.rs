//! The ordinary case, from Debian's docker-registry.

use crate::support::{Client, busybox, config};
use havre_registry_client::Config;
use havre_testkit::image::digest;
use havre_testkit::push::{Target, push_index};
use havre_testkit::{Format, Registry, image};
use havre_types::Platform;
use std::path::Path;

#[tokio::test]
async fn both_formats_are_pulled_and_the_second_time_is_up_to_date() {
    let (image, _) = busybox();
    let registry = Registry::start().unwrap();
    for (tag, format) in [("oci", Format::Oci), ("docker", Format::Docker)] {
        let client = Client::new();
        let reference = registry
            .push(&image, &format!("lib/busybox:{tag}"), format)
            .unwrap();
        let pulled = client.pull(&reference).await.unwrap();
        assert_eq!(pulled.image.id().as_str(), image.id());
        assert_eq!(pulled.digest.as_str(), digest(&image.manifest(format)));
        assert!(pulled.newer);
        assert_eq!(pulled.image.repo_tags(), std::slice::from_ref(&reference));
        let canonical = format!("{}/lib/busybox@{}", registry.authority(), pulled.digest);
        assert_eq!(
            pulled.image.repo_digests(),
            std::slice::from_ref(&canonical)
        );
        assert_eq!(client.counts(), (4, 0, 2));
        let chain = pulled.image.chain_ids();
        let trees = client.store.snapshots().trees(chain[1].as_str()).unwrap();
        let group = trees
            .own
            .read_limited(Path::new("etc/group"), 4096)
            .unwrap();
        assert!(group.starts_with(b"root:x:0:"));
        assert_eq!(client.messages_of(tag), ["Pulling from lib/busybox"]);
        let short = &image.layers[0].digest[7..19];
        let states = client.messages_of(short);
        assert_eq!(states.first().unwrap(), "Pulling fs layer");
        assert_eq!(states.last().unwrap(), "Pull complete");
        let end = client.messages_of("");
        assert_eq!(end[0], format!("Digest: {}", pulled.digest));
        assert_eq!(
            end[1],
            format!("Status: Downloaded newer image for {reference}")
        );
        client.messages.lock().unwrap().clear();
        let again = client.pull(&reference).await.unwrap();
        assert!(!again.newer);
        assert_eq!(client.messages_of(short), ["Already exists"]);
        assert_eq!(
            client.messages_of("")[1],
            format!("Status: Image is up to date for {reference}")
        );
        let by_digest = client.pull(&canonical).await.unwrap();
        assert_eq!(by_digest.image.repo_tags(), [reference], "the tag stays");
    }
}

#[tokio::test]
async fn an_index_gives_the_image_of_the_platform() {
    let (image, _) = busybox();
    let registry = Registry::start().unwrap();
    let reference = format!("{}/multi:1", registry.authority());
    let target = Target::parse(&reference).unwrap();
    for format in [Format::Oci, Format::Docker] {
        let index = push_index(&image, &target, format).unwrap();
        let client = Client::new();
        let pulled = client.pull(&reference).await.unwrap();
        assert_eq!(pulled.digest.as_str(), index);
        assert_eq!(pulled.image.id().as_str(), image.id());
        let riscv = Some(Platform::parse("linux/riscv64").unwrap());
        let error = client.pull_as(&reference, None, riscv).await.unwrap_err();
        let expected = "no matching manifest for linux/riscv64 in the manifest list entries";
        assert_eq!(error.to_string(), expected);
    }
    registry.push(&image, "single:1", Format::Oci).unwrap();
    let reference = format!("{}/single:1", registry.authority());
    let arm = Some(Platform::parse("linux/arm64").unwrap());
    let error = Client::new()
        .pull_as(&reference, None, arm)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("does not provide the specified platform (linux/arm64)"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_missing_is_named_as_docker_names_it() {
    let (image, _) = busybox();
    let registry = Registry::start().unwrap();
    let authority = registry.authority();
    registry.push(&image, "there:1", Format::Oci).unwrap();
    let client = Client::new();
    assert_eq!(
        client.failure(&format!("{authority}/there:2")).await,
        format!("manifest for {authority}/there:2 not found: manifest unknown: manifest unknown")
    );
    assert_eq!(
        client.failure(&format!("{authority}/absent")).await,
        format!(
            "manifest for {authority}/absent:latest not found: manifest unknown: manifest unknown"
        )
    );
    drop(registry);
    let text = client.failure(&format!("{authority}/there:1")).await;
    let expected = format!("Get \"https://{authority}/v2/\": dial tcp {authority}: connect: ");
    assert!(text.starts_with(&expected), "{text}");
    let text = client.failure("no-such-host.invalid/x").await;
    assert!(
        text.starts_with("Get \"https://no-such-host.invalid/v2/\": dial tcp: lookup"),
        "{text}"
    );
}

#[tokio::test]
async fn images_that_share_a_base_fetch_it_once() {
    let (debian, nginx) = (image("debian").unwrap(), image("nginx").unwrap());
    let registry = Registry::start().unwrap();
    let first = registry.push(&debian, "debian:1", Format::Docker).unwrap();
    let second = registry.push(&nginx, "nginx:1", Format::Docker).unwrap();
    let client = Client::new();
    client.pull(&first).await.unwrap();
    client.messages.lock().unwrap().clear();
    let pulled = client.pull(&second).await.unwrap();
    assert_eq!(pulled.image.chain_ids().len(), 2);
    assert_eq!(
        client.messages_of(&debian.layers[0].digest[7..19]),
        ["Already exists"]
    );
    let trees = client
        .store
        .snapshots()
        .trees(pulled.image.chain_id().unwrap().as_str())
        .unwrap();
    trees
        .own
        .read_limited(Path::new("usr/sbin/nginx"), 8 << 20)
        .unwrap();
    assert!(
        trees
            .own
            .read_limited(Path::new("etc/debian_version"), 4096)
            .is_err_and(|error| { error.kind() == std::io::ErrorKind::NotFound })
    );
}

#[tokio::test]
async fn tags_are_listed() {
    let (image, _) = busybox();
    let registry = Registry::start().unwrap();
    for tag in ["a", "b"] {
        registry
            .push(&image, &format!("tagged:{tag}"), Format::Oci)
            .unwrap();
    }
    let reference = format!("{}/tagged", registry.authority());
    let request = havre_registry_client::PullRequest {
        reference: havre_types::Reference::parse_normalized(&reference).unwrap(),
        platform: None,
        credentials: None,
    };
    let client = Client::new();
    let mut tags = client.puller.tags(&request).await.unwrap();
    tags.sort();
    assert_eq!(tags, ["a", "b"]);
}

#[tokio::test]
async fn a_mirror_is_asked_before_the_hub() {
    let (image, _) = busybox();
    let registry = Registry::start().unwrap();
    registry
        .push(&image, "library/busybox:latest", Format::Oci)
        .unwrap();
    let mirrors = vec![format!("http://{}", registry.authority())];
    let client = Client::with(Config {
        mirrors,
        ..config()
    });
    let pulled = client.pull("busybox").await.unwrap();
    assert_eq!(pulled.image.repo_tags(), ["busybox:latest"]);
    assert_eq!(
        client.messages_of("latest"),
        ["Pulling from library/busybox"]
    );
}
