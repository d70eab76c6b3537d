//! R22, R29, R30, M13, M14: what the engine makes of an image's words, and who reaches its own files.

use super::fixture::{image_of, probe, sleeping_box};
use crate::support::{engine, load_busybox, stdout_of, text};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::command::{command, run};
use havre_testkit::{Engine, EngineOptions};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A program of the host as a user without rights. By way of a shell: setpriv itself still has its
/// capabilities when it executes something.
fn as_nobody(words: &[&str]) -> Result<std::process::Output> {
    let identity = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let shell = ["sh", "-c", "exec \"$0\" \"$@\""];
    let mut setpriv = command("setpriv");
    Ok(setpriv.args(identity).args(shell).args(words).output()?)
}

/// The specification that a container was started with.
fn specification(engine: &Engine, name: &str) -> Result<Value> {
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", name])?;
    let path = engine
        .exec_root()
        .join("containers")
        .join(&id)
        .join("config.json");
    let text = fs_err::read_to_string(path)?
        .replace(&id, "ID")
        .replace(&id[..12], "SHORT");
    let mut document: Value = serde_json::from_str(&text)?;
    // Sets have no order.
    let sets = document
        .pointer_mut("/process/capabilities")
        .and_then(Value::as_object_mut);
    for set in sets
        .into_iter()
        .flat_map(|sets| sets.values_mut())
        .filter_map(Value::as_array_mut)
    {
        set.sort_by_key(Value::to_string);
    }
    Ok(document)
}

/// R22: labels of an image are labels, whatever namespace they claim.
#[test]
fn r22_labels_of_an_image_control_nothing() -> Result<()> {
    let engine = engine()?;
    let reserved = [
        "io.kubernetes.cri.sandbox-id",
        "io.containerd.runc.v2.group",
        "containerd.io/restart.loguri",
        "org.systemd.property.DeviceAllow",
        "run.oci.keep_original_groups",
        "run.oci.hooks.stderr",
        "run.oci.seccomp_fail_unknown_syscall",
        "org.opencontainers.runc.debug",
        "io.podman.annotations.privileged",
        "io.kubernetes.cri-o.Devices",
        "com.docker.network.bridge",
        "havre.privileged",
        "dev.havre.annotation",
    ];
    let changes: Vec<String> = reserved
        .iter()
        .map(|key| format!("LABEL {key}=\"/sbin/x\""))
        .collect();
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    let run_of = |image: &str| -> Result<Value> {
        engine.docker(&[
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            image,
            image,
            "sleep",
            "600",
        ])?;
        specification(&engine, image)
    };
    image_of(&engine, "plain", &[], |_root| Ok(()))?;
    image_of(&engine, "labelled", &changes, |_root| Ok(()))?;
    let (plain, labelled) = (run_of("plain")?, run_of("labelled")?);
    ensure!(plain == labelled, "{:?}", labelled["annotations"]);
    let seen = engine.docker(&[
        "inspect",
        "-f",
        "{{len .Config.Labels}} {{.HostConfig.Privileged}} {{json .HostConfig.Annotations}}",
        "labelled",
    ])?;
    assert!(
        seen.starts_with(&format!("{} false ", reserved.len())),
        "{seen}"
    );
    assert!(!seen.contains("/sbin/x"), "{seen}");
    // The twin: an annotation of the request arrives.
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--annotation",
        "own=word",
        "--name",
        "asked",
        "plain",
        "sleep",
        "600",
    ])?;
    assert_eq!(
        specification(&engine, "asked")?["annotations"]["own"],
        "word"
    );
    Ok(())
}

fn sockets_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = run(command("find").arg(folder).args(["-type", "s"]))?;
    Ok(text(&found.stdout).lines().map(PathBuf::from).collect())
}

/// From the socket's own directory, for the whole path can be longer than an address.
const CONNECT: &str = "import os, socket, sys
for path in sys.argv[1:]:
    try: os.chdir(os.path.dirname(path)); socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(os.path.basename(path)); print('connected', path)
    except OSError as error: print('refused')";

