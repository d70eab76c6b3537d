//! Commands that watch, change and sweep containers.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fake::{Events, Fake, Request, json, no_content};
use crate::{havre, output, text};

/// What was sent with the last request of a path.
fn body_of(fake: &Fake, line: &str) -> serde_json::Value {
    let requests = fake.requests();
    let request = requests.iter().rev().find(|request| request.line() == line);
    serde_json::from_str(&request.unwrap().body).unwrap()
}

#[test]
fn update_sends_what_was_given() {
    let fake = Fake::start(|_, stream| json(stream, "200 OK", r#"{"Warnings":["careful"]}"#));
    let args = [
        "update",
        "-m",
        "64m",
        "--cpus",
        "1.5",
        "--restart",
        "on-failure:3",
        "--pids-limit",
        "-1",
        "a",
    ];
    let out = output(&fake.host(), &args);
    assert_eq!((text(&out.stdout), text(&out.stderr)), ("a\ncareful\n", ""));
    let body = body_of(&fake, "POST /containers/a/update");
    assert_eq!(body["Memory"], 64 << 20);
    assert_eq!(body["NanoCpus"], 1_500_000_000);
    assert_eq!(body["PidsLimit"], -1);
    assert_eq!(body["RestartPolicy"]["MaximumRetryCount"], 3);
    let out = output(&fake.host(), &["update", "a"]);
    assert_eq!(
        text(&out.stderr),
        "you must provide one or more flags when using this command\n"
    );
}

#[test]
fn a_prune_asks_first() {
    let fake = Fake::start(|_, stream| {
        let body = r#"{"ContainersDeleted":["abc"],"SpaceReclaimed":2048}"#;
        json(stream, "200 OK", body);
    });
    let answered = |answer: &str| {
        let mut child = havre(&fake.host(), &["container", "prune", "--filter", "label=x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(answer.as_bytes())
            .unwrap();
        let out = child.wait_with_output().unwrap();
        (text(&out.stdout).to_owned(), out.status.code())
    };
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    assert_eq!(answered("n\n"), (question.to_owned(), Some(0)));
    assert_eq!(answered(""), (question.to_owned(), Some(0)));
    assert!(fake.requests().is_empty());
    assert_eq!(
        answered("y\n"),
        (
            format!("{question}Deleted Containers:\nabc\n\nTotal reclaimed space: 2.048kB\n"),
            Some(0)
        )
    );
    assert!(
        fake.requests()[0].target.contains("label"),
        "{:?}",
        fake.requests()
    );
}

#[test]
fn a_system_prune_goes_on_without_what_an_engine_does_not_have() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "POST /networks/prune" => json(stream, "501 Not Implemented", r#"{"message":"later"}"#),
        "POST /images/prune" => json(
            stream,
            "200 OK",
            r#"{"ImagesDeleted":[{"Untagged":"a:1"},{"Deleted":"sha256:x"}],"SpaceReclaimed":10}"#,
        ),
        _ => json(stream, "200 OK", "{}"),
    });
    let out = output(&fake.host(), &["system", "prune", "-f"]);
    assert_eq!(
        text(&out.stdout),
        "Deleted Images:\nuntagged: a:1\ndeleted: sha256:x\n\nTotal reclaimed space: 10B\n"
    );
    assert_eq!(
        fake.lines(),
        [
            "POST /build/prune",
            "POST /containers/prune",
            "POST /images/prune",
            "POST /networks/prune"
        ]
    );
}

/// One sample: twice the processor time of the last.
fn sample(name: &str, total: u64) -> String {
    format!(
        r#"{{"name":"/{name}","id":"0123456789abcdef","cpu_stats":{{"cpu_usage":{{"total_usage":{total}}},"system_cpu_usage":2000,"online_cpus":2}},
        "precpu_stats":{{"cpu_usage":{{"total_usage":0}},"system_cpu_usage":1000}},"memory_stats":{{"usage":1048576,"limit":4194304}},"pids_stats":{{"current":2}}}}"#
    )
    .replace('\n', "")
}

#[test]
fn stats_once() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "GET /containers/a/stats" => json(stream, "200 OK", &sample("a", 100)),
        _ => json(
            stream,
            "404 Not Found",
            r#"{"message":"No such container: b"}"#,
        ),
    });
    let out = output(&fake.host(), &["stats", "--no-stream", "a"]);
    assert_eq!(
        text(&out.stdout),
        "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS\n\
         0123456789ab   a         20.00%    1MiB / 4MiB         25.00%    0B / 0B   0B / 0B     2\n"
    );
    let out = output(&fake.host(), &["stats", "--no-stream", "a", "b"]);
    assert_eq!(
        (text(&out.stderr), out.status.code()),
        (
            "Error response from daemon: No such container: b\n",
            Some(1)
        )
    );
}

