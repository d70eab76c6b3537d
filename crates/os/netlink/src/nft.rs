//! nftables: tables, chains, rules, sets and maps, changed in atomic batches.
//!
//! A [`Batch`] is sent as one transaction: the kernel takes all of it or nothing. Numbers are those of
//! `linux/netfilter/nf_tables.h`; the meaning of everything is that of man 8 nft.

mod expression;
mod foreign;
mod rule;
mod set;
mod watch;

use rustix::net::netlink::NETFILTER;

use crate::error::NetlinkError;
use crate::message::{APPEND, Attributes, CREATE, Message};
use crate::socket::Socket;

pub use foreign::{ForeignBase, ForeignChain, ForeignRule, ForeignSet, Opaque, Tables};
pub use rule::{Field, Rule, State};
pub use set::{Element, Part, Set, Type, Value};
pub use watch::{Change, Event, Watch};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
/// `struct nfgenmsg`
const FIXED: usize = 4;
/// Elements in one message: an attribute, and so the list of elements, has at most 64 KiB.
const CHUNK: usize = 256;

const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// The kinds of packets that a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// Frames that a bridge forwards.
    Bridge,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }
}

/// Where in the kernel a base chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// All that arrives, before routing.
    Prerouting,
    /// What is for this host.
    Input,
    /// What goes through this host.
    Forward,
    /// What this host sends.
    Output,
    /// All that leaves.
    Postrouting,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept and drop.
    Filter,
    /// Change addresses of new connections.
    Nat,
}

/// What becomes of a packet that reaches the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It goes no further.
    Drop,
}

/// What a rule or a verdict map decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, past the rest of this base chain.
    Accept,
    /// It goes no further.
    Drop,
    /// On in another chain; its end comes back here.
    Jump(String),
    /// On in another chain, for good.
    Goto(String),
    /// Back to the calling chain.
    Return,
}

impl Verdict {
    fn write(&self, message: &mut Message) {
        let (code, chain) = match self {
            Self::Drop => (0_i32, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        };
        message.nest(DATA_VERDICT, |verdict| {
            verdict.put_be32(VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.put_text(VERDICT_CHAIN, chain);
            }
        });
    }
}

/// Where a chain stands in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What it may do.
    pub kind: ChainKind,
    /// Where it is called.
    pub hook: Hook,
    /// Lower is called earlier; 0 is where plain filters are.
    pub priority: i32,
    /// What its end means.
    pub policy: Policy,
}

/// A transaction on one table, or with [`Batch::append`] on several.
#[derive(Debug, Clone)]
pub struct Batch {
    family: Family,
    table: String,
    messages: Vec<Message>,
    sets: u32,
}

impl Batch {
    /// An empty transaction.
    #[must_use]
    pub fn new(family: Family, table: &str) -> Self {
        Self {
            family,
            table: table.to_owned(),
            messages: Vec::new(),
            sets: 0,
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes in what is to be done in another table at the same moment.
    pub fn append(&mut self, other: Self) {
        self.messages.extend(other.messages);
    }

    fn add(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Message)) {
        let mut message = Message::new(
            SUBSYSTEM << 8 | kind,
            flags,
            &[self.family.number(), 0, 0, 0],
        );
        message.put_text(1, &self.table);
        fill(&mut message);
        self.messages.push(message);
    }

    /// Makes the table unless it is there.
    pub fn add_table(&mut self) {
        self.add(NEW_TABLE, CREATE, |message| message.put_be32(2, 0));
    }

    /// Removes the table with all that is in it, whether or not it is there: it is made first.
    pub fn remove_table(&mut self) {
        self.add_table();
        self.add(DELETE_TABLE, 0, |_| {});
    }

    /// Makes a chain unless it is there; with a base the kernel calls it, without one only other chains do.
    pub fn add_chain(&mut self, name: &str, base: Option<Base>) {
        self.add(NEW_CHAIN, CREATE, |message| {
            message.put_text(3, name);
            let Some(base) = base else { return };
            let hook = match base.hook {
                Hook::Prerouting => 0,
                Hook::Input => 1,
                Hook::Forward => 2,
                Hook::Output => 3,
                Hook::Postrouting => 4,
            };
            message.nest(4, |at| {
                at.put_be32(1, hook);
                at.put_be32(2, base.priority.cast_unsigned());
            });
            message.put_be32(5, u32::from(base.policy == Policy::Accept));
            message.put_text(
                7,
                match base.kind {
                    ChainKind::Filter => "filter",
                    ChainKind::Nat => "nat",
                },
            );
        });
    }

    /// Removes the rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        self.add(DELETE_RULE, 0, |message| message.put_text(2, name));
    }

