//! Requests to one server for one repository: authorised, redirected, and made again if need be.

use crate::auth::{self, AuthError, Credentials, Granted, Plan, TokenRequest};
use crate::challenge;
use crate::config::{Config, Retries};
use crate::endpoint::Endpoint;
use crate::error::{RegistryAnswer, RequestError};
use crate::transport::Transport;
use crate::url::{Scheme, Url};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, RANGE,
    RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response};
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// How many redirects one request follows.
const REDIRECTS: usize = 10;
/// Longest answer of a token server, and of a refusal.
const SMALL: u64 = 1 << 20;

/// What is wanted of a URL.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish<'a> {
    /// Media types.
    pub(crate) accept: &'a str,
    /// The first byte.
    pub(crate) from: u64,
}

/// One server and one repository.
#[derive(Debug)]
pub(crate) struct Session {
    transport: Arc<Transport>,
    config: Arc<Config>,
    endpoint: Endpoint,
    repository: String,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<HeaderValue>>,
    /// What the token server gave for the password.
    identity: Mutex<Option<String>>,
}

impl Session {
    pub(crate) fn new(
        transport: Arc<Transport>,
        config: Arc<Config>,
        endpoint: Endpoint,
        repository: &str,
        credentials: Option<&Credentials>,
    ) -> Self {
        let credentials = credentials.filter(|_| !endpoint.mirror).cloned();
        let (repository, authorization) = (repository.to_owned(), Mutex::new(None));
        Self {
            transport,
            config,
            endpoint,
            repository,
            credentials,
            authorization,
            identity: Mutex::new(None),
        }
    }

    /// The token that may stand for the password from now on.
    pub(crate) fn identity_token(&self) -> Option<String> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        identity.take()
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn retries(&self) -> &Retries {
        &self.config.retries
    }

    /// `…/v2/<repository>/<rest>`.
    pub(crate) fn url(&self, rest: &str) -> Url {
        self.endpoint.url(&format!("{}/{rest}", self.repository))
    }

    /// A small answer, whole; made again when it fails in passing.
    pub(crate) async fn get(
        &self,
        url: &Url,
        accept: &str,
        limit: u64,
    ) -> Result<(HeaderMap, Bytes), RequestError> {
        let mut failures = 0;
        loop {
            let error = match self.get_once(url, accept, limit).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            // Nobody behind the address now means nobody in a second: another server is next.
            if error.is_unreached() || !error.is_passing() || failures >= self.retries().in_a_row {
                return Err(error);
            }
            pause(wait_before(failures, &error, self.retries())).await;
        }
    }

    async fn get_once(
        &self,
        url: &Url,
        accept: &str,
        limit: u64,
    ) -> Result<(HeaderMap, Bytes), RequestError> {
        let (parts, body) = self.open(url, Wish { accept, from: 0 }).await?.into_parts();
        let body = read_body(body, &url.to_string(), limit, self.retries().stall).await?;
        Ok((parts.headers, body))
    }

    /// The answer to a GET, with its body still to come: status 200 or 206.
    pub(crate) async fn open(
        &self,
        url: &Url,
        wish: Wish<'_>,
    ) -> Result<Response<Incoming>, RequestError> {
        let mut at = url.clone();
        let mut authorised = false;
        let mut redirects = 0;
        loop {
            let response = self.send(&at, wish).await?;
            let status = response.status().as_u16();
            match status {
                200 | 206 => return Ok(response),
                401 if !authorised && at.origin == self.endpoint.origin => {
                    authorised = true;
                    self.authorise(&at, response.headers()).await?;
                }
                301 | 302 | 303 | 307 | 308 => {
                    redirects += 1;
                    at = self.follow(&at, response.headers(), redirects)?;
                }
                _ => return Err(refusal(&at, response, self.retries().stall).await),
            }
        }
    }

    async fn send(&self, url: &Url, wish: Wish<'_>) -> Result<Response<Incoming>, RequestError> {
        let mut headers = HeaderMap::new();
        if let Ok(accept) = HeaderValue::from_str(wish.accept)
            && !wish.accept.is_empty()
        {
            headers.insert(ACCEPT, accept);
        }
        // Without the header a server sends everything, and the reader passes over the beginning.
        if wish.from > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", wish.from))
        {
            headers.insert(RANGE, range);
        }
        // The one place where credentials meet a request: never beyond their own origin.
        if url.origin == self.endpoint.origin {
            let known = self
                .authorization
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if let Some(authorization) = known {
                headers.insert(AUTHORIZATION, authorization);
            }
        }
        let endpoint = self.endpoint_of(url);
        self.exchange(&endpoint, Method::GET, url, headers, Bytes::new())
            .await
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, RequestError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let unusable = || RequestError::Redirect {
            url: url.to_string(),
            location: url.to_string(),
        };
        *request.uri_mut() = url.target.parse().map_err(|_invalid| unusable())?;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(&url.origin.authority()).map_err(|_invalid| unusable())?;
        request.headers_mut().insert(HOST, host);
        if let Ok(agent) = HeaderValue::from_str(&self.config.user_agent) {
            request.headers_mut().insert(USER_AGENT, agent);
        }
        self.transport
            .send(endpoint, request)
            .await
            .map_err(|source| {
                // Docker names the page it asks first when a server cannot be reached at all.
                let unreached = source.is_unreached() && url.origin == self.endpoint.origin;
                let url = if unreached {
                    self.endpoint.url("")
                } else {
                    url.clone()
                };
                RequestError::Transport {
                    url: url.to_string(),
                    source: Box::new(source),
                }
            })
    }

