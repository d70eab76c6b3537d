//! What breaks on the way is healed; what is wrong is refused and leaves nothing.

use crate::support::{Client, busybox, config};
use havre_registry_client::{Config, Retries};
use havre_testkit::fake::{Fake, NAME, Reply, ranged};
use havre_testkit::image::digest;
use std::time::{Duration, Instant};
use tokio::time::timeout;

#[tokio::test]
async fn twenty_cuts_cost_no_byte_twice() {
    let (image, blob) = busybox();
    let bytes = fs_err::read(&image.layers[0].path).unwrap();
    let size = bytes.len();
    let target = blob.clone();
    let fake = Fake::serve(&image, move |request, number| {
        let wanted = request.target.contains(&target) && number < 20;
        wanted.then(|| Reply {
            cut: Some(size / 21),
            ..ranged(request, &bytes)
        })
    });
    let client = Client::new();
    client.pull(&fake.reference()).await.unwrap();
    assert_eq!(fake.count(&blob), 21);
    let again = fake.sent(&blob) - size;
    assert!(again < size / 50, "{again} of {size} bytes came twice");
    assert_eq!(client.counts(), (4, 0, 2));
}

#[tokio::test]
async fn a_server_without_ranges_is_read_over_from_the_beginning() {
    let (image, blob) = busybox();
    let bytes = fs_err::read(&image.layers[0].path).unwrap();
    let target = blob.clone();
    let fake = Fake::serve(&image, move |request, number| {
        let whole = Reply::new(200, bytes.clone());
        let cut = (number < 3).then(|| bytes.len() / 4 * (number + 1));
        request
            .target
            .contains(&target)
            .then_some(Reply { cut, ..whole })
    });
    let client = Client::new();
    let pulled = client.pull(&fake.reference()).await.unwrap();
    assert_eq!(pulled.image.id().as_str(), image.id());
    assert_eq!(fake.count(&blob), 4);
}

