//! Who sees which name: only those who share a network (N17), whatever came and went before.

use super::*;
use proptest::prelude::*;

fn endpoint(names: &[&str], addresses: &[&str]) -> Endpoint {
    Endpoint {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn network(name: &str, endpoints: &[(&str, Endpoint)]) -> Network {
    let all = endpoints.iter().cloned();
    Network {
        name: name.to_owned(),
        endpoints: all.map(|(id, found)| (id.to_owned(), found)).collect(),
    }
}

fn on(networks: &[&str]) -> Vec<Membership> {
    networks.iter().map(|id| Membership::of(id)).collect()
}

fn table() -> Table {
    let mut table = Table::default();
    let shop = [
        ("e1", endpoint(&["web", "www"], &["10.1.0.2"])),
        (
            "e2",
            endpoint(&["db", "data.base"], &["10.1.0.3", "fd01::3"]),
        ),
    ];
    table.set_network("n1", network("shop", &shop));
    let lab = [
        ("e3", endpoint(&["db"], &["10.2.0.2"])),
        ("e4", endpoint(&["only"], &["10.2.0.3"])),
    ];
    table.set_network("n2", network("lab.x", &lab));
    table
}

fn found(table: &Table, places: &[Membership], name: &str) -> Option<Vec<String>> {
    let found = table.addresses(places, name.as_bytes())?;
    Some(found.iter().map(ToString::to_string).collect())
}

#[test]
fn names_are_those_of_shared_networks() {
    let table = table();
    let both = on(&["n1", "n2"]);
    let cases = [
        (on(&["n1"]), "only", None),
        (on(&["n2"]), "web", None),
        (on(&["n1"]), "only.lab.x", None),
        (on(&[]), "web", None),
        (on(&["n3"]), "web", None),
        (both.clone(), "db", Some(vec!["10.1.0.3", "fd01::3"])),
        (on(&["n2", "n1"]), "db", Some(vec!["10.2.0.2"])),
        (both.clone(), "db.shop", Some(vec!["10.1.0.3", "fd01::3"])),
        (both.clone(), "db.lab.x", Some(vec!["10.2.0.2"])),
        (both.clone(), "data.base", Some(vec!["10.1.0.3", "fd01::3"])),
        (
            both.clone(),
            "data.base.shop",
            Some(vec!["10.1.0.3", "fd01::3"]),
        ),
        (both.clone(), "db.x", None),
        (both.clone(), "shop", None),
        (both.clone(), "", None),
        (both.clone(), ".shop", None),
        (both, "web.shop.shop", None),
    ];
    for (places, name, expected) in cases {
        let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect());
        assert_eq!(
            found(&table, &places, name),
            expected,
            "{name} on {places:?}"
        );
    }
}

#[test]
fn addresses_lead_back_where_they_may() {
    let table = table();
    let pointer = |networks: &[&str], address| table.pointer(&on(networks), ip(address));
    assert_eq!(pointer(&["n1"], "10.1.0.2").as_deref(), Some("web.shop"));
    assert_eq!(pointer(&["n1"], "fd01::3").as_deref(), Some("db.shop"));
    assert_eq!(pointer(&["n2"], "10.1.0.2"), None);
    assert_eq!(pointer(&["n1"], "10.1.0.9"), None);
}

#[test]
fn links_are_the_containers_own() {
    let table = table();
    let mut places = on(&["n1"]);
    places[0].links.insert("Store".to_owned(), "db".to_owned());
    places[0].links.insert("web".to_owned(), "db".to_owned());
    let db = Some(vec!["10.1.0.3".to_owned(), "fd01::3".to_owned()]);
    assert_eq!(found(&table, &places, "store"), db);
    assert_eq!(found(&table, &places, "store.shop"), db);
    assert_eq!(found(&table, &places, "web"), db);
    assert_eq!(found(&table, &on(&["n1"]), "store"), None);
}

#[test]
fn what_went_is_gone_and_what_others_share_stays() {
    let mut table = table();
    let n1 = on(&["n1"]);
    assert!(table.set_endpoint("n1", "e5", endpoint(&["web2", "WWW"], &["10.1.0.5"])));
    assert_eq!(found(&table, &n1, "www").map(|all| all.len()), Some(2));
    table.remove_endpoint("n1", "e1");
    assert_eq!(found(&table, &n1, "www"), Some(vec!["10.1.0.5".to_owned()]));
    assert_eq!(found(&table, &n1, "web"), None);
    assert_eq!(table.pointer(&n1, ip("10.1.0.2")), None);
    assert!(table.set_endpoint("n1", "e5", endpoint(&["web3"], &["10.1.0.6"])));
    assert_eq!(found(&table, &n1, "www"), None);
    assert!(!table.set_endpoint("n9", "e5", endpoint(&["web3"], &["10.1.0.6"])));
    table.remove_network("n1");
    assert_eq!(found(&table, &n1, "web3"), None);
}

#[test]
fn a_network_lasts_from_its_first_endpoint_to_its_last() {
    let mut table = Table::default();
    let n1 = on(&["n1"]);
    table.join("n1", "shop", "e1", endpoint(&["web"], &["10.1.0.2"]));
    table.join("n1", "shop", "e2", endpoint(&["db"], &["10.1.0.3"]));
    assert_eq!(found(&table, &n1, "web.shop").map(|all| all.len()), Some(1));
    table.leave("n1", "e1");
    table.leave("n1", "e9");
    assert_eq!(found(&table, &n1, "web"), None);
    assert_eq!(found(&table, &n1, "db.shop").map(|all| all.len()), Some(1));
    table.leave("n1", "e2");
    assert!(table.networks.is_empty());
}

#[test]
fn a_name_without_addresses_is_a_name() {
    let mut table = table();
    assert!(table.set_endpoint("n1", "e6", endpoint(&["quiet"], &[])));
    assert_eq!(found(&table, &on(&["n1"]), "quiet"), Some(Vec::new()));
    table.remove_endpoint("n1", "e6");
    assert_eq!(found(&table, &on(&["n1"]), "quiet"), None);
}

/// N17: four networks, eight containers: a name and an address lead to another container when both share a network.
#[test]
fn resolution_is_sharing() {
    // Four networks, eight containers, container c on network n when the bit says so.
    let member = |container: usize, network: usize| (container * 7 + 3) >> network & 1 == 1;
    let id = |network: usize| format!("n{network}");
    let mut table = Table::default();
    let (networks, containers) = (0..4_usize, 0..8_usize);
    for network in networks.clone() {
        let inside = containers.clone().filter(|one| member(*one, network));
        let all = inside.map(|one| {
            let address = IpAddr::from([
                10,
                u8::try_from(network).expect("few"),
                0,
                u8::try_from(one).expect("few"),
            ]);
            (
                one.to_string(),
                Endpoint {
                    names: vec![format!("c{one}")],
                    addresses: vec![address],
                },
            )
        });
        table.set_network(
            &id(network),
            Network {
                name: format!("net{network}"),
                endpoints: all.collect(),
            },
        );
    }
    for asker in containers.clone() {
        let mine = networks.clone().filter(|network| member(asker, *network));
        let places: Vec<_> = mine.map(|network| Membership::of(&id(network))).collect();
        for other in containers.clone() {
            let shared = networks
                .clone()
                .any(|network| member(asker, network) && member(other, network));
            let name = format!("c{other}");
            assert_eq!(
                table.addresses(&places, name.as_bytes()).is_some(),
                shared,
                "{asker} {other}"
            );
            for network in networks.clone().filter(|network| member(other, *network)) {
                let address = IpAddr::from([
                    10,
                    u8::try_from(network).expect("few"),
                    0,
                    u8::try_from(other).expect("few"),
                ]);
                let seen = member(asker, network);
                assert_eq!(table.pointer(&places, address).is_some(), seen);
                let full = format!("c{other}.net{network}");
                assert_eq!(table.addresses(&places, full.as_bytes()).is_some(), seen);
            }
        }
    }
}

proptest! {
    /// Changes one at a time end where a new table with the result begins.
    #[test]
    fn changes_add_up(steps in proptest::collection::vec((0..4_u8, 0..3_u8, 0..3_u8, any::<bool>()), 0..40)) {
        let mut table = Table::default();
        table.set_network("n", network("net", &[]));
        let mut left = BTreeMap::new();
        for (id, name, address, add) in steps {
            let id = format!("e{id}");
            if add {
                let one = endpoint(&[&format!("x{name}"), "all"], &[&format!("10.0.0.{address}")]);
                table.set_endpoint("n", &id, one.clone());
                left.insert(id, one);
            } else {
                table.remove_endpoint("n", &id);
                left.remove(&id);
            }
        }
        let mut fresh = Table::default();
        fresh.set_network("n", Network { name: "net".to_owned(), endpoints: left });
        for name in ["x0", "x1", "x2", "all"] {
            let sorted = |table: &Table| found(table, &on(&["n"]), name).map(|mut all| { all.sort(); all });
            prop_assert_eq!(sorted(&table), sorted(&fresh));
        }
        for last in 0..3_u8 {
            let has = |table: &Table| table.pointer(&on(&["n"]), IpAddr::from([10, 0, 0, last])).is_some();
            prop_assert_eq!(has(&table), has(&fresh));
        }
    }
}
