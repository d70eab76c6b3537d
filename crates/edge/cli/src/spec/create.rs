//! `run` and `create`, with the hundred flags that they share. The two lists are made at compile time: the common
//! flags, and those that only `run` has.

use super::{Action, Command, Words, limits};
use crate::flags::{Flag, Kind};

const LIST: Kind = Kind::Many("list");

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        Action::Create,
        &["container create", "create"],
        "IMAGE [COMMAND] [ARG...]",
        "Create a new container",
    )
    .carries_command()
    .words(Words::Images(1))
    .flags(CREATE),
    Command::new(
        Action::Run,
        &["container run", "run"],
        "IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
    )
    .carries_command()
    .words(Words::Images(1))
    .common(0)
    .flags(RUN),
];

const CREATE: &[Flag] = &SHARED;
const RUN: &[Flag] = &with_run_flags();

/// Flags that only `run` has.
const ONLY_RUN: [Flag; 3] = [
    Flag::new(
        "detach",
        Kind::Bool,
        "Run the container in the background and print its id",
    )
    .short('d'),
    Flag::new(
        "detach-keys",
        Kind::Text,
        "Keys that detach from the container",
    ),
    Flag::new("sig-proxy", Kind::Bool, "Pass signals on to the process").default("true"),
];

const fn with_run_flags() -> [Flag; SHARED.len() + ONLY_RUN.len()] {
    let mut all = [ONLY_RUN[0]; SHARED.len() + ONLY_RUN.len()];
    let mut at = 0;
    while at < SHARED.len() {
        all[at] = SHARED[at];
        at += 1;
    }
    while at < all.len() {
        all[at] = ONLY_RUN[at - SHARED.len()];
        at += 1;
    }
    all
}

