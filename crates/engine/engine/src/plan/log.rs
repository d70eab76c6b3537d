//! The log of a container: defaults, Docker's checks, the tag and attributes, and what the shim is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use havre_api_traits::ApiError;
use havre_engine_types::{ContainerConfig, LogConfig};
use havre_logs::options::{self, Driver, LogSettings, OptionMap};
use havre_logs::{Origin, Sink};
use havre_shim_proto::LogOptions;
use havre_template::Template;
use havre_types::{ContainerId, Timestamp};
use serde_json::json;

/// What containers get that say nothing else, and where logs go on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDefaults {
    /// The driver (`--log-driver`).
    pub driver: String,
    /// Its options (`--log-opt`).
    pub options: OptionMap,
    /// Socket of the systemd journal.
    pub journal: PathBuf,
}

impl Default for LogDefaults {
    fn default() -> Self {
        Self {
            driver: "json-file".to_owned(),
            options: OptionMap::new(),
            journal: "/run/systemd/journal/socket".into(),
        }
    }
}

/// The container whose log it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub id: &'a ContainerId,
    pub name: &'a str,
    pub created: Timestamp,
    /// Id of its image.
    pub image: &'a str,
    pub config: &'a ContainerConfig,
    /// Name of the machine.
    pub hostname: &'a str,
}

/// The tag of drivers that always have one
/// (<https://github.com/moby/moby/blob/master/daemon/logger/loggerutils/log_tag.go>).
const DEFAULT_TAG: &str = "{{.ID}}";

/// Writes down the engine's defaults, as Docker merges them: options of its driver for the same driver only, options of
/// the local copy for every one.
pub(crate) fn settle(log: &mut LogConfig, defaults: &LogDefaults) {
    if log.kind.is_empty() {
        log.kind.clone_from(&defaults.driver);
    }
    let options = log.config.get_or_insert_default();
    for (key, value) in &defaults.options {
        if log.kind == defaults.driver || options::is_cache_option(key) {
            let option = options.entry(key.clone());
            option.or_insert_with(|| value.clone());
        }
    }
}

/// Checks all that can be known before the container starts.
pub(crate) fn check(log: &LogConfig, subject: Subject<'_>) -> Result<LogSettings, ApiError> {
    let none = OptionMap::new();
    let options = log.config.as_ref().unwrap_or(&none);
    let settings =
        options::check(&log.kind, options).map_err(|error| ApiError::invalid(error.to_string()))?;
    if settings.driver != Driver::None {
        attributes(options, subject.config)?;
        tag(options, DEFAULT_TAG, subject)?;
    }
    Ok(settings)
}

/// Where a log that `docker logs` can read lies in the container's directory.
pub(crate) fn file(data: &Path, id: &ContainerId, driver: &str) -> PathBuf {
    match driver {
        "json-file" => data.join(format!("{id}-json.log")),
        "local" => data.join("container-local.log"),
        _ => data.join("container-cached.log"),
    }
}

/// What the shim is told.
pub(crate) fn for_shim(
    log: &LogConfig,
    defaults: &LogDefaults,
    subject: Subject<'_>,
    places: (&Path, &Path),
) -> Result<LogOptions, ApiError> {
    let settings = check(log, subject)?;
    let (data, helper) = places;
    let none = OptionMap::new();
    let options = log.config.as_ref().unwrap_or(&none);
    if settings.driver == Driver::None {
        return Ok(LogOptions {
            driver: log.kind.clone(),
            ..LogOptions::default()
        });
    }
    let mut attrs = attributes(options, subject.config)?;
    let mut answer = LogOptions {
        driver: "none".to_owned(),
        helper: helper.display().to_string(),
        buffer: settings.buffer,
        ..LogOptions::default()
    };
    if let Some(limits) = settings.files {
        let format = if settings.driver == Driver::JsonFile {
            "json-file"
        } else {
            "local"
        };
        format.clone_into(&mut answer.driver);
        answer.path = file(data, subject.id, &log.kind).display().to_string();
        answer.max_size = limits.max_size;
        answer.max_file = limits.max_file;
        answer.compress = limits.compress;
    }
    if settings.driver.is_remote() {
        let sink = Sink {
            driver: log.kind.clone(),
            options: options.clone(),
            tag: tag(options, DEFAULT_TAG, subject)?,
            attrs: attrs.clone(),
            hostname: subject.hostname.to_owned(),
            journal: defaults.journal.clone(),
            container: origin(subject),
        };
        answer.sink = serde_json::to_string(&sink).map_err(|error| {
            ApiError::internal(format!("failed to write the log's sink: {error}"))
        })?;
    } else if options.get("tag").is_some_and(|tag| !tag.is_empty()) {
        let text = tag(options, "", subject)?;
        if !text.is_empty() {
            attrs.insert("tag".to_owned(), text);
        }
    }
    answer.attrs = attrs.into_iter().collect();
    Ok(answer)
}

