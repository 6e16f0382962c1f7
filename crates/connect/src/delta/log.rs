//! The log of a table: the folder `_delta_log` beside its files.
//!
//! ```text
//!  _last_checkpoint ─▶ 10.checkpoint.parquet ─▶ 11.json, 12.json, .. until there is none ─▶ the table as it is now
//!       (not there: a listing)                                        └─ put if absent ─▶ the next version
//! ```
//!
//! A commit is one object that is created and never changed. Of two writers that create the same one learns that it came
//! second: all safety of the table rests on that. Commits have no gaps, so the newest is found by asking for the next one
//! until there is none, without a listing.

use super::actions::{Line, Replay, Snapshot};
use super::checkpoint;
use crate::store::{self, OwnedStore};
use millstream_core::time::format_millis;
use millstream_core::{Error, ErrorKind, Millis, Place, Put, Result, Stored};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const LAST_CHECKPOINT: &str = "_last_checkpoint";

pub struct Log {
    store: Box<dyn OwnedStore>,
    /// Whether it lies in a folder of this machine.
    local: bool,
    /// The table, for messages.
    pub shown: String,
}

/// What `_last_checkpoint` says.
#[derive(Debug, Serialize, Deserialize)]
struct Pointer {
    version: u64,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<u32>,
}

/// An error of a folder. Those of the store speak of checkpoints of jobs, which it was made for.
fn in_folder(e: &Error, root: &str) -> Error {
    let remedy = match e.kind() {
        ErrorKind::Io => "see that this user may read and write the folder of the table, and that its disk has room",
        _ => "check 'path'",
    };
    Error::new(e.kind(), e.what()).at(Place(root.to_owned())).remedy(remedy)
}

/// Which version of a table is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    Now,
    Version(u64),
    /// The newest that was there at this time.
    Time(Millis),
}

/// What a listing shows.
#[derive(Debug, Default)]
struct Listing {
    /// When each commit was written.
    commits: BTreeMap<u64, Millis>,
    /// Parts of each checkpoint that are there, and how many there ought to be.
    checkpoints: BTreeMap<u64, (BTreeSet<u32>, Option<u32>)>,
    /// A checkpoint of a newer kind.
    newer_kind: bool,
}

fn commit_name(version: u64) -> String {
    format!("{version:020}.json")
}

fn checkpoint_names(version: u64, parts: Option<u32>) -> Vec<String> {
    match parts {
        None => vec![format!("{version:020}.checkpoint.parquet")],
        Some(parts) => {
            (1..=parts).map(|part| format!("{version:020}.checkpoint.{part:010}.{parts:010}.parquet")).collect()
        }
    }
}

impl Log {
    /// The log of the table at `root`: a path or `s3://bucket/prefix`.
    pub fn open(root: &str, options: &BTreeMap<String, String>) -> Result<Log> {
        let root = root.trim_end_matches('/');
        let local = !root.starts_with("s3://");
        let store = store::open(&format!("{root}/_delta_log"), options);
        let store = store.map_err(|e| if local { in_folder(&e, root) } else { e })?;
        Ok(Log { store, local, shown: root.to_owned() })
    }

