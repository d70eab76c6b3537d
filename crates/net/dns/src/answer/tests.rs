//! Answers, judged by a parser that is not ours, and by bytes that nobody should send.

use std::time::{Duration, Instant};

use super::*;
use crate::mutation::Mutations;
use proptest::prelude::*;
use simple_dns::rdata::RData;
use simple_dns::{OPCODE, Packet, PacketFlag, RCODE};

/// `db` with as many addresses as wanted, `v4only`, and their reverse.
struct Known(u8);

impl Names for Known {
    fn addresses(&self, name: &[u8]) -> Option<Vec<IpAddr>> {
        let many = (0..self.0).map(|last| IpAddr::from([10, 0, 0, last]));
        match name {
            b"db" | b"db.shop" => Some(many.chain(["fd00::2".parse().expect("v6")]).collect()),
            b"v4only" => Some(vec![IpAddr::from([10, 0, 0, 9])]),
            _ => None,
        }
    }

    fn pointer(&self, address: IpAddr) -> Option<String> {
        (address == IpAddr::from([10, 0, 0, 2])).then(|| "db.shop".to_owned())
    }

    fn keeps_short_names(&self) -> bool {
        self.0 == 77
    }
}

fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let wire = to_wire(name).expect("a name");
    let additional = u8::from(edns.is_some());
    let head = [0x12, 0x34, 0x01, 0x10, 0, 1, 0, 0, 0, 0, 0, additional];
    let mut packet = [&head[..], &wire, &kind.to_be_bytes(), &[0, 1]].concat();
    if let Some(size) = edns {
        packet.extend_from_slice(&[0, 0, 41]);
        packet.extend_from_slice(&size.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0x80, 0, 0, 0]);
    }
    packet
}

fn answered(packet: &[u8], names: &Known, carrier: Carrier) -> Vec<u8> {
    let mut out = vec![1, 2, 3];
    assert!(matches!(
        respond(packet, names, carrier, &mut out),
        Outcome::Answered
    ));
    out
}

