//! Unpacking: metadata, replacement, links, special files, sparse files.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use havre_layer::{ApplyOptions, Entry, Kind, Mtime, TarWriter, apply};
use havre_types::Digest;

use crate::tree::{Place, archive, directory, file, hard_link, read, symlink};

#[test]
fn metadata_is_set_in_the_right_order() {
    let place = Place::new();
    let mut program = file("bin/su", 0o4755);
    program.uid = 7;
    program.gid = 8;
    program.mtime = Mtime {
        seconds: 1_500_000_000,
        nanos: 123,
    };
    // CAP_NET_RAW, effective, in the kernel's second version; it holds a newline byte on purpose.
    let capability = b"\x01\0\0\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    program.xattrs = vec![
        (b"security.capability".to_vec(), capability.clone()),
        (b"user.note".to_vec(), b"a\nb\0c".to_vec()),
    ];
    let mut bin = directory("bin", 0o2711);
    bin.gid = 9;
    bin.mtime = Mtime {
        seconds: -5,
        nanos: 500_000_000,
    };
    let tar = archive(&[(bin, ""), (program, "program")]);
    let applied = apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();

    assert_eq!(applied.diff_id.0, Digest::sha256_of(&tar));
    assert_eq!(
        (applied.size, applied.content, applied.entries),
        (tar.len() as u64, 7, 2)
    );
    assert!(
        applied.skipped_xattrs.is_empty(),
        "{:?}",
        applied.skipped_xattrs
    );
    let tree = read(&place.path());
    let program = &tree["bin/su"];
    assert_eq!((program.mode, program.owner), (0o4755, (7, 8)));
    assert_eq!(program.mtime, (1_500_000_000, 123));
    assert_eq!(program.content, b"program");
    assert_eq!(program.xattrs["security.capability"], capability);
    assert_eq!(program.xattrs["user.note"], b"a\nb\0c");
    assert_eq!((tree["bin"].mode, tree["bin"].owner), (0o2711, (0, 9)));
    assert_eq!(tree["bin"].mtime, (-5, 500_000_000));
}

#[test]
fn files_in_a_set_group_id_directory_keep_the_group_of_the_archive() {
    let place = Place::new();
    let mut shared = directory("shared", 0o2775);
    shared.gid = 50;
    let tar = archive(&[
        (shared, ""),
        (file("shared/a", 0o644), "a"),
        (directory("shared/d", 0o755), ""),
    ]);
    apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    let tree = read(&place.path());
    assert_eq!(tree["shared/a"].owner, (0, 0));
    assert_eq!(
        (tree["shared/d"].owner, tree["shared/d"].mode),
        ((0, 0), 0o755)
    );
}

#[test]
fn links_devices_and_fifos_are_made() {
    let place = Place::new();
    let tar = archive(&[
        (file("a", 0o640), "content"),
        (hard_link("dir/b", "/a"), ""),
        (symlink("c", "/etc/../nowhere"), ""),
        (hard_link("d", "c"), ""),
        (
            Entry::new("null", Kind::Character { major: 1, minor: 3 }, 0o666),
            "",
        ),
        (
            Entry::new(
                "disk",
                Kind::Block {
                    major: 259,
                    minor: 70_000,
                },
                0o660,
            ),
            "",
        ),
        (Entry::new("pipe", Kind::Fifo, 0o600), ""),
    ]);
    let applied = apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    let tree = read(&place.path());
    assert_eq!(tree["dir/b"].first_name, "a");
    assert_eq!(tree["d"].first_name, "c");
    assert_eq!(tree["c"].content, b"/etc/../nowhere");
    assert_eq!((tree["null"].kind, tree["null"].mode), ("character", 0o666));
    assert_eq!(tree["null"].device, rustix::fs::makedev(1, 3));
    assert_eq!(tree["disk"].device, rustix::fs::makedev(259, 70_000));
    assert_eq!((tree["pipe"].kind, tree["pipe"].mode), ("fifo", 0o600));
    assert_eq!(
        applied.fixups.implicit_dirs,
        ["".as_ref(), "dir".as_ref()] as [&std::path::Path; 2]
    );
}

