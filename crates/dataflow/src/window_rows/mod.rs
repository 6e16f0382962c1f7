//! A window table function by itself: each row once for each of its windows, with the window appended.
//!
//! ```text
//!  12:07 ann ──HOP(5 min, 10 min)──▶ 12:07 ann [12:00, 12:10)
//!                                    12:07 ann [12:05, 12:15)
//! ```
//!
//! Fixed windows hand every row on at once, with all of its windows, whatever the watermark says, as in Flink: nothing is
//! computed here that a late row could miss, and what stands behind judges the row by its mark. A row of a session waits until its
//! session has closed, because only then is the window known; it is late when no session that is open takes it ([`sessions`]).
//!
//! Over `TIMESTAMP_LTZ` windows are cut in local time; `window_start` and `window_end` are readings of that clock and
//! `window_time` is an instant again.

mod sessions;

use self::sessions::{Numbers, Sessions};
use crate::graph::{self, Window};
use crate::operator::{Event, LateRows, Operator, Output, ROWS_MAX, Watermarks};
use crate::over::words::Words;
use crate::rows::{conform, time_column};
use crate::shelves;
use crate::zone::Zone;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use millstream_core::{Batch, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::table::{Saver, TableDef};
use std::sync::Arc;

/// The operator of `spec`; one that makes sessions goes to disk by shelves. `input`, `output`: see [`WindowRows::new`].
pub fn build(spec: &graph::WindowRows, input: &SchemaRef, output: SchemaRef) -> Result<Box<dyn Operator>> {
    let Window::Session { partition, .. } = &spec.window else {
        return Ok(Box::new(WindowRows::new(spec, input, output)?));
    };
    let (spec, of, keys) = (spec.clone(), input.clone(), partition.clone());
    let numbers = Numbers::default();
    let make: shelves::Make =
        Box::new(move || Ok(Box::new(WindowRows::numbered(&spec, &of, output.clone(), numbers.clone())?)));
    shelves::wrap(make, std::slice::from_ref(input), &[&keys])
}

/// The operator of [`graph::WindowRows`].
pub struct WindowRows {
    input: SchemaRef,
    window: Window,
    column: usize,
    domain: TimeDomain,
    zone: Option<Zone>,
    watermark: Watermark,
    sessions: Option<Sessions>,
    appender: Appender,
}

/// Puts the columns of the window behind the rows.
struct Appender {
    output: SchemaRef,
    zone: Option<Zone>,
}

/// Output under way: rows of the input by index, each with a window.
#[derive(Default)]
struct Piece {
    rows: Vec<u32>,
    starts: Vec<Millis>,
    ends: Vec<Millis>,
}

/// Rows that no window took, and what they were judged by.
#[derive(Default)]
struct Late {
    rows: Vec<u32>,
    times: Vec<Millis>,
    watermarks: Vec<Millis>,
}

impl WindowRows {
    /// `input`: columns of the rows; `output`: these with `window_start`, `window_end` and `window_time`.
    pub fn new(spec: &graph::WindowRows, input: &SchemaRef, output: SchemaRef) -> Result<WindowRows> {
        WindowRows::numbered(spec, input, output, Numbers::default())
    }

    /// `numbers`: of sessions, shared by all operators whose tables are one.
    pub(crate) fn numbered(
        spec: &graph::WindowRows,
        input: &SchemaRef,
        output: SchemaRef,
        numbers: Numbers,
    ) -> Result<WindowRows> {
        time_column(input.field(spec.time.column).data_type(), input.field(spec.time.column).name())?;
        let zone = spec.time.zone.as_deref().map(Zone::parse).transpose()?.filter(|z| *z != Zone::UTC);
        let sessions = match &spec.window {
            Window::Session { gap, partition } => Some(Sessions::new(*gap, partition, spec.order, input, numbers)?),
            Window::Attached { .. } => {
                return Err(Error::internal("the window of these rows stands in columns already"));
            }
            _ => None,
        };
        Ok(WindowRows {
            input: input.clone(),
            window: spec.window.clone(),
            column: spec.time.column,
            domain: spec.time.domain,
            zone,
            watermark: Watermark::MIN,
            sessions,
            appender: Appender { output, zone },
        })
    }

    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let times = batch.rows.column(self.column);
        if times.null_count() > 0 {
            let name = batch.rows.schema().field(self.column).name().clone();
            return Err(Error::data(format!("the time attribute `{name}` is NULL"))
                .remedy("filter such rows before the window: WHERE the column IS NOT NULL"));
        }
        let times = Words::of(times)?;
        let locals = self.locals(&times);
        let Some(sessions) = &mut self.sessions else { return self.assign(&batch, &locals, out) };
        let mut judge =
            Judge::new(self.zone, self.watermark, batch.marks.as_ref().filter(|_| self.domain == TimeDomain::Event));
        let mut late = Late::default();
        sessions.take_in(&batch.rows, &times, &locals, &mut judge, &mut late)?;
        late.set_aside(&batch.rows, out)
    }

    /// The times on the clock that windows are cut by.
    fn locals(&self, times: &[Millis]) -> Vec<Millis> {
        self.zone.map_or_else(|| times.to_vec(), |zone| zone.column_to_local(times))
    }

    fn assign(&self, batch: &Batch, locals: &[Millis], out: &mut dyn Output) -> Result<()> {
        let mut piece = Piece::default();
        // Row by row, because each row has windows of its own; the rows themselves are moved in columns.
        for (i, &local) in locals.iter().enumerate() {
            for_each_window(&self.window, local, |start, end| {
                piece.rows.push(i as u32);
                piece.starts.push(start);
                piece.ends.push(end);
            });
            if piece.rows.len() >= ROWS_MAX {
                self.emit(batch, std::mem::take(&mut piece), out)?;
            }
        }
        if piece.rows.is_empty() { Ok(()) } else { self.emit(batch, piece, out) }
    }

    fn emit(&self, batch: &Batch, piece: Piece, out: &mut dyn Output) -> Result<()> {
        let each_once = piece.rows.len() == batch.len() && piece.rows.iter().enumerate().all(|(i, r)| i == *r as usize);
        let taken = if each_once { batch.clone() } else { batch.take(&UInt32Array::from(piece.rows))? };
        let rows = self.appender.append(&taken.rows, &piece.starts, &piece.ends)?;
        let whole = Batch { rows, ..taken };
        for from in (0..whole.len()).step_by(ROWS_MAX) {
            out.emit(0, whole.slice(from, ROWS_MAX.min(whole.len() - from)))?;
        }
        Ok(())
    }
}

