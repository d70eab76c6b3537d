//! Many datagrams with one system call: receive a batch, write an answer to each, send the batch back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use crate::check;

/// Datagrams of one batch.
const MOST: usize = 32;
/// Longer ones are received cut off, and marked so.
const LONGEST: usize = 4096;
/// The size of struct sockaddr_in6, the larger of the two.
const ADDRESS: usize = 28;

/// The address of a sender, as the kernel writes it (man 7 ip, man 7 ipv6).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Address {
    bytes: [u8; ADDRESS],
    length: libc::socklen_t,
}

/// Buffers for one batch, used again and again.
#[derive(Debug)]
pub struct Datagrams {
    input: Vec<[u8; LONGEST]>,
    lengths: Vec<usize>,
    senders: Vec<Address>,
    answers: Vec<Vec<u8>>,
}

impl Default for Datagrams {
    fn default() -> Self {
        let empty = Address {
            bytes: [0; ADDRESS],
            length: 0,
        };
        Self {
            input: vec![[0; LONGEST]; MOST],
            lengths: Vec::with_capacity(MOST),
            senders: vec![empty; MOST],
            answers: vec![Vec::new(); MOST],
        }
    }
}

impl Datagrams {
    /// Receives what waits in the socket, as much as fits, without waiting (`WouldBlock`).
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.lengths.clear();
        let mut parts: Vec<libc::iovec> = self
            .input
            .iter_mut()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: LONGEST,
            })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .zip(&mut self.senders)
            .map(|(part, sender)| {
                header(
                    part,
                    sender.bytes.as_mut_ptr().cast(),
                    libc::socklen_t::try_from(ADDRESS).unwrap_or(0),
                )
            })
            .collect();
        let count = libc::c_uint::try_from(headers.len()).map_err(io::Error::other)?;
        // SAFETY: each header points at one buffer and one address of `self`, which are as long as it says, belong to it
        // alone, and outlive the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(check(received.into())?).map_err(io::Error::other)?;
        for (header, sender) in headers.iter().zip(&mut self.senders).take(received) {
            sender.length = header.msg_hdr.msg_namelen;
            let length = usize::try_from(header.msg_len).map_err(io::Error::other)?;
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            // A datagram that is not whole is none.
            self.lengths.push(if cut { 0 } else { length.min(LONGEST) });
        }
        Ok(received)
    }

    /// Shows each datagram of the batch with its sender and an empty buffer; what is written there is its answer.
    pub fn answer_each(&mut self, mut write: impl FnMut(&[u8], Sender<'_>, &mut Vec<u8>)) {
        let inputs = self.input.iter().zip(&self.lengths);
        let places = self.senders.iter().zip(&mut self.answers);
        for ((input, length), (sender, answer)) in inputs.zip(places) {
            answer.clear();
            write(
                input.get(..*length).unwrap_or_default(),
                Sender(sender),
                answer,
            );
        }
    }

    /// Sends the answers of the batch, each to its sender. What the socket has no room for is lost, as on any network.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let count = self.lengths.len();
        let mut parts: Vec<libc::iovec> = Vec::with_capacity(count);
        let mut names: Vec<&mut Address> = Vec::with_capacity(count);
        let pairs = self.answers.iter_mut().zip(&mut self.senders).take(count);
        for (answer, sender) in pairs.filter(|(answer, _)| !answer.is_empty()) {
            parts.push(libc::iovec {
                iov_base: answer.as_mut_ptr().cast(),
                iov_len: answer.len(),
            });
            names.push(sender);
        }
        let mut headers: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .zip(names)
            .map(|(part, sender)| header(part, sender.bytes.as_mut_ptr().cast(), sender.length))
            .collect();
        let mut rest = headers.as_mut_slice();
        while !rest.is_empty() {
            let count = libc::c_uint::try_from(rest.len()).map_err(io::Error::other)?;
            // SAFETY: each header points at an answer and an address of `self`, which are as long as it says and outlive
            // the call; the kernel only reads them.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    count,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            let passed = match check(sent.into()) {
                Ok(sent) => usize::try_from(sent).map_err(io::Error::other)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The first of the rest cannot be sent to its receiver; the others may.
                Err(_) => 1,
            };
            rest = rest.get_mut(passed.max(1)..).unwrap_or_default();
        }
        Ok(())
    }
}

