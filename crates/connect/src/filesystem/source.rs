//! Reads all files of a table as one partition.
//!
//! A position names the files that have been read ([`Progress`]), the file that is being read with the place in it, and
//! how many rows that was. The place is a number of unpacked bytes and what the decoder knows there, or a row of a
//! Parquet file. The file must still be the one it was: its size and time of modification are compared.

use super::files::Files;
use super::layout::{Column, Layout, constant};
use super::list::{FileInfo, local_path};
use super::progress::{Progress, vanished};
use super::read::{Ahead, Hands, Next, Piece, Plan, absent};
use super::{MONITOR_INTERVAL, PATH, Packing, cannot, format_options};
use crate::options::{BAD_ROWS, duration, required};
use crate::position;
use arrow::array::{ArrayRef, Int8Array, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use millstream_core::{
    BadRow, Behind, Error, ErrorKind, PartitionReader, Place, Polled, Result, SavedPartition, Source, SourceRows,
    TableSpec,
};
use millstream_formats::parquet::ParquetReader;
use millstream_formats::{Decoder, Format, FormatOptions, Mark, OnBadRow, decoder_beyond};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const ROWS_MAX: usize = 8192;

/// Blocks that have arrived are decoded together up to this many bytes, so that under load batches are full.
const GATHER_BYTES_MAX: usize = 1 << 20;

/// Endings of packed files that would only be seen as millions of bad rows.
const FOREIGN: [&str; 8] = ["7z", "br", "bz2", "lz4", "snappy", "sz", "xz", "zip"];

/// How often a bucket is listed where an object that is still to be read is not in the listing, and the first pause.
const LISTINGS_MAX: usize = 4;
const LISTING_PAUSE: Duration = Duration::from_millis(500);

/// How long `poll` waits for the reading thread before it says that nothing is there.
const PATIENCE: Duration = Duration::from_micros(200);

pub(crate) struct FileSource {
    table: TableSpec,
    options: FormatOptions,
    layout: Layout,
    plan: Plan,
}

impl FileSource {
    pub fn open(table: &TableSpec) -> Result<FileSource> {
        let options = format_options(table)?;
        let path = required(table, PATH, "data/orders")?;
        let interval = duration(table, MONITOR_INTERVAL)?;
        let files = Files::of(table)?;
        let first = if path == "-" { Vec::new() } else { files.list(path)? };
        FileSource::over(table, options, files, first, interval)
    }

    /// Over these files and no others, ever; in the order of their paths.
    pub fn of_files(table: &TableSpec, mut first: Vec<FileInfo>) -> Result<FileSource> {
        first.sort_by(|a, b| a.path.cmp(&b.path));
        FileSource::over(table, format_options(table)?, Files::of(table)?, first, None)?.once()
    }

    fn over(
        table: &TableSpec,
        options: FormatOptions,
        files: Files,
        first: Vec<FileInfo>,
        interval: Option<Duration>,
    ) -> Result<FileSource> {
        let path = required(table, PATH, "data/orders")?;
        let layout = Layout::of(table)?;
        let hands = match (options.format(), &files) {
            (Format::Parquet, Files::Local) => Hands::Names,
            #[cfg(feature = "s3")]
            (Format::Parquet, Files::Bucket(_)) => Hands::Rows(layout.read()?, ROWS_MAX),
            _ => Hands::Bytes,
        };
        let plan = Plan {
            files,
            path: path.to_owned(),
            interval,
            hands,
            first,
            progress: Progress::default(),
            once: false,
            inside: None,
        };
        Ok(FileSource { table: table.clone(), layout, options, plan })
    }

    /// A listing of a bucket may lag behind what is there: before an object counts as gone, it is listed again.
    fn list_again_where_stale(
        &self,
        plan: &mut Plan,
        progress: &Progress,
        inside: Option<&FilePosition>,
    ) -> Result<()> {
        if matches!(plan.files, Files::Local) {
            return Ok(());
        }
        let mut pause = LISTING_PAUSE;
        for _ in 1..LISTINGS_MAX {
            let lacks = |e: Error| e.kind() == ErrorKind::Io;
            let gone = inside.is_some_and(|i| i.find(&plan.first).is_err_and(lacks));
            if !gone && !progress.left(&plan.first).is_err_and(lacks) {
                break;
            }
            std::thread::sleep(pause);
            pause *= 2;
            plan.first = plan.files.list(&plan.path)?;
        }
        Ok(())
    }

    /// The files that are found first are all that will ever be read, however often a run goes on with them.
    /// A position names them from the very beginning.
    pub fn once(mut self) -> Result<FileSource> {
        self.plan.once = true;
        if let Some((pass, _)) = self.plan.progress.look(&self.plan.first)? {
            self.plan.progress.begin(pass);
        }
        Ok(self)
    }

    fn reader(&self, plan: Plan, rows: i64, inside: Option<FilePosition>) -> Result<Box<dyn PartitionReader>> {
        let on_bad_row = match self.table.option(BAD_ROWS) {
            Some(_) => OnBadRow::SetAside,
            None if self.options.ignore_parse_errors() => OnBadRow::Skip,
            None => OnBadRow::Fail,
        };
        let contents = match &self.options {
            FormatOptions::Parquet(_) if matches!(plan.hands, Hands::Rows(..)) => {
                Contents::Rows { next: None, read: 0, last: false }
            }
            FormatOptions::Parquet(_) => Contents::Parquet { schema: self.layout.read()?, reader: None, held: None },
            text => Contents::Text(Text {
                decoder: decoder_beyond(
                    text,
                    &self.layout.stored,
                    &self.layout.projection,
                    &self.layout.beyond,
                    on_bad_row,
                )?,
                bytes: Vec::new(),
                from: 0,
                offset: 0,
                wanted: 0,
                last: false,
            }),
        };
        let size = |files: &[FileInfo]| files.iter().filter_map(|f| f.size).sum::<u64>();
        // A file that is missing is said by the thread that wants to read it.
        let left = plan.progress.has_begun().then(|| plan.progress.left(&plan.first).unwrap_or_default());
        let left = size(left.as_ref().unwrap_or(&plan.first));
        let all_bytes = size(&plan.first);
        Ok(Box::new(FileReader {
            all_bytes,
            done_bytes: all_bytes.saturating_sub(left),
            name: local_path(&self.plan.path).to_owned(),
            layout: self.layout.clone(),
            replays: self.replays(),
            progress: plan.progress.clone(),
            ahead: Ahead::start(plan)?,
            contents,
            file: None,
            inside,
            order: rows,
            skipped: 0,
            over: false,
            done: (0, 0),
            rows_max: ROWS_MAX,
        }))
    }
}

/// Where reading goes on.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    /// Rows handed on, through all files.
    rows: i64,
    files: Progress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inside: Option<FilePosition>,
}

