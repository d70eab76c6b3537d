//! Containers on networks: addresses, names, published ports, as the docker command line makes and shows them. Each engine
//! has a network namespace of its own, which is the host of its containers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
use havre_testkit::command::command;
use havre_testkit::http::Body;

use crate::support::{assert_fails, inspect, networked_engine, text, until};

/// A web server that says who asks it.
const SERVER: &str = "mkdir -p /www/cgi-bin; \
    printf '#!/bin/sh\\necho; echo from $REMOTE_ADDR' > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; \
    exec httpd -f -p 80 -h /www";

fn serve(engine: &Engine, name: &str, flags: &[&str]) -> Result<()> {
    let head = [&["run", "-d", "--name", name][..], flags].concat();
    engine.docker(&[&head[..], &["busybox", "sh", "-c", SERVER]].concat())?;
    Ok(())
}

/// What the server at this address answers to a program of the engine's host; empty when nobody answers.
fn ask(engine: &Engine, address: &str) -> Result<String> {
    let asked = engine.namespace()?.run(|| -> std::io::Result<String> {
        let address = address.parse().map_err(std::io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    Ok(asked.unwrap_or_default())
}

/// Waits until the server answers.
fn answers(engine: &Engine, address: &str) -> Result<String> {
    until(&true, || Ok(ask(engine, address)?.contains("from ")))
        .with_context(|| format!("nobody answers at {address}"))?;
    ask(engine, address)
}

/// What a container does to ask it.
fn fetch_from(address: &str, port: u16) -> String {
    format!("printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port} | grep from")
}

fn exec(engine: &Engine, name: &str, script: &str) -> Result<String> {
    engine.docker(&["exec", name, "sh", "-c", script])
}

#[test]
fn the_default_bridge_connects_and_publishes() -> Result<()> {
    let engine = networked_engine()?;
    serve(
        &engine,
        "web",
        &["-p", "8080:80", "-p", "127.0.0.1:8081:80"],
    )?;
    let address = inspect(
        &engine,
        "web",
        "{{.NetworkSettings.Networks.bridge.IPAddress}}",
    )?;
    let gateway = inspect(
        &engine,
        "web",
        "{{.NetworkSettings.Networks.bridge.Gateway}}",
    )?;
    ensure!(address.starts_with("172.17.0."), "{address}");
    // From the host: by every address, IPv6's loopback among them; the client is who it is.
    for at in ["127.0.0.1:8080", "[::1]:8080", "127.0.0.1:8081"] {
        answers(&engine, at)?;
    }
    let seen = answers(&engine, &format!("{gateway}:8080"))?;
    ensure!(seen.contains("from ") && seen.contains(&gateway), "{seen}");
    // By the host's address from a neighbour, and from the container itself.
    let fetch = fetch_from(&gateway, 8080);
    let seen = engine.docker(&["run", "--rm", "busybox", "sh", "-c", &fetch])?;
    ensure!(
        seen.contains("172.17.0.") && !seen.contains(&gateway),
        "{seen}"
    );
    ensure!(exec(&engine, "web", &fetch)?.contains("from "));
    // What was published for the host's loopback address alone is not there for others.
    let fetch = fetch_from(&gateway, 8081);
    let refused = engine.docker_output(&["run", "--rm", "busybox", "sh", "-c", &fetch])?;
    ensure!(!refused.status.success());
    let shown = engine.docker(&["port", "web"])?;
    ensure!(
        shown == "80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:8081\n80/tcp -> [::]:8080",
        "{shown}"
    );
    // What only a relay reaches is told as that.
    let explained = engine.havre(&["port", "--explain", "web"])?;
    let relayed = explained
        .lines()
        .filter(|line| line.contains("[::]:8080") && line.contains("relayed by havre-net"));
    ensure!(relayed.count() == 3, "{explained}");
    let row = engine.docker(&["ps", "--format", "{{.Ports}}"])?;
    ensure!(
        row.contains("0.0.0.0:8080->80/tcp") && row.contains("127.0.0.1:8081->80/tcp"),
        "{row}"
    );
    let files = exec(&engine, "web", "cat /etc/hosts; ip route")?;
    let id = inspect(&engine, "web", "{{.Id}}")?;
    let own = format!("{address}\t{}", &id[..12]);
    ensure!(files.contains(&own), "{files}");
    ensure!(
        files.contains(&format!("default via {gateway} dev eth0")),
        "{files}"
    );
    for number in ["publish=80", "publish=80/tcp"] {
        let filter = format!("--filter={number}");
        ensure!(
            engine.docker(&["ps", "-q", &filter])?.len() == 12,
            "{number}"
        );
    }
    engine.docker(&["rm", "-f", "web"])?;
    Ok(())
}

#[test]
fn a_port_has_one_owner() -> Result<()> {
    let engine = networked_engine()?;
    serve(&engine, "first", &["-p", "8080:80"])?;
    let second = engine.docker_output(&[
        "run", "--name", "second", "-p", "8080:80", "busybox", "true",
    ])?;
    assert_fails(
        &second,
        125,
        "Bind for 0.0.0.0:8080 failed: port is already allocated",
    );
    // The host's own programs have theirs.
    let listener = engine
        .namespace()?
        .run(|| std::net::TcpListener::bind("0.0.0.0:9090"))??;
    let third =
        engine.docker_output(&["run", "--name", "third", "-p", "9090:80", "busybox", "true"])?;
    assert_fails(&third, 125, "address already in use");
    drop(listener);
    engine.docker(&["start", "third"])?;
    // Free again with the end of its owner, who takes it again.
    engine.docker(&["stop", "-t", "0", "first"])?;
    engine.docker(&["start", "second"])?;
    engine.docker(&["wait", "second"])?;
    engine.docker(&["start", "first"])?;
    answers(&engine, "127.0.0.1:8080")?;
    // Any port, and all exposed ones.
    engine.docker(&[
        "run", "-d", "--name", "any", "-P", "--expose", "80", "busybox", "sleep", "600",
    ])?;
    let port = engine.docker(&["port", "any", "80"])?;
    ensure!(port.starts_with("0.0.0.0:"), "{port}");
    engine.docker(&["rm", "-f", "first", "second", "third", "any"])?;
    Ok(())
}

#[test]
fn names_are_found_on_shared_networks_alone() -> Result<()> {
    let engine = networked_engine()?;
    engine.docker(&["network", "create", "front"])?;
    engine.docker(&["network", "create", "--internal", "back"])?;
    let sleeper = ["busybox", "sleep", "600"];
    let run = |flags: &[&str]| engine.docker(&[&["run", "-d"], flags, &sleeper].concat());
    run(&[
        "--name",
        "db",
        "--network",
        "back",
        "--network-alias",
        "data",
    ])?;
    run(&["--name", "app", "--network", "front"])?;
    run(&["--name", "web", "--network", "front"])?;
    assert_fails(
        &engine.docker_output(&["exec", "app", "nslookup", "db."])?,
        1,
        "",
    );
    engine.docker(&["network", "connect", "--alias", "service", "back", "app"])?;
    for (from, name) in [
        ("app", "db"),
        ("app", "data"),
        ("app", "web"),
        ("app", "web.front"),
        ("web", "app"),
        ("db", "app"),
        ("db", "service"),
    ] {
        let script = format!("ping -c 1 -W 5 {name} > /dev/null && echo found");
        ensure!(
            exec(&engine, from, &script)? == "found",
            "{name} from {from}"
        );
    }
    for (from, name) in [
        ("db", "web"),
        ("web", "db"),
        ("web", "data"),
        ("web", "service"),
    ] {
        let asked = engine.docker_output(&["exec", from, "nslookup", &format!("{name}.")])?;
        ensure!(
            !asked.status.success(),
            "{name} from {from}: {}",
            text(&asked.stdout)
        );
    }
    // Neither a name nor a packet leaves an internal network.
    let route = exec(&engine, "db", "ip route; cat /etc/resolv.conf")?;
    ensure!(
        !route.contains("default") && route.contains("nameserver 127.0.0.11"),
        "{route}"
    );
    engine.docker(&["network", "disconnect", "back", "app"])?;
    assert_fails(
        &engine.docker_output(&["exec", "app", "nslookup", "db."])?,
        1,
        "",
    );
    let used = engine.docker_output(&["network", "rm", "front"])?;
    assert_fails(&used, 1, "has active endpoints");
    engine.docker(&["rm", "-f", "db", "app", "web"])?;
    // What ended is off its networks before long.
    for name in ["front", "back"] {
        until(&true, || {
            Ok(engine
                .docker_output(&["network", "rm", name])?
                .status
                .success())
        })?;
    }
    Ok(())
}

#[test]
fn a_new_name_counts_at_once_and_the_old_one_no_more() -> Result<()> {
    let engine = networked_engine()?;
    engine.docker(&["network", "create", "lan"])?;
    for name in ["app", "web"] {
        let head = ["run", "-d", "--network", "lan", "--name", name];
        engine.docker(&[&head[..], &["busybox", "sleep", "600"]].concat())?;
    }
    engine.docker(&["rename", "web", "site"])?;
    ensure!(
        exec(
            &engine,
            "app",
            "ping -c 1 -W 5 site > /dev/null && echo found"
        )? == "found"
    );
    let old = engine.docker_output(&["exec", "app", "nslookup", "web."])?;
    assert_fails(&old, 1, "");
    engine.docker(&["rm", "-f", "app", "site"])?;
    Ok(())
}

#[test]
fn addresses_are_as_asked_for_and_nobody_elses() -> Result<()> {
    let engine = networked_engine()?;
    engine.docker(&[
        "network",
        "create",
        "--subnet",
        "10.70.0.0/24",
        "--gateway",
        "10.70.0.9",
        "lan",
    ])?;
    let flags = [
        "--network",
        "lan",
        "--ip",
        "10.70.0.44",
        "--mac-address",
        "02:00:00:00:00:44",
    ];
    let run = |name: &str, flags: &[&str]| {
        engine.docker_output(
            &[
                &["run", "-d", "--name", name],
                flags,
                &["busybox", "sleep", "600"],
            ]
            .concat(),
        )
    };
    ensure!(run("fixed", &flags)?.status.success());
    let seen = exec(
        &engine,
        "fixed",
        "ip -o addr show eth0; ip link show eth0; ip route",
    )?;
    for part in [
        "10.70.0.44/24",
        "02:00:00:00:00:44",
        "default via 10.70.0.9",
    ] {
        ensure!(seen.contains(part), "{part} in {seen}");
    }
    // As clients said it before every network had one.
    let body = r#"{"Image":"busybox","Cmd":["sleep","600"],"MacAddress":"02:00:00:00:00:55","HostConfig":{"NetworkMode":"lan"}}"#;
    let body = Body::Bytes(body.as_bytes(), "application/json");
    let made = engine.api("POST", "/v1.43/containers/create?name=old", &body)?;
    ensure!(made.status == 201, "{}", text(&made.body));
    engine.docker(&["start", "old"])?;
    let link = exec(&engine, "old", "ip link show eth0")?;
    ensure!(link.contains("02:00:00:00:00:55"), "{link}");
    assert_fails(
        &run("second", &["--network", "lan", "--ip", "10.70.0.44"])?,
        125,
        "Address already in use",
    );
    assert_fails(
        &run("third", &["--network", "lan", "--ip", "10.71.0.1"])?,
        125,
        "no configured subnet or ip-range contain the IP address 10.71.0.1",
    );
    assert_fails(
        &run("fourth", &["--ip", "172.17.0.9"])?,
        125,
        "user specified IP address is supported on user defined networks only",
    );
    assert_fails(
        &run("fifth", &["--network", "nowhere"])?,
        125,
        "network nowhere not found",
    );
    engine.docker(&[
        "rm", "-f", "fixed", "old", "second", "third", "fourth", "fifth", "both",
    ])?;
    Ok(())
}

#[test]
fn the_default_route_leads_by_the_highest_priority() -> Result<()> {
    let engine = networked_engine()?;
    engine.docker(&["network", "create", "--subnet", "10.70.0.0/24", "lan"])?;
    engine.docker(&["network", "create", "--subnet", "10.72.0.0/24", "wan"])?;
    let both = [
        "--network",
        "lan",
        "--network",
        "name=wan,gw-priority=5,ip=10.72.0.7",
    ];
    let head = ["run", "-d", "--name", "both"];
    engine.docker(&[&head[..], &both, &["busybox", "sleep", "600"]].concat())?;
    let route = exec(&engine, "both", "ip route")?;
    ensure!(route.contains("default via 10.72.0.1"), "{route}");
    // A container on another's network sees the same.
    let joined = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "container:both",
        "busybox",
        "ip",
        "route",
    ])?;
    ensure!(joined == route, "{joined}\n{route}");
    engine.docker(&["rm", "-f", "both"])?;
    Ok(())
}

#[test]
fn containers_go_on_while_the_engine_is_killed() -> Result<()> {
    let mut engine = networked_engine()?;
    engine.docker(&["network", "create", "shop"])?;
    serve(&engine, "web", &["--network", "shop", "-p", "8080:80"])?;
    engine.docker(&[
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "shop",
        "busybox",
        "sleep",
        "600",
    ])?;
    answers(&engine, "127.0.0.1:8080")?;
    let inspect_all = |engine: &Engine| {
        engine.docker(&[
            "inspect",
            "web",
            "db",
            "--format",
            "{{json .NetworkSettings.Networks}}",
        ])
    };
    let before = inspect_all(&engine)?;
    let rules = |engine: &Engine| -> Result<String> {
        let output = engine
            .namespace()?
            .output(command("nft").args(["-s", "list", "ruleset"]))?;
        Ok(text(&output.stdout))
    };
    let ruleset = rules(&engine)?;
    ensure!(ruleset.contains("8080"), "{ruleset}");
    engine.kill9()?;
    // Without an engine: ports, names, addresses.
    for at in ["127.0.0.1:8080", "[::1]:8080"] {
        ensure!(ask(&engine, at)?.contains("from "), "{at}");
    }
    engine.restart()?;
    ensure!(inspect_all(&engine)? == before);
    ensure!(rules(&engine)? == ruleset, "{}\n{ruleset}", rules(&engine)?);
    ensure!(
        exec(
            &engine,
            "web",
            "ping -c 1 -W 5 db > /dev/null && echo found"
        )? == "found"
    );
    for at in ["127.0.0.1:8080", "[::1]:8080"] {
        answers(&engine, at)?;
    }
    // The port and the addresses are still theirs.
    let taken = engine.docker_output(&["run", "-p", "8080:80", "busybox", "true"])?;
    assert_fails(&taken, 125, "port is already allocated");
    let fresh = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "shop",
        "busybox",
        "hostname",
        "-i",
    ])?;
    ensure!(
        !before.contains(&format!("\"{fresh}\"")),
        "{fresh} of {before}"
    );
    engine.docker(&["rm", "-f", "web", "db"])?;
    Ok(())
}

