//! Devices by name (`vendor.com/class=name`), as the Container Device Interface describes them in files of the host.
//!
//! The files say what root of the host does to a container, hooks included, so they count only when nobody but root
//! can have written them (CVE-2024-0132 and its like). Format:
//! <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::DeviceRequest;

mod document;

use document::{Device, Document};
pub(crate) use document::{Edits, Moment};

/// No description of devices is larger.
const MAX_FILE: u64 = 4 << 20;
/// Whose GPUs `--gpus` means, in this order.
const GPU_VENDORS: [&str; 2] = ["nvidia.com", "amd.com"];

/// All devices that the files describe, and what is wrong with files.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    devices: BTreeMap<String, (Edits, Device)>,
    /// What was passed over, with the reason.
    pub warnings: Vec<String>,
}

impl Catalogue {
    /// Reads the directories; what a later one describes replaces what an earlier one does.
    pub(crate) fn read(directories: &[PathBuf]) -> Self {
        let mut all = Self::default();
        for directory in directories {
            let mut own: BTreeMap<String, (Edits, Device)> = BTreeMap::new();
            for path in files(directory, &mut all.warnings) {
                match document(&path) {
                    Ok(document) => {
                        let Document {
                            kind,
                            edits,
                            devices,
                        } = document;
                        for device in devices {
                            let name = format!("{kind}={}", device.name);
                            if own.insert(name.clone(), (edits.clone(), device)).is_some() {
                                all.warnings.push(format!(
                                    "CDI: conflicting device \"{name}\" in {}",
                                    path.display()
                                ));
                            }
                        }
                    }
                    Err(why) => all.warnings.push(format!(
                        "CDI: Error associated with spec file {}: {why}",
                        path.display()
                    )),
                }
            }
            all.devices.extend(own);
        }
        all
    }

    /// The full names of the devices.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// What these devices do to a container; those that do not exist are named together, as dockerd does.
    fn edits(&self, names: &[String]) -> ApiResult<Edits> {
        let unknown: Vec<&str> = names
            .iter()
            .filter(|name| !self.devices.contains_key(*name))
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            return Err(ApiError::invalid(format!(
                "CDI device injection failed: unresolvable CDI devices {}",
                unknown.join(", ")
            )));
        }
        let mut edits = Edits::default();
        let mut kinds: Vec<&str> = Vec::new();
        for name in names {
            let Some((common, device)) = self.devices.get(name) else {
                continue;
            };
            // What a file says for all of its devices is done once.
            let kind = name.split('=').next().unwrap_or_default();
            if !kinds.contains(&kind) {
                kinds.push(kind);
                edits.append(common);
            }
            edits.append(&device.edits);
        }
        Ok(edits)
    }

    /// The devices for `--gpus`: all, the first so many, or those of these names.
    fn gpus(&self, request: &DeviceRequest) -> Option<Vec<String>> {
        let of = |vendor: &&str| {
            let prefix = format!("{vendor}/gpu=");
            let mut names = self.names();
            names
                .any(|name| name.starts_with(&prefix))
                .then_some(prefix)
        };
        let prefix = GPU_VENDORS.iter().find_map(of)?;
        let wanted = request.device_ids.as_deref().unwrap_or_default();
        if !wanted.is_empty() {
            return Some(wanted.iter().map(|id| format!("{prefix}{id}")).collect());
        }
        let all = format!("{prefix}all");
        if request.count < 0 {
            if self.devices.contains_key(&all) {
                return Some(vec![all]);
            }
            let every = self.names().filter(|name| name.starts_with(&prefix));
            return Some(every.map(str::to_owned).collect());
        }
        Some(
            (0..request.count)
                .map(|index| format!("{prefix}{index}"))
                .collect(),
        )
    }
}

/// What the requested devices do to a container.
/// <https://github.com/moby/moby/blob/master/daemon/devices.go> (`handleDevice`)
pub(crate) fn resolve(requests: &[DeviceRequest], directories: &[PathBuf]) -> ApiResult<Edits> {
    if requests.is_empty() {
        return Ok(Edits::default());
    }
    let catalogue = Catalogue::read(directories);
    for warning in &catalogue.warnings {
        tracing::warn!("{warning}");
    }
    let mut edits = Edits::default();
    for request in requests {
        let capabilities = request.capabilities.as_deref().unwrap_or_default();
        let asks_for_gpu = capabilities
            .iter()
            .any(|set| set.iter().any(|capability| capability == "gpu"));
        let names = match request.driver.as_str() {
            "cdi" if request.count != 0 => {
                return Err(ApiError::invalid("unexpected count in CDI device request"));
            }
            "cdi" if request.options.as_ref().is_some_and(|o| !o.is_empty()) => {
                return Err(ApiError::invalid(
                    "unexpected options in CDI device request",
                ));
            }
            "cdi" => request.device_ids.clone(),
            "" | "nvidia" | "amd" if asks_for_gpu => catalogue.gpus(request),
            _ => None,
        };
        let names = names.ok_or_else(|| no_driver(&request.driver, capabilities))?;
        edits.append(&catalogue.edits(&names)?);
    }
    Ok(edits)
}

