//! What a container may say that it is: another one (SECURITY N08), a router (N07).

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::slice;

use havre_network::{EndpointSpec, NetworkSpec, Plane, Reconciled, Sandbox};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use crate::support::{
    INSTANCE, Other, Server, ask, end, host, inside, ip, network, nft, output, part, ping, plane,
    ruleset, until, with,
};

/// How the liar's frames are changed on their way out, what it does to send one, by what the peer knows it, and which rule
/// drops it.
struct Lie {
    change: &'static str,
    send: fn(),
    seen: &'static str,
    rule: &'static str,
}

const LIES: [Lie; 11] = [
    Lie {
        change: "udp dport 9 ether saddr set 02:00:00:00:00:66",
        send: datagram,
        seen: "ether saddr 02:00:00:00:00:66",
        rule: "from the hardware address of another",
    },
    Lie {
        change: "udp dport 9 ip saddr set 172.30.0.3",
        send: datagram,
        seen: "ip saddr 172.30.0.3 udp dport 9",
        rule: "from the address of another",
    },
    Lie {
        change: "udp dport 9 ip6 saddr set fd00:30::3",
        send: datagram6,
        seen: "ip6 saddr fd00:30::3 udp dport 9",
        rule: "from the address of another",
    },
    Lie {
        change: "arp operation request arp saddr ip set 172.30.0.3",
        send: ask_for_peer,
        seen: "arp saddr ip 172.30.0.3",
        rule: "ARP for the address of another",
    },
    Lie {
        change: "arp operation request arp saddr ether set 02:00:00:00:00:66",
        send: ask_for_peer,
        seen: "arp saddr ether 02:00:00:00:00:66",
        rule: "ARP for the hardware address of another",
    },
    Lie {
        change: "arp operation request arp htype set 6",
        send: ask_for_peer,
        seen: "arp htype 6",
        rule: "ARP about something else than IPv4",
    },
    Lie {
        change: "",
        send: || tell(ADVERTISEMENT),
        seen: "icmpv6 type nd-neighbor-advert @th,64,128 0xfd000030000000000000000000000003",
        rule: "says that it has the address of another",
    },
    Lie {
        change: "icmpv6 type nd-neighbor-solicit ip6 saddr set ::",
        send: || tell(SOLICITATION),
        seen: "ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 0xfd000030000000000000000000000003",
        rule: "claims the address of another",
    },
    Lie {
        change: "",
        send: || tell(ROUTER),
        seen: "icmpv6 type nd-router-advert",
        rule: "says that it is a router",
    },
    Lie {
        change: "",
        send: || tell(REDIRECT),
        seen: "icmpv6 type nd-redirect",
        rule: "says that it is a router",
    },
    Lie {
        change: "udp dport 9 ether type set 0x88b5",
        send: datagram,
        seen: "ether type 0x88b5",
        rule: "neither ARP nor IP: nothing of it can be checked",
    },
];

// RFC 4861: types of messages.
const ROUTER: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// To the peer; it need not listen.
fn datagram() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.send_to(b"x", "172.30.0.4:9").unwrap();
}

fn datagram6() {
    let socket = UdpSocket::bind("[::]:0").unwrap();
    socket.send_to(b"x", "[fd00:30::4]:9").unwrap();
}

/// Has the kernel ask by ARP where the peer is.
fn ask_for_peer() {
    ip(&["neigh", "flush", "dev", "eth0"]);
    datagram();
}

/// The number of an interface.
fn number(interface: &str) -> u32 {
    let shown = output("ip", &["-o", "link", "show", interface]);
    let (number, _) = shown.split_once(':').expect("a number");
    number.parse().expect("a number")
}

fn icmpv6(message: &[u8], to: SocketAddr) {
    let socket = rustix::net::socket_with(
        AddressFamily::INET6,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(ipproto::ICMPV6),
    )
    .unwrap();
    // Nobody believes a message that may have come from afar.
    sockopt::set_ipv6_unicast_hops(&socket, Some(255)).unwrap();
    sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
    rustix::net::sendto(&socket, message, SendFlags::empty(), &to).unwrap();
}

/// Tells everybody on the network that this container leads out of it (RFC 4861, 4.2).
fn advertise_a_router() {
    let mut message = vec![ROUTER, 0, 0, 0, 64, 0, 0x07, 0x08];
    message.extend([0; 8]);
    let everybody = "ff02::1".parse().unwrap();
    let to = SocketAddrV6::new(everybody, 0, 0, number("eth0"));
    icmpv6(&message, to.into());
}

