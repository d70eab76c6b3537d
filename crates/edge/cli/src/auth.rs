//! Credentials for registries, from Docker's configuration (`~/.docker/config.json`).
//!
//! Only those that lie in the file itself are used; credential helpers are programs, and none is started.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use havre_types::reference::DEFAULT_DOMAIN;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::failure::{Failure, Outcome};

/// The key of Docker Hub in the file, which is older than its name.
const HUB_KEY: &str = "https://index.docker.io/v1/";

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// `user:password`, base64.
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// The value of `X-Registry-Auth` for a registry; `None` when nothing is known of it.
pub(crate) fn header(app: &App, domain: &str) -> Outcome<Option<String>> {
    let environment = |name: &str| app.environment.get(name).filter(|value| !value.is_empty());
    let dir = match app.config_dir.as_ref().or(environment("DOCKER_CONFIG")) {
        Some(dir) => dir.clone(),
        None => match environment("HOME") {
            Some(home) => format!("{home}/.docker"),
            None => return Ok(None),
        },
    };
    let path = format!("{dir}/config.json");
    let text = match fs_err::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::new(error.to_string())),
    };
    let fail =
        |error: serde_json::Error| Failure::new(format!("failed to parse `{path}`: {error}"));
    let config: ConfigFile = serde_json::from_slice(&text).map_err(fail)?;
    Ok(encode(&config, domain))
}

fn encode(config: &ConfigFile, domain: &str) -> Option<String> {
    let key = if domain == DEFAULT_DOMAIN {
        HUB_KEY
    } else {
        domain
    };
    let bare = |name: &str| -> String {
        let name = name
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        name.split('/').next().unwrap_or_default().to_owned()
    };
    let entry = config.auths.get(key).or_else(|| {
        config
            .auths
            .iter()
            .find(|(name, _)| bare(name) == domain)
            .map(|(_, e)| e)
    })?;
    if entry.auth.is_empty() && entry.identitytoken.is_empty() && entry.registrytoken.is_empty() {
        return None;
    }
    let decoded = STANDARD
        .decode(&entry.auth)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())?;
    let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    let value = json!({
        "username": user,
        "password": password.trim_end_matches('\0'),
        "identitytoken": entry.identitytoken,
        "registrytoken": entry.registrytoken,
        "serveraddress": key,
    });
    Some(URL_SAFE.encode(value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_registry() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="},
            "https://reg.example:5000/v2/":{"auth":"dTpwOnE="},"empty":{}},"credsStore":"x"}"#;
        let config: ConfigFile = serde_json::from_str(text).unwrap();
        let user = |domain: &str| {
            let bytes = URL_SAFE.decode(encode(&config, domain)?).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            Some(format!(
                "{}:{}",
                value["username"].as_str()?,
                value["password"].as_str()?
            ))
        };
        assert_eq!(user("docker.io").as_deref(), Some("hub:secret"));
        assert_eq!(user("reg.example:5000").as_deref(), Some("u:p:q"));
        assert_eq!(user("other"), None);
        assert_eq!(user("empty"), None);
    }
}
