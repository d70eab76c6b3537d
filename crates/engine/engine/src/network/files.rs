//! What a container reads about its networks: names in `/etc/hosts`, servers in `/etc/resolv.conf`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use havre_api_traits::ApiResult;
use havre_dns::resolvconf::{
    HOST_FILE, Made, Overrides, Purpose, RESOLVED_FILE, ResolvConf, source,
};
use havre_dns::{Upstreams, Zone};

use super::etc;
use super::live::Live;
use super::names::memberships;
use super::wanted;
use crate::container::Fixed;
use crate::engine::Shared;
use crate::host;
use crate::images::blocking;
use crate::plan::{self, HostsFile};

/// What is known of a container's networks when its files are written.
#[derive(Debug)]
pub(crate) struct Texts {
    pub resolv_conf: String,
    pub hosts: HostsFile,
    /// What the companion has to know.
    pub zone: Zone,
}

/// Makes the texts for a container on these networks.
pub(crate) fn texts(shared: &Shared, fixed: &Fixed, live: Option<&Live>) -> ApiResult<Texts> {
    let hosts = HostsFile {
        host_gateway: host_gateway(shared),
        linked: linked(shared, fixed),
        own: live.map_or_else(Vec::new, |live| own_addresses(fixed, live)),
    };
    let made = resolv_conf(shared, fixed, live)?;
    let zone = live.map_or_else(Zone::default, |live| told(live, &made));
    Ok(Texts {
        hosts,
        zone,
        resolv_conf: made.text,
    })
}

/// What the companion has to know of a container that runs already.
pub(crate) fn zone(shared: &Shared, fixed: &Fixed, live: &Live) -> ApiResult<Zone> {
    resolv_conf(shared, fixed, Some(live)).map(|made| told(live, &made))
}

fn told(live: &Live, made: &Made) -> Zone {
    Zone {
        networks: memberships(live),
        upstreams: if made.overridden {
            Upstreams::FromContainer(made.upstreams.clone())
        } else {
            Upstreams::Host
        },
        forward: live
            .ends
            .iter()
            .any(|end| end.default_route.0 || end.default_route.1),
        ndots_set: made.ndots_set,
    }
}

/// Brings the files of a running container from one set of networks to another; what the companion has to know then.
pub(crate) fn change(
    shared: &Shared,
    fixed: &Fixed,
    before: &Live,
    after: &Live,
) -> ApiResult<Zone> {
    let data = shared.places.data(&fixed.id);
    let made = resolv_conf(shared, fixed, Some(after))?;
    let (was, is) = (own_addresses(fixed, before), own_addresses(fixed, after));
    etc::change_resolv_conf(&data, &made.text)
        .and_then(|()| etc::change_hosts(&data, &was, &is))
        .map_err(|error| crate::error::internal("failed to write the container's files", &error))?;
    Ok(told(after, &made))
}

fn resolv_conf(shared: &Shared, fixed: &Fixed, live: Option<&Live>) -> ApiResult<Made> {
    let defaults = &shared.config.network;
    let asked = plan::dns(&fixed.host_config)?;
    let overrides = Overrides {
        name_servers: or_default(asked.name_servers, &defaults.dns),
        search: or_default(asked.search, &defaults.dns_search),
        options: or_default(asked.options, &defaults.dns_options),
    };
    let purpose = match live {
        Some(live) if live.resolves => Purpose::Embedded,
        Some(live) => Purpose::Bridge {
            ipv6: live.ends.iter().any(|end| end.ipv6.is_some()),
        },
        None if fixed.host_config.network_mode == "host" => Purpose::Host,
        // Docker treats `none` as a bridge without IPv6.
        None => Purpose::Bridge { ipv6: false },
    };
    Ok(host_conf(purpose).for_container(&overrides, purpose))
}

fn or_default<T: Clone>(asked: Vec<T>, default: &[T]) -> Vec<T> {
    if asked.is_empty() {
        default.to_vec()
    } else {
        asked
    }
}

