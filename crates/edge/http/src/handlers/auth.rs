//! Credentials as clients send them: in the header `X-Registry-Auth`, and to `/auth`.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use havre_api_traits::{ApiError, RegistryAuth};
use havre_engine_types::{AuthConfig, gojson};
use hyper::StatusCode;
use hyper::header::HeaderMap;

use crate::call::Call;
use crate::reply::{self, Reply};

/// `POST /auth`.
pub(super) async fn login(mut call: Call) -> Reply {
    // Docker looks at no content type here.
    let Some(config) = call.any_json::<AuthConfig>().await? else {
        return Err(ApiError::invalid(
            "invalid X-Registry-Auth header: invalid JSON: EOF",
        ));
    };
    let answer = call.api().system.login(credentials(config)).await?;
    reply::json(StatusCode::OK, &answer)
}

/// Credentials of the request. As in Docker, what cannot be read counts as none.
pub(super) fn registry_auth(headers: &HeaderMap) -> Option<RegistryAuth> {
    let bytes = decode(
        &base64::alphabet::URL_SAFE,
        headers.get("x-registry-auth")?.to_str().ok()?,
    )?;
    let auth = credentials(gojson::from_slice(&bytes).ok()?);
    (auth != RegistryAuth::default()).then_some(auth)
}

fn credentials(config: AuthConfig) -> RegistryAuth {
    let mut auth = RegistryAuth {
        username: config.username,
        password: config.password,
        server_address: config.serveraddress,
        identity_token: config.identitytoken,
        registry_token: config.registrytoken,
    };
    if auth.username.is_empty()
        && let Some(pair) = decode(&base64::alphabet::STANDARD, &config.auth)
        && let Ok(pair) = String::from_utf8(pair)
        && let Some((user, password)) = pair.split_once(':')
    {
        auth.username = user.to_owned();
        password
            .trim_end_matches('\0')
            .clone_into(&mut auth.password);
    }
    auth
}

fn decode(alphabet: &base64::alphabet::Alphabet, text: &str) -> Option<Vec<u8>> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, lenient).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    use hyper::header::HeaderValue;

    use super::*;

    fn auth(text: &str) -> Option<RegistryAuth> {
        let mut headers = HeaderMap::new();
        headers.insert("x-registry-auth", HeaderValue::from_str(text).unwrap());
        registry_auth(&headers)
    }

    #[test]
    fn credentials_are_read_with_and_without_padding() {
        let json = r#"{"username":"u","Password":"p??","serveraddress":"r:5000"}"#;
        for text in [URL_SAFE.encode(json), URL_SAFE_NO_PAD.encode(json)] {
            let found = auth(&text).unwrap();
            assert_eq!(
                (found.username.as_str(), found.password.as_str()),
                ("u", "p??")
            );
            assert_eq!(found.server_address, "r:5000");
        }
        let pair = format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("me:se:cret"));
        let found = auth(&URL_SAFE.encode(pair)).unwrap();
        assert_eq!(
            (found.username.as_str(), found.password.as_str()),
            ("me", "se:cret")
        );
    }

    #[test]
    fn unreadable_credentials_are_none() {
        for text in ["", "!!!", "e30=", "bnVsbA=="] {
            assert_eq!(auth(text), None, "{text}");
        }
        assert_eq!(registry_auth(&HeaderMap::new()), None);
    }
}
