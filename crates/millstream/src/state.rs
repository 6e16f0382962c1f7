//! Where a job keeps what has to outlive its process, and how it is reached from outside while it runs.
//!
//! ```text
//!  STATE/                     what --state names: a folder, or s3://bucket/prefix
//!    clicks/                  one store for each query of a script, by the job's name
//!      manifests/  data/      its checkpoints
//!      savepoints/            those that somebody wants to keep
//!      requests/              what `millstream savepoint` and `millstream stop` ask of the running job
//! ```

mod against;
mod query;

pub use against::{Against, against};
pub use query::{SqlTable, query, tables};

use millstream_checkpoint::Manifest;
use millstream_checkpoint::manifest::{check_savepoint_name, is_savepoint, savepoint_path};
use millstream_connect::store::{self, Lock, OwnedStore};
use millstream_core::{Error, Place, Put, Result, Store, Stored};
use millstream_plan::statement::Settings;
use millstream_runtime::{CheckpointConfig, Job, Restore, Stop};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How jobs of a program keep their state.
#[derive(Debug, Clone, Default)]
pub struct StateOptions {
    /// A folder, or a bucket as `s3://bucket/prefix`. `None`: what the script sets (`execution.checkpointing.dir`), else nowhere.
    pub location: Option<String>,
    /// From one checkpoint to the next. `None`: what the script sets, else 10 s.
    pub interval: Option<Duration>,
    pub restore: RestoreFrom,
    /// Let go of state of which the query knows nothing any more.
    pub allow_dropped_state: bool,
    /// Process what is there at the start, commit it and end; what is open stays for the next run.
    pub available_now: bool,
}

/// Where a job goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RestoreFrom {
    /// At its latest checkpoint; from the beginning where there is none.
    #[default]
    Latest,
    /// At the checkpoint with this number.
    Number(u64),
    /// At a savepoint of its own by this name, or else at the latest checkpoint of the job whose store this names.
    Named(String),
}

/// The letters of a job's name in its store.
pub(crate) fn job_name(settings: &Settings, file: &str, query: usize) -> String {
    let name = settings.job_name.clone().unwrap_or_else(|| {
        let stem = std::path::Path::new(file).file_stem().map(|s| s.to_string_lossy().into_owned());
        stem.filter(|s| !s.is_empty() && !s.starts_with('<') && s != "-e").unwrap_or_else(|| "job".to_owned())
    });
    let mut name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).collect();
    if query > 0 {
        name += &format!("-{}", query + 1);
    }
    name
}

/// A job's store, opened and locked for it.
pub(crate) struct Kept {
    pub config: CheckpointConfig,
    pub lock: Lock,
    /// Requests from outside.
    pub ear: Ear,
    /// What is worth knowing before the job starts.
    pub notices: Vec<String>,
}

