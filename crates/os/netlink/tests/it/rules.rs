//! nftables, with `nft list ruleset` as the judge.

use havre_netlink::nft::{
    Base, Batch, ChainKind, Element, Family, Field, Hook, Nft, Part, Policy, Rule, Set, State,
    Type, Value, Verdict,
};
use havre_types::Cidr;

use crate::support::{in_namespace, output};

const TABLE: &str = "havre-test";

fn base(kind: ChainKind, hook: Hook, priority: i32, policy: Policy) -> Option<Base> {
    Some(Base {
        kind,
        hook,
        priority,
        policy,
    })
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn listed() -> String {
    output("nft", &["list", "ruleset"])
}

/// A table with a chain of each kind.
fn chains() -> Batch {
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.add_table();
    batch.add_chain(
        "filter",
        base(ChainKind::Filter, Hook::Forward, -5, Policy::Drop),
    );
    batch.add_chain(
        "dnat",
        base(ChainKind::Nat, Hook::Prerouting, -100, Policy::Accept),
    );
    batch.add_chain(
        "snat",
        base(ChainKind::Nat, Hook::Postrouting, 100, Policy::Accept),
    );
    batch.add_chain("called", None);
    batch
}

/// Rules, and how nft writes them.
fn examples() -> Vec<(&'static str, Rule)> {
    let accept = || Verdict::Accept;
    vec![
        (
            "iifname \"br0\" oifname != \"br0\" counter packets 0 bytes 0 accept",
            Rule::new()
                .from_interface("br0")
                .not_to_interface("br0")
                .count()
                .verdict(accept()),
        ),
        (
            "ip saddr 172.17.0.0/16 oifname != \"br0\" accept",
            Rule::new()
                .from_network(cidr("172.17.0.5/16"), true)
                .not_to_interface("br0")
                .verdict(accept()),
        ),
        (
            "ip6 daddr != fd00::/64 drop",
            Rule::new()
                .to_network(cidr("fd00::/64"), false)
                .verdict(Verdict::Drop),
        ),
        (
            "ct state established,related accept",
            Rule::new()
                .state(State::ESTABLISHED.or(State::RELATED))
                .verdict(accept()),
        ),
        (
            "ct status dnat accept",
            Rule::new().destination_changed().verdict(accept()),
        ),
        (
            "fib daddr type local jump called",
            Rule::new()
                .to_this_host()
                .verdict(Verdict::Jump("called".to_owned())),
        ),
        (
            "meta l4proto tcp tcp dport 80 reject with icmpx admin-prohibited",
            Rule::new().protocol(6).to_port(80).reject(),
        ),
        ("meta mark set 0x0000002a", Rule::new().mark(42)),
        (
            "meta mark 0x0000002a return comment \"why\"",
            Rule::new()
                .marked(42)
                .verdict(Verdict::Return)
                .comment("why"),
        ),
    ]
}

#[test]
fn rules_are_what_nft_reads() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = chains();
        let rules = examples();
        for (_, rule) in &rules {
            batch.add_rule("filter", rule);
        }
        batch.add_rule(
            "snat",
            &Rule::new()
                .from_network(cidr("10.0.0.0/8"), true)
                .masquerade(),
        );
        batch.add_rule(
            "snat",
            &Rule::new()
                .ipv4()
                .source_becomes("192.0.2.1".parse().unwrap()),
        );
        nft.commit(batch).unwrap();
        let told = listed();
        for (text, _) in &rules {
            assert!(
                simplified(&told).contains(&simplified(text)),
                "`{text}` is not in\n{told}"
            );
        }
        assert!(
            told.contains("type filter hook forward priority filter - 5; policy drop;"),
            "{told}"
        );
        assert!(told.contains("ip saddr 10.0.0.0/8 masquerade"), "{told}");
        assert!(
            told.contains("snat ip to 192.0.2.1") || told.contains("snat to 192.0.2.1"),
            "{told}"
        );
    });
}

/// Versions of nft differ in whether they repeat the protocol.
fn simplified(text: &str) -> String {
    text.replace("meta l4proto tcp ", "")
        .replace("meta l4proto 6 ", "")
}

