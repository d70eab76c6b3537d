//! The state of one unpacking: what kind of thing each entry makes, what it replaces, and what can
//! only be done at the end. An entry replaces what an earlier one of the same archive put there.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags, statat};
use rustix::io::Errno;

use crate::apply::create::{self, Owner};
use crate::apply::dirs::{Dirs, Reached};
use crate::apply::path::Clean;
use crate::apply::{ApplyOptions, Existing, Whiteouts};
use crate::error::{ApplyError, EntryProblem, shown};
use crate::fixup::{DeferredLink, Fixups};
use crate::header::{Entry, Kind, Mtime};
use crate::overlay;
use crate::reader::TarReader;

const SKIPPED_KEPT: usize = 100;

#[derive(Debug)]
pub(super) struct Unpacker<'a> {
    pub(super) options: &'a ApplyOptions,
    pub(super) dirs: Dirs,
    /// Paths of this archive and the directories above them, where removal must spare them.
    pub(super) own: HashSet<PathBuf>,
    entries: u64,
    content: u64,
    dir_times: Vec<(PathBuf, Mtime)>,
    links: BTreeMap<PathBuf, PathBuf>,
    skipped: Vec<String>,
    owner: Owner,
}

/// What an archive came to.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) content: u64,
    pub(super) entries: u64,
    pub(super) fixups: Fixups,
    pub(super) skipped_xattrs: Vec<String>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(root: BorrowedFd<'_>, options: &'a ApplyOptions) -> Result<Self, ApplyError> {
        let created = |source| ApplyError::Create {
            name: "/".to_owned(),
            source,
        };
        let dirs = Dirs::new(root, options.whiteouts != Whiteouts::Ordinary).map_err(created)?;
        let owner = Owner::detect(dirs.root(), options.whiteouts).map_err(created)?;
        Ok(Self {
            options,
            dirs,
            own: HashSet::new(),
            entries: 0,
            content: 0,
            dir_times: Vec::new(),
            links: BTreeMap::new(),
            skipped: Vec::new(),
            owner,
        })
    }

    /// Everything that is in the archive.
    pub(super) fn all<R: BufRead>(&mut self, reader: &mut TarReader<R>) -> Result<(), ApplyError> {
        while let Some(mut entry) = reader.next_entry()? {
            if let Some((uid, gid)) = self.options.owner {
                (entry.uid, entry.gid) = (uid.into(), gid.into());
            }
            if let Some((old, new)) = &self.options.rename {
                rename(&mut entry.path, old, new);
                if let Kind::HardLink { target } = &mut entry.kind {
                    rename(target, old, new);
                }
            }
            self.entry(&entry, reader)?;
        }
        Ok(())
    }

    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), ApplyError> {
        let limits = &self.options.limits;
        self.entries += 1;
        if self.entries > limits.entries {
            return Err(ApplyError::TooManyEntries {
                limit: limits.entries,
            });
        }
        let refused = |source| ApplyError::Refused {
            name: shown(&entry.path),
            source,
        };
        let created = |source| ApplyError::Create {
            name: shown(&entry.path),
            source,
        };
        let clean = Clean::new(&entry.path, limits).map_err(refused)?;
        create::check(entry, self.options).map_err(refused)?;
        let Some((parents, name)) = clean.split() else {
            return self.root_entry(entry);
        };
        if self.options.whiteouts != Whiteouts::Ordinary
            && let Some(whiteout) = self.whiteout(parents, name)
        {
            return whiteout.map_err(created)?.map_err(refused);
        }
        if self.options.existing == Existing::KeepKinds {
            self.check_kind(entry, parents, name)
                .map_err(created)?
                .map_err(refused)?;
        }
        if !self.links.is_empty() {
            self.links.remove(&clean.to_path());
        }
        if self.options.whiteouts == Whiteouts::Remove {
            self.note_own(&clean.to_path());
        }
        match &entry.kind {
            Kind::Directory => self.directory(entry, &clean).map_err(created),
            Kind::HardLink { target } => {
                let target = Clean::new(target, limits).map_err(|_outside| {
                    refused(EntryProblem::LinkEscape {
                        target: shown(target),
                    })
                })?;
                self.hard_link(&clean, &target)
                    .map_err(created)?
                    .map_err(refused)
            }
            Kind::File => self.file(entry, parents, name, reader),
            Kind::Symlink { .. } | Kind::Character { .. } | Kind::Block { .. } | Kind::Fifo => {
                let reached = self.dirs.make(parents).map_err(created)?;
                let replaced = create::node(reached.fd(), name, entry, self.owner)
                    .and_then(|made| {
                        create::xattrs_by_name(reached.fd(), name, entry, &mut self.skipped)?;
                        create::times_by_name(reached.fd(), name, entry)?;
                        Ok(made)
                    })
                    .map_err(created)?;
                self.settle(replaced);
                Ok(())
            }
        }
    }

    /// Times of directories come last, because everything made in one changes them.
    pub(super) fn finish(mut self) -> Result<Unpacked, ApplyError> {
        for (path, mtime) in &self.dir_times {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            // Gone or something else by now: a later entry replaced it.
            let Ok(dir) = self.dirs.open(path, flags) else {
                continue;
            };
            create::times(&dir, *mtime).map_err(|source| ApplyError::Create {
                name: path.display().to_string(),
                source,
            })?;
        }
        self.skipped.truncate(SKIPPED_KEPT);
        let links = self
            .links
            .into_iter()
            .map(|(path, target)| DeferredLink { path, target });
        Ok(Unpacked {
            content: self.content,
            entries: self.entries,
            fixups: Fixups {
                implicit_dirs: self.dirs.into_made(),
                links: links.collect(),
            },
            skipped_xattrs: self.skipped,
        })
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        let name = || shown(&entry.path);
        if entry.kind != Kind::Directory {
            return Err(ApplyError::Refused {
                name: name(),
                source: EntryProblem::Root,
            });
        }
        self.dirs.root_is_explicit();
        if self.options.existing != Existing::Replace {
            return Ok(());
        }
        self.owner.note(entry);
        create::metadata(self.dirs.root(), entry, Owner::Always, &mut self.skipped).map_err(
            |source| ApplyError::Create {
                name: name(),
                source,
            },
        )?;
        self.dir_times.push((PathBuf::new(), entry.mtime));
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, clean: &Clean<'_>) -> io::Result<()> {
        let Some((parents, name)) = clean.split() else {
            return Ok(());
        };
        let parent = self.dirs.make(parents)?;
        let made = create::directory(parent.fd(), name)?;
        self.settle(made.replaced_directory);
        let dir = self.dirs.make(clean.names())?;
        // An older directory may have any owner; a new one has ours.
        let owner = if made.is_new {
            self.owner
        } else {
            Owner::Always
        };
        create::metadata(dir.fd(), entry, owner, &mut self.skipped)?;
        self.owner.note(entry);
        self.dirs.is_explicit(clean.names());
        self.dir_times.push((clean.to_path(), entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parents: &[&OsStr],
        name: &OsStr,
        reader: &mut TarReader<R>,
    ) -> Result<(), ApplyError> {
        let created = |source| ApplyError::Create {
            name: shown(&entry.path),
            source,
        };
        let reached = self.dirs.make(parents).map_err(created)?;
        let (file, replaced) = create::file(reached.fd(), name).map_err(created)?;
        let sparse = entry.sparse.is_some();
        while let Some(data) = reader.data()? {
            let offset = sparse.then_some(data.offset);
            create::write_all(&file, data.bytes, offset).map_err(created)?;
        }
        if sparse {
            rustix::fs::ftruncate(&file, entry.size).map_err(|errno| created(errno.into()))?;
        }
        create::metadata(file.as_fd(), entry, self.owner, &mut self.skipped).map_err(created)?;
        create::times(&file, entry.mtime).map_err(created)?;
        self.content += entry.size;
        self.settle(replaced);
        Ok(())
    }

    /// The outer error is the system's, the inner one the entry's.
    fn hard_link(
        &mut self,
        clean: &Clean<'_>,
        target: &Clean<'_>,
    ) -> io::Result<Result<(), EntryProblem>> {
        let Some((parents, name)) = clean.split() else {
            return Ok(Ok(()));
        };
        let shown_target = || target.to_path().display().to_string();
        let Some((target_parents, target_name)) = target.split() else {
            return Ok(Err(EntryProblem::LinkMissing {
                target: shown_target(),
            }));
        };
        let existing = match self.dirs.find(target_parents)? {
            Some(Reached::Opened(fd)) => Some(fd),
            Some(Reached::Kept(fd)) => Some(fd.try_clone_to_owned()?),
            None => None,
        };
        let existing = existing.filter(|dir| is_there(dir, target_name));
        let Some(existing) = existing else {
            if !self.options.defer_links {
                return Ok(Err(EntryProblem::LinkMissing {
                    target: shown_target(),
                }));
            }
            let reached = self.dirs.make(parents)?;
            let replaced = create::clear(reached.fd(), name)?;
            self.settle(replaced);
            let target = target.to_path();
            let target = self.links.get(&target).cloned().unwrap_or(target);
            self.links.insert(clean.to_path(), target);
            return Ok(Ok(()));
        };
        if clean == target {
            return Ok(Ok(()));
        }
        let reached = self.dirs.make(parents)?;
        let replaced = create::hard_link(existing.as_fd(), target_name, reached.fd(), name)?;
        self.settle(replaced);
        Ok(Ok(()))
    }

    /// Whether the entry may stand where something has its name; the outer error is the system's.
    fn check_kind(
        &self,
        entry: &Entry,
        parents: &[&OsStr],
        name: &OsStr,
    ) -> io::Result<Result<(), EntryProblem>> {
        let Some(dir) = self.dirs.find(parents)? else {
            return Ok(Ok(()));
        };
        let is_directory = match statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(Ok(())),
            Err(errno) => return Err(errno.into()),
        };
        Ok(match (is_directory, entry.kind == Kind::Directory) {
            (true, false) => Err(EntryProblem::OverDirectory),
            (false, true) => Err(EntryProblem::OverOther),
            (true, true) | (false, false) => Ok(()),
        })
    }

    /// After a directory was replaced, kept descriptors may be of directories that are gone.
    pub(super) fn settle(&mut self, replaced_directory: bool) {
        if replaced_directory {
            self.dirs.forget();
        }
    }

    fn note_own(&mut self, path: &Path) {
        let mut path = path;
        while !path.as_os_str().is_empty() && self.own.insert(path.to_owned()) {
            path = path.parent().unwrap_or(Path::new(""));
        }
    }
}

/// Only whole components are replaced.
fn rename(path: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    if let Some(rest) = path.strip_prefix(old)
        && (rest.is_empty() || rest.starts_with(b"/"))
    {
        *path = [new, rest].concat();
    }
}

fn is_there(dir: &OwnedFd, name: &OsStr) -> bool {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => !overlay::is_whiteout(&stat),
        Err(_missing) => false,
    }
}
