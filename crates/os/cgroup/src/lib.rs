//! Cgroup v1, v2 and hybrid behind one interface.
//!
//! [`Host`] says once what the kernel has, [`plan()`] turns resources into writes without touching
//! anything, and [`Cgroup`] makes directories, performs the writes, and takes everything away
//! again. Only subdirectories are made: mounts and existing groups are left as they are.

mod devices;
mod error;
mod features;
mod group;
mod host;
mod plan;
mod stats;

pub use devices::{Policy, Rule, runtime_defaults};
pub use error::CgroupError;
pub use features::Features;
pub use group::{Birth, Cgroup, Joiner};
pub use host::{Controller, Host, Mode};
pub use plan::{Plan, Write, plan};
pub use stats::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats};
