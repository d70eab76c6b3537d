//! Attaching over a WebSocket: the handshake, both kinds of frames, control frames, the ways to leave.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Client, Rig, patient};

const TARGET: &str = "/containers/cat/attach/ws?stream=1&stdin=1&stdout=1&stderr=1";
const HEADERS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const MASK: [u8; 4] = [7, 77, 177, 255];

fn handshake(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n{HEADERS}\r\n")
}

/// A running `cat`, and a client that is attached to it by a WebSocket.
async fn attached(rig: &Rig, target: &str, tty: bool) -> Client {
    let process = rig.fake.add("cat", &["cat"], |config| {
        config.open_stdin = true;
        config.stdin_once = true;
        config.tty = tty;
    });
    let mut client = rig.connect().await;
    client.send(&handshake(target)).await;
    rig.fake.until_observers(1).await;
    tokio::spawn(process.run());
    let head = client.until("\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    assert!(head.contains("Upgrade: websocket\r\n"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    client
}

impl Client {
    /// Sends a frame as a client must: masked.
    async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = vec![first, 0x80 | u8::try_from(payload.len()).unwrap()];
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Reads so many bytes.
    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        patient(self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }
}

#[tokio::test]
async fn input_and_output_come_in_binary_frames() {
    let rig = Rig::start().await;
    let mut client = attached(&rig, TARGET, false).await;
    client.frame(0x82, b"one").await;
    assert_eq!(client.bytes(5).await, b"\x82\x03one");
    // One message in two frames, with a question between them.
    client.frame(0x02, b"tw").await;
    assert_eq!(client.bytes(4).await, b"\x82\x02tw");
    client.frame(0x89, b"there?").await;
    assert_eq!(client.bytes(8).await, b"\x8a\x06there?");
    client.frame(0x80, b"o").await;
    assert_eq!(client.bytes(3).await, b"\x82\x01o");
    client.frame(0x88, &[0x03, 0xe9]).await;
    assert_eq!(client.bytes(4).await, b"\x88\x02\x03\xe9");
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    rig.fake.until_observers(0).await;
    rig.stop().await;
}

#[tokio::test]
async fn old_clients_get_text_frames_and_every_stream() {
    let rig = Rig::start().await;
    let target = "/v1.27/containers/cat/attach/ws?stream=1";
    let mut client = attached(&rig, target, false).await;
    client.frame(0x81, b"old").await;
    assert_eq!(client.bytes(5).await, b"\x81\x03old");
    rig.stop().await;
}

#[tokio::test]
async fn the_detach_keys_end_the_session_alone() {
    let rig = Rig::start().await;
    let target = format!("{TARGET}&detachKeys=ctrl-x");
    let mut client = attached(&rig, &target, true).await;
    assert_eq!(client.bytes(9).await, b"\x82\x07ready\r\n");
    client.frame(0x82, b"\x18").await;
    assert_eq!(client.bytes(4).await, b"\x88\x02\x03\xe8");
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    patient(rig.fake.detached.subscribe().wait_for(|count| *count == 1))
        .await
        .unwrap();
    assert!(rig.fake.find("cat").unwrap().running());
    rig.stop().await;
}

#[tokio::test]
async fn what_is_no_websocket_is_refused() {
    let rig = Rig::start().await;
    let mut client = attached(&rig, TARGET, false).await;
    // Not masked.
    client.stream.write_all(b"\x82\x01x").await.unwrap();
    assert_eq!(client.bytes(4).await, b"\x88\x02\x03\xea");
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    let answer = rig.ask(&format!("GET {TARGET}"), "").await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (400, "bad websocket handshake: not websocket protocol")
    );
    let answer = rig.ask("GET /containers/nope/attach/ws", "").await;
    assert_eq!(answer.status, 404);
    rig.fake.until_observers(0).await;
    rig.stop().await;
}
