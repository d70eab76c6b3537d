//! A process as the kernel tells of it, and what of the host is needed to show it.

use std::collections::HashMap;
use std::fmt::Write as _;

use havre_types::Timestamp;

use super::zone;

/// Majors of pseudo-terminals, and of the classic ones.
/// <https://www.kernel.org/doc/Documentation/admin-guide/devices.txt>
const PTS: std::ops::RangeInclusive<u64> = 136..=143;
const CONSOLES: u64 = 4;
/// From this minor on, the classic ones are serial lines.
const SERIAL: u64 = 64;

/// The kernel tells times in hundredths of a second, whatever its own clock is (`USER_HZ`).
const TICKS: u64 = 100;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// The first of January 1970 was a Thursday.
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// One process.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub pid: u32,
    pub comm: String,
    pub state: char,
    pub ppid: i64,
    pub pgrp: i64,
    pub session: i64,
    pub terminal: u64,
    pub tpgid: i64,
    pub flags: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// Time on processors, in ticks.
    pub ticks: u64,
    pub priority: i64,
    pub nice: i64,
    pub threads: u64,
    /// When it began, in ticks since the boot.
    pub start: u64,
    pub vsize: u64,
    /// In KiB.
    pub rss: u64,
    pub processor: u64,
    pub euid: u32,
    pub ruid: u32,
    pub egid: u32,
    pub rgid: u32,
    pub locked: u64,
    /// The words of the command with blanks between.
    pub arguments: String,
    pub wchan: String,
}

impl Process {
    /// Reads it; `None` when it has ended meanwhile.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let read = |file: &str| fs_err::read(format!("/proc/{pid}/{file}")).ok();
        let text =
            |file: &str| read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut process = Self::parse(pid, &text("stat")?)?;
        process.read_status(&text("status")?);
        process.arguments = arguments(&read("cmdline")?);
        let wchan = text("wchan").unwrap_or_default();
        process.wchan = match wchan.as_str() {
            "" | "0" => "-".to_owned(),
            name => name.to_owned(),
        };
        Some(process)
    }

    /// The line of `stat`: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>. The name may contain anything,
    /// brackets too.
    fn parse(pid: u32, line: &str) -> Option<Self> {
        let (head, rest) = line.rsplit_once(')')?;
        let (_, comm) = head.split_once('(')?;
        let columns: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Counted from 3, as the manual does.
        let column = |number: usize| columns.get(number - 3).copied();
        let signed = |number| column(number)?.parse::<i64>().ok();
        let unsigned = |number| column(number)?.parse::<u64>().ok();
        Some(Self {
            pid,
            comm: printable(comm),
            state: column(3)?.chars().next()?,
            ppid: signed(4)?,
            pgrp: signed(5)?,
            session: signed(6)?,
            // The kernel prints a signed number.
            terminal: signed(7)?.unsigned_abs(),
            tpgid: signed(8)?,
            flags: unsigned(9)?,
            minor_faults: unsigned(10)?,
            major_faults: unsigned(12)?,
            ticks: unsigned(14)? + unsigned(15)?,
            priority: signed(18)?,
            nice: signed(19)?,
            threads: unsigned(20)?,
            start: unsigned(22)?,
            vsize: unsigned(23)?,
            processor: unsigned(39)?,
            ..Self::default()
        })
    }

    fn read_status(&mut self, text: &str) {
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let mut numbers = value.split_ascii_whitespace().map(str::parse::<u32>);
            let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
            match key {
                "Uid" => (self.ruid, self.euid) = (next(), next()),
                "Gid" => (self.rgid, self.egid) = (next(), next()),
                "VmLck" => self.locked = next().into(),
                // That of `stat` lags behind.
                "VmRSS" => self.rss = next().into(),
                _ => {}
            }
        }
    }

    /// The name of its terminal, `?` without one.
    pub(super) fn terminal(&self) -> String {
        // <https://github.com/torvalds/linux/blob/master/include/linux/kdev_t.h> (`new_encode_dev`)
        let major = (self.terminal >> 8) & 0xfff;
        let minor = (self.terminal & 0xff) | ((self.terminal >> 12) & 0xf_ff00);
        if self.terminal == 0 {
            "?".to_owned()
        } else if PTS.contains(&major) {
            format!("pts/{}", (major - PTS.start()) * 256 + minor)
        } else if major == CONSOLES && minor >= SERIAL {
            format!("ttyS{}", minor - SERIAL)
        } else if major == CONSOLES {
            format!("tty{minor}")
        } else {
            "?".to_owned()
        }
    }

    /// The state with its marks.
    pub(super) fn stat(&self) -> String {
        let mut text = self.state.to_string();
        let marks = [
            (self.nice < 0, '<'),
            (self.nice > 0, 'N'),
            (self.locked > 0, 'L'),
            (self.session == i64::from(self.pid), 's'),
            (self.threads > 1, 'l'),
            (self.tpgid > 0 && self.pgrp == self.tpgid, '+'),
        ];
        text.extend(marks.iter().filter(|mark| mark.0).map(|mark| mark.1));
        text
    }

    /// Time on processors in seconds.
    pub(super) fn seconds(&self, facts: &Facts) -> u64 {
        self.ticks / facts.tick
    }

    /// How long ago it began, in seconds.
    pub(super) fn age(&self, facts: &Facts) -> u64 {
        facts.ticks_since_boot.saturating_sub(self.start) / facts.tick
    }

    /// When it began, in seconds since 1970.
    pub(super) fn started(&self, facts: &Facts) -> i64 {
        facts.boot + i64::try_from(self.start / facts.tick).unwrap_or(0)
    }
}

