//! What requests of older versions of the API mean: fields that came later are not seen, defaults that changed are
//! the old ones, and what an old daemon could not have understood is refused. Each rule names its version
//! (<https://github.com/moby/moby/blob/master/api/docs/CHANGELOG.md>).

use std::collections::BTreeMap;

use havre_api_traits::ApiError;
use havre_engine_types::{
    BindOptions, ContainerCreateRequest, EndpointSettings, HostConfig, Mount, PortBinding,
};

use crate::version::ApiVersion;

/// Brings a request to make a container into today's form; the warnings are for the answer.
pub(in super::super) fn create(
    version: ApiVersion,
    request: &mut ContainerCreateRequest,
) -> Result<Vec<String>, ApiError> {
    if let Some(check) = &mut request.config.healthcheck
        && version.before(44)
    {
        check.start_interval = 0;
    }
    if let Some(networking) = &mut request.networking_config {
        let endpoints = networking.endpoints_config.iter_mut().flatten();
        if version.before(48) {
            endpoints.for_each(|(_, endpoint)| endpoint.gw_priority = 0);
        }
        let names = networking.endpoints_config.iter().flatten();
        let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
        if version.before(44) && names.len() > 1 {
            return Err(ApiError::invalid(format!(
                "Container cannot be created with multiple network endpoints: {}",
                names.join(", ")
            )));
        }
    }
    let deprecated = mac_address(version, request)?;
    let Some(host) = &mut request.host_config else {
        return Ok(deprecated.into_iter().collect());
    };
    defaults(version, host);
    for mount in host.mounts.iter_mut().flatten() {
        self::mount(version, mount)?;
    }
    let warnings = [
        volume_driver(version, host),
        deprecated,
        port_bindings(version, host),
    ];
    Ok(warnings.into_iter().flatten().collect())
}

/// Until 1.44 there was one hardware address for the whole container; since 1.52 nobody looks at it.
/// <https://github.com/moby/moby/blob/master/daemon/server/router/container/container_routes.go> (`handleMACAddressBC`)
fn mac_address(
    version: ApiVersion,
    request: &mut ContainerCreateRequest,
) -> Result<Option<String>, ApiError> {
    let asked = std::mem::take(&mut request.mac_address);
    let (old, gone) = (version.before(44), !version.before(52));
    let endpoints = request
        .networking_config
        .get_or_insert_default()
        .endpoints_config
        .get_or_insert_default();
    if asked.is_empty() || gone {
        if old {
            endpoints
                .values_mut()
                .for_each(|endpoint| endpoint.mac_address.clear());
        }
        return Ok(None);
    }
    let mode = request.host_config.as_ref();
    let mode = match mode.map_or("", |host| host.network_mode.as_str()) {
        "" => "default",
        mode => mode,
    };
    if matches!(mode, "host" | "none") || mode.starts_with("container:") {
        if old {
            return Err(ApiError::invalid(
                "conflicting options: mac-address and the network mode",
            ));
        }
    } else {
        let endpoint = endpoint_of(endpoints, mode, old)?;
        if old || endpoint.mac_address.is_empty() {
            endpoint.mac_address = asked;
        } else if !endpoint.mac_address.eq_ignore_ascii_case(&asked) {
            return Err(ApiError::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
    }
    Ok((!old).then(|| {
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.".to_owned()
    }))
}

/// What is said of the network of the network mode. Old requests name one network at most.
fn endpoint_of<'a>(
    endpoints: &'a mut BTreeMap<String, EndpointSettings>,
    mode: &str,
    old: bool,
) -> Result<&'a mut EndpointSettings, ApiError> {
    if endpoints.is_empty() {
        return Ok(endpoints.entry(mode.to_owned()).or_default());
    }
    let found = if old {
        endpoints.values_mut().next()
    } else {
        // `default` is another word for `bridge`.
        let same = |name: &str| match name {
            "default" => "bridge".to_owned(),
            other => other.to_owned(),
        };
        let mut named = endpoints.iter_mut();
        named
            .find(|(name, _)| same(name) == same(mode))
            .map(|(_, endpoint)| endpoint)
    };
    found.ok_or_else(|| {
        ApiError::invalid(
            "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks",
        )
    })
}

fn defaults(version: ApiVersion, host: &mut HostConfig) {
    if version.before(25) {
        // The client removed the container itself.
        host.auto_remove = false;
    }
    if version.before(40) && host.ipc_mode.is_empty() {
        "shareable".clone_into(&mut host.ipc_mode);
    }
    if version.before(42) {
        host.console_size = [0, 0];
    }
    if version.before(43) {
        host.annotations = None;
    }
    // Any number below one has always meant "no limit" here.
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
}

