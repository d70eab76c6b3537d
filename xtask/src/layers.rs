//! The import rule: a crate imports from its own group or from groups below it, never upwards.
//!
//! The folder is the rule, so a crate's group is read off its path and nothing has to be listed twice.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One workspace member: where it lives and which members it names in `[dependencies]`.
struct Member {
    path: String,
    imports: Vec<String>,
}

/// Returns one line for each import that points upwards or across a border.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let members = read_members(root)?;
    let mut problems = Vec::new();
    for (name, member) in &members {
        for import in &member.imports {
            let Some(target) = members.get(import) else {
                continue;
            };
            if let Some(reason) = refusal(&member.path, &target.path) {
                problems.push(format!(
                    "{}: imports {import} ({}): {reason}",
                    name, target.path
                ));
            }
        }
    }
    Ok(problems)
}

/// Why `from` may not import `to`, or `None` when it may.
fn refusal(from: &str, to: &str) -> Option<&'static str> {
    let (Some(from_rank), Some(to_rank)) = (rank(from), rank(to)) else {
        return None;
    };
    let (from_group, to_group) = (group(from), group(to));
    if to_rank > from_rank {
        return Some("imports go downwards only");
    }
    if to_rank == from_rank && from_group != to_group {
        return Some("registry, net and run never import each other");
    }
    if from_group == "edge" && to_group == "engine" {
        return match from {
            "crates/edge/http" if to == "crates/engine/api-traits" => None,
            "crates/edge/http" => Some("edge/http knows the engine only through api-traits"),
            _ => Some("client, compose and cli never import the engine"),
        };
    }
    None
}

fn group(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

fn rank(path: &str) -> Option<u8> {
    if path.starts_with("bin/") {
        return Some(9);
    }
    match group(path) {
        "base" => Some(0),
        "os" => Some(1),
        "store" => Some(2),
        "registry" | "net" | "run" => Some(3),
        "engine" => Some(4),
        "edge" => Some(5),
        _ => None,
    }
}

fn read_members(root: &Path) -> Result<BTreeMap<String, Member>> {
    let mut members = BTreeMap::new();
    for manifest in manifests(root)? {
        let text = fs_err::read_to_string(&manifest)?;
        let folder = manifest.parent().context("a manifest lies in a folder")?;
        let path = folder.strip_prefix(root)?.to_string_lossy().into_owned();
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("name = "))
            .with_context(|| format!("{}: no package name", manifest.display()))?;
        let member = Member {
            path,
            imports: normal_dependencies(&text),
        };
        members.insert(name.trim_matches('"').to_owned(), member);
    }
    Ok(members)
}

/// The names in `[dependencies]`; what tests use is not part of the architecture.
fn normal_dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && line.starts_with("havre") {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            names.push(name.to_owned());
        }
    }
    names
}

/// Every member's manifest: two levels below `crates`, one below `bin` and `tests`, and xtask's own.
pub(crate) fn manifests(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.join("xtask/Cargo.toml")];
    for place in [
        "bin",
        "tests",
        "crates/base",
        "crates/os",
        "crates/store",
        "crates/run",
    ]
    .into_iter()
    .chain([
        "crates/registry",
        "crates/net",
        "crates/engine",
        "crates/edge",
    ]) {
        let Ok(entries) = fs_err::read_dir(root.join(place)) else {
            continue;
        };
        for entry in entries {
            let manifest = entry?.path().join("Cargo.toml");
            if manifest.exists() {
                found.push(manifest);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_go_down_only() {
        assert_eq!(refusal("crates/engine/engine", "crates/store/image"), None);
        assert_eq!(refusal("bin/havred", "crates/engine/engine"), None);
        assert!(refusal("crates/store/image", "crates/engine/engine").is_some());
        assert!(refusal("crates/run/shim", "crates/registry/client").is_some());
        assert!(refusal("crates/edge/cli", "crates/engine/api-traits").is_some());
        assert!(refusal("crates/edge/http", "crates/engine/engine").is_some());
        assert_eq!(
            refusal("crates/edge/http", "crates/engine/api-traits"),
            None
        );
    }

    #[test]
    fn only_normal_dependencies_count() {
        let manifest = "[dependencies]\nhavre-sys.workspace = true\nserde = \"1\"\n\n\
                        [dev-dependencies]\nhavre-engine.workspace = true\n";
        assert_eq!(normal_dependencies(manifest), ["havre-sys"]);
    }
}
