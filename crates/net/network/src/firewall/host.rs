//! The administrator's rules for what arrives at this host, made to hold for published ports.
//!
//! What arrives for a published port gets the container's address before routing, so it is forwarded, and the chains at
//! the hook `input`, where an administrator writes `tcp dport 8080 drop` or `ufw deny 8080`, never see it
//! (<https://github.com/moby/moby/issues/22054>). So the table carries a copy of those chains, called before the address
//! changes, for new connections to published ports and for nothing else. It follows the originals: the watcher has it made
//! anew when they change. A verdict in the copy means what it means in the original: a drop is final, an accept ends that
//! chain.
//!
//! [`Guard::Explicit`] leaves out what drops without a look at the packet's addresses or ports: a chain that drops all
//! that nobody allowed would close every published port, which is not what `docker run -p` does on such hosts.

use std::collections::BTreeMap;

use havre_netlink::nft::{
    Base, Batch, ChainKind, Field, ForeignBase, ForeignRule, ForeignSet, Hook, Nft, Opaque, Policy,
    Rule, State, Tables, Verdict,
};

use super::Guard;
use crate::error::NetworkError;

/// After the packet's mark was set (`NF_IP_PRI_MANGLE` is -150), before its destination changes (-100).
const FIRST: i32 = -140;
/// The last place before destinations change.
const LAST: i32 = -101;

/// Parts that decide by themselves or belong to other hooks: a rule with one is not copied.
const ELSEWHERE: [&str; 12] = [
    "queue",
    "fwd",
    "dup",
    "nat",
    "masq",
    "redir",
    "tproxy",
    "objref",
    "synproxy",
    "notrack",
    "flow_offload",
    "tunnel",
];
/// Matches of iptables that look at addresses or ports.
const LOOKING: [&str; 7] = ["tcp", "udp", "sctp", "dccp", "multiport", "iprange", "set"];

/// A table with a chain for what arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    family: Tables,
    bases: Vec<(String, ForeignBase)>,
    rules: BTreeMap<String, Vec<ForeignRule>>,
    sets: BTreeMap<String, ForeignSet>,
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Host {
    copies: Vec<Copied>,
    /// Rules that could not be copied.
    pub(crate) left_out: usize,
}

/// The copy of a chain that the kernel calls, with all that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copied {
    family: Tables,
    /// The order among the originals.
    priority: i32,
    /// The first is where it begins.
    chains: Vec<Vec<Vec<Opaque>>>,
    /// Drops what comes to the end of the first chain.
    closed: bool,
    sets: Vec<ForeignSet>,
    /// Which chain a verdict of a map leads to, by the name of the set's place.
    names: BTreeMap<(String, bool), usize>,
}

/// Reads the chains for arriving packets of all other tables.
pub(crate) fn read(nft: &mut Nft, own: &str) -> Result<Vec<Source>, NetworkError> {
    let mut sources = Vec::new();
    for family in [Tables::Inet, Tables::Ipv4, Tables::Ipv6] {
        let mut tables: BTreeMap<String, Vec<(String, ForeignBase)>> = BTreeMap::new();
        for chain in nft.foreign_chains(family)? {
            let Some(base) = chain.base else { continue };
            let arriving = base.hook == Some(Hook::Input) && base.kind == "filter";
            if arriving && chain.table != own {
                tables
                    .entry(chain.table)
                    .or_default()
                    .push((chain.name, base));
            }
        }
        for (table, bases) in tables {
            let mut rules: BTreeMap<String, Vec<ForeignRule>> = BTreeMap::new();
            for rule in nft.foreign_rules(family, &table)? {
                rules.entry(rule.chain.clone()).or_default().push(rule);
            }
            let sets = nft.foreign_sets(family, &table)?;
            sources.push(Source {
                family,
                bases,
                rules,
                sets: sets
                    .into_iter()
                    .map(|set| (set.name.clone(), set))
                    .collect(),
            });
        }
    }
    Ok(sources)
}

