//! Names of the outside: which servers are asked, which answers are believed, and what a bad server costs.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use simple_dns::TYPE;

use crate::support::{
    Client, NETWORK, PATIENCE, Sockets, World, address, network, query, read, receive, zone,
};
use crate::upstream::{Seen, Upstream};

/// A server that answers everything with one address.
fn honest() -> Upstream {
    Upstream::start(Box::new(|seen: &Seen| vec![seen.addresses(1)]))
}

fn with(code: u8) -> Upstream {
    Upstream::start(Box::new(move |seen: &Seen| vec![seen.empty(code)]))
}

fn mute() -> Upstream {
    Upstream::start(Box::new(|_: &Seen| Vec::new()))
}

#[tokio::test]
async fn other_names_are_asked_of_others() {
    let world = World::new().await;
    let upstream = honest();
    let zone = zone(vec![upstream.address]);
    let client = Sockets::open().serve(&world.companion, "c1", &zone).await;
    for _ in 0..20 {
        let reply = client.ask_outside("eXample.com", TYPE::A);
        assert_eq!(
            (reply.code, reply.addresses),
            (0, vec![address("192.0.2.1")])
        );
    }
    let reply = client.ask_tcp("example.com", TYPE::A);
    assert_eq!(reply.addresses, [address("192.0.2.1")]);
    let seen = upstream.seen();
    assert_eq!(seen.iter().filter(|one| one.tcp).count(), 1);
    // Twenty ids and ports of which two agree are as good as never random.
    let ids: HashSet<_> = seen.iter().map(|one| one.packet[..2].to_vec()).collect();
    let ports: HashSet<_> = seen.iter().map(|one| one.from.port()).collect();
    assert!(ids.len() > 15 && ports.len() > 15, "{ids:?} {ports:?}");
    assert!(seen[0].packet.windows(7).any(|part| part == b"eXample"));
}

#[tokio::test]
async fn a_server_that_fails_is_followed_by_the_next() {
    let world = World::new().await;
    let (broken, refusing, good) = (with(2), with(5), honest());
    let zone = zone(vec![broken.address, refusing.address, good.address]);
    let client = Sockets::open().serve(&world.companion, "c1", &zone).await;
    let reply = client.ask_outside("example.com", TYPE::A);
    assert_eq!(reply.addresses, [address("192.0.2.1")]);
    assert!(!broken.seen().is_empty() && !refusing.seen().is_empty());
    let before = good.seen().len();
    // That there is no such name is an answer.
    let unknown = with(3);
    let zone = crate::support::zone(vec![unknown.address, good.address]);
    world.companion.update("c1", &zone).await.expect("updated");
    assert_eq!(client.ask_outside("example.com", TYPE::A).code, 3);
    assert_eq!(good.seen().len(), before);
}

#[tokio::test]
async fn a_silent_server_is_asked_last_from_then_on() {
    let world = World::new().await;
    let (silent, good) = (mute(), honest());
    let zone = zone(vec![silent.address, good.address]);
    let client = Sockets::open().serve(&world.companion, "c1", &zone).await;
    for number in 0..12 {
        let reply = client.ask_outside(&format!("x{number}.example"), TYPE::A);
        assert_eq!(reply.addresses, [address("192.0.2.1")]);
    }
    // Once, unless the machine was so loaded that the good one lost our trust as well.
    assert!(silent.seen().len() < 6, "{}", silent.seen().len());
    assert!(good.seen().len() >= 12);
}

#[tokio::test]
async fn a_cut_answer_is_fetched_whole() {
    let world = World::new().await;
    let upstream = Upstream::start(Box::new(|seen: &Seen| {
        let mut reply = seen.addresses(if seen.tcp { 60 } else { 1 });
        if !seen.tcp {
            reply[2] |= 2;
        }
        vec![reply]
    }));
    let zone = zone(vec![upstream.address]);
    let client = Sockets::open().serve(&world.companion, "c1", &zone).await;
    let reply = client.ask("example.com", TYPE::A);
    assert_eq!((reply.truncated, reply.addresses.len()), (true, 1));
    let mut large = query("example.com", TYPE::A, 7);
    large[11] = 1;
    large.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    let reply = client.raw(&large);
    assert_eq!((reply.truncated, reply.addresses.len()), (false, 60));
    let reply = client.ask_tcp("example.com", TYPE::A);
    assert_eq!((reply.truncated, reply.addresses.len()), (false, 60));
}

