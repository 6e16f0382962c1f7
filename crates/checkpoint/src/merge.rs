//! Decides which chains of pieces are worth writing anew as one.
//!
//! ```text
//!  base 41 ◀─ 42 ◀─ 43 ◀─ 44 ◀─ 45     45 comes while the first four are merged:
//!  └────── merged ───────┘  45         it stays behind the new base
//! ```
//!
//! A long chain makes a restore slow, and a chain whose changes outweigh its base keeps rows in the store that are long
//! gone. To merge costs reading and writing the whole chain once, so it waits until one of the two is the case; then the
//! cost is at most proportional to what was written since.
//!
//! The merging itself (`state::table::alive`) runs beside the job. A merged file is named by the next manifest, so it has
//! that one's epoch in its name and [`crate::retain`] leaves it alone until then.

use crate::manifest::{Chain, FileRef, Manifest};

/// When a chain is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeConfig {
    /// Pieces of a chain. Default 16. Fewer: faster restores, more is written anew.
    pub pieces_max: usize,
    /// Bytes of changes below which a chain is left alone though they outweigh its base. Default 1 MiB: small tables
    /// would be merged at every checkpoint otherwise.
    pub changes_min: u64,
    /// Bytes that one plan reads at most, but for a single larger chain. Default 256 MiB.
    pub bytes_max: u64,
}

impl Default for MergeConfig {
    fn default() -> MergeConfig {
        MergeConfig { pieces_max: 16, changes_min: 1 << 20, bytes_max: 256 << 20 }
    }
}

/// A chain to write anew as one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    pub node: String,
    pub table: String,
    pub task: usize,
    /// All pieces that the chain has now, oldest first.
    pub pieces: Vec<FileRef>,
}

impl Merge {
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|p| p.bytes).sum()
    }

    /// Puts the merged piece in the place of those it was made of. `false`: the chain does not begin with them any more,
    /// for example because the task has saved everything since; then `merged` is of no use.
    pub fn apply(&self, chain: &mut Chain, merged: FileRef) -> bool {
        if !chain.pieces.starts_with(&self.pieces) {
            return false;
        }
        chain.pieces.splice(..self.pieces.len(), [merged]);
        true
    }
}

/// What to merge now, the worst chain first.
pub fn plan(manifest: &Manifest, config: MergeConfig) -> Vec<Merge> {
    let mut worth: Vec<(u64, Merge)> = Vec::new();
    for node in &manifest.nodes {
        for table in &node.tables {
            for chain in &table.chains {
                if let Some(need) = need(chain, config) {
                    let (node, table) = (node.id.clone(), table.name.clone());
                    worth.push((need, Merge { node, table, task: chain.task, pieces: chain.pieces.clone() }));
                }
            }
        }
    }
    worth.sort_by_key(|(need, _)| std::cmp::Reverse(*need));
    let mut bytes = 0;
    let mut fits = |merge: &Merge| {
        let first = bytes == 0;
        bytes += merge.bytes();
        first || bytes <= config.bytes_max
    };
    worth.into_iter().map(|(_, merge)| merge).take_while(|merge| fits(merge)).collect()
}

/// How much a chain wants to be merged, in hundredths of what would be reason enough; `None`: it is not worth it.
fn need(chain: &Chain, config: MergeConfig) -> Option<u64> {
    let [base, changes @ ..] = chain.pieces.as_slice() else { return None };
    if changes.is_empty() {
        return None;
    }
    let changed: u64 = changes.iter().map(|p| p.bytes).sum();
    let long = chain.pieces.len() > config.pieces_max;
    let heavy = changed > base.bytes && changed >= config.changes_min;
    let by_length = chain.pieces.len() as u64 * 100 / config.pieces_max.max(1) as u64;
    let by_weight = changed.saturating_mul(100) / base.bytes.max(1);
    match (long, heavy) {
        (false, false) => None,
        (true, false) => Some(by_length),
        (false, true) => Some(by_weight),
        (true, true) => Some(by_length.max(by_weight)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::{file, manifest};

    const CONFIG: MergeConfig = MergeConfig { pieces_max: 4, changes_min: 50, bytes_max: 1_000 };

    fn chain(task: usize, bytes: &[u64]) -> Chain {
        let piece = |(at, bytes): (usize, &u64)| FileRef { bytes: *bytes, ..file(&format!("data/{at}-1-{task}"), 1) };
        Chain { task, pieces: bytes.iter().enumerate().map(piece).collect() }
    }

    fn planned(chains: Vec<Chain>) -> Vec<usize> {
        let mut of = manifest(1, 1, Vec::new());
        of.nodes[0].tables[0].chains = chains;
        plan(&of, CONFIG).into_iter().map(|m| m.task).collect()
    }

    #[test]
    fn long_chains_and_heavy_changes_are_merged_and_others_left_alone() {
        let chains = vec![
            chain(0, &[100, 1, 1, 1]),
            chain(1, &[100, 1, 1, 1, 1]),
            chain(2, &[100, 60, 40]),
            chain(3, &[100, 60, 41]),
            chain(4, &[10, 20, 20]),
            chain(5, &[300]),
            chain(6, &[]),
        ];
        assert_eq!(planned(chains), [1, 3], "4 is too small to matter");
    }

    #[test]
    fn the_worst_come_first_and_the_rest_another_time() {
        let chains = vec![chain(0, &[200, 210]), chain(1, &[100, 400]), chain(2, &[1, 1, 1, 1, 1, 1, 1])];
        assert_eq!(planned(chains), [1, 2, 0]);
        assert_eq!(planned(vec![chain(0, &[500, 600]), chain(1, &[400, 900])]), [1], "one at least");
    }

    #[test]
    fn what_was_saved_since_stays_behind_the_merged_piece() {
        let merge = Merge { node: "n".into(), table: "t".into(), task: 0, pieces: chain(0, &[9, 8]).pieces };
        let mut grown = chain(0, &[9, 8, 7]);
        assert!(merge.apply(&mut grown, file("data/5-1-m", 5)));
        let paths: Vec<_> = grown.pieces.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, ["data/5-1-m", "data/2-1-0"]);
        let mut anew = chain(0, &[30]);
        let before = anew.clone();
        assert!(!merge.apply(&mut anew, file("data/5-1-m", 5)));
        assert_eq!(anew, before);
    }
}
