//! What a container reads about its networks: names in `/etc/hosts`, servers in `/etc/resolv.conf`.

use std::net::IpAddr;
use std::path::Path;

use havre_api_traits::ApiResult;
use havre_dns::resolvconf::{Made, Overrides, Purpose, ResolvConf, source};
use havre_dns::{Upstreams, Zone};

use super::live::Live;
use super::names::memberships;
use super::wanted;
use crate::container::Fixed;
use crate::engine::Shared;
use crate::host;
use crate::plan::HostsFile;

/// What is known of a container's networks when its files are written.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// None: as without networks.
    pub resolv_conf: Option<String>,
    pub hosts: HostsFile,
    /// What the companion has to know.
    pub zone: Zone,
}

/// Makes the texts for a container on these networks.
pub(crate) fn texts(shared: &Shared, fixed: &Fixed, live: Option<&Live>) -> Texts {
    let hosts = HostsFile {
        host_gateway: host_gateway(shared),
        linked: linked(shared, fixed),
        own: live.map_or_else(Vec::new, |live| own_addresses(fixed, live)),
    };
    let Some(live) = live else {
        return Texts {
            hosts,
            ..Texts::default()
        };
    };
    let made = resolv_conf(shared, fixed, live);
    Texts {
        hosts,
        zone: Zone {
            networks: memberships(live),
            upstreams: if made.overridden {
                Upstreams::FromContainer(made.upstreams)
            } else {
                Upstreams::Host
            },
            forward: live
                .ends
                .iter()
                .any(|end| end.default_route.0 || end.default_route.1),
            ndots_set: made.ndots_set,
        },
        resolv_conf: Some(made.text),
    }
}

/// Writes the files of a running container anew, in place: they are mounted in it.
pub(crate) fn rewrite(shared: &Shared, fixed: &Fixed, texts: &Texts) -> ApiResult<()> {
    let data = shared.places.data(&fixed.id);
    let extra = fixed.host_config.extra_hosts.as_deref().unwrap_or_default();
    let hosts = crate::plan::hosts_file(None, extra, &texts.hosts)?;
    write(&data.join("hosts"), &hosts)?;
    match &texts.resolv_conf {
        Some(text) => write(&data.join("resolv.conf"), text),
        None => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> ApiResult<()> {
    fs_err::write(path, text)
        .map_err(|error| crate::error::internal("failed to write the container's files", &error))
}

fn resolv_conf(shared: &Shared, fixed: &Fixed, live: &Live) -> Made {
    let defaults = &shared.config.network;
    let host = &fixed.host_config;
    let own = |given: &Option<Vec<String>>, default: &[String]| match given {
        Some(list) if !list.is_empty() => list.clone(),
        _ => default.to_vec(),
    };
    let servers: Vec<IpAddr> = host
        .dns
        .iter()
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect();
    let overrides = Overrides {
        name_servers: if servers.is_empty() {
            defaults.dns.clone()
        } else {
            servers
        },
        search: own(&host.dns_search, &defaults.dns_search),
        options: own(&host.dns_options, &defaults.dns_options),
    };
    let purpose = if live.resolves {
        Purpose::Embedded
    } else {
        Purpose::Bridge {
            ipv6: live.ends.iter().any(|end| end.ipv6.is_some()),
        }
    };
    let path = source(&host::network_files().0);
    let text = fs_err::read_to_string(path).unwrap_or_default();
    ResolvConf::parse(&text, path).for_container(&overrides, purpose)
}

fn own_addresses(fixed: &Fixed, live: &Live) -> Vec<(IpAddr, String)> {
    let hostname = wanted::hostname(fixed);
    let names = match fixed.config.domainname.as_str() {
        "" => hostname,
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    let addresses = live.ends.iter().flat_map(|end| end.all_addresses());
    addresses.map(|address| (address, names.clone())).collect()
}

/// Containers of the default bridge that this one is linked to, each with its alias, host name and name.
/// <https://github.com/moby/moby/blob/master/daemon/container_operations_unix.go> (`addLegacyLinks`)
fn linked(shared: &Shared, fixed: &Fixed) -> Vec<(IpAddr, String)> {
    let links = wanted::links(fixed.host_config.links.as_deref().unwrap_or_default());
    let mut lines = Vec::new();
    for (alias, name) in links {
        let Ok(other) = shared.registry.find(&name) else {
            continue;
        };
        let view = other.now();
        let live = view.state.live.as_deref();
        let end = live.and_then(|live| live.ends.iter().find(|end| end.name == "bridge"));
        let mut names = vec![alias, wanted::hostname(&view.fixed)];
        if !names.contains(&view.fixed.name) {
            names.push(view.fixed.name.clone());
        }
        let addresses = end.map(super::live::End::all_addresses).unwrap_or_default();
        lines.extend(
            addresses
                .into_iter()
                .map(|address| (address, names.join(" "))),
        );
    }
    lines
}

/// What `host-gateway` stands for.
fn host_gateway(shared: &Shared) -> Vec<IpAddr> {
    let named = &shared.config.network.host_gateway_ips;
    if !named.is_empty() {
        return named.clone();
    }
    let Ok(bridge) = shared.networks.find("bridge") else {
        return Vec::new();
    };
    bridge
        .subnets
        .iter()
        .filter_map(|subnet| subnet.gateway)
        .collect()
}
