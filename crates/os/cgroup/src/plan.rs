//! Resources of the OCI specification as a list of writes, decided without touching anything.
//!
//! The names and units are those of the kernel's documents
//! (<https://docs.kernel.org/admin-guide/cgroup-v1/>,
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>); where the specification's v1 terms have
//! no exact v2 counterpart, the conversion is runc's, so that a container gets the same share
//! under both.

mod v1;
mod v2;

use std::borrow::Cow;

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use crate::devices::Policy;
use crate::error::CgroupError;
use crate::host::{Controller, Host};

/// One write to a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose directory; none for a file of the unified hierarchy that was named as such.
    pub controller: Option<Controller>,
    /// The file.
    pub file: Cow<'static, str>,
    /// What is written.
    pub value: String,
}

/// What [`plan()`] decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The writes, in order.
    pub writes: Vec<Write>,
    /// The device rules, if the resources name any.
    pub devices: Option<Policy>,
    /// Fields that were given but have no meaning on this host or kernel, for the caller to
    /// report.
    pub ignored: Vec<&'static str>,
}

impl Plan {
    #[expect(clippy::needless_pass_by_value, reason = "most values are numbers")]
    fn write(
        &mut self,
        controller: Controller,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) {
        let (file, value) = (file.into(), value.to_string());
        self.writes.push(Write {
            controller: Some(controller),
            file,
            value,
        });
    }

    fn ignore(&mut self, field: &'static str, given: bool) {
        if given {
            self.ignored.push(field);
        }
    }
}

/// Turns resources into writes for this host.
pub fn plan(host: &Host, resources: &LinuxResources) -> Result<Plan, CgroupError> {
    let mut plan = Plan::default();
    if let Some(memory) = resources.memory() {
        match version(host, Controller::Memory, "memory")? {
            Version::V1 => v1::memory(&mut plan, memory)?,
            Version::V2 => v2::memory(&mut plan, memory)?,
        }
    }
    if let Some(cpu) = resources.cpu() {
        plan_cpu(host, &mut plan, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        version(host, Controller::Pids, "pids")?;
        // Zero has meant "unlimited" to every runtime.
        let limit = pids.limit();
        let value = if limit > 0 {
            limit.to_string()
        } else {
            "max".to_owned()
        };
        plan.write(Controller::Pids, "pids.max", value);
    }
    if let Some(io) = resources.block_io() {
        match version(host, Controller::Io, "blockIO")? {
            Version::V1 => v1::block_io(&mut plan, io),
            Version::V2 => v2::block_io(&mut plan, io),
        }
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let suffix = match version(host, Controller::Hugetlb, "hugepageLimits")? {
            Version::V1 => "limit_in_bytes",
            Version::V2 => "max",
        };
        let size = limit.page_size();
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(invalid("hugepageLimits.pageSize", size));
        }
        plan.write(
            Controller::Hugetlb,
            format!("hugetlb.{size}.{suffix}"),
            limit.limit(),
        );
    }
    if let Some(network) = resources.network() {
        v1::network(host, &mut plan, network)?;
    }
    for (device, limit) in sorted(resources.rdma().iter().flatten()) {
        version(host, Controller::Rdma, "rdma")?;
        let mut value = device.clone();
        for (key, number) in [
            ("hca_handle", limit.hca_handles()),
            ("hca_object", limit.hca_objects()),
        ] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        plan.write(Controller::Rdma, "rdma.max", value);
    }
    unified(host, &mut plan, resources)?;
    if let Some(rules) = resources.devices() {
        plan.devices = Some(Policy::from_oci(rules)?);
    }
    Ok(plan)
}

fn plan_cpu(host: &Host, plan: &mut Plan, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    let bandwidth = cpu.shares().is_some_and(|v| v != 0)
        || cpu.quota().is_some_and(|v| v != 0)
        || cpu.period().is_some_and(|v| v != 0)
        || cpu.burst().is_some()
        || cpu.idle().is_some()
        || cpu.realtime_period().is_some_and(|v| v != 0)
        || cpu.realtime_runtime().is_some_and(|v| v != 0);
    if bandwidth {
        match version(host, Controller::Cpu, "cpu")? {
            Version::V1 => v1::cpu(plan, cpu),
            Version::V2 => v2::cpu(plan, cpu),
        }
    }
    let lists = [
        ("cpu.cpus", "cpuset.cpus", cpu.cpus()),
        ("cpu.mems", "cpuset.mems", cpu.mems()),
    ];
    for (field, file, list) in lists {
        let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else {
            continue;
        };
        version(host, Controller::Cpuset, field)?;
        check_list(field, list)?;
        plan.write(Controller::Cpuset, file, list);
    }
    Ok(())
}

/// Files of the unified hierarchy by name.
fn unified(host: &Host, plan: &mut Plan, resources: &LinuxResources) -> Result<(), CgroupError> {
    for (file, value) in sorted(resources.unified().iter().flatten()) {
        if host.unified().is_none() {
            return Err(CgroupError::NoController {
                controller: "unified",
                field: "unified",
            });
        }
        // A file of a controller or of the core has a dot, and is in this directory.
        if file.contains('/') || !file.contains('.') || file.starts_with('.') {
            return Err(invalid("unified", file));
        }
        let (file, value) = (Cow::Owned(file.clone()), value.clone());
        plan.writes.push(Write {
            controller: None,
            file,
            value,
        });
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

fn version(
    host: &Host,
    controller: Controller,
    field: &'static str,
) -> Result<Version, CgroupError> {
    if host.is_v2(controller) {
        Ok(Version::V2)
    } else if host.v1_mount(controller).is_some() {
        Ok(Version::V1)
    } else {
        Err(CgroupError::NoController {
            controller: controller.v1_name(),
            field,
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "most values are numbers")]
fn invalid(field: &'static str, value: impl ToString) -> CgroupError {
    CgroupError::InvalidValue {
        field,
        value: value.to_string(),
    }
}

/// Checks a list such as `0-3,8` without expanding it: a range of two milliards costs nothing
/// (CVE-2018-20699). Whether the host has those CPUs is for the kernel to say.
fn check_list(field: &'static str, list: &str) -> Result<(), CgroupError> {
    let number = |text: &str| text.parse::<u16>().map_err(|_text| invalid(field, list));
    for part in list.trim().split(',') {
        match part.split_once('-') {
            Some((from, to)) if number(from)? > number(to)? => return Err(invalid(field, list)),
            Some(_) => {}
            None => drop(number(part)?),
        }
    }
    Ok(())
}

/// The entries of a map in a fixed order, so that a plan is the same each time.
fn sorted<'a, V: 'a>(map: impl Iterator<Item = (&'a String, &'a V)>) -> Vec<(&'a String, &'a V)> {
    let mut entries: Vec<_> = map.collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}
