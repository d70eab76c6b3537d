//! Networks by the docker command line: made, listed, inspected, removed; what survives the engine.
//!
//! Each engine has a network namespace for itself.

use crate::support::{assert_fails, networked_engine, text};
use anyhow::{Context as _, Result};
use havre_testkit::http::Body;
use havre_testkit::{Engine, EngineOptions};
use serde_json::Value;

/// An engine with a network namespace for itself.
fn engine() -> Result<Engine> {
    engine_with(&[])
}

fn engine_with(args: &[&str]) -> Result<Engine> {
    Engine::start_with(EngineOptions {
        own_network: true,
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..EngineOptions::default()
    })
}

fn inspected(engine: &Engine, name: &str) -> Result<Value> {
    let answer = engine.docker(&["network", "inspect", name])?;
    let mut all: Vec<Value> = serde_json::from_str(&answer)?;
    all.pop().context("a network")
}

/// Without the cables that are made ahead in the background.
fn interfaces(engine: &Engine) -> Result<Vec<String>> {
    let mut all = engine.namespace()?.interfaces()?;
    all.retain(|name| !name.starts_with("vh"));
    Ok(all)
}

fn names(engine: &Engine, filters: &[&str]) -> Result<Vec<String>> {
    let mut words = vec!["network", "ls", "--format", "{{.Name}}"];
    words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    Ok(engine.docker(&words)?.lines().map(str::to_owned).collect())
}

#[test]
fn a_network_is_made_as_it_was_asked_for_and_goes() -> Result<()> {
    let engine = engine()?;
    let id = engine.docker(&[
        "network",
        "create",
        "--subnet",
        "10.60.0.0/16",
        "--ip-range",
        "10.60.4.0/24",
        "--gateway",
        "10.60.0.9",
        "--aux-address",
        "router=10.60.0.7",
        "--ipv6",
        "--subnet",
        "fd00:60::/64",
        "--internal",
        "--attachable",
        "--label",
        "kind=test",
        "-o",
        "com.docker.network.bridge.name=br-test",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "web",
    ])?;
    assert_eq!(id.len(), 64);
    let network = inspected(&engine, "web")?;
    assert_eq!(network["Id"], id.as_str());
    assert_eq!(network["Driver"], "bridge");
    assert_eq!(network["Scope"], "local");
    for field in ["EnableIPv4", "EnableIPv6", "Internal", "Attachable"] {
        assert_eq!(network[field], true, "{field}");
    }
    for field in ["Ingress", "ConfigOnly"] {
        assert_eq!(network[field], false, "{field}");
    }
    assert_eq!(network["Labels"]["kind"], "test");
    assert_eq!(network["Options"]["com.docker.network.driver.mtu"], "1400");
    let config = network["IPAM"]["Config"].as_array().context("subnets")?;
    let of = |subnet: &str| {
        let found = config.iter().find(|config| config["Subnet"] == subnet);
        found.with_context(|| format!("{subnet} in {config:?}"))
    };
    let four = of("10.60.0.0/16")?;
    assert_eq!(four["IPRange"], "10.60.4.0/24");
    assert_eq!(four["Gateway"], "10.60.0.9");
    assert_eq!(four["AuxiliaryAddresses"]["router"], "10.60.0.7");
    // Docker does not show a gateway that it chose in a subnet of the user's.
    assert_eq!(of("fd00:60::/64")?["Gateway"], Value::Null);
    assert!(interfaces(&engine)?.contains(&"br-test".to_owned()));
    // By name, by id, by the beginning of an id.
    for name in ["web", &id, &id[..12]] {
        assert_eq!(inspected(&engine, name)?["Name"], "web");
    }
    assert_eq!(engine.docker(&["network", "rm", "web"])?, "web");
    assert!(!interfaces(&engine)?.contains(&"br-test".to_owned()));
    let gone = engine.docker_output(&["network", "inspect", "web"])?;
    assert_fails(&gone, 1, "network web not found");
    Ok(())
}