    /// Removes a chain, which no rule may call any more.
    pub fn remove_chain(&mut self, name: &str) {
        self.add(DELETE_CHAIN, 0, |message| message.put_text(3, name));
    }

    /// Adds a rule to the end of a chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        self.add(NEW_RULE, CREATE | APPEND, |message| {
            message.put_text(2, chain);
            message.nest(4, |list| rule.write(list));
            if let Some(comment) = rule.comment_bytes() {
                message.put(7, &comment);
            }
        });
    }

    /// Makes a set or map unless it is there.
    pub fn add_set(&mut self, set: &Set<'_>) {
        self.sets += 1;
        let id = self.sets;
        self.add(NEW_SET, CREATE, |message| set.write(message, id));
    }

    /// Removes a set or map, which no rule may use any more.
    pub fn remove_set(&mut self, name: &str) {
        self.add(DELETE_SET, 0, |message| message.put_text(2, name));
    }

    /// Adds elements; one that is there with the same value stays.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(NEW_ELEMENT, CREATE, set, elements);
    }

    /// Removes elements, all of which must be there.
    pub fn remove_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(DELETE_ELEMENT, 0, set, elements);
    }

    /// Removes all elements of a set.
    pub fn flush_set(&mut self, set: &str) {
        self.add(DELETE_ELEMENT, 0, |message| message.put_text(2, set));
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        for chunk in elements.chunks(CHUNK) {
            self.add(kind, flags, |message| {
                message.put_text(2, set);
                message.nest(3, |list| {
                    for element in chunk {
                        element.write(list);
                    }
                });
            });
        }
    }
}

/// A chain as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainEntry {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// A socket for nftables of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: Socket::open(Some(NETFILTER))?,
        })
    }

    /// The number by which events name this socket.
    pub fn port(&self) -> Result<u32, NetlinkError> {
        self.socket.port()
    }

    /// Does all of it, or nothing.
    pub fn commit(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let action = format!("change nftables table {}", batch.table);
        // In the two frames the last field names the subsystem, in network order.
        let [high, low] = SUBSYSTEM.to_be_bytes();
        let frame = |kind| Message::new(kind, 0, &[0, 0, high, low]);
        let mut messages = vec![frame(BATCH_BEGIN)];
        messages.extend(batch.messages);
        if let Some(last) = messages.last_mut() {
            last.add_flags(crate::message::ACK);
        }
        let answered = messages.len();
        messages.push(frame(BATCH_END));
        self.socket.transact(&action, messages, answered)
    }

    /// The names of the tables of a family.
    pub fn tables(&mut self, family: Family) -> Result<Vec<String>, NetlinkError> {
        let message = Message::new(SUBSYSTEM << 8 | GET_TABLE, 0, &[family.number(), 0, 0, 0]);
        let read = |body: &[u8]| Attributes::after(body, FIXED).text(1);
        self.socket.dump("list nftables tables", &message, read)
    }

    /// The chains of a family.
    pub fn chains(&mut self, family: Family) -> Result<Vec<ChainEntry>, NetlinkError> {
        let message = Message::new(SUBSYSTEM << 8 | GET_CHAIN, 0, &[family.number(), 0, 0, 0]);
        let read = |body: &[u8]| {
            let attributes = Attributes::after(body, FIXED);
            Some(ChainEntry {
                table: attributes.text(1)?,
                name: attributes.text(3)?,
            })
        };
        self.socket.dump("list nftables chains", &message, read)
    }

    /// The keys of a set or map, as bytes.
    pub fn keys(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> Result<Vec<Vec<u8>>, NetlinkError> {
        let mut message =
            Message::new(SUBSYSTEM << 8 | GET_ELEMENT, 0, &[family.number(), 0, 0, 0]);
        message.put_text(1, table);
        message.put_text(2, set);
        let read = |body: &[u8]| {
            let list = Attributes::after(body, FIXED).nested(3);
            let keys = list.filter(|(kind, _)| *kind == LIST_ELEM);
            let values = keys.filter_map(|(_, element)| {
                let key = Attributes::after(element, 0).nested(1).get(DATA_VALUE)?;
                Some(key.to_vec())
            });
            Some(values.collect::<Vec<_>>())
        };
        let action = format!("list nftables set {set}");
        Ok(self.socket.dump(&action, &message, read)?.concat())
    }
}
