//! One seed: a workload, a world, and the real runtime in it, crashed and started again until it comes to its end.
//!
//! ```text
//!  undisturbed: parallelism 1, no checkpoints ───────────────────────────────▶ what the tables have to hold
//!  run 1 ─crash─▶ run 2 ─full disk─▶ run 3 ─stop─▶ .. ─▶ a run in calm weather ─▶ what they hold
//!      └─zombie: turned on for a while after run 2 has begun
//! ```
//!
//! After some runs the weather becomes calm: no crash, no failure. That run has to come to its end, so a job that hangs
//! is found too. A run that fails though nothing went wrong outside is a fault like any other.

use crate::connectors::SimTables;
use crate::dice::Dice;
use crate::store::SimStore;
use crate::workload::Workload;
use crate::world::{Faults, Run, Table, World};
use millstream_core::{ByteSize, Clock, Error, Result};
use millstream_dataflow::graph::Dataflow;
use millstream_plan::catalog::Catalog;
use millstream_plan::plan::{Job, plan_job};
use millstream_plan::statement::StatementKind;
use millstream_runtime::stepped::{Stepped, Turn, Turns};
use millstream_runtime::{CheckpointConfig, JobConfig, Restore, Stop};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Steps of one run. One that is not calm is crashed then; a calm one has failed.
const STEPS_MAX: u64 = 60_000;

/// Starts of a job before the weather becomes calm, at most.
const STORMY_RUNS_MAX: u64 = 9;

/// Checkpoints in a row that may be given up. Time-outs are as short as 20 ms here and tasks may get no turn for longer, so
/// that many in a row are no fault; a job that never saves anything does not come to its end, and that is one.
const FAILURES_MAX: u32 = 1_000;

/// Times that hours pass in one run. Each time the checkpoint that is open is given up.
const JUMPS_MAX: u64 = 10;

/// Starts in calm weather, should they be needed: a run that stops is followed by another.
const CALM_RUNS_MAX: u64 = 3;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// Over every decision and every call to the outside, in their order.
    pub hash: u64,
    pub lines: u64,
    /// The last lines of the trace.
    pub tail: Vec<String>,
    pub sql: String,
    pub stats: Stats,
    /// What is wrong; `None`: all is as it should be.
    pub wrong: Option<String>,
}

/// What happened to a seed's job.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stats {
    pub runs: u64,
    pub crashes: u64,
    pub zombies: u64,
    pub stops: u64,
    pub rewinds: u64,
    pub checkpoints: u64,
    /// Files with rows that barriers had overtaken.
    pub overtaken: u64,
    pub given_up: u64,
    /// Bytes of saves, and of chains to merge or restore, that had no room in memory.
    pub below: u64,
    pub failed_calls: u64,
    pub rows: u64,
    pub late_rows: u64,
    pub bad_rows: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.runs += other.runs;
        self.crashes += other.crashes;
        self.zombies += other.zombies;
        self.stops += other.stops;
        self.rewinds += other.rewinds;
        self.checkpoints += other.checkpoints;
        self.overtaken += other.overtaken;
        self.given_up += other.given_up;
        self.below += other.below;
        self.failed_calls += other.failed_calls;
        self.rows += other.rows;
        self.late_rows += other.late_rows;
        self.bad_rows += other.bad_rows;
    }
}

/// Plays a seed.
pub fn play(seed: u64) -> Outcome {
    let world = World::new(seed);
    let workload = Arc::new(Workload::new(seed));
    let stats = Mutex::new(Stats::default());
    let told = Mutex::new(None);
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut seed = Seed::new(seed, world.clone(), workload.clone())?;
        let wrong = seed.play();
        *stats.lock().expect("nobody panics while holding it") = seed.stats;
        *told.lock().expect("nobody panics while holding it") = wrong;
        Ok::<_, String>(())
    }));
    let wrong = match played {
        Ok(Ok(())) => told.into_inner().expect("nobody panics while holding it"),
        Ok(Err(e)) => Some(e),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            Some(format!("a panic: {text}"))
        }
    };
    let mut stats = stats.into_inner().expect("nobody panics while holding it");
    let core = world.core();
    stats.failed_calls = core.failed;
    stats.overtaken = core.overtaken;
    Outcome {
        seed,
        hash: core.trace.hash(),
        lines: core.trace.lines(),
        tail: core.trace.tail(),
        sql: workload.sql.clone(),
        stats,
        wrong,
    }
}

