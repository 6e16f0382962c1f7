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
//! Timers are not saved. They are set anew from what is loaded.

use super::{Session, SessionAggregate};
use crate::operator::Watermarks;
use crate::window::emit::{PLAIN, times};
use crate::window::saved::{Groups, Tables, millis, time_field};
use crate::window::table::{Grouping, Table};
use arrow::array::*;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::{Millis, Result};
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
    /// Ids by key and name, while tables are loaded.
    loading: HashMap<(u32, Millis), u32>,
}

impl Book {
    pub fn new(grouping: &Grouping, input: &Schema) -> Book {
        let extra =
            vec![time_field("session_start"), time_field("last_row"), Field::new("fired", DataType::Boolean, true)];
        let lead = vec![time_field("session")];
        let part = 1 + grouping.keys.len();
        Book {
            tables: Tables::new("sessions", grouping, input, lead, extra, part),
            names: Vec::new(),
            struck: Vec::new(),
            gone: Vec::new(),
            loading: HashMap::new(),
        }
    }

    /// The session of this id is no more.
    pub fn strike(&mut self, id: u32, key: u32) {
        if let Some(name) = self.names.get_mut(id as usize).and_then(Option::take) {
            self.struck.push((key, name));
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
        if self.struck.is_empty() {
            return Ok(());
        }
        let (keys, names): (Vec<u32>, Vec<Millis>) = std::mem::take(&mut self.struck).into_iter().unzip();
        let mut columns = vec![times(names, &PLAIN)];
        columns.extend(grouping.codec.decode_ids(&table.keys, &keys)?);
        self.gone.push(columns);
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
        let gone = self.gone.iter().flatten().map(|c| c.get_array_memory_size()).sum::<usize>();
        self.names.capacity() * size_of::<Option<Millis>>() + self.struck.capacity() * 16 + gone
    }
}

impl SessionAggregate {
    pub(super) fn save_tables(&mut self, saver: &mut Saver) -> Result<()> {
        self.book.write_out(&self.grouping, &self.table)?;
        let gone = std::mem::take(&mut self.book.gone);
        if !saver.whole() && !gone.is_empty() {
            let column = |at: usize| {
                let parts: Vec<&dyn Array> = gone.iter().map(|columns| columns[at].as_ref()).collect();
                Ok(concat(&parts)?)
            };
            let names = (0..gone[0].len()).map(column).collect::<Result<Vec<ArrayRef>>>()?;
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
        let extra: Vec<ArrayRef> = vec![
            times(ids.iter().map(|id| of(id).first).collect(), &PLAIN),
            times(ids.iter().map(|id| of(id).last).collect(), &PLAIN),
            Arc::new(ids.iter().map(|id| Some(of(id).fired)).collect::<BooleanArray>()),
        ];
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
