//! Settings: flags and configuration file made one, with dockerd's rules: what the file does not know or
//! both give is refused, never merged or ignored.

mod network;

use std::path::{Path, PathBuf};

use havre_engine::{LogDefaults, NetworkDefaults, Runtimes};
use havre_http::{Host, ListenError};
use havre_logs::options::{LogOptionError, check};
use havre_types::Digest;
use serde_json::{Map, Value as Json};

use crate::options::{Kind, UNSUPPORTED, Value, Values, by_name, options};
use crate::runtimes::RuntimeError;

/// Where the configuration file is looked for.
const DEFAULT_FILE: &str = "/etc/havre/daemon.json";
const DEFAULT_DATA_ROOT: &str = "/var/lib/havre";
const DEFAULT_EXEC_ROOT: &str = "/run/havre";
const DEFAULT_CDI: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
const DEFAULT_HOST: &str = "unix:///run/havre/havre.sock";

/// Everything that the engine's process needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) data_root: PathBuf,
    pub(crate) exec_root: PathBuf,
    pub(crate) hosts: Vec<Host>,
    /// The group of unix sockets; None means the default one, if it exists.
    pub(crate) group: Option<String>,
    pub(crate) pidfile: PathBuf,
    pub(crate) shim: Option<PathBuf>,
    pub(crate) init: bool,
    pub(crate) init_path: Option<PathBuf>,
    /// CRIU; without it the one in PATH.
    pub(crate) criu: Option<PathBuf>,
    pub(crate) log_level: LogLevel,
    pub(crate) log_json: bool,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) registry_mirrors: Vec<String>,
    /// Where descriptions of devices are.
    pub(crate) cdi_spec_dirs: Vec<PathBuf>,
    pub(crate) runtimes: Runtimes,
    pub(crate) labels: Vec<String>,
    /// Logs of containers that say nothing else.
    pub(crate) container_logs: LogDefaults,
    pub(crate) network: NetworkDefaults,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("unable to configure the Docker daemon with file {path}: {reason}")]
    File { path: String, reason: String },
    #[error(transparent)]
    Host(ListenError),
    #[error("invalid logging level: {0}")]
    LogLevel(String),
    #[error("invalid log format: {0}")]
    LogFormat(String),
    #[error("bad attribute format: {0}")]
    Label(String),
    #[error("failed to set log opts: {0}")]
    LogOption(LogOptionError),
    #[error(transparent)]
    Runtime(RuntimeError),
    #[error(transparent)]
    Network(network::NetworkConfigError),
    #[error("conflict labels for {0}")]
    LabelConflict(String),
    #[error("invalid mirror: {0}")]
    Mirror(String),
    #[error("--live-restore=false is not supported: containers always outlive the engine")]
    LiveRestore,
    #[error("--experimental=false is not supported: checkpoints are always offered")]
    Experimental,
    #[error("the {0} must be an absolute path")]
    Relative(&'static str),
}

