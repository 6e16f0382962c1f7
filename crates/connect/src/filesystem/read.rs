//! The thread that reads files ahead: finds them, opens them, unpacks them, and hands on blocks of bytes.
//!
//! ```text
//!  thread: look ─▶ open ─▶ unpack ─▶ [ queue, at most PREFETCH_BYTES_MAX ] ─▶ poll: decode
//!            ▲──── wait for the interval, where the folder is watched ──┘
//! ```
//!
//! Where the queue is full the thread waits, so a slow job reads slowly. It ends when its reader is dropped.
//!
//! Parquet has to seek. On this machine the file is then only named here, and opened and decoded in `poll`. In a bucket each
//! seek may be a request, so there the thread decodes as well and hands on rows.

#[cfg(feature = "s3")]
use super::bucket::Chunks;
use super::files::{Files, carried};
use super::list::FileInfo;
use super::progress::{Pass, Progress};
use super::{Packing, cannot};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Place, Result};
use millstream_formats::parquet::Absent;
#[cfg(feature = "s3")]
use millstream_formats::parquet::ParquetReader;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes that are read ahead at most.
pub(super) const PREFETCH_BYTES_MAX: usize = 8 << 20;

/// Bytes of one block.
const BLOCK_BYTES: usize = 256 << 10;

/// What the thread tells, in order: there are new files; a file begins, its bytes, it ends, the next begins; that was
/// the last of them.
#[derive(Debug)]
pub(super) enum Piece {
    Look(Box<Pass>),
    Looked,
    Begin(FileInfo),
    Bytes(Vec<u8>),
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "only a bucket's files are decoded here"))]
    Rows(RecordBatch),
    End,
    Failed(Error),
    /// There are no more files. Said in so many words: a thread that is gone without it has been lost, and its files
    /// have not been read to their end.
    Over,
}

pub(super) enum Next {
    Piece(Piece),
    /// Nothing yet.
    Nothing,
    /// There will be nothing more.
    Over,
}

/// What the thread has found to be read, all in all: the files are sent one after the other, long after they were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    files: AtomicU64,
    bytes: AtomicU64,
    /// It has looked.
    known: AtomicBool,
}

impl Found {
    fn add<'a>(&self, files: impl IntoIterator<Item = &'a FileInfo>) {
        for file in files {
            self.files.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(file.size.unwrap_or(0), Ordering::Relaxed);
        }
        self.known.store(true, Ordering::Release);
    }

    /// Files and bytes; `None`: it has not looked yet.
    pub fn all(&self) -> Option<(u64, u64)> {
        let known = self.known.load(Ordering::Acquire);
        known.then(|| (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed)))
    }
}

/// The near end of the queue.
pub(super) struct Ahead {
    pieces: Receiver<Piece>,
    pub found: Arc<Found>,
    /// Taken by rows that wait in the queue; bytes come in blocks, whose number is bounded.
    room: Arc<Room>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How files are handed on.
#[derive(Clone)]
pub(super) enum Hands {
    Bytes,
    /// Only named: the reader opens them.
    Names,
    /// Rows of these columns of a Parquet object, so many at a time.
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "only a bucket's files are decoded here"))]
    Rows(SchemaRef, usize),
}

#[derive(Clone)]
pub(super) struct Plan {
    pub files: Files,
    /// As the table names it; `-` is standard input.
    pub path: String,
    /// Look for new files again and again, this long after the last look.
    pub interval: Option<Duration>,
    pub hands: Hands,
    /// The files that were there when the table was opened.
    pub first: Vec<FileInfo>,
    /// What has been read of them before.
    pub progress: Progress,
    /// The files of the first look are all there will ever be, also for a run that goes on with them later.
    pub once: bool,
    /// A file that was being read, and how much of its unpacked bytes, or of its rows, is done with.
    pub inside: Option<(FileInfo, u64)>,
}

