//! The chains and sets: what every engine's table looks like, whatever its networks are.
//!
//! A drop of any table is final in nftables, an accept only ends one chain: so every rule of the administrator that drops
//! a packet on its way holds for containers too, whatever stands here (SECURITY N22). What arrives for a published port
//! never reaches the host's input chains; `host.rs` sees to those.

use havre_netlink::nft::{ChainKind, Field, Hook, Type};
use havre_types::Cidr;

use super::model::Settings;
use super::table::{Action, Chain, Collection, Line, Test, base};

/// The chain that keeps loopback addresses on the host.
const RAW_CHAIN: &str = "raw";

/// Before connections are tracked (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// Where destinations are changed (`NF_IP_PRI_NAT_DST`).
const DESTINATION: i32 = -100;
/// Plain filters (`NF_IP_PRI_FILTER`).
const FILTER: i32 = 0;
/// Where sources are changed (`NF_IP_PRI_NAT_SRC`).
const SOURCE: i32 = 100;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

const IN: &[Field] = &[Field::InputInterface];
const OUT: &[Field] = &[Field::OutputInterface];
const BOTH: &[Field] = &[Field::InputInterface, Field::OutputInterface];
const PORT: &[Field] = &[Field::Protocol, Field::DestinationPort];
const SELF4: &[Field] = &[Field::Source4, Field::Destination4];
const SELF6: &[Field] = &[Field::Source6, Field::Destination6];
const PORT_AT4: &[Field] = &[Field::Destination4, Field::Protocol, Field::DestinationPort];
const PORT_AT6: &[Field] = &[Field::Destination6, Field::Protocol, Field::DestinationPort];

/// The sets and maps.
pub(crate) fn collections(settings: Settings) -> Vec<Collection> {
    let set = |name, key, interval| Collection {
        name,
        key,
        value: None,
        interval,
    };
    let map = |name, key, value, interval| Collection {
        name,
        key,
        value: Some(value),
        interval,
    };
    const NAME: &[Type] = &[Type::Interface];
    const NAMES: &[Type] = &[Type::Interface, Type::Interface];
    const PORT: &[Type] = &[Type::Protocol, Type::Port];
    const AT4: &[Type] = &[Type::Ipv4, Type::Protocol, Type::Port];
    const AT6: &[Type] = &[Type::Ipv6, Type::Protocol, Type::Port];
    const TO4: &[Type] = &[Type::Ipv4, Type::Port];
    const TO6: &[Type] = &[Type::Ipv6, Type::Port];
    const PAIR4: &[Type] = &[Type::Ipv4, Type::Ipv4];
    const PAIR6: &[Type] = &[Type::Ipv6, Type::Ipv6];
    const V4: &[Type] = &[Type::Ipv4];
    const V6: &[Type] = &[Type::Ipv6];
    let mut guards = Vec::new();
    for (guarded, name) in GUARDS.map(|(ipv6, name)| (settings.guards(ipv6), name)) {
        guards.extend(guarded.then(|| set(name, NAME, false)));
    }
    let mut all = vec![
        set("bridges", NAME, false),
        set("inside", NAMES, false),
        set("closed", NAMES, false),
        set("internal", NAME, false),
        set("trusted", NAMES, false),
        set("routed4", NAME, false),
        set("routed6", NAME, false),
        set("direct4", NAME, false),
        set("direct6", NAME, false),
        set("unprotected4", NAME, false),
        set("unprotected6", NAME, false),
        set("guarded4", AT4, true),
        set("guarded6", AT6, true),
        set("open4", AT4, true),
        set("open6", AT6, true),
        set("self4", PAIR4, false),
        set("self6", PAIR6, false),
        set("masquerade4", V4, true),
        set("masquerade6", V6, true),
        map("source4", V4, V4, true),
        map("source6", V6, V6, true),
        map("ports4", PORT, TO4, false),
        map("ports6", PORT, TO6, false),
        map("ports-at4", AT4, TO4, false),
        map("ports-at6", AT6, TO6, false),
        map("ranges4", PORT, V4, true),
        map("ranges6", PORT, V6, true),
        map("ranges-at4", AT4, V4, true),
        map("ranges-at6", AT6, V6, true),
    ];
    all.extend(guards);
    all
}

