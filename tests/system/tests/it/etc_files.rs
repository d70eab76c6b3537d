//! `/etc/hosts`, `/etc/resolv.conf` and the host name: what the engine makes of them while a container runs, what it leaves
//! to the user, and what containers on one network share.

use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
use havre_testkit::http::Body;

use crate::support::{assert_fails, inspect, networked_engine, text};

const SLEEPER: [&str; 3] = ["busybox", "sleep", "600"];

fn run(engine: &Engine, flags: &[&str]) -> Result<()> {
    engine.docker(&[&["run", "-d"], flags, &SLEEPER].concat())?;
    Ok(())
}

fn exec(engine: &Engine, name: &str, script: &str) -> Result<String> {
    engine.docker(&["exec", name, "sh", "-c", script])
}

/// A container's address on a network.
fn address(engine: &Engine, name: &str, network: &str) -> Result<String> {
    let template = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
    inspect(engine, name, &template)
}

#[test]
fn a_users_lines_in_hosts_survive_every_change_of_networks() -> Result<()> {
    let mut engine = networked_engine()?;
    for name in ["lan", "wan"] {
        engine.docker(&["network", "create", name])?;
    }
    run(
        &engine,
        &["--name", "box", "--network", "lan", "-h", "crate"],
    )?;
    let lan = address(&engine, "box", "lan")?;
    let mine = format!("# by hand\n\n10.9.9.9 printer\n{lan}\tcrate also\n10.9.9.8\tscanner");
    exec(
        &engine,
        "box",
        &format!(
            "sed '/ip6-allnodes/d' /etc/hosts > /h; cat /h > /etc/hosts; printf '{mine}' >> /etc/hosts"
        ),
    )?;
    let read = |engine: &Engine| exec(engine, "box", "stat -c %i /etc/hosts; cat /etc/hosts");
    let before = read(&engine)?;
    engine.docker(&["network", "connect", "wan", "box"])?;
    let wan = address(&engine, "box", "wan")?;
    let both = read(&engine)?;
    ensure!(
        both == format!("{before}\n{wan}\tcrate"),
        "{before}\n{both}"
    );
    engine.kill9()?;
    engine.restart()?;
    engine.docker(&["rename", "box", "chest"])?;
    engine.docker(&["rename", "chest", "box"])?;
    ensure!(read(&engine)? == both);
    engine.docker(&["network", "disconnect", "lan", "box"])?;
    let own = format!("{lan}\tcrate\n");
    ensure!(both.contains(&own), "{both}");
    let after = read(&engine)?;
    ensure!(after == both.replacen(&own, "", 1), "{both}\n{after}");
    // A start makes it anew.
    engine.docker(&["restart", "-t", "0", "box"])?;
    let fresh = read(&engine)?;
    let wan = address(&engine, "box", "wan")?;
    ensure!(
        !fresh.contains("printer") && fresh.contains(&format!("{wan}\tcrate")),
        "{fresh}"
    );
    engine.docker(&["rm", "-f", "box"])?;
    Ok(())
}

#[test]
fn an_edited_resolv_conf_is_kept() -> Result<()> {
    let mut engine = networked_engine()?;
    engine.docker(&["network", "create", "lan"])?;
    for name in ["plain", "edited", "early"] {
        run(&engine, &["--name", name, "--dns", "10.9.9.9"])?;
    }
    let read = |engine: &Engine, name: &str| exec(engine, name, "cat /etc/resolv.conf");
    ensure!(read(&engine, "plain")?.contains("nameserver 10.9.9.9\n"));
    for name in ["edited", "early"] {
        exec(
            &engine,
            name,
            "echo 'options timeout:1' >> /etc/resolv.conf",
        )?;
    }
    let edited = read(&engine, "edited")?;
    engine.docker(&["network", "connect", "lan", "early"])?;
    ensure!(read(&engine, "early")? == edited);
    // The next engine knows what the former wrote.
    engine.kill9()?;
    engine.restart()?;
    for name in ["plain", "edited"] {
        engine.docker(&["network", "connect", "lan", name])?;
    }
    ensure!(read(&engine, "edited")? == edited);
    let made = read(&engine, "plain")?;
    ensure!(
        made.contains("nameserver 127.0.0.11\n") && made.contains("# ExtServers: [10.9.9.9]\n"),
        "{made}"
    );
    ensure!(
        exec(
            &engine,
            "plain",
            "ping -c 1 -W 5 early > /dev/null && echo found"
        )? == "found"
    );
    for change in ["disconnect", "connect"] {
        engine.docker(&["network", change, "lan", "edited"])?;
        ensure!(read(&engine, "edited")? == edited, "{change}");
    }
    engine.docker(&["restart", "-t", "0", "edited"])?;
    ensure!(read(&engine, "edited")?.contains("nameserver 127.0.0.11\n"));
    engine.docker(&["rm", "-f", "plain", "edited", "early"])?;
    Ok(())
}

