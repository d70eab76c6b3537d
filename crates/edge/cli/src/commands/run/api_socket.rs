//! `--use-api-socket`: a container that may ask the engine for more containers, and knows the same registries.

use bytes::Bytes;
use havre_client::{Client, Endpoint};
use havre_engine_types::{BindOptions, Mount};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::app::App;
use crate::auth;
use crate::config::CreatePlan;
use crate::failure::{Failure, Outcome};

/// Where programs look for the socket of an engine.
const SOCKET: &str = "/var/run/docker.sock";
/// Where the credentials lie in the container.
const DIR: &str = "/run/secrets/docker";
/// Entries of archives are padded to blocks of this size
/// (<https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>, ustar).
const BLOCK: usize = 512;

/// Adds the socket to the plan. The configuration that is to be put into the container, when there are credentials
/// and the container is not told of others.
pub(super) fn add(app: &App, plan: &mut CreatePlan) -> Outcome<Option<String>> {
    let Endpoint::Unix(socket) = app.client.endpoint() else {
        let text = "--use-api-socket needs an engine on a unix socket of this machine";
        return Err(Failure::new(text));
    };
    let mount = Mount {
        kind: "bind".to_owned(),
        source: socket.to_string_lossy().into_owned(),
        target: SOCKET.to_owned(),
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    };
    let host = plan.request.host_config.get_or_insert_default();
    host.mounts.get_or_insert_default().push(mount);
    let env = plan.request.config.env.get_or_insert_default();
    if env
        .iter()
        .any(|variable| variable.starts_with("DOCKER_CONFIG="))
    {
        return Ok(None);
    }
    let mut auths = Map::new();
    for server in auth::list(&app.config, &app.environment) {
        if let Some(found) = auth::get(&app.config, &app.environment, &server)? {
            let entry = serde_json::to_value(found.to_entry()).unwrap_or_default();
            auths.insert(server, entry);
        }
    }
    if auths.is_empty() {
        return Ok(None);
    }
    env.push(format!("DOCKER_CONFIG={DIR}"));
    Ok(Some(json!({"auths": Value::Object(auths)}).to_string()))
}

/// Puts the configuration into the container.
pub(super) async fn put(client: &Client, id: &str, config: &str) -> Outcome {
    let (sender, pieces) = mpsc::channel(1);
    let archive = archive(&format!("{DIR}/config.json"), config.as_bytes());
    // The receiver is still here.
    sender.send(Ok(Bytes::from(archive))).await.ok();
    drop(sender);
    Ok(client.container_extract(id, "/", false, pieces).await?)
}

/// An archive of one file that only root may read.
fn archive(path: &str, content: &[u8]) -> Vec<u8> {
    let mut head = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.trim_start_matches('/').as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    // The sum is made over a head whose field for it is blank.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = head;
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_one_file() {
        let archive = archive("/run/x", b"hello");
        assert_eq!(archive.len(), 4 * BLOCK);
        assert!(archive.starts_with(b"run/x\0"));
        assert_eq!(&archive[BLOCK..BLOCK + 6], b"hello\0");
        assert_eq!(&archive[124..136], b"00000000005\0");
        let sum: u32 = archive[..BLOCK]
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(*byte)
                }
            })
            .sum();
        assert_eq!(&archive[148..154], format!("{sum:06o}").as_bytes());
    }
}
