//! Getting let in: which credentials answer a challenge, and where they may be sent.
//!
//! Basic: <https://www.rfc-editor.org/rfc/rfc7617>. Tokens:
//! <https://distribution.github.io/distribution/spec/auth/token/>.

use crate::challenge::Challenge;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::transport::TransportError;
use crate::url::{Origin, Scheme, Url, encode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use havre_types::{Classify, ErrorKind};
use hyper::header::HeaderValue;
use serde::Deserialize;
use std::fmt;
use thiserror::Error;

/// Credentials for one registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name; empty when only a token is known.
    pub username: String,
    /// Password.
    pub password: String,
    /// Refresh token of OAuth 2; outweighs the password.
    pub identity_token: String,
    /// A bearer token to send as it is; outweighs everything.
    pub registry_token: String,
}

impl fmt::Debug for Credentials {
    /// Secrets never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    fn basic(&self) -> Option<HeaderValue> {
        if self.username.is_empty() || self.password.is_empty() {
            return None;
        }
        secret(&format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{}", self.username, self.password))
        ))
    }
}

/// Why we are not let in.
#[derive(Debug, Error)]
pub enum AuthError {
    /// The registry wants a password. The text is Docker's.
    #[error("no basic auth credentials")]
    NoCredentials,
    /// It wants something else.
    #[error("the registry offers no way to authenticate that is known here")]
    NoKnownScheme,
    /// The token server is somebody else's.
    #[error("token server `{realm}` is not trusted with the credentials for `{registry}`")]
    ForeignRealm {
        /// The token server.
        realm: String,
        /// The registry.
        registry: String,
    },
    /// It is no URL, or in plain text.
    #[error("token server `{realm}` is no https URL")]
    Realm {
        /// What the registry said.
        realm: String,
    },
    /// The token server could not be asked.
    #[error("failed to fetch token from `{realm}`")]
    Unreached {
        /// The token server.
        realm: String,
        /// Why.
        source: TransportError,
    },
    /// The token server refused.
    #[error("failed to fetch token from `{realm}`: status {status}")]
    Refused {
        /// The token server.
        realm: String,
        /// The status code.
        status: u16,
    },
    /// Its answer has no token.
    #[error("token server `{realm}` sent no token")]
    NoToken {
        /// The token server.
        realm: String,
    },
}

impl AuthError {
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreached { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::NoCredentials
            | Self::NoKnownScheme
            | Self::ForeignRealm { .. }
            | Self::Realm { .. }
            | Self::NoToken { .. } => false,
        }
    }
}

impl Classify for AuthError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCredentials => ErrorKind::Unauthorized,
            Self::ForeignRealm { .. } => ErrorKind::Forbidden,
            Self::Refused {
                status: 401 | 403, ..
            } => ErrorKind::Unauthorized,
            Self::Unreached { .. } | Self::Refused { .. } => ErrorKind::Unavailable,
            Self::NoKnownScheme | Self::Realm { .. } | Self::NoToken { .. } => ErrorKind::Unknown,
        }
    }
}

/// How a challenge is answered.
#[derive(Debug)]
pub(crate) enum Plan {
    /// With this header.
    Header(HeaderValue),
    /// With a token that has to be fetched.
    Token(TokenRequest),
}

/// A request for a token.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    pub(crate) realm: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) url: Url,
    pub(crate) authorization: Option<HeaderValue>,
    /// Sent by POST when there is one.
    pub(crate) form: Option<String>,
}

/// Decides how to answer the challenges of a registry. Bearer is preferred to Basic.
pub(crate) fn plan(
    challenges: &[Challenge],
    endpoint: &Endpoint,
    repository: &str,
    credentials: Option<&Credentials>,
    config: &Config,
) -> Result<Plan, AuthError> {
    let of = |scheme: &str| {
        challenges
            .iter()
            .find(|challenge| challenge.scheme == scheme)
    };
    if let Some(bearer) = of("bearer") {
        let own = credentials
            .map(|own| own.registry_token.as_str())
            .filter(|own| !own.is_empty());
        if let Some(header) = own.and_then(|token| secret(&format!("Bearer {token}"))) {
            return Ok(Plan::Header(header));
        }
        return token_request(bearer, endpoint, repository, credentials, config).map(Plan::Token);
    }
    if of("basic").is_some() {
        let header = credentials.and_then(Credentials::basic);
        return header.map(Plan::Header).ok_or(AuthError::NoCredentials);
    }
    Err(AuthError::NoKnownScheme)
}

