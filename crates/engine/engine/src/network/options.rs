//! Options of the drivers, read from the texts that users give.
//!
//! Names and errors: <https://github.com/moby/moby/blob/master/daemon/libnetwork/drivers/bridge/bridge_linux.go>
//! (`fromLabels`) and its neighbours `macvlan` and `ipvlan`.

use std::net::IpAddr;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::StringMap;
use havre_network::{GatewayMode, names};
use havre_types::Cidr;

pub(crate) const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
pub(crate) const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
pub(super) const MTU: &str = "com.docker.network.driver.mtu";
pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(super) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(super) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const GATEWAY_MODE_IPV4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const GATEWAY_MODE_IPV6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const TRUSTED_INTERFACES: &str = "com.docker.network.bridge.trusted_host_interfaces";
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
/// Not Docker's: containers send from their own addresses alone.
const ANTI_SPOOFING: &str = "havre.network.anti_spoofing";

/// The mode of `macvlan` in which one interface takes the parent over.
pub(super) const PASSTHRU: &str = "passthru";

/// What Ethernet and the kernel's bridges can carry.
const MTUS: std::ops::RangeInclusive<i64> = 68..=65_535;

/// A network's driver with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Driver {
    Bridge(Bridge),
    Macvlan(Vlan),
    Ipvlan(Vlan),
    Host,
    Null,
}

/// Options of `bridge`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one option of the driver, true or false"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// None: one that the engine chooses.
    pub interface: Option<String>,
    /// 0 for the kernel's choice.
    pub mtu: u32,
    pub masquerade: bool,
    pub icc: bool,
    pub mode_ipv4: GatewayMode,
    pub mode_ipv6: GatewayMode,
    pub inhibit_ipv4: bool,
    pub default_bridge: bool,
    /// Host's address for published ports that name none.
    pub host_binding: Option<IpAddr>,
    pub trusted_interfaces: Vec<String>,
    /// Empty: `eth`.
    pub interface_prefix: String,
    /// Source addresses of what goes out, instead of masquerading.
    pub host_ipv4: Option<IpAddr>,
    pub host_ipv6: Option<IpAddr>,
    pub anti_spoofing: bool,
}

/// Options of `macvlan` and `ipvlan`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vlan {
    /// The host's interface; None: one that leads nowhere.
    pub parent: Option<String>,
    pub mode: String,
    /// Of `ipvlan` alone.
    pub flag: String,
}

impl Driver {
    /// Reads the options of the driver called `name`; a driver that does not exist is looked for among plugins, of which
    /// there are none.
    pub(crate) fn read(name: &str, options: &StringMap, internal: bool) -> ApiResult<Self> {
        if name != "bridge" {
            only_for_bridges(options)?;
        }
        match name {
            "bridge" => bridge(options, internal).map(Self::Bridge),
            "macvlan" => macvlan(options).map(Self::Macvlan),
            "ipvlan" => ipvlan(options).map(Self::Ipvlan),
            "host" => Ok(Self::Host),
            "null" => Ok(Self::Null),
            other => Err(no_plugin(other)),
        }
    }

    /// Whether a subnet gets a gateway although the user named none.
    pub(crate) fn wants_gateway(&self, subnet: Cidr, internal: bool) -> bool {
        let v6 = subnet.address().is_ipv6();
        match self {
            Self::Bridge(bridge) if v6 => bridge.mode_ipv6 != GatewayMode::Isolated,
            Self::Bridge(bridge) => {
                let unused = bridge.inhibit_ipv4 && internal;
                bridge.mode_ipv4 != GatewayMode::Isolated && !unused
            }
            // The gateway is somewhere outside: nobody has that address here.
            Self::Macvlan(_) | Self::Ipvlan(_) | Self::Host | Self::Null => false,
        }
    }

    /// Its ends reach nothing but each other: they have no parent of the host.
    pub(crate) fn leads_nowhere(&self) -> bool {
        match self {
            Self::Macvlan(vlan) | Self::Ipvlan(vlan) => vlan.parent.is_none(),
            Self::Bridge(_) | Self::Host | Self::Null => false,
        }
    }

