//! Network namespaces: servers that only a container reaches, and the host's own list of servers.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::Duration;

use fs_err::os::unix::fs::symlink;
use havre_dns::server::{Settings, run};
use havre_dns::{Companion, Upstreams, Zone};
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use simple_dns::TYPE;
use tempfile::TempDir;

use crate::support::{Sockets, World, address, until, zone};
use crate::upstream::{Seen, Upstream};

/// Runs in a thread with a network of its own, in which only `lo` is.
fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = spawn(|| {
        havre_sys::namespace::unshare(UnshareFlags::NEWNET).expect("a namespace");
        havre_sys::net::loopback_up().expect("lo");
        work()
    });
    thread.join().expect("the thread does not panic")
}

fn pair(address: &str) -> (UdpSocket, TcpListener) {
    let udp = UdpSocket::bind(address).expect("a UDP socket");
    let tcp = TcpListener::bind(udp.local_addr().expect("an address")).expect("a TCP socket");
    (udp, tcp)
}

fn last_byte(last: u8) -> crate::upstream::Behaviour {
    Box::new(move |seen: &Seen| {
        let mut reply = seen.addresses(1);
        reply.pop();
        reply.push(last);
        vec![reply]
    })
}

#[tokio::test]
async fn servers_named_for_a_container_are_asked_from_within_it() {
    let world = World::new().await;
    let (sockets, client, outside) = apart(|| {
        let (udp, tcp) = pair("127.0.0.11:0");
        let sockets = Sockets { udp, tcp };
        let client = sockets.client();
        (sockets, client, pair("127.0.0.1:0"))
    });
    let upstream = Upstream::on(outside.0, outside.1, last_byte(7));
    let mut zone = Zone {
        upstreams: Upstreams::FromContainer(vec![upstream.address]),
        // Also on an internal network: there is no way out of the namespace.
        forward: false,
        ..zone(Vec::new())
    };
    let own = sockets.udp.local_addr().expect("an address");
    let companion = &world.companion;
    companion
        .serve("c1", &zone, sockets.udp.into(), sockets.tcp.into())
        .await
        .expect("served");
    let reply = client.ask_outside("example.com", TYPE::A);
    assert_eq!(reply.addresses, [address("192.0.2.7")]);
    // A container of another namespace, served before and after, is not mistaken for it.
    let here = Upstream::start(last_byte(8));
    let second = crate::support::zone(vec![here.address]);
    let other = Sockets::open().serve(companion, "c2", &second).await;
    for _ in 0..3 {
        let reply = other.ask_outside("example.com", TYPE::A);
        assert_eq!(reply.addresses, [address("192.0.2.8")]);
        let reply = client.ask_outside("example.com", TYPE::A);
        assert_eq!(reply.addresses, [address("192.0.2.7")]);
    }
    // From the host nobody is at that address.
    let before = upstream.seen().len();
    zone.upstreams = Upstreams::FromHost(vec![upstream.address]);
    zone.forward = true;
    companion.update("c1", &zone).await.expect("updated");
    assert_eq!(client.ask("example.com", TYPE::A).code, 2);
    // The own address is nobody's name server.
    zone.upstreams = Upstreams::FromContainer(vec![SocketAddr::new(own.ip(), 53)]);
    companion.update("c1", &zone).await.expect("updated");
    assert_eq!(client.ask("example.com", TYPE::A).code, 2);
    assert_eq!(upstream.seen().len(), before);
}

/// A companion on a thread of this process, in a network of its own, with another resolv.conf than the machine's.
fn companion_apart(dir: &TempDir) -> (Sockets, crate::support::Client, [Upstream; 2]) {
    let path = dir.path().to_owned();
    let (sockets, client, first, second) = {
        let (sender, receiver) = channel();
        drop(spawn(move || {
            havre_sys::namespace::unshare(UnshareFlags::NEWNET).expect("a namespace");
            havre_sys::net::loopback_up().expect("lo");
            let (udp, tcp) = pair("127.0.0.11:0");
            let sockets = Sockets { udp, tcp };
            let client = sockets.client();
            let made = (sockets, client, pair("127.0.0.1:53"), pair("127.0.0.2:53"));
            sender.send(made).expect("the test waits");
            let settings = Settings {
                directory: open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .expect("the directory"),
                resolv_conf: path.join("resolv.conf"),
                linger: Duration::from_secs(5),
            };
            run(listen(&path.join("net.sock")), settings).expect("served");
        }));
        receiver.recv().expect("the sockets")
    };
    let upstreams = [
        Upstream::on(first.0, first.1, last_byte(1)),
        Upstream::on(second.0, second.1, last_byte(2)),
    ];
    (sockets, client, upstreams)
}

fn listen(path: &std::path::Path) -> OwnedFd {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).expect("an address")).expect("bound");
    rustix::net::listen(&socket, 16).expect("listening");
    socket
}

#[tokio::test]
async fn the_hosts_list_of_servers_is_followed() {
    let dir = TempDir::new().expect("a directory");
    let elsewhere = TempDir::new().expect("a directory");
    let target = elsewhere.path().join("managed.conf");
    fs_err::write(&target, "nameserver 127.0.0.1\n").expect("written");
    // As with network managers, the file is a link to what they write.
    symlink(&target, dir.path().join("resolv.conf")).expect("linked");
    let (sockets, client, [first, second]) = companion_apart(&dir);
    let mut companion = None;
    until("it listens", || dir.path().join("net.sock").exists()).await;
    while companion.is_none() {
        companion = Companion::connect(dir.path()).await.expect("reachable");
    }
    let companion = companion.expect("connected");
    let zone = Zone {
        upstreams: Upstreams::Host,
        ..zone(Vec::new())
    };
    companion
        .serve("c1", &zone, sockets.udp.into(), sockets.tcp.into())
        .await
        .expect("served");
    let asks = |last: &str| client.ask_outside("example.com", TYPE::A).addresses == [address(last)];
    until("the first", || asks("192.0.2.1")).await;
    // Written in place, where the link leads.
    fs_err::write(&target, "nameserver 127.0.0.2\n").expect("written");
    until("the second", || asks("192.0.2.2")).await;
    // Replaced.
    let new = elsewhere.path().join("new");
    fs_err::write(&new, "# back\nnameserver 127.0.0.1\n").expect("written");
    fs_err::rename(&new, &target).expect("replaced");
    until("the first again", || asks("192.0.2.1")).await;
    // The link itself is replaced by a file.
    let plain = dir.path().join("plain");
    fs_err::write(&plain, "nameserver 127.0.0.2\n").expect("written");
    fs_err::rename(&plain, dir.path().join("resolv.conf")).expect("replaced");
    until("the second again", || asks("192.0.2.2")).await;
    drop((first, second));
}