impl Settings {
    /// The settings that `flags` and the file which they name or imply give together.
    pub(crate) fn load(flags: Values) -> Result<Self, ConfigError> {
        let named = text(&flags, "config-file");
        let path = named.as_deref().unwrap_or(DEFAULT_FILE);
        let fail = |reason| ConfigError::File {
            path: path.to_owned(),
            reason,
        };
        let content = match fs_err::read_to_string(path) {
            Ok(content) => content,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                String::new()
            }
            Err(error) => return Err(fail(error.to_string())),
        };
        Self::from_values(&merge(flags, &content).map_err(fail)?)
    }

    fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let data_root = absolute(values, "data-root", DEFAULT_DATA_ROOT)?;
        let exec_root = absolute(values, "exec-root", DEFAULT_EXEC_ROOT)?;
        let mut hosts = list(values, "host");
        hosts.retain(|host| !host.trim().is_empty());
        if hosts.is_empty() {
            hosts.push(DEFAULT_HOST.to_owned());
        }
        let hosts = hosts
            .iter()
            .map(|host| host.trim().parse())
            .collect::<Result<_, _>>();
        if values.get("live-restore") == Some(&Value::Flag(false)) {
            return Err(ConfigError::LiveRestore);
        }
        if values.get("experimental") == Some(&Value::Flag(false)) {
            return Err(ConfigError::Experimental);
        }
        Ok(Self {
            hosts: hosts.map_err(ConfigError::Host)?,
            group: text(values, "group"),
            pidfile: text(values, "pidfile")
                .map_or_else(|| exec_root.join("havred.pid"), PathBuf::from),
            shim: text(values, "shim").map(PathBuf::from),
            init: values.get("init") == Some(&Value::Flag(true)),
            init_path: text(values, "init-path").map(PathBuf::from),
            criu: text(values, "criu").map(PathBuf::from),
            log_level: log_level(values)?,
            log_json: log_json(values)?,
            insecure_registries: list(values, "insecure-registry"),
            registry_mirrors: mirrors(list(values, "registry-mirror"))?,
            labels: labels(list(values, "label"))?,
            container_logs: container_logs(values)?,
            network: network::read(values).map_err(ConfigError::Network)?,
            cdi_spec_dirs: cdi_spec_dirs(values)?,
            runtimes: crate::runtimes::read(
                &list(values, "add-runtime"),
                text(values, "default-runtime"),
            )
            .map_err(ConfigError::Runtime)?,
            data_root,
            exec_root,
        })
    }

    /// The name that tells this engine's objects in the kernel from those of others on the host.
    pub(crate) fn instance(&self) -> String {
        if self.data_root == Path::new(DEFAULT_DATA_ROOT) {
            return "havre".to_owned();
        }
        let digest = Digest::sha256_of(self.data_root.as_os_str().as_encoded_bytes());
        format!("havre-{}", digest.hex().get(..8).unwrap_or_default())
    }
}

/// Adds what the file gives to the flags.
fn merge(mut flags: Values, content: &str) -> Result<Values, String> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content).trim();
    if content.is_empty() {
        return Ok(flags);
    }
    let document: Map<String, Json> =
        serde_json::from_str(content).map_err(|error| format!("invalid JSON: {error}"))?;
    let known = |key: &str| options().find(|spec| spec.key == Some(key));
    let unsupported = |key: &str| {
        UNSUPPORTED
            .iter()
            .any(|(flag, name)| *name == key || (name.is_empty() && *flag == key))
    };
    let refused = |keep: &dyn Fn(&str) -> bool| {
        let keys: Vec<&str> = document
            .keys()
            .map(String::as_str)
            .filter(|key| keep(key))
            .collect();
        (!keys.is_empty()).then(|| keys.join(", "))
    };
    if let Some(keys) = refused(&|key| known(key).is_none() && !unsupported(key)) {
        return Err(format!(
            "the following directives don't match any configuration option: {keys}"
        ));
    }
    if let Some(keys) = refused(&unsupported) {
        return Err(format!(
            "the following directives are not supported by Havre yet: {keys}"
        ));
    }
    let mut conflicts = Vec::new();
    for (key, json) in &document {
        let Some(spec) = known(key) else { continue };
        let value = typed(key, json, spec.kind)?;
        match flags.get(spec.name) {
            Some(flag) => conflicts.push(format!("{key}: (from flag: {flag}, from file: {value})")),
            None => {
                flags.insert(spec.name, value);
            }
        }
    }
    if conflicts.is_empty() {
        return Ok(flags);
    }
    Err(format!(
        "the following directives are specified both as a flag and in the configuration file: {}",
        conflicts.join(", ")
    ))
}

fn typed(key: &str, json: &Json, kind: Kind) -> Result<Value, String> {
    let value = match (kind, json) {
        (Kind::Flag, Json::Bool(on)) => Some(Value::Flag(*on)),
        (Kind::Text, Json::String(text)) => Some(Value::Text(text.clone())),
        (Kind::Number, Json::Number(number)) if number.is_i64() => {
            Some(Value::Text(number.to_string()))
        }
        (Kind::List, Json::Array(items)) => {
            let items = items.iter().map(|item| item.as_str().map(str::to_owned));
            items.collect::<Option<_>>().map(Value::List)
        }
        (Kind::Map, Json::Object(pairs)) => strings(pairs).map(Value::List),
        (Kind::Objects, Json::Object(pairs)) => {
            let pairs = pairs.iter().map(|(key, value)| {
                let object = value.as_object();
                object.map(|_| format!("{key}={value}"))
            });
            pairs.collect::<Option<Vec<_>>>().map(Value::List)
        }
        (Kind::Maps, Json::Object(roots)) => {
            let all = roots.iter().map(|(root, pairs)| {
                let pairs = strings(pairs.as_object()?)?.into_iter();
                Some(
                    pairs
                        .map(|pair| format!("{root}={pair}"))
                        .collect::<Vec<_>>(),
                )
            });
            let all = all.collect::<Option<Vec<_>>>();
            all.map(|all| Value::List(all.into_iter().flatten().collect()))
        }
        (Kind::Records, Json::Array(items)) => {
            let items = items.iter().map(|item| record(item.as_object()?));
            items.collect::<Option<_>>().map(Value::List)
        }
        _ => None,
    };
    let wanted = match kind {
        Kind::Flag => "true or false",
        Kind::Text => "a string",
        Kind::Number => "an integer",
        Kind::List => "a list of strings",
        Kind::Map => "an object of strings",
        Kind::Objects => "an object of objects",
        Kind::Maps => "an object of objects of strings",
        Kind::Records => "a list of objects",
    };
    value.ok_or_else(|| format!("invalid JSON: {key} must be {wanted}"))
}

