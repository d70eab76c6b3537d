//! The mount entries of a specification as steps for the mount API of the kernel.
//!
//! Options are taken apart here, once, into attributes of the mount, propagation, and parameters
//! of the file system that are passed one by one: no string is ever joined (a comma in a path
//! cannot become an option).

use std::path::{Component, Path, PathBuf};

use havre_sys::mount::{MountAttrFlags, Propagation};
use oci_spec::runtime::{LinuxIdMapping, Mount};

use crate::error::RuntimeError;

/// One mount.
#[derive(Clone, Debug)]
pub(crate) struct MountStep {
    /// Inside the container, absolute, without `.` and `..`.
    pub(crate) target: PathBuf,
    pub(crate) what: What,
    /// For the mount itself.
    pub(crate) own: Attrs,
    /// For it and those below it.
    pub(crate) deep: Attrs,
    /// In order; true means recursive.
    pub(crate) propagation: Vec<(Propagation, bool)>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A file or directory of the host.
    Bind { source: PathBuf, recursive: bool },
    /// A new instance of a file system.
    Fs {
        fstype: String,
        source: String,
        params: Vec<Param>,
    },
    /// The container's own part of the cgroup hierarchies.
    Cgroup,
    /// Nothing: the attributes of the mount that is there are changed.
    Remount,
}

/// One parameter of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Param {
    Flag(String),
    Value(String, String),
}

/// Attributes to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attrs {
    pub(crate) set: MountAttrFlags,
    pub(crate) clear: MountAttrFlags,
}

impl Attrs {
    pub(crate) fn is_empty(self) -> bool {
        self.set.is_empty() && self.clear.is_empty()
    }

    fn apply(&mut self, set: bool, flag: MountAttrFlags) {
        // The times are one field of several bits, which must be cleared to be set
        // (man 2 mount_setattr).
        if flag.bits() & MountAttrFlags::ATIME.bits() != 0 || flag.is_empty() {
            self.set = without(self.set, MountAttrFlags::ATIME) | flag;
            self.clear |= MountAttrFlags::ATIME;
        } else if set {
            self.set |= flag;
            self.clear = without(self.clear, flag);
        } else {
            self.set = without(self.set, flag);
            self.clear |= flag;
        }
    }
}

fn without(from: MountAttrFlags, flag: MountAttrFlags) -> MountAttrFlags {
    let mut out = MountAttrFlags::NONE;
    for one in [
        MountAttrFlags::RDONLY,
        MountAttrFlags::NOSUID,
        MountAttrFlags::NODEV,
        MountAttrFlags::NOEXEC,
        MountAttrFlags::NOATIME,
        MountAttrFlags::STRICTATIME,
        MountAttrFlags::NODIRATIME,
        MountAttrFlags::NOSYMFOLLOW,
        MountAttrFlags::ATIME,
    ] {
        if from.bits() & one.bits() == one.bits() && flag.bits() & one.bits() == 0 {
            out |= one;
        }
    }
    out
}

/// Name, whether it sets, and the attribute; each has a recursive twin with an `r` before it
/// (<https://github.com/opencontainers/runtime-spec/blob/main/config.md#linux-mount-options>).
const ATTRIBUTES: [(&str, bool, MountAttrFlags); 18] = [
    ("ro", true, MountAttrFlags::RDONLY),
    ("rw", false, MountAttrFlags::RDONLY),
    ("nosuid", true, MountAttrFlags::NOSUID),
    ("suid", false, MountAttrFlags::NOSUID),
    ("nodev", true, MountAttrFlags::NODEV),
    ("dev", false, MountAttrFlags::NODEV),
    ("noexec", true, MountAttrFlags::NOEXEC),
    ("exec", false, MountAttrFlags::NOEXEC),
    ("nodiratime", true, MountAttrFlags::NODIRATIME),
    ("diratime", false, MountAttrFlags::NODIRATIME),
    ("nosymfollow", true, MountAttrFlags::NOSYMFOLLOW),
    ("symfollow", false, MountAttrFlags::NOSYMFOLLOW),
    // No bit of the field set means relatime.
    ("relatime", true, MountAttrFlags::NONE),
    ("norelatime", false, MountAttrFlags::NONE),
    ("noatime", true, MountAttrFlags::NOATIME),
    ("atime", false, MountAttrFlags::NONE),
    ("strictatime", true, MountAttrFlags::STRICTATIME),
    ("nostrictatime", false, MountAttrFlags::NONE),
];

const PROPAGATIONS: [(&str, Propagation); 4] = [
    ("private", Propagation::Private),
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("unbindable", Propagation::Unbindable),
];

/// Flags of the whole file system, not of one mount of it.
const SUPERBLOCK: [&str; 5] = ["sync", "dirsync", "lazytime", "mand", "silent"];

