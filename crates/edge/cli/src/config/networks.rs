//! `--network` and what belongs to it.

use std::collections::BTreeMap;

use havre_engine_types::{EndpointIpamConfig, EndpointSettings, HostConfig, NetworkingConfig};

use super::{ConfigError, Result};
use crate::flags::Matches;

/// Sets the network mode and returns the endpoints. Flags such as `--ip` belong to the first network.
pub(super) fn apply(matches: &Matches, host: &mut HostConfig) -> Result<NetworkingConfig> {
    let mac = matches.text_or_empty("mac-address");
    if !mac.is_empty() && !is_mac(mac) {
        return Err(ConfigError::problem(format!(
            "{mac} is not a valid mac address"
        )));
    }
    let mut networks = Vec::new();
    for text in matches.list("network").chain(matches.list("net")) {
        if text.is_empty() {
            return Err(ConfigError::problem("no name set for network"));
        }
        networks
            .push(network(text).map_err(|cause| ConfigError::invalid("--network", text, cause))?);
    }
    if networks.is_empty() {
        networks.push(("default".to_owned(), EndpointSettings::default()));
    }
    let single = networks.iter().find(|(name, _)| is_namespace_mode(name));
    if let Some((name, _)) = single.filter(|_| networks.len() > 1) {
        let text = format!(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes: {name}"
        );
        return Err(ConfigError::problem(text));
    }
    let mut endpoints = BTreeMap::new();
    for (at, (name, mut settings)) in networks.into_iter().enumerate() {
        if at == 0 {
            add_flags(matches, &mut settings);
            if !matches!(name.as_str(), "default" | "bridge") {
                settings.links = super::some_words(matches, "link");
            }
            host.network_mode.clone_from(&name);
        }
        // What cannot be had there is the engine's to say.
        if !is_namespace_mode(&name) || settings != EndpointSettings::default() {
            endpoints.insert(name, settings);
        }
    }
    Ok(NetworkingConfig {
        endpoints_config: Some(endpoints),
    })
}

fn is_namespace_mode(name: &str) -> bool {
    matches!(name, "host" | "none") || name.starts_with("container:")
}

fn add_flags(matches: &Matches, settings: &mut EndpointSettings) {
    let aliases = matches
        .list("network-alias")
        .chain(matches.list("net-alias"))
        .map(str::to_owned);
    let aliases: Vec<String> = settings
        .aliases
        .take()
        .into_iter()
        .flatten()
        .chain(aliases)
        .collect();
    settings.aliases = (!aliases.is_empty()).then_some(aliases);
    if let Some(address) = matches.text("mac-address").filter(|text| !text.is_empty()) {
        address.clone_into(&mut settings.mac_address);
    }
    let text = |name: &str| matches.text_or_empty(name).to_owned();
    let ipam = EndpointIpamConfig {
        ipv4_address: text("ip"),
        ipv6_address: text("ip6"),
        link_local_ips: super::some_words(matches, "link-local-ip"),
    };
    if ipam != EndpointIpamConfig::default() {
        settings.ipam_config = Some(ipam);
    }
}

/// A name, or `name=net,alias=a,ip=…`.
fn network(text: &str) -> std::result::Result<(String, EndpointSettings), String> {
    let mut settings = EndpointSettings::default();
    if !text.contains('=') {
        return Ok((text.to_owned(), settings));
    }
    let mut name = String::new();
    let fields = super::mounts::csv(text).ok_or("parse error in quoted field")?;
    for field in &fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field {field:?}"))?;
        let ipam =
            |settings: &mut EndpointSettings| settings.ipam_config.take().unwrap_or_default();
        match key.trim().to_lowercase().as_str() {
            "name" => value.clone_into(&mut name),
            "alias" => settings
                .aliases
                .get_or_insert_default()
                .push(value.to_owned()),
            "mac-address" => value.clone_into(&mut settings.mac_address),
            "gw-priority" => {
                let fail = |_no_number| format!("invalid gw-priority: {value}");
                settings.gw_priority = value.parse().map_err(fail)?;
            }
            "driver-opt" => settings
                .driver_opts
                .get_or_insert_default()
                .extend([super::key_value(value)]),
            "ip" => {
                settings.ipam_config = Some(EndpointIpamConfig {
                    ipv4_address: value.to_owned(),
                    ..ipam(&mut settings)
                });
            }
            "ip6" => {
                settings.ipam_config = Some(EndpointIpamConfig {
                    ipv6_address: value.to_owned(),
                    ..ipam(&mut settings)
                });
            }
            "link-local-ip" => {
                let mut config = ipam(&mut settings);
                config
                    .link_local_ips
                    .get_or_insert_default()
                    .push(value.to_owned());
                settings.ipam_config = Some(config);
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if name.is_empty() {
        Err("network name/id is not specified".to_owned())
    } else {
        Ok((name, settings))
    }
}

/// Six, eight or twenty bytes, parted by colons or hyphens, or in pairs by dots, as Go's `net.ParseMAC` takes them.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, digits: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let is_group =
            |part: &&str| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes = parts.len() * digits / 2;
        parts.iter().all(is_group) && matches!(bytes, 6 | 8 | 20)
    };
    groups(':', 2) || groups('-', 2) || groups('.', 4)
}

#[cfg(test)]
mod tests {
    use super::is_mac;

    #[test]
    fn hardware_addresses_are_checked() {
        for text in ["92:d0:c6:0a:29:33", "92-D0-C6-0A-29-33", "92d0.c60a.2933"] {
            assert!(is_mac(text), "{text}");
        }
        for text in [
            "x",
            "92:d0:c6:0a:29",
            "92:d0:c6:0a:29:3g",
            "92:d0-c6:0a:29:33",
            "1:2:3:4:5:6",
        ] {
            assert!(!is_mac(text), "{text}");
        }
    }
}