/// What is copied of it; with `extensions` also what only iptables has words for.
pub(crate) fn plan(sources: &[Source], guard: Guard, extensions: bool) -> Host {
    let mut host = Host::default();
    if guard == Guard::None {
        return host;
    }
    for source in sources {
        for (name, base) in &source.bases {
            let mut copier = Copier {
                source,
                extensions,
                full: guard == Guard::Full,
                copied: Copied {
                    family: source.family,
                    priority: base.priority,
                    chains: Vec::new(),
                    closed: guard == Guard::Full && base.policy == Policy::Drop,
                    sets: Vec::new(),
                    names: BTreeMap::new(),
                },
                sets: BTreeMap::new(),
                drops: false,
                left_out: 0,
            };
            copier.chain(name, guard == Guard::Full);
            host.left_out += copier.left_out;
            if copier.drops || copier.copied.closed {
                host.copies.push(copier.copied);
            }
        }
    }
    host.copies.sort_by_key(|copied| copied.priority);
    host
}

struct Copier<'a> {
    source: &'a Source,
    extensions: bool,
    full: bool,
    copied: Copied,
    sets: BTreeMap<String, usize>,
    drops: bool,
    left_out: usize,
}

impl Copier<'_> {
    /// The number of the copy of a chain. `bound` says that what comes here was chosen by its addresses or ports.
    fn chain(&mut self, name: &str, bound: bool) -> usize {
        let key = (name.to_owned(), bound);
        if let Some(number) = self.copied.names.get(&key) {
            return *number;
        }
        let number = self.copied.chains.len();
        self.copied.names.insert(key, number);
        self.copied.chains.push(Vec::new());
        let source = self.source;
        let mut rules = Vec::new();
        for rule in source.rules.get(name).into_iter().flatten() {
            if let Some(copy) = self.rule(rule, bound) {
                rules.push(copy);
            }
        }
        if let Some(place) = self.copied.chains.get_mut(number) {
            *place = rules;
        }
        number
    }

    fn rule(&mut self, rule: &ForeignRule, bound: bool) -> Option<Vec<Opaque>> {
        let parts = &rule.expressions;
        let bound = self.full || bound || parts.iter().any(looks);
        let refuses = |part: &Opaque| {
            part.verdict() == Some(Verdict::Drop)
                || part.name == "reject"
                || part.extension().as_deref() == Some("REJECT")
        };
        let drops = parts.iter().any(refuses);
        if drops && !bound {
            return None;
        }
        let elsewhere = parts.iter().any(|part| {
            ELSEWHERE.contains(&part.name.as_str())
                || (part.name == "immediate" && decides_otherwise(part))
                || (!self.extensions && part.extension().is_some())
        });
        if elsewhere {
            self.left_out += 1;
            return None;
        }
        self.drops |= drops;
        Some(parts.iter().map(|part| self.part(part, bound)).collect())
    }

    fn part(&mut self, part: &Opaque, bound: bool) -> Opaque {
        if let Some(verdict) = part.verdict() {
            return part.deciding(&self.verdict(&verdict, bound));
        }
        let Some(name) = part.set() else {
            return part.clone();
        };
        let number = self.set(&name, bound);
        part.looking_in(&format!("{number}"))
    }

    fn verdict(&mut self, verdict: &Verdict, bound: bool) -> Verdict {
        match verdict {
            Verdict::Jump(name) => Verdict::Jump(self.chain(name, bound).to_string()),
            Verdict::Goto(name) => Verdict::Goto(self.chain(name, bound).to_string()),
            other => other.clone(),
        }
    }

    /// The number of the copy of a set; the chains that it leads to are copied as well.
    fn set(&mut self, name: &str, bound: bool) -> usize {
        if let Some(number) = self.sets.get(name) {
            return *number;
        }
        let number = self.copied.sets.len();
        self.sets.insert(name.to_owned(), number);
        if let Some(set) = self.source.sets.get(name) {
            self.copied.sets.push(set.clone());
            let verdicts: Vec<Verdict> = set.verdicts().cloned().collect();
            for verdict in verdicts {
                self.drops |= verdict == Verdict::Drop;
                self.verdict(&verdict, bound);
            }
        }
        number
    }
}

/// Whether a part looks at the packet's addresses or ports.
fn looks(part: &Opaque) -> bool {
    let of_iptables = part.extension();
    part.header().is_some() || of_iptables.is_some_and(|name| LOOKING.contains(&name.as_str()))
}

/// An immediate verdict that this crate has no word for.
fn decides_otherwise(part: &Opaque) -> bool {
    part.is_verdict() && part.verdict().is_none()
}

