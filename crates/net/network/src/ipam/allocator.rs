//! The addresses of one subnet.
//!
//! An address that was given back waits until every other one has been used: who still sends to its last holder does not
//! reach the next one so soon (SECURITY.md N20). Only what is in use and what came back is kept, so that a subnet of 2^64
//! addresses costs no more than a small one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use havre_types::Cidr;

use super::IpamError;

/// How many returned addresses are remembered. Above it the oldest is as good as one that was never used.
const REMEMBERED: usize = 65_536;

/// How many addresses are in use and how many are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// In the whole subnet, with those that no end can have.
    pub in_use: u64,
    /// Within the range that addresses are chosen from.
    pub available: u64,
}

/// Gives out the addresses of one subnet.
#[derive(Debug, Clone)]
pub struct Allocator {
    subnet: Cidr,
    /// Places in the subnet.
    used: BTreeSet<u128>,
    /// Places that came back, each with when.
    returned: BTreeMap<u128, u64>,
    /// The same by when.
    by_age: BTreeMap<u64, u128>,
    returns: u64,
    /// For each range the first place that was never chosen; a range is its first and last place.
    fresh: BTreeMap<(u128, u128), u128>,
}

impl Allocator {
    /// All addresses of `subnet` but those that no host can have: the first and the last of IPv4 unless it is a link of
    /// two (RFC 3021) or one, the first of IPv6 (the routers' anycast address, RFC 4291 section 2.6.1).
    #[must_use]
    pub fn new(subnet: Cidr) -> Self {
        let subnet = subnet.network();
        let mut used = BTreeSet::new();
        let last = subnet.last_place();
        if subnet.address().is_ipv6() {
            used.insert(0);
        } else if last > 1 {
            used.insert(0);
            used.insert(last);
        }
        Self {
            subnet,
            used,
            returned: BTreeMap::new(),
            by_age: BTreeMap::new(),
            returns: 0,
            fresh: BTreeMap::new(),
        }
    }

    /// The subnet.
    #[must_use]
    pub fn subnet(&self) -> Cidr {
        self.subnet
    }

    /// Gives out `preferred`, or any address of the subnet.
    pub fn allocate(&mut self, preferred: Option<IpAddr>) -> Result<IpAddr, IpamError> {
        match preferred {
            Some(address) => self.take(address),
            None => self.allocate_in(self.subnet),
        }
    }

    /// Gives out any address of `range`, which is a part of the subnet.
    pub fn allocate_in(&mut self, range: Cidr) -> Result<IpAddr, IpamError> {
        let bounds = self.bounds(range).ok_or(IpamError::OutOfRange)?;
        let place = self
            .never_used(bounds)
            .or_else(|| self.longest_unused(bounds))
            .or_else(|| self.first_gap(bounds))
            .ok_or(IpamError::Full)?;
        self.mark(place);
        self.subnet.nth(place).ok_or(IpamError::OutOfRange)
    }

