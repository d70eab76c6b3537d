//! By which of its networks a container reaches the outside, and to which of its ends published ports lead.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, PoisonError};

use havre_api_traits::ApiResult;
use havre_network::ports::Claim;
use havre_network::{Plane, Sandbox};

use super::join::failed;
use super::live::{End, Live, Published};
use super::ports;
use super::record::Record;
use crate::container::Fixed;
use crate::engine::Shared;

/// The number of the network by which the default route of a family leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ways {
    ipv4: Option<usize>,
    ipv6: Option<usize>,
}

impl Ways {
    /// Of networks with the priorities that the user gave them: the highest one, then the first name.
    /// <https://github.com/moby/moby/blob/master/daemon/libnetwork/sandbox.go> (`Less`)
    pub(super) fn of(networks: &[(Arc<Record>, i64)]) -> Self {
        let by = |v6: bool| {
            let all = networks.iter().enumerate();
            let leading = all.filter(|(_, (record, _))| record.leads_out(v6));
            let best = leading
                .min_by_key(|(_, (record, priority))| (Reverse(*priority), record.name.as_str()));
            best.map(|(number, _)| number)
        };
        Self {
            ipv4: by(false),
            ipv6: by(true),
        }
    }

    /// Whether the default routes of IPv4 and IPv6 lead by a network.
    pub(super) fn routes(self, number: usize) -> (bool, bool) {
        let number = Some(number);
        (self.ipv4 == number, self.ipv6 == number)
    }

    /// Whether ports of the host's addresses of IPv4 and IPv6 lead to the end on a network. Where a family has no way, its
    /// ports lead by the other's: they are relayed.
    pub(super) fn ports(self, number: usize, record: &Record) -> (bool, bool) {
        let leads = |way: Option<usize>| way == Some(number) && record.publishes();
        (
            leads(self.ipv4.or(self.ipv6)),
            leads(self.ipv6.or(self.ipv4)),
        )
    }
}

/// Whether a port is of one of these families of the host's addresses.
fn is_of(port: &Published, (ipv4, ipv6): (bool, bool)) -> bool {
    if port.host.is_ipv6() { ipv6 } else { ipv4 }
}

/// Lets default routes and published ports lead where they should, now that a network came or went. What was published on an
/// end that is gone is among `parked`.
pub(super) fn settle(
    shared: &Shared,
    fixed: &Fixed,
    sandbox: &Sandbox,
    live: &mut Live,
) -> ApiResult<()> {
    let plane = shared.networks.plane()?;
    let mut networks = Vec::new();
    for end in &live.ends {
        let entry = shared.networks.get(&end.network);
        let entry = entry.ok_or_else(|| super::no_such_network(&end.name))?;
        networks.push((entry.record, end.gw_priority));
    }
    let ways = Ways::of(&networks);
    // A new way takes the place of the old one, so that there is one at any time.
    for taken_away in [false, true] {
        for (number, end) in live.ends.iter_mut().enumerate() {
            let (had, now) = (end.default_route, ways.routes(number));
            let next = if taken_away {
                now
            } else {
                (had.0 || now.0, had.1 || now.1)
            };
            if next != had {
                plane
                    .set_default_route(sandbox, end.id.as_str(), next)
                    .map_err(|error| failed(&error))?;
                end.default_route = next;
            }
        }
    }
    publish(shared, fixed, &plane, live, |number| {
        let network = networks.get(number);
        network.map_or((false, false), |(record, _)| ways.ports(number, record))
    })
}

