//! The companion's life: without its engine, with the next one, replaced, killed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, spawn};

use havre_dns::{Companion, CompanionError, Network, State, Zone};
use rustix::process::{Pid, Signal, kill_process};
use simple_dns::TYPE;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{
    Client, Killer, NETWORK, PATIENCE, Sockets, World, address, network, receive, start, until,
    zone,
};

fn shop() -> Network {
    let db: (&[&str], &[&str]) = (&["db"], &["10.0.0.2"]);
    network(&[db])
}

fn state(containers: &[&str]) -> State {
    let zones = containers
        .iter()
        .map(|id| ((*id).to_owned(), zone(Vec::new())));
    State {
        networks: BTreeMap::from([(NETWORK.to_owned(), shop())]),
        containers: zones.collect(),
        relays: BTreeMap::new(),
    }
}

async fn serving(companion: &Companion, container: &str) -> Client {
    companion
        .network(NETWORK, &shop())
        .await
        .expect("a network");
    Sockets::open()
        .serve(companion, container, &zone(Vec::new()))
        .await
}

fn works(client: &Client) -> bool {
    client.ask("db", TYPE::A).addresses == [address("10.0.0.2")]
}

fn raw(dir: &Path) -> UnixStream {
    let stream = UnixStream::connect(dir.join("net.sock")).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream
}

/// A frame as [`havre_dns`] writes it, made by hand: it is for ever.
fn frame(text: &str, fds: u32) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short");
    [
        &length.to_be_bytes()[..],
        &fds.to_be_bytes(),
        text.as_bytes(),
    ]
    .concat()
}

/// One frame and its descriptors.
fn next(stream: &UnixStream) -> (String, Vec<OwnedFd>) {
    let mut head = [0; 8];
    let (count, fds) = havre_sys::net::recv_fds(stream.as_fd(), &mut head, 4).expect("a frame");
    assert_eq!(count, 8);
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let mut text = vec![0; usize::try_from(length).expect("small")];
    (&*stream).read_exact(&mut text).expect("its text");
    (String::from_utf8(text).expect("a text"), fds)
}

/// The engine is killed between any two bytes, again and again, and no query fails.
#[tokio::test]
async fn queries_are_answered_while_engines_come_and_go() {
    let World {
        companion,
        dir,
        killer,
    } = World::new().await;
    let client = serving(&companion, "c1").await;
    let pid = companion.pid();
    drop(companion);
    let ended = AtomicBool::new(false);
    let asked = scope(|threads| {
        let load = threads.spawn(|| {
            let mut asked = 0;
            while !ended.load(Ordering::SeqCst) || asked < 100 {
                assert!(works(&client), "query {asked}");
                asked += 1;
            }
            asked
        });
        let text = serde_like(&["c1"]);
        let whole = frame(&text, 0);
        for cut in (0..whole.len()).step_by(7) {
            let mut engine = raw(dir.path());
            engine.write_all(&whole[..cut]).expect("sent");
        }
        ended.store(true, Ordering::SeqCst);
        load.join().expect("no query failed")
    });
    assert!(asked >= 100);
    let next = start(dir.path()).await;
    assert_eq!(next.pid(), pid);
    let missing = next
        .sync(&state(&["c1", "c2"]))
        .await
        .expect("synchronised");
    assert_eq!(missing.containers, ["c2"]);
    assert!(works(&client));
    // What the next engine does not know any more is closed.
    next.sync(&state(&[])).await.expect("synchronised");
    until("closed", || {
        client.udp.send(b"x").is_err() || client.udp.take_error().is_ok_and(|error| error.is_some())
    })
    .await;
    drop(killer);
}

