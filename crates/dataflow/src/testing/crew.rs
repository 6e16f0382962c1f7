//! The tasks of one operator, that crash and come back, as others if need be.

use super::Capture;
use crate::operator::{Event, Operator, Watermarks};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use millstream_core::TimeDomain;
use millstream_core::key::{hash_rows, key_group, owner};
use millstream_state::table::{Saver, TableDef, alive};
use std::collections::BTreeMap;

/// The tasks of one operator, with what has been saved of each.
pub struct Crew {
    pub tasks: Vec<Box<dyn Operator>>,
    /// By task and table: the pieces saved, oldest first.
    saved: Vec<BTreeMap<String, (TableDef, Vec<RecordBatch>)>>,
    pub watermarks: Watermarks,
    /// Where each task stands: it does not hear of what it is ahead of.
    at: Vec<Watermarks>,
    /// What came out while shares were joined; comes out with the next step.
    settled: Capture,
}

impl Crew {
    pub fn new(make: &impl Fn() -> Box<dyn Operator>, tasks: usize) -> Crew {
        let mut tasks: Vec<_> = (0..tasks).map(|_| make()).collect();
        tasks.iter_mut().for_each(|t| t.track_changes());
        let saved = tasks.iter().map(|_| BTreeMap::new()).collect();
        let at = vec![Watermarks::NONE; tasks.len()];
        Crew { tasks, saved, watermarks: Watermarks::NONE, at, settled: Capture::default() }
    }

    /// Hands an event on: to all tasks, or each row to the one that owns it by these columns.
    pub fn step(&mut self, keys: &[usize], event: Event) -> Capture {
        let mut capture = std::mem::take(&mut self.settled);
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
            let heard = match &mine {
                Event::Watermark(domain, to) => *to >= self.at[task].of(*domain),
                Event::Batch { batch, .. } => !batch.is_empty(),
                Event::End => true,
            };
            if heard {
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

    /// What came out while shares were joined, for whoever steps the tasks without [`Crew::step`].
    pub fn take_settled(&mut self, out: &mut Capture) {
        let settled = std::mem::take(&mut self.settled);
        out.emitted.extend(settled.emitted);
        out.late.extend(settled.late);
    }

    /// Saves what has changed, or everything the first time.
    pub fn save(&mut self) {
        for ((operator, saved), at) in self.tasks.iter_mut().zip(&mut self.saved).zip(&mut self.at) {
            at.advance_to(self.watermarks);
            at.advance_to(operator.reached());
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

    /// Shares that stand at different watermarks are brought to the furthest one before they are joined.
    fn restore(self, make: &impl Fn() -> Box<dyn Operator>, tasks: usize) -> Crew {
        let mut crew = Crew::new(make, tasks);
        crew.watermarks = self.watermarks;
        crew.settled = self.settled;
        let mut furthest = self.watermarks;
        self.at.iter().for_each(|at| furthest.advance_to(*at));
        if tasks == self.tasks.len() {
            crew.at = self.at;
            crew.load(&self.saved);
            crew.saved = self.saved;
            return crew;
        }
        crew.at = vec![furthest; tasks];
        let mut settled = Vec::new();
        for (saved, at) in self.saved.into_iter().zip(self.at) {
            if at == furthest {
                settled.push(saved);
                continue;
            }
            let mut share = Crew::new(make, 1);
            share.at = vec![at];
            share.load(&[saved]);
            for domain in [TimeDomain::Event, TimeDomain::Processing] {
                let event = Event::Watermark(domain, furthest.of(domain));
                share.tasks[0].step(event, &mut crew.settled).expect("the share is brought up");
            }
            share.tasks[0].flush(&mut crew.settled).expect("flushes");
            share.save();
            settled.append(&mut share.saved);
        }
        crew.load(&settled);
        crew
    }

    fn load(&mut self, saved: &[BTreeMap<String, (TableDef, Vec<RecordBatch>)>]) {
        let tasks = self.tasks.len();
        for (table, pieces) in saved.iter().flat_map(|s| s.values()) {
            for rows in alive(table, pieces).expect("the pieces merge") {
                let columns: Vec<ArrayRef> = table.group_by.iter().map(|c| rows.column(*c).clone()).collect();
                let owners = match columns.is_empty() {
                    true => vec![0; rows.num_rows()],
                    false => owners(&columns, rows.num_rows(), tasks),
                };
                for (task, operator) in self.tasks.iter_mut().enumerate() {
                    let mine = BooleanArray::from_iter(owners.iter().map(|o| Some(*o == task)));
                    let mine = arrow::compute::filter_record_batch(&rows, &mine).expect("as many as rows");
                    if mine.num_rows() > 0 {
                        operator.load(&table.name, table.version, &mine).expect("the rows load");
                    }
                }
            }
        }
        let resumed = self.tasks.iter_mut().zip(&self.at);
        resumed.for_each(|(operator, at)| operator.resume(*at).expect("the operator resumes"));
    }
}

/// The task that owns the key group of each row.
pub fn owners(columns: &[ArrayRef], rows: usize, tasks: usize) -> Vec<usize> {
    let mut hashes = Vec::new();
    hash_rows(columns, rows, &mut hashes).expect("columns that can be keys");
    hashes.iter().map(|h| owner(key_group(*h), tasks as u32) as usize).collect()
}
