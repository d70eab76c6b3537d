//! Status codes, headers and texts, byte by byte where clients depend on them.

use crate::rig::{Rig, patient};

#[tokio::test]
async fn ping_tells_what_clients_negotiate_by() {
    let rig = Rig::start().await;
    let answer = rig.ask("GET /_ping", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    for header in [
        "Api-Version: 1.56",
        "Docker-Experimental: true",
        "Ostype: linux",
        "Server: Havre/0.0-test (linux)",
        "Builder-Version: 2",
        "Swarm: inactive",
        "Cache-Control: no-cache, no-store, must-revalidate",
        "Pragma: no-cache",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        assert!(
            answer.head.contains(header),
            "{header} is missing in {}",
            answer.head
        );
    }
    let answer = rig.ask("HEAD /v1.50/_ping", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(answer.head.contains("Api-Version: 1.56"));
    assert_eq!(rig.ask("OPTIONS /anything", "").await.status, 200);
    rig.stop().await;
}

/// Request, body, status, text.
const REFUSALS: &[(&str, &str, u16, &str)] = &[
    ("GET /nope", "", 404, "page not found"),
    ("PUT /containers/json", "", 404, "page not found"),
    (
        "GET /v1.99/info",
        "",
        400,
        "client version 1.99 is too new. Maximum supported API version is 1.56",
    ),
    ("GET /v1.99/nope", "", 404, "page not found"),
    (
        "GET /volumes",
        "",
        501,
        "GET /volumes is not implemented in Havre yet",
    ),
    (
        "POST /v1.50/images/a/b/push?tag=x",
        "",
        501,
        "POST /images/{name}/push is not implemented in Havre yet",
    ),
    (
        "POST /swarm/leave?force=1",
        "",
        503,
        "This node is not part of a swarm",
    ),
    ("GET /networks/nope", "", 404, "network nope not found"),
    (
        "GET /containers/none/json",
        "",
        404,
        "No such container: none",
    ),
    (
        "GET /containers/json?filters=%7B",
        "",
        400,
        "invalid filter",
    ),
    (
        "GET /containers/json?filters=%7B%22x%22:%7B%22y%22:true%7D%7D",
        "",
        400,
        "invalid filter 'x'",
    ),
    (
        "GET /containers/json?limit=x",
        "",
        400,
        "strconv.Atoi: parsing \"x\": invalid syntax",
    ),
    (
        "GET /containers/json?all=%zz",
        "",
        400,
        "invalid URL escape \"%zz\"",
    ),
    (
        "POST /containers/create",
        "",
        400,
        "invalid JSON: got EOF while reading request body",
    ),
    (
        "POST /containers/create",
        "{\"Image\":\"none\"}",
        404,
        "No such image: none:latest",
    ),
    (
        "POST /containers/quiet/start",
        "{\"Binds\":[]}",
        400,
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
    ),
    (
        "POST /containers/quiet/kill",
        "",
        409,
        "cannot kill container: quiet: container 0000000000000000000000000000000000000000000000000000000000000001 is not running",
    ),
    (
        "POST /containers/quiet/wait?condition=soon",
        "",
        400,
        "invalid condition: \"soon\"",
    ),
    (
        "POST /containers/quiet/resize?h=1",
        "",
        400,
        "invalid resize width \"\": invalid syntax",
    ),
    (
        "POST /containers/quiet/exec",
        "{}",
        400,
        "No exec command specified",
    ),
    (
        "POST /exec/none/start",
        "{}",
        404,
        "No such exec instance: none",
    ),
    (
        "GET /containers/quiet/logs",
        "",
        400,
        "must specify at least one of 'stdout' or 'stderr'",
    ),
    (
        "GET /containers/quiet/logs?stdout=1&since=x",
        "",
        400,
        "invalid value for \"since\": failed to parse value as time or duration: \"x\"",
    ),
    (
        "GET /events?since=20&until=10",
        "",
        400,
        "`since` time (20) cannot be after `until` time (10)",
    ),
    (
        "POST /images/create?fromImage=bad+name",
        "",
        400,
        "invalid reference format",
    ),
    ("GET /images/x/y/json", "", 404, "No such image: x/y"),
];

#[tokio::test]
async fn refusals_have_dockers_status_and_words() {
    let rig = Rig::start().await;
    rig.fake.add("quiet", &["sleep"], |_| {});
    for &(request, body, status, message) in REFUSALS {
        let answer = rig.ask(request, body).await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (status, message),
            "{request}"
        );
        assert!(
            answer.head.contains("Content-Type: application/json"),
            "{request}"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn clients_that_are_too_old_get_plain_text() {
    let rig = Rig::start().await;
    let answer = rig.ask("GET /v1.12/info", "").await;
    assert_eq!(answer.status, 400);
    assert!(answer.head.contains("Content-Type: text/plain"));
    assert_eq!(
        answer.body,
        "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"
    );
    rig.stop().await;
}

#[tokio::test]
async fn bodies_are_checked() {
    let rig = Rig::start().await;
    let answer = rig.ask("POST /containers/create", "Image=debian").await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (400, "malformed Content-Type header (): mime: no media type")
    );
    let answer = rig.ask("POST /containers/create", "{\"Image\": 5}").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.message().starts_with("invalid JSON: "),
        "{}",
        answer.body
    );
    let huge = format!("{{\"Image\":\"{}\"}}", "x".repeat(5 << 20));
    let mut client = rig.connect().await;
    let head = format!(
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        huge.len()
    );
    client.send(&head).await;
    // The refusal may come while the body is still being sent.
    let _cut_off = tokio::io::AsyncWriteExt::write_all(&mut client.stream, huge.as_bytes())
        .await
        .is_err();
    assert!(client.until("\r\n").await.contains("400"));
    assert!(client.until("}").await.contains("is longer than"));
    rig.stop().await;
}

#[tokio::test]
async fn names_are_case_insensitive_and_words_may_be_one_string() {
    let rig = Rig::start().await;
    let answer = rig
        .ask(
            "POST /containers/create?name=web",
            "{\"image\":\"debian\",\"CMD\":\"ls\"}",
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let made = rig.fake.find("web").unwrap();
    assert_eq!(
        answer.body,
        format!("{{\"Id\":\"{}\",\"Warnings\":[]}}\n", made.id)
    );
    assert_eq!(made.config.cmd.as_deref(), Some(&["ls".to_owned()][..]));
    rig.stop().await;
}

#[tokio::test]
async fn starting_twice_is_304_and_removing_a_running_one_409() {
    let rig = Rig::start().await;
    rig.fake.add("web", &["sleep"], |_| {});
    let start = "POST /v1.43/containers/web/start";
    let first = rig.ask(start, "").await;
    assert_eq!((first.status, first.body.as_str()), (204, ""));
    let second = rig.ask(start, "").await;
    assert_eq!((second.status, second.body.as_str()), (304, ""));
    assert_eq!(rig.ask("DELETE /containers/web", "").await.status, 409);
    assert_eq!(
        rig.ask("DELETE /containers/web?force=1", "").await.status,
        204
    );
    assert_eq!(rig.ask("GET /containers/web/json", "").await.status, 404);
    rig.stop().await;
}

#[tokio::test]
async fn a_change_goes_on_when_its_client_leaves() {
    let rig = Rig::start().await;
    let process = rig.fake.add("web", &["sleep"], |_| {});
    rig.fake.let_start.send_replace(false);
    let mut client = rig.connect().await;
    client
        .send("POST /containers/web/start HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let mut starting = rig.fake.starting.subscribe();
    patient(starting.wait_for(|count| *count == 1))
        .await
        .unwrap();
    drop(client);
    // The server has seen the disconnect when a later request is answered on a later connection.
    assert_eq!(rig.ask("GET /_ping", "").await.status, 200);
    rig.fake.let_start.send_replace(true);
    let mut started = process.started.subscribe();
    patient(started.wait_for(|started| *started)).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let rig = Rig::start().await;
    let mut client = rig.connect().await;
    for _ in 0..3 {
        client.send("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.until("\r\n\r\nOK").await;
    }
    // Two at once, and a head in pieces.
    client
        .send("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nGET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    client.until("\r\n\r\nOK").await;
    client.until("\r\n\r\nOK").await;
    for piece in ["GET /_pi", "ng HTTP/1.1\r", "\nHost: x\r\n\r", "\n"] {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    client.until("\r\n\r\nOK").await;
    rig.stop().await;
}

#[tokio::test]
async fn malformed_requests_are_refused_and_the_connection_closed() {
    let rig = Rig::start().await;
    for bytes in [
        "\u{1}\u{2}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /_ping HTTP/1.1\r\nHo st: x\r\n\r\n",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{",
    ] {
        let mut client = rig.connect().await;
        client.send(bytes).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{bytes:?}: {answer:?}");
    }
    let mut client = rig.connect().await;
    client
        .send(&format!(
            "GET /_ping HTTP/1.1\r\nX: {}\r\n\r\n",
            "y".repeat(100_000)
        ))
        .await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.1 431"));
    rig.stop().await;
}

#[tokio::test]
async fn tcp_refuses_web_pages() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rig = Rig::start().await;
    for (headers, status) in [
        ("Host: localhost:1", "200"),
        ("Host: evil.example", "403"),
        ("Host: localhost\r\nOrigin: http://localhost", "403"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(&rig.tcp).await.unwrap();
        stream
            .write_all(
                format!("GET /_ping HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        let mut answer = String::new();
        patient(stream.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{headers}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn sockets_are_private_and_never_taken_from_another_engine() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use havre_http::{Host, ListenError, Listener};
    let rig = Rig::start().await;
    let mode = fs_err::metadata(&rig.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let again = Listener::bind(&Host::Unix(rig.socket.clone()), None).await;
    assert!(matches!(again, Err(ListenError::InUse(_))));
    let file = rig.socket.with_file_name("file");
    fs_err::write(&file, "x").unwrap();
    let link = rig.socket.with_file_name("link");
    symlink(&file, &link).unwrap();
    for path in [file, link] {
        assert!(matches!(
            Listener::bind(&Host::Unix(path), None).await,
            Err(ListenError::NotASocket(_))
        ));
    }
    let exposed = Listener::bind(&"tcp://0.0.0.0:0".parse().unwrap(), None).await;
    assert!(matches!(exposed, Err(ListenError::Exposed(_))));
    rig.stop().await;
}

#[tokio::test]
async fn older_clients_get_older_shapes() {
    let rig = Rig::start().await;
    assert!(
        rig.ask("GET /v1.43/images/json", "")
            .await
            .body
            .contains("\"VirtualSize\":5")
    );
    assert!(
        !rig.ask("GET /v1.44/images/json", "")
            .await
            .body
            .contains("VirtualSize")
    );
    assert!(
        rig.ask("GET /version", "")
            .await
            .body
            .contains("\"ApiVersion\":\"1.56\",\"MinAPIVersion\":\"1.24\"")
    );
    rig.stop().await;
}
