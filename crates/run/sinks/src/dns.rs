//! Names to addresses: `/etc/hosts`, then the name servers of `/etc/resolv.conf`, by UDP. A static program has no name
//! service switch. The engine's resolver is asynchronous, which this program is not.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};

const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
const ANSWER: usize = 1232;

/// All addresses of a host, those of version 4 first.
pub(crate) fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let hosts = fs_err::read_to_string("/etc/hosts").unwrap_or_default();
    let known = from_hosts(&hosts, host);
    if !known.is_empty() {
        return Ok(known);
    }
    let resolv = fs_err::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut found = Vec::new();
    for name in candidates(&resolv, host) {
        for kind in [TYPE::A, TYPE::AAAA] {
            found.extend(ask(&servers(&resolv), &name, kind).unwrap_or_default());
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let text = format!("lookup {host}: no such host");
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

fn from_hosts(hosts: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else {
            continue;
        };
        if words.any(|name| name.eq_ignore_ascii_case(host)) {
            found.push(address);
        }
    }
    if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found.sort();
    found
}

fn servers(resolv: &str) -> Vec<SocketAddr> {
    let lines = resolv.lines().map(str::split_whitespace);
    let named = lines.filter_map(|mut words| {
        let server = (words.next() == Some("nameserver")).then(|| words.next())??;
        Some(SocketAddr::new(server.parse().ok()?, 53))
    });
    let mut servers: Vec<_> = named.take(3).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
    }
    servers
}

/// A name without a dot is tried in the search domains first.
fn candidates(resolv: &str, host: &str) -> Vec<String> {
    let host = host.trim_end_matches('.');
    let lines = resolv.lines().map(str::split_whitespace);
    let mut domains = lines
        .filter_map(|mut words| matches!(words.next(), Some("search" | "domain")).then_some(words));
    let searched = domains.next_back().into_iter().flatten();
    let mut names: Vec<_> = searched
        .map(|domain| format!("{host}.{}", domain.trim_end_matches('.')))
        .collect();
    let first = if host.contains('.') { 0 } else { names.len() };
    names.insert(first, host.to_owned());
    names
}

fn ask(servers: &[SocketAddr], name: &str, kind: TYPE) -> io::Result<Vec<IpAddr>> {
    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..ATTEMPTS {
        for server in servers {
            match ask_server(*server, name, kind) {
                Ok(found) => return Ok(found),
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

fn ask_server(server: SocketAddr, name: &str, kind: TYPE) -> io::Result<Vec<IpAddr>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut packet = Packet::new_query(u16::from_be_bytes(id));
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).map_err(io::Error::other)?,
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    let query = packet.build_bytes_vec().map_err(io::Error::other)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&query)?;
    let mut buffer = [0; ANSWER];
    loop {
        let count = socket.recv(&mut buffer)?;
        let answer = buffer.get(..count).unwrap_or_default();
        // Whoever does not know the random id did not see the question.
        if answer.starts_with(&id) {
            return read_answer(answer);
        }
    }
}

/// The resolver that was asked has followed aliases already: the addresses that it answers with are the name's.
fn read_answer(bytes: &[u8]) -> io::Result<Vec<IpAddr>> {
    let packet = Packet::parse(bytes).map_err(io::Error::other)?;
    let addresses = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(address) => Some(IpAddr::from(Ipv4Addr::from(address.address))),
            RData::AAAA(address) => Some(IpAddr::from(Ipv6Addr::from(address.address))),
            _ => None,
        });
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_their_manual_pages_say() {
        let hosts = "127.0.0.1 localhost\n::1 six # other\n10.0.0.1 logs LOGS.example\n";
        assert_eq!(
            from_hosts(hosts, "logs.EXAMPLE"),
            ["10.0.0.1".parse::<IpAddr>().expect("address")]
        );
        assert!(from_hosts(hosts, "other").is_empty());
        assert_eq!(from_hosts("", "localhost").len(), 2);
        let resolv = "nameserver 10.0.0.2\nnameserver ::1\nsearch a.b c.d\n";
        assert_eq!(servers(resolv).len(), 2);
        assert_eq!(candidates(resolv, "logs"), ["logs.a.b", "logs.c.d", "logs"]);
        assert_eq!(
            candidates(resolv, "logs.x"),
            ["logs.x", "logs.x.a.b", "logs.x.c.d"]
        );
        assert_eq!(
            lookup("::1").expect("an address"),
            [IpAddr::from(Ipv6Addr::LOCALHOST)]
        );
    }
}
