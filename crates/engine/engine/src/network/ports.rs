//! Published ports: what a request means, and ports of the host taken for it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{ContainerConfig, HostConfig, PortBinding};
use havre_network::Protocol;
use havre_network::ports::{Claim, Ports, Request};
use havre_types::{Classify as _, EndpointId};

use super::live::{Published, protocol};
use crate::container::Fixed;

/// A port that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub protocol: Protocol,
    pub container_port: u16,
    /// None: the default address.
    pub host: Option<IpAddr>,
    /// None: any.
    pub host_ports: Option<RangeInclusive<u16>>,
}

/// Refuses what is no port.
/// <https://github.com/moby/moby/blob/master/daemon/container.go> (`validatePortBindings`)
pub(crate) fn check(config: &ContainerConfig, host: &HostConfig) -> ApiResult<()> {
    for (key, bindings) in host.port_bindings.iter().flatten() {
        container_port(key)?;
        for binding in bindings.iter().flatten() {
            of_host(binding)?;
        }
    }
    for (key, _) in config.exposed_ports.iter().flatten() {
        container_port(key)?;
    }
    Ok(())
}

/// The ports to publish, and those that are only exposed.
pub(crate) fn wanted(
    config: &ContainerConfig,
    host: &HostConfig,
) -> ApiResult<(Vec<Wanted>, Vec<String>)> {
    let mut all: BTreeMap<&str, &[PortBinding]> = BTreeMap::new();
    for (key, _) in config.exposed_ports.iter().flatten() {
        all.insert(key, &[]);
    }
    for (key, bindings) in host.port_bindings.iter().flatten() {
        all.insert(key, bindings.as_deref().unwrap_or_default());
    }
    let (mut wanted, mut exposed) = (Vec::new(), Vec::new());
    for (key, bindings) in all {
        let (container_port, protocol) = container_port(key)?;
        for binding in bindings {
            let (host, host_ports) = of_host(binding)?;
            wanted.push(Wanted {
                protocol,
                container_port,
                host,
                host_ports,
            });
        }
        if bindings.is_empty() && host.publish_all_ports {
            wanted.push(Wanted {
                protocol,
                container_port,
                host: None,
                host_ports: None,
            });
        } else if bindings.is_empty() {
            exposed.push(format!("{container_port}/{protocol}"));
        }
    }
    // Fixed ports first: what may be any must not take theirs.
    wanted.sort_by_key(|wanted| wanted.host_ports.is_none());
    Ok((wanted, exposed))
}

/// `80/tcp`; without a protocol it is TCP.
fn container_port(key: &str) -> ApiResult<(u16, Protocol)> {
    let (port, name) = key.split_once('/').unwrap_or((key, "tcp"));
    let number = port.parse().ok().filter(|number| *number != 0);
    let number =
        number.ok_or_else(|| ApiError::invalid(format!("invalid port specification: {port:?}")))?;
    let found = protocol(&name.to_ascii_lowercase());
    let found = found.ok_or_else(|| ApiError::invalid(format!("invalid proto: {name}")))?;
    Ok((number, found))
}