/// A file that is being read.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FilePosition {
    path: PathBuf,
    size: Option<u64>,
    modified: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Unpacked bytes of it that are done with; for Parquet rows.
    offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<Mark>,
}

impl FilePosition {
    /// The file as it is now, if it is what it was.
    fn find(&self, found: &[FileInfo]) -> Result<Option<FileInfo>> {
        let Ok(at) = found.binary_search_by(|f| f.path.cmp(&self.path)) else {
            // Whoever reads a text file to its end sees that it was the end only afterwards.
            let whole = self.mark.is_some()
                && Packing::of(&self.path.display().to_string()) == Packing::Plain
                && self.size == Some(self.offset);
            return if whole { Ok(None) } else { Err(vanished(&self.path)) };
        };
        let file = &found[at];
        // An object that was replaced within the same second and has the same size is another one all the same.
        let same_version = self.version.is_none() || self.version == file.version;
        if (file.size, file.modified) == (self.size, self.modified) && same_version {
            return Ok(Some(file.clone()));
        }
        let (was, is) = (self.size.unwrap_or_default(), file.size.unwrap_or_default());
        let what = match is.cmp(&was) {
            std::cmp::Ordering::Less => format!("has shrunk from {was} to {is} bytes"),
            std::cmp::Ordering::Greater => format!("has grown from {was} to {is} bytes"),
            std::cmp::Ordering::Equal => "has been written to".into(),
        };
        let shown = file.shown();
        let modified = self.modified.unwrap_or_default();
        if self.version.is_some() {
            return Err(Error::data(format!("the object {what} since the job has read a part of it"))
                .at(Place(shown))
                .remedy(format!(
                    "a job that has read a part of an object needs that very version ({was} bytes): start the job afresh, \
                     and write new rows under a new name instead of replacing an object"
                )));
        }
        Err(Error::data(format!("the file {what} since the job has read a part of it"))
            .at(Place(shown.clone()))
            .remedy(format!(
                "put the file back as it was ({was} bytes); if it holds the same, set its time back: touch -d \
                 @{}.{:03} '{shown}'; or start the job afresh",
                modified.div_euclid(1000),
                modified.rem_euclid(1000)
            )))
    }
}

impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        self.layout.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.plan.interval.is_none()
    }

    fn partitions(&mut self, _parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let Plan { path, interval, first, .. } = &self.plan;
        if first.is_empty() && interval.is_none() && path != "-" {
            let error = Error::io(format!("'path' = '{path}' names no file")).remedy(format!(
                "files whose names begin with . or _ and those that end with .tmp or .inprogress do not count; to wait \
                 for files that are still to come, set '{MONITOR_INTERVAL}' = '1 s'"
            ));
            return Err(match &self.table.place {
                Some(place) => error.at(place.clone()),
                None => error,
            });
        }
        Ok(vec![self.reader(self.plan.clone(), 0, None)?])
    }

    fn resume(&mut self, saved: &[SavedPartition], parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let [saved] = saved else {
            return match saved {
                [] => self.partitions(parallelism),
                _ => Err(Error::internal(format!("files are one partition, and {} were saved", saved.len()))),
            };
        };
        let name = local_path(&self.plan.path);
        if saved.name != name {
            return Err(Error::usage(format!("the job has read '{}' and is now to go on in '{name}'", saved.name))
                .remedy("set 'path' back, or start the job afresh"));
        }
        if !self.replays() {
            return Err(no_positions(name));
        }
        let Position { rows, mut files, inside } = position::read(saved)?;
        let mut plan = self.plan.clone();
        self.list_again_where_stale(&mut plan, &files, inside.as_ref())?;
        if let Some(inside) = &inside {
            match inside.find(&plan.first)? {
                Some(file) => plan.inside = Some((file, inside.offset)),
                None => files.done_with(&inside.path),
            }
        }
        plan.progress = files;
        let inside = inside.filter(|_| plan.inside.is_some());
        Ok(vec![self.reader(plan, rows, inside)?])
    }

    fn replays(&self) -> bool {
        // Pipes and devices have no size.
        self.plan.path != "-" && self.plan.first.iter().all(|file| file.size.is_some())
    }
}

fn no_positions(name: &str) -> Error {
    let name = if name == "-" { "standard input" } else { name };
    Error::usage(format!("{name} is a stream: what was read of it cannot be read again after a crash"))
        .remedy("write the input to a file and read that, or run the job without checkpoints")
}

struct FileReader {
    name: String,
    layout: Layout,
    replays: bool,
    progress: Progress,
    ahead: Ahead,
    contents: Contents,
    file: Option<OpenFile>,
    /// Where to go on in the first file, if a former run had read a part of it.
    inside: Option<FilePosition>,
    /// Rows handed on so far, through all files.
    order: i64,
    skipped: u64,
    /// There are no more files.
    over: bool,
    /// Files that have been read to their end in this run, and their bytes as they lie there.
    done: (u64, u64),
    /// Rows of one batch at most.
    rows_max: usize,
    /// Of the files that were there at the beginning, and of those of them that are read.
    all_bytes: u64,
    done_bytes: u64,
}

