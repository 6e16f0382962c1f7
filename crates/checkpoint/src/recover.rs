//! Decides where a job goes on, and makes sure that no other run of it does.
//!
//! ```text
//!  list manifests/ ──▶ read them ──▶ choose ──▶ fence: create number n + 1 with the same content
//!       ▲                                         │ taken: another run was quicker
//!       └─────────────────────────────────────────┤
//!                                                 └▶ restore, commit again what it names, read on
//! ```
//!
//! The newest manifest is the one with the highest number. If it is damaged, or a file that it names is missing or has
//! another size, that is said and nothing is restored: to take an older one unasked would give out again what sinks
//! have already made visible. An older one is used when a user names it.
//!
//! Always true:
//! - The fence has a number above all numbers in the store, and a generation above all that can be read there.
//! - The epochs of the run are above all epochs that were ever saved, even when it goes back to an older checkpoint: a
//!   sink that remembers its last epoch would take new rows for old ones otherwise.
//! - What sinks have to commit for the newest manifest stays in the fence. For an older one it is known to be done: the
//!   next epoch began only after it, and a savepoint is stored only after its epoch was committed.
//!
//! Not here: the hashes of files. Whoever reads a file checks it.

use crate::manifest::{FileRef, Manifest, epoch_of};
use millstream_core::{Error, Millis, Place, Result, Stat};
use std::collections::BTreeMap;

/// How often a run tries to create its fence before it gives way to the others that do the same.
pub const FENCE_TRIES_MAX: usize = 10;

/// Epochs left out after a newer manifest that cannot be read: it may be of any epoch shortly after the last known.
const EPOCHS_SKIPPED: u64 = 1_000_000;

/// Files that a message names at most.
const NAMED_FILES_MAX: usize = 5;

/// Which checkpoint is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Newest,
    /// The manifest with this number.
    Number(u64),
    /// The newest manifest of this epoch.
    Epoch(u64),
    /// A savepoint: its path and what was read there.
    Savepoint(String, Box<Result<Manifest>>),
}

/// An object of `manifests/`, read.
#[derive(Debug, Clone)]
pub struct Found {
    pub path: String,
    pub manifest: Result<Manifest>,
}

/// Where a run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// What to restore.
    pub restore: Manifest,
    /// What to create at its path, with [`Put::Create`](millstream_core::Put::Create) and before anything else. Its
    /// generation and epoch are those of the run. `Exists`: start again with a new listing.
    pub fence: Manifest,
    /// Another checkpoint than the newest was asked for: sinks get the rows since then once more.
    pub rewound: bool,
}

