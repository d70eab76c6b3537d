//! Pulls and engines that do not live as long as they should: what has arrived is never fetched again.

use anyhow::{Context as _, Result, ensure};
use havre_testkit::fake::{Reply, ranged};
use havre_testkit::{Engine, Fake, image};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const KILLS: usize = 20;

/// The engine is killed twenty times in one pull; each time the server has sent a little more and
/// fallen silent. In the end hardly a byte has come twice.
#[test]
fn twenty_kills_in_one_pull_cost_next_to_nothing() -> Result<()> {
    let debian = image("debian")?;
    let layer = debian.layers[0].clone();
    let bytes = fs_err::read(&layer.path)?;
    let size = bytes.len();
    let step = size / (KILLS + 1);
    let target = format!("/blobs/{}", layer.digest);
    let own = target.clone();
    let fake = Fake::serve(&debian, move |request, number| {
        let stall = (number < KILLS).then_some(step);
        request.target.contains(&own).then(|| Reply {
            stall,
            ..ranged(request, &bytes)
        })
    });
    let mut engine = Engine::start()?;
    for kill in 1..=KILLS {
        let mut client = start_pull(&engine, &fake.reference())?;
        wait_for_bytes(&engine, u64::try_from(kill * step)?)?;
        engine.kill9()?;
        ensure!(
            !client.wait()?.success(),
            "a pull cannot succeed without an engine"
        );
        engine.restart()?;
        ensure!(
            engine.docker(&["images", "-q"])?.is_empty(),
            "half an image is shown"
        );
    }
    engine.docker(&["pull", &fake.reference()])?;
    let again = fake.sent(&target) - size;
    ensure!(again * 20 < size, "{again} of {size} bytes came twice");
    let words = [
        "run",
        "--rm",
        "--network",
        "none",
        &fake.reference(),
        "cat",
        "/etc/debian_version",
    ];
    ensure!(engine.docker(&words)?.starts_with("12"));
    Ok(())
}

/// Fifty clients want one image, ten of them go away; it is fetched once and forty have it.
#[test]
fn fifty_pulls_of_one_image_fetch_it_once() -> Result<()> {
    let busybox = image("busybox")?;
    let fake = Fake::serve(&busybox, |_, _| None);
    let engine = Engine::start()?;
    let mut pulls = Vec::new();
    for _ in 0..50 {
        pulls.push(start_pull(&engine, &fake.reference())?);
    }
    for pull in pulls.iter_mut().step_by(5) {
        pull.kill()?;
    }
    for (number, mut pull) in pulls.into_iter().enumerate() {
        let status = pull.wait()?;
        ensure!(
            status.success() || number % 5 == 0,
            "pull {number} ended with {status}"
        );
    }
    for layer in &busybox.layers {
        ensure!(
            fake.count(&layer.digest) == 1,
            "{} came more than once",
            layer.digest
        );
    }
    Ok(())
}

fn start_pull(engine: &Engine, reference: &str) -> Result<Child> {
    let mut client = engine.docker_command(&["pull", reference]);
    client
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    client.spawn().context("failed to start docker")
}

/// Waits until an unfinished blob of the engine has this size.
fn wait_for_bytes(engine: &Engine, bytes: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while largest_arrival(&engine.data_root())? < bytes {
        ensure!(
            Instant::now() < deadline,
            "{bytes} bytes do not arrive: {}",
            engine.log()
        );
        thread::yield_now();
    }
    Ok(())
}

fn largest_arrival(data_root: &Path) -> Result<u64> {
    let mut largest = 0;
    let mut pending = vec![data_root.to_owned()];
    while let Some(folder) = pending.pop() {
        let inside = folder.components().any(|part| part.as_os_str() == "ingest");
        // Arrivals come and go while they are looked at.
        let Ok(entries) = fs_err::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                let name = entry.file_name();
                let elsewhere = ["blobs", "snapshots", "overlay", "overlay2", "containers"];
                if !elsewhere.iter().any(|other| name == *other) {
                    pending.push(entry.path());
                }
            } else if inside {
                largest = largest.max(metadata.len());
            }
        }
    }
    Ok(largest)
}
