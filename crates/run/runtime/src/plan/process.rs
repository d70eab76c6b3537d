//! What a process is to be given before its program is executed: the same for the first process
//! of a container and for one that enters later.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::PathBuf;

use havre_oci::capability::BY_NUMBER;
use havre_seccomp::compile;
use havre_sys::sched::{IoClass, SchedAttr};
use havre_sys::seccomp::{SeccompFlags, SockFilter};
use oci_spec::runtime::{
    Capability, IOPriorityClass, LinuxIOPriority, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, LinuxSeccomp, LinuxSeccompFilterFlag, PosixRlimit,
    PosixRlimitType, Process, Scheduler,
};
use rustix::process::{Resource, Rlimit};

use crate::error::RuntimeError;
use crate::plan::mounts::clean;

/// The plan of one process.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) cwd: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    pub(crate) caps: Option<CapSets>,
    pub(crate) rlimits: Vec<(Resource, Rlimit)>,
    pub(crate) no_new_privs: bool,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) apparmor: Option<String>,
    pub(crate) selinux: Option<String>,
    pub(crate) io_priority: Option<(IoClass, u8)>,
    pub(crate) scheduler: Option<SchedAttr>,
    pub(crate) filter: Option<Filter>,
    pub(crate) terminal: bool,
    /// Rows and columns.
    pub(crate) console_size: Option<(u16, u16)>,
}

/// Capability sets as bit masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CapSets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// A compiled seccomp filter.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) program: Vec<SockFilter>,
    pub(crate) flags: SeccompFlags,
}

impl ProcessPlan {
    /// The plan for `process`, under the container's seccomp profile if it has one.
    pub(crate) fn new(
        process: &Process,
        seccomp: Option<&LinuxSeccomp>,
    ) -> Result<Self, RuntimeError> {
        let args = strings(
            "process.args",
            process.args().as_deref().unwrap_or_default(),
        )?;
        if args.is_empty() {
            return Err(RuntimeError::spec("process.args", "it is empty"));
        }
        if !process.cwd().is_absolute() {
            return Err(RuntimeError::spec(
                "process.cwd",
                "it is not an absolute path",
            ));
        }
        let user = process.user();
        let mut rlimits = Vec::new();
        for limit in process.rlimits().iter().flatten() {
            rlimits.push(rlimit(limit, &rlimits)?);
        }
        let size = process.console_size();
        let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        Ok(Self {
            args,
            env: strings("process.env", process.env().as_deref().unwrap_or_default())?,
            cwd: clean(process.cwd()),
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022) & 0o777,
            caps: process.capabilities().as_ref().map(|sets| CapSets {
                bounding: mask(sets.bounding().as_ref()),
                effective: mask(sets.effective().as_ref()),
                permitted: mask(sets.permitted().as_ref()),
                inheritable: mask(sets.inheritable().as_ref()),
                ambient: mask(sets.ambient().as_ref()),
            }),
            rlimits,
            no_new_privs: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            apparmor: process
                .apparmor_profile()
                .clone()
                .filter(|name| !name.is_empty()),
            selinux: process
                .selinux_label()
                .clone()
                .filter(|label| !label.is_empty()),
            io_priority: process.io_priority().map(|p| io_priority(&p)).transpose()?,
            scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
            filter: seccomp.map(filter).transpose()?,
            terminal: process.terminal().unwrap_or(false),
            console_size: size.map(|size| (cells(size.height()), cells(size.width()))),
        })
    }
}

fn strings(field: &str, list: &[String]) -> Result<Vec<CString>, RuntimeError> {
    let make = |text: &String| {
        CString::new(text.as_str())
            .map_err(|_nul| RuntimeError::spec(field, "it contains a NUL byte"))
    };
    list.iter().map(make).collect()
}

fn mask(set: Option<&HashSet<Capability>>) -> u64 {
    let mut out = 0;
    for (number, capability) in BY_NUMBER.iter().enumerate() {
        if set.is_some_and(|set| set.contains(capability)) {
            out |= 1 << number;
        }
    }
    out
}

fn rlimit(
    limit: &PosixRlimit,
    known: &[(Resource, Rlimit)],
) -> Result<(Resource, Rlimit), RuntimeError> {
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    };
    if known.iter().any(|(other, _)| *other == resource) {
        let reason = format!("{} is listed twice", limit.typ());
        return Err(RuntimeError::spec("process.rlimits", reason));
    }
    // RLIM_INFINITY is all ones on 64 bits; rustix words it as None.
    let value = |number: u64| (number != u64::MAX).then_some(number);
    Ok((
        resource,
        Rlimit {
            current: value(limit.soft()),
            maximum: value(limit.hard()),
        },
    ))
}

