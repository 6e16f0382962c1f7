//! What sessions remember, as tables.
//!
//! ```text
//!  sessions          session │ key .. │ session_start │ last_row │ fired │ count │ ..   one row for each session
//!  distinct_bidder   session │ key .. │ bidder │ mask                                   one for each value seen
//! ```
//!
//! A session has a name in its key, given at its first save: its start at that time. It keeps the name when it grows,
//! to either side, so growing is a put, closing a delete, and a merge one of each. No two open sessions of a key have one
//! name: the time that names a session lies in it for good, and open sessions do not overlap.
//!
//! With `EMIT` a session also has how many rows have come since its last pane, and the window and the result that were told last. Where
//! panes discard, its distinct values begin anew with each: they are a part that is dropped.
//!
//! Timers are not saved. They are set anew from what is loaded.

use super::panes::{Pane, Telling, Window};
use super::{Session, SessionAggregate};
use crate::graph::Panes;
use crate::operator::Watermarks;
use crate::window::emit::{PLAIN, times};
use crate::window::panes::saved::spread;
use crate::window::panes::told::Results;
use crate::window::saved::{Groups, Tables, millis, time_field};
use crate::window::table::{Grouping, Table};
use arrow::array::*;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use millstream_core::{Error, Millis, Result, TimeDomain};
use millstream_state::table::Saver;
use std::collections::HashMap;
use std::sync::Arc;

/// Which sessions stand in the tables of the last checkpoint, and under which names.
pub(super) struct Book {
    pub tables: Tables,
    /// By id: the name of its session, once that has been saved.
    names: Vec<Option<Millis>>,
    /// Keys (ids) and names of sessions that were saved and are no more.
    struck: Vec<(u32, Millis)>,
    /// The same in columns, of keys whose ids may have been given back since.
    gone: Vec<Vec<ArrayRef>>,
    /// As `struck` and `gone`, of saved sessions whose distinct values have begun anew.
    anew: Vec<(u32, Millis)>,
    gone_values: Vec<Vec<ArrayRef>>,
    /// Ids by key and name, while tables are loaded.
    loading: HashMap<(u32, Millis), u32>,
}

impl Book {
    pub fn new(grouping: &Grouping, input: &Schema) -> Book {
        Book::with(grouping, input, Vec::new())
    }

    /// Of sessions that are told in panes.
    pub fn told(grouping: &Grouping, input: &Schema, results: &Results, panes: Panes) -> Book {
        let mut extra = vec![Field::new("pending", DataType::Int64, true)];
        if panes != Panes::Discarding {
            extra.push(Field::new("told", DataType::Boolean, true));
            extra.extend([time_field("told_start"), time_field("told_end")]);
            let told = |f: &Arc<Field>| f.as_ref().clone().with_name(format!("told_{}", f.name())).with_nullable(true);
            extra.extend(results.schema().fields().iter().map(told));
        }
        Book::with(grouping, input, extra)
    }

    fn with(grouping: &Grouping, input: &Schema, telling: Vec<Field>) -> Book {
        let mut extra =
            vec![time_field("session_start"), time_field("last_row"), Field::new("fired", DataType::Boolean, true)];
        extra.extend(telling);
        let lead = vec![time_field("session")];
        let part = 1 + grouping.keys.len();
        Book {
            tables: Tables::new("sessions", grouping, input, lead, extra, part),
            names: Vec::new(),
            struck: Vec::new(),
            gone: Vec::new(),
            anew: Vec::new(),
            gone_values: Vec::new(),
            loading: HashMap::new(),
        }
    }

    /// The session of this id is no more.
    pub fn strike(&mut self, id: u32, key: u32) {
        if let Some(name) = self.names.get_mut(id as usize).and_then(Option::take) {
            self.struck.push((key, name));
        }
    }

    /// The distinct values of this session begin anew.
    pub fn begin_anew(&mut self, id: u32, key: u32) {
        if let Some(name) = self.names.get(id as usize).copied().flatten().filter(|_| !self.tables.distincts.is_empty())
        {
            self.anew.push((key, name));
        }
    }

    /// A session moves to another id, which has none.
    pub fn rename(&mut self, from: u32, to: u32) {
        if let Some(name) = self.names.get_mut(from as usize).and_then(Option::take) {
            self.set(to, name);
        }
    }

