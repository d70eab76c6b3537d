//! Host names to addresses: `/etc/hosts`, then the name servers of `/etc/resolv.conf`.
//!
//! A static program has no name service switch: `getaddrinfo` would load the host's C library.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// The longest answer asked for by UDP (<https://www.dnsflagday.net/2020/>).
const UDP_ANSWER: usize = 1232;
const PORT: u16 = 53;
/// How many aliases are followed within one answer.
const ALIASES: usize = 16;

/// Why a name has no address.
#[derive(Debug, Error)]
pub enum DnsError {
    /// There is no such name. The text is that of Go's resolver, which Docker prints.
    #[error("lookup {host}: no such host")]
    NoSuchHost {
        /// The name.
        host: String,
    },
    /// No server could say.
    #[error("lookup {host}: no name server answered")]
    NoAnswer {
        /// The name.
        host: String,
        /// What the last one did.
        source: Option<io::Error>,
    },
}

/// How names are looked up on this machine, as of the moment it was read.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    hosts: String,
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    attempts: usize,
    patience: Duration,
}

impl Resolver {
    /// Reads the system's files. Without them there are no names but the ones it knows itself.
    pub(crate) fn from_system() -> Self {
        let hosts = fs_err::read_to_string("/etc/hosts").unwrap_or_default();
        let resolv = fs_err::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Self::new(hosts, &resolv)
    }

    /// As resolv.conf(5) says; what it does not mention has the default of that page.
    fn new(hosts: String, resolv: &str) -> Self {
        let mut resolver = Self {
            hosts,
            servers: Vec::new(),
            search: Vec::new(),
            attempts: 2,
            patience: Duration::from_secs(5),
        };
        for line in resolv.lines() {
            let mut words = line
                .split(['#', ';'])
                .next()
                .unwrap_or_default()
                .split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver
                        .servers
                        .extend(address.map(|address| SocketAddr::new(address, PORT)));
                }
                Some("search" | "domain") => {
                    resolver.search = words
                        .map(|word| word.trim_end_matches('.').to_owned())
                        .collect();
                }
                Some("options") => words.for_each(|word| resolver.option(word)),
                _ => {}
            }
        }
        resolver.servers.truncate(3);
        if resolver.servers.is_empty() {
            resolver
                .servers
                .push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        resolver
    }

    fn option(&mut self, word: &str) {
        if let Some(seconds) = word
            .strip_prefix("timeout:")
            .and_then(|text| text.parse().ok())
        {
            self.patience = Duration::from_secs(u64::clamp(seconds, 1, 30));
        }
        if let Some(attempts) = word
            .strip_prefix("attempts:")
            .and_then(|text| text.parse().ok())
        {
            self.attempts = usize::clamp(attempts, 1, 5);
        }
    }

    /// All addresses of a host, in the order in which they should be tried.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Some(addresses) = self.known(host) {
            return Ok(addresses);
        }
        let mut failure = DnsError::NoSuchHost {
            host: host.to_owned(),
        };
        for name in self.candidates(host) {
            match self.ask_all(&name).await {
                Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
                Ok(_) => {}
                Err(source) => {
                    failure = DnsError::NoAnswer {
                        host: host.to_owned(),
                        source: Some(source),
                    };
                }
            }
        }
        Err(failure)
    }

    /// What needs no server: addresses, `localhost`, and the names of `/etc/hosts`.
    fn known(&self, host: &str) -> Option<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Some(vec![address]);
        }
        let mut found = Vec::new();
        for line in self.hosts.lines() {
            let mut words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse().ok()) else {
                continue;
            };
            if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
            return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        (!found.is_empty()).then_some(found)
    }

    /// A name without a dot is tried in the search domains first.
    fn candidates(&self, host: &str) -> Vec<String> {
        let host = host.trim_end_matches('.');
        let searched = self.search.iter().map(|domain| format!("{host}.{domain}"));
        if host.contains('.') {
            return std::iter::once(host.to_owned()).chain(searched).collect();
        }
        searched.chain(std::iter::once(host.to_owned())).collect()
    }

    async fn ask_all(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let (v4, v6) =
            futures_util::future::join(self.ask(name, TYPE::A), self.ask(name, TYPE::AAAA)).await;
        match (v4, v6) {
            (Ok(mut v4), Ok(v6)) => {
                v4.extend(v6);
                Ok(v4)
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn ask(&self, name: &str, kind: TYPE) -> io::Result<Vec<IpAddr>> {
        let mut failure = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..self.attempts {
            for server in &self.servers {
                match self.ask_server(*server, name, kind).await {
                    Ok(addresses) => return Ok(addresses),
                    Err(error) => failure = error,
                }
            }
        }
        Err(failure)
    }

    async fn ask_server(
        &self,
        server: SocketAddr,
        name: &str,
        kind: TYPE,
    ) -> io::Result<Vec<IpAddr>> {
        let id = random_id()?;
        let query = query(id, name, kind)?;
        let answer = within(self.patience, ask_by_udp(server, &query, id)).await?;
        match read_answer(&answer, name)? {
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::Truncated => {
                let answer = within(self.patience, ask_by_tcp(server, &query)).await?;
                match read_answer(&answer, name)? {
                    Answer::Addresses(addresses) => Ok(addresses),
                    Answer::Truncated => Err(invalid("the answer is cut short")),
                }
            }
        }
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work)
        .await
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

async fn ask_by_udp(server: SocketAddr, query: &[u8], id: u16) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; UDP_ANSWER];
    loop {
        let count = socket.recv(&mut buffer).await?;
        // Whoever does not know the random id did not see the question.
        if buffer[..count].starts_with(&id.to_be_bytes()) {
            buffer.truncate(count);
            return Ok(buffer);
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(query).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u16::from_ne_bytes(bytes))
}

fn query(id: u16, name: &str, kind: TYPE) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().map_err(io::Error::other)
}

#[derive(Debug)]
enum Answer {
    Addresses(Vec<IpAddr>),
    Truncated,
}

/// Takes the addresses of the name and of what it is an alias for; other records prove nothing.
fn read_answer(bytes: &[u8], name: &str) -> io::Result<Answer> {
    let packet = Packet::parse(bytes).map_err(io::Error::other)?;
    if !packet.has_flags(PacketFlag::RESPONSE) {
        return Err(invalid("the answer is a question"));
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Answer::Addresses(Vec::new())),
        _ => return Err(invalid("the name server failed")),
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Answer::Truncated);
    }
    let mut wanted = name.to_ascii_lowercase();
    for _ in 0..ALIASES {
        let alias = packet
            .answers
            .iter()
            .find_map(|record| match &record.rdata {
                RData::CNAME(target) if same_name(&record.name, &wanted) => {
                    Some(target.0.to_string())
                }
                _ => None,
            });
        let Some(alias) = alias else { break };
        wanted = alias.to_ascii_lowercase();
    }
    let addresses = packet
        .answers
        .iter()
        .filter(|record| same_name(&record.name, &wanted));
    let addresses = addresses.filter_map(|record| match &record.rdata {
        RData::A(address) => Some(IpAddr::from(Ipv4Addr::from(address.address))),
        RData::AAAA(address) => Some(IpAddr::from(Ipv6Addr::from(address.address))),
        _ => None,
    });
    Ok(Answer::Addresses(addresses.collect()))
}

