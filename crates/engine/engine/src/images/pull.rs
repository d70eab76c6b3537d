//! Pulling: the registry client's progress as Docker's messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use havre_api_traits::{ApiError, ApiResult, Progress, PullRequest};
use havre_engine_types::{JsonMessage, ProgressDetail};
use havre_image::ImageStore;
use havre_registry_client::{Config, Credentials, Puller};
use havre_types::{Platform, Reference, size};
use tokio::sync::mpsc;

use crate::engine::{OpenError, Shared};

/// Messages in flight to one client.
const DEPTH: usize = 64;
/// Messages that wait for a slow reader before counts of bytes are left out.
const BACKLOG: usize = 1024;

/// The registry client as the engine is configured.
pub(crate) fn puller(
    config: &crate::engine::Config,
    images: &Arc<ImageStore>,
) -> Result<Puller, OpenError> {
    let config = Config {
        insecure_registries: config.insecure_registries.clone(),
        mirrors: config.registry_mirrors.clone(),
        ..Config::default()
    };
    Puller::new(Arc::clone(images), config).map_err(|source| OpenError::Registry { source })
}

/// Starts a pull. It ends when the receiver is dropped.
pub(super) fn pull(shared: &Arc<Shared>, request: PullRequest) -> ApiResult<Progress> {
    let (reference, every_tag) = reference(&request)?;
    let platform = (!request.platform.is_empty())
        .then(|| Platform::parse(&request.platform))
        .transpose()
        .map_err(|err| ApiError::from_classified(&err))?;
    let credentials = request.auth.map(|auth| Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    });
    let wanted = havre_registry_client::PullRequest {
        reference,
        platform,
        credentials,
    };
    let (sender, progress) = mpsc::channel(DEPTH);
    let kept = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let client = sender.clone();
        let stopping = kept.stopping.clone();
        let result = tokio::select! {
            result = run(&kept, wanted, every_tag, &sender) => result,
            () = client.closed() => return,
            () = stopping.cancelled() => return,
        };
        if let Err(err) = result {
            // A client that has left does not read the error.
            sender.send(Err(err)).await.ok();
        }
    });
    Ok(progress)
}

/// The reference of a request, and whether all tags of it are meant.
fn reference(request: &PullRequest) -> ApiResult<(Reference, bool)> {
    let invalid = |err: &havre_types::ReferenceError| {
        ApiError::invalid(format!("invalid reference format: {err}"))
    };
    let text = match request.tag.as_str() {
        "" => request.image.clone(),
        digest if digest.contains(':') => format!("{}@{digest}", request.image),
        tag => format!("{}:{tag}", request.image),
    };
    let reference = Reference::parse_normalized(&text).map_err(|err| match err.to_string() {
        text if text.starts_with("invalid reference format") => ApiError::invalid(text),
        _ => invalid(&err),
    })?;
    let every_tag = reference.tag().is_none() && reference.digest().is_none();
    Ok((reference, every_tag))
}

async fn run(
    shared: &Shared,
    request: havre_registry_client::PullRequest,
    every_tag: bool,
    sender: &mpsc::Sender<ApiResult<JsonMessage>>,
) -> ApiResult<()> {
    let failed = |err: &havre_registry_client::PullError| ApiError::from_classified(err);
    let references = if every_tag {
        let tags = shared
            .puller
            .tags(&request)
            .await
            .map_err(|err| failed(&err))?;
        let named = tags.iter().map(|tag| request.reference.with_tag(tag));
        named
            .collect::<Result<_, _>>()
            .map_err(|err| ApiError::from_classified(&err))?
    } else {
        vec![request.reference.clone()]
    };
    for reference in references {
        let (name, repository) = (reference.familiar(), reference.familiar_name());
        let one = havre_registry_client::PullRequest {
            reference,
            ..request.clone()
        };
        let (queue, mut messages) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let backlog = Backlog {
            queue,
            waiting: Arc::clone(&waiting),
        };
        let report = move |progress| backlog.put(progress);
        let forward = async {
            while let Some(progress) = messages.recv().await {
                waiting.fetch_sub(1, Ordering::Relaxed);
                if sender.send(Ok(message(progress))).await.is_err() {
                    return;
                }
            }
        };
        let (pulled, ()) = tokio::join!(shared.puller.pull(one, Arc::new(report)), forward);
        let pulled = pulled.map_err(|err| failed(&err))?;
        shared.announce_image("pull", &name, &repository);
        tracing::info!(image = %pulled.image.id(), name, "pulled");
    }
    Ok(())
}

