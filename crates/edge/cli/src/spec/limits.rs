//! Limits that `run`, `create` and `update` all take.

use crate::flags::{Flag, Kind};

pub(super) const CPU_PERIOD: Flag = Flag::new(
    "cpu-period",
    Kind::Int,
    "Period of the CFS quota in microseconds",
);

pub(super) const CPU_QUOTA: Flag = Flag::new(
    "cpu-quota",
    Kind::Int,
    "CFS quota in microseconds per period",
);

pub(super) const CPU_RT_PERIOD: Flag = Flag::new(
    "cpu-rt-period",
    Kind::Int,
    "Period of real-time scheduling in microseconds",
);

pub(super) const CPU_RT_RUNTIME: Flag = Flag::new(
    "cpu-rt-runtime",
    Kind::Int,
    "Real-time runtime in microseconds per period",
);

pub(super) const CPU_SHARES: Flag = Flag::new(
    "cpu-shares",
    Kind::Int,
    "Share of CPU time when CPUs are busy",
)
.short('c');

pub(super) const CPUS: Flag = Flag::new("cpus", Kind::Decimal, "Number of CPUs");

pub(super) const CPUSET_CPUS: Flag = Flag::new(
    "cpuset-cpus",
    Kind::Text,
    "CPUs that may be used (0-3, 0,1)",
);

pub(super) const CPUSET_MEMS: Flag = Flag::new(
    "cpuset-mems",
    Kind::Text,
    "Memory nodes that may be used (0-3, 0,1)",
);

pub(super) const MEMORY_RESERVATION: Flag = Flag::new(
    "memory-reservation",
    Kind::Bytes,
    "Memory limit when memory is short",
);

/// Havre's own: Docker cannot bound a container's bandwidth.
pub(super) const NETWORK_BPS: Flag = Flag::new(
    "network-bps",
    Kind::Text,
    "Bytes a second that are received, and sent (10m/5m)",
);
