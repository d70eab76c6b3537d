//! Plans, as a reader would check them, for each layout of hierarchies.

use havre_cgroup::{CgroupError, Host, Mode, plan};
use havre_sys::mounts::parse;
use havre_types::{Classify as _, ErrorKind};
use insta::assert_snapshot;
use oci_spec::runtime::LinuxResources;

fn host(mode: Mode) -> Host {
    let mut mounts = String::new();
    let mut controllers = "";
    if mode != Mode::V2 {
        for name in [
            "cpu", "cpuset", "memory", "devices", "blkio", "pids", "net_cls", "net_prio",
        ] {
            mounts.push_str(&format!(
                "1 1 0:1 / /c/{name} rw - cgroup cgroup rw,{name}\n"
            ));
        }
        mounts.push_str("1 1 0:1 / /c/freezer rw - cgroup cgroup rw,freezer\n");
    }
    if mode != Mode::V1 {
        mounts.push_str("1 1 0:1 / /c/unified rw - cgroup2 cgroup2 rw\n");
        controllers = match mode {
            Mode::V2 => "cpuset cpu io memory hugetlb pids rdma",
            Mode::V1 | Mode::Hybrid => "hugetlb",
        };
    }
    let host = Host::from_mounts(&parse(mounts.as_bytes()), controllers).expect("mounted");
    assert_eq!(host.mode(), mode);
    host
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).expect("valid resources")
}

/// One line a write.
fn render(mode: Mode, json: &str) -> String {
    let plan = plan(&host(mode), &resources(json)).expect("a valid plan");
    let mut out = String::new();
    for write in plan.writes {
        let controller = write
            .controller
            .map_or("-".to_owned(), |c| format!("{c:?}"));
        out.push_str(&format!("{controller} {} = {}\n", write.file, write.value));
    }
    if let Some(policy) = plan.devices {
        let ((file, line), (others, lines)) = policy.v1_writes();
        out.push_str(&format!("Devices {file} = {line}\n"));
        for line in lines {
            out.push_str(&format!("Devices {others} = {line}\n"));
        }
    }
    if !plan.ignored.is_empty() {
        out.push_str(&format!("ignored: {}\n", plan.ignored.join(", ")));
    }
    out
}

fn refusal(mode: Mode, json: &str) -> (String, ErrorKind) {
    let error: CgroupError = plan(&host(mode), &resources(json)).expect_err("it must be refused");
    (error.to_string(), error.kind())
}

const EVERYTHING: &str = r#"{
    "memory": {"limit": 104857600, "swap": 209715200, "reservation": 52428800, "swappiness": 10,
        "kernelTCP": 4096, "disableOOMKiller": true},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 1000, "cpus": "0-1,3",
        "mems": "0", "realtimeRuntime": 950000, "realtimePeriod": 1000000},
    "pids": {"limit": 100},
    "blockIO": {"weight": 500, "leafWeight": 10,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 300}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 100}]},
    "devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"}]
}"#;

