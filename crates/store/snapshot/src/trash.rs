//! Removal in two steps: a rename, which is atomic, and deletion in the background. What a crash
//! leaves in the trash is deleted at the next start.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use havre_sys::fsroot::{Root, remove_tree};

/// What the thread is asked for, in this order.
#[derive(Debug)]
enum Order {
    Delete(String),
    /// Everything before it is done when the sender is dropped.
    Tell(Sender<()>),
}

#[derive(Debug)]
pub(crate) struct Trash {
    path: PathBuf,
    names: Option<Sender<Order>>,
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
            drop(names.send(Order::Delete(name)));
        }
    }

    /// Waits until what is in the trash now has been deleted; not longer than `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let Some(names) = &self.names else { return };
        let (told, done) = channel();
        if names.send(Order::Tell(told)).is_ok() {
            // It ends by an error in any case: time is over, or the sender is dropped.
            done.recv_timeout(limit).ok();
        }
    }
}

fn empty(directory: &Root, queue: &Receiver<Order>) {
    while let Ok(order) = queue.recv() {
        let name = match order {
            Order::Delete(name) => name,
            Order::Tell(told) => {
                drop(told);
                continue;
            }
        };
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
