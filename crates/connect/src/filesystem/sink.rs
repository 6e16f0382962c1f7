//! Writes rows into files.
//!
//! ```text
//!  rows ─▶ .part-… .inprogress ──full──▶ closed, still hidden ──finish──▶ part-…
//!                │                                └──────────────prepare──▶ named by the checkpoint, see `commit`
//!                └───────────── abort, or dropped ─────────────────────▶ removed
//! ```
//!
//! A file gets its name only when the job has ended well, so what can be seen is complete. A job adds files to those
//! that are there, as Flink's INSERT INTO does; where `path` names one file, that file is replaced at the end.
//!
//! In a job with checkpoints every checkpoint closes the files that have rows, whatever their format: no file goes on
//! over a barrier, so a crash never has to cut one back. They get their names when the checkpoint is complete.

use super::commit::{self, Guarantee, PartFile, Parts};
use super::list::{DEFAULT_PARTITION, escape, local_path};
use super::{
    CHECK_INTERVAL, PATH, Packing, ROLLING_SIZE, ROLLOVER_INTERVAL, cannot, format_options, guarantee, success,
};
use crate::options::{duration, required, size};
use crate::position;
use crate::print::Terminal;
use arrow::array::UInt32Array;
use arrow::datatypes::{Schema, SchemaRef};
use flate2::write::GzEncoder;
use millstream_core::{Batch, ByteSize, Error, Place, Prepared, Result, Sink, SinkContext, TableSpec};
use millstream_formats::parquet::ParquetWriter;
use millstream_formats::text::Printer;
use millstream_formats::{Encoder, FormatOptions, encoder};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ROLLING_SIZE_DEFAULT: ByteSize = ByteSize::mib(128);

/// Flink's: a file older than this is closed, and whether one is gets looked at so often.
const ROLLOVER_INTERVAL_DEFAULT: Duration = Duration::from_secs(30 * 60);
const CHECK_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

/// Text held back before it is written.
const HELD_BYTES_MAX: usize = 256 << 10;

/// Memory that the rows held back for all open Parquet files of a writer may take. Past it the file that holds most is
/// written out, as a row group of its own.
const ROW_GROUPS_BYTES_MAX: usize = 128 << 20;

/// Files that a writer keeps open at a time, for PARTITIONED BY. The one that was not written to for longest is closed
/// first; a later row of its partition begins a new one.
const OPEN_FILES_MAX: usize = 64;

const NAMED: [&str; 5] = ["csv", "json", "jsonl", "ndjson", "parquet"];

/// Whether a path names one file to write and not a folder.
pub(super) fn names_a_file(path: &str, partitioned: bool) -> bool {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => return false,
        // A device or a pipe.
        Ok(about) if !about.is_file() => return true,
        _ => {}
    }
    let unpacked = match Packing::of(path) {
        Packing::Plain => path,
        _ => path.rsplit_once('.').map_or(path, |(stem, _)| stem),
    };
    let ending = unpacked.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
    !partitioned && NAMED.contains(&ending.as_str())
}

pub(super) struct FileSink {
    options: FormatOptions,
    /// Columns that go into the files.
    schema: SchemaRef,
    stored: Vec<usize>,
    /// Columns that go into the names of folders.
    folders: Vec<usize>,
    target: Target,
    rolling_size: u64,
    /// Set in a job with checkpoints.
    job: Option<InJob>,
    /// The name of the file that marks a folder as complete, where the sink itself has to write it.
    success: Option<String>,
    /// Open files by folder.
    open: BTreeMap<PathBuf, Part>,
    /// Files that are closed and still hidden, with the names they will get.
    closed: Vec<(PathBuf, PathBuf)>,
    /// Counts writes, to know which file rests longest.
    clock: u64,
    bytes_closed: u64,
    done: bool,
}

struct InJob {
    guarantee: Guarantee,
    rollover_interval: Duration,
    check_interval: Duration,
    checked: Instant,
}

enum Target {
    /// Part files in a folder; what their names begin with and the number of the next.
    Folder {
        root: PathBuf,
        prefix: String,
        next: u64,
    },
    One(PathBuf),
    /// A device or a pipe: written to as it is.
    Device(PathBuf),
    Stdout,
}

struct Part {
    writer: Writer,
    hidden: PathBuf,
    target: PathBuf,
    used: u64,
    opened: Instant,
}

enum Writer {
    Text { encoder: Box<dyn Encoder>, out: Pack, held: Vec<u8>, bytes: u64 },
    Parquet(Box<ParquetWriter<File>>),
}

