//! What every snapshot driver must do. Each test gets a function that opens the driver under test.

use havre_layer::{ExportOptions, Fixups};
use havre_snapshot::{Kind, LayerCommit, SnapshotError};
use havre_types::{Classify as _, ErrorKind};

use crate::mounting::mount;
use crate::store::{Open, Store};

fn three_layers(store: &Store<'_>) {
    store.layer(
        "base",
        None,
        &[
            ("./", "711"),
            ("tmp/", "1777"),
            ("etc/", "755"),
            ("etc/a", "a1"),
            ("etc/b", "b1"),
            ("gone/", "755"),
            ("gone/x", "x"),
        ],
    );
    store.layer(
        "middle",
        Some("base"),
        &[("etc/b", "b2"), (".wh.gone", ""), ("tmp/t", "t")],
    );
    store.layer(
        "top",
        Some("middle"),
        &[("etc/c", "c3"), ("linked", "=> etc/a")],
    );
}

pub(crate) fn a_container_sees_all_layers_and_writes_only_its_own(open: Open<'_>) {
    use std::os::unix::fs::MetadataExt as _;
    let store = Store::new(open);
    three_layers(&store);
    for key in ["one", "two"] {
        store.snapshots.prepare(key, Some("top")).unwrap();
    }
    let one = mount(&*store.snapshots, "one");
    assert!(one.writable);
    assert_eq!(one.names(""), ["etc", "linked", "tmp"]);
    assert_eq!(one.read("etc/a").as_deref(), Some("a1"));
    assert_eq!(one.read("etc/b").as_deref(), Some("b2"));
    assert_eq!(one.read("etc/c").as_deref(), Some("c3"));
    assert_eq!(one.read("linked").as_deref(), Some("a1"));
    let mode = |name: &str| fs_err::metadata(one.path().join(name)).unwrap().mode() & 0o7777;
    // The middle layer has no entry for tmp, nor any layer above the base for the root.
    assert_eq!((mode("tmp"), mode(".")), (0o1777, 0o711));
    fs_err::write(one.path().join("etc/a"), "changed").unwrap();
    fs_err::remove_file(one.path().join("etc/b")).unwrap();
    fs_err::write(one.path().join("new"), "new").unwrap();
    let two = mount(&*store.snapshots, "two");
    assert_eq!(two.read("etc/a").as_deref(), Some("a1"));
    assert_eq!(two.read("etc/b").as_deref(), Some("b2"));
    assert_eq!(two.read("new"), None);
    drop((one, two));
    let again = mount(&*store.snapshots, "one");
    assert_eq!(again.read("etc/a").as_deref(), Some("changed"));
    assert_eq!(again.read("etc/b"), None);
}

pub(crate) fn layers_unpacked_apart_come_together_in_order(open: Open<'_>) {
    let store = Store::new(open);
    // In the wrong order, as a parallel pull may finish them.
    let mut layers = Vec::new();
    for (name, parent, entries) in [
        (
            "c",
            Some("b"),
            &[("shared/three", "3"), ("all/.wh.one", "")][..],
        ),
        (
            "b",
            Some("a"),
            &[("shared/two", "2"), ("all/two", "=> all/one")][..],
        ),
        (
            "a",
            None,
            &[
                ("shared/", "700"),
                ("shared/one", "1"),
                ("all/", "750"),
                ("all/one", "x"),
            ][..],
        ),
    ] {
        let fixups = store.unpack(&format!("un-{name}"), entries);
        layers.push(LayerCommit {
            key: format!("un-{name}"),
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            fixups,
        });
    }
    layers.reverse();
    store.snapshots.commit_layers(&layers).unwrap();
    store.snapshots.prepare("run", Some("c")).unwrap();
    let run = mount(&*store.snapshots, "run");
    assert_eq!(run.names("shared"), ["one", "three", "two"]);
    assert_eq!(run.names("all"), ["two"]);
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs_err::metadata(run.path().join("shared")).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o700);
    for name in ["a", "b", "c"] {
        assert_eq!(store.snapshots.stat(name).unwrap().kind, Kind::Committed);
        let gone = store.snapshots.stat(&format!("un-{name}")).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}