/// A request as an engine would send it.
fn serde_like(containers: &[&str]) -> String {
    let zones: Vec<_> = containers
        .iter()
        .map(|id| format!(r#""{id}":{{"networks":[{{"network":"{NETWORK}"}}],"upstreams":"host","forward":true,"ndots_set":false}}"#))
        .collect();
    format!(
        r#"{{"sync":{{"networks":{{}},"containers":{{{}}},"relays":{{}}}}}}"#,
        zones.join(",")
    )
}

#[tokio::test]
async fn a_killed_companion_is_noticed_and_replaced() {
    let World {
        companion,
        dir,
        killer,
    } = World::new().await;
    companion
        .network(NETWORK, &shop())
        .await
        .expect("a network");
    let sockets = Sockets::open();
    let again = (
        sockets.udp.try_clone().expect("a copy"),
        sockets.tcp.try_clone().expect("a copy"),
    );
    let client = sockets.serve(&companion, "c1", &zone(Vec::new())).await;
    assert!(works(&client));
    let pid = Pid::from_raw(companion.pid()).expect("a process");
    kill_process(pid, Signal::KILL).expect("killed");
    timeout(PATIENCE, companion.gone()).await.expect("noticed");
    let refused = companion.stop("c1").await;
    assert!(matches!(refused, Err(CompanionError::Gone)), "{refused:?}");
    drop(killer);
    let next = start(dir.path()).await;
    let _killer = Killer(next.pid());
    let missing = next.sync(&state(&["c1"])).await.expect("synchronised");
    assert_eq!(missing.containers, ["c1"]);
    next.serve("c1", &zone(Vec::new()), again.0.into(), again.1.into())
        .await
        .expect("served");
    assert!(works(&client));
}

/// An engine of another version asks for the sockets, in words that never change.
#[tokio::test]
async fn sockets_are_given_back_and_the_companion_ends() {
    let World {
        companion,
        dir,
        killer,
    } = World::new().await;
    let client = serving(&companion, "c1").await;
    let inside = TcpListener::bind("127.0.0.1:0").expect("the container's port");
    let outside = TcpListener::bind("127.0.0.1:0").expect("the published port");
    let published = outside.local_addr().expect("an address");
    let target = inside.local_addr().expect("an address");
    companion
        .relay("r1", outside.into(), target)
        .await
        .expect("relayed");
    let mut through = std::net::TcpStream::connect(published).expect("connected");
    let (mut server, _from) = inside.accept().expect("a connection");
    let mut engine = raw(dir.path());
    engine
        .write_all(&frame(r#""take_back""#, 0))
        .expect("asked");
    let (text, fds) = next(&engine);
    assert_eq!(
        (text.as_str(), fds.len()),
        (r#"{"socket":{"container":"c1"}}"#, 2)
    );
    let (relay, relay_fds) = next(&engine);
    let expected = r#"{"socket":{"relay":{"id":"r1","transport":"tcp"}}}"#;
    assert_eq!((relay.as_str(), relay_fds.len()), (expected, 1));
    assert_eq!(next(&engine).0, r#""done""#);
    // The name is not the old one's any more; what is under way goes on.
    client
        .udp
        .send(&crate::support::query("db", TYPE::A, 9))
        .expect("sent");
    through.write_all(b"ping").expect("sent");
    let mut word = [0; 4];
    server.read_exact(&mut word).expect("received");
    assert_eq!(&word, b"ping");
    drop((through, server));
    until("the old one ends", || {
        UnixStream::connect(dir.path().join("net.sock")).is_err()
    })
    .await;
    drop(killer);
    let next = start(dir.path()).await;
    let _killer = Killer(next.pid());
    next.network(NETWORK, &shop()).await.expect("a network");
    let [udp, tcp] = <[OwnedFd; 2]>::try_from(fds).expect("two sockets");
    next.serve("c1", &zone(Vec::new()), udp, tcp)
        .await
        .expect("served");
    // The query of the time between waited in the socket.
    let mut buffer = [0; 512];
    let count = receive(&client.udp, &mut buffer).0;
    assert_eq!(
        crate::support::read(&buffer[..count]).addresses,
        [address("10.0.0.2")]
    );
}

/// The client takes the sockets of a companion of another version, and hands them to a new one.
#[tokio::test]
async fn an_older_companion_is_replaced_without_loss() {
    let dir = TempDir::new().expect("a directory");
    let sockets = Sockets::open();
    let client = sockets.client();
    let listener = UnixListener::bind(dir.path().join("net.sock")).expect("bound");
    let old = spawn(move || {
        let (stream, _from) = listener.accept().expect("an engine");
        assert_eq!(next(&stream).0, r#""hello""#);
        let hello = frame(r#"{"hello":{"version":"0","pid":0}}"#, 0);
        (&stream).write_all(&hello).expect("sent");
        assert_eq!(next(&stream).0, r#""take_back""#);
        let text = frame(r#"{"socket":{"container":"c1"}}"#, 2);
        let fds = [sockets.udp.as_fd(), sockets.tcp.as_fd()];
        havre_sys::net::send_fds(stream.as_fd(), &text, &fds).expect("sent");
        (&stream).write_all(&frame(r#""done""#, 0)).expect("sent");
    });
    let companion = start(dir.path()).await;
    let _killer = Killer(companion.pid());
    old.join().expect("the old one did its part");
    let missing = companion.sync(&state(&["c1"])).await.expect("synchronised");
    assert!(missing.containers.is_empty(), "{missing:?}");
    assert!(works(&client));
    assert_eq!(client.ask_tcp("db", TYPE::A).code, 0);
}

#[tokio::test]
async fn nonsense_is_refused_and_harms_nobody() {
    let world = World::new().await;
    let companion = &world.companion;
    let client = serving(companion, "c1").await;
    for bad in [
        frame("{", 0),
        frame(r#""hello""#, 1),
        frame(r#"{"unheard_of":1}"#, 0),
        vec![0xff; 8],
        vec![0],
    ] {
        let mut stream = raw(world.dir.path());
        stream.write_all(&bad).expect("sent");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("half closed");
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        assert!(rest.is_empty(), "{bad:?}: {rest:?}");
    }
    let wrong = Sockets::open();
    let refused = companion
        .serve("c2", &Zone::default(), wrong.tcp.into(), wrong.udp.into())
        .await;
    assert!(
        matches!(refused, Err(CompanionError::Refused { .. })),
        "{refused:?}"
    );
    let refused = companion.update("c3", &Zone::default()).await;
    let text = refused.map_err(|error| error.to_string());
    let expected = "the network companion refused c3: no container c3";
    assert_eq!(text, Err(expected.to_owned()));
    assert!(works(&client));
}

/// Other users of the machine cannot even say hello.
#[tokio::test]
async fn strangers_are_not_listened_to() {
    let world = World::new().await;
    let path = world.dir.path().join("net.sock");
    let mode = rustix::fs::Mode::from_raw_mode(0o777);
    for open in [world.dir.path(), &path] {
        rustix::fs::chmod(open, mode).expect("opened up");
    }
    let directory = fs_err::File::open(world.dir.path()).expect("a directory");
    havre_sys::testing::in_child(|| {
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_uid(nobody).expect("an identity");
        let socket = havre_sys::net::unix_connect_at(directory.as_fd(), OsStr::new("net.sock"));
        let mut stream = UnixStream::from(socket.expect("connected"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        // It may be closed before the word is out.
        drop(stream.write_all(&frame(r#""hello""#, 0)));
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    });
    assert!(
        serving(&world.companion, "c1")
            .await
            .ask("db", TYPE::A)
            .code
            == 0
    );
}

/// Root's rights are of use to nobody who takes the companion over.
#[tokio::test]
async fn it_keeps_few_rights() {
    let world = World::new().await;
    let path = format!("/proc/{}/status", world.companion.pid());
    // It says hello when it has given them up.
    let status = fs_err::read_to_string(path).expect("its status");
    let line = |name: &str| {
        let mut lines = status.lines();
        let found = lines.find_map(|line| line.strip_prefix(name));
        found.expect("the line is there").trim().to_owned()
    };
    // CAP_SYS_ADMIN and CAP_NET_ADMIN (linux/capability.h).
    assert_eq!(line("CapEff:"), format!("{:016x}", 1 << 21 | 1 << 12));
    assert_eq!(line("CapPrm:"), line("CapEff:"));
    assert_eq!(line("NoNewPrivs:"), "1");
}
