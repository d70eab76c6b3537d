//! Packets that are well-formed, and those of RFC 9267 that are not.

use super::*;
use proptest::prelude::*;

fn packet(counts: [u8; 4], body: &[u8]) -> Vec<u8> {
    let counts = counts.map(|count| [0, count]).concat();
    [&[0x12, 0x34, 0x01, 0x00][..], &counts, body].concat()
}

fn question(name: &[u8]) -> Vec<u8> {
    [name, &[0, 1, 0, 1]].concat()
}

fn opt(data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).expect("short");
    [&[0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, length][..], data].concat()
}

fn parsed(packet: &[u8]) -> Result<(), Refusal> {
    Query::parse(packet).map(drop)
}

#[test]
fn a_query_is_read() {
    let body = [question(b"\x02Db\x04shop\x00"), opt(&[0, 10, 0, 2, 7, 7])].concat();
    let packet = packet([1, 0, 0, 1], &body);
    let query = Query::parse(&packet).expect("well-formed");
    assert_eq!((query.id, query.kind, query.class), (0x1234, 1, 1));
    assert_eq!(query.name, b"\x02Db\x04shop\x00");
    assert_eq!(query.question(), &packet[12..25]);
    let text = Text::of(query.name).expect("a name");
    assert_eq!(text.as_bytes(), b"db.shop");
    let edns = Edns {
        size: 4096,
        version: 0,
        dnssec: true,
    };
    assert_eq!(query.edns, Some(edns));
}

#[test]
fn what_is_not_a_query_is_not_answered() {
    assert_eq!(parsed(b""), Err(Refusal::Ignore));
    assert_eq!(parsed(&[0; 11]), Err(Refusal::Ignore));
    let mut reply = packet([1, 0, 0, 0], &question(b"\x00"));
    reply[2] |= 0x80;
    assert_eq!(parsed(&reply), Err(Refusal::Ignore));
    let mut notify = packet([1, 0, 0, 0], &question(b"\x00"));
    notify[2] |= 0x20;
    assert_eq!(parsed(&notify), Err(Refusal::NotImplemented));
}

#[test]
fn every_lie_of_a_packet_is_found() {
    let long = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(4);
    let cases = [
        ("no question", packet([0, 0, 0, 0], b"")),
        (
            "two questions",
            packet([2, 0, 0, 0], &question(b"\x00").repeat(2)),
        ),
        ("an answer", packet([1, 1, 0, 0], &question(b"\x00"))),
        ("an authority", packet([1, 0, 1, 0], &question(b"\x00"))),
        (
            "a pointer to itself",
            packet([1, 0, 0, 0], &question(b"\xc0\x0c")),
        ),
        (
            "a pointer forward",
            packet([1, 0, 0, 0], &question(b"\xc0\x10")),
        ),
        (
            "a pointer to the header",
            packet([1, 0, 0, 0], &question(b"\xc0\x00")),
        ),
        (
            "a label of 64",
            packet(
                [1, 0, 0, 0],
                &question(&[&[64][..], &[b'a'; 64], &[0]].concat()),
            ),
        ),
        (
            "a name of 257",
            packet([1, 0, 0, 0], &question(&[&long[..], &[0]].concat())),
        ),
        ("a label past the end", packet([1, 0, 0, 0], b"\x05abc")),
        ("a name without end", packet([1, 0, 0, 0], b"\x03abc")),
        ("half a type", packet([1, 0, 0, 0], b"\x00\x00")),
        (
            "bytes left over",
            packet([1, 0, 0, 0], &[question(b"\x00"), vec![0]].concat()),
        ),
        (
            "an OPT that is not there",
            packet([1, 0, 0, 1], &question(b"\x00")),
        ),
        (
            "two OPT",
            packet(
                [1, 0, 0, 2],
                &[question(b"\x00"), opt(b""), opt(b"")].concat(),
            ),
        ),
        (
            "an option past the end",
            packet(
                [1, 0, 0, 1],
                &[question(b"\x00"), opt(&[0, 1, 0, 9])].concat(),
            ),
        ),
        (
            "half an option",
            packet([1, 0, 0, 1], &[question(b"\x00"), opt(&[0, 1, 0])].concat()),
        ),
        (
            "more than OPT and TSIG",
            packet([1, 0, 0, 3], &question(b"\x00")),
        ),
    ];
    for (what, packet) in cases {
        assert_eq!(parsed(&packet), Err(Refusal::Format), "{what}");
    }
    let mut named = packet(
        [1, 0, 0, 1],
        &[question(b"\x00"), b"\x01a".to_vec(), opt(b"")].concat(),
    );
    assert_eq!(parsed(&named), Err(Refusal::Format), "an OPT with a name");
    named.clear();
}

#[test]
fn a_dot_within_a_label_makes_no_other_name() {
    assert!(Text::of(b"\x07db.shop\x00").is_none());
    assert!(Text::of(b"\x02db\x04shop\x00").is_some());
}

#[test]
fn reverse_names_are_addresses() {
    let address = |name: &str| {
        let wire = to_wire(name).expect("a name");
        Text::of(&wire).and_then(|text| text.reverse_address())
    };
    assert_eq!(
        address("4.3.2.1.in-addr.arpa"),
        Some(IpAddr::from([1, 2, 3, 4]))
    );
    let nibbles = format!("2.{}d.f.ip6.arpa", "0.".repeat(29));
    assert_eq!(address(&nibbles), "fd00::2".parse().ok());
    for wrong in [
        "3.2.1.in-addr.arpa",
        "5.4.3.2.1.in-addr.arpa",
        "04.3.2.1.in-addr.arpa",
        "256.3.2.1.in-addr.arpa",
        "+4.3.2.1.in-addr.arpa",
        "x.in-addr.arpa",
        "in-addr.arpa",
        "2.0.ip6.arpa",
        "4.3.2.1.in-addr.arpa.shop",
    ] {
        assert_eq!(address(wrong), None, "{wrong}");
    }
}

#[test]
fn names_have_a_form_on_the_wire_or_none() {
    assert_eq!(
        to_wire("db.shop.").as_deref(),
        Some(&b"\x02db\x04shop\x00"[..])
    );
    for none in ["", "a..b", &"a".repeat(64), &"a.".repeat(128)] {
        assert_eq!(to_wire(none), None, "{none}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(query) = Query::parse(&bytes) {
            prop_assert!(query.name.len() <= MAX_NAME);
            prop_assert_eq!(query.question().len(), query.name.len() + 4);
        }
    }

    #[test]
    fn a_name_comes_back_as_it_was(labels in proptest::collection::vec("[a-z0-9_-]{1,20}", 1..8)) {
        let name = labels.join(".");
        let wire = to_wire(&name).expect("short enough");
        let text = Text::of(&wire).expect("a name");
        prop_assert_eq!(text.as_bytes(), name.as_bytes());
    }
}
