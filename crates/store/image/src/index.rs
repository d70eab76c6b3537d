//! All images in memory: a value that readers share and a writer replaces as a whole.
//!
//! Everything here is a pure function of the value; durability is the store's business.

use crate::record::Image;
use havre_types::reference::AnyReference;
use havre_types::{Digest, ImageId, Reference, ReferenceError, resolve_prefix};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Images by id, and ids by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    images: BTreeMap<ImageId, Arc<Image>>,
    names: BTreeMap<Reference, ImageId>,
}

/// How a user's words were understood.
#[derive(Clone, Debug)]
pub(crate) enum Match {
    /// By a name; the one in the index.
    Name(Arc<Image>, Reference),
    /// By its id or the beginning of it.
    Id(Arc<Image>),
}

impl Match {
    pub(crate) fn image(&self) -> &Arc<Image> {
        match self {
            Self::Name(image, _) | Self::Id(image) => image,
        }
    }
}

impl Index {
    pub(crate) fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.values()
    }

    pub(crate) fn get(&self, id: &ImageId) -> Option<&Arc<Image>> {
        self.images.get(id)
    }

    pub(crate) fn named(&self, name: &Reference) -> Option<&Arc<Image>> {
        self.images.get(self.names.get(&key(name))?)
    }

    /// Puts an image in place of the one with the same id. Its names must belong to no other image.
    pub(crate) fn insert(&mut self, image: Arc<Image>) {
        let id = image.id().clone();
        self.names.retain(|_, owner| *owner != id);
        for name in &image.record.references {
            self.names.insert(name.clone(), id.clone());
        }
        self.images.insert(id, image);
    }

    pub(crate) fn remove(&mut self, id: &ImageId) {
        self.names.retain(|_, owner| owner != id);
        self.images.remove(id);
    }

    /// Finds an image as Docker does: by name first, then by id, whole or its beginning.
    ///
    /// `Ok(None)` is "no such image"; an ambiguous beginning is one too.
    pub(crate) fn resolve(&self, text: &str) -> Result<Option<Match>, ReferenceError> {
        match Reference::parse_any(text)? {
            AnyReference::Id(digest) => {
                return Ok(self.get(&ImageId(digest)).cloned().map(Match::Id));
            }
            AnyReference::Name(name) => {
                let name = key(&name);
                if let Some(image) = self.named(&name) {
                    return Ok(Some(Match::Name(Arc::clone(image), name)));
                }
            }
        }
        Ok(self.by_prefix(text).map(Match::Id))
    }

    /// The image whose id begins with these hex digits, with or without the algorithm before them.
    fn by_prefix(&self, text: &str) -> Option<Arc<Image>> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let candidates = self.images.keys().map(ImageId::hex);
        let found = resolve_prefix(candidates, digits).ok()?;
        let id = ImageId(Digest::parse(&format!("sha256:{found}")).ok()?);
        self.get(&id).cloned()
    }
}

/// The form a name has in the index: a digest outweighs a tag, and no tag means `latest`
/// (<https://github.com/moby/moby/blob/v28.5.2/reference/store.go>).
pub(crate) fn key(name: &Reference) -> Reference {
    match name.digest() {
        Some(digest) => name.with_digest(digest.clone()),
        None => name.clone().with_default_tag(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::{ImageRecord, VERSION};
    use havre_oci::ImageConfig;

    /// An image with the digest of `seed` as its id.
    pub(crate) fn sample(seed: &str, names: &[&str]) -> Arc<Image> {
        let references = names
            .iter()
            .map(|name| key(&Reference::parse_normalized(name).unwrap()));
        let record = ImageRecord {
            version: VERSION,
            id: ImageId(Digest::sha256_of(seed.as_bytes())),
            references: references.collect(),
            manifest: None,
            last_tagged: None,
            parent: None,
        };
        Arc::new(Image {
            record,
            config: ImageConfig::default(),
            size: 0,
        })
    }

    fn index() -> Index {
        let mut index = Index::default();
        index.insert(sample("a", &["busybox:latest", "example.org/x:1"]));
        index.insert(sample("b", &[]));
        index
    }

    #[test]
    fn names_come_before_ids_and_ids_may_be_short() {
        let index = index();
        let a = sample("a", &[]).id().clone();
        for text in [
            "busybox",
            "docker.io/library/busybox:latest",
            "example.org/x:1",
        ] {
            let found = index.resolve(text).unwrap().unwrap();
            assert!(matches!(&found, Match::Name(..)), "{text}");
            assert_eq!(found.image().id(), &a);
        }
        for text in [
            a.as_str(),
            a.hex(),
            a.short(),
            &a.hex()[..3],
            &a.as_str()[..12],
        ] {
            let found = index.resolve(text).unwrap().unwrap();
            assert!(matches!(&found, Match::Id(..)), "{text}");
        }
        assert!(index.resolve("busybox:2").unwrap().is_none());
        assert!(index.resolve("busyb").unwrap().is_none());
        index.resolve("BUSYBOX").unwrap_err();
        let mut shadowed = index.clone();
        shadowed.insert(sample("c", &[&a.hex()[..6]]));
        let found = shadowed.resolve(&a.hex()[..6]).unwrap().unwrap();
        assert_eq!(found.image().id(), sample("c", &[]).id());
    }

    #[test]
    fn an_insert_replaces_names() {
        let mut index = index();
        index.insert(sample("a", &["other:1"]));
        assert!(index.resolve("busybox").unwrap().is_none());
        assert!(index.resolve("other:1").unwrap().is_some());
        index.remove(sample("a", &[]).id());
        assert!(index.resolve("other:1").unwrap().is_none());
        assert_eq!(index.images().count(), 1);
    }
}