fn header(
    part: &mut libc::iovec,
    name: *mut libc::c_void,
    length: libc::socklen_t,
) -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid struct mmsghdr, one without buffers.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = length;
    header.msg_hdr.msg_iov = part;
    header.msg_hdr.msg_iovlen = 1;
    header
}

/// Who sent a datagram; read only when it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a>(&'a Address);

impl Sender<'_> {
    /// The address, if it is one of the Internet.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let bytes = self.0.bytes.get(..usize::try_from(self.0.length).ok()?)?;
        let (family, rest) = bytes.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let port = u16::from_be_bytes(*port);
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => {
                let address: &[u8; 4] = rest.first_chunk()?;
                Some((Ipv4Addr::from(*address), port).into())
            }
            libc::AF_INET6 => {
                let (flow, rest) = rest.split_first_chunk()?;
                let (address, rest) = rest.split_first_chunk::<16>()?;
                let scope: &[u8; 4] = rest.first_chunk()?;
                let address = Ipv6Addr::from(*address);
                let flow = u32::from_be_bytes(*flow);
                let scope = u32::from_ne_bytes(*scope);
                Some(SocketAddrV6::new(address, port, flow, scope).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    fn round(own: &str) {
        let server = UdpSocket::bind(own).expect("a socket");
        let mut batch = Datagrams::default();
        let nothing = batch.receive(server.as_fd()).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let client = UdpSocket::bind(own).expect("a socket");
                client
                    .connect(server.local_addr().expect("an address"))
                    .expect("connected");
                client
            })
            .collect();
        for (number, client) in (0_u8..).zip(&clients) {
            client.send(&[number; 9]).expect("sent");
        }
        clients[0].send(&[7; LONGEST + 1]).expect("sent");
        clients[1].send(&[]).expect("sent");
        assert_eq!(batch.receive(server.as_fd()).expect("received"), 5);
        let mut seen = Vec::new();
        batch.answer_each(|packet, sender, answer| {
            seen.push((packet.len(), sender.address()));
            // The second gets none.
            if packet.first() != Some(&1) && !packet.is_empty() {
                answer.extend_from_slice(packet);
                answer.push(9);
            }
        });
        let address = |at: usize| Some(clients[at].local_addr().expect("an address"));
        let expected = [
            (9, address(0)),
            (9, address(1)),
            (9, address(2)),
            (0, address(0)),
            (0, address(1)),
        ];
        assert_eq!(seen, expected);
        batch.send(server.as_fd()).expect("sent");
        let mut buffer = [0; 16];
        for number in [0_u8, 2] {
            let client = &clients[usize::from(number)];
            client.set_nonblocking(true).expect("not blocking");
            assert_eq!(client.recv(&mut buffer).expect("an answer"), 10);
            assert_eq!(buffer[..10], [[number; 9].as_slice(), &[9]].concat());
        }
        clients[1].set_nonblocking(true).expect("not blocking");
        let none = clients[1].recv(&mut buffer).map_err(|error| error.kind());
        assert_eq!(none, Err(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn each_sender_gets_its_own_answer() {
        round("127.0.0.1:0");
        round("[::1]:0");
    }

    #[test]
    fn more_than_a_batch_takes_several() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        client
            .connect(server.local_addr().expect("an address"))
            .expect("connected");
        for _ in 0..MOST + 5 {
            client.send(b"x").expect("sent");
        }
        let mut batch = Datagrams::default();
        assert_eq!(batch.receive(server.as_fd()).expect("received"), MOST);
        assert_eq!(batch.receive(server.as_fd()).expect("received"), 5);
        let mut count = 0;
        batch.answer_each(|_packet, _sender, _answer| count += 1);
        assert_eq!(count, 5);
    }
}
