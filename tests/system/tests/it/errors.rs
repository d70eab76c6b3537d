//! Bad input: Docker's status and wording, and nothing left behind (the fixture checks that).

use crate::support::{assert_fails, engine, run_rm};
use anyhow::Result;
use havre_testkit::Registry;
use havre_testkit::command::command;
use std::io::Write as _;
use std::process::Stdio;

#[test]
fn unknown_things_are_named() -> Result<()> {
    let engine = engine()?;
    let cases: [(&[&str], &str); 9] = [
        (&["inspect", "nope"], "No such object: nope"),
        (&["start", "nope"], "No such container: nope"),
        (&["logs", "nope"], "No such container: nope"),
        (&["stop", "nope"], "No such container: nope"),
        (&["exec", "nope", "true"], "No such container: nope"),
        (&["rm", "nope"], "No such container: nope"),
        (&["rmi", "nope"], "No such image: nope:latest"),
        (&["tag", "nope", "x"], "No such image: nope:latest"),
        (&["ps", "--filter", "bogus=1"], "invalid filter 'bogus'"),
    ];
    for (words, message) in cases {
        assert_fails(&engine.docker_output(words)?, 1, message);
    }
    Ok(())
}

#[test]
fn bad_requests_are_refused() -> Result<()> {
    let engine = engine()?;
    let cases: [(&[&str], &str); 7] = [
        (
            &["-m", "1m", "busybox", "true"],
            "Minimum memory limit allowed is 6MB",
        ),
        (&["--cap-add", "BOGUS", "busybox", "true"], "CAP_BOGUS"),
        (
            &["-u", "nobody-here", "busybox", "true"],
            "unable to find user nobody-here",
        ),
        (&["-u", "4294967296", "busybox", "true"], "4294967296"),
        (
            &["--sysctl", "kernel.core_pattern=x", "busybox", "true"],
            "kernel.core_pattern",
        ),
        (&["--cpus", "1000", "busybox", "true"], "CPUs"),
        (&["-w", "relative", "busybox", "true"], "relative"),
    ];
    for (words, message) in cases {
        assert_fails(&run_rm(&engine, words)?, 125, message);
    }
    let unknown =
        engine.docker_output(&["run", "--rm", "--network", "no-such", "busybox", "true"])?;
    assert_fails(&unknown, 125, "network no-such not found");
    assert!(
        engine.docker(&["ps", "-aq"])?.is_empty(),
        "a refused container stayed"
    );
    Ok(())
}

#[test]
fn names_are_unique_and_prefixes_must_be_too() -> Result<()> {
    let engine = engine()?;
    engine.docker(&["create", "--network", "none", "--name", "one", "busybox"])?;
    let again =
        engine.docker_output(&["create", "--network", "none", "--name", "one", "busybox"])?;
    assert_fails(
        &again,
        1,
        "Conflict. The container name \"/one\" is already in use by container",
    );
    let mut ids = vec![engine.docker(&["inspect", "-f", "{{.Id}}", "one"])?];
    // Seventeen containers have two that share their first hexadecimal digit.
    for _ in 0..16 {
        ids.push(engine.docker(&["create", "--network", "none", "busybox"])?);
    }
    let mut digits: Vec<&str> = ids.iter().map(|id| &id[..1]).collect();
    digits.sort_unstable();
    let shared = digits
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .expect("seventeen ids, sixteen digits")[0];
    let ambiguous = engine.docker_output(&["start", shared])?;
    assert_fails(&ambiguous, 1, "multiple IDs found with provided prefix");
    Ok(())
}

#[test]
fn an_unknown_registry_image_or_tag() -> Result<()> {
    let engine = engine()?;
    let registry = Registry::start()?;
    let name = format!("{}/nothing:here", registry.authority());
    assert_fails(&engine.docker_output(&["pull", &name])?, 1, "not found");
    // Nothing listens on a port that was bound and let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let nowhere = format!("127.0.0.1:{free}/x");
    assert_fails(
        &engine.docker_output(&["pull", &nowhere])?,
        1,
        "connection refused",
    );
    assert_fails(
        &engine.docker_output(&["pull", "BAD/Name"])?,
        1,
        "must be lowercase",
    );
    Ok(())
}

