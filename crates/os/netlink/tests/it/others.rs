//! What others do: their rules read and written again, their changes heard, connections forgotten.

use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use havre_netlink::nft::{
    Base, Batch, ChainKind, Change, Element, Family, Field, ForeignRule, ForeignSet, Hook, Nft,
    Part, Policy, Rule, Set, Tables, Type, Value, Verdict, Watch,
};
use havre_netlink::{Connections, Route};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::{in_namespace, output};

const TABLE: &str = "havre-test";

fn listed(family: &str, table: &str) -> String {
    output("nft", &["--stateless", "list", "table", family, table])
}

/// Rules with everything that a copy must carry: sets, maps of verdicts, jumps, limits.
const RULES: &str = "table inet admin {
    set good { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.1 }; }
    map ports { type inet_service : verdict; elements = { 22 : accept, 8080 : jump deny }; }
    chain deny { counter drop; }
    chain input {
        type filter hook input priority 5; policy drop;
        ct state established,related accept
        iifname \"lo\" accept
        ip saddr @good accept
        tcp dport { 80, 443, 9000-9100 } limit rate 5/second accept
        tcp dport vmap @ports
        meta l4proto udp reject with icmpx admin-prohibited
        ip protocol icmp goto deny
    }
}";

#[test]
fn rules_of_others_are_read_and_written_again() {
    in_namespace(|| {
        output("nft", &[RULES]);
        let mut nft = Nft::open().unwrap();
        let chains = nft.foreign_chains(Tables::Inet).unwrap();
        let input = chains.iter().find(|chain| chain.name == "input").unwrap();
        let base = input.base.as_ref().unwrap();
        assert_eq!(
            (base.hook, base.priority, base.policy),
            (Some(Hook::Input), 5, Policy::Drop)
        );
        assert_eq!(
            (input.table.as_str(), base.kind.as_str()),
            ("admin", "filter")
        );
        let deny = chains.iter().find(|chain| chain.name == "deny").unwrap();
        assert_eq!(deny.base, None);
        assert_eq!(nft.foreign_chains(Tables::Ipv4).unwrap(), []);
        let rules = nft.foreign_rules(Tables::Inet, "admin").unwrap();
        let sets = nft.foreign_sets(Tables::Inet, "admin").unwrap();
        assert_eq!(rules.len(), 8);
        let jumps: Vec<_> = sets.iter().flat_map(|set| set.verdicts()).collect();
        assert!(
            jumps.contains(&&Verdict::Jump("deny".to_owned())),
            "{jumps:?}"
        );
        nft.commit(copied(&sets, &rules)).unwrap();
        let told = listed("inet", "copy");
        for text in [
            "ip saddr @good accept",
            "10.0.0.0/8, 192.0.2.1",
            "22 : accept, 8080 : jump deny",
            "tcp dport @own0 limit rate 5/second",
            "80, 443",
            "9000-9100",
            "tcp dport vmap @ports",
            "reject with icmpx admin-prohibited",
            "ip protocol icmp goto deny",
            "counter",
        ] {
            assert!(told.contains(text), "`{text}` is not in\n{told}");
        }
        let again = nft.foreign_rules(Tables::Inet, "copy").unwrap();
        assert_eq!(kinds(&rules), kinds(&again));
    });
}

/// The whole of it under another name is the same rules.
fn copied(sets: &[ForeignSet], rules: &[ForeignRule]) -> Batch {
    let mut batch = Batch::new(Family::Inet, "copy");
    batch.add_table();
    batch.add_chain("deny", None);
    let hook = Base {
        kind: ChainKind::Filter,
        hook: Hook::Input,
        priority: 5,
        policy: Policy::Drop,
    };
    batch.add_chain("input", Some(hook));
    for set in sets {
        let name = set.name.replace("__set", "own");
        batch.add_foreign_set(&name, set, Verdict::clone);
    }
    for rule in rules {
        let parts = rule.expressions.iter();
        let parts: Vec<_> = parts
            .map(|part| match (part.verdict(), part.set()) {
                (Some(verdict), _) => part.deciding(&verdict),
                (None, Some(name)) => part.looking_in(&name.replace("__set", "own")),
                (None, None) => part.clone(),
            })
            .collect();
        batch.add_foreign_rule(&rule.chain, &parts);
    }
    batch
}

/// The kinds of the parts of all rules, whatever the order of chains.
fn kinds(rules: &[ForeignRule]) -> Vec<Vec<String>> {
    let kinds = |rule: &ForeignRule| {
        let parts = rule.expressions.iter();
        parts.map(|part| part.name.clone()).collect()
    };
    let mut list: Vec<Vec<String>> = rules.iter().map(kinds).collect();
    list.sort();
    list
}

#[test]
fn parts_of_rules_say_what_they_look_at() {
    in_namespace(|| {
        output(
            "nft",
            &[
                "add table inet t { chain c { tcp dport 80 drop; ct state new accept; ip saddr 10.0.0.1 return; }; }",
            ],
        );
        let mut nft = Nft::open().unwrap();
        let rules = nft.foreign_rules(Tables::Inet, "t").unwrap();
        let headers = |place: usize| -> Vec<u32> {
            let parts = rules[place].expressions.iter();
            parts.filter_map(|part| part.header()).collect()
        };
        assert_eq!(
            (headers(0), headers(1), headers(2)),
            (vec![2], vec![], vec![1])
        );
        let verdicts: Vec<_> = rules
            .iter()
            .filter_map(|rule| rule.expressions.last()?.verdict())
            .collect();
        assert_eq!(verdicts, [Verdict::Drop, Verdict::Accept, Verdict::Return]);
    });
}