/// Empty sets that tell the next engine that this one made the host forward packets.
pub(crate) const GUARDS: [(bool, &str); 2] = [(false, "guards4"), (true, "guards6")];

/// The chains.
pub(crate) fn chains(settings: Settings) -> Vec<Chain> {
    let mut chains = own_chains(settings);
    let left = [false, true].map(|ipv6| settings.leaves(ipv6).then_some(Test::Ipv6(ipv6)));
    let leave = |test| Line::new(vec![test], Action::Accept, "left to the administrator");
    let first: Vec<Line> = left.into_iter().flatten().map(leave).collect();
    // Whoever makes the rules: the host's loopback is closed for containers.
    for chain in chains.iter_mut().filter(|chain| chain.name != RAW_CHAIN) {
        chain.lines.splice(..0, first.iter().cloned());
    }
    chains
}

/// The chains, were no family left to the administrator.
fn own_chains(settings: Settings) -> Vec<Chain> {
    vec![
        Chain {
            name: RAW_CHAIN,
            base: base(ChainKind::Filter, Hook::Prerouting, RAW),
            lines: raw(),
        },
        Chain {
            name: "prerouting",
            base: base(ChainKind::Nat, Hook::Prerouting, DESTINATION),
            lines: destinations(true),
        },
        Chain {
            name: "output",
            base: base(ChainKind::Nat, Hook::Output, DESTINATION),
            lines: destinations(false),
        },
        Chain {
            name: "forward",
            base: base(ChainKind::Filter, Hook::Forward, FILTER),
            lines: forward(settings),
        },
        Chain {
            name: "postrouting",
            base: base(ChainKind::Nat, Hook::Postrouting, SOURCE),
            lines: sources(),
        },
    ]
}

fn within(fields: &'static [Field], set: &'static str) -> Test {
    Test::InSet {
        fields,
        set,
        inside: true,
    }
}

fn outside(fields: &'static [Field], set: &'static str) -> Test {
    Test::InSet {
        fields,
        set,
        inside: false,
    }
}

fn network(text: &str) -> Option<Cidr> {
    text.parse().ok()
}

fn loopback() -> Option<Cidr> {
    network("127.0.0.0/8")
}

/// The bridges accept packets for 127.0.0.0/8 so that the host reaches published ports there (`route_localnet`): nothing
/// of that may come from a container itself (CVE-2020-8558).
fn raw() -> Vec<Line> {
    let why = "loopback addresses stay on the host";
    let tests = [loopback().map(Test::To), loopback().map(Test::From)];
    let lines = tests.into_iter().flatten();
    lines
        // Nearly no packet has such an address: the cheaper question first.
        .map(|test| Line::new(vec![test, within(IN, "bridges")], Action::Drop, why))
        .collect()
}

/// Published ports. What arrives from outside for a loopback address is never translated (SECURITY N03); on the host
/// itself ::1 is not, because the kernel does not route from it.
fn destinations(arriving: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut leave = |test: Option<Test>, why| {
        lines.extend(test.map(|test| Line::new(vec![test], Action::Accept, why)));
    };
    if arriving {
        leave(loopback().map(Test::To), "not from outside");
        let link_local = network("fe80::/10").map(Test::From);
        leave(link_local, "link-local is not routed");
    } else {
        leave(network("::1/128").map(Test::To), "the relay's");
    }
    for (ipv6, at, maps) in [
        (
            false,
            PORT_AT4,
            ["ports-at4", "ranges-at4", "ports4", "ranges4"],
        ),
        (
            true,
            PORT_AT6,
            ["ports-at6", "ranges-at6", "ports6", "ranges6"],
        ),
    ] {
        let [ports_at, ranges_at, ports, ranges] = maps;
        let mut publish = |tests: Vec<Test>, fields, map, port| {
            let action = Action::Destination {
                fields,
                map,
                ipv6,
                port,
            };
            lines.push(Line::new(tests, action, "published"));
        };
        let family = || vec![Test::Ipv6(ipv6)];
        let here = || vec![Test::Ipv6(ipv6), Test::Local];
        publish(family(), at, ports_at, true);
        publish(family(), at, ranges_at, false);
        publish(here(), PORT, ports, true);
        publish(here(), PORT, ranges, false);
    }
    lines
}

