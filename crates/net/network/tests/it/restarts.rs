//! What an engine finds at its start, other engines beside it, and changes under traffic (SECURITY N05, N06, N19).

use std::net::{TcpListener, TcpStream};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use havre_network::{Driver, NetworkError, Plane, PlaneOptions, Reconciled, Sandbox, names};

use crate::support::{
    INSTANCE, Other, Server, ask, at, attempt, end, host, inside, ip, network, options, output,
    plane, ruleset, tcp, unreachable, until, with,
};

#[test]
fn a_new_engine_takes_over_repairs_and_sweeps() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let (kept, gone) = (
            with(network("aaaaaaaaaaaa", "172.30.0.0/16"), |o| o.icc = false),
            network("bbbbbbbbbbbb", "172.31.0.0/16"),
        );
        let first = plane(directory.path());
        first.add_network(&kept).unwrap();
        first.add_network(&gone).unwrap();
        let (one, two) = (first.sandbox().unwrap(), first.sandbox().unwrap());
        let mut spec = end(&kept, "e1", "172.30.0.2/16");
        spec.publications = vec![tcp("0.0.0.0", 8080, 80)];
        let attached = first.attach(&one, &spec).unwrap();
        first
            .attach(&two, &end(&gone, "e2", "172.31.0.2/16"))
            .unwrap();
        let _server = Server::start(&one, "0.0.0.0:80");
        drop(first);
        // While no engine runs, published ports go on.
        ask("127.0.0.1:8080").unwrap();
        // Somebody deletes the bridge and the rules, the second network is forgotten, and an end was never made.
        ip(&["link", "delete", &names::bridge(INSTANCE, &kept.id)]);
        output("nft", &["flush", "ruleset"]);
        unreachable("127.0.0.1:8080");
        let lost = end(&kept, "e3", "172.30.0.3/16");
        let second = plane(directory.path());
        let found = second
            .reconcile(slice::from_ref(&kept), &[spec.clone(), lost.clone()])
            .unwrap();
        assert_eq!(found.missing, ["e3"]);
        assert_eq!(found.failed, []);
        assert_eq!(found.removed.len(), 2, "{found:?}");
        assert!(found.removed.contains(&names::bridge(INSTANCE, &gone.id)));
        ask("127.0.0.1:8080").unwrap();
        let port = output(
            "ip",
            &[
                "-details",
                "link",
                "show",
                &attached.host_interface.unwrap(),
            ],
        );
        assert!(port.contains("isolated on"), "{port}");
        // The namespace is found again by a process in it, here a thread of this one.
        let again = inside(one.fd(), || {
            Sandbox::of_process(
                u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap(),
            )
            .unwrap()
        });
        second.detach(Some(&again), "e1").unwrap();
        unreachable("127.0.0.1:8080");
        second.attach(&again, &spec).unwrap();
        ask("127.0.0.1:8080").unwrap();
        // A third start finds nothing to do.
        drop(second);
        let third = plane(directory.path());
        let found = third
            .reconcile(slice::from_ref(&kept), slice::from_ref(&spec))
            .unwrap();
        assert_eq!(found, Reconciled::default());
        drop((one, two, again));
    });
}