fn mount(version: ApiVersion, mount: &mut Mount) -> Result<(), ApiError> {
    let invalid = |text: &str| Err(ApiError::invalid(text));
    if let Some(bind) = &mut mount.bind_options {
        bind.non_recursive &= !version.before(40);
        bind.create_mountpoint &= !version.before(42);
    }
    let others = [
        ("VolumeOptions", "volume", mount.volume_options.is_some()),
        ("BindOptions", "bind", mount.bind_options.is_some()),
        ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
    ];
    if version.before(42) {
        // Nobody looked at options of another kind of mount.
        mount.volume_options = mount
            .volume_options
            .take()
            .filter(|_| mount.kind == "volume");
        mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| mount.kind == "tmpfs");
    } else if let Some((options, ..)) = others
        .into_iter()
        .find(|(_, kind, given)| *given && mount.kind != *kind)
    {
        let kind = &mount.kind;
        return invalid(&format!(
            "{options} must not be specified on mount type {kind:?}"
        ));
    }
    if version.before(44) && mount.kind == "bind" {
        let bind = mount.bind_options.get_or_insert_with(BindOptions::default);
        if bind.read_only_force_recursive {
            return invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer");
        }
        // "Read-only" was for the mount itself and not for those below it.
        bind.read_only_non_recursive |= mount.read_only;
    }
    let volume = mount.volume_options.as_ref();
    if version.before(45) && volume.is_some_and(|volume| !volume.subpath.is_empty()) {
        return invalid("VolumeOptions.Subpath needs API v1.45 or newer");
    }
    if version.before(48) && mount.kind == "image" {
        return invalid("Mount type \"Image\" needs API v1.48 or newer");
    }
    Ok(())
}

/// From 1.48 on the daemon says what the command line said before.
fn volume_driver(version: ApiVersion, host: &HostConfig) -> Option<String> {
    let ignored = |mount: &Mount| {
        let options = mount.volume_options.as_ref();
        let driver = options.and_then(|options| options.driver_config.as_ref());
        mount.kind == "volume" && driver.is_none_or(|driver| driver.name.is_empty())
    };
    let concerned = !host.volume_driver.is_empty() && !version.before(48);
    (concerned && host.mounts.iter().flatten().any(ignored)).then(|| {
        "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".to_owned()
    })
}

