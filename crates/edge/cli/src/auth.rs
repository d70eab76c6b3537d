//! Credentials for registries: in Docker's configuration file, or with a helper that it names.
//!
//! A helper is the program `docker-credential-NAME`; it is called with `get`, `store`, `erase` or `list`, reads its
//! request and writes its answer (<https://github.com/docker/docker-credential-helpers#development>).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use havre_sys::spawn::{Program, Spawn};
use havre_types::reference::DEFAULT_DOMAIN;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::config::Environment;
use crate::config_file::{ConfigFile, Entry};
use crate::failure::{Failure, Outcome};

/// The key of Docker Hub in the file, which is older than its name.
pub(crate) const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name under which a helper keeps an identity token.
const TOKEN_USER: &str = "<token>";
/// What a helper says, with status 1, when it does not know a registry.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// What is known of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub server: String,
    pub user: String,
    pub password: String,
    pub identity_token: String,
    pub registry_token: String,
}

/// The words of a helper.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Kept {
    #[serde(rename = "ServerURL")]
    server_url: String,
    username: String,
    secret: String,
}

impl Credentials {
    fn of_entry(server: &str, entry: &Entry) -> Option<Self> {
        let decoded = STANDARD
            .decode(&entry.auth)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())?;
        let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
        let found = Self {
            server: server.to_owned(),
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
            identity_token: entry.identitytoken.clone(),
            registry_token: entry.registrytoken.clone(),
        };
        Some(found).filter(|found| !found.is_empty())
    }

    /// As the configuration file has them.
    pub(crate) fn to_entry(&self) -> Entry {
        let auth = if self.user.is_empty() && self.password.is_empty() {
            String::new()
        } else {
            STANDARD.encode(format!("{}:{}", self.user, self.password))
        };
        Entry {
            auth,
            identitytoken: self.identity_token.clone(),
            registrytoken: self.registry_token.clone(),
        }
    }

    fn is_empty(&self) -> bool {
        self.user.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// As the API takes them.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "username": self.user,
            "password": self.password,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
            "serveraddress": self.server,
        })
    }
}

/// The value of `X-Registry-Auth` for a registry; `None` when nothing is known of it.
pub(crate) fn header(app: &App, domain: &str) -> Outcome<Option<String>> {
    let key = if domain == DEFAULT_DOMAIN {
        HUB_KEY
    } else {
        domain
    };
    let found = get(&app.config, &app.environment, key)?;
    Ok(found.map(|found| URL_SAFE.encode(found.to_json().to_string())))
}

/// The credentials of a registry.
pub(crate) fn get(
    config: &ConfigFile,
    environment: &Environment,
    server: &str,
) -> Outcome<Option<Credentials>> {
    let Some(helper) = helper_of(config, server) else {
        return Ok(in_file(config, server));
    };
    let fail =
        |error: anyhow::Error| Failure::new(format!("error getting credentials - {error:#}"));
    let Some(answer) = call(environment, helper, "get", server).map_err(fail)? else {
        return Ok(None);
    };
    let kept: Kept = serde_json::from_slice(&answer)
        .with_context(|| format!("docker-credential-{helper} answered no JSON"))
        .map_err(fail)?;
    let mut found = Credentials {
        server: server.to_owned(),
        ..Credentials::default()
    };
    if kept.username == TOKEN_USER {
        found.identity_token = kept.secret;
    } else {
        (found.user, found.password) = (kept.username, kept.secret);
    }
    Ok(Some(found).filter(|found| !found.is_empty()))
}

fn in_file(config: &ConfigFile, server: &str) -> Option<Credentials> {
    let entry = config.auths.get(server).or_else(|| {
        let mut entries = config.auths.iter();
        entries
            .find(|(name, _)| host_of(name) == server)
            .map(|(_, entry)| entry)
    })?;
    Credentials::of_entry(server, entry)
}

/// Keeps credentials; whether a password now lies in the file as plain text.
pub(crate) fn store(app: &mut App, credentials: &Credentials) -> Outcome<bool> {
    let server = credentials.server.as_str();
    if let Some(helper) = helper_of(&app.config, server) {
        let (username, secret) = if credentials.identity_token.is_empty() {
            (credentials.user.clone(), credentials.password.clone())
        } else {
            (TOKEN_USER.to_owned(), credentials.identity_token.clone())
        };
        let kept = Kept {
            server_url: server.to_owned(),
            username,
            secret,
        };
        let request = serde_json::to_string(&kept).unwrap_or_default();
        call(&app.environment, helper, "store", &request)
            .map_err(|error| Failure::new(format!("Error saving credentials: {error:#}")))?;
        app.config.set_auth(server, Some(&Entry::default()))?;
        return Ok(false);
    }
    let entry = credentials.to_entry();
    let changed = app.config.auths.get(server) != Some(&entry);
    app.config.set_auth(server, Some(&entry))?;
    Ok(changed && !credentials.password.is_empty())
}

/// Forgets the credentials of a registry.
pub(crate) fn erase(app: &mut App, server: &str) -> Outcome {
    if let Some(helper) = helper_of(&app.config, server) {
        call(&app.environment, helper, "erase", server)
            .map_err(|error| Failure::new(format!("error erasing credentials - {error:#}")))?;
    }
    app.config.set_auth(server, None)
}

