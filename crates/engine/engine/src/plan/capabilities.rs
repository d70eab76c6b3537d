//! Which capabilities a container's first process gets.

use std::collections::HashSet;

use havre_api_traits::ApiError;
use havre_oci::capability::BY_NUMBER;
use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

/// Docker's default set, in its order:
/// <https://github.com/moby/moby/blob/master/daemon/pkg/oci/caps/defaults.go>.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// A set of capabilities.
pub(crate) type Set = HashSet<Capability>;

/// Everything the engine itself holds: what `--privileged` and `ALL` mean.
/// `bounding` is bit by capability number, as `CapBnd` of `/proc/self/status` shows it.
pub(crate) fn held(bounding: u64) -> Set {
    (0_u32..)
        .zip(BY_NUMBER)
        .filter(|(bit, _)| bounding & (1 << bit) != 0)
        .map(|(_, cap)| cap)
        .collect()
}

/// The set for `--cap-add` and `--cap-drop`, as Docker combines them: with `ALL` added, everything but what is
/// dropped; with `ALL` dropped, only what is added; else the default, plus and minus.
pub(crate) fn choose(add: &[String], drop: &[String], held: &Set) -> Result<Set, ApiError> {
    let (all_added, add) = parse(add, "CapAdd")?;
    let (all_dropped, drop) = parse(drop, "CapDrop")?;
    if all_added {
        return Ok(held.difference(&drop).copied().collect());
    }
    if all_dropped {
        return Ok(add);
    }
    let mut set: Set = DEFAULT.into_iter().collect();
    set.extend(add);
    Ok(set.difference(&drop).copied().collect())
}

/// The sets of the first process. The effective and permitted ones are empty for other users than root: execve
/// does that, and saying so keeps the plan honest. Inheritable and ambient stay empty (CVE-2022-24769).
pub(crate) fn process(set: &Set, uid: u32) -> Result<LinuxCapabilities, ApiError> {
    let active = if uid == 0 { set.clone() } else { Set::new() };
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(active.clone())
        .permitted(active)
        .inheritable(Set::new())
        .ambient(Set::new())
        .build()
        .map_err(|err| crate::error::internal("failed to plan the capabilities", &err))
}

fn parse(names: &[String], field: &str) -> Result<(bool, Set), ApiError> {
    let mut set = Set::new();
    let mut all = false;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" {
            all = true;
            continue;
        }
        let known = BY_NUMBER
            .into_iter()
            .find(|cap| cap.to_string() == bare)
            .ok_or_else(|| {
                ApiError::invalid(format!(
                    "invalid {field}: unknown capability: \"CAP_{bare}\""
                ))
            })?;
        set.insert(known);
    }
    Ok((all, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(set: &Set) -> Vec<String> {
        let mut names: Vec<_> = set.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    fn pick(add: &[&str], drop: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        names(&choose(&own(add), &own(drop), &held(u64::MAX)).unwrap())
    }

    #[test]
    fn adding_and_dropping() {
        assert_eq!(pick(&[], &[]).len(), 14);
        assert_eq!(pick(&[], &["all"]), Vec::<String>::new());
        assert_eq!(
            pick(&["cap_kill", "SYS_ADMIN"], &["ALL"]),
            ["KILL", "SYS_ADMIN"]
        );
        assert_eq!(pick(&["ALL"], &["NET_RAW"]).len(), 40);
        assert!(!pick(&[], &["mknod"]).contains(&"MKNOD".to_owned()));
    }

    #[test]
    fn unknown_names_are_refused_by_name() {
        let err = choose(&["nope".to_owned()], &[], &Set::new()).unwrap_err();
        assert_eq!(
            err.message,
            "invalid CapAdd: unknown capability: \"CAP_NOPE\""
        );
    }

    #[test]
    fn the_engine_gives_only_what_it_has() {
        let chown_and_kill = 1 | (1 << 5);
        assert_eq!(names(&held(chown_and_kill)), ["CHOWN", "KILL"]);
    }
}
