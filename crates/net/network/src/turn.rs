//! Engines of one host choose subnets and make their bridges one after the other, so that each sees what the others took.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

/// Abstract names are those of a network namespace (unix(7)), which is just who shares subnets.
const NAME: &[u8] = b"havre-subnets";
/// Nobody keeps it longer than it takes to make some bridges. Any program of the host may take the name and never give it
/// back: then engines wait for so long and go on without.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// Kept while an engine chooses and makes. The kernel ends it with the engine.
#[derive(Debug)]
pub struct Turn {
    _socket: OwnedFd,
}

impl Turn {
    /// Waits for the engines before this one; None when one of them does not come to an end.
    pub fn take() -> io::Result<Option<Self>> {
        let kind = SocketType::DGRAM;
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        let name = SocketAddrUnix::new_abstract_name(NAME)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match bind(&socket, &name) {
                Ok(()) => return Ok(Some(Self { _socket: socket })),
                Err(Errno::ADDRINUSE) if Instant::now() < deadline => thread::park_timeout(PAUSE),
                Err(Errno::ADDRINUSE) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
