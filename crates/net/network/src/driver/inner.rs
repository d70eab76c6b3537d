//! The inside of an end: its interface gets its addresses, routes and parameters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use havre_netlink::{LinkChange, NewRoute, Route};
use havre_types::{Cidr, MacAddress};

use super::{bound, mac_of};
use crate::error::NetworkError;
use crate::inside::{set_if_there, set_parameter, within};
use crate::sandbox::Sandbox;
use crate::spec::{Driver, EndpointSpec, NetworkSpec};

/// How an interface inside is to be.
pub(crate) struct Inner<'a> {
    pub(crate) network: &'a NetworkSpec,
    pub(crate) spec: &'a EndpointSpec,
    /// Its name and number.
    pub(crate) name: &'a str,
    pub(crate) index: u32,
    /// Largest packet in bytes; None leaves it.
    pub(crate) mtu: Option<u32>,
    /// IPv6 is off and the interface is up already: it comes from the pool.
    pub(crate) prepared: bool,
}

impl Inner<'_> {
    /// Does all of it; the interface is up at the end.
    pub(crate) fn configure(
        &self,
        sandbox: &Sandbox,
        route: &mut Route,
    ) -> Result<(), NetworkError> {
        let parameters = self.parameters()?;
        if self.prepared && self.has_ipv6() {
            // It is up already: with IPv6 the kernel makes an address of the hardware's as it is by then.
            let change = LinkChange {
                address: self.hardware(),
                ..LinkChange::default()
            };
            route.change_link(self.index, &change)?;
        }
        if !parameters.is_empty() {
            within(sandbox.fd(), || {
                for (path, value) in &parameters {
                    if path.starts_with("net/ipv6/") {
                        set_if_there(path, value)?;
                    } else {
                        set_parameter(path, value)?;
                    }
                }
                Ok(())
            })?;
        }
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        let bridged = self.network.bridge().is_some();
        let change = LinkChange {
            up: bridged.then_some(true),
            mtu: self.mtu,
            address: self.hardware(),
            ..LinkChange::default()
        };
        route.change_link(self.index, &change)?;
        for address in self.addresses() {
            route.add_address(self.index, address)?;
        }
        if !bridged {
            // Last, so that it is announced with its addresses.
            route.change_link(self.index, &up)?;
        }
        for new in self.routes() {
            route.add_route(&new)?;
        }
        if let Some(rate) = self.spec.rate.and_then(|rate| rate.send) {
            bound(route, self.index, rate)?;
        }
        Ok(())
    }

    /// The hardware address to be set. ipvlan has its parent's. A macvlan interface keeps the random one that it was made
    /// with, as with Docker: the one that the last holder of its IP address had may still be taken on the parent, by a
    /// namespace that is going.
    fn hardware(&self) -> Option<MacAddress> {
        match self.network.driver {
            Driver::Bridge(_) => mac_of(self.spec),
            Driver::Macvlan(_) => self.spec.mac,
            Driver::Ipvlan(_) => None,
        }
    }

    fn has_ipv6(&self) -> bool {
        self.spec.ipv6.is_some() || self.spec.link_local.iter().any(IpAddr::is_ipv6)
    }

    /// Kernel parameters as paths below `/proc/sys`, in order.
    fn parameters(&self) -> Result<Vec<(String, String)>, NetworkError> {
        let mut found = Vec::new();
        let of_ipv6 = |name: &str| format!("net/ipv6/conf/{}/{name}", self.name);
        match (self.has_ipv6(), self.prepared) {
            (true, true) => found.push((of_ipv6("disable_ipv6"), "0".to_owned())),
            (false, false) => found.push((of_ipv6("disable_ipv6"), "1".to_owned())),
            (true, false) | (false, true) => {}
        }
        if self.network.bridge().is_none() {
            // Others on the wire may remember whom these addresses were of.
            let announced = "1".to_owned();
            let name = self.name;
            found.push((
                format!("net/ipv4/conf/{name}/arp_notify"),
                announced.clone(),
            ));
            found.push((of_ipv6("ndisc_notify"), announced));
        }
        for (key, value) in &self.spec.sysctls {
            found.push((parameter_path(key, self.name)?, value.clone()));
        }
        Ok(found)
    }

    fn addresses(&self) -> Vec<Cidr> {
        let own = self.spec.ipv4.into_iter().chain(self.spec.ipv6);
        let link_local = self.spec.link_local.iter().filter_map(|address| {
            let prefix = if address.is_ipv4() { 16 } else { 64 };
            Cidr::new(*address, prefix)
        });
        own.chain(link_local).collect()
    }

    fn routes(&self) -> Vec<NewRoute> {
        let mut found = Vec::new();
        if self.network.internal {
            return found;
        }
        for ipv6 in [false, true] {
            let wanted = if ipv6 {
                self.spec.default_route.1
            } else {
                self.spec.default_route.0
            };
            let Some(address) = self.spec.address(ipv6).filter(|_| wanted) else {
                continue;
            };
            let everything = if ipv6 {
                Cidr::new(Ipv6Addr::UNSPECIFIED.into(), 0)
            } else {
                Cidr::new(Ipv4Addr::UNSPECIFIED.into(), 0)
            };
            let gateway = gateway(self.network, address);
            let Some(destination) = everything.filter(|_| gateway.is_some() || self.by_routes())
            else {
                continue;
            };
            found.push(NewRoute {
                destination,
                gateway: gateway.filter(|_| !self.by_routes()),
                index: self.index,
                source: None,
                metric: 0,
            });
        }
        found
    }

    /// In the modes l3 and l3s of ipvlan there is no gateway: everything goes to the parent's routes.
    fn by_routes(&self) -> bool {
        match &self.network.driver {
            Driver::Ipvlan(options) => options.mode != havre_netlink::IpvlanMode::L2,
            Driver::Bridge(_) | Driver::Macvlan(_) => false,
        }
    }
}

