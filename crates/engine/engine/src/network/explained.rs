//! Who can reach which published port, in words.

use std::net::IpAddr;

use havre_api_traits::ApiResult;
use havre_engine_types::{PortExplanation, PortsExplained};
use havre_network::{Audience, Reach};

use super::join::failed;
use super::live::Live;
use crate::engine::Shared;

/// Asks the rules about every published port of a running container.
pub(super) fn explain(shared: &Shared, live: &Live) -> ApiResult<PortsExplained> {
    let plane = shared.networks.plane()?;
    let mut ports = Vec::new();
    for end in live.ends.iter().filter(|end| !end.ports.is_empty()) {
        let explained = plane
            .explain(end.id.as_str())
            .map_err(|error| failed(&error))?;
        for explanation in explained {
            let publication = explanation.publication;
            let port = format!("{}/{}", publication.container_port, publication.protocol);
            let own = if publication.host.is_ipv6() {
                end.ipv6
            } else {
                end.ipv4
            };
            let at_host = std::net::SocketAddr::new(publication.host, publication.host_port);
            let mut published = end.ports.iter();
            let published = published.find(|port| port.plan() == Some(publication));
            let relayed = published.is_some_and(|port| shared.names.relays(port));
            for mut reach in explanation.reach {
                let (from, direct) = audience(reach.audience);
                if own.is_none() {
                    if direct {
                        continue;
                    }
                    if relayed {
                        reach = by_relay(reach.audience, publication.host);
                    }
                }
                let address = match own.filter(|_| direct) {
                    Some(cidr) => {
                        std::net::SocketAddr::new(cidr.address(), publication.container_port)
                    }
                    None => at_host,
                };
                ports.push(PortExplanation {
                    port: port.clone(),
                    network: end.name.clone(),
                    from: from.to_owned(),
                    address: address.to_string(),
                    reachable: reach.reaches,
                    because: reach.rule,
                });
            }
        }
    }
    Ok(PortsExplained { ports })
}

/// Of a port of a family that the container does not have.
fn by_relay(audience: Audience, host: IpAddr) -> Reach {
    let here = matches!(audience, Audience::ThisHost);
    let reaches = here || !host.is_loopback();
    let rule = if reaches {
        "relayed by havre-net: the host's rules for arriving packets decide"
    } else {
        "relayed by havre-net, for this host alone"
    };
    Reach {
        audience,
        reaches,
        rule: rule.to_owned(),
    }
}

/// The word for somebody, and whether that one goes to the container's own address.
fn audience(audience: Audience) -> (&'static str, bool) {
    match audience {
        Audience::OtherHosts => ("other hosts", false),
        Audience::ThisHost => ("the host", false),
        Audience::SameNetwork => ("containers of the network", true),
        Audience::OtherNetworks => ("containers of other networks", false),
        Audience::Directly => ("other hosts, directly", true),
    }
}
