//! Docker's configuration of its command line, `~/.docker/config.json`: read leniently, and written back with
//! everything in it that is unknown here.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use havre_engine_types::{Filters, gojson};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Environment;
use crate::failure::{Failure, Outcome};

/// What is read of it (<https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties>).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ConfigFile {
    pub auths: BTreeMap<String, Entry>,
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    pub ps_format: String,
    pub images_format: String,
    pub networks_format: String,
    pub stats_format: String,
    pub detach_keys: String,
    pub creds_store: String,
    pub cred_helpers: BTreeMap<String, String>,
    pub prune_filters: Vec<String>,
    pub proxies: BTreeMap<String, Proxy>,
    pub current_context: String,
    #[serde(skip)]
    path: String,
}

/// Credentials for one registry, or the sign that a helper has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    /// `user:password`, base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

/// Proxies that containers are told of.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Proxy {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

impl ConfigFile {
    /// Reads it from the directory that a flag or the environment names, or else from the home directory. A file that
    /// is not there is empty; one that cannot be read is too, and the second value says why.
    pub(crate) fn load(dir: Option<&str>, environment: &Environment) -> (Self, Option<String>) {
        let named = |name: &str| {
            environment
                .get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let path = match dir.or_else(|| named("DOCKER_CONFIG")) {
            Some(dir) => format!("{dir}/config.json"),
            None => match named("HOME") {
                Some(home) => format!("{home}/.docker/config.json"),
                None => return (Self::default(), None),
            },
        };
        let empty = |path| Self {
            path,
            ..Self::default()
        };
        let complain = |error: String| Some(format!("Error loading config file: {error}"));
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return (empty(path), None),
            Err(error) => return (empty(path), complain(error.to_string())),
        };
        match gojson::from_slice::<Self>(&bytes) {
            Ok(config) => (Self { path, ..config }, None),
            Err(error) => {
                let complaint = complain(format!("{path}: {error}"));
                (empty(path), complaint)
            }
        }
    }

    /// The file's name.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// `pruneFilters` together with those that were asked for, which win against a filter of the opposite meaning.
    pub(crate) fn prune_filters(&self, mut asked: Filters) -> Filters {
        for text in &self.prune_filters {
            let Some((name, value)) = text.split_once('=') else {
                continue;
            };
            let opposite = match name {
                "label" => "label!",
                "label!" => "label",
                _ => "",
            };
            if !asked.values(opposite).any(|have| have == value) {
                asked.add(name, value);
            }
        }
        asked
    }

    /// The variables that tell a container of the proxies for an engine, without those it has already.
    pub(crate) fn proxy_variables(&self, host: &str, have: &[String]) -> Vec<String> {
        let Some(proxy) = self
            .proxies
            .get(host)
            .or_else(|| self.proxies.get("default"))
        else {
            return Vec::new();
        };
        let known = |name: &str| {
            have.iter()
                .any(|variable| variable.split('=').next() == Some(name))
        };
        let mut variables = Vec::new();
        for (name, value) in [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("NO_PROXY", &proxy.no_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
        ] {
            if value.is_empty() {
                continue;
            }
            for name in [name.to_owned(), name.to_lowercase()] {
                if !known(&name) {
                    variables.push(format!("{name}={value}"));
                }
            }
        }
        variables
    }

    /// Puts the credentials of a registry into the file, or takes them out.
    pub(crate) fn set_auth(&mut self, server: &str, entry: Option<&Entry>) -> Outcome {
        match entry {
            Some(entry) if self.auths.get(server) == Some(entry) => return Ok(()),
            None if !self.auths.contains_key(server) => return Ok(()),
            Some(entry) => self.auths.insert(server.to_owned(), entry.clone()),
            None => self.auths.remove(server),
        };
        self.save(server, entry)
            .map_err(|error| Failure::new(format!("failed to write `{}`: {error}", self.path)))
    }

    /// Writes the file anew beside the old one, then puts it in its place.
    fn save(&self, server: &str, entry: Option<&Entry>) -> anyhow::Result<()> {
        let mut document: Map<String, Value> = match fs_err::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(error.into()),
        };
        let auths = document
            .entry("auths")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Some(auths) = auths.as_object_mut() {
            match entry {
                Some(entry) => auths.insert(server.to_owned(), serde_json::to_value(entry)?),
                None => auths.remove(server),
            };
        }
        let mut text = Vec::new();
        let indented = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, indented);
        document.serialize(&mut writer)?;
        write_in_place(Path::new(&self.path), &text)
    }
}