#[test]
fn changes_are_heard_with_who_made_them() {
    in_namespace(|| {
        let mut watch = Watch::open().unwrap();
        let mut nft = Nft::open().unwrap();
        let mut next = || loop {
            let events = watch.events().unwrap().unwrap();
            if !events.is_empty() {
                return events;
            }
            let fd = watch.as_fd();
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            let limit = Timespec {
                tv_sec: 30,
                tv_nsec: 0,
            };
            assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "nothing is heard");
        };
        let mut batch = Batch::new(Family::Inet, TABLE);
        batch.add_table();
        nft.commit(batch).unwrap();
        let heard = next();
        let own = nft.port().unwrap();
        assert!(
            heard.iter().any(|event| event.table == TABLE
                && event.change == Change::Added
                && event.port == own
                && Family::Inet.is_of(event)),
            "{heard:?}"
        );
        output("nft", &["flush ruleset"]);
        let mut heard = Vec::new();
        while !heard.iter().any(|event: &havre_netlink::nft::Event| {
            event.table == TABLE && event.change == Change::Removed && event.port != own
        }) {
            heard.extend(next());
        }
    });
}

#[test]
fn ranges_of_several_fields_and_kinds_of_interfaces() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = Batch::new(Family::Inet, TABLE);
        batch.add_table();
        let key = [Type::Ipv4, Type::Protocol, Type::Port];
        batch.add_set(&Set {
            name: "ranges",
            key: &key,
            value: Some(Value::Data(&[Type::Ipv4])),
            interval: true,
        });
        batch.add_set(&Set {
            name: "sources",
            key: &[Type::Ipv4],
            value: Some(Value::Data(&[Type::Ipv4])),
            interval: true,
        });
        let part = |text: &str| Part::Address(text.parse().unwrap());
        let at = |address, port| [part(address), Part::Protocol(17), Part::Port(port)];
        let range = Element::range(&at("192.0.2.0", 10_000), &at("192.0.2.255", 60_000))
            .with_data(&[part("172.30.0.2")]);
        batch.add_elements("ranges", std::slice::from_ref(&range));
        let hook = |kind, hook, priority| {
            Some(Base {
                kind,
                hook,
                priority,
                policy: Policy::Accept,
            })
        };
        batch.add_chain("dnat", hook(ChainKind::Nat, Hook::Prerouting, -100));
        batch.add_chain("snat", hook(ChainKind::Nat, Hook::Postrouting, 100));
        batch.add_chain("forward", hook(ChainKind::Filter, Hook::Forward, 0));
        let fields = [Field::Destination4, Field::Protocol, Field::DestinationPort];
        batch.add_rule(
            "dnat",
            &Rule::new().ipv4().address_of("ranges", &fields, false),
        );
        let becomes = Rule::new().ipv4().protocol(6).to_port(53);
        let becomes = becomes.destination_becomes("127.0.0.11".parse().unwrap(), 4053);
        batch.add_rule("dnat", &becomes);
        batch.add_rule(
            "snat",
            &Rule::new()
                .ipv4()
                .source_of("sources", &[Field::Source4], false),
        );
        let kinds = Rule::new().from_kind("bridge", false).to_kind("veth", true);
        batch.add_rule("forward", &kinds.verdict(Verdict::Drop));
        nft.commit(batch).unwrap();
        let told = listed("inet", TABLE);
        for text in [
            "192.0.2.0/24 . udp . 10000-60000 : 172.30.0.2",
            "dnat ip to ip daddr . meta l4proto . th dport map @ranges",
            "dnat ip to 127.0.0.11:4053",
            "snat ip to ip saddr map @sources",
            "meta iifkind != \"bridge\" meta oifkind \"veth\" drop",
        ] {
            assert!(told.contains(text), "`{text}` is not in\n{told}");
        }
        let mut batch = Batch::new(Family::Inet, TABLE);
        batch.remove_elements("ranges", &[range]);
        nft.commit(batch).unwrap();
        assert!(!listed("inet", TABLE).contains("10000"));
    });
}

#[test]
fn connections_of_an_address_or_a_port_are_forgotten() {
    in_namespace(|| {
        // Something must ask for connections before the kernel tracks any.
        output(
            "nft",
            &[
                "add table inet t { chain c { type filter hook output priority 0; ct state new counter; }; }",
            ],
        );
        let mut route = Route::open().unwrap();
        let lo = route.link("lo").unwrap().index;
        for text in ["192.0.2.1/32", "192.0.2.2/32"] {
            route.add_address(lo, text.parse().unwrap()).unwrap();
        }
        let talk = |from: &str, to: &str| {
            let socket = UdpSocket::bind(from).unwrap();
            socket.send_to(b"x", to).unwrap();
        };
        let mut connections = Connections::open().unwrap();
        talk("192.0.2.1:1000", "192.0.2.2:2000");
        talk("127.0.0.1:1000", "192.0.2.2:2001");
        talk("127.0.0.1:1001", "127.0.0.1:2000");
        assert_eq!(connections.count().unwrap(), 3);
        let second = "192.0.2.2".parse().unwrap();
        // One began it, the other was led to: both are of the address.
        assert_eq!(
            connections
                .forget_address("192.0.2.1".parse().unwrap())
                .unwrap(),
            1
        );
        assert_eq!(connections.forget_address(second).unwrap(), 1);
        assert_eq!(connections.forget_address(second).unwrap(), 0);
        assert_eq!(connections.forget_ports(false, 6, |_| true).unwrap(), 0);
        assert_eq!(connections.forget_ports(true, 17, |_| true).unwrap(), 0);
        assert_eq!(
            connections
                .forget_ports(false, 17, |port| port == 1)
                .unwrap(),
            0
        );
        assert_eq!(
            connections
                .forget_ports(false, 17, |port| port == 2000)
                .unwrap(),
            1
        );
    });
}