#[tokio::test]
async fn passing_refusals_are_waited_out() {
    let (image, blob) = busybox();
    let fake = Fake::serve(&image, move |_, number| match number {
        0 => Some(Reply::error(429, "TOOMANYREQUESTS", "slow down").header("Retry-After", "0")),
        1 => Some(Reply::new(503, "busy").header("Retry-After", "0")),
        2 => Some(Reply::new(502, "bad gateway")),
        _ => None,
    });
    let client = Client::new();
    client.pull(&fake.reference()).await.unwrap();
    for part in ["/manifests/latest", &blob, &image.id()] {
        assert_eq!(fake.count(part), 4, "{part}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it() {
    let (image, blob) = busybox();
    let target = blob.clone();
    let fake = Fake::serve(&image, move |request, number| {
        let first = request.target.contains(&target) && number == 0;
        first.then(|| Reply::new(429, "").header("Retry-After", "1"))
    });
    let client = Client::new();
    let start = Instant::now();
    client.pull(&fake.reference()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let states = client.messages_of(&image.layers[0].digest[7..19]);
    assert!(
        states.contains(&"Retrying in 1 second".to_owned()),
        "{states:?}"
    );
}

#[tokio::test]
async fn a_server_that_never_recovers_is_given_up() {
    let (image, blob) = busybox();
    let target = blob.clone();
    let fake = Fake::serve(&image, move |request, _| {
        request
            .target
            .contains(&target)
            .then(|| Reply::new(500, ""))
    });
    let client = Client::new();
    let text = client.failure(&fake.reference()).await;
    assert!(
        text.ends_with("received unexpected HTTP status: 500"),
        "{text}"
    );
    assert_eq!(fake.count(&blob), 6);
    assert!(client.store.images().is_empty());
}

#[tokio::test]
async fn endless_cuts_are_given_up_too() {
    let (image, blob) = busybox();
    let bytes = fs_err::read(&image.layers[0].path).unwrap();
    let target = blob.clone();
    let fake = Fake::serve(&image, move |request, _| {
        let cut = Some(1);
        request.target.contains(&target).then(|| Reply {
            cut,
            ..ranged(request, &bytes)
        })
    });
    let retries = Retries {
        total: 30,
        ..config().retries
    };
    let client = Client::with(Config {
        retries,
        ..config()
    });
    client.pull(&fake.reference()).await.unwrap_err();
    assert_eq!(fake.count(&blob), 31);
}

#[tokio::test]
async fn a_silent_connection_is_left() {
    let (image, blob) = busybox();
    let bytes = fs_err::read(&image.layers[0].path).unwrap();
    let target = blob.clone();
    let fake = Fake::serve(&image, move |request, number| {
        let stall = (number == 0).then_some(bytes.len() / 2);
        request.target.contains(&target).then(|| Reply {
            stall,
            ..ranged(request, &bytes)
        })
    });
    let client = Client::new();
    client.pull(&fake.reference()).await.unwrap();
    assert_eq!(fake.count(&blob), 2);
}

#[tokio::test]
async fn wrong_content_is_refused_and_leaves_nothing() {
    let (image, blob) = busybox();
    let good = fs_err::read(&image.layers[0].path).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let short = good[..good.len() - 1].to_vec();
    let long = [&good[..], b"x"].concat();
    let text = "filesystem layer verification failed for digest sha256:";
    for (bytes, expected) in [
        (flipped, text),
        (short, "the answer has"),
        (long, "the answer has"),
    ] {
        let target = blob.clone();
        let fake = Fake::serve(&image, move |request, _| {
            request
                .target
                .contains(&target)
                .then(|| ranged(request, &bytes))
        });
        let client = Client::new();
        let text = client.failure(&fake.reference()).await;
        assert!(text.contains(expected), "{text}");
        assert!(client.store.images().is_empty());
        assert!(
            !client
                .store
                .content()
                .contains(&havre_types::Digest::parse(&image.layers[0].digest).unwrap())
        );
        // The other layer may just be on its way, and goes as soon as it has come.
        let gone = async {
            while client.counts().2 > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}

#[tokio::test]
async fn wrong_documents_are_refused() {
    let (image, _) = busybox();
    let manifest = image.manifest(havre_testkit::Format::Oci);
    let id = image.id();
    let config = move |bytes: &'static str| {
        let id = id.clone();
        move |request: &havre_testkit::fake::Request, _| {
            request.target.contains(&id).then(|| Reply::new(200, bytes))
        }
    };
    let fake = Fake::serve(&image, config("{}"));
    let text = Client::new().failure(&fake.reference()).await;
    assert!(text.contains("verification failed"), "{text}");
    let by_digest = format!("{}/{NAME}@{}", fake.authority(), digest(&manifest));
    let fake = Fake::serve(&image, |request, _| {
        request
            .target
            .contains("/manifests/")
            .then(|| Reply::new(200, "{\"schemaVersion\":2}"))
    });
    let by_digest = by_digest.replace(by_digest.split('/').next().unwrap(), &fake.authority());
    let text = Client::new().failure(&by_digest).await;
    assert_eq!(
        text,
        format!(
            "manifest verification failed for digest {}",
            digest(&manifest)
        )
    );
    let both = r#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#;
    let huge = " ".repeat((4 << 20) + 1);
    for (body, expected) in [
        (both.to_owned(), "ambiguous"),
        (huge, "the answer has"),
        ("no json".to_owned(), "failed to parse manifest"),
        (
            String::from_utf8(manifest)
                .unwrap()
                .replace("image.config", "other.config"),
            "no container image",
        ),
    ] {
        let fake = Fake::serve(&image, move |request, _| {
            request
                .target
                .contains("/manifests/")
                .then(|| Reply::new(200, body.clone()))
        });
        let client = Client::new();
        let text = client.failure(&fake.reference()).await;
        assert!(text.contains(expected), "{text}");
        assert_eq!(client.counts(), (0, 0, 0));
    }
}
