//! The engine under measure: the library, as any program uses it.

use crate::engine::{BenchConnectors, EngineRunner, RunResult, SourceKind};
use crate::measure::{peak_mb, reset_peak, timed};
use millstream::{Mode, Program, RunOptions, Runner, Step, Tables};
use millstream_core::Result;
use std::sync::Arc;

/// Runs scripts through [`millstream::Runner`]. Parsing and planning are part of what is measured.
pub struct Engine;

impl EngineRunner for Engine {
    fn run(&self, script: &str, source: SourceKind, parallelism: usize, check: bool) -> Result<RunResult> {
        let connectors = BenchConnectors::new(&source, check);
        let counts = connectors.counts.clone();
        let options = RunOptions {
            mode: Some(Mode::Streaming),
            parallelism: Some(parallelism),
            tables: Tables::over(Arc::new(connectors)),
            ..RunOptions::default()
        };
        reset_peak();
        let (events, wall_s, cpu_s) = timed(|| -> Result<u64> {
            let mut runner = Runner::new(Program::parse(script, "bench.sql")?, options);
            let mut events = 0;
            while let Some(step) = runner.step() {
                if let Step::Running(running) = step? {
                    events += running.wait()?.snapshot.rows_in;
                }
            }
            Ok(events)
        });
        Ok(RunResult {
            events: events?,
            rows_out: counts.rows(),
            checksum: counts.checksum(),
            wall_s,
            cpu_s,
            peak_mb: peak_mb(),
        })
    }
}
