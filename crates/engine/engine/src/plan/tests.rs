//! Snapshots of whole plans: what a reader of the specification would see, with the long constant lists cut.

use havre_engine_types::{DeviceMapping, RestartPolicy, Ulimit};
use havre_oci::ImageConfig;
use serde_json::Value;

use super::*;

pub(super) fn facts() -> HostFacts {
    HostFacts {
        hostname: "host".to_owned(),
        cpus: 4,
        memory: 8 << 30,
        pid_max: 4_194_304,
        capabilities: u64::MAX >> 23,
        hard_limits: vec![(PosixRlimitType::RlimitNofile, 20_000)],
        thermal_throttle: Vec::new(),
        time_namespace: true,
        cgroup_parent: "havre-test".to_owned(),
        init: InitFacts {
            by_default: false,
            program: "/opt/havre-init".into(),
        },
        default_sysctls: DEFAULT_SYSCTLS.to_vec(),
        limits: havre_cgroup::Features {
            memory: true,
            swap: true,
            reservation: true,
            swappiness: true,
            oom_kill_disable: true,
            cpu_shares: true,
            cpu_quota: true,
            cpuset: true,
            pids: true,
            io_weight: true,
            io_weight_device: true,
            io_rates: true,
            cpus: "0-3".to_owned(),
            memory_nodes: "0".to_owned(),
            ..havre_cgroup::Features::default()
        },
    }
}

fn image() -> ImageConfig {
    let mut image = ImageConfig::default();
    image.config.env = Some(vec!["PATH=/bin".to_owned(), "LANG=C".to_owned()]);
    image.config.cmd = Some(vec!["sh".to_owned()]);
    image.config.working_dir = "/srv".to_owned();
    image.config.labels = Some([("io.containerd.evil".to_owned(), "1".to_owned())].into());
    image
}

/// The plan of a request, as sorted JSON without the long lists that have tests of their own.
fn plan(config: ContainerConfig, host: &HostConfig) -> Result<String, ApiError> {
    let merged = merge(config, &image())?;
    check(&merged, host, &image(), &facts())?;
    let identity = resolve_user(&merged.user, &[], &Accounts::default())?;
    let node = HostDevice {
        path: "/dev/fuse".into(),
        kind: DeviceKind::Char,
        major: 10,
        minor: 229,
        mode: 0o666,
        uid: 0,
        gid: 0,
        permissions: "rw".to_owned(),
    };
    let devices = Devices {
        nodes: host.devices.iter().map(|_| node.clone()).collect(),
        numbers: Numbers([("/dev/sda".to_owned(), (8, 0))].into()),
        ..Devices::default()
    };
    let spec = spec(Inputs {
        id: &ContainerId::from_bytes([0xab; 32]),
        config: &merged,
        host,
        facts: &facts(),
        filters: &Filters::default(),
        identity: &identity,
        devices: &devices,
        modes: &Modes::parse(host)?,
        data: Path::new("/data"),
    })?;
    let mut value = serde_json::to_value(&spec).unwrap();
    shorten(&mut value);
    Ok(serde_json::to_string_pretty(&value).unwrap())
}

fn shorten(value: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        if let Some(list) = value.pointer_mut(&format!("/process/capabilities/{set}")) {
            *list = Value::from(list.as_array().map_or(0, Vec::len));
        }
    }
    if let Some(filter) = value.pointer_mut("/linux/seccomp") {
        *filter = Value::from("(filter)");
    }
    if let Some(list) = value.pointer_mut("/linux/maskedPaths") {
        *list = Value::from(list.as_array().map_or(0, Vec::len));
    }
    if let Some(rules) = value.pointer_mut("/linux/resources/devices") {
        let all = rules.as_array().cloned().unwrap_or_default();
        let ends = [all.first().cloned(), all.last().cloned()];
        *rules = serde_json::json!({ "count": all.len(), "ends": ends });
    }
    value.sort_all_objects();
}

fn strings(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|s| (*s).to_owned()).collect())
}

#[test]
fn a_plain_container() {
    insta::assert_snapshot!(plan(ContainerConfig::default(), &HostConfig::default()).unwrap());
}

#[test]
fn everything_at_once() {
    let config = ContainerConfig {
        hostname: "box".to_owned(),
        user: "1000:50".to_owned(),
        tty: true,
        env: strings(&["LANG=de", "A=b"]),
        entrypoint: strings(&["run"]),
        cmd: strings(&["x y"]),
        working_dir: "/a/../b".to_owned(),
        ..ContainerConfig::default()
    };
    let host = HostConfig {
        binds: strings(&["/host:/in:ro"]),
        tmpfs: Some([("/run".to_owned(), "size=1m".to_owned())].into()),
        network_mode: "host".to_owned(),
        pid_mode: "host".to_owned(),
        ipc_mode: "host".to_owned(),
        cap_drop: strings(&["ALL"]),
        cap_add: strings(&["NET_ADMIN"]),
        security_opt: strings(&["no-new-privileges", "seccomp=unconfined"]),
        readonly_rootfs: true,
        memory: 64 << 20,
        nano_cpus: 1_500_000_000,
        cpuset_cpus: "0-1".to_owned(),
        pids_limit: Some(10),
        devices: Some(vec![DeviceMapping::default()]),
        ulimits: Some(vec![Ulimit {
            name: "nofile".to_owned(),
            soft: 10,
            hard: 20,
        }]),
        oom_score_adj: 100,
        annotations: Some([("a".to_owned(), "b".to_owned())].into()),
        ..HostConfig::default()
    };
    insta::assert_snapshot!(plan(config, &host).unwrap());
}

