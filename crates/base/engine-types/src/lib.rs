//! Wire types of the Docker Engine API, newest shape, with the JSON rules of Go.
//!
//! Field names and their order are those of moby's structs (<https://github.com/moby/moby/tree/master/api/types>);
//! where Go prints `null` for a missing list the field is an `Option`. Older API versions are adapted in `edge/http`.
//! Read bytes from outside with [`gojson::from_slice`]: keys match in any letter case and `null` means "not given".

mod archive;
mod checkpoint;
mod container;
mod events;
mod exec;
mod filters;
pub mod gojson;
mod host_config;
mod image;
mod monitor;
mod mount;
mod network;
mod networks;
mod progress;
mod system;
mod usage;

pub use archive::{FilesystemChange, PathStat};
pub use checkpoint::{CheckpointCreateRequest, CheckpointSummary};
pub use container::{
    ContainerConfig, ContainerCreateRequest, ContainerCreateResponse, ContainerInspect,
    ContainerPruneResponse, ContainerState, ContainerSummary, ContainerUpdateResponse, Health,
    HealthSummary, HealthcheckResult, PortSummary, SummaryHostConfig, WaitExitError, WaitResponse,
};
pub use events::{Actor, Event};
pub use exec::{ExecCreateRequest, ExecInspect, ExecProcessConfig, ExecStartRequest, IdResponse};
pub use filters::{FilterError, Filters};
pub use havre_oci::{HealthConfig, ImageRunConfig};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, RestartPolicy, ThrottleDevice, Ulimit,
    WeightDevice,
};
pub use image::{
    DriverData, ImageDeleteItem, ImageHistoryItem, ImageInspect, ImageMetadata, ImageRootFs,
    ImageSummary,
};
pub use monitor::{
    BlkioStatEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats,
    PidsStats, ThrottlingData, TopResponse, WhyResponse,
};
pub use mount::{
    BindOptions, DriverConfig, ImageOptions, Mount, MountPoint, TmpfsOptions, VolumeOptions,
};
pub use network::{
    EndpointIpamConfig, EndpointSettings, NetworkSettings, NetworkSettingsSummary,
    NetworkingConfig, PortBinding, PortMap,
};
pub use networks::{
    ConfigReference, EndpointResource, Ipam, IpamConfig, IpamStatus, NetworkConnectRequest,
    NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest, NetworkInspect,
    NetworkPruneResponse, NetworkStatus, NetworkSummary, PeerInfo, PortExplanation, PortsExplained,
    SubnetStatus,
};
pub use progress::{ErrorDetail, JsonMessage, ProgressDetail};
pub use system::{
    Commit, ComponentVersion, DeviceInfo, FirewallInfo, IndexInfo, PlatformInfo, PluginsInfo,
    RegistryConfig, Runtime, SwarmInfo, SystemInfo, SystemVersion,
};
pub use usage::{AuthConfig, AuthResponse, DiskUsage, ObjectUsage};

/// The body of every error answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// What went wrong, as the command line prints it after `Error response from daemon: `.
    pub message: String,
}

/// A set whose members are the keys; the values are empty objects, as Go's `map[string]struct{}` is written.
pub type KeySet = std::collections::BTreeMap<String, Empty>;

/// `{}`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Empty {}

/// A map of texts, sorted by key as Go writes it.
pub type StringMap = std::collections::BTreeMap<String, String>;

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