enum Pack {
    Plain(File),
    Gzip(GzEncoder<File>),
    Zstd(zstd::stream::write::Encoder<'static, File>),
    Stdout,
}

impl FileSink {
    pub fn open(table: &TableSpec, context: &SinkContext) -> Result<FileSink> {
        let (index, parallelism) = (context.index, context.writers);
        let options = format_options(table)?;
        let path = local_path(required(table, PATH, "out/orders")?);
        let folders: Vec<usize> =
            table.partitioned_by.iter().map(|c| Ok(table.schema.index_of(c)?)).collect::<Result<_>>()?;
        let stored: Vec<usize> = (0..table.schema.fields().len()).filter(|i| !folders.contains(i)).collect();
        let target = if path == "-" {
            Target::Stdout
        } else if names_a_file(path, !folders.is_empty()) {
            match fs::metadata(path) {
                Ok(about) if !about.is_file() => Target::Device(PathBuf::from(path)),
                _ => Target::One(PathBuf::from(path)),
            }
        } else {
            if fs::metadata(path).is_ok_and(|about| about.is_file()) {
                return Err(Error::io(format!("'path' = '{path}' is a file, and rows go to files in a folder"))
                    .remedy(format!(
                        "name a folder, or a file that ends with {}",
                        NAMED.map(|n| format!(".{n}")).join(", ")
                    )));
            }
            let prefix = match &context.job {
                Some(job) => commit::prefix(job, &table.name, index),
                None => format!("part-{}-{index}", job_id()),
            };
            Target::Folder { root: PathBuf::from(path), prefix, next: 0 }
        };
        if context.job.is_some() && matches!(target, Target::One(_)) {
            return Err(Error::usage(format!(
                "'path' = '{path}' names one file, and a job with checkpoints shows its rows checkpoint by checkpoint"
            ))
            .remedy("name a folder, for example 'out', or run the job without checkpoints"));
        }
        let success = success(table).filter(|_| context.job.is_none());
        if success.is_some() && parallelism > 1 {
            return Err(Error::usage(format!(
                "without checkpoints none of the {parallelism} tasks that write `{}` knows when all files of a \
                 partition are there",
                table.name
            ))
            .remedy("set 'sink.parallelism' = '1', or run the job with checkpoints"));
        }
        let job = match context.job {
            Some(_) => Some(InJob {
                guarantee: guarantee(table)?,
                rollover_interval: duration(table, ROLLOVER_INTERVAL)?.unwrap_or(ROLLOVER_INTERVAL_DEFAULT),
                check_interval: duration(table, CHECK_INTERVAL)?.unwrap_or(CHECK_INTERVAL_DEFAULT),
                checked: Instant::now(),
            }),
            None => None,
        };
        if parallelism > 1 && !matches!(target, Target::Folder { .. }) {
            return Err(Error::internal(format!("'{path}' takes one writer and is given {parallelism}")));
        }
        let mut sink = FileSink {
            options,
            schema: std::sync::Arc::new(Schema::new(
                stored.iter().map(|&i| table.schema.field(i).clone()).collect::<Vec<_>>(),
            )),
            stored,
            folders,
            target,
            rolling_size: size(table, ROLLING_SIZE)?.unwrap_or(ROLLING_SIZE_DEFAULT).0,
            job,
            success,
            open: BTreeMap::new(),
            closed: Vec::new(),
            clock: 0,
            bytes_closed: 0,
            done: false,
        };
        // What cannot be written is to be known before the first row is read, not after the first window has closed.
        match &sink.target {
            Target::Folder { root, .. } => {
                let root = root.clone();
                fs::create_dir_all(&root).map_err(|e| cannot("create the folder", &root.display().to_string(), &e))?;
                let probe = root.join(format!(".probe-{}-{index}.inprogress", job_id()));
                File::create(&probe).map_err(|e| cannot("write into", &root.display().to_string(), &e))?;
                let _ = fs::remove_file(&probe);
            }
            // One file is there at the end even if no row comes.
            _ => {
                sink.part(&PathBuf::new())?;
            }
        }
        Ok(sink)
    }

    /// The open file of a folder, opened if need be.
    fn part(&mut self, folder: &Path) -> Result<&mut Part> {
        self.clock += 1;
        if !self.open.contains_key(folder) {
            if self.open.len() >= OPEN_FILES_MAX {
                let resting = self.open.iter().min_by_key(|(_, p)| p.used).map(|(f, _)| f.clone());
                if let Some(resting) = resting {
                    self.close(&resting)?;
                }
            }
            let part = self.create(folder)?;
            self.open.insert(folder.to_owned(), part);
        }
        let clock = self.clock;
        let part = self.open.get_mut(folder).ok_or_else(|| Error::internal("a file that was just opened is gone"))?;
        part.used = clock;
        Ok(part)
    }

