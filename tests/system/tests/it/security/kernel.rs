//! R14 to R19, R21, R28: how much of the kernel a default container can reach.

use super::fixture::{field, probe, sleeping_box};
use crate::support::{engine, run_rm, stdout_of, text};
use anyhow::{Result, ensure};
use havre_testkit::http::Body;
use havre_testkit::{Engine, command::command};
use serde_json::json;

/// Calls by bare number through each entry point of the machine; prints `name: error number`.
const CALLS: &str = r"
import ctypes, mmap, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in args])
    return ctypes.get_errno()
# mov eax,edi; mov ebx,esi; xor ecx,ecx; xor edx,edx; xor esi,esi; xor edi,edi; int 0x80, with rbx and rdi kept
code = bytes.fromhex('53575689f889f331c931d231f631ffcd805e5f5bc3')
page = mmap.mmap(-1, 4096, prot=7); page.write(code)
entry = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
X32 = 0x40000000
for family in ('AF_ALG', 'AF_VSOCK', 'AF_UNIX', 'AF_INET', 'AF_NETLINK'):
    try: socket.socket(getattr(socket, family), socket.SOCK_RAW if family == 'AF_NETLINK' else socket.SOCK_DGRAM if family != 'AF_ALG' else socket.SOCK_SEQPACKET); error = 0
    except OSError as problem: error = problem.errno
    print(family, error)
print('clone3', call(435, 0, 0))
print('unknown', call(600))
print('getpid', call(39))
print('x32 getpid', call(X32 + 39))
print('x32 mount', call(X32 + 165))
print('x32 unknown', call(X32 + 600))
print('i386 getpid', int(entry(20, 0) < 0))
print('i386 mount', -entry(21, 0))
print('i386 bpf', -entry(357, 0))
print('i386 AF_ALG', -entry(359, 38))
print('i386 unknown', -entry(600, 0))
";

/// R14: the filter answers alike through every entry point, and the two families of sockets are refused.
/// That each number is answered as the profile says is tested where the filter is compiled.
#[test]
fn r14_the_filter_holds_for_every_entry_point() -> Result<()> {
    let engine = engine()?;
    let seen = probe(&engine, &[], CALLS)?;
    // 1 is EPERM, 38 ENOSYS. A kernel without x32 or i386 gives ENOSYS by itself.
    let wanted =
        "AF_ALG 1\nAF_VSOCK 1\nAF_UNIX 0\nAF_INET 0\nAF_NETLINK 0\nclone3 38\nunknown 38\ngetpid 0";
    assert!(seen.starts_with(wanted), "{seen}");
    for (name, refused) in [
        ("x32 mount", 1),
        ("i386 mount", 1),
        ("i386 bpf", 1),
        ("i386 AF_ALG", 1),
        ("x32 unknown", 38),
        ("i386 unknown", 38),
    ] {
        let line = seen
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        let error: i32 = line.trim().parse()?;
        ensure!(error == refused || error == 38, "{name}: {error}");
    }
    // The twin: without the filter the same calls reach the kernel.
    let open = probe(&engine, &["--security-opt", "seccomp=unconfined"], CALLS)?;
    assert!(!open.contains("clone3 38"), "{open}");
    Ok(())
}

/// R15: what cannot be enforced is refused by its name, and what is enforced is told.
#[test]
fn r15_confinement_is_applied_or_refused() -> Result<()> {
    let engine = engine()?;
    for option in ["apparmor=not-there", "seccomp=/not/there"] {
        let out = run_rm(&engine, &["--security-opt", option, "busybox", "true"])?;
        ensure!(!out.status.success(), "{option} was taken");
        let name = option.split('=').nth(1).unwrap_or_default();
        ensure!(text(&out.stderr).contains(name), "{option}: {out:?}");
    }
    let status = stdout_of(&engine, &["busybox", "cat", "/proc/self/status"])?;
    assert_eq!(field(&status, "Seccomp")?, "2");
    assert!(field(&status, "Seccomp_filters")?.parse::<u32>()? >= 1);
    let open = [
        "--security-opt",
        "seccomp=unconfined",
        "busybox",
        "cat",
        "/proc/self/status",
    ];
    assert_eq!(field(&stdout_of(&engine, &open)?, "Seccomp")?, "0");
    // Information names what this host enforces and nothing that it does not.
    let told = engine.docker(&["info", "-f", "{{json .SecurityOptions}}"])?;
    assert!(
        told.contains("name=seccomp,profile=builtin") && told.contains("name=cgroupns"),
        "{told}"
    );
    let modules = fs_err::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    for module in ["apparmor", "selinux"] {
        let here = modules.split(',').any(|name| name.trim() == module);
        ensure!(here || !told.contains(module), "{module}: {told}");
    }
    // Labels are taken as Docker takes them, so that they have no force is told twice.
    let warnings = engine.docker(&["info", "-f", "{{json .Warnings}}"])?;
    let selinux = modules.split(',').any(|name| name.trim() == "selinux");
    ensure!(
        selinux || warnings.contains("SELinux is not available"),
        "{warnings}"
    );
    // And inspection names what a container was given.
    sleeping_box(&engine, &["--security-opt", "no-new-privileges"])?;
    let label = engine.docker(&["inspect", "-f", "{{.ProcessLabel}}", "box"])?;
    assert!(selinux || label.is_empty(), "{label}");
    let told = engine.docker(&[
        "inspect",
        "-f",
        "{{json .HostConfig.SecurityOpt}} {{.AppArmorProfile}} {{len .HostConfig.MaskedPaths}}",
        "box",
    ])?;
    assert!(told.starts_with("[\"no-new-privileges\"]  "), "{told}");
    let masked: usize = told.rsplit(' ').next().unwrap_or_default().parse()?;
    assert!(masked >= 23, "{told}");
    Ok(())
}

