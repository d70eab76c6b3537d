//! `--add-runtime` and `runtimes` of the configuration file, with dockerd's messages
//! (<https://github.com/moby/moby/blob/master/daemon/config/opts_runtime.go> and `setupRuntimes`).

use std::path::PathBuf;

use havre_engine::{OWN_RUNTIME, OciRuntime, Runtimes};
use serde_json::Value;

/// Why the runtimes make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuntimeError {
    #[error("invalid runtime argument: {0}")]
    Argument(String),
    #[error("runtime name '{0}' is reserved")]
    Reserved(String),
    #[error("runtime '{0}' was already defined")]
    Twice(String),
    #[error("runtime {0}: either a runtimeType or a path must be configured")]
    Nothing(String),
    #[error(
        "runtime {0}: a runtimeType is not supported by Havre, name the runtime's program with path"
    )]
    Shim(String),
    #[error("runtime {name}: {reason}")]
    Document { name: String, reason: String },
    #[error("specified default runtime '{0}' does not exist")]
    Default(String),
}

/// Reads `NAME=PATH`, or `NAME={…}` as the configuration file has it.
pub(crate) fn read(given: &[String], default: Option<String>) -> Result<Runtimes, RuntimeError> {
    let mut runtimes = Runtimes::default();
    for entry in given {
        let (name, value) = entry
            .split_once('=')
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim()))
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or_else(|| RuntimeError::Argument(entry.clone()))?;
        if name == OWN_RUNTIME {
            return Err(RuntimeError::Reserved(name));
        }
        let program = if value.starts_with('{') {
            described(&name, value)?
        } else {
            OciRuntime {
                path: PathBuf::from(value),
                args: Vec::new(),
            }
        };
        if runtimes.programs.insert(name.clone(), program).is_some() {
            return Err(RuntimeError::Twice(name));
        }
    }
    if let Some(default) = default {
        if runtimes.check(&default).is_err() {
            return Err(RuntimeError::Default(default));
        }
        runtimes.default = default;
    }
    Ok(runtimes)
}

fn described(name: &str, text: &str) -> Result<OciRuntime, RuntimeError> {
    let wrong = |reason: String| RuntimeError::Document {
        name: name.to_owned(),
        reason,
    };
    let described: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let field = |key: &str| {
        described
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if !field("runtimeType").is_empty() {
        return Err(RuntimeError::Shim(name.to_owned()));
    }
    if field("path").is_empty() {
        return Err(RuntimeError::Nothing(name.to_owned()));
    }
    let args = match described.get("runtimeArgs") {
        None | Some(Value::Null) => Vec::new(),
        Some(args) => serde_json::from_value(args.clone())
            .map_err(|error| wrong(format!("runtimeArgs: {error}")))?,
    };
    Ok(OciRuntime {
        path: PathBuf::from(field("path")),
        args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(given: &[&str], default: Option<&str>) -> String {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        match read(&given, default.map(str::to_owned)) {
            Ok(runtimes) => format!("{} {:?}", runtimes.default, runtimes.programs),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn programs_come_by_flag_and_by_file() {
        let text = said(
            &[
                "crun=/usr/bin/crun",
                r#"x={"path":"runsc","runtimeArgs":["--debug"]}"#,
            ],
            Some("crun"),
        );
        assert_eq!(
            text,
            r#"crun {"crun": OciRuntime { path: "/usr/bin/crun", args: [] }, "x": OciRuntime { path: "runsc", args: ["--debug"] }}"#
        );
    }

    #[test]
    fn what_makes_no_sense_is_said_as_dockerd_does() {
        let texts = [
            said(&["crun"], None),
            said(&["=x"], None),
            said(&["havre=/x"], None),
            said(&["a=/x", "a=/y"], None),
            said(&["a={}"], None),
            said(&[r#"a={"runtimeType":"io.containerd.x.v1"}"#], None),
            said(&[], Some("nope")),
        ];
        let expected = [
            "invalid runtime argument: crun",
            "invalid runtime argument: =x",
            "runtime name 'havre' is reserved",
            "runtime 'a' was already defined",
            "runtime a: either a runtimeType or a path must be configured",
            "runtime a: a runtimeType is not supported by Havre, name the runtime's program with path",
            "specified default runtime 'nope' does not exist",
        ];
        assert_eq!(texts, expected);
    }
}
