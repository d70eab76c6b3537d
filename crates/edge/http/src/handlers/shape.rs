//! What older versions of the API expect, made from today's answers. One function for each kind of
//! answer; each change names the version that made it
//! (<https://docs.docker.com/reference/api/engine/version-history/>).

pub(super) mod request;

use serde_json::{Map, Value};

use crate::version::ApiVersion;

/// An event, or None when the client does not know its kind.
pub(super) fn event(version: ApiVersion, mut value: Value) -> Option<Value> {
    let kind = text(&value, "Type");
    let action = text(&value, "Action");
    if version.before(46) && kind == "image" && action == "create" {
        return None;
    }
    // 1.52 dropped the fields of before 1.22, which stood first.
    if version.before(52)
        && (kind == "container" || kind == "image")
        && let Value::Object(fields) = &mut value
    {
        let actor = fields.get("Actor").cloned().unwrap_or_default();
        let mut old = Map::new();
        old.insert("status".to_owned(), action.into());
        old.insert("id".to_owned(), text(&actor, "ID").into());
        let from = actor
            .get("Attributes")
            .map(|attributes| text(attributes, "image"));
        if kind == "container"
            && let Some(from) = from.filter(|from| !from.is_empty())
        {
            old.insert("from".to_owned(), from.into());
        }
        old.append(fields);
        *fields = old;
    }
    Some(value)
}

/// A list of images.
pub(super) fn image_list(version: ApiVersion, value: &mut Value) {
    for image in value.as_array_mut().into_iter().flatten() {
        let Value::Object(fields) = image else {
            continue;
        };
        if version.before(43) && is_empty(fields, "RepoTags") && is_empty(fields, "RepoDigests") {
            fields.insert("RepoTags".to_owned(), vec!["<none>:<none>"].into());
            fields.insert("RepoDigests".to_owned(), vec!["<none>@<none>"].into());
        }
        virtual_size(version, fields);
        if version.before(48) {
            fields.shift_remove("Descriptor");
        }
        if version.before(51) {
            fields.insert("Containers".to_owned(), (-1).into());
        }
    }
}

/// One image.
pub(super) fn image(version: ApiVersion, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    virtual_size(version, fields);
    if version.before(48) {
        fields.shift_remove("Descriptor");
    }
    if version.before(50)
        && let Some(Value::Object(config)) = fields.get_mut("Config")
    {
        of_containers(config);
    }
    if version.before(45) {
        let mut config = Map::new();
        of_containers(&mut config);
        for (name, none) in [
            ("Cmd", Value::Null),
            ("Entrypoint", Value::Null),
            ("Env", Value::Null),
            ("Labels", Value::Null),
            ("OnBuild", Value::Null),
            ("User", "".into()),
            ("Volumes", Value::Null),
            ("WorkingDir", "".into()),
        ] {
            config.insert(name.to_owned(), none);
        }
        fields.insert("Container".to_owned(), "".into());
        fields.insert("ContainerConfig".to_owned(), config.into());
    }
    if version.before(52) {
        for name in ["Parent", "Comment", "DockerVersion", "Author"] {
            fields.entry(name).or_insert_with(|| "".into());
        }
    }
}

/// Fields that an image's configuration had because it was of the same Go type as a container's; never set.
fn of_containers(config: &mut Map<String, Value>) {
    for name in ["Hostname", "Domainname", "Image"] {
        config.entry(name).or_insert_with(|| "".into());
    }
    for name in [
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
    ] {
        config.entry(name).or_insert(Value::Bool(false));
    }
}

/// A list of networks: who is on each was told before 1.28.
pub(super) fn network_list(version: ApiVersion, value: &mut Value) {
    for network in value.as_array_mut().into_iter().flatten() {
        if let Value::Object(fields) = network {
            fields.shift_remove("Status");
            if !version.before(28) {
                fields.shift_remove("Containers");
            }
        }
    }
}

/// A network: how much of it is in use came with 1.52.
pub(super) fn network(version: ApiVersion, value: &mut Value) {
    if let Value::Object(fields) = value
        && version.before(52)
    {
        fields.shift_remove("Status");
    }
}

