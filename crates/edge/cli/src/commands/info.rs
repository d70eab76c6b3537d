//! `info`.

use std::fmt::Write as _;

use havre_engine_types::{SystemInfo, gojson};
use havre_template::Template;
use havre_types::size;
use serde_json::{Value, json};

use crate::app::App;
use crate::failure::{BAD_TEMPLATE, Failure, Outcome};
use crate::flags::Matches;
use crate::ui::{safe, safe_lines};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `info`
pub(super) async fn info(app: &mut App, matches: &Matches) -> Outcome {
    let format = match matches.text_or_empty("format") {
        "json" => "{{json .}}",
        format => format,
    };
    let template = Template::parse(format)
        .map_err(|error| Failure::with_code(error.to_string(), BAD_TEMPLATE))?;
    if format.is_empty() {
        let (context, debug) = (safe(&app.context), app.debug);
        app.ui.print(&format!(
            "Client: Havre\n Version:    {VERSION}\n Context:    {context}\n Debug Mode: {debug}\n\nServer:\n"
        ));
    }
    let mut value = match app.client.info().await {
        Err(error) if format.is_empty() => {
            app.ui
                .complain(&format!("ERROR: {}", Failure::from(error).message));
            return Err(Failure::new("errors pretty printing info"));
        }
        other => other?,
    };
    if format.is_empty() {
        let info: SystemInfo =
            gojson::from_value(value).map_err(|error| Failure::new(error.to_string()))?;
        app.ui.print(&safe_lines(&page(&info)));
        for warning in &info.warnings {
            app.ui.complain(warning);
        }
        return Ok(());
    }
    if let Value::Object(map) = &mut value {
        map.insert(
            "ClientInfo".to_owned(),
            json!({"Version": VERSION, "Context": app.context, "Debug": app.debug}),
        );
    }
    let text = template
        .of_type("system.dockerInfo")
        .render(&value)
        .map_err(|error| Failure::new(error.cause()))?;
    app.ui.line(&text);
    Ok(())
}

fn page(info: &SystemInfo) -> String {
    let mut text = String::new();
    let mut line = |title: &str, value: &str| {
        writeln!(text, " {title}: {value}").ok();
    };
    line("Containers", &info.containers.to_string());
    line(" Running", &info.containers_running.to_string());
    line(" Paused", &info.containers_paused.to_string());
    line(" Stopped", &info.containers_stopped.to_string());
    line("Images", &info.images.to_string());
    for (title, value) in [
        ("Server Version", &info.server_version),
        ("Storage Driver", &info.driver),
    ] {
        if !value.is_empty() {
            line(title, value);
        }
    }
    for [key, value] in &info.driver_status {
        line(&format!(" {key}"), value);
    }
    let drivers = [
        ("Logging Driver", &info.logging_driver),
        ("Cgroup Driver", &info.cgroup_driver),
        ("Cgroup Version", &info.cgroup_version),
    ];
    for (title, value) in drivers.into_iter().filter(|(_, value)| !value.is_empty()) {
        line(title, value);
    }
    text.push_str(&plugins(info));
    text.push_str(&runtimes(info));
    text.push_str(&host(info));
    text
}

fn plugins(info: &SystemInfo) -> String {
    let mut text = " Plugins:\n".to_owned();
    let authorization = info.plugins.authorization.clone().unwrap_or_default();
    let kinds = [
        ("Volume", &info.plugins.volume),
        ("Network", &info.plugins.network),
        ("Authorization", &authorization),
        ("Log", &info.plugins.log),
    ];
    for (title, names) in kinds {
        if title != "Authorization" || !names.is_empty() {
            writeln!(text, "  {title}: {}", names.join(" ")).ok();
        }
    }
    if !info.cdi_spec_dirs.is_empty() {
        writeln!(
            text,
            " CDI spec directories:\n  {}",
            info.cdi_spec_dirs.join("\n  ")
        )
        .ok();
    }
    if !info.discovered_devices.is_empty() {
        text.push_str(" Discovered Devices:\n");
        for device in &info.discovered_devices {
            writeln!(text, "  {}: {}", device.source, device.id).ok();
        }
    }
    writeln!(text, " Swarm: {}", info.swarm.local_node_state).ok();
    text
}

fn runtimes(info: &SystemInfo) -> String {
    let mut text = String::new();
    if !info.runtimes.is_empty() {
        let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
        writeln!(
            text,
            " Runtimes: {}\n Default Runtime: {}",
            names.join(" "),
            info.default_runtime
        )
        .ok();
    }
    let components = [
        ("Init Binary", &info.init_binary),
        ("containerd version", &info.containerd_commit.id),
        ("runc version", &info.runc_commit.id),
        ("init version", &info.init_commit.id),
    ];
    for (title, value) in components
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
    {
        writeln!(text, " {title}: {value}").ok();
    }
    if !info.security_options.is_empty() {
        text.push_str(" Security Options:\n");
        for option in &info.security_options {
            text.push_str(&security_option(option));
        }
    }
    text
}

/// `name=seccomp,profile=builtin`
fn security_option(option: &str) -> String {
    let mut text = String::new();
    for part in option.split(',') {
        match part.split_once('=') {
            Some(("name", name)) => writeln!(text, "  {name}").ok(),
            Some(("profile", profile)) => writeln!(text, "   Profile: {profile}").ok(),
            Some(_) => None,
            None => writeln!(text, "  {part}").ok(),
        };
    }
    text
}

fn host(info: &SystemInfo) -> String {
    let mut text = String::new();
    let mut line = |title: &str, value: &str| {
        if !value.is_empty() {
            writeln!(text, " {title}: {value}").ok();
        }
    };
    line("Kernel Version", &info.kernel_version);
    line("Operating System", &info.operating_system);
    line("OSType", &info.os_type);
    line("Architecture", &info.architecture);
    line("CPUs", &info.ncpu.to_string());
    line(
        "Total Memory",
        &size::human_binary(u64::try_from(info.mem_total).unwrap_or(0)),
    );
    line("Name", &info.name);
    line("ID", &info.id);
    line("Docker Root Dir", &info.docker_root_dir);
    line("Debug Mode", &info.debug.to_string());
    line("HTTP Proxy", &info.http_proxy);
    line("HTTPS Proxy", &info.https_proxy);
    line("No Proxy", &info.no_proxy);
    if !info.labels.is_empty() {
        writeln!(text, " Labels:\n  {}", info.labels.join("\n  ")).ok();
    }
    writeln!(text, " Experimental: {}", info.experimental_build).ok();
    if let Some(registries) = &info.registry_config {
        let insecure = registries
            .index_configs
            .values()
            .filter(|index| !index.secure)
            .map(|index| index.name.as_str());
        let insecure: Vec<&str> = insecure
            .chain(
                registries
                    .insecure_registry_cidrs
                    .iter()
                    .map(String::as_str),
            )
            .collect();
        let mirrors = registries.mirrors.clone().unwrap_or_default();
        if !insecure.is_empty() {
            writeln!(text, " Insecure Registries:\n  {}", insecure.join("\n  ")).ok();
        }
        if !mirrors.is_empty() {
            writeln!(text, " Registry Mirrors:\n  {}", mirrors.join("\n  ")).ok();
        }
    }
    writeln!(text, " Live Restore Enabled: {}", info.live_restore_enabled).ok();
    if let Some(firewall) = &info.firewall_backend {
        writeln!(text, " Firewall Backend: {}", firewall.driver).ok();
    }
    text.push('\n');
    text
}