/// The words of `cmdline` with blanks between. A process may have written anything there.
fn arguments(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<String> = text
        .trim_end_matches('\0')
        .split('\0')
        .map(printable)
        .collect();
    words.join(" ")
}

/// What would move a terminal's cursor is shown as `?`, as `ps` does.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// What of the host is needed to show a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Ticks in a second.
    pub tick: u64,
    pub page: u64,
    pub memory: u64,
    /// When the host booted, in seconds since 1970.
    pub boot: i64,
    pub ticks_since_boot: u64,
    pub now: i64,
    /// Seconds east of UTC.
    pub zone: i64,
    pub users: HashMap<u32, String>,
    pub groups: HashMap<u32, String>,
}

impl Facts {
    pub(super) fn read() -> Self {
        let text = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
        let number = |text: &str, key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let value = line.and_then(|rest| rest.split_ascii_whitespace().next());
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(uptime.tv_sec).unwrap_or(0);
        let rest = u64::try_from(uptime.tv_nsec).unwrap_or(0) * TICKS / 1_000_000_000;
        let now = Timestamp::now().secs;
        Self {
            tick: TICKS,
            page: page_size(),
            memory: number(&text("/proc/meminfo"), "MemTotal:") * 1024,
            boot: i64::try_from(number(&text("/proc/stat"), "btime ")).unwrap_or(0),
            ticks_since_boot: seconds * TICKS + rest,
            now,
            zone: zone::offset(now),
            users: names(&text("/etc/passwd")),
            groups: names(&text("/etc/group")),
        }
    }

    /// A moment in local time.
    pub(super) fn started(&self, moment: i64) -> Moment {
        Moment {
            local: moment + self.zone,
            now: self.now + self.zone,
        }
    }
}

/// From what the kernel told this process at its start: pairs of key and value, of which 6 is `AT_PAGESZ`.
/// <https://man7.org/linux/man-pages/man3/getauxval.3.html>
fn page_size() -> u64 {
    let pairs = fs_err::read("/proc/self/auxv").unwrap_or_default();
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    let mut pairs = pairs.chunks_exact(16).map(|pair| pair.split_at(8));
    let found = pairs.find(|(key, _)| number(key) == 6);
    found.map_or(4096, |(_, size)| number(size).max(1))
}

