//! Containers: what a client asks for, and what it is told about them.

use havre_oci::{Descriptor, HealthConfig};
use havre_types::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::gojson;
use crate::{
    DriverData, HostConfig, KeySet, MountPoint, NetworkSettings, NetworkSettingsSummary,
    NetworkingConfig, StringMap, is_default, is_false,
};

/// The part of a container's configuration that does not depend on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<KeySet>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    /// `NAME=value`, or `NAME` to remove what the image set.
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "gojson::words")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<KeySet>,
    pub working_dir: String,
    /// `Some([""])` removes the image's entrypoint; `None` keeps it.
    #[serde(deserialize_with = "gojson::words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_false")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    pub labels: Option<StringMap>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds; -1 waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "gojson::words"
    )]
    pub shell: Option<Vec<String>>,
}

/// The body of `POST /containers/create`: the fields of the configuration lie at the top level.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ContainerCreateRequest {
    #[serde(flatten)]
    pub config: ContainerConfig,
    #[serde(rename = "HostConfig", skip_serializing_if = "Option::is_none")]
    pub host_config: Option<HostConfig>,
    #[serde(rename = "NetworkingConfig", skip_serializing_if = "Option::is_none")]
    pub networking_config: Option<NetworkingConfig>,
    /// The hardware address on the network of the network mode, as clients before 1.44 say it. Newer ones say it of each
    /// network.
    #[serde(rename = "MacAddress", skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
}

/// Reads by Go's rules whatever the deserializer: a flattened struct would otherwise see its keys unchanged.
impl<'de> Deserialize<'de> for ContainerCreateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize, Default)]
        #[serde(default, rename_all = "PascalCase")]
        struct Rest {
            host_config: Option<HostConfig>,
            networking_config: Option<NetworkingConfig>,
            mac_address: String,
        }
        let value = Value::deserialize(deserializer)?;
        let config = gojson::from_value(value.clone()).map_err(de::Error::custom)?;
        let rest: Rest = gojson::from_value(value).map_err(de::Error::custom)?;
        Ok(Self {
            config,
            host_config: rest.host_config,
            networking_config: rest.networking_config,
            mac_address: rest.mac_address,
        })
    }
}

/// The answer to `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    pub id: String,
    /// Never null: clients print each.
    pub warnings: Vec<String>,
}

/// A line of `GET /containers/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerSummary {
    pub id: String,
    /// With a leading slash.
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    pub ports: Vec<PortSummary>,
    #[serde(skip_serializing_if = "is_default")]
    pub size_rw: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub size_root_fs: i64,
    pub labels: StringMap,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
    /// `Up 5 minutes`, `Exited (0) 2 hours ago` …
    pub status: String,
    pub host_config: SummaryHostConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    pub network_settings: Option<NetworkSettingsSummary>,
    pub mounts: Vec<MountPoint>,
}

/// The few fields of the host configuration that lists show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<StringMap>,
}

/// A published or exposed port of a list line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortSummary {
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    #[serde(rename = "PrivatePort")]
    pub private_port: u16,
    #[serde(rename = "PublicPort", skip_serializing_if = "is_default")]
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// The answer to `GET /containers/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerInspect {
    pub id: String,
    pub created: Timestamp,
    pub path: String,
    pub args: Vec<String>,
    pub state: ContainerState,
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    pub name: String,
    pub restart_count: i64,
    pub driver: String,
    pub platform: String,
    pub mount_label: String,
    pub process_label: String,
    pub app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    pub host_config: HostConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    pub mounts: Vec<MountPoint>,
    pub config: ContainerConfig,
    pub network_settings: NetworkSettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
}

/// How a container stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerState {
    /// As [`ContainerSummary::state`].
    pub status: String,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    pub pid: i64,
    pub exit_code: i64,
    pub error: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// The state of health checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    pub status: String,
    pub failing_streak: i64,
    pub log: Option<Vec<HealthcheckResult>>,
}

/// The same in a list line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthSummary {
    pub status: String,
    pub failing_streak: i64,
}

/// One health check that ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthcheckResult {
    pub start: Timestamp,
    pub end: Timestamp,
    pub exit_code: i64,
    pub output: String,
}

/// The answer to `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerUpdateResponse {
    pub warnings: Option<Vec<String>>,
}

/// The answer to `POST /containers/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerPruneResponse {
    pub containers_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

/// The answer to `POST /containers/{id}/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitExitError>,
    pub status_code: i64,
}

/// Why the wait itself failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitExitError {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}
