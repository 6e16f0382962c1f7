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

#[cfg(feature = "s3")]
use super::bucket::{self, ObjectPart, Objects, Slots, Upload, Uploaded};
use super::commit::{self, Guarantee, PartFile, Parts};
#[cfg(feature = "s3")]
use super::files::Files;
use super::list::{DEFAULT_PARTITION, escape, local_path};
use super::partition::Rule;
use super::write::{About, Out, Writer};
use super::{CHECK_INTERVAL, PATH, Packing, ROLLING_SIZE, ROLLOVER_INTERVAL, cannot, format_options, guarantee};
use crate::options::{duration, required, size};
use crate::position;
use arrow::array::UInt32Array;
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Batch, ByteSize, Error, Millis, Prepared, Result, Sink, SinkContext, TableSpec, Watermark};
use millstream_formats::FormatOptions;
use millstream_formats::text::Printer;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
#[cfg(feature = "s3")]
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ROLLING_SIZE_DEFAULT: ByteSize = ByteSize::mib(128);

/// Flink's: a file older than this is closed, and whether one is gets looked at so often.
const ROLLOVER_INTERVAL_DEFAULT: Duration = Duration::from_secs(30 * 60);
const CHECK_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

/// Memory that the rows held back for all open Parquet files of a writer may take. Past it the file that holds most is
/// written out, as a row group of its own.
const ROW_GROUPS_BYTES_MAX: usize = 128 << 20;

/// Bytes that all open uploads of a writer hold until they make a part. Past it the one that holds most is ended.
#[cfg(feature = "s3")]
const UPLOADS_BYTES_MAX: usize = 128 << 20;

/// Files that a writer keeps open at a time, for PARTITIONED BY. The one that was not written to for longest is closed
/// first; a later row of its partition begins a new one.
const OPEN_FILES_MAX: usize = 64;

const NAMED: [&str; 6] = ["avro", "csv", "json", "jsonl", "ndjson", "parquet"];

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

pub(crate) struct FileSink {
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
    /// When folders are marked as complete. Without checkpoints the sink itself does it, at the end.
    rule: Option<Rule>,
    /// Which of the writers this is, and how far its input has come.
    index: usize,
    watermark: Option<Millis>,
    /// Open files by folder.
    open: BTreeMap<PathBuf, Part>,
    /// Files that are closed and still hidden.
    closed: Vec<Closed>,
    about: Option<About>,
    /// What their names end with.
    ending: String,
    /// Counts writes, to know which file rests longest.
    clock: u64,
    bytes_closed: u64,
    done: bool,
}

/// A file that is closed and still hidden, with the name it will get.
struct Closed {
    hidden: PathBuf,
    target: PathBuf,
    about: Option<String>,
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
    /// Objects of a bucket: a prefix of the table, or one key.
    #[cfg(feature = "s3")]
    Bucket(Bucket),
    /// A device or a pipe: written to as it is.
    Device(PathBuf),
    Stdout,
}

#[cfg(feature = "s3")]
struct Bucket {
    objects: Arc<Objects>,
    slots: Slots,
    /// The key of the table: that of its one object, or what those of all begin with.
    root: String,
    /// What the names of parts begin with and the number of the next; `None`: there is one object.
    parts: Option<(String, u64)>,
    /// What is closed and no object yet.
    closed: Vec<Uploaded>,
}

