//! Whiteouts in both forms. The removing form is the model of what overlayfs must show.

use havre_layer::{ApplyOptions, Stack, apply, flatten};

use crate::tree::{Place, archive, directory, file, read, read_timeless, symlink};

type Entries = Vec<(havre_layer::Entry, &'static str)>;

fn base() -> Entries {
    vec![
        (directory("a", 0o755), ""),
        (file("a/keep", 0o644), "old keep"),
        (file("a/gone", 0o644), "old gone"),
        (directory("a/dir", 0o755), ""),
        (file("a/dir/x", 0o644), "old x"),
        (directory("a/dir/deep", 0o755), ""),
        (file("a/dir/deep/y", 0o644), "old y"),
        (directory("b", 0o700), ""),
        (file("b/one", 0o644), "one"),
        (symlink("link", "a"), ""),
    ]
}

/// The same layer, once on its parents in place and once in its own directory with overlayfs
/// whiteouts, merged with the stack; both must show the same.
fn both(layer: &Entries) -> crate::tree::Tree {
    let (merged, lower, upper, flat) = (Place::new(), Place::new(), Place::new(), Place::new());
    let below = archive(&base());
    let above = archive(layer);
    apply(
        below.as_slice(),
        &merged.root(),
        &ApplyOptions::on_parents(),
    )
    .unwrap();
    apply(
        above.as_slice(),
        &merged.root(),
        &ApplyOptions::on_parents(),
    )
    .unwrap();
    apply(below.as_slice(), &lower.root(), &ApplyOptions::layer()).unwrap();
    let applied = apply(above.as_slice(), &upper.root(), &ApplyOptions::layer()).unwrap();
    havre_layer::fix_up(
        &upper.root(),
        &Stack::new(vec![lower.root()]),
        &applied.fixups,
    )
    .unwrap();
    flatten(&Stack::new(vec![upper.root(), lower.root()]), &flat.root()).unwrap();
    let model = read_timeless(&merged.path());
    assert_eq!(read_timeless(&flat.path()), model);
    model
}

#[test]
fn a_whiteout_hides_a_file_or_a_directory() {
    let tree = both(&vec![
        (file("a/.wh.gone", 0o600), ""),
        (file("a/.wh.dir", 0o600), ""),
    ]);
    assert!(tree.contains_key("a/keep"));
    assert!(
        !tree
            .keys()
            .any(|name| name == "a/gone" || name.starts_with("a/dir"))
    );
}

#[test]
fn a_whiteout_of_nothing_does_nothing() {
    let tree = both(&vec![
        (file("no/such/.wh.file", 0o600), ""),
        (file(".wh.absent", 0o600), ""),
    ]);
    assert_eq!(tree["a/keep"].content, b"old keep");
}

#[test]
fn an_opaque_directory_shows_only_its_own_layer_wherever_the_mark_stands() {
    for order in [0, 1] {
        let mut layer = vec![(directory("a", 0o711), ""), (file("a/new", 0o644), "new")];
        layer.insert(1 + order, (file("a/.wh..wh..opq", 0o600), ""));
        let tree = both(&layer);
        let names: Vec<&str> = tree
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("a"))
            .collect();
        assert_eq!(names, ["a", "a/new"]);
        assert_eq!(tree["a"].mode, 0o711);
    }
}

#[test]
fn a_name_hidden_and_made_again_shows_only_the_new_one() {
    for order in [0, 1] {
        let mut layer = vec![
            (directory("a/dir", 0o700), ""),
            (file("a/dir/z", 0o644), "new z"),
        ];
        layer.insert(order * 2, (file("a/.wh.dir", 0o600), ""));
        let tree = both(&layer);
        let names: Vec<&str> = tree
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("a/dir"))
            .collect();
        assert_eq!(names, ["a/dir", "a/dir/z"]);
    }
    // Without an entry for the directory itself.
    let tree = both(&vec![
        (file("a/.wh.dir", 0o600), ""),
        (file("a/dir/z", 0o644), "new z"),
    ]);
    assert!(!tree.contains_key("a/dir/x"));
    assert_eq!(tree["a/dir/z"].content, b"new z");
    // A file in its place.
    let tree = both(&vec![
        (file("a/.wh.dir", 0o600), ""),
        (file("a/dir", 0o644), "file"),
    ]);
    assert_eq!(tree["a/dir"].content, b"file");
}

#[test]
fn the_root_can_be_opaque() {
    let tree = both(&vec![
        (file(".wh..wh..opq", 0o600), ""),
        (file("only", 0o644), ""),
    ]);
    assert_eq!(
        tree.keys().map(String::as_str).collect::<Vec<_>>(),
        ["", "only"]
    );
}

#[test]
fn records_of_aufs_are_skipped() {
    let tree = both(&vec![
        (directory(".wh..wh.plnk", 0o700), ""),
        (file(".wh..wh.plnk/1.2", 0o600), "x"),
        (file(".wh..wh.aufs", 0o600), ""),
    ]);
    assert!(tree.keys().all(|name| !name.contains(".wh.")));
}

#[test]
fn an_archive_that_is_no_layer_keeps_such_names() {
    let place = Place::new();
    let tar = archive(&[(file(".wh.name", 0o644), "content")]);
    apply(tar.as_slice(), &place.root(), &ApplyOptions::archive()).unwrap();
    assert_eq!(read(&place.path())[".wh.name"].content, b"content");
}

#[test]
fn implicit_directories_keep_what_the_parents_say() {
    let tree = both(&vec![
        (file("b/two", 0o644), "two"),
        (file("new/dir/f", 0o644), "f"),
    ]);
    assert_eq!(tree["b"].mode, 0o700);
    assert_eq!(tree["new/dir"].mode, 0o755);
    assert_eq!(tree["b/one"].content, b"one");
}