/// Words that ask for what is so anyway.
const NOTHING: [&str; 7] = [
    "defaults",
    "async",
    "nomand",
    "nolazytime",
    "loud",
    "iversion",
    "noiversion",
];

/// File systems whose one instance is shared, so that `ro` must be a property of the mount only.
const VIRTUAL: [&str; 8] = [
    "proc", "sysfs", "tmpfs", "devpts", "mqueue", "overlay", "cgroup", "cgroup2",
];

fn attribute(option: &str) -> Option<(bool, MountAttrFlags)> {
    ATTRIBUTES
        .iter()
        .find(|(name, ..)| *name == option)
        .map(|(_, set, flag)| (*set, *flag))
}

fn propagation(option: &str) -> Option<(Propagation, bool)> {
    let find = |name: &str| {
        PROPAGATIONS
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, p)| *p)
    };
    if let Some(found) = find(option) {
        return Some((found, false));
    }
    option
        .strip_prefix('r')
        .and_then(find)
        .map(|found| (found, true))
}

/// What `linux.rootfsPropagation` means.
pub(crate) fn root_propagation(text: &str) -> Result<Option<(Propagation, bool)>, RuntimeError> {
    if text.is_empty() {
        return Ok(None);
    }
    match propagation(text) {
        Some(found) => Ok(Some(found)),
        None => Err(RuntimeError::spec(
            "linux.rootfsPropagation",
            format!("unknown value `{text}`"),
        )),
    }
}

/// The options of one entry, taken apart.
#[derive(Debug, Default)]
struct Options {
    own: Attrs,
    deep: Attrs,
    propagation: Vec<(Propagation, bool)>,
    params: Vec<Param>,
    bind: Option<bool>,
    remount: bool,
    idmap: bool,
}

impl Options {
    fn parse(options: &[String], target: &Path) -> Result<Self, RuntimeError> {
        let mut out = Self::default();
        for option in options {
            let option = option.as_str();
            if let Some((set, flag)) = attribute(option) {
                out.own.apply(set, flag);
            } else if let Some(found) = propagation(option) {
                out.propagation.push(found);
            } else if let Some((set, flag)) = option.strip_prefix('r').and_then(attribute) {
                out.deep.apply(set, flag);
            } else if SUPERBLOCK.contains(&option) {
                out.params.push(Param::Flag(option.to_owned()));
            } else if !NOTHING.contains(&option) {
                out.special(option, target)?;
            }
        }
        Ok(out)
    }

    fn special(&mut self, option: &str, target: &Path) -> Result<(), RuntimeError> {
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "idmap" | "ridmap" => self.idmap = true,
            "tmpcopyup" => {
                let what = format!("the mount option `tmpcopyup` of `{}`", target.display());
                return Err(RuntimeError::Unsupported { what });
            }
            "" => {}
            _ => self.params.push(match option.split_once('=') {
                Some((key, value)) => Param::Value(key.to_owned(), value.to_owned()),
                None => Param::Flag(option.to_owned()),
            }),
        }
        Ok(())
    }
}

impl MountStep {
    pub(crate) fn new(mount: &Mount) -> Result<Self, RuntimeError> {
        let target = clean(mount.destination());
        let mut options = Options::parse(mount.options().as_deref().unwrap_or_default(), &target)?;
        let fstype = mount.typ().as_deref().unwrap_or("");
        // A source without a type is what runc takes for a bind mount.
        let bind = match (options.bind, fstype) {
            (None, "bind") => Some(false),
            (None, "" | "none") if !options.remount => {
                let reason = format!("{}: neither a type nor `bind`", target.display());
                return Err(RuntimeError::spec("mounts", reason));
            }
            (bind, _) => bind,
        };
        let source = mount.source().clone().unwrap_or_default();
        let what = match (bind, fstype) {
            _ if options.remount => What::Remount,
            (Some(_), _) if source.as_os_str().is_empty() => {
                let reason = format!("{}: a bind mount needs a source", target.display());
                return Err(RuntimeError::spec("mounts", reason));
            }
            (Some(recursive), _) => What::Bind { source, recursive },
            (None, "cgroup" | "cgroup2") => What::Cgroup,
            (None, fstype) => {
                let readonly = options.own.set.bits() & MountAttrFlags::RDONLY.bits() != 0;
                if readonly && !VIRTUAL.contains(&fstype) {
                    options.params.push(Param::Flag("ro".to_owned()));
                }
                let source = source.to_string_lossy().into_owned();
                What::Fs {
                    fstype: fstype.to_owned(),
                    source,
                    params: options.params,
                }
            }
        };
        let mapped =
            |list: &Option<Vec<LinuxIdMapping>>| list.as_ref().is_some_and(|l| !l.is_empty());
        if options.idmap || mapped(mount.uid_mappings()) || mapped(mount.gid_mappings()) {
            let what = format!("an id-mapped mount (`{}`)", target.display());
            return Err(RuntimeError::Unsupported { what });
        }
        let (own, deep, propagation) = (options.own, options.deep, options.propagation);
        Ok(Self {
            target,
            what,
            own,
            deep,
            propagation,
        })
    }

