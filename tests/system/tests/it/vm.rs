//! What this machine's kernel lacks, in virtual machines with a distribution's own kernel: pure cgroup v2, an older mount API,
//! modules that are loaded when they are needed, ipvlan.

use crate::support::text;
use anyhow::{Result, ensure};
use havre_testkit::command::command;
use havre_testkit::{Engine, image};

/// Runs a script of `tests/vm` in a virtual machine; it says itself what is not as it should be.
fn inside(script: &str) -> Result<()> {
    havre_testkit::ensure_packages()?;
    let engine = Engine::start()?;
    let program = engine.program("havred");
    let folder = program.parent().unwrap_or(&program);
    let output = command(concat!(env!("CARGO_MANIFEST_DIR"), "/../vm/boot"))
        .arg(script)
        .arg(folder)
        .arg(image("busybox")?.archive)
        .output()?;
    let said = text(&output.stdout);
    let failed = said.lines().any(|line| line.contains("not ok "));
    ensure!(!failed, "{said}");
    ensure!(
        said.contains("vm: inside ended with 0"),
        "{said}{}",
        text(&output.stderr)
    );
    Ok(())
}

#[test]
fn containers_run_on_pure_cgroup_v2() -> Result<()> {
    inside("containers")
}

#[test]
fn networks_need_nothing_but_a_stock_kernel() -> Result<()> {
    inside("networks")
}