/// What a default container must not be able to do, each as an expression that succeeds or raises.
const SURFACE: &str = r"
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)
def call(number, *args):
    ctypes.set_errno(0)
    made = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return 0 if made >= 0 else ctypes.get_errno()
# What is there already is written again, so that a weak container does no harm to the host.
def write(path, text=None):
    try:
        if text is None:
            with open(path) as file: text = file.read()
        with open(path, 'w') as file: file.write(text)
        return 0
    except OSError as error: return error.errno
null = 0
only = os.environ.get('ONLY', '').split(',')
for name, attempt in [
    ('mount', lambda: call(165, b'none', b'/mnt', b'tmpfs', 0, null)),
    ('umount', lambda: call(166, b'/proc', 2)), ('pivot_root', lambda: call(155, b'/', b'/')),
    ('unshare user', lambda: call(272, 0x10000000)), ('unshare mount', lambda: call(272, 0x20000)),
    ('clone user', lambda: call(56, 0x10000000, 0)), ('setns', lambda: call(308, 0, 0)),
    ('keyctl', lambda: call(250, 0, -3, 1)), ('add_key', lambda: call(248, b'user', b'x', b'y', 1, -3)), ('request_key', lambda: call(249, b'user', b'x', null, -3)),
    ('io_uring_setup', lambda: call(425, 8, buffer)), ('bpf', lambda: call(321, 0, buffer, 48)), ('userfaultfd', lambda: call(323, 1)),
    ('perf_event_open', lambda: call(298, buffer, 0, -1, -1, 0)), ('fanotify_init', lambda: call(300, 0, 0)),
    ('init_module', lambda: call(175, buffer, 10, b'')), ('delete_module', lambda: call(176, b'x', 0)), ('finit_module', lambda: call(313, 0, b'', 0)),
    ('kexec_load', lambda: call(246, 0, 0, null, 0)), ('reboot', lambda: call(169, 0xfee1dead, 672274793, 0, null)),
    ('swapon', lambda: call(167, b'/tmp/x', 0)), ('acct', lambda: call(163, b'/tmp/x')), ('quotactl', lambda: call(179, 0, null, 0, null)),
    ('settimeofday', lambda: call(164, buffer, null)), ('clock_settime', lambda: call(227, 0, buffer)), ('adjtimex', lambda: call(159, ctypes.create_string_buffer(bytes([1]) + bytes(400)))),
    ('sethostname', lambda: call(170, b'x', 1)), ('iopl', lambda: call(172, 3)), ('ioperm', lambda: call(173, 0, 1, 1)),
    ('open_by_handle_at', lambda: call(304, -100, buffer, 0)), ('name_to_handle_at', lambda: call(303, -100, b'/', buffer, buffer, 0) and 1),
    ('syslog', lambda: call(103, 3, buffer, 100)), ('lookup_dcookie', lambda: call(212, 0, buffer, 10)), ('vhangup', lambda: call(153)),
    ('move_pages', lambda: call(279, 0, 0, null, null, null, 0)), ('set_mempolicy', lambda: call(238, 0, null, 0)), ('mbind', lambda: call(237, 0, 0, 0, null, 0, 0)),
    ('fsopen', lambda: call(430, b'tmpfs', 0)), ('open_tree', lambda: call(428, -100, b'/', 1)), ('move_mount', lambda: call(429, -100, b'/', -100, b'/', 0)),
    ('mount_setattr', lambda: call(442, -100, b'/', 0, buffer, 32)), ('pidfd_getfd', lambda: call(438, 0, 0, 0)), ('kcmp', lambda: call(312, 1, 1, 0, 0, 0)),
    ('personality', lambda: call(135, 0x0040000)), ('nfsservctl', lambda: call(180, 0, 0, 0)), ('uselib', lambda: call(134, b'/x')),
    ('core_pattern', lambda: write('/proc/sys/kernel/core_pattern')), ('sysrq', lambda: write('/proc/sysrq-trigger', 'h')),
    ('hotplug', lambda: write('/sys/kernel/uevent_helper')), ('oom', lambda: write('/proc/self/oom_score_adj', '-999')),
    ('release_agent', lambda: write('/sys/fs/cgroup/release_agent') and write('/sys/fs/cgroup/memory/release_agent')),
    ('ipv4', lambda: write('/proc/sys/net/ipv4/ip_forward', '1')),
]:
    if only != [''] and name not in only: continue
    if not attempt(): print('open:', name)
