//! What each driver makes, told by `ip`.

use havre_network::{
    Driver, EndpointSpec, GatewayMode, IpvlanFlag, IpvlanMode, IpvlanOptions, MacvlanMode,
    MacvlanOptions, NetworkError, NetworkSpec, Plane, Rate, Sandbox,
};

use crate::support::{
    Other, Server, addr, ask, attempt, end, host, inside, ip, network, output, part, ping, plane,
    tcp, unreachable, until, with,
};

/// What `ip` says inside.
fn told(sandbox: &Sandbox, arguments: &[&str]) -> String {
    inside(sandbox.fd(), || output("ip", arguments))
}

/// That a macvlan end has the addresses that were said, of both families, and the hardware address that is told.
fn dual(plane: &Plane, net: &NetworkSpec) {
    let net = NetworkSpec {
        id: "ffffffffffff".to_owned(),
        ipv6: vec![part("fd00:9::/64")],
        ..net.clone()
    };
    plane.add_network(&net).unwrap();
    let (one, two) = (plane.sandbox().unwrap(), plane.sandbox().unwrap());
    for (id, sandbox, last) in [("f1", &one, 21), ("f2", &two, 22)] {
        let mut spec = end(&net, id, &format!("192.0.2.{last}/24"));
        spec.ipv6 = Some(format!("fd00:9::{last}/64").parse().unwrap());
        spec.default_route = (true, true);
        let attached = plane.attach(sandbox, &spec).unwrap();
        let shown = told(sandbox, &["address", "show", "eth0"]);
        assert!(
            shown.contains(&attached.mac.unwrap().to_string()),
            "{shown}"
        );
        let own = shown.lines().find(|line| line.contains("fd00:9::"));
        assert!(
            own.is_some_and(|line| !line.contains("tentative")),
            "{shown}"
        );
    }
    let server = Server::start(&two, "[::]:80");
    inside(one.fd(), || {
        assert_eq!(ask("[fd00:9::22]:80").unwrap(), "fd00:9::21");
    });
    let routes = told(&one, &["-6", "route"]);
    assert!(
        routes.contains("default via fd00:9::1 dev eth0"),
        "{routes}"
    );
    drop(server);
    for (id, sandbox) in [("f1", &one), ("f2", &two)] {
        plane.detach(Some(sandbox), id).unwrap();
    }
    plane.remove_network(&net.id).unwrap();
}

fn on_parent(driver: Driver) -> NetworkSpec {
    NetworkSpec {
        driver,
        ..network("cccccccccccc", "192.0.2.0/24")
    }
}

fn macvlan(parent: Option<&str>, mode: MacvlanMode) -> NetworkSpec {
    on_parent(Driver::Macvlan(MacvlanOptions {
        parent: parent.map(str::to_owned),
        mode,
        mtu: None,
    }))
}

/// Two ends of a network, the second with a server on port 80.
fn two(plane: &Plane, net: &NetworkSpec) -> (Sandbox, Sandbox, Server) {
    plane.add_network(net).unwrap();
    let (one, two) = (plane.sandbox().unwrap(), plane.sandbox().unwrap());
    plane
        .attach(&one, &end(net, "e1", "192.0.2.11/24"))
        .unwrap();
    plane
        .attach(&two, &end(net, "e2", "192.0.2.12/24"))
        .unwrap();
    let server = Server::start(&two, "0.0.0.0:80");
    (one, two, server)
}

