//! Forked children for tests, which change namespaces, identities or filters and must not do so
//! to the test process. For tests only: a test binary has many threads.

use std::io::{Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::process::exit_now;

/// Runs `f` in a forked child and panics with its message if it panics there.
///
/// The fork is the C library's, which leaves its allocator usable in the child of a threaded
/// process; `f` should not touch other locks that a concurrent test may hold. The child is
/// single-threaded, so [`crate::process::clone3`] works in it.
#[track_caller]
pub fn in_child(f: impl FnOnce()) {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe can be made");
    // SAFETY: fork duplicates this thread only; the child runs `f`, reports and ends without
    // returning into the test harness.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        drop(reader);
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
    drop(writer);
    let mut text = String::new();
    reader
        .read_to_string(&mut text)
        .expect("the pipe can be read");
    let pid = Pid::from_raw(pid);
    let (_, status) = waitpid(pid, WaitOptions::empty())
        .expect("the child can be waited for")
        .expect("waitpid without NOHANG returns a child");
    assert!(
        status.exit_status() == Some(0),
        "in the child: {text} ({status:?})"
    );
}
