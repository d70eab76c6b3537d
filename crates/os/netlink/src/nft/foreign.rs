//! The rules of others, read as they are: what this crate has no words for stays bytes, and can be written again into
//! another table.

use super::{
    Batch, DATA_VERDICT, Event, Hook, LIST_ELEM, NEW_ELEMENT, NEW_RULE, NEW_SET, Nft, Policy,
    SUBSYSTEM, VERDICT_CHAIN, VERDICT_CODE, Verdict,
};
use crate::error::NetlinkError;
use crate::message::{APPEND, Attributes, CREATE, Message};

const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENT: u16 = 13;
/// `struct nfgenmsg`
const FIXED: usize = 4;
const NESTED: u16 = 0x8000;
/// `NFT_SET_ANONYMOUS`: a set that its only rule brings along.
const ANONYMOUS: u32 = 0x1;

const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_ID: u16 = 10;
/// What of a set is copied: flags, types and lengths of key and value, policy, description, time-outs, user data.
const SET_COPIED: [u16; 11] = [3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17];
/// What of an element is copied: key, value, flags, time-out, last key.
const ELEMENT_COPIED: [u16; 5] = [1, 2, 3, 4, 10];
const ELEMENT_VALUE: u16 = 2;

/// The family of a table that is not this crate's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tables {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4, as of iptables.
    Ipv4,
    /// IPv6, as of ip6tables.
    Ipv6,
}

impl Tables {
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    /// Whether an event is about a table of this family.
    #[must_use]
    pub fn is_of(self, event: &Event) -> bool {
        self.number() == event.family
    }
}

/// A chain of somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where the kernel calls it; None when only other chains do.
    pub base: Option<ForeignBase>,
}

/// Where the kernel calls a chain of somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignBase {
    /// `filter`, `nat`, `route`.
    pub kind: String,
    /// None for one that this crate does not know.
    pub hook: Option<Hook>,
    /// Lower is called earlier.
    pub priority: i32,
    /// What its end means.
    pub policy: Policy,
}

/// A rule of somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRule {
    /// Its chain.
    pub chain: String,
    /// What it is made of.
    pub expressions: Vec<Opaque>,
}

/// A part of a rule, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque {
    /// What kind of part.
    pub name: String,
    data: Vec<u8>,
}

impl Opaque {
    /// The set or map that it looks in.
    #[must_use]
    pub fn set(&self) -> Option<String> {
        matches!(self.name.as_str(), "lookup" | "dynset")
            .then(|| Attributes::after(&self.data, 0).text(1))
            .flatten()
    }

    /// What it decides; a verdict for programs (`queue`) is none of these.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        if self.name != "immediate" {
            return None;
        }
        verdict_in(&Attributes::after(&self.data, 0).nested(2))
    }

    /// Whether it decides, in whatever words.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        let data = Attributes::after(&self.data, 0).nested(2);
        self.name == "immediate" && data.get(DATA_VERDICT).is_some()
    }

    /// Which header of the packet it reads: 1 of the network, 2 of the transport (`NFT_PAYLOAD_…`).
    #[must_use]
    pub fn header(&self) -> Option<u32> {
        if self.name != "payload" {
            return None;
        }
        be32(Attributes::after(&self.data, 0).get(2)?)
    }

    /// The name of the match or target of iptables that it is.
    #[must_use]
    pub fn extension(&self) -> Option<String> {
        matches!(self.name.as_str(), "match" | "target")
            .then(|| Attributes::after(&self.data, 0).text(1))
            .flatten()
    }

    /// The same, looking in another set.
    #[must_use]
    pub fn looking_in(&self, set: &str) -> Self {
        self.replaced(1, |message| message.put_text(1, set))
    }

    /// A decision instead of the one that it was.
    #[must_use]
    pub fn deciding(&self, verdict: &Verdict) -> Self {
        self.replaced(2, |message| {
            message.nest(2, |inner| verdict.write(inner));
        })
    }

    fn replaced(&self, place: u16, write: impl FnOnce(&mut Message)) -> Self {
        let mut message = Message::bare();
        let mut write = Some(write);
        for (kind, value) in Attributes::raw_of(&self.data) {
            if kind & !NESTED == place {
                if let Some(write) = write.take() {
                    write(&mut message);
                }
            } else {
                message.put(kind, value);
            }
        }
        Self {
            name: self.name.clone(),
            data: message.into_bytes(),
        }
    }
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