/// Only the owner may read what may be a secret.
fn write_in_place(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    use fs_err::os::unix::fs::OpenOptionsExt as _;
    // A link stays a link: what it points to is replaced.
    let target = fs_err::canonicalize(path).unwrap_or_else(|_no_file| path.to_owned());
    if let Some(dir) = target.parent() {
        fs_err::create_dir_all(dir)?;
    }
    let temporary = target.with_extension(format!("json.{}", std::process::id()));
    let mut file = fs_err::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text)?;
    fs_err::rename(&temporary, &target)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> (tempfile::TempDir, ConfigFile, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("config.json"), text).unwrap();
        let (config, complaint) = ConfigFile::load(dir.path().to_str(), &Environment::new());
        (dir, config, complaint)
    }

    #[test]
    fn what_is_unknown_survives_a_change() {
        let (dir, mut config, complaint) = load(
            r#"{"z":{"a":[1]},"auths":{"other":{"auth":"x","email":"y"}},"psFormat":"{{.ID}}"}"#,
        );
        assert_eq!((config.ps_format.as_str(), complaint), ("{{.ID}}", None));
        let entry = Entry {
            auth: "dTpw".to_owned(),
            ..Entry::default()
        };
        config.set_auth("reg", Some(&entry)).unwrap();
        config.set_auth("absent", None).unwrap();
        let text = fs_err::read_to_string(dir.path().join("config.json")).unwrap();
        assert_eq!(
            text.replace('\t', ""),
            "{\n\"z\": {\n\"a\": [\n1\n]\n},\n\"auths\": {\n\"other\": {\n\"auth\": \"x\",\n\"email\": \"y\"\n},\n\"reg\": {\n\"auth\": \"dTpw\"\n}\n},\n\"psFormat\": \"{{.ID}}\"\n}"
        );
        config.set_auth("reg", None).unwrap();
        let text = fs_err::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(!text.contains("dTpw"), "{text}");
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_file_is_complained_about_and_not_overwritten() {
        let (dir, mut config, complaint) = load("{nonsense");
        assert!(
            complaint
                .unwrap()
                .starts_with("Error loading config file: ")
        );
        config.set_auth("reg", Some(&Entry::default())).unwrap_err();
        let text = fs_err::read_to_string(dir.path().join("config.json")).unwrap();
        assert_eq!(text, "{nonsense");
    }

    #[test]
    fn containers_are_told_of_proxies() {
        let (_dir, config, _) = load(
            r#"{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"a,b"},"tcp://e:2":{"allProxy":"x"}}}"#,
        );
        let have = ["NO_PROXY=mine".to_owned()];
        assert_eq!(
            config.proxy_variables("unix:///s", &have),
            [
                "HTTP_PROXY=http://p:1",
                "http_proxy=http://p:1",
                "no_proxy=a,b"
            ]
        );
        assert_eq!(
            config.proxy_variables("tcp://e:2", &[]),
            ["ALL_PROXY=x", "all_proxy=x"]
        );
    }

    #[test]
    fn filters_of_prune_are_joined() {
        let (_dir, config, _) = load(r#"{"pruneFilters":["label=keep","label!=b","until=1h"]}"#);
        let mut asked = Filters::default();
        asked.add("label!", "keep");
        assert_eq!(
            config.prune_filters(asked).to_query(),
            r#"{"label!":{"b":true,"keep":true},"until":{"1h":true}}"#
        );
    }
}