    /// Takes the keys of struck sessions down, before their ids are given back.
    pub fn write_out(&mut self, grouping: &Grouping, table: &Table) -> Result<()> {
        for (named, gone) in [(&mut self.struck, &mut self.gone), (&mut self.anew, &mut self.gone_values)] {
            if named.is_empty() {
                continue;
            }
            let (keys, names): (Vec<u32>, Vec<Millis>) = std::mem::take(named).into_iter().unzip();
            let mut columns = vec![times(names, &PLAIN)];
            columns.extend(grouping.codec.decode_ids(&table.keys, &keys)?);
            gone.push(columns);
        }
        Ok(())
    }

    fn set(&mut self, id: u32, name: Millis) {
        let id = id as usize;
        if self.names.len() <= id {
            self.names.resize(id + 1, None);
        }
        self.names[id] = Some(name);
    }

    /// Names of saved sessions.
    fn of(&self, ids: &[u32]) -> Vec<Millis> {
        let name = |id: &u32| self.names.get(*id as usize).copied().flatten().expect("it has been named");
        ids.iter().map(name).collect()
    }

    pub fn bytes(&self) -> usize {
        let gone =
            self.gone.iter().chain(&self.gone_values).flatten().map(|c| c.get_array_memory_size()).sum::<usize>();
        self.names.capacity() * size_of::<Option<Millis>>()
            + (self.struck.capacity() + self.anew.capacity()) * 16
            + gone
    }
}

/// The columns of several pieces, each in one.
fn joined(pieces: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>> {
    let column = |at: usize| {
        let parts: Vec<&dyn Array> = pieces.iter().map(|columns| columns[at].as_ref()).collect();
        Ok(concat(&parts)?)
    };
    (0..pieces[0].len()).map(column).collect()
}

impl Telling {
    /// What stands of these sessions between their bounds and their state.
    fn columns(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        let panes: Vec<&Pane> = ids.iter().map(|id| &self.panes[*id as usize]).collect();
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(panes.iter().map(|p| p.pending as i64)))];
        if self.rules.panes == Panes::Discarding {
            return Ok(columns);
        }
        let told = BooleanArray::from_iter(panes.iter().map(|p| Some(p.told.is_some())));
        let bound = |of: fn(&Window) -> Millis| -> ArrayRef {
            let bounds = panes.iter().map(|p| p.told.as_ref().map(|(window, _)| of(window)));
            Arc::new(bounds.collect::<TimestampMillisecondArray>())
        };
        columns.extend([Arc::new(told.clone()) as ArrayRef, bound(|w| w.0), bound(|w| w.1)]);
        let values = self.results.decode(panes.iter().filter_map(|p| p.told.as_ref().map(|(_, told)| &**told)))?;
        for values in values {
            columns.push(spread(&told, &values)?);
        }
        Ok(columns)
    }

    fn load(&mut self, ids: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let missing = || Error::internal("a table of sessions without its columns");
        let [pending, rest @ ..] = columns else { return Err(missing()) };
        let pending = pending.as_primitive::<Int64Type>();
        for (row, id) in ids.iter().enumerate() {
            self.add_pending(*id, u64::try_from(pending.value(row)).unwrap_or(0));
        }
        if self.rules.panes == Panes::Discarding {
            return Ok(());
        }
        let [told, starts, ends, rest @ ..] = rest else { return Err(missing()) };
        let values = rest.get(..self.results.schema().fields().len()).ok_or_else(missing)?;
        let encoded = self.results.encode(values.to_vec(), ids.len())?;
        let (starts, ends) = (millis(starts), millis(ends));
        for (row, id) in ids.iter().enumerate().filter(|(row, _)| told.as_boolean().value(*row)) {
            self.set_told(*id, Some(((starts[row], ends[row]), encoded.row(row).into())));
        }
        Ok(())
    }
}

