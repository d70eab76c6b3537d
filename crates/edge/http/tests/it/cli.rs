//! The unmodified docker CLI against the server. Where a terminal is needed, script(1) makes one.

use std::process::Stdio;
use std::sync::Arc;

use havre_api_traits::OutputStream;

use crate::fake::Fake;
use crate::rig::{Rig, patient};

/// A finished command.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a shell command line in which `docker` talks to the rig's server.
#[expect(
    clippy::disallowed_methods,
    reason = "the test starts foreign programs as a user does"
)]
async fn sh(rig: &Rig, line: &str) -> Done {
    let docker = format!(
        "docker() {{ command docker -H unix://{} \"$@\"; }}\n",
        rig.socket.display()
    );
    let mut command = std::process::Command::new("/bin/bash");
    command
        .args(["-c", &format!("{docker}export -f docker\n{line}")])
        .env("DOCKER_CONFIG", rig.socket.parent().unwrap())
        .env("SHELL", "/bin/bash")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    let output = patient(tokio::task::spawn_blocking(move || command.output()))
        .await
        .unwrap()
        .unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command line and talks to it: waits for each text in its output, then sends what belongs to it.
/// Afterwards the command is killed when `kill` says so, and the rest of its output is read.
#[expect(
    clippy::disallowed_methods,
    reason = "the test starts foreign programs as a user does"
)]
async fn talk(rig: &Rig, line: &str, dialogue: &'static [(&str, &str)], end: End) -> Done {
    use std::io::{Read as _, Write as _};
    let mut command = std::process::Command::new("/bin/bash");
    command
        .args([
            "-c",
            &format!(
                "exec {}",
                line.replace(
                    "docker ",
                    &format!("docker -H unix://{} ", rig.socket.display())
                )
            ),
        ])
        .env("DOCKER_CONFIG", rig.socket.parent().unwrap())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let conversation = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (mut out, mut from) = (String::new(), 0);
        for (wait, send) in dialogue {
            while !out[from..].contains(wait) {
                let mut piece = [0; 4096];
                let count = stdout.read(&mut piece).unwrap();
                assert!(count > 0, "{wait:?} never came: {out:?}");
                out.push_str(&String::from_utf8_lossy(&piece[..count]));
            }
            from = out.len();
            stdin.write_all(send.as_bytes()).unwrap();
        }
        if end == End::Kill {
            child.kill().unwrap();
        }
        stdout.read_to_string(&mut out).unwrap();
        let code = child.wait().unwrap().code();
        drop(stdin);
        Done {
            code,
            out,
            err: String::new(),
        }
    });
    patient(conversation).await.unwrap()
}

/// How a conversation ends.
#[derive(PartialEq, Eq)]
enum End {
    Wait,
    Kill,
}

async fn rig_with_web(command: &[&str]) -> Rig {
    let rig = Rig::start().await;
    let process = rig.fake.add("web", command, |_| {});
    tokio::spawn(Arc::clone(&process).run());
    process
        .started
        .subscribe()
        .wait_for(|started| *started)
        .await
        .unwrap();
    rig
}

#[tokio::test]
async fn lists_and_versions() {
    let rig = rig_with_web(&["sleep"]).await;
    let done = sh(&rig, "docker ps --format '{{.Names}} {{.Status}} {{.Image}}'; docker images --format '{{.Repository}}:{{.Tag}}'").await;
    assert_eq!(
        done.out, "web Up 1 second debian\ndebian:latest\n",
        "{done:?}"
    );
    let done = sh(
        &rig,
        "docker version --format '{{.Server.Version}} {{.Client.APIVersion}}'",
    )
    .await;
    assert!(done.out.starts_with("0.0-test 1."), "{done:?}");
    let done = sh(&rig, "docker version | grep minimum").await;
    assert!(done.out.contains("1.56 (minimum version 1.24)"), "{done:?}");
    let done = sh(
        &rig,
        "docker inspect -f '{{.State.Status}}' web; docker inspect none",
    )
    .await;
    assert_eq!(done.out, "running\n[]\n", "{done:?}");
    assert_eq!(done.err.to_lowercase(), "error: no such object: none\n");
    let done = sh(&rig, "docker volume ls").await;
    assert_eq!(
        done.err,
        "Error response from daemon: GET /volumes is not implemented in Havre yet\n"
    );
    rig.stop().await;
}

#[tokio::test]
async fn run_in_front_gives_both_outputs_and_the_code() {
    let rig = Rig::start().await;
    let done = sh(&rig, "docker run --name x debian both").await;
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (Some(3), "to out\n", "to err\n")
    );
    let done = sh(&rig, "echo piped in | docker run --rm -i debian cat").await;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "piped in\n"),
        "{done:?}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn run_detached_then_stop_and_remove() {
    let rig = Rig::start().await;
    let done = sh(&rig, "docker run -d --name x debian sleep && docker stop x && docker wait x && docker rm x && docker ps -aq").await;
    let id = format!("{:064x}", 1);
    assert_eq!(done.out, format!("{id}\nx\n143\nx\n"), "{done:?}");
    rig.stop().await;
}