/// N01: nothing of an internal network's container leaves through the host; its own names are there.
#[tokio::test]
async fn internal_networks_ask_nobody() {
    let world = World::new().await;
    let upstream = honest();
    let companion = &world.companion;
    let db: (&[&str], &[&str]) = (&["db"], &["10.0.0.2"]);
    companion
        .network(NETWORK, &network(&[db]))
        .await
        .expect("a network");
    let mut zone = zone(vec![upstream.address]);
    zone.forward = false;
    let client = Sockets::open().serve(companion, "c1", &zone).await;
    for kind in [TYPE::A, TYPE::AAAA, TYPE::TXT, TYPE::PTR, TYPE::SRV] {
        assert_eq!(client.ask("secret.example.com", kind).code, 2);
        assert_eq!(client.ask_tcp("secret.example.com", kind).code, 2);
    }
    assert_eq!(client.ask("db", TYPE::A).addresses, [address("10.0.0.2")]);
    assert_eq!(upstream.seen().len(), 0);
}

/// N16: whoever does not know the id, or answers something else, or from elsewhere, is not believed.
#[tokio::test]
async fn false_answers_are_not_believed() {
    let world = World::new().await;
    let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let upstream = Upstream::start(Box::new(move |seen: &Seen| {
        let lie = {
            let mut lie = seen.addresses(1);
            let end = lie.len() - 1;
            lie[end] = 66;
            lie
        };
        // The right answer from the wrong place: the kernel keeps it away, and says so to the liar.
        elsewhere.send_to(&lie, seen.from).ok();
        let mut replies: Vec<_> = (1..=200_u8)
            .map(|number| {
                let mut wrong = lie.clone();
                wrong[0] ^= number;
                wrong
            })
            .collect();
        let mut question = lie.clone();
        question[14] ^= 1;
        let mut kind = lie.clone();
        let name_end = 12
            + lie[12..]
                .iter()
                .position(|byte| *byte == 0)
                .expect("an end");
        kind[name_end + 2] = 28;
        replies.extend([question, kind, lie[..20].to_vec(), Vec::new()]);
        let mut upper = seen.addresses(1);
        upper[12..name_end].make_ascii_uppercase();
        replies.push(upper);
        replies
    }));
    let zone = zone(vec![upstream.address]);
    let client = Sockets::open().serve(&world.companion, "c1", &zone).await;
    for _ in 0..20 {
        let reply = client.ask_outside("example.com", TYPE::A);
        assert_eq!(reply.addresses, [address("192.0.2.1")]);
    }
}

/// N15: a server that leads back to ourselves is found at once, and one that leads back on a detour stops by itself.
#[tokio::test]
async fn loops_end() {
    let world = World::new().await;
    let sockets = Sockets::open();
    let own = sockets.udp.local_addr().expect("an address");
    let client = sockets
        .serve(&world.companion, "c1", &zone(vec![own]))
        .await;
    let begin = Instant::now();
    assert_eq!(client.ask("example.com", TYPE::A).code, 2);
    assert_eq!(client.ask_tcp("example.com", TYPE::A).code, 2);
    // Who did not see the loop would wait four seconds for himself, twice.
    assert!(begin.elapsed() < Duration::from_secs(8));
    // One answer each, and nothing behind it.
    client.udp.set_nonblocking(true).expect("not blocking");
    client.udp.recv(&mut [0; 512]).expect_err("one answer");
    client.udp.set_nonblocking(false).expect("blocking");

    let around = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let forwarder = Upstream::start(Box::new(move |seen: &Seen| {
        around.send_to(&seen.packet, own).expect("sent");
        Vec::new()
    }));
    let zone = zone(vec![forwarder.address]);
    world.companion.update("c1", &zone).await.expect("updated");
    assert_eq!(client.ask("example.org", TYPE::A).code, 2);
    assert_eq!(forwarder.seen().len(), 1);
}

/// N14: what one container asks of a dead server, and TCP clients that stall, cost the others nothing.
#[tokio::test]
async fn neighbours_do_not_wait_for_each_other() {
    let world = World::new().await;
    let silent = mute();
    let companion = &world.companion;
    let db: (&[&str], &[&str]) = (&["db"], &["10.0.0.2"]);
    companion
        .network(NETWORK, &network(&[db]))
        .await
        .expect("a network");
    let zone = zone(vec![silent.address]);
    let noisy = Sockets::open().serve(companion, "noisy", &zone).await;
    let quiet = Sockets::open().serve(companion, "quiet", &zone).await;
    let stalled: Vec<_> = (0..80)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(noisy.tcp).expect("connected");
            // The rest of the query never comes.
            stream.write_all(&[0, 29, 1]).expect("sent");
            stream
        })
        .collect();
    flood_until_refused(&noisy);
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut times, load) = std::thread::scope(|threads| {
        // As much as one thread can ask, of names here and outside.
        threads.spawn(|| {
            let queries = ["db", "x.example"].map(|name| query(name, TYPE::A, 7));
            let mut buffer = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                for packet in &queries {
                    noisy.udp.send(packet).ok();
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                while noisy.udp.recv(&mut buffer).is_ok() {}
            }
        });
        let begin = Instant::now();
        let times: Vec<_> = (0..2000)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(quiet.ask("db", TYPE::A).code, 0);
                start.elapsed()
            })
            .collect();
        let load = asked.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        (times, load)
    });
    times.sort();
    let (median, p99) = (times[1000], times[1980]);
    println!("beside {load:.0} queries a second: median {median:?}, p99 {p99:?}");
    // The target is 50 ms for the 99th of 100; on a loaded machine that is its scheduler's. Whoever waited for the dead
    // server would wait for seconds.
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    assert_eq!(quiet.ask_tcp("db", TYPE::A).code, 0);
    drop(stalled);
}