/// R31: a container makes its own files as long as it likes; the engine does not read them to the end.
#[test]
fn r31_files_without_end_cost_the_engine_nothing() -> Result<()> {
    let engine = networked_engine()?;
    engine.docker(&["network", "create", "lan"])?;
    run(&engine, &["--name", "box"])?;
    let grown = exec(
        &engine,
        "box",
        "truncate -s 100G /etc/hosts /etc/resolv.conf; stat -c %s /etc/hosts /etc/resolv.conf",
    )?;
    engine.docker(&["network", "connect", "lan", "box"])?;
    engine.docker(&["network", "disconnect", "bridge", "box"])?;
    let sizes = exec(&engine, "box", "stat -c %s /etc/hosts /etc/resolv.conf")?;
    ensure!(
        sizes == grown && sizes.starts_with("107374182400"),
        "{sizes}"
    );
    // A start makes them anew.
    engine.docker(&["restart", "-t", "0", "box"])?;
    let lines = exec(
        &engine,
        "box",
        "wc -l < /etc/hosts; grep nameserver /etc/resolv.conf",
    )?;
    ensure!(lines == "7\nnameserver 127.0.0.11", "{lines}");
    engine.docker(&["rm", "-f", "box"])?;
    Ok(())
}

/// What a program sees of who and where it is.
const SEEN: &str = "hostname; echo $HOSTNAME; cat /proc/sys/kernel/domainname /etc/hostname /etc/hosts /etc/resolv.conf; \
                    ping -c 1 -W 5 db > /dev/null && echo found";

const PATHS: &str = "{{.HostnamePath}} {{.HostsPath}} {{.ResolvConfPath}} {{.Config.Hostname}} {{.Config.Domainname}}";

#[test]
fn a_container_on_anothers_network_has_its_names() -> Result<()> {
    let mut engine = networked_engine()?;
    for name in ["lan", "wan"] {
        engine.docker(&["network", "create", name])?;
    }
    run(&engine, &["--name", "db", "--network", "lan"])?;
    let named = ["-h", "shop", "--domainname", "example.org"];
    run(
        &engine,
        &[&["--name", "web", "--network", "lan"], &named[..]].concat(),
    )?;
    run(&engine, &["--name", "one", "--network", "container:web"])?;
    // A chain: its end counts.
    run(&engine, &["--name", "two", "--network", "container:one"])?;
    let all_see_the_same = |engine: &Engine| -> Result<String> {
        let seen = exec(engine, "web", SEEN)?;
        ensure!(
            seen.starts_with("shop\nshop\nexample.org\nshop\n"),
            "{seen}"
        );
        ensure!(
            seen.contains("nameserver 127.0.0.11") && seen.ends_with("found"),
            "{seen}"
        );
        let paths = inspect(engine, "web", PATHS)?;
        for name in ["one", "two"] {
            let other = exec(engine, name, SEEN)?;
            ensure!(other == seen, "{name}: {other}\n{seen}");
            let other = inspect(engine, name, PATHS)?;
            ensure!(other == paths, "{name}: {other}\n{paths}");
        }
        Ok(seen)
    };
    all_see_the_same(&engine)?;
    engine.docker(&["network", "connect", "wan", "web"])?;
    let wan = address(&engine, "web", "wan")?;
    let seen = all_see_the_same(&engine)?;
    ensure!(
        seen.contains(&format!("{wan}\tshop.example.org shop\n")),
        "{seen}"
    );
    engine.kill9()?;
    engine.restart()?;
    all_see_the_same(&engine)?;
    engine.docker(&["restart", "-t", "0", "two"])?;
    engine.docker(&["restart", "-t", "0", "one"])?;
    all_see_the_same(&engine)?;
    // Nothing of its own was written.
    let id = inspect(&engine, "one", "{{.Id}}")?;
    let own = engine.data_root().join("containers").join(id);
    for name in ["hosts", "hostname", "resolv.conf"] {
        ensure!(!own.join(name).exists(), "{name}");
    }
    // The network is there as long as somebody is on it; but who stopped gives it to nobody.
    engine.docker(&["stop", "-t", "0", "two"])?;
    engine.docker(&["stop", "-t", "0", "web"])?;
    ensure!(exec(&engine, "one", "hostname")? == "shop");
    engine.docker(&["start", "two"])?;
    ensure!(exec(&engine, "two", "hostname")? == "shop");
    let copied = engine.docker_output(&["cp", "two:/etc/hostname", "-"])?;
    ensure!(
        text(&copied.stdout).contains("shop\n"),
        "{}",
        text(&copied.stderr)
    );
    let late = engine.docker_output(&["run", "--network", "container:web", "busybox", "true"])?;
    assert_fails(
        &late,
        125,
        "cannot join network namespace of a non running container: container web is exited",
    );
    engine.docker(&["rm", "-f", "two", "one", "web", "db"])?;
    Ok(())
}

