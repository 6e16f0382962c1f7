//! What an OVER window remembers, as tables.
//!
//! ```text
//!  waiting    time, the input's other columns    rows that wait; gone when the watermark has passed them
//!  log        time, keys, values                 rows in bounded RANGE frames; gone when they have left the longest
//!  last       keys, slot, number, values         the last rows of each key, for ROWS frames and LAG
//!  state      keys, what lasts                   aggregates without a beginning
//!  values_3   keys, value                        the same, where call 3 has to keep values
//! ```
//!
//! Aggregates over rows that leave are not saved: they are computed again from their rows, in the order of the log. So
//! a checkpoint grows with the rows that came since the last one, and not with the frames.
//!
//! `last` is a ring: row `n` of a key stands in slot `n % length`, where it replaces the row that it pushes out.

use super::frame::{Memory, past};
use super::words::{Codec, Words};
use super::{Frames, Over};
use crate::operator::ROWS_MAX;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use millstream_core::{Error, Millis, Result, Watermark};
use millstream_state::table::{Saver, TableDef};

/// Where each call stands in the tables, and what has changed since the last save.
pub(super) struct Tables {
    /// Changes are kept track of.
    tracking: bool,
    /// Column of the input that each column of `waiting` is.
    permutation: Vec<usize>,
    waiting: TableDef,
    log: Option<TableDef>,
    last: Option<Last>,
    state: Option<TableDef>,
    /// By call.
    values: Vec<Option<TableDef>>,
    /// By call: its first column behind the keys and what else its table has, and their number.
    places: Vec<(usize, usize)>,
    /// What `waiting` and `log` have been told to drop.
    dropped: (Millis, Millis),
    /// Rows of the log before it have been saved.
    pub logged: usize,
    /// Groups whose row in `last` or `state` has changed, and whether a group is among them.
    touched: Vec<u32>,
    is_touched: Vec<bool>,
    loaded_log: Vec<RecordBatch>,
    loaded_last: Vec<RecordBatch>,
}

struct Last {
    table: TableDef,
    /// Rows in the longest of the frames.
    length: u64,
    /// By group: rows seen, and of these the rows saved.
    counts: Vec<u64>,
    saved: Vec<u64>,
}