fn token_request(
    challenge: &Challenge,
    endpoint: &Endpoint,
    repository: &str,
    credentials: Option<&Credentials>,
    config: &Config,
) -> Result<TokenRequest, AuthError> {
    let realm = challenge
        .parameters
        .get("realm")
        .cloned()
        .unwrap_or_default();
    let Some(mut url) = Url::parse(&realm) else {
        return Err(AuthError::Realm { realm });
    };
    let same = url.origin == endpoint.origin;
    if url.origin.scheme == Scheme::Http && !same {
        return Err(AuthError::Realm { realm });
    }
    let service = challenge
        .parameters
        .get("service")
        .map_or("", String::as_str);
    // Without a repository it is a login: no right is asked for, but a token that can be kept.
    let login = repository.is_empty();
    let scope = format!("repository:{repository}:pull");
    let mut authorization = None;
    let mut form = None;
    let known = credentials.filter(|own| own.basic().is_some() || !own.identity_token.is_empty());
    if let Some(known) = known {
        if !is_trusted(&url.origin, &endpoint.origin, config) {
            let registry = endpoint.origin.authority();
            return Err(AuthError::ForeignRealm { realm, registry });
        }
        if known.identity_token.is_empty() {
            authorization = known.basic();
        } else {
            let scope = if login {
                String::new()
            } else {
                format!("&scope={}", encode(&scope))
            };
            form = Some(format!(
                "grant_type=refresh_token&service={}{scope}&client_id=havre&refresh_token={}",
                encode(service),
                encode(&known.identity_token),
            ));
        }
    }
    if form.is_none() {
        let joint = if url.target.contains('?') { '&' } else { '?' };
        let wanted = if login {
            "offline_token=true&client_id=havre".to_owned()
        } else {
            format!("scope={}", encode(&scope))
        };
        url.target = format!("{}{joint}service={}&{wanted}", url.target, encode(service));
    }
    let endpoint = Endpoint {
        origin: url.origin.clone(),
        prefix: "/".to_owned(),
        verify: !same || endpoint.verify,
        mirror: endpoint.mirror,
    };
    Ok(TokenRequest {
        realm,
        endpoint,
        url,
        authorization,
        form,
    })
}

/// The registry itself, a domain it is part of, or a pair that the configuration names.
fn is_trusted(realm: &Origin, registry: &Origin, config: &Config) -> bool {
    if realm == registry {
        return true;
    }
    if realm.scheme != Scheme::Https || registry.scheme != Scheme::Https {
        return false;
    }
    let parent = realm.host.contains('.')
        && realm.port == registry.port
        && registry
            .host
            .strip_suffix(&realm.host)
            .is_some_and(|rest| rest.ends_with('.'));
    let named = |(of, token): &(String, String)| {
        let of = Origin::parse(Scheme::Https, of);
        let token = Origin::parse(Scheme::Https, token);
        of.as_ref() == Some(registry) && token.as_ref() == Some(realm)
    };
    parent || config.token_servers.iter().any(named)
}

/// What a token server grants.
#[derive(Debug)]
pub(crate) struct Granted {
    /// The header to send.
    pub(crate) header: HeaderValue,
    /// A token that may stand for the password.
    pub(crate) identity: Option<String>,
}

/// Reads a token server's answer.
pub(crate) fn read_token(realm: &str, body: &[u8]) -> Result<Granted, AuthError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Answer {
        token: String,
        access_token: String,
        refresh_token: String,
    }
    let none = || AuthError::NoToken {
        realm: realm.to_owned(),
    };
    let answer: Answer = serde_json::from_slice(body).map_err(|_malformed| none())?;
    let token = if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    };
    if token.is_empty() {
        return Err(none());
    }
    let header = secret(&format!("Bearer {token}")).ok_or_else(none)?;
    let identity = Some(answer.refresh_token).filter(|token| !token.is_empty());
    Ok(Granted { header, identity })
}

