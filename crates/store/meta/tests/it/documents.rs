//! Documents: written, read, listed, in order, by many at once.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use havre_meta::{Batch, Document, Meta, OpenError};

fn meta() -> (tempfile::TempDir, Meta) {
    let directory = tempfile::tempdir().unwrap();
    let meta = Meta::open(&directory.path().join("meta.db")).unwrap();
    (directory, meta)
}

fn document(id: &str, body: &str) -> Document {
    Document {
        id: id.to_owned(),
        body: body.as_bytes().to_vec(),
    }
}

#[test]
fn documents_are_kept_by_kind_and_id() {
    let (directory, meta) = meta();
    meta.put("container", "b", "1").wait().unwrap();
    meta.put("container", "a", "2").wait().unwrap();
    meta.put("image", "a", "3").wait().unwrap();
    meta.put("container", "b", "4").wait().unwrap();
    let expected = [document("a", "2"), document("b", "4")];
    assert_eq!(meta.list("container").unwrap(), expected);
    assert_eq!(meta.get("image", "a").unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(meta.get("image", "b").unwrap(), None);
    assert_eq!(meta.list("nothing").unwrap(), []);
    drop(meta);
    let meta = Meta::open(&directory.path().join("meta.db")).unwrap();
    assert_eq!(meta.list("container").unwrap(), expected);
    meta.delete("container", "a").wait().unwrap();
    meta.delete("container", "never").wait().unwrap();
    assert_eq!(meta.list("container").unwrap(), [document("b", "4")]);
    assert!(meta.quarantined().is_empty());
}

#[test]
fn any_text_and_bytes_are_kept() {
    let (_directory, meta) = meta();
    let id = "quote ' \" \0 ünïcödé\n";
    let body: Vec<u8> = (0..=255).collect();
    meta.put("kind", id, body.clone()).wait().unwrap();
    meta.put("kind", "", Vec::new()).wait().unwrap();
    assert_eq!(meta.get("kind", id).unwrap(), Some(body));
    assert_eq!(meta.get("kind", "").unwrap(), Some(Vec::new()));
    assert_eq!(meta.list("kind").unwrap().len(), 2);
}

#[test]
fn a_batch_is_applied_in_order_and_later_ones_after_it() {
    let (_directory, meta) = meta();
    let batch = Batch::new()
        .put("k", "a", "1")
        .delete("k", "a")
        .put("k", "b", "2");
    let first = meta.write(batch);
    let second = meta.write(Batch::new().delete("k", "b").put("k", "c", "3"));
    second.wait().unwrap();
    first.wait().unwrap();
    assert_eq!(meta.list("k").unwrap(), [document("c", "3")]);
    meta.write(Batch::new()).wait().unwrap();
}

#[test]
fn a_pending_write_is_a_future_too() {
    let (_directory, meta) = meta();
    let mut pending = pin!(meta.put("k", "a", "1"));
    let mut context = Context::from_waker(Waker::noop());
    let result = loop {
        if let Poll::Ready(result) = pending.as_mut().poll(&mut context) {
            break result;
        }
        std::thread::yield_now();
    };
    result.unwrap();
    assert!(meta.get("k", "a").unwrap().is_some());
}

#[test]
fn writers_at_the_same_time_share_commits_and_lose_nothing() {
    let (directory, meta) = meta();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let meta = meta.clone();
            scope.spawn(move || {
                let pending: Vec<_> = (0..100)
                    .map(|n| meta.put("k", &format!("{thread}-{n}"), format!("{n}")))
                    .collect();
                for write in pending {
                    write.wait().unwrap();
                }
                assert!(meta.get("k", &format!("{thread}-99")).unwrap().is_some());
            });
        }
    });
    drop(meta);
    let meta = Meta::open(&directory.path().join("meta.db")).unwrap();
    assert_eq!(meta.list("k").unwrap().len(), 800);
}

#[test]
fn dropping_the_store_waits_for_what_was_queued() {
    let (directory, meta) = meta();
    let pending: Vec<_> = (0..500)
        .map(|n| meta.put("k", &n.to_string(), "x"))
        .collect();
    drop(meta);
    for write in pending {
        write.wait().unwrap();
    }
    let meta = Meta::open(&directory.path().join("meta.db")).unwrap();
    assert_eq!(meta.list("k").unwrap().len(), 500);
}

#[test]
fn files_of_others_and_of_the_future_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    for signature in ["PRAGMA application_id = 7;", ""] {
        let path = directory.path().join(format!("{}.db", signature.len()));
        let other = rusqlite::Connection::open(&path).unwrap();
        other
            .execute_batch(&format!("{signature} CREATE TABLE t(a);"))
            .unwrap();
        drop(other);
        let before = fs_err::read(&path).unwrap();
        assert!(matches!(Meta::open(&path), Err(OpenError::Foreign { .. })));
        assert!(fs_err::read(&path).unwrap() == before);
    }

    let path = directory.path().join("ours.db");
    drop(Meta::open(&path).unwrap());
    let ours = rusqlite::Connection::open(&path).unwrap();
    ours.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(ours);
    let error = Meta::open(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("written by a newer version (format 99, known up to 1)")
    );
    Meta::open("/no/such/directory/meta.db".as_ref()).expect_err("opened");
}