#[test]
fn lists_are_filtered() -> Result<()> {
    let engine = engine()?;
    assert_eq!(names(&engine, &[])?, ["bridge", "host", "none"]);
    let id = engine.docker(&["network", "create", "--label", "a=b", "front"])?;
    engine.docker(&["network", "create", "--label", "c", "front-two"])?;
    for (filters, expected) in [
        (vec!["driver=bridge"], vec!["bridge", "front", "front-two"]),
        (vec!["driver=null"], vec!["none"]),
        (vec!["name=fro"], vec!["front", "front-two"]),
        (vec!["name=^front$"], vec!["front"]),
        (vec!["label=a=b"], vec!["front"]),
        (vec!["label=c"], vec!["front-two"]),
        (vec!["type=custom"], vec!["front", "front-two"]),
        (vec!["type=builtin"], vec!["bridge", "host", "none"]),
        (vec!["dangling=true"], vec!["front", "front-two"]),
        (vec!["scope=swarm"], vec![]),
        (vec!["scope=local", "driver=host"], vec!["host"]),
    ] {
        assert_eq!(names(&engine, &filters)?, expected, "{filters:?}");
    }
    assert_eq!(names(&engine, &[&format!("id={}", &id[..16])])?, ["front"]);
    let wrong = engine.docker_output(&["network", "ls", "--filter", "foo=bar"])?;
    assert_fails(&wrong, 1, "invalid filter 'foo'");
    Ok(())
}

/// What is refused, with Docker's words.
const REFUSALS: [(&[&str], &str); 13] = [
    (&["taken"], "network with name taken already exists"),
    (
        &["bridge"],
        "operation is not permitted on predefined bridge network",
    ),
    (&["-d", "overlay", "x"], "This node is not a swarm manager."),
    (&["-d", "nope", "x"], "plugin \"nope\" not found"),
    (
        &["-d", "host", "x"],
        "only one instance of \"host\" network is allowed",
    ),
    (
        &["--scope", "swarm", "x"],
        "cannot create a swarm scoped network when swarm is not active",
    ),
    (
        &["--subnet", "10.61.0.0/24", "x"],
        "invalid pool request: Pool overlaps with other one on this address space",
    ),
    (
        &["--subnet", "10.62.1.0/16", "x"],
        "invalid subnet 10.62.1.0/16: it should be 10.62.0.0/16",
    ),
    (&["--ipv4=false", "x"], "IPv4 or IPv6 must be enabled"),
    (
        &["-o", "com.docker.network.bridge.name=br-taken", "x"],
        "networks have same bridge name",
    ),
    (
        &["-o", "com.docker.network.bridge.name=a;b", "x"],
        "invalid bridge name",
    ),
    (
        &["-o", "com.docker.network.driver.mtu=big", "x"],
        "failed to parse com.docker.network.driver.mtu value: big",
    ),
    (
        &["--config-from", "nope", "x"],
        "configuration network \"nope\" does not exist",
    ),
];

#[test]
fn refusals_have_dockers_words_and_change_nothing() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "network",
        "create",
        "--subnet",
        "10.61.0.0/16",
        "-o",
        "com.docker.network.bridge.name=br-taken",
        "taken",
    ])?;
    let before = interfaces(&engine)?;
    for (args, message) in REFUSALS {
        let words = [&["network", "create"], args].concat();
        assert_fails(&engine.docker_output(&words)?, 1, message);
    }
    for name in ["bridge", "host", "none"] {
        let kept = engine.docker_output(&["network", "rm", name])?;
        let message = format!("{name} is a pre-defined network and cannot be removed");
        assert_fails(&kept, 1, &message);
    }
    let unknown = engine.docker_output(&["network", "rm", "nope"])?;
    assert_fails(&unknown, 1, "network nope not found");
    assert_eq!(interfaces(&engine)?, before);
    assert_eq!(names(&engine, &["type=custom"])?, ["taken"]);
    Ok(())
}

