//! Interfaces, addresses, routes, queues.

use std::os::fd::AsFd as _;

use havre_netlink::{
    IpvlanMode, Kind, LinkChange, MacvlanMode, NewLink, NewRoute, Port, Route, Shaper,
};
use havre_types::{Cidr, MacAddress};
use rustix::io::Errno;

use crate::support::{empty_namespace, in_namespace, output};

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

#[test]
fn a_cable_leads_from_a_bridge_into_another_namespace() {
    in_namespace(|| {
        let other = empty_namespace();
        let mut route = Route::open().unwrap();
        route
            .create_link(&NewLink::new("br-test", Kind::Bridge))
            .unwrap();
        let bridge = route.link("br-test").unwrap();
        assert_eq!((bridge.kind.as_str(), bridge.up), ("bridge", false));
        let peer = NewLink {
            address: Some(MacAddress([2, 0x42, 0xac, 17, 0, 2])),
            namespace: Some(other.as_fd()),
            mtu: Some(1400),
            ..NewLink::new("eth0", Kind::Other(""))
        };
        let cable = NewLink {
            master: Some(bridge.index),
            mtu: Some(1400),
            up: true,
            ..NewLink::new("veth-a", Kind::Veth(&peer))
        };
        route.create_link(&cable).unwrap();
        let here = route.link("veth-a").unwrap();
        assert_eq!(
            (here.master, here.mtu, here.up),
            (Some(bridge.index), 1400, true)
        );
        // The other end is in the other namespace, and only there.
        assert!(route.link("eth0").unwrap_err().is_absent());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                havre_sys::namespace::enter(other.as_fd(), None).unwrap();
                let mut route = Route::open().unwrap();
                let there = route.link("eth0").unwrap();
                assert_eq!(there.address.unwrap().to_string(), "02:42:ac:11:00:02");
                assert_eq!((there.kind.as_str(), there.mtu), ("veth", 1400));
            });
        });
        route.delete_link(here.index).unwrap();
        assert!(route.link("veth-a").unwrap_err().is_absent());
    });
}

#[test]
fn interfaces_are_changed_and_listed() {
    in_namespace(|| {
        let mut route = Route::open().unwrap();
        let peer = NewLink::new("b", Kind::Other(""));
        route
            .create_link(&NewLink::new("a", Kind::Veth(&peer)))
            .unwrap();
        route
            .create_link(&NewLink::new("br", Kind::Bridge))
            .unwrap();
        let (a, br) = (
            route.link("a").unwrap().index,
            route.link("br").unwrap().index,
        );
        let change = LinkChange {
            up: Some(true),
            name: Some("renamed"),
            mtu: Some(9000),
            address: Some(MacAddress::local([1, 2, 3, 4, 5, 6])),
            master: Some(br),
            alias: Some("made by a test"),
            namespace: None,
        };
        route.change_link(a, &change).unwrap();
        route
            .change_port(
                a,
                Port {
                    hairpin: true,
                    isolated: true,
                },
            )
            .unwrap();
        let seen = route
            .links()
            .unwrap()
            .into_iter()
            .find(|link| link.index == a)
            .unwrap();
        assert_eq!(
            (seen.name.as_str(), seen.mtu, seen.master),
            ("renamed", 9000, Some(br))
        );
        assert_eq!((seen.alias.as_str(), seen.up), ("made by a test", true));
        let told = output("ip", &["-details", "link", "show", "renamed"]);
        assert!(
            told.contains("hairpin on") && told.contains("isolated on"),
            "{told}"
        );
        let change = LinkChange {
            up: Some(false),
            master: Some(0),
            ..LinkChange::default()
        };
        route.change_link(a, &change).unwrap();
        let seen = route.link("renamed").unwrap();
        assert_eq!((seen.up, seen.master), (false, None));
    });
}

#[test]
fn errors_say_what_was_wanted() {
    in_namespace(|| {
        let mut route = Route::open().unwrap();
        let bridge = NewLink::new("br", Kind::Bridge);
        route.create_link(&bridge).unwrap();
        let again = route.create_link(&bridge).unwrap_err();
        assert!(again.exists());
        assert_eq!(
            again.to_string(),
            "failed to create interface br (bridge): file exists"
        );
        let nameless = route
            .create_link(&NewLink::new("a-name-of-sixteen", Kind::Bridge))
            .unwrap_err();
        assert!(
            nameless
                .to_string()
                .starts_with("failed to create interface a-name-of-sixteen"),
            "{nameless}"
        );
        let absent = route.delete_link(9999).unwrap_err();
        assert_eq!(absent.errno(), Some(Errno::NODEV));
        // The socket is as good as before.
        assert_eq!(route.link("br").unwrap().name, "br");
    });
}

