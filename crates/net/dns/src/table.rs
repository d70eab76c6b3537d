//! Names and addresses of all networks, looked up for one container: only networks that it is on exist for it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::zone::{Endpoint, Membership, Network};

/// All networks.
#[derive(Debug, Default)]
pub struct Table {
    networks: HashMap<String, Index>,
}

/// One network, by lower-case name and by address.
#[derive(Debug, Default)]
struct Index {
    name: Vec<u8>,
    shown: String,
    endpoints: BTreeMap<String, Endpoint>,
    /// An address stands once for each endpoint that brings it.
    addresses: HashMap<Vec<u8>, Vec<IpAddr>>,
    pointers: HashMap<IpAddr, Vec<String>>,
}

impl Table {
    /// Sets a whole network.
    pub fn set_network(&mut self, id: &str, network: Network) {
        let mut index = Index::named(&network.name);
        for (endpoint, found) in network.endpoints {
            index.insert(endpoint, found);
        }
        self.networks.insert(id.to_owned(), index);
    }

    /// Forgets a network.
    pub fn remove_network(&mut self, id: &str) {
        self.networks.remove(id);
    }

    /// Keeps only the networks that `wanted` knows.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.networks.retain(|id, _| wanted(id));
    }

    /// Adds or replaces an endpoint; false when there is no such network.
    pub fn set_endpoint(&mut self, network: &str, id: &str, endpoint: Endpoint) -> bool {
        let Some(index) = self.networks.get_mut(network) else {
            return false;
        };
        index.remove(id);
        index.insert(id.to_owned(), endpoint);
        true
    }

    /// Adds or replaces an endpoint on a network that is made if there is none.
    pub fn join(&mut self, network: &str, name: &str, id: &str, endpoint: Endpoint) {
        let index = self
            .networks
            .entry(network.to_owned())
            .or_insert_with(|| Index::named(name));
        index.remove(id);
        index.insert(id.to_owned(), endpoint);
    }

    /// Forgets an endpoint, and the network with its last one.
    pub fn leave(&mut self, network: &str, id: &str) {
        self.remove_endpoint(network, id);
        if self.networks.get(network).is_some_and(Index::is_empty) {
            self.networks.remove(network);
        }
    }

    /// Forgets an endpoint.
    pub fn remove_endpoint(&mut self, network: &str, id: &str) {
        if let Some(index) = self.networks.get_mut(network) {
            index.remove(id);
        }
    }

    /// All addresses of a lower-case name, or nothing when no network of the container knows it.
    ///
    /// `a.b.c` is first a name on any network, then `a.b` on the network `c`, then `a` on the network `b.c`: names of
    /// containers and networks may have dots (moby, daemon/libnetwork/sandbox.go, ResolveName).
    #[must_use]
    pub fn addresses(&self, places: &[Membership], name: &[u8]) -> Option<&[IpAddr]> {
        let splits = name.iter().enumerate().rev();
        let dots = splits.filter_map(|(at, byte)| (*byte == b'.').then_some(at));
        let parts = dots.filter_map(|at| Some((name.get(..at)?, name.get(at + 1..)?)));
        std::iter::once((name, &[][..]))
            .chain(parts)
            .find_map(|(name, network)| self.find(places, name, network))
    }

    fn find(&self, places: &[Membership], name: &[u8], network: &[u8]) -> Option<&[IpAddr]> {
        let open = || {
            places.iter().filter_map(|place| {
                let index = self.networks.get(&place.network)?;
                (network.is_empty() || index.name == network).then_some((place, index))
            })
        };
        let linked = open().find_map(|(place, index)| {
            let target = place.link(name)?;
            index.of_name(&target)
        });
        linked.or_else(|| {
            let unlinked = open().filter(|(place, _)| place.link(name).is_none());
            unlinked.filter_map(|(_, index)| index.of_name(name)).next()
        })
    }

    /// The name of an address, `container.network`, when a network of the container has it.
    #[must_use]
    pub fn pointer(&self, places: &[Membership], address: IpAddr) -> Option<String> {
        let open = places
            .iter()
            .filter_map(|place| self.networks.get(&place.network));
        open.filter_map(|index| {
            let name = index.pointers.get(&address)?.first()?;
            Some(format!("{name}.{}", index.shown))
        })
        .next()
    }
}

impl Membership {
    fn link(&self, name: &[u8]) -> Option<Vec<u8>> {
        let links = self.links.iter();
        let mut found = links.filter(|(alias, _)| alias.as_bytes().eq_ignore_ascii_case(name));
        found.next().map(|(_, target)| lower(target))
    }
}

impl Index {
    fn named(name: &str) -> Self {
        Self {
            name: lower(name),
            shown: name.to_owned(),
            ..Self::default()
        }
    }

    fn of_name(&self, name: &[u8]) -> Option<&[IpAddr]> {
        self.addresses.get(name).map(Vec::as_slice)
    }

    fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    fn insert(&mut self, id: String, endpoint: Endpoint) {
        for name in distinct(&endpoint.names) {
            let known = self.addresses.entry(name).or_default();
            known.extend(&endpoint.addresses);
        }
        if let Some(name) = endpoint.names.first() {
            for address in &endpoint.addresses {
                let names = self.pointers.entry(*address).or_default();
                names.push(name.clone());
            }
        }
        self.endpoints.insert(id, endpoint);
    }

    fn remove(&mut self, id: &str) {
        let Some(endpoint) = self.endpoints.remove(id) else {
            return;
        };
        for name in distinct(&endpoint.names) {
            if let Some(known) = self.addresses.get_mut(&name) {
                take_out(known, &endpoint.addresses);
                // A name without addresses is still a name as long as somebody has it.
                if known.is_empty() && !self.endpoints.values().any(|other| other.has(&name)) {
                    self.addresses.remove(&name);
                }
            }
        }
        for address in &endpoint.addresses {
            if let Some(names) = self.pointers.get_mut(address) {
                take_out(names, endpoint.names.get(..1).unwrap_or_default());
                if names.is_empty() {
                    self.pointers.remove(address);
                }
            }
        }
    }
}

impl Endpoint {
    fn has(&self, name: &[u8]) -> bool {
        let mut names = self.names.iter();
        names.any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }
}

fn lower(name: &str) -> Vec<u8> {
    name.trim_end_matches('.').to_ascii_lowercase().into_bytes()
}

/// The lower-case names, each once: an alias is often the container's name as well.
fn distinct(names: &[String]) -> Vec<Vec<u8>> {
    let mut found: Vec<_> = names.iter().map(|name| lower(name)).collect();
    found.sort_unstable();
    found.dedup();
    found.retain(|name| !name.is_empty());
    found
}

/// Takes each of `gone` out of `list` once.
fn take_out<T: PartialEq>(list: &mut Vec<T>, gone: &[T]) {
    for item in gone {
        if let Some(at) = list.iter().position(|known| known == item) {
            list.remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