/// Opens the store of the `query`-th job of a script. `None`: it keeps no state.
pub(crate) fn open(options: &StateOptions, settings: &Settings, file: &str, query: usize) -> Result<Option<Kept>> {
    let Some(location) = options.location.as_ref().or(settings.checkpoint_dir.as_ref()) else {
        let asks = options.available_now || options.restore != RestoreFrom::Latest || options.interval.is_some();
        return match asks {
            false => Ok(None),
            true => Err(Error::usage("a job that goes on where it was needs a place for its state")
                .remedy("name one: --state DIR or --state s3://bucket/prefix")),
        };
    };
    let job = job_name(settings, file, query);
    let store = open_job(location, &job)?;
    let lock = store.lock(&format!("millstream run {file} (job {job})"))?;
    let listen_every = store.listen_every();
    let store: Arc<dyn Store> = Arc::from(store as Box<dyn Store>);
    let mut config = CheckpointConfig::new(store, &job);
    let millis = |m: i64| Duration::from_millis(m.max(0) as u64);
    let interval = options.interval.or(settings.checkpoint_interval.map(millis));
    config.interval = Some(interval.unwrap_or(Duration::from_secs(10)));
    config.timeout = settings.checkpoint_timeout.map_or(config.timeout, millis);
    config.min_pause = settings.checkpoint_min_pause.map_or(config.min_pause, millis);
    config.kept = settings.checkpoints_kept.unwrap_or(config.kept);
    config.drop_state = options.allow_dropped_state;
    config.available_now = options.available_now;
    if options.available_now {
        config.interval = interval;
    }
    config.restore = match &options.restore {
        RestoreFrom::Latest => Restore::Latest,
        RestoreFrom::Number(number) => Restore::Number(*number),
        RestoreFrom::Named(name) => {
            // A folder's path is no name of a savepoint, and no store is asked for one.
            if check_savepoint_name(name).is_ok() && config.store.get(&savepoint_path(name))?.is_some() {
                Restore::Savepoint(name.clone())
            } else {
                import(config.store.as_ref(), &job, name)?;
                Restore::Latest
            }
        }
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let mut notices = Vec::new();
    if let Some(found) = millstream_runtime::checkpoint::find(&config, now)?
        && found.restore.epoch > 0
    {
        let Manifest { number, epoch, finished, written, .. } = &found.restore;
        let at = millstream_core::time::format_millis(*written);
        notices.push(match finished {
            true => format!(
                "job `{job}` had read all of its input by {at}: nothing is left to do; to run it anew, give it another \
                 place (--state) or name (SET 'pipeline.name')"
            ),
            false => format!("job `{job}` goes on from checkpoint {number} (epoch {epoch}, written {at} UTC)"),
        });
    }
    let ear = Ear::new(config.store.clone(), listen_every)?;
    Ok(Some(Kept { config, lock, ear, notices }))
}

fn open_job(location: &str, job: &str) -> Result<Box<dyn OwnedStore>> {
    let url = format!("{}/{job}", location.trim_end_matches('/'));
    store::open(&url, &BTreeMap::new())
}

/// The stores of jobs below `location`, or `location` itself where it is one.
pub fn job_stores(location: &str) -> Result<Vec<(String, Arc<dyn Store>)>> {
    if !std::path::Path::new(location).exists() && !location.contains("://") {
        return Err(Error::usage(format!("there is no folder {location}")).remedy("give what --state named"));
    }
    let whole: Arc<dyn Store> = Arc::from(store::open(location, &BTreeMap::new())? as Box<dyn Store>);
    let listing = whole.list("")?;
    if listing.iter().any(|s| Manifest::number_of(&s.path).is_some() || is_savepoint(&s.path)) {
        return Ok(vec![(String::new(), whole)]);
    }
    let mut jobs: Vec<String> = listing
        .iter()
        .filter_map(|s| s.path.split_once('/'))
        .filter(|(_, rest)| Manifest::number_of(rest).is_some())
        .map(|(job, _)| job.to_owned())
        .collect();
    jobs.dedup();
    if jobs.is_empty() {
        return Err(Error::usage(format!("{} holds no checkpoints", whole.name()))
            .remedy("give what --state named, or the folder of one job in it"));
    }
    jobs.into_iter().map(|job| Ok((job.clone(), Arc::from(open_job(location, &job)? as Box<dyn Store>)))).collect()
}

/// The manifest that `which` means in a store: a number, a savepoint's name, or the latest.
pub fn manifest(store: &dyn Store, which: Option<&str>) -> Result<Manifest> {
    let path = match which {
        None => {
            let newest = store.list("manifests/")?.into_iter().filter_map(|s| Manifest::number_of(&s.path)).max();
            let newest = newest.ok_or_else(|| {
                Error::usage(format!("{} holds no checkpoint", store.name())).remedy("give what --state named")
            })?;
            Manifest::path(newest)
        }
        Some(which) => match which.parse::<u64>() {
            Ok(number) => Manifest::path(number),
            Err(_) => {
                check_savepoint_name(which)?;
                savepoint_path(which)
            }
        },
    };
    let place = Place(format!("{}/{path}", store.name()));
    let Some(bytes) = store.get(&path)? else {
        return Err(Error::usage("there is no such checkpoint").at(place).remedy("see `millstream state ls`"));
    };
    Manifest::from_json(&bytes).map_err(|e| e.at(place))
}

/// Copies a checkpoint of another store into this one, which must be empty, so that a job can go on from it here.
fn import(into: &dyn Store, job: &str, from: &str) -> Result<()> {
    let jobs = job_stores(from).map_err(|e| {
        // A URL is no savepoint's name that was mistyped: what is wrong with it says it all.
        if from.contains("://") {
            return e;
        }
        Error::usage(format!(
            "there is neither a savepoint `{from}` of job `{job}` nor a place of that name: {}",
            e.what()
        ))
        .remedy("see `millstream state ls`; --restore takes latest, a savepoint's name, a folder or s3://bucket/prefix")
    })?;
    if into.list("manifests/")?.iter().any(|s| Manifest::number_of(&s.path).is_some()) {
        return Err(Error::usage(format!("job `{job}` has state of its own already, in {}", into.name()))
            .remedy("give a place without state (--state), or leave out --restore to go on there"));
    }
    let known = jobs.iter().find(|(name, _)| name.is_empty() || name == job);
    let Some((_, source)) = known else {
        let names: Vec<&str> = jobs.iter().map(|(n, _)| n.as_str()).collect();
        return Err(Error::usage(format!("{from} holds no job `{job}`"))
            .remedy(format!("there are {}; name the job by SET 'pipeline.name'", names.join(", "))));
    };
    copy(source.as_ref(), &manifest(source.as_ref(), None)?, into, job)
}

/// Copies a checkpoint with all its files into an empty store, as the first of job `job`.
pub fn copy(from: &dyn Store, manifest: &Manifest, into: &dyn Store, job: &str) -> Result<()> {
    for file in manifest.files() {
        let Some(bytes) = from.get(&file.path)? else {
            return Err(Error::data("a file of the checkpoint is missing")
                .at(Place(format!("{}/{}", from.name(), file.path)))
                .remedy("copy an older checkpoint, or bring the file back"));
        };
        into.put(&file.path, &bytes, Put::Replace)?;
    }
    let first = Manifest { number: 1, job: job.to_owned(), ..manifest.clone() };
    match into.put(&Manifest::path(1), &first.to_json(), Put::Create)? {
        Stored::Yes => Ok(()),
        Stored::Exists => Err(Error::usage("the place to copy to holds a checkpoint already")
            .at(Place(into.name()))
            .remedy("choose an empty folder")),
    }
}

/// Opens a store by its folder or URL, made where it is missing.
pub fn open_at(location: &str) -> Result<Arc<dyn Store>> {
    Ok(Arc::from(store::open(location, &BTreeMap::new())? as Box<dyn Store>))
}

/// Removes a savepoint; false where there is none of that name.
pub fn remove_savepoint(store: &dyn Store, name: &str) -> Result<bool> {
    check_savepoint_name(name)?;
    let path = savepoint_path(name);
    let found = store.get(&path)?.is_some();
    store.delete(&path)?;
    Ok(found)
}

/// What may be asked of a running job from outside, through its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Savepoint(String),
    Stop { drain: bool },
}

