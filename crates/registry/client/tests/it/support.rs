//! A client over a store in a directory of its own.

use havre_content::ContentStore;
use havre_image::ImageStore;
use havre_meta::Meta;
use havre_registry_client::{
    Config, Credentials, Progress, PullError, PullRequest, Pulled, Puller, Retries,
};
use havre_snapshot::OverlayDriver;
use havre_testkit::Image;
use havre_types::{Platform, Reference, chain};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) struct Client {
    pub(crate) store: Arc<ImageStore>,
    pub(crate) puller: Puller,
    pub(crate) messages: Arc<Mutex<Vec<Progress>>>,
    pub(crate) directory: TempDir,
}

/// The configuration of tests: as impatient as can be.
pub(crate) fn config() -> Config {
    Config {
        retries: Retries {
            first_wait: Duration::from_millis(1),
            stall: Duration::from_millis(500),
            ..Retries::default()
        },
        ..Config::default()
    }
}

impl Client {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::open(tempfile::tempdir().unwrap(), config)
    }

    fn open(directory: TempDir, config: Config) -> Self {
        let store = Arc::new(store(directory.path()));
        let puller = Puller::new(Arc::clone(&store), config).unwrap();
        Self {
            store,
            puller,
            messages: Arc::default(),
            directory,
        }
    }

    /// The same directory, as after the engine's end.
    pub(crate) fn reopen(self) -> Self {
        let Self {
            store,
            puller,
            directory,
            ..
        } = self;
        drop(puller);
        drop(store);
        Self::open(directory, config())
    }

    pub(crate) async fn pull(&self, reference: &str) -> Result<Pulled, PullError> {
        self.pull_as(reference, None, None).await
    }

    pub(crate) async fn pull_as(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
        platform: Option<Platform>,
    ) -> Result<Pulled, PullError> {
        let reference = Reference::parse_normalized(reference).unwrap();
        let messages = Arc::clone(&self.messages);
        let sink = Arc::new(move |message| messages.lock().unwrap().push(message));
        self.puller
            .pull(
                PullRequest {
                    reference,
                    platform,
                    credentials,
                },
                sink,
            )
            .await
    }

    /// The text a user sees.
    pub(crate) async fn failure(&self, reference: &str) -> String {
        chain(&self.pull(reference).await.unwrap_err())
    }

    /// The texts of messages with this id.
    pub(crate) fn messages_of(&self, id: &str) -> Vec<String> {
        let messages = self.messages.lock().unwrap();
        messages
            .iter()
            .filter(|message| message.id == id)
            .map(|message| message.status.clone())
            .collect()
    }

    /// Blobs, unfinished blobs and layers.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let content = self.store.content();
        let blobs = content.list().unwrap().len();
        (
            blobs,
            content.partials().unwrap().len(),
            self.store.snapshots().walk().len(),
        )
    }
}

pub(crate) fn user(name: &str, password: &str) -> Option<Credentials> {
    let (username, password) = (name.to_owned(), password.to_owned());
    Some(Credentials {
        username,
        password,
        ..Credentials::default()
    })
}

/// The busybox image, and the target of its large layer's blob.
pub(crate) fn busybox() -> (Image, String) {
    let image = havre_testkit::image("busybox").unwrap();
    let blob = format!("/blobs/{}", image.layers[0].digest);
    (image, blob)
}

fn store(directory: &Path) -> ImageStore {
    let meta = Meta::open(&directory.join("meta.db")).unwrap();
    let content = ContentStore::open(&directory.join("content")).unwrap();
    let driver = OverlayDriver::open(&directory.join("overlay"), &meta).unwrap();
    ImageStore::open(content, meta, Arc::new(driver)).unwrap()
}
