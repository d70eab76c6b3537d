//! The rules decide what the policy says, for whatever networks and packets (SECURITY F33): the table is evaluated here as
//! the kernel does it, and the policy is written down a second time, in other words.

use std::net::IpAddr;

use havre_netlink::nft::{ChainKind, Field, Hook};
use havre_types::Cidr;
use proptest::prelude::*;

use super::model::{Model, Settings, runs};
use super::table::{Action, Atom, Chain, Item, Key, Line, Table, Test};
use crate::spec::{
    BridgeOptions, Driver, EndpointSpec, GatewayMode, NetworkSpec, Protocol, Publication, Subnet,
};

/// A new connection's first packet.
#[derive(Debug, Clone)]
struct Packet {
    from: String,
    to: String,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    port: u16,
    /// The destination is an address of this host.
    local: bool,
    translated: bool,
}

impl Packet {
    fn atom(&self, field: Field) -> Option<Atom> {
        let family = |ipv6: bool, address: IpAddr| {
            (address.is_ipv6() == ipv6).then_some(Atom::Address(address))
        };
        Some(match field {
            Field::Protocol => Atom::Protocol(self.protocol),
            Field::DestinationPort => Atom::Port(self.port),
            Field::Source4 => family(false, self.source)?,
            Field::Source6 => family(true, self.source)?,
            Field::Destination4 => family(false, self.destination)?,
            Field::Destination6 => family(true, self.destination)?,
            Field::InputInterface => Atom::Interface(self.from.clone()),
            Field::OutputInterface => Atom::Interface(self.to.clone()),
            _ => return None,
        })
    }

    fn key(&self, fields: &[Field]) -> Vec<Atom> {
        let atoms = fields.iter().map(|field| self.atom(*field));
        atoms
            .map(|atom| atom.expect("rules read only what is there"))
            .collect()
    }
}

fn kind(interface: &str) -> &'static str {
    if interface.starts_with("br") {
        "bridge"
    } else {
        ""
    }
}

fn found<'a>(table: &'a Table, set: &str, key: &[Atom]) -> Option<&'a Item> {
    let items = table.items.get(set)?;
    items.iter().find(|item| match &item.key {
        Key::One(own) => own == key,
        Key::Network(cidr) => matches!(key, [Atom::Address(one)] if cidr.contains(*one)),
        Key::Range(first, last) => key
            .iter()
            .zip(first.iter().zip(last))
            .all(|(one, (first, last))| first <= one && one <= last),
    })
}

fn holds(table: &Table, test: &Test, packet: &Packet) -> bool {
    match test {
        Test::Ipv6(ipv6) => packet.destination.is_ipv6() == *ipv6,
        Test::InSet {
            fields,
            set,
            inside,
        } => found(table, set, &packet.key(fields)).is_some() == *inside,
        Test::Established => false,
        Test::Translated => packet.translated,
        Test::Local => packet.local,
        Test::From(network) => network.contains(packet.source),
        Test::To(network) => network.contains(packet.destination),
        Test::Protocol(number) => packet.protocol == *number,
        Test::FromKind(word, equal) => (kind(&packet.from) == *word) == *equal,
        Test::ToKind(word, equal) => (kind(&packet.to) == *word) == *equal,
        Test::Is(..) => panic!("a test on frames, in a table of packets"),
    }
}

/// What a chain does with a packet; false when it drops it.
fn pass(table: &Table, chain: &Chain, packet: &mut Packet, masqueraded: &mut bool) -> bool {
    for Line { tests, action, .. } in &chain.lines {
        if !tests.iter().all(|test| holds(table, test, packet)) {
            continue;
        }
        match action {
            Action::Accept => return true,
            Action::Drop => return false,
            Action::Masquerade => {
                *masqueraded = true;
                return true;
            }
            Action::Source { fields, map, .. } => {
                if found(table, map, &packet.key(fields)).is_some() {
                    *masqueraded = true;
                    return true;
                }
            }
            Action::Destination { fields, map, .. } => {
                let Some(item) = found(table, map, &packet.key(fields)) else {
                    continue;
                };
                let [Atom::Address(address), rest @ ..] = item.value.as_slice() else {
                    panic!("a map of addresses");
                };
                packet.destination = *address;
                if let [Atom::Port(port)] = rest {
                    packet.port = *port;
                }
                packet.translated = true;
                packet.local = false;
                return true;
            }
        }
    }
    true
}

