//! Runs a program statement by statement.

use crate::connectors::Tables;
use crate::program::{Plan, Program, declare, plan, request};
use crate::result::{ResultRows, standing};
use crate::state::{self, Ear, StateOptions};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_connect::store::Lock;
use millstream_core::{Batch, Connectors, Error, Result};
use millstream_dataflow::graph::{Changes, Dataflow, NodeKind};
use millstream_plan::settings::without_effect;
use millstream_plan::statement::StatementKind;
use millstream_runtime::{Job, JobConfig, Metrics, Snapshot, Stop, Summary, Warning};
use std::sync::{Arc, Mutex};

/// Which way to the (same) answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Row by row as they come, by event time and watermark.
    #[default]
    Streaming,
    /// Bounded input, all at once.
    Batch,
}

/// How a program is run.
#[derive(Clone, Default)]
pub struct RunOptions {
    /// `None`: what the script sets, else streaming.
    pub mode: Option<Mode>,
    /// Worker threads. `None`: what the script sets, else the number of cores.
    pub parallelism: Option<usize>,
    pub tables: Tables,
    pub job: JobConfig,
    /// Where jobs keep their state, and where they go on.
    pub state: StateOptions,
}

/// Executes the statements of a program one after another.
pub struct Runner {
    program: Program,
    options: RunOptions,
    next: usize,
    /// Jobs started so far.
    jobs: usize,
}

/// What became of a statement.
pub enum Step {
    /// Something was declared; anything worth knowing about it.
    Declared(Vec<String>),
    /// Text to show: a plan.
    Text(String),
    /// A query runs. It has to be waited for before the next statement.
    Running(Running),
}

/// A query at work.
pub enum Running {
    Streaming(Streaming),
    Batch { job: millstream_batch::Job, name: String, notices: Vec<String>, prints: bool },
}

/// A streaming query at work.
pub struct Streaming {
    job: Job,
    name: String,
    notices: Vec<String>,
    prints: bool,
    /// Of a job that keeps state: what is asked of it from outside, and the lock that keeps others away.
    kept: Option<(Ear, Lock)>,
}

impl Runner {
    pub fn new(program: Program, options: RunOptions) -> Runner {
        Runner { program, options, next: 0, jobs: 0 }
    }

    /// Executes the next statement; `None` at the end of the script. Settings without effect are told in one line, with
    /// the next query or at the end.
    pub fn step(&mut self) -> Option<Result<Step>> {
        let index = self.next;
        self.next += 1;
        if index < self.program.statements.len() {
            return Some(self.execute(index));
        }
        self.ignored().map(|line| Ok(Step::Declared(vec![line])))
    }

    fn ignored(&mut self) -> Option<String> {
        without_effect(&std::mem::take(&mut self.program.without_effect))
    }

    fn execute(&mut self, index: usize) -> Result<Step> {
        let Program { statements, catalog, file, without_effect, .. } = &mut self.program;
        let statement = &statements[index];
        if let Some(mode) = self.options.mode {
            catalog.settings.batch = mode == Mode::Batch;
        }
        let Some(request) = request(statement) else {
            let notice = declare(catalog, statement, file, &self.options.tables, without_effect)?;
            return Ok(Step::Declared(notice.into_iter().collect()));
        };
        let mut planned =
            plan(catalog, request, file, &self.options.tables).map_err(|e| e.at(statement.place(file)))?;
        // Where the answer depends on the order of rows of the same time, only our own operators know that order; and only
        // they have a watermark. A result that they would update is given once by the batch engine.
        let watermarks = planned.scans.values().any(|scan| scan.row_watermark.is_some());
        if catalog.settings.batch && (planned.ordered || watermarks) {
            for scan in planned.scans.values() {
                millstream_batch::check_bounded(&scan.node.table, &self.options.tables)?;
            }
            let mut catalog = catalog.clone();
            (catalog.settings.batch, catalog.settings.final_results) = (false, true);
            match plan(&catalog, request, file, &self.options.tables) {
                Ok(ours) if watermarks || !updates(&ours.dataflow) => planned = ours,
                Err(e) if watermarks => return Err(e.at(statement.place(file))),
                Ok(_) | Err(_) => {}
            }
        }
        if let StatementKind::Explain { mermaid, .. } = &statement.kind {
            let plan = Plan { planned, settings: catalog.settings.clone(), only_shown: true };
            return Ok(Step::Text(if *mermaid { plan.mermaid() } else { plan.text() }));
        }
        let prints = matches!(statement.kind, StatementKind::Query(_));
        let (settings, file) = (catalog.settings.clone(), file.clone());
        let notices: Vec<String> = self.ignored().into_iter().chain(planned.notices.clone()).collect();
        let tables = &self.options.tables;
        let name = state::job_name(&settings, &file, self.jobs);
        if planned.dataflow.nodes.is_empty() {
            if self.options.state.location.is_some() {
                return Err(Error::usage("a batch job keeps no state: it runs from its beginning to its end")
                    .remedy("leave out --state, or run it in streaming mode: the answer is the same"));
            }
            let job = millstream_batch::start(planned, &settings.local_time_zone, Arc::new(tables.clone()))?;
            self.jobs += 1;
            return Ok(Step::Running(Running::Batch { job, name, notices, prints }));
        }
        let (wanted, job) = (self.options.parallelism.or(settings.parallelism), self.options.job.clone());
        let mut config = JobConfig { parallelism: wanted.unwrap_or(job.parallelism), ..job };
        let mut notices = notices;
        let kept = state::open(&self.options.state, &settings, &file, self.jobs)?.map(|kept| {
            notices.extend(kept.notices);
            config.checkpoints = Some(kept.config);
            (kept.ear, kept.lock)
        });
        if self.options.state.available_now {
            available_now(&mut planned.dataflow, tables)?;
        }
        self.jobs += 1;
        let job = millstream_runtime::start(&planned.dataflow, tables, config)?;
        Ok(Step::Running(Running::Streaming(Streaming { job, name, notices, prints, kept })))
    }
}