fn io_priority(priority: &LinuxIOPriority) -> Result<(IoClass, u8), RuntimeError> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => IoClass::RealTime,
        IOPriorityClass::IoprioClassBe => IoClass::BestEffort,
        IOPriorityClass::IoprioClassIdle => IoClass::Idle,
    };
    match u8::try_from(priority.priority()) {
        Ok(level) if level <= 7 => Ok((class, level)),
        _ => Err(RuntimeError::spec(
            "process.ioPriority",
            "the priority is not within 0 and 7",
        )),
    }
}

/// The numbers are those of linux/sched.h.
fn scheduler(scheduler: &Scheduler) -> Result<SchedAttr, RuntimeError> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let mut flags = 0;
    for flag in scheduler.flags().iter().flatten() {
        flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        };
    }
    let bad = |_negative| RuntimeError::spec("process.scheduler", "the priority is negative");
    Ok(SchedAttr {
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(scheduler.priority().unwrap_or(0)).map_err(bad)?,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

/// The number for personality(2): linux/personality.h.
pub(crate) fn personality(personality: &LinuxPersonality) -> Result<u32, RuntimeError> {
    if personality
        .flags()
        .as_ref()
        .is_some_and(|flags| !flags.is_empty())
    {
        return Err(RuntimeError::spec(
            "linux.personality",
            "no flags are defined",
        ));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 0x0008,
    })
}

fn filter(profile: &LinuxSeccomp) -> Result<Filter, RuntimeError> {
    if profile.listener_path().is_some() {
        let what = "a seccomp listener (linux.seccomp.listenerPath)".to_owned();
        return Err(RuntimeError::Unsupported { what });
    }
    let program = compile(profile).map_err(RuntimeError::Seccomp)?;
    let convert = |i: &havre_seccomp::SockFilter| SockFilter {
        code: i.code,
        jt: i.jt,
        jf: i.jf,
        k: i.k,
    };
    let mut flags = SeccompFlags::NONE;
    for flag in profile.flags().iter().flatten() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => SeccompFlags::LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => SeccompFlags::TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SeccompFlags::SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => SeccompFlags::NONE,
        };
    }
    Ok(Filter {
        program: program.iter().map(convert).collect(),
        flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<ProcessPlan, String> {
        let process: Process = serde_json::from_str(json).unwrap();
        ProcessPlan::new(&process, None).map_err(|error| error.to_string())
    }

    #[test]
    fn capabilities_become_their_bits() {
        let plan = plan(
            r#"{"user":{"uid":1,"gid":2},"args":["x"],"cwd":"/a/../b","capabilities":{
                "bounding":["CAP_CHOWN","CAP_CHECKPOINT_RESTORE"],"effective":["CAP_KILL"]}}"#,
        )
        .unwrap();
        let caps = plan.caps.unwrap();
        assert_eq!(caps.bounding, 1 | 1 << 40);
        assert_eq!(caps.effective, 1 << 5);
        assert_eq!((caps.ambient, caps.inheritable, caps.permitted), (0, 0, 0));
        assert_eq!(plan.cwd.to_str(), Some("/b"));
        assert_eq!(plan.umask, 0o022);
    }

    #[test]
    fn senseless_processes_are_refused() {
        for (json, text) in [
            (
                r#"{"user":{"uid":0,"gid":0},"args":[],"cwd":"/"}"#,
                "invalid process.args: it is empty",
            ),
            (
                r#"{"user":{"uid":0,"gid":0},"args":["x"],"cwd":"tmp"}"#,
                "invalid process.cwd: it is not an absolute path",
            ),
            (
                r#"{"user":{"uid":0,"gid":0},"args":["x\u0000"],"cwd":"/"}"#,
                "invalid process.args: it contains a NUL byte",
            ),
        ] {
            assert_eq!(plan(json).unwrap_err(), text);
        }
    }

    #[test]
    fn infinity_is_infinite() {
        let plan = plan(
            r#"{"user":{"uid":0,"gid":0},"args":["x"],"cwd":"/","rlimits":[
                {"type":"RLIMIT_CORE","soft":1,"hard":18446744073709551615}]}"#,
        )
        .unwrap();
        assert_eq!(
            plan.rlimits[0].1,
            Rlimit {
                current: Some(1),
                maximum: None
            }
        );
    }
}
