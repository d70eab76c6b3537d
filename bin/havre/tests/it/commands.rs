//! Commands that ask and print.

use std::io::Write as _;

use crate::fake::{Fake, close, frame, json, no_content, switch};
use crate::{output, text};

#[test]
fn nobody_there() {
    let dir = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/none", dir.path().display());
    let out = output(&host, &["ps"]);
    assert_eq!(
        text(&out.stderr),
        format!("Cannot connect to the Havre engine at {host}. Is havred running?\n")
    );
    assert_eq!(out.status.code(), Some(1));
    let out = output(&host, &["run", "x"]);
    assert!(
        text(&out.stderr).starts_with("havre: Cannot connect to the Havre engine"),
        "{}",
        text(&out.stderr)
    );
    assert_eq!(out.status.code(), Some(125));
}

#[test]
fn wrong_command_lines_ask_nobody() {
    let out = output("unix:///nonexistent", &["run", "--nosuch"]);
    assert_eq!(out.status.code(), Some(125));
    assert!(
        text(&out.stderr)
            .starts_with("unknown flag: --nosuch\n\nUsage:  havre run [OPTIONS] IMAGE")
    );
    let out = output("unix:///nonexistent", &["nosuch"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(
        text(&out.stderr),
        "havre: unknown command: havre nosuch\n\nRun 'havre --help' for more information\n"
    );
    let out = output("nonsense", &["ps"]);
    assert_eq!(
        text(&out.stderr),
        "unable to parse docker host `nonsense`\n"
    );
}

#[test]
fn several_objects_and_one_is_missing() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "DELETE /containers/b" => json(
            stream,
            "404 Not Found",
            r#"{"message":"No such container: b"}"#,
        ),
        _ => no_content(stream),
    });
    let out = output(&fake.host(), &["rm", "-f", "-v", "a", "c"]);
    assert_eq!((text(&out.stdout), out.status.code()), ("a\nc\n", Some(0)));
    assert!(
        fake.requests()
            .iter()
            .all(|request| request.target.ends_with("?force=1&v=1"))
    );
    let out = output(&fake.host(), &["rm", "a", "b", "c"]);
    assert_eq!(text(&out.stdout), "a\nc\n");
    assert_eq!(
        text(&out.stderr),
        "Error response from daemon: No such container: b\n"
    );
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn inspect_keeps_the_engines_fields_and_their_order() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "GET /containers/x/json" => json(stream, "200 OK", r#"{"Zeta":1,"Alpha":{"New":[]}}"#),
        _ => json(stream, "404 Not Found", r#"{"message":"no"}"#),
    });
    let out = output(&fake.host(), &["inspect", "x"]);
    let expected = "[\n    {\n        \"Zeta\": 1,\n        \"Alpha\": {\n            \"New\": []\n        }\n    }\n]\n";
    assert_eq!(text(&out.stdout), expected);
    let out = output(
        &fake.host(),
        &["inspect", "-f", "{{.Zeta}} {{json .Alpha}}", "x", "y"],
    );
    assert_eq!(text(&out.stdout), "1 {\"New\":[]}\n");
    assert_eq!(
        (text(&out.stderr), out.status.code()),
        ("Error: No such object: y\n", Some(1))
    );
}

#[test]
fn hostile_names_do_not_command_the_terminal() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "GET /containers/json" => {
            json(
                stream,
                "200 OK",
                r#"[{"Id":"abc","Names":["/\u001b[2Jx"],"Image":"i\r\ny","Status":"\u009b31m","Command":"a"}]"#,
            );
        }
        _ => json(
            stream,
            "500 Internal Server Error",
            r#"{"message":"bad \u001b]0;title\u0007"}"#,
        ),
    });
    for args in [
        &["ps"][..],
        &["ps", "--format", "{{.Names}} {{.Status}}"],
        &["ps", "--no-trunc"],
    ] {
        let out = output(&fake.host(), args);
        assert!(
            !text(&out.stdout).contains(|c: char| c.is_control() && c != '\n'),
            "{:?}",
            text(&out.stdout)
        );
        assert!(text(&out.stdout).contains("\\u{1b}[2Jx"));
    }
    let out = output(&fake.host(), &["stop", "x"]);
    assert_eq!(
        text(&out.stderr),
        "Error response from daemon: bad \\u{1b}]0;title\\u{7}\n"
    );
}