impl Tables {
    pub(super) fn new(frames: &Frames, input: &SchemaRef, time: usize) -> Tables {
        let key_fields: Vec<Field> =
            frames.keys.iter().enumerate().map(|(i, k)| renamed(input.field(*k), format!("key_{i}"))).collect();
        let keys = key_fields.len();
        let time_field = renamed(input.field(time), "time".to_owned());
        let permutation: Vec<usize> =
            std::iter::once(time).chain((0..input.fields().len()).filter(|c| *c != time)).collect();
        let at = |column: &usize| permutation.iter().position(|c| c == column).unwrap_or_default();
        let waiting = TableDef::new("waiting", permutation.iter().map(|c| input.field(*c).clone()).collect(), 0)
            .group_by(frames.keys.iter().map(at));

        let (mut log, mut last, mut state) = (Vec::new(), Vec::new(), Vec::new());
        let (mut values, mut places, mut length) = (Vec::new(), Vec::new(), 0);
        let mut first_with: Vec<usize> = Vec::new();
        let of_call = |call: usize, types: &[DataType]| {
            let field = move |(i, t): (usize, &DataType)| Field::new(format!("call_{call}_{i}"), t.clone(), true);
            types.iter().enumerate().map(field).collect::<Vec<Field>>()
        };
        for (i, (call, _)) in frames.calls.iter().enumerate() {
            let types = call.columns();
            let mut own = None;
            let place = match call.memory() {
                Memory::Log => {
                    // Calls with the same values share them: SUM(x), COUNT(x) and MAX(x) are one column.
                    let twin = call.shared().and_then(|argument| {
                        let same = |t: &&usize| {
                            let other = &frames.calls[**t].0;
                            other.shared() == Some(argument) && other.columns() == types
                        };
                        first_with.iter().find(same).map(|twin| places[*twin])
                    });
                    first_with.push(i);
                    twin.unwrap_or_else(|| append(&mut log, of_call(i, &types)))
                }
                Memory::Last(rows) => {
                    length = length.max(rows);
                    append(&mut last, of_call(i, &types))
                }
                Memory::State => append(&mut state, of_call(i, &types)),
                Memory::Values => {
                    let fields = key_fields.iter().cloned().chain(of_call(i, &types)).collect();
                    own = Some(TableDef::new(&format!("values_{i}"), fields, 0).group_by(0..keys));
                    (0, types.len())
                }
            };
            places.push(place);
            values.push(own);
        }
        let has = |kind: fn(Memory) -> bool| frames.calls.iter().any(|(c, _)| kind(c.memory()));
        let log = has(|m| m == Memory::Log).then(|| {
            let fields = std::iter::once(time_field).chain(key_fields.clone()).chain(log).collect();
            TableDef::new("log", fields, 0).group_by(1..=keys)
        });
        let last = has(|m| matches!(m, Memory::Last(_))).then(|| {
            let number = ["slot", "number"].map(|n| Field::new(n, DataType::Int64, true));
            let fields = key_fields.iter().cloned().chain(number).chain(last).collect();
            let table = TableDef::new("last", fields, keys + 1).group_by(0..keys);
            Last { table, length, counts: Vec::new(), saved: Vec::new() }
        });
        let state = has(|m| m == Memory::State).then(|| {
            // The one row of a window without keys needs a name too.
            let all = (keys == 0).then(|| Field::new("all", DataType::Int64, true));
            let fields = key_fields.iter().cloned().chain(all).chain(state).collect();
            TableDef::new("state", fields, keys.max(1)).group_by(0..keys)
        });
        Tables {
            tracking: false,
            permutation,
            waiting,
            log,
            last,
            state,
            values,
            places,
            dropped: (Millis::MIN, Millis::MIN),
            logged: 0,
            touched: Vec::new(),
            is_touched: Vec::new(),
            loaded_log: Vec::new(),
            loaded_last: Vec::new(),
        }
    }

    pub(super) fn all(&self) -> Vec<TableDef> {
        let last = self.last.as_ref().map(|l| &l.table);
        let some = self.log.iter().chain(last).chain(&self.state).chain(self.values.iter().flatten());
        std::iter::once(&self.waiting).chain(some).cloned().collect()
    }

    /// Takes note of the groups of rows that are answered.
    pub(super) fn touch(&mut self, groups: &[u32], slots: usize) {
        // Counted in any case: an operator may have to be saved for lack of memory too.
        if let Some(last) = &mut self.last {
            last.grow(slots);
            groups.iter().for_each(|group| last.counts[*group as usize] += 1);
        }
        if !self.tracking || (self.last.is_none() && self.state.is_none()) {
            return;
        }
        self.is_touched.resize(slots.max(self.is_touched.len()), false);
        for &group in groups {
            if !std::mem::replace(&mut self.is_touched[group as usize], true) {
                self.touched.push(group);
            }
        }
    }

    /// The first rows of the log have been taken away.
    pub(super) fn trim(&mut self, rows: usize) {
        self.logged = self.logged.saturating_sub(rows);
    }

    pub(super) fn bytes(&self) -> usize {
        let last = self.last.as_ref().map_or(0, |l| (l.counts.capacity() + l.saved.capacity()) * 8);
        last + self.touched.capacity() * 4 + self.is_touched.capacity()
    }

    fn columns_of<'a>(&self, call: usize, columns: &'a [ArrayRef]) -> &'a [ArrayRef] {
        let (from, len) = self.places[call];
        &columns[from..from + len]
    }
}

