//! Which servers are asked for a repository, and in which order.

use crate::config::Config;
use crate::url::{Origin, Scheme, Url};

/// Docker Hub's name in references and its server.
const HUB: &str = "docker.io";
const HUB_SERVER: &str = "registry-1.docker.io";

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) origin: Origin,
    /// What comes before `v2/` in a path: `/` but for some mirrors.
    pub(crate) prefix: String,
    /// Whether a certificate must prove who it is. Without, redirects to plain text are fine too.
    pub(crate) verify: bool,
    /// A mirror never gets the registry's credentials.
    pub(crate) mirror: bool,
}

impl Endpoint {
    pub(crate) fn url(&self, path: &str) -> Url {
        Url::new(&self.origin, format!("{}v2/{path}", self.prefix))
    }
}

/// The servers for a registry. Plain text comes last, and only where it is allowed.
pub(crate) fn endpoints(domain: &str, mirrors: &[Url], config: &Config) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    let server = if domain == HUB { HUB_SERVER } else { domain };
    if domain == HUB {
        endpoints.extend(mirrors.iter().map(|mirror| Endpoint {
            origin: mirror.origin.clone(),
            prefix: mirror.target.clone(),
            verify: !config.is_insecure(&mirror.origin.authority()),
            mirror: true,
        }));
    }
    let insecure = config.is_insecure(server);
    let schemes: &[Scheme] = if insecure {
        &[Scheme::Https, Scheme::Http]
    } else {
        &[Scheme::Https]
    };
    for scheme in schemes {
        if let Some(origin) = Origin::parse(*scheme, server) {
            let prefix = "/".to_owned();
            endpoints.push(Endpoint {
                origin,
                prefix,
                verify: !insecure,
                mirror: false,
            });
        }
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(domain: &str, config: &Config) -> Vec<String> {
        let mirrors = config.mirror_urls().unwrap();
        let show = |endpoint: Endpoint| {
            format!("{} verify={}", endpoint.url("x/tags/list"), endpoint.verify)
        };
        endpoints(domain, &mirrors, config)
            .into_iter()
            .map(show)
            .collect()
    }

    #[test]
    fn plain_text_is_for_exceptions_and_mirrors_for_the_hub() {
        let config = Config {
            mirrors: vec!["https://m.example/hub".to_owned()],
            ..Config::default()
        };
        assert_eq!(
            show("docker.io", &config),
            [
                "https://m.example/hub/v2/x/tags/list verify=true",
                "https://registry-1.docker.io/v2/x/tags/list verify=true"
            ]
        );
        assert_eq!(
            show("example.org:5", &config),
            ["https://example.org:5/v2/x/tags/list verify=true"]
        );
        assert_eq!(
            show("127.0.0.1:5000", &config),
            [
                "https://127.0.0.1:5000/v2/x/tags/list verify=false",
                "http://127.0.0.1:5000/v2/x/tags/list verify=false"
            ]
        );
    }
}
