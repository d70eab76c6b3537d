//! The side of a copy that is on this machine.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome, os_text};

/// How many links a destination may lead through.
const LINKS: u32 = 10;

/// What is sent.
#[derive(Debug)]
pub(super) struct Source {
    /// The directory that holds it.
    pub parent: PathBuf,
    /// Its name there; `.` of a directory whose content alone is meant.
    pub base: OsString,
    /// What it is called in the archive unless the destination says otherwise.
    pub name: PathBuf,
    pub is_dir: bool,
}

/// Where something is unpacked.
#[derive(Debug)]
pub(super) struct Target {
    /// With all links followed.
    pub path: PathBuf,
    pub exists: bool,
    pub is_dir: bool,
    /// Written with a slash or `/.` at its end.
    pub asserts_directory: bool,
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{verb} {}: {}", path.display(), os_text(error)))
}

/// The path from the root; a slash or dot at its end stays.
pub(super) fn absolute(path: &str) -> Outcome<PathBuf> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::new(format!("getwd: {}", os_text(&error))))?;
    Ok(here.join(path))
}

fn ends_with(path: &Path, end: &str) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .ends_with(end.as_bytes())
}

fn is_dot(path: &Path) -> bool {
    ends_with(path, "/.")
}

/// Docker's check of a file that is going to be written.
pub(super) fn check_output(path: &Path) -> Outcome {
    let clean: PathBuf = path.components().collect();
    if let Some(directory) = clean.parent()
        && matches!(fs_err::metadata(directory), Err(error) if error.kind() == io::ErrorKind::NotFound)
    {
        return Err(Failure::new(format!(
            "invalid output path: directory {:?} does not exist",
            directory.display().to_string()
        )));
    }
    let is_device = fs_err::metadata(path).is_ok_and(|found| {
        let kind = found.file_type();
        kind.is_char_device() || kind.is_block_device()
    });
    if is_device {
        return Err(Failure::new(format!(
            "invalid output path: {:?} must be a directory or a regular file: got a device",
            path.display().to_string()
        )));
    }
    Ok(())
}

impl Source {
    pub(super) fn new(path: &Path, follow: bool) -> Outcome<Self> {
        let lstat = |error: &io::Error| failed("lstat", path, error);
        let clean: PathBuf = path.components().collect();
        let dot = is_dot(path);
        // A slash at the end follows a link, as everywhere.
        let slash = ends_with(path, "/");
        let follow = follow || slash;
        let asked = clean.file_name().map(OsString::from);
        let resolved = if follow {
            fs_err::canonicalize(&clean).map_err(|error| lstat(&error))?
        } else {
            match (clean.parent(), &asked) {
                (Some(parent), Some(name)) => fs_err::canonicalize(parent)
                    .map_err(|error| lstat(&error))?
                    .join(name),
                _ => PathBuf::from("/"),
            }
        };
        let found = fs_err::symlink_metadata(&resolved).map_err(|error| lstat(&error))?;
        let not_directory = || Failure::new(format!("lstat {}: not a directory", path.display()));
        if slash && !found.is_dir() {
            return Err(not_directory());
        }
        if dot || resolved.file_name().is_none() {
            let real = fs_err::canonicalize(&resolved).map_err(|error| lstat(&error))?;
            if !real.is_dir() {
                return Err(Failure::new(format!(
                    "lstat {}: not a directory",
                    path.display()
                )));
            }
            return Ok(Self {
                parent: real,
                base: ".".into(),
                name: PathBuf::from("."),
                is_dir: true,
            });
        }
        let base = resolved.file_name().map(OsString::from).unwrap_or_default();
        let name = asked.unwrap_or_else(|| base.clone());
        Ok(Self {
            parent: resolved.parent().unwrap_or(Path::new("/")).to_owned(),
            // Where a link was followed, the thing goes by the name that was asked for.
            name: PathBuf::from(if follow { name } else { base.clone() }),
            base,
            is_dir: found.is_dir(),
        })
    }
}

impl Target {
    pub(super) fn new(path: &Path) -> Outcome<Self> {
        let asserts_directory = ends_with(path, "/") || is_dot(path);
        let mut real: PathBuf = path.components().collect();
        for _link in 0..LINKS {
            let found = match fs_err::symlink_metadata(&real) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Self::missing(real, asserts_directory);
                }
                Err(error) => return Err(failed("lstat", path, &error)),
            };
            if !found.is_symlink() {
                return Ok(Self {
                    path: real,
                    exists: true,
                    is_dir: found.is_dir(),
                    asserts_directory,
                });
            }
            let target =
                fs_err::read_link(&real).map_err(|error| failed("readlink", path, &error))?;
            real = real.parent().unwrap_or(Path::new("/")).join(target);
        }
        Err(Failure::new(format!(
            "too many symlinks in {:?}",
            path.display().to_string()
        )))
    }

    fn missing(path: PathBuf, asserts_directory: bool) -> Outcome<Self> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let found = fs_err::metadata(parent).map_err(|error| failed("stat", parent, &error))?;
        if !found.is_dir() {
            return Err(Failure::new("not a directory"));
        }
        Ok(Self {
            path,
            exists: false,
            is_dir: false,
            asserts_directory,
        })
    }

    pub(super) fn parent(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).to_owned()
    }
}