#[test]
fn a_later_entry_replaces_an_earlier_one_whatever_its_kind() {
    let place = Place::new();
    let tar = archive(&[
        (file("a", 0o644), "first"),
        (file("a", 0o600), "second"),
        (directory("b", 0o755), ""),
        (file("b/inner", 0o644), ""),
        (file("b", 0o644), "now a file"),
        (file("c", 0o644), "file"),
        (directory("c", 0o711), ""),
        (file("c/d", 0o644), "below"),
        (symlink("e", "c"), ""),
        (directory("e", 0o700), ""),
        (file("f", 0o644), ""),
        (file("f/g", 0o644), "parent was a file"),
    ]);
    apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    let tree = read(&place.path());
    assert_eq!(
        (tree["a"].content.as_slice(), tree["a"].mode),
        (&b"second"[..], 0o600)
    );
    assert_eq!(tree["b"].content, b"now a file");
    assert!(!tree.contains_key("b/inner"));
    assert_eq!((tree["c"].kind, tree["c"].mode), ("directory", 0o711));
    assert_eq!(tree["c/d"].content, b"below");
    assert_eq!((tree["e"].kind, tree["e"].mode), ("directory", 0o700));
    assert_eq!(tree["f/g"].content, b"parent was a file");
}

#[test]
fn entries_below_a_symbolic_link_go_where_it_leads_inside_the_root() {
    let place = Place::new();
    let tar = archive(&[
        (directory("usr", 0o755), ""),
        (directory("usr/lib", 0o755), ""),
        (symlink("lib", "/usr/lib"), ""),
        (file("lib/x.so", 0o644), "library"),
        (symlink("up", "../../../../usr"), ""),
        (file("up/y", 0o644), "y"),
        (hard_link("z", "lib/x.so"), ""),
    ]);
    apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    let tree = read(&place.path());
    assert_eq!(tree["lib"].kind, "link");
    assert_eq!(tree["usr/lib/x.so"].content, b"library");
    assert_eq!(tree["usr/y"].content, b"y");
    assert_eq!(tree["z"].first_name, "usr/lib/x.so");
}

#[test]
fn a_sparse_file_stays_sparse() {
    let place = Place::new();
    let mut entry = file("sparse", 0o644);
    entry.size = 1 << 30;
    entry.sparse = Some(vec![(4096, 5), (500 << 20, 3), (1 << 30, 0)]);
    let mut writer = TarWriter::new(Vec::new());
    writer.append_bytes(&entry, b"helloend").unwrap();
    let tar = writer.finish().unwrap();
    assert!(tar.len() < 8192);
    apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    let metadata = fs_err::metadata(place.path().join("sparse")).unwrap();
    assert_eq!(metadata.len(), 1 << 30);
    assert!(metadata.blocks() * 512 < 1 << 20);
    let file = fs_err::File::open(place.path().join("sparse")).unwrap();
    let mut bytes = [0; 6];
    file.file().read_exact_at(&mut bytes, 4096).unwrap();
    assert_eq!(&bytes, b"hello\0");
    file.file()
        .read_exact_at(&mut bytes, (500 << 20) - 1)
        .unwrap();
    assert_eq!(&bytes, b"\0end\0\0");
}

#[test]
fn names_that_are_awkward_but_legal_are_kept() {
    let place = Place::new();
    let long = "n".repeat(255);
    let deep = format!("{}f", "d/".repeat(300));
    let mut bytes = Entry::new(b"\xff\xfe\nname\t".to_vec(), Kind::File, 0o644);
    bytes.size = 0;
    let tar = archive(&[
        (file(&long, 0o644), "long"),
        (file(&deep, 0o644), "deep"),
        (bytes, ""),
    ]);
    apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    assert_eq!(fs_err::read(place.path().join(&long)).unwrap(), b"long");
    assert_eq!(fs_err::read(place.path().join(&deep)).unwrap(), b"deep");
    use std::os::unix::ffi::OsStrExt as _;
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe\nname\t");
    assert!(place.path().join(name).exists());
}

#[test]
fn times_of_directories_survive_what_is_made_in_them() {
    let place = Place::new();
    let mut outer = directory("outer", 0o755);
    outer.mtime = Mtime {
        seconds: 1000,
        nanos: 0,
    };
    let mut root = directory("./", 0o711);
    root.mtime = Mtime {
        seconds: 77,
        nanos: 0,
    };
    let tar = archive(&[
        (root, ""),
        (outer, ""),
        (file("outer/a", 0o644), "a"),
        (file("other", 0o644), ""),
        (file("outer/b", 0o644), "b"),
    ]);
    let applied = apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    let tree = read(&place.path());
    assert_eq!(tree["outer"].mtime, (1000, 0));
    assert_eq!((tree[""].mtime, tree[""].mode), ((77, 0), 0o711));
    assert!(applied.fixups.implicit_dirs.is_empty());
}
