//! One file of the Container Device Interface: read, checked, and put into the words of the runtime specification.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, HookBuilder, Mount, MountBuilder};
use serde::Deserialize;

use crate::host::stat_device;
use crate::plan::{DeviceKind, HostDevice, check_permissions};

/// What a device does to a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edits {
    pub env: Vec<String>,
    pub nodes: Vec<HostDevice>,
    pub mounts: Vec<Mount>,
    /// The name of the moment, and what is run then.
    pub hooks: Vec<(Moment, Hook)>,
    pub groups: Vec<u32>,
}

/// When a hook is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Moment {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Edits {
    pub(super) fn append(&mut self, other: &Self) {
        self.env.extend_from_slice(&other.env);
        self.nodes.extend_from_slice(&other.nodes);
        self.mounts.extend_from_slice(&other.mounts);
        self.hooks.extend_from_slice(&other.hooks);
        self.groups.extend_from_slice(&other.groups);
    }
}

/// A file.
#[derive(Debug)]
pub(super) struct Document {
    /// `vendor.com/class`.
    pub(super) kind: String,
    /// For every device of it.
    pub(super) edits: Edits,
    pub(super) devices: Vec<Device>,
}

/// One device of a file.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    devices: Vec<RawDevice>,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDevice {
    name: String,
    #[serde(default)]
    container_edits: RawEdits,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawEdits {
    env: Vec<String>,
    device_nodes: Vec<RawNode>,
    mounts: Vec<RawMount>,
    hooks: Vec<RawHook>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
    #[serde(rename = "intelRdt")]
    intel_rdt: Option<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHook {
    hook_name: Moment,
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<i64>,
}

impl Document {
    /// Reads JSON or YAML; the text says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let raw: RawDocument = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|err| err.to_string())?
        } else {
            serde_saphyr::from_str(text).map_err(|err| err.to_string())?
        };
        if !raw.cdi_version.starts_with("0.") && !raw.cdi_version.starts_with("1.") {
            return Err(format!("invalid CDI version {:?}", raw.cdi_version));
        }
        let named = raw.kind.split_once('/');
        if !named.is_some_and(|(vendor, class)| is_name(vendor) && is_name(class)) {
            return Err(format!("invalid kind {:?}", raw.kind));
        }
        let edits = raw.container_edits.checked()?;
        let mut devices = Vec::with_capacity(raw.devices.len());
        for device in raw.devices {
            if !is_device_name(&device.name) {
                return Err(format!("invalid device name {:?}", device.name));
            }
            devices.push(Device {
                edits: device.container_edits.checked()?,
                name: device.name,
            });
        }
        Ok(Self {
            kind: raw.kind,
            edits,
            devices,
        })
    }
}

/// Letters, digits, `_`, `-`, `.`, beginning with a letter.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && is_device_name(text)
}

fn is_device_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(inner)
}

impl RawEdits {
    fn checked(self) -> Result<Edits, String> {
        if self.intel_rdt.is_some() || !self.net_devices.is_empty() {
            return Err("intelRdt and netDevices are not supported".to_owned());
        }
        if let Some(entry) = self.env.iter().find(|entry| !entry.contains('=')) {
            return Err(format!("invalid environment variable {entry:?}"));
        }
        let nodes = self.device_nodes.into_iter().map(RawNode::checked);
        let mounts = self.mounts.into_iter().map(RawMount::checked);
        let hooks = self.hooks.into_iter().map(RawHook::checked);
        Ok(Edits {
            env: self.env,
            nodes: nodes.collect::<Result<_, _>>()?,
            mounts: mounts.collect::<Result<_, _>>()?,
            hooks: hooks.collect::<Result<_, _>>()?,
            groups: self.additional_gids,
        })
    }
}

fn absolute(path: &Path) -> Result<&Path, String> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("the path {:?} is not absolute", path.display()))
    }
}

