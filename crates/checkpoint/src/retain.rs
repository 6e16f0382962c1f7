//! Decides what a store need not hold any longer.
//!
//! ```text
//!  manifests  1 2 3 4 5 6 7      keep = 2 epochs: 6 and 7; a savepoint keeps what 3 names
//!             ─────────── ───
//!             deleted     kept ──name──▶ files that stay
//!
//!  files      named by nothing kept, of no epoch after the newest manifest's, and older than the grace time: deleted
//! ```
//!
//! Always true:
//! - The manifest with the highest number stays, and no file goes that a manifest or a savepoint which stays names.
//! - No file of an epoch after the newest manifest's goes, however old: the open epoch may name it, or the one after an
//!   epoch that was given up.
//! - Manifests go before files: a crash in between leaves files too many, never a manifest whose files are gone.
//! - While one manifest or savepoint cannot be read, no file goes: nobody knows what it names.
//! - Done twice, nothing is left to do the second time.
//!
//! A number that was deleted could be created again by a run that has slept since. That is why a manifest counts only
//! once a listing after it shows no higher number: see [`crate::recover::superseded`].

use crate::manifest::{Manifest, epoch_of, is_savepoint};
use millstream_core::{Millis, Stat};
use std::collections::BTreeSet;

/// Files that are younger stay in any case. Another run, or a merge, may be about to name them.
pub const GRACE: Millis = 10 * 60_000;

/// What is in the store.
#[derive(Debug, Clone, Copy)]
pub struct Inventory<'a> {
    /// All that could be read of `manifests/`.
    pub manifests: &'a [Manifest],
    /// All that could be read of `savepoints/`: the path of each and what it holds.
    pub savepoints: &'a [(String, Manifest)],
    /// The whole listing of the store, taken before or after the above was read.
    pub listing: &'a [Stat],
}

/// What to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// First these, lowest number first,
    pub manifests: Vec<String>,
    /// then these.
    pub files: Vec<String>,
    /// Manifests and savepoints of the listing that were not read. As long as there are any, `files` is empty.
    pub unread: Vec<String>,
}

impl Plan {
    /// Everything to delete, in the order in which it is safe.
    pub fn in_order(&self) -> impl Iterator<Item = &str> {
        self.manifests.iter().chain(&self.files).map(String::as_str)
    }
}

/// What to delete so that the newest `keep` epochs (at least 1) and all savepoints can be restored. `grace` is [`GRACE`]
/// outside of tests; `now` is compared with the store's clock.
pub fn plan(of: Inventory<'_>, keep: usize, grace: Millis, now: Millis) -> Plan {
    let kept = kept(of.manifests, keep.max(1));
    let Some(newest) = of.manifests.iter().max_by_key(|m| m.number) else {
        // Nothing says what is needed: perhaps the first manifest is being written.
        return Plan::default();
    };
    let mut plan = Plan::default();
    let mut manifests: Vec<u64> = of.manifests.iter().map(|m| m.number).filter(|n| !kept.contains(n)).collect();
    manifests.sort_unstable();
    plan.manifests = manifests.into_iter().map(Manifest::path).collect();

    let read: BTreeSet<u64> = of.manifests.iter().map(|m| m.number).collect();
    let unread = |path: &str| match Manifest::number_of(path) {
        Some(number) => !read.contains(&number),
        None => is_savepoint(path) && !of.savepoints.iter().any(|(read, _)| read == path),
    };
    plan.unread = of.listing.iter().filter(|s| unread(&s.path)).map(|s| s.path.clone()).collect();
    if !plan.unread.is_empty() {
        return plan;
    }

    let stay = of.manifests.iter().filter(|m| kept.contains(&m.number)).chain(of.savepoints.iter().map(|(_, m)| m));
    let named: BTreeSet<&str> = stay.flat_map(Manifest::files).map(|file| file.path.as_str()).collect();
    let gone = |stat: &&Stat| {
        let past = epoch_of(&stat.path).is_some_and(|epoch| epoch <= newest.epoch);
        past && !named.contains(stat.path.as_str()) && now.saturating_sub(stat.modified) > grace
    };
    plan.files = of.listing.iter().filter(gone).map(|stat| stat.path.clone()).collect();
    plan
}

