//! An image as an archive of `docker save`'s form: `manifest.json`, the configuration, plain layers.

use crate::command::{command, run};
use crate::image::Image;
use anyhow::Result;
use flate2::read::GzDecoder;
use fs_err::File;
use serde_json::json;
use std::io;

/// Writes `image.archive`.
pub(crate) fn write(image: &Image) -> Result<()> {
    let staging = tempfile::tempdir()?;
    let id = image.id();
    let id = id.trim_start_matches("sha256:");
    let mut layers = Vec::new();
    for layer in &image.layers {
        let folder = layer.diff_id.trim_start_matches("sha256:");
        fs_err::create_dir_all(staging.path().join(folder))?;
        let name = format!("{folder}/layer.tar");
        let mut plain = GzDecoder::new(File::open(&layer.path)?);
        io::copy(&mut plain, &mut File::create(staging.path().join(&name))?)?;
        layers.push(name);
    }
    let config = format!("{id}.json");
    fs_err::write(staging.path().join(&config), &image.config)?;
    let tag = format!("{}:latest", image.name);
    let manifest = json!([{ "Config": config, "RepoTags": [tag], "Layers": layers }]);
    fs_err::write(staging.path().join("manifest.json"), manifest.to_string())?;
    let staged = image.archive.with_extension("tar.staged");
    run(command("tar")
        .args([
            "--create",
            "--format=pax",
            "--sort=name",
            "--numeric-owner",
            "--file",
        ])
        .arg(&staged)
        .arg("--directory")
        .arg(staging.path())
        .arg("."))?;
    fs_err::rename(&staged, &image.archive)?;
    Ok(())
}
