//! What the host is like, read for the plans: facts at the start of the engine, devices and network files later.

use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::HostConfig;
use havre_netlink::Route;
use havre_types::{Cidr, chain};
use oci_spec::runtime::PosixRlimitType;
use rustix::process::{Resource, getrlimit};

use crate::plan::{
    DEFAULT_SYSCTLS, DeviceKind, Devices, HostDevice, HostFacts, InitFacts, Numbers,
};

const CAP_SYS_RESOURCE: u32 = 24;
/// Directories of `/dev` that a container has for itself; sockets and links are left out too.
const OWN_DEV: [&str; 6] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts"];

/// Networks that a new one must not touch: those that are on a link of the host, and its name servers. IPv6 has no routes
/// worth a look: a host is on `fe80::/64` everywhere.
/// <https://github.com/moby/moby/blob/master/daemon/libnetwork/netutils/utils_linux.go> (`InferReservedNetworks`)
pub(crate) fn networks_in_use(v6: bool) -> Vec<Cidr> {
    let mut found: Vec<Cidr> = name_servers(&resolv_conf())
        .filter(|server| server.is_ipv6() == v6)
        .map(Cidr::host)
        .collect();
    if v6 {
        return found;
    }
    let routes = Route::open().and_then(|mut route| route.routes());
    match routes {
        Ok(routes) => found.extend(routes.into_iter().filter_map(|route| {
            let link = route.gateway.is_none() && route.destination.address().is_ipv4();
            let named = !route.destination.address().is_unspecified();
            (link && named).then_some(route.destination)
        })),
        Err(error) => tracing::warn!(%error, "the host's routes are not known"),
    }
    found
}

/// The addresses of an interface of the host, but those that it has of itself.
pub(crate) fn addresses_of(interface: &str) -> Result<Vec<Cidr>, String> {
    let failed = |error: havre_netlink::NetlinkError| chain(&error);
    let mut route = Route::open().map_err(failed)?;
    let link = route.link(interface).map_err(failed)?;
    let all = route.addresses().map_err(failed)?;
    let own = all
        .into_iter()
        .filter(|address| address.index == link.index && !address.link_local);
    Ok(own.map(|address| address.cidr).collect())
}

fn name_servers(resolv: &str) -> impl Iterator<Item = std::net::IpAddr> {
    resolv.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver");
        address.and(words.next())?.parse().ok()
    })
}

/// Reads the facts. What cannot be read has a cautious value.
pub(crate) fn facts(cgroup_parent: String, init: InitFacts) -> HostFacts {
    let bounding = bounding_set();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pid_max = read_number("/proc/sys/kernel/pid_max").unwrap_or(32_768);
    HostFacts {
        hostname: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        cpus,
        memory: memory_total(),
        pid_max,
        capabilities: bounding,
        hard_limits: hard_limits(bounding & (1 << CAP_SYS_RESOURCE) != 0),
        thermal_throttle: thermal_throttle(),
        time_namespace: Path::new("/proc/self/ns/time_for_children").exists(),
        cgroup_parent,
        init,
        default_sysctls: default_sysctls(),
        limits: limits(),
    }
}

fn default_sysctls() -> Vec<(&'static str, &'static str)> {
    let exists = |key: &str| Path::new("/proc/sys").join(key.replace('.', "/")).exists();
    DEFAULT_SYSCTLS
        .into_iter()
        .filter(|(key, _)| exists(key))
        .collect()
}

fn limits() -> havre_cgroup::Features {
    match havre_cgroup::Host::detect() {
        Ok(host) => havre_cgroup::Features::detect(&host),
        Err(err) => {
            tracing::warn!(error = %havre_types::chain(&err), "no limits can be set");
            havre_cgroup::Features::default()
        }
    }
}

fn bounding_set() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn read_number(path: &str) -> Option<i64> {
    fs_err::read_to_string(path).ok()?.trim().parse().ok()
}

