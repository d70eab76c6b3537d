//! Relays of published ports: connections and datagrams go to the container and back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread::{scope, spawn};

use crate::support::{PATIENCE, World, receive, until};

fn connect(listener: &TcpListener) -> TcpStream {
    let stream = TcpStream::connect(listener.local_addr().expect("an address"));
    let stream = stream.expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream
}

fn pattern() -> impl Iterator<Item = u8> {
    (0..=250).cycle()
}

#[tokio::test]
async fn a_connection_goes_both_ways_and_each_way_ends_for_itself() {
    let world = World::new().await;
    let inside = TcpListener::bind("127.0.0.1:0").expect("the container's port");
    let outside = TcpListener::bind("[::1]:0").expect("the published port");
    let target = inside.local_addr().expect("an address");
    let handed = outside.try_clone().expect("a copy").into();
    world
        .companion
        .relay("r1", handed, target)
        .await
        .expect("relayed");
    let size = 8 << 20;
    // What comes to the container is counted; the answer comes after the client's end.
    let server = spawn(move || {
        let (mut stream, _from) = inside.accept().expect("a connection");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("to the end");
        assert!(all.iter().zip(pattern()).all(|(byte, sent)| *byte == sent));
        stream.write_all(&all).expect("sent back");
        all.len()
    });
    let mut client = connect(&outside);
    let sent: Vec<_> = pattern().take(size).collect();
    client.write_all(&sent).expect("sent");
    client.shutdown(Shutdown::Write).expect("half closed");
    let mut back = Vec::new();
    client.read_to_end(&mut back).expect("to the end");
    assert!(back == sent);
    assert_eq!(server.join().expect("the server"), size);
}

#[tokio::test]
async fn many_connections_and_one_that_nobody_takes() {
    let world = World::new().await;
    let inside = TcpListener::bind("127.0.0.1:0").expect("the container's port");
    let outside = TcpListener::bind("[::1]:0").expect("the published port");
    let target = inside.local_addr().expect("an address");
    let handed = outside.try_clone().expect("a copy").into();
    let companion = &world.companion;
    companion
        .relay("r1", handed, target)
        .await
        .expect("relayed");
    scope(|threads| {
        threads.spawn(|| {
            for _ in 0..50 {
                let (mut stream, _from) = inside.accept().expect("a connection");
                let mut word = [0; 4];
                stream.read_exact(&mut word).expect("a word");
                stream.write_all(&word).expect("sent back");
            }
        });
        for _ in 0..50 {
            let mut client = connect(&outside);
            client.write_all(b"ping").expect("sent");
            let mut word = [0; 4];
            client.read_exact(&mut word).expect("a word");
            assert_eq!(&word, b"ping");
        }
    });
    drop(inside);
    let mut nobody = connect(&outside);
    // Closed, as the container would.
    assert_eq!(nobody.read(&mut [0; 1]).unwrap_or(0), 0);
    companion.stop_relay("r1").await.expect("stopped");
    let address = outside.local_addr().expect("an address");
    drop(outside);
    until("the port is free", || TcpStream::connect(address).is_err()).await;
}

#[tokio::test]
async fn datagrams_come_back_to_whom_they_belong() {
    let world = World::new().await;
    let inside = UdpSocket::bind("127.0.0.1:0").expect("the container's port");
    inside.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let outside = UdpSocket::bind("[::1]:0").expect("the published port");
    let published = outside.local_addr().expect("an address");
    let target = inside.local_addr().expect("an address");
    let companion = &world.companion;
    companion
        .relay_udp("u1", outside.into(), target)
        .await
        .expect("relayed");
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let client = UdpSocket::bind("[::1]:0").expect("a client");
            client.connect(published).expect("connected");
            client.set_read_timeout(Some(PATIENCE)).expect("a limit");
            client
        })
        .collect();
    for round in 0..3_u8 {
        for (number, client) in (0_u8..).zip(&clients) {
            client.send(&[round, number]).expect("sent");
            let mut word = [0; 8];
            let (count, from) = receive(&inside, &mut word);
            assert_eq!(word[..count], [round, number]);
            inside.send_to(&[9, round, number], from).expect("answered");
            let count = receive(client, &mut word).0;
            assert_eq!(word[..count], [9, round, number]);
        }
    }
}
