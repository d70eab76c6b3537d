//! Commands about images.

use super::{Action, Arity, Command, FORMAT_LIST, FORMAT_ONE, Words};
use crate::flags::{Flag, Kind};

const PLATFORM: Flag = Flag::new("platform", Kind::Text, "Platform, when there are several");

pub(super) const COMMANDS: &[Command] = &[
    Command::new(
        Action::Images,
        &["image ls", "image list", "images"],
        "[REPOSITORY[:TAG]]",
        "List images",
    )
    .arity(Arity::AtMost(1))
    .common(4)
    .words(Words::Images(1))
    .flags(&[
        Flag::new("all", Kind::Bool, "Show intermediate images too").short('a'),
        Flag::new("digests", Kind::Bool, "Show digests"),
        Flag::new(
            "filter",
            Kind::Many("filter"),
            "Show only what matches the conditions",
        )
        .short('f'),
        Flag::new("format", Kind::Text, FORMAT_LIST),
        Flag::new("no-trunc", Kind::Bool, "Do not shorten anything"),
        Flag::new("quiet", Kind::Bool, "Show nothing but ids").short('q'),
    ]),
    Command::new(
        Action::Import,
        &["image import", "import"],
        "file|URL|- [REPOSITORY[:TAG]]",
        "Make an image of a tar archive of its file system",
    )
    .words(Words::Files)
    .flags(&[
        Flag::new(
            "change",
            Kind::Many("list"),
            "Apply a Dockerfile instruction to the image",
        )
        .short('c'),
        Flag::new("message", Kind::Text, "Comment on the image").short('m'),
        PLATFORM,
    ]),
    Command::new(
        Action::InspectImage,
        &["image inspect"],
        "IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
    )
    .words(Words::Images(usize::MAX))
    .flags(&[
        Flag::new("format", Kind::Text, FORMAT_ONE).short('f'),
        PLATFORM,
    ]),
    Command::new(
        Action::Load,
        &["image load", "load"],
        "",
        "Load images from a tar archive or from the input",
    )
    .arity(Arity::Exactly(0))
    .flags(&[
        Flag::new("input", Kind::Text, "Read this file instead of the input").short('i'),
        PLATFORM,
        Flag::new("quiet", Kind::Bool, "Do not show the progress").short('q'),
    ]),
    Command::new(
        Action::Pull,
        &["image pull", "pull"],
        "NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
    )
    .arity(Arity::Exactly(1))
    .common(3)
    .words(Words::Images(1))
    .flags(&[
        Flag::new(
            "all-tags",
            Kind::Bool,
            "Download all tags of the repository",
        )
        .short('a'),
        Flag::new(
            "disable-content-trust",
            Kind::Bool,
            "Kept for old scripts; has no effect",
        )
        .default("true")
        .hidden(),
        PLATFORM,
        Flag::new("quiet", Kind::Bool, "Do not show the progress").short('q'),
    ]),
    Command::new(
        Action::Rmi,
        &["image rm", "image remove", "rmi"],
        "IMAGE [IMAGE...]",
        "Remove one or more images",
    )
    .words(Words::Images(usize::MAX))
    .flags(&[
        Flag::new(
            "force",
            Kind::Bool,
            "Remove the image even if stopped containers use it",
        )
        .short('f'),
        Flag::new("no-prune", Kind::Bool, "Keep parents that have no name"),
        Flag::new(
            "platform",
            Kind::Many("strings"),
            "Remove only these platforms of the image",
        ),
    ]),
    Command::new(
        Action::Tag,
        &["image tag", "tag"],
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Give SOURCE_IMAGE the further name TARGET_IMAGE",
    )
    .arity(Arity::Exactly(2))
    .words(Words::Images(1)),
];
