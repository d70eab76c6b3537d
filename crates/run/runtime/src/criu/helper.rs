//! The process that sets the scene for a restore and then becomes CRIU.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use havre_sys::fsroot::Root;
use havre_sys::mount::MountAttrFlags;
use havre_sys::process::{Child, CloneArgs, CloneFlags, Keep, clone3};
use havre_sys::{fd, namespace, net, process};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::places;
use super::restore::Scene;
use super::session::Ends;
use crate::cgroups::Placement;
use crate::channel::{self, FromChild};
use crate::child::rootfs::attach_layers;
use crate::child::{join_keyring, sysctl};
use crate::error::{RuntimeError, Step as _};
use crate::plan::{Kind, MountStep, Plan, What};
use crate::tree;

/// CRIU's end of the conversation, and the first of its other descriptors.
const SOCKET: RawFd = 3;
pub(super) const FIRST: RawFd = 4;

impl Scene<'_> {
    /// Starts it, and returns when it is CRIU.
    pub(super) fn start(
        &self,
        placement: &Placement<'_>,
        ends: &Ends,
        cast: &[(String, BorrowedFd<'_>)],
    ) -> Result<Child, RuntimeError> {
        let (ours, theirs) = channel::pair().step(|| "make a socket pair".to_owned())?;
        let own = [&ends.theirs, &ends.complaints, &ends.null].map(OwnedFd::as_fd);
        let keep: Vec<RawFd> = placement
            .descriptors()
            .chain(self.sources.descriptors())
            .chain(cast.iter().map(|(_, fd)| *fd))
            .chain(own)
            .map(|fd| fd.as_raw_fd())
            .chain([theirs.number()])
            .collect();
        let args = CloneArgs {
            cgroup: placement.birth,
            keep: Some(Keep {
                below: 3,
                fds: &keep,
            }),
            ..CloneArgs::new(CloneFlags::NONE)
        };
        let child = clone3(&args, || match self.become_criu(placement, ends, cast) {
            Ok(never) => match never {},
            Err(error) => {
                theirs.fail(&error);
                1
            }
        });
        let child = child.step(|| "clone the helper that becomes CRIU".to_owned())?;
        drop(theirs);
        let word = ours.hear().step(|| "wait for CRIU to start".to_owned());
        let error = match word {
            Ok(FromChild::End) => return Ok(child),
            Ok(FromChild::Failed(error)) | Err(error) => error,
            Ok(_) => RuntimeError::Died {
                how: "it spoke out of turn".to_owned(),
            },
        };
        drop(child.kill(Signal::KILL));
        drop(child.wait());
        Err(error)
    }

    fn become_criu(
        &self,
        placement: &Placement<'_>,
        ends: &Ends,
        cast: &[(String, BorrowedFd<'_>)],
    ) -> Result<Infallible, RuntimeError> {
        placement.join_self()?;
        // CRIU makes none itself when it leaves cgroups alone: its own is inherited.
        if self.plan.namespaces.makes(Kind::Cgroup) {
            namespace::unshare(UnshareFlags::NEWCGROUP)
                .step(|| "make the cgroup namespace".to_owned())?;
        }
        join_keyring(self.request.create.id)?;
        let network = match self.makes_network() {
            true => Some(self.make_network()?),
            false => None,
        };
        self.mount_root()?;
        if self.request.create.die_with_parent {
            set_parent_process_death_signal(Some(Signal::KILL))
                .step(|| "tie CRIU to its parent".to_owned())?;
        }
        let network = network.as_ref().map(OwnedFd::as_fd);
        let rest = cast.iter().map(|(_, fd)| *fd).chain(network).zip(FIRST..);
        let own = [
            (ends.null.as_fd(), 0),
            (ends.null.as_fd(), 1),
            (ends.complaints.as_fd(), 2),
            (ends.theirs.as_fd(), SOCKET),
        ];
        place(own.into_iter().chain(rest).collect()).step(|| "hand CRIU its files".to_owned())?;
        let argv = self.criu.argv(SOCKET);
        let error = process::exec(&self.criu.path, &argv, &self.criu.env);
        Err(error).step(|| format!("execute `{}`", self.criu.path.to_string_lossy()))
    }

    /// A network namespace with the sysctls of the specification; the helper itself stays where
    /// it is.
    fn make_network(&self) -> Result<OwnedFd, RuntimeError> {
        let describe = || "make the network namespace".to_owned();
        let open_own = || {
            open(
                "/proc/self/ns/net",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let back = open_own().step(describe)?;
        namespace::unshare(UnshareFlags::NEWNET).step(describe)?;
        net::loopback_up().step(|| "bring up the loopback interface".to_owned())?;
        let sysctls = self.plan.sysctls.iter();
        let own = sysctls.filter(|(path, _)| path.starts_with("net/"));
        let host = Root::open(Path::new("/")).step(describe)?;
        sysctl::write(&own.cloned().collect::<Vec<_>>(), &host)?;
        let made = open_own().step(describe)?;
        namespace::enter(back.as_fd(), Some(LinkNameSpaceType::Network)).step(describe)?;
        Ok(made)
    }

    /// The root at its path, clean, with a place for every mount that CRIU will make.
    fn mount_root(&self) -> Result<(), RuntimeError> {
        let describe = || "make a mount namespace for the root".to_owned();
        namespace::unshare(UnshareFlags::NEWNS).step(describe)?;
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", flags).step(describe)?;
        // What hides files must not be the host's writable node: mode and owner of that could be
        // changed through it. CRIU copies the mount that it finds.
        let describe = || "mount the null device".to_owned();
        let node = open(places::NULL, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let node = node.step(describe)?;
        tree::attach(self.sources.null.as_fd(), node.as_fd()).step(describe)?;
        self.stage()?;
        let path = &self.plan.rootfs;
        let Some(root) = attach_layers(path, &self.sources.root)? else {
            return Err(RuntimeError::spec("root", "there is no root"));
        };
        // As when a container is made, a mount may need a place in what was mounted before it.
        // That happens on a copy above, which goes again.
        let describe = || format!("make the mount points in `{}`", path.display());
        let copy = tree::bind_fd(root.as_fd(), false).step(describe)?;
        tree::attach(copy.as_fd(), root.as_fd()).step(describe)?;
        make_places(&self.plan, &Root::from_fd(copy))?;
        unmount(path, UnmountFlags::DETACH).step(describe)
    }

    /// Puts each mount from the host with its attributes where CRIU takes it from. CRIU itself
    /// forgets the attributes of a second mount of the same file system.
    ///
    /// The place is the directory of the images: nobody else sees it covered, and CRIU reads those
    /// by descriptor.
    fn stage(&self) -> Result<(), RuntimeError> {
        let describe = || "prepare the mounts from the host".to_owned();
        let top = tree::filesystem("tmpfs", "havre", &[], MountAttrFlags::NOSUID)
            .map_err(|(source, _)| source)
            .step(describe)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = open(self.request.images, flags, Mode::empty()).step(describe)?;
        tree::attach(top.as_fd(), place.as_fd()).step(describe)?;
        let top = Root::from_fd(top);
        for (number, step) in self.plan.mounts.iter().enumerate() {
            let What::Bind { .. } = step.what else {
                continue;
            };
            let Some(made) = step.tree()? else { continue };
            let name = number.to_string();
            let mode = Mode::from_raw_mode(0o700);
            let target = match tree::is_directory(&made).step(describe)? {
                true => top.mkdir_all(name.as_ref(), mode),
                false => top.ensure_file(name.as_ref(), mode),
            };
            tree::attach(made.as_fd(), target.step(describe)?.as_fd()).step(|| step.describe())?;
        }
        Ok(())
    }
}

fn make_places(plan: &Plan, root: &Root) -> Result<(), RuntimeError> {
    let on_tmpfs = |step: &MountStep| {
        plan.mounts.iter().any(|other| {
            let tmpfs = matches!(&other.what, What::Fs { fstype, .. } if fstype == "tmpfs");
            tmpfs && other.target != step.target && step.target.starts_with(&other.target)
        })
    };
    for step in &plan.mounts {
        match &step.what {
            // CRIU restores what is in these, places included.
            _ if on_tmpfs(step) => {}
            What::Bind { .. } => {
                let Some(made) = step.tree()? else { continue };
                let target = tree::target(root, step, &made)?;
                tree::attach(made.as_fd(), target.as_fd()).step(|| step.describe())?;
            }
            // Within sysfs and proc, which are not there yet but bring it along.
            What::Cgroup | What::Remount => {}
            What::Fs { .. } => {
                root.mkdir_all(&step.target, Mode::from_raw_mode(0o755))
                    .step(|| step.describe())?;
            }
        }
    }
    Ok(())
}

/// Puts copies of the descriptors at the numbers, for a program to be executed.
fn place(wanted: Vec<(BorrowedFd<'_>, RawFd)>) -> io::Result<()> {
    let above = wanted
        .iter()
        .map(|(_, number)| number + 1)
        .max()
        .unwrap_or(3);
    // A source below the highest number could be overwritten before its turn.
    let mut copies = Vec::new();
    for (from, number) in wanted {
        copies.push((fcntl_dupfd_cloexec(from, above)?, number));
    }
    for (copy, number) in &copies {
        fd::place(copy.as_fd(), *number)?;
    }
    Ok(())
}
