//! Where in a document a value stands, and the words of Go for one that does not fit
//! (`json.UnmarshalTypeError`, <https://pkg.go.dev/encoding/json#UnmarshalTypeError>).

use serde::de::Error as _;
use serde_json::Value;

use super::JsonError;

/// The place of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'p> {
    Root,
    Field {
        parent: &'p Self,
        name: &'p str,
        /// The type that the document is read as.
        root: &'static str,
    },
    Item {
        parent: &'p Self,
        index: usize,
    },
}

impl Path<'_> {
    /// The error of a `value` where Go wants a `wanted`.
    pub(super) fn mismatch(&self, value: &Value, wanted: &str) -> JsonError {
        let what = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
            Value::Number(number) if is_number(wanted) => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
        };
        let wanted = self.named(wanted);
        let place = match self {
            Self::Root => "Go value".to_owned(),
            Self::Field { .. } => format!("Go struct field {}{}", self.root(), self.pointer()),
            Self::Item { .. } => format!("{}{}", self.root(), self.pointer()),
        };
        JsonError::custom(format!(
            "json: cannot unmarshal {what} into {place} of type {wanted}"
        ))
    }

    /// The document's type as Go prints it before a field. Types with embedded structs have no name there.
    fn root(&self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Item { parent, .. } => parent.root(),
            // The outermost struct is named, with the whole way to the field.
            Self::Field { parent, .. } if !matches!(parent, Self::Root) => parent.root(),
            Self::Field { root, .. } => match *root {
                "ExecCreateRequest" => "ExecOptions",
                "ExecStartRequest" => "ExecStartOptions",
                "NetworkCreateRequest" => "CreateRequest",
                "NetworkConnectRequest" => "ConnectOptions",
                "NetworkDisconnectRequest" => "DisconnectOptions",
                "UpdateRequest" | "ContainerUpdateRequest" | "UpdateConfig" => "UpdateConfig",
                _ => "",
            },
        }
    }

    fn pointer(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Field { parent, name, .. } => {
                let name = name.replace('~', "~0").replace('/', "~1");
                format!("{}.{name}", parent.pointer())
            }
            Self::Item { parent, index } => format!("{}.{index}", parent.pointer()),
        }
    }

    fn field(&self) -> &str {
        match self {
            Self::Field { name, .. } => name,
            Self::Root | Self::Item { .. } => "",
        }
    }

    /// The name of the place around this one.
    fn around(&self) -> &str {
        match self {
            Self::Field { parent, .. } | Self::Item { parent, .. } => parent.field(),
            Self::Root => "",
        }
    }

    /// Go's name of the type, where it differs from that of the value's form.
    fn named<'a>(&self, wanted: &'a str) -> &'a str {
        match (self.around(), self.field()) {
            ("RestartPolicy", "Name") => "container.RestartPolicyMode",
            ("BindOptions", "Propagation") => "mount.Propagation",
            ("TmpfsOptions", "Mode") => "fs.FileMode",
            ("ConsoleSize", _) => "uint",
            (_, "NetworkMode") => "container.NetworkMode",
            (_, "IpcMode") => "container.IpcMode",
            (_, "PidMode") => "container.PidMode",
            (_, "UTSMode") => "container.UTSMode",
            (_, "UsernsMode") => "container.UsernsMode",
            (_, "CgroupnsMode") => "container.CgroupnsMode",
            (_, "Cgroup") => "container.CgroupSpec",
            (_, "Isolation") => "container.Isolation",
            (_, "Consistency") => "mount.Consistency",
            (_, "Type")
                if matches!(
                    self,
                    Self::Field {
                        parent: Self::Item { .. },
                        ..
                    }
                ) =>
            {
                "mount.Type"
            }
            (_, "ExposedPorts") => "nat.PortSet",
            (_, "PortBindings") => "nat.PortMap",
            (_, "EndpointsConfig") => "map[string]*network.EndpointSettings",
            (_, "Ulimits") => "[]*units.Ulimit",
            (_, "BlkioWeightDevice") => "[]*blkiodev.WeightDevice",
            (_, name) if name.starts_with("BlkioDevice") => "[]*blkiodev.ThrottleDevice",
            (
                _,
                "StopTimeout"
                | "MaximumRetryCount"
                | "Retries"
                | "OomScoreAdj"
                | "Count"
                | "GwPriority"
                | "IPPrefixLen"
                | "GlobalIPv6PrefixLen",
            ) => "int",
            ("Healthcheck", "Interval" | "Timeout" | "StartPeriod" | "StartInterval") => {
                "time.Duration"
            }
            _ => wanted,
        }
    }
}

/// Whether a number of this type was wanted: then the error names the number.
fn is_number(wanted: &str) -> bool {
    wanted.starts_with("int") || wanted.starts_with("uint") || wanted.starts_with("float")
}

/// Go's name of one of our structs.
pub(super) fn struct_name(name: &'static str) -> &'static str {
    match name {
        "ContainerCreateRequest" | "ContainerConfig" | "Rest" => "container.CreateRequest",
        "HostConfig" => "container.HostConfig",
        "LogConfig" => "container.LogConfig",
        "RestartPolicy" => "container.RestartPolicy",
        "WeightDevice" => "blkiodev.WeightDevice",
        "ThrottleDevice" => "blkiodev.ThrottleDevice",
        "DeviceMapping" => "container.DeviceMapping",
        "DeviceRequest" => "container.DeviceRequest",
        "Ulimit" => "units.Ulimit",
        "Mount" => "mount.Mount",
        "BindOptions" => "mount.BindOptions",
        "VolumeOptions" => "mount.VolumeOptions",
        "ImageOptions" => "mount.ImageOptions",
        "TmpfsOptions" => "mount.TmpfsOptions",
        "DriverConfig" => "mount.Driver",
        "NetworkingConfig" => "network.NetworkingConfig",
        "EndpointSettings" => "network.EndpointSettings",
        "EndpointIpamConfig" => "network.EndpointIPAMConfig",
        "NetworkCreateRequest" => "network.CreateRequest",
        "NetworkConnectRequest" => "network.ConnectOptions",
        "NetworkDisconnectRequest" => "network.DisconnectOptions",
        "Ipam" => "network.IPAM",
        "IpamConfig" => "network.IPAMConfig",
        "ConfigReference" => "network.ConfigReference",
        "PortBinding" => "nat.PortBinding",
        "HealthConfig" => "v1.HealthcheckConfig",
        "Empty" => "struct {}",
        "ExecCreateRequest" => "container.ExecOptions",
        "ExecStartRequest" => "container.ExecStartOptions",
        "UpdateRequest" | "ContainerUpdateRequest" | "UpdateConfig" => "container.UpdateConfig",
        "AuthConfig" => "registry.AuthConfig",
        other => other,
    }
}
