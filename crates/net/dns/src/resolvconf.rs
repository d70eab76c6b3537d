//! The containers' resolv.conf, made from the host's as Docker does: pure, from texts to texts.
//! (moby, daemon/libnetwork/internal/resolvconf)

use std::fmt::{self, Display, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where the host's file usually is.
pub const HOST_FILE: &str = "/etc/resolv.conf";
/// Where systemd-resolved lists the real servers, when the host's file names only its own stub.
pub const RESOLVED_FILE: &str = "/run/systemd/resolve/resolv.conf";
/// The embedded server, as containers see it.
pub const EMBEDDED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const RESOLVED_STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const PORT: u16 = 53;
/// What a container gets when nothing else is known.
const FALLBACK_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];
const FALLBACK_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888),
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844),
];
const REQUIRED_OPTION: &str = "ndots:0";

/// A server's address, with the interface of a link-local one (`fe80::1%eth0`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// The address.
    pub address: IpAddr,
    /// The interface, by name or number.
    pub interface: Option<String>,
}

impl From<IpAddr> for NameServer {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            interface: None,
        }
    }
}

impl FromStr for NameServer {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('%') {
            Some((address, interface)) if !interface.is_empty() => Ok(Self {
                address: address.parse::<Ipv6Addr>()?.into(),
                interface: Some(interface.to_owned()),
            }),
            _ => text.parse::<IpAddr>().map(Self::from),
        }
    }
}

impl Display for NameServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(formatter)?;
        match &self.interface {
            Some(interface) => write!(formatter, "%{interface}"),
            None => Ok(()),
        }
    }
}

/// What a container's or the daemon's options replace of the host's file. An empty list replaces nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--dns`.
    pub name_servers: Vec<IpAddr>,
    /// `--dns-search`; "." alone means none at all.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// Which kind of network the file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The host's own network: the file as it is.
    Host,
    /// The default bridge, whose containers ask the servers themselves: loopback addresses would be the container's own.
    Bridge {
        /// The container has an IPv6 address.
        ipv6: bool,
    },
    /// A network with the embedded server.
    Embedded,
}

/// The file for a container, and what the embedded server has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The text of the file.
    pub text: String,
    /// Servers for names that are not ours; filled for [`Purpose::Embedded`] only.
    pub upstreams: Vec<SocketAddr>,
    /// They come from `--dns`, and are asked from the container's namespace.
    pub overridden: bool,
    /// The host or an option had set `ndots` before we did.
    pub ndots_set: bool,
}

/// A resolv.conf, read as Docker reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    path: String,
    name_servers: Vec<NameServer>,
    search: Vec<String>,
    options: Vec<String>,
    other: Vec<String>,
    invalid: Vec<String>,
    replaced: Vec<&'static str>,
    ndots_from: Option<&'static str>,
}

/// The file that containers' files are based on: with systemd-resolved's stub as the only server, the list of the servers
/// behind it.
#[must_use]
pub fn source(host_text: &str) -> &'static str {
    let conf = ResolvConf::parse(host_text, HOST_FILE);
    match conf.name_servers() {
        [only] if only.address == IpAddr::V4(RESOLVED_STUB) => RESOLVED_FILE,
        _ => HOST_FILE,
    }
}

impl ResolvConf {
    /// Reads the text of the file that `path` names.
    #[must_use]
    pub fn parse(text: &str, path: &str) -> Self {
        let mut conf = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        for line in text.lines() {
            conf.read_line(line);
        }
        conf.ndots_from = conf.has_option("ndots").then_some("host");
        conf
    }

    fn read_line(&mut self, line: &str) {
        if line.starts_with(['#', ';']) {
            return;
        }
        let mut words = line.split_whitespace();
        let Some(keyword) = words.next() else {
            return;
        };
        let mut words = words.map(str::to_owned).peekable();
        match keyword {
            "nameserver" => match words.next().map(|word| (word.parse(), word)) {
                Some((Ok(server), _)) => self.name_servers.push(server),
                Some((Err(_), word)) => self.invalid.push(word),
                None => {}
            },
            // Only the last list counts.
            "domain" | "search" if words.peek().is_some() => self.search = words.collect(),
            "options" => self.options.extend(words),
            "domain" | "search" => {}
            _ => self.other.push(line.to_owned()),
        }
    }

    /// The servers in their order.
    #[must_use]
    pub fn name_servers(&self) -> &[NameServer] {
        &self.name_servers
    }