    /// What the store says of itself, told as something of the table.
    fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| if self.local { in_folder(&e, &self.shown) } else { e })
    }

    fn place(&self, name: &str) -> Place {
        Place(format!("{}/_delta_log/{name}", self.shown))
    }

    /// The actions of a commit; `None`: there is no such version, yet or any more.
    pub fn commit(&self, version: u64) -> Result<Option<Vec<Line>>> {
        let name = commit_name(version);
        let Some(bytes) = self.told(self.store.get(&name))? else { return Ok(None) };
        let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let parsed = lines.map(|line| {
            serde_json::from_slice(line).map_err(|e| {
                Error::data(format!("an action of the log cannot be read: {e}"))
                    .at(self.place(&name))
                    .remedy("restore the file from a copy; a log with a damaged commit cannot be relied upon")
            })
        });
        parsed.collect::<Result<Vec<Line>>>().map(Some)
    }

    /// Makes a commit, or says that there is one of this version already.
    pub fn put(&self, version: u64, lines: &[Line]) -> Result<bool> {
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line)
                .map_err(|e| Error::internal(format!("an action that is no JSON: {e}")))?;
            bytes.push(b'\n');
        }
        Ok(self.told(self.store.put(&commit_name(version), &bytes, Put::Create))? == Stored::Yes)
    }

    /// The version of the last checkpoint, and its parts.
    fn pointer(&self) -> Result<Option<(u64, Option<u32>)>> {
        let bytes = self.told(self.store.get(LAST_CHECKPOINT))?;
        // It is a hint: one that cannot be read is none.
        let pointer = bytes.and_then(|bytes| serde_json::from_slice::<Pointer>(&bytes).ok());
        Ok(pointer.map(|p| (p.version, p.parts)))
    }

    pub fn last_checkpoint(&self) -> Result<Option<u64>> {
        Ok(self.pointer()?.map(|(version, _)| version))
    }

    /// A checkpoint; `None`: some part of it is not there.
    fn checkpoint(&self, version: u64, parts: Option<u32>) -> Result<Option<Replay>> {
        let mut replay = Replay::default();
        for name in checkpoint_names(version, parts) {
            let Some(bytes) = self.told(self.store.get(&name))? else { return Ok(None) };
            checkpoint::read(bytes, &self.place(&name).0, |line| replay.take(line))?;
        }
        Ok(Some(replay))
    }

    /// The table, or `None` where there is none.
    pub fn load(&self, as_of: AsOf) -> Result<Option<Snapshot>> {
        let loaded = match as_of {
            AsOf::Now => self.load_newest(),
            AsOf::Version(version) => self.load_version(&self.list()?, version),
            AsOf::Time(at) => {
                let listing = self.list()?;
                match self.version_at(&listing, at)? {
                    Some(version) => self.load_version(&listing, version),
                    None => Ok(None),
                }
            }
        };
        loaded.map_err(|e| e.at(Place(self.shown.clone())))
    }

    fn load_newest(&self) -> Result<Option<Snapshot>> {
        if let Some((version, parts)) = self.pointer()?
            && let Some(replay) = self.checkpoint(version, parts)?
        {
            let snapshot = self.replay_on(replay, version + 1)?;
            // Where nothing follows, the pointer may be an old one and what follows may have been cleaned away: to commit
            // there would tear the log.
            if snapshot.version > version || self.list()?.newest() <= Some(version) {
                return Ok(Some(snapshot));
            }
        }
        let listing = self.list()?;
        let Some((replay, first)) = self.start(&listing, u64::MAX)? else { return Ok(None) };
        let snapshot = self.replay_on(replay, first)?;
        if let Some(newest) = listing.newest().filter(|newest| *newest > snapshot.version) {
            return Err(Error::data(format!(
                "the log has a gap: version {} is missing, and there are later ones up to {newest}",
                snapshot.version + 1
            ))
            .remedy("restore the folder _delta_log from a copy"));
        }
        Ok(Some(snapshot))
    }

    /// The table with all commits from `next` on.
    fn replay_on(&self, mut replay: Replay, mut next: u64) -> Result<Snapshot> {
        while let Some(lines) = self.commit(next)? {
            lines.into_iter().try_for_each(|line| replay.take(line))?;
            next += 1;
        }
        replay.at(next.saturating_sub(1))
    }

    fn load_version(&self, listing: &Listing, version: u64) -> Result<Option<Snapshot>> {
        if listing.commits.is_empty() && listing.checkpoints.is_empty() {
            return Ok(None);
        }
        let newest = listing.newest().unwrap_or_default();
        let start = if version > newest { None } else { self.start(listing, version)? };
        let gone = || {
            Error::data(format!("the table has no version {version}"))
                .remedy(format!("its newest is {newest}; old ones are cleaned away some time after they were replaced"))
        };
        let (mut replay, first) = start.ok_or_else(gone)?;
        for next in first..=version {
            let lines = self.commit(next)?.ok_or_else(gone)?;
            lines.into_iter().try_for_each(|line| replay.take(line))?;
        }
        replay.at(version).map(Some)
    }

    /// The checkpoint, at most of version `upto`, from which a table is put together, and the first commit behind it.
    fn start(&self, listing: &Listing, upto: u64) -> Result<Option<(Replay, u64)>> {
        for (version, parts) in listing.complete().rev().filter(|(version, _)| *version <= upto) {
            if let Some(replay) = self.checkpoint(version, parts)? {
                return Ok(Some((replay, version + 1)));
            }
        }
        match listing.commits.keys().next() {
            Some(0) => Ok(Some((Replay::default(), 0))),
            None if !listing.newer_kind => Ok(None),
            _ if listing.newer_kind => Err(Error::data(
                "the table has checkpoints of a newer kind (the feature `v2Checkpoint`), which are not read",
            )
            .remedy("set 'delta.checkpointPolicy' = 'classic' on the table")),
            _ if upto < u64::MAX => Ok(None),
            Some(first) => Err(Error::data(format!(
                "the log begins with version {first} and has no checkpoint: what was before is not known"
            ))
            .remedy("restore the folder _delta_log from a copy")),
            None => Ok(None),
        }
    }

    /// The newest version that was there at a time.
    fn version_at(&self, listing: &Listing, at: Millis) -> Result<Option<u64>> {
        let Some((first, first_at)) = listing.commits.first_key_value() else { return Ok(None) };
        let (mut found, mut before) = (None, Millis::MIN);
        for (version, written) in &listing.commits {
            // Clocks of writers differ; a later version is later all the same.
            before = (*written).max(before.saturating_add(1));
            if before <= at {
                found = Some(*version);
            }
        }
        found.map(Some).ok_or_else(|| {
            Error::data(format!("the table was not there at {}, or nothing is known of it any more", format_millis(at)))
                .remedy(format!("its oldest known version is {first}, of {} UTC", format_millis(*first_at)))
        })
    }

    fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for stat in self.told(self.store.list(""))? {
            let parts: Vec<&str> = stat.path.split('.').collect();
            let Some(version) = parts.first().filter(|p| p.len() == 20).and_then(|p| p.parse::<u64>().ok()) else {
                continue;
            };
            match parts[1..] {
                ["json"] => drop(listing.commits.insert(version, stat.modified)),
                ["checkpoint", "parquet"] => drop(listing.checkpoints.insert(version, (BTreeSet::from([1]), None))),
                ["checkpoint", part, of, "parquet"] => {
                    if let (Ok(part), Ok(of)) = (part.parse::<u32>(), of.parse::<u32>()) {
                        let entry = listing.checkpoints.entry(version).or_insert_with(|| (BTreeSet::new(), Some(of)));
                        if entry.1 == Some(of) {
                            entry.0.insert(part);
                        }
                    }
                }
                ["checkpoint", _, "json" | "parquet"] => listing.newer_kind = true,
                _ => {}
            }
        }
        Ok(listing)
    }

    /// Writes a checkpoint, and then that it is there.
    pub fn write_checkpoint(&self, snapshot: &Snapshot, forget: Millis) -> Result<()> {
        let lines = snapshot.lines(forget);
        let bytes = checkpoint::write(&lines)?;
        let names = checkpoint_names(snapshot.version, None);
        self.told(self.store.put(&names[0], &bytes, Put::Replace))?;
        let pointer = Pointer { version: snapshot.version, size: lines.len() as u64, parts: None };
        let text = serde_json::to_vec(&pointer).map_err(|e| Error::internal(format!("a pointer: {e}")))?;
        self.told(self.store.put(LAST_CHECKPOINT, &text, Put::Replace)).map(drop)
    }

    /// Removes what is only needed for versions that were replaced before `before`.
    pub fn clean(&self, before: Millis) -> Result<()> {
        let stats = self.told(self.store.list(""))?;
        let version_of =
            |path: &str| path.split('.').next().filter(|p| p.len() == 20).and_then(|p| p.parse::<u64>().ok());
        // The newest checkpoint that is old enough: from it on every version can be put together.
        let old = stats.iter().filter(|s| s.modified < before && s.path.ends_with(".checkpoint.parquet"));
        let Some(keep) = old.filter_map(|s| version_of(&s.path)).max() else { return Ok(()) };
        for stat in &stats {
            if stat.modified < before && version_of(&stat.path).is_some_and(|version| version < keep) {
                self.told(self.store.delete(&stat.path))?;
            }
        }
        Ok(())
    }
}

impl Listing {
    fn newest(&self) -> Option<u64> {
        self.commits.keys().chain(self.checkpoints.keys()).max().copied()
    }

    /// Checkpoints that are there with all their parts, in the order of their versions.
    fn complete(&self) -> impl DoubleEndedIterator<Item = (u64, Option<u32>)> {
        let whole = |(there, of): &(BTreeSet<u32>, Option<u32>)| of.is_none_or(|of| there.len() == of as usize);
        self.checkpoints.iter().filter(move |(_, c)| whole(c)).map(|(version, (_, parts))| (*version, *parts))
    }
}
