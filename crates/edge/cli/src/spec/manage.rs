//! Commands that change or watch containers that exist, and checkpoints.

use super::{Action, Arity, Command, FORMAT_LIST, States, limits};
use crate::flags::{Flag, Kind};

const CHECKPOINT_DIR: Flag = Flag::new(
    "checkpoint-dir",
    Kind::Text,
    "Directory of the host in which the checkpoints lie",
);

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        Action::CheckpointCreate,
        &["checkpoint create"],
        "CONTAINER CHECKPOINT",
        "Keep the state of a running container as a checkpoint",
    )
    .arity(Arity::Exactly(2))
    .container(States::Running)
    .flags(&[
        CHECKPOINT_DIR,
        Flag::new("leave-running", Kind::Bool, "Let the container run on"),
    ]),
    Command::new(
        Action::CheckpointList,
        &["checkpoint ls", "checkpoint list"],
        "CONTAINER",
        "List the checkpoints of a container",
    )
    .arity(Arity::Exactly(1))
    .container(States::Any)
    .flags(&[CHECKPOINT_DIR]),
    Command::new(
        Action::CheckpointRemove,
        &["checkpoint rm", "checkpoint remove"],
        "CONTAINER CHECKPOINT",
        "Remove a checkpoint",
    )
    .arity(Arity::Exactly(2))
    .container(States::Any)
    .flags(&[CHECKPOINT_DIR]),
    Command::new(
        Action::Commit,
        &["container commit", "commit"],
        "CONTAINER [REPOSITORY[:TAG]]",
        "Make an image of the changes of a container",
    )
    .arity(Arity::Between(1, 2))
    .container(States::Any)
    .flags(&[
        Flag::new("author", Kind::Text, "Who made it (e.g. \"John Hannibal Smith <hannibal@a-team.com>\")").short('a'),
        Flag::new("change", Kind::Many("list"), "Dockerfile instruction to apply to the image").short('c'),
        Flag::new("message", Kind::Text, "Comment of the image").short('m'),
        Flag::new("no-pause", Kind::Bool, "Do not hold the container still meanwhile"),
        Flag::new("pause", Kind::Bool, "Hold the container still meanwhile").short('p').default("true").hidden(),
    ]),
    Command::new(
        Action::Cp,
        &["container cp", "cp"],
        "CONTAINER:SRC_PATH DEST_PATH|-, or SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files between a container and this machine",
    )
    .arity(Arity::Exactly(2))
    .more("As the source `-` is a tar archive on the standard input, unpacked into a directory of the container; as the\ndestination it is the standard output, for an archive of what is copied.")
    .flags(&[
        Flag::new("archive", Kind::Bool, "Give everything to the container's user").short('a'),
        Flag::new("follow-link", Kind::Bool, "Copy what a symbolic link as the source leads to").short('L'),
        Flag::new("quiet", Kind::Bool, "Do not show progress; so it is without a terminal").short('q'),
    ]),
    Command::new(
        Action::Diff,
        &["container diff", "diff"],
        "CONTAINER",
        "Show which files differ from the image",
    )
    .arity(Arity::Exactly(1))
    .container(States::Any),
    Command::new(
        Action::Export,
        &["container export", "export"],
        "CONTAINER",
        "Write the file system of a container as a tar archive",
    )
    .arity(Arity::Exactly(1))
    .container(States::Any)
    .flags(&[Flag::new(
        "output",
        Kind::Text,
        "Write to this file instead of the output",
    )
    .short('o')]),
    Command::new(
        Action::Pause,
        &["container pause", "pause"],
        "CONTAINER [CONTAINER...]",
        "Pause all processes of one or more containers",
    )
    .containers(States::NotPaused),
    Command::new(
        Action::Port,
        &["container port", "port"],
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List the published ports of a container, or where one is published",
    )
    .arity(Arity::Between(1, 2))
    .container(States::Running)
    .flags(&[Flag::new(
        "explain",
        Kind::Bool,
        "Say who can reach each port, and which rule decides it",
    )]),
    Command::new(
        Action::PruneContainers,
        &["container prune"],
        "",
        "Remove all stopped containers",
    )
    .arity(Arity::Exactly(0))
    .flags(&[
        Flag::new(
            "filter",
            Kind::Many("filter"),
            "Take only what matches the conditions (e.g. \"until=<timestamp>\")",
        ),
        Flag::new("force", Kind::Bool, "Do not ask first").short('f'),
    ]),
    Command::new(
        Action::Rename,
        &["container rename", "rename"],
        "CONTAINER NEW_NAME",
        "Rename a container",
    )
    .arity(Arity::Exactly(2))
    .container(States::Any),
    Command::new(
        Action::Stats,
        &["container stats", "stats"],
        "[CONTAINER...]",
        "Show what containers use, again and again",
    )
    .arity(Arity::AtLeast(0))
    .containers(States::Running)
    .flags(&[
        Flag::new(
            "all",
            Kind::Bool,
            "Show all containers, not only running ones",
        )
        .short('a'),
        Flag::new("format", Kind::Text, FORMAT_LIST),
        Flag::new("no-stream", Kind::Bool, "Show it once and end"),
        Flag::new("no-trunc", Kind::Bool, "Do not shorten anything"),
    ]),
    Command::new(
        Action::Top,
        &["container top", "top"],
        "CONTAINER [ps OPTIONS]",
        "Show the processes of a container",
    )
    .carries_command()
    .container(States::Running),
    Command::new(
        Action::Unpause,
        &["container unpause", "unpause"],
        "CONTAINER [CONTAINER...]",
        "Let all processes of one or more containers run on",
    )
    .containers(States::Paused),
    Command::new(
        Action::Update,
        &["container update", "update"],
        "CONTAINER [CONTAINER...]",
        "Change the limits of one or more containers",
    )
    .containers(States::Any)
    .flags(UPDATE),
];

const UPDATE: &[Flag] = &[
    Flag::new(
        "blkio-weight",
        Kind::Uint16,
        "Share of block I/O, 10 to 1000, or 0 for none of its own",
    )
    .default("0"),
    limits::CPU_PERIOD,
    limits::CPU_QUOTA,
    limits::CPU_RT_PERIOD,
    limits::CPU_RT_RUNTIME,
    limits::CPU_SHARES,
    limits::CPUS,
    limits::CPUSET_CPUS,
    limits::CPUSET_MEMS,
    Flag::new(
        "kernel-memory",
        Kind::Bytes,
        "Kept for old scripts; has no effect",
    )
    .hidden(),
    Flag::new("memory", Kind::Bytes, "Memory limit").short('m'),
    limits::MEMORY_RESERVATION,
    Flag::new(
        "memory-swap",
        Kind::Bytes,
        "Limit of memory and swap together; -1 for no limit of swap",
    ),
    limits::NETWORK_BPS,
    Flag::new(
        "pids-limit",
        Kind::Int,
        "Limit of processes and threads; -1 for none",
    ),
    Flag::new(
        "restart",
        Kind::Text,
        "When to start the container again after it ended",
    ),
];
