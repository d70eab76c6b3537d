//! Single operations on the files of a group.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdir, open};
use rustix::io::Errno;

use crate::error::CgroupError;
use crate::host::{Controller, Host};

const DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// Writes a value with one `write`, as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    let fd = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, value.as_bytes())?;
    Ok(())
}

/// Writes each line with a `write` of its own, through one descriptor. The line that failed is
/// returned with the error.
pub(super) fn write_lines(path: &Path, lines: &[String]) -> Result<(), CgroupError> {
    let failed = |line: Option<&String>, errno: Errno| CgroupError::Write {
        path: path.to_path_buf(),
        value: line.cloned().unwrap_or_default(),
        source: errno.into(),
    };
    let fd = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(lines.first(), errno))?;
    for line in lines {
        rustix::io::write(&fd, line.as_bytes()).map_err(|errno| failed(Some(line), errno))?;
    }
    Ok(())
}

/// Reads a file whole.
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    fs_err::read_to_string(path).map_err(|source| CgroupError::Read {
        path: path.to_path_buf(),
        // The path is in the message already.
        source: source
            .raw_os_error()
            .map_or(source, io::Error::from_raw_os_error),
    })
}

/// Makes the directory `path` below `mount`, and those above it only if they are missing. One
/// that exists is accepted if no process is in it.
pub(super) fn make_dir(mount: &Path, path: &Path) -> Result<(), CgroupError> {
    let full = mount.join(path);
    let create = |source: Errno| CgroupError::Create {
        path: full.clone(),
        source: source.into(),
    };
    let first = match mkdir(&full, DIR_MODE) {
        Err(Errno::NOENT) => {
            make_parents(mount, path)?;
            mkdir(&full, DIR_MODE)
        }
        other => other,
    };
    match first {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            if read(&full.join("cgroup.procs"))?.is_empty() {
                Ok(())
            } else {
                Err(CgroupError::NotEmpty { path: full })
            }
        }
        Err(error) => Err(create(error)),
    }
}

fn make_parents(mount: &Path, path: &Path) -> Result<(), CgroupError> {
    for dir in parents(path) {
        let full = mount.join(dir);
        match mkdir(&full, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(CgroupError::Create {
                    path: full,
                    source: errno.into(),
                });
            }
        }
    }
    Ok(())
}

/// `a`, `a/b` for `a/b/c`.
fn parents(path: &Path) -> Vec<&Path> {
    let mut list: Vec<_> = path
        .ancestors()
        .skip(1)
        .filter(|p| !p.as_os_str().is_empty())
        .collect();
    list.reverse();
    list
}

/// A cpuset of version 1 starts empty, and an empty one takes no process: missing values are
/// copied from above, from the top down.
pub(super) fn fill_cpuset(mount: &Path, path: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut value = read(&mount.join(file))?;
        for dir in parents(path).into_iter().chain([path]) {
            let own: PathBuf = mount.join(dir).join(file);
            let current = read(&own)?;
            if current.trim().is_empty() {
                write(&own, value.trim()).map_err(|source| CgroupError::Write {
                    path: own,
                    value: value.trim().to_owned(),
                    source,
                })?;
            } else {
                value = current;
            }
        }
    }
    Ok(())
}

/// Makes the controllers available in the unified directory `path`, by naming them in
/// `cgroup.subtree_control` of every directory above it, which are made if missing.
pub(super) fn enable(
    host: &Host,
    mount: &Path,
    path: &Path,
    wanted: &BTreeSet<Controller>,
) -> Result<(), CgroupError> {
    let names: Vec<&str> = wanted
        .iter()
        .filter(|c| host.is_v2(**c))
        .filter_map(|c| c.v2_name())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    for dir in [Path::new("")].into_iter().chain(parents(path)) {
        let full = mount.join(dir);
        if !dir.as_os_str().is_empty() {
            match mkdir(&full, DIR_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(CgroupError::Create {
                        path: full,
                        source: errno.into(),
                    });
                }
            }
        }
        let file = full.join("cgroup.subtree_control");
        let enabled = read(&file)?;
        let enabled: BTreeSet<&str> = enabled.split_whitespace().collect();
        let missing: Vec<String> = names
            .iter()
            .filter(|n| !enabled.contains(*n))
            .map(|n| format!("+{n}"))
            .collect();
        if missing.is_empty() {
            continue;
        }
        let value = missing.join(" ");
        let written = write(&file, &value);
        written.map_err(|source| CgroupError::Write {
            path: file,
            value,
            source,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_from_the_top() {
        assert_eq!(
            parents(Path::new("a/b/c")),
            [Path::new("a"), Path::new("a/b")]
        );
        assert!(parents(Path::new("a")).is_empty());
    }
}