fn of_host(binding: &PortBinding) -> ApiResult<(Option<IpAddr>, Option<RangeInclusive<u16>>)> {
    let text = binding.host_ip.as_str();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = match bare.unwrap_or(text) {
        "" => None,
        other => Some(other.parse().map_err(|_not_an_address| {
            ApiError::invalid(format!("invalid host IP address: {text:?}"))
        })?),
    };
    let text = binding.host_port.as_str();
    let wrong = || ApiError::invalid(format!("invalid port specification: {text:?}"));
    if text.is_empty() {
        return Ok((host, None));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u16 = first.parse().map_err(|_no_number| wrong())?;
    let last: u16 = last.parse().map_err(|_no_number| wrong())?;
    if last < first {
        return Err(wrong());
    }
    // 0 is any, as with sockets.
    Ok((host, (last != 0).then_some(first..=last)))
}

/// Takes ports of the host for a container at these addresses. `default` is the host's address when none is named; only
/// addresses of the host of `families`, IPv4 and IPv6, are taken.
pub(crate) fn claim(
    ports: &Ports,
    wanted: &[Wanted],
    container: (Option<IpAddr>, Option<IpAddr>),
    default: IpAddr,
    families: (bool, bool),
) -> ApiResult<(Vec<Claim>, Vec<Published>)> {
    let (mut claims, mut published) = (Vec::new(), Vec::new());
    let six = ipv6_is_there();
    for want in wanted {
        let mut hosts = match want.host.unwrap_or(default) {
            any if any.is_unspecified() && want.host.is_none() && six => {
                vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
            }
            one => vec![one],
        };
        hosts.retain(|host| {
            if host.is_ipv6() {
                families.1
            } else {
                families.0
            }
        });
        if hosts.is_empty() {
            continue;
        }
        let address = container.0.or(container.1);
        let request = Request {
            protocol: want.protocol,
            hosts: &hosts,
            ports: want.host_ports.clone(),
            container: SocketAddr::new(
                address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
                want.container_port,
            ),
        };
        let claim = ports
            .claim(&request)
            .map_err(|error| ApiError::new(error.kind(), error.to_string()))?;
        published.extend(hosts.iter().map(|host| Published {
            protocol: want.protocol.to_string(),
            host: *host,
            host_port: claim.port(),
            container_port: want.container_port,
        }));
        claims.push(claim);
    }
    Ok((claims, published))
}

/// A port that cannot be had, in Docker's words.
pub(crate) fn refused(error: &ApiError, fixed: &Fixed, endpoint: &EndpointId) -> ApiError {
    let text = format!(
        "driver failed programming external connectivity on endpoint {} ({endpoint}): {}",
        fixed.name, error.message
    );
    ApiError::new(error.kind, text)
}

/// Whether the host speaks IPv6 at all.
fn ipv6_is_there() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(
        config: serde_json::Value,
        host: serde_json::Value,
    ) -> ApiResult<(Vec<Wanted>, Vec<String>)> {
        let config: ContainerConfig = serde_json::from_value(config).unwrap();
        let host: HostConfig = serde_json::from_value(host).unwrap();
        check(&config, &host)?;
        wanted(&config, &host)
    }

    #[test]
    fn forms_of_ports_are_read() {
        let config = json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "9": {}}});
        let host = json!({"PortBindings": {
            "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": ""}],
            "7/sctp": [{"HostIp": "[::1]", "HostPort": "7000-7010"}],
        }});
        let (wanted, exposed) = parsed(config, host).unwrap();
        let shown: Vec<String> = wanted
            .iter()
            .map(|want| {
                format!(
                    "{:?}:{:?}->{}/{}",
                    want.host, want.host_ports, want.container_port, want.protocol
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "Some(::1):Some(7000..=7010)->7/sctp",
                "Some(127.0.0.1):Some(8080..=8080)->80/tcp",
                "None:None->80/tcp",
            ]
        );
        assert_eq!(exposed, ["53/udp", "9/tcp"]);
    }

    #[test]
    fn all_exposed_ports_are_published_on_request() {
        let config = json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}});
        let (wanted, exposed) = parsed(config, json!({"PublishAllPorts": true})).unwrap();
        assert_eq!((wanted.len(), exposed.len()), (2, 0));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for (key, ip, port) in [
            ("0/tcp", "", "1"),
            ("70000/tcp", "", "1"),
            ("80/icmp", "", "1"),
            ("http", "", "1"),
            ("80/tcp", "nowhere", "1"),
            ("80/tcp", "", "9-8"),
            ("80/tcp", "", "x"),
            ("80/tcp", "", "80-"),
        ] {
            let host = json!({"PortBindings": {key: [{"HostIp": ip, "HostPort": port}]}});
            assert!(parsed(json!({}), host).is_err(), "{key} {ip} {port}");
        }
    }
}
