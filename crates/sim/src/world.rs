//! What lies outside of the job and outlives it: time, a store, tables. And what goes wrong there.
//!
//! ```text
//!  a call of a run ─▶ dead already? ─▶ crash, failure, delay by the dice ─▶ done ─▶ the answer, or its loss
//! ```
//!
//! Every call of the engine to the outside comes through [`World::act`], which decides what becomes of it. Within the
//! contracts of `core`: a call may fail without having done anything, or do its work and lose the answer; what was
//! acknowledged stays. A run that has crashed gets nothing done any more.
//!
//! Always true: all chance comes from the seed, and each decision is in the trace.

use crate::dice::Dice;
use crate::trace::Trace;
use millstream_core::{Clock, Error, Millis, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// The time at which each world begins.
const BEGINNING: Millis = 1_750_000_000_000;

/// A clock that moves when it is told to.
#[derive(Debug)]
pub struct SimClock(AtomicI64);

impl SimClock {
    pub fn advance(&self, by: Millis) {
        self.0.fetch_add(by, Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Millis {
        self.0.load(Relaxed)
    }

    fn monotonic_nanos(&self) -> u64 {
        (self.now() - BEGINNING).max(0) as u64 * 1_000_000
    }
}

/// How often things go wrong, of 10,000 calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub fails: u64,
    pub answer_lost: u64,
    pub crashes: u64,
    pub delays: u64,
    pub disk_fills: u64,
}

/// One start of the job, as the world sees it.
#[derive(Debug)]
pub struct Run {
    pub number: u64,
    /// The process is gone: nothing of it gets through any more.
    dead: AtomicBool,
    /// Something went wrong in it that it could not help.
    hurt: AtomicBool,
    /// How far each partition has been read, by source and partition.
    read: Mutex<BTreeMap<(usize, usize), usize>>,
}

impl Run {
    pub fn new(number: u64) -> Arc<Run> {
        Arc::new(Run { number, dead: AtomicBool::new(false), hurt: AtomicBool::new(false), read: Mutex::default() })
    }

    /// How far each partition has been read; those are left out that had ended before this run.
    pub fn read(&self) -> MutexGuard<'_, BTreeMap<(usize, usize), usize>> {
        self.read.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn has_read(&self, partition: (usize, usize), next: usize) {
        self.read().insert(partition, next);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    pub fn die(&self) {
        self.dead.store(true, Relaxed);
    }

    pub fn is_hurt(&self) -> bool {
        self.hurt.load(Relaxed) || self.is_dead()
    }

    pub fn hurt(&self) {
        self.hurt.store(true, Relaxed);
    }
}

/// Rows of a file-like table that are not, or no longer, in a writer's hands.
#[derive(Debug, Clone)]
pub struct File {
    pub rows: Vec<String>,
    /// It survives the crash of its run.
    pub safe: bool,
    pub run: u64,
}

/// A table that rows are written into.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What readers see of a table with transactions, and of any table that was written without checkpoints.
    pub rows: Vec<String>,
    /// The newest epoch of which it has the rows, written in one transaction with them.
    pub epoch: u64,
    /// Files that readers do not see.
    pub staged: BTreeMap<String, File>,
    /// Files that they see.
    pub shown: BTreeMap<String, File>,
}

impl Table {
    /// All that a reader sees, sorted.
    pub fn visible(&self) -> Vec<String> {
        let files = self.shown.values().flat_map(|f| f.rows.iter());
        let mut rows: Vec<String> = self.rows.iter().chain(files).cloned().collect();
        rows.sort();
        rows
    }
}

/// The state of the world.
#[derive(Debug)]
pub struct Core {
    pub dice: Dice,
    pub trace: Trace,
    /// Content and when it was written.
    pub objects: BTreeMap<String, (Vec<u8>, Millis)>,
    pub tables: BTreeMap<String, Table>,
    pub faults: Faults,
    /// So many writes still find the disk full.
    disk_full: u64,
    /// Calls that failed, answers that were lost, crashes within a call.
    pub failed: u64,
    /// Files with rows that barriers had overtaken.
    pub overtaken: u64,
}

/// A world, shared by everyone in it.
#[derive(Debug)]
pub struct World {
    core: Mutex<Core>,
    pub clock: Arc<SimClock>,
    /// Calls, of whatever kind.
    calls: AtomicU64,
}

/// What a call does to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
}

enum Fate {
    Goes,
    /// Nothing is done.
    Fails(&'static str),
    /// It is done, and nobody hears of it.
    Unheard(&'static str),
}

impl World {
    pub fn new(seed: u64) -> Arc<World> {
        let core = Core {
            dice: Dice::new(seed, 2),
            trace: Trace::default(),
            objects: BTreeMap::new(),
            tables: BTreeMap::new(),
            faults: Faults::default(),
            disk_full: 0,
            failed: 0,
            overtaken: 0,
        };
        Arc::new(World {
            core: Mutex::new(core),
            clock: Arc::new(SimClock(AtomicI64::new(BEGINNING))),
            calls: AtomicU64::new(0),
        })
    }

    pub fn core(&self) -> MutexGuard<'_, Core> {
        // A panic of the engine is caught and reported; the world is whole after each call.
        self.core.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.core().trace.note(what);
    }

    /// Does something outside for a run, or lets it fail.
    pub fn act<T>(
        &self,
        run: &Run,
        kind: Kind,
        what: fmt::Arguments<'_>,
        act: impl FnOnce(&mut Core) -> Result<T>,
    ) -> Result<T> {
        self.calls.fetch_add(1, Relaxed);
        let mut core = self.core();
        let fate = if run.is_dead() { Fate::Fails("after the crash") } else { self.fate(&mut core, run, kind) };
        match fate {
            Fate::Goes => {
                core.trace.note(format_args!("run {} {what}", run.number));
                act(&mut core)
            }
            Fate::Fails(why) => {
                core.trace.note(format_args!("run {} {what}: not done, {why}", run.number));
                Err(Error::io(format!("{what}: {why}")))
            }
            Fate::Unheard(why) => {
                core.trace.note(format_args!("run {} {what}: done, {why}", run.number));
                act(&mut core)?;
                Err(Error::io(format!("{what}: {why}")))
            }
        }
    }

    fn fate(&self, core: &mut Core, run: &Run, kind: Kind) -> Fate {
        let faults = core.faults;
        if core.dice.chance(faults.delays) {
            let by = core.dice.one(&[1, 5, 40, 300]);
            self.clock.advance(by);
        }
        if core.dice.chance(faults.crashes) {
            run.die();
            core.failed += 1;
            return match core.dice.chance(5_000) {
                true => Fate::Fails("crash"),
                false => Fate::Unheard("crash"),
            };
        }
        if kind == Kind::Write && core.disk_full == 0 && core.dice.chance(faults.disk_fills) {
            core.disk_full = core.dice.between(2, 30);
        }
        if kind == Kind::Write && core.disk_full > 0 {
            core.disk_full -= 1;
            core.failed += 1;
            run.hurt();
            return Fate::Fails("the disk is full");
        }
        if core.dice.chance(faults.fails) {
            core.failed += 1;
            run.hurt();
            return Fate::Fails("it did not answer");
        }
        if core.dice.chance(faults.answer_lost) {
            core.failed += 1;
            run.hurt();
            return Fate::Unheard("the answer was lost");
        }
        Fate::Goes
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        let mut core = self.core();
        core.faults = Faults::default();
        core.disk_full = 0;
    }

    /// What a crash takes with it: files that were not safe yet, staged or shown.
    pub fn crash(&self, run: &Run) {
        run.die();
        let mut core = self.core();
        let Core { dice, tables, trace, .. } = &mut *core;
        for (name, table) in tables.iter_mut() {
            let files = table.staged.iter_mut().chain(table.shown.iter_mut());
            for (file, content) in files.filter(|(_, f)| f.run == run.number && !f.safe) {
                let keep = dice.below(content.rows.len() as u64 + 1) as usize;
                trace.note(format_args!("{name}/{file}: {keep} of {} rows survive the crash", content.rows.len()));
                content.rows.truncate(keep);
            }
        }
    }
}
