//! Pulling an image: find it, fetch what is missing, put its layers in place, record it.

use crate::auth::Credentials;
use crate::config::{Config, ConfigError};
use crate::endpoint::{Endpoint, endpoints};
use crate::error::{LayerError, PullError};
use crate::layer::{LayerJob, fetch_document};
use crate::manifest::{Resolved, resolve, translate};
use crate::progress::{LayerState, ProgressSink, line};
use crate::session::Session;
use crate::tls::Tls;
use crate::transfers::{Outcome, Ticket, Transfers};
use crate::transport::Transport;
use crate::url::Url;
use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use havre_image::{AddImage, Image, ImageStore, LayerSource, Lease, StoreError, limits};
use havre_oci::{Descriptor, ImageConfig};
use havre_types::{ChainId, DiffId, Digest, Platform, Reference, Timestamp};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The image; without tag and digest, its `latest`.
    pub reference: Reference,
    /// The platform; without, the host's.
    pub platform: Option<Platform>,
    /// Credentials for the reference's registry.
    pub credentials: Option<Credentials>,
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Arc<Image>,
    /// The digest of what the reference names in the registry.
    pub digest: Digest,
    /// Whether it was not here as it is now.
    pub newer: bool,
}

/// A registry client over one image store.
#[derive(Debug)]
pub struct Puller {
    store: Arc<ImageStore>,
    config: Arc<Config>,
    mirrors: Vec<Url>,
    transport: Arc<Transport>,
    transfers: Transfers,
    downloads: Arc<Semaphore>,
    /// The servers that answered last, by registry: they are asked first.
    reached: Mutex<HashMap<String, Endpoint>>,
}

impl Puller {
    /// Reads the system's certificates.
    pub fn new(store: Arc<ImageStore>, config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let mirrors = config.mirror_urls()?;
        let transport = Transport::new(Tls::new(&config.certificates), config.retries.stall);
        Ok(Self {
            store,
            mirrors,
            transport: Arc::new(transport),
            transfers: Transfers::default(),
            downloads: Arc::new(Semaphore::new(config.concurrent_downloads.max(1))),
            config: Arc::new(config),
            reached: Mutex::default(),
        })
    }

    /// Fetches an image. Dropping the future gives the pull up; what has arrived is used next time.
    pub async fn pull(
        &self,
        request: PullRequest,
        progress: ProgressSink,
    ) -> Result<Pulled, PullError> {
        let reference = request.reference.clone().with_default_tag();
        let request = PullRequest {
            reference,
            ..request
        };
        let reference = &request.reference;
        let shown = match reference.digest() {
            Some(digest) => digest.to_string(),
            None => reference.tag().unwrap_or_default().to_owned(),
        };
        let mut announced = false;
        let mut failure = None;
        for session in self.sessions(&request) {
            let session = Arc::new(session);
            let platform = request.platform.clone().unwrap_or_else(Platform::host);
            let attempt = async {
                let resolved = resolve(&session, reference, &platform).await?;
                if !std::mem::replace(&mut announced, true) {
                    progress(line(&shown, format!("Pulling from {}", reference.path())));
                }
                self.pull_resolved(&session, &request, resolved, &progress)
                    .await
            };
            match attempt.await {
                Ok(pulled) => {
                    self.remember(&session, reference);
                    progress(line("", format!("Digest: {}", pulled.digest)));
                    let status = if pulled.newer {
                        "Downloaded newer image"
                    } else {
                        "Image is up to date"
                    };
                    progress(line(
                        "",
                        format!("Status: {status} for {}", reference.familiar()),
                    ));
                    return Ok(pulled);
                }
                Err(error) => {
                    let go_on = is_next_worth_asking(&error, session.endpoint());
                    prefer(&mut failure, error);
                    if !go_on {
                        break;
                    }
                }
            }
        }
        Err(failure.unwrap_or(PullError::Name(havre_types::ReferenceError::Format)))
    }

