//! The images: what goes into each, and the cache in front of building them.

use crate::command::{command, run, stdout};
use crate::image::{Image, Layer};
use crate::{archive, cache, packages, tree};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt, symlink};
use std::path::Path;

/// Every image there is a recipe for.
pub const NAMES: [&str; 4] = ["busybox", "debian", "nginx", "redis"];

/// The same for every build, so that an image's id depends on its packages only.
const CREATED: &str = "2026-01-01T00:00:00Z";
const EPOCH: &str = "1767225600";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns an image, building it when the cache has none. Building needs root.
pub fn image(name: &str) -> Result<Image> {
    let directory = cache::directory()?;
    if directory.join(name).exists() {
        return Image::open(&directory, name);
    }
    packages::ensure_packages()?;
    let _lock = cache::lock(name)?;
    if directory.join(name).exists() {
        return Image::open(&directory, name);
    }
    let staging = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(&directory)?;
    let built =
        build(name, staging.path()).with_context(|| format!("failed to build the image {name}"))?;
    let archive = directory.join(format!("{name}.tar"));
    let image = Image { archive, ..built };
    image.write_layout()?;
    archive::write(&image)?;
    // The layout's name appears last: who sees it finds everything else in place.
    fs_err::rename(&image.layout, directory.join(name))?;
    Image::open(&directory, name)
}

fn build(name: &str, staging: &Path) -> Result<Image> {
    let layout = staging.join("layout");
    fs_err::create_dir_all(layout.join("blobs/sha256"))?;
    let (layers, process) = match name {
        "busybox" => (
            busybox(staging, &layout)?,
            json!({ "Env": [PATH], "Cmd": ["sh"] }),
        ),
        "debian" => (
            debian(staging, &layout)?,
            json!({ "Env": [PATH], "Cmd": ["bash"] }),
        ),
        "nginx" => (on_debian("nginx-light", staging, &layout)?, nginx_process()),
        "redis" => (
            on_debian("redis-server", staging, &layout)?,
            redis_process(),
        ),
        other => bail!("no recipe for {other}; there are {}", NAMES.join(", ")),
    };
    let config = config(&process, &layers);
    let archive = layout.clone();
    Ok(Image {
        name: name.to_owned(),
        layout,
        archive,
        config,
        layers,
    })
}

fn config(process: &Value, layers: &[Layer]) -> Vec<u8> {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let history: Vec<Value> = (1..=layers.len())
        .map(|number| json!({ "created": CREATED, "created_by": format!("layer {number}") }))
        .collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    });
    config.to_string().into_bytes()
}

fn nginx_process() -> Value {
    json!({
        "Env": [PATH],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "ExposedPorts": { "80/tcp": {} },
        "StopSignal": "SIGQUIT",
    })
}

fn redis_process() -> Value {
    json!({
        "Env": [PATH],
        "Cmd": ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"],
        "ExposedPorts": { "6379/tcp": {} },
        "User": "redis",
        "Volumes": { "/var/lib/redis": {} },
        "WorkingDir": "/var/lib/redis",
    })
}

// === busybox ===

/// Two layers: the program with a hard link for each applet, then the files a system expects.
fn busybox(staging: &Path, layout: &Path) -> Result<Vec<Layer>> {
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .context("busybox-static is installed but has no /bin/busybox")?;
    let lower = staging.join("lower");
    for folder in [
        "bin", "dev", "etc", "home", "proc", "root", "sys", "usr/bin", "usr/sbin", "var",
    ] {
        make_folder(&lower.join(folder), 0o755)?;
    }
    make_folder(&lower.join("tmp"), 0o1777)?;
    make_folder(&lower.join("root"), 0o700)?;
    let target = lower.join("bin/busybox");
    fs_err::copy(program, &target)?;
    for applet in stdout(command(program).arg("--list"))?.lines() {
        if applet != "busybox" {
            fs_err::hard_link(&target, lower.join("bin").join(applet))?;
        }
    }
    symlink("../../bin/env", lower.join("usr/bin/env"))?;
    let upper = staging.join("upper");
    run(command("cp")
        .args(["--archive", "--no-target-directory"])
        .arg(&lower)
        .arg(&upper))?;
    let files = [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
                        nobody:x:65534:65534:nobody:/home:/bin/false\n",
        ),
        (
            "etc/group",
            "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n",
        ),
        (
            "etc/shadow",
            "root:*:::::::\ndaemon:*:::::::\nnobody:*:::::::\n",
        ),
        (
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n",
        ),
    ];
    for (name, text) in files {
        fs_err::write(upper.join(name), text)?;
    }
    chmod(&upper.join("etc/shadow"), 0o640)?;
    make_folder(&upper.join("var/spool/mail"), 0o755)?;
    for tree in [&lower, &upper] {
        set_times(tree)?;
    }
    Ok(vec![
        tree::pack(&lower, layout)?,
        tree::pack_difference(&lower, &upper, layout)?,
    ])
}