impl Last {
    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots.max(self.counts.len()), 0);
        self.saved.resize(slots.max(self.saved.len()), 0);
    }
}

fn renamed(field: &Field, name: String) -> Field {
    field.clone().with_name(name)
}

/// Appends fields; where they stand.
fn append(to: &mut Vec<Field>, fields: Vec<Field>) -> (usize, usize) {
    let place = (to.len(), fields.len());
    to.extend(fields);
    place
}

impl Over {
    pub(super) fn track(&mut self) {
        self.tables.tracking = true;
        self.work.calls.iter_mut().for_each(|(call, _)| call.track());
    }

    pub(super) fn save_tables(&mut self, saver: &mut Saver) -> Result<()> {
        self.save_waiting(saver)?;
        self.save_log(saver)?;
        let touched = std::mem::take(&mut self.tables.touched);
        touched.iter().for_each(|group| self.tables.is_touched[*group as usize] = false);
        let groups = match saver.whole() {
            // No group has been released: only keys of bounded RANGE frames are forgotten.
            true => (0..self.work.groups.len() as u32).collect(),
            false => touched,
        };
        self.save_last(saver, &groups)?;
        self.save_state(saver, &groups)?;
        self.save_values(saver)
    }

    fn save_waiting(&mut self, saver: &mut Saver) -> Result<()> {
        let Over { tables, pending, watermark, .. } = self;
        if !saver.whole() && watermark.0 > tables.dropped.0 {
            saver.drop_through(&tables.waiting, watermark.0)?;
        }
        tables.dropped.0 = watermark.0;
        for rows in pending.save(saver.whole())? {
            saver.put(&tables.waiting, rows.project(&tables.permutation)?.columns().to_vec())?;
        }
        Ok(())
    }

    fn save_log(&mut self, saver: &mut Saver) -> Result<()> {
        let Over { tables, work, watermark, .. } = self;
        let Some(table) = &tables.log else { return Ok(()) };
        let longest = work.frames.iter().map(|f| f.preceding).max().unwrap_or(0);
        let left = edge(*watermark, longest).saturating_sub(1);
        if !saver.whole() && left > tables.dropped.1 {
            saver.drop_through(table, left)?;
        }
        tables.dropped.1 = left;
        let from = if saver.whole() { work.released } else { tables.logged.max(work.released) };
        let rows = from..work.log.times.len();
        tables.logged = rows.end;
        let time = Words(table.columns.field(0).data_type().clone());
        // In pieces, so that the log is never there a second time as columns.
        for from in rows.clone().step_by(ROWS_MAX) {
            let rows = from..rows.end.min(from + ROWS_MAX);
            let mut columns = vec![time.write(work.log.times[rows.clone()].to_vec(), None)?];
            columns.extend(work.codec.decode_ids(&work.groups, &work.log.groups[rows.clone()])?);
            let before = columns.len();
            for (i, (call, frame)) in work.calls.iter().enumerate() {
                // A column that stands already is another call's too.
                if frame.is_some() && before + tables.places[i].0 == columns.len() {
                    columns.extend(call.save_log(rows.clone())?);
                }
            }
            saver.put(table, columns)?;
        }
        Ok(())
    }