/// Names by number: the third column of both files. The first entry of a number counts.
fn names(text: &str) -> HashMap<u32, String> {
    let mut found = HashMap::new();
    for line in text.lines() {
        let mut columns = line.split(':');
        let (name, id) = (columns.next(), columns.nth(1));
        if let (Some(name), Some(Ok(id))) = (name, id.map(str::parse)) {
            found.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    found
}

/// A moment on the wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    local: i64,
    now: i64,
}

impl Moment {
    fn civil(secs: i64) -> (i64, u32, u32, u32, u32, u32) {
        Timestamp { secs, nanos: 0 }.civil()
    }

    fn month(month: u32) -> &'static str {
        let index = usize::try_from(month).unwrap_or(0).wrapping_sub(1);
        MONTHS.get(index).copied().unwrap_or("?")
    }

    /// The time today, the day of this year, or the year.
    pub(super) fn short(self) -> String {
        let (year, month, day, hour, minute, _) = Self::civil(self.local);
        let (this_year, this_month, today, ..) = Self::civil(self.now);
        if year != this_year {
            year.to_string()
        } else if (month, day) == (this_month, today) {
            format!("{hour:02}:{minute:02}")
        } else {
            format!("{}{day:02}", Self::month(month))
        }
    }

    /// `HH:MM`
    pub(super) fn minutes(self) -> String {
        let (_, _, _, hour, minute, _) = Self::civil(self.local);
        format!("{hour:02}:{minute:02}")
    }

    /// `HH:MM:SS`
    pub(super) fn clock(self) -> String {
        let (_, _, _, hour, minute, second) = Self::civil(self.local);
        format!("{hour:02}:{minute:02}:{second:02}")
    }

    /// `Nov 21`
    pub(super) fn day_spaced(self) -> String {
        let (_, month, day, ..) = Self::civil(self.local);
        format!("{} {day:02}", Self::month(month))
    }

    /// `Sat Nov 21 09:37:02 2026`
    pub(super) fn full(self) -> String {
        let (year, month, day, ..) = Self::civil(self.local);
        let index = usize::try_from(self.local.div_euclid(86_400).rem_euclid(7)).unwrap_or(0);
        let mut text = DAYS.get(index).copied().unwrap_or("?").to_owned();
        // Writing to a string cannot fail.
        write!(
            text,
            " {} {day:>2} {} {year}",
            Self::month(month),
            self.clock()
        )
        .ok();
        text
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// 2026-11-21 09:37:02 UTC, two hours east of it, a host that booted 100,000 seconds before.
    pub(in super::super) fn facts() -> Facts {
        let now = 1_795_253_822;
        Facts {
            tick: 100,
            page: 4096,
            memory: 1 << 30,
            boot: now - 100_000,
            ticks_since_boot: 10_000_000,
            now,
            zone: 7200,
            users: names(
                "root:x:0:0::/root:/bin/sh\nsystemd-network:x:998:998::/:/x\nbroken\ntoor:x:0:0::/:/",
            ),
            groups: names("root:x:0:\nadm:x:4:\n"),
        }
    }

    pub(in super::super) fn processes() -> Vec<Process> {
        let old = "17 (a (b) c) S 1 17 17 34817 17 4194560 500 0 2 0 12345 655 0 0 20 0 3 0 1000 12288000 25600 1 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0";
        let new = "18 (sh) R 17 17 17 0 -1 4194304 5 0 0 0 990 0 0 0 30 10 1 0 9999000 4096 1 1 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0";
        let dead = "19 (gone) Z 17 17 17 0 -1 4194308 5 0 0 0 0 0 0 0 20 0 1 0 9000000 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0";
        let status = "Name:\tx\nUid:\t1000\t998\t998\t998\nGid:\t4\t4\t4\t4\nVmLck:\t 8 kB\nVmRSS:\t102400 kB\n";
        let mut all: Vec<Process> = [(17, old), (18, new), (19, dead)]
            .into_iter()
            .map(|(pid, line)| Process::parse(pid, line).unwrap())
            .collect();
        all[0].read_status(status);
        all[0].arguments = arguments(b"/bin/a\0two words\0tab\there\0");
        all[1].arguments = arguments(b"sh\0-c\0\0");
        for process in &mut all {
            process.wchan = "hrtimer_nanosleep".to_owned();
        }
        all
    }
}
