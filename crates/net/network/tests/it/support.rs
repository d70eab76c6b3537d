//! Hosts made of namespaces, and the tools that judge them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use havre_network::{
    BridgeOptions, Driver, EndpointSpec, NetworkSpec, Plane, PlaneOptions, Protocol, Publication,
    Sandbox, Subnet, names,
};
use rustix::thread::UnshareFlags;

/// How long something may take that takes no time.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// How long silence is waited for that is to be silence.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

pub(crate) const INSTANCE: &str = "havre-test";

/// Runs a test as a host of its own: a new network namespace.
pub(crate) fn host<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            new_namespace();
            test()
        });
        match worker.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn new_namespace() {
    havre_sys::namespace::unshare(UnshareFlags::NEWNET).expect("a network namespace");
    havre_sys::net::loopback_up().expect("lo");
}

/// Another host, cabled to this one.
pub(crate) struct Other {
    namespace: OwnedFd,
}

impl Other {
    /// A host at the other end of interface `name` of this host; the cable is up and has no addresses.
    pub(crate) fn cabled(name: &str) -> Self {
        let namespace = thread::scope(|scope| {
            let worker = scope.spawn(|| {
                new_namespace();
                let (file, _) = fs_err::File::open("/proc/thread-self/ns/net")
                    .expect("a namespace")
                    .into_parts();
                OwnedFd::from(file)
            });
            worker.join().expect("a namespace")
        });
        let path = fd_path(namespace.as_fd());
        ip(&[
            "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &path,
        ]);
        ip(&["link", "set", name, "up"]);
        let other = Self { namespace };
        other.inside(|| ip(&["link", "set", "eth0", "up"]));
        other
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(self.namespace.as_fd(), work)
    }
}

/// For `ip … netns PATH`: a file name that it can open.
fn fd_path(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())
}

/// Does something in a namespace.
pub(crate) fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            havre_sys::namespace::enter(namespace, None).expect("the namespace");
            work()
        });
        match worker.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What a program prints, in the namespace of the calling thread.
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let (good, text) = attempt(program, arguments);
    assert!(good, "{program} {arguments:?}: {text}");
    text
}

/// Whether a program succeeds, and what it prints.
#[expect(
    clippy::disallowed_methods,
    reason = "the tools are the oracle of these tests"
)]
pub(crate) fn attempt(program: &str, arguments: &[&str]) -> (bool, String) {
    havre_testkit::ensure_packages().expect("packages");
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text + &errors)
}

pub(crate) fn ip(arguments: &[&str]) {
    output("ip", arguments);
}

pub(crate) fn nft(text: &str) {
    output("nft", &[text]);
}

/// The rules of the namespace, without counters.
pub(crate) fn ruleset() -> String {
    output("nft", &["--stateless", "list", "ruleset"])
}

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// A data plane of this host, with a directory that goes with the test.
pub(crate) fn plane(directory: &Path) -> Plane {
    Plane::open(options(directory)).expect("a plane")
}

pub(crate) fn options(directory: &Path) -> PlaneOptions {
    PlaneOptions {
        pool: 1,
        ..PlaneOptions::new(INSTANCE, directory)
    }
}

/// A bridge network with one IPv4 subnet, whose first address is the host's.
pub(crate) fn network(id: &str, subnet: &str) -> NetworkSpec {
    NetworkSpec {
        id: id.to_owned(),
        name: id.to_owned(),
        driver: Driver::Bridge(BridgeOptions::new(&names::bridge(INSTANCE, id))),
        ipv4: vec![part(subnet)],
        ipv6: Vec::new(),
        internal: false,
    }
}

/// A subnet with its first address as the gateway.
pub(crate) fn part(subnet: &str) -> Subnet {
    let cidr: havre_types::Cidr = subnet.parse().expect("a subnet");
    Subnet {
        cidr,
        gateway: cidr.nth(1),
    }
}

/// Changes the options of a bridge network.
pub(crate) fn with(
    mut network: NetworkSpec,
    change: impl FnOnce(&mut BridgeOptions),
) -> NetworkSpec {
    if let Driver::Bridge(options) = &mut network.driver {
        change(options);
    }
    network
}

