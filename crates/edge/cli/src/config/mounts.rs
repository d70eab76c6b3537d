//! `--volume`, `--mount` and `--tmpfs`.

use havre_engine_types::{
    BindOptions, ContainerConfig, DriverConfig, Empty, HostConfig, ImageOptions, Mount, StringMap,
    TmpfsOptions, VolumeOptions,
};
use havre_types::size;

use super::{ConfigError, Result};
use crate::flags::Matches;

pub(super) fn apply(
    matches: &Matches,
    config: &mut ContainerConfig,
    host: &mut HostConfig,
) -> Result<()> {
    let mut binds = Vec::new();
    for text in matches.list("volume") {
        match volume(text)? {
            Volume::Bind(bind) => binds.push(bind),
            Volume::Anonymous(target) => {
                config
                    .volumes
                    .get_or_insert_default()
                    .insert(target, Empty {});
            }
        }
    }
    host.binds = (!binds.is_empty()).then_some(binds);
    let mounts = matches
        .list("mount")
        .map(mount)
        .collect::<Result<Vec<_>>>()?;
    host.mounts = (!mounts.is_empty()).then_some(mounts);
    let tmpfs: StringMap = matches
        .list("tmpfs")
        .map(|text| text.split_once(':').unwrap_or((text, "")))
        .map(|(target, options)| (target.to_owned(), options.to_owned()))
        .collect();
    host.tmpfs = (!tmpfs.is_empty()).then_some(tmpfs);
    Ok(())
}

enum Volume {
    Bind(String),
    Anonymous(String),
}

/// `source:target[:options]`, or a target alone. A relative source is made absolute here: the engine does not know
/// this directory.
fn volume(text: &str) -> Result<Volume> {
    let invalid = |cause: &str| ConfigError::problem(format!("invalid spec: {text}: {cause}"));
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [""] => Err(ConfigError::problem("invalid empty volume spec")),
        [] => Err(ConfigError::problem("invalid empty volume spec")),
        [target] => Ok(Volume::Anonymous((*target).to_owned())),
        [_, ""] | [_, "", _] | ["", ..] => Err(invalid("empty section between colons")),
        // How many sections there may be is the engine's question.
        [source, rest @ ..] => {
            let source = if source.starts_with('.') {
                let path =
                    std::path::absolute(source).map_err(|error| invalid(&error.to_string()))?;
                clean(&path)
            } else {
                (*source).to_owned()
            };
            Ok(Volume::Bind(format!("{source}:{}", rest.join(":"))))
        }
    }
}

/// Removes `.` and `..` from an absolute path by its text, as Go's `filepath.Abs` does.
fn clean(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `type=bind,source=/a,target=/b,readonly`
fn mount(text: &str) -> Result<Mount> {
    let invalid = |cause: String| ConfigError::invalid("--mount", text, cause);
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    let fields = csv(text).ok_or_else(|| {
        invalid("parse error: extraneous or missing \" in quoted-field".to_owned())
    })?;
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_lowercase(), Some(value.trim())),
            None => (field.trim().to_lowercase(), None),
        };
        set(&mut mount, &key, value, field).map_err(invalid)?;
    }
    if mount.target.is_empty() {
        return Err(invalid("target is required".to_owned()));
    }
    let misplaced = [
        ("bind", mount.bind_options.is_some()),
        ("volume", mount.volume_options.is_some()),
        ("image", mount.image_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
    ];
    if let Some((kind, _)) = misplaced
        .iter()
        .find(|(kind, given)| *given && mount.kind != *kind)
    {
        return Err(invalid(format!(
            "cannot mix '{kind}-*' options with mount type '{}'",
            mount.kind
        )));
    }
    if mount.kind == "bind" && mount.source.starts_with('.') {
        let path =
            std::path::absolute(&mount.source).map_err(|error| invalid(error.to_string()))?;
        mount.source = clean(&path);
    }
    Ok(mount)
}

fn set(
    mount: &mut Mount,
    key: &str,
    value: Option<&str>,
    field: &str,
) -> std::result::Result<(), String> {
    let switches = [
        "readonly",
        "ro",
        "volume-nocopy",
        "bind-nonrecursive",
        "bind-create-src",
    ];
    if switches.contains(&key) {
        let on = match value {
            None | Some("1" | "true") => true,
            Some("0" | "false") => false,
            Some(other) => return Err(format!("invalid value for {key}: {other}")),
        };
        match key {
            "volume-nocopy" => mount.volume_options.get_or_insert_default().no_copy = on,
            "bind-nonrecursive" => mount.bind_options.get_or_insert_default().non_recursive = on,
            "bind-create-src" => mount.bind_options.get_or_insert_default().create_mountpoint = on,
            _ => mount.read_only = on,
        }
        return Ok(());
    }
    let Some(value) = value else {
        return Err(format!("invalid field '{field}' must be a key=value pair"));
    };
    let volume = |mount: &mut Mount, change: &dyn Fn(&mut VolumeOptions)| {
        change(mount.volume_options.get_or_insert_default());
    };
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => value.clone_into(&mut mount.source),
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "consistency" => value.clone_into(&mut mount.consistency),
        "bind-propagation" => {
            value.clone_into(&mut mount.bind_options.get_or_insert_default().propagation);
        }
        "bind-recursive" => recursive(mount.bind_options.get_or_insert_default(), value)?,
        "volume-subpath" => volume(mount, &|options| value.clone_into(&mut options.subpath)),
        "volume-driver" => volume(mount, &|options| {
            value.clone_into(
                &mut options
                    .driver_config
                    .get_or_insert_with(DriverConfig::default)
                    .name,
            );
        }),
        "volume-label" => volume(mount, &|options| {
            options
                .labels
                .get_or_insert_default()
                .extend([super::key_value(value)]);
        }),
        "volume-opt" => volume(mount, &|options| {
            let driver = options
                .driver_config
                .get_or_insert_with(DriverConfig::default);
            driver
                .options
                .get_or_insert_default()
                .extend([super::key_value(value)]);
        }),
        "image-subpath" => {
            mount.image_options = Some(ImageOptions {
                subpath: value.to_owned(),
            });
        }
        "tmpfs-size" => {
            let size = size::parse_bytes(value)
                .map_err(|_no_size| format!("invalid value for {key}: {value}"))?;
            tmpfs(mount).size_bytes = size;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8)
                .map_err(|_no_mode| format!("invalid value for {key}: {value}"))?;
            tmpfs(mount).mode = mode;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount
        .tmpfs_options
        .get_or_insert_with(TmpfsOptions::default)
}

fn recursive(options: &mut BindOptions, value: &str) -> std::result::Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => options.non_recursive = true,
        "writable" => options.read_only_non_recursive = true,
        "readonly" => options.read_only_force_recursive = true,
        other => {
            let valid = "must be \"enabled\", \"disabled\", \"writable\", or \"readonly\"";
            return Err(format!(
                "invalid value for bind-recursive: {other}: {valid}"
            ));
        }
    }
    Ok(())
}

/// The fields of one line of CSV; `None` when a quotation mark is missing or out of place.
pub(super) fn csv(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let (part, tail) = rest.split_once('"')?;
                field.push_str(part);
                rest = tail;
                match rest.strip_prefix('"') {
                    Some(tail) => {
                        field.push('"');
                        rest = tail;
                    }
                    None => break,
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return None;
            }
            rest = &rest[end..];
        }
        fields.push(field);
        if rest.is_empty() {
            return Some(fields);
        }
        rest = rest.strip_prefix(',')?;
    }
}
