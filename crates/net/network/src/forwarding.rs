//! Whether this host forwards packets, and who made it so.
//!
//! Containers need it. Where it was off, switching it on must not make the host a router for everybody else (SECURITY
//! N21): the engine remembers that it was the one, and its rules then forward for containers only.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::NetworkError;
use crate::inside::{parameter, set_parameter};

/// Forwarding, as far as this engine has to do with it.
#[derive(Debug)]
pub(crate) struct Forwarding {
    directory: PathBuf,
    wanted: bool,
}

impl Forwarding {
    pub(crate) fn new(directory: &Path, wanted: bool) -> Self {
        Self {
            directory: directory.to_owned(),
            wanted,
        }
    }

    /// Sees to it that a family is forwarded. True when this engine switched it on, now or earlier since the last boot.
    pub(crate) fn enable(&self, ipv6: bool) -> Result<bool, NetworkError> {
        if !self.wanted {
            return Ok(false);
        }
        let path = path(ipv6);
        let now = parameter(path);
        if now.as_deref() != Some("0") {
            return Ok(now.is_some() && self.is_ours(ipv6));
        }
        self.remember(ipv6)?;
        if ipv6 {
            keep_router_advertisements()?;
        }
        set_parameter(path, "1")?;
        Ok(true)
    }

    /// Switches off what this engine switched on.
    pub(crate) fn disable(&self, ipv6: bool) -> Result<(), NetworkError> {
        set_parameter(path(ipv6), "0")?;
        match fs_err::remove_file(self.file(ipv6)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NetworkError::system(
                "forget that this engine made the host forward packets",
            )(error)),
            _ => Ok(()),
        }
    }

    fn file(&self, ipv6: bool) -> PathBuf {
        let name = if ipv6 {
            "forwards-ipv6"
        } else {
            "forwards-ipv4"
        };
        self.directory.join(name)
    }

    /// Whether this engine switched it on. A note of another boot says nothing: the kernel's parameters began anew.
    pub(crate) fn is_ours(&self, ipv6: bool) -> bool {
        let boot = parameter("kernel/random/boot_id");
        let noted = fs_err::read_to_string(self.file(ipv6)).ok();
        boot.is_some() && noted == boot
    }

    /// Before it is done: an engine that dies in between guards too much rather than too little.
    fn remember(&self, ipv6: bool) -> Result<(), NetworkError> {
        let failed = || NetworkError::system("note that this engine made the host forward packets");
        fs_err::create_dir_all(&self.directory).map_err(failed())?;
        let boot = parameter("kernel/random/boot_id").unwrap_or_default();
        fs_err::write(self.file(ipv6), boot).map_err(failed())
    }
}

fn path(ipv6: bool) -> &'static str {
    if ipv6 {
        "net/ipv6/conf/all/forwarding"
    } else {
        "net/ipv4/ip_forward"
    }
}

/// A host that forwards IPv6 takes no routes from routers any more, unless it is told to
/// (<https://docs.kernel.org/networking/ip-sysctl.html>, `accept_ra`). Interfaces that did go on.
fn keep_router_advertisements() -> Result<(), NetworkError> {
    let listed = fs_err::read_dir("/proc/sys/net/ipv6/conf")
        .map_err(NetworkError::system("list the interfaces with IPv6"))?;
    for entry in listed {
        let entry = entry.map_err(NetworkError::system("list the interfaces with IPv6"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("net/ipv6/conf/{name}/accept_ra");
        if !matches!(name.as_str(), "all" | "default" | "lo")
            && parameter(&path).as_deref() == Some("1")
        {
            set_parameter(&path, "2")?;
        }
    }
    Ok(())
}
