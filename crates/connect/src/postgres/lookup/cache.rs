//! What a task remembers of the answers it has had.
//!
//! Rows are kept as bytes of Arrow's row format, each by itself: what is kept of an answer does not keep the rest of it
//! alive. The key used least recently goes first. Time is an argument, so that a test needs no clock.

use super::options::CacheSettings;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Bytes that one task remembers, whatever the number of rows.
const BYTES_MAX: usize = 256 << 20;

/// Bytes that an entry takes beside its key and its rows, about.
const ENTRY_BYTES: usize = 160;

/// The rows of one key.
pub type Rows = Arc<[Box<[u8]>]>;

pub struct Cache {
    settings: CacheSettings,
    entries: HashMap<Arc<[u8]>, Entry>,
    /// Keys by when they were last used: turns grow with each use.
    by_use: BTreeMap<u64, Arc<[u8]>>,
    turn: u64,
    rows: usize,
    bytes: usize,
}

struct Entry {
    rows: Rows,
    written: Instant,
    used: Instant,
    turn: u64,
}

impl Entry {
    /// What it counts as: a key without rows is one too.
    fn weight(&self) -> usize {
        self.rows.len().max(1)
    }

    fn bytes(&self, key: &[u8]) -> usize {
        // The key stands in both tables, once in memory.
        ENTRY_BYTES + key.len() + self.rows.iter().map(|r| r.len() + size_of::<Box<[u8]>>()).sum::<usize>()
    }
}

impl Cache {
    pub fn new(settings: CacheSettings) -> Cache {
        Cache { settings, entries: HashMap::new(), by_use: BTreeMap::new(), turn: 0, rows: 0, bytes: 0 }
    }

    /// The rows of a key, if they are remembered and not too old.
    pub fn get(&mut self, key: &[u8], now: Instant) -> Option<Rows> {
        let entry = self.entries.get_mut(key)?;
        let older = |than: Option<std::time::Duration>, since: Instant| {
            than.is_some_and(|t| now.saturating_duration_since(since) >= t)
        };
        if older(self.settings.after_write, entry.written) || older(self.settings.after_access, entry.used) {
            let turn = entry.turn;
            self.remove(turn);
            return None;
        }
        entry.used = now;
        self.turn += 1;
        let before = std::mem::replace(&mut entry.turn, self.turn);
        let rows = entry.rows.clone();
        if let Some(key) = self.by_use.remove(&before) {
            self.by_use.insert(self.turn, key);
        }
        Some(rows)
    }

    pub fn put(&mut self, key: &[u8], rows: Rows, now: Instant) {
        if let Some(turn) = self.entries.get(key).map(|e| e.turn) {
            self.remove(turn);
        }
        if rows.is_empty() && !self.settings.missing {
            return;
        }
        self.turn += 1;
        let entry = Entry { rows, written: now, used: now, turn: self.turn };
        if entry.weight() > self.settings.rows_max || entry.bytes(key) > BYTES_MAX {
            return;
        }
        self.rows += entry.weight();
        self.bytes += entry.bytes(key);
        let key: Arc<[u8]> = key.into();
        self.by_use.insert(self.turn, key.clone());
        self.entries.insert(key, entry);
        while self.rows > self.settings.rows_max || self.bytes > BYTES_MAX {
            let Some((&turn, _)) = self.by_use.first_key_value() else { break };
            self.remove(turn);
        }
    }

    fn remove(&mut self, turn: u64) {
        if let Some(key) = self.by_use.remove(&turn)
            && let Some(entry) = self.entries.remove(&key)
        {
            self.rows -= entry.weight();
            self.bytes -= entry.bytes(&key);
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rows(n: usize) -> Rows {
        (0..n).map(|i| vec![i as u8; 3].into_boxed_slice()).collect()
    }

    fn settings() -> CacheSettings {
        CacheSettings { rows_max: 4, after_write: None, after_access: None, missing: true }
    }

    #[test]
    fn the_key_used_least_recently_goes_first() {
        let (mut cache, now) = (Cache::new(settings()), Instant::now());
        cache.put(b"a", rows(1), now);
        cache.put(b"b", rows(2), now);
        cache.put(b"none", rows(0), now);
        assert_eq!(cache.get(b"a", now).map(|r| r.len()), Some(1));
        cache.put(b"c", rows(1), now);
        // `b` had two rows, and was used before `a`.
        assert!(cache.get(b"b", now).is_none());
        assert_eq!(cache.get(b"none", now).map(|r| r.len()), Some(0));
        assert_eq!((cache.get(b"a", now).is_some(), cache.get(b"c", now).is_some()), (true, true));
        cache.put(b"too many", rows(5), now);
        assert!(cache.get(b"too many", now).is_none() && cache.get(b"a", now).is_some());
        for key in [&b"a"[..], b"c", b"none"] {
            let turn = cache.entries[key].turn;
            cache.remove(turn);
        }
        assert_eq!((cache.rows, cache.bytes, cache.by_use.len()), (0, 0, 0));
    }

    #[test]
    fn a_key_is_forgotten_by_time() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let after_write = CacheSettings { after_write: Some(3 * second), ..settings() };
        let mut cache = Cache::new(after_write);
        cache.put(b"a", rows(1), begin);
        assert!(cache.get(b"a", begin + 2 * second).is_some());
        assert!(cache.get(b"a", begin + 3 * second).is_none(), "a use does not make it younger");
        let after_access = CacheSettings { after_access: Some(3 * second), missing: false, ..settings() };
        let mut cache = Cache::new(after_access);
        cache.put(b"a", rows(1), begin);
        cache.put(b"none", rows(0), begin);
        assert!(cache.get(b"none", begin).is_none(), "what is missing is not remembered");
        assert!(cache.get(b"a", begin + 2 * second).is_some());
        assert!(cache.get(b"a", begin + 4 * second).is_some());
        assert!(cache.get(b"a", begin + 7 * second).is_none());
    }
}
