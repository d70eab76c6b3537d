//! Blobs that arrive: verified before they show, resumed where they stopped, one writer at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use havre_content::{ContentStore, IngestError};
use havre_types::{Classify as _, Digest, ErrorKind};

fn store() -> (tempfile::TempDir, ContentStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = ContentStore::open(directory.path()).unwrap();
    (directory, store)
}

#[test]
fn nothing_shows_before_it_is_committed() {
    let (_directory, store) = store();
    let digest = Digest::sha256_of(b"hello world");
    let mut ingest = store.ingest("key", Some(&digest), Some(11)).unwrap();
    ingest.write(b"hello ").unwrap();
    ingest.write(b"world").unwrap();
    assert!(!store.contains(&digest) && store.list().unwrap().is_empty());
    assert_eq!(ingest.commit().unwrap(), digest);
    assert!(store.contains(&digest));
    assert!(store.partials().unwrap().is_empty());
    assert_eq!(
        fs_err::read_dir(store.root().join("ingest"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let (_directory, store) = store();
    let digest = Digest::sha256_of(b"right");
    let mut ingest = store.ingest("key", Some(&digest), Some(5)).unwrap();
    ingest.write(b"wrong").unwrap();
    let error = ingest.commit().unwrap_err();
    assert!(matches!(error, IngestError::Digest { .. }));
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(store.partials().unwrap().is_empty() && store.list().unwrap().is_empty());
    assert_eq!(
        store
            .ingest("key", Some(&digest), Some(5))
            .unwrap()
            .offset(),
        0
    );
}

#[test]
fn a_wrong_size_is_refused_and_a_short_part_is_kept() {
    let (_directory, store) = store();
    let digest = Digest::sha256_of(b"12345");
    let mut ingest = store.ingest("key", Some(&digest), Some(5)).unwrap();
    ingest.write(b"1234").unwrap();
    let error = ingest.write(b"56").unwrap_err();
    assert!(matches!(
        error,
        IngestError::Size {
            expected: 5,
            actual: 6,
            ..
        }
    ));
    let error = ingest.commit().unwrap_err();
    assert_eq!(error.to_string(), "`key` has 4 bytes, expected 5");
    let mut ingest = store.ingest("key", Some(&digest), Some(5)).unwrap();
    assert_eq!(ingest.offset(), 4);
    ingest.write(b"5").unwrap();
    assert_eq!(ingest.commit().unwrap(), digest);
    // Too much on disk for what is expected now: begun anew.
    store
        .ingest("other", None, None)
        .unwrap()
        .write(b"123456")
        .unwrap();
    assert_eq!(
        store
            .ingest("other", Some(&digest), Some(5))
            .unwrap()
            .offset(),
        0
    );
}

#[test]
fn a_restart_forgets_what_was_there() {
    let (_directory, store) = store();
    let mut ingest = store.ingest("key", None, None).unwrap();
    ingest.write(b"first attempt").unwrap();
    ingest.restart().unwrap();
    ingest.write(b"second").unwrap();
    assert_eq!(ingest.commit().unwrap(), Digest::sha256_of(b"second"));
}

#[test]
fn a_damaged_part_is_noticed_at_the_end() {
    let (_directory, store) = store();
    let digest = Digest::sha256_of(b"hello world");
    let mut ingest = store.ingest("key", Some(&digest), Some(11)).unwrap();
    ingest.write(b"hello ").unwrap();
    drop(ingest);
    // As after a power cut: the length survived, the bytes did not.
    let partial = &store.partials().unwrap()[0];
    assert_eq!((partial.key.as_str(), partial.size), ("key", 6));
    let directory = fs_err::read_dir(store.root().join("ingest"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    fs_err::write(directory.path().join("data"), [0; 6]).unwrap();
    let mut ingest = store.ingest("key", Some(&digest), Some(11)).unwrap();
    ingest.write(b"world").unwrap();
    ingest.commit().expect_err("zeros were committed");
    let mut ingest = store.ingest("key", Some(&digest), Some(11)).unwrap();
    assert_eq!(ingest.offset(), 0);
    ingest.write(b"hello world").unwrap();
    ingest.commit().unwrap();
}

#[test]
fn a_key_has_one_user_at_a_time() {
    let (_directory, store) = store();
    let mut ingest = store.ingest("key", None, None).unwrap();
    ingest.write(b"x").unwrap();
    for error in [
        store.ingest("key", None, None).unwrap_err(),
        store.discard("key").unwrap_err(),
    ] {
        assert!(matches!(error, IngestError::Busy { .. }));
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    store
        .ingest("another", None, None)
        .unwrap()
        .abort()
        .unwrap();
    drop(ingest);
    assert!(store.discard("key").unwrap());
    assert!(!store.discard("key").unwrap());
    assert!(store.partials().unwrap().is_empty());
    let too_long = "k".repeat(5000);
    assert!(matches!(
        store.ingest(&too_long, None, None),
        Err(IngestError::Key { length: 5000 })
    ));
    // No key is a path.
    store
        .ingest("../../x/../y", None, None)
        .unwrap()
        .write(b"z")
        .unwrap();
    assert_eq!(store.partials().unwrap()[0].key, "../../x/../y");
}

#[test]
fn the_same_bytes_may_be_put_by_many_at_once() {
    let (_directory, store) = store();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..20_u8 {
                    store.put(&[round; 1000], None).unwrap();
                }
            });
        }
    });
    assert_eq!(store.list().unwrap().len(), 20);
    for blob in store.list().unwrap() {
        store.verify(&blob.digest).unwrap();
    }
    assert!(store.partials().unwrap().is_empty());
}

#[test]
fn contenders_for_a_key_take_turns() {
    let (_directory, store) = store();
    let committed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut own = 0;
                while own < 25 {
                    match store.ingest("contended", None, Some(4)) {
                        Ok(mut ingest) => {
                            ingest.restart().unwrap();
                            ingest.write(b"data").unwrap();
                            ingest.commit().unwrap();
                            committed.fetch_add(1, Ordering::Relaxed);
                            own += 1;
                        }
                        Err(IngestError::Busy { .. }) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(committed.into_inner(), 100);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn a_commit_that_fails_in_its_last_step_keeps_nothing() {
    let (_directory, store) = store();
    let mut ingest = store.ingest("key", None, None).unwrap();
    ingest.write(b"data").unwrap();
    fs_err::remove_dir(store.root().join("blobs/sha256")).unwrap();
    let error = ingest.commit().unwrap_err();
    assert!(matches!(error, IngestError::Io { .. }));
    assert!(store.partials().unwrap().is_empty());
}

#[test]
fn bytes_that_were_not_hashed_are_not_published() {
    use std::io::Write as _;
    let (_directory, store) = store();
    let digest = Digest::sha256_of(b"0123456789");
    let mut ingest = store.ingest("key", Some(&digest), Some(10)).unwrap();
    ingest.write(b"0123456789").unwrap();
    // As a write leaves it that failed half way, on a disk that is full.
    let mut entries = fs_err::read_dir(store.root().join("ingest")).unwrap();
    let data = entries.next().unwrap().unwrap().path().join("data");
    let mut file = fs_err::OpenOptions::new().append(true).open(data).unwrap();
    file.write_all(b"x").unwrap();
    ingest.commit().unwrap_err();
    assert!(!store.contains(&digest));
}