/// A header that hyper and its logs treat as a secret.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge;

    fn endpoint(url: &str) -> Endpoint {
        let origin = Url::parse(url).unwrap().origin;
        Endpoint {
            origin,
            prefix: "/".to_owned(),
            verify: true,
            mirror: false,
        }
    }

    fn known() -> Credentials {
        let (username, password) = ("u".to_owned(), "p".to_owned());
        Credentials {
            username,
            password,
            ..Credentials::default()
        }
    }

    fn decide(registry: &str, header: &str, own: Option<&Credentials>) -> String {
        let config = Config::default();
        let challenges = challenge::parse(header);
        match plan(&challenges, &endpoint(registry), "a/b", own, &config) {
            Ok(Plan::Header(header)) => header.to_str().unwrap().to_owned(),
            Ok(Plan::Token(request)) => {
                let secret = request.authorization.is_some();
                format!(
                    "{} {secret} {}",
                    request.url,
                    request.form.unwrap_or_default()
                )
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn credentials_go_to_their_own_registry_only() {
        let hub = "https://registry-1.docker.io";
        let query = "?service=s&scope=repository%3Aa%2Fb%3Apull";
        let bearer = |realm: &str| format!("Bearer realm=\"{realm}\",service=\"s\"");
        let own = known();
        for (registry, realm, expected) in [
            (
                hub,
                "https://auth.docker.io/token",
                format!("https://auth.docker.io/token{query} true "),
            ),
            (
                "https://r.example",
                "https://r.example/t",
                format!("https://r.example/t{query} true "),
            ),
            (
                "https://r.example",
                "https://example/t",
                "not trusted".to_owned(),
            ),
            (
                "https://r.git.example",
                "https://git.example/t",
                format!("https://git.example/t{query} true "),
            ),
            (
                "https://r.example:5",
                "https://r.example/t",
                "not trusted".to_owned(),
            ),
            (
                "https://r.example",
                "https://evil.example/t",
                "not trusted".to_owned(),
            ),
            (
                "https://r.example",
                "https://evilr.example/t",
                "not trusted".to_owned(),
            ),
            (
                "https://r.example",
                "http://r.example/t",
                "no https URL".to_owned(),
            ),
            (
                "http://127.0.0.1:5",
                "http://127.0.0.1:5/t",
                format!("http://127.0.0.1:5/t{query} true "),
            ),
            (
                "http://127.0.0.1:5",
                "http://127.0.0.1:6/t",
                "no https URL".to_owned(),
            ),
            (
                "http://127.0.0.1:5",
                "https://127.0.0.1:5/t",
                "not trusted".to_owned(),
            ),
        ] {
            let found = decide(registry, &bearer(realm), Some(&own));
            assert!(found.contains(&expected), "{registry} {realm}: {found}");
        }
        let anonymous = decide("https://r.example", &bearer("https://evil.example/t"), None);
        assert_eq!(anonymous, format!("https://evil.example/t{query} false "));
    }

    #[test]
    fn each_kind_of_credential_has_its_way() {
        let basic = "Basic realm=x";
        assert_eq!(
            decide("https://r.example", basic, Some(&known())),
            "Basic dTpw"
        );
        assert_eq!(
            decide("https://r.example", basic, None),
            "no basic auth credentials"
        );
        let bearer = "Bearer realm=\"https://r.example/t\",service=\"s\"";
        let token = Credentials {
            registry_token: "abc".to_owned(),
            ..Credentials::default()
        };
        assert_eq!(
            decide("https://r.example", bearer, Some(&token)),
            "Bearer abc"
        );
        let identity = Credentials {
            identity_token: "a&b".to_owned(),
            ..known()
        };
        let request = decide("https://r.example", bearer, Some(&identity));
        assert!(
            request.starts_with("https://r.example/t false grant_type=refresh_token"),
            "{request}"
        );
        assert!(request.ends_with("refresh_token=a%26b"), "{request}");
        assert!(decide("https://r.example", "Negotiate", None).contains("no way"));
        assert!(!format!("{:?}", known()).contains('p'.to_string().repeat(2).as_str()));
        assert!(format!("{:?}", known()).contains("username"));
    }

    #[test]
    fn a_token_has_two_names() {
        for body in [r#"{"token":"t"}"#, r#"{"access_token":"t","expires_in":5}"#] {
            assert_eq!(
                read_token("r", body.as_bytes())
                    .unwrap()
                    .header
                    .to_str()
                    .unwrap(),
                "Bearer t"
            );
        }
        for body in ["{}", "", r#"{"token":"a\nb"}"#] {
            read_token("r", body.as_bytes()).unwrap_err();
        }
    }
}