/// R29: nobody but root of the host connects to a socket of the engine or a shim.
#[test]
fn r29_sockets_are_closed_to_others() -> Result<()> {
    let engine = engine()?;
    sleeping_box(&engine, &[])?;
    let sockets = sockets_below(engine.directory())?;
    ensure!(
        sockets.len() >= 3,
        "the sockets of engine and shim are not all seen: {sockets:?}"
    );
    let names: Vec<&str> = sockets.iter().filter_map(|path| path.to_str()).collect();
    let words = [&["/usr/bin/python3", "-I", "-S", "-c", CONNECT][..], &names].concat();
    let said = text(&as_nobody(&words)?.stdout);
    assert_eq!(said.matches("refused").count(), sockets.len(), "{said}");
    // Nor a container on the host's network, by path or by an abstract name.
    let script = format!(
        "import sys\nsys.argv[1:] = {names:?}\n{CONNECT}\nprint([line for line in open('/proc/net/unix') if '@' in line and ('havre' in line or 'containerd' in line)])"
    );
    let script = script.as_str();
    let words = [
        "run",
        "--rm",
        "--network",
        "host",
        "-v",
        "/usr:/usr:ro",
        "-v",
        "/lib:/lib:ro",
        "-v",
        "/lib64:/lib64:ro",
        "busybox",
        "/usr/bin/python3",
        "-I",
        "-S",
        "-c",
        script,
    ];
    let said = engine.docker(&words)?;
    assert_eq!(said.matches("refused").count(), sockets.len(), "{said}");
    assert!(said.ends_with("[]"), "{said}");
    // The twin: root of the host connects to each.
    let own = command("/usr/bin/python3")
        .args(["-I", "-S", "-c", CONNECT])
        .args(&names)
        .output()?;
    assert_eq!(
        text(&own.stdout).matches("connected").count(),
        sockets.len(),
        "{own:?}"
    );
    Ok(())
}

/// R30, L08: other users of the host enter none of the engine's directories, start no set-user-id program
/// of an image, and read no log.
#[test]
fn r30_l08_directories_are_closed_to_others() -> Result<()> {
    let engine = engine()?;
    image_of(&engine, "setuid", &[], |root| {
        let path = root.join("suid");
        fs_err::copy("/usr/bin/id", &path)?;
        Ok(fs_err::set_permissions(
            &path,
            std::fs::Permissions::from_mode(0o4755),
        )?)
    })?;
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "setuid",
        "sh",
        "-c",
        "echo logged; exec sleep 600",
    ])?;
    for folder in [engine.data_root(), engine.exec_root()] {
        let path = folder.to_string_lossy().into_owned();
        let out = as_nobody(&["find", &path, "-mindepth", "1"])?;
        assert_eq!(text(&out.stdout), "", "{path}");
        let owners = run(command("find").arg(&folder).args([
            "-maxdepth",
            "2",
            "-perm",
            "/022",
            "-not",
            "-type",
            "l",
        ]))?;
        assert_eq!(text(&owners.stdout), "", "writable for others");
    }
    // Through the process of the container neither.
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", "box"])?;
    let out = as_nobody(&[&format!("/proc/{pid}/root/suid"), "-u"])?;
    ensure!(
        !out.status.success() || text(&out.stdout).trim() == "65534",
        "{out:?}"
    );
    let found = run(command("find")
        .arg(engine.directory())
        .args(["-name", "suid", "-perm", "-4000"]))?;
    let found = text(&found.stdout);
    let path = found
        .lines()
        .next()
        .context("the program of the image is not in the data directory")?;
    ensure!(
        !as_nobody(&[path, "-u"])?.status.success(),
        "{path} was executed"
    );
    let log = engine.docker(&["inspect", "-f", "{{.LogPath}}", "box"])?;
    let mode = fs_err::metadata(&log)?.permissions().mode() & 0o777;
    assert_eq!(mode & 0o137, 0, "{log}: {mode:o}");
    // The twin: root may.
    let out = command(path).arg("-u").output()?;
    assert_eq!(text(&out.stdout).trim(), "0");
    Ok(())
}

/// M13: device nodes that come with an image cannot be opened, but those of default devices.
#[test]
fn m13_device_nodes_of_an_image() -> Result<()> {
    let engine = engine()?;
    let nodes = [
        ("disk", FileType::BlockDevice, 8, 0),
        ("loop", FileType::CharacterDevice, 10, 237),
        ("zero", FileType::CharacterDevice, 1, 5),
    ];
    image_of(&engine, "nodes", &[], |root| {
        for (name, kind, major, minor) in nodes {
            mknodat(
                CWD,
                root.join(name),
                kind,
                Mode::from(0o666),
                makedev(major, minor),
            )?;
        }
        Ok(())
    })?;
    let script = "for f in disk loop zero; do test -e /$f || echo $f is missing; (true </$f) 2>/dev/null && echo $f; done; true";
    assert_eq!(stdout_of(&engine, &["nodes", "sh", "-c", script])?, "zero");
    let open = stdout_of(&engine, &["--privileged", "nodes", "sh", "-c", script])?;
    assert!(open.contains("loop"), "{open}");
    Ok(())
}

