//! `network create`, `ls`, `inspect`, `rm`, `prune`, `connect` and `disconnect`.

mod ipam;

use havre_client::Query;
use havre_engine_types::{
    ConfigReference, EndpointIpamConfig, EndpointSettings, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, NetworkSummary, StringMap,
};
use havre_types::{Classify as _, ErrorKind};
use serde_json::{Value, json};

use super::manage::naturally;
use super::ps::{created_at, filters};
use crate::app::App;
use crate::failure::{self, Failure, Outcome};
use crate::flags::Matches;
use crate::prompt;
use crate::table::{self, Row, Titles};

const TITLES: Titles = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];
const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
const RAW: &str = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n";
/// What Docker's messages call a row.
const KIND: &str = "*network.networkContext";
/// The exit code for a flag's value that cannot be read.
const BAD_FLAG: u8 = 125;

/// `network create NETWORK`
pub(super) async fn create(app: &mut App, matches: &Matches) -> Outcome {
    let request = create_request(matches)?;
    let answer = app.client.network_create(&request).await?;
    app.ui.line(&answer.id);
    Ok(())
}

fn create_request(matches: &Matches) -> Outcome<NetworkCreateRequest> {
    let given = |name: &str| matches.has(name).then(|| matches.on(name));
    let text = |name: &str, default: &str| {
        let text = matches.text(name);
        text.unwrap_or(default).to_owned()
    };
    let from = text("config-from", "");
    Ok(NetworkCreateRequest {
        name: matches.args.first().cloned().unwrap_or_default(),
        driver: text("driver", "bridge"),
        scope: text("scope", ""),
        enable_ipv4: given("ipv4"),
        enable_ipv6: given("ipv6"),
        ipam: Some(ipam::of(matches)?),
        internal: matches.on("internal"),
        attachable: matches.on("attachable"),
        ingress: matches.on("ingress"),
        config_only: matches.on("config-only"),
        config_from: (!from.is_empty()).then_some(ConfigReference { network: from }),
        options: Some(map(matches, "opt")),
        labels: Some(map(matches, "label")),
    })
}

/// `key=value` of each use; a key alone has an empty value.
fn map(matches: &Matches, flag: &str) -> StringMap {
    let pairs = matches.list(flag).map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    });
    pairs.collect()
}

/// `network ls`
pub(super) async fn list(app: &mut App, matches: &Matches) -> Outcome {
    let query = Query::new().text("filters", &filters(matches)?.to_query());
    let mut networks = app.client.network_list(&query).await?;
    networks.sort_by(|one, other| naturally(&one.name, &other.name));
    let whole = matches.on("no-trunc");
    let format = App::format(matches, &app.config.networks_format).to_owned();
    if matches.on("quiet") && matches!(format.as_str(), "" | "table" | "raw") {
        for network in &networks {
            let id = id(network, whole);
            app.ui.line(&if format == "raw" {
                format!("network_id: {id}")
            } else {
                id
            });
        }
        return Ok(());
    }
    let format = if format == "raw" { RAW } else { &format };
    let rows = networks.iter().map(|network| row(network, whole)).collect();
    table::write(&mut app.ui, format, TABLE, TITLES, rows, KIND)
}

fn id(network: &NetworkSummary, whole: bool) -> String {
    if whole {
        network.id.clone()
    } else {
        table::short_id(&network.id)
    }
}

fn row(network: &NetworkSummary, whole: bool) -> Row {
    let labels: Vec<String> = network
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    Row::from_iter(
        [
            ("ID", json!(id(network, whole))),
            ("Name", json!(network.name)),
            ("Driver", json!(network.driver)),
            ("Scope", json!(network.scope)),
            ("IPv4", json!(network.enable_ipv4.to_string())),
            ("IPv6", json!(network.enable_ipv6.to_string())),
            ("Internal", json!(network.internal.to_string())),
            ("Labels", json!(labels.join(","))),
            ("CreatedAt", json!(created_at(network.created))),
            (table::LABELS, json!(network.labels)),
        ]
        .map(|(name, value): (&str, Value)| (name.to_owned(), value)),
    )
}

