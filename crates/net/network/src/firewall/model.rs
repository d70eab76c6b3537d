//! What is allowed, as a pure function of the networks, their ends and their published ports.
//!
//! The chains never change while the engine runs: a network or an end adds elements to sets and maps, nothing else.
//! Direct access to containers is refused where packets are forwarded, not before routing: there a translated connection
//! is told from one that names the container itself, so that no list of container addresses is needed, and the host's own
//! addresses on the bridges stay reachable (`host-gateway`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::table::{Atom, Item, Items, Key, Table};
use super::{rules, sources};
use crate::spec::{EndpointSpec, GatewayMode, NetworkSpec, Publication};

/// Consecutive ports are written as one range from this many on.
const RANGE: usize = 16;

/// Everything that rules follow from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) networks: BTreeMap<String, NetworkSpec>,
    pub(crate) endpoints: BTreeMap<String, EndpointSpec>,
    /// What the cables of ends may send, by the ends' ids; of networks with anti-spoofing alone.
    pub(crate) cables: BTreeMap<String, Items>,
    pub(crate) settings: Settings,
}

/// What holds for all networks of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    /// The engine made the host forward this family; what has nothing to do with containers is not forwarded.
    pub(crate) guard_ipv4: bool,
    /// The same for IPv6.
    pub(crate) guard_ipv6: bool,
    /// Published ports may be reached at the containers' own addresses from everywhere.
    pub(crate) direct_routing: bool,
    /// The administrator makes the rules for this family; the engine makes none.
    pub(crate) left_ipv4: bool,
    /// The same for IPv6.
    pub(crate) left_ipv6: bool,
}

impl Settings {
    /// Whether a family is forwarded for containers only.
    pub(crate) fn guards(self, ipv6: bool) -> bool {
        if ipv6 {
            self.guard_ipv6
        } else {
            self.guard_ipv4
        }
    }

    /// Whether the rules for a family are not the engine's.
    pub(crate) fn leaves(self, ipv6: bool) -> bool {
        if ipv6 { self.left_ipv6 } else { self.left_ipv4 }
    }
}

fn interface(name: &str) -> Atom {
    Atom::Interface(name.to_owned())
}

/// `(interface, interface)` and the like.
fn pair(one: &str, other: &str) -> Item {
    Item::member(vec![interface(one), interface(other)])
}

fn put(items: &mut Items, set: &'static str, item: Item) {
    items.entry(set).or_default().insert(item);
}

/// The name of a set or map for a family.
fn of(ipv6: bool, names: (&'static str, &'static str)) -> &'static str {
    if ipv6 { names.1 } else { names.0 }
}

impl Model {
    /// The whole rule set.
    pub(crate) fn table(&self) -> Table {
        let mut items = Items::new();
        for network in self.networks.values() {
            extend(&mut items, self.of_network(network));
        }
        for endpoint in self.endpoints.values() {
            extend(
                &mut items,
                self.of_publications(endpoint, &endpoint.publications),
            );
        }
        Table {
            collections: rules::collections(self.settings),
            chains: rules::chains(self.settings),
            items,
        }
    }

    /// Whether there is a second table, for frames on bridges.
    pub(crate) fn checks_sources(&self) -> bool {
        self.networks.values().any(NetworkSpec::anti_spoofing)
    }

    /// The table for frames on bridges.
    pub(crate) fn sources(&self) -> Table {
        let mut items = Items::new();
        for cable in self.cables.values() {
            extend(&mut items, cable.clone());
        }
        sources::table(items)
    }

    /// What the cable of an end may send; nothing is said of it where its network does not ask.
    pub(crate) fn of_cable(&self, cable: &str, end: &EndpointSpec) -> Option<Items> {
        let network = self.networks.get(&end.network);
        let asked = network.is_some_and(NetworkSpec::anti_spoofing);
        asked.then(|| sources::of_cable(cable, end))
    }

    /// What a network adds to the sets.
    pub(crate) fn of_network(&self, network: &NetworkSpec) -> Items {
        let mut items = Items::new();
        let Some(options) = network.bridge() else {
            // Their packets do not go through the host.
            return items;
        };
        let name = options.interface.as_str();
        put(&mut items, "bridges", Item::member(vec![interface(name)]));
        put(&mut items, "inside", pair(name, name));
        if !options.icc {
            put(&mut items, "closed", pair(name, name));
        }
        if network.internal {
            put(&mut items, "internal", Item::member(vec![interface(name)]));
            return items;
        }
        for trusted in &options.trusted_host_interfaces {
            put(&mut items, "trusted", pair(trusted, name));
        }
        for ipv6 in [false, true] {
            let subnets = if ipv6 { &network.ipv6 } else { &network.ipv4 };
            if subnets.is_empty() {
                continue;
            }
            let mode = options.mode(ipv6);
            let own = || Item::member(vec![interface(name)]);
            match mode {
                GatewayMode::Routed => {
                    put(&mut items, of(ipv6, ("routed4", "routed6")), own());
                    put(&mut items, of(ipv6, ("direct4", "direct6")), own());
                }
                GatewayMode::NatUnprotected => {
                    put(
                        &mut items,
                        of(ipv6, ("unprotected4", "unprotected6")),
                        own(),
                    );
                }
                GatewayMode::Nat if self.settings.direct_routing => {
                    put(&mut items, of(ipv6, ("direct4", "direct6")), own());
                }
                GatewayMode::Nat | GatewayMode::Isolated => {}
            }
            if !options.masquerade || mode == GatewayMode::Routed {
                continue;
            }
            let source = if ipv6 {
                options.host_ipv6
            } else {
                options.host_ipv4
            };
            for subnet in subnets {
                let key = Key::Network(subnet.cidr.network());
                let value = source.map(Atom::Address);
                let set = match value {
                    Some(_) => of(ipv6, ("source4", "source6")),
                    None => of(ipv6, ("masquerade4", "masquerade6")),
                };
                let value = value.into_iter().collect();
                put(&mut items, set, Item { key, value });
            }
        }
        items
    }