/// A list of containers.
pub(super) fn container_list(version: ApiVersion, value: &mut Value) {
    for container in value.as_array_mut().into_iter().flatten() {
        let Value::Object(fields) = container else {
            continue;
        };
        if version.before(46)
            && let Some(Value::Object(host)) = fields.get_mut("HostConfig")
        {
            host.shift_remove("Annotations");
        }
        if version.before(48) {
            fields.shift_remove("ImageManifestDescriptor");
        }
        if version.before(52) {
            fields.shift_remove("Health");
        }
    }
}

/// `/info`.
pub(super) fn info(version: ApiVersion, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    if version.before(25) {
        for option in fields
            .get_mut("SecurityOptions")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let name = option.as_str().and_then(|text| text.split(',').next());
            let name = name.map(|name| name.trim_start_matches("name=").to_owned());
            *option = name.unwrap_or_default().into();
        }
    }
    if version.before(39) {
        for name in ["KernelVersion", "OperatingSystem"] {
            if fields.get(name).and_then(Value::as_str) == Some("") {
                fields.insert(name.to_owned(), "<unknown>".into());
            }
        }
    }
    if version.before(42) {
        fields.insert("KernelMemory".to_owned(), false.into());
    }
    if version.before(44)
        && let Some(Value::Object(runtimes)) = fields.get_mut("Runtimes")
    {
        for runtime in runtimes.values_mut().filter_map(Value::as_object_mut) {
            runtime.shift_remove("status");
        }
    }
    if version.before(46) {
        fields.shift_remove("Containerd");
    }
    if version.before(47)
        && let Some(Value::Object(registries)) = fields.get_mut("RegistryConfig")
    {
        for name in ["CIDRs", "Hostnames"] {
            let name = format!("AllowNondistributableArtifacts{name}");
            registries.insert(name, Value::Null);
        }
    }
    if version.before(49) {
        fields.shift_remove("FirewallBackend");
        for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            if let Some(Value::Object(commit)) = fields.get_mut(name)
                && let Some(id) = commit.get("ID").filter(|id| *id != "").cloned()
            {
                commit.insert("Expected".to_owned(), id);
            }
        }
    }
    if version.before(50) {
        fields.shift_remove("DiscoveredDevices");
        fields.insert("BridgeNfIptables".to_owned(), false.into());
        fields.insert("BridgeNfIp6tables".to_owned(), false.into());
    }
    if version.before(53) {
        fields.shift_remove("NRI");
    }
}

/// One container.
pub(super) fn container(version: ApiVersion, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    if version.before(48) {
        fields.shift_remove("ImageManifestDescriptor");
    }
    if !version.before(52) {
        return;
    }
    // 1.52 dropped the fields of before there were networks with names. Only the default bridge filled them.
    if let Some(Value::Object(network)) = fields.get_mut("NetworkSettings") {
        let bridge = network
            .get("Networks")
            .and_then(|networks| networks.get("bridge"))
            .cloned();
        for name in ["Bridge", "LinkLocalIPv6Address"] {
            network.insert(name.to_owned(), "".into());
        }
        network.insert("HairpinMode".to_owned(), false.into());
        network.insert("LinkLocalIPv6PrefixLen".to_owned(), 0.into());
        for name in ["SecondaryIPAddresses", "SecondaryIPv6Addresses"] {
            network.insert(name.to_owned(), Value::Null);
        }
        for (name, none) in [
            ("EndpointID", Value::from("")),
            ("Gateway", "".into()),
            ("GlobalIPv6Address", "".into()),
            ("GlobalIPv6PrefixLen", 0.into()),
            ("IPAddress", "".into()),
            ("IPPrefixLen", 0.into()),
            ("IPv6Gateway", "".into()),
            ("MacAddress", "".into()),
        ] {
            let own = bridge.as_ref().and_then(|bridge| bridge.get(name)).cloned();
            network.insert(name.to_owned(), own.unwrap_or(none));
        }
    }
    if let Some(Value::Object(config)) = fields.get_mut("Config") {
        config.entry("OnBuild").or_insert(Value::Null);
    }
}

