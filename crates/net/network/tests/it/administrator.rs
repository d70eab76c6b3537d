//! The administrator's own rules: they hold for published ports, and nobody touches them (SECURITY N04, N21, N22;
//! <https://github.com/moby/moby/issues/22054>).

use std::time::Instant;

use crate::support::{
    Other, Server, ask, end, host, inside, ip, network, nft, options, output, plane, ruleset, tcp,
    unreachable, until,
};
use havre_network::{Audience, Guard, Plane, PlaneOptions, Sandbox};

/// A host with a neighbour, and a container that publishes 8080.
fn published(guard: Guard, test: impl FnOnce(&Plane, &Other, &Sandbox) + Send) {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = Other::cabled("lan0");
        ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
        lan.inside(|| ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]));
        let mut options = options(directory.path());
        options.guard = guard;
        let plane = Plane::open(options).unwrap();
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let one = plane.sandbox().unwrap();
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        spec.publications = vec![tcp("0.0.0.0", 8080, 80), tcp("0.0.0.0", 8081, 80)];
        plane.attach(&one, &spec).unwrap();
        let _server = Server::start(&one, "0.0.0.0:80");
        assert_eq!(lan.inside(|| ask("192.0.2.1:8080").unwrap()), "192.0.2.2");
        test(&plane, &lan, &one);
    });
}

const INPUT: &str =
    "add table inet filter { chain input { type filter hook input priority 0; policy accept; }; }";

/// Waits until a port is closed for the neighbour, and sees that another one is not.
#[track_caller]
fn closes(lan: &Other) {
    until("8080 is closed", || {
        lan.inside(|| {
            crate::support::ask_within("192.0.2.1:8080", crate::support::SILENCE).is_err()
        })
    });
    lan.inside(|| ask("192.0.2.1:8081").unwrap());
}

/// N22: a rule of the host that drops what arrives for a port closes it for a container's published port too.
#[test]
fn a_drop_of_arriving_packets_closes_a_published_port() {
    published(Guard::Explicit, |plane, lan, _one| {
        nft(INPUT);
        nft("add rule inet filter input tcp dport 8080 drop");
        closes(lan);
        // It opens again with the rule.
        nft("flush chain inet filter input");
        until("8080 is open", || lan.inside(|| ask_now("192.0.2.1:8080")));
        // By a set, by a map of verdicts, by a chain, by who comes.
        for rule in [
            "tcp dport { 22, 8080, 9000-9100 } drop",
            "tcp dport vmap { 22 : accept, 8080 : jump deny }",
            "ip saddr 192.0.2.0/24 tcp dport 8080 reject",
            "iifname lan0 tcp dport 8080 goto deny",
            "ct state new tcp dport @closed counter drop",
        ] {
            nft("add chain inet filter deny { drop; }");
            nft("add set inet filter closed { type inet_service; elements = { 8080 }; }");
            nft(&format!("add rule inet filter input {rule}"));
            closes(lan);
            nft("flush chain inet filter input");
            until(rule, || lan.inside(|| ask_now("192.0.2.1:8080")));
            nft("delete chain inet filter deny");
        }
        assert_eq!(plane.health().left_out, 0);
        // What is for others stays open; the host's own programs are asked by its own chain.
        nft("add rule inet filter input tcp dport 22 drop");
        nft("add rule inet filter input ip saddr 198.51.100.0/24 drop");
        lan.inside(|| ask("192.0.2.1:8080").unwrap());
    });
}

fn ask_now(address: &str) -> bool {
    crate::support::ask_within(address, crate::support::SILENCE).is_ok()
}

