//! Trees to layers and back: for any two trees, what turns one into the other does so.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use fs_err::os::unix::fs::symlink;
use havre_layer::{
    ApplyOptions, ChangeKind, ExportOptions, Kind, Stack, TarReader, Times, apply, changes,
    export_changes, export_diff, export_tree, fix_up, flatten,
};
use havre_sys::fsroot::{Root, remove_tree};
use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat,
};

use crate::tree::{Place, read, read_timeless};

#[derive(Debug, Clone)]
enum Made {
    File {
        content: Vec<u8>,
        mode: u32,
        attribute: bool,
    },
    Directory {
        mode: u32,
    },
    Link {
        target: String,
    },
    Fifo,
}

type Plan = BTreeMap<String, Made>;

fn made() -> impl Strategy<Value = Made> {
    let modes = prop_oneof![Just(0o644), Just(0o755), Just(0o4755), Just(0o1777)];
    prop_oneof![
        4 => (proptest::collection::vec(0..3_u8, 0..4), modes.clone(), any::<bool>())
            .prop_map(|(content, mode, attribute)| Made::File { content, mode, attribute }),
        3 => modes.prop_map(|mode| Made::Directory { mode }),
        1 => "[ab/.]{1,4}".prop_map(|target| Made::Link { target }),
        1 => Just(Made::Fifo),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    proptest::collection::btree_map("[abc](/[abc]){0,3}", made(), 0..12)
}

/// Makes what of the plan can be made: a name below a file is left out.
fn build(root: &Path, plan: &Plan) {
    for (name, made) in plan {
        let path = root.join(name);
        let parent = path.parent().unwrap();
        if fs_err::create_dir_all(parent).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        let mode = |mode: u32| rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).unwrap();
        match made {
            Made::File {
                content,
                mode: bits,
                attribute,
            } => {
                fs_err::write(&path, content).unwrap();
                mode(*bits);
                if *attribute {
                    setxattr(&path, "user.a", content, XattrFlags::empty()).unwrap();
                }
            }
            Made::Directory { mode: bits } => {
                fs_err::create_dir(&path).unwrap();
                mode(*bits);
            }
            Made::Link { target } => symlink(target, &path).unwrap(),
            Made::Fifo => {
                mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            }
        }
    }
}

fn full() -> ExportOptions {
    ExportOptions {
        times: Times::Full,
        ..ExportOptions::default()
    }
}

/// Times of the root are not in an archive.
fn shown(root: &Path) -> crate::tree::Tree {
    let mut tree = read(root);
    tree.remove("");
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_diff_turns_one_tree_into_the_other(one in plan(), other in plan()) {
        let (base, new, target, merged) = (Place::new(), Place::new(), Place::new(), Place::new());
        build(&base.path(), &one);
        flatten(&Stack::new(vec![base.root()]), &target.root()).unwrap();
        build(&new.path(), &other);
        let (below, above) = (Stack::new(vec![base.root()]), Stack::new(vec![new.root()]));
        let (tar, _) = export_diff(&below, &above, Vec::new(), &full()).unwrap();
        apply(tar.as_slice(), &target.root(), &ApplyOptions::on_parents()).unwrap();
        let (mut found, mut expected) = (read_timeless(&target.path()), read_timeless(&new.path()));
        found.remove("");
        expected.remove("");
        prop_assert_eq!(found, expected);

        // The same as a layer of its own, seen through the stack.
        let upper = Place::new();
        let applied = apply(tar.as_slice(), &upper.root(), &ApplyOptions::layer()).unwrap();
        fix_up(&upper.root(), &Stack::new(vec![base.root()]), &applied.fixups).unwrap();
        flatten(&Stack::new(vec![upper.root(), base.root()]), &merged.root()).unwrap();
        let (mut found, mut expected) = (read_timeless(&merged.path()), read_timeless(&new.path()));
        found.remove("");
        expected.remove("");
        prop_assert_eq!(found, expected);

        // An upper directory written out again gives the same layer.
        let (again, _) = export_changes(&upper.root(), Vec::new(), &full()).unwrap();
        let second = Place::new();
        apply(again.as_slice(), &second.root(), &ApplyOptions::layer()).unwrap();
        let mut pair = (read(&second.path()), read(&upper.path()));
        for tree in [&mut pair.0, &mut pair.1] {
            tree.remove("");
            for node in tree.values_mut().filter(|node| node.kind == "character") {
                (node.mtime, node.mode) = ((0, 0), 0);
            }
        }
        prop_assert_eq!(pair.0, pair.1);
    }

    #[test]
    fn a_tree_survives_an_archive_with_times(plan in plan()) {
        let (source, target) = (Place::new(), Place::new());
        build(&source.path(), &plan);
        let stack = Stack::new(vec![source.root()]);
        let (tar, _) = export_tree(&stack, Vec::new(), &full()).unwrap();
        apply(tar.as_slice(), &target.root(), &ApplyOptions::archive()).unwrap();
        prop_assert_eq!(shown(&target.path()), shown(&source.path()));
        prop_assert!(changes(&stack, &Stack::new(vec![target.root()]), &BTreeSet::new()).unwrap().is_empty());
    }
}