#[test]
fn engines_side_by_side_leave_each_other_alone() {
    host(|| {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        fs_err::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let open = |place: usize, instance: &str| {
            Plane::open(PlaneOptions {
                instance: instance.to_owned(),
                ..options(directories[place].path())
            })
            .unwrap()
        };
        let (one, two) = (open(0, "havre-one"), open(1, "havre-two"));
        let bridged = |instance: &str, id: &str, subnet: &str| {
            with(network(id, subnet), |o| {
                o.interface = names::bridge(instance, id);
            })
        };
        let own = bridged("havre-one", "aaaaaaaaaaaa", "172.30.0.0/16");
        let other = bridged("havre-two", "aaaaaaaaaaaa", "172.31.0.0/16");
        // The first makes the host forward, and must still let through what is the other's.
        one.add_network(&own).unwrap();
        two.add_network(&other).unwrap();
        let lan = Other::cabled("lan0");
        ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
        lan.inside(|| ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]));
        let sandbox = two.sandbox().unwrap();
        let mut spec = end(&other, "e2", "172.31.0.2/16");
        spec.publications = vec![tcp("0.0.0.0", 8080, 80)];
        two.attach(&sandbox, &spec).unwrap();
        let _server = Server::start(&sandbox, "0.0.0.0:80");
        lan.inside(|| ask("192.0.2.1:8080").unwrap());
        let before = output(
            "nft",
            &["--stateless", "list", "table", "inet", "havre-two"],
        );
        let neighbour = one.sandbox().unwrap();
        one.attach(&neighbour, &end(&own, "e1", "172.30.0.2/16"))
            .unwrap();
        inside(neighbour.fd(), || {
            ask("192.0.2.1:8080").unwrap();
            unreachable("172.31.0.2:80");
        });
        one.reconcile(&[], &[]).unwrap();
        one.clear().unwrap();
        drop(one);
        let after = output(
            "nft",
            &["--stateless", "list", "table", "inet", "havre-two"],
        );
        assert_eq!(before, after);
        // It made the host forward, and the other lives on that: the guard is all that is left of it.
        let left = output("nft", &["list", "table", "inet", "havre-one"]);
        assert!(
            !left.contains("elements") && left.contains("no router"),
            "{left}"
        );
        lan.inside(|| ask("192.0.2.1:8080").unwrap());
    });
}

/// N19: names with quotes, line breaks, semicolons, slashes, or too long, are refused, and the rules stay as they are.
#[test]
fn names_that_are_no_names_change_nothing() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        plane.add_network(&net).unwrap();
        let before = ruleset();
        for name in [
            "a\"b",
            "a\nb",
            "a;b",
            "../x",
            "0123456789abcdef",
            "",
            "br 0",
            "br{",
        ] {
            let wrong = [
                with(net.clone(), |o| o.interface = name.to_owned()),
                with(net.clone(), |o| {
                    o.trusted_host_interfaces = vec![name.to_owned()];
                }),
            ];
            for mut net in wrong {
                net.id = "bbbbbbbbbbbb".to_owned();
                let error = plane.add_network(&net).unwrap_err();
                assert!(matches!(error, NetworkError::InterfaceName(_)), "{error}");
            }
            let sandbox = plane.sandbox().unwrap();
            let mut spec = end(&net, "e1", "172.30.0.2/16");
            spec.interface = Some(name.to_owned());
            plane.attach(&sandbox, &spec).unwrap_err();
        }
        assert_eq!(ruleset(), before);
        // An interface of that name that is something else stays as it is.
        ip(&[
            "link", "add", "cable0", "type", "veth", "peer", "name", "cable1",
        ]);
        let mut taken = with(net.clone(), |o| o.interface = "cable0".to_owned());
        taken.id = "bbbbbbbbbbbb".to_owned();
        let error = plane.add_network(&taken).unwrap_err();
        assert_eq!(
            error.to_string(),
            "interface cable0 is not a bridge but veth"
        );
        assert!(attempt("ip", &["link", "show", "cable0"]).0);
        // A bridge of the administrator's is used and kept.
        ip(&["link", "add", "mine", "type", "bridge"]);
        ip(&["address", "add", "172.31.0.9/16", "dev", "mine"]);
        let mut own = with(network("cccccccccccc", "172.31.0.0/16"), |o| {
            o.interface = "mine".to_owned();
        });
        assert!(matches!(own.driver, Driver::Bridge(_)));
        own.name = "own".to_owned();
        plane.add_network(&own).unwrap();
        let shown = output("ip", &["address", "show", "mine"]);
        assert!(
            shown.contains("172.31.0.9/16") && shown.contains("172.31.0.1/16"),
            "{shown}"
        );
        plane.remove_network(&own.id).unwrap();
        assert!(attempt("ip", &["link", "show", "mine"]).0);
    });
}

