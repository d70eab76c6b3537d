//! What `create` decides, with Docker's words for what it refuses.

use super::super::defaults::NetworkDefaults;
use super::super::store::open;
use super::*;

fn networks() -> (Networks, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let meta = havre_meta::Meta::open(&directory.path().join("meta.db")).unwrap();
    let defaults = NetworkDefaults {
        bip: "10.250.0.1/16".parse().ok(),
        ..NetworkDefaults::default()
    };
    let (networks, _batch) = open(&meta, &defaults, "test", None).unwrap();
    (networks, directory)
}

fn ask(networks: &Networks, json: &str) -> Result<Arc<Record>, String> {
    let request = serde_json::from_str(json).unwrap();
    let made = request::read(request, &NetworkDefaults::default()).and_then(|wanted| {
        check_configuration(&wanted)?;
        if wanted.config_only {
            return Ok(Arc::new(configuration(wanted, new_id()?)));
        }
        set_up(networks, wanted)
    });
    let record = made.map_err(|error| error.message)?;
    networks.restore(&record);
    Ok(record)
}

/// The subnets and gateways that were chosen.
fn subnets(record: &Record) -> Vec<(String, String)> {
    let chosen = record.subnets.iter();
    chosen
        .map(|subnet| {
            let gateway = subnet.gateway.map(|gateway| gateway.to_string());
            (subnet.cidr.to_string(), gateway.unwrap_or_default())
        })
        .collect()
}

/// The gateways that are shown.
fn shown(record: &Record) -> Vec<String> {
    let told = record.told().ipam.config.unwrap_or_default();
    told.into_iter().map(|subnet| subnet.gateway).collect()
}

fn pair(subnet: &str, gateway: &str) -> (String, String) {
    (subnet.to_owned(), gateway.to_owned())
}

