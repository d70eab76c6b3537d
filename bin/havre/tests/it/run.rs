//! `run` with pipes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fake::{
    Events, Fake, Request, chunk, close, frame, head_of_wait, json, no_content, switch,
};
use crate::{havre, output, text};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Answers what every `run` asks; `attached` is the container's side of the stream once it runs.
pub(crate) fn container(
    request: &Request,
    stream: &mut UnixStream,
    events: &Events,
    exit: i64,
    attached: impl Fn(&mut UnixStream),
) {
    let line = request.line();
    match line
        .strip_prefix("POST /containers/")
        .map(|rest| rest.trim_start_matches(ID))
    {
        Some("create") => json(
            stream,
            "201 Created",
            &format!(r#"{{"Id":"{ID}","Warnings":["careful"]}}"#),
        ),
        Some("/attach") => {
            switch(stream, "multiplexed-stream");
            events.wait("started");
            attached(stream);
            close(stream);
            events.set("exited");
        }
        Some("/wait") => {
            head_of_wait(stream);
            events.wait("exited");
            chunk(stream, &format!(r#"{{"StatusCode":{exit}}}"#));
        }
        Some("/start") => {
            events.set("started");
            no_content(stream);
        }
        _ => no_content(stream),
    }
}

#[test]
fn output_and_exit_code_are_the_containers() {
    let events = Events::default();
    let fake = Fake::start(move |request, stream| {
        container(request, stream, &events, 7, |stream| {
            frame(stream, 1, b"out\x1b[1m");
            frame(stream, 2, b"err");
            frame(stream, 1, b"more\n");
        });
    });
    let out = output(
        &fake.host(),
        &["run", "--name", "n", "-e", "A=b", "debian", "ls", "-l"],
    );
    assert_eq!(
        out.stdout, b"out\x1b[1mmore\n",
        "a container's own output is not touched"
    );
    assert_eq!(text(&out.stderr), "WARNING: careful\nerr");
    assert_eq!(out.status.code(), Some(7));
    let expected =
        ["attach", "start", "wait"].map(|action| format!("POST /containers/{ID}/{action}"));
    assert_eq!(
        fake.lines(),
        [&expected[..], &["POST /containers/create".to_owned()]].concat()
    );
    let create = fake
        .requests()
        .into_iter()
        .find(|request| request.line().ends_with("/create"))
        .unwrap();
    assert_eq!(create.target, "/containers/create?name=n");
    let body: serde_json::Value = serde_json::from_str(&create.body).unwrap();
    assert_eq!(
        (&body["Image"], &body["Cmd"], &body["Env"]),
        (
            &"debian".into(),
            &["ls", "-l"].into_iter().collect(),
            &["A=b"].into_iter().collect()
        )
    );
}

#[test]
fn input_ends_when_ours_does() {
    let events = Events::default();
    let fake = Fake::start(move |request, stream| {
        container(request, stream, &events, 0, |stream| {
            let mut input = Vec::new();
            stream.read_to_end(&mut input).unwrap();
            frame(stream, 1, format!("{} bytes", input.len()).as_bytes());
        });
    });
    let mut child = havre(&fake.host(), &["run", "-i", "x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![b'x'; 1_000_000]).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    assert_eq!(
        (text(&out.stdout), out.status.code()),
        ("1000000 bytes", Some(0))
    );
}

#[test]
fn a_missing_image_is_pulled() {
    let events = Events::default();
    let pulled = AtomicBool::new(false);
    let fake = Fake::start(move |request, stream| match request.line().as_str() {
        "POST /containers/create" if !pulled.load(Ordering::SeqCst) => {
            json(
                stream,
                "404 Not Found",
                r#"{"message":"No such image: debian:latest"}"#,
            );
        }
        "POST /images/create" => {
            pulled.store(true, Ordering::SeqCst);
            let lines = [
                r#"{"status":"Pulling from library/debian","id":"latest"}"#,
                r#"{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"aa"}"#,
                r#"{"status":"Pull complete","progressDetail":{},"id":"aa"}"#,
            ];
            json(stream, "200 OK", &lines.join("\r\n"));
        }
        _ => container(request, stream, &events, 0, |_| {}),
    });
    let out = output(&fake.host(), &["run", "debian"]);
    assert_eq!(
        text(&out.stderr),
        "Unable to find image 'debian:latest' locally\nlatest: Pulling from library/debian\naa: Pull complete\nWARNING: careful\n"
    );
    assert_eq!(out.status.code(), Some(0));
    let pull = fake
        .requests()
        .into_iter()
        .find(|request| request.line() == "POST /images/create")
        .unwrap();
    assert_eq!(
        pull.target,
        "/images/create?fromImage=docker.io/library/debian&tag=latest"
    );
    let out = output(
        &fake.host(),
        &["run", "--pull", "never", "--name", "again", "debian"],
    );
    assert_eq!(out.status.code(), Some(0), "the image is there now");
}

#[test]
fn a_pull_that_fails_ends_the_run() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "POST /containers/create" => json(
            stream,
            "404 Not Found",
            r#"{"message":"No such image: x:latest"}"#,
        ),
        _ => json(
            stream,
            "200 OK",
            r#"{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}"#,
        ),
    });
    let out = output(&fake.host(), &["run", "x"]);
    assert_eq!(
        text(&out.stderr),
        "Unable to find image 'x:latest' locally\nhavre: manifest unknown\n\nRun 'havre run --help' for more information\n"
    );
    assert_eq!(out.status.code(), Some(125));
    let out = output(&fake.host(), &["run", "--pull=never", "x"]);
    assert!(
        text(&out.stderr)
            .starts_with("havre: Error response from daemon: No such image: x:latest\n")
    );
}

#[test]
fn a_start_that_fails_says_why_by_its_code() {
    for (message, code) in [
        (
            "exec: \\\"nope\\\": executable file not found in $PATH",
            127,
        ),
        ("exec: \\\"/etc/passwd\\\": permission denied", 126),
        ("network not found", 125),
    ] {
        let events = Arc::new(Events::default());
        let fake = Fake::start(move |request, stream| {
            if request.line().ends_with("/start") {
                json(
                    stream,
                    "400 Bad Request",
                    &format!(r#"{{"message":"{message}"}}"#),
                );
                events.set("started");
            } else {
                container(request, stream, &events, 127, |_| {});
            }
        });
        let out = output(&fake.host(), &["run", "--rm", "x"]);
        assert_eq!(out.status.code(), Some(code), "{message}");
        let first = text(&out.stderr).lines().nth(1).unwrap().to_owned();
        assert_eq!(
            first,
            format!(
                "havre: Error response from daemon: {}",
                message.replace('\\', "")
            )
        );
    }
}

#[test]
fn detached_runs_print_the_id() {
    let events = Events::default();
    let fake = Fake::start(move |request, stream| container(request, stream, &events, 0, |_| {}));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cid");
    let out = output(
        &fake.host(),
        &["run", "-d", "--cidfile", file.to_str().unwrap(), "x"],
    );
    assert_eq!(text(&out.stdout), format!("{ID}\n"));
    assert_eq!(fs_err::read_to_string(&file).unwrap(), ID);
    assert_eq!(fake.lines().len(), 2, "nothing is attached");
    let out = output(
        &fake.host(),
        &["run", "-d", "--cidfile", file.to_str().unwrap(), "x"],
    );
    assert!(
        text(&out.stderr).contains("container ID file found"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn signals_are_passed_on() {
    let events = Arc::new(Events::default());
    let seen = Arc::clone(&events);
    let fake = Fake::start(move |request, stream| {
        if request.line().ends_with("/kill") {
            assert!(
                request.target.ends_with("signal=TERM"),
                "{}",
                request.target
            );
            no_content(stream);
            seen.set("killed");
        } else {
            container(request, stream, &seen, 143, |_| seen.wait("killed"));
        }
    });
    let child = havre(&fake.host(), &["run", "x"]).spawn().unwrap();
    events.wait("started");
    // `timeout` passes the signal on to the program.
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(143));
}
