//! Ports of the host: claimed, published, given back (SECURITY N09, N20).

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use havre_network::ports::{Ports, Request};
use havre_network::{EndpointSpec, Protocol, Publication};

use crate::support::{
    LIMIT, Other, SILENCE, Server, addr, ask, at, end, host, inside, ip, network, output, part,
    plane, until,
};

fn request(hosts: &[std::net::IpAddr]) -> Request<'_> {
    Request {
        protocol: Protocol::Tcp,
        hosts,
        ports: Some(8080..=8080),
        container: at("172.17.0.2:80"),
    }
}

#[test]
fn a_claimed_port_is_taken_for_everybody() {
    host(|| {
        let ports = Ports::new();
        let everywhere = [addr("0.0.0.0"), addr("::")];
        let claim = ports.claim(&request(&everywhere)).unwrap();
        assert_eq!((claim.port(), claim.held().count()), (8080, 2));
        let taken = TcpListener::bind("127.0.0.1:8080").unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        assert!(output("ss", &["-tln"]).contains("0.0.0.0:8080"));
        let one = [addr("127.0.0.1")];
        assert_eq!(
            ports.claim(&request(&one)).unwrap_err().to_string(),
            "Bind for 127.0.0.1:8080 failed: port is already allocated"
        );
        // The same number of another protocol is another port, and what is dropped is free.
        let udp = Request {
            protocol: Protocol::Udp,
            ..request(&one)
        };
        let _udp = ports.claim(&udp).unwrap();
        drop(claim);
        // A program that another test starts just now has copies of all descriptors until it runs.
        let mut other = None;
        until("the port is free", || {
            other = TcpListener::bind("0.0.0.0:8080").ok();
            other.is_some()
        });
        let all = [addr("0.0.0.0")];
        assert_eq!(
            ports.claim(&request(&all)).unwrap_err().to_string(),
            "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use"
        );
        let elsewhere = [addr("192.0.2.77")];
        assert_eq!(
            ports.claim(&request(&elsewhere)).unwrap_err().to_string(),
            "failed to bind host port for 192.0.2.77:8080:172.17.0.2:80/tcp: cannot assign requested address"
        );
    });
}

#[test]
fn ranges_and_ports_that_nobody_chose() {
    host(|| {
        let ports = Ports::new();
        let hosts = [addr("0.0.0.0")];
        let _other = TcpListener::bind("0.0.0.0:8081").unwrap();
        let range = Request {
            ports: Some(8080..=8083),
            ..request(&hosts)
        };
        let claims: Vec<_> = (0..3).map(|_| ports.claim(&range).unwrap()).collect();
        let numbers: Vec<u16> = claims.iter().map(|claim| claim.port()).collect();
        assert_eq!(numbers, [8080, 8082, 8083]);
        ports.claim(&range).unwrap_err();
        let any = Request {
            ports: None,
            ..request(&hosts)
        };
        let (one, two) = (ports.claim(&any).unwrap(), ports.claim(&any).unwrap());
        assert!(one.port() >= 32768 && one.port() < two.port());
        let last = two.port();
        drop((one, two));
        // Not the same again at once.
        assert!(ports.claim(&any).unwrap().port() > last);
    });
}

#[test]
fn a_socket_of_a_claim_hears_only_who_serves_it() {
    host(|| {
        let ports = Ports::new();
        let hosts = [addr("127.0.0.1")];
        let claim = ports.claim(&request(&hosts)).unwrap();
        let address = at("127.0.0.1:8080");
        let deaf = std::net::TcpStream::connect_timeout(&address, SILENCE);
        assert_eq!(deaf.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        let listener = TcpListener::from(claim.listener(address).unwrap().unwrap());
        let _client = std::net::TcpStream::connect_timeout(&address, LIMIT).unwrap();
        listener.accept().unwrap();
        assert!(claim.listener(at("127.0.0.1:1")).unwrap().is_none());
    });
}

#[test]
fn tens_of_thousands_of_ports_are_one_element() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = Other::cabled("lan0");
        ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
        lan.inside(|| ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]));
        let plane = plane(directory.path());
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let one = plane.sandbox().unwrap();
        let ports = Ports::new();
        let hosts = [addr("0.0.0.0")];
        let udp = Request {
            protocol: Protocol::Udp,
            ..request(&hosts)
        };
        let busy = UdpSocket::bind("127.0.0.1:20000").unwrap();
        let error = ports.claim_all(&udp, 10_000..=60_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to bind host port for 0.0.0.0:20000:172.17.0.2:10080/udp: address already in use"
        );
        drop(busy);
        until("the port is free", || {
            ports.claim_all(&udp, 10_000..=60_000).is_ok()
        });
        let begin = Instant::now();
        let claim = ports.claim_all(&udp, 10_000..=60_000).unwrap();
        let publications: Vec<Publication> = claim
            .ports()
            .map(|port| Publication {
                protocol: Protocol::Udp,
                host: addr("0.0.0.0"),
                host_port: port,
                container_port: port,
            })
            .collect();
        let spec = EndpointSpec {
            publications,
            ..end(&net, "e1", "172.30.0.2/16")
        };
        plane.attach(&one, &spec).unwrap();
        let took = begin.elapsed();
        println!("50,001 ports: {took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
        let rules = output("nft", &["list", "ruleset"]);
        assert!(rules.contains("udp . 10000-60000 : 172.30.0.2"), "{rules}");
        assert!(rules.len() < 20_000, "{}", rules.len());
        for port in [10_000, 33_333, 60_000] {
            let server = inside(one.fd(), || UdpSocket::bind(("0.0.0.0", port)).unwrap());
            server.set_read_timeout(Some(LIMIT)).unwrap();
            lan.inside(|| {
                let client = UdpSocket::bind("0.0.0.0:0").unwrap();
                client.send_to(b"x", ("192.0.2.1", port)).unwrap();
            });
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from.ip(), addr("192.0.2.2"));
        }
        plane.detach(Some(&one), "e1").unwrap();
        assert!(!output("nft", &["list", "ruleset"]).contains("10000"));
    });
}

