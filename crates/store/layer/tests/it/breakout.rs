//! Archives that try to leave the root, by every kind of entry. What is outside must stay as it was,
//! whether the archive is refused or its links lead back inside.

use havre_layer::{ApplyError, ApplyOptions, EntryProblem, apply};
use havre_types::{Classify as _, ErrorKind};

use crate::tree::{Place, archive, directory, file, hard_link, read, symlink};

/// The archive is unpacked in all three ways; the outcome of the layer's way is returned.
fn attempt(entries: &[(havre_layer::Entry, &str)]) -> Result<(), ApplyError> {
    let mut result = Ok(());
    let tar = archive(entries);
    for options in [
        ApplyOptions::on_parents(),
        ApplyOptions::archive(),
        ApplyOptions::layer(),
    ] {
        let place = Place::new();
        fs_err::write(place.path().join("existing"), "in the root").unwrap();
        let before = place.outside();
        result = apply(tar.as_slice(), &place.root(), &options).map(drop);
        assert_eq!(place.outside(), before, "{entries:?}");
    }
    result
}

fn assert_refused(entries: &[(havre_layer::Entry, &str)], expected: &EntryProblem) {
    let error = attempt(entries).expect_err("accepted");
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    match error {
        ApplyError::Refused { source, .. } => assert_eq!(&source, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_with_dots_are_refused() {
    for name in [
        "../outside/x",
        "a/../../outside/x",
        "/../outside/x",
        "./../x",
        "..",
    ] {
        assert_refused(&[(file(name, 0o644), "evil")], &EntryProblem::Escape);
        assert_refused(&[(symlink(name, "/"), "")], &EntryProblem::Escape);
        assert_refused(&[(directory(name, 0o777), "")], &EntryProblem::Escape);
        assert_refused(&[(hard_link(name, "existing"), "")], &EntryProblem::Escape);
    }
}

#[test]
fn whiteouts_of_dots_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let place = Place::new();
        for options in [ApplyOptions::layer(), ApplyOptions::on_parents()] {
            let before = place.outside();
            let tar = archive(&[(file(name, 0o644), "")]);
            match apply(tar.as_slice(), &place.root(), &options) {
                Err(ApplyError::Refused {
                    source: EntryProblem::Whiteout,
                    ..
                }) => {}
                other => panic!("{other:?}"),
            }
            assert_eq!(place.outside(), before);
        }
    }
}

#[test]
fn absolute_names_are_below_the_root() {
    attempt(&[(file("/outside/sentinel", 0o644), "evil")]).unwrap();
    attempt(&[(directory("/outside", 0o000), "")]).unwrap();
}

#[test]
fn nothing_is_written_through_links_that_leave_the_root() {
    for target in ["../outside", "/../../outside", "../../../../../../outside"] {
        attempt(&[
            (symlink("link", target), ""),
            (file("link/sentinel", 0o600), "evil"),
        ])
        .unwrap();
        attempt(&[
            (symlink("link", target), ""),
            (directory("link", 0o700), ""),
        ])
        .unwrap();
        attempt(&[
            (symlink("link", target), ""),
            (file("link/.wh.sentinel", 0o600), ""),
        ])
        .unwrap();
        attempt(&[
            (symlink("link", target), ""),
            (file("link/.wh..wh..opq", 0o600), ""),
        ])
        .unwrap();
        attempt(&[
            (symlink("link", target), ""),
            (directory("link/sentinel", 0o700), ""),
        ])
        .unwrap();
    }
    for target in ["../outside/sentinel", "/../outside/sentinel"] {
        attempt(&[(symlink("link", target), ""), (file("link", 0o600), "evil")]).unwrap();
        let mut owned = file("link", 0o6777);
        owned.uid = 1234;
        owned.xattrs = vec![(b"user.evil".to_vec(), b"1".to_vec())];
        attempt(&[(symlink("link", target), ""), (owned, "evil")]).unwrap();
    }
}

#[test]
fn chains_of_links_do_not_add_up_to_a_way_out() {
    attempt(&[
        (symlink("a", "."), ""),
        (symlink("a/b", ".."), ""),
        (symlink("c", "b/../.."), ""),
        (file("c/outside/sentinel", 0o644), "evil"),
        (file("b/outside/sentinel", 0o644), "evil"),
    ])
    .unwrap();
    attempt(&[
        (directory("d", 0o755), ""),
        (symlink("d/up", "../.."), ""),
        (file("d/up/outside/sentinel", 0o644), "evil"),
    ])
    .unwrap();
    // Two links that lead to each other.
    let error = attempt(&[
        (symlink("x", "y"), ""),
        (symlink("y", "x"), ""),
        (file("x/z", 0o644), ""),
    ]);
    error.expect_err("a loop of links was followed");
}

#[test]
fn hard_links_reach_nothing_outside() {
    for target in [
        "../outside/sentinel",
        "a/../../outside/sentinel",
        "/../outside/sentinel",
    ] {
        let expected = EntryProblem::LinkEscape {
            target: target.to_owned(),
        };
        assert_refused(&[(hard_link("stolen", target), "")], &expected);
    }
    // Absolute: taken from the root, where there is no such file.
    for target in ["/outside/sentinel", "link/sentinel"] {
        let place = Place::new();
        let tar = archive(&[
            (symlink("link", "../outside"), ""),
            (hard_link("stolen", target), ""),
            (file("stolen", 0o600), "evil"),
        ]);
        let before = place.outside();
        let error = apply(tar.as_slice(), &place.root(), &ApplyOptions::archive());
        let Err(ApplyError::Refused {
            source: EntryProblem::LinkMissing { .. },
            ..
        }) = error
        else {
            panic!("{error:?}");
        };
        apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
        assert_eq!(place.outside(), before);
    }
}

#[test]
fn a_hard_link_to_a_link_does_not_become_a_link_to_what_it_leads_to() {
    let place = Place::new();
    let tar = archive(&[
        (symlink("link", "../outside/sentinel"), ""),
        (hard_link("copy", "link"), ""),
        (file("copy", 0o600), "evil"),
    ]);
    let before = place.outside();
    apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    assert_eq!(place.outside(), before);
    assert_eq!(read(&place.path())["copy"].content, b"evil");
}

#[test]
fn names_and_attributes_that_steer_overlayfs_are_kept_out() {
    let place = Place::new();
    let mut entry = directory("d", 0o755);
    entry.xattrs = vec![
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"user.fine".to_vec(), b"yes".to_vec()),
    ];
    let tar = archive(&[(entry, "")]);
    let applied = apply(tar.as_slice(), &place.root(), &ApplyOptions::layer()).unwrap();
    assert_eq!(applied.skipped_xattrs.len(), 2);
    assert_eq!(applied.skipped_xattrs[0], "d/: trusted.overlay.redirect");
    let names: Vec<String> = read(&place.path())["d"].xattrs.keys().cloned().collect();
    assert_eq!(names, ["user.fine"]);
}
