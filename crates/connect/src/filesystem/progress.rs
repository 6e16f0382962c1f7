//! Which files of a folder have been read, in a form that does not grow with their number.
//!
//! ```text
//!  look ─▶ listed = read + what is new ─▶ the new files in path order, `upto` moves on ─▶ read = listed ─▶ look …
//! ```
//!
//! A file has been read if it had been when the pass began, or if the pass lists it and has come past its path. So a
//! pass over a million files is a path, and not a million names.
//!
//! Across passes the names of the [`NAMES_MAX`] files that were modified last are kept. Of older ones only the newest
//! is remembered, and how many they are: a file modified at or before it counts as read. Should the folder hold more
//! such files than were read, one of them has come late under an old time. That is an error, not a row less.

use super::list::FileInfo;
use millstream_core::{Error, Place, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files that are known by name.
pub(super) const NAMES_MAX: usize = 1000;

/// A set of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Modification time and path: every file at or before it is in the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    through: Option<(i64, PathBuf)>,
    /// How many files those are.
    #[serde(default)]
    older: u64,
    /// The others, each with its modification time.
    #[serde(default)]
    recent: BTreeMap<PathBuf, i64>,
}

impl Known {
    fn has(&self, file: &FileInfo) -> bool {
        self.recent.contains_key(&file.path) || self.is_older(file)
    }

    fn is_older(&self, file: &FileInfo) -> bool {
        let at = (file.modified.unwrap_or_default(), &file.path);
        self.through.as_ref().is_some_and(|(time, path)| at <= (*time, path)) && !self.recent.contains_key(&file.path)
    }

    fn with(&self, files: &[FileInfo]) -> Known {
        let mut all = self.clone();
        all.recent.extend(files.iter().map(|f| (f.path.clone(), f.modified.unwrap_or_default())));
        if let Some(over) = all.recent.len().checked_sub(NAMES_MAX).filter(|&over| over > 0) {
            let mut by_time: Vec<(i64, PathBuf)> = all.recent.iter().map(|(p, t)| (*t, p.clone())).collect();
            by_time.sort_unstable();
            by_time.truncate(over);
            for (_, path) in &by_time {
                all.recent.remove(path);
            }
            all.older += over as u64;
            all.through = all.through.max(by_time.pop());
        }
        all
    }
}

/// How far reading has come among the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub(super) struct Progress {
    /// Read before the pass began.
    read: Known,
    pass: Option<Pass>,
}

/// One walk over the files that a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pass {
    /// What will have been read when it is over.
    listed: Known,
    /// The last file that is done with.
    upto: Option<PathBuf>,
}

impl Progress {
    /// The files of an interrupted pass that are still to be read.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn left(&self, found: &[FileInfo]) -> Result<Vec<FileInfo>> {
        let Some(pass) = &self.pass else { return Ok(Vec::new()) };
        let ahead = |path: &Path| pass.upto.as_deref().is_none_or(|upto| path > upto);
        let gone = pass.listed.recent.keys().find(|path| {
            ahead(path)
                && !self.read.recent.contains_key(*path)
                && found.binary_search_by(|f| f.path.as_path().cmp(path)).is_err()
        });
        if let Some(path) = gone {
            return Err(vanished(path));
        }
        let left = |f: &&FileInfo| ahead(&f.path) && pass.listed.has(f) && !self.read.has(f);
        Ok(found.iter().filter(left).cloned().collect())
    }

    /// The files that have come since, and the pass over them; none where there are none.
    ///
    /// # Errors
    /// Files have come whose times say that they have been read.
    pub fn look(&self, found: &[FileInfo]) -> Result<Option<(Pass, Vec<FileInfo>)>> {
        let mut older = found.iter().filter(|f| self.read.is_older(f));
        if let Some(late) = older.nth(usize::try_from(self.read.older).unwrap_or(usize::MAX)) {
            return Err(Error::data(format!(
                "a file has come whose modification time is older than that of the last {NAMES_MAX} files that were \
                 read, so it cannot be told from those read before"
            ))
            .at(Place(late.path.parent().unwrap_or(&late.path).display().to_string()))
            .remedy(
                "set the time of the files that have come late to now: touch them, or copy an object of a bucket onto itself",
            ));
        }
        let new: Vec<FileInfo> = found.iter().filter(|f| !self.read.has(f)).cloned().collect();
        Ok((!new.is_empty()).then(|| (Pass { listed: self.read.with(&new), upto: None }, new)))
    }

    /// A look has found files before.
    pub fn has_begun(&self) -> bool {
        self.pass.is_some() || self.read != Known::default()
    }

    pub fn begin(&mut self, pass: Pass) {
        self.pass = Some(pass);
    }

    pub fn done_with(&mut self, path: &Path) {
        if let Some(pass) = &mut self.pass {
            pass.upto = Some(path.to_owned());
        }
    }

    pub fn end(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.read = pass.listed;
        }
    }
}

pub(super) fn vanished(path: &Path) -> Error {
    Error::io(format!("{} is gone, and the job has not read all of it", path.display()))
        .remedy("put the file back as it was, or start the job afresh")
}

