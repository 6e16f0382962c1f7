//! Rows that wait for the watermark.
//!
//! ```text
//!  batches as they came, each with its rows in order of (time, tie)   ──take(watermark)──▶ chunks in that order
//!    A: 10 11 12 | 15 16        up to 12:   A 10 11 12 and B 13 14 do not overlap: two slices, nothing copied
//!    B: 13 14 | 19                          overlapping ones are merged
//! ```
//!
//! A batch is let go when its last row has gone. One of which little is left is copied into a smaller one, so that a
//! few rows far ahead of their time do not hold all that came with them.

use crate::operator::ROWS_MAX;
use crate::over::words::Words;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{interleave_record_batch, take_record_batch};
use millstream_core::{Batch, Millis, Result, Watermark};

/// Pieces of fewer rows than this are joined when there are many of them.
const SMALL: usize = 1_024;

pub(crate) struct Pending {
    time: usize,
    order: Option<usize>,
    pieces: Vec<Piece>,
}

struct Piece {
    rows: RecordBatch,
    /// Times and ties in the order in which the rows will go.
    times: ScalarBuffer<Millis>,
    ties: Option<ScalarBuffer<i64>>,
    /// The row at each place of that order. `None`: the rows stand in order.
    places: Option<Vec<u32>>,
    /// Rows before this place have gone.
    next: usize,
    bytes: usize,
    /// A checkpoint has these rows.
    saved: bool,
}

/// A run of places of one piece.
#[derive(Clone, Copy)]
struct Segment {
    piece: usize,
    from: usize,
    to: usize,
}

impl Pending {
    pub(crate) fn new(time: usize, order: Option<usize>) -> Pending {
        Pending { time, order, pieces: Vec::new() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(|p| p.bytes).sum()
    }

    /// The earliest time of a row that waits.
    pub(crate) fn first_time(&self) -> Option<Millis> {
        self.pieces.iter().map(|p| p.times[p.next]).min()
    }

    pub(crate) fn add(&mut self, rows: RecordBatch) -> Result<()> {
        self.insert(rows, false)
    }

    /// Takes rows in that a checkpoint has.
    pub(crate) fn load(&mut self, rows: RecordBatch) -> Result<()> {
        self.insert(rows, true)
    }

    /// The rows that no checkpoint has, or all; from now on, one has them. In the order in which they came, as far as
    /// that matters: rows of the same time and tie.
    pub(crate) fn save(&mut self, all: bool) -> Result<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        for piece in self.pieces.iter_mut().filter(|p| all || !p.saved) {
            piece.saved = true;
            rows.push(piece.rows(piece.next, piece.times.len())?);
        }
        Ok(rows)
    }

