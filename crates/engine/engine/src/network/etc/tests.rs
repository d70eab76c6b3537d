//! Whose line is whose, and what a crash leaves.

use super::*;
use std::os::unix::fs::MetadataExt as _;

fn line(address: &str, names: &str) -> Line {
    (address.parse().unwrap(), names.to_owned())
}

fn edited_text(text: &str, was: &[Line], is: &[Line]) -> String {
    String::from_utf8(edited(text.as_bytes(), was, is)).unwrap()
}

#[test]
fn only_own_lines_of_hosts_change() {
    let (one, two) = (line("10.0.0.2", "web"), line("fd00::2", "web"));
    let text = "# mine\n\n127.0.0.1\tlocalhost\n10.0.0.2\tweb\n  10.0.0.2\tweb\n10.0.0.2\tweb shop\n\
                10.0.0.2 web\n10.0.0.3\tweb\n#10.0.0.2\tweb\nfd00:0::2\tweb\nend";
    assert_eq!(
        edited_text(text, std::slice::from_ref(&one), std::slice::from_ref(&two)),
        "# mine\n\n127.0.0.1\tlocalhost\n10.0.0.2\tweb shop\n10.0.0.2 web\n10.0.0.3\tweb\n#10.0.0.2\tweb\n\
         fd00:0::2\tweb\nend"
    );
    assert_eq!(
        edited_text("end", &[], &[one.clone(), two.clone()]),
        "end\n10.0.0.2\tweb\nfd00::2\tweb\n"
    );
    // What stays is not looked for: the user may have taken it out.
    let both = [one, two];
    assert_eq!(edited_text("", &both, &both), "");
    let bytes = b"10.0.0.9\t\xff\xfe\n";
    assert_eq!(edited(bytes, &both, &[]), bytes);
}

struct Files(tempfile::TempDir);

impl Files {
    fn new(text: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let all = [
            ("resolv.conf", text.to_owned()),
            ("hosts", String::from("127.0.0.1\tlocalhost\n")),
        ];
        write_all(files.0.path(), &all).unwrap();
        files
    }

    fn text(&self, name: &str) -> String {
        fs_err::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn set(&self, name: &str, text: &str) {
        fs_err::write(self.0.path().join(name), text).unwrap();
    }

    fn change(&self, text: &str) -> String {
        change_resolv_conf(self.0.path(), text).unwrap();
        self.text("resolv.conf")
    }
}

#[test]
fn a_resolv_conf_is_changed_until_somebody_else_does() {
    let files = Files::new("nameserver 10.0.0.1\n# a comment\n");
    let inode = || {
        let at = files.0.path().join("resolv.conf");
        fs_err::metadata(at).unwrap().ino()
    };
    let before = inode();
    assert_eq!(
        files.change("nameserver 127.0.0.11\n"),
        "nameserver 127.0.0.11\n"
    );
    let longer = "nameserver 127.0.0.11\noptions ndots:0\n";
    assert_eq!(files.change(longer), longer);
    let mine = "nameserver 127.0.0.11\noptions ndots:5\n";
    files.set("resolv.conf", mine);
    assert_eq!(files.change("nameserver 10.0.0.3\n"), mine);
    // A user's that grew without end is not read.
    let file = fs_err::OpenOptions::new()
        .write(true)
        .open(files.0.path().join("resolv.conf"));
    file.unwrap().set_len(1 << 40).unwrap();
    change_resolv_conf(files.0.path(), "nameserver 10.0.0.3\n").unwrap();
    assert_eq!(inode(), before);
    // A start writes it anew.
    write_all(files.0.path(), &[("resolv.conf", "fresh\n".to_owned())]).unwrap();
    assert_eq!(files.text("resolv.conf"), "fresh\n");
}

#[test]
fn a_crash_between_two_steps_leaves_the_file_the_engines() {
    let (old, new) = ("nameserver 10.0.0.1\n# long\n", "nameserver 10.0.0.2\n");
    let padded = format!("{new}\n\n\n");
    // Nothing was written yet; the text was, but not cut; all was.
    for crashed in [old, padded.as_str(), new] {
        let files = Files::new(old);
        files.change(new);
        files.set("resolv.conf", crashed);
        assert_eq!(
            files.change("nameserver 10.0.0.3\n"),
            "nameserver 10.0.0.3\n"
        );
    }
    // One that an engine started which wrote nothing down.
    let files = Files::new(old);
    fs_err::remove_file(files.0.path().join(WRITTEN)).unwrap();
    assert_eq!(files.change(new), new);
}

#[test]
fn a_hosts_file_without_end_is_left_alone() {
    let files = Files::new("");
    let at = files.0.path().join("hosts");
    let file = fs_err::OpenOptions::new().write(true).open(&at).unwrap();
    file.set_len(1 << 40).unwrap();
    change_hosts(files.0.path(), &[], &[line("10.0.0.2", "web")]).unwrap();
    assert_eq!(fs_err::metadata(&at).unwrap().len(), 1 << 40);
    files.set("hosts", "127.0.0.1\tlocalhost\n");
    change_hosts(files.0.path(), &[], &[line("10.0.0.2", "web")]).unwrap();
    assert_eq!(files.text("hosts"), "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n");
}

#[test]
fn names_move_to_other_addresses() {
    let files = Files::new("");
    change_hosts(files.0.path(), &[], &[line("10.0.0.2", "db store")]).unwrap();
    let add = "10.0.0.2\tdb store mine\n";
    let path = files.0.path().join("hosts");
    let text = fs_err::read_to_string(&path).unwrap();
    fs_err::write(&path, text + add).unwrap();
    let now = ["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
    for _ in 0..2 {
        move_names(files.0.path(), "db store", &now).unwrap();
        assert_eq!(
            files.text("hosts"),
            format!("127.0.0.1\tlocalhost\n{add}10.0.0.9\tdb store\nfd00::9\tdb store\n")
        );
    }
    move_names(files.0.path(), "db store", &[]).unwrap();
    assert_eq!(files.text("hosts"), format!("127.0.0.1\tlocalhost\n{add}"));
}