    /// The file for a container.
    #[must_use]
    pub fn for_container(&self, overrides: &Overrides, purpose: Purpose) -> Made {
        let mut conf = self.clone();
        conf.replace(overrides);
        let overridden = !overrides.name_servers.is_empty();
        let mut made = Made {
            text: String::new(),
            upstreams: Vec::new(),
            overridden,
            ndots_set: conf.has_option("ndots"),
        };
        let mut notes = Notes::default();
        match purpose {
            Purpose::Host => {}
            Purpose::Bridge { ipv6 } => {
                notes.transform = Some("legacy");
                if !overridden {
                    notes.warning = conf.without_loopback(ipv6);
                }
            }
            Purpose::Embedded => {
                notes.transform = Some("internal resolver");
                let external = conf.embed();
                made.upstreams = external
                    .iter()
                    .map(|server| SocketAddr::new(server.address, PORT))
                    .collect();
                notes.set_external(&external, overridden);
            }
        }
        made.text = conf.render(&notes);
        made
    }

    fn replace(&mut self, overrides: &Overrides) {
        if !overrides.name_servers.is_empty() {
            let servers = overrides.name_servers.iter().copied();
            self.name_servers = servers.map(NameServer::from).collect();
            self.replaced.push("nameservers");
        }
        if !overrides.search.is_empty() {
            let named = overrides.search.iter().filter(|domain| *domain != ".");
            self.search = named.cloned().collect();
            self.replaced.push("search");
        }
        if !overrides.options.is_empty() {
            self.options.clone_from(&overrides.options);
            self.replaced.push("options");
            self.ndots_from = self.has_option("ndots").then_some("override");
        }
    }

    /// Takes out what only works on the host itself; says so when nothing was left.
    fn without_loopback(&mut self, ipv6: bool) -> Option<&'static str> {
        self.name_servers.retain(|server| {
            !server.address.to_canonical().is_loopback() && (server.address.is_ipv4() || ipv6)
        });
        if !self.name_servers.is_empty() {
            return None;
        }
        let servers = FALLBACK_V4.map(IpAddr::from).into_iter();
        let more = FALLBACK_V6.map(IpAddr::from).into_iter();
        let all = servers.chain(more.filter(|_| ipv6));
        self.name_servers = all.map(NameServer::from).collect();
        Some("Used default nameservers.")
    }

    /// Puts the embedded server in the place of all others, and returns those.
    fn embed(&mut self) -> Vec<NameServer> {
        let embedded = NameServer::from(IpAddr::V4(EMBEDDED));
        let external = std::mem::replace(&mut self.name_servers, vec![embedded]);
        self.options.retain(|option| {
            let (name, value) = option.split_once(':').unwrap_or((option, ""));
            name != "ndots" || is_count(value)
        });
        if !self.has_option("ndots") {
            self.options.push(REQUIRED_OPTION.to_owned());
            self.ndots_from = Some("internal");
        }
        external
    }

    fn has_option(&self, name: &str) -> bool {
        let mut names = self.options.iter().map(|option| {
            let (name, _value) = option.split_once(':').unwrap_or((option, ""));
            name
        });
        names.any(|found| found == name)
    }

    fn render(&self, notes: &Notes) -> String {
        let mut text = String::from(
            "# Havre wrote this file. You may change it: then Havre leaves it as it is until the\n\
             # container starts anew.\n\n",
        );
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        for server in &self.name_servers {
            line(format!("nameserver {server}"));
        }
        if !self.search.is_empty() {
            line(format!("search {}", self.search.join(" ")));
        }
        if !self.options.is_empty() {
            line(format!("options {}", self.options.join(" ")));
        }
        self.other.iter().cloned().for_each(&mut line);
        line(String::new());
        let transform = notes.transform.map(|name| format!(" ({name})"));
        let transform = transform.unwrap_or_default();
        line(format!("# Based on host file: '{}'{transform}", self.path));
        if let Some(warning) = notes.warning {
            line(format!("# {warning}"));
        }
        if let Some(external) = &notes.external {
            line(format!("# ExtServers: [{external}]"));
        }
        if !self.invalid.is_empty() {
            line(format!(
                "# Invalid nameservers: [{}]",
                self.invalid.join(" ")
            ));
        }
        line(format!("# Overrides: [{}]", self.replaced.join(" ")));
        if let Some(from) = self.ndots_from {
            line(format!("# Option ndots from: {from}"));
        }
        text
    }
}

/// What the comments at the end say.
#[derive(Debug, Default)]
struct Notes {
    transform: Option<&'static str>,
    warning: Option<&'static str>,
    external: Option<String>,
}

impl Notes {
    fn set_external(&mut self, servers: &[NameServer], overridden: bool) {
        if servers.is_empty() {
            self.warning = Some("NO EXTERNAL NAMESERVERS DEFINED");
            return;
        }
        let mut text = String::new();
        for server in servers {
            let space = if text.is_empty() { "" } else { " " };
            let written = if overridden {
                write!(text, "{space}{server}")
            } else {
                write!(text, "{space}host({server})")
            };
            // Writing to a string cannot fail.
            if written.is_err() {
                return;
            }
        }
        self.external = Some(text);
    }
}

/// What Go's Atoi takes and is not negative.
fn is_count(value: &str) -> bool {
    value.parse::<i64>().is_ok_and(|count| count >= 0)
}

#[cfg(test)]
mod tests;
