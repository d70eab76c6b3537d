//! Settings of networks, read and checked with dockerd's words
//! (<https://github.com/moby/moby/blob/master/daemon/daemon_unix.go>, `verifyDaemonSettings`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use havre_engine::{AddressPool, DefaultBridge, NetworkDefaults};
use havre_types::Cidr;

use super::{list, text};
use crate::options::{Value, Values};

/// Why the settings of networks cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkConfigError {
    #[error("You specified -b & --{0}, mutually exclusive options. Please specify only one")]
    BridgeAnd(&'static str),
    #[error(
        "You specified --{rules}=false with --icc=false. ICC=false uses {rules} to function. Please set --icc or --{rules} to true"
    )]
    IccWithoutRules { rules: &'static str },
    #[error("parse {option} failed: invalid CIDR address: {value}")]
    Cidr { option: &'static str, value: String },
    #[error("invalid argument {value:?} for \"--{option}\" flag: failed to parse IP: {value:?}")]
    Address { option: &'static str, value: String },
    #[error("IP address is not correctly formatted: {0}")]
    Server(String),
    #[error("{0} is not a valid domain")]
    Domain(String),
    #[error("invalid default MTU: {0}")]
    Mtu(String),
    #[error("invalid firewall-backend: allowed values are \"iptables\" and \"nftables\"")]
    Backend,
    #[error("invalid value {0:?} for map option, should be root-key=key=value")]
    Option(String),
    #[error("invalid default-address-pool {value:?}: {reason}")]
    Pool { value: String, reason: String },
    #[error("invalid bridge name {0:?}")]
    BridgeName(String),
    #[error("fixed-cidr {range} is not within the subnet of bip {address}")]
    Range { range: Cidr, address: Cidr },
}

type Outcome<T> = Result<T, NetworkConfigError>;

/// The settings of networks.
pub(super) fn read(values: &Values) -> Outcome<NetworkDefaults> {
    let flag = |name: &str, default| match values.get(name) {
        Some(Value::Flag(on)) => *on,
        _ => default,
    };
    let given = NetworkDefaults::default();
    let mut defaults = NetworkDefaults {
        bridge: bridge(values)?,
        bip: cidr(values, "bip", false)?,
        bip6: cidr(values, "bip6", true)?,
        fixed_cidr: cidr(values, "fixed-cidr", false)?.map(Cidr::network),
        fixed_cidr_v6: cidr(values, "fixed-cidr-v6", true)?.map(Cidr::network),
        default_gateway: address(values, "default-gateway")?,
        default_gateway_v6: address(values, "default-gateway-v6")?,
        icc: flag("icc", given.icc),
        ip: address(values, "ip")?.unwrap_or(given.ip),
        ip_forward: flag("ip-forward", given.ip_forward),
        ip_forward_no_drop: flag("ip-forward-no-drop", given.ip_forward_no_drop),
        ip_masq: flag("ip-masq", given.ip_masq),
        iptables: flag("iptables", given.iptables),
        ip6tables: flag("ip6tables", given.ip6tables),
        ipv6: flag("ipv6", given.ipv6),
        mtu: mtu(values, given.mtu)?,
        dns: servers(values, "dns")?,
        dns_search: domains(values)?,
        dns_options: list(values, "dns-opt"),
        network_options: network_options(values)?,
        host_gateway_ips: servers(values, "host-gateway-ip")?,
        userland_proxy: flag("userland-proxy", given.userland_proxy),
        allow_direct_routing: flag("allow-direct-routing", given.allow_direct_routing),
        address_pools: pools(values)?,
        default_dns: flag("default-dns", given.default_dns),
    };
    check(&defaults, values)?;
    // Without rules nothing can be masqueraded.
    defaults.ip_masq &= defaults.iptables;
    Ok(defaults)
}

fn check(defaults: &NetworkDefaults, values: &Values) -> Outcome<()> {
    if defaults.bridge != DefaultBridge::Own {
        for (set, name) in [(defaults.bip, "bip"), (defaults.bip6, "bip6")] {
            if set.is_some() {
                return Err(NetworkConfigError::BridgeAnd(name));
            }
        }
    }
    if !defaults.icc && !defaults.iptables {
        return Err(NetworkConfigError::IccWithoutRules { rules: "iptables" });
    }
    if !defaults.icc && defaults.ipv6 && !defaults.ip6tables {
        return Err(NetworkConfigError::IccWithoutRules { rules: "ip6tables" });
    }
    for (range, address) in [
        (defaults.fixed_cidr, defaults.bip),
        (defaults.fixed_cidr_v6, defaults.bip6),
    ] {
        if let (Some(range), Some(address)) = (range, address)
            && (!address.contains(range.address()) || range.prefix() < address.prefix())
        {
            return Err(NetworkConfigError::Range { range, address });
        }
    }
    match text(values, "firewall-backend").as_deref() {
        None | Some("iptables" | "nftables") => Ok(()),
        Some(_) => Err(NetworkConfigError::Backend),
    }
}

fn bridge(values: &Values) -> Outcome<DefaultBridge> {
    match text(values, "bridge").as_deref() {
        None => Ok(DefaultBridge::Own),
        Some("none") => Ok(DefaultBridge::Absent),
        Some(name) if is_interface(name) => Ok(DefaultBridge::Named(name.to_owned())),
        Some(name) => Err(NetworkConfigError::BridgeName(name.to_owned())),
    }
}

/// A name that the kernel takes for an interface and no tool misreads.
fn is_interface(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=15).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['.', '-'])
}