#[tokio::test]
async fn a_terminal_works_through_run_attach_and_exec() {
    let rig = Rig::start().await;
    let run = "script -qec 'docker run -it --name x debian cat' /dev/null";
    let done = talk(
        &rig,
        run,
        &[("ready\r\n", "hi"), ("hi", "\u{4}")],
        End::Wait,
    )
    .await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let run = "script -qec 'docker run -it --name y debian cat' /dev/null";
    talk(
        &rig,
        run,
        &[("ready\r\n", "yo"), ("yo", "\u{10}\u{11}")],
        End::Wait,
    )
    .await;
    assert!(rig.fake.find("y").unwrap().running());
    let attach = "script -qec 'docker attach --detach-keys=ctrl-e y' /dev/null";
    let fake = Arc::clone(&rig.fake);
    let driver = tokio::spawn(async move {
        fake.until_observers(1).await;
        fake.find("y")
            .unwrap()
            .write(OutputStream::Stdout, b"here\r\n")
            .await;
    });
    let done = talk(
        &rig,
        attach,
        &[("here\r\n", "again"), ("again", "\u{5}")],
        End::Wait,
    )
    .await;
    driver.await.unwrap();
    assert_eq!(done.code, Some(1), "{done:?}");
    let exec = "script -qec 'stty rows 33 cols 99; docker exec -it y size' /dev/null";
    let done = talk(&rig, exec, &[], End::Wait).await;
    assert!(done.out.contains("height: 33, width: 99"), "{done:?}");
    rig.stop().await;
}

#[tokio::test]
async fn exec_gives_outputs_and_codes() {
    let rig = rig_with_web(&["sleep"]).await;
    let done = sh(&rig, "docker exec web both").await;
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (Some(3), "to out\n", "to err\n")
    );
    let done = sh(&rig, "echo in | docker exec -i web cat").await;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "in\n"),
        "{done:?}"
    );
    let done = sh(&rig, "docker exec web nope").await;
    assert_eq!(done.code, Some(127), "{done:?}");
    assert_eq!(
        done.out,
        "OCI runtime exec failed: exec: \"nope\": executable file not found in $PATH\r\n"
    );
    rig.stop().await;
}

#[tokio::test]
async fn attach_without_terminal_follows_to_the_end() {
    let rig = rig_with_web(&["lines"]).await;
    let fake = Arc::clone(&rig.fake);
    let driver = tokio::spawn(async move {
        fake.until_observers(1).await;
        fake.tick("web", 2);
    });
    let reader = "{ read -r a; read -r b; echo $a, $b; docker kill web; }";
    let line = format!("docker attach --no-stdin web | {reader}; echo ${{PIPESTATUS[0]}}");
    let done = sh(&rig, &line).await;
    driver.await.unwrap();
    assert_eq!(done.out, "line 1, line 2\nweb\n137\n", "{done:?}");
    rig.stop().await;
}

#[tokio::test]
async fn logs_follow_and_events_arrive() {
    let rig = rig_with_web(&["lines"]).await;
    rig.fake.tick("web", 1);
    let fake = Arc::clone(&rig.fake);
    let driver = tokio::spawn(async move {
        fake.until_observers(1).await;
        fake.tick("web", 3);
    });
    let done = talk(&rig, "docker logs -f web", &[("line 3\n", "")], End::Kill).await;
    driver.await.unwrap();
    assert_eq!(done.out, "line 1\nline 2\nline 3\n", "{done:?}");
    rig.fake.until_observers(0).await;
    let fake = Arc::clone(&rig.fake);
    let driver = tokio::spawn(async move {
        fake.until_observers(1).await;
        fake.emit("start", &fake.find("web").unwrap());
    });
    let events = "docker events --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'";
    let done = talk(&rig, events, &[("\n", "")], End::Kill).await;
    driver.await.unwrap();
    assert_eq!(done.out, "container start web\n", "{done:?}");
    rig.fake.until_observers(0).await;
    rig.stop().await;
}

#[tokio::test]
async fn pull_load_and_import_show_their_progress() {
    let rig = Rig::start().await;
    *rig.fake.pull.lock().unwrap() = vec![
        Fake::message("Pulling from library/busybox"),
        Fake::message("Digest: sha256:x"),
    ];
    let done = sh(&rig, "docker pull busybox").await;
    assert_eq!(
        (done.code, done.out.as_str()),
        (
            Some(0),
            "Using default tag: latest\nPulling from library/busybox\nDigest: sha256:x\ndocker.io/library/busybox:latest\n"
        ),
        "{done:?}"
    );
    let done = sh(&rig, "head -c 1000000 /dev/zero | docker load").await;
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "Loaded image: x"),
        "{done:?}"
    );
    assert_eq!(*rig.fake.uploaded.lock().unwrap(), Some(Ok(1_000_000)));
    let done = sh(
        &rig,
        "echo tar | docker import -c 'CMD x' - repo:tag; docker rmi debian:latest",
    )
    .await;
    assert_eq!(
        done.out, "repo:tag [\"CMD x\"]Untagged: debian:latest\n",
        "{done:?}"
    );
    rig.stop().await;
}
