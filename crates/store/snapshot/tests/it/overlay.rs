//! What only the overlayfs driver does: its mounts as containerd's, and whiteouts that the kernel
//! itself made.

use havre_layer::{ApplyOptions, ExportOptions, apply, export_changes};
use havre_snapshot::{OverlayDriver, Snapshotter as _};
use rustix::fs::{IFlags, fstatfs, ioctl_getflags};

use crate::drivers::overlay;
use crate::mounting::mount;
use crate::store::Store;

/// `EXT4_SUPER_MAGIC` of linux/magic.h.
const EXT4: i64 = 0xef53;

#[test]
fn mounts_have_the_form_of_containerd() {
    let store = Store::new(&overlay);
    store.layer("base", None, &[("a", "a")]);
    store.layer("top", Some("base"), &[("b", "b")]);
    store.snapshots.prepare("run", Some("top")).unwrap();
    let mounts = store.snapshots.mounts("run").unwrap();
    let root = store.root().display().to_string();
    assert_eq!((mounts.len(), mounts[0].fstype.as_str()), (1, "overlay"));
    assert_eq!(
        mounts[0].options,
        [
            format!("lowerdir={root}/2/fs:{root}/1/fs"),
            format!("upperdir={root}/3/fs"),
            format!("workdir={root}/3/work"),
            "index=off".to_owned(),
            "metacopy=off".to_owned(),
            "redirect_dir=off".to_owned(),
        ]
    );
}

#[test]
fn a_colon_in_the_root_does_not_part_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let meta = havre_meta::Meta::open(&directory.path().join("meta.db")).unwrap();
    let root = directory.path().join(r"a:b\c");
    let snapshots = OverlayDriver::open(&root, &meta).unwrap();
    snapshots.prepare("base", None).unwrap();
    snapshots.commit("one", "base").unwrap();
    snapshots.prepare("run", Some("one")).unwrap();
    let options = snapshots.mounts("run").unwrap()[0].options.clone();
    let root = format!(r"{}/a\:b\\c", directory.path().display());
    assert_eq!(
        options[..3],
        [
            format!("lowerdir={root}/1/fs"),
            format!("upperdir={root}/2/fs"),
            format!("workdir={root}/2/work"),
        ]
    );
}

#[test]
fn support_is_probed_without_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    assert!(OverlayDriver::is_supported(directory.path()));
    assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 0);
    assert!(!OverlayDriver::is_supported("/proc".as_ref()));
}

#[test]
fn what_the_kernel_hid_comes_out_as_whiteouts_and_goes_in_again() {
    let store = Store::new(&overlay);
    let base = [
        ("d/", "755"),
        ("d/old", "old"),
        ("d/sub/", "755"),
        ("d/sub/x", "x"),
        ("f", "f"),
    ];
    store.layer("base", None, &base);
    store.snapshots.prepare("run", Some("base")).unwrap();
    let run = mount(&*store.snapshots, "run");
    fs_err::remove_dir_all(run.path().join("d")).unwrap();
    fs_err::create_dir(run.path().join("d")).unwrap();
    fs_err::write(run.path().join("d/new"), "new").unwrap();
    fs_err::remove_file(run.path().join("f")).unwrap();
    // Renaming a directory of a lower layer fails here as it does under Docker without redirects.
    drop(run);
    let trees = store.snapshots.trees("run").unwrap();
    let (tar, _) = export_changes(&trees.own, Vec::new(), &ExportOptions::default()).unwrap();
    let root = store.snapshots.prepare_detached("again").unwrap();
    let applied = apply(tar.as_slice(), &root, &ApplyOptions::layer()).unwrap();
    store
        .snapshots
        .commit_chain("copy", Some("base"), "again", &applied.fixups)
        .unwrap();
    store.snapshots.prepare("second", Some("copy")).unwrap();
    let second = mount(&*store.snapshots, "second");
    assert_eq!(second.names(""), ["d"]);
    assert_eq!(second.names("d"), ["new"]);
}

#[test]
fn two_hundred_layers_mount() {
    let store = Store::new(&overlay);
    let mut parent: Option<String> = None;
    for number in 0..200 {
        let name = format!("layer-{number}");
        store.layer(
            &name,
            parent.as_deref(),
            &[(name.as_str(), "content"), ("same", &name)],
        );
        parent = Some(name);
    }
    store.snapshots.prepare("run", parent.as_deref()).unwrap();
    let run = mount(&*store.snapshots, "run");
    assert_eq!(run.names("").len(), 201);
    assert_eq!(run.read("same").as_deref(), Some("layer-199"));
}

#[test]
fn snapshots_are_spread_over_the_disk_where_the_file_system_can() {
    let store = Store::new(&overlay);
    let root = fs_err::File::open(store.root()).unwrap();
    let flags = ioctl_getflags(&root).unwrap();
    let is_ext4 = fstatfs(&root).unwrap().f_type == EXT4;
    assert_eq!(flags.contains(IFlags::TOPDIR), is_ext4, "{flags:?}");
    // It is for the directories of snapshots, not for what is in them.
    store.snapshots.prepare("one", None).unwrap();
    let inner = ioctl_getflags(fs_err::File::open(store.root().join("1")).unwrap()).unwrap();
    assert!(!inner.contains(IFlags::TOPDIR));
}
