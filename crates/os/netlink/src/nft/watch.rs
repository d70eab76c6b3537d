//! What others change in nftables, as it happens.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

use super::{
    DELETE_CHAIN, DELETE_ELEMENT, DELETE_RULE, DELETE_SET, DELETE_TABLE, Family, NEW_CHAIN,
    NEW_RULE, NEW_TABLE, SUBSYSTEM,
};
use crate::error::NetlinkError;
use crate::message::{Answers, Attributes};
use crate::socket::Socket;

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;
/// `struct nfgenmsg`
const FIXED: usize = 4;

/// A change that some process made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The number of the socket that asked for it ([`super::Nft::port`]).
    pub port: u32,
    /// The number of the family of the table.
    pub family: u8,
    /// The table.
    pub table: String,
    /// What happened.
    pub change: Change,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A table, chain, rule, set or element was removed.
    Removed,
    /// A table, chain or rule was added or changed.
    Added,
    /// An element or a set was added, or something else happened.
    Other,
}

/// A socket that hears of changes in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Begins to hear.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: Socket::listen(NETFILTER, GROUP)?,
        })
    }

    /// What has happened since the last call; it waits for nothing. None when more happened than the kernel kept.
    pub fn events(&mut self) -> Result<Option<Vec<Event>>, NetlinkError> {
        let action = "hear of changes in nftables";
        let mut events = Vec::new();
        loop {
            let count = match self.socket.receive(action) {
                Ok(count) => count,
                Err(error) if error.errno() == Some(Errno::AGAIN) => return Ok(Some(events)),
                Err(error) if error.errno() == Some(Errno::NOBUFS) => return Ok(None),
                Err(error) => return Err(error),
            };
            for answer in Answers(self.socket.received(count)) {
                if answer.kind >> 8 != SUBSYSTEM {
                    continue;
                }
                let attributes = Attributes::after(answer.body, FIXED);
                let change = match answer.kind & 0xff {
                    DELETE_TABLE | DELETE_CHAIN | DELETE_RULE | DELETE_SET | DELETE_ELEMENT => {
                        Change::Removed
                    }
                    NEW_TABLE | NEW_CHAIN | NEW_RULE => Change::Added,
                    _ => Change::Other,
                };
                events.push(Event {
                    port: answer.port,
                    family: answer.body.first().copied().unwrap_or_default(),
                    // All messages about parts of tables name it first.
                    table: attributes.text(1).unwrap_or_default(),
                    change,
                });
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Family {
    /// Whether an event is about a table of this family.
    #[must_use]
    pub fn is_of(self, event: &Event) -> bool {
        self.number() == event.family
    }
}
