//! What `inspect` and `ps` tell of a container's networks.

use std::collections::BTreeMap;

use havre_engine_types::{EndpointSettings, NetworkSettings, PortSummary};

use super::live::{End, Live};
use super::{is_predefined, wanted};
use crate::container::Fixed;
use crate::engine::Shared;

/// A container's networks by name: what was asked for, and what it has while it runs.
pub(crate) fn endpoints(
    shared: &Shared,
    fixed: &Fixed,
    live: Option<&Live>,
) -> BTreeMap<String, EndpointSettings> {
    let mut all = BTreeMap::new();
    for (name, mut settings) in wanted::of(fixed) {
        let record = shared.networks.find(&name).ok();
        if let Some(record) = &record {
            settings.network_id = record.id.to_string();
            if !is_predefined(&record.name) {
                settings.dns_names = Some(wanted::names(fixed, &settings));
            }
        }
        let end = record.and_then(|record| live?.on(&record.id).cloned());
        if let Some(end) = end {
            fill(&mut settings, &end);
        }
        all.insert(name, settings);
    }
    all
}

fn fill(settings: &mut EndpointSettings, end: &End) {
    let text = |address: Option<std::net::IpAddr>| {
        address
            .map(|address| address.to_string())
            .unwrap_or_default()
    };
    settings.endpoint_id = end.id.to_string();
    settings.gateway = text(end.gateway_ipv4);
    settings.ipv6_gateway = text(end.gateway_ipv6);
    settings.mac_address = end.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if let Some(cidr) = end.ipv4 {
        settings.ip_address = cidr.address().to_string();
        settings.ip_prefix_len = cidr.prefix().into();
    }
    if let Some(cidr) = end.ipv6 {
        settings.global_ipv6_address = cidr.address().to_string();
        settings.global_ipv6_prefix_len = cidr.prefix().into();
    }
}

/// All of it, for `inspect`.
pub(crate) fn settings(
    shared: &Shared,
    fixed: &Fixed,
    live: Option<&Live>,
    pid: u32,
) -> NetworkSettings {
    NetworkSettings {
        sandbox_id: live.map(|_| fixed.id.to_string()).unwrap_or_default(),
        sandbox_key: live
            .map(|_| format!("/proc/{pid}/ns/net"))
            .unwrap_or_default(),
        ports: live.map(Live::ports).unwrap_or_default(),
        networks: endpoints(shared, fixed, live),
    }
}

/// The ports of a running container, one line for each address of the host.
pub(crate) fn ports(live: Option<&Live>) -> Vec<PortSummary> {
    let Some(live) = live else {
        return Vec::new();
    };
    let published = live.ends.iter().flat_map(|end| &end.ports);
    let published = published.map(|port| PortSummary {
        ip: port.host.to_string(),
        private_port: port.container_port,
        public_port: port.host_port,
        kind: port.protocol.clone(),
    });
    let exposed = live.exposed.iter().filter_map(|key| {
        let (port, protocol) = key.split_once('/')?;
        Some(PortSummary {
            private_port: port.parse().ok()?,
            kind: protocol.to_owned(),
            ..PortSummary::default()
        })
    });
    published.chain(exposed).collect()
}
