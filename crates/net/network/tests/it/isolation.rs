//! Who must not reach whom (SECURITY N02, N03, N04, N06).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use havre_network::{Plane, PlaneOptions, Protocol, Publication};

use crate::restarts::{Stopping, doorman, prober};
use crate::support::{
    Other, Server, ask, end, host, inside, ip, network, nft, options, ping, plane, ruleset, tcp,
    unreachable, until, with,
};
use crate::sweep::{Echo, sweep};

/// This host with a neighbour at 192.0.2.2, which knows the way to its containers.
fn with_lan() -> Other {
    let lan = Other::cabled("lan0");
    ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
    lan.inside(|| {
        ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]);
        ip(&["route", "add", "172.16.0.0/12", "via", "192.0.2.1"]);
    });
    lan
}

/// N02: of all 65,535 ports, TCP and UDP, a neighbour of the host that knows the way to the containers reaches those that
/// are published, at the host's address.
#[test]
fn only_published_ports_are_reached_from_the_lan() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = with_lan();
        let plane = plane(directory.path());
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let (one, two) = (plane.sandbox().unwrap(), plane.sandbox().unwrap());
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        let udp = Publication {
            protocol: Protocol::Udp,
            ..tcp("0.0.0.0", 5353, 53)
        };
        spec.publications = vec![
            tcp("0.0.0.0", 8080, 80),
            tcp("127.0.0.1", 8082, 80),
            tcp("0.0.0.0", 65535, 1),
            udp,
        ];
        plane.attach(&one, &spec).unwrap();
        plane
            .attach(&two, &end(&net, "e2", "172.30.0.3/16"))
            .unwrap();
        // Every port of the container answers.
        let _server = Server::start(&one, "0.0.0.0:80");
        let _echo = Echo::start(&one, "0.0.0.0:53");
        inside(one.fd(), || {
            nft(
                "add table ip every { chain c { type nat hook prerouting priority -100; meta l4proto tcp redirect to :80; meta l4proto udp redirect to :53; }; }",
            );
        });
        // Who is allowed to sees them, so this does find what is open.
        let some = || (1..=65535).step_by(512);
        let neighbour = inside(two.fd(), || sweep("172.30.0.3", "172.30.0.2", some()));
        assert_eq!(neighbour.len(), 2 * some().count());
        let (by_host, directly) = lan.inside(|| {
            (
                sweep("192.0.2.2", "192.0.2.1", 1..=65535),
                sweep("192.0.2.2", "172.30.0.2", 1..=65535),
            )
        });
        let published = [("tcp", 8080), ("tcp", 65535), ("udp", 5353)];
        assert_eq!(by_host, BTreeSet::from(published));
        assert_eq!(directly, BTreeSet::new());
        assert_eq!(lan.inside(|| ask("192.0.2.1:8080").unwrap()), "192.0.2.2");
    });
}

/// A way to the loopback of another host, from which answers are taken as well.
fn lead_loopback_to(via: &str) {
    fs_err::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
    ip(&["route", "add", "127.0.0.1/32", "via", via, "table", "7"]);
    ip(&["rule", "add", "to", "127.0.0.1", "pref", "0", "table", "7"]);
    ip(&["rule", "add", "pref", "1", "lookup", "local"]);
    ip(&["rule", "del", "pref", "0", "lookup", "local"]);
}

/// N12: what listens at the host's loopback is not reached from a container, though its bridge takes packets for such
/// addresses (CVE-2020-8558), not even when all other rules are the administrator's.
#[test]
fn the_loopback_of_the_host_is_closed_for_containers() {
    for rules_ipv4 in [true, false] {
        the_loopback_is_closed(rules_ipv4);
    }
}

