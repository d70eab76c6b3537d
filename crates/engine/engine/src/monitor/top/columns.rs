//! The columns of `ps`: name, title, and what they show of a process.
//! Names, titles and forms are those of procps: <https://gitlab.com/procps-ng/procps/-/blob/master/man/ps.1>

use super::process::{Facts, Process};

/// What a column shows of a process.
pub(super) type Show = fn(&Process, &Facts) -> String;

/// A column between others has no place for more of a name; `ps` shows a plus for what it cuts off.
const NAME_WIDTH: usize = 8;
/// The formats with many columns show so much of the kernel function.
const SHORT_WCHAN: usize = 6;
const KIB: u64 = 1024;

const DAY: u64 = 24 * 60 * 60;

/// Name, title, content. Names that begin with a digit or end in one are not for users.
type Row = (&'static str, &'static str, Show);

const TABLE: &[Row] = &[
    ("pid", "PID", |p, _| p.pid.to_string()),
    ("tgid", "TGID", |p, _| p.pid.to_string()),
    ("ppid", "PPID", |p, _| p.ppid.to_string()),
    ("pgid", "PGID", |p, _| p.pgrp.to_string()),
    ("pgrp", "PGRP", |p, _| p.pgrp.to_string()),
    ("sid", "SID", |p, _| p.session.to_string()),
    ("sess", "SESS", |p, _| p.session.to_string()),
    ("session", "SESS", |p, _| p.session.to_string()),
    ("tpgid", "TPGID", |p, _| p.tpgid.to_string()),
    ("uid", "UID", |p, _| p.euid.to_string()),
    ("euid", "EUID", |p, _| p.euid.to_string()),
    ("ruid", "RUID", |p, _| p.ruid.to_string()),
    ("gid", "GID", |p, _| p.egid.to_string()),
    ("egid", "EGID", |p, _| p.egid.to_string()),
    ("rgid", "RGID", |p, _| p.rgid.to_string()),
    ("user", "USER", |p, f| name(f.users.get(&p.euid), p.euid)),
    ("uname", "USER", |p, f| name(f.users.get(&p.euid), p.euid)),
    ("euser", "EUSER", |p, f| name(f.users.get(&p.euid), p.euid)),
    ("ruser", "RUSER", |p, f| name(f.users.get(&p.ruid), p.ruid)),
    ("group", "GROUP", |p, f| name(f.groups.get(&p.egid), p.egid)),
    ("egroup", "EGROUP", |p, f| {
        name(f.groups.get(&p.egid), p.egid)
    }),
    ("rgroup", "RGROUP", |p, f| {
        name(f.groups.get(&p.rgid), p.rgid)
    }),
    ("comm", "COMMAND", |p, _| comm(p)),
    ("ucomm", "COMMAND", |p, _| comm(p)),
    ("ucmd", "CMD", |p, _| comm(p)),
    ("args", "COMMAND", |p, _| command(p)),
    ("command", "COMMAND", |p, _| command(p)),
    ("cmd", "CMD", |p, _| command(p)),
    ("%cpu", "%CPU", |p, f| cpu(p, f)),
    ("pcpu", "%CPU", |p, f| cpu(p, f)),
    ("c", "C", |p, f| {
        (cpu_permille(p, f) / 10).min(99).to_string()
    }),
    ("%mem", "%MEM", |p, f| memory(p, f)),
    ("pmem", "%MEM", |p, f| memory(p, f)),
    ("vsz", "VSZ", |p, _| (p.vsize / KIB).to_string()),
    ("vsize", "VSZ", |p, _| (p.vsize / KIB).to_string()),
    ("rss", "RSS", |p, _| p.rss.to_string()),
    ("rssize", "RSS", |p, _| p.rss.to_string()),
    ("rsz", "RSZ", |p, _| p.rss.to_string()),
    ("sz", "SZ", |p, f| (p.vsize / f.page).to_string()),
    ("tname", "TTY", |p, _| p.terminal()),
    ("tty", "TT", |p, _| p.terminal()),
    ("tt", "TT", |p, _| p.terminal()),
    ("stat", "STAT", |p, _| p.stat()),
    ("state", "S", |p, _| p.state.to_string()),
    ("s", "S", |p, _| p.state.to_string()),
    ("time", "TIME", |p, f| clock(p.seconds(f))),
    ("cputime", "TIME", |p, f| clock(p.seconds(f))),
    ("cputimes", "TIME", |p, f| p.seconds(f).to_string()),
    ("bsdtime", "TIME", |p, f| {
        let seconds = p.seconds(f);
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }),
    ("etime", "ELAPSED", |p, f| elapsed(p.age(f))),
    ("etimes", "ELAPSED", |p, f| p.age(f).to_string()),
    ("stime", "STIME", |p, f| f.started(p.started(f)).short()),
    ("start_time", "START", |p, f| {
        f.started(p.started(f)).short()
    }),
    ("start", "STARTED", |p, f| {
        let at = f.started(p.started(f));
        if p.age(f) > DAY {
            at.day_spaced()
        } else {
            at.clock()
        }
    }),
    ("bsdstart", "START", |p, f| {
        let at = f.started(p.started(f));
        if p.age(f) > DAY {
            at.day_spaced()
        } else {
            at.minutes()
        }
    }),
    ("lstart", "STARTED", |p, f| f.started(p.started(f)).full()),
    ("ni", "NI", |p, _| p.nice.to_string()),
    ("nice", "NI", |p, _| p.nice.to_string()),
    ("pri", "PRI", |p, _| (39 - p.priority).to_string()),
    ("opri", "PRI", |p, _| (60 + p.priority).to_string()),
    ("prio", "PRI", |p, _| p.priority.to_string()),
    ("psr", "PSR", |p, _| p.processor.to_string()),
    ("nlwp", "NLWP", |p, _| p.threads.to_string()),
    ("thcount", "THCNT", |p, _| p.threads.to_string()),
    ("wchan", "WCHAN", |p, _| p.wchan.clone()),
    ("wchan6", "WCHAN", |p, _| {
        p.wchan.chars().take(SHORT_WCHAN).collect()
    }),
    ("addr", "ADDR", |_, _| "-".to_owned()),
    // Of the kernel's flags, `ps` shows "forked but did not exec" and "used super-user rights".
    ("f", "F", |p, _| ((p.flags >> 6) & 5).to_string()),
    ("flag", "F", |p, _| ((p.flags >> 6) & 5).to_string()),
    ("flags", "F", |p, _| ((p.flags >> 6) & 5).to_string()),
    ("maj_flt", "MAJFL", |p, _| p.major_faults.to_string()),
    ("majflt", "MAJFLT", |p, _| p.major_faults.to_string()),
    ("min_flt", "MINFL", |p, _| p.minor_faults.to_string()),
    ("minflt", "MINFLT", |p, _| p.minor_faults.to_string()),
];