fn words(config: &ContainerConfig) -> Vec<&str> {
    let words = config.entrypoint.iter().chain(&config.cmd).flatten();
    words.map(String::as_str).collect()
}

fn origin(subject: Subject<'_>) -> Origin {
    Origin {
        id: subject.id.to_string(),
        name: subject.name.to_owned(),
        image: subject.config.image.clone(),
        image_id: subject.image.to_owned(),
        command: words(subject.config).join(" "),
        created: subject.created,
    }
}

/// As Docker says what it finds only when it starts the driver.
fn refused(text: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("failed to initialize logging driver: {text}"))
}

/// Labels and variables that the options choose
/// (<https://github.com/moby/moby/blob/master/daemon/logger/loginfo.go>).
fn attributes(
    options: &OptionMap,
    config: &ContainerConfig,
) -> Result<BTreeMap<String, String>, ApiError> {
    let labels: Vec<(&str, &str)> = config
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let env: Vec<(&str, &str)> = config
        .env
        .iter()
        .flatten()
        .filter_map(|entry| entry.split_once('='))
        .collect();
    let mut chosen = BTreeMap::new();
    for (pairs, list, pattern) in [
        (labels, "labels", "labels-regex"),
        (env, "env", "env-regex"),
    ] {
        let text = |name: &str| options.get(name).map_or("", String::as_str);
        let names: Vec<&str> = text(list).split(',').collect();
        let pattern = match text(pattern) {
            "" => None,
            text => Some(regex(text)?),
        };
        for (key, value) in pairs {
            let matches = || {
                pattern
                    .as_ref()
                    .is_some_and(|pattern| pattern.is_match(key))
            };
            if names.contains(&key) || matches() {
                chosen.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    Ok(chosen)
}

fn regex(text: &str) -> Result<regex::Regex, ApiError> {
    let built = regex::RegexBuilder::new(text).size_limit(1 << 20).build();
    built.map_err(|error| {
        // The last line names the cause; those before it draw the place.
        let whole = error.to_string();
        let cause = whole.lines().last().unwrap_or_default();
        let cause = cause.strip_prefix("error: ").unwrap_or(cause);
        refused(format!("error parsing regexp: {cause}: `{text}`"))
    })
}

/// The tag, from the option's template or `default`.
fn tag(options: &OptionMap, default: &str, subject: Subject<'_>) -> Result<String, ApiError> {
    let text = options.get("tag").filter(|text| !text.is_empty());
    let text = text.map_or(default, String::as_str);
    let plain = match text {
        "" => Some(String::new()),
        DEFAULT_TAG => Some(subject.id.short().to_owned()),
        _ if !text.contains("{{") => Some(text.to_owned()),
        _ => None,
    };
    if let Some(plain) = plain {
        return Ok(plain);
    }
    let failed =
        |error: havre_template::TemplateError| refused(in_dockers_words(&error.to_string()));
    let data = facts(subject, options);
    Template::parse(text)
        .and_then(|template| template.render(&data))
        .map_err(failed)
}

fn facts(subject: Subject<'_>, options: &OptionMap) -> serde_json::Value {
    let bare = subject.image.rsplit(':').next().unwrap_or_default();
    let words = words(subject.config);
    let (path, args) = words.split_first().unwrap_or((&"", &[]));
    json!({
        "ID": subject.id.short(),
        "FullID": subject.id.as_str(),
        "Name": subject.name,
        "ImageID": bare.get(..12).unwrap_or(bare),
        "ImageFullID": subject.image,
        "ImageName": subject.config.image,
        "Command": words.join(" "),
        "Hostname": subject.hostname,
        "DaemonName": "docker",
        "Config": options,
        "ContainerID": subject.id.as_str(),
        "ContainerName": format!("/{}", subject.name),
        "ContainerEntrypoint": path,
        "ContainerArgs": args,
        "ContainerImageID": subject.image,
        "ContainerImageName": subject.config.image,
        "ContainerCreated": subject.created.rfc3339(),
        "ContainerEnv": subject.config.env,
        "ContainerLabels": subject.config.labels,
        "LogPath": "",
    })
}

/// Docker calls the template `log-tag`, and its data is a structure of Go.
fn in_dockers_words(error: &str) -> String {
    let text = error
        .strip_prefix("template parsing error: ")
        .unwrap_or(error)
        .replacen("template: :", "template: log-tag:", 1)
        .replacen("executing \"\"", "executing \"log-tag\"", 1);
    match text.split_once("map has no entry for key \"") {
        Some((before, key)) => {
            let key = key.trim_end_matches('"');
            format!("{before}can't evaluate field {key} in type *logger.Info")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ContainerConfig {
        let pairs = [("com.a", "1"), ("com.b", "2"), ("other", "3")];
        ContainerConfig {
            image: "busybox:latest".to_owned(),
            cmd: Some(vec!["echo".to_owned(), "hi".to_owned()]),
            env: Some(vec![
                "A=x".to_owned(),
                "BB=y=z".to_owned(),
                "PLAIN".to_owned(),
            ]),
            labels: Some(
                pairs
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            ),
            ..ContainerConfig::default()
        }
    }

    fn planned(driver: &str, options: &[(&str, &str)]) -> Result<LogOptions, String> {
        let config = config();
        let id = ContainerId::from_bytes([0xab; 32]);
        let subject = Subject {
            id: &id,
            name: "box",
            created: Timestamp { secs: 0, nanos: 0 },
            image: "sha256:0123456789abcdef",
            config: &config,
            hostname: "host",
        };
        let pairs = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let log = LogConfig {
            kind: driver.to_owned(),
            config: Some(pairs.collect()),
        };
        let places = (Path::new("/data"), Path::new("/bin/helper"));
        for_shim(&log, &LogDefaults::default(), subject, places).map_err(|error| error.message)
    }

    fn attrs(options: &[(&str, &str)]) -> Vec<String> {
        let planned = planned("json-file", options).expect("valid");
        let mut attrs: Vec<_> = planned
            .attrs
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        attrs.sort();
        attrs
    }

    #[test]
    fn attributes_are_those_that_options_choose() {
        assert_eq!(attrs(&[]), [""; 0]);
        assert_eq!(attrs(&[("labels", "com.a,none")]), ["com.a=1"]);
        assert_eq!(
            attrs(&[
                ("labels-regex", "^com"),
                ("env", "BB"),
                ("env-regex", "^A$")
            ]),
            ["A=x", "BB=y=z", "com.a=1", "com.b=2"]
        );
        assert_eq!(
            attrs(&[("tag", "{{.Name}}/{{.ImageName}}")]),
            ["tag=box/busybox:latest"]
        );
    }

    #[test]
    fn tags_know_what_dockers_know() {
        let tag = |text: &str| attrs(&[("tag", text)]).concat();
        for (text, expected) in [
            ("{{.ID}}", "abababababab"),
            ("{{.ImageID}}", "0123456789ab"),
            ("{{.ImageFullID}}", "sha256:0123456789abcdef"),
            ("{{.DaemonName}} {{.Command}}", "docker echo hi"),
            ("{{.Hostname}}", "host"),
            ("{{index .ContainerLabels \"com.a\"}}", "1"),
            ("plain", "plain"),
        ] {
            assert_eq!(tag(text), format!("tag={expected}"));
        }
    }

    #[test]
    fn refusals_are_dockers() {
        let begin = "failed to initialize logging driver: ";
        for (options, expected) in [
            (
                ("tag", "{{.Foo}}"),
                "template: log-tag:1:2: executing \"log-tag\" at <.Foo>: can't evaluate field Foo in type *logger.Info",
            ),
            (("tag", "{{"), "template: log-tag:1: unclosed action"),
        ] {
            assert_eq!(
                planned("json-file", &[options]),
                Err(format!("{begin}{expected}"))
            );
        }
        let wrong = planned("local", &[("labels-regex", "[")]).expect_err("no pattern");
        assert!(
            wrong.starts_with(&format!("{begin}error parsing regexp: ")),
            "{wrong}"
        );
    }

    #[test]
    fn a_remote_log_has_a_sink_and_a_copy() {
        let planned = planned("syslog", &[("mode", "non-blocking"), ("env", "A")]).expect("valid");
        assert_eq!(
            (
                planned.driver.as_str(),
                planned.path.as_str(),
                planned.buffer
            ),
            ("local", "/data/container-cached.log", Some(1_000_000))
        );
        let sink: Sink = serde_json::from_str(&planned.sink).expect("a sink");
        assert_eq!(
            (sink.tag.as_str(), sink.container.command.as_str()),
            ("abababababab", "echo hi")
        );
        assert_eq!(sink.attrs.get("A").map(String::as_str), Some("x"));
    }

    #[test]
    fn defaults_of_the_engine_are_for_its_driver() {
        let pairs = [("max-size", "1m"), ("cache-disabled", "true")];
        let defaults = LogDefaults {
            options: pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..LogDefaults::default()
        };
        let settled = |kind: &str| {
            let mut log = LogConfig {
                kind: kind.to_owned(),
                config: None,
            };
            settle(&mut log, &defaults);
            let keys = log.config.into_iter().flatten().map(|(key, _)| key);
            (log.kind, keys.collect::<Vec<_>>())
        };
        let all = vec!["cache-disabled".to_owned(), "max-size".to_owned()];
        assert_eq!(settled(""), ("json-file".to_owned(), all));
        assert_eq!(
            settled("syslog"),
            ("syslog".to_owned(), vec!["cache-disabled".to_owned()])
        );
    }
}