#[test]
fn macvlan_puts_containers_on_the_lan() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let lan = Other::cabled("lan0");
        lan.inside(|| ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]));
        for (mode, word, meet) in [
            (MacvlanMode::Bridge, "mode bridge", true),
            (MacvlanMode::Private, "mode private", false),
            (MacvlanMode::Vepa, "mode vepa", false),
        ] {
            let net = macvlan(Some("lan0"), mode);
            let (one, other, server) = two(&plane, &net);
            let shown = told(&one, &["-details", "link", "show", "eth0"]);
            assert!(shown.contains(word), "{shown}");
            let routes = told(&one, &["route"]);
            assert!(
                routes.contains("default via 192.0.2.1 dev eth0"),
                "{routes}"
            );
            assert_eq!(lan.inside(|| ask("192.0.2.12:80").unwrap()), "192.0.2.2");
            inside(one.fd(), || match meet {
                true => assert_eq!(ask("192.0.2.12:80").unwrap(), "192.0.2.11"),
                false => unreachable("192.0.2.12:80"),
            });
            drop(server);
            plane.detach(Some(&one), "e1").unwrap();
            assert!(!told(&one, &["-brief", "link"]).contains("eth0"));
            drop(other);
            plane.detach(None, "e2").unwrap();
            plane.remove_network(&net.id).unwrap();
            assert!(attempt("ip", &["link", "show", "lan0"]).0);
        }
        dual(&plane, &macvlan(Some("lan0"), MacvlanMode::Bridge));
        // A parent of its own: it must have no other interface, and those of above may still be going.
        let _own = Other::cabled("lan1");
        let passthru = macvlan(Some("lan1"), MacvlanMode::Passthru { nopromisc: false });
        plane.add_network(&passthru).unwrap();
        let one = plane.sandbox().unwrap();
        plane
            .attach(&one, &end(&passthru, "e1", "192.0.2.11/24"))
            .unwrap();
        assert!(told(&one, &["-details", "link", "show", "eth0"]).contains("mode passthru"));
    });
}

#[test]
fn parents_are_made_and_removed_with_their_network() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let _lan = Other::cabled("lan0");
        let net = macvlan(Some("lan0.10"), MacvlanMode::Bridge);
        match plane.add_network(&net) {
            Ok(()) => vlan_parent(&plane, &net),
            Err(error) => assert!(
                matches!(error, NetworkError::Unsupported("VLAN interfaces")),
                "{error}"
            ),
        }
        // Without a parent the containers meet each other and nobody else.
        let alone = macvlan(None, MacvlanMode::Bridge);
        let (one, other, _server) = two(&plane, &alone);
        assert!(output("ip", &["-brief", "link"]).contains("hd"));
        inside(one.fd(), || ask("192.0.2.12:80").unwrap());
        plane.detach(Some(&one), "e1").unwrap();
        plane.detach(Some(&other), "e2").unwrap();
        plane.remove_network(&alone.id).unwrap();
        assert!(!output("ip", &["-brief", "link"]).contains("hd"));
        for (parent, text) in [
            ("lan0.0", "vlan id must be between 1-4094, received: 0"),
            (
                "lan0.70000",
                "vlan id must be between 1-4094, received: 70000",
            ),
            (
                "lan0.x",
                "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)",
            ),
            (
                "none.5",
                "-o parent interface was not found on the host: none",
            ),
            (
                "none",
                "invalid subinterface vlan name none, example formatting is eth0.10",
            ),
            (
                "lo",
                "loopback interface is not a valid macvlan parent link",
            ),
        ] {
            let wrong = macvlan(Some(parent), MacvlanMode::Bridge);
            assert_eq!(plane.add_network(&wrong).unwrap_err().to_string(), text);
        }
    });
}

/// The VLAN interface is there as long as a network needs it.
fn vlan_parent(plane: &Plane, net: &NetworkSpec) {
    let shown = output("ip", &["-details", "link", "show", "lan0.10"]);
    assert!(shown.contains("vlan protocol 802.1Q id 10"), "{shown}");
    // A second network on it keeps it.
    let second = NetworkSpec {
        id: "dddddddddddd".to_owned(),
        ..net.clone()
    };
    plane.add_network(&second).unwrap();
    plane.remove_network(&net.id).unwrap();
    assert!(attempt("ip", &["link", "show", "lan0.10"]).0);
    plane.remove_network(&second.id).unwrap();
    assert!(!attempt("ip", &["link", "show", "lan0.10"]).0);
}