struct Part {
    writer: Writer,
    hidden: PathBuf,
    target: PathBuf,
    used: u64,
    opened: Instant,
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
                None => format!("part-{}-{index}", process_id()),
            };
            Target::Folder { root: PathBuf::from(path), prefix, next: 0 }
        };
        #[cfg(feature = "s3")]
        let target = match Files::of(table)? {
            Files::Bucket(objects) => Target::Bucket(Bucket::new(objects, table, context)?),
            Files::Local => target,
        };
        if context.job.is_some() && target.is_one_file() {
            return Err(Error::usage(format!(
                "'path' = '{path}' names one file, and a job with checkpoints shows its rows checkpoint by checkpoint"
            ))
            .remedy("name a folder, for example 'out', or run the job without checkpoints"));
        }
        let rule = Rule::of(table)?;
        if rule.is_some() && context.job.is_none() && parallelism > 1 {
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
        if parallelism > 1 && !target.has_parts() {
            return Err(Error::internal(format!("'{path}' takes one writer and is given {parallelism}")));
        }
        let mut sink = FileSink {
            ending: options.format().extension().to_owned(),
            options,
            schema: std::sync::Arc::new(Schema::new(
                stored.iter().map(|&i| table.schema.field(i).clone()).collect::<Vec<_>>(),
            )),
            stored,
            folders,
            target,
            rolling_size: size(table, ROLLING_SIZE)?.unwrap_or(ROLLING_SIZE_DEFAULT).0,
            job,
            rule,
            index,
            watermark: None,
            open: BTreeMap::new(),
            closed: Vec::new(),
            about: None,
            clock: 0,
            bytes_closed: 0,
            done: false,
        };
        // What cannot be written is to be known before the first row is read, not after the first window has closed.
        match &sink.target {
            Target::Folder { root, .. } => {
                let root = root.clone();
                fs::create_dir_all(&root).map_err(|e| cannot("create the folder", &root.display().to_string(), &e))?;
                let probe = root.join(format!("{}{index}.inprogress", commit::probe(process_id())));
                File::create(&probe).map_err(|e| cannot("write into", &root.display().to_string(), &e))?;
                let _ = fs::remove_file(&probe);
            }
            #[cfg(feature = "s3")]
            Target::Bucket(bucket) if bucket.parts.is_some() => bucket.probe()?,
            // One file is there at the end even if no row comes.
            _ => {
                sink.part(&PathBuf::new())?;
            }
        }
        Ok(sink)
    }

    /// For a table that keeps a log of its files: hands over with each file what `about` makes of its footer. The names have
    /// something of this process in them, since jobs of the same name on other machines may write to the table as well.
    pub fn of_a_log(mut self, about: About) -> FileSink {
        self.about = Some(about);
        self.ending = format!("{:08x}.{}", chance(), self.ending);
        self
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
        // One that has no time could never be marked, and the rows in it would be saved by then.
        if let Some(rule) = self.rule.as_ref().filter(|_| self.job.is_some()) {
            rule.check_folder(&folder.to_string_lossy())?;
        }
        let (out, hidden, target) = match &mut self.target {
            #[cfg(feature = "s3")]
            Target::Bucket(bucket) => {
                let (upload, shown) = bucket.create(folder, &self.ending)?;
                (Some(Out::Object(Box::new(upload))), PathBuf::new(), shown)
            }
            Target::Stdout => (None, PathBuf::new(), PathBuf::from("standard output")),
            Target::Device(path) => {
                let file = OpenOptions::new().write(true).open(&path);
                let file = file.map_err(|e| cannot("write to", &path.display().to_string(), &e))?;
                (Some(Out::File(file)), PathBuf::new(), path.clone())
            }
            Target::One(path) => {
                if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                    fs::create_dir_all(parent)
                        .map_err(|e| cannot("create the folder", &parent.display().to_string(), &e))?;
                }
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let hidden = path.with_file_name(format!(".{name}.{}.inprogress", process_id()));
                let file = OpenOptions::new().write(true).create_new(true).open(&hidden);
                let file = file.map_err(|e| match e.kind() {
                    io::ErrorKind::AlreadyExists => Error::io(format!("{} is already being written", path.display()))
                        .remedy("write each file from one INSERT INTO only"),
                    _ => cannot("write", &path.display().to_string(), &e),
                })?;
                (Some(Out::File(file)), hidden, path.clone())
            }
            Target::Folder { root, prefix, next } => {
                let folder = root.join(folder);
                fs::create_dir_all(&folder)
                    .map_err(|e| cannot("create the folder", &folder.display().to_string(), &e))?;
                let ending = &self.ending;
                loop {
                    let name = format!("{prefix}-{next}.{ending}");
                    *next += 1;
                    let (hidden, target) = (folder.join(commit::hidden(&name)), folder.join(&name));
                    match OpenOptions::new().write(true).create_new(true).open(&hidden) {
                        // Another sink of this job may have used the number and be done with it.
                        Ok(_) if target.exists() => {
                            let _ = fs::remove_file(&hidden);
                        }
                        Ok(file) => break (Some(Out::File(file)), hidden, target),
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(e) => return Err(cannot("write", &target.display().to_string(), &e)),
                    }
                }
            }
        };
        let writer = Writer::new(out, &target, &self.options, &self.schema);
        if writer.is_err() && !hidden.as_os_str().is_empty() {
            let _ = fs::remove_file(&hidden);
        }
        Ok(Part { writer: writer?, hidden, target, used: 0, opened: Instant::now() })
    }

    /// Closes a file; it stays hidden.
    fn close(&mut self, folder: &Path) -> Result<()> {
        let Some(part) = self.open.remove(folder) else { return Ok(()) };
        let Part { writer, hidden, target, .. } = part;
        let named = !hidden.as_os_str().is_empty();
        if named {
            // First, so that it is removed should closing fail.
            self.closed.push(Closed { hidden: hidden.clone(), target: target.clone(), about: None });
        }
        // In a job with checkpoints what is closed is synced all at once, away from the worker.
        let written = writer.finish(&target, named && self.job.is_none())?;
        self.bytes_closed += written.bytes;
        let about = match (self.about, &written.footer) {
            (Some(about), Some(footer)) => Some(about(footer, &self.schema)?),
            _ => None,
        };
        #[cfg(feature = "s3")]
        if let (Target::Bucket(bucket), Some(mut uploaded)) = (&mut self.target, written.uploaded) {
            uploaded.about = about.clone();
            bucket.closed.push(uploaded);
        }
        if let Some(closed) = self.closed.last_mut().filter(|_| named) {
            closed.about = about;
        }
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
        let rolls = self.target.has_parts();
        let part = self.part(folder)?;
        part.writer.write(batch, &part.target)?;
        if rolls && part.writer.bytes() >= rolling_size {
            return self.close(folder);
        }
        let held = |part: &Part| part.writer.row_group_bytes();
        if self.open.len() > 1
            && self.open.values().map(held).sum::<usize>() > ROW_GROUPS_BYTES_MAX
            && let Some(part) = self.open.values_mut().max_by_key(|p| held(p))
        {
            part.writer.end_row_group(&part.target)?;
        }
        #[cfg(feature = "s3")]
        self.keep_uploads_within()?;
        Ok(())
    }

    /// Ends the uploads that can take no more parts, and the largest where all together hold too much.
    #[cfg(feature = "s3")]
    fn keep_uploads_within(&mut self) -> Result<()> {
        if !matches!(self.target, Target::Bucket(_)) {
            return Ok(());
        }
        let held = |part: &Part| part.writer.upload().map_or(0, Upload::held_bytes);
        let sum: usize = self.open.values().map(held).sum();
        let is_full = |part: &Part| part.writer.upload().is_some_and(Upload::is_full);
        let mut ended: Vec<PathBuf> = self.open.iter().filter(|(_, p)| is_full(p)).map(|(f, _)| f.clone()).collect();
        if sum > UPLOADS_BYTES_MAX && ended.is_empty() {
            ended.extend(self.open.iter().max_by_key(|(_, p)| held(p)).map(|(folder, _)| folder.clone()));
        }
        ended.iter().try_for_each(|folder| self.close(folder))
    }

    /// Ends an epoch of a table in a bucket.
    #[cfg(feature = "s3")]
    fn prepare_uploads(&mut self) -> Result<Prepared> {
        self.close_all()?;
        let Target::Bucket(bucket) = &mut self.target else {
            return Err(Error::internal("uploads of a table that is in no bucket"));
        };
        let mut closed = std::mem::take(&mut bucket.closed);
        let waits = self.rule.as_ref().is_some_and(Rule::waits);
        if closed.is_empty() && !waits {
            return Ok(Prepared::default());
        }
        let mut parts = Vec::with_capacity(closed.len());
        for uploaded in &mut closed {
            uploaded.keep();
            let (name, upload) = (bucket.relative(&uploaded.at)?, uploaded.id.clone());
            parts.push(ObjectPart {
                name,
                upload,
                parts: uploaded.parts(),
                size: uploaded.size,
                about: uploaded.about.take(),
            });
        }
        let watermark = self.watermark.filter(|_| waits);
        let committable = Some(position::write(&Parts { parts, writer: self.index, watermark })?);
        let shown_now = self.job.as_ref().is_some_and(|job| job.guarantee != Guarantee::ExactlyOnce);
        // The parts are still on their way, and nobody waits for them here.
        let settle = move || {
            closed.into_iter().try_for_each(|mut uploaded| match shown_now {
                true => uploaded.complete(),
                false => uploaded.settle(),
            })
        };
        Ok(Prepared { committable, settle: Some(Box::new(settle)), ..Prepared::default() })
    }

    /// Takes away every file that has not got its name.
    fn remove_hidden(&mut self) {
        let open = std::mem::take(&mut self.open).into_values().map(|p| p.hidden);
        let closed = std::mem::take(&mut self.closed).into_iter().map(|closed| closed.hidden);
        for hidden in open.chain(closed).filter(|h| !h.as_os_str().is_empty()) {
            let _ = fs::remove_file(hidden);
        }
        // Those that are open have been dropped, which aborts them.
        #[cfg(feature = "s3")]
        if let Target::Bucket(bucket) = &mut self.target {
            bucket.closed.clear();
        }
    }
}

