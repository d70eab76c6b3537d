//! The options: one table for flags and configuration file, with dockerd's names
//! (<https://docs.docker.com/reference/cli/dockerd/>). What dockerd has and Havre has not is listed too, so
//! that it is refused by name and never ignored.

mod network;

use std::collections::BTreeMap;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// True or false; the flag alone means true.
    Flag,
    /// One value.
    Text,
    /// One value for each use.
    List,
    /// `key=value` for each use; an object in the configuration file.
    Map,
    /// As `Map`; in the configuration file the values are objects.
    Objects,
    /// An integer.
    Number,
    /// `root=key=value` for each use; an object of objects of strings in the configuration file.
    Maps,
    /// `key=value,…` for each use; a list of objects in the configuration file.
    Records,
}

/// A value that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Flag(bool),
    Text(String),
    List(Vec<String>),
}

impl std::fmt::Display for Value {
    /// As Go prints it in dockerd's messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(on) => write!(f, "{on}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => write!(f, "[{}]", items.join(" ")),
        }
    }
}

/// Given values by the long name of their flag.
pub(crate) type Values = BTreeMap<&'static str, Value>;

/// An option.
#[derive(Debug)]
pub(crate) struct Spec {
    /// The long name of the flag.
    pub(crate) name: &'static str,
    /// The short name.
    pub(crate) short: Option<char>,
    /// The name in the configuration file; lists have a plural there. None: a flag only.
    pub(crate) key: Option<&'static str>,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

const fn option(
    name: &'static str,
    short: Option<char>,
    key: Option<&'static str>,
    kind: Kind,
    help: &'static str,
) -> Spec {
    Spec {
        name,
        short,
        key,
        kind,
        help,
    }
}

/// What Havre understands.
const OPTIONS: &[Spec] = &[
    option(
        "add-runtime",
        None,
        Some("runtimes"),
        Kind::Objects,
        "Register an additional OCI compatible runtime",
    ),
    option(
        "config-file",
        None,
        None,
        Kind::Text,
        "Daemon configuration file (default \"/etc/havre/daemon.json\")",
    ),
    option(
        "cdi-spec-dir",
        None,
        Some("cdi-spec-dirs"),
        Kind::List,
        "CDI specification directories to use (default /etc/cdi and /var/run/cdi)",
    ),
    option(
        "criu",
        None,
        None,
        Kind::Text,
        "The CRIU program, for checkpoints (default: criu in PATH)",
    ),
    option(
        "data-root",
        None,
        Some("data-root"),
        Kind::Text,
        "Root directory of persistent state (default \"/var/lib/havre\")",
    ),
    option(
        "default-runtime",
        None,
        Some("default-runtime"),
        Kind::Text,
        "Default OCI runtime for containers (default \"havre\")",
    ),
    option(
        "debug",
        Some('D'),
        Some("debug"),
        Kind::Flag,
        "Enable debug mode",
    ),
    option(
        "experimental",
        None,
        Some("experimental"),
        Kind::Flag,
        "Enable experimental features (always on)",
    ),
    option(
        "exec-root",
        None,
        Some("exec-root"),
        Kind::Text,
        "Root directory for execution state files (default \"/run/havre\")",
    ),
    option(
        "group",
        Some('G'),
        Some("group"),
        Kind::Text,
        "Group for the unix socket (default \"docker\")",
    ),
    option("help", Some('h'), None, Kind::Flag, "Print usage"),
    option(
        "host",
        Some('H'),
        Some("hosts"),
        Kind::List,
        "Daemon socket(s) to listen on (default unix:///run/havre/havre.sock)",
    ),
    option(
        "init",
        None,
        Some("init"),
        Kind::Flag,
        "Run an init in the container to forward signals and reap processes",
    ),
    option(
        "init-path",
        None,
        Some("init-path"),
        Kind::Text,
        "Path to the init program (default: havre-init beside havred)",
    ),
    option(
        "insecure-registry",
        None,
        Some("insecure-registries"),
        Kind::List,
        "Enable insecure registry communication",
    ),
    option(
        "journal-socket",
        None,
        Some("journal-socket"),
        Kind::Text,
        "Socket of the systemd journal for the log driver journald (default \"/run/systemd/journal/socket\")",
    ),
    option(
        "label",
        None,
        Some("labels"),
        Kind::List,
        "Set key=value labels to the daemon",
    ),
    option(
        "live-restore",
        None,
        Some("live-restore"),
        Kind::Flag,
        "Accepted for Docker's sake: containers always outlive the engine",
    ),
    option(
        "log-driver",
        None,
        Some("log-driver"),
        Kind::Text,
        "Default driver for container logs (default \"json-file\")",
    ),
    option(
        "log-format",
        None,
        Some("log-format"),
        Kind::Text,
        "Set the logging format (\"text\"|\"json\") (default \"text\")",
    ),
    option(
        "log-level",
        Some('l'),
        Some("log-level"),
        Kind::Text,
        "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\") (default \"info\")",
    ),
    option(
        "log-opt",
        None,
        Some("log-opts"),
        Kind::Map,
        "Default log driver options for containers (default map[])",
    ),
    option(
        "pidfile",
        Some('p'),
        Some("pidfile"),
        Kind::Text,
        "Path to use for daemon PID file (default: havred.pid in the exec root)",
    ),
    option(
        "registry-mirror",
        None,
        Some("registry-mirrors"),
        Kind::List,
        "Preferred registry mirror",
    ),
    option(
        "shim",
        None,
        None,
        Kind::Text,
        "The shim program (default: containerd-shim-havre-v2 beside havred)",
    ),
    option(
        "validate",
        None,
        None,
        Kind::Flag,
        "Validate daemon configuration and exit",
    ),
    option(
        "version",
        Some('v'),
        None,
        Kind::Flag,
        "Print version information and quit",
    ),
];

/// What dockerd understands and Havre does not yet: flag, and name in the file where it differs.
pub(crate) const UNSUPPORTED: &[(&str, &str)] = &[
    ("authorization-plugin", "authorization-plugins"),
    ("bridge-accept-fwmark", ""),
    ("cgroup-parent", ""),
    ("containerd", ""),
    ("containerd-namespace", ""),
    (
        "containerd-plugins-namespace",
        "containerd-plugin-namespace",
    ),
    ("cpu-rt-period", ""),
    ("cpu-rt-runtime", ""),
    ("cri-containerd", ""),
    ("default-cgroupns-mode", ""),
    ("default-ipc-mode", ""),
    ("default-shm-size", ""),
    ("default-stop-timeout", ""),
    ("default-ulimit", "default-ulimits"),
    ("exec-opt", "exec-opts"),
    ("feature", "features"),
    ("http-proxy", ""),
    ("https-proxy", ""),
    ("max-concurrent-downloads", ""),
    ("max-concurrent-uploads", ""),
    ("max-download-attempts", ""),
    ("metrics-addr", ""),
    ("network-control-plane-mtu", ""),
    ("network-diagnostic-port", ""),
    ("no-new-privileges", ""),
    ("no-proxy", ""),
    ("node-generic-resource", "node-generic-resources"),
    ("nri-opts", ""),
    ("raw-logs", ""),
    ("rootless", ""),
    ("seccomp-profile", ""),
    ("selinux-enabled", ""),
    ("shutdown-timeout", ""),
    ("storage-driver", ""),
    ("storage-opt", "storage-opts"),
    ("swarm-default-advertise-addr", ""),
    ("swarm-raft-election-tick", ""),
    ("swarm-raft-heartbeat-tick", ""),
    ("tls", ""),
    ("tlscacert", ""),
    ("tlscert", ""),
    ("tlskey", ""),
    ("tlsverify", ""),
    ("userns-remap", ""),
    ("", "builder"),
    ("", "min-api-version"),
    ("", "proxies"),
];

/// All options by their names.
pub(crate) fn options() -> impl Iterator<Item = &'static Spec> {
    OPTIONS.iter().chain(network::OPTIONS)
}