#[test]
fn changes_are_listed_as_docker_does() {
    let (base, new) = (Place::new(), Place::new());
    for place in [&base, &new] {
        fs_err::create_dir_all(place.path().join("etc/d")).unwrap();
        fs_err::write(place.path().join("etc/same"), "").unwrap();
        let time = Timespec {
            tv_sec: 5,
            tv_nsec: 5,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, place.path().join("etc/same"), &times, AtFlags::empty()).unwrap();
    }
    fs_err::write(base.path().join("etc/old"), "").unwrap();
    fs_err::write(new.path().join("etc/d/new"), "").unwrap();
    let found = changes(
        &Stack::new(vec![base.root()]),
        &Stack::new(vec![new.root()]),
        &BTreeSet::new(),
    )
    .unwrap();
    let lines: Vec<(String, ChangeKind)> = found
        .into_iter()
        .map(|c| (c.path.display().to_string(), c.kind))
        .collect();
    assert_eq!(
        lines,
        [
            ("etc".to_owned(), ChangeKind::Modified),
            ("etc/d".to_owned(), ChangeKind::Modified),
            ("etc/d/new".to_owned(), ChangeKind::Added),
            ("etc/old".to_owned(), ChangeKind::Deleted),
        ]
    );
}

#[test]
fn an_export_reads_no_fifo_follows_no_link_and_leaves_sockets_out() {
    let place = Place::new();
    let root = place.path();
    symlink("../outside/sentinel", root.join("link")).unwrap();
    symlink("../outside", root.join("dirlink")).unwrap();
    mknodat(
        CWD,
        root.join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    let huge = fs_err::File::create(root.join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let stack = Stack::new(vec![place.root()]);
    let (tar, exported) = export_tree(&stack, Vec::new(), &ExportOptions::default()).unwrap();
    assert_eq!(exported.entries, 4);
    assert!(tar.len() < 16_384);
    assert!(!tar.windows(9).any(|window| window == b"untouched"));
    let mut reader = TarReader::new(tar.as_slice());
    let mut sizes = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert!(entry.kind != Kind::Directory);
        sizes.push(entry.size);
    }
    assert_eq!(sizes.iter().max(), Some(&(1 << 40)));
}

#[test]
fn a_tree_deeper_than_the_limit_is_an_error_and_not_an_overflow() {
    let place = Place::new();
    let mut dir = Root::open(&place.path()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&dir, "d", Mode::from_raw_mode(0o755)).unwrap();
        dir = dir.subroot(Path::new("d")).unwrap();
    }
    let stack = Stack::new(vec![place.root()]);
    let options = ExportOptions {
        depth: 100,
        ..ExportOptions::default()
    };
    export_tree(&stack, Vec::new(), &options).expect_err("too deep");
    export_changes(&place.root(), Vec::new(), &options).expect_err("too deep");
    export_diff(&Stack::default(), &stack, Vec::new(), &options).expect_err("too deep");
    drop(dir);
    let above = Root::open(place.directory.path()).unwrap();
    remove_tree(above.as_fd(), "root".as_ref()).unwrap();
    fs_err::create_dir(place.path()).unwrap();
}
