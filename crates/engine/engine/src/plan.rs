//! From an image's configuration and a request to the runtime specification: pure functions of their arguments.
//!
//! Nothing here opens a file or asks the kernel; what the host is like comes in as [`HostFacts`].

mod capabilities;
mod check;
mod devices;
mod edits;
mod files;
pub(crate) mod log;
mod merge;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;
mod security;
mod sysctl;
#[cfg(test)]
mod tests;
mod union;
mod user;

use std::path::{Path, PathBuf};

use havre_api_traits::ApiError;
use havre_engine_types::{ContainerConfig, ExecCreateRequest, HostConfig};
use havre_types::ContainerId;
use oci_spec::runtime::{LinuxBuilder, PosixRlimitType, Process, RootBuilder, Spec, SpecBuilder};

pub(crate) use check::check;
pub(crate) use devices::{DeviceKind, Devices, HostDevice, Numbers, check_permissions};
pub(crate) use files::{HostsFile, dns};
pub(crate) use merge::merge;
pub(crate) use mounts::Kind as MountKind;
pub(crate) use namespaces::{Joined, Mode, Modes};
pub(crate) use resources::{
    check as check_limits, device_io, resources as limits, settle as settle_limits,
};
pub(crate) use seccomp::Filters;
pub(crate) use sysctl::DEFAULTS as DEFAULT_SYSCTLS;
pub(crate) use union::{MAX_ACCOUNT_FILE, layers_of, read_file, read_head};
pub(crate) use user::{Accounts, Identity, resolve as resolve_user};

/// What the host is like; read once when the engine starts.
#[derive(Clone, Debug)]
pub(crate) struct HostFacts {
    pub hostname: String,
    pub cpus: usize,
    pub memory: u64,
    pub pid_max: i64,
    /// The bounding set, a bit for each capability.
    pub capabilities: u64,
    /// Hard limits of the engine, when it cannot raise them.
    pub hard_limits: Vec<(PosixRlimitType, u64)>,
    /// `/sys/devices/system/cpu/cpuN/thermal_throttle`, those that exist.
    pub thermal_throttle: Vec<String>,
    pub time_namespace: bool,
    /// Those of [`sysctl::DEFAULTS`] that this kernel has.
    pub default_sysctls: Vec<(&'static str, &'static str)>,
    /// What the kernel can limit.
    pub limits: havre_cgroup::Features,
    /// Below which every container's cgroup is made.
    pub cgroup_parent: String,
    pub init: InitFacts,
}

/// The init process that containers may have.
#[derive(Clone, Debug, Default)]
pub(crate) struct InitFacts {
    /// Containers that do not say get one.
    pub by_default: bool,
    pub program: PathBuf,
}

/// Where the init process is in a container: Docker's place.
const INIT: &str = "/sbin/docker-init";

/// Whether the container's first process is the init process: only in a PID namespace of its own.
pub(crate) fn wants_init(host: &HostConfig, facts: &HostFacts) -> bool {
    host.pid_mode.is_empty() && host.init.unwrap_or(facts.init.by_default)
}

/// All that a specification is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs<'a> {
    pub id: &'a ContainerId,
    pub config: &'a ContainerConfig,
    pub host: &'a HostConfig,
    pub facts: &'a HostFacts,
    pub filters: &'a Filters,
    pub identity: &'a Identity,
    pub devices: &'a Devices,
    /// Namespaces of other containers, by the request's modes.
    pub modes: &'a Modes,
    /// Where `hosts`, `hostname` and `resolv.conf` are: the container's own, or those of the container whose network it joins.
    pub data: &'a Path,
}

/// The host name inside: what was asked for, the host's on its UTS namespace, else the short id.
pub(crate) fn hostname(
    config: &ContainerConfig,
    modes: &Modes,
    facts: &HostFacts,
    id: &ContainerId,
) -> String {
    if !config.hostname.is_empty() {
        return config.hostname.clone();
    }
    if modes.uts == Mode::Host || modes.network == Mode::Host {
        return facts.hostname.clone();
    }
    id.short().to_owned()
}

