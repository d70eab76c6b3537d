//! The mounts of a container: Docker's defaults, what `-v`, `--mount` and `--tmpfs` ask for, and the engine's files.

use std::path::{Component, Path, PathBuf};

use havre_api_traits::ApiError;
use oci_spec::runtime::{Mount, MountBuilder};

/// Docker's default for `/dev/shm`: 64 MiB.
pub(crate) const DEFAULT_SHM: i64 = 64 << 20;

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
];

/// One bind mount or tmpfs that the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserMount {
    pub destination: PathBuf,
    pub kind: Kind,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bind {
        source: PathBuf,
        propagation: String,
        recursive: bool,
        /// Mounts below a read-only one are read-only too, unless asked otherwise.
        recursive_read_only: bool,
        /// `-v` makes a missing source directory, `--mount` refuses it.
        create_source: bool,
    },
    Tmpfs {
        options: Vec<String>,
    },
}

impl UserMount {
    /// A bind as `-v` and `--mount` mean it unless told otherwise.
    pub(crate) fn bind(source: PathBuf, destination: PathBuf) -> Self {
        let kind = Kind::Bind {
            source,
            propagation: "rprivate".to_owned(),
            recursive: true,
            recursive_read_only: true,
            create_source: false,
        };
        Self {
            destination,
            kind,
            read_only: false,
        }
    }
}

/// What decides about the default mounts.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    pub privileged: bool,
    pub writable_cgroup: bool,
    /// The root is read-only, and with it what the engine puts there.
    pub read_only: bool,
    pub shm: Shm,
}

/// What `/dev/shm` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shm {
    /// The container's own, of so many bytes.
    Own(i64),
    None,
    Host,
    /// Another container's, by the way through a process there.
    Of(PathBuf),
}

/// Reads a `-v` value: `/host:/container[:options]`.
pub(crate) fn parse_bind(spec: &str) -> Result<UserMount, ApiError> {
    let wrong = |why: &str| {
        let colon = if why.is_empty() { "" } else { ": " };
        ApiError::invalid(format!(
            "invalid volume specification: '{spec}'{colon}{why}"
        ))
    };
    let mut parts = spec.split(':');
    let (Some(source), Some(destination), options, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(if spec.contains(':') {
            wrong("")
        } else {
            anonymous(spec)
        });
    };
    if source.is_empty() || destination.is_empty() {
        return Err(wrong(""));
    }
    if !source.starts_with('/') {
        return Err(named_volume(source));
    }
    let config = |why: String| wrong(&format!("invalid mount config for type \"bind\": {why}"));
    let destination = clean(destination).map_err(config)?;
    let mut mount = UserMount::bind(absolute(source).map_err(config)?, destination);
    let mode = mode(options.unwrap_or_default())?;
    mount.read_only = mode.read_only;
    if let Kind::Bind {
        propagation,
        create_source,
        ..
    } = &mut mount.kind
    {
        *create_source = true;
        if let Some(wanted) = mode.propagation {
            wanted.clone_into(propagation);
        }
    }
    Ok(mount)
}

#[derive(Default)]
struct BindMode<'a> {
    read_only: bool,
    propagation: Option<&'a str>,
}

/// The third part of a `-v` value: each kind of word at most once.
/// <https://github.com/moby/moby/blob/master/daemon/volume/mounts/linux_parser.go> (`linuxValidMountMode`)
fn mode(text: &str) -> Result<BindMode<'_>, ApiError> {
    let mut mode = BindMode::default();
    let (mut access, mut label, mut copy, mut consistency) = (0, 0, 0, 0);
    let mut propagations = 0;
    for option in text.split(',').filter(|_| !text.is_empty()) {
        let count = match option {
            "ro" | "rw" => {
                mode.read_only = option == "ro";
                &mut access
            }
            // SELinux is not enabled here, as Docker treats both then.
            "z" | "Z" => &mut label,
            "nocopy" => &mut copy,
            "cached" | "consistent" | "delegated" => &mut consistency,
            p if PROPAGATIONS.contains(&p) => {
                mode.propagation = Some(p);
                &mut propagations
            }
            _ => return Err(ApiError::invalid(format!("invalid mode: {text}"))),
        };
        *count += 1;
        if *count > 1 {
            return Err(ApiError::invalid(format!("invalid mode: {text}")));
        }
    }
    Ok(mode)
}

pub(crate) fn named_volume(name: &str) -> ApiError {
    ApiError::not_implemented(format!(
        "named volumes are not available yet (volume {name:?}): use a host path"
    ))
}

pub(crate) fn anonymous(path: &str) -> ApiError {
    ApiError::not_implemented(format!(
        "anonymous volumes are not available yet (for {path:?}): use a host path"
    ))
}

