//! Help texts in Docker's layout, and the messages that point to them.

use std::fmt::Write as _;

use crate::flags::{Flag, Kind};
use crate::spec::{self, Arity, Command, GLOBAL, GROUPS, Group};

/// The name under which people call this program.
pub(crate) const PROGRAM: &str = "havre";

/// The help of one command, called by the path it was typed with.
pub(crate) fn command(command: &Command, path: &str, width: usize) -> String {
    let mut text = format!(
        "Usage:  {}\n\n{}\n",
        usage_line(command, path),
        command.about
    );
    if command.paths.len() > 1 {
        let names: Vec<String> = command
            .paths
            .iter()
            .map(|path| format!("{PROGRAM} {path}"))
            .collect();
        write!(text, "\nAliases:\n  {}\n", names.join(", ")).ok();
    }
    let flags: Vec<&Flag> = command.flags.iter().filter(|flag| !flag.hidden).collect();
    if !flags.is_empty() {
        write!(text, "\nOptions:\n{}", flag_table(flags, width)).ok();
    }
    text
}

/// The help of a management group.
pub(crate) fn group(group: &Group) -> String {
    let mut rows: Vec<(&str, &str)> = spec::commands()
        .filter_map(|command| {
            let (owner, name) = command.paths.first()?.split_once(' ')?;
            (owner == group.name).then_some((name, command.about))
        })
        .collect();
    rows.sort_unstable();
    format!(
        "Usage:  {PROGRAM} {name} COMMAND\n\n{about}\n\nCommands:\n{}\nRun '{PROGRAM} {name} COMMAND --help' for more information on a command.\n",
        rows_of(&rows),
        name = group.name,
        about = group.about,
    )
}

/// The front page.
pub(crate) fn front_page(width: usize) -> String {
    let mut common = Vec::new();
    let mut others = Vec::new();
    for command in spec::commands() {
        let Some(name) = command.short_name() else {
            continue;
        };
        match command.common {
            Some(place) => common.push((place, name, command.about)),
            None => others.push((name, command.about)),
        }
    }
    common.sort_unstable();
    others.sort_unstable();
    let common: Vec<(&str, &str)> = common
        .into_iter()
        .map(|(_, name, about)| (name, about))
        .collect();
    let groups: Vec<(&str, &str)> = GROUPS
        .iter()
        .map(|group| (group.name, group.about))
        .collect();
    format!(
        "Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nRun containers\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nGlobal Options:\n{}\nRun '{PROGRAM} COMMAND --help' for more information on a command.\n",
        rows_of(&common),
        rows_of(&groups),
        rows_of(&others),
        flag_table(GLOBAL.iter().filter(|flag| !flag.hidden).collect(), width),
    )
}

/// `havre run [OPTIONS] IMAGE …`
pub(crate) fn usage_line(command: &Command, path: &str) -> String {
    let options = if command.flags.is_empty() {
        ""
    } else {
        " [OPTIONS]"
    };
    let arguments = if command.usage.is_empty() {
        String::new()
    } else {
        format!(" {}", command.usage)
    };
    format!("{PROGRAM} {path}{options}{arguments}")
}

/// What is said about a wrong flag.
pub(crate) fn wrong_flag(command: &Command, path: &str, error: &str) -> String {
    let usage = usage_line(command, path);
    format!("{error}\n\nUsage:  {usage}\n\nRun '{PROGRAM} {path} --help' for more information")
}

/// What is said about a wrong number of arguments; `None` when the number is right.
pub(crate) fn wrong_arity(command: &Command, path: &str, given: usize) -> Option<String> {
    let (needs, see) = match command.arity {
        Arity::Exactly(0) if given > 0 => ("accepts no arguments".to_owned(), "Run"),
        Arity::Exactly(n) if given != n => (format!("requires {}", arguments(n)), "Run"),
        Arity::AtLeast(n) if given < n => (format!("requires at least {}", arguments(n)), "See"),
        Arity::AtMost(n) if given > n => (format!("requires at most {}", arguments(n)), "Run"),
        Arity::Exactly(_) | Arity::AtLeast(_) | Arity::AtMost(_) => return None,
    };
    let usage = usage_line(command, path);
    Some(format!(
        "{PROGRAM}: '{PROGRAM} {path}' {needs}\n\nUsage:  {usage}\n\n{see} '{PROGRAM} {path} --help' for more information"
    ))
}

