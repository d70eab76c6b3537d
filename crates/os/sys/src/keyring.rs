//! Session keyrings, so that a container cannot read the keys of the one that started it.

use std::ffi::CStr;
use std::io;

use crate::check;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
const KEYCTL_SETPERM: libc::c_long = 5;

/// The serial number of a keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyring(i32);

/// Replaces the session keyring of this process by a new one of this name.
pub fn join_new_session(name: &CStr) -> io::Result<Keyring> {
    // SAFETY: the name is null-terminated and outlives the call.
    let ret =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    let serial = i32::try_from(check(ret)?).map_err(io::Error::other)?;
    Ok(Keyring(serial))
}

impl Keyring {
    /// Sets the permission mask (`man 2 keyctl`: KEY_POS_*, KEY_USR_*, KEY_GRP_*, KEY_OTH_*).
    pub fn set_permissions(self, mask: u32) -> io::Result<()> {
        // SAFETY: the call takes two numbers and no pointers.
        let ret = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, self.0, mask) };
        check(ret).map(drop)
    }
}
