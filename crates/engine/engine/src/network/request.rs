//! A request for a network, read and checked. Pure.
//!
//! Checks, their order and their texts: <https://github.com/moby/moby/blob/master/daemon/network.go> (`createNetwork`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{Ipam, IpamConfig, NetworkCreateRequest, StringMap};
use havre_types::{Cidr, ErrorKind};

use super::defaults::NetworkDefaults;
use super::is_predefined;
use super::options::{ENABLE_IPV4, ENABLE_IPV6, go_bool};

/// What a request asks for.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of the request, true or false"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub name: String,
    pub driver: String,
    /// `swarm`, or anything else.
    pub scope: String,
    pub enable_ipv4: bool,
    pub enable_ipv6: bool,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    pub config_only: bool,
    /// Empty: none.
    pub config_from: String,
    pub options: StringMap,
    pub labels: StringMap,
    pub ipam_driver: String,
    pub ipam_options: Option<StringMap>,
    pub subnets: Vec<WantedSubnet>,
    /// The same as it was given.
    pub given: Vec<IpamConfig>,
}

/// A subnet that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedSubnet {
    pub cidr: Cidr,
    pub range: Option<Cidr>,
    pub gateway: Option<IpAddr>,
    pub aux: BTreeMap<String, IpAddr>,
}

/// Reads a request.
pub(super) fn read(request: NetworkCreateRequest, defaults: &NetworkDefaults) -> ApiResult<Wanted> {
    if is_predefined(&request.name) {
        return Err(forbidden(format!(
            "operation is not permitted on predefined {} network ",
            request.name
        )));
    }
    let driver = match request.driver.as_str() {
        "" => "bridge".to_owned(),
        "overlay" => {
            return Err(forbidden(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
                 node to swarm and try again.",
            ));
        }
        other => other.to_owned(),
    };
    let config_from = request.config_from.map(|reference| reference.network);
    let mut options = request.options.unwrap_or_default();
    if config_from.is_none()
        && let Some(all) = defaults.network_options.get(&driver)
    {
        for (key, value) in all {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let enable_ipv4 = family(&mut options, ENABLE_IPV4, request.enable_ipv4, true)?;
    let enable_ipv6 = family(&mut options, ENABLE_IPV6, request.enable_ipv6, false)?;
    let ipam = request.ipam.unwrap_or_default();
    let subnets = subnets(&ipam, enable_ipv6)?;
    check_name(&request.name)?;
    let wanted = Wanted {
        name: request.name,
        driver,
        scope: request.scope,
        enable_ipv4,
        enable_ipv6,
        internal: request.internal,
        attachable: request.attachable,
        ingress: request.ingress,
        config_only: request.config_only,
        config_from: config_from.unwrap_or_default(),
        options,
        labels: request.labels.unwrap_or_default(),
        ipam_driver: if ipam.driver.is_empty() {
            "default".to_owned()
        } else {
            ipam.driver
        },
        ipam_options: ipam.options,
        subnets,
        given: ipam.config.unwrap_or_default(),
    };
    Ok(wanted)
}

/// The rules of configurations that are taken over, which Docker checks once the name is known to be free.
pub(super) fn check_configuration(wanted: &Wanted) -> ApiResult<()> {
    let by_operator =
        wanted.ingress || wanted.internal || wanted.attachable || !wanted.scope.is_empty();
    if wanted.config_only && by_operator {
        return Err(forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | \
             internal | attachable | scope ] are not supported.",
        ));
    }
    if wanted.config_from.is_empty() {
        return Ok(());
    }
    if wanted.config_only {
        return Err(forbidden(
            "a configuration network cannot depend on another configuration network",
        ));
    }
    let own_configuration = wanted.ipam_driver != "default"
        || !wanted.enable_ipv4
        || wanted.enable_ipv6
        || !wanted.labels.is_empty()
        || wanted
            .ipam_options
            .as_ref()
            .is_some_and(|options| !options.is_empty())
        || !wanted.given.is_empty();
    if own_configuration {
        return Err(forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    if !wanted.options.is_empty() {
        return Err(forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        ));
    }
    Ok(())
}

pub(super) fn forbidden(text: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::Forbidden, text)
}

fn check_name(name: &str) -> ApiResult<()> {
    if name.trim().is_empty() {
        return Err(ApiError::invalid("invalid name: name is empty"));
    }
    // Docker takes them; a line break in a name would be one in every file and table that names the network.
    if name.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!(
            "invalid name: {name:?} has control characters"
        )));
    }
    Ok(())
}