#[test]
fn sub_interfaces_of_a_parent() {
    in_namespace(|| {
        let mut route = Route::open().unwrap();
        let peer = NewLink::new("other", Kind::Other(""));
        route
            .create_link(&NewLink::new("parent", Kind::Veth(&peer)))
            .unwrap();
        let parent = route.link("parent").unwrap().index;
        for (name, mode, word) in [
            ("mv0", MacvlanMode::Bridge, "mode bridge"),
            ("mv1", MacvlanMode::Private, "mode private"),
            ("mv2", MacvlanMode::Vepa, "mode vepa"),
        ] {
            route
                .create_link(&NewLink::new(name, Kind::Macvlan { parent, mode }))
                .unwrap();
            assert_eq!(route.link(name).unwrap().parent, Some(parent));
            let told = output("ip", &["-details", "link", "show", name]);
            assert!(told.contains(word), "{told}");
            let index = route.link(name).unwrap().index;
            route.delete_link(index).unwrap();
        }
        let mode = MacvlanMode::Passthru { nopromisc: false };
        route
            .create_link(&NewLink::new("mv3", Kind::Macvlan { parent, mode }))
            .unwrap();
        assert!(output("ip", &["-details", "link", "show", "mv3"]).contains("mode passthru"));
        let index = route.link("mv3").unwrap().index;
        route.delete_link(index).unwrap();
        // Not every kernel has ipvlan; one that has not says so.
        let ipvlan = Kind::Ipvlan {
            parent,
            mode: IpvlanMode::L2,
            flags: 0,
        };
        match route.create_link(&NewLink::new("iv0", ipvlan)) {
            Ok(()) => assert_eq!(route.link("iv0").unwrap().kind, "ipvlan"),
            Err(error) => assert_eq!(error.errno(), Some(Errno::OPNOTSUPP), "{error}"),
        }
    });
}

#[test]
fn addresses_and_routes() {
    in_namespace(|| {
        let mut route = Route::open().unwrap();
        route
            .create_link(&NewLink {
                up: true,
                ..NewLink::new("br", Kind::Bridge)
            })
            .unwrap();
        let br = route.link("br").unwrap().index;
        for text in ["172.30.0.1/16", "fd00:30::1/64", "fe80::1/64"] {
            route.add_address(br, cidr(text)).unwrap();
            // Again is the same.
            route.add_address(br, cidr(text)).unwrap();
        }
        let mut seen: Vec<_> = route.addresses().unwrap();
        seen.retain(|address| address.index == br);
        for text in ["172.30.0.1/16", "fd00:30::1/64", "fe80::1/64"] {
            let found: Vec<_> = seen
                .iter()
                .filter(|address| address.cidr == cidr(text))
                .collect();
            assert_eq!(found.len(), 1, "{text}: {seen:?}");
            assert_eq!(found[0].link_local, text.starts_with("fe80"));
        }
        let told = output("ip", &["address", "show", "br"]);
        assert!(told.contains("172.30.0.1/16 brd 172.30.255.255"), "{told}");
        for (destination, gateway) in [
            ("0.0.0.0/0", Some("172.30.0.254")),
            ("::/0", Some("fd00:30::fe")),
            ("10.9.0.0/16", None),
        ] {
            let new = NewRoute {
                destination: cidr(destination),
                gateway: gateway.map(|text| text.parse().unwrap()),
                index: br,
                source: None,
                metric: 0,
            };
            route.add_route(&new).unwrap();
            let seen = route.routes().unwrap();
            let found = seen
                .iter()
                .find(|entry| entry.destination == new.destination)
                .unwrap();
            assert_eq!((found.gateway, found.index), (new.gateway, Some(br)));
            route.delete_route(&new).unwrap();
            assert!(route.delete_route(&new).unwrap_err().is_absent());
        }
        route.delete_address(br, cidr("172.30.0.1/16")).unwrap();
        assert!(
            route
                .delete_address(br, cidr("172.30.0.1/16"))
                .unwrap_err()
                .is_absent()
        );
    });
}

#[test]
fn a_bucket_bounds_what_is_sent() {
    in_namespace(|| {
        let mut route = Route::open().unwrap();
        let peer = NewLink::new("b", Kind::Other(""));
        route
            .create_link(&NewLink {
                up: true,
                ..NewLink::new("a", Kind::Veth(&peer))
            })
            .unwrap();
        let a = route.link("a").unwrap().index;
        for (rate, words) in [
            (1_250_000, "rate 10Mbit"),
            (12_500_000_000, "rate 100Gbit"),
            (125_000, "rate 1Mbit"),
        ] {
            route.shape(a, Shaper::for_rate(rate)).unwrap();
            let told = output("tc", &["qdisc", "show", "dev", "a"]);
            assert!(told.contains("tbf") && told.contains(words), "{told}");
        }
        route.unshape(a).unwrap();
        assert!(!output("tc", &["qdisc", "show", "dev", "a"]).contains("tbf"));
    });
}
