//! Directory trees as layers: what changed between two trees, packed by GNU tar.

use crate::command::command;
use crate::image::{Layer, blob_path, hex};
use anyhow::{Context as _, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use fs_err::File;
use sha2::{Digest as _, Sha256};
use std::fs::Metadata;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Packs a whole tree as a layer blob of the layout.
pub(crate) fn pack(tree: &Path, layout: &Path) -> Result<Layer> {
    let mut names = vec![PathBuf::from(".")];
    list(tree, Path::new("."), &mut names)?;
    pack_names(tree, &names, layout)
}

/// Packs what `upper` adds to and removes from `lower`. Marks for removed names are made in `upper`.
pub(crate) fn pack_difference(lower: &Path, upper: &Path, layout: &Path) -> Result<Layer> {
    let mut names = Vec::new();
    compare(lower, upper, Path::new("."), &mut names)?;
    ensure!(!names.is_empty(), "{} adds nothing", upper.display());
    pack_names(upper, &names, layout)
}

/// Device nodes and sockets belong to the machine, not to an image.
fn belongs(name: &Path, metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    let special = kind.is_block_device() || kind.is_char_device() || kind.is_socket();
    !special && !name.starts_with("./dev/")
}

fn list(root: &Path, name: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    for child in children(&root.join(name))? {
        let name = name.join(child);
        let metadata = fs_err::symlink_metadata(root.join(&name))?;
        if !belongs(&name, &metadata) {
            continue;
        }
        names.push(name.clone());
        if metadata.is_dir() && name != Path::new("./dev") {
            list(root, &name, names)?;
        }
    }
    Ok(())
}

fn compare(lower: &Path, upper: &Path, name: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    let above = children(&upper.join(name))?;
    let below = children(&lower.join(name)).unwrap_or_default();
    for child in above {
        let child_name = name.join(&child);
        let path = upper.join(&child_name);
        let metadata = fs_err::symlink_metadata(&path)?;
        if !belongs(&child_name, &metadata) {
            continue;
        }
        let old = fs_err::symlink_metadata(lower.join(&child_name)).ok();
        let same = match &old {
            Some(old) => unchanged(&lower.join(&child_name), old, &path, &metadata)?,
            None => false,
        };
        if !same {
            names.push(child_name.clone());
        }
        if metadata.is_dir() && child_name != Path::new("./dev") {
            compare(lower, upper, &child_name, names)?;
        }
    }
    for child in below {
        let child_name = name.join(&child);
        if fs_err::symlink_metadata(upper.join(&child_name)).is_ok() {
            continue;
        }
        let mut mark = b".wh.".to_vec();
        mark.extend(child.as_bytes());
        let mark = name.join(std::ffi::OsStr::from_bytes(&mark));
        File::create(upper.join(&mark))?;
        names.push(mark);
    }
    Ok(())
}

/// Whether two entries look alike in all that a layer carries, but for the time of change.
fn unchanged(old_path: &Path, old: &Metadata, new_path: &Path, new: &Metadata) -> Result<bool> {
    let alike = old.mode() == new.mode() && old.uid() == new.uid() && old.gid() == new.gid();
    if !alike || new.is_dir() {
        return Ok(alike);
    }
    if new.is_symlink() {
        return Ok(fs_err::read_link(old_path)? == fs_err::read_link(new_path)?);
    }
    Ok(old.len() == new.len() && fs_err::read(old_path)? == fs_err::read(new_path)?)
}

fn children(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(path)? {
        names.push(entry?.file_name());
    }
    names.sort();
    Ok(names)
}

fn pack_names(tree: &Path, names: &[PathBuf], layout: &Path) -> Result<Layer> {
    let mut child = command("tar")
        .arg("--create")
        .arg("--directory")
        .arg(tree)
        .args([
            "--format=pax",
            "--numeric-owner",
            "--no-recursion",
            "--null",
            "--files-from=-",
        ])
        .args([
            "--pax-option=delete=atime,delete=ctime",
            "--xattrs",
            "--xattrs-include=*",
        ])
        .args(["--transform=s,^\\./,,S", "--warning=no-file-ignored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start tar")?;
    let mut list = child.stdin.take().context("tar has no input")?;
    let mut text = Vec::new();
    for name in names {
        text.extend(name.as_os_str().as_bytes());
        text.push(0);
    }
    let feeder = std::thread::Builder::new().spawn(move || list.write_all(&text))?;
    let archive = child.stdout.take().context("tar has no output")?;
    let layer = write_blob(archive, layout)?;
    feeder
        .join()
        .map_err(|_panic| anyhow::anyhow!("the feeder of tar died"))??;
    let status = child.wait()?;
    if !status.success() {
        bail!("tar ended with {status}");
    }
    Ok(layer)
}

/// Compresses an archive into the layout, hashing both forms on the way.
fn write_blob(mut archive: impl io::Read, layout: &Path) -> Result<Layer> {
    let staged = layout.join("blobs/sha256/.staged");
    let file = Hashing::new(BufWriter::new(File::create(&staged)?));
    let mut gzip = GzEncoder::new(file, Compression::default());
    let mut plain = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = archive.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        plain.update(&buffer[..count]);
        gzip.write_all(&buffer[..count])?;
    }
    let mut file = gzip.finish()?;
    file.inner.flush()?;
    let digest = hex(&file.hash.finalize());
    let path = blob_path(layout, &digest)?;
    fs_err::rename(&staged, &path)?;
    Ok(Layer {
        path,
        digest,
        size: file.length,
        diff_id: hex(&plain.finalize()),
    })
}

/// A writer that hashes and counts what passes.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            length: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