    fn insert(&mut self, rows: RecordBatch, saved: bool) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let times = Words::of(rows.column(self.time))?;
        let ties = self.order.map(|o| Words::of(rows.column(o))).transpose()?;
        let bytes = Batch::from(rows.clone()).bytes() + times.len() * 8;
        let sorted = match &ties {
            None => times.is_sorted(),
            Some(ties) => (1..times.len()).all(|i| (times[i - 1], ties[i - 1]) <= (times[i], ties[i])),
        };
        if sorted {
            self.pieces.push(Piece { rows, times, ties, places: None, next: 0, bytes, saved });
            return Ok(());
        }
        let mut places: Vec<u32> = (0..times.len() as u32).collect();
        // Stable, and quick on input that is nearly in order.
        match &ties {
            None => places.sort_by_key(|&i| times[i as usize]),
            Some(ties) => places.sort_by_key(|&i| (times[i as usize], ties[i as usize])),
        }
        let in_order = |column: &ScalarBuffer<i64>| places.iter().map(|&i| column[i as usize]).collect();
        let (times, ties) = (in_order(&times), ties.as_ref().map(in_order));
        self.pieces.push(Piece { rows, times, ties, places: Some(places), next: 0, bytes, saved });
        Ok(())
    }

    /// Hands over the rows with time at or before `to`, in order of (time, tie), and forgets them. Rows of the same
    /// time come in one chunk.
    pub(crate) fn take(
        &mut self,
        to: Watermark,
        mut hand: impl FnMut(&RecordBatch, &[Millis]) -> Result<()>,
    ) -> Result<()> {
        let mut ready: Vec<Segment> = Vec::new();
        for (i, piece) in self.pieces.iter().enumerate() {
            let end = piece.next + piece.times[piece.next..].partition_point(|t| *t <= to.0);
            if end > piece.next {
                ready.push(Segment { piece: i, from: piece.next, to: end });
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        ready.sort_by_key(|s| self.first(s));
        let mut from = 0;
        while from < ready.len() {
            let (mut to, mut last) = (from + 1, self.last(&ready[from]));
            while to < ready.len() && self.first(&ready[to]) <= last {
                last = last.max(self.last(&ready[to]));
                to += 1;
            }
            match &ready[from..to] {
                [one] => self.hand_one(*one, &mut hand)?,
                many => self.hand_merged(many, &mut hand)?,
            }
            from = to;
        }
        for segment in ready {
            self.pieces[segment.piece].next = segment.to;
        }
        self.pieces.retain(|p| p.next < p.times.len());
        self.tidy()
    }

    fn first(&self, s: &Segment) -> Millis {
        self.pieces[s.piece].times[s.from]
    }

    fn last(&self, s: &Segment) -> Millis {
        self.pieces[s.piece].times[s.to - 1]
    }

    fn hand_one(&self, s: Segment, hand: &mut impl FnMut(&RecordBatch, &[Millis]) -> Result<()>) -> Result<()> {
        let piece = &self.pieces[s.piece];
        let mut from = s.from;
        while from < s.to {
            let to = from + chunk_len(&piece.times[from..s.to], |t| *t);
            hand(&piece.rows(from, to)?, &piece.times[from..to])?;
            from = to;
        }
        Ok(())
    }

    fn hand_merged(
        &self,
        many: &[Segment],
        hand: &mut impl FnMut(&RecordBatch, &[Millis]) -> Result<()>,
    ) -> Result<()> {
        let mut in_arrival = many.to_vec();
        in_arrival.sort_by_key(|s| s.piece);
        let batches: Vec<&RecordBatch> = in_arrival.iter().map(|s| &self.pieces[s.piece].rows).collect();
        let mut rows: Vec<(Millis, i64, u32, u32)> = Vec::with_capacity(many.iter().map(|s| s.to - s.from).sum());
        for (nth, s) in in_arrival.iter().enumerate() {
            let piece = &self.pieces[s.piece];
            let tie = |place| piece.ties.as_ref().map_or(0, |t| t[place]);
            let row = |place| piece.places.as_ref().map_or(place as u32, |p| p[place]);
            rows.extend((s.from..s.to).map(|at| (piece.times[at], tie(at), nth as u32, row(at))));
        }
        // Stable: rows without a tie-breaker keep the order in which they came. The segments are runs in order,
        // which the sort finds and merges.
        rows.sort_by_key(|r| (r.0, r.1));
        let mut from = 0;
        while from < rows.len() {
            let chunk = &rows[from..from + chunk_len(&rows[from..], |r| r.0)];
            let indices: Vec<(usize, usize)> = chunk.iter().map(|r| (r.2 as usize, r.3 as usize)).collect();
            let times: Vec<Millis> = chunk.iter().map(|r| r.0).collect();
            hand(&interleave_record_batch(&batches, &indices)?, &times)?;
            from += chunk.len();
        }
        Ok(())
    }

    /// Keeps what is held in proportion to what still waits.
    fn tidy(&mut self) -> Result<()> {
        for piece in &mut self.pieces {
            let (left, all) = (piece.times.len() - piece.next, piece.rows.num_rows());
            if all > SMALL && left * 4 < all {
                *piece = piece.copy()?;
            }
        }
        let small = |p: &Piece| p.times.len() - p.next < SMALL;
        if self.pieces.iter().filter(|p| small(p)).count() > 64 {
            let mut run: Vec<Piece> = Vec::new();
            for piece in std::mem::take(&mut self.pieces) {
                // Neighbours alone: rows of the same time and tie keep the order in which they came.
                if run.last().is_some_and(|last| !small(last) || !small(&piece) || last.saved != piece.saved) {
                    self.join(std::mem::take(&mut run))?;
                }
                run.push(piece);
            }
            self.join(run)?;
        }
        Ok(())
    }

    /// Puts pieces back as one.
    fn join(&mut self, run: Vec<Piece>) -> Result<()> {
        let [first, _, ..] = run.as_slice() else {
            self.pieces.extend(run);
            return Ok(());
        };
        let (schema, saved) = (first.rows.schema(), first.saved);
        let batches = run.iter().map(|p| p.rows(p.next, p.times.len())).collect::<Result<Vec<_>>>()?;
        self.insert(arrow::compute::concat_batches(&schema, &batches)?, saved)
    }
}

impl Piece {
    fn rows(&self, from: usize, to: usize) -> Result<RecordBatch> {
        Ok(match &self.places {
            None => self.rows.slice(from, to - from),
            Some(places) => take_record_batch(&self.rows, &UInt32Array::from(places[from..to].to_vec()))?,
        })
    }

    fn copy(&self) -> Result<Piece> {
        let end = self.times.len();
        let places: Vec<u32> = match &self.places {
            None => (self.next as u32..end as u32).collect(),
            Some(places) => places[self.next..].to_vec(),
        };
        let rows = take_record_batch(&self.rows, &UInt32Array::from(places))?;
        let copied = |column: &ScalarBuffer<i64>| column[self.next..].iter().copied().collect();
        let bytes = Batch::from(rows.clone()).bytes() + rows.num_rows() * 8;
        let (times, ties) = (copied(&self.times), self.ties.as_ref().map(copied));
        Ok(Piece { rows, times, ties, places: None, next: 0, bytes, saved: self.saved })
    }
}

/// How many rows make the next chunk: about [`ROWS_MAX`], and all of the same time.
fn chunk_len<T>(rows: &[T], time: impl Fn(&T) -> Millis) -> usize {
    if rows.len() <= ROWS_MAX {
        return rows.len();
    }
    let last = time(&rows[ROWS_MAX - 1]);
    ROWS_MAX + rows[ROWS_MAX..].partition_point(|r| time(r) <= last)
}