/// Asks of the dead server until the container has its part of what may wait, and the next query is refused.
fn flood_until_refused(client: &Client) {
    client.udp.set_nonblocking(true).expect("not blocking");
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 512];
    for number in 0_u32.. {
        assert!(
            Instant::now() < end,
            "nothing was refused in {number} queries"
        );
        let packet = query(&format!("x{number}.example"), TYPE::A, 7);
        // A full socket is no reason to stop.
        client.udp.send(&packet).ok();
        while let Ok(count) = client.udp.recv(&mut buffer) {
            if read(&buffer[..count]).code == 5 {
                return;
            }
        }
    }
}

/// Two who ask the same at the same time are answered by one question.
#[tokio::test]
async fn one_question_is_asked_once() {
    let world = World::new().await;
    let slow = Upstream::start(Box::new(|seen: &Seen| {
        std::thread::park_timeout(Duration::from_millis(300));
        vec![seen.addresses(1)]
    }));
    let zone = zone(vec![slow.address]);
    let client = Sockets::open().serve(&world.companion, "c1", &zone).await;
    for id in 0..50 {
        let name = if id % 2 == 0 {
            "example.com"
        } else {
            "EXAMPLE.com"
        };
        client.udp.send(&query(name, TYPE::A, id)).expect("sent");
    }
    let mut ids = HashSet::new();
    let mut buffer = [0; 512];
    for _ in 0..50 {
        let count = receive(&client.udp, &mut buffer).0;
        assert_eq!(read(&buffer[..count]).addresses, [address("192.0.2.1")]);
        let id = u16::from_be_bytes([buffer[0], buffer[1]]);
        // Each gets its own way to write the name back.
        let upper = buffer[13].is_ascii_uppercase();
        assert_eq!(upper, id % 2 == 1);
        ids.insert(id);
    }
    assert_eq!(ids.len(), 50);
    // On a loaded machine some of the questions may come after the first answer.
    assert!(slow.seen().len() < 25, "{}", slow.seen().len());
}

/// N13: whatever comes, the server answers afterwards; a stream with a wrong length is closed.
#[tokio::test]
async fn garbage_does_no_harm() {
    let world = World::new().await;
    let companion = &world.companion;
    let db: (&[&str], &[&str]) = (&["db"], &["10.0.0.2"]);
    companion
        .network(NETWORK, &network(&[db]))
        .await
        .expect("a network");
    let nowhere: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let client = Sockets::open()
        .serve(companion, "c1", &zone(vec![nowhere]))
        .await;
    let good = query("db", TYPE::A, 7);
    let liar = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let server = client.udp.peer_addr().expect("an address");
    for at in 0..good.len() {
        liar.send_to(&good[..at], server).expect("sent");
        for byte in 0..=255 {
            let mut bad = good.clone();
            bad[at] = byte;
            liar.send_to(&bad, server).expect("sent");
            if byte % 64 == 0 {
                // What came before it in the same queue, which is short, was read.
                assert_eq!(client.ask("db", TYPE::A).addresses, [address("10.0.0.2")]);
            }
        }
        for byte in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            let length = u16::try_from(bad.len()).expect("short").to_be_bytes();
            let mut stream = std::net::TcpStream::connect(client.tcp).expect("connected");
            stream
                .write_all(&[&length, &bad[..]].concat())
                .expect("sent");
        }
    }
    for bad in [&[0xff_u8, 0xff, 1][..], &[0, 0], &[0, 5, 1, 2, 3, 4, 5]] {
        let mut stream = std::net::TcpStream::connect(client.tcp).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream.write_all(bad).expect("sent");
        let mut rest = Vec::new();
        // Closed, with or without bytes of ours left unread.
        assert!(
            stream
                .read_to_end(&mut rest)
                .map_or(true, |_| rest.is_empty())
        );
    }
    assert_eq!(client.ask("db", TYPE::A).addresses, [address("10.0.0.2")]);
    assert_eq!(
        client.ask_tcp("db", TYPE::A).addresses,
        [address("10.0.0.2")]
    );
}