enum Contents {
    Text(Text),
    /// `held`: rows that have been read and not handed on, since fewer at once were asked for.
    Parquet {
        schema: SchemaRef,
        reader: Option<ParquetReader>,
        held: Option<RecordBatch>,
    },
    /// Of a Parquet object, decoded by the reading thread.
    Rows {
        next: Option<RecordBatch>,
        read: u64,
        last: bool,
    },
}

/// Bytes that have arrived and are not decoded yet.
struct Text {
    decoder: Box<dyn Decoder>,
    bytes: Vec<u8>,
    /// Where in `bytes` what is not decoded begins.
    from: usize,
    /// How much of the file is decoded.
    offset: u64,
    /// The decoder needs at least so many bytes before it is asked again.
    wanted: usize,
    /// The file has no more.
    last: bool,
}

/// What is the same for all rows of a file.
struct OpenFile {
    about: FileInfo,
    /// One-row columns, for those of the layout that come from the file as a whole.
    constants: Vec<Option<ArrayRef>>,
}

/// What is to be done next.
enum Step {
    Emit(SourceRows),
    Again,
    NeedMore,
}

impl FileReader {
    fn begin(&mut self, file: FileInfo) -> Result<()> {
        let mut constants = Vec::with_capacity(self.layout.columns.len());
        for (column, field) in self.layout.columns.iter().zip(self.layout.schema.fields()) {
            constants.push(constant(column, field, &file)?);
        }
        let inside = self.inside.take();
        match &mut self.contents {
            Contents::Text(text) => {
                let ending = file.path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
                if FOREIGN.contains(&ending.as_str()) {
                    return Err(Error::data(format!("files packed as .{ending} cannot be read"))
                        .at(Place(file.shown()))
                        .remedy("unpack the file, or pack it with gzip or zstd"));
                }
                match inside.as_ref().and_then(|i| i.mark.as_ref()) {
                    Some(mark) => text.decoder.resume(&file.shown(), mark)?,
                    None => text.decoder.start(&file.shown()),
                }
                text.bytes.clear();
                text.from = 0;
                text.offset = inside.map_or(0, |i| i.offset);
                text.wanted = 1;
                text.last = false;
            }
            Contents::Rows { next, read, last } => {
                (*next, *read, *last) = (None, inside.map_or(0, |i| i.offset), false);
            }
            Contents::Parquet { schema, reader, .. } => {
                let shown = file.shown();
                let open = File::open(&file.path).map_err(|e| cannot("read", &shown, &e))?;
                let from = inside.map_or(0, |i| i.offset);
                *reader = Some(ParquetReader::open_with(open, &shown, schema, from, ROWS_MAX, absent(&file))?);
            }
        }
        self.file = Some(OpenFile { about: file, constants });
        Ok(())
    }

    /// The file is read to its end.
    fn done_with_file(&mut self) {
        if let Some(file) = self.file.take() {
            self.progress.done_with(&file.about.path);
            self.done = (self.done.0 + 1, self.done.1 + file.about.size.unwrap_or(0));
            self.done_bytes += file.about.size.unwrap_or_default();
        }
    }

    /// Bytes of the open file that are read, about. How far a packed file has been read is known in unpacked bytes only: it
    /// counts at its end.
    fn done_inside(&self) -> u64 {
        let Some(file) = &self.file else { return 0 };
        let size = file.about.size.unwrap_or_default();
        let of_rows = |read: u64, all: u64| (u128::from(size) * u128::from(read) / u128::from(all.max(1))) as u64;
        match &self.contents {
            Contents::Text(_) if Packing::of(&file.about.path.display().to_string()) != Packing::Plain => 0,
            Contents::Text(text) => text.offset.min(size),
            Contents::Parquet { reader: Some(open), .. } => of_rows(open.rows_read(), open.rows_total()),
            Contents::Parquet { reader: None, .. } | Contents::Rows { .. } => 0,
        }
    }