/// The registries that credentials are known for.
pub(crate) fn list(config: &ConfigFile, environment: &Environment) -> Vec<String> {
    let mut servers: Vec<String> = config.auths.keys().cloned().collect();
    servers.extend(config.cred_helpers.keys().cloned());
    if !config.creds_store.is_empty()
        && let Ok(Some(answer)) = call(environment, &config.creds_store, "list", "unused")
        && let Ok(known) = serde_json::from_slice::<BTreeMap<String, String>>(&answer)
    {
        servers.extend(known.into_keys());
    }
    servers.sort();
    servers.dedup();
    servers
}

/// The helper that has the credentials of a registry.
fn helper_of<'a>(config: &'a ConfigFile, server: &str) -> Option<&'a str> {
    let own = config
        .cred_helpers
        .get(server)
        .filter(|name| !name.is_empty());
    own.or(Some(&config.creds_store))
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

/// Host and port of an address with or without a scheme and a path.
pub(crate) fn host_of(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    bare.split('/').next().unwrap_or_default()
}

/// Calls a helper; `None` when it does not know the registry.
fn call(
    environment: &Environment,
    helper: &str,
    action: &str,
    request: &str,
) -> anyhow::Result<Option<Vec<u8>>> {
    let name = format!("docker-credential-{helper}");
    let path = environment.get("PATH").map_or("", String::as_str);
    let program = std::env::split_paths(path)
        .map(|dir| dir.join(&name))
        .find(|file| fs_err::metadata(file).is_ok_and(|meta| meta.is_file()))
        .unwrap_or_else(|| PathBuf::from(&name));
    let program = CString::new(program.as_os_str().as_bytes())?;
    let environment: Vec<CString> = environment
        .iter()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    let (their_input, our_output) = pipe_with(PipeFlags::CLOEXEC)?;
    let (our_input, their_output) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = Spawn::new(
        Program::Path(&program),
        vec![CString::new(name.as_str())?, CString::new(action)?],
    )
    .env(environment)
    .fd(their_input.as_fd(), 0)
    .fd(their_output.as_fd(), 1)
    .spawn()
    .with_context(|| format!("failed to start {name}, or it is not in PATH"))?;
    drop((their_input, their_output));
    let mut output = fs_err::File::from_parts(our_output.into(), "the helper's input");
    // One that does not read its input says why by its answer.
    output.write_all(request.as_bytes()).ok();
    drop(output);
    let mut answer = Vec::new();
    fs_err::File::from_parts(our_input.into(), "the helper's output").read_to_end(&mut answer)?;
    let status = child.wait()?;
    if status == havre_sys::process::Exit::Code(0) {
        return Ok(Some(answer));
    }
    let said = String::from_utf8_lossy(&answer).trim().to_owned();
    if said.contains(NOT_FOUND) {
        return Ok(None);
    }
    anyhow::bail!("{name} {action} failed: {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ConfigFile {
        havre_engine_types::gojson::from_slice(text.as_bytes()).unwrap()
    }

    #[test]
    fn credentials_are_found_by_registry() {
        let config = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="},
            "https://reg.example:5000/v2/":{"auth":"dTpwOnE="},"empty":{}},"credHelpers":{"helped":"x"}}"#,
        );
        let user = |server: &str| {
            in_file(&config, server).map(|found| format!("{}:{}", found.user, found.password))
        };
        assert_eq!(user(HUB_KEY).as_deref(), Some("hub:secret"));
        assert_eq!(user("reg.example:5000").as_deref(), Some("u:p:q"));
        assert_eq!(user("other"), None);
        assert_eq!(user("empty"), None);
        assert_eq!(helper_of(&config, "helped"), Some("x"));
        assert_eq!(helper_of(&config, "other"), None);
    }

    #[test]
    fn a_helper_is_asked() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("docker-credential-test");
        let text = format!(
            "#!/bin/sh\nread -r line\nprintf '%s %s' \"$1\" \"$line\" > {}/asked\ncase \"$1 $line\" in\n\
             'get known') echo '{{\"ServerURL\":\"known\",\"Username\":\"u\",\"Secret\":\"s\"}}';;\n\
             'get token') echo '{{\"Username\":\"<token>\",\"Secret\":\"t\"}}';;\n\
             'get broken') echo 'the store is locked'; exit 1;;\n\
             'list unused') echo '{{\"https://a/\":\"u\"}}';;\n\
             get*) echo 'credentials not found in native keychain'; exit 1;;\nesac\n",
            dir.path().display()
        );
        fs_err::write(&script, text).unwrap();
        fs_err::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let environment = Environment::from([("PATH".to_owned(), path)]);
        let config = config(r#"{"credsStore":"test","auths":{"b":{}}}"#);
        let get = |server: &str| get(&config, &environment, server);
        let known = get("known").unwrap().unwrap();
        assert_eq!((known.user.as_str(), known.password.as_str()), ("u", "s"));
        assert_eq!(get("token").unwrap().unwrap().identity_token, "t");
        assert_eq!(get("unknown").unwrap(), None);
        assert_eq!(
            get("broken").unwrap_err().message,
            "error getting credentials - docker-credential-test get failed: the store is locked"
        );
        assert_eq!(list(&config, &environment), ["b", "https://a/"]);
        assert_eq!(
            fs_err::read_to_string(dir.path().join("asked")).unwrap(),
            "list unused"
        );
    }
}