impl Appender {
    fn append(&self, rows: &RecordBatch, starts: &[Millis], ends: &[Millis]) -> Result<RecordBatch> {
        let last: Vec<Millis> = ends.iter().map(|e| e.saturating_sub(1)).collect();
        let instants = self.zone.map_or_else(|| last.clone(), |z| z.column_to_epoch(&last));
        let zone = self.output.fields().last().and_then(|f| match f.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        });
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.push(Arc::new(TimestampMillisecondArray::from(starts.to_vec())));
        columns.push(Arc::new(TimestampMillisecondArray::from(ends.to_vec())));
        columns.push(Arc::new(TimestampMillisecondArray::from(instants).with_timezone_opt(zone)));
        conform(&self.output, columns, rows.num_rows())
    }
}

impl Late {
    fn push(&mut self, row: usize, time: Millis, watermark: Watermark) {
        self.rows.push(row as u32);
        self.times.push(time);
        self.watermarks.push(watermark.0);
    }

    fn set_aside(self, rows: &RecordBatch, out: &mut dyn Output) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        out.set_aside(LateRows {
            rows: take_record_batch(rows, &UInt32Array::from(self.rows))?,
            times: Int64Array::from(self.times),
            watermarks: Int64Array::from(self.watermarks),
            reason: "every window of the row had been closed by the watermark".to_owned(),
        })
    }
}