/// What part files of this process are called after: unlike that of any other run on this machine, and the same for
/// all tasks.
pub(crate) fn process_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{:x}-{:x}", now.as_millis(), std::process::id())
    })
}

impl Target {
    /// Whether rows go to files whose names the sink chooses, as many as it likes.
    fn has_parts(&self) -> bool {
        match self {
            Target::Folder { .. } => true,
            #[cfg(feature = "s3")]
            Target::Bucket(bucket) => bucket.parts.is_some(),
            _ => false,
        }
    }

    /// Whether the path names one file, which is there as a whole or not at all.
    fn is_one_file(&self) -> bool {
        match self {
            Target::One(_) => true,
            #[cfg(feature = "s3")]
            Target::Bucket(bucket) => bucket.parts.is_none(),
            _ => false,
        }
    }
}

#[cfg(feature = "s3")]
impl Bucket {
    fn new(objects: Arc<Objects>, table: &TableSpec, context: &SinkContext) -> Result<Bucket> {
        let path = required(table, PATH, "s3://bucket/orders")?;
        let root = objects.key(path).to_owned();
        let parts = match names_a_file(path, !table.partitioned_by.is_empty()) {
            true => None,
            false => Some(match &context.job {
                Some(job) => (commit::prefix(job, &table.name, context.index), 0),
                // Others may write there from other machines.
                None => (format!("part-{}-{:08x}-{}", process_id(), chance(), context.index), 0),
            }),
        };
        Ok(Bucket { objects, slots: Slots::default(), root, parts, closed: Vec::new() })
    }