fn forward(settings: Settings) -> Vec<Line> {
    // First, because most packets end here.
    let mut lines = vec![Line::new(
        vec![Test::Established],
        Action::Accept,
        "under way",
    )];
    for ipv6 in [false, true] {
        if settings.guards(ipv6) {
            // Bridges of other engines and of the administrator are theirs.
            let tests = vec![
                Test::Ipv6(ipv6),
                outside(IN, "bridges"),
                outside(OUT, "bridges"),
                Test::FromKind("bridge", false),
                Test::ToKind("bridge", false),
            ];
            lines.push(Line::new(tests, Action::Drop, "this host is no router"));
        }
    }
    let mut line = |tests, action, why| lines.push(Line::new(tests, action, why));
    line(
        vec![outside(IN, "bridges"), outside(OUT, "bridges")],
        Action::Accept,
        "not for containers",
    );
    line(
        vec![within(IN, "internal"), outside(BOTH, "inside")],
        Action::Drop,
        "out of an internal network",
    );
    line(
        vec![within(OUT, "internal"), outside(BOTH, "inside")],
        Action::Drop,
        "into an internal network",
    );
    line(
        vec![within(OUT, "bridges"), Test::Translated],
        Action::Accept,
        "published",
    );
    line(
        vec![within(BOTH, "closed")],
        Action::Drop,
        "no talk between containers (icc)",
    );
    line(
        vec![within(BOTH, "inside")],
        Action::Accept,
        "the same network",
    );
    for (ipv6, icmp, at, [routed, direct, open, unprotected]) in [
        (
            false,
            ICMP,
            PORT_AT4,
            ["routed4", "direct4", "open4", "unprotected4"],
        ),
        (
            true,
            ICMPV6,
            PORT_AT6,
            ["routed6", "direct6", "open6", "unprotected6"],
        ),
    ] {
        let family = Test::Ipv6(ipv6);
        let tests = vec![family.clone(), within(OUT, routed), Test::Protocol(icmp)];
        line(tests, Action::Accept, "routed");
        let tests = vec![family.clone(), within(OUT, direct), within(at, open)];
        line(tests, Action::Accept, "published, directly");
        let tests = vec![family.clone(), within(BOTH, "trusted"), within(at, open)];
        line(tests, Action::Accept, "published, from a trusted interface");
        let tests = vec![family, within(OUT, unprotected)];
        line(tests, Action::Accept, "unprotected");
    }
    line(
        vec![within(OUT, "bridges")],
        Action::Drop,
        "not published, or another network",
    );
    lines
}

fn sources() -> Vec<Line> {
    let mut lines = vec![Line::new(
        vec![within(BOTH, "inside"), Test::Translated],
        Action::Masquerade,
        "back into the network it came from",
    )];
    // With br_netfilter such a packet never leaves the bridge, and the interface by which it came is not known here. From
    // one container to another that works without more; a container drops what seems to come from itself.
    for (ipv6, set, fields) in [(false, "self4", SELF4), (true, "self6", SELF6)] {
        lines.push(Line::new(
            vec![Test::Ipv6(ipv6), within(fields, set), Test::Translated],
            Action::Masquerade,
            "back to itself",
        ));
    }
    if let Some(loopback) = loopback() {
        lines.push(Line::new(
            vec![Test::From(loopback), within(OUT, "bridges")],
            Action::Masquerade,
            "from the host's loopback",
        ));
    }
    const FROM4: &[Field] = &[Field::Source4];
    const FROM6: &[Field] = &[Field::Source6];
    for (ipv6, from, source, masquerade) in [
        (false, FROM4, "source4", "masquerade4"),
        (true, FROM6, "source6", "masquerade6"),
    ] {
        let leaves = || {
            vec![
                Test::Ipv6(ipv6),
                within(IN, "bridges"),
                outside(BOTH, "inside"),
            ]
        };
        let action = Action::Source {
            fields: from,
            map: source,
            ipv6,
        };
        lines.push(Line::new(leaves(), action, "leaves by a chosen address"));
        let mut tests = leaves();
        tests.push(within(from, masquerade));
        lines.push(Line::new(tests, Action::Masquerade, "leaves"));
    }
    lines
}