/// An empty list of addresses has always meant any address; 1.52 warns of it.
fn port_bindings(version: ApiVersion, host: &mut HostConfig) -> Option<String> {
    let mut empty = Vec::new();
    for (port, bindings) in host.port_bindings.iter_mut().flatten() {
        if bindings.as_ref().is_none_or(Vec::is_empty) {
            *bindings = Some(vec![PortBinding::default()]);
            empty.push(port.as_str());
        }
    }
    (!empty.is_empty() && !version.before(52)).then(|| {
        format!(
            "Following container port(s) have an empty list of port-bindings: {}. Such bindings will be discarded in a future version.",
            empty.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use havre_engine_types::gojson;
    use serde_json::{Value, json};

    use super::*;

    /// The request as the engine sees it, or the refusal.
    fn shaped(minor: u32, body: &Value) -> Result<(Value, Vec<String>), String> {
        let mut request: ContainerCreateRequest = gojson::from_value(body.clone()).unwrap();
        let warnings = create(ApiVersion::new(1, minor), &mut request).map_err(|e| e.message)?;
        Ok((serde_json::to_value(request).unwrap(), warnings))
    }

    #[test]
    fn fields_of_later_versions_are_not_seen() {
        let body = json!({
            "Healthcheck": {"StartInterval": 5},
            "HostConfig": {
                "AutoRemove": true, "ConsoleSize": [3, 4], "Annotations": {"a": "b"}, "PidsLimit": -1,
                "Mounts": [{"Type": "bind", "ReadOnly": true,
                    "BindOptions": {"NonRecursive": true, "CreateMountpoint": true}}],
            },
            "NetworkingConfig": {"EndpointsConfig": {"a": {"GwPriority": 3}}},
        });
        let pick = |minor, path: &str| {
            let (value, _) = shaped(minor, &body).unwrap();
            value.pointer(path).cloned().unwrap_or_default()
        };
        for (path, before, since) in [
            (
                "/HostConfig/AutoRemove",
                (24, json!(false)),
                (25, json!(true)),
            ),
            (
                "/HostConfig/IpcMode",
                (39, json!("shareable")),
                (40, json!("")),
            ),
            (
                "/HostConfig/ConsoleSize",
                (41, json!([0, 0])),
                (42, json!([3, 4])),
            ),
            (
                "/HostConfig/Annotations",
                (42, json!(null)),
                (43, json!({"a": "b"})),
            ),
            (
                "/HostConfig/PidsLimit",
                (24, json!(null)),
                (56, json!(null)),
            ),
            (
                "/HostConfig/Mounts/0/BindOptions/NonRecursive",
                (39, json!(null)),
                (40, json!(true)),
            ),
            (
                "/HostConfig/Mounts/0/BindOptions/CreateMountpoint",
                (41, json!(null)),
                (42, json!(true)),
            ),
            (
                "/HostConfig/Mounts/0/BindOptions/ReadOnlyNonRecursive",
                (43, json!(true)),
                (44, json!(null)),
            ),
            (
                "/NetworkingConfig/EndpointsConfig/a/GwPriority",
                (47, json!(0)),
                (48, json!(3)),
            ),
        ] {
            assert_eq!(pick(before.0, path), before.1, "{path} before");
            assert_eq!(pick(since.0, path), since.1, "{path} since");
        }
        let interval = "/Healthcheck/StartInterval";
        assert_ne!(pick(43, interval), json!(5));
        assert_eq!(pick(44, interval), json!(5));
    }

    #[test]
    fn what_an_old_daemon_cannot_know_is_refused() {
        let mount = |mount: Value| json!({"HostConfig": {"Mounts": [mount]}});
        let networks = json!({"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}});
        for (body, before, since, message) in [
            (
                mount(json!({"Type": "image"})),
                47,
                48,
                "Mount type \"Image\" needs API v1.48 or newer",
            ),
            (
                mount(json!({"Type": "volume", "VolumeOptions": {"Subpath": "x"}})),
                44,
                45,
                "VolumeOptions.Subpath needs API v1.45 or newer",
            ),
            (
                mount(json!({"Type": "bind", "BindOptions": {"ReadOnlyForceRecursive": true}})),
                43,
                44,
                "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
            ),
            (
                networks,
                43,
                44,
                "Container cannot be created with multiple network endpoints: a, b",
            ),
        ] {
            assert_eq!(shaped(before, &body).unwrap_err(), message);
            shaped(since, &body).unwrap();
        }
        let wrong = mount(json!({"Type": "tmpfs", "VolumeOptions": {}}));
        assert_eq!(
            shaped(42, &wrong).unwrap_err(),
            "VolumeOptions must not be specified on mount type \"tmpfs\""
        );
        let (old, _) = shaped(41, &wrong).unwrap();
        assert_eq!(old.pointer("/HostConfig/Mounts/0/VolumeOptions"), None);
    }

    #[test]
    fn the_whole_containers_hardware_address_is_its_main_networks() {
        let mac = "02:00:00:00:00:44";
        let body = |mode: &str, endpoints: Value| {
            json!({"MacAddress": mac, "HostConfig": {"NetworkMode": mode},
                "NetworkingConfig": {"EndpointsConfig": endpoints}})
        };
        let at = |value: &Value, name: &str| {
            let endpoints = &value["NetworkingConfig"]["EndpointsConfig"];
            endpoints[name]["MacAddress"].clone()
        };
        let own = json!({"lan": {"MacAddress": "02:00:00:00:00:55"}});
        for (minor, mode, endpoints, name, expected, warnings) in [
            (43, "lan", json!({}), "lan", json!(mac), 0),
            (43, "lan", own.clone(), "lan", json!(mac), 0),
            (43, "default", json!({"x": {}}), "x", json!(mac), 0),
            (
                44,
                "lan",
                json!({"lan": {}, "wan": {}}),
                "lan",
                json!(mac),
                1,
            ),
            (
                51,
                "bridge",
                json!({"default": {}}),
                "default",
                json!(mac),
                1,
            ),
            (51, "none", json!({}), "none", Value::Null, 1),
            (52, "lan", json!({}), "lan", Value::Null, 0),
        ] {
            let (value, said) = shaped(minor, &body(mode, endpoints)).unwrap();
            assert_eq!(
                (at(&value, name), said.len()),
                (expected, warnings),
                "{minor} {mode}"
            );
        }
        for (minor, mode, endpoints, message) in [
            (
                43,
                "container:x",
                json!({}),
                "conflicting options: mac-address and the network mode",
            ),
            (
                44,
                "lan",
                own.clone(),
                "the container-wide MAC address must match",
            ),
            (
                44,
                "lan",
                json!({"wan": {}}),
                "HostConfig.NetworkMode must match the identity",
            ),
        ] {
            let refused = shaped(minor, &body(mode, endpoints)).unwrap_err();
            assert!(refused.contains(message), "{minor} {mode}: {refused}");
        }
        // What a client before 1.44 had read and sent back.
        let (value, _) =
            shaped(43, &json!({"NetworkingConfig": {"EndpointsConfig": own}})).unwrap();
        assert_eq!(at(&value, "lan"), json!(""));
    }

    #[test]
    fn warnings_are_of_their_version() {
        let driver = json!({"HostConfig": {"VolumeDriver": "x", "Mounts": [{"Type": "volume"}]}});
        assert_eq!(shaped(47, &driver).unwrap().1.len(), 0);
        assert_eq!(shaped(48, &driver).unwrap().1.len(), 1);
        let ports = json!({"HostConfig": {"PortBindings": {"80/tcp": [], "81/tcp": null, "82/tcp": [{"HostPort": "1"}]}}});
        assert_eq!(shaped(51, &ports).unwrap().1.len(), 0);
        let (value, warnings) = shaped(52, &ports).unwrap();
        assert!(warnings[0].contains("80/tcp, 81/tcp."), "{warnings:?}");
        let any = json!([{"HostIp": "", "HostPort": ""}]);
        assert_eq!(value["HostConfig"]["PortBindings"]["81/tcp"], any);
    }
}
