//! `--publish` and `--expose` (<https://docs.docker.com/engine/network/port-publishing/>).

use havre_engine_types::{ContainerConfig, Empty, HostConfig, KeySet, PortBinding, PortMap};

use super::{ConfigError, Result};
use crate::flags::Matches;

pub(super) fn apply(
    matches: &Matches,
    config: &mut ContainerConfig,
    host: &mut HostConfig,
) -> Result<()> {
    let mut exposed = KeySet::new();
    let mut bindings = PortMap::new();
    for text in matches.list("publish") {
        let published = if text.contains('=') {
            long_form(text).map_err(|cause| ConfigError::invalid("-p, --publish", text, cause))
        } else {
            short_form(text).map_err(ConfigError::problem)
        };
        for (port, binding) in published? {
            exposed.insert(port.clone(), Empty {});
            bindings
                .entry(port)
                .or_default()
                .get_or_insert_default()
                .push(binding);
        }
    }
    for text in matches.list("expose") {
        let (range, protocol) = protocol_of(text);
        let range = ports_of(range).ok_or_else(|| {
            let first = range.split('-').next().unwrap_or_default();
            let cause = format!("strconv.ParseUint: parsing {first:?}: invalid syntax");
            ConfigError::problem(format!(
                "invalid range format for --expose: {text}, error: {cause}"
            ))
        })?;
        exposed.extend((range.0..=range.1).map(|port| (format!("{port}/{protocol}"), Empty {})));
    }
    config.exposed_ports = (!exposed.is_empty()).then_some(exposed);
    host.port_bindings = Some(bindings);
    Ok(())
}

type Published = std::result::Result<Vec<(String, PortBinding)>, String>;

/// `[[address:]host-port:]port[/protocol]`, with ranges of ports.
fn short_form(text: &str) -> Published {
    let (text, protocol) = protocol_of(text);
    let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (address, host) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, tail) = rest
                .split_once(']')
                .ok_or_else(|| format!("invalid IP address: {rest}"))?;
            (address, tail.strip_prefix(':').unwrap_or_default())
        }
        None => rest.rsplit_once(':').unwrap_or(("", rest)),
    };
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    bind(address, host, container, protocol)
}

/// `published=80,target=8080,protocol=tcp,mode=host`
fn long_form(text: &str) -> Published {
    let fields = super::mounts::csv(text).ok_or_else(|| format!("invalid port: {text}"))?;
    let (mut host, mut container, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in &fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field: {field}"))?;
        match key.to_lowercase().as_str() {
            "published" => value.clone_into(&mut host),
            "target" => value.clone_into(&mut container),
            "protocol" => protocol = value.to_lowercase(),
            "mode" if value == "host" || value == "ingress" => {}
            "mode" => return Err(format!("invalid publish mode: {value}")),
            _ => return Err(format!("invalid field key: {key}")),
        }
    }
    bind("", &host, &container, &protocol)
}

fn bind(address: &str, host: &str, container: &str, protocol: &str) -> Published {
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let container_ports =
        ports_of(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let host_ports = match host {
        "" => None,
        host => Some(ports_of(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    let count = |(first, last): (u16, u16)| last - first;
    if let Some(range) = host_ports
        && count(range) != count(container_ports)
        && count(container_ports) != 0
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    let pair = |port: u16| {
        let host_port = match host_ports {
            None => String::new(),
            // One port behind a range of the host: the engine takes the first that is free.
            Some(range) if count(range) != count(container_ports) => host.to_owned(),
            Some((first, _)) => (first + (port - container_ports.0)).to_string(),
        };
        (
            format!("{port}/{protocol}"),
            PortBinding {
                host_ip: address.to_owned(),
                host_port,
            },
        )
    };
    Ok((container_ports.0..=container_ports.1).map(pair).collect())
}

fn protocol_of(text: &str) -> (&str, &str) {
    text.rsplit_once('/').unwrap_or((text, "tcp"))
}

/// `80` or `80-90`.
fn ports_of(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}
