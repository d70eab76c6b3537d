//! Which engine is asked, and how: flags, the environment, contexts and the configuration file, in that order.

use havre_client::{Client, Endpoint, Options};
use havre_types::Digest;
use serde_json::Value;

use crate::config::Environment;
use crate::config_file::ConfigFile;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;

/// Where the engine listens when nobody says otherwise.
const DEFAULT_HOST: &str = "unix:///run/havre/havre.sock";
/// The context that is no file.
const DEFAULT_CONTEXT: &str = "default";
const LOG_LEVELS: [&str; 8] = [
    "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace",
];

/// What was resolved.
#[derive(Debug)]
pub(crate) struct Connection {
    pub client: Client,
    pub context: String,
    /// Whether nobody named an engine, so that one may be started.
    pub is_default: bool,
}

/// Decides which engine is asked.
pub(crate) fn resolve(
    global: &Matches,
    environment: &Environment,
    config: &ConfigFile,
) -> Outcome<Connection> {
    let level = global.text("log-level").unwrap_or("info");
    if !LOG_LEVELS.contains(&level.to_lowercase().as_str()) {
        return Err(Failure::new(format!(
            "Unable to parse logging level: {level}"
        )));
    }
    let variable = |name: &str| {
        environment
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let hosts: Vec<&str> = global.list("host").collect();
    if global.has("context") && !hosts.is_empty() {
        return Err(Failure::new(
            "conflicting options: cannot specify both --host and --context",
        ));
    }
    if hosts.len() > 1 {
        return Err(Failure::new(
            "Failed to initialize: unable to resolve docker endpoint: Specify only one -H",
        ));
    }
    let from_flag = hosts.first().copied().filter(|host| !host.is_empty());
    let from_environment = || variable("HAVRE_HOST").or_else(|| variable("DOCKER_HOST"));
    let named_context = global.text("context").filter(|name| !name.is_empty());
    let context = match named_context {
        Some(context) => context,
        None if from_flag.is_some() || from_environment().is_some() => DEFAULT_CONTEXT,
        None => variable("DOCKER_CONTEXT")
            .or(Some(config.current_context.as_str()).filter(|name| !name.is_empty()))
            .unwrap_or(DEFAULT_CONTEXT),
    };
    let host = if context == DEFAULT_CONTEXT {
        // The name of the default context means what the environment says, as without the flag.
        from_flag.or_else(from_environment).map(str::to_owned)
    } else {
        Some(host_of_context(config, context)?)
    };
    let endpoint = Endpoint::parse(host.as_deref().unwrap_or(DEFAULT_HOST))
        .map_err(|error| Failure::new(error.to_string()))?;
    let wants_tls = ["tls", "tlsverify"].iter().any(|flag| global.on(flag))
        || ["DOCKER_TLS", "DOCKER_TLS_VERIFY"]
            .iter()
            .any(|name| variable(name).is_some());
    if wants_tls && matches!(endpoint, Endpoint::Tcp { .. }) {
        return Err(Failure::new(format!(
            "cannot connect to {endpoint} with TLS: this client has none yet; use a unix:// address, or a tunnel"
        )));
    }
    let options = Options {
        api_version: api_version(variable("DOCKER_API_VERSION").unwrap_or_default())?,
        headers: headers(variable("DOCKER_CUSTOM_HEADERS"), config)?,
    };
    Ok(Connection {
        client: Client::with_options(endpoint, options),
        context: context.to_owned(),
        is_default: host.is_none(),
    })
}

/// The address in the file of a context, whose directory is named by the digest of the context's name
/// (<https://docs.docker.com/engine/manage-resources/contexts/>).
fn host_of_context(config: &ConfigFile, context: &str) -> Outcome<String> {
    let fail = |cause: String| {
        Failure::new(format!(
            "Failed to initialize: unable to resolve docker endpoint: context {context:?}: {cause}"
        ))
    };
    let dir = config.path().trim_end_matches("config.json");
    let digest = Digest::sha256_of(context.as_bytes());
    let path = format!("{dir}contexts/meta/{}/meta.json", digest.hex());
    let text = match fs_err::read(&path) {
        Ok(text) => text,
        Err(error) => {
            let cause = crate::failure::os_text(&error);
            return Err(fail(format!("context not found: open {path}: {cause}")));
        }
    };
    let meta: Value =
        serde_json::from_slice(&text).map_err(|error| fail(format!("{path}: {error}")))?;
    match meta
        .pointer("/Endpoints/docker/Host")
        .and_then(Value::as_str)
    {
        Some(host) if !host.is_empty() => Ok(host.to_owned()),
        _ => Err(fail(format!("{path} names no engine"))),
    }
}

fn api_version(text: &str) -> Outcome<String> {
    let version = text.trim_start_matches('v');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match version.split_once('.') {
        None if version.is_empty() => Ok(String::new()),
        Some((major, minor)) if is_number(major) && is_number(minor) => Ok(version.to_owned()),
        _ => Err(Failure::new(format!(
            "invalid API version ({text}): must be formatted <major>.<minor>"
        ))),
    }
}

/// Headers of the environment, `name=value` parted by commas, in place of those of the configuration file.
fn headers(variable: Option<&str>, config: &ConfigFile) -> Outcome<Vec<(String, String)>> {
    let Some(text) = variable else {
        let configured = config.http_headers.iter();
        return Ok(configured
            .filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect());
    };
    let fail = |cause: &str| {
        Failure::new(format!(
            "failed to parse custom headers from DOCKER_CUSTOM_HEADERS environment variable: {cause}"
        ))
    };
    let mut headers = Vec::new();
    for field in text.split(',') {
        let field = field.trim().trim_matches('"');
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        if name.trim().is_empty() {
            return Err(fail("value contains a header without a name"));
        }
        if !field.contains('=') {
            return Err(fail(&format!("missing `=` in header {name:?}")));
        }
        headers.push((name.trim().to_owned(), value.to_owned()));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;
    use crate::spec::GLOBAL;

    fn resolved(args: &[&str], environment: &[(&str, &str)], config: &ConfigFile) -> String {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let matches = flags::parse(GLOBAL, &args, false).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        match resolve(&matches, &environment, config) {
            Ok(connection) => {
                format!("{} {}", connection.context, connection.client.endpoint())
            }
            Err(failure) => failure.message,
        }
    }

    /// A configuration whose context `far` is the current one.
    fn with_context() -> (tempfile::TempDir, ConfigFile) {
        let dir = tempfile::tempdir().unwrap();
        let id = Digest::sha256_of(b"far");
        let meta = dir.path().join("contexts/meta").join(id.hex());
        fs_err::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:1"}}}"#;
        fs_err::write(meta.join("meta.json"), text).unwrap();
        let text = r#"{"currentContext":"far"}"#;
        fs_err::write(dir.path().join("config.json"), text).unwrap();
        let (config, _) = ConfigFile::load(dir.path().to_str(), &Environment::new());
        (dir, config)
    }

    #[test]
    fn the_engine_that_is_named_is_asked() {
        let (_dir, far) = with_context();
        let none = ConfigFile::default();
        let default = "default unix:///run/havre/havre.sock";
        let variable = [("DOCKER_HOST", "tcp://b:1")];
        let context = [("DOCKER_CONTEXT", "default")];
        assert_eq!(resolved(&[], &[], &none), default);
        assert_eq!(
            resolved(&["-H", "tcp://a:1"], &variable, &far),
            "default tcp://a:1"
        );
        assert_eq!(resolved(&[], &variable, &far), "default tcp://b:1");
        assert_eq!(resolved(&[], &[], &far), "far tcp://far:1");
        assert_eq!(resolved(&[], &context, &far), default);
        assert_eq!(resolved(&["-c", "far"], &variable, &far), "far tcp://far:1");
        assert_eq!(
            resolved(&["--tls", "-H", "unix:///s"], &[], &none),
            "default unix:///s"
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let (_dir, far) = with_context();
        let none = ConfigFile::default();
        for (args, expected) in [
            (
                &["-c", "far", "-H", "tcp://a:1"][..],
                "conflicting options: cannot specify both --host and --context",
            ),
            (
                &["-H", "tcp://a:1", "-H", "tcp://b:1"],
                "Failed to initialize: unable to resolve docker endpoint: Specify only one -H",
            ),
            (&["-l", "loud"], "Unable to parse logging level: loud"),
            (
                &["-H", "tcp://a:1", "--tlsverify"],
                "cannot connect to tcp://a:1 with TLS: this client has none yet; use a unix:// address, or a tunnel",
            ),
        ] {
            assert_eq!(resolved(args, &[], &none), expected, "{args:?}");
        }
        assert_eq!(
            resolved(&[], &[("DOCKER_API_VERSION", "nope")], &none),
            "invalid API version (nope): must be formatted <major>.<minor>"
        );
        let missing = resolved(&["-c", "gone"], &[], &far);
        assert!(
            missing.contains("context \"gone\": context not found: open "),
            "{missing}"
        );
    }

    #[test]
    fn headers_come_from_the_environment_or_the_file() {
        let mut config = ConfigFile::default();
        config.http_headers.insert("X-A".to_owned(), "1".to_owned());
        let pairs = |variable| headers(variable, &config);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs(None).unwrap(), [pair("X-A", "1")]);
        assert_eq!(
            pairs(Some("B=2,\"C=3\"")).unwrap(),
            [pair("B", "2"), pair("C", "3")]
        );
        pairs(Some("nothing")).unwrap_err();
    }
}
