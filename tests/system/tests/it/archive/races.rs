//! C01, C04, C09: containers that exchange directories and links while their files are copied. What a race
//! could reach is looked for on the host; that copies do go through meanwhile is the other half.

use super::put;
use super::tar::{archive, directory, file};
use crate::support::{engine, until};
use anyhow::Result;
use havre_testkit::Engine;
use havre_testkit::http::Body;
use std::path::PathBuf;

const ROUNDS: usize = 1500;

/// A container in which `/work/swap` is in turn a directory and a link to a place that exists on the host and,
/// with other content, in the container.
fn racing(engine: &Engine, extra: &[&str]) -> Result<PathBuf> {
    let host = engine.directory().join("host");
    fs_err::create_dir(&host)?;
    fs_err::write(host.join("secret"), "of the host")?;
    let there = host.display();
    // Made anew each time, because what is copied in takes the place of either.
    let script = format!(
        "mkdir -p {there} /work/swap; echo inside > {there}/secret; echo inside > /work/swap/secret; touch /ready; \
         cd /work; while :; do rm -rf swap; ln -s {there} swap; rm -rf swap; mkdir swap; echo inside > swap/secret; done"
    );
    let mut words = vec!["run", "-d", "--network", "none", "--name", "box"];
    words.extend_from_slice(extra);
    words.extend_from_slice(&["busybox", "sh", "-c", &script]);
    engine.docker(&words)?;
    until(&true, || {
        Ok(engine.docker(&["diff", "box"])?.contains("/ready"))
    })?;
    Ok(host)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// The host's mounts of what is this engine's, or upon it: other tests mount things meanwhile.
fn mounts(engine: &Engine) -> Result<Vec<String>> {
    let all = fs_err::read_to_string(format!("/proc/{}/mountinfo", engine.pid()?))?;
    let own = engine.directory().to_string_lossy();
    let ours = all.lines().filter(|line| line.contains(&*own));
    Ok(ours.map(str::to_owned).collect())
}

/// Out: neither a file, nor a directory, nor an export ever has the host's content.
#[test]
fn c01_c09_nothing_of_the_host_comes_out() -> Result<()> {
    let engine = engine()?;
    racing(&engine, &[])?;
    let mut seen = 0;
    for round in 0..ROUNDS {
        let path = ["/work/swap/secret", "/work", "/work/swap/."][round % 3];
        let target = format!("/containers/box/archive?path={path}");
        let response = engine.api("GET", &target, &Body::Empty);
        // A stream that broke off because of the race is none that leaked.
        let Ok(response) = response else { continue };
        assert!(
            !contains(&response.body, "of the host"),
            "{path} in round {round}"
        );
        assert!(response.status == 200 || response.status == 404 || response.status == 400);
        seen += usize::from(contains(&response.body, "inside"));
    }
    for _ in 0..20 {
        let response = engine.api("GET", "/containers/box/export", &Body::Empty)?;
        assert!(!contains(&response.body, "of the host"));
    }
    assert!(seen > ROUNDS / 10, "only {seen} copies went through");
    Ok(())
}

/// In: nothing on the host is written, made or changed, and the host's mounts are what they were, also with
/// mounts of the container's below what is exchanged.
#[test]
fn c01_c04_nothing_of_the_host_is_written() -> Result<()> {
    let engine = engine()?;
    let volume = engine.directory().join("volume");
    fs_err::create_dir(&volume)?;
    let bind = format!("{}:/work/mounted", volume.display());
    let before = mounts(&engine)?;
    let host = racing(&engine, &["-v", &bind])?;
    let (mode, time) = {
        let found = fs_err::metadata(host.join("secret"))?;
        (found.permissions(), found.modified()?)
    };
    let plain = archive(&[file("secret", b"evil")]);
    let deep = archive(&[
        directory("swap"),
        file("swap/secret", b"evil"),
        file("swap/new/file", b"evil"),
    ]);
    let mut done = 0;
    for round in 0..ROUNDS {
        let (path, bytes) = [
            ("/work/swap", &plain),
            ("/work", &deep),
            ("/work/mounted", &plain),
        ][round % 3];
        let (status, message) = put(
            &engine,
            &format!("/containers/box/archive?path={path}"),
            bytes,
        )?;
        assert!(
            matches!(status, 200 | 400 | 404 | 409),
            "{status} {message}"
        );
        done += usize::from(status == 200);
    }
    let found = fs_err::metadata(host.join("secret"))?;
    assert_eq!(fs_err::read_to_string(host.join("secret"))?, "of the host");
    assert_eq!((found.permissions(), found.modified()?), (mode, time));
    assert_eq!(
        fs_err::read_dir(&host)?.count(),
        1,
        "something was made on the host"
    );
    assert_eq!(mounts(&engine)?, before);
    assert_eq!(fs_err::read_to_string(volume.join("secret"))?, "evil");
    assert!(done > ROUNDS / 10, "only {done} copies went through");
    Ok(())
}

/// C06: an absolute link of the image on the way is no obstacle, with a mount below where it leads.
#[test]
fn c06_absolute_links_are_followed_inside() -> Result<()> {
    let engine = engine()?;
    let volume = engine.directory().join("volume");
    fs_err::create_dir(&volume)?;
    engine.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "base",
        "busybox",
        "sh",
        "-c",
        "mkdir -p /run; rm -rf /var/run; ln -s /run /var/run",
    ])?;
    engine.docker(&["commit", "base", "linked"])?;
    let bind = format!("{}:/var/run/volume", volume.display());
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "box",
        "-v",
        &bind,
        "linked",
        "sleep",
        "600",
    ])?;
    let bytes = archive(&[file("new", b"through")]);
    for runs in [false, true] {
        if runs {
            engine.docker(&["start", "box"])?;
        }
        let target = "/containers/box/archive?path=/var/run/volume";
        let (status, message) = put(&engine, target, &bytes)?;
        assert_eq!(status, 200, "{message}");
        assert_eq!(fs_err::read_to_string(volume.join("new"))?, "through");
        fs_err::remove_file(volume.join("new"))?;
    }
    Ok(())
}