/// What an engine was making when it was killed has its name but not yet its mark.
#[test]
fn half_a_parent_is_swept() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let first = plane(directory.path());
        let alone = macvlan(None, MacvlanMode::Bridge);
        first.add_network(&alone).unwrap();
        let links = output("ip", &["-brief", "link"]);
        let mut names = links.split_whitespace();
        let name = names.find(|word| word.starts_with("hd")).unwrap();
        let name = name.split('@').next().unwrap();
        first.remove_network(&alone.id).unwrap();
        ip(&["link", "add", name, "type", "veth", "peer", "name", "x0"]);
        let second = plane(directory.path());
        let found = second.reconcile(&[], &[]).unwrap();
        assert_eq!(found.removed, [name]);
        assert!(!attempt("ip", &["link", "show", name]).0);
        // The user's are nobody's to remove.
        ip(&["link", "add", "up0", "type", "veth", "peer", "name", "x0"]);
        assert_eq!(second.reconcile(&[], &[]).unwrap().removed, [""; 0]);
    });
}

/// The engine may start before a driver of the host has found its card.
#[test]
fn a_parent_may_come_after_the_engine() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let net = macvlan(Some("late0"), MacvlanMode::Bridge);
        let found = plane.reconcile(std::slice::from_ref(&net), &[]).unwrap();
        let text = "invalid subinterface vlan name late0, example formatting is eth0.10";
        assert_eq!(found.failed, [(net.id.clone(), text.to_owned())]);
        let sandbox = plane.sandbox().unwrap();
        let spec = end(&net, "e1", "192.0.2.11/24");
        let error = plane.attach(&sandbox, &spec).unwrap_err();
        assert_eq!(error.to_string(), text);
        let lan = Other::cabled("late0");
        lan.inside(|| ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]));
        plane.attach(&sandbox, &spec).unwrap();
        let _server = Server::start(&sandbox, "0.0.0.0:80");
        assert_eq!(lan.inside(|| ask("192.0.2.11:80").unwrap()), "192.0.2.2");
        plane.detach(Some(&sandbox), "e1").unwrap();
        plane.remove_network(&net.id).unwrap();
        assert!(attempt("ip", &["link", "show", "late0"]).0);
    });
}

/// A bridge that could not be made at the start is made later, with the cables that were there; and what cannot be made
/// goes with its rules and published ports.
#[test]
fn a_bridge_may_come_after_the_engine() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        let bridge = plain_bridge(&net);
        let first = plane(directory.path());
        first.add_network(&net).unwrap();
        let (one, two) = (first.sandbox().unwrap(), first.sandbox().unwrap());
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        spec.publications = vec![tcp("0.0.0.0", 8080, 80)];
        first.attach(&one, &spec).unwrap();
        drop(first);
        let _server = Server::start(&one, "0.0.0.0:80");
        let in_its_place = || {
            ip(&["link", "delete", &bridge]);
            ip(&["link", "add", &bridge, "type", "veth", "peer", "name", "x0"]);
            let plane = plane(directory.path());
            let wanted = std::slice::from_ref(&spec);
            let found = plane.reconcile(std::slice::from_ref(&net), wanted).unwrap();
            assert_eq!(found.failed.len(), 1, "{found:?}");
            plane
        };
        let second = in_its_place();
        unreachable("127.0.0.1:8080");
        ip(&["link", "delete", &bridge]);
        second
            .attach(&two, &end(&net, "e2", "172.30.0.3/16"))
            .unwrap();
        ask("127.0.0.1:8080").unwrap();
        inside(two.fd(), || ask("172.30.0.2:80").unwrap());
        second.detach(Some(&two), "e2").unwrap();
        drop(second);
        let third = in_its_place();
        let rules = || output("nft", &["list", "ruleset"]);
        assert!(rules().contains(&bridge) && rules().contains("8080"));
        third.detach(Some(&one), "e1").unwrap();
        assert!(!rules().contains("8080"));
        third.remove_network(&net.id).unwrap();
        assert!(!rules().contains(&bridge));
        assert!(attempt("ip", &["link", "show", &bridge]).0);
    });
}

