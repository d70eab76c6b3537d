//! Layers unpacked before their parents are known.

use havre_layer::{ApplyError, ApplyOptions, EntryProblem, Mtime, Stack, apply, fix_up};

use crate::tree::{Place, archive, directory, file, hard_link, read};

#[test]
fn a_hard_link_to_a_file_of_the_parents_copies_it_up() {
    let (lower, upper) = (Place::new(), Place::new());
    let mut original = file("data/original", 0o640);
    original.uid = 5;
    original.mtime = Mtime {
        seconds: 99,
        nanos: 7,
    };
    original.xattrs = vec![(b"user.k".to_vec(), b"v".to_vec())];
    let mut data = directory("data", 0o750);
    data.mtime = Mtime {
        seconds: 55,
        nanos: 0,
    };
    let below = archive(&[(data.clone(), ""), (original, "content")]);
    apply(below.as_slice(), &lower.root(), &ApplyOptions::layer()).unwrap();
    let mut links = directory("links", 0o755);
    links.mtime = Mtime {
        seconds: 66,
        nanos: 0,
    };
    let above = archive(&[
        (links, ""),
        (hard_link("links/one", "data/original"), ""),
        (hard_link("links/two", "links/one"), ""),
    ]);
    let applied = apply(above.as_slice(), &upper.root(), &ApplyOptions::layer()).unwrap();
    assert_eq!(applied.fixups.links.len(), 2);
    let before = read(&lower.path());
    fix_up(
        &upper.root(),
        &Stack::new(vec![lower.root()]),
        &applied.fixups,
    )
    .unwrap();
    assert_eq!(read(&lower.path()), before);
    let tree = read(&upper.path());
    assert_eq!(tree["links/one"].first_name, "data/original");
    assert_eq!(tree["links/two"].first_name, "data/original");
    let file = &tree["data/original"];
    assert_eq!(
        (file.mode, file.owner, file.mtime),
        (0o640, (5, 0), (99, 7))
    );
    assert_eq!(
        (file.content.as_slice(), file.xattrs["user.k"].as_slice()),
        (&b"content"[..], &b"v"[..])
    );
    assert_eq!((tree["data"].mode, tree["data"].mtime), (0o750, (55, 0)));
    assert_eq!(tree["links"].mtime, (66, 0));
}

#[test]
fn a_hard_link_to_nothing_is_an_error_that_names_both() {
    let (lower, upper) = (Place::new(), Place::new());
    let tar = archive(&[(hard_link("one", "missing"), "")]);
    let applied = apply(tar.as_slice(), &upper.root(), &ApplyOptions::layer()).unwrap();
    let error = fix_up(
        &upper.root(),
        &Stack::new(vec![lower.root()]),
        &applied.fixups,
    );
    let Err(error @ ApplyError::Refused { .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        havre_types::chain(&error),
        "entry `one` refused: the target `missing` of the hard link does not exist"
    );
}

#[test]
fn a_link_that_a_later_entry_replaces_is_not_made() {
    let upper = Place::new();
    let tar = archive(&[
        (hard_link("one", "missing"), ""),
        (file("one", 0o644), "real"),
    ]);
    let applied = apply(tar.as_slice(), &upper.root(), &ApplyOptions::layer()).unwrap();
    assert!(applied.fixups.links.is_empty());
    assert_eq!(read(&upper.path())["one"].content, b"real");
}

#[test]
fn a_file_that_the_layer_itself_hides_cannot_be_linked_to() {
    let (lower, upper) = (Place::new(), Place::new());
    let below = archive(&[(file("old", 0o644), "old")]);
    apply(below.as_slice(), &lower.root(), &ApplyOptions::layer()).unwrap();
    let tar = archive(&[(file(".wh.old", 0o600), ""), (hard_link("new", "old"), "")]);
    let applied = apply(tar.as_slice(), &upper.root(), &ApplyOptions::layer()).unwrap();
    let error = fix_up(
        &upper.root(),
        &Stack::new(vec![lower.root()]),
        &applied.fixups,
    );
    let Err(ApplyError::Refused {
        source: EntryProblem::LinkMissing { .. },
        ..
    }) = error
    else {
        panic!("{error:?}");
    };
}

#[test]
fn implicit_directories_are_looked_up_through_all_parents() {
    let (bottom, middle, upper) = (Place::new(), Place::new(), Place::new());
    let mut tmp = directory("var/tmp", 0o1777);
    tmp.mtime = Mtime {
        seconds: 11,
        nanos: 0,
    };
    let mut root = directory("./", 0o711);
    root.gid = 3;
    let tar = archive(&[(root, ""), (directory("var", 0o755), ""), (tmp, "")]);
    apply(tar.as_slice(), &bottom.root(), &ApplyOptions::layer()).unwrap();
    let tar = archive(&[(directory("./", 0o751), ""), (file("etc/x", 0o644), "")]);
    apply(tar.as_slice(), &middle.root(), &ApplyOptions::layer()).unwrap();
    let tar = archive(&[(file("var/tmp/f", 0o600), "f")]);
    let applied = apply(tar.as_slice(), &upper.root(), &ApplyOptions::layer()).unwrap();
    let parents = Stack::new(vec![middle.root(), bottom.root()]);
    fix_up(&upper.root(), &parents, &applied.fixups).unwrap();
    let tree = read(&upper.path());
    assert_eq!(
        (tree["var/tmp"].mode, tree["var/tmp"].mtime),
        (0o1777, (11, 0))
    );
    assert_eq!(tree[""].mode, 0o751);
}
