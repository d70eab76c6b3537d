//! Default address pools: where the subnets of networks come from that name none.

use std::net::{IpAddr, Ipv6Addr};

use havre_types::Cidr;

use super::IpamError;

/// Docker's, each with the prefix of its subnets
/// (<https://github.com/moby/moby/blob/master/daemon/libnetwork/ipamutils/utils.go>).
pub const DEFAULT_POOLS: [(&str, u8); 7] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
];

/// A block of addresses that is cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The block.
    pub base: Cidr,
    /// The prefix of each subnet.
    pub size: u8,
}

impl Pool {
    /// Whether subnets can be cut from it.
    pub fn check(&self) -> Result<(), PoolError> {
        self.check_at(0)
    }

    fn check_at(&self, index: usize) -> Result<(), PoolError> {
        let (base, size) = (self.base, self.size);
        let longest = if base.address().is_ipv4() { 32 } else { 128 };
        if size == 0 || size > longest {
            return Err(PoolError::Size { index, base, size });
        }
        if base.prefix() > size {
            let prefix = base.prefix();
            return Err(PoolError::TooLarge {
                index,
                base,
                prefix,
                size,
            });
        }
        Ok(())
    }
}

/// Why pools cannot be used. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// A subnet would be larger than the block.
    #[error(
        "network at index {index} ({{{base} {size}}}) has a smaller prefix (/{prefix}) than the target size of that pool (/{size})"
    )]
    TooLarge {
        /// Which of the pools.
        index: usize,
        /// Its block.
        base: Cidr,
        /// The block's prefix.
        prefix: u8,
        /// The prefix of its subnets.
        size: u8,
    },
    /// No size, or one that the family does not have.
    #[error("network at index {index} ({{{base} {size}}}) is not in canonical form")]
    Size {
        /// Which of the pools.
        index: usize,
        /// Its block.
        base: Cidr,
        /// The prefix of its subnets.
        size: u8,
    },
}

/// All default pools, in the order of their addresses, none within another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools {
    pools: Vec<Pool>,
}

impl Pools {
    /// Checks and sorts the pools.
    pub fn new(pools: impl IntoIterator<Item = Pool>) -> Result<Self, PoolError> {
        let mut pools: Vec<Pool> = pools.into_iter().collect();
        for (index, pool) in pools.iter_mut().enumerate() {
            pool.check_at(index)?;
            pool.base = pool.base.network();
        }
        pools.sort_by_key(|pool| (pool.base.address(), pool.base.prefix()));
        let mut kept: Vec<Pool> = Vec::with_capacity(pools.len());
        for pool in pools {
            if kept
                .last()
                .is_none_or(|before| !before.base.overlaps(pool.base))
            {
                kept.push(pool);
            }
        }
        Ok(Self { pools: kept })
    }

    /// Docker's pools and `unique_local` for IPv6.
    #[must_use]
    pub fn docker(unique_local: Cidr) -> Self {
        let v4 = DEFAULT_POOLS.iter().filter_map(|(base, size)| {
            let base = base.parse().ok()?;
            Some(Pool { base, size: *size })
        });
        let v6 = Pool {
            base: unique_local,
            size: 64,
        };
        let pools = v4.chain([v6]).collect();
        // The table above needs neither sorting nor checks.
        Self { pools }
    }

    /// Whether there is a pool of IPv6.
    #[must_use]
    pub fn has_v6(&self) -> bool {
        self.pools.iter().any(|pool| pool.base.address().is_ipv6())
    }

    /// The pools.
    #[must_use]
    pub fn all(&self) -> &[Pool] {
        &self.pools
    }

    /// The first subnet that shares no address with `used` and `avoid`. With `size` the subnet has that prefix instead
    /// of the pool's own.
    pub fn choose_subnet(
        &self,
        used: &[Cidr],
        avoid: &[Cidr],
        v6: bool,
        size: Option<u8>,
    ) -> Result<Cidr, IpamError> {
        let mut usable = self
            .pools
            .iter()
            .filter(|pool| pool.base.address().is_ipv6() == v6)
            .filter_map(|pool| {
                let longest = if v6 { 128 } else { 32 };
                let size = size.unwrap_or(pool.size);
                let fits = pool.base.prefix() <= size && size <= longest;
                fits.then_some((pool.base, size))
            })
            .peekable();
        if usable.peek().is_none() {
            return Err(IpamError::InvalidPool);
        }
        usable
            .find_map(|(base, size)| free_subnet(base, size, used, avoid))
            .ok_or(IpamError::NoSubnet)
    }
}

/// The first free subnet of a block. What is in the way is jumped over, so that a block of 2^16 subnets costs no more
/// than what is in it.
fn free_subnet(base: Cidr, size: u8, used: &[Cidr], avoid: &[Cidr]) -> Option<Cidr> {
    let mut place = 0;
    loop {
        let subnet = Cidr::new(base.nth(place)?, size)?.network();
        let in_the_way = used
            .iter()
            .chain(avoid)
            .filter(|other| other.overlaps(subnet))
            .map(|other| {
                if other.prefix() < size {
                    other.last()
                } else {
                    subnet.last()
                }
            })
            .max();
        let Some(last) = in_the_way else {
            return Some(subnet);
        };
        // None: the block ends there.
        place = base.place_of(last)?.checked_add(1)?;
    }
}

