//! Whether memory stays flat: a long run of bounded windows, watched from outside.

use crate::engine::{BenchConnectors, SourceKind};
use millstream::{Mode, Program, RunOptions, Runner, Step, Tables};
use millstream_core::Result;
use std::sync::Arc;
use std::time::Duration;

/// Resident memory in MB (10^6 bytes) and state in MB, at a share of the input.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub events: u64,
    pub resident_mb: f64,
    pub state_mb: f64,
}

/// Runs `script` over the generator and reads memory about `readings` times on the way.
///
/// # Errors
/// Whatever the engine says.
pub fn watch(
    script: &str,
    source: &SourceKind,
    events: u64,
    parallelism: usize,
    readings: u64,
) -> Result<Vec<Reading>> {
    let options = RunOptions {
        mode: Some(Mode::Streaming),
        parallelism: Some(parallelism),
        tables: Tables::over(Arc::new(BenchConnectors::new(source, false))),
        ..RunOptions::default()
    };
    let mut runner = Runner::new(Program::parse(script, "flat.sql")?, options);
    let mut seen = Vec::new();
    while let Some(step) = runner.step() {
        let Step::Running(running) = step? else { continue };
        let mut next = events / readings;
        while !running.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
            let now = running.snapshot();
            if now.rows_in >= next {
                let state_mb = now.state_bytes as f64 / 1e6;
                seen.push(Reading { events: now.rows_in, resident_mb: resident_mb(), state_mb });
                next = now.rows_in + events / readings;
            }
        }
        running.wait()?;
    }
    Ok(seen)
}

/// Resident memory of this process now; NaN where the system does not say.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().trim_end_matches("kB").trim().parse().ok());
    kib.map_or(f64::NAN, |kib: f64| kib * 1024.0 / 1e6)
}