    fn key(&self, name: &str) -> String {
        if self.root.is_empty() { name.to_owned() } else { format!("{}/{name}", self.root) }
    }

    /// That an upload can be begun, and taken back, before the first row is read.
    fn probe(&self) -> Result<()> {
        let at = self.objects.at(&self.key(&format!("{}{:08x}", commit::probe(process_id()), chance())))?;
        self.objects.probe(&at)
    }

    /// An upload, and how messages call what it will be.
    fn create(&mut self, folder: &Path, ending: &str) -> Result<(Upload, PathBuf)> {
        let key = match &mut self.parts {
            None => self.root.clone(),
            Some((prefix, next)) => {
                let name = folder.join(format!("{prefix}-{next}.{ending}"));
                *next += 1;
                self.key(&name.to_string_lossy())
            }
        };
        let at = self.objects.at(&key)?;
        let shown = PathBuf::from(self.objects.shown(&at));
        Ok((Upload::begin(&self.objects, at, &self.slots), shown))
    }

    /// A key, counted from that of the table.
    fn relative(&self, at: &object_store::path::Path) -> Result<String> {
        let name = at.as_ref().strip_prefix(&self.root).map(|name| name.trim_start_matches('/'));
        name.map(str::to_owned).ok_or_else(|| Error::internal(format!("{at} is not below the prefix of its table")))
    }

