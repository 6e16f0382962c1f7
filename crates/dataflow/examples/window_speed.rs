//! CPU time of window aggregations over Nexmark-like bids, in nanoseconds for each row. Not a test: it prints.
//!
//! `cargo run -p millstream-dataflow --example window_speed [rows [part of the names [track | save]]]`, with
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3`. `track`: as in a job that takes checkpoints; `save`: and takes one each second.
#![expect(clippy::disallowed_macros, reason = "a program that measures prints what it measured")]

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_core::{Batch, Result, TimeDomain, Watermark};
use millstream_dataflow::graph::{AggregateCall, AggregateFunction, Window, WindowAggregate, WindowTime};
use millstream_dataflow::operator::{Event, LateRows, Output};
use millstream_dataflow::window;
use millstream_state::table::Saver;
use std::sync::Arc;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: i64) -> i64 {
        ((u128::from(self.next()) * n as u128) >> 64) as i64
    }
}

fn schema() -> SchemaRef {
    let mut fields = vec![Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false)];
    fields.extend(["auction", "bidder", "price"].map(|n| Field::new(n, DataType::Int64, true)));
    fields.extend(["low", "middle", "high"].map(|n| Field::new(n, DataType::Boolean, true)));
    fields.extend(["few", "many"].map(|n| Field::new(n, DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

const ROWS: usize = 8_192;

/// Bids of the official proportions at 100,000 events a second, 46 bids in 50 events.
fn batches(rows: usize) -> Vec<RecordBatch> {
    let mut random = Random(7);
    let mut made = Vec::new();
    let mut n = 0i64;
    while made.len() * ROWS < rows {
        let mut columns: [Vec<i64>; 6] = Default::default();
        for _ in 0..ROWS {
            let epoch = n / 46;
            let (last_auction, people) = (epoch * 3 + 2, epoch + 1);
            let active = people.min(1000);
            let hot = random.next();
            let auction = match hot & 1 {
                1 => last_auction / 100 * 100 + 1000,
                _ => (last_auction - 100).max(0) + random.below(111) + 1000,
            };
            let bidder = match hot >> 1 & 3 {
                0 => people - active + random.below(active + 10) + 1000,
                _ => epoch / 100 * 100 + 1001,
            };
            let price = (100.0 * 10f64.powf(random.below(1 << 20) as f64 / f64::from(1 << 20) * 6.0)) as i64;
            let ts = 1_700_000_000_000 + n * 50 / 46 / 100;
            for (column, value) in
                columns.iter_mut().zip([ts, auction, bidder, price, random.below(1_000), random.below(100_000)])
            {
                column.push(value);
            }
            n += 1;
        }
        let [ts, auction, bidder, price, few, many] = columns;
        let flag =
            |f: fn(i64) -> bool| Arc::new(price.iter().map(|p| Some(f(*p))).collect::<BooleanArray>()) as ArrayRef;
        let flags = [flag(|p| p < 10_000), flag(|p| (10_000..1_000_000).contains(&p)), flag(|p| p >= 1_000_000)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(TimestampMillisecondArray::from(ts))];
        arrays.extend([auction, bidder, price].map(|c| Arc::new(Int64Array::from(c)) as ArrayRef));
        arrays.extend(flags);
        arrays.extend([few, many].map(|c| Arc::new(Int64Array::from(c)) as ArrayRef));
        made.push(RecordBatch::try_new(schema(), arrays).expect("as declared"));
    }
    made
}

#[derive(Default)]
struct Counted(u64);

impl Output for Counted {
    fn emit(&mut self, _: usize, batch: Batch) -> Result<()> {
        self.0 += batch.len() as u64;
        Ok(())
    }

    fn advance(&mut self, _: TimeDomain, _: Watermark) -> Result<()> {
        Ok(())
    }

    fn set_aside(&mut self, _: LateRows) -> Result<()> {
        Ok(())
    }
}

/// CPU time of this thread, in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a measuring program reads its clock, and this one is a file of Linux")]
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|t| t.parse().ok()).unwrap_or(0)
}

fn call(function: AggregateFunction, arg: Option<usize>, filter: Option<usize>) -> AggregateCall {
    let result = Field::new("r", DataType::Int64, true);
    AggregateCall { function, args: arg.into_iter().collect(), distinct: false, filter, result }
}

fn distinct(arg: usize, filter: Option<usize>) -> AggregateCall {
    AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some(arg), filter) }
}

fn main() -> Result<()> {
    use AggregateFunction::*;
    let rows = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(4_000_000);
    let batches = batches(rows);
    let count = || vec![call(Count, None, None)];
    let counts = [None, Some(4), Some(5), Some(6)].map(|f| call(Count, None, f));
    let mut q17 = counts.to_vec();
    q17.extend([Min, Max, Avg, Sum].map(|f| call(f, Some(3), None)));
    let mut q15 = counts.to_vec();
    for arg in [2, 1] {
        q15.extend([None, Some(4), Some(5), Some(6)].map(|f| distinct(arg, f)));
    }
    let second = 1_000;
    let tumble = |size| Window::Tumble { size, offset: 0 };
    let hop = |size, slide| Window::Hop { size, slide, offset: 0 };
    let day = 86_400 * second;
    let session = Window::Session { gap: 10 * second, partition: vec![2] };
    let cases: Vec<(&str, Window, Vec<usize>, Vec<AggregateCall>)> = vec![
        ("count, no key, tumble 10 s", tumble(10 * second), vec![], count()),
        ("count by 1k keys, tumble 10 s", tumble(10 * second), vec![7], count()),
        ("count by 100k keys, tumble 10 s", tumble(10 * second), vec![8], count()),
        ("q12 count by bidder, tumble 10 s", tumble(10 * second), vec![2], count()),
        ("q5 count by auction, hop 10 s / 2 s", hop(10 * second, 2 * second), vec![1], count()),
        ("max by auction, hop 10 s / 2 s", hop(10 * second, 2 * second), vec![1], vec![call(Max, Some(3), None)]),
        ("count by auction, hop 30 min / 1 s", hop(1800 * second, second), vec![1], count()),
        ("count by bidder and auction, 10 s", tumble(10 * second), vec![2, 1], count()),
        ("q11 session 10 s count by bidder", session, vec![2], count()),
        ("q15 counts and distincts, 1 day", tumble(day), vec![], q15),
        ("q17 eight aggregates by auction, 1 day", tumble(day), vec![1], q17),
    ];
    let only = std::env::args().nth(2).unwrap_or_default();
    let checkpoints = std::env::args().nth(3).unwrap_or_default();
    for (name, window, keys, calls) in cases.into_iter().filter(|c| c.0.contains(&only)) {
        let node = WindowAggregate {
            window,
            time: WindowTime { column: 0, domain: TimeDomain::Event, zone: None },
            keys,
            calls,
            lateness: 0,
            order: None,
        };
        let mut runs = Vec::new();
        let (mut out, mut peak) = (Counted::default(), 0);
        for _ in 0..3 {
            out = Counted::default();
            let mut operator = window::build(&node, &schema(), false)?;
            if !checkpoints.is_empty() {
                operator.track_changes();
            }
            let from = cpu_nanos();
            let mut saved = None;
            for rows in &batches {
                let times = rows.column(0).as_any().downcast_ref::<TimestampMillisecondArray>();
                let last = times.map_or(0, |t| t.value(t.len() - 1));
                operator.step(Event::Batch { input: 0, batch: Batch::from(rows.clone()) }, &mut out)?;
                let watermark = Watermark(last - 4 * second);
                operator.step(Event::Watermark(TimeDomain::Event, watermark), &mut out)?;
                peak = peak.max(operator.state_bytes());
                if checkpoints == "save" && saved != Some(last / second) {
                    operator.save(&mut Saver::new(saved.is_none()))?;
                    saved = Some(last / second);
                }
            }
            operator.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), &mut out)?;
            runs.push((cpu_nanos() - from) as f64 / (batches.len() * ROWS) as f64);
        }
        runs.sort_by(f64::total_cmp);
        println!(
            "{name:<42} {:>7.2} ns/row  (least {:.2})  rows out {}, state {} KiB",
            runs[1],
            runs[0],
            out.0,
            peak >> 10
        );
    }
    Ok(())
}
