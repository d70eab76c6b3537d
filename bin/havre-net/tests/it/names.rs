//! Names of containers: who sees which, in which form, by which protocol.

use std::collections::HashSet;

use simple_dns::TYPE;

use crate::support::{NETWORK, Sockets, World, address, network, until, zone};

#[tokio::test]
async fn a_container_finds_the_others_by_name() {
    let world = World::new().await;
    let db: (&[&str], &[&str]) = (&["db", "Data", "0123456789ab"], &["10.0.0.2", "fd00::2"]);
    let companion = &world.companion;
    companion
        .network(NETWORK, &network(&[db]))
        .await
        .expect("a network");
    let client = Sockets::open()
        .serve(companion, "c1", &zone(Vec::new()))
        .await;
    for name in ["db", "DB", "db.shop", "Db.SHOP", "data", "0123456789ab"] {
        let reply = client.ask(name, TYPE::A);
        assert_eq!(
            (reply.code, reply.addresses),
            (0, vec![address("10.0.0.2")])
        );
        let reply = client.ask_tcp(name, TYPE::AAAA);
        assert_eq!((reply.code, reply.addresses), (0, vec![address("fd00::2")]));
    }
    for kind in [TYPE::MX, TYPE::TXT, TYPE::SRV] {
        let reply = client.ask("db", kind);
        assert_eq!((reply.code, reply.addresses.len()), (0, 0));
    }
    let reply = client.ask("2.0.0.10.in-addr.arpa", TYPE::PTR);
    assert_eq!(reply.pointers, ["db.shop"]);
    assert_eq!(client.ask("elsewhere", TYPE::A).code, 2);
}

#[tokio::test]
async fn what_is_stopped_is_closed_and_an_idle_companion_ends() {
    let world = World::new().await;
    let companion = &world.companion;
    let client = Sockets::open()
        .serve(companion, "c1", &zone(Vec::new()))
        .await;
    assert_eq!(client.ask("x", TYPE::A).code, 2);
    companion.stop("c1").await.expect("stopped");
    // Nobody has the socket any more, which the kernel says to whoever sends to it.
    until("closed", || {
        client.udp.send(b"x").is_err() || client.udp.take_error().is_ok_and(|error| error.is_some())
    })
    .await;
    let World {
        companion,
        dir,
        killer,
    } = world;
    drop(companion);
    let socket = dir.path().join("net.sock");
    until("ended", || !socket.exists()).await;
    drop(killer);
}

/// All addresses of a name come first in turn.
#[tokio::test]
async fn several_containers_of_one_name_take_turns() {
    let world = World::new().await;
    let companion = &world.companion;
    let replicas: [(&[&str], &[&str]); 3] = [
        (&["web1", "web"], &["10.0.0.1"]),
        (&["web2", "web"], &["10.0.0.2"]),
        (&["web3", "web"], &["10.0.0.3"]),
    ];
    companion
        .network(NETWORK, &network(&replicas))
        .await
        .expect("a network");
    let client = Sockets::open()
        .serve(companion, "c1", &zone(Vec::new()))
        .await;
    let mut firsts = HashSet::new();
    for _ in 0..6 {
        let reply = client.ask("web", TYPE::A);
        assert_eq!(reply.addresses.len(), 3);
        firsts.insert(reply.addresses[0]);
    }
    assert_eq!(firsts.len(), 3);
    companion
        .remove_endpoint(NETWORK, "e1")
        .await
        .expect("removed");
    let reply = client.ask("web", TYPE::A);
    assert_eq!(reply.addresses.len(), 2);
    assert!(!reply.addresses.contains(&address("10.0.0.2")));
}