#[tokio::test]
async fn subnets_and_gateways_are_chosen_as_by_docker() {
    let (networks, _directory) = networks();
    let made = |json: &str| {
        let record = ask(&networks, json).unwrap();
        networks.withdraw(&record.id).unwrap();
        networks.release_subnets(&record);
        subnets(&record)
    };
    let with = |more: &str| format!(r#"{{"Name":"x",{more}}}"#);
    for (more, expected) in [
        (
            r#""IPAM":{"Config":[{"Subnet":"10.5.0.0/16"}]}"#,
            vec![pair("10.5.0.0/16", "10.5.0.1")],
        ),
        (
            r#""IPAM":{"Config":[{"Subnet":"10.5.0.0/16","IPRange":"10.5.4.0/24"}]}"#,
            vec![pair("10.5.0.0/16", "10.5.4.0")],
        ),
        (
            r#""EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00:5::/64"},{"Subnet":"10.5.0.0/24","Gateway":"10.5.0.9"}]}"#,
            vec![
                pair("10.5.0.0/24", "10.5.0.9"),
                pair("fd00:5::/64", "fd00:5::1"),
            ],
        ),
        (
            r#""EnableIPv4":false,"EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00:5::/64"}]}"#,
            vec![pair("fd00:5::/64", "fd00:5::1")],
        ),
        (
            r#""Driver":"macvlan","IPAM":{"Config":[{"Subnet":"10.5.0.0/24"},{"Subnet":"10.6.0.0/24","Gateway":"10.6.0.7"}]}"#,
            vec![pair("10.5.0.0/24", ""), pair("10.6.0.0/24", "10.6.0.7")],
        ),
        (
            r#""IPAM":{"Config":[{"Subnet":"10.5.0.0/31"}]}"#,
            vec![pair("10.5.0.0/31", "10.5.0.0")],
        ),
        (
            r#""Internal":true,"Options":{"com.docker.network.bridge.gateway_mode_ipv4":"isolated"},"IPAM":{"Config":[{"Subnet":"10.5.0.0/24"}]}"#,
            vec![pair("10.5.0.0/24", "")],
        ),
    ] {
        assert_eq!(made(&with(more)), expected, "{more}");
    }
    let any = made(&with(r#""EnableIPv6":true"#));
    assert_eq!(any.len(), 2, "{any:?}");
    assert!(
        any[1].0.starts_with("fd") && any[1].1.ends_with("::1"),
        "{any:?}"
    );
    let small = made(&with(r#""IPAM":{"Config":[{"Subnet":"0.0.0.0/26"}]}"#));
    assert!(small[0].0.ends_with("/26"), "{small:?}");
}

#[tokio::test]
async fn refusals_have_dockers_words_and_leave_nothing_behind() {
    let (networks, _directory) = networks();
    for (more, text) in [
        (r#""Driver":"foo""#, "plugin \"foo\" not found"),
        (
            r#""Driver":"host""#,
            "only one instance of \"host\" network is allowed",
        ),
        (
            r#""Scope":"swarm""#,
            "cannot create a swarm scoped network when swarm is not active",
        ),
        (
            r#""Ingress":true"#,
            "Ingress network can only be global scope network",
        ),
        (r#""EnableIPv4":false"#, "IPv4 or IPv6 must be enabled"),
        (r#""IPAM":{"Driver":"foo"}"#, "plugin \"foo\" not found"),
        (r#""IPAM":{"Driver":"null"}"#, "ipv4 pool is empty"),
        (
            r#""IPAM":{"Config":[{"Subnet":"10.5.0.0/16"},{"Subnet":"10.6.0.0/16"}]}"#,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            r#""IPAM":{"Config":[{"Subnet":"10.5.0.0/16"},{"Subnet":"10.5.4.0/24"}]}"#,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            r#""IPAM":{"Config":[{"Subnet":"10.250.4.0/24"}]}"#,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            r#""IPAM":{"Config":[{"Subnet":"10.5.0.0/16","Gateway":"10.5.0.0"}]}"#,
            "failed to allocate gateway (10.5.0.0): Address already in use",
        ),
        (
            r#""IPAM":{"Config":[{"Subnet":"10.5.0.0/16","AuxiliaryAddresses":{"a":"10.5.0.1"}}]}"#,
            "failed to allocate secondary ip address (a:10.5.0.1): Address already in use",
        ),
        (
            r#""EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00:5::/128"}]}"#,
            "failed to allocate gateway (): no available addresses on this pool",
        ),
        (
            r#""EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"ff00::/64"}]}"#,
            "multicast subnet 'ff00::1/64' is not allowed",
        ),
        (
            r#""EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fe80::/80"}]}"#,
            "'fe80::1/80' clashes with the Link-Local prefix 'fe80::/64'",
        ),
        (
            r#""ConfigFrom":{"Network":"bridge"}"#,
            "configuration network \"bridge\" does not exist",
        ),
    ] {
        let json = format!(r#"{{"Name":"x",{more}}}"#);
        assert_eq!(ask(&networks, &json).unwrap_err(), text, "{more}");
        // Docker forgets to give the pools of some of these back.
        let again = ask(
            &networks,
            r#"{"Name":"y","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"10.5.0.0/16"},{"Subnet":"fd00:5::/64"}]}}"#,
        )
        .unwrap();
        networks.withdraw(&again.id).unwrap();
        networks.release_subnets(&again);
    }
}

#[tokio::test]
async fn bridges_do_not_share_names_or_subnets() {
    let (networks, _directory) = networks();
    let option = r#""Options":{"com.docker.network.bridge.name":"br-own"}"#;
    let first = ask(&networks, &format!(r#"{{"Name":"a",{option}}}"#)).unwrap();
    let refused = ask(&networks, &format!(r#"{{"Name":"b",{option}}}"#)).unwrap_err();
    let end = format!(
        " (br-own): conflicts with network {} (br-own): networks have same bridge name",
        first.id
    );
    assert!(
        refused.starts_with("cannot create network ") && refused.ends_with(&end),
        "{refused}"
    );
    let range =
        r#"{"Name":"b","IPAM":{"Config":[{"Subnet":"10.250.0.0/16","IPRange":"10.250.9.0/24"}]}}"#;
    let refused = ask(&networks, range).unwrap_err();
    assert!(
        refused.ends_with(": networks have overlapping IPv4"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_configuration_is_taken_over_and_kept_while_it_is_used() {
    let (networks, _directory) = networks();
    let cfg = ask(
        &networks,
        r#"{"Name":"cfg","ConfigOnly":true,"Driver":"foo","Labels":{"k":"v"},"Options":{"com.docker.network.driver.mtu":"1300"},
            "IPAM":{"Config":[{"Subnet":"10.9.0.0/16","AuxiliaryAddresses":{"q":"10.9.0.8"}}]}}"#,
    )
    .unwrap();
    assert_eq!((cfg.driver.as_str(), cfg.config_only), ("null", true));
    assert_eq!(shown(&cfg), [""]);
    let from = ask(
        &networks,
        r#"{"Name":"x","Internal":true,"ConfigFrom":{"Network":"cfg"}}"#,
    )
    .unwrap();
    assert_eq!(from.config_from, "cfg");
    assert_eq!((&from.labels, &from.options), (&cfg.labels, &cfg.options));
    assert_eq!(subnets(&from), [pair("10.9.0.0/16", "10.9.0.1")]);
    // As Docker shows a gateway that it chose in a subnet that it did not choose.
    assert_eq!(shown(&from), [""]);
    let given =
        r#"{"Name":"y","IPAM":{"Config":[{"Subnet":"10.10.0.0/16","Gateway":"10.10.0.1"}]}}"#;
    let given = ask(&networks, given).unwrap();
    assert_eq!(shown(&given), ["10.10.0.1"]);
    let any = ask(&networks, r#"{"Name":"z"}"#).unwrap();
    assert!(!shown(&any)[0].is_empty());
    networks.withdraw(&given.id).unwrap();
    networks.withdraw(&any.id).unwrap();
    assert_eq!(
        networks.withdraw(&cfg.id).unwrap_err().message,
        "error while removing network: configuration network \"cfg\" is in use"
    );
    networks.withdraw(&from.id).unwrap();
    networks.withdraw(&cfg.id).unwrap();
}

#[tokio::test]
async fn parents_are_shared_only_where_the_kernel_can() {
    let (networks, _directory) = networks();
    let on = |name: &str, driver: &str, options: &str| {
        let json = format!(
            r#"{{"Name":"{name}","Driver":"{driver}","Options":{{"parent":"eth0"{options}}}}}"#
        );
        ask(&networks, &json).map(|record| record.id.to_string())
    };
    let first = on("a", "ipvlan", "").unwrap();
    assert_eq!(
        on("b", "ipvlan", r#","ipvlan_mode":"l3""#).unwrap_err(),
        format!(
            "network di-{} is already using parent interface eth0",
            &first[..12]
        )
    );
    // A macvlan network beside it is made, as by Docker; its containers cannot start while the others run.
    let second = on("b", "macvlan", "").unwrap();
    on("c", "macvlan", "").unwrap();
    let passthru = r#","macvlan_mode":"passthru""#;
    assert_eq!(
        on("d", "macvlan", passthru).unwrap_err(),
        format!(
            "cannot use mode passthru, macvlan network {second} is already using parent interface eth0"
        )
    );
    let elsewhere =
        r#"{"Name":"e","Driver":"macvlan","Options":{"parent":"eth1","macvlan_mode":"passthru"}}"#;
    let third = ask(&networks, elsewhere).unwrap().id.to_string();
    assert_eq!(
        ask(
            &networks,
            r#"{"Name":"f","Driver":"macvlan","Options":{"parent":"eth1"}}"#
        )
        .unwrap_err(),
        format!("macvlan network {third} is already using parent interface eth1 in mode passthru")
    );
    // Each without a parent has one of its own.
    for name in ["g", "h"] {
        ask(
            &networks,
            &format!(r#"{{"Name":"{name}","Driver":"ipvlan"}}"#),
        )
        .unwrap();
    }
}
