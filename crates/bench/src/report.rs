//! Runs loop and engine in turns, takes medians, and tells of them: a table for people, JSON for programs.

use crate::data::read;
use crate::engine::{EngineRunner, RunResult, SourceKind};
use crate::loops::out::Out;
use crate::measure::{median, timed};
use crate::queries::Bench;
use millstream_core::{Error, Result};
use serde::Serialize;

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub name: String,
    /// `memory` or `generator`.
    pub source: &'static str,
    pub parallelism: usize,
    /// Bids, or events of all kinds, read by the query.
    pub events: u64,
    /// Rows of the result in the end.
    pub rows_out: u64,
    /// Median seconds of one run of the engine; absent, as all of the engine's figures, where only the loop ran.
    pub wall_s: Option<f64>,
    pub cpu_us_per_event: Option<f64>,
    /// CPU of the loop, on one thread; behind the generator with the generator's own work.
    pub loop_ns_per_event: f64,
    /// CPU of the engine by CPU of the loop.
    pub ratio: Option<f64>,
    pub peak_mb: Option<f64>,
}

/// One run of a query's loop.
pub fn run_loop(bench: &Bench, source: &SourceKind, check: bool) -> Result<Out> {
    let mut out = Out::new(check);
    match source {
        SourceKind::Memory(batches) => (bench.loop_fn)(&mut batches.iter().cloned(), &mut out),
        SourceKind::Generator { events, rate } => {
            let mut failed = None;
            let batches = read(&bench.reads.spec(*events, *rate))?;
            let mut batches = batches.map_while(|b| b.map_err(|e| failed = Some(e)).ok());
            (bench.loop_fn)(&mut batches, &mut out);
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }
    Ok(out)
}

/// Runs one query: once to compare the rows of loop and engine, then `reps` times each, in turns, so that what
/// disturbs the machine disturbs both.
pub fn measure(
    bench: &Bench,
    source: &SourceKind,
    events: usize,
    parallelism: usize,
    reps: usize,
    engine: Option<&dyn EngineRunner>,
) -> Result<Line> {
    let script = bench.script(source);
    let expected = run_loop(bench, source, true)?;
    if let Some(engine) = engine {
        let got = engine.run(&script, source.clone(), parallelism, true)?;
        compare(bench, events, &expected, &got)?;
    }
    let mut loops = Vec::new();
    let mut runs: Vec<RunResult> = Vec::new();
    for _ in 0..reps {
        let (out, _, cpu) = timed(|| run_loop(bench, source, false));
        out?;
        loops.push(cpu);
        if let Some(engine) = engine {
            runs.push(engine.run(&script, source.clone(), parallelism, false)?);
        }
    }
    let of_runs = |f: fn(&RunResult) -> f64| (!runs.is_empty()).then(|| median(runs.iter().map(f).collect()));
    let (loop_cpu, cpu) = (median(loops), of_runs(|r| r.cpu_s));
    Ok(Line {
        name: bench.name.into(),
        source: source.name(),
        parallelism,
        events: events as u64,
        rows_out: expected.rows,
        wall_s: of_runs(|r| r.wall_s),
        cpu_us_per_event: cpu.map(|cpu| cpu * 1e6 / events as f64),
        loop_ns_per_event: loop_cpu * 1e9 / events as f64,
        ratio: cpu.map(|cpu| cpu / loop_cpu),
        peak_mb: of_runs(|r| r.peak_mb),
    })
}

/// Speed with another answer is worth nothing.
fn compare(bench: &Bench, events: usize, expected: &Out, got: &RunResult) -> Result<()> {
    let name = bench.name;
    if got.events != events as u64 {
        return Err(Error::internal(format!("{name}: the engine read {} of {events} events", got.events)));
    }
    let same = got.rows_out == expected.rows && got.checksum == expected.checksum;
    if bench.repeatable && !same {
        return Err(Error::internal(format!(
            "{name}: the loop gave {} rows (checksum {:016x}), the engine {} ({:016x})",
            expected.rows, expected.checksum, got.rows_out, got.checksum
        )));
    }
    Ok(())
}

pub const HEAD: &str =
    "query        source     p      events    rows out   loop ns/ev  engine us/ev   ratio     Mev/s   peak MB";

/// A line of the table under [`HEAD`]; `-` where the engine did not run.
pub fn row(l: &Line) -> String {
    let or_dash = |v: Option<f64>, digits: usize| v.map_or("-".to_string(), |v| format!("{v:.digits$}"));
    let rate = l.wall_s.map(|s| l.events as f64 / s / 1e6);
    format!(
        "{:<12} {:<9} {:>2} {:>11} {:>11} {:>12.2} {:>13} {:>7} {:>9} {:>9}",
        l.name,
        l.source,
        l.parallelism,
        l.events,
        l.rows_out,
        l.loop_ns_per_event,
        or_dash(l.cpu_us_per_event, 4),
        or_dash(l.ratio, 2),
        or_dash(rate, 2),
        or_dash(l.peak_mb, 0),
    )
}