#[test]
fn everything_on_version_1() {
    assert_snapshot!(render(Mode::V1, EVERYTHING), @r"
Memory memory.limit_in_bytes = 104857600
Memory memory.memsw.limit_in_bytes = 209715200
Memory memory.soft_limit_in_bytes = 52428800
Memory memory.kmem.tcp.limit_in_bytes = 4096
Memory memory.swappiness = 10
Memory memory.oom_control = 1
Cpu cpu.shares = 512
Cpu cpu.cfs_period_us = 100000
Cpu cpu.cfs_quota_us = 50000
Cpu cpu.cfs_burst_us = 1000
Cpu cpu.rt_period_us = 1000000
Cpu cpu.rt_runtime_us = 950000
Cpuset cpuset.cpus = 0-1,3
Cpuset cpuset.mems = 0
Pids pids.max = 100
Io blkio.bfq.weight = 500
Io blkio.bfq.weight_device = 8:0 300
Io blkio.throttle.read_bps_device = 8:0 1048576
Io blkio.throttle.write_iops_device = 8:16 100
Devices devices.deny = a
Devices devices.allow = c 10:200 rw
ignored: blockIO.leafWeight
");
}

#[test]
fn everything_on_version_2() {
    assert_snapshot!(render(Mode::V2, EVERYTHING), @r"
Memory memory.swap.max = 104857600
Memory memory.max = 104857600
Memory memory.low = 52428800
Cpu cpu.weight = 59
Cpu cpu.max = 50000 100000
Cpu cpu.max.burst = 1000
Cpuset cpuset.cpus = 0-1,3
Cpuset cpuset.mems = 0
Pids pids.max = 100
Io io.weight = 4950
Io io.weight = 8:0 2930
Io io.max = 8:0 rbps=1048576
Io io.max = 8:16 wiops=100
Devices devices.deny = a
Devices devices.allow = c 10:200 rw
ignored: memory.kernelTCP, memory.swappiness, memory.disableOOMKiller, cpu.realtimePeriod, cpu.realtimeRuntime, blockIO.leafWeight
");
}

#[test]
fn hybrid_mixes_both() {
    let json = r#"{
        "memory": {"limit": -1},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "unified": {"cgroup.max.depth": "3"},
        "network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 5}]},
        "pids": {"limit": -1}
    }"#;
    assert_snapshot!(render(Mode::Hybrid, json), @r"
Memory memory.limit_in_bytes = -1
Memory memory.memsw.limit_in_bytes = -1
Pids pids.max = max
Hugetlb hugetlb.2MB.max = 4194304
NetCls net_cls.classid = 7
NetPrio net_prio.ifpriomap = eth0 5
- cgroup.max.depth = 3
");
}

#[test]
fn zero_and_nothing_write_nothing() {
    let json = r#"{"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0, "cpus": ""}}"#;
    for mode in [Mode::V1, Mode::V2, Mode::Hybrid] {
        assert_eq!(render(mode, json), "");
        assert_eq!(render(mode, "{}"), "");
    }
}

#[test]
fn unlimited_is_spelt_for_each_version() {
    let json = r#"{"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": 0}}"#;
    assert_snapshot!(render(Mode::V1, json), @r"
Memory memory.limit_in_bytes = -1
Memory memory.memsw.limit_in_bytes = -1
Cpu cpu.cfs_quota_us = -1
Pids pids.max = max
");
    assert_snapshot!(render(Mode::V2, json), @r"
Memory memory.swap.max = max
Memory memory.max = max
Cpu cpu.max = max 100000
Pids pids.max = max
");
}

#[test]
fn rdma_and_unified_files_keep_a_fixed_order() {
    let json = r#"{"rdma": {"mlx5_1": {"hcaHandles": 3}, "mlx4_0": {"hcaObjects": 10000}},
        "unified": {"memory.high": "1M", "cpu.weight": "50"}}"#;
    assert_snapshot!(render(Mode::V2, json), @r"
Rdma rdma.max = mlx4_0 hca_object=10000
Rdma rdma.max = mlx5_1 hca_handle=3
- cpu.weight = 50
- memory.high = 1M
");
}

#[test]
fn a_missing_controller_is_named() {
    let (text, kind) = refusal(Mode::V2, r#"{"network": {"classID": 7}}"#);
    assert_eq!(
        text,
        "this host has no cgroup controller `net_cls`, which `network.classID` needs"
    );
    assert_eq!(kind, ErrorKind::NotImplemented);
    let (text, _) = refusal(Mode::V1, r#"{"unified": {"memory.high": "1"}}"#);
    assert_eq!(
        text,
        "this host has no cgroup controller `unified`, which `unified` needs"
    );
}

#[test]
fn values_that_make_no_sense_are_refused_at_once() {
    let long = format!(r#"{{"cpu": {{"cpus": "{}"}}}}"#, "0,".repeat(100_000));
    let cases = [
        r#"{"cpu": {"cpus": "0-2000000000"}}"#,
        r#"{"cpu": {"cpus": "3-1"}}"#,
        r#"{"cpu": {"mems": "a"}}"#,
        r#"{"cpu": {"cpus": "1,,2"}}"#,
        r#"{"unified": {"../memory.max": "1"}}"#,
        r#"{"unified": {"tasks": "1"}}"#,
        r#"{"hugepageLimits": [{"pageSize": "2MB/../x", "limit": 1}]}"#,
        r#"{"devices": [{"allow": true, "type": "c", "major": 99999999, "minor": 0}]}"#,
        &long,
    ];
    for json in cases {
        let (text, kind) = refusal(Mode::V2, json);
        assert_eq!(kind, ErrorKind::InvalidParameter, "{text}");
    }
    let (text, _) = refusal(Mode::V2, r#"{"memory": {"limit": 100, "swap": 50}}"#);
    assert_eq!(text, "invalid value `50` for memory.swap");
    let (text, _) = refusal(Mode::V1, r#"{"memory": {"swappiness": 101}}"#);
    assert_eq!(text, "invalid value `101` for memory.swappiness");
}
