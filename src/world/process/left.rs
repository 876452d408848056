//! Groups of programs that only make files, which run without a guard: who
//! leads them is noted in `.flow/tmp` while they run, so that the next run ends
//! those that a killed flow left behind.
//!
//! A process number may come to belong to somebody else. It counts only
//! together with the time at which that process started.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process_group};

use super::proc::{Stat, members};

/// What the names of notes have behind the process that made them.
const MARK: &str = "-group-";

/// A note about a group that runs. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Note(PathBuf);

impl Note {
    /// Notes a group's leader. Where that is not possible the program runs all the same: it only
    /// makes files.
    pub(super) fn make(folder: &Path, leader: Pid) -> Option<Self> {
        let leader = leader.as_raw_nonzero().get();
        let started = Stat::read(leader)?.started;
        std::fs::create_dir_all(folder).ok()?;
        let path = folder.join(format!("{}{MARK}{leader}", std::process::id()));
        std::fs::write(&path, format!("{leader} {started}\n")).ok()?;
        Some(Self(path))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // The next run removes what is left.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Ends the group that a note of a dead flow names, if the file is such a note and any of it lives.
pub(in crate::world) fn end(note: &Path) {
    let is_note = note.file_name().is_some_and(|name| name.to_string_lossy().contains(MARK));
    if !is_note {
        return;
    }
    let Ok(text) = std::fs::read_to_string(note) else { return };
    let mut words = text.split_whitespace();
    let (Some(leader), Some(started)) = (number(words.next()), number(words.next())) else { return };
    let Ok(leader) = i32::try_from(leader) else { return };
    let still_ours = match Stat::read(leader) {
        Some(stat) => stat.started == started && stat.group == leader,
        // The leader is gone. As long as any of its group lives its number is nobody else's.
        None => members(leader).iter().all(|member| member.started >= started),
    };
    if let (true, Some(group)) = (still_ours, Pid::from_raw(leader)) {
        // A group that is empty by now is what was wanted.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn number(word: Option<&str>) -> Option<u64> {
    word?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sh").args(["-c", "sleep 60 & wait"]).process_group(0).spawn().unwrap()
    }

    fn group(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    fn until(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_group_is_ended_also_after_its_leader_died() {
        let folder = tempfile::tempdir().unwrap();
        for leader_lives in [true, false] {
            let mut child = sleeper();
            let leader = group(&child);
            until("it has a child", || members(leader).len() == 2);
            let note = Note::make(folder.path(), Pid::from_child(&child)).unwrap();
            if !leader_lives {
                child.kill().unwrap();
                child.wait().unwrap();
                assert_eq!(members(leader).len(), 1);
            }
            end(&note.0);
            // One that was waited for already says the same once more.
            child.wait().unwrap();
            until("nobody is left", || members(leader).is_empty());
            let path = note.0.clone();
            drop(note);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_number_that_belongs_to_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper();
        let started = Stat::read(group(&child)).unwrap().started;
        let note = folder.path().join("4194999-group-x");
        std::fs::write(&note, format!("{} {}\n", child.id(), started + 1)).unwrap();
        end(&note);
        let other = folder.path().join("4194999-output-x");
        std::fs::write(&other, format!("{} {started}\n", child.id())).unwrap();
        end(&other);
        assert!(child.try_wait().unwrap().is_none(), "it still runs");
        rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
    }
}