/// Makes sources give what is there now and then end.
fn available_now(dataflow: &mut Dataflow, tables: &Tables) -> Result<()> {
    for node in &mut dataflow.nodes {
        if let NodeKind::Source(source) = &mut node.kind {
            source.table.options.remove("source.monitor-interval");
            let bounded = match source.table.connector() {
                "kafka" | "upsert-kafka" => Some("scan.bounded.mode"),
                "history-then-live" => Some("live.scan.bounded.mode"),
                _ => None,
            };
            if let Some(key) = bounded
                && source.table.option(key).is_none_or(|mode| mode == "unbounded")
            {
                source.table.options.insert(key.into(), "available-now".into());
            }
            if !tables.open_source(&source.table)?.bounded() {
                let e = Error::usage(format!("the table `{}` never ends, so it has no end for now", source.table.name))
                    .remedy("run it without --available-now, or bound it by an option of its connector");
                return Err(match &source.table.place {
                    Some(place) => e.at(place.clone()),
                    None => e,
                });
            }
        }
    }
    Ok(())
}

impl Running {
    /// Answers what is asked of the job from outside; to be called now and then.
    pub fn listen(&mut self) {
        if let Running::Streaming(Streaming { job, kept: Some((ear, _)), .. }) = self {
            ear.listen(job);
        }
    }

    /// What went wrong since this was last asked, and was lived with.
    pub fn take_warnings(&self) -> Vec<Warning> {
        match self {
            Running::Streaming(Streaming { job, .. }) => job.metrics().take_warnings(),
            Running::Batch { .. } => Vec::new(),
        }
    }

    /// The job's name: that of its script, or what `SET 'pipeline.name'` says.
    pub fn name(&self) -> &str {
        match self {
            Running::Streaming(Streaming { name, .. }) | Running::Batch { name, .. } => name,
        }
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        match self {
            Running::Streaming(Streaming { job, .. }) => job.metrics(),
            Running::Batch { job, .. } => job.metrics(),
        }
    }

    /// Whether the job goes on where it was when it is run again.
    pub fn keeps_state(&self) -> bool {
        matches!(self, Running::Streaming(Streaming { kept: Some(_), .. }))
    }

    pub fn notices(&self) -> &[String] {
        match self {
            Running::Streaming(Streaming { notices, .. }) | Running::Batch { notices, .. } => notices,
        }
    }

    /// Whether its rows go to whoever runs the program, rather than to a table.
    pub fn prints_result(&self) -> bool {
        match self {
            Running::Streaming(Streaming { prints, .. }) | Running::Batch { prints, .. } => *prints,
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        match self {
            Running::Streaming(Streaming { job, .. }) => job.metrics().snapshot(),
            Running::Batch { job, .. } => job.snapshot(),
        }
    }

    /// Bytes that did not fit into memory and were written to files, so far. A batch job has no part in it.
    pub fn scratch_written(&self) -> u64 {
        match self {
            Running::Streaming(Streaming { job, .. }) => job.metrics().memory.scratch_written(),
            Running::Batch { .. } => 0,
        }
    }

    pub fn is_finished(&self) -> bool {
        match self {
            Running::Streaming(Streaming { job, .. }) => job.is_finished(),
            Running::Batch { job, .. } => job.is_finished(),
        }
    }

    /// Asks for a clean stop. A batch job has no result before its end, so it is cancelled.
    pub fn stop(&self, how: Stop) {
        match self {
            Running::Streaming(Streaming { job, .. }) => job.stop(how),
            Running::Batch { job, .. } => job.cancel(),
        }
    }

    pub fn wait(self) -> Result<Summary> {
        match self {
            // The lock is held until the last word has been written.
            Running::Streaming(Streaming { job, kept, .. }) => {
                let ended = job.wait();
                drop(kept);
                ended
            }
            Running::Batch { job, .. } => job.wait(),
        }
    }
}

/// Whether a table is given rows that take others back.
fn updates(dataflow: &Dataflow) -> bool {
    dataflow.nodes.iter().any(|n| matches!(n.kind, NodeKind::Sink(_)) && n.changes != Changes::Insert)
}

/// Runs a program to its end and gives back the rows of its plain `SELECT`s that stand in the end: a result that is updated
/// while rows come is given as it is after the last one.
///
/// # Errors
/// Whatever the first failing statement says. Never returns for an endless input.
pub fn collect(program: Program, mut options: RunOptions) -> Result<Vec<RecordBatch>> {
    let rows = Arc::new(Collected::default());
    options.tables = options.tables.with_result(rows.clone());
    let mut runner = Runner::new(program, options);
    while let Some(step) = runner.step() {
        if let Step::Running(running) = step? {
            running.wait()?;
        }
    }
    standing(&std::mem::take(&mut *rows.batches()))
}

#[derive(Default)]
struct Collected {
    batches: Mutex<Vec<Batch>>,
}

impl Collected {
    fn batches(&self) -> std::sync::MutexGuard<'_, Vec<Batch>> {
        self.batches.lock().unwrap_or_else(|p| p.into_inner())
    }
}

impl ResultRows for Collected {
    fn start(&self, _: &SchemaRef, _: bool) -> Result<()> {
        Ok(())
    }

    fn rows(&self, batch: &Batch) -> Result<()> {
        self.batches().push(batch.clone());
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}