/// Whether a family is on: the field wins over the option, which is then forgotten.
fn family(
    options: &mut StringMap,
    key: &str,
    field: Option<bool>,
    default: bool,
) -> ApiResult<bool> {
    if let Some(on) = field {
        options.remove(key);
        return Ok(on);
    }
    let Some(text) = options.get(key) else {
        return Ok(default);
    };
    go_bool(text)
        .ok_or_else(|| ApiError::invalid(format!("driver-opt \"{key}\" is not a valid bool")))
}

/// The subnets asked for. All that is wrong is told at once; an IPv6 subnet of a network without IPv6 is not looked at.
pub(super) fn subnets(ipam: &Ipam, enable_ipv6: bool) -> ApiResult<Vec<WantedSubnet>> {
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for config in ipam.config.iter().flatten() {
        let Ok(cidr) = config.subnet.parse::<Cidr>() else {
            wrong.push(format!(
                "invalid subnet {}: invalid CIDR block notation",
                config.subnet
            ));
            continue;
        };
        if cidr.address().is_ipv6() && !enable_ipv6 {
            continue;
        }
        if cidr != cidr.network() {
            wrong.push(format!(
                "invalid subnet {cidr}: it should be {}",
                cidr.network()
            ));
        }
        found.push(WantedSubnet {
            cidr: cidr.network(),
            range: range(&config.ip_range, cidr, &mut wrong),
            gateway: gateway(&config.gateway, cidr, &mut wrong),
            aux: aux(config, cidr, &mut wrong),
        });
    }
    match wrong.as_slice() {
        [] => Ok(found),
        [one] => Err(ApiError::invalid(format!("invalid network config:\n{one}"))),
        several => Err(ApiError::invalid(format!(
            "invalid network config:\n* {}",
            several.join("\n* ")
        ))),
    }
}

fn family_name(cidr: Cidr) -> &'static str {
    if cidr.address().is_ipv6() {
        "IPv6"
    } else {
        "IPv4"
    }
}

