//! The store of images: readers share one value in memory, writers make each change durable first.

use crate::delete::{self, DeleteError, DeleteOptions, DeleteRecord, ImageUser};
use crate::error::StoreError;
use crate::gc::Keep;
use crate::index::{Index, key};
use crate::lease::{Lease, Leases};
use crate::limits;
use crate::record::{self, IMAGE, Image, ImageRecord, LAYER, LayerRecord, VERSION, chain_ids};
use havre_content::ContentStore;
use havre_meta::{Batch, Document, Meta};
use havre_oci::{Descriptor, ImageConfig};
use havre_snapshot::Snapshotter;
use havre_types::{ChainId, Digest, ImageId, Reference, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// How long content that no image refers to is kept over a restart, for a pull that goes on.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// An image to be recorded. Its layers must be in place.
#[derive(Clone, Debug)]
pub struct AddImage {
    /// The configuration, byte for byte: its digest becomes the id.
    pub config: Vec<u8>,
    /// The manifest, when it is in the content store.
    pub manifest: Option<Descriptor>,
    /// Names the image gets; an image that has one of them loses it.
    pub references: Vec<Reference>,
    /// The image whose container it was made from.
    pub parent: Option<ImageId>,
    /// The time of this.
    pub now: Timestamp,
}

/// Images, their layers and blobs.
#[derive(Debug)]
pub struct ImageStore {
    pub(crate) content: ContentStore,
    pub(crate) meta: Meta,
    pub(crate) snapshots: Arc<dyn Snapshotter>,
    pub(crate) leases: Arc<Leases>,
    index: RwLock<Arc<Index>>,
    layers: RwLock<Arc<BTreeMap<ChainId, LayerRecord>>>,
    /// Held by the one who changes something, over the durable write: readers never take it.
    writer: Mutex<()>,
}

impl ImageStore {
    /// Reads all images and removes what a crash left behind. A record that cannot be used is
    /// left out and logged; the others are there.
    pub fn open(
        content: ContentStore,
        meta: Meta,
        snapshots: Arc<dyn Snapshotter>,
    ) -> Result<Self, StoreError> {
        let store = Self {
            content,
            meta,
            snapshots,
            leases: Arc::default(),
            index: RwLock::default(),
            layers: RwLock::default(),
            writer: Mutex::new(()),
        };
        store.read_layers()?;
        store.read_images()?;
        let has_lost = |kind| {
            let lost = store.meta.has_lost(kind);
            lost.map_err(|source| StoreError::Read { source })
        };
        if has_lost(IMAGE)? || has_lost(LAYER)? {
            tracing::warn!("records of images were damaged: what none names is kept");
        } else {
            store.collect_garbage(GRACE)?;
        }
        store.discard_partials(GRACE)?;
        Ok(store)
    }

    // === reading ===

    /// The blobs.
    pub fn content(&self) -> &ContentStore {
        &self.content
    }

    /// The layers on disk.
    pub fn snapshots(&self) -> &Arc<dyn Snapshotter> {
        &self.snapshots
    }

    /// All images, by id.
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.index().images().cloned().collect()
    }

    /// The image of an id.
    pub fn get(&self, id: &ImageId) -> Option<Arc<Image>> {
        self.index().get(id).cloned()
    }

    /// The image of a name; without tag and digest, of its `latest`.
    pub fn named(&self, name: &Reference) -> Option<Arc<Image>> {
        self.index().named(&key(name)).cloned()
    }

    /// The image a user means: by name, else by id or the beginning of one.
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, StoreError> {
        let found = self
            .index()
            .resolve(text)
            .map_err(|source| StoreError::Name { source })?;
        match found {
            Some(found) => Ok(Arc::clone(found.image())),
            None => Err(StoreError::no_such_image(text)),
        }
    }

    /// A layer that is in place.
    pub fn layer(&self, chain: &ChainId) -> Option<LayerRecord> {
        self.layers().get(chain).cloned()
    }

    /// The configuration of an image, byte for byte.
    pub fn config_bytes(&self, id: &ImageId) -> Result<Vec<u8>, StoreError> {
        let read = self.content.read_limited(id.digest(), limits::CONFIG);
        read.map_err(|source| StoreError::Content { source })
    }

    /// A lease for bringing something in.
    pub fn lease(&self) -> Lease {
        Lease::new(Arc::clone(&self.leases))
    }

    // === changing ===

    /// Records an image whose layers are in place, and gives it names. Durable when this returns.
    pub fn add(&self, image: AddImage) -> Result<Arc<Image>, StoreError> {
        let id = ImageId(Digest::sha256_of(&image.config));
        let lease = self.lease();
        lease.blob(id.digest());
        if !self.content.contains(id.digest()) {
            let put = self.content.put(&image.config, Some(id.digest()));
            put.map_err(|source| StoreError::Ingest { source })?;
        }
        let config = parse_config(&id, &image.config)?;
        let _writer = self.write_lock();
        let mut index = Index::clone(&self.index());
        let old = index.get(&id).cloned();
        let mut record = match &old {
            Some(old) => old.record.clone(),
            None => new_record(id.clone()),
        };
        record.manifest = image.manifest.or(record.manifest);
        record.parent = image.parent.or(record.parent);
        let size = self.size_of(&id, &config)?;
        let names: Vec<Reference> = image.references.iter().map(key).collect();
        let mut changed = take_names(&index, &id, &names);
        if !names.is_empty() {
            record.last_tagged = Some(image.now);
        }
        for name in names {
            if !record.references.contains(&name) {
                record.references.push(name);
            }
        }
        let image = Arc::new(Image {
            record,
            config,
            size,
        });
        changed.push(Arc::clone(&image));
        self.replace(&mut index, &changed)?;
        Ok(image)
    }

    /// Gives the image that the words mean one more name. Durable when this returns.
    pub fn tag(
        &self,
        text: &str,
        name: &Reference,
        now: Timestamp,
    ) -> Result<Arc<Image>, StoreError> {
        if name.digest().is_some() {
            return Err(StoreError::TagIsDigest);
        }
        if name.familiar_name() == "sha256" {
            return Err(StoreError::TagIsAlgorithm);
        }
        let name = key(name);
        let _writer = self.write_lock();
        let mut index = Index::clone(&self.index());
        let found = index
            .resolve(text)
            .map_err(|source| StoreError::Name { source })?;
        let old = found.ok_or_else(|| StoreError::no_such_image(text))?;
        let old = old.image();
        let mut changed = take_names(&index, old.id(), std::slice::from_ref(&name));
        let mut record = old.record.clone();
        record.last_tagged = Some(now);
        if !record.references.contains(&name) {
            record.references.push(name);
        }
        let image = Arc::new(Image {
            record,
            config: old.config.clone(),
            size: old.size,
        });
        changed.push(Arc::clone(&image));
        self.replace(&mut index, &changed)?;
        Ok(image)
    }

    /// Removes a name, and with the last one the image and what only it needed, by Docker's rules.
    ///
    /// `users` are all containers of the engine. One that is created meanwhile keeps the layers, as with force, or
    /// comes too late and finds none.
    pub fn delete(
        &self,
        text: &str,
        users: &[ImageUser],
        options: DeleteOptions,
    ) -> Result<Vec<DeleteRecord>, DeleteError> {
        let mut records = Vec::new();
        let gone = {
            let _writer = self.write_lock();
            let mut index = Index::clone(&self.index());
            let plan = delete::plan(&index, text, users, options)?;
            records.extend(plan.untag.iter().cloned().map(DeleteRecord::Untagged));
            let Some(image) = index.get(&plan.image).cloned() else {
                return Err(StoreError::no_such_image(text).into());
            };
            if plan.delete {
                let write = self.meta.delete(IMAGE, plan.image.as_str());
                write
                    .wait()
                    .map_err(|source| StoreError::Write { source })?;
                index.remove(&plan.image);
                self.publish(index);
                records.push(DeleteRecord::Image(plan.image));
                Some(image)
            } else {
                let mut record = image.record.clone();
                record.references = delete::without(&record.references, &plan.untag);
                let config = image.config.clone();
                let left = Arc::new(Image {
                    record,
                    config,
                    size: image.size,
                });
                self.replace(&mut index, &[left])?;
                None
            }
        };
        if let Some(image) = gone {
            let layers = self.remove_content_of(&image)?;
            records.extend(layers.into_iter().map(DeleteRecord::Layer));
        }
        Ok(records)
    }

    // === for the other modules ===

    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn layers(&self) -> Arc<BTreeMap<ChainId, LayerRecord>> {
        Arc::clone(&self.layers.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write_lock(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish_layers(&self, layers: BTreeMap<ChainId, LayerRecord>) {
        *self.layers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(layers);
    }

    /// What the images of this moment refer to.
    pub(crate) fn keep(&self) -> Keep {
        let mut keep = Keep::default();
        let layers = self.layers();
        for image in self.index().images() {
            keep.image(image, &layers);
        }
        keep
    }

    // === helpers ===

    fn publish(&self, index: Index) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(index);
    }

    /// Writes the images' documents together, then shows them.
    fn replace(&self, index: &mut Index, changed: &[Arc<Image>]) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for image in changed {
            let body = serde_json::to_vec(&image.record);
            let body = body.map_err(|source| StoreError::Encode { source })?;
            batch = batch.put(IMAGE, image.id().as_str(), body);
        }
        self.meta
            .write(batch)
            .wait()
            .map_err(|source| StoreError::Write { source })?;
        for image in changed {
            index.insert(Arc::clone(image));
        }
        self.publish(index.clone());
        Ok(())
    }

    fn size_of(&self, id: &ImageId, config: &ImageConfig) -> Result<u64, StoreError> {
        let layers = self.layers();
        let mut size = 0_u64;
        for chain in chain_ids(&config.rootfs.diff_ids) {
            let Some(layer) = layers.get(&chain) else {
                return Err(StoreError::LayerMissing {
                    id: id.clone(),
                    chain,
                });
            };
            size = size.saturating_add(layer.size);
        }
        Ok(size)
    }

    fn read_layers(&self) -> Result<(), StoreError> {
        let listed = self
            .meta
            .list(LAYER)
            .map_err(|source| StoreError::Read { source })?;
        let mut layers = BTreeMap::new();
        for document in listed {
            match serde_json::from_slice::<LayerRecord>(&document.body) {
                Ok(layer) if self.snapshots.stat(layer.chain_id.as_str()).is_ok() => {
                    layers.insert(layer.chain_id.clone(), layer);
                }
                Ok(layer) => tracing::warn!(chain = %layer.chain_id, "layer has no snapshot"),
                Err(error) => tracing::warn!(id = %document.id, %error, "layer record is unusable"),
            }
        }
        self.publish_layers(layers);
        Ok(())
    }

    fn read_images(&self) -> Result<(), StoreError> {
        let listed = self
            .meta
            .list(IMAGE)
            .map_err(|source| StoreError::Read { source })?;
        let mut index = Index::default();
        for document in listed {
            match self.read_image(&document) {
                Ok(image) => index.insert(Arc::new(image)),
                Err(error) => {
                    let error = havre_types::chain(&error);
                    tracing::warn!(id = %document.id, %error, "image is unusable and left out");
                }
            }
        }
        self.publish(index);
        Ok(())
    }

    fn read_image(&self, document: &Document) -> Result<Image, StoreError> {
        let record: ImageRecord = serde_json::from_slice(&document.body)
            .map_err(|source| StoreError::Encode { source })?;
        let config = parse_config(&record.id, &self.config_bytes(&record.id)?)?;
        // A missing layer is noticed, and named, when it is used; a pull brings it back.
        let size = self.size_of(&record.id, &config).unwrap_or_default();
        Ok(Image {
            record,
            config,
            size,
        })
    }
}

fn new_record(id: ImageId) -> ImageRecord {
    ImageRecord {
        version: VERSION,
        id,
        references: Vec::new(),
        manifest: None,
        last_tagged: None,
        parent: None,
    }
}

/// Reads a configuration and checks what the store relies on.
pub(crate) fn parse_config(id: &ImageId, bytes: &[u8]) -> Result<ImageConfig, StoreError> {
    let config = ImageConfig::parse(bytes).map_err(|source| StoreError::Config {
        id: id.clone(),
        source,
    })?;
    let count = config.rootfs.diff_ids.len();
    if count > limits::LAYERS {
        let limit = limits::LAYERS;
        return Err(StoreError::TooManyLayers {
            id: id.clone(),
            count,
            limit,
        });
    }
    Ok(config)
}

/// The images that lose one of these names to another image, without it.
fn take_names(index: &Index, to: &ImageId, names: &[Reference]) -> Vec<Arc<Image>> {
    let mut losers: BTreeMap<ImageId, record::Image> = BTreeMap::new();
    for name in names {
        let Some(image) = index.named(name).filter(|image| image.id() != to) else {
            continue;
        };
        let loser = losers.entry(image.id().clone()).or_insert_with(|| Image {
            record: image.record.clone(),
            config: image.config.clone(),
            size: image.size,
        });
        loser.record.references.retain(|other| other != name);
    }
    losers.into_values().map(Arc::new).collect()
}
