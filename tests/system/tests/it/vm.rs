//! What this machine's kernel lacks, in a virtual machine: pure cgroup v2 and an older kernel's mount API.

use crate::support::text;
use anyhow::{Result, ensure};
use havre_testkit::command::command;
use havre_testkit::{Engine, image};

#[test]
fn containers_run_on_pure_cgroup_v2() -> Result<()> {
    havre_testkit::ensure_packages()?;
    let engine = Engine::start()?;
    let program = engine.program("havred");
    let folder = program.parent().unwrap_or(&program);
    let output = command(concat!(env!("CARGO_MANIFEST_DIR"), "/../vm/boot"))
        .arg(folder)
        .arg(image("busybox")?.archive)
        .output()?;
    let said = text(&output.stdout);
    let failed: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("not ok "))
        .collect();
    ensure!(failed.is_empty(), "{said}");
    ensure!(
        said.contains("vm: inside ended with 0"),
        "{said}{}",
        text(&output.stderr)
    );
    Ok(())
}
