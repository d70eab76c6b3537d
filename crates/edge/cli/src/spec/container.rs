//! Commands about containers that exist.

use super::{Action, Arity, Command, FORMAT_LIST, FORMAT_ONE, States};
use crate::flags::{Flag, Kind};

const DETACH_KEYS: Flag = Flag::new(
    "detach-keys",
    Kind::Text,
    "Keys that detach from the container",
);
const STOP: &[Flag] = &[
    Flag::new("signal", Kind::Text, "Signal to send to the container").short('s'),
    Flag::new(
        "timeout",
        Kind::Int,
        "Seconds to wait before the container is killed",
    )
    .short('t'),
    Flag::new(
        "time",
        Kind::Int,
        "Seconds to wait before the container is killed",
    )
    .hidden(),
];

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        Action::Attach,
        &["container attach", "attach"],
        "CONTAINER",
        "Connect this terminal's input and output to a running container",
    )
    .arity(Arity::Exactly(1))
    .container(States::Running)
    .flags(&[
        DETACH_KEYS,
        Flag::new("no-stdin", Kind::Bool, "Do not connect the input"),
        Flag::new("sig-proxy", Kind::Bool, "Pass signals on to the process").default("true"),
    ]),
    Command::new(
        Action::Exec,
        &["container exec", "exec"],
        "CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
    )
    .arity(Arity::AtLeast(2))
    .carries_command()
    .common(1)
    .container(States::Running)
    .flags(&[
        Flag::new("detach", Kind::Bool, "Run the command in the background").short('d'),
        DETACH_KEYS,
        Flag::new("env", Kind::Many("list"), "Set environment variables").short('e'),
        Flag::new("env-file", Kind::Many("list"), "Read environment variables from a file"),
        Flag::new("interactive", Kind::Bool, "Keep the input open").short('i'),
        Flag::new("privileged", Kind::Bool, "Give the command all privileges"),
        Flag::new("tty", Kind::Bool, "Give the command a terminal").short('t'),
        Flag::new("user", Kind::Text, "User name or number, and group: \"<name|uid>[:<group|gid>]\"").short('u'),
        Flag::new("workdir", Kind::Text, "Working directory inside the container").short('w'),
    ]),
    Command::new(
        Action::InspectContainer,
        &["container inspect"],
        "CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
    )
    .containers(States::Any)
    .flags(&[
        Flag::new("format", Kind::Text, FORMAT_ONE).short('f'),
        Flag::new("size", Kind::Bool, "Show how much disk space is used").short('s'),
    ]),
    Command::new(Action::Kill, &["container kill", "kill"], "CONTAINER [CONTAINER...]", "Kill one or more running containers")
        .containers(States::Running)
        .flags(&[Flag::new("signal", Kind::Text, "Signal to send to the container").short('s')]),
    Command::new(Action::Logs, &["container logs", "logs"], "CONTAINER", "Fetch the logs of a container")
        .arity(Arity::Exactly(1))
        .container(States::Any)
        .flags(&[
            Flag::new("details", Kind::Bool, "Show the attributes that the log driver added"),
            Flag::new("follow", Kind::Bool, "Go on with new output as it comes").short('f'),
            Flag::new(
                "since",
                Kind::Text,
                "Show what is newer than this time (e.g. \"2013-01-02T13:23:37Z\") or age (e.g. \"42m\" for 42 minutes)",
            ),
            Flag::new("tail", Kind::Text, "Number of lines to show from the end").short('n').default("\"all\""),
            Flag::new("timestamps", Kind::Bool, "Show the time of each line").short('t'),
            Flag::new(
                "until",
                Kind::Text,
                "Show what is older than this time (e.g. \"2013-01-02T13:23:37Z\") or age (e.g. \"42m\" for 42 minutes)",
            ),
        ]),
    Command::new(Action::Ps, &["container ls", "container list", "container ps", "ps"], "", "List containers")
        .arity(Arity::Exactly(0))
        .common(2)
        .flags(&[
            Flag::new("all", Kind::Bool, "Show all containers, not only running ones").short('a'),
            Flag::new("filter", Kind::Many("filter"), "Show only what matches the conditions").short('f'),
            Flag::new("format", Kind::Text, FORMAT_LIST),
            Flag::new("last", Kind::Int, "Show the n containers created last, in any state").short('n').default("-1"),
            Flag::new("latest", Kind::Bool, "Show the container created last, in any state").short('l'),
            Flag::new("no-trunc", Kind::Bool, "Do not shorten anything"),
            Flag::new("quiet", Kind::Bool, "Show nothing but ids").short('q'),
            Flag::new("size", Kind::Bool, "Show how much disk space is used").short('s'),
        ]),
    Command::new(
        Action::Restart,
        &["container restart", "restart"],
        "CONTAINER [CONTAINER...]",
        "Restart one or more containers",
    )
    .containers(States::Any)
    .flags(STOP),
    Command::new(
        Action::Rm,
        &["container rm", "container remove", "rm"],
        "CONTAINER [CONTAINER...]",
        "Remove one or more containers",
    )
    .containers(States::Removable)
    .flags(&[
        Flag::new("force", Kind::Bool, "Kill the container first when it runs").short('f'),
        Flag::new("link", Kind::Bool, "Remove the link of this name, not the container").short('l'),
        Flag::new("volumes", Kind::Bool, "Remove the container's anonymous volumes too").short('v'),
    ]),
    Command::new(
        Action::Start,
        &["container start", "start"],
        "CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
    )
    .containers(States::Startable)
    .flags(&[
        Flag::new("attach", Kind::Bool, "Show the output and pass signals on").short('a'),
        Flag::new("checkpoint", Kind::Text, "Go on from this checkpoint"),
        Flag::new("checkpoint-dir", Kind::Text, "Directory of the host in which the checkpoints lie"),
        DETACH_KEYS,
        Flag::new("interactive", Kind::Bool, "Connect the container's input").short('i'),
    ]),
    Command::new(Action::Stop, &["container stop", "stop"], "CONTAINER [CONTAINER...]", "Stop one or more running containers")
        .containers(States::Running)
        .flags(STOP),
    Command::new(
        Action::Wait,
        &["container wait", "wait"],
        "CONTAINER [CONTAINER...]",
        "Wait until one or more containers stop, then print their exit codes",
    )
    .containers(States::Running),
];