/// The column of a name.
pub(super) fn find(name: &str) -> Option<Row> {
    TABLE.iter().find(|row| row.0 == name).copied()
}

fn name(name: Option<&String>, id: u32) -> String {
    name.cloned().unwrap_or_else(|| id.to_string())
}

/// Whether a column shows names of users or groups.
pub(super) fn is_name(column: &str) -> bool {
    column == "uname" || column.ends_with("user") || column.ends_with("group")
}

/// A name as a column shows it that is not the last one.
pub(super) fn cut(name: String) -> String {
    if name.chars().count() <= NAME_WIDTH {
        return name;
    }
    let kept: String = name.chars().take(NAME_WIDTH - 1).collect();
    format!("{kept}+")
}

fn defunct(process: &Process, text: &str) -> String {
    if process.state == 'Z' {
        format!("{text} <defunct>")
    } else {
        text.to_owned()
    }
}

fn comm(process: &Process) -> String {
    defunct(process, &process.comm)
}

/// The words of the command; a process without any shows its name in brackets.
fn command(process: &Process) -> String {
    if process.arguments.is_empty() {
        defunct(process, &format!("[{}]", process.comm))
    } else {
        process.arguments.clone()
    }
}

/// Thousandths of one processor, over the whole life of the process.
fn cpu_permille(process: &Process, facts: &Facts) -> u64 {
    let life = facts.ticks_since_boot.saturating_sub(process.start);
    (process.ticks * 1000).checked_div(life).unwrap_or(0)
}

fn cpu(process: &Process, facts: &Facts) -> String {
    let permille = cpu_permille(process, facts);
    // As wide as its column: hundreds of per cent lose their tenths.
    if permille > 999 {
        (permille / 10).to_string()
    } else {
        format!("{}.{}", permille / 10, permille % 10)
    }
}

fn memory(process: &Process, facts: &Facts) -> String {
    let permille = (process.rss * KIB * 1000)
        .checked_div(facts.memory)
        .unwrap_or(0)
        .min(999);
    format!("{}.{}", permille / 10, permille % 10)
}

/// `[DD-]HH:MM:SS`
fn clock(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let text = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 {
        format!("{days}-{text}")
    } else {
        text
    }
}

/// `[[DD-]HH:]MM:SS`
fn elapsed(seconds: u64) -> String {
    let text = clock(seconds);
    match text.strip_prefix("00:") {
        Some(short) if seconds < DAY => short.to_owned(),
        _ => text,
    }
}