    /// Works on what has arrived.
    fn step(&mut self) -> Result<Step> {
        match &mut self.contents {
            Contents::Rows { next, read, last } => match next.take() {
                Some(mut rows) => {
                    if rows.num_rows() > self.rows_max {
                        *next = Some(rows.slice(self.rows_max, rows.num_rows() - self.rows_max));
                        rows = rows.slice(0, self.rows_max);
                    }
                    *read += rows.num_rows() as u64;
                    let bytes = rows.get_array_memory_size() as u64;
                    self.emit(rows, None, Vec::new(), bytes)
                }
                None if *last && self.file.is_some() => {
                    self.done_with_file();
                    Ok(Step::Again)
                }
                None => Ok(Step::NeedMore),
            },
            Contents::Parquet { reader: None, .. } => Ok(Step::NeedMore),
            Contents::Parquet { reader: Some(open), held, .. } => {
                match held.take().map_or_else(|| open.next_rows(), |h| Ok(Some(h)))? {
                    Some(mut rows) => {
                        if rows.num_rows() > self.rows_max {
                            *held = Some(rows.slice(self.rows_max, rows.num_rows() - self.rows_max));
                            rows = rows.slice(0, self.rows_max);
                        }
                        let bytes = rows.get_array_memory_size() as u64;
                        self.emit(rows, None, Vec::new(), bytes)
                    }
                    None => {
                        self.contents.end();
                        self.done_with_file();
                        Ok(Step::Again)
                    }
                }
            }
            Contents::Text(text) => {
                let left = text.bytes.len() - text.from;
                if self.file.is_none() || (left < text.wanted && !text.last) {
                    return Ok(Step::NeedMore);
                }
                if left == 0 && text.last {
                    self.done_with_file();
                    return Ok(Step::Again);
                }
                let decoded = text.decoder.decode(&text.bytes[text.from..], text.last, self.rows_max)?;
                text.from += decoded.consumed;
                text.offset += decoded.consumed as u64;
                self.skipped += decoded.skipped;
                if decoded.consumed == 0 && decoded.rows.num_rows() == 0 && decoded.bad.is_empty() {
                    if text.last {
                        return Err(Error::internal("the decoder leaves bytes at the end of a file"));
                    }
                    // Twice as many before the next try: a long record must not be looked at again for every block.
                    text.wanted = if left < GATHER_BYTES_MAX { left + 1 } else { left * 2 };
                    return Ok(Step::NeedMore);
                }
                text.wanted = 1;
                if decoded.rows.num_rows() == 0 && decoded.bad.is_empty() {
                    return Ok(Step::Again);
                }
                self.emit(decoded.rows, decoded.kinds, decoded.bad, decoded.consumed as u64)
            }
        }
    }

    /// Completes rows with what comes from elsewhere than the file's contents.
    fn emit(&mut self, stored: RecordBatch, kinds: Option<Int8Array>, bad: Vec<BadRow>, bytes: u64) -> Result<Step> {
        let count = stored.num_rows();
        let Some(file) = &self.file else { return Err(Error::internal("rows without a file")) };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.layout.columns.len());
        let mut zeros: Option<UInt32Array> = None;
        for (column, constant) in self.layout.columns.iter().zip(&file.constants) {
            columns.push(match (column, constant) {
                (Column::Stored(n), _) => stored.column(*n).clone(),
                (Column::Order, _) => Arc::new(Int64Array::from_iter_values(self.order..self.order + count as i64)),
                (_, Some(constant)) => {
                    take(constant, zeros.get_or_insert_with(|| UInt32Array::from(vec![0; count])), None)?
                }
                (_, None) => return Err(Error::internal("a column without a value")),
            });
        }
        self.order += count as i64;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)?;
        Ok(Step::Emit(SourceRows { rows, kinds, bad, bytes }))
    }

    /// Takes in a piece.
    fn take(&mut self, piece: Piece) -> Result<()> {
        match piece {
            Piece::Look(pass) => {
                self.progress.begin(*pass);
                Ok(())
            }
            Piece::Looked => {
                self.progress.end();
                Ok(())
            }
            Piece::Begin(file) => self.begin(file),
            Piece::Failed(e) => Err(e),
            Piece::Over => Err(Error::internal("the end of all files inside of one")),
            Piece::Bytes(bytes) => {
                if let Contents::Text(text) = &mut self.contents {
                    text.add(bytes);
                }
                Ok(())
            }
            Piece::Rows(rows) => {
                if let Contents::Rows { next, .. } = &mut self.contents {
                    *next = Some(rows);
                }
                Ok(())
            }
            Piece::End => {
                match &mut self.contents {
                    Contents::Text(text) => text.last = true,
                    Contents::Rows { last, .. } => *last = true,
                    Contents::Parquet { .. } => {}
                }
                Ok(())
            }
        }
    }

    /// Whether the next piece may be asked for before what is there has been worked off.
    fn gathers(&self) -> bool {
        match &self.contents {
            Contents::Text(text) => {
                self.file.is_some() && !text.last && text.bytes.len() - text.from < GATHER_BYTES_MAX.max(text.wanted)
            }
            Contents::Parquet { .. } | Contents::Rows { .. } => false,
        }
    }
}