#[test]
fn exec_gives_output_and_exit_code_of_the_process() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "POST /containers/c/exec" => json(stream, "201 Created", r#"{"Id":"e1"}"#),
        "POST /exec/e1/start" => {
            switch(stream, "multiplexed-stream");
            frame(stream, 1, b"out");
            frame(stream, 2, b"err");
            close(stream);
        }
        "GET /exec/e1/json" => json(stream, "200 OK", r#"{"ID":"e1","ExitCode":42}"#),
        other => panic!("{other}"),
    });
    let out = output(
        &fake.host(),
        &["exec", "-e", "A=b", "-w", "/w", "c", "ls", "-l"],
    );
    assert_eq!(
        (text(&out.stdout), text(&out.stderr), out.status.code()),
        ("out", "err", Some(42))
    );
    let create = &fake.requests()[0];
    let body: serde_json::Value = serde_json::from_str(&create.body).unwrap();
    assert_eq!(body["Cmd"], serde_json::json!(["ls", "-l"]));
    assert_eq!(
        (&body["Env"], &body["WorkingDir"]),
        (&serde_json::json!(["A=b"]), &"/w".into())
    );
}

#[test]
fn an_exec_that_cannot_start_says_why_by_its_code() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "POST /containers/c/exec" => json(stream, "201 Created", r#"{"Id":"e1"}"#),
        _ => json(
            stream,
            "400 Bad Request",
            r#"{"message":"exec: \"x\": executable file not found in $PATH"}"#,
        ),
    });
    let out = output(&fake.host(), &["exec", "c", "x"]);
    assert_eq!(
        text(&out.stderr),
        "Error response from daemon: exec: \"x\": executable file not found in $PATH\n"
    );
    assert_eq!(out.status.code(), Some(127));
}

#[test]
fn logs_are_split_by_stream() {
    let fake = Fake::start(|request, stream| {
        assert!(
            request
                .target
                .contains("stdout=1&stderr=1&timestamps=1&tail=5&since=100.000000000"),
            "{}",
            request.target
        );
        let body = "\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: close\r\n\r\n";
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        close(stream);
    });
    let out = output(
        &fake.host(),
        &["logs", "-t", "-n", "5", "--since", "100", "c"],
    );
    assert_eq!(
        (text(&out.stdout), text(&out.stderr), out.status.code()),
        ("out\n", "err\n", Some(0))
    );
}

#[test]
fn an_archive_is_sent_as_it_is() {
    let fake = Fake::start(|_, stream| {
        json(
            stream,
            "200 OK",
            "{\"stream\":\"Loaded image: x:latest\\n\"}\r\n",
        );
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tar");
    fs_err::write(&file, "y".repeat(600_000)).unwrap();
    let out = output(&fake.host(), &["load", "-i", file.to_str().unwrap()]);
    assert_eq!(
        (text(&out.stdout), out.status.code()),
        ("Loaded image: x:latest\n", Some(0)),
        "{out:?}"
    );
    assert_eq!(fake.requests()[0].body, "y".repeat(600_000));
    let out = output(&fake.host(), &["load", "-i", "/nonexistent/a.tar"]);
    assert_eq!(
        text(&out.stderr),
        "open /nonexistent/a.tar: no such file or directory\n"
    );
}

#[test]
fn waiting_prints_exit_codes() {
    let fake = Fake::start(|request, stream| match request.line().as_str() {
        "POST /containers/a/wait" => json(stream, "200 OK", r#"{"StatusCode":3}"#),
        _ => json(
            stream,
            "404 Not Found",
            r#"{"message":"No such container: b"}"#,
        ),
    });
    let out = output(&fake.host(), &["wait", "a", "b"]);
    assert_eq!(text(&out.stdout), "3\n");
    assert_eq!(
        (text(&out.stderr), out.status.code()),
        (
            "Error response from daemon: No such container: b\n",
            Some(1)
        )
    );
}

#[test]
fn a_pull_sends_the_credentials_of_the_registry() {
    let fake = Fake::start(|request, stream| match request.header("x-registry-auth") {
        Some(auth) if !auth.is_empty() => json(
            stream,
            "200 OK",
            r#"{"status":"Status: Downloaded newer image for r.example/x:latest"}"#,
        ),
        _ => json(stream, "401 Unauthorized", r#"{"message":"who are you"}"#),
    });
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(
        dir.path().join("config.json"),
        r#"{"auths":{"r.example":{"auth":"dTpw"}}}"#,
    )
    .unwrap();
    let config = dir.path().to_str().unwrap();
    let out = output(&fake.host(), &["--config", config, "pull", "r.example/x"]);
    let expected = "Using default tag: latest\nStatus: Downloaded newer image for r.example/x:latest\nr.example/x:latest\n";
    assert_eq!(
        (text(&out.stdout), out.status.code()),
        (expected, Some(0)),
        "{out:?}"
    );
    let out = output(
        &fake.host(),
        &["--config", config, "pull", "-q", "other.example/x"],
    );
    assert_eq!(
        text(&out.stderr),
        "Error response from daemon: who are you\n"
    );
}
