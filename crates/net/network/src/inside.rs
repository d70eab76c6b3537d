//! Work inside a network namespace: on a thread of its own, which goes there and ends there.

use std::io;
use std::os::fd::BorrowedFd;
use std::thread;

use rustix::thread::LinkNameSpaceType;

use crate::error::NetworkError;

/// Does something in a namespace. What is opened there stays there: sockets, files below `/proc/sys/net`.
pub(crate) fn within<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    apart("havre-netns", || {
        havre_sys::namespace::enter(namespace, Some(LinkNameSpaceType::Network))
            .map_err(NetworkError::system("enter a network namespace"))?;
        work()
    })
}

/// Does something on a thread of its own, which may change its namespaces.
pub(crate) fn apart<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)
            .map_err(NetworkError::system("start a thread for a namespace"))?;
        let died = || NetworkError::System {
            action: "finish a thread for a namespace".to_owned(),
            source: io::Error::other("it panicked"),
        };
        worker.join().unwrap_or_else(|_panic| Err(died()))
    })
}

/// Writes a kernel parameter of the calling thread's namespace; `path` is below `/proc/sys`.
pub(crate) fn set_parameter(path: &str, value: &str) -> Result<(), NetworkError> {
    fs_err::write(format!("/proc/sys/{path}"), value).map_err(NetworkError::system(format!(
        "set the kernel parameter {path} to {value}"
    )))
}

/// Writes a kernel parameter unless this kernel lacks it, as those of IPv6 where it is switched off.
pub(crate) fn set_if_there(path: &str, value: &str) -> Result<(), NetworkError> {
    match set_parameter(path, value) {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

/// Reads a kernel parameter of the calling thread's namespace; None when this kernel lacks it.
pub(crate) fn parameter(path: &str) -> Option<String> {
    let text = fs_err::read_to_string(format!("/proc/sys/{path}")).ok()?;
    Some(text.trim().to_owned())
}