/// N22: the same for drops at the other hooks.
#[test]
fn a_drop_before_or_after_routing_closes_a_published_port() {
    published(Guard::None, |_plane, lan, _one| {
        for (chain, rule) in [
            (
                "type filter hook prerouting priority -150",
                "tcp dport 8080 drop",
            ),
            (
                "type filter hook forward priority 10",
                "meta l4proto tcp ct original proto-dst 8080 drop",
            ),
            (
                "type filter hook forward priority -10",
                "meta l4proto tcp ct original proto-dst 8080 drop",
            ),
            (
                "type filter hook postrouting priority 0",
                "meta l4proto tcp ct original proto-dst 8080 drop",
            ),
        ] {
            nft(&format!(
                "add table inet admin {{ chain c {{ {chain}; {rule}; }}; }}"
            ));
            lan.inside(|| {
                unreachable("192.0.2.1:8080");
                ask("192.0.2.1:8081").unwrap();
            });
            nft("delete table inet admin");
        }
        // A policy, as ufw and firewalld set it for what is forwarded.
        nft(
            "add table inet admin { chain c { type filter hook forward priority 0; policy drop; }; }",
        );
        lan.inside(|| unreachable("192.0.2.1:8081"));
    });
}

#[test]
fn what_closes_all_that_nobody_allowed_counts_when_it_is_asked_for() {
    let closed = "add table inet filter { chain input { type filter hook input priority 0; policy drop; ct state established,related accept; tcp dport 8081 accept; counter; }; }";
    published(Guard::Explicit, |_plane, lan, _one| {
        nft(closed);
        nft("add rule inet filter input counter drop");
        // A rule that it does look at, to know when the copy was made.
        nft("insert rule inet filter input tcp dport 8082 drop");
        until("the copy is made", || ruleset().contains("host-0"));
        lan.inside(|| ask("192.0.2.1:8080").unwrap());
    });
    published(Guard::Full, |_plane, lan, _one| {
        nft(closed);
        closes(lan);
    });
}

