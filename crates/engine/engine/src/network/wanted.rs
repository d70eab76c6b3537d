//! The networks that a container is to join: read from the request, checked, kept by name.
//!
//! <https://github.com/moby/moby/blob/master/daemon/container_operations.go> (`validateEndpointSettings`,
//! `updateContainerNetworkSettings`)

use std::collections::BTreeMap;
use std::net::IpAddr;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{ContainerConfig, EndpointSettings, HostConfig, NetworkingConfig};
use havre_types::MacAddress;

use super::is_predefined;
use super::record::Record;
use super::store::Networks;
use crate::container::Fixed;

const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// Networks by name, each with what is wanted there.
pub(crate) type Wishes = BTreeMap<String, EndpointSettings>;

/// Settles the network mode of a new container and what it joins.
pub(crate) fn settle(
    networks: &Networks,
    config: &ContainerConfig,
    host: &mut HostConfig,
    asked: Option<NetworkingConfig>,
) -> ApiResult<Wishes> {
    if matches!(host.network_mode.as_str(), "" | "default") {
        "bridge".clone_into(&mut host.network_mode);
    }
    super::ports::check(config, host)?;
    for link in host.links.iter().flatten() {
        let alias = link.rsplit([':', '/']).next().unwrap_or_default();
        if link.is_empty() || !is_one_word(link) || alias.is_empty() {
            return Err(ApiError::invalid(format!("bad format for links: {link}")));
        }
    }
    if host.network_mode.starts_with("container:") || config.network_disabled {
        return Ok(Wishes::new());
    }
    let mut wishes = Wishes::new();
    for (name, mut settings) in asked
        .and_then(|asked| asked.endpoints_config)
        .into_iter()
        .flatten()
    {
        let name = if name == "default" {
            "bridge".to_owned()
        } else {
            name
        };
        clear(&mut settings);
        let record = networks.find(&name).ok();
        check(record.as_deref(), &name, &settings).map_err(|error| {
            let text = format!("invalid config for network {name}: {}", error.message);
            ApiError::new(error.kind, text)
        })?;
        // By name, so that inspect shows one for each.
        let key = record.map_or(name, |record| record.name.clone());
        wishes.insert(key, settings);
    }
    let mode = host.network_mode.as_str();
    let name = networks
        .find(mode)
        .map_or(mode.to_owned(), |record| record.name.clone());
    wishes.entry(name).or_default();
    exclude(networks, &wishes)?;
    Ok(wishes)
}