#[test]
fn configurations_are_taken_over() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "network",
        "create",
        "--config-only",
        "--subnet",
        "10.63.0.0/24",
        "--label",
        "from=cfg",
        "cfg",
    ])?;
    engine.docker(&["network", "create", "--config-from", "cfg", "real"])?;
    let network = inspected(&engine, "real")?;
    assert_eq!(network["ConfigFrom"]["Network"], "cfg");
    assert_eq!(network["IPAM"]["Config"][0]["Subnet"], "10.63.0.0/24");
    assert_eq!(network["Labels"]["from"], "cfg");
    let used = engine.docker_output(&["network", "rm", "cfg"])?;
    assert_fails(&used, 1, "configuration network \"cfg\" is in use");
    assert_eq!(
        engine.docker(&["network", "rm", "real", "cfg"])?,
        "real\ncfg"
    );
    Ok(())
}

#[test]
fn a_network_in_use_stays() -> Result<()> {
    let engine = networked_engine()?;
    let network = engine.docker(&["network", "create", "busy"])?;
    let run = [
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "busy",
        "busybox",
        "sleep",
        "600",
    ];
    engine.docker(&run)?;
    let refused = engine.docker_output(&["network", "rm", "busy"])?;
    assert_fails(
        &refused,
        1,
        "error while removing network: network busy has active endpoints (name:\"box\" id:\"",
    );
    let containers = inspected(&engine, &network)?["Containers"].clone();
    let ends: Vec<&Value> = containers.as_object().context("ends")?.values().collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0]["Name"], "box");
    assert_eq!(
        names(&engine, &["dangling=false"])?,
        ["bridge", "busy", "host", "none"]
    );
    assert_eq!(engine.docker(&["network", "prune", "-f"])?, "");
    engine.docker(&["rm", "-f", "box"])?;
    engine.docker(&["network", "rm", "busy"])?;
    Ok(())
}

/// Network events so far: action, name, type.
fn events(engine: &Engine) -> Result<Vec<(String, String, String)>> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs() + 1;
    let target =
        format!("/events?since=1&until={now}&filters=%7B%22type%22%3A%5B%22network%22%5D%7D");
    let answer = engine.api("GET", &target, &Body::Empty)?;
    let body = text(&answer.body);
    let read = |line: &str| -> Result<(String, String, String)> {
        let event: Value = serde_json::from_str(line).with_context(|| body.clone())?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let attributes = &event["Actor"]["Attributes"];
        Ok((
            text(&event["Action"]),
            text(&attributes["name"]),
            text(&attributes["type"]),
        ))
    };
    body.lines().map(read).collect()
}

#[test]
fn what_nothing_uses_is_pruned_and_events_tell_of_it() -> Result<()> {
    let engine = engine()?;
    engine.docker(&["network", "create", "--label", "keep", "one"])?;
    engine.docker(&["network", "create", "two"])?;
    let pruned = engine.docker(&["network", "prune", "-f", "--filter", "label!=keep"])?;
    assert_eq!(pruned, "Deleted Networks:\ntwo");
    assert_eq!(
        engine.docker(&["network", "prune", "-f", "--filter", "until=24h"])?,
        ""
    );
    assert_eq!(
        engine.docker(&["network", "prune", "-f"])?,
        "Deleted Networks:\none"
    );
    let expected = [
        ("create", "one", "bridge"),
        ("create", "two", "bridge"),
        ("destroy", "two", "bridge"),
        ("prune", "", ""),
        ("prune", "", ""),
        ("destroy", "one", "bridge"),
        ("prune", "", ""),
    ];
    let expected =
        expected.map(|(action, name, kind)| (action.to_owned(), name.to_owned(), kind.to_owned()));
    assert_eq!(events(&engine)?, expected);
    Ok(())
}

