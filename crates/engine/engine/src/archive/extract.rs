//! Archives on their way in.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult, ExtractOptions, Upload};
use havre_layer::{ApplyError, ApplyOptions, EntryProblem, Existing, Limits, extract};
use havre_sys::fsroot::Root;
use havre_types::{ErrorKind, chain};
use rustix::fs::{AtFlags, StatVfsMountFlags, StatxFlags, fstatvfs, statx};

use super::path::Place;
use super::upload::Body;
use super::view::{self, Purpose, View};
use crate::container::{Container, Fixed, accounts, root_mounts};
use crate::engine::Shared;
use crate::error::internal;
use crate::images::blocking;
use crate::plan;

pub(super) async fn run(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    place: Place,
    options: ExtractOptions,
    archive: Upload,
) -> ApiResult<()> {
    // One at a time: two of a container at rest would mount the same upper layer twice.
    let _alone = container.files.lock().await;
    let view = view::open(shared, container, Purpose::Write).await?;
    let (shared, fixed) = (Arc::clone(shared), Arc::clone(&container.now().fixed));
    blocking(move || {
        let (directory, path) = place.directory(&view)?;
        check_writable(&view, &directory, &fixed)?;
        let owner = if options.own_by_user {
            owner(&shared, &fixed)?
        } else {
            None
        };
        let existing = if options.keep_kinds {
            Existing::KeepKinds
        } else {
            Existing::ReplaceBelow
        };
        let mut options = ApplyOptions::onto(existing, owner);
        // It is the user's own disk: what is copied may be as large as there is room.
        options.limits = Limits {
            size: u64::MAX,
            file: 1 << 43,
            ..Limits::default()
        };
        let root = Root::from_fd(directory);
        let unpacked = view.inside(|| extract(Body::new(archive), &root, &options));
        let unpacked =
            unpacked.map_err(|err| internal("failed to enter the container's mounts", &err))?;
        unpacked.map_err(|err| refused(&err, &path))?;
        Ok(())
    })
    .await
}

/// Docker's texts for a place that cannot be written to. The kernel is asked, not the configuration: it
/// knows which mount a path led to.
fn check_writable(view: &View, directory: &OwnedFd, fixed: &Fixed) -> ApiResult<()> {
    let failed = |err: io::Error| internal("failed to look at the destination", &err);
    let status = fstatvfs(directory).map_err(|errno| failed(errno.into()))?;
    if !status.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let mount = |fd: BorrowedFd<'_>| {
        let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
        found.map(|found| found.stx_mnt_id)
    };
    let place = mount(directory.as_fd()).map_err(|errno| failed(errno.into()))?;
    let root = mount(view.root.as_fd()).map_err(|errno| failed(errno.into()))?;
    Err(ApiError::invalid(
        if place == root && fixed.host_config.readonly_rootfs {
            "container rootfs is marked read-only"
        } else {
            "mounted volume is marked read-only"
        },
    ))
}

/// Who the container's user is, by the container's own files.
fn owner(shared: &Shared, fixed: &Fixed) -> ApiResult<Option<(u32, u32)>> {
    if fixed.config.user.is_empty() {
        return Ok(None);
    }
    let accounts = accounts(&root_mounts(shared, fixed)?)?;
    let identity = plan::resolve_user(&fixed.config.user, &[], &accounts)?;
    Ok(Some((identity.uid, identity.gid)))
}

fn refused(err: &ApplyError, destination: &Path) -> ApiError {
    let into = destination.display();
    match err {
        ApplyError::Refused { name, source } => {
            let path = destination.join(name.trim_start_matches('/').trim_end_matches('/'));
            let path = path.display();
            match source {
                EntryProblem::OverDirectory => ApiError::invalid(format!(
                    "cannot overwrite directory \"{path}\" with non-directory \"{into}\""
                )),
                EntryProblem::OverOther => ApiError::invalid(format!(
                    "cannot overwrite non-directory \"{path}\" with directory \"{into}\""
                )),
                other => ApiError::invalid(format!("invalid entry {name:?}: {other}")),
            }
        }
        ApplyError::Tar { source } => ApiError::invalid(chain(source)),
        ApplyError::Create { source, .. } => {
            let kind = match source.kind() {
                io::ErrorKind::ResourceBusy => ErrorKind::Conflict,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    ErrorKind::ResourceExhausted
                }
                // The archive and the place it was to go to do not fit.
                _ => ErrorKind::InvalidParameter,
            };
            ApiError::new(kind, chain(err))
        }
        other => ApiError::from_classified(other),
    }
}
