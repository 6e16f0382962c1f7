//! One budget of memory for a job, and the tier below it.
//!
//! ```text
//!  operator ─state_bytes─▶ Share ─┐
//!  operator ─state_bytes─▶ Share ─┼─▶ Budget (one for the job)
//!                                 │      └─ over: what a holder is asked to shed, the greater part from the greater ones
//!  operator ◀───────shed(bytes)───┘
//!     └─ runs: sorted out by range, append-only ──▶ Spill (scratch space; the runtime's files)
//! ```
//!
//! What goes down goes as a *run*: many rows at once, divided into [`RANGES`] ranges of keys, each of which is read alone.
//! No row is ever looked up below: rows of one key lie in several runs and in memory, and are joined, range by range, when
//! their result is due. So a row costs the same on its way down however large the state is, and on its way up only the
//! memory of one range.
//!
//! Scratch space outlives nothing: what has to survive a crash stands in a checkpoint.
//!
//! Here nothing reads or writes files: [`Spill`] is handed in.

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message};
use arrow_ipc::{Block, CompressionType, MetadataVersion};
use millstream_core::{ByteSize, Error, Result};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

/// Ranges that the keys of a run are divided into. More: less memory to join one of them; fewer: longer reads. With a
/// state of ten times the budget, one range is a thirteenth of the budget.
pub const RANGES: usize = 128;

/// Past the budget by this much, in percent, a job with a budget that somebody has set ends with an error.
const OVER_MAX_PERCENT: usize = 10;

/// What is asked for goes down to this share of the budget, in percent: runs are then few and long.
const SHED_TO_PERCENT: usize = 75;

/// Names a run in scratch space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// Scratch space below the memory. Shared by all tasks of a job.
pub trait Spill: Send + Sync {
    /// A new, empty run.
    fn create(&self) -> Result<RunId>;

    /// Adds bytes to the end of a run.
    fn append(&self, run: RunId, bytes: &[u8]) -> Result<()>;

    /// Some bytes of a run.
    fn read(&self, run: RunId, bytes: Range<u64>) -> Result<Vec<u8>>;

    /// Forgets a run and gives its space back. Failing to do so harms nobody.
    fn remove(&self, run: RunId);
}

/// Where the blocks of a run stand, one behind the other: 12 bytes for each, since a job may have many runs.
#[derive(Debug, Default)]
pub struct Places(Vec<Place>);

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Bytes of the Arrow message in front of the rows.
    head: u32,
    /// Bytes with the message; 0: there are no rows.
    len: u32,
    /// Of the bytes, so that a disk that gives back others is noticed.
    checksum: u32,
}

impl Places {
    /// Bytes held here.
    pub fn bytes(&self) -> usize {
        self.0.len() * size_of::<Place>()
    }

    /// The bytes of a block in its run.
    fn range(&self, at: usize) -> Range<u64> {
        let from = self.0[..at].iter().map(|p| u64::from(p.len)).sum();
        from..from + u64::from(self.0[at].len)
    }
}

/// How blocks are compressed. LZ4 costs more time than it saves on state that the page cache holds (see
/// `millstream-bench state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    #[default]
    Plain,
    Lz4,
}

/// Writes a run, block by block. Given up half-way, it takes the run away again.
pub struct RunWriter<'a> {
    space: &'a dyn Spill,
    run: Option<RunId>,
    places: Places,
    generator: IpcDataGenerator,
    context: IpcWriteContext,
    options: IpcWriteOptions,
    /// What has not been handed on yet.
    bytes: Vec<u8>,
}

/// Bytes that a run's writer gathers before it hands them on.
const WRITE_BYTES: usize = 1 << 20;

