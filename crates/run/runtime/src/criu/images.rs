//! The directory that CRIU writes to and reads from.
//!
//! What is restored runs with what these files say, so they are read only where nobody but the
//! runtime's own user can have changed them, and never through a link.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use fs_err::File;
use havre_sys::seccomp::SockFilter;
use prost::Message as _;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::process::geteuid;

use super::message::SeccompImage;
use crate::error::{RuntimeError, Step as _};
use crate::plan::process::Filter;

/// Which standard streams lead to pipes of the outside, as runc names it.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// The longest of our own files.
const OWN_MAX: u64 = 4096;
/// The longest image of filters: some hundred programs of full length.
const SECCOMP_MAX: u64 = 16 << 20;
/// How many directories of earlier dumps may stand behind one another.
const CHAIN: usize = 64;

/// `IMG_COMMON_MAGIC` and `SECCOMP_MAGIC`
/// (<https://github.com/checkpoint-restore/criu/blob/criu-dev/criu/include/magic.h>).
const SECCOMP_MAGIC: [u32; 2] = [0x5456_4319, 0x6441_3049];

/// Opens a directory to dump to. It is made if it is missing, for its owner alone.
pub(super) fn make(path: &Path) -> Result<OwnedFd, RuntimeError> {
    let describe = || format!("make the directory `{}`", path.display());
    let made = rustix::fs::mkdir(path, Mode::RWXU);
    match made {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error).step(describe),
    }
    let fd = open_directory(path, CWD.as_fd()).step(describe)?;
    check(&fstat(&fd).step(describe)?, path)?;
    Ok(fd)
}

/// Opens a directory to restore from.
pub(super) fn open(path: &Path) -> Result<OwnedFd, RuntimeError> {
    let describe = || format!("open the checkpoint `{}`", path.display());
    let fd = open_directory(path, CWD.as_fd()).step(describe)?;
    vet(&fd, path, CHAIN)?;
    Ok(fd)
}

fn open_directory(path: &Path, at: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

/// Everything in it is a plain file of our own; `parent`, which CRIU makes for a chain of dumps,
/// leads to another such directory.
fn vet(directory: &OwnedFd, path: &Path, chain: usize) -> Result<(), RuntimeError> {
    let describe = || format!("read the checkpoint `{}`", path.display());
    check(&fstat(directory).step(describe)?, path)?;
    let mut entries = Dir::read_from(directory).step(describe)?;
    while let Some(entry) = entries.read() {
        let entry = entry.step(describe)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let shown = path.join(name.to_string_lossy().as_ref());
        let stat = rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .step(describe)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => check(&stat, &shown)?,
            FileType::Symlink if name == c"parent" && chain > 0 => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let parent = openat(directory, name, flags, Mode::empty()).step(describe)?;
                vet(&parent, &shown, chain - 1)?;
            }
            _ => return Err(refused(&shown, "it is not a plain file")),
        }
    }
    Ok(())
}

fn check(stat: &Stat, path: &Path) -> Result<(), RuntimeError> {
    if stat.st_uid != geteuid().as_raw() {
        return Err(refused(path, "it belongs to another user"));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(refused(path, "others may write to it"));
    }
    Ok(())
}

fn refused(path: &Path, why: &str) -> RuntimeError {
    RuntimeError::Checkpoint {
        reason: format!("`{}`: {why}", path.display()),
    }
}

// === our own file ===

/// Records where the standard streams led.
pub(super) fn write_descriptors(
    directory: &OwnedFd,
    descriptors: &[String],
) -> Result<(), RuntimeError> {
    let describe = || format!("write {DESCRIPTORS}");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, DESCRIPTORS, flags, Mode::RUSR | Mode::WUSR).step(describe)?;
    let text = serde_json::to_vec(descriptors)
        .map_err(io::Error::other)
        .step(describe)?;
    rustix::io::write(&file, &text).step(describe)?;
    Ok(())
}

/// The standard streams by their numbers; only names of pipes are of use, and no other word is
/// passed on to CRIU.
pub(super) fn read_descriptors(directory: &OwnedFd) -> Result<Vec<Option<String>>, RuntimeError> {
    let describe = || format!("read {DESCRIPTORS}");
    let Some(text) = read(directory, DESCRIPTORS, OWN_MAX).step(describe)? else {
        return Ok(Vec::new());
    };
    let names: Vec<String> = serde_json::from_slice(&text)
        .map_err(io::Error::other)
        .step(describe)?;
    Ok(names
        .into_iter()
        .take(3)
        .map(|name| is_pipe(&name).then_some(name))
        .collect())
}

fn is_pipe(name: &str) -> bool {
    let number = name
        .strip_prefix("pipe:[")
        .and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

fn read(directory: &OwnedFd, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match openat(directory, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let file = File::from_parts(fd.into(), name);
    let mut out = Vec::new();
    if file.take(max + 1).read_to_end(&mut out)? as u64 > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(out))
}

// === filters ===

/// Every chain of seccomp filters must begin with the specification's own. That each process has
/// a chain is seen when it stands there.
pub(super) fn check_filters(
    directory: &OwnedFd,
    wanted: Option<&Filter>,
) -> Result<(), RuntimeError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let describe = || "read seccomp.img of the checkpoint".to_owned();
    let image = read(directory, "seccomp.img", SECCOMP_MAX).step(describe)?;
    let chains = match image {
        Some(bytes) => first_filters(&bytes).step(describe)?,
        None => Vec::new(),
    };
    let own = instructions(&wanted.program);
    if chains.is_empty() || chains.iter().any(|filter| *filter != own) {
        return Err(RuntimeError::Checkpoint {
            reason: "its seccomp filter is not the one of the container".to_owned(),
        });
    }
    Ok(())
}