    /// All tags of a repository.
    pub async fn tags(&self, request: &PullRequest) -> Result<Vec<String>, PullError> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut failure = None;
        for session in self.sessions(request) {
            let answer = session
                .get(&session.url("tags/list"), "", limits::MANIFEST)
                .await;
            match answer {
                Ok((_, bytes)) => {
                    let page: Option<Page> = serde_json::from_slice(&bytes).ok();
                    return Ok(page.and_then(|page| page.tags).unwrap_or_default());
                }
                Err(error) => prefer(&mut failure, translate(error, &request.reference)),
            }
        }
        Err(failure.unwrap_or(PullError::Name(havre_types::ReferenceError::Format)))
    }

    // === servers ===

    fn sessions(&self, request: &PullRequest) -> Vec<Session> {
        let domain = request.reference.domain();
        let mut servers = endpoints(domain, &self.mirrors, &self.config);
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = reached.get(domain) {
            // Mirrors stay in front of the registry itself.
            servers.sort_by_key(|server| (!server.mirror, server != last));
        }
        drop(reached);
        let (path, credentials) = (request.reference.path(), request.credentials.as_ref());
        let session = |endpoint| self.session(endpoint, path, credentials);
        servers.into_iter().map(session).collect()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A session with one server; without a repository for a login alone.
    pub(crate) fn session(
        &self,
        endpoint: Endpoint,
        repository: &str,
        credentials: Option<&Credentials>,
    ) -> Session {
        let (transport, config) = (Arc::clone(&self.transport), Arc::clone(&self.config));
        Session::new(transport, config, endpoint, repository, credentials)
    }

    fn remember(&self, session: &Session, reference: &Reference) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.insert(reference.domain().to_owned(), session.endpoint().clone());
    }

    // === one image ===

    async fn pull_resolved(
        &self,
        session: &Arc<Session>,
        request: &PullRequest,
        resolved: Resolved,
        progress: &ProgressSink,
    ) -> Result<Pulled, PullError> {
        let lease = Arc::new(self.store.lease());
        let manifest = &resolved.manifest;
        for descriptor in manifest
            .layers
            .iter()
            .chain([&manifest.config, &resolved.descriptor])
        {
            lease.blob(&descriptor.digest);
        }
        let config = fetch_document(&self.store, session, &manifest.config, limits::CONFIG).await;
        let config = config.map_err(|error| PullError::Layer(Arc::new(error)))?;
        let diff_ids = check_config(request, &resolved, &config)?;
        let layers = chain(&diff_ids, &manifest.layers);
        layers.iter().for_each(|layer| lease.chain(&layer.chain_id));
        let sources = self
            .fetch_layers(session, &layers, &lease, progress)
            .await?;
        self.finish(request, resolved, config, sources, lease).await
    }

    async fn fetch_layers(
        &self,
        session: &Arc<Session>,
        layers: &[Layer],
        lease: &Arc<Lease>,
        progress: &ProgressSink,
    ) -> Result<Vec<LayerSource>, PullError> {
        let mut missing = Vec::new();
        for layer in layers {
            let here = self.store.layer(&layer.chain_id).is_some();
            let state = if here {
                LayerState::Exists
            } else {
                LayerState::Announced
            };
            progress(state.message(&layer.shown()));
            if !here {
                missing.push(layer);
            }
        }
        let waiting = missing
            .len()
            .saturating_sub(self.downloads.available_permits());
        for layer in missing.iter().rev().take(waiting).rev() {
            progress(LayerState::Waiting.message(&layer.shown()));
        }
        let fetches = missing
            .into_iter()
            .map(|layer| self.fetch_layer(session, layer, lease, progress));
        let sources = try_join_all(fetches).await;
        sources.map_err(PullError::Layer)
    }

    /// Waits for a layer that may be on its way for somebody else, and shows how it goes.
    async fn fetch_layer(
        &self,
        session: &Arc<Session>,
        layer: &Layer,
        lease: &Arc<Lease>,
        progress: &ProgressSink,
    ) -> Result<LayerSource, Arc<LayerError>> {
        loop {
            let ticket = self.transfers.join(&layer.chain_id, |state| {
                let job = LayerJob {
                    store: Arc::clone(&self.store),
                    session: Arc::clone(session),
                    blob: layer.blob.clone(),
                    diff_id: layer.diff_id.clone(),
                };
                let arriving = self.transfers.blob(&layer.blob.digest);
                let (downloads, lease) = (Arc::clone(&self.downloads), Arc::clone(lease));
                transfer(job, arriving, downloads, state, lease).boxed()
            });
            let own = ticket.own;
            match follow(ticket, &layer.shown(), progress).await {
                Ok(unpacked) => {
                    return Ok(LayerSource {
                        chain_id: layer.chain_id.clone(),
                        parent: layer.parent.clone(),
                        unpacked,
                        blob: Some(layer.blob.clone()),
                    });
                }
                Err(error) if own => return Err(error),
                // Somebody else's transfer failed, perhaps for want of what we have.
                Err(_) => {}
            }
        }
    }

    async fn finish(
        &self,
        request: &PullRequest,
        resolved: Resolved,
        config: Vec<u8>,
        sources: Vec<LayerSource>,
        lease: Arc<Lease>,
    ) -> Result<Pulled, PullError> {
        let store = Arc::clone(&self.store);
        let reference = request.reference.clone();
        let record = move || {
            let digest = resolved.digest;
            let canonical = reference.with_digest(digest.clone());
            let before = store.named(&reference).map(|image| image.id().clone());
            let put = store
                .content()
                .put(&resolved.bytes, Some(&resolved.descriptor.digest));
            put.map_err(|source| StoreError::Ingest { source })?;
            store.commit_layers(&sources)?;
            let mut references = vec![canonical];
            if reference.digest().is_none() {
                references.insert(0, reference);
            }
            let manifest = Some(resolved.descriptor);
            let image = store.add(AddImage {
                config,
                manifest,
                references,
                parent: None,
                now: Timestamp::now(),
            })?;
            drop(lease);
            let newer = before.as_ref() != Some(image.id()) || !sources.is_empty();
            Ok(Pulled {
                image,
                digest,
                newer,
            })
        };
        match spawn_blocking(record).await {
            Ok(result) => result.map_err(PullError::Store),
            Err(_stopped) => {
                let digest = request.reference.digest().cloned();
                let digest = digest.unwrap_or_else(|| Digest::sha256_of(b""));
                Err(PullError::Layer(Arc::new(LayerError::Abandoned { digest })))
            }
        }
    }
}