print('done')
";

/// R16: forty and more operations that a default container must not have.
#[test]
fn r16_the_surface_of_the_kernel() -> Result<()> {
    let engine = engine()?;
    assert_eq!(probe(&engine, &[], SURFACE)?, "done");
    // The twin: those of them that do no harm succeed for whoever has the rights.
    let harmless = [
        "mount",
        "keyctl",
        "add_key",
        "fsopen",
        "open_tree",
        "sethostname",
        "ipv4",
    ];
    let only = format!("ONLY={}", harmless.join(","));
    let open = probe(
        &engine,
        &["--privileged", "--tmpfs", "/mnt", "-e", &only],
        SURFACE,
    )?;
    for name in harmless {
        assert!(open.contains(&format!("open: {name}\n")), "{name}: {open}");
    }
    Ok(())
}

/// R17: nothing of the masked paths can be read or written, by run and exec alike.
#[test]
fn r17_masked_and_read_only_paths() -> Result<()> {
    let engine = engine()?;
    sleeping_box(&engine, &[])?;
    let list = |name: &str| -> Result<Vec<String>> {
        let template = format!("{{{{range .HostConfig.{name}}}}}{{{{println .}}}}{{{{end}}}}");
        Ok(engine
            .docker(&["inspect", "-f", &template, "box"])?
            .lines()
            .map(str::to_owned)
            .collect())
    };
    let (masked, read_only) = (list("MaskedPaths")?, list("ReadonlyPaths")?);
    for needed in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/acpi",
        "/proc/kpagecount",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ] {
        assert!(masked.iter().any(|path| path == needed), "{needed}");
    }
    let script = format!(
        "for f in {}; do test -e $f || continue; if test -d $f; then ls -A $f; else head -c1 $f | od -c | head -1; \
         (echo x >$f) 2>/dev/null; head -c1 $f; fi; done | grep -v '^0000000$'; \
         for f in {}; do test -e $f || continue; touch $f/x 2>/dev/null && echo written $f; (echo x >>$f) 2>/dev/null && echo appended $f; done; true",
        masked.join(" "),
        read_only.join(" "),
    );
    assert_eq!(
        stdout_of(&engine, &["busybox", "sh", "-c", &script])?,
        "",
        "run"
    );
    assert_eq!(
        engine.docker(&["exec", "box", "sh", "-c", &script])?,
        "",
        "exec"
    );
    // The twins: open when asked for, and for a privileged container.
    let look = "head -c4 /proc/timer_list; ls /sys/firmware | head -1";
    for flags in [
        &["--security-opt", "systempaths=unconfined"][..],
        &["--privileged"],
    ] {
        let open = stdout_of(&engine, &[flags, &["busybox", "sh", "-c", look]].concat())?;
        assert!(open.len() > 4, "{flags:?}: {open}");
    }
    Ok(())
}

/// R18: the session keyring is neither the host's nor another container's.
#[test]
fn r18_keyrings_are_apart() -> Result<()> {
    let engine = engine()?;
    let flags = ["--security-opt", "seccomp=unconfined"];
    // KEYCTL_GET_KEYRING_ID of the session keyring; then what is put into it.
    let script = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(250, 0, -3, 0), libc.syscall(248, b'user', b'havre-test', b'x', 1, -3))";
    let here = command("/usr/bin/python3")
        .args(["-I", "-S", "-c", script])
        .output()?;
    let serial = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let mut seen = vec![serial(&text(&here.stdout))];
    for _ in 0..2 {
        let words = probe(&engine, &flags, script)?;
        assert!(
            !words.contains('-'),
            "a key cannot be made in the own keyring: {words}"
        );
        seen.push(serial(&words));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
    Ok(())
}