#[test]
fn who_joins_another_network_says_nothing_of_its_own() -> Result<()> {
    let engine = networked_engine()?;
    run(&engine, &["--name", "web"])?;
    let create = |network: &str, flags: &str| {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let words = [&["create", "--network", network], &flags[..], &["busybox"]].concat();
        engine.docker_output(&words)
    };
    let joined = [
        ("--hostname x", "hostname and the network mode"),
        (
            "--link web:w",
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        ("--dns 10.9.9.9", "dns and the network mode"),
        (
            "--add-host a:10.9.9.9",
            "custom host-to-IP mapping and the network mode",
        ),
        (
            "-p 80:80",
            "port publishing and the container type network mode",
        ),
        ("-P", "port publishing and the container type network mode"),
        (
            "--expose 80",
            "port exposing and the container type network mode",
        ),
    ];
    for (flags, message) in joined {
        let refused = create("container:web", flags)?;
        assert_fails(&refused, 1, &format!("conflicting options: {message}"));
    }
    // Newer clients say it of a network, and there is none to say it of.
    let body = r#"{"Image":"busybox","MacAddress":"02:00:00:00:00:44","HostConfig":{"NetworkMode":"container:web"}}"#;
    let body = Body::Bytes(body.as_bytes(), "application/json");
    let refused = engine.api("POST", "/v1.43/containers/create", &body)?;
    let said = text(&refused.body);
    let message = "conflicting options: mac-address and the network mode";
    ensure!(refused.status == 400 && said.contains(message), "{said}");
    assert_fails(
        &create("host", "--link web:w")?,
        1,
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    );
    // As in Docker, who is joined is looked at when it starts.
    for (name, mode, message) in [
        ("me", "container:me", "cannot join own network namespace"),
        (
            "lost",
            "container:nope",
            "joining network namespace of container: No such container: nope",
        ),
    ] {
        let made = create(mode, &format!("--name {name}"))?;
        ensure!(made.status.success(), "{}", text(&made.stderr));
        assert_fails(&engine.docker_output(&["start", name])?, 1, message);
    }
    // Two that join each other: neither ever starts, nor does who joins them.
    for (name, mode) in [
        ("left", "container:right"),
        ("right", "container:left"),
        ("third", "container:left"),
    ] {
        let made = create(mode, &format!("--name {name}"))?;
        ensure!(made.status.success(), "{}", text(&made.stderr));
    }
    for (name, message) in [
        ("left", "cannot join own network namespace"),
        ("third", "more than 32 containers join each other"),
    ] {
        assert_fails(&engine.docker_output(&["start", name])?, 1, message);
    }
    engine.docker(&["rm", "-f", "web", "me", "lost", "left", "right", "third"])?;
    Ok(())
}

#[test]
fn on_the_hosts_network_the_files_are_the_hosts() -> Result<()> {
    let engine = networked_engine()?;
    let host = fs_err::read_to_string("/etc/hosts").unwrap_or_default();
    let on_host = |flags: &[&str], script: &str| -> Result<String> {
        let head = ["run", "--rm", "--network", "host"];
        engine.docker(&[&head[..], flags, &["busybox", "sh", "-c", script]].concat())
    };
    ensure!(on_host(&[], "cat /etc/hosts")? == host.trim_end());
    let flags = [
        "--dns",
        "127.0.0.9",
        "--dns-opt",
        "ndots:3",
        "--dns-search",
        "a.example",
    ];
    let made = on_host(&flags, "cat /etc/resolv.conf")?;
    let lines = "nameserver 127.0.0.9\nsearch a.example\noptions ndots:3\n";
    ensure!(made.contains(lines), "{made}");
    // Who adds a name may replace one of the host's, so these are not there.
    let added = on_host(&["--add-host", "other:10.9.9.9"], "cat /etc/hosts")?;
    ensure!(
        added.starts_with("127.0.0.1\tlocalhost\n") && added.ends_with("10.9.9.9\tother"),
        "{added}"
    );
    let ports = ["create", "--network", "host", "-p", "80:80", "busybox"];
    let warned = engine.docker_output(&ports)?;
    ensure!(warned.status.success(), "{}", text(&warned.stderr));
    let warning = "WARNING: Published ports are discarded when using host network mode";
    ensure!(
        text(&warned.stderr).contains(warning),
        "{}",
        text(&warned.stderr)
    );
    let quiet = engine.docker_output(&["create", "--network", "host", "busybox"])?;
    ensure!(text(&quiet.stderr).is_empty(), "{}", text(&quiet.stderr));
    // Without a network nobody's loopback address is of use.
    let alone = [
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "cat",
        "/etc/resolv.conf",
    ];
    let alone = engine.docker(&alone)?;
    let server = alone.lines().find(|line| line.starts_with("nameserver"));
    let server = server.context("a name server")?;
    ensure!(!server.contains(" 127."), "{alone}");
    ensure!(alone.contains("(legacy)"), "{alone}");
    Ok(())
}