/// [`Progress`] as it is written: what a pass lists is told by what it adds.
#[derive(Clone, Serialize, Deserialize)]
struct Saved {
    read: Known,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pass: Option<SavedPass>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SavedPass {
    #[serde(flatten)]
    adds: Known,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upto: Option<PathBuf>,
}

impl From<Progress> for Saved {
    fn from(Progress { read, pass }: Progress) -> Saved {
        let pass = pass.map(|Pass { listed: mut adds, upto }| {
            adds.recent.retain(|path, time| read.recent.get(path) != Some(time));
            SavedPass { adds, upto }
        });
        Saved { read, pass }
    }
}

impl From<Saved> for Progress {
    fn from(Saved { read, pass }: Saved) -> Progress {
        let pass = pass.map(|SavedPass { adds: mut listed, upto }| {
            let through = listed.through.clone();
            let newer = |path: &PathBuf, time: i64| through.as_ref().is_none_or(|(t, p)| (time, path) > (*t, p));
            let kept = read.recent.iter().filter(|(path, time)| newer(path, **time));
            listed.recent.extend(kept.map(|(path, time)| (path.clone(), *time)));
            Pass { listed, upto }
        });
        Progress { read, pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &str, modified: i64) -> FileInfo {
        FileInfo { path: path.into(), size: Some(1), modified: Some(modified), version: None, logged: None }
    }

    fn saved_and_read_back(progress: &Progress) -> Progress {
        let text = serde_json::to_string(progress).expect("UTF-8 paths");
        let back = serde_json::from_str(&text).expect("as written");
        assert_eq!(progress, &back, "{text}");
        back
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Files come, with times that grow as those of real files do; looks, passes and crashes come in any order.
        /// Every file is read once.
        #[test]
        fn every_file_is_read_once(
            steps in proptest::collection::vec((0..1800usize, 0..4i64, any::<bool>(), 0..2000usize), 1..6)
        ) {
            let mut folder: Vec<FileInfo> = Vec::new();
            let mut progress = Progress::default();
            let mut read: BTreeMap<PathBuf, u32> = BTreeMap::new();
            let mut clock = 0;
            for (come, pace, crash, stop_after) in steps {
                for i in 0..come {
                    clock += i64::from(i % 7 == 0) * pace + 1;
                    // Names in no order of time.
                    let n = folder.len();
                    folder.push(file(&format!("{:08x}", (n as u32).wrapping_mul(0x9e37_79b9)), clock));
                }
                folder.sort_by(|a, b| a.path.cmp(&b.path));
                let mut budget = if crash { stop_after } else { usize::MAX };
                let mut files = progress.left(&folder).expect("none is gone");
                loop {
                    for file in files.drain(..) {
                        if budget == 0 {
                            break;
                        }
                        budget -= 1;
                        *read.entry(file.path.clone()).or_default() += 1;
                        progress.done_with(&file.path);
                    }
                    if budget == 0 {
                        break;
                    }
                    progress.end();
                    match progress.look(&folder).expect("times grow") {
                        None => break,
                        Some((pass, new)) => {
                            progress.begin(pass);
                            files = new;
                        }
                    }
                }
                progress = saved_and_read_back(&progress);
                prop_assert!(progress.read.recent.len() <= NAMES_MAX);
            }
            prop_assert!(read.values().all(|&n| n == 1), "a file was read twice");
            let mut files = progress.left(&folder).expect("none is gone");
            progress.end();
            files.extend(progress.look(&folder).expect("times grow").map(|(_, new)| new).unwrap_or_default());
            for file in files {
                prop_assert!(read.insert(file.path, 1).is_none(), "a file was read twice");
            }
            prop_assert_eq!(read.len(), folder.len());
        }
    }

    #[test]
    fn a_file_that_comes_late_under_an_old_time_is_no_row_less() {
        let mut folder: Vec<FileInfo> = (0..NAMES_MAX as i64 + 5).map(|i| file(&format!("f{i:05}"), i)).collect();
        let mut progress = Progress::default();
        let (pass, new) = progress.look(&folder).expect("all new").expect("all new");
        assert_eq!(new.len(), folder.len());
        progress.begin(pass);
        progress.end();
        assert!(progress.look(&folder).expect("all known").is_none());
        // Among those that are known by name an old time does no harm.
        folder.push(file("g", 6));
        assert_eq!(progress.look(&folder).expect("one is new").expect("one is new").1, [file("g", 6)]);
        folder.push(file("h", 2));
        let e = progress.look(&folder).expect_err("cannot be told from what was read");
        assert!(e.help().is_some_and(|h| h.contains("touch")), "{e}");
    }

    #[test]
    fn a_file_that_is_gone_before_it_was_read_is_named() {
        let folder = [file("a", 1), file("b", 2)];
        let mut progress = Progress::default();
        let (pass, _) = progress.look(&folder).expect("new").expect("new");
        progress.begin(pass);
        progress.done_with(Path::new("a"));
        let progress = saved_and_read_back(&progress);
        assert!(progress.left(&folder[..1]).expect_err("b is gone").what().contains('b'));
        // The one that was read may go.
        assert_eq!(progress.left(&folder[1..]).expect("b is there"), [file("b", 2)]);
    }
}
