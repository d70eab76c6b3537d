//! Limits, at the limit and one beyond, and headers that readers disagree about.

use std::io::Read as _;

use havre_layer::{
    ApplyError, ApplyOptions, Entry, EntryProblem, Kind, Limits, TarError, TarReader, apply,
};

use crate::tree::{Place, archive, directory, file};

fn with(limits: Limits) -> ApplyOptions {
    ApplyOptions {
        limits,
        ..ApplyOptions::layer()
    }
}

fn unpack(tar: &[u8], limits: Limits) -> Result<(), ApplyError> {
    let place = Place::new();
    let before = place.outside();
    let result = apply(tar, &place.root(), &with(limits)).map(drop);
    assert_eq!(place.outside(), before);
    result
}

#[test]
fn each_limit_holds_at_its_value_and_not_beyond() {
    let tar = archive(&[(file("a", 0o644), "12345"), (file("b/c", 0o644), "")]);
    let size = tar.len() as u64;
    let set = |change: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    unpack(&tar, set(&|l| l.entries = 2)).unwrap();
    let Err(ApplyError::TooManyEntries { limit: 1 }) = unpack(&tar, set(&|l| l.entries = 1)) else {
        panic!("entries");
    };
    unpack(&tar, set(&|l| l.size = size)).unwrap();
    let Err(ApplyError::TooLarge { .. }) = unpack(&tar, set(&|l| l.size = size - 1)) else {
        panic!("size");
    };
    let refused = |limits| match unpack(&tar, limits) {
        Err(ApplyError::Refused { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    unpack(&tar, set(&|l| l.file = 5)).unwrap();
    assert_eq!(
        refused(set(&|l| l.file = 4)),
        EntryProblem::TooLarge { size: 5, limit: 4 }
    );
    unpack(&tar, set(&|l| l.path = 3)).unwrap();
    assert_eq!(
        refused(set(&|l| l.path = 2)),
        EntryProblem::PathTooLong { limit: 2 }
    );
    unpack(&tar, set(&|l| l.depth = 2)).unwrap();
    assert_eq!(
        refused(set(&|l| l.depth = 1)),
        EntryProblem::TooDeep { limit: 1 }
    );
    let tar = archive(&[(file(&"n".repeat(256), 0o644), "")]);
    assert_eq!(refused_name(&tar), EntryProblem::NameTooLong);
}

fn refused_name(tar: &[u8]) -> EntryProblem {
    match unpack(tar, Limits::default()) {
        Err(ApplyError::Refused { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_that_linux_cannot_hold_are_refused_and_never_wrap() {
    for uid in [u64::from(u32::MAX), 1 << 32, (1 << 32) + 7, u64::MAX] {
        let mut entry = file("a", 0o644);
        entry.uid = uid;
        let problem = refused_name(&archive(&[(entry.clone(), "")]));
        assert_eq!(
            problem,
            EntryProblem::Range {
                field: "uid",
                value: uid
            }
        );
        entry.gid = uid;
        entry.uid = 0;
        let problem = refused_name(&archive(&[(entry, "")]));
        assert_eq!(
            problem,
            EntryProblem::Range {
                field: "gid",
                value: uid
            }
        );
    }
    for (major, minor, field) in [(1 << 12, 0, "major"), (1, 1 << 20, "minor")] {
        let entry = Entry::new("dev", Kind::Block { major, minor }, 0o600);
        match refused_name(&archive(&[(entry, "")])) {
            EntryProblem::Range { field: found, .. } => assert_eq!(found, field),
            other => panic!("{other:?}"),
        }
    }
    let whiteout = Entry::new("w", Kind::Character { major: 0, minor: 0 }, 0);
    assert_eq!(
        refused_name(&archive(&[(whiteout, "")])),
        EntryProblem::WhiteoutDevice
    );
    // The sign bit survives, far times are the kernel's to clamp.
    let mut entry = file("a", 0o644);
    entry.mtime.seconds = i64::MAX;
    unpack(&archive(&[(entry, "")]), Limits::default()).unwrap();
}

#[test]
fn the_root_must_be_a_directory() {
    for name in ["", ".", "/", "./", "a/.."] {
        if name.is_empty() {
            continue;
        }
        assert_eq!(
            refused_name(&archive(&[(file(name, 0o644), "")])),
            EntryProblem::Root
        );
    }
}

fn fix_checksum(tar: &mut [u8]) {
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn read_all(tar: &[u8]) -> Result<Vec<Entry>, TarError> {
    let mut reader = TarReader::new(tar);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        let size = reader.content(&entry).read_to_end(&mut content);
        if let Ok(size) = size {
            assert_eq!(size as u64, entry.size);
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[test]
fn damaged_headers_are_errors() {
    let good = archive(&[(file("a", 0o644), "content")]);
    assert_eq!(read_all(&good).unwrap().len(), 1);
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    assert_header_error(&flipped, "checksum does not match");
    let change = |range: std::ops::Range<usize>, text: &[u8]| {
        let mut tar = good.clone();
        tar[range].copy_from_slice(text);
        fix_checksum(&mut tar);
        tar
    };
    assert_header_error(&change(124..136, b"0000000000x\0"), "size is no number");
    assert_header_error(&change(124..136, &[0xff; 12]), "size is no number");
    assert_header_error(&change(108..116, b"00 0000\0"), "uid is no number");
    assert_header_error(&change(100..108, b"rw-r--r-"), "mode is no number");
    match read_all(&change(156..157, b"Q")) {
        Err(TarError::Type { found: 'Q', .. }) => {}
        other => panic!("{other:?}"),
    }
    for length in [1, 511, 513, 600] {
        match read_all(&good[..length]) {
            Err(TarError::Truncated { .. }) | Ok(_) if length == 600 => {}
            Err(TarError::Truncated { .. }) => {}
            other => panic!("{length}: {other:?}"),
        }
    }
}

fn assert_header_error(tar: &[u8], expected: &str) {
    match read_all(tar) {
        Err(TarError::Header { problem, .. }) => assert_eq!(problem, expected),
        other => panic!("{expected}: {other:?}"),
    }
}

#[test]
fn a_lone_zero_block_is_refused_and_a_missing_end_is_not() {
    let one = archive(&[(file("a", 0o644), "")]);
    let body = &one[..512];
    assert_eq!(read_all(body).unwrap().len(), 1);
    assert_eq!(read_all(&[body, &[0; 512]].concat()).unwrap().len(), 1);
    let hidden = [body, &[0; 512], body].concat();
    assert_header_error(&hidden, "a zero block is followed by data");
    // After the mark everything is ignored, as by all readers.
    assert_eq!(
        read_all(&[body, &[0; 1024], body].concat()).unwrap().len(),
        1
    );
}

fn extended(kind: u8, records: &[u8]) -> Vec<u8> {
    let mut header = archive(&[(file("ext", 0o644), "")]);
    header.truncate(512);
    header[156] = kind;
    header[124..136].copy_from_slice(format!("{:011o}\0", records.len()).as_bytes());
    fix_checksum(&mut header);
    header.extend_from_slice(records);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

#[test]
fn archives_that_readers_see_differently_are_refused() {
    let body = archive(&[(file("a", 0o644), "data")]);
    let cases = [
        (
            "two PAX headers",
            [extended(b'x', b"9 path=x\n"), extended(b'x', b"9 path=y\n")].concat(),
        ),
        (
            "PAX and GNU names",
            [extended(b'x', b"9 path=x\n"), extended(b'L', b"y\0")].concat(),
        ),
        ("global path", extended(b'g', b"9 path=x\n")),
        ("global size", extended(b'g', b"9 size=3\n")),
        ("record without newline", extended(b'x', b"9 path=xx")),
        ("record beyond its header", extended(b'x', b"99 path=x\n")),
        ("NUL in a path", extended(b'x', b"11 path=a\0b\n")),
        ("NUL in a long name", extended(b'L', b"a\0b")),
        ("empty long name", extended(b'L', b"\0")),
    ];
    for (name, extension) in cases {
        let tar = [extension.clone(), body.clone()].concat();
        match read_all(&tar) {
            Err(TarError::Extension { .. } | TarError::Header { .. }) => {}
            other => panic!("{name}: {other:?}"),
        }
        let alone = [extension, vec![0; 1024]].concat();
        read_all(&alone)
            .map(|found| assert!(found.is_empty()))
            .unwrap_or_default();
    }
    let remark = [extended(b'g', b"13 comment=x\n"), body.clone()].concat();
    assert_eq!(read_all(&remark).unwrap().len(), 1);
    let dangling = [extended(b'x', b"9 path=x\n"), vec![0; 1024]].concat();
    assert_header_error(&dangling, "the archive ends after an extension");
    // A directory with a size: GNU tar skips data after it, Go does not.
    let mut tar = archive(&[(directory("d", 0o755), "")]);
    tar[124..136].copy_from_slice(b"00000001000\0");
    fix_checksum(&mut tar);
    assert_header_error(&tar, "an entry without content has a size");
}

#[test]
fn the_size_of_pax_is_the_size_for_reading_and_for_skipping() {
    // The header says 0, PAX says 512: what follows is content, not an entry of its own.
    let inner = archive(&[(file("smuggled", 0o644), "")]);
    let mut outer = archive(&[(file("outer", 0o644), "")]);
    outer.truncate(512);
    let tar = [extended(b'x', b"12 size=512\n"), outer, inner].concat();
    let entries = read_all(&tar).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entries[0].path.as_slice(), entries[0].size),
        (&b"outer"[..], 512)
    );
}

#[test]
fn oversize_extensions_and_sparse_maps_are_refused_without_being_held() {
    let mut header = extended(b'x', b"");
    header[124..136].copy_from_slice(b"77777777777\0");
    fix_checksum(&mut header);
    match read_all(&header) {
        Err(TarError::ExtensionSize { .. }) => {}
        other => panic!("{other:?}"),
    }
    let sparse = |map: &str, stored: &[u8]| {
        let mut records = Vec::new();
        for (key, value) in [
            ("major", "0"),
            ("minor", "1"),
            ("realsize", "100"),
            ("map", map),
        ] {
            let record = format!(" GNU.sparse.{key}={value}\n");
            let length = record.len() + if record.len() > 97 { 3 } else { 2 };
            records.extend_from_slice(format!("{length}{record}").as_bytes());
        }
        let body = archive(&[(file("s", 0o644), std::str::from_utf8(stored).unwrap())]);
        [extended(b'x', &records), body].concat()
    };
    assert_eq!(read_all(&sparse("0,2,50,2", b"abcd")).unwrap()[0].size, 100);
    for map in [
        "0,2,1,2",
        "0,2,99,2",
        "50,2,0,2",
        "0,2",
        "0,2,50",
        "0,18446744073709551615,1,5",
        "x",
    ] {
        match read_all(&sparse(map, b"abcd")) {
            Err(TarError::Sparse { .. } | TarError::Extension { .. }) => {}
            other => panic!("{map}: {other:?}"),
        }
    }
}
