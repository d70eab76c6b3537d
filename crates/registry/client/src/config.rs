//! How registries are reached: mirrors, plain-text exceptions, certificates, patience.

use crate::url::{Scheme, Url};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// How often and how patiently a failed request is made again.
#[derive(Clone, Debug)]
pub struct Retries {
    /// Failures in a row, without a byte of progress between them, that end a transfer.
    pub in_a_row: u32,
    /// All failures of one transfer, with or without progress.
    pub total: u32,
    /// The first wait; each further one is twice as long.
    pub first_wait: Duration,
    /// No wait is longer, not even one that the server asks for.
    pub longest_wait: Duration,
    /// A connection that brings nothing for so long counts as broken.
    pub stall: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            in_a_row: 5,
            total: 200,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(60),
            stall: Duration::from_secs(30),
        }
    }
}

/// The configuration of a client.
#[derive(Clone, Debug)]
pub struct Config {
    /// Registries that may be spoken to without TLS or with any certificate: `host`, `host:port`, or
    /// a network as `10.0.0.0/8`. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
    /// URLs that are asked before Docker Hub.
    pub mirrors: Vec<String>,
    /// Directories with a folder `host:port` for a registry's own certificates.
    pub certificates: Vec<PathBuf>,
    /// Hosts of token servers that may get a registry's credentials, beside the registry itself and
    /// a domain that it is part of: pairs of registry host and token host.
    pub token_servers: Vec<(String, String)>,
    /// How many layers are fetched at the same time.
    pub concurrent_downloads: usize,
    /// Patience.
    pub retries: Retries,
    /// What the client calls itself.
    pub user_agent: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            mirrors: Vec::new(),
            certificates: vec![PathBuf::from("/etc/docker/certs.d")],
            token_servers: vec![(
                "registry-1.docker.io".to_owned(),
                "auth.docker.io".to_owned(),
            )],
            concurrent_downloads: 3,
            retries: Retries::default(),
            user_agent: format!("havre/{}", env!("CARGO_PKG_VERSION")),
        }
    }
}

/// A configuration that makes no sense.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A mirror is no URL.
    #[error("invalid registry mirror `{url}`: it must be http://host or https://host")]
    Mirror {
        /// What stands in the configuration.
        url: String,
    },
    /// An exception is neither a host nor a network.
    #[error("invalid insecure registry `{entry}`")]
    Insecure {
        /// What stands in the configuration.
        entry: String,
    },
    /// The system's certificates cannot be used at all.
    #[error("failed to set up TLS")]
    Tls {
        /// Why.
        source: rustls::Error,
    },
}

impl Config {
    /// The mirrors, with a slash at their end.
    pub(crate) fn mirror_urls(&self) -> Result<Vec<Url>, ConfigError> {
        let parse = |url: &String| {
            let mut parsed =
                Url::parse(url).ok_or_else(|| ConfigError::Mirror { url: url.clone() })?;
            if !parsed.target.ends_with('/') {
                parsed.target.push('/');
            }
            Ok(parsed)
        };
        self.mirrors.iter().map(parse).collect()
    }

    /// Checks the exceptions.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |entry: &&String| entry.contains('/') && network(entry).is_none();
        match self.insecure_registries.iter().find(wrong) {
            Some(entry) => Err(ConfigError::Insecure {
                entry: entry.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Whether a registry, `host` or `host:port`, may be spoken to without proof of who it is.
    pub(crate) fn is_insecure(&self, registry: &str) -> bool {
        let Some(origin) = crate::url::Origin::parse(Scheme::Https, registry) else {
            return false;
        };
        let address: Option<IpAddr> = origin.host.parse().ok();
        if origin.host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.insecure_registries
            .iter()
            .any(|entry| match network(entry) {
                Some((network, bits)) => {
                    address.is_some_and(|address| covers(network, bits, address))
                }
                None => {
                    entry.eq_ignore_ascii_case(registry) || entry.eq_ignore_ascii_case(&origin.host)
                }
            })
    }
}

fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = entry.split_once('/')?;
    let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (bits <= longest).then_some((address, bits))
}

fn covers(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or_default();
            let cut = |address: Ipv4Addr| u32::from(address) & mask;
            cut(network) == cut(address)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or_default();
            let cut = |address: Ipv6Addr| u128::from(address) & mask;
            cut(network) == cut(address)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_registries_and_loopback_are_insecure() {
        let config = Config {
            insecure_registries: ["plain.example:5000", "10.1.0.0/16", "whole.example"]
                .map(str::to_owned)
                .to_vec(),
            ..Config::default()
        };
        for registry in [
            "127.0.0.1:5000",
            "127.9.9.9",
            "localhost:1",
            "[::1]:5000",
            "plain.example:5000",
            "10.1.2.3:5",
            "whole.example:8",
        ] {
            assert!(config.is_insecure(registry), "{registry}");
        }
        for registry in [
            "plain.example",
            "plain.example:5001",
            "10.2.0.1",
            "docker.io",
            "localhost.example",
        ] {
            assert!(!config.is_insecure(registry), "{registry}");
        }
    }

    #[test]
    fn wrong_entries_are_named() {
        let config = Config {
            mirrors: vec!["mirror".to_owned()],
            ..Config::default()
        };
        assert!(
            config
                .mirror_urls()
                .unwrap_err()
                .to_string()
                .contains("`mirror`")
        );
        let config = Config {
            insecure_registries: vec!["10.0.0.0/33".to_owned()],
            ..Config::default()
        };
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("10.0.0.0/33")
        );
    }
}
