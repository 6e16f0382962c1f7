//! Byte strings in their order, equal ones side by side: the rows of one partition.
//!
//! ```text
//!  few rows    one leaf:   number | ends | bytes          all of it in one piece of memory
//!  many rows   a tree:     leaf, leaf, leaf ..            of about LEAF_BYTES each, in order
//! ```
//!
//! Most partitions hold a handful of rows, and there may be millions of them: such a partition is one allocation. In a
//! large one a row is found by two binary searches, and to put it in its place moves the bytes of its leaf only.

/// A leaf that has grown past this is divided.
const LEAF_BYTES: usize = 4_096;

/// Rows as byte strings, in order.
#[derive(Default)]
pub(super) struct Sorted(Shape);

enum Shape {
    Leaf(Leaf),
    Tree(Box<Tree>),
}

impl Default for Shape {
    fn default() -> Shape {
        Shape::Leaf(Leaf::default())
    }
}

/// Leaves in order, none of them empty.
struct Tree {
    leaves: Vec<Leaf>,
    rows: usize,
    /// Of the leaves, by capacity.
    bytes: usize,
}

impl Sorted {
    /// These rows, which stand in order, in as much memory as they need.
    pub fn of(rows: &[&[u8]]) -> Sorted {
        let mut leaves = Vec::new();
        let (mut from, mut bytes) = (0, 0);
        for (at, row) in rows.iter().enumerate() {
            if at > from && Leaf::head(at - from + 1) + bytes + row.len() > LEAF_BYTES {
                leaves.push(Leaf::of(&rows[from..at]));
                (from, bytes) = (at, 0);
            }
            bytes += row.len();
        }
        let last = Leaf::of(&rows[from..]);
        if leaves.is_empty() {
            return Sorted(Shape::Leaf(last));
        }
        leaves.push(last);
        let bytes = leaves.iter().map(|l| l.data.capacity()).sum();
        Sorted(Shape::Tree(Box::new(Tree { leaves, rows: rows.len(), bytes })))
    }