/// How a seed's job is run.
struct Habits {
    queue_bytes_max: u64,
    held_bytes_max: u64,
    /// Little: saves wait in scratch files, and files are cut.
    saves_bytes_max: u64,
    interval: Option<Duration>,
    overtake_after: Option<Duration>,
    timeout: Duration,
    min_pause: Duration,
    parallelisms: Vec<usize>,
    /// Of 10,000 steps: so many crash the job.
    crashes: u64,
    /// Of 10,000 steps: so many turn the checkpoint driver.
    checkpoint_turns: u64,
    /// Messages that a task takes in a turn. With few, rows wait in the queues for barriers to overtake.
    messages_max: usize,
    /// Single tasks get their turns, rather than a worker with all of its own.
    by_task: bool,
    /// Of 10,000 steps: so many begin a time in which one worker, or one task, gets no turn.
    starves: u64,
    savepoints: u64,
    stops: u64,
    jumps: u64,
    stormy_runs: u64,
    faults: Faults,
}

impl Habits {
    fn new(dice: &mut Dice, idles: bool) -> Habits {
        let millis = |dice: &mut Dice, of: &[u64]| Duration::from_millis(dice.one(of));
        let rare = |dice: &mut Dice, of: &[u64]| dice.one(of);
        let stormy = dice.chance(8_500);
        let faults = Faults {
            fails: rare(dice, &[0, 0, 10, 60, 250]),
            answer_lost: rare(dice, &[0, 0, 10, 60, 250]),
            crashes: rare(dice, &[0, 10, 50, 150]),
            delays: rare(dice, &[0, 200, 2_000]),
            disk_fills: rare(dice, &[0, 0, 0, 30, 100]),
        };
        let spread = dice.one(&[&[1usize][..], &[2], &[1, 2], &[2, 3, 7], &[1, 2, 3, 4, 5, 6, 7], &[4, 6], &[7]]);
        Habits {
            queue_bytes_max: dice.one(&[300, 2_000, 1 << 16, 1 << 20]),
            held_bytes_max: dice.one(&[300, 2_000, 1 << 16, 1 << 20]),
            interval: (idles || dice.chance(9_500)).then(|| millis(dice, &[2, 5, 10, 20, 60])),
            overtake_after: dice.chance(7_000).then(|| millis(dice, &[0, 1, 5, 20, 100])),
            timeout: millis(dice, &[20, 100, 1_000, 600_000]),
            min_pause: millis(dice, &[0, 0, 5]),
            parallelisms: spread.to_vec(),
            crashes: dice.one(&[10, 30, 80, 200]),
            checkpoint_turns: dice.one(&[700, 2_500, 5_000]),
            messages_max: dice.one(&[1, 1, 2, 16]),
            by_task: dice.chance(6_000),
            starves: dice.one(&[0, 50, 200]),
            savepoints: dice.one(&[0, 30, 100, 300]),
            stops: dice.one(&[0, 0, 10, 30]),
            jumps: dice.one(&[0, 5, 30]),
            stormy_runs: if stormy { dice.between(1, STORMY_RUNS_MAX) } else { 0 },
            faults,
            saves_bytes_max: dice.one(&[400, 10_000, 1 << 30]),
        }
    }
}

impl Habits {
    /// Barriers overtake what waits for a task that lags behind, and the next run has another number of tasks.
    fn straggle(&mut self, dice: &mut Dice) {
        self.interval = Some(Duration::from_millis(dice.one(&[5, 10, 20])));
        self.overtake_after = Some(Duration::from_millis(dice.one(&[0, 1])));
        self.timeout = Duration::from_secs(600);
        self.parallelisms = vec![1, 2, 3, 4, 5, 6, 7];
        self.messages_max = 1;
        self.by_task = true;
        self.starves = 200;
        self.crashes = dice.one(&[30, 80]);
        self.stormy_runs = dice.between(3, STORMY_RUNS_MAX);
    }
}

/// The tables as they were when a savepoint was taken.
struct Kept {
    name: String,
    tables: BTreeMap<String, Table>,
}

