//! `millstream-sim`: plays seeds and says what they found.

use clap::Parser;
use millstream_sim::{Outcome, Stats, play};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Plays the engine in a simulated world that fails, loses answers and crashes, and compares what its tables hold in the
/// end with an undisturbed run. Each seed is a world of its own and is played alike each time.
#[derive(Parser)]
#[command(name = "millstream-sim", version)]
struct Args {
    /// How many seeds to play
    #[arg(long, default_value_t = 500, value_name = "N")]
    seeds: u64,
    /// The first seed; by default a new one each time
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Threads that play seeds; by default one for each core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Go on after a seed that failed, and name each
    #[arg(long)]
    keep_going: bool,
    /// Lines of the trace to show of a seed that failed
    #[arg(long, default_value_t = 40, value_name = "N")]
    lines: usize,
    /// Build faults into the engine, one after the other, and see how many seeds it takes to find each
    #[cfg(feature = "sabotage")]
    #[arg(long)]
    sabotage: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get())).max(1);
    let first = args.seed.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |s| s.as_millis() as u64 * 1_000 % 1_000_000_000_000)
    });
    // A panic of the engine is a finding like any other, and is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    #[cfg(feature = "sabotage")]
    if args.sabotage {
        return sabotage(first, args.seeds, threads);
    }
    println!("seeds {first} to {} on {threads} threads", first + args.seeds.saturating_sub(1));
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (stats, worst) = (Mutex::new((0u64, Stats::default())), Mutex::new(None::<Outcome>));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    if at >= args.seeds || failed.load(Relaxed) {
                        return;
                    }
                    let outcome = play(first + at);
                    let mut all = stats.lock().unwrap_or_else(PoisonError::into_inner);
                    all.0 += 1;
                    all.1.add(&outcome.stats);
                    drop(all);
                    if outcome.wrong.is_some() {
                        failed.store(!args.keep_going, Relaxed);
                        if args.keep_going {
                            let wrong = outcome.wrong.as_deref().unwrap_or_default();
                            println!("seed {}: {}", outcome.seed, wrong.lines().next().unwrap_or_default());
                        }
                        let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
                        if worst.as_ref().is_none_or(|w| outcome.seed < w.seed) {
                            *worst = Some(outcome);
                        }
                    }
                }
            });
        }
    });
    let (played, stats) = stats.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = began.elapsed().as_secs_f64();
    println!("{played} seeds in {seconds:.1} s, {:.1} a second", played as f64 / seconds);
    println!(
        "  {} runs, {} crashes, {} zombies, {} stops, {} savepoints gone back to, {} calls that failed",
        stats.runs, stats.crashes, stats.zombies, stats.stops, stats.rewinds, stats.failed_calls
    );
    println!(
        "  {} checkpoints, {} given up, {} files of rows that were overtaken; {} rows compared, {} of them late, {} bad",
        stats.checkpoints, stats.given_up, stats.overtaken, stats.rows, stats.late_rows, stats.bad_rows
    );
    match worst.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => ExitCode::SUCCESS,
        Some(outcome) => {
            tell(&outcome, args.lines);
            ExitCode::FAILURE
        }
    }
}

fn tell(outcome: &Outcome, lines: usize) {
    let skipped = outcome.tail.len().saturating_sub(lines);
    println!("\nseed {} failed after {} lines of trace; the last ones:", outcome.seed, outcome.lines);
    outcome.tail[skipped..].iter().for_each(|line| println!("  {line}"));
    println!("\n{}\n", outcome.sql);
    println!("error: {}", outcome.wrong.as_deref().unwrap_or("nothing"));
    println!("  help: ./dev sim --seed {} --seeds 1 plays it again", outcome.seed);
}

#[cfg(feature = "sabotage")]
fn sabotage(first: u64, seeds: u64, threads: usize) -> ExitCode {
    use millstream_runtime::sabotage::Bug;
    use millstream_sim::sabotage::look_for;
    let began = Instant::now();
    let (next, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    println!("{:<32} {:>6}  found as", "fault", "seeds");
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Relaxed) as usize) {
                    let found = look_for(*bug, first, seeds);
                    let wrong = found.wrong.lines().next().unwrap_or_default();
                    let wrong: String = wrong.chars().take(110).collect();
                    let count = found.seeds.map_or_else(|| "none".to_owned(), |n| n.to_string());
                    println!("{:<32} {count:>6}  {wrong}", format!("{:?}", found.bug));
                    lost.fetch_add(u64::from(found.seeds.is_none()), Relaxed);
                }
            });
        }
    });
    println!("{} faults, {} not found, {:.1} s", Bug::ALL.len(), lost.load(Relaxed), began.elapsed().as_secs_f64());
    if lost.load(Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
