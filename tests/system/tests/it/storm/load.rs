//! The load: workers that do random operations, and remember what they were told.

use super::Chance;
use anyhow::Result;
use havre_testkit::engine::Caller;
use havre_testkit::http::{Body, Response};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

/// Containers that one worker keeps for itself.
const SLOTS: u64 = 3;
/// Containers that all workers fight for.
const SHARED: u64 = 2;

/// What a worker knows for certain of its own containers: name, and whether it exists.
pub(crate) type Model = BTreeMap<String, Known>;

/// What the last answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Exists,
    Gone,
    /// The engine was killed before it answered.
    Unknown,
}

/// Holds the workers while the engine is looked at.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    finished: bool,
    waiting: BTreeMap<u64, Model>,
}

impl Gate {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every worker has come to rest; answers what they know.
    pub(crate) fn hold(&self) -> Vec<Model> {
        let mut state = self.lock();
        state.held = true;
        while state.waiting.len() < usize::try_from(super::WORKERS).unwrap_or(0) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.values().cloned().collect()
    }

    pub(crate) fn release(&self) {
        self.lock().held = false;
        self.changed.notify_all();
    }

    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        state.finished = true;
        state.held = false;
        drop(state);
        self.changed.notify_all();
    }

    /// Stops a worker while it is held; false when it is all over.
    fn pass(&self, number: u64, model: &Model) -> bool {
        let mut state = self.lock();
        if state.held {
            state.waiting.insert(number, model.clone());
            self.changed.notify_all();
        }
        while state.held {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.remove(&number);
        !state.finished
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Worker {
    number: u64,
    chance: Chance,
    caller: Caller,
    model: Model,
    pub(crate) answered: usize,
    pub(crate) failures: Vec<String>,
}

impl Worker {
    pub(crate) fn new(number: u64, chance: Chance, caller: Caller) -> Self {
        Self {
            number,
            chance,
            caller,
            model: Model::new(),
            answered: 0,
            failures: Vec::new(),
        }
    }

    pub(crate) fn work(&mut self, gate: &Gate) {
        while gate.pass(self.number, &self.model) {
            let slot = self.chance.below(SLOTS + SHARED);
            let (name, own) = if slot < SLOTS {
                (format!("own-{}-{slot}", self.number), true)
            } else {
                (format!("shared-{slot}"), false)
            };
            self.operate(&name, own);
        }
    }

    fn operate(&mut self, name: &str, own: bool) {
        match self.chance.below(25) {
            0..=3 => self.create(name, own),
            4..=7 => self.post(name, "start", ""),
            8 => self.post(name, "stop?t=0", ""),
            9 => self.post(name, "kill", ""),
            10 => self.post(name, "restart?t=0", ""),
            11 => self.post(name, "pause", ""),
            12 | 13 => self.post(name, "unpause", ""),
            14 => self.update(name),
            15 => self.rename(name, own),
            16 | 17 => self.remove(name, own),
            18 => self.exec(name),
            19 => self.get(&format!("/containers/{name}/logs?stdout=1")),
            20 => self.get(&format!("/containers/{name}/top")),
            21 => self.get(&format!("/containers/{name}/stats?stream=0&one-shot=1")),
            22 => self.get(&format!("/containers/{name}/archive?path=/etc/hostname")),
            // Most of these waits end with the engine.
            23 => self.post(name, "wait", ""),
            _ => self.prune(),
        }
    }

    fn create(&mut self, name: &str, own: bool) {
        let command = match self.chance.below(4) {
            0 => r#"["sh","-c","echo done; exit 7"]"#,
            1 => r#"["sh","-c","trap 'exit 5' TERM; while :; do sleep 0.1; done"]"#,
            _ => r#"["sleep","1000"]"#,
        };
        let policy = ["no", "no", "always", "on-failure", "unless-stopped"];
        let policy = policy[usize::try_from(self.chance.below(5)).unwrap_or(0)];
        let body = format!(
            r#"{{"Image":"busybox","Cmd":{command},"Labels":{{"storm":"{}"}},"HostConfig":{{"NetworkMode":"none","RestartPolicy":{{"Name":"{policy}"}}}}}}"#,
            self.number
        );
        let answer = self.send("POST", &format!("/containers/create?name={name}"), &body);
        if own {
            let known = match answer {
                Some(201 | 409) => Known::Exists,
                None => Known::Unknown,
                Some(_) => return,
            };
            self.know(name, known);
        }
    }

    fn remove(&mut self, name: &str, own: bool) {
        let answer = self.send("DELETE", &format!("/containers/{name}?force=1"), "");
        if own {
            let known = match answer {
                Some(204 | 404) => Known::Gone,
                None => Known::Unknown,
                Some(_) => return,
            };
            self.know(name, known);
        }
    }

    /// There and back again, so that the names of the slots stay.
    fn rename(&mut self, name: &str, own: bool) {
        let other = format!("{name}-renamed");
        for (from, to) in [(name, other.as_str()), (other.as_str(), name)] {
            let answer = self.send("POST", &format!("/containers/{from}/rename?name={to}"), "");
            match answer {
                Some(204) if own => {
                    self.know(from, Known::Gone);
                    self.know(to, Known::Exists);
                }
                None if own => {
                    self.know(from, Known::Unknown);
                    self.know(to, Known::Unknown);
                }
                _ => {}
            }
        }
    }

    fn update(&mut self, name: &str) {
        let body = match self.chance.below(3) {
            0 => r#"{"CpuShares":512}"#,
            1 => r#"{"PidsLimit":100}"#,
            _ => r#"{"RestartPolicy":{"Name":"no"}}"#,
        };
        self.post(name, "update", body);
    }

    fn exec(&mut self, name: &str) {
        let target = format!("/containers/{name}/exec");
        let sent = self.call("POST", &target, r#"{"Cmd":["true"]}"#);
        let Some(answer) = sent.filter(|answer| answer.status == 201) else {
            return;
        };
        let made: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let id = made["Id"].as_str().unwrap_or_default();
        self.send("POST", &format!("/exec/{id}/start"), r#"{"Detach":true}"#);
        self.get(&format!("/exec/{id}/json"));
    }

    /// Only of its own: what another has made, that one still counts on.
    fn prune(&mut self) {
        let filter = format!("%7B%22label%22:%5B%22storm={}%22%5D%7D", self.number);
        let answer = self.send("POST", &format!("/containers/prune?filters={filter}"), "");
        if answer != Some(409) {
            let names: Vec<String> = self.model.keys().cloned().collect();
            for name in names {
                self.know(&name, Known::Unknown);
            }
        }
    }

    fn know(&mut self, name: &str, known: Known) {
        self.model.insert(name.to_owned(), known);
    }

    fn post(&mut self, name: &str, what: &str, body: &str) {
        self.send("POST", &format!("/containers/{name}/{what}"), body);
    }

    fn get(&mut self, target: &str) {
        self.send("GET", target, "");
    }

    fn send(&mut self, method: &str, target: &str, body: &str) -> Option<u16> {
        self.call(method, target, body).map(|answer| answer.status)
    }

    /// The answer, unless the engine was killed.
    fn call(&mut self, method: &str, target: &str, body: &str) -> Option<Response> {
        let answer = self.ask(method, target, body).ok()?;
        self.answered += 1;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        // Docker's answer to an unpause of what is not paused is 500.
        let bad = answer.status >= 500 && answer.status != 501 && !text.contains("is not paused");
        if bad {
            self.failures
                .push(format!("{method} {target}: {} {text}", answer.status));
        }
        Some(answer)
    }

    fn ask(&self, method: &str, target: &str, body: &str) -> Result<Response> {
        let body = if body.is_empty() {
            Body::Empty
        } else {
            Body::Bytes(body.as_bytes(), "application/json")
        };
        self.caller.api(method, target, &body)
    }
}