/// What becomes of a packet that arrives: where it is forwarded to, and whether with an address of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Dropped,
    /// It is for the host itself.
    Host,
    Forwarded {
        to: IpAddr,
        port: u16,
        masqueraded: bool,
    },
}

/// The bridge whose network an address is of, or else the uplink.
fn way(model: &Model, address: IpAddr) -> String {
    let mut networks = model.networks.values();
    let own = networks.find(|network| network.subnets().any(|one| one.cidr.contains(address)));
    let bridge = own.and_then(|network| network.bridge());
    bridge.map_or("uplink".to_owned(), |options| options.interface.clone())
}

fn by_rules(model: &Model, mut packet: Packet) -> Fate {
    let table = model.table();
    let mut masqueraded = false;
    for (hook, kind) in [
        (Hook::Prerouting, ChainKind::Filter),
        (Hook::Prerouting, ChainKind::Nat),
        (Hook::Forward, ChainKind::Filter),
        (Hook::Postrouting, ChainKind::Nat),
    ] {
        if hook == Hook::Forward {
            if packet.local {
                return Fate::Host;
            }
            packet.to = way(model, packet.destination);
        }
        let mut chains = table.chains.iter();
        let chain = chains.find(|chain| chain.base.hook == hook && chain.base.kind == kind);
        let chain = chain.expect("a chain at every hook");
        if !pass(&table, chain, &mut packet, &mut masqueraded) {
            return Fate::Dropped;
        }
    }
    Fate::Forwarded {
        to: packet.destination,
        port: packet.port,
        masqueraded,
    }
}

/// The policy, in words of networks.
fn by_policy(model: &Model, packet: &Packet) -> Fate {
    let network_of = |interface: &str| {
        let mut networks = model.networks.values();
        networks.find(|network| {
            network
                .bridge()
                .is_some_and(|one| one.interface == interface)
        })
    };
    let ipv6 = packet.destination.is_ipv6();
    let source = network_of(&packet.from);
    let loopback = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.is_loopback());
    if source.is_some() && (loopback(packet.destination) || loopback(packet.source)) {
        return Fate::Dropped;
    }
    if model.settings.leaves(ipv6) {
        return untouched(packet);
    }
    let published = published(model, packet);
    let (to, port) = published.unwrap_or((packet.destination, packet.port));
    if published.is_none() && packet.local {
        return Fate::Host;
    }
    let target = network_of(&way(model, to));
    let same = match (source, target) {
        (Some(one), Some(other)) => one.id == other.id,
        _ => false,
    };
    let open = |network: &NetworkSpec| {
        let mode = network.bridge().expect("a bridge").mode(ipv6);
        let own = model.endpoints.values().any(|end| {
            let mut ports = end.publications.iter();
            end.address(ipv6) == Some(to)
                && ports.any(|one| {
                    one.container_port == port
                        && one.protocol.number() == packet.protocol
                        && one.host.is_ipv6() == ipv6
                })
        });
        let direct = model.settings.direct_routing && mode == GatewayMode::Nat;
        match mode {
            GatewayMode::NatUnprotected => true,
            GatewayMode::Routed => own,
            GatewayMode::Nat | GatewayMode::Isolated => direct && own,
        }
    };
    let allowed = match (source, target) {
        (None, None) => {
            let guard = if ipv6 {
                model.settings.guard_ipv6
            } else {
                model.settings.guard_ipv4
            };
            !guard
        }
        (Some(from), _) if from.internal && !same => false,
        (_, Some(into)) if into.internal && !same => false,
        (_, Some(_)) if published.is_some() => true,
        (_, Some(network)) if same => network.bridge().expect("a bridge").icc,
        (_, Some(network)) => open(network),
        (Some(_), None) => true,
    };
    if !allowed {
        return Fate::Dropped;
    }
    let leaves = source.is_some_and(|from| {
        let options = from.bridge().expect("a bridge");
        let own = from.subnets().any(|one| one.cidr.contains(packet.source));
        own && !same
            && !from.internal
            && options.masquerade
            && options.mode(ipv6) != GatewayMode::Routed
    });
    Fate::Forwarded {
        to,
        port,
        masqueraded: leaves || (same && published.is_some()),
    }
}