/// Chooses the checkpoint of `job` to go on from. `None`: there is none at all, and [`Manifest::first`] is the fence.
///
/// `found` holds every object of `manifests/`, `listing` the whole store.
///
/// # Errors
/// The wanted one is not there, is damaged, belongs to another job, or files of it are missing.
pub fn choose(job: &str, found: &[Found], listing: &[Stat], wanted: &Wanted, now: Millis) -> Result<Option<Recovery>> {
    // What has no number is none of ours: a copy that somebody has put there.
    let numbered: BTreeMap<u64, &Found> =
        found.iter().filter_map(|f| Some((Manifest::number_of(&f.path)?, f))).collect();
    let intact = |manifest: &Manifest| missing(manifest, listing).is_empty();
    let readable = || numbered.iter().rev().filter_map(|(n, f)| Some((*n, f.manifest.as_ref().ok()?)));
    // What could be asked for instead.
    let others = |than: Option<u64>| {
        let known = readable().filter(|(n, m)| Some(*n) != than && intact(m));
        let known: Vec<String> = known.take(3).map(|(n, m)| format!("{n} (epoch {})", m.epoch)).collect();
        match known.is_empty() {
            true => "repair the store from a copy, or start from scratch with an empty store".to_owned(),
            false => format!(
                "repair the store from a copy, or go back with --restore-at to {}; rows since then are written again",
                known.join(", ")
            ),
        }
    };

    let (path, restore) = match wanted {
        Wanted::Newest => match numbered.last_key_value() {
            None => return Ok(None),
            Some((number, found)) => {
                let manifest = found.manifest.as_ref().map_err(|e| damaged(e, &found.path, &others(Some(*number))))?;
                (found.path.clone(), manifest)
            }
        },
        Wanted::Number(number) => match numbered.get(number) {
            Some(found) => {
                let manifest = found.manifest.as_ref().map_err(|e| damaged(e, &found.path, &others(Some(*number))))?;
                (found.path.clone(), manifest)
            }
            None => return Err(absent(&format!("number {number}"), &others(None))),
        },
        Wanted::Epoch(epoch) => match readable().find(|(_, m)| m.epoch == *epoch) {
            Some((number, manifest)) => (Manifest::path(number), manifest),
            None => return Err(absent(&format!("epoch {epoch}"), &others(None))),
        },
        Wanted::Savepoint(path, manifest) => {
            (path.clone(), (**manifest).as_ref().map_err(|e| damaged(e, path, &others(None)))?)
        }
    };
    check(job, &path, restore, matches!(wanted, Wanted::Savepoint(..)))?;
    let gone = missing(restore, listing);
    if !gone.is_empty() {
        let number = Manifest::number_of(&path);
        return Err(Error::data(format!(
            "the checkpoint of epoch {} is not whole: {}{}",
            restore.epoch,
            gone[..gone.len().min(NAMED_FILES_MAX)].join(", "),
            if gone.len() > NAMED_FILES_MAX {
                format!(" and {} more", gone.len() - NAMED_FILES_MAX)
            } else {
                String::new()
            },
        ))
        .at(Place(path))
        .remedy(others(number)));
    }

    let highest = numbered.last_key_value().map_or(0, |(n, _)| *n);
    let newest = numbered.get(&highest).and_then(|f| f.manifest.as_ref().ok());
    let rewound = newest.is_none_or(|newest| newest.epoch != restore.epoch);
    let generation = readable().map(|(_, m)| m.generation).chain([restore.generation]).max().unwrap_or(0);
    let mut fence = restore.fenced(generation + 1, now);
    fence.number = highest + 1;
    if rewound {
        fence.epoch = epoch_after_all(&numbered, listing, restore);
        fence.sinks.clear();
    }
    Ok(Some(Recovery { restore: restore.clone(), fence, rewound }))
}

/// The highest number above `number` in a listing of `manifests/`: the run that wrote `number` has been replaced.
///
/// Asked after a manifest was created and before its sinks commit. A number that was deleted could be created again by a
/// run that has slept for long; but the highest number is never deleted, so this run sees it.
pub fn superseded(number: u64, listing: &[Stat]) -> Option<u64> {
    listing.iter().filter_map(|s| Manifest::number_of(&s.path)).max().filter(|highest| *highest > number)
}

/// What to say when the manifest could not be created or is superseded.
pub fn replaced(number: u64, store: &str) -> Error {
    Error::io(format!("another run of this job has taken over: it has written manifest {number} or a later one"))
        .at(Place(format!("{store}/{}", Manifest::path(number))))
        .remedy("keep one run of the job only; this one has committed nothing that the other did not know of")
}

/// The epoch for a run that goes back: above everything that any run may have saved.
fn epoch_after_all(numbered: &BTreeMap<u64, &Found>, listing: &[Stat], restore: &Manifest) -> u64 {
    let read = numbered.values().filter_map(|f| f.manifest.as_ref().ok()).map(|m| m.epoch);
    let files = listing.iter().filter_map(|s| epoch_of(&s.path));
    let highest = read.chain(files).chain([restore.epoch]).max().unwrap_or(0);
    let unread = numbered.values().any(|f| f.manifest.is_err());
    highest + 1 + if unread { EPOCHS_SKIPPED } else { 0 }
}

/// That a manifest is the one that its name says, and ours.
fn check(job: &str, path: &str, manifest: &Manifest, savepoint: bool) -> Result<()> {
    if manifest.job != job {
        return Err(Error::usage(format!(
            "the checkpoints here belong to the job `{}`, this one is `{job}`",
            manifest.job
        ))
        .at(Place(path.to_owned()))
        .remedy("give each job a place of its own for its checkpoints, or start it under its old name"));
    }
    if !savepoint && Manifest::number_of(path) != Some(manifest.number) {
        return Err(Error::data(format!("the manifest says that its number is {}", manifest.number))
            .at(Place(path.to_owned()))
            .remedy("it was copied or renamed: put it back under its own name"));
    }
    Ok(())
}

