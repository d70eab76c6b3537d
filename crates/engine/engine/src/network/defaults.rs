//! What the administrator decided about networks: dockerd's settings by their names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use havre_engine_types::StringMap;
use havre_network::ipam::Pool;
use havre_types::Cidr;

/// The network that containers without `--network` join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DefaultBridge {
    /// A bridge of the engine's own.
    #[default]
    Own,
    /// A bridge that the administrator made.
    Named(String),
    /// There is none (`--bridge none`).
    Absent,
}

/// Settings of networks.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one setting of dockerd, true or false"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkDefaults {
    /// `bridge`
    pub bridge: DefaultBridge,
    /// `bip`: the default bridge's address and, by its prefix, its subnet.
    pub bip: Option<Cidr>,
    /// `bip6`: the same for IPv6.
    pub bip6: Option<Cidr>,
    /// `fixed-cidr`: addresses on the default bridge are chosen from it.
    pub fixed_cidr: Option<Cidr>,
    /// `fixed-cidr-v6`: the same for IPv6.
    pub fixed_cidr_v6: Option<Cidr>,
    /// `default-gateway`: containers on the default bridge route through it.
    pub default_gateway: Option<IpAddr>,
    /// `default-gateway-v6`: the same for IPv6.
    pub default_gateway_v6: Option<IpAddr>,
    /// `icc`: containers on the default bridge reach each other.
    pub icc: bool,
    /// `ip`: the host's address for published ports that name none.
    pub ip: IpAddr,
    /// `ip-forward`: turn forwarding of the host on.
    pub ip_forward: bool,
    /// `ip-forward-no-drop`: when forwarding is turned on, do not drop what is not about containers.
    pub ip_forward_no_drop: bool,
    /// `ip-masq`: the default bridge's containers go out with the host's address.
    pub ip_masq: bool,
    /// `iptables`: make rules for IPv4.
    pub iptables: bool,
    /// `ip6tables`: make rules for IPv6.
    pub ip6tables: bool,
    /// `ipv6`: the default bridge has IPv6 too.
    pub ipv6: bool,
    /// `mtu`: of the default bridge.
    pub mtu: u32,
    /// `dns`: name servers of containers that name none.
    pub dns: Vec<IpAddr>,
    /// `dns-search`
    pub dns_search: Vec<String>,
    /// `dns-opt`
    pub dns_options: Vec<String>,
    /// `default-network-opt`: options of new networks by driver.
    pub network_options: BTreeMap<String, StringMap>,
    /// `host-gateway-ip`: what `host-gateway` in `--add-host` stands for; empty for the default bridge's addresses.
    pub host_gateway_ips: Vec<IpAddr>,
    /// `userland-proxy`: published ports answer on the host's loopback addresses too.
    pub userland_proxy: bool,
    /// `allow-direct-routing`: other hosts may reach published ports on the containers' own addresses.
    pub allow_direct_routing: bool,
    /// `default-address-pool`; empty for Docker's pools.
    pub address_pools: Vec<Pool>,
    /// Havre's own: names are resolved on the default bridge too.
    pub default_dns: bool,
}

impl Default for NetworkDefaults {
    fn default() -> Self {
        Self {
            bridge: DefaultBridge::Own,
            bip: None,
            bip6: None,
            fixed_cidr: None,
            fixed_cidr_v6: None,
            default_gateway: None,
            default_gateway_v6: None,
            icc: true,
            ip: IpAddr::from([0, 0, 0, 0]),
            ip_forward: true,
            ip_forward_no_drop: false,
            ip_masq: true,
            iptables: true,
            ip6tables: true,
            ipv6: false,
            mtu: 1500,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            network_options: BTreeMap::new(),
            host_gateway_ips: Vec::new(),
            userland_proxy: true,
            allow_direct_routing: false,
            address_pools: Vec::new(),
            default_dns: false,
        }
    }
}
