//! Files of cgroup v1.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork};

use super::{Plan, invalid, version};
use crate::error::CgroupError;
use crate::host::{Controller, Host};

pub(super) fn memory(plan: &mut Plan, memory: &LinuxMemory) -> Result<(), CgroupError> {
    use Controller::Memory;
    let limit = memory.limit().filter(|v| *v != 0);
    let swap = match memory.swap().filter(|v| *v != 0) {
        // An unlimited memory takes the limit of the sum away with it.
        None if limit == Some(-1) => Some(-1),
        other => other,
    };
    // The kernel wants limit <= sum at every moment. Which of the two has to come first depends
    // on the values in force; whoever performs the writes repeats the one that was refused.
    if let Some(limit) = limit {
        plan.write(Memory, "memory.limit_in_bytes", limit);
    }
    if let Some(swap) = swap {
        plan.write(Memory, "memory.memsw.limit_in_bytes", swap);
    }
    if let Some(reservation) = memory.reservation().filter(|v| *v != 0) {
        plan.write(Memory, "memory.soft_limit_in_bytes", reservation);
    }
    if let Some(limit) = memory.kernel_tcp().filter(|v| *v != 0) {
        plan.write(Memory, "memory.kmem.tcp.limit_in_bytes", limit);
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            return Err(invalid("memory.swappiness", swappiness));
        }
        plan.write(Memory, "memory.swappiness", swappiness);
    }
    if memory.disable_oom_killer() == Some(true) {
        plan.write(Memory, "memory.oom_control", 1);
    }
    // The kernel has refused or ignored it since 5.4.
    let kernel = memory.kernel();
    plan.ignore("memory.kernel", kernel.is_some_and(|v| v > 0));
    plan.ignore(
        "memory.checkBeforeUpdate",
        memory.check_before_update() == Some(true),
    );
    Ok(())
}

pub(super) fn cpu(plan: &mut Plan, cpu: &LinuxCpu) {
    use Controller::Cpu;
    if let Some(shares) = cpu.shares().filter(|v| *v != 0) {
        plan.write(Cpu, "cpu.shares", shares);
    }
    if let Some(period) = cpu.period().filter(|v| *v != 0) {
        plan.write(Cpu, "cpu.cfs_period_us", period);
    }
    if let Some(quota) = cpu.quota().filter(|v| *v != 0) {
        plan.write(Cpu, "cpu.cfs_quota_us", quota);
    }
    if let Some(burst) = cpu.burst() {
        plan.write(Cpu, "cpu.cfs_burst_us", burst);
    }
    if let Some(period) = cpu.realtime_period().filter(|v| *v != 0) {
        plan.write(Cpu, "cpu.rt_period_us", period);
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|v| *v != 0) {
        plan.write(Cpu, "cpu.rt_runtime_us", runtime);
    }
    if let Some(idle) = cpu.idle() {
        plan.write(Cpu, "cpu.idle", idle);
    }
}

pub(super) fn block_io(plan: &mut Plan, io: &LinuxBlockIo) {
    use Controller::Io;
    // The kernel of today has the weight with the BFQ scheduler only.
    if let Some(weight) = io.weight().filter(|v| *v != 0) {
        plan.write(Io, "blkio.bfq.weight", weight);
    }
    plan.ignore(
        "blockIO.leafWeight",
        io.leaf_weight().is_some_and(|v| v != 0),
    );
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|v| *v != 0) {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            plan.write(Io, "blkio.bfq.weight_device", value);
        }
    }
    let limits = [
        (
            "blkio.throttle.read_bps_device",
            io.throttle_read_bps_device(),
        ),
        (
            "blkio.throttle.write_bps_device",
            io.throttle_write_bps_device(),
        ),
        (
            "blkio.throttle.read_iops_device",
            io.throttle_read_iops_device(),
        ),
        (
            "blkio.throttle.write_iops_device",
            io.throttle_write_iops_device(),
        ),
    ];
    for (file, devices) in limits {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            plan.write(Io, file, value);
        }
    }
}

/// Network classes exist in version 1 only.
pub(super) fn network(
    host: &Host,
    plan: &mut Plan,
    network: &LinuxNetwork,
) -> Result<(), CgroupError> {
    if let Some(class) = network.class_id().filter(|v| *v != 0) {
        version(host, Controller::NetCls, "network.classID")?;
        plan.write(Controller::NetCls, "net_cls.classid", class);
    }
    for interface in network.priorities().iter().flatten() {
        version(host, Controller::NetPrio, "network.priorities")?;
        let value = format!("{} {}", interface.name(), interface.priority());
        plan.write(Controller::NetPrio, "net_prio.ifpriomap", value);
    }
    Ok(())
}
