//! The Debian packages the fixtures need, installed once.

use crate::cache;
use crate::command::{command, run};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the fixtures run: the two image sources, the registry, foreign clients and runtimes, a TLS server, CRIU, the tools that
/// read what was written to the kernel, the virtual machine.
const PACKAGES: [&str; 15] = [
    "busybox-static",
    "containerd",
    "cpio",
    "criu",
    "docker-registry",
    "iproute2",
    "iptables",
    "mmdebstrap",
    "nftables",
    "openssl",
    "python3-docker",
    "qemu-system-x86",
    "runc",
    "skopeo",
    "util-linux",
];

/// The package that has the docker command line, wanted only where the machine has none of its own.
const DOCKER: &str = "docker.io";

/// A service started by its package would take ports of the machine that runs the tests.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs those of the packages that are missing. Needs root only when one is.
pub fn ensure_packages() -> Result<()> {
    /// To ask for each package takes longer than most tools run.
    static PRESENT: AtomicBool = AtomicBool::new(false);
    if !PRESENT.load(Ordering::Relaxed) {
        install()?;
        PRESENT.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn install() -> Result<()> {
    if missing()?.is_empty() {
        return Ok(());
    }
    let _lock = cache::lock("packages")?;
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let policy = Policy::install()?;
    run(command("apt-get").args(["update", "-qq"]))?;
    run(command("apt-get")
        .args([
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=300",
        ])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
    .with_context(|| format!("failed to install {}", missing.join(" ")))?;
    drop(policy);
    Ok(())
}

fn missing() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    let own_docker = command("docker").arg("--version").output().is_ok();
    let docker = (!own_docker).then_some(DOCKER);
    for package in PACKAGES.into_iter().chain(docker) {
        let output = command("dpkg-query")
            .args(["-W", "-f", "${db:Status-Status}", package])
            .output()
            .context("failed to start dpkg-query")?;
        if output.stdout != b"installed" {
            missing.push(package);
        }
    }
    Ok(missing)
}

/// Forbids services to start while packages are installed; removes only a file it made itself.
struct Policy {
    made: bool,
}

impl Policy {
    fn install() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { made: false });
        }
        fs_err::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        run(command("chmod").args(["755", POLICY]))?;
        Ok(Self { made: true })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.made {
            // A file left behind is harmless and the next run keeps it.
            let _removed = fs_err::remove_file(POLICY);
        }
    }
}
