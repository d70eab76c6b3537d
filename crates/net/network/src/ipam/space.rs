//! All subnets of an engine and their addresses. Networks that name the same subnet with different ranges share it, as
//! Docker's do (<https://github.com/moby/moby/issues/46756>).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use havre_types::Cidr;

use super::{Allocator, IpamError, Pools, Usage};

/// A network's claim to a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId {
    /// The subnet.
    pub subnet: Cidr,
    /// The part of it that addresses are chosen from.
    pub range: Option<Cidr>,
}

/// What a network wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolRequest<'a> {
    /// The subnet. `0.0.0.0/n` and `::/n` mean any subnet of that size, none any subnet at all.
    pub subnet: Option<Cidr>,
    /// The part of it that addresses are chosen from.
    pub range: Option<Cidr>,
    /// The family, where no subnet says it.
    pub v6: bool,
    /// What a subnet that is chosen here must not touch: routes of the host and its name servers.
    pub avoid: &'a [Cidr],
}

/// Subnets and addresses in use.
#[derive(Debug, Clone)]
pub struct AddressSpace {
    pools: Pools,
    subnets: BTreeMap<Cidr, Shared>,
}

#[derive(Debug, Clone)]
struct Shared {
    addresses: Allocator,
    claims: BTreeSet<Option<Cidr>>,
}

impl AddressSpace {
    /// Nothing is in use.
    #[must_use]
    pub fn new(pools: Pools) -> Self {
        Self {
            pools,
            subnets: BTreeMap::new(),
        }
    }

    /// Claims a subnet.
    pub fn request(&mut self, wanted: PoolRequest<'_>) -> Result<PoolId, IpamError> {
        let named = wanted
            .subnet
            .filter(|subnet| !subnet.address().is_unspecified());
        let Some(subnet) = named else {
            if wanted.range.is_some() {
                return Err(IpamError::InvalidRange);
            }
            let size = wanted.subnet.map(Cidr::prefix).filter(|size| *size > 0);
            let used: Vec<Cidr> = self.subnets.keys().copied().collect();
            let subnet = self
                .pools
                .choose_subnet(&used, wanted.avoid, wanted.v6, size)?;
            return Ok(self.claim(PoolId {
                subnet,
                range: None,
            }));
        };
        let subnet = subnet.network();
        let range = wanted.range.map(Cidr::network);
        if range.is_some_and(|range| {
            !subnet.contains(range.address()) || range.prefix() < subnet.prefix()
        }) {
            return Err(IpamError::InvalidRange);
        }
        let overlap = match (range, self.subnets.get(&subnet)) {
            (None, _) => self.subnets.keys().any(|other| other.overlaps(subnet)),
            (Some(_), Some(shared)) => shared.claims.contains(&range),
            (Some(_), None) => false,
        };
        if overlap {
            return Err(IpamError::Overlap);
        }
        Ok(self.claim(PoolId { subnet, range }))
    }

    fn claim(&mut self, id: PoolId) -> PoolId {
        let shared = self.subnets.entry(id.subnet).or_insert_with(|| Shared {
            addresses: Allocator::new(id.subnet),
            claims: BTreeSet::new(),
        });
        shared.claims.insert(id.range);
        id
    }

    /// Gives a subnet up. The last one of several networks on it takes its addresses along.
    pub fn release(&mut self, id: &PoolId) {
        if let Some(shared) = self.subnets.get_mut(&id.subnet) {
            shared.claims.remove(&id.range);
            if shared.claims.is_empty() {
                self.subnets.remove(&id.subnet);
            }
        }
    }

    /// Gives out `preferred`, which may lie outside of the range, or any address of the range.
    pub fn allocate(
        &mut self,
        id: &PoolId,
        preferred: Option<IpAddr>,
    ) -> Result<IpAddr, IpamError> {
        let shared = self
            .subnets
            .get_mut(&id.subnet)
            .ok_or(IpamError::UnknownPool)?;
        match (preferred, id.range) {
            (None, Some(range)) => shared.addresses.allocate_in(range),
            (preferred, _) => shared.addresses.allocate(preferred),
        }
    }

    /// Takes an address back.
    pub fn give_back(&mut self, id: &PoolId, address: IpAddr) {
        if let Some(shared) = self.subnets.get_mut(&id.subnet) {
            shared.addresses.release(address);
        }
    }

    /// How much of a subnet is in use.
    #[must_use]
    pub fn usage(&self, id: &PoolId) -> Option<Usage> {
        let shared = self.subnets.get(&id.subnet)?;
        Some(shared.addresses.usage(id.range.unwrap_or(id.subnet)))
    }

    /// The default pools.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.pools
    }
}

#[cfg(test)]
mod tests {
    use super::super::unique_local;
    use super::*;

    fn space() -> AddressSpace {
        AddressSpace::new(Pools::docker(unique_local(&[0; 32])))
    }

    fn named<'a>(subnet: &str, range: &str) -> PoolRequest<'a> {
        PoolRequest {
            subnet: subnet.parse().ok(),
            range: range.parse().ok(),
            ..PoolRequest::default()
        }
    }

    #[test]
    fn subnets_do_not_overlap() {
        let mut space = space();
        let first = space.request(PoolRequest::default()).unwrap();
        assert_eq!(first.subnet.to_string(), "172.17.0.0/16");
        for taken in ["172.17.0.0/16", "172.17.4.0/24", "172.0.0.0/8"] {
            assert_eq!(
                space.request(named(taken, "")),
                Err(IpamError::Overlap),
                "{taken}"
            );
        }
        space.request(named("172.18.0.0/24", "")).unwrap();
        let next = space.request(PoolRequest::default()).unwrap();
        assert_eq!(next.subnet.to_string(), "172.19.0.0/16");
        space.release(&first);
        assert_eq!(
            space
                .request(named("172.17.4.0/24", ""))
                .unwrap()
                .subnet
                .prefix(),
            24
        );
    }

    #[test]
    fn a_size_alone_is_enough() {
        let mut space = space();
        let small = space.request(named("0.0.0.0/24", "")).unwrap();
        assert_eq!(small.subnet.to_string(), "172.17.0.0/24");
        let six = PoolRequest {
            v6: true,
            ..named("::/0", "")
        };
        assert_eq!(space.request(six).unwrap().subnet.to_string(), "fd00::/64");
        assert_eq!(
            space.request(named("0.0.0.0/24", "172.17.0.0/25")),
            Err(IpamError::InvalidRange)
        );
    }

    #[test]
    fn networks_on_one_subnet_share_its_addresses() {
        let mut space = space();
        let low = space.request(named("10.0.0.0/24", "10.0.0.0/25")).unwrap();
        let high = space
            .request(named("10.0.0.0/24", "10.0.0.128/25"))
            .unwrap();
        assert_eq!(
            space.request(named("10.0.0.0/24", "10.0.0.0/25")),
            Err(IpamError::Overlap)
        );
        let one = space.allocate(&low, None).unwrap();
        assert_eq!(one.to_string(), "10.0.0.1");
        assert_eq!(space.allocate(&high, Some(one)), Err(IpamError::InUse));
        assert_eq!(
            space.allocate(&high, None).unwrap().to_string(),
            "10.0.0.128"
        );
        space.release(&low);
        assert_eq!(space.usage(&high).unwrap().in_use, 4);
        assert_eq!(space.allocate(&high, Some(one)), Err(IpamError::InUse));
        space.give_back(&high, one);
        space.allocate(&high, Some(one)).unwrap();
        space.release(&high);
        assert_eq!(space.usage(&high), None);
        assert_eq!(space.allocate(&high, None), Err(IpamError::UnknownPool));
    }
}
