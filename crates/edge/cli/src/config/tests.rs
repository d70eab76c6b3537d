//! What flags become in the request.

use super::*;
use crate::flags;
use crate::spec::{Found, find};

fn plan_of(line: &str) -> Result<CreatePlan> {
    let Found::Command(command, _) = find(&["run".to_owned()]) else {
        panic!("run is a command")
    };
    let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let matches = flags::parse(command.flags, &args, false)?;
    let environment = [("HOME".to_owned(), "/root".to_owned())].into();
    plan(&matches, &environment)
}

/// The request of a line as the JSON that is sent.
fn json_of(line: &str) -> serde_json::Value {
    serde_json::to_value(plan_of(line).unwrap().request).unwrap()
}

fn error_of(line: &str) -> String {
    plan_of(line).unwrap_err().to_string()
}

#[test]
fn a_plain_run() {
    insta::assert_snapshot!(serde_json::to_string(&plan_of("debian ls -l").unwrap().request).unwrap(), @r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":["ls","-l"],"Image":"debian","Volumes":{},"WorkingDir":"","Entrypoint":null,"Labels":{},"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,"DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","MacAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}"#);
}

#[test]
fn streams_follow_from_flags() {
    let streams = |line: &str| {
        let config = plan_of(line).unwrap().request.config;
        (
            config.attach_stdin,
            config.attach_stdout,
            config.attach_stderr,
            config.open_stdin,
            config.stdin_once,
        )
    };
    assert_eq!(streams("x"), (false, true, true, false, false));
    assert_eq!(streams("-i x"), (true, true, true, true, true));
    assert_eq!(streams("-a stdout -i x"), (false, true, false, true, false));
    assert!(
        error_of("-a x y")
            .starts_with("invalid argument \"x\" for \"-a, --attach\" flag: valid streams are")
    );
}

#[test]
fn environment_and_labels() {
    let json = json_of("-e A=1 -e HOME -e NOPE -l a=b -l c x");
    assert_eq!(
        json["Env"],
        serde_json::json!(["A=1", "HOME=/root", "NOPE"])
    );
    assert_eq!(json["Labels"], serde_json::json!({"a": "b", "c": ""}));
    assert_eq!(
        error_of("-e =x y"),
        "invalid argument \"=x\" for \"-e, --env\" flag: invalid environment variable: =x"
    );
}

#[test]
fn files_of_variables() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env");
    fs_err::write(&file, "# comment\n\n  A=1\nHOME\nGONE\nB=x y=z\n").unwrap();
    let json = json_of(&format!("--env-file {} -e C=3 x", file.display()));
    assert_eq!(
        json["Env"],
        serde_json::json!(["A=1", "HOME=/root", "B=x y=z", "C=3"])
    );
    fs_err::write(&file, "A B=1\n").unwrap();
    let problem = |cause: &str| format!("invalid env file ({}): {cause}", file.display());
    assert_eq!(
        error_of(&format!("--env-file {} x", file.display())),
        problem("variable 'A B' contains whitespaces")
    );
    fs_err::write(&file, "=1\n").unwrap();
    assert_eq!(
        error_of(&format!("--label-file {} x", file.display())),
        problem("no variable name on line '=1'")
    );
    fs_err::write(&file, "a=1\nb\n").unwrap();
    let json = json_of(&format!("--label-file {} -l c x", file.display()));
    assert_eq!(json["Labels"], serde_json::json!({"a": "1", "c": ""}));
}

#[test]
fn entrypoints() {
    assert_eq!(json_of("x")["Entrypoint"], serde_json::Value::Null);
    assert_eq!(
        json_of("--entrypoint sh x")["Entrypoint"],
        serde_json::json!(["sh"])
    );
    assert_eq!(
        json_of("--entrypoint= x")["Entrypoint"],
        serde_json::json!([""])
    );
}

