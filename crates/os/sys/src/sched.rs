//! Scheduling attributes of the calling thread: policy, I/O priority, memory policy.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::check;

const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// The I/O scheduling class (linux/ioprio.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoClass {
    /// Real time.
    RealTime = 1,
    /// Best effort.
    BestEffort = 2,
    /// Idle.
    Idle = 3,
}

/// Sets the I/O scheduling class and the priority (0 to 7) within it.
pub fn set_ioprio(class: IoClass, priority: u8) -> io::Result<()> {
    let value = ((class as u32) << IOPRIO_CLASS_SHIFT) | u32::from(priority);
    // SAFETY: the call takes numbers and no pointers.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    check(ret).map(drop)
}

/// Gives up what the calling process inherited: policy and nice value, I/O priority, and the
/// processors that it may run on (all again that its cpuset has).
pub fn reset() -> io::Result<()> {
    set_attr(&SchedAttr::default())?;
    // SAFETY: the call takes numbers and no pointers; 0 is IOPRIO_CLASS_NONE.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0) };
    check(ret)?;
    let mut every = CpuSet::new();
    for number in 0..CpuSet::MAX_CPU {
        every.set(number);
    }
    Ok(sched_setaffinity(None, &every)?)
}

/// The attributes of `sched_setattr` (linux/sched/types.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// The nice value, for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// The static priority, for SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE, nanoseconds.
    pub runtime: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub deadline: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub period: u64,
}

#[repr(C)]
struct RawSchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the scheduling policy of the calling thread.
pub fn set_attr(attr: &SchedAttr) -> io::Result<()> {
    let raw = RawSchedAttr {
        size: 48,
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime: attr.runtime,
        deadline: attr.deadline,
        period: attr.period,
    };
    // SAFETY: `raw` has the layout of struct sched_attr, version 0, says so in `size`, and
    // outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) };
    check(ret).map(drop)
}

/// Sets the NUMA memory policy: a mode with its flags (linux/mempolicy.h) and the nodes, least
/// significant bit first.
pub fn set_mempolicy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel reads one bit less than the number says.
    let bits = nodes.len() * 64 + 1;
    // SAFETY: `nodes` holds the bits the kernel reads and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) };
    check(ret).map(drop)
}