    /// How the server of a URL is spoken to: one that is not the registry must prove who it is,
    /// unless the registry itself need not.
    fn endpoint_of(&self, url: &Url) -> Endpoint {
        Endpoint {
            origin: url.origin.clone(),
            ..self.endpoint.clone()
        }
    }

    fn follow(&self, from: &Url, headers: &HeaderMap, count: usize) -> Result<Url, RequestError> {
        let location = headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let refused = || RequestError::Redirect {
            url: from.to_string(),
            location: location.to_owned(),
        };
        let to = from
            .join(location)
            .filter(|_| count <= REDIRECTS)
            .ok_or_else(refused)?;
        let downgrade = from.origin.scheme == Scheme::Https && to.origin.scheme == Scheme::Http;
        if downgrade && self.endpoint.verify {
            return Err(refused());
        }
        Ok(to)
    }

    // === getting let in ===

    async fn authorise(&self, url: &Url, headers: &HeaderMap) -> Result<(), RequestError> {
        let failed = |source| RequestError::Auth {
            url: url.to_string(),
            source: Box::new(source),
        };
        let challenges: Vec<_> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let own = self.credentials.as_ref();
        let plan = auth::plan(
            &challenges,
            &self.endpoint,
            &self.repository,
            own,
            &self.config,
        );
        let header = match plan.map_err(failed)? {
            Plan::Header(header) => header,
            Plan::Token(request) => self.fetch_token(request).await.map_err(failed)?,
        };
        *self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(header);
        Ok(())
    }

    async fn fetch_token(&self, request: TokenRequest) -> Result<HeaderValue, AuthError> {
        let TokenRequest {
            realm,
            endpoint,
            url,
            authorization,
            form,
        } = request;
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let method = if form.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        if form.is_some() {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, kind);
        }
        let body = Bytes::from(form.unwrap_or_default());
        // A redirect of a token server is not followed: nobody needs one, and it carries secrets.
        let response = match self.exchange(&endpoint, method, &url, headers, body).await {
            Ok(response) => response,
            Err(RequestError::Transport { source, .. }) => {
                return Err(AuthError::Unreached {
                    realm,
                    source: *source,
                });
            }
            Err(_unusable) => return Err(AuthError::Realm { realm }),
        };
        let status = response.status().as_u16();
        if status != 200 {
            return Err(AuthError::Refused { realm, status });
        }
        let body = read_body(response.into_body(), &realm, SMALL, self.retries().stall).await;
        let body = body.map_err(|_broken| AuthError::NoToken {
            realm: realm.clone(),
        })?;
        let Granted { header, identity } = auth::read_token(&realm, &body)?;
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(header)
    }
}

/// What a refusal says.
async fn refusal(url: &Url, response: Response<Incoming>, patience: Duration) -> RequestError {
    let status = response.status().as_u16();
    let after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let retry_after = after
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    let url = url.to_string();
    let body = read_body(response.into_body(), &url, SMALL, patience)
        .await
        .unwrap_or_default();
    match RegistryAnswer::parse(&body) {
        Some(answer) => RequestError::Refused {
            status,
            answer,
            retry_after,
        },
        None => RequestError::Status {
            url,
            status,
            retry_after,
        },
    }
}

/// Reads a body whole, up to a limit.
async fn read_body(
    mut body: Incoming,
    url: &str,
    limit: u64,
    patience: Duration,
) -> Result<Bytes, RequestError> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = next_piece(&mut body, url, patience).await? {
        let actual = bytes.len() as u64 + piece.len() as u64;
        if actual > limit {
            return Err(RequestError::Length {
                url: url.to_owned(),
                expected: limit,
                actual,
            });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// The next piece of a body; `None` at its end. A body that brings nothing for too long is broken.
pub(crate) async fn next_piece(
    body: &mut Incoming,
    url: &str,
    patience: Duration,
) -> Result<Option<Bytes>, RequestError> {
    let broken = |source| RequestError::Body {
        url: url.to_owned(),
        source,
    };
    loop {
        let frame = timeout(patience, body.frame())
            .await
            .map_err(|_elapsed| broken(None))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(Some(error))),
            // Trailers say nothing that is needed.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
        }
    }
}

/// How long to wait before the next try.
pub(crate) fn wait_before(failures: u32, error: &RequestError, retries: &Retries) -> Duration {
    let doubled = retries
        .first_wait
        .saturating_mul(1 << failures.saturating_sub(1).min(16));
    error
        .retry_after()
        .unwrap_or(doubled)
        .min(retries.longest_wait)
}

/// Lets time pass.
pub(crate) async fn pause(time: Duration) {
    // Nothing can arrive earlier: there is nobody to listen to between two tries.
    let _elapsed = timeout(time, pending::<()>()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_servers_may_ask_for_more_up_to_a_limit() {
        let retries = Retries::default();
        let status = |retry_after| RequestError::Status {
            url: String::new(),
            status: 503,
            retry_after,
        };
        let wait = |failures| wait_before(failures, &status(None), &retries).as_millis();
        assert_eq!(
            [wait(1), wait(2), wait(3), wait(40)],
            [250, 500, 1000, 60_000]
        );
        let asked = |seconds| wait_before(1, &status(Some(Duration::from_secs(seconds))), &retries);
        assert_eq!((asked(3).as_secs(), asked(3600).as_secs()), (3, 60));
    }
}