    /// All rows are in one piece of memory, which is no more than about [`LEAF_BYTES`] for several of them.
    pub fn is_small(&self) -> bool {
        matches!(self.0, Shape::Leaf(_))
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Shape::Leaf(leaf) => leaf.len(),
            Shape::Tree(tree) => tree.rows,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Shape::Leaf(leaf) => leaf.data.capacity(),
            Shape::Tree(tree) => tree.bytes + tree.leaves.capacity() * size_of::<Leaf>() + size_of::<Tree>(),
        }
    }

    fn leaves(&self) -> &[Leaf] {
        match &self.0 {
            Shape::Leaf(leaf) => std::slice::from_ref(leaf),
            Shape::Tree(tree) => &tree.leaves,
        }
    }

    pub fn last(&self) -> Option<&[u8]> {
        let leaf = self.leaves().last()?;
        leaf.len().checked_sub(1).map(|at| leaf.get(at))
    }

    /// How many rows are smaller than `bytes`; not counted further than `most`.
    pub fn position(&self, bytes: &[u8], most: usize) -> usize {
        let mut before = 0;
        let (leaf, at) = self.find(bytes);
        for passed in &self.leaves()[..leaf] {
            before += passed.len();
            if before >= most {
                return most;
            }
        }
        (before + at).min(most)
    }

    /// How many rows are equal to `bytes`.
    pub fn count(&self, bytes: &[u8]) -> usize {
        let (mut leaf, mut at) = self.find(bytes);
        let (leaves, mut count) = (self.leaves(), 0);
        while let Some(here) = leaves.get(leaf) {
            let equal = here.upper(bytes) - at;
            count += equal;
            if equal == 0 || at + equal < here.len() {
                break;
            }
            (leaf, at) = (leaf + 1, 0);
        }
        count
    }

    /// The rows from a position on, in order.
    pub fn from(&self, position: usize) -> impl Iterator<Item = &[u8]> {
        let (mut leaf, mut at) = (0, position);
        let leaves = self.leaves();
        while let Some(here) = leaves.get(leaf).filter(|l| at >= l.len()) {
            at -= here.len();
            leaf += 1;
        }
        let mut first = at;
        leaves[leaf.min(leaves.len())..].iter().flat_map(move |l| {
            let from = std::mem::take(&mut first);
            (from..l.len()).map(move |i| l.get(i))
        })
    }

    /// The leaf with the first row that is not smaller than `bytes`, and its place there; behind the last one where
    /// there is none.
    fn find(&self, bytes: &[u8]) -> (usize, usize) {
        let leaves = self.leaves();
        if let [leaf] = leaves {
            return (0, leaf.lower(bytes));
        }
        let leaf = leaves.partition_point(|l| l.get(l.len() - 1) < bytes);
        leaves.get(leaf).map_or((leaf, 0), |l| (leaf, l.lower(bytes)))
    }

    pub fn insert(&mut self, bytes: &[u8], copies: usize) {
        for _ in 0..copies {
            self.insert_one(bytes);
        }
    }

    fn insert_one(&mut self, bytes: &[u8]) {
        let (mut leaf, mut at) = self.find(bytes);
        match &mut self.0 {
            Shape::Leaf(only) => {
                only.insert(at, bytes);
                if only.is_large() {
                    let right = only.split(at);
                    let leaves = vec![std::mem::take(only), right];
                    let (rows, bytes) = leaves.iter().fold((0, 0), |(n, b), l| (n + l.len(), b + l.data.capacity()));
                    self.0 = Shape::Tree(Box::new(Tree { leaves, rows, bytes }));
                }
            }
            Shape::Tree(tree) => {
                if leaf == tree.leaves.len() {
                    leaf -= 1;
                    at = tree.leaves[leaf].len();
                }
                tree.rows += 1;
                let here = &mut tree.leaves[leaf];
                tree.bytes -= here.data.capacity();
                here.insert(at, bytes);
                if here.is_large() {
                    let right = here.split(at);
                    tree.bytes += here.data.capacity() + right.data.capacity();
                    tree.leaves.insert(leaf + 1, right);
                } else {
                    tree.bytes += here.data.capacity();
                }
            }
        }
    }

    /// Takes out so many rows that are equal to `bytes`, or as many as there are.
    pub fn remove(&mut self, bytes: &[u8], copies: usize) {
        let mut left = copies;
        while left > 0 {
            let (leaf, at) = self.find(bytes);
            let equal = self.leaves().get(leaf).map_or(0, |l| l.upper(bytes) - at).min(left);
            if equal == 0 {
                return;
            }
            self.remove_at(leaf, at, at + equal);
            left -= equal;
        }
    }

    fn remove_at(&mut self, leaf: usize, from: usize, to: usize) {
        match &mut self.0 {
            Shape::Leaf(only) => only.remove(from, to),
            Shape::Tree(tree) => {
                tree.rows -= to - from;
                let here = &mut tree.leaves[leaf];
                tree.bytes -= here.data.capacity();
                here.remove(from, to);
                tree.bytes += here.data.capacity();
                if here.len() == 0 {
                    tree.bytes -= here.data.capacity();
                    tree.leaves.remove(leaf);
                } else if here.data.len() < LEAF_BYTES / 4 {
                    let (small, next) = (here.data.len(), leaf + 1);
                    if tree.leaves.get(next).is_some_and(|n| n.data.len() + small < LEAF_BYTES * 3 / 4) {
                        let next = tree.leaves.remove(next);
                        let here = &mut tree.leaves[leaf];
                        tree.bytes -= here.data.capacity() + next.data.capacity();
                        here.append(&next);
                        tree.bytes += here.data.capacity();
                    }
                }
            }
        }
        self.settle();
    }

    /// Keeps the first `keep` rows.
    pub fn truncate(&mut self, keep: usize) {
        if keep >= self.len() {
            return;
        }
        match &mut self.0 {
            Shape::Leaf(only) => only.remove(keep, only.len()),
            Shape::Tree(tree) => {
                let (mut leaf, mut before) = (0, 0);
                while before + tree.leaves[leaf].len() <= keep {
                    before += tree.leaves[leaf].len();
                    leaf += 1;
                }
                let here = &mut tree.leaves[leaf];
                here.remove(keep - before, here.len());
                tree.leaves.truncate(leaf + usize::from(keep > before));
                tree.rows = keep;
                tree.bytes = tree.leaves.iter().map(|l| l.data.capacity()).sum();
            }
        }
        self.settle();
    }

    /// A tree of one leaf is that leaf.
    fn settle(&mut self) {
        let Shape::Tree(tree) = &mut self.0 else { return };
        if tree.leaves.len() <= 1 {
            self.0 = Shape::Leaf(tree.leaves.pop().unwrap_or_default());
        } else if tree.leaves.capacity() > 4 * tree.leaves.len() {
            tree.leaves.shrink_to(2 * tree.leaves.len());
        }
    }
}

