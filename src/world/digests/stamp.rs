//! What a file system says of a file without reading it: equal stamps stand for equal bytes.

use rustix::fs::{FileType, Stat};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;
/// Kernels tick at least this often; a change within one tick may leave the same stamp.
const TICK: i64 = 20_000_000;

/// Size, times, place and mode of a file. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    pub(super) modified: i64,
    pub(super) changed: i64,
    pub(super) inode: u64,
    pub(super) device: u64,
    /// Kind and permissions, as `stat` has them.
    pub mode: u32,
}

impl Stamp {
    /// What `stat` said.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        let time = |seconds: i64, rest: u64| seconds.wrapping_mul(SECOND).wrapping_add_unsigned(rest);
        Self {
            size: stat.st_size.unsigned_abs(),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
            mode: stat.st_mode,
        }
    }

    pub(in crate::world) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether it is a file, no link.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    /// Whether it is a folder, no link.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    /// Whether it is a link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.file_type() == FileType::Symlink
    }

    /// Who may do what, without the bits beyond.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        self.mode & 0o777
    }

    /// Whether anybody may run it.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// Whether a file with this stamp can no longer change without getting another one, at a time
    /// that the clock of its own file system told.
    pub(super) fn is_settled_at(&self, clock: i64) -> bool {
        // A whole second is either chance or all that this file system keeps.
        let grain = if self.changed % SECOND == 0 { 2 * SECOND } else { TICK };
        self.changed.max(self.modified).saturating_add(grain) < clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(modified: i64, changed: i64) -> Stamp {
        Stamp { size: 1, modified, changed, inode: 1, device: 1, mode: 0o100_644 }
    }

    #[test]
    fn a_file_is_settled_once_its_clock_has_moved_on() {
        let second = 7 * SECOND;
        for (modified, changed, clock, settled) in [
            (second + 1, second + 1, second + 1, false),
            (second + 1, second + 1, second + 1 + TICK, false),
            (second + 1, second + 1, second + 2 + TICK, true),
            // A time stamp that somebody set to the future.
            (second * 9, second + 1, second * 2, false),
            // A clock that was set back.
            (second + 1, second + 1, second - 1, false),
            // A file system that keeps whole seconds.
            (second, second, second + SECOND + TICK, false),
            (second, second, second + 2 * SECOND + 1, true),
        ] {
            assert_eq!(
                stamp(modified, changed).is_settled_at(clock),
                settled,
                "{modified} {changed} {clock}"
            );
        }
    }
}