    fn save_last(&mut self, saver: &mut Saver, groups: &[u32]) -> Result<()> {
        let Over { tables, work, .. } = self;
        let Some(last) = &mut tables.last else { return Ok(()) };
        last.grow(work.groups.len());
        let (mut ids, mut numbers, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for &group in groups {
            let (count, saved) = (last.counts[group as usize], &mut last.saved[group as usize]);
            let held = count.saturating_sub(last.length);
            for number in (if saver.whole() { held } else { held.max(*saved) })..count {
                ids.push(group);
                numbers.push(number as i64);
                back.push((count - 1 - number) as usize);
            }
            *saved = count;
        }
        let length = i64::try_from(last.length).unwrap_or(i64::MAX);
        let mut columns = work.codec.decode_ids(&work.groups, &ids)?;
        columns.push(std::sync::Arc::new(numbers.iter().map(|n| n % length).collect::<Int64Array>()));
        columns.push(std::sync::Arc::new(Int64Array::from(numbers)));
        for (call, _) in work.calls.iter().filter(|(c, _)| matches!(c.memory(), Memory::Last(_))) {
            columns.extend(call.save_last(&ids, &back)?);
        }
        saver.put(&last.table, columns)
    }

    fn save_state(&mut self, saver: &mut Saver, groups: &[u32]) -> Result<()> {
        let Over { tables, work, .. } = self;
        let Some(table) = &tables.state else { return Ok(()) };
        for groups in groups.chunks(ROWS_MAX) {
            let mut columns = work.codec.decode_ids(&work.groups, groups)?;
            if columns.is_empty() {
                columns.push(std::sync::Arc::new(Int64Array::from_value(0, groups.len())));
            }
            for (call, _) in work.calls.iter_mut().filter(|(c, _)| c.memory() == Memory::State) {
                columns.extend(call.save_state(groups)?);
            }
            saver.put(table, columns)?;
        }
        Ok(())
    }

    fn save_values(&mut self, saver: &mut Saver) -> Result<()> {
        let Over { tables, work, .. } = self;
        for ((call, _), table) in work.calls.iter_mut().zip(&tables.values) {
            let Some(table) = table else { continue };
            let (groups, values) = call.save_values(saver.whole())?;
            let mut columns = work.codec.decode_ids(&work.groups, &groups)?;
            columns.extend(values);
            saver.put(table, columns)?;
        }
        Ok(())
    }

    pub(super) fn load_table(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        let Over { tables, work, pending, .. } = self;
        let keys = work.keys.len();
        match table {
            "waiting" => {
                let mut columns = vec![rows.column(0).clone(); rows.num_columns()];
                tables.permutation.iter().zip(rows.columns()).for_each(|(at, c)| columns[*at] = c.clone());
                pending.load(RecordBatch::try_new(self.input.clone(), columns)?)
            }
            // In order and with all that belongs to them: when everything has been loaded.
            "log" if tables.log.is_some() => {
                tables.loaded_log.push(rows.clone());
                Ok(())
            }
            "last" if tables.last.is_some() => {
                tables.loaded_last.push(rows.clone());
                Ok(())
            }
            "state" if tables.state.is_some() => {
                let groups = work.groups_of(rows, 0)?;
                let state = &rows.columns()[keys.max(1)..];
                for (i, (call, _)) in
                    work.calls.iter_mut().enumerate().filter(|(_, (c, _))| c.memory() == Memory::State)
                {
                    call.load_state(&groups, work.groups.len(), tables.columns_of(i, state))?;
                }
                Ok(())
            }
            other => {
                let Some(call) = tables.values.iter().position(|t| t.as_ref().is_some_and(|t| t.name == other)) else {
                    return Err(Error::internal(format!("there is no table `{other}` to load")));
                };
                let groups = work.groups_of(rows, 0)?;
                work.calls[call].0.load_values(&groups, work.groups.len(), &rows.columns()[keys..])
            }
        }
    }

    pub(super) fn resume_from(&mut self, watermark: Watermark) -> Result<()> {
        self.watermark = watermark;
        self.replay_log()?;
        self.replay_last()
    }

    /// Lets the rows of the log in again, without a word.
    fn replay_log(&mut self) -> Result<()> {
        let Over { tables, work, watermark, .. } = self;
        let loaded = std::mem::take(&mut tables.loaded_log);
        let Some(first) = loaded.first() else { return Ok(()) };
        let rows = concat_batches(&first.schema(), &loaded)?;
        // Rows of one task stand in order; what several tasks saved has to be merged. Stable, so that rows of a key
        // stay as they were.
        let times = Words::of(rows.column(0))?;
        let mut order: Vec<u32> = (0..times.len() as u32).collect();
        order.sort_by_key(|i| times[*i as usize]);
        let rows = take_record_batch(&rows, &UInt32Array::from(order))?;
        work.log.times = Words::of(rows.column(0))?.to_vec();
        work.log.groups = work.groups_of(&rows, 1)?;
        let slots = work.groups.len();
        if work.forgetful {
            work.held.resize(slots, 0);
            work.log.groups.iter().for_each(|g| work.held[*g as usize] += 1);
        }
        for frame in &mut work.frames {
            frame.cursor = past(&work.log.times, 0, edge(*watermark, frame.preceding));
        }
        let values = &rows.columns()[1 + work.keys.len()..];
        for (i, (call, frame)) in work.calls.iter_mut().enumerate() {
            if let Some(frame) = frame {
                let cursor = work.frames[*frame].cursor;
                call.load_log(&work.log, cursor, slots, tables.columns_of(i, values))?;
            }
        }
        tables.logged = work.log.times.len();
        work.release(tables);
        Ok(())
    }

    /// Puts the last rows of each key back where they were.
    fn replay_last(&mut self) -> Result<()> {
        let Over { tables, work, .. } = self;
        let loaded = std::mem::take(&mut tables.loaded_last);
        let mut groups = Vec::with_capacity(loaded.len());
        for rows in &loaded {
            let of_rows = work.groups_of(rows, 0)?;
            let Some(last) = &mut tables.last else { continue };
            last.grow(work.groups.len());
            let numbers = numbers(rows, work.keys.len() + 1)?;
            for (group, number) in of_rows.iter().zip(numbers.values()) {
                let count = &mut last.counts[*group as usize];
                *count = (*count).max(*number as u64 + 1);
            }
            last.saved.clone_from(&last.counts);
            groups.push(of_rows);
        }
        let Some(last) = &tables.last else { return Ok(()) };
        for (rows, groups) in loaded.iter().zip(&groups) {
            let numbers = numbers(rows, work.keys.len() + 1)?;
            for (i, (call, _)) in work.calls.iter_mut().enumerate() {
                let Memory::Last(length) = call.memory() else { continue };
                // A call with a shorter frame than others holds fewer rows.
                let held = |row: &u32| {
                    let (group, number) = (groups[*row as usize], numbers.value(*row as usize) as u64);
                    number >= last.counts[group as usize].saturating_sub(length)
                };
                let held: Vec<u32> = (0..groups.len() as u32).filter(held).collect();
                let of_rows: Vec<u32> = held.iter().map(|row| groups[*row as usize]).collect();
                let held = UInt32Array::from(held);
                let values = tables.columns_of(i, &rows.columns()[work.keys.len() + 2..]);
                let values = values.iter().map(|c| take(c, &held, None)).collect::<Result<Vec<_>, _>>()?;
                call.load_last(&of_rows, work.groups.len(), &values)?;
            }
        }
        Ok(())
    }
}

fn numbers(rows: &RecordBatch, column: usize) -> Result<&Int64Array> {
    rows.column(column)
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| Error::data("the number of a saved row is no BIGINT").remedy("start from an earlier checkpoint"))
}

/// Rows before this time have left a frame once the watermark has come: every row to come is later than that.
pub(super) fn edge(watermark: Watermark, preceding: Millis) -> Millis {
    watermark.0.saturating_add(1).saturating_sub(preceding)
}

impl Frames {
    /// The group of each saved row, whose keys stand from column `from` on.
    fn groups_of(&mut self, rows: &RecordBatch, from: usize) -> Result<Vec<u32>> {
        let mut groups = Vec::with_capacity(rows.num_rows());
        let keys = self.codec.encode(&rows.columns()[from..from + self.keys.len()], rows.num_rows())?;
        self.groups.assign(&keys, 0..rows.num_rows(), &mut groups);
        Ok(groups)
    }
}
