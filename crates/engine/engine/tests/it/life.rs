//! Create, start, stop, kill, restart, remove; names, texts, exit codes, events.

use std::time::{Duration, Instant};

use havre_api_traits::{
    ApiError, ContainerList, EventsQuery, RemoveContainer, RemoveImage, StopOptions, WaitCondition,
};
use havre_engine_types::{
    ContainerConfig, ContainerCreateRequest, Filters, HostConfig, RestartPolicy,
};
use havre_types::{ErrorKind, Timestamp};

use crate::fixture::{Fixture, IMAGE, LIMIT};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_its_exit_code_is_known() {
    let f = Fixture::new().await;
    f.create("one", &["sh", "-c", "exit 7"], HostConfig::default())
        .await;
    f.containers.start("one").await.unwrap();
    assert_eq!(f.code("one").await, 7);
    let shown = f.containers.inspect("one", false).await.unwrap();
    assert_eq!(
        (shown.state.status.as_str(), shown.state.exit_code),
        ("exited", 7)
    );
    assert!(!shown.state.started_at.is_zero() && !shown.state.finished_at.is_zero());
    f.containers.start("one").await.unwrap();
    assert_eq!(f.code("one").await, 7, "a second run");
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_in_dockers_words() {
    let f = Fixture::new().await;
    let missing = f.containers.start("nope").await.unwrap_err();
    assert_eq!(missing, ApiError::not_found("No such container: nope"));
    let id = f.create("two", &["nope"], HostConfig::default()).await;
    let taken = f.containers.create(
        Some("two".to_owned()),
        String::new(),
        ContainerCreateRequest {
            config: ContainerConfig {
                image: IMAGE.to_owned(),
                ..ContainerConfig::default()
            },
            ..ContainerCreateRequest::default()
        },
    );
    assert!(
        taken
            .await
            .unwrap_err()
            .message
            .contains(&format!("already in use by container \"{id}\""))
    );
    let err = f.containers.start("two").await.unwrap_err();
    assert!(
        err.message.contains("executable file not found in $PATH"),
        "{}",
        err.message
    );
    assert_eq!(err.kind, ErrorKind::InvalidParameter);
    let shown = f.containers.inspect(&id[..6], false).await.unwrap();
    assert_eq!(
        (shown.state.status.as_str(), shown.state.exit_code),
        ("created", 127)
    );
    let directory = f.create("three", &["/etc"], HostConfig::default()).await;
    let err = f.containers.start(&directory).await.unwrap_err();
    assert_eq!(
        f.containers
            .inspect("three", false)
            .await
            .unwrap()
            .state
            .exit_code,
        126,
        "{}",
        err.message
    );
    let stopped = f.containers.kill("three", None).await.unwrap_err();
    assert_eq!(stopped.kind, ErrorKind::Conflict);
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_sends_the_signal_and_then_kills() {
    let f = Fixture::new().await;
    let deaf = [
        "sh",
        "-c",
        "trap '' TERM; echo ready; while true; do sleep 1; done",
    ];
    f.create("deaf", &deaf, HostConfig::default()).await;
    f.containers.start("deaf").await.unwrap();
    let began = Instant::now();
    let how = StopOptions {
        signal: None,
        timeout: Some(1),
    };
    f.containers.stop("deaf", how.clone()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert_eq!(f.code("deaf").await, 137);
    assert_eq!(
        f.containers.stop("deaf", how.clone()).await.unwrap_err(),
        ApiError::not_modified()
    );
    f.containers.restart("deaf", how).await.unwrap();
    assert!(
        f.containers
            .inspect("deaf", false)
            .await
            .unwrap()
            .state
            .running
    );
    let running = f
        .containers
        .remove("deaf", RemoveContainer::default())
        .await
        .unwrap_err();
    assert!(
        running
            .message
            .contains("stop the container before removing or force remove")
    );
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rm_removes_and_the_waiter_hears_the_code() {
    let f = Fixture::new().await;
    let host = HostConfig {
        auto_remove: true,
        ..HostConfig::default()
    };
    f.create("gone", &["sh", "-c", "exit 3"], host).await;
    let removed = f
        .containers
        .wait("gone", WaitCondition::Removed)
        .await
        .unwrap();
    let next = f
        .containers
        .wait("gone", WaitCondition::NextExit)
        .await
        .unwrap();
    f.containers.start("gone").await.unwrap();
    assert_eq!(
        tokio::time::timeout(LIMIT, removed)
            .await
            .unwrap()
            .unwrap()
            .status_code,
        3
    );
    assert_eq!(next.await.unwrap().status_code, 3);
    assert_eq!(
        f.containers.inspect("gone", false).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    f.create("gone", &["true"], HostConfig::default()).await;
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_policy_counts_and_gives_up() {
    let f = Fixture::new().await;
    let policy = RestartPolicy {
        name: "on-failure".to_owned(),
        maximum_retry_count: 2,
    };
    let host = HostConfig {
        restart_policy: policy,
        ..HostConfig::default()
    };
    f.create("again", &["false"], host).await;
    let mut events = f.system.events(EventsQuery::default()).await.unwrap();
    f.containers.start("again").await.unwrap();
    let mut deaths = 0;
    while deaths < 3 {
        let event = tokio::time::timeout(LIMIT, events.recv())
            .await
            .unwrap()
            .unwrap();
        deaths += u32::from(event.action == "die");
    }
    assert_eq!(f.code("again").await, 1);
    assert_eq!(
        f.containers
            .inspect("again", false)
            .await
            .unwrap()
            .restart_count,
        2
    );
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_and_can_be_asked_for_later() {
    let f = Fixture::new().await;
    let before = Timestamp::now();
    f.create("seen", &["true"], HostConfig::default()).await;
    f.containers.start("seen").await.unwrap();
    f.code("seen").await;
    f.containers
        .remove("seen", RemoveContainer::default())
        .await
        .unwrap();
    let f = f.reopen().await;
    let mut filters = Filters::default();
    filters.add("container", "seen");
    let query = EventsQuery {
        since: Some(before),
        until: Some(Timestamp::now()),
        filters,
    };
    let mut events = f.system.events(query).await.unwrap();
    let mut actions = Vec::new();
    while let Some(event) = tokio::time::timeout(LIMIT, events.recv()).await.unwrap() {
        actions.push(event.action);
    }
    assert_eq!(actions, ["create", "start", "die", "destroy"]);
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_removal_ends_what_is_just_being_started() {
    let f = Fixture::new().await;
    for _ in 0..3 {
        f.create("racer", &["sleep", "1000"], HostConfig::default())
            .await;
        let force = RemoveContainer {
            force: true,
            volumes: false,
            link: false,
        };
        let (started, removed) = tokio::join!(
            f.containers.start("racer"),
            f.containers.remove("racer", force)
        );
        started.unwrap();
        removed.unwrap();
    }
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_stays() {
    let f = Fixture::new().await;
    f.create("user", &["true"], HostConfig::default()).await;
    let err = remove_image(&f).await.unwrap_err();
    assert!(
        err.message.contains("is using its referenced image"),
        "{}",
        err.message
    );
    let listed = f.containers.list(ContainerList {
        all: true,
        ..ContainerList::default()
    });
    assert_eq!(listed.await.unwrap()[0].image, IMAGE);
    f.containers
        .remove("user", RemoveContainer::default())
        .await
        .unwrap();
    remove_image(&f).await.unwrap();
    f.end().await;
}

async fn remove_image(f: &Fixture) -> Result<(), ApiError> {
    let how = RemoveImage {
        force: false,
        keep_parents: false,
    };
    f.images.remove(IMAGE, how).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_inspected_and_tagged() {
    let f = Fixture::new().await;
    f.images.tag(IMAGE, "it/other", "1").await.unwrap();
    let images = f.images.list(false, Filters::default());
    let tags = images.await.unwrap().remove(0).repo_tags;
    assert_eq!(tags, [IMAGE, "it/other:1"]);
    let shown = f.images.inspect("it/other:1").await.unwrap();
    assert_eq!(shown.config.unwrap().cmd.unwrap(), ["sh"]);
    assert_eq!(
        f.images.history(IMAGE).await.unwrap()[0].comment,
        "Imported from -"
    );
    let info = f.system.info().await.unwrap();
    assert_eq!((info.images, info.containers), (1, 0));
    f.end().await;
}
