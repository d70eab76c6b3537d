//! Images as the API shows them: lists, details, removal; bringing them in is in `images/intake.rs`.

mod intake;
mod pull;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use havre_api_traits::{
    ApiError, ApiResult, Images, ImportRequest, LoadRequest, Progress, PullRequest, RemoveImage,
};
use havre_engine_types::{
    DriverData, Filters, ImageDeleteItem, ImageHistoryItem, ImageInspect, ImageMetadata,
    ImageRootFs, ImageSummary,
};
use havre_image::{DeleteOptions, DeleteRecord, Image, ImageUser};
use havre_oci::ImageConfig;
use havre_types::{ImageId, Reference, Timestamp};

use crate::engine::{Engine, Shared};
use crate::error::internal;
pub(crate) use pull::puller;

const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

/// The image that a user means, in Docker's words when there is none.
pub(crate) fn find(shared: &Shared, text: &str) -> ApiResult<Arc<Image>> {
    shared
        .images
        .resolve(text)
        .map_err(|err| ApiError::from_classified(&err))
}

#[async_trait]
impl Images for Engine {
    async fn pull(&self, request: PullRequest) -> ApiResult<Progress> {
        pull::pull(&self.shared, request)
    }

    async fn import(&self, request: ImportRequest) -> ApiResult<Progress> {
        intake::import(&self.shared, request)
    }

    async fn load(&self, request: LoadRequest) -> ApiResult<Progress> {
        intake::load(&self.shared, request)
    }

    /// There are no intermediate images: every one is shown, with and without `all`.
    async fn list(&self, _all: bool, filters: Filters) -> ApiResult<Vec<ImageSummary>> {
        list(&self.shared, &filters)
    }

    async fn inspect(&self, name: &str) -> ApiResult<ImageInspect> {
        let image = find(&self.shared, name)?;
        Ok(inspect(&self.shared, &image))
    }

    async fn history(&self, name: &str) -> ApiResult<Vec<ImageHistoryItem>> {
        let image = find(&self.shared, name)?;
        Ok(history(&self.shared, &image))
    }

    async fn tag(&self, name: &str, repository: &str, tag: &str) -> ApiResult<()> {
        let text = if tag.is_empty() {
            repository.to_owned()
        } else {
            format!("{repository}:{tag}")
        };
        let reference = Reference::parse_normalized(&text)
            .map_err(|err| ApiError::from_classified(&err))?
            .with_default_tag();
        let (shared, name, given) = (Arc::clone(&self.shared), name.to_owned(), reference.clone());
        let tagged = blocking(move || {
            shared
                .images
                .tag(&name, &given, Timestamp::now())
                .map_err(|err| ApiError::from_classified(&err))
        });
        let image = tagged.await?;
        self.shared
            .announce_image("tag", image.id().as_str(), &reference.familiar());
        Ok(())
    }

    async fn remove(&self, name: &str, how: RemoveImage) -> ApiResult<Vec<ImageDeleteItem>> {
        let (shared, text) = (Arc::clone(&self.shared), name.to_owned());
        let image = find(&self.shared, name)?;
        let id = image.id().to_string();
        let removed = blocking(move || {
            shared
                .images
                .delete(&text, &users(&shared), DeleteOptions { force: how.force })
                .map_err(|err| ApiError::from_classified(&err))
        });
        let mut items = Vec::new();
        for record in removed.await? {
            items.push(match record {
                DeleteRecord::Untagged(reference) => {
                    self.shared.announce_image("untag", &id, &id);
                    ImageDeleteItem {
                        untagged: reference.familiar(),
                        ..ImageDeleteItem::default()
                    }
                }
                DeleteRecord::Image(gone) => {
                    self.shared
                        .announce_image("delete", gone.as_str(), gone.as_str());
                    ImageDeleteItem {
                        deleted: gone.to_string(),
                        ..ImageDeleteItem::default()
                    }
                }
                DeleteRecord::Layer(chain) => ImageDeleteItem {
                    deleted: chain.to_string(),
                    ..ImageDeleteItem::default()
                },
            });
        }
        Ok(items)
    }
}

/// Runs what blocks on its own thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> ApiResult<T> + Send + 'static,
) -> ApiResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|err| internal("failed to finish the work", &err))?
}