fn memory_total() -> u64 {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

fn hard_limits(can_raise: bool) -> Vec<(PosixRlimitType, u64)> {
    if can_raise {
        return Vec::new();
    }
    [
        (PosixRlimitType::RlimitCore, Resource::Core),
        (PosixRlimitType::RlimitMemlock, Resource::Memlock),
        (PosixRlimitType::RlimitNofile, Resource::Nofile),
        (PosixRlimitType::RlimitNproc, Resource::Nproc),
        (PosixRlimitType::RlimitAs, Resource::As),
        (PosixRlimitType::RlimitCpu, Resource::Cpu),
        (PosixRlimitType::RlimitData, Resource::Data),
        (PosixRlimitType::RlimitFsize, Resource::Fsize),
        (PosixRlimitType::RlimitLocks, Resource::Locks),
        (PosixRlimitType::RlimitRss, Resource::Rss),
        (PosixRlimitType::RlimitRttime, Resource::Rttime),
        (PosixRlimitType::RlimitStack, Resource::Stack),
    ]
    .into_iter()
    .filter_map(|(kind, resource)| getrlimit(resource).maximum.map(|most| (kind, most)))
    .collect()
}

fn thermal_throttle() -> Vec<String> {
    let Ok(cpus) = fs_err::read_dir("/sys/devices/system/cpu") else {
        return Vec::new();
    };
    let mut found: Vec<String> = cpus
        .flatten()
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    found
}

/// What a container uses of the host's devices; `cdi` are the directories that describe devices by name.
pub(crate) fn devices(host: &HostConfig, cdi: &[PathBuf]) -> ApiResult<Devices> {
    let requests = host.device_requests.as_deref().unwrap_or_default();
    let mut edits = crate::cdi::resolve(requests, cdi)?;
    let mut nodes = nodes(host)?;
    nodes.append(&mut edits.nodes);
    Ok(Devices {
        nodes,
        numbers: numbers(host)?,
        edits,
    })
}

/// The numbers of the devices whose I/O is limited.
pub(crate) fn numbers(host: &HostConfig) -> ApiResult<Numbers> {
    let rates = [
        &host.blkio_device_read_bps,
        &host.blkio_device_write_bps,
        &host.blkio_device_read_iops,
        &host.blkio_device_write_iops,
    ];
    let weights = host.blkio_weight_device.iter().flatten();
    let weights = weights.map(|device| &device.path);
    let rates = rates.into_iter().flatten().flatten();
    let mut found = Numbers::default();
    for path in weights.chain(rates.map(|device| &device.path)) {
        let stat = rustix::fs::stat(path).map_err(|errno| {
            let err = std::io::Error::from(errno);
            ApiError::invalid(format!("stat {path}: {}", havre_types::os_text(&err)))
        })?;
        let number = stat.st_rdev;
        let number = (rustix::fs::major(number), rustix::fs::minor(number));
        found.0.insert(path.clone(), number);
    }
    Ok(found)
}

/// The device nodes: the requested ones, and all of the host's for a privileged container.
fn nodes(host: &HostConfig) -> ApiResult<Vec<HostDevice>> {
    let mut found = Vec::new();
    if host.privileged {
        walk(Path::new("/dev"), &mut |path| {
            if let Some(device) = stat_device(path, path.to_owned(), "rwm") {
                found.push(device);
            }
        });
    }
    for wanted in host.devices.iter().flatten() {
        let source = PathBuf::from(&wanted.path_on_host);
        let inside = if wanted.path_in_container.is_empty() {
            source.clone()
        } else {
            PathBuf::from(&wanted.path_in_container)
        };
        let rights = if wanted.cgroup_permissions.is_empty() {
            "rwm"
        } else {
            &wanted.cgroup_permissions
        };
        let before = found.len();
        if source.is_dir() {
            walk(&source, &mut |path| {
                let below = path
                    .strip_prefix(&source)
                    .map_or_else(|_| inside.clone(), |p| inside.join(p));
                found.extend(stat_device(path, below, rights));
            });
        } else {
            found.extend(stat_device(&source, inside, rights));
        }
        if found.len() == before {
            let why = if source.is_dir() || !source.exists() {
                "no such file or directory"
            } else {
                "not a device node"
            };
            return Err(ApiError::invalid(format!(
                "error gathering device information while adding custom device \"{}\": {why}",
                source.display()
            )));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

/// The device node at `path`, as `inside` in a container; none when it is no device.
pub(crate) fn stat_device(path: &Path, inside: PathBuf, rights: &str) -> Option<HostDevice> {
    let meta = fs_err::metadata(path).ok()?;
    let kind = if meta.file_type().is_char_device() {
        DeviceKind::Char
    } else if meta.file_type().is_block_device() {
        DeviceKind::Block
    } else {
        return None;
    };
    Some(HostDevice {
        path: inside,
        kind,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o777,
        uid: meta.uid(),
        gid: meta.gid(),
        permissions: rights.to_owned(),
    })
}

fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs_err::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            if !OWN_DEV.iter().any(|own| name == *own) {
                walk(&entry.path(), visit);
            }
        } else if (kind.is_char_device() || kind.is_block_device()) && name != "console" {
            visit(&entry.path());
        }
    }
}

/// Mounts reach a container, or leave it, only through a mount of the host that passes them on.
/// <https://github.com/moby/moby/blob/master/daemon/oci_linux.go> (`ensureShared`)
pub(crate) fn check_propagation(source: &Path, propagation: &str) -> ApiResult<()> {
    let (fields, wanted): (&[&str], _) = match propagation {
        "shared" | "rshared" => (&["shared:"], "shared"),
        "slave" | "rslave" => (&["shared:", "master:"], "shared or slave"),
        _ => return Ok(()),
    };
    let failed = |err: std::io::Error| {
        crate::error::internal("failed to look at the mounts of the host", &err)
    };
    let real = fs_err::canonicalize(source).map_err(failed)?;
    let mounts = havre_sys::mounts::mountinfo().map_err(failed)?;
    // Of several on one place the last one counts.
    let above = mounts
        .iter()
        .filter(|mount| real.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count());
    let passes_on = |mount: &havre_sys::mounts::MountInfo| {
        let mut given = mount.propagation.iter();
        given.any(|field| fields.iter().any(|wanted| field.starts_with(wanted)))
    };
    if above.is_some_and(passes_on) {
        return Ok(());
    }
    let place = above.map_or(Path::new("/"), |mount| mount.mount_point.as_path());
    Err(ApiError::invalid(format!(
        "path {} is mounted on {} but it is not a {wanted} mount",
        source.display(),
        place.display()
    )))
}

/// The host's `/etc/resolv.conf`; a missing one is empty.
pub(crate) fn resolv_conf() -> String {
    fs_err::read_to_string(havre_dns::resolvconf::HOST_FILE).unwrap_or_default()
}

/// The host's `/etc/hosts`; a missing one is empty.
pub(crate) fn hosts() -> String {
    fs_err::read_to_string("/etc/hosts").unwrap_or_default()
}

/// A directory that only root may enter; one that exists is made so.
pub(crate) fn make_private_dir(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
