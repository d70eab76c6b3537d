//! The files that Docker makes of the same hosts' files (its golden files and `docker run` say what is expected).

use super::*;

const HEAD: &str = "# Havre wrote this file. You may change it: then Havre leaves it as it is until the\n\
    # container starts anew.\n\n";

fn made(host: &str, overrides: &Overrides, purpose: Purpose) -> Made {
    ResolvConf::parse(host, HOST_FILE).for_container(overrides, purpose)
}

fn text(host: &str, overrides: &Overrides, purpose: Purpose) -> String {
    let text = made(host, overrides, purpose).text;
    let rest = text.strip_prefix(HEAD).map(str::to_owned);
    rest.expect("the header comes first")
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    let parse = |text: &&str| text.parse().expect("an address");
    list.iter().map(parse).collect()
}

#[test]
fn the_embedded_server_stands_before_the_hosts() {
    let host = "nameserver 127.0.0.53\nsearch example.com\noptions edns0 trust-ad\n";
    let made = made(host, &Overrides::default(), Purpose::Embedded);
    assert_eq!(
        made.text,
        format!(
            "{HEAD}nameserver 127.0.0.11\nsearch example.com\noptions edns0 trust-ad ndots:0\n\n\
             # Based on host file: '/etc/resolv.conf' (internal resolver)\n\
             # ExtServers: [host(127.0.0.53)]\n# Overrides: []\n# Option ndots from: internal\n"
        )
    );
    assert_eq!(
        made.upstreams,
        ["127.0.0.53:53".parse().expect("an address")]
    );
    assert!(!made.overridden && !made.ndots_set);
}

#[test]
fn overrides_replace_and_are_named() {
    let overrides = Overrides {
        name_servers: addresses(&["2.3.4.5", "fdba:acdd:587c::53"]),
        search: vec!["com".to_owned(), ".".to_owned(), "example".to_owned()],
        options: vec!["ndots:1".to_owned(), "edns0".to_owned()],
    };
    let host = "nameserver 1.2.3.4\nsearch a b\noptions ndots:5\n";
    let made = made(host, &overrides, Purpose::Embedded);
    assert_eq!(
        made.text,
        format!(
            "{HEAD}nameserver 127.0.0.11\nsearch com example\noptions ndots:1 edns0\n\n\
             # Based on host file: '/etc/resolv.conf' (internal resolver)\n\
             # ExtServers: [2.3.4.5 fdba:acdd:587c::53]\n\
             # Overrides: [nameservers search options]\n# Option ndots from: override\n"
        )
    );
    assert!(made.overridden && made.ndots_set);
}

#[test]
fn a_wrong_ndots_is_replaced() {
    for wrong in ["ndots", "ndots:", "ndots:x", "ndots:-1"] {
        let host = format!("nameserver 1.2.3.4\noptions {wrong} edns0\n");
        let made = made(&host, &Overrides::default(), Purpose::Embedded);
        assert!(made.text.contains("options edns0 ndots:0\n"), "{wrong}");
        assert!(made.text.ends_with("# Option ndots from: internal\n"));
    }
    let host = "nameserver 1.2.3.4\noptions ndots:2\n";
    let made = made(host, &Overrides::default(), Purpose::Embedded);
    assert!(made.text.ends_with("# Option ndots from: host\n") && made.ndots_set);
}

#[test]
fn the_default_bridge_gets_no_loopback_server() {
    let bridge = |ipv6| Purpose::Bridge { ipv6 };
    let none = Overrides::default();
    let host = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.1\nnameserver fd14::1\n";
    let written = text(host, &none, bridge(false));
    assert!(written.starts_with("nameserver 10.0.0.1\n\n"), "{written}");
    let written = text(host, &none, bridge(true));
    assert!(written.starts_with("nameserver 10.0.0.1\nnameserver fd14::1\n\n"));
    assert_eq!(
        text("nameserver 127.0.0.53\n", &none, bridge(false)),
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\n\n\
         # Based on host file: '/etc/resolv.conf' (legacy)\n# Used default nameservers.\n\
         # Overrides: []\n"
    );
    assert!(text("", &none, bridge(true)).contains("nameserver 2001:4860:4860::8844\n"));
    // What the user names is kept, wherever it leads.
    let own = Overrides {
        name_servers: addresses(&["127.0.0.1"]),
        ..Overrides::default()
    };
    assert!(text(host, &own, bridge(false)).starts_with("nameserver 127.0.0.1\n\n"));
}

#[test]
fn what_is_not_understood_is_kept_or_named() {
    let host = "; a comment\n# another\nsortlist 130.155.160.0/255.255.240.0\n\
                nameserver not.an.address\nnameserver\nnameserver fe80::1%eth0\n\
                domain first\nsearch second third\nsearch\noptions\n";
    assert_eq!(
        text(host, &Overrides::default(), Purpose::Host),
        "nameserver fe80::1%eth0\nsearch second third\nsortlist 130.155.160.0/255.255.240.0\n\n\
         # Based on host file: '/etc/resolv.conf'\n# Invalid nameservers: [not.an.address]\n\
         # Overrides: []\n"
    );
}

#[test]
fn nothing_at_all_is_said() {
    let made = made("", &Overrides::default(), Purpose::Embedded);
    assert!(made.upstreams.is_empty());
    assert!(made.text.contains("\n# NO EXTERNAL NAMESERVERS DEFINED\n"));
}

#[test]
fn the_stub_of_resolved_leads_to_its_servers() {
    assert_eq!(source("nameserver 127.0.0.53\n"), RESOLVED_FILE);
    assert_eq!(
        source("nameserver 127.0.0.53\nnameserver 1.1.1.1\n"),
        HOST_FILE
    );
    assert_eq!(source("nameserver 127.0.0.54\n"), HOST_FILE);
}

/// What dockerd 28.5.2 wrote for `--dns 9.9.9.9 --dns-search a.b --dns-option ndots:3`, for `--dns-search .`, and for the
/// host's network.
#[test]
fn files_are_those_of_dockerd() {
    let host = "nameserver 10.255.255.53\n";
    let all = Overrides {
        name_servers: addresses(&["9.9.9.9"]),
        search: vec!["a.b".to_owned()],
        options: vec!["ndots:3".to_owned()],
    };
    let bridge = Purpose::Bridge { ipv6: false };
    assert_eq!(
        text(host, &all, Purpose::Embedded),
        "nameserver 127.0.0.11\nsearch a.b\noptions ndots:3\n\n\
         # Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [9.9.9.9]\n\
         # Overrides: [nameservers search options]\n# Option ndots from: override\n"
    );
    assert_eq!(
        text(host, &all, bridge),
        "nameserver 9.9.9.9\nsearch a.b\noptions ndots:3\n\n\
         # Based on host file: '/etc/resolv.conf' (legacy)\n\
         # Overrides: [nameservers search options]\n# Option ndots from: override\n"
    );
    let no_search = Overrides {
        search: vec![".".to_owned()],
        ..Overrides::default()
    };
    assert_eq!(
        text(host, &no_search, Purpose::Embedded),
        "nameserver 127.0.0.11\noptions ndots:0\n\n\
         # Based on host file: '/etc/resolv.conf' (internal resolver)\n\
         # ExtServers: [host(10.255.255.53)]\n# Overrides: [search]\n\
         # Option ndots from: internal\n"
    );
    assert_eq!(
        text(host, &Overrides::default(), Purpose::Host),
        "nameserver 10.255.255.53\n\n# Based on host file: '/etc/resolv.conf'\n# Overrides: []\n"
    );
}
