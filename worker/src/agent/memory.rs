//! How much memory leases may take together: what the control group and the machine leave at start.
//!
//! A slot is a thread and cannot be killed, and Linux kills the whole worker when memory runs out: so a run is
//! refused, or waits for others to end, before it allocates.

use std::fs;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::slot::{StopFlag, Stopped};

/// How often a slot that waits for memory looks whether its lease was cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is there, and what of it leases have.
#[derive(Debug)]
pub struct Memory {
    bytes_max: u64,
    reserved: Mutex<u64>,
    released: Condvar,
}

/// A lease's share; given back when dropped.
#[derive(Debug)]
pub struct Reservation<'a> {
    memory: &'a Memory,
    bytes: u64,
}

/// Why a lease has no memory.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not even if it were alone.
    #[error("the run needs {needed} bytes of memory, and this worker may use {bytes_max}")]
    TooLarge {
        /// By the estimate.
        needed: u64,
        /// In all.
        bytes_max: u64,
    },
    /// The lease was told to end first.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Memory {
    /// `bytes_max` for all leases together.
    pub const fn of(bytes_max: u64) -> Self {
        Self { bytes_max, reserved: Mutex::new(0), released: Condvar::new() }
    }

    /// Nine tenths of what this process may still take: the least of what the machine has available and each of its
    /// control groups has left. What cannot be read limits nothing.
    pub fn detect() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let available = available_of(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
        let left = group_folders(&groups).into_iter().filter_map(|folder| left_in(Path::new(&folder)));
        let bytes = left.chain(available).min().unwrap_or(u64::MAX);
        Self::of(bytes / 10 * 9)
    }

    /// In all.
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// A share of `bytes`; blocks while others have it.
    pub(super) fn reserve(&self, bytes: u64, stop: &StopFlag) -> Result<Reservation<'_>, MemoryError> {
        if bytes > self.bytes_max {
            return Err(MemoryError::TooLarge { needed: bytes, bytes_max: self.bytes_max });
        }
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        while bytes > self.bytes_max - *reserved {
            stop.check()?;
            let woken = self.released.wait_timeout(reserved, LOOK_EVERY);
            reserved = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *reserved += bytes;
        Ok(Reservation { memory: self, bytes })
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        *self.memory.reserved.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.memory.released.notify_all();
    }
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The folders of this process's memory control groups and of all groups around them, by `/proc/self/cgroup`.
fn group_folders(groups: &str) -> Vec<String> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            _ if controllers.split(',').any(|name| name == "memory") => "/sys/fs/cgroup/memory",
            _ => continue,
        };
        let ancestors = Path::new(path).ancestors();
        folders.extend(ancestors.map(|path| format!("{root}{}", path.display())));
    }
    folders
}

/// What is left of a group's limit, in bytes, in version 2's files or else in version 1's.
fn left_in(folder: &Path) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes")).unwrap_or(0);
    let files = file_pages_of(&fs::read_to_string(folder.join("memory.stat")).unwrap_or_default());
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

/// Bytes of cached files by a group's `memory.stat`: counted as used, and given up when memory is short.
fn file_pages_of(stat: &str) -> u64 {
    let value = |line: &str| match line.split_once(' ') {
        Some(("active_file" | "inactive_file", bytes)) => bytes.trim().parse().unwrap_or(0),
        Some(_) | None => 0_u64,
    };
    stat.lines().map(value).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::session::Stop;

    #[test]
    fn what_is_too_large_is_refused_and_what_is_taken_is_waited_for() {
        let memory = Memory::of(100);
        let stop = StopFlag::default();
        let refused = memory.reserve(101, &stop).expect_err("more than there is");
        assert_eq!(refused, MemoryError::TooLarge { needed: 101, bytes_max: 100 });
        let first = memory.reserve(60, &stop).expect("there is room");
        std::thread::scope(|threads| {
            let second = threads.spawn(|| memory.reserve(60, &stop).map(|second| second.bytes));
            drop(first);
            assert_eq!(second.join().expect("it does not panic"), Ok(60));
        });
    }

    #[test]
    fn a_lease_that_is_told_to_end_stops_waiting_for_memory() {
        let memory = Memory::of(100);
        let first = memory.reserve(60, &StopFlag::default());
        let stop = StopFlag::default();
        stop.tell(Stop::Drop);
        assert_eq!(memory.reserve(60, &stop).err(), Some(MemoryError::Stopped(Stopped)));
        drop(first);
    }

    #[test]
    fn limits_are_read_from_both_versions_of_control_groups() {
        assert_eq!(available_of("MemTotal: 9 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        assert_eq!(available_of("MemTotal: 9 kB\n"), None);
        assert_eq!(group_folders("0::/a/b\n"), ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"]);
        let version_1 = "5:cpu,cpuacct:/x\n4:memory:/x\n";
        assert_eq!(group_folders(version_1), ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory/"]);

        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, content: &str| {
            fs::write(folder.path().join(file), content).expect("the folder is writable");
        };
        assert_eq!(left_in(folder.path()), None);
        write("memory.limit_in_bytes", "1000\n");
        write("memory.usage_in_bytes", "400\n");
        assert_eq!(left_in(folder.path()), Some(600));
        write("memory.max", "900\n");
        write("memory.current", "1000\n");
        assert_eq!(left_in(folder.path()), Some(0));
        write("memory.stat", "anon 7\nactive_file 100\ninactive_file 50\n");
        assert_eq!(left_in(folder.path()), Some(50));
        write("memory.max", "max\n");
        fs::remove_file(folder.path().join("memory.limit_in_bytes")).expect("it was written");
        assert_eq!(left_in(folder.path()), None);
    }
}