/// Who leads out of the subnet that an address is of.
pub(crate) fn gateway(network: &NetworkSpec, address: IpAddr) -> Option<IpAddr> {
    let mut subnets = network.subnets();
    let own = subnets.find(|subnet| subnet.cidr.contains(address))?;
    own.gateway
}

/// The route by which a default route leads, for changing it alone.
pub(crate) fn default_route(
    network: &NetworkSpec,
    spec: &EndpointSpec,
    (name, index): (&str, u32),
    ipv6: bool,
) -> Option<NewRoute> {
    let one = EndpointSpec {
        default_route: (!ipv6, ipv6),
        ..spec.clone()
    };
    let inner = Inner {
        network,
        spec: &one,
        name,
        index,
        mtu: None,
        prepared: true,
    };
    inner.routes().pop()
}

/// The file of a kernel parameter of an interface: `net.ipv4.conf.IFNAME.rp_filter`. Only families and tables that are
/// per interface, and nothing that leads elsewhere.
fn parameter_path(key: &str, interface: &str) -> Result<String, NetworkError> {
    let wrong = || NetworkError::Sysctl(key.to_owned());
    let parts: Vec<&str> = key.split(['.', '/']).collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let [root, family, table, name, rest @ ..] = parts.as_slice() else {
        return Err(wrong());
    };
    let known = *root == "net"
        && matches!(*family, "ipv4" | "ipv6" | "mpls")
        && matches!(*table, "conf" | "neigh")
        && *name == "IFNAME"
        && rest.len() == 1
        && rest.iter().all(plain);
    if !known {
        return Err(wrong());
    }
    Ok(format!(
        "{root}/{family}/{table}/{interface}/{}",
        rest.concat()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_of_the_interface_alone() {
        assert_eq!(
            parameter_path("net.ipv4.conf.IFNAME.log_martians", "eth0.5").unwrap(),
            "net/ipv4/conf/eth0.5/log_martians"
        );
        for bad in [
            "net.ipv4.conf.eth0.rp_filter",
            "net.ipv4.conf.IFNAME",
            "net.ipv4.conf.IFNAME..",
            "net.ipv4.conf.IFNAME.a.b",
            "net/ipv4/conf/IFNAME/../x",
            "net.ipv4.ip_forward",
            "kernel.core_pattern.IFNAME.x",
            "",
        ] {
            assert!(parameter_path(bad, "eth0").is_err(), "{bad}");
        }
    }
}