impl Request {
    fn to_text(&self) -> String {
        match self {
            Request::Savepoint(name) => format!("savepoint {name}"),
            Request::Stop { drain: false } => "stop".to_owned(),
            Request::Stop { drain: true } => "drain".to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Request> {
        match text.split_once(' ') {
            Some(("savepoint", name)) => Some(Request::Savepoint(name.to_owned())),
            None if text == "stop" => Some(Request::Stop { drain: false }),
            None if text == "drain" => Some(Request::Stop { drain: true }),
            _ => None,
        }
    }
}

/// Leaves a request for whoever runs the job; [`answer`] tells what became of it.
pub fn ask(store: &dyn Store, id: &str, request: &Request) -> Result<()> {
    store.put(&format!("requests/{id}"), request.to_text().as_bytes(), Put::Create).map(drop)
}

/// What became of a request: `None` as long as nobody has answered. An answer is read once.
pub fn answer(store: &dyn Store, id: &str) -> Result<Option<Result<String>>> {
    let path = format!("requests/{id}.answer");
    let Some(bytes) = store.get(&path)? else { return Ok(None) };
    store.delete(&path)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(match text.strip_prefix("error ") {
        Some(why) => Err(Error::io(why)),
        None => Ok(text),
    }))
}

/// Takes a request back that nobody has answered.
pub fn withdraw(store: &dyn Store, id: &str) -> Result<()> {
    store.delete(&format!("requests/{id}"))
}

/// The running job's ear. A thread looks into the store for requests and writes the answers, so that a store which is slow
/// or away for a while keeps nobody from stopping the job.
pub(crate) struct Ear {
    heard: Receiver<Heard>,
    /// `None` only while it is dropped: that ends the thread, once the last answer is written.
    answers: Option<Sender<Answer>>,
    thread: Option<JoinHandle<()>>,
    open: Vec<(String, Receiver<Result<u64>>)>,
}

/// A request by its path; `None`: it is not understood.
type Heard = (String, Option<Request>);

/// The path of a request, and what became of it.
type Answer = (String, Result<u64>);

impl Ear {
    /// Looks into the store this often.
    pub fn new(store: Arc<dyn Store>, every: Duration) -> Result<Ear> {
        let (hear, heard) = channel();
        let (answers, answered) = channel();
        let thread = std::thread::Builder::new().name("requests".to_owned());
        let thread = thread.spawn(move || attend(store.as_ref(), every, &hear, &answered));
        let thread = thread.map_err(|e| Error::io(format!("cannot start a thread: {e}")))?;
        Ok(Ear { heard, answers: Some(answers), thread: Some(thread), open: Vec::new() })
    }

