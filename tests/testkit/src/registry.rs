//! Debian's docker-registry as a child process on a loopback port, with a storage directory of its own.

use crate::command::command;
use crate::image::{Format, Image};
use crate::packages;
use crate::push::{self, Target};
use anyhow::{Context as _, Result};
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// Runs the registry for as long as its own input is open, so that the registry and its storage go
/// away even when the test process is killed.
const KEEPER: &str = r#"
trap '' INT TERM HUP
docker-registry serve "$1/config.yml" &
exec 2>/dev/null
read -r _
kill -KILL $!
wait
rm -rf "$1"
"#;

/// A running registry; it is killed and its storage removed when this is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Registry {
    /// Starts a registry on a free port.
    pub fn start() -> Result<Self> {
        Self::start_on(0)
    }

    /// Starts a registry on this port of 127.0.0.1; 0 takes a free one.
    pub fn start_on(port: u16) -> Result<Self> {
        Self::start_with(port, "")
    }

    /// Starts a registry whose configuration has these lines in addition.
    pub fn start_with(port: u16, extra: &str) -> Result<Self> {
        packages::ensure_packages()?;
        let directory = tempfile::Builder::new()
            .prefix("havre-registry-")
            .tempdir()?;
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        fs_err::write(
            &config,
            config_text(&storage.to_string_lossy(), port, extra),
        )?;
        let mut child = command("sh")
            .args(["-c", KEEPER, "docker-registry"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start docker-registry")?;
        match wait_for_port(&mut child) {
            Ok(port) => Ok(Self {
                child,
                port,
                directory,
            }),
            Err(error) => {
                release(&mut child);
                Err(error)
            }
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the registry keeps its files, for tests that damage them.
    pub fn storage(&self) -> std::path::PathBuf {
        self.directory.path().join("storage")
    }

    /// Pushes an image as `repository:tag` and returns the reference to pull it by.
    pub fn push(&self, image: &Image, name: &str, format: Format) -> Result<String> {
        let reference = format!("{}/{name}", self.authority());
        push::push(image, &Target::parse(&reference)?, format)?;
        Ok(reference)
    }

    /// Waits until the keeper ends, which it does only when somebody kills it.
    pub fn wait(mut self) -> Result<()> {
        let input = self.child.stdin.take();
        self.child.wait()?;
        drop(input);
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        release(&mut self.child);
    }
}

/// Closes the keeper's input and waits until it has ended the registry.
fn release(keeper: &mut Child) {
    drop(keeper.stdin.take());
    // A keeper that is gone already has done its work.
    let _status = keeper.wait();
}

fn config_text(storage: &str, port: u16, extra: &str) -> String {
    format!(
        "version: 0.1\n\
         log:\n  level: info\n  formatter: text\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {storage}\n  delete:\n    enabled: true\n\
         http:\n  addr: 127.0.0.1:{port}\n  secret: fixture\n{extra}"
    )
}

/// Reads the log up to the line with the port; a thread reads on so that the pipe never fills.
fn wait_for_port(child: &mut Child) -> Result<u16> {
    let log = child.stderr.take().context("docker-registry has no log")?;
    let mut log = BufReader::new(log);
    let mut seen = String::new();
    loop {
        let start = seen.len();
        if log.read_line(&mut seen)? == 0 {
            anyhow::bail!("docker-registry ended: {seen}");
        }
        if let Some(port) = port_of(&seen[start..]) {
            std::thread::Builder::new().spawn(move || io::copy(&mut log, &mut io::sink()))?;
            return Ok(port);
        }
    }
}

/// The log line of the accepting socket: `… msg="listening on 127.0.0.1:34301" …`.
fn port_of(line: &str) -> Option<u16> {
    let (_, address) = line.split_once("listening on ")?;
    let (_, port) = address.split(['"', ',']).next()?.rsplit_once(':')?;
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_log() {
        let line = r#"time="x" level=info msg="listening on 127.0.0.1:34301" version=2.8.2"#;
        assert_eq!(port_of(line), Some(34301));
        assert_eq!(port_of("time=\"x\" msg=\"redis not configured\""), None);
    }
}