/// Some rows in one piece of memory: their number, where each ends among the bytes, the bytes. All numbers are 4 bytes,
/// little-endian. Nothing at all: no rows.
#[derive(Default)]
struct Leaf {
    data: Vec<u8>,
}

impl Leaf {
    fn of(rows: &[&[u8]]) -> Leaf {
        if rows.is_empty() {
            return Leaf::default();
        }
        let bytes: usize = rows.iter().map(|row| row.len()).sum();
        let mut data = Vec::with_capacity(Leaf::head(rows.len()) + bytes);
        data.extend_from_slice(&(rows.len() as u32).to_le_bytes());
        let mut end = 0;
        for row in rows {
            end += row.len() as u32;
            data.extend_from_slice(&end.to_le_bytes());
        }
        rows.iter().for_each(|row| data.extend_from_slice(row));
        Leaf { data }
    }

    fn word(&self, at: usize) -> usize {
        let bytes = self.data[at..at + 4].try_into().expect("a slice of four bytes");
        u32::from_le_bytes(bytes) as usize
    }

    fn set_word(&mut self, at: usize, value: usize) {
        self.data[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }

    fn len(&self) -> usize {
        if self.data.is_empty() { 0 } else { self.word(0) }
    }

    /// Where the bytes begin, of so many rows.
    const fn head(rows: usize) -> usize {
        4 + 4 * rows
    }

    /// Where row `at` begins among the bytes.
    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.word(Leaf::head(at - 1)) }
    }

    fn get(&self, at: usize) -> &[u8] {
        let head = Leaf::head(self.len());
        &self.data[head + self.start(at)..head + self.start(at + 1)]
    }

    /// The first row for which `passed` does not hold.
    fn partition(&self, passed: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if passed(self.get(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn lower(&self, bytes: &[u8]) -> usize {
        self.partition(|row| row < bytes)
    }

    fn upper(&self, bytes: &[u8]) -> usize {
        self.partition(|row| row <= bytes)
    }

    fn is_large(&self) -> bool {
        self.data.len() > LEAF_BYTES && self.len() > 1
    }

    fn insert(&mut self, at: usize, row: &[u8]) {
        let rows = self.len();
        if rows == 0 {
            self.data.clear();
            self.data.reserve_exact(Leaf::head(1) + row.len());
            self.data.extend_from_slice(&[0; Leaf::head(1)]);
            self.data.extend_from_slice(row);
            self.set_word(0, 1);
            self.set_word(4, row.len());
            return;
        }
        let (head, start, old) = (Leaf::head(rows), self.start(at), self.data.len());
        let new = old + 4 + row.len();
        if new > self.data.capacity() {
            // A quarter more than needed, not twice as much: there may be millions of leaves.
            self.data.reserve_exact(new + new / 4 - old);
        }
        self.data.resize(new, 0);
        self.data.copy_within(head + start..old, head + start + 4 + row.len());
        // The ends from here on and, behind them, the bytes of the rows before.
        self.data.copy_within(Leaf::head(at)..head + start, Leaf::head(at + 1));
        self.data[head + 4 + start..head + 4 + start + row.len()].copy_from_slice(row);
        self.set_word(0, rows + 1);
        self.set_word(Leaf::head(at), start + row.len());
        for later in at + 1..=rows {
            let end = self.word(Leaf::head(later));
            self.set_word(Leaf::head(later), end + row.len());
        }
    }

    /// Takes out the rows from `from` to before `to`.
    fn remove(&mut self, from: usize, to: usize) {
        let rows = self.len();
        if from >= to {
            return;
        }
        if to - from == rows {
            self.data = Vec::new();
            return;
        }
        let (head, start, end, old) = (Leaf::head(rows), self.start(from), self.start(to), self.data.len());
        let gone = Leaf::head(to) - Leaf::head(from);
        self.data.copy_within(Leaf::head(to)..head + start, Leaf::head(from));
        self.data.copy_within(head + end..old, head + start - gone);
        self.data.truncate(old - gone - (end - start));
        let left = rows - (to - from);
        self.set_word(0, left);
        for later in from..left {
            let moved = self.word(Leaf::head(later)) - (end - start);
            self.set_word(Leaf::head(later), moved);
        }
        if self.data.capacity() > 2 * self.data.len() + 256 {
            self.data.shrink_to(self.data.len() + self.data.len() / 4);
        }
    }

    /// Gives away the rows of the upper half; the last one alone, where that is the row just put at `put`: rows that
    /// come in their order then leave full leaves behind.
    fn split(&mut self, put: usize) -> Leaf {
        let rows = self.len();
        let at = if put + 1 == rows { put } else { rows / 2 };
        let (head, start) = (Leaf::head(rows), self.start(at));
        let mut right = Leaf { data: Vec::with_capacity(self.data.len() - start) };
        right.data.extend_from_slice(&[0; 4]);
        right.data.extend_from_slice(&self.data[Leaf::head(at)..head]);
        right.data.extend_from_slice(&self.data[head + start..]);
        right.set_word(0, rows - at);
        for row in 0..rows - at {
            let end = right.word(Leaf::head(row)) - start;
            right.set_word(Leaf::head(row), end);
        }
        self.remove(at, rows);
        right
    }

    /// Puts the rows of a later leaf behind.
    fn append(&mut self, other: &Leaf) {
        for row in 0..other.len() {
            self.insert(self.len(), other.get(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Move {
        Insert(u16, usize),
        Remove(u16, usize),
        Truncate(usize),
    }

    /// Strings of many lengths; the same number is the same string.
    fn text(number: u16) -> Vec<u8> {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(2 + (usize::from(number) * 37) % 600, 7);
        bytes
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            12 => (0u16..200, 1usize..4).prop_map(|(n, c)| Move::Insert(n, c)),
            6 => (0u16..200, 1usize..4).prop_map(|(n, c)| Move::Remove(n, c)),
            1 => (0usize..120).prop_map(Move::Truncate),
        ];
        prop::collection::vec(one, 0..300)
    }

    proptest! {
        #[test]
        fn rows_stand_in_order_whatever_comes_and_goes(moves in moves()) {
            let (mut sorted, mut model): (Sorted, Vec<Vec<u8>>) = Default::default();
            for m in moves {
                match m {
                    Move::Insert(n, copies) => {
                        sorted.insert(&text(n), copies);
                        (0..copies).for_each(|_| model.push(text(n)));
                        model.sort();
                    }
                    Move::Remove(n, copies) => {
                        sorted.remove(&text(n), copies);
                        for _ in 0..copies {
                            if let Some(at) = model.iter().position(|row| *row == text(n)) {
                                model.remove(at);
                            }
                        }
                    }
                    Move::Truncate(keep) => {
                        sorted.truncate(keep);
                        model.truncate(keep);
                    }
                }
                prop_assert_eq!(sorted.len(), model.len());
                prop_assert_eq!(sorted.last(), model.last().map(Vec::as_slice));
                let bytes: usize = sorted.leaves().iter().map(|l| l.data.capacity()).sum();
                prop_assert!(sorted.bytes() >= bytes && sorted.bytes() <= bytes + 24 * sorted.leaves().len() * 4 + 128);
            }
            prop_assert!(sorted.from(0).eq(model.iter().map(Vec::as_slice)));
            let made = Sorted::of(&model.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert!(made.from(0).eq(sorted.from(0)));
            prop_assert_eq!((made.len(), made.last()), (sorted.len(), sorted.last()));
            prop_assert!(made.bytes() <= sorted.bytes() + made.leaves().len() * 4 * size_of::<Leaf>());
            for from in [1, model.len() / 2, model.len(), model.len() + 1] {
                prop_assert!(sorted.from(from).eq(model.iter().skip(from).map(Vec::as_slice)));
            }
            for n in 0..200 {
                let (row, before) = (text(n), model.iter().filter(|r| **r < text(n)).count());
                prop_assert_eq!(sorted.count(&row), model.iter().filter(|r| **r == row).count());
                prop_assert_eq!(sorted.position(&row, usize::MAX), before);
                prop_assert_eq!(sorted.position(&row, 5), before.min(5));
            }
        }
    }

    #[test]
    fn rows_that_come_in_order_fill_their_leaves() {
        let mut sorted = Sorted::default();
        (0..20_000u32).for_each(|n| sorted.insert(&n.to_be_bytes(), 1));
        let leaves = sorted.leaves().len();
        assert!(leaves <= 20_000 * 8 / LEAF_BYTES + 2, "{leaves} leaves");
        (0..19_990u32).for_each(|n| sorted.remove(&n.to_be_bytes(), 1));
        assert!(sorted.bytes() < 1_024, "{} bytes for ten rows", sorted.bytes());
    }
}