impl<'a> RunWriter<'a> {
    pub fn new(space: &'a dyn Spill, packing: Packing) -> Result<RunWriter<'a>> {
        let options = match packing {
            Packing::Plain => IpcWriteOptions::default(),
            Packing::Lz4 => IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?,
        };
        Ok(RunWriter {
            run: Some(space.create()?),
            space,
            places: Places::default(),
            generator: IpcDataGenerator::default(),
            context: IpcWriteContext::default(),
            options,
            bytes: Vec::new(),
        })
    }

    /// Adds rows as one block, which may have none.
    pub fn push(&mut self, rows: Option<&RecordBatch>) -> Result<()> {
        let Some(rows) = rows.filter(|rows| rows.num_rows() > 0) else {
            self.places.0.push(Place::default());
            return Ok(());
        };
        let mut dictionaries = DictionaryTracker::new(false);
        let (words, encoded) = self.generator.encode(rows, &mut dictionaries, &self.options, &mut self.context)?;
        if !words.is_empty() {
            return Err(Error::internal("state does not hold dictionaries"));
        }
        let before = self.bytes.len();
        let (head, body) = write_message(&mut self.bytes, encoded, &self.options)?;
        let len = u32::try_from(head + body).map_err(|_| {
            Error::data("the state of one range of keys is larger than 4 GiB")
                .remedy("run the job with more parallelism, so that each task has fewer keys")
        })?;
        let checksum = xxh3_64(&self.bytes[before..]) as u32;
        self.places.0.push(Place { head: head as u32, len, checksum });
        if self.bytes.len() >= WRITE_BYTES {
            self.hand_on()?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<()> {
        if let Some(run) = self.run {
            self.space.append(run, &self.bytes)?;
        }
        self.bytes.clear();
        Ok(())
    }

    /// The run, and where its blocks stand.
    pub fn finish(mut self) -> Result<(RunId, Places)> {
        self.hand_on()?;
        let run = self.run.take().ok_or_else(|| Error::internal("a run is finished once"))?;
        Ok((run, std::mem::take(&mut self.places)))
    }
}

impl Drop for RunWriter<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.run {
            self.space.remove(run);
        }
    }
}

/// The rows of a block of a run whose blocks have these columns. `None`: there are none.
pub fn read_block(
    space: &dyn Spill,
    run: RunId,
    places: &Places,
    at: usize,
    schema: &SchemaRef,
) -> Result<Option<RecordBatch>> {
    let place = places.0[at];
    if place.len == 0 {
        return Ok(None);
    }
    let bytes = space.read(run, places.range(at))?;
    let unsound = |what: &dyn std::fmt::Display| {
        Error::data(format!("a run in scratch space cannot be read back: {what}"))
            .remedy("see that nothing else writes to the scratch directory, and that its disk is sound")
    };
    if xxh3_64(&bytes) as u32 != place.checksum {
        return Err(unsound(&"its bytes are not those that were written"));
    }
    let decoder = FileDecoder::new(schema.clone(), MetadataVersion::V5);
    let block = Block::new(0, place.head as i32, i64::from(place.len - place.head));
    decoder.read_record_batch(&block, &Buffer::from_vec(bytes)).map_err(|e| unsound(&e))
}

/// The same rows without what they do not need: views hold on to all the text that they once came with.
pub fn compact(rows: &RecordBatch) -> Result<RecordBatch> {
    let column = |c: &ArrayRef| -> ArrayRef {
        match c.data_type() {
            DataType::Utf8View => Arc::new(c.as_string_view().gc()),
            DataType::BinaryView => Arc::new(c.as_binary_view().gc()),
            _ => c.clone(),
        }
    };
    if !rows.schema().fields().iter().any(|f| matches!(f.data_type(), DataType::Utf8View | DataType::BinaryView)) {
        return Ok(rows.clone());
    }
    Ok(RecordBatch::try_new(rows.schema(), rows.columns().iter().map(column).collect())?)
}

/// Columns that may be NULL, whatever they are declared as: states of a group without rows are.
pub fn block_schema(fields: Vec<arrow::datatypes::Field>) -> SchemaRef {
    Arc::new(Schema::new(fields.into_iter().map(|f| f.with_nullable(true)).collect::<Vec<_>>()))
}

/// Bytes that a job may hold.
pub struct Budget {
    bytes_max: usize,
    explicit: bool,
    used: AtomicUsize,
    holders: Mutex<Vec<Arc<Holder>>>,
}

struct Holder {
    label: String,
    bytes: AtomicUsize,
    /// What it keeps even when it is asked to shed.
    rigid: AtomicUsize,
}

impl Budget {
    /// `explicit`: somebody has set it, so it is kept to or the job ends. Otherwise it is where spilling begins.
    pub fn new(bytes_max: ByteSize, explicit: bool) -> Arc<Budget> {
        Arc::new(Budget {
            bytes_max: usize::try_from(bytes_max.0).unwrap_or(usize::MAX),
            explicit,
            used: AtomicUsize::new(0),
            holders: Mutex::new(Vec::new()),
        })
    }

