//! Names, removal and what goes with an image.

use crate::support::{Fixture, archive};
use havre_image::{DeleteOptions, DeleteRecord, ImageUser};
use havre_types::{Classify as _, ContainerId, Digest, ErrorKind, Reference, Timestamp};
use std::time::Duration;

const PLAIN: DeleteOptions = DeleteOptions { force: false };
const FORCE: DeleteOptions = DeleteOptions { force: true };

fn name(text: &str) -> Reference {
    Reference::parse_normalized(text).unwrap()
}

fn show(records: &[DeleteRecord]) -> Vec<String> {
    let show = |record: &DeleteRecord| match record {
        DeleteRecord::Untagged(name) => name.familiar(),
        DeleteRecord::Image(_) => "image".to_owned(),
        DeleteRecord::Layer(_) => "layer".to_owned(),
    };
    records.iter().map(show).collect()
}

#[test]
fn shared_layers_stay_until_their_last_image_goes() {
    let fixture = Fixture::new();
    let folder = fixture.directory.path();
    let one = fixture
        .load(&archive(folder, "one", &["base", "1"]))
        .unwrap()
        .remove(0)
        .image;
    fixture
        .load(&archive(folder, "two", &["base", "2"]))
        .unwrap();
    assert_eq!(fixture.counts(), (2, 3));
    let records = fixture.store.delete("one", &[], PLAIN).unwrap();
    assert_eq!(show(&records), ["one:latest", "image", "layer"]);
    assert_eq!(records[1], DeleteRecord::Image(one.id().clone()));
    assert_eq!(fixture.counts(), (1, 2));
    let fixture = fixture.reopen();
    let records = fixture.store.delete("two", &[], PLAIN).unwrap();
    assert_eq!(show(&records), ["two:latest", "image", "layer", "layer"]);
    assert_eq!(fixture.counts(), (0, 0));
    let fixture = fixture.reopen();
    assert!(fixture.store.images().is_empty());
}

#[test]
fn names_come_and_go_and_survive() {
    let fixture = Fixture::new();
    let folder = fixture.directory.path();
    let image = fixture
        .load(&archive(folder, "x", &["a"]))
        .unwrap()
        .remove(0)
        .image;
    let now = Timestamp::now();
    fixture
        .store
        .tag(image.id().short(), &name("h:5/y:1"), now)
        .unwrap();
    fixture.store.tag("x", &name("z"), now).unwrap();
    let fixture = fixture.reopen();
    let image = fixture.store.resolve("z").unwrap();
    assert_eq!(image.repo_tags(), ["h:5/y:1", "x:latest", "z:latest"]);
    assert_eq!(image.record.last_tagged, Some(now));
    assert_eq!(
        show(&fixture.store.delete("x:latest", &[], PLAIN).unwrap()),
        ["x:latest"]
    );
    let digest = name("x").with_digest(Digest::sha256_of(b"m"));
    let error = fixture.store.tag("z", &digest, now).unwrap_err();
    assert_eq!(
        error.to_string(),
        "refusing to create a tag with a digest reference"
    );
    let error = fixture.store.tag("nope", &name("w"), now).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("No such image: nope:latest", ErrorKind::NotFound)
    );
    let fixture = fixture.reopen();
    assert_eq!(
        fixture.store.resolve("z").unwrap().repo_tags(),
        ["h:5/y:1", "z:latest"]
    );
}

#[test]
fn a_container_keeps_the_layers_of_a_removed_image() {
    let fixture = Fixture::new();
    let folder = fixture.directory.path();
    let image = fixture
        .load(&archive(folder, "x", &["a", "b"]))
        .unwrap()
        .remove(0)
        .image;
    let snapshots = fixture.store.snapshots();
    snapshots
        .prepare("container", Some(image.chain_id().unwrap().as_str()))
        .unwrap();
    let container = ContainerId::from_bytes([1; 32]);
    let user = ImageUser {
        container,
        image: image.id().clone(),
        running: false,
    };
    let users = [user];
    let error = fixture.store.delete("x", &users, PLAIN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error
            .to_string()
            .starts_with("conflict: unable to remove repository reference \"x\"")
    );
    let records = fixture.store.delete("x", &users, FORCE).unwrap();
    assert_eq!(show(&records), ["x:latest", "image"]);
    assert_eq!(
        fixture.counts(),
        (0, 3),
        "two layers and the container's own"
    );
    snapshots.remove("container").unwrap();
    let collected = fixture.store.collect_garbage(Duration::ZERO).unwrap();
    assert_eq!(collected.layers.len(), 2);
    assert_eq!(fixture.counts(), (0, 0));
}

#[test]
fn a_lease_protects_what_is_being_brought_in() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let held = Digest::sha256_of(b"held");
    lease.blob(&held);
    fixture.store.content().put(b"held", None).unwrap();
    let free = fixture.store.content().put(b"free", None).unwrap();
    let collected = fixture
        .store
        .collect_garbage(Duration::from_secs(60))
        .unwrap();
    assert!(collected.blobs.is_empty(), "both are young");
    let collected = fixture.store.collect_garbage(Duration::ZERO).unwrap();
    assert_eq!((collected.blobs, collected.bytes), (vec![free], 4));
    drop(lease);
    let collected = fixture.store.collect_garbage(Duration::ZERO).unwrap();
    assert_eq!(collected.blobs, [held]);
}

#[test]
fn an_unusable_record_hides_no_other() {
    let fixture = Fixture::new();
    let folder = fixture.directory.path();
    fixture.load(&archive(folder, "good", &["a"])).unwrap();
    let bad = fixture
        .load(&archive(folder, "bad", &["b"]))
        .unwrap()
        .remove(0)
        .image;
    fixture.store.content().delete(bad.id().digest()).unwrap();
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.images().len(), 1);
    fixture.store.resolve("good").unwrap();
    // Loading it again brings it back.
    let folder = tempfile::tempdir().unwrap();
    fixture
        .load(&archive(folder.path(), "bad", &["b"]))
        .unwrap();
    assert_eq!(fixture.reopen().store.images().len(), 2);
}