/// N20: a flow to a published port of a container that is gone does not go on to the next holder of its address.
#[test]
fn the_next_holder_of_an_address_gets_nothing_of_the_last() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = Other::cabled("lan0");
        ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
        lan.inside(|| ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]));
        let plane = plane(directory.path());
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let udp = |host_port| Publication {
            protocol: Protocol::Udp,
            host: addr("0.0.0.0"),
            host_port,
            container_port: 53,
        };
        let client = lan.inside(|| UdpSocket::bind("192.0.2.2:0").unwrap());
        let attach = |id: &str, ports: Vec<Publication>| {
            let sandbox = plane.sandbox().unwrap();
            let spec = EndpointSpec {
                publications: ports,
                ..end(&net, id, "172.30.0.2/16")
            };
            plane.attach(&sandbox, &spec).unwrap();
            let server = inside(sandbox.fd(), || UdpSocket::bind("0.0.0.0:53").unwrap());
            server.set_read_timeout(Some(LIMIT)).unwrap();
            (sandbox, server)
        };
        let (first, server) = attach("e1", vec![udp(5353)]);
        client.send_to(b"1", "192.0.2.1:5353").unwrap();
        server.recv_from(&mut [0; 8]).unwrap();
        drop((server, first));
        plane.detach(None, "e1").unwrap();
        // The same address at once, without that port: the flow that goes on does not reach it.
        let (second, server) = attach("e2", Vec::new());
        client.send_to(b"2", "192.0.2.1:5353").unwrap();
        server.set_read_timeout(Some(SILENCE)).unwrap();
        server.recv_from(&mut [0; 8]).unwrap_err();
        // And a flow that went elsewhere before comes here once the port is published.
        plane.publish("e2", &[udp(5353)]).unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        client.send_to(b"3", "192.0.2.1:5353").unwrap();
        let mut buffer = [0; 8];
        let (count, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..count], from.ip()),
            (&b"3"[..], addr("192.0.2.2"))
        );
        drop((server, second));
        plane.detach(None, "e2").unwrap();
    });
}

/// N09: a server in a container sees the address that its client has, of IPv4 and IPv6, TCP and UDP, from another host and
/// from a container of the same network.
#[test]
fn servers_see_their_clients() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let lan = Other::cabled("lan0");
        ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
        ip(&["address", "add", "2001:db8::1/64", "dev", "lan0", "nodad"]);
        lan.inside(|| {
            ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]);
            ip(&["address", "add", "2001:db8::2/64", "dev", "eth0", "nodad"]);
        });
        let plane = plane(directory.path());
        let mut net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        net.ipv6 = vec![part("fd00:30::/64")];
        plane.add_network(&net).unwrap();
        let (one, two) = (plane.sandbox().unwrap(), plane.sandbox().unwrap());
        let both = |id: &str, last: u8| EndpointSpec {
            ipv6: format!("fd00:30::{last}/64").parse().ok(),
            default_route: (true, true),
            ..end(&net, id, &format!("172.30.0.{last}/16"))
        };
        let publish = |protocol, host: &str| Publication {
            protocol,
            host: addr(host),
            host_port: 8080,
            container_port: 80,
        };
        let mut spec = both("e1", 2);
        spec.publications = ["0.0.0.0", "::"]
            .into_iter()
            .flat_map(|any| [Protocol::Tcp, Protocol::Udp].map(|protocol| publish(protocol, any)))
            .collect();
        plane.attach(&one, &spec).unwrap();
        plane.attach(&two, &both("e2", 3)).unwrap();
        let _server = Server::start(&one, "[::]:80");
        let datagrams = inside(one.fd(), || UdpSocket::bind("[::]:80").unwrap());
        datagrams.set_read_timeout(Some(LIMIT)).unwrap();
        let seen = |place: BorrowedFd<'_>, to: &str| {
            let by_tcp: IpAddr = inside(place, || ask(to).unwrap()).parse().unwrap();
            inside(place, || {
                let any = if to.starts_with('[') {
                    "[::]:0"
                } else {
                    "0.0.0.0:0"
                };
                UdpSocket::bind(any).unwrap().send_to(b"x", to).unwrap();
            });
            let (_, by_udp) = datagrams.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(by_tcp.to_canonical(), by_udp.ip().to_canonical(), "{to}");
            by_tcp.to_canonical()
        };
        let outside = lan.inside(|| {
            let opened = fs_err::File::open("/proc/thread-self/ns/net").unwrap();
            OwnedFd::from(opened.into_parts().0)
        });
        for (place, to, client) in [
            (outside.as_fd(), "192.0.2.1:8080", "192.0.2.2"),
            (outside.as_fd(), "[2001:db8::1]:8080", "2001:db8::2"),
            (two.fd(), "172.30.0.2:80", "172.30.0.3"),
            (two.fd(), "[fd00:30::2]:80", "fd00:30::3"),
        ] {
            assert_eq!(seen(place, to), addr(client), "{to}");
        }
    });
}