fn verdict_in(data: &Attributes<'_>) -> Option<Verdict> {
    data.get(DATA_VERDICT)?;
    let verdict = data.nested(DATA_VERDICT);
    let chain = || verdict.text(VERDICT_CHAIN);
    match be32(verdict.get(VERDICT_CODE)?)?.cast_signed() {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        -3 => Some(Verdict::Jump(chain()?)),
        -4 => Some(Verdict::Goto(chain()?)),
        -5 => Some(Verdict::Return),
        _ => None,
    }
}

/// A set or map of somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignSet {
    /// Its name.
    pub name: String,
    attributes: Vec<(u16, Vec<u8>)>,
    elements: Vec<ForeignElement>,
}

/// An element of a set of somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ForeignElement {
    attributes: Vec<(u16, Vec<u8>)>,
    verdict: Option<Verdict>,
}

impl ForeignSet {
    /// What its elements decide, where it is a map of verdicts.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.elements
            .iter()
            .filter_map(|element| element.verdict.as_ref())
    }
}

impl Nft {
    /// The chains of all tables of a family.
    pub fn foreign_chains(&mut self, family: Tables) -> Result<Vec<ForeignChain>, NetlinkError> {
        let read = |body: &[u8]| {
            let attributes = Attributes::after(body, FIXED);
            let hook = attributes.nested(4);
            let base = be32(hook.get(1).unwrap_or_default()).map(|number| ForeignBase {
                kind: attributes.text(7).unwrap_or_default(),
                hook: match number {
                    0 => Some(Hook::Prerouting),
                    1 => Some(Hook::Input),
                    2 => Some(Hook::Forward),
                    3 => Some(Hook::Output),
                    4 => Some(Hook::Postrouting),
                    _ => None,
                },
                priority: be32(hook.get(2).unwrap_or_default())
                    .unwrap_or_default()
                    .cast_signed(),
                policy: match attributes.get(5).and_then(be32) {
                    Some(0) => Policy::Drop,
                    Some(_) | None => Policy::Accept,
                },
            });
            Some(ForeignChain {
                table: attributes.text(1)?,
                name: attributes.text(3)?,
                base,
            })
        };
        let message = asked(GET_CHAIN, family);
        self.socket.dump("list nftables chains", &message, read)
    }

    /// The rules of a table.
    pub fn foreign_rules(
        &mut self,
        family: Tables,
        table: &str,
    ) -> Result<Vec<ForeignRule>, NetlinkError> {
        let mut message = asked(GET_RULE, family);
        message.put_text(1, table);
        let read = |body: &[u8]| {
            let attributes = Attributes::after(body, FIXED);
            let expressions = attributes
                .nested(4)
                .filter(|(kind, _)| *kind == LIST_ELEM)
                .filter_map(|(_, bytes)| {
                    let inner = Attributes::after(bytes, 0);
                    Some(Opaque {
                        name: inner.text(1)?,
                        data: inner.get(2).unwrap_or_default().to_vec(),
                    })
                })
                .collect();
            let of = attributes.text(1)?;
            let rule = ForeignRule {
                chain: attributes.text(2)?,
                expressions,
            };
            (of == table).then_some(rule)
        };
        let action = format!("list the rules of nftables table {table}");
        self.socket.dump(&action, &message, read)
    }