/// The engine's files and where they appear.
pub(crate) fn engine_files(data: &Path) -> [(PathBuf, &'static str); 3] {
    [
        (data.join("resolv.conf"), "/etc/resolv.conf"),
        (data.join("hostname"), "/etc/hostname"),
        (data.join("hosts"), "/etc/hosts"),
    ]
}

/// Texts of the engine's files, by their names in the container's directory. `host_hosts` is the host's own `/etc/hosts`,
/// which a container on the host's network has as long as it adds nothing to it.
/// <https://github.com/moby/moby/blob/master/daemon/libnetwork/sandbox_dns_unix.go> (`buildHostsFile`)
pub(crate) fn engine_texts(
    inputs: Inputs<'_>,
    host_hosts: Option<String>,
    networks: &crate::network::Texts,
) -> Result<[(&'static str, String); 3], ApiError> {
    let extra = inputs.host.extra_hosts.as_deref().unwrap_or_default();
    let name = hostname(inputs.config, inputs.modes, inputs.facts, inputs.id);
    let hosts = match host_hosts.filter(|_| extra.is_empty()) {
        Some(text) => text,
        None => files::hosts(extra, &networks.hosts)?,
    };
    Ok([
        ("resolv.conf", networks.resolv_conf.clone()),
        ("hostname", files::hostname(&name)),
        ("hosts", hosts),
    ])
}

/// The mounts that the request asks for.
pub(crate) fn user_mounts(host: &HostConfig) -> Result<Vec<mounts::UserMount>, ApiError> {
    check::user_mounts(host)
}

/// Makes the specification.
pub(crate) fn spec(inputs: Inputs<'_>) -> Result<Spec, ApiError> {
    let failed = |err| crate::error::internal("failed to plan the container", &err);
    let security = security::parse(inputs.host.security_opt.as_deref().unwrap_or_default())?;
    let caps = caps(inputs.host, inputs.facts)?;
    let name = hostname(inputs.config, inputs.modes, inputs.facts, inputs.id);
    let context = context(inputs, &name, &caps, &security);
    let process = process::init(context, inputs.identity)?;
    let defaults = mounts::Defaults {
        privileged: inputs.host.privileged,
        writable_cgroup: security.writable_cgroups.unwrap_or(inputs.host.privileged),
        read_only: inputs.host.readonly_rootfs,
        shm: shared_memory(inputs),
    };
    let mut all_mounts = mounts::assemble(
        &defaults,
        &engine_files(inputs.data),
        &check::user_mounts(inputs.host)?,
    )?;
    if wants_init(inputs.host, inputs.facts) {
        all_mounts.push(mounts::read_only_file(&inputs.facts.init.program, INIT)?);
    }
    let linux = linux(inputs, &caps, &security)?;
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(inputs.host.readonly_rootfs)
        .build()
        .map_err(failed)?;
    let mut builder = SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .process(process)
        .mounts(all_mounts)
        .linux(linux)
        // The builder has a name of its own for this.
        .hostname("");
    if inputs.modes.uts == Mode::Private {
        builder = builder.hostname(name);
        if !inputs.config.domainname.is_empty() {
            builder = builder.domainname(inputs.config.domainname.clone());
        }
    }
    if let Some(annotations) = inputs.host.annotations.as_ref().filter(|a| !a.is_empty()) {
        let owned = annotations.iter().map(|(k, v)| (k.clone(), v.clone()));
        builder = builder.annotations(owned.collect::<std::collections::HashMap<_, _>>());
    }
    let mut spec = builder.build().map_err(failed)?;
    edits::apply(&mut spec, &inputs.devices.edits);
    Ok(spec)
}

fn shared_memory(inputs: Inputs<'_>) -> mounts::Shm {
    let host = inputs.host;
    match &inputs.modes.ipc {
        Mode::Host => mounts::Shm::Host,
        Mode::Container {
            path: Some(path), ..
        } => {
            let process = path.ancestors().nth(2).unwrap_or(Path::new("/"));
            mounts::Shm::Of(process.join("root/dev/shm"))
        }
        _ if host.ipc_mode == "none" => mounts::Shm::None,
        _ if host.shm_size > 0 => mounts::Shm::Own(host.shm_size),
        _ => mounts::Shm::Own(mounts::DEFAULT_SHM),
    }
}

/// The specification of an exec process.
pub(crate) fn exec(inputs: Inputs<'_>, request: &ExecCreateRequest) -> Result<Process, ApiError> {
    let security = security::parse(inputs.host.security_opt.as_deref().unwrap_or_default())?;
    let caps = caps(inputs.host, inputs.facts)?;
    let name = hostname(inputs.config, inputs.modes, inputs.facts, inputs.id);
    let context = context(inputs, &name, &caps, &security);
    process::exec(context, request, inputs.identity)
}

fn context<'a>(
    inputs: Inputs<'a>,
    hostname: &'a str,
    caps: &'a capabilities::Set,
    security: &security::SecurityOptions,
) -> process::Context<'a> {
    let no_new_privileges = security.no_new_privileges;
    process::Context {
        config: inputs.config,
        host: inputs.host,
        facts: inputs.facts,
        hostname,
        caps,
        no_new_privileges,
    }
}