/// An end with an IPv4 address.
pub(crate) fn end(network: &NetworkSpec, id: &str, address: &str) -> EndpointSpec {
    EndpointSpec {
        network: network.id.clone(),
        id: id.to_owned(),
        ipv4: Some(address.parse().expect("an address")),
        default_route: (true, false),
        ..EndpointSpec::default()
    }
}

pub(crate) fn tcp(host: &str, host_port: u16, container_port: u16) -> Publication {
    Publication {
        protocol: Protocol::Tcp,
        host: addr(host),
        host_port,
        container_port,
    }
}

/// A server in a namespace that tells each client the address it comes from.
pub(crate) struct Server {
    address: SocketAddr,
    namespace: OwnedFd,
    worker: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Listens in a sandbox, on all addresses of a family.
    pub(crate) fn start(sandbox: &Sandbox, address: &str) -> Self {
        let namespace = sandbox.fd().try_clone_to_owned().expect("a descriptor");
        Self::within(namespace, at(address))
    }

    pub(crate) fn within(namespace: OwnedFd, address: SocketAddr) -> Self {
        let listener = inside(namespace.as_fd(), || {
            TcpListener::bind(address).expect("a listener")
        });
        let worker = thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let peer = stream.peer_addr().map(|peer| peer.ip().to_string());
                if stream.set_read_timeout(Some(LIMIT)).is_err() {
                    continue;
                }
                let mut first = [0];
                match stream.read(&mut first) {
                    Ok(1) if first[0] == b'!' => return,
                    Ok(1) => {
                        let text = peer.unwrap_or_default();
                        // A client that is gone need not hear.
                        drop(stream.write_all(text.as_bytes()));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        });
        Self {
            address,
            namespace,
            worker: Some(worker),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let loopback = if self.address.is_ipv4() {
            addr("127.0.0.1")
        } else {
            addr("::1")
        };
        let address = SocketAddr::new(loopback, self.address.port());
        inside(self.namespace.as_fd(), || {
            if let Ok(mut stream) = TcpStream::connect_timeout(&address, LIMIT) {
                drop(stream.write_all(b"!"));
            }
        });
        if let Some(worker) = self.worker.take() {
            drop(worker.join());
        }
    }
}

/// Which address the server at an address sees this client come from; an error when it is not reached.
pub(crate) fn ask(address: &str) -> std::io::Result<String> {
    ask_within(address, LIMIT)
}

pub(crate) fn ask_within(address: &str, limit: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at(address), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"?")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// That an address is not reached: nothing answers for a while, or somebody refuses.
#[track_caller]
pub(crate) fn unreachable(address: &str) {
    if let Ok(told) = ask_within(address, SILENCE) {
        panic!("{address} answered: {told}");
    }
}

/// Whether an IPv4 address answers an ICMP echo soon.
pub(crate) fn ping(address: &str) -> bool {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto,
        socket_with, sockopt,
    };
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(ipproto::ICMP),
    )
    .expect("a raw socket");
    let limit = Some(SILENCE);
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, limit).expect("a limit");
    // Echo request, number 0x4242, and the checksum of that.
    let echo = [8, 0, 0xb5, 0xbd, 0x42, 0x42, 0, 0];
    let to = SocketAddr::new(addr(address), 0);
    if sendto(&socket, &echo, SendFlags::empty(), &to).is_err() {
        return false;
    }
    let deadline = Instant::now() + SILENCE;
    let mut packet = [0; 128];
    while Instant::now() < deadline {
        let Ok((count, _)) = recv(&socket, &mut packet[..], RecvFlags::empty()) else {
            return false;
        };
        // Behind the IP header of 20 bytes: an echo reply of that number.
        if packet[..count].get(20) == Some(&0) && packet[..count].get(24..26) == Some(&[0x42, 0x42])
        {
            return true;
        }
    }
    false
}

/// Waits until something is as it should be.
#[track_caller]
pub(crate) fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    // A channel that nobody sends to: a pause with a limit.
    let (_sender, nothing) = mpsc::channel::<()>();
    while !check() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        let _pause = nothing.recv_timeout(Duration::from_millis(5));
    }
}