fn same_name(name: &Name<'_>, text: &str) -> bool {
    name.to_string()
        .trim_end_matches('.')
        .eq_ignore_ascii_case(text.trim_end_matches('.'))
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME};

    #[test]
    fn files_are_read_as_the_manual_says() {
        let hosts =
            "127.0.0.1 localhost # here\n10.0.0.1 Reg.example reg\n10.0.0.2 reg\n".to_owned();
        let resolv = "; c\nnameserver 10.0.0.53\nnameserver ::1\nsearch a.example b.example.\n\
                      options timeout:1 attempts:9\n";
        let resolver = Resolver::new(hosts, resolv);
        assert_eq!(resolver.servers.len(), 2);
        assert_eq!(
            (resolver.attempts, resolver.patience),
            (5, Duration::from_secs(1))
        );
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            resolver.known("REG"),
            Some(vec![address("10.0.0.1"), address("10.0.0.2")])
        );
        assert_eq!(resolver.known("1.2.3.4"), Some(vec![address("1.2.3.4")]));
        assert_eq!(resolver.known("reg.other"), None);
        assert_eq!(
            resolver.candidates("x"),
            ["x.a.example", "x.b.example", "x"]
        );
        assert_eq!(resolver.candidates("x.y")[0], "x.y");
        assert_eq!(Resolver::new(String::new(), "").servers.len(), 1);
    }

    /// A name server for one question, by UDP.
    async fn serve(socket: UdpSocket) {
        let mut buffer = [0; 512];
        loop {
            let (count, peer) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Packet::parse(&buffer[..count]).unwrap();
            let asked = question.questions[0].qname.to_string();
            let v4 = question.questions[0].qtype == QTYPE::TYPE(TYPE::A);
            let mut answer = Packet::new_reply(question.id());
            if asked == "missing.example" {
                *answer.rcode_mut() = RCODE::NameError;
            } else if v4 {
                let name = Name::new("www.example").unwrap();
                let alias = Name::new("host.example").unwrap();
                let other = Name::new("other.example").unwrap();
                let record =
                    |name: Name<'static>, data| ResourceRecord::new(name, CLASS::IN, 1, data);
                let a = |last| {
                    RData::A(A {
                        address: u32::from(Ipv4Addr::new(10, 0, 0, last)),
                    })
                };
                answer.answers.push(record(
                    name.into_owned(),
                    RData::CNAME(CNAME(alias.clone())),
                ));
                answer.answers.push(record(other.into_owned(), a(9)));
                answer.answers.push(record(alias.into_owned(), a(7)));
            }
            let forged = {
                let mut forged = answer.build_bytes_vec().unwrap();
                forged[0] ^= 0xff;
                forged
            };
            socket.send_to(&forged, peer).await.unwrap();
            socket
                .send_to(&answer.build_bytes_vec().unwrap(), peer)
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn aliases_are_followed_and_foreign_records_are_not() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut resolver = Resolver::new(String::new(), "options timeout:1 attempts:1");
        resolver.servers = vec![socket.local_addr().unwrap()];
        let server = tokio::spawn(serve(socket));
        let found = resolver.lookup("www.example").await.unwrap();
        assert_eq!(found, [IpAddr::from([10, 0, 0, 7])]);
        let missing = resolver.lookup("missing.example").await.unwrap_err();
        assert_eq!(missing.to_string(), "lookup missing.example: no such host");
        server.abort();
    }
}