    /// Everything outside is reached by the routes of the parent: a default route needs no gateway.
    pub(crate) fn routes_alone(&self) -> bool {
        matches!(self, Self::Ipvlan(vlan) if vlan.mode != "l2")
    }
}

/// Docker's answer for a driver that is neither built in nor a plugin.
pub(super) fn no_plugin(name: &str) -> ApiError {
    ApiError::not_found(format!("plugin \"{name}\" not found"))
}

fn bridge(options: &StringMap, internal: bool) -> ApiResult<Bridge> {
    let mut bridge = Bridge {
        interface: None,
        mtu: 0,
        masquerade: true,
        icc: true,
        mode_ipv4: GatewayMode::Nat,
        mode_ipv6: GatewayMode::Nat,
        inhibit_ipv4: false,
        default_bridge: false,
        host_binding: None,
        trusted_interfaces: Vec::new(),
        interface_prefix: String::new(),
        host_ipv4: None,
        host_ipv6: None,
        anti_spoofing: false,
    };
    for (key, value) in options {
        bridge_option(&mut bridge, key, value)?;
    }
    let isolated = [bridge.mode_ipv4, bridge.mode_ipv6].contains(&GatewayMode::Isolated);
    if isolated && !internal {
        return Err(ApiError::invalid(
            "gateway mode 'isolated' can only be used for an internal network",
        ));
    }
    Ok(bridge)
}

fn bridge_option(bridge: &mut Bridge, key: &str, value: &str) -> ApiResult<()> {
    match key {
        BRIDGE_NAME if value.is_empty() => {}
        BRIDGE_NAME => bridge.interface = Some(interface_name("bridge name", value)?),
        MTU => bridge.mtu = mtu(value)?,
        MASQUERADE => bridge.masquerade = flag(key, value)?,
        ICC => bridge.icc = flag(key, value)?,
        GATEWAY_MODE_IPV4 => bridge.mode_ipv4 = gateway_mode(key, value)?,
        GATEWAY_MODE_IPV6 => bridge.mode_ipv6 = gateway_mode(key, value)?,
        INHIBIT_IPV4 => bridge.inhibit_ipv4 = flag(key, value)?,
        DEFAULT_BRIDGE => bridge.default_bridge = flag(key, value)?,
        HOST_BINDING => bridge.host_binding = Some(address(key, value)?),
        HOST_IPV4 => bridge.host_ipv4 = Some(address(key, value)?),
        HOST_IPV6 => bridge.host_ipv6 = Some(address(key, value)?),
        ANTI_SPOOFING => bridge.anti_spoofing = flag(key, value)?,
        TRUSTED_INTERFACES => {
            let names = value.split(':').filter(|name| !name.is_empty());
            let checked = names.map(|name| interface_name("trusted host interface", name));
            bridge.trusted_interfaces = checked.collect::<ApiResult<_>>()?;
        }
        INTERFACE_PREFIX if value.is_empty() => {}
        INTERFACE_PREFIX => {
            bridge.interface_prefix = interface_name("interface prefix", value)?;
        }
        ENABLE_IPV4 | ENABLE_IPV6 => {
            flag(key, value)?;
        }
        // As Docker: what no driver knows is kept and shown.
        _ => {}
    }
    Ok(())
}

/// A protection that another driver would not give is not passed over as Docker passes over options that it does not know.
fn only_for_bridges(options: &StringMap) -> ApiResult<()> {
    match options.get(ANTI_SPOOFING) {
        Some(value) if flag(ANTI_SPOOFING, value)? => Err(ApiError::invalid(format!(
            "option {ANTI_SPOOFING} is of the driver bridge alone"
        ))),
        _ => Ok(()),
    }
}

fn macvlan(options: &StringMap) -> ApiResult<Vlan> {
    let mode = one_of(options, "macvlan_mode", &["bridge", "private", "vepa", PASSTHRU])
        .map_err(|mode| {
            ApiError::invalid(format!(
                "requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver default"
            ))
        })?;
    Ok(Vlan {
        parent: parent(options, "macvlan")?,
        mode,
        flag: String::new(),
    })
}