/// `struct sock_filter` is read and written in the machine's own byte order.
fn instructions(program: &[SockFilter]) -> Vec<u8> {
    let one = |i: &SockFilter| {
        let [c0, c1] = i.code.to_ne_bytes();
        let [k0, k1, k2, k3] = i.k.to_ne_bytes();
        [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
    };
    program.iter().flat_map(one).collect()
}

/// The filters of the image that stand on no other one.
fn first_filters(bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let odd = || io::Error::other("it is not an image of filters");
    let word = |at: usize| -> io::Result<u32> {
        let four = bytes.get(at..at + 4).ok_or_else(odd)?;
        Ok(u32::from_le_bytes(
            four.try_into().map_err(io::Error::other)?,
        ))
    };
    if [word(0)?, word(4)?] != SECCOMP_MAGIC {
        return Err(odd());
    }
    let length = usize::try_from(word(8)?).map_err(io::Error::other)?;
    // One entry and nothing behind it, so that CRIU cannot find another than was looked at.
    let entry = bytes.get(12..).filter(|rest| rest.len() == length);
    let image = SeccompImage::decode(entry.ok_or_else(odd)?).map_err(io::Error::other)?;
    let first = image.filters.into_iter();
    Ok(first
        .filter(|filter| filter.previous.is_none())
        .map(|filter| filter.filter)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::message::SeccompFilter;
    use super::*;

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs_err::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        dir
    }

    #[test]
    fn only_our_own_plain_files_are_taken() {
        let dir = directory();
        let file = dir.path().join("core-1.img");
        fs_err::write(&file, "x").unwrap();
        fs_err::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        open(dir.path()).unwrap();
        fs_err::set_permissions(&file, PermissionsExt::from_mode(0o622)).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("others may write"), "{error}");
        fs_err::remove_file(&file).unwrap();
        symlink("/etc/passwd", dir.path().join("core-1.img")).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not a plain file"), "{error}");
    }

    #[test]
    fn neither_a_link_nor_an_open_directory_is_taken() {
        let dir = directory();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        open(&link).unwrap_err();
        make(&link).unwrap_err();
        let shared = dir.path().join("shared");
        fs_err::create_dir(&shared).unwrap();
        fs_err::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        open(&shared).unwrap_err();
        make(&shared).unwrap_err();
        make(&dir.path().join("new")).unwrap();
    }

    #[test]
    fn a_chain_of_dumps_is_looked_at_to_its_end() {
        let dir = directory();
        let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
        for path in [&first, &second] {
            drop(make(path).unwrap());
        }
        symlink("../first", second.join("parent")).unwrap();
        open(&second).unwrap();
        // One that ends nowhere.
        symlink("../second", first.join("parent")).unwrap();
        open(&second).unwrap_err();
        fs_err::remove_file(first.join("parent")).unwrap();
        symlink("/etc/passwd", first.join("pages-1.img")).unwrap();
        open(&second).unwrap_err();
    }

    #[test]
    fn only_names_of_pipes_reach_criu() {
        let dir = directory();
        let fd = make(dir.path()).unwrap();
        assert_eq!(read_descriptors(&fd).unwrap(), []);
        let names = ["pipe:[12]", "extRootNetNS", "pipe:[13]", "pipe:[14]"].map(str::to_owned);
        write_descriptors(&fd, &names).unwrap();
        assert_eq!(
            read_descriptors(&fd).unwrap(),
            [
                Some("pipe:[12]".to_owned()),
                None,
                Some("pipe:[13]".to_owned())
            ]
        );
        assert!(!is_pipe("pipe:[x]") && !is_pipe("/dev/null") && !is_pipe("pipe:[1]:x"));
    }

    fn image(filters: Vec<SeccompFilter>) -> Vec<u8> {
        let entry = SeccompImage { filters }.encode_to_vec();
        let head = [
            SECCOMP_MAGIC[0],
            SECCOMP_MAGIC[1],
            u32::try_from(entry.len()).unwrap(),
        ];
        let mut out: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
        out.extend(entry);
        out
    }

    #[test]
    fn every_chain_of_filters_begins_with_the_containers_own() {
        let own = [SockFilter {
            code: 6,
            jt: 0,
            jf: 0,
            k: 0x7fff_0000,
        }];
        let bytes = instructions(&own);
        assert_eq!(bytes.len(), 8);
        let filter = |filter: &[u8], previous| SeccompFilter {
            filter: filter.to_vec(),
            previous,
        };
        let good = image(vec![filter(&bytes, None), filter(b"programs own", Some(0))]);
        assert_eq!(first_filters(&good).unwrap(), vec![bytes.clone()]);
        let bad = image(vec![filter(&bytes, None), filter(b"other", None)]);
        assert_eq!(first_filters(&bad).unwrap().len(), 2);
        let mut longer = good.clone();
        longer.extend(good);
        first_filters(&longer).unwrap_err();
        for broken in [&b""[..], b"12345678", &longer[..20]] {
            first_filters(broken).unwrap_err();
        }
    }
}