/// What waits for a slow reader. The registry client must not block, so the queue has no end; but when many wait,
/// counts of bytes are left out: newer ones follow.
struct Backlog {
    queue: mpsc::UnboundedSender<havre_registry_client::Progress>,
    waiting: Arc<AtomicUsize>,
}

impl Backlog {
    fn put(&self, progress: havre_registry_client::Progress) {
        if progress.bytes.is_some() && self.waiting.load(Ordering::Relaxed) >= BACKLOG {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A reader that has gone means that the pull has, too.
        self.queue.send(progress).ok();
    }
}

fn message(progress: havre_registry_client::Progress) -> JsonMessage {
    if progress.id.is_empty() {
        return JsonMessage::status(progress.status);
    }
    let base = if progress.status.starts_with("Pulling from") {
        JsonMessage {
            id: progress.id,
            ..JsonMessage::status(progress.status)
        }
    } else {
        JsonMessage::layer(progress.id, progress.status)
    };
    let Some((current, total)) = progress.bytes else {
        return base;
    };
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let detail = ProgressDetail {
        current: number(current),
        total: number(total),
        ..ProgressDetail::default()
    };
    JsonMessage {
        progress_detail: Some(detail),
        progress: bar(current, total),
        ..base
    }
}

/// Docker's text for a progress bar, for clients that do not draw it themselves.
/// <https://github.com/moby/moby/blob/master/client/pkg/jsonmessage/jsonmessage.go>
fn bar(current: u64, total: u64) -> String {
    if total == 0 || current > total {
        return size::human_decimal(current);
    }
    let done = usize::try_from(u128::from(current) * 50 / u128::from(total))
        .unwrap_or(50)
        .min(50);
    let blank = 50 - done;
    let line = format!("[{}>{}]", "=".repeat(done), " ".repeat(blank));
    format!(
        "{line}  {}/{}",
        size::human_decimal(current),
        size::human_decimal(total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(image: &str, tag: &str) -> Result<(String, bool), String> {
        let request = PullRequest {
            image: image.to_owned(),
            tag: tag.to_owned(),
            ..PullRequest::default()
        };
        reference(&request)
            .map(|(name, all)| (name.familiar(), all))
            .map_err(|err| err.message)
    }

    #[test]
    fn tag_and_digest_may_come_apart_from_the_name() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            parsed("busybox", "1").unwrap(),
            ("busybox:1".to_owned(), false)
        );
        assert_eq!(
            parsed("h:5000/x:2", "").unwrap(),
            ("h:5000/x:2".to_owned(), false)
        );
        assert_eq!(
            parsed("busybox", &digest).unwrap(),
            (format!("busybox@{digest}"), false)
        );
        assert!(parsed("busybox", "").unwrap().1);
        assert!(
            parsed("BUSYBOX", "1")
                .unwrap_err()
                .starts_with("invalid reference format")
        );
    }

    #[test]
    fn a_reader_that_does_not_read_costs_little_and_misses_no_state() {
        let (queue, messages) = mpsc::unbounded_channel();
        let backlog = Backlog {
            queue,
            waiting: Arc::default(),
        };
        let progress = |bytes| havre_registry_client::Progress {
            id: "a".to_owned(),
            status: String::new(),
            bytes,
        };
        for current in 0..5000 {
            backlog.put(progress(Some((current, 5000))));
        }
        backlog.put(progress(None));
        assert_eq!(messages.len(), BACKLOG + 1);
    }

    #[test]
    fn bars_are_fifty_wide() {
        assert_eq!(bar(0, 100), format!("[>{}]  0B/100B", " ".repeat(50)));
        assert_eq!(
            bar(50, 100),
            format!("[{}>{}]  50B/100B", "=".repeat(25), " ".repeat(25))
        );
        assert_eq!(bar(5, 0), "5B");
    }
}
