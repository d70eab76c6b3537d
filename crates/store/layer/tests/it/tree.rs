//! A directory tree as a value that can be compared, and archives put together by hand.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use havre_layer::{Entry, Kind, TarWriter};
use rustix::fs::{lgetxattr, llistxattr};

/// One node; hard links show by equal `link` names (the first path of the inode).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) content: Vec<u8>,
    pub(crate) device: u64,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    pub(crate) first_name: String,
}

pub(crate) type Tree = BTreeMap<String, Node>;

/// Everything below `root`, and `root` itself as the empty path.
pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut inodes = BTreeMap::new();
    visit(root, "", &mut tree, &mut inodes);
    tree
}

/// As [`read`], without times: for what was made by two runs.
pub(crate) fn read_timeless(root: &Path) -> Tree {
    let mut tree = read(root);
    for node in tree.values_mut() {
        node.mtime = (0, 0);
    }
    tree
}

fn visit(root: &Path, name: &str, tree: &mut Tree, inodes: &mut BTreeMap<u64, String>) {
    let path = root.join(name);
    let metadata = fs_err::symlink_metadata(&path).unwrap();
    let file_type = metadata.file_type();
    let (kind, content) = if file_type.is_dir() {
        ("directory", Vec::new())
    } else if file_type.is_symlink() {
        (
            "link",
            fs_err::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
        )
    } else if file_type.is_file() {
        ("file", fs_err::read(&path).unwrap())
    } else if file_type.is_char_device() {
        ("character", Vec::new())
    } else if file_type.is_block_device() {
        ("block", Vec::new())
    } else if file_type.is_fifo() {
        ("fifo", Vec::new())
    } else {
        ("socket", Vec::new())
    };
    let first_name = match kind {
        "directory" => name.to_owned(),
        _ => inodes
            .entry(metadata.ino())
            .or_insert_with(|| name.to_owned())
            .clone(),
    };
    let node = Node {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        device: metadata.rdev(),
        xattrs: xattrs(&path),
        first_name,
    };
    tree.insert(name.to_owned(), node);
    if kind == "directory" {
        let mut names: Vec<String> = fs_err::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        for child in names {
            let inner = if name.is_empty() {
                child
            } else {
                format!("{name}/{child}")
            };
            visit(root, &inner, tree, inodes);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0_u8; 64 * 1024];
    let Ok(length) = llistxattr(path, &mut names) else {
        return BTreeMap::new();
    };
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 64 * 1024];
            let length = lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap();
            (
                String::from_utf8_lossy(name).into_owned(),
                value[..length].to_vec(),
            )
        })
        .collect()
}

/// A directory for one test, with `root` to unpack into and a sentinel beside it.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs_err::create_dir(directory.path().join("root")).unwrap();
        fs_err::create_dir(directory.path().join("outside")).unwrap();
        fs_err::write(directory.path().join("outside/sentinel"), "untouched").unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn root(&self) -> havre_sys::fsroot::Root {
        havre_sys::fsroot::Root::open(&self.path()).unwrap()
    }

    /// What lies beside the root: the sentinel with its directory, and the names around them.
    pub(crate) fn outside(&self) -> Tree {
        let mut tree = read(&self.directory.path().join("outside"));
        let here = tree[""].clone();
        for entry in fs_err::read_dir(self.directory.path()).unwrap() {
            tree.insert(
                format!("../{}", entry.unwrap().file_name().display()),
                here.clone(),
            );
        }
        tree
    }
}

pub(crate) fn file(path: &str, mode: u32) -> Entry {
    Entry::new(path, Kind::File, mode)
}

pub(crate) fn directory(path: &str, mode: u32) -> Entry {
    Entry::new(path, Kind::Directory, mode)
}

pub(crate) fn symlink(path: &str, target: &str) -> Entry {
    Entry::new(
        path,
        Kind::Symlink {
            target: target.into(),
        },
        0o777,
    )
}

pub(crate) fn hard_link(path: &str, target: &str) -> Entry {
    Entry::new(
        path,
        Kind::HardLink {
            target: target.into(),
        },
        0o644,
    )
}

/// An archive of these entries; files hold the text beside them.
pub(crate) fn archive(entries: &[(Entry, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        let mut entry = entry.clone();
        if entry.kind == Kind::File {
            entry.size = content.len() as u64;
        }
        writer.append_bytes(&entry, content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}