fn the_loopback_is_closed(rules_ipv4: bool) {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = Plane::open(PlaneOptions {
            rules_ipv4,
            ..options(directory.path())
        })
        .unwrap();
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let one = plane.sandbox().unwrap();
        plane
            .attach(&one, &end(&net, "e1", "172.30.0.2/16"))
            .unwrap();
        let opened = fs_err::File::open("/proc/thread-self/ns/net").unwrap();
        let namespace = opened.into_parts().0.into();
        let _api = Server::within(namespace, "127.0.0.1:2375".parse().unwrap());
        ask("127.0.0.1:2375").unwrap();
        inside(one.fd(), || {
            until("the host answers", || ping("172.30.0.1"));
            lead_loopback_to("172.30.0.1");
            unreachable("127.0.0.1:2375");
            unreachable("172.30.0.1:2375");
        });
    });
}

/// N03: a port that is published at the host's loopback is closed for a neighbour, whatever address and route it takes,
/// before and after the rules were flushed and built anew.
#[test]
fn ports_of_the_loopback_stay_on_the_host() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = with_lan();
        let first = plane(directory.path());
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        first.add_network(&net).unwrap();
        let one = first.sandbox().unwrap();
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        spec.publications = vec![tcp("127.0.0.1", 8082, 80), tcp("0.0.0.0", 8080, 80)];
        first.attach(&one, &spec).unwrap();
        let _server = Server::start(&one, "0.0.0.0:80");
        lan.inside(|| lead_loopback_to("192.0.2.1"));
        let closed = || {
            assert_eq!(ask("127.0.0.1:8082").unwrap(), "172.30.0.1");
            lan.inside(|| {
                ask("192.0.2.1:8080").unwrap();
                unreachable("192.0.2.1:8082");
                unreachable("127.0.0.1:8082");
            });
        };
        closed();
        // An administrator may have let in what names the loopback.
        fs_err::write("/proc/sys/net/ipv4/conf/lan0/route_localnet", "1").unwrap();
        closed();
        let built = ruleset();
        nft("flush ruleset");
        until("the rules are back", || ruleset() == built);
        closed();
        drop(first);
        let second = plane(directory.path());
        second.reconcile(&[net], &[spec]).unwrap();
        closed();
    });
}

/// N04: under a prober that never rests, the rules are back within two seconds of each of ten flushes, and from then on
/// nothing of another network is reached.
#[test]
fn networks_are_apart_again_soon_after_a_flush() {
    const FLUSHES: usize = 10;
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let nets = [
            network("aaaaaaaaaaaa", "172.30.0.0/16"),
            network("bbbbbbbbbbbb", "172.31.0.0/16"),
        ];
        let (one, two) = (plane.sandbox().unwrap(), plane.sandbox().unwrap());
        for (net, sandbox, address) in [
            (&nets[0], &one, "172.30.0.2/16"),
            (&nets[1], &two, "172.31.0.2/16"),
        ] {
            plane.add_network(net).unwrap();
            plane.attach(sandbox, &end(net, &net.id, address)).unwrap();
        }
        let (stop, probes, reached) = (
            AtomicBool::new(false),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let mut longest = Duration::ZERO;
        thread::scope(|scope| {
            let _stopping = Stopping(&stop);
            scope.spawn(|| inside(two.fd(), || doorman("0.0.0.0:80", &stop)));
            scope.spawn(|| {
                inside(one.fd(), || {
                    prober("172.31.0.2:80", &stop, &probes, &reached);
                });
            });
            let more = |count: usize| {
                let before = probes.load(Ordering::Relaxed);
                until("it probes", || {
                    probes.load(Ordering::Relaxed) > before + count
                });
            };
            more(5);
            assert_eq!(reached.load(Ordering::Relaxed), 0);
            for _ in 0..FLUSHES {
                let restored = plane.health().restored;
                let begin = Instant::now();
                nft("flush ruleset");
                until("the rules are back", || {
                    let health = plane.health();
                    health.restored > restored && !health.degraded
                });
                longest = longest.max(begin.elapsed());
                // The one that was under way.
                more(1);
                let before = reached.load(Ordering::Relaxed);
                more(5);
                assert_eq!(reached.load(Ordering::Relaxed), before);
            }
        });
        let slipped = reached.into_inner();
        println!("{FLUSHES} flushes: back after {longest:?} at most, {slipped} got through before");
        assert!(longest < Duration::from_secs(2), "{longest:?}");
    });
}