/// Networks that go with no other.
pub(crate) fn exclude(networks: &Networks, wishes: &Wishes) -> ApiResult<()> {
    if wishes.len() < 2 {
        return Ok(());
    }
    let driver = |name: &String| networks.find(name).map(|record| record.driver.clone());
    let drivers: Vec<String> = wishes.keys().filter_map(|name| driver(name).ok()).collect();
    if drivers.iter().any(|driver| driver == "host") {
        return Err(ApiError::invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    if drivers.iter().any(|driver| driver == "null") {
        return Err(ApiError::invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    Ok(())
}

/// What a container joins; for records of before there were networks it follows from the mode.
pub(crate) fn of(fixed: &Fixed) -> Wishes {
    let mode = fixed.host_config.network_mode.as_str();
    match &fixed.networks {
        Some(wishes) => wishes.clone(),
        None if mode.starts_with("container:") => Wishes::new(),
        None => [(mode.to_owned(), EndpointSettings::default())].into(),
    }
}

/// Takes out what the engine tells and nobody can ask for.
pub(crate) fn clear(settings: &mut EndpointSettings) {
    let kept = EndpointSettings {
        ipam_config: settings.ipam_config.take(),
        links: settings.links.take(),
        aliases: settings.aliases.take(),
        driver_opts: settings.driver_opts.take(),
        gw_priority: settings.gw_priority,
        mac_address: std::mem::take(&mut settings.mac_address),
        ..EndpointSettings::default()
    };
    *settings = kept;
}

/// Checks what is wanted of a network; one that does not exist yet is judged by its name alone.
pub(crate) fn check(
    record: Option<&Record>,
    name: &str,
    settings: &EndpointSettings,
) -> ApiResult<()> {
    let mut wrong: Vec<String> = Vec::new();
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let (four, six) = (ipam.ipv4_address.as_str(), ipam.ipv6_address.as_str());
    if is_predefined(record.map_or(name, |record| record.name.as_str())) {
        if !four.is_empty() || !six.is_empty() {
            wrong.push(
                "user specified IP address is supported on user defined networks only".to_owned(),
            );
        }
        if settings
            .aliases
            .as_ref()
            .is_some_and(|aliases| !aliases.is_empty())
        {
            wrong.push(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            );
        }
    }
    for (text, v6) in [(four, false), (six, true)] {
        match address(text, v6) {
            Ok(Some(address)) => {
                wrong.extend(record.and_then(|record| outside(record, address)));
            }
            Ok(None) => {}
            Err(text) => wrong.push(text),
        }
    }
    for text in ipam.link_local_ips.iter().flatten() {
        if !text
            .parse::<IpAddr>()
            .is_ok_and(|address| !address.is_unspecified())
        {
            wrong.push(format!("invalid link-local IP address: {text}"));
        }
    }
    for entry in sysctl_entries(settings) {
        if let Err(text) = sysctl(entry) {
            wrong.push(text);
        }
    }
    for link in settings.links.iter().flatten() {
        if link.is_empty() || !is_one_word(link) {
            wrong.push(format!("bad format for links: {link:?}"));
        }
    }
    for name in settings.aliases.iter().flatten() {
        // It becomes a name in answers and, for links, in a file.
        if name.is_empty() || !is_one_word(name) {
            wrong.push(format!("invalid network alias: {name:?}"));
        }
    }
    if !wrong.is_empty() {
        let told = match wrong.as_slice() {
            [one] => one.clone(),
            several => format!("* {}", several.join("\n* ")),
        };
        return Err(ApiError::invalid(format!(
            "invalid endpoint settings:\n{told}"
        )));
    }
    mac(settings).map(drop)
}

/// Why an end on a network cannot have an address.
/// <https://github.com/moby/moby/blob/master/daemon/network/network_mode_unix.go>, `EndpointIPAMConfig.IsInRange`
fn outside(record: &Record, address: IpAddr) -> Option<String> {
    let mut asked = record
        .of_family(address.is_ipv6())
        .filter(|subnet| subnet.asked)
        .peekable();
    if asked.peek().is_none() {
        return Some(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .to_owned(),
        );
    }
    (!asked.any(|subnet| subnet.cidr.contains(address)))
        .then(|| format!("no configured subnet or ip-range contain the IP address {address}"))
}

fn is_one_word(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn address(text: &str, v6: bool) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse::<IpAddr>().ok();
    let fits = parsed.filter(|address| address.is_ipv6() == v6 && !address.is_unspecified());
    match fits {
        Some(address) => Ok(Some(address)),
        None => Err(format!(
            "invalid IPv{} address: {text}",
            if v6 { 6 } else { 4 }
        )),
    }
}

/// The addresses that are asked for.
pub(crate) fn addresses(settings: &EndpointSettings) -> (Option<IpAddr>, Option<IpAddr>) {
    let ipam = settings.ipam_config.as_ref();
    let parsed = |text: Option<&String>| text.and_then(|text| text.parse().ok());
    (
        parsed(ipam.map(|ipam| &ipam.ipv4_address)),
        parsed(ipam.map(|ipam| &ipam.ipv6_address)),
    )
}

pub(crate) fn link_local(settings: &EndpointSettings) -> Vec<IpAddr> {
    let ipam = settings.ipam_config.as_ref();
    let list = ipam.and_then(|ipam| ipam.link_local_ips.as_ref());
    list.into_iter()
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect()
}

pub(crate) fn mac(settings: &EndpointSettings) -> ApiResult<Option<MacAddress>> {
    let text = settings.mac_address.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse();
    parsed
        .map(Some)
        .map_err(|_not_an_address| ApiError::invalid(format!("invalid MAC address: {text}")))
}

/// The interface's name that is asked for.
pub(crate) fn interface(settings: &EndpointSettings) -> Option<String> {
    let name = settings.driver_opts.as_ref()?.get(INTERFACE)?;
    (!name.is_empty()).then(|| name.clone())
}

/// Kernel parameters of the interface, with `IFNAME` for its name.
pub(crate) fn sysctls(settings: &EndpointSettings) -> Vec<(String, String)> {
    sysctl_entries(settings)
        .filter_map(|entry| sysctl(entry).ok())
        .collect()
}

fn sysctl_entries(settings: &EndpointSettings) -> impl Iterator<Item = &str> {
    let text = settings
        .driver_opts
        .as_ref()
        .and_then(|all| all.get(SYSCTLS));
    text.into_iter()
        .flat_map(|text| text.split(','))
        .filter(|entry| !entry.is_empty())
}

fn sysctl(entry: &str) -> Result<(String, String), String> {
    let wrong = || {
        format!(
            "unrecognised network interface sysctl '{entry}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
        )
    };
    let (key, value) = entry.split_once('=').ok_or_else(wrong)?;
    let parts: Vec<&str> = key.splitn(5, '.').collect();
    let [net, family, kind, name, rest] = parts.as_slice() else {
        return Err(wrong());
    };
    let plain = |part: &&&str| {
        part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !part.is_empty()
    };
    let fits = *net == "net"
        && matches!(*family, "ipv4" | "ipv6" | "mpls")
        && name.eq_ignore_ascii_case("ifname")
        && [kind, rest].iter().all(plain)
        && !value.contains(char::is_control);
    if !fits {
        return Err(wrong());
    }
    Ok((
        format!("net.{family}.{kind}.IFNAME.{rest}"),
        value.to_owned(),
    ))
}

/// `NAME[:ALIAS]` of `--link`: the name that each alias stands for.
pub(crate) fn links(given: &[String]) -> BTreeMap<String, String> {
    let parted = given.iter().map(|link| {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        // dockerd writes both down with a slash in front.
        let bare = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
        (bare(alias), bare(name))
    });
    parted.collect()
}

/// What a container answers to on a network, its name first: that is what reverse queries get.
pub(crate) fn names(fixed: &Fixed, settings: &EndpointSettings) -> Vec<String> {
    let aliases = settings.aliases.iter().flatten().cloned();
    let all = [fixed.name.clone()]
        .into_iter()
        .chain(aliases)
        .chain([fixed.id.short().to_owned(), hostname(fixed)]);
    let mut names: Vec<String> = Vec::new();
    for name in all.filter(|name| !name.is_empty()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The host name inside.
pub(crate) fn hostname(fixed: &Fixed) -> String {
    if fixed.config.hostname.is_empty() {
        fixed.id.short().to_owned()
    } else {
        fixed.config.hostname.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(name: &str, settings: serde_json::Value) -> Result<(), String> {
        let settings: EndpointSettings = serde_json::from_value(settings).unwrap();
        check(None, name, &settings).map_err(|error| error.message)
    }

    #[test]
    fn settings_are_checked_in_dockers_words() {
        insta::assert_snapshot!(
            judged("bridge", json!({"IPAMConfig": {"IPv4Address": "1.2.3.4"}, "Aliases": ["db"]})).unwrap_err(),
            @r"
        invalid endpoint settings:
        * user specified IP address is supported on user defined networks only
        * network-scoped aliases are only supported for user-defined networks
        "
        );
        judged(
            "mine",
            json!({"IPAMConfig": {"IPv4Address": "1.2.3.4"}, "Aliases": ["db"]}),
        )
        .unwrap();
        for wrong in [
            json!({"IPAMConfig": {"IPv4Address": "::1"}}),
            json!({"IPAMConfig": {"IPv6Address": "1.2.3.4"}}),
            json!({"IPAMConfig": {"IPv4Address": "0.0.0.0"}}),
            json!({"IPAMConfig": {"LinkLocalIPs": ["x"]}}),
            json!({"MacAddress": "nope"}),
            json!({"Aliases": ["a\nb"]}),
            json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.eth0.x=1"}}),
            json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.a/../x=1"}}),
        ] {
            assert!(judged("mine", wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parameters_of_the_interface_are_read() {
        let settings = json!({"DriverOpts": {
            "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.forwarding=0",
            "com.docker.network.endpoint.ifname": "lan0",
        }});
        let settings: EndpointSettings = serde_json::from_value(settings).unwrap();
        assert_eq!(
            sysctls(&settings),
            [
                (
                    "net.ipv4.conf.IFNAME.log_martians".to_owned(),
                    "1".to_owned()
                ),
                ("net.ipv6.conf.IFNAME.forwarding".to_owned(), "0".to_owned()),
            ]
        );
        assert_eq!(interface(&settings).as_deref(), Some("lan0"));
    }
}