pub(crate) fn a_view_cannot_be_written_and_shows_its_parent(open: Open<'_>) {
    let store = Store::new(open);
    three_layers(&store);
    for (key, parent) in [("many", Some("top")), ("one", Some("base")), ("none", None)] {
        store.snapshots.view(key, parent).unwrap();
        let view = mount(&*store.snapshots, key);
        assert!(!view.writable, "{key}");
        assert_eq!(store.snapshots.stat(key).unwrap().kind, Kind::View);
    }
    assert_eq!(
        mount(&*store.snapshots, "many").read("etc/c").as_deref(),
        Some("c3")
    );
    assert_eq!(
        mount(&*store.snapshots, "one").read("gone/x").as_deref(),
        Some("x")
    );
    assert!(mount(&*store.snapshots, "none").names("").is_empty());
    let error = store.snapshots.commit("name", "many").unwrap_err();
    assert!(
        matches!(
            error,
            SnapshotError::WrongKind {
                found: Kind::View,
                ..
            }
        ),
        "{error}"
    );
}

pub(crate) fn an_active_snapshot_becomes_a_parent(open: Open<'_>) {
    let store = Store::new(open);
    store.snapshots.prepare("first", None).unwrap();
    let first = mount(&*store.snapshots, "first");
    assert!(first.writable);
    fs_err::write(first.path().join("file"), "one").unwrap();
    drop(first);
    store.snapshots.commit("layer1", "first").unwrap();
    store.snapshots.prepare("second", Some("layer1")).unwrap();
    let second = mount(&*store.snapshots, "second");
    assert_eq!(second.read("file").as_deref(), Some("one"));
    fs_err::remove_file(second.path().join("file")).unwrap();
    fs_err::write(second.path().join("other"), "two").unwrap();
    drop(second);
    store.snapshots.commit("layer2", "second").unwrap();
    let store = store.reopen();
    store.snapshots.prepare("third", Some("layer2")).unwrap();
    let third = mount(&*store.snapshots, "third");
    assert_eq!(third.names(""), ["other"]);
    assert_eq!(
        store.snapshots.stat("layer2").unwrap().parent.as_deref(),
        Some("layer1")
    );
}

pub(crate) fn keys_are_unique_and_kinds_are_respected(open: Open<'_>) {
    let store = Store::new(open);
    let snapshots = &store.snapshots;
    store.layer("base", None, &[("a", "a")]);
    snapshots.prepare("active", Some("base")).unwrap();
    assert!(matches!(
        snapshots.prepare("active", None),
        Err(SnapshotError::Exists { .. })
    ));
    assert!(matches!(
        snapshots.prepare("base", None),
        Err(SnapshotError::Exists { .. })
    ));
    assert!(matches!(
        snapshots.view("active", None),
        Err(SnapshotError::Exists { .. })
    ));
    assert!(matches!(
        snapshots.prepare_detached("base"),
        Err(SnapshotError::Exists { .. })
    ));
    assert!(matches!(
        snapshots.prepare("", None),
        Err(SnapshotError::EmptyKey)
    ));
    let missing = snapshots.prepare("x", Some("missing")).unwrap_err();
    assert_eq!(missing.to_string(), "snapshot `missing` not found");
    let wrong = snapshots.prepare("x", Some("active")).unwrap_err();
    assert!(matches!(
        wrong,
        SnapshotError::WrongKind {
            found: Kind::Active,
            ..
        }
    ));
    assert!(matches!(
        snapshots.commit("base", "active"),
        Err(SnapshotError::Exists { .. })
    ));
    assert!(matches!(
        snapshots.mounts("base"),
        Err(SnapshotError::WrongKind { .. })
    ));
    assert!(matches!(
        snapshots.mounts("missing"),
        Err(SnapshotError::NotFound { .. })
    ));
    assert!(matches!(
        snapshots.remove("missing"),
        Err(SnapshotError::NotFound { .. })
    ));
    // A key that could not be made is free again.
    snapshots.prepare("x", Some("base")).unwrap();
    let keys: Vec<String> = snapshots.walk().into_iter().map(|info| info.key).collect();
    assert_eq!(keys, ["active", "base", "x"]);
}

pub(crate) fn parents_cannot_be_removed_before_children(open: Open<'_>) {
    let store = Store::new(open);
    three_layers(&store);
    store.snapshots.prepare("run", Some("top")).unwrap();
    for (key, child) in [("base", "middle"), ("middle", "top"), ("top", "run")] {
        let error = store.snapshots.remove(key).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("snapshot `{key}` is the parent of `{child}`")
        );
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    for key in ["run", "top", "middle", "base"] {
        store.snapshots.remove(key).unwrap();
    }
    assert!(store.snapshots.walk().is_empty());
}