/// What the kernel does without rules.
fn untouched(packet: &Packet) -> Fate {
    if packet.local {
        return Fate::Host;
    }
    Fate::Forwarded {
        to: packet.destination,
        port: packet.port,
        masqueraded: false,
    }
}

/// Where a published port of the host leads to.
fn published(model: &Model, packet: &Packet) -> Option<(IpAddr, u16)> {
    let ipv6 = packet.destination.is_ipv6();
    let from_outside = |address: IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(_) => true,
    };
    if !from_outside(packet.destination) {
        return None;
    }
    let mut found = None;
    for end in model.endpoints.values() {
        let network = model.networks.get(&end.network)?;
        let mode = network.bridge()?.mode(ipv6);
        let translates = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
        if network.internal || !translates {
            continue;
        }
        for one in &end.publications {
            let meant =
                one.host == packet.destination || (one.host.is_unspecified() && packet.local);
            let same = one.protocol.number() == packet.protocol && one.host_port == packet.port;
            if meant && same && one.host.is_ipv6() == ipv6 {
                found = Some((end.address(ipv6)?, one.container_port));
            }
        }
    }
    found
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn subnet(number: u8, ipv6: bool) -> Cidr {
    let text = if ipv6 {
        format!("fd00:{number}::/64")
    } else {
        format!("172.2{number}.0.0/16")
    };
    text.parse().expect("a subnet")
}

fn mode() -> impl Strategy<Value = GatewayMode> {
    prop_oneof![
        Just(GatewayMode::Nat),
        Just(GatewayMode::NatUnprotected),
        Just(GatewayMode::Routed),
    ]
}

fn network(number: u8) -> impl Strategy<Value = NetworkSpec> {
    (any::<[bool; 3]>(), mode(), mode()).prop_map(move |([icc, masquerade, internal], v4, v6)| {
        let part = |ipv6| Subnet {
            cidr: subnet(number, ipv6),
            gateway: subnet(number, ipv6).nth(1),
        };
        NetworkSpec {
            id: format!("n{number}"),
            name: format!("n{number}"),
            driver: Driver::Bridge(BridgeOptions {
                icc,
                masquerade,
                gateway_mode_ipv4: v4,
                gateway_mode_ipv6: v6,
                ..BridgeOptions::new(&format!("br{number}"))
            }),
            ipv4: vec![part(false)],
            ipv6: vec![part(true)],
            internal,
        }
    })
}

