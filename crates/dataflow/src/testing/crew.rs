//! The tasks of one operator, that crash and come back, as others if need be.

use super::Capture;
use crate::operator::{Event, Operator, Watermarks};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use millstream_core::key::{hash_rows, key_group, owner};
use millstream_state::table::{Saver, TableDef, alive};
use std::collections::BTreeMap;

/// The tasks of one operator, with what has been saved of each.
pub struct Crew {
    pub tasks: Vec<Box<dyn Operator>>,
    /// By task and table: the pieces saved, oldest first.
    saved: Vec<BTreeMap<String, (TableDef, Vec<RecordBatch>)>>,
    pub watermarks: Watermarks,
}

impl Crew {
    pub fn new(make: &impl Fn() -> Box<dyn Operator>, tasks: usize) -> Crew {
        let mut tasks: Vec<_> = (0..tasks).map(|_| make()).collect();
        tasks.iter_mut().for_each(|t| t.track_changes());
        let saved = tasks.iter().map(|_| BTreeMap::new()).collect();
        Crew { tasks, saved, watermarks: Watermarks::NONE }
    }

    /// Hands an event on: to all tasks, or each row to the one that owns it by these columns.
    pub fn step(&mut self, keys: &[usize], event: Event) -> Capture {
        let mut capture = Capture::default();
        if let Event::Watermark(domain, to) = &event {
            self.watermarks.advance(*domain, *to);
        }
        let owners = match &event {
            Event::Batch { batch, .. } if !keys.is_empty() => {
                let columns: Vec<ArrayRef> = keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
                owners(&columns, batch.len(), self.tasks.len())
            }
            Event::Batch { batch, .. } => vec![0; batch.len()],
            _ => Vec::new(),
        };
        for (task, operator) in self.tasks.iter_mut().enumerate() {
            let mine = match &event {
                Event::Watermark(domain, to) => Event::Watermark(*domain, *to),
                Event::End => Event::End,
                Event::Batch { input, batch } => {
                    let mine = BooleanArray::from_iter(owners.iter().map(|o| Some(*o == task)));
                    Event::Batch { input: *input, batch: batch.filter(&mine).expect("as many as rows") }
                }
            };
            if !matches!(&mine, Event::Batch { batch, .. } if batch.is_empty()) {
                operator.step(mine, &mut capture).expect("the step succeeds");
            }
        }
        capture
    }

    /// Saves everything, forgets the operators and restores new ones. On as many tasks as before the chains of changes
    /// go on; otherwise they begin anew, with everything.
    pub fn crash(mut self, make: &impl Fn() -> Box<dyn Operator>, tasks: usize) -> Crew {
        self.save();
        self.restore(make, tasks)
    }

    /// Saves what has changed, or everything the first time.
    pub fn save(&mut self) {
        for (operator, saved) in self.tasks.iter_mut().zip(&mut self.saved) {
            let whole = saved.is_empty();
            let mut saver = Saver::new(whole);
            operator.save(&mut saver).expect("the save succeeds");
            let defs = operator.tables();
            for def in &defs {
                saved.entry(def.name.clone()).or_insert_with(|| (def.clone(), Vec::new()));
            }
            for piece in saver.into_pieces() {
                assert!(defs.contains(&piece.table), "`{}` is no declared table", piece.table.name);
                saved.get_mut(&piece.table.name).expect("a declared table").1.push(piece.rows);
            }
            // Whoever reads a whole piece relies on it that no two rows of it have one name.
            for (table, pieces) in saved.values().filter(|(_, pieces)| whole && !pieces.is_empty()) {
                let all: Vec<_> = pieces.iter().cloned().chain([pieces[0].slice(0, 0)]).collect();
                let alive: usize = alive(table, &all).expect("the pieces merge").iter().map(|b| b.num_rows()).sum();
                let rows: usize = pieces.iter().map(|b| b.num_rows()).sum();
                assert_eq!(alive, rows, "a whole piece of `{}` names rows twice", table.name);
            }
        }
    }

    fn restore(self, make: &impl Fn() -> Box<dyn Operator>, tasks: usize) -> Crew {
        let mut crew = Crew::new(make, tasks);
        crew.watermarks = self.watermarks;
        for (table, pieces) in self.saved.iter().flat_map(|s| s.values()) {
            for rows in alive(table, pieces).expect("the pieces merge") {
                let columns: Vec<ArrayRef> = table.group_by.iter().map(|c| rows.column(*c).clone()).collect();
                let owners = match columns.is_empty() {
                    true => vec![0; rows.num_rows()],
                    false => owners(&columns, rows.num_rows(), tasks),
                };
                for (task, operator) in crew.tasks.iter_mut().enumerate() {
                    let mine = BooleanArray::from_iter(owners.iter().map(|o| Some(*o == task)));
                    let mine = arrow::compute::filter_record_batch(&rows, &mine).expect("as many as rows");
                    if mine.num_rows() > 0 {
                        operator.load(&table.name, table.version, &mine).expect("the rows load");
                    }
                }
            }
        }
        crew.tasks.iter_mut().for_each(|o| o.resume(self.watermarks).expect("the operator resumes"));
        if tasks == self.tasks.len() {
            crew.saved = self.saved;
        }
        crew
    }
}

/// The task that owns the key group of each row.
pub fn owners(columns: &[ArrayRef], rows: usize, tasks: usize) -> Vec<usize> {
    let mut hashes = Vec::new();
    hash_rows(columns, rows, &mut hashes).expect("columns that can be keys");
    hashes.iter().map(|h| owner(key_group(*h), tasks as u32) as usize).collect()
}
