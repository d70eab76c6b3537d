//! Network namespaces for tests: a thread each, gone with it.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;

use rustix::thread::UnshareFlags;

/// Runs a test in a new network namespace whose `lo` is up.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            havre_sys::namespace::unshare(UnshareFlags::NEWNET).expect("a network namespace");
            havre_sys::net::loopback_up().expect("lo");
            test()
        });
        worker.join().expect("the test")
    })
}

/// A new network namespace, empty, for as long as the descriptor is open.
pub(crate) fn empty_namespace() -> OwnedFd {
    in_namespace(|| {
        fs_err::File::open("/proc/thread-self/ns/net")
            .expect("a namespace")
            .into_parts()
            .0
            .into()
    })
}

/// What a program of this machine prints, in the namespace of the calling thread.
#[expect(
    clippy::disallowed_methods,
    reason = "the tools are the oracle of these tests"
)]
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    havre_testkit::ensure_packages().expect("packages");
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}