    fn create(&mut self, folder: &Path) -> Result<Part> {
        let (file, hidden, target) = match &mut self.target {
            Target::Stdout => (None, PathBuf::new(), PathBuf::from("standard output")),
            Target::Device(path) => {
                let file = OpenOptions::new().write(true).open(&path);
                let file = file.map_err(|e| cannot("write to", &path.display().to_string(), &e))?;
                (Some(file), PathBuf::new(), path.clone())
            }
            Target::One(path) => {
                if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                    fs::create_dir_all(parent)
                        .map_err(|e| cannot("create the folder", &parent.display().to_string(), &e))?;
                }
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let hidden = path.with_file_name(format!(".{name}.{}.inprogress", job_id()));
                let file = OpenOptions::new().write(true).create_new(true).open(&hidden);
                let file = file.map_err(|e| match e.kind() {
                    io::ErrorKind::AlreadyExists => Error::io(format!("{} is already being written", path.display()))
                        .remedy("write each file from one INSERT INTO only"),
                    _ => cannot("write", &path.display().to_string(), &e),
                })?;
                (Some(file), hidden, path.clone())
            }
            Target::Folder { root, prefix, next } => {
                let folder = root.join(folder);
                fs::create_dir_all(&folder)
                    .map_err(|e| cannot("create the folder", &folder.display().to_string(), &e))?;
                let ending = self.options.format().extension();
                loop {
                    let name = format!("{prefix}-{next}.{ending}");
                    *next += 1;
                    let (hidden, target) = (folder.join(commit::hidden(&name)), folder.join(&name));
                    match OpenOptions::new().write(true).create_new(true).open(&hidden) {
                        // Another sink of this job may have used the number and be done with it.
                        Ok(_) if target.exists() => {
                            let _ = fs::remove_file(&hidden);
                        }
                        Ok(file) => break (Some(file), hidden, target),
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(e) => return Err(cannot("write", &target.display().to_string(), &e)),
                    }
                }
            }
        };
        let writer = self.writer(file, &target);
        if writer.is_err() && !hidden.as_os_str().is_empty() {
            let _ = fs::remove_file(&hidden);
        }
        Ok(Part { writer: writer?, hidden, target, used: 0, opened: Instant::now() })
    }

    fn writer(&self, file: Option<File>, target: &Path) -> Result<Writer> {
        let shown = target.display().to_string();
        if let FormatOptions::Parquet(options) = &self.options {
            let file = file.ok_or_else(|| Error::internal("Parquet on a stream"))?;
            let writer = ParquetWriter::new(file, self.schema.clone(), options)?;
            return Ok(Writer::Parquet(Box::new(writer)));
        }
        let out = match (file, Packing::of(&shown)) {
            (None, _) => Pack::Stdout,
            (Some(file), Packing::Plain) => Pack::Plain(file),
            (Some(file), Packing::Gzip) => Pack::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            (Some(file), Packing::Zstd) => {
                Pack::Zstd(zstd::stream::write::Encoder::new(file, 0).map_err(|e| cannot("write", &shown, &e))?)
            }
        };
        let mut encoder = encoder(&self.options, &self.schema)?;
        let mut held = Vec::new();
        encoder.start(&mut held)?;
        Ok(Writer::Text { encoder, out, held, bytes: 0 })
    }

    /// Closes a file; it stays hidden.
    fn close(&mut self, folder: &Path) -> Result<()> {
        let Some(part) = self.open.remove(folder) else { return Ok(()) };
        let Part { writer, hidden, target, .. } = part;
        let named = !hidden.as_os_str().is_empty();
        if named {
            // First, so that it is removed should closing fail.
            self.closed.push((hidden.clone(), target.clone()));
        }
        // In a job with checkpoints what is closed is synced all at once, away from the worker.
        self.bytes_closed += writer.finish(&target, named && self.job.is_none())?;
        if named && self.job.as_ref().is_some_and(|job| job.guarantee == Guarantee::None) {
            fs::rename(&hidden, &target).map_err(|e| cannot("name", &target.display().to_string(), &e))?;
        }
        Ok(())
    }

    fn close_all(&mut self) -> Result<()> {
        while let Some(folder) = self.open.keys().next().cloned() {
            self.close(&folder)?;
        }
        Ok(())
    }