/// A savepoint that was asked for.
struct Asked {
    name: String,
    answer: Receiver<Result<u64>>,
}

struct Seed {
    world: Arc<World>,
    workload: Arc<Workload>,
    dataflow: Dataflow,
    /// The scheduler's own.
    dice: Dice,
    habits: Habits,
    wanted: BTreeMap<String, Vec<String>>,
    zombie: Option<(Stepped, Arc<Run>, u64)>,
    /// How often hours have passed in this run.
    jumped: u64,
    /// A worker and, by task, its task that gets no turn, for so many steps.
    starved: (usize, usize, u64),
    kept: Option<Kept>,
    savepoints: u64,
    /// The job is to go back to the savepoint, and has not got there yet.
    rewinding: bool,
    calm: bool,
    stats: Stats,
}

/// How a run ended.
enum End {
    /// The job is done.
    Over,
    /// It is to be started again.
    Again,
}

impl Seed {
    fn new(seed: u64, world: Arc<World>, workload: Arc<Workload>) -> Result<Seed, String> {
        let mut dice = Dice::new(seed, 3);
        let mut habits = Habits::new(&mut dice, workload.idles);
        if workload.straggles {
            habits.straggle(&mut dice);
        }
        let tables = SimTables { world: world.clone(), run: Run::new(0), workload: workload.clone() };
        let dataflow = plan(&workload.sql, &tables, world.clock.now());
        let dataflow = dataflow.map_err(|e| format!("the query cannot be planned: {e}"))?;
        let wanted = undisturbed(seed, &workload, &dataflow)?;
        Ok(Seed {
            world,
            workload,
            dataflow,
            dice,
            habits,
            wanted,
            zombie: None,
            jumped: 0,
            starved: (0, 0, 0),
            kept: None,
            savepoints: 0,
            rewinding: false,
            calm: false,
            stats: Stats::default(),
        })
    }

    fn play(&mut self) -> Option<String> {
        self.stats.rows = self.wanted.values().map(|rows| rows.len() as u64).sum();
        self.stats.late_rows = self.wanted.get("late").map_or(0, |rows| rows.len() as u64);
        self.stats.bad_rows = self.wanted.get("bad").map_or(0, |rows| rows.len() as u64);
        let runs_max = self.habits.stormy_runs + CALM_RUNS_MAX;
        for number in 1..=runs_max {
            if number > self.habits.stormy_runs && !self.calm {
                self.calm = true;
                self.world.calm();
            } else if !self.calm {
                self.world.core().faults = self.habits.faults;
            }
            match self.run(number) {
                Err(wrong) => return Some(format!("run {number}: {wrong}")),
                Ok(End::Over) => {
                    // What a zombie still does now must not show.
                    for _ in 0..200 {
                        self.turn_zombie();
                    }
                    self.bury();
                    return self.differs().map(|what| format!("run {number}, at its end: {what}"));
                }
                Ok(End::Again) => {
                    if let Some(what) = self.too_much() {
                        return Some(format!("run {number}, as far as it came: {what}"));
                    }
                }
            }
        }
        Some(format!("no run of {runs_max} comes to its end"))
    }

    fn start(&mut self, run: &Arc<Run>) -> Result<Stepped> {
        let store = Arc::new(SimStore { world: self.world.clone(), run: run.clone() });
        let restore = match &self.kept {
            Some(kept) if self.rewinding => Restore::Savepoint(kept.name.clone()),
            _ => Restore::Latest,
        };
        let habits = &self.habits;
        let checkpoints = CheckpointConfig {
            interval: habits.interval,
            min_pause: habits.min_pause,
            // In calm weather nothing is given up for ever.
            timeout: if self.calm { Duration::from_secs(600) } else { habits.timeout },
            failures_max: FAILURES_MAX,
            kept: 2,
            overtake_after: habits.overtake_after,
            held_bytes_max: ByteSize(habits.held_bytes_max),
            saves_bytes_max: Some(ByteSize(habits.saves_bytes_max)),
            restore,
            ..CheckpointConfig::new(store, "sim")
        };
        let config = JobConfig {
            // A budget that is set ends a job that cannot keep to it; that is tested where memory is.
            memory: None,
            scratch: None,
            parallelism: self.dice.one(&habits.parallelisms),
            queue_bytes_max: ByteSize(habits.queue_bytes_max),
            clock: self.world.clock.clone(),
            checkpoints: Some(checkpoints),
            measured: false,
        };
        self.world.note(format_args!(
            "start run {} x{} {}",
            run.number,
            config.parallelism,
            if self.rewinding { "from the savepoint" } else { "" }
        ));
        let tables = SimTables { world: self.world.clone(), run: run.clone(), workload: self.workload.clone() };
        let world = self.world.clone();
        let choose = Rc::new(move |of: usize| {
            let mut core = world.core();
            let chosen = core.dice.below(of as u64) as usize;
            core.trace.note(format_args!("room: {chosen} of {of} first"));
            chosen
        });
        let turns = Turns { choose, messages_max: self.habits.messages_max };
        Stepped::start(&self.dataflow, &tables, config, turns)
    }

