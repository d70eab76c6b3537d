//! Removal in two steps: a rename, which is atomic, and deletion in the background. What a crash
//! leaves in the trash is deleted at the next start.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use havre_sys::fsroot::{Root, remove_tree};

#[derive(Debug)]
pub(crate) struct Trash {
    path: PathBuf,
    names: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Trash {
    /// Opens the trash beside the snapshots and begins to empty it.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let path = root.join("trash");
        fs_err::create_dir_all(&path)?;
        let directory = Root::open(&path)?;
        let (names, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("snapshot-trash".to_owned())
            .spawn(move || empty(&directory, &queue))?;
        let trash = Self {
            path,
            names: Some(names),
            thread: Some(thread),
        };
        for entry in fs_err::read_dir(&trash.path)? {
            trash.delete_later(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(trash)
    }

    /// Takes a snapshot's directory out of its place.
    pub(crate) fn take(&self, directory: &Path, number: u64) -> io::Result<()> {
        match fs_err::rename(directory, self.path.join(number.to_string())) {
            Ok(()) => self.delete_later(number.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn delete_later(&self, name: String) {
        if let Some(names) = &self.names {
            // Fails only when the thread is gone; the next start deletes it then.
            drop(names.send(name));
        }
    }
}

fn empty(directory: &Root, queue: &Receiver<String>) {
    while let Ok(name) = queue.recv() {
        // What cannot be deleted now (a mount in it, an I/O error) is tried again at the next start.
        drop(remove_tree(directory.as_fd(), OsStr::new(&name)));
    }
}

impl Drop for Trash {
    fn drop(&mut self) {
        self.names = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