/// A mount destination: absolute, not the root, without `..`.
pub(crate) fn clean(path: &str) -> Result<PathBuf, String> {
    let cleaned = absolute(path)?;
    if cleaned == Path::new("/") {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    Ok(cleaned)
}

/// Makes a path plain, as Go's `filepath.Clean` does for absolute ones.
pub(crate) fn absolute(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        ));
    }
    if path.contains('\0') {
        return Err("a path cannot contain a zero byte".to_owned());
    }
    Ok(below_root(path))
}

/// The path by its letters, absolute; `..` ends at the root.
pub(super) fn below_root(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// Options of a `--tmpfs`: Docker's `noexec,nosuid,nodev` unless the opposite is given; the last word of a kind counts.
/// <https://github.com/moby/sys/blob/main/mount/flags_unix.go> (`MergeTmpfsOptions`)
pub(crate) fn tmpfs_options(text: &str) -> Result<Vec<String>, ApiError> {
    const FLAGS: [(&str, &str); 9] = [
        ("exec", "noexec"),
        ("suid", "nosuid"),
        ("dev", "nodev"),
        ("rw", "ro"),
        ("async", "sync"),
        ("diratime", "nodiratime"),
        ("atime", "noatime"),
        ("relatime", "norelatime"),
        ("strictatime", "nostrictatime"),
    ];
    const PLAIN: [&str; 3] = ["defaults", "dirsync", "nomand"];
    const VALUES: [&str; 7] = [
        "size",
        "mode",
        "uid",
        "gid",
        "nr_inodes",
        "nr_blocks",
        "mpol",
    ];
    let wrong = |option: &str| ApiError::invalid(format!("invalid tmpfs option {option:?}"));
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    for option in text.split(',').filter(|o| !o.is_empty()) {
        if let Some((key, _)) = option.split_once('=') {
            if !VALUES.contains(&key) || option.chars().any(char::is_control) {
                return Err(wrong(key));
            }
            options.retain(|o| !o.starts_with(&format!("{key}=")));
        } else if let Some((on, off)) = FLAGS
            .iter()
            .find(|(on, off)| option == *on || option == *off)
        {
            options.retain(|o| o != on && o != off);
        } else if PROPAGATIONS.contains(&option) {
            options.retain(|o| !PROPAGATIONS.contains(&o.as_str()));
        } else if !PLAIN.contains(&option) {
            return Err(wrong(option));
        }
        options.push(option.to_owned());
    }
    Ok(options)
}

/// All mounts in the order in which they are made: defaults, then the user's by depth, so that no mount hides
/// one that was asked for. A default at the same place as a user's mount is left out.
pub(crate) fn assemble(
    defaults: &Defaults,
    engine_files: &[(PathBuf, &str)],
    user: &[UserMount],
) -> Result<Vec<Mount>, ApiError> {
    let taken = |path: &Path| {
        // Who brings a /dev brings all that is in it.
        user.iter().any(|m| {
            m.destination == path
                || (m.destination == Path::new("/dev") && path.starts_with("/dev"))
        })
    };
    let mut mounts = Vec::with_capacity(10 + user.len());
    for (destination, kind, source, options) in default_mounts(defaults) {
        if !taken(Path::new(destination)) {
            mounts.push(build(destination.as_ref(), kind, &source, options)?);
        }
    }
    for (source, destination) in engine_files {
        if !taken(Path::new(destination)) {
            let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
            if defaults.read_only {
                options.push("ro".to_owned());
            }
            mounts.push(build(destination.as_ref(), "bind", source, options)?);
        }
    }
    let mut sorted: Vec<&UserMount> = user.iter().collect();
    sorted.sort_by_key(|m| m.destination.components().count());
    for (index, mount) in sorted.iter().enumerate() {
        if sorted[..index]
            .iter()
            .any(|other| other.destination == mount.destination)
        {
            return Err(ApiError::invalid(format!(
                "Duplicate mount point: {}",
                mount.destination.display()
            )));
        }
        mounts.push(user_mount(mount)?);
    }
    Ok(mounts)
}

/// A file of the host that the container may only read.
pub(crate) fn read_only_file(source: &Path, destination: &str) -> Result<Mount, ApiError> {
    let options = ["bind", "ro", "rprivate"].map(str::to_owned).to_vec();
    build(destination.as_ref(), "bind", source, options)
}

fn user_mount(mount: &UserMount) -> Result<Mount, ApiError> {
    match &mount.kind {
        Kind::Bind {
            source,
            propagation,
            recursive,
            recursive_read_only,
            ..
        } => {
            let mut options = vec![
                if *recursive { "rbind" } else { "bind" }.to_owned(),
                propagation.clone(),
            ];
            if mount.read_only {
                // M09: a mount nested below a read-only bind must not stay writable.
                options.push(
                    if *recursive && *recursive_read_only {
                        "rro"
                    } else {
                        "ro"
                    }
                    .to_owned(),
                );
            }
            build(&mount.destination, "bind", source, options)
        }
        Kind::Tmpfs { options } => {
            let mut options = options.clone();
            if mount.read_only {
                options.push("ro".to_owned());
            }
            build(&mount.destination, "tmpfs", "tmpfs".as_ref(), options)
        }
    }
}

/// Destination, type, source and options.
type Default = (&'static str, &'static str, PathBuf, Vec<String>);

/// <https://github.com/moby/moby/blob/master/daemon/pkg/oci/defaults.go>
fn default_mounts(defaults: &Defaults) -> Vec<Default> {
    let own = |options: &[&str]| options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
    let nothing = ["nosuid", "noexec", "nodev"];
    let with_access = |writable: bool| {
        let mut options = own(&nothing);
        options.push(if writable { "rw" } else { "ro" }.to_owned());
        options
    };
    let device = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let terminals = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let mut mounts = vec![
        ("/proc", "proc", "proc".into(), own(&nothing)),
        ("/dev", "tmpfs", "tmpfs".into(), own(&device)),
        ("/dev/pts", "devpts", "devpts".into(), own(&terminals)),
        (
            "/sys",
            "sysfs",
            "sysfs".into(),
            with_access(defaults.privileged),
        ),
        (
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup".into(),
            with_access(defaults.writable_cgroup),
        ),
        // An instance shows the queues of the IPC namespace that it is mounted in, whoever's that is.
        ("/dev/mqueue", "mqueue", "mqueue".into(), own(&nothing)),
    ];
    let bind = || own(&["rbind", "rprivate"]);
    match &defaults.shm {
        Shm::Own(size) => {
            let mut options = own(&nothing);
            options.push("mode=1777".to_owned());
            options.push(format!("size={size}"));
            mounts.push(("/dev/shm", "tmpfs", "shm".into(), options));
        }
        Shm::Host => mounts.push(("/dev/shm", "bind", "/dev/shm".into(), bind())),
        Shm::Of(source) => mounts.push(("/dev/shm", "bind", source.clone(), bind())),
        Shm::None => {}
    }
    mounts
}

fn build(
    destination: &Path,
    kind: &str,
    source: &Path,
    options: Vec<String>,
) -> Result<Mount, ApiError> {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options)
        .build()
        .map_err(|err| crate::error::internal("failed to plan a mount", &err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_read_as_dockers() {
        let mount = parse_bind("/host/../data:/in//side/:ro,rslave").unwrap();
        assert_eq!(mount.destination, Path::new("/in/side"));
        assert!(mount.read_only);
        let Kind::Bind {
            source,
            propagation,
            create_source,
            ..
        } = mount.kind
        else {
            panic!()
        };
        assert_eq!(
            (source.as_path(), propagation.as_str()),
            (Path::new("/data"), "rslave")
        );
        assert!(create_source);
    }

    #[test]
    fn wrong_binds_name_themselves() {
        let texts = [
            "vol:/x",
            "/only",
            "/a:/b:rx",
            "/a:/",
            "/a:b",
            ":/b",
            "/a:",
            "/a:/b:ro:x",
            "/a:/b/../..",
        ]
        .map(|spec| parse_bind(spec).unwrap_err().message);
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn tmpfs_options_override_the_defaults() {
        assert_eq!(tmpfs_options("").unwrap(), ["noexec", "nosuid", "nodev"]);
        assert_eq!(
            tmpfs_options("exec,size=1m,size=2m").unwrap(),
            ["nosuid", "nodev", "exec", "size=2m"]
        );
        tmpfs_options("lowerdir=/").unwrap_err();
        tmpfs_options("bogus").unwrap_err();
    }

    #[test]
    fn a_users_mount_replaces_the_default_and_parents_come_first() {
        let user = [
            UserMount::bind("/h1".into(), "/dev/shm".into()),
            UserMount::bind("/h2".into(), "/a/b/c".into()),
            UserMount::bind("/h3".into(), "/a".into()),
        ];
        let defaults = Defaults {
            privileged: false,
            writable_cgroup: false,
            read_only: false,
            shm: Shm::Own(1),
        };
        let mounts = assemble(&defaults, &[], &user).unwrap();
        let shown: Vec<_> = mounts
            .iter()
            .map(|m| {
                format!(
                    "{} {:?}",
                    m.destination().display(),
                    m.source().as_ref().unwrap()
                )
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
        let twice = [user[2].clone(), user[2].clone()];
        assert_eq!(
            assemble(&defaults, &[], &twice).unwrap_err().message,
            "Duplicate mount point: /a"
        );
    }
}
