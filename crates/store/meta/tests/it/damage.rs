//! Damage on disk: one bad record or page must cost that record or page, and be named.

use std::path::Path;

use havre_meta::Meta;

const DOCUMENTS: usize = 60;

fn id(number: usize) -> String {
    format!("document-{number:03}")
}

/// Long enough that pages hold few of them.
fn body(number: usize) -> String {
    format!(
        "{{\"number\":{number},\"filler\":\"{}\"}}",
        format!("body-{number:03}-").repeat(60)
    )
}

fn fill(path: &Path) -> Vec<u8> {
    let meta = Meta::open(path).unwrap();
    let pending: Vec<_> = (0..DOCUMENTS)
        .map(|n| meta.put("kind", &id(n), body(n)))
        .collect();
    for write in pending {
        write.wait().unwrap();
    }
    drop(meta);
    // All connections are closed, so everything is in the one file.
    fs_err::read(path).unwrap()
}

fn find(bytes: &[u8], text: &str) -> Vec<usize> {
    bytes
        .windows(text.len())
        .enumerate()
        .filter_map(|(at, window)| (window == text.as_bytes()).then_some(at))
        .collect()
}

/// Opens the damaged file; what is intact, and the names of what was set aside.
fn open(directory: &Path, bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    for entry in fs_err::read_dir(directory).unwrap() {
        fs_err::remove_file(entry.unwrap().path()).unwrap();
    }
    let path = directory.join("meta.db");
    fs_err::write(&path, bytes).unwrap();
    let meta = Meta::open(&path).unwrap();
    let intact = meta.list("kind").unwrap();
    for document in &intact {
        let number: usize = document.id["document-".len()..].parse().unwrap();
        assert_eq!(document.body, body(number).as_bytes(), "{}", document.id);
    }
    let set_aside = meta
        .quarantined()
        .into_iter()
        .map(|damaged| damaged.id)
        .collect();
    // It can be written to, and the next opening has nothing left to complain about.
    meta.put("kind", "document-999", body(999)).wait().unwrap();
    drop(meta);
    let meta = Meta::open(&path).unwrap();
    assert_eq!(meta.quarantined(), []);
    assert_eq!(meta.list("kind").unwrap().len(), intact.len() + 1);
    (
        intact.into_iter().map(|document| document.id).collect(),
        set_aside,
    )
}

#[test]
fn a_flipped_bit_in_any_document_costs_that_document_only() {
    let directory = tempfile::tempdir().unwrap();
    let good = fill(&directory.path().join("meta.db"));
    for number in 0..DOCUMENTS {
        let mut hit = false;
        // Pages that were split keep old copies of documents in their free space.
        for at in find(&good, &format!("{{\"number\":{number},")) {
            let mut bytes = good.clone();
            bytes[at + 100] ^= 0x04;
            let (intact, set_aside) = open(directory.path(), &bytes);
            assert_eq!(intact.len() + set_aside.len(), DOCUMENTS);
            assert!(
                set_aside.is_empty() || set_aside == [id(number)],
                "{set_aside:?}"
            );
            hit |= !set_aside.is_empty();
        }
        assert!(hit, "{number}");
    }
}

#[test]
fn a_flipped_bit_in_any_name_loses_no_document_or_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let good = fill(&directory.path().join("meta.db"));
    for number in 0..DOCUMENTS {
        for at in find(&good, &id(number)) {
            let mut bytes = good.clone();
            bytes[at + 3] ^= 0x01;
            let (intact, set_aside) = open(directory.path(), &bytes);
            assert!(intact.len() >= DOCUMENTS - 1, "{number}: {set_aside:?}");
            assert_eq!(
                intact.len() + set_aside.len(),
                DOCUMENTS,
                "{number}: {set_aside:?}"
            );
        }
    }
}

#[test]
fn any_page_may_be_lost() {
    let directory = tempfile::tempdir().unwrap();
    let good = fill(&directory.path().join("meta.db"));
    let pages = good.len() / 4096;
    assert!(pages > 10);
    let mut lost_most = 0;
    for page in 0..pages {
        for filler in [0, 0xa5] {
            let mut bytes = good.clone();
            bytes[page * 4096..(page + 1) * 4096].fill(filler);
            let (intact, set_aside) = open(directory.path(), &bytes);
            assert!(
                intact.len() == DOCUMENTS || !set_aside.is_empty(),
                "page {page}"
            );
            if intact.len() < DOCUMENTS - 10 {
                lost_most += 1;
            }
        }
    }
    // The first page and the roots of the trees have no second copy.
    assert!(lost_most <= 4, "{lost_most}");
}

#[test]
fn random_damage_never_stops_the_store_from_opening() {
    let directory = tempfile::tempdir().unwrap();
    let good = fill(&directory.path().join("meta.db"));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).unwrap()
    };
    for _ in 0..150 {
        let mut bytes = good.clone();
        for _ in 0..=next(20) {
            let at = next(bytes.len());
            bytes[at] ^= 1 << next(8);
        }
        if next(3) == 0 {
            bytes.truncate(next(bytes.len()));
        }
        open(directory.path(), &bytes);
    }
}

#[test]
fn the_damaged_file_is_kept_for_a_person_to_look_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    let mut bytes = fill(&path);
    bytes[..100].fill(0xff);
    fs_err::write(&path, &bytes).unwrap();
    let meta = Meta::open(&path).unwrap();
    let named = &meta.quarantined()[0];
    assert_eq!(named.reason, "nothing in the file can be read");
    assert_eq!(named.id, path.display().to_string());
    assert!(fs_err::read(directory.path().join("meta.db.damaged-1")).unwrap() == bytes);
}

#[test]
fn a_loss_is_known_until_a_person_has_seen_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    let good = fill(&path);
    let meta = Meta::open(&path).unwrap();
    assert!(!meta.has_lost("kind").unwrap());
    drop(meta);

    let mut one = good.clone();
    for at in find(&good, "{\"number\":7,") {
        one[at + 100] ^= 0x04;
    }
    fs_err::write(&path, &one).unwrap();
    for _ in 0..2 {
        let meta = Meta::open(&path).unwrap();
        assert!(meta.has_lost("kind").unwrap());
        assert!(!meta.has_lost("other").unwrap());
    }

    fs_err::write(&path, &good[..5000]).unwrap();
    for _ in 0..2 {
        assert!(Meta::open(&path).unwrap().has_lost("other").unwrap());
    }
}