fn range(text: &str, subnet: Cidr, wrong: &mut Vec<String>) -> Option<Cidr> {
    if text.is_empty() {
        return None;
    }
    let Ok(range) = text.parse::<Cidr>() else {
        wrong.push(format!(
            "invalid ip-range {text}: invalid CIDR block notation"
        ));
        return None;
    };
    if range.address().is_ipv6() != subnet.address().is_ipv6() {
        let family = family_name(subnet);
        wrong.push(format!(
            "invalid ip-range {text}: parent subnet is an {family} block"
        ));
        return None;
    }
    if range.prefix() < subnet.prefix() {
        wrong.push(format!(
            "invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if range != range.network() {
        wrong.push(format!(
            "invalid ip-range {range}: it should be {}",
            range.network()
        ));
    }
    if !subnet.overlaps(range) {
        wrong.push(format!(
            "invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
    Some(range.network())
}

fn member(text: &str, subnet: Cidr) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_no_address: std::net::AddrParseError| "invalid address".to_owned())?;
    if address.is_ipv6() != subnet.address().is_ipv6() {
        return Err(format!("parent subnet is an {} block", family_name(subnet)));
    }
    if !subnet.contains(address) {
        return Err(format!(
            "parent subnet {subnet} doesn't contain this address"
        ));
    }
    Ok(address)
}

fn gateway(text: &str, subnet: Cidr, wrong: &mut Vec<String>) -> Option<IpAddr> {
    if text.is_empty() {
        return None;
    }
    let found = member(text, subnet);
    found
        .map_err(|why| wrong.push(format!("invalid gateway {text}: {why}")))
        .ok()
}

fn aux(config: &IpamConfig, subnet: Cidr, wrong: &mut Vec<String>) -> BTreeMap<String, IpAddr> {
    let mut found = BTreeMap::new();
    for (name, text) in config.aux_addresses.iter().flatten() {
        match member(text, subnet) {
            Ok(address) => {
                found.insert(name.clone(), address);
            }
            Err(why) => wrong.push(format!("invalid auxiliary address {name}: {why}")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> Result<Wanted, String> {
        let request = serde_json::from_str(json).unwrap();
        let defaults = NetworkDefaults {
            network_options: [(
                "bridge".to_owned(),
                [(
                    "com.docker.network.driver.mtu".to_owned(),
                    "1400".to_owned(),
                )]
                .into(),
            )]
            .into(),
            ..NetworkDefaults::default()
        };
        let wanted = read(request, &defaults).map_err(|error| error.message)?;
        check_configuration(&wanted).map_err(|error| error.message)?;
        Ok(wanted)
    }

    #[test]
    fn a_request_is_read() {
        let found = wanted(
            r#"{"Name":"web","EnableIPv6":true,"IPAM":{"Config":[
                {"Subnet":"10.5.0.0/16","IPRange":"10.5.4.0/24","Gateway":"10.5.0.9","AuxiliaryAddresses":{"r":"10.5.0.7"}},
                {"Subnet":"fd00::/64"}]},"Options":{"com.docker.network.enable_ipv6":"nonsense","a":"b"}}"#,
        )
        .unwrap();
        insta::assert_debug_snapshot!(found);
        // An option of the user wins over the administrator's.
        let own =
            wanted(r#"{"Name":"x","Options":{"com.docker.network.driver.mtu":"9000"}}"#).unwrap();
        assert_eq!(own.options["com.docker.network.driver.mtu"], "9000");
        let other = wanted(r#"{"Name":"x","Driver":"macvlan"}"#).unwrap();
        assert!(other.options.is_empty());
        // Without IPv6 its subnets do not count.
        let four = wanted(r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"fd00::1/64"}]}}"#).unwrap();
        assert!(four.subnets.is_empty() && four.enable_ipv4);
    }

    #[test]
    fn refusals_have_dockers_words() {
        for (json, text) in [
            (
                r#"{"Name":"host"}"#,
                "operation is not permitted on predefined host network ",
            ),
            (r#"{"Name":" "}"#, "invalid name: name is empty"),
            (
                r#"{"Name":"a\nb"}"#,
                "invalid name: \"a\\nb\" has control characters",
            ),
            (
                r#"{"Name":"x","Options":{"com.docker.network.enable_ipv4":"foo"}}"#,
                "driver-opt \"com.docker.network.enable_ipv4\" is not a valid bool",
            ),
            (
                r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.5.0.0/16","Gateway":"10.6.0.1","IPRange":"10.7.0.0/24"}]}}"#,
                "invalid network config:\n* invalid ip-range 10.7.0.0/24: parent subnet 10.5.0.0/16 doesn't contain \
                 ip-range\n* invalid gateway 10.6.0.1: parent subnet 10.5.0.0/16 doesn't contain this address",
            ),
            (
                r#"{"Name":"x","IPAM":{"Config":[{"Gateway":"10.6.0.1"}]}}"#,
                "invalid network config:\ninvalid subnet : invalid CIDR block notation",
            ),
            (
                r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.5.1.0/16"}]}}"#,
                "invalid network config:\ninvalid subnet 10.5.1.0/16: it should be 10.5.0.0/16",
            ),
            (
                r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.5.0.0/16","IPRange":"10.0.0.0/8"}]}}"#,
                "invalid network config:\ninvalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.5.0.0/16",
            ),
            (
                r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.5.0.0/16","IPRange":"fd00::/64"}]}}"#,
                "invalid network config:\ninvalid ip-range fd00::/64: parent subnet is an IPv4 block",
            ),
            (
                r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.5.0.0/16","AuxiliaryAddresses":{"a":"foo"}}]}}"#,
                "invalid network config:\ninvalid auxiliary address a: invalid address",
            ),
            (
                r#"{"Name":"x","ConfigOnly":true,"Internal":true}"#,
                "configuration network can only contain network specific fields. Network operator fields like \
                 [ ingress | internal | attachable | scope ] are not supported.",
            ),
            (
                r#"{"Name":"x","ConfigOnly":true,"ConfigFrom":{"Network":"y"}}"#,
                "a configuration network cannot depend on another configuration network",
            ),
            (
                r#"{"Name":"x","Labels":{"a":"b"},"ConfigFrom":{"Network":"y"}}"#,
                "user specified configurations are not supported if the network depends on a configuration network",
            ),
            (
                r#"{"Name":"x","Options":{"a":"b"},"ConfigFrom":{"Network":"y"}}"#,
                "network driver options are not supported if the network depends on a configuration network",
            ),
        ] {
            assert_eq!(wanted(json).unwrap_err(), text, "{json}");
        }
        let overlay = wanted(r#"{"Name":"x","Driver":"overlay"}"#).unwrap_err();
        assert!(overlay.starts_with("This node is not a swarm manager."));
    }
}
