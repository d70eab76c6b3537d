//! A container's files as it sees them, without a trace in the host's mount table.
//!
//! Of a running container this is the root of its own mount namespace. For a stopped one its root file
//! system and its mounts are put together again, in a mount namespace that nothing but the view holds:
//! for reading on a throw-away upper layer, so that looking changes nothing; for writing on its own.
//! A short-lived thread enters the namespace and gives out the root by descriptor; it runs no code and
//! opens no file of the container (CVE-2019-14271).

mod stopped;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use havre_api_traits::ApiResult;
use havre_sys::fsroot::Root;
use havre_sys::namespace::{enter, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::container::Container;
use crate::engine::Shared;
use crate::error::internal;
use crate::images::blocking;
use crate::shim::Shim;
use crate::state::Status;

/// What is to be done with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// The files.
#[derive(Debug)]
pub(super) struct View {
    pub root: Root,
    /// What keeps the mounts together.
    namespace: OwnedFd,
}

impl View {
    /// Runs work in the mount namespace of the files, on a thread of its own. Elsewhere the kernel would
    /// let go of a mount of the container's when the name that it hangs on is removed (man 2 unlink,
    /// EBUSY); there it refuses. Paths still lead into the host, never into the container: whoever
    /// works on its files does so by descriptor, and `/proc` must be the true one.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_thread(|| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let host = openat(CWD, "/", flags, Mode::empty())?;
            unshare(UnshareFlags::FS)?;
            enter(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
            fchdir(&host)?;
            chroot(".")?;
            Ok(work())
        })
    }
}

/// Opens a container's files, whatever it does meanwhile.
pub(super) async fn open(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    purpose: Purpose,
) -> ApiResult<View> {
    let failed = |err: io::Error| internal("failed to open the container's files", &err);
    let mut views = container.view.clone();
    // While it starts, its root belongs to neither. A closed channel is a container that is gone.
    let view = match views
        .wait_for(|view| view.state.status != Status::Starting)
        .await
    {
        Ok(view) => Arc::clone(&view),
        Err(_closed) => container.now(),
    };
    if view.state.removed {
        return Err(crate::error::no_such_container(container.id().as_str()));
    }
    if let Some(shim) = &view.shim
        && let Some(process) = process(shim, view.state.pid).await
    {
        let entered = blocking(move || in_thread(|| running(&process)).map_err(failed));
        match entered.await {
            Ok(entered) => return Ok(entered),
            // It ended meanwhile, or is about to.
            Err(err) => {
                tracing::debug!(container = %container.id(), error = %err.message, "no running view");
            }
        }
    }
    let (kept, owner) = (Arc::clone(shared), Arc::clone(container));
    let built = blocking(move || {
        let plan = stopped::Plan::new(&kept, &owner.now().fixed, purpose)?;
        in_thread(|| stopped::build(&plan)).map_err(failed)
    });
    built
        .await
        .map_err(|err| match container.now().state.status {
            Status::Removing => crate::error::no_such_container(container.id().as_str()),
            _ => err,
        })
}

/// The directory of the container's first process in `/proc`; none when it is gone. The shim, which alone
/// can let a process number become free, says after the opening that it is still the same process.
async fn process(shim: &Shim, pid: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = PathBuf::from(format!("/proc/{pid}"));
    let opened = (pid != 0).then(|| rustix::fs::open(path, flags, Mode::empty()));
    let process = opened?.ok()?;
    let state = shim.state("").await.ok()?;
    (state.pid == pid && state.exited_at.is_none()).then_some(process)
}

/// The root of the mount namespace of a process, which need not be the root of the process.
fn running(process: &OwnedFd) -> io::Result<View> {
    unshare(UnshareFlags::FS)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = openat(process, "ns/mnt", flags, Mode::empty())?;
    enter(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty())?;
    Ok(View {
        root: Root::from_fd(root),
        namespace,
    })
}

/// Runs work that changes the namespaces of its thread, on a thread of its own.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("container-files".to_owned())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .unwrap_or_else(|_panic| Err(io::Error::other("the thread of a view failed")))
    })
}