fn ipvlan(options: &StringMap) -> ApiResult<Vlan> {
    let mode = one_of(options, "ipvlan_mode", &["l2", "l3", "l3s"]).map_err(|mode| {
        ApiError::invalid(format!(
            "requested ipvlan mode '{mode}' is not valid, 'l2' mode is the ipvlan driver default"
        ))
    })?;
    let flag = one_of(options, "ipvlan_flag", &["bridge", "private", "vepa"]).map_err(|flag| {
        ApiError::invalid(format!(
            "requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default"
        ))
    })?;
    Ok(Vlan {
        parent: parent(options, "ipvlan")?,
        mode,
        flag,
    })
}

/// One of the words, the first of which is the default. The error is the word that is none of them.
fn one_of(options: &StringMap, key: &str, words: &[&str]) -> Result<String, String> {
    match options.get(key).map(String::as_str) {
        None | Some("") => Ok(words.first().copied().unwrap_or_default().to_owned()),
        Some(word) if words.contains(&word) => Ok(word.to_owned()),
        Some(word) => Err(word.to_owned()),
    }
}

fn parent(options: &StringMap, driver: &str) -> ApiResult<Option<String>> {
    match options.get("parent").map(String::as_str) {
        None | Some("") => Ok(None),
        Some("lo") => Err(ApiError::invalid(format!(
            "loopback interface is not a valid {driver} parent link"
        ))),
        Some(name) => interface_name("parent interface", name).map(Some),
    }
}

/// A name that the kernel would take for an interface, and that means nothing else in any text (SECURITY.md N19).
pub(crate) fn interface_name(what: &str, name: &str) -> ApiResult<String> {
    if names::is_interface(name) {
        return Ok(name.to_owned());
    }
    Err(ApiError::invalid(format!(
        "invalid {what} {name:?}: it must have 1 to 15 letters, digits, dots, hyphens and underscores, and begin with a \
         letter, a digit or an underscore"
    )))
}

fn wrong(key: &str, value: &str, why: &str) -> ApiError {
    ApiError::invalid(format!("failed to parse {key} value: {value} ({why})"))
}

/// The words of Go's `strconv.ParseBool`.
pub(crate) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn flag(key: &str, value: &str) -> ApiResult<bool> {
    go_bool(value).ok_or_else(|| {
        let why = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
        wrong(key, value, &why)
    })
}

fn mtu(value: &str) -> ApiResult<u32> {
    let number: i64 = value
        .parse()
        .map_err(|_not_a_number: std::num::ParseIntError| {
            let why = format!("strconv.Atoi: parsing {value:?}: invalid syntax");
            wrong(MTU, value, &why)
        })?;
    if number != 0 && !MTUS.contains(&number) {
        return Err(ApiError::invalid(format!("invalid MTU number: {number}")));
    }
    Ok(u32::try_from(number).unwrap_or(0))
}

fn address(key: &str, value: &str) -> ApiResult<IpAddr> {
    value
        .parse()
        .map_err(|_no_address: std::net::AddrParseError| wrong(key, value, "nil ip"))
}