/// The private IPv6 block of an engine: 40 bits of the digest of its id behind `fd`, as Docker derives it
/// (loosely RFC 4193 section 3.2.2).
#[must_use]
pub fn unique_local(digest: &[u8; 32]) -> Cidr {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&digest[3..8]);
    let address = IpAddr::V6(Ipv6Addr::from(octets));
    // 48 bits are never too long for an address of 128.
    Cidr::new(address, 48).unwrap_or(Cidr::host(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn docker() -> Pools {
        Pools::docker(unique_local(&[7; 32]))
    }

    #[test]
    fn dockers_pools_give_dockers_subnets() {
        let pools = docker();
        assert_eq!(Pools::new(pools.all().to_vec()).unwrap(), pools);
        let mut used = Vec::new();
        while let Ok(subnet) = pools.choose_subnet(&used, &[], false, None) {
            used.push(subnet);
        }
        let texts: Vec<String> = used.iter().map(Cidr::to_string).collect();
        assert_eq!(texts.len(), 31);
        assert_eq!(texts[0], "172.17.0.0/16");
        assert_eq!(texts[14], "172.31.0.0/16");
        assert_eq!(
            (texts[15].as_str(), texts[30].as_str()),
            ("192.168.0.0/20", "192.168.240.0/20")
        );
        assert_eq!(
            pools.choose_subnet(&used, &[], false, None),
            Err(IpamError::NoSubnet)
        );
        assert_eq!(
            pools.choose_subnet(&[], &[], true, None).unwrap(),
            cidr("fd07:707:707::/64")
        );
    }

    #[test]
    fn what_the_host_uses_is_avoided() {
        let pools = docker();
        let choose = |avoid: &[&str], size| {
            let avoid: Vec<Cidr> = avoid.iter().map(|text| cidr(text)).collect();
            pools
                .choose_subnet(&[], &avoid, false, size)
                .map(|net| net.to_string())
        };
        assert_eq!(choose(&["172.17.9.9/32"], None).unwrap(), "172.18.0.0/16");
        assert_eq!(choose(&["172.16.0.0/12"], None).unwrap(), "192.168.0.0/20");
        assert_eq!(
            choose(&["172.16.0.0/12", "192.168.0.0/18"], None).unwrap(),
            "192.168.64.0/20"
        );
        assert_eq!(choose(&["0.0.0.0/0"], None), Err(IpamError::NoSubnet));
        assert_eq!(
            choose(&["172.17.0.0/25"], Some(24)).unwrap(),
            "172.17.1.0/24"
        );
        assert_eq!(choose(&[], Some(8)), Err(IpamError::InvalidPool));
        assert_eq!(choose(&[], Some(33)), Err(IpamError::InvalidPool));
        assert_eq!(choose(&[], Some(14)).unwrap(), "172.20.0.0/14");
    }

    #[test]
    fn pools_are_checked() {
        let pool = |base: &str, size| Pool {
            base: cidr(base),
            size,
        };
        let error = Pools::new([pool("10.0.0.0/8", 24), pool("10.1.0.0/24", 16)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "network at index 1 ({10.1.0.0/24 16}) has a smaller prefix (/24) than the target size of that pool (/16)"
        );
        Pools::new([pool("10.0.0.0/8", 0)]).unwrap_err();
        Pools::new([pool("10.0.0.0/8", 33)]).unwrap_err();
        // What lies in another pool is left out.
        let pools = Pools::new([pool("10.1.0.0/16", 28), pool("10.9.9.9/8", 24)]).unwrap();
        assert_eq!(pools.all(), [pool("10.0.0.0/8", 24)]);
        assert!(!pools.has_v6());
        assert_eq!(
            pools.choose_subnet(&[], &[], true, None),
            Err(IpamError::InvalidPool)
        );
    }

    fn blocks() -> impl Strategy<Value = Vec<Cidr>> {
        let block = (any::<u16>(), 12_u8..=32).prop_map(|(low, prefix)| {
            let [a, b] = low.to_be_bytes();
            Cidr::new([172, 16 | (a & 15), b, 0].into(), prefix)
                .unwrap()
                .network()
        });
        proptest::collection::vec(block, 0..40)
    }

    proptest! {
        #[test]
        fn a_subnet_overlaps_nothing(used in blocks(), avoid in blocks(), size in proptest::option::of(14_u8..=30)) {
            let pools = docker();
            match pools.choose_subnet(&used, &avoid, false, size) {
                Ok(subnet) => {
                    prop_assert!(used.iter().chain(&avoid).all(|other| !other.overlaps(subnet)));
                    prop_assert!(pools.all().iter().any(|pool| pool.base.overlaps(subnet)));
                    prop_assert_eq!(subnet, subnet.network());
                }
                Err(error) => prop_assert_eq!(error, IpamError::NoSubnet),
            }
        }
    }
}