    /// A share for whoever holds memory; `label` is its name in errors.
    pub fn share(self: &Arc<Budget>, label: impl Into<String>) -> Share {
        let holder = Arc::new(Holder { label: label.into(), bytes: AtomicUsize::new(0), rigid: AtomicUsize::new(0) });
        self.lock().push(holder.clone());
        Share { budget: self.clone(), holder, asked: AtomicUsize::new(NOT_ASKED), gives: AtomicBool::new(true) }
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes that all holders together have said to hold.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether more is held than there is.
    pub fn is_over(&self) -> bool {
        self.used() > self.bytes_max
    }

    /// What holds how much, where what nobody can give back is more than a tenth too much. What somebody can give back
    /// does not count: it will be asked for.
    pub fn excess(&self) -> Option<String> {
        let (used, max) = (self.used(), self.bytes_max);
        let most = max.saturating_add(max / 100 * OVER_MAX_PERCENT);
        if used <= most || self.lock().iter().map(|h| h.rigid.load(Relaxed)).sum::<usize>() <= most {
            return None;
        }
        let size = |bytes: usize| ByteSize(bytes as u64);
        let holders = self.holders();
        let named = holders.iter().take(NAMED_MAX).map(|(label, bytes)| format!("{label} {}", size(*bytes)));
        let named = named.collect::<Vec<_>>().join(", ");
        Some(format!("the job holds {} in memory, its budget is {}: {named}", size(used), size(max)))
    }

    /// What holds how much, the greatest first.
    fn holders(&self) -> Vec<(String, usize)> {
        let mut by_label = std::collections::BTreeMap::<String, usize>::new();
        for holder in self.lock().iter() {
            *by_label.entry(holder.label.clone()).or_default() += holder.bytes.load(Relaxed);
        }
        let mut all: Vec<(String, usize)> = by_label.into_iter().filter(|h| h.1 > 0).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Holder>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do about a budget that is exceeded.
pub const EXCESS_REMEDY: &str = "give it more with --memory, or let the query remember less (shorter windows) or by key: what is \
     joined by equal columns, grouped or partitioned goes to files";

/// Holders that an error names.
const NAMED_MAX: usize = 5;

/// One holder's part in a budget. What it held is given back when it is dropped.
pub struct Share {
    budget: Arc<Budget>,
    holder: Arc<Holder>,
    /// What is to be left when what was asked for has been shed.
    asked: AtomicUsize,
    /// The last time it was asked, it gave as much.
    gives: AtomicBool,
}

const NOT_ASKED: usize = usize::MAX;

impl Share {
    /// Takes note of what is held now. Returns 0, or how much of it to shed; then it is noted by [`Share::settle`] and not
    /// before, so that nobody else takes for lasting what is about to be given back.
    ///
    /// Who holds less than half of an equal share is left alone: what it could give would not help, and to write it out
    /// again and again would cost it everything.
    pub fn report(&self, bytes: usize) -> usize {
        let (before, max) = (self.holder.bytes.load(Relaxed), self.budget.bytes_max);
        let used = (self.budget.used() + bytes).saturating_sub(before);
        if used <= max {
            self.settle(bytes);
            return 0;
        }
        let holders = self.budget.lock().iter().filter(|h| h.bytes.load(Relaxed) > 0).count().max(1);
        if bytes < max / (2 * holders) {
            self.settle(bytes);
            return 0;
        }
        let too_much = (used - max / 100 * SHED_TO_PERCENT).min(bytes);
        self.asked.store(bytes - too_much, Relaxed);
        too_much
    }

    /// Takes note of what is held after as much as possible has been shed.
    pub fn settle(&self, bytes: usize) {
        match self.asked.swap(NOT_ASKED, Relaxed) {
            NOT_ASKED => {}
            left => self.gives.store(bytes <= left, Relaxed),
        }
        self.holder.rigid.store(if self.gives.load(Relaxed) { 0 } else { bytes }, Relaxed);
        let before = self.holder.bytes.swap(bytes, Relaxed);
        // Two steps, so that the sum never wraps: whoever reads it in between sees a little more.
        self.budget.used.fetch_add(bytes, Relaxed);
        self.budget.used.fetch_sub(before, Relaxed);
    }

    /// What must not go on: a budget that somebody has set is exceeded after everything that can be shed has been.
    pub fn check(&self) -> Result<()> {
        match self.budget.excess() {
            Some(excess) if self.budget.explicit => Err(Error::usage(excess).remedy(EXCESS_REMEDY)),
            _ => Ok(()),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
        self.budget.lock().retain(|h| !Arc::ptr_eq(h, &self.holder));
    }
}

/// Scratch space in memory, for tests and benches: it has no other use.
#[derive(Default)]
pub struct MemorySpace {
    runs: Mutex<std::collections::BTreeMap<u64, Vec<u8>>>,
    next: std::sync::atomic::AtomicU64,
}

impl MemorySpace {
    fn lock(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<u64, Vec<u8>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs that are there.
    pub fn runs(&self) -> usize {
        self.lock().len()
    }

    /// Runs that have ever been.
    pub fn created(&self) -> u64 {
        self.next.load(Relaxed)
    }
}

impl Spill for MemorySpace {
    fn create(&self) -> Result<RunId> {
        let run = self.next.fetch_add(1, Relaxed);
        self.lock().insert(run, Vec::new());
        Ok(RunId(run))
    }

    fn append(&self, run: RunId, bytes: &[u8]) -> Result<()> {
        let mut runs = self.lock();
        let held = runs.get_mut(&run.0).ok_or_else(|| Error::internal("a run that is gone"))?;
        held.extend_from_slice(bytes);
        Ok(())
    }

    fn read(&self, run: RunId, bytes: Range<u64>) -> Result<Vec<u8>> {
        let runs = self.lock();
        let held = runs.get(&run.0).and_then(|b| b.get(bytes.start as usize..bytes.end as usize));
        held.map(<[u8]>::to_vec).ok_or_else(|| Error::internal("bytes of a run that are not there"))
    }

    fn remove(&self, run: RunId) {
        self.lock().remove(&run.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field};

    fn rows(n: i64) -> RecordBatch {
        let text: ArrayRef = Arc::new(StringArray::from_iter((0..n).map(|i| (i % 3 > 0).then(|| format!("k{i}")))));
        let schema =
            block_schema(vec![Field::new("n", DataType::Int64, false), Field::new("k", DataType::Utf8, false)]);
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(0..n)), text]).expect("as declared")
    }

    #[test]
    fn each_block_of_a_run_is_read_alone() {
        for packing in [Packing::Plain, Packing::Lz4] {
            let space = MemorySpace::default();
            let mut writer = RunWriter::new(&space, packing).unwrap();
            let batches = [rows(10), rows(0), rows(100_000), rows(1)];
            batches.iter().for_each(|b| writer.push(Some(b)).unwrap());
            writer.push(None).unwrap();
            let (run, mut places) = writer.finish().unwrap();
            let schema = batches[0].schema();
            for (at, rows) in batches.iter().enumerate().rev() {
                let back = read_block(&space, run, &places, at, &schema).unwrap();
                assert_eq!(back, (rows.num_rows() > 0).then(|| rows.clone()));
            }
            assert_eq!(read_block(&space, run, &places, 4, &schema).unwrap(), None);
            // Cut short.
            places.0[3].len += 1;
            assert!(read_block(&space, run, &places, 3, &schema).is_err());
            space.remove(run);
            assert!(read_block(&space, run, &places, 2, &schema).is_err());
        }
    }

    #[test]
    fn a_block_with_one_other_bit_is_refused() {
        let space = MemorySpace::default();
        let mut writer = RunWriter::new(&space, Packing::Plain).unwrap();
        writer.push(Some(&rows(1000))).unwrap();
        let (run, places) = writer.finish().unwrap();
        let schema = rows(1).schema();
        assert!(read_block(&space, run, &places, 0, &schema).is_ok());
        // The last byte is one of a value.
        *space.lock().get_mut(&run.0).and_then(|b| b.last_mut()).unwrap() ^= 1;
        let error = read_block(&space, run, &places, 0, &schema).unwrap_err();
        assert!(error.what().contains("not those that were written"), "{error}");
    }

    #[test]
    fn a_run_that_is_given_up_is_taken_away() {
        let space = MemorySpace::default();
        let mut writer = RunWriter::new(&space, Packing::Plain).unwrap();
        writer.push(Some(&rows(10))).unwrap();
        drop(writer);
        assert_eq!((space.runs(), space.created()), (0, 1));
    }

    #[test]
    fn who_holds_most_sheds_and_who_holds_little_is_left_alone() {
        let budget = Budget::new(ByteSize(1000), true);
        let (big, small) = (budget.share("big"), budget.share("small"));
        assert_eq!(big.report(900), 0);
        assert_eq!(small.report(90), 0);
        assert_eq!(small.report(120), 0, "what it could give would not help");
        assert_eq!(big.report(950), 1070 - 750);
        assert_eq!(budget.used(), 1020, "what is about to be given back is not counted");
        big.settle(400);
        assert_eq!(budget.used(), 520);
        drop(big);
        assert_eq!(budget.used(), 120);
    }

    #[test]
    fn a_budget_that_was_set_is_kept_to_and_the_error_says_who_holds_what() {
        let budget = Budget::new(ByteSize::mib(1), true);
        let shares = [budget.share("sessions by user"), budget.share("over"), budget.share("sessions by user")];
        // Asked, and gives nothing.
        let keeps = |share: &Share, kib: usize| {
            share.report(kib << 10);
            share.settle(kib << 10);
        };
        let e = |share: &Share| share.check().unwrap_err();
        keeps(&shares[0], 500);
        keeps(&shares[1], 100);
        keeps(&shares[2], 450);
        assert!(shares[1].check().is_ok(), "within a tenth");
        keeps(&shares[2], 600);
        assert!(shares[1].check().is_ok(), "the first has not been asked yet: it may give");
        keeps(&shares[0], 500);
        assert!(shares[1].check().is_ok(), "without the least, it is within a tenth");
        keeps(&shares[2], 700);
        let e = e(&shares[1]);
        assert_eq!(
            e.what(),
            "the job holds 1.3 MiB in memory, its budget is 1.0 MiB: sessions by user 1.2 MiB, over 100.0 KiB"
        );
        assert!(e.help().unwrap().contains("--memory"), "{e}");
        let default = Budget::new(ByteSize::mib(1), false);
        let share = default.share("x");
        keeps(&share, 5 << 10);
        assert!(default.is_over() && share.check().is_ok(), "one that nobody has set is where spilling begins");
    }
}