    /// Closes the files that are older than they may become.
    fn close_old(&mut self) -> Result<()> {
        let Some(job) = self.job.as_mut().filter(|job| job.checked.elapsed() >= job.check_interval) else {
            return Ok(());
        };
        job.checked = Instant::now();
        let old = |part: &Part| part.opened.elapsed() >= job.rollover_interval;
        let folders: Vec<PathBuf> = self.open.iter().filter(|(_, p)| old(p)).map(|(f, _)| f.clone()).collect();
        folders.iter().try_for_each(|folder| self.close(folder))
    }

    fn write_to(&mut self, folder: &Path, batch: &Batch) -> Result<()> {
        let rolling_size = self.rolling_size;
        let rolls = matches!(self.target, Target::Folder { .. });
        let part = self.part(folder)?;
        part.writer.write(batch, &part.target)?;
        if rolls && part.writer.bytes() >= rolling_size {
            return self.close(folder);
        }
        let held = |part: &Part| match &part.writer {
            Writer::Parquet(writer) => writer.held_bytes(),
            Writer::Text { .. } => 0,
        };
        if self.open.len() > 1
            && self.open.values().map(held).sum::<usize>() > ROW_GROUPS_BYTES_MAX
            && let Some(part) = self.open.values_mut().max_by_key(|p| held(p))
            && let Writer::Parquet(writer) = &mut part.writer
        {
            writer.flush().map_err(|e| at(e, &part.target))?;
        }
        Ok(())
    }

    /// Takes away every file that has not got its name.
    fn remove_hidden(&mut self) {
        let open = std::mem::take(&mut self.open).into_values().map(|p| p.hidden);
        let closed = std::mem::take(&mut self.closed).into_iter().map(|(hidden, _)| hidden);
        for hidden in open.chain(closed).filter(|h| !h.as_os_str().is_empty()) {
            let _ = fs::remove_file(hidden);
        }
    }
}

impl Writer {
    fn write(&mut self, batch: &Batch, target: &Path) -> Result<()> {
        match self {
            Writer::Parquet(writer) => writer.write(&batch.rows).map_err(|e| at(e, target)),
            Writer::Text { encoder, out, held, bytes } => {
                encoder.encode(batch, held)?;
                if held.len() >= HELD_BYTES_MAX { put(out, held, bytes, target) } else { Ok(()) }
            }
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Writer::Parquet(writer) => writer.bytes() as u64,
            Writer::Text { held, bytes, .. } => bytes + held.len() as u64,
        }
    }

    /// Returns the bytes written. `durable`: the file is to get a name, so its contents must be on the disk first.
    fn finish(self, target: &Path, durable: bool) -> Result<u64> {
        let shown = || target.display().to_string();
        let (file, bytes) = match self {
            Writer::Parquet(writer) => {
                let bytes = writer.bytes() as u64;
                (Some(writer.finish().map_err(|e| at(e, target))?), bytes)
            }
            Writer::Text { mut out, mut held, mut bytes, .. } => {
                put(&mut out, &mut held, &mut bytes, target)?;
                let file = match out {
                    Pack::Plain(file) => Ok(Some(file)),
                    Pack::Gzip(out) => out.finish().map(Some),
                    Pack::Zstd(out) => out.finish().map(Some),
                    Pack::Stdout => Ok(None),
                };
                (file.map_err(|e| cannot("write", &shown(), &e))?, bytes)
            }
        };
        if let Some(file) = file.filter(|_| durable) {
            file.sync_all().map_err(|e| cannot("write", &shown(), &e))?;
        }
        Ok(bytes)
    }
}

fn put(out: &mut Pack, held: &mut Vec<u8>, bytes: &mut u64, target: &Path) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let written = match out {
        Pack::Plain(out) => out.write_all(held),
        Pack::Gzip(out) => out.write_all(held),
        Pack::Zstd(out) => out.write_all(held),
        Pack::Stdout => return Terminal::Stdout.write(held).map(|()| forget(held, bytes)),
    };
    written.map_err(|e| cannot("write", &target.display().to_string(), &e))?;
    forget(held, bytes);
    Ok(())
}

fn forget(held: &mut Vec<u8>, bytes: &mut u64) {
    *bytes += held.len() as u64;
    held.clear();
}

fn at(e: Error, target: &Path) -> Error {
    e.at(Place(target.display().to_string())).remedy("check that there is room on the disk")
}

/// What part files of this process are called after: unlike that of any other run on this machine, and the same for
/// all tasks.
fn job_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{:x}-{:x}", now.as_millis(), std::process::id())
    })
}