/// `key=value` of each; None when a value is no string.
fn strings(pairs: &Map<String, Json>) -> Option<Vec<String>> {
    let pairs = pairs.iter().map(|(key, value)| {
        let value = value.as_str()?;
        Some(format!("{key}={value}"))
    });
    pairs.collect()
}

/// `key=value,…` of an object of strings and integers.
fn record(fields: &Map<String, Json>) -> Option<String> {
    let fields = fields.iter().map(|(key, value)| match value {
        Json::String(text) => Some(format!("{key}={text}")),
        Json::Number(number) => Some(format!("{key}={number}")),
        _ => None,
    });
    let fields: Option<Vec<String>> = fields.collect();
    Some(fields?.join(","))
}

fn text(values: &Values, name: &str) -> Option<String> {
    debug_assert!(by_name(name).is_some(), "an option that does not exist");
    match values.get(name) {
        Some(Value::Text(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn list(values: &Values, name: &str) -> Vec<String> {
    debug_assert!(by_name(name).is_some(), "an option that does not exist");
    match values.get(name) {
        Some(Value::List(items)) => items.clone(),
        _ => Vec::new(),
    }
}

fn cdi_spec_dirs(values: &Values) -> Result<Vec<PathBuf>, ConfigError> {
    let given = list(values, "cdi-spec-dir");
    // As for dockerd, one empty directory switches it off.
    let given: Vec<PathBuf> = match given.as_slice() {
        [] => DEFAULT_CDI.map(PathBuf::from).to_vec(),
        [only] if only.is_empty() => Vec::new(),
        several => several.iter().map(PathBuf::from).collect(),
    };
    if given.iter().all(|path| path.is_absolute()) {
        Ok(given)
    } else {
        Err(ConfigError::Relative("cdi-spec-dir"))
    }
}

fn absolute(values: &Values, name: &'static str, default: &str) -> Result<PathBuf, ConfigError> {
    let path = PathBuf::from(text(values, name).unwrap_or_else(|| default.to_owned()));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(ConfigError::Relative(name))
    }
}

fn log_level(values: &Values) -> Result<LogLevel, ConfigError> {
    let level = text(values, "log-level");
    let level = match level.as_deref().unwrap_or("info") {
        "debug" | "trace" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warn" | "warning" => LogLevel::Warn,
        "error" | "fatal" | "panic" => LogLevel::Error,
        other => return Err(ConfigError::LogLevel(other.to_owned())),
    };
    let debug = values.get("debug") == Some(&Value::Flag(true));
    Ok(if debug { LogLevel::Debug } else { level })
}

fn log_json(values: &Values) -> Result<bool, ConfigError> {
    match text(values, "log-format").as_deref() {
        None | Some("text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(ConfigError::LogFormat(other.to_owned())),
    }
}

fn container_logs(values: &Values) -> Result<LogDefaults, ConfigError> {
    let mut logs = LogDefaults::default();
    if let Some(driver) = text(values, "log-driver") {
        logs.driver = driver;
    }
    if let Some(socket) = text(values, "journal-socket") {
        logs.journal = socket.into();
    }
    for pair in list(values, "log-opt") {
        let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
        logs.options.insert(key.to_owned(), value.to_owned());
    }
    check(&logs.driver, &logs.options).map_err(ConfigError::LogOption)?;
    Ok(logs)
}

/// A label is `key=value`, and a key has one value.
fn labels(labels: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let mut seen = std::collections::BTreeMap::new();
    for label in &labels {
        let Some((key, value)) = label.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(ConfigError::Label(label.clone()));
        };
        if seen
            .insert(key, value)
            .is_some_and(|before| before != value)
        {
            return Err(ConfigError::LabelConflict(format!("{key}: {label}")));
        }
    }
    Ok(labels)
}

/// A mirror is the root of a registry, by http or https.
fn mirrors(mirrors: Vec<String>) -> Result<Vec<String>, ConfigError> {
    for mirror in &mirrors {
        let host = mirror
            .strip_prefix("https://")
            .or_else(|| mirror.strip_prefix("http://"));
        let bare = host.map(|host| host.trim_end_matches('/'));
        if bare.is_none_or(|host| host.is_empty() || host.contains(['?', '#', '@'])) {
            return Err(ConfigError::Mirror(mirror.clone()));
        }
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    fn settings(line: &str, file: &str) -> Result<Settings, String> {
        let flags = flags::parse(line.split_whitespace().map(str::to_owned)).unwrap();
        let values = merge(flags, file)?;
        Settings::from_values(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_havres() {
        let defaults = settings("", "").unwrap();
        assert_eq!(defaults.data_root, Path::new("/var/lib/havre"));
        assert_eq!(defaults.hosts, [Host::Unix("/run/havre/havre.sock".into())]);
        assert_eq!(defaults.pidfile, Path::new("/run/havre/havred.pid"));
        assert_eq!(
            (defaults.log_level, defaults.instance().as_str()),
            (LogLevel::Info, "havre")
        );
        let other = settings("--data-root /tmp/x --exec-root /tmp/y", " \n").unwrap();
        assert_eq!(other.pidfile, Path::new("/tmp/y/havred.pid"));
        assert_ne!(
            other.instance(),
            settings("--data-root /tmp/z", "").unwrap().instance()
        );
    }

    #[test]
    fn file_and_flags_complete_each_other() {
        let file = r#"{"hosts": ["tcp://127.0.0.1:1"], "debug": true, "labels": ["a=b"], "insecure-registries": ["r:5000"]}"#;
        let both = settings("--data-root /x -l warn", file).unwrap();
        assert_eq!(both.hosts, [Host::Tcp("127.0.0.1:1".to_owned())]);
        assert_eq!(
            (both.data_root.as_path(), both.log_level),
            (Path::new("/x"), LogLevel::Debug)
        );
        assert_eq!(
            (both.labels, both.insecure_registries),
            (vec!["a=b".to_owned()], vec!["r:5000".to_owned()])
        );
    }

    #[test]
    fn refusals_have_dockerds_words() {
        for (line, file, text) in [
            (
                "",
                r#"{"nope": 1, "debug": true, "also": 2}"#,
                "the following directives don't match any configuration option: nope, also",
            ),
            (
                "",
                r#"{"selinux-enabled": false}"#,
                "the following directives are not supported by Havre yet: selinux-enabled",
            ),
            (
                "-H unix:///a",
                r#"{"hosts": ["tcp://b"]}"#,
                "the following directives are specified both as a flag and in the configuration file: hosts: (from flag: [unix:///a], from file: [tcp://b])",
            ),
            (
                "--data-root /a",
                r#"{"data-root": "/b"}"#,
                "the following directives are specified both as a flag and in the configuration file: data-root: (from flag: /a, from file: /b)",
            ),
            (
                "",
                r#"{"debug": "yes"}"#,
                "invalid JSON: debug must be true or false",
            ),
            ("-l loud", "", "invalid logging level: loud"),
            ("--label x", "", "bad attribute format: x"),
            ("--label x=1 --label x=2", "", "conflict labels for x: x=2"),
            ("--registry-mirror ftp://x", "", "invalid mirror: ftp://x"),
            (
                "--live-restore=false",
                "",
                "--live-restore=false is not supported: containers always outlive the engine",
            ),
            (
                "--data-root x",
                "",
                "the data-root must be an absolute path",
            ),
            ("-H nope", "", "bad format nope, expected PROTO://ADDR"),
        ] {
            assert_eq!(settings(line, file).unwrap_err(), text, "{line} {file}");
        }
        assert!(settings("", "{").unwrap_err().starts_with("invalid JSON: "));
    }
}
