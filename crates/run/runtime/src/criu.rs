//! Checkpoints: the processes of a container written to files, and brought back from them, by
//! CRIU (<https://criu.org>), a program of its own.
//!
//! What CRIU is told follows runc
//! (<https://github.com/opencontainers/runc/blob/main/libcontainer/criu_linux.go>), so that the
//! files are of the same kind. Two things differ. Cgroups are not CRIU's affair unless it is asked:
//! it is itself in the container's, and what it restores stays there. And what the files say is
//! not trusted: they must be the runtime user's own, and restored processes are compared with the
//! specification before they run.

mod dump;
mod guard;
mod helper;
mod images;
mod message;
mod places;
mod restore;
mod session;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use dump::{Checkpoint, checkpoint};
pub(crate) use restore::Held;
pub use restore::{Restore, restore};

use message::Options;

use crate::error::{RuntimeError, Step as _};

/// What CRIU is allowed and told; the names are those of runc's flags.
#[derive(Clone, Debug, Default)]
pub struct CriuOptions {
    /// The program; without it `criu` is looked for in PATH.
    pub program: Option<PathBuf>,
    /// Where CRIU keeps its log; the images' directory without it.
    pub work: Option<PathBuf>,
    /// Open TCP connections are kept.
    pub tcp_established: bool,
    /// TCP connections that are being made are left out.
    pub tcp_skip_in_flight: bool,
    /// Sockets to processes outside are kept.
    pub ext_unix_sk: bool,
    /// Terminals of outside sessions are kept.
    pub shell_job: bool,
    /// File locks are kept.
    pub file_locks: bool,
    /// Files that have no name any more may get one.
    pub link_remap: bool,
    /// Memory that an earlier image has too is taken out of that.
    pub auto_dedup: bool,
    /// A network namespace is made and nothing is put into it.
    pub empty_network: bool,
    /// What happens to cgroups.
    pub cgroups: CgroupsMode,
    /// The security label to restore under, `type:name`.
    pub lsm_profile: Option<String>,
    /// The label of restored mounts.
    pub lsm_mount_context: Option<String>,
}

/// What CRIU does about cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Nothing: the runtime has made the container's, and it is enough.
    #[default]
    Ignore,
    /// Those that are missing are made, with their limits.
    Soft,
    /// All limits are restored.
    Full,
    /// All are made, and none may be there.
    Strict,
}

impl CriuOptions {
    /// The part of a request that both directions have.
    fn request(&self, images: i32, work: Option<i32>, log: &str) -> Options {
        let mode = match self.cgroups {
            CgroupsMode::Ignore => message::CgroupsMode::Ignore,
            CgroupsMode::Soft => message::CgroupsMode::Soft,
            CgroupsMode::Full => message::CgroupsMode::Full,
            CgroupsMode::Strict => message::CgroupsMode::Strict,
        };
        Options {
            images_dir_fd: images,
            work_dir_fd: work,
            log_level: Some(4),
            log_file: Some(log.to_owned()),
            notify_scripts: Some(true),
            ext_unix_sk: Some(self.ext_unix_sk),
            tcp_established: Some(self.tcp_established),
            tcp_skip_in_flight: Some(self.tcp_skip_in_flight),
            shell_job: Some(self.shell_job),
            file_locks: Some(self.file_locks),
            link_remap: Some(self.link_remap),
            auto_dedup: Some(self.auto_dedup),
            orphan_pts_master: Some(true),
            manage_cgroups: Some(self.cgroups != CgroupsMode::Ignore),
            manage_cgroups_mode: Some(mode.into()),
            empty_ns: self.empty_network.then_some(message::EMPTY_NETWORK),
            ..Options::default()
        }
    }

    /// The directory of the log, if it is one of its own.
    fn work(&self) -> Result<Option<OwnedFd>, RuntimeError> {
        self.work.as_deref().map(images::make).transpose()
    }
}

fn clone_fd(fd: &OwnedFd) -> Result<OwnedFd, RuntimeError> {
    fd.try_clone().step(|| "copy a descriptor".to_owned())
}
