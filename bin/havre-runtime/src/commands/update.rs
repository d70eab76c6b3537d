//! update: other limits for a container that exists.

use anyhow::{Context as _, Result};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::arguments::Invocation;
use crate::commands::{cgroup_of, named};
use crate::store::Store;

/// The flag, and where its number goes in the resources.
const NUMBERS: [(&str, &str, &str); 11] = [
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
    ("pids-limit", "pids", "limit"),
];

pub(super) fn update(store: &Store, invocation: &Invocation) -> Result<()> {
    let (_, record) = named(store, invocation)?;
    let resources = resources(invocation)?;
    Ok(cgroup_of(&record)?.apply(&resources)?)
}

fn resources(invocation: &Invocation) -> Result<LinuxResources> {
    if let Some(path) = invocation.value("resources") {
        let text = if path == "-" {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::io::stdin(), &mut text)?;
            text
        } else {
            fs_err::read_to_string(path)?
        };
        return serde_json::from_str(&text).context("failed to read the resources");
    }
    let mut out = Map::new();
    let mut put = |group: &str, key: &str, value: Value| {
        let group = out.entry(group).or_insert_with(|| json!({}));
        if let Some(group) = group.as_object_mut() {
            group.insert(key.to_owned(), value);
        }
    };
    for (flag, group, key) in NUMBERS {
        if let Some(text) = invocation.text(flag)? {
            let number: i64 = text
                .parse()
                .with_context(|| format!("bad value {text:?} of --{flag}"))?;
            put(group, key, json!(number));
        }
    }
    for (flag, key) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(text) = invocation.text(flag)? {
            put("cpu", key, json!(text));
        }
    }
    serde_json::from_value(Value::Object(out)).context("the resources make no sense")
}