#[test]
fn nothing_is_left_in_the_kernel() -> Result<()> {
    let mut engine = networked_engine()?;
    engine.docker(&["network", "create", "one"])?;
    let head = ["run", "--rm", "--network", "one", "-p", "80"];
    for number in 0..10 {
        let failing = number % 3 == 2;
        let program: &[&str] = if failing { &["/nowhere"] } else { &["true"] };
        let output = engine.docker_output(&[&head[..], &["busybox"], program].concat())?;
        ensure!(
            output.status.success() != failing,
            "{}",
            text(&output.stderr)
        );
    }
    let links = |engine: &Engine| -> Result<Vec<String>> {
        let output = engine
            .namespace()?
            .output(command("ip").args(["-br", "link"]))?;
        let names = text(&output.stdout);
        let names = names
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    };
    // The bridges, and the cables of the pool without a bridge.
    let on_bridges = |engine: &Engine| -> Result<usize> {
        let output = engine.namespace()?.output(command("bridge").arg("link"))?;
        Ok(text(&output.stdout).lines().count())
    };
    until(&0, || on_bridges(&engine))?;
    let elements = engine
        .namespace()?
        .output(command("nft").args(["list", "ruleset"]))?;
    ensure!(
        !text(&elements.stdout).contains("tcp . "),
        "{}",
        text(&elements.stdout)
    );
    // With no container left the engine takes even the bridges along.
    engine.stop()?;
    until(&vec!["lo".to_owned()], || links(&engine))?;
    let rules = engine
        .namespace()?
        .output(command("nft").args(["list", "ruleset"]))?;
    ensure!(text(&rules.stdout).is_empty(), "{}", text(&rules.stdout));
    engine.restart()?;
    ensure!(
        engine
            .docker(&["network", "ls", "-q", "--filter", "name=^one$"])?
            .len()
            == 12
    );
    engine.docker(&["run", "--rm", "--network", "one", "busybox", "true"])?;
    Ok(())
}