    fn run(&mut self, number: u64) -> Result<End, String> {
        let run = Run::new(number);
        self.stats.runs += 1;
        self.jumped = 0;
        if let Some(kept) = self.kept.as_ref().filter(|_| self.rewinding) {
            // Whoever goes back takes back what the tables got since then.
            let tables = kept.tables.clone();
            self.bury();
            self.world.core().tables = tables;
        }
        let mut job = match self.start(&run) {
            Ok(job) => job,
            Err(e) => {
                self.world.note(format_args!("run {number} does not start: {}", e.what()));
                return if run.is_hurt() {
                    self.world.crash(&run);
                    Ok(End::Again)
                } else {
                    Err(format!("it does not start, though nothing went wrong outside: {e}"))
                };
            }
        };
        if self.rewinding {
            self.stats.rewinds += 1;
            self.rewinding = false;
        }
        let mut asked: Vec<Asked> = Vec::new();
        let mut stopping = false;
        for _ in 0..STEPS_MAX {
            if run.is_dead() {
                self.crashed(job, &run);
                return Ok(End::Again);
            }
            if let Some(failure) = job.failure() {
                self.world.note(format_args!("run {number} fails: {}", failure.what()));
                self.count(&job);
                // Its sinks take back what they can.
                let _ = job.finish();
                let hurt = run.is_hurt();
                self.world.crash(&run);
                return match hurt && failure.kind() != millstream_core::ErrorKind::Internal {
                    true => Ok(End::Again),
                    false => Err(format!("it fails, though nothing went wrong outside: {failure}")),
                };
            }
            if job.is_over() {
                self.count(&job);
                self.keep(&mut asked);
                job.finish().map_err(|e| format!("it ended well and cannot finish: {e}"))?;
                self.world.note(format_args!("run {number} is over"));
                return Ok(if stopping { End::Again } else { End::Over });
            }
            if self.step(&mut job, &run, &mut asked, &mut stopping) {
                self.crashed(job, &run);
                return Ok(End::Again);
            }
            self.keep(&mut asked);
            self.turn_zombie();
        }
        if self.calm {
            return Err(format!("it does not come to its end within {STEPS_MAX} steps"));
        }
        self.crashed(job, &run);
        Ok(End::Again)
    }

    /// One decision of the scheduler. True when the job is to crash now.
    fn step(&mut self, job: &mut Stepped, run: &Run, asked: &mut Vec<Asked>, stopping: &mut bool) -> bool {
        let number = run.number;
        if !self.calm {
            if self.dice.chance(self.habits.crashes) {
                self.world.note(format_args!("crash of run {number}"));
                return true;
            }
            if self.dice.chance(self.habits.stops) && !*stopping {
                self.world.note(format_args!("run {number} is to stop"));
                job.stop(Stop::Here);
                *stopping = true;
                self.stats.stops += 1;
            }
            if self.dice.chance(self.habits.savepoints) {
                self.savepoints += 1;
                let name = format!("kept-{}", self.savepoints);
                self.world.note(format_args!("run {number}: savepoint {name} asked for"));
                let answer = job.checkpoint(Some(name.clone()));
                asked.push(Asked { name, answer });
            }
        }
        if self.dice.chance(self.habits.jumps) && self.jumped < JUMPS_MAX && self.may_jump(run) {
            self.jumped += 1;
            self.world.clock.advance(2 * 3_600_000);
            self.world.note(format_args!("two hours pass"));
        }
        if self.dice.chance(5_000) {
            self.world.clock.advance(self.dice.below(3) as i64);
        }
        if self.dice.chance(self.habits.checkpoint_turns) {
            let had = job.turn_checkpoints();
            self.world.note(format_args!("run {number} checkpoints {had} at {}", self.world.clock.now()));
            return false;
        }
        let worker = self.dice.below(job.workers() as u64) as usize;
        // A worker whose tasks nothing would come out of has none.
        let by_task = self.habits.by_task && job.tasks(worker) > 0;
        let task = if by_task { self.dice.below(job.tasks(worker) as u64) as usize } else { 0 };
        if self.dice.chance(self.habits.starves) {
            self.starved = (worker, task, self.dice.between(10, 300));
        }
        if self.starved.2 > 0 {
            self.starved.2 -= 1;
            if (self.starved.0, self.starved.1) == (worker, task) {
                return false;
            }
        }
        let turned = if by_task { job.turn_task(worker, task) } else { job.turn(worker) };
        self.world.note(format_args!("run {number} worker {worker} task {task}: {}", said(&turned)));
        false
    }