#[test]
fn volumes_and_mounts() {
    let json = json_of(
        "-v /a:/b:ro -v /anonymous --tmpfs /t:size=1m --mount type=bind,src=/h,dst=/c,readonly,bind-propagation=rslave --mount type=tmpfs,target=/m,tmpfs-size=1m,tmpfs-mode=1777 x",
    );
    assert_eq!(json["HostConfig"]["Binds"], serde_json::json!(["/a:/b:ro"]));
    assert_eq!(json["Volumes"], serde_json::json!({"/anonymous": {}}));
    assert_eq!(
        json["HostConfig"]["Tmpfs"],
        serde_json::json!({"/t": "size=1m"})
    );
    assert_eq!(
        json["HostConfig"]["Mounts"],
        serde_json::json!([
            {"Type": "bind", "Source": "/h", "Target": "/c", "ReadOnly": true, "BindOptions": {"Propagation": "rslave"}},
            {"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o1777}},
        ])
    );
    let cause = |mount: &str| {
        error_of(&format!("--mount {mount} x"))
            .rsplit_once("flag: ")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(cause("type=bind"), "target is required");
    assert_eq!(
        cause("nonsense"),
        "invalid field 'nonsense' must be a key=value pair"
    );
    assert_eq!(cause("target=/a,x=y"), "unexpected key 'x' in 'x=y'");
    assert_eq!(
        cause("type=bind,target=/a,tmpfs-size=1"),
        "cannot mix 'tmpfs-*' options with mount type 'bind'"
    );
}

#[test]
fn ports() {
    let json = json_of(
        "-p 8080:80 -p 127.0.0.1::53/udp -p [::1]:1-2:3-4 -p published=9,target=90 --expose 7-8 x",
    );
    assert_eq!(
        json["HostConfig"]["PortBindings"],
        serde_json::json!({
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
            "3/tcp": [{"HostIp": "::1", "HostPort": "1"}],
            "4/tcp": [{"HostIp": "::1", "HostPort": "2"}],
            "90/tcp": [{"HostIp": "", "HostPort": "9"}],
        })
    );
    assert_eq!(json["ExposedPorts"].as_object().unwrap().len(), 7);
    for bad in ["x", "1:99999", "1-2:3-5", "1.2.3:1:2", "80/xyz", "2-1", ""] {
        error_of(&format!("-p {bad} x"));
    }
}

#[test]
fn limits_and_devices() {
    let json = json_of(
        "-m 64m --memory-swap -1 --cpus 1.5 --pids-limit 100 --ulimit nofile=10:20 --ulimit nproc=5 --device /dev/a:/dev/b:r --device-read-bps /dev/sda:1mb --oom-kill-disable --init x",
    );
    let host = &json["HostConfig"];
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["MemorySwap"], -1);
    assert_eq!(host["NanoCpus"], 1_500_000_000);
    assert_eq!(host["PidsLimit"], 100);
    assert_eq!(
        host["Ulimits"],
        serde_json::json!([{"Name": "nofile", "Hard": 20, "Soft": 10}, {"Name": "nproc", "Hard": 5, "Soft": 5}])
    );
    assert_eq!(
        host["Devices"],
        serde_json::json!([{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}])
    );
    assert_eq!(
        host["BlkioDeviceReadBps"],
        serde_json::json!([{"Path": "/dev/sda", "Rate": 1_048_576}])
    );
    assert_eq!(host["OomKillDisable"], true);
    assert_eq!(host["Init"], true);
    assert!(
        error_of("--ulimit nofile=20:10 x")
            .ends_with("soft limit must be less than or equal to hard limit: 20 > 10")
    );
    assert!(error_of("--ulimit what=1 x").ends_with("invalid ulimit type: what"));
    assert!(
        error_of("--device-cgroup-rule nonsense x")
            .ends_with("invalid device cgroup format 'nonsense'")
    );
}

#[test]
fn restart_security_and_namespaces() {
    let json = json_of(
        "--restart on-failure:3 --security-opt no-new-privileges --security-opt systempaths=unconfined --pid host --network none x",
    );
    let host = &json["HostConfig"];
    assert_eq!(
        host["RestartPolicy"],
        serde_json::json!({"Name": "on-failure", "MaximumRetryCount": 3})
    );
    assert_eq!(
        host["SecurityOpt"],
        serde_json::json!(["no-new-privileges"])
    );
    assert_eq!(host["MaskedPaths"], serde_json::json!([]));
    assert_eq!(host["PidMode"], "host");
    assert_eq!(host["NetworkMode"], "none");
    assert_eq!(
        error_of("--rm --restart always x"),
        "conflicting options: cannot specify both --restart and --rm"
    );
    assert_eq!(error_of("--pid nonsense x"), "--pid: invalid PID mode");
    assert_eq!(
        error_of("--security-opt x y"),
        "Invalid --security-opt: \"x\""
    );
    assert_eq!(
        error_of("--no-healthcheck --health-cmd a x"),
        "--no-healthcheck conflicts with --health-* options"
    );
}
