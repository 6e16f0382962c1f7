//! `millstream-bench`: see the library for what is measured and how.

use clap::Parser;
use millstream_bench::data::{Bids, events_in_memory, events_spec, generator_spec, read};
use millstream_bench::engine::{EngineRunner, SourceKind};
use millstream_bench::formats;
use millstream_bench::measure::{median, timed};
use millstream_bench::queries::{BENCHES, Bench, STATEFUL};
use millstream_bench::report::{HEAD, Line, measure, row};
use millstream_bench::runner::Engine;
use millstream_bench::state::Work;
use millstream_core::error::did_you_mean;
use millstream_core::{ByteSize, Error, Result};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the engine against hand-written loops over the same rows.
#[derive(Parser)]
#[command(name = "millstream-bench", version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Bids for each query or file; events of all kinds where the whole stream is read.
    #[arg(long, global = true, default_value_t = 4_000_000)]
    events: usize,
    /// Only these queries, by name.
    #[arg(long, global = true, value_delimiter = ',')]
    queries: Vec<String>,
    /// Worker threads of the engine, one run for each number.
    #[arg(long, global = true, value_delimiter = ',', default_value = "1,2")]
    parallelism: Vec<usize>,
    /// Runs of loop and engine, in turns; medians are reported.
    #[arg(long, global = true, default_value_t = 5)]
    reps: usize,
    /// Where events come from: batches in memory, or the generator at work.
    #[arg(long, global = true, value_delimiter = ',', default_value = "memory,generator")]
    source: Vec<Source>,
    /// Writes the report to this file too, as a list of objects.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Measures the queries that keep state, as they are in bench/nexmark, over the one stream of persons, auctions and bids.
    Stateful,
    /// Measures how fast CSV, JSON and Parquet are decoded, in MB/s.
    Formats,
    /// Measures how long a row takes from arrival to emission at 50,000 rows a second.
    Latency {
        /// Rows a second.
        #[arg(long, default_value_t = 50_000)]
        rate: u64,
        /// How long to measure; one more second warms up.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Watches memory over a long run: counts by auction in windows of 10 s every 2 s, from the generator.
    Flat,
    /// Measures updates of a large state: in memory, and with a budget of a tenth of what that takes.
    State {
        /// Keys that the state holds, one run for each number.
        #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
        keys: Vec<usize>,
        /// What is done with the rows.
        #[arg(long, value_delimiter = ',', default_value = "window,over,sessions")]
        work: Vec<Work>,
        /// Measures with this budget alone, for a state that is larger than the memory. Default: in memory, and with a tenth of
        /// what that takes.
        #[arg(long, value_name = "SIZE")]
        budget: Option<ByteSize>,
        /// Directory for what does not fit. Default: the system's for temporary files.
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Source {
    Memory,
    Generator,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let stateful = matches!(args.command, Some(Command::Stateful));
    let benches = chosen(if stateful { STATEFUL } else { BENCHES }, &args.queries)?;
    if args.events == 0 || args.reps == 0 || args.parallelism.contains(&0) {
        return Err(Error::usage("--events, --reps and --parallelism count from 1"));
    }
    if let Some(Command::Formats) = args.command {
        println!("{} bids, median of {} runs, CPU time of one thread\n\n{}", args.events, args.reps, formats::HEAD);
        let lines = formats::measure(args.events, args.reps, |line| println!("{}", formats::row(line)))?;
        return write_json(args, &lines);
    }
    if let Some(Command::State { keys, work, budget, scratch }) = &args.command {
        println!(
            "16-byte keys, COUNT, SUM and MAX, one thread; rates by CPU time\n\n{}",
            millstream_bench::state::HEAD
        );
        let mut lines = Vec::new();
        for keys in keys {
            let tell = |line: &_| println!("{}", millstream_bench::state::row(line));
            lines.extend(millstream_bench::state::measure(*keys, work, *budget, scratch.as_ref(), tell)?);
        }
        return write_json(args, &lines);
    }
    match args.command {
        Some(Command::Latency { rate, seconds }) => return latency(args, rate, seconds),
        Some(Command::Flat) => return flat(args),
        _ => {}
    }
    let what = if stateful { "events" } else { "bids" };
    println!("{} {what} a query, median of {} runs, CPU time; Mev/s by the wall clock", args.events, args.reps);
    let lines = if stateful { all_events(args, &benches)? } else { bids(args, &benches)? };
    write_json(args, &lines)
}

/// The queries over bids.
fn bids(args: &Args, benches: &[&Bench]) -> Result<Vec<Line>> {
    generator(args)?;
    println!("\n{HEAD}");
    let mut bids = match args.source.contains(&Source::Memory) {
        true => Some(Bids::make(args.events, benches[0].rate)?),
        false => None,
    };
    let mut lines = Vec::new();
    for bench in benches {
        for source in &args.source {
            let source = match (source, &mut bids) {
                (Source::Memory, Some(bids)) => SourceKind::Memory(bids.at_rate(bench.rate)?),
                _ => SourceKind::Generator { events: args.events, rate: bench.rate },
            };
            measure_all(args, bench, &source, &mut lines)?;
        }
    }
    Ok(lines)
}

/// The queries over all events; they have one rate.
fn all_events(args: &Args, benches: &[&Bench]) -> Result<Vec<Line>> {
    println!("\n{HEAD}");
    let rate = benches[0].rate;
    let memory = match args.source.contains(&Source::Memory) {
        true => Some(events_in_memory(args.events, rate)?),
        false => None,
    };
    let mut lines = Vec::new();
    for bench in benches {
        for source in &args.source {
            let source = match (source, &memory) {
                (Source::Memory, Some(batches)) => SourceKind::Memory(batches.clone()),
                _ => SourceKind::Generator { events: args.events, rate },
            };
            measure_all(args, bench, &source, &mut lines)?;
        }
    }
    Ok(lines)
}

fn measure_all(args: &Args, bench: &Bench, source: &SourceKind, lines: &mut Vec<Line>) -> Result<()> {
    for &parallelism in &args.parallelism {
        let engine: &dyn EngineRunner = &Engine;
        let line = measure(bench, source, args.events, parallelism, args.reps, Some(engine))?;
        println!("{}", row(&line));
        lines.push(line);
    }
    Ok(())
}

fn write_json(args: &Args, lines: &[impl Serialize]) -> Result<()> {
    let Some(path) = &args.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(lines).map_err(|e| Error::internal(e.to_string()))?;
    std::fs::write(path, text + "\n").map_err(|e| {
        Error::io(format!("cannot write {}: {e}", path.display())).remedy("give --json a file that can be written")
    })
}

fn latency(args: &Args, rate: u64, seconds: u64) -> Result<()> {
    println!(
        "{rate} rows/s for {seconds} s, arrival to emission, ms\n\nparallelism      p50      p99    p99.9      max"
    );
    for &parallelism in &args.parallelism {
        let l = millstream_bench::latency::measure(rate, seconds + 1, parallelism)?;
        println!("{parallelism:>11} {:>8.2} {:>8.2} {:>8.2} {:>8.2}", l.p50_ms, l.p99_ms, l.p999_ms, l.max_ms);
    }
    Ok(())
}

fn flat(args: &Args) -> Result<()> {
    let bench = BENCHES.iter().find(|b| b.name == "q5count").ok_or_else(|| Error::internal("no query q5count"))?;
    let source = SourceKind::Generator { events: args.events, rate: bench.rate };
    for &parallelism in &args.parallelism {
        println!("parallelism {parallelism}, {} bids\n      events  resident MB  state MB", args.events);
        let script = bench.script(&source);
        for r in millstream_bench::flat::watch(&script, &source, args.events as u64, parallelism, 10)? {
            println!("{:>12} {:>12.1} {:>9.1}", r.events, r.resident_mb, r.state_mb);
        }
    }
    Ok(())
}

fn chosen(all: &'static [Bench], names: &[String]) -> Result<Vec<&'static Bench>> {
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let find = |name: &String| {
        all.iter().find(|b| b.name == name).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|b| b.name).collect();
            let error = Error::usage(format!("no query `{name}`"));
            match did_you_mean(name, known.iter().copied()) {
                Some(close) => error.remedy(format!("did you mean `{close}`?")),
                None => error.remedy(format!("there are {}", known.join(", "))),
            }
        })
    };
    names.iter().map(find).collect()
}

/// How fast the generator is by itself.
fn generator(args: &Args) -> Result<()> {
    let numbers: Vec<usize> = (0..3).chain([5]).collect();
    for (name, spec) in [
        ("events of all kinds, all columns", events_spec(args.events, 100_000, None)),
        ("bids, all columns", generator_spec(args.events, 100_000, None)),
        ("bids, number columns", generator_spec(args.events, 100_000, Some(numbers))),
    ] {
        let mut seconds = Vec::new();
        for _ in 0..args.reps {
            let (result, _, cpu) = timed(|| -> Result<()> {
                for batch in read(&spec)? {
                    std::hint::black_box(batch?);
                }
                Ok(())
            });
            result?;
            seconds.push(cpu);
        }
        let ns = median(seconds) * 1e9 / args.events as f64;
        println!("generator, {name}: {:.1} M/s, {ns:.1} ns each, one thread", 1e3 / ns);
    }
    Ok(())
}