/// What things take on the disk. Until 1.51 there were only lists; since then there are sums, with the lists inside
/// for `verbose` and still outside for those who do not know the parameter.
pub(super) fn disk_usage(version: ApiVersion, verbose: bool, value: &mut Value) {
    let Value::Object(sums) = value else { return };
    let mut old = Map::new();
    let size = sums
        .get("ImageUsage")
        .and_then(|usage| usage.get("TotalSize"));
    let size = size.cloned().unwrap_or_else(|| 0.into());
    old.insert("LayersSize".to_owned(), size);
    for (sum, list) in [
        ("ImageUsage", "Images"),
        ("ContainerUsage", "Containers"),
        ("VolumeUsage", "Volumes"),
        ("BuildCacheUsage", "BuildCache"),
    ] {
        let items = match sums.get_mut(sum) {
            Some(Value::Object(usage)) if verbose => usage.get("Items").cloned(),
            Some(Value::Object(usage)) => usage.shift_remove("Items"),
            _ => {
                old.insert(list.to_owned(), Value::Null);
                continue;
            }
        };
        old.insert(
            list.to_owned(),
            items.unwrap_or_else(|| Value::Array(Vec::new())),
        );
    }
    for image in old
        .get_mut("Images")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Value::Object(fields) = image {
            virtual_size(version, fields);
        }
    }
    if let Some(containers) = old.get_mut("Containers") {
        container_list(version, containers);
    }
    if version.before(42) {
        old.insert("BuilderSize".to_owned(), 0.into());
    }
    if version.before(52) {
        *sums = old;
    } else if !verbose {
        old.retain(|_, list| !list.is_null());
        old.append(sums);
        *sums = old;
    }
}

/// 1.44 dropped `VirtualSize`, which had become the same as `Size`.
fn virtual_size(version: ApiVersion, fields: &mut Map<String, Value>) {
    if version.before(44)
        && let Some(size) = fields.get("Size").cloned()
    {
        fields.insert("VirtualSize".to_owned(), size);
    }
}

fn text(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned()
}

