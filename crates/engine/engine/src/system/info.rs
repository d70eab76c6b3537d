//! What `info` shows: facts of this host and this engine, each of them true; what there is not is empty.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::path::Path;

use havre_cgroup::{Host, Mode};
use havre_engine_types::{
    Commit, DeviceInfo, IndexInfo, PluginsInfo, RegistryConfig, Runtime, SwarmInfo, SystemInfo,
};
use havre_types::Timestamp;

use super::VERSION;
use crate::cdi::Catalogue;
use crate::engine::{Config, Shared};
use crate::runtimes::OWN;
use crate::state::Status;

/// Collects the facts; reads a few files.
pub(super) fn info(shared: &Shared, tasks: usize) -> SystemInfo {
    let (running, paused, stopped) = counts(shared);
    let uname = rustix::system::uname();
    let os = os_release();
    let config = &shared.config;
    let devices = Catalogue::read(&config.cdi_spec_dirs);
    SystemInfo {
        id: config.instance.clone(),
        containers: running + paused + stopped,
        containers_running: running,
        containers_paused: paused,
        containers_stopped: stopped,
        images: i64::try_from(shared.images.images().len()).unwrap_or(0),
        driver: shared.snapshots.driver().to_owned(),
        driver_status: driver_status(shared),
        plugins: plugins(),
        debug: config.debug,
        experimental_build: true,
        n_fd: fs_err::read_dir("/proc/self/fd")
            .map_or(0, |fds| i64::try_from(fds.count()).unwrap_or(0)),
        // What goroutines are in dockerd.
        n_goroutines: i64::try_from(tasks).unwrap_or(0),
        n_events_listener: i64::try_from(shared.bus.listeners()).unwrap_or(0),
        system_time: Timestamp::now().rfc3339(),
        logging_driver: config.log.driver.clone(),
        cgroup_driver: "cgroupfs".to_owned(),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        operating_system: field(&os, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        os_version: field(&os, "VERSION_ID").unwrap_or_default(),
        os_type: "linux".to_owned(),
        architecture: ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(registries(shared)),
        ncpu: i64::try_from(shared.facts.cpus).unwrap_or(0),
        mem_total: i64::try_from(shared.facts.memory).unwrap_or(0),
        docker_root_dir: config.data_root.display().to_string(),
        name: shared.facts.hostname.clone(),
        labels: config.labels.clone(),
        server_version: VERSION.to_owned(),
        runtimes: runtimes(config),
        default_runtime: config.runtimes.default.clone(),
        cdi_spec_dirs: config
            .cdi_spec_dirs
            .iter()
            .map(|directory| directory.display().to_string())
            .collect(),
        discovered_devices: devices.names().map(discovered).collect(),
        swarm: SwarmInfo {
            local_node_state: "inactive".to_owned(),
            ..SwarmInfo::default()
        },
        live_restore_enabled: true,
        init_binary: shared
            .facts
            .init
            .program
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        containerd_commit: Commit::default(),
        security_options: vec![
            "name=seccomp,profile=builtin".to_owned(),
            "name=cgroupns".to_owned(),
        ],
        ipv4_forwarding: fs_err::read_to_string("/proc/sys/net/ipv4/ip_forward")
            .is_ok_and(|t| t.trim() == "1"),
        warnings: missing()
            .into_iter()
            .chain(devices.warnings)
            .chain(shared.networks.warnings())
            .collect(),
        ..cgroup_info()
    }
}

/// How many containers run, are paused, do neither.
fn counts(shared: &Shared) -> (i64, i64, i64) {
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    for container in shared.registry.all() {
        match container.now().state.status {
            Status::Running | Status::Restarting => running += 1,
            Status::Paused => paused += 1,
            Status::Created
            | Status::Starting
            | Status::Exited
            | Status::Removing
            | Status::Dead => {
                stopped += 1;
            }
        }
    }
    (running, paused, stopped)
}

fn discovered(name: &str) -> DeviceInfo {
    DeviceInfo {
        source: "cdi".to_owned(),
        id: name.to_owned(),
    }
}

/// Havre's own runtime, and those of the configuration.
fn runtimes(config: &Config) -> BTreeMap<String, Runtime> {
    let own = Runtime {
        path: config.shim.display().to_string(),
        ..Runtime::default()
    };
    let programs = config.runtimes.programs.iter().map(|(name, program)| {
        let runtime = Runtime {
            path: program.path.display().to_string(),
            runtime_args: Some(program.args.clone()).filter(|args| !args.is_empty()),
            ..Runtime::default()
        };
        (name.clone(), runtime)
    });
    programs.chain([(OWN.to_owned(), own)]).collect()
}

/// What Docker's driver says of itself, as far as it is so here.
fn driver_status(shared: &Shared) -> Vec<[String; 2]> {
    let root = shared.config.data_root.join("snapshots");
    let mut status = vec![[
        "Backing Filesystem".to_owned(),
        file_system(&root).to_owned(),
    ]];
    if shared.snapshots.driver() == "overlay2" {
        let metacopy = fs_err::read_to_string("/sys/module/overlay/parameters/metacopy");
        let metacopy = metacopy.is_ok_and(|text| text.trim() == "Y");
        for (name, holds) in [
            ("Supports d_type", true),
            ("Using metacopy", metacopy),
            ("Native Overlay Diff", true),
            ("userxattr", false),
        ] {
            status.push([name.to_owned(), holds.to_string()]);
        }
    }
    status
}

/// Docker's name of the file system (<https://github.com/moby/moby/blob/master/daemon/internal/fstype/fstype_linux.go>).
fn file_system(path: &Path) -> &'static str {
    let Ok(stat) = rustix::fs::statfs(path) else {
        return "<unknown>";
    };
    match stat.f_type {
        0xEF53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlayfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        _ => "<unknown>",
    }
}