/// `network rm NETWORK…`
pub(super) async fn remove(app: &mut App, matches: &Matches) -> Outcome {
    let mut failures = Vec::new();
    for name in &matches.args {
        match app.client.network_remove(name).await {
            Ok(()) => app.ui.line(name),
            Err(error) if matches.on("force") && error.kind() == ErrorKind::NotFound => {}
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    failure::all(failures)
}

/// `network prune`
pub(super) async fn prune(app: &mut App, matches: &Matches) -> Outcome {
    let filters = app.config.prune_filters(filters(matches)?);
    let question = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
    if !matches.on("force") && !prompt::confirm(app, question)? {
        return Ok(());
    }
    let text = super::prune::networks(app, &filters).await?;
    if !text.is_empty() {
        app.ui.line(&text);
    }
    Ok(())
}

/// `network connect NETWORK CONTAINER`
pub(super) async fn connect(app: &mut App, matches: &Matches) -> Outcome {
    let [network, container] = matches.args.as_slice() else {
        return Ok(());
    };
    let request = NetworkConnectRequest {
        container: container.clone(),
        endpoint_config: Some(endpoint(matches)?),
    };
    Ok(app.client.network_connect(network, &request).await?)
}

fn endpoint(matches: &Matches) -> Outcome<EndpointSettings> {
    let words = |name: &str| {
        let words: Vec<String> = ipam::split(matches, name).map(str::to_owned).collect();
        (!words.is_empty()).then_some(words)
    };
    let address = |name: &'static str| -> Outcome<String> {
        match matches.text(name) {
            None | Some("") => Ok(String::new()),
            Some(text) => ipam::address(name, text).map(|address| address.to_string()),
        }
    };
    for text in ipam::split(matches, "link-local-ip") {
        ipam::address("link-local-ip", text)?;
    }
    let mut options = StringMap::new();
    for text in ipam::split(matches, "driver-opt") {
        let pair = text
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()));
        let Some((key, value)) = pair.filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::new(
                "invalid key/value pair format in driver options",
            ));
        };
        options.insert(key.to_owned(), value.to_owned());
    }
    let links: Vec<String> = matches.list("link").map(str::to_owned).collect();
    Ok(EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: address("ip")?,
            ipv6_address: address("ip6")?,
            link_local_ips: words("link-local-ip"),
        }),
        links: (!links.is_empty()).then_some(links),
        aliases: words("alias"),
        driver_opts: Some(options),
        gw_priority: matches.int("gw-priority").unwrap_or(0),
        ..EndpointSettings::default()
    })
}

/// `network disconnect NETWORK CONTAINER`
pub(super) async fn disconnect(app: &mut App, matches: &Matches) -> Outcome {
    let [network, container] = matches.args.as_slice() else {
        return Ok(());
    };
    let request = NetworkDisconnectRequest {
        container: container.clone(),
        force: matches.on("force"),
    };
    Ok(app.client.network_disconnect(network, &request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::captured;

    #[test]
    fn the_list_looks_like_dockers() {
        let network = NetworkSummary {
            name: "web".to_owned(),
            id: "0123456789abcdef".repeat(4),
            driver: "bridge".to_owned(),
            scope: "local".to_owned(),
            enable_ipv4: true,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..NetworkSummary::default()
        };
        let show = |format: &str| {
            let (mut ui, out, _err) = captured(None);
            let rows = vec![row(&network, false)];
            table::write(&mut ui, format, TABLE, TITLES, rows, KIND).unwrap();
            out.text()
        };
        insta::assert_snapshot!(show(""), @r"
        NETWORK ID     NAME      DRIVER    SCOPE
        0123456789ab   web       bridge    local
        ");
        insta::assert_snapshot!(
            show("{{.Name}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}} {{.Label \"a\"}}"),
            @"web true false false a=b b"
        );
        insta::assert_snapshot!(show(RAW), @r"
        network_id: 0123456789ab
        name: web
        driver: bridge
        scope: local
        ");
    }
}
