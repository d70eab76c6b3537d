//! Blobs that are there.

use std::io::Read as _;

use havre_content::{ContentError, ContentStore};
use havre_types::{Classify as _, Digest, ErrorKind};

fn store() -> (tempfile::TempDir, ContentStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = ContentStore::open(&directory.path().join("content")).unwrap();
    (directory, store)
}

#[test]
fn blobs_lie_where_an_oci_layout_has_them() {
    let (_directory, store) = store();
    let digest = store.put(b"hello", None).unwrap();
    assert_eq!(digest, Digest::sha256_of(b"hello"));
    let path = store.root().join("blobs/sha256").join(digest.hex());
    assert_eq!(fs_err::read(&path).unwrap(), b"hello");
    assert_eq!(store.path(&digest), path);
    let layout = fs_err::read_to_string(store.root().join("oci-layout")).unwrap();
    assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
    let again = ContentStore::open(store.root()).unwrap();
    let mut text = String::new();
    again
        .blob(&digest)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!((text.as_str(), again.size(&digest).unwrap()), ("hello", 5));
    assert!(again.contains(&digest));
}

#[test]
fn other_algorithms_are_verified_too() {
    let (_directory, store) = store();
    // `printf abc | sha512sum`
    let text = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    let digest = Digest::parse(text).unwrap();
    assert_eq!(store.put(b"abc", Some(&digest)).unwrap(), digest);
    store
        .put(b"abd", Some(&digest))
        .expect_err("other bytes were stored");
    assert_eq!(store.read_limited(&digest, 3).unwrap(), b"abc");
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn reading_is_limited_and_verified() {
    let (_directory, store) = store();
    let digest = store.put(b"12345", None).unwrap();
    assert_eq!(store.read_limited(&digest, 5).unwrap(), b"12345");
    let error = store.read_limited(&digest, 4).unwrap_err();
    assert!(matches!(
        error,
        ContentError::TooLarge {
            size: 5,
            limit: 4,
            ..
        }
    ));
    store.verify(&digest).unwrap();
    fs_err::write(store.path(&digest), b"12346").unwrap();
    for error in [
        store.read_limited(&digest, 5).unwrap_err(),
        store.verify(&digest).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::DataLoss);
    }
}

#[test]
fn what_is_deleted_is_gone_and_listed_no_more() {
    let (_directory, store) = store();
    let one = store.put(b"one", None).unwrap();
    let two = store.put(b"two", None).unwrap();
    fs_err::write(store.root().join("blobs/sha256/not-a-digest"), "").unwrap();
    let mut expected = vec![(one.clone(), 3), (two.clone(), 3)];
    expected.sort_by_key(|(digest, _)| digest.to_string());
    let listed = store.list().unwrap();
    let found: Vec<_> = listed
        .into_iter()
        .map(|blob| (blob.digest, blob.size))
        .collect();
    assert_eq!(found, expected);
    let mut open = store.blob(&one).unwrap();
    assert!(store.delete(&one).unwrap());
    assert!(!store.delete(&one).unwrap());
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one");
    let error = store.blob(&one).unwrap_err();
    assert_eq!(error.to_string(), format!("blob `{one}` not found"));
    assert_eq!(
        (error.kind(), store.contains(&one)),
        (ErrorKind::NotFound, false)
    );
}