impl RawNode {
    /// What the file leaves out is as on the host.
    fn checked(self) -> Result<HostDevice, String> {
        absolute(&self.path)?;
        let source = self.host_path.as_deref().unwrap_or(&self.path);
        let rights = self.permissions.as_deref().unwrap_or("rwm");
        check_permissions(rights).map_err(|err| err.message)?;
        let found = stat_device(source, self.path.clone(), rights);
        let kind = match self.kind.as_deref() {
            Some("c" | "u") => Some(DeviceKind::Char),
            Some("b") => Some(DeviceKind::Block),
            Some("") | None => None,
            Some(other) => return Err(format!("unsupported device type {other:?}")),
        };
        let named = kind.zip(self.major);
        let mut node = match (found, named) {
            (Some(node), None) => node,
            (found, Some((kind, major))) => HostDevice {
                path: self.path.clone(),
                kind,
                major,
                minor: self.minor.unwrap_or(0),
                mode: found.as_ref().map_or(0o666, |node| node.mode),
                uid: found.as_ref().map_or(0, |node| node.uid),
                gid: found.as_ref().map_or(0, |node| node.gid),
                permissions: rights.to_owned(),
            },
            (None, None) => return Err(format!("no device {:?} on this host", source.display())),
        };
        node.mode = self.file_mode.map_or(node.mode, |mode| mode & 0o777);
        node.uid = self.uid.unwrap_or(node.uid);
        node.gid = self.gid.unwrap_or(node.gid);
        Ok(node)
    }
}

impl RawMount {
    fn checked(self) -> Result<Mount, String> {
        absolute(&self.host_path)?;
        absolute(&self.container_path)?;
        let kind = self.kind.filter(|kind| !kind.is_empty());
        MountBuilder::default()
            .destination(self.container_path)
            .typ(kind.unwrap_or_else(|| "bind".to_owned()))
            .source(self.host_path)
            .options(self.options)
            .build()
            .map_err(|err| err.to_string())
    }
}

impl RawHook {
    fn checked(self) -> Result<(Moment, Hook), String> {
        absolute(&self.path)?;
        let mut hook = HookBuilder::default()
            .path(self.path)
            .args(self.args)
            .env(self.env);
        if let Some(seconds) = self.timeout {
            hook = hook.timeout(seconds);
        }
        let hook = hook.build().map_err(|err| err.to_string())?;
        Ok((self.hook_name, hook))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Document::parse(text).map_or_else(|why| why, |_| "accepted".to_owned())
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let json = r#"{"cdiVersion":"0.5.0","kind":"a.b/c","devices":[{"name":"x","containerEdits":{
            "deviceNodes":[{"path":"/dev/x","type":"c","major":1,"minor":3,"fileMode":438,"permissions":"rw"}],
            "mounts":[{"hostPath":"/usr","containerPath":"/opt","options":["ro","bind"]}],
            "hooks":[{"hookName":"createContainer","path":"/bin/true","args":["true"]}],
            "additionalGids":[5]}}]}"#;
        let yaml = "cdiVersion: 0.5.0\nkind: a.b/c\ndevices:\n- name: x\n  containerEdits:\n    deviceNodes:\n    - {path: /dev/x, type: c, major: 1, minor: 3, fileMode: 438, permissions: rw}\n    mounts:\n    - {hostPath: /usr, containerPath: /opt, options: [ro, bind]}\n    hooks:\n    - {hookName: createContainer, path: /bin/true, args: ['true']}\n    additionalGids: [5]\n";
        let shown = |text| format!("{:?}", Document::parse(text).unwrap());
        assert_eq!(shown(json), shown(yaml));
        let document = Document::parse(json).unwrap();
        let edits = &document.devices[0].edits;
        assert_eq!((edits.nodes[0].mode, edits.nodes[0].minor), (0o666, 3));
        assert_eq!(edits.hooks[0].0, Moment::CreateContainer);
    }

    #[test]
    fn senseless_files_are_refused() {
        let with = |edits: &str| {
            refused(&format!(
                r#"{{"cdiVersion":"0.5.0","kind":"a.b/c","containerEdits":{edits}}}"#
            ))
        };
        let said = [
            refused("{"),
            refused("a: [b"),
            refused(r#"{"cdiVersion":"x","kind":"a.b/c"}"#),
            refused(r#"{"cdiVersion":"0.5.0","kind":"nothing"}"#),
            refused(r#"{"cdiVersion":"0.5.0","kind":"a.b/c","devices":[{"name":"-x"}]}"#),
            with(r#"{"env":["X"]}"#),
            with(r#"{"deviceNodes":[{"path":"dev/null"}]}"#),
            with(r#"{"deviceNodes":[{"path":"/dev/nothing-here"}]}"#),
            with(r#"{"deviceNodes":[{"path":"/dev/null","permissions":"x"}]}"#),
            with(r#"{"mounts":[{"hostPath":"x","containerPath":"/y"}]}"#),
            with(r#"{"hooks":[{"hookName":"never","path":"/x"}]}"#),
        ];
        assert!(said.iter().all(|text| text != "accepted"), "{said:#?}");
    }
}
