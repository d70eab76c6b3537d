//! Reads a small file out of a stack of layer directories as overlayfs would show it, without mounting anything.
//!
//! Each step opens one name relative to a descriptor and never follows a link in the kernel, so that neither a
//! symlink of the image nor `..` can lead to a file of the host. Only regular files are read, up to a limit
//! (CVE-2024-9676: a FIFO or an endless file must not stop the engine).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};

/// As Docker's archive code and containerd: account files are never larger in earnest.
pub(crate) const MAX_ACCOUNT_FILE: u64 = 10 << 20;
/// The kernel's own limit of links in one path walk.
const MAX_LINKS: u32 = 40;

/// The directories that one merged directory consists of, the uppermost first.
type Merged = Vec<OwnedFd>;

enum Found {
    Nothing,
    Directory(Merged),
    Link(OsString),
    File(OwnedFd),
    Special,
}

/// Reads `path` from `layers` (uppermost first). `None`: no such regular file.
pub(crate) fn read_file(layers: &[PathBuf], path: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = walk(open_all(layers)?, path)? else {
        return Ok(None);
    };
    let mut content = Vec::new();
    let file = fs_err::File::from_parts(file.into(), path);
    let mut reader = file.take(max + 1);
    reader.read_to_end(&mut content)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{path} in the image is larger than {max} bytes"),
        ));
    }
    Ok(Some(content))
}

/// The first `length` bytes and the mode of the regular file `path`.
pub(crate) fn read_head(
    layers: &[PathBuf],
    path: &str,
    length: u64,
) -> io::Result<Option<(Vec<u8>, u32)>> {
    let Some(file) = walk(open_all(layers)?, path)? else {
        return Ok(None);
    };
    let mode = fs::fstat(&file)?.st_mode;
    let mut content = Vec::new();
    fs_err::File::from_parts(file.into(), path)
        .take(length)
        .read_to_end(&mut content)?;
    Ok(Some((content, mode)))
}

fn open_all(layers: &[PathBuf]) -> io::Result<Merged> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |layer: &PathBuf| Ok(fs::open(layer, flags, Mode::empty())?);
    layers.iter().map(open).collect()
}

fn walk(root: Merged, path: &str) -> io::Result<Option<OwnedFd>> {
    let mut stack = vec![root];
    let mut todo: VecDeque<OsString> = components(Path::new(path));
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let Some(here) = stack.last() else {
            return Ok(None);
        };
        match lookup(here, &name)? {
            Found::Nothing | Found::Special => return Ok(None),
            Found::File(file) => return Ok(todo.is_empty().then_some(file)),
            Found::Directory(merged) => stack.push(merged),
            Found::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(None);
                }
                let target = Path::new(&target);
                if target.is_absolute() {
                    stack.truncate(1);
                }
                let mut next = components(target);
                next.append(&mut todo);
                todo = next;
            }
        }
    }
    Ok(None)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn lookup(here: &Merged, name: &OsStr) -> io::Result<Found> {
    let mut merged = Merged::new();
    for directory in here {
        let stat = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NAMETOOLONG) => continue,
            Err(err) => return Err(err.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = fs::openat(directory, name, flags, Mode::empty())?;
                let opaque = is_opaque(&fd);
                merged.push(fd);
                if opaque {
                    break;
                }
            }
            // What is not a directory hides everything below it, and is hidden by a directory above it.
            _ if !merged.is_empty() => break,
            FileType::Symlink => {
                let target = fs::readlinkat(directory, name, Vec::new())?;
                return Ok(Found::Link(OsString::from_vec(target.into_bytes())));
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let fd = fs::openat(directory, name, flags, Mode::empty())?;
                let now = fs::fstat(&fd)?;
                if FileType::from_raw_mode(now.st_mode) != FileType::RegularFile {
                    return Ok(Found::Special);
                }
                return Ok(Found::File(fd));
            }
            // A 0:0 character device is overlayfs's whiteout; other special files are no files to read.
            _ => return Ok(Found::Special),
        }
    }
    Ok(if merged.is_empty() {
        Found::Nothing
    } else {
        Found::Directory(merged)
    })
}

/// <https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories>
fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0_u8; 2];
    // fgetxattr refuses O_PATH descriptors; the magic link of our own descriptor is the documented way around.
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    matches!(fs::getxattr(&link, c"trusted.overlay.opaque", &mut value[..]), Ok(1) if value[0] == b'y')
}

