//! R24: descriptions of devices act with the rights of root, so that they come from root alone, and hooks in them
//! see nothing that the image chose.

use super::fixture::image_of;
use crate::support::{assert_fails, load_busybox, run_rm, stdout_of, text};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::{Engine, EngineOptions, ensure_packages};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

const NAME: &str = "harbour.example/crane=north";

fn mode(path: &Path, mode: u32) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(mode);
    Ok(fs_err::set_permissions(path, mode)?)
}

/// A folder with the description of one device, with a hook that writes down what it sees.
fn describe(folder: &Path) -> Result<()> {
    mode(folder, 0o755)?;
    let place = folder.display();
    fs_err::write(folder.join("library"), "from the host")?;
    let text = format!(
        "cdiVersion: 0.6.0\nkind: harbour.example/crane\ncontainerEdits:\n  env: [CRANES=1]\ndevices:\n\
         - name: north\n  containerEdits:\n    deviceNodes: [{{path: /dev/crane, hostPath: /dev/null}}]\n\
         \x20   mounts: [{{hostPath: '{place}/library', containerPath: /lib/crane, options: [ro, bind]}}]\n\
         \x20   hooks: [{{hookName: createContainer, path: /bin/sh, args: [sh, -c, '(env; pwd -P) >{place}/hook'], \
         env: [OWN=1]}}]\n",
    );
    let file = folder.join("crane.yaml");
    fs_err::write(&file, &text)?;
    mode(&file, 0o644)
}

fn engine(folder: &Path) -> Result<Engine> {
    ensure_packages()?;
    let engine = Engine::start_with(EngineOptions {
        args: vec!["--cdi-spec-dir".to_owned(), folder.display().to_string()],
        ..EngineOptions::default()
    })?;
    load_busybox(&engine)?;
    Ok(engine)
}

#[test]
fn r24_hooks_see_nothing_of_the_image() -> Result<()> {
    let folder = tempfile::tempdir()?;
    describe(folder.path())?;
    let engine = engine(folder.path())?;
    let changes = [
        "ENV SECRET=image LD_PRELOAD=/evil.so PATH=/evil:/bin BASH_ENV=/evil OWN=evil",
        "WORKDIR /evil",
    ];
    image_of(&engine, "evil", &changes, |root| {
        Ok(fs_err::create_dir_all(root.join("lib"))?)
    })?;
    let script = "echo $CRANES; echo x >/dev/crane && cat /lib/crane; touch /lib/crane 2>/dev/null || echo kept";
    let flags = [
        "--device",
        NAME,
        "-e",
        "GIVEN=evil",
        "evil",
        "sh",
        "-c",
        script,
    ];
    assert_eq!(stdout_of(&engine, &flags)?, "1\nfrom the hostkept");
    let hook = fs_err::read_to_string(folder.path().join("hook"))?;
    ensure!(hook.lines().any(|line| line == "OWN=1"), "{hook}");
    ensure!(!hook.contains("SECRET") && !hook.contains("evil"), "{hook}");
    let at = hook.lines().last().context("nothing")?;
    let at = Path::new(at);
    let ours = at == Path::new("/") || at.starts_with(engine.directory());
    ensure!(ours, "the hook ran in {}", at.display());
    Ok(())
}

#[test]
fn r24_descriptions_that_others_can_write_do_not_count() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = folder.path();
    describe(place)?;
    let file = place.join("crane.yaml");
    let engine = engine(place)?;
    let shown = || engine.docker(&["info", "--format", "{{json .DiscoveredDevices}}"]);
    let known = format!("[{{\"Source\":\"cdi\",\"ID\":\"{NAME}\"}}]");
    let words = ["--device", NAME, "busybox", "cat", "/lib/crane"];
    let refused = |why: &str| -> Result<()> {
        let output = run_rm(&engine, &words)?;
        assert_fails(&output, 125, &format!("unresolvable CDI devices {NAME}"));
        ensure!(shown()? == "null", "{why}: {}", shown()?);
        ensure!(!place.join("hook").exists(), "{why}: the hook ran");
        Ok(())
    };
    mode(place, 0o775)?;
    refused("the folder is its group's")?;
    mode(place, 0o757)?;
    refused("the folder is everybody's")?;
    mode(place, 0o755)?;
    mode(&file, 0o664)?;
    refused("the file is its group's")?;
    mode(&file, 0o644)?;
    chown(&file, Some(1000), None)?;
    refused("the file is somebody's")?;
    chown(&file, Some(0), None)?;
    chown(place, Some(1000), None)?;
    refused("the folder is somebody's")?;
    chown(place, Some(0), None)?;
    // A link to a file that somebody else can write is that file.
    let elsewhere = tempfile::tempdir()?;
    let target = elsewhere.path().join("crane.yaml");
    fs_err::rename(&file, &target)?;
    mode(&target, 0o666)?;
    symlink(&target, &file)?;
    refused("the link leads to everybody's")?;
    fs_err::remove_file(&file)?;
    mode(&target, 0o644)?;
    fs_err::rename(&target, &file)?;
    // The twin: as it was, it counts.
    ensure!(shown()? == known, "{}", shown()?);
    let output = run_rm(&engine, &words)?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    ensure!(place.join("hook").exists());
    let table = engine.havre(&["info"])?;
    ensure!(
        table.contains(&format!(" Discovered Devices:\n  cdi: {NAME}\n")),
        "{table}"
    );
    Ok(())
}
