//! The network that containers join by default, as the administrator's settings want it.
//!
//! <https://github.com/moby/moby/blob/master/daemon/daemon_unix.go> (`initBridgeDriver`, `getDefaultBridgeIPAMConf`).
//! Its id stays the same over restarts, and so does a subnet that nobody asked for, as long as nobody else on this host has
//! it; everything else follows the settings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use havre_network::EndpointSpec;
use havre_network::ipam::{AddressSpace, PoolId, PoolRequest};
use havre_types::{Cidr, NetworkId};

use super::defaults::{DefaultBridge, NetworkDefaults};
use super::options::{BRIDGE_NAME, DEFAULT_BRIDGE, HOST_BINDING, ICC, MASQUERADE, MTU};
use super::record::{Record, Subnet};
use super::store::Networks;
use crate::host;

/// Names under which a gateway that is another one than the bridge is kept.
pub(super) const GATEWAY_V4: &str = "DefaultGatewayIPv4";
pub(super) const GATEWAY_V6: &str = "DefaultGatewayIPv6";

/// What the settings say about one family.
struct Family {
    v6: bool,
    address: Option<Cidr>,
    fixed: Option<Cidr>,
    gateway: Option<IpAddr>,
    /// Addresses of a bridge that the administrator made.
    found: Vec<Cidr>,
    old: Option<Cidr>,
}