/// The layers of an overlay mount, uppermost first, from its options; for a plain bind, its source.
pub(crate) fn layers_of(source: &Path, options: &[String]) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for option in options {
        if let Some(upper) = option.strip_prefix("upperdir=") {
            layers.insert(0, unescape(upper));
        } else if let Some(lower) = option.strip_prefix("lowerdir=") {
            layers.extend(split_colons(lower));
        } else if let Some(lower) = option.strip_prefix("lowerdir+=") {
            layers.push(PathBuf::from(lower));
        }
    }
    if layers.is_empty() {
        layers.push(PathBuf::from(source));
    }
    layers
}

/// Splits at colons that no backslash stands before.
fn split_colons(text: &str) -> Vec<PathBuf> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        match c {
            ':' if !escaped => parts.push(String::new()),
            _ => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
        escaped = c == '\\' && !escaped;
    }
    parts
        .iter()
        .filter(|part| !part.is_empty())
        .map(|part| unescape(part))
        .collect()
}

fn unescape(text: &str) -> PathBuf {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    PathBuf::from(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use std::os::unix::fs::symlink;

    struct Layers {
        dir: tempfile::TempDir,
        stack: Vec<PathBuf>,
    }

    fn layers(count: usize) -> Layers {
        let dir = tempfile::tempdir().unwrap();
        let stack: Vec<_> = (0..count).map(|n| dir.path().join(n.to_string())).collect();
        for layer in &stack {
            fs::create_dir_all(layer.join("etc")).unwrap();
        }
        Layers { dir, stack }
    }

    fn passwd(layers: &Layers) -> Option<String> {
        read_file(&layers.stack, "/etc/passwd", 1024)
            .unwrap()
            .map(|content| String::from_utf8(content).unwrap())
    }

    #[test]
    fn the_uppermost_file_wins_and_a_whiteout_hides() {
        let l = layers(3);
        fs::write(l.stack[2].join("etc/passwd"), "low").unwrap();
        assert_eq!(passwd(&l).as_deref(), Some("low"));
        fs::write(l.stack[1].join("etc/passwd"), "middle").unwrap();
        assert_eq!(passwd(&l).as_deref(), Some("middle"));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            l.stack[0].join("etc/passwd"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();
        assert_eq!(passwd(&l), None);
    }

    #[test]
    fn an_opaque_directory_hides_what_is_below() {
        let l = layers(2);
        fs::write(l.stack[1].join("etc/passwd"), "low").unwrap();
        rustix::fs::setxattr(
            l.stack[0].join("etc"),
            c"trusted.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        assert_eq!(passwd(&l), None);
    }

    #[test]
    fn links_stay_inside_the_stack() {
        let l = layers(2);
        let secret = l.dir.path().join("secret");
        fs::write(&secret, "host").unwrap();
        symlink(&secret, l.stack[0].join("etc/passwd")).unwrap();
        assert_eq!(passwd(&l), None, "absolute link to the host");
        fs::remove_file(l.stack[0].join("etc/passwd")).unwrap();
        symlink("../../../../../secret", l.stack[0].join("etc/passwd")).unwrap();
        assert_eq!(passwd(&l), None, "relative link above the root");
        fs::write(l.stack[1].join("secret"), "inside").unwrap();
        assert_eq!(
            passwd(&l).as_deref(),
            Some("inside"),
            "the same name inside the image is found"
        );
        fs::remove_file(l.stack[0].join("etc/passwd")).unwrap();
        symlink("passwd", l.stack[0].join("etc/passwd")).unwrap();
        assert_eq!(passwd(&l), None, "a loop ends");
    }

    #[test]
    fn an_absolute_link_into_another_layer_works() {
        let l = layers(2);
        fs::create_dir_all(l.stack[1].join("nix/store/x")).unwrap();
        fs::write(l.stack[1].join("nix/store/x/passwd"), "nix").unwrap();
        symlink("/nix/store/x/passwd", l.stack[0].join("etc/passwd")).unwrap();
        assert_eq!(passwd(&l).as_deref(), Some("nix"));
    }

    #[test]
    fn special_and_huge_files_are_not_read() {
        let l = layers(1);
        let path = l.stack[0].join("etc/passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert_eq!(passwd(&l), None);
        fs::remove_file(&path).unwrap();
        fs::write(&path, vec![b'x'; 1025]).unwrap();
        let err = read_file(&l.stack, "/etc/passwd", 1024).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn mount_options_give_the_stack() {
        let options = ["upperdir=/u\\:1", "lowerdir=/a:/b\\:c", "workdir=/w"].map(str::to_owned);
        let layers = layers_of(Path::new("overlay"), &options);
        assert_eq!(layers, ["/u:1", "/a", "/b:c"].map(PathBuf::from));
        assert_eq!(
            layers_of(Path::new("/plain"), &["rbind".to_owned()]),
            [PathBuf::from("/plain")]
        );
    }
}