#[test]
fn maps_publish_ports() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = chains();
        let ports = Set {
            name: "ports4",
            key: &[Type::Ipv4, Type::Protocol, Type::Port],
            value: Some(Value::Data(&[Type::Ipv4, Type::Port])),
            interval: false,
        };
        batch.add_set(&ports);
        let fields = [Field::Destination4, Field::Protocol, Field::DestinationPort];
        batch.add_rule(
            "dnat",
            &Rule::new().ipv4().destination_of("ports4", &fields, false),
        );
        nft.commit(batch).unwrap();
        let published = |port| {
            let key = [
                Part::Address("192.0.2.1".parse().unwrap()),
                Part::Protocol(6),
                Part::Port(port),
            ];
            Element::key(&key)
                .with_data(&[Part::Address("172.17.0.2".parse().unwrap()), Part::Port(80)])
        };
        let mut batch = Batch::new(Family::Inet, TABLE);
        let elements: Vec<Element> = (8000..9000).map(published).collect();
        batch.add_elements("ports4", &elements);
        nft.commit(batch).unwrap();
        let told = listed();
        assert!(
            told.contains("192.0.2.1 . tcp . 8080 : 172.17.0.2 . 80"),
            "{told}"
        );
        assert!(
            told.contains("dnat ip to ip daddr . meta l4proto . th dport map @ports4"),
            "{told}"
        );
        assert_eq!(nft.keys(Family::Inet, TABLE, "ports4").unwrap().len(), 1000);
        let mut batch = Batch::new(Family::Inet, TABLE);
        batch.remove_elements("ports4", &elements[1..]);
        nft.commit(batch).unwrap();
        assert_eq!(
            nft.keys(Family::Inet, TABLE, "ports4").unwrap(),
            [elements[0].key_bytes()]
        );
    });
}

#[test]
fn sets_of_interfaces_and_networks() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = chains();
        let bridges = Set {
            name: "bridges",
            key: &[Type::Interface],
            value: Some(Value::Verdict),
            interval: false,
        };
        batch.add_set(&bridges);
        batch.add_set(&Set {
            name: "inside",
            key: &[Type::Ipv4],
            value: None,
            interval: true,
        });
        batch.add_set(&Set {
            name: "pairs",
            key: &[Type::Interface, Type::Interface],
            value: None,
            interval: false,
        });
        let name = |text: &str| Part::Interface(text.to_owned());
        batch.add_elements(
            "bridges",
            &[Element::key(&[name("br0")]).with_verdict(Verdict::Goto("called".to_owned()))],
        );
        batch.add_elements(
            "inside",
            &[
                Element::network(cidr("10.1.0.0/16")),
                Element::network(cidr("255.255.255.0/24")),
            ]
            .concat(),
        );
        batch.add_elements("pairs", &[Element::key(&[name("br0"), name("br1")])]);
        batch.add_rule(
            "filter",
            &Rule::new().verdict_of("bridges", &[Field::OutputInterface]),
        );
        batch.add_rule(
            "filter",
            &Rule::new()
                .ipv4()
                .in_set("inside", &[Field::Source4], false)
                .verdict(Verdict::Drop),
        );
        let both = [Field::InputInterface, Field::OutputInterface];
        batch.add_rule(
            "filter",
            &Rule::new()
                .in_set("pairs", &both, true)
                .verdict(Verdict::Accept),
        );
        nft.commit(batch).unwrap();
        let told = listed();
        for text in [
            "\"br0\" : goto called",
            "10.1.0.0/16, 255.255.255.0/24",
            "oifname vmap @bridges",
            "ip saddr != @inside drop",
            "iifname . oifname @pairs accept",
        ] {
            assert!(told.contains(text), "`{text}` is not in\n{told}");
        }
    });
}

#[test]
fn a_batch_is_all_or_nothing() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = chains();
        batch.add_rule("nowhere", &Rule::new().count());
        let error = nft.commit(batch).unwrap_err();
        assert!(error.is_absent(), "{error}");
        assert!(nft.tables(Family::Inet).unwrap().is_empty());
        nft.commit(chains()).unwrap();
        // What is there already is no error, and the socket is as good as before.
        nft.commit(chains()).unwrap();
        assert_eq!(nft.tables(Family::Inet).unwrap(), [TABLE]);
        assert_eq!(nft.chains(Family::Inet).unwrap().len(), 4);
        // A table is rebuilt in one step.
        let mut batch = Batch::new(Family::Inet, TABLE);
        batch.remove_table();
        batch.add_table();
        batch.add_chain("only", None);
        nft.commit(batch).unwrap();
        let chains = nft.chains(Family::Inet).unwrap();
        assert_eq!(
            chains
                .iter()
                .map(|chain| chain.name.as_str())
                .collect::<Vec<_>>(),
            ["only"]
        );
        let mut batch = Batch::new(Family::Inet, TABLE);
        batch.remove_table();
        nft.commit(batch).unwrap();
        assert!(nft.tables(Family::Inet).unwrap().is_empty());
    });
}

#[test]
fn a_large_batch_goes_in_one_piece() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = chains();
        for number in 0..10_000_u16 {
            batch.add_rule(
                "called",
                &Rule::new()
                    .protocol(17)
                    .to_port(number)
                    .count()
                    .verdict(Verdict::Return),
            );
        }
        nft.commit(batch).unwrap();
        let told = output("nft", &["list", "chain", "inet", TABLE, "called"]);
        assert_eq!(told.matches("return").count(), 10_000);
    });
}