/// N07: when a container says that it is a router, neither the host nor its neighbours believe it.
#[test]
fn nobody_takes_a_container_for_a_router() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let net = spoofing_network(false);
        let [liar, neighbour, believer] = three(&plane, &net);
        let routes = || output("ip", &["-6", "route"]);
        inside(believer.fd(), || {
            fs_err::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2").unwrap();
        });
        // Who wants to believe such messages does: this one could be believed.
        until("somebody believes it", || {
            inside(liar.fd(), advertise_a_router);
            inside(believer.fd(), routes).contains("proto ra")
        });
        for told in [routes(), inside(neighbour.fd(), routes)] {
            assert!(
                told.contains("fd00:30::/64") && !told.contains("proto ra"),
                "{told}"
            );
        }
    });
}

/// An ICMPv6 message to the peer about the address of the victim.
fn tell(kind: u8) {
    let victim: Ipv6Addr = "fd00:30::3".parse().unwrap();
    // Type, code, checksum, flags or lifetimes, then what it is about.
    let mut message = vec![kind, 0, 0, 0, 0x20, 0, 0x07, 0x08];
    message.extend(victim.octets());
    if kind == REDIRECT {
        message.extend(victim.octets());
    }
    icmpv6(&message, "[fd00:30::4]:0".parse().unwrap());
}

/// How many frames the rule with this comment has counted; the sum where there are several.
fn counted(rules: &str, comment: &str) -> u64 {
    let comment = format!("comment \"{comment}\"");
    let lines = rules.lines().filter(|line| line.contains(&comment));
    let packets = lines.map(|line| {
        let (_, after) = line.split_once("packets ").expect("a counter");
        let number = after.split(' ').next().unwrap_or_default();
        number.parse::<u64>().expect("a number")
    });
    packets.sum()
}

fn spoofing_network(anti_spoofing: bool) -> NetworkSpec {
    let mut net = with(network("aaaaaaaaaaaa", "172.30.0.0/24"), |options| {
        options.anti_spoofing = anti_spoofing;
    });
    net.ipv6 = vec![part("fd00:30::/64")];
    net
}

fn both(net: &NetworkSpec, last: u8) -> EndpointSpec {
    EndpointSpec {
        ipv6: format!("fd00:30::{last}/64").parse().ok(),
        default_route: (true, true),
        ..end(net, &format!("e{last}"), &format!("172.30.0.{last}/24"))
    }
}

/// A liar, its victim and who is to believe it, on one network.
fn three(plane: &Plane, net: &NetworkSpec) -> [Sandbox; 3] {
    plane.add_network(net).unwrap();
    [2, 3, 4].map(|last| {
        let sandbox = plane.sandbox().unwrap();
        plane.attach(&sandbox, &both(net, last)).unwrap();
        sandbox
    })
}

/// The peer counts the lies that it hears.
fn listen(peer: &Sandbox) {
    inside(peer.fd(), || {
        nft(
            "add table netdev seen { chain c { type filter hook ingress device eth0 priority 0; }; }",
        );
        for (number, lie) in LIES.iter().enumerate() {
            nft(&format!(
                "add rule netdev seen c {} counter comment \"{number}\"",
                lie.seen
            ));
        }
    });
}

fn heard(peer: &Sandbox, number: usize) -> u64 {
    let rules = inside(peer.fd(), || {
        output("nft", &["list", "table", "netdev", "seen"])
    });
    counted(&rules, &number.to_string())
}

/// Changes what the liar sends from now on.
fn change(rule: &str) {
    nft("add table netdev lie");
    nft("delete table netdev lie");
    if !rule.is_empty() {
        nft(&format!(
            "add table netdev lie {{ chain c {{ type filter hook egress device eth0 priority 0; {rule}; }}; }}"
        ));
    }
}

/// What the engine's rule has dropped.
fn dropped(rule: &str) -> u64 {
    counted(&output("nft", &["list", "table", "bridge", INSTANCE]), rule)
}

/// Tells a lie until it is dropped, and sees that the peer has not heard it.
#[track_caller]
fn is_dropped(number: usize, lie: &Lie, [liar, _, peer]: &[Sandbox; 3]) {
    let before = dropped(lie.rule);
    inside(liar.fd(), || change(lie.change));
    until(lie.rule, || {
        inside(liar.fd(), lie.send);
        dropped(lie.rule) > before
    });
    inside(liar.fd(), || change(""));
    assert_eq!(heard(peer, number), 0, "{}", lie.rule);
}