#[test]
fn a_privileged_container() {
    let host = HostConfig {
        privileged: true,
        ..HostConfig::default()
    };
    insta::assert_snapshot!(plan(ContainerConfig::default(), &host).unwrap());
}

#[test]
fn labels_of_an_image_never_become_annotations() {
    let text = plan(ContainerConfig::default(), &HostConfig::default()).unwrap();
    assert!(!text.contains("evil"), "{text}");
}

#[test]
fn what_is_not_there_yet_is_named() {
    let base = HostConfig::default;
    let refused: Vec<String> = [
        HostConfig {
            binds: strings(&["vol:/x"]),
            ..base()
        },
        HostConfig {
            userns_mode: "auto".to_owned(),
            ..base()
        },
        HostConfig {
            memory: 1,
            ..base()
        },
        HostConfig {
            nano_cpus: 5_000_000_000,
            ..base()
        },
        HostConfig {
            cpuset_cpus: "0-2000000000".to_owned(),
            ..base()
        },
        HostConfig {
            auto_remove: true,
            restart_policy: RestartPolicy {
                name: "always".to_owned(),
                maximum_retry_count: 0,
            },
            ..base()
        },
    ]
    .iter()
    .map(|host| {
        let err = plan(ContainerConfig::default(), host).unwrap_err();
        format!("{:?}: {}", err.kind, err.message)
    })
    .collect();
    insta::assert_snapshot!(refused.join("\n"));
}

/// As with dockerd, whose health checks in shell form take `/bin/sh` whatever the image was built with.
#[test]
fn the_shell_of_an_image_is_not_its_containers() {
    let mut image = image();
    image.config.shell = strings(&["/bin/ash", "-c"]);
    let mut user = ContainerConfig::default();
    assert_eq!(merge(user.clone(), &image).unwrap().shell, None);
    user.shell = strings(&["/bin/own"]);
    let own = merge(user, &image).unwrap().shell;
    assert_eq!(own, strings(&["/bin/own"]));
}

#[test]
fn commands_merge_as_dockers() {
    let case =
        |entrypoint: Option<Vec<String>>, cmd: Option<Vec<String>>, base: Option<Vec<String>>| {
            let mut image = image();
            image.config.entrypoint = base;
            let user = ContainerConfig {
                entrypoint,
                cmd,
                ..ContainerConfig::default()
            };
            merge(user, &image)
                .map(|c| (c.entrypoint, c.cmd))
                .map_err(|err| err.message)
        };
    let e = strings(&["e"]);
    let c = strings(&["c"]);
    let sh = strings(&["sh"]);
    assert_eq!(case(None, None, None), Ok((None, sh.clone())));
    assert_eq!(case(None, c.clone(), e.clone()), Ok((e.clone(), c.clone())));
    assert_eq!(case(None, None, e.clone()), Ok((e.clone(), sh)));
    assert_eq!(
        case(strings(&["u"]), None, e.clone()),
        Ok((strings(&["u"]), None))
    );
    assert_eq!(case(strings(&[""]), c.clone(), e.clone()), Ok((None, c)));
    assert_eq!(
        case(strings(&[""]), None, e),
        Err("no command specified".to_owned())
    );
}

#[test]
fn an_init_process_comes_first_where_it_makes_sense() {
    let first = |host: &HostConfig| -> (Value, bool) {
        let text = plan(ContainerConfig::default(), host).unwrap();
        let plan: Value = serde_json::from_str(&text).unwrap();
        (
            plan["process"]["args"].clone(),
            text.contains("/opt/havre-init"),
        )
    };
    let host = |init: Option<bool>, pid_mode: &str| HostConfig {
        init,
        pid_mode: pid_mode.to_owned(),
        network_mode: "none".to_owned(),
        ..HostConfig::default()
    };
    let with = (serde_json::json!(["/sbin/docker-init", "--", "sh"]), true);
    let without = (serde_json::json!(["sh"]), false);
    assert_eq!(first(&host(Some(true), "")), with);
    assert_eq!(first(&host(Some(false), "")), without);
    assert_eq!(first(&host(None, "")), without);
    assert_eq!(
        first(&host(Some(true), "host")),
        without,
        "there is an init already"
    );
}