fn is_empty(fields: &Map<String, Value>, name: &str) -> bool {
    fields
        .get(name)
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NEW: ApiVersion = ApiVersion::new(1, 56);

    #[test]
    fn events_have_their_old_fields_for_old_clients_only() {
        let now = json!({"Type": "container", "Action": "start",
            "Actor": {"ID": "abc", "Attributes": {"image": "debian"}}, "time": 1});
        assert_eq!(event(NEW, now.clone()), Some(now.clone()));
        let old = event(ApiVersion::new(1, 50), now).unwrap();
        assert_eq!(
            old.to_string(),
            r#"{"status":"start","id":"abc","from":"debian","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"debian"}},"time":1}"#
        );
        let created = json!({"Type": "image", "Action": "create", "Actor": {"ID": "x"}});
        assert_eq!(event(ApiVersion::new(1, 45), created.clone()), None);
        assert_eq!(event(NEW, created.clone()), Some(created));
    }

    #[test]
    fn image_lists_are_reshaped() {
        let now = json!([{"Size": 5, "RepoTags": [], "RepoDigests": [], "Containers": 2, "Descriptor": {}}]);
        let mut value = now.clone();
        image_list(NEW, &mut value);
        assert_eq!(value, now);
        image_list(ApiVersion::new(1, 40), &mut value);
        assert_eq!(
            value,
            json!([{"Size": 5, "VirtualSize": 5, "Containers": -1,
                "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}])
        );
    }

    #[test]
    fn one_image_is_reshaped() {
        let mut value = json!({"Size": 5, "Comment": "x", "Descriptor": {}});
        image(ApiVersion::new(1, 43), &mut value);
        assert_eq!(
            value,
            json!({"Size": 5, "VirtualSize": 5, "Comment": "x", "Parent": "", "DockerVersion": "", "Author": "",
                "Container": "", "ContainerConfig": {"Hostname": "", "Domainname": "", "Image": "",
                "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Tty": false,
                "OpenStdin": false, "StdinOnce": false, "Cmd": null, "Entrypoint": null, "Env": null,
                "Labels": null, "OnBuild": null, "User": "", "Volumes": null, "WorkingDir": ""}})
        );
        let mut value = json!({"Config": {"User": "u"}, "Comment": "x"});
        image(ApiVersion::new(1, 49), &mut value);
        assert_eq!(value["Config"]["StdinOnce"], json!(false));
        assert_eq!(value.get("ContainerConfig"), None);
    }

    #[test]
    fn information_is_reshaped() {
        let now = json!({"SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"], "KernelVersion": "",
            "Runtimes": {"a": {"path": "x", "status": {"k": "v"}}}, "RegistryConfig": {}, "RuncCommit": {"ID": "1"},
            "InitCommit": {"ID": ""}, "DiscoveredDevices": [], "NRI": {}, "Containerd": {}, "FirewallBackend": {}});
        let shaped = |minor| {
            let mut value = now.clone();
            info(ApiVersion::new(1, minor), &mut value);
            value
        };
        assert_eq!(shaped(56), now);
        assert_eq!(
            shaped(24),
            json!({"SecurityOptions": ["seccomp", "cgroupns"], "KernelVersion": "<unknown>", "KernelMemory": false,
                "Runtimes": {"a": {"path": "x"}}, "RuncCommit": {"ID": "1", "Expected": "1"},
                "InitCommit": {"ID": ""}, "RegistryConfig": {"AllowNondistributableArtifactsCIDRs": null,
                "AllowNondistributableArtifactsHostnames": null},
                "BridgeNfIptables": false, "BridgeNfIp6tables": false})
        );
        assert_eq!(shaped(52).get("NRI"), None);
    }

    #[test]
    fn one_container_has_the_old_addresses() {
        let mut value = json!({"ImageManifestDescriptor": {}, "Config": {},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "1.2.3.4"}}}});
        let now = value.clone();
        container(NEW, &mut value);
        assert_eq!(value, now);
        container(ApiVersion::new(1, 47), &mut value);
        assert_eq!(value.get("ImageManifestDescriptor"), None);
        assert_eq!(value["NetworkSettings"]["IPAddress"], json!("1.2.3.4"));
        assert_eq!(value["NetworkSettings"]["HairpinMode"], json!(false));
        assert_eq!(value["Config"], json!({"OnBuild": null}));
    }

    #[test]
    fn disk_usage_has_three_shapes() {
        let usage = json!({"ImageUsage": {"Items": [{"Id": "a", "Size": 7}], "TotalCount": 1, "TotalSize": 7},
            "ContainerUsage": {}});
        let shaped = |version, verbose| {
            let mut value = usage.clone();
            disk_usage(version, verbose, &mut value);
            value
        };
        assert_eq!(
            shaped(ApiVersion::new(1, 51), true),
            json!({"LayersSize": 7, "Images": [{"Id": "a", "Size": 7}], "Containers": [], "Volumes": null,
                "BuildCache": null}),
            "the parameter is of 1.52"
        );
        assert_eq!(
            shaped(ApiVersion::new(1, 43), false)["Images"],
            json!([{"Id": "a", "Size": 7, "VirtualSize": 7}])
        );
        assert_eq!(
            shaped(NEW, false),
            json!({"LayersSize": 7, "Images": [{"Id": "a", "Size": 7}], "Containers": [],
                "ImageUsage": {"TotalCount": 1, "TotalSize": 7}, "ContainerUsage": {}})
        );
        assert_eq!(shaped(NEW, true), usage);
    }

    #[test]
    fn container_lists_are_reshaped() {
        let mut value = json!([{"Id": "a", "HostConfig": {"NetworkMode": "x", "Annotations": {}}, "Health": {}, "ImageManifestDescriptor": {}}]);
        container_list(ApiVersion::new(1, 45), &mut value);
        assert_eq!(
            value,
            json!([{"Id": "a", "HostConfig": {"NetworkMode": "x"}}])
        );
    }
}