#[test]
fn hostile_archives_leave_nothing() -> Result<()> {
    let engine = engine()?;
    let outside = engine.directory().join("outside");
    fs_err::create_dir(&outside)?;
    let script = r#"
import io, sys, tarfile
kind, outside = sys.argv[1:]
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT)
def add(name, data=b"x", **fields):
    member = tarfile.TarInfo(name)
    for key, value in fields.items(): setattr(member, key, value)
    if member.isreg(): member.size = len(data)
    out.addfile(member, io.BytesIO(data) if member.isreg() else None)
if kind == "parent": add("../../../../../../../../../.." + outside + "/evil")
if kind == "link":
    add("way", type=tarfile.SYMTYPE, linkname=outside)
    add("way/evil")
if kind == "hardlink": add("evil", type=tarfile.LNKTYPE, linkname=outside + "/../../../../etc/shadow")
if kind == "long": add("n" * 300)
if kind == "fine": add("good")
out.close()
"#;
    for kind in ["parent", "link", "hardlink", "long", "fine"] {
        let mut maker = command("/usr/bin/python3")
            .args(["-c", script, kind, &outside.to_string_lossy()])
            .stdout(Stdio::piped())
            .spawn()?;
        let archive = maker.stdout.take().expect("piped");
        let output = engine
            .docker_command(&["import", "-"])
            .stdin(archive)
            .output()?;
        assert!(maker.wait()?.success());
        let accepted = output.status.success();
        // A link inside the image may point anywhere: it resolves inside. The other three are refused.
        assert_eq!(
            accepted,
            matches!(kind, "link" | "fine"),
            "{kind}: {output:?}"
        );
        assert_eq!(
            fs_err::read_dir(&outside)?.count(),
            0,
            "{kind} wrote outside"
        );
    }
    Ok(())
}

#[test]
fn a_truncated_archive_is_refused() -> Result<()> {
    let engine = engine()?;
    let archive = fs_err::read(havre_testkit::image("busybox")?.archive)?;
    let before = engine.docker(&["images", "-aq"])?;
    for end in [100, 2000, archive.len() / 2, archive.len() * 9 / 10] {
        let mut child = engine
            .docker_command(&["load"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // The engine may hang up before it has read everything.
        let _written = child
            .stdin
            .take()
            .expect("piped")
            .write_all(&archive[..end]);
        let output = child.wait_with_output()?;
        assert!(
            !output.status.success(),
            "{end} bytes were taken: {output:?}"
        );
    }
    assert_eq!(engine.docker(&["images", "-aq"])?, before);
    Ok(())
}

#[test]
fn the_api_answers_nonsense_calmly() -> Result<()> {
    use havre_testkit::http::Body;
    let engine = engine()?;
    let cases: [(&str, &str, &[u8], u16); 8] = [
        ("GET", "/v1.99/version", b"", 400),
        ("GET", "/v1.10/version", b"", 400),
        ("GET", "/nothing/here", b"", 404),
        ("POST", "/containers/create", b"{", 400),
        ("POST", "/containers/create", b"[]", 400),
        ("POST", "/containers/create", b"{}", 400),
        (
            "POST",
            "/containers/create?name=-bad-",
            b"{\"Image\":\"busybox\"}",
            400,
        ),
        ("GET", "/containers/json?filters=%7Bnot-json", b"", 400),
    ];
    for (method, target, body, status) in cases {
        let answer = engine.api(method, target, &Body::Bytes(body, "application/json"))?;
        assert_eq!(
            answer.status,
            status,
            "{method} {target}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        // Clients of that age expect plain text.
        if target.starts_with("/v1.10/") {
            continue;
        }
        let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{body}"
        );
    }
    Ok(())
}
