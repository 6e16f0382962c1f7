//! The ids of the end of a history, for as long as live rows may repeat them.
//!
//! ```text
//!            forgotten            │ remembered, in slices of event time      │ greatest time
//!  ──────────────────────────────[floor──┬───────┬───────┬───────┬──────────]
//! ```
//!
//! Bounded by a span of event time and by bytes. Where the bytes do not suffice the oldest slices go, and the floor rises:
//! what is asked below it is not known, and the answer says so.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use millstream_core::{Error, Millis, Result};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};

/// Slices that the span is cut into: what is forgotten at a time.
const SLICES: i64 = 64;

/// About what an id takes: its entry in the map with room to grow, and in its slice.
const ID_BYTES: usize = 64;

/// An id in 128 bits: a number or a short text is itself, of a longer one it is two hashes, which no two of the billions of
/// ids that can be met here are going to share.
type Id = u128;

#[derive(Debug)]
pub struct Ids {
    span: Millis,
    slice: Millis,
    ids_max: usize,
    /// Each with the slice in which it came last.
    by_id: HashMap<Id, i64>,
    slices: BTreeMap<i64, Vec<Id>>,
    /// Entries in all slices.
    held: usize,
    latest: Option<Millis>,
    /// Rows of this time or earlier may have gone. `None`: everything that came is there.
    floor: Option<Millis>,
}

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Yes,
    No,
    /// It is older than what is remembered.
    Forgotten,
}

impl Ids {
    pub fn new(span: Millis, bytes_max: usize) -> Ids {
        Ids {
            span,
            slice: (span / SLICES).max(1),
            ids_max: (bytes_max / ID_BYTES).max(1),
            by_id: HashMap::new(),
            slices: BTreeMap::new(),
            held: 0,
            latest: None,
            floor: None,
        }
    }

    /// For rows that are read again: they have come to `latest` before.
    pub fn again(mut self, latest: Option<Millis>) -> Ids {
        self.latest = latest;
        self
    }

    /// Rows of this time or earlier are forgotten.
    pub fn floor(&self) -> Option<Millis> {
        self.floor.max(self.latest.map(|latest| latest.saturating_sub(self.span)))
    }

    /// Takes in rows of the history. Rows without an id or a time cannot be repeated in a way that could be seen.
    pub fn remember(&mut self, ids: &[Option<Id>], times: &Int64Array) {
        // Row by row, since each is an entry of its own in a hash table.
        for (row, id) in ids.iter().enumerate() {
            if times.is_null(row) {
                continue;
            }
            let time = times.value(row);
            self.latest = self.latest.max(Some(time));
            let (Some(id), true) = (id, self.floor.is_none_or(|floor| time > floor)) else { continue };
            let slice = time.div_euclid(self.slice);
            self.by_id.insert(*id, slice);
            self.slices.entry(slice).or_default().push(*id);
            self.held += 1;
            if self.held > self.ids_max {
                self.forget_oldest();
            }
        }
        if let Some(latest) = self.latest {
            let floor = latest.saturating_sub(self.span);
            while self.slices.first_key_value().is_some_and(|(slice, _)| (slice + 1) * self.slice - 1 <= floor) {
                self.forget_oldest();
            }
        }
    }

    fn forget_oldest(&mut self) {
        let Some((slice, ids)) = self.slices.pop_first() else { return };
        self.held -= ids.len();
        for id in ids {
            // One that came again later is still known by that.
            if self.by_id.get(&id) == Some(&slice) {
                self.by_id.remove(&id);
            }
        }
        self.floor = self.floor.max(Some((slice + 1).saturating_mul(self.slice) - 1));
    }

    /// The floor decides first: what is still there below it by chance must not make a difference.
    pub fn knows(&self, id: Id, time: Millis) -> Known {
        if self.floor().is_some_and(|floor| time <= floor) {
            Known::Forgotten
        } else if self.by_id.contains_key(&id) {
            Known::Yes
        } else {
            Known::No
        }
    }
}

/// The ids of a column; `None` where it is NULL.
pub fn ids_of(column: &ArrayRef) -> Result<Vec<Option<Id>>> {
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().map(|v| v.map(|v| of_bytes(v.as_bytes()))).collect(),
        DataType::Binary => column.as_binary::<i32>().iter().map(|v| v.map(of_bytes)).collect(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().iter().map(|v| v.map(u128::from)).collect(),
        kind if kind.is_integer() => {
            let numbers = cast(column, &DataType::Int64)?;
            numbers.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| v as u64 as u128)).collect()
        }
        other => return Err(Error::internal(format!("an id as {other}"))),
    })
}

/// Up to 15 bytes are the id itself, with their number above them.
fn of_bytes(bytes: &[u8]) -> Id {
    if bytes.len() < 16 {
        let mut id = [0; 16];
        id[..bytes.len()].copy_from_slice(bytes);
        id[15] = bytes.len() as u8;
        return u128::from_le_bytes(id);
    }
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        hasher.write(bytes);
        hasher.finish()
    };
    // The topmost byte tells them from short ones.
    (u128::from(half(1)) << 64 | u128::from(half(2))) | (0xff << 120)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remember(ids: &mut Ids, rows: &[(i64, i64)]) {
        let of: Vec<Option<Id>> = rows.iter().map(|r| Some(r.0 as u128)).collect();
        ids.remember(&of, &rows.iter().map(|r| Some(r.1)).collect());
    }

    #[test]
    fn the_span_is_remembered_and_what_is_older_is_said_to_be_forgotten() {
        let mut ids = Ids::new(640, 1 << 20);
        remember(&mut ids, &[(1, 1000), (2, 1100), (3, 2000)]);
        assert_eq!(ids.knows(3, 2000), Known::Yes);
        assert_eq!(ids.knows(2, 1100), Known::Forgotten);
        assert_eq!(ids.knows(9, 1500), Known::No);
        assert_eq!(ids.floor(), Some(2000 - 640));
        assert_eq!(ids.by_id.len(), 1, "what is forgotten takes no room");
    }

    #[test]
    fn where_bytes_do_not_suffice_the_floor_rises_and_nothing_is_taken_for_new() {
        let mut ids = Ids::new(6400, 100 * ID_BYTES);
        remember(&mut ids, &(0..1000).map(|i| (i, i * 5)).collect::<Vec<_>>());
        assert!(ids.by_id.len() <= 100 && ids.held <= 100);
        assert!((0..1000).all(|i| ids.knows(i as u128, i * 5) != Known::No));
        assert_eq!(ids.knows(999, 4995), Known::Yes);
        assert_eq!(ids.knows(0, 0), Known::Forgotten);
    }

    #[test]
    fn an_id_that_came_again_later_is_still_known() {
        let mut ids = Ids::new(640, 1 << 20);
        remember(&mut ids, &[(1, 1000), (1, 1900), (2, 2000)]);
        assert_eq!(ids.knows(1, 1900), Known::Yes);
    }

    #[test]
    fn texts_are_told_apart_by_all_their_bytes() {
        let texts = [
            "",
            "a",
            "a\0",
            "0123456789abcde",
            "0123456789abcdef",
            "0123456789abcdeg",
            "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        ];
        let column: ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(texts.to_vec()));
        let mut ids = ids_of(&column).expect("texts");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), texts.len());
    }
}