#[test]
fn stats_draws_again_and_again_until_the_engine_goes() {
    let events = std::sync::Arc::new(Events::default());
    let (seen, samples) = (std::sync::Arc::clone(&events), AtomicUsize::new(0));
    let fake = Fake::start(move |request, stream| match request.line().as_str() {
        "GET /events" => {
            head(stream);
            // The screen has been drawn at least once by then.
            seen.wait("sampled");
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
        "GET /containers/json" => json(stream, "200 OK", r#"[{"Id":"a","Names":["/a"]}]"#),
        _ => {
            head(stream);
            while samples.fetch_add(1, Ordering::SeqCst) < 40 {
                let line = format!("{}\n", sample("a", 100));
                if write!(stream, "{:x}\r\n{line}\r\n", line.len()).is_err() {
                    break;
                }
                seen.pause();
            }
            seen.set("sampled");
        }
    });
    let out = output(&fake.host(), &["stats"]);
    let screen = text(&out.stdout);
    assert!(
        screen.starts_with("\x1b[HCONTAINER ID   NAME"),
        "{screen:?}"
    );
    assert!(screen.matches("\x1b[H").count() > 1, "{screen:?}");
    assert!(screen.contains("20.00%"), "{screen:?}");
    assert!(screen.ends_with("\x1b[J"), "{screen:?}");
}

fn head(stream: &mut UnixStream) {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
}

#[test]
fn a_login_is_kept_and_forgotten() {
    let fake = Fake::start(|request, stream| {
        if request.body.contains("wrong") {
            let body = r#"{"message":"unauthorized: no"}"#;
            json(stream, "401 Unauthorized", body);
        } else {
            json(
                stream,
                "200 OK",
                r#"{"Status":"Login Succeeded","IdentityToken":""}"#,
            );
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().to_str().unwrap();
    let file = dir.path().join("config.json");
    let run = |args: &[&str], input: &str| {
        let mut child = havre(&fake.host(), &[])
            .args(["--config", config])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that asks nothing may have ended already.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        child.wait_with_output().unwrap()
    };
    let login = [
        "login",
        "-u",
        "me",
        "--password-stdin",
        "https://reg.example:5000/v2/",
    ];
    let out = run(&login, "wrong\n");
    assert_eq!(
        text(&out.stderr),
        "Error response from daemon: unauthorized: no\n"
    );
    assert!(!file.exists());
    let out = run(&login, "secret\n");
    assert_eq!(text(&out.stdout), "Login Succeeded\n");
    assert!(
        text(&out.stderr).contains("stored unencrypted in"),
        "{}",
        text(&out.stderr)
    );
    let body = body_of(&fake, "POST /auth");
    assert_eq!(body["serveraddress"], "reg.example:5000");
    assert_eq!(body["password"], "secret");
    let kept = fs_err::read_to_string(&file).unwrap();
    assert!(
        kept.contains("\"reg.example:5000\"") && kept.contains("bWU6c2VjcmV0"),
        "{kept}"
    );
    let out = run(&["logout", "reg.example:5000"], "");
    assert_eq!(
        text(&out.stdout),
        "Removing login credentials for reg.example:5000\n"
    );
    assert!(
        !fs_err::read_to_string(&file)
            .unwrap()
            .contains("bWU6c2VjcmV0")
    );
    let out = run(&["login", "-u", "me", "reg"], "");
    assert_eq!(
        text(&out.stderr),
        "Error: Cannot perform an interactive login from a non TTY device\n"
    );
}

#[test]
fn an_export_that_breaks_leaves_no_file() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "GET /containers/a/export" => json(stream, "200 OK", "archive"),
        _ => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
            stream.write_all(head.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.tar");
    let out = output(&fake.host(), &["export", "-o", file.to_str().unwrap(), "b"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
    let out = output(&fake.host(), &["export", "-o", file.to_str().unwrap(), "a"]);
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(fs_err::read_to_string(&file).unwrap(), "archive");
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    let out = output(&fake.host(), &["export", "a"]);
    assert_eq!(text(&out.stdout), "archive");
}

#[test]
fn why_is_told_in_one_paragraph() {
    let fake = Fake::start(|_, stream| {
        let body = r#"{"Summary":"box ended: memory ran out. Give it more.","Causes":["Memory ran out."],"Advice":["Give it more."]}"#;
        json(stream, "200 OK", body);
    });
    let out = output(&fake.host(), &["why", "box"]);
    assert_eq!(
        text(&out.stdout),
        "box ended: memory ran out. Give it more.\n"
    );
    assert_eq!(fake.lines(), ["GET /containers/box/why"]);
}

#[test]
fn the_configuration_says_formats_headers_and_proxies() {
    let fake = Fake::start(|request: &Request, stream| match request.line().as_str() {
        "GET /containers/json" | "GET /v1.45/containers/json" => {
            json(stream, "200 OK", r#"[{"Id":"abc","Names":["/x"]}]"#);
        }
        "POST /containers/create" => json(stream, "201 Created", r#"{"Id":"new"}"#),
        _ => no_content(stream),
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let text_of = r#"{"psFormat":"{{.Names}}!","HttpHeaders":{"X-Mine":"1"},"proxies":{"default":{"httpProxy":"http://p:1"}}}"#;
    fs_err::write(&file, text_of).unwrap();
    let run = |args: &[&str]| {
        let mut command = havre(&fake.host(), args);
        let command = command.env("DOCKER_CONFIG", dir.path());
        command.env("DOCKER_API_VERSION", "").output().unwrap()
    };
    assert_eq!(text(&run(&["ps"]).stdout), "x!\n");
    assert_eq!(text(&run(&["ps", "-q"]).stdout), "abc\n");
    assert_eq!(text(&run(&["ps", "--format", "{{.ID}}"]).stdout), "abc\n");
    assert_eq!(fake.requests()[0].header("x-mine").as_deref(), Some("1"));
    assert_eq!(text(&run(&["create", "busybox"]).stdout), "new\n");
    let body = body_of(&fake, "POST /containers/create");
    assert_eq!(
        body["Env"],
        serde_json::json!(["HTTP_PROXY=http://p:1", "http_proxy=http://p:1"])
    );
    let out = havre(&fake.host(), &["ps", "-q"])
        .env("DOCKER_CONFIG", dir.path().join("none"))
        .env("DOCKER_API_VERSION", "1.45")
        .env("DOCKER_CUSTOM_HEADERS", "X-Other=2")
        .output()
        .unwrap();
    assert_eq!(text(&out.stdout), "abc\n");
    let last = fake.requests().pop().unwrap();
    assert_eq!(last.header("x-other").as_deref(), Some("2"));
    assert_eq!(last.header("x-mine"), None);
}
