//! Containers: the record of each, the actor that alone changes it, and the registry through which all are found.

mod actor;
mod change;
mod checkpoint;
mod create;
mod ending;
mod exit;
mod inspect;
mod join;
mod launch;
mod lifecycle;
mod list;
mod logs;
mod networking;
mod operations;
mod record;
mod registry;
mod status;

pub(crate) use actor::{Beginning, Command, SHIM_DEADLINE, spawn as spawn_actor};
pub(crate) use join::donor;
pub(crate) use launch::{accounts, exit_code_of, root_mounts};
pub(crate) use list::list as list_containers;
pub(crate) use operations::send;
pub(crate) use record::{Exit, Fixed, KIND, Places, Record, State};
pub(crate) use registry::{Container, Registry, View};
