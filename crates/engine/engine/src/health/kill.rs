//! The end of a probe and of everything that it started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use havre_cgroup::{Cgroup, CgroupError, Host};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process forks while we look; after so many looks it is left to the end of the container.
const LOOKS: usize = 32;

/// What the kernel says of a process's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Family {
    parent: u32,
    session: u32,
    /// It has ended and waits to be collected.
    ended: bool,
}

/// Kills `root` and every process of the cgroup that descends from it or shares its session: who starts a process in
/// a container makes a session for it.
pub(super) fn kill_tree(cgroup: &Path, root: u32) -> Result<(), CgroupError> {
    let group = Cgroup::open(&Host::detect()?, cgroup)?;
    for _ in 0..LOOKS {
        let found: BTreeMap<u32, Family> = group
            .procs()?
            .into_iter()
            .filter_map(|pid| Some((pid, family(pid)?)))
            .collect();
        let tree = tree(&found, root);
        if tree.is_empty() {
            return Ok(());
        }
        for pid in tree {
            end(pid, found.get(&pid));
        }
    }
    Ok(())
}

/// The living members of the tree.
fn tree(all: &BTreeMap<u32, Family>, root: u32) -> BTreeSet<u32> {
    let mut tree: BTreeSet<u32> = all
        .iter()
        .filter(|(pid, family)| **pid == root || family.session == root)
        .map(|(pid, _)| *pid)
        .collect();
    loop {
        let before = tree.len();
        let children = all
            .iter()
            .filter(|(_, family)| tree.contains(&family.parent));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        tree.extend(children);
        if tree.len() == before {
            break;
        }
    }
    tree.retain(|pid| all.get(pid).is_some_and(|family| !family.ended));
    tree
}

/// Kills a process if it still is the one that was seen.
fn end(pid: u32, seen: Option<&Family>) {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    // Without a descriptor it is gone; with one, the number cannot be another's.
    if let Ok(fd) = pidfd_open(number, PidfdFlags::empty())
        && family(pid).as_ref() == seen
    {
        pidfd_send_signal(&fd, Signal::KILL).ok();
    }
}

/// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
fn family(pid: u32) -> Option<Family> {
    let bytes = fs_err::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(line: &str) -> Option<Family> {
    // The name may contain anything, brackets too.
    let mut columns = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = columns.next()?;
    let parent = columns.next()?.parse().ok()?;
    let session = columns.nth(1)?.parse().ok()?;
    Some(Family {
        parent,
        session,
        ended: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_and_the_session_belong_to_it() {
        let family = |parent, session, ended| Family {
            parent,
            session,
            ended,
        };
        let all = [
            (1, family(0, 1, false)),
            (10, family(0, 10, false)),
            (11, family(10, 10, false)),
            // Orphaned, but of the session.
            (12, family(1, 10, false)),
            // A session of its own, but a grandchild.
            (13, family(11, 13, false)),
            (14, family(10, 10, true)),
            // Another process of the container.
            (20, family(1, 20, false)),
        ]
        .into();
        assert_eq!(tree(&all, 10), [10, 11, 12, 13].into());
        assert_eq!(tree(&all, 99), BTreeSet::new());
    }

    #[test]
    fn names_do_not_confuse() {
        let line = "7 (a) Z 1 (b) S 3 4 5 6 7";
        assert_eq!(
            parse(line),
            Some(Family {
                parent: 3,
                session: 5,
                ended: false
            })
        );
        assert_eq!(parse("7 (a"), None);
    }
}
