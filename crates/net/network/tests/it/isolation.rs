//! Who must not reach whom (SECURITY N02, N03, N05, N06).

use crate::support::{
    Other, Server, ask, end, host, inside, ip, network, nft, plane, ruleset, tcp, unreachable,
    until, with,
};

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

#[test]
fn only_published_ports_are_reached_from_the_lan() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = with_lan();
        let plane = plane(directory.path());
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let one = plane.sandbox().unwrap();
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        spec.publications = vec![tcp("0.0.0.0", 8080, 80), tcp("127.0.0.1", 8082, 80)];
        plane.attach(&one, &spec).unwrap();
        let _servers = [
            Server::start(&one, "0.0.0.0:80"),
            Server::start(&one, "0.0.0.0:81"),
        ];
        lan.inside(|| {
            assert_eq!(ask("192.0.2.1:8080").unwrap(), "192.0.2.2");
            // Neither by the container's own address, published port or not, nor by a port of the host's loopback.
            unreachable("172.30.0.2:80");
            unreachable("172.30.0.2:81");
            unreachable("192.0.2.1:8082");
            // Not even with a route that names the loopback (N03).
            ip(&[
                "route",
                "add",
                "127.0.0.1/32",
                "via",
                "192.0.2.1",
                "table",
                "7",
            ]);
            ip(&["rule", "add", "to", "127.0.0.1", "pref", "0", "table", "7"]);
            ip(&["rule", "add", "pref", "1", "lookup", "local"]);
            ip(&["rule", "del", "pref", "0", "lookup", "local"]);
            unreachable("127.0.0.1:8082");
        });
        fs_err::write("/proc/sys/net/ipv4/conf/lan0/route_localnet", "1").unwrap();
        lan.inside(|| unreachable("127.0.0.1:8082"));
        assert_eq!(ask("127.0.0.1:8082").unwrap(), "172.30.0.1");
    });
}

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
