//! The fake engine's side of the traits.

use std::sync::Arc;

use async_trait::async_trait;
use havre_api_traits::{
    ApiError, ApiResult, AttachOptions, AttachSession, ContainerList, Containers, EventsQuery,
    Images, ImportRequest, LoadRequest, LogOptions, LogSession, Progress, PullRequest,
    RegistryAuth, RemoveContainer, RemoveImage, StopOptions, System, TerminalSize, Upload,
    UsageQuery, WaitCondition, WaitFuture,
};
use havre_engine_types::{
    AuthResponse, ComponentVersion, ContainerCreateRequest, ContainerCreateResponse,
    ContainerInspect, ContainerSummary, DiskUsage, Event, Filters, ImageDeleteItem,
    ImageHistoryItem, ImageInspect, ImageSummary, JsonMessage, ObjectUsage, SystemInfo,
    SystemVersion, WaitResponse,
};
use havre_types::ErrorKind;
use tokio::sync::mpsc;

use super::{Fake, Process};

/// The traits are on the shared handle: sessions outlive the calls that make them.
#[async_trait]
impl System for Fake {
    async fn info(&self) -> ApiResult<SystemInfo> {
        Ok(SystemInfo::default())
    }

    async fn version(&self) -> ApiResult<SystemVersion> {
        let engine = ComponentVersion {
            name: "Engine".to_owned(),
            version: "0.0-test".to_owned(),
            details: None,
        };
        Ok(SystemVersion {
            version: "0.0-test".to_owned(),
            components: vec![engine],
            ..SystemVersion::default()
        })
    }

    async fn events(&self, _query: EventsQuery) -> ApiResult<mpsc::Receiver<Event>> {
        let (sender, receiver) = mpsc::channel(16);
        let mut live = self.events.subscribe();
        self.observers.send_modify(|count| *count += 1);
        let observers = self.observers.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = live.recv() => {
                        let Ok(event) = event else { break };
                        if sender.send(event).await.is_err() { break }
                    }
                    () = sender.closed() => break,
                }
            }
            observers.send_modify(|count| *count -= 1);
        });
        Ok(receiver)
    }

    async fn disk_usage(&self, query: UsageQuery) -> ApiResult<DiskUsage> {
        let images = ObjectUsage {
            items: vec![ImageSummary {
                id: "sha256:1".to_owned(),
                size: 7,
                ..ImageSummary::default()
            }],
            total_count: 1,
            total_size: 7,
            ..ObjectUsage::default()
        };
        Ok(DiskUsage {
            image_usage: query.images.then_some(images),
            container_usage: query.containers.then(ObjectUsage::default),
            volume_usage: query.volumes.then(ObjectUsage::default),
            build_cache_usage: query.build_cache.then(ObjectUsage::default),
        })
    }

    async fn login(&self, auth: RegistryAuth) -> ApiResult<AuthResponse> {
        if auth.password != "right" {
            return Err(ApiError::new(ErrorKind::Unauthorized, "wrong password"));
        }
        Ok(AuthResponse {
            identity_token: format!("token of {}", auth.server_address),
            status: "Login Succeeded".to_owned(),
        })
    }
}

#[async_trait]
impl Images for Fake {
    async fn pull(&self, request: PullRequest) -> ApiResult<Progress> {
        if request.image == "bad name" {
            return Err(ApiError::invalid("invalid reference format"));
        }
        let messages = std::mem::take(&mut *self.pull.lock().unwrap());
        if messages.iter().all(Result::is_ok) {
            let tag = if request.tag.is_empty() {
                "latest"
            } else {
                &request.tag
            };
            self.images
                .lock()
                .unwrap()
                .push(format!("{}:{tag}", request.image));
        }
        let (sender, receiver) = mpsc::channel(1);
        let mut hold = self.hold_pull.subscribe();
        let cancelled = self.cancelled_pulls.clone();
        tokio::spawn(async move {
            for message in messages {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _released = hold.wait_for(|hold| !hold) => {}
                () = sender.closed() => cancelled.send_modify(|count| *count += 1),
            }
        });
        Ok(receiver)
    }

    async fn import(&self, request: ImportRequest) -> ApiResult<Progress> {
        self.take_upload(
            request.archive,
            format!("{} {:?}", request.repository, request.changes),
        )
        .await
    }

    async fn load(&self, request: LoadRequest) -> ApiResult<Progress> {
        self.take_upload(request.archive, "Loaded image: x".to_owned())
            .await
    }

    async fn list(&self, _all: bool, filters: Filters) -> ApiResult<Vec<ImageSummary>> {
        filters
            .validate(&["reference"])
            .map_err(|error| ApiError::from_classified(&error))?;
        let images = self.images.lock().unwrap();
        Ok(images
            .iter()
            .map(|name| ImageSummary {
                id: format!("sha256:{:064x}", 7),
                repo_tags: vec![name.clone()],
                size: 5,
                ..ImageSummary::default()
            })
            .collect())
    }

