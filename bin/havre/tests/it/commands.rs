//! Commands that ask and print.

use crate::fake::{Fake, json, no_content};
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