impl Ahead {
    pub fn start(plan: Plan) -> Result<Ahead> {
        let (send, pieces) = sync_channel(PREFETCH_BYTES_MAX / BLOCK_BYTES);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, found) = (stop.clone(), Arc::new(Found::default()));
        let counted = found.clone();
        let room = Arc::new(Room::default());
        let sender = Sender { queue: send, room: room.clone() };
        let handle = thread::Builder::new()
            .name("read-files".into())
            .spawn(move || {
                // The other end is gone when a piece cannot be sent; then nobody is left to tell.
                let _ = run(&plan, &sender, &stopped, &counted);
            })
            .map_err(|e| cannot("start a thread to read", "files", &e))?;
        Ok(Ahead { pieces, found, room, stop, thread: Some(handle) })
    }

    /// The next piece, or one that comes within `patience`.
    pub fn next(&self, patience: Duration) -> Next {
        match self.pieces.recv_timeout(patience) {
            Ok(Piece::Over) => Next::Over,
            Ok(piece) => {
                if let Piece::Rows(rows) = &piece {
                    self.room.give_back(rows.get_array_memory_size());
                }
                Next::Piece(piece)
            }
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => {
                Next::Piece(Piece::Failed(Error::internal("the thread that reads the files has been lost")))
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.room.close();
        // Not waited for: it may be in the middle of a read that blocks, and finds out afterwards.
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

/// The receiver is gone.
struct Gone;

/// The far end of the queue.
struct Sender {
    queue: SyncSender<Piece>,
    room: Arc<Room>,
}

impl Sender {
    fn send(&self, piece: Piece) -> Result<(), Gone> {
        if let Piece::Rows(rows) = &piece {
            self.room.take(rows.get_array_memory_size())?;
        }
        self.queue.send(piece).map_err(|_| Gone)
    }
}

/// Bytes of rows that wait in the queue, at most [`PREFETCH_BYTES_MAX`]; one batch has room however large it is.
#[derive(Default)]
struct Room {
    /// What is taken, and whether nobody will give it back any more.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Room {
    fn take(&self, bytes: usize) -> Result<(), Gone> {
        let full = |(taken, closed): &mut (usize, bool)| !*closed && *taken > 0 && *taken + bytes > PREFETCH_BYTES_MAX;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.0 += bytes;
        if state.1 { Err(Gone) } else { Ok(()) }
    }

    fn give_back(&self, bytes: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 -= bytes;
        self.changed.notify_all();
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }
}

fn run(plan: &Plan, send: &Sender, stop: &AtomicBool, counted: &Found) -> Result<(), Gone> {
    let put = |piece| send.send(piece);
    if plan.path == "-" {
        put(Piece::Begin(FileInfo::stdin()))?;
        return match send_all(&mut io::stdin().lock(), &FileInfo::stdin(), Packing::Plain, send)? {
            Ok(()) => put(Piece::End).and_then(|()| put(Piece::Over)),
            Err(e) => put(Piece::Failed(e)),
        };
    }
    let mut progress = plan.progress.clone();
    // What an interrupted run had before it comes first, so that its rows come in the order they would have come in.
    let mut pass = match progress.left(&plan.first) {
        Ok(mut left) => {
            if let Some((inside, from)) = &plan.inside {
                left.retain(|f| f.path != inside.path);
                counted.add(left.iter().chain([inside]));
                send_file(plan, inside, *from, send)?;
            } else {
                counted.add(&left);
            }
            left
        }
        Err(e) => return put(Piece::Failed(e)),
    };
    let mut found = plan.first.clone();
    let again = plan.progress.has_begun() || plan.inside.is_some();
    loop {
        for file in &pass {
            if stop.load(Ordering::Relaxed) {
                return Err(Gone);
            }
            send_file(plan, file, 0, send)?;
        }
        put(Piece::Looked)?;
        progress.end();
        if plan.once && again {
            return put(Piece::Over);
        }
        match progress.look(&found) {
            Ok(Some((listed, new))) => {
                counted.add(&new);
                put(Piece::Look(Box::new(listed.clone())))?;
                progress.begin(listed);
                pass = new;
                continue;
            }
            Ok(None) => {}
            Err(e) => return put(Piece::Failed(e)),
        }
        pass.clear();
        let Some(interval) = plan.interval else { return put(Piece::Over) };
        let until = std::time::Instant::now() + interval;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Gone);
            }
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        found = match plan.files.list(&plan.path) {
            Ok(files) => files,
            Err(e) => return put(Piece::Failed(e)),
        };
    }
}

/// Sends a file from byte or row `from` of its contents on. After a failure nothing follows.
fn send_file(plan: &Plan, file: &FileInfo, from: u64, send: &Sender) -> Result<(), Gone> {
    let put = |piece| send.send(piece);
    put(Piece::Begin(file.clone()))?;
    let sent = match &plan.hands {
        Hands::Names => Ok(()),
        Hands::Bytes => send_contents(plan, file, from, send)?,
        Hands::Rows(schema, rows_max) => send_rows(plan, file, from, schema, *rows_max, send)?,
    };
    if let Err(e) = sent {
        put(Piece::Failed(e))?;
        return Err(Gone);
    }
    put(Piece::End)
}

/// What a column is that a Parquet file does not have: a log knows of columns that are younger than a file.
pub(super) fn absent(file: &FileInfo) -> Absent {
    if file.logged.is_some() { Absent::Null } else { Absent::Refused }
}

#[cfg(feature = "s3")]
fn send_rows(
    plan: &Plan,
    file: &FileInfo,
    from: u64,
    schema: &SchemaRef,
    rows_max: usize,
    send: &Sender,
) -> Result<Result<()>, Gone> {
    let Files::Bucket(objects) = &plan.files else {
        return Ok(Err(Error::internal("rows of a file that is in no bucket")));
    };
    let columns: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let chunks = match Chunks::open(objects, file, &columns) {
        Ok(chunks) => chunks,
        Err(e) => return Ok(Err(e)),
    };
    let opened = ParquetReader::open_with(chunks.clone(), &file.shown(), schema, from, rows_max, absent(file));
    let mut sent = opened.map(Some);
    loop {
        let rows = match &mut sent {
            Ok(Some(reader)) => reader.next_rows(),
            Ok(None) => return Ok(Ok(())),
            // A request that failed is no damage of the file.
            Err(e) => return Ok(Err(chunks.failed().unwrap_or_else(|| e.clone()))),
        };
        match rows {
            Ok(Some(rows)) => send.send(Piece::Rows(rows))?,
            Ok(None) => sent = Ok(None),
            Err(e) => sent = Err(e),
        }
    }
}

#[cfg(not(feature = "s3"))]
fn send_rows(_: &Plan, _: &FileInfo, _: u64, _: &SchemaRef, _: usize, _: &Sender) -> Result<Result<()>, Gone> {
    Ok(Err(Error::internal("rows of a file that is in no bucket")))
}

fn send_contents(plan: &Plan, file: &FileInfo, from: u64, send: &Sender) -> Result<Result<()>, Gone> {
    let shown = file.shown();
    let packing = Packing::of(&shown);
    let begin = if packing == Packing::Plain { from } else { 0 };
    let mut open = match plan.files.open(file, begin) {
        Ok(open) => open,
        Err(e) => return Ok(Err(e)),
    };
    match packing {
        Packing::Plain => send_all(&mut open, file, packing, send),
        Packing::Gzip => {
            let input = io::BufReader::with_capacity(BLOCK_BYTES, open);
            send_behind(flate2::bufread::MultiGzDecoder::new(input), from, file, packing, send)
        }
        Packing::Zstd => match zstd::stream::read::Decoder::new(open) {
            Ok(input) => send_behind(input, from, file, packing, send),
            Err(e) => Ok(Err(unreadable(&e, file, Packing::Plain))),
        },
    }
}

/// What lies behind `from` in a packed file, which has to be unpacked up to there.
fn send_behind(
    mut input: impl Read,
    from: u64,
    file: &FileInfo,
    packing: Packing,
    send: &Sender,
) -> Result<Result<()>, Gone> {
    match io::copy(&mut (&mut input).take(from), &mut io::sink()) {
        Ok(passed) if passed == from => send_all(&mut input, file, packing, send),
        Ok(passed) => Ok(Err(Error::data(format!("the file holds {passed} bytes, and {from} had been read of it"))
            .at(Place(file.shown()))
            .remedy("put the file back as it was, or start the job afresh"))),
        Err(e) => Ok(Err(unreadable(&e, file, packing))),
    }
}

fn unreadable(e: &io::Error, file: &FileInfo, packing: Packing) -> Error {
    if let Some(e) = carried(e) {
        return e;
    }
    if packing != Packing::Plain && e.raw_os_error().is_none() {
        return Error::data(format!("the compressed data is damaged or cut off: {e}"))
            .at(Place(file.shown()))
            .remedy("check that the file is complete and that its ending tells how it is compressed");
    }
    cannot("read", &file.shown(), e)
}

fn send_all(input: &mut dyn Read, file: &FileInfo, packing: Packing, send: &Sender) -> Result<Result<()>, Gone> {
    // A stream (a pipe, a terminal) has no size.
    let is_stream = file.size.is_none();
    loop {
        let mut block = vec![0; BLOCK_BYTES];
        let mut filled = 0;
        // A stream gives what has arrived, and that is handed on at once; files are read by whole blocks.
        loop {
            match input.read(&mut block[filled..]) {
                Ok(0) => {
                    block.truncate(filled);
                    if filled > 0 {
                        send.send(Piece::Bytes(block))?;
                    }
                    return Ok(Ok(()));
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Err(unreadable(&e, file, packing))),
            }
            if filled == block.len() || is_stream {
                break;
            }
        }
        if filled < BLOCK_BYTES / 2 {
            // Small blocks keep no large buffer behind them.
            block.truncate(filled);
            block.shrink_to_fit();
        } else {
            block.truncate(filled);
        }
        send.send(Piece::Bytes(block))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn plan(path: &std::path::Path, interval: Option<Duration>) -> Plan {
        let path = path.display().to_string();
        let first = Files::Local.list(&path).expect("readable");
        Plan {
            files: Files::Local,
            path,
            interval,
            hands: Hands::Bytes,
            first,
            progress: Progress::default(),
            once: false,
            inside: None,
        }
    }

    /// Drops the near end and waits for the thread.
    fn ends_when_dropped(mut ahead: Ahead) {
        let thread = ahead.thread.take().expect("started");
        let unparked = thread.thread().clone();
        drop(ahead);
        unparked.unpark();
        let until = Instant::now() + Duration::from_secs(10);
        while !thread.is_finished() {
            assert!(Instant::now() < until, "the thread is still there");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_read_ahead_is_bounded_and_a_dropped_reader_lets_its_thread_go() {
        let dir = tempfile::TempDir::new().expect("a folder");
        std::fs::write(dir.path().join("big.csv"), vec![b'\n'; 3 * PREFETCH_BYTES_MAX]).expect("written");
        let ahead = Ahead::start(plan(dir.path(), None)).expect("started");
        assert!(matches!(ahead.next(Duration::from_secs(10)), Next::Piece(Piece::Looked)));
        assert!(matches!(ahead.next(Duration::from_secs(10)), Next::Piece(Piece::Look(_))));
        assert!(matches!(ahead.next(Duration::from_secs(10)), Next::Piece(Piece::Begin(_))));
        // The file is three times what the queue holds, so the thread stands before a full queue and cannot be done.
        thread::sleep(Duration::from_millis(50));
        assert!(ahead.thread.as_ref().is_some_and(|t| !t.is_finished()));
        ends_when_dropped(ahead);
    }

    #[test]
    fn a_folder_that_is_watched_is_let_go_at_once() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let ahead = Ahead::start(plan(dir.path(), Some(Duration::from_secs(3600)))).expect("started");
        assert!(matches!(ahead.next(Duration::from_secs(10)), Next::Piece(Piece::Looked)));
        assert!(matches!(ahead.next(Duration::from_millis(5)), Next::Nothing));
        ends_when_dropped(ahead);
    }
}
