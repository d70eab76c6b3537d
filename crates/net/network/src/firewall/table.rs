//! A rule set as data: what the kernel is told, what tests evaluate, and what `explain` reads.

use std::collections::{BTreeMap, BTreeSet};

use havre_netlink::nft::{
    Base, Batch, Element, Field, Part, Policy, Rule, Set, State, Type, Value, Verdict,
};
use havre_types::{Cidr, MacAddress};

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    /// It is IPv4, or with true IPv6.
    Ipv6(bool),
    /// The fields together are in a set, or are not.
    InSet {
        fields: &'static [Field],
        set: &'static str,
        inside: bool,
    },
    /// It belongs to a connection that was let through before.
    Established,
    /// The destination of its connection was changed on the way.
    Translated,
    /// It goes to an address of this host.
    Local,
    /// It comes from an address of a network.
    From(Cidr),
    /// It goes to an address of a network.
    To(Cidr),
    /// Its transport protocol.
    Protocol(u8),
    /// The interface by which it came is of a kind, or is not.
    FromKind(&'static str, bool),
    /// The interface by which it leaves is of a kind, or is not.
    ToKind(&'static str, bool),
    /// A field has these bytes, or has others.
    Is(Field, &'static [u8], bool),
}

/// What is done with a packet for which all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Accept,
    Drop,
    /// Its destination becomes what a map says of the fields; nothing where that says nothing.
    Destination {
        fields: &'static [Field],
        map: &'static str,
        ipv6: bool,
        port: bool,
    },
    /// Its source becomes what a map says of the fields; nothing where that says nothing.
    Source {
        fields: &'static [Field],
        map: &'static str,
        ipv6: bool,
    },
    Masquerade,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) tests: Vec<Test>,
    pub(crate) action: Action,
    pub(crate) why: &'static str,
}

/// A chain that the kernel calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) base: Base,
    pub(crate) lines: Vec<Line>,
}

/// A set or map as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collection {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Type],
    pub(crate) value: Option<&'static [Type]>,
    pub(crate) interval: bool,
}

/// The key of an element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// Exactly these fields.
    One(Vec<Atom>),
    /// Every address of a network.
    Network(Cidr),
    /// Every field between two.
    Range(Vec<Atom>, Vec<Atom>),
}

/// A field of a key or value, with an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Atom {
    Address(std::net::IpAddr),
    Protocol(u8),
    Port(u16),
    Interface(String),
    Hardware(MacAddress),
}

impl Atom {
    fn part(&self) -> Part {
        match self {
            Self::Address(address) => Part::Address(*address),
            Self::Protocol(number) => Part::Protocol(*number),
            Self::Port(port) => Part::Port(*port),
            Self::Interface(name) => Part::Interface(name.clone()),
            Self::Hardware(address) => Part::Hardware(*address),
        }
    }
}

fn parts(atoms: &[Atom]) -> Vec<Part> {
    atoms.iter().map(Atom::part).collect()
}

/// An element of a set, or with a value of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) key: Key,
    pub(crate) value: Vec<Atom>,
}

impl Item {
    pub(crate) fn member(key: Vec<Atom>) -> Self {
        Self {
            key: Key::One(key),
            value: Vec::new(),
        }
    }

    fn elements(&self) -> Vec<Element> {
        let mut elements = match &self.key {
            Key::One(key) => vec![Element::key(&parts(key))],
            Key::Network(cidr) => Element::network(*cidr),
            Key::Range(first, last) => vec![Element::range(&parts(first), &parts(last))],
        };
        if !self.value.is_empty()
            && let Some(first) = elements.first_mut()
        {
            *first = first.clone().with_data(&parts(&self.value));
        }
        elements
    }
}

/// What is in the sets and maps.
pub(crate) type Items = BTreeMap<&'static str, BTreeSet<Item>>;

/// A whole rule set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) collections: Vec<Collection>,
    pub(crate) chains: Vec<Chain>,
    pub(crate) items: Items,
}

impl Table {
    /// Adds all of it to a transaction that has made an empty table.
    pub(crate) fn write(&self, batch: &mut Batch) {
        for collection in &self.collections {
            batch.add_set(&Set {
                name: collection.name,
                key: collection.key,
                value: collection.value.map(Value::Data),
                interval: collection.interval,
            });
        }
        for chain in &self.chains {
            batch.add_chain(chain.name, Some(chain.base));
        }
        add(batch, &self.items);
        for chain in &self.chains {
            for line in &chain.lines {
                batch.add_rule(chain.name, &line.rule());
            }
        }
    }
}

/// Adds elements to a transaction.
pub(crate) fn add(batch: &mut Batch, items: &Items) {
    for (set, items) in items {
        let elements: Vec<Element> = items.iter().flat_map(Item::elements).collect();
        batch.add_elements(set, &elements);
    }
}

/// Takes elements away in a transaction; all of them must be there.
pub(crate) fn remove(batch: &mut Batch, items: &Items) {
    for (set, items) in items {
        let elements: Vec<Element> = items.iter().flat_map(Item::elements).collect();
        batch.remove_elements(set, &elements);
    }
}

impl Line {
    pub(crate) fn new(tests: Vec<Test>, action: Action, why: &'static str) -> Self {
        Self { tests, action, why }
    }

    /// As the kernel takes it.
    pub(crate) fn rule(&self) -> Rule {
        let rule = self
            .tests
            .iter()
            .fold(Rule::new(), |rule, test| match test {
                Test::Ipv6(true) => rule.ipv6(),
                Test::Ipv6(false) => rule.ipv4(),
                Test::InSet {
                    fields,
                    set,
                    inside,
                } => rule.in_set(set, fields, *inside),
                Test::Established => rule.state(State::ESTABLISHED.or(State::RELATED)),
                Test::Translated => rule.destination_changed(),
                Test::Local => rule.to_this_host(),
                Test::From(network) => rule.from_network(*network, true),
                Test::To(network) => rule.to_network(*network, true),
                Test::Protocol(number) => rule.protocol(*number),
                Test::FromKind(kind, equal) => rule.from_kind(kind, *equal),
                Test::ToKind(kind, equal) => rule.to_kind(kind, *equal),
                Test::Is(field, bytes, equal) => rule.is(*field, bytes, *equal),
            });
        let rule = match &self.action {
            Action::Accept => rule.verdict(Verdict::Accept),
            Action::Drop => rule.count().verdict(Verdict::Drop),
            Action::Masquerade => rule.masquerade(),
            Action::Destination {
                fields,
                map,
                ipv6,
                port: true,
            } => rule.destination_of(map, fields, *ipv6),
            Action::Destination {
                fields,
                map,
                ipv6,
                port: false,
            } => rule.address_of(map, fields, *ipv6),
            Action::Source { fields, map, ipv6 } => rule.source_of(map, fields, *ipv6),
        };
        rule.comment(self.why)
    }
}

/// A chain whose end lets the packet go on.
pub(crate) fn base(
    kind: havre_netlink::nft::ChainKind,
    hook: havre_netlink::nft::Hook,
    priority: i32,
) -> Base {
    Base {
        kind,
        hook,
        priority,
        policy: Policy::Accept,
    }
}