/// What the listing lacks of a manifest's files, in words.
fn missing(manifest: &Manifest, listing: &[Stat]) -> Vec<String> {
    let there: BTreeMap<&str, u64> = listing.iter().map(|s| (s.path.as_str(), s.bytes)).collect();
    let wrong = |file: &FileRef| match there.get(file.path.as_str()) {
        None => Some(format!("{} is missing", file.path)),
        Some(bytes) if *bytes != file.bytes => {
            Some(format!("{} has {bytes} bytes instead of {}", file.path, file.bytes))
        }
        Some(_) => None,
    };
    manifest.files().filter_map(wrong).collect()
}

fn damaged(e: &Error, path: &str, others: &str) -> Error {
    // The remedy here knows which other checkpoints there are; that of a later format is better than any.
    let said = Error::new(e.kind(), e.what()).at(Place(path.to_owned()));
    match e.help() {
        Some(help) if e.what().contains("has format") => said.remedy(help),
        _ => said.remedy(others),
    }
}

fn absent(what: &str, others: &str) -> Error {
    Error::usage(format!("there is no checkpoint with {what}")).remedy(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::data_path;
    use crate::manifest::tests::{file, manifest};
    use crate::manifest::{CommittableState, SinkState};

    /// Three checkpoints: numbers 1 to 3, epochs 10, 20, 30, with pending commits and a file each.
    fn store() -> (Vec<Found>, Vec<Stat>) {
        let manifests = (1..=3u64).map(|n| {
            let epoch = n * 10;
            let mut m = manifest(n, epoch, vec![file(&data_path(epoch, 1, "slices"), epoch)]);
            let data = CommittableState { data: Some(format!("part-{epoch}")), outbox: None };
            m.sinks = vec![SinkState { id: "out".into(), table: "t".into(), committables: vec![data] }];
            m
        });
        let found: Vec<Found> = manifests.map(|m| Found { path: Manifest::path(m.number), manifest: Ok(m) }).collect();
        let files = found.iter().flat_map(|f| f.manifest.as_ref().unwrap().files());
        let mut listing: Vec<Stat> =
            files.map(|f| Stat { path: f.path.clone(), bytes: f.bytes, modified: 0 }).collect();
        listing.extend(found.iter().map(|f| Stat { path: f.path.clone(), bytes: 1, modified: 0 }));
        (found, listing)
    }

    fn pick(found: &[Found], listing: &[Stat], wanted: Wanted) -> Result<Recovery> {
        choose("clicks", found, listing, &wanted, 5_000).map(|r| r.expect("there are checkpoints"))
    }

    #[test]
    fn the_newest_is_written_anew_with_its_pending_commits() {
        let (found, listing) = store();
        let recovery = pick(&found, &listing, Wanted::Newest).unwrap();
        let newest = found[2].manifest.clone().unwrap();
        assert_eq!(recovery.restore, newest);
        let Manifest { number, generation, written, .. } = recovery.fence.clone();
        assert_eq!((number, generation, written, recovery.rewound), (4, 2, 5_000, false));
        let as_before = Manifest { number: 3, generation: 1, written: newest.written, ..recovery.fence };
        assert_eq!(as_before, newest, "nothing else differs: epoch and commits stay");
    }

    #[test]
    fn two_runs_that_start_at_once_get_different_generations() {
        let (mut found, mut listing) = store();
        let one = pick(&found, &listing, Wanted::Newest).unwrap();
        let two = pick(&found, &listing, Wanted::Newest).unwrap();
        assert_eq!(one.fence.number, two.fence.number, "one of them finds it taken");
        listing.push(Stat { path: Manifest::path(4), bytes: 1, modified: 0 });
        found.push(Found { path: Manifest::path(4), manifest: Ok(one.fence.clone()) });
        let again = pick(&found, &listing, Wanted::Newest).unwrap();
        assert_eq!((again.fence.number, again.fence.generation), (5, 3));
        assert_eq!((again.fence.epoch, &again.fence.sinks), (30, &one.fence.sinks));
    }

    #[test]
    fn a_fresh_store_has_nothing_to_go_on_from() {
        assert_eq!(choose("clicks", &[], &[], &Wanted::Newest, 0).unwrap(), None);
        let first = Manifest::first("clicks", 256, 2, 7);
        assert_eq!((first.number, first.generation, first.epoch), (1, 1, 0));
        let e = choose("clicks", &[], &[], &Wanted::Number(3), 0).unwrap_err();
        assert!(e.what().contains("number 3"), "{e}");
    }

    #[test]
    fn missing_and_torn_files_are_named_and_nothing_older_is_taken_unasked() {
        let (found, mut listing) = store();
        let at = listing.iter().position(|s| s.path == data_path(30, 1, "slices")).unwrap();
        listing[at].bytes -= 1;
        let e = pick(&found, &listing, Wanted::Newest).unwrap_err();
        assert!(e.what().contains("data/30-1-slices has 99 bytes instead of 100"), "{e}");
        assert!(e.help().unwrap().contains("--restore-at to 2 (epoch 20), 1 (epoch 10)"), "{e}");
        assert_eq!(e.place().unwrap().0, Manifest::path(3));
        listing.remove(at);
        let e = pick(&found, &listing, Wanted::Newest).unwrap_err();
        assert!(e.what().contains("data/30-1-slices is missing"), "{e}");
        let older = pick(&found, &listing, Wanted::Number(2)).unwrap();
        assert_eq!((older.restore.epoch, older.rewound), (20, true));
    }

    #[test]
    fn going_back_keeps_numbers_and_epochs_above_all_others() {
        let (mut found, mut listing) = store();
        for wanted in [Wanted::Number(1), Wanted::Epoch(10)] {
            let back = pick(&found, &listing, wanted).unwrap();
            assert_eq!((back.restore.number, back.fence.number, back.fence.epoch), (1, 4, 31));
            assert!(back.fence.sinks.is_empty(), "epoch 10 was committed before 20 began");
            assert_eq!(back.fence.nodes, back.restore.nodes);
        }
        // A file of an epoch that was never completed counts too.
        listing.push(Stat { path: data_path(35, 1, "open"), bytes: 1, modified: 0 });
        assert_eq!(pick(&found, &listing, Wanted::Number(1)).unwrap().fence.epoch, 36);
        found[2].manifest = Err(Error::data("torn"));
        let e = pick(&found, &listing, Wanted::Newest).unwrap_err();
        assert!(e.what() == "torn" && e.place().unwrap().0 == Manifest::path(3), "{e}");
        let back = pick(&found, &listing, Wanted::Number(2)).unwrap();
        assert_eq!((back.fence.number, back.fence.epoch), (4, 36 + EPOCHS_SKIPPED));
    }

    #[test]
    fn a_savepoint_is_gone_back_to_like_an_older_checkpoint() {
        let (found, listing) = store();
        let saved = found[1].manifest.clone();
        let path = "savepoints/nightly.json".to_owned();
        let back = pick(&found, &listing, Wanted::Savepoint(path.clone(), Box::new(saved.clone()))).unwrap();
        assert_eq!((back.fence.number, back.fence.epoch, back.rewound), (4, 31, true));
        let newest = found[2].manifest.clone();
        let same = pick(&found, &listing, Wanted::Savepoint(path.clone(), Box::new(newest))).unwrap();
        assert!(!same.rewound && same.fence.epoch == 30 && !same.fence.sinks.is_empty(), "nothing came after it");
        // In a store where nothing else is left.
        let alone = choose("clicks", &[], &listing, &Wanted::Savepoint(path, Box::new(saved)), 0).unwrap().unwrap();
        assert_eq!((alone.fence.number, alone.fence.generation), (1, 2));
    }

    #[test]
    fn what_belongs_to_another_job_or_another_number_is_refused() {
        let (mut found, listing) = store();
        let e = choose("orders", &found, &listing, &Wanted::Newest, 0).unwrap_err();
        assert!(e.what().contains("`clicks`") && e.what().contains("`orders`"), "{e}");
        found.push(Found { path: Manifest::path(9), manifest: found[0].manifest.clone() });
        let e = pick(&found, &listing, Wanted::Newest).unwrap_err();
        assert!(e.what().contains("its number is 1"), "{e}");
    }

    #[test]
    fn a_run_that_has_slept_sees_that_it_was_replaced() {
        let stat = |n| Stat { path: Manifest::path(n), bytes: 1, modified: 0 };
        // Numbers 4 to 7 were deleted since; it has just created 4 again.
        assert_eq!(superseded(4, &[stat(4), stat(8), stat(9)]), Some(9));
        assert_eq!(superseded(9, &[stat(8), stat(9)]), None);
    }
}