impl Contents {
    fn end(&mut self) {
        if let Contents::Parquet { reader, .. } = self {
            *reader = None;
        }
    }
}

impl Text {
    fn add(&mut self, block: Vec<u8>) {
        if self.from == self.bytes.len() {
            self.bytes = block;
        } else {
            self.bytes.drain(..self.from);
            self.bytes.extend_from_slice(&block);
        }
        self.from = 0;
    }
}

impl PartitionReader for FileReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        loop {
            // What has arrived meanwhile goes together with what is left, so that under load batches are full.
            while self.gathers() {
                match self.ahead.next(Duration::ZERO) {
                    Next::Piece(piece) => self.take(piece)?,
                    Next::Nothing => break,
                    Next::Over => return Err(Error::internal("a file without an end")),
                }
            }
            match self.step()? {
                Step::Emit(rows) => return Ok(Polled::Rows(rows)),
                Step::Again => continue,
                Step::NeedMore if self.over => return Ok(Polled::End),
                Step::NeedMore => {}
            }
            match self.ahead.next(PATIENCE) {
                Next::Piece(piece) => self.take(piece)?,
                Next::Nothing => return Ok(Polled::Pending),
                Next::Over => self.over = true,
            }
        }
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn behind(&self) -> Behind {
        // A stream has no size, so nobody knows what is still to come of it.
        let Some((files, bytes)) = self.ahead.found.all().filter(|_| self.replays) else { return Behind::default() };
        Behind {
            files: Some(files.saturating_sub(self.done.0)),
            bytes: Some(bytes.saturating_sub(self.done.1 + self.done_inside())),
            rows: None,
        }
    }

    fn take_at_most(&mut self, rows: usize) {
        self.rows_max = rows.clamp(1, ROWS_MAX);
    }

    fn bytes_done(&self) -> Option<(u64, u64)> {
        Some(((self.done_bytes + self.done_inside()).min(self.all_bytes), self.all_bytes))
    }

    fn position(&self) -> Result<String> {
        if !self.replays {
            return Err(no_positions(&self.name));
        }
        let inside = match (&self.file, &self.contents) {
            // Not even opened again since the restore.
            (None, _) => self.inside.clone(),
            (Some(file), contents) => {
                let (offset, mark) = match contents {
                    Contents::Text(text) => (text.offset, Some(text.decoder.mark())),
                    Contents::Rows { read, .. } => (*read, None),
                    Contents::Parquet { reader, held, .. } => {
                        let held = held.as_ref().map_or(0, |h| h.num_rows() as u64);
                        (reader.as_ref().map_or(0, ParquetReader::rows_read) - held, None)
                    }
                };
                let FileInfo { path, size, modified, version, .. } = file.about.clone();
                Some(FilePosition { path, size, modified, version, offset, mark })
            }
        };
        position::write(&Position { rows: self.order, files: self.progress.clone(), inside })
    }
}