fn arguments(n: usize) -> String {
    if n == 1 {
        "1 argument".to_owned()
    } else {
        format!("{n} arguments")
    }
}

/// Names in a column that fits the longest name of the program, as cobra pads them.
fn rows_of(rows: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, about) in rows {
        writeln!(text, "  {name:<11} {about}").ok();
    }
    text
}

fn flag_table(mut flags: Vec<&Flag>, width: usize) -> String {
    flags.sort_unstable_by_key(|flag| flag.name);
    let heads: Vec<String> = flags.iter().map(|flag| head(flag)).collect();
    let column = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for (flag, head) in flags.iter().zip(&heads) {
        let mut about = flag.about.to_owned();
        if !flag.default.is_empty() {
            write!(about, " (default {})", flag.default).ok();
        }
        writeln!(
            text,
            "{head:<column$}{}",
            wrap(&about, column, width.saturating_sub(1))
        )
        .ok();
    }
    text
}

/// `  -m, --memory bytes`
fn head(flag: &Flag) -> String {
    let word = match flag.kind {
        Kind::Bool => "",
        Kind::Text => "string",
        Kind::Many(word) => word,
        Kind::Int => "int",
        Kind::Uint16 => "uint16",
        Kind::Uint => "uint",
        Kind::Bytes => "bytes",
        Kind::Decimal => "decimal",
        Kind::Duration => "duration",
    };
    let short = match flag.short {
        Some(short) => format!("-{short},"),
        None => "   ".to_owned(),
    };
    format!("  {short} --{} {word}", flag.name)
        .trim_end()
        .to_owned()
}

