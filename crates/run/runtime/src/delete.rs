//! The end of a container: its cgroup goes, its last hooks run.

use std::path::Path;

use havre_cgroup::Cgroup;
use oci_spec::runtime::Spec;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{RuntimeError, Step as _};
use crate::hooks;
use crate::plan::{Kind, Namespaces};
use crate::state::{State, Status};

/// What is to be removed.
#[derive(Debug)]
pub struct Delete<'a> {
    /// The container's name.
    pub id: &'a str,
    /// Its directory.
    pub bundle: &'a Path,
    /// Its configuration.
    pub spec: &'a Spec,
    /// Its cgroup; processes that are still there are killed.
    pub cgroup: Option<&'a Cgroup>,
}

/// Removes what the kernel holds of a container whose first process has ended, and runs its
/// poststop hooks. All of it is tried; the first failure is returned.
pub fn delete(request: &Delete<'_>) -> Result<(), RuntimeError> {
    let unmounted = unmount_root(request.bundle, request.spec);
    let removed = match request.cgroup {
        Some(cgroup) => cgroup.delete().map_err(|source| RuntimeError::Cgroup {
            what: "remove the cgroup",
            source,
        }),
        None => Ok(()),
    };
    let state = State::creating(request.id, request.bundle, request.spec).at(Status::Stopped, 0);
    let poststop = request
        .spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.poststop().as_ref());
    let ran = hooks::run_all("poststop", poststop, &state);
    removed.and(unmounted).and(ran)
}

/// The tree of a container that had no mount namespace hangs on the host.
pub(crate) fn unmount_root(bundle: &Path, spec: &Spec) -> Result<(), RuntimeError> {
    let namespaces = Namespaces::of(spec)?;
    let Some(root) = spec
        .root()
        .as_ref()
        .filter(|_| !namespaces.has(Kind::Mount))
    else {
        return Ok(());
    };
    let path = bundle.join(root.path());
    match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // It was not mounted, or the bundle is gone.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error).step(|| format!("unmount `{}`", path.display())),
    }
}
