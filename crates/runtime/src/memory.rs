//! How much memory a job may use, and what it is divided into.
//!
//! ```text
//!  what the machine or the cgroup gives ── 60 % ──▶ memory ─┬─ queues between tasks: an eighth at the most
//!  or JobConfig::memory, as somebody has set it ────────────┼─ checkpoints: an eighth, half of it for saves that wait
//!                                                           └─ state of operators: all else (one `Budget`)
//! ```
//!
//! The rest of the machine is for what is not counted: batches on their way, what sources read ahead, what an operator
//! copies at a time to save it, and the page cache, which scratch files live in.

use crate::job::JobConfig;
use crate::scratch::Scratch;
use millstream_core::ByteSize;
use millstream_state::room::SaveRoom;
use millstream_state::tier::Budget;
use std::path::Path;
use std::sync::Arc;

/// Share of the memory at hand that a job takes by itself, in percent.
const SHARE_PERCENT: u64 = 60;

/// Where nothing says how much there is.
const UNKNOWN: ByteSize = ByteSize::mib(2048);

/// Queues take at most one part in so many.
const QUEUE_PART: u64 = 8;

/// What has been saved and not yet written takes at most one part in so many, and writing and merging it as much again.
const SAVES_PART: u64 = 16;

/// With less, files are too small. Where memory is smaller than this allows, it comes on top.
const SAVES_BYTES_MIN: u64 = 4 << 20;

/// A queue smaller than this would stop its sender at every batch.
const QUEUE_BYTES_MIN: u64 = 64 << 10;

/// The memory of a job, divided.
#[derive(Clone)]
pub(crate) struct Memory {
    pub budget: Arc<Budget>,
    pub scratch: Arc<Scratch>,
    pub queue_bytes_max: usize,
    /// In jobs with checkpoints.
    pub room: Option<Arc<SaveRoom>>,
}

impl Memory {
    pub fn divide(config: &JobConfig, queues: usize) -> Memory {
        let given = config.memory.unwrap_or_else(|| share_of(at_hand()));
        let queue = (given.0 / QUEUE_PART / queues.max(1) as u64).max(QUEUE_BYTES_MIN).min(config.queue_bytes_max.0);
        let scratch = Scratch::new(config.scratch.clone());
        let saves = config.checkpoints.as_ref().map(|c| match c.saves_bytes_max {
            Some(set) => set.0,
            None => (given.0 / SAVES_PART).max(SAVES_BYTES_MIN),
        });
        let others = queue * queues as u64 + saves.unwrap_or(0).min(given.0 / SAVES_PART) * 2;
        let state = given.0.saturating_sub(others).max(given.0 / 2);
        Memory {
            budget: Budget::new(ByteSize(state), config.memory.is_some()),
            queue_bytes_max: queue as usize,
            room: saves.map(|bytes| SaveRoom::new(scratch.clone(), usize::try_from(bytes).unwrap_or(usize::MAX))),
            scratch,
        }
    }
}

fn share_of(at_hand: Option<ByteSize>) -> ByteSize {
    at_hand.map_or(UNKNOWN, |all| ByteSize(all.0 / 100 * SHARE_PERCENT))
}

/// What the machine has, or what the cgroup of this process allows.
fn at_hand() -> Option<ByteSize> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let mut limits = Vec::new();
    limits.extend(read("/proc/meminfo").and_then(|text| mem_total(&text)));
    // Version 2: every group up to the root may set a limit. In a container, the root is the container's own.
    let group = read("/proc/self/cgroup").and_then(|text| group_of(&text)).unwrap_or_default();
    let mut group = group.as_str();
    loop {
        limits.extend(read(&format!("/sys/fs/cgroup{group}/memory.max")).and_then(|text| limit(&text)));
        let Some((parent, _)) = group.rsplit_once('/') else { break };
        group = parent;
    }
    limits.extend(read("/sys/fs/cgroup/memory/memory.limit_in_bytes").and_then(|text| limit(&text)));
    limits.into_iter().min().map(ByteSize)
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The group of version 2, with a slash in front unless it is the root.
fn group_of(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|l| l.strip_prefix("0::"))?.trim().trim_end_matches('/');
    Some(path.to_owned())
}

/// `max`, or a number that means as much, is no limit.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes > 0 && *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        assert_eq!(mem_total("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
        assert_eq!(
            group_of("1:cpu:/x\n0::/system.slice/mill.service\n").as_deref(),
            Some("/system.slice/mill.service")
        );
        assert_eq!(group_of("0::/\n").as_deref(), Some(""));
        assert_eq!(limit("536870912\n"), Some(512 << 20));
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None, "no limit, as version 1 writes it");
        assert_eq!(share_of(Some(ByteSize::mib(1000))), ByteSize::mib(600));
        #[cfg(target_os = "linux")]
        assert!(at_hand().is_some_and(|all| all.0 > 16 << 20));
    }

    #[test]
    fn queues_are_small_where_memory_is_small() {
        let config = |mib| JobConfig { memory: Some(ByteSize::mib(mib)), ..JobConfig::default() };
        let large = Memory::divide(&config(1024), 4);
        assert_eq!((large.queue_bytes_max, large.budget.bytes_max()), (4 << 20, (1024 - 16) << 20));
        let small = Memory::divide(&config(16), 4);
        assert_eq!((small.queue_bytes_max, small.budget.bytes_max()), (512 << 10, 14 << 20));
        let store = Arc::new(millstream_core::MemoryStore::default());
        let checkpoints = Some(crate::CheckpointConfig::new(store, "job"));
        let saving = Memory::divide(&JobConfig { checkpoints, ..config(64) }, 4);
        assert_eq!(saving.room.map(|room| room.bytes_max()), Some(4 << 20));
        assert_eq!((saving.queue_bytes_max, saving.budget.bytes_max()), (2 << 20, (64 - 4 * 2 - 2 * 4) << 20));
        let tiny = Memory::divide(&config(1), 64);
        assert_eq!((tiny.queue_bytes_max, tiny.budget.bytes_max()), (64 << 10, 512 << 10));
    }
}