    /// The sets and maps of a table with what is in them, anonymous ones too.
    pub fn foreign_sets(
        &mut self,
        family: Tables,
        table: &str,
    ) -> Result<Vec<ForeignSet>, NetlinkError> {
        let mut message = asked(GET_SET, family);
        message.put_text(1, table);
        let read = |body: &[u8]| {
            let attributes = Attributes::after(body, FIXED);
            let copied = Attributes::raw_of(body.get(FIXED..)?)
                .filter(|(kind, _)| SET_COPIED.contains(&(kind & !NESTED)))
                .map(|(kind, value)| (kind, value.to_vec()))
                .collect();
            let set = ForeignSet {
                name: attributes.text(SET_NAME)?,
                attributes: copied,
                elements: Vec::new(),
            };
            (attributes.text(1)? == table).then_some(set)
        };
        let action = format!("list the sets of nftables table {table}");
        let mut sets = self.socket.dump(&action, &message, read)?;
        for set in &mut sets {
            let mut message = asked(GET_ELEMENT, family);
            message.put_text(1, table);
            message.put_text(2, &set.name);
            let action = format!("list nftables set {}", set.name);
            set.elements = self
                .socket
                .dump(&action, &message, |body| Some(elements(body)))?
                .concat();
        }
        Ok(sets)
    }
}

fn asked(kind: u16, family: Tables) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, 0, &[family.number(), 0, 0, 0])
}

fn elements(body: &[u8]) -> Vec<ForeignElement> {
    let list = Attributes::after(body, FIXED).nested(3);
    let found = list.filter(|(kind, _)| *kind == LIST_ELEM);
    found
        .map(|(_, bytes)| ForeignElement {
            attributes: Attributes::raw_of(bytes)
                .filter(|(kind, _)| ELEMENT_COPIED.contains(&(kind & !NESTED)))
                .map(|(kind, value)| (kind, value.to_vec()))
                .collect(),
            verdict: verdict_in(&Attributes::after(bytes, 0).nested(ELEMENT_VALUE)),
        })
        .collect()
}

impl Batch {
    /// Adds a rule of somebody's to the end of a chain.
    pub fn add_foreign_rule(&mut self, chain: &str, expressions: &[Opaque]) {
        self.add(NEW_RULE, CREATE | APPEND, |message| {
            message.put_text(2, chain);
            message.nest(4, |list| {
                for expression in expressions {
                    list.nest(LIST_ELEM, |element| {
                        element.put_text(1, &expression.name);
                        element.put(2 | NESTED, &expression.data);
                    });
                }
            });
        });
    }

    /// Makes a copy of somebody's set under a name of its own. Verdicts become what `verdict` makes of them; the chains
    /// that they name must be there.
    pub fn add_foreign_set(
        &mut self,
        name: &str,
        set: &ForeignSet,
        verdict: impl Fn(&Verdict) -> Verdict,
    ) {
        self.sets += 1;
        let id = self.sets;
        self.add(NEW_SET, CREATE, |message| {
            message.put_text(SET_NAME, name);
            for (kind, value) in &set.attributes {
                if kind & !NESTED == SET_FLAGS {
                    let flags = be32(value).unwrap_or_default() & !ANONYMOUS;
                    message.put_be32(SET_FLAGS, flags);
                } else {
                    message.put(*kind, value);
                }
            }
            message.put_be32(SET_ID, id);
        });
        for chunk in set.elements.chunks(super::CHUNK) {
            self.add(NEW_ELEMENT, CREATE, |message| {
                message.put_text(2, name);
                message.nest(3, |list| {
                    for element in chunk {
                        list.nest(LIST_ELEM, |inner| element.write(inner, &verdict));
                    }
                });
            });
        }
    }
}

impl ForeignElement {
    fn write(&self, message: &mut Message, change: &impl Fn(&Verdict) -> Verdict) {
        for (kind, value) in &self.attributes {
            match &self.verdict {
                Some(verdict) if kind & !NESTED == ELEMENT_VALUE => {
                    message.nest(ELEMENT_VALUE, |data| change(verdict).write(data));
                }
                _ => message.put(*kind, value),
            }
        }
    }
}