/// The numbers of the manifests that stay: of each of the newest epochs the last one written. A run writes the manifest
/// that it starts from anew, and a job that fails at every start must not push out what was kept.
fn kept(manifests: &[Manifest], keep: usize) -> BTreeSet<u64> {
    let mut by_number: Vec<&Manifest> = manifests.iter().collect();
    by_number.sort_unstable_by_key(|m| std::cmp::Reverse(m.number));
    let mut epochs = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for manifest in by_number {
        if epochs.len() == keep {
            break;
        }
        if epochs.insert(manifest.epoch) {
            numbers.insert(manifest.number);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::{file, manifest};
    use crate::manifest::{data_path, savepoint_path};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn stat(path: &str, modified: Millis) -> Stat {
        Stat { path: path.to_owned(), bytes: 1, modified }
    }

    /// Manifest `number` of epoch `number`, which names the file of its own epoch and of the one before.
    fn chained(number: u64) -> Manifest {
        let epochs = number.saturating_sub(1).max(1)..=number;
        manifest(number, number, epochs.map(|e| file(&data_path(e, 1, "slices"), e)).collect())
    }

    fn listing(manifests: &[Manifest]) -> Vec<Stat> {
        let mut paths: BTreeSet<String> = manifests.iter().map(|m| Manifest::path(m.number)).collect();
        paths.extend(manifests.iter().flat_map(Manifest::files).map(|f| f.path.clone()));
        paths.iter().map(|p| stat(p, 0)).collect()
    }

    #[test]
    fn what_only_old_manifests_name_goes_after_them() {
        let manifests: Vec<_> = (1..=5).map(chained).collect();
        let listing = listing(&manifests);
        let of = Inventory { manifests: &manifests, savepoints: &[], listing: &listing };
        let plan = plan(of, 2, 100, 101);
        assert_eq!(plan.manifests, [1, 2, 3].map(Manifest::path));
        assert_eq!(plan.files, [1, 2].map(|e| data_path(e, 1, "slices")), "3 is in the chain of 4");
        assert!(plan.in_order().take(3).all(|p| p.starts_with("manifests/")));
        let young = super::plan(of, 2, 100, 100);
        assert_eq!((young.manifests.len(), young.files.len()), (3, 0), "young files stay");
    }

    #[test]
    fn a_savepoint_keeps_its_files_until_it_is_deleted() {
        let manifests: Vec<_> = (1..=5).map(chained).collect();
        let mut all = listing(&manifests);
        let saved = [(savepoint_path("nightly"), chained(2))];
        all.push(stat(&saved[0].0, 0));
        let with = plan(Inventory { manifests: &manifests, savepoints: &saved, listing: &all }, 1, 0, 1);
        assert_eq!(with.files, [data_path(3, 1, "slices")]);
        all.pop();
        let without = plan(Inventory { manifests: &manifests, savepoints: &[], listing: &all }, 1, 0, 1);
        assert_eq!(without.files.len(), 3);
    }

    #[test]
    fn while_one_cannot_be_read_no_file_goes() {
        let manifests: Vec<_> = (1..=5).map(chained).collect();
        for unread in [Manifest::path(6), Manifest::path(1), savepoint_path("nightly")] {
            let mut all = listing(&manifests);
            all.push(stat(&unread, 0));
            let read: Vec<_> = manifests.iter().filter(|m| Manifest::path(m.number) != unread).cloned().collect();
            let plan = plan(Inventory { manifests: &read, savepoints: &[], listing: &all }, 1, 0, 1);
            assert!(plan.files.is_empty() && plan.unread.contains(&unread) && !plan.manifests.is_empty(), "{plan:?}");
        }
    }

    #[test]
    fn restarts_do_not_push_out_older_epochs() {
        // 3 epochs, the last one written anew by five starts.
        let mut manifests: Vec<_> = (1..=3).map(chained).collect();
        manifests.extend((4..=8).map(|number| Manifest { number, ..chained(3) }));
        let all = listing(&manifests);
        let plan = plan(Inventory { manifests: &manifests, savepoints: &[], listing: &all }, 2, 0, 1);
        assert_eq!(plan.manifests, [1, 3, 4, 5, 6, 7].map(Manifest::path));
    }

    #[test]
    fn files_of_the_open_epoch_and_of_one_given_up_stay_and_strangers_too() {
        let manifests = [chained(5)];
        let mut all = listing(&manifests);
        let stay = [data_path(6, 1, "given-up"), data_path(7, 1, "open"), "owner.json".into(), "data/notes.txt".into()];
        all.extend(stay.iter().map(|p| stat(p, 0)));
        all.push(stat(&data_path(4, 0, "zombie"), 0));
        let plan = plan(Inventory { manifests: &manifests, savepoints: &[], listing: &all }, 1, 10, 1_000_000);
        assert_eq!(plan.in_order().collect::<Vec<_>>(), [data_path(4, 0, "zombie")]);
        let nothing = super::plan(Inventory { manifests: &[], savepoints: &[], listing: &all }, 1, 10, 1_000_000);
        assert_eq!(nothing, Plan::default());
    }

    proptest! {
        #[test]
        fn nothing_that_is_named_goes_and_the_second_time_nothing_at_all(
            // For each manifest: how much its epoch grows, and the files it names.
            manifests in prop::collection::vec((0u64..3, prop::collection::btree_set((1u64..12, 0u8..3), 0..6)), 1..12),
            saved in prop::collection::btree_set(0usize..12, 0..3),
            strays in prop::collection::btree_set((1u64..40, 0u8..3), 0..20),
            ages in prop::collection::vec(0i64..200, 60),
            keep in 0usize..5,
        ) {
            let name = |(epoch, n): &(u64, u8)| data_path(*epoch, 1, &format!("t{n}"));
            let mut epoch = 0;
            let all: Vec<Manifest> = manifests.iter().enumerate().map(|(at, (grow, files))| {
                epoch += grow;
                manifest(at as u64 + 1, epoch, files.iter().map(|f| file(&name(f), f.0)).collect())
            }).collect();
            let savepoints: Vec<(String, Manifest)> = saved.iter().filter_map(|at| all.get(*at))
                .map(|m| (savepoint_path(&format!("s{}", m.number)), m.clone())).collect();
            let mut paths: BTreeSet<String> = strays.iter().map(name).collect();
            paths.extend(all.iter().flat_map(Manifest::files).map(|f| f.path.clone()));
            let mut store: BTreeMap<String, Millis> =
                paths.into_iter().zip(ages.iter().copied().cycle()).collect();
            store.extend(all.iter().map(|m| (Manifest::path(m.number), 0)));
            store.extend(savepoints.iter().map(|(path, _)| (path.clone(), 0)));

            let mut manifests = all.clone();
            let look = |store: &BTreeMap<String, Millis>| store.iter().map(|(p, m)| stat(p, *m)).collect::<Vec<_>>();
            let first = plan(
                Inventory { manifests: &manifests, savepoints: &savepoints, listing: &look(&store) }, keep, 100, 200);
            for path in first.in_order() {
                prop_assert!(store.remove(path).is_some(), "{} is not there", path);
                manifests.retain(|m| Manifest::path(m.number) != path);
                // After any step a crash: every manifest that is still there can be restored.
                if !path.starts_with("manifests/") {
                    for file in manifests.iter().chain(savepoints.iter().map(|(_, m)| m)).flat_map(Manifest::files) {
                        prop_assert!(store.contains_key(&file.path), "{} is gone", file.path);
                    }
                }
            }
            let newest = all.last().unwrap();
            prop_assert!(manifests.contains(newest));
            let epochs = |of: &[Manifest]| of.iter().map(|m| m.epoch).collect::<BTreeSet<_>>();
            prop_assert_eq!(epochs(&manifests).len(), epochs(&all).len().min(keep.max(1)));
            for stray in strays.iter().filter(|(e, _)| *e > newest.epoch) {
                prop_assert!(store.contains_key(&name(stray)));
            }
            let second = plan(
                Inventory { manifests: &manifests, savepoints: &savepoints, listing: &look(&store) }, keep, 100, 200);
            prop_assert_eq!(second, Plan::default());
        }
    }
}