pub(crate) fn removed_snapshots_leave_nothing_behind(open: Open<'_>) {
    let store = Store::new(open);
    three_layers(&store);
    store.snapshots.prepare("run", Some("top")).unwrap();
    let detached = store.unpack("half", &[("file", "content")]);
    assert!(detached.links.is_empty());
    for key in ["half", "run", "top", "middle", "base"] {
        store.snapshots.remove(key).unwrap();
    }
    let store = store.reopen();
    assert_eq!(store.directories(), [""; 0]);
    assert!(store.snapshots.lost().is_empty());
    assert!(store.snapshots.walk().is_empty());
    // Dropping waits for the trash, so opening again has found it empty.
    assert_eq!(
        fs_err::read_dir(store.root().join("trash"))
            .unwrap()
            .count(),
        0
    );
}

pub(crate) fn the_space_of_what_was_removed_can_be_waited_for(open: Open<'_>) {
    let store = Store::new(open);
    three_layers(&store);
    store.snapshots.prepare("one", Some("top")).unwrap();
    let one = mount(&*store.snapshots, "one");
    for number in 0..500 {
        fs_err::write(one.path().join(format!("file-{number}")), "text").unwrap();
    }
    drop(one);
    store.snapshots.remove("one").unwrap();
    store
        .snapshots
        .wait_for_space(std::time::Duration::from_secs(60));
    let left = fs_err::read_dir(store.root().join("trash")).unwrap();
    assert_eq!(left.count(), 0);
}

pub(crate) fn everything_is_there_after_opening_again(open: Open<'_>) {
    let store = Store::new(open);
    three_layers(&store);
    store.snapshots.prepare("run", Some("top")).unwrap();
    fs_err::write(mount(&*store.snapshots, "run").path().join("own"), "own").unwrap();
    let before = store.snapshots.walk();
    let store = store.reopen();
    assert_eq!(store.snapshots.walk(), before);
    assert_eq!(store.snapshots.lost(), [""; 0]);
    assert_eq!(
        mount(&*store.snapshots, "run").read("own").as_deref(),
        Some("own")
    );
    // Numbers are not given twice.
    store.snapshots.prepare("another", Some("top")).unwrap();
    assert_eq!(mount(&*store.snapshots, "another").read("own"), None);
}

pub(crate) fn what_was_not_recorded_is_swept(open: Open<'_>) {
    let store = Store::new(open);
    store.layer("base", None, &[("a", "a")]);
    store.unpack("half", &[("file", "content")]);
    fs_err::create_dir_all(store.root().join("4711/fs/left")).unwrap();
    fs_err::create_dir_all(store.root().join("trash/12/fs/left")).unwrap();
    let store = store.reopen().reopen();
    assert_eq!(store.directories().len(), 1);
    assert_eq!(
        fs_err::read_dir(store.root().join("trash"))
            .unwrap()
            .count(),
        0
    );
    assert!(
        store
            .snapshots
            .stat("half")
            .is_err_and(|error| error.kind() == ErrorKind::NotFound)
    );
    store.snapshots.prepare_detached("half").unwrap();
}

pub(crate) fn a_directory_that_vanished_is_reported_with_all_that_lies_on_it(open: Open<'_>) {
    let store = Store::new(open);
    store.layer("base", None, &[("a", "a")]);
    let base = store.directories();
    store.layer("top", Some("base"), &[("b", "b")]);
    store.layer("other", None, &[("c", "c")]);
    store.snapshots.prepare("run", Some("top")).unwrap();
    store.snapshots.prepare("lost", Some("other")).unwrap();
    let [base] = base.as_slice() else {
        panic!("{base:?}")
    };
    fs_err::remove_dir_all(store.root().join(base)).unwrap();
    let store = store.reopen();
    let mut lost = store.snapshots.lost();
    lost.sort();
    assert_eq!(lost, ["base", "run", "top"]);
    let keys: Vec<String> = store
        .snapshots
        .walk()
        .into_iter()
        .map(|info| info.key)
        .collect();
    assert_eq!(keys, ["lost", "other"]);
    let store = store.reopen();
    assert!(store.snapshots.lost().is_empty());
    assert_eq!(store.snapshots.walk().len(), 2);
}

