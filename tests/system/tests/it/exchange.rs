//! Images come from foreign programs: Debian's registry, skopeo, archives of both kinds, bare trees.

use crate::support::{engine, load_busybox, stdout_of};
use anyhow::Result;
use havre_testkit::command::{command, run};
use havre_testkit::{Engine, Format, Registry, image};

#[test]
fn pull_in_both_formats_and_by_index() -> Result<()> {
    let engine = Engine::start()?;
    let registry = Registry::start()?;
    let busybox = image("busybox")?;
    for (format, repository) in [(Format::Oci, "oci"), (Format::Docker, "docker")] {
        registry.push(&busybox, &format!("{repository}:latest"), format)?;
        let name = format!("{}/{repository}", registry.authority());
        let said = engine.docker(&["pull", &name])?;
        assert!(
            said.contains(&format!("Status: Downloaded newer image for {name}:latest")),
            "{said}"
        );
        assert_eq!(
            engine.docker(&["inspect", "-f", "{{.Id}}", &name])?,
            busybox.id()
        );
        let again = engine.docker(&["pull", &name])?;
        assert!(again.contains("Status: Image is up to date for"), "{again}");
        assert_eq!(stdout_of(&engine, &[&name, "echo", "pulled"])?, "pulled");
    }
    Ok(())
}

#[test]
fn run_pulls_a_missing_image() -> Result<()> {
    let engine = Engine::start()?;
    let registry = Registry::start()?;
    registry.push(&image("busybox")?, "box:v1", Format::Oci)?;
    let name = format!("{}/box:v1", registry.authority());
    let output =
        engine.havre_output(&["run", "--rm", "--network", "none", &name, "echo", "hello"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&format!("Unable to find image '{name}' locally")),
        "{stderr}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    // One for another machine does not count, and the registry is asked again.
    let words = [
        "run",
        "--rm",
        "--network",
        "none",
        "--platform",
        "linux/arm64",
        &name,
    ];
    let output = engine.havre_output(&words)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&format!("Unable to find image '{name}' locally")),
        "{stderr}"
    );
    Ok(())
}

#[test]
fn a_real_debian_image_runs() -> Result<()> {
    let engine = Engine::start()?;
    let registry = Registry::start()?;
    registry.push(&image("debian")?, "debian:latest", Format::Docker)?;
    let name = format!("{}/debian", registry.authority());
    engine.docker(&["pull", "-q", &name])?;
    let seen = stdout_of(
        &engine,
        &[
            &name,
            "bash",
            "-c",
            "dpkg-query -W -f '${Status}' bash; echo; perl -e 'print 6*7'",
        ],
    )?;
    assert_eq!(seen, "install ok installed\n42");
    Ok(())
}

#[test]
fn load_takes_an_oci_layout_and_what_skopeo_writes() -> Result<()> {
    let engine = Engine::start()?;
    let busybox = image("busybox")?;
    let place = tempfile::tempdir()?;
    let oci = place.path().join("oci.tar");
    run(command("tar")
        .arg("-cf")
        .arg(&oci)
        .arg("-C")
        .arg(&busybox.layout)
        .arg("."))?;
    engine.docker(&["load", "-i", &oci.to_string_lossy()])?;
    assert_eq!(
        engine.docker(&["inspect", "-f", "{{.Id}}", &busybox.id()])?,
        busybox.id()
    );
    engine.docker(&["rmi", &busybox.id()])?;
    let saved = place.path().join("skopeo.tar");
    let target = format!("docker-archive:{}:from/skopeo:v2", saved.display());
    run(command("skopeo")
        .args(["copy", "--insecure-policy"])
        .arg(format!("oci:{}", busybox.layout.display()))
        .arg(&target))?;
    let said = engine.docker(&["load", "-i", &saved.to_string_lossy()])?;
    assert_eq!(said, "Loaded image: from/skopeo:v2");
    assert_eq!(
        stdout_of(&engine, &["from/skopeo:v2", "echo", "fine"])?,
        "fine"
    );
    Ok(())
}

#[test]
fn import_makes_an_image_of_a_tree() -> Result<()> {
    let engine = Engine::start()?;
    let place = tempfile::tempdir()?;
    fs_err::create_dir(place.path().join("bin"))?;
    fs_err::copy("/bin/busybox", place.path().join("bin/sh"))?;
    let tree = place.path().with_extension("tar");
    run(command("tar")
        .arg("-czf")
        .arg(&tree)
        .arg("-C")
        .arg(place.path())
        .arg("."))?;
    let words = [
        "import",
        "-c",
        "CMD [\"/bin/sh\",\"-c\",\"echo imported\"]",
        &tree.to_string_lossy(),
        "tree:v1",
    ];
    let imported = engine.docker(&words);
    fs_err::remove_file(&tree)?;
    assert!(imported?.starts_with("sha256:"));
    assert_eq!(stdout_of(&engine, &["tree:v1"])?, "imported");
    Ok(())
}

#[test]
fn tags_come_and_go_and_the_last_takes_the_image() -> Result<()> {
    let engine = engine()?;
    engine.docker(&["tag", "busybox", "second/name:v1"])?;
    let said = engine.docker(&["rmi", "busybox"])?;
    assert_eq!(said, "Untagged: busybox:latest");
    engine.docker(&[
        "create",
        "--network",
        "none",
        "--name",
        "user",
        "second/name:v1",
    ])?;
    let refused = engine.docker_output(&["rmi", "second/name:v1"])?;
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(
        message.contains(
            "conflict: unable to remove repository reference \"second/name:v1\" (must force)"
        ),
        "{message}"
    );
    engine.docker(&["rm", "user"])?;
    let said = engine.docker(&["rmi", "second/name:v1"])?;
    assert!(said.contains("Deleted: sha256:"), "{said}");
    assert!(engine.docker(&["images", "-aq"])?.is_empty());
    let left = fs_err::read_dir(engine.data_root().join("content/blobs/sha256"))?.count();
    assert_eq!(left, 0, "blobs of a removed image stayed");
    load_busybox(&engine)?;
    Ok(())
}