/// Decides on the default bridge and claims its addresses.
pub(super) fn record(
    networks: &Networks,
    old: Option<&Record>,
    id: NetworkId,
    defaults: &NetworkDefaults,
) -> Result<Record, String> {
    let mut record = Record::bare(id, "bridge", "bridge");
    if let Some(old) = old {
        record.created = old.created;
    }
    record.enable_ipv6 = defaults.ipv6;
    let interface = match &defaults.bridge {
        DefaultBridge::Named(name) => name.clone(),
        DefaultBridge::Own | DefaultBridge::Absent => {
            havre_network::names::default_bridge(&networks.instance)
        }
    };
    let found = match &defaults.bridge {
        DefaultBridge::Named(name) => host::addresses_of(name)?,
        DefaultBridge::Own | DefaultBridge::Absent => Vec::new(),
    };
    let own = host::addresses_of(&interface).unwrap_or_default();
    record.options = [
        (BRIDGE_NAME, interface),
        (DEFAULT_BRIDGE, "true".to_owned()),
        (ICC, defaults.icc.to_string()),
        (MASQUERADE, defaults.ip_masq.to_string()),
        (HOST_BINDING, defaults.ip.to_string()),
        (MTU, defaults.mtu.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let old_subnet = |v6, in_use: &[Cidr]| {
        // One that stands has containers on it, wherever it went since it was written down.
        let standing = own.iter().find(|cidr| cidr.address().is_ipv6() == v6);
        if old.is_some() && standing.is_some() {
            return standing.copied();
        }
        let subnet = old?.of_family(v6).next()?;
        let bridge = Cidr::new(subnet.gateway?, subnet.cidr.prefix())?;
        let free = in_use.iter().all(|other| !other.overlaps(subnet.cidr));
        free.then_some(bridge)
    };
    let in_use = [false, true].map(host::networks_in_use);
    let mut families = vec![Family {
        v6: false,
        address: defaults.bip,
        fixed: defaults.fixed_cidr,
        gateway: defaults.default_gateway,
        found: found.clone(),
        old: old_subnet(false, &in_use[0]),
    }];
    if defaults.ipv6 {
        families.push(Family {
            v6: true,
            address: defaults.bip6,
            fixed: defaults.fixed_cidr_v6,
            gateway: defaults.default_gateway_v6,
            found,
            old: old_subnet(true, &in_use[1]),
        });
    }
    for (family, avoid) in families.into_iter().zip(&in_use) {
        let subnet = networks.with_space(|space| family.claim(space, avoid))?;
        record.subnets.push(subnet);
    }
    Ok(record)
}

impl Networks {
    /// Others may have taken the subnet of a default bridge that was not made yet: then it gets another one, unless somebody
    /// asked for that one.
    pub(super) fn renew_default_bridge(&self, ends: &[EndpointSpec]) -> Result<(), String> {
        let Ok(old) = self.find("bridge") else {
            return Ok(());
        };
        if ends.iter().any(|end| end.network == old.id.as_str()) {
            return Ok(());
        }
        self.release_subnets(&old);
        match record(self, Some(&old), old.id.clone(), &self.defaults) {
            Ok(new) => {
                if new.subnets != old.subnets {
                    tracing::warn!(
                        "the default bridge gets another subnet: its own is in use on this host"
                    );
                }
                self.insert(new);
                Ok(())
            }
            Err(why) => {
                self.claim(&old);
                Err(format!("error creating default \"bridge\" network: {why}"))
            }
        }
    }
}

impl Family {
    /// The address of the bridge with its subnet, where something decides it.
    fn decided(&self) -> Option<Cidr> {
        let of_family = |cidr: &&Cidr| cidr.address().is_ipv6() == self.v6;
        let found = || {
            let mut own = self.found.iter().filter(of_family);
            let fitting = own.clone().find(|cidr| {
                self.fixed
                    .is_some_and(|fixed| cidr.contains(fixed.address()))
            });
            fitting.or_else(|| own.next()).copied()
        };
        let old = || {
            // The subnet of before holds unless another range is wanted.
            self.old.filter(|old| {
                self.fixed.is_none_or(|fixed| {
                    old.contains(fixed.address()) && fixed.prefix() >= old.prefix()
                })
            })
        };
        self.address.or_else(found).or_else(old)
    }

    fn claim(&self, space: &mut AddressSpace, avoid: &[Cidr]) -> Result<Subnet, String> {
        let decided = self.decided();
        let subnet = decided.map(Cidr::network).or(self.fixed.map(Cidr::network));
        let wanted = |subnet| PoolRequest {
            subnet,
            range: self.fixed.filter(|_| subnet.is_some()),
            v6: self.v6,
            avoid,
        };
        let nobody_asked = self.address.is_none() && self.found.is_empty() && self.fixed.is_none();
        let mut bridge = decided.map(Cidr::address);
        let claimed = match space.request(wanted(subnet)) {
            // A network of the user took the subnet while the default bridge was switched off.
            Err(_taken) if nobody_asked && subnet.is_some() => {
                bridge = None;
                space.request(wanted(None))
            }
            other => other,
        };
        let pool = claimed.map_err(|err| err.to_string())?;
        self.addresses(space, pool, bridge)
            .inspect_err(|_refused| space.release(&pool))
    }

    fn addresses(
        &self,
        space: &mut AddressSpace,
        pool: PoolId,
        bridge: Option<IpAddr>,
    ) -> Result<Subnet, String> {
        let bridge = space
            .allocate(&pool, bridge)
            .map_err(|err| format!("failed to allocate gateway ({}): {err}", text(bridge)))?;
        let mut aux = BTreeMap::new();
        if let Some(gateway) = self.gateway
            && gateway != bridge
        {
            if !pool.subnet.contains(gateway) {
                return Err("default gateway ip must be part of the network".to_owned());
            }
            let name = if self.v6 { GATEWAY_V6 } else { GATEWAY_V4 };
            space.allocate(&pool, Some(gateway)).map_err(|err| {
                format!("failed to allocate secondary ip address ({name}:{gateway}): {err}")
            })?;
            aux.insert(name.to_owned(), gateway);
        }
        Ok(Subnet {
            range: pool.range,
            gateway: Some(bridge),
            aux,
            ..Subnet::of(pool.subnet)
        })
    }
}

fn text(address: Option<IpAddr>) -> String {
    address
        .map(|address| address.to_string())
        .unwrap_or_default()
}