#[test]
fn ipvlan_works_or_says_that_this_kernel_has_none() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let _lan = Other::cabled("lan0");
        for mode in [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3S] {
            let net = on_parent(Driver::Ipvlan(IpvlanOptions {
                parent: Some("lan0".to_owned()),
                mode,
                flag: IpvlanFlag::Bridge,
                mtu: None,
            }));
            plane.add_network(&net).unwrap();
            let (one, other) = (plane.sandbox().unwrap(), plane.sandbox().unwrap());
            match plane.attach(&one, &end(&net, "e1", "192.0.2.11/24")) {
                Ok(_) => {
                    plane
                        .attach(&other, &end(&net, "e2", "192.0.2.12/24"))
                        .unwrap();
                    let _server = Server::start(&other, "0.0.0.0:80");
                    inside(one.fd(), || ask("192.0.2.12:80").unwrap());
                    let routes = told(&one, &["route"]);
                    let expected = if mode == IpvlanMode::L2 {
                        "default via 192.0.2.1 dev eth0"
                    } else {
                        "default dev eth0"
                    };
                    assert!(routes.contains(expected), "{routes}");
                    plane.detach(Some(&one), "e1").unwrap();
                    plane.detach(Some(&other), "e2").unwrap();
                }
                Err(error) => {
                    assert!(
                        matches!(error, NetworkError::Unsupported("ipvlan")),
                        "{error}"
                    );
                    assert_eq!(
                        error.to_string(),
                        "this kernel has no ipvlan, nor a module that it can load for it"
                    );
                }
            }
            plane.remove_network(&net.id).unwrap();
        }
    });
}

/// N07: IPv6 is where it was asked for and nowhere else, with the rules of IPv4; N09: clients keep their addresses.
#[test]
fn ipv6_works_at_once_and_only_where_it_is_wanted() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = Other::cabled("lan0");
        ip(&["address", "add", "2001:db8::1/64", "dev", "lan0", "nodad"]);
        lan.inside(|| {
            ip(&["address", "add", "2001:db8::2/64", "dev", "eth0", "nodad"]);
            ip(&["route", "add", "fd00::/16", "via", "2001:db8::1"]);
        });
        let plane = plane(directory.path());
        let mut net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        net.ipv6 = vec![part("fd00:30::/64")];
        plane.add_network(&net).unwrap();
        let (one, two) = (plane.sandbox().unwrap(), plane.sandbox().unwrap());
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        spec.ipv6 = Some("fd00:30::2/64".parse().unwrap());
        spec.default_route = (true, true);
        spec.publications = vec![tcp("::", 8080, 80), tcp("2001:db8::1", 8081, 80)];
        plane.attach(&one, &spec).unwrap();
        let mut second = spec.clone();
        second.id = "e2".to_owned();
        second.ipv4 = None;
        second.ipv6 = Some("fd00:30::3/64".parse().unwrap());
        second.publications.clear();
        plane.attach(&two, &second).unwrap();
        let _server = Server::start(&one, "[::]:80");
        inside(two.fd(), || {
            assert_eq!(ask("[fd00:30::2]:80").unwrap(), "fd00:30::3");
        });
        for port in [8080, 8081] {
            let address = format!("[2001:db8::1]:{port}");
            assert_eq!(lan.inside(|| ask(&address).unwrap()), "2001:db8::2");
            assert_eq!(ask(&address).unwrap(), "2001:db8::1");
        }
        lan.inside(|| unreachable("[fd00:30::2]:80"));
        let listening = lan.inside(|| {
            fs_err::File::open("/proc/thread-self/ns/net")
                .unwrap()
                .into_parts()
                .0
        });
        let _outer = Server::within(listening.into(), crate::support::at("[::]:90"));
        inside(two.fd(), || {
            assert_eq!(ask("[2001:db8::2]:90").unwrap(), "2001:db8::1");
        });
        // A network without IPv6 has none at all (N07): no address inside, none on its bridge, no routes from others.
        let plain = network("bbbbbbbbbbbb", "172.31.0.0/16");
        plane.add_network(&plain).unwrap();
        let three = plane.sandbox().unwrap();
        plane
            .attach(&three, &end(&plain, "e3", "172.31.0.2/16"))
            .unwrap();
        assert_eq!(told(&three, &["-6", "address", "show", "dev", "eth0"]), "");
        let bridge = &plain_bridge(&plain);
        assert_eq!(output("ip", &["-6", "address", "show", "dev", bridge]), "");
        for (sandbox, interface) in [(&one, "eth0"), (&three, "eth0")] {
            let path = format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra");
            let value = inside(sandbox.fd(), || fs_err::read_to_string(&path).unwrap());
            assert_eq!(value, "0\n");
        }
        let path = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", plain_bridge(&net));
        assert_eq!(fs_err::read_to_string(path).unwrap(), "0\n");
    });
}

