//! How fast state is updated: in memory, and with a budget of a tenth of what it takes there.
//!
//! ```text
//!  batches: 16-byte keys, a BIGINT ──▶ one tumbling window: COUNT, SUM, MAX by key ──▶ results, counted
//!                                        └─ after each batch as a job does it: report, shed ──▶ scratch files
//! ```
//!
//! Every key comes once, then keys at random: each as often as any other, or by Zipf's law (the r-th in proportion to
//! 1 / r). The operator is stepped without a job around it, on one thread; making the batches is not counted. The scratch
//! files lie in the page cache as far as it goes: a disk that is slower than the updates is not shown.

use crate::measure::timed;
use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use millstream_core::{Batch, ByteSize, Result, TimeDomain, Watermark};
use millstream_dataflow::graph::{
    AggregateCall, AggregateFunction, Frame, Over, OverCall, OverFunction, Window, WindowAggregate, WindowTime,
};
use millstream_dataflow::operator::{Event, LateRows, Operator, Output};
use millstream_dataflow::{over, window};
use millstream_runtime::Scratch;
use millstream_state::tier::Budget;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

const BATCH_ROWS: usize = 8_192;

/// Updates at random for each key of the state.
const UPDATES_PER_KEY: usize = 4;

/// How keys are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Access {
    Uniform,
    Zipf,
}

/// What is done with the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum Work {
    Window,
    Over,
    Sessions,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub work: Work,
    pub keys: usize,
    pub access: Access,
    /// Of the memory; `None` for as much as it takes.
    pub budget_bytes: Option<usize>,
    /// Updates in a second of CPU, from the first row to the last.
    pub updates_per_s: f64,
    /// The same with the firing of the window.
    pub with_firing_per_s: f64,
    /// And by the wall clock.
    pub wall_per_s: f64,
    /// Most that the operator has held between two batches.
    pub state_bytes: usize,
    pub scratch_written: u64,
}

pub const HEAD: &str =
    "work          keys  access    budget MB  updates k/s  with firing k/s  wall k/s  state MB  written MB";

pub fn row(line: &Line) -> String {
    let budget = line.budget_bytes.map_or_else(|| "-".to_owned(), |b| format!("{:.1}", b as f64 / 1e6));
    format!(
        "{:<8} {:>9}  {:<8}  {budget:>9}  {:>11.0}  {:>15.0}  {:>8.0}  {:>8.1}  {:>10.1}",
        format!("{:?}", line.work).to_lowercase(),
        line.keys,
        format!("{:?}", line.access).to_lowercase(),
        line.updates_per_s / 1e3,
        line.with_firing_per_s / 1e3,
        line.wall_per_s / 1e3,
        line.state_bytes as f64 / 1e6,
        line.scratch_written as f64 / 1e6
    )
}

/// Both ways of access for each work, first in memory, then with a tenth of what that took; with `budget`, with that alone.
pub fn measure(
    keys: usize,
    works: &[Work],
    budget: Option<ByteSize>,
    scratch: Option<&PathBuf>,
    mut tell: impl FnMut(&Line),
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (work, access) in works.iter().flat_map(|w| [(*w, Access::Uniform), (*w, Access::Zipf)]) {
        if let Some(budget) = budget {
            let below = run(work, keys, access, Some(budget.0 as usize), scratch)?.0;
            tell(&below);
            lines.push(below);
            continue;
        }
        let in_memory = run(work, keys, access, None, scratch)?;
        tell(&in_memory.0);
        let below = run(work, keys, access, Some(in_memory.0.state_bytes / 10), scratch)?;
        tell(&below.0);
        assert_eq!(in_memory.1, below.1, "the results are the same");
        lines.extend([in_memory.0, below.0]);
    }
    Ok(lines)
}

/// Rows out and a sum over them.
#[derive(Default, Debug, PartialEq, Eq)]
struct Counted {
    rows: usize,
    sum: i128,
}

impl Output for Counted {
    fn emit(&mut self, _: usize, batch: Batch) -> Result<()> {
        self.rows += batch.len();
        for (at, column) in batch.rows.columns().iter().enumerate() {
            let Some(values) = column.as_primitive_opt::<Int64Type>() else { continue };
            self.sum += values.values().iter().map(|v| i128::from(*v)).sum::<i128>() * (at as i128);
        }
        Ok(())
    }

    fn advance(&mut self, _: TimeDomain, _: Watermark) -> Result<()> {
        Ok(())
    }

    fn set_aside(&mut self, late: LateRows) -> Result<()> {
        Err(millstream_core::Error::internal(late.reason))
    }
}

