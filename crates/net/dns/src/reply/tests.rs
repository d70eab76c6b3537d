//! Answers of other servers: the right one, those of liars, and broken ones.

use std::time::{Duration, Instant};

use super::*;
use crate::message::to_wire;
use crate::mutation::Mutations;
use proptest::prelude::*;

fn asked(name: &str) -> Vec<u8> {
    let wire = to_wire(name).expect("a name");
    let head = [0x11, 0x11, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&head[..], &wire, &[0, 1, 0, 1]].concat()
}

/// An answer under the id 0x2222, with records.
fn reply(name: &str, flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = asked(name);
    packet[..2].copy_from_slice(&[0x22, 0x22]);
    packet[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
    packet[7] = u8::try_from(records.len()).expect("few");
    packet.extend(records.concat());
    packet
}

fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("short");
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend(data);
    record
}

fn judge(packet: &mut [u8], question: &[u8]) -> Result<Verdict, Rejected> {
    let query = Query::parse(question).expect("a query");
    accept(packet, &query, 0x2222)
}

#[test]
fn the_answer_becomes_the_clients() {
    let question = asked("eXample.COM");
    let mut packet = reply("example.com", 0, &[record(1, 60, &[1, 2, 3, 4])]);
    let length = packet.len();
    // Bytes behind the last record are nobody's.
    packet.extend([0; 7]);
    assert_eq!(judge(&mut packet, &question), Ok(Verdict::Answer(length)));
    assert_eq!(packet[..2], [0x11, 0x11]);
    assert_eq!(packet[12..25], question[12..25]);
}

#[test]
fn whoever_does_not_answer_what_was_asked_is_not_heard() {
    let question = asked("example.com");
    let good = reply("example.com", 0, &[]);
    let mismatch = Err(Rejected::Mismatch);
    let mut id = good.clone();
    id[0] ^= 1;
    assert_eq!(judge(&mut id, &question), mismatch);
    assert_eq!(
        judge(&mut reply("example.org", 0, &[]), &question),
        mismatch
    );
    let mut kind = good.clone();
    let end = kind.len();
    kind[end - 3] = 28;
    assert_eq!(judge(&mut kind, &question), mismatch);
    let mut class = good.clone();
    class[end - 1] = 3;
    assert_eq!(judge(&mut class, &question), mismatch);
    let mut query = good.clone();
    query[2] &= 0x7f;
    assert_eq!(judge(&mut query, &question), Err(Rejected::Malformed));
    let mut questions = good.clone();
    questions[5] = 2;
    assert_eq!(judge(&mut questions, &question), Err(Rejected::Malformed));
    assert_eq!(
        judge(&mut good.clone()[..11], &question),
        Err(Rejected::Malformed)
    );
    assert_eq!(
        judge(&mut good.clone(), &question),
        Ok(Verdict::Answer(good.len()))
    );
}

#[test]
fn times_to_live_are_bounded() {
    let question = asked("a.b");
    for (said, kept) in [
        (60, 60),
        (86_400, 86_400),
        (604_800, 86_400),
        (1 << 31, 0),
        (u32::MAX, 0),
    ] {
        let mut packet = reply("a.b", 0, &[record(1, said, &[1, 2, 3, 4])]);
        judge(&mut packet, &question).expect("an answer");
        let at = packet.len() - 10;
        assert_eq!(packet[at..at + 4], u32::to_be_bytes(kept), "{said}");
    }
    // The same bytes of an OPT record are flags.
    let mut packet = reply("a.b", 0, &[record(41, 0x8000, &[])]);
    judge(&mut packet, &question).expect("an answer");
    let at = packet.len() - 6;
    assert_eq!(packet[at..at + 4], [0, 0, 0x80, 0]);
}

#[test]
fn records_that_lie_spoil_the_answer() {
    let question = asked("a.b");
    let here = u8::try_from(question.len()).expect("short");
    let cases: [(&str, Vec<u8>); 11] = [
        ("an address of three bytes", record(1, 0, &[1, 2, 3])),
        ("an address of 15", record(28, 0, &[0; 15])),
        ("an alias to itself", record(5, 0, &[0xc0, here + 12])),
        ("an alias forward", record(5, 0, &[0xc0, 0xf0])),
        ("an alias into the header", record(5, 0, &[0xc0, 2])),
        ("an alias with bytes behind", record(5, 0, &[0xc0, 12, 0])),
        ("an alias without end", record(5, 0, b"\x01a")),
        (
            "a label of 64",
            record(12, 0, &[&[64][..], &[b'a'; 64], &[0]].concat()),
        ),
        ("half an exchanger", record(15, 0, &[0])),
        (
            "a start of authority without numbers",
            record(6, 0, &[0, 0]),
        ),
        ("data past the end", {
            let mut short = record(16, 0, &[1, 2]);
            short.pop();
            short
        }),
    ];
    for (what, bad) in cases {
        let mut packet = reply("a.b", 0, &[bad]);
        assert_eq!(
            judge(&mut packet, &question),
            Err(Rejected::Malformed),
            "{what}"
        );
    }
    let mut missing = reply("a.b", 0, &[]);
    missing[9] = 1;
    assert_eq!(judge(&mut missing, &question), Err(Rejected::Malformed));
    let long = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(4);
    let mut packet = reply("a.b", 0, &[record(5, 0, &[&long[..], &[0]].concat())]);
    assert_eq!(judge(&mut packet, &question), Err(Rejected::Malformed));
}

