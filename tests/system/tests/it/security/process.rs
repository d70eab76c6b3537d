//! R01, R02, R04: what a process carries into a container, and who can look at it on its way.

use super::fixture::{Sentinel, start_probe};
use crate::support::engine;
use anyhow::{Result, ensure};
use havre_testkit::command::{command, stdout};
use std::os::unix::fs::MetadataExt as _;

/// Looks, as fast as it can, at every process of its PID namespace that has not yet executed its
/// program, and writes down what it got hold of.
const WATCH: &str = r#"
import fcntl, os
F_GET_SEALS, F_SEAL_WRITE = 1034, 8
sentinel = os.environ['SENTINEL']
me = os.getpid()
found, met = set(), set()
def host(path):
    try:
        with open(path + sentinel) as file: found.add('host bytes by ' + path.split('/', 3)[3] + ': ' + file.read())
    except OSError: pass
os.mkdir('/watch')
while not os.path.exists('/watch/stop'):
    for pid in os.listdir('/proc'):
        if not pid.isdigit() or int(pid) == me: continue
        base = '/proc/' + pid
        try: exe = os.readlink(base + '/exe')
        except OSError: continue
        try: theirs = os.stat(base + '/exe')
        except OSError: continue
        try:
            # The program of the container, as the watch sees it too.
            inside = os.stat(exe)
            if (theirs.st_dev, theirs.st_ino) == (inside.st_dev, inside.st_ino): continue
        except OSError: pass
        # It may have executed its program, or ended, since.
        try:
            if os.readlink(base + '/exe') != exe: continue
        except OSError: continue
        met.add(pid)
        if not exe.startswith('/memfd'): found.add('runs ' + exe)
        try:
            file = os.open(base + '/exe', os.O_RDONLY)
            now = os.fstat(file)
            # Else it has executed its program between the two looks.
            if (now.st_dev, now.st_ino) == (theirs.st_dev, theirs.st_ino):
                try: sealed = fcntl.fcntl(file, F_GET_SEALS) & F_SEAL_WRITE
                except OSError: sealed = 0
                if not sealed: found.add('exe is not sealed')
            os.close(file)
        except OSError: pass
        host(base + '/root')
        host(base + '/cwd')
        try:
            file = os.open(base + '/exe', os.O_WRONLY); found.add('exe is writable'); os.close(file)
        except OSError: pass
        try: numbers = os.listdir(base + '/fd')
        except OSError: continue
        for number in numbers:
            try: target = os.readlink(base + '/fd/' + number)
            except OSError: continue
            # One that has gone between two looks shows nothing any more.
            try: theirs = os.stat(base + '/fd/' + number)
            except OSError: continue
            try:
                inside = os.stat(target)
                if (theirs.st_dev, theirs.st_ino) == (inside.st_dev, inside.st_ino): continue
            except OSError: pass
            if target.split(':')[0] not in ('pipe', 'socket', 'anon_inode', '/dev/null'):
                found.add('descriptor of ' + target)
            host(base + '/fd/' + number + '/../../../../../../../..')
with open('/watch/report', 'w') as report:
    report.write('met ' + str(len(met)) + '\n' + '\n'.join(sorted(found)) + '\n')
os.rename('/watch/report', '/watch/done')
import time; time.sleep(600)
"#;

/// R01, R04: root of a container that may trace finds nothing of the host in those who enter, and
/// the programs of the engine are never writable through them.
#[test]
fn r01_r04_entering_processes_show_nothing_of_the_host() -> Result<()> {
    let engine = engine()?;
    let sentinel = Sentinel::new()?;
    let secret = format!("SENTINEL={}", sentinel.file().display());
    let program = engine.program("containerd-shim-havre-v2");
    let look = || -> Result<(String, i64)> {
        let sum = stdout(command("sha256sum").arg(&program))?;
        Ok((sum, fs_err::metadata(&program)?.mtime_nsec()))
    };
    let before = look()?;
    start_probe(
        &engine,
        "box",
        &["--cap-add", "SYS_PTRACE", "-e", &secret],
        WATCH,
    )?;
    let script = "i=0; while [ $i -lt 60 ]; do docker exec box true || exit 1; i=$((i+1)); done";
    let ran = command("sh")
        .args(["-c", script])
        .env("DOCKER_HOST", engine.host())
        .output()?;
    ensure!(ran.status.success(), "{ran:?}");
    let report = engine.docker(&[
        "exec",
        "box",
        "sh",
        "-c",
        "touch /watch/stop; while ! test -e /watch/done; do :; done; cat /watch/done",
    ])?;
    let (met, found) = report.split_once('\n').unwrap_or((&report, ""));
    // The watch sees something at all: without that it would prove nothing.
    let met: u32 = met.trim_start_matches("met ").parse()?;
    ensure!(met > 0, "no entering process was met");
    ensure!(found.is_empty(), "of {met} processes: {found}");
    sentinel.check()?;
    assert_eq!(look()?, before);
    Ok(())
}