fn plain_bridge(net: &NetworkSpec) -> String {
    match &net.driver {
        Driver::Bridge(options) => options.interface.clone(),
        Driver::Macvlan(_) | Driver::Ipvlan(_) => panic!("a bridge"),
    }
}

#[test]
fn options_of_bridges_and_ends_are_followed() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let net = with(network("aaaaaaaaaaaa", "172.30.0.0/16"), |options| {
            options.mtu = Some(1400);
            options.container_iface_prefix = Some("net".to_owned());
        });
        plane.add_network(&net).unwrap();
        let one = plane.sandbox().unwrap();
        let spec = EndpointSpec {
            sysctls: vec![(
                "net.ipv4.conf.IFNAME.log_martians".to_owned(),
                "1".to_owned(),
            )],
            link_local: vec![addr("169.254.7.7")],
            mac: Some("02:00:00:00:00:07".parse().unwrap()),
            ..end(&net, "e1", "172.30.0.2/16")
        };
        let attached = plane.attach(&one, &spec).unwrap();
        assert_eq!(
            (
                attached.interface.as_str(),
                attached.mac.unwrap().to_string().as_str()
            ),
            ("net0", "02:00:00:00:00:07")
        );
        let shown = told(&one, &["address", "show", "net0"]);
        for text in [
            "mtu 1400",
            "02:00:00:00:00:07",
            "172.30.0.2/16",
            "169.254.7.7/16",
        ] {
            assert!(shown.contains(text), "`{text}` is not in {shown}");
        }
        assert!(output("ip", &["link", "show", &plain_bridge(&net)]).contains("mtu 1400"));
        let value = inside(one.fd(), || {
            fs_err::read_to_string("/proc/sys/net/ipv4/conf/net0/log_martians").unwrap()
        });
        assert_eq!(value, "1\n");
        // A second network by a name of its own, without the default route, which can move there.
        let other = network("bbbbbbbbbbbb", "172.31.0.0/16");
        plane.add_network(&other).unwrap();
        let spec = EndpointSpec {
            interface: Some("lan5".to_owned()),
            default_route: (false, false),
            ..end(&other, "e2", "172.31.0.2/16")
        };
        plane.attach(&one, &spec).unwrap();
        assert!(told(&one, &["route"]).contains("default via 172.30.0.1 dev net0"));
        plane.set_default_route(&one, "e1", (false, false)).unwrap();
        plane.set_default_route(&one, "e2", (true, false)).unwrap();
        assert!(told(&one, &["route"]).contains("default via 172.31.0.1 dev lan5"));
        plane.detach(Some(&one), "e2").unwrap();
        assert!(!told(&one, &["-brief", "link"]).contains("lan5"));
        let third = EndpointSpec {
            interface: None,
            ..spec
        };
        assert_eq!(plane.attach(&one, &third).unwrap().interface, "eth0");
        let wrong = EndpointSpec {
            id: "e9".to_owned(),
            sysctls: vec![("kernel.core_pattern".to_owned(), "x".to_owned())],
            ..end(&other, "e9", "172.31.0.9/16")
        };
        let sandbox = plane.sandbox().unwrap();
        assert!(matches!(
            plane.attach(&sandbox, &wrong),
            Err(NetworkError::Sysctl(_))
        ));
        // What failed left nothing: the same end can be attached rightly.
        plane
            .attach(&sandbox, &end(&other, "e9", "172.31.0.9/16"))
            .unwrap();
    });
}