fn cidr(values: &Values, option: &'static str, v6: bool) -> Outcome<Option<Cidr>> {
    let Some(value) = text(values, option) else {
        return Ok(None);
    };
    let parsed = value.parse::<Cidr>().ok();
    match parsed.filter(|cidr| cidr.address().is_ipv6() == v6) {
        Some(cidr) => Ok(Some(cidr)),
        None => Err(NetworkConfigError::Cidr { option, value }),
    }
}

fn address(values: &Values, option: &'static str) -> Outcome<Option<IpAddr>> {
    let Some(value) = text(values, option) else {
        return Ok(None);
    };
    match value.trim().parse() {
        Ok(address) => Ok(Some(address)),
        Err(_no_address) => Err(NetworkConfigError::Address { option, value }),
    }
}

fn servers(values: &Values, option: &str) -> Outcome<Vec<IpAddr>> {
    let all = list(values, option).into_iter();
    all.map(|value| {
        let address = value.trim().parse();
        address.map_err(|_no_address| NetworkConfigError::Server(value))
    })
    .collect()
}

/// <https://github.com/moby/moby/blob/master/daemon/pkg/opts/opts.go> (`ValidateDNSSearch`)
fn domains(values: &Values) -> Outcome<Vec<String>> {
    let all = list(values, "dns-search").into_iter();
    all.map(|value| {
        let domain = value.trim_matches(' ');
        let label = |label: &str| {
            let inner = label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        let bare = domain.strip_suffix('.').unwrap_or(domain);
        let letters = bare.bytes().any(|byte| byte.is_ascii_alphabetic());
        if domain == "." || (letters && bare.len() < 255 && bare.split('.').all(label)) {
            Ok(domain.to_owned())
        } else {
            Err(NetworkConfigError::Domain(value))
        }
    })
    .collect()
}

fn mtu(values: &Values, default: u32) -> Outcome<u32> {
    let Some(value) = text(values, "mtu") else {
        return Ok(default);
    };
    let number = value.parse::<u32>().ok();
    match number.filter(|number| *number == 0 || (68..=65_535).contains(number)) {
        Some(0) => Ok(default),
        Some(number) => Ok(number),
        None => Err(NetworkConfigError::Mtu(value)),
    }
}

fn network_options(values: &Values) -> Outcome<BTreeMap<String, BTreeMap<String, String>>> {
    let mut found = BTreeMap::<String, BTreeMap<String, String>>::new();
    for item in list(values, "default-network-opt") {
        let parts = item
            .split_once('=')
            .and_then(|(driver, pair)| Some((driver, pair.split_once('=')?)));
        let Some((driver, (key, value))) = parts else {
            return Err(NetworkConfigError::Option(item));
        };
        let options = found.entry(driver.to_owned()).or_default();
        options.insert(key.to_owned(), value.to_owned());
    }
    Ok(found)
}

/// `base=172.80.0.0/16,size=24`
fn pools(values: &Values) -> Outcome<Vec<AddressPool>> {
    let all = list(values, "default-address-pool").into_iter();
    all.map(|value| {
        let pool = pool(&value);
        pool.map_err(|reason| NetworkConfigError::Pool { value, reason })
    })
    .collect()
}

fn pool(value: &str) -> Result<AddressPool, String> {
    let (mut base, mut size) = (None, None);
    for field in value.split(',') {
        let (key, text) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.to_lowercase().as_str() {
            "base" => {
                let cidr = text.parse::<Cidr>();
                base = Some(cidr.map_err(|_no| format!("invalid base prefix {text:?}"))?);
            }
            "size" => {
                let number = text.parse::<u8>();
                size =
                    Some(number.map_err(|_no| {
                        format!("invalid size value: {text:?} (must be integer)")
                    })?);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let (Some(base), Some(size)) = (base, size) else {
        return Err("base and size are both needed".to_owned());
    };
    let pool = AddressPool { base, size };
    pool.check().map(|()| pool).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::merge;
    use super::*;
    use crate::flags;

    fn settings(line: &str, file: &str) -> Result<NetworkDefaults, String> {
        let flags = flags::parse(line.split_whitespace().map(str::to_owned)).unwrap();
        let values = merge(flags, file)?;
        read(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_and_file_say_the_same() {
        assert_eq!(settings("", "").unwrap(), NetworkDefaults::default());
        let flags = settings(
            "--bip 10.9.0.1/16 --fixed-cidr 10.9.4.0/24 --fixed-cidr-v6 fd00:1::/64 --default-gateway 10.9.0.9 --icc=false \
             --ip 127.0.0.1 --ip-forward=false --ip-masq=false --ipv6 --mtu 1400 --dns 9.9.9.9 --dns fd00::53 \
             --dns-search example.org --dns-opt ndots:2 --default-network-opt bridge=com.docker.network.driver.mtu=1300 \
             --host-gateway-ip 10.0.0.1 --userland-proxy=false --allow-direct-routing --firewall-backend nftables \
             --default-address-pool base=10.80.0.0/16,size=24 --default-dns",
            "",
        )
        .unwrap();
        let file = settings(
            "",
            r#"{"bip": "10.9.0.1/16", "fixed-cidr": "10.9.4.0/24", "fixed-cidr-v6": "fd00:1::/64",
                "default-gateway": "10.9.0.9", "icc": false, "ip": "127.0.0.1", "ip-forward": false, "ip-masq": false,
                "ipv6": true, "mtu": 1400, "dns": ["9.9.9.9", "fd00::53"], "dns-search": ["example.org"],
                "dns-opts": ["ndots:2"], "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}},
                "host-gateway-ips": ["10.0.0.1"], "userland-proxy": false, "allow-direct-routing": true,
                "firewall-backend": "nftables", "default-address-pools": [{"base": "10.80.0.0/16", "size": 24}],
                "default-dns": true}"#,
        )
        .unwrap();
        assert_eq!(flags, file);
        assert_eq!(flags.address_pools.len(), 1);
        assert_eq!(
            flags.network_options["bridge"]["com.docker.network.driver.mtu"],
            "1300"
        );
        assert_eq!((flags.mtu, flags.icc, flags.ipv6), (1400, false, true));
        let bridges =
            ["", "-b none", "--bridge br7"].map(|line| settings(line, "").unwrap().bridge);
        let named = DefaultBridge::Named("br7".to_owned());
        assert_eq!(bridges, [DefaultBridge::Own, DefaultBridge::Absent, named]);
        assert!(!settings("--iptables=false", "").unwrap().ip_masq);
    }

    #[test]
    fn refusals_have_dockerds_words() {
        for (line, text) in [
            (
                "-b x --bip 10.0.0.1/8",
                "You specified -b & --bip, mutually exclusive options. Please specify only one",
            ),
            (
                "--iptables=false --icc=false",
                "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or \
                 --iptables to true",
            ),
            (
                "--ipv6 --ip6tables=false --icc=false",
                "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to function. Please set --icc or \
                 --ip6tables to true",
            ),
            ("--bip foo", "parse bip failed: invalid CIDR address: foo"),
            (
                "--bip fd00::1/64",
                "parse bip failed: invalid CIDR address: fd00::1/64",
            ),
            (
                "--ip foo",
                "invalid argument \"foo\" for \"--ip\" flag: failed to parse IP: \"foo\"",
            ),
            ("--dns foo", "IP address is not correctly formatted: foo"),
            ("--dns-search a..b", "a..b is not a valid domain"),
            ("--dns-search 1.2", "1.2 is not a valid domain"),
            ("--mtu -5", "invalid default MTU: -5"),
            ("--mtu 12", "invalid default MTU: 12"),
            (
                "--firewall-backend pf",
                "invalid firewall-backend: allowed values are \"iptables\" and \"nftables\"",
            ),
            (
                "--default-network-opt bridge=x",
                "invalid value \"bridge=x\" for map option, should be root-key=key=value",
            ),
            (
                "--default-address-pool base=10.0.0.0/16",
                "invalid default-address-pool \"base=10.0.0.0/16\": base and size are both needed",
            ),
            (
                "--default-address-pool base=10.0.0.0/24,size=16",
                "invalid default-address-pool \"base=10.0.0.0/24,size=16\": network at index 0 ({10.0.0.0/24 16}) has a \
                 smaller prefix (/24) than the target size of that pool (/16)",
            ),
            ("-b a/b", "invalid bridge name \"a/b\""),
            (
                "--bip 10.0.0.1/24 --fixed-cidr 10.1.0.0/24",
                "fixed-cidr 10.1.0.0/24 is not within the subnet of bip 10.0.0.1/24",
            ),
        ] {
            assert_eq!(settings(line, "").unwrap_err(), text, "{line}");
        }
        assert_eq!(
            settings("", r#"{"mtu": "1400"}"#).unwrap_err(),
            "invalid JSON: mtu must be an integer"
        );
    }
}