    /// Hours may pass: a partition that has more rows in the order of the others must not become idle by it.
    fn may_jump(&self, run: &Run) -> bool {
        if !self.workload.idles {
            return true;
        }
        let read = run.read();
        self.workload.logs.values().all(|log| {
            let silent = log.partitions.iter().enumerate().filter_map(|(p, x)| Some((p, x.silent_at?)));
            silent.into_iter().all(|(p, at)| read.get(&(log.source, p)).copied() == Some(at))
        })
    }

    fn crashed(&mut self, job: Stepped, run: &Arc<Run>) {
        self.stats.crashes += 1;
        self.count(&job);
        if !run.is_dead() && self.dice.chance(2_500) {
            // Taken for dead, and it lives on: a zombie.
            self.stats.zombies += 1;
            self.world.note(format_args!("run {} is a zombie now", run.number));
            self.bury();
            self.zombie = Some((job, run.clone(), self.dice.between(50, 1_500)));
        } else {
            run.die();
            drop(job);
            self.world.crash(run);
        }
        self.rewinding |= self.kept.is_some() && !self.calm && self.dice.chance(3_000);
    }

    fn turn_zombie(&mut self) {
        let Some((job, run, left)) = &mut self.zombie else { return };
        let number = run.number;
        if *left == 0 || run.is_dead() || job.failure().is_some() {
            self.bury();
            return;
        }
        *left -= 1;
        match self.dice.below(4) {
            0 => {}
            1 => {
                let had = job.turn_checkpoints();
                self.world.note(format_args!("zombie {number} checkpoints {had}"));
            }
            _ => {
                let worker = self.dice.below(job.workers() as u64) as usize;
                let turned = job.turn(worker);
                self.world.note(format_args!("zombie {number} worker {worker}: {}", said(&turned)));
            }
        }
    }

    fn bury(&mut self) {
        let Some((job, run, _)) = self.zombie.take() else { return };
        self.world.note(format_args!("zombie {} is gone", run.number));
        run.die();
        drop(job);
        self.world.crash(&run);
    }

    /// Remembers the tables of a savepoint that is there now.
    fn keep(&mut self, asked: &mut Vec<Asked>) {
        let mut there = None;
        asked.retain(|a| match a.answer.try_recv() {
            Ok(Ok(_)) => {
                there = Some(a.name.clone());
                false
            }
            Ok(Err(_)) => false,
            Err(e) => e == std::sync::mpsc::TryRecvError::Empty,
        });
        if let Some(name) = there {
            self.world.note(format_args!("savepoint {name} is there"));
            self.kept = Some(Kept { name, tables: self.world.core().tables.clone() });
        }
    }

    fn count(&mut self, job: &Stepped) {
        let counted = &job.metrics().checkpoints;
        self.stats.checkpoints += counted.done.load(Relaxed);
        self.stats.given_up += counted.given_up.load(Relaxed);
        self.stats.below += job.metrics().memory.scratch_written();
    }

    fn visible(&self, table: &str) -> Vec<String> {
        let rows = self.world.core().tables.get(table).map(Table::visible).unwrap_or_default();
        let mut rows = self.workload.settled(table, rows);
        rows.sort();
        rows
    }