    /// Makes all that is closed objects, when all of them are whole.
    fn finish(&mut self, rule: Option<&Rule>) -> Result<()> {
        for uploaded in &mut self.closed {
            uploaded.settle()?;
        }
        let mut folders = BTreeSet::new();
        while let Some(uploaded) = self.closed.pop() {
            let name = self.relative(&uploaded.at)?;
            folders.extend(name.rsplit_once('/').map(|(folder, _)| folder.to_owned()));
            uploaded.complete()?;
        }
        match rule {
            Some(rule) => bucket::mark(&self.objects, &self.root, &folders, &rule.success),
            None => Ok(()),
        }
    }
}

/// A number that another process has hardly chosen as well.
pub(crate) fn chance() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    static CHANCE: OnceLock<u32> = OnceLock::new();
    *CHANCE.get_or_init(|| RandomState::new().hash_one(process_id()) as u32)
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
            return self.open.values_mut().try_for_each(|part| part.writer.flush(&part.target));
        }
        self.close_old()
    }

    fn advance(&mut self, to: Watermark) {
        self.watermark = Some(to.0);
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Prepared> {
        #[cfg(feature = "s3")]
        if matches!(self.target, Target::Bucket(_)) && self.job.is_some() {
            return self.prepare_uploads();
        }
        let (Target::Folder { root, .. }, Some(job)) = (&self.target, &self.job) else {
            self.flush()?;
            return Ok(Prepared::default());
        };
        let (root, guarantee) = (root.clone(), job.guarantee);
        self.close_all()?;
        let mut parts = Vec::with_capacity(self.closed.len());
        for Closed { hidden, target, about } in &self.closed {
            let there = if guarantee == Guarantee::None { target } else { hidden };
            let size = fs::metadata(there).map_err(|e| cannot("read", &there.display().to_string(), &e))?.len();
            let relative = |path: &Path| match path.strip_prefix(&root).ok().and_then(Path::to_str) {
                Some(path) => Ok(path.to_owned()),
                None => Err(Error::internal(format!("{} is not in the folder of its table", path.display()))),
            };
            parts.push(PartFile { hidden: relative(hidden)?, name: relative(target)?, size, about: about.clone() });
        }
        // From here on they are the checkpoint's, whatever becomes of this sink.
        self.closed.clear();
        let waits = self.rule.as_ref().is_some_and(Rule::waits);
        if parts.is_empty() && !waits {
            return Ok(Prepared::default());
        }
        let watermark = self.watermark.filter(|_| waits);
        let parts = Parts { parts, writer: self.index, watermark };
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
        if self.job.is_some() && self.target.has_parts() {
            self.done = self.open.is_empty() && self.closed.is_empty();
            #[cfg(feature = "s3")]
            if let Target::Bucket(bucket) = &self.target {
                self.done &= bucket.closed.is_empty();
            }
            return match self.done {
                true => Ok(()),
                false => Err(Error::internal("rows behind the last checkpoint of a job that has ended")),
            };
        }
        self.close_all()?;
        #[cfg(feature = "s3")]
        if let Target::Bucket(bucket) = &mut self.target {
            bucket.finish(self.rule.as_ref())?;
        }
        let mut folders = BTreeSet::new();
        // Only now, when all of them are whole.
        while let Some(Closed { hidden, target, .. }) = self.closed.first() {
            fs::rename(hidden, target).map_err(|e| cannot("name", &target.display().to_string(), &e))?;
            folders.extend(target.parent().map(Path::to_owned));
            self.closed.remove(0);
        }
        if let Some(rule) = &self.rule {
            commit::mark(&folders, &rule.success)?;
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