/// Every container, for the rules of removal.
fn users(shared: &Shared) -> Vec<ImageUser> {
    let containers = shared.registry.all().into_iter();
    containers
        .map(|container| {
            let status = container.now().state.status;
            ImageUser {
                container: container.id().clone(),
                image: container.fixed().image.clone(),
                running: status.is_running() || status.has_process(),
            }
        })
        .collect()
}

/// Images that pass the filters, newest first.
pub(crate) fn list(shared: &Shared, filters: &Filters) -> ApiResult<Vec<ImageSummary>> {
    let failed = |err: &havre_engine_types::FilterError| ApiError::from_classified(err);
    filters.validate(&FILTERS).map_err(|err| failed(&err))?;
    let dangling = filters
        .contains("dangling")
        .then(|| filters.boolean("dangling", false))
        .transpose()
        .map_err(|err| failed(&err))?;
    let moment = |name: &str| -> ApiResult<Option<Timestamp>> {
        let Some(text) = filters.values(name).next() else {
            return Ok(None);
        };
        Ok(find(shared, text)?.config.created)
    };
    let (before, since) = (moment("before")?, moment("since")?);
    let until = filters.values("until").next();
    let until = until
        .map(|text| Timestamp::parse_since(text, Timestamp::now()))
        .transpose()
        .map_err(|err| ApiError::from_classified(&err))?;
    let mut counts: BTreeMap<ImageId, i64> = BTreeMap::new();
    for container in shared.registry.all() {
        *counts.entry(container.fixed().image.clone()).or_default() += 1;
    }
    let mut images = shared.images.images();
    images.sort_by_key(|image| std::cmp::Reverse(image.config.created.unwrap_or_default()));
    let none = havre_engine_types::StringMap::new();
    images.retain(|image| {
        let created = image.config.created.unwrap_or_default();
        dangling.is_none_or(|wanted| wanted == image.is_dangling())
            && filters.labels(
                "label",
                image.config.config.labels.as_ref().unwrap_or(&none),
            )
            && filters.any("reference", |pattern| {
                image
                    .record
                    .references
                    .iter()
                    .any(|name| named(name, pattern))
            })
            && before.is_none_or(|moment| created < moment)
            && since.is_none_or(|moment| created > moment)
            && until.is_none_or(|moment| created < moment)
    });
    let wanted = |name: &Reference| filters.any("reference", |pattern| named(name, pattern));
    Ok(images
        .iter()
        .map(|image| summary(image, &counts, &wanted))
        .collect())
}

/// `busybox`, `busybox:1*`, `host/*/name`: Go's `path.Match` on the short name with and without its tag.
fn named(name: &Reference, pattern: &str) -> bool {
    glob(pattern.as_bytes(), name.familiar().as_bytes())
        || glob(pattern.as_bytes(), name.familiar_name().as_bytes())
}

/// `*` and `?` match anything but a slash. Only the last star is tried again: an earlier one cannot help where it
/// fails, so that no pattern takes longer than pattern times text.
fn glob(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                star = Some((rest, text));
                pattern = rest;
                continue;
            }
            (Some((p, rest)), Some((c, tail))) if p == c || (*p == b'?' && *c != b'/') => {
                (pattern, text) = (rest, tail);
                continue;
            }
            (None, Some(_)) | (Some(_), _) => {}
        }
        // The star takes one more, and what follows it begins anew.
        let Some((rest, from)) = star else {
            return false;
        };
        let Some((c, tail)) = from.split_first() else {
            return false;
        };
        if *c == b'/' {
            return false;
        }
        star = Some((rest, tail));
        (pattern, text) = (rest, tail);
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Names that a filter on references does not want are not shown, though their image is.
fn summary(
    image: &Image,
    counts: &BTreeMap<ImageId, i64>,
    wanted: &dyn Fn(&Reference) -> bool,
) -> ImageSummary {
    let mut repo_tags = image.repo_tags();
    repo_tags.retain(|tag| Reference::parse_normalized(tag).is_ok_and(|name| wanted(&name)));
    ImageSummary {
        containers: counts.get(image.id()).copied().unwrap_or(0),
        created: image.config.created.unwrap_or_default().secs.max(0),
        id: image.id().to_string(),
        labels: image.config.config.labels.clone(),
        parent_id: parent_of(image),
        descriptor: None,
        repo_digests: image.repo_digests(),
        repo_tags,
        shared_size: -1,
        size: signed(image.size),
    }
}

