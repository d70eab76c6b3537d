//! Attach, logs, exec, terminals.

use bytes::Bytes;
use havre_api_traits::{
    AttachOptions, AttachSession, ExecStart, Input, LogOptions, OutputStream, TerminalSize,
};
use havre_engine_types::{ContainerConfig, ExecCreateRequest, HostConfig};
use havre_types::ErrorKind;

use crate::fixture::{Fixture, IMAGE, LIMIT};

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|w| (*w).to_owned()).collect())
}

/// Everything of a session, by stream.
async fn read(session: &mut AttachSession) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(piece) = tokio::time::timeout(LIMIT, session.output.recv())
        .await
        .unwrap()
    {
        match piece.stream {
            OutputStream::Stdout => out.extend(piece.data),
            OutputStream::Stderr => err.extend(piece.data),
        }
    }
    (
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

const ALL: AttachOptions = AttachOptions {
    stdin: true,
    stdout: true,
    stderr: true,
    logs: false,
    stream: true,
};

#[tokio::test(flavor = "multi_thread")]
async fn attached_before_the_start_nothing_is_lost() {
    let f = Fixture::new().await;
    let config = ContainerConfig {
        image: IMAGE.to_owned(),
        cmd: words(&["sh", "-c", "echo first; cat; echo last >&2"]),
        open_stdin: true,
        stdin_once: true,
        ..ContainerConfig::default()
    };
    f.create_with("echo", config, HostConfig::default()).await;
    let mut session = f.containers.attach("echo", ALL).await.unwrap();
    f.containers.start("echo").await.unwrap();
    let input = session.input.take().unwrap();
    input
        .send(Input::Data(Bytes::from_static(b"middle\n")))
        .await
        .unwrap();
    input.send(Input::Close).await.unwrap();
    assert_eq!(
        read(&mut session).await,
        ("first\nmiddle\n".to_owned(), "last\n".to_owned())
    );
    assert_eq!(f.code("echo").await, 0);
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_size_that_is_set() {
    let f = Fixture::new().await;
    let config = ContainerConfig {
        image: IMAGE.to_owned(),
        cmd: words(&["sh", "-c", "read x; busybox stty size"]),
        open_stdin: true,
        tty: true,
        ..ContainerConfig::default()
    };
    f.create_with("tty", config, HostConfig::default()).await;
    let mut session = f.containers.attach("tty", ALL).await.unwrap();
    f.containers.start("tty").await.unwrap();
    f.containers
        .resize(
            "tty",
            TerminalSize {
                height: 40,
                width: 100,
            },
        )
        .await
        .unwrap();
    let input = session.input.take().unwrap();
    input
        .send(Input::Data(Bytes::from_static(b"go\n")))
        .await
        .unwrap();
    let (out, _) = read(&mut session).await;
    assert!(out.contains("40 100"), "{out:?}");
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_follow_until_the_end_and_tail_counts() {
    let f = Fixture::new().await;
    f.create(
        "log",
        &["sh", "-c", "seq 1 500; echo bad >&2"],
        HostConfig::default(),
    )
    .await;
    let all = LogOptions {
        stdout: true,
        stderr: true,
        follow: true,
        ..LogOptions::default()
    };
    f.containers.start("log").await.unwrap();
    let mut log = f.containers.logs("log", all).await.unwrap();
    let mut lines = Vec::new();
    while let Some(entry) = tokio::time::timeout(LIMIT, log.entries.recv())
        .await
        .unwrap()
    {
        lines.push(entry.unwrap().line);
    }
    assert_eq!(lines.len(), 501);
    f.code("log").await;
    let tail = LogOptions {
        stdout: true,
        stderr: false,
        tail: Some(3),
        ..LogOptions::default()
    };
    let mut log = f.containers.logs("log", tail).await.unwrap();
    let mut lines = Vec::new();
    while let Some(entry) = log.entries.recv().await {
        lines.push(String::from_utf8(entry.unwrap().line.to_vec()).unwrap());
    }
    assert_eq!(lines, ["499\n", "500\n"]);
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_runs_with_user_directory_and_exit_code() {
    let f = Fixture::new().await;
    f.create("host", &["sleep", "1000"], HostConfig::default())
        .await;
    let request = |list: &[&str]| ExecCreateRequest {
        cmd: words(list),
        attach_stdout: true,
        attach_stderr: true,
        user: "app".to_owned(),
        working_dir: "/tmp".to_owned(),
        env: words(&["A=b"]),
        ..ExecCreateRequest::default()
    };
    let stopped = f.execs.create("host", request(&["id"])).await;
    assert_eq!(stopped.unwrap_err().kind, ErrorKind::Conflict);
    f.containers.start("host").await.unwrap();

    let id = exec(
        &f,
        request(&["sh", "-c", "id -u; id -G; pwd; echo $A; exit 5"]),
    )
    .await;
    let mut session = f
        .execs
        .start_attached(&id, ExecStart::default())
        .await
        .unwrap();
    assert_eq!(read(&mut session).await.0, "1000\n1000 50\n/tmp\nb\n");
    let shown = f.execs.inspect(&id).await.unwrap();
    assert_eq!((shown.running, shown.exit_code), (false, Some(5)));

    let id = exec(&f, request(&["nope"])).await;
    let err = f
        .execs
        .start_attached(&id, ExecStart::default())
        .await
        .unwrap_err();
    assert!(
        err.message.contains("executable file not found"),
        "{}",
        err.message
    );
    let shown = f.execs.inspect(&id).await.unwrap();
    assert_eq!(shown.exit_code, Some(127));
    let twice = f
        .execs
        .start_attached(&id, ExecStart::default())
        .await
        .unwrap_err();
    assert_eq!(twice.kind, ErrorKind::Conflict);
    f.end().await;
}

async fn exec(f: &Fixture, request: ExecCreateRequest) -> String {
    f.execs.create("host", request).await.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_container_is_confined() {
    let f = Fixture::new().await;
    let script = "cat /proc/self/status; cat /proc/self/cgroup; cat /etc/hostname; id -G";
    let id = f
        .create("box", &["sh", "-c", script], HostConfig::default())
        .await;
    let mut session = f
        .containers
        .attach(
            "box",
            AttachOptions {
                stdin: false,
                ..ALL
            },
        )
        .await
        .unwrap();
    f.containers.start("box").await.unwrap();
    let (out, _) = read(&mut session).await;
    let value = |name: &str| {
        let line = out
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.trim().to_owned()
    };
    assert_eq!(value("Seccomp:"), "2");
    assert_eq!(value("CapBnd:"), "00000000a80425fb");
    assert_eq!(value("CapInh:"), "0000000000000000");
    assert_eq!(value("CapAmb:"), "0000000000000000");
    assert!(
        !out.contains("havre-it"),
        "the host's cgroup path is visible: {out}"
    );
    assert!(out.contains(&id[..12]));
    f.end().await;
}
