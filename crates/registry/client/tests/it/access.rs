//! Credentials reach the server they belong to and no other.

use crate::support::{Client, busybox, config, user};
use havre_registry_client::{Config, Credentials};
use havre_testkit::fake::{Fake, NAME, Reply};
use havre_types::{Classify as _, ErrorKind, chain};

const BASIC: &str = "Basic dXNlcjpwYXNz";

fn challenge(realm: &str) -> Reply {
    let bearer =
        format!("Bearer realm=\"{realm}\",service=\"fake\",scope=\"repository:{NAME}:pull\"");
    Reply::error(401, "UNAUTHORIZED", "authentication required").header("WWW-Authenticate", bearer)
}

#[tokio::test]
async fn a_password_is_sent_when_it_is_asked_for() {
    let (image, _) = busybox();
    let fake = Fake::serve(&image, |request, _| {
        let refused = Reply::error(401, "UNAUTHORIZED", "authentication required");
        let refused = refused.header("WWW-Authenticate", "Basic realm=\"fake\"");
        (request.header("authorization") != BASIC).then_some(refused)
    });
    let client = Client::new();
    client
        .pull_as(&fake.reference(), user("user", "pass"), None)
        .await
        .unwrap();
    let unauthorised =
        |request: &&havre_testkit::fake::Request| request.header("authorization").is_empty();
    assert_eq!(
        fake.requests().iter().filter(unauthorised).count(),
        1,
        "only the first"
    );
    let text = client.failure(&fake.reference()).await;
    assert!(text.ends_with("no basic auth credentials"), "{text}");
    let wrong = client
        .pull_as(&fake.reference(), user("user", "wrong"), None)
        .await
        .unwrap_err();
    assert_eq!(wrong.to_string(), "unauthorized: authentication required");
    assert_eq!(wrong.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn tokens_are_fetched_with_each_kind_of_credential() {
    let (image, _) = busybox();
    let fake = Fake::serve(&image, |request, _| {
        let authority = request.header("host").to_owned();
        if request.target.starts_with("/token") {
            let known = request.header("authorization") == BASIC
                || String::from_utf8_lossy(&request.body).contains("refresh_token=identity")
                || request.target.contains("anonymous");
            return Some(if known {
                Reply::new(200, r#"{"token":"good"}"#)
            } else {
                Reply::new(401, "")
            });
        }
        let good = ["Bearer good", "Bearer given"].contains(&request.header("authorization"));
        (!good).then(|| challenge(&format!("http://{authority}/token")))
    });
    let identity = Credentials {
        identity_token: "identity".to_owned(),
        ..user("user", "x").unwrap()
    };
    let given = Credentials {
        registry_token: "given".to_owned(),
        ..Credentials::default()
    };
    for credentials in [user("user", "pass"), Some(identity), Some(given)] {
        Client::new()
            .pull_as(&fake.reference(), credentials, None)
            .await
            .unwrap();
    }
    let asked = fake.requests();
    let form = asked
        .iter()
        .find(|request| request.method == "POST")
        .unwrap();
    assert_eq!(form.header("authorization"), "");
    assert_eq!(
        asked
            .iter()
            .filter(|request| request.target.starts_with("/token"))
            .count(),
        2
    );
    let query = asked
        .iter()
        .find(|request| request.target.starts_with("/token?"))
        .unwrap();
    assert!(
        query
            .target
            .contains("scope=repository%3Ateam%2Fapp%3Apull"),
        "{}",
        query.target
    );
    let text = Client::new().failure(&fake.reference()).await;
    assert!(text.contains("failed to fetch token"), "{text}");
}

#[tokio::test]
async fn a_login_tells_whether_the_credentials_are_good() {
    let (image, _) = busybox();
    let basic = Fake::serve(&image, |request, _| {
        let refused = Reply::error(401, "UNAUTHORIZED", "authentication required");
        let refused = refused.header("WWW-Authenticate", "Basic realm=\"fake\"");
        Some(match request.header("authorization") {
            BASIC => Reply::new(200, "{}"),
            _ => refused,
        })
    });
    let client = Client::new();
    let server = basic.reference().split('/').next().unwrap().to_owned();
    let good = user("user", "pass").unwrap();
    assert_eq!(client.puller.login(&server, &good).await.unwrap(), None);
    let wrong = user("user", "wrong").unwrap();
    let refused = client.puller.login(&server, &wrong).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("login attempt to http://{server}/v2/ failed with status: 401 Unauthorized")
    );
    assert_eq!(refused.kind(), ErrorKind::Unauthorized);
    let none = client.puller.login(&server, &Credentials::default()).await;
    assert!(chain(&none.unwrap_err()).ends_with("no basic auth credentials"));

    let token = Fake::serve(&image, |request, _| {
        let authority = request.header("host").to_owned();
        if request.target.starts_with("/token") {
            assert!(!request.target.contains("scope"), "{}", request.target);
            let known = request.header("authorization") == BASIC;
            return Some(if known && request.target.contains("offline_token=true") {
                Reply::new(200, r#"{"token":"good","refresh_token":"keep"}"#)
            } else {
                Reply::new(401, "")
            });
        }
        Some(match request.header("authorization") {
            "Bearer good" => Reply::new(200, "{}"),
            _ => challenge(&format!("http://{authority}/token")),
        })
    });
    let server = token.reference().split('/').next().unwrap().to_owned();
    let identity = client.puller.login(&server, &good).await.unwrap();
    assert_eq!(identity.as_deref(), Some("keep"));
    let refused = client.puller.login(&server, &wrong).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized);
    let nowhere = client.puller.login("a b", &good).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::InvalidParameter);
}

#[tokio::test]
async fn an_expired_token_is_renewed_in_the_middle() {
    let (image, blob) = busybox();
    let fake = Fake::serve(&image, move |request, number| {
        let authority = request.header("host").to_owned();
        if request.target.starts_with("/token") {
            return Some(Reply::new(
                200,
                format!(r#"{{"access_token":"t{number}"}}"#),
            ));
        }
        let first = request.header("authorization") == "Bearer t0";
        let wanted = if request.target.contains(&blob) {
            !first
        } else {
            true
        };
        let any = request.header("authorization").starts_with("Bearer");
        (!(any && wanted)).then(|| challenge(&format!("http://{authority}/token")))
    });
    Client::new().pull(&fake.reference()).await.unwrap();
    assert!(fake.count("/token") >= 2);
}

#[tokio::test]
async fn a_redirect_to_another_host_carries_no_credentials() {
    let (image, _) = busybox();
    let copy = image.clone();
    let other = Fake::bare(move |request, _| {
        let layer = copy
            .layers
            .iter()
            .find(|layer| request.target.ends_with(&layer.digest))?;
        Some(Reply::new(200, fs_err::read(&layer.path).unwrap()))
    });
    let elsewhere = other.authority();
    let fake = Fake::serve(&image, move |request, _| {
        if request.header("authorization") != BASIC {
            let refused = Reply::error(401, "UNAUTHORIZED", "x");
            return Some(refused.header("WWW-Authenticate", "Basic realm=x"));
        }
        let (_, digest) = request.target.split_once("/blobs/")?;
        let location = format!("http://{elsewhere}/storage/{digest}");
        Some(Reply::new(307, "").header("Location", location))
    });
    let client = Client::new();
    // The configuration is redirected too, to where it is not.
    let error = client
        .pull_as(&fake.reference(), user("user", "pass"), None)
        .await
        .unwrap_err();
    assert!(
        chain(&error).contains("404") || chain(&error).contains("blob unknown"),
        "{}",
        chain(&error)
    );
    let config = image.config.clone();
    client.store.content().put(&config, None).unwrap();
    client
        .pull_as(&fake.reference(), user("user", "pass"), None)
        .await
        .unwrap();
    let requests = other.requests();
    assert!(requests.len() >= 3);
    for request in requests {
        assert!(
            !request.headers.contains_key("authorization"),
            "{request:?}"
        );
        assert!(!request.headers.contains_key("cookie"), "{request:?}");
        assert!(
            !format!("{request:?}").contains("dXNlcjpwYXNz"),
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn a_foreign_token_server_gets_nothing() {
    let (image, _) = busybox();
    let other = Fake::bare(|_, _| Some(Reply::new(200, r#"{"token":"good"}"#)));
    let realm = format!("http://{}/token", other.authority());
    let fake = Fake::serve(&image, move |request, _| {
        (request.header("authorization") != "Bearer good").then(|| challenge(&realm))
    });
    let client = Client::new();
    let error = client
        .pull_as(&fake.reference(), user("user", "pass"), None)
        .await
        .unwrap_err();
    assert!(chain(&error).contains("token server"), "{}", chain(&error));
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn redirects_do_not_go_in_circles() {
    let (image, _) = busybox();
    let fake = Fake::serve(&image, |request, _| {
        let around = request.target.contains("/blobs/");
        around.then(|| Reply::new(302, "").header("Location", request.target.clone()))
    });
    let text = Client::new().failure(&fake.reference()).await;
    assert!(text.contains("refused redirect to"), "{text}");
    assert_eq!(fake.count("/blobs/"), 11);
    let fake = Fake::serve(&image, |request, _| {
        let away = request.target.contains("/blobs/");
        away.then(|| Reply::new(302, "").header("Location", "file:///etc/passwd"))
    });
    let text = Client::new().failure(&fake.reference()).await;
    assert!(
        text.contains("refused redirect to `file:///etc/passwd`"),
        "{text}"
    );
}

#[tokio::test]
async fn refusals_read_as_docker_prints_them() {
    let (image, _) = busybox();
    let denied = "requested access to the resource is denied";
    let fake = Fake::serve(&image, move |_, _| {
        Some(Reply::error(403, "DENIED", denied))
    });
    let name = format!("{}/{NAME}", fake.authority());
    assert_eq!(
        Client::new().failure(&name).await,
        format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': \
             denied: requested access to the resource is denied"
        )
    );
    let fake = Fake::serve(&image, |_, _| {
        Some(Reply::error(404, "NAME_UNKNOWN", "not known"))
    });
    let name = format!("{}/{NAME}", fake.authority());
    assert_eq!(
        Client::new().failure(&name).await,
        format!("repository {name} not found: name unknown: not known")
    );
}

#[tokio::test]
async fn a_mirror_never_gets_the_credentials() {
    let (image, _) = busybox();
    let fake = Fake::serve(&image, |request, _| {
        let refused =
            Reply::error(401, "UNAUTHORIZED", "x").header("WWW-Authenticate", "Basic realm=x");
        request
            .header("authorization")
            .is_empty()
            .then_some(refused)
    });
    let mirrors = vec![format!("http://{}", fake.authority())];
    let client = Client::with(Config {
        mirrors,
        ..config()
    });
    let reference = format!("docker.io/{NAME}");
    client
        .pull_as(&reference, user("user", "pass"), None)
        .await
        .unwrap_err();
    assert!(!fake.requests().is_empty());
    assert!(
        fake.requests()
            .iter()
            .all(|request| request.header("authorization").is_empty())
    );
}