/// N02, as containers see it: nothing of another network is reached, nothing of one without icc, nothing outside of one that
/// is internal.
#[test]
fn networks_are_apart() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let nets = [
            network("aaaaaaaaaaaa", "172.30.0.0/16"),
            network("bbbbbbbbbbbb", "172.31.0.0/16"),
            with(network("cccccccccccc", "172.29.0.0/16"), |o| o.icc = false),
        ];
        let mut internal = network("dddddddddddd", "172.28.0.0/16");
        internal.internal = true;
        for net in nets.iter().chain([&internal]) {
            plane.add_network(net).unwrap();
        }
        let sandboxes: Vec<_> = (0..6).map(|_| plane.sandbox().unwrap()).collect();
        let [a, b, c, d, e, f] = sandboxes.as_slice() else {
            panic!("six");
        };
        plane
            .attach(a, &end(&nets[0], "a", "172.30.0.2/16"))
            .unwrap();
        let mut published = end(&nets[1], "b", "172.31.0.2/16");
        published.publications = vec![tcp("0.0.0.0", 8080, 80)];
        plane.attach(b, &published).unwrap();
        plane
            .attach(c, &end(&nets[2], "c", "172.29.0.2/16"))
            .unwrap();
        plane
            .attach(d, &end(&nets[2], "d", "172.29.0.3/16"))
            .unwrap();
        plane
            .attach(e, &end(&internal, "e", "172.28.0.2/16"))
            .unwrap();
        plane
            .attach(f, &end(&internal, "f", "172.28.0.3/16"))
            .unwrap();
        let _servers: Vec<Server> = [b, d, f]
            .iter()
            .map(|sandbox| Server::start(sandbox, "0.0.0.0:80"))
            .collect();
        // A new bridge carries nothing for a moment: what is not reached then says nothing.
        for (sandbox, gateway) in [
            (a, "172.30.0.1"),
            (b, "172.31.0.1"),
            (c, "172.29.0.1"),
            (d, "172.29.0.1"),
            (e, "172.28.0.1"),
            (f, "172.28.0.1"),
        ] {
            until("the host answers", || {
                inside(sandbox.fd(), || ping(gateway))
            });
        }
        inside(a.fd(), || {
            unreachable("172.31.0.2:80");
            unreachable("172.29.0.3:80");
            unreachable("172.28.0.3:80");
            // By the host's address it is published.
            ask("172.30.0.1:8080").unwrap();
        });
        // No talk within a network without icc, though the host reaches its containers.
        inside(c.fd(), || unreachable("172.29.0.3:80"));
        ask("172.29.0.3:80").unwrap();
        // Within an internal network there is talk, but not out of it: even with a route.
        inside(e.fd(), || {
            ask("172.28.0.3:80").unwrap();
            ip(&["route", "add", "default", "via", "172.28.0.1"]);
            unreachable("172.31.0.2:80");
            unreachable("172.28.0.1:8080");
        });
    });
}

/// N06: fifty engines, one after the other and none of them stopped properly, leave the text of the rules as the first one
/// wrote it.
#[test]
fn a_restart_builds_the_same_rules_and_touches_no_others() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        nft(
            "add table inet admin { chain input { type filter hook input priority 0; policy accept; tcp dport 22 accept; }; }",
        );
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        spec.publications = vec![tcp("0.0.0.0", 8080, 80), tcp("127.0.0.1", 8082, 80)];
        let first = plane(directory.path());
        first.add_network(&net).unwrap();
        let one = first.sandbox().unwrap();
        first.attach(&one, &spec).unwrap();
        let _server = Server::start(&one, "0.0.0.0:80");
        until("the pool is full", || first.ready() == 1);
        let built = ruleset();
        assert!(built.contains("tcp . 8080"), "{built}");
        drop(first);
        for _ in 0..50 {
            let again = plane(directory.path());
            let found = again
                .reconcile(std::slice::from_ref(&net), std::slice::from_ref(&spec))
                .unwrap();
            assert_eq!(found, havre_network::Reconciled::default());
        }
        assert_eq!(ruleset(), built);
        ask("127.0.0.1:8082").unwrap();
    });
}