const SHARED: [Flag; 105] = [
    Flag::new("add-host", LIST, "Add a line to the hosts file (host:ip)"),
    Flag::new(
        "annotation",
        Kind::Many("map"),
        "Add an annotation for the OCI runtime",
    )
    .default("map[]"),
    Flag::new("attach", LIST, "Attach to STDIN, STDOUT or STDERR").short('a'),
    Flag::new(
        "blkio-weight",
        Kind::Uint16,
        "Share of block I/O, 10 to 1000, or 0 for none of its own",
    )
    .default("0"),
    Flag::new(
        "blkio-weight-device",
        LIST,
        "Share of block I/O on one device",
    )
    .default("[]"),
    Flag::new("cap-add", LIST, "Add Linux capabilities"),
    Flag::new("cap-drop", LIST, "Drop Linux capabilities"),
    Flag::new(
        "cgroup-parent",
        Kind::Text,
        "Cgroup in which the container's cgroup is made",
    ),
    Flag::new("cgroupns", Kind::Text, "Cgroup namespace (host|private)"),
    Flag::new(
        "cidfile",
        Kind::Text,
        "Write the container's id to this file",
    ),
    Flag::new("cpu-count", Kind::Int, "Number of CPUs (Windows only)"),
    Flag::new(
        "cpu-percent",
        Kind::Int,
        "Percent of CPU time (Windows only)",
    ),
    limits::CPU_PERIOD,
    limits::CPU_QUOTA,
    limits::CPU_RT_PERIOD,
    limits::CPU_RT_RUNTIME,
    limits::CPU_SHARES,
    limits::CPUS,
    limits::CPUSET_CPUS,
    limits::CPUSET_MEMS,
    Flag::new("device", LIST, "Give the container a device of the host"),
    Flag::new(
        "device-cgroup-rule",
        LIST,
        "Add a rule to the list of allowed devices",
    ),
    Flag::new(
        "device-read-bps",
        LIST,
        "Bytes a second that may be read from a device",
    )
    .default("[]"),
    Flag::new(
        "device-read-iops",
        LIST,
        "Operations a second that may read from a device",
    )
    .default("[]"),
    Flag::new(
        "device-write-bps",
        LIST,
        "Bytes a second that may be written to a device",
    )
    .default("[]"),
    Flag::new(
        "device-write-iops",
        LIST,
        "Operations a second that may write to a device",
    )
    .default("[]"),
    Flag::new(
        "disable-content-trust",
        Kind::Bool,
        "Kept for old scripts; has no effect",
    )
    .default("true")
    .hidden(),
    Flag::new("dns", LIST, "Use these DNS servers"),
    Flag::new("dns-opt", LIST, "Set DNS options").hidden(),
    Flag::new("dns-option", LIST, "Set DNS options"),
    Flag::new("dns-search", LIST, "Use these DNS search domains"),
    Flag::new("domainname", Kind::Text, "NIS domain name of the container"),
    Flag::new(
        "entrypoint",
        Kind::Text,
        "Use this instead of the image's ENTRYPOINT",
    ),
    Flag::new("env", LIST, "Set environment variables").short('e'),
    Flag::new("env-file", LIST, "Read environment variables from a file"),
    Flag::new("expose", LIST, "Expose a port or a range of ports"),
    Flag::new(
        "gpus",
        Kind::Many("gpu-request"),
        "GPUs to give to the container ('all' for all of them)",
    ),
    Flag::new("group-add", LIST, "Add groups that the user is a member of"),
    Flag::new(
        "health-cmd",
        Kind::Text,
        "Command that checks the container's health",
    ),
    Flag::new(
        "health-interval",
        Kind::Duration,
        "Time between two checks (ms|s|m|h)",
    )
    .default("0s"),
    Flag::new(
        "health-retries",
        Kind::Int,
        "Failures in a row that mean unhealthy",
    ),
    Flag::new(
        "health-start-interval",
        Kind::Duration,
        "Time between two checks while starting (ms|s|m|h)",
    )
    .default("0s"),
    Flag::new(
        "health-start-period",
        Kind::Duration,
        "Time to start, in which failures do not count (ms|s|m|h)",
    )
    .default("0s"),
    Flag::new(
        "health-timeout",
        Kind::Duration,
        "Time that one check may take (ms|s|m|h)",
    )
    .default("0s"),
    Flag::new("help", Kind::Bool, "Print this text"),
    Flag::new("hostname", Kind::Text, "Host name of the container").short('h'),
    Flag::new(
        "init",
        Kind::Bool,
        "Run an init that passes signals on and reaps processes",
    ),
    Flag::new(
        "interactive",
        Kind::Bool,
        "Keep the input open even if nobody is attached",
    )
    .short('i'),
    Flag::new(
        "io-maxbandwidth",
        Kind::Bytes,
        "Bandwidth of the system drive (Windows only)",
    ),
    Flag::new(
        "io-maxiops",
        Kind::Uint,
        "Operations a second of the system drive (Windows only)",
    ),
    Flag::new("ip", Kind::Text, "IPv4 address (e.g., 172.30.100.104)"),
    Flag::new("ip6", Kind::Text, "IPv6 address (e.g., 2001:db8::33)"),
    Flag::new("ipc", Kind::Text, "IPC namespace to use"),
    Flag::new(
        "isolation",
        Kind::Text,
        "Isolation technology (Windows only)",
    ),
    Flag::new(
        "kernel-memory",
        Kind::Bytes,
        "Kept for old scripts; has no effect",
    )
    .hidden(),
    Flag::new("label", LIST, "Set a label on the container").short('l'),
    Flag::new("label-file", LIST, "Read labels from a file, one a line"),
    Flag::new("link", LIST, "Link to another container"),
    Flag::new("link-local-ip", LIST, "Link-local addresses"),
    Flag::new("log-driver", Kind::Text, "Log driver of the container"),
    Flag::new("log-opt", LIST, "Options of the log driver"),
    Flag::new(
        "mac-address",
        Kind::Text,
        "MAC address (e.g., 92:d0:c6:0a:29:33)",
    ),
    Flag::new("memory", Kind::Bytes, "Memory limit").short('m'),
    limits::MEMORY_RESERVATION,
    Flag::new(
        "memory-swap",
        Kind::Bytes,
        "Limit of memory and swap together; -1 for no limit of swap",
    ),
    Flag::new(
        "memory-swappiness",
        Kind::Int,
        "Readiness to swap, 0 to 100",
    )
    .default("-1"),
    Flag::new(
        "mount",
        Kind::Many("mount"),
        "Mount something into the container",
    ),
    Flag::new("name", Kind::Text, "Name of the container"),
    Flag::new(
        "net",
        Kind::Many("network"),
        "Connect the container to a network",
    )
    .hidden(),
    Flag::new("net-alias", LIST, "Name of the container in the network").hidden(),
    Flag::new(
        "network",
        Kind::Many("network"),
        "Connect the container to a network",
    ),
    Flag::new(
        "network-alias",
        LIST,
        "Name of the container in the network",
    ),
    limits::NETWORK_BPS,
    Flag::new(
        "no-healthcheck",
        Kind::Bool,
        "Ignore the image's HEALTHCHECK",
    ),
    Flag::new(
        "oom-kill-disable",
        Kind::Bool,
        "Do not kill when memory runs out",
    ),
    Flag::new(
        "oom-score-adj",
        Kind::Int,
        "Preference of the kernel to kill it (-1000 to 1000)",
    ),
    Flag::new("pid", Kind::Text, "PID namespace to use"),
    Flag::new(
        "pids-limit",
        Kind::Int,
        "Limit of processes and threads; -1 for none",
    ),
    Flag::new(
        "platform",
        Kind::Text,
        "Platform of the image, when there are several",
    ),
    Flag::new(
        "privileged",
        Kind::Bool,
        "Give the container all privileges",
    ),
    Flag::new(
        "publish",
        LIST,
        "Publish a port of the container on the host",
    )
    .short('p'),
    Flag::new(
        "publish-all",
        Kind::Bool,
        "Publish all exposed ports on free ports",
    )
    .short('P'),
    Flag::new(
        "pull",
        Kind::Text,
        "When to pull the image (\"always\", \"missing\", \"never\")",
    )
    .default("\"missing\""),
    Flag::new("quiet", Kind::Bool, "Do not show the progress of the pull").short('q'),
    Flag::new(
        "read-only",
        Kind::Bool,
        "Mount the root file system read-only",
    ),
    Flag::new(
        "restart",
        Kind::Text,
        "When to start the container again after it ended",
    )
    .default("\"no\""),
    Flag::new(
        "rm",
        Kind::Bool,
        "Remove the container and its anonymous volumes when it ends",
    ),
    Flag::new("runtime", Kind::Text, "OCI runtime of the container"),
    Flag::new("security-opt", LIST, "Security options"),
    Flag::new("shm-size", Kind::Bytes, "Size of /dev/shm"),
    Flag::new("stop-signal", Kind::Text, "Signal that stops the container"),
    Flag::new(
        "stop-timeout",
        Kind::Int,
        "Seconds to wait before it is killed",
    ),
    Flag::new("storage-opt", LIST, "Options of the storage driver"),
    Flag::new("sysctl", Kind::Many("map"), "Set kernel parameters").default("map[]"),
    Flag::new("tmpfs", LIST, "Mount a tmpfs"),
    Flag::new("tty", Kind::Bool, "Give the container a terminal").short('t'),
    Flag::new("ulimit", Kind::Many("ulimit"), "Set resource limits").default("[]"),
    Flag::new(
        "use-api-socket",
        Kind::Bool,
        "Give the container the engine's socket and the credentials for registries",
    ),
    Flag::new(
        "user",
        Kind::Text,
        "User name or number, and group: <name|uid>[:<group|gid>]",
    )
    .short('u'),
    Flag::new("userns", Kind::Text, "User namespace to use"),
    Flag::new("uts", Kind::Text, "UTS namespace to use"),
    Flag::new("volume", LIST, "Mount a directory of the host or a volume").short('v'),
    Flag::new("volume-driver", Kind::Text, "Driver of the volumes"),
    Flag::new(
        "volumes-from",
        LIST,
        "Mount the volumes of other containers",
    ),
    Flag::new(
        "workdir",
        Kind::Text,
        "Working directory inside the container",
    )
    .short('w'),
];
