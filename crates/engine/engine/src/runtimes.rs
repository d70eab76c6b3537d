//! The runtimes that a container can ask for by name: Havre's own, and programs with the command line of runc.
//!
//! Names and texts: <https://github.com/moby/moby/blob/master/daemon/runtime_unix.go>.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use havre_api_traits::{ApiError, ApiResult};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

/// Havre's own, which is part of the shim.
pub const OWN: &str = "havre";
const OWN_SHIM: &str = "io.containerd.havre.v2";
/// What Docker's own runtime is called where it is asked for by name: unless the configuration says otherwise, there is
/// no other difference to ask for.
const RUNC: [&str; 2] = ["runc", "io.containerd.runc.v2"];
const SEARCH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// A runtime program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciRuntime {
    /// Its path; a bare name is looked for in the usual directories.
    pub path: PathBuf,
    /// Words between its name and the command.
    pub args: Vec<String>,
}

/// The runtimes by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtimes {
    /// The one for containers that name none.
    pub default: String,
    /// Those of the configuration.
    pub programs: BTreeMap<String, OciRuntime>,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self {
            default: OWN.to_owned(),
            programs: BTreeMap::new(),
        }
    }
}

impl Runtimes {
    /// Whether a container may name it. Nothing with a slash: who speaks to the engine must not choose a program.
    pub fn check(&self, name: &str) -> ApiResult<()> {
        let known = self.is_own(name) || self.programs.contains_key(name);
        let of_a_shim = !name.contains('/') && name.find('.').is_some_and(|at| at > 0);
        if known || of_a_shim {
            return Ok(());
        }
        Err(ApiError::invalid(format!(
            "unknown or invalid runtime name: {name}"
        )))
    }

    fn is_own(&self, name: &str) -> bool {
        let own = matches!(name, "" | OWN | OWN_SHIM) || RUNC.contains(&name);
        own && !self.programs.contains_key(name)
    }

    /// That the runtime is not the one of that name.
    pub(crate) fn warning(&self, name: &str) -> Option<String> {
        let stands_in = RUNC.contains(&name) && self.is_own(name);
        stands_in.then(|| format!("runtime {name} is Havre's own runtime here"))
    }

    /// The program of a runtime, found on the disk; none for Havre's own.
    pub(crate) fn find(&self, name: &str) -> ApiResult<Option<OciRuntime>> {
        if self.is_own(name) {
            return Ok(None);
        }
        let program = self.programs.get(name).ok_or_else(|| no_shim(name))?;
        let path = located(&program.path).ok_or_else(|| {
            ApiError::invalid(format!(
                "failed to create task for container: failed to start shim: exec: {:?}: executable file not found in $PATH",
                program.path.display().to_string()
            ))
        })?;
        Ok(Some(OciRuntime {
            path,
            args: program.args.clone(),
        }))
    }
}

fn located(path: &Path) -> Option<PathBuf> {
    if path.is_absolute() {
        return path.is_file().then(|| path.to_owned());
    }
    let mut all = SEARCH
        .iter()
        .map(|directory| Path::new(directory).join(path));
    all.find(|candidate| candidate.is_file())
}

/// Shims of others cannot keep this engine's logs and attached clients, so they are not used.
fn no_shim(name: &str) -> ApiError {
    let mut parts = name.rsplit('.');
    let version = parts.next().unwrap_or_default();
    let kind = parts.next().unwrap_or_default();
    let program = format!("containerd-shim-{kind}-{version}");
    let text = if located(Path::new(&program)).is_some() {
        format!(
            "the shim {program} of another engine cannot be used: add its runtime with --add-runtime"
        )
    } else {
        format!(
            "failed to resolve runtime path: runtime {name:?} binary not installed {program:?}: file does not exist"
        )
    };
    ApiError::invalid(format!(
        "failed to create task for container: failed to start shim: {text}"
    ))
}

/// Takes out what other runtimes do not know yet.
pub(crate) fn adapt(spec: &mut Spec) {
    // What is left of the specification is in 1.0, and older programs refuse any other number.
    spec.set_version("1.0.2".to_owned());
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Time);
    linux.set_namespaces(Some(namespaces));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Runtimes {
        let program = |path: &str| OciRuntime {
            path: path.into(),
            args: Vec::new(),
        };
        Runtimes {
            programs: [
                ("sh".to_owned(), program("sh")),
                ("gone".to_owned(), program("/nowhere/gone")),
            ]
            .into(),
            ..Runtimes::default()
        }
    }

    #[test]
    fn names_are_checked_as_dockerd_does() {
        let said = [
            "",
            "havre",
            "runc",
            "sh",
            "io.containerd.kata.v2",
            "foo",
            "/bin/sh",
            "a/b.c",
            ".x",
        ]
        .map(|name| {
            some()
                .check(name)
                .map_or_else(|err| err.message, |()| format!("{name}: fine"))
        });
        insta::assert_snapshot!(said.join("\n"), @r"
        : fine
        havre: fine
        runc: fine
        sh: fine
        io.containerd.kata.v2: fine
        unknown or invalid runtime name: foo
        unknown or invalid runtime name: /bin/sh
        unknown or invalid runtime name: a/b.c
        unknown or invalid runtime name: .x
        ");
    }

    #[test]
    fn programs_are_found_or_named() {
        let runtimes = some();
        assert_eq!(runtimes.find("havre").unwrap(), None);
        assert_eq!(runtimes.find("runc").unwrap(), None);
        assert!(runtimes.warning("runc").is_some());
        assert!(runtimes.warning("havre").is_none());
        assert!(runtimes.find("sh").unwrap().unwrap().path.is_absolute());
        let said = ["gone", "io.containerd.no-such.v9"]
            .map(|name| runtimes.find(name).unwrap_err().message);
        insta::assert_snapshot!(said.join("\n"), @r#"
        failed to create task for container: failed to start shim: exec: "/nowhere/gone": executable file not found in $PATH
        failed to create task for container: failed to start shim: failed to resolve runtime path: runtime "io.containerd.no-such.v9" binary not installed "containerd-shim-no-such-v9": file does not exist
        "#);
    }
}
