//! Answers that go on: events, logs, progress, waiting; and what happens when a client leaves them.

use havre_api_traits::ApiError;

use crate::fake::Fake;
use crate::rig::{Answer, Rig, patient, unchunk};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[tokio::test]
async fn waiting_sends_its_head_at_once() {
    let rig = Rig::start().await;
    let process = rig.fake.add("web", &["both"], |_| {});
    let mut client = rig.connect().await;
    client
        .send("POST /containers/web/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let head = client.until("\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("application/json"),
        "{head}"
    );
    tokio::spawn(process.run());
    client.until("{\"StatusCode\":3}\n").await;
    // Before 1.30 the head came with the answer.
    let answer = rig
        .ask("POST /v1.29/containers/web/wait?condition=removed", "")
        .await;
    assert!(
        answer.head.contains("Content-Length: 17"),
        "{}",
        answer.head
    );
    assert_eq!(answer.body, "{\"StatusCode\":3}\n");
    rig.stop().await;
}

#[tokio::test]
async fn events_are_lines_and_end_with_their_reader() {
    let rig = Rig::start().await;
    let process = rig.fake.add("web", &["sleep"], |_| {});
    let mut new = rig.connect().await;
    new.send(&get("/events")).await;
    assert!(
        new.until("\r\n\r\n")
            .await
            .contains("Content-Type: application/jsonl\r\n")
    );
    let mut old = rig.connect().await;
    old.send(&get("/v1.50/events")).await;
    assert!(
        old.until("\r\n\r\n")
            .await
            .contains("Content-Type: application/json\r\n")
    );
    rig.fake.until_observers(2).await;
    rig.fake.emit("start", &process);
    let line = new.until("\n").await + &new.until("}\n").await;
    assert!(
        line.contains("{\"Type\":\"container\",\"Action\":\"start\""),
        "{line}"
    );
    let line = old.until("\n").await + &old.until("}\n").await;
    assert!(
        line.contains(&format!(
            "{{\"status\":\"start\",\"id\":\"{}\",\"from\":\"debian\",\"Type\"",
            process.id
        )),
        "{line}"
    );
    drop(new);
    drop(old);
    rig.fake.until_observers(0).await;
    rig.stop().await;
}

#[tokio::test]
async fn logs_are_framed_followed_and_end_with_their_reader() {
    let rig = Rig::start().await;
    let process = rig.fake.add("web", &["lines"], |_| {});
    tokio::spawn(process.run());
    let mut client = rig.connect().await;
    client
        .send(&get("/containers/web/logs?stdout=1&follow=1"))
        .await;
    let head = client.until("\r\n\r\n").await;
    assert!(
        head.contains("Content-Type: application/vnd.docker.multiplexed-stream\r\n"),
        "{head}"
    );
    rig.fake.tick("web", 2);
    client.until("\u{1}\0\0\0\0\0\0\u{7}line 1\n").await;
    client.until("\u{1}\0\0\0\0\0\0\u{7}line 2\n").await;
    drop(client);
    rig.fake.until_observers(0).await;
    let answer = rig
        .ask("GET /v1.41/containers/web/logs?stdout=1&timestamps=1", "")
        .await;
    assert!(
        answer.head.contains("application/vnd.docker.raw-stream"),
        "{}",
        answer.head
    );
    let line = &answer.body[8..];
    assert!(
        line.starts_with("20") && line[19..20] == *"." && line[29..].starts_with("Z line 1\n"),
        "{line}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn progress_comes_as_it_is_made_and_a_late_failure_is_in_it() {
    let rig = Rig::start().await;
    *rig.fake.pull.lock().unwrap() = vec![
        Fake::message("Pulling from library/x"),
        Err(ApiError::not_found("gone")),
    ];
    let answer = rig.ask("POST /images/create?fromImage=x&tag=1", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        "{\"status\":\"Pulling from library/x\"}\r\n{\"errorDetail\":{\"message\":\"gone\"},\"error\":\"gone\"}\r\n"
    );
    *rig.fake.pull.lock().unwrap() = vec![Err(ApiError::not_found("manifest for x:1 not found"))];
    let answer = rig.ask("POST /images/create?fromImage=x&tag=1", "").await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (404, "manifest for x:1 not found")
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_pull_ends_when_its_client_leaves() {
    let rig = Rig::start().await;
    rig.fake.hold_pull.send_replace(true);
    *rig.fake.pull.lock().unwrap() = vec![Fake::message("Downloading")];
    let mut client = rig.connect().await;
    client
        .send("POST /images/create?fromImage=x HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    client.until("Downloading").await;
    drop(client);
    let mut cancelled = rig.fake.cancelled_pulls.subscribe();
    patient(cancelled.wait_for(|count| *count == 1))
        .await
        .unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn archives_reach_the_engine_whole_or_with_an_error() {
    let rig = Rig::start().await;
    let mut client = rig.connect().await;
    client.send("POST /images/load?quiet=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n").await;
    let block = "x".repeat(65536);
    for _ in 0..64 {
        client.send(&format!("10000\r\n{block}\r\n")).await;
    }
    client.send("0\r\n\r\n").await;
    let answer = Answer::parse(&client.rest().await);
    assert_eq!(answer.body, "{\"stream\":\"Loaded image: x\"}\r\n");
    assert_eq!(*rig.fake.uploaded.lock().unwrap(), Some(Ok(64 << 16)));
    // Cut off in the middle: never taken for a whole one.
    let mut client = rig.connect().await;
    client.send("POST /images/create?fromSrc=-&repo=r&changes=CMD+a&changes=ENV+b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf").await;
    client.finish().await;
    drop(client);
    let told = async {
        while matches!(*rig.fake.uploaded.lock().unwrap(), Some(Ok(_))) {
            tokio::task::yield_now().await;
        }
    };
    patient(told).await;
    assert!(matches!(&*rig.fake.uploaded.lock().unwrap(), Some(Err(_))));
    let answer = rig
        .ask(
            "POST /images/create?fromSrc=-&repo=r&changes=CMD+a&changes=ENV+b",
            "tar",
        )
        .await;
    assert_eq!(
        answer.body,
        "{\"stream\":\"r [\\\"CMD a\\\", \\\"ENV b\\\"]\"}\r\n"
    );
    rig.stop().await;
}

#[tokio::test]
async fn shutdown_ends_everything() {
    let rig = Rig::start().await;
    let process = rig
        .fake
        .add("web", &["lines"], |config| config.open_stdin = true);
    tokio::spawn(process.run());
    let mut clients = Vec::new();
    for request in [
        get("/events"),
        get("/containers/web/logs?stdout=1&follow=1"),
        "POST /containers/web/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n\r\n"
            .to_owned(),
        "POST /containers/web/wait HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ] {
        let mut client = rig.connect().await;
        client.send(&request).await;
        client.until("\r\n\r\n").await;
        clients.push(client);
    }
    clients.push(rig.connect().await);
    let mut idle = rig.connect().await;
    idle.send("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.until("OK").await;
    let mut half = rig.connect().await;
    half.send("GET /_pi").await;
    rig.fake.until_observers(3).await;
    let before = std::time::Instant::now();
    rig.stop().await;
    // Nothing waits for a grace period: no answer here would ever have ended by itself.
    assert!(before.elapsed() < std::time::Duration::from_millis(1500));
    for mut client in clients {
        client.rest().await;
    }
}

#[test]
fn chunks_are_joined() {
    assert_eq!(unchunk("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
}