fn plugins() -> PluginsInfo {
    PluginsInfo {
        volume: Vec::new(),
        network: ["bridge", "host", "ipvlan", "macvlan", "null"]
            .map(str::to_owned)
            .to_vec(),
        authorization: None,
        log: havre_logs::options::DRIVERS.map(str::to_owned).to_vec(),
    }
}

/// What of the kernel is not there is named, never silently missing.
fn missing() -> Vec<String> {
    let mut warnings = Vec::new();
    if !Path::new("/sys/kernel/security/apparmor").exists() {
        warnings.push("WARNING: AppArmor is not available on this host".to_owned());
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        warnings.push("WARNING: SELinux is not available on this host".to_owned());
    }
    warnings
}

fn cgroup_info() -> SystemInfo {
    let version = match Host::detect() {
        Ok(host) if host.mode() == Mode::V2 => "2",
        Ok(_) => "1",
        Err(_) => "",
    };
    let available = !version.is_empty();
    SystemInfo {
        cgroup_version: version.to_owned(),
        memory_limit: available,
        swap_limit: available,
        cpu_cfs_period: available,
        cpu_cfs_quota: available,
        cpu_shares: available,
        cpu_set: available,
        pids_limit: available,
        oom_kill_disable: version == "1",
        ..SystemInfo::default()
    }
}

fn registries(shared: &Shared) -> RegistryConfig {
    let config = &shared.config;
    let mirrors = config.registry_mirrors.clone();
    let hub = IndexInfo {
        name: "docker.io".to_owned(),
        mirrors: mirrors.clone(),
        secure: true,
        official: true,
    };
    let mut index_configs: BTreeMap<String, IndexInfo> = [("docker.io".to_owned(), hub)].into();
    let (cidrs, hosts): (Vec<String>, Vec<String>) = config
        .insecure_registries
        .iter()
        .cloned()
        .partition(|entry| entry.contains('/'));
    for host in hosts {
        let info = IndexInfo {
            name: host.clone(),
            ..IndexInfo::default()
        };
        index_configs.insert(host, info);
    }
    let mut insecure = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
    insecure.extend(cidrs);
    RegistryConfig {
        insecure_registry_cidrs: insecure,
        index_configs,
        mirrors: Some(mirrors).filter(|mirrors| !mirrors.is_empty()),
    }
}

fn os_release() -> String {
    fs_err::read_to_string("/etc/os-release").unwrap_or_default()
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim_matches('"').to_owned())
}
