//! A netlink socket: one request, its answers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use havre_sys::net::{NetlinkOption, set_netlink_option};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect,
    getsockname, recv, send, socket_with, sockopt,
};

use crate::error::NetlinkError;
use crate::message::{
    ACK, Answer, Answers, Attributes, DUMP, DUMP_INTERRUPTED, HEADER, Message, u32_at,
};

/// `NLMSG_ERROR`: also the acknowledgement, with number 0.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// The kernel's own words (`NLMSGERR_ATTR_MSG`).
const ERROR_TEXT: u16 = 1;
/// The request is not repeated in an error answer; only its header is.
const CAPPED: u16 = 0x100;
/// The largest datagram that the kernel makes for a dump (`NLMSG_GOODSIZE`, `netlink_dump`).
const BUFFER: usize = 64 * 1024;
/// A dump that is disturbed as often as this is given up.
const DUMP_TRIES: usize = 20;

/// A socket of one protocol, in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Self, NetlinkError> {
        let failed = |errno: Errno| NetlinkError::new("open a netlink socket", errno);
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(failed)?;
        bind(&fd, &SocketAddrNetlink::new(0, 0)).map_err(failed)?;
        // Connected to the kernel: no other process can send to it.
        connect(&fd, &SocketAddrNetlink::new(0, 0)).map_err(failed)?;
        for option in [
            NetlinkOption::CapAck,
            NetlinkOption::ExtAck,
            NetlinkOption::StrictCheck,
        ] {
            set_netlink_option(fd.as_fd(), option)
                .map_err(|err| failed(Errno::from_io_error(&err).unwrap_or(Errno::INVAL)))?;
        }
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// A socket that hears what the kernel tells everybody, and asks for nothing.
    pub(crate) fn listen(protocol: Protocol, group: u32) -> Result<Self, NetlinkError> {
        let failed = |errno: Errno| NetlinkError::new("open a netlink socket", errno);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(protocol),
        )
        .map_err(failed)?;
        // What a large rule set tells when it goes: more than the kernel's usual room.
        sockopt::set_socket_recv_buffer_size_force(&fd, 4 << 20).map_err(failed)?;
        bind(&fd, &SocketAddrNetlink::new(0, 1 << (group - 1))).map_err(failed)?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// The number by which the kernel knows this socket.
    pub(crate) fn port(&self) -> Result<u32, NetlinkError> {
        let failed = |errno: Errno| NetlinkError::new("ask for a netlink socket's number", errno);
        let address = getsockname(&self.fd).map_err(failed)?;
        let address = SocketAddrNetlink::try_from(address).map_err(failed)?;
        Ok(address.pid())
    }

    /// What the last datagram was.
    pub(crate) fn received(&self, count: usize) -> &[u8] {
        self.buffer.get(..count).unwrap_or_default()
    }

    /// A change that the kernel acknowledges.
    pub(crate) fn change(
        &mut self,
        action: &str,
        mut message: Message,
    ) -> Result<(), NetlinkError> {
        message.add_flags(ACK);
        self.transact(action, vec![message], 1)
    }

    /// Several messages in one datagram, of which the one at place `answered`, counted from 1, asks for an
    /// acknowledgement and no later one is answered. The first error of any of them is the answer.
    pub(crate) fn transact(
        &mut self,
        action: &str,
        messages: Vec<Message>,
        answered: usize,
    ) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let places = u32::try_from(answered).map_err(|_many| NetlinkError::malformed(action))?;
        let last = self.sequence.wrapping_add(places);
        let total = messages.iter().map(Message::len).sum();
        let mut bytes = Vec::with_capacity(total);
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(&message.finish(self.sequence));
        }
        self.send(action, &bytes)?;
        self.outcome(action, first, last)
    }

    /// Sends; a datagram that the buffer of the socket cannot hold makes the buffer grow.
    fn send(&self, action: &str, bytes: &[u8]) -> Result<(), NetlinkError> {
        let mut sent = send(&self.fd, bytes, SendFlags::empty());
        if sent == Err(Errno::MSGSIZE) {
            sockopt::set_socket_send_buffer_size_force(&self.fd, bytes.len() * 2)
                .map_err(|errno| NetlinkError::new(action, errno))?;
            sent = send(&self.fd, bytes, SendFlags::empty());
        }
        match sent {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(NetlinkError::malformed(action)),
            Err(errno) => Err(NetlinkError::new(action, errno)),
        }
    }

    /// Reads answers up to that of the last message sent. An error of the first message of a transaction is that of all.
    fn outcome(&mut self, action: &str, first: u32, last: u32) -> Result<(), NetlinkError> {
        let mut failure = None;
        loop {
            let count = self.receive(action)?;
            for answer in Answers(&self.buffer[..count]) {
                let ours = answer.sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                if answer.kind != ERROR || !ours {
                    continue;
                }
                let result = verdict(action, &answer);
                let fatal = result.is_err() && answer.sequence == first;
                if let Err(error) = result {
                    failure.get_or_insert(error);
                }
                if answer.sequence == last || fatal {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Asks for a list; `each` sees the type-dependent body of every entry.
    pub(crate) fn dump<T>(
        &mut self,
        action: &str,
        message: &Message,
        mut each: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            if let Some(found) = self.dump_once(action, message.clone(), &mut each)? {
                return Ok(found);
            }
        }
        Err(NetlinkError::new(action, Errno::INTR))
    }

    /// None when the list changed while it was read.
    fn dump_once<T>(
        &mut self,
        action: &str,
        mut message: Message,
        each: &mut impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<Vec<T>>, NetlinkError> {
        message.add_flags(DUMP);
        self.sequence = self.sequence.wrapping_add(1);
        self.send(action, &message.finish(self.sequence))?;
        let mut found = Vec::new();
        let mut whole = true;
        loop {
            let count = self.receive(action)?;
            for answer in Answers(&self.buffer[..count]) {
                if answer.sequence != self.sequence {
                    continue;
                }
                whole &= answer.flags & DUMP_INTERRUPTED == 0;
                match answer.kind {
                    ERROR | DONE => {
                        verdict(action, &answer)?;
                        return Ok(whole.then_some(found));
                    }
                    _ => found.extend(each(answer.body)),
                }
            }
        }
    }

    /// Asks for one thing; `read` sees its body.
    pub(crate) fn get<T>(
        &mut self,
        action: &str,
        message: Message,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(action, &message.finish(self.sequence))?;
        loop {
            let count = self.receive(action)?;
            for answer in Answers(&self.buffer[..count]) {
                if answer.sequence != self.sequence {
                    continue;
                }
                if answer.kind == ERROR {
                    verdict(action, &answer)?;
                }
                return read(answer.body).ok_or_else(|| NetlinkError::malformed(action));
            }
        }
    }

    /// One datagram, never cut, which is waited for unless the socket listens: the buffer grows to what waits.
    pub(crate) fn receive(&mut self, action: &str) -> Result<usize, NetlinkError> {
        let failed = |errno: Errno| NetlinkError::new(action, errno);
        let look = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (_, waiting) = retry(|| recv(&self.fd, &mut self.buffer[..], look)).map_err(failed)?;
        if waiting > self.buffer.len() {
            self.buffer.resize(waiting, 0);
        }
        let (count, _) =
            retry(|| recv(&self.fd, &mut self.buffer[..], RecvFlags::empty())).map_err(failed)?;
        Ok(count)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// What an error, acknowledgement or end says: its number is negated; words follow the header of the request.
fn verdict(action: &str, answer: &Answer<'_>) -> Result<(), NetlinkError> {
    let Some(number) = u32_at(answer.body, 0) else {
        // An end without a number is a good one.
        return Ok(());
    };
    let number = number.cast_signed();
    if number >= 0 {
        return Ok(());
    }
    let errno = Errno::from_raw_os_error(number.saturating_neg());
    let request = if answer.kind == DONE || answer.flags & CAPPED != 0 {
        HEADER
    } else {
        u32_at(answer.body, 4)
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(HEADER)
    };
    let behind = if answer.kind == DONE { 4 } else { 4 + request };
    let said = Attributes::after(answer.body, behind).text(ERROR_TEXT);
    Err(NetlinkError::Refused {
        action: action.to_owned(),
        errno,
        said: said.unwrap_or_default(),
    })
}