    /// Hands on to the job what has been asked since the last time, and its answers to whoever asked.
    pub fn listen(&mut self, job: &Job) {
        while let Ok((path, request)) = self.heard.try_recv() {
            match request {
                Some(Request::Savepoint(name)) => match job.checkpoint(Some(name)) {
                    Ok(receiver) => self.open.push((path, receiver)),
                    Err(e) => self.reply(path, Err(e)),
                },
                Some(Request::Stop { drain }) => {
                    job.stop(if drain { Stop::Drain } else { Stop::Here });
                    self.reply(path, Ok(0));
                }
                None => self.reply(path, Err(Error::usage("the request is not understood"))),
            }
        }
        self.settle();
    }

    /// Passes on the answers that are there.
    fn settle(&mut self) {
        for (path, receiver) in std::mem::take(&mut self.open) {
            match receiver.try_recv() {
                Ok(result) => self.reply(path, result),
                Err(TryRecvError::Empty) => self.open.push((path, receiver)),
                Err(TryRecvError::Disconnected) => self.reply(path, Err(Error::usage("the job has ended"))),
            }
        }
    }

    fn reply(&self, path: String, result: Result<u64>) {
        if let Some(answers) = &self.answers {
            let _ = answers.send((path, result));
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.settle();
        self.answers = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes answers as they come, and between them looks for requests. A store that does not answer now is asked again the
/// next time.
fn attend(store: &dyn Store, every: Duration, hear: &Sender<Heard>, answers: &Receiver<Answer>) {
    loop {
        match answers.recv_timeout(every) {
            Ok((path, result)) => {
                let text = match result {
                    Ok(number) => number.to_string(),
                    Err(e) => format!("error {}", e.what()),
                };
                let _ = store.put(&format!("{path}.answer"), text.as_bytes(), Put::Replace);
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let listed = store.list("requests/").unwrap_or_default();
                for stat in listed.into_iter().filter(|s| !s.path.ends_with(".answer")) {
                    let Ok(Some(bytes)) = store.get(&stat.path) else { continue };
                    if store.delete(&stat.path).is_ok() {
                        let _ = hear.send((stat.path, Request::parse(&String::from_utf8_lossy(&bytes))));
                    }
                }
            }
        }
    }
}