/// The host's own file. Who asks the servers without us does not reach systemd-resolved's stub: the list behind it, then.
/// <https://github.com/moby/moby/blob/master/daemon/container_operations_unix.go> (`buildSandboxPlatformOptions`)
fn host_conf(purpose: Purpose) -> ResolvConf {
    let text = host::resolv_conf();
    match (purpose, source(&text)) {
        (Purpose::Bridge { .. }, RESOLVED_FILE) => {
            let behind = fs_err::read_to_string(RESOLVED_FILE).unwrap_or_default();
            ResolvConf::parse(&behind, RESOLVED_FILE)
        }
        _ => ResolvConf::parse(&text, HOST_FILE),
    }
}

fn own_addresses(fixed: &Fixed, live: &Live) -> Vec<(IpAddr, String)> {
    let names = host_names(&wanted::hostname(fixed), &fixed.config.domainname);
    let addresses = live.ends.iter().flat_map(|end| end.all_addresses());
    addresses.map(|address| (address, names.clone())).collect()
}

/// The name with its domain, which either field may have, then the bare one.
fn host_names(hostname: &str, domain: &str) -> String {
    let whole = match domain {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain}"),
    };
    match whole.split_once('.') {
        Some((bare, _)) => format!("{whole} {bare}"),
        None => whole,
    }
}

/// Containers of the default bridge that this one is linked to, each with its alias, host name and name.
/// <https://github.com/moby/moby/blob/master/daemon/container_operations_unix.go> (`addLegacyLinks`)
fn linked(shared: &Shared, fixed: &Fixed) -> Vec<(IpAddr, String)> {
    let links = wanted::links(fixed.host_config.links.as_deref().unwrap_or_default());
    if !links.is_empty() {
        shared.networks.has_links.store(true, Ordering::Relaxed);
    }
    let mut lines = Vec::new();
    for (alias, name) in links {
        let Ok(other) = shared.registry.find(&name) else {
            continue;
        };
        let view = other.now();
        let names = link_names(alias, &view.fixed);
        let addresses = view.state.live.as_deref().map(on_bridge);
        let addresses = addresses.unwrap_or_default().into_iter();
        lines.extend(addresses.map(|address| (address, names.clone())));
    }
    lines
}

fn link_names(alias: String, other: &Fixed) -> String {
    let mut names = vec![alias, wanted::hostname(other)];
    if !names.contains(&other.name) {
        names.push(other.name.clone());
    }
    names.join(" ")
}

fn on_bridge(live: &Live) -> Vec<IpAddr> {
    let mut ends = live.ends.iter();
    let end = ends.find(|end| end.name == "bridge");
    end.map(super::live::End::all_addresses).unwrap_or_default()
}

/// Tells the running containers that are linked to one where it is, now that it has started.
/// <https://github.com/moby/moby/blob/master/daemon/container_operations_unix.go> (`buildSandboxOptions`)
pub(crate) async fn tell_linked(shared: &Arc<Shared>, fixed: &Arc<Fixed>, live: &Arc<Live>) {
    if !shared.networks.has_links.load(Ordering::Relaxed) {
        return;
    }
    let (kept, subject, live) = (Arc::clone(shared), Arc::clone(fixed), Arc::clone(live));
    let told = blocking(move || {
        let now = on_bridge(&live);
        for container in kept.registry.all() {
            let view = container.now();
            let links = view.fixed.host_config.links.as_deref().unwrap_or_default();
            if links.is_empty() || !view.state.status.is_running() {
                continue;
            }
            for (alias, name) in wanted::links(links) {
                let meant = kept.registry.find(&name);
                if !meant.is_ok_and(|other| *other.id() == subject.id) {
                    continue;
                }
                let data = kept.places.data(&view.fixed.id);
                etc::move_names(&data, &link_names(alias, &subject), &now).map_err(|error| {
                    crate::error::internal("failed to write a container's hosts", &error)
                })?;
            }
        }
        Ok(())
    });
    if let Err(error) = told.await {
        tracing::warn!(container = %fixed.id, error = %error.message, "those that are linked to it do not find it");
    }
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

#[cfg(test)]
mod tests {
    use super::host_names;

    #[test]
    fn a_container_knows_its_name_with_and_without_the_domain() {
        assert_eq!(host_names("web", ""), "web");
        assert_eq!(host_names("web", "example.org"), "web.example.org web");
        assert_eq!(host_names("web.example.org", ""), "web.example.org web");
    }
}
