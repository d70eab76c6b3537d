//! The text of `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
//!
//! Everything a user gives ends on one line or is refused: a newline in a host name must not add an entry.

use std::fmt::Write as _;
use std::net::IpAddr;

use havre_api_traits::ApiError;

const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                     ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// What networks add to `/etc/hosts`.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostsFile {
    /// What `host-gateway` stands for.
    pub host_gateway: Vec<IpAddr>,
    /// Addresses of linked containers, each with its names.
    pub linked: Vec<(IpAddr, String)>,
    /// The container's own addresses, each with its names.
    pub own: Vec<(IpAddr, String)>,
}

/// `/etc/hosts`: the loopback block, or the host's own file on the host network, then `--add-host`, linked containers,
/// the container itself.
pub(crate) fn hosts(
    host_network: Option<&str>,
    extra: &[String],
    networks: &HostsFile,
) -> Result<String, ApiError> {
    let mut text = host_network.unwrap_or(LOCAL).to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in extra {
        let (name, address) = entry
            .split_once([':', '='])
            .filter(|(name, _)| is_one_word(name))
            .ok_or_else(|| ApiError::invalid(format!("bad format for add-host: {entry:?}")))?;
        if address == "host-gateway" {
            if networks.host_gateway.is_empty() {
                return Err(ApiError::internal(
                    "unable to derive the IP value for host-gateway",
                ));
            }
            for gateway in &networks.host_gateway {
                // Writing to a String cannot fail.
                writeln!(text, "{gateway}\t{name}").ok();
            }
            continue;
        }
        let bare = address
            .strip_prefix('[')
            .and_then(|a| a.strip_suffix(']'))
            .unwrap_or(address);
        let address: IpAddr = bare.parse().map_err(|_not_an_address| {
            ApiError::invalid(format!("invalid IP address in add-host: {address:?}"))
        })?;
        // Writing to a String cannot fail.
        writeln!(text, "{address}\t{name}").ok();
    }
    for (address, names) in networks.linked.iter().chain(&networks.own) {
        writeln!(text, "{address}\t{names}").ok();
    }
    Ok(text)
}

pub(crate) fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// What `--dns`, `--dns-search` and `--dns-option` say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dns<'a> {
    pub servers: &'a [String],
    pub search: &'a [String],
    pub options: &'a [String],
}

/// `/etc/resolv.conf`: the host's, each kind of line replaced by what the request gives.
pub(crate) fn resolv_conf(host: &str, dns: Dns<'_>) -> Result<String, ApiError> {
    if dns.servers.is_empty() && dns.search.is_empty() && dns.options.is_empty() {
        return Ok(host.to_owned());
    }
    for server in dns.servers {
        if server.parse::<IpAddr>().is_err() {
            return Err(ApiError::invalid(format!("{server} is not an ip address")));
        }
    }
    for word in dns.search.iter().chain(dns.options) {
        if !is_one_word(word) {
            return Err(ApiError::invalid(format!(
                "{word:?} is not a valid domain or option"
            )));
        }
    }
    let mut text = String::new();
    let kinds = [
        ("nameserver", dns.servers),
        ("search", dns.search),
        ("options", dns.options),
    ];
    for (kind, given) in kinds {
        if given.is_empty() {
            for line in host
                .lines()
                .filter(|line| line.split_whitespace().next() == Some(kind))
            {
                writeln!(text, "{line}").ok();
            }
        } else if kind == "nameserver" {
            for server in given {
                writeln!(text, "nameserver {server}").ok();
            }
        } else if given != ["."] {
            writeln!(text, "{kind} {}", given.join(" ")).ok();
        }
    }
    Ok(text)
}

/// Refuses host names which would not fit or would add a line somewhere.
/// The kernel's limit is `__NEW_UTS_LEN`, 64: <https://man7.org/linux/man-pages/man2/sethostname.2.html>.
pub(crate) fn check_hostname(what: &str, name: &str) -> Result<(), ApiError> {
    if name.len() > 64 {
        return Err(ApiError::invalid(format!(
            "{what} {name:?} is too long (maximum 64 bytes)"
        )));
    }
    if name.is_empty() || is_one_word(name) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "invalid {what} format: {name:?}"
    )))
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '#')
        && !text.contains(['\u{2028}', '\u{2029}', '\u{85}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_as_dockers() {
        let text = hosts(
            None,
            &["db:10.0.0.1".to_owned(), "six:[::2]".to_owned()],
            &HostsFile::default(),
        )
        .unwrap();
        insta::assert_snapshot!(text);
        assert_eq!(hostname("box"), "box\n");
    }

    #[test]
    fn a_request_replaces_its_own_kind_of_line_only() {
        let host = "# made by hand\nnameserver 9.9.9.9\nsearch home\noptions ndots:2\n";
        assert_eq!(resolv_conf(host, Dns::default()).unwrap(), host);
        let servers = ["1.1.1.1".to_owned()];
        let dns = Dns {
            servers: &servers,
            ..Dns::default()
        };
        assert_eq!(
            resolv_conf(host, dns).unwrap(),
            "nameserver 1.1.1.1\nsearch home\noptions ndots:2\n"
        );
    }

    #[test]
    fn no_text_adds_a_line() {
        for hostile in [
            "a\n1.2.3.4 b:1.1.1.1",
            "a b:1.1.1.1",
            ":1.1.1.1",
            "a",
            "a:1.1.1.1\n",
            "a:x",
        ] {
            assert!(
                hosts(None, &[hostile.to_owned()], &HostsFile::default()).is_err(),
                "{hostile:?}"
            );
        }
        for hostile in ["x\nnameserver 6.6.6.6", "a b", ""] {
            let given = [hostile.to_owned()];
            resolv_conf(
                "",
                Dns {
                    search: &given,
                    ..Dns::default()
                },
            )
            .unwrap_err();
            resolv_conf(
                "",
                Dns {
                    servers: &given,
                    ..Dns::default()
                },
            )
            .unwrap_err();
        }
        let long = "a".repeat(65);
        for hostile in ["a\nb", "a b", "a\u{2028}b", long.as_str()] {
            check_hostname("hostname", hostile).unwrap_err();
        }
        check_hostname("hostname", "web-1.example").unwrap();
    }
}