/// One time for everything, so that two builds of the same packages give the same image.
fn set_times(tree: &Path) -> Result<()> {
    run(command("find")
        .arg(tree)
        .args(["-exec", "touch", "--no-dereference"])
        .args([format!("--date=@{EPOCH}"), "{}".to_owned(), "+".to_owned()]))?;
    Ok(())
}

fn make_folder(path: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)?;
    chmod(path, mode)
}

fn chmod(path: &Path, mode: u32) -> Result<()> {
    Ok(fs_err::set_permissions(
        path,
        PermissionsExt::from_mode(mode),
    )?)
}

// === debian ===

fn debian(staging: &Path, layout: &Path) -> Result<Vec<Layer>> {
    let root = staging.join("root");
    bootstrap(&root, None)?;
    Ok(vec![tree::pack(&root, layout)?])
}

/// The Debian image and, above it, what a tree with one more package has in addition.
fn on_debian(package: &str, staging: &Path, layout: &Path) -> Result<Vec<Layer>> {
    let base = image("debian")?;
    let lower = staging.join("lower");
    fs_err::create_dir(&lower)?;
    let mut layers = Vec::new();
    for layer in &base.layers {
        run(command("tar")
            .args([
                "--extract",
                "--numeric-owner",
                "--preserve-permissions",
                "--xattrs",
            ])
            .args(["--xattrs-include=*", "--file"])
            .arg(&layer.path)
            .arg("--directory")
            .arg(&lower))?;
        let path = crate::image::blob_path(layout, &layer.digest)?;
        fs_err::hard_link(&layer.path, &path)?;
        layers.push(Layer {
            path,
            ..layer.clone()
        });
    }
    let upper = staging.join("upper");
    bootstrap(&upper, Some(package))?;
    layers.push(tree::pack_difference(&lower, &upper, layout)?);
    Ok(layers)
}

fn bootstrap(root: &Path, package: Option<&str>) -> Result<()> {
    let (mirror, suite) = host_mirror()?;
    let mut bootstrap = command("mmdebstrap");
    bootstrap
        .args(["--variant=minbase", "--quiet", "--mode=root"])
        .env("SOURCE_DATE_EPOCH", EPOCH);
    // The host's name and resolver are no part of an image; the engine gives each container its own.
    bootstrap.arg("--customize-hook=rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\"");
    if let Some(package) = package {
        bootstrap.arg(format!("--include={package}"));
    }
    if package == Some("nginx-light") {
        // As in the image everybody knows: what nginx logs is what the container prints.
        bootstrap.arg("--customize-hook=ln -sf /dev/stdout \"$1/var/log/nginx/access.log\"");
        bootstrap.arg("--customize-hook=ln -sf /dev/stderr \"$1/var/log/nginx/error.log\"");
    }
    run(bootstrap.arg(suite).arg(root).arg(mirror))?;
    Ok(())
}

/// The mirror and suite of the host's own apt sources.
fn host_mirror() -> Result<(String, String)> {
    let deb822 =
        fs_err::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let field = |name: &str| {
        let value = deb822.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next().map(str::to_owned)
    };
    if let (Some(mirror), Some(suite)) = (field("URIs:"), field("Suites:")) {
        return Ok((mirror, suite));
    }
    let list = fs_err::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    for line in list.lines() {
        let words: Vec<&str> = line
            .split_whitespace()
            .filter(|word| !word.starts_with('['))
            .collect();
        if let ["deb", mirror, suite, "main", ..] = words.as_slice() {
            return Ok(((*mirror).to_owned(), (*suite).to_owned()));
        }
    }
    bail!("the apt sources of this host name no Debian mirror")
}