fn model() -> impl Strategy<Value = Model> {
    let networks = (network(0), network(1), network(2));
    let ports = prop::collection::vec(
        (0..3_u8, any::<bool>(), 0..3_usize, any::<bool>(), 0..3_u16),
        0..8,
    );
    let settings = (any::<[bool; 3]>(), any::<[bool; 2]>());
    (networks, ports, settings, any::<bool>()).prop_map(|((a, b, c), ports, settings, range)| {
        let ([guard_ipv4, guard_ipv6, direct_routing], [left_ipv4, left_ipv6]) = settings;
        let mut model = Model {
            settings: Settings {
                guard_ipv4,
                guard_ipv6,
                direct_routing,
                left_ipv4,
                left_ipv6,
            },
            ..Model::default()
        };
        for (number, network) in [a, b, c].into_iter().enumerate() {
            let number = u8::try_from(number).expect("three");
            let at = |ipv6: bool| {
                let host = subnet(number, ipv6).nth(5).expect("an address");
                Cidr::new(host, subnet(number, ipv6).prefix())
            };
            let end = EndpointSpec {
                network: network.id.clone(),
                id: format!("e{number}"),
                ipv4: at(false),
                ipv6: at(true),
                ..EndpointSpec::default()
            };
            model.endpoints.insert(end.id.clone(), end);
            model.networks.insert(network.id.clone(), network);
        }
        let mut taken = Vec::new();
        for (end, ipv6, host, udp, port) in ports {
            let hosts = if ipv6 {
                ["::", "2001:db8::1", "::1"]
            } else {
                ["0.0.0.0", "192.0.2.1", "127.0.0.1"]
            };
            let one = Publication {
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                host: address(hosts[host]),
                host_port: 8080 + port,
                container_port: 80 + port % 2,
            };
            // A port of the host has one holder: whoever claims ports sees to that.
            let key = (one.protocol, ipv6, one.host_port);
            if !taken.contains(&key) {
                taken.push(key);
                let own = model
                    .endpoints
                    .get_mut(&format!("e{end}"))
                    .expect("three ends");
                own.publications.push(one);
            }
        }
        if range {
            let own = model.endpoints.get_mut("e0").expect("an end");
            own.publications
                .extend((9000..9050).map(|port| Publication {
                    protocol: Protocol::Tcp,
                    host: address("0.0.0.0"),
                    host_port: port,
                    container_port: port,
                }));
        }
        model
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let from = prop_oneof![
        Just("uplink".to_owned()),
        Just("other".to_owned()),
        (0..3_u8).prop_map(|number| format!("br{number}")),
    ];
    let port = prop_oneof![80..82_u16, 8080..8083_u16, 8998..9052_u16];
    let number = prop_oneof![Just(6_u8), Just(17_u8)];
    (from, any::<bool>(), 0..7_u8, number, port).prop_map(|(from, ipv6, goal, protocol, port)| {
        let host = |number: u8| subnet(number, ipv6).nth(5).expect("an address");
        let pick = |v4: &str, v6: &str| address(if ipv6 { v6 } else { v4 });
        let source = match from.strip_prefix("br").and_then(|digit| digit.parse().ok()) {
            Some(number) => subnet(number, ipv6).nth(6).expect("an address"),
            None => pick("198.51.100.9", "2001:db8:9::9"),
        };
        let (destination, local) = match goal {
            0..3 => (host(goal), false),
            3 => (pick("192.0.2.1", "2001:db8::1"), true),
            4 => (pick("127.0.0.1", "::1"), true),
            5 => (subnet(1, ipv6).nth(1).expect("a gateway"), true),
            _ => (pick("203.0.113.7", "2001:db8:7::7"), false),
        };
        Packet {
            from,
            to: String::new(),
            source,
            destination,
            protocol,
            port,
            local,
            translated: false,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn rules_decide_what_the_policy_says(model in model(), packets in prop::collection::vec(packet(), 1..8)) {
        for packet in packets {
            // ::1 never arrives: the kernel drops it before all rules.
            if packet.destination == address("::1") {
                continue;
            }
            prop_assert_eq!(by_rules(&model, packet.clone()), by_policy(&model, &packet), "{:?}", packet);
        }
    }

    #[test]
    fn ports_in_runs_are_the_same_ports(ports in prop::collection::vec((any::<bool>(), 1..400_u16, any::<bool>()), 0..300)) {
        let ports: Vec<Publication> = ports
            .into_iter()
            .map(|(udp, port, kept)| Publication {
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                host: address("0.0.0.0"),
                host_port: port,
                container_port: if kept { port } else { 7 },
            })
            .collect();
        let mut back = Vec::new();
        for run in runs(&ports) {
            for step in 0..run.count {
                back.push(Publication {
                    host_port: run.first.host_port + step,
                    container_port: run.first.container_port + if run.count > 1 { step } else { 0 },
                    ..run.first
                });
            }
        }
        let mut ports = ports;
        for list in [&mut ports, &mut back] {
            list.sort_unstable();
            list.dedup();
        }
        prop_assert_eq!(ports, back);
    }
}