    /// Takes an address back. One that was not given out changes nothing.
    pub fn release(&mut self, address: IpAddr) {
        let Some(place) = self.subnet.place_of(address) else {
            return;
        };
        if self.is_reserved(place) || !self.used.remove(&place) {
            return;
        }
        self.returns += 1;
        self.returned.insert(place, self.returns);
        self.by_age.insert(self.returns, place);
        if self.returned.len() > REMEMBERED
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.returned.remove(&oldest);
        }
    }

    /// How much is in use and how much of `range` is left.
    #[must_use]
    pub fn usage(&self, range: Cidr) -> Usage {
        let clamp = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        let in_use = u64::try_from(self.used.len()).unwrap_or(u64::MAX);
        let Some((first, last)) = self.bounds(range) else {
            return Usage {
                in_use,
                available: 0,
            };
        };
        let taken = self.used.range(first..=last).count();
        let taken = u128::try_from(taken).unwrap_or(u128::MAX);
        let all = (last - first).saturating_add(1);
        Usage {
            in_use,
            available: clamp(all.saturating_sub(taken)),
        }
    }

    fn take(&mut self, address: IpAddr) -> Result<IpAddr, IpamError> {
        let place = self.subnet.place_of(address).ok_or(IpamError::OutOfRange)?;
        if self.used.contains(&place) {
            return Err(IpamError::InUse);
        }
        self.mark(place);
        Ok(address)
    }

    fn mark(&mut self, place: u128) {
        self.used.insert(place);
        if let Some(age) = self.returned.remove(&place) {
            self.by_age.remove(&age);
        }
    }

    fn is_reserved(&self, place: u128) -> bool {
        let last = self.subnet.last_place();
        if self.subnet.address().is_ipv6() {
            place == 0
        } else {
            last > 1 && (place == 0 || place == last)
        }
    }

    /// First and last place of a range; None when it is not within the subnet.
    fn bounds(&self, range: Cidr) -> Option<(u128, u128)> {
        let range = range.network();
        let first = self.subnet.place_of(range.address())?;
        let last = self.subnet.place_of(range.last())?;
        (range.prefix() >= self.subnet.prefix()).then_some((first, last))
    }

    /// The next place that nobody had; the search goes on where it stopped the last time.
    fn never_used(&mut self, (first, last): (u128, u128)) -> Option<u128> {
        let next = self.fresh.entry((first, last)).or_insert(first);
        while *next <= last {
            let place = *next;
            // Beyond the last place of `::/0` there is no number: the search then ends with it taken.
            *next = place.checked_add(1)?;
            if !self.used.contains(&place) && !self.returned.contains_key(&place) {
                return Some(place);
            }
        }
        None
    }

    /// The place that came back first.
    fn longest_unused(&self, (first, last): (u128, u128)) -> Option<u128> {
        let mut places = self.by_age.values().copied();
        places.find(|place| (first..=last).contains(place))
    }

    /// Any free place: one that nothing is remembered of any more.
    fn first_gap(&self, (first, last): (u128, u128)) -> Option<u128> {
        let mut wanted = first;
        for place in self.used.range(first..=last).copied() {
            if place > wanted {
                return Some(wanted);
            }
            wanted = place.checked_add(1)?;
        }
        (wanted <= last).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(subnet: &str) -> Allocator {
        Allocator::new(subnet.parse().unwrap())
    }

    fn next(allocator: &mut Allocator) -> Result<String, IpamError> {
        allocator.allocate(None).map(|address| address.to_string())
    }

    #[test]
    fn addresses_come_in_order_and_return_last() {
        let mut all = of("10.0.0.0/29");
        for wanted in 1..=6 {
            assert_eq!(next(&mut all).unwrap(), format!("10.0.0.{wanted}"));
        }
        assert_eq!(next(&mut all), Err(IpamError::Full));
        for back in ["10.0.0.5", "10.0.0.2", "10.0.0.6"] {
            all.release(back.parse().unwrap());
        }
        assert_eq!(next(&mut all).unwrap(), "10.0.0.5");
        assert_eq!(next(&mut all).unwrap(), "10.0.0.2");
        assert_eq!(next(&mut all).unwrap(), "10.0.0.6");
        assert_eq!(next(&mut all), Err(IpamError::Full));
    }

    #[test]
    fn what_came_back_waits_behind_what_was_never_used() {
        let mut all = of("10.0.0.0/24");
        all.allocate(Some("10.0.0.3".parse().unwrap())).unwrap();
        all.release("10.0.0.3".parse().unwrap());
        let first: Vec<String> = (0..4).map(|_| next(&mut all).unwrap()).collect();
        assert_eq!(first, ["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5"]);
    }

    #[test]
    fn small_subnets_follow_their_rfcs() {
        let all = |subnet: &str| {
            let mut allocator = of(subnet);
            let mut found = Vec::new();
            while let Ok(address) = next(&mut allocator) {
                found.push(address);
            }
            found
        };
        assert_eq!(all("10.0.0.0/30"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(all("10.0.0.0/31"), ["10.0.0.0", "10.0.0.1"]);
        assert_eq!(all("10.0.0.7/32"), ["10.0.0.7"]);
        assert_eq!(all("fd00::/126"), ["fd00::1", "fd00::2", "fd00::3"]);
        assert_eq!(all("fd00::/127"), ["fd00::1"]);
        assert_eq!(all("fd00::/128"), [""; 0]);
    }

    #[test]
    fn wrong_wishes_are_refused() {
        let mut all = of("10.0.0.0/24");
        let mut ask = |address: &str| all.allocate(Some(address.parse().unwrap()));
        ask("10.0.0.9").unwrap();
        assert_eq!(ask("10.0.0.9"), Err(IpamError::InUse));
        assert_eq!(ask("10.0.0.0"), Err(IpamError::InUse));
        assert_eq!(ask("10.0.0.255"), Err(IpamError::InUse));
        assert_eq!(ask("10.0.1.1"), Err(IpamError::OutOfRange));
        assert_eq!(ask("fd00::1"), Err(IpamError::OutOfRange));
        // Reserved addresses are never given back.
        all.release("10.0.0.0".parse().unwrap());
        assert_eq!(
            all.allocate(Some("10.0.0.0".parse().unwrap())),
            Err(IpamError::InUse)
        );
    }

    #[test]
    fn ranges_are_kept() {
        let mut all = of("10.0.0.0/24");
        let range: Cidr = "10.0.0.8/30".parse().unwrap();
        assert_eq!(all.usage(range).available, 4);
        let found: Vec<String> = std::iter::from_fn(|| all.allocate_in(range).ok())
            .map(|address| address.to_string())
            .collect();
        assert_eq!(found, ["10.0.0.8", "10.0.0.9", "10.0.0.10", "10.0.0.11"]);
        let usage = all.usage(range);
        assert_eq!((usage.in_use, usage.available), (6, 0));
        assert_eq!(
            all.allocate_in("10.0.1.0/30".parse().unwrap()),
            Err(IpamError::OutOfRange)
        );
    }

    #[test]
    fn a_huge_subnet_costs_nothing() {
        let mut all = of("fd00::/64");
        for number in 1..=100_000_u32 {
            let address = all.allocate(None).unwrap();
            let text = format!("fd00::{:x}:{:x}", number >> 16, number & 0xffff);
            assert_eq!(address, text.parse::<IpAddr>().unwrap());
            all.release(address);
        }
        assert!(all.returned.len() <= REMEMBERED && all.by_age.len() == all.returned.len());
        assert_eq!(of("::/0").allocate(None).unwrap().to_string(), "::1");
    }

    /// What a caller does.
    #[derive(Debug, Clone)]
    enum Deed {
        Any,
        Wish(u8),
        Back(u8),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            3 => Just(Deed::Any),
            1 => any::<u8>().prop_map(Deed::Wish),
            3 => any::<u8>().prop_map(Deed::Back),
        ];
        proptest::collection::vec(deed, 0..200)
    }

    proptest! {
        #[test]
        fn no_address_is_given_out_twice(deeds in deeds(), prefix in 24_u8..=32) {
            let subnet = Cidr::new("10.0.0.0".parse().unwrap(), prefix).unwrap();
            let mut allocator = Allocator::new(subnet);
            let mut held = BTreeSet::new();
            let mut back: Vec<IpAddr> = Vec::new();
            for deed in deeds {
                match deed {
                    Deed::Any => match allocator.allocate(None) {
                        Ok(address) => {
                            prop_assert!(subnet.contains(address));
                            prop_assert!(held.insert(address), "{address} twice");
                            if let Some(place) = back.iter().position(|one| *one == address) {
                                prop_assert_eq!(place, 0, "not the longest unused");
                                back.remove(0);
                            }
                        }
                        Err(error) => {
                            prop_assert_eq!(error, IpamError::Full);
                            prop_assert_eq!(allocator.usage(subnet).available, 0);
                        }
                    },
                    Deed::Wish(last) => {
                        let address: IpAddr = [10, 0, 0, last].into();
                        if allocator.allocate(Some(address)).is_ok() {
                            prop_assert!(subnet.contains(address));
                            prop_assert!(held.insert(address), "{address} twice");
                            back.retain(|one| *one != address);
                        }
                    }
                    Deed::Back(number) => {
                        let one = held.iter().nth(usize::from(number) % held.len().max(1)).copied();
                        if let Some(address) = one {
                            held.remove(&address);
                            allocator.release(address);
                            back.push(address);
                        }
                    }
                }
            }
        }
    }
}
