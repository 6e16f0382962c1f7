//! Reads one live partition: waits until the history has ended, then hands on what the history does not have.

use super::hub::Hub;
use super::ids::{Ids, Known, ids_of};
use super::layout::{Layout, greatest, millis};
use super::options::{Handover, ID_MEMORY, ID_MEMORY_BYTES};
use crate::position;
use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use millstream_core::{
    Backfill, Error, Millis, PartitionReader, Place, Polled, Result, SavedPartition, SourceRows, Watermark,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Position {
    /// Where its source is. `None`: nothing has been read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What has decided where it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<String>,
    /// The greatest event time so far, while ids are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latest: Option<Millis>,
    /// No id of the history will come any more.
    #[serde(default)]
    compared: bool,
}

impl Position {
    pub fn of(saved: &SavedPartition) -> Result<Position> {
        position::read(saved)
    }
}

pub struct LiveReader {
    hub: Arc<Hub>,
    layout: Layout,
    name: String,
    number: Option<i32>,
    saved: Position,
    inner: Option<Box<dyn PartitionReader>>,
    /// While ids are compared.
    ids: Option<Arc<Ids>>,
    /// One reader of the table hands on the partitions that have come since.
    finds: bool,
}

impl LiveReader {
    /// Waits for the history. Counted by [`super::hub::State::comparing`] unless it is done with comparing.
    pub fn waiting(hub: Arc<Hub>, layout: Layout, name: &str, saved: Position, finds: bool) -> LiveReader {
        let number = hub.state().described.get(name).map(|p| p.number).or_else(|| number_in(name));
        LiveReader { hub, layout, name: name.to_owned(), number, saved, inner: None, ids: None, finds }
    }

    pub fn compares(hub: &Hub, saved: &Position) -> bool {
        matches!(hub.settings.handover, Handover::Id { .. }) && !saved.compared
    }

    /// A partition that has come since.
    fn come(&self, inner: Box<dyn PartitionReader>) -> LiveReader {
        let mut saved = Position::default();
        let ids = {
            let mut state = self.hub.state();
            state.comparing += usize::from(state.ids.is_some());
            state.ids.clone()
        };
        saved.compared = ids.is_none();
        saved.began = Some("since".into());
        let name = inner.name().to_owned();
        let number = number_in(&name);
        LiveReader {
            hub: self.hub.clone(),
            layout: self.layout.clone(),
            name,
            number,
            saved,
            inner: Some(inner),
            ids,
            finds: true,
        }
    }

    /// True once rows can be asked for.
    fn is_open(&mut self) -> Result<bool> {
        if self.inner.is_some() {
            return Ok(true);
        }
        let Some(inner) = self.hub.take(&self.name)? else { return Ok(false) };
        let mark = {
            let state = self.hub.state();
            let ending =
                state.ending.as_ref().ok_or_else(|| Error::internal("a live leg before its history has ended"))?;
            ending.mark(&self.hub.settings.handover, self.number)
        };
        match &self.saved.began {
            // One that has come since begins by itself.
            Some(began) if *began != mark && began != "since" => {
                return Err(Error::data(format!(
                    "the history is another one than before: {} began {began}, and would now begin {mark}",
                    self.name
                ))
                .at(Place(self.name.clone()))
                .remedy("put the files of the history back as they were, or start the job afresh (another --state)"));
            }
            Some(_) => {}
            None => self.saved.began = Some(mark),
        }
        if LiveReader::compares(&self.hub, &self.saved) {
            self.ids = self.hub.state().ids.clone();
            self.stop_comparing_behind();
        }
        self.inner = Some(inner);
        Ok(true)
    }

    /// Rows later than this have left the history behind.
    fn compares_up_to(&self) -> Option<Millis> {
        let Handover::Id { memory, .. } = &self.hub.settings.handover else { return None };
        let latest = self.hub.state().ending.as_ref().and_then(|e| e.latest)?;
        Some(latest.saturating_add(*memory))
    }

    fn stop_comparing_behind(&mut self) {
        let limit = self.compares_up_to();
        if !self.saved.compared && limit.is_none_or(|limit| self.saved.latest.is_some_and(|latest| latest >= limit)) {
            self.saved.compared = true;
            self.ids = None;
            self.hub.compared();
        }
    }

    fn take(&mut self, mut read: SourceRows) -> Result<SourceRows> {
        let times = self.layout.time.map(|at| millis(read.rows.column(at))).transpose()?;
        let cut = match &self.hub.settings.handover {
            Handover::EventTime { .. } => self.hub.state().ending.as_ref().and_then(|e| e.cut),
            _ => None,
        };
        if let (Some(cut), Some(times)) = (cut, &times) {
            read.rows = only_from(&read.rows, times, cut)?;
        } else if let (Some(ids), Some(times)) = (self.ids.clone(), &times) {
            read.rows = self.without_known(&read.rows, times, &ids)?;
            self.stop_comparing_behind();
        }
        self.layout.hand_on(read, false)
    }

    /// Leaves out the rows whose ids the history has. Whether a row is looked at depends on the rows before it in its
    /// partition, and not on how they are cut into batches.
    fn without_known(&mut self, rows: &RecordBatch, times: &Int64Array, ids: &Ids) -> Result<RecordBatch> {
        let (Some(at), Some(limit)) = (self.layout.id, self.compares_up_to()) else { return Ok(rows.clone()) };
        let of = ids_of(rows.column(at))?;
        let mut keep = vec![true; rows.num_rows()];
        // Row by row: each is a question to a hash table.
        for (row, id) in of.iter().enumerate() {
            if self.saved.latest.is_some_and(|latest| latest >= limit) {
                break;
            }
            if times.is_null(row) {
                // What becomes of a row without a time is decided elsewhere.
                continue;
            }
            let time = times.value(row);
            let Some(id) = id else { return Err(self.unknowable(rows, at, "has no id", row)) };
            match ids.knows(*id, time) {
                Known::Yes => keep[row] = false,
                Known::No => {}
                Known::Forgotten => return Err(self.forgotten(time, ids)),
            }
            self.saved.latest = self.saved.latest.max(Some(time));
        }
        if keep.iter().all(|k| *k) {
            return Ok(rows.clone());
        }
        Ok(filter_record_batch(rows, &BooleanArray::from(keep))?)
    }

    fn unknowable(&self, rows: &RecordBatch, at: usize, what: &str, row: usize) -> Error {
        let column = rows.schema_ref().field(at).name().clone();
        Error::data(format!("a live row {what} in `{column}`, so it cannot be told whether the history has it"))
            .at(Place(format!("{} row {} of its batch", self.name, row + 1)))
            .remedy("repair the row, or hand over by 'offset' or 'event-time'")
    }

    fn forgotten(&self, time: Millis, ids: &Ids) -> Error {
        let floor = ids.floor().unwrap_or(Millis::MIN);
        Error::data(format!(
            "a live row of {} may be in the history already: ids are remembered for rows later than {}",
            Watermark(time),
            Watermark(floor)
        ))
        .at(Place(self.name.clone()))
        .remedy(format!(
            "remember more ('{ID_MEMORY}', '{ID_MEMORY_BYTES}'), or let the live leg begin later ('handover.overlap', \
             'live.scan.startup.mode'), and start the job afresh (another --state)"
        ))
    }
}

/// `topic[3]`
fn number_in(name: &str) -> Option<i32> {
    name.strip_suffix(']')?.rsplit_once('[')?.1.parse().ok()
}

fn only_from(rows: &RecordBatch, times: &Int64Array, cut: Millis) -> Result<RecordBatch> {
    if times.null_count() == 0 && greatest(times).is_some() && arrow::compute::min(times).is_some_and(|t| t >= cut) {
        return Ok(rows.clone());
    }
    let keep: BooleanArray = times.iter().map(|t| Some(t.is_none_or(|t| t >= cut))).collect();
    Ok(filter_record_batch(rows, &keep)?)
}

impl PartitionReader for LiveReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        if !self.is_open()? {
            return Ok(Polled::Pending);
        }
        let Some(inner) = &mut self.inner else { return Ok(Polled::Pending) };
        match inner.poll()? {
            // Also where nothing is left of them: the partition is not silent.
            Polled::Rows(read) => Ok(Polled::Rows(self.take(read)?)),
            Polled::Pending => Ok(Polled::Pending),
            Polled::End => {
                if self.ids.take().is_some() {
                    self.saved.compared = true;
                    self.hub.compared();
                }
                Ok(Polled::End)
            }
        }
    }

    fn skipped(&self) -> u64 {
        self.inner.as_ref().map_or(0, |i| i.skipped())
    }

    fn position(&self) -> Result<String> {
        let at = match &self.inner {
            Some(inner) => Some(inner.position()?),
            None => self.saved.at.clone(),
        };
        position::write(&Position { at, ..self.saved.clone() })
    }

    fn found(&mut self) -> Result<Vec<Box<dyn PartitionReader>>> {
        let Some(inner) = &mut self.inner else { return Ok(Vec::new()) };
        let mut found = inner.found()?;
        if self.finds {
            found.extend(self.hub.take_extra());
        }
        Ok(found.into_iter().map(|inner| Box::new(self.come(inner)) as Box<dyn PartitionReader>).collect())
    }

    fn committed(&mut self, position: &str) -> Result<()> {
        let saved: Position = position::parse(position, &self.name)?;
        match (&mut self.inner, saved.at) {
            (Some(inner), Some(at)) => inner.committed(&at),
            _ => Ok(()),
        }
    }

    fn promises(&self) -> Option<Watermark> {
        self.inner.is_none().then(|| self.hub.promise(&self.name))
    }

    fn backfill(&self) -> Option<Backfill> {
        Some(self.hub.state().backfill)
    }
}