/// M14: a data directory whose name has the characters of mount options works, or says that it does not.
#[test]
fn m14_names_are_no_options() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let plain = Engine::start()?.docker(&["info", "--format", "{{.Driver}}"])?;
    for name in [
        "a,b",
        "a:b",
        "a b",
        "a\\b",
        "a,upperdir=x:ro",
        "suid,dev\nexec",
    ] {
        let engine = Engine::start_with(EngineOptions {
            data_name: name.to_owned(),
            ..EngineOptions::default()
        })?;
        load_busybox(&engine)?;
        // Without escapes overlayfs could not be mounted there, and whole copies would hide that.
        let driver = engine.docker(&["info", "--format", "{{.Driver}}"])?;
        assert_eq!(driver, plain, "{name:?}");
        let place = tempfile::Builder::new()
            .prefix(name.lines().next().unwrap_or_default())
            .tempdir()?;
        fs_err::write(place.path().join("file"), "content")?;
        let mount = format!(
            "{{\"Type\":\"bind\",\"Source\":{:?},\"Target\":\"/in,side\",\"ReadOnly\":true}}",
            place.path().to_string_lossy()
        );
        let body = format!(
            "{{\"Image\":\"busybox\",\"Cmd\":[\"sleep\",\"600\"],\"HostConfig\":{{\"NetworkMode\":\"none\",\"Mounts\":[{mount}]}}}}"
        );
        let body = havre_testkit::http::Body::Bytes(body.as_bytes(), "application/json");
        let made = engine.api("POST", "/containers/create?name=box", &body)?;
        ensure!(made.status == 201, "{name:?}: {}", text(&made.body));
        engine.docker(&["start", "box"])?;
        let seen = engine.docker(&["exec", "box", "sh", "-c", "cat '/in,side/file'; touch /x && ls /x; (touch '/in,side/y') 2>/dev/null && echo writable; grep -c ' / / ro' /proc/self/mountinfo"]);
        // The last command finds nothing, which is its failure.
        let seen = match seen {
            Ok(seen) => seen,
            Err(_grep) => engine.docker(&["exec", "box", "sh", "-c", "cat '/in,side/file'; touch /x && ls /x; (touch '/in,side/y') 2>/dev/null && echo writable; true"])?,
        };
        assert_eq!(seen, "content/x", "{name:?}");
    }
    Ok(())
}

/// M07: no text of a request makes a second line in a file that the engine writes.
#[test]
fn m07_one_line_each() -> Result<()> {
    let engine = engine()?;
    let place = |separator: &str| {
        let evil = format!("a{separator}10.9.9.9 evil");
        vec![
            serde_json::json!({ "Image": "busybox", "Hostname": evil, "HostConfig": { "NetworkMode": "none" } }),
            serde_json::json!({ "Image": "busybox", "Domainname": evil, "HostConfig": { "NetworkMode": "none" } }),
            serde_json::json!({ "Image": "busybox", "User": evil, "HostConfig": { "NetworkMode": "none" } }),
            serde_json::json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none", "ExtraHosts": [format!("{evil}:10.0.0.1")] } }),
            serde_json::json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none", "Dns": [evil] } }),
            serde_json::json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none", "DnsSearch": [evil] } }),
            serde_json::json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "none", "DnsOptions": [evil] } }),
        ]
    };
    for separator in ["\n", "\r", "\r\n", "\0", "\u{b}", "\u{85}", "\u{2028}"] {
        for body in place(separator) {
            let bytes = body.to_string();
            let answer = engine.api(
                "POST",
                "/containers/create",
                &havre_testkit::http::Body::Bytes(bytes.as_bytes(), "application/json"),
            )?;
            if answer.status == 400 {
                continue;
            }
            ensure!(answer.status == 201, "{body}: {}", text(&answer.body));
            let made: Value = serde_json::from_slice(&answer.body)?;
            let id = made["Id"].as_str().context("no id")?;
            // The files are written by then, whether it starts or not.
            engine.api(
                "POST",
                &format!("/containers/{id}/start"),
                &havre_testkit::http::Body::Empty,
            )?;
            let folder = engine.data_root().join("containers").join(id);
            for name in ["hosts", "hostname", "resolv.conf"] {
                let Ok(written) = fs_err::read_to_string(folder.join(name)) else {
                    continue;
                };
                let forged = written
                    .split(['\n', '\r', '\u{b}', '\u{85}', '\u{2028}'])
                    .any(|line| line.trim_start().starts_with("10.9.9.9"));
                ensure!(!forged, "{body}: {written:?}");
            }
        }
    }
    // The twin.
    let flags = [
        "--hostname",
        "inside",
        "--add-host",
        "other:10.0.0.1",
        "--dns-search",
        "example.org",
    ];
    let seen = stdout_of(
        &engine,
        &[
            &flags[..],
            &[
                "busybox",
                "sh",
                "-c",
                "grep other /etc/hosts; grep ^search /etc/resolv.conf; hostname",
            ],
        ]
        .concat(),
    )?;
    assert_eq!(
        seen.split_whitespace().collect::<Vec<_>>(),
        ["10.0.0.1", "other", "search", "example.org", "inside"]
    );
    assert_eq!(
        probe(
            &engine,
            &["-e", "A=one\ntwo"],
            "import os; print(os.environ['A'])"
        )?,
        "one\ntwo"
    );
    Ok(())
}
