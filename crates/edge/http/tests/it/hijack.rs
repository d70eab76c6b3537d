//! Connections that are taken over: both answers, both framings, both halves.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::rig::{Client, Rig, patient};

const OLD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
const NEW: &str = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
const NEW_RAW: &str = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

fn upgrade(target: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn silent(target: &str, body: &str) -> String {
    upgrade(target, body).replace("Connection: Upgrade\r\nUpgrade: tcp\r\n", "")
}

/// A `cat` that ends with its input, running, and a client attached to it in the given way.
async fn attached_cat(rig: &Rig, request: &str) -> Client {
    let process = rig.fake.add("cat", &["cat"], |config| {
        config.open_stdin = true;
        config.stdin_once = true;
    });
    let mut client = rig.connect().await;
    client.send(request).await;
    rig.fake.until_observers(1).await;
    tokio::spawn(process.run());
    client
}

const ATTACH: &str = "/v1.50/containers/cat/attach?stream=1&stdin=1&stdout=1&stderr=1";

#[tokio::test]
async fn attach_upgrades_and_frames() {
    let rig = Rig::start().await;
    let mut client = attached_cat(&rig, &upgrade(ATTACH, "")).await;
    assert_eq!(client.until("\r\n\r\n").await, NEW);
    client.send("one").await;
    assert_eq!(client.until("one").await, "\u{1}\0\0\0\0\0\0\u{3}one");
    client.send("two").await;
    assert_eq!(client.until("two").await, "\u{1}\0\0\0\0\0\0\u{3}two");
    // The half is closed, the process ends, and its end reaches us.
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    rig.stop().await;
}

#[tokio::test]
async fn old_clients_get_200_and_the_same_stream() {
    let rig = Rig::start().await;
    let mut client = attached_cat(&rig, &silent(ATTACH, "")).await;
    assert_eq!(client.until("\r\n\r\n").await, OLD);
    client.send("old").await;
    assert_eq!(client.until("old").await, "\u{1}\0\0\0\0\0\0\u{3}old");
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    rig.stop().await;
}

#[tokio::test]
async fn input_and_end_in_the_same_packet_as_the_request_are_not_lost() {
    for request in [upgrade(ATTACH, ""), silent(ATTACH, "")] {
        let rig = Rig::start().await;
        let process = rig.fake.add("cat", &["cat"], |config| {
            config.open_stdin = true;
            config.stdin_once = true;
        });
        let mut client = rig.connect().await;
        client.send(&format!("{request}early")).await;
        client.finish().await;
        rig.fake.until_observers(1).await;
        tokio::spawn(process.run());
        client.until("\r\n\r\n").await;
        assert_eq!(client.rest().await, b"\x01\0\0\0\0\0\0\x05early");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_second_request_of_a_connection_may_take_it_over() {
    let rig = Rig::start().await;
    let process = rig.fake.add("cat", &["cat"], |config| {
        config.open_stdin = true;
        config.stdin_once = true;
    });
    let mut client = rig.connect().await;
    client.send("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.until("\r\n\r\nOK").await;
    client.send(&silent("/exec/none/start", "{}")).await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.1 404"));
    client.until("none\"}\n").await;
    client.send(&silent(ATTACH, "")).await;
    assert_eq!(client.until("\r\n\r\n").await, OLD);
    tokio::spawn(process.run());
    client.send("x").await;
    client.until("\u{1}x").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_terminal_is_raw_and_its_keys_detach() {
    let rig = Rig::start().await;
    let process = rig.fake.add("cat", &["cat"], |config| {
        config.open_stdin = true;
        config.tty = true;
    });
    let mut client = rig.connect().await;
    client
        .send(&upgrade(&format!("{ATTACH}&detachKeys=ctrl-a,x"), ""))
        .await;
    assert_eq!(client.until("\r\n\r\n").await, NEW_RAW);
    tokio::spawn(std::sync::Arc::clone(&process).run());
    assert_eq!(client.until("\r\n").await, "ready\r\n");
    client.send("hello").await;
    assert_eq!(client.until("hello").await, "hello");
    client.send("\u{1}y").await;
    assert_eq!(client.until("y").await, "\u{1}y");
    client.send("z\u{1}xlost").await;
    let mut detached = rig.fake.detached.subscribe();
    patient(detached.wait_for(|count| *count == 1))
        .await
        .unwrap();
    let rest = client.rest().await;
    assert!(rest == b"" || rest == b"z", "{rest:?}");
    assert!(process.running());
    rig.fake.until_observers(0).await;
    rig.stop().await;
}

#[tokio::test]
async fn the_end_of_input_detaches_unless_stdin_is_once() {
    let rig = Rig::start().await;
    let process = rig
        .fake
        .add("cat", &["cat"], |config| config.open_stdin = true);
    let mut client = rig.connect().await;
    client.send(&upgrade(ATTACH, "")).await;
    client.until("\r\n\r\n").await;
    tokio::spawn(std::sync::Arc::clone(&process).run());
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    rig.fake.until_observers(0).await;
    assert!(process.running());
    rig.stop().await;
}

#[tokio::test]
async fn without_input_a_closed_half_is_served_on_and_a_closed_connection_is_not() {
    let rig = Rig::start().await;
    let process = rig.fake.add("web", &["lines"], |_| {});
    tokio::spawn(process.run());
    let mut client = rig.connect().await;
    client
        .send(&upgrade("/containers/web/attach?stream=1&stdout=1", ""))
        .await;
    client.until("\r\n\r\n").await;
    client.finish().await;
    rig.fake.tick("web", 1);
    client.until("line 1\n").await;
    drop(client);
    // Nothing is written any more: the disconnect alone must end the session.
    rig.fake.until_observers(0).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_attach_that_fails_is_plain_text() {
    let rig = Rig::start().await;
    for request in [
        upgrade("/containers/none/attach", ""),
        silent("/containers/none/attach", ""),
    ] {
        let mut client = rig.connect().await;
        client.send(&request).await;
        assert!(client.until("\r\n").await.starts_with("HTTP/1.1 404"));
        client.until("No such container: none\r\n").await;
    }
    let mut client = rig.connect().await;
    client
        .send(&upgrade("/containers/none/attach?detachKeys=foo", ""))
        .await;
    client.until("Invalid detach keys (foo) provided\r\n").await;
    rig.stop().await;
}

/// Makes an exec in a running container.
async fn exec(rig: &Rig, body: &str) -> String {
    if rig.fake.find("web").is_err() {
        let process = rig.fake.add("web", &["sleep"], |_| {});
        tokio::spawn(std::sync::Arc::clone(&process).run());
        process
            .started
            .subscribe()
            .wait_for(|started| *started)
            .await
            .unwrap();
    }
    let answer = rig.ask("POST /containers/web/exec", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    id["Id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn exec_streams_both_outputs_and_tells_its_code() {
    let rig = Rig::start().await;
    for (make, head) in [(upgrade as fn(&str, &str) -> String, NEW), (silent, OLD)] {
        let id = exec(
            &rig,
            r#"{"Cmd":["both"],"AttachStdout":true,"AttachStderr":true}"#,
        )
        .await;
        let mut client = rig.connect().await;
        client
            .send(&make(
                &format!("/exec/{id}/start"),
                r#"{"Detach":false,"Tty":false}"#,
            ))
            .await;
        assert_eq!(client.until("\r\n\r\n").await, head);
        assert_eq!(
            client.rest().await,
            b"\x01\0\0\0\0\0\0\x07to out\n\x02\0\0\0\0\0\0\x07to err\n"
        );
        let answer = rig.ask(&format!("GET /exec/{id}/json"), "").await;
        assert!(answer.body.contains("\"ExitCode\":3"), "{}", answer.body);
    }
    rig.stop().await;
}

#[tokio::test]
async fn an_exec_in_a_container_that_ended_is_a_conflict() {
    let rig = Rig::start().await;
    let id = exec(&rig, r#"{"Cmd":["both"]}"#).await;
    assert_eq!(rig.ask("POST /containers/web/kill", "").await.status, 204);
    let answer = rig.ask(&format!("POST /exec/{id}/start"), "{}").await;
    let web = rig.fake.find("web").unwrap();
    let text = format!("container {} is not running", web.id);
    assert_eq!((answer.status, answer.message()), (409, text));
    rig.stop().await;
}

#[tokio::test]
async fn an_exec_that_cannot_start_says_so_in_its_stream() {
    let rig = Rig::start().await;
    let id = exec(&rig, r#"{"Cmd":["nope"]}"#).await;
    let mut client = rig.connect().await;
    client
        .send(&upgrade(&format!("/exec/{id}/start"), r#"{"Tty":true}"#))
        .await;
    assert_eq!(client.until("\r\n\r\n").await, NEW_RAW);
    let text = "OCI runtime exec failed: exec: \"nope\": executable file not found in $PATH\r\n";
    assert_eq!(client.rest().await, text.as_bytes());
    rig.stop().await;
}

#[tokio::test]
async fn an_exec_gets_its_first_size_and_its_own_keys() {
    let rig = Rig::start().await;
    let id = exec(&rig, r#"{"Cmd":["size"],"Tty":true}"#).await;
    let mut client = rig.connect().await;
    client
        .send(&upgrade(
            &format!("/exec/{id}/start"),
            r#"{"Tty":true,"ConsoleSize":[24,80]}"#,
        ))
        .await;
    client.until("\r\n\r\n").await;
    assert_eq!(
        client.rest().await,
        b"Some(TerminalSize { height: 24, width: 80 })\n"
    );
    let id = exec(
        &rig,
        r#"{"Cmd":["cat"],"Tty":true,"AttachStdin":true,"DetachKeys":"q,q"}"#,
    )
    .await;
    let mut client = rig.connect().await;
    client
        .send(&upgrade(&format!("/exec/{id}/start"), r#"{"Tty":true}"#))
        .await;
    client.until("\r\n\r\n").await;
    client.send("qq").await;
    assert_eq!(client.rest().await, b"");
    assert_eq!(*rig.fake.detached.borrow(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn dropped_sessions_leave_nothing() {
    let rig = Rig::start().await;
    let process = rig
        .fake
        .add("web", &["lines"], |config| config.open_stdin = true);
    tokio::spawn(process.run());
    let descriptors = || fs_err::read_dir("/proc/self/fd").unwrap().count();
    let mut before = 0;
    for round in 0..4 {
        let mut clients = Vec::new();
        for _ in 0..50 {
            let mut client = rig.connect().await;
            client
                .send(&upgrade(
                    "/containers/web/attach?stream=1&stdin=1&stdout=1",
                    "",
                ))
                .await;
            clients.push(client);
        }
        rig.fake.until_observers(50).await;
        drop(clients);
        rig.fake.until_observers(0).await;
        // Once the server answers a request on a new connection, the tasks of the old ones had their turn.
        rig.ask("GET /_ping", "").await;
        if round == 0 {
            before = descriptors();
        }
    }
    // Other tests of this program run at the same time; a leak would show as 150.
    let after = descriptors();
    assert!(after < before + 100, "{before} descriptors became {after}");
    rig.stop().await;
}

#[tokio::test]
async fn a_slow_reader_holds_back_and_loses_nothing() {
    let rig = Rig::start().await;
    let mut client = attached_cat(&rig, &upgrade(ATTACH, "")).await;
    client.until("\r\n\r\n").await;
    // Far more than all buffers between here and there: sending must stop while nobody reads.
    let block = "x".repeat(64 * 1024);
    let mut sent = 0;
    while tokio::time::timeout(
        Duration::from_millis(300),
        client.stream.write_all(block.as_bytes()),
    )
    .await
    .is_ok()
    {
        sent += block.len();
        assert!(sent < 64 << 20, "nothing holds the sender back");
    }
    drop(client);
    rig.fake.until_observers(0).await;
    rig.stop().await;
}
