//! Whose frames a container may send: its own. For networks that ask for it, what comes by a container's cable and names
//! another hardware or IP address as the one that it comes from goes no further than the cable (SECURITY N08).
//!
//! The chain never changes, and says nothing about cables that are not in its sets. What a container says about its
//! neighbours is checked as well: by ARP, by neighbour discovery (RFC 4861), and that it is no router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use havre_netlink::nft::{ChainKind, Field, Hook, Type};
use havre_types::{Cidr, MacAddress};

use super::table::{Action, Atom, Chain, Collection, Item, Items, Line, Table, Test, base};
use crate::driver::mac_of;
use crate::spec::EndpointSpec;

/// The first place for a frame that arrives, before br_netfilter shows it to the tables of IP.
const FIRST: i32 = -300;

const ARP: &[u8] = &[0x08, 0x06];
const IPV4: &[u8] = &[0x08, 0x00];
const IPV6: &[u8] = &[0x86, 0xdd];
/// Hardware is Ethernet, the protocol is IPv4, lengths are 6 and 4: at other places nobody looks.
const OF_IPV4: &[u8] = &[0, 1, 0x08, 0, 6, 4];
const ICMPV6: u8 = 58;
const ROUTER_ADVERTISEMENT: &[u8] = &[134];
const SOLICITATION: &[u8] = &[135];
const ADVERTISEMENT: &[u8] = &[136];
const REDIRECT: &[u8] = &[137];
const UNSPECIFIED: &[u8] = &[0; 16];

const CABLE: &[Field] = &[Field::InputInterface];
const HARDWARE: &[Field] = &[Field::InputInterface, Field::SourceHardware];
const ARP_HARDWARE: &[Field] = &[Field::InputInterface, Field::ArpHardware];
const ARP_ADDRESS: &[Field] = &[Field::InputInterface, Field::ArpAddress];
const SOURCE4: &[Field] = &[Field::InputInterface, Field::Source4];
const SOURCE6: &[Field] = &[Field::InputInterface, Field::Source6];
const TARGET: &[Field] = &[Field::InputInterface, Field::NeighbourTarget];

/// The whole table.
pub(super) fn table(items: Items) -> Table {
    let set = |name, key| Collection {
        name,
        key,
        value: None,
        interval: false,
    };
    Table {
        collections: vec![
            set("cables", &[Type::Interface]),
            set("hardware", &[Type::Interface, Type::Hardware]),
            set("own4", &[Type::Interface, Type::Ipv4]),
            set("own6", &[Type::Interface, Type::Ipv6]),
        ],
        chains: vec![Chain {
            name: "sources",
            base: base(ChainKind::Filter, Hook::Prerouting, FIRST),
            lines: lines(),
        }],
        items,
    }
}

/// What an end may name as its own behind its cable.
pub(super) fn of_cable(cable: &str, end: &EndpointSpec) -> Items {
    let name = || Atom::Interface(cable.to_owned());
    let mut items = Items::new();
    let mut put = |set, key| {
        items.entry(set).or_default().insert(Item::member(key));
    };
    put("cables", vec![name()]);
    let hardware = mac_of(end);
    if let Some(hardware) = hardware {
        put("hardware", vec![name(), Atom::Hardware(hardware)]);
    }
    let own = end.ipv4.into_iter().chain(end.ipv6).map(Cidr::address);
    let own: Vec<IpAddr> = own.chain(end.link_local.iter().copied()).collect();
    for address in &own {
        let set = if address.is_ipv6() { "own6" } else { "own4" };
        put(set, vec![name(), Atom::Address(*address)]);
    }
    // Who asks whether an address is free, or for one, has none yet.
    if own.iter().any(IpAddr::is_ipv4) {
        let nobody = Atom::Address(Ipv4Addr::UNSPECIFIED.into());
        put("own4", vec![name(), nobody]);
    }
    if own.iter().any(IpAddr::is_ipv6) {
        let link = hardware.map(|hardware| IpAddr::V6(link_local(hardware)));
        for address in link.into_iter().chain([Ipv6Addr::UNSPECIFIED.into()]) {
            put("own6", vec![name(), Atom::Address(address)]);
        }
    }
    items
}