    /// Rows that no table may show, however far the job has come.
    fn too_much(&self) -> Option<String> {
        // Windows that are shown again are compared by their last showing, and updates by what stands in the end: both may
        // still come.
        if self.workload.last_by.is_some() || self.workload.updates {
            return None;
        }
        self.wanted.iter().find_map(|(table, wanted)| {
            let (more, _) = differences(&self.visible(table), wanted);
            (!more.is_empty()).then(|| format!("`{table}` shows {} rows too many: {}", more.len(), some_of(&more)))
        })
    }

    fn differs(&self) -> Option<String> {
        self.wanted.iter().find_map(|(table, wanted)| {
            let got = self.visible(table);
            let (more, less) = differences(&got, wanted);
            (!more.is_empty() || !less.is_empty()).then(|| {
                format!(
                    "`{table}` shows {} rows, {} wanted\n  too many ({}): {}\n  missing ({}): {}",
                    got.len(),
                    wanted.len(),
                    more.len(),
                    some_of(&more),
                    less.len(),
                    some_of(&less)
                )
            })
        })
    }
}

fn said(turned: &Result<Turn>) -> String {
    match turned {
        Ok(turn) => format!("{turn:?}"),
        Err(e) => format!("fails: {}", e.what()),
    }
}

/// What the first of two sorted lists has beyond the second, and the second beyond the first.
fn differences(a: &[String], b: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut more, mut less) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) if x == y => (i, j) = (i + 1, j + 1),
            (Some(x), Some(y)) if x > y => {
                less.push(y.clone());
                j += 1;
            }
            (Some(x), _) => {
                more.push(x.clone());
                i += 1;
            }
            (None, Some(y)) => {
                less.push(y.clone());
                j += 1;
            }
            (None, None) => break,
        }
    }
    (more, less)
}

fn some_of(rows: &[String]) -> String {
    const SHOWN_MAX: usize = 4;
    let more = if rows.len() > SHOWN_MAX { ", .." } else { "" };
    format!("{}{more}", rows[..rows.len().min(SHOWN_MAX)].join(" , "))
}

fn plan(sql: &str, tables: &SimTables, now: i64) -> Result<Dataflow> {
    let statements = millstream_plan::parse::script(sql, "sim.sql")?;
    let mut catalog = Catalog::default();
    for statement in &statements {
        let job = match &statement.kind {
            StatementKind::Insert(insert) => Job::Inserts(std::slice::from_ref(insert)),
            StatementKind::StatementSet(inserts) => Job::Inserts(inserts),
            StatementKind::Query(query) => Job::Query { query, span: statement.span },
            _ => {
                catalog.apply(statement, "sim.sql")?;
                continue;
            }
        };
        return Ok(plan_job(&catalog, job, "sim.sql", tables, now)?.dataflow);
    }
    Err(Error::internal("a workload without a query"))
}

/// What the tables hold after a run that nothing disturbs: one worker, no checkpoints, everything in turn.
fn undisturbed(
    seed: u64,
    workload: &Arc<Workload>,
    dataflow: &Dataflow,
) -> Result<BTreeMap<String, Vec<String>>, String> {
    let world = World::new(seed);
    let tables = SimTables { world: world.clone(), run: Run::new(0), workload: workload.clone() };
    let config = JobConfig { parallelism: 1, clock: world.clock.clone(), ..JobConfig::default() };
    let said = |e: Error| format!("undisturbed: {e}");
    let turns = Turns { choose: Rc::new(|_| 0), messages_max: 16 };
    let mut job = Stepped::start(dataflow, &tables, config, turns).map_err(said)?;
    for _ in 0..STEPS_MAX {
        if job.is_over() {
            break;
        }
        job.turn(0).map_err(said)?;
    }
    if !job.is_over() {
        return Err(format!("undisturbed: it does not come to its end within {STEPS_MAX} steps"));
    }
    job.finish().map_err(said)?;
    let core = world.core();
    // A table that got nothing is compared too.
    let names = workload.kinds.keys();
    let rows = names.map(|name| {
        let rows = core.tables.get(name).map(Table::visible).unwrap_or_default();
        let mut rows = workload.settled(name, rows);
        rows.sort();
        (name.clone(), rows)
    });
    Ok(rows.collect())
}