/// What a row is judged by: the watermark before it, on the clock that windows are cut by.
struct Judge<'a> {
    zone: Option<Zone>,
    watermark: Watermark,
    marks: Option<&'a Int64Array>,
    /// The last mark translated, since neighbours mostly share it.
    last: (Watermark, Watermark),
}

impl Judge<'_> {
    fn new(zone: Option<Zone>, watermark: Watermark, marks: Option<&Int64Array>) -> Judge<'_> {
        let local = zone.map_or(watermark, |z| z.watermark_to_local(watermark));
        Judge { zone, watermark, marks, last: (watermark, local) }
    }

    fn mark(&self, row: usize) -> Watermark {
        self.marks.map_or(self.watermark, |m| Watermark(m.value(row)).max(self.watermark))
    }

    fn local(&mut self, row: usize) -> Watermark {
        let mark = self.mark(row);
        if mark != self.last.0 {
            self.last = (mark, self.zone.map_or(mark, |z| z.watermark_to_local(mark)));
        }
        self.last.1
    }
}

/// The windows of a time, earliest first. Rule: start = floor((t - offset) / size) * size + offset.
fn for_each_window(window: &Window, at: Millis, mut each: impl FnMut(Millis, Millis)) {
    let floor = |size: Millis, offset: Millis| at - (at - offset).rem_euclid(size);
    match *window {
        Window::Tumble { size, offset } => {
            let start = floor(size, offset);
            each(start, start + size);
        }
        Window::Hop { size, slide, offset } => {
            let last = floor(slide, offset);
            // Windows from the first that still covers `at`; none, where the slide is longer than the size.
            let before = (size - 1 - (at - last)).div_euclid(slide);
            (0..=before).rev().for_each(|n| each(last - n * slide, last - n * slide + size));
        }
        Window::Cumulate { size, step, offset } => {
            let start = floor(size, offset);
            let mut end = start + ((at - start).div_euclid(step) + 1) * step;
            while end < start + size {
                each(start, end);
                end += step;
            }
            each(start, start + size);
        }
        // Sessions and windows that stand in columns are not known from the time alone.
        Window::Session { .. } | Window::Attached { .. } => {}
    }
}

impl Operator for WindowRows {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(batch, out),
            Event::Watermark(domain, to) => {
                if domain == self.domain && to > self.watermark {
                    self.watermark = to;
                    if let Some(sessions) = &mut self.sessions {
                        let local = self.zone.map_or(to, |z| z.watermark_to_local(to));
                        sessions.close_through(local, |rows, starts, ends| {
                            out.emit(0, self.appender.append(rows, starts, ends)?.into())
                        })?;
                    }
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.sessions.as_ref().map_or(0, Sessions::bytes)
    }

    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        let end = self.sessions.as_ref().filter(|_| domain == self.domain)?.first_end()?;
        let last = end.saturating_sub(1);
        Some(Watermark(self.zone.map_or(last, |zone| zone.no_later_than(last))))
    }

    fn tables(&self) -> Vec<TableDef> {
        // Rows of fixed windows have gone on.
        self.sessions.iter().map(|s| s.table().clone()).collect()
    }

    fn track_changes(&mut self) {
        self.sessions.iter_mut().for_each(Sessions::track_changes);
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.sessions.as_mut().map_or(Ok(()), |s| s.save(saver))
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        let saved = RecordBatch::try_new(self.input.clone(), rows.columns()[1..].to_vec())?;
        let times = Words::of(saved.column(self.column))?;
        let locals = self.locals(&times);
        match &mut self.sessions {
            Some(sessions) if table == "waiting" => sessions.load(rows.column(0), &saved, &times, &locals),
            _ => Err(Error::internal(format!("there is no table `{table}` to load"))),
        }
    }

    fn take_names(&mut self, _: &str, rows: &RecordBatch) -> Result<()> {
        self.sessions.as_ref().map_or(Ok(()), |s| s.take_names(rows.column(0)))
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.watermark = watermarks.of(self.domain);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
