//! Forked children for tests, which change namespaces, identities or filters and must not do so
//! to the test process. For tests only: a test binary has many threads.

use std::io::{PipeWriter, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, setpgid, waitpid};

use crate::process::exit_now;

/// Runs `f` in a forked child and panics with its message if it panics there.
///
/// The fork is the C library's, which leaves its allocator usable in the child of a threaded
/// process; `f` should not touch other locks that a concurrent test may hold. The child is
/// single-threaded, so [`crate::process::clone3`] works in it. What it leaves behind in its
/// process group is killed.
#[track_caller]
pub fn in_child(f: impl FnOnce()) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe can be made");
    // SAFETY: fork duplicates this thread only; the child runs `f`, reports and ends without
    // returning into the test harness.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        drop(reader);
        run_child(f, writer);
    }
    drop(writer);
    let pid = Pid::from_raw(pid).expect("fork returned a process id");
    let (_, status) = waitpid(Some(pid), WaitOptions::empty())
        .expect("the child can be waited for")
        .expect("waitpid without NOHANG returns a child");
    // Usually nobody is left.
    let _nobody_left = kill_process_group(pid, Signal::KILL);
    // Somebody who is may hold the other end, so the end of the text is not waited for.
    ioctl_fionbio(&reader, true).expect("the pipe takes flags");
    let mut text = Vec::new();
    drop(reader.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    assert!(
        status.exit_status() == Some(0),
        "in the child: {text} ({status:?})"
    );
}

fn run_child(f: impl FnOnce(), mut writer: PipeWriter) -> ! {
    let _same_group = setpgid(None, None);
    let result = catch_unwind(AssertUnwindSafe(f));
    let code = i32::from(result.is_err());
    if let Err(payload) = result {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("panicked without a message");
        drop(writer.write_all(text.as_bytes()));
    }
    exit_now(code)
}
