//! How much of what tasks have saved may wait in memory for its writer.
//!
//! ```text
//!  task 0 ─save─▶ pieces ─┐ held ┌──────────┐
//!  task 1 ─save─▶ pieces ─┼─────▶│ SaveRoom │ one for the job: so many bytes
//!                         │      └──────────┘
//!                         └─ full: what this saver holds goes to scratch space, as one run, and is read from there
//! ```
//!
//! A save is copied at the barrier and written later, by another thread and to a store that may be slow. The copies are
//! as large as what has changed, for every task and for every checkpoint that the store has not taken yet. So they are
//! counted, and where they become too many they go below. Nobody waits for anybody: a task that waited for the writer would
//! hold up its rows, and where one thread turns everything, nobody would ever write.
//!
//! Always true: what has gone below is read back as it was, and in its order. It need not outlive the process, since it
//! counts for nothing before a manifest names a file with it.

use crate::table::{Later, Piece};
use crate::tier::{Packing, Places, RunId, RunWriter, Spill, block_schema, compact, read_block};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Of one saver so much stays in memory in any case, but for a quarter of the room: a run for a handful of rows is not
/// worth its file.
const HELD_MIN: usize = 64 << 10;

/// Room for saves, shared by all tasks of a job.
pub struct SaveRoom {
    space: Arc<dyn Spill>,
    bytes_max: usize,
    held: AtomicUsize,
    most: AtomicUsize,
}

impl SaveRoom {
    pub fn new(space: Arc<dyn Spill>, bytes_max: usize) -> Arc<SaveRoom> {
        Arc::new(SaveRoom { space, bytes_max, held: AtomicUsize::new(0), most: AtomicUsize::new(0) })
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub fn space(&self) -> &Arc<dyn Spill> {
        &self.space
    }

    /// Bytes that wait in memory now.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// The most that have ever waited at once.
    pub fn most(&self) -> usize {
        self.most.load(Relaxed)
    }
}

/// What one save takes of the room, until it is dropped.
pub struct Held {
    room: Arc<SaveRoom>,
    bytes: usize,
}

impl Held {
    pub(crate) fn nothing(room: Arc<SaveRoom>) -> Held {
        Held { room, bytes: 0 }
    }

    /// Takes in more. Whether what is held has to go below now.
    pub(crate) fn take(&mut self, rows: &RecordBatch) -> bool {
        let bytes = Batch::from(rows.clone()).bytes();
        self.bytes += bytes;
        let all = self.room.held.fetch_add(bytes, Relaxed) + bytes;
        self.room.most.fetch_max(all, Relaxed);
        all > self.room.bytes_max && self.bytes > HELD_MIN.min(self.room.bytes_max / 4)
    }

    /// Writes pieces into one run: for each table what reads its rows back.
    pub(crate) fn go_below(&mut self, pieces: Vec<Piece>) -> Result<Vec<Later>> {
        let mut writer = RunWriter::new(self.room.space.as_ref(), Packing::Plain)?;
        let mut tables: Vec<(crate::table::TableDef, Vec<(usize, SchemaRef)>)> = Vec::new();
        for (at, piece) in pieces.into_iter().enumerate() {
            let rows = compact(&piece.rows)?;
            writer.push(Some(&rows))?;
            let decodes_as = block_schema(rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect());
            match tables.iter_mut().find(|(table, _)| table.name == piece.table.name) {
                Some((_, blocks)) => blocks.push((at, decodes_as)),
                None => tables.push((piece.table, vec![(at, decodes_as)])),
            }
        }
        let (run, places) = writer.finish()?;
        let run = Arc::new(Run { space: self.room.space.clone(), run, places });
        self.room.held.fetch_sub(std::mem::take(&mut self.bytes), Relaxed);
        let later = |(table, blocks): (crate::table::TableDef, Vec<(usize, SchemaRef)>)| {
            let (run, as_saved) = (run.clone(), table.piece_schema());
            Later::new(table, move || {
                let (run, as_saved) = (run.clone(), as_saved.clone());
                let read = move |(at, schema): (usize, SchemaRef)| {
                    let rows = run.read(at, &schema).transpose()?;
                    Some(rows.and_then(|rows| Ok(RecordBatch::try_new(as_saved.clone(), rows.columns().to_vec())?)))
                };
                Box::new(blocks.clone().into_iter().filter_map(read))
            })
        };
        Ok(tables.into_iter().map(later).collect())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Relaxed);
    }
}

