//! What an engine finds again after it was gone: running containers, exit codes, half-made things.

use havre_api_traits::{AttachOptions, ContainerList, EventsQuery, StopOptions, WaitCondition};
use havre_engine_types::{Filters, HostConfig, RestartPolicy};
use havre_types::Timestamp;

use crate::fixture::{Fixture, LIMIT};

#[tokio::test(flavor = "multi_thread")]
async fn running_containers_go_on_and_exit_codes_are_found() {
    let f = Fixture::new().await;
    f.create("stays", &["sleep", "1000"], HostConfig::default())
        .await;
    let ends = [
        "sh",
        "-c",
        "while ! [ -e /go/go ]; do sleep 0.05; done; exit 9",
    ];
    let go = tempfile::tempdir().unwrap();
    let bind = Some(vec![format!("{}:/go", go.path().display())]);
    let host = HostConfig {
        binds: bind.clone(),
        ..HostConfig::default()
    };
    f.create("ends", &ends, host).await;
    let host = HostConfig {
        binds: bind,
        auto_remove: true,
        ..HostConfig::default()
    };
    f.create("removed", &ends, host).await;
    for name in ["stays", "ends", "removed"] {
        f.containers.start(name).await.unwrap();
    }
    let pid = f
        .containers
        .inspect("stays", false)
        .await
        .unwrap()
        .state
        .pid;
    let (config, directory) = f.close().await;
    fs_err::write(go.path().join("go"), "").unwrap();
    wait_for_exits(&config.exec_root.join("containers"), 2).await;
    let f = Fixture::open(config, directory).await;
    let stays = f.containers.inspect("stays", false).await.unwrap();
    assert!(stays.state.running);
    assert_eq!(stays.state.pid, pid);
    assert_eq!(f.code("ends").await, 9);
    // Its removal may be under way.
    if let Ok(wait) = f.containers.wait("removed", WaitCondition::Removed).await {
        tokio::time::timeout(LIMIT, wait).await.unwrap().unwrap();
    }
    let all = ContainerList {
        all: true,
        ..ContainerList::default()
    };
    let names: Vec<_> = f
        .containers
        .list(all)
        .await
        .unwrap()
        .into_iter()
        .flat_map(|c| c.names)
        .collect();
    assert!(!names.contains(&"/removed".to_owned()), "{names:?}");
    let quick = StopOptions {
        signal: Some("KILL".to_owned()),
        timeout: Some(5),
    };
    f.containers.stop("stays", quick).await.unwrap();
    assert_eq!(f.code("stays").await, 137);
    f.end().await;
}

/// Until so many exit records are there. The file system tells nothing, so it is asked again and again.
async fn wait_for_exits(bundles: &std::path::Path, wanted: usize) {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
    for _ in 0..1000 {
        let found = fs_err::read_dir(bundles).unwrap().flatten();
        if found
            .filter(|entry| entry.path().join("exit.json").exists())
            .count()
            >= wanted
        {
            return;
        }
        tick.tick().await;
    }
    panic!("no exit records");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_user_ended_stays_ended_and_ends_once() {
    let before = Timestamp::now();
    let f = Fixture::new().await;
    let go = tempfile::tempdir().unwrap();
    let policy = RestartPolicy {
        name: "unless-stopped".to_owned(),
        maximum_retry_count: 0,
    };
    let host = HostConfig {
        binds: Some(vec![format!("{}:/go", go.path().display())]),
        restart_policy: policy,
        ..HostConfig::default()
    };
    let late = [
        "sh",
        "-c",
        "trap '' TERM; while ! [ -e /go/go ]; do sleep 0.05; done; exit 9",
    ];
    let id = f.create("late", &late, host).await;
    f.containers.start("late").await.unwrap();
    f.containers
        .kill("late", Some("TERM".to_owned()))
        .await
        .unwrap();
    let (config, directory) = f.close().await;
    fs_err::write(go.path().join("go"), "").unwrap();
    wait_for_exits(&config.exec_root.join("containers"), 1).await;

    let f = Fixture::open(config, directory).await;
    assert_eq!(f.code("late").await, 9);
    let shown = f.containers.inspect("late", false).await.unwrap();
    assert_eq!(
        (shown.state.status.as_str(), shown.restart_count),
        ("exited", 0)
    );

    // The engine was killed between the record and the removal of the bundle.
    let (config, directory) = f.close().await;
    let bundle = config.exec_root.join("containers").join(&id);
    fs_err::create_dir_all(&bundle).unwrap();
    let at = shown.state.finished_at.rfc3339();
    let record = format!(r#"{{"pid":1,"exit_status":9,"exited_at":"{at}","oom_killed":false}}"#);
    fs_err::write(bundle.join("exit.json"), record).unwrap();
    let f = Fixture::open(config, directory).await;
    let shown = f.containers.inspect("late", false).await.unwrap();
    assert_eq!(
        (shown.state.status.as_str(), shown.restart_count),
        ("exited", 0)
    );
    let mut filters = Filters::default();
    filters.add("event", "die");
    let query = EventsQuery {
        since: Some(before),
        until: Some(Timestamp::now()),
        filters,
    };
    let mut deaths = f.system.events(query).await.unwrap();
    assert!(deaths.recv().await.is_some());
    assert!(deaths.recv().await.is_none(), "one run died twice");
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn left_overs_without_a_record_are_swept() {
    let f = Fixture::new().await;
    let orphan = "c".repeat(64);
    for root in [&f.config.exec_root, &f.config.data_root] {
        fs_err::create_dir_all(root.join("containers").join(&orphan)).unwrap();
    }
    let f = f.reopen().await;
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_cost_no_files() {
    let f = Fixture::new().await;
    let id = f.create("kept", &["true"], HostConfig::default()).await;
    let (config, directory) = f.close().await;
    // The first page: nothing of the file can be read.
    let meta = config.data_root.join("meta.db");
    let mut bytes = fs_err::read(&meta).unwrap();
    bytes[..100].fill(0xff);
    fs_err::write(&meta, bytes).unwrap();
    let count = |path: &str| {
        fs_err::read_dir(config.data_root.join(path))
            .unwrap()
            .count()
    };
    let before = (count("snapshots"), count("content/blobs/sha256"));
    let f = Fixture::open(config.clone(), directory)
        .await
        .reopen()
        .await;
    assert!(config.data_root.join("containers").join(&id).exists());
    assert_eq!((count("snapshots"), count("content/blobs/sha256")), before);
    f.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_takes_its_container_with_it() {
    let f = Fixture::new().await;
    let id = f
        .create("orphan", &["sleep", "1000"], HostConfig::default())
        .await;
    f.containers.start("orphan").await.unwrap();
    let shim = f
        .config
        .exec_root
        .join("containers")
        .join(&id)
        .join("shim.pid");
    let pid: i32 = fs_err::read_to_string(shim)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let options = AttachOptions {
        stdout: true,
        stream: true,
        ..AttachOptions::default()
    };
    let _attached = f.containers.attach("orphan", options).await.unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(f.code("orphan").await, 137);
    f.containers.start("orphan").await.unwrap();
    f.end().await;
}