/// Breaks a text into lines of a column that begins at `indent`. As in pflag a line aims to end five characters
/// early, and uses those for the last word of the text.
fn wrap(text: &str, indent: usize, width: usize) -> String {
    const SLOP: usize = 5;
    let room = width.saturating_sub(indent);
    if room < 24 {
        return text.replace('\n', &format!("\n{}", " ".repeat(indent)));
    }
    let limit = room - SLOP;
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut rest = paragraph;
        while rest.len() >= limit + SLOP {
            let Some(at) = rest
                .get(..limit)
                .and_then(|head| head.rfind([' ', '\t']))
                .filter(|at| *at > 0)
            else {
                break;
            };
            lines.push(&rest[..at]);
            rest = &rest[at + 1..];
        }
        lines.push(rest);
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::spec::{Found, find};

    fn help_of(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match find(&words) {
            Found::Command(found, path) => command(found, path, 80),
            Found::Group(found) => group(found),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn help_of_commands() {
        assert_snapshot!(help_of("stop"), @"
        Usage:  havre stop [OPTIONS] CONTAINER [CONTAINER...]

        Stop one or more running containers

        Aliases:
          havre container stop, havre stop

        Options:
          -s, --signal string   Signal to send to the container
          -t, --timeout int     Seconds to wait before the container is killed
        ");
        assert_snapshot!(help_of("container ls"), @"
        Usage:  havre container ls [OPTIONS]

        List containers

        Aliases:
          havre container ls, havre container list, havre container ps, havre ps

        Options:
          -a, --all             Show all containers, not only running ones
          -f, --filter filter   Show only what matches the conditions
              --format string   Show the output by a template:
                                'table':            a table with titles (default)
                                'table TEMPLATE':   a table whose columns the Go
                                template gives
                                'json':             JSON, one object a line
                                'TEMPLATE':         what the Go template gives
          -n, --last int        Show the n containers created last, in any state
                                (default -1)
          -l, --latest          Show the container created last, in any state
              --no-trunc        Do not shorten anything
          -q, --quiet           Show nothing but ids
          -s, --size            Show how much disk space is used
        ");
        assert_snapshot!(help_of("tag"), @"
        Usage:  havre tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]

        Give SOURCE_IMAGE the further name TARGET_IMAGE

        Aliases:
          havre image tag, havre tag
        ");
        assert_snapshot!(help_of("image"), @"
        Usage:  havre image COMMAND

        Manage images

        Commands:
          import      Make an image of a tar archive of its file system
          inspect     Display detailed information on one or more images
          load        Load images from a tar archive or from the input
          ls          List images
          pull        Download an image from a registry
          rm          Remove one or more images
          tag         Give SOURCE_IMAGE the further name TARGET_IMAGE

        Run 'havre image COMMAND --help' for more information on a command.
        ");
        assert_snapshot!(front_page(80), @"
        Usage:  havre [OPTIONS] COMMAND

        Run containers

        Common Commands:
          run         Create and run a new container from an image
          exec        Execute a command in a running container
          ps          List containers
          pull        Download an image from a registry
          images      List images
          version     Show the versions of client and engine
          info        Display what the engine says about itself and its host

        Management Commands:
          container   Manage containers
          image       Manage images
          system      Manage the engine

        Commands:
          attach      Connect this terminal's input and output to a running container
          create      Create a new container
          events      Show what happens in the engine as it happens
          import      Make an image of a tar archive of its file system
          inspect     Return low-level information on objects
          kill        Kill one or more running containers
          load        Load images from a tar archive or from the input
          logs        Fetch the logs of a container
          restart     Restart one or more containers
          rm          Remove one or more containers
          rmi         Remove one or more images
          start       Start one or more stopped containers
          stop        Stop one or more running containers
          tag         Give SOURCE_IMAGE the further name TARGET_IMAGE
          wait        Wait until one or more containers stop, then print their exit codes

        Global Options:
          -D, --debug       Say more about what happens
          -H, --host list   Address of the engine (unix:// or tcp://)
          -v, --version     Print the version of this program and quit

        Run 'havre COMMAND --help' for more information on a command.
        ");
    }

    #[test]
    fn run_help_has_every_flag() {
        assert_snapshot!(help_of("run"), @r#"
        Usage:  havre run [OPTIONS] IMAGE [COMMAND] [ARG...]

        Create and run a new container from an image

        Aliases:
          havre container run, havre run

        Options:
              --add-host list                    Add a line to the hosts file
                                                 (host:ip)
              --annotation map                   Add an annotation for the OCI
                                                 runtime (default map[])
          -a, --attach list                      Attach to STDIN, STDOUT or STDERR
              --blkio-weight uint16              Share of block I/O, 10 to 1000,
                                                 or 0 for none of its own (default 0)
              --blkio-weight-device list         Share of block I/O on one device
                                                 (default [])
              --cap-add list                     Add Linux capabilities
              --cap-drop list                    Drop Linux capabilities
              --cgroup-parent string             Cgroup in which the container's
                                                 cgroup is made
              --cgroupns string                  Cgroup namespace (host|private)
              --cidfile string                   Write the container's id to this file
              --cpu-count int                    Number of CPUs (Windows only)
              --cpu-percent int                  Percent of CPU time (Windows only)
              --cpu-period int                   Period of the CFS quota in
                                                 microseconds
              --cpu-quota int                    CFS quota in microseconds per period
              --cpu-rt-period int                Period of real-time scheduling
                                                 in microseconds
              --cpu-rt-runtime int               Real-time runtime in
                                                 microseconds per period
          -c, --cpu-shares int                   Share of CPU time when CPUs are busy
              --cpus decimal                     Number of CPUs
              --cpuset-cpus string               CPUs that may be used (0-3, 0,1)
              --cpuset-mems string               Memory nodes that may be used
                                                 (0-3, 0,1)
          -d, --detach                           Run the container in the
                                                 background and print its id
              --detach-keys string               Keys that detach from the container
              --device list                      Give the container a device of
                                                 the host
              --device-cgroup-rule list          Add a rule to the list of
                                                 allowed devices
              --device-read-bps list             Bytes a second that may be read
                                                 from a device (default [])
              --device-read-iops list            Operations a second that may
                                                 read from a device (default [])
              --device-write-bps list            Bytes a second that may be
                                                 written to a device (default [])
              --device-write-iops list           Operations a second that may
                                                 write to a device (default [])
              --dns list                         Use these DNS servers
              --dns-option list                  Set DNS options
              --dns-search list                  Use these DNS search domains
              --domainname string                NIS domain name of the container
              --entrypoint string                Use this instead of the image's
                                                 ENTRYPOINT
          -e, --env list                         Set environment variables
              --env-file list                    Read environment variables from
                                                 a file
              --expose list                      Expose a port or a range of ports
              --gpus gpu-request                 GPUs to give to the container
                                                 ('all' for all of them)
              --group-add list                   Add groups that the user is a
                                                 member of
              --health-cmd string                Command that checks the
                                                 container's health
              --health-interval duration         Time between two checks
                                                 (ms|s|m|h) (default 0s)
              --health-retries int               Failures in a row that mean unhealthy
              --health-start-interval duration   Time between two checks while
                                                 starting (ms|s|m|h) (default 0s)
              --health-start-period duration     Time to start, in which failures
                                                 do not count (ms|s|m|h) (default 0s)
              --health-timeout duration          Time that one check may take
                                                 (ms|s|m|h) (default 0s)
              --help                             Print this text
          -h, --hostname string                  Host name of the container
              --init                             Run an init that passes signals
                                                 on and reaps processes
          -i, --interactive                      Keep the input open even if
                                                 nobody is attached
              --io-maxbandwidth bytes            Bandwidth of the system drive
                                                 (Windows only)
              --io-maxiops uint                  Operations a second of the
                                                 system drive (Windows only)
              --ip string                        IPv4 address (e.g., 172.30.100.104)
              --ip6 string                       IPv6 address (e.g., 2001:db8::33)
              --ipc string                       IPC namespace to use
              --isolation string                 Isolation technology (Windows only)
          -l, --label list                       Set a label on the container
              --label-file list                  Read labels from a file, one a line
              --link list                        Link to another container
              --link-local-ip list               Link-local addresses
              --log-driver string                Log driver of the container
              --log-opt list                     Options of the log driver
              --mac-address string               MAC address (e.g., 92:d0:c6:0a:29:33)
          -m, --memory bytes                     Memory limit
              --memory-reservation bytes         Memory limit when memory is short
              --memory-swap bytes                Limit of memory and swap
                                                 together; -1 for no limit of swap
              --memory-swappiness int            Readiness to swap, 0 to 100
                                                 (default -1)
              --mount mount                      Mount something into the container
              --name string                      Name of the container
              --network network                  Connect the container to a network
              --network-alias list               Name of the container in the network
              --no-healthcheck                   Ignore the image's HEALTHCHECK
              --oom-kill-disable                 Do not kill when memory runs out
              --oom-score-adj int                Preference of the kernel to kill
                                                 it (-1000 to 1000)
              --pid string                       PID namespace to use
              --pids-limit int                   Limit of processes and threads;
                                                 -1 for none
              --platform string                  Platform of the image, when
                                                 there are several
              --privileged                       Give the container all privileges
          -p, --publish list                     Publish a port of the container
                                                 on the host
          -P, --publish-all                      Publish all exposed ports on
                                                 free ports
              --pull string                      When to pull the image
                                                 ("always", "missing", "never")
                                                 (default "missing")
          -q, --quiet                            Do not show the progress of the pull
              --read-only                        Mount the root file system read-only
              --restart string                   When to start the container
                                                 again after it ended (default "no")
              --rm                               Remove the container and its
                                                 anonymous volumes when it ends
              --runtime string                   OCI runtime of the container
              --security-opt list                Security options
              --shm-size bytes                   Size of /dev/shm
              --sig-proxy                        Pass signals on to the process
                                                 (default true)
              --stop-signal string               Signal that stops the container
              --stop-timeout int                 Seconds to wait before it is killed
              --storage-opt list                 Options of the storage driver
              --sysctl map                       Set kernel parameters (default map[])
              --tmpfs list                       Mount a tmpfs
          -t, --tty                              Give the container a terminal
              --ulimit ulimit                    Set resource limits (default [])
          -u, --user string                      User name or number, and group:
                                                 <name|uid>[:<group|gid>]
              --userns string                    User namespace to use
              --uts string                       UTS namespace to use
          -v, --volume list                      Mount a directory of the host or
                                                 a volume
              --volume-driver string             Driver of the volumes
              --volumes-from list                Mount the volumes of other containers
          -w, --workdir string                   Working directory inside the
                                                 container
        "#);
    }

    #[test]
    fn complaints_are_dockers() {
        let Found::Command(run, path) = find(&["run".to_owned()]) else {
            panic!("run is a command")
        };
        assert_snapshot!(wrong_flag(run, path, "unknown flag: --x"), @"
        unknown flag: --x

        Usage:  havre run [OPTIONS] IMAGE [COMMAND] [ARG...]

        Run 'havre run --help' for more information
        ");
        assert_snapshot!(wrong_arity(run, path, 0).unwrap(), @"
        havre: 'havre run' requires at least 1 argument

        Usage:  havre run [OPTIONS] IMAGE [COMMAND] [ARG...]

        See 'havre run --help' for more information
        ");
        assert_eq!(wrong_arity(run, path, 3), None);
    }
}
