//! Namespaces and security options.

use havre_engine_types::HostConfig;

use super::{ConfigError, Result};
use crate::failure::os_text;
use crate::flags::Matches;

pub(super) fn apply(matches: &Matches, host: &mut HostConfig) -> Result<()> {
    host.pid_mode = mode(matches, "pid", "PID", |mode| {
        mode == "host" || is_container(mode)
    })?;
    host.uts_mode = mode(matches, "uts", "UTS", |mode| mode == "host")?;
    host.userns_mode = mode(matches, "userns", "USER", |mode| mode == "host")?;
    host.cgroupns_mode = mode(matches, "cgroupns", "CGROUP", |mode| {
        matches!(mode, "private" | "host")
    })?;
    let mut options = Vec::new();
    for text in matches.list("security-opt") {
        if text == "systempaths=unconfined" {
            host.masked_paths = Some(Vec::new());
            host.readonly_paths = Some(Vec::new());
        } else {
            options.push(option(text)?);
        }
    }
    host.security_opt = (!options.is_empty()).then_some(options);
    Ok(())
}

fn is_container(mode: &str) -> bool {
    mode.strip_prefix("container:")
        .is_some_and(|name| !name.is_empty())
}

fn mode(
    matches: &Matches,
    flag: &str,
    title: &str,
    valid: impl Fn(&str) -> bool,
) -> Result<String> {
    let mode = matches.text_or_empty(flag);
    if mode.is_empty() || valid(mode) {
        return Ok(mode.to_owned());
    }
    Err(ConfigError::problem(format!(
        "--{flag}: invalid {title} mode"
    )))
}

/// A seccomp profile travels as its text, for the engine may be on another machine.
fn option(text: &str) -> Result<String> {
    let Some((key, value)) = text.split_once('=').or_else(|| text.split_once(':')) else {
        return match text {
            "no-new-privileges" => Ok(text.to_owned()),
            _ => Err(ConfigError::problem(format!(
                "Invalid --security-opt: {text:?}"
            ))),
        };
    };
    if key != "seccomp" || value == "unconfined" || value == "builtin" {
        return Ok(text.to_owned());
    }
    let fail = |error: String| {
        ConfigError::problem(format!("opening seccomp profile ({value}) failed: {error}"))
    };
    let profile = fs_err::read_to_string(value)
        .map_err(|error| fail(format!("open {value}: {}", os_text(&error))))?;
    let profile: serde_json::Value = serde_json::from_str(&profile).map_err(|error| {
        ConfigError::problem(format!(
            "compacting json for seccomp profile ({value}) failed: {error}"
        ))
    })?;
    Ok(format!("seccomp={profile}"))
}
