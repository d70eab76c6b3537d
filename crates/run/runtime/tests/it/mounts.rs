//! What a container sees of its mounts, and that the host sees none of them.

use fs_err as fs;
use havre_runtime_core::RootfsMount;
use havre_sys::mounts::mounts_below;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::Bundle;

#[test]
fn an_overlay_root_is_mounted_inside_only() {
    let mut bundle = Bundle::new("cat /etc/lower /etc/upper; touch /new; mount | grep ' / '");
    let layers = bundle.path().to_owned();
    for name in ["one/etc", "two/etc", "upper/etc", "work"] {
        fs::create_dir_all(layers.join(name)).unwrap();
    }
    fs::rename(bundle.rootfs(), layers.join("base")).unwrap();
    fs::write(layers.join("one/etc/lower"), "from one\n").unwrap();
    fs::write(layers.join("two/etc/lower"), "from two\n").unwrap();
    fs::write(layers.join("upper/etc/upper"), "from upper\n").unwrap();
    let path = |name: &str| layers.join(name).display().to_string();
    bundle.rootfs_mounts = vec![RootfsMount {
        fstype: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options: vec![
            format!("lowerdir={}:{}:{}", path("two"), path("one"), path("base")),
            format!("upperdir={}", path("upper")),
            format!("workdir={}", path("work")),
        ],
    }];
    let outcome = bundle.run();
    let text = outcome.ok();
    assert!(
        text.starts_with("from two\nfrom upper\noverlay on / type overlay (rw"),
        "{text}"
    );
    assert!(layers.join("upper/new").exists());
    assert_eq!(
        mounts_below(bundle.path()).unwrap(),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(fs::read_dir(bundle.rootfs()).unwrap().count(), 0);
}

#[test]
fn a_recursive_read_only_bind_covers_what_is_below() {
    let source = TempDir::new().unwrap();
    fs::create_dir(source.path().join("inner")).unwrap();
    let script = "touch /plain/x && echo plain; touch /deep/x && echo deep; true";
    let mut bundle = Bundle::new(script);
    let host = source.path().to_str().unwrap();
    bundle.mount("/plain", "bind", host, &["rbind", "ro"]);
    bundle.mount("/deep", "bind", host, &["rbind", "rro"]);
    let outcome = bundle.run();
    assert!(
        !outcome.ok().contains("plain\n") && !outcome.ok().contains("deep\n"),
        "{outcome:?}"
    );
}

#[test]
fn flags_of_a_bind_are_as_asked_for() {
    let source = TempDir::new().unwrap();
    fs::write(source.path().join("file"), "content").unwrap();
    let mut bundle = Bundle::new("grep -E ' /(file|dir) ' /proc/self/mountinfo; cat /file");
    let file = source.path().join("file").display().to_string();
    bundle.mount("/file", "bind", &file, &["bind", "ro", "nosuid", "nodev"]);
    let dir = source.path().display().to_string();
    bundle.mount("/dir", "bind", &dir, &["bind", "noexec", "noatime"]);
    let outcome = bundle.run();
    let lines: Vec<_> = outcome.ok().lines().collect();
    assert!(lines[0].contains(" /file ro,nosuid,nodev"), "{lines:?}");
    assert!(lines[1].contains(" /dir rw,noexec,noatime"), "{lines:?}");
    assert_eq!(lines[2], "content");
}

#[test]
fn a_target_behind_links_is_made_inside() {
    let source = TempDir::new().unwrap();
    let sentinel = TempDir::new().unwrap();
    let mut bundle = Bundle::new("touch /escape/deep/made; true");
    fs::os::unix::fs::symlink(sentinel.path(), bundle.rootfs().join("escape")).unwrap();
    bundle.mount(
        "/escape/deep",
        "bind",
        source.path().to_str().unwrap(),
        &["bind"],
    );
    bundle.run().ok();
    assert!(source.path().join("made").exists());
    assert_eq!(fs::read_dir(sentinel.path()).unwrap().count(), 0);
}

#[test]
fn read_only_and_masked_paths_are_so() {
    let mut bundle = Bundle::new(
        "touch /etc/x && echo WRITTEN; (echo 1 > /proc/sys/kernel/domainname) && echo WRITTEN; \
         ls /proc/acpi /sys/firmware; cat /proc/keys; true",
    );
    bundle.set("/root/readonly", json!(true));
    bundle.set(
        "/linux/readonlyPaths",
        json!(["/proc/sys", "/proc/missing"]),
    );
    bundle.set(
        "/linux/maskedPaths",
        json!(["/proc/acpi", "/sys/firmware", "/proc/keys", "/proc/kcore"]),
    );
    let outcome = bundle.run();
    let text = outcome.ok();
    assert!(!text.contains("WRITTEN"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(!text.contains("keyring"), "{text}");
}

#[test]
fn a_bind_shows_nothing_to_the_host_and_shares_when_asked() {
    let source = TempDir::new().unwrap();
    let mut bundle =
        Bundle::new("mount -t tmpfs inner /dir && grep -c ' /dir ' /proc/self/mountinfo");
    for set in ["bounding", "effective", "permitted"] {
        bundle.push(
            &format!("/process/capabilities/{set}"),
            json!("CAP_SYS_ADMIN"),
        );
    }
    bundle.mount(
        "/dir",
        "bind",
        source.path().to_str().unwrap(),
        &["rbind", "rprivate"],
    );
    assert_eq!(bundle.run().ok().trim(), "2");
    assert!(mounts_below(source.path()).unwrap().is_empty());
}

#[test]
fn devices_are_made_as_listed() {
    let mut bundle =
        Bundle::new("stat -c '%F %t:%T %a %u:%g' /dev/mine /dev/net/tun; echo x > /dev/null");
    bundle.set(
        "/linux/devices",
        json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 416, "uid": 5, "gid": 6},
            {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 438},
        ]),
    );
    let outcome = bundle.run();
    let wanted = "character special file 1:5 640 5:6\ncharacter special file a:c8 666 0:0\n";
    assert_eq!(outcome.ok(), wanted);
}

#[test]
fn a_container_without_a_mount_namespace_leaves_no_mount_behind() {
    let mut bundle = Bundle::new("cat /proc/1/comm >/dev/null; echo inside");
    bundle.set("/linux/namespaces", json!([{"type": "uts"}]));
    assert_eq!(bundle.run().ok(), "inside\n");
    assert!(mounts_below(bundle.path()).unwrap().is_empty());
    let mut failing = Bundle::new("true");
    failing.set("/linux/namespaces", json!([{"type": "uts"}]));
    failing.set("/process/args", json!(["/nope"]));
    assert!(failing.run().error().contains("stat /nope"));
    assert!(mounts_below(failing.path()).unwrap().is_empty());
}
