//! Reads the history, and notes what the handover will have to know.
//!
//! A position is where its source stands. Where ids are remembered it also names a place further back, behind which all rows
//! lie whose ids will be asked for. A run that goes on in the middle does not remember: it reads on at once, and when the
//! history has ended it is read again from that place, for its ids alone.

use super::hub::{Ending, Hub, Tail};
use super::ids::{Ids, ids_of};
use super::layout::{Layout, greatest, millis, whole};
use super::options::Handover;
use crate::position;
use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use millstream_core::{
    Backfill, Error, Millis, PartitionReader, Place, Polled, Result, SavedPartition, SourceRows, Watermark,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The name of the history among the partitions of a table.
pub const NAME: &str = "history";

/// Places that are kept to go back to, over the time for which ids are remembered.
const PLACES: i64 = 16;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Position {
    /// [`Handover::kind`]: what is known of the history is what it asks for.
    handover: String,
    /// The partition of the history's own source, and where it stands.
    name: String,
    at: String,
    /// The greatest event time before the place in [`Ending::tail`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Millis>,
    /// What is known of the history so far; when it is over, how it ended.
    known: Ending,
    /// The greatest event time of each partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    times: BTreeMap<i32, Millis>,
}

impl Position {
    pub fn ending(self) -> Ending {
        self.known
    }

    /// That the table still hands over as it did.
    pub fn check(&self, handover: &Handover) -> Result<()> {
        if self.handover == handover.kind() {
            return Ok(());
        }
        let (was, is) = (&self.handover, handover.kind());
        Err(Error::usage(format!("the job began with 'handover' = '{was}', and is now to go on with '{is}'"))
            .remedy("set it back, or start the job afresh (another --state)"))
    }

    pub fn knows_cut(&self) -> bool {
        self.known.cut.is_some()
    }

    pub fn source(&self) -> SavedPartition {
        SavedPartition { name: self.name.clone(), position: self.at.clone() }
    }
}

/// A place in the history that reading may go back to.
struct Back {
    position: String,
    /// Rows before it.
    rows: u64,
    /// The greatest event time before it.
    latest: Option<Millis>,
}

pub struct Past {
    hub: Arc<Hub>,
    layout: Layout,
    /// `None`: the history has ended.
    inner: Option<Box<dyn PartitionReader>>,
    inner_name: String,
    known: Ending,
    /// The greatest event time of each partition.
    times: BTreeMap<i32, Millis>,
    /// Of a run that has read all of it.
    ids: Option<Ids>,
    /// Oldest first; from the first one on the history is read again for its ids. Empty where no ids are compared.
    back: VecDeque<Back>,
    /// Rows that the source has given since the first place that was known in this run.
    rows: u64,
    /// What the source has left out, kept for when it is closed.
    skipped: u64,
}

impl Past {
    pub fn new(
        hub: Arc<Hub>,
        layout: Layout,
        inner: Box<dyn PartitionReader>,
        saved: Option<Position>,
    ) -> Result<Past> {
        let inner_name = inner.name().to_owned();
        let mut past = Past {
            hub,
            layout,
            inner_name,
            known: Ending::default(),
            times: BTreeMap::new(),
            ids: None,
            back: VecDeque::new(),
            rows: 0,
            skipped: 0,
            inner: None,
        };
        let fresh = saved.is_none();
        let mut first = Back { position: inner.position()?, rows: 0, latest: None };
        if let Some(saved) = saved {
            past.known = saved.known;
            past.times = saved.times;
            if let Some(tail) = past.known.tail.take() {
                first = Back { position: tail.position, rows: 0, latest: saved.before };
                past.rows = tail.rows;
            }
        }
        if let Handover::EventTime { at: Some(at), .. } = past.hub.settings.handover {
            past.known.cut = Some(at);
        }
        past.publish(Watermark::MIN);
        if let Handover::Id { memory, bytes_max, .. } = &past.hub.settings.handover {
            past.ids = fresh.then(|| Ids::new(*memory, bytes_max.0 as usize));
            past.back.push_back(first);
        }
        past.inner = Some(inner);
        past.note_bytes();
        Ok(past)
    }

    /// Tells the live partitions how far the job is, all of it at once and only when the job is there: what they keep to
    /// follows from it.
    fn publish(&self, watermark: Watermark) {
        let mut state = self.hub.state();
        state.watermark = Some(watermark);
        state.latest = self.known.latest;
        state.times.clone_from(&self.times);
    }

    fn note_bytes(&self) {
        if let Some((done_bytes, all_bytes)) = self.inner.as_ref().and_then(|i| i.bytes_done()) {
            self.hub.state().backfill = Backfill { done_bytes, all_bytes, complete: false };
        }
    }

    /// The time before which the history is read, where it is read to a time. False: it is not known yet.
    fn knows_cut(&mut self) -> bool {
        if !matches!(self.hub.settings.handover, Handover::EventTime { .. }) || self.known.cut.is_some() {
            return true;
        }
        let Some(cut) = self.hub.state().cut else { return false };
        self.known.cut = cut;
        true
    }

    /// Where reading may begin again is noted now and then, and what is too far back is let go.
    fn note_place(&mut self) -> Result<()> {
        let (Handover::Id { memory, .. }, Some(inner)) = (&self.hub.settings.handover, &self.inner) else {
            return Ok(());
        };
        let Some(latest) = self.known.latest else { return Ok(()) };
        let step = (memory / PLACES).max(1);
        if self.back.back().is_none_or(|b| b.latest.is_none_or(|before| latest.saturating_sub(before) >= step)) {
            let at = Back { position: inner.position()?, rows: self.rows, latest: Some(latest) };
            self.back.push_back(at);
        }
        // Rows that ids are remembered of are later than this.
        let floor = latest.saturating_sub(*memory);
        while self.back.get(1).is_some_and(|b| b.latest.is_none_or(|before| before <= floor)) {
            self.back.pop_front();
        }
        Ok(())
    }

    /// Takes note of rows.
    fn take(&mut self, mut read: SourceRows) -> Result<SourceRows> {
        let times = self.layout.time.map(|at| millis(read.rows.column(at))).transpose()?;
        let mut latest = times.as_ref().and_then(greatest);
        if let Some(cut) = self.known.cut {
            latest = latest.min(Some(cut));
        }
        self.known.latest = self.known.latest.max(latest);
        if let (Some(ids), Some(at), Some(times)) = (&mut self.ids, self.layout.id, &times) {
            ids.remember(&ids_of(read.rows.column(at))?, times);
        }
        if let (Some(partition), Some(offset)) = (self.layout.partition, self.layout.offset) {
            let columns = [whole(read.rows.column(partition))?, whole(read.rows.column(offset))?];
            self.note_offsets(&columns, times.as_ref())?;
        }
        self.rows += read.rows.num_rows() as u64;
        if let (Some(cut), Some(times)) = (self.known.cut, &times) {
            read.rows = only_before(&read.rows, times, cut)?;
        }
        self.layout.hand_on(read, true)
    }

    fn note_offsets(&mut self, columns: &[Int64Array; 2], times: Option<&Int64Array>) -> Result<()> {
        let [partitions, offsets] = columns;
        let rows = partitions.len();
        let row = (0..rows).find(|&r| partitions.is_null(r) || offsets.is_null(r));
        let bad =
            (0..rows).find(|&r| !(0..=i64::from(i32::MAX)).contains(&partitions.value(r)) || offsets.value(r) < 0);
        if let Some(row) = row.or(bad) {
            let Handover::Offset { partition, offset, .. } = &self.hub.settings.handover else { return Ok(()) };
            let what =
                format!("the history has a row whose `{partition}` or `{offset}` is NULL or no place in a topic");
            return Err(Error::data(what)
                .at(Place(format!("{} row {}", self.inner_name, self.rows + row as u64 + 1)))
                .remedy("repair the files, or hand over by 'event-time' or 'id'"));
        }
        // Runs of one partition are looked up once: row by row, but for the look-up.
        let mut row = 0;
        while row < rows {
            let partition = partitions.value(row) as i32;
            let end = (row..rows).find(|&r| partitions.value(r) as i32 != partition).unwrap_or(rows);
            if let Some(offset) = offsets.values()[row..end].iter().max() {
                let known = self.known.offsets.entry(partition).or_insert(*offset);
                *known = (*known).max(*offset);
            }
            if let Some(time) = times.and_then(|t| greatest(&t.slice(row, end - row))) {
                let known = self.times.entry(partition).or_insert(time);
                *known = (*known).max(time);
            }
            row = end;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let ids = self.ids.take();
        self.skipped = self.inner.as_ref().map_or(self.skipped, |i| i.skipped());
        self.known.tail = self.back.front().map(|back| self.tail(back));
        self.back.clear();
        self.inner = None;
        self.hub.hand_over(self.known.clone(), ids)
    }

    fn tail(&self, back: &Back) -> Tail {
        Tail { name: self.inner_name.clone(), position: back.position.clone(), rows: self.rows - back.rows }
    }
}

fn only_before(rows: &RecordBatch, times: &Int64Array, cut: Millis) -> Result<RecordBatch> {
    if greatest(times).is_none_or(|most| most < cut) {
        return Ok(rows.clone());
    }
    // A row without a time stays: what becomes of it is decided elsewhere.
    let keep: BooleanArray = times.iter().map(|t| Some(t.is_none_or(|t| t < cut))).collect();
    Ok(filter_record_batch(rows, &keep)?)
}

impl PartitionReader for Past {
    fn name(&self) -> &str {
        NAME
    }

    fn poll(&mut self) -> Result<Polled> {
        self.hub.check()?;
        if self.inner.is_none() {
            return Ok(Polled::End);
        }
        if !self.knows_cut() {
            return Ok(Polled::Pending);
        }
        self.note_place()?;
        let Some(inner) = &mut self.inner else { return Ok(Polled::End) };
        let polled = inner.poll()?;
        self.note_bytes();
        match polled {
            Polled::Rows(read) => Ok(Polled::Rows(self.take(read)?)),
            Polled::Pending => Ok(Polled::Pending),
            Polled::End => {
                self.end()?;
                Ok(Polled::End)
            }
        }
    }

    fn skipped(&self) -> u64 {
        self.inner.as_ref().map_or(self.skipped, |i| i.skipped())
    }

    fn position(&self) -> Result<String> {
        let at = self.inner.as_ref().map_or_else(|| Ok(String::new()), |inner| inner.position())?;
        let mut known = self.known.clone();
        let back = self.back.front();
        known.tail = back.map(|back| self.tail(back)).or(known.tail);
        let times = if self.inner.is_none() { BTreeMap::new() } else { self.times.clone() };
        position::write(&Position {
            handover: self.hub.settings.handover.kind().to_owned(),
            name: self.inner_name.clone(),
            at,
            before: back.and_then(|back| back.latest),
            known,
            times,
        })
    }

    fn reached(&mut self, watermark: Watermark) {
        self.publish(watermark);
    }

    fn lag(&self) -> Option<Millis> {
        let Handover::Offset { time: Some(_), .. } = &self.hub.settings.handover else { return None };
        let latest = self.known.latest.unwrap_or(Millis::MIN);
        // A partition with records that the history has had none of: they may be of any time.
        let state = self.hub.state();
        if state.described.values().any(|p| !p.empty && !self.times.contains_key(&p.number)) {
            return Some(Millis::MAX);
        }
        self.times.values().min().map(|least| latest.saturating_sub(*least)).or(Some(0))
    }

    fn ended_for_good(&self) -> bool {
        self.inner.is_none()
    }

    fn backfill(&self) -> Option<Backfill> {
        Some(self.hub.state().backfill)
    }
}
