//! The host's name servers as they are now: resolv.conf is read again whenever it changes, whether it is written, replaced,
//! or a link to something that is.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::io::unix::AsyncFd;

use super::Shared;
use crate::readiness;
use crate::resolvconf::{NameServer, ResolvConf};

const PORT: u16 = 53;

/// Keeps the host's servers up to date for as long as the companion runs.
pub(super) async fn follow(shared: Rc<Shared>, path: PathBuf) {
    loop {
        let watch = watch(&path);
        *shared.upstreams.borrow_mut() = read(&path);
        match watch {
            Ok(watch) => changed(&watch).await,
            // Without a watch the first reading holds.
            Err(_) => return,
        }
    }
}

/// Watches the directories of the file and of what it is a link to: editors and network managers replace files.
fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let events =
        WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE;
    let target = fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut watched = Err(io::ErrorKind::NotFound.into());
    for file in [path, &target] {
        if let Some(directory) = file.parent()
            && let Ok(number) = add_watch(&inotify, directory, events)
        {
            watched = Ok(number);
        }
    }
    watched.and_then(|_number: i32| readiness(inotify))
}

/// Returns when something happened in the directories; what it was, reading will tell. The watch is made anew each time, so
/// a link that now leads elsewhere is followed.
async fn changed(watch: &AsyncFd<OwnedFd>) {
    // An error would have no other remedy than reading again either.
    drop(watch.readable().await);
}

fn read(path: &Path) -> Vec<SocketAddr> {
    let text = fs_err::read_to_string(path).unwrap_or_default();
    let conf = ResolvConf::parse(&text, &path.to_string_lossy());
    conf.name_servers().iter().filter_map(address).collect()
}

fn address(server: &NameServer) -> Option<SocketAddr> {
    match (server.address, &server.interface) {
        (std::net::IpAddr::V6(address), Some(interface)) => {
            let scope = interface_number(interface)?;
            Some(SocketAddrV6::new(address, PORT, 0, scope).into())
        }
        (address, _) => Some(SocketAddr::new(address, PORT)),
    }
}

/// The number of an interface, which may be written as a number already.
fn interface_number(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    let text = fs_err::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
    text.trim().parse().ok()
}