#[test]
fn linked_containers_have_names_for_each_other() -> Result<()> {
    let engine = networked_engine()?;
    let run = |flags: &[&str]| {
        engine.docker(&[&["run", "-d"], flags, &["busybox", "sleep", "600"]].concat())
    };
    run(&["--name", "db"])?;
    run(&["--name", "app", "--link", "db:store"])?;
    let address = inspect(
        &engine,
        "db",
        "{{.NetworkSettings.Networks.bridge.IPAddress}}",
    )?;
    let hosts = exec(&engine, "app", "cat /etc/hosts")?;
    let id = inspect(&engine, "db", "{{.Id}}")?;
    ensure!(
        hosts.contains(&format!("{address}\tstore {} db\n", &id[..12])),
        "{hosts}"
    );
    ensure!(
        exec(
            &engine,
            "app",
            "ping -c 1 -W 5 store > /dev/null && echo found"
        )? == "found"
    );
    engine.docker(&["network", "create", "lan"])?;
    run(&["--name", "far", "--network", "lan"])?;
    run(&["--name", "near", "--network", "lan", "--link", "far:cache"])?;
    ensure!(
        exec(
            &engine,
            "near",
            "ping -c 1 -W 5 cache > /dev/null && echo found"
        )? == "found"
    );
    assert_fails(
        &engine.docker_output(&["exec", "far", "nslookup", "cache."])?,
        1,
        "",
    );
    engine.docker(&["stop", "-t", "0", "db"])?;
    let refused = engine.docker_output(&["run", "--link", "db", "busybox", "true"])?;
    assert_fails(
        &refused,
        125,
        "Cannot link to a non running container: /db AS /",
    );
    // It comes back with another address, and who is linked to it knows.
    exec(&engine, "app", "echo 10.9.9.9 mine >> /etc/hosts")?;
    engine.docker(&["start", "db"])?;
    let now = inspect(
        &engine,
        "db",
        "{{.NetworkSettings.Networks.bridge.IPAddress}}",
    )?;
    ensure!(now != address, "{now}");
    let hosts = exec(&engine, "app", "cat /etc/hosts")?;
    ensure!(
        hosts.contains(&format!("{now}\tstore {} db", &id[..12]))
            && !hosts.contains(&format!("{address}\t"))
            && hosts.contains("10.9.9.9 mine"),
        "{hosts}"
    );
    engine.docker(&["rm", "-f", "db", "app", "far", "near"])?;
    Ok(())
}