/// A run that goes with the last one that reads it.
pub(crate) struct Run {
    pub space: Arc<dyn Spill>,
    pub run: RunId,
    pub places: Places,
}

impl Run {
    pub fn read(&self, at: usize, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        read_block(self.space.as_ref(), self.run, &self.places, at, schema)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.space.remove(self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Saver, TableDef};
    use crate::tier::MemorySpace;
    use arrow::array::{ArrayRef, Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field};

    /// Bytes of a thousand rows, at most.
    const PIECE: usize = 100_000;

    fn table(name: &str) -> TableDef {
        TableDef::new(name, vec![Field::new("k", DataType::Int64, false), Field::new("t", DataType::Utf8View, true)], 1)
    }

    fn put(saver: &mut Saver, table: &TableDef, from: i64) {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 1000));
        let text = |i: i64| (i % 5 > 0).then(|| format!("a text of more than twelve letters {i}"));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter((from..from + 1000).map(text)));
        saver.put(table, vec![numbers, texts]).unwrap();
    }

    fn fill(saver: &mut Saver) {
        let (a, b) = (table("a"), table("b"));
        for at in 0..40 {
            put(saver, if at % 3 == 0 { &b } else { &a }, at * 1000);
            if at % 7 == 0 {
                saver.delete(&a, vec![Arc::new(Int64Array::from(vec![at * 500]))]).unwrap();
            }
        }
    }

    /// The rows of a table, in the order in which a file gets them.
    fn written(saver: Saver, name: &str) -> (Vec<RecordBatch>, usize) {
        let saved = saver.into_saved();
        let pieces = saved.pieces.iter().filter(|p| p.table.name == name).map(|p| Ok(p.rows.clone()));
        let below = saved.below.iter().filter(|l| l.table.name == name).flat_map(Later::read);
        let count = saved.below.len();
        (below.chain(pieces).collect::<Result<_>>().unwrap(), count)
    }

    #[test]
    fn what_has_no_room_goes_below_and_comes_back_in_its_order() {
        let space = Arc::new(MemorySpace::default());
        let room = SaveRoom::new(space.clone(), 200_000);
        for name in ["a", "b"] {
            let (mut free, mut within) = (Saver::reading_later(true), Saver::reading_later(true).within(room.clone()));
            fill(&mut free);
            fill(&mut within);
            let ((wanted, none), (got, some)) = (written(free, name), written(within, name));
            assert_eq!(got, wanted);
            assert!(none == 0 && some > 2, "{some} parts below");
        }
        assert!(room.most() <= 200_000 + PIECE, "{} bytes were held at once", room.most());
        assert_eq!((room.held(), space.runs()), (0, 0), "what has been written takes no room");
    }

    #[test]
    fn savers_share_the_room() {
        let room = SaveRoom::new(Arc::new(MemorySpace::default()), 300_000);
        let savers: Vec<_> = (0..8)
            .map(|_| {
                let mut saver = Saver::reading_later(true).within(room.clone());
                fill(&mut saver);
                saver.into_saved()
            })
            .collect();
        // Each may keep a little more than there is room for.
        let most = 300_000 + savers.len() * (HELD_MIN + PIECE);
        assert!(room.held() <= most && room.most() <= most, "{} held, {} at once", room.held(), room.most());
        drop(savers);
        assert_eq!(room.held(), 0);
    }
}
