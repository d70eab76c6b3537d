//! The text of `/etc/hosts` and `/etc/hostname`, and what a request says of `/etc/resolv.conf`.
//!
//! Everything a user gives ends on one line or is refused: a newline in a host name must not add an entry.

use std::fmt::Write as _;
use std::net::IpAddr;

use havre_api_traits::ApiError;
use havre_dns::resolvconf::Overrides;
use havre_engine_types::HostConfig;

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

/// `/etc/hosts`: the loopback block, then `--add-host`, linked containers, the container itself.
pub(crate) fn hosts(extra: &[String], networks: &HostsFile) -> Result<String, ApiError> {
    let mut text = LOCAL.to_owned();
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

/// What `--dns`, `--dns-search` and `--dns-option` say. The first two refusals are the docker command line's.
/// <https://github.com/moby/moby/blob/master/daemon/pkg/opts/opts.go> (`ValidateIPAddress`, `ValidateDNSSearch`)
pub(crate) fn dns(host: &HostConfig) -> Result<Overrides, ApiError> {
    let mut name_servers = Vec::new();
    for server in host.dns.iter().flatten() {
        let address = server.parse::<IpAddr>().map_err(|_not_an_address| {
            ApiError::invalid(format!("IP address is not correctly formatted: {server:?}"))
        })?;
        name_servers.push(address);
    }
    let words = |given: &Option<Vec<String>>, what: &str| {
        let list = given.clone().unwrap_or_default();
        match list.iter().find(|word| !is_one_word(word)) {
            Some(wrong) => Err(ApiError::invalid(format!(
                "{wrong:?} is not a valid {what}"
            ))),
            None => Ok(list),
        }
    };
    Ok(Overrides {
        name_servers,
        search: words(&host.dns_search, "domain")?,
        options: words(&host.dns_options, "DNS option")?,
    })
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
            &["db:10.0.0.1".to_owned(), "six:[::2]".to_owned()],
            &HostsFile::default(),
        )
        .unwrap();
        insta::assert_snapshot!(text);
        assert_eq!(hostname("box"), "box\n");
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
                hosts(&[hostile.to_owned()], &HostsFile::default()).is_err(),
                "{hostile:?}"
            );
        }
        for hostile in ["x\nnameserver 6.6.6.6", "a b", "1.1.1.1\n", ""] {
            let given = Some(vec![hostile.to_owned()]);
            let none = HostConfig::default;
            for host in [
                HostConfig {
                    dns: given.clone(),
                    ..none()
                },
                HostConfig {
                    dns_search: given.clone(),
                    ..none()
                },
                HostConfig {
                    dns_options: given.clone(),
                    ..none()
                },
            ] {
                dns(&host).unwrap_err();
            }
        }
        let long = "a".repeat(65);
        for hostile in ["a\nb", "a b", "a\u{2028}b", long.as_str()] {
            check_hostname("hostname", hostile).unwrap_err();
        }
        check_hostname("hostname", "web-1.example").unwrap();
    }
}