impl Sink for FileSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let adds = !matches!(self.options, FormatOptions::Changes(_));
        if adds && batch.kinds.as_ref().is_some_and(|kinds| kinds.values().iter().any(|&k| k != 0)) {
            return Err(Error::sql(
                "files take new rows only, and this query also changes rows that it has given before",
            )
            .remedy("write to a table of a connector that takes changes, such as 'print'"));
        }
        if self.folders.is_empty() {
            return self.write_to(&PathBuf::new(), batch);
        }
        // The rows of each folder, in their order. By rows, since each has its own folder; the rows themselves are
        // then taken by columns.
        let keys = batch.rows.project(&self.folders)?;
        let printer = Printer::new(&keys)?;
        let mut by_folder: BTreeMap<PathBuf, Vec<u32>> = BTreeMap::new();
        for row in 0..batch.len() {
            let mut folder = PathBuf::new();
            for (n, field) in keys.schema_ref().fields().iter().enumerate() {
                let value = match printer.value(n, row) {
                    Some(value) if !value.is_empty() => escape(&String::from_utf8_lossy(&value)),
                    _ => DEFAULT_PARTITION.to_owned(),
                };
                folder.push(format!("{}={value}", escape(field.name())));
            }
            by_folder.entry(folder).or_default().push(row as u32);
        }
        let stored = batch.with_rows(batch.rows.project(&self.stored)?);
        for (folder, rows) in by_folder {
            let rows = stored.take(&UInt32Array::from(rows))?;
            self.write_to(&folder, &rows)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        // A file that has no name yet is seen by nobody; a stream is.
        if matches!(self.target, Target::Stdout | Target::Device(_)) {
            for part in self.open.values_mut() {
                if let Writer::Text { out, held, bytes, .. } = &mut part.writer {
                    put(out, held, bytes, &part.target)?;
                }
            }
            return Ok(());
        }
        self.close_old()
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Prepared> {
        let (Target::Folder { root, .. }, Some(job)) = (&self.target, &self.job) else {
            self.flush()?;
            return Ok(Prepared::default());
        };
        let (root, guarantee) = (root.clone(), job.guarantee);
        self.close_all()?;
        let mut parts = Vec::with_capacity(self.closed.len());
        for (hidden, target) in &self.closed {
            let there = if guarantee == Guarantee::None { target } else { hidden };
            let size = fs::metadata(there).map_err(|e| cannot("read", &there.display().to_string(), &e))?.len();
            let relative = |path: &Path| match path.strip_prefix(&root).ok().and_then(Path::to_str) {
                Some(path) => Ok(path.to_owned()),
                None => Err(Error::internal(format!("{} is not in the folder of its table", path.display()))),
            };
            parts.push(PartFile { hidden: relative(hidden)?, name: relative(target)?, size });
        }
        // From here on they are the checkpoint's, whatever becomes of this sink.
        self.closed.clear();
        if parts.is_empty() {
            return Ok(Prepared::default());
        }
        let parts = Parts { parts };
        let committable = Some(position::write(&parts)?);
        let settle: Option<Box<dyn FnOnce() -> Result<()> + Send>> = match guarantee {
            Guarantee::ExactlyOnce => Some(Box::new(move || commit::sync(&root, &parts.parts))),
            Guarantee::AtLeastOnce => Some(Box::new(move || {
                commit::sync(&root, &parts.parts)?;
                commit::show(&root, &parts.parts)
            })),
            Guarantee::None => None,
        };
        Ok(Prepared { committable, settle, ..Prepared::default() })
    }

    fn finish(&mut self) -> Result<()> {
        if self.job.is_some() && matches!(self.target, Target::Folder { .. }) {
            self.done = self.open.is_empty() && self.closed.is_empty();
            return match self.done {
                true => Ok(()),
                false => Err(Error::internal("rows behind the last checkpoint of a job that has ended")),
            };
        }
        self.close_all()?;
        let mut folders = BTreeSet::new();
        // Only now, when all of them are whole.
        while let Some((hidden, target)) = self.closed.first() {
            fs::rename(hidden, target).map_err(|e| cannot("name", &target.display().to_string(), &e))?;
            folders.extend(target.parent().map(Path::to_owned));
            self.closed.remove(0);
        }
        if let Some(success) = &self.success {
            commit::mark(&folders, success)?;
        }
        self.done = true;
        Ok(())
    }

    fn abort(&mut self) {
        self.remove_hidden();
        self.done = true;
    }

    fn bytes(&self) -> u64 {
        self.bytes_closed + self.open.values().map(|p| p.writer.bytes()).sum::<u64>()
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if !self.done {
            self.remove_hidden();
        }
    }
}