#[test]
fn bandwidth_is_bounded() -> Result<()> {
    let engine = networked_engine()?;
    engine.havre(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network-bps",
        "1m/2m",
        "busybox",
        "sleep",
        "600",
    ])?;
    let rates = || -> Result<(String, String)> {
        let host = engine
            .namespace()?
            .output(command("tc").args(["qdisc", "show"]))?;
        let line = text(&host.stdout);
        let line = line
            .lines()
            .find(|line| line.contains("tbf"))
            .unwrap_or_default()
            .to_owned();
        let pid = inspect(&engine, "box", "{{.State.Pid}}")?;
        let mut inside = command("nsenter");
        inside.args([
            "--net", "--target", &pid, "tc", "qdisc", "show", "dev", "eth0",
        ]);
        Ok((line, text(&inside.output()?.stdout)))
    };
    // tc tells bits.
    let (host, inside) = rates()?;
    ensure!(
        host.contains("rate 8388Kbit") && inside.contains("rate 16777Kbit"),
        "{host} {inside}"
    );
    engine.havre(&["update", "--network-bps", "3m", "box"])?;
    let (host, inside) = rates()?;
    ensure!(
        host.contains("rate 25165Kbit") && inside.contains("rate 16777Kbit"),
        "{host} {inside}"
    );
    engine.docker(&["rm", "-f", "box"])?;
    Ok(())
}

