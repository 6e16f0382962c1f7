//! Some bytes for each id, such as a row, in large pieces of memory.
//!
//! ```text
//!  segment   id len row | id len row | id len row ..     up to SEGMENT_BYTES
//!  places    by id: the segment and where in it
//! ```
//!
//! A row that replaces one of the same length is written over it. A segment of which more than half is left behind has
//! its other rows moved to the newest one and goes: one segment at a time, so no step waits for all of them.

/// Bytes of a segment; a row that is longer has one of its own.
const SEGMENT_BYTES: usize = 1 << 20;

/// In front of each row: its id and its length, 4 bytes each.
const HEAD: usize = 8;

#[derive(Default)]
pub(crate) struct Kept {
    segments: Vec<Segment>,
    /// Segments without memory, to be used again.
    free: Vec<u32>,
    /// The segment that rows are added to.
    newest: u32,
    places: Vec<Place>,
    /// Bytes of all segments, by capacity.
    held: usize,
}

#[derive(Default)]
struct Segment {
    bytes: Vec<u8>,
    /// Bytes of rows that are still there, with their heads.
    live: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u32,
    start: u32,
}

const NOWHERE: Place = Place { segment: u32::MAX, start: 0 };

impl Kept {
    fn place(&self, id: u32) -> Option<Place> {
        self.places.get(id as usize).copied().filter(|place| *place != NOWHERE)
    }

    pub fn get(&self, id: u32) -> Option<&[u8]> {
        self.place(id).map(|place| self.row(place))
    }

    fn row(&self, place: Place) -> &[u8] {
        let (bytes, start) = (&self.segments[place.segment as usize].bytes, place.start as usize);
        let len = u32::from_le_bytes(bytes[start + 4..start + HEAD].try_into().expect("four bytes"));
        &bytes[start + HEAD..start + HEAD + len as usize]
    }

    pub fn set(&mut self, id: u32, row: &[u8]) {
        if let Some(place) = self.place(id) {
            if self.row(place).len() == row.len() {
                let start = place.start as usize + HEAD;
                self.segments[place.segment as usize].bytes[start..start + row.len()].copy_from_slice(row);
                return;
            }
            self.remove(id);
        }
        self.append(id, row);
    }

    pub fn remove(&mut self, id: u32) {
        let Some(place) = self.place(id) else { return };
        let len = self.row(place).len() + HEAD;
        self.places[id as usize] = NOWHERE;
        self.segments[place.segment as usize].live -= len;
        self.clear_out(place.segment);
    }

    fn append(&mut self, id: u32, row: &[u8]) {
        let need = HEAD + row.len();
        if self.segments.is_empty() {
            self.segments.push(Segment::default());
        }
        let full = &self.segments[self.newest as usize].bytes;
        if !full.is_empty() && full.len() + need > SEGMENT_BYTES {
            let full = self.newest;
            self.newest = self.free.pop().unwrap_or_else(|| {
                self.segments.push(Segment::default());
                self.segments.len() as u32 - 1
            });
            self.clear_out(full);
        }
        let (newest, first) = (self.newest, self.segments.len() == 1);
        let segment = &mut self.segments[newest as usize];
        self.held -= segment.bytes.capacity();
        let start = segment.bytes.len();
        if start + need > segment.bytes.capacity() {
            // The first one grows with what is kept; behind a full one there will be as much again.
            let grown = if first { (2 * segment.bytes.capacity()).min(SEGMENT_BYTES) } else { SEGMENT_BYTES };
            let grown = grown.max(start + need);
            segment.bytes.reserve_exact(grown - start);
        }
        segment.bytes.extend_from_slice(&id.to_le_bytes());
        segment.bytes.extend_from_slice(&(row.len() as u32).to_le_bytes());
        segment.bytes.extend_from_slice(row);
        segment.live += need;
        self.held += segment.bytes.capacity();
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, NOWHERE);
        }
        self.places[id as usize] = Place { segment: newest, start: start as u32 };
    }

    /// Gives up a segment of which little is left.
    fn clear_out(&mut self, at: u32) {
        let segment = &mut self.segments[at as usize];
        if at == self.newest {
            if segment.live == 0 {
                self.held -= segment.bytes.capacity();
                segment.bytes = Vec::new();
            }
            return;
        }
        if segment.live * 2 > segment.bytes.len() {
            return;
        }
        let old = std::mem::take(&mut self.segments[at as usize]);
        self.held -= old.bytes.capacity();
        let mut start = 0;
        while start < old.bytes.len() {
            let word = |at: usize| u32::from_le_bytes(old.bytes[at..at + 4].try_into().expect("four bytes"));
            let (id, end) = (word(start), start + HEAD + word(start + 4) as usize);
            if self.place(id) == Some(Place { segment: at, start: start as u32 }) {
                // Less than half a segment: it finds room in the newest one and in one more at the most.
                self.append(id, &old.bytes[start + HEAD..end]);
            }
            start = end;
        }
        self.free.push(at);
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> usize {
        self.held + self.places.capacity() * size_of::<Place>() + self.segments.capacity() * size_of::<Segment>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn rows_stay_what_they_are_while_segments_come_and_go() {
        let (mut kept, mut model, mut state) = (Kept::default(), BTreeMap::new(), 1u64);
        for step in 0..60_000u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = (state >> 40) as u32 % 3_000;
            if (state >> 20) % 5 == 0 {
                kept.remove(id);
                model.remove(&id);
            } else {
                let row = vec![step as u8; (state >> 33) as usize % 2_000];
                kept.set(id, &row);
                model.insert(id, row);
            }
        }
        for id in 0..3_000 {
            assert_eq!(kept.get(id), model.get(&id).map(Vec::as_slice), "row {id}");
        }
        let live: usize = model.values().map(|row| row.len() + HEAD).sum();
        assert!(kept.bytes() < live * 5 / 2 + 2 * SEGMENT_BYTES, "{} bytes for {live}", kept.bytes());
        (0..3_000).for_each(|id| kept.remove(id));
        assert!(kept.bytes() < 3 * SEGMENT_BYTES, "{} bytes for nothing", kept.bytes());
        kept.set(5, &vec![7; 3 * SEGMENT_BYTES]);
        kept.set(6, b"next");
        assert_eq!(kept.get(5).map(<[u8]>::len), Some(3 * SEGMENT_BYTES));
        assert_eq!(kept.get(6), Some(&b"next"[..]));
    }
}