/// One layer of the image.
#[derive(Debug)]
struct Layer {
    blob: Descriptor,
    diff_id: DiffId,
    chain_id: ChainId,
    parent: Option<ChainId>,
}

impl Layer {
    fn shown(&self) -> String {
        self.blob.digest.hex().chars().take(12).collect()
    }
}

fn chain(diff_ids: &[DiffId], blobs: &[Descriptor]) -> Vec<Layer> {
    let mut parent: Option<ChainId> = None;
    let mut layers = Vec::with_capacity(blobs.len());
    for (diff_id, blob) in diff_ids.iter().zip(blobs) {
        let chain_id = match &parent {
            Some(below) => below.then(diff_id),
            None => ChainId(diff_id.0.clone()),
        };
        let (blob, diff_id) = (blob.clone(), diff_id.clone());
        layers.push(Layer {
            blob,
            diff_id,
            chain_id: chain_id.clone(),
            parent,
        });
        parent = Some(chain_id);
    }
    layers
}

/// The layers a configuration lists, when it fits the manifest and the wish.
fn check_config(
    request: &PullRequest,
    resolved: &Resolved,
    config: &[u8],
) -> Result<Vec<DiffId>, PullError> {
    let reference = request.reference.familiar();
    let wrong = |problem| PullError::NotAnImage {
        reference: reference.clone(),
        problem,
    };
    let config = ImageConfig::parse(config)
        .map_err(|error| wrong(format!("its configuration is malformed: {error}")))?;
    let (layers, diff_ids) = (resolved.manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(wrong(format!(
            "it has {layers} layers and {diff_ids} diff ids"
        )));
    }
    match &request.platform {
        // What an index says of a member outweighs what the member says of itself.
        Some(platform) if !resolved.chosen && !platform.matches(&config.platform()) => {
            Err(PullError::WrongPlatform {
                reference,
                platform: platform.to_string(),
            })
        }
        _ => Ok(config.rootfs.diff_ids),
    }
}

/// The work of a transfer, when it is its turn.
async fn transfer(
    job: LayerJob,
    arriving: Arc<tokio::sync::Mutex<()>>,
    downloads: Arc<Semaphore>,
    state: watch::Sender<LayerState>,
    lease: Arc<Lease>,
) -> Outcome {
    let abandoned = LayerError::Abandoned {
        digest: job.blob.digest.clone(),
    };
    let _arriving = arriving.lock().await;
    let Ok(_permit) = downloads.acquire().await else {
        return Err(Arc::new(abandoned));
    };
    let show = |new| {
        state.send_replace(new);
    };
    let result = job.run(&show).await;
    drop(lease);
    result.map(Arc::new).map_err(Arc::new)
}

/// Waits for a transfer and shows its states on the way.
async fn follow(ticket: Ticket, id: &str, progress: &ProgressSink) -> Outcome {
    let Ticket {
        mut running,
        mut state,
        ..
    } = ticket;
    let mut shown = LayerState::Announced;
    let mut show = |state: LayerState| {
        if std::mem::replace(&mut shown, state) != state {
            progress(state.message(id));
        }
    };
    loop {
        tokio::select! {
            biased;
            result = &mut running => {
                let last = *state.borrow();
                show(last);
                return result;
            }
            changed = state.changed() => {
                if changed.is_err() {
                    return running.await;
                }
                let now = *state.borrow_and_update();
                show(now);
            }
        }
    }
}

/// Whether another server may know better: always after a mirror, and when one was not reached.
fn is_next_worth_asking(error: &PullError, endpoint: &Endpoint) -> bool {
    endpoint.mirror || matches!(error, PullError::Request(error) if error.is_unreached())
}

/// Of several failures the one of a server that was reached says most; else the first.
fn prefer(failure: &mut Option<PullError>, error: PullError) {
    let unreached =
        |error: &PullError| matches!(error, PullError::Request(error) if error.is_unreached());
    match failure {
        Some(old) if !unreached(old) || unreached(&error) => {}
        _ => *failure = Some(error),
    }
}
