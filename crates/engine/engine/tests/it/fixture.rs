//! An engine on directories of its own, and an image made of the host's busybox.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use havre_api_traits::{
    Api, ContainerList, Containers, Execs, Images, ImportRequest, RemoveContainer, System,
    WaitCondition,
};
use havre_engine::{Config, Engine, LogDefaults};
use havre_engine_types::{ContainerConfig, ContainerCreateRequest, HostConfig};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// The image's name.
pub(crate) const IMAGE: &str = "it/busybox:latest";
/// Longer than anything here takes; a test that hangs fails by it.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Fixture {
    engine: Arc<Engine>,
    pub(crate) containers: Arc<dyn Containers>,
    pub(crate) execs: Arc<dyn Execs>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) system: Arc<dyn System>,
    pub(crate) config: Config,
    // Removed last, when everything that lives in it is gone.
    directory: TempDir,
}

fn shim() -> PathBuf {
    if let Some(path) = std::env::var_os("HAVRE_SHIM") {
        return path.into();
    }
    let own = std::env::current_exe().unwrap();
    own.ancestors()
        .nth(2)
        .unwrap()
        .join("containerd-shim-havre-v2")
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let config = Config {
            data_root: directory.path().join("data"),
            exec_root: directory.path().join("exec"),
            instance: format!("it-{}-{number}", std::process::id()),
            init: false,
            init_path: PathBuf::from("/nowhere/havre-init"),
            criu: None,
            shim: shim(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            labels: Vec::new(),
            debug: false,
            cdi_spec_dirs: Vec::new(),
            runtimes: havre_engine::Runtimes::default(),
            log: LogDefaults::default(),
            network: havre_engine::NetworkDefaults::default(),
            net_companion: PathBuf::from("/nowhere/havre-net"),
        };
        let fixture = Self::open(config, directory).await;
        fixture.import().await;
        fixture
    }

    async fn import(&self) {
        let (sender, archive) = mpsc::channel(4);
        let request = ImportRequest {
            repository: IMAGE.to_owned(),
            tag: String::new(),
            message: String::new(),
            changes: vec!["ENV LANG=C".to_owned(), "CMD [\"sh\"]".to_owned()],
            platform: String::new(),
            archive,
        };
        let mut progress = self.images.import(request).await.unwrap();
        tokio::spawn(async move {
            for piece in archive_bytes().chunks(1 << 16) {
                sender
                    .send(Ok(Bytes::copy_from_slice(piece)))
                    .await
                    .unwrap();
            }
        });
        while let Some(message) = progress.recv().await {
            message.unwrap();
        }
    }

    pub(crate) async fn create(&self, name: &str, words: &[&str], host: HostConfig) -> String {
        let config = ContainerConfig {
            image: IMAGE.to_owned(),
            cmd: Some(words.iter().map(|w| (*w).to_owned()).collect()),
            ..ContainerConfig::default()
        };
        self.create_with(name, config, host).await
    }

    pub(crate) async fn create_with(
        &self,
        name: &str,
        config: ContainerConfig,
        host: HostConfig,
    ) -> String {
        let host = HostConfig {
            network_mode: "none".to_owned(),
            ..host
        };
        let request = ContainerCreateRequest {
            config,
            host_config: Some(host),
            networking_config: None,
            mac_address: String::new(),
        };
        let name = Some(name.to_owned());
        self.containers
            .create(name, String::new(), request)
            .await
            .unwrap()
            .id
    }

    /// Waits for the end and gives the exit code.
    pub(crate) async fn code(&self, name: &str) -> i64 {
        let wait = self
            .containers
            .wait(name, WaitCondition::NotRunning)
            .await
            .unwrap();
        tokio::time::timeout(LIMIT, wait)
            .await
            .unwrap()
            .unwrap()
            .status_code
    }

    /// Ends this engine and opens another; the shims are told nothing.
    pub(crate) async fn reopen(self) -> Self {
        let (config, directory) = self.close().await;
        Self::open(config, directory).await
    }

    /// Ends this engine, wholly.
    pub(crate) async fn close(self) -> (Config, TempDir) {
        self.engine.shutdown().await;
        (self.config, self.directory)
    }

    pub(crate) async fn open(config: Config, directory: TempDir) -> Self {
        let engine = Engine::open(config.clone()).await.unwrap();
        let Api {
            system,
            images,
            containers,
            execs,
            ..
        } = Api::new(Arc::clone(&engine));
        Self {
            engine,
            containers,
            execs,
            images,
            system,
            config,
            directory,
        }
    }

    /// Removes everything and looks for what was left behind.
    pub(crate) async fn end(self) {
        let all = ContainerList {
            all: true,
            ..ContainerList::default()
        };
        for container in self.containers.list(all).await.unwrap() {
            let force = RemoveContainer {
                force: true,
                volumes: false,
                link: false,
            };
            self.containers.remove(&container.id, force).await.unwrap();
        }
        self.engine.shutdown().await;
        let left = |path: PathBuf| fs_err::read_dir(path).map_or(0, Iterator::count);
        assert_eq!(left(self.config.exec_root.join("containers")), 0, "bundles");
        assert_eq!(
            left(self.config.data_root.join("containers")),
            0,
            "data directories"
        );
    }
}

/// A tar of busybox with links for what the tests run.
fn archive_bytes() -> Vec<u8> {
    let busybox = fs_err::read("/bin/busybox")
        .or_else(|_| fs_err::read("/usr/bin/busybox"))
        .unwrap();
    let mut tar = Vec::new();
    for directory in ["bin/", "etc/", "tmp/"] {
        entry(&mut tar, directory, b'5', "", &[]);
    }
    entry(&mut tar, "bin/busybox", b'0', "", &busybox);
    for tool in [
        "sh", "cat", "echo", "sleep", "id", "true", "false", "seq", "kill", "env", "ls",
    ] {
        entry(&mut tar, &format!("bin/{tool}"), b'2', "busybox", &[]);
    }
    entry(
        &mut tar,
        "etc/passwd",
        b'0',
        "",
        b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n",
    );
    entry(
        &mut tar,
        "etc/group",
        b'0',
        "",
        b"root:x:0:\napp:x:1000:\nstaff:x:50:app\n",
    );
    tar.extend([0; 1024]);
    tar
}

/// <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html> (ustar)
fn entry(tar: &mut Vec<u8>, name: &str, kind: u8, link: &str, body: &[u8]) {
    let mut head = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", body.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    head[156] = kind;
    let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(head);
    tar.extend(body);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