#[test]
fn rules_that_are_the_administrators_are_not_made() -> Result<()> {
    let engine = Engine::start_with(havre_testkit::EngineOptions {
        own_network: true,
        args: vec!["--iptables=false".to_owned()],
        ..havre_testkit::EngineOptions::default()
    })?;
    crate::support::load_busybox(&engine)?;
    serve(&engine, "web", &["-p", "8080:80"])?;
    // Relayed: the client seems to be the host.
    let gateway = inspect(
        &engine,
        "web",
        "{{.NetworkSettings.Networks.bridge.Gateway}}",
    )?;
    let seen = answers(&engine, "127.0.0.1:8080")?;
    ensure!(seen.contains(&gateway), "{seen}");
    let rules = engine
        .namespace()?
        .output(command("nft").args(["list", "ruleset"]))?;
    let rules = text(&rules.stdout);
    ensure!(
        rules.contains("left to the administrator") && !rules.contains("8080 : "),
        "{rules}"
    );
    let explained = engine.havre(&["port", "--explain", "web"])?;
    ensure!(
        explained.contains("left to the administrator"),
        "{explained}"
    );
    Ok(())
}

#[test]
fn a_host_that_forwards_nothing_is_told_to_be_the_reason() -> Result<()> {
    let engine = networked_engine()?;
    engine.docker(&["run", "--rm", "busybox", "true"])?;
    let warnings = || engine.docker(&["info", "--format", "{{json .Warnings}}"]);
    ensure!(!warnings()?.contains("firewall"), "{}", warnings()?);
    let rules = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";
    engine.namespace()?.output(command("nft").arg(rules))?;
    let said = warnings()?;
    ensure!(
        said.contains("ip filter FORWARD") && said.contains("hv"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_default_bridge_that_is_not_there_yet_makes_room_for_others() -> Result<()> {
    let mut engine = networked_engine()?;
    let subnet = "{{(index .IPAM.Config 0).Subnet}}";
    let shown =
        |engine: &Engine| engine.docker(&["network", "inspect", "bridge", "--format", subnet]);
    ensure!(shown(&engine)? == "172.17.0.0/16", "{}", shown(&engine)?);
    // Somebody else's bridge, such as another engine's.
    for words in [
        &["link", "add", "docker0", "type", "bridge"][..],
        &["address", "add", "172.17.0.1/16", "dev", "docker0"],
        &["link", "set", "docker0", "up"],
    ] {
        engine.namespace()?.output(command("ip").args(words))?;
    }
    let routes = engine.docker(&["run", "--rm", "busybox", "ip", "route"])?;
    ensure!(
        routes.contains("172.18.0.0/16") && !routes.contains("172.17."),
        "{routes}"
    );
    ensure!(shown(&engine)? == "172.18.0.0/16", "{}", shown(&engine)?);
    // There it stays while it is used, whatever happens to the engine and to the others.
    serve(&engine, "web", &["-p", "8080:80"])?;
    let address = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
    let before = inspect(&engine, "web", address)?;
    for others in ["down", "up"] {
        engine
            .namespace()?
            .output(command("ip").args(["link", "set", "docker0", others]))?;
        engine.kill9()?;
        engine.restart()?;
        ensure!(shown(&engine)? == "172.18.0.0/16", "{}", shown(&engine)?);
        ensure!(inspect(&engine, "web", address)? == before);
        answers(&engine, "127.0.0.1:8080")?;
        exec(&engine, "web", "ping -c1 -w5 172.18.0.1")?;
    }
    Ok(())
}

#[test]
fn what_a_container_had_is_free_when_it_is_seen_to_have_ended() -> Result<()> {
    let engine = networked_engine()?;
    for _ in 0..10 {
        let create = ["network", "create", "--subnet", "10.7.0.0/24", "short"];
        engine.docker(&create)?;
        let flags = ["run", "--rm", "--network", "short", "--ip", "10.7.0.9"];
        let run = [&flags[..], &["-p", "8080:80", "busybox", "true"]].concat();
        engine.docker(&run)?;
        engine.docker(&run)?;
        engine.docker(&["network", "rm", "short"])?;
    }
    Ok(())
}

#[test]
fn a_network_of_higher_priority_takes_the_way_out_over() -> Result<()> {
    let mut engine = networked_engine()?;
    for (name, subnet) in [
        ("mid", "10.81.0.0/24"),
        ("low", "10.82.0.0/24"),
        ("top", "10.83.0.0/24"),
    ] {
        engine.docker(&["network", "create", "--subnet", subnet, name])?;
    }
    serve(&engine, "web", &["--network", "mid", "-p", "8080:80"])?;
    let way = || -> Result<String> {
        let routes = exec(&engine, "web", "ip route")?;
        let ways: Vec<&str> = routes
            .lines()
            .map(str::trim_end)
            .filter(|line| line.starts_with("default"))
            .collect();
        Ok(ways.join("; "))
    };
    let connect = |network: &str, priority: &str| {
        engine.docker(&[
            "network",
            "connect",
            "--gw-priority",
            priority,
            network,
            "web",
        ])
    };
    ensure!(way()? == "default via 10.81.0.1 dev eth0", "{}", way()?);
    connect("low", "-1")?;
    ensure!(way()? == "default via 10.81.0.1 dev eth0", "{}", way()?);
    connect("top", "7")?;
    ensure!(way()? == "default via 10.83.0.1 dev eth2", "{}", way()?);
    // The published port follows, without a moment in which somebody else could take it, and a relayed connection too.
    for at in ["127.0.0.1:8080", "[::1]:8080"] {
        answers(&engine, at)?;
    }
    let shown = engine.docker(&["port", "web"])?;
    ensure!(
        shown == "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080",
        "{shown}"
    );
    // Of two that are equal the first by name, as after a restart of the container.
    engine.docker(&["network", "disconnect", "top", "web"])?;
    ensure!(way()? == "default via 10.81.0.1 dev eth0", "{}", way()?);
    connect("top", "0")?;
    ensure!(way()? == "default via 10.81.0.1 dev eth0", "{}", way()?);
    engine.docker(&["network", "disconnect", "mid", "web"])?;
    ensure!(way()?.contains("via 10.83.0.1"), "{}", way()?);
    for at in ["127.0.0.1:8080", "[::1]:8080"] {
        answers(&engine, at)?;
    }
    engine.kill9()?;
    engine.restart()?;
    answers(&engine, "127.0.0.1:8080")?;
    engine.docker(&["rm", "-f", "web"])?;
    // The port is free again.
    engine.docker(&["run", "--rm", "-p", "8080:80", "busybox", "true"])?;
    Ok(())
}
