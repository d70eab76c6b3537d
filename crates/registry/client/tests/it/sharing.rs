//! Several pulls at once, pulls given up, and what an engine that was killed has left.

use crate::support::{Client, busybox};
use havre_testkit::fake::{Fake, Reply, ranged};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// A gate that a server waits at.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_while(open, |open| !*open).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_many_want_is_fetched_once_even_when_the_first_leaves() {
    let (image, blob) = busybox();
    let gate = Arc::new(Gate::default());
    let (held, target) = (Arc::clone(&gate), blob.clone());
    let fake = Fake::serve(&image, move |request, _| {
        if request.target.contains(&target) {
            held.pass();
        }
        None
    });
    let client = Arc::new(Client::new());
    let reference = fake.reference();
    let mut pulls = Vec::new();
    for _ in 0..50 {
        let (client, reference) = (Arc::clone(&client), reference.clone());
        pulls.push(tokio::spawn(async move {
            client.pull(&reference).await.map(drop)
        }));
    }
    // The large layer has been asked for, and nobody has it yet.
    timeout(Duration::from_secs(20), async {
        while fake.count(&blob) == 0 || fake.count("/manifests/") < 50 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    for pull in pulls.drain(..10) {
        pull.abort();
        assert!(pull.await.is_err_and(|error| error.is_cancelled()));
    }
    gate.open();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    for layer in &image.layers {
        assert_eq!(fake.count(&layer.digest), 1);
    }
    assert_eq!(client.counts(), (4, 0, 2));
}

#[tokio::test]
async fn a_pull_that_was_given_up_goes_on_where_it_was() {
    let (image, blob) = busybox();
    let bytes = fs_err::read(&image.layers[0].path).unwrap();
    let size = bytes.len();
    let target = blob.clone();
    let fake = Fake::serve(&image, move |request, number| {
        let stall = (number == 0).then_some(size / 2);
        request.target.contains(&target).then(|| Reply {
            stall,
            ..ranged(request, &bytes)
        })
    });
    let mut client = Client::new();
    let half = timeout(Duration::from_millis(300), client.pull(&fake.reference())).await;
    assert!(half.is_err(), "the server keeps it waiting");
    client = client.reopen();
    client.pull(&fake.reference()).await.unwrap();
    let again = fake.sent(&blob) - size;
    assert!(again * 20 < size, "{again} of {size} bytes came twice");
    assert_eq!(client.counts(), (4, 0, 2));
}

#[tokio::test]
async fn a_failed_pull_keeps_what_was_right() {
    let (image, blob) = busybox();
    let small = format!("/blobs/{}", image.layers[1].digest);
    let broken = Arc::new(Mutex::new(true));
    let (state, target) = (Arc::clone(&broken), small.clone());
    let fake = Fake::serve(&image, move |request, _| {
        (request.target.contains(&target) && *state.lock().unwrap()).then(|| Reply::new(404, ""))
    });
    let client = Client::new();
    client.pull(&fake.reference()).await.unwrap_err();
    *broken.lock().unwrap() = false;
    client.pull(&fake.reference()).await.unwrap();
    let twice = 2 * fs_err::read(&image.layers[0].path).unwrap().len();
    assert!(fake.sent(&blob) <= twice);
    assert_eq!(client.counts(), (4, 0, 2));
}
