//! What a request can be refused for before anything is made, and what it is warned about.

use havre_api_traits::ApiError;
use havre_engine_types::{ContainerConfig, HostConfig};
use havre_oci::ImageConfig;

use super::mounts::{self, Kind, UserMount};
use super::namespaces::Modes;
use super::{HostFacts, files, resources, security, sysctl, user};
use crate::plan::Mode;
use crate::restart::Policy;
use crate::signal;

/// Checks a merged configuration. The strings are warnings for the answer of `create`.
pub(crate) fn check(
    config: &ContainerConfig,
    host: &HostConfig,
    image: &ImageConfig,
    facts: &HostFacts,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    let modes = Modes::parse(host)?;
    user::check(&config.user)?;
    files::check_hostname("hostname", &config.hostname)?;
    files::check_hostname("domain name", &config.domainname)?;
    conflicts(config, host)?;
    // What the gateway is, is known at the start.
    let networks = files::HostsFile {
        host_gateway: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        ..files::HostsFile::default()
    };
    let extra = host.extra_hosts.as_deref().unwrap_or_default();
    files::hosts(extra, &networks)?;
    files::dns(host)?;
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    for entry in config.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(ApiError::invalid(format!(
                "invalid environment variable: {entry}"
            )));
        }
    }
    if let Some(check) = &config.healthcheck {
        crate::health::refuse(check)?;
    }
    resources::check(host, facts)?;
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    warnings.extend(security::warning(&security));
    if modes.network == Mode::Host && host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    let own = sysctl::Own {
        ipc: modes.ipc != Mode::Host,
        net: modes.network != Mode::Host,
        uts: modes.uts != Mode::Host,
    };
    sysctl::check(host.sysctls.iter().flatten(), own)?;
    super::caps(host, facts)?;
    let policy = &host.restart_policy;
    let policy = Policy::parse(&policy.name, policy.maximum_retry_count)?;
    if host.auto_remove && policy != Policy::No {
        return Err(ApiError::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    let given = user_mounts(host)?;
    not_yet(config, host, &given)?;
    let volumes = image
        .config
        .volumes
        .iter()
        .flatten()
        .map(|(path, _)| path.as_str());
    let unmounted: Vec<&str> = volumes.filter(|path| is_unmounted(path, &given)).collect();
    if !unmounted.is_empty() {
        warnings.push(format!(
            "volumes are not available yet: {} of the image stays in the container's own layer",
            unmounted.join(", ")
        ));
    }
    Ok(warnings)
}

/// Settings that exclude each other or mean nothing on Linux.
/// <https://github.com/moby/moby/blob/master/daemon/internal/runconfig/hostconfig_unix.go>
fn conflicts(config: &ContainerConfig, host: &HostConfig) -> Result<(), ApiError> {
    fn any<T>(list: Option<&Vec<T>>) -> bool {
        list.is_some_and(|list| !list.is_empty())
    }
    let refuse = |text: String| Err(ApiError::invalid(text));
    if host.network_mode.starts_with("container:") {
        let published = host
            .port_bindings
            .as_ref()
            .is_some_and(|ports| !ports.is_empty());
        let exposed = config
            .exposed_ports
            .as_ref()
            .is_some_and(|ports| !ports.is_empty());
        let taken = [
            (!config.hostname.is_empty(), "hostname and the network mode"),
            (
                any(host.links.as_ref()),
                "container type network can't be used with links. This would result in undefined behavior",
            ),
            (any(host.dns.as_ref()), "dns and the network mode"),
            (
                any(host.extra_hosts.as_ref()),
                "custom host-to-IP mapping and the network mode",
            ),
            (
                published || host.publish_all_ports,
                "port publishing and the container type network mode",
            ),
            (exposed, "port exposing and the container type network mode"),
        ];
        if let Some((_, what)) = taken.into_iter().find(|(given, _)| *given) {
            return refuse(format!("conflicting options: {what}"));
        }
    }
    if host.network_mode == "host" && any(host.links.as_ref()) {
        return refuse(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
                .to_owned(),
        );
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return refuse("conflicting options: hostname and the UTS mode".to_owned());
    }
    if !host.isolation.is_empty() && !host.isolation.eq_ignore_ascii_case("default") {
        return refuse(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host.isolation
        ));
    }
    if host.cgroup_parent.contains(char::is_control) {
        return refuse(format!("invalid cgroup parent: {:?}", host.cgroup_parent));
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        super::devices::parse_rule(rule)?;
    }
    if host
        .annotations
        .iter()
        .flatten()
        .any(|(key, _)| key.is_empty())
    {
        let text = "invalid Annotations: the empty string is not permitted as an annotation key";
        return refuse(text.to_owned());
    }
    Ok(())
}