pub(crate) fn a_failed_commit_leaves_the_layers_detached(open: Open<'_>) {
    let store = Store::new(open);
    let good = store.unpack("good", &[("a", "a")]);
    let bad = store.unpack("bad", &[("link", "=> missing")]);
    let commit = |key: &str, parent: Option<&str>, fixups: &Fixups| LayerCommit {
        key: key.to_owned(),
        name: format!("layer-{key}"),
        parent: parent.map(str::to_owned),
        fixups: fixups.clone(),
    };
    let layers = [
        commit("good", None, &good),
        commit("bad", Some("layer-good"), &bad),
    ];
    let error = store.snapshots.commit_layers(&layers).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert!(
        store
            .snapshots
            .stat("layer-good")
            .is_err_and(|e| e.kind() == ErrorKind::NotFound)
    );
    for key in ["good", "bad"] {
        assert_eq!(store.snapshots.stat(key).unwrap().kind, Kind::Detached);
    }
    store.snapshots.commit_layers(&layers[..1]).unwrap();
    store.snapshots.remove("bad").unwrap();
    assert_eq!(store.reopen().snapshots.walk().len(), 1);
}

pub(crate) fn usage_counts_what_a_snapshot_adds(open: Open<'_>) {
    let store = Store::new(open);
    let content = "x".repeat(1 << 20);
    store.layer("base", None, &[("big", &content), ("twice", "=> big")]);
    let usage = store.snapshots.usage("base").unwrap();
    assert!((1 << 20..2 << 20).contains(&usage.bytes), "{usage:?}");
    // The root and the file, which has two names.
    assert_eq!(usage.inodes, 2);
    store.snapshots.prepare("run", Some("base")).unwrap();
    let before = store.snapshots.usage("run").unwrap();
    fs_err::write(
        mount(&*store.snapshots, "run").path().join("more"),
        &content,
    )
    .unwrap();
    let after = store.snapshots.usage("run").unwrap();
    assert_eq!(after.inodes, before.inodes + 1);
    assert!(after.bytes >= before.bytes + (1 << 20));
}

pub(crate) fn many_at_once_do_not_meet(open: Open<'_>) {
    let store = Store::new(open);
    store.layer("base", None, &[("a", "a")]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let snapshots = &store.snapshots;
            scope.spawn(move || {
                for round in 0..10 {
                    let key = format!("{thread}-{round}");
                    snapshots.prepare(&key, Some("base")).unwrap();
                    fs_err::write(mount(&**snapshots, &key).path().join("own"), &key).unwrap();
                    // One key that all want: exactly one may have it at a time.
                    if snapshots.prepare("wanted", Some("base")).is_ok() {
                        snapshots.remove("wanted").unwrap();
                    }
                    if round % 2 == 0 {
                        snapshots.remove(&key).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(store.snapshots.walk().len(), 1 + 4 * 5);
    for info in store.snapshots.walk() {
        if info.kind == Kind::Active {
            let own = mount(&*store.snapshots, &info.key).read("own");
            assert_eq!(own.as_deref(), Some(info.key.as_str()));
        }
    }
    assert_eq!(store.reopen().snapshots.walk().len(), 21);
}

pub(crate) fn trees_show_own_and_merged_content(open: Open<'_>) {
    let store = Store::new(open);
    three_layers(&store);
    store.snapshots.prepare("run", Some("top")).unwrap();
    let run = mount(&*store.snapshots, "run");
    fs_err::remove_file(run.path().join("etc/a")).unwrap();
    fs_err::write(run.path().join("etc/new"), "new").unwrap();
    drop(run);
    let trees = store.snapshots.trees("run").unwrap();
    let options = ExportOptions::default();
    let (tar, _) = havre_layer::export_tree(&trees.merged, Vec::new(), &options).unwrap();
    assert_eq!(
        names(&tar),
        [
            "etc/", "etc/b", "etc/c", "etc/new", "linked", "tmp/", "tmp/t"
        ]
    );
    let (tar, _) = if trees.own_is_changes {
        havre_layer::export_changes(&trees.own, Vec::new(), &options).unwrap()
    } else {
        havre_layer::export_diff(&trees.parents, &trees.merged, Vec::new(), &options).unwrap()
    };
    assert_eq!(names(&tar), ["etc/", "etc/.wh.a", "etc/new"]);
    let changes = havre_layer::changes(
        &trees.parents,
        &trees.merged,
        &std::collections::BTreeSet::new(),
    )
    .unwrap();
    let changes: Vec<String> = changes
        .iter()
        .map(|c| format!("{:?} {}", c.kind, c.path.display()))
        .collect();
    assert_eq!(changes, ["Modified etc", "Deleted etc/a", "Added etc/new"]);
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut reader = havre_layer::TarReader::new(tar);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    names
}