/// N08, as Docker has it: without the option all of the lies arrive. It is also what shows that they are told.
#[test]
fn lies_are_heard_where_nobody_asks_for_anti_spoofing() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let sandboxes = three(&plane, &spoofing_network(false));
        let [liar, _, peer] = &sandboxes;
        listen(peer);
        for (number, lie) in LIES.iter().enumerate() {
            inside(liar.fd(), || change(lie.change));
            until(lie.rule, || {
                inside(liar.fd(), lie.send);
                heard(peer, number) > 0
            });
        }
        assert!(!ruleset().contains("table bridge"), "{}", ruleset());
    });
}

/// N08: with anti-spoofing, frames from another hardware, IPv4 or IPv6 address than the container's own, and what it says
/// about others by ARP and neighbour discovery, are dropped at its cable, and counted; its own traffic goes on.
#[test]
fn lies_go_no_further_than_the_cable() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let first = plane(directory.path());
        let net = spoofing_network(true);
        let sandboxes = three(&first, &net);
        let [liar, victim, peer] = &sandboxes;
        listen(peer);
        for (number, lie) in LIES.iter().enumerate() {
            is_dropped(number, lie, &sandboxes);
        }
        truth_is_heard(&sandboxes);
        // The next engine finds the same, and what somebody flushes comes back.
        let built = ruleset();
        drop(first);
        let second = plane(directory.path());
        let ends = [2, 3, 4].map(|last| both(&net, last));
        let found = second.reconcile(slice::from_ref(&net), &ends).unwrap();
        assert_eq!(found, Reconciled::default());
        assert_eq!(ruleset(), built);
        nft("flush ruleset");
        until("the rules are back", || ruleset() == built);
        nft(&format!("delete table bridge {INSTANCE}"));
        until("the table is back", || ruleset() == built);
        is_dropped(0, &LIES[0], &sandboxes);
        // What goes takes its part along; a network without the option has no part.
        second.detach(Some(victim), "e3").unwrap();
        let left = output("nft", &["list", "table", "bridge", INSTANCE]);
        assert!(
            !left.contains("172.30.0.3") && left.contains("172.30.0.2"),
            "{left}"
        );
        second.detach(Some(liar), "e2").unwrap();
        second.detach(None, "e4").unwrap();
        let empty = output("nft", &["list", "table", "bridge", INSTANCE]);
        assert!(!empty.contains("elements"), "{empty}");
        second.remove_network(&net.id).unwrap();
        assert!(!ruleset().contains("table bridge"), "{}", ruleset());
    });
}

/// All that a container may do on its network and out of it, it may still do.
fn truth_is_heard([liar, _, peer]: &[Sandbox; 3]) {
    let lan = Other::cabled("lan0");
    ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
    let namespace = lan.inside(|| {
        ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]);
        let opened = fs_err::File::open("/proc/thread-self/ns/net").unwrap();
        opened.into_parts().0.into()
    });
    let _outside = Server::within(namespace, "0.0.0.0:90".parse().unwrap());
    let _server = Server::start(peer, "[::]:80");
    inside(liar.fd(), || {
        ip(&["neigh", "flush", "dev", "eth0"]);
        assert_eq!(ask("172.30.0.4:80").unwrap(), "::ffff:172.30.0.2");
        assert_eq!(ask("[fd00:30::4]:80").unwrap(), "fd00:30::2");
        assert_eq!(ask("192.0.2.2:90").unwrap(), "192.0.2.1");
        assert!(ping("172.30.0.1") && ping("172.30.0.4"));
        // The address that the kernel made of the hardware's.
        let shown = output("ip", &["-6", "address", "show", "dev", "eth0"]);
        assert!(shown.contains("fe80::42:acff:fe1e:2/64"), "{shown}");
        let peer: Ipv6Addr = "fe80::42:acff:fe1e:4".parse().unwrap();
        let address = SocketAddrV6::new(peer, 80, 0, number("eth0"));
        std::net::TcpStream::connect_timeout(&address.into(), crate::support::LIMIT).unwrap();
        // Who looks whether an address is free asks from none.
        ip(&["address", "del", "fd00:30::2/64", "dev", "eth0"]);
        fs_err::write("/proc/sys/net/ipv6/conf/eth0/dad_transmits", "1").unwrap();
        ip(&["address", "add", "fd00:30::2/64", "dev", "eth0"]);
        until("the address is its own", || {
            let shown = output("ip", &["-6", "address", "show", "dev", "eth0"]);
            shown.contains("fd00:30::2/64") && !shown.contains("tentative")
        });
        assert_eq!(ask("[fd00:30::4]:80").unwrap(), "fd00:30::2");
    });
    ask("172.30.0.4:80").unwrap();
}