#[test]
fn rules_of_iptables_hold_as_well() {
    published(Guard::Explicit, |plane, lan, _one| {
        output(
            "iptables-nft",
            &["-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "DROP"],
        );
        closes(lan);
        assert!(plane.health().left_out <= 1);
    });
}

/// N04: all of the rules or a part of them that somebody removed are there again soon; [`crate::isolation`] has the prober.
#[test]
fn rules_come_back_after_a_flush() {
    published(Guard::Explicit, |plane, lan, one| {
        let built = ruleset();
        let before = plane.health().restored;
        let begin = Instant::now();
        nft("flush ruleset");
        until("the rules are back", || plane.health().restored > before);
        println!("restored after {:?}", begin.elapsed());
        assert_eq!(ruleset(), built);
        assert!(!plane.health().degraded);
        lan.inside(|| ask("192.0.2.1:8080").unwrap());
        // Parts of it, too.
        let chain = format!("flush chain inet {} forward", crate::support::INSTANCE);
        nft(&chain);
        until("the chain is back", || ruleset() == built);
        // A container that comes while they are away brings them back by itself.
        inside(one.fd(), || ask("192.0.2.1:8081").unwrap());
    });
}

/// A host between two others, one of which has a server; it forwards nothing yet.
fn between(test: impl FnOnce(&Other) + Send) {
    host(|| {
        let (lan, wan) = (Other::cabled("lan0"), Other::cabled("wan0"));
        for (name, other, here, there, far) in [
            (
                "lan0",
                &lan,
                "192.0.2.1/24",
                "192.0.2.2/24",
                "198.51.100.0/24",
            ),
            (
                "wan0",
                &wan,
                "198.51.100.1/24",
                "198.51.100.2/24",
                "192.0.2.0/24",
            ),
        ] {
            ip(&["address", "add", here, "dev", name]);
            let via = here.trim_end_matches("/24");
            other.inside(|| {
                ip(&["address", "add", there, "dev", "eth0"]);
                ip(&["route", "add", far, "via", via]);
            });
        }
        fs_err::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let listening = wan.inside(|| {
            fs_err::File::open("/proc/thread-self/ns/net")
                .unwrap()
                .into_parts()
                .0
        });
        let _server = Server::within(listening.into(), crate::support::at("0.0.0.0:90"));
        test(&lan);
    });
}

/// N21: a host that forwarded nothing before goes on forwarding nothing between its own interfaces.
#[test]
fn the_host_becomes_no_router() {
    between(|lan| {
        let directory = tempfile::tempdir().unwrap();
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        let first = plane(directory.path());
        first.add_network(&net).unwrap();
        assert_eq!(
            fs_err::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
            "1\n"
        );
        lan.inside(|| unreachable("198.51.100.2:90"));
        // The engine of the next start knows that it was the one.
        drop(first);
        let again = plane(directory.path());
        again.reconcile(std::slice::from_ref(&net), &[]).unwrap();
        lan.inside(|| unreachable("198.51.100.2:90"));
        let one = again.sandbox().unwrap();
        again
            .attach(&one, &end(&net, "e1", "172.30.0.2/16"))
            .unwrap();
        inside(one.fd(), || ask("198.51.100.2:90").unwrap());
        // Everything is taken out of the kernel, and the engine's directory goes: it is as it was.
        again.detach(Some(&one), "e1").unwrap();
        again.clear().unwrap();
        assert_eq!(forwards(), "0\n");
        assert!(!ruleset().contains("no router"));
        // With a bridge of somebody's that may need it, the host goes on forwarding, guarded, whoever forgot why.
        again.add_network(&net).unwrap();
        ip(&["link", "add", "virbr0", "type", "bridge"]);
        again.clear().unwrap();
        drop(again);
        assert_eq!(forwards(), "1\n");
        lan.inside(|| unreachable("198.51.100.2:90"));
        let other = tempfile::tempdir().unwrap();
        let forgetful = plane(other.path());
        forgetful
            .reconcile(std::slice::from_ref(&net), &[])
            .unwrap();
        lan.inside(|| unreachable("198.51.100.2:90"));
        forgetful.clear().unwrap();
        drop(forgetful);
        // Where the host was a router before, it stays one.
        output("nft", &["flush ruleset"]);
        let router = plane(other.path());
        router.reconcile(std::slice::from_ref(&net), &[]).unwrap();
        lan.inside(|| ask("198.51.100.2:90").unwrap());
    });
}

/// `ip-forward-no-drop`.
#[test]
fn an_engine_may_open_the_way_for_everybody() {
    between(|lan| {
        let directory = tempfile::tempdir().unwrap();
        let generous = Plane::open(PlaneOptions {
            guard_forwarding: false,
            ..options(directory.path())
        })
        .unwrap();
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        generous.add_network(&net).unwrap();
        assert_eq!(forwards(), "1\n");
        lan.inside(|| ask("198.51.100.2:90").unwrap());
        generous.clear().unwrap();
        assert_eq!(forwards(), "0\n");
    });
}

fn forwards() -> String {
    fs_err::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap()
}

#[test]
fn a_port_is_explained() {
    published(Guard::Explicit, |plane, _lan, _one| {
        let told = |plane: &Plane| -> Vec<(Audience, bool, String)> {
            let mut explained = plane.explain("e1").unwrap();
            assert_eq!(explained.len(), 2);
            let first = explained.remove(0);
            assert_eq!(first.publication.to_string(), "0.0.0.0:8080/tcp");
            let reach = first.reach.into_iter();
            reach
                .map(|one| (one.audience, one.reaches, one.rule))
                .collect()
        };
        let expected = [
            (Audience::OtherHosts, true, "prerouting: published"),
            (Audience::ThisHost, true, "output: published"),
            (Audience::SameNetwork, true, "forward: the same network"),
            (Audience::OtherNetworks, true, "prerouting: published"),
            (
                Audience::Directly,
                false,
                "forward: not published, or another network",
            ),
        ];
        let expected = expected.map(|(who, reaches, rule)| (who, reaches, rule.to_owned()));
        assert_eq!(told(plane), expected);
        nft(INPUT);
        nft(
            "add table ip admin { chain FORWARD { type filter hook forward priority 0; policy drop; }; }",
        );
        assert_eq!(
            told(plane)[0].2,
            "prerouting: published; the host's own rules decide first: inet filter input (input), \
             ip admin FORWARD (forward, which drops what it does not allow)"
        );
        // Each rule that is named is there.
        let rules = ruleset();
        for (_, _, rule) in &expected {
            let (_, comment) = rule.split_once(": ").unwrap();
            assert!(
                rules.contains(&format!("comment \"{comment}\"")),
                "{comment}"
            );
        }
    });
}