    /// What published ports of an end add to the sets and maps.
    pub(crate) fn of_publications(&self, end: &EndpointSpec, ports: &[Publication]) -> Items {
        let mut items = Items::new();
        let Some(network) = self.networks.get(&end.network) else {
            return items;
        };
        let Some(options) = network.bridge() else {
            return items;
        };
        if network.internal {
            return items;
        }
        for run in runs(ports) {
            let ipv6 = run.first.host.is_ipv6();
            if self.settings.leaves(ipv6) {
                continue;
            }
            let Some(address) = end.address(ipv6) else {
                // The port of a family that the container lacks: a relay's work.
                continue;
            };
            let mode = options.mode(ipv6);
            let open = mode == GatewayMode::Routed
                || self.settings.direct_routing
                || !options.trusted_host_interfaces.is_empty();
            if open && mode != GatewayMode::NatUnprotected {
                open_ports(&mut items, address, &run);
            }
            if mode != GatewayMode::Routed && mode != GatewayMode::Isolated {
                translate(&mut items, address, &run);
                guard(&mut items, &run);
                let itself = vec![Atom::Address(address), Atom::Address(address)];
                put(
                    &mut items,
                    of(ipv6, ("self4", "self6")),
                    Item::member(itself),
                );
            }
        }
        items
    }
}

fn extend(items: &mut Items, more: Items) {
    for (set, elements) in more {
        items.entry(set).or_default().extend(elements);
    }
}

/// Published ports that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Publication,
    pub(crate) count: u16,
}

/// Ports as runs: long ones of ports that keep their number are one piece, all others are one by one.
pub(crate) fn runs(ports: &[Publication]) -> Vec<Run> {
    let ordered: BTreeSet<Publication> = ports.iter().copied().collect();
    let ordered: Vec<Publication> = ordered.into_iter().collect();
    let follows = |one: &Publication, next: &Publication| {
        one.protocol == next.protocol
            && one.host == next.host
            && one.host_port == one.container_port
            && next.host_port == next.container_port
            && one.host_port.checked_add(1) == Some(next.host_port)
    };
    let mut found = Vec::new();
    for piece in ordered.chunk_by(follows) {
        match (piece.first(), u16::try_from(piece.len())) {
            (Some(first), Ok(count)) if piece.len() >= RANGE => found.push(Run {
                first: *first,
                count,
            }),
            _ => found.extend(piece.iter().map(|port| Run {
                first: *port,
                count: 1,
            })),
        }
    }
    found
}

impl Run {
    fn last(&self, port: u16) -> u16 {
        port.saturating_add(self.count.saturating_sub(1))
    }
}

/// From the host's port to the container's.
fn translate(items: &mut Items, address: IpAddr, run: &Run) {
    let port = run.first;
    let ipv6 = port.host.is_ipv6();
    let everywhere = port.host.is_unspecified();
    let key = |number: u16| {
        let mut atoms = Vec::new();
        if !everywhere {
            atoms.push(Atom::Address(port.host));
        }
        atoms.push(Atom::Protocol(port.protocol.number()));
        atoms.push(Atom::Port(number));
        atoms
    };
    let (set, item) = if run.count > 1 {
        let set = match everywhere {
            true => of(ipv6, ("ranges4", "ranges6")),
            false => of(ipv6, ("ranges-at4", "ranges-at6")),
        };
        let key = Key::Range(key(port.host_port), key(run.last(port.host_port)));
        let value = vec![Atom::Address(address)];
        (set, Item { key, value })
    } else {
        let set = match everywhere {
            true => of(ipv6, ("ports4", "ports6")),
            false => of(ipv6, ("ports-at4", "ports-at6")),
        };
        let value = vec![Atom::Address(address), Atom::Port(port.container_port)];
        let key = Key::One(key(port.host_port));
        (set, Item { key, value })
    };
    put(items, set, item);
}

/// The port of the host, for the host's own rules.
fn guard(items: &mut Items, run: &Run) {
    let port = run.first;
    let bounds = match port.host {
        IpAddr::V4(v4) if v4.is_unspecified() => (port.host, Ipv4Addr::BROADCAST.into()),
        IpAddr::V6(v6) if v6.is_unspecified() => (port.host, Ipv6Addr::from_bits(u128::MAX).into()),
        one => (one, one),
    };
    let key = |address: IpAddr, number: u16| {
        vec![
            Atom::Address(address),
            Atom::Protocol(port.protocol.number()),
            Atom::Port(number),
        ]
    };
    let first = key(bounds.0, port.host_port);
    let last = key(bounds.1, run.last(port.host_port));
    put(
        items,
        of(port.host.is_ipv6(), ("guarded4", "guarded6")),
        Item {
            key: Key::Range(first, last),
            value: Vec::new(),
        },
    );
}

/// The container's port at the container's address.
fn open_ports(items: &mut Items, address: IpAddr, run: &Run) {
    let key = |number: u16| {
        vec![
            Atom::Address(address),
            Atom::Protocol(run.first.protocol.number()),
            Atom::Port(number),
        ]
    };
    let port = run.first.container_port;
    let set = of(address.is_ipv6(), ("open4", "open6"));
    put(
        items,
        set,
        Item {
            key: Key::Range(key(port), key(run.last(port))),
            value: Vec::new(),
        },
    );
}