impl SessionAggregate {
    pub(super) fn save_tables(&mut self, saver: &mut Saver) -> Result<()> {
        self.book.write_out(&self.grouping, &self.table)?;
        let (gone, gone_values) = (std::mem::take(&mut self.book.gone), std::mem::take(&mut self.book.gone_values));
        if !saver.whole() && !gone_values.is_empty() {
            let names = joined(&gone_values)?;
            for table in &self.book.tables.distincts {
                saver.drop_parts(table, names.clone())?;
            }
        }
        if !saver.whole() && !gone.is_empty() {
            let names = joined(&gone)?;
            saver.delete(&self.book.tables.groups, names.clone())?;
            for table in &self.book.tables.distincts {
                saver.drop_parts(table, names.clone())?;
            }
        }
        let mut ids = self.table.take_changed(saver.whole());
        ids.retain(|id| self.sessions.get(*id as usize).is_some_and(|s| s.open));
        for id in &ids {
            if self.book.names.get(*id as usize).copied().flatten().is_none() {
                self.book.set(*id, self.sessions[*id as usize].first);
            }
        }
        let (sessions, book) = (&self.sessions, &self.book);
        let of = |id: &u32| &sessions[*id as usize];
        let keys: Vec<u32> = ids.iter().map(|id| of(id).key).collect();
        let mut extra: Vec<ArrayRef> = vec![
            times(ids.iter().map(|id| of(id).first).collect(), &PLAIN),
            times(ids.iter().map(|id| of(id).last).collect(), &PLAIN),
            Arc::new(ids.iter().map(|id| Some(of(id).fired)).collect::<BooleanArray>()),
        ];
        if let Some(telling) = &self.telling {
            extra.extend(telling.columns(&ids)?);
        }
        let lead = |ids: &[u32]| vec![times(book.of(ids), &PLAIN)];
        let rows = Groups { lead: lead(&ids), keys: &keys, groups: &ids, extra };
        book.tables.put(saver, &self.grouping, &self.table, rows)?;
        let all = saver.whole();
        book.tables.put_distinct(saver, all, &self.grouping, &mut self.table, lead, |id| of(&id).key)
    }

    pub(super) fn load_table(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        let set = self.book.tables.find(table)?;
        let loaded = self.book.tables.read(set, rows)?;
        let keys = self.grouping.codec.encode(&loaded.keys, rows.num_rows())?;
        let mut ids = Vec::new();
        self.table.keys.assign(&keys, 0..rows.num_rows(), &mut ids);
        self.grow();
        for (id, name) in ids.iter_mut().zip(millis(&loaded.lead[0])) {
            *id = self.named(*id, *name);
        }
        if set.is_none() {
            let (firsts, lasts) = (millis(&loaded.rest[0]), millis(&loaded.rest[1]));
            let fired = loaded.rest[2].as_boolean();
            for (row, id) in ids.iter().enumerate() {
                let session = &mut self.sessions[*id as usize];
                (session.first, session.last, session.fired) = (firsts[row], lasts[row], fired.value(row));
            }
            if let Some(telling) = &mut self.telling {
                telling.load(&ids, &loaded.rest[3..])?;
            }
        }
        self.book.tables.load(set, &mut self.table, &ids, &loaded.rest)
    }

    /// The id of a session that is loaded. A table of distinct values may come before that of the sessions.
    fn named(&mut self, key: u32, name: Millis) -> u32 {
        if let Some(id) = self.book.loading.get(&(key, name)) {
            return *id;
        }
        let id = match self.sessions[key as usize].open {
            false => key,
            true => {
                let id = self.table.keys.extra();
                self.grow();
                self.more.entry(key).or_default().push(id);
                self.sessions[key as usize].many = true;
                id
            }
        };
        self.sessions[id as usize] = Session { first: name, last: name, key, open: true, ..Session::default() };
        self.book.loading.insert((key, name), id);
        self.book.set(id, name);
        id
    }

    pub(super) fn go_on(&mut self, watermarks: Watermarks) {
        self.watermark = watermarks.of(self.timing.domain);
        self.local_watermark = self.timing.local(self.watermark);
        if let Some(telling) = &mut self.telling {
            telling.clock = watermarks.of(TimeDomain::Processing);
        }
        self.book.loading = HashMap::new();
        for id in 0..self.sessions.len() as u32 {
            let session = self.sessions[id as usize];
            if session.open {
                let due = self.end(session.last).saturating_sub(1);
                self.wait(id, if session.fired { due.saturating_add(self.lateness) } else { due });
            }
        }
    }
}
