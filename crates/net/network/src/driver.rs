//! Interfaces of networks: what each driver makes on the host and inside.

pub(crate) mod bridge;
pub(crate) mod inner;
pub(crate) mod parent;

use std::net::IpAddr;

use havre_netlink::{Route, Shaper};
use havre_types::{Digest, MacAddress};
use rustix::io::Errno;

use crate::error::NetworkError;
use crate::spec::EndpointSpec;

/// Cables, in an error.
pub(crate) const VETH: &str = "veth interfaces";

/// Bounds how fast an interface sends, in bytes a second.
pub(crate) fn bound(route: &mut Route, index: u32, rate: u64) -> Result<(), NetworkError> {
    let made = route.shape(index, Shaper::for_rate(rate));
    made.map_err(|error| match error.errno() {
        // The interface is there: it is the queue that is not.
        Some(Errno::NOENT) => NetworkError::Unsupported("sch_tbf"),
        _ => error.into(),
    })
}

/// The hardware address of an end that was given none: as Docker made it of the IPv4 address for ten years. One address
/// always has the same, so that no neighbour remembers a wrong one.
pub(crate) fn mac_of(spec: &EndpointSpec) -> Option<MacAddress> {
    if let Some(given) = spec.mac {
        return Some(given);
    }
    match spec.address(false).or_else(|| spec.address(true))? {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Some(MacAddress([0x02, 0x42, a, b, c, d]))
        }
        IpAddr::V6(v6) => {
            let digest = Digest::sha256_of(&v6.octets());
            let hex = digest.hex();
            let byte = |place: usize| {
                let pair = hex.get(place * 2..place * 2 + 2).unwrap_or("0");
                u8::from_str_radix(pair, 16).unwrap_or_default()
            };
            Some(MacAddress([0x02, 0x43, byte(0), byte(1), byte(2), byte(3)]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_follow_from_addresses() {
        let mut spec = EndpointSpec {
            ipv4: Some("172.17.0.2/16".parse().unwrap()),
            ..EndpointSpec::default()
        };
        let shown = |spec: &EndpointSpec| mac_of(spec).unwrap().to_string();
        assert_eq!(shown(&spec), "02:42:ac:11:00:02");
        spec.mac = Some(MacAddress([2, 0, 0, 0, 0, 1]));
        assert_eq!(shown(&spec), "02:00:00:00:00:01");
        let one = EndpointSpec {
            ipv6: Some("fd00::2/64".parse().unwrap()),
            ..EndpointSpec::default()
        };
        let other = EndpointSpec {
            ipv6: Some("fd00::3/64".parse().unwrap()),
            ..EndpointSpec::default()
        };
        assert!(shown(&one).starts_with("02:43:"));
        assert_ne!(shown(&one), shown(&other));
        assert_eq!(mac_of(&EndpointSpec::default()), None);
    }
}