#[test]
fn networks_outlive_a_killed_engine_and_what_is_missing_comes_back() -> Result<()> {
    let mut engine = networked_engine()?;
    let option = "com.docker.network.bridge.name=br-kept";
    engine.docker(&["network", "create", "-o", option, "kept"])?;
    let before = engine.docker(&["network", "inspect", "kept", "bridge", "host", "none"])?;
    engine.kill9()?;
    engine.namespace()?.remove_interface("br-kept")?;
    engine.restart()?;
    let after = engine.docker(&["network", "inspect", "kept", "bridge", "host", "none"])?;
    assert_eq!(after, before);
    // The data plane may wait for the first container that needs it.
    let shown = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "kept",
        "busybox",
        "ip",
        "address",
    ])?;
    assert!(shown.contains("eth0"), "{shown}");
    assert!(interfaces(&engine)?.contains(&"br-kept".to_owned()));
    engine.docker(&["network", "rm", "kept"])?;
    engine.restart()?;
    assert_eq!(names(&engine, &["type=custom"])?, [""; 0]);
    assert!(!interfaces(&engine)?.contains(&"br-kept".to_owned()));
    Ok(())
}

#[test]
fn subnets_are_chosen_from_the_administrators_pools() -> Result<()> {
    let engine = engine_with(&[
        "--default-address-pool",
        "base=10.70.0.0/23,size=24",
        "--default-network-opt",
        "bridge=com.docker.network.driver.mtu=1300",
    ])?;
    let subnet = |name: &str| -> Result<Value> {
        Ok(inspected(&engine, name)?["IPAM"]["Config"][0]["Subnet"].clone())
    };
    assert_eq!(subnet("bridge")?, "10.70.0.0/24");
    engine.docker(&["network", "create", "last"])?;
    assert_eq!(subnet("last")?, "10.70.1.0/24");
    assert_eq!(
        inspected(&engine, "last")?["Options"]["com.docker.network.driver.mtu"],
        "1300"
    );
    let full = engine.docker_output(&["network", "create", "more"])?;
    assert_fails(
        &full,
        1,
        "all predefined address pools have been fully subnetted",
    );
    engine.docker(&["network", "rm", "last"])?;
    engine.docker(&["network", "create", "more"])?;
    Ok(())
}

#[test]
fn havres_command_line_does_the_same() -> Result<()> {
    let engine = engine()?;
    let id = engine.havre(&["network", "create", "--subnet", "10.64.0.0/24", "web"])?;
    assert_eq!(inspected(&engine, "web")?["Id"], id.as_str());
    let list = |program: &str| -> Result<String> {
        let args = ["network", "ls", "--no-trunc"];
        match program {
            "docker" => engine.docker(&args),
            _ => engine.havre(&args),
        }
    };
    assert_eq!(list("havre")?, list("docker")?);
    let ours: Vec<Value> = serde_json::from_str(&engine.havre(&["network", "inspect", "web"])?)?;
    assert_eq!(ours[0]["IPAM"]["Config"][0]["Subnet"], "10.64.0.0/24");
    let both = engine.havre_output(&["network", "rm", "web", "nope"])?;
    assert_fails(&both, 1, "network nope not found");
    assert_eq!(text(&both.stdout), "web\n");
    assert_eq!(engine.havre(&["network", "prune", "-f"])?, "");
    Ok(())
}

#[test]
fn an_engine_without_a_bridge_leaves_the_host_alone() -> Result<()> {
    let engine = engine_with(&["--bridge", "none"])?;
    assert_eq!(names(&engine, &[])?, ["host", "none"]);
    assert_eq!(interfaces(&engine)?, ["lo"]);
    engine.docker(&["network", "create", "first"])?;
    assert_eq!(names(&engine, &["driver=bridge"])?, ["first"]);
    Ok(())
}
