//! Rows of the weakness catalogue that can be seen from outside, by their numbers there.

mod devices;
pub(crate) mod fixture;
mod host;
mod identity;
mod kernel;
mod limits;
mod logs;
mod mounts;
mod network;
mod process;
mod tree;

use crate::support::{SLEEPING_BOX, assert_fails, engine, run_rm, stdout_of};
use anyhow::Result;
use std::os::unix::fs::PermissionsExt as _;

/// R02: no descriptor of the host is open in a container's process, run or executed.
#[test]
fn r02_no_foreign_descriptors() -> Result<()> {
    let engine = engine()?;
    // ls itself opens the directory that it lists.
    assert_eq!(
        stdout_of(&engine, &["busybox", "ls", "/proc/self/fd"])?,
        "0\n1\n2\n3"
    );
    engine.docker(&SLEEPING_BOX)?;
    assert_eq!(
        engine.docker(&["exec", "box", "ls", "/proc/self/fd"])?,
        "0\n1\n2\n3"
    );
    assert_eq!(
        engine.docker(&["exec", "box", "ls", "/proc/1/fd"])?,
        "0\n1\n2"
    );
    Ok(())
}

/// R03: a working directory whose way leads out through a magic link is refused, one with `..` is made inside.
#[test]
fn r03_workdir_stays_inside() -> Result<()> {
    let engine = engine()?;
    let out = run_rm(
        &engine,
        &["-w", "/proc/1/root/../../made", "busybox", "pwd"],
    )?;
    assert_fails(&out, 127, "failed to change to the working directory");
    let inside = stdout_of(&engine, &["-w", "/../made/../new/deep", "busybox", "pwd"])?;
    assert_eq!(inside, "/new/deep");
    for place in ["/made", "/new"] {
        assert!(
            fs_err::metadata(place).is_err(),
            "{place} appeared on the host"
        );
    }
    Ok(())
}

/// R09, R15: capabilities are Docker's, inheritable and ambient empty, the filter is on.
#[test]
fn r09_r15_rights_of_the_process() -> Result<()> {
    let engine = engine()?;
    engine.docker(&SLEEPING_BOX)?;
    let run = stdout_of(&engine, &["busybox", "cat", "/proc/self/status"])?;
    let exec = engine.docker(&["exec", "box", "cat", "/proc/self/status"])?;
    for status in [run, exec] {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        assert_eq!(field("CapInh:"), "0000000000000000");
        assert_eq!(field("CapAmb:"), "0000000000000000");
        assert_eq!(field("CapBnd:"), field("CapEff:"));
        assert_eq!(
            u64::from_str_radix(&field("CapEff:"), 16)? & !0xa804_25fb,
            0,
            "more than Docker's fourteen"
        );
        assert_eq!(field("Seccomp:"), "2");
    }
    Ok(())
}

/// R17: what the kernel tells about the host is masked, in run and exec.
#[test]
fn r17_masked_paths() -> Result<()> {
    let engine = engine()?;
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do [ -s $f ] && head -c1 $f | grep -q . && echo open $f; done; ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null; true";
    let seen = stdout_of(&engine, &["busybox", "sh", "-c", script])?;
    let entries: Vec<&str> = seen
        .lines()
        .filter(|line| !line.is_empty() && !line.ends_with(':'))
        .collect();
    assert_eq!(entries, [""; 0]);
    Ok(())
}

/// R16, R19: what a default container must not be able to do.
#[test]
fn r16_r19_refused_operations() -> Result<()> {
    let engine = engine()?;
    let script = "
mount -t tmpfs none /mnt 2>/dev/null && echo mounted
cat /proc/sys/kernel/sysrq >/proc/sys/kernel/sysrq 2>/dev/null && echo sysrq
mkdir /sys/fs/cgroup/x 2>/dev/null && echo cgroup
for d in /sys/fs/cgroup/*; do echo 1 >$d/cgroup.procs 2>/dev/null && echo moved; done
unshare -U true 2>/dev/null && echo userns
mknod /disk b 254 0 2>/dev/null && dd if=/disk bs=1 count=1 2>/dev/null | grep -q . && echo disk
true";
    assert_eq!(stdout_of(&engine, &["busybox", "sh", "-c", script])?, "");
    Ok(())
}

/// R29, R30: sockets and directories of the engine are closed to other users.
#[test]
fn r29_r30_directories_are_closed() -> Result<()> {
    let engine = engine()?;
    engine.docker(&[
        "run",
        "-d",
        "--network",
        "host",
        "--name",
        "box",
        "busybox",
        "sleep",
        "600",
    ])?;
    for folder in [engine.data_root(), engine.exec_root()] {
        let mode = fs_err::metadata(&folder)?.permissions().mode() & 0o777;
        assert_eq!(mode & 0o066, 0, "{}: {mode:o}", folder.display());
    }
    let sockets = engine.docker(&["exec", "box", "cat", "/proc/net/unix"])?;
    let ours = sockets
        .lines()
        .filter(|line| line.contains("@") && line.contains("havre"));
    assert_eq!(
        ours.count(),
        0,
        "an abstract socket of ours is open to the host network"
    );
    Ok(())
}

/// R12: a user that looks like a number is a number, whatever the image's passwd says.
#[test]
fn r12_numbers_are_numbers() -> Result<()> {
    let engine = engine()?;
    for user in ["-1", "4294967295", "4294967296", "0x0", "+1", "1e3"] {
        let output = engine.docker_output(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            user,
            "busybox",
            "id",
            "-u",
        ])?;
        assert!(!output.status.success(), "{user} was taken: {output:?}");
    }
    assert_eq!(
        stdout_of(&engine, &["--user", "2147483648", "busybox", "id", "-u"])?,
        "2147483648"
    );
    Ok(())
}
