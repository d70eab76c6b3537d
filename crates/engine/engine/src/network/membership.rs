//! Ends on networks: their addresses, and who is on which network.

use std::net::IpAddr;

use havre_api_traits::{ApiError, ApiResult};
use havre_network::ipam::{AddressSpace, IpamError};
use havre_types::{Cidr, Classify as _, EndpointId, NetworkId};

use super::default_bridge::{GATEWAY_V4, GATEWAY_V6};
use super::no_such_network;
use super::record::{Record, Subnet};
use super::store::{Member, Networks};

/// Addresses of one end, each with the length of its network's prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub ipv4: Option<Cidr>,
    pub ipv6: Option<Cidr>,
}

impl Addresses {
    /// Without the lengths of prefixes.
    pub(crate) fn hosts(&self) -> (Option<IpAddr>, Option<IpAddr>) {
        (self.ipv4.map(Cidr::address), self.ipv6.map(Cidr::address))
    }
}

impl Networks {
    /// Gives out addresses to a new end: those that are wanted, or any.
    pub(crate) fn take(
        &self,
        network: &Record,
        wanted: (Option<IpAddr>, Option<IpAddr>),
    ) -> ApiResult<Addresses> {
        let mut inner = self.lock();
        let mut taken = Addresses::default();
        if network.of_family(false).next().is_some() {
            taken.ipv4 = Some(one(&mut inner.space, network, false, wanted.0)?);
        }
        if network.of_family(true).next().is_some() {
            let six = one(&mut inner.space, network, true, wanted.1);
            if six.is_err() {
                give_back(&mut inner.space, network, &taken);
            }
            taken.ipv6 = Some(six?);
        }
        Ok(taken)
    }

    /// Takes the addresses of an end back.
    pub(crate) fn give_back(&self, network: &Record, addresses: &Addresses) {
        give_back(&mut self.lock().space, network, addresses);
    }

    /// Puts a container's end on a network, or replaces what is known of it. Fails when the network has gone.
    pub(crate) fn join(
        &self,
        id: &NetworkId,
        endpoint: EndpointId,
        member: Member,
    ) -> ApiResult<()> {
        let mut inner = self.lock();
        let entry = inner
            .all
            .get_mut(id)
            .ok_or_else(|| no_such_network(id.as_str()))?;
        entry.members.insert(endpoint, member);
        Ok(())
    }

    /// Takes an end off its network.
    pub(crate) fn leave(&self, id: &NetworkId, endpoint: &EndpointId) -> Option<Member> {
        self.lock().all.get_mut(id)?.members.remove(endpoint)
    }
}

impl Subnet {
    /// Where its containers send what goes outside.
    pub(crate) fn default_gateway(&self) -> Option<IpAddr> {
        let other = self
            .aux
            .get(GATEWAY_V4)
            .or_else(|| self.aux.get(GATEWAY_V6));
        other.copied().or(self.gateway)
    }
}

/// An address of one family.
/// <https://github.com/moby/moby/blob/master/daemon/libnetwork/endpoint.go> (`assignAddressVersion`)
fn one(
    space: &mut AddressSpace,
    network: &Record,
    v6: bool,
    wanted: Option<IpAddr>,
) -> ApiResult<Cidr> {
    for subnet in network.of_family(v6) {
        if wanted.is_some_and(|address| !subnet.cidr.contains(address)) {
            continue;
        }
        match space.allocate(&subnet.pool(), wanted) {
            Ok(address) => {
                let with_prefix = Cidr::new(address, subnet.cidr.prefix());
                return Ok(with_prefix.unwrap_or(Cidr::host(address)));
            }
            Err(IpamError::Full) if wanted.is_none() => {}
            Err(error) => return Err(ApiError::new(error.kind(), error.to_string())),
        }
    }
    Err(match wanted {
        Some(address) => ApiError::invalid(format!(
            "invalid address {address}: It does not belong to any of this network's subnets"
        )),
        None => ApiError::internal(format!(
            "no available IPv{} addresses on this network's address pools: {} ({})",
            if v6 { 6 } else { 4 },
            network.name,
            network.id
        )),
    })
}

fn give_back(space: &mut AddressSpace, network: &Record, addresses: &Addresses) {
    for address in [addresses.ipv4, addresses.ipv6].into_iter().flatten() {
        let subnet = network
            .subnets
            .iter()
            .find(|subnet| subnet.cidr.contains(address.address()));
        if let Some(subnet) = subnet {
            space.give_back(&subnet.pool(), address.address());
        }
    }
}
