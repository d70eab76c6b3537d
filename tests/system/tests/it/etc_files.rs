//! `/etc/hosts`, `/etc/resolv.conf` and the host name: what the engine makes of them while a container runs, what it leaves
//! to the user, and what containers on one network share.

use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;

use crate::support::{inspect, networked_engine, text};

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
