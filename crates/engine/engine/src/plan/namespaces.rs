//! Which namespaces are the container's own, the host's, or another container's.

use std::path::PathBuf;

use havre_api_traits::ApiError;
use havre_engine_types::HostConfig;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use super::HostFacts;

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Private,
    Host,
    /// Made by the engine, and connected.
    Sandbox(PathBuf),
    /// Another container's; its name as given, and the path once it is known.
    Container {
        name: String,
        path: Option<PathBuf>,
    },
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Modes {
    pub network: Mode,
    pub pid: Mode,
    pub ipc: Mode,
    pub uts: Mode,
    pub cgroup: Mode,
}

/// A namespace that can be another container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    Network,
    Pid,
    Ipc,
}

impl Joined {
    /// The file in `/proc/<pid>/ns`.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
        }
    }
}

impl Modes {
    /// Reads the request.
    pub(crate) fn parse(host: &HostConfig) -> Result<Self, ApiError> {
        if !matches!(host.userns_mode.as_str(), "" | "host") {
            return Err(ApiError::not_implemented(format!(
                "user namespace mode {:?} is not available yet: only \"host\"",
                host.userns_mode
            )));
        }
        let modes = Self {
            network: network(&host.network_mode)?,
            pid: shared("PID", &host.pid_mode, &["", "private"])?,
            ipc: ipc(&host.ipc_mode)?,
            uts: shared("UTS", &host.uts_mode, &[""])?,
            cgroup: cgroup(&host.cgroupns_mode)?,
        };
        if matches!(modes.uts, Mode::Container { .. }) {
            return Err(ApiError::invalid(format!(
                "invalid UTS mode: {}",
                host.uts_mode
            )));
        }
        Ok(modes)
    }

    /// The modes that may name another container, with the name of the namespace in `/proc/<pid>/ns`.
    pub(crate) fn others(&mut self) -> [(&mut Mode, Joined); 3] {
        [
            (&mut self.network, Joined::Network),
            (&mut self.pid, Joined::Pid),
            (&mut self.ipc, Joined::Ipc),
        ]
    }
}

fn network(mode: &str) -> Result<Mode, ApiError> {
    match mode {
        "" | "default" | "none" => Ok(Mode::Private),
        "host" => Ok(Mode::Host),
        other => match other.strip_prefix("container:") {
            Some("") => Err(ApiError::invalid(
                "invalid network mode: invalid container format container:<name|id>",
            )),
            Some(name) => container("network", other, name),
            // The engine connects it, and gives its path.
            None => Ok(Mode::Private),
        },
    }
}

fn shared(what: &str, mode: &str, private: &[&str]) -> Result<Mode, ApiError> {
    match mode {
        m if private.contains(&m) => Ok(Mode::Private),
        "host" => Ok(Mode::Host),
        other => match other.strip_prefix("container:") {
            Some(name) => container(what, other, name),
            None => Err(ApiError::invalid(format!("invalid {what} mode: {other}"))),
        },
    }
}

fn ipc(mode: &str) -> Result<Mode, ApiError> {
    if mode == "container:" {
        return Err(ApiError::invalid(
            "failed to join IPC namespace: invalid name or ID supplied: \"\"",
        ));
    }
    shared("IPC", mode, &["", "none", "private", "shareable"])
}

fn cgroup(mode: &str) -> Result<Mode, ApiError> {
    match mode {
        "" | "private" => Ok(Mode::Private),
        "host" => Ok(Mode::Host),
        other => Err(ApiError::invalid(format!(
            "invalid cgroup namespace mode: {other}"
        ))),
    }
}

fn container(what: &str, mode: &str, name: &str) -> Result<Mode, ApiError> {
    if name.is_empty() {
        return Err(ApiError::invalid(format!("invalid {what} mode: {mode}")));
    }
    Ok(Mode::Container {
        name: name.to_owned(),
        path: None,
    })
}

/// The list for the specification.
pub(crate) fn plan(modes: &Modes, facts: &HostFacts) -> Result<Vec<LinuxNamespace>, ApiError> {
    use LinuxNamespaceType as Type;
    let uts = if modes.network == Mode::Host && modes.uts == Mode::Private {
        // The host's name on the host's network, but set separately: as Docker.
        &Mode::Private
    } else {
        &modes.uts
    };
    let mut list = vec![one(Type::Mount, &Mode::Private)];
    list.push(one(Type::Network, &modes.network));
    list.push(one(Type::Uts, uts));
    list.push(one(Type::Pid, &modes.pid));
    list.push(one(Type::Ipc, &modes.ipc));
    list.push(one(Type::Cgroup, &modes.cgroup));
    if facts.time_namespace {
        list.push(one(Type::Time, &Mode::Private));
    }
    list.into_iter().filter_map(Result::transpose).collect()
}

fn one(kind: LinuxNamespaceType, mode: &Mode) -> Result<Option<LinuxNamespace>, ApiError> {
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    let builder = match mode {
        Mode::Host => return Ok(None),
        Mode::Private => builder,
        Mode::Sandbox(path) => builder.path(path.clone()),
        Mode::Container {
            path: Some(path), ..
        } => builder.path(path.clone()),
        Mode::Container { name, path: None } => {
            return Err(ApiError::conflict(format!(
                "cannot join namespace of container {name}: it is not running"
            )));
        }
    };
    builder
        .build()
        .map(Some)
        .map_err(|err| crate::error::internal("failed to plan a namespace", &err))
}
