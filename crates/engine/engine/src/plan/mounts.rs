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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub privileged: bool,
    pub writable_cgroup: bool,
    pub shm_size: i64,
    /// The host's IPC namespace brings its own `/dev/shm` and `/dev/mqueue`.
    pub host_ipc: bool,
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
    let destination = clean(destination).map_err(|why| wrong(&why))?;
    let mut mount = UserMount::bind(absolute(source).map_err(|why| wrong(&why))?, destination);
    let Kind::Bind {
        propagation,
        recursive,
        create_source,
        ..
    } = &mut mount.kind
    else {
        return Err(wrong(""));
    };
    *create_source = true;
    let mut read_only = false;
    for option in options
        .unwrap_or_default()
        .split(',')
        .filter(|o| !o.is_empty())
    {
        match option {
            "ro" => read_only = true,
            "rw" | "rbind" | "nocopy" | "cached" | "consistent" | "delegated" => {}
            "bind" => *recursive = false,
            // SELinux is not enabled here, as Docker treats both then.
            "z" | "Z" => {}
            p if PROPAGATIONS.contains(&p) => option.clone_into(propagation),
            _ => return Err(wrong(&format!("invalid mode: {option}"))),
        }
    }
    mount.read_only = read_only;
    Ok(mount)
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
        return Err("destination can't be '/'".to_owned());
    }
    Ok(cleaned)
}

/// Makes a path plain, as Go's `filepath.Clean` does for absolute ones.
pub(crate) fn absolute(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!("mount path must be absolute: '{path}'"));
    }
    if path.contains('\0') {
        return Err("a path cannot contain a zero byte".to_owned());
    }
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
    Ok(cleaned)
}

/// Options of a `--tmpfs`: Docker's `noexec,nosuid,nodev` unless the opposite is given.
pub(crate) fn tmpfs_options(text: &str) -> Result<Vec<String>, ApiError> {
    const FLAGS: [(&str, &str); 6] = [
        ("exec", "noexec"),
        ("suid", "nosuid"),
        ("dev", "nodev"),
        ("rw", "ro"),
        ("async", "sync"),
        ("diratime", "nodiratime"),
    ];
    const PLAIN: [&str; 4] = ["relatime", "strictatime", "noatime", "atime"];
    const VALUES: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    for option in text.split(',').filter(|o| !o.is_empty()) {
        let key = option.split_once('=').map(|(key, _)| key);
        if let Some(key) = key {
            if !VALUES.contains(&key) {
                return Err(ApiError::invalid(format!(
                    "Invalid tmpfs option [\"{option}\"]"
                )));
            }
            options.retain(|o| !o.starts_with(&format!("{key}=")));
        } else if let Some((on, off)) = FLAGS
            .iter()
            .find(|(on, off)| option == *on || option == *off)
        {
            options.retain(|o| o != on && o != off);
        } else if !PLAIN.contains(&option) {
            return Err(ApiError::invalid(format!(
                "Invalid tmpfs option [\"{option}\"]"
            )));
        }
        options.push(option.to_owned());
    }
    Ok(options)
}

/// All mounts in the order in which they are made: defaults, then the user's by depth, so that no mount hides
/// one that was asked for. A default at the same place as a user's mount is left out.
pub(crate) fn assemble(
    defaults: Defaults,
    engine_files: &[(PathBuf, &str)],
    user: &[UserMount],
) -> Result<Vec<Mount>, ApiError> {
    let taken = |path: &Path| user.iter().any(|m| m.destination == path);
    let mut mounts = Vec::with_capacity(10 + user.len());
    for (destination, kind, options) in default_mounts(defaults) {
        if !taken(Path::new(destination)) {
            let source = if kind == "bind" { destination } else { kind };
            let kind_name = if destination == "/dev/shm" && kind == "tmpfs" {
                "shm"
            } else {
                source
            };
            mounts.push(build(
                destination.as_ref(),
                kind,
                kind_name.as_ref(),
                options,
            )?);
        }
    }
    for (source, destination) in engine_files {
        if !taken(Path::new(destination)) {
            let options = vec!["rbind".to_owned(), "rprivate".to_owned()];
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

/// <https://github.com/moby/moby/blob/master/daemon/pkg/oci/defaults.go>
fn default_mounts(defaults: Defaults) -> Vec<(&'static str, &'static str, Vec<String>)> {
    let own = |options: &[&str]| options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
    let nothing = ["nosuid", "noexec", "nodev"];
    let read_only = |writable: bool| {
        let mut options = own(&nothing);
        options.push(if writable { "rw" } else { "ro" }.to_owned());
        options
    };
    let mut mounts = vec![
        ("/proc", "proc", own(&nothing)),
        (
            "/dev",
            "tmpfs",
            own(&["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ),
        (
            "/dev/pts",
            "devpts",
            own(&[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ]),
        ),
        ("/sys", "sysfs", read_only(defaults.privileged)),
        (
            "/sys/fs/cgroup",
            "cgroup",
            read_only(defaults.privileged || defaults.writable_cgroup),
        ),
    ];
    if defaults.host_ipc {
        mounts.push((
            "/dev/mqueue",
            "bind",
            own(&["rbind", "nosuid", "noexec", "nodev"]),
        ));
        mounts.push((
            "/dev/shm",
            "bind",
            own(&["rbind", "nosuid", "noexec", "nodev"]),
        ));
    } else {
        mounts.push(("/dev/mqueue", "mqueue", own(&nothing)));
        let mut shm = own(&nothing);
        shm.push("mode=1777".to_owned());
        shm.push(format!("size={}", defaults.shm_size));
        mounts.push(("/dev/shm", "tmpfs", shm));
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
            shm_size: 1,
            host_ipc: false,
        };
        let mounts = assemble(defaults, &[], &user).unwrap();
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
            assemble(defaults, &[], &twice).unwrap_err().message,
            "Duplicate mount point: /a"
        );
    }
}
