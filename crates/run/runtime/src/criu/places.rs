//! What CRIU must not carry over but find anew: mounts from the host, joined namespaces.
//!
//! Each such mount goes by the path at which the container sees it. What is put there on restore
//! comes from the specification of the container that is restored, never from the checkpoint.

use std::path::{Path, PathBuf};

use havre_cgroup::Cgroup;
use havre_sys::fsroot::Root;
use rustix::fs::{FileType, fstat};

use super::message::ExternalMount;
use crate::child::rootfs::existing;
use crate::error::{RuntimeError, Step as _};
use crate::plan::{Kind, Plan, What};

/// The null device, which hides files.
pub(super) const MASK_NULL: (u32, u32) = (1, 3);
pub(super) const NULL: &str = "/dev/null";

/// The word under which the network namespace travels, as runc has it.
pub(super) const EXTERNAL_NET: &str = "extRootNetNS";

/// As in `/proc/PID/ns`, and in CRIU's requests.
pub(super) const fn namespace_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Mount => "mnt",
        Kind::Pid => "pid",
        Kind::Network => "net",
        Kind::Ipc => "ipc",
        Kind::Uts => "uts",
        Kind::User => "user",
        Kind::Cgroup => "cgroup",
        Kind::Time => "time",
    }
}

/// The mounts from the host: where the container sees them, and where CRIU finds them: below
/// `stage` by the number of the step. `root` is the container's root as its processes see it, or
/// as it will be.
fn from_the_host(
    plan: &Plan,
    root: &Root,
    cgroup: &Cgroup,
    stage: &Path,
) -> Result<Vec<(PathBuf, PathBuf)>, RuntimeError> {
    let mut out = Vec::new();
    for (number, step) in plan.mounts.iter().enumerate() {
        let describe = || format!("find `{}` in the container", step.target.display());
        match &step.what {
            What::Bind { .. } => {
                let target = root.follow(&step.target).step(describe)?;
                out.push((target, stage.join(number.to_string())));
            }
            // Within a cgroup namespace CRIU mounts the hierarchies anew.
            What::Cgroup if !plan.namespaces.has(Kind::Cgroup) => {
                let target = root.follow(&step.target).step(describe)?;
                cgroup_mounts(&target, cgroup, &mut out);
            }
            What::Cgroup | What::Fs { .. } | What::Remount => {}
        }
    }
    // Device nodes are made where the kernel allows it, and mounted otherwise.
    if plan.own_dev && plan.namespaces.has(Kind::User) {
        let nodes = plan.devices.iter();
        out.extend(nodes.map(|node| (node.path.clone(), node.path.clone())));
    }
    Ok(out)
}

/// Without these two a restored container would meet what is there already: mounts, and processes
/// of the same numbers.
pub(super) fn check_namespaces(plan: &Plan) -> Result<(), RuntimeError> {
    if plan.namespaces.has(Kind::Mount) && plan.namespaces.makes(Kind::Pid) {
        return Ok(());
    }
    let what = "a checkpoint of a container without mount and PID namespaces of its own".to_owned();
    Err(RuntimeError::Unsupported { what })
}

/// As `cgroups::Placement` mounts them.
fn cgroup_mounts(target: &Path, cgroup: &Cgroup, out: &mut Vec<(PathBuf, PathBuf)>) {
    let directories = cgroup.directories();
    let unified = cgroup.fd().is_some();
    if let ([(_, directory)], true) = (directories.as_slice(), unified) {
        out.push((target.to_owned(), directory.clone()));
        return;
    }
    for (mount, directory) in directories {
        if let Some(name) = mount.file_name() {
            out.push((target.join(name), directory));
        }
    }
}

/// The files that are hidden behind the host's null device.
pub(super) fn masks(plan: &Plan, root: &Root) -> Result<Vec<PathBuf>, RuntimeError> {
    let mut out = Vec::new();
    for path in &plan.masked {
        let describe = || format!("look at `{}`", path.display());
        let Some(fd) = existing(root, path).step(describe)? else {
            continue;
        };
        let stat = fstat(&fd).step(describe)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            out.push(root.follow(path).step(describe)?);
        }
    }
    Ok(out)
}

/// For the dump: mount points and the words for them, which are the same.
pub(super) fn to_dump(
    plan: &Plan,
    root: &Root,
    cgroup: &Cgroup,
) -> Result<Vec<ExternalMount>, RuntimeError> {
    let binds = from_the_host(plan, root, cgroup, Path::new("/"))?;
    let paths = binds.into_iter().map(|(at, _)| at);
    let all = paths.chain(masks(plan, root)?);
    all.map(|at| external(&at, &at)).collect()
}

/// For the restore: the words, and what of the host they stand for. A mask has its word whether
/// this kernel has the file or not.
pub(super) fn to_restore(
    plan: &Plan,
    root: &Root,
    cgroup: &Cgroup,
    stage: &Path,
) -> Result<Vec<ExternalMount>, RuntimeError> {
    let binds = from_the_host(plan, root, cgroup, stage)?;
    let masks = plan.masked.iter();
    let masks = masks.map(|at| (at.clone(), PathBuf::from(NULL)));
    let all = binds.into_iter().chain(masks);
    all.map(|(at, from)| external(&at, &from)).collect()
}

fn external(key: &Path, value: &Path) -> Result<ExternalMount, RuntimeError> {
    let text = |path: &Path| match path.to_str() {
        // CRIU takes the pair apart at these.
        Some(text) if !text.contains([']', ':']) => Ok(text.to_owned()),
        _ => Err(RuntimeError::Unsupported {
            what: format!("a mount on `{}` in a checkpoint", path.display()),
        }),
    };
    Ok(ExternalMount {
        key: text(key)?,
        value: match value.to_str() {
            Some(value) => value.to_owned(),
            None => text(value)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_criu_would_misread_are_refused() {
        external(Path::new("/data"), Path::new("/srv/a:b")).unwrap();
        external(Path::new("/da]ta"), Path::new("/srv")).unwrap_err();
        external(Path::new("/da:ta"), Path::new("/srv")).unwrap_err();
    }
}