fn caps(host: &HostConfig, facts: &HostFacts) -> Result<capabilities::Set, ApiError> {
    let held = capabilities::held(facts.capabilities);
    if host.privileged {
        return Ok(held);
    }
    let add = host.cap_add.as_deref().unwrap_or_default();
    let drop = host.cap_drop.as_deref().unwrap_or_default();
    capabilities::choose(add, drop, &held)
}

/// Writes down which paths are masked and read-only, as inspect shows them.
pub(crate) fn settle_paths(host: &mut HostConfig, facts: &HostFacts) -> Result<(), ApiError> {
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    if !host.privileged && !security.system_paths_open {
        let (masked, read_only) = closed_paths(host, facts, &security);
        host.masked_paths = Some(masked);
        host.readonly_paths = Some(read_only);
    }
    Ok(())
}

/// The masked and the read-only paths: what was asked for, else the defaults.
fn closed_paths(
    host: &HostConfig,
    facts: &HostFacts,
    security: &security::SecurityOptions,
) -> (Vec<String>, Vec<String>) {
    let open = host.privileged || security.system_paths_open;
    let masked = match &host.masked_paths {
        Some(given) => given.clone(),
        None if open => Vec::new(),
        None => security::masked_paths(&facts.thermal_throttle),
    };
    let read_only = match &host.readonly_paths {
        Some(given) => given.clone(),
        None if open => Vec::new(),
        None => security::readonly_paths(),
    };
    (masked, read_only)
}

/// Where the container's cgroup is, below each hierarchy.
pub(crate) fn cgroup_path(host: &HostConfig, facts: &HostFacts, id: &ContainerId) -> PathBuf {
    let parent = if host.cgroup_parent.is_empty() {
        &facts.cgroup_parent
    } else {
        &host.cgroup_parent
    };
    mounts::below_root(parent).join(id.as_str())
}

fn linux(
    inputs: Inputs<'_>,
    caps: &capabilities::Set,
    security: &security::SecurityOptions,
) -> Result<oci_spec::runtime::Linux, ApiError> {
    use oci_spec::runtime::Capability;
    let host = inputs.host;
    let rights = devices::Rights {
        privileged: host.privileged,
        mknod: caps.contains(&Capability::Mknod),
        net_admin: caps.contains(&Capability::NetAdmin),
        rules: host.device_cgroup_rules.as_deref().unwrap_or_default(),
    };
    let rules = devices::rules(&inputs.devices.nodes, rights)?;
    let cgroup = cgroup_path(host, inputs.facts, inputs.id);
    let own = sysctl::Own {
        ipc: inputs.modes.ipc != Mode::Host,
        net: inputs.modes.network != Mode::Host,
        uts: inputs.modes.uts != Mode::Host,
    };
    let mut sysctls = sysctl::check(host.sysctls.iter().flatten(), own)?;
    if matches!(inputs.modes.network, Mode::Private | Mode::Sandbox(_)) {
        sysctl::add_defaults(&mut sysctls, &inputs.facts.default_sysctls);
    }
    let (masked, read_only) = closed_paths(host, inputs.facts, security);
    let mut limits = resources::resources(host, inputs.facts, rules)?;
    if let Some(io) = resources::device_io(host, &inputs.devices.numbers)? {
        limits.set_block_io(Some(io));
    }
    let mut builder = LinuxBuilder::default()
        .namespaces(namespaces::plan(inputs.modes, inputs.facts)?)
        .resources(limits)
        .cgroups_path(cgroup)
        .devices(devices::nodes(&inputs.devices.nodes)?)
        .masked_paths(masked)
        .readonly_paths(read_only)
        .rootfs_propagation(check::rootfs_propagation(host)?);
    if !sysctls.is_empty() {
        builder = builder.sysctl(
            sysctls
                .into_iter()
                .collect::<std::collections::HashMap<_, _>>(),
        );
    }
    let default_and_privileged =
        host.privileged && matches!(security.seccomp, security::Seccomp::Default);
    if !default_and_privileged
        && let Some(filter) = inputs.filters.filter(&security.seccomp, caps)?
    {
        builder = builder.seccomp(filter);
    }
    builder
        .build()
        .map_err(|err| crate::error::internal("failed to plan the container", &err))
}