fn gateway_mode(key: &str, value: &str) -> ApiResult<GatewayMode> {
    match value {
        "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        other => Err(wrong(key, value, &format!("unknown gateway mode {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(driver: &str, pairs: &[(&str, &str)], internal: bool) -> Result<Driver, String> {
        let options = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Driver::read(driver, &options, internal).map_err(|error| error.message)
    }

    #[test]
    fn bridge_options_are_read() {
        let Ok(Driver::Bridge(bridge)) = read(
            "bridge",
            &[
                (BRIDGE_NAME, "br-web"),
                (MTU, "1400"),
                (MASQUERADE, "f"),
                (ICC, "0"),
                (GATEWAY_MODE_IPV4, "routed"),
                (GATEWAY_MODE_IPV6, "isolated"),
                (INHIBIT_IPV4, "T"),
                (HOST_BINDING, "127.0.0.1"),
                (TRUSTED_INTERFACES, "eth0:eth1:"),
                (INTERFACE_PREFIX, "net"),
                (HOST_IPV4, "10.0.0.1"),
                (HOST_IPV6, "fd00::1"),
                (ANTI_SPOOFING, "true"),
                ("other", "kept"),
            ],
            true,
        ) else {
            panic!("a bridge");
        };
        insta::assert_debug_snapshot!(bridge);
        let driver = Driver::Bridge(bridge);
        let (four, six) = ("10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap());
        assert!(!driver.wants_gateway(six, true) && !driver.wants_gateway(four, true));
        assert!(driver.wants_gateway(four, false));
    }

    #[test]
    fn refusals_have_dockers_words() {
        for (driver, key, value, text) in [
            ("foo", "a", "b", "plugin \"foo\" not found"),
            (
                "bridge",
                MTU,
                "foo",
                "failed to parse com.docker.network.driver.mtu value: foo (strconv.Atoi: parsing \"foo\": invalid syntax)",
            ),
            ("bridge", MTU, "-1", "invalid MTU number: -1"),
            ("bridge", MTU, "67", "invalid MTU number: 67"),
            (
                "bridge",
                ICC,
                "yes",
                "failed to parse com.docker.network.bridge.enable_icc value: yes (strconv.ParseBool: parsing \"yes\": invalid syntax)",
            ),
            (
                "bridge",
                HOST_BINDING,
                "foo",
                "failed to parse com.docker.network.bridge.host_binding_ipv4 value: foo (nil ip)",
            ),
            (
                "bridge",
                GATEWAY_MODE_IPV4,
                "foo",
                "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: foo (unknown gateway mode foo)",
            ),
            (
                "bridge",
                GATEWAY_MODE_IPV4,
                "isolated",
                "gateway mode 'isolated' can only be used for an internal network",
            ),
            (
                "macvlan",
                "macvlan_mode",
                "foo",
                "requested macvlan mode 'foo' is not valid, 'bridge' mode is the macvlan driver default",
            ),
            (
                "bridge",
                ANTI_SPOOFING,
                "on",
                "failed to parse havre.network.anti_spoofing value: on (strconv.ParseBool: parsing \"on\": invalid syntax)",
            ),
            (
                "macvlan",
                ANTI_SPOOFING,
                "true",
                "option havre.network.anti_spoofing is of the driver bridge alone",
            ),
            (
                "macvlan",
                "parent",
                "lo",
                "loopback interface is not a valid macvlan parent link",
            ),
            (
                "ipvlan",
                "ipvlan_mode",
                "l4",
                "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default",
            ),
            (
                "ipvlan",
                "ipvlan_flag",
                "foo",
                "requested ipvlan flag 'foo' is not valid, 'bridge' is the ipvlan driver default",
            ),
        ] {
            assert_eq!(read(driver, &[(key, value)], false).unwrap_err(), text);
        }
    }

    #[test]
    fn names_that_could_mean_something_else_are_refused() {
        for name in [
            "a b",
            "a/b",
            "..",
            ".",
            "a;b",
            "a\"b",
            "a'b",
            "a\nb",
            "a:b",
            "é",
            "sixteen-letters-",
            "../x",
        ] {
            let error = read("bridge", &[(BRIDGE_NAME, name)], false).unwrap_err();
            assert!(error.starts_with("invalid bridge name "), "{error}");
            read("macvlan", &[("parent", name)], false).unwrap_err();
            // The separator of the list is no part of its names.
            if name != "a:b" {
                read("bridge", &[(TRUSTED_INTERFACES, name)], false).unwrap_err();
            }
        }
    }

    #[test]
    fn modes_have_defaults() {
        let vlan = |mode: &str, flag: &str| Vlan {
            parent: None,
            mode: mode.to_owned(),
            flag: flag.to_owned(),
        };
        assert_eq!(
            read("macvlan", &[], false),
            Ok(Driver::Macvlan(vlan("bridge", "")))
        );
        assert_eq!(
            read(
                "ipvlan",
                &[("ipvlan_mode", "l3s"), ("ipvlan_flag", "vepa")],
                false
            ),
            Ok(Driver::Ipvlan(vlan("l3s", "vepa")))
        );
        assert_eq!(
            read("ipvlan", &[], false),
            Ok(Driver::Ipvlan(vlan("l2", "bridge")))
        );
    }
}
