//! The life of an OCI container as a library: create, start, enter, delete.
//!
//! One clone with all namespaces makes the container's first process from the calling one, with
//! no program executed in between; file systems are mounted by descriptor inside the container's
//! own mount namespace, so a failure leaves nothing on the host. Callers are single-threaded and
//! run from an executable that cannot be written through (see `havre_sys::fd::self_exe_readonly`).
//! Looking up users, images and networks is not done here.

mod cgroups;
mod channel;
mod child;
mod create;
mod criu;
mod delete;
mod error;
mod exec;
mod hooks;
mod launch;
mod lookup;
mod plan;
mod state;
mod tree;
mod userns;

pub use create::{Create, Created, RootfsMount, create, create_while, mount_root};
pub use criu::{CgroupsMode, Checkpoint, CriuOptions, Restore, checkpoint, restore};
pub use delete::{Delete, delete};
pub use error::{ExecCause, RuntimeError};
pub use exec::{Exec, ExecChild, exec};
pub use hooks::run as run_hooks;
pub use launch::{Gate, StdioSpec, open_gate};
pub use state::{OCI_VERSION, State, Status};