/// Nothing of the request is mounted at this path.
fn is_unmounted(path: &str, given: &[UserMount]) -> bool {
    mounts::absolute(path).is_ok_and(|path| given.iter().all(|mount| mount.destination != path))
}

/// What exists in Docker and not here yet is refused by name, never ignored.
fn not_yet(
    config: &ContainerConfig,
    host: &HostConfig,
    given: &[UserMount],
) -> Result<(), ApiError> {
    let refuse = |what: &str| {
        Err(ApiError::not_implemented(format!(
            "{what} is not available yet"
        )))
    };
    // Something that is mounted there takes the volume's place, as in Docker.
    let mut volumes = config.volumes.iter().flatten().map(|(path, _)| path);
    if let Some(path) = volumes.find(|path| is_unmounted(path, given)) {
        return Err(mounts::anonymous(path));
    }
    if host.volumes_from.as_ref().is_some_and(|v| !v.is_empty()) {
        return refuse("--volumes-from");
    }
    if let Some(key) = host.storage_opt.iter().flatten().map(|(key, _)| key).next() {
        return Err(ApiError::invalid(if key == "size" {
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
                .to_owned()
        } else {
            format!("Unknown option {key}")
        }));
    }
    Ok(())
}

/// `-v`, `--mount` and `--tmpfs` together.
pub(super) fn user_mounts(host: &HostConfig) -> Result<Vec<UserMount>, ApiError> {
    let mut mounts = Vec::new();
    for spec in host.binds.iter().flatten() {
        mounts.push(mounts::parse_bind(spec)?);
    }
    for mount in host.mounts.iter().flatten() {
        mounts.push(long_form(mount)?);
    }
    for (path, options) in host.tmpfs.iter().flatten() {
        let destination = mounts::clean(path).map_err(ApiError::invalid)?;
        let kind = Kind::Tmpfs {
            options: mounts::tmpfs_options(options)?,
        };
        mounts.push(UserMount {
            destination,
            kind,
            read_only: false,
        });
    }
    Ok(mounts)
}

/// <https://github.com/moby/moby/blob/master/daemon/volume/mounts/linux_parser.go>
fn long_form(mount: &havre_engine_types::Mount) -> Result<UserMount, ApiError> {
    let wrong = |why: &str| {
        ApiError::invalid(format!(
            "invalid mount config for type {:?}: {why}",
            mount.kind
        ))
    };
    if mount.target.is_empty() {
        return Err(wrong("field Target must not be empty"));
    }
    let destination = mounts::clean(&mount.target).map_err(|why| wrong(&why))?;
    match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(wrong("field Source must not be empty"));
            }
            let source = mounts::absolute(&mount.source).map_err(|why| wrong(&why))?;
            let mut planned = UserMount::bind(source, destination);
            planned.read_only = mount.read_only;
            if let (
                Some(options),
                Kind::Bind {
                    propagation,
                    recursive,
                    recursive_read_only,
                    create_source,
                    ..
                },
            ) = (&mount.bind_options, &mut planned.kind)
            {
                *recursive = !options.non_recursive;
                *recursive_read_only = !options.read_only_non_recursive;
                *create_source = options.create_mountpoint;
                match options.propagation.as_str() {
                    "" => {}
                    p @ ("private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared") => {
                        p.clone_into(propagation);
                    }
                    other => return Err(wrong(&format!("invalid propagation mode: {other}"))),
                }
            }
            Ok(planned)
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(wrong("field Source must not be specified"));
            }
            let mut text = String::new();
            if let Some(options) = &mount.tmpfs_options {
                if options.size_bytes > 0 {
                    text = format!("size={}", options.size_bytes);
                }
                if options.mode != 0 {
                    text = format!("{text},mode={:o}", options.mode);
                }
            }
            let kind = Kind::Tmpfs {
                options: mounts::tmpfs_options(&text)?,
            };
            Ok(UserMount {
                destination,
                kind,
                read_only: mount.read_only,
            })
        }
        "volume" => Err(mounts::named_volume(&mount.source)),
        "image" => Err(ApiError::not_implemented(
            "mounts of images are not available yet",
        )),
        _ => Err(wrong("mount type unknown")),
    }
}

/// A shared bind needs a root that passes the propagation on.
/// <https://github.com/moby/moby/blob/master/daemon/oci_linux.go> (`withMounts`)
pub(super) fn rootfs_propagation(host: &HostConfig) -> Result<&'static str, ApiError> {
    let mut wanted = "rprivate";
    for mount in user_mounts(host)? {
        if let Kind::Bind { propagation, .. } = mount.kind {
            match propagation.as_str() {
                "shared" | "rshared" => return Ok("shared"),
                "slave" | "rslave" => wanted = "rslave",
                _ => {}
            }
        }
    }
    Ok(wanted)
}
