//! What is wanted: networks, their ends, published ports. Plain data, checked by who makes it; what would reach the kernel
//! as a name is checked again.

use std::fmt;
use std::net::IpAddr;

use havre_netlink::{IpvlanMode, MacvlanMode};
use havre_types::{Cidr, MacAddress};

/// A part of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Its addresses.
    pub cidr: Cidr,
    /// Who leads out of it; on a bridge that is the host.
    pub gateway: Option<IpAddr>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its id, hexadecimal.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// How its ends meet.
    pub driver: Driver,
    /// IPv4 subnets; a bridge uses the first for its gateway.
    pub ipv4: Vec<Subnet>,
    /// IPv6 subnets; none means that its ends have no IPv6 at all.
    pub ipv6: Vec<Subnet>,
    /// Nothing leads out of it.
    pub internal: bool,
}

impl NetworkSpec {
    /// The subnets of both families.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    /// Whether its ends may send from their own addresses alone.
    pub(crate) fn anti_spoofing(&self) -> bool {
        self.bridge().is_some_and(|options| options.anti_spoofing)
    }

    /// The bridge, when it has one.
    pub(crate) fn bridge(&self) -> Option<&BridgeOptions> {
        match &self.driver {
            Driver::Bridge(options) => Some(options),
            Driver::Macvlan(_) | Driver::Ipvlan(_) => None,
        }
    }
}

/// How the ends of a network meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// On a switch of this host.
    Bridge(BridgeOptions),
    /// On a parent, each with a hardware address of its own.
    Macvlan(MacvlanOptions),
    /// On a parent, with the parent's hardware address.
    Ipvlan(IpvlanOptions),
}

/// How a family of addresses is reached from outside
/// (<https://docs.docker.com/engine/network/port-publishing/#gateway-modes>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GatewayMode {
    /// Published ports by translation, nothing else.
    #[default]
    Nat,
    /// Published ports by translation, and all ports directly.
    NatUnprotected,
    /// Published ports directly, without translation.
    Routed,
    /// The host has no address on the bridge; for internal networks.
    Isolated,
}

/// A switch of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeOptions {
    /// The name of its interface ([`crate::names`] has the usual ones).
    pub interface: String,
    /// Its ends may talk to each other.
    pub icc: bool,
    /// What leaves it has an address of the host.
    pub masquerade: bool,
    /// The host address of ports that are published without one.
    pub host_binding: Option<IpAddr>,
    /// Largest packet in bytes; None for 1500.
    pub mtu: Option<u32>,
    /// The host has no IPv4 address on it.
    pub inhibit_ipv4: bool,
    /// How IPv4 is reached.
    pub gateway_mode_ipv4: GatewayMode,
    /// How IPv6 is reached.
    pub gateway_mode_ipv6: GatewayMode,
    /// What the names of interfaces inside begin with; None for `eth`.
    pub container_iface_prefix: Option<String>,
    /// Interfaces from which published ports may be reached at the container's own address.
    pub trusted_host_interfaces: Vec<String>,
    /// The address that what leaves has instead of that of the interface by which it leaves.
    pub host_ipv4: Option<IpAddr>,
    /// The same for IPv6.
    pub host_ipv6: Option<IpAddr>,
    /// What an end sends is dropped unless it comes from the end's own hardware and IP addresses.
    pub anti_spoofing: bool,
}

impl BridgeOptions {
    /// A bridge as Docker makes it when nothing is said.
    #[must_use]
    pub fn new(interface: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            icc: true,
            masquerade: true,
            host_binding: None,
            mtu: None,
            inhibit_ipv4: false,
            gateway_mode_ipv4: GatewayMode::Nat,
            gateway_mode_ipv6: GatewayMode::Nat,
            container_iface_prefix: None,
            trusted_host_interfaces: Vec::new(),
            host_ipv4: None,
            host_ipv6: None,
            anti_spoofing: false,
        }
    }

    /// The mode of the family of an address.
    pub(crate) fn mode(&self, ipv6: bool) -> GatewayMode {
        if ipv6 {
            self.gateway_mode_ipv6
        } else {
            self.gateway_mode_ipv4
        }
    }
}

/// Interfaces with own hardware addresses on a parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacvlanOptions {
    /// The parent; `eth0.10` is made when it is not there. None for one that leads nowhere.
    pub parent: Option<String>,
    /// How the interfaces see each other.
    pub mode: MacvlanMode,
    /// Largest packet in bytes; None for the parent's.
    pub mtu: Option<u32>,
}

/// How ipvlan interfaces of one parent see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpvlanFlag {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// Through the switch that the parent is plugged into.
    Vepa,
}

/// Interfaces with a parent's hardware address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpvlanOptions {
    /// As for macvlan.
    pub parent: Option<String>,
    /// Where they meet.
    pub mode: IpvlanMode,
    /// How they see each other.
    pub flag: IpvlanFlag,
    /// Largest packet in bytes; None for the parent's.
    pub mtu: Option<u32>,
}

/// An end of a network in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSpec {
    /// The id of the network.
    pub network: String,
    /// Its own id, hexadecimal.
    pub id: String,
    /// Its hardware address; None for one that follows from its IP address.
    pub mac: Option<MacAddress>,
    /// Its IPv4 address with the prefix of its subnet.
    pub ipv4: Option<Cidr>,
    /// Its IPv6 address with the prefix of its subnet.
    pub ipv6: Option<Cidr>,
    /// Further addresses that are valid only on its link.
    pub link_local: Vec<IpAddr>,
    /// Its name inside; None for the next free one.
    pub interface: Option<String>,
    /// Whether the default routes for IPv4 and IPv6 lead by it.
    pub default_route: (bool, bool),
    /// Kernel parameters of the interface; `IFNAME` in a key stands for its name.
    pub sysctls: Vec<(String, String)>,
    /// Its published ports.
    pub publications: Vec<Publication>,
    /// Its bandwidth.
    pub rate: Option<Rate>,
}

impl EndpointSpec {
    /// Its address of a family.
    pub(crate) fn address(&self, ipv6: bool) -> Option<IpAddr> {
        let cidr = if ipv6 { self.ipv6 } else { self.ipv4 };
        cidr.map(Cidr::address)
    }
}

/// A bound on bandwidth in bytes a second, seen from the container; None is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// What it receives.
    pub receive: Option<u64>,
    /// What it sends.
    pub send: Option<u64>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number of IANA.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of the host that leads to one of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publication {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` or `::` for all of a family.
    pub host: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = std::net::SocketAddr::new(self.host, self.host_port);
        write!(f, "{host}/{}", self.protocol)
    }
}

/// What an attached end is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The name inside.
    pub interface: String,
    /// The name of the host's end, where there is one.
    pub host_interface: Option<String>,
    /// Its hardware address; None where that is the parent's.
    pub mac: Option<MacAddress>,
}