fn parent_of(image: &Image) -> String {
    let parent = image.record.parent.as_ref();
    parent.map(ToString::to_string).unwrap_or_default()
}

/// The image's own, else that of its newest step.
fn comment_of(config: &ImageConfig) -> String {
    let newest = config.history.last().filter(|_| config.comment.is_empty());
    newest.map_or_else(|| config.comment.clone(), |step| step.comment.clone())
}

fn inspect(shared: &Shared, image: &Image) -> ImageInspect {
    let config = &image.config;
    let layers = config
        .rootfs
        .diff_ids
        .iter()
        .map(ToString::to_string)
        .collect();
    ImageInspect {
        id: image.id().to_string(),
        repo_tags: image.repo_tags(),
        repo_digests: image.repo_digests(),
        parent: parent_of(image),
        comment: comment_of(config),
        created: config.created,
        author: config.author.clone(),
        config: Some(config.config.clone()),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        size: signed(image.size),
        graph_driver: Some(DriverData {
            data: None,
            name: shared.snapshots.driver().to_owned(),
        }),
        root_fs: ImageRootFs {
            kind: "layers".to_owned(),
            layers: Some(layers),
        },
        metadata: ImageMetadata {
            last_tag_time: image.record.last_tagged.unwrap_or_default(),
        },
        descriptor: image.record.manifest.clone(),
    }
}

/// Newest step first; only the newest has the image's id.
fn history(shared: &Shared, image: &Image) -> Vec<ImageHistoryItem> {
    let mut chains = image.chain_ids().into_iter();
    let mut items: Vec<ImageHistoryItem> = image
        .config
        .history
        .iter()
        .map(|step| {
            let chain = if step.empty_layer {
                None
            } else {
                chains.next()
            };
            let size = chain
                .and_then(|chain| shared.images.layer(&chain))
                .map_or(0, |l| l.size);
            ImageHistoryItem {
                comment: step.comment.clone(),
                created: step.created.unwrap_or_default().secs.max(0),
                created_by: step.created_by.clone(),
                id: "<missing>".to_owned(),
                size: signed(size),
                tags: None,
            }
        })
        .collect();
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = image.id().to_string();
        let tags = image.repo_tags();
        newest.tags = (!tags.is_empty()).then_some(tags);
    }
    name_parents(shared, image, &mut items);
    items
}

/// The steps at which an image was made that this one is built on have that image's id and tags.
fn name_parents(shared: &Shared, image: &Image, items: &mut [ImageHistoryItem]) {
    let mut next = image.record.parent.clone();
    let mut above = items.len();
    while let Some(parent) = next.and_then(|id| shared.images.get(&id)) {
        let steps = parent.config.history.len();
        // Fewer each time, so that the walk ends.
        if steps == 0 || steps >= above {
            return;
        }
        above = steps;
        if let Some(item) = items
            .len()
            .checked_sub(steps)
            .and_then(|at| items.get_mut(at))
        {
            item.id = parent.id().to_string();
            let tags = parent.repo_tags();
            item.tags = (!tags.is_empty()).then_some(tags);
        }
        next = parent.record.parent.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_filters_match_as_gos_paths() {
        for (pattern, text, yes) in [
            ("busybox", "busybox:latest", true),
            ("busy*", "busybox:1", true),
            ("busybox:1*", "busybox:1.36", true),
            ("*", "host:5000/a", false),
            ("host:5000/*", "host:5000/a", true),
            ("b?sybox", "busybox", true),
            ("busy", "busybox", false),
            ("*x", "busybox", true),
            ("*b*x:?", "busybox:1", true),
            ("*/*b", "host/bb", true),
            ("h*b", "host/b", false),
            (
                "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b",
                "host:5000/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
        ] {
            let name = Reference::parse_normalized(text).unwrap();
            assert_eq!(named(&name, pattern), yes, "{pattern} {text}");
        }
    }
}