/// Moves published ports to the ends that they belong to, by the number of the end and the family of the host's address. A
/// container of which nothing is published takes its ports of the host anew.
fn publish(
    shared: &Shared,
    fixed: &Fixed,
    plane: &Plane,
    live: &mut Live,
    families: impl Fn(usize) -> (bool, bool),
) -> ApiResult<()> {
    for (number, end) in live.ends.iter_mut().enumerate() {
        let ports = end.ports.iter().cloned();
        let moved: Vec<Published> = ports
            .filter(|port| !is_of(port, families(number)))
            .collect();
        if !moved.is_empty() {
            plane
                .unpublish(end.id.as_str(), &plans(&moved))
                .map_err(|error| failed(&error))?;
            end.ports.retain(|port| !moved.contains(port));
            live.parked.extend(moved);
        }
    }
    let published = !live.parked.is_empty() || live.ends.iter().any(|end| !end.ports.is_empty());
    for (number, end) in live.ends.iter_mut().enumerate() {
        if !published {
            let taken = take(shared, fixed, end, &live.claims, families(number))?;
            // From now on they are somewhere, whatever fails.
            live.parked.extend(taken);
        }
        let ports = live.parked.iter().cloned();
        let gained: Vec<Published> = ports.filter(|port| is_of(port, families(number))).collect();
        if !gained.is_empty() {
            plane
                .publish(end.id.as_str(), &plans(&gained))
                .map_err(|error| failed(&error))?;
            live.parked.retain(|port| !gained.contains(port));
            end.ports.extend(gained);
        }
    }
    if live.ends.iter().all(|end| end.ports.is_empty()) {
        live.parked.clear();
        live.release_claims();
    }
    Ok(())
}

/// Takes ports of the host for an end.
fn take(
    shared: &Shared,
    fixed: &Fixed,
    end: &End,
    claims: &Mutex<Vec<Claim>>,
    families: (bool, bool),
) -> ApiResult<Vec<Published>> {
    let networks = &shared.networks;
    let entry = networks.get(&end.network);
    let entry = entry.ok_or_else(|| super::no_such_network(&end.name))?;
    let (wanted, _exposed) = ports::wanted(&fixed.config, &fixed.host_config)?;
    let own = end.addresses().hosts();
    let default = networks.host_binding(&entry.record);
    let claimed = networks
        .departures
        .patiently(|| ports::claim(&networks.ports, &wanted, own, default, families));
    let (taken, published) = claimed.map_err(|error| ports::refused(&error, fixed, &end.id))?;
    let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
    claims.extend(taken);
    Ok(published)
}

fn plans(ports: &[Published]) -> Vec<havre_network::Publication> {
    ports.iter().filter_map(Published::plan).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::Subnet;
    use super::*;
    use havre_types::NetworkId;

    fn network(name: &str, subnets: &[&str], internal: bool) -> Arc<Record> {
        let mut record = Record::bare(NetworkId::from_bytes([1; 32]), name, "bridge");
        record.internal = internal;
        record.subnets = subnets
            .iter()
            .map(|subnet| {
                let cidr: havre_types::Cidr = subnet.parse().unwrap();
                Subnet {
                    gateway: cidr.nth(1),
                    ..Subnet::of(cidr)
                }
            })
            .collect();
        Arc::new(record)
    }

    #[test]
    fn the_way_out_is_the_highest_priority_then_the_first_name() {
        let (four, six) = ("10.0.0.0/24", "fd00::/64");
        let (a, b) = (
            network("a", &[four], false),
            network("b", &[four, six], false),
        );
        let inner = network("0", &[four, six], true);
        let ways = |all: &[(&Arc<Record>, i64)]| {
            let all: Vec<_> = all
                .iter()
                .map(|(one, rank)| (Arc::clone(one), *rank))
                .collect();
            let ways = Ways::of(&all);
            (ways.ipv4, ways.ipv6)
        };
        assert_eq!(ways(&[(&inner, 9)]), (None, None));
        assert_eq!(ways(&[(&inner, 9), (&b, 0), (&a, 0)]), (Some(2), Some(1)));
        assert_eq!(ways(&[(&a, 0), (&b, 1)]), (Some(1), Some(1)));
        assert_eq!(ways(&[(&a, -1), (&inner, 0)]), (Some(0), None));
    }

    #[test]
    fn ports_follow_the_way_of_their_family_or_the_other() {
        let (four, six) = ("10.0.0.0/24", "fd00::/64");
        let (a, b) = (network("a", &[four], false), network("b", &[six], false));
        let both = Ways::of(&[(Arc::clone(&a), 0), (Arc::clone(&b), 0)]);
        assert_eq!(
            (both.ports(0, &a), both.ports(1, &b)),
            ((true, false), (false, true))
        );
        let one = Ways::of(&[(Arc::clone(&a), 0)]);
        assert_eq!(one.ports(0, &a), (true, true));
        let mut other = Record::clone(&a);
        other.driver = "macvlan".to_owned();
        assert_eq!(one.ports(0, &other), (false, false));
    }
}
