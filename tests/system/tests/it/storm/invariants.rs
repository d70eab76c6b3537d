//! What must hold after every start, compared with the kernel and with what clients were told.

use super::Chance;
use super::load::{Known, Model};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
use havre_testkit::http::Body;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// What was going on when the engine died has come to rest within this.
const SETTLE: Duration = Duration::from_secs(10);

/// Containers that no worker touches: one that goes on, one that writes, and a brief one for each kill.
#[derive(Debug)]
pub(crate) struct Witnesses {
    /// Name and process.
    anchors: BTreeMap<String, i64>,
    /// Name and exit code.
    brief: BTreeMap<String, i64>,
    count: i64,
}

impl Witnesses {
    pub(crate) fn begin(engine: &Engine) -> Result<Self> {
        let script = "i=0; while :; do echo $i; i=$((i+1)); usleep 20000; done";
        let mut anchors = BTreeMap::new();
        for (name, command) in [
            ("anchor-rests", vec!["sleep", "10000"]),
            ("anchor-writes", vec!["sh", "-c", script]),
            ("anchor-paused", vec!["sleep", "10000"]),
        ] {
            let words = ["run", "-d", "--network", "none", "--name", name, "busybox"];
            engine.docker(&[&words[..], &command].concat())?;
            let state = get(engine, &format!("/containers/{name}/json"))?;
            anchors.insert(name.to_owned(), state["State"]["Pid"].as_i64().unwrap_or(0));
        }
        engine.docker(&["pause", "anchor-paused"])?;
        Ok(Self {
            anchors,
            brief: BTreeMap::new(),
            count: 0,
        })
    }

    /// Starts a container that ends with a code of its own in about the moment of the kill.
    pub(crate) fn call(&mut self, engine: &Engine, chance: &mut Chance) -> Result<()> {
        self.count += 1;
        let code = self.count % 100 + 1;
        let name = format!("brief-{}", self.count);
        let body = format!(
            r#"{{"Image":"busybox","Cmd":["sh","-c","usleep {}; exit {code}"],"HostConfig":{{"NetworkMode":"none"}}}}"#,
            chance.below(60_000)
        );
        let target = format!("/containers/create?name={name}");
        let made = engine.api("POST", &target, &Body::Bytes(body.as_bytes(), ""))?;
        ensure!(made.status == 201, "{name}: {}", made.status);
        let started = engine.api("POST", &format!("/containers/{name}/start"), &Body::Empty)?;
        ensure!(started.status == 204, "{name}: {}", started.status);
        self.brief.insert(name, code);
        Ok(())
    }

    /// What is wrong with them; those that have ended as they should are removed.
    fn check(
        &mut self,
        engine: &Engine,
        listed: &BTreeMap<String, Value>,
        wrong: &mut Vec<String>,
    ) -> Result<()> {
        for (name, pid) in &self.anchors {
            let seen = listed.get(name).map(|inspected| &inspected["State"]);
            let status = if name == "anchor-paused" {
                "paused"
            } else {
                "running"
            };
            if seen.is_none_or(|state| state["Pid"] != *pid || state["Status"] != status) {
                wrong.push(format!("V2: {name} had process {pid}: {seen:?}"));
            }
        }
        let mut done = Vec::new();
        for (name, code) in &self.brief {
            let Some(inspected) = listed.get(name) else {
                wrong.push(format!("V3: {name} is gone"));
                continue;
            };
            let state = &inspected["State"];
            if state["Status"] == "exited" && state["ExitCode"] == *code {
                done.push(name.clone());
            } else {
                wrong.push(format!("V3: {name} is to end with {code}: {state}"));
            }
        }
        for name in done {
            self.brief.remove(&name);
            let removed = engine.api("DELETE", &format!("/containers/{name}"), &Body::Empty)?;
            ensure!(removed.status == 204, "{name}: {}", removed.status);
        }
        Ok(())
    }

    /// The log of the one that writes has every line once and in order (V4).
    pub(crate) fn finish(&self, engine: &Engine) -> Result<()> {
        let log = engine.docker(&["logs", "anchor-writes"])?;
        for (wanted, line) in log.lines().enumerate() {
            ensure!(line == wanted.to_string(), "V4: line {wanted} is {line:?}");
        }
        ensure!(
            log.lines().count() > 100,
            "V4: {} lines",
            log.lines().count()
        );
        Ok(())
    }
}