    /// True if the host's `/dev` is the container's.
    pub(crate) fn binds_dev(&self) -> bool {
        self.target == Path::new("/dev") && matches!(self.what, What::Bind { .. })
    }

    /// What is mounted where, for messages.
    pub(crate) fn describe(&self) -> String {
        let target = self.target.display();
        match &self.what {
            What::Bind { source, .. } => format!("mount `{}` on `{target}`", source.display()),
            What::Fs { fstype, .. } => format!("mount {fstype} on `{target}`"),
            What::Cgroup => format!("mount the cgroup on `{target}`"),
            What::Remount => format!("change the mount on `{target}`"),
        }
    }
}

/// The path as it is meant: absolute, with `.` and `..` taken by their letters, as runc does.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Splits `lowerdir=a:b` into its directories; a backslash protects a colon
/// (<https://docs.kernel.org/filesystems/overlayfs.html>).
pub(crate) fn lower_dirs(value: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' => out.push(String::new()),
            '\\' => {
                if let (Some(last), Some(next)) = (out.last_mut(), chars.next()) {
                    last.push(next);
                }
            }
            c => {
                if let Some(last) = out.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(json: &str) -> Result<MountStep, String> {
        let mount: Mount = serde_json::from_str(json).unwrap();
        MountStep::new(&mount).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_system_keeps_its_own_parameters() {
        let step = step(
            r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs",
                "options":["nosuid","strictatime","mode=755","size=65536k"]}"#,
        )
        .unwrap();
        let What::Fs { fstype, params, .. } = &step.what else {
            panic!("{:?}", step.what)
        };
        assert_eq!(fstype, "tmpfs");
        assert_eq!(params[0], Param::Value("mode".to_owned(), "755".to_owned()));
        assert_eq!(params.len(), 2);
        let wanted = MountAttrFlags::NOSUID | MountAttrFlags::STRICTATIME;
        assert_eq!(step.own.set.bits(), wanted.bits());
    }

    #[test]
    fn binds_are_known_by_option_or_type() {
        let by_option = step(r#"{"destination":"/a/../b","source":"/x","options":["rbind","ro"]}"#);
        let by_option = by_option.unwrap();
        assert_eq!(
            by_option.what,
            What::Bind {
                source: "/x".into(),
                recursive: true
            }
        );
        assert_eq!(by_option.target, Path::new("/b"));
        assert_eq!(by_option.own.set.bits(), MountAttrFlags::RDONLY.bits());
        let by_type = step(r#"{"destination":"/b","type":"bind","source":"/x"}"#).unwrap();
        assert_eq!(
            by_type.what,
            What::Bind {
                source: "/x".into(),
                recursive: false
            }
        );
        step(r#"{"destination":"/b","type":"bind"}"#).unwrap_err();
        step(r#"{"destination":"/b","source":"/x"}"#).unwrap_err();
    }

    #[test]
    fn recursive_attributes_are_apart_from_propagation() {
        let step = step(
            r#"{"destination":"/b","source":"/x","options":["bind","rro","rprivate","rslave"]}"#,
        )
        .unwrap();
        assert!(step.own.is_empty());
        assert_eq!(step.deep.set.bits(), MountAttrFlags::RDONLY.bits());
        assert_eq!(
            step.propagation,
            [(Propagation::Private, true), (Propagation::Slave, true)]
        );
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        let step =
            step(r#"{"destination":"/b","source":"/x","options":["bind","ro","rw"]}"#).unwrap();
        assert!(step.own.set.is_empty());
        assert_eq!(step.own.clear.bits(), MountAttrFlags::RDONLY.bits());
    }

    #[test]
    fn commas_stay_in_values() {
        let step = step(
            r#"{"destination":"/b","type":"tmpfs","source":"t","options":["mpol=bind:0,2","size=1m"]}"#,
        )
        .unwrap();
        let What::Fs { params, .. } = &step.what else {
            panic!("{:?}", step.what)
        };
        assert_eq!(
            params[0],
            Param::Value("mpol".to_owned(), "bind:0,2".to_owned())
        );
    }

    #[test]
    fn lower_directories_may_hold_colons() {
        assert_eq!(lower_dirs(r"/a:/b\:c:/d\\e"), ["/a", "/b:c", r"/d\e"]);
    }
}
