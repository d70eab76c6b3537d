//! The subnets of a new network: claimed as they were asked for, chosen where nobody asked.
//!
//! <https://github.com/moby/moby/blob/master/daemon/libnetwork/network.go> (`ipamAllocateVersion`)

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use havre_api_traits::{ApiError, ApiResult};
use havre_network::ipam::{AddressSpace, PoolRequest};
use havre_types::{Cidr, Classify as _};

use super::options::Driver;
use super::record::Subnet;
use super::request::{Wanted, WantedSubnet};
use super::store::Networks;
use crate::host;

/// Claims all subnets of a network, in the order in which Docker shows them: those that were asked for, then those that
/// are chosen here. What fails gives back what it had.
pub(super) fn choose(
    networks: &Networks,
    wanted: &Wanted,
    driver: &Driver,
) -> ApiResult<Vec<Subnet>> {
    let mut claimed = Vec::new();
    for subnet in asked(wanted) {
        let v6 = subnet.cidr.address().is_ipv6();
        let gateway = driver.wants_gateway(subnet.cidr, wanted.internal);
        let avoid = if subnet.cidr.address().is_unspecified() {
            host::networks_in_use(v6)
        } else {
            Vec::new()
        };
        match networks.with_space(|space| claim(space, &subnet, gateway, &avoid)) {
            Ok(subnet) => claimed.push(subnet),
            Err(error) => {
                networks.with_space(|space| {
                    for subnet in &claimed {
                        release(space, subnet);
                    }
                });
                return Err(error);
            }
        }
    }
    Ok(claimed)
}

/// Gives a subnet up, with the addresses that are not an end's.
pub(super) fn release(space: &mut AddressSpace, subnet: &Subnet) {
    let pool = subnet.pool();
    for address in subnet.gateway.iter().chain(subnet.aux.values()) {
        space.give_back(&pool, *address);
    }
    space.release(&pool);
}

fn asked(wanted: &Wanted) -> Vec<WantedSubnet> {
    if wanted.ipam_driver != "default" {
        return Vec::new();
    }
    let families = [(false, wanted.enable_ipv4), (true, wanted.enable_ipv6)];
    let enabled = || families.into_iter().filter(|(_, on)| *on).map(|(v6, _)| v6);
    let named = |v6: bool| {
        let all = wanted.subnets.iter();
        all.filter(move |subnet| subnet.cidr.address().is_ipv6() == v6)
    };
    let mut all: Vec<WantedSubnet> = enabled().flat_map(named).cloned().collect();
    all.extend(enabled().filter(|v6| named(*v6).next().is_none()).map(any));
    all
}

/// Any subnet of a family.
fn any(v6: bool) -> WantedSubnet {
    let address = if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    WantedSubnet {
        // A prefix of 0 is never too long.
        cidr: Cidr::new(address, 0).unwrap_or(Cidr::host(address)),
        range: None,
        gateway: None,
        aux: BTreeMap::new(),
    }
}

fn claim(
    space: &mut AddressSpace,
    wanted: &WantedSubnet,
    gateway: bool,
    avoid: &[Cidr],
) -> ApiResult<Subnet> {
    let chosen = wanted.cidr.address().is_unspecified();
    let pool = space
        .request(PoolRequest {
            subnet: Some(wanted.cidr),
            range: wanted.range,
            v6: wanted.cidr.address().is_ipv6(),
            avoid,
        })
        .map_err(|error| {
            let text = if chosen {
                error.to_string()
            } else {
                format!("invalid pool request: {error}")
            };
            ApiError::new(error.kind(), text)
        })?;
    let mut subnet = Subnet {
        range: pool.range,
        asked: !chosen,
        gateway_asked: wanted.gateway.is_some(),
        ..Subnet::of(pool.subnet)
    };
    let filled = fill(space, wanted, gateway, &mut subnet);
    if filled.is_err() {
        release(space, &subnet);
    }
    filled.map(|()| subnet)
}

/// Takes the gateway's address and those of others.
fn fill(
    space: &mut AddressSpace,
    wanted: &WantedSubnet,
    gateway: bool,
    subnet: &mut Subnet,
) -> ApiResult<()> {
    let pool = subnet.pool();
    if gateway || wanted.gateway.is_some() {
        let address = space.allocate(&pool, wanted.gateway).map_err(|error| {
            let text = wanted.gateway.map(|address| address.to_string());
            // Docker calls it a fault of its own (500); the request asks for what cannot be.
            ApiError::invalid(format!(
                "failed to allocate gateway ({}): {error}",
                text.unwrap_or_default()
            ))
        })?;
        subnet.gateway = Some(address);
    }
    for (name, address) in &wanted.aux {
        space.allocate(&pool, Some(*address)).map_err(|error| {
            ApiError::invalid(format!(
                "failed to allocate secondary ip address ({name}:{address}): {error}"
            ))
        })?;
        subnet.aux.insert(name.clone(), *address);
    }
    Ok(())
}
