//! Addresses: networks in CIDR notation and hardware addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// As Go's `net.ParseCIDR` says it.
    #[error("invalid CIDR address: {0}")]
    Cidr(String),
    /// As Go's `net.ParseMAC` says it.
    #[error("address {0}: invalid MAC address")]
    Mac(String),
}

/// An address with the length of its network's prefix: an interface's address, or with all host bits zero a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// None when the prefix is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// The address alone, as a network of one.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    /// The address as it was given.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits are the network's.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Bits of an address of this family.
    fn bits(self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// The address as a number; IPv4 in the low 32 bits.
    fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => v4.to_bits().into(),
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }

    fn of_number(self, number: u128) -> Option<IpAddr> {
        if self.address.is_ipv4() {
            let number = u32::try_from(number).ok()?;
            Some(Ipv4Addr::from_bits(number).into())
        } else {
            Some(Ipv6Addr::from_bits(number).into())
        }
    }

    /// The host part's bits, all ones.
    fn host_mask(self) -> u128 {
        match self.bits() - self.prefix {
            128 => u128::MAX,
            width => (1 << width) - 1,
        }
    }

    /// The network: all host bits zero.
    #[must_use]
    pub fn network(self) -> Self {
        let number = Self::number(self.address) & !self.host_mask();
        let address = self.of_number(number).unwrap_or(self.address);
        Self { address, ..self }
    }

    /// The last address of the network; for IPv4 its broadcast address.
    #[must_use]
    pub fn last(self) -> IpAddr {
        let number = Self::number(self.address) | self.host_mask();
        self.of_number(number).unwrap_or(self.address)
    }

    /// The address at a place in the network, counted from its first; None beyond its last.
    #[must_use]
    pub fn nth(self, place: u128) -> Option<IpAddr> {
        if place > self.host_mask() {
            return None;
        }
        self.of_number(Self::number(self.network().address) + place)
    }

    /// The place of an address in the network; None when it is not in it.
    #[must_use]
    pub fn place_of(self, address: IpAddr) -> Option<u128> {
        let within = self.contains(address);
        within.then(|| Self::number(address) & self.host_mask())
    }

    /// How many addresses the network has, less one (so that `::/0` fits).
    #[must_use]
    pub fn last_place(self) -> u128 {
        self.host_mask()
    }

    /// Whether the network has this address.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Self::number(address) & !self.host_mask()
                == Self::number(self.address) & !self.host_mask()
    }

    /// Whether the two networks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network().address) || other.contains(self.network().address)
    }

    /// The networks of a longer prefix within this one, in order.
    pub fn subnets(self, prefix: u8) -> impl Iterator<Item = Self> {
        let fits = prefix >= self.prefix && prefix <= self.bits();
        let network = self.network();
        let base = Self::number(network.address);
        let step = self.bits() - prefix.min(self.bits());
        let count = if fits { prefix - self.prefix } else { 0 };
        let last = match count {
            128 => u128::MAX,
            width => (1_u128 << width) - 1,
        };
        let places = fits.then_some(0..=last).into_iter().flatten();
        places.filter_map(move |place| {
            let number = place.checked_shl(step.into()).unwrap_or(0) | base;
            let address = network.of_number(number)?;
            Some(Self { address, prefix })
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let wrong = || NetError::Cidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let address = address.parse().ok();
        let parsed = address.zip(prefix.parse().ok());
        let made = parsed.and_then(|(address, prefix)| Self::new(address, prefix));
        made.ok_or_else(wrong)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The hardware address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// An address of one's own making: unicast, locally administered, the rest as given.
    #[must_use]
    pub fn local(mut bytes: [u8; 6]) -> Self {
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Self(bytes)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = NetError;

    /// Six pairs of hexadecimal digits, parted by colons or hyphens.
    fn from_str(text: &str) -> Result<Self, NetError> {
        let wrong = || NetError::Mac(text.to_owned());
        let separator = if text.contains(':') { ':' } else { '-' };
        let mut bytes = [0; 6];
        let mut pairs = text.split(separator);
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2);
            let digits = pair.filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = digits
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(wrong)?;
        }
        match pairs.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(wrong()),
        }
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_written() {
        for text in [
            "172.17.0.0/16",
            "0.0.0.0/0",
            "10.1.2.3/32",
            "fd00::/64",
            "::/0",
        ] {
            assert_eq!(cidr(text).to_string(), text);
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "1.2.3.4/",
        ] {
            let error = text.parse::<Cidr>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid CIDR address: {text}"));
        }
    }

    #[test]
    fn members_are_found_by_place() {
        let net = cidr("172.17.5.9/16");
        assert_eq!(net.network(), cidr("172.17.0.0/16"));
        assert_eq!(net.last(), "172.17.255.255".parse::<IpAddr>().unwrap());
        assert_eq!(net.nth(258), Some("172.17.1.2".parse().unwrap()));
        assert_eq!(net.nth(65_536), None);
        assert_eq!(net.place_of("172.17.1.2".parse().unwrap()), Some(258));
        assert_eq!(net.place_of("172.18.1.2".parse().unwrap()), None);
        let all = cidr("::/0");
        assert_eq!(all.nth(u128::MAX), Some(all.last()));
        assert!(!all.contains("10.0.0.1".parse().unwrap()));
        assert_eq!(
            cidr("10.0.0.1/32").nth(0),
            Some("10.0.0.1".parse().unwrap())
        );
    }

    #[test]
    fn overlap_is_symmetric() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.3.0.0/16", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("fd00::/48", "fd00:0:0:1::/64", true),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(cidr(one).overlaps(cidr(other)), expected, "{one} {other}");
            assert_eq!(cidr(other).overlaps(cidr(one)), expected, "{other} {one}");
        }
    }

    #[test]
    fn subnets_come_in_order() {
        let parts: Vec<String> = cidr("192.168.0.0/22")
            .subnets(24)
            .map(|net| net.to_string())
            .collect();
        assert_eq!(
            parts,
            [
                "192.168.0.0/24",
                "192.168.1.0/24",
                "192.168.2.0/24",
                "192.168.3.0/24"
            ]
        );
        assert_eq!(cidr("10.0.0.0/24").subnets(16).count(), 0);
        assert_eq!(cidr("10.0.0.0/24").subnets(33).count(), 0);
        assert_eq!(
            cidr("fd00::/8").subnets(64).nth(1),
            Some(cidr("fd00:0:0:1::/64"))
        );
    }

    #[test]
    fn hardware_addresses() {
        let mac: MacAddress = "02:42:AC-11"
            .parse::<MacAddress>()
            .unwrap_or(MacAddress([0; 6]));
        assert_eq!(mac, MacAddress([0; 6]));
        let mac: MacAddress = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02-42-ac-11-00-02".parse(), Ok(mac));
        for text in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:2",
            "g2:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
        assert_eq!(MacAddress::local([0xff; 6]).0[0], 0xfe);
    }
}