/// What is still wrong when everything has had time to come to rest.
pub(crate) fn settled_violations(
    engine: &Engine,
    models: &[Model],
    witnesses: &mut Witnesses,
) -> Result<Vec<String>> {
    // What was acknowledged must hold at once, not only in time.
    let listed = inspect_all(engine)?;
    let broken = broken_promises(&listed, models);
    if !broken.is_empty() {
        return Ok(broken);
    }
    let deadline = Instant::now() + SETTLE;
    loop {
        let listed = inspect_all(engine)?;
        let mut wrong = lies(engine, &listed)?;
        witnesses.check(engine, &listed, &mut wrong)?;
        if wrong.is_empty() || Instant::now() > deadline {
            return Ok(wrong);
        }
    }
}

/// Containers that stand still, with their states.
pub(crate) fn standing(engine: &Engine) -> Result<BTreeMap<String, String>> {
    let all = inspect_all(engine)?.into_iter().map(|(name, container)| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            name,
            text(&container["Id"]) + " " + &text(&container["State"]["Status"]),
        )
    });
    Ok(all
        .filter(|(_, state)| {
            ["exited", "created", "paused"]
                .iter()
                .any(|word| state.ends_with(word))
        })
        .collect())
}

fn get(engine: &Engine, target: &str) -> Result<Value> {
    let answer = engine.api("GET", target, &Body::Empty)?;
    ensure!(answer.status == 200, "{target}: {}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// Every container by its name (V1, V7: each once).
fn inspect_all(engine: &Engine) -> Result<BTreeMap<String, Value>> {
    let listed = get(engine, "/containers/json?all=1")?;
    let mut all = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for container in listed.as_array().context("a list")? {
        let id = container["Id"].as_str().context("an id")?;
        ensure!(ids.insert(id.to_owned()), "V1: {id} is listed twice");
        let answer = engine.api("GET", &format!("/containers/{id}/json"), &Body::Empty)?;
        if answer.status == 404 {
            // Its removal was under way.
            continue;
        }
        let inspected: Value = serde_json::from_slice(&answer.body)?;
        let name = inspected["Name"].as_str().context("a name")?;
        let name = name.trim_start_matches('/').to_owned();
        let twice = all.insert(name.clone(), inspected);
        ensure!(twice.is_none(), "V7: two are called {name}");
    }
    Ok(all)
}

/// What clients were told and is not so.
fn broken_promises(listed: &BTreeMap<String, Value>, models: &[Model]) -> Vec<String> {
    let known = models.iter().flatten();
    known
        .filter_map(|(name, known)| match (known, listed.contains_key(name)) {
            (Known::Exists, false) => Some(format!("{name} was acknowledged and is gone")),
            (Known::Gone, true) => Some(format!("{name} was acknowledged as gone and is there")),
            _ => None,
        })
        .collect()
}

/// Where what is shown is not what the kernel and the disk have (V1, V10).
fn lies(engine: &Engine, listed: &BTreeMap<String, Value>) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let (mut known, mut live) = (BTreeSet::new(), BTreeSet::new());
    for (name, container) in listed {
        let id = container["Id"].as_str().unwrap_or_default();
        let state = &container["State"];
        known.insert(id.to_owned());
        let pid = state["Pid"].as_i64().unwrap_or(0);
        let status = state["Status"].as_str().unwrap_or_default();
        if matches!(status, "running" | "paused") {
            live.insert(id.to_owned());
            let groups = fs_err::read_to_string(format!("/proc/{pid}/cgroup"));
            if !groups.is_ok_and(|groups| groups.contains(id)) {
                wrong.push(format!("V1: {name} is {status} without its process {pid}"));
            }
        } else if pid != 0 {
            wrong.push(format!("V1: {name} is {status} with the process {pid}"));
        }
        // It may be started any moment.
        if status == "restarting" {
            live.insert(id.to_owned());
        }
    }
    for (folder, whose) in [
        (engine.exec_root().join("containers"), &live),
        (engine.data_root().join("containers"), &known),
    ] {
        for id in entries(&folder).difference(whose) {
            wrong.push(format!("V10: {} has {id}", folder.display()));
        }
    }
    for group in engine.census()?.cgroups {
        let id = group
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if id.len() == 64 && !live.contains(id) {
            wrong.push(format!("V10: the cgroup {} is left", group.display()));
        }
    }
    Ok(wrong)
}

fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
