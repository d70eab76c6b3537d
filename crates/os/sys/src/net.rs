//! Sockets: the loopback interface of a new namespace, unix sockets by directory descriptor,
//! descriptors passed over a socket.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Mode, chmodat, fchmod};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, UCred, bind, connect,
    listen, recvmsg, sendmsg, socket_with, sockopt,
};

use crate::check;

/// Connections that wait to be accepted; the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

#[repr(C)]
struct InterfaceFlags {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    // struct ifreq ends with a union of 24 bytes, of which the flags are the first two.
    rest: [u8; 22],
}

/// Sets the interface `lo` of this network namespace up.
pub fn loopback_up() -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = InterfaceFlags {
        name: [0; libc::IFNAMSIZ],
        flags: 0,
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    // IFF_UP | IFF_RUNNING = 0x41.
    request.flags = 0x41;
    // SAFETY: the request has the layout of struct ifreq (asserted below) and outlives the call.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(ret.into()).map(drop)
}

const _: () = assert!(size_of::<InterfaceFlags>() == size_of::<libc::ifreq>());

/// True when the peer of a connected stream socket has taken everything that was written to it.
///
/// For a unix socket that means read by the program, for TCP acknowledged by its kernel
/// (man 7 unix, man 7 tcp: `SIOCOUTQ`).
pub fn all_taken(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut left: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, the same number as TIOCOUTQ, writes one int, and `left` outlives the call.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
    check(ret.into())?;
    Ok(left == 0)
}

/// The network namespace that a socket was opened in (man 7 netdevice does not know it; linux/sockios.h, `SIOCGSKNS`). Needs
/// CAP_NET_ADMIN there.
pub fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    // SAFETY: the call takes no pointers.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    let number = i32::try_from(check(ret.into())?).map_err(io::Error::other)?;
    // SAFETY: the kernel made a new descriptor, close-on-exec (net/socket.c, open_related_ns), that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Options of netlink sockets that take a truth value (man 7 netlink).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetlinkOption {
    /// Error answers do not carry the whole request.
    CapAck,
    /// Error answers carry a text of the kernel's.
    ExtAck,
    /// The kernel refuses requests with unknown parts instead of ignoring those.
    StrictCheck,
}

/// Switches an option of a netlink socket on.
pub fn set_netlink_option(socket: BorrowedFd<'_>, option: NetlinkOption) -> io::Result<()> {
    let number = match option {
        NetlinkOption::CapAck => libc::NETLINK_CAP_ACK,
        NetlinkOption::ExtAck => libc::NETLINK_EXT_ACK,
        NetlinkOption::StrictCheck => libc::NETLINK_GET_STRICT_CHK,
    };
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the option takes one int of the given size, and `on` outlives the call.
    let ret = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            number,
            (&raw const on).cast(),
            size,
        )
    };
    check(ret.into()).map(drop)
}

/// Makes a socket drop all that arrives for it before a program could see it, or ends that (man 7 socket:
/// `SO_ATTACH_FILTER`). A listening TCP socket answers no connection then, and a port stays taken all the same.
pub fn set_deaf(socket: BorrowedFd<'_>, deaf: bool) -> io::Result<()> {
    // "Return 0 bytes of the packet": BPF_RET | BPF_K.
    let mut nothing = libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut nothing,
    };
    let option = if deaf {
        libc::SO_ATTACH_FILTER
    } else {
        libc::SO_DETACH_FILTER
    };
    let size = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: attaching reads a sock_fprog of the given size whose filter points to one instruction; both outlive the
    // call. Detaching reads nothing of it.
    let ret = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const program).cast(),
            size,
        )
    };
    check(ret.into()).map(drop)
}

/// The address of `name` in the directory `dir`, through `/proc`, so that neither the length of
/// the directory's path nor a symbolic link in it matters.
fn address_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<SocketAddrUnix> {
    let name = name.as_bytes();
    if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    Ok(SocketAddrUnix::new(path)?)
}

/// Makes a listening unix socket `name` in the directory `dir`. The file has exactly the
/// permissions `mode`, and never more. An existing file of that name is an error (EADDRINUSE).
pub fn unix_listen_at(dir: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> io::Result<OwnedFd> {
    let address = address_at(dir, name)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The mode of the unbound socket bounds that of the file that bind makes (net/unix/af_unix.c),
    // so there is no moment in which it is wider.
    fchmod(&socket, mode)?;
    bind(&socket, &address)?;
    // What the umask took away is given back.
    chmodat(dir, name, mode, AtFlags::empty())?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to the unix socket `name` in the directory `dir`.
pub fn unix_connect_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let address = address_at(dir, name)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// The process, user and group at the other end of a unix socket, as of its connect or listen.
pub fn peer_cred(socket: BorrowedFd<'_>) -> io::Result<UCred> {
    Ok(sockopt::socket_peercred(socket)?)
}

/// Sends bytes (at least one) and descriptors over a unix socket.
pub fn send_fds(socket: BorrowedFd<'_>, data: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(data)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Sends one descriptor in a datagram without bytes.
pub fn send_fd_only(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives bytes and up to `max` descriptors from a unix socket; they are close-on-exec.
pub fn recv_fds(
    socket: BorrowedFd<'_>,
    data: &mut [u8],
    max: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(max))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(data)];
    let got = recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((got.bytes, fds))
}
