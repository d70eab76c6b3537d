//! `POST /auth`: the registry itself says whether credentials are good; nothing is kept here.

use havre_api_traits::{ApiError, ApiResult, RegistryAuth};
use havre_engine_types::AuthResponse;
use havre_registry_client::Credentials;

use crate::engine::Shared;

/// Docker Hub's name in references.
const HUB: &str = "docker.io";
/// Its older names.
const HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

pub(super) async fn login(shared: &Shared, auth: RegistryAuth) -> ApiResult<AuthResponse> {
    let server = server(&auth.server_address)?;
    let credentials = Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    };
    let token = shared.puller.login(server, &credentials).await;
    let token = token.map_err(|err| ApiError::from_classified(&err))?;
    Ok(AuthResponse {
        status: "Login Succeeded".to_owned(),
        identity_token: token.unwrap_or_default(),
    })
}

/// The host of an address that may be a URL.
fn server(address: &str) -> ApiResult<&str> {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme))
        .unwrap_or(address);
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.starts_with('[') && !host.contains(']') {
        return Err(ApiError::invalid(format!(
            "unable to parse server address: parse {address:?}: missing ']' in host"
        )));
    }
    if host.is_empty() || HUB_ALIASES.contains(&host) {
        return Ok(HUB);
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_hosts() {
        for (address, host) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("r.example:5000", "r.example:5000"),
            ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000"),
            ("https://[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(server(address).unwrap(), host, "{address}");
        }
        assert_eq!(
            server("http://[").unwrap_err().message,
            "unable to parse server address: parse \"http://[\": missing ']' in host"
        );
    }
}