#[test]
fn good_records_of_every_kind_pass() {
    let question = asked("a.b");
    let records = [
        record(1, 1, &[1, 2, 3, 4]),
        record(28, 1, &[0; 16]),
        record(5, 1, b"\x01x\xc0\x0e"),
        record(2, 1, &[0xc0, 12]),
        record(15, 1, b"\x00\x0a\xc0\x0c"),
        record(33, 1, b"\x00\x00\x00\x00\x00\x50\x00"),
        record(6, 1, &[&[0, 0][..], &[0; 20]].concat()),
        record(16, 1, b"\x03abc"),
        record(65, 1, &[0, 1, 0]),
    ];
    let mut packet = reply("a.b", 0, &records);
    let length = packet.len();
    assert_eq!(judge(&mut packet, &question), Ok(Verdict::Answer(length)));
}

#[test]
fn failures_and_cut_answers_are_told_apart() {
    let question = asked("a.b");
    for code in [2, 5] {
        let mut packet = reply("a.b", code, &[]);
        assert_eq!(judge(&mut packet, &question), Ok(Verdict::Failed(code)));
    }
    // No such name is an answer.
    let mut packet = reply("a.b", 3, &[]);
    let length = packet.len();
    assert_eq!(judge(&mut packet, &question), Ok(Verdict::Answer(length)));
    let mut bare = reply("a.b", 1, &[])[..12].to_vec();
    bare[5] = 0;
    assert_eq!(judge(&mut bare, &question), Ok(Verdict::Failed(1)));
    let mut cut = reply("a.b", 0x0200, &[record(1, 1, &[1, 2, 3, 4])]);
    let length = cut.len();
    assert_eq!(judge(&mut cut, &question), Ok(Verdict::Truncated(length)));
    let mut cut = reply("a.b", 0x0200, &[record(1, 1, &[1, 2, 3, 4])]);
    cut.pop();
    assert_eq!(
        judge(&mut cut, &question),
        Ok(Verdict::Truncated(question.len()))
    );
    assert_eq!(cut[6..12], [0; 6]);
}

/// N13: what another server's answer may be made to look like: none is taken that does not repeat the question, or whose
/// length is not what there is.
#[test]
fn mutated_answers_never_panic_and_cost_little() {
    let question = asked("example.com");
    let chain = [record(5, 9, b"\x01x\xc0\x0c"), record(1, 9, &[1, 2, 3, 4])];
    let others = [
        record(15, 9, b"\x00\x05\x04mail\xc0\x0c"),
        record(33, 9, b"\0\x01\0\x01\0\x35\x01s\xc0\x0c"),
        record(16, 9, b"\x05hello"),
        record(6, 9, &[&b"\xc0\x0c\xc0\x0c"[..], &[0; 20]].concat()),
    ];
    let seeds = [
        reply("example.com", 0, &chain),
        reply("example.com", 0, &others),
        reply("example.com", flag::TRUNCATED, &chain),
    ];
    let mut mutations = Mutations::new();
    let (mut total, mut taken) = (Duration::ZERO, 0_u32);
    let rounds = Mutations::rounds();
    for _ in 0..rounds {
        let mut packet = mutations.of(&seeds);
        let start = Instant::now();
        let verdict = judge(&mut packet, &question);
        total += start.elapsed();
        if let Ok(Verdict::Answer(length) | Verdict::Truncated(length)) = verdict {
            taken += 1;
            assert!(length <= packet.len());
            assert_eq!(packet[..2], question[..2]);
            assert_eq!(packet[12..question.len()], question[12..]);
        }
    }
    println!("{rounds} packets, {taken} taken, {:?} each", total / rounds);
    assert!(total / rounds < Duration::from_millis(1), "{total:?}");
    // Changed where it does not matter, such as in an address.
    assert!(taken > 0 && taken < rounds / 2, "{taken}");
}

proptest! {
    /// F31: no bytes panic, and none are taken that do not repeat the question.
    #[test]
    fn only_answers_to_the_question_are_taken(
        at in 0..80_usize,
        byte: u8,
        cut in 0..80_usize,
        noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let question = asked("example.com");
        let records = [record(5, 9, b"\x01x\xc0\x0c"), record(1, 9, &[1, 2, 3, 4])];
        let mut packet = reply("example.com", 0, &records);
        if let Some(place) = packet.get_mut(at) {
            *place = byte;
        }
        packet.truncate(packet.len().min(cut + 12));
        packet.extend(&noise);
        if let Ok(Verdict::Answer(length) | Verdict::Truncated(length)) = judge(&mut packet, &question) {
            prop_assert!(length <= packet.len());
            prop_assert_eq!(&packet[..2], &question[..2]);
            prop_assert_eq!(&packet[12..question.len()], &question[12..]);
        }
    }
}
