//! Bridges and the ends on them.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use crate::support::{
    LIMIT, Other, Server, addr, ask, at, end, host, inside, ip, network, output, plane, tcp,
    unreachable,
};

#[test]
fn containers_reach_each_other_the_host_and_the_world() {
    host(|| reach(false));
}

#[test]
fn the_same_where_bridged_packets_go_through_the_rules() {
    host(|| reach(true));
}

/// Everybody to everybody; with br_netfilter or without.
fn reach(filtered: bool) {
    bridge_filter(filtered);
    {
        let directory = tempfile::tempdir().unwrap();
        let lan = Other::cabled("lan0");
        ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
        lan.inside(|| ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]));
        let plane = plane(directory.path());
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let (one, two) = (plane.sandbox().unwrap(), plane.sandbox().unwrap());
        let mut spec = end(&net, "e1", "172.30.0.2/16");
        spec.publications = vec![tcp("0.0.0.0", 8080, 80), tcp("127.0.0.1", 8081, 80)];
        let attached = plane.attach(&one, &spec).unwrap();
        assert_eq!(attached.interface, "eth0");
        assert_eq!(attached.mac.unwrap().to_string(), "02:42:ac:1e:00:02");
        plane
            .attach(&two, &end(&net, "e2", "172.30.0.3/16"))
            .unwrap();
        let _server = Server::start(&one, "0.0.0.0:80");
        // Container to container, and the host to the container.
        let seen = inside(two.fd(), || ask("172.30.0.2:80").unwrap());
        assert_eq!(seen, "172.30.0.3");
        assert_eq!(ask("172.30.0.2:80").unwrap(), "172.30.0.1");
        // Published: from another host with its own address, from this one, and from a neighbour.
        assert_eq!(lan.inside(|| ask("192.0.2.1:8080").unwrap()), "192.0.2.2");
        assert_eq!(ask("192.0.2.1:8080").unwrap(), "192.0.2.1");
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "172.30.0.1");
        assert_eq!(ask("127.0.0.1:8081").unwrap(), "172.30.0.1");
        let seen = inside(two.fd(), || ask("192.0.2.1:8080").unwrap());
        // Its own address may be kept only where the bridge itself translates back.
        let expected = if filtered && has_bridge_filter() {
            "172.30.0.3"
        } else {
            "172.30.0.1"
        };
        assert_eq!(seen, expected);
        let seen = inside(one.fd(), || ask("192.0.2.1:8080").unwrap());
        assert_eq!(seen, "172.30.0.1");
        lan.inside(|| unreachable("192.0.2.1:8081"));
        // Out into the world, with the host's address.
        let outer = Server::within(lan.inside(namespace), at("0.0.0.0:90"));
        let seen = inside(two.fd(), || ask("192.0.2.2:90").unwrap());
        assert_eq!(seen, "192.0.2.1");
        drop(outer);
        assert_eq!(addr("172.30.0.1"), net.ipv4[0].gateway.unwrap());
        plane.detach(Some(&one), "e1").unwrap();
        unreachable("127.0.0.1:8080");
        assert!(!output("nft", &["list", "ruleset"]).contains("8080"));
        plane.detach(Some(&two), "e2").unwrap();
        plane.remove_network(&net.id).unwrap();
        let left = output("ip", &["-brief", "link"]);
        assert!(!left.contains("hv"), "{left}");
    }
}

const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

fn has_bridge_filter() -> bool {
    std::path::Path::new(BRIDGE_FILTER).exists()
}

/// Whether frames that a bridge forwards go through the rules of the host; a kernel without br_netfilter cannot.
fn bridge_filter(on: bool) {
    if has_bridge_filter() {
        fs_err::write(BRIDGE_FILTER, if on { "1" } else { "0" }).unwrap();
    }
}

fn namespace() -> OwnedFd {
    fs_err::File::open("/proc/thread-self/ns/net")
        .unwrap()
        .into_parts()
        .0
        .into()
}

#[test]
fn the_resolver_hears_what_is_asked_of_its_address() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let sandbox = plane.sandbox().unwrap();
        // Twice: the second pair is the one that hears.
        sandbox.dns_sockets().unwrap();
        let (udp, tcp) = sandbox.dns_sockets().unwrap();
        let udp = UdpSocket::from(udp);
        let tcp = TcpListener::from(tcp);
        udp.set_nonblocking(false).unwrap();
        udp.set_read_timeout(Some(LIMIT)).unwrap();
        tcp.set_nonblocking(false).unwrap();
        inside(sandbox.fd(), || {
            let own = UdpSocket::bind("0.0.0.0:53").unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect("127.0.0.11:53").unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 64];
            let (count, from) = udp.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"question");
            udp.send_to(b"answer", from).unwrap();
            let count = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"answer");
            drop(own);
            let _client = TcpStream::connect("127.0.0.11:53").unwrap();
            tcp.accept().unwrap();
        });
    });
}
