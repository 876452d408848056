//! What `/proc` says of processes.

use rustix::io;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What `/proc/PID/stat` says of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub id: i32,
    pub parent: i32,
    pub group: i32,
    /// In ticks since the machine started. Together with the number it is nobody else's.
    pub started: u64,
}

impl Stat {
    /// `None` when there is no such process.
    pub(super) fn read(id: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in parentheses may hold anything; fields are counted behind it, from the third.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse().ok();
        Some(Self { id, parent: number(1)?, group: number(2)?, started: fields.get(19)?.parse().ok()? })
    }

    fn all() -> impl Iterator<Item = Self> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?))
    }

    /// Kills exactly this process: its number may belong to somebody else by now.
    pub(super) fn kill(&self) -> io::Result<()> {
        let id = Pid::from_raw(self.id).ok_or(io::Errno::SRCH)?;
        let held = pidfd_open(id, PidfdFlags::empty())?;
        match Self::read(self.id) {
            Some(now) if now.started == self.started => pidfd_send_signal(held, Signal::KILL),
            _ => Err(io::Errno::SRCH),
        }
    }
}

/// Processes of a group.
pub(super) fn members(group: i32) -> Vec<Stat> {
    Stat::all().filter(|stat| stat.group == group).collect()
}

/// Everybody who descends from a process, parents before their children.
pub(super) fn descendants(of: i32) -> Vec<Stat> {
    let all: Vec<Stat> = Stat::all().collect();
    let mut found: Vec<Stat> = all.iter().filter(|stat| stat.parent == of).cloned().collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).map(|stat| stat.id) {
        // A number that came to somebody else while this looked must not lead in a circle.
        let new: Vec<Stat> =
            all.iter().filter(|stat| stat.parent == parent && !found.contains(stat)).cloned().collect();
        found.extend(new);
        at += 1;
    }
    found
}