/// The address that the kernel gives an interface by itself (RFC 4291, appendix A).
fn link_local(MacAddress([a, b, c, d, e, f]): MacAddress) -> Ipv6Addr {
    let low = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(u64::from_be_bytes(low)))
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |tests, action, why| lines.push(Line::new(tests, action, why));
    let foreign = |fields, set| Test::InSet {
        fields,
        set,
        inside: false,
    };
    let carries = |kind| Test::Is(Field::EtherType, kind, true);
    let icmpv6 = |kind| {
        vec![
            carries(IPV6),
            Test::Protocol(ICMPV6),
            Test::Is(Field::Icmp6Type, kind, true),
        ]
    };
    line(
        vec![foreign(CABLE, "cables")],
        Action::Accept,
        "not checked",
    );
    line(
        vec![foreign(HARDWARE, "hardware")],
        Action::Drop,
        "from the hardware address of another",
    );
    for (test, why) in [
        (
            Test::Is(Field::ArpForm, OF_IPV4, false),
            "ARP about something else than IPv4",
        ),
        (
            foreign(ARP_HARDWARE, "hardware"),
            "ARP for the hardware address of another",
        ),
        (
            foreign(ARP_ADDRESS, "own4"),
            "ARP for the address of another",
        ),
    ] {
        line(vec![carries(ARP), test], Action::Drop, why);
    }
    for (kind, fields, set) in [(IPV4, SOURCE4, "own4"), (IPV6, SOURCE6, "own6")] {
        line(
            vec![carries(kind), foreign(fields, set)],
            Action::Drop,
            "from the address of another",
        );
    }
    for kind in [ROUTER_ADVERTISEMENT, REDIRECT] {
        line(icmpv6(kind), Action::Drop, "says that it is a router");
    }
    let neighbour = foreign(TARGET, "own6");
    let mut tests = icmpv6(ADVERTISEMENT);
    tests.push(neighbour.clone());
    line(
        tests,
        Action::Drop,
        "says that it has the address of another",
    );
    // Who gets an address hears such a question as: somebody has it already.
    let mut tests = icmpv6(SOLICITATION);
    tests.extend([Test::Is(Field::Source6, UNSPECIFIED, true), neighbour]);
    line(tests, Action::Drop, "claims the address of another");
    for kind in [ARP, IPV4, IPV6] {
        line(vec![carries(kind)], Action::Accept, "its own");
    }
    line(
        Vec::new(),
        Action::Drop,
        "neither ARP nor IP: nothing of it can be checked",
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_its_addresses_and_no_others() {
        let names = |items: &Items| -> Vec<(&str, usize)> {
            items.iter().map(|(set, all)| (*set, all.len())).collect()
        };
        let mut end = EndpointSpec {
            ipv4: "172.30.0.2/16".parse().ok(),
            ..EndpointSpec::default()
        };
        let items = of_cable("vh0", &end);
        assert_eq!(names(&items), [("cables", 1), ("hardware", 1), ("own4", 2)]);
        end.ipv6 = "fd00::2/64".parse().ok();
        end.link_local = vec!["169.254.7.7".parse().unwrap()];
        let items = of_cable("vh0", &end);
        assert_eq!(
            names(&items),
            [("cables", 1), ("hardware", 1), ("own4", 3), ("own6", 3)]
        );
        let link: IpAddr = "fe80::42:acff:fe1e:2".parse().unwrap();
        let member = Item::member(vec![Atom::Interface("vh0".to_owned()), Atom::Address(link)]);
        assert!(items["own6"].contains(&member), "{items:?}");
    }
}