fn run(
    work: Work,
    keys: usize,
    access: Access,
    budget: Option<usize>,
    place: Option<&PathBuf>,
) -> Result<(Line, Counted)> {
    let mut operator = operator(work)?;
    let scratch = Scratch::new(place.cloned());
    operator.spill_to(scratch.clone());
    let share = Budget::new(ByteSize(budget.map_or(u64::MAX, |b| b as u64)), true).share("state");
    let mut source = Source { keys: keys as u64, access, next: 0, seed: 7, moves: work != Work::Window };
    let mut out = Counted::default();
    let (mut cpu, mut wall, mut most, mut updates) = (0.0, 0.0, 0, 0);
    while source.next < (keys * (1 + UPDATES_PER_KEY)) as u64 {
        let batch = source.batch()?;
        updates += batch.len();
        let watermark = Event::Watermark(TimeDomain::Event, Watermark(source.time() - 1));
        let events = std::iter::once(Event::Batch { input: 0, batch }).chain(source.moves.then_some(watermark));
        let (done, w, c) = timed(|| -> Result<usize> {
            let mut most = 0;
            for event in events {
                operator.step(event, &mut out)?;
                let too_much = share.report(operator.state_bytes());
                if too_much > 0 {
                    operator.shed(too_much)?;
                    share.settle(operator.state_bytes());
                    share.check()?;
                }
                most = most.max(operator.state_bytes());
            }
            Ok(most)
        });
        most = most.max(done?);
        wall += w;
        cpu += c;
    }
    let end = Event::Watermark(TimeDomain::Event, Watermark::MAX);
    let (done, w, c) = timed(|| operator.step(end, &mut out));
    done?;
    let line = Line {
        work,
        keys,
        access,
        budget_bytes: budget,
        updates_per_s: updates as f64 / cpu,
        with_firing_per_s: updates as f64 / (cpu + c),
        wall_per_s: updates as f64 / (wall + w),
        state_bytes: most,
        scratch_written: scratch.written(),
    };
    Ok((line, out))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("key", DataType::Binary, false),
        Field::new("n", DataType::Int64, false),
    ]))
}

fn operator(work: Work) -> Result<Box<dyn Operator>> {
    let call = |function, args: &[usize], name| AggregateCall {
        function,
        args: args.to_vec(),
        distinct: false,
        filter: None,
        result: Field::new(name, DataType::Int64, true),
    };
    let calls = vec![
        call(AggregateFunction::Count, &[], "count"),
        call(AggregateFunction::Sum, &[2], "sum"),
        call(AggregateFunction::Max, &[2], "max"),
    ];
    let window = match work {
        Work::Window => Window::Tumble { size: 1 << 40, offset: 0 },
        Work::Sessions => Window::Session { gap: 1 << 40, partition: vec![1] },
        Work::Over => {
            let results = calls.iter().map(|c| Arc::new(c.result.clone()));
            let output = Schema::new(schema().fields().iter().cloned().chain(results).collect::<Vec<_>>());
            let frame = Frame::Range { preceding: Some(1 << 40) };
            let calls = calls.into_iter().map(|call| OverCall { function: OverFunction::Aggregate(call), frame });
            let spec = Over { keys: vec![1], time: 0, domain: TimeDomain::Event, order: None, calls: calls.collect() };
            return over::build(&spec, &schema(), Arc::new(output));
        }
    };
    let time = WindowTime { column: 0, domain: TimeDomain::Event, zone: None };
    let node = WindowAggregate { window, time, keys: vec![1], calls, lateness: 0, order: None };
    window::build(&node, &schema(), false)
}

struct Source {
    keys: u64,
    access: Access,
    next: u64,
    seed: u64,
    /// Time goes on with each batch.
    moves: bool,
}

impl Source {
    /// Of the last batch.
    fn time(&self) -> i64 {
        if self.moves { self.next as i64 / BATCH_ROWS as i64 } else { 1 }
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        millstream_core::key::mix(self.seed)
    }

    fn key(&mut self) -> u64 {
        if self.next < self.keys {
            return self.next;
        }
        let random = self.random();
        match self.access {
            Access::Uniform => ((u128::from(random) * u128::from(self.keys)) >> 64) as u64,
            // Ranks by Zipf's law with exponent 1 have logarithms that are spread evenly.
            Access::Zipf => {
                let part = (random >> 11) as f64 / (1u64 << 53) as f64;
                ((self.keys as f64).powf(part) as u64 - 1).min(self.keys - 1)
            }
        }
    }

    fn batch(&mut self) -> Result<Batch> {
        let mut bytes = Vec::with_capacity(BATCH_ROWS * 16);
        let mut values = Vec::with_capacity(BATCH_ROWS);
        for _ in 0..BATCH_ROWS {
            let key = self.key();
            // Neighbours in rank are no neighbours as keys.
            bytes.extend_from_slice(&millstream_core::key::mix(key).to_be_bytes());
            bytes.extend_from_slice(&key.to_le_bytes());
            values.push((key ^ self.next) as i64 & 0xFFFF);
            self.next += 1;
        }
        let keys = BinaryArray::from_iter_values(bytes.chunks_exact(16));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMillisecondArray::from_value(self.time(), BATCH_ROWS)),
            Arc::new(keys),
            Arc::new(Int64Array::from(values)),
        ];
        Ok(Batch::from(RecordBatch::try_new(schema(), columns)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_memory_gives_the_same_results() {
        let place = tempfile::tempdir().expect("a directory");
        let works = [Work::Window, Work::Over, Work::Sessions];
        let lines = measure(50_000, &works, None, Some(&place.path().to_owned()), |line| println!("{}", row(line)))
            .expect("runs");
        assert_eq!(lines.len(), 12);
        for pair in lines.chunks(2) {
            assert_eq!((pair[0].scratch_written > 0, pair[1].scratch_written > 0), (false, true));
            assert!(pair[1].state_bytes <= pair[0].state_bytes / 10, "{pair:?}");
        }
    }
}