    async fn inspect(&self, name: &str) -> ApiResult<ImageInspect> {
        let images = self.images.lock().unwrap();
        let found = images
            .iter()
            .find(|image| *image == name || image.strip_suffix(":latest") == Some(name));
        let Some(found) = found else {
            return Err(ApiError::not_found(format!("No such image: {name}")));
        };
        Ok(ImageInspect {
            id: format!("sha256:{:064x}", 7),
            repo_tags: vec![found.clone()],
            ..ImageInspect::default()
        })
    }

    async fn history(&self, _name: &str) -> ApiResult<Vec<ImageHistoryItem>> {
        Ok(Vec::new())
    }

    async fn tag(&self, _name: &str, repository: &str, tag: &str) -> ApiResult<()> {
        self.images
            .lock()
            .unwrap()
            .push(format!("{repository}:{tag}"));
        Ok(())
    }

    async fn remove(&self, name: &str, _how: RemoveImage) -> ApiResult<Vec<ImageDeleteItem>> {
        self.images.lock().unwrap().retain(|image| image != name);
        Ok(vec![ImageDeleteItem {
            untagged: name.to_owned(),
            ..ImageDeleteItem::default()
        }])
    }
}

impl Fake {
    async fn take_upload(&self, mut archive: Upload, answer: String) -> ApiResult<Progress> {
        let mut size = 0;
        let mut failure = None;
        while let Some(piece) = archive.recv().await {
            match piece {
                Ok(bytes) => size += bytes.len(),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        let result = failure.map_or(Ok(size), Err);
        *self.uploaded.lock().unwrap() = Some(result.clone());
        let (sender, receiver) = mpsc::channel(1);
        let message = match result {
            Ok(_) => Ok(JsonMessage {
                stream: answer,
                ..JsonMessage::default()
            }),
            Err(text) => Err(ApiError::invalid(text)),
        };
        sender.send(message).await.unwrap();
        Ok(receiver)
    }
}

#[async_trait]
impl Containers for Fake {
    async fn create(
        &self,
        name: Option<String>,
        _platform: String,
        request: ContainerCreateRequest,
    ) -> ApiResult<ContainerCreateResponse> {
        let image = request.config.image.clone();
        let reference = if image.contains(':') {
            image
        } else {
            format!("{image}:latest")
        };
        if !self.images.lock().unwrap().contains(&reference) {
            return Err(ApiError::not_found(format!("No such image: {reference}")));
        }
        let id = self.next_id();
        let name = name.unwrap_or_else(|| format!("fake{}", &id[60..]));
        let process = Process::create(
            id.clone(),
            name,
            request.config,
            request.host_config.is_some_and(|host| host.auto_remove),
        );
        self.emit("create", &process);
        self.containers.lock().unwrap().push(process);
        Ok(ContainerCreateResponse {
            id,
            warnings: Vec::new(),
        })
    }

    async fn start(&self, id: &str) -> ApiResult<()> {
        let process = self.find(id)?;
        if process.running() {
            return Err(ApiError::not_modified());
        }
        self.starting.send_modify(|count| *count += 1);
        self.let_start
            .subscribe()
            .wait_for(|open| *open)
            .await
            .unwrap();
        tokio::spawn(Arc::clone(&process).run());
        process
            .started
            .subscribe()
            .wait_for(|started| *started)
            .await
            .unwrap();
        self.emit("start", &process);
        Ok(())
    }

    async fn stop(&self, id: &str, how: StopOptions) -> ApiResult<()> {
        self.kill(id, how.signal.or(Some("15".to_owned()))).await
    }

    async fn restart(&self, id: &str, _how: StopOptions) -> ApiResult<()> {
        self.find(id).map(drop)
    }

    async fn kill(&self, id: &str, signal: Option<String>) -> ApiResult<()> {
        let process = self.find(id)?;
        if !process.running() {
            return Err(ApiError::conflict(format!(
                "container {} is not running",
                process.id
            )));
        }
        process
            .killed
            .send_replace(signal.map_or(9, |signal| signal.parse().unwrap()));
        process
            .exit
            .subscribe()
            .wait_for(Option::is_some)
            .await
            .unwrap();
        self.emit("die", &process);
        Ok(())
    }

    async fn wait(&self, id: &str, condition: WaitCondition) -> ApiResult<WaitFuture> {
        let process = self.find(id)?;
        let (mut exit, mut removed) = (process.exit.subscribe(), process.removed.subscribe());
        Ok(Box::pin(async move {
            let code = exit.wait_for(Option::is_some).await.unwrap().unwrap();
            if condition == WaitCondition::Removed {
                removed.wait_for(|removed| *removed).await.unwrap();
            }
            Ok(WaitResponse {
                status_code: code,
                error: None,
            })
        }))
    }

    async fn attach(&self, id: &str, options: AttachOptions) -> ApiResult<AttachSession> {
        let process = self.find(id)?;
        let (sender, output) = mpsc::channel(4);
        let mut session = process.session(options.stdin, sender.clone());
        session.output = output;
        self.observers.send_modify(|count| *count += 1);
        let observers = self.observers.clone();
        tokio::spawn(async move {
            let mut exit = process.exit.subscribe();
            tokio::select! {
                () = sender.closed() => {}
                ended = exit.wait_for(Option::is_some) => drop(ended),
            }
            observers.send_modify(|count| *count -= 1);
        });
        Ok(session)
    }

    async fn detached(&self, _id: &str) {
        self.detached.send_modify(|count| *count += 1);
    }

    async fn resize(&self, id: &str, size: TerminalSize) -> ApiResult<()> {
        self.find(id)?.size.send_replace(Some(size));
        Ok(())
    }

    async fn logs(&self, id: &str, options: LogOptions) -> ApiResult<LogSession> {
        let process = self.find(id)?;
        let (sender, entries) = mpsc::channel(4);
        self.observers.send_modify(|count| *count += 1);
        let observers = self.observers.clone();
        let tty = process.config.tty;
        tokio::spawn(async move {
            tokio::select! {
                () = send_log(&process, &options, &sender) => {}
                () = sender.closed() => {}
            }
            observers.send_modify(|count| *count -= 1);
        });
        Ok(LogSession { tty, entries })
    }

    async fn list(&self, query: ContainerList) -> ApiResult<Vec<ContainerSummary>> {
        query
            .filters
            .validate(&["name", "status"])
            .map_err(|error| ApiError::from_classified(&error))?;
        let containers = self.containers.lock().unwrap();
        let shown = containers
            .iter()
            .filter(|c| (query.all || c.running()) && query.filters.exact("name", &c.name));
        Ok(shown.map(|c| summary(c)).collect())
    }

    async fn inspect(&self, id: &str, _size: bool) -> ApiResult<ContainerInspect> {
        let process = self.find(id)?;
        let mut shown = ContainerInspect {
            id: process.id.clone(),
            name: format!("/{}", process.name),
            config: process.config.clone(),
            ..ContainerInspect::default()
        };
        shown.state.running = process.running();
        shown.state.status = if process.running() {
            "running"
        } else {
            "exited"
        }
        .to_owned();
        shown.state.exit_code = process.exit.borrow().unwrap_or(0);
        Ok(shown)
    }

    async fn remove(&self, id: &str, how: RemoveContainer) -> ApiResult<()> {
        let process = self.find(id)?;
        if process.running() {
            if !how.force {
                return Err(ApiError::conflict(format!(
                    "cannot remove container \"{}\": container is running: stop the container before removing or force remove",
                    process.name
                )));
            }
            self.kill(id, None).await?;
        }
        self.containers
            .lock()
            .unwrap()
            .retain(|c| c.id != process.id);
        process.removed.send_replace(true);
        Ok(())
    }
}

async fn send_log(
    process: &Process,
    options: &LogOptions,
    sender: &mpsc::Sender<ApiResult<havre_api_traits::LogEntry>>,
) {
    let mut log = process.log.subscribe();
    let mut exit = process.exit.subscribe();
    let mut next = 0;
    loop {
        let entries = log.borrow_and_update()[next..].to_vec();
        next += entries.len();
        for entry in entries {
            if sender.send(Ok(entry)).await.is_err() {
                return;
            }
        }
        if !options.follow || process.exit.borrow().is_some() {
            return;
        }
        tokio::select! {
            changed = log.changed() => changed.unwrap(),
            ended = exit.wait_for(Option::is_some) => drop(ended),
        }
    }
}

fn summary(process: &Process) -> ContainerSummary {
    ContainerSummary {
        id: process.id.clone(),
        names: vec![format!("/{}", process.name)],
        image: process.config.image.clone(),
        command: process.config.cmd.clone().unwrap_or_default().join(" "),
        state: if process.running() {
            "running"
        } else {
            "exited"
        }
        .to_owned(),
        status: "Up 1 second".to_owned(),
        ..ContainerSummary::default()
    }
}

impl Fake {
    /// A log line and an event for each number up to `count`.
    pub(crate) fn tick(&self, name: &str, count: usize) {
        self.find(name).unwrap().ticks.send_replace(count);
    }

    pub(crate) fn message(status: &str) -> ApiResult<JsonMessage> {
        Ok(JsonMessage::status(status))
    }
}