#[test]
fn the_question_comes_back_as_it_was_written() {
    let packet = query("dB", kind::A, None);
    let out = answered(&packet, &Known(1), Carrier::Udp);
    assert_eq!(out[12..19], packet[12..19]);
    assert_eq!(out[..2], packet[..2]);
    let read = Packet::parse(&out).expect("well-formed");
    assert!(read.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
    assert!(read.has_flags(PacketFlag::RECURSION_AVAILABLE | PacketFlag::CHECKING_DISABLED));
    assert!(!read.has_flags(PacketFlag::AUTHORITATIVE_ANSWER));
    assert_eq!(
        (read.rcode(), read.opcode()),
        (RCODE::NoError, OPCODE::StandardQuery)
    );
    assert_eq!(read.answers.len(), 1);
    assert_eq!(read.answers[0].ttl, 600);
    assert_eq!(read.answers[0].name.to_string(), "dB");
    let RData::A(address) = &read.answers[0].rdata else {
        panic!("an address is expected");
    };
    assert_eq!(address.address, 0x0a00_0000);
}

#[test]
fn an_own_name_without_such_a_record_exists_nevertheless() {
    for (name, kind) in [
        ("v4only", kind::AAAA),
        ("db", kind::MX),
        ("db", 16),
        ("db", 65),
        ("db", kind::SRV),
    ] {
        let out = answered(&query(name, kind, None), &Known(1), Carrier::Udp);
        let read = Packet::parse(&out).expect("well-formed");
        assert_eq!(
            (read.rcode(), read.answers.len()),
            (RCODE::NoError, 0),
            "{name} {kind}"
        );
    }
}

#[test]
fn what_is_not_ours_goes_on() {
    let mut out = Vec::new();
    for (name, kind) in [
        ("elsewhere", kind::A),
        ("example.com", kind::A),
        ("3.0.0.10.in-addr.arpa", kind::PTR),
    ] {
        let packet = query(name, kind, None);
        let outcome = respond(&packet, &Known(1), Carrier::Udp, &mut out);
        assert!(matches!(outcome, Outcome::Forward(_)), "{name}");
    }
    let mut chaos = query("db", kind::A, None);
    let last = chaos.len() - 1;
    chaos[last] = 3;
    let outcome = respond(&chaos, &Known(1), Carrier::Udp, &mut out);
    assert!(matches!(outcome, Outcome::Forward(_)));
}

#[test]
fn a_container_with_its_own_ndots_keeps_short_names() {
    let out = answered(&query("elsewhere", kind::A, None), &Known(77), Carrier::Udp);
    let read = Packet::parse(&out).expect("well-formed");
    assert_eq!((read.rcode(), read.answers.len()), (RCODE::NoError, 0));
    let mut out = Vec::new();
    for (name, kind) in [("elsewhere", kind::MX), ("else.where", kind::A)] {
        let packet = query(name, kind, None);
        let outcome = respond(&packet, &Known(77), Carrier::Udp, &mut out);
        assert!(matches!(outcome, Outcome::Forward(_)), "{name}");
    }
}

#[test]
fn reverse_names_lead_back() {
    let out = answered(
        &query("2.0.0.10.IN-ADDR.arpa", kind::PTR, None),
        &Known(1),
        Carrier::Udp,
    );
    let read = Packet::parse(&out).expect("well-formed");
    let RData::PTR(name) = &read.answers[0].rdata else {
        panic!("a name is expected");
    };
    assert_eq!(name.0.to_string(), "db.shop");
}

#[test]
fn an_answer_is_as_long_as_the_client_takes() {
    for (edns, carrier, most) in [
        (None, Carrier::Udp, 512),
        (Some(100), Carrier::Udp, 512),
        (Some(1232), Carrier::Udp, 1232),
        (Some(65535), Carrier::Udp, 4096),
        (None, Carrier::Tcp, 65535),
    ] {
        let out = answered(&query("db", kind::A, edns), &Known(250), carrier);
        let read = Packet::parse(&out).expect("well-formed");
        assert!(out.len() <= most, "{} of {most}", out.len());
        let whole = read.answers.len() == 250;
        assert_eq!(read.has_flags(PacketFlag::TRUNCATION), !whole);
        assert_eq!(whole, most > 4000, "{most}");
        assert!(whole || out.len() + 16 > most, "room was left");
        assert_eq!(
            read.opt().map(|opt| opt.udp_packet_size),
            edns.map(|_| 4096)
        );
    }
}

#[test]
fn an_unknown_version_of_edns_is_named() {
    let mut packet = query("db", kind::A, Some(1232));
    let version = packet.len() - 5;
    packet[version] = 1;
    let out = answered(&packet, &Known(1), Carrier::Udp);
    // BADVERS is 16: its upper bits lead the OPT record's flags, its lower ones are the header's.
    assert_eq!((out[3] & 15, out[7]), (0, 0));
    assert_eq!(out[out.len() - 6..], [1, 0, 0x80, 0, 0, 0]);
}

#[test]
fn broken_packets_get_a_header_or_nothing() {
    let mut packet = query("db", kind::A, None);
    packet.push(0);
    let out = answered(&packet, &Known(1), Carrier::Udp);
    assert_eq!(out, [0x12, 0x34, 0x81, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]);
    packet[2] |= 0x80;
    let mut out = Vec::new();
    let outcome = respond(&packet, &Known(1), Carrier::Udp, &mut out);
    assert!(matches!(outcome, Outcome::Silence) && out.is_empty());
}

/// What every answer must be, whatever was asked (F30).
fn check(packet: &[u8], carrier: Carrier, out: &mut Vec<u8>) {
    match respond(packet, &Known(60), carrier, out) {
        Outcome::Silence => assert!(out.is_empty()),
        Outcome::Forward(query) => {
            assert!(out.is_empty());
            fail(&query, code::SERVER_FAILURE, out);
            let opt = if query.edns.is_some() { OPT_LENGTH } else { 0 };
            assert_eq!(out.len(), HEADER + query.question().len() + opt);
        }
        Outcome::Answered => {
            assert_eq!(out[..2], packet[..2]);
            assert!(out[2] & 0x80 != 0);
            if let Ok(query) = Query::parse(packet) {
                assert_eq!(&out[12..12 + query.question().len()], query.question());
                assert!(out.len() <= limit(&query, carrier));
            } else {
                assert_eq!(out.len(), HEADER);
            }
        }
    }
}

/// N13: of queries that were changed at random, by UDP and by TCP, none is answered wrongly, or takes long.
#[test]
fn mutated_queries_never_panic_and_cost_little() {
    let seeds = [
        query("db", kind::A, Some(1232)),
        query("db.shop", kind::AAAA, None),
        query("2.0.0.10.in-addr.arpa", kind::PTR, Some(512)),
        query("v4only", 255, Some(4096)),
    ];
    let mut mutations = Mutations::new();
    let mut out = Vec::new();
    let mut total = Duration::ZERO;
    let rounds = Mutations::rounds();
    for round in 0..rounds {
        let packet = mutations.of(&seeds);
        let carrier = [Carrier::Udp, Carrier::Tcp][usize::from(round % 2 == 1)];
        let start = Instant::now();
        check(&packet, carrier, &mut out);
        total += start.elapsed();
    }
    println!("{rounds} packets, {:?} each", total / rounds);
    assert!(total / rounds < Duration::from_millis(1), "{total:?}");
}

proptest! {
    #[test]
    fn any_bytes_get_a_sound_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300), tcp: bool) {
        let carrier = if tcp { Carrier::Tcp } else { Carrier::Udp };
        check(&bytes, carrier, &mut Vec::new());
    }
}
