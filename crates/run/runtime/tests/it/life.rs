//! The life of a container: errors, hooks, identity, namespaces, end.

use fs_err as fs;
use serde_json::json;

use crate::harness::{Bundle, process};

#[test]
fn a_program_that_is_missing_is_named_when_the_container_is_made() {
    for (args, text) in [
        (
            json!(["nope"]),
            "exec: \"nope\": executable file not found in $PATH",
        ),
        (
            json!(["/nope"]),
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        (
            json!(["/etc/text"]),
            "exec: \"/etc/text\": permission denied",
        ),
        (
            json!(["/etc"]),
            "exec: \"/etc\": is a directory: permission denied",
        ),
    ] {
        let mut bundle = Bundle::new("");
        fs::write(bundle.rootfs().join("etc/text"), "x").unwrap();
        bundle.set("/process/args", args);
        assert_eq!(bundle.run().error(), text);
        assert!(!bundle.cgroup_left(), "the cgroup is left after: {text}");
    }
}

#[test]
fn a_program_of_a_wrong_format_fails_at_the_start() {
    let mut bundle = Bundle::new("");
    let path = bundle.rootfs().join("etc/odd");
    fs::write(&path, "\u{7f}ELF no").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/process/args", json!(["/etc/odd"]));
    // A process that another test has just forked may still hold the file open for writing.
    let error = (0..100)
        .map(|_| bundle.run().error().to_owned())
        .find(|error| !error.ends_with("text file busy"));
    assert_eq!(error.as_deref(), Some("exec /etc/odd: exec format error"));
}

#[test]
fn the_exit_status_is_the_programs() {
    assert_eq!(Bundle::new("exit 7").run().result, Ok(7));
    assert_eq!(
        Bundle::new("exec sleep 60")
            .run_with(&[process("true")], &|| {})
            .result,
        Ok(137)
    );
}

#[test]
fn hooks_run_in_order_and_a_failing_one_ends_the_container() {
    let mut bundle = Bundle::new("true");
    let log = bundle.path().join("log");
    let hook = |stage: &str| {
        let script = format!("cat > /dev/null; echo {stage} >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    bundle.set(
        "/hooks",
        json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"), "poststart": hook("poststart"),
            "poststop": hook("poststop"),
            "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /started"]}],
        }),
    );
    bundle.run().ok();
    let wanted = "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n";
    assert_eq!(fs::read_to_string(&log).unwrap(), wanted);
    let state = fs::read_to_string(bundle.rootfs().join("started")).unwrap();
    assert!(
        state.contains(&bundle.id) && state.contains("\"status\":\"created\""),
        "{state}"
    );

    let fail = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 1"]}]);
    for stage in ["prestart", "createRuntime", "createContainer"] {
        bundle.set("/hooks", json!({stage: fail}));
        let wanted = format!("{stage} hook `/bin/sh` failed: exit status 1: why");
        assert_eq!(bundle.run().error(), wanted);
        assert!(!bundle.cgroup_left());
    }
}

#[test]
fn a_user_namespace_maps_root_to_somebody_else() {
    let source = tempfile::TempDir::new().unwrap();
    let mut bundle = Bundle::new(
        "id -u; cat /proc/self/uid_map; stat -c %u /dev/null; echo x > /dev/null && echo ok; \
         ls /private; cat /proc/self/setgroups",
    );
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bundle.path(), open).unwrap();
    // Only root of the host may enter the source's parent: the runtime opens it.
    fs::create_dir(source.path().join("dir")).unwrap();
    fs::write(source.path().join("dir/seen"), "").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(source.path().join("dir"), open).unwrap();
    bundle.mount(
        "/private",
        "bind",
        source.path().join("dir").to_str().unwrap(),
        &["rbind", "ro"],
    );
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    bundle.set("/linux/uidMappings", map.clone());
    bundle.set("/linux/gidMappings", map);
    for name in ["proc", "sys", "dev", "etc", "tmp", ""] {
        let path = bundle.rootfs().join(name);
        std::os::unix::fs::chown(path, Some(100_000), Some(100_000)).unwrap();
    }
    let outcome = bundle.run();
    let text = outcome.ok();
    let words: Vec<_> = text.split_whitespace().collect();
    // The host's null device belongs to nobody that is mapped.
    assert_eq!(
        words,
        ["0", "0", "100000", "1000", "65534", "ok", "seen", "allow"],
        "{text}"
    );
}

#[test]
fn the_clocks_of_a_time_namespace_are_set() {
    let mut bundle = Bundle::new("cat /proc/uptime");
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.set(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1_000_000_000}}),
    );
    let outcome = bundle.run();
    let uptime: f64 = outcome
        .ok()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(uptime > 1e9, "{uptime}");
}

#[test]
fn limits_names_and_parameters_are_set() {
    let mut bundle = Bundle::new(
        "busybox hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward; \
         ulimit -n; umask; cat /proc/self/oom_score_adj; grep -c lo: /proc/net/dev",
    );
    bundle.set("/domainname", json!("example"));
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]),
    );
    bundle.set("/process/oomScoreAdj", json!(123));
    bundle.set("/process/user/umask", json!(0o077));
    let outcome = bundle.run();
    let lines: Vec<_> = outcome.ok().lines().collect();
    assert_eq!(lines, ["box", "example", "1", "77", "0077", "123", "1"]);
}

#[test]
fn a_terminal_that_nobody_takes_is_refused() {
    let mut bundle = Bundle::new("true");
    bundle.set("/process/terminal", json!(true));
    assert!(bundle.run().error().contains("takes no terminal"));
}

#[test]
fn a_user_other_than_root_can_open_its_own_output() {
    let mut bundle = Bundle::new("id -u; id -G; echo $HOME");
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 50, "additionalGids": [7]}),
    );
    bundle.set("/process/env", json!(["PATH=/bin"]));
    fs::write(
        bundle.rootfs().join("etc/passwd"),
        "me:x:1000:50::/home/me:/bin/sh\n",
    )
    .unwrap();
    assert_eq!(bundle.run().ok(), "1000\n50 7\n/home/me\n");
}