/// R19: the container sees its own part of the cgroup tree and cannot write to it.
#[test]
fn r19_the_cgroup_tree() -> Result<()> {
    let engine = engine()?;
    let script = "cut -d: -f3 /proc/self/cgroup | sort -u; \
                  find /sys/fs/cgroup -name 'cgroup.*' | while read f; do (echo $$ >$f) 2>/dev/null && echo written $f; done; \
                  find /sys/fs/cgroup -mindepth 1 -type d -name 'havre*'; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo made; true";
    assert_eq!(stdout_of(&engine, &["busybox", "sh", "-c", script])?, "/");
    // The twin: on the host's namespace the path is seen, so the first line can tell.
    let open = stdout_of(
        &engine,
        &[
            "--cgroupns",
            "host",
            "busybox",
            "cut",
            "-d:",
            "-f3",
            "/proc/self/cgroup",
        ],
    )?;
    assert!(open.contains("havre"), "{open}");
    Ok(())
}

const HOSTILE_SYSCTLS: [(&str, &str); 30] = [
    ("kernel.core_pattern", "|/x"),
    ("kernel/core_pattern", "|/x"),
    ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x\n"),
    ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/x"),
    ("kernel.shm_rmid_forced\nkernel.core_pattern", "1"),
    ("kernel.shmmax/../core_pattern", "|/x"),
    ("net.../../kernel.core_pattern", "|/x"),
    ("net/../kernel/core_pattern", "|/x"),
    ("net.ipv4/../../kernel.core_pattern", "|/x"),
    ("net//kernel", "1"),
    ("net..ipv4.ip_forward", "1"),
    ("/net/ipv4/ip_forward", "1"),
    (".net.ipv4.ip_forward", "1"),
    ("net.ipv4.ip_forward.", "1"),
    ("net.ipv4.ip_forward ", "1"),
    ("NET.ipv4.ip_forward", "1"),
    ("net", "1"),
    ("", "1"),
    (".", "1"),
    ("..", "1"),
    ("vm.overcommit_memory", "1"),
    ("vm/swappiness", "1"),
    ("fs.file-max", "1"),
    ("fs.mqueue", "1"),
    ("fs.mqueue./../file-max", "1"),
    ("fs.suid_dumpable", "2"),
    ("kernel.modprobe", "/x"),
    ("kernel.hotplug", "/x"),
    ("user.max_user_namespaces", "1"),
    ("net.ipv4.ip_forward\0", "1"),
];

fn create_with_sysctl(engine: &Engine, key: &str, value: &str, mode: &str) -> Result<u16> {
    let body = json!({
        "Image": "busybox",
        "HostConfig": { "NetworkMode": mode, "Sysctls": { key: value } },
    });
    let body = body.to_string();
    let answer = engine.api(
        "POST",
        "/containers/create",
        &Body::Bytes(body.as_bytes(), "application/json"),
    )?;
    Ok(answer.status)
}

/// R21: only parameters of the container's own namespaces, each one line; the host's stay as they are.
#[test]
fn r21_hostile_sysctls() -> Result<()> {
    let engine = engine()?;
    let names = ["core_pattern", "modprobe", "shm_rmid_forced", "hostname"];
    // Not every kernel has each of them.
    let look = || names.map(|name| fs_err::read_to_string(format!("/proc/sys/kernel/{name}")).ok());
    let before = look();
    for (key, value) in HOSTILE_SYSCTLS {
        assert_eq!(
            create_with_sysctl(&engine, key, value, "none")?,
            400,
            "{key:?}={value:?}"
        );
        assert_eq!(
            create_with_sysctl(&engine, key, value, "host")?,
            400,
            "{key:?}={value:?} on the host's network"
        );
    }
    assert_eq!(
        create_with_sysctl(&engine, "net.ipv4.ip_forward", "1", "host")?,
        400
    );
    assert_eq!(look(), before);
    // The twin.
    let flags = [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.shm_rmid_forced=1",
    ];
    let files = [
        "busybox",
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/shm_rmid_forced",
    ];
    assert_eq!(stdout_of(&engine, &[&flags[..], &files].concat())?, "1\n1");
    Ok(())
}

/// R28: a nested user namespace gets no fresh `/proc` without the masks.
#[test]
fn r28_no_bare_proc_in_nested_namespaces() -> Result<()> {
    let engine = engine()?;
    let script = r"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x10000000 | 0x20000 | 0x20000000) == 0, ctypes.get_errno()
if os.fork() == 0:
    made = libc.mount(b'proc', b'/mnt', b'proc', 0, None)
    print('mounted' if made == 0 else 'refused', flush=True)
    os._exit(0)
os.wait()";
    let flags = ["--security-opt", "seccomp=unconfined", "--tmpfs", "/mnt"];
    assert_eq!(probe(&engine, &flags, script)?, "refused");
    // The twin: where nothing is masked there is nothing to keep.
    let open = [&flags[..], &["--security-opt", "systempaths=unconfined"]].concat();
    assert_eq!(probe(&engine, &open, script)?, "mounted");
    Ok(())
}