/// Somebody who tries again and again to reach what he must not.
pub(crate) fn prober(
    address: &'static str,
    stop: &AtomicBool,
    probes: &AtomicUsize,
    reached: &AtomicUsize,
) {
    while !stop.load(Ordering::Relaxed) {
        probes.fetch_add(1, Ordering::Relaxed);
        if TcpStream::connect_timeout(&at(address), Duration::from_millis(20)).is_ok() {
            reached.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Who lets everybody in and says nothing: one who was cut off is not waited for.
pub(crate) fn doorman(address: &str, stop: &AtomicBool) {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Relaxed) {
        if listener.accept().is_err() {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Ends the probers, also when the test fails.
pub(crate) struct Stopping<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// N05: while a network comes and goes 120 times, nobody from another network or from outside ever reaches its container
/// but by the published port, and nothing that was meant for the container leaves by the host's uplink.
#[test]
fn there_is_no_moment_without_rules() {
    const CYCLES: usize = 120;
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = plane(directory.path());
        let (lan, wan) = (Other::cabled("lan0"), Other::cabled("wan0"));
        ip(&["address", "add", "192.0.2.1/24", "dev", "lan0"]);
        lan.inside(|| {
            ip(&["address", "add", "192.0.2.2/24", "dev", "eth0"]);
            ip(&["route", "add", "172.16.0.0/12", "via", "192.0.2.1"]);
        });
        // A router, so that without the bridge the way to the container is the default route: what takes it is counted.
        fs_err::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        ip(&["address", "add", "198.51.100.1/24", "dev", "wan0"]);
        wan.inside(|| ip(&["address", "add", "198.51.100.2/24", "dev", "eth0"]));
        ip(&["route", "add", "default", "via", "198.51.100.2"]);
        output(
            "nft",
            &[
                "add table inet watch { chain out { type filter hook postrouting priority 300; oifname wan0 ip daddr 172.31.0.0/16 ct status dnat counter packets 0 bytes 0; }; }",
            ],
        );
        let victim = network("aaaaaaaaaaaa", "172.31.0.0/16");
        let attacker = network("bbbbbbbbbbbb", "172.30.0.0/16");
        plane.add_network(&attacker).unwrap();
        let other = plane.sandbox().unwrap();
        let stranger = end(&attacker, "x", "172.30.0.2/16");
        plane.attach(&other, &stranger).unwrap();
        let one = plane.sandbox().unwrap();
        let (stop, probes, reached, published) = (
            AtomicBool::new(false),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let probe = |address, reached| prober(address, &stop, &probes, reached);
        thread::scope(|scope| {
            let _stopping = Stopping(&stop);
            scope.spawn(|| inside(one.fd(), || doorman("0.0.0.0:80", &stop)));
            scope.spawn(|| inside(other.fd(), || probe("172.31.0.2:80", &reached)));
            scope.spawn(|| lan.inside(|| probe("172.31.0.2:80", &reached)));
            scope.spawn(|| lan.inside(|| probe("192.0.2.1:8080", &published)));
            for cycle in 0..CYCLES {
                plane.add_network(&victim).unwrap();
                let mut spec = end(&victim, "e1", "172.31.0.2/16");
                spec.publications = vec![tcp("0.0.0.0", 8080, 80)];
                plane.attach(&one, &spec).unwrap();
                // All rules are built anew under them.
                let networks = [victim.clone(), attacker.clone()];
                plane
                    .reconcile(&networks, &[spec, stranger.clone()])
                    .unwrap();
                if cycle % 10 == 0 {
                    let before = published.load(Ordering::Relaxed);
                    until("the published port is reached", || {
                        published.load(Ordering::Relaxed) > before
                    });
                }
                // Every other time its cable goes later, as that of a container that ended.
                let sandbox = (cycle % 2 == 0).then_some(&one);
                plane.detach(sandbox, "e1").unwrap();
                plane.remove_network(&victim.id).unwrap();
            }
        });
        println!(
            "{CYCLES} cycles, {} probes, {} by the published port",
            probes.into_inner(),
            published.load(Ordering::Relaxed)
        );
        assert_eq!(reached.load(Ordering::Relaxed), 0);
        assert!(published.load(Ordering::Relaxed) >= CYCLES / 10);
        // Nobody's published port led away from the host when the bridge was gone.
        let counted = output("nft", &["list", "table", "inet", "watch"]);
        assert!(counted.contains("counter packets 0 "), "{counted}");
    });
}