/// Which of the packets that arrive are for published ports.
const GUARDED4: &[Field] = &[Field::Destination4, Field::Protocol, Field::DestinationPort];
const GUARDED6: &[Field] = &[Field::Destination6, Field::Protocol, Field::DestinationPort];

impl Host {
    /// Nothing is copied of so many rules.
    pub(crate) fn nothing(left_out: usize) -> Self {
        Self {
            copies: Vec::new(),
            left_out,
        }
    }

    /// How many rules are copied.
    pub(crate) fn rules(&self) -> usize {
        let chains = self.copies.iter().flat_map(|copied| &copied.chains);
        chains.map(Vec::len).sum()
    }

    /// Adds the copies to the transaction that builds the table.
    pub(crate) fn write(&self, batch: &mut Batch) {
        for (number, copied) in self.copies.iter().enumerate() {
            copied.write(batch, number);
        }
    }
}

impl Copied {
    fn write(&self, batch: &mut Batch, number: usize) {
        let base = format!("host-{number}");
        let chain = |place: &str| format!("host-{number}-chain-{place}");
        let set = |place: &str| format!("host-{number}-set-{place}");
        let renamed = |verdict: &Verdict| match verdict {
            Verdict::Jump(place) => Verdict::Jump(chain(place)),
            Verdict::Goto(place) => Verdict::Goto(chain(place)),
            other => other.clone(),
        };
        let offset = i32::try_from(number).unwrap_or(i32::MAX);
        batch.add_chain(
            &base,
            Some(Base {
                kind: ChainKind::Filter,
                hook: Hook::Prerouting,
                priority: FIRST.saturating_add(offset).min(LAST),
                policy: Policy::Accept,
            }),
        );
        for place in 0..self.chains.len() {
            batch.add_chain(&chain(&place.to_string()), None);
        }
        for (place, original) in self.sets.iter().enumerate() {
            batch.add_foreign_set(&set(&place.to_string()), original, |verdict| {
                self.leads(verdict, &chain)
            });
        }
        for rule in self.entrance(&chain("0")) {
            batch.add_rule(&base, &rule);
        }
        for (place, rules) in self.chains.iter().enumerate() {
            for parts in rules {
                let parts: Vec<Opaque> = parts
                    .iter()
                    .map(|part| match (part.verdict(), part.set()) {
                        (Some(verdict), _) => part.deciding(&renamed(&verdict)),
                        (None, Some(place)) => part.looking_in(&set(&place)),
                        (None, None) => part.clone(),
                    })
                    .collect();
                batch.add_foreign_rule(&chain(&place.to_string()), &parts);
            }
        }
        if self.closed {
            let end = Rule::new().verdict(Verdict::Drop);
            batch.add_rule(&chain("0"), &end.comment("the policy of the original"));
        }
    }

    /// Where a verdict of a map of the original leads here.
    fn leads(&self, verdict: &Verdict, chain: &impl Fn(&str) -> String) -> Verdict {
        let place = |name: &String| {
            let places = [false, true].map(|bound| self.names.get(&(name.clone(), bound)));
            let place = places.into_iter().flatten().next();
            chain(&place.copied().unwrap_or_default().to_string())
        };
        match verdict {
            Verdict::Jump(name) => Verdict::Jump(place(name)),
            Verdict::Goto(name) => Verdict::Goto(place(name)),
            other => other.clone(),
        }
    }

    /// New connections to published ports of this host, of the original's family.
    fn entrance(&self, begin: &str) -> Vec<Rule> {
        let accept = |rule: Rule| rule.verdict(Verdict::Accept);
        let mut rules = Vec::new();
        match self.family {
            Tables::Inet => {}
            Tables::Ipv4 => rules.push(accept(Rule::new().ipv6())),
            Tables::Ipv6 => rules.push(accept(Rule::new().ipv4())),
        }
        let known = State::ESTABLISHED.or(State::RELATED);
        rules.push(accept(Rule::new().state(known)));
        let guarded4 = Rule::new().ipv4().in_set("guarded4", GUARDED4, false);
        let guarded6 = Rule::new().ipv6().in_set("guarded6", GUARDED6, false);
        rules.push(accept(guarded4).comment("not published"));
        rules.push(accept(guarded6).comment("not published"));
        let enter = Rule::new()
            .to_this_host()
            .verdict(Verdict::Goto(begin.to_owned()));
        rules.push(enter.comment("the host's own rules for arriving packets"));
        rules
    }
}