/// The sets as Go prints them.
fn no_driver(driver: &str, capabilities: &[Vec<String>]) -> ApiError {
    let sets: Vec<String> = capabilities
        .iter()
        .map(|set| format!("[{}]", set.join(" ")))
        .collect();
    ApiError::invalid(format!(
        "could not select device driver {driver:?} with capabilities: [{}]",
        sets.join(" ")
    ))
}

/// The descriptions in a directory, by name. A missing directory holds none.
fn files(directory: &Path, warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let listed = match fs_err::read_dir(directory) {
        Ok(listed) => listed,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(err) => {
            warnings.push(format!("CDI: {err}"));
            return Vec::new();
        }
    };
    if let Err(why) = written_by_root_only(directory) {
        warnings.push(format!(
            "CDI: the directory {} is not used: {why}",
            directory.display()
        ));
        return Vec::new();
    }
    let mut found: Vec<PathBuf> = listed
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path.extension().and_then(|e| e.to_str());
            matches!(extension, Some("json" | "yaml" | "yml"))
        })
        .collect();
    found.sort();
    found
}

fn written_by_root_only(path: &Path) -> Result<(), String> {
    let meta = fs_err::metadata(path).map_err(|err| err.to_string())?;
    if meta.uid() != 0 {
        return Err(format!("it belongs to user {}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err("others than root may write to it".to_owned());
    }
    Ok(())
}

fn document(path: &Path) -> Result<Document, String> {
    written_by_root_only(path)?;
    let file = fs_err::File::open(path).map_err(|err| err.to_string())?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err("not a regular file".to_owned());
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|err| err.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err("it is too large".to_owned());
    }
    Document::parse(&text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SPEC: &str = r#"
cdiVersion: "0.6.0"
kind: "nvidia.com/gpu"
containerEdits:
  env: ["COMMON=1"]
devices:
  - name: "0"
    containerEdits:
      deviceNodes: [{path: /dev/null}]
  - name: all
    containerEdits:
      env: ["ALL=1"]
"#;

    fn directory(mode: u32) -> tempfile::TempDir {
        let made = tempfile::tempdir().unwrap();
        fs_err::write(made.path().join("gpu.yaml"), SPEC).unwrap();
        fs_err::set_permissions(made.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        made
    }

    fn request(driver: &str, count: i64, ids: &[&str]) -> DeviceRequest {
        DeviceRequest {
            driver: driver.to_owned(),
            count,
            device_ids: Some(ids.iter().map(|id| (*id).to_owned()).collect()),
            capabilities: driver.is_empty().then(|| vec![vec!["gpu".to_owned()]]),
            options: None,
        }
    }

    fn said(requests: &[DeviceRequest], directory: &Path) -> String {
        match resolve(requests, &[directory.to_owned()]) {
            Ok(edits) => format!("{} {}", edits.env.join(","), edits.nodes.len()),
            Err(err) => err.message,
        }
    }

    #[test]
    fn devices_are_found_by_name_and_gpus_by_number() {
        let made = directory(0o755);
        let cases = [
            request("cdi", 0, &["nvidia.com/gpu=0"]),
            request("cdi", 0, &["nvidia.com/gpu=0", "nvidia.com/gpu=all"]),
            request("cdi", 0, &["nvidia.com/gpu=7", "x.y/z=w"]),
            request("cdi", 1, &["nvidia.com/gpu=0"]),
            request("", -1, &[]),
            request("", 1, &[]),
            request("", 0, &["0"]),
            request("other", -1, &[]),
        ];
        let said = cases.map(|case| said(&[case], made.path()));
        insta::assert_snapshot!(said.join("\n"), @r#"
        COMMON=1 1
        COMMON=1,ALL=1 1
        CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7, x.y/z=w
        unexpected count in CDI device request
        COMMON=1,ALL=1 0
        COMMON=1 1
        COMMON=1 1
        could not select device driver "other" with capabilities: []
        "#);
    }

    #[test]
    fn what_others_may_write_is_not_read() {
        for mode in [0o775, 0o757] {
            let made = directory(mode);
            let catalogue = Catalogue::read(&[made.path().to_owned()]);
            assert_eq!(catalogue.names().count(), 0, "{mode:o}");
            assert!(
                catalogue.warnings[0].contains("others than root may write"),
                "{:?}",
                catalogue.warnings
            );
        }
        let made = directory(0o755);
        let file = made.path().join("gpu.yaml");
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        let catalogue = Catalogue::read(&[made.path().to_owned()]);
        assert_eq!(catalogue.names().count(), 0);
    }

    #[test]
    fn without_any_there_is_no_driver() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            said(&[request("", -1, &[])], empty.path()),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
    }
}