#[test]
fn bandwidth_is_bounded_both_ways_and_freed() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let one = plane.sandbox().unwrap();
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        spec.rate = Some(Rate {
            receive: Some(1_250_000),
            send: Some(625_000),
        });
        let attached = plane.attach(&one, &spec).unwrap();
        let outer = attached.host_interface.unwrap();
        let shaped = |what: &str| {
            let outside = output("tc", &["qdisc", "show", "dev", &outer]);
            let within = inside(one.fd(), || output("tc", &["qdisc", "show", "dev", "eth0"]));
            let both = format!("{outside} / {within}");
            assert_eq!(both.contains("tbf"), !what.is_empty(), "{both}");
            assert!(both.contains(what), "`{what}` is not in {both}");
        };
        shaped("rate 10Mbit");
        shaped("rate 5Mbit");
        let other = Rate {
            receive: None,
            send: Some(125_000),
        };
        plane.set_rate(&one, "e1", Some(other)).unwrap();
        shaped("rate 1Mbit");
        plane.set_rate(&one, "e1", None).unwrap();
        shaped("");
    });
}

#[test]
fn gateway_modes() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = Other::cabled("lan0");
        ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
        lan.inside(|| {
            ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]);
            ip(&["route", "add", "172.16.0.0/12", "via", "192.0.2.1"]);
        });
        let plane = plane(directory.path());
        for (mode, direct, other, translated) in [
            (GatewayMode::Nat, false, false, true),
            (GatewayMode::NatUnprotected, true, true, true),
            (GatewayMode::Routed, true, false, false),
        ] {
            let net = with(network("aaaaaaaaaaaa", "172.30.0.0/16"), |options| {
                options.gateway_mode_ipv4 = mode;
            });
            plane.add_network(&net).unwrap();
            let one = plane.sandbox().unwrap();
            let mut spec = end(&net, "e1", "172.30.0.2/16");
            spec.publications = vec![tcp("0.0.0.0", 8080, 80)];
            plane.attach(&one, &spec).unwrap();
            let servers = [
                Server::start(&one, "0.0.0.0:80"),
                Server::start(&one, "0.0.0.0:81"),
            ];
            lan.inside(|| {
                for (address, reached) in [
                    ("172.30.0.2:80", direct),
                    ("172.30.0.2:81", other),
                    ("192.0.2.1:8080", translated),
                ] {
                    if reached {
                        assert_eq!(ask(address).unwrap(), "192.0.2.2", "{mode:?}");
                    } else {
                        unreachable(address);
                    }
                }
                // A routed network answers to ping, others do not.
                if mode == GatewayMode::Nat {
                    assert!(!ping("172.30.0.2"));
                } else {
                    until("ping is answered", || ping("172.30.0.2"));
                }
            });
            drop(servers);
            plane.detach(Some(&one), "e1").unwrap();
            plane.remove_network(&net.id).unwrap();
        }
        // Isolated: the host has no address there.
        let mut isolated = with(network("eeeeeeeeeeee", "172.29.0.0/16"), |options| {
            options.gateway_mode_ipv4 = GatewayMode::Isolated;
        });
        isolated.internal = true;
        plane.add_network(&isolated).unwrap();
        let bridge = plain_bridge(&isolated);
        assert!(!output("ip", &["address", "show", "dev", &bridge]).contains("inet"));
    });
}