/// The option with this flag name.
pub(crate) fn by_name(name: &str) -> Option<&'static Spec> {
    options().find(|spec| spec.name == name)
}

/// The text of `--help`.
pub(crate) fn usage() -> String {
    let mut out = String::from(
        "Usage:  havred [OPTIONS]\n\nThe engine of Havre: containers and images behind the Docker Engine API.\n\nOptions:\n",
    );
    let mut all: Vec<&Spec> = options().collect();
    all.sort_by_key(|spec| spec.name);
    for spec in all {
        let short = spec
            .short
            .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = match spec.kind {
            Kind::Flag => "",
            Kind::Text => " string",
            Kind::List => " list",
            Kind::Map | Kind::Objects | Kind::Maps => " map",
            Kind::Number => " int",
            Kind::Records => " pool-options",
        };
        let name = format!("--{}{value}", spec.name);
        out.push_str(&format!("  {short}{name:<26} {}\n", spec.help));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_is_both_known_and_unsupported() {
        for (flag, key) in UNSUPPORTED {
            assert!(by_name(flag).is_none(), "{flag}");
            assert!(
                options().all(|spec| spec.key != Some(*key) && spec.key != Some(*flag)),
                "{flag} {key}"
            );
        }
    }

    #[test]
    fn values_print_as_in_go() {
        assert_eq!(
            Value::List(vec!["a".to_owned(), "b".to_owned()]).to_string(),
            "[a b]"
        );
        assert_eq!(Value::Flag(true).to_string(), "true");
    }
}
